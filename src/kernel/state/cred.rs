//! The users of a thread, as far as signals and limits need them.

use crate::abi::Uid;
use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::task::Task;

/// The users of a thread, and whether it has the superuser's capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cred {
    pub real: Uid,
    pub effective: Uid,
    pub saved: Uid,
    /// All capabilities are in force: CAP_KILL, CAP_SETUID and, where root has it,
    /// CAP_SYS_RESOURCE.
    pub capable: bool,
    /// The capabilities can be in force again if the thread becomes effective root.
    pub permitted: bool,
}

impl Cred {
    /// The credentials of a process of that user.
    pub fn new(user: Uid) -> Cred {
        let root = user == Uid::ROOT;
        Cred { real: user, effective: user, saved: user, capable: root, permitted: root }
    }

    pub fn users(&self) -> [Uid; 3] {
        [self.real, self.effective, self.saved]
    }

    /// Whether a process with these credentials may signal a process with those of `target`
    /// (KILL-16). Group ids do not matter (CRED-03).
    #[inline]
    pub fn may_signal(&self, target: &Cred) -> bool {
        self.capable
            || [self.effective, self.real]
                .iter()
                .any(|user| *user == target.saved || *user == target.real)
    }

    /// Adjusts the capabilities to a change of the users (capabilities(7)).
    pub(in crate::kernel) fn adjust(&mut self, old: &Cred) {
        let root = |cred: &Cred| cred.users().contains(&Uid::ROOT);
        if root(old) && !root(self) {
            self.permitted = false;
            self.capable = false;
        }
        match (old.effective == Uid::ROOT, self.effective == Uid::ROOT) {
            (true, false) => self.capable = false,
            (false, true) => self.capable = self.permitted,
            _ => {}
        }
    }

    /// The credentials after an execve of an ordinary file: the saved user becomes the effective
    /// one, and root regains the capabilities.
    pub fn after_exec(&self) -> Cred {
        let permitted = self.real == Uid::ROOT || self.effective == Uid::ROOT;
        Cred { saved: self.effective, permitted, capable: self.effective == Uid::ROOT, ..*self }
    }
}

impl Kernel {
    /// The credentials of a thread.
    #[inline]
    pub(in crate::kernel) fn cred(&self, task: Id<Task>) -> &Cred {
        &self.tasks[task].cred
    }
}
