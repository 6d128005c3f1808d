//! Virtual time: only [`Event::Advance`](crate::kernel::Event::Advance) moves it.

/// A point in virtual time, in nanoseconds since the model began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Time(pub u64);

/// `struct timespec`, as a guest passes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: i64,
}

impl Timespec {
    /// In nanoseconds, saturating; `None` if it is not a duration (SIG-50).
    pub fn nanos(self) -> Option<u64> {
        if self.sec < 0 || !(0..1_000_000_000).contains(&self.nsec) {
            return None;
        }
        Some((self.sec as u64).saturating_mul(1_000_000_000).saturating_add(self.nsec as u64))
    }
}

/// `struct timeval`, as a guest passes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds.
    pub usec: i64,
}

impl Timeval {
    /// In nanoseconds, saturating; `None` if it is not a duration (TIME-05).
    pub fn nanos(self) -> Option<u64> {
        if self.sec < 0 || !(0..1_000_000).contains(&self.usec) {
            return None;
        }
        Some(
            (self.sec as u64).saturating_mul(1_000_000_000).saturating_add(self.usec as u64 * 1000),
        )
    }

    /// From nanoseconds, rounded down to microseconds.
    pub fn from_nanos(nanos: u64) -> Timeval {
        Timeval { sec: (nanos / 1_000_000_000) as i64, usec: (nanos % 1_000_000_000 / 1000) as i64 }
    }
}

/// `struct itimerval`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Itimerval {
    /// The period; zero for a timer that fires once.
    pub interval: Timeval,
    /// The time to the next expiry; zero for a timer that is not armed.
    pub value: Timeval,
}
