//! The work after the lock is released: drivers carry out operations, exit callbacks run, sleeping
//! threads are woken.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll};

use super::commit::TableInner;
use super::driver_queue::{Dispatch, DriverQueue, RetiredDriver};
use super::event::What;
use super::query::ProcessData;
use super::registry::{Phase, ProcessKey, ProcessRegistry};
use super::{Process, ProcessTable};
use crate::abi::Pid;
use crate::driver::{DriverProcess, NullDriver, Op, perform};
use crate::kernel::Id;
use crate::sync::{Mutex, Parker, contain, thread_local};

/// The work that one critical section leaves for after the lock is released.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub dispatches: Vec<Dispatch>,
    /// New processes whose drivers the embedder makes.
    pub births: Vec<(ProcessKey, Id<DriverQueue>)>,
    pub wakes: Vec<Wake>,
    /// Values of the runtime's, whose `Drop` is code of the embedder.
    pub released: Vec<ProcessData>,
    /// The step, if it has exits for the exit callback; 0 if it has none.
    pub exits: u64,
}

impl Outbox {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
            && self.wakes.is_empty()
            && self.births.is_empty()
            && self.released.is_empty()
            && self.exits == 0
    }

    /// Wakes the threads that come before the dispatches.
    fn wake_first(&self) {
        self.wakes.iter().filter(|wake| wake.first).for_each(|wake| wake.parker.unpark());
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
        let Outbox { dispatches, births, wakes, exits, released: _ } = &mut self.outbox;
        let others_wait = !dispatches.is_empty() || !births.is_empty() || *exits != 0;
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

/// The work of steps that waits until the runtime asks for it.
#[derive(Debug, Default)]
pub(super) struct Requests {
    outboxes: Mutex<VecDeque<Outbox>>,
    parker: Arc<Parker>,
}

/// What a driver has to do next: its process, its queue and the operation; `None` for a driver that
/// the embedder makes.
#[cfg(feature = "serde")]
pub(super) type NextOp = (ProcessKey, Id<DriverQueue>, Option<Op>);

#[cfg(feature = "serde")]
impl Requests {
    /// What drivers have to do next, step by step.
    pub fn steps(&self) -> Vec<Vec<NextOp>> {
        let work = |outbox: &Outbox| {
            let births = outbox.births.iter().map(|(key, queue)| (*key, *queue, None));
            let dispatches = outbox.dispatches.iter();
            births.chain(dispatches.map(|one| (one.key, one.queue, Some(one.op)))).collect()
        };
        self.outboxes.lock().iter().map(work).collect()
    }
}

/// The work of steps that drivers caused in their operations, with their tables.
type Deferred = VecDeque<(Arc<TableInner>, Outbox)>;

thread_local! {
    /// Whether the thread runs code of a driver: what the calls of this code leave to do is
    /// deferred, so that drivers that call each other's tables do not nest.
    static IN_OPERATION: Cell<bool> = const { Cell::new(false) };
    /// The deferred work, in the order of the steps.
    static DEFERRED: RefCell<Deferred> = const { RefCell::new(Deferred::new()) };
}

/// Runs code of drivers. `act` contains their panics.
fn operate<R>(act: impl FnOnce() -> R) -> R {
    IN_OPERATION.with(|own| own.set(true));
    let result = act();
    IN_OPERATION.with(|own| own.set(false));
    result
}

/// Carries out what the operation in which this thread is, and operations before it, have left to
/// do so far: the thread is about to sleep, and may wait for it.
pub(crate) fn before_sleep() {
    if IN_OPERATION.with(|own| own.replace(false)) {
        // drivers that are called now nest: only as deep as operations sleep
        carry_out_deferred();
        IN_OPERATION.with(|own| own.set(true));
    }
}

/// Carries out deferred work, and the work that this defers, one after the other.
fn carry_out_deferred() {
    // a thread that ends has no list any more
    let first = || DEFERRED.try_with(|deferred| deferred.borrow_mut().pop_front()).ok().flatten();
    while let Some((table, outbox)) = first() {
        table.carry_out_now(outbox);
    }
}

impl TableInner {
    /// Carries out what was recorded under the lock: first the wakes that a driver may depend on,
    /// then operations, then exit callbacks, then all other wakes. In an operation of a driver, all
    /// but the first wakes are deferred until it has returned.
    pub(super) fn carry_out(self: &Arc<TableInner>, outbox: Outbox) {
        let is_simple = outbox.dispatches.is_empty() && outbox.births.is_empty();
        if is_simple && outbox.exits == 0 && outbox.released.is_empty() {
            return outbox.wakes.iter().for_each(|wake| wake.parker.unpark());
        }
        if let Some(requests) = &self.requests {
            outbox.wake_first();
            requests.outboxes.lock().push_back(outbox);
            return requests.parker.unpark();
        }
        self.carry_out_here(outbox);
    }

    /// Carries out the work that waits for a request. Returns the number of steps.
    pub(super) fn dispatch_requests(self: &Arc<TableInner>) -> usize {
        let mut steps = 0;
        while let Some(outbox) = self.next_request() {
            self.carry_out_here(outbox);
            steps += 1;
        }
        steps
    }

    fn next_request(&self) -> Option<Outbox> {
        self.requests.as_ref()?.outboxes.lock().pop_front()
    }

    /// Whether work waits for a request; otherwise `context` is woken when there is some.
    pub(super) fn poll_requests(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(requests) = &self.requests else { return Poll::Pending };
        loop {
            if !requests.outboxes.lock().is_empty() {
                return Poll::Ready(());
            }
            if !requests.parker.poll(context.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// Carries out an outbox in this thread, or defers it in an operation.
    #[inline]
    pub(super) fn carry_out_here(self: &Arc<TableInner>, outbox: Outbox) {
        if IN_OPERATION.with(Cell::get) {
            return self.defer(outbox);
        }
        self.carry_out_now(outbox);
        carry_out_deferred();
    }

    #[cold]
    fn defer(self: &Arc<TableInner>, outbox: Outbox) {
        outbox.wake_first();
        let mut outbox = Some(outbox);
        let _ = DEFERRED.try_with(|deferred| {
            let work = outbox.take().map(|outbox| (self.clone(), outbox));
            deferred.borrow_mut().extend(work);
        });
        if let Some(outbox) = outbox {
            // a thread that ends has no list any more: drivers nest there
            self.carry_out_now(outbox);
        }
    }

    /// Carries out an outbox.
    fn carry_out_now(self: &Arc<TableInner>, outbox: Outbox) {
        outbox.wake_first();
        let Outbox { mut dispatches, births, wakes, exits, released } = outbox;
        let mut gone = Vec::new();
        let exit_ready = operate(|| {
            births.into_iter().for_each(|birth| self.make_driver(birth, &mut dispatches));
            self.run_dispatches(dispatches, &mut gone)
        });
        if exits != 0 || exit_ready {
            self.run_exit_callbacks(exits);
        }
        wakes.iter().filter(|wake| !wake.first).for_each(|wake| wake.parker.unpark());
        if !wakes.is_empty() {
            self.state.lock().process_registry.woken(&wakes);
        }
        if !gone.is_empty() || !released.is_empty() {
            operate(|| {
                self.drop_drivers(gone);
                released.into_iter().for_each(|value| {
                    contain(|| drop(value));
                });
            });
        }
    }

    /// Has the embedder make the driver of a new process.
    fn make_driver(
        &self,
        (key, queue): (ProcessKey, Id<DriverQueue>),
        dispatches: &mut Vec<Dispatch>,
    ) {
        let mut driver: Option<Arc<dyn DriverProcess>> = None;
        let handle = self.state.lock().handle.upgrade();
        if let (Some(factory), Some(handle)) = (&self.drivers, handle) {
            contain(|| driver = factory(&Process::new(ProcessTable(handle), key)));
        }
        // operations may wait, and an exit callback for these: they need a driver
        let driver = driver.unwrap_or_else(|| Arc::new(NullDriver));
        self.state.lock().process_registry.queues.furnish(queue, driver, dispatches);
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
        let woken = {
            let subscribers = &mut self.state.lock().process_registry.subscribers;
            subscribers.publish(pid, What::DriverFault(op));
            core::mem::take(&mut subscribers.woken)
        };
        woken.iter().for_each(|parker| parker.unpark());
    }
}
