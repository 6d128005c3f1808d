//! Locks, condition variables, threads and channels: no other file names the crates that have them.
//!
//! With `--cfg shuttle` they are the types of shuttle, whose scheduler tries interleavings (see
//! tests/interleavings); otherwise those of parking_lot, crossbeam and the standard library.

use alloc::sync::Arc;
use core::task::Waker;
use std::panic::{AssertUnwindSafe, catch_unwind};
pub(crate) use std::sync::OnceLock;
use std::time::Instant;

#[cfg(not(shuttle))]
mod real {
    use std::time::Instant;

    #[cfg(feature = "linux")]
    pub use crossbeam_channel as channel;
    #[cfg(feature = "linux")]
    pub use parking_lot::RwLock;
    pub use parking_lot::{Mutex, MutexGuard};
    pub use std::thread::{ThreadId, current};
    pub use std::thread_local;

    /// A condition variable.
    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub const fn new() -> Condvar {
            Condvar(parking_lot::Condvar::new())
        }

        /// Sleeps until a notification, or until `deadline`. Spurious wake-ups are possible.
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

    /// Starts a thread with that name.
    pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        std::thread::Builder::new().name(name.into()).spawn(body).map(drop)
    }
}

#[cfg(shuttle)]
mod real {
    use std::time::Instant;

    pub use shuttle::sync::MutexGuard;
    pub use shuttle::thread::{ThreadId, current};
    pub use shuttle::thread_local;

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

        /// Sleeps until a notification. Clocks are manual under shuttle: no caller has a deadline.
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

    /// Starts a thread with that name.
    pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        shuttle::thread::Builder::new().name(name.into()).spawn(body).map(drop)
    }
}

pub(crate) use real::*;

/// Whether the target has threads: without them nothing could end a sleep.
pub(crate) const HAS_THREADS: bool =
    !cfg!(all(target_family = "wasm", not(target_feature = "atomics")));

/// The moment `time` from now, or a hundred years from now if [`Instant`] cannot express it.
#[cfg(feature = "linux")]
pub(crate) fn moment_after(time: std::time::Duration) -> Instant {
    const FAR: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

/// Whether `thread` is the calling thread.
pub(crate) fn is_current(thread: Option<ThreadId>) -> bool {
    thread.is_some_and(|thread| thread == current().id())
}

/// Runs foreign code; `false` if it panicked. The payload of the panic is foreign as well, and its
/// `Drop` may panic in turn.
pub(crate) fn contain(act: impl FnOnce()) -> bool {
    let Err(payload) = catch_unwind(AssertUnwindSafe(act)) else { return true };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(payload);
    }
    false
}

/// A place where one thread, or one future, sleeps until an unpark. An unpark before the sleep ends
/// the sleep at once.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    state: Mutex<ParkState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ParkState {
    unparked: bool,
    waker: Option<Waker>,
}

impl Parker {
    pub fn new() -> Arc<Parker> {
        Arc::default()
    }

    /// Ends the present or the next sleep. It runs a waker, so no lock may be held.
    pub fn unpark(&self) {
        let mut state = self.state.lock();
        state.unparked = true;
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            // the caller unparks others next: a panic of this waker does not prevent that
            contain(|| waker.wake());
        }
    }

    /// Sleeps until an unpark; `false` if `deadline` comes first, or at once on a target without
    /// threads.
    pub fn park(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while !state.unparked {
            if !HAS_THREADS {
                return false;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            state = self.changed.wait(state, deadline);
        }
        state.unparked = false;
        true
    }

    /// Registers `waker` for the next unpark; `true` if an unpark came before.
    pub fn poll(&self, waker: &Waker) -> bool {
        // wakers are foreign: cloned before the lock is taken, dropped after its release
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        if core::mem::take(&mut state.unparked) {
            drop(state);
            return true;
        }
        core::mem::swap(&mut state.waker, &mut waker);
        drop(state);
        false
    }

    /// Drops the registered waker, which is foreign: no lock may be held. What keeps the parker
    /// later drops it perhaps under a lock.
    pub fn forget_waker(&self) {
        let waker = self.state.lock().waker.take();
        drop(waker);
    }
}
