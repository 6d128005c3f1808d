//! The observation of a step.

use std::collections::BTreeMap;

use crate::abi::{Pid, SigInfo, WaitStatus};
use crate::kernel::View;
use crate::syscall;

/// An event that an agent recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObservedEvent {
    /// A call returned. It may have begun in an earlier step.
    Returned {
        /// The number of the calling thread.
        pid: Pid,
        /// Its result.
        result: syscall::Result,
    },
    /// The body of a handler began.
    Handler {
        /// The number of the thread.
        pid: Pid,
        /// The siginfo that the handler received.
        info: SigInfo,
    },
}

/// The events between two quiescent moments, and the state at the second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observation {
    /// The events in the order in which they happened, over all threads. Calls that do not return
    /// (exit, a successful rt_sigreturn) are not included.
    pub events: Vec<ObservedEvent>,
    /// The created threads, in the order of their creation. A process begins with a thread of its
    /// own number.
    pub created_tasks: Vec<Pid>,
    /// The processes that ended, ascending, with their status: zombies, and processes that are
    /// reaped already. The status of the latter is not known before Linux 6.15. A process ends with
    /// its last thread (TG-89).
    pub ended: Vec<(Pid, Option<WaitStatus>)>,
    /// The processes in the order of their ends, without those that ended before the controller
    /// could watch them.
    pub order_of_ends: Vec<Pid>,
    /// The threads that do not exist any more, ascending: the leader of a process is released when
    /// the process is reaped, by its parent or by itself; any other thread when it ends (TG-86) or
    /// takes the leader's number (EXEC-12).
    pub gone: Vec<Pid>,
    /// How the first process ended, if it has ended: all others ended with it (NS-08).
    pub init: Option<WaitStatus>,
    /// The threads that wait inside of handlers, and the number of those handlers.
    pub in_handler: BTreeMap<Pid, u32>,
    /// Every existing thread, zombie leaders included (TG-87).
    pub views: BTreeMap<Pid, View>,
}

impl Observation {
    /// Removes what depends on the number of samples that the controller took.
    pub(super) fn normalise(&mut self) {
        // a stable sort: several processes of one number stay in the order of their ends
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
    /// The number of the process; several processes may have had it one after the other.
    pub pid: Pid,
    /// How the process ended; `None` before Linux 6.15.
    pub status: Option<WaitStatus>,
    /// Its state when the test namespace was closed.
    pub end: ProcessEnd,
}

/// The state of a process when its test namespace was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessEnd {
    /// The process had ended and been reaped.
    Reaped,
    /// The process had ended.
    Zombie,
    /// The process was alive: its status is that of the closing.
    Alive,
}
