//! The end of all processes of a table.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::commit::TableState;
use super::{Init, ProcessTable};
use crate::abi::{Pid, Signal, Time, WaitStatus};
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

/// The end of all processes of a table, in progress: [`ProcessTable::begin_termination`]. It is a
/// future of the result.
///
/// Dropping it stops the termination: processes that have not ended remain.
#[must_use = "processes that ignore SIGTERM are killed only while it is waited for or polled"]
pub struct Termination {
    table: ProcessTable,
    waiter: Arc<TerminateWaiter>,
    grace: Duration,
    /// When the present period of grace ends.
    deadline: Time,
    /// The place of the future's timeout among those of the table.
    place: Option<(Time, u64)>,
    killed: bool,
}

impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Termination { deadline, killed, .. } = self;
        f.debug_struct("Termination")
            .field("deadline", deadline)
            .field("killed", killed)
            .finish_non_exhaustive()
    }
}

impl Termination {
    pub(super) fn begin(table: &ProcessTable, grace: Duration) -> Termination {
        let shared = table.shared();
        let waiter = Arc::new(TerminateWaiter {
            spared: usize::from(shared.init == Init::Table),
            ended: Mutex::default(),
            parker: Parker::new(),
        });
        shared.commit(|state| state.process_registry.terminate_waiters.push(waiter.clone()));
        let table = table.clone();
        let (deadline, place, killed) = (Time(0), None, false);
        let mut new = Termination { table, waiter, grace, deadline, place, killed };
        signal_all(&new.table, &[Signal::TERM, Signal::CONT]);
        new.begin_grace();
        new
    }

    fn begin_grace(&mut self) {
        let nanos = u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX);
        self.deadline = self.table.shared().clock.now().after(nanos);
    }

    /// The deadline wakes the future.
    fn set_timeout(&mut self) {
        let (at, parker) = (self.deadline, &self.waiter.parker);
        if at == Time(u64::MAX) || self.place.is_some_and(|place| place.0 == at) {
            return;
        }
        let old = self.place.take();
        self.place = self.table.shared().commit(|state| {
            old.into_iter().for_each(|place| state.remove_timeout(place));
            Some(state.add_timeout(at, parker.clone()))
        });
    }

    /// When the processes that are alive receive SIGKILL, or, if they have received it, when their
    /// drivers have had the time to report their ends.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Kills the processes that are alive without waiting for the end of their grace.
    pub fn kill(&mut self) {
        if !core::mem::replace(&mut self.killed, true) {
            signal_all(&self.table, &[Signal::KILL]);
            self.begin_grace();
        }
    }

    /// The result, if all processes have ended or the last period of grace is over by the table's
    /// clock. It never waits: call it between the steps of a loop in which guests use their grace.
    pub fn try_finish(&mut self) -> Option<Terminated> {
        let shared = self.table.shared().clone();
        while shared.state.lock().alive() > self.waiter.spared {
            if shared.clock.now() < self.deadline {
                return None;
            }
            if self.killed {
                break;
            }
            self.kill();
        }
        Some(shared.commit(|state| {
            if shared.init == Init::Table {
                state.reap_all(&self.table);
            }
            let ended = core::mem::take(&mut *self.waiter.ended.lock());
            Terminated { ended, survivors: state.living(shared.init) }
        }))
    }

    /// Waits for the result. With a clock that does not follow real time another thread has to move
    /// the clock and call [`ProcessTable::reap_due`].
    #[cfg(not(all(target_family = "wasm", not(target_feature = "atomics"))))]
    pub fn wait(mut self) -> Terminated {
        let shared = self.table.shared().clone();
        let parker = self.waiter.parker.clone();
        loop {
            if let Some(terminated) = self.try_finish() {
                return terminated;
            }
            shared.alarm_at(Some(self.deadline), &parker).sleep();
        }
    }
}

impl Future for Termination {
    type Output = Terminated;

    fn poll(mut self: Pin<&mut Termination>, context: &mut Context<'_>) -> Poll<Terminated> {
        loop {
            self.set_timeout();
            let deadline = self.deadline;
            if let Some(terminated) = self.try_finish() {
                return Poll::Ready(terminated);
            }
            // SIGKILL begins another period
            if self.deadline == deadline && !self.waiter.parker.poll(context.waker()) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Termination {
    fn drop(&mut self) {
        self.table.shared().commit(|state| {
            let waiters = &mut state.process_registry.terminate_waiters;
            waiters.retain(|other| !Arc::ptr_eq(other, &self.waiter));
            self.place.take().into_iter().for_each(|place| state.remove_timeout(place));
        });
    }
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
