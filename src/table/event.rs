//! What a table publishes: each change of a process, with its cause.

use alloc::vec::Vec;

use crate::abi::{Pid, SigInfo, Signal, WaitStatus};
use crate::driver::Op;
use crate::kernel::{Cause, Consequence, Effect};
use crate::sync::channel::{Receiver, Sender, TrySendError, bounded};
use crate::sync::room;

/// Something that happened to a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableEvent {
    /// Its place among all events of the table. A gap is never without a [`What::Lost`].
    pub number: u64,
    /// The process.
    pub pid: Pid,
    /// The thread that it is about; the number of the process where it is about all of that.
    pub tid: Pid,
    /// What happened.
    pub what: What,
    /// Why; `None` for what the model has no part in (a driver's fault, lost events).
    pub cause: Option<Cause>,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The process was created, by [`Cause::actor`].
    Created,
    /// It has got a thread, [`TableEvent::tid`], by [`Cause::actor`].
    ThreadCreated,
    /// The thread has ended, or has the number of the process since it executed a program
    /// (EXEC-11). The process goes on, or its end follows.
    ThreadEnded,
    /// It executes a new program.
    Executed,
    /// It stopped.
    Stopped(Signal),
    /// It continued.
    Continued,
    /// It ended.
    Exited(WaitStatus),
    /// The zombie is gone and its number free, unless a group or a session has it.
    Reaped,
    /// A signal was generated for it, or for one thread of it.
    Generated(SigInfo),
    /// Its driver panicked in this operation.
    DriverFault(Op),
    /// That many events before this one found the channel full and were dropped.
    Lost(u64),
}

impl What {
    /// What of the model's consequences is published.
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
    /// Another receiver; `None` if there are `limit` of them.
    pub fn add(&mut self, capacity: usize, limit: u32) -> Option<Receiver<TableEvent>> {
        if self.list.len() >= limit as usize {
            return None;
        }
        // room for one event and for the note that others were lost
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
        // a new process is not known yet
        let pid = process_of(known).unwrap_or(tid);
        self.send(pid, tid, what, Some(effect.cause));
    }

    /// Publishes what is about a process and not of the model.
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
    /// `false` if the receiver is gone.
    fn send(&mut self, event: &TableEvent) -> bool {
        if self.lost > 0 {
            // a note that takes the place of its event would be followed by another note
            if room(&self.sender) < 2 {
                self.lost += 1;
                return true;
            }
            let what = What::Lost(self.lost);
            let (number, nobody) = (event.number - 1, Pid(0));
            let note = TableEvent { number, pid: nobody, tid: nobody, what, cause: None };
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
