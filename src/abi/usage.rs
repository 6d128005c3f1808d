//! Resource usage.

use core::ops::{Add, AddAssign};
use core::time::Duration;

/// `struct rusage`: the fields that Linux maintains. The times are exact, where Linux has
/// microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rusage {
    /// CPU time in user mode.
    pub utime: Duration,
    /// CPU time in the kernel.
    pub stime: Duration,
    /// The maximum resident set size, in KiB.
    pub maxrss: u64,
    /// Page faults without I/O.
    pub minflt: u64,
    /// Page faults with I/O.
    pub majflt: u64,
    /// Block inputs.
    pub inblock: u64,
    /// Block outputs.
    pub oublock: u64,
    /// Voluntary context switches.
    pub nvcsw: u64,
    /// Involuntary context switches.
    pub nivcsw: u64,
}

impl Rusage {
    /// A usage of CPU time in user mode alone.
    pub fn cpu(utime: Duration) -> Rusage {
        Rusage { utime, ..Rusage::default() }
    }

    /// The CPU time in user mode and in the kernel together, saturating.
    pub fn cpu_time(&self) -> Duration {
        self.utime.saturating_add(self.stime)
    }

    /// The larger value of each field: of two reports of one process, the later one.
    #[must_use]
    pub fn max(self, other: Rusage) -> Rusage {
        self.combine(other, Duration::max, u64::max)
    }

    /// Combines the times, and the counts except `maxrss`, of which the larger one is taken.
    fn combine(
        self,
        other: Rusage,
        times: impl Fn(Duration, Duration) -> Duration,
        counts: impl Fn(u64, u64) -> u64,
    ) -> Rusage {
        Rusage {
            utime: times(self.utime, other.utime),
            stime: times(self.stime, other.stime),
            maxrss: self.maxrss.max(other.maxrss),
            minflt: counts(self.minflt, other.minflt),
            majflt: counts(self.majflt, other.majflt),
            inblock: counts(self.inblock, other.inblock),
            oublock: counts(self.oublock, other.oublock),
            nvcsw: counts(self.nvcsw, other.nvcsw),
            nivcsw: counts(self.nivcsw, other.nivcsw),
        }
    }
}

/// The usage of several processes: the sum of each field, saturating, and the larger `maxrss`, as
/// getrusage(2) counts RUSAGE_CHILDREN.
impl Add for Rusage {
    type Output = Rusage;

    fn add(self, other: Rusage) -> Rusage {
        self.combine(other, Duration::saturating_add, u64::saturating_add)
    }
}

impl AddAssign for Rusage {
    fn add_assign(&mut self, other: Rusage) {
        *self = *self + other;
    }
}
