//! The way from the table to a driver: operations in the kernel's order, one at a time, outside of
//! the table's lock.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter;

use super::registry::ProcessKey;
use crate::driver::{DriverProcess, Op};
use crate::kernel::{Arena, Id};

/// A driver, and the operations that have to wait until it has carried out an earlier one.
#[derive(Debug)]
pub(super) struct DriverQueue {
    key: ProcessKey,
    /// Not here while a dispatch has it.
    driver: Option<Arc<dyn DriverProcess>>,
    waiting: VecDeque<Op>,
    /// While it is free.
    next_free: Option<Id<DriverQueue>>,
}

/// An operation on its way, with the driver that is to carry it out. Who has it runs it with no
/// lock held, and brings it back.
#[derive(Debug)]
pub(super) struct Dispatch {
    queue: Id<DriverQueue>,
    pub key: ProcessKey,
    /// Until it has been brought back.
    pub driver: Option<Arc<dyn DriverProcess>>,
    pub op: Op,
}

/// A driver that has carried out its last operation, and whose it was.
pub(super) type RetiredDriver = (ProcessKey, Arc<dyn DriverProcess>);

/// The drivers of a table's processes: each from its process's creation until it has carried out
/// [`Op::Reaped`], the last operation.
#[derive(Debug)]
pub(super) struct DriverQueues {
    queues: Arena<DriverQueue>,
    /// One that can be used again. It is changed where it is: moving a new one into its place costs
    /// more than all else here.
    free: Option<Id<DriverQueue>>,
}

impl Default for DriverQueues {
    fn default() -> DriverQueues {
        DriverQueues { queues: Arena::new(), free: None }
    }
}

impl DriverQueues {
    pub fn add(&mut self, key: ProcessKey, driver: Arc<dyn DriverProcess>) -> Id<DriverQueue> {
        let Some(id) = self.free else {
            let (waiting, next_free) = (VecDeque::new(), None);
            return self.queues.insert(DriverQueue {
                key,
                driver: Some(driver),
                waiting,
                next_free,
            });
        };
        let queue = &mut self.queues[id];
        self.free = queue.next_free;
        queue.key = key;
        queue.driver = Some(driver);
        id
    }

    /// Another operation: one more dispatch, written where it stays, or it waits until the one
    /// before it is back.
    #[inline(always)]
    pub fn send(
        &mut self,
        id: Id<DriverQueue>,
        op: impl FnOnce() -> Op,
        dispatches: &mut Vec<Dispatch>,
    ) {
        let queue = &mut self.queues[id];
        let key = queue.key;
        match queue.driver.take() {
            Some(driver) => {
                let driver = Some(driver);
                dispatches.extend(iter::once_with(move || Dispatch {
                    queue: id,
                    key,
                    driver,
                    op: op(),
                }));
            }
            None => queue.waiting.push_back(op()),
        }
    }

    /// Dispatches were run: those that are left are the next ones. Drivers whose processes are gone
    /// are returned in `gone`.
    pub fn complete_dispatches(
        &mut self,
        dispatches: &mut Vec<Dispatch>,
        gone: &mut Vec<RetiredDriver>,
    ) {
        let mut again = 0;
        for nth in 0..dispatches.len() {
            let dispatch = &mut dispatches[nth];
            let queue = &mut self.queues[dispatch.queue];
            if let Some(op) = queue.waiting.pop_front() {
                dispatch.op = op;
                dispatches.swap(again, nth);
                again += 1;
            } else if matches!(dispatch.op, Op::Reaped) {
                gone.extend(dispatch.driver.take().map(|driver| (dispatch.key, driver)));
                queue.next_free = self.free.replace(dispatch.queue);
            } else {
                // nothing is there: exchanged, so that nothing has to be dropped
                core::mem::swap(&mut queue.driver, &mut dispatch.driver);
            }
        }
        dispatches.truncate(again);
    }
}
