//! The lock, and what happens around it.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use std::time::Instant;

use super::book::{Book, Image, Notice, Outbox, Token, Wake};
use super::call::{End, Pending, Queued, Started};
use super::clock::Clock;
use super::config::{Init, Keeper, TableConfig};
use super::event::What;
use super::lane::{Errand, Gone};
use super::zombies::Zombies;
use super::{Handle, OnProcessExit, Process, ProcessTable, keeper};
use crate::abi::{Errno, Pid, Time, WaitOptions, WaitStatus};
use crate::driver::{Op, perform};
use crate::kernel::{Canonical, Effects, Event, Kernel, Outcome, Refused};
use crate::sync::{Mutex, MutexGuard, Parker, ThreadId, contain, current, is_current};
use crate::syscall::{self, Ptr, Ret, Syscall};

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
    fx: Effects,
    pub book: Book,
    /// [`TableLimits::processes`](super::TableLimits::processes).
    max_processes: u32,
    pub on_exit: Option<OnProcessExit>,
    /// For the callback, which gets a handle.
    pub handle: Weak<Handle>,
    /// The thread that runs the callback now.
    announcer: Option<ThreadId>,
    /// Sleepers by their timeouts, where real time has nothing to say.
    timeouts: BTreeMap<(Time, u64), Arc<Parker>>,
    timeout_number: u64,
    /// When the background thread will look at this table, by the table's clock and by its own.
    kept: Option<(Time, Instant)>,
    closed: bool,
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
    fn leave(self: &Arc<Shared>, mut state: MutexGuard<'_, State>) {
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

    /// What was noted under the lock, now that it is free: drivers before callbacks, and these
    /// before anybody is woken, but for those whom a driver may wait for.
    fn carry_out(self: &Arc<Shared>, outbox: Outbox) {
        let Outbox { errands, wakes, exits } = outbox;
        let wake = |first: bool| {
            let wakes = wakes.iter().filter(|wake| wake.first == first);
            wakes.for_each(|wake| wake.parker.unpark());
        };
        wake(true);
        let waited = !errands.is_empty() || exits != 0;
        let mut gone = Vec::new();
        let told = self.run_errands(errands, &mut gone);
        if exits != 0 || told {
            self.announce(exits);
        }
        wake(false);
        if waited && !wakes.is_empty() {
            self.state.lock().book.woken(&wakes);
        }
        self.drop_drivers(gone);
    }

    /// Their `Drop` is foreign: it comes last, and a panic of it counts as one in their last
    /// operation.
    fn drop_drivers(&self, gone: Vec<Gone>) {
        for (token, driver) in gone {
            if !contain(|| drop(driver)) {
                self.fault(token.pid, Op::Reaped);
            }
        }
    }

    /// Has drivers carry out operations, and those that come for the same drivers meanwhile. Gives
    /// back drivers that it may be the last owner of in `gone`; whether a callback has waited for one.
    fn run_errands(self: &Arc<Shared>, mut errands: Vec<Errand>, gone: &mut Vec<Gone>) -> bool {
        let mut told = false;
        while !errands.is_empty() {
            self.run_each(&errands);
            let mut state = self.state.lock();
            if !state.book.notices.is_empty() {
                told |= state.book.carried_out(&errands);
            }
            state.book.lanes.take_back(&mut errands, gone);
            if errands.is_empty() && state.book.outbox.errands.capacity() == 0 {
                // the next ones are noted in the same memory
                core::mem::swap(&mut state.book.outbox.errands, &mut errands);
            }
        }
        told
    }

    /// One net for all of them, in which a driver that panics does not keep the others.
    fn run_each(self: &Arc<Shared>, errands: &[Errand]) {
        let mut begun = 0;
        let perform = |errand: &Errand| {
            let Some(driver) = &errand.driver else { return };
            perform(&**driver, &errand.op);
        };
        while begun < errands.len() {
            let rest = || {
                for errand in &errands[begun..] {
                    begun += 1;
                    perform(errand);
                }
            };
            if !contain(rest) {
                let Errand { token, op, .. } = errands[begun - 1];
                self.fault(token.pid, op);
            }
        }
    }

    /// A driver panicked.
    fn fault(&self, pid: Pid, op: Op) {
        self.state.lock().book.subscribers.publish(pid, What::DriverFault(op), None);
    }

    /// Drivers have been told of what happened in a step, or of an earlier end: runs the callback for
    /// the exits that it can run for, unless a thread is about it.
    fn announce(self: &Arc<Shared>, step: u64) {
        self.state.lock().book.told(step);
        loop {
            let mut state = self.state.lock();
            if state.announcer.is_some() {
                return;
            }
            let Some((token, status)) = state.book.next_notice() else { return };
            let callback = state.on_exit.clone();
            let handle = state.handle.upgrade();
            state.announcer = Some(current().id());
            drop(state);
            if let (Some(callback), Some(handle)) = (callback, handle) {
                // a panic of the callback, or of its `Drop`, is no reason to lose an exit
                contain(move || callback(&Process::new(ProcessTable(handle), token), status));
            }
            let mut state = self.state.lock();
            state.announcer = None;
            state.book.announced();
            state.answer_waits(&*self.clock);
            self.leave(state);
        }
    }

    /// A guest's call begins.
    #[inline]
    pub(crate) fn start(
        self: &Arc<Shared>,
        caller: Pid,
        serial: Option<u64>,
        call: &Syscall,
    ) -> Started {
        self.start_under(self.state.lock(), caller, serial, call, None)
    }

    /// A call of a guest by its own thread, which sleeps on `parker`, from code that is in that many
    /// handlers, those that were entered before included. `None` if it is in more by now: they come
    /// first.
    pub(crate) fn start_within(
        self: &Arc<Shared>,
        caller: Token,
        call: &Syscall,
        parker: &Arc<Parker>,
        handlers: usize,
    ) -> Option<Started> {
        let mut state = self.state.lock();
        state.catch_up(&*self.clock);
        let lives = state.book.entry(caller).is_some();
        if lives && state.kernel.handler_depth(caller.pid) > handlers {
            self.leave(state);
            return None;
        }
        Some(self.start_under(state, caller.pid, Some(caller.serial), call, Some(parker)))
    }

    #[inline]
    fn start_under(
        self: &Arc<Shared>,
        mut state: MutexGuard<'_, State>,
        caller: Pid,
        serial: Option<u64>,
        call: &Syscall,
        parker: Option<&Arc<Parker>>,
    ) -> Started {
        let timed = state.is_timed() || needs_time(call);
        let started = self.begin(&mut state, caller, serial, call, parker, timed);
        // nothing is to be done, and nothing is due that was not before
        let is_quiet = !timed && !state.has_effects();
        match started {
            Started::Plain(Ok(value)) if is_quiet => Started::Plain(Ok(value)),
            Started::Plain(Err(errno)) if is_quiet => Started::Plain(Err(errno)),
            started => self.go_on(state, started),
        }
    }

    /// A call that may have brought something about has begun: that is seen to.
    #[inline(never)]
    fn go_on(self: &Arc<Shared>, state: MutexGuard<'_, State>, started: Started) -> Started {
        self.leave(state);
        match started {
            // it may have ended while the lock was free
            Started::Pending(pending) => match pending.end() {
                Some(end) => Started::Ended(end),
                None => Started::Pending(pending),
            },
            ended => ended,
        }
    }

    /// The part of a call's beginning that is under the lock. What is due comes first, and the
    /// caller may not live to make its call.
    #[inline]
    fn begin(
        &self,
        state: &mut State,
        caller: Pid,
        serial: Option<u64>,
        call: &Syscall,
        parker: Option<&Arc<Parker>>,
        timed: bool,
    ) -> Started {
        if state.closed {
            return Started::Ended(End::Gone);
        }
        if timed {
            state.advance(self.clock.now(), &*self.clock);
        }
        let stranger = |serial| state.book.entry(Token { pid: caller, serial }).is_none();
        if serial.is_some_and(stranger) {
            return Started::Ended(End::Gone);
        }
        if is_fork(call) && state.is_full() && state.kernel.in_user_mode(caller) {
            return Started::Ended(End::Returned(Err(Errno::EAGAIN)));
        }
        state.make(caller, call, parker, &*self.clock)
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

/// Calls that read the clock.
fn needs_time(call: &Syscall) -> bool {
    matches!(
        call,
        Syscall::Alarm(_)
            | Syscall::Setitimer { .. }
            | Syscall::Getitimer { .. }
            | Syscall::RtSigtimedwait { timeout: Some(_), .. }
    )
}

/// Takes a zombie and nothing else of it.
pub(super) fn wait_for_zombie(child: Pid) -> Syscall {
    let (pid, options) = (child.0 as i32, WaitOptions::ALL);
    Syscall::Wait4 { pid, status: Ptr::Null, options }
}

/// A wait that does not sleep, and does not say whether it found anything.
fn tells_nothing(call: &Syscall, result: &syscall::Result) -> bool {
    let Syscall::Waitid { options, .. } = call else { return false };
    options.contains(WaitOptions::NOHANG)
        && matches!(result, Ok(Ret::WaitInfo(None)) | Err(Errno::EFAULT))
}

fn is_fork(call: &Syscall) -> bool {
    matches!(call, Syscall::Fork | Syscall::Vfork | Syscall::Clone { .. })
}

impl State {
    /// Makes a guest's call, or notes it for when the guest can.
    #[inline(always)]
    pub fn make(
        &mut self,
        caller: Pid,
        call: &Syscall,
        parker: Option<&Arc<Parker>>,
        clock: &dyn Clock,
    ) -> Started {
        self.fx.clear();
        let outcome = self.kernel.call(caller, call, &mut self.fx);
        match self.plain(&outcome) {
            // by itself, so that no block of bytes is moved
            Some(Ok(value)) if !self.has_effects() => Started::Plain(Ok(value)),
            Some(Err(errno)) if !self.has_effects() => Started::Plain(Err(errno)),
            _ => self.note_outcome(caller, call, outcome, parker, clock),
        }
    }

    /// Whether the last transition has changed anything.
    #[inline]
    fn has_effects(&self) -> bool {
        !self.fx.list().is_empty() || !self.fx.woken().is_empty()
    }

    /// What a call has come to that has returned more than a number, or done more.
    #[inline(never)]
    fn note_outcome(
        &mut self,
        caller: Pid,
        call: &Syscall,
        outcome: Result<Outcome, Refused>,
        parker: Option<&Arc<Parker>>,
        clock: &dyn Clock,
    ) -> Started {
        let means_more = is_fork(call) || matches!(call, Syscall::Execve { .. });
        if !means_more && let Some(result) = self.plain(&outcome) {
            self.settle(clock);
            return Started::Plain(result);
        }
        match outcome {
            Ok(outcome) => {
                let own = self.is_callback();
                let started = self.begin(caller, call, outcome, own, || Pending::new(parker));
                self.settle(clock);
                self.name_child(call, started)
            }
            Err(Refused::NotInUserMode(_)) => {
                self.queue(caller, call.clone(), Pending::queued(parker))
            }
            Err(_) => Started::Ended(End::Gone),
        }
    }

    /// The number or errno that a call has returned, if its caller sees it at once.
    #[inline]
    fn plain(&self, outcome: &Result<Outcome, Refused>) -> Option<Result<i64, Errno>> {
        let Ok(Outcome::Returned(result)) = outcome else { return None };
        if self.kernel.runnable().len() > 0 {
            return None;
        }
        match result {
            Ok(Ret::Value(value)) => Some(Ok(*value)),
            Ok(_) => None,
            // a wait that found an exit may have no place to tell of it
            Err(Errno::EFAULT) if !self.book.notices.is_empty() => None,
            Err(errno) => Some(Err(*errno)),
        }
    }

    /// Notes a call for when its caller can make it.
    fn queue(&mut self, caller: Pid, call: Syscall, pending: Arc<Pending>) -> Started {
        let handlers = self.kernel.handlers_below(caller);
        let Some(entry) = self.book.entries.get_mut(caller) else {
            return Started::Ended(End::Gone);
        };
        let queued = Queued { call, pending: pending.clone(), handlers };
        entry.calls.get_or_insert_default().queued.push_back(queued);
        self.note_sleep(&pending.parker);
        Started::Pending(pending)
    }

    /// A fork's result names the child for good: its number may be another's soon.
    #[inline]
    fn name_child(&self, call: &Syscall, started: Started) -> Started {
        if !is_fork(call) {
            return started;
        }
        let child = match &started {
            Started::Ended(End::Returned(Ok(Ret::Value(pid)))) => Pid(*pid as u32),
            _ => return started,
        };
        self.book.token(child).map_or(started, |child| Started::Ended(End::Forked(child)))
    }

    /// Who sleeps because of the callback that runs now is told before it has returned.
    pub fn note_sleep(&mut self, parker: &Arc<Parker>) {
        if self.is_callback() && !self.book.is_the_callbacks(parker) {
            self.book.callback_sleeps.push(parker.clone());
        }
    }

    /// Whether the callback for an exit acts.
    pub fn is_callback(&self) -> bool {
        is_current(self.announcer)
    }

    /// What a call has come to before others have run. The callback that runs now does not wait for
    /// itself.
    #[inline(always)]
    fn begin(
        &mut self,
        caller: Pid,
        call: &Syscall,
        outcome: Outcome,
        callbacks_own: bool,
        pending: impl FnOnce() -> Arc<Pending>,
    ) -> Started {
        // what others do because of it comes before the program sees the result
        let held = self.kernel.runnable().len() > 0;
        if let (Syscall::Execve { path, .. }, Outcome::Returned(Ok(_))) = (call, &outcome) {
            self.book.execute(caller, path);
        }
        if matches!(call, Syscall::Execve { .. } | Syscall::RtSigreturn) {
            // what a handler kept from being made
            self.book.make_ready(caller);
        }
        match outcome {
            Outcome::Gone | Outcome::Done => Started::Ended(End::Returned(Ok(Ret::Never))),
            Outcome::Returned(result) if !held => {
                match self.notice_for(call, &result, callbacks_own) {
                    Some(nth) => {
                        let pending = pending();
                        let end = End::Returned(result);
                        self.book.hold_back(nth, caller, pending.clone(), end);
                        Started::Pending(pending)
                    }
                    None => Started::Ended(End::Returned(result)),
                }
            }
            Outcome::Returned(_) | Outcome::Blocked => {
                let pending = pending();
                self.note_sleep(&pending.parker);
                if let Some(entry) = self.book.entries.get_mut(caller) {
                    entry.calls.get_or_insert_default().begun.push(pending.clone());
                }
                Started::Pending(pending)
            }
        }
    }

    /// The exit that a call's result is about, if its callback has not run.
    #[inline]
    fn notice_for(
        &self,
        call: &Syscall,
        result: &syscall::Result,
        callbacks_own: bool,
    ) -> Option<usize> {
        if self.book.notices.is_empty() || callbacks_own || tells_nothing(call, result) {
            return None;
        }
        self.book.notice_of(result)
    }

    /// Everything that processes do by themselves, what all of it means, the calls that they can
    /// make now, and then what that is to those who wait for children.
    #[inline]
    pub fn settle(&mut self, clock: &dyn Clock) {
        self.digest(clock);
        while let Some(pid) = self.book.ready.pop() {
            self.make_queued(pid, clock);
        }
        if !self.book.concerned.is_empty() {
            self.answer_waits(clock);
        }
    }

    fn digest(&mut self, clock: &dyn Clock) {
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

    /// A process that had calls waiting may be able to make one.
    fn make_queued(&mut self, pid: Pid, clock: &dyn Clock) {
        if !self.kernel.in_user_mode(pid) {
            return;
        }
        let handlers = self.kernel.handlers_below(pid);
        let Some(Queued { call, pending, .. }) = self.book.next_queued(pid, handlers) else {
            return;
        };
        if is_fork(&call) && self.is_full() {
            self.book.finish(pid, &pending, End::Returned(Err(Errno::EAGAIN)));
            return self.book.make_ready(pid);
        }
        if needs_time(&call) {
            self.pass_time(clock.now());
        }
        self.fx.clear();
        let Ok(outcome) = self.kernel.call(pid, &call, &mut self.fx) else { return };
        pending.make();
        let own = self.book.is_the_callbacks(&pending.parker);
        let started = self.begin(pid, &call, outcome, own, || pending.clone());
        self.digest(clock);
        if let Started::Ended(end) = self.name_child(&call, started) {
            self.book.finish(pid, &pending, end);
        }
        self.book.make_ready(pid);
    }

    /// Whether there can be no more processes.
    pub fn is_full(&self) -> bool {
        self.kernel.len() >= self.max_processes as usize
    }

    /// Whether what happens now depends on what time it is.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.kernel.next_deadline().is_some() || self.kernel.has_idle_timers()
    }

    /// Before anything that depends on what time it is: time passes until the present.
    #[inline]
    fn catch_up(&mut self, clock: &dyn Clock) {
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
    fn pass_time(&mut self, now: Time) {
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

    /// The exit of a zombie, if its callback has not run.
    pub fn unannounced(&mut self, pid: Pid) -> Option<&mut Notice> {
        let serial = self.book.token(pid)?.serial;
        self.book.notices.iter_mut().find(|notice| notice.token.serial == serial)
    }
}
