//! Limits of a whole tree: by the controllers of its cgroup, or of cgroups of the first version
//! beside it, as hybrid hosts have them; by rlimits only where that was permitted.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::cgroup::{
    Cgroup, PREFIX, below, find_mount, remove_empty, remove_tree, unescape, write,
};
use super::scan::Mark;
use super::{attributes, delegate, procfs};

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

/// Which limit: a field of [`Limits`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limit {
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::processes`].
    Processes,
    /// [`Limits::cpu`].
    Cpu,
}

/// What enforces a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Enforcer {
    /// A controller of the tree's own cgroup, for all processes together.
    CgroupV2,
    /// A controller of a cgroup of the first version beside it, for all processes together.
    CgroupV1,
    /// Weaker: RLIMIT_AS, the addresses of each process alone (mapped, not only used).
    RlimitPerProcess,
    /// Weaker: RLIMIT_NPROC, all processes and threads of the child's user, in the tree or not.
    RlimitPerUser,
}

/// A limit of a tree and what enforces it. Prints as `memory: enforced by cgroup v2`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Enforced {
    /// The limit.
    pub limit: Limit,
    /// What enforces it.
    pub by: Enforcer,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Memory => "memory",
            Limit::Processes => "processes",
            Limit::Cpu => "cpu",
        })
    }
}

impl fmt::Display for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Enforcer::CgroupV2 => "cgroup v2",
            Enforcer::CgroupV1 => "cgroup v1",
            Enforcer::RlimitPerProcess => "rlimit per process",
            Enforcer::RlimitPerUser => "rlimit per user",
        })
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: enforced by {}", self.limit, self.by)
    }
}

impl Limit {
    /// All of them.
    pub(super) const ALL: [Limit; 3] = [Limit::Memory, Limit::Processes, Limit::Cpu];

    /// What both versions of cgroups call its controller.
    pub(super) fn controller(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::Processes => "pids",
            Limit::Cpu => "cpu",
        }
    }

    /// The rlimit that is nearest to it.
    ///
    /// # Errors
    ///
    /// Why there is none that binds this process's children, in words.
    fn rlimit(self) -> Result<(Enforcer, u32), &'static str> {
        match self {
            Limit::Memory => Ok((Enforcer::RlimitPerProcess, libc::RLIMIT_AS)),
            // fork(2), EAGAIN: root, and processes with one of two capabilities, may pass it
            Limit::Processes if procfs::may_pass_nproc() => {
                Err("RLIMIT_NPROC does not bind root, nor CAP_SYS_ADMIN and CAP_SYS_RESOURCE")
            }
            Limit::Processes => Ok((Enforcer::RlimitPerUser, libc::RLIMIT_NPROC)),
            Limit::Cpu => Err("no rlimit bounds a share of the CPUs"),
        }
    }
}

/// The microseconds of a period of CPU time.
const PERIOD: u64 = 100_000;

/// One limit, as each version of cgroups has it, and rlimits.
struct Control {
    limit: Limit,
    v2: (&'static str, String),
    v1: Vec<(&'static str, String)>,
    number: u64,
}

impl Limits {
    /// The controllers that it takes to enforce them.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        self.controls().iter().map(|control| control.limit.controller()).collect()
    }

    fn controls(&self) -> Vec<Control> {
        let memory = self.memory.map(|bytes| Control {
            limit: Limit::Memory,
            v2: ("memory.max", bytes.to_string()),
            v1: vec![("memory.limit_in_bytes", bytes.to_string())],
            number: bytes,
        });
        let processes = self.processes.map(|number| Control {
            limit: Limit::Processes,
            v2: ("pids.max", number.to_string()),
            v1: vec![("pids.max", number.to_string())],
            number,
        });
        let cpu = self.cpu.map(|cpus| {
            // at least the smallest quota that the kernel takes
            let number = ((cpus * PERIOD as f64) as u64).max(1000);
            let quota = number.to_string();
            Control {
                limit: Limit::Cpu,
                v2: ("cpu.max", format!("{quota} {PERIOD}")),
                v1: vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota)],
                number,
            }
        });
        [memory, processes, cpu].into_iter().flatten().collect()
    }
}

/// The limits of a tree, with what has to be removed with it.
#[derive(Debug, Default)]
pub(super) struct Limited {
    /// What enforces each.
    pub enforced: Vec<Enforced>,
    /// Cgroups of the first version, and the limits that they enforce.
    directories: Vec<(PathBuf, Vec<Limit>)>,
    /// For each process.
    pub rlimits: Vec<(u32, libc::rlimit64)>,
}

impl Limited {
    /// Sets the limits on `cgroup`, or makes a cgroup of the first version for those whose
    /// controller is there; with `weaker`, an rlimit where neither can be had.
    ///
    /// # Errors
    ///
    /// What stands in the way of the first limit that cannot be enforced, in words. Then nothing of
    /// them is left.
    pub fn new(
        limits: &Limits,
        weaker: bool,
        mark: &Mark,
        cgroup: Option<&Cgroup>,
    ) -> io::Result<Limited> {
        if limits.cpu.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a share of CPUs above 0"));
        }
        let mut limited = Limited::default();
        for control in limits.controls() {
            let by = limited.enforce(&control, weaker, &mark.value, cgroup).inspect_err(|_| {
                // they have no members
                let _ = limited.remove();
            })?;
            limited.enforced.push(Enforced { limit: control.limit, by });
        }
        Ok(limited)
    }

    /// The best way that there is.
    fn enforce(
        &mut self,
        control: &Control,
        weaker: bool,
        mark: &str,
        cgroup: Option<&Cgroup>,
    ) -> io::Result<Enforcer> {
        let limit = control.limit;
        let no_v2 = match by_v2(control, cgroup) {
            Ok(()) => return Ok(Enforcer::CgroupV2),
            Err(error) => error,
        };
        let no_v1 = match self.by_v1(control, mark) {
            Ok(()) => return Ok(Enforcer::CgroupV1),
            Err(error) => error,
        };
        let no_rlimit = match limit.rlimit() {
            Ok((by, resource)) if weaker => {
                self.rlimits.push((resource, at_most(resource, control.number)?));
                return Ok(by);
            }
            Ok((by, _)) => format!("{by} is weaker, and Options::weaker_limits was not asked for"),
            Err(why) => why.into(),
        };
        let controller = limit.controller();
        let why = format!("no limit of {controller}: v2: {no_v2}; v1: {no_v1}; {no_rlimit}");
        Err(io::Error::new(no_v1.kind(), why))
    }

    fn by_v1(&mut self, control: &Control, mark: &str) -> io::Result<()> {
        let directory = place_v1(control.limit, mark)?;
        // two controllers may share a hierarchy
        let known = self.directories.iter().position(|(known, _)| *known == directory);
        let known = match known {
            Some(known) => known,
            None => {
                fs::create_dir(&directory)?;
                self.directories.push((directory.clone(), Vec::new()));
                // a cgroup that no process can enter limits no process
                super::cgroup::open(&directory, "cgroup.procs")?;
                self.directories.len() - 1
            }
        };
        for (file, value) in &control.v1 {
            write(&directory.join(file), value)?;
        }
        self.directories[known].1.push(control.limit);
        Ok(())
    }

    /// The cgroup of the first version that enforces a limit.
    pub fn directory_v1(&self, limit: Limit) -> Option<&Path> {
        let directory = self.directories.iter().find(|(_, limits)| limits.contains(&limit));
        directory.map(|(directory, _)| directory.as_path())
    }

    /// The directories that these limits may need.
    pub fn planned(limits: &Limits, mark: &str) -> Vec<PathBuf> {
        let controls = limits.controls().into_iter();
        controls.filter_map(|control| place_v1(control.limit, mark).ok()).collect()
    }

    /// The files through which a process enters them.
    pub fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |(directory, _): &(PathBuf, _)| {
            Ok(fs::File::options().write(true).open(directory.join("cgroup.procs"))?.into())
        };
        self.directories.iter().map(open).collect()
    }

    /// A running process gets the same limits.
    pub fn adopt(&self, pid: i32) -> io::Result<()> {
        for (directory, _) in &self.directories {
            write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        for (resource, limit) in &self.rlimits {
            attributes::set_rlimit(pid, *resource, *limit)?;
        }
        Ok(())
    }

    /// Removes those without members.
    pub fn remove_empty(&self) {
        for (directory, _) in &self.directories {
            // it has members: a sweep may remove it later
            let _ = remove_empty(directory);
        }
    }

    /// Removes them. EBUSY while one of them has members.
    pub fn remove(&self) -> io::Result<()> {
        self.directories.iter().try_for_each(|(directory, _)| remove_tree(directory))
    }
}

/// Both values of an rlimit; what this process may have itself is not passed.
fn at_most(resource: u32, number: u64) -> io::Result<libc::rlimit64> {
    let number = attributes::rlimit(std::process::id() as i32, resource)?.rlim_max.min(number);
    Ok(libc::rlimit64 { rlim_cur: number, rlim_max: number })
}

fn by_v2(control: &Control, cgroup: Option<&Cgroup>) -> io::Result<()> {
    let cgroup = cgroup.ok_or_else(|| not_found("there is no cgroup"))?;
    has_v2(cgroup, control.limit)?;
    let (file, value) = &control.v2;
    write(&cgroup.directory().join(file), value)
}

/// Whether a cgroup has the controller of a limit.
///
/// # Errors
///
/// Why it has not.
pub(super) fn has_v2(cgroup: &Cgroup, limit: Limit) -> io::Result<()> {
    let controller = limit.controller();
    match cgroup.has_controller(controller)? {
        true => Ok(()),
        false => Err(not_found(&delegate::why_missing(controller))),
    }
}

fn place_v1(limit: Limit, mark: &str) -> io::Result<PathBuf> {
    Ok(own_v1(limit.controller())?.join(format!("{PREFIX}{mark}")))
}

/// Whether a cgroup of the first version can be made for a limit: makes one and removes it.
///
/// # Errors
///
/// Why it cannot.
pub(super) fn try_v1(limit: Limit, mark: &str) -> io::Result<()> {
    let directory = place_v1(limit, mark)?;
    fs::create_dir(&directory)?;
    remove_tree(&directory)
}

/// Whether there is an rlimit that is near to a limit; see [`Limit::rlimit`].
pub(super) fn try_rlimit(limit: Limit) -> Result<Enforcer, &'static str> {
    limit.rlimit().map(|(by, _)| by)
}

fn not_found(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, why)
}

/// The directories of this process's own cgroups in which limits can be.
pub(super) fn parents() -> Vec<PathBuf> {
    Limit::ALL.into_iter().filter_map(|limit| own_v1(limit.controller()).ok()).collect()
}

/// The directory of this process's own cgroup in the hierarchy of that controller.
fn own_v1(controller: &str) -> io::Result<PathBuf> {
    let is_it = |list: &str| list.split(',').any(|name| name == controller);
    let mounts = procfs::own_file("mountinfo")?;
    let (root, mount) = mounts
        .lines()
        .find_map(|line| {
            let (_, kind) = line.split_once(" - cgroup ")?;
            let options = kind.split(' ').nth(1)?;
            is_it(options).then(|| find_mount(line, "cgroup"))?
        })
        .ok_or_else(|| not_found("the controller is in no mounted hierarchy"))?;
    let groups = procfs::own_file("cgroup")?;
    let path = groups
        .lines()
        .find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            is_it(controllers).then(|| unescape(path))
        })
        .ok_or_else(|| not_found("this process is in no cgroup of the controller"))?;
    let directory = below(&path, &root, &mount)?;
    if rustix::fs::statfs(&directory)?.f_type != libc::CGROUP_SUPER_MAGIC {
        return Err(not_found("something else is mounted over it"));
    }
    Ok(directory)
}
