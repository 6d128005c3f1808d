//! Deadlines (alarms, timeouts, zombies), and the one timer thread that processes them for all
//! tables.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::time::Duration;
use std::time::Instant;

use super::TableInner;
use super::outbox::before_sleep;
use crate::abi::Time;
use crate::sync::{Condvar, HAS_THREADS, Mutex, Parker, contain, spawn};

/// The deadlines of all tables whose clock follows real time.
static BACKGROUND: TimerThread = TimerThread {
    list: Mutex::new(List { due: BTreeMap::new(), running: false }),
    changed: Condvar::new(),
};

struct TimerThread {
    list: Mutex<List>,
    changed: Condvar,
}

struct List {
    /// The deadlines by time and by the table's address; a small number for each table.
    due: BTreeMap<(Instant, usize), Weak<TableInner>>,
    running: bool,
}

/// Schedules a table on the timer thread at this time, instead of a later one.
pub(super) fn schedule(shared: &Arc<TableInner>, at: Instant, instead_of: Option<Instant>) {
    let mut list = BACKGROUND.list.lock();
    if let Some(later) = instead_of {
        list.due.remove(&(later, Arc::as_ptr(shared) as usize));
    }
    list.due.insert((at, Arc::as_ptr(shared) as usize), Arc::downgrade(shared));
    if !list.running {
        // without a thread, only the embedder's own calls of `reap_due` process deadlines
        list.running = spawn("proctable-timer", run_timer_thread).is_ok();
    }
    drop(list);
    BACKGROUND.changed.notify_all();
}

/// Removes a table's deadline, because the table ends.
pub(super) fn cancel(shared: *const TableInner, at: Instant) {
    BACKGROUND.list.lock().due.remove(&(at, shared as usize));
    BACKGROUND.changed.notify_all();
}

/// The timer thread. It ends when no table has a deadline.
fn run_timer_thread() {
    let mut list = BACKGROUND.list.lock();
    loop {
        let Some(first) = list.due.first_entry() else {
            list.running = false;
            return;
        };
        let at = first.key().0;
        if Instant::now() < at {
            list = BACKGROUND.changed.wait(list, Some(at));
            continue;
        }
        let table = first.remove();
        drop(list);
        // a panic in the embedder's code of one table (its clock, a driver's `Drop`) must not end
        // the thread, which serves all tables
        contain(|| {
            if let Some(shared) = table.upgrade() {
                shared.keep();
            }
        });
        list = BACKGROUND.list.lock();
    }
}

/// The time at which a sleeping thread stops sleeping.
pub(super) struct Alarm<'a> {
    shared: &'a TableInner,
    at: Option<Time>,
    parker: &'a Arc<Parker>,
    /// Its place among the table's timeouts, for a clock that does not follow real time.
    place: Option<(Time, u64)>,
}

impl TableInner {
    /// An alarm for a sleep on `parker` of at most `timeout`, by the table's clock.
    pub(super) fn alarm_after<'a>(
        &'a self,
        timeout: Duration,
        parker: &'a Arc<Parker>,
    ) -> Alarm<'a> {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let at = self.clock.now().after(nanos);
        self.alarm_at(Some(at), parker)
    }

    /// An alarm for a sleep on `parker` until `at`.
    pub(super) fn alarm_at<'a>(&'a self, at: Option<Time>, parker: &'a Arc<Parker>) -> Alarm<'a> {
        let virtual_time = |at: &Time| *at != Time(u64::MAX) && self.clock.instant(*at).is_none();
        let place =
            at.filter(virtual_time).map(|at| self.state.lock().add_timeout(at, parker.clone()));
        Alarm { shared: self, at, parker, place }
    }
}

impl Alarm<'_> {
    /// Sleeps until the parker is unparked; `false` if the time has passed, or at once on a target
    /// without threads.
    pub fn sleep(&self) -> bool {
        if self.is_over() {
            return false;
        }
        before_sleep();
        // recomputed for each sleep: the clock may only say when to read it again
        let moment = self.at.and_then(|at| self.shared.clock.instant(at));
        self.parker.park(moment) || HAS_THREADS && !self.is_over()
    }

    /// Whether the time has passed, by the clock or by the `now` of a `reap_due`.
    pub fn is_over(&self) -> bool {
        let expired = |place| !self.shared.state.lock().has_timeout(place);
        self.at.is_some_and(|at| self.shared.clock.now() >= at) || self.place.is_some_and(expired)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.state.lock().remove_timeout(place);
        }
    }
}
