//! Resource limits, and the counts that they limit.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::{Resource, Rlimit, Uid};
use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;

/// The limits of a process (LIM-14), shared until one of them changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits {
    /// The limits that were set, ascending; the other resources have no limit.
    set: Vec<(Resource, Rlimit)>,
}

impl Limits {
    /// No limit at all.
    pub fn none() -> Limits {
        Limits { set: Vec::new() }
    }

    /// The limit of a resource. O([`Resource::COUNT`]).
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

/// The counts of a user, over all its processes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct UserCount {
    /// Tasks, zombies included (LIM-03, ZOM-11).
    pub tasks: u32,
    /// Queued signal records (LIM-07).
    pub queued: u32,
}

/// The counts of each user.
pub type Users = BTreeMap<Uid, UserCount>;

/// Charges a signal record to `user` (LIM-07, TG-167); `None` if the limit is reached and
/// `ignore_limit` is not set.
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
    pub(in crate::kernel) fn charge_task(&mut self, user: Uid) {
        self.users.entry(user).or_default().tasks += 1;
    }

    /// Takes a task off its user's account.
    pub(in crate::kernel) fn discharge_task(&mut self, user: Uid) {
        self.discharge(user, |count| count.tasks -= 1);
    }

    /// Takes a signal record off its user's account.
    pub(in crate::kernel) fn discharge_queued(&mut self, user: Uid) {
        self.discharge(user, |count| count.queued -= 1);
    }

    /// Takes several signal records off their users' accounts.
    pub(in crate::kernel) fn discharge_all_queued(&mut self, users: Vec<Uid>) {
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

    pub(in crate::kernel) fn count_of(&self, user: Uid) -> UserCount {
        self.users.get(&user).copied().unwrap_or_default()
    }

    pub(in crate::kernel) fn soft_limit(&self, process: Id<Process>, resource: Resource) -> u64 {
        self.processes[process].limits().get(resource).soft
    }

    /// Sets whether a core of the memory of a process may be written, also for the processes that
    /// share the memory. O(these processes).
    pub(in crate::kernel) fn set_dumpable(&mut self, process: Id<Process>, dumpable: bool) {
        self.processes[process].flags.dumpable = dumpable;
        for other in self.memory_shares.sharing_with(process) {
            self.processes[*other].flags.dumpable = dumpable;
        }
    }
}
