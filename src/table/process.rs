//! A handle of one process, and the calls that it makes.

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;

use super::call::{End, Started};
use super::guest::Caller;
use super::registry::{Image, ProcessKey};
use super::{Call, Init, ProcessTable, TableHandle, TableInner};
use crate::abi::{
    Errno, Itimerval, Pgid, Pid, Resource, Rlimit, Sid, SigAction, SigInfo, SigSet, Signal,
    Timespec, Uid, WaitOptions, WaitStatus,
};
use crate::driver::Report;
use crate::syscall::{self, ITIMER_REAL, Prctl, Ptr, QueuedInfo, Ret, SIGSET_SIZE, Syscall, how};

/// How a set changes a mask: the first argument of sigprocmask(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SigmaskHow {
    /// Adds the set to the mask.
    Block,
    /// Removes the set from the mask.
    Unblock,
    /// Replaces the mask.
    SetMask,
}

impl SigmaskHow {
    /// The call that changes the mask.
    pub(super) fn call(self, set: SigSet) -> Syscall {
        let how = match self {
            SigmaskHow::Block => how::BLOCK,
            SigmaskHow::Unblock => how::UNBLOCK,
            SigmaskHow::SetMask => how::SETMASK,
        };
        Syscall::RtSigprocmask { how, set: Some(set), old: Ptr::Valid, size: SIGSET_SIZE }
    }
}

/// The old mask in the result of rt_sigprocmask.
pub(super) fn old_mask(ret: &Ret) -> SigSet {
    match ret {
        Ret::Mask(Some(old)) => *old,
        _ => SigSet::EMPTY,
    }
}

/// The call that takes a pending signal of a set, or waits for one until `timeout` has passed.
pub(super) fn sigtimedwait(set: SigSet, timeout: Option<Duration>) -> Syscall {
    let timeout = timeout.map(|timeout| Timespec {
        sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        nsec: timeout.subsec_nanos().into(),
    });
    Syscall::RtSigtimedwait { set, info: Ptr::Valid, timeout, size: SIGSET_SIZE }
}

/// The signal that sigtimedwait took.
pub(super) fn taken(result: syscall::Result) -> Result<SigInfo, Errno> {
    match result? {
        Ret::Signal(info) => Ok(info),
        _ => Err(Errno::EAGAIN),
    }
}

/// A handle of one process of a table. When the number of the process belongs to a later process,
/// the handle still refers to the first one, and all methods fail with ESRCH.
///
/// Unless their documentation says otherwise, the methods are calls of the process itself, as
/// [`ProcessTable::syscall`] makes them: they wait while the process is stopped or in another call,
/// and fail with ESRCH if it has ended. The leader makes them, or the first thread that is alive if
/// the leader has ended; each other thread has a handle of its own, [`Thread`](super::Thread). A
/// `Process` holds a handle of its table.
#[derive(Clone)]
pub struct Process {
    pub(super) table: ProcessTable,
    pub(super) key: ProcessKey,
}

/// A handle of a process that does not keep its table alive, for a driver that holds its own
/// process: [`Process::downgrade`].
#[derive(Clone, Debug)]
pub struct WeakProcess {
    table: Weak<TableHandle>,
    key: ProcessKey,
}

impl WeakProcess {
    /// The process, unless the table has ended.
    pub fn upgrade(&self) -> Option<Process> {
        Some(Process::new(ProcessTable(self.table.upgrade()?), self.key))
    }

    /// The identity of the process.
    pub fn id(&self) -> ProcessId {
        ProcessId(self.key)
    }
}

/// The identity of a process: its number may be used again, the identity is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessId(pub(super) ProcessKey);

impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        self.key == other.key && Arc::ptr_eq(self.table.shared(), other.table.shared())
    }
}

impl Eq for Process {}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.key.pid.0).finish()
    }
}

/// A number in the form of a guest's argument.
pub(super) fn raw(number: u32) -> i32 {
    // the numbers of the model are at most 2^22
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn done(result: syscall::Result) -> Result<(), Errno> {
    result.map(drop)
}

impl Process {
    pub(super) fn new(table: ProcessTable, key: ProcessKey) -> Process {
        Process { table, key }
    }

    /// The number of the process.
    pub fn pid(&self) -> Pid {
        self.key.pid
    }

    /// The identity of the process.
    pub fn id(&self) -> ProcessId {
        ProcessId(self.key)
    }

    /// A handle of the process that does not keep the table alive.
    pub fn downgrade(&self) -> WeakProcess {
        WeakProcess { table: Arc::downgrade(&self.table.0), key: self.key }
    }

    /// The table of the process.
    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// The process makes a call, and the calling thread waits until it returns: see
    /// [`ProcessTable::syscall`].
    ///
    /// # Errors
    ///
    /// The errno of the call; ESRCH if the process has ended, or ends during the call.
    pub fn syscall(&self, call: Syscall) -> syscall::Result {
        self.submit(call).wait()
    }

    /// [`Process::syscall`] without waiting for the return of the call.
    pub fn submit(&self, call: Syscall) -> Call {
        Call::new(self.table.clone(), self.start(&call), self.caller())
    }

    /// A call of code that is inside of `handlers` handlers, for drivers that run the handlers
    /// themselves: handlers that the process has entered above that code have to return first.
    /// Another thread may generate a signal at any time, so that only the driver knows which code
    /// makes the call. [`Process::submit`] is a call of the code that runs in the innermost handler
    /// that was entered before the call; handlers of timers that expire at the call are above it.
    ///
    /// With [safe points](super::Spawn::safe_points) the table knows this itself.
    pub fn submit_within(&self, handlers: usize, call: Syscall) -> Call {
        let started = self.table.shared().start_within(self.caller(), &call, handlers);
        Call::new(self.table.clone(), started, self.caller())
    }

    fn is_tables_init(&self) -> bool {
        self.table.shared().init == Init::Table && self.pid() == Pid(1)
    }

    fn start(&self, call: &Syscall) -> Started {
        self.table.shared().start(self.caller(), call)
    }

    #[inline]
    pub(super) fn caller(&self) -> Caller {
        Caller::Process(self.key)
    }

    /// Makes a call that cannot sleep in the model.
    #[inline]
    fn call(&self, call: Syscall) -> syscall::Result {
        self.table.shared().result(self.start(&call))
    }

    /// Makes a call that returns a number.
    #[inline(never)]
    fn number(&self, call: &Syscall) -> Result<u32, Errno> {
        self.table.shared().value(self.start(call)).map(|value| value as u32)
    }

    /// Makes a call and discards its number.
    #[inline]
    fn done(&self, call: Syscall) -> Result<(), Errno> {
        self.number(&call).map(drop)
    }
}

/// Creation, program and end.
impl Process {
    /// Creates a copy of this process without a driver: [`Process::spawn`] of
    /// [`Spawn::fork`](super::Spawn::fork).
    ///
    /// # Errors
    ///
    /// EAGAIN at a limit (LIM-01, PID-05, [`TableLimits`](super::TableLimits)).
    ///
    /// # References
    ///
    /// fork(2); RULES FORK.
    pub fn fork(&self) -> Result<Process, Errno> {
        match self.table.shared().end(self.start(&Syscall::Fork)) {
            End::Forked(child) => Ok(self.sibling(child)),
            end => self.table.process(Pid(end.result()?.value() as u32)).ok_or(Errno::ESRCH),
        }
    }

    /// Executes another program: caught signals return to the default action; the mask and the
    /// pending signals stay.
    ///
    /// # Errors
    ///
    /// EAGAIN if a set*uid call left its user over RLIMIT_NPROC (EXEC-17).
    ///
    /// # References
    ///
    /// execve(2); RULES EXEC.
    #[doc(alias = "execve")]
    pub fn exec(&self, image: impl Into<Arc<Image>>) -> Result<(), Errno> {
        done(self.submit_exec(image).wait())
    }

    /// [`Process::exec`] without waiting for the return of the call: a process that is stopped
    /// executes the program when it continues.
    pub fn submit_exec(&self, image: impl Into<Arc<Image>>) -> Call {
        let image = image.into();
        let path: Arc<str> = image.program.as_str().into();
        self.table.shared().commit(|state| state.process_registry.prepare(path.clone(), image));
        self.submit(Syscall::Execve { path, error: None })
    }

    /// Ends the process with the low 8 bits of `code` (EXIT-01).
    ///
    /// # References
    ///
    /// exit_group(2); RULES EXIT.
    #[doc(alias = "exit_group")]
    pub fn exit(&self, code: i32) -> Result<(), Errno> {
        self.done(Syscall::ExitGroup(code))
    }

    /// Reports that the process ended, stopped or continued, as its driver would with a
    /// [`Reporter`](crate::driver::Reporter). This is an act of the runtime. It has no effect on a
    /// process that has ended, nor on the table's own process 1
    /// ([`Init::Table`](super::Init::Table)).
    #[doc(alias = "mark_exited")]
    #[doc(alias = "mark_stopped")]
    #[doc(alias = "mark_continued")]
    pub fn report(&self, status: WaitStatus) {
        if !self.is_tables_init() {
            self.table.shared().report(self.key, Report::Status(status));
        }
    }
}

/// Signals.
impl Process {
    /// Sends a signal to a process.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process, EPERM if the user ids forbid it (KILL-14).
    ///
    /// # References
    ///
    /// kill(2); RULES KILL.
    pub fn kill(&self, pid: Pid, signal: Signal) -> Result<(), Errno> {
        self.kill_raw(raw(pid.0), signal.number().into())
    }

    /// Sends a signal to all members of a process group (KILL-04).
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such group, EPERM if no member may be signalled. This method cannot
    /// name the groups 0 and 1: ESRCH.
    ///
    /// # References
    ///
    /// kill(2), killpg(3); RULES KILL.
    #[doc(alias = "killpg")]
    pub fn kill_group(&self, pgid: Pgid, signal: Signal) -> Result<(), Errno> {
        if pgid.0 <= 1 {
            // kill(2) takes these numbers for the caller's own group and for all processes
            return Err(Errno::ESRCH);
        }
        self.kill_raw(-raw(pgid.0), signal.number().into())
    }

    /// Sends a signal to the members of the process's own group, itself included: kill(2) with pid
    /// 0.
    ///
    /// # Errors
    ///
    /// EPERM if the process may signal no member.
    #[doc(alias = "kill")]
    pub fn kill_own_group(&self, signal: Signal) -> Result<(), Errno> {
        self.kill_raw(0, signal.number().into())
    }

    /// Sends a signal to all processes but process 1 and itself (KILL-03).
    ///
    /// # Errors
    ///
    /// ESRCH if there is no other process. Not EPERM if no process may be signalled (KILL-10).
    ///
    /// # References
    ///
    /// kill(2) with pid -1; RULES KILL.
    #[doc(alias = "kill")]
    pub fn kill_all(&self, signal: Signal) -> Result<(), Errno> {
        self.kill_raw(-1, signal.number().into())
    }

    /// Tests whether the process may send a signal to another process: kill(2) with signal 0.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process, EPERM if the process may not signal it.
    ///
    /// # References
    ///
    /// kill(2); RULES KILL-01.
    #[doc(alias = "kill")]
    pub fn may_kill(&self, pid: Pid) -> Result<(), Errno> {
        self.kill_raw(raw(pid.0), 0)
    }

    /// Tests whether the process may send a signal to any member of a process group: kill(2) with
    /// signal 0.
    ///
    /// # Errors
    ///
    /// As [`Process::kill_group`].
    #[doc(alias = "killpg")]
    pub fn may_kill_group(&self, pgid: Pgid) -> Result<(), Errno> {
        if pgid.0 <= 1 {
            return Err(Errno::ESRCH);
        }
        self.kill_raw(-raw(pgid.0), 0)
    }

    fn kill_raw(&self, pid: i32, sig: i32) -> Result<(), Errno> {
        self.done(Syscall::Kill { pid, sig })
    }

    /// Queues a signal with a value for a process.
    ///
    /// # Errors
    ///
    /// As [`Process::kill`]; EAGAIN if the target's user has too many queued signals (LIM-08).
    ///
    /// # References
    ///
    /// sigqueue(3), rt_sigqueueinfo(2).
    #[doc(alias = "rt_sigqueueinfo")]
    pub fn sigqueue(&self, pid: Pid, signal: Signal, value: u64) -> Result<(), Errno> {
        const SI_QUEUE: i32 = -1;
        let [uid, ..] = self.users()?;
        let info = QueuedInfo { code: SI_QUEUE, pid: self.pid().0, uid: uid.0, value };
        let sig = signal.number().into();
        self.done(Syscall::RtSigqueueinfo { pid: raw(pid.0), sig, info: Some(info) })
    }

    /// Sends the process a signal from outside of its pid namespace. This is an act of the runtime:
    /// SIGKILL and SIGSTOP reach process 1 too, no permission is checked, and the sender is not
    /// visible (KILL-22, KILL-29).
    ///
    /// # Errors
    ///
    /// ESRCH if the process has been reaped, EPERM for the table's own process 1
    /// ([`Init::Table`](super::Init::Table)), which takes no signal.
    ///
    /// # References
    ///
    /// kill(2); RULES KILL.
    #[doc(alias = "kill")]
    pub fn send(&self, signal: Signal) -> Result<(), Errno> {
        let shared = self.table.shared();
        if self.is_tables_init() {
            return Err(Errno::EPERM);
        }
        shared.commit(|state| {
            state.process_registry.entry(self.key).ok_or(Errno::ESRCH)?;
            let sent = state
                .apply_external(&*shared.clock, |kernel, fx| kernel.signal(self.pid(), signal, fx));
            sent.map_err(|_| Errno::ESRCH)
        })
    }

    /// Sets the action for a signal and returns the old one.
    ///
    /// # Errors
    ///
    /// EINVAL for SIGKILL and SIGSTOP (SIG-07).
    ///
    /// # References
    ///
    /// rt_sigaction(2); RULES SIG.
    #[doc(alias = "rt_sigaction")]
    pub fn sigaction(&self, signal: Signal, action: SigAction) -> Result<SigAction, Errno> {
        self.action(signal, Some(action))
    }

    /// The action for a signal: sigaction(2) without a new action.
    ///
    /// # Errors
    ///
    /// EINVAL for a number that is not a signal.
    #[doc(alias = "sigaction")]
    pub fn disposition(&self, signal: Signal) -> Result<SigAction, Errno> {
        self.action(signal, None)
    }

    fn action(&self, signal: Signal, act: Option<SigAction>) -> Result<SigAction, Errno> {
        let sig = signal.number().into();
        let call = Syscall::RtSigaction { sig, act, old: Ptr::Valid, size: SIGSET_SIZE };
        match self.call(call)? {
            Ret::Action(Some(old)) => Ok(old),
            _ => Ok(SigAction::DEFAULT),
        }
    }

    /// Changes the mask and returns the old one. Pending signals that the new mask does not block
    /// are delivered before this returns (SIG-17). SIGKILL and SIGSTOP are never in the mask.
    ///
    /// # References
    ///
    /// rt_sigprocmask(2); RULES SIG.
    #[doc(alias = "rt_sigprocmask")]
    pub fn sigprocmask(&self, change: SigmaskHow, set: SigSet) -> Result<SigSet, Errno> {
        self.call(change.call(set)).map(|ret| old_mask(&ret))
    }

    /// The pending signals that the process blocks.
    ///
    /// # References
    ///
    /// rt_sigpending(2); RULES SIG.
    #[doc(alias = "rt_sigpending")]
    pub fn sigpending(&self) -> Result<SigSet, Errno> {
        match self.call(Syscall::RtSigpending { set: Ptr::Valid, size: SIGSET_SIZE })? {
            Ret::Pending(set) => Ok(set),
            _ => Ok(SigSet::EMPTY),
        }
    }

    /// Replaces the mask and waits until a handler has run; then the old mask is back.
    ///
    /// # Errors
    ///
    /// EINTR, always (SIG-49).
    ///
    /// # References
    ///
    /// rt_sigsuspend(2); RULES SIG.
    #[doc(alias = "rt_sigsuspend")]
    pub fn sigsuspend(&self, mask: SigSet) -> Result<(), Errno> {
        done(self.syscall(Syscall::RtSigsuspend { mask, size: SIGSET_SIZE }))
    }

    /// Waits until a handler has run.
    ///
    /// # Errors
    ///
    /// EINTR, always (SIG-48).
    ///
    /// # References
    ///
    /// pause(2); RULES SIG.
    pub fn pause(&self) -> Result<(), Errno> {
        done(self.syscall(Syscall::Pause))
    }

    /// Takes a pending signal of a set, or waits for one until `timeout` has passed; `None` waits
    /// without limit.
    ///
    /// # Errors
    ///
    /// EAGAIN if no signal came in time, EINTR if a handler ran.
    ///
    /// # References
    ///
    /// rt_sigtimedwait(2); RULES SIG.
    #[doc(alias = "sigwaitinfo")]
    #[doc(alias = "rt_sigtimedwait")]
    pub fn sigtimedwait(&self, set: SigSet, timeout: Option<Duration>) -> Result<SigInfo, Errno> {
        taken(self.syscall(sigtimedwait(set, timeout)))
    }

    /// The innermost handler of the process returns. A driver calls this after it has run a
    /// handler.
    ///
    /// # References
    ///
    /// rt_sigreturn(2).
    #[doc(alias = "rt_sigreturn")]
    pub fn sigreturn(&self) -> Result<(), Errno> {
        self.done(Syscall::RtSigreturn)
    }
}

/// Process groups, sessions, parents and children.
impl Process {
    /// Moves the process itself or a child into a group of its session. Pid 0 is the process
    /// itself; group 0 is the number of the process that moves.
    ///
    /// # Errors
    ///
    /// EPERM for a session leader or a group of another session, ESRCH for a process that is
    /// neither the caller nor its child, EACCES for a child that has executed a program (GRP-05).
    ///
    /// # References
    ///
    /// setpgid(2); RULES GRP.
    pub fn setpgid(&self, pid: Pid, pgid: Pgid) -> Result<(), Errno> {
        self.done(Syscall::Setpgid { pid: raw(pid.0), pgid: raw(pgid.0) })
    }

    /// The process group of a process; pid 0 is the process itself.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process.
    ///
    /// # References
    ///
    /// getpgid(2); RULES GRP.
    pub fn getpgid(&self, pid: Pid) -> Result<Pgid, Errno> {
        self.number(&Syscall::Getpgid(raw(pid.0))).map(Pgid)
    }

    /// Creates a session and a process group, and leads them.
    ///
    /// # Errors
    ///
    /// EPERM if the process leads a group, or a group of its number has a member (GRP-18).
    ///
    /// # References
    ///
    /// setsid(2); RULES GRP.
    pub fn setsid(&self) -> Result<Sid, Errno> {
        self.number(&Syscall::Setsid).map(Sid)
    }

    /// The session of a process; pid 0 is the process itself.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process.
    ///
    /// # References
    ///
    /// getsid(2); RULES GRP.
    pub fn getsid(&self, pid: Pid) -> Result<Sid, Errno> {
        self.number(&Syscall::Getsid(raw(pid.0))).map(Sid)
    }

    /// The number of the parent; 0 if the parent is not in the table: getppid(2).
    pub fn getppid(&self) -> Result<Pid, Errno> {
        self.number(&Syscall::Getppid).map(Pid)
    }

    /// Sets whether the process is a subreaper: it adopts the orphans among its descendants
    /// (RPT-02).
    ///
    /// # References
    ///
    /// PR_SET_CHILD_SUBREAPER of prctl(2); RULES RPT.
    #[doc(alias = "PR_SET_CHILD_SUBREAPER")]
    pub fn set_subreaper(&self, subreaper: bool) -> Result<(), Errno> {
        self.done(Syscall::Prctl(Prctl::SetChildSubreaper(subreaper.into())))
    }

    /// Sets the signal that the process receives when its parent ends (RPT-12).
    ///
    /// # References
    ///
    /// PR_SET_PDEATHSIG of prctl(2); RULES RPT.
    #[doc(alias = "PR_SET_PDEATHSIG")]
    pub fn set_parent_death_signal(&self, signal: Option<Signal>) -> Result<(), Errno> {
        let sig = signal.map_or(0, |signal| u64::from(signal.number()));
        self.done(Syscall::Prctl(Prctl::SetPdeathsig(sig)))
    }

    /// Waits for a child as a call of the process: the process sleeps in the call, and signals
    /// interrupt it. [`Process::wait`] is the runtime's wait for a child, which no signal
    /// interrupts.
    ///
    /// Returns `None` with WNOHANG if no child has a wait event.
    ///
    /// # Errors
    ///
    /// ECHILD if no child is eligible, EINTR if a handler without SA_RESTART ran, EINVAL for other
    /// options.
    ///
    /// # References
    ///
    /// wait4(2); RULES WAIT.
    #[doc(alias = "wait4")]
    pub fn waitpid(
        &self,
        pid: i32,
        options: WaitOptions,
    ) -> Result<Option<(Pid, WaitStatus)>, Errno> {
        let call = Syscall::Wait4 { pid, status: Ptr::Valid, options };
        Ok(self.syscall(call)?.waited())
    }
}

/// Credentials, limits, files and timers.
impl Process {
    /// The real, effective and saved user id.
    ///
    /// # References
    ///
    /// getresuid(2).
    #[doc(alias = "getresuid")]
    pub fn users(&self) -> Result<[Uid; 3], Errno> {
        match self.call(Syscall::Getresuid)? {
            Ret::Users(users) => Ok(users),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Sets the real, effective and saved user id; `None` keeps an id.
    ///
    /// # Errors
    ///
    /// EPERM if the process may not set these ids (CRED-03).
    ///
    /// # References
    ///
    /// setresuid(2); RULES CRED.
    #[doc(alias = "setresuid")]
    pub fn set_users(&self, users: [Option<Uid>; 3]) -> Result<(), Errno> {
        let [real, effective, saved] = users.map(|user| user.map_or(u32::MAX, |user| user.0));
        self.done(Syscall::Setresuid { real, effective, saved })
    }

    /// Sets the effective user id; a privileged process sets the real and the saved one too.
    ///
    /// # Errors
    ///
    /// EPERM if the process may not set this id (CRED-03).
    ///
    /// # References
    ///
    /// setuid(2); RULES CRED.
    pub fn setuid(&self, user: Uid) -> Result<(), Errno> {
        self.done(Syscall::Setuid(user.0))
    }

    /// Reads a limit, and sets it if `new` is given. Returns the old limit.
    ///
    /// # Errors
    ///
    /// EINVAL for an unknown resource or a soft limit above the hard one, EPERM if the process may
    /// not raise the hard limit.
    ///
    /// # References
    ///
    /// prlimit(2); RULES LIM.
    #[doc(alias = "prlimit")]
    pub fn rlimit(&self, resource: Resource, new: Option<Rlimit>) -> Result<Rlimit, Errno> {
        match self.call(Syscall::Prlimit { pid: 0, resource, new, old: Ptr::Valid })? {
            Ret::Limit(Some(old)) => Ok(old),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Sets the umask and returns the old one: umask(2).
    pub fn umask(&self, mask: u32) -> Result<u32, Errno> {
        self.number(&Syscall::Umask(mask))
    }

    /// The working directory, shared with the table: getcwd(2).
    #[doc(alias = "getcwd")]
    pub fn cwd(&self) -> Result<Arc<str>, Errno> {
        match self.call(Syscall::Getcwd)? {
            Ret::Path(path) => Ok(path),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Sets the working directory. The runtime has checked that it exists.
    ///
    /// # References
    ///
    /// chdir(2).
    #[doc(alias = "chdir")]
    pub fn set_cwd(&self, path: impl Into<Arc<str>>) -> Result<(), Errno> {
        self.done(Syscall::Chdir { path: path.into(), error: None })
    }

    /// Generates SIGALRM after that number of seconds; 0 cancels it. Returns the seconds that were
    /// left.
    ///
    /// # References
    ///
    /// alarm(2); RULES TIME.
    pub fn alarm(&self, seconds: u32) -> Result<u32, Errno> {
        self.number(&Syscall::Alarm(seconds))
    }

    /// Sets the interval timer on real time; `None` disarms it. Returns the old value.
    ///
    /// # Errors
    ///
    /// EINVAL for a value that is not a valid time (TIME-05).
    ///
    /// # References
    ///
    /// setitimer(2); RULES TIME.
    pub fn setitimer(&self, new: Option<Itimerval>) -> Result<Itimerval, Errno> {
        match self.call(Syscall::Setitimer { which: ITIMER_REAL, new, old: Ptr::Valid })? {
            Ret::Itimer(Some(old)) => Ok(old),
            _ => Ok(Itimerval::default()),
        }
    }
}

/// For drivers, which hold no handle of the table.
impl Process {
    pub(crate) fn parts(&self) -> (Arc<TableInner>, ProcessKey) {
        (self.table.shared().clone(), self.key)
    }

    /// Another process of the same table.
    pub(crate) fn sibling(&self, key: ProcessKey) -> Process {
        Process::new(self.table.clone(), key)
    }
}
