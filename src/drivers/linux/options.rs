//! How a tree is made.

use std::io;

use super::delegate::Delegate;
use super::limit::Limits;
use super::tree::ProcessTree;

/// What becomes of a tree whose handle is dropped, also by a panic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnDrop {
    /// It is killed.
    #[default]
    Kill,
    /// It continues, and [`sweep`](super::sweep) leaves it alone. Its cgroup is removed now if it
    /// has no members, else by a sweep once it has none.
    Leave,
}

/// What kills the direct children of an owner that dies: [`Options::kill_on_owner_death`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnerDeath {
    /// The kernel, when the owner's descriptors of them are closed: CLONE_PIDFD_AUTOKILL.
    Autokill,
    /// A guardian, which also kills all other members of the tree's cgroup.
    Guardian,
    /// A parent-death signal, PR_SET_PDEATHSIG. A program that changes its user loses it.
    ParentDeathSignal,
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
    pub(super) subreaper: bool,
    pub(super) delegate: Delegate,
    pub(super) kill_on_owner_death: bool,
    pub(super) without_trial: bool,
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

    /// Does not try with a child whether children can enter the cgroup. This saves the creation of
    /// a process, which the first tree in a cgroup costs. If no child can enter, the first spawn
    /// fails with [`Step::Cgroup`](super::Step::Cgroup); without this option the tree would have no
    /// cgroup.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Options, Step};
    ///
    /// let tree = Options::new().without_trial().create()?;
    /// match tree.spawn(Command::new("true")) {
    ///     Ok(child) => assert_eq!(child.wait()?.exit_code(), Some(0)),
    ///     Err(error) if error.step == Step::Cgroup => println!("use Options::new().create()"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn without_trial(mut self) -> Options {
        self.without_trial = true;
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

    /// Permits a limit to be weaker than its meaning where no controller can enforce it: `memory`
    /// of each process alone by RLIMIT_AS, `processes` of the whole user by RLIMIT_NPROC.
    /// [`ProcessTree::enforced`] names the mechanism. There is no such mechanism for `cpu`, nor for
    /// the processes of root. A process that has CAP_SYS_RESOURCE can raise its own.
    ///
    /// ```
    /// use proctable::drivers::linux::{Limits, Options};
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

    /// Permits to change the owner's own cgroup so that the limits have their controllers; nothing
    /// of it is changed otherwise. It helps where that cgroup has them and does not pass them on,
    /// as the root cgroup does on a machine without a service manager. What was changed is undone
    /// at the end: see [`Delegate`].
    ///
    /// ```
    /// use proctable::drivers::linux::{Delegate, Limits, Options};
    ///
    /// let limits = Limits { processes: Some(100), ..Limits::default() };
    /// match Options::new().limits(limits).delegate(Delegate::Enable).create() {
    ///     Ok(tree) => println!("{}", tree.enforced()[0]),
    ///     Err(error) => println!("{error}"), // says which command would help
    /// }
    /// ```
    pub fn delegate(mut self, delegate: Delegate) -> Options {
        self.delegate = delegate;
        self
    }

    /// Has a tiny process outside of the tree kill it when the owner dies, also by SIGKILL, and
    /// also where the owner is process 1 of a container. It needs a cgroup, and /bin/sh.
    pub fn guarded(mut self) -> Options {
        self.guarded = true;
        self
    }

    /// Has the direct children killed when the owner dies, also by SIGKILL, by the first of these
    /// that can be had; [`ProcessTree::owner_death`] tells which it is:
    ///
    /// 1. The kernel (Linux 7.1, x86-64, with CAP_SYS_ADMIN): [`OwnerDeath::Autokill`]. It needs no
    ///    other process, and no program that the child executes can get rid of it. Such a child is
    ///    never a zombie, nor is it seen by a wait for any child; its CPU time after its end is not
    ///    known.
    /// 2. A guardian, if the tree has a cgroup: see [`Options::guarded`]. It ends all members.
    /// 3. SIGKILL as the parent-death signal: see
    ///    [`Command::parent_death_signal`](super::Command::parent_death_signal).
    ///
    /// The tree's cgroup stays then, but with the second, until a [`sweep`](super::sweep).
    /// Of descendants only the second is sure to end them all: it can be asked for besides.
    ///
    /// ```
    /// use proctable::drivers::linux::Options;
    ///
    /// let tree = Options::new().kill_on_owner_death().create()?;
    /// println!("{:?}", tree.owner_death());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kill_on_owner_death(mut self) -> Options {
        self.kill_on_owner_death = true;
        self
    }

    /// Makes this process a subreaper (PR_SET_CHILD_SUBREAPER) while the tree is there: a member
    /// whose parent ends becomes a child of this process instead of init's, so that the tree also
    /// sees its end, counts its CPU time, and reaps it.
    ///
    /// It changes the whole process, and so is opt-in:
    ///
    /// - Descendants that other libraries have begun become children of this process, too, when
    ///   their parents end. They are never touched here: without a wait they stay zombies until
    ///   this process ends, where init would have reaped them.
    /// - A library that waits for any child (`waitpid(-1)`) gets the tree's orphans as well, as it
    ///   does children that the tree spawns.
    /// - Orphans of all trees of this process are reaped then, of those without this option, too.
    ///   While a tree spawns, its orphans wait.
    ///
    /// A child of this process counts as an orphan of a tree only if it has the tree's mark (in its
    /// limits or its environment) or is in its cgroup, and was neither spawned by the tree nor
    /// adopted from another library. Children that this process creates itself have no mark. One
    /// case remains uncertain: an orphan that has changed its limit of file locks and cleared its
    /// environment, without a cgroup, belongs to no tree, and is left alone.
    ///
    /// When the last such tree is dropped the process is no subreaper any more, unless it was one
    /// before the first.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Options};
    ///
    /// let tree = Options::new().without_cgroup().subreaper().create()?;
    /// // a daemon without environment
    /// let script = "(setsid env -i sleep 100 &) ; true";
    /// tree.spawn(Command::new("sh").arg("-c").arg(script))?.wait()?;
    /// assert!(tree.kill()?.survivors.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subreaper(mut self) -> Options {
        self.subreaper = true;
        self
    }

    /// Makes the tree.
    ///
    /// # Errors
    ///
    /// The reason why a limit cannot be enforced, a guardian not be started, processes not be
    /// signalled by descriptors, or this process not be a subreaper (before Linux 3.4).
    /// InvalidInput if a tree that is to be left is to be killed at the owner's end. A cgroup that
    /// cannot be made is no error: see [`ProcessTree::mechanism`].
    pub fn create(self) -> io::Result<ProcessTree> {
        ProcessTree::create(self)
    }
}
