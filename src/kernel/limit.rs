//! Resource limits, and what they are counted against.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::arena::Id;
use super::effect::Effects;
use super::group::refuse;
use super::process::Process;
use super::task::Task;
use super::{Kernel, Property};
use crate::abi::{Errno, Resource, Rlimit, Uid};
use crate::rule;
use crate::syscall::{self, Ptr, Ret};

/// A core is not written below this size (EXIT-05).
const PAGE: u64 = 4096;

/// The limits of a process (LIM-14), shared until one of them changes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits {
    /// Those that were set, ascending; there is no limit of the others.
    set: Vec<(Resource, Rlimit)>,
}

impl Limits {
    /// No limit at all.
    pub fn none() -> Limits {
        Limits { set: Vec::new() }
    }

    /// The limit of a resource. There are no more than [`Resource::COUNT`] to look through.
    pub fn get(&self, resource: Resource) -> Rlimit {
        let found = self.set.iter().find(|(set, _)| *set == resource);
        found.map_or(Rlimit::NONE, |(_, limit)| *limit)
    }

    /// Replaces the limit of a resource below [`Resource::COUNT`].
    pub fn set(&mut self, resource: Resource, limit: Rlimit) {
        match self.set.binary_search_by_key(&resource.0, |(set, _)| set.0) {
            Ok(at) => self.set[at].1 = limit,
            Err(at) => {
                self.set.reserve_exact(1);
                self.set.insert(at, (resource, limit));
            }
        }
    }
}

/// What a user has, over all its processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct UserCount {
    /// Tasks, zombies included (LIM-03, ZOM-11).
    pub tasks: u32,
    /// Queued signal records (LIM-07).
    pub queued: u32,
}

/// What each user has.
pub type Users = BTreeMap<Uid, UserCount>;

/// Charges a signal record to `user` (LIM-07, TG-167); `None` if the limit is reached and `ignore_limit` is not
/// set.
#[inline]
pub fn charge_queued(
    users: &mut Users,
    user: Uid,
    limits: &Limits,
    ignore_limit: bool,
) -> Option<Uid> {
    let Some(count) = users.get_mut(&user) else {
        unreachable!("the user of a task has an account")
    };
    if !ignore_limit && u64::from(count.queued) >= limits.get(Resource::SIGPENDING).soft {
        return None;
    }
    count.queued += 1;
    Some(user)
}

impl Kernel {
    /// Charges a task to its user.
    pub(super) fn charge_task(&mut self, user: Uid) {
        self.users.entry(user).or_default().tasks += 1;
    }

    /// Takes a task off its user's account.
    pub(super) fn discharge_task(&mut self, user: Uid) {
        self.discharge(user, |count| count.tasks -= 1);
    }

    /// Takes a signal record off its user's account.
    pub(super) fn discharge_queued(&mut self, user: Uid) {
        self.discharge(user, |count| count.queued -= 1);
    }

    /// Takes several signal records off their users' accounts.
    pub(super) fn discharge_all_queued(&mut self, users: Vec<Uid>) {
        for user in users {
            self.discharge_queued(user);
        }
    }

    fn discharge(&mut self, user: Uid, change: impl FnOnce(&mut UserCount)) {
        if let Some(count) = self.users.get_mut(&user) {
            change(count);
            if *count == UserCount::default() {
                self.users.remove(&user);
            }
        }
    }

    fn count_of(&self, user: Uid) -> UserCount {
        self.users.get(&user).copied().unwrap_or_default()
    }

    fn soft_limit(&self, process: Id<Process>, resource: Resource) -> u64 {
        self.processes[process].limits().get(resource).soft
    }

    /// A task moves to another user (CRED-06), who may be over its limit then
    /// (LIM-05).
    pub(super) fn move_task_charge(
        &mut self,
        task: Id<Task>,
        from: Uid,
        to: Uid,
        fx: &mut Effects,
    ) {
        // LIM-04, LIM-05: judged before the caller is added
        fx.obey(rule!("LIM-04"));
        let (tasks, limit) = (
            u64::from(self.count_of(to).tasks),
            self.soft_limit(self.process_of(task), Resource::NPROC),
        );
        let strict = self.config.version.has(Property::NprocMarkAboveLimit);
        let over = to != Uid::ROOT && (tasks > limit || !strict && tasks == limit);
        self.tasks[task].over_nproc = over;
        self.charge_task(to);
        self.discharge_task(from);
    }

    /// EAGAIN if the caller's user may not have another task (LIM-01).
    pub(super) fn may_fork(&self, caller: Id<Task>, fx: &mut Effects) -> Result<(), Errno> {
        let cred = self.cred(caller);
        // LIM-06: the caller's limit, the user's count
        let limit = self.soft_limit(self.tasks[caller].process, Resource::NPROC);
        if u64::from(self.count_of(cred.real).tasks) < limit {
            return Ok(());
        }
        if cred.real == Uid::ROOT || cred.capable {
            fx.obey(rule!("LIM-02"));
            return Ok(());
        }
        fx.obey(rule!("LIM-03"));
        fx.obey(rule!("LIM-06"));
        fx.obey(rule!("FORK-33"));
        refuse(fx, rule!("LIM-01"), Errno::EAGAIN)
    }

    /// EAGAIN if a set*uid left the user over its limit and it still is (LIM-05, EXEC-17).
    pub(super) fn may_exec(&mut self, caller: Id<Task>, fx: &mut Effects) -> Result<(), Errno> {
        if !self.tasks[caller].over_nproc {
            return Ok(());
        }
        fx.obey(rule!("LIM-05"));
        let limit = self.soft_limit(self.tasks[caller].process, Resource::NPROC);
        if u64::from(self.count_of(self.cred(caller).real).tasks) > limit {
            return refuse(fx, rule!("EXEC-17"), Errno::EAGAIN);
        }
        self.tasks[caller].over_nproc = false;
        Ok(())
    }

    /// Whether a core may be written of the memory of a process, and of all that share it.
    /// O(sharers).
    pub(super) fn set_dumpable(&mut self, process: Id<Process>, dumpable: bool) {
        self.processes[process].flags.dumpable = dumpable;
        for sharer in self.memory_shares.sharers(process) {
            self.processes[*sharer].flags.dumpable = dumpable;
        }
    }

    /// Whether a core is written when the process dies of a signal that wants one (EXIT-05).
    pub(super) fn writes_core(&self, process: Id<Process>) -> bool {
        let dying = &self.processes[process];
        dying.flags.dumpable
            && self.soft_limit(process, Resource::CORE) >= PAGE
            && !self.config.unwritable.iter().any(|folder| dying.fs().cwd.starts_with(&**folder))
    }

    pub(super) fn prlimit(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        resource: Resource,
        new: Option<Rlimit>,
        old: Ptr,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("LIM-13"));
        // TG-18: a thread's number names its process
        let target = if pid == 0 { caller } else { self.task_named(pid).ok_or(Errno::ESRCH)? };
        self.may_limit(caller, target, fx)?;
        if resource.0 >= Resource::COUNT {
            return Err(Errno::EINVAL);
        }
        let before = self.processes[self.tasks[target].process].limits().get(resource);
        if let Some(new) = new {
            if new.soft > new.hard {
                return Err(Errno::EINVAL);
            }
            let may_raise = self.cred(caller).capable
                && self.config.sys_resource
                && !self.config.user_namespace;
            if new.hard > before.hard && !may_raise {
                return Err(Errno::EPERM);
            }
            let inherited = self.processes[self.tasks[target].process].inherited_mut();
            Arc::make_mut(&mut inherited.limits).set(resource, new);
        }
        match old {
            Ptr::Null => Ok(Ret::Limit(None)),
            Ptr::Valid => Ok(Ret::Limit(Some(before))),
            Ptr::Bad => Err(Errno::EFAULT),
        }
    }
}
