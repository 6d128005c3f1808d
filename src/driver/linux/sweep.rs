//! What owners left behind that died without ending their trees.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{self, Cgroup, remove_tree};
use super::tree::Member;
use super::{child, limit, procfs, scan};

/// How long removing a cgroup may take.
const GONE: Duration = Duration::from_secs(10);

/// What [`sweep`] has found and ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Processes that were killed.
    pub killed: Vec<Member>,
    /// Cgroups that were removed.
    pub removed: Vec<PathBuf>,
    /// Cgroups that could not be, and why.
    pub left: Vec<(PathBuf, String)>,
}

/// Who made a tree: `PID-START-BOOT`.
#[derive(Clone, Copy)]
struct Owner<'a> {
    pid: i32,
    started: u64,
    boot: &'a str,
}

impl<'a> Owner<'a> {
    /// From a tree's name; the number of the tree follows.
    fn parse(name: &'a str) -> Option<Owner<'a>> {
        let mut parts = name.split('-');
        let owner = Owner {
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            boot: parts.next()?,
        };
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(owner)
    }

    /// Whether it is still there: another process may have its number by now.
    fn is_alive(&self, boot: &str) -> bool {
        self.boot == boot
            && procfs::stat(self.pid)
                .is_some_and(|stat| stat.started == self.started && stat.state != b'Z')
    }
}

/// Ends the trees of owners that are dead, and nothing else: cgroups below this process's own that
/// bear the name of such an owner, and processes with its mark in their environment. A child that
/// was detached has no mark.
///
/// Costs a look at every process of the system.
///
/// # Errors
///
/// What reading /proc gave.
pub fn sweep() -> io::Result<Swept> {
    let boot = procfs::boot_id();
    let mut swept = Swept::default();
    for cgroup in leftover(&boot) {
        swept.end(&cgroup);
    }
    swept.kill_marked(&boot)?;
    // only now is nobody in the cgroups that limited them
    for folder in limit::parents().iter().flat_map(|parent| orphaned(parent, &boot)) {
        match remove_tree(&folder) {
            Ok(()) => swept.removed.push(folder),
            Err(error) => swept.left.push((folder, error.to_string())),
        }
    }
    Ok(swept)
}

/// The cgroups of dead owners.
fn leftover(boot: &str) -> Vec<Cgroup> {
    let own = cgroup::own_folder();
    own.map_or(Vec::new(), |own| orphaned(&own, boot).into_iter().map(Cgroup::existing).collect())
}

/// The folders in a cgroup that bear the name of a dead owner.
fn orphaned(parent: &Path, boot: &str) -> Vec<PathBuf> {
    let is_orphaned = |name: &str| {
        name.strip_prefix(cgroup::PREFIX)
            .and_then(Owner::parse)
            .is_some_and(|owner| !owner.is_alive(boot))
    };
    let folders = std::fs::read_dir(parent).into_iter().flatten().flatten();
    folders
        .filter(|entry| entry.file_name().to_str().is_some_and(is_orphaned))
        .map(|entry| entry.path())
        .collect()
}

impl Swept {
    fn end(&mut self, cgroup: &Cgroup) {
        let members = cgroup.members().unwrap_or_default();
        let members = members.into_iter().filter_map(procfs::stat).map(Member::from);
        self.killed.extend(members.filter(|member| member.state != 'Z'));
        let deadline = Instant::now() + GONE;
        let result = loop {
            match cgroup.kill().and_then(|()| cgroup.remove()) {
                Err(error) if Instant::now() < deadline => {
                    // dying takes a moment
                    let _ = error;
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => break result,
            }
        };
        match result {
            Ok(()) => self.removed.push(cgroup.folder().into()),
            Err(error) => self.left.push((cgroup.folder().into(), error.to_string())),
        }
    }

    /// Kills whoever bears the mark of a dead owner, until nobody does.
    fn kill_marked(&mut self, boot: &str) -> io::Result<()> {
        let mut known: BTreeSet<(i32, u64)> = BTreeSet::new();
        loop {
            let mut news = false;
            for stat in procfs::all()?.into_iter().filter(|stat| stat.state != b'Z') {
                let mark = procfs::variable(stat.pid, scan::MARK);
                let owner = mark.as_deref().and_then(Owner::parse);
                if owner.is_none_or(|owner| owner.is_alive(boot)) {
                    continue;
                }
                if let Some(pidfd) = scan::open(&stat) {
                    let _ = child::send(&pidfd, libc::SIGKILL);
                }
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
