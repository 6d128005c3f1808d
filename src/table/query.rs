//! Queries about processes. They change nothing, and copy only what they return.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use super::ProcessTable;
use super::commit::TableState;
use super::process::Process;
use super::registry::{Counts, Image, Phase};
use crate::abi::{Errno, Pgid, Pid, Sid, SigSet, Time, WaitStatus};
use crate::driver::Authority;
use crate::kernel::{Attributes, RunState, View};

/// A value of the runtime's that is stored with a process.
pub type ProcessData = Arc<dyn Any + Send + Sync>;

/// A process at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessInfo {
    /// The number of the process.
    pub pid: Pid,
    /// The number of its parent; 0 for process 1.
    pub ppid: Pid,
    /// Its process group.
    pub pgid: Pgid,
    /// Its session.
    pub sid: Sid,
    /// The state of its first living thread.
    pub run: RunState,
    /// How the process ended; `None` while it is alive.
    pub status: Option<WaitStatus>,
    /// The program that it executes, shared with the table.
    pub image: Arc<Image>,
    /// When the process was created, by the table's clock.
    pub started: Time,
    /// The side that decides when the process stops, continues and ends.
    pub authority: Authority,
}

/// A thread at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadInfo {
    /// The number of the thread.
    pub tid: Pid,
    /// The number of its process.
    pub pid: Pid,
    /// The state of the thread. A leader that has ended before other threads is a zombie (TG-87).
    pub run: RunState,
    /// The signals that the thread blocks.
    pub blocked: SigSet,
    /// The signals that are pending for this thread alone.
    pub pending: SigSet,
}

/// A process in a [tree](ProcessTable::tree).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// The distance from the root.
    pub depth: usize,
    /// The process.
    pub info: ProcessInfo,
}

impl TableState {
    fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        let view = self.kernel.view(pid)?;
        let entry = self.process_registry.entries.get(pid)?;
        let mut run = view.run;
        if entry.leader_ended && entry.phase != Phase::Zombie {
            let living = self.first_living(pid).and_then(|tid| self.kernel.view(tid));
            run = living.map_or(run, |view| view.run);
        }
        Some(ProcessInfo {
            pid,
            ppid: view.ppid,
            pgid: view.pgid,
            sid: view.sid,
            run,
            status: self.kernel.exit_status(pid),
            image: entry.image.clone(),
            started: entry.started,
            authority: entry.run_by.authority(),
        })
    }

    pub(super) fn thread_info(&self, tid: Pid) -> Option<ThreadInfo> {
        let View { tgid: pid, run, blocked, private: pending, .. } = self.kernel.view(tid)?;
        Some(ThreadInfo { tid, pid, run, blocked, pending })
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

    /// The threads of a process in the order of their creation, a zombie leader included; empty if
    /// there is no such process. O(1) a thread.
    #[doc(alias = "tids")]
    pub fn threads(&self, pid: Pid) -> Vec<ThreadInfo> {
        let state = self.shared().state.lock();
        state.kernel.tids(pid).filter_map(|tid| state.thread_info(tid)).collect()
    }

    /// The numbers of processes, by state. O(1).
    #[doc(alias = "running_count")]
    pub fn counts(&self) -> Counts {
        self.shared().state.lock().process_registry.counts
    }

    /// The members of a process group, zombies included, the one that joined last first; empty if
    /// there is no such group. O(1) a member.
    #[doc(alias = "has_process_group")]
    pub fn group(&self, pgid: Pgid) -> Vec<ProcessInfo> {
        let state = self.shared().state.lock();
        state.infos(state.kernel.members_of(pgid))
    }

    /// Whether a process group is orphaned (ORP-01), so that terminal stop signals do not stop it
    /// (ORP-04) and a runtime's terminal answers its reads with EIO. `None` if there is no such
    /// group. Costs a scan of the members.
    pub fn is_orphaned(&self, pgid: Pgid) -> Option<bool> {
        self.shared().state.lock().kernel.is_orphaned_group(pgid)
    }

    /// The members of a session, zombies included, in the order of their creation; empty if there
    /// is no such session. Costs a scan of all processes.
    pub fn session(&self, sid: Sid) -> Vec<ProcessInfo> {
        let state = self.shared().state.lock();
        let is_member = |pid: &Pid| state.kernel.view(*pid).is_some_and(|view| view.sid == sid);
        state.infos(state.kernel.pids().filter(is_member))
    }

    /// The process `root` and its descendants: each parent before its children, and the children in
    /// the order in which the parent got them. Empty if there is no such process. O(1) a process of
    /// the tree.
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
        state.process_registry.entry(self.key)?;
        state.info(self.pid())
    }

    /// The mask, the pending signals and the dispositions, as /proc/PID/status shows them, in any
    /// state of the process; `None` once it is reaped. They are empty for a zombie. O(1).
    ///
    /// ```
    /// use proctable::abi::{SigSet, Signal};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let guest = table.spawn(Spawn::new(Image::new("guest")))?;
    /// guest.send(Signal::STOP)?;
    /// guest.send(Signal::TERM)?;
    /// // not a call of the process, such as sigpending: a stopped process makes no call until it
    /// // continues
    /// assert_eq!(guest.view().map(|view| view.shared), Some(Signal::TERM.set()));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    ///
    /// # References
    ///
    /// proc_pid_status(5); RULES OBS.
    pub fn view(&self) -> Option<View> {
        let state = self.table.shared().state.lock();
        state.process_registry.entry(self.key)?;
        state.kernel.view(self.pid())
    }

    /// The umask, the working directory and the user ids, in any state of the process; `None` once
    /// it has ended. O(1), and only numbers are copied.
    #[doc(alias = "get_umask")]
    #[doc(alias = "get_cwd")]
    pub fn attributes(&self) -> Option<Attributes> {
        let state = self.table.shared().state.lock();
        state.process_registry.entry(self.key)?;
        state.kernel.attributes(self.pid())
    }

    /// The program that the process executes, shared with the table; `None` once it is reaped.
    /// O(1).
    pub fn image(&self) -> Option<Arc<Image>> {
        let state = self.table.shared().state.lock();
        state.process_registry.entry(self.key).map(|entry| entry.image.clone())
    }

    /// Stores a value of the runtime's with the process until it is reaped, and returns the one
    /// that was there. The process holds one value.
    ///
    /// ```
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// struct Instance(u32);
    ///
    /// let table = ProcessTable::new();
    /// let guest = table.spawn(Spawn::new(Image::new("guest")))?;
    /// guest.set_data(Instance(7))?;
    /// assert_eq!(guest.data::<Instance>().map(|instance| instance.0), Some(7));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    ///
    /// # Errors
    ///
    /// ESRCH once the process is reaped.
    pub fn set_data<T: Any + Send + Sync>(&self, value: T) -> Result<Option<ProcessData>, Errno> {
        let mut state = self.table.shared().state.lock();
        if state.process_registry.entry(self.key).is_none() {
            return Err(Errno::ESRCH);
        }
        Ok(state.process_registry.data.insert(self.pid(), Arc::new(value)))
    }

    /// The value that [`Process::set_data`] stored, if it has this type; `None` once the process is
    /// reaped.
    pub fn data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let state = self.table.shared().state.lock();
        state.process_registry.entry(self.key)?;
        let data = state.process_registry.data.get(&self.pid()).cloned();
        data.and_then(|data| data.downcast().ok())
    }

    /// How the process ended; `None` while it is alive and once it is reaped. O(1).
    pub fn exit_status(&self) -> Option<WaitStatus> {
        let state = self.table.shared().state.lock();
        state.process_registry.entry(self.key)?;
        state.kernel.exit_status(self.pid())
    }

    /// The children, in the order in which the process got them. O(1) a child.
    pub fn children(&self) -> Vec<ProcessInfo> {
        let state = self.table.shared().state.lock();
        if state.process_registry.entry(self.key).is_none() {
            return Vec::new();
        }
        state.infos(state.kernel.children_of(self.pid()))
    }
}
