//! Sets of signals.

use core::fmt;
use core::ops::{BitAnd, BitOr, Not, Sub};

use super::Signal;

/// A set of signals: one bit each, signal 1 in bit 0, as `sigset_t` of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// All 64 signals.
    pub const FULL: SigSet = SigSet(u64::MAX);
    /// SIGKILL and SIGSTOP, which no mask keeps (SIG-14).
    pub const KERNEL_ONLY: SigSet = Signal::KILL.set().with(Signal::STOP);
    /// The four stop signals (SIG-03).
    pub const STOPS: SigSet =
        Signal::STOP.set().with(Signal::TSTP).with(Signal::TTIN).with(Signal::TTOU);
    /// The signals that are dequeued before all others of their set (SIG-33).
    pub const SYNCHRONOUS: SigSet = Signal::SEGV
        .set()
        .with(Signal::BUS)
        .with(Signal::ILL)
        .with(Signal::TRAP)
        .with(Signal::FPE)
        .with(Signal::SYS);

    /// The set of those bits.
    pub const fn from_bits(bits: u64) -> SigSet {
        SigSet(bits)
    }

    /// The bits of the set.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `signal` is in the set.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.set().0 != 0
    }

    /// The set with `signal` added.
    pub const fn with(self, signal: Signal) -> SigSet {
        SigSet(self.0 | signal.set().0)
    }

    /// The set without `signal`.
    pub const fn without(self, signal: Signal) -> SigSet {
        SigSet(self.0 & !signal.set().0)
    }

    /// The lowest signal of the set.
    pub fn lowest(self) -> Option<Signal> {
        // trailing_zeros of 0 is 64, and 65 is no signal
        Signal::new(self.0.trailing_zeros() as i32 + 1)
    }

    /// The signals of the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let signal = rest.lowest()?;
            rest = rest.without(signal);
            Some(signal)
        })
    }
}

impl FromIterator<Signal> for SigSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> SigSet {
        signals.into_iter().fold(SigSet::EMPTY, SigSet::with)
    }
}

impl BitOr for SigSet {
    type Output = SigSet;
    fn bitor(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }
}

impl BitAnd for SigSet {
    type Output = SigSet;
    fn bitand(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }
}

impl Sub for SigSet {
    type Output = SigSet;
    fn sub(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }
}

impl Not for SigSet {
    type Output = SigSet;
    fn not(self) -> SigSet {
        SigSet(!self.0)
    }
}

impl fmt::Display for SigSet {
    /// The set as strace writes it: `[INT TERM]`, and `~[...]` when two thirds or more are in the
    /// set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inverted = self.0.count_ones() >= 64 * 2 / 3;
        let shown = if inverted { !*self } else { *self };
        f.write_str(if inverted { "~[" } else { "[" })?;
        for (nth, signal) in shown.iter().enumerate() {
            if nth > 0 {
                f.write_str(" ")?;
            }
            signal.write_bare(f)?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for SigSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
