//! The process table: the model for runtimes, with drivers, blocking waits and a reaper.
//!
//! [`ProcessTable`] is the type that a sandbox embeds. Any number of threads may call it. Each call
//! is one transition of the [`Kernel`](crate::kernel::Kernel), after which all tasks that can run
//! have run, in the kernel's canonical order.
//!
//! # The lock
//!
//! One lock guards the model and the table's own state. Under the lock, a call runs the model and
//! records what has to follow: operations for drivers, exit callbacks, threads to wake. The same
//! thread carries these out after it has unlocked. Code of the embedder (a driver, a callback, a
//! waker, a `Drop`) never runs under the lock, and any of it may call the table; the only exception
//! is the [`Clock`], which the table reads under the lock.
//!
//! The operations of one process form a queue, which is filled under the lock and emptied by one
//! thread at a time: a stop and a continue cannot overtake each other. Exits form another queue:
//! their callbacks run one after the other, each after the drivers have carried out the operations
//! of its step. Until the callback of an exit has run, no wait returns that exit, and no driver
//! receives the SIGCHLD of it. Locks are taken in this order: the table, then a reporter, then a
//! sleeping thread's parker.
//!
//! # Two ways to call
//!
//! - A *guest's* call, [`ProcessTable::syscall`] and the methods of [`Thread`], is made by a thread
//!   of the process itself: a stopped thread makes it when it continues, a thread that sleeps in
//!   another call makes it when that call has returned, and signals interrupt it. The methods of
//!   [`Process`] are calls of its first thread; most processes have no other.
//! - The *runtime's* acts need no thread of the process: [`Process::spawn`], [`Process::wait`] and
//!   [`Process::send`] work in any state of the process, as if another thread of it, or a process
//!   outside of its pid namespace, acted. The process that stands for the runtime is
//!   [`ProcessTable::init`].
//!
//! # Targets without threads
//!
//! On wasm without atomics nothing could end a sleep. Calls and waits that would block there return
//! EDEADLK, or `None` at once where they have a timeout, and the methods that return no error do
//! not exist ([`Thread::join`], [`EventReceiver::recv`], [`Termination::wait`] and the like): the
//! futures, and the forms that never wait, serve a loop of the runtime's own
//! (`examples/event_loop.rs`). wasm32-unknown-unknown has no time either, and [`RealClock`] stands
//! still: use a [`ManualClock`].
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
mod event_receiver;
mod exit_gate;
mod guest;
mod join;
mod outbox;
mod process;
mod procfs;
mod query;
mod registry;
#[cfg(feature = "serde")]
mod snapshot;
mod spawn;
mod terminal;
mod thread;
mod threads;
mod timer_thread;
mod usage;
mod wait;
mod waits;
mod zombies;

use alloc::sync::Arc;
use core::task::{Context, Poll};
use core::time::Duration;
use std::fmt;
use std::panic::RefUnwindSafe;

pub use call::{Call, CallProgress};
pub(crate) use call::{End, Started};
pub use clock::{Clock, ManualClock, RealClock};
pub(crate) use commit::TableInner;
pub use config::{DispatchMode, Init, TableConfig, TableLimits, TimerMode};
pub(crate) use delivery::ThreadWaker;
pub use delivery::{Checkpoint, HandlerDelivery, StaleDelivery};
pub use end::{Terminated, Termination};
pub use event::{TableEvent, What};
pub use event_receiver::EventReceiver;
pub(crate) use guest::Caller;
pub use join::Join;
pub(crate) use outbox::before_sleep;
pub use process::{Process, ProcessId, SigmaskHow, WeakProcess};
pub use procfs::ProcFs;
pub use query::{Node, ProcessData, ProcessInfo, ThreadInfo};
pub(crate) use registry::ProcessKey;
pub use registry::{Counts, Image};
#[cfg(feature = "serde")]
pub use snapshot::{RestoreError, Snapshot};
pub use spawn::{GroupChoice, Spawn};
pub use terminal::{OnOutput, Terminal};
pub use thread::Thread;
pub(crate) use thread::{THREAD, ThreadKey};
pub use wait::{CancelToken, Wait, WaitTarget, Waited};

use crate::abi::{Errno, Pid, Time, WaitStatus};
use crate::syscall::{self, Syscall};

/// A table of processes. Clones are handles of the same table.
///
/// The table ends when its last handle is dropped. Each [`Process`], [`Thread`], [`Call`] and
/// [`Wait`] holds a handle; guests and drivers hold none. At the end of the table,
/// [`abandon`](crate::driver::DriverProcess::abandon) is called for the drivers of living
/// processes, and calls of guests return ESRCH.
#[derive(Clone)]
pub struct ProcessTable(Arc<TableHandle>);

/// The exit callback. It receives a process, which may be reaped already, and how it ended.
pub type OnProcessExit = Arc<dyn Fn(&Process, WaitStatus) + Send + Sync>;

/// Ends the table when it is dropped: each handle holds a reference to it.
#[derive(Debug)]
struct TableHandle(Arc<TableInner>);

// a panic of the embedder's code is contained, and leaves no transition half done
impl RefUnwindSafe for TableHandle {}

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
    /// Creates a table with the default settings: process 1 stands for the runtime.
    pub fn new() -> ProcessTable {
        ProcessTable::with_config(TableConfig::new())
    }

    /// Creates a table with these settings.
    pub fn with_config(config: TableConfig) -> ProcessTable {
        let handle = Arc::new(TableHandle(TableInner::new(config)));
        // process 1 may get its driver now
        handle.0.commit(|state| state.handle = Arc::downgrade(&handle));
        ProcessTable(handle)
    }

    fn shared(&self) -> &Arc<TableInner> {
        &self.0.0
    }

    /// Process 1: see [`Init`].
    pub fn init(&self) -> Process {
        Process::new(self.clone(), self.shared().first)
    }

    /// The process that has this number at present, alive or a zombie. O(1).
    pub fn process(&self, pid: Pid) -> Option<Process> {
        let key = self.shared().state.lock().process_registry.key(pid)?;
        Some(Process::new(self.clone(), key))
    }

    /// Creates a child of process 1: see [`Process::spawn`].
    #[doc(alias = "register")]
    pub fn spawn(&self, spawn: Spawn) -> Result<Process, Errno> {
        self.init().spawn(spawn)
    }

    /// The thread `caller` makes a system call, and the calling thread waits until it returns. A
    /// caller that is stopped or sleeps in another call makes the call when it can. The number of a
    /// process is the number of its leader; if the leader has ended, the first thread that is alive
    /// makes the call.
    ///
    /// The result is returned when the program would see it: handlers that interrupt or follow the
    /// call go to the driver ([`deliver`](crate::driver::DriverProcess::deliver)) and have to
    /// return ([`Syscall::RtSigreturn`]) first.
    ///
    /// # Errors
    ///
    /// The errno of the call; ESRCH if there is no living thread `caller`, or if it ends during the
    /// call.
    pub fn syscall(&self, caller: Pid, call: Syscall) -> syscall::Result {
        let shared = self.shared();
        shared.result(shared.start(Caller::Number(caller), &call))
    }

    /// [`ProcessTable::syscall`] without waiting for the return of the call.
    pub fn submit(&self, caller: Pid, call: Syscall) -> Call {
        let started = self.shared().start(Caller::Number(caller), &call);
        Call::new(self.clone(), started, Caller::Number(caller))
    }

    /// Returns a receiver of the events of all processes from now on, which holds at most
    /// `capacity` of them; memory is allocated as it is used.
    ///
    /// The table never waits for a receiver. An event that finds it full is dropped, and the next
    /// event that finds space comes after a [`What::Lost`] with the number of dropped events: a
    /// receiver that must miss nothing then queries the table. Events are in the order in which
    /// they happened, and the events of a call are there when the call returns.
    ///
    /// # Errors
    ///
    /// EMFILE if [`TableLimits::subscribers`] receivers exist.
    pub fn subscribe(&self, capacity: usize) -> Result<EventReceiver, Errno> {
        let mut state = self.shared().state.lock();
        let limit = self.shared().max_subscribers;
        state.process_registry.subscribers.add(capacity, limit).ok_or(Errno::EMFILE)
    }

    /// Sets the exit callback; `None` removes it. The table calls it for each process that ends,
    /// one exit after the other in the order of the ends: after the process's own driver has
    /// received the end, before any wait returns the exit, before the sleeping waits of the parent
    /// are woken, and before a driver receives the SIGCHLD. So the callback can release the
    /// resources of the process first (TABLE-01).
    ///
    /// Operations that follow such a SIGCHLD in a driver queue are delayed with it. Results of
    /// calls in progress that may report the exit are held back too. The callback must not wait for
    /// any of these.
    ///
    /// The callback runs in a thread that caused an end, or in one that caused an earlier end, the
    /// timer thread included ([`TimerMode::Thread`]). It may call the table, and a panic is caught.
    pub fn set_on_process_exit(&self, callback: Option<OnProcessExit>) {
        let mut state = self.shared().state.lock();
        state.process_registry.has_exit_callback = callback.is_some();
        let old = core::mem::replace(&mut state.on_exit, callback);
        drop(state);
        drop(old);
    }

    /// Processes all deadlines until `now`, by the table's [`Clock`] or later: alarms and timeouts,
    /// in order, then zombies of the table's init whose time to live has passed. Returns the number
    /// of these zombies. It is only needed with [`TimerMode::Caller`] or with a clock that does not
    /// follow real time.
    ///
    /// The cost is proportional to what is due.
    #[doc(alias = "reap_due_zombies")]
    pub fn reap_due(&self, now: Time) -> usize {
        self.shared().run_due(now)
    }

    /// With [`DispatchMode::Request`]: has drivers carry out the operations that wait, and runs
    /// exit callbacks, until no more are left. Returns the number of steps that they belong to. The
    /// cost is that of the operations.
    pub fn dispatch(&self) -> usize {
        self.shared().dispatch_requests()
    }

    /// With [`DispatchMode::Request`]: ready when [`ProcessTable::dispatch`] has work. One task at
    /// a time may wait.
    pub fn poll_dispatch(&self, context: &mut Context<'_>) -> Poll<()> {
        self.shared().poll_requests(context)
    }

    /// The earliest time at which [`ProcessTable::reap_due`] has work.
    #[doc(alias = "next_zombie_reap_deadline")]
    pub fn next_deadline(&self) -> Option<Time> {
        self.shared().state.lock().next_deadline()
    }

    /// The present time of the table's clock.
    pub fn now(&self) -> Time {
        self.shared().clock.now()
    }

    /// The number of zombies of the table's init that wait for their time to live to pass.
    #[doc(alias = "zombie_timer_count")]
    pub fn reapable_zombies(&self) -> usize {
        self.shared().state.lock().process_registry.zombies.len()
    }

    /// Ends every process but the table's init, and waits for it: see [`Terminated`]. The grace is
    /// time of the table's clock. On the only thread of a runtime no guest could use its grace:
    /// [`ProcessTable::begin_termination`] does not wait.
    #[cfg(not(all(target_family = "wasm", not(target_feature = "atomics"))))]
    pub fn terminate_all(&self, grace: Duration) -> Terminated {
        self.begin_termination(grace).wait()
    }

    /// Begins to end every process but the table's init: sends SIGTERM and SIGCONT, and returns a
    /// future, which can also be polled by steps.
    ///
    /// ```
    /// use std::time::Duration;
    /// use proctable::table::{Image, ManualClock, ProcessTable, Spawn, TableConfig, TimerMode};
    ///
    /// let clock = ManualClock::new();
    /// let config = TableConfig::new().timer_mode(TimerMode::Caller).clock(clock.clone());
    /// let table = ProcessTable::with_config(config);
    /// let guest = table.spawn(Spawn::new(Image::new("guest")))?;
    /// guest.stop_on_term();
    /// # trait Ignore { fn stop_on_term(&self); }
    /// # impl Ignore for proctable::table::Process {
    /// #     fn stop_on_term(&self) {
    /// #         use proctable::abi::{Handler, SigAction, Signal};
    /// #         let handler = Handler::Catch(0x1000);
    /// #         let action = SigAction { handler, ..SigAction::DEFAULT };
    /// #         self.sigaction(Signal::TERM, action).expect("SIGTERM can be caught");
    /// #     }
    /// # }
    /// let mut termination = table.begin_termination(Duration::from_secs(1));
    /// assert_eq!(termination.try_finish(), None); // the guest has a handler
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(termination.try_finish().expect("it was killed").ended.len(), 1);
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    pub fn begin_termination(&self, grace: Duration) -> Termination {
        Termination::begin(self, grace)
    }
}
