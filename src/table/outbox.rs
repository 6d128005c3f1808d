//! The work after the lock is released: drivers carry out operations, exit callbacks run, sleeping
//! threads are woken.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::commit::TableInner;
use super::driver_queue::{Dispatch, RetiredDriver};
use super::event::What;
use super::registry::{Phase, ProcessRegistry};
use crate::abi::Pid;
use crate::driver::{Op, perform};
use crate::sync::{Parker, contain};

/// The work that one critical section leaves for after the lock is released.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub dispatches: Vec<Dispatch>,
    pub wakes: Vec<Wake>,
    /// The step, if it has exits for the exit callback; 0 if it has none.
    pub exits: u64,
}

impl Outbox {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty() && self.wakes.is_empty() && self.exits == 0
    }
}

/// A sleeping thread to wake.
#[derive(Debug)]
pub(super) struct Wake {
    parker: Arc<Parker>,
    /// The thread that made the call, or the process that waits.
    of: Option<Pid>,
    /// It is woken before operations are dispatched: the thread or process has ended, or executes
    /// another program, and its driver may wait until its threads have left their calls.
    first: bool,
}

impl Wake {
    pub fn new(parker: Arc<Parker>, of: Option<Pid>) -> Wake {
        Wake { parker, of, first: false }
    }

    /// A wake before operations are dispatched.
    pub fn first(parker: Arc<Parker>, of: Option<Pid>) -> Wake {
        Wake { parker, of, first: true }
    }
}

impl ProcessRegistry {
    /// Determines which wakes come before the dispatches. The other wakes are recorded if they may
    /// have to wait for drivers or callbacks, because their processes may end first.
    pub fn rank_wakes(&mut self) {
        let Outbox { dispatches, wakes, exits } = &mut self.outbox;
        let others_wait = !dispatches.is_empty() || *exits != 0;
        for wake in wakes {
            let Some(pid) = wake.of else { continue };
            wake.first |= match self.entries.get(pid) {
                Some(entry) => entry.phase == Phase::Zombie,
                None => self.threads.get(pid).is_none(),
            };
            if others_wait && !wake.first {
                self.pending_wakes.entry(pid).or_default().push(wake.parker.clone());
            }
        }
    }

    /// Removes the record of wakes that are done.
    pub fn woken(&mut self, wakes: &[Wake]) {
        for wake in wakes {
            let Some(pid) = wake.of else { continue };
            let Some(parkers) = self.pending_wakes.get_mut(&pid) else { continue };
            parkers.retain(|parker| !Arc::ptr_eq(parker, &wake.parker));
            if parkers.is_empty() {
                self.pending_wakes.remove(&pid);
            }
        }
    }
}

impl TableInner {
    /// Carries out what was recorded under the lock: first the wakes that a driver may depend on,
    /// then operations, then exit callbacks, then all other wakes.
    pub(super) fn carry_out(self: &Arc<TableInner>, outbox: Outbox) {
        let Outbox { dispatches, wakes, exits } = outbox;
        let wake = |first: bool| {
            let wakes = wakes.iter().filter(|wake| wake.first == first);
            wakes.for_each(|wake| wake.parker.unpark());
        };
        wake(true);
        let waited = !dispatches.is_empty() || exits != 0;
        let mut gone = Vec::new();
        let exit_ready = self.run_dispatches(dispatches, &mut gone);
        if exits != 0 || exit_ready {
            self.run_exit_callbacks(exits);
        }
        wake(false);
        if waited && !wakes.is_empty() {
            self.state.lock().process_registry.woken(&wakes);
        }
        self.drop_drivers(gone);
    }

    /// Drops retired drivers. Their `Drop` is code of the embedder: it runs last, and its panic
    /// counts as a panic in the driver's last operation.
    fn drop_drivers(&self, gone: Vec<RetiredDriver>) {
        for (key, driver) in gone {
            if !contain(|| drop(driver)) {
                self.fault(key.pid, Op::Reaped);
            }
        }
    }

    /// Runs dispatches, and the operations that are queued for the same drivers during these. Moves
    /// drivers that it may be the last owner of to `gone`. Returns whether an exit callback was
    /// waiting for one of the operations.
    fn run_dispatches(
        self: &Arc<TableInner>,
        mut dispatches: Vec<Dispatch>,
        gone: &mut Vec<RetiredDriver>,
    ) -> bool {
        let mut exit_ready = false;
        while !dispatches.is_empty() {
            self.run_each(&dispatches);
            let mut state = self.state.lock();
            if !state.process_registry.pending_exits.is_empty() {
                exit_ready |= state.process_registry.note_dispatched(&dispatches);
            }
            state.process_registry.queues.complete_dispatches(&mut dispatches, gone);
            if dispatches.is_empty() && state.process_registry.outbox.dispatches.capacity() == 0 {
                // the next dispatches reuse this memory
                core::mem::swap(&mut state.process_registry.outbox.dispatches, &mut dispatches);
            }
        }
        exit_ready
    }

    /// Runs dispatches under one panic handler. After a panic of one driver the others still run.
    fn run_each(&self, dispatches: &[Dispatch]) {
        let mut begun = 0;
        let perform = |dispatch: &Dispatch| {
            let Some(driver) = &dispatch.driver else { return };
            perform(&**driver, &dispatch.op);
        };
        while begun < dispatches.len() {
            let rest = || {
                for dispatch in &dispatches[begun..] {
                    begun += 1;
                    perform(dispatch);
                }
            };
            if !contain(rest) {
                let Dispatch { key, op, .. } = dispatches[begun - 1];
                self.fault(key.pid, op);
            }
        }
    }

    /// Publishes that a driver panicked.
    fn fault(&self, pid: Pid, op: Op) {
        self.state.lock().process_registry.subscribers.publish(pid, What::DriverFault(op));
    }
}
