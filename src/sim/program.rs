//! Programs.

use alloc::vec::Vec;

use crate::abi::Pid;
use crate::kernel::Config;
use crate::syscall::Syscall;

/// The action of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A task makes a call.
    Call(Syscall),
    /// Several tasks enter the kernel at the same time, each with its call.
    Concurrent(Vec<(Pid, Syscall)>),
    /// The time advances by that many nanoseconds.
    Elapse(u64),
}

impl Action {
    /// The calls of the step, which `tid` makes if there is only one.
    pub fn calls(&self, tid: Pid) -> impl Iterator<Item = (Pid, &Syscall)> + Clone {
        let (one, several) = match self {
            Action::Call(call) => (Some((tid, call)), &[][..]),
            Action::Concurrent(calls) => (None, &calls[..]),
            Action::Elapse(_) => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().map(|(tid, call)| (*tid, call)))
    }
}

/// One step of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The task that makes the call; without meaning if several tasks do, or time advances.
    pub tid: Pid,
    /// Its action.
    pub action: Action,
}

/// A sequence of steps: a step begins when no task is runnable after the step before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The configuration of the model at the beginning.
    pub config: Config,
    /// Handlers stay entered until the program calls rt_sigreturn; if false, they return at once.
    pub stay_in_handlers: bool,
    /// The steps. A step whose task cannot make a call then is skipped.
    pub steps: Vec<Step>,
}
