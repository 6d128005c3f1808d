//! How a tree is made.

use std::io;

use super::limit::Limits;
use super::tree::ProcessTree;

/// What becomes of a tree whose handle is dropped, also by a panic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnDrop {
    /// It is killed.
    #[default]
    Kill,
    /// It goes on. Its cgroup stays until somebody removes it.
    Leave,
}

/// How a tree is made.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[must_use]
pub struct Options {
    pub(super) without_cgroup: bool,
    pub(super) on_drop: OnDrop,
    pub(super) limits: Limits,
    pub(super) weaker_limits: bool,
    pub(super) guarded: bool,
}

impl Options {
    /// The best containment that there is, killed when dropped.
    pub fn new() -> Options {
        Options::default()
    }

    /// Does without a cgroup, even if one could be made.
    pub fn without_cgroup(mut self) -> Options {
        self.without_cgroup = true;
        self
    }

    /// What becomes of it when its handle is dropped.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Options {
        self.on_drop = on_drop;
        self
    }

    /// What all processes of the tree together may use. One that cannot be enforced for all of them
    /// together is an error: see also [`Options::weaker_limits`].
    pub fn limits(mut self, limits: Limits) -> Options {
        self.limits = limits;
        self
    }

    /// Permits a limit to be weaker than its meaning where no controller can enforce it: `memory` of
    /// each process alone by RLIMIT_AS, `processes` of the whole user by RLIMIT_NPROC. Which one it
    /// became is told by [`ProcessTree::enforced`]. There is no such thing for `cpu`, nor for the
    /// processes of root. A process that has CAP_SYS_RESOURCE can raise its own.
    ///
    /// ```
    /// use proctable::driver::linux::{Limits, Options};
    ///
    /// let limits = Limits { memory: Some(1 << 30), ..Limits::default() };
    /// let tree = Options::new().limits(limits).weaker_limits().create()?;
    /// for enforced in tree.enforced() {
    ///     println!("{enforced}"); // memory: enforced by cgroup v1
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn weaker_limits(mut self) -> Options {
        self.weaker_limits = true;
        self
    }

    /// Has a tiny process outside of the tree kill it when the owner dies, also by SIGKILL, and
    /// also where the owner is process 1 of a container. It needs a cgroup, and /bin/sh.
    pub fn guarded(mut self) -> Options {
        self.guarded = true;
        self
    }

    /// Makes the tree.
    ///
    /// # Errors
    ///
    /// The reason why a limit cannot be enforced or a guardian not be started. A cgroup that cannot
    /// be made is no error: see [`ProcessTree::mechanism`].
    pub fn create(self) -> io::Result<ProcessTree> {
        ProcessTree::create(self)
    }
}
