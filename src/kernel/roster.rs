//! The list of all processes, in the order of their creation.

use super::Kernel;
use super::arena::Id;
use super::process::{Links, Process};

impl Kernel {
    /// Puts a process at the end of the list of all (KILL-13).
    pub(super) fn append_to_all(&mut self, id: Id<Process>) {
        let links = Links { previous: self.newest.replace(id), next: None };
        match links.previous {
            Some(previous) => self.processes[previous].all_links.next = Some(id),
            None => self.oldest = Some(id),
        }
        self.processes[id].all_links = links;
    }

    /// Takes a process out of the list of all.
    pub(super) fn remove_from_all(&mut self, id: Id<Process>) {
        let Links { previous, next } = self.processes[id].all_links;
        match previous {
            Some(previous) => self.processes[previous].all_links.next = next,
            None => self.oldest = next,
        }
        match next {
            Some(next) => self.processes[next].all_links.previous = previous,
            None => self.newest = previous,
        }
    }

    /// All processes, zombies included, in the order of their creation.
    pub(super) fn all(&self) -> impl Iterator<Item = Id<Process>> + '_ {
        core::iter::successors(self.oldest, |id| self.processes[*id].all_links.next)
    }
}
