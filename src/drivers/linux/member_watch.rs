//! The starts and ends of all members of a tree, as they are seen from outside.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::host_process::status_without_wait;
use super::members::Member;
use super::pidfd;
use super::procfs::Proc;
use super::tree::{ProcessTree, TreeInner};
use crate::abi::WaitStatus;

/// A member that a [`MemberWatch`] saw start or end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberChange {
    /// The watch saw the member for the first time. `ppid` is its parent at that moment.
    Started(Member),
    /// The member has ended.
    Ended {
        /// The member as the watch saw it last, of a zombie with its last name.
        member: Member,
        /// How it ended; `None` if the kernel does not tell: see [`ProcessTree::watch_members`].
        status: Option<WaitStatus>,
    },
}

/// The starts and ends of the members of a tree: see [`ProcessTree::watch_members`].
#[derive(Debug)]
pub struct MemberWatch {
    core: Arc<TreeInner>,
    /// By number and start.
    known: BTreeMap<(i32, u64), WatchedMember>,
}

#[derive(Debug)]
struct WatchedMember {
    member: Member,
    /// `None` if no descriptor was left.
    pidfd: Option<OwnedFd>,
}

impl ProcessTree {
    /// Watches the starts and ends of all members, not only of direct children.
    ///
    /// A start is seen by a scan of the tree, at each call of [`MemberWatch::changes`], so a member
    /// that starts and ends between two scans is not seen. An end is seen by a descriptor of the
    /// member (pidfd_open(2)), so each member costs a descriptor, and no end of a member that was
    /// seen is missed. The status of a member that is not a child of this process is known while it
    /// is a zombie, if this process may read it (ptrace(2)), and after that from Linux 6.15 on
    /// (PIDFD_INFO_EXIT).
    ///
    /// The watch keeps no tree alive: it sees the members end with it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use proctable::drivers::linux::{Command, MemberChange, ProcessTree};
    ///
    /// let tree = ProcessTree::new()?;
    /// let mut watch = tree.watch_members();
    /// let child = tree.spawn(Command::new("sleep").arg("100"))?;
    /// for change in watch.changes(Duration::ZERO)? {
    ///     if let MemberChange::Started(member) = change {
    ///         assert_eq!((member.pid, &*member.command), (child.pid(), "sleep"));
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch_members(&self) -> MemberWatch {
        MemberWatch { core: self.core.clone(), known: BTreeMap::new() }
    }
}

impl MemberWatch {
    /// Waits until a member that is known ends, for at most `timeout`, and scans the tree. Returns
    /// what has changed since the last call; ends come before starts.
    ///
    /// Costs with a cgroup one file of each cgroup of the tree, and a look at all members if there
    /// is a new one; without a cgroup a look at every process of the system.
    ///
    /// # Errors
    ///
    /// The error of reading the tree. What is known stays known.
    pub fn changes(&mut self, timeout: Duration) -> io::Result<Vec<MemberChange>> {
        self.await_end(timeout);
        let mut changes = Vec::new();
        let proc = Proc::own().ok();
        // before the scan: a number that it finds is then that of a member that lives, or of a new
        // one
        self.take_ended(proc.as_ref(), &mut changes, |watched| {
            watched.pidfd.as_ref().is_some_and(pidfd::has_ended)
        });
        if self.may_have_new()? {
            let (known, mut seen) = (&mut self.known, Vec::new());
            self.core.visit(&mut |stat, pidfd| {
                let member = Member::from(stat.clone());
                let key = (member.pid, member.started);
                seen.push(key);
                match known.get_mut(&key) {
                    Some(watched) => watched.member = member,
                    None => {
                        let pidfd = pidfd.try_clone().ok();
                        changes.push(MemberChange::Started(member.clone()));
                        known.insert(key, WatchedMember { member, pidfd });
                    }
                }
            })?;
            // without a descriptor the absence of a member is its end
            self.take_ended(proc.as_ref(), &mut changes, |watched| {
                let key = (watched.member.pid, watched.member.started);
                watched.pidfd.is_none() && !seen.contains(&key)
            });
        }
        Ok(changes)
    }

    /// Whether a scan of all members is necessary: a list of numbers costs less.
    fn may_have_new(&self) -> io::Result<bool> {
        if self.core.cgroup.is_none() || self.known.values().any(|one| one.pidfd.is_none()) {
            return Ok(true);
        }
        let pids = match self.core.pids() {
            // the tree has ended, and its cgroup is removed
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            pids => pids?,
        };
        let is_known = |pid: &i32| self.known.range((*pid, 0)..=(*pid, u64::MAX)).next().is_some();
        Ok(!pids.iter().all(is_known))
    }

    fn take_ended(
        &mut self,
        proc: Option<&Proc>,
        changes: &mut Vec<MemberChange>,
        has_ended: impl Fn(&WatchedMember) -> bool,
    ) {
        self.known.retain(|(pid, started), watched| {
            if !has_ended(watched) {
                return true;
            }
            let mut member = watched.member.clone();
            let zombie = proc.and_then(|proc| proc.stat(*pid));
            if let Some(zombie) = zombie.filter(|stat| stat.started == *started) {
                member = Member { ppid: member.ppid, ..zombie.into() };
            }
            let pidfd = watched.pidfd.as_ref();
            let status = pidfd.and_then(|pidfd| status_without_wait(proc, *pid, pidfd));
            changes.push(MemberChange::Ended { member, status });
            false
        });
    }

    fn await_end(&self, timeout: Duration) {
        let deadline = Instant::now().checked_add(timeout);
        let pidfds = self.known.values().filter_map(|watched| watched.pidfd.as_ref());
        let mut fds: Vec<_> = pidfds.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            // a signal of the owner: the rest of the time is left
            if poll(&mut fds, left.as_ref()) != Err(rustix::io::Errno::INTR) {
                return;
            }
        }
    }
}
