//! Programs for a terminal: calls at both ends of a pty, and their results on the model.

use alloc::vec::Vec;
use core::fmt;

use crate::abi::{Errno, SigSet, Signal};
use crate::tty::{End, Event, File, FlowAction, Pty, Queue, SetTermios, Termios, Winsize};

/// A call at an end of a pty. Each one returns at once.
#[derive(Clone, PartialEq, Eq)]
pub enum TerminalStep {
    /// write(2).
    Write(End, Vec<u8>),
    /// read(2) of at most that number of bytes.
    Read(End, usize),
    /// tcsetattr(3).
    SetTermios(End, Termios, SetTermios),
    /// tcflush(3).
    Flush(End, Queue),
    /// tcflow(3).
    Flow(End, FlowAction),
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
            TerminalStep::SetTermios(end, termios, how) => {
                let Termios { iflag, oflag, cflag, lflag, cc, .. } = termios;
                write!(f, "{end:?} tcsetattr {how:?} iflag {iflag:#o} oflag {oflag:#o} cflag ")?;
                write!(f, "{cflag:#o} lflag {lflag:#o} cc {cc:02x?}")
            }
            TerminalStep::Flush(end, queue) => write!(f, "{end:?} tcflush {queue:?}"),
            TerminalStep::Flow(end, action) => write!(f, "{end:?} tcflow {action:?}"),
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

    /// The pty.
    pub(super) fn pty(&self) -> &Pty {
        &self.pty
    }

    /// The number of open files of the slave.
    pub(super) fn open_slaves(&self) -> usize {
        self.slaves.len()
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
            TerminalStep::SetTermios(end, termios, how) => {
                let file = self.file(*end)?;
                self.pty.set_termios(&file, *termios, *how).and(done)
            }
            TerminalStep::Flush(end, queue) => {
                let file = self.file(*end)?;
                self.pty.flush(&file, *queue).and(done)
            }
            TerminalStep::Flow(end, action) => {
                let file = self.file(*end)?;
                self.pty.control_flow(&file, *action).and(done)
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
