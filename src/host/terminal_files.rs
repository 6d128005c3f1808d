//! The terminals of a test namespace, and their open files: the descriptors that the agents have of
//! them, and the numbers of the ptys on this machine.
//!
//! A file has the same descriptor in each agent, which a child inherits. Masters are the exception:
//! a child closes them, so that the end of the opener, or its close, hangs the terminal up. The
//! model has no descriptors: a program uses a file only in processes that have it.

use std::collections::BTreeMap;
use std::io;

use super::shared_memory::{OUTPUT_WORDS, Op, RawCall};
use crate::syscall::{self, Ret, Syscall, TerminalPath, TerminalRequest};

/// The descriptor of file 0.
pub(super) const FILE_FD: u32 = 110;
/// How many files a program may open.
pub(super) const FILES: u32 = 64;

/// An open file.
#[derive(Clone, Copy, Debug)]
struct TerminalFile {
    terminal: u32,
    is_master: bool,
}

/// The terminals of a test namespace.
#[derive(Debug, Default)]
pub(super) struct TerminalFiles {
    /// The numbers of the ptys on this machine, by the numbers in the program.
    ptys: BTreeMap<u32, u32>,
    files: BTreeMap<u32, TerminalFile>,
    last: u32,
}

impl TerminalFiles {
    /// The call with the number of the pty on this machine.
    pub fn on_this_machine(&self, call: &Syscall) -> Syscall {
        match call {
            Syscall::Open { path: TerminalPath::Pts(number), flags } => {
                // no pty has the number -1
                let number = self.ptys.get(number).copied().unwrap_or(u32::MAX);
                Syscall::Open { path: TerminalPath::Pts(number), flags: *flags }
            }
            call => call.clone(),
        }
    }

    /// Adds to a call what the agent needs to know: the number of the file that it opens, or the
    /// slave that it polls after a write to the master, so that the kernel has processed the input
    /// when the call returns (LD-19).
    pub fn complete(&self, call: &Syscall, raw: RawCall) -> io::Result<RawCall> {
        let too_many = || io::Error::new(io::ErrorKind::InvalidInput, "too many files");
        Ok(match call {
            Syscall::Open { .. } => {
                let file = Some(self.last + 1).filter(|file| *file < FILES);
                raw.op(Op::Open).last(file.ok_or_else(too_many)?.into())
            }
            Syscall::Write { file, .. } if self.is_master(*file) => {
                // poll ignores the descriptor -1
                let slave = self.slave_of_master(*file).map_or(u32::MAX, |slave| FILE_FD + slave);
                raw.op(Op::WriteMaster).last(slave.into())
            }
            _ => raw,
        })
    }

    fn is_master(&self, file: u32) -> bool {
        self.files.get(&file).is_some_and(|file| file.is_master)
    }

    /// An open file of the slave whose master that file is.
    fn slave_of_master(&self, master: u32) -> Option<u32> {
        let TerminalFile { terminal, is_master: true } = *self.files.get(&master)? else {
            return None;
        };
        let is_slave = |file: &TerminalFile| file.terminal == terminal && !file.is_master;
        self.files.iter().find(|(_, file)| is_slave(file)).map(|(number, _)| *number)
    }

    /// Records what a call has done, and returns its result with the numbers of the program.
    pub fn note(
        &mut self,
        call: &Syscall,
        result: syscall::Result,
        out: &[u64; OUTPUT_WORDS],
    ) -> syscall::Result {
        match (call, &result) {
            (Syscall::Open { path, .. }, Ok(_)) => {
                self.last += 1;
                let pty = out[0] as u32;
                let (terminal, is_master) = match path {
                    TerminalPath::Ptmx => (self.add(pty), true),
                    TerminalPath::Pts(number) => (*number, false),
                    TerminalPath::Tty => (self.number_of(pty).unwrap_or(0), false),
                };
                self.files.insert(self.last, TerminalFile { terminal, is_master });
            }
            (Syscall::Close(file), Ok(_)) => {
                let closed = self.files.remove(file);
                let is_of = |terminal| self.files.values().any(|file| file.terminal == terminal);
                if let Some(closed) = closed.filter(|closed| !is_of(closed.terminal)) {
                    self.ptys.remove(&closed.terminal);
                }
            }
            (Syscall::Ioctl { request: TerminalRequest::Tiocgptn, .. }, Ok(Ret::Stored(pty))) => {
                if let Some(number) = self.number_of(*pty as u32) {
                    return Ok(Ret::Stored(number as i32));
                }
            }
            _ => {}
        }
        result
    }

    /// Adds a pty under the lowest number that is free in the program (LD-188).
    fn add(&mut self, pty: u32) -> u32 {
        let taken = self.ptys.keys().zip(0..).take_while(|(number, nth)| *number == nth);
        let number = taken.count() as u32;
        self.ptys.insert(number, pty);
        number
    }

    fn number_of(&self, pty: u32) -> Option<u32> {
        self.ptys.iter().find(|(_, other)| **other == pty).map(|(number, _)| *number)
    }
}
