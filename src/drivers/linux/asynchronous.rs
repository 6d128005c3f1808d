//! Spawning and ending as futures, for any executor: threads of this library do the work.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::child::{self, SpawnedChild};
use super::child_handle::Child;
use super::command::{Command, Prepared};
use super::ending::{Shutdown, Stop};
use super::host_process::{Detached, HostProcess};
use super::orphans::Creation;
use super::pidfd;
use super::spawn_error::{SpawnError, Step};
use super::spawner::{self, Answer};
use super::tree::{ProcessTree, TreeInner};
use super::watch::watch;
use crate::abi::{Signal, WaitStatus};
use crate::sync::{Mutex, Parker, spawn};

/// A place for what a thread brings about, and for the future that waits for it. If that was
/// dropped, so is what comes.
#[derive(Debug)]
struct Oneshot<T> {
    value: Mutex<Option<T>>,
    parker: Parker,
}

impl<T> Oneshot<T> {
    fn new() -> Arc<Oneshot<T>> {
        Arc::new(Oneshot { value: Mutex::new(None), parker: Parker::default() })
    }

    fn put(&self, value: T) {
        *self.value.lock() = Some(value);
        self.parker.unpark();
    }

    async fn take(&self) -> T {
        poll_fn(|context| {
            // the waker first: what comes while looking is not missed
            let told = self.parker.poll(context.waker());
            if let Some(value) = self.value.lock().take() {
                return Poll::Ready(value);
            }
            if told {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }
}

/// A child that no caller has taken yet: it ends if no caller does.
#[derive(Debug)]
struct UnclaimedChild(Option<SpawnedChild>);

impl UnclaimedChild {
    fn claim(mut self) -> Option<SpawnedChild> {
        self.0.take()
    }
}

impl Drop for UnclaimedChild {
    fn drop(&mut self) {
        let Some(SpawnedChild { pid, pidfd }) = self.0.take() else { return };
        let real = Arc::new(HostProcess::child(pid, pidfd));
        let _ = real.send(Signal::KILL);
        // the watcher reaps it: the drop of a future must not wait
        if watch(Arc::new(Detached(real.clone()))).is_err() {
            let _ = pidfd::reap(real.pid, &real.pidfd, 0);
        }
    }
}

type Place = Oneshot<Result<UnclaimedChild, (Step, io::Error)>>;

/// The spawns that were requested from a tree as futures.
#[derive(Debug, Default)]
pub(super) struct SpawnQueue {
    orders: VecDeque<(Prepared, Arc<Place>)>,
    /// Whether a thread is at it.
    served: bool,
}

/// The drop cancels the end.
struct CancelOnDrop(Arc<Stop>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl ProcessTree {
    /// [`ProcessTree::spawn`] as a future. It needs no runtime: another thread does what takes
    /// time. Those of one tree come one after the other, in the order in which they were first
    /// polled.
    ///
    /// Dropped before it is ready, there is no child: one that is on its way is killed when it is
    /// there, and reaped. It may have executed its program for a moment.
    ///
    /// # Errors
    ///
    /// As [`ProcessTree::spawn`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use proctable::abi::Signal;
    /// use proctable::drivers::linux::{Command, ProcessTree};
    ///
    /// let tree = ProcessTree::new()?;
    /// let child = tree.spawn_async(Command::new("make")).await?;
    /// println!("{}", child.wait_async().await?);
    /// tree.shutdown_async(Signal::TERM, Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn spawn_async(&self, command: Command) -> Result<Child, SpawnError> {
        let failure = command.failure();
        self.core.spawn_queued(command).await.map_err(failure)
    }

    /// [`ProcessTree::shutdown`] as a future. It needs no runtime: a thread waits until the tree
    /// has ended.
    ///
    /// If the future is dropped before it is ready, the shutdown stops: processes that have
    /// received the signal keep it, and no further process is killed. The tree continues with the
    /// processes that are left. It can be shut down again, and ends with its handle as always.
    ///
    /// # Errors
    ///
    /// As [`ProcessTree::shutdown`]; EAGAIN if there can be no thread.
    pub async fn shutdown_async(&self, signal: Signal, grace: Duration) -> io::Result<Shutdown> {
        let (slot, stop) = (Oneshot::new(), Arc::new(Stop::default()));
        let _wanted = CancelOnDrop(stop.clone());
        let (core, place) = (self.core.clone(), slot.clone());
        spawn("proctable-end", move || place.put(core.end(Some((signal, grace)), &stop)))?;
        slot.take().await
    }
}

impl Child {
    /// [`Child::wait`] as a future, for any executor. Several may wait for the same child. Dropping
    /// it ends the wait, and loses nothing.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn wait_async(
        &self,
    ) -> impl Future<Output = Result<WaitStatus, crate::abi::Errno>> + Send + use<> {
        let child = self.clone();
        async move {
            if let Some(known) = child.known() {
                return known;
            }
            let waited = child.await_in_table().await;
            child.status_or(waited)
        }
    }
}

impl TreeInner {
    pub(super) async fn spawn_queued(
        self: &Arc<TreeInner>,
        command: Command,
    ) -> Result<Child, (Step, io::Error)> {
        let image = command.image();
        let (prepared, pipes) = self.prepare(command)?;
        let group = self.group_of(&prepared);
        let _creation = Creation::begin();
        let place = Oneshot::new();
        self.order(prepared, place.clone())?;
        let spawned = place.take().await?.claim();
        // it is given away once
        let gone = || (Step::Thread, io::Error::other("the child is another one's"));
        let SpawnedChild { pid, pidfd } = spawned.ok_or_else(gone)?;
        self.enter(HostProcess::child(pid, pidfd), image, group, pipes)
    }

    /// Has a thread create a child, after those that were ordered before.
    fn order(
        self: &Arc<TreeInner>,
        prepared: Prepared,
        place: Arc<Place>,
    ) -> Result<(), (Step, io::Error)> {
        let mut queue = self.queue.lock();
        queue.orders.push_back((prepared, place));
        if queue.served {
            return Ok(());
        }
        // under the lock: without a thread this is the only order
        let core = self.clone();
        spawner::run(Box::new(move |idle| {
            core.serve_spawn_queue();
            drop(idle);
        }))
        .inspect_err(|_| queue.orders.clear())?;
        queue.served = true;
        Ok(())
    }

    fn serve_spawn_queue(&self) {
        loop {
            let mut queue = self.queue.lock();
            let Some((prepared, place)) = queue.orders.pop_front() else {
                queue.served = false;
                return;
            };
            drop(queue);
            // its future was dropped
            if Arc::strong_count(&place) == 1 {
                continue;
            }
            let spawned = self.create_child(&prepared);
            // its descriptors are closed before a caller receives the child
            drop(prepared);
            place.put(spawned.map(|spawned| UnclaimedChild(Some(spawned))));
        }
    }

    fn create_child(&self, prepared: &Prepared) -> Answer {
        let suspended = self.suspended.read();
        if *suspended {
            return Err(super::spawning::is_suspended());
        }
        child::spawn(prepared)
    }
}
