//! The members of a tree, and the signals and states that concern all of them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::host_process::{self, HostProcess};
use super::scan::{self, Root};
use super::tree::{ProcessTree, TreeInner};
use super::{attributes, pidfd, procfs};
use crate::abi::Signal;

/// A process somewhere in a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub ppid: i32,
    /// Its name, at most 15 characters.
    pub command: String,
    /// The state letter of proc_pid_stat(5).
    pub state: char,
    /// When it started, in clock ticks since boot: with its number it names it for good.
    pub started: u64,
    /// The CPU time that it has used, in clock ticks.
    pub ticks: u64,
}

impl Member {
    /// The CPU time that it has used.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_millis(self.ticks.saturating_mul(1000) / attributes::ticks_per_second())
    }
}

impl From<procfs::Stat> for Member {
    fn from(stat: procfs::Stat) -> Member {
        let procfs::Stat { pid, state, ppid, command, started, ticks, .. } = stat;
        Member { pid, ppid, command, state: state.into(), started, ticks }
    }
}

impl ProcessTree {
    /// All members of the tree, in no order, without zombies.
    ///
    /// Costs the tree with a cgroup, and a look at every process of the system without. Of members
    /// that /proc does not show the command and the state are `?`. With
    /// [`Mechanism::Children`](super::Mechanism::Children) it is the direct children alone.
    ///
    /// # Errors
    ///
    /// What reading gave.
    pub fn members(&self) -> io::Result<Vec<Member>> {
        self.core.members()
    }

    /// Sends a signal to all members of the tree, each through a descriptor of its own. A process
    /// that a member creates during the call may miss it, unlike one of a process group that
    /// kill(2) signals; [`ProcessTree::kill`] misses none.
    ///
    /// # Errors
    ///
    /// The error of the search for members: then the direct children have the signal. A process
    /// that ends during the call is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.core.signal(signal)
    }

    /// Sends a signal to those members for which `is_meant` returns true, each through a descriptor
    /// of its own. It looks for them as [`ProcessTree::members`] does, at the same cost.
    ///
    /// ```
    /// use proctable::abi::Signal;
    /// use proctable::drivers::linux::{Command, ProcessTree, process_group};
    ///
    /// let tree = ProcessTree::new()?;
    /// let child = tree.spawn(Command::new("sleep").arg("1000").group(0))?;
    /// // the members of one process group
    /// let group = process_group(child.pid())?;
    /// tree.signal_where(Signal::TERM, |member| {
    ///     process_group(member.pid).is_ok_and(|its| its == group)
    /// })?;
    /// assert_eq!(child.wait()?.term_signal(), Some(Signal::TERM));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ProcessTree::signal`].
    pub fn signal_where(
        &self,
        signal: Signal,
        mut is_meant: impl FnMut(&Member) -> bool,
    ) -> io::Result<()> {
        self.core.send_where(&[signal], &mut |stat, _| is_meant(&stat.clone().into()))
    }

    /// Stops all members of the tree until [`ProcessTree::resume`]: freezes the cgroup, or stops
    /// each member. Nothing can be spawned until then.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn suspend(&self) -> io::Result<()> {
        // after those that are being spawned: each of them is suspended, too
        let mut suspended = self.core.suspended.write();
        match &self.core.cgroup {
            Some(cgroup) => cgroup.freeze(true)?,
            None => self.core.signal(Signal::STOP)?,
        }
        *suspended = true;
        Ok(())
    }

    /// Continues all members.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn resume(&self) -> io::Result<()> {
        self.core.resume()
    }
}

/// How many descriptors are held until the signal is sent.
const HELD: usize = 64;

fn send_all(signals: &[Signal], pidfd: &OwnedFd) {
    for signal in signals {
        // a process that has ended gets none
        let _ = pidfd::send(pidfd, signal.number().into());
    }
}

impl TreeInner {
    pub fn members(&self) -> io::Result<Vec<Member>> {
        let mut members = Vec::new();
        // one file, and no listing of the directory
        if self.cgroup.as_ref().is_some_and(Cgroup::is_empty) {
            return Ok(members);
        }
        self.visit(&mut |stat, _| members.push(stat.clone().into()))?;
        Ok(members)
    }

    /// All members of the tree, each with a descriptor that refers to this process and to no other.
    /// After an error at least the direct children have been visited.
    pub fn visit(&self, act: scan::Act) -> io::Result<()> {
        let children = self.children.lock();
        let (known, orphans): (Vec<_>, _) =
            (children.list.values().cloned().collect(), children.orphans.clone());
        drop(children);
        let known = known.iter().map(|real| &**real);
        let roots = known.chain(orphans.iter().map(|orphan| &orphan.real)).map(|real| Root {
            pid: real.pid,
            pidfd: &real.pidfd,
            // what an adopted one had before need not belong to the tree; what it creates is marked
            with_descendants: real.spawned_here,
        });
        let roots: Vec<_> = roots.collect();
        match &self.cgroup {
            Some(cgroup) => scan::visit_cgroup(cgroup, &roots, act),
            None if self.blind.is_some() => {
                scan::visit_roots(&roots, act);
                Ok(())
            }
            None => scan::visit(Some(&self.mark), &roots, act),
        }
    }

    /// The numbers that they have now.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        match &self.cgroup {
            Some(cgroup) => cgroup.members(),
            None => Ok(self.members()?.iter().map(|member| member.pid).collect()),
        }
    }

    /// Where no search is possible: whether the process groups that direct children lead or have
    /// led have members.
    pub fn has_groups(&self) -> bool {
        self.blind.is_some() && self.leaders().iter().any(|real| real.has_group())
    }

    fn leaders(&self) -> Vec<Arc<HostProcess>> {
        let children = self.children.lock();
        let list = children.list.values().chain(&children.groups);
        list.filter(|real| real.spawned_here).cloned().collect()
    }

    /// Sends signals to all members, one after the other to each.
    pub fn send(&self, signals: &[Signal]) -> io::Result<()> {
        if self.blind.is_some() {
            for real in self.leaders() {
                signals.iter().for_each(|signal| real.send_to_group(*signal));
            }
        }
        // as the group's leader it has them
        self.send_where(signals, &mut |stat, pidfd| {
            self.blind.is_none() || !host_process::has_own_group(stat.pid, pidfd)
        })
    }

    fn send_where(
        &self,
        signals: &[Signal],
        is_meant: &mut dyn FnMut(&procfs::Stat, &OwnedFd) -> bool,
    ) -> io::Result<()> {
        let mut found: Vec<OwnedFd> = Vec::new();
        let visited = self.visit(&mut |stat, pidfd| {
            if !is_meant(stat, pidfd) {
                return;
            }
            // a scan visits children before their parents. The signal goes the other way: a shell
            // whose child ends first would continue with its next command
            match pidfd.try_clone().ok().filter(|_| self.cgroup.is_none()) {
                Some(pidfd) => found.push(pidfd),
                None => send_all(signals, pidfd),
            }
            if found.len() >= HELD {
                found.drain(..).rev().for_each(|pidfd| send_all(signals, &pidfd));
            }
        });
        found.iter().rev().for_each(|pidfd| send_all(signals, pidfd));
        visited
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.send(&[signal])
    }

    pub fn resume(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(false)?,
            None => self.signal(Signal::CONT)?,
        }
        *self.suspended.write() = false;
        Ok(())
    }
}
