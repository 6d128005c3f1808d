//! Programs for a terminal: calls at both ends of a pty, random ones, and their results on the
//! model.

use alloc::vec::Vec;
use core::fmt;

use super::generate::{below, one_in};
use crate::abi::{Errno, SigSet, Signal};
use crate::kernel::Choose;
use crate::tty::termios::*;
use crate::tty::{End, Event, File, FlowAction, Pty, Queue, SetTermios, Termios, Winsize};

/// A call at an end of a pty. Each one returns at once.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TerminalStep {
    /// write(2).
    Write(End, Vec<u8>),
    /// read(2) of at most that number of bytes.
    Read(End, usize),
    /// tcsetattr(3), with TCSAFLUSH if the flag is set, at either end.
    SetTermios(End, Termios, bool),
    /// tcflush(3): input, output.
    Flush(End, bool, bool),
    /// tcflow(3): TCOOFF, TCOON, TCIOFF or TCION.
    Flow(End, u8),
    /// TIOCPKT.
    Packet(bool),
    /// TIOCSWINSZ.
    SetWinsize(End, Winsize),
    /// TIOCSTI.
    Insert(End, u8),
    /// TIOCSIG.
    Signal(i32),
    /// A further open of the slave, by its name.
    OpenSlave,
    /// close(2) of the last open slave.
    CloseSlave,
    /// TIOCSPTLCK.
    Lock(bool),
    /// TIOCEXCL or TIOCNXCL.
    Exclusive(End, bool),
    /// TIOCVHANGUP.
    HangUp(End),
}

/// Bytes as C writes them.
struct Bytes<'a>(&'a [u8]);

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PART: usize = 60;
        if self.0.len() > 3 * PART {
            let (first, rest) = self.0.split_at(PART);
            let (rest, last) = rest.split_at(rest.len() - PART);
            let (first, last) = (first.escape_ascii(), last.escape_ascii());
            return write!(f, "\"{first}\" ({} bytes) \"{last}\"", rest.len());
        }
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for TerminalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TerminalStep::Write(end, bytes) => write!(f, "{end:?} write {:?}", Bytes(bytes)),
            TerminalStep::Read(end, len) => write!(f, "{end:?} read {len}"),
            TerminalStep::SetTermios(end, termios, flush) => {
                let Termios { iflag, oflag, cflag, lflag, cc, .. } = termios;
                let flush = if *flush { " flush" } else { "" };
                write!(f, "{end:?} tcsetattr{flush} iflag {iflag:#o} oflag {oflag:#o} cflag ")?;
                write!(f, "{cflag:#o} lflag {lflag:#o} cc {cc:02x?}")
            }
            TerminalStep::Flush(end, input, output) => {
                write!(f, "{end:?} tcflush input {input} output {output}")
            }
            TerminalStep::Flow(end, action) => {
                let action = ["TCOOFF", "TCOON", "TCIOFF", "TCION"][usize::from(*action) & 3];
                write!(f, "{end:?} tcflow {action}")
            }
            TerminalStep::Packet(on) => write!(f, "Master TIOCPKT {on}"),
            TerminalStep::SetWinsize(end, size) => write!(f, "{end:?} TIOCSWINSZ {size:?}"),
            TerminalStep::Insert(end, byte) => write!(f, "{end:?} TIOCSTI {byte:#04x}"),
            TerminalStep::Signal(signal) => write!(f, "Master TIOCSIG {signal}"),
            TerminalStep::OpenSlave => write!(f, "open slave"),
            TerminalStep::CloseSlave => write!(f, "close slave"),
            TerminalStep::Lock(on) => write!(f, "Master TIOCSPTLCK {on}"),
            TerminalStep::Exclusive(end, true) => write!(f, "{end:?} TIOCEXCL"),
            TerminalStep::Exclusive(end, false) => write!(f, "{end:?} TIOCNXCL"),
            TerminalStep::HangUp(end) => write!(f, "{end:?} TIOCVHANGUP"),
        }
    }
}

/// The result of a call: the bytes of a read, the number of a write, or the error.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TerminalResult {
    /// The bytes that a read returned.
    Bytes(Vec<u8>),
    /// The number that a call returned.
    Number(usize),
    /// The call failed.
    Error(Errno),
}

impl fmt::Debug for TerminalResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TerminalResult::Bytes(bytes) => Bytes(bytes).fmt(f),
            TerminalResult::Number(number) => number.fmt(f),
            TerminalResult::Error(errno) => errno.fmt(f),
        }
    }
}

/// The state of a pty that calls can see.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TerminalState {
    /// The events of poll(2) at the master.
    pub master_poll: u16,
    /// The events of poll(2) at the last open slave; `None` if none is open.
    pub slave_poll: Option<u16>,
    /// FIONREAD at the master.
    pub master_readable: Result<usize, Errno>,
    /// FIONREAD at the last open slave.
    pub slave_readable: Option<Result<usize, Errno>>,
    /// The signals that the foreground group has received since the last step.
    pub signals: SigSet,
}

/// What the process that makes the calls may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TerminalPrivilege {
    /// It has CAP_SYS_ADMIN in the initial user namespace.
    pub is_admin: bool,
    /// The sysctl dev.tty.legacy_tiocsti allows TIOCSTI without privilege (LD-168).
    pub has_tiocsti: bool,
}

/// A pty of the model, with the descriptors of the process that makes the calls: the leader of the
/// session and the only member of the foreground group.
#[derive(Clone, Debug)]
pub struct ModelTerminal {
    pty: Pty,
    master: File,
    slaves: Vec<File>,
    /// The pty is the controlling terminal of the process.
    is_controlling: bool,
    privilege: TerminalPrivilege,
    signals: SigSet,
}

impl ModelTerminal {
    /// A new pty, unlocked, with one open slave, which is the controlling terminal.
    pub fn new(privilege: TerminalPrivilege) -> ModelTerminal {
        // no write of a program finds the kernel's buffers full, nor the model's
        const CAPACITY: usize = 1 << 20;
        let mut pty = Pty::with_capacity(CAPACITY);
        let master = pty.master();
        pty.unlock();
        let slaves = pty.open_slave(privilege.is_admin).into_iter().collect();
        let signals = SigSet::EMPTY;
        ModelTerminal { pty, master, slaves, is_controlling: true, privilege, signals }
    }

    /// The settings.
    pub fn termios(&self) -> &Termios {
        self.pty.termios()
    }

    /// The terminal with a rule that is broken on purpose.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn with_fault(mut self, fault: crate::tty::TerminalFault) -> ModelTerminal {
        self.pty = self.pty.with_fault(fault);
        self
    }

    fn file(&self, end: End) -> Option<File> {
        match end {
            End::Master => Some(self.master),
            End::Slave => self.slaves.last().copied(),
        }
    }

    /// Makes a call. `None` if it needs a slave and none is open.
    pub fn run(&mut self, step: &TerminalStep) -> Option<TerminalResult> {
        let result = self.call(step)?;
        for event in self.pty.take_events() {
            match event {
                Event::Signal(signal) if self.is_controlling => {
                    self.signals = self.signals.with(signal);
                }
                Event::SlaveHungUp if self.is_controlling => {
                    self.signals = self.signals.with(Signal::HUP).with(Signal::CONT);
                    self.is_controlling = false;
                }
                _ => {}
            }
        }
        Some(result.unwrap_or_else(TerminalResult::Error))
    }

    fn call(&mut self, step: &TerminalStep) -> Option<Result<TerminalResult, Errno>> {
        let done = Ok(TerminalResult::Number(0));
        Some(match step {
            TerminalStep::Write(end, bytes) => {
                let file = self.file(*end)?;
                self.pty.write(&file, bytes).map(TerminalResult::Number)
            }
            TerminalStep::Read(end, len) => {
                let file = self.file(*end)?;
                self.pty.try_read(&file, *len).map(TerminalResult::Bytes)
            }
            TerminalStep::SetTermios(end, termios, flush) => {
                let file = self.file(*end)?;
                let how = if *flush { SetTermios::Flush } else { SetTermios::Now };
                self.pty.set_termios(&file, *termios, how).and(done)
            }
            TerminalStep::Flush(end, input, output) => {
                let queue = match (input, output) {
                    (true, true) => Queue::Both,
                    (true, false) => Queue::Input,
                    _ => Queue::Output,
                };
                let file = self.file(*end)?;
                self.pty.flush(&file, queue).and(done)
            }
            TerminalStep::Flow(end, action) => {
                let action = match action {
                    0 => FlowAction::StopOutput,
                    1 => FlowAction::StartOutput,
                    2 => FlowAction::SendStop,
                    _ => FlowAction::SendStart,
                };
                let file = self.file(*end)?;
                self.pty.control_flow(&file, action).and(done)
            }
            TerminalStep::Packet(on) => {
                let file = self.file(End::Master)?;
                self.pty.set_packet_mode(&file, *on).and(done)
            }
            TerminalStep::SetWinsize(end, size) => {
                let file = self.file(*end)?;
                self.pty.set_winsize(&file, *size).and(done)
            }
            TerminalStep::Insert(end, byte) => {
                let file = self.file(*end)?;
                self.insert(&file, *byte).and(done)
            }
            TerminalStep::Signal(signal) => {
                let file = self.file(End::Master)?;
                self.pty.signal(&file, *signal).and(done)
            }
            TerminalStep::OpenSlave => self.pty.open_slave(self.privilege.is_admin).map(|file| {
                self.slaves.push(file);
                TerminalResult::Number(0)
            }),
            TerminalStep::CloseSlave => {
                let file = self.slaves.pop()?;
                self.pty.close(file);
                done
            }
            TerminalStep::Lock(on) => {
                let file = self.file(End::Master)?;
                self.pty.set_locked(&file, *on).and(done)
            }
            TerminalStep::Exclusive(end, on) => {
                let file = self.file(*end)?;
                self.pty.set_exclusive(&file, *on).and(done)
            }
            TerminalStep::HangUp(end) => {
                let file = self.file(*end)?;
                self.pty.vhangup(&file, self.privilege.is_admin).and(done)
            }
        })
    }

    fn insert(&mut self, file: &File, byte: u8) -> Result<(), Errno> {
        let TerminalPrivilege { is_admin, has_tiocsti } = self.privilege;
        self.pty.usable(file)?;
        if !has_tiocsti && !is_admin {
            return Err(Errno::EIO); // LD-168
        }
        let is_own = self.is_controlling && file.end() == End::Slave;
        if !is_own && !is_admin {
            return Err(Errno::EPERM); // LD-167
        }
        self.pty.insert_input(file, byte)
    }

    /// The state that calls can see; the signals since the last state.
    pub fn state(&mut self) -> TerminalState {
        let slave = self.slaves.last();
        TerminalState {
            master_poll: self.pty.poll(&self.master).0,
            slave_poll: slave.map(|slave| self.pty.poll(slave).0),
            master_readable: self.pty.readable(&self.master),
            slave_readable: slave.map(|slave| self.pty.readable(slave)),
            signals: core::mem::take(&mut self.signals),
        }
    }
}

/// A byte that a program types or writes.
fn byte(choose: &mut dyn Choose, termios: &Termios) -> u8 {
    const COMMON: &[u8] = b"abcdefgxyzABZ019 _.-\t\n\n\r\x7f\x7f\x15\x17\x08\x1b";
    const RARE: &[u8] = b"\x00\x01\x0b\x0c\x0f\x12\x14\x19\xff\xe9\xdf\xd7\xf7\x80\x83\xa0\xc3\xe2";
    const CONTINUED: &[u8] = b"\x80\x82\xac\xa9\xbf";
    match below(choose, 16) {
        0..=9 => COMMON[below(choose, COMMON.len())],
        10 | 11 => RARE[below(choose, RARE.len())],
        12 => CONTINUED[below(choose, CONTINUED.len())],
        // a special character, most often one that edits
        _ => {
            const EDITING: [usize; 9] =
                [VERASE, VKILL, VEOF, VEOL, VREPRINT, VWERASE, VLNEXT, VEOL2, VLNEXT];
            const OTHER: [usize; 5] = [VINTR, VQUIT, VSUSP, VSTART, VSTOP];
            let entries: &[usize] = if below(choose, 3) < 2 { &EDITING } else { &OTHER };
            termios.cc[entries[below(choose, entries.len())]]
        }
    }
}

fn bytes(choose: &mut dyn Choose, termios: &Termios) -> Vec<u8> {
    const LONG: [usize; 6] = [60, 130, 250, 1000, 2100, 4200];
    // a full queue with EXTPROC is not compared (LD-205)
    if termios.lflag & EXTPROC == 0 && one_in(choose, 60) {
        // no signal characters: how much of a long echo they flush depends on timing (LD-73)
        let len = LONG[below(choose, LONG.len())];
        let letter = b"xy z"[below(choose, 4)];
        return core::iter::repeat_n(letter, len).collect();
    }
    let most = if one_in(choose, 4) { 30 } else { 8 };
    let len = 1 + below(choose, most);
    (0..len).map(|_| byte(choose, termios)).collect()
}

/// Settings that differ in some flags and special characters from `old`.
fn settings(choose: &mut dyn Choose, old: &Termios) -> Termios {
    const INPUT: [u32; 11] =
        [ISTRIP, INLCR, IGNCR, ICRNL, IUCLC, IXON, IXANY, IXOFF, PARMRK, IUTF8, 0o20000];
    const OUTPUT: [u32; 9] = [OPOST, OLCUC, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, 0o4000, 0o400];
    const CONTROL: [u32; 5] = [0o20, 0o100, PARENB, 0o2000, 0o4000];
    const LOCAL: [u32; 14] = [
        ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN,
        EXTPROC, ICANON, ECHO,
    ];
    let mut new = match below(choose, 8) {
        0 => Termios::default(),
        1 => old.raw(),
        _ => *old,
    };
    for _ in 0..below(choose, 4) {
        match below(choose, 8) {
            0 | 1 => new.iflag ^= INPUT[below(choose, INPUT.len())],
            2 | 3 => new.oflag ^= OUTPUT[below(choose, OUTPUT.len())],
            4 if one_in(choose, 4) => new.cflag ^= CONTROL[below(choose, CONTROL.len())],
            5 => special_character(choose, &mut new),
            _ => new.lflag ^= LOCAL[below(choose, LOCAL.len())],
        }
    }
    if new.lflag & ECHOCTL == 0 {
        // LNEXT would print old contents of the kernel's ring of echoes (LD-207)
        new.lflag &= !ECHOPRT;
    }
    new
}

fn special_character(choose: &mut dyn Choose, termios: &mut Termios) {
    const ENTRIES: [usize; 14] = [
        VINTR, VQUIT, VERASE, VKILL, VEOF, VSTART, VSTOP, VSUSP, VEOL, VREPRINT, VWERASE, VLNEXT,
        VEOL2, VMIN,
    ];
    const VALUES: &[u8] = b"\x00\x00\x00ax;A\n\r\x03\x04\x11\x13\x7f\xff\t";
    let entry = ENTRIES[below(choose, ENTRIES.len())];
    termios.cc[entry] = match entry {
        // read(2) of the comparison does not wait, and VTIME does not pass
        VMIN => [0, 1, 2, 3, 10, 100][below(choose, 6)],
        _ => VALUES[below(choose, VALUES.len())],
    };
}

fn end(choose: &mut dyn Choose) -> End {
    if one_in(choose, 3) { End::Master } else { End::Slave }
}

impl ModelTerminal {
    /// Whether input that restarts the output and then generates a signal would be in `bytes`: the
    /// echo that the restart writes is flushed only if the master has not received it, and this
    /// depends on timing (LD-81).
    fn depends_on_timing(&self, bytes: &[u8]) -> bool {
        let termios = self.termios();
        let generates = [VINTR, VQUIT, VSUSP];
        // ISTRIP and IUCLC change bytes into others
        let changes = termios.iflag & (ISTRIP | IUCLC) != 0;
        let is = |byte: &u8, entry: &usize| *byte == termios.cc[*entry];
        // a full queue receives its bytes one by one, each with its echo (LD-126)
        let is_nearly_full = self.pty.waiting(End::Slave) > 4000;
        let restarts = termios.iflag & IXON != 0
            || self.pty.has_backlog()
            || self.pty.has_echoes()
            || is_nearly_full;
        let has_signal =
            bytes.iter().any(|byte| changes || generates.iter().any(|entry| is(byte, entry)));
        termios.lflag & ISIG != 0 && termios.lflag & NOFLSH == 0 && restarts && has_signal
    }

    /// Draws the next steps of a random program; all but the last one are parts of one write.
    pub fn draw(&self, choose: &mut dyn Choose) -> Vec<TerminalStep> {
        const FULL: usize = 3000;
        let termios = self.termios();
        let waiting = [self.pty.waiting(End::Master), self.pty.waiting(End::Slave)];
        if waiting[0] > FULL {
            return [TerminalStep::Read(End::Master, 10_000)].into();
        }
        if waiting[1] > FULL && below(choose, 3) > 0 {
            let read = TerminalStep::Read(End::Slave, 10_000);
            let flush = TerminalStep::Flush(End::Slave, true, false);
            return [if one_in(choose, 4) { flush } else { read }].into();
        }
        if self.slaves.is_empty() && !one_in(choose, 4) {
            return [TerminalStep::OpenSlave].into();
        }
        let step = match below(choose, 40) {
            // the input becomes one part, whose echo depends on the sizes of the kernel's buffers
            0..=13 if self.pty.is_detached() && !one_in(choose, 8) => TerminalStep::OpenSlave,
            0..=13 if self.pty.is_detached() => {
                TerminalStep::Write(End::Master, b"ab cd\n"[..1 + below(choose, 6)].into())
            }
            0..=13 if waiting[1] < 2 * FULL => {
                let bytes = bytes(choose, termios);
                if self.depends_on_timing(&bytes) {
                    if self.pty.has_backlog() {
                        // parts of a write would be one part
                        return [TerminalStep::OpenSlave].into();
                    }
                    return bytes
                        .iter()
                        .map(|byte| TerminalStep::Write(End::Master, [*byte].into()))
                        .collect();
                }
                TerminalStep::Write(End::Master, bytes)
            }
            0..=18 => TerminalStep::Write(End::Slave, bytes(choose, termios)),
            19..=24 => {
                const LENGTHS: [usize; 8] = [0, 1, 2, 3, 5, 64, 200, 10_000];
                TerminalStep::Read(End::Slave, LENGTHS[below(choose, 8)])
            }
            25..=27 => {
                const LENGTHS: [usize; 6] = [1, 2, 3, 64, 200, 10_000];
                TerminalStep::Read(End::Master, LENGTHS[below(choose, 6)])
            }
            28..=33 => {
                let new = settings(choose, termios);
                // what waits for room may be processed with the old or with the new settings
                let flush = one_in(choose, 6) && !self.pty.has_backlog();
                TerminalStep::SetTermios(end(choose), new, flush)
            }
            34 => {
                let (input, output) =
                    [(true, false), (false, true), (true, true)][below(choose, 3)];
                TerminalStep::Flush(end(choose), input, output)
            }
            35 | 36 => TerminalStep::Flow(end(choose), below(choose, 4) as u8),
            37 => TerminalStep::Packet(!one_in(choose, 3)),
            38 => {
                let size =
                    Winsize { rows: below(choose, 3) as u16, cols: 80, ..Winsize::default() };
                TerminalStep::SetWinsize(end(choose), size)
            }
            _ => self.draw_rare(choose),
        };
        [step].into()
    }

    fn draw_rare(&self, choose: &mut dyn Choose) -> TerminalStep {
        match below(choose, 8) {
            0 => TerminalStep::Insert(end(choose), byte(choose, self.termios())),
            1 => {
                let signals = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::TERM];
                TerminalStep::Signal(i32::from(signals[below(choose, 4)].number()))
            }
            2 if self.slaves.len() < 3 => TerminalStep::OpenSlave,
            2..=4 => TerminalStep::CloseSlave,
            5 => TerminalStep::Lock(one_in(choose, 3)),
            6 => TerminalStep::Exclusive(end(choose), one_in(choose, 2)),
            _ => TerminalStep::HangUp(if one_in(choose, 6) { End::Master } else { End::Slave }),
        }
    }
}
