//! The table's lock, and the work before and after each critical section.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use std::time::Instant;

use super::clock::Clock;
use super::config::{DispatchMode, DriverFactory, Init, TableConfig, TimerMode};
use super::outbox::{Requests, Wake};
use super::registry::{Image, ProcessKey, ProcessRegistry};
use super::zombies::ZombieQueue;
use super::{OnProcessExit, TableHandle, timer_thread};
use crate::abi::{Pid, Time, WaitOptions, WaitStatus};
use crate::driver::{Report, ReportTarget};
use crate::kernel::{Canonical, Effects, Event, Kernel};
use crate::sync::{Mutex, MutexGuard, Parker, ThreadId};
use crate::syscall::{Ptr, Syscall};

/// The number of zombies that one critical section reaps; then other threads can take the lock.
const REAPED_AT_ONCE: usize = 1024;

/// A table, shared by its handles, guests and drivers.
pub(crate) struct TableInner {
    pub(super) state: Mutex<TableState>,
    pub(super) clock: Arc<dyn Clock>,
    /// [`TableLimits::subscribers`](super::TableLimits::subscribers).
    pub(super) max_subscribers: u32,
    pub(super) init: Init,
    /// Makes the drivers of processes that guests create.
    pub(super) drivers: Option<DriverFactory>,
    /// With [`DispatchMode::Request`], the work that waits for
    /// [`dispatch`](super::ProcessTable::dispatch).
    pub(super) requests: Option<Requests>,
    /// Process 1.
    pub(super) first: ProcessKey,
    timer_mode: TimerMode,
}

impl core::fmt::Debug for TableInner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

/// The state that the lock guards.
pub(super) struct TableState {
    pub kernel: Kernel,
    pub fx: Effects,
    pub process_registry: ProcessRegistry,
    /// [`TableLimits::processes`](super::TableLimits::processes).
    max_processes: u32,
    pub on_exit: Option<OnProcessExit>,
    /// For the exit callback, which receives a handle of its process.
    pub handle: Weak<TableHandle>,
    /// The thread that runs the exit callback at present.
    pub callback_thread: Option<ThreadId>,
    /// Parkers by their timeouts, for a clock that does not follow real time.
    timeouts: BTreeMap<(Time, u64), Arc<Parker>>,
    timeout_number: u64,
    /// When the timer thread will next process this table: by the table's clock, and by the timer
    /// thread's.
    scheduled: Option<(Time, Instant)>,
    closed: bool,
    /// Effects may have been recorded since the lock was taken: `leave` must process them before it
    /// unlocks.
    pub settled: bool,
}

impl TableInner {
    pub(super) fn new(config: TableConfig) -> Arc<TableInner> {
        let ttl = config.zombie_ttl.filter(|_| config.init == Init::Table);
        let mut registry = ProcessRegistry::new(ZombieQueue::new(ttl));
        registry.has_factory = config.drivers.is_some();
        registry.skips_factory = config.init == Init::Table;
        let clock = config.time();
        let first = registry.enter(Pid(1), Image::init(), &*clock);
        let mut state = TableState::new(Kernel::new(config.model()), registry, &config);
        if config.init == Init::Table {
            // GRP-22: process 1 leads a session of its own, and its children see the number of it
            let _ = state.make(Pid(1), &Syscall::Setsid, None, &*clock);
        }
        TableInner::with_state(state, clock, first, config)
    }

    /// A table of this state, whose process 1 is `first`.
    pub(super) fn with_state(
        state: TableState,
        clock: Arc<dyn Clock>,
        first: ProcessKey,
        config: TableConfig,
    ) -> Arc<TableInner> {
        let TableConfig { init, timer_mode, limits, drivers, dispatch_mode, .. } = config;
        let requests = (dispatch_mode == DispatchMode::Request).then(Requests::default);
        let max_subscribers = limits.subscribers;
        let state = Mutex::new(state);
        Arc::new(TableInner {
            state,
            clock,
            max_subscribers,
            init,
            drivers,
            requests,
            first,
            timer_mode,
        })
    }

    /// Runs `act` under the lock, then unlocks and carries out what `act` recorded.
    pub(super) fn commit<R>(self: &Arc<TableInner>, act: impl FnOnce(&mut TableState) -> R) -> R {
        let mut state = self.state.lock();
        state.advance_to_now(&*self.clock);
        let result = act(&mut state);
        self.leave(state);
        result
    }

    /// Unlocks, and carries out what was recorded under the lock.
    #[inline]
    pub(super) fn leave(self: &Arc<TableInner>, mut state: MutexGuard<'_, TableState>) {
        state.settled = false;
        let due = self.schedule_change(&mut state);
        if state.process_registry.outbox.is_empty() && due.is_none() {
            return;
        }
        if !state.process_registry.outbox.wakes.is_empty() {
            state.process_registry.rank_wakes();
        }
        let outbox = core::mem::take(&mut state.process_registry.outbox);
        drop(state);
        // before `carry_out`: a driver or a callback may wait for a deadline
        if let Some((at, instead_of)) = due {
            timer_thread::schedule(self, at, instead_of);
        }
        self.carry_out(outbox);
    }

    /// The new time of the timer thread and the time that it had, if the table's next deadline is
    /// earlier than the time that the timer thread knows.
    #[inline]
    fn schedule_change(&self, state: &mut TableState) -> Option<(Instant, Option<Instant>)> {
        // under shuttle, time does not pass, and no thread outlives a schedule
        if cfg!(shuttle) || self.timer_mode == TimerMode::Caller {
            return None;
        }
        let at = state.next_deadline()?;
        if state.closed || state.scheduled.is_some_and(|(kept, _)| kept <= at) {
            return None;
        }
        let instant = self.clock.instant(at)?;
        let later = state.scheduled.replace((at, instant));
        Some((instant, later.map(|(_, instant)| instant)))
    }

    /// Applies the report of a driver or of the runtime about a process.
    pub(crate) fn report(self: &Arc<TableInner>, key: ProcessKey, report: Report) {
        self.commit(|state| state.receive(key, report, &*self.clock));
    }

    /// Processes all deadlines until `now`. Returns the number of zombies that it reaped.
    pub(super) fn run_due(self: &Arc<TableInner>, now: Time) -> usize {
        self.commit(|state| {
            // after the end of the table no driver is notified of any event
            if !state.closed {
                state.advance(now, &*self.clock);
                state.expire(now);
            }
        });
        let mut reaped = 0;
        loop {
            let some = self.commit(|state| state.reap(now, &*self.clock));
            reaped += some;
            if some < REAPED_AT_ONCE {
                return reaped;
            }
        }
    }

    /// The timer thread processes the table.
    pub(super) fn keep(self: &Arc<TableInner>) {
        self.state.lock().scheduled = None;
        self.run_due(self.clock.now());
    }

    /// Ends the table: its last handle was dropped.
    pub(super) fn close(self: &Arc<TableInner>) {
        let mut state = self.state.lock();
        state.closed = true;
        let kept = state.scheduled.take();
        let callback = state.on_exit.take();
        let outbox = state.process_registry.close();
        drop(state);
        if let Some((_, at)) = kept {
            timer_thread::cancel(Arc::as_ptr(self), at);
        }
        self.dispatch_requests();
        self.carry_out_here(outbox);
        // last: the `Drop` of the embedder's callback is code of the embedder
        drop(callback);
    }
}

impl ReportTarget for TableInner {
    fn receive(self: Arc<TableInner>, key: ProcessKey, report: Report) {
        self.report(key, report);
    }
}

/// The wait4 call that reaps the zombie `child` and reads no status.
pub(super) fn wait_for_zombie(child: Pid) -> Syscall {
    let (pid, options) = (child.0 as i32, WaitOptions::ALL);
    Syscall::Wait4 { pid, status: Ptr::Null, options }
}

impl TableState {
    pub fn new(kernel: Kernel, registry: ProcessRegistry, config: &TableConfig) -> TableState {
        TableState {
            kernel,
            // the table offers no query for the rules of a transition
            fx: Effects::without_rules(),
            process_registry: registry,
            max_processes: config.limits.processes,
            on_exit: None,
            handle: Weak::new(),
            callback_thread: None,
            timeouts: BTreeMap::new(),
            timeout_number: 0,
            scheduled: None,
            closed: false,
            settled: false,
        }
    }

    /// Whether the last transition has changed the model.
    #[inline]
    pub fn has_effects(&self) -> bool {
        !self.fx.list().is_empty()
            || !self.fx.external_wakes().is_empty()
            || !self.fx.terminals().is_empty()
    }

    /// Runs all tasks that can run, records what the effects mean, makes the queued calls that have
    /// become possible, and then answers the waits for children.
    #[inline]
    pub fn settle(&mut self, clock: &dyn Clock) {
        self.settled = true;
        self.apply_effects(clock);
        while let Some(tid) = self.process_registry.ready.pop() {
            self.make_queued(tid, clock);
        }
        if !self.process_registry.concerned.is_empty() {
            self.answer_waits(clock);
        }
    }

    pub fn apply_effects(&mut self, clock: &dyn Clock) {
        self.kernel.settle(&mut Canonical, &mut self.fx);
        if self.has_effects() {
            self.note_effects(clock);
        }
    }

    /// Records what the effects mean for drivers, sleeping threads and subscribers.
    fn note_effects(&mut self, clock: &dyn Clock) {
        self.process_registry.now = None;
        for effect in self.fx.list() {
            self.process_registry.note(&self.kernel, effect, clock);
        }
        for woken in self.fx.external_wakes() {
            self.process_registry.wake(woken);
        }
        for number in self.fx.terminals() {
            self.process_registry.wake_window(*number);
        }
        let registry = &mut self.process_registry;
        if !registry.subscribers.woken.is_empty() {
            let woken = registry.subscribers.woken.drain(..);
            registry.outbox.wakes.extend(woken.map(|parker| Wake::new(parker, None)));
        }
    }

    /// Whether the limit of processes and threads is reached.
    pub fn is_full(&self) -> bool {
        self.kernel.task_count() >= self.max_processes as usize
    }

    /// Whether the result of a transition can depend on the present time.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.kernel.next_deadline().is_some() || self.kernel.has_idle_timers()
    }

    /// Advances the model to the present. It comes before every transition that depends on the
    /// time.
    #[inline]
    pub fn advance_to_now(&mut self, clock: &dyn Clock) {
        if self.is_timed() && !self.closed {
            self.advance(clock.now(), clock);
        }
    }

    /// Advances the model to `now`, and lets tasks run after each timer that expires.
    pub fn advance(&mut self, now: Time, clock: &dyn Clock) {
        while let Some(at) = self.kernel.next_deadline().filter(|at| *at <= now) {
            self.fx.clear();
            let at = at.max(self.kernel.now());
            if self.kernel.apply(&Event::Advance(at), &mut self.fx).is_err() {
                return;
            }
            self.settle(clock);
        }
        self.pass_time(now);
    }

    /// Advances the model to `now` if no timer expires until then.
    pub fn pass_time(&mut self, now: Time) {
        if now > self.kernel.now() && self.kernel.next_deadline().is_none_or(|at| at > now) {
            self.fx.clear();
            let _ = self.kernel.apply(&Event::Advance(now), &mut self.fx);
        }
    }

    /// Applies an event from outside of the model, and settles.
    pub fn apply_external<R>(
        &mut self,
        clock: &dyn Clock,
        act: impl FnOnce(&mut Kernel, &mut Effects) -> R,
    ) -> R {
        self.fx.clear();
        let result = act(&mut self.kernel, &mut self.fx);
        self.settle(clock);
        result
    }

    /// Applies a report, if its process is in the table.
    pub fn receive(&mut self, key: ProcessKey, report: Report, clock: &dyn Clock) {
        match report {
            Report::Status(status) => self.report_status(key, status, clock),
            Report::Usage(usage) => self.report_usage(key, usage, clock),
        }
    }

    fn report_status(&mut self, key: ProcessKey, status: WaitStatus, clock: &dyn Clock) {
        if !self.closed && self.process_registry.entry(key).is_some() {
            // the model refuses the report if the process has ended, and nothing has changed then
            let _ =
                self.apply_external(clock, |kernel, fx| kernel.apply_report(key.pid, status, fx));
        }
    }

    /// Wakes the threads whose timeouts have passed.
    fn expire(&mut self, now: Time) {
        while let Some(first) = self.timeouts.first_entry().filter(|entry| entry.key().0 <= now) {
            self.process_registry.outbox.wakes.push(Wake::new(first.remove(), None));
        }
    }

    /// Reaps the zombies of the init that are due. Returns their number.
    fn reap(&mut self, now: Time, clock: &dyn Clock) -> usize {
        let mut reaped = 0;
        while reaped < REAPED_AT_ONCE && !self.closed {
            let Some(key) = self.process_registry.zombies.due(now, &self.process_registry.entries)
            else {
                break;
            };
            self.reap_child(Pid(1), key.pid, clock);
            reaped += 1;
        }
        reaped
    }

    /// Reaps `child`, a zombie of `parent`, and discards its status.
    pub fn reap_child(&mut self, parent: Pid, child: Pid, clock: &dyn Clock) {
        let call = wait_for_zombie(child);
        let _ = self.apply_external(clock, |kernel, fx| kernel.poll_wait(parent, &call, fx));
    }

    /// The earliest deadline: a timer of the model, a zombie of the init, a timeout.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<Time> {
        let timeout = self.timeouts.first_key_value().map(|((at, _), _)| *at);
        let zombie = self.process_registry.zombies.next(&self.process_registry.entries);
        [self.kernel.next_deadline(), zombie, timeout].into_iter().flatten().min()
    }

    /// Unparks `parker` at the time `at`. The result identifies the timeout.
    pub fn add_timeout(&mut self, at: Time, parker: Arc<Parker>) -> (Time, u64) {
        self.timeout_number += 1;
        let place = (at, self.timeout_number);
        self.timeouts.insert(place, parker);
        place
    }

    pub fn remove_timeout(&mut self, place: (Time, u64)) {
        self.timeouts.remove(&place);
    }

    /// Whether the timeout is still in the list, so that its time has not come.
    pub fn has_timeout(&self, place: (Time, u64)) -> bool {
        self.timeouts.contains_key(&place)
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }
}
