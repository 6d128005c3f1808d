//! The driver queues: the table sends operations to each driver in the kernel's order, one at a
//! time, outside of the table's lock.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter;

use super::registry::ProcessKey;
use crate::driver::{DriverProcess, Op};
use crate::kernel::{Arena, Id};

/// A driver, and the operations that wait until the driver has carried out an earlier one.
#[derive(Debug)]
pub(super) struct DriverQueue {
    key: ProcessKey,
    /// `None` while a dispatch owns the driver.
    driver: Option<Arc<dyn DriverProcess>>,
    waiting: VecDeque<Op>,
    /// The next free queue, while this one is free.
    next_free: Option<Id<DriverQueue>>,
}

/// An operation that is being dispatched, with its driver. The dispatching thread owns it, runs it
/// without a lock, and returns it to the queue.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub queue: Id<DriverQueue>,
    pub key: ProcessKey,
    /// `None` once the driver is back in its queue.
    pub driver: Option<Arc<dyn DriverProcess>>,
    pub op: Op,
}

/// A driver that has carried out its last operation, and the key of its process.
pub(super) type RetiredDriver = (ProcessKey, Arc<dyn DriverProcess>);

/// The drivers of a table's processes. A driver is here from the creation of its process until it
/// has carried out [`Op::Reaped`], the last operation.
#[derive(Debug)]
pub(super) struct DriverQueues {
    queues: Arena<DriverQueue>,
    /// The first free queue. A free queue is reused in place: moving a new one there costs more
    /// than all other steps here.
    free: Option<Id<DriverQueue>>,
}

impl Default for DriverQueues {
    fn default() -> DriverQueues {
        DriverQueues { queues: Arena::new(), free: None }
    }
}

impl DriverQueues {
    /// Adds a queue. Without a driver operations wait until [`DriverQueues::furnish`].
    pub fn add(
        &mut self,
        key: ProcessKey,
        driver: Option<Arc<dyn DriverProcess>>,
    ) -> Id<DriverQueue> {
        let Some(id) = self.free else {
            let (waiting, next_free) = (VecDeque::new(), None);
            return self.queues.insert(DriverQueue { key, driver, waiting, next_free });
        };
        let queue = &mut self.queues[id];
        self.free = queue.next_free;
        queue.key = key;
        queue.driver = driver;
        id
    }

    /// Gives a queue its driver, and adds the first operation that waits for it.
    pub fn furnish(
        &mut self,
        id: Id<DriverQueue>,
        driver: Arc<dyn DriverProcess>,
        dispatches: &mut Vec<Dispatch>,
    ) {
        let queue = &mut self.queues[id];
        let (key, mut driver) = (queue.key, Some(driver));
        match queue.waiting.pop_front() {
            Some(op) => dispatches.push(Dispatch { queue: id, key, driver, op }),
            None => core::mem::swap(&mut queue.driver, &mut driver),
        }
    }

    /// Adds an operation: as a dispatch, constructed in place, or in the queue while an earlier
    /// operation of the driver is being dispatched.
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

    /// Whether the driver of a queue has no operation to carry out.
    #[cfg(feature = "serde")]
    pub fn has_driver(&self, id: Id<DriverQueue>) -> bool {
        self.queues[id].driver.is_some()
    }

    /// The operations that wait until the driver has carried out an earlier one.
    #[cfg(feature = "serde")]
    pub fn waiting(&self, id: Id<DriverQueue>) -> impl Iterator<Item = Op> + '_ {
        self.queues[id].waiting.iter().copied()
    }

    /// Adds an operation for a driver that is not there yet, before the others.
    #[cfg(feature = "serde")]
    pub fn push_first(&mut self, id: Id<DriverQueue>, op: Op) {
        self.queues[id].waiting.push_front(op);
    }

    /// Adds an operation for a driver that is not there yet.
    #[cfg(feature = "serde")]
    pub fn push(&mut self, id: Id<DriverQueue>, op: Op) {
        self.queues[id].waiting.push_back(op);
    }

    /// The process of a queue has ended: its driver does not carry out earlier operations any more
    /// that it has not begun, as they are for code that does not run any more.
    pub fn process_ended(&mut self, id: Id<DriverQueue>) {
        self.queues[id].waiting.retain(|op| matches!(op, Op::ClearTid { .. }));
    }

    /// Returns the drivers of finished dispatches to their queues. The dispatches that remain are
    /// the next ones to run. Drivers of reaped processes are moved to `gone`.
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
                // `queue.driver` is `None` here: a swap, unlike an assignment, drops nothing
                core::mem::swap(&mut queue.driver, &mut dispatch.driver);
            }
        }
        dispatches.truncate(again);
    }
}
