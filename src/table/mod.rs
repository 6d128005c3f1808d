//! The facade: the model for runtimes, with drivers, blocking waits and a reaper.
//!
//! [`ProcessTable`] is what a sandbox embeds. Any number of threads call it; each call is one
//! transition of the [`Kernel`](crate::kernel::Kernel), after which everything that processes do by
//! themselves has been done, in the kernel's canonical order.
//!
//! # The lock
//!
//! One lock guards the model and what belongs to it. Under it, a call runs the model and notes what
//! is to be done: operations for drivers, callbacks, sleepers to wake. When it is free again the
//! same thread does that. So nothing foreign (a driver, a callback, a waker, a `Drop`) ever runs
//! under the lock, and any of them may call the table; only a [`Clock`] is asked under it.
//! Operations of one process stand in one queue, filled under the lock, and emptied by one thread
//! at a time: a stop and a continue cannot overtake each other. Exits stand in another: their
//! callbacks run one after the other, each when drivers were told what came with it, and no wait
//! returns one before its callbacks have run, and no driver hears of a child's before them. Locks
//! are taken in this order: table, then a reporter, a sleeper.
//!
//! # Two ways to call
//!
//! - A *guest's* call, [`ProcessTable::syscall`] and the methods of [`Thread`], is made by a thread
//!   of the process itself: one that is stopped makes it when it continues, one that sleeps in
//!   another call when that has returned, and signals interrupt it. The methods of [`Process`] are
//!   calls of its first thread, which is all there is in most processes.
//! - The *runtime's* acts go around that: [`Process::spawn`], [`Process::wait`] and
//!   [`Process::send`] work whatever the process does, as if another thread of it, or somebody
//!   outside of its namespace, acted. The process that stands for the runtime is
//!   [`ProcessTable::init`].
//!
//! ```
//! use proctable::abi::{Signal, WaitOptions, WaitStatus};
//! use proctable::table::{Image, ProcessTable, Spawn, WaitTarget};
//!
//! let table = ProcessTable::new();
//! let shell = table.spawn(Spawn::new(Image::new("sh")).session())?;
//! let job = shell.spawn(Spawn::new(Image::new("sleep")).own_group())?;
//! shell.kill_group(job.pid().into(), Signal::TERM)?;
//! let waited = shell.wait(WaitTarget::Any, WaitOptions::EXITED)?;
//! assert_eq!(waited.status, WaitStatus::killed(Signal::TERM, false));
//! # Ok::<(), proctable::abi::Errno>(())
//! ```

mod by_pid;
mod call;
mod clock;
mod commit;
mod config;
mod delivery;
mod driver_queue;
mod end;
mod event;
mod exit_gate;
mod guest;
mod join;
mod outbox;
mod process;
mod query;
mod registry;
mod spawn;
mod thread;
mod threads;
mod timer_thread;
mod wait;
mod waits;
mod zombies;

use alloc::sync::Arc;
use core::time::Duration;
use std::fmt;

pub use call::{Call, CallProgress};
pub(crate) use call::{End, Started};
pub use clock::{Clock, ManualClock, RealClock};
pub(crate) use commit::TableInner;
pub use config::{Init, TableConfig, TableLimits, TimerMode};
pub(crate) use delivery::DeliveryNotifier;
pub use delivery::{Checkpoint, HandlerDelivery, StaleDelivery};
pub use end::Terminated;
pub use event::{TableEvent, What};
pub(crate) use guest::Caller;
pub use join::Join;
pub use process::{Process, ProcessId, SigmaskHow};
pub use query::{Node, ProcessInfo, ThreadInfo};
pub(crate) use registry::ProcessKey;
pub use registry::{Counts, Image};
pub use spawn::{GroupChoice, Spawn};
pub use thread::Thread;
pub(crate) use thread::{THREAD, ThreadKey};
pub use wait::{CancelToken, Wait, WaitTarget, Waited};

use crate::abi::{Errno, Pid, Time, WaitStatus};
use crate::sync::channel::Receiver;
use crate::syscall::{self, Syscall};

/// A table of processes. Clones are handles of the same table.
///
/// When the last handle is gone (each [`Process`], [`Call`] and [`Wait`] holds one, guests and
/// drivers do not), the table ends: drivers of living processes are told
/// ([`abandon`](crate::driver::DriverProcess::abandon)), and calls of guests end with ESRCH.
#[derive(Clone)]
pub struct ProcessTable(Arc<TableHandle>);

/// A callback for ends of processes: the process, which may be reaped already, and how it ended.
pub type OnProcessExit = Arc<dyn Fn(&Process, WaitStatus) + Send + Sync>;

/// Ends the table when the last one is dropped.
struct TableHandle(Arc<TableInner>);

impl Drop for TableHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Default for ProcessTable {
    fn default() -> ProcessTable {
        ProcessTable::new()
    }
}

impl fmt::Debug for ProcessTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessTable").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl ProcessTable {
    /// A table with the default settings: process 1 stands for the runtime.
    pub fn new() -> ProcessTable {
        ProcessTable::with_config(TableConfig::new())
    }

    /// A table with these settings.
    pub fn with_config(config: TableConfig) -> ProcessTable {
        let handle = Arc::new(TableHandle(TableInner::new(config)));
        handle.0.state.lock().handle = Arc::downgrade(&handle);
        ProcessTable(handle)
    }

    fn shared(&self) -> &Arc<TableInner> {
        &self.0.0
    }

    /// Process 1: see [`Init`].
    pub fn init(&self) -> Process {
        // serials begin with 1, and process 1 is the first
        Process::new(self.clone(), ProcessKey { pid: Pid(1), serial: 1 })
    }

    /// The process that has that number now, dead or alive. O(1).
    pub fn process(&self, pid: Pid) -> Option<Process> {
        let key = self.shared().state.lock().process_registry.key(pid)?;
        Some(Process::new(self.clone(), key))
    }

    /// Creates a child of process 1: see [`Process::spawn`].
    #[doc(alias = "register")]
    pub fn spawn(&self, spawn: Spawn) -> Result<Process, Errno> {
        self.init().spawn(spawn)
    }

    /// The thread `caller` makes a system call, and this thread waits until it returns. A caller
    /// that is stopped or sleeps in another call makes it when it can. The number of a process is
    /// that of its first thread; where that has ended, the first of those that it has left makes
    /// the call.
    ///
    /// A result is returned when the program would see it: handlers that interrupt or follow the
    /// call go to the driver ([`deliver`](crate::driver::DriverProcess::deliver)) and must have
    /// returned ([`Syscall::RtSigreturn`]) first.
    ///
    /// # Errors
    ///
    /// The errno of the call; ESRCH if there is no living thread `caller`, or if it ends during
    /// the call.
    pub fn syscall(&self, caller: Pid, call: Syscall) -> syscall::Result {
        let shared = self.shared();
        shared.result(shared.start(Caller::Number(caller), &call))
    }

    /// The same without waiting for its return.
    pub fn submit(&self, caller: Pid, call: Syscall) -> Call {
        let started = self.shared().start(Caller::Number(caller), &call);
        Call::new(self.clone(), started, Caller::Number(caller))
    }

    /// The events of all processes from now on, through a channel that holds `capacity` of them.
    ///
    /// The table never waits for a reader. An event that finds the channel full is dropped, and
    /// the next one for which there is room comes after a [`What::Lost`] that says how many were: a
    /// reader that must miss nothing asks the table when it has caught up. Events are in the order
    /// in which they happened, and those of a call are there when the call returns.
    ///
    /// # Errors
    ///
    /// EMFILE if [`TableLimits::subscribers`] receivers exist. One that was dropped counts until
    /// the next event.
    pub fn subscribe(&self, capacity: usize) -> Result<Receiver<TableEvent>, Errno> {
        let mut state = self.shared().state.lock();
        let limit = self.shared().max_subscribers;
        state.process_registry.subscribers.add(capacity, limit).ok_or(Errno::EMFILE)
    }

    /// Has `callback` called for each process that ends, one after the other in the order of the
    /// ends, before any wait returns that end, before its parent's sleeping waits are woken, and
    /// before a driver is told of a signal about children: so that what belonged to the process
    /// can be released first (TABLE-01): its driver was told before. What else a driver is told
    /// after such a signal waits with it, and so do results of calls that were begun before, of
    /// processes that may have waited for an end: the callback must not wait for these. `None`
    /// takes it back.
    ///
    /// It runs in a thread that caused an end, or in one that caused an earlier end, the background
    /// thread included ([`TimerMode::Thread`]); it may call the table, and a panic is caught.
    pub fn set_on_process_exit(&self, callback: Option<OnProcessExit>) {
        let mut state = self.shared().state.lock();
        state.process_registry.has_exit_callback = callback.is_some();
        let old = core::mem::replace(&mut state.on_exit, callback);
        drop(state);
        drop(old);
    }

    /// Does what is due at `now`, by the table's [`Clock`] or beyond it: alarms and timeouts, in
    /// order, then zombies of the table's init whose time to live is over. Returns the number of
    /// these. Only needed with [`TimerMode::Caller`] or a clock that does not follow real time.
    ///
    /// Costs what is due.
    #[doc(alias = "reap_due_zombies")]
    pub fn reap_due(&self, now: Time) -> usize {
        self.shared().run_due(now)
    }

    /// When [`ProcessTable::reap_due`] has something to do next.
    #[doc(alias = "next_zombie_reap_deadline")]
    pub fn next_deadline(&self) -> Option<Time> {
        self.shared().state.lock().next_deadline()
    }

    /// The present time of the table's clock.
    pub fn now(&self) -> Time {
        self.shared().clock.now()
    }

    /// How many zombies of the table's init wait for their time.
    #[doc(alias = "zombie_timer_count")]
    pub fn reapable_zombies(&self) -> usize {
        self.shared().state.lock().process_registry.zombies.len()
    }

    /// Ends every process but the table's init: see [`Terminated`].
    pub fn terminate_all(&self, grace: Duration) -> Terminated {
        end::terminate_all(self, grace)
    }
}
