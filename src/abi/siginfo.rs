//! The data that comes with a signal.

use super::{Pid, Signal, Uid, WaitStatus};

/// `si_code`: the origin of a signal. The constants are those of sigaction(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SiCode(pub i32);

impl SiCode {
    /// kill(2), and a signal whose record was lost (LIM-09).
    pub const USER: SiCode = SiCode(0);
    /// The kernel itself.
    pub const KERNEL: SiCode = SiCode(0x80);
    /// rt_sigqueueinfo(2).
    pub const QUEUE: SiCode = SiCode(-1);
    /// A POSIX timer expired.
    pub const TIMER: SiCode = SiCode(-2);
    /// tkill(2), tgkill(2).
    pub const TKILL: SiCode = SiCode(-6);
    /// A child exited.
    pub const CLD_EXITED: SiCode = SiCode(1);
    /// A child was killed by a signal.
    pub const CLD_KILLED: SiCode = SiCode(2);
    /// A child was killed by a signal and left a core.
    pub const CLD_DUMPED: SiCode = SiCode(3);
    /// A traced child trapped.
    pub const CLD_TRAPPED: SiCode = SiCode(4);
    /// A child stopped.
    pub const CLD_STOPPED: SiCode = SiCode(5);
    /// A child continued.
    pub const CLD_CONTINUED: SiCode = SiCode(6);
}

/// `siginfo_t`, as far as the process model fills it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SigInfo {
    /// `si_signo`.
    pub signal: Signal,
    /// `si_code`.
    pub code: SiCode,
    /// `si_pid`: the sender, or the child.
    pub pid: Pid,
    /// `si_uid`: the real user of that process (CRED-04).
    pub uid: Uid,
    /// `si_value` of a queued signal (the whole union), or `si_status` of a child.
    pub value: u64,
}

impl SigInfo {
    /// A signal sent by kill(2) (KILL-27).
    pub fn user(signal: Signal, pid: Pid, uid: Uid) -> SigInfo {
        SigInfo { signal, code: SiCode::USER, pid, uid, value: 0 }
    }

    /// A signal sent by the kernel itself (KILL-27).
    pub fn kernel(signal: Signal) -> SigInfo {
        SigInfo { signal, code: SiCode::KERNEL, pid: Pid(0), uid: Uid(0), value: 0 }
    }

    /// A signal whose record was lost to RLIMIT_SIGPENDING (LIM-09, LIM-10).
    pub fn lost(signal: Signal) -> SigInfo {
        SigInfo::user(signal, Pid(0), Uid(0))
    }

    /// The siginfo of a child with that `status`, in SIGCHLD and in waitid(2) (WAIT-36).
    pub fn child(signal: Signal, pid: Pid, uid: Uid, status: WaitStatus) -> SigInfo {
        let (code, value) = status.code_and_status();
        SigInfo { signal, code, pid, uid, value: value as u64 }
    }

    /// `si_status`, if the code is that of a child.
    pub fn status(&self) -> i32 {
        self.value as i32
    }
}
