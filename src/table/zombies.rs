//! The zombies of the table's init, by the time at which they are reaped.

use alloc::collections::VecDeque;
#[cfg(feature = "serde")]
use alloc::vec::Vec;
use core::time::Duration;

use super::by_pid::ByPid;
use super::registry::{ProcessEntry, ProcessKey};
use crate::abi::{Pid, Time};

/// The queue of zombies. All have the same time to live, so that the oldest is due first. Each
/// entry of the registry has a flag for whether it is in the queue.
#[derive(Debug, Default)]
pub(super) struct ZombieQueue {
    /// `None` if zombies are kept without limit.
    ttl: Option<Duration>,
    queue: VecDeque<(Time, ProcessKey)>,
    /// The number of queued processes that are still zombies.
    waiting: usize,
}

fn is_waiting(entries: &ByPid<ProcessEntry>, key: ProcessKey) -> bool {
    entries.get(key.pid).is_some_and(|entry| entry.serial == key.serial)
}

impl ZombieQueue {
    pub fn new(ttl: Option<Duration>) -> ZombieQueue {
        ZombieQueue { ttl, ..ZombieQueue::default() }
    }

    /// The number of zombies that wait to be reaped.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether a zombie with that parent is queued. Only zombies of the init are.
    #[inline]
    pub fn wants(&self, parent: Pid) -> bool {
        parent == Pid(1) && self.ttl.is_some()
    }

    /// Adds a zombie, which the init has created or adopted.
    pub fn add(&mut self, now: Time, pid: Pid, entry: &mut ProcessEntry) {
        let Some(ttl) = self.ttl else { return };
        if !core::mem::replace(&mut entry.expires, true) {
            self.waiting += 1;
            let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            self.queue.push_back((now.after(nanos), ProcessKey { pid, serial: entry.serial }));
        }
    }

    /// The zombies that wait to be reaped, with the times at which they are due.
    #[cfg(feature = "serde")]
    pub fn list(&self, entries: &ByPid<ProcessEntry>) -> Vec<(Time, Pid)> {
        let waiting = self.queue.iter().filter(|(_, key)| is_waiting(entries, *key));
        waiting.map(|(due, key)| (*due, key.pid)).collect()
    }

    /// Adds a zombie of a snapshot.
    #[cfg(feature = "serde")]
    pub fn restore(&mut self, due: Time, pid: Pid, entry: &mut ProcessEntry) {
        if self.ttl.is_some() && !core::mem::replace(&mut entry.expires, true) {
            self.waiting += 1;
            self.queue.push_back((due, ProcessKey { pid, serial: entry.serial }));
        }
    }

    /// A process was reaped, and its entry is removed. O(1) amortised.
    pub fn forget(&mut self, gone: &ProcessEntry, entries: &ByPid<ProcessEntry>) {
        if !gone.expires {
            return;
        }
        self.waiting -= 1;
        // a zombie that a wait reaped stays in the queue until it is due, or until such zombies are
        // most of the queue
        if self.queue.len() > 64 && self.queue.len() > 2 * self.waiting {
            self.queue.retain(|(_, key)| is_waiting(entries, *key));
        }
    }

    /// The time at which the next zombie is due.
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

    /// Takes a zombie that is due.
    pub fn due(&mut self, now: Time, entries: &ByPid<ProcessEntry>) -> Option<ProcessKey> {
        self.next(entries).filter(|at| *at <= now)?;
        self.queue.pop_front().map(|(_, key)| key)
    }
}
