//! A guest's calls, from their start to their end.

#[cfg(feature = "serde")]
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::call::{End, Pending, Queued, Started};
use super::clock::Clock;
use super::commit::{TableInner, TableState};
use super::delivery::Handlers;
use super::outbox::Wake;
use super::registry::{Image, ProcessKey, ProcessRegistry};
use super::thread::ThreadKey;
#[cfg(feature = "serde")]
use super::{registry::SERIALS, snapshot::SavedImages};
use crate::abi::{Errno, Pid};
use crate::kernel::{Kernel, Outcome, Refused};
use crate::sync::{MutexGuard, Parker};
use crate::syscall::{self, Ret, Syscall};

/// The caller of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// The thread that has this number at present; a process is its first thread.
    Number(Pid),
    /// The first living thread of this process.
    Process(ProcessKey),
    Thread(ThreadKey),
}

/// The calls in progress of one thread, and the handlers that it takes itself.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The innermost call is the last: a handler may make a call while the call that it interrupted
    /// has not returned.
    pub begun: Vec<Arc<Pending>>,
    /// Calls that the thread cannot make yet.
    pub queued: VecDeque<Queued>,
    /// Calls whose results wait for a callback.
    pub held: Vec<Arc<Pending>>,
    /// The program that the thread executes when the other threads of its process have ended.
    executing: Option<Executing>,
    pub handlers: Handlers,
}

/// An execve that takes effect after the call has started.
#[derive(Debug)]
struct Executing {
    path: Arc<str>,
    /// The call; `None` if it has returned.
    call: Option<Arc<Pending>>,
}

/// The calls of a thread in a snapshot. Programs are their places in its list.
#[cfg(feature = "serde")]
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct SavedCalls {
    /// Whether each of the calls that have begun creates a process or a thread.
    begun: Vec<bool>,
    /// Calls that the thread cannot make yet, with the handlers below them, and the programs of
    /// execve calls.
    queued: Vec<(Syscall, usize, Option<usize>)>,
    /// The path and the program of the execve in progress, and its place among the calls.
    executing: Option<(Arc<str>, Option<usize>, Option<usize>)>,
    handlers: Handlers,
}

#[cfg(feature = "serde")]
impl SavedCalls {
    /// The places of the programs.
    pub fn images(&self) -> impl Iterator<Item = usize> + '_ {
        let queued = self.queued.iter().filter_map(|(_, _, image)| *image);
        let executing = self.executing.iter().filter_map(|(_, image, _)| *image);
        queued.chain(executing)
    }
}

#[cfg(feature = "serde")]
impl ProcessRegistry {
    /// The calls of a thread for a snapshot. No exit callback is pending, so no result is held.
    pub fn save_calls(&self, tid: Pid, images: &mut SavedImages) -> Option<SavedCalls> {
        let calls = self.calls(tid)?;
        let mut image = |path: &Arc<str>| self.prepared(path).map(|image| images.place(image));
        let queued = calls.queued.iter().map(|Queued { call, handlers, .. }| {
            let program = match call {
                Syscall::Execve { path, .. } => image(path),
                _ => None,
            };
            (call.clone(), *handlers, program)
        });
        let queued = queued.collect();
        let executing = calls.executing.as_ref().map(|Executing { path, call }| {
            let nth = call
                .as_ref()
                .and_then(|call| calls.begun.iter().position(|pending| Arc::ptr_eq(pending, call)));
            (path.clone(), image(path), nth)
        });
        let begun = calls.begun.iter().map(|pending| pending.creates).collect();
        let mut handlers = calls.handlers.clone();
        handlers.renumber(|serial| serial & SERIALS);
        Some(SavedCalls { begun, queued, executing, handlers })
    }

    /// Gives a thread the calls of a snapshot, whose serials get the bits of `table`.
    pub fn restore_calls(
        &mut self,
        tid: Pid,
        saved: Option<SavedCalls>,
        images: &[Arc<Image>],
        table: u64,
    ) {
        let Some(SavedCalls { begun, queued, executing, mut handlers }) = saved else { return };
        self.entered += handlers.renumber(|serial| table | serial & SERIALS);
        let begun: Vec<Arc<Pending>> = begun.into_iter().map(Pending::restored).collect();
        let mut calls = Calls { handlers, ..Calls::default() };
        for (call, handlers, image) in queued {
            if let (Syscall::Execve { path, .. }, Some(image)) = (&call, image) {
                self.prepare(path.clone(), images[image].clone());
            }
            let pending = Pending::new(&call, None);
            calls.queued.push_back(Queued { call, pending, handlers });
        }
        calls.executing = executing.map(|(path, image, nth)| {
            if let Some(image) = image {
                self.prepare(path.clone(), images[image].clone());
            }
            Executing { path, call: nth.and_then(|nth| begun.get(nth).cloned()) }
        });
        calls.begun = begun;
        if let Some(slot) = self.calls_mut(tid) {
            *slot = Some(Box::new(calls));
        }
    }
}

impl TableInner {
    /// The calls of a caller that have not returned, the outermost first, and then those that it
    /// cannot make yet.
    pub(super) fn calls_in_progress(&self, caller: Caller) -> Vec<Arc<Pending>> {
        let state = self.state.lock();
        let calls = state.acting(caller).and_then(|tid| state.process_registry.calls(tid));
        let Some(calls) = calls else { return Vec::new() };
        let queued = calls.queued.iter().map(|queued| &queued.pending);
        calls.begun.iter().chain(queued).cloned().collect()
    }
}

/// Whether a call reads the clock.
fn needs_time(call: &Syscall) -> bool {
    matches!(
        call,
        Syscall::Alarm(_)
            | Syscall::Setitimer { .. }
            | Syscall::Getitimer { .. }
            | Syscall::RtSigtimedwait { timeout: Some(_), .. }
    )
}

impl TableInner {
    /// Starts a guest's call.
    #[inline]
    pub(crate) fn start(self: &Arc<TableInner>, caller: Caller, call: &Syscall) -> Started {
        self.start_under(self.state.lock(), caller, call, None, None)
    }

    /// Starts a call that code inside of `handlers` handlers makes.
    pub(super) fn start_within(
        self: &Arc<TableInner>,
        caller: Caller,
        call: &Syscall,
        handlers: usize,
    ) -> Started {
        self.start_under(self.state.lock(), caller, call, None, Some(handlers))
    }

    /// Starts a guest's call on the guest's own thread, which sleeps on `parker`.
    pub(crate) fn start_on(
        self: &Arc<TableInner>,
        caller: ThreadKey,
        call: &Syscall,
        parker: &Arc<Parker>,
    ) -> Started {
        self.start_under(self.state.lock(), Caller::Thread(caller), call, Some(parker), None)
    }

    #[inline]
    pub(super) fn start_under(
        self: &Arc<TableInner>,
        mut state: MutexGuard<'_, TableState>,
        caller: Caller,
        call: &Syscall,
        parker: Option<&Arc<Parker>>,
        handlers: Option<usize>,
    ) -> Started {
        let timed = state.is_timed() || needs_time(call);
        let started = self.start_or_queue(&mut state, caller, call, parker, timed, handlers);
        // no effect was recorded, and no deadline has changed
        let is_quiet = !timed && !state.settled;
        match started {
            Started::Plain(Ok(value)) if is_quiet => Started::Plain(Ok(value)),
            Started::Plain(Err(errno)) if is_quiet => Started::Plain(Err(errno)),
            started => self.go_on(state, started),
        }
    }

    /// Finishes the start of a call that may have had effects: carries them out.
    #[inline(never)]
    fn go_on(
        self: &Arc<TableInner>,
        state: MutexGuard<'_, TableState>,
        started: Started,
    ) -> Started {
        self.leave(state);
        match started {
            // the call may have ended while the lock was free
            Started::Pending(pending) => match pending.end() {
                Some(end) => Started::Ended(end),
                None => Started::Pending(pending),
            },
            ended => ended,
        }
    }

    /// Starts a call, or queues it. Runs under the lock. Timers that have expired come first, and
    /// the caller may end by them.
    #[inline]
    fn start_or_queue(
        &self,
        state: &mut TableState,
        caller: Caller,
        call: &Syscall,
        parker: Option<&Arc<Parker>>,
        timed: bool,
        handlers: Option<usize>,
    ) -> Started {
        if state.is_closed() {
            return Started::Ended(End::Gone);
        }
        let mut handlers = handlers;
        if timed {
            // the code that makes the call has not seen handlers that are entered now
            let number = state.number_of(caller);
            handlers = handlers.or(number.map(|tid| state.kernel.handler_depth(tid)));
            state.advance(self.clock.now(), &*self.clock);
        }
        let Some(tid) = state.number_of(caller) else { return Started::Ended(End::Gone) };
        if let Some(handlers) = handlers
            && state.kernel.handler_depth(tid) > handlers
            && !state.process_registry.takes_handlers(tid)
        {
            return state.queue(tid, call.clone(), Pending::new(call, parker), handlers);
        }
        state.try_make(tid, call, parker, &*self.clock)
    }
}

impl TableState {
    /// Makes a guest's call, unless the limit of processes is reached or handlers come first.
    #[inline]
    fn try_make(
        &mut self,
        tid: Pid,
        call: &Syscall,
        parker: Option<&Arc<Parker>>,
        clock: &dyn Clock,
    ) -> Started {
        if call.is_fork() && self.is_full() && self.kernel.in_user_mode(tid) {
            return Started::Ended(End::Returned(Err(Errno::EAGAIN)));
        }
        if self.process_registry.entered > 0 && self.must_deliver(tid) {
            return self.queue(tid, call.clone(), Pending::new(call, parker), self.level(tid));
        }
        self.make(tid, call, parker, clock)
    }

    /// Makes a guest's call, or queues it until the guest can make it.
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
            // in an arm of its own, so that the compiler copies no large value
            Some(Ok(value)) if !self.has_effects() => Started::Plain(Ok(value)),
            Some(Err(errno)) if !self.has_effects() => Started::Plain(Err(errno)),
            _ => self.note_outcome(caller, call, outcome, parker, clock),
        }
    }

    /// Classifies a call that has returned more than a number, or has had effects.
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
                let started = self
                    .classify_outcome(caller, call, outcome, own, || Pending::new(call, parker));
                self.settle(clock);
                self.name_child(call, started)
            }
            Err(Refused::NotInUserMode(_)) => {
                let handlers = self.level(caller);
                self.queue(caller, call.clone(), Pending::new(call, parker), handlers)
            }
            // the first thread of the process has ended: the next thread makes the call
            Err(_) => match self.first_living(caller) {
                Some(tid) => self.try_make(tid, call, parker, clock),
                None => Started::Ended(End::Gone),
            },
        }
    }

    /// The number or errno that a call has returned, if its caller sees it at once.
    #[inline]
    fn plain(&self, outcome: &Result<Outcome, Refused>) -> Option<Result<i64, Errno>> {
        let Ok(Outcome::Returned(result)) = outcome else { return None };
        if self.kernel.runnable_count() > 0 {
            return None;
        }
        match result {
            Ok(Ret::Value(value)) => Some(Ok(*value)),
            Ok(_) => None,
            // a wait that found an exit fails with EFAULT if it has no place to store the result
            Err(Errno::EFAULT) if !self.process_registry.pending_exits.is_empty() => None,
            Err(errno) => Some(Err(*errno)),
        }
    }

    /// Queues a call, which code inside of `handlers` handlers makes, until its caller can make it.
    fn queue(
        &mut self,
        caller: Pid,
        call: Syscall,
        pending: Arc<Pending>,
        handlers: usize,
    ) -> Started {
        let Some(calls) = self.process_registry.calls_mut(caller) else {
            return Started::Ended(End::Gone);
        };
        let queued = Queued { call, pending: pending.clone(), handlers };
        calls.get_or_insert_default().queued.push_back(queued);
        self.note_sleep(&pending.parker);
        Started::Pending(pending)
    }

    /// Replaces the number in a fork's result by the key of the child: another process may have the
    /// number later.
    #[inline]
    fn name_child(&self, call: &Syscall, started: Started) -> Started {
        if !call.is_fork() {
            return started;
        }
        match started {
            Started::Ended(End::Returned(result)) => {
                Started::Ended(self.process_registry.created(&self.kernel, result))
            }
            started => started,
        }
    }

    /// Classifies the outcome of a call, before other tasks have run. A call of the exit callback
    /// that runs at present does not wait for that callback.
    #[inline(always)]
    fn classify_outcome(
        &mut self,
        caller: Pid,
        call: &Syscall,
        outcome: Outcome,
        callbacks_own: bool,
        pending: impl FnOnce() -> Arc<Pending>,
    ) -> Started {
        // the program sees the result after other tasks have run because of the call
        let held = self.kernel.runnable_count() > 0;
        if let Syscall::Execve { path, .. } = call {
            self.begin_execve(caller, path, &outcome);
        } else if matches!(call, Syscall::RtSigreturn) {
            self.process_registry.note_sigreturn(caller);
        }
        match outcome {
            Outcome::Gone | Outcome::Done => Started::Ended(End::Returned(Ok(Ret::Never))),
            Outcome::Returned(result) if !held => {
                match self.pending_exit_for(call, &result, callbacks_own) {
                    Some(nth) => {
                        let pending = pending();
                        let end = End::Returned(result);
                        self.process_registry.hold_back(nth, caller, pending.clone(), end);
                        Started::Pending(pending)
                    }
                    None => Started::Ended(End::Returned(result)),
                }
            }
            Outcome::Returned(_) | Outcome::Blocked => {
                let pending = pending();
                self.note_sleep(&pending.parker);
                if let Some(calls) = self.process_registry.calls_mut(caller) {
                    let calls = calls.get_or_insert_default();
                    calls.begun.push(pending.clone());
                    if let Some(executing) = &mut calls.executing {
                        executing.call = Some(pending.clone());
                    }
                }
                Started::Pending(pending)
            }
        }
    }

    #[inline(never)]
    fn begin_execve(&mut self, caller: Pid, path: &Arc<str>, outcome: &Outcome) {
        match outcome {
            Outcome::Returned(Ok(_)) if self.process_registry.entries.get(caller).is_some() => {
                self.process_registry.execute(caller, path, None);
            }
            // it takes effect when the other threads have ended, and the caller is the leader
            Outcome::Returned(Ok(_)) | Outcome::Blocked => {
                self.process_registry.begin_executing(caller, path.clone());
            }
            Outcome::Returned(Err(_)) | Outcome::Gone | Outcome::Done => {}
        }
        // calls that a handler delayed may be possible
        self.process_registry.make_ready(caller);
    }

    /// Makes the next queued call of a thread, if the thread can make it.
    pub fn make_queued(&mut self, pid: Pid, clock: &dyn Clock) {
        if !self.kernel.in_user_mode(pid) {
            return;
        }
        let handlers = self.kernel.handlers_below(pid);
        let Some(Queued { call, pending, .. }) = self.process_registry.next_queued(pid, handlers)
        else {
            return;
        };
        if call.is_fork() && self.is_full() {
            self.process_registry.finish(pid, &pending, End::Returned(Err(Errno::EAGAIN)));
            return self.process_registry.make_ready(pid);
        }
        if needs_time(&call) {
            self.pass_time(clock.now());
        }
        self.fx.clear();
        let Ok(outcome) = self.kernel.call(pid, &call, &mut self.fx) else { return };
        let own = self.process_registry.is_the_callbacks(&pending.parker);
        let started = self.classify_outcome(pid, &call, outcome, own, || pending.clone());
        self.apply_effects(clock);
        if let Started::Ended(end) = self.name_child(&call, started) {
            self.process_registry.finish(pid, &pending, end);
        }
        self.process_registry.make_ready(pid);
    }
}

impl ProcessRegistry {
    /// The end of a fork, with the key of the child.
    fn created(&self, kernel: &Kernel, result: syscall::Result) -> End {
        let Ok(Ret::Value(number)) = result else { return End::Returned(result) };
        let child = Pid(number as u32);
        if let Some(child) = self.key(child) {
            return End::Forked(child);
        }
        let thread = self.threads.get(child).and_then(|_| kernel.task_id(child));
        thread.map_or(End::Returned(result), |thread| End::Threaded(thread, child))
    }

    /// Ends the innermost call of a thread: the program sees its result.
    pub fn end_call(&mut self, kernel: &Kernel, pid: Pid, result: &syscall::Result) {
        let Some(Some(calls)) = self.calls_mut(pid) else { return };
        let Some(pending) = calls.begun.pop() else { return };
        let end = match pending.creates {
            true => self.created(kernel, result.clone()),
            false => End::Returned(result.clone()),
        };
        let exit = match self.pending_exits.is_empty() {
            false if !self.is_the_callbacks(&pending.parker) => self.pending_exit_in(result),
            _ => None,
        };
        match exit {
            Some(nth) => self.hold_back(nth, pid, pending, end),
            None => self.finish(pid, &pending, end),
        }
    }

    pub fn finish(&mut self, pid: Pid, pending: &Pending, end: End) {
        pending.finish(end);
        self.outbox.wakes.push(Wake::new(pending.parker.clone(), Some(pid)));
    }

    /// Takes the next queued call that can be made when its caller is in `handlers` handlers. Costs
    /// a scan of the queued calls before it.
    pub fn next_queued(&mut self, pid: Pid, handlers: usize) -> Option<Queued> {
        let calls = self.calls_mut(pid)?.as_mut()?;
        // a call of a handler overtakes the calls that wait for the handler to return
        let nth = calls.queued.iter().position(|queued| handlers <= queued.handlers)?;
        calls.queued.remove(nth)
    }

    /// Marks a thread that may be able to make its queued calls.
    pub fn make_ready(&mut self, pid: Pid) {
        if self.calls(pid).is_some_and(|calls| !calls.queued.is_empty()) {
            self.ready.push(pid);
        }
    }

    /// Ends the calls of a thread that has ended: no code sees their results.
    pub fn abort_calls(&mut self, pid: Pid) {
        for parker in self.pending_wakes.get(&pid).into_iter().flatten().cloned() {
            self.outbox.wakes.push(Wake::first(parker, Some(pid)));
        }
        let Some(mut calls) = self.calls_mut(pid).and_then(Option::take) else { return };
        self.entered -= calls.handlers.clear();
        if let Some(waker) = calls.handlers.waker() {
            self.outbox.wakes.push(Wake::first(waker.parker.clone(), None));
        }
        let queued = calls.queued.into_iter().map(|queued| queued.pending);
        for pending in calls.begun.into_iter().chain(queued).chain(calls.held) {
            self.abort(&pending);
        }
    }

    fn abort(&mut self, pending: &Pending) {
        pending.finish(End::Gone);
        self.outbox.wakes.push(Wake::first(pending.parker.clone(), None));
    }

    /// Records that a thread is about to execute a program: see [`ProcessRegistry::note_executed`].
    fn begin_executing(&mut self, tid: Pid, path: Arc<str>) {
        if let Some(calls) = self.calls_mut(tid) {
            calls.get_or_insert_default().executing = Some(Executing { path, call: None });
        }
    }

    /// The process executes a program. If it had other threads, its image changes only here.
    pub fn note_executed(&mut self, pid: Pid) {
        let Some(Some(calls)) = self.calls_mut(pid) else { return };
        if let Some(Executing { path, call }) = calls.executing.take() {
            self.execute(pid, &path, call.as_ref());
        }
    }

    /// Changes the image of a process: the calls that handlers had interrupted never return.
    fn execute(&mut self, pid: Pid, path: &Arc<str>, own: Option<&Arc<Pending>>) {
        let image = self.take_prepared(path).unwrap_or_else(|| Arc::new(Image::new(&**path)));
        let Some(entry) = self.entries.get_mut(pid) else { return };
        entry.image = image;
        let Some(calls) = entry.calls.as_mut() else { return };
        let is_own = |pending: &Arc<Pending>| own.is_some_and(|own| Arc::ptr_eq(own, pending));
        let mut gone: Vec<Arc<Pending>> = Vec::new();
        for pending in core::mem::take(&mut calls.begun) {
            if is_own(&pending) { calls.begun.push(pending) } else { gone.push(pending) }
        }
        let handlers = calls.handlers.clear();
        self.entered -= handlers;
        if handlers > 0 {
            // queued calls of the old program, which waited for a handler to return, never return
            // either
            let queued = core::mem::take(&mut calls.queued);
            gone.extend(queued.into_iter().map(|queued| queued.pending));
        }
        for pending in gone {
            self.abort(&pending);
        }
    }

    /// Records that the innermost handler of a thread has returned: the calls that it delayed may
    /// be possible.
    #[inline(never)]
    fn note_sigreturn(&mut self, tid: Pid) {
        if self.has_safe_points
            && let Some(Some(calls)) = self.calls_mut(tid)
        {
            let returned = calls.handlers.pop();
            self.entered -= usize::from(returned);
        }
        self.make_ready(tid);
    }
}
