//! The lock, and what happens around it.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use std::time::Instant;

use super::book::{Book, Image, Token};
use super::clock::Clock;
use super::config::{Init, Keeper, TableConfig};
use super::outbox::Wake;
use super::zombies::Zombies;
use super::{Handle, OnProcessExit, keeper};
use crate::abi::{Pid, Time, WaitOptions, WaitStatus};
use crate::kernel::{Canonical, Effects, Event, Kernel};
use crate::sync::{Mutex, MutexGuard, Parker, ThreadId};
use crate::syscall::{Ptr, Syscall};

/// How many zombies are reaped before others get the lock.
const REAPED_AT_ONCE: usize = 1024;

/// A table, as its handles, guests and drivers share it.
pub(crate) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) clock: Arc<dyn Clock>,
    /// [`TableLimits::subscribers`](super::TableLimits::subscribers).
    pub(super) max_subscribers: u32,
    pub(super) init: Init,
    keeper: Keeper,
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

/// Everything under the lock.
pub(super) struct State {
    pub kernel: Kernel,
    pub fx: Effects,
    pub book: Book,
    /// [`TableLimits::processes`](super::TableLimits::processes).
    max_processes: u32,
    pub on_exit: Option<OnProcessExit>,
    /// For the callback, which gets a handle.
    pub handle: Weak<Handle>,
    /// The thread that runs the callback now.
    pub announcer: Option<ThreadId>,
    /// Sleepers by their timeouts, where real time has nothing to say.
    timeouts: BTreeMap<(Time, u64), Arc<Parker>>,
    timeout_number: u64,
    /// When the background thread will look at this table, by the table's clock and by its own.
    kept: Option<(Time, Instant)>,
    closed: bool,
    /// Something may have been noted since the lock was taken: it must not be free again before that
    /// was looked at.
    pub settled: bool,
}

impl Shared {
    pub(super) fn new(config: TableConfig) -> Arc<Shared> {
        let ttl = config.zombie_ttl.filter(|_| config.init == Init::Table);
        let mut book = Book::new(Zombies::new(ttl));
        let clock = config.time();
        book.enter(Pid(1), Image::init(), &*clock);
        let mut state = State {
            kernel: Kernel::new(config.model()),
            // nobody asks a table which rules it obeyed
            fx: Effects::without_rules(),
            book,
            max_processes: config.limits.processes,
            on_exit: None,
            handle: Weak::new(),
            announcer: None,
            timeouts: BTreeMap::new(),
            timeout_number: 0,
            kept: None,
            closed: false,
            settled: false,
        };
        if config.init == Init::Table {
            // GRP-22: it leads a session of its own, whose number its children see
            let _ = state.make(Pid(1), &Syscall::Setsid, None, &*clock);
        }
        let TableConfig { init, keeper, limits, .. } = config;
        let max_subscribers = limits.subscribers;
        Arc::new(Shared { state: Mutex::new(state), clock, max_subscribers, init, keeper })
    }

    /// One act under the lock, and then whatever it brought about.
    pub(super) fn commit<R>(self: &Arc<Shared>, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        state.catch_up(&*self.clock);
        let result = act(&mut state);
        self.leave(state);
        result
    }

    /// Frees the lock and does what was noted under it.
    #[inline]
    pub(super) fn leave(self: &Arc<Shared>, mut state: MutexGuard<'_, State>) {
        state.settled = false;
        let due = self.needs_keeper(&mut state);
        if state.book.outbox.is_empty() && due.is_none() {
            return;
        }
        if !state.book.outbox.wakes.is_empty() {
            state.book.rank_wakes();
        }
        let outbox = core::mem::take(&mut state.book.outbox);
        drop(state);
        // first: what is carried out may wait for what is due
        if let Some((at, instead_of)) = due {
            keeper::schedule(self, at, instead_of);
        }
        self.carry_out(outbox);
    }

    /// When the background thread has to look, and when it would have, if that is earlier than it
    /// knows.
    #[inline]
    fn needs_keeper(&self, state: &mut State) -> Option<(Instant, Option<Instant>)> {
        // under shuttle time does not pass, and no thread outlives a schedule
        if cfg!(shuttle) || self.keeper == Keeper::Caller {
            return None;
        }
        let at = state.next_deadline()?;
        if state.closed || state.kept.is_some_and(|(kept, _)| kept <= at) {
            return None;
        }
        let instant = self.clock.instant(at)?;
        let later = state.kept.replace((at, instant));
        Some((instant, later.map(|(_, instant)| instant)))
    }

    /// A driver reports about its process.
    pub(crate) fn report(self: &Arc<Shared>, token: Token, status: WaitStatus) {
        self.commit(|state| state.report(token, status, &*self.clock));
    }

    /// Does what is due; how many zombies were reaped.
    pub(super) fn run_due(self: &Arc<Shared>, now: Time) -> usize {
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
    pub(super) fn keep(self: &Arc<Shared>) {
        self.state.lock().kept = None;
        self.run_due(self.clock.now());
    }

    /// The last handle is gone.
    pub(super) fn close(self: &Arc<Shared>) {
        let mut state = self.state.lock();
        state.closed = true;
        let kept = state.kept.take();
        let callback = state.on_exit.take();
        let outbox = state.book.close();
        drop(state);
        if let Some((_, at)) = kept {
            keeper::cancel(Arc::as_ptr(self), at);
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

impl State {
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
        self.digest(clock);
        while let Some(tid) = self.book.ready.pop() {
            self.make_queued(tid, clock);
        }
        if !self.book.concerned.is_empty() {
            self.answer_waits(clock);
        }
    }

    pub fn digest(&mut self, clock: &dyn Clock) {
        self.kernel.settle(&mut Canonical, &mut self.fx);
        if self.has_effects() {
            self.note_effects(clock);
        }
    }

    /// What the effects mean for drivers, sleepers and subscribers.
    fn note_effects(&mut self, clock: &dyn Clock) {
        self.book.now = None;
        for effect in self.fx.list() {
            self.book.note(&self.kernel, effect, clock);
        }
        for woken in self.fx.woken() {
            self.book.wake(woken);
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
    pub fn catch_up(&mut self, clock: &dyn Clock) {
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
    pub fn outside<R>(
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
    pub fn report(&mut self, token: Token, status: WaitStatus, clock: &dyn Clock) {
        if !self.closed && self.book.entry(token).is_some() {
            // one that ended meanwhile is refused: nothing has changed then
            let _ = self.outside(clock, |kernel, fx| kernel.mirror(token.pid, status, fx));
        }
    }

    /// The sleepers whose time has come are woken.
    fn expire(&mut self, now: Time) {
        while let Some(first) = self.timeouts.first_entry().filter(|entry| entry.key().0 <= now) {
            self.book.outbox.wakes.push(Wake::new(first.remove(), None));
        }
    }

    /// Reaps zombies of the init whose time has come; how many.
    fn reap(&mut self, now: Time, clock: &dyn Clock) -> usize {
        let mut reaped = 0;
        while reaped < REAPED_AT_ONCE && !self.closed {
            let Some(token) = self.book.zombies.due(now, &self.book.entries) else { break };
            self.reap_child(Pid(1), token.pid, clock);
            reaped += 1;
        }
        reaped
    }

    /// A wait of `parent` for its zombie `child` that nobody wants the result of.
    pub fn reap_child(&mut self, parent: Pid, child: Pid, clock: &dyn Clock) {
        let call = wait_for_zombie(child);
        let _ = self.outside(clock, |kernel, fx| kernel.poll_wait(parent, &call, fx));
    }

    /// When something is due.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<Time> {
        let timeout = self.timeouts.first_key_value().map(|((at, _), _)| *at);
        let zombie = self.book.zombies.next(&self.book.entries);
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
