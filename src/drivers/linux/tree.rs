//! The owner's handle of a tree of processes, and how it is made.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::asynchronous::SpawnQueue;
use super::cgroup::{self, Cgroup};
use super::delegate::{self, Delegation};
use super::guardian::Guardian;
use super::host_process::DirectChildren;
use super::limit::{Enforced, Limited};
use super::options::{OnDrop, Options, OwnerDeath};
use super::orphans::{self, SubreaperGuard};
use super::scan::{self, Mark};
use super::{child, pidfd};
use crate::abi::Errno;
use crate::sync::{Mutex, RwLock};
use crate::table::{Image, Process, ProcessTable, Spawn};

/// What keeps a tree together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// A cgroup (v2) of its own, in that directory.
    Cgroup(PathBuf),
    /// Parents, and a mark in environment and limits, looked for in /proc.
    Scan,
    /// There is no cgroup, and no /proc of this process's own pid namespace (or no pidfd_open(2)),
    /// so that no search for members is possible. Signals reach the direct children, by their
    /// descriptors, and from Linux 6.9 on the members of the process groups that they lead. Others
    /// live on when the tree ends.
    Children,
}

/// A tree of real processes: what is spawned in it, and everything that those spawn.
#[derive(Debug)]
pub struct ProcessTree {
    pub(super) core: Arc<TreeInner>,
    pub(super) guardian: Mutex<Option<Guardian>>,
    pub(super) on_drop: OnDrop,
    /// Until the tree has ended.
    _subreaper: Option<SubreaperGuard>,
    /// Until its cgroup is gone.
    pub(super) delegation: Option<Delegation>,
}

/// A tree as its handle, its threads and the watcher share it.
#[derive(Debug)]
pub(super) struct TreeInner {
    pub table: ProcessTable,
    /// The owner, as the parent of all direct children.
    pub owner: Process,
    pub cgroup: Option<Cgroup>,
    without: Option<io::Error>,
    /// Why descendants cannot be looked for.
    pub blind: Option<io::Error>,
    pub limited: Limited,
    pub owner_death: Option<OwnerDeath>,
    /// Its name: in the environment of its processes, and of its cgroup.
    pub mark: Mark,
    pub children: Mutex<DirectChildren>,
    /// Whether it is frozen. Spawning shares the lock: a child that enters a frozen cgroup never
    /// reaches its exec.
    pub suspended: RwLock<bool>,
    /// Its asynchronous spawns.
    pub queue: Mutex<SpawnQueue>,
}

/// The errno of the model, which is the kernel's.
fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0.into())
}

/// Signals by numbers could reach unrelated processes: there are no trees then.
fn needs_pidfds(error: io::Error) -> io::Error {
    let text = format!(
        "no tree without descriptors of processes: pidfd_send_signal: {error}; the system call is in \
         Linux 5.1, and all that trees need of descriptors is in Linux 5.4; a filter of system calls \
         may forbid it"
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Why a tree has no guardian: a small shell could only signal members by numbers.
fn needs_cgroup(core: &TreeInner) -> io::Error {
    let why = match (&core.without, &core.cgroup) {
        (Some(error), _) => format!("a cgroup, and there is none: {error}"),
        _ => "cgroup.kill, which Linux has from 5.14 on".into(),
    };
    io::Error::new(io::ErrorKind::Unsupported, format!("a guardian needs {why}"))
}

fn start_guardian(options: &Options, mark: &str) -> io::Result<Guardian> {
    let place = Cgroup::place(mark).map_err(|error| {
        let why = format!("a guardian needs a cgroup, and there is none: {error}");
        io::Error::new(io::ErrorKind::Unsupported, why)
    })?;
    let mut directories = vec![place];
    directories.extend(Limited::planned(&options.limits, mark));
    Guardian::start(&directories).map_err(|(step, error)| {
        io::Error::new(error.kind(), format!("guardian: {step:?}: {error}"))
    })
}

impl ProcessTree {
    /// The best containment that there is, killed when dropped.
    ///
    /// # Errors
    ///
    /// Unsupported where processes cannot be signalled by descriptors: before Linux 5.1, and where
    /// a filter of system calls forbids it.
    pub fn new() -> io::Result<ProcessTree> {
        Options::new().create()
    }

    // Long because each thing that is made is undone if a later one fails.
    pub(super) fn create(options: Options) -> io::Result<ProcessTree> {
        pidfd::can_send().map_err(needs_pidfds)?;
        if options.kill_on_owner_death && options.on_drop == OnDrop::Leave {
            let why = "a tree that continues without its owner cannot be killed at the owner's end";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mark = Mark::new(options.on_drop == OnDrop::Leave);
        let subreaper = options.subreaper.then(SubreaperGuard::new).transpose()?;
        let table = ProcessTable::new();
        let owner = table.spawn(Spawn::new(Image::new("owner")).session()).map_err(os_error)?;
        // before anything is made: it says where
        let controllers = options.limits.controllers();
        let delegated = match options.without_cgroup {
            true => Ok(None),
            false => Delegation::new(options.delegate, &controllers).map(Some),
        };
        let (delegation, not_delegated) = match delegated {
            Ok(delegation) => (delegation, None),
            Err(error) => (None, Some(error)),
        };
        let autokill = options.kill_on_owner_death && child::try_autokill().is_ok();
        // before what it watches: an owner that dies in between leaves nothing
        let wants_guardian = options.kill_on_owner_death && !autokill && !options.without_cgroup;
        let guarded = options.guarded || wants_guardian && Cgroup::place(&mark.value).is_ok();
        let guardian = guarded.then(|| start_guardian(&options, &mark.value)).transpose()?;
        let made = if options.without_cgroup {
            Err(io::Error::other("not wanted"))
        } else {
            // a process that disables controllers now sees it, or has done so before it has limits
            let base = if controllers.is_empty() { None } else { cgroup::own_directory().ok() };
            let _alone = base.and_then(|base| delegate::lock(&base).ok());
            match options.without_trial {
                true => Cgroup::make(&mark.value).and_then(Cgroup::check),
                false => Cgroup::create(&mark.value),
            }
        };
        let (cgroup, without) = match made {
            Ok(cgroup) => (Some(cgroup), None),
            Err(error) => (None, Some(error)),
        };
        let limits = Limited::new(&options.limits, options.weaker_limits, &mark, cgroup.as_ref());
        let (limited, failed) = match limits {
            Ok(limited) => (limited, None),
            Err(error) => (Limited::default(), Some(error)),
        };
        let (children, queue) = (Mutex::default(), Mutex::default());
        let suspended = RwLock::new(false);
        // a guardian needs a cgroup
        let can_kill = cgroup.as_ref().is_some_and(Cgroup::has_kill);
        let guardian = match (guardian, can_kill || options.guarded) {
            (Some(guardian), false) => {
                guardian.dismiss();
                None
            }
            (guardian, _) => guardian,
        };
        let owner_death = options.kill_on_owner_death.then_some(match &guardian {
            _ if autokill => OwnerDeath::Autokill,
            Some(_) => OwnerDeath::Guardian,
            None => OwnerDeath::ParentDeathSignal,
        });
        let blind = if cgroup.is_none() { scan::try_scan().err() } else { None };
        let core = TreeInner {
            table,
            owner,
            cgroup,
            without,
            blind,
            limited,
            owner_death,
            mark,
            children,
            suspended,
            queue,
        };
        // from here on its drop cleans up
        let (core, guardian) = (Arc::new(core), Mutex::new(guardian));
        orphans::register_tree(&core);
        let tree = ProcessTree {
            core,
            guardian,
            on_drop: options.on_drop,
            _subreaper: subreaper,
            delegation,
        };
        if options.guarded && !can_kill {
            return Err(needs_cgroup(&tree.core));
        }
        let Some(error) = failed else { return Ok(tree) };
        let mut text = error.to_string();
        if let Some(why) = tree.core.without.as_ref().filter(|_| !options.without_cgroup) {
            text += &format!("; no cgroup: {why}");
        }
        if let Some(why) = not_delegated {
            text += &format!("; delegation failed: {why}");
        }
        Err(io::Error::new(error.kind(), text))
    }

    /// What keeps it together.
    pub fn mechanism(&self) -> Mechanism {
        match &self.core.cgroup {
            Some(cgroup) => Mechanism::Cgroup(cgroup.directory().into()),
            None if self.core.blind.is_some() => Mechanism::Children,
            None => Mechanism::Scan,
        }
    }

    /// Why descendants cannot be looked for: see [`Mechanism::Children`].
    pub fn without_look_because(&self) -> Option<&io::Error> {
        self.core.blind.as_ref()
    }

    /// Why it has no cgroup.
    pub fn without_cgroup_because(&self) -> Option<&io::Error> {
        self.core.without.as_ref()
    }

    /// What kills its direct children when the owner dies, if that was asked for.
    pub fn owner_death(&self) -> Option<OwnerDeath> {
        self.core.owner_death
    }

    /// What enforces each of its limits, in the order of the fields of [`Limits`](super::Limits).
    pub fn enforced(&self) -> &[Enforced] {
        &self.core.limited.enforced
    }

    /// The table in which its direct children are: for events, callbacks and waits of all kinds.
    /// Its numbers are the table's own.
    pub fn table(&self) -> &ProcessTable {
        &self.core.table
    }
}
