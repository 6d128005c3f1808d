//! What is done once the lock is free: drivers are told, callbacks run, sleepers are woken.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::commit::TableInner;
use super::driver_queue::{Dispatch, RetiredDriver};
use super::event::What;
use super::registry::{Phase, ProcessRegistry};
use crate::abi::Pid;
use crate::driver::{Op, perform};
use crate::sync::{Parker, contain};

/// What is to be done once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub dispatches: Vec<Dispatch>,
    pub wakes: Vec<Wake>,
    /// The step, if processes ended in it that are to be announced: not 0.
    pub exits: u64,
}

impl Outbox {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty() && self.wakes.is_empty() && self.exits == 0
    }
}

/// Somebody who is to be woken.
#[derive(Debug)]
pub(super) struct Wake {
    parker: Arc<Parker>,
    /// The thread whose call it was, or the process whose wait.
    of: Option<Pid>,
    /// Before drivers are told: the thread or process has ended, or executes another program, and
    /// its driver may wait until its threads have left their calls.
    first: bool,
}

impl Wake {
    pub fn new(parker: Arc<Parker>, of: Option<Pid>) -> Wake {
        Wake { parker, of, first: false }
    }

    /// Before drivers are told.
    pub fn first(parker: Arc<Parker>, of: Option<Pid>) -> Wake {
        Wake { parker, of, first: true }
    }
}

impl ProcessRegistry {
    /// Whom to wake before drivers are told. The others are noted, if they may have to wait for
    /// drivers or callbacks: their processes may end before.
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

    /// These have been woken.
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
    /// What was noted under the lock, now that it is free: drivers before callbacks, and these
    /// before anybody is woken, but for those whom a driver may wait for.
    pub(super) fn carry_out(self: &Arc<TableInner>, outbox: Outbox) {
        let Outbox { dispatches, wakes, exits } = outbox;
        let wake = |first: bool| {
            let wakes = wakes.iter().filter(|wake| wake.first == first);
            wakes.for_each(|wake| wake.parker.unpark());
        };
        wake(true);
        let waited = !dispatches.is_empty() || exits != 0;
        let mut gone = Vec::new();
        let told = self.run_dispatches(dispatches, &mut gone);
        if exits != 0 || told {
            self.run_exit_callbacks(exits);
        }
        wake(false);
        if waited && !wakes.is_empty() {
            self.state.lock().process_registry.woken(&wakes);
        }
        self.drop_drivers(gone);
    }

    /// Their `Drop` is foreign: it comes last, and a panic of it counts as one in their last
    /// operation.
    fn drop_drivers(&self, gone: Vec<RetiredDriver>) {
        for (key, driver) in gone {
            if !contain(|| drop(driver)) {
                self.fault(key.pid, Op::Reaped);
            }
        }
    }

    /// Has drivers carry out operations, and those that come for the same drivers meanwhile.
    /// Puts drivers that it may be the last owner of in `gone`; whether a callback has
    /// waited for one.
    fn run_dispatches(
        self: &Arc<TableInner>,
        mut dispatches: Vec<Dispatch>,
        gone: &mut Vec<RetiredDriver>,
    ) -> bool {
        let mut told = false;
        while !dispatches.is_empty() {
            self.run_each(&dispatches);
            let mut state = self.state.lock();
            if !state.process_registry.pending_exits.is_empty() {
                told |= state.process_registry.note_dispatched(&dispatches);
            }
            state.process_registry.queues.complete_dispatches(&mut dispatches, gone);
            if dispatches.is_empty() && state.process_registry.outbox.dispatches.capacity() == 0 {
                // the next ones are noted in the same memory
                core::mem::swap(&mut state.process_registry.outbox.dispatches, &mut dispatches);
            }
        }
        told
    }

    /// One net for all of them, in which a driver that panics does not keep the others.
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

    /// A driver panicked.
    fn fault(&self, pid: Pid, op: Op) {
        self.state.lock().process_registry.subscribers.publish(pid, What::DriverFault(op));
    }
}
