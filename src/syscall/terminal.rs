//! The arguments of calls on terminals: paths, flags of open(2), requests of ioctl(2).

use alloc::boxed::Box;

use crate::tty::{FlowAction, PollFlags, Queue, SetTermios, Termios, Winsize};

/// A path of a terminal, as open(2) names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TerminalPath {
    /// /dev/ptmx: the master of a new pty.
    Ptmx,
    /// /dev/pts/N: the slave of a pty.
    Pts(u32),
    /// /dev/tty: the controlling terminal of the caller.
    Tty,
}

/// Flags of open(2), as on x86-64.
pub mod open {
    /// The mask of the access mode.
    pub const ACCMODE: u32 = 0o3;
    /// Read only.
    pub const RDONLY: u32 = 0o0;
    /// Write only.
    pub const WRONLY: u32 = 0o1;
    /// Read and write.
    pub const RDWR: u32 = 0o2;
    /// The terminal does not become the controlling terminal of the caller.
    pub const NOCTTY: u32 = 0o400;
    /// Reads and writes do not wait.
    pub const NONBLOCK: u32 = 0o4000;
}

/// A file that poll(2) waits for, and the events: `struct pollfd`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PollFile {
    /// The open file description.
    pub file: u32,
    /// The events. POLLERR, POLLHUP and POLLNVAL need not be among them.
    pub events: PollFlags,
}

/// A request of ioctl(2) on a terminal, with its argument: see ioctl_tty(2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TerminalRequest {
    /// TCGETS2: the settings.
    Tcgets,
    /// TCSETS2 or TCSETSF2: new settings.
    Tcsets(SetTermios, Box<Termios>),
    /// TCFLSH.
    Tcflsh(Queue),
    /// TCXONC.
    Tcxonc(FlowAction),
    /// TCSBRK: 0 sends a break, which does nothing on a pty; another number is tcdrain(3).
    Tcsbrk(i32),
    /// TIOCSCTTY: the terminal becomes the controlling terminal of the caller; 1 takes it from
    /// another session.
    Tiocsctty(i32),
    /// TIOCNOTTY: the caller gives up its controlling terminal.
    Tiocnotty,
    /// TIOCGPGRP: the foreground group.
    Tiocgpgrp,
    /// TIOCSPGRP: a new foreground group.
    Tiocspgrp(i32),
    /// TIOCGSID: the session.
    Tiocgsid,
    /// TIOCGWINSZ: the size of the window.
    Tiocgwinsz,
    /// TIOCSWINSZ: a new size of the window.
    Tiocswinsz(Winsize),
    /// FIONREAD: the number of bytes that can be read.
    Fionread,
    /// TIOCSTI: a byte of input, as if it was typed.
    Tiocsti(u8),
    /// TIOCSIG, at the master: a signal for the foreground group.
    Tiocsig(i32),
    /// TIOCPKT, at the master: packet mode.
    Tiocpkt(bool),
    /// TIOCSPTLCK, at the master: whether the slave cannot be opened.
    Tiocsptlck(bool),
    /// TIOCGPTN, at the master: the number of the slave.
    Tiocgptn,
    /// TIOCVHANGUP: the terminal is hung up.
    Tiocvhangup,
    /// TIOCEXCL, or TIOCNXCL: whether further opens fail.
    Tiocexcl(bool),
}
