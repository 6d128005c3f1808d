//! A guest's call in progress.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::delivery::progress;
use super::guest::Caller;
use super::outbox::before_sleep;
use super::{ProcessKey, ProcessTable, TableInner};
use crate::abi::{Errno, Pid};
use crate::kernel::TaskId;
use crate::sync::{Mutex, Parker};
use crate::syscall::{self, Ret, Syscall};

/// How a call ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The call returned, and the program sees the result.
    Returned(syscall::Result),
    /// The call created this process and returned its number.
    Forked(ProcessKey),
    /// The call created this thread and returned its number.
    Threaded(TaskId, Pid),
    /// The caller has ended or has executed another program: no code sees a result.
    Gone,
}

impl End {
    /// The result in the form of the raw entry, [`ProcessTable::syscall`].
    #[inline]
    pub fn result(self) -> syscall::Result {
        match self {
            End::Returned(result) => result,
            End::Forked(child) => Ok(Ret::Value(child.pid.0.into())),
            End::Threaded(_, tid) => Ok(Ret::Value(tid.0.into())),
            End::Gone => Err(Errno::ESRCH),
        }
    }
}

/// The state of a call when the table has started it.
pub(crate) enum Started {
    /// The call returned a number or an errno, and its caller sees it at once. Most calls end so.
    Plain(Result<i64, Errno>),
    Ended(End),
    /// The call sleeps, is delayed by a handler or a stop, or waits until its caller can make it.
    Pending(Arc<Pending>),
}

/// A call that has not returned.
pub(crate) struct Pending {
    end: Mutex<Option<End>>,
    /// The call creates a process or a thread, and its result refers to that one and to no later
    /// one of the same number.
    pub creates: bool,
    /// The threads that wait for the end of the call sleep on this parker.
    pub parker: Arc<Parker>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&*self.end.lock()).finish()
    }
}

impl Pending {
    pub fn new(call: &Syscall, parker: Option<&Arc<Parker>>) -> Arc<Pending> {
        let parker = parker.cloned().unwrap_or_default();
        Arc::new(Pending { end: Mutex::new(None), creates: call.is_fork(), parker })
    }

    /// A call of a snapshot.
    #[cfg(feature = "serde")]
    pub fn restored(creates: bool) -> Arc<Pending> {
        Arc::new(Pending { end: Mutex::new(None), creates, parker: Parker::new() })
    }

    /// Records the end of the call. The calling thread unparks the parker, outside of the table's
    /// lock.
    pub fn finish(&self, end: End) {
        *self.end.lock() = Some(end);
    }

    /// The end of the call; `None` while the call is in progress.
    pub fn end(&self) -> Option<End> {
        self.end.lock().clone()
    }
}

/// A call that its caller cannot make yet.
#[derive(Debug)]
pub(super) struct Queued {
    pub call: Syscall,
    pub pending: Arc<Pending>,
    /// The number of handlers below the code that makes the call. Handlers that are entered before
    /// the call is made have to return first.
    pub handlers: usize,
}

/// A guest's system call in progress: see [`ProcessTable::submit`]. It is a future of the call's
/// result.
///
/// Dropping it does not end the call: a guest leaves a call only as in the kernel, by the event
/// that the call waits for, by a signal, or by its end.
#[derive(Debug)]
#[must_use = "the call continues also if no thread waits for it"]
pub struct Call {
    table: ProcessTable,
    state: CallState,
    caller: Caller,
}

/// The state of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallProgress {
    /// The call has returned.
    Returned(syscall::Result),
    /// The caller has a handler to run first. It takes the handler, runs it, has it return, and
    /// polls the call again.
    Deliver,
}

#[derive(Debug)]
enum CallState {
    Ended(Box<End>),
    Pending(Arc<Pending>),
}

impl Call {
    pub(super) fn new(table: ProcessTable, started: Started, caller: Caller) -> Call {
        let state = match started {
            Started::Plain(result) => {
                CallState::Ended(Box::new(End::Returned(result.map(Ret::Value))))
            }
            Started::Ended(end) => CallState::Ended(Box::new(end)),
            Started::Pending(pending) => CallState::Pending(pending),
        };
        Call { table, state, caller }
    }

    /// The calls of a caller that have not returned, and those that it has not made yet.
    pub(super) fn in_progress(table: &ProcessTable, caller: Caller) -> Vec<Call> {
        let calls = table.shared().calls_in_progress(caller).into_iter();
        calls
            .map(|pending| Call {
                table: table.clone(),
                state: CallState::Pending(pending),
                caller,
            })
            .collect()
    }

    /// The result; `None` while the call is in progress.
    ///
    /// # Errors
    ///
    /// The errno of the call, inside of the `Some`; ESRCH if its caller has ended.
    pub fn result(&self) -> Option<syscall::Result> {
        match &self.state {
            CallState::Ended(end) => Some((**end).clone().result()),
            CallState::Pending(pending) => pending.end().map(End::result),
        }
    }

    /// Blocks until the call returns.
    ///
    /// # Errors
    ///
    /// The errno of the call; ESRCH if its caller has ended.
    pub fn wait(self) -> syscall::Result {
        match &self.state {
            CallState::Ended(end) => (**end).clone().result(),
            CallState::Pending(pending) => self.table.shared().finish_call(pending).result(),
        }
    }

    /// Blocks until the call returns, or until its caller has a handler to run first. Only a thread
    /// of a process with [safe points](super::Spawn::safe_points) has such handlers.
    ///
    /// The model decides how a call ends that a handler interrupts: after the handler has returned,
    /// the call fails with EINTR or is restarted, as SA_RESTART says (SIG-44).
    pub fn wait_or_deliver(&mut self) -> CallProgress {
        let CallState::Pending(pending) = &self.state else {
            return CallProgress::Returned(self.result().unwrap_or(Err(Errno::ESRCH)));
        };
        loop {
            match progress(self.table.shared(), pending, self.caller) {
                Some(Some(end)) => return CallProgress::Returned(end.result()),
                Some(None) => return CallProgress::Deliver,
                None => {
                    before_sleep();
                    if !pending.parker.park(None) {
                        return CallProgress::Returned(Err(Errno::EDEADLK));
                    }
                }
            }
        }
    }

    /// [`Call::wait_or_deliver`] for an executor: with [`core::future::poll_fn`] it is a future.
    pub fn poll_or_deliver(&mut self, context: &mut Context<'_>) -> Poll<CallProgress> {
        let CallState::Pending(pending) = &self.state else {
            return Poll::Ready(CallProgress::Returned(self.result().unwrap_or(Err(Errno::ESRCH))));
        };
        loop {
            match progress(self.table.shared(), pending, self.caller) {
                Some(Some(end)) => return Poll::Ready(CallProgress::Returned(end.result())),
                Some(None) => return Poll::Ready(CallProgress::Deliver),
                None if pending.parker.poll(context.waker()) => {}
                None => return Poll::Pending,
            }
        }
    }

    /// Blocks until the call returns; `None` if `timeout` passes first, and then the call
    /// continues.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<syscall::Result> {
        let CallState::Pending(pending) = &self.state else { return self.result() };
        let shared = self.table.shared();
        let alarm = shared.alarm_after(timeout, &pending.parker);
        loop {
            if let Some(end) = pending.end() {
                return Some(end.result());
            }
            if !alarm.sleep() {
                return self.result();
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // the call may continue for long, and a waker keeps the task that polled it
        if let CallState::Pending(pending) = &self.state {
            pending.parker.forget_waker();
        }
    }
}

impl Future for Call {
    type Output = syscall::Result;

    fn poll(self: Pin<&mut Call>, context: &mut Context<'_>) -> Poll<syscall::Result> {
        let CallState::Pending(pending) = &self.state else {
            return Poll::Ready(self.result().unwrap_or(Err(Errno::ESRCH)));
        };
        loop {
            if let Some(end) = pending.end() {
                return Poll::Ready(end.result());
            }
            if !pending.parker.poll(context.waker()) {
                return Poll::Pending;
            }
        }
    }
}

impl TableInner {
    /// Waits until a call has ended, and returns its result.
    #[inline]
    pub(super) fn result(&self, started: Started) -> syscall::Result {
        match started {
            Started::Plain(result) => result.map(Ret::Value),
            started => self.end(started).result(),
        }
    }

    /// Waits until a call has ended, and returns its number.
    #[inline]
    pub(super) fn value(&self, started: Started) -> Result<i64, Errno> {
        match started {
            Started::Plain(result) => result,
            started => self.end(started).result().map(|ret| ret.value()),
        }
    }

    /// Waits until a call has ended, and returns how it ended.
    #[inline(never)]
    pub(super) fn end(&self, started: Started) -> End {
        match started {
            Started::Plain(result) => End::Returned(result.map(Ret::Value)),
            Started::Ended(end) => end,
            Started::Pending(pending) => self.finish_call(&pending),
        }
    }

    /// Sleeps until the call has ended.
    pub(crate) fn finish_call(&self, pending: &Pending) -> End {
        loop {
            if let Some(end) = pending.end() {
                return end;
            }
            before_sleep();
            if !pending.parker.park(None) {
                return End::Returned(Err(Errno::EDEADLK));
            }
        }
    }
}
