//! Everybody in a tree: who they are, and what reaches all of them.

use std::io;

use super::scan;
use super::tree::ProcessTree;
use super::{child, procfs};
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

impl From<procfs::Stat> for Member {
    fn from(stat: procfs::Stat) -> Member {
        let procfs::Stat { pid, state, ppid, command, started, ticks, .. } = stat;
        Member { pid, ppid, command, state: state.into(), started, ticks }
    }
}

impl ProcessTree {
    /// Everybody in the tree, in no order; zombies left out.
    ///
    /// Costs the tree with a cgroup, and a look at every process of the system without.
    ///
    /// # Errors
    ///
    /// What reading gave.
    pub fn members(&self) -> io::Result<Vec<Member>> {
        let mut members = Vec::new();
        self.visit(&mut |stat, _| members.push(stat.clone().into()))?;
        Ok(members)
    }

    /// Everybody in the tree, each with a descriptor that names it and nobody else.
    pub(super) fn visit(&self, act: scan::Act) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            return scan::visit_cgroup(cgroup, act);
        }
        let children: Vec<_> = self.children.lock().list.values().cloned().collect();
        let roots: Vec<_> = children.iter().map(|real| (real.pid, &real.pidfd)).collect();
        scan::visit(Some(&self.mark), &roots, act)
    }

    pub(super) fn is_empty(&self) -> io::Result<bool> {
        match &self.cgroup {
            Some(cgroup) => Ok(cgroup.members()?.is_empty()),
            None => Ok(self.members()?.is_empty()),
        }
    }

    /// Takes a running process into the tree, and with `descendants` all of its: whoever they
    /// create from then on belongs to it, too. Gives those who were taken. They are no children of
    /// the owner, so their ends are nobody's to report.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process, EPERM if it is somebody else's, Unsupported without a
    /// cgroup: a mark cannot be put on a process that runs.
    pub fn adopt(&self, pid: i32, descendants: bool) -> io::Result<Vec<Member>> {
        let Some(cgroup) = &self.cgroup else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "adopting needs a cgroup"));
        };
        let root = child::open(pid)?;
        cgroup.adopt(pid)?;
        self.limited.adopt(pid)?;
        let mut taken = vec![pid];
        // until a look finds nobody new: they may fork meanwhile
        let mut looking = descendants;
        while looking {
            looking = false;
            scan::visit(None, &[(pid, &root)], &mut |stat, _| {
                if !taken.contains(&stat.pid) {
                    // one that has ended meanwhile
                    let _ = cgroup.adopt(stat.pid).and_then(|()| self.limited.adopt(stat.pid));
                    taken.push(stat.pid);
                    looking = true;
                }
            })?;
        }
        let members = self.members()?;
        Ok(members.into_iter().filter(|member| taken.contains(&member.pid)).collect())
    }

    /// Sends a signal to everybody in the tree, each through a descriptor of its own.
    ///
    /// # Errors
    ///
    /// What finding them gave. A process that ends meanwhile is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.visit(&mut |_, pidfd| {
            let _ = child::send(pidfd, signal.number().into());
        })
    }

    /// Lets nobody in the tree run until [`ProcessTree::resume`]: freezes the cgroup, or stops
    /// everybody. Nothing can be spawned meanwhile.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn suspend(&self) -> io::Result<()> {
        // after those that are being spawned: each of them is suspended, too
        let mut suspended = self.suspended.write();
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(true)?,
            None => self.signal(Signal::STOP)?,
        }
        *suspended = true;
        Ok(())
    }

    /// Lets everybody go on.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn resume(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(false)?,
            None => self.signal(Signal::CONT)?,
        }
        *self.suspended.write() = false;
        Ok(())
    }
}
