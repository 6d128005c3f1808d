//! The resource usage of processes, which drivers report, and what getrusage(2) and wait4(2) return
//! of it.

use alloc::collections::BTreeMap;

use super::ProcessTable;
use super::clock::Clock;
use super::commit::TableState;
use super::process::Process;
use super::registry::{Phase, ProcessKey, ProcessRegistry};
use crate::abi::{Errno, Pid, Rusage};
use crate::driver::Report;
use crate::kernel::Effect;
use crate::rule;

/// The usage of a process that has reported some, or has waited for a child that had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct ProcessUsage {
    pub own: Rusage,
    /// Of the children that it has waited for, and of theirs (WAIT-46).
    pub children: Rusage,
}

/// The usage of the processes of a table; empty if no driver reports any.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Usages {
    processes: BTreeMap<Pid, ProcessUsage>,
    /// The child that a thread reaped last, and the usage of that child.
    reaped: BTreeMap<Pid, (Pid, Rusage)>,
}

impl Usages {
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.reaped.is_empty()
    }

    pub fn get(&self, pid: Pid) -> ProcessUsage {
        self.processes.get(&pid).copied().unwrap_or_default()
    }

    /// What a wait returns of a child: its usage and that of its children.
    #[inline]
    pub fn of_child(&self, pid: Pid) -> Rusage {
        if self.processes.is_empty() {
            return Rusage::default();
        }
        let ProcessUsage { own, children } = self.get(pid);
        own + children
    }

    fn add_report(&mut self, pid: Pid, usage: Rusage) -> Rusage {
        let process = self.processes.entry(pid).or_default();
        process.own = process.own.max(usage);
        process.own
    }

    fn forget(&mut self, pid: Pid) {
        self.processes.remove(&pid);
        self.reaped.remove(&pid);
    }

    /// No thread of that number waits any more.
    pub fn thread_ended(&mut self, tid: Pid) {
        self.reaped.remove(&tid);
    }
}

impl ProcessRegistry {
    /// A zombie is removed. A wait adds its usage to that of the waiting process; an automatic
    /// removal does not (ZOM-13).
    pub fn note_usage(&mut self, effect: &Effect) {
        let (child, waiter) = (effect.pid, effect.cause.actor);
        if effect.cause.rule == rule!("WAIT-37") {
            let usage = self.usages.of_child(child);
            self.usages.reaped.insert(waiter, (child, usage));
            if let Some(parent) = self.process_of(waiter) {
                self.usages.processes.entry(parent).or_default().children += usage;
            }
        }
        self.usages.forget(child);
    }
}

impl TableState {
    /// Records the usage of a process, and has RLIMIT_CPU act on it.
    pub(super) fn report_usage(&mut self, key: ProcessKey, usage: Rusage, clock: &dyn Clock) {
        let Some(entry) = self.process_registry.entry(key) else { return };
        let is_alive = entry.phase != Phase::Zombie;
        let total = self.process_registry.usages.add_report(key.pid, usage).cpu_time();
        if is_alive && !self.is_closed() {
            // the model refuses it if the process is about to end
            let _ = self.apply_external(clock, |kernel, fx| kernel.charge_cpu(key.pid, total, fx));
        }
    }
}

impl Process {
    /// Reports the resources that the process has used in total, as its driver does with
    /// [`Reporter::usage`](crate::driver::Reporter::usage). This is an act of the runtime. A field
    /// that is smaller than in an earlier report has no effect. A report about a zombie counts
    /// until the zombie is reaped.
    ///
    /// The CPU time counts for RLIMIT_CPU ([`Resource::CPU`](crate::abi::Resource::CPU), in
    /// seconds): SIGKILL at the hard limit, else SIGXCPU at the soft limit, which becomes the next
    /// full second (LIM-15).
    ///
    /// ```
    /// use std::time::Duration;
    /// use proctable::abi::{Resource, Rlimit, Rusage, Signal, WaitOptions, WaitStatus};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let guest = table.spawn(Spawn::new(Image::new("loop")))?;
    /// guest.rlimit(Resource::CPU, Some(Rlimit { soft: 2, hard: 2 }))?;
    /// guest.report_usage(Rusage::cpu(Duration::from_millis(1_900)));
    /// guest.report_usage(Rusage::cpu(Duration::from_millis(2_010)));
    /// let waited = table.init().wait(&guest, WaitOptions::EXITED)?;
    /// assert_eq!(waited.status, WaitStatus::killed(Signal::KILL, false));
    /// assert_eq!(waited.usage.utime, Duration::from_millis(2_010));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    pub fn report_usage(&self, usage: Rusage) {
        self.table().shared().report(self.key, Report::Usage(usage));
    }

    /// The resources that the process has used, as reported: getrusage(2) with RUSAGE_SELF. In any
    /// state of the process; `None` once it is reaped. O(log n).
    #[doc(alias = "getrusage")]
    pub fn usage(&self) -> Option<Rusage> {
        Some(self.recorded_usage()?.own)
    }

    /// The resources of the children that the process has waited for, and of those that these have
    /// waited for (WAIT-46): getrusage(2) with RUSAGE_CHILDREN. A child that left no zombie does
    /// not count (ZOM-13). `None` once the process is reaped. O(log n).
    #[doc(alias = "getrusage")]
    pub fn children_usage(&self) -> Option<Rusage> {
        Some(self.recorded_usage()?.children)
    }

    fn recorded_usage(&self) -> Option<ProcessUsage> {
        let state = self.table().shared().state.lock();
        state.process_registry.entry(self.key)?;
        Some(state.process_registry.usages.get(self.pid()))
    }
}

impl ProcessTable {
    /// The `rusage` argument of a guest's wait4(2) that has returned `child` to the thread
    /// `waiter`: the usage of the child with that of its children. For a child that the wait
    /// reaped, it is known until the thread reaps another child; waits of the runtime for a process
    /// ([`Process::wait`]) are waits of its first thread, and return the usage themselves.
    ///
    /// # Errors
    ///
    /// ECHILD if the thread has not reaped that child last, and no process has the number.
    #[doc(alias = "wait4")]
    pub fn waited_usage(&self, waiter: Pid, child: Pid) -> Result<Rusage, Errno> {
        let state = self.shared().state.lock();
        let usages = &state.process_registry.usages;
        match usages.reaped.get(&waiter) {
            Some((reaped, usage)) if *reaped == child => Ok(*usage),
            _ if state.process_registry.entries.get(child).is_some() => Ok(usages.of_child(child)),
            _ => Err(Errno::ECHILD),
        }
    }
}
