//! The remains of owners that died without ending their trees.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{self, Cgroup, remove_tree};
use super::members::Member;
use super::procfs::{Proc, Stat};
use super::{limit, pidfd, procfs, scan};

/// How long removing a cgroup may take.
const GONE: Duration = Duration::from_secs(10);

/// What [`sweep`] has found and ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SweepReport {
    /// Processes that were killed.
    pub killed: Vec<Member>,
    /// Cgroups that were removed.
    pub removed: Vec<PathBuf>,
    /// Cgroups that could not be, and why.
    pub left: Vec<(PathBuf, String)>,
}

/// The owner of a tree: `PID-START-BOOT-NAMESPACE`; the number of the tree follows, and
/// [`scan::STAYS`] if the tree continues without its owner.
#[derive(Clone, Copy)]
struct Owner<'a> {
    pid: i32,
    started: u64,
    boot: &'a str,
    namespace: &'a str,
}

/// Where this process is: what owners' numbers mean.
struct CurrentSystem {
    proc: Proc,
    boot: String,
    namespace: String,
}

impl CurrentSystem {
    fn new() -> io::Result<CurrentSystem> {
        let proc = Proc::own().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no process here can see which owners live: {error}"),
            )
        })?;
        Ok(CurrentSystem { proc, boot: procfs::boot_id(), namespace: procfs::namespace() })
    }
}

impl<'a> Owner<'a> {
    /// From the name of a tree that ends with its owner.
    fn parse(name: &'a str) -> Option<Owner<'a>> {
        let mut parts = name.split('-');
        let owner = Owner {
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            boot: parts.next()?,
            namespace: parts.next()?,
        };
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(owner)
    }

    /// Whether it is known to be gone: another process may have its number by now. An owner in
    /// another pid namespace cannot be seen from here. A hidden one (hidepid) has its number all
    /// the same. A part that is not known, of the owner or here, is empty.
    fn is_dead(&self, here: &CurrentSystem) -> bool {
        if !self.boot.is_empty() && !here.boot.is_empty() && self.boot != here.boot {
            return true;
        }
        if self.namespace.is_empty() || self.namespace != here.namespace {
            return false;
        }
        match here.proc.stat(self.pid) {
            Some(stat) => stat.started != self.started || stat.state == b'Z',
            None => scan::is_free(self.pid),
        }
    }
}

/// Ends the trees of owners that are dead, and nothing else: cgroups below this process's own that
/// have the name of such an owner, and processes with its mark in their environment. A child that
/// was detached has no mark. Processes of trees that were left on purpose
/// ([`OnDrop::Leave`](super::OnDrop)) are not ended; their cgroups are removed once they have no
/// members. Owners in other pid namespaces are left alone, dead or alive: they cannot be seen from
/// here. So is the process that sweeps.
///
/// Costs a look at every process of the system.
///
/// # Errors
///
/// The result of reading /proc. Without a /proc of this process's own pid namespace no reader can
/// tell which owners live: then nothing is ended.
pub fn sweep() -> io::Result<SweepReport> {
    let here = CurrentSystem::new()?;
    let mut swept = SweepReport::default();
    for cgroup in leftover(&here) {
        swept.end(&cgroup);
    }
    swept.kill_marked(&here)?;
    // only now the cgroups that limited them have no members
    let mut parents = limit::parents();
    for directory in parents.iter().flat_map(|parent| orphaned(parent, &here)) {
        match remove_tree(&directory) {
            Ok(()) => swept.removed.push(directory),
            Err(error) => swept.left.push((directory, error.to_string())),
        }
    }
    parents.extend(cgroup::own_directory().ok());
    for directory in parents.iter().flat_map(|parent| named(parent, |name| is_left(name, &here))) {
        // it may have members: then it stays, as its owner requested
        if cgroup::remove_empty(&directory).is_ok() {
            swept.removed.push(directory);
        }
    }
    Ok(swept)
}

/// The cgroups of dead owners.
fn leftover(here: &CurrentSystem) -> Vec<Cgroup> {
    let own = cgroup::own_directory();
    own.map_or(Vec::new(), |own| orphaned(&own, here).into_iter().map(Cgroup::existing).collect())
}

/// The directories in a cgroup that bear the name of a dead owner.
fn orphaned(parent: &Path, here: &CurrentSystem) -> Vec<PathBuf> {
    named(parent, |name| Owner::parse(name).is_some_and(|owner| owner.is_dead(here)))
}

/// Whether a tree of that name has outlived its owner on purpose.
fn is_left(name: &str, here: &CurrentSystem) -> bool {
    let owner = name.strip_suffix(scan::STAYS).and_then(Owner::parse);
    owner.is_some_and(|owner| owner.is_dead(here))
}

/// The directories in a cgroup that have the name of such a tree.
fn named(parent: &Path, is_it: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let is_it = |name: &str| name.strip_prefix(cgroup::PREFIX).is_some_and(&is_it);
    let directories = std::fs::read_dir(parent).into_iter().flatten().flatten();
    directories
        .filter(|entry| entry.file_name().to_str().is_some_and(is_it))
        .map(|entry| entry.path())
        .collect()
}

/// Kills all members of a cgroup.
fn kill(cgroup: &Cgroup) -> io::Result<()> {
    let mut known = BTreeSet::new();
    cgroup.kill(&mut || scan::kill_in(cgroup, &mut known))
}

impl SweepReport {
    fn end(&mut self, cgroup: &Cgroup) {
        let killed = &mut self.killed;
        // an error here is met again below
        let _ = scan::visit_cgroup(cgroup, &[], &mut |stat, _| killed.push(stat.clone().into()));
        let deadline = Instant::now() + GONE;
        let result = loop {
            match kill(cgroup).and_then(|()| cgroup.remove()) {
                Err(error) if Instant::now() < deadline => {
                    // dying takes a moment
                    let _ = error;
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => break result,
            }
        };
        match result {
            Ok(()) => self.removed.push(cgroup.directory().into()),
            Err(error) => self.left.push((cgroup.directory().into(), error.to_string())),
        }
    }

    /// Kills the processes that have the mark of a dead owner, until there are none.
    fn kill_marked(&mut self, here: &CurrentSystem) -> io::Result<()> {
        let is_orphaned = |pid: i32| {
            let marks = scan::marks(&here.proc, pid);
            marks.iter().filter_map(|mark| Owner::parse(mark)).any(|owner| owner.is_dead(here))
        };
        let own = std::process::id() as i32;
        let mut known: BTreeSet<(i32, u64)> = BTreeSet::new();
        loop {
            let mut news = false;
            for Stat { pid, .. } in here.proc.all()?.into_iter().filter(|stat| stat.state != b'Z') {
                if pid == own || !is_orphaned(pid) {
                    continue;
                }
                let Some((stat, pidfd)) = scan::confirm(&here.proc, pid, |_| is_orphaned(pid))?
                else {
                    continue;
                };
                let _ = pidfd::send(&pidfd, libc::SIGKILL);
                if known.insert((stat.pid, stat.started)) {
                    news = true;
                    self.killed.push(stat.into());
                }
            }
            if !news {
                return Ok(());
            }
        }
    }
}
