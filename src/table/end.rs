//! The end of everybody.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::commit::TableState;
use super::{Init, ProcessTable};
use crate::abi::{Pid, Signal, WaitStatus};
use crate::sync::{Mutex, Parker};

/// What [`ProcessTable::terminate_all`] came to.
///
/// SIGTERM is generated for every process but the table's init, and SIGCONT with it, so that those
/// that are stopped act on it too (JOB-06). Who is alive when the grace is over gets SIGKILL,
/// also those that were created meanwhile. The time does not depend on how many hold out. Drivers
/// under [`Authority::Host`](crate::driver::Authority::Host) get as long again to report the
/// deaths. The zombies that the init has then are reaped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terminated {
    /// How processes ended that were alive at the beginning, or were created meanwhile, by number.
    pub ended: BTreeMap<Pid, WaitStatus>,
    /// Who is alive all the same: processes under the host's authority whose end was not reported
    /// in time, and any that drivers and callbacks have created after the last signal.
    pub survivors: Vec<Pid>,
}

/// Somebody who waits for everybody to end.
#[derive(Debug)]
pub(super) struct TerminateWaiter {
    /// How many processes are spared.
    spared: usize,
    ended: Mutex<BTreeMap<Pid, WaitStatus>>,
    parker: Arc<Parker>,
}

impl TerminateWaiter {
    /// A process has ended, and so many are alive. Whom to tell, if these are all spared.
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

/// Signals everybody, in one step.
fn signal_all(table: &ProcessTable, signals: &[Signal]) {
    let shared = table.shared();
    shared.commit(|state| {
        for pid in state.living(shared.init) {
            for signal in signals {
                // it may have ended by what was sent to another: then there is nothing to do
                let _ = state
                    .apply_external(&*shared.clock, |kernel, fx| kernel.signal(pid, *signal, fx));
            }
        }
    });
}

/// Sleeps until nobody is left; `false` if that takes longer than `grace`.
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
    /// Those who are to end.
    fn living(&self, init: Init) -> Vec<Pid> {
        let spared = |pid: &Pid| init == Init::Table && *pid == Pid(1);
        let alive = |pid: &Pid| self.kernel.exit_status(*pid).is_none();
        self.kernel.pids().filter(|pid| !spared(pid) && alive(pid)).collect()
    }

    /// How many processes are alive. O(1).
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
