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
    /// That many nanoseconds pass.
    Elapse(u64),
}

/// One step of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The task that acts; of no meaning when time passes.
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
