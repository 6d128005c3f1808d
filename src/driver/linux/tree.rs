//! The owner's handle of a tree of processes, and what is spawned in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::cgroup::Cgroup;
use super::command::{Command, Prepared, SpawnError, Step};
use super::direct::Child;
use super::guardian::Guardian;
use super::limit::{Enforced, Limited};
use super::options::{OnDrop, Options};
use super::real::{Children, Detached, Real, RealDriver};
use super::scan::Mark;
use super::watch::watch;
use super::{child, scan, spawner};
use crate::abi::{Errno, Signal};
use crate::driver::Authority;
use crate::sync::{Mutex, RwLock};
use crate::table::{Group, Image, Process, ProcessTable, Spawn};

/// What keeps a tree together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// A cgroup (v2) of its own, in that folder.
    Cgroup(PathBuf),
    /// Process groups, parents, and a mark in the environment, looked for in /proc.
    Scan,
}

/// A tree of real processes: what is spawned in it, and everything that those spawn.
#[derive(Debug)]
pub struct ProcessTree {
    pub(super) table: ProcessTable,
    /// The owner, as the parent of all direct children.
    pub(super) owner: Process,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) without: Option<io::Error>,
    pub(super) limited: Limited,
    pub(super) guardian: Mutex<Option<Guardian>>,
    /// Its name: in the environment of its processes, and of its cgroup.
    pub(super) mark: Mark,
    /// The same after the names of the trees that the owner is in itself.
    pub(super) marks: String,
    pub(super) children: Mutex<Children>,
    pub(super) on_drop: OnDrop,
    /// Whether it is. Spawning shares the lock: a child that enters a frozen cgroup never comes to
    /// its exec.
    pub(super) suspended: RwLock<bool>,
}

/// The errno of the model, which is the kernel's.
fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0.into())
}

fn needs_cgroup(why: Option<&io::Error>) -> io::Error {
    let why = why.map_or(String::new(), ToString::to_string);
    let text = format!("a guardian needs a cgroup, and there is none: {why}");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

fn start_guardian(options: &Options, mark: &str) -> io::Result<Guardian> {
    let place = Cgroup::place(mark).map_err(|error| needs_cgroup(Some(&error)))?;
    let mut folders = vec![place];
    folders.extend(Limited::planned(&options.limits, mark));
    Guardian::start(&folders).map_err(|(step, error)| {
        io::Error::new(error.kind(), format!("guardian: {step:?}: {error}"))
    })
}

impl ProcessTree {
    /// The best containment that there is, killed when dropped.
    ///
    /// # Errors
    ///
    /// None with these options on a machine that has memory.
    pub fn new() -> io::Result<ProcessTree> {
        Options::new().create()
    }

    pub(super) fn create(options: Options) -> io::Result<ProcessTree> {
        let (mark, marks) = Mark::new();
        let table = ProcessTable::new();
        let process = table.spawn(Spawn::new(Image::new("owner")).session()).map_err(os_error)?;
        // before what it watches: an owner that dies in between leaves nothing
        let guardian =
            options.guarded.then(|| start_guardian(&options, &mark.value)).transpose()?;
        let made = if options.without_cgroup {
            Err(io::Error::other("not wanted"))
        } else {
            Cgroup::create(&mark.value)
        };
        let (cgroup, without) = match made {
            Ok(cgroup) => (Some(cgroup), None),
            Err(error) => (None, Some(error)),
        };
        // from here on its drop cleans up
        let mut tree = ProcessTree {
            table,
            owner: process,
            cgroup,
            without,
            limited: Limited::default(),
            guardian: Mutex::new(guardian),
            mark,
            marks,
            children: Mutex::default(),
            on_drop: options.on_drop,
            suspended: RwLock::new(false),
        };
        if options.guarded && tree.cgroup.is_none() {
            return Err(needs_cgroup(tree.without.as_ref()));
        }
        let (mark, cgroup) = (&tree.mark.value, tree.cgroup.as_ref());
        tree.limited = Limited::new(&options.limits, options.weaker_limits, mark, cgroup)?;
        Ok(tree)
    }

    /// What keeps it together.
    pub fn mechanism(&self) -> Mechanism {
        match &self.cgroup {
            Some(cgroup) => Mechanism::Cgroup(cgroup.folder().into()),
            None => Mechanism::Scan,
        }
    }

    /// Why it has no cgroup.
    pub fn without_cgroup_because(&self) -> Option<&io::Error> {
        self.without.as_ref()
    }

    /// What enforces each of its limits, in the order of the fields of [`Limits`](super::Limits).
    pub fn enforced(&self) -> &[Enforced] {
        &self.limited.enforced
    }

    /// The table in which its direct children are: for events, callbacks and waits of all kinds.
    /// Its numbers are the table's own.
    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// Runs a program in the tree. It has executed it when this returns.
    ///
    /// # Errors
    ///
    /// The step that failed and its error; then there is no child. [`Step::Suspended`] while the tree
    /// is.
    pub fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        let program = command.program().to_owned();
        self.try_spawn(command).map_err(|(step, error)| SpawnError { step, error, program })
    }

    fn try_spawn(&self, command: Command) -> Result<Child, (Step, io::Error)> {
        let image = command.image();
        let originator = format!("proctable:{}", std::process::id());
        let command =
            command.env(scan::MARK, &self.marks).env("RUNNING_PROCESS_ORIGINATOR", originator);
        let (mut prepared, pipes) = command.prepare()?;
        let entrances = self.limited.entrances();
        prepared.cgroups = entrances.map_err(|error| (Step::Cgroup, error))?;
        // first, so that the command's own can only be narrower
        prepared.limits.splice(0..0, self.limited.rlimits.iter().copied());
        if let Some(cgroup) = &self.cgroup {
            prepared.cgroup = cgroup.entrance();
        } else if !prepared.session && prepared.group.is_none() {
            // what it starts can be signalled with it
            prepared.group = Some(0);
        }
        let suspended = self.suspended.read();
        if *suspended {
            return Err((Step::Suspended, io::Error::from_raw_os_error(libc::EBUSY)));
        }
        let group = self.group_of(&prepared);
        let born = spawner::spawn(prepared)?;
        drop(suspended);
        let real = Arc::new(Real::new(born.pid, born.pidfd));
        let process = self.enter(&real, Spawn::new(image).group(group)).inspect_err(|_| {
            let _ = real.send(Signal::KILL);
            let _ = child::reap(&real.pidfd, 0);
            *real.reaped.lock() = true;
        })?;
        let pipes = Arc::new(Mutex::new(pipes));
        Ok(Child { process, owner: self.owner.clone(), real, pipes })
    }

    /// The group in the table that corresponds to the one it will have.
    fn group_of(&self, prepared: &Prepared) -> Group {
        match prepared.group {
            _ if prepared.session => Group::Session,
            None => Group::Inherit,
            Some(0) => Group::Own,
            Some(leader) => {
                let children = self.children.lock();
                let leader = children.list.iter().find(|(_, real)| real.pid == leader);
                // one that is no child of this tree has no group in its table
                leader.map_or(Group::Inherit, |(pid, _)| Group::Join((*pid).into()))
            }
        }
    }

    /// Enters a child in the table, and has it watched.
    fn enter(&self, real: &Arc<Real>, spawn: Spawn) -> Result<Process, (Step, io::Error)> {
        let spawn = spawn.driver(Arc::new(RealDriver(real.clone()))).authority(Authority::Host);
        *real.reporter.lock() = spawn.reporter();
        // what is reported before the table knows it is kept
        watch(real.clone()).map_err(|error| (Step::Watch, error))?;
        let process = self.owner.spawn(spawn);
        let process =
            process.map_err(|errno| (Step::Table, io::Error::from_raw_os_error(errno.0 as i32)))?;
        self.children.lock().add(&process, real.clone());
        Ok(process)
    }

    /// Runs a program outside of the tree, in a session of its own, without any mark: it survives
    /// the tree, the owner, and [`sweep`](super::sweep). Gives its number.
    ///
    /// # Errors
    ///
    /// As [`ProcessTree::spawn`].
    pub fn spawn_detached(&self, command: Command) -> Result<i32, SpawnError> {
        let program = command.program().to_owned();
        let command = command.env_remove(scan::MARK).env_remove("RUNNING_PROCESS_ORIGINATOR");
        let spawn = || {
            let (prepared, _) = command.session().prepare()?;
            let born = spawner::spawn(prepared)?;
            let real = Arc::new(Real::new(born.pid, born.pidfd));
            watch(Arc::new(Detached(real.clone()))).map_err(|error| (Step::Watch, error))?;
            Ok(real.pid)
        };
        spawn().map_err(|(step, error)| SpawnError { step, error, program })
    }
}
