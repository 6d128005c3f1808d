//! Orphans: where the owner is a subreaper, members whose parents have ended become its children.
//!
//! The owner has to reap them then. But other children of the owner were created by other
//! libraries, or are orphans of such children. So a child counts as an orphan of a tree only if it
//! has the tree's mark or is in its cgroup, and the tree has not created it itself; and it is
//! reaped by its descriptor, never by a wait for any child.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::host_process::HostProcess;
use super::procfs::{self, Once, Proc};
use super::tree::TreeInner;
use super::watch::{Watch, watch};
use super::{attributes, pidfd, scan};
use crate::sync::Mutex;

/// The trees of this process, and whether it is a subreaper for them.
struct SubreaperTrees {
    trees: Vec<Weak<TreeInner>>,
    claims: usize,
    /// Whether it was one before the first claim.
    before: bool,
}

static REGISTRY: Mutex<SubreaperTrees> =
    Mutex::new(SubreaperTrees { trees: Vec::new(), claims: 0, before: false });

/// When the creations of children in progress began, in clock ticks since boot: a process that
/// starts from then on may be a child whose number is not known yet.
static CREATIONS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// A child is being created: until this is dropped it may be in no list.
#[derive(Debug)]
pub(super) struct Creation(u64);

impl Creation {
    pub fn begin() -> Creation {
        let mut creations = CREATIONS.lock();
        let since = procfs::now();
        creations.push(since);
        Creation(since)
    }

    /// Whether one that started then may be being created.
    pub fn may_be(started: u64) -> bool {
        CREATIONS.lock().iter().any(|since| started >= *since)
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        let mut creations = CREATIONS.lock();
        if let Some(own) = creations.iter().position(|since| *since == self.0) {
            creations.swap_remove(own);
        }
    }
}

/// While there is one, this process is a subreaper.
#[derive(Debug)]
pub(super) struct SubreaperGuard(());

impl SubreaperGuard {
    pub fn new() -> io::Result<SubreaperGuard> {
        let mut registry = REGISTRY.lock();
        if registry.claims == 0 {
            registry.before = attributes::is_subreaper()?;
            attributes::set_subreaper(true)?;
        }
        registry.claims += 1;
        Ok(SubreaperGuard(()))
    }
}

impl Drop for SubreaperGuard {
    fn drop(&mut self) {
        let mut registry = REGISTRY.lock();
        registry.claims -= 1;
        if registry.claims == 0 && !registry.before {
            // it could be set, so it can be reset
            let _ = attributes::set_subreaper(false);
        }
    }
}

/// A tree's orphans are its own from now on.
pub(super) fn register_tree(tree: &Arc<TreeInner>) {
    let mut registry = REGISTRY.lock();
    registry.trees.retain(|tree| tree.strong_count() > 0);
    registry.trees.push(Arc::downgrade(tree));
}

/// Looks for orphans among the children of this process, if it is a subreaper for a tree.
///
/// Costs its children, and a look into the limits and the environment of those that no tree knows.
pub(super) fn scan_orphans() {
    let registry = REGISTRY.lock();
    if registry.claims == 0 {
        return;
    }
    let trees: Vec<_> = registry.trees.iter().filter_map(Weak::upgrade).collect();
    drop(registry);
    // before the lists of the trees are read: a process that is created later is not in them
    let Ok(proc) = Proc::own() else { return };
    let Ok(pids) = proc.children() else { return };
    let known: BTreeSet<i32> = trees.iter().flat_map(|tree| tree.children.lock().pids()).collect();
    for pid in pids.into_iter().filter(|pid| !known.contains(pid)) {
        if let Some(tree) = trees.iter().find(|tree| tree.owns(&proc, pid)) {
            tree.take_orphan(&proc, pid);
        }
    }
}

/// What a zombie of this process is to its trees.
pub(super) enum Ownership {
    /// A child that a tree has created, or an adopted one of another library: not an orphan.
    Own,
    /// One that a tree has adopted, and that has become a child of this process since.
    Adopted(Arc<HostProcess>),
    /// A member that another member of the tree has created.
    Orphan(Arc<TreeInner>),
    /// No tree knows it.
    Unowned,
}

/// Asks the trees for a zombie. Costs their direct children, and a look into its cgroup, or its
/// limits and its environment, for each tree. Without a /proc of this namespace only the children
/// are known.
pub(super) fn ownership_of(proc: Option<&Proc>, pid: i32, started: u64) -> Ownership {
    let trees: Vec<_> = REGISTRY.lock().trees.iter().filter_map(Weak::upgrade).collect();
    for tree in &trees {
        let children = tree.children.lock();
        if children.unrelated.contains(&(pid, started)) {
            return Ownership::Own;
        }
        let direct = children.list.values().find(|real| real.pid == pid && !real.is_reaped());
        match direct {
            Some(real) if real.spawned_here => return Ownership::Own,
            Some(real) => return Ownership::Adopted(real.clone()),
            None => {}
        }
    }
    let Some(proc) = proc else { return Ownership::Unowned };
    trees
        .into_iter()
        .find(|tree| tree.owns(proc, pid))
        .map_or(Ownership::Unowned, Ownership::Orphan)
}

impl TreeInner {
    fn owns(&self, proc: &Proc, pid: i32) -> bool {
        match &self.cgroup {
            Some(cgroup) => cgroup.has(proc, pid),
            None => self.mark.is_on(proc, pid),
        }
    }

    fn take_orphan(self: &Arc<TreeInner>, proc: &Proc, pid: i32) {
        let own = std::process::id() as i32;
        let found = scan::confirm(proc, pid, |stat| stat.ppid == own && self.owns(proc, pid));
        // without descriptors, the next look may have some
        let Ok(Some((stat, pidfd))) = found else { return };
        let mut children = self.children.lock();
        if children.may_have_created(pid, stat.started) {
            return;
        }
        let real = HostProcess::child(pid, pidfd);
        let orphan = Arc::new(Orphan { real, tree: Arc::downgrade(self) });
        children.orphans.push(orphan.clone());
        drop(children);
        if watch(orphan.clone()).is_err() {
            self.children.lock().forget(&orphan);
        }
    }

    /// Reaps an orphan that has ended, and notes what it has used.
    pub fn reap_orphan(self: &Arc<TreeInner>, pid: i32, pidfd: OwnedFd) {
        let mut children = self.children.lock();
        let is_it = |orphan: &&Arc<Orphan>| orphan.real.pid == pid && !orphan.real.is_reaped();
        let known = children.orphans.iter().find(is_it).cloned();
        let orphan = known.unwrap_or_else(|| {
            let real = HostProcess::child(pid, pidfd);
            let orphan = Arc::new(Orphan { real, tree: Arc::downgrade(self) });
            children.orphans.push(orphan.clone());
            orphan
        });
        drop(children);
        orphan.ended();
    }

    /// Reaps the orphans that have ended, now.
    pub fn reap_orphans(&self) {
        scan_orphans();
        let orphans = self.children.lock().orphans.clone();
        for orphan in orphans {
            // one that lives, or that its tracer has not seen, is for the watcher
            let _ = orphan.ended();
        }
    }
}

/// A child of this process that a member of a tree has created, and not the tree itself.
#[derive(Debug)]
pub(super) struct Orphan {
    pub real: HostProcess,
    tree: Weak<TreeInner>,
}

impl Watch for Orphan {
    fn pidfd(&self) -> &OwnedFd {
        &self.real.pidfd
    }

    fn ended(&self) -> bool {
        let mut told = self.real.end_reported.lock();
        if *told {
            return true;
        }
        match pidfd::observe(self.real.pid, &self.real.pidfd, libc::WEXITED | libc::WNOWAIT) {
            Ok(None) => return false,
            Ok(Some(observed)) => drop(self.real.saw(observed)),
            // other code waits for any child: then it is reaped
            Err(_) => {}
        }
        *told = true;
        self.real.reap();
        if let Some(tree) = self.tree.upgrade() {
            tree.children.lock().forget(self);
        }
        true
    }

    fn look(&self, _: &Once) {}
}
