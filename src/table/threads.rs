//! The data of each thread that is not a leader and that the model does not have. The data of a
//! leader is in the entry of its process.

use alloc::boxed::Box;

use super::by_pid::ByPid;
use super::commit::TableState;
use super::driver_queue::DriverQueue;
use super::guest::{Caller, Calls};
use super::outbox::Wake;
use super::registry::{Phase, ProcessEntry, ProcessRegistry};
use crate::abi::Pid;
use crate::driver::Op;
use crate::kernel::{Id, Kernel, RunState, TaskId};

/// A thread that is not the leader of its process, from its creation to its end.
#[derive(Debug)]
pub(super) struct Thread {
    pub process: Pid,
    /// `None` if the thread had ended when it was added.
    task: Option<TaskId>,
    /// `None` while the thread has no call in progress.
    pub calls: Option<Box<Calls>>,
}

/// The threads that are not the leaders of their processes, by number.
#[derive(Debug, Default)]
pub(super) struct Threads {
    by_tid: ByPid<Thread>,
    len: usize,
}

impl Threads {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, tid: Pid) -> Option<&Thread> {
        self.by_tid.get(tid)
    }

    pub fn tids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.by_tid.pids()
    }

    fn enter(&mut self, tid: Pid, process: Pid, task: Option<TaskId>) {
        *self.by_tid.vacant(tid) = Some(Thread { process, task, calls: None });
        self.len += 1;
    }

    /// The threads with their processes.
    #[cfg(feature = "serde")]
    pub fn list(&self) -> impl Iterator<Item = (Pid, Pid)> + '_ {
        self.tids().filter_map(|tid| Some((tid, self.get(tid)?.process)))
    }

    /// Adds a thread of a snapshot.
    #[cfg(feature = "serde")]
    pub fn restore(&mut self, kernel: &Kernel, tid: Pid, process: Pid) {
        self.enter(tid, process, kernel.task_id(tid));
    }

    fn remove(&mut self, tid: Pid) -> Option<Thread> {
        let thread = self.by_tid.remove(tid)?;
        self.len -= 1;
        Some(thread)
    }
}

/// The process of a thread, alive or ended.
#[inline]
pub(super) fn process_in(
    entries: &ByPid<ProcessEntry>,
    threads: &Threads,
    tid: Pid,
) -> Option<Pid> {
    match entries.get(tid) {
        Some(_) => Some(tid),
        None => threads.get(tid).map(|thread| thread.process),
    }
}

impl ProcessRegistry {
    /// The process of a thread, alive or ended. O(1).
    #[inline]
    pub fn process_of(&self, tid: Pid) -> Option<Pid> {
        process_in(&self.entries, &self.threads, tid)
    }

    /// The calls of a thread.
    #[inline]
    pub fn calls(&self, tid: Pid) -> Option<&Calls> {
        let calls = match self.entries.get(tid) {
            Some(entry) => &entry.calls,
            None => &self.threads.get(tid)?.calls,
        };
        calls.as_deref()
    }

    /// The slot for the calls of a thread.
    #[inline]
    pub fn calls_mut(&mut self, tid: Pid) -> Option<&mut Option<Box<Calls>>> {
        match self.entries.get_mut(tid) {
            Some(entry) => Some(&mut entry.calls),
            None => self.threads.by_tid.get_mut(tid).map(|thread| &mut thread.calls),
        }
    }

    /// Adds a new thread of the process of `creator`.
    pub fn enter_thread(&mut self, kernel: &Kernel, tid: Pid, creator: Pid) {
        if let Some(process) = self.process_of(creator) {
            self.threads.enter(tid, process, kernel.task_id(tid));
        }
    }

    /// Records that a thread has ended, or has another number. Its process continues, or ends next.
    pub fn note_thread_end(&mut self, kernel: &Kernel, tid: Pid) {
        // EXEC-11: the thread has another number, and is the same task
        let task = self.threads.get(tid).and_then(|thread| thread.task);
        if task.is_some_and(|task| kernel.tid(task).is_some()) {
            return self.take_over(tid);
        }
        self.operate(tid, || Op::EndThread(tid));
        self.abort_calls(tid);
        self.wake_joins(tid);
        match self.entries.get_mut(tid) {
            Some(leader) => leader.leader_ended = true,
            None => drop(self.threads.remove(tid)),
        }
        if !self.usages.is_empty() {
            self.usages.thread_ended(tid);
        }
    }

    /// The driver queue of the process of a thread that is not its leader.
    #[cold]
    pub fn driver_queue_of_thread(&self, tid: Pid) -> Option<Id<DriverQueue>> {
        self.entries.get(self.threads.get(tid)?.process)?.driver_queue
    }

    /// A thread that executes a program becomes the leader, with the leader's number (EXEC-11).
    fn take_over(&mut self, tid: Pid) {
        for parker in self.pending_wakes.get(&tid).into_iter().flatten().cloned() {
            self.outbox.wakes.push(Wake::first(parker, Some(tid)));
        }
        let Some(Thread { process, calls, .. }) = self.threads.remove(tid) else { return };
        if let Some(entry) = self.entries.get_mut(process) {
            entry.leader_ended = false;
            entry.calls = calls;
        }
        if let Some(joins) = self.joins.remove(&tid) {
            self.joins.entry(process).or_default().extend(joins);
        }
        self.make_ready(process);
    }

    /// Wakes the joins of a thread.
    pub fn wake_joins(&mut self, tid: Pid) {
        // checked first: joins are rare
        if !self.joins.is_empty()
            && let Some(joins) = self.joins.remove(&tid)
        {
            self.outbox.wakes.extend(joins.into_iter().map(|parker| Wake::new(parker, None)));
        }
    }

    /// Marks the threads of a process that may be able to make their queued calls, and to take
    /// their handlers. Costs a look at each thread.
    pub fn make_all_ready(&mut self, kernel: &Kernel, process: Pid) {
        if self.threads.is_empty() {
            return self.make_able(process);
        }
        for tid in kernel.tids(process) {
            self.make_able(tid);
        }
    }

    fn make_able(&mut self, tid: Pid) {
        self.make_ready(tid);
        if self.has_safe_points {
            self.notify_delivery(tid);
        }
    }
}

impl TableState {
    /// The number of a thread; `None` if it has ended.
    #[inline]
    pub fn tid_of(&self, task: TaskId) -> Option<Pid> {
        let tid = self.kernel.tid(task)?;
        let ended = |entry: &ProcessEntry| entry.leader_ended || entry.phase == Phase::Zombie;
        (!self.process_registry.entries.get(tid).is_some_and(ended)).then_some(tid)
    }

    /// The number of a caller at present.
    pub fn number_of(&self, caller: Caller) -> Option<Pid> {
        match caller {
            Caller::Number(number) => Some(number),
            Caller::Process(key) => self.process_registry.entry(key).map(|_| key.pid),
            Caller::Thread(key) => self.tid_of(key.task),
        }
    }

    /// The number of the thread that makes a caller's calls; `None` if it has ended.
    pub fn acting(&self, caller: Caller) -> Option<Pid> {
        let number = self.number_of(caller)?;
        match self.process_registry.entries.get(number) {
            Some(entry) if entry.leader_ended => self.first_living(number),
            Some(entry) => (entry.phase != Phase::Zombie).then_some(number),
            None => self.process_registry.threads.get(number).map(|_| number),
        }
    }

    /// The first living thread of a process: its leader, or the oldest thread that is alive. Costs
    /// a look at the threads before it.
    pub fn first_living(&self, process: Pid) -> Option<Pid> {
        let entry = self.process_registry.entries.get(process)?;
        if entry.phase == Phase::Zombie {
            return None;
        }
        let lives =
            |tid: &Pid| self.kernel.view(*tid).is_some_and(|view| view.run != RunState::Zombie);
        self.kernel.tids(process).find(lives)
    }
}
