//! A process: a thread group and what its threads share.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::abi::{Pid, Signal, WaitStatus};
use crate::kernel::state::arena::Id;
use crate::kernel::state::children::Report;
use crate::kernel::state::group::Group;
use crate::kernel::state::limit::Limits;
use crate::kernel::state::list::{Linked, Links, List};
use crate::kernel::state::pending::Pending;
use crate::kernel::state::pid::PidObject;
use crate::kernel::state::sighand::Sighand;
use crate::kernel::state::task::{Task, Threads};
use crate::kernel::state::timer::Itimer;

/// Whether a process lives, and the event that its parent can still wait for.
///
/// One value, so that a stopped zombie cannot be expressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Life {
    /// It lives.
    Alive(JobControl),
    /// It has to end with that status as soon as it runs: its earlier event is lost (EXIT-12,
    /// WAIT-22), and signals to it are dropped from now on (EXIT-13).
    Dying(WaitStatus),
    /// It is dead and not reaped.
    Zombie(WaitStatus),
}

/// Job control state: there is at most one event to report (WAIT-26).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum JobControl {
    /// It runs, and has no event to report.
    Running,
    /// It is stopped.
    Stopped {
        /// By this signal (WAIT-29).
        signal: Signal,
        /// A wait has not consumed the stop yet (WAIT-24).
        unreported: bool,
    },
    /// It runs since SIGCONT was generated.
    Continued {
        /// A wait has not consumed the continue yet (WAIT-25).
        unreported: bool,
        /// The notification of the parent when the process runs next (WAIT-38).
        unsent: Option<ParentNotification>,
    },
}

/// The notification of the parent of a process that continues.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ParentNotification {
    /// CLD_CONTINUED.
    Continued,
    /// CLD_STOPPED with a status of 0: the stop was not complete when SIGCONT came (JOB-13).
    Stopped,
}

/// The data of a process with several threads: the part of the kernel's signal_struct that a
/// process with one thread does not need.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ThreadGroup {
    /// The tasks that are left: the leader, then the others in the order of creation (TG-32).
    pub list: List<Threads>,
    /// Where the search for a task that takes a signal of the process begins (curr_target, TG-28).
    pub current_target: Id<Task>,
    /// How many tasks there are, a dead leader included.
    pub tasks: u32,
    /// How many tasks have not begun to end.
    pub living: u32,
    /// How many tasks have not stopped yet, while the process stops (group_stop_count).
    pub stopping: u32,
    /// The signal of that stop.
    pub stop_signal: Option<Signal>,
    /// The task that executes a program, while the others end (group_exec_task).
    pub exec: Option<Id<Task>>,
    /// The status with which the leader began to end, if the process has had other threads. The
    /// leader shows it where it does not show the status of the process (TG-89, TG-97, WAIT-33).
    pub leader_status: Option<WaitStatus>,
    /// The task that has written the core of the process: the other tasks end without the core flag
    /// (TG-77).
    pub dumper: Option<Id<Task>>,
    /// How many waits have begun; the number of a wait decides the order of wake-ups (TG-140).
    pub waits: u64,
}

/// One process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Process {
    pub life: Life,
    /// Its identity, and its number (PIDTYPE_TGID).
    pub pid: Id<PidObject>,
    /// The task that created or adopted the process. `None` if the parent is not visible: then
    /// `outside` is the number that getppid shows.
    pub parent: Option<Id<Task>>,
    pub outside: Pid,
    pub group: Id<Group>,
    /// Neighbours among the group's members.
    pub group_links: Links<Process>,
    /// Neighbours among all processes, in the order of creation.
    pub all_links: Links<Process>,
    /// Neighbours among the parent's children.
    pub sibling_links: Links<Process>,
    /// Its place among the parent's children; a lower one is earlier.
    pub order: u64,
    /// The report of the process in the index of its parent.
    pub report: Option<Report>,
    /// The signal to the parent at the end; 0 and invalid numbers send none.
    pub exit_signal: u8,
    pub sighand: Id<Sighand>,
    pub shared: Pending,
    pub inherited: Arc<Inherited>,
    pub itimer: Option<Box<Itimer>>,
    /// How many times the process has exec'd, and its parent had when it was created (EXEC-09).
    pub exec_count: u32,
    pub parent_exec_count: u32,
    /// Whether it has the terminal of its session: see `SessionTerminal`. 0 if it has none.
    pub acquisition: u32,
    pub flags: Flags,
    /// The first thread, or the thread that executed the present program. It exists until the
    /// process is reaped.
    pub leader: Id<Task>,
    /// The data of several threads; `None` if the process has had one thread only.
    pub threads: Option<Box<ThreadGroup>>,
}

// With its number, its dispositions, and its share of its group and of its parent's children a
// process takes at most 300 bytes: see benches/peers.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Process>() <= 144, "a process has grown");

/// The members of a group.
pub enum Members {}

/// All processes.
pub enum All {}

/// The children of a task.
pub enum Siblings {}

impl Linked for Members {
    type Element = Process;

    fn links(process: &Process) -> &Links<Process> {
        &process.group_links
    }

    fn links_mut(process: &mut Process) -> &mut Links<Process> {
        &mut process.group_links
    }
}

impl Linked for All {
    type Element = Process;

    fn links(process: &Process) -> &Links<Process> {
        &process.all_links
    }

    fn links_mut(process: &mut Process) -> &mut Links<Process> {
        &mut process.all_links
    }
}

impl Linked for Siblings {
    type Element = Process;

    fn links(process: &Process) -> &Links<Process> {
        &process.sibling_links
    }

    fn links_mut(process: &mut Process) -> &mut Links<Process> {
        &mut process.sibling_links
    }
}

/// The attributes that a process shares with its creator until one of them changes its own: in one
/// allocation, so that a fork adds a reference and copies nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Inherited {
    /// In an allocation of their own: the attribute that changes most is the working directory.
    pub limits: Arc<Limits>,
    pub fs: Fs,
}

/// Umask and working directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fs {
    pub umask: u32,
    pub cwd: Arc<str>,
}

/// The holder of a umask and a working directory: a sharing set of CLONE_FS consists of holders.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FsHolder {
    /// All threads of a process that have no umask and working directory of their own.
    Process(Id<Process>),
    /// One thread (`Task::own_fs`).
    Task(Id<Task>),
}

/// The flags of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Flags {
    /// It has exec'd since it was created (EXEC-10).
    pub executed: bool,
    /// It leads its session (FORK-12: not inherited).
    pub session_leader: bool,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: bool,
    /// A core may be written (EXIT-05).
    pub dumpable: bool,
    /// It is an init: default actions do not reach it (KILL-21).
    pub unkillable: bool,
    /// The host has the authority: signals are forwarded, and reports say what the process does.
    pub host_authority: bool,
    /// The runtime performs the default actions, except those of SIGKILL and SIGSTOP.
    pub runtime_authority: bool,
    /// A wait from outside may include its children: see `Effects::external_wakes`.
    pub watched: bool,
    /// It leaves no zombie and sends no signal when it ends (CLONE_AUTOREAP, ZOM-15).
    pub autoreap: bool,
    /// It has ended and leaves no zombie, and its removal is queued (EXIT_DEAD).
    pub unwanted: bool,
}

impl Process {
    /// A process of one thread without parent, timer, pending signals, event and links.
    pub fn new(
        pid: Id<PidObject>,
        leader: Id<Task>,
        group: Id<Group>,
        sighand: Id<Sighand>,
        inherited: Arc<Inherited>,
    ) -> Process {
        Process {
            life: Life::Alive(JobControl::Running),
            pid,
            parent: None,
            outside: Pid(0),
            group,
            group_links: Links::default(),
            all_links: Links::default(),
            sibling_links: Links::default(),
            order: 0,
            report: None,
            exit_signal: Signal::CHLD.number(),
            sighand,
            shared: Pending::default(),
            inherited,
            itimer: None,
            exec_count: 0,
            parent_exec_count: 0,
            acquisition: 0,
            flags: Flags::default(),
            leader,
            threads: None,
        }
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inherited.limits
    }

    /// Its umask and working directory.
    pub fn fs(&self) -> &Fs {
        &self.inherited.fs
    }

    /// Its inherited attributes, to be changed: copied if another process shares them.
    pub fn inherited_mut(&mut self) -> &mut Inherited {
        Arc::make_mut(&mut self.inherited)
    }

    /// Whether the runtime performs the default action of a signal. It does not decide about
    /// SIGKILL and SIGSTOP, and default actions do not reach an init (KILL-21).
    #[inline]
    pub fn leaves_default_to_runtime(&self, signal: Signal) -> bool {
        self.flags.runtime_authority && !signal.is_kernel_only() && !self.flags.unkillable
    }

    /// Whether it is dead.
    pub fn is_zombie(&self) -> bool {
        matches!(self.life, Life::Zombie(_))
    }

    /// Whether it is stopped: its group stop is complete.
    pub fn is_stopped(&self) -> bool {
        matches!(self.life, Life::Alive(JobControl::Stopped { .. }))
    }

    /// Whether it is a clone child: its exit signal is not SIGCHLD (WAIT-14).
    pub fn is_clone_child(&self) -> bool {
        self.exit_signal != Signal::CHLD.number()
    }

    /// How many tasks it has, a dead leader included.
    pub fn task_count(&self) -> u32 {
        self.threads.as_ref().map_or(1, |group| group.tasks)
    }

    /// Whether the task may continue: it has to end if another task of the process executes a
    /// program.
    #[inline(always)]
    pub fn may_continue(&self, task: Id<Task>) -> bool {
        self.threads.as_ref().is_none_or(|group| group.exec.is_none_or(|exec| exec == task))
    }

    /// Whether it has one task only.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.threads.as_ref().is_none_or(|group| group.tasks == 1)
    }
}
