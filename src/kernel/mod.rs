//! The model: every process, group, session and pending signal of a pid namespace, and the
//! transitions between their states.
//!
//! [`Kernel`] is a pure state machine. [`Kernel::apply`] takes one [`Event`] and applies it
//! completely; the [`Effects`] have every consequence in order. [`Kernel::runnable`] has the tasks
//! that have a step to make because of it, and [`Kernel::settle`] runs them in an order that a
//! [`Choose`] picks. The model has no clock, thread, I/O or global state: a clone, or a restored
//! snapshot, continues identically.
//!
//! ```
//! use proctable::abi::{Pid, WaitOptions, WaitStatus};
//! use proctable::kernel::{Canonical, Config, Effects, Event, Kernel, Outcome};
//! use proctable::syscall::{Ptr, Ret, Syscall};
//!
//! let mut kernel = Kernel::new(Config::default());
//! let mut fx = Effects::new();
//! let mut call = |tid, call| {
//!     let outcome = kernel.apply(&Event::Call { tid: Pid(tid), call }, &mut fx);
//!     kernel.settle(&mut Canonical, &mut fx);
//!     outcome
//! };
//! assert_eq!(call(1, Syscall::Fork), Ok(Outcome::Returned(Ok(Ret::Value(2)))));
//! assert_eq!(call(2, Syscall::ExitGroup(3)), Ok(Outcome::Gone));
//! let wait = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::default() };
//! let status = Some(WaitStatus::exited(3));
//! assert_eq!(call(1, wait), Ok(Outcome::Returned(Ok(Ret::Waited { pid: Pid(2), status }))));
//! ```

mod act;
mod api;
mod fault;
mod invariant;
mod proc_status;
mod run;
mod signal;
mod state;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;

pub use api::config::{Config, Granularity};
pub use api::effect::{Cause, Consequence, Effect, Effects, ExternalWake, Restart};
pub use api::event::{Event, Outcome, Refused};
pub use api::identity::PidId;
pub use api::rule::{Rule, RuleSet};
pub use api::version::{NotAVersion, Property, Version};
pub use api::view::{Attributes, RunState, View};
#[cfg(feature = "faults")]
pub use fault::Fault;
#[cfg(not(feature = "faults"))]
use fault::Fault;
pub use proc_status::ProcStatus;
pub use run::choose::{Bytes, Canonical, Choose, Scripted, Seeded};
pub use state::task::TaskId;
#[cfg(feature = "table")]
pub(crate) use state::task::WaitSelector;

use crate::abi::{Errno, Pgid, Pid, SigAction, SigInfo, Signal, Time, Uid};
use crate::rule;
use crate::syscall::{self, Ret, Syscall, clone};
use act::fork::Request;
use api::effect::Subject;
pub(crate) use state::arena::{Arena, Id};
use state::group::{Group, Session};
use state::init::NamespaceInit;
use state::limit::{Limits, Users};
use state::list::List;
use state::pid::{PidObject, Pids};
use state::process::{All, Flags, Fs, FsHolder, Inherited, JobControl, Life, Process};
use state::sharing::SharingSets;
use state::sighand::Sighand;
#[cfg(feature = "table")]
pub(crate) use state::small_list::SmallList;
use state::task::{Sleep, Task, TaskState};
use state::tasklist::Tasklist;
use state::terminal::Terminals;
use state::timer::Alarm;

/// The processes of one pid namespace.
///
/// Two kernels that applied the same events with the same choices are equal, also if one of them
/// was restored from a snapshot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Kernel {
    config: Config,
    tasks: Arena<Task, true>,
    processes: Arena<Process>,
    groups: Arena<Group>,
    sessions: Arena<Session>,
    sighands: Arena<Sighand>,
    pids: Pids,
    /// All processes, in the order of creation.
    all: List<All>,
    /// The init of the namespace, if the first process is one.
    init: Option<NamespaceInit>,
    #[cfg_attr(feature = "serde", serde(with = "api::snapshot::pairs"))]
    users: Users,
    /// The holders that share umask and working directory (CLONE_FS).
    fs_shares: SharingSets<FsHolder>,
    /// The processes that share their memory (CLONE_VM), until they exec or end.
    memory_shares: SharingSets<Id<Process>>,
    /// How many processes are subreapers; if there is none, an exit does not search for one.
    subreapers: u32,
    /// The largest number that was allocated so far.
    highest: u32,
    now: Time,
    alarms: BTreeSet<(Time, Alarm)>,
    /// Periodic timers that do not run until their signal is dequeued.
    idle_itimers: u32,
    /// The tasks that have a step to make, in the order in which they were woken.
    queue: VecDeque<Id<Task>>,
    tasklist: Tasklist,
    /// Allocated with the first terminal.
    terminals: Option<Box<Terminals>>,
    /// The task that makes the present transition; `None` between transitions.
    running: Option<Id<Task>>,
    #[cfg(feature = "faults")]
    fault: Option<Fault>,
}

impl Kernel {
    /// A namespace with its first process.
    pub fn new(config: Config) -> Kernel {
        let first = config.first;
        let cursor = config.last_pid.max(first.0).saturating_add(1);
        let mut kernel = Kernel {
            tasks: Arena::new(),
            processes: Arena::new(),
            groups: Arena::new(),
            sessions: Arena::new(),
            sighands: Arena::new(),
            // PID-06
            pids: Pids::new(config.pid_max.clamp(301, 4_194_304), cursor),
            all: List::new(),
            init: None,
            users: Users::new(),
            fs_shares: SharingSets::new(),
            memory_shares: SharingSets::new(),
            subreapers: 0,
            highest: first.0,
            now: Time(0),
            alarms: BTreeSet::new(),
            idle_itimers: 0,
            queue: VecDeque::new(),
            tasklist: Tasklist::default(),
            terminals: None,
            running: None,
            #[cfg(feature = "faults")]
            fault: None,
            config,
        };
        let sid = kernel.pids.get_or_create(kernel.config.sid.0);
        let session = kernel.create_session(sid);
        let pgid = kernel.pids.get_or_create(kernel.config.pgid.0);
        let group = kernel.create_group(pgid, session);
        let id = kernel.create_first_process(group);
        kernel.init = (first == Pid(1)).then(|| NamespaceInit::new(id, kernel.leader(id)));
        kernel
    }

    fn create_first_process(&mut self, group: Id<Group>) -> Id<Process> {
        let config = &self.config;
        let mut limits = Limits::none();
        for (resource, limit) in &config.limits {
            if resource.0 < crate::abi::Resource::COUNT {
                limits.set(*resource, *limit);
            }
        }
        let fs = Fs { umask: config.umask, cwd: config.cwd.clone() };
        let inherited = Arc::new(Inherited { limits: Arc::new(limits), fs });
        let first = self.pids.get_or_create(config.first.0);
        let cred = state::cred::Cred::new(config.user);
        let outside = config.parent;
        let flags = Flags {
            session_leader: config.sid.0 == config.first.0,
            dumpable: true,
            unkillable: config.first == Pid(1),
            ..Flags::default()
        };
        let sighand = self.sighands.insert(Sighand::new());
        self.add_process(
            |process| Task::new(first, process, cred),
            |leader| Process {
                outside,
                flags,
                ..Process::new(first, leader, group, sighand, inherited)
            },
            &mut Effects::new(),
        )
    }

    /// Applies one event. The effects are appended to `fx`.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the event cannot happen in this state; then nothing has changed.
    pub fn apply(&mut self, event: &Event, fx: &mut Effects) -> Result<Outcome, Refused> {
        match event {
            Event::Call { tid, call } => self.call(*tid, call, fx),
            Event::Enter { tid, call } => self.enter(*tid, call, fx).map(|()| Outcome::Blocked),
            Event::Step { tid } => self.step(*tid, fx).map(|()| Outcome::Done),
            Event::Advance(to) => self.advance(*to, fx).map(|()| Outcome::Done),
            Event::Fault { tid, signal } => {
                let task = self.user_mode_task(*tid)?;
                fx.begin(*tid, None);
                self.running = Some(task);
                self.force_fault(task, *signal, fx);
                self.running = None;
                self.back_to_user(task, fx);
                Ok(Outcome::Done)
            }
        }
    }

    /// Makes the search for the next free number begin after `last`, as a write to
    /// /proc/sys/kernel/ns_last_pid does (PID-12). `false`, and no change, if `last` is above
    /// pid_max.
    pub fn set_last_pid(&mut self, last: u32) -> bool {
        let fits = last <= self.pids.max();
        if fits {
            self.pids.set_last(last);
        }
        fits
    }

    /// The thread `tid` makes a system call.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the thread is not in user mode; an errno is in the outcome.
    pub fn call(&mut self, tid: Pid, call: &Syscall, fx: &mut Effects) -> Result<Outcome, Refused> {
        let task = self.user_mode_task(tid)?;
        if self.tasklist.is_held() {
            // the thread makes the call after the task that holds the lock has continued
            return self.enter(tid, call, fx).map(|()| Outcome::Blocked);
        }
        fx.begin(tid, Some(call.name()));
        self.running = Some(task);
        if let Some(number) = self.perform_number(task, call, fx) {
            self.running = None;
            self.back_to_user(task, fx);
            if !self.queue.is_empty() {
                self.delay_return(task, number.map(Ret::Value));
            }
            return Ok(Outcome::Returned(number.map(Ret::Value)));
        }
        let result = self.perform(task, call, fx);
        self.running = None;
        // only a call that does not return can end with the caller reaped
        let never = matches!(result, Some(Ok(Ret::Never)));
        if never && self.tasks.get(task).is_none() {
            return Ok(Outcome::Gone);
        }
        self.back_to_user(task, fx);
        if let Some(result) = &result
            && !never
            && !self.queue.is_empty()
        {
            self.delay_return(task, result.clone());
        }
        Ok(match result {
            Some(Ok(Ret::Never)) => Outcome::Gone,
            // each of the common results is moved by itself, in the widths in which it was written:
            // the processor cannot forward a wider load from narrower stores
            Some(Ok(Ret::Value(value))) => Outcome::Returned(Ok(Ret::Value(value))),
            Some(Err(errno)) => Outcome::Returned(Err(errno)),
            Some(result) => Outcome::Returned(result),
            None => Outcome::Blocked,
        })
    }

    /// Carries out one of the calls that never sleep and return a number; `None` for another call.
    /// Such a result is returned in registers, and nearly all calls have one.
    #[inline(always)]
    fn perform_number(
        &mut self,
        task: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<Result<i64, Errno>> {
        Some(match *call {
            Syscall::Setpgid { pid, pgid } => self.setpgid(task, pid, pgid, fx),
            Syscall::Getpgid(pid) => self.getpgid(task, pid, fx),
            Syscall::Getpgrp => {
                fx.obey(rule!("GRP-24"));
                self.getpgid(task, 0, fx)
            }
            Syscall::Setsid => self.setsid(task, fx),
            Syscall::Getsid(pid) => self.getsid(task, pid, fx),
            Syscall::Getpid => {
                fx.obey(rule!("PID-19"));
                Ok(i64::from(self.pid_of(self.process_of(task)).0))
            }
            Syscall::Gettid => {
                fx.obey(rule!("PID-19"));
                Ok(i64::from(self.tid_of(task).0))
            }
            Syscall::Getppid => {
                fx.obey(rule!("PID-20"));
                Ok(i64::from(self.ppid(self.process_of(task)).0))
            }
            Syscall::Kill { pid, .. } if pid <= 0 && self.is_fine() => return None,
            Syscall::Kill { pid, sig } => self.kill(task, pid, sig, fx),
            Syscall::Getuid => Ok(i64::from(self.cred(task).real.0)),
            Syscall::Geteuid => Ok(i64::from(self.cred(task).effective.0)),
            _ => return None,
        })
    }

    /// Carries out one of the other calls, among them all calls that can be restarted; `None` if
    /// the caller sleeps in the call.
    fn perform(
        &mut self,
        task: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        Some(match *call {
            Syscall::Fork => {
                let flags = u64::from(Signal::CHLD.number());
                let request = Request { flags, clone3: None, child_tid: 0, set_tid: None };
                return self.fork(task, &request, call, fx);
            }
            Syscall::Vfork => {
                let flags = clone::VM | clone::VFORK | u64::from(Signal::CHLD.number());
                let request = Request { flags, clone3: None, child_tid: 0, set_tid: None };
                return self.fork(task, &request, call, fx);
            }
            Syscall::Clone { flags, clone3, child_tid, .. } => {
                let request = Request { flags, clone3, child_tid, set_tid: None };
                return self.fork(task, &request, call, fx);
            }
            Syscall::Wait4 { .. } | Syscall::Waitid { .. } => return self.wait(task, call, fx),
            Syscall::Pause => return self.pause(task, fx),
            Syscall::RtSigsuspend { mask, size } => return self.sigsuspend(task, mask, size, fx),
            Syscall::RtSigtimedwait { set, info, timeout, size } => {
                return self.sigtimedwait(task, set, info, timeout, size, fx);
            }
            Syscall::Exit(code) => {
                fx.obey(rule!("EXIT-01"));
                self.exit_thread(task, crate::abi::WaitStatus::exited(code), fx);
                Ok(Ret::Never)
            }
            Syscall::ExitGroup(code) => {
                fx.obey(rule!("EXIT-01"));
                self.exit_group(task, crate::abi::WaitStatus::exited(code), fx);
                Ok(Ret::Never)
            }
            Syscall::Execve { error, .. } => return self.execve(task, error, fx),
            Syscall::RtSigreturn => {
                self.sigreturn(task, fx);
                Ok(Ret::Never)
            }
            _ if call.is_of_terminal() => return self.perform_on_terminal(task, call, fx),
            // `perform_number` carries out the other forms of kill
            Syscall::Kill { pid, sig } => return self.kill_several(task, pid, sig, fx),
            _ => self.perform_nonblocking(task, call, fx),
        })
    }

    /// Carries out the other calls that never sleep. Inlined, so that one jump finds a call.
    #[inline(always)]
    fn perform_nonblocking(
        &mut self,
        task: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> syscall::Result {
        match *call {
            Syscall::Tkill { tid, sig } => self.tgkill(task, None, tid, sig, fx),
            Syscall::Tgkill { tgid, tid, sig } => self.tgkill(task, Some(tgid), tid, sig, fx),
            Syscall::RtSigqueueinfo { pid, sig, info } => {
                self.sigqueueinfo(task, pid, sig, info, fx)
            }
            Syscall::RtSigaction { sig, act, old, size } => {
                self.sigaction(task, sig, act, old, size, fx)
            }
            Syscall::RtSigprocmask { how, set, old, size } => {
                self.sigprocmask(task, how, set, old, size, fx)
            }
            Syscall::RtSigpending { set, size } => self.sigpending(task, set, size, fx),
            Syscall::Alarm(seconds) => self.alarm(task, seconds, fx),
            Syscall::Setitimer { which, new, old } => self.setitimer(task, which, new, old, fx),
            Syscall::Getitimer { which } => self.getitimer(task, which, fx),
            Syscall::Prctl(operation) => self.prctl(task, operation, fx),
            Syscall::Getresuid => self.getresuid(task),
            Syscall::Setuid(user) => self.setuid(task, user, fx),
            Syscall::Setreuid { real, effective } => self.setreuid(task, real, effective, fx),
            Syscall::Setresuid { real, effective, saved } => {
                self.setresuid(task, [real, effective, saved], fx)
            }
            Syscall::Prlimit { pid, resource, new, old } => {
                self.prlimit(task, pid, resource, new, old, fx)
            }
            Syscall::Umask(mask) => self.umask(task, mask, fx),
            Syscall::Chdir { ref path, error } => self.chdir(task, path, error, fx),
            Syscall::Getcwd => Ok(Ret::Path(self.fs_of(task).cwd.clone())),
            Syscall::RtTgsigqueueinfo { tgid, tid, sig, info } => {
                self.tgsigqueueinfo(task, [tgid, tid], sig, info, fx)
            }
            Syscall::SetTidAddress(address) => self.set_tid_address(task, address, fx),
            Syscall::Unshare(flags) => self.unshare(task, flags, fx),
            // `perform_number` and `perform` carry out these calls. There is no `_` arm: a new call
            // does not compile without a place.
            Syscall::Setpgid { .. }
            | Syscall::Getpgid(_)
            | Syscall::Getpgrp
            | Syscall::Setsid
            | Syscall::Getsid(_)
            | Syscall::Getpid
            | Syscall::Gettid
            | Syscall::Getppid
            | Syscall::Kill { .. }
            | Syscall::Getuid
            | Syscall::Geteuid
            | Syscall::Fork
            | Syscall::Vfork
            | Syscall::Clone { .. }
            | Syscall::Wait4 { .. }
            | Syscall::Waitid { .. }
            | Syscall::Pause
            | Syscall::RtSigsuspend { .. }
            | Syscall::RtSigtimedwait { .. }
            | Syscall::Execve { .. }
            | Syscall::Open { .. }
            | Syscall::Close(_)
            | Syscall::Read { .. }
            | Syscall::Write { .. }
            | Syscall::Ioctl { .. }
            | Syscall::Poll { .. }
            | Syscall::Exit(_)
            | Syscall::ExitGroup(_)
            | Syscall::RtSigreturn => Err(Errno::ENOSYS),
        }
    }

    /// The thread `tid`, if it is in user mode.
    #[inline(always)]
    fn user_mode_task(&self, tid: Pid) -> Result<Id<Task>, Refused> {
        let task = self.task_numbered(tid).ok_or(Refused::NoSuchTask(tid))?;
        if self.is_in_user_mode(task) {
            Ok(task)
        } else if self.tasks[task].is_dead() {
            Err(Refused::NoSuchTask(tid))
        } else {
            Err(Refused::NotInUserMode(tid))
        }
    }

    /// Whether the task is in user mode.
    #[inline(always)]
    fn is_in_user_mode(&self, task: Id<Task>) -> bool {
        let thread = &self.tasks[task];
        let process = &self.processes[thread.process];
        thread.state == TaskState::Running
            && matches!(thread.sleep, Sleep::None)
            && matches!(
                process.life,
                Life::Alive(
                    JobControl::Running
                        | JobControl::Stopped { .. }
                        | JobControl::Continued { unsent: None, .. }
                )
            )
            && process.may_continue(task)
    }

    /// The task of that number, dead or alive. O(1).
    #[inline]
    fn task_numbered(&self, tid: Pid) -> Option<Id<Task>> {
        self.pids[self.pids.find(tid.0)?].task()
    }

    /// The task of the number in an argument of a call, dead or alive. O(1).
    #[inline]
    fn task_named(&self, tid: i32) -> Option<Id<Task>> {
        // a negative number names no task
        self.task_numbered(Pid(u32::try_from(tid).ok()?))
    }

    /// The process of that number, dead or alive; the number of a thread that is not the leader
    /// names no process. O(1).
    #[inline]
    fn process_numbered(&self, pid: Pid) -> Option<Id<Process>> {
        self.process_led_by(self.task_numbered(pid)?)
    }

    /// The process that has that task as its leader.
    #[inline]
    fn process_led_by(&self, leader: Id<Task>) -> Option<Id<Process>> {
        let process = self.tasks[leader].process;
        (self.processes[process].leader == leader).then_some(process)
    }

    /// The group of that number. O(1).
    #[inline]
    fn group_numbered(&self, pgid: u32) -> Option<Id<Group>> {
        self.pids[self.pids.find(pgid)?].group()
    }

    /// The number of a process.
    #[inline]
    fn pid_of(&self, process: Id<Process>) -> Pid {
        self.pids[self.processes[process].pid].pid()
    }

    /// The number of a task.
    #[inline]
    fn tid_of(&self, task: Id<Task>) -> Pid {
        self.pids[self.tasks[task].pid].pid()
    }

    /// A process, as an effect names it.
    #[inline]
    fn subject(&self, process: Id<Process>) -> Subject {
        self.subject_of(self.processes[process].pid)
    }

    /// A task, as an effect names it.
    #[inline]
    fn task_subject(&self, task: Id<Task>) -> Subject {
        self.subject_of(self.tasks[task].pid)
    }

    #[inline]
    fn subject_of(&self, object: Id<PidObject>) -> Subject {
        Subject { id: self.pids.identity(object), pid: self.pids[object].pid() }
    }

    /// The process of a task.
    #[inline]
    fn process_of(&self, task: Id<Task>) -> Id<Process> {
        self.tasks[task].process
    }

    /// The parent of a process, if it is in the model.
    #[inline]
    fn parent_of(&self, process: Id<Process>) -> Option<Id<Process>> {
        self.processes[process].parent.map(|parent| self.process_of(parent))
    }

    /// The leader of a process.
    #[inline]
    fn leader(&self, process: Id<Process>) -> Id<Task> {
        self.processes[process].leader
    }

    /// The users of a process: those of its leader.
    #[inline]
    fn leader_cred(&self, process: Id<Process>) -> &state::cred::Cred {
        &self.tasks[self.processes[process].leader].cred
    }

    /// The same state, with another granularity from now on.
    #[must_use]
    pub fn with_granularity(mut self, granularity: Granularity) -> Kernel {
        self.config.granularity = granularity;
        self
    }

    /// Breaks one rule on purpose, to test that a comparison finds it.
    #[cfg(feature = "faults")]
    pub fn with_fault(mut self, fault: Fault) -> Kernel {
        self.fault = Some(fault);
        self
    }

    /// Whether transitions are cut where the kernel releases its locks.
    #[inline]
    fn is_fine(&self) -> bool {
        self.config.granularity == Granularity::Fine
    }

    #[inline]
    fn has_fault(&self, fault: Fault) -> bool {
        #[cfg(feature = "faults")]
        return self.fault == Some(fault);
        #[cfg(not(feature = "faults"))]
        {
            let _ = fault;
            false
        }
    }
}

/// Queries: they change nothing.
impl Kernel {
    /// The configuration with which the model was created.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many processes there are, zombies included.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// How many tasks there are: threads of all processes, and zombies.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is no process. Always `false`: the first process has no parent in the model,
    /// so it stays as a zombie after its end.
    pub fn is_empty(&self) -> bool {
        self.processes.len() == 0
    }

    /// The numbers of all processes, zombies included, in the order of their creation.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.all().map(|id| self.pid_of(id))
    }

    /// The numbers of the tasks of a process, a dead leader included, in the order of their
    /// creation. O(1) a task.
    pub fn tids(&self, pid: Pid) -> impl Iterator<Item = Pid> + '_ {
        let id = self.process_numbered(pid);
        id.into_iter().flat_map(|id| self.tasks_of(id)).map(|task| self.tid_of(task))
    }

    /// The identity of the task that has the number `tid` now, dead or alive. O(1).
    pub fn task_id(&self, tid: Pid) -> Option<TaskId> {
        Some(TaskId(self.tasks.handle(self.task_numbered(tid)?)))
    }

    /// The number of a task; `None` if the task is gone, also if another task has that number now.
    /// O(1).
    ///
    /// ```
    /// # use proctable::abi::{Pid, WaitOptions};
    /// # use proctable::kernel::{Canonical, Config, Effects, Kernel};
    /// # use proctable::syscall::{Ptr, Syscall};
    /// let mut kernel = Kernel::new(Config { pid_max: 301, last_pid: 299, ..Config::default() });
    /// let mut call = |kernel: &mut Kernel, tid, call: Syscall| {
    ///     let mut fx = Effects::new();
    ///     let _ = kernel.call(Pid(tid), &call, &mut fx);
    ///     kernel.settle(&mut Canonical, &mut fx);
    /// };
    /// call(&mut kernel, 1, Syscall::Fork);
    /// let child = kernel.task_id(Pid(300)).expect("it lives");
    /// call(&mut kernel, 300, Syscall::ExitGroup(0));
    /// let wait = Syscall::Wait4 { pid: -1, status: Ptr::Null, options: WaitOptions::default() };
    /// call(&mut kernel, 1, wait);
    /// call(&mut kernel, 1, Syscall::Fork);
    /// // another process has the number
    /// assert!(kernel.view(Pid(300)).is_some());
    /// assert_eq!(kernel.tid(child), None);
    /// ```
    pub fn tid(&self, id: TaskId) -> Option<Pid> {
        Some(self.tid_of(self.tasks.resolve(id.0)?))
    }

    /// The identity of the task, group or session that has that number now. O(1).
    pub fn pid_id(&self, number: Pid) -> Option<PidId> {
        Some(self.pids.identity(self.pids.find(number.0)?))
    }

    /// The number of that identity; `None` if the task, group and session are gone, also if the
    /// number is in use again. O(1).
    pub fn pid(&self, id: PidId) -> Option<Pid> {
        Some(self.pids[self.pids.resolve(id)?].pid())
    }

    /// The state of a task as other processes see it; `None` if no task has that number. O(1).
    pub fn view(&self, tid: Pid) -> Option<View> {
        let task = &self.tasks[self.task_numbered(tid)?];
        let id = task.process;
        let process = &self.processes[id];
        let run = run_of(task);
        let mut view = View {
            run,
            tgid: self.pid_of(id),
            ppid: self.ppid(id),
            pgid: self.pgid_of(process.group),
            sid: self.sid_of(self.session_of(id)),
            private: Default::default(),
            shared: Default::default(),
            blocked: Default::default(),
            ignored: Default::default(),
            caught: Default::default(),
        };
        if run != RunState::Zombie {
            let sighand = &self.sighands[process.sighand];
            view.private = task.pending.set();
            view.shared = process.shared.set();
            view.blocked = task.mask;
            view.ignored = sighand.ignored();
            view.caught = sighand.caught();
        }
        Some(view)
    }

    /// How a zombie ended; `None` for a process that is alive or gone. O(1).
    pub fn exit_status(&self, pid: Pid) -> Option<crate::abi::WaitStatus> {
        let id = self.process_numbered(pid)?;
        match self.processes[id].life {
            Life::Zombie(status) => Some(status),
            Life::Alive(_) | Life::Dying(_) => None,
        }
    }

    /// The status that a zombie shows in /proc/PID/stat and to a wait that does not reap it
    /// (WNOWAIT). On some kernels it differs from [`Kernel::exit_status`], which a wait that reaps
    /// the zombie returns (WAIT-33). `None` for a process that is alive or gone. O(1).
    pub fn shown_exit_status(&self, pid: Pid) -> Option<crate::abi::WaitStatus> {
        let status = self.exit_status(pid)?;
        Some(self.shown_status(self.process_numbered(pid)?, status))
    }

    /// The parent of a process, dead or alive, if it is in the model. O(1).
    pub fn parent(&self, pid: Pid) -> Option<Pid> {
        let id = self.process_numbered(pid)?;
        Some(self.pid_of(self.parent_of(id)?))
    }

    /// The children of a process; those of each thread in the order in which it created or adopted
    /// them. O(1) a child.
    pub fn children_of(&self, pid: Pid) -> impl Iterator<Item = Pid> + '_ {
        let tasks = self.process_numbered(pid).into_iter().flat_map(|id| self.tasks_of(id));
        tasks.flat_map(|task| self.children(task)).map(|child| self.pid_of(child))
    }

    /// The members of a group, zombies included, the most recent member first. O(1) a member.
    pub fn members_of(&self, pgid: Pgid) -> impl Iterator<Item = Pid> + '_ {
        let group = self.group_numbered(pgid.0);
        group.into_iter().flat_map(|group| self.members(group)).map(|id| self.pid_of(id))
    }

    /// Whether a process group is orphaned: no living member has a parent in another group of the
    /// same session (ORP-01). `None` if there is no such group. Costs a scan of the members.
    pub fn is_orphaned_group(&self, pgid: Pgid) -> Option<bool> {
        self.group_numbered(pgid.0).map(|group| self.is_orphaned(group, None))
    }

    /// The umask, working directory and users of a process; `None` if it has ended. O(1).
    pub fn attributes(&self, pid: Pid) -> Option<Attributes> {
        let id = self.process_numbered(pid)?;
        let process = &self.processes[id];
        let Fs { umask, cwd } = self.fs_of(process.leader);
        let users = self.leader_cred(id).users();
        let attributes = Attributes { umask: *umask, cwd: cwd.clone(), users };
        (!process.is_zombie()).then_some(attributes)
    }

    /// The real user of a task, dead or alive. O(1).
    pub fn real_user(&self, tid: Pid) -> Option<Uid> {
        Some(self.tasks[self.task_numbered(tid)?].cred.real)
    }

    /// The action of a process for a signal; `None` if there is no living process of that number.
    /// O(1).
    pub fn disposition(&self, pid: Pid, signal: Signal) -> Option<SigAction> {
        let process = &self.processes[self.process_numbered(pid)?];
        (!process.is_zombie()).then(|| self.sighands[process.sighand].get(signal))
    }

    /// Whether the thread is in user mode, so that it can make a call.
    pub fn in_user_mode(&self, tid: Pid) -> bool {
        self.user_mode_task(tid).is_ok()
    }

    /// Whether a call of the thread has returned and its program has not seen the result yet: the
    /// thread delivers signals first, is stopped, or has to end.
    pub fn has_unseen_result(&self, tid: Pid) -> bool {
        self.task_numbered(tid).is_some_and(|task| self.tasks[task].result.is_some())
    }

    /// The siginfo of the handler that the thread runs now; `None` outside of handlers.
    pub fn handler(&self, tid: Pid) -> Option<&SigInfo> {
        let task = self.task_numbered(tid)?;
        self.tasks[task].frames.last().filter(|frame| frame.begun).map(|frame| &frame.info)
    }

    /// How many handlers are below the code that the thread runs, or ran last. Handlers that were
    /// entered since then and have not begun do not count.
    pub fn handlers_below(&self, tid: Pid) -> usize {
        let frames = self.task_numbered(tid).map(|task| &self.tasks[task].frames);
        frames.map_or(0, |frames| {
            let waiting = frames.iter().rev().take_while(|frame| !frame.begun).count();
            frames.len() - waiting
        })
    }

    /// How many handlers the thread is in.
    pub fn handler_depth(&self, tid: Pid) -> usize {
        self.task_numbered(tid).map_or(0, |task| self.tasks[task].frames.len())
    }
}

fn run_of(task: &Task) -> RunState {
    match (task.state, &task.sleep) {
        (TaskState::Dead, _) => RunState::Zombie,
        (TaskState::Stopped, _) => RunState::Stopped,
        (_, Sleep::None) => RunState::User,
        (_, Sleep::Vfork(..) | Sleep::Exec) => RunState::Vfork,
        _ => RunState::Blocked,
    }
}
