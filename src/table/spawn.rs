//! The creation of processes, with their driver, process group and program.

use alloc::sync::Arc;

use super::clock::Clock;
use super::commit::{TableInner, TableState, wait_for_zombie};
use super::process::Process;
use super::registry::{Image, ProcessKey, RunBy};
use crate::abi::{Errno, Handler, Pgid, Pid, SigAction, SigSet, Uid};
use crate::driver::{Attachment, Authority, DriverProcess, NullDriver, Reporter};
use crate::kernel::{Canonical, Effects, Kernel, Outcome, SmallList};
use crate::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall, how};

/// The process group of a new process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum GroupChoice {
    /// The group of its parent (FORK-01).
    #[default]
    Inherit,
    /// A new group, which it leads.
    Own,
    /// This group, which must exist in the parent's session (GRP-08).
    Join(Pgid),
    /// A new session, and the group that comes with it (GRP-16).
    Session,
}

/// The settings of a process to be created.
///
/// The process is created, placed in its group and has executed its program in one step: no other
/// process sees an intermediate state. By default it is in its parent's group, the model has the
/// authority, and it has no driver.
#[derive(Debug)]
#[must_use]
pub struct Spawn {
    /// The program; `None` to continue its parent's program.
    image: Option<Arc<Image>>,
    /// Its number; `None` for the next free one.
    pid: Option<Pid>,
    group: GroupChoice,
    authority: Authority,
    safe_points: bool,
    driver: Option<Arc<dyn DriverProcess>>,
    attachment: Attachment,
    /// The calls that the child makes before it executes its program.
    calls: SmallList<Syscall>,
}

impl Spawn {
    /// A process that executes `image`.
    pub fn new(image: impl Into<Arc<Image>>) -> Spawn {
        Spawn { image: Some(image.into()), ..Spawn::fork() }
    }

    /// A process that continues its parent's program, as after fork(2): its handlers stay, and its
    /// parent can still move it into a group (EXEC-10).
    pub fn fork() -> Spawn {
        Spawn {
            image: None,
            pid: None,
            group: GroupChoice::Inherit,
            authority: Authority::Model,
            safe_points: false,
            driver: None,
            attachment: Attachment::default(),
            calls: SmallList::new(),
        }
    }

    /// Sets the driver, and [attaches](DriverProcess::attach) it. Operations may come before the
    /// call that creates the process has returned.
    pub fn driver<D: DriverProcess>(mut self, driver: Arc<D>) -> Spawn {
        driver.attach(&self.attachment);
        // a driver that does nothing needs no driver queue
        let null = core::any::TypeId::of::<D>() == core::any::TypeId::of::<NullDriver>();
        self.driver = if null { None } else { Some(driver) };
        self
    }

    /// The process runs handlers at safe points only, as an engine without preemption does: each
    /// thread takes its handlers itself ([`Thread::checkpoint`](super::Thread::checkpoint)), and
    /// [`deliver`](DriverProcess::deliver) is not called.
    ///
    /// Handlers come before the next call of their thread, and a call that sleeps is interrupted
    /// for them: [`Call::wait_or_deliver`](super::Call::wait_or_deliver). A child that the process
    /// creates by fork(2) has neither safe points nor a driver.
    pub fn safe_points(mut self) -> Spawn {
        self.safe_points = true;
        self
    }

    /// Sets the side that decides when the process stops, continues and ends.
    pub fn authority(mut self, authority: Authority) -> Spawn {
        self.authority = authority;
        self
    }

    /// Sets the number of the process; the next free one by default (PID-01). The next number of
    /// other processes does not change (PID-13).
    ///
    /// [`Process::spawn`] fails with EEXIST if a process, thread, group or session has the number,
    /// with EINVAL if it is 0 or not below [`Config::pid_max`](crate::kernel::Config::pid_max), and
    /// with EPERM if the parent has no CAP_CHECKPOINT_RESTORE: its effective user is not root
    /// (PID-14). The table takes memory in proportion to the largest number, 2 MiB for the highest
    /// one.
    ///
    /// ```
    /// use proctable::abi::{Errno, Pid};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let spawn = || Spawn::new(Image::new("restored")).pid(Pid(42));
    /// assert_eq!(table.spawn(spawn())?.pid(), Pid(42));
    /// assert_eq!(table.spawn(spawn()).err(), Some(Errno::EEXIST));
    /// // the sequence of the other numbers continues
    /// assert_eq!(table.spawn(Spawn::new(Image::new("next")))?.pid(), Pid(2));
    /// # Ok::<(), Errno>(())
    /// ```
    ///
    /// # References
    ///
    /// clone3(2), `set_tid`; RULES PID.
    #[doc(alias = "set_tid")]
    pub fn pid(mut self, pid: Pid) -> Spawn {
        self.pid = Some(pid);
        self
    }

    /// Sets the process group.
    #[doc(alias = "POSIX_SPAWN_SETPGROUP")]
    pub fn group(mut self, group: GroupChoice) -> Spawn {
        self.group = group;
        self
    }

    /// Gives the process a new group.
    pub fn own_group(self) -> Spawn {
        self.group(GroupChoice::Own)
    }

    /// Gives the process a new session.
    #[doc(alias = "setsid")]
    #[doc(alias = "POSIX_SPAWN_SETSID")]
    pub fn session(self) -> Spawn {
        self.group(GroupChoice::Session)
    }

    /// Sets the umask to the low 9 bits of `mask`; its parent's by default (MISC-01, MISC-02).
    pub fn umask(self, mask: u32) -> Spawn {
        self.calling(Syscall::Umask(mask))
    }

    /// Sets the working directory; its parent's by default. The runtime has checked that it exists.
    #[doc(alias = "chdir")]
    pub fn cwd(self, path: impl Into<Arc<str>>) -> Spawn {
        self.calling(Syscall::Chdir { path: path.into(), error: None })
    }

    /// Sets the signals that the process blocks; those of its parent by default (FORK-02).
    #[doc(alias = "POSIX_SPAWN_SETSIGMASK")]
    pub fn mask(self, mask: SigSet) -> Spawn {
        let (how, set, old, size) = (how::SETMASK, Some(mask), Ptr::Null, SIGSET_SIZE);
        self.calling(Syscall::RtSigprocmask { how, set, old, size })
    }

    /// Sets these signals to SIG_DFL. Without it, a signal that the parent ignores is ignored, as
    /// execve(2) keeps that (EXEC-01); with [`Spawn::fork`] the parent's handlers stay as well.
    /// SIGKILL and SIGSTOP in the set have no effect.
    ///
    /// ```
    /// use proctable::abi::{SigAction, SigSet, Signal};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let nohup = Spawn::new(Image::new("nohup")).ignored_signals(Signal::HUP.set());
    /// let nohup = table.spawn(nohup)?;
    /// let heir = nohup.spawn(Spawn::new(Image::new("sleep")))?;
    /// assert_eq!(heir.view().map(|view| view.ignored), Some(Signal::HUP.set()));
    /// let fresh = Spawn::new(Image::new("sleep")).default_signals(SigSet::FULL);
    /// let fresh = nohup.spawn(fresh)?;
    /// assert_eq!(fresh.disposition(Signal::HUP)?, SigAction::DEFAULT);
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    ///
    /// # References
    ///
    /// posix_spawnattr_setsigdefault(3).
    #[doc(alias = "POSIX_SPAWN_SETSIGDEF")]
    pub fn default_signals(self, signals: SigSet) -> Spawn {
        self.actions(signals, SigAction::DEFAULT)
    }

    /// Sets these signals to SIG_IGN, as nohup(1) does with SIGHUP before it executes a program.
    /// SIGKILL and SIGSTOP in the set have no effect.
    #[doc(alias = "SIG_IGN")]
    pub fn ignored_signals(self, signals: SigSet) -> Spawn {
        self.actions(signals, SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT })
    }

    fn actions(self, signals: SigSet, action: SigAction) -> Spawn {
        // SIG-07: sigaction(2) would fail
        let signals = signals - SigSet::KERNEL_ONLY;
        signals.iter().fold(self, |spawn, signal| {
            let (sig, act) = (signal.number().into(), Some(action));
            spawn.calling(Syscall::RtSigaction { sig, act, old: Ptr::Null, size: SIGSET_SIZE })
        })
    }

    /// Sets the real, effective and saved user id; `None` keeps the parent's. If the parent may not
    /// take that user id, it cannot create such a child: EPERM (CRED-05).
    #[doc(alias = "POSIX_SPAWN_RESETIDS")]
    pub fn users(self, users: [Option<Uid>; 3]) -> Spawn {
        let [real, effective, saved] = users.map(|user| user.map_or(u32::MAX, |user| user.0));
        self.calling(Syscall::Setresuid { real, effective, saved })
    }

    /// The authority of the process.
    pub(crate) fn authority_of(&self) -> Authority {
        self.authority
    }

    fn calling(mut self, call: Syscall) -> Spawn {
        self.calls.push(call);
        self
    }

    /// The reporter of the process. A report that comes before the process exists takes effect at
    /// its creation.
    pub fn reporter(&self) -> Reporter {
        self.attachment.reporter()
    }

    /// Creates the process. The inner result says whether its preparation succeeded.
    fn make(
        &self,
        parent: Pid,
        executes: bool,
        kernel: &mut Kernel,
        fx: &mut Effects,
    ) -> Result<(Pid, Result<(), Errno>), Errno> {
        let child = match kernel.fork_on_behalf(parent, self.pid, fx) {
            Ok(Ok(Ret::Value(pid))) => Pid(pid as u32),
            Ok(Ok(_)) => return Err(Errno::ENOSYS),
            Ok(Err(errno)) => return Err(errno),
            Err(_) => return Err(Errno::ESRCH),
        };
        Ok((child, self.prepare(child, executes, kernel, fx)))
    }

    /// Places the new process in its group, makes its calls, and executes its program.
    fn prepare(
        &self,
        pid: Pid,
        executes: bool,
        kernel: &mut Kernel,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let placing = match self.group {
            GroupChoice::Inherit => None,
            GroupChoice::Own => Some(Syscall::Setpgid { pid: 0, pgid: 0 }),
            GroupChoice::Join(pgid) => Some(Syscall::Setpgid { pid: 0, pgid: pgid.0 as i32 }),
            GroupChoice::Session => Some(Syscall::Setsid),
        };
        for call in placing.iter().chain(self.calls.iter()) {
            if let Ok(Outcome::Returned(Err(errno))) = kernel.call(pid, call, fx) {
                return Err(errno);
            }
            // the call returns after other tasks have run because of it
            kernel.settle(&mut Canonical, fx);
        }
        if executes && let Ok(Err(errno)) = kernel.exec_on_behalf(pid, fx) {
            return Err(errno);
        }
        Ok(())
    }
}

impl Process {
    /// Creates a child of this process, in any state of this process: as if another thread of it
    /// called fork, called setpgid or setsid in the child, and then execve.
    ///
    /// # Errors
    ///
    /// - EAGAIN: [`TableLimits::processes`](super::TableLimits::processes), RLIMIT_NPROC (LIM-01)
    ///   or the end of the numbers is reached; or the child's user exceeds RLIMIT_NPROC (EXEC-17).
    /// - EPERM: there is no such group in the parent's session (GRP-08), or the parent may not take
    ///   that user id or choose a number.
    /// - EEXIST, EINVAL: the number is in use or out of range ([`Spawn::pid`]).
    /// - ENOMEM: the namespace's init has ended (NS-04).
    /// - ESRCH: this process has ended.
    ///
    /// After an error there is no child. If the error is found after the fork, because of the user
    /// id, the child has ended with code 127 and is reaped, as in posix_spawn(3): its number is
    /// skipped, and its parent receives SIGCHLD.
    ///
    /// # References
    ///
    /// posix_spawn(3), fork(2), setpgid(2), setsid(2), execve(2); RULES FORK, GRP, EXEC.
    #[doc(alias = "fork")]
    #[doc(alias = "register")]
    pub fn spawn(&self, spawn: Spawn) -> Result<Process, Errno> {
        let shared = self.table.shared();
        let key = shared.spawn(self.key, spawn)?;
        Ok(Process::new(self.table.clone(), key))
    }
}

impl TableInner {
    pub(crate) fn spawn(
        self: &Arc<TableInner>,
        parent: ProcessKey,
        mut spawn: Spawn,
    ) -> Result<ProcessKey, Errno> {
        // the rest of `spawn` is dropped after the lock is released: the driver's `Drop` is code of
        // the embedder
        self.commit(|state| {
            if state.is_closed() || state.process_registry.entry(parent).is_none() {
                return Err(Errno::ESRCH);
            }
            if state.is_full() {
                return Err(Errno::EAGAIN);
            }
            state.check_group(parent.pid, spawn.group)?;
            let child = state.create(self, parent.pid, &mut spawn)?;
            state.furnish(self, child, &mut spawn)
        })
    }
}

impl TableState {
    /// Checks, before there is a child, whether a child of `parent` may join that group.
    fn check_group(&self, parent: Pid, group: GroupChoice) -> Result<(), Errno> {
        let GroupChoice::Join(pgid) = group else { return Ok(()) };
        if pgid == Pgid(0) {
            // a group outside of the pid namespace has this number (GRP-22); to setpgid it means
            // the child's own number
            return Err(Errno::EPERM);
        }
        let session = |pid| self.kernel.view(pid).map(|view| view.sid);
        let member = self.kernel.members_of(pgid).next();
        // GRP-08
        match member {
            Some(member) if session(member) == session(parent) => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    /// Creates the child, places it and has it execute its program, in one step of the model. After
    /// an error the child ends and is reaped.
    fn create(
        &mut self,
        shared: &TableInner,
        parent: Pid,
        spawn: &mut Spawn,
    ) -> Result<Pid, Errno> {
        let clock = &*shared.clock;
        let executes = spawn.image.is_some();
        self.process_registry.next_image = spawn.image.take();
        self.process_registry.skips_factory = true;
        let made =
            self.apply_external(clock, |kernel, fx| spawn.make(parent, executes, kernel, fx));
        self.process_registry.next_image = None;
        self.process_registry.skips_factory = false;
        let (child, prepared) = made?;
        if let Err(errno) = prepared {
            self.withdraw(parent, child, clock);
            return Err(errno);
        }
        Ok(child)
    }

    /// Ends and reaps the child in one step: no wait returns it, and the exit callback does not run
    /// for it.
    fn withdraw(&mut self, parent: Pid, child: Pid, clock: &dyn Clock) {
        self.process_registry.rolled_back = Some(child);
        self.apply_external(clock, |kernel, fx| {
            let _ = kernel.call(child, &Syscall::ExitGroup(127), fx);
            let _ = kernel.poll_wait(parent, &wait_for_zombie(child), fx);
        });
        self.process_registry.rolled_back = None;
    }

    /// Gives a new process its driver, and applies the reports that came before its creation.
    fn furnish(
        &mut self,
        shared: &Arc<TableInner>,
        pid: Pid,
        spawn: &mut Spawn,
    ) -> Result<ProcessKey, Errno> {
        // the process was created in this step, and is alive
        let _ = match spawn.authority {
            Authority::Model => Ok(()),
            Authority::Runtime => self.kernel.set_runtime_authority(pid),
            Authority::Host => self.kernel.set_host_authority(pid),
        };
        let entry = self.process_registry.entries.get_mut(pid).ok_or(Errno::ESRCH)?;
        let key = ProcessKey { pid, serial: entry.serial };
        entry.run_by = match spawn.authority {
            Authority::Host => RunBy::Host,
            Authority::Model if spawn.safe_points => RunBy::SafePoints,
            Authority::Model => RunBy::Driver,
            Authority::Runtime if spawn.safe_points => RunBy::RuntimeSafePoints,
            Authority::Runtime => RunBy::Runtime,
        };
        self.process_registry.has_safe_points |= entry.run_by.has_safe_points();
        if let Some(driver) = spawn.driver.take() {
            entry.driver_queue = Some(self.process_registry.queues.add(key, Some(driver)));
        }
        for report in spawn.attachment.bind(shared, key) {
            self.receive(key, report, &*shared.clock);
        }
        Ok(key)
    }
}
