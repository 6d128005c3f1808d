//! What can happen to the model from outside, and what comes of it.

use core::fmt;

use crate::abi::{Pid, Signal, Time};
use crate::syscall::{self, Syscall};

/// One transition. Every event is applied completely: its consequences are in the effects, in
/// order, and what other tasks will do because of it stands in [`Kernel::runnable`].
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
    /// The thread enters the kernel with a system call, which is carried out in a step of the
    /// thread: of the tasks that have entered each may be first.
    Enter {
        /// The calling thread.
        tid: Pid,
        /// The call.
        call: Syscall,
    },
    /// A runnable thread runs until it is back in its own code, sleeps, stops or ends.
    Step {
        /// The thread.
        tid: Pid,
    },
    /// Time passes until then; timers expire in order.
    Advance(Time),
    /// The thread does something that the hardware refuses.
    Fault {
        /// The thread.
        tid: Pid,
        /// SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP or SIGSYS.
        signal: Signal,
    },
}

/// What an event did for the task that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The call returned. Signals may be waiting to be delivered before the thread sees it.
    Returned(syscall::Result),
    /// The call sleeps; a `Returned` effect follows some day.
    Blocked,
    /// The thread does not return from the call.
    Gone,
    /// The event was no call.
    Done,
}

/// An event that cannot happen in the present state. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no living thread of that number.
    NoSuchTask(Pid),
    /// The thread runs no code of its own now: it sleeps in a call, is stopped, or has to end.
    NotInUserMode(Pid),
    /// The thread has nothing to do by itself.
    NotRunnable(Pid),
    /// Time does not go back.
    TimeWentBack,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoSuchTask(tid) => write!(f, "there is no living task {tid}"),
            Refused::NotInUserMode(tid) => write!(f, "task {tid} runs no code of its own now"),
            Refused::NotRunnable(tid) => write!(f, "task {tid} has nothing to do by itself"),
            Refused::TimeWentBack => write!(f, "time does not go back"),
        }
    }
}

impl core::error::Error for Refused {}
