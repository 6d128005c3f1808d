//! Orphans: where the owner is a subreaper, members whose parents have ended become its children.
//!
//! They are its to reap then, and nobody else's: but among its children are also those that other
//! libraries have created, and the orphans of those. So a child is taken for an orphan of a tree only
//! if it has the tree's mark or is in its cgroup, and the tree has not created it itself; and it is
//! reaped by its descriptor, never by a wait for any child.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::procfs::{Once, Proc};
use super::real::Real;
use super::tree::Core;
use super::watch::{Watch, watch};
use super::{attributes, pidfd, scan};
use crate::sync::Mutex;

/// The trees of this process, and whether it is a subreaper for them.
struct Registry {
    trees: Vec<Weak<Core>>,
    claims: usize,
    /// Whether it was one before the first claim.
    before: bool,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { trees: Vec::new(), claims: 0, before: false });

/// While there is one, this process is a subreaper.
#[derive(Debug)]
pub(super) struct Claim(());

impl Claim {
    pub fn new() -> io::Result<Claim> {
        let mut registry = REGISTRY.lock();
        if registry.claims == 0 {
            registry.before = attributes::is_subreaper()?;
            attributes::set_subreaper(true)?;
        }
        registry.claims += 1;
        Ok(Claim(()))
    }
}

impl Drop for Claim {
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
pub(super) fn enlist(tree: &Arc<Core>) {
    let mut registry = REGISTRY.lock();
    registry.trees.retain(|tree| tree.strong_count() > 0);
    registry.trees.push(Arc::downgrade(tree));
}

/// Looks for orphans among the children of this process, if it is a subreaper for a tree.
///
/// Costs its children, and a look into the limits and the environment of those that no tree knows.
pub(super) fn look() {
    let registry = REGISTRY.lock();
    if registry.claims == 0 {
        return;
    }
    let trees: Vec<_> = registry.trees.iter().filter_map(Weak::upgrade).collect();
    drop(registry);
    // before what the trees know: whoever comes into being later is not among them
    let Ok(proc) = Proc::own() else { return };
    let Ok(pids) = proc.children() else { return };
    let known: BTreeSet<i32> = trees.iter().flat_map(|tree| tree.children.lock().pids()).collect();
    for pid in pids.into_iter().filter(|pid| !known.contains(pid)) {
        if let Some(tree) = trees.iter().find(|tree| tree.owns(&proc, pid)) {
            tree.take_orphan(&proc, pid);
        }
    }
}

impl Core {
    fn owns(&self, proc: &Proc, pid: i32) -> bool {
        match &self.cgroup {
            Some(cgroup) => cgroup.has(proc, pid),
            None => self.mark.is_on(proc, pid),
        }
    }

    fn take_orphan(self: &Arc<Core>, proc: &Proc, pid: i32) {
        let own = std::process::id() as i32;
        let found = scan::confirm(proc, pid, |stat| stat.ppid == own && self.owns(proc, pid));
        // without descriptors, the next look may have some
        let Ok(Some((stat, pidfd))) = found else { return };
        let mut children = self.children.lock();
        if children.may_have_created(pid, stat.started) {
            return;
        }
        let real = Real::child(pid, pidfd);
        let orphan = Arc::new(Orphan { real, tree: Arc::downgrade(self) });
        children.orphans.push(orphan.clone());
        drop(children);
        if watch(orphan.clone()).is_err() {
            self.children.lock().forget(&orphan);
        }
    }

    /// Reaps the orphans that have ended, now.
    pub fn reap_orphans(&self) {
        look();
        let orphans = self.children.lock().orphans.clone();
        for orphan in orphans {
            // one that lives, or that its tracer has not seen, is for the watcher
            let _ = orphan.ended();
        }
    }
}

/// A child of this process that a tree has not created, but somebody in it.
#[derive(Debug)]
pub(super) struct Orphan {
    pub real: Real,
    tree: Weak<Core>,
}

impl Watch for Orphan {
    fn pidfd(&self) -> &OwnedFd {
        &self.real.pidfd
    }

    fn ended(&self) -> bool {
        let mut told = self.real.told.lock();
        if *told {
            return true;
        }
        match pidfd::observe(self.real.pid, &self.real.pidfd, libc::WEXITED | libc::WNOWAIT) {
            Ok(None) => return false,
            Ok(Some(observed)) => drop(self.real.saw(observed)),
            // somebody waits for any child: then it is reaped
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
