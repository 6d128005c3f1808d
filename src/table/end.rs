//! The end of all processes of a table.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::commit::TableState;
use super::{Init, ProcessTable};
use crate::abi::{Pid, Signal, WaitStatus};
use crate::sync::{Mutex, Parker};

/// The result of [`ProcessTable::terminate_all`].
///
/// SIGTERM is generated for every process but the table's init, and SIGCONT with it, so that
/// stopped processes act on SIGTERM too (JOB-06). A process that is alive after the grace period
/// receives SIGKILL, also one that was created during the grace period. The time does not depend on
/// the number of processes that survive SIGTERM. Drivers under
/// [`Authority::Host`](crate::driver::Authority::Host) have the same time again to report the ends.
/// Then the zombies of the init are reaped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terminated {
    /// How the processes ended that were alive at the beginning or were created during the call, by
    /// number.
    pub ended: BTreeMap<Pid, WaitStatus>,
    /// The processes that are still alive: processes under the host's authority whose end was not
    /// reported in time, and processes that drivers and callbacks created after the last signal.
    pub survivors: Vec<Pid>,
}

/// A thread that waits for the end of all processes.
#[derive(Debug)]
pub(super) struct TerminateWaiter {
    /// The number of processes that are not signalled.
    spared: usize,
    ended: Mutex<BTreeMap<Pid, WaitStatus>>,
    parker: Arc<Parker>,
}

impl TerminateWaiter {
    /// Records the end of a process, with the number of processes that are alive. Returns the
    /// parker to wake if only processes remain that are not signalled.
    pub fn note(&self, pid: Pid, status: WaitStatus, alive: usize) -> Option<Arc<Parker>> {
        self.ended.lock().insert(pid, status);
        (alive <= self.spared).then(|| self.parker.clone())
    }
}

pub(super) fn terminate_all(table: &ProcessTable, grace: Duration) -> Terminated {
    let shared = table.shared();
    let waiter = Arc::new(TerminateWaiter {
        spared: usize::from(shared.init == Init::Table),
        ended: Mutex::default(),
        parker: Parker::new(),
    });
    shared.commit(|state| state.process_registry.terminate_waiters.push(waiter.clone()));
    signal_all(table, &[Signal::TERM, Signal::CONT]);
    if !wait_for_exits(table, grace, &waiter) {
        signal_all(table, &[Signal::KILL]);
        wait_for_exits(table, grace, &waiter);
    }
    shared.commit(|state| {
        state.process_registry.terminate_waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        if shared.init == Init::Table {
            state.reap_all(table);
        }
        let ended = core::mem::take(&mut *waiter.ended.lock());
        Terminated { ended, survivors: state.living(shared.init) }
    })
}

/// Signals all processes but the init, in one step.
fn signal_all(table: &ProcessTable, signals: &[Signal]) {
    let shared = table.shared();
    shared.commit(|state| {
        for pid in state.living(shared.init) {
            for signal in signals {
                // an error means that a signal to another process has ended this one
                let _ = state
                    .apply_external(&*shared.clock, |kernel, fx| kernel.signal(pid, *signal, fx));
            }
        }
    });
}

/// Sleeps until all processes have ended; `false` if `grace` passes first.
fn wait_for_exits(table: &ProcessTable, grace: Duration, waiter: &TerminateWaiter) -> bool {
    let shared = table.shared();
    let alarm = shared.alarm_after(grace, &waiter.parker);
    loop {
        if shared.state.lock().alive() <= waiter.spared {
            return true;
        }
        if !alarm.sleep() {
            return false;
        }
    }
}

impl TableState {
    /// The processes that have to end.
    fn living(&self, init: Init) -> Vec<Pid> {
        let spared = |pid: &Pid| init == Init::Table && *pid == Pid(1);
        let alive = |pid: &Pid| self.kernel.exit_status(*pid).is_none();
        self.kernel.pids().filter(|pid| !spared(pid) && alive(pid)).collect()
    }

    /// The number of processes that are alive. O(1).
    fn alive(&self) -> usize {
        self.process_registry.counts.running + self.process_registry.counts.stopped
    }

    /// Reaps the init's zombies.
    fn reap_all(&mut self, table: &ProcessTable) {
        let zombies: Vec<Pid> = self
            .kernel
            .children_of(Pid(1))
            .filter(|pid| self.kernel.exit_status(*pid).is_some())
            .collect();
        for pid in zombies {
            self.reap_child(Pid(1), pid, &*table.shared().clock);
        }
    }
}
