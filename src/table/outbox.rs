//! What is done once the lock is free: drivers are told, callbacks run, sleepers are woken.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::book::{Book, Phase};
use super::commit::Shared;
use super::event::What;
use super::lane::{Errand, Gone};
use crate::abi::Pid;
use crate::driver::{Op, perform};
use crate::sync::{Parker, contain};

/// What is to be done once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub errands: Vec<Errand>,
    pub wakes: Vec<Wake>,
    /// The step, if processes ended in it that are to be announced: not 0.
    pub exits: u64,
}

impl Outbox {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.errands.is_empty() && self.wakes.is_empty() && self.exits == 0
    }
}

/// Somebody who is to be woken.
#[derive(Debug)]
pub(super) struct Wake {
    parker: Arc<Parker>,
    /// The thread whose call it was, or the process whose wait.
    of: Option<Pid>,
    /// Before drivers are told: the thread or process has ended, or executes another program, and its driver may
    /// wait until its threads have left their calls.
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

impl Book {
    /// Whom to wake before drivers are told. The others are noted, if they may have to wait for
    /// drivers or callbacks: their processes may end before.
    pub fn rank_wakes(&mut self) {
        let Outbox { errands, wakes, exits } = &mut self.outbox;
        let others_wait = !errands.is_empty() || *exits != 0;
        for wake in wakes {
            let Some(pid) = wake.of else { continue };
            wake.first |= match self.entries.get(pid) {
                Some(entry) => entry.phase == Phase::Zombie,
                None => self.threads.get(pid).is_none(),
            };
            if others_wait && !wake.first {
                self.unwoken.entry(pid).or_default().push(wake.parker.clone());
            }
        }
    }

    /// These have been woken.
    pub fn woken(&mut self, wakes: &[Wake]) {
        for wake in wakes {
            let Some(pid) = wake.of else { continue };
            let Some(parkers) = self.unwoken.get_mut(&pid) else { continue };
            parkers.retain(|parker| !Arc::ptr_eq(parker, &wake.parker));
            if parkers.is_empty() {
                self.unwoken.remove(&pid);
            }
        }
    }
}

impl Shared {
    /// What was noted under the lock, now that it is free: drivers before callbacks, and these
    /// before anybody is woken, but for those whom a driver may wait for.
    pub(super) fn carry_out(self: &Arc<Shared>, outbox: Outbox) {
        let Outbox { errands, wakes, exits } = outbox;
        let wake = |first: bool| {
            let wakes = wakes.iter().filter(|wake| wake.first == first);
            wakes.for_each(|wake| wake.parker.unpark());
        };
        wake(true);
        let waited = !errands.is_empty() || exits != 0;
        let mut gone = Vec::new();
        let told = self.run_errands(errands, &mut gone);
        if exits != 0 || told {
            self.announce(exits);
        }
        wake(false);
        if waited && !wakes.is_empty() {
            self.state.lock().book.woken(&wakes);
        }
        self.drop_drivers(gone);
    }

    /// Their `Drop` is foreign: it comes last, and a panic of it counts as one in their last
    /// operation.
    fn drop_drivers(&self, gone: Vec<Gone>) {
        for (token, driver) in gone {
            if !contain(|| drop(driver)) {
                self.fault(token.pid, Op::Reaped);
            }
        }
    }

    /// Has drivers carry out operations, and those that come for the same drivers meanwhile. Gives
    /// back drivers that it may be the last owner of in `gone`; whether a callback has waited for one.
    fn run_errands(self: &Arc<Shared>, mut errands: Vec<Errand>, gone: &mut Vec<Gone>) -> bool {
        let mut told = false;
        while !errands.is_empty() {
            self.run_each(&errands);
            let mut state = self.state.lock();
            if !state.book.notices.is_empty() {
                told |= state.book.carried_out(&errands);
            }
            state.book.lanes.take_back(&mut errands, gone);
            if errands.is_empty() && state.book.outbox.errands.capacity() == 0 {
                // the next ones are noted in the same memory
                core::mem::swap(&mut state.book.outbox.errands, &mut errands);
            }
        }
        told
    }

    /// One net for all of them, in which a driver that panics does not keep the others.
    fn run_each(&self, errands: &[Errand]) {
        let mut begun = 0;
        let perform = |errand: &Errand| {
            let Some(driver) = &errand.driver else { return };
            perform(&**driver, &errand.op);
        };
        while begun < errands.len() {
            let rest = || {
                for errand in &errands[begun..] {
                    begun += 1;
                    perform(errand);
                }
            };
            if !contain(rest) {
                let Errand { token, op, .. } = errands[begun - 1];
                self.fault(token.pid, op);
            }
        }
    }

    /// A driver panicked.
    fn fault(&self, pid: Pid, op: Op) {
        self.state.lock().book.subscribers.publish(pid, What::DriverFault(op));
    }
}
