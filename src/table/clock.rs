//! Time for a table: real time, or time that the program sets.

use alloc::sync::Arc;
use core::time::Duration;
use std::time::Instant;

use crate::abi::Time;
use crate::sync::Mutex;

/// The time of a [`ProcessTable`](super::ProcessTable). It never decreases.
///
/// The table calls it under its lock, and it is the only code of the embedder that runs there: it
/// must not call a table.
pub trait Clock: Send + Sync + 'static {
    /// The present time, in nanoseconds since an origin that the clock chooses.
    fn now(&self) -> Time;

    /// When a thread that waits for `at` has to read the clock again. `None` if the clock does not
    /// follow real time: then the code that advances the clock calls
    /// [`reap_due`](super::ProcessTable::reap_due).
    fn instant(&self, at: Time) -> Option<Instant>;
}

/// The monotonic time of the machine, since this value was created. A target without such a time,
/// as wasm32-unknown-unknown, has time 0 for ever.
#[derive(Clone, Copy, Debug)]
pub struct RealClock(Option<Instant>);

impl RealClock {
    /// A clock whose origin is the time of this call.
    pub fn new() -> RealClock {
        const HAS_TIME: bool = !cfg!(all(target_family = "wasm", target_os = "unknown"));
        RealClock(HAS_TIME.then(Instant::now))
    }
}

impl Default for RealClock {
    fn default() -> RealClock {
        RealClock::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Time {
        let elapsed = self.0.map_or(Duration::ZERO, |origin| origin.elapsed());
        Time(0)
            .after(elapsed.as_secs().saturating_mul(1_000_000_000))
            .after(elapsed.subsec_nanos().into())
    }

    fn instant(&self, at: Time) -> Option<Instant> {
        self.0?.checked_add(Duration::from_nanos(at.0))
    }
}

/// A clock that is ahead of another one by a fixed time: that of a restored table.
#[cfg(feature = "serde")]
pub(super) struct LaterClock {
    clock: Arc<dyn Clock>,
    /// In nanoseconds.
    ahead: u64,
}

#[cfg(feature = "serde")]
impl LaterClock {
    /// A clock that does not show times before `least`: `clock` itself if that does not.
    pub fn at_least(clock: Arc<dyn Clock>, least: Time) -> Arc<dyn Clock> {
        match least.0.saturating_sub(clock.now().0) {
            0 => clock,
            ahead => Arc::new(LaterClock { clock, ahead }),
        }
    }
}

#[cfg(feature = "serde")]
impl Clock for LaterClock {
    fn now(&self) -> Time {
        self.clock.now().after(self.ahead)
    }

    fn instant(&self, at: Time) -> Option<Instant> {
        self.clock.instant(Time(at.0.saturating_sub(self.ahead)))
    }
}

/// A clock that moves only when the program advances it. Clones are the same clock.
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
    /// A clock at time 0.
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Advances the clock. A table of this clock reads it at its next call, which then processes
    /// the expired timers. [`reap_due`](super::ProcessTable::reap_due) reaps the zombies that are
    /// due and wakes the waits whose timeout has passed.
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
