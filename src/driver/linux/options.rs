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

    /// What all processes of the tree together may use.
    pub fn limits(mut self, limits: Limits) -> Options {
        self.limits = limits;
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
