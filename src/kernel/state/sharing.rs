//! Sets of tasks or processes that share umask and working directory (CLONE_FS), or memory
//! (CLONE_VM).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Sets of tasks, or of processes, that share one thing. An element that shares with no other one
/// is in no set, and costs nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SharingSets<K> {
    /// The number of the set of each element.
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "crate::kernel::api::snapshot::pairs",
            bound(
                serialize = "K: serde::Serialize",
                deserialize = "K: Ord + serde::Deserialize<'de>"
            )
        )
    )]
    set_of: BTreeMap<K, u64>,
    /// The members of each set.
    #[cfg_attr(
        feature = "serde",
        serde(
            with = "crate::kernel::api::snapshot::pairs",
            bound(serialize = "K: serde::Serialize", deserialize = "K: serde::Deserialize<'de>")
        )
    )]
    members: BTreeMap<u64, Vec<K>>,
    /// The number of the next set.
    next: u64,
}

impl<K: Copy + Ord> SharingSets<K> {
    /// No element shares anything.
    pub const fn new() -> SharingSets<K> {
        SharingSets { set_of: BTreeMap::new(), members: BTreeMap::new(), next: 0 }
    }

    /// Adds `child` to the set of `creator`. O(log elements).
    pub fn share(&mut self, creator: K, child: K) {
        let next = self.next;
        let set = *self.set_of.entry(creator).or_insert(next);
        let members = self.members.entry(set).or_default();
        if members.is_empty() {
            members.push(creator);
            self.next += 1;
        }
        members.push(child);
        self.set_of.insert(child, set);
    }

    /// Removes `id` from its set. O(members of the set).
    #[inline]
    pub fn leave(&mut self, id: K) {
        // tested first: usually there is no set
        if !self.set_of.is_empty() {
            self.leave_set(id);
        }
    }

    fn leave_set(&mut self, id: K) {
        let Some(set) = self.set_of.remove(&id) else { return };
        let Some(members) = self.members.get_mut(&set) else { return };
        members.retain(|member| *member != id);
        if let [last] = members[..] {
            self.set_of.remove(&last);
            self.members.remove(&set);
        }
    }

    /// Puts `new` in the place of `old` in its set, and removes `new` from its own. O(members of
    /// both sets).
    pub fn replace(&mut self, old: K, new: K) {
        self.leave(new);
        let Some(set) = self.set_of.remove(&old) else { return };
        self.set_of.insert(new, set);
        let members = self.members.get_mut(&set).into_iter().flatten();
        for member in members.filter(|member| **member == old) {
            *member = new;
        }
    }

    /// Whether each set has two members or more, which refer to it and, by `lives`, live.
    pub fn is_sound(&self, lives: impl Fn(K) -> bool) -> bool {
        let of = |member: &K| self.set_of.get(member).copied();
        let sound = |(set, members): (&u64, &Vec<K>)| {
            members.len() > 1 && members.iter().all(|one| of(one) == Some(*set) && lives(*one))
        };
        let members: usize = self.members.values().map(Vec::len).sum();
        members == self.set_of.len() && self.members.iter().all(sound)
    }

    /// The members of the set of `id`, `id` included; empty if it is in no set. O(log elements).
    pub fn sharing_with(&self, id: K) -> &[K] {
        let members = self.set_of.get(&id).and_then(|set| self.members.get(set));
        members.map_or(&[], Vec::as_slice)
    }
}
