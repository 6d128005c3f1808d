//! Limits of a whole tree: by the controllers of its cgroup, or of cgroups of the first version
//! beside it, as hybrid hosts have them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::cgroup::{Cgroup, PREFIX, find_mount, remove_tree, unescape, write};

/// What a tree may use.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Limits {
    /// Bytes of memory of all processes together.
    pub memory: Option<u64>,
    /// Processes and threads at once: a fork beyond gives EAGAIN.
    pub processes: Option<u64>,
    /// CPUs' worth of time: 0.5 is half of one.
    pub cpu: Option<f64>,
}

/// The microseconds of a period of CPU time.
const PERIOD: u64 = 100_000;

/// One limit, as each version of cgroups has it.
struct Control {
    controller: &'static str,
    v2: (&'static str, String),
    v1: Vec<(&'static str, String)>,
}

impl Limits {
    fn controls(&self) -> Vec<Control> {
        let memory = self.memory.map(|bytes| Control {
            controller: "memory",
            v2: ("memory.max", bytes.to_string()),
            v1: vec![("memory.limit_in_bytes", bytes.to_string())],
        });
        let processes = self.processes.map(|number| Control {
            controller: "pids",
            v2: ("pids.max", number.to_string()),
            v1: vec![("pids.max", number.to_string())],
        });
        let cpu = self.cpu.map(|cpus| {
            // at least the smallest quota that the kernel takes
            let quota = ((cpus * PERIOD as f64) as u64).max(1000).to_string();
            Control {
                controller: "cpu",
                v2: ("cpu.max", format!("{quota} {PERIOD}")),
                v1: vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota)],
            }
        });
        [memory, processes, cpu].into_iter().flatten().collect()
    }
}

/// Cgroups of the first version that limit a tree.
#[derive(Debug, Default)]
pub(super) struct Limited {
    folders: Vec<PathBuf>,
}

impl Limited {
    /// Sets the limits on `cgroup`, or makes a cgroup of the first version for those whose
    /// controller is there.
    ///
    /// # Errors
    ///
    /// What stands in the way of the first limit that cannot be enforced, in words.
    pub fn new(limits: &Limits, mark: &str, cgroup: Option<&Cgroup>) -> io::Result<Limited> {
        let mut limited = Limited::default();
        for control in limits.controls() {
            if let Some(cgroup) = cgroup.filter(|cgroup| has_controller(cgroup, control.controller))
            {
                let (file, value) = &control.v2;
                write(&cgroup.folder().join(file), value)?;
                continue;
            }
            limited.add(&control, mark)?;
        }
        Ok(limited)
    }

    fn add(&mut self, control: &Control, mark: &str) -> io::Result<()> {
        let why = |error: io::Error| {
            let text = format!("no limit of {}: {error}", control.controller);
            io::Error::new(error.kind(), text)
        };
        let parent = folder_v1(control.controller).map_err(why)?;
        let folder = parent.join(format!("{PREFIX}{mark}"));
        // two controllers may share a hierarchy
        if !self.folders.contains(&folder) {
            fs::create_dir(&folder).map_err(why)?;
            self.folders.push(folder.clone());
        }
        for (file, value) in &control.v1 {
            write(&folder.join(file), value).map_err(why)?;
        }
        Ok(())
    }

    /// The folders that these limits may need.
    pub fn planned(limits: &Limits, mark: &str) -> Vec<PathBuf> {
        let folders = limits.controls().into_iter().filter_map(|control| {
            Some(folder_v1(control.controller).ok()?.join(format!("{PREFIX}{mark}")))
        });
        folders.collect()
    }

    /// The files through which a process enters them.
    pub fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |folder: &PathBuf| {
            Ok(fs::File::options().write(true).open(folder.join("cgroup.procs"))?.into())
        };
        self.folders.iter().map(open).collect()
    }

    /// Removes them. EBUSY while somebody is in one.
    pub fn remove(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| remove_tree(folder))
    }
}

fn has_controller(cgroup: &Cgroup, controller: &str) -> bool {
    let controllers = fs::read_to_string(cgroup.folder().join("cgroup.controllers"));
    controllers.is_ok_and(|list| list.split_whitespace().any(|name| name == controller))
}

/// The folders of this process's own cgroups in which limits can be.
pub(super) fn parents() -> Vec<PathBuf> {
    ["memory", "pids", "cpu"].into_iter().filter_map(|name| folder_v1(name).ok()).collect()
}

/// The folder of this process's own cgroup in the hierarchy of that controller.
fn folder_v1(controller: &str) -> io::Result<PathBuf> {
    let not_found = |why: &str| io::Error::new(io::ErrorKind::NotFound, why);
    let is_it = |list: &str| list.split(',').any(|name| name == controller);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let (root, mount) = mounts
        .lines()
        .find_map(|line| {
            let (_, kind) = line.split_once(" - cgroup ")?;
            let options = kind.split(' ').nth(1)?;
            is_it(options).then(|| find_mount(line, "cgroup"))?
        })
        .ok_or_else(|| not_found("the controller is in no mounted hierarchy"))?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let path = groups
        .lines()
        .find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            is_it(controllers).then(|| unescape(path))
        })
        .ok_or_else(|| not_found("this process is in no cgroup of the controller"))?;
    let below = path
        .strip_prefix(&root)
        .map_err(|_| not_found("the own cgroup lies outside of the mount"))?;
    Ok(mount.join(below))
}
