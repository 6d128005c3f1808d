//! New processes, with their driver and their place.

use alloc::sync::Arc;

use super::clock::Clock;
use super::commit::{TableInner, TableState, wait_for_zombie};
use super::process::Process;
use super::registry::{Image, ProcessKey, RunBy};
use crate::abi::{Errno, Pgid, Pid, SigSet, Uid};
use crate::driver::{Authority, DriverProcess, NullDriver, Reporter};
use crate::kernel::{Canonical, Effects, Kernel, Outcome, SmallList};
use crate::sync::OnceLock;
use crate::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall, how};

/// The group of a new process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum GroupChoice {
    /// Its parent's (FORK-01).
    #[default]
    Inherit,
    /// One of its own.
    Own,
    /// That one, which must exist in the parent's session (GRP-08).
    Join(Pgid),
    /// A session of its own, and the group that comes with it (GRP-16).
    Session,
}

/// A process to be created.
///
/// It is created, placed and has executed its program in one step: nobody sees it half made. By
/// default it has its parent's group, the model's authority, and nobody who runs it.
#[derive(Debug)]
#[must_use]
pub struct Spawn {
    /// What it executes; `None` to go on with its parent's program.
    image: Option<Arc<Image>>,
    group: GroupChoice,
    authority: Authority,
    safe_points: bool,
    driver: Option<Arc<dyn DriverProcess>>,
    reporter: EarlyReporter,
    /// What the child does before it executes its program.
    calls: SmallList<Syscall>,
}

/// What reports about a process that there may never be, if anybody has asked for it.
#[derive(Debug, Default)]
struct EarlyReporter(OnceLock<Reporter>);

impl Drop for EarlyReporter {
    fn drop(&mut self) {
        if let Some(reporter) = self.0.get() {
            reporter.close_unbound();
        }
    }
}

impl Spawn {
    /// A process that executes `image`.
    pub fn new(image: impl Into<Arc<Image>>) -> Spawn {
        Spawn { image: Some(image.into()), ..Spawn::fork() }
    }

    /// A process that goes on with its parent's program, as after fork(2): its handlers stay, and
    /// its parent can still move it into a group (EXEC-10).
    pub fn fork() -> Spawn {
        Spawn {
            image: None,
            group: GroupChoice::Inherit,
            authority: Authority::Model,
            safe_points: false,
            driver: None,
            reporter: EarlyReporter::default(),
            calls: SmallList::new(),
        }
    }

    /// Who runs it, who [is told](DriverProcess::attach). Operations may come before the call that
    /// creates the process has returned.
    pub fn driver<D: DriverProcess>(mut self, driver: Arc<D>) -> Spawn {
        driver.attach(&self);
        // a table keeps no queue for what does nothing
        let null = core::any::TypeId::of::<D>() == core::any::TypeId::of::<NullDriver>();
        self.driver = if null { None } else { Some(driver) };
        self
    }

    /// It runs its handlers at certain points only, as an engine without preemption does: each
    /// thread takes them itself ([`Thread::checkpoint`](super::Thread::checkpoint)), and
    /// [`deliver`](DriverProcess::deliver) is not called.
    ///
    /// Handlers come before the next call of their thread, and a call that sleeps is interrupted
    /// for them: [`Call::wait_or_deliver`](super::Call::wait_or_deliver). A child that it creates
    /// itself by fork(2) has none, and a driver of its own neither.
    pub fn safe_points(mut self) -> Spawn {
        self.safe_points = true;
        self
    }

    /// Who decides what becomes of it.
    pub fn authority(mut self, authority: Authority) -> Spawn {
        self.authority = authority;
        self
    }

    /// Its group.
    pub fn group(mut self, group: GroupChoice) -> Spawn {
        self.group = group;
        self
    }

    /// A group of its own.
    pub fn own_group(self) -> Spawn {
        self.group(GroupChoice::Own)
    }

    /// A session of its own.
    #[doc(alias = "setsid")]
    pub fn session(self) -> Spawn {
        self.group(GroupChoice::Session)
    }

    /// Its umask, of which the low 9 bits count; its parent's by default (MISC-01, MISC-02).
    pub fn umask(self, mask: u32) -> Spawn {
        self.calling(Syscall::Umask(mask))
    }

    /// Its working directory, which the runtime has found to exist; its parent's by default.
    #[doc(alias = "chdir")]
    pub fn cwd(self, path: impl Into<Arc<str>>) -> Spawn {
        self.calling(Syscall::Chdir { path: path.into(), error: None })
    }

    /// The signals that it blocks; those that its parent blocks by default (FORK-02).
    #[doc(alias = "POSIX_SPAWN_SETSIGMASK")]
    pub fn mask(self, mask: SigSet) -> Spawn {
        let (how, set, old, size) = (how::SETMASK, Some(mask), Ptr::Null, SIGSET_SIZE);
        self.calling(Syscall::RtSigprocmask { how, set, old, size })
    }

    /// Its real, effective and saved user; `None` leaves its parent's. A parent that may not
    /// become that user cannot create such a child either: EPERM (CRED-05).
    #[doc(alias = "POSIX_SPAWN_RESETIDS")]
    pub fn users(self, users: [Option<Uid>; 3]) -> Spawn {
        let [real, effective, saved] = users.map(|user| user.map_or(u32::MAX, |user| user.0));
        self.calling(Syscall::Setresuid { real, effective, saved })
    }

    fn calling(mut self, call: Syscall) -> Spawn {
        self.calls.push(call);
        self
    }

    /// What reports about it. What is reported before the process exists takes effect when it does.
    pub fn reporter(&self) -> Reporter {
        self.reporter.0.get_or_init(Reporter::new).clone()
    }

    /// Makes the process, which executes a program or goes on with its parent's; whether it could
    /// be prepared.
    fn make(
        &self,
        parent: Pid,
        executes: bool,
        kernel: &mut Kernel,
        fx: &mut Effects,
    ) -> Result<(Pid, Result<(), Errno>), Errno> {
        let child = match kernel.fork_on_behalf(parent, fx) {
            Ok(Ok(Ret::Value(pid))) => Pid(pid as u32),
            Ok(Ok(_)) => return Err(Errno::ENOSYS),
            Ok(Err(errno)) => return Err(errno),
            Err(_) => return Err(Errno::ESRCH),
        };
        Ok((child, self.prepare(child, executes, kernel, fx)))
    }

    /// The new process goes where it belongs and executes its program.
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
            // it returns after what others do because of it
            kernel.settle(&mut Canonical, fx);
        }
        if executes && let Ok(Err(errno)) = kernel.exec_on_behalf(pid, fx) {
            return Err(errno);
        }
        Ok(())
    }
}

impl Process {
    /// Creates a child of this process, whatever this process does itself at the moment: as if
    /// another thread of it called fork, setpgid or setsid in the child, and execve.
    ///
    /// # Errors
    ///
    /// - EAGAIN: [`TableLimits::processes`](super::TableLimits::processes), RLIMIT_NPROC (LIM-01)
    ///   or all numbers are reached; or RLIMIT_NPROC of the child's user is passed (EXEC-17).
    /// - EPERM: there is no such group in the parent's session (GRP-08), or the parent may not
    ///   become that user.
    /// - ENOMEM: the namespace's init has ended (NS-04).
    /// - ESRCH: this process is dead.
    ///
    /// Where it fails there is no child. One that turns out to be impossible when it exists, for
    /// its user, has ended with code 127 and is waited for, as posix_spawn(3) does it: its number
    /// is skipped, and its parent gets its SIGCHLD.
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
        // what is left of it is dropped when the lock is free: the driver's `Drop` is foreign
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
    /// Whether a child of `parent` may have that group: asked before there is a child.
    fn check_group(&self, parent: Pid, group: GroupChoice) -> Result<(), Errno> {
        let GroupChoice::Join(pgid) = group else { return Ok(()) };
        if pgid == Pgid(0) {
            // the number of a group outside of the namespace (GRP-22); to setpgid it is the child's
            // own
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

    /// The child, in its place and with its program, in one step of the model. Where that turns
    /// out to be impossible it ends, and nobody has to wait for it.
    fn create(
        &mut self,
        shared: &TableInner,
        parent: Pid,
        spawn: &mut Spawn,
    ) -> Result<Pid, Errno> {
        let clock = &*shared.clock;
        let executes = spawn.image.is_some();
        self.process_registry.next_image = spawn.image.take();
        let made =
            self.apply_external(clock, |kernel, fx| spawn.make(parent, executes, kernel, fx));
        self.process_registry.next_image = None;
        let (child, prepared) = made?;
        if let Err(errno) = prepared {
            self.withdraw(parent, child, clock);
            return Err(errno);
        }
        Ok(child)
    }

    /// It ends and is reaped in one step: no wait gives it, and no callback is called for it.
    fn withdraw(&mut self, parent: Pid, child: Pid, clock: &dyn Clock) {
        self.process_registry.rolled_back = Some(child);
        self.apply_external(clock, |kernel, fx| {
            let _ = kernel.call(child, &Syscall::ExitGroup(127), fx);
            let _ = kernel.poll_wait(parent, &wait_for_zombie(child), fx);
        });
        self.process_registry.rolled_back = None;
    }

    /// Returns a new process its driver, and what was reported of it.
    fn furnish(
        &mut self,
        shared: &Arc<TableInner>,
        pid: Pid,
        spawn: &mut Spawn,
    ) -> Result<ProcessKey, Errno> {
        if spawn.authority == Authority::Host {
            let _ = self.kernel.set_host_authority(pid);
        }
        let entry = self.process_registry.entries.get_mut(pid).ok_or(Errno::ESRCH)?;
        let key = ProcessKey { pid, serial: entry.serial };
        entry.run_by = match spawn.authority {
            Authority::Host => RunBy::Host,
            Authority::Model if spawn.safe_points => RunBy::SafePoints,
            Authority::Model => RunBy::Driver,
        };
        self.process_registry.has_safe_points |= entry.run_by == RunBy::SafePoints;
        if let Some(driver) = spawn.driver.take() {
            entry.driver_queue = Some(self.process_registry.queues.add(key, driver));
        }
        if let Some(reporter) = spawn.reporter.0.get() {
            for status in reporter.bind(Arc::downgrade(shared), key) {
                self.report(key, status, &*shared.clock);
            }
        }
        Ok(key)
    }
}
