//! Locks, condition variables, threads, channels: the only file that names them.
//!
//! Compiled with `--cfg shuttle` they are shuttle's, whose scheduler tries interleavings (see
//! tests/interleavings); otherwise parking_lot's, crossbeam's and the standard library's.

use alloc::sync::Arc;
use core::task::Waker;
use std::panic::{AssertUnwindSafe, catch_unwind};
pub(crate) use std::sync::OnceLock;
use std::time::Instant;

#[cfg(not(shuttle))]
mod real {
    use std::time::Instant;

    pub use crossbeam_channel as channel;
    #[cfg(feature = "linux")]
    pub use parking_lot::RwLock;
    pub use parking_lot::{Mutex, MutexGuard};
    pub use std::thread::{ThreadId, current};

    /// A condition variable.
    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub const fn new() -> Condvar {
            Condvar(parking_lot::Condvar::new())
        }

        /// Sleeps until told, or until `deadline`. It may return earlier for no reason.
        pub fn wait<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            deadline: Option<Instant>,
        ) -> MutexGuard<'a, T> {
            match deadline {
                Some(deadline) => drop(self.0.wait_until(&mut guard, deadline)),
                None => self.0.wait(&mut guard),
            }
            guard
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// How many messages a channel can take; others may take some out meanwhile.
    pub fn room<T>(sender: &channel::Sender<T>) -> usize {
        sender.capacity().map_or(usize::MAX, |capacity| capacity - sender.len())
    }

    /// Starts a thread of that name.
    pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        std::thread::Builder::new().name(name.into()).spawn(body).map(drop)
    }
}

#[cfg(shuttle)]
mod real {
    use std::time::Instant;

    pub use shuttle::sync::MutexGuard;
    pub use shuttle::sync::mpsc as shuttle_channel;
    pub use shuttle::thread::{ThreadId, current};

    /// A bounded channel.
    pub mod channel {
        pub use super::shuttle_channel::{Receiver, SyncSender as Sender, TrySendError};

        pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
            super::shuttle_channel::sync_channel(capacity)
        }
    }

    /// How many messages a channel can take: it is not known here.
    pub fn room<T>(_: &channel::Sender<T>) -> usize {
        usize::MAX
    }

    /// A lock.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    /// A condition variable.
    #[derive(Debug, Default)]
    pub struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub const fn new() -> Condvar {
            Condvar(shuttle::sync::Condvar::new())
        }

        /// Time does not pass under shuttle: a deadline is one more moment at which others run.
        pub fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            deadline: Option<Instant>,
        ) -> MutexGuard<'a, T> {
            debug_assert!(deadline.is_none(), "under shuttle clocks are manual");
            self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// Starts a thread of that name.
    pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        shuttle::thread::Builder::new().name(name.into()).spawn(body).map(drop)
    }
}

pub(crate) use real::*;

/// The moment after `time`. Where [`Instant`] has none it is so far away that it never comes.
#[cfg(feature = "linux")]
pub(crate) fn moment_after(time: std::time::Duration) -> Instant {
    const FAR: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

/// Whether the calling thread is that one.
pub(crate) fn is_current(thread: Option<ThreadId>) -> bool {
    thread.is_some_and(|thread| thread == current().id())
}

/// Runs something foreign; `false` if it panicked. What it panicked with is foreign as well, and
/// its `Drop` may panic in turn.
pub(crate) fn contain(act: impl FnOnce()) -> bool {
    let Err(payload) = catch_unwind(AssertUnwindSafe(act)) else { return true };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(payload);
    }
    false
}

/// A place where one thread, or one task, sleeps until it is told to look again. Being told
/// before it sleeps counts.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    told: Mutex<ParkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ParkState {
    told: bool,
    waker: Option<Waker>,
}

impl Parker {
    pub fn new() -> Arc<Parker> {
        Arc::default()
    }

    /// Tells whoever sleeps here, now or next. It runs a waker: never under a lock.
    pub fn unpark(&self) {
        let mut told = self.told.lock();
        told.told = true;
        let waker = told.waker.take();
        drop(told);
        self.changed.notify_all();
        if let Some(waker) = waker {
            // others are to be told after this one, whatever it does
            contain(|| waker.wake());
        }
    }

    /// Sleeps until told; `false` if `deadline` came first.
    pub fn park(&self, deadline: Option<Instant>) -> bool {
        let mut told = self.told.lock();
        while !told.told {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            told = self.changed.wait(told, deadline);
        }
        told.told = false;
        true
    }

    /// Has `waker` woken when told; `true` if it has been told already.
    pub fn poll(&self, waker: &Waker) -> bool {
        // wakers are foreign: cloned before the lock is taken, dropped when it is free again
        let mut waker = Some(waker.clone());
        let mut told = self.told.lock();
        if core::mem::take(&mut told.told) {
            drop(told);
            return true;
        }
        core::mem::swap(&mut told.waker, &mut waker);
        drop(told);
        false
    }
}
