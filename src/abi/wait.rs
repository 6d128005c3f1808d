//! Wait statuses, options and selectors.

use core::fmt;

use super::{SiCode, Signal};

/// The status word of wait4(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WaitStatus(pub u32);

impl WaitStatus {
    /// A continued child (EXIT-04).
    pub const CONTINUED: WaitStatus = WaitStatus(0xffff);
    /// The bit of an end by a signal that is set if a core was written.
    pub const CORE: u32 = 0x80;

    /// Exit with `code`, of which the low 8 bits count (EXIT-01).
    pub const fn exited(code: i32) -> WaitStatus {
        WaitStatus(((code & 0xff) as u32) << 8)
    }

    /// End by `signal` (EXIT-03).
    pub const fn killed(signal: Signal, core: bool) -> WaitStatus {
        WaitStatus(signal.number() as u32 | if core { WaitStatus::CORE } else { 0 })
    }

    /// Stop by `signal` (EXIT-04).
    pub const fn stopped(signal: Signal) -> WaitStatus {
        WaitStatus((signal.number() as u32) << 8 | 0x7f)
    }

    /// The exit code, if the child exited (`WIFEXITED`).
    pub const fn exit_code(self) -> Option<u8> {
        if self.0 & 0x7f == 0 { Some((self.0 >> 8) as u8) } else { None }
    }

    /// The fatal signal, if one ended the child (`WIFSIGNALED`).
    pub const fn term_signal(self) -> Option<Signal> {
        let low = self.0 & 0x7f;
        if low == 0x7f { None } else { Signal::new(low as i32) }
    }

    /// Whether a core was written (`WCOREDUMP`).
    pub const fn core(self) -> bool {
        self.term_signal().is_some() && self.0 & WaitStatus::CORE != 0
    }

    /// The stop signal, if the child is stopped (`WIFSTOPPED`).
    pub const fn stop_signal(self) -> Option<Signal> {
        if self.0 & 0xff == 0x7f { Signal::new((self.0 >> 8) as i32 & 0xff) } else { None }
    }

    /// Whether the child was continued (`WIFCONTINUED`).
    pub const fn continued(self) -> bool {
        self.0 == WaitStatus::CONTINUED.0
    }

    /// The status for `si_code` and `si_status` of a child (WAIT-36), the reverse of
    /// [`WaitStatus::code_and_status`]. A trap of a traced child is a stop.
    pub fn from_code_and_status(code: SiCode, status: i32) -> WaitStatus {
        let signal = Signal::new(status).unwrap_or(Signal::KILL);
        match code {
            SiCode::CLD_EXITED => WaitStatus::exited(status),
            SiCode::CLD_STOPPED | SiCode::CLD_TRAPPED => WaitStatus::stopped(signal),
            SiCode::CLD_CONTINUED => WaitStatus::CONTINUED,
            code => WaitStatus::killed(signal, code == SiCode::CLD_DUMPED),
        }
    }

    /// `si_code` and `si_status` for this status (WAIT-36).
    pub fn code_and_status(self) -> (SiCode, i32) {
        if self.continued() {
            (SiCode::CLD_CONTINUED, Signal::CONT.number() as i32)
        } else if let Some(signal) = self.stop_signal() {
            (SiCode::CLD_STOPPED, signal.number() as i32)
        } else if let Some(signal) = self.term_signal() {
            let code = if self.core() { SiCode::CLD_DUMPED } else { SiCode::CLD_KILLED };
            (code, signal.number() as i32)
        } else {
            (SiCode::CLD_EXITED, (self.0 >> 8 & 0xff) as i32)
        }
    }
}

impl fmt::Debug for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WaitStatus {
    /// In words: `exited 3`, `killed by SIGTERM`, `stopped by SIGTSTP`, `continued`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.continued() {
            f.write_str("continued")
        } else if let Some(signal) = self.stop_signal() {
            write!(f, "stopped by {signal}")
        } else if let Some(signal) = self.term_signal() {
            write!(f, "killed by {signal}{}", if self.core() { " (core dumped)" } else { "" })
        } else {
            write!(f, "exited {}", self.0 >> 8 & 0xff)
        }
    }
}

/// The options of wait4(2) and waitid(2), as a guest passes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WaitOptions(pub u32);

impl WaitOptions {
    /// Do not block.
    pub const NOHANG: WaitOptions = WaitOptions(1);
    /// Report stops (`WUNTRACED`, `WSTOPPED`).
    pub const STOPPED: WaitOptions = WaitOptions(2);
    /// Report the end of a child.
    pub const EXITED: WaitOptions = WaitOptions(4);
    /// Report continues.
    pub const CONTINUED: WaitOptions = WaitOptions(8);
    /// Leave the event in place.
    pub const NOWAIT: WaitOptions = WaitOptions(0x0100_0000);
    /// Only children of the calling thread (`__WNOTHREAD`).
    pub const NOTHREAD: WaitOptions = WaitOptions(0x2000_0000);
    /// Children of both classes (`__WALL`).
    pub const ALL: WaitOptions = WaitOptions(0x4000_0000);
    /// Only clone children, whose exit signal is not SIGCHLD (`__WCLONE`).
    pub const CLONE: WaitOptions = WaitOptions(0x8000_0000);

    /// Whether all of `options` are set.
    pub const fn contains(self, options: WaitOptions) -> bool {
        self.0 & options.0 == options.0
    }

    /// The union of both.
    pub const fn with(self, options: WaitOptions) -> WaitOptions {
        WaitOptions(self.0 | options.0)
    }
}

/// `idtype_t` of waitid(2), as a guest passes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdType(pub i32);

impl IdType {
    /// Any child.
    pub const ALL: IdType = IdType(0);
    /// One child.
    pub const PID: IdType = IdType(1);
    /// The children in a group.
    pub const PGID: IdType = IdType(2);
    /// The child of a pidfd.
    pub const PIDFD: IdType = IdType(3);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WAIT-36: in both directions.
    #[test]
    fn a_childs_code_and_status_are_its_wait_status() {
        let exits = (0..=255).map(WaitStatus::exited);
        let signals = Signal::all;
        let kills = signals().flat_map(|s| [false, true].map(|core| WaitStatus::killed(s, core)));
        let stops = signals().map(WaitStatus::stopped);
        for status in exits.chain(kills).chain(stops).chain([WaitStatus::CONTINUED]) {
            let (code, value) = status.code_and_status();
            assert_eq!(WaitStatus::from_code_and_status(code, value), status);
        }
    }
}
