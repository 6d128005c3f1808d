//! What comes into a tree: children that are spawned.

use std::io;
use std::sync::Arc;

use super::child_handle::Child;
use super::command::{Command, Pipes, Prepared};
use super::host_process::{Detached, HostProcess, HostProcessDriver};
use super::options::OwnerDeath;
use super::orphans::Creation;
use super::spawn_error::{SpawnError, Step};
use super::tree::{ProcessTree, TreeInner};
use super::watch::watch;
use super::{pidfd, scan, spawner};
use crate::abi::Signal;
use crate::driver::Authority;
use crate::table::{GroupChoice, Image, Process, Spawn};

/// Why there is no child now.
pub(super) fn is_suspended() -> (Step, io::Error) {
    (Step::Suspended, io::Error::from_raw_os_error(libc::EBUSY))
}

impl ProcessTree {
    /// Runs a program in the tree. It has executed it when this returns.
    ///
    /// # Errors
    ///
    /// The step that failed and its error; then there is no child. [`Step::Suspended`] while the
    /// tree is.
    pub fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        let failure = command.failure();
        self.core.try_spawn(command).map_err(failure)
    }

    /// Runs a program outside of the tree, in a session of its own, without any mark: it survives
    /// the tree, the owner, and [`sweep`](super::sweep). Returns its number. It inherits
    /// descriptors as every child does: see [`Command::close_others`].
    ///
    /// # Errors
    ///
    /// As [`ProcessTree::spawn`].
    pub fn spawn_detached(&self, command: Command) -> Result<i32, SpawnError> {
        let failure = command.failure();
        let command = command.env_remove(scan::MARK).env_remove("RUNNING_PROCESS_ORIGINATOR");
        let spawn = || {
            let (prepared, _) = command.session().prepare()?;
            let spawned = spawner::spawn(prepared)?;
            let real = Arc::new(HostProcess::child(spawned.pid, spawned.pidfd));
            watch(Arc::new(Detached(real.clone()))).map_err(|error| (Step::Watch, error))?;
            Ok(real.pid)
        };
        spawn().map_err(failure)
    }
}

impl TreeInner {
    pub(super) fn try_spawn(
        self: &Arc<TreeInner>,
        command: Command,
    ) -> Result<Child, (Step, io::Error)> {
        let image = command.image();
        let (prepared, pipes) = self.prepare(command)?;
        let group = self.group_of(&prepared);
        let suspended = self.suspended.read();
        if *suspended {
            return Err(is_suspended());
        }
        let _creation = Creation::begin();
        let spawned = spawner::spawn(prepared)?;
        drop(suspended);
        let real = HostProcess::child(spawned.pid, spawned.pidfd);
        self.enter(real, image, group, pipes)
    }

    /// What a child of the tree begins with.
    pub(super) fn prepare(&self, command: Command) -> Result<(Prepared, Pipes), (Step, io::Error)> {
        // before the child needs descriptors: those of reaped children are closed
        self.children.lock().forget_reaped(self.blind.is_some());
        let originator = format!("proctable:{}", std::process::id());
        let command =
            command.env(scan::MARK, &self.mark.all).env("RUNNING_PROCESS_ORIGINATOR", originator);
        let command = match self.owner_death {
            Some(OwnerDeath::Autokill) => command.autokill(),
            _ => command,
        };
        let (mut prepared, pipes) = command.prepare()?;
        if self.owner_death == Some(OwnerDeath::ParentDeathSignal) {
            prepared.parent_death.get_or_insert(libc::SIGKILL);
        }
        let entrances = self.limited.entrances();
        prepared.cgroups = entrances.map_err(|error| (Step::Cgroup, error))?;
        if let Some(cgroup) = &self.cgroup {
            prepared.cgroup = cgroup.cgroup_join();
        } else if self.blind.is_some() && !prepared.session && prepared.group.is_none() {
            // nothing else reaches what it starts
            prepared.group = Some(0);
        }
        // first: what the command asks for itself may be narrower
        let mark = self.mark.rlimit().filter(|_| self.cgroup.is_none());
        let first = self.limited.rlimits.iter().copied().chain(mark);
        prepared.limits.splice(0..0, first);
        Ok((prepared, pipes))
    }

    /// The group in the table that corresponds to the one it will have.
    pub(super) fn group_of(&self, prepared: &Prepared) -> GroupChoice {
        match prepared.group {
            _ if prepared.session => GroupChoice::Session,
            None => GroupChoice::Inherit,
            Some(0) => GroupChoice::Own,
            Some(leader) => {
                let children = self.children.lock();
                let leader = children.list.iter().find(|(_, real)| real.pid == leader);
                // one that is no child of this tree has no group in its table
                leader.map_or(GroupChoice::Inherit, |(pid, _)| GroupChoice::Join((*pid).into()))
            }
        }
    }

    /// Enters a new child in the table, and has it watched; kills it if that cannot be.
    pub(super) fn enter(
        self: &Arc<TreeInner>,
        real: HostProcess,
        image: Image,
        group: GroupChoice,
        pipes: Pipes,
    ) -> Result<Child, (Step, io::Error)> {
        let (real, spawn) = (Arc::new(real), Spawn::new(image).group(group));
        let process = self.register(&real, spawn).inspect_err(|_| {
            let _ = real.send(Signal::KILL);
            let _ = pidfd::reap(real.pid, &real.pidfd, 0);
            *real.reaped.lock() = true;
        })?;
        Ok(self.handle(process, real, pipes))
    }

    /// Enters a process in the table, as a child of the owner, and has it watched.
    pub(super) fn register(
        &self,
        real: &Arc<HostProcess>,
        spawn: Spawn,
    ) -> Result<Process, (Step, io::Error)> {
        let spawn = spawn
            .driver(Arc::new(HostProcessDriver(Arc::downgrade(real))))
            .authority(Authority::Host);
        // what is reported before the table knows it is kept
        watch(real.clone()).map_err(|error| (Step::Watch, error))?;
        let process = self.owner.spawn(spawn);
        let process =
            process.map_err(|errno| (Step::Table, io::Error::from_raw_os_error(errno.0.into())))?;
        self.children.lock().add(&process, real.clone());
        Ok(process)
    }
}
