//! Sets of pending signals.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::abi::{SigInfo, SigSet, Signal, Uid};

/// A pending signal with its record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Queued {
    /// The siginfo of the signal.
    pub info: SigInfo,
    /// The user that the record is charged to (LIM-07).
    pub charged: Uid,
}

/// The pending signals of a thread or of a process.
///
/// A signal can be in the set without a record: SIGKILL (SIG-25), and a signal whose record was
/// lost to RLIMIT_SIGPENDING (LIM-09, LIM-10).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pending {
    set: SigSet,
    records: Option<Box<Records>>,
}

/// The records of pending signals. Usually there is one, which needs no map; the memory stays for
/// the next signal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Records {
    /// The only record.
    only: Option<Queued>,
    /// If there are several records: all of them, by signal, then by age.
    #[cfg_attr(feature = "serde", serde(with = "crate::kernel::api::snapshot::pairs"))]
    queue: BTreeMap<(Signal, u64), Queued>,
    next: u64,
}

impl Records {
    #[inline]
    fn add(&mut self, info: &SigInfo, charged: Uid) {
        if self.only.is_none() && self.queue.is_empty() {
            self.only = Some(Queued { info: *info, charged });
        } else {
            self.add_another(Queued { info: *info, charged });
        }
    }

    fn add_another(&mut self, queued: Queued) {
        for queued in self.only.take().into_iter().chain([queued]) {
            self.queue.insert((queued.info.signal, self.next), queued);
            self.next += 1;
        }
    }

    /// The oldest record of `signal`, and whether another one is left.
    fn take(&mut self, signal: Signal) -> (Option<Queued>, bool) {
        if self.queue.is_empty() {
            return (self.only.take_if(|only| only.info.signal == signal), false);
        }
        let mut of_signal = self.queue.range((signal, 0)..=(signal, u64::MAX));
        let oldest = of_signal.next().map(|(key, _)| *key);
        let more = of_signal.next().is_some();
        (oldest.and_then(|key| self.queue.remove(&key)), more)
    }
}

impl Pending {
    /// The signals in the set.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Whether `signal` is in the set.
    pub fn contains(&self, signal: Signal) -> bool {
        self.set.contains(signal)
    }

    /// The number of records.
    pub fn records(&self) -> usize {
        self.records
            .as_ref()
            .map_or(0, |records| records.queue.len() + usize::from(records.only.is_some()))
    }

    /// Adds `signal` without a record.
    pub fn add_bare(&mut self, signal: Signal) {
        self.set = self.set.with(signal);
    }

    /// Adds a signal with its record, after the records of the same signal (SIG-24).
    #[inline]
    pub fn add(&mut self, info: &SigInfo, charged: Uid) {
        self.set = self.set.with(info.signal);
        self.records.get_or_insert_default().add(info, charged);
    }

    /// The signal of `among` that is dequeued next (SIG-33).
    pub fn next(&self, among: SigSet) -> Option<Signal> {
        let ready = self.set & among;
        (ready & SigSet::SYNCHRONOUS).lowest().or_else(|| ready.lowest())
    }

    /// Removes the oldest instance of `signal`. Returns its record, or an empty one if it has none.
    pub fn take(&mut self, signal: Signal) -> (SigInfo, Option<Queued>) {
        let records = self.records.as_mut();
        let (queued, more) = records.map_or((None, false), |records| records.take(signal));
        if !more {
            self.set = self.set.without(signal);
        }
        (queued.map_or(SigInfo::lost(signal), |queued| queued.info), queued)
    }

    /// Removes the records for which `is_stale` is true, and passes them to `dropped`. A signal
    /// stays if it has another record, or has none. O(records).
    pub fn drop_records(
        &mut self,
        is_stale: impl Fn(&SigInfo) -> bool,
        mut dropped: impl FnMut(Queued),
    ) {
        let Some(records) = &mut self.records else { return };
        let (mut gone, mut kept) = (SigSet::EMPTY, SigSet::EMPTY);
        let mut keep = |queued: &Queued| {
            let stale = is_stale(&queued.info);
            let set = if stale { &mut gone } else { &mut kept };
            *set = set.with(queued.info.signal);
            if stale {
                dropped(*queued);
            }
            !stale
        };
        records.only.take_if(|only| !keep(only));
        records.queue.retain(|_, queued| keep(queued));
        self.set = (self.set - gone) | kept;
    }

    /// Removes all of `signals`, and passes their records to `dropped`.
    pub fn flush(&mut self, signals: SigSet, mut dropped: impl FnMut(Queued)) {
        for signal in (self.set & signals).iter() {
            while self.contains(signal) {
                if let (_, Some(queued)) = self.take(signal) {
                    dropped(queued);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Pid;
    use alloc::vec::Vec;

    fn add(pending: &mut Pending, number: i32, value: u64) {
        let signal = Signal::new(number).expect("a valid signal");
        let info = SigInfo { value, ..SigInfo::user(signal, Pid(1), Uid(0)) };
        pending.add(&info, Uid(0));
    }

    #[test]
    fn sig_33_dequeue_order() {
        let mut pending = Pending::default();
        for number in [1, 10, 11, 12, 15, 31, 34, 36, 36, 40] {
            add(&mut pending, number, 0);
        }
        let mut order = Vec::new();
        while let Some(signal) = pending.next(SigSet::FULL) {
            pending.take(signal);
            order.push(signal.number());
        }
        assert_eq!(order, [11, 31, 1, 10, 12, 15, 34, 36, 36, 40]);
        assert_eq!((pending.set(), pending.records()), (SigSet::EMPTY, 0));
    }

    #[test]
    fn sig_24_real_time_signals_are_first_in_first_out() {
        let mut pending = Pending::default();
        for value in 0..3 {
            add(&mut pending, 40, value);
        }
        let signal = Signal::new(40).expect("a valid signal");
        let values: Vec<u64> = (0..3).map(|_| pending.take(signal).0.value).collect();
        assert_eq!(values, [0, 1, 2]);
        assert!(!pending.contains(signal));
    }
}
