//! ZombieQueue of the table's init, by the time at which they are reaped.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::by_pid::ByPid;
use super::registry::{ProcessEntry, ProcessKey};
use crate::abi::{Pid, Time};

/// The queue of zombies: the time to live is the same for all, so that the oldest is due first.
/// Each entry of the table knows whether it is in the queue.
#[derive(Debug, Default)]
pub(super) struct ZombieQueue {
    /// `None` if zombies are kept.
    ttl: Option<Duration>,
    queue: VecDeque<(Time, ProcessKey)>,
    /// How many of those that were queued are still zombies.
    waiting: usize,
}

fn is_waiting(entries: &ByPid<ProcessEntry>, key: ProcessKey) -> bool {
    entries.get(key.pid).is_some_and(|entry| entry.serial == key.serial)
}

impl ZombieQueue {
    pub fn new(ttl: Option<Duration>) -> ZombieQueue {
        ZombieQueue { ttl, ..ZombieQueue::default() }
    }

    /// How many wait to be reaped.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether a zombie with that parent is to be reaped. Only the init's are.
    #[inline]
    pub fn wants(&self, parent: Pid) -> bool {
        parent == Pid(1) && self.ttl.is_some()
    }

    /// A zombie is the init's now.
    pub fn add(&mut self, now: Time, pid: Pid, entry: &mut ProcessEntry) {
        let Some(ttl) = self.ttl else { return };
        if !core::mem::replace(&mut entry.expires, true) {
            self.waiting += 1;
            let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            self.queue.push_back((now.after(nanos), ProcessKey { pid, serial: entry.serial }));
        }
    }

    /// A process was reaped, and is no entry any more. O(1) amortised.
    pub fn forget(&mut self, gone: &ProcessEntry, entries: &ByPid<ProcessEntry>) {
        if !gone.expires {
            return;
        }
        self.waiting -= 1;
        // what was reaped by a wait stays in the queue until it is due, or until it is most of it
        if self.queue.len() > 64 && self.queue.len() > 2 * self.waiting {
            self.queue.retain(|(_, key)| is_waiting(entries, *key));
        }
    }

    /// When the next one is due.
    #[inline]
    pub fn next(&mut self, entries: &ByPid<ProcessEntry>) -> Option<Time> {
        while let Some((at, key)) = self.queue.front() {
            if is_waiting(entries, *key) {
                return Some(*at);
            }
            self.queue.pop_front();
        }
        None
    }

    /// One that is due.
    pub fn due(&mut self, now: Time, entries: &ByPid<ProcessEntry>) -> Option<ProcessKey> {
        self.next(entries).filter(|at| *at <= now)?;
        self.queue.pop_front().map(|(_, key)| key)
    }
}
