//! Containment without cgroups: a look through /proc for what belongs to a tree.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use super::child;
use super::procfs::{self, Stat};

/// The variable that marks everybody who was spawned in a tree, and whoever inherits it.
pub(super) const MARK: &str = "PROCTABLE_TREE";

/// Everybody who descends from one of `roots`, or has the mark in his environment; zombies left
/// out. Costs a look at every process of the system.
pub(super) fn members(mark: &str, roots: &[i32]) -> io::Result<Vec<Stat>> {
    let all = procfs::all()?;
    let mut found: BTreeSet<i32> = roots.iter().copied().collect();
    found.extend(
        all.iter()
            .filter(|stat| procfs::variable(stat.pid, MARK).as_deref() == Some(mark))
            .map(|stat| stat.pid),
    );
    // a child may stand before its parent: until nobody is found any more
    loop {
        let child = |stat: &&Stat| found.contains(&stat.ppid) && !found.contains(&stat.pid);
        let children: Vec<i32> = all.iter().filter(child).map(|stat| stat.pid).collect();
        if children.is_empty() {
            break;
        }
        found.extend(children);
    }
    let own = std::process::id() as i32;
    Ok(all
        .into_iter()
        .filter(|stat| found.contains(&stat.pid) && stat.pid != own && stat.state != b'Z')
        .collect())
}

/// A descriptor of the very process that was seen: its number may be another's by now.
pub(super) fn open(seen: &Stat) -> Option<OwnedFd> {
    let pidfd = child::open(seen.pid).ok()?;
    // it was opened before this look, so what this sees is what it names
    let now = procfs::stat(seen.pid)?;
    (now.started == seen.started).then_some(pidfd)
}
