//! The inputs of the model, and their outcomes.

use core::fmt;

use crate::abi::{Pid, Signal, Time};
use crate::syscall::{self, Syscall};

/// The input of one transition. Every event is applied completely: the effects have its
/// consequences in order, and [`Kernel::runnable`] has the tasks that have a step to make because
/// of it.
///
/// [`Kernel::runnable`]: crate::kernel::Kernel::runnable
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// The thread makes a system call.
    Call {
        /// The calling thread.
        tid: Pid,
        /// The call.
        call: Syscall,
    },
    /// The thread enters the kernel with a system call, and carries it out in a step of its own:
    /// each of the tasks that have entered may be first.
    Enter {
        /// The calling thread.
        tid: Pid,
        /// The call.
        call: Syscall,
    },
    /// A runnable thread runs until it is back in user mode, sleeps, stops or ends.
    Step {
        /// The thread.
        tid: Pid,
    },
    /// The time advances to this moment; timers expire in order.
    Advance(Time),
    /// The hardware raises a fault in the thread.
    Fault {
        /// The thread.
        tid: Pid,
        /// SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP or SIGSYS.
        signal: Signal,
    },
}

/// The result of an event for the task that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The call returned. The thread may have signals to deliver before it sees the result.
    Returned(syscall::Result),
    /// The call sleeps; a `Returned` effect follows when it returns.
    Blocked,
    /// The thread does not return from the call.
    Gone,
    /// The event was no call.
    Done,
}

/// The reason why an event cannot happen in the present state. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no living thread of that number.
    NoSuchTask(Pid),
    /// The thread is not in user mode: it sleeps in a call, is stopped, or has to end.
    NotInUserMode(Pid),
    /// The thread has no step to make.
    NotRunnable(Pid),
    /// Time does not go back.
    TimeWentBack,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoSuchTask(tid) => write!(f, "there is no living task {tid}"),
            Refused::NotInUserMode(tid) => write!(f, "task {tid} is not in user mode"),
            Refused::NotRunnable(tid) => write!(f, "task {tid} has no step to make"),
            Refused::TimeWentBack => write!(f, "time does not go back"),
        }
    }
}

impl core::error::Error for Refused {}
