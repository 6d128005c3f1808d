//! The way from the table to a driver: operations in the kernel's order, one at a time, outside of
//! the table's lock.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter;

use super::book::Token;
use crate::driver::{DriverProcess, Op};
use crate::kernel::{Arena, Id};

/// A driver, and the operations that have to wait until it has carried out an earlier one.
#[derive(Debug)]
pub(super) struct Lane {
    token: Token,
    /// Not here while an errand has it.
    driver: Option<Arc<dyn DriverProcess>>,
    waiting: VecDeque<Op>,
    /// While it is free.
    next_free: Option<Id<Lane>>,
}

/// An operation on its way, with the driver that is to carry it out. Who has it runs it with no
/// lock held, and brings it back.
#[derive(Debug)]
pub(super) struct Errand {
    lane: Id<Lane>,
    pub token: Token,
    /// Until it has been brought back.
    pub driver: Option<Arc<dyn DriverProcess>>,
    pub op: Op,
}

/// A driver that has carried out its last operation, and whose it was.
pub(super) type Gone = (Token, Arc<dyn DriverProcess>);

/// The drivers of a table's processes: each from its process's creation until it has carried out
/// [`Op::Reaped`], the last operation.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Arena<Lane>,
    /// One that can be used again. It is changed where it is: moving a new one into its place costs
    /// more than all else here.
    free: Option<Id<Lane>>,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes { lanes: Arena::new(), free: None }
    }
}

impl Lanes {
    pub fn add(&mut self, token: Token, driver: Arc<dyn DriverProcess>) -> Id<Lane> {
        let Some(id) = self.free else {
            let (waiting, next_free) = (VecDeque::new(), None);
            return self.lanes.insert(Lane { token, driver: Some(driver), waiting, next_free });
        };
        let lane = &mut self.lanes[id];
        self.free = lane.next_free;
        lane.token = token;
        lane.driver = Some(driver);
        id
    }

    /// Another operation: one more errand, written where it stays, or it waits until the one
    /// before it is back.
    #[inline(always)]
    pub fn send(&mut self, id: Id<Lane>, op: impl FnOnce() -> Op, errands: &mut Vec<Errand>) {
        let lane = &mut self.lanes[id];
        let token = lane.token;
        match lane.driver.take() {
            Some(driver) => {
                let driver = Some(driver);
                errands.extend(iter::once_with(move || Errand {
                    lane: id,
                    token,
                    driver,
                    op: op(),
                }));
            }
            None => lane.waiting.push_back(op()),
        }
    }

    /// Errands were run: those that are left are the next ones. Drivers whose processes are gone
    /// are given back in `gone`.
    pub fn take_back(&mut self, errands: &mut Vec<Errand>, gone: &mut Vec<Gone>) {
        let mut again = 0;
        for nth in 0..errands.len() {
            let errand = &mut errands[nth];
            let lane = &mut self.lanes[errand.lane];
            if let Some(op) = lane.waiting.pop_front() {
                errand.op = op;
                errands.swap(again, nth);
                again += 1;
            } else if matches!(errand.op, Op::Reaped) {
                gone.extend(errand.driver.take().map(|driver| (errand.token, driver)));
                lane.next_free = self.free.replace(errand.lane);
            } else {
                // nothing is there: exchanged, so that nothing has to be dropped
                core::mem::swap(&mut lane.driver, &mut errand.driver);
            }
        }
        errands.truncate(again);
    }
}
