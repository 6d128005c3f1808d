//! Calls on a terminal that controls processes.
//!
//! The first process opens a pty before it has children, which then have the slave. It alone has
//! the master.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::draw::Draw;
use crate::abi::Signal;
use crate::syscall::{PollFile, Syscall, TerminalPath, TerminalRequest, open};
use crate::tty::termios::{ECHO, ICANON, ICRNL, ISIG, IXON, NOFLSH, OPOST, TOSTOP, VMIN};
use crate::tty::{End, FlowAction, PollFlags, Queue, SetTermios, Termios, Winsize};

/// The most files that a program opens.
const FILES: usize = 20;

impl Draw<'_> {
    /// The next call of the first process while the terminal is not open; `None` once it is.
    pub(super) fn open_terminal(&mut self) -> Option<Syscall> {
        let path = match self.kernel.terminal_files().count() {
            0 if self.kernel.terminal(0).is_none() => TerminalPath::Ptmx,
            1 if !self.kernel.terminal(0).is_some_and(|pty| pty.is_locked()) => {
                TerminalPath::Pts(0)
            }
            1 => {
                let request = TerminalRequest::Tiocsptlck(false);
                return Some(Syscall::Ioctl { file: self.file(End::Master)?, request });
            }
            _ => return None,
        };
        // the master does not wait: when the kernel moves output to it, nobody sees that
        let flags = open::RDWR | open::NOCTTY;
        let more = if path == TerminalPath::Ptmx { open::NONBLOCK } else { 0 };
        Some(Syscall::Open { path, flags: flags | more })
    }

    /// The first file of that end.
    fn file(&self, end: End) -> Option<u32> {
        let of_end = |(_, file): &(u32, End)| *file == end;
        self.kernel.terminal_files().find(of_end).map(|(number, _)| number)
    }

    pub(super) fn terminal_call(&mut self) -> Option<Syscall> {
        let master = self.file(End::Master);
        if self.caller == self.kernel.config().first
            && let Some(master) = master
            && !self.one_in(4)
        {
            return Some(self.master_call(master));
        }
        let mut files: Vec<u32> = self.file(End::Slave).into_iter().collect();
        // the files that it has opened itself
        files.extend(self.opened.iter().filter(|(_, by)| *by == self.caller).map(|(file, _)| file));
        if files.is_empty() {
            return None;
        }
        let file = self.among(&files);
        let request = if self.one_in(2) { self.job_control() } else { None };
        Some(match request {
            Some(request) => Syscall::Ioctl { file, request },
            None => self.slave_call(file),
        })
    }

    /// What brings sessions and groups to the terminal, and away from it: rare otherwise.
    fn job_control(&mut self) -> Option<TerminalRequest> {
        let status = self.kernel.proc_status(self.caller)?;
        match status.terminal {
            None if status.sid.0 == self.caller.0 => {
                Some(TerminalRequest::Tiocsctty(self.among(&[0, 0, 1])))
            }
            Some((_, foreground)) if foreground == status.pgid => {
                Some(TerminalRequest::Tiocspgrp(self.group()))
            }
            _ => None,
        }
    }

    fn master_call(&mut self, file: u32) -> Syscall {
        let keys: [&[u8]; 16] = [
            b"\x03",
            b"\x03",
            b"\x1a",
            b"\x1a",
            b"\x1c",
            b"a",
            b"a\n",
            b"\n",
            b"ab\ncd\n",
            b"\x04",
            b"x\x03y\n",
            b"\x13",
            b"\x11",
            b"\x7f",
            b"\r",
            b"\x03\x1a",
        ];
        let request = match self.below(25) {
            24 => return self.poll(&[file], true),
            0..=12 => return Syscall::Write { file, bytes: self.among(&keys).into() },
            13..=16 => return Syscall::Read { file, len: self.among(&[1, 100, 100]) },
            17 => TerminalRequest::Tiocsig(self.among(&[2, 3, 20, 9, 0])),
            18 => TerminalRequest::Tiocswinsz(self.size_of_window()),
            19 => TerminalRequest::Tiocgpgrp,
            20 => TerminalRequest::Tiocgsid,
            21 => TerminalRequest::Tiocgwinsz,
            22 if self.one_in(5) => return Syscall::Close(file),
            _ => TerminalRequest::Tiocspgrp(self.group()),
        };
        Syscall::Ioctl { file, request }
    }

    fn slave_call(&mut self, file: u32) -> Syscall {
        let texts: [&[u8]; 4] = [b"t", b"text\n", b"\t", b""];
        let request = match self.below(35) {
            32..=34 => {
                let files: Vec<u32> = match self.below(3) {
                    0 => [file, file].into(),
                    _ => [file].into(),
                };
                return self.poll(&files, !self.env.ordered && self.is_busy());
            }
            0..=5 if !self.env.ordered && self.is_busy() => TerminalRequest::Tiocgwinsz,
            0..=5 => return Syscall::Read { file, len: self.among(&[1, 2, 100, 100, 0]) },
            6..=9 => return Syscall::Write { file, bytes: self.among(&texts).into() },
            10 | 11 => TerminalRequest::Tiocsctty(self.among(&[0, 0, 1, 2])),
            12 => TerminalRequest::Tiocnotty,
            13 | 14 => TerminalRequest::Tiocgpgrp,
            15 => TerminalRequest::Tiocgsid,
            16..=20 => TerminalRequest::Tiocspgrp(match self.below(4) {
                0 => self.process(true),
                _ => self.group(),
            }),
            21 | 22 => self.settings(),
            23 => TerminalRequest::Tcflsh(self.among(&[Queue::Input, Queue::Output, Queue::Both])),
            24 => TerminalRequest::Tcxonc(
                self.among(&[FlowAction::StopOutput, FlowAction::StartOutput]),
            ),
            25 => TerminalRequest::Tcsbrk(self.among(&[0, 1])),
            26 => TerminalRequest::Tiocswinsz(self.size_of_window()),
            27 | 28 => return self.open_slave(),
            29 if self.one_in(6) => TerminalRequest::Tiocvhangup,
            29 => TerminalRequest::Tcgets,
            30 => TerminalRequest::Tiocsti(self.among(&[b'i', b'\n', 3, 26])),
            _ => TerminalRequest::Tiocgwinsz,
        };
        Syscall::Ioctl { file, request }
    }

    /// Whether a call sleeps in the terminal.
    fn is_busy(&self) -> bool {
        self.kernel.terminal_sleepers(0) > 0
    }

    /// A poll that takes no time, or waits without end.
    fn poll(&mut self, files: &[u32], at_once: bool) -> Syscall {
        let events = [
            PollFlags::IN,
            PollFlags::IN,
            PollFlags::OUT,
            PollFlags::IN | PollFlags::OUT | PollFlags::PRI,
            PollFlags::NONE,
            PollFlags(1),
        ];
        let timeout = if at_once { 0 } else { self.among(&[-1, -1, 0]) };
        let files = files.iter().map(|file| PollFile { file: *file, events: self.among(&events) });
        Syscall::Poll { files: files.collect(), timeout }
    }

    fn open_slave(&mut self) -> Syscall {
        if self.kernel.terminal_files().count() >= FILES {
            return Syscall::Getppid;
        }
        let path = self.among(&[TerminalPath::Pts(0), TerminalPath::Pts(0), TerminalPath::Tty]);
        let mode = self.among(&[open::RDWR, open::RDWR, open::RDONLY, open::WRONLY]);
        let flags = self.among(&[0, open::NOCTTY, open::NONBLOCK]);
        Syscall::Open { path, flags: mode | flags }
    }

    fn size_of_window(&mut self) -> Winsize {
        let rows = self.among(&[24, 25]);
        Winsize { rows, cols: 80, xpixel: 0, ypixel: 0 }
    }

    fn settings(&mut self) -> TerminalRequest {
        let mut termios = Termios::default();
        for flag in [ISIG, ICANON, ECHO] {
            if self.one_in(4) {
                termios.lflag &= !flag;
            }
        }
        for flag in [TOSTOP, NOFLSH] {
            if self.one_in(2) {
                termios.lflag |= flag;
            }
        }
        for flag in [IXON, ICRNL] {
            if self.one_in(5) {
                termios.iflag &= !flag;
            }
        }
        if self.one_in(6) {
            termios.oflag &= !OPOST;
        }
        // no VTIME: programs of this profile take no time
        termios.cc[VMIN] = self.among(&[1, 1, 0, 2]);
        // TCSETSF waits for a write, and the kernel then spins instead of taking a signal
        let flush = !self.is_busy() && self.one_in(3);
        let when = if flush { SetTermios::Flush } else { SetTermios::Now };
        TerminalRequest::Tcsets(when, Box::new(termios))
    }

    /// Whether a handler of a signal may restart calls: a call from the background would send its
    /// signal again, without end (TTY-19).
    pub(super) fn may_restart(&self, signal: i32) -> bool {
        let of_background = [Signal::TTIN, Signal::TTOU].map(|signal| signal.number().into());
        self.profile != super::Profile::Terminals || !of_background.contains(&signal)
    }
}
