//! The queue of events between a table and a subscriber.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::task::{Context, Poll};
use core::time::Duration;
use std::panic::RefUnwindSafe;
use std::time::Instant;

use super::event::{TableEvent, What};
use super::outbox::before_sleep;
use crate::abi::Pid;
use crate::sync::{HAS_THREADS, Mutex, Parker};

/// Receives the events of a table: [`ProcessTable::subscribe`](super::ProcessTable::subscribe).
///
/// One thread or one future at a time may wait; any number may receive events that are there.
#[derive(Debug)]
pub struct EventReceiver(Arc<EventQueue>);

#[derive(Debug)]
pub(super) struct EventQueue {
    state: Mutex<QueueState>,
    parker: Arc<Parker>,
}

#[derive(Debug)]
struct QueueState {
    events: VecDeque<TableEvent>,
    /// The most events; memory is allocated as it is used.
    capacity: usize,
    /// The number of events that were dropped and that no [`What::Lost`] in the queue has.
    unreported: u64,
    /// The number of all events that were dropped.
    lost: u64,
    /// A receiver waits, or has waited, since the last wake.
    is_awaited: bool,
    /// The table has ended: no further event comes.
    is_closed: bool,
}

// no code of the embedder runs while its lock is held
impl RefUnwindSafe for EventQueue {}

impl EventQueue {
    /// A queue of at most `capacity` events, and at least two: one event, and the
    /// [`What::Lost`] before it.
    pub fn new(capacity: usize) -> (Arc<EventQueue>, EventReceiver) {
        let state = QueueState {
            events: VecDeque::new(),
            capacity: capacity.max(2),
            unreported: 0,
            lost: 0,
            is_awaited: false,
            is_closed: false,
        };
        let queue = Arc::new(EventQueue { state: Mutex::new(state), parker: Parker::new() });
        (queue.clone(), EventReceiver(queue))
    }

    /// Adds an event, or counts it as lost. Returns the parker to unpark.
    pub fn push(&self, event: &TableEvent) -> Option<Arc<Parker>> {
        let mut state = self.state.lock();
        let room = state.capacity - state.events.len();
        // with room for one event only, a `Lost` would replace this event, and another one follow
        if room < if state.unreported > 0 { 2 } else { 1 } {
            state.unreported += 1;
            state.lost += 1;
            return None;
        }
        if state.unreported > 0 {
            let what = What::Lost(core::mem::take(&mut state.unreported));
            let (number, none) = (event.number - 1, Pid(0));
            let lost = TableEvent { number, pid: none, tid: none, what, cause: None };
            state.events.push_back(lost);
        }
        state.events.push_back(event.clone());
        core::mem::take(&mut state.is_awaited).then(|| self.parker.clone())
    }

    /// No further event comes. Returns the parker to unpark.
    pub fn close(&self) -> Arc<Parker> {
        self.state.lock().is_closed = true;
        self.parker.clone()
    }
}

impl EventReceiver {
    /// The next event, if there is one. It never waits.
    pub fn try_recv(&self) -> Option<TableEvent> {
        self.0.state.lock().events.pop_front()
    }

    /// The events that are there. It never waits.
    pub fn try_iter(&self) -> impl Iterator<Item = TableEvent> {
        core::iter::from_fn(|| self.try_recv())
    }

    /// `Some(None)` if no event comes any more.
    fn take_or_await(&self) -> Option<Option<TableEvent>> {
        let mut state = self.0.state.lock();
        let next = state.events.pop_front();
        state.is_awaited = next.is_none();
        if next.is_some() || state.is_closed { Some(next) } else { None }
    }

    /// Waits for the next event; `None` when the table has ended and all events were received.
    #[cfg(not(all(target_family = "wasm", not(target_feature = "atomics"))))]
    pub fn recv(&self) -> Option<TableEvent> {
        loop {
            if let Some(next) = self.take_or_await() {
                return next;
            }
            before_sleep();
            self.0.parker.park(None);
        }
    }

    /// Waits for the next event until `timeout` of real time has passed; `None` then, and when the
    /// table has ended and all events were received.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<TableEvent> {
        let deadline = HAS_THREADS.then(Instant::now).and_then(|now| now.checked_add(timeout));
        loop {
            if let Some(next) = self.take_or_await() {
                return next;
            }
            before_sleep();
            if !self.0.parker.park(deadline) {
                return self.try_recv();
            }
        }
    }

    /// The next event for an executor: with [`core::future::poll_fn`] it is a future, and with
    /// `futures::stream::poll_fn` a stream. `Ready(None)` when the table has ended and all events
    /// were received.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Option<TableEvent>> {
        loop {
            if let Some(next) = self.take_or_await() {
                return Poll::Ready(next);
            }
            if !self.0.parker.poll(context.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// The number of events that were dropped so far because the queue was full, known at once; the
    /// position of each gap is that of a [`What::Lost`].
    pub fn lost(&self) -> u64 {
        self.0.state.lock().lost
    }

    /// The number of events that are there.
    pub fn len(&self) -> usize {
        self.0.state.lock().events.len()
    }

    /// Whether no event is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        // the table drops the queue under its lock
        self.0.parker.forget_waker();
    }
}

/// The events until the table ends. Each step waits.
#[cfg(not(all(target_family = "wasm", not(target_feature = "atomics"))))]
impl Iterator for EventReceiver {
    type Item = TableEvent;

    fn next(&mut self) -> Option<TableEvent> {
        self.recv()
    }
}
