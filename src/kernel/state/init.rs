//! The init of the namespace, and its thread that adopts orphans.

use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;
use crate::kernel::state::task::Task;

/// The init of the namespace.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NamespaceInit {
    pub process: Id<Process>,
    /// The thread that adopts orphans (child_reaper). At its end a living thread takes its place.
    /// If none is left the thread stays here and ends the namespace; its task may be gone then.
    reaper: Id<Task>,
    /// The reaper has ended: all other processes are being killed (NS-08).
    zapping: bool,
}

impl NamespaceInit {
    /// An init with its first thread.
    pub fn new(process: Id<Process>, reaper: Id<Task>) -> NamespaceInit {
        NamespaceInit { process, reaper, zapping: false }
    }
}

impl Kernel {
    /// The process that is the init of the namespace.
    pub(in crate::kernel) fn init_process(&self) -> Option<Id<Process>> {
        self.init.as_ref().map(|init| init.process)
    }

    /// Whether the init has ended and the namespace is being emptied.
    pub(in crate::kernel) fn is_zapping(&self) -> bool {
        self.init.as_ref().is_some_and(|init| init.zapping)
    }

    /// Makes another thread of the init the adopter of orphans.
    pub(in crate::kernel) fn set_child_reaper(&mut self, task: Id<Task>) {
        if let Some(init) = &mut self.init {
            init.reaper = task;
        }
    }

    /// The end of the namespace begins.
    pub(in crate::kernel) fn set_zapping(&mut self) {
        if let Some(init) = &mut self.init {
            init.zapping = true;
        }
    }

    /// The thread of the init that adopts orphans.
    pub(in crate::kernel) fn child_reaper(&self) -> Option<Id<Task>> {
        self.init.as_ref().map(|init| init.reaper)
    }
}
