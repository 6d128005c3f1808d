//! Handlers of processes with safe points: the model enters a handler when its signal is delivered,
//! and the thread runs it at its next safe point.
//!
//! Each thread has a stack of the handlers that the model has entered. The thread takes the topmost
//! handler, runs it, and has it return. A call that code of the thread makes comes after the
//! handlers that were entered above that code, so that the mask of that code applies.

use alloc::sync::Arc;
use alloc::task;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::call::{End, Pending, Started};
use super::commit::{TableInner, TableState};
use super::exit_gate::tells_of_children;
use super::guest::Caller;
use super::outbox::Wake;
use super::registry::ProcessRegistry;
use super::thread::ThreadKey;
use crate::abi::{Pid, SigInfo};
use crate::driver::Op;
use crate::kernel::RunState;
use crate::sync::Parker;
use crate::syscall::Syscall;

/// What a thread has to do at a safe point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Checkpoint {
    /// Nothing: it continues.
    GoOn,
    /// Run a handler, which [`Thread::begin_delivery`](super::Thread::begin_delivery) returns.
    Deliver,
    /// Run no guest code until its process continues.
    Stopped,
    /// Run no guest code any more: the thread has ended.
    Ended,
}

/// A handler that a thread has begun to run. It is passed to
/// [`Thread::end_delivery`](super::Thread::end_delivery) once, when it has returned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandlerDelivery {
    pub(super) thread: ThreadKey,
    serial: u64,
    tid: Pid,
    handler: u64,
    info: SigInfo,
    depth: usize,
}

impl HandlerDelivery {
    /// The number of handlers that were set up when this one was entered, itself included.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The thread that runs the handler.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// The handler, as the guest set it with sigaction(2).
    pub fn handler(&self) -> u64 {
        self.handler
    }

    /// The siginfo of the handler.
    pub fn info(&self) -> &SigInfo {
        &self.info
    }
}

/// The error for a handler that does not run any more: it has returned, its process executes
/// another program, or its thread has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StaleDelivery;

impl fmt::Display for StaleDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handler has returned already, or its thread or program is gone")
    }
}

impl core::error::Error for StaleDelivery {}

/// A handler that the model has entered.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct EnteredHandler {
    serial: u64,
    info: SigInfo,
    handler: u64,
    /// The number of handlers that were set up when this one was entered, itself included.
    depth: usize,
    stage: HandlerStage,
}

/// The progress of a thread with a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum HandlerStage {
    /// The handler receives the SIGCHLD of a child whose exit callback has not run (TABLE-01).
    Held,
    Waiting,
    Running,
    /// The return of the handler has been requested. It is requested once.
    Returning,
}

impl EnteredHandler {
    fn delivery(&self, thread: ThreadKey, tid: Pid) -> HandlerDelivery {
        let EnteredHandler { serial, info, handler, depth, .. } = *self;
        HandlerDelivery { thread, serial, tid, handler, info, depth }
    }

    fn is_running(&self) -> bool {
        matches!(self.stage, HandlerStage::Running | HandlerStage::Returning)
    }
}

/// The handlers of one thread.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Handlers {
    /// The innermost handler is the last.
    entered: Vec<EnteredHandler>,
    /// The number of handlers that were set up and have not returned, including those that are not
    /// entered yet.
    frames: usize,
    /// Where the thread sleeps while it is in no call.
    #[cfg_attr(feature = "serde", serde(skip))]
    waker: Option<Arc<ThreadWaker>>,
}

impl Handlers {
    /// The number of handlers that the running code of the thread is inside of.
    fn level(&self) -> usize {
        let running = self.entered.iter().rev().find(|entered| entered.is_running());
        running.map_or(0, |entered| entered.depth)
    }

    /// Whether the innermost handler waits to be taken.
    fn waits(&self) -> bool {
        self.entered.last().is_some_and(|entered| entered.stage == HandlerStage::Waiting)
    }

    /// Removes the innermost handler, which has returned. Returns whether there was one.
    pub fn pop(&mut self) -> bool {
        self.frames = self.frames.saturating_sub(1);
        self.entered.pop().is_some()
    }

    /// Removes all handlers, because the thread has ended or executes another program. Returns
    /// their number.
    pub fn clear(&mut self) -> usize {
        self.frames = 0;
        core::mem::take(&mut self.entered).len()
    }

    pub fn waker(&self) -> Option<&Arc<ThreadWaker>> {
        self.waker.as_ref()
    }

    /// Changes the serials to those of a snapshot, or of another table. Returns their number.
    #[cfg(feature = "serde")]
    pub fn renumber(&mut self, serials: impl Fn(u64) -> u64) -> usize {
        self.entered.iter_mut().for_each(|entered| entered.serial = serials(entered.serial));
        self.entered.len()
    }
}

/// Wakes a host thread, on which a thread of a process runs: a handler waits to be taken, the
/// thread has ended, or what it waits for itself is there.
#[derive(Debug, Default)]
pub(crate) struct ThreadWaker {
    delivery_due: AtomicBool,
    pub parker: Arc<Parker>,
}

impl ThreadWaker {
    /// Whether a delivery was notified since the last `take`.
    pub fn take(&self) -> bool {
        self.delivery_due.load(Ordering::Acquire) && self.delivery_due.swap(false, Ordering::AcqRel)
    }
}

/// Wakes the thread from a wait of its own.
impl task::Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.parker.unpark();
    }
}

impl ProcessRegistry {
    pub fn takes_handlers(&self, tid: Pid) -> bool {
        let process = self.process_of(tid).and_then(|process| self.entries.get(process));
        process.is_some_and(|entry| entry.run_by.has_safe_points())
    }

    /// Records that a handler was set up. Other handlers may be set up above it before it is
    /// entered.
    pub fn note_caught(&mut self, tid: Pid) {
        if self.takes_handlers(tid)
            && let Some(calls) = self.calls_mut(tid)
        {
            calls.get_or_insert_default().handlers.frames += 1;
        }
    }

    /// Enters the handler that was set up last; `false` if the driver runs it.
    pub fn hand_over(&mut self, tid: Pid, info: &SigInfo, handler: u64) -> bool {
        if !self.takes_handlers(tid) {
            return false;
        }
        let serial = self.next_serial();
        let hidden = tells_of_children(info) && self.hold_handler(tid, serial);
        let stage = if hidden { HandlerStage::Held } else { HandlerStage::Waiting };
        let Some(calls) = self.calls_mut(tid) else { return true };
        let handlers = &mut calls.get_or_insert_default().handlers;
        let (info, depth) = (*info, handlers.frames);
        handlers.entered.push(EnteredHandler { serial, info, handler, depth, stage });
        self.entered += 1;
        if !hidden {
            self.offer(tid);
        }
        true
    }

    /// Releases a handler that had to wait for exit callbacks, which have run.
    pub fn release_handler(&mut self, tid: Pid, serial: u64) {
        let Some(Some(calls)) = self.calls_mut(tid) else { return };
        let entered = &mut calls.handlers.entered;
        let hidden = entered.iter_mut().find(|entered| entered.serial == serial);
        if let Some(hidden) = hidden {
            hidden.stage = HandlerStage::Waiting;
            self.offer(tid);
        }
    }

    /// Notifies the thread, and the driver of its process, of a handler.
    fn offer(&mut self, tid: Pid) {
        self.notify_delivery(tid);
        self.operate(tid, || Op::Interrupt(tid));
    }

    /// Wakes the threads that sleep for `tid`, if it has a handler to take.
    pub fn notify_delivery(&mut self, tid: Pid) {
        let Some(Some(calls)) = self.calls_mut(tid) else { return };
        if !calls.handlers.waits() {
            return;
        }
        let wake = |parker: &Arc<Parker>| Wake::new(parker.clone(), Some(tid));
        let own = calls.handlers.waker.as_ref().map(|waker| {
            waker.delivery_due.store(true, Ordering::Release);
            &waker.parker
        });
        let queued = calls.queued.iter().map(|queued| &queued.pending);
        let calls = calls.begun.last().into_iter().chain(queued);
        let others = calls.map(|pending| &pending.parker);
        let others = others.filter(|parker| !own.is_some_and(|own| Arc::ptr_eq(own, parker)));
        let wakes: Vec<Wake> = own.into_iter().chain(others).map(wake).collect();
        self.outbox.wakes.extend(wakes);
    }
}

impl TableState {
    /// The number of handlers that the running code of a thread is inside of.
    pub fn level(&self, tid: Pid) -> usize {
        if self.process_registry.has_safe_points && self.process_registry.takes_handlers(tid) {
            return self.process_registry.calls(tid).map_or(0, |calls| calls.handlers.level());
        }
        self.kernel.handlers_below(tid)
    }

    /// Whether handlers come before the next call of a thread.
    pub fn must_deliver(&self, tid: Pid) -> bool {
        self.process_registry.calls(tid).is_some_and(|calls| {
            calls.handlers.entered.last().is_some_and(|entered| !entered.is_running())
        })
    }

    fn checkpoint(&self, caller: Caller) -> Checkpoint {
        let Some(tid) = self.acting(caller).filter(|_| !self.is_closed()) else {
            return Checkpoint::Ended;
        };
        if self.kernel.view(tid).is_some_and(|view| view.run == RunState::Stopped) {
            Checkpoint::Stopped
        } else if self.process_registry.calls(tid).is_some_and(|calls| calls.handlers.waits()) {
            Checkpoint::Deliver
        } else {
            Checkpoint::GoOn
        }
    }

    /// The thread of that number at present.
    fn thread_key(&self, tid: Pid) -> Option<ThreadKey> {
        let process = self.process_registry.key(self.process_registry.process_of(tid)?)?;
        Some(ThreadKey { process, task: self.kernel.task_id(tid)? })
    }

    fn begin_delivery(&mut self, caller: Caller) -> Option<HandlerDelivery> {
        let tid = self.acting(caller)?;
        let thread = self.thread_key(tid)?;
        // a stopped thread runs the handler when it continues
        if !self.kernel.in_user_mode(tid) {
            return None;
        }
        let calls = self.process_registry.calls_mut(tid)?.as_mut()?;
        let entered = calls.handlers.entered.last_mut()?;
        if entered.stage != HandlerStage::Waiting {
            return None;
        }
        entered.stage = HandlerStage::Running;
        Some(entered.delivery(thread, tid))
    }

    /// The handler that the caller runs, unless its return is requested.
    fn running_delivery(&self, caller: Caller) -> Option<HandlerDelivery> {
        let tid = self.acting(caller)?;
        let handlers = &self.process_registry.calls(tid)?.handlers;
        let innermost = handlers.entered.iter().rev().find(|entered| entered.is_running())?;
        let is_running = innermost.stage == HandlerStage::Running;
        is_running.then_some(innermost.delivery(self.thread_key(tid)?, tid))
    }

    /// Requests the return of a handler, once.
    fn end_delivery(&mut self, begun: &HandlerDelivery) -> Result<(), StaleDelivery> {
        let tid = self.tid_of(begun.thread.task).ok_or(StaleDelivery)?;
        let calls = self.process_registry.calls_mut(tid).and_then(|calls| calls.as_mut());
        let entered = calls.map(|calls| &mut calls.handlers.entered).ok_or(StaleDelivery)?;
        let innermost = entered.iter_mut().rev().find(|entered| entered.is_running());
        match innermost {
            Some(innermost)
                if innermost.serial == begun.serial && innermost.stage == HandlerStage::Running =>
            {
                innermost.stage = HandlerStage::Returning;
                Ok(())
            }
            _ => Err(StaleDelivery),
        }
    }
}

impl TableInner {
    pub(crate) fn checkpoint(self: &Arc<TableInner>, caller: Caller) -> Checkpoint {
        self.commit(|state| state.checkpoint(caller))
    }

    pub(crate) fn begin_delivery(
        self: &Arc<TableInner>,
        caller: Caller,
    ) -> Option<HandlerDelivery> {
        self.commit(|state| state.begin_delivery(caller))
    }

    pub(crate) fn running_delivery(&self, caller: Caller) -> Option<HandlerDelivery> {
        self.state.lock().running_delivery(caller)
    }

    /// A handler returns: rt_sigreturn of its thread.
    pub(crate) fn end_delivery(
        self: &Arc<TableInner>,
        begun: &HandlerDelivery,
        parker: Option<&Arc<Parker>>,
    ) -> Result<Started, StaleDelivery> {
        let mut state = self.state.lock();
        state.end_delivery(begun)?;
        let caller = Caller::Thread(begun.thread);
        Ok(self.start_under(state, caller, &Syscall::RtSigreturn, parker, None))
    }

    /// Whether a handler waits for the caller to take it.
    fn has_delivery(&self, caller: Caller) -> bool {
        self.state.lock().checkpoint(caller) == Checkpoint::Deliver
    }

    /// Sets where the thread sleeps while it is in no call, and notifies it if a handler waits
    /// already.
    pub(crate) fn set_thread_waker(
        self: &Arc<TableInner>,
        thread: ThreadKey,
        waker: &Arc<ThreadWaker>,
    ) {
        self.commit(|state| {
            let tid = state.tid_of(thread.task);
            let calls = tid.and_then(|tid| state.process_registry.calls_mut(tid));
            if let Some((calls, tid)) = calls.zip(tid) {
                calls.get_or_insert_default().handlers.waker = Some(waker.clone());
                state.process_registry.notify_delivery(tid);
            }
        });
    }
}

/// The end of a call, if it has ended; `Some(None)` if it cannot end before a handler has run.
pub(super) fn progress(
    shared: &TableInner,
    pending: &Pending,
    caller: Caller,
) -> Option<Option<End>> {
    match pending.end() {
        Some(end) => Some(Some(end)),
        None => shared.has_delivery(caller).then_some(None),
    }
}
