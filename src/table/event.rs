//! The events that a table publishes: each change of a process, with its cause.

use alloc::vec::Vec;

use crate::abi::{Pid, SigInfo, Signal, WaitStatus};
use crate::driver::Op;
use crate::kernel::{Cause, Consequence, Effect};
use crate::sync::channel::{Receiver, Sender, TrySendError, bounded};
use crate::sync::room;

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
    list: Vec<Subscriber>,
    number: u64,
}

#[derive(Debug)]
struct Subscriber {
    sender: Sender<TableEvent>,
    lost: u64,
}

impl Subscribers {
    /// Adds a receiver; `None` if there are already `limit` of them.
    pub fn add(&mut self, capacity: usize, limit: u32) -> Option<Receiver<TableEvent>> {
        if self.list.len() >= limit as usize {
            return None;
        }
        // space for one event and for the `Lost` event before it
        let (sender, receiver) = bounded(capacity.max(2));
        self.list.push(Subscriber { sender, lost: 0 });
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
        self.list.retain_mut(|subscriber| subscriber.send(&event));
    }
}

impl Subscriber {
    /// Sends an event; `false` if the receiver was dropped.
    fn send(&mut self, event: &TableEvent) -> bool {
        if self.lost > 0 {
            // with space for one event only, a `Lost` event would replace this event, and another
            // `Lost` would follow
            if room(&self.sender) < 2 {
                self.lost += 1;
                return true;
            }
            let what = What::Lost(self.lost);
            let (number, none) = (event.number - 1, Pid(0));
            let note = TableEvent { number, pid: none, tid: none, what, cause: None };
            match self.sender.try_send(note) {
                Ok(()) => self.lost = 0,
                Err(TrySendError::Full(_)) => {
                    self.lost += 1;
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
