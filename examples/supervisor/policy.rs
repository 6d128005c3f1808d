//! What a supervisor decides: no clock, no process, so that it can be tested.

use std::time::Duration;

use proctable::abi::WaitStatus;

/// What to do after an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Start it again after that long.
    RestartAfter(Duration),
    /// It did its work.
    Done,
    /// It failed too often.
    GiveUp,
}

/// Restarts with a delay that doubles with each failure.
#[derive(Debug)]
pub struct Supervisor {
    delay: Duration,
    failures_left: u32,
}

impl Supervisor {
    /// The first delay, and how many failures there may be.
    pub fn new(delay: Duration, failures: u32) -> Supervisor {
        Supervisor { delay, failures_left: failures }
    }

    /// The process ended.
    pub fn ended(&mut self, status: WaitStatus) -> Next {
        if status == WaitStatus::exited(0) {
            return Next::Done;
        }
        let Some(left) = self.failures_left.checked_sub(1) else { return Next::GiveUp };
        self.failures_left = left;
        let delay = self.delay;
        self.delay *= 2;
        Next::RestartAfter(delay)
    }
}
