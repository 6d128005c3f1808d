//! A handle of one process, and the calls that it makes.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use super::call::{End, Started};
use super::guest::Caller;
use super::registry::{Image, ProcessKey};
use super::{Call, Init, ProcessTable, TableInner};
use crate::abi::{
    Errno, Itimerval, Pgid, Pid, Resource, Rlimit, Sid, SigAction, SigInfo, SigSet, Signal,
    Timespec, Uid, WaitOptions, WaitStatus,
};
use crate::syscall::{self, ITIMER_REAL, Prctl, Ptr, QueuedInfo, Ret, SIGSET_SIZE, Syscall, how};

/// How a set changes a mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SigmaskHow {
    /// Add to it.
    Block,
    /// Take out of it.
    Unblock,
    /// Replace it.
    SetMask,
}

impl SigmaskHow {
    /// The call that does it.
    pub(super) fn call(self, set: SigSet) -> Syscall {
        let how = match self {
            SigmaskHow::Block => how::BLOCK,
            SigmaskHow::Unblock => how::UNBLOCK,
            SigmaskHow::SetMask => how::SETMASK,
        };
        Syscall::RtSigprocmask { how, set: Some(set), old: Ptr::Valid, size: SIGSET_SIZE }
    }
}

/// The mask that rt_sigprocmask gives back.
pub(super) fn old_mask(ret: &Ret) -> SigSet {
    match ret {
        Ret::Mask(Some(old)) => *old,
        _ => SigSet::EMPTY,
    }
}

/// The call that takes a signal of a set, and waits for one as long as that.
pub(super) fn sigtimedwait(set: SigSet, timeout: Option<Duration>) -> Syscall {
    let timeout = timeout.map(|timeout| Timespec {
        sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        nsec: timeout.subsec_nanos().into(),
    });
    Syscall::RtSigtimedwait { set, info: Ptr::Valid, timeout, size: SIGSET_SIZE }
}

/// The signal that it took.
pub(super) fn taken(result: syscall::Result) -> Result<SigInfo, Errno> {
    match result? {
        Ret::Signal(info) => Ok(info),
        _ => Err(Errno::EAGAIN),
    }
}

/// One process of a table, for good: when its number is another's, this handle still names the
/// one that it was made for, and everything gives ESRCH.
///
/// Unless they say otherwise, its methods are calls of the process itself, as
/// [`ProcessTable::syscall`] makes them: they wait while the process is stopped or in another
/// call, and give ESRCH if it is dead. Its first thread makes them, or the first of those that
/// outlive that; each other thread has a handle of its own, [`Thread`](super::Thread). It holds a
/// handle of its table.
#[derive(Clone)]
pub struct Process {
    pub(super) table: ProcessTable,
    pub(super) key: ProcessKey,
}

/// Which process, for good: its number may be another's, this is not.
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

/// A number as a guest passes it.
pub(super) fn raw(number: u32) -> i32 {
    // the model's numbers end at 2^22
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn done(result: syscall::Result) -> Result<(), Errno> {
    result.map(drop)
}

impl Process {
    pub(super) fn new(table: ProcessTable, key: ProcessKey) -> Process {
        Process { table, key }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.key.pid
    }

    /// Which process it is, for good.
    pub fn id(&self) -> ProcessId {
        ProcessId(self.key)
    }

    /// Its table.
    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// The process makes a call, and this thread waits for it: see [`ProcessTable::syscall`].
    ///
    /// # Errors
    ///
    /// The errno of the call; ESRCH if the process is dead, or if it ends during the call.
    pub fn syscall(&self, call: Syscall) -> syscall::Result {
        self.submit(call).wait()
    }

    /// The same without waiting for its return.
    pub fn submit(&self, call: Syscall) -> Call {
        Call::new(self.table.clone(), self.start(&call), self.caller())
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

    /// A call that cannot sleep in the model.
    #[inline]
    fn call(&self, call: Syscall) -> syscall::Result {
        self.table.shared().result(self.start(&call))
    }

    /// One that returns a number.
    #[inline(never)]
    fn number(&self, call: &Syscall) -> Result<u32, Errno> {
        self.table.shared().value(self.start(call)).map(|value| value as u32)
    }

    /// One that returns nothing of interest.
    #[inline]
    fn done(&self, call: Syscall) -> Result<(), Errno> {
        self.number(&call).map(drop)
    }
}

/// Birth and death.
impl Process {
    /// Creates a copy of this process that nobody runs: [`Process::spawn`] of
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

    /// Executes another program: handlers become the default action, mask and pending signals
    /// stay.
    ///
    /// # Errors
    ///
    /// EAGAIN if a set*uid left its user over RLIMIT_NPROC (EXEC-17).
    ///
    /// # References
    ///
    /// execve(2); RULES EXEC.
    #[doc(alias = "execve")]
    pub fn exec(&self, image: impl Into<Arc<Image>>) -> Result<(), Errno> {
        let image = image.into();
        let path: Arc<str> = image.program.as_str().into();
        let shared = self.table.shared();
        shared.commit(|state| state.process_registry.prepare(path.clone(), image));
        let executed = self.call(Syscall::Execve { path: path.clone(), error: None });
        if executed.is_err() {
            shared.commit(|state| state.process_registry.take_prepared(&path));
        }
        done(executed)
    }

    /// Ends with `code`, of which the low 8 bits count (EXIT-01).
    ///
    /// # References
    ///
    /// exit_group(2); RULES EXIT.
    #[doc(alias = "exit_group")]
    pub fn exit(&self, code: i32) -> Result<(), Errno> {
        self.done(Syscall::ExitGroup(code))
    }

    /// Reports that it ended, stopped or continued, as its driver would
    /// ([`Reporter`](crate::driver::Reporter)): the runtime's act. No effect once it has ended, and
    /// none on the table's own process 1 ([`Init::Table`](super::Init::Table)).
    #[doc(alias = "mark_exited")]
    #[doc(alias = "mark_stopped")]
    #[doc(alias = "mark_continued")]
    pub fn report(&self, status: WaitStatus) {
        if !self.is_tables_init() {
            self.table.shared().report(self.key, status);
        }
    }
}

/// Signals.
impl Process {
    /// Sends a signal to a process.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process, EPERM if its users forbid it (KILL-14).
    ///
    /// # References
    ///
    /// kill(2); RULES KILL.
    pub fn kill(&self, pid: Pid, signal: Signal) -> Result<(), Errno> {
        self.kill_raw(raw(pid.0), signal.number().into())
    }

    /// Sends a signal to all members of a group (KILL-04).
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such group, EPERM if no member may be signalled. Groups 0 and 1 cannot
    /// be named this way: ESRCH.
    ///
    /// # References
    ///
    /// kill(2), killpg(3); RULES KILL.
    #[doc(alias = "killpg")]
    pub fn kill_group(&self, pgid: Pgid, signal: Signal) -> Result<(), Errno> {
        if pgid.0 <= 1 {
            // to kill(2) these would be the caller itself and everybody
            return Err(Errno::ESRCH);
        }
        self.kill_raw(-raw(pgid.0), signal.number().into())
    }

    /// Sends a signal to the members of its own process group, itself included: kill(2) with pid 0.
    ///
    /// # Errors
    ///
    /// EPERM if the process may signal no member.
    #[doc(alias = "kill")]
    pub fn kill_own_group(&self, signal: Signal) -> Result<(), Errno> {
        self.kill_raw(0, signal.number().into())
    }

    /// Sends a signal to everybody but process 1 and itself (KILL-03).
    ///
    /// # Errors
    ///
    /// ESRCH if there is nobody else. Not EPERM if none of them may be signalled (KILL-10).
    ///
    /// # References
    ///
    /// kill(2) with pid -1; RULES KILL.
    #[doc(alias = "kill")]
    pub fn kill_all(&self, signal: Signal) -> Result<(), Errno> {
        self.kill_raw(-1, signal.number().into())
    }

    /// Whether it may send a signal to a process: signal 0.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process, EPERM if it may not.
    ///
    /// # References
    ///
    /// kill(2); RULES KILL-01.
    #[doc(alias = "kill")]
    pub fn may_kill(&self, pid: Pid) -> Result<(), Errno> {
        self.kill_raw(raw(pid.0), 0)
    }

    /// Whether it may send a signal to any member of a process group: signal 0.
    ///
    /// # Errors
    ///
    /// Those of [`Process::kill_group`].
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
    /// As [`Process::kill`]; EAGAIN if the target's user has too many queued (LIM-08).
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

    /// Sends it a signal from outside of its namespace: the runtime's act. SIGKILL and SIGSTOP
    /// reach process 1 too, no permission is asked, and the sender is not visible (KILL-22,
    /// KILL-29).
    ///
    /// # Errors
    ///
    /// ESRCH if it has been reaped, EPERM for the table's own process 1
    /// ([`Init::Table`](super::Init::Table)), which is nobody's guest.
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

    /// Sets what it does on a signal; gives back what it did.
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

    /// Its action for a signal: sigaction(2) without a new one.
    ///
    /// # Errors
    ///
    /// EINVAL for a number that is no signal.
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

    /// Changes its mask; gives back the old one. What the new one lets through is delivered before
    /// this returns (SIG-17). SIGKILL and SIGSTOP are never in it.
    ///
    /// # References
    ///
    /// rt_sigprocmask(2); RULES SIG.
    #[doc(alias = "rt_sigprocmask")]
    pub fn sigprocmask(&self, change: SigmaskHow, set: SigSet) -> Result<SigSet, Errno> {
        self.call(change.call(set)).map(|ret| old_mask(&ret))
    }

    /// The pending signals that it blocks.
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

    /// Waits with another mask until a handler has run.
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

    /// Takes a pending signal of a set, and waits for one as long as that; `None` is for ever.
    ///
    /// # Errors
    ///
    /// EAGAIN if none came, EINTR if a handler ran.
    ///
    /// # References
    ///
    /// rt_sigtimedwait(2); RULES SIG.
    #[doc(alias = "sigwaitinfo")]
    #[doc(alias = "rt_sigtimedwait")]
    pub fn sigtimedwait(&self, set: SigSet, timeout: Option<Duration>) -> Result<SigInfo, Errno> {
        taken(self.syscall(sigtimedwait(set, timeout)))
    }

    /// Its innermost handler returns: what a driver has called once it has run one.
    ///
    /// # References
    ///
    /// rt_sigreturn(2).
    #[doc(alias = "rt_sigreturn")]
    pub fn sigreturn(&self) -> Result<(), Errno> {
        self.done(Syscall::RtSigreturn)
    }
}

/// Groups, sessions and family.
impl Process {
    /// Moves itself or a child into a group of its session; pid 0 is itself, group 0 is the number
    /// of the process.
    ///
    /// # Errors
    ///
    /// EPERM for a session leader or a group of another session, ESRCH for a stranger, EACCES for
    /// a child that has executed a program (GRP-05).
    ///
    /// # References
    ///
    /// setpgid(2); RULES GRP.
    pub fn setpgid(&self, pid: Pid, pgid: Pgid) -> Result<(), Errno> {
        self.done(Syscall::Setpgid { pid: raw(pid.0), pgid: raw(pgid.0) })
    }

    /// The group of a process; pid 0 is itself.
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

    /// Begins a session of its own.
    ///
    /// # Errors
    ///
    /// EPERM if it leads a group, or a group of its number has a member (GRP-18).
    ///
    /// # References
    ///
    /// setsid(2); RULES GRP.
    pub fn setsid(&self) -> Result<Sid, Errno> {
        self.number(&Syscall::Setsid).map(Sid)
    }

    /// The session of a process; pid 0 is itself.
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

    /// The number of its parent; 0 if the parent is not in the table: getppid(2).
    pub fn getppid(&self) -> Result<Pid, Errno> {
        self.number(&Syscall::Getppid).map(Pid)
    }

    /// Whether it adopts the orphans among its descendants (RPT-02).
    ///
    /// # References
    ///
    /// PR_SET_CHILD_SUBREAPER of prctl(2); RULES RPT.
    #[doc(alias = "PR_SET_CHILD_SUBREAPER")]
    pub fn set_subreaper(&self, subreaper: bool) -> Result<(), Errno> {
        self.done(Syscall::Prctl(Prctl::SetChildSubreaper(subreaper.into())))
    }

    /// The signal that it gets when its parent ends (RPT-12).
    ///
    /// # References
    ///
    /// PR_SET_PDEATHSIG of prctl(2); RULES RPT.
    #[doc(alias = "PR_SET_PDEATHSIG")]
    pub fn set_parent_death_signal(&self, signal: Option<Signal>) -> Result<(), Errno> {
        let sig = signal.map_or(0, |signal| u64::from(signal.number()));
        self.done(Syscall::Prctl(Prctl::SetPdeathsig(sig)))
    }

    /// Waits for a child as the process itself: it sleeps in the call and signals interrupt it.
    /// [`Process::wait`] is the runtime's wait for it, which nothing interrupts.
    ///
    /// `None` is WNOHANG's "nothing yet".
    ///
    /// # Errors
    ///
    /// ECHILD without an eligible child, EINTR if a handler without SA_RESTART ran, EINVAL for
    /// other options.
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
    /// Its real, effective and saved user.
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

    /// Sets its real, effective and saved user; `None` leaves one as it is.
    ///
    /// # Errors
    ///
    /// EPERM if it may not (CRED-03).
    ///
    /// # References
    ///
    /// setresuid(2); RULES CRED.
    #[doc(alias = "setresuid")]
    pub fn set_users(&self, users: [Option<Uid>; 3]) -> Result<(), Errno> {
        let [real, effective, saved] = users.map(|user| user.map_or(u32::MAX, |user| user.0));
        self.done(Syscall::Setresuid { real, effective, saved })
    }

    /// Sets its user, all three of them where it may.
    ///
    /// # Errors
    ///
    /// EPERM if it may not (CRED-03).
    ///
    /// # References
    ///
    /// setuid(2); RULES CRED.
    pub fn setuid(&self, user: Uid) -> Result<(), Errno> {
        self.done(Syscall::Setuid(user.0))
    }

    /// Reads and, if there is a new one, sets a limit; gives back the old one.
    ///
    /// # Errors
    ///
    /// EINVAL for an unknown resource or a soft limit above the hard one, EPERM for a hard limit
    /// that it may not raise.
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

    /// Sets its umask and returns the old one: umask(2).
    pub fn umask(&self, mask: u32) -> Result<u32, Errno> {
        self.number(&Syscall::Umask(mask))
    }

    /// Its working directory, shared with the table: getcwd(2).
    #[doc(alias = "getcwd")]
    pub fn cwd(&self) -> Result<Arc<str>, Errno> {
        match self.call(Syscall::Getcwd)? {
            Ret::Path(path) => Ok(path),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Sets its working directory, which the runtime has found to exist.
    ///
    /// # References
    ///
    /// chdir(2).
    #[doc(alias = "chdir")]
    pub fn set_cwd(&self, path: impl Into<Arc<str>>) -> Result<(), Errno> {
        self.done(Syscall::Chdir { path: path.into(), error: None })
    }

    /// SIGALRM in that many seconds, none for 0; gives back the seconds that were left.
    ///
    /// # References
    ///
    /// alarm(2); RULES TIME.
    pub fn alarm(&self, seconds: u32) -> Result<u32, Errno> {
        self.number(&Syscall::Alarm(seconds))
    }

    /// Sets its interval timer on real time, or takes it back; gives back the old one.
    ///
    /// # Errors
    ///
    /// EINVAL for what is no time (TIME-05).
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
