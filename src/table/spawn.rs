//! New processes, with their driver and their place.

use alloc::sync::Arc;

use super::book::{Image, Token};
use super::commit::{Shared, State};
use super::lane::Lane;
use super::process::Process;
use crate::abi::{Errno, Pgid, Pid};
use crate::driver::{Authority, DriverProcess, NullDriver, Op, Reporter};
use crate::syscall::{Ret, Syscall};

/// The group of a new process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Group {
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
    image: Arc<Image>,
    group: Group,
    authority: Authority,
    driver: Option<Arc<dyn DriverProcess>>,
    reporter: Reporter,
    exec: bool,
}

impl Spawn {
    /// A process that executes `image`.
    pub fn new(image: impl Into<Arc<Image>>) -> Spawn {
        Spawn { exec: true, ..Spawn::fork_of(image.into()) }
    }

    /// A process that goes on with its parent's program, as after fork(2): its handlers stay, and
    /// its parent can still move it into a group (EXEC-10).
    pub fn fork() -> Spawn {
        Spawn::fork_of(Arc::default())
    }

    fn fork_of(image: Arc<Image>) -> Spawn {
        Spawn {
            image,
            group: Group::Inherit,
            authority: Authority::Model,
            driver: None,
            reporter: Reporter::new(),
            exec: false,
        }
    }

    /// Who runs it.
    pub fn driver<D: DriverProcess>(mut self, driver: Arc<D>) -> Spawn {
        // a table keeps no queue for what does nothing
        let null = core::any::TypeId::of::<D>() == core::any::TypeId::of::<NullDriver>();
        self.driver = if null { None } else { Some(driver) };
        self
    }

    /// Who decides what becomes of it.
    pub fn authority(mut self, authority: Authority) -> Spawn {
        self.authority = authority;
        self
    }

    /// Its group.
    pub fn group(mut self, group: Group) -> Spawn {
        self.group = group;
        self
    }

    /// A group of its own.
    pub fn own_group(self) -> Spawn {
        self.group(Group::Own)
    }

    /// A session of its own.
    #[doc(alias = "setsid")]
    pub fn session(self) -> Spawn {
        self.group(Group::Session)
    }

    /// What reports about it: the one that its driver gets. What is reported before the process
    /// exists takes effect when it does.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }
}

impl Process {
    /// Creates a child of this process, whatever this process does itself at the moment: as if
    /// another thread of it called fork, setpgid or setsid in the child, and execve.
    ///
    /// # Errors
    ///
    /// - EAGAIN: [`TableLimits::processes`](super::TableLimits::processes), RLIMIT_NPROC (LIM-01)
    ///   or all numbers are reached.
    /// - EPERM: there is no such group in the parent's session (GRP-08).
    /// - ENOMEM: the namespace's init has ended (NS-04).
    /// - ESRCH: this process is dead.
    ///
    /// Where it fails there is no child.
    ///
    /// # References
    ///
    /// fork(2), setpgid(2), setsid(2), execve(2); RULES FORK, GRP.
    #[doc(alias = "fork")]
    #[doc(alias = "register")]
    pub fn spawn(&self, spawn: Spawn) -> Result<Process, Errno> {
        let shared = &self.table.shared;
        let token = shared.spawn(self.token, spawn)?;
        Ok(Process::new(self.table.clone(), token))
    }
}

impl Shared {
    pub(crate) fn spawn(self: &Arc<Shared>, parent: Token, spawn: Spawn) -> Result<Token, Errno> {
        // given back where it fails: the driver's `Drop` is foreign
        let (group, mut spawn) = (spawn.group, Some(spawn));
        self.commit(|state| {
            if state.is_closed() || state.book.entry(parent).is_none() {
                return Err(Errno::ESRCH);
            }
            if self.is_full(state) {
                return Err(Errno::EAGAIN);
            }
            state.check_group(parent.pid, group)?;
            let child = state.create(self, parent.pid)?;
            let spawn = spawn.take().ok_or(Errno::EINVAL)?;
            state.furnish(self, child, spawn)
        })
    }
}

impl State {
    /// Whether a child of `parent` may have that group: asked before there is a child.
    fn check_group(&self, parent: Pid, group: Group) -> Result<(), Errno> {
        let Group::Join(pgid) = group else { return Ok(()) };
        let session = |pid| self.kernel.view(pid).map(|view| view.sid);
        let member = self.kernel.members_of(pgid).next();
        // GRP-08
        match member {
            Some(member) if session(member) == session(parent) => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    fn create(&mut self, shared: &Arc<Shared>, parent: Pid) -> Result<Pid, Errno> {
        let forked = self.outside(&*shared.clock, |kernel, fx| kernel.fork_aside(parent, fx));
        match forked {
            Ok(Ok(Ret::Value(pid))) => Ok(Pid(pid as u32)),
            Ok(Ok(_)) => Err(Errno::ENOSYS),
            Ok(Err(errno)) => Err(errno),
            Err(_) => Err(Errno::ESRCH),
        }
    }

    /// Gives a new process its group, program, driver, and what was reported of it.
    fn furnish(&mut self, shared: &Arc<Shared>, pid: Pid, spawn: Spawn) -> Result<Token, Errno> {
        let clock = &*shared.clock;
        let placing = match spawn.group {
            Group::Inherit => None,
            Group::Own => Some(Syscall::Setpgid { pid: 0, pgid: 0 }),
            Group::Join(pgid) => Some(Syscall::Setpgid { pid: 0, pgid: pgid.0 as i32 }),
            Group::Session => Some(Syscall::Setsid),
        };
        let executing = spawn.exec.then(|| {
            self.book.prepare(pid, Some(spawn.image));
            Syscall::Execve { path: "".into(), error: None }
        });
        for call in [placing, executing].into_iter().flatten() {
            // a new process runs its own code and leads nothing: these cannot fail
            let _ = self.make(pid, call, None, clock);
        }
        if spawn.authority == Authority::Host {
            let _ = self.kernel.give_authority(pid);
        }
        let token = self.book.token(pid).ok_or(Errno::ESRCH)?;
        let early = spawn.reporter.bind(Arc::downgrade(shared), token);
        if let Some(entry) = self.book.entries.get_mut(&pid) {
            entry.authority = spawn.authority;
            let reporter = spawn.reporter;
            entry.lane = spawn.driver.map(|driver| Lane::new(pid, driver, reporter));
        }
        self.book.operate(pid, Op::Start);
        for status in early {
            self.report(token, status, clock);
        }
        Ok(token)
    }
}
