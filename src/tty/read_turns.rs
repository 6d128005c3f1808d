//! The turns of the reads of an end.

use alloc::vec::Vec;

/// The reads of an end take turns, as the kernel's mutex does it (`atomic_read_lock`). A read that
/// begins takes a turn that is free, although others wait; but if the first of these has been woken
/// in vain, the next turn is handed to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct ReadTurns {
    /// The read that has the turn.
    holder: Option<u64>,
    /// The reads that wait, in order.
    waiting: Vec<u64>,
    /// The first waiting read was woken, because the turn was free.
    is_woken: bool,
    /// The first waiting read gets the next turn (MUTEX_FLAG_HANDOFF).
    hands_over: bool,
}

impl ReadTurns {
    /// Whether the read has the turn now; otherwise it waits.
    pub fn take(&mut self, read: u64) -> bool {
        if self.holder == Some(read) {
            return true;
        }
        let place = self.waiting.iter().position(|other| *other == read);
        // only the first waiting read is woken
        if self.holder.is_none() && place.is_none_or(|place| place == 0) {
            self.holder = Some(read);
            // a read that did not wait takes the turn of the one that was woken
            self.is_woken &= place.is_none();
            self.stop_waiting(read);
            return true;
        }
        match place {
            None => self.waiting.push(read),
            Some(0) => self.hands_over |= core::mem::take(&mut self.is_woken),
            Some(_) => {}
        }
        false
    }

    /// The read is over, or a signal ends it.
    pub fn release(&mut self, read: u64) {
        if self.holder == Some(read) {
            self.holder = None;
            self.is_woken = true;
            if core::mem::take(&mut self.hands_over) && !self.waiting.is_empty() {
                self.holder = Some(self.waiting.remove(0));
            }
        } else {
            // a signal has woken it in vain
            self.hands_over |= self.waiting.first() == Some(&read);
            self.stop_waiting(read);
        }
    }

    fn stop_waiting(&mut self, read: u64) {
        self.waiting.retain(|other| *other != read);
        if self.waiting.is_empty() {
            (self.is_woken, self.hands_over) = (false, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_handed_to_the_read_that_was_woken_in_vain() {
        let mut turns = ReadTurns::default();
        assert!(turns.take(1));
        assert!(!turns.take(2) && !turns.take(3));
        turns.release(1);
        // a read that begins now is faster than the one that was woken
        assert!(turns.take(4));
        assert!(!turns.take(2) && !turns.take(3));
        turns.release(4);
        assert!(!turns.take(5), "it was handed over");
        assert!(turns.take(2) && !turns.take(3));
        turns.release(2);
        // the others do not overtake the first one
        assert!(!turns.take(5) && turns.take(3));
    }

    #[test]
    fn a_signal_that_ends_the_first_wait_hands_the_next_turn_over() {
        let mut turns = ReadTurns::default();
        assert!(turns.take(1));
        assert!(!turns.take(2) && !turns.take(3));
        turns.release(2);
        turns.release(1);
        assert!(!turns.take(1) && turns.take(3));
        turns.release(3);
        turns.release(1);
        assert!(turns.take(2));
    }
}
