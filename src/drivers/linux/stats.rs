//! What a tree uses and has used, with the source of each figure.

use std::io;
use std::time::Duration;

use super::attributes;
use super::limit::Limit;
use super::procfs::{Proc, Stat};
use super::tree::{ProcessTree, TreeInner};

/// Where a [`Figure`] comes from, which decides what it means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The kernel's account of the tree's own cgroup: of all processes that were ever members.
    CgroupV2,
    /// The same of the cgroup of the first version that limits the tree.
    CgroupV1,
    /// The sum over the living members; for CPU time also over the processes that they and the
    /// owner have waited for. Memory that several processes share counts in each. Processes that
    /// ended without a wait are missing.
    SumOfMembers,
    /// The largest that one of the living members has reached: the whole tree may have reached
    /// more.
    LargestMember,
}

/// A measured value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Figure<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub source: Source,
}

/// What a tree uses: see [`ProcessTree::stats`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stats {
    /// The CPU time, in user and in kernel mode: see [`ProcessTree::cpu_time`].
    pub cpu: Figure<Duration>,
    /// Bytes of memory now. A cgroup's account has the page cache in it, and a sum over processes
    /// has not: it is their resident memory.
    pub memory: Figure<u64>,
    /// The most that `memory` has been, in bytes. `None` without such an account if no member
    /// lives.
    pub memory_peak: Option<Figure<u64>>,
    /// How many processes the kernel has killed as the tree had reached its limit of memory
    /// (oom_kill of memory.events, or of memory.oom_control). `None` without such an account.
    pub oom_kills: Option<Figure<u64>>,
    /// Processes that live; zombies left out.
    pub processes: usize,
    /// Their threads.
    pub threads: usize,
}

fn cgroup_v2<T>(value: T) -> Figure<T> {
    Figure { value, source: Source::CgroupV2 }
}

impl ProcessTree {
    /// What the tree uses, and what it has used.
    ///
    /// The memory is the kernel's account where the tree's cgroup has the controller, or where a
    /// cgroup of the first version limits it: memory.current and memory.peak (Linux 5.19), or
    /// memory.usage_in_bytes and memory.max_usage_in_bytes. Otherwise it is counted from
    /// proc_pid_stat(5) and, for the peak, VmHWM in proc_pid_status(5).
    ///
    /// Costs as [`ProcessTree::members`], and one more file of each member where the peak is not
    /// in a cgroup.
    ///
    /// # Errors
    ///
    /// What reading gave.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, ProcessTree};
    ///
    /// let tree = ProcessTree::new()?;
    /// tree.spawn(Command::new("sleep").arg("100"))?;
    /// let stats = tree.stats()?;
    /// assert_eq!(stats.processes, 1);
    /// println!("{} bytes, from {:?}", stats.memory.value, stats.memory.source);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> io::Result<Stats> {
        let mut members = Vec::new();
        let core = &self.core;
        core.visit(&mut |stat, _| members.push(stat.clone()))?;
        Ok(Stats {
            cpu: core.cpu(Some(&members))?,
            memory: core.memory(&members),
            memory_peak: core.memory_peak(&members),
            oom_kills: core.oom_kills(),
            processes: members.len(),
            threads: members.iter().map(|member| member.threads as usize).sum(),
        })
    }

    /// How many processes of the tree the kernel has killed for want of memory: the `oom_kills` of
    /// [`ProcessTree::stats`] alone. `None` without such an account. It costs one file.
    ///
    /// Source: oom_kill in memory.events ([cgroup v2]), or in memory.oom_control ([cgroup v1]).
    ///
    /// [cgroup v2]: https://docs.kernel.org/admin-guide/cgroup-v2.html
    /// [cgroup v1]: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
    pub fn oom_kills(&self) -> Option<Figure<u64>> {
        self.core.oom_kills()
    }

    /// The CPU time of all processes that were ever in the tree; without a cgroup, of the members,
    /// of the processes that they have waited for, and of the direct children that have ended. It
    /// is the `cpu` of [`ProcessTree::stats`] alone, for which a cgroup takes one file, however
    /// large it is.
    ///
    /// # Errors
    ///
    /// What reading gave.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        Ok(self.core.cpu(None)?.value)
    }
}

impl TreeInner {
    pub(super) fn cpu(&self, members: Option<&[Stat]>) -> io::Result<Figure<Duration>> {
        if let Some(cgroup) = &self.cgroup {
            return Ok(cgroup_v2(cgroup.cpu_time()?));
        }
        let mut ticks = 0;
        let mut add = |stat: &Stat| ticks += stat.ticks + stat.waited_ticks;
        match members {
            Some(members) => members.iter().for_each(add),
            None => self.visit(&mut |stat, _| add(stat))?,
        }
        let per_second = attributes::ticks_per_second();
        let living = Duration::from_millis(ticks * 1000 / per_second);
        let value = living + self.children.lock().ended_time();
        Ok(Figure { value, source: Source::SumOfMembers })
    }

    fn memory(&self, members: &[Stat]) -> Figure<u64> {
        self.account("memory.current", "memory.usage_in_bytes").unwrap_or_else(|| {
            let pages: u64 = members.iter().map(|member| member.resident).sum();
            let value = pages * attributes::page_size();
            Figure { value, source: Source::SumOfMembers }
        })
    }

    pub(super) fn memory_peak(&self, members: &[Stat]) -> Option<Figure<u64>> {
        self.account("memory.peak", "memory.max_usage_in_bytes").or_else(|| {
            // a process that has ended since has none
            let proc = Proc::own().ok()?;
            let peaks = members.iter().filter_map(|member| proc.peak(member.pid));
            Some(Figure { value: peaks.max()?, source: Source::LargestMember })
        })
    }

    pub(super) fn oom_kills(&self) -> Option<Figure<u64>> {
        let read = |file| {
            let text = std::fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        let events = self.cgroup.as_ref().map(|cgroup| cgroup.directory().join("memory.events"));
        if let Some(value) = events.and_then(read) {
            return Some(cgroup_v2(value));
        }
        let value = read(self.limited.directory_v1(Limit::Memory)?.join("memory.oom_control"))?;
        Some(Figure { value, source: Source::CgroupV1 })
    }

    /// A number that the kernel keeps for the tree's memory, by the names of its files in both
    /// versions.
    fn account(&self, v2: &str, v1: &str) -> Option<Figure<u64>> {
        let read = |file| std::fs::read_to_string(file).ok()?.trim().parse().ok();
        if let Some(value) =
            self.cgroup.as_ref().and_then(|cgroup| read(cgroup.directory().join(v2)))
        {
            return Some(cgroup_v2(value));
        }
        let value = read(self.limited.directory_v1(Limit::Memory)?.join(v1))?;
        Some(Figure { value, source: Source::CgroupV1 })
    }
}
