//! The decisions of a supervisor, without a clock or a process, so that they can be tested.

use std::time::Duration;

use proctable::abi::WaitStatus;

/// The next action after an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Start the service again after this delay.
    RestartAfter(Duration),
    /// The service has done its work.
    Done,
    /// The service failed too often.
    GiveUp,
}

/// Restarts with a delay that doubles with each failure.
#[derive(Debug)]
pub struct Supervisor {
    delay: Duration,
    failures_left: u32,
}

impl Supervisor {
    /// Takes the first delay, and the number of failures after which the supervisor gives up.
    pub fn new(delay: Duration, failures: u32) -> Supervisor {
        Supervisor { delay, failures_left: failures }
    }

    /// The decision after the end of the process.
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
