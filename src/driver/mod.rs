//! The contract of a table with the drivers of its processes: the objects that carry out its
//! decisions.
//!
//! A [`ProcessTable`](crate::table::ProcessTable) calls a process's driver outside of its lock, one
//! operation after the other in the order in which the kernel decided them, from the thread that
//! caused them. A driver reports through a [`Reporter`], from any thread and at any time. Drivers
//! that are ready for use are in [`drivers`](crate::drivers).

mod report;

use std::fmt;

pub use report::{Attachment, Reporter};
pub(crate) use report::{Report, ReportTarget};

use crate::abi::{Pid, SigInfo, Signal, WaitStatus};

/// The identity of a process in a table: a number is used again, a key is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ProcessKey {
    pub pid: Pid,
    pub serial: u64,
}

/// The side that decides when a process stops, continues and ends. A process that a guest creates
/// by fork(2) is under the authority of the model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Authority {
    /// The model: masks, dispositions, stops and ends are the table's, and the driver carries them
    /// out.
    #[default]
    Model,
    /// The runtime, where a signal has its default action: the table has masks, pending signals and
    /// waits, and delivers each signal that its process neither ignores (SIG_IGN) nor catches to
    /// the driver, without a [handler](Delivery::handler), also if the default action would ignore
    /// it. The runtime then does nothing, runs a handler of its own, or reports the end or the stop
    /// of the process ([`Reporter`]). A call that such a signal interrupts is restarted; a runtime
    /// whose handlers interrupt calls with EINTR sets them with sigaction(2).
    ///
    /// SIGKILL, SIGSTOP and the continue by SIGCONT are the table's, as no program can change them.
    /// A reported stop, continue or end is an operation of the driver, too.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use proctable::abi::{Signal, WaitStatus};
    /// use proctable::driver::{Authority, DriverProcess};
    /// use proctable::drivers::ScriptedDriver;
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let driver = Arc::new(ScriptedDriver::default());
    /// let spawn = Spawn::new(Image::new("guest")).driver(driver.clone());
    /// let guest = table.spawn(spawn.mask(Signal::TERM.set()).authority(Authority::Runtime))?;
    /// guest.send(Signal::TERM)?;
    /// assert_eq!(driver.seen(), []); // the guest blocks it
    /// guest.sigprocmask(proctable::table::SigmaskHow::SetMask, Default::default())?;
    /// assert_eq!(driver.seen().len(), 1);
    /// assert_eq!(guest.exit_status(), None); // the runtime has not decided yet
    /// guest.report(WaitStatus::killed(Signal::TERM, false));
    /// assert_eq!(guest.exit_status(), Some(WaitStatus::killed(Signal::TERM, false)));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    Runtime,
    /// The host, as the operating system with a real child: the table forwards every signal, also
    /// the signals that the default action ignores, whatever the mask and the dispositions in the
    /// table are. The process stops, continues and ends when the driver reports it.
    Host,
}

/// A signal for a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Delivery {
    /// The siginfo of the signal.
    pub info: SigInfo,
    /// The handler to run, as the guest set it with sigaction(2); when it returns, the thread calls
    /// rt_sigreturn(2). `None` under [`Authority::Host`], and for a default action under
    /// [`Authority::Runtime`]: the host or the runtime decides.
    pub handler: Option<u64>,
    /// The thread that takes the signal; the process under [`Authority::Host`].
    pub tid: Pid,
}

/// An operation on a driver, as reports of faults and tests describe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
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
        /// The address at which 0 is to be stored.
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

/// The driver of one process: a WASM instance, an isolate, threads, a real child.
///
/// The table never calls it while it holds a lock, and never runs two operations of one process at
/// once. An operation may call the table: the operations and callbacks that this causes, for any
/// process, come after the operation has returned, at any depth, in the order of the steps. A call
/// of an operation that waits carries them out before it sleeps.
///
/// When a process ends, operations that its driver has not begun are dropped, except
/// [`clear_tid`](DriverProcess::clear_tid); [`terminate`](DriverProcess::terminate) follows, unless
/// the driver has reported the end itself.
///
/// If an exit callback is set
/// ([`set_on_process_exit`](crate::table::ProcessTable::set_on_process_exit)), it runs after the
/// operations of the step in which a process ended. Until it has run, no wait reports that exit or
/// a later one. So an operation must not wait for an exit then, nor make a guest's call that may
/// return one, also with WNOHANG: it would deadlock.
///
/// A panic in an operation is caught and published as
/// [`What::DriverFault`](crate::table::What::DriverFault).
pub trait DriverProcess: Send + Sync + 'static {
    /// Attaches the driver to a process that is about to be created;
    /// [`Spawn::driver`](crate::table::Spawn::driver) calls it. A driver that reports keeps the
    /// [`Attachment::reporter`], and may use it from now on: a report that comes before the process
    /// exists takes effect at its creation. If the creation fails, no operation follows, and
    /// reports have no effect. A panic reaches the caller of `Spawn::driver`.
    fn attach(&self, attachment: &Attachment) {
        let _ = attachment;
    }

    /// Runs a handler in the thread that the delivery names, forwards the signal
    /// ([`Authority::Host`]), or performs the default action ([`Authority::Runtime`]). Not called
    /// for handlers of a process with [safe points](crate::table::Spawn::safe_points).
    fn deliver(&self, delivery: Delivery);

    /// The thread has a handler to run: at its next safe point,
    /// [`Thread::begin_delivery`](crate::table::Thread::begin_delivery) returns it. Called only for
    /// a process with [safe points](crate::table::Spawn::safe_points).
    fn interrupt(&self, tid: Pid) {
        let _ = tid;
    }

    /// The thread has ended in the table, and its process continues or ends next: the thread must
    /// not run guest code any more. The threads that sleep in its calls have been woken, so this
    /// operation may wait until they have left. Not called for a thread that has another number
    /// because it executed a program (EXEC-11): that thread is the leader now, and the old leader
    /// has ended.
    fn end_thread(&self, tid: Pid) {
        let _ = tid;
    }

    /// The thread ends: store 0 at that address of the process's memory, and wake one waiter of the
    /// futex(2) there: CLONE_CHILD_CLEARTID of clone(2), set_tid_address(2).
    fn clear_tid(&self, tid: Pid, address: u64) {
        let _ = (tid, address);
    }

    /// All threads of the process are stopped: they must not run guest code until
    /// [`resume`](DriverProcess::resume).
    fn stop(&self, signal: Signal);

    /// The process continues.
    #[doc(alias = "continue")]
    fn resume(&self);

    /// The process has ended in the table: it must not run guest code any more. The threads that
    /// sleep in its calls have been woken, so this operation may wait until they have left. Under
    /// [`Authority::Host`] it is not called for an end that was reported, because the host knows
    /// it; the same holds for [`DriverProcess::stop`] and [`DriverProcess::resume`].
    fn terminate(&self, status: WaitStatus);

    /// The zombie is reaped in the table. This is the last operation: the driver of a real child
    /// may reap the child now, which frees its number.
    fn reaped(&self) {}

    /// The last handle of the table was dropped while the process was alive: no report has an
    /// effect any more.
    fn abandon(&self) {
        self.terminate(WaitStatus::killed(Signal::KILL, false));
    }
}

impl fmt::Debug for dyn DriverProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DriverProcess")
    }
}

/// A driver that does nothing, for processes that the embedder does not execute.
///
/// The table keeps no driver queue for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NullDriver;

impl DriverProcess for NullDriver {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// Runs one operation on the driver.
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
