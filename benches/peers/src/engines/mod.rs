//! The engines behind one trait.

pub mod facade;
pub mod ours;
mod peer;

peer::table!(agentos, agentos_kernel);
peer::table!(secure, secure_exec_kernel);

/// The number of children of a shell.
pub const CHILDREN: usize = 8;
/// The number of processes of a job: a shell and its children.
pub const JOB: usize = CHILDREN + 1;

/// Uses a result in place: `black_box` by value would copy it once more.
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
    /// The same in that many threads at once.
    Churn(usize),
    JoinGroup,
    Getpgid,
    GetpgidEnv,
    List,
    /// An exit and its wait in one thread, while that many threads sleep in waits for other
    /// children.
    ExitBeside(usize),
    /// From an exit to the return of the wait that it ends, of that many that sleep.
    ExitToReturn(usize),
    /// The same if all of them wait for any child.
    ExitToAny(usize),
}

impl Op {
    /// The same operation with one waiter, for an operation with many.
    pub fn alone(self) -> Option<Op> {
        match self {
            Op::ExitBeside(2..) => Some(Op::ExitBeside(1)),
            Op::ExitToReturn(2..) | Op::ExitToAny(_) => Some(Op::ExitToReturn(1)),
            _ => None,
        }
    }
}

/// An engine with its processes. `job` is the index of a job, `child` of one of its children.
pub trait Engine {
    /// The name of its column.
    fn name(&self) -> &'static str;

    /// Prepares `run`; not timed.
    fn before(&mut self, op: Op, job: usize);

    /// Performs the operation; timed.
    fn run(&mut self, op: Op, job: usize, child: usize);

    /// Restores the state; not timed.
    fn after(&mut self, op: Op, job: usize);

    /// The engine for several threads; `None` if it has no lock.
    fn concurrent(&self) -> Option<&dyn Concurrent>;

    /// Checks that an operation has its intended effect, on new processes; panics if not.
    fn check(&mut self);
}

/// An engine that threads share.
pub trait Concurrent: Sync {
    /// A child of the shell is spawned, exits, and is waited for.
    fn churn(&self, job: usize);

    /// Spawns a child of the shell.
    fn spawn(&self, job: usize) -> u32;

    /// A child exits.
    fn exit(&self, pid: u32);

    /// The shell reaps a child, without and with sleeping.
    fn reap(&self, job: usize, pid: u32);
    fn wait(&self, job: usize, pid: u32);

    /// The shell waits for any child, with sleeping.
    fn wait_for_any(&self, job: usize);
}
