//! The way from the table to a driver: operations in the kernel's order, one at a time, outside of
//! the table's lock.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::Pid;
use crate::driver::{DriverProcess, Op, Reporter, perform};
use crate::sync::Mutex;

/// The operations for one driver that were decided and not carried out.
#[derive(Debug)]
pub(super) struct Lane {
    pub pid: Pid,
    driver: Arc<dyn DriverProcess>,
    reporter: Reporter,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    ops: VecDeque<Op>,
    /// Some thread is carrying them out, and will carry out those that come meanwhile.
    busy: bool,
}

impl Lane {
    pub fn new(pid: Pid, driver: Arc<dyn DriverProcess>, reporter: Reporter) -> Arc<Lane> {
        Arc::new(Lane { pid, driver, reporter, queue: Mutex::default() })
    }

    /// Adds an operation. The table's lock is held: this gives the order.
    pub fn push(&self, op: Op) {
        self.queue.lock().ops.push_back(op);
    }

    /// Carries out what is there, unless a thread is about it. No lock is held. `fault` hears of
    /// operations in which the driver panicked.
    pub fn carry_out(&self, fault: impl Fn(Op)) {
        let mut first = true;
        while let Some(op) = self.next(first) {
            first = false;
            let act = AssertUnwindSafe(|| perform(&*self.driver, op, &self.reporter));
            if catch_unwind(act).is_err() {
                fault(op);
            }
        }
    }

    fn next(&self, first: bool) -> Option<Op> {
        let mut queue = self.queue.lock();
        if first && queue.busy {
            return None;
        }
        let op = queue.ops.pop_front();
        queue.busy = op.is_some();
        op
    }
}
