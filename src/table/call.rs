//! A guest's call in progress.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::delivery::progress;
use super::guest::Caller;
use super::{ProcessKey, ProcessTable, TableInner};
use crate::abi::{Errno, Pid};
use crate::kernel::TaskId;
use crate::sync::{Mutex, Parker};
use crate::syscall::{self, Ret, Syscall};

/// How a call came to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It returned, and the program sees the result.
    Returned(syscall::Result),
    /// It created that process, and returned its number.
    Forked(ProcessKey),
    /// It created that thread, and returned its number.
    Threaded(TaskId, Pid),
    /// The caller is gone, or runs another program: nobody sees a result.
    Gone,
}

impl End {
    /// As the raw entry gives it.
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

/// What a call has come to when the table is asked for it.
pub(crate) enum Started {
    /// It has returned a number or an errno, which its caller sees at once, as with most calls.
    Plain(Result<i64, Errno>),
    Ended(End),
    /// It sleeps, is held up by a handler or a stop, or waits until its caller can make it.
    Pending(Arc<Pending>),
}

/// A call that has not returned.
pub(crate) struct Pending {
    end: Mutex<Option<End>>,
    /// It creates a process or a thread, which its result names for good.
    pub creates: bool,
    /// Where whoever is interested sleeps.
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

    /// It ended. The parker is for the one who ended it to tell, outside of the table's lock.
    pub fn finish(&self, end: End) {
        *self.end.lock() = Some(end);
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.end.lock().clone()
    }
}

/// A call that was waiting for its caller to be able to make it.
#[derive(Debug)]
pub(super) struct Queued {
    pub call: Syscall,
    pub pending: Arc<Pending>,
    /// The handlers below the code that makes it: those that are entered before it is made have
    /// to return first.
    pub handlers: usize,
}

/// A guest's system call in progress: see [`ProcessTable::submit`]. A future of its result.
///
/// Dropping it does not end the call: a guest leaves a call only as the kernel lets it, by what it
/// waits for, by a signal, or by its death.
#[derive(Debug)]
#[must_use = "the call goes on whether or not anybody waits for it"]
pub struct Call {
    table: ProcessTable,
    state: CallState,
    caller: Caller,
}

/// What a call has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallProgress {
    /// It has returned.
    Returned(syscall::Result),
    /// Its caller has a handler to run first: it takes, runs and ends that, and asks again.
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

    /// The result, if the call has returned.
    ///
    /// # Errors
    ///
    /// Inside: the errno of the call; ESRCH if its caller is gone.
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
    /// The errno of the call; ESRCH if its caller is gone.
    pub fn wait(self) -> syscall::Result {
        match &self.state {
            CallState::Ended(end) => (**end).clone().result(),
            CallState::Pending(pending) => self.table.shared().finish_call(pending).result(),
        }
    }

    /// Blocks until the call returns, or its caller has a handler to run first. Only a thread of a
    /// process with [safe points](super::Spawn::safe_points) has one.
    ///
    /// The model settles what becomes of a call that a handler interrupts: it fails with EINTR when
    /// the handler has returned, or goes on, as SA_RESTART says (SIG-44).
    pub fn wait_or_deliver(&mut self) -> CallProgress {
        let CallState::Pending(pending) = &self.state else {
            return CallProgress::Returned(self.result().unwrap_or(Err(Errno::ESRCH)));
        };
        loop {
            match progress(self.table.shared(), pending, self.caller) {
                Some(Some(end)) => return CallProgress::Returned(end.result()),
                Some(None) => return CallProgress::Deliver,
                None => drop(pending.parker.park(None)),
            }
        }
    }

    /// The same for an executor: with [`core::future::poll_fn`] it is a future.
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

    /// Blocks until the call returns; `None` if that takes longer than `timeout`, and the call
    /// goes on.
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
    /// The result of a call, once it has ended.
    #[inline]
    pub(super) fn result(&self, started: Started) -> syscall::Result {
        match started {
            Started::Plain(result) => result.map(Ret::Value),
            started => self.end(started).result(),
        }
    }

    /// The number that a call has returned, once it has.
    #[inline]
    pub(super) fn value(&self, started: Started) -> Result<i64, Errno> {
        match started {
            Started::Plain(result) => result,
            started => self.end(started).result().map(|ret| ret.value()),
        }
    }

    /// The end of a call, once it has come.
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
            pending.parker.park(None);
        }
    }
}
