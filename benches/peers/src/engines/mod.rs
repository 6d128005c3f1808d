//! The engines behind one trait.

pub mod ours;
mod peer;

peer::table!(agentos, agentos_kernel);
peer::table!(secure, secure_exec_kernel);

/// Children of a shell.
pub const CHILDREN: usize = 8;
/// Processes of a job: a shell and its children.
pub const JOB: usize = CHILDREN + 1;

/// Uses a result where it stands: `black_box` by value would copy it once more.
#[inline(always)]
fn look<T>(result: T) {
    std::hint::black_box(&result);
}

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Fork,
    Probe,
    KillGroup,
    KillGroupDelivered,
    WaitNone,
    ExitWait,
    SpawnExitReap,
    JoinGroup,
    Getpgid,
    GetpgidEnv,
    List,
}

/// An engine with its world. `job` names a job, `child` one of its children.
pub trait Engine {
    /// Its column.
    fn name(&self) -> &'static str;

    /// Makes ready what `run` needs; not timed.
    fn before(&mut self, op: Op, job: usize);

    /// The operation; timed.
    fn run(&mut self, op: Op, job: usize, child: usize);

    /// Restores the world; not timed.
    fn after(&mut self, op: Op, job: usize);

    /// Checks that an operation did what it is there for, on a fresh world; panics if not.
    fn check(&mut self);
}
