//! A guest's calls, from their beginning to their end.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::book::{Book, Image, Token};
use super::call::{End, Pending, Queued, Started};
use super::clock::Clock;
use super::commit::{Shared, State};
use super::outbox::Wake;
use crate::abi::{Errno, Pid};
use crate::kernel::{Outcome, Refused};
use crate::sync::{MutexGuard, Parker};
use crate::syscall::{self, Ret, Syscall};

/// Calls in progress.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The innermost last: a handler may call while the call that it interrupted has not returned.
    pub begun: Vec<Arc<Pending>>,
    /// Calls that the process cannot make yet.
    pub queued: VecDeque<Queued>,
    /// Calls whose results wait for a callback.
    pub held: Vec<Arc<Pending>>,
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

impl Shared {
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
        let is_quiet = !timed && !state.settled;
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
        if state.is_closed() {
            return Started::Ended(End::Gone);
        }
        if timed {
            state.advance(self.clock.now(), &*self.clock);
        }
        let stranger = |serial| state.book.entry(Token { pid: caller, serial }).is_none();
        if serial.is_some_and(stranger) {
            return Started::Ended(End::Gone);
        }
        if call.is_fork() && state.is_full() && state.kernel.in_user_mode(caller) {
            return Started::Ended(End::Returned(Err(Errno::EAGAIN)));
        }
        state.make(caller, call, parker, &*self.clock)
    }
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
        let means_more = call.is_fork() || matches!(call, Syscall::Execve { .. });
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
        if !call.is_fork() {
            return started;
        }
        let child = match &started {
            Started::Ended(End::Returned(Ok(Ret::Value(pid)))) => Pid(*pid as u32),
            _ => return started,
        };
        self.book.token(child).map_or(started, |child| Started::Ended(End::Forked(child)))
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

    /// A process that had calls waiting may be able to make one.
    pub fn make_queued(&mut self, pid: Pid, clock: &dyn Clock) {
        if !self.kernel.in_user_mode(pid) {
            return;
        }
        let handlers = self.kernel.handlers_below(pid);
        let Some(Queued { call, pending, .. }) = self.book.next_queued(pid, handlers) else {
            return;
        };
        if call.is_fork() && self.is_full() {
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
}

impl Book {
    /// The program sees the result of its innermost call.
    pub fn end_call(&mut self, pid: Pid, result: &syscall::Result) {
        let Some(entry) = self.entries.get_mut(pid) else { return };
        let Some(calls) = &mut entry.calls else { return };
        let Some(pending) = calls.begun.pop() else { return };
        let end = End::Returned(result.clone());
        let notice = match self.notices.is_empty() {
            false if !self.is_the_callbacks(&pending.parker) => self.notice_of(result),
            _ => None,
        };
        match notice {
            Some(nth) => self.hold_back(nth, pid, pending, end),
            None => self.finish(pid, &pending, end),
        }
    }

    pub fn finish(&mut self, pid: Pid, pending: &Pending, end: End) {
        pending.finish(end);
        self.outbox.wakes.push(Wake::new(pending.parker.clone(), Some(pid)));
    }

    /// The next call that waits for its caller to be in no more handlers than that. Costs a look
    /// at those in front of it.
    pub fn next_queued(&mut self, pid: Pid, handlers: usize) -> Option<Queued> {
        let calls = self.entries.get_mut(pid)?.calls.as_mut()?;
        // a handler's call overtakes those that wait for the handler to return
        let nth = calls.queued.iter().position(|queued| handlers <= queued.handlers)?;
        calls.queued.remove(nth)
    }

    /// A process may be able to make the calls that wait for it.
    pub fn make_ready(&mut self, pid: Pid) {
        let calls = self.entries.get(pid).and_then(|entry| entry.calls.as_ref());
        if calls.is_some_and(|calls| !calls.queued.is_empty()) {
            self.ready.push(pid);
        }
    }

    /// Nobody will see the results of its calls: it ended.
    pub fn abort_calls(&mut self, pid: Pid) {
        for parker in self.unwoken.get(&pid).into_iter().flatten().cloned() {
            self.outbox.wakes.push(Wake::first(parker, Some(pid)));
        }
        let Some(calls) = self.entries.get_mut(pid).and_then(|entry| entry.calls.take()) else {
            return;
        };
        let queued = calls.queued.into_iter().map(|queued| queued.pending);
        for pending in calls.begun.into_iter().chain(queued).chain(calls.held) {
            self.abort(&pending);
        }
    }

    fn abort(&mut self, pending: &Pending) {
        pending.finish(End::Gone);
        self.outbox.wakes.push(Wake::first(pending.parker.clone(), None));
    }

    /// It executes another program: the calls that handlers had interrupted do not return.
    pub fn execute(&mut self, pid: Pid, path: &Arc<str>) {
        let image = self.take_prepared(path).unwrap_or_else(|| Arc::new(Image::new(&**path)));
        let Some(entry) = self.entries.get_mut(pid) else { return };
        entry.image = image;
        let calls = entry.calls.as_mut();
        let begun = calls.map(|calls| core::mem::take(&mut calls.begun)).unwrap_or_default();
        for pending in begun {
            self.abort(&pending);
        }
    }
}
