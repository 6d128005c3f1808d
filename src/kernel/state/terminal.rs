//! Terminals: their ptys and open files, and the links between terminals, sessions and processes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::{Errno, Pgid};
use crate::kernel::Kernel;
use crate::kernel::api::identity::PidId;
use crate::kernel::state::arena::Id;
use crate::kernel::state::group::{Group, Session};
use crate::kernel::state::process::Process;
use crate::kernel::state::task::Task;
use crate::syscall::open;
use crate::tty::{End, File, Pty};

/// The foreground group of a terminal. It keeps the pid object and not the number: another group
/// may have the number while TIOCGPGRP still reports it (PID-10, TTY-33).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Foreground {
    pub pid: PidId,
    pub number: Pgid,
}

/// A terminal: a pty, and the session that it controls.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Terminal {
    pub pty: Pty,
    session: Option<Id<Session>>,
    foreground: Option<Foreground>,
    /// The tasks that sleep in reads and writes of both ends, in the order in which they began.
    pub sleepers: Vec<Id<Task>>,
    /// The tasks whose writes to the master and to the slave are in progress: each end carries out
    /// one write at a time.
    pub writing: [Option<Id<Task>>; 2],
}

/// The place of an end in [`Terminal::writing`].
pub fn place_of(end: End) -> usize {
    match end {
        End::Master => 0,
        End::Slave => 1,
    }
}

/// An open file description of a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OpenFile {
    /// The number of the terminal.
    pub terminal: u32,
    pub file: File,
    /// Flags of open(2).
    pub flags: u32,
}

impl OpenFile {
    pub fn is_readable(&self) -> bool {
        self.flags & open::ACCMODE != open::WRONLY
    }

    pub fn is_writable(&self) -> bool {
        self.flags & open::ACCMODE != open::RDONLY
    }

    pub fn is_nonblocking(&self) -> bool {
        self.flags & open::NONBLOCK != 0
    }
}

/// The controlling terminal of a session. A process of the session has the terminal if the number
/// of its acquisition is that of the session: the processes lose it together in O(1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionTerminal {
    terminal: Option<u32>,
    acquisition: u32,
    /// The group that was in the foreground when the terminal was hung up (TTY-14).
    pub hung_up: Option<PidId>,
}

impl SessionTerminal {
    /// The number of the terminal.
    pub fn number(&self) -> Option<u32> {
        self.terminal
    }
}

/// The terminals of a model, and their open files.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Terminals {
    #[cfg_attr(feature = "serde", serde(with = "crate::kernel::api::snapshot::pairs"))]
    by_number: BTreeMap<u32, Terminal>,
    #[cfg_attr(feature = "serde", serde(with = "crate::kernel::api::snapshot::pairs"))]
    files: BTreeMap<u32, OpenFile>,
    last_file: u32,
}

impl Terminals {
    /// How many ptys the calls of processes may open (kernel.pty.max).
    pub const MAX: usize = 4096;

    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Opens a new pty under the lowest free number (LD-188). Returns the number of its master's
    /// file. O(terminals).
    pub fn create(&mut self, flags: u32) -> u32 {
        let taken = self.by_number.keys().zip(0..).take_while(|(number, nth)| *number == nth);
        let number = taken.count() as u32;
        let pty = Pty::new();
        let file = pty.master();
        let (session, foreground, sleepers, writing) = Default::default();
        self.by_number.insert(number, Terminal { pty, session, foreground, sleepers, writing });
        self.add_file(OpenFile { terminal: number, file, flags })
    }

    pub fn add_file(&mut self, file: OpenFile) -> u32 {
        self.last_file += 1;
        self.files.insert(self.last_file, file);
        self.last_file
    }

    /// The open file with that number; EBADF if there is none.
    pub fn file(&self, number: u32) -> Result<OpenFile, Errno> {
        self.files.get(&number).copied().ok_or(Errno::EBADF)
    }

    /// The open files, in the order of their numbers.
    pub fn files(&self) -> impl Iterator<Item = (u32, &OpenFile)> {
        self.files.iter().map(|(number, file)| (*number, file))
    }

    /// Closes a file. Its terminal ends with the last file (LD-188).
    pub fn close(&mut self, number: u32) -> Result<u32, Errno> {
        let OpenFile { terminal, file, .. } = self.files.remove(&number).ok_or(Errno::EBADF)?;
        if let Some(of) = self.by_number.get_mut(&terminal) {
            of.pty.close(file);
        }
        Ok(terminal)
    }

    /// Removes a terminal whose files are all closed.
    pub fn release(&mut self, number: u32) {
        if self.by_number.get(&number).is_some_and(|terminal| terminal.pty.is_closed()) {
            self.by_number.remove(&number);
        }
    }

    /// The terminals, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Terminal)> {
        self.by_number.iter().map(|(number, terminal)| (*number, terminal))
    }

    pub fn get(&self, number: u32) -> Option<&Terminal> {
        self.by_number.get(&number)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Terminal> {
        self.by_number.get_mut(&number)
    }
}

impl Kernel {
    /// The number of the controlling terminal of a process.
    pub(in crate::kernel) fn controlling_terminal(&self, process: Id<Process>) -> Option<u32> {
        let of_session = &self.sessions[self.session_of(process)].terminal;
        let has = self.processes[process].acquisition == of_session.acquisition;
        of_session.terminal.filter(|_| has)
    }

    /// The session that a terminal controls.
    pub(in crate::kernel) fn session_controlled_by(&self, terminal: u32) -> Option<Id<Session>> {
        self.terminals.as_ref()?.get(terminal)?.session
    }

    /// The foreground group of a terminal.
    pub(in crate::kernel) fn foreground(&self, terminal: u32) -> Option<Foreground> {
        self.terminals.as_ref()?.get(terminal)?.foreground
    }

    /// The foreground group of a terminal, if it has members.
    pub(in crate::kernel) fn group_in(&self, foreground: Option<PidId>) -> Option<Id<Group>> {
        self.pids[self.pids.resolve(foreground?)?].group()
    }

    pub(in crate::kernel) fn set_foreground(&mut self, terminal: u32, foreground: Foreground) {
        if let Some(terminal) = self.terminal_mut(terminal) {
            terminal.foreground = Some(foreground);
        }
    }

    pub(in crate::kernel) fn terminal_mut(&mut self, number: u32) -> Option<&mut Terminal> {
        self.terminals.as_mut()?.get_mut(number)
    }

    /// A terminal becomes the controlling terminal of a session leader, and the leader's group is
    /// in the foreground. Other processes of the session do not get it (`__proc_set_tty`).
    pub(in crate::kernel) fn acquire_terminal(&mut self, leader: Id<Process>, terminal: u32) {
        let session = self.session_of(leader);
        let group = self.processes[leader].group;
        let pid = self.pids.identity(self.groups[group].pid);
        let foreground = Foreground { pid, number: self.pgid_of(group) };
        let Some(own) = self.terminal_mut(terminal) else { return };
        (own.session, own.foreground) = (Some(session), Some(foreground));
        let of_session = &mut self.sessions[session].terminal;
        // 0 stands for a process that has none
        of_session.acquisition = of_session.acquisition.checked_add(1).unwrap_or(1);
        (of_session.terminal, of_session.hung_up) = (Some(terminal), None);
        self.processes[leader].acquisition = of_session.acquisition;
    }

    /// All processes of a session lose the terminal (`session_clear_tty`). The terminal is free, or
    /// another session gets it.
    pub(in crate::kernel) fn free_terminal(&mut self, session: Id<Session>) {
        let terminal = self.sessions[session].terminal.terminal.take();
        if let Some(terminal) = terminal.and_then(|terminal| self.terminal_mut(terminal)) {
            (terminal.session, terminal.foreground) = (None, None);
        }
    }

    /// One process loses its controlling terminal (`proc_clear_tty`).
    pub(in crate::kernel) fn leave_terminal(&mut self, process: Id<Process>) {
        self.processes[process].acquisition = 0;
    }
}
