//! Terminals: a pty and its line discipline, without processes.
//!
//! [`Pty`] takes bytes and calls at its two ends, and returns bytes, [signals and
//! wake-ups](Event). It is a state machine: it has no threads, and the time is an argument. What
//! Linux does is in the rules LD-01 to LD-201 (docs/SEMANTICS.md).

mod discipline;
mod echo;
mod fault;
mod latin1;
mod output;
mod pty;
mod queue;
mod read;
mod read_turns;
pub mod termios;

use core::fmt;
use core::ops::{BitAnd, BitOr};

pub use discipline::{
    TIOCPKT_DOSTOP, TIOCPKT_FLUSHREAD, TIOCPKT_FLUSHWRITE, TIOCPKT_IOCTL, TIOCPKT_NOSTOP,
    TIOCPKT_START, TIOCPKT_STOP,
};
#[cfg(feature = "faults")]
pub use fault::TerminalFault;
pub use pty::{End, File, FlowAction, Pty, Queue, SetTermios};
pub use read::{Blocking, Read};
pub use termios::{Termios, Winsize};

use crate::abi::Signal;

/// What has to follow a call on a [`Pty`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// The foreground process group of the terminal, if there is one, receives this signal.
    Signal(Signal),
    /// Readers and pollers of the slave may have something to read.
    InputReady,
    /// Writers and pollers of the slave may have room.
    OutputReady,
    /// Readers and pollers of the master may have something to read.
    OutputWritten,
    /// Writers and pollers of the master may have room.
    MasterWriteReady,
    /// The slave was hung up: readers and writers of its files return, the session loses its
    /// terminal.
    SlaveHungUp,
    /// The master's reads return EIO when nothing is left to read, or the master was hung up.
    MasterHungUp,
}

/// Readiness as poll(2) reports it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PollFlags(pub u16);

impl PollFlags {
    /// Not ready.
    pub const NONE: PollFlags = PollFlags(0);
    /// POLLIN and POLLRDNORM: a read does not wait.
    pub const IN: PollFlags = PollFlags(0x41);
    /// POLLPRI: a status of packet mode.
    pub const PRI: PollFlags = PollFlags(0x2);
    /// POLLOUT and POLLWRNORM: a write does not wait.
    pub const OUT: PollFlags = PollFlags(0x104);
    /// POLLHUP: the other end is closed.
    pub const HUP: PollFlags = PollFlags(0x10);
    /// POLLERR: an error.
    pub const ERR: PollFlags = PollFlags(0x8);
    /// POLLNVAL: there is no such file.
    pub const NVAL: PollFlags = PollFlags(0x20);
    /// A file that was hung up.
    pub const HUNG_UP: PollFlags = PollFlags(0x41 | 0x104 | 0x8 | 0x10);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: PollFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitAnd for PollFlags {
    type Output = PollFlags;

    fn bitand(self, other: PollFlags) -> PollFlags {
        PollFlags(self.0 & other.0)
    }
}

impl BitOr for PollFlags {
    type Output = PollFlags;

    fn bitor(self, other: PollFlags) -> PollFlags {
        PollFlags(self.0 | other.0)
    }
}

impl fmt::Debug for PollFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PollFlags({:#x})", self.0)
    }
}
