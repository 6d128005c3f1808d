//! Who shares something with whom: umask and working directory (CLONE_FS), or memory (CLONE_VM).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::arena::Id;

/// Sets of tasks, or of processes, that share one thing. One that shares with nobody is in none, and
/// costs nothing.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound = ""))]
pub struct Shares<T> {
    /// The number of the set that each is in.
    #[cfg_attr(feature = "serde", serde(with = "super::snapshot::pairs"))]
    set_of: BTreeMap<Id<T>, u64>,
    /// The members of each set.
    #[cfg_attr(feature = "serde", serde(with = "super::snapshot::pairs"))]
    members: BTreeMap<u64, Vec<Id<T>>>,
    /// The number of the next set.
    next: u64,
}

impl<T> Clone for Shares<T> {
    fn clone(&self) -> Shares<T> {
        Shares { set_of: self.set_of.clone(), members: self.members.clone(), next: self.next }
    }
}

impl<T> PartialEq for Shares<T> {
    fn eq(&self, other: &Shares<T>) -> bool {
        (&self.set_of, &self.members, self.next) == (&other.set_of, &other.members, other.next)
    }
}

impl<T> Eq for Shares<T> {}

impl<T> Shares<T> {
    /// Nobody shares anything.
    pub const fn new() -> Shares<T> {
        Shares { set_of: BTreeMap::new(), members: BTreeMap::new(), next: 0 }
    }

    /// The child shares with its creator, and with all that share with it already. O(log sharers).
    pub fn share(&mut self, creator: Id<T>, child: Id<T>) {
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

    /// It shares nothing any more. O(members of its set).
    pub fn leave(&mut self, id: Id<T>) {
        let Some(set) = self.set_of.remove(&id) else { return };
        let Some(members) = self.members.get_mut(&set) else { return };
        members.retain(|member| *member != id);
        if let [last] = members[..] {
            self.set_of.remove(&last);
            self.members.remove(&set);
        }
    }

    /// `new` takes the place of `old`. O(members of its set).
    pub fn replace(&mut self, old: Id<T>, new: Id<T>) {
        let Some(set) = self.set_of.remove(&old) else { return };
        self.set_of.insert(new, set);
        let members = self.members.get_mut(&set).into_iter().flatten();
        for member in members.filter(|member| **member == old) {
            *member = new;
        }
    }

    /// Whether each set has two members or more, all of which know it and, by `lives`, live.
    pub fn is_sound(&self, lives: impl Fn(Id<T>) -> bool) -> bool {
        let of = |member: &Id<T>| self.set_of.get(member).copied();
        let sound = |(set, members): (&u64, &Vec<Id<T>>)| {
            members.len() > 1 && members.iter().all(|one| of(one) == Some(*set) && lives(*one))
        };
        let members: usize = self.members.values().map(Vec::len).sum();
        members == self.set_of.len() && self.members.iter().all(sound)
    }

    /// Those that share with `id`, itself among them; nobody if it shares with nobody.
    /// O(log sharers).
    pub fn sharers(&self, id: Id<T>) -> &[Id<T>] {
        let members = self.set_of.get(&id).and_then(|set| self.members.get(set));
        members.map_or(&[], Vec::as_slice)
    }
}
