//! Programs.

use alloc::vec::Vec;

use crate::abi::Pid;
use crate::kernel::Config;
use crate::syscall::Syscall;

/// What a step does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A task makes a call.
    Call(Syscall),
    /// Several tasks enter the kernel at the same time, each with its call.
    Concurrent(Vec<(Pid, Syscall)>),
    /// That many nanoseconds pass.
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
    /// The task that acts; of no meaning when several do, or time passes.
    pub tid: Pid,
    /// What it does.
    pub action: Action,
}

/// Steps, one after the other: the next is taken when nothing moves any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The world at the beginning.
    pub config: Config,
    /// Handlers stay entered until the program calls rt_sigreturn; otherwise they return at once.
    pub stay_in_handlers: bool,
    /// The steps. One whose task cannot act then is skipped.
    pub steps: Vec<Step>,
}
