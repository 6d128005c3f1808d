//! Joins: waits for the end of a thread.

use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::commit::TableInner;
use super::thread::{Thread, ThreadKey};
use crate::sync::Parker;

/// The end of a thread as a future: see [`Thread::join_async`]. It holds a handle of the table.
/// Dropping it ends the join.
#[must_use = "futures do nothing unless polled"]
pub struct Join {
    thread: Thread,
    parker: Arc<Parker>,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Join").field(&self.thread).finish()
    }
}

impl Join {
    fn new(thread: &Thread) -> Join {
        Join { thread: thread.clone(), parker: Parker::new() }
    }

    /// Whether the thread has ended; if not, its end unparks the parker.
    fn has_ended(&self) -> bool {
        self.thread.table.shared().has_ended(self.thread.key, &self.parker)
    }
}

impl Future for Join {
    type Output = ();

    fn poll(self: Pin<&mut Join>, context: &mut Context<'_>) -> Poll<()> {
        // the waker first: an end between the look and the wait is not missed
        let _ = self.parker.poll(context.waker());
        if self.has_ended() {
            return Poll::Ready(());
        }
        if self.parker.poll(context.waker()) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Join {
    fn drop(&mut self) {
        self.thread.table.shared().stop_joining(self.thread.key, &self.parker);
    }
}

impl Thread {
    /// Blocks until the thread has ended. The runtime waits, and no thread of the table is in a
    /// call.
    ///
    /// # References
    ///
    /// pthread_join(3).
    #[cfg(not(all(target_family = "wasm", not(target_feature = "atomics"))))]
    #[doc(alias = "pthread_join")]
    pub fn join(&self) {
        let join = Join::new(self);
        let alarm = self.table.shared().alarm_at(None, &join.parker);
        while !join.has_ended() {
            alarm.sleep();
        }
    }

    /// Blocks until the thread has ended, or `timeout` is over on the table's clock; `false` in
    /// that case. A timeout of 0 tests whether it has ended.
    ///
    /// # References
    ///
    /// pthread_timedjoin_np(3).
    #[doc(alias = "pthread_timedjoin_np")]
    #[doc(alias = "pthread_tryjoin_np")]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        let join = Join::new(self);
        let shared = self.table.shared();
        let alarm = shared.alarm_after(timeout, &join.parker);
        loop {
            if join.has_ended() {
                return true;
            }
            if !alarm.sleep() {
                return join.has_ended();
            }
        }
    }

    /// The end of the thread as a future, for any executor.
    ///
    /// ```
    /// use core::pin::pin;
    /// use core::task::{Context, Waker};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let server = table.spawn(Spawn::new(Image::new("server")))?;
    /// let worker = server.main_thread().expect("it lives").spawn_thread()?;
    /// let mut join = pin!(worker.join_async());
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(join.as_mut().poll(&mut context).is_pending());
    /// worker.exit(0)?;
    /// assert!(join.as_mut().poll(&mut context).is_ready());
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    #[doc(alias = "pthread_join")]
    pub fn join_async(&self) -> Join {
        Join::new(self)
    }
}

impl TableInner {
    /// Whether a thread has ended; if not, its end unparks `parker`.
    pub(crate) fn has_ended(&self, thread: ThreadKey, parker: &Arc<Parker>) -> bool {
        let mut state = self.state.lock();
        let Some(tid) = state.tid_of(thread.task).filter(|_| !state.is_closed()) else {
            return true;
        };
        let joins = state.process_registry.joins.entry(tid).or_default();
        if !joins.iter().any(|other| Arc::ptr_eq(other, parker)) {
            joins.push(parker.clone());
        }
        false
    }

    /// Ends the join of `parker`.
    pub(crate) fn stop_joining(&self, thread: ThreadKey, parker: &Arc<Parker>) {
        let mut state = self.state.lock();
        let Some(tid) = state.tid_of(thread.task) else { return };
        if let Some(joins) = state.process_registry.joins.get_mut(&tid) {
            joins.retain(|other| !Arc::ptr_eq(other, parker));
            if joins.is_empty() {
                state.process_registry.joins.remove(&tid);
            }
        }
    }
}
