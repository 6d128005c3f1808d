//! The lock, and what happens around it.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use std::time::Instant;

use super::clock::Clock;
use super::config::{Init, TableConfig, TimerMode};
use super::outbox::Wake;
use super::registry::{Image, ProcessKey, ProcessRegistry};
use super::zombies::ZombieQueue;
use super::{OnProcessExit, TableHandle, timer_thread};
use crate::abi::{Pid, Time, WaitOptions, WaitStatus};
use crate::kernel::{Canonical, Effects, Event, Kernel};
use crate::sync::{Mutex, MutexGuard, Parker, ThreadId};
use crate::syscall::{Ptr, Syscall};

/// How many zombies are reaped before others get the lock.
const REAPED_AT_ONCE: usize = 1024;

/// A table, as its handles, guests and drivers share it.
pub(crate) struct TableInner {
    pub(super) state: Mutex<TableState>,
    pub(super) clock: Arc<dyn Clock>,
    /// [`TableLimits::subscribers`](super::TableLimits::subscribers).
    pub(super) max_subscribers: u32,
    pub(super) init: Init,
    timer_mode: TimerMode,
}

impl core::fmt::Debug for TableInner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

/// Everything under the lock.
pub(super) struct TableState {
    pub kernel: Kernel,
    pub fx: Effects,
    pub process_registry: ProcessRegistry,
    /// [`TableLimits::processes`](super::TableLimits::processes).
    max_processes: u32,
    pub on_exit: Option<OnProcessExit>,
    /// For the callback, which gets a handle.
    pub handle: Weak<TableHandle>,
    /// The thread that runs the callback now.
    pub callback_thread: Option<ThreadId>,
    /// Sleepers by their timeouts, where real time has nothing to say.
    timeouts: BTreeMap<(Time, u64), Arc<Parker>>,
    timeout_number: u64,
    /// When the background thread will look at this table, by the table's clock and by its own.
    scheduled: Option<(Time, Instant)>,
    closed: bool,
    /// Something may have been noted since the lock was taken: it must not be free again before
    /// that was looked at.
    pub settled: bool,
}

impl TableInner {
    pub(super) fn new(config: TableConfig) -> Arc<TableInner> {
        let ttl = config.zombie_ttl.filter(|_| config.init == Init::Table);
        let mut registry = ProcessRegistry::new(ZombieQueue::new(ttl));
        let clock = config.time();
        registry.enter(Pid(1), Image::init(), &*clock);
        let mut state = TableState {
            kernel: Kernel::new(config.model()),
            // nobody asks a table which rules it obeyed
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
        };
        if config.init == Init::Table {
            // GRP-22: it leads a session of its own, whose number its children see
            let _ = state.make(Pid(1), &Syscall::Setsid, None, &*clock);
        }
        let TableConfig { init, timer_mode, limits, .. } = config;
        let max_subscribers = limits.subscribers;
        Arc::new(TableInner { state: Mutex::new(state), clock, max_subscribers, init, timer_mode })
    }

    /// One act under the lock, and then whatever it brought about.
    pub(super) fn commit<R>(self: &Arc<TableInner>, act: impl FnOnce(&mut TableState) -> R) -> R {
        let mut state = self.state.lock();
        state.advance_to_now(&*self.clock);
        let result = act(&mut state);
        self.leave(state);
        result
    }

    /// Frees the lock and does what was noted under it.
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
        // first: what is carried out may wait for what is due
        if let Some((at, instead_of)) = due {
            timer_thread::schedule(self, at, instead_of);
        }
        self.carry_out(outbox);
    }

    /// When the background thread has to look, and when it would have, if that is earlier than it
    /// knows.
    #[inline]
    fn schedule_change(&self, state: &mut TableState) -> Option<(Instant, Option<Instant>)> {
        // under shuttle time does not pass, and no thread outlives a schedule
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

    /// A driver reports about its process.
    pub(crate) fn report(self: &Arc<TableInner>, key: ProcessKey, status: WaitStatus) {
        self.commit(|state| state.report(key, status, &*self.clock));
    }

    /// Does what is due; how many zombies were reaped.
    pub(super) fn run_due(self: &Arc<TableInner>, now: Time) -> usize {
        self.commit(|state| {
            // nobody hears of what happens after the end, drivers least of all
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

    /// The background thread looks.
    pub(super) fn keep(self: &Arc<TableInner>) {
        self.state.lock().scheduled = None;
        self.run_due(self.clock.now());
    }

    /// The last handle is gone.
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
        self.carry_out(outbox);
        // foreign, and so last
        drop(callback);
    }
}

/// Takes a zombie and nothing else of it.
pub(super) fn wait_for_zombie(child: Pid) -> Syscall {
    let (pid, options) = (child.0 as i32, WaitOptions::ALL);
    Syscall::Wait4 { pid, status: Ptr::Null, options }
}

impl TableState {
    /// Whether the last transition has changed anything.
    #[inline]
    pub fn has_effects(&self) -> bool {
        !self.fx.list().is_empty() || !self.fx.woken().is_empty()
    }

    /// Everything that processes do by themselves, what all of it means, the calls that they can
    /// make now, and then what that is to those who wait for children.
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

    /// What the effects mean for drivers, sleepers and subscribers.
    fn note_effects(&mut self, clock: &dyn Clock) {
        self.process_registry.now = None;
        for effect in self.fx.list() {
            self.process_registry.note(&self.kernel, effect, clock);
        }
        for woken in self.fx.woken() {
            self.process_registry.wake(woken);
        }
    }

    /// Whether there can be no more processes and threads.
    pub fn is_full(&self) -> bool {
        self.kernel.task_count() >= self.max_processes as usize
    }

    /// Whether what happens now depends on what time it is.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.kernel.next_deadline().is_some() || self.kernel.has_idle_timers()
    }

    /// Before anything that depends on what time it is: time passes until the present.
    #[inline]
    pub fn advance_to_now(&mut self, clock: &dyn Clock) {
        if self.is_timed() && !self.closed {
            self.advance(clock.now(), clock);
        }
    }

    /// Time passes until `now`, and everybody acts as their timers go off.
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

    /// The same where nothing is due.
    pub fn pass_time(&mut self, now: Time) {
        if now > self.kernel.now() && self.kernel.next_deadline().is_none_or(|at| at > now) {
            self.fx.clear();
            let _ = self.kernel.apply(&Event::Advance(now), &mut self.fx);
        }
    }

    /// Applies something that comes from outside of the model, and settles.
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

    /// What a driver says about its process, if that still lives.
    pub fn report(&mut self, key: ProcessKey, status: WaitStatus, clock: &dyn Clock) {
        if !self.closed && self.process_registry.entry(key).is_some() {
            // one that ended meanwhile is refused: nothing has changed then
            let _ =
                self.apply_external(clock, |kernel, fx| kernel.apply_report(key.pid, status, fx));
        }
    }

    /// The sleepers whose time has come are woken.
    fn expire(&mut self, now: Time) {
        while let Some(first) = self.timeouts.first_entry().filter(|entry| entry.key().0 <= now) {
            self.process_registry.outbox.wakes.push(Wake::new(first.remove(), None));
        }
    }

    /// Reaps zombies of the init whose time has come; how many.
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

    /// A wait of `parent` for its zombie `child` that nobody wants the result of.
    pub fn reap_child(&mut self, parent: Pid, child: Pid, clock: &dyn Clock) {
        let call = wait_for_zombie(child);
        let _ = self.apply_external(clock, |kernel, fx| kernel.poll_wait(parent, &call, fx));
    }

    /// When something is due.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<Time> {
        let timeout = self.timeouts.first_key_value().map(|((at, _), _)| *at);
        let zombie = self.process_registry.zombies.next(&self.process_registry.entries);
        [self.kernel.next_deadline(), zombie, timeout].into_iter().flatten().min()
    }

    /// `parker` is to be told at that time.
    pub fn add_timeout(&mut self, at: Time, parker: Arc<Parker>) -> (Time, u64) {
        self.timeout_number += 1;
        let place = (at, self.timeout_number);
        self.timeouts.insert(place, parker);
        place
    }

    pub fn remove_timeout(&mut self, place: (Time, u64)) {
        self.timeouts.remove(&place);
    }

    /// Whether the time there has not come.
    pub fn has_timeout(&self, place: (Time, u64)) -> bool {
        self.timeouts.contains_key(&place)
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }
}
