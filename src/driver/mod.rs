//! Drivers: what carries out for a process what the table decides.
//!
//! A [`ProcessTable`](crate::table::ProcessTable) calls a process's driver outside of its lock,
//! one operation after the other in the order in which the kernel decided them, from whichever
//! thread brought them about. What the driver has to say goes through a [`Reporter`], from any
//! thread and at any time.

#[cfg(all(feature = "linux", target_os = "linux"))]
pub mod linux;
mod report;
mod scripted;
mod thread;

use std::fmt;

pub use report::Reporter;
pub use scripted::{Expected, ScriptedDriver};
pub use thread::{Guest, GuestThread, ThreadDriver};

use crate::abi::{Pid, SigInfo, Signal, WaitStatus};
use crate::table::Spawn;

/// Who decides what becomes of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Authority {
    /// The model: masks, dispositions, stops and deaths are the table's, the driver carries out.
    #[default]
    Model,
    /// Whoever runs it, as the operating system does with a real child: every signal is forwarded,
    /// those that the default action ignores too, whatever the mask and dispositions in the table
    /// say; it stops, continues and ends when the driver reports it.
    Host,
}

/// A signal for a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The signal and what a handler is told about it.
    pub info: SigInfo,
    /// The handler to run, as the guest's sigaction(2) gave it; when it returns, the thread calls
    /// rt_sigreturn(2). `None` under [`Authority::Host`]: the host decides.
    pub handler: Option<u64>,
    /// The thread that runs the handler; the process under [`Authority::Host`].
    pub tid: Pid,
}

/// What an operation on a driver was, for reports of faults and for tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// [`DriverProcess::deliver`].
    Deliver(Delivery),
    /// [`DriverProcess::interrupt`].
    Interrupt(Pid),
    /// [`DriverProcess::end_thread`].
    EndThread(Pid),
    /// [`DriverProcess::clear_tid`].
    ClearTid {
        /// The thread.
        tid: Pid,
        /// Where 0 is to be stored.
        address: u64,
    },
    /// [`DriverProcess::stop`].
    Stop(Signal),
    /// [`DriverProcess::resume`].
    Resume,
    /// [`DriverProcess::terminate`].
    Terminate(WaitStatus),
    /// [`DriverProcess::reaped`].
    Reaped,
    /// [`DriverProcess::abandon`].
    Abandon,
}

/// The execution of one process: a WASM instance, an isolate, threads, a real child.
///
/// The table never calls it while it holds a lock, and never two operations of one process at
/// once. It may call the table from inside an operation: what that causes for the same process, or
/// for one that has an operation from the same step, comes after the operation returns. Where a
/// callback for ends is set
/// ([`set_on_process_exit`](crate::table::ProcessTable::set_on_process_exit)), it runs after the
/// operations that came with an end, and nobody hears of an end, or of a later one, before that: so
/// an operation must not wait for one then, nor make a call of a guest that may return one, also
/// with WNOHANG. A panic in an operation is caught, and published as
/// [`What::DriverFault`](crate::table::What::DriverFault).
pub trait DriverProcess: Send + Sync + 'static {
    /// It is to drive the process that this creates: [`Spawn::driver`] calls it. Who has something
    /// to report keeps [`Spawn::reporter`], and may use it from now on: what is reported before the
    /// process exists takes effect when it does. Where the creation fails nothing follows, and
    /// reports have no effect. A panic reaches the caller of `Spawn::driver`.
    fn attach(&self, spawn: &Spawn) {
        let _ = spawn;
    }

    /// Run a handler, in the thread that the delivery names ([`Authority::Model`]), or pass the
    /// signal on ([`Authority::Host`]). Not called for handlers of a process with [safe
    /// points](Spawn::safe_points).
    fn deliver(&self, delivery: Delivery);

    /// The thread has a handler to run: at its next safe point
    /// [`Thread::begin_delivery`](crate::table::Thread::begin_delivery) gives it. Called only for a
    /// process with [safe points](Spawn::safe_points).
    fn interrupt(&self, tid: Pid) {
        let _ = tid;
    }

    /// The thread has ended in the table, and its process goes on or ends next: it must not run its
    /// own code any more. Those who sleep in its calls have been woken, so this may wait until they
    /// have left. Not called for a thread that has another number since it executed a program
    /// (EXEC-11): that is the leader now, and the one that was has ended.
    fn end_thread(&self, tid: Pid) {
        let _ = tid;
    }

    /// The thread ends, and 0 is to be stored at that address of the process's memory, and one who
    /// waits there by futex(2) to be woken: CLONE_CHILD_CLEARTID of clone(2), set_tid_address(2).
    fn clear_tid(&self, tid: Pid, address: u64) {
        let _ = (tid, address);
    }

    /// All of its threads are stopped: they must not run their own code until
    /// [`resume`](DriverProcess::resume).
    fn stop(&self, signal: Signal);

    /// It continues.
    #[doc(alias = "continue")]
    fn resume(&self);

    /// It has ended in the table: it must not run its own code any more. Those who sleep in its
    /// calls have been woken, so this may wait until they have left. Under [`Authority::Host`] not
    /// called for an end that was reported: the host knows it. Nor is [`DriverProcess::stop`] or
    /// [`DriverProcess::resume`] then.
    fn terminate(&self, status: WaitStatus);

    /// Its zombie is gone in the table. The last operation: whoever runs a real child may reap it
    /// now, and its number with it.
    fn reaped(&self) {}

    /// The last handle of the table is gone while the process lived: nobody will hear of it.
    fn abandon(&self) {
        self.terminate(WaitStatus::killed(Signal::KILL, false));
    }
}

impl fmt::Debug for dyn DriverProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DriverProcess")
    }
}

/// A driver for processes that nobody runs: it does nothing.
///
/// The table keeps no queue for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NullDriver;

impl DriverProcess for NullDriver {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// Has the driver carry out one operation.
#[inline(always)]
pub(crate) fn perform(driver: &dyn DriverProcess, op: &Op) {
    match *op {
        Op::Deliver(delivery) => driver.deliver(delivery),
        Op::Interrupt(tid) => driver.interrupt(tid),
        Op::EndThread(tid) => driver.end_thread(tid),
        Op::ClearTid { tid, address } => driver.clear_tid(tid, address),
        Op::Stop(signal) => driver.stop(signal),
        Op::Resume => driver.resume(),
        Op::Terminate(status) => driver.terminate(status),
        Op::Reaped => driver.reaped(),
        Op::Abandon => driver.abandon(),
    }
}
