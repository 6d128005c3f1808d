//! The events that a table publishes: each change of a process, with its cause.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::event_receiver::{EventQueue, EventReceiver};
use crate::abi::{Pid, SigInfo, Signal, WaitStatus};
use crate::driver::Op;
use crate::kernel::{Cause, Consequence, Effect};
use crate::sync::Parker;

/// A change of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableEvent {
    /// The position of this event among all events of the table. A gap in the numbers always comes
    /// with a [`What::Lost`].
    pub number: u64,
    /// The process.
    pub pid: Pid,
    /// The thread that the event concerns; the number of the process if the event concerns the
    /// whole process.
    pub tid: Pid,
    /// What happened.
    pub what: What,
    /// The cause; `None` for an event that does not come from the model (a driver's fault, lost
    /// events).
    pub cause: Option<Cause>,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum What {
    /// The process was created, by [`Cause::actor`].
    Created,
    /// The process has a new thread, [`TableEvent::tid`], created by [`Cause::actor`].
    ThreadCreated,
    /// The thread has ended, or has the number of the process because it executed a program
    /// (EXEC-11). The process continues, or its end follows.
    ThreadEnded,
    /// The process executes a new program.
    Executed,
    /// The process stopped.
    Stopped(Signal),
    /// The process continued.
    Continued,
    /// The process ended.
    Exited(WaitStatus),
    /// The zombie is reaped. Its number is free, unless a group or a session uses it.
    Reaped,
    /// A signal was generated for the process, or for one of its threads.
    Generated(SigInfo),
    /// The driver of the process panicked in this operation.
    DriverFault(Op),
    /// This number of events before this one found the channel full and were dropped.
    Lost(u64),
}

impl What {
    /// The published form of a consequence; `None` if it is not published.
    fn of(consequence: &Consequence) -> Option<What> {
        Some(match consequence {
            Consequence::Created => What::Created,
            Consequence::ThreadCreated => What::ThreadCreated,
            Consequence::ThreadEnded => What::ThreadEnded,
            Consequence::Executed => What::Executed,
            Consequence::Stopped(signal) => What::Stopped(*signal),
            Consequence::Continued => What::Continued,
            Consequence::Ended(status) => What::Exited(*status),
            Consequence::Reaped => What::Reaped,
            Consequence::Generated(info) | Consequence::Forwarded(info) => What::Generated(*info),
            _ => return None,
        })
    }
}

/// The receivers of a table's events.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    list: Vec<Arc<EventQueue>>,
    number: u64,
    /// The receivers that wait for an event that they have now.
    pub woken: Vec<Arc<Parker>>,
}

impl Subscribers {
    /// Adds a receiver; `None` if there are already `limit` of them. A receiver that was dropped
    /// does not count.
    pub fn add(&mut self, capacity: usize, limit: u32) -> Option<EventReceiver> {
        self.list.retain(|queue| Arc::strong_count(queue) > 1);
        if self.list.len() >= limit as usize {
            return None;
        }
        let (queue, receiver) = EventQueue::new(capacity);
        self.list.push(queue);
        Some(receiver)
    }

    /// Publishes an effect of the model. Costs a message for each subscriber.
    #[inline]
    pub fn effect(&mut self, effect: &Effect, process_of: impl Fn(Pid) -> Option<Pid>) {
        if self.list.is_empty() {
            return;
        }
        let Some(what) = What::of(&effect.what) else { return };
        let tid = effect.pid;
        let known = if what == What::ThreadCreated { effect.cause.actor } else { tid };
        // a process that is being created has no entry yet
        let pid = process_of(known).unwrap_or(tid);
        self.send(pid, tid, what, Some(effect.cause));
    }

    /// Publishes an event that does not come from the model.
    pub fn publish(&mut self, pid: Pid, what: What) {
        self.send(pid, pid, what, None);
    }

    fn send(&mut self, pid: Pid, tid: Pid, what: What, cause: Option<Cause>) {
        self.number += 1;
        let event = TableEvent { number: self.number, pid, tid, what, cause };
        let woken = &mut self.woken;
        self.list.retain(|queue| {
            let is_alive = Arc::strong_count(queue) > 1;
            if is_alive {
                woken.extend(queue.push(&event));
            }
            is_alive
        });
    }

    /// The table ends: receivers get the events that are there, and no others.
    pub fn close(&mut self) -> impl Iterator<Item = Arc<Parker>> {
        core::mem::take(&mut self.list).into_iter().map(|queue| queue.close())
    }
}
