//! Questions about processes: they change nothing, and copy what they give and no more.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ProcessTable;
use super::book::{Counts, Entry, Image, Phase, Token};
use super::commit::{Shared, State};
use super::process::Process;
use crate::abi::{Pgid, Pid, Sid, Time, WaitStatus};
use crate::driver::Authority;
use crate::kernel::{Attributes, Run, View};

/// A process at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: Pid,
    /// Its parent; 0 for process 1.
    pub ppid: Pid,
    /// Its group.
    pub pgid: Pgid,
    /// Its session.
    pub sid: Sid,
    /// What it does.
    pub run: Run,
    /// How it ended, if it has.
    pub status: Option<WaitStatus>,
    /// What it executes, shared with the table.
    pub image: Arc<Image>,
    /// When it was created, by the table's clock.
    pub started: Time,
    /// Who decides what becomes of it.
    pub authority: Authority,
}

/// A process in a [tree](ProcessTable::tree).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// How far below the root.
    pub depth: usize,
    /// The process.
    pub info: ProcessInfo,
}

impl State {
    fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        let view = self.kernel.view(pid)?;
        let entry = self.book.entries.get(pid)?;
        Some(ProcessInfo {
            pid,
            ppid: view.ppid,
            pgid: view.pgid,
            sid: view.sid,
            run: view.run,
            status: self.kernel.exit_status(pid),
            image: entry.image.clone(),
            started: entry.started,
            authority: entry.authority,
        })
    }

    fn infos(&self, pids: impl Iterator<Item = Pid>) -> Vec<ProcessInfo> {
        pids.filter_map(|pid| self.info(pid)).collect()
    }
}

impl ProcessTable {
    /// A process at this moment. O(1).
    pub fn get(&self, pid: Pid) -> Option<ProcessInfo> {
        self.shared().state.lock().info(pid)
    }

    /// All processes, zombies included, in the order of their creation. O(1) a process.
    #[doc(alias = "list_processes")]
    pub fn list(&self) -> Vec<ProcessInfo> {
        let state = self.shared().state.lock();
        let mut list = Vec::with_capacity(state.kernel.len());
        list.extend(state.kernel.pids().filter_map(|pid| state.info(pid)));
        list
    }

    /// The numbers of all processes, in the order of their creation. O(1) a process.
    pub fn pids(&self) -> Vec<Pid> {
        let state = self.shared().state.lock();
        let mut list = Vec::with_capacity(state.kernel.len());
        list.extend(state.kernel.pids());
        list
    }

    /// How many there are. O(1).
    #[doc(alias = "running_count")]
    pub fn counts(&self) -> Counts {
        self.shared().state.lock().book.counts
    }

    /// The members of a group, zombies included, the one that joined last first; nothing if there
    /// is no such group. O(1) a member.
    #[doc(alias = "has_process_group")]
    pub fn group(&self, pgid: Pgid) -> Vec<ProcessInfo> {
        let state = self.shared().state.lock();
        state.infos(state.kernel.members_of(pgid))
    }

    /// The process `root` and its descendants, each parent before its children, these in the order
    /// in which it got them; nothing if there is no such process. O(1) a process of the tree.
    pub fn tree(&self, root: Pid) -> Vec<Node> {
        let state = self.shared().state.lock();
        let mut nodes = Vec::new();
        let mut next = Vec::from([(0, root)]);
        while let Some((depth, pid)) = next.pop() {
            let Some(info) = state.info(pid) else { continue };
            nodes.push(Node { depth, info });
            let first = next.len();
            next.extend(state.kernel.children_of(pid).map(|child| (depth + 1, child)));
            next[first..].reverse();
        }
        nodes
    }
}

impl Process {
    /// The process at this moment; `None` once it is reaped. O(1).
    pub fn info(&self) -> Option<ProcessInfo> {
        let state = self.table.shared().state.lock();
        state.book.entry(self.token)?;
        state.info(self.pid())
    }

    /// Its mask, pending signals and dispositions, as /proc/PID/status shows them, whatever it does
    /// at the moment; `None` once it is reaped. They are empty for a zombie. O(1).
    ///
    /// ```
    /// use proctable::abi::{SigSet, Signal};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let guest = table.spawn(Spawn::new(Image::new("guest")))?;
    /// guest.send(Signal::STOP)?;
    /// guest.send(Signal::TERM)?;
    /// // a call of its own, such as sigpending, would wait until it continues
    /// assert_eq!(guest.view().map(|view| view.shared), Some(Signal::TERM.set()));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    ///
    /// # References
    ///
    /// proc_pid_status(5); RULES OBS.
    pub fn view(&self) -> Option<View> {
        let state = self.table.shared().state.lock();
        state.book.entry(self.token)?;
        state.kernel.view(self.pid())
    }

    /// Its umask, working directory and users, whatever it does at the moment; `None` once it has
    /// ended. O(1), and nothing is copied but the numbers.
    #[doc(alias = "get_umask")]
    #[doc(alias = "get_cwd")]
    pub fn attributes(&self) -> Option<Attributes> {
        let state = self.table.shared().state.lock();
        state.book.entry(self.token)?;
        state.kernel.attributes(self.pid())
    }

    /// What it executes, shared with the table; `None` once it is reaped. O(1).
    pub fn image(&self) -> Option<Arc<Image>> {
        let state = self.table.shared().state.lock();
        state.book.entry(self.token).map(|entry| entry.image.clone())
    }

    /// How it ended, if it has and is not reaped. O(1).
    pub fn exit_status(&self) -> Option<WaitStatus> {
        let state = self.table.shared().state.lock();
        state.book.entry(self.token)?;
        state.kernel.exit_status(self.pid())
    }

    /// Its children, in the order in which it got them. O(1) a child.
    pub fn children(&self) -> Vec<ProcessInfo> {
        let state = self.table.shared().state.lock();
        if state.book.entry(self.token).is_none() {
            return Vec::new();
        }
        state.infos(state.kernel.children_of(self.pid()))
    }
}

impl Shared {
    /// Whether the process lives.
    pub(crate) fn is_alive(&self, token: Token) -> bool {
        let state = self.state.lock();
        let alive = |entry: &Entry| entry.phase != Phase::Zombie;
        !state.is_closed() && state.book.entry(token).is_some_and(alive)
    }
}
