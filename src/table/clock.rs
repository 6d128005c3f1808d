//! Time for a table: real, or moved by hand.

use alloc::sync::Arc;
use core::time::Duration;
use std::time::Instant;

use crate::abi::Time;
use crate::sync::Mutex;

/// The time of a [`ProcessTable`](super::ProcessTable): it never goes back.
///
/// It is asked under the table's lock, and is the only thing of somebody else's that is: it must
/// not call a table.
pub trait Clock: Send + Sync + 'static {
    /// The present time, in nanoseconds since an origin of the clock's own.
    fn now(&self) -> Time;

    /// When a thread that waits for `at` has to look again; `None` if real time has nothing to do
    /// with this clock, so that whoever moves it calls
    /// [`reap_due`](super::ProcessTable::reap_due).
    fn instant(&self, at: Time) -> Option<Instant>;
}

/// The time of the machine, since this value was made.
#[derive(Clone, Copy, Debug)]
pub struct RealClock(Instant);

impl RealClock {
    /// Begins now.
    pub fn new() -> RealClock {
        RealClock(Instant::now())
    }
}

impl Default for RealClock {
    fn default() -> RealClock {
        RealClock::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Time {
        let elapsed = self.0.elapsed();
        Time(0)
            .after(elapsed.as_secs().saturating_mul(1_000_000_000))
            .after(elapsed.subsec_nanos().into())
    }

    fn instant(&self, at: Time) -> Option<Instant> {
        self.0.checked_add(Duration::from_nanos(at.0))
    }
}

/// A clock that stands still until it is told to move. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use proctable::abi::Time;
/// use proctable::table::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Time(60_000_000_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Mutex<Time>>);

impl ManualClock {
    /// Begins at zero.
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves on. The tables of this clock learn it with their next call, which finds that timers
    /// have expired; zombies are reaped, and waits with a timeout woken, by
    /// [`reap_due`](super::ProcessTable::reap_due).
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let mut now = self.0.lock();
        *now = now.after(nanos);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.0.lock()
    }

    fn instant(&self, _: Time) -> Option<Instant> {
        None
    }
}
