//! What was seen.

use std::collections::BTreeMap;

use crate::abi::{Pid, SigInfo, WaitStatus};
use crate::kernel::View;
use crate::syscall;

/// Something that an agent noted down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObservedEvent {
    /// A call returned, perhaps one of long ago.
    Returned {
        /// Whose: the thread's number.
        pid: Pid,
        /// What it gave.
        result: syscall::Result,
    },
    /// The body of a handler began.
    Handler {
        /// Whose: the thread's number.
        pid: Pid,
        /// What it was told.
        info: SigInfo,
    },
}

/// What happened between two moments of quiet, and how things stand at the second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observation {
    /// In the order in which they happened, over all threads. Calls that do not come back
    /// (exit, a successful rt_sigreturn) are not among them.
    pub events: Vec<ObservedEvent>,
    /// Threads that were created, in that order: a process begins with one of its own number.
    pub created_tasks: Vec<Pid>,
    /// Processes that ended, ascending, and how: zombies and those that are gone already. Of these
    /// the status is not known before Linux 6.15. A process ends with its last thread (TG-89).
    pub ended: Vec<(Pid, Option<WaitStatus>)>,
    /// The order in which they ended, of those that were alive when they were first looked at.
    pub order_of_ends: Vec<Pid>,
    /// Threads that are gone, ascending: a process's first with the process (reaped by somebody or
    /// by itself), any other when it ends (TG-86) or takes the first one's number (EXEC-12).
    pub gone: Vec<Pid>,
    /// How the first process ended, if it did: all others went with it (NS-08).
    pub init: Option<WaitStatus>,
    /// The threads that wait inside a handler, and in how many.
    pub in_handler: BTreeMap<Pid, u32>,
    /// Every thread that is not gone. A leader that others outlive is among them (TG-87).
    pub views: BTreeMap<Pid, View>,
}

impl Observation {
    /// Takes out what depends on how often the controller looked.
    pub(super) fn normalise(&mut self) {
        // several may have had one number: those stay in the order of their ends
        self.ended.sort_by_key(|(pid, _)| *pid);
        self.gone.sort_unstable();
    }

    /// The calls that returned.
    pub fn returned(&self) -> impl Iterator<Item = (Pid, &syscall::Result)> {
        self.events.iter().filter_map(|event| match event {
            ObservedEvent::Returned { pid, result } => Some((*pid, result)),
            ObservedEvent::Handler { .. } => None,
        })
    }

    /// The handlers that ran.
    pub fn handlers(&self) -> impl Iterator<Item = (Pid, &SigInfo)> {
        self.events.iter().filter_map(|event| match event {
            ObservedEvent::Handler { pid, info } => Some((*pid, info)),
            ObservedEvent::Returned { .. } => None,
        })
    }
}

/// The end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its number; several processes may have had it one after the other.
    pub pid: Pid,
    /// How it ended; `None` before Linux 6.15.
    pub status: Option<WaitStatus>,
    /// When.
    pub fate: ProcessEnd,
}

/// What had become of a process when its test namespace was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessEnd {
    /// It had ended and been reaped.
    Reaped,
    /// It had ended.
    Zombie,
    /// It was alive: its status is that of the closing.
    Alive,
}
