//! A task: a thread, with the data that each thread of a process has for itself (task_struct).

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
use crate::tty::Read;

/// The state of a task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TaskState {
    /// It is in user mode or in a call, or it sleeps in a call.
    #[default]
    Running,
    /// It takes part in a stop of its process.
    Stopped,
    /// It has begun to end (PF_EXITING): it takes no signal and adopts no child any more.
    Exiting,
    /// A leader that has ended: it stays until the process is reaped (EXIT_ZOMBIE). Other threads
    /// may live on.
    Dead,
}

/// The activity of a task in the kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Sleep {
    /// None: the task is in user mode.
    #[default]
    None,
    /// wait4 or waitid.
    Wait(Box<WaitSleep>),
    /// pause.
    Pause,
    /// rt_sigsuspend; the mask of the call is in force, and `Task::saved_mask` has the old one.
    Suspend(Box<Syscall>),
    /// rt_sigtimedwait.
    Timed(Box<TimedSleep>),
    /// vfork, until that child execs or ends; the number of the child is the result.
    Vfork(Id<Task>, Pid),
    /// execve, until the other threads of the process have ended (EXEC-13).
    Exec,
    /// The end of the last thread of an init, until the namespace is empty (NS-08). `last` as in
    /// [`Sleep::Exiting`].
    Zap { last: bool },
    /// It ends and has released its memory; no process is notified yet. `last`: all other tasks of
    /// its process had begun to end before it.
    Exiting { last: bool },
    /// read, write, or TCSETSF of ioctl, of a terminal.
    Terminal(Box<TerminalSleep>),
    /// poll of terminals.
    Poll(Box<PollSleep>),
    /// None: the task is in user mode, and makes that call next.
    Calling(Box<Syscall>),
    /// The thread has entered the kernel with a call, and has not begun to carry it out (RACE-02).
    Entered(Box<Syscall>),
    /// A fork that has taken a number; no task has the number yet (RACE-09).
    Forking(Box<Forking>),
    /// A kill of several processes, between two of them (RACE-07).
    Killing(Box<Killing>),
    /// execve has released the old memory, and the process has no new program yet (RACE-06).
    Loading,
    /// It ends, and notifies its children, its parent and the waiting tasks (RACE-03).
    Notifying(Box<Notifying>),
    /// The leader of a process that leaves no zombie and is not removed yet (EXIT_DEAD, RACE-05);
    /// the rule requires the removal.
    Releasing(Rule),
    /// A call that a signal has interrupted; the first handler decides how it ends.
    Interrupted(Restart, Box<Syscall>),
    /// A call that is restarted, whichever handlers run before.
    Restarting(Box<Syscall>),
}

/// The children that a wait selects: as the call names them, at the time when it began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WaitSelector {
    /// All children.
    Any,
    /// The process with this pid object: a later process with the number is not selected.
    /// `None` if no process had the number when the wait began.
    Pid(Option<PidId>),
    /// The children in the group with this pid object.
    Pgid(Option<PidId>),
}

/// A blocked wait.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WaitSleep {
    /// The call, for a restart.
    pub call: Syscall,
    /// Its selector; the group of the caller is that of the time of the call (WAIT-17).
    pub selector: WaitSelector,
    /// Its options, including those that the call implies.
    pub options: WaitOptions,
    /// Its order among the waits of the process: the wait that began last is woken first (TG-140).
    pub order: u64,
}

/// A blocked rt_sigtimedwait.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimedSleep {
    /// The signals to take.
    pub set: SigSet,
    /// The mask after the call; during the call the signals in `set` are unblocked (SIG-54).
    pub real_blocked: SigSet,
    /// The end of its timeout.
    pub deadline: Option<Time>,
    /// The destination of the siginfo.
    pub info: Ptr,
}

/// A blocked poll.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PollSleep {
    /// The call, with the files.
    pub call: Syscall,
    /// The end of its timeout.
    pub deadline: Option<Time>,
    /// The numbers of the terminals that have the task among their sleepers.
    pub terminals: Vec<u32>,
}

/// The checked arguments of a new process or thread.
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
    /// The arguments.
    pub plan: Plan,
    /// The `over_nproc` of the caller, which the child copies.
    pub over_nproc: bool,
    /// The signals that were sent to several processes, the caller's among them, since the number
    /// was taken: the child receives them as well.
    pub delayed: SigSet,
}

/// A kill of several processes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Killing {
    /// The targets that are left, the next one last.
    pub targets: Vec<Id<Process>>,
    /// The siginfo; `None` for signal 0.
    pub info: Option<SigInfo>,
    /// The kill is for all processes, so that EPERM is ignored (KILL-10).
    pub to_all: bool,
    /// The result so far.
    pub outcome: Result<(), Errno>,
}

/// The part of an exit in which the kernel notifies other tasks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Notifying {
    /// As in [`Sleep::Exiting`].
    pub last: bool,
    /// The adopter of the children; `None` if it is outside of the model.
    pub reaper: Option<Id<Task>>,
    /// The children that still have this task as their parent, the next one last.
    pub children: Vec<Id<Process>>,
    /// The children that leave no zombie, each with the rule that says so.
    pub unwanted: Vec<(Id<Process>, Rule)>,
}

/// A call on a terminal that waits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TerminalSleep {
    /// The number of the terminal.
    pub terminal: u32,
    pub call: Syscall,
    pub wait: TerminalWait,
}

/// What a call on a terminal waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TerminalWait {
    /// read(2): for input, or for the end of another read.
    Read(Read),
    /// write(2): for room, or for the end of another write. The number of bytes that are written;
    /// `None` if the write waits for its turn.
    Write(Option<usize>),
    /// A call of an init in the background, which the kernel restarts again and again: for a change
    /// of the terminal.
    Background,
    /// TIOCVHANGUP of ioctl(2): until others have left their calls.
    HangUp,
    /// TCSETSF of ioctl(2): for the end of a write.
    Settings,
}

impl TerminalSleep {
    /// When the call ends at the latest: the end of VTIME.
    pub fn deadline(&self) -> Option<Time> {
        match &self.wait {
            TerminalWait::Read(read) => read.deadline(),
            _ => None,
        }
    }
}

/// The effect of the return of a handler.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Resume {
    /// The task continues where it was.
    Same,
    /// The call at whose end the handler was entered has this result.
    Finish(Box<syscall::Result>),
    /// The interrupted call fails.
    Fail(Errno),
    /// The interrupted call is restarted.
    Restart(Box<Syscall>),
}

/// A handler that was entered and has not returned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Frame {
    /// The siginfo of its signal.
    pub info: SigInfo,
    /// Its address.
    pub handler: u64,
    /// Its body has begun: the handlers that were set up after it have returned (SIG-36).
    pub begun: bool,
    /// The mask after its return.
    pub mask: SigSet,
    /// The continuation after its return.
    pub resume: Resume,
}

/// The identity of a task. It never refers to another task, also if another task gets the number:
/// the identity of a task that has ended is refused. execve(2) by a thread that is not the leader
/// changes the number of the thread, and not its identity (EXEC-12).
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
    /// The pid object of the task, which refers back to the task.
    pub pid: Id<PidObject>,
    pub process: Id<Process>,
    /// Neighbours among the tasks of its process (TG-32).
    pub links: Links<Task>,
    pub state: TaskState,
    pub mask: SigSet,
    /// The mask that rt_sigsuspend replaced, until a handler or the end of delivery restores it.
    /// Boxed, because it is rarely set.
    pub saved_mask: Option<Box<SigSet>>,
    /// Pending for this task alone (SIG-22).
    pub pending: Pending,
    pub sleep: Sleep,
    /// The handlers that the task is in, the innermost last.
    pub frames: SmallList<Frame>,
    pub cred: Cred,
    pub pdeath_signal: Option<Signal>,
    /// The result of its call until the task is back in user mode: it delivers signals first, or is
    /// stopped.
    pub result: Option<Box<syscall::Result>>,
    /// The children that the task created or adopted (WAIT-32); `None` until it has had one.
    pub children: Option<Box<Children>>,
    /// Umask and working directory, if they are not the process's (a thread without CLONE_FS).
    pub own_fs: Option<Box<Fs>>,
    /// The task that sleeps until this one execs or ends (FORK-28). It may be gone, and a task that
    /// does not sleep for this one may be in its place.
    pub vfork_waiter: Option<Id<Task>>,
    /// The address at which 0 is stored when the task ends (CLONE_CHILD_CLEARTID); 0 for none.
    pub clear_child_tid: u64,
    /// The signal-pending flag (TIF_SIGPENDING).
    pub signal_pending: bool,
    /// The task stopped during the delivery of its signals, and continues the delivery when it runs
    /// (TG-63).
    pub delivering: bool,
    /// The task has to take part in the stop of its process (JOBCTL_STOP_PENDING).
    pub stop_pending: bool,
    /// The task stopped as the last one of its process, and the parent is not notified yet
    /// (RACE-04).
    pub notifying_stop: bool,
    /// A set*uid call left its user over RLIMIT_NPROC (LIM-05).
    pub over_nproc: bool,
    /// The task is in the run queue.
    pub queued: bool,
}

// A further thread of a process takes no more, except for its number.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Task>() <= 144, "a task has grown");

impl Task {
    /// A task of that process in user mode, in no handler, with an empty mask.
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
            notifying_stop: false,
            over_nproc: false,
            queued: false,
        }
    }

    /// Whether the task blocks `signal`, also if its rt_sigtimedwait has unblocked it for the time
    /// of the call. An ignored signal is kept if this is true (SIG-52).
    pub fn blocks(&self, signal: Signal) -> bool {
        self.mask.contains(signal) || self.real_blocks(signal)
    }

    /// Whether only the present rt_sigtimedwait of the task unblocks `signal` (SIG-55).
    pub fn real_blocks(&self, signal: Signal) -> bool {
        matches!(&self.sleep, Sleep::Timed(timed) if timed.real_blocked.contains(signal))
    }

    /// Whether the task has not begun to end.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Stopped)
    }

    /// Whether the task has ended and stays as the leader of its process.
    pub fn is_dead(&self) -> bool {
        self.state == TaskState::Dead
    }

    /// Whether the task is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state == TaskState::Stopped
    }
}
