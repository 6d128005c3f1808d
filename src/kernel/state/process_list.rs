//! The list of all processes, in the order of their creation.

use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;

impl Kernel {
    /// Adds a process at the end of the list of all processes (KILL-13).
    pub(in crate::kernel) fn append_to_all(&mut self, id: Id<Process>) {
        self.all.push_back(&mut self.processes, id);
    }

    /// Removes a process from the list of all processes.
    pub(in crate::kernel) fn remove_from_all(&mut self, id: Id<Process>) {
        self.all.remove(&mut self.processes, id);
    }

    /// All processes, zombies included, in the order of their creation.
    pub(in crate::kernel) fn all(&self) -> impl Iterator<Item = Id<Process>> + '_ {
        self.all.iter(&self.processes)
    }
}
