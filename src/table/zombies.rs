//! Zombies of the table's init, by the time at which they are reaped.

use alloc::collections::VecDeque;
use core::time::Duration;
use std::collections::HashSet;

use super::book::Token;
use crate::abi::{Pid, Time};

/// The queue of zombies: the time to live is the same for all, so that the oldest is due first.
#[derive(Debug, Default)]
pub(super) struct Zombies {
    /// `None` if zombies are kept.
    ttl: Option<Duration>,
    queue: VecDeque<(Time, Token)>,
    /// Those that were queued and are still zombies.
    waiting: HashSet<u64>,
}

impl Zombies {
    pub fn new(ttl: Option<Duration>) -> Zombies {
        Zombies { ttl, ..Zombies::default() }
    }

    /// How many wait to be reaped.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A zombie has that parent now. Only the init's are reaped.
    pub fn add(&mut self, now: Time, parent: Pid, zombie: Option<Token>) {
        let (Some(ttl), Some(token)) = (self.ttl, zombie.filter(|_| parent == Pid(1))) else {
            return;
        };
        if self.waiting.insert(token.serial) {
            let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            self.queue.push_back((now.after(nanos), token));
        }
    }

    /// A process was reaped. O(1) amortised.
    pub fn forget(&mut self, serial: u64) {
        if self.ttl.is_none() || !self.waiting.remove(&serial) {
            return;
        }
        // what was reaped by a wait stays in the queue until it is due, or until it is most of it
        if self.queue.len() > 64 && self.queue.len() > 2 * self.waiting.len() {
            let waiting = &self.waiting;
            self.queue.retain(|(_, token)| waiting.contains(&token.serial));
        }
    }

    /// When the next one is due.
    pub fn next(&mut self) -> Option<Time> {
        while let Some((at, token)) = self.queue.front() {
            if self.waiting.contains(&token.serial) {
                return Some(*at);
            }
            self.queue.pop_front();
        }
        None
    }

    /// One that is due.
    pub fn due(&mut self, now: Time) -> Option<Token> {
        self.next().filter(|at| *at <= now)?;
        self.queue.pop_front().map(|(_, token)| token)
    }
}
