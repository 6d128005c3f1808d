//! A task: a thread, with what each thread of a process has for itself (the kernel's task_struct).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::abi::{Errno, Pid, SigInfo, SigSet, Signal, Time, WaitOptions};
use crate::kernel::api::effect::Restart;
use crate::kernel::api::identity::PidId;
use crate::kernel::api::rule::Rule;
use crate::kernel::state::arena::{Handle, Id};
use crate::kernel::state::children::Children;
use crate::kernel::state::cred::Cred;
use crate::kernel::state::list::{Linked, Links};
use crate::kernel::state::pending::Pending;
use crate::kernel::state::pid::PidObject;
use crate::kernel::state::process::{Fs, Process};
use crate::kernel::state::small_list::SmallList;
use crate::syscall::{self, Ptr, Syscall};

/// Whether a task runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TaskState {
    /// It runs its own code, or a call; or it sleeps in one.
    #[default]
    Running,
    /// It takes part in a stop of its process.
    Stopped,
    /// It has begun to end (PF_EXITING): it takes no signal and adopts nobody any more.
    Exiting,
    /// A leader that has ended: it is kept until the process is reaped (EXIT_ZOMBIE). Other threads
    /// may live on.
    Dead,
}

/// What a task does in the kernel, if anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Sleep {
    /// Nothing: it runs its own code.
    #[default]
    None,
    /// wait4 or waitid.
    Wait(Box<WaitSleep>),
    /// pause.
    Pause,
    /// rt_sigsuspend; the call's mask is in force, `Thread::saved_mask` has the old one.
    Suspend(Box<Syscall>),
    /// rt_sigtimedwait.
    Timed(Box<TimedSleep>),
    /// vfork: until that child execs or ends; its number is the result.
    Vfork(Id<Task>, Pid),
    /// execve: until the other threads of the process have ended (EXEC-13).
    Exec,
    /// The last thread of an init has ended: until the namespace is empty (NS-08). `last` as in
    /// [`Sleep::Exiting`].
    Zap { last: bool },
    /// It ends, and has let go of its memory; nobody has been told yet. `last`: all other tasks of
    /// its process had begun to end before it.
    Exiting { last: bool },
    /// Nothing: it runs its own code, and makes that call next.
    Calling(Box<Syscall>),
    /// The thread has entered the kernel with a call, and not begun to carry it out (RACE-02).
    Entered(Box<Syscall>),
    /// fork and its relatives have taken a number, and nobody has it yet (RACE-09).
    Forking(Box<Forking>),
    /// kill of several processes, between two of them (RACE-07).
    Killing(Box<Killing>),
    /// execve has let go of the old memory, and not made the process another program (RACE-06).
    Loading,
    /// It ends, and tells its children, its parent and those who wait (RACE-03).
    Notifying(Box<Notifying>),
    /// A process that nobody waits for is still there (EXIT_DEAD, RACE-05); by that rule it goes.
    Releasing(Rule),
    /// A call that a signal has interrupted and whose fate the first handler decides.
    Interrupted(Restart, Box<Syscall>),
    /// A call that will be made again, whatever handlers run before.
    Restarting(Box<Syscall>),
}

/// The children that a wait selects: as the call names them, at the time when it began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WaitSelector {
    /// All children.
    Any,
    /// The process that has this pid object: a process that has the number later is another one.
    /// `None` if the number was nobody's when the wait began.
    Pid(Option<PidId>),
    /// Those in the group that has this pid object.
    Pgid(Option<PidId>),
}

/// A blocked wait.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WaitSleep {
    /// The call, for a restart.
    pub call: Syscall,
    /// Its selector, the caller's group sampled at the call (WAIT-17).
    pub selector: WaitSelector,
    /// Its options, those that the call implies included.
    pub options: WaitOptions,
    /// Its place among the waits of the process: the one that began last is woken first (TG-140).
    pub order: u64,
}

/// A blocked rt_sigtimedwait.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimedSleep {
    /// The signals to take.
    pub set: SigSet,
    /// The mask to go back to; the signals in `set` are unblocked meanwhile (SIG-54).
    pub real_blocked: SigSet,
    /// When it gives up.
    pub deadline: Option<Time>,
    /// Where the siginfo goes.
    pub info: Ptr,
}

/// A new process or thread, of flags that are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Plan {
    pub flags: u64,
    pub exit_signal: u8,
    /// Where 0 is stored when the child ends.
    pub clear_child_tid: u64,
}

/// A fork that has taken a number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Forking {
    /// The pid object, which names nothing yet.
    pub pid: Id<PidObject>,
    /// What it makes.
    pub plan: Plan,
    /// The caller's `over_nproc`, which the child is a copy of.
    pub over_nproc: bool,
    /// What was sent to several processes meanwhile, among them the caller's: it is for the child,
    /// too.
    pub delayed: SigSet,
}

/// A kill of several processes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Killing {
    /// Those that it has not come to, the next one last.
    pub targets: Vec<Id<Process>>,
    /// What they are sent; nothing for signal 0.
    pub info: Option<SigInfo>,
    /// It is to everybody, and a refusal is forgotten (KILL-10).
    pub everybody: bool,
    /// What it has come to so far.
    pub outcome: Result<(), Errno>,
}

/// The part of an exit in which others are told of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Notifying {
    /// As in [`Sleep::Exiting`].
    pub last: bool,
    /// Who adopts the children; nobody in the model if there is none.
    pub reaper: Option<Id<Task>>,
    /// The children that have not been given away, the next one last.
    pub children: Vec<Id<Process>>,
    /// Those that nobody wants as zombies, each with the rule that says so.
    pub unwanted: Vec<(Id<Process>, Rule)>,
}

/// What happens when a handler returns.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Resume {
    /// The task goes on where it was.
    Same,
    /// The call at whose end the handler was entered has this result.
    Finish(Box<syscall::Result>),
    /// The interrupted call fails.
    Fail(Errno),
    /// The interrupted call is made again.
    Restart(Box<Syscall>),
}

/// A handler that was entered and has not returned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Frame {
    /// What it was entered for.
    pub info: SigInfo,
    /// Its address.
    pub handler: u64,
    /// Its body has begun: those set up after it have returned (SIG-36).
    pub begun: bool,
    /// The mask to go back to.
    pub mask: SigSet,
    /// How the task goes on.
    pub resume: Resume,
}

/// The identity of a task. It is never another's, also when the number of the task is: one that has
/// ended is refused. execve(2) by another thread than the leader changes the number, and not the
/// identity (EXEC-12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TaskId(pub(in crate::kernel) Handle<Task>);

/// The tasks of a process.
pub enum Threads {}

impl Linked for Threads {
    type Element = Task;

    fn links(task: &Task) -> &Links<Task> {
        &task.links
    }

    fn links_mut(task: &mut Task) -> &mut Links<Task> {
        &mut task.links
    }
}

/// One task.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Task {
    /// Its number, which that leads back to it from.
    pub pid: Id<PidObject>,
    pub process: Id<Process>,
    /// Neighbours among the tasks of its process (TG-32).
    pub links: Links<Task>,
    pub state: TaskState,
    pub mask: SigSet,
    /// The mask that rt_sigsuspend replaced, until a handler or the end of delivery restores it.
    /// Boxed, because it is rarely there.
    pub saved_mask: Option<Box<SigSet>>,
    /// Pending for this task alone (SIG-22).
    pub pending: Pending,
    pub sleep: Sleep,
    /// The handlers it is in, the innermost last.
    pub frames: SmallList<Frame>,
    pub cred: Cred,
    pub pdeath_signal: Option<Signal>,
    /// The result of its call, while it is not back in its own code: it has signals to deliver
    /// first, or is stopped.
    pub result: Option<Box<syscall::Result>>,
    /// The children that it created or adopted (WAIT-32); `None` until it has had one.
    pub children: Option<Box<Children>>,
    /// Umask and working directory, where they are not the process's (a thread without CLONE_FS).
    pub own_fs: Option<Box<Fs>>,
    /// The task that sleeps until this one execs or ends (FORK-28). It may be gone, and its place
    /// be another's, which then does not sleep for this one.
    pub vfork_waiter: Option<Id<Task>>,
    /// Where 0 is stored when it ends (CLONE_CHILD_CLEARTID); 0 for nowhere.
    pub clear_child_tid: u64,
    /// It was told to look at its pending signals (the kernel's TIF_SIGPENDING).
    pub signal_pending: bool,
    /// It stopped while it looked at its pending signals, and goes on with that when it runs
    /// (TG-63).
    pub delivering: bool,
    /// It has to take part in the stop of its process (JOBCTL_STOP_PENDING).
    pub stop_pending: bool,
    /// It has stopped as the last one of its process, and the parent is not told yet (RACE-04).
    pub announcing_stop: bool,
    /// A set*uid left its user over RLIMIT_NPROC (LIM-05).
    pub over_nproc: bool,
    /// It stands in the run queue.
    pub queued: bool,
}

// A further thread of a process takes no more, besides its number.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Task>() <= 144, "a task has grown");

impl Task {
    /// A task of that process that runs its own code, in no handler, with an empty mask.
    pub fn new(pid: Id<PidObject>, process: Id<Process>, cred: Cred) -> Task {
        Task {
            pid,
            process,
            links: Links::default(),
            state: TaskState::Running,
            mask: SigSet::EMPTY,
            saved_mask: None,
            pending: Pending::default(),
            sleep: Sleep::None,
            frames: SmallList::new(),
            cred,
            pdeath_signal: None,
            result: None,
            children: None,
            own_fs: None,
            vfork_waiter: None,
            clear_child_tid: 0,
            signal_pending: false,
            delivering: false,
            stop_pending: false,
            announcing_stop: false,
            over_nproc: false,
            queued: false,
        }
    }

    /// The mask that decides whether a signal is kept although it is ignored (SIG-52): what the
    /// task blocks, also where rt_sigtimedwait has unblocked it for the moment.
    pub fn blocks(&self, signal: Signal) -> bool {
        self.mask.contains(signal) || self.real_blocks(signal)
    }

    /// Whether `signal` is blocked but for a rt_sigtimedwait (SIG-55).
    pub fn real_blocks(&self, signal: Signal) -> bool {
        matches!(&self.sleep, Sleep::Timed(timed) if timed.real_blocked.contains(signal))
    }

    /// Whether it has not begun to end.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Stopped)
    }

    /// Whether it has ended and is kept as the leader of its process.
    pub fn is_dead(&self) -> bool {
        self.state == TaskState::Dead
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state == TaskState::Stopped
    }
}
