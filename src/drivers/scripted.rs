//! A driver for tests: a script of expected operations, and of the reports after each.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::abi::{Pid, Signal, WaitStatus};
use crate::driver::{Attachment, Delivery, DriverProcess, Op, Reporter};
use crate::sync::Mutex;

/// An operation that a [`ScriptedDriver`] expects next.
#[derive(Clone, Debug)]
pub struct Expected {
    op: Match,
    reports: Vec<WaitStatus>,
    panics: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Match {
    Attach,
    Deliver(Signal),
    Interrupt(Pid),
    EndThread(Pid),
    ClearTid(Pid, u64),
    Stop(Signal),
    Resume,
    Terminate(WaitStatus),
    Abandon,
}

impl Expected {
    fn new(op: Match) -> Expected {
        Expected { op, reports: Vec::new(), panics: false }
    }

    /// The attachment to a process that is about to be created. A script that does not begin with
    /// it skips it.
    pub fn attach() -> Expected {
        Expected::new(Match::Attach)
    }

    /// The delivery of that signal, to a handler or to the host.
    pub fn deliver(signal: Signal) -> Expected {
        Expected::new(Match::Deliver(signal))
    }

    /// The notification that a thread of a process with safe points has a handler to run.
    pub fn interrupt(tid: Pid) -> Expected {
        Expected::new(Match::Interrupt(tid))
    }

    /// The end of a thread.
    pub fn end_thread(tid: Pid) -> Expected {
        Expected::new(Match::EndThread(tid))
    }

    /// The store of 0 at that address when a thread ends.
    pub fn clear_tid(tid: Pid, address: u64) -> Expected {
        Expected::new(Match::ClearTid(tid, address))
    }

    /// A stop by that signal.
    pub fn stop(signal: Signal) -> Expected {
        Expected::new(Match::Stop(signal))
    }

    /// A continue.
    pub fn resume() -> Expected {
        Expected::new(Match::Resume)
    }

    /// The end of the process.
    pub fn terminate(status: WaitStatus) -> Expected {
        Expected::new(Match::Terminate(status))
    }

    /// The end of the table.
    pub fn abandon() -> Expected {
        Expected::new(Match::Abandon)
    }

    /// Has the driver report this status after the operation. Several statuses are reported in
    /// order.
    #[must_use]
    pub fn then_report(mut self, status: WaitStatus) -> Expected {
        self.reports.push(status);
        self
    }

    /// Has the driver panic after the operation.
    #[must_use]
    pub fn then_panic(mut self) -> Expected {
        self.panics = true;
        self
    }

    /// Reports and panics as the script says.
    fn act(self, reporter: Option<Reporter>) {
        for status in self.reports {
            if let Some(reporter) = &reporter {
                reporter.report(status);
            }
        }
        assert!(!self.panics, "the script has the driver panic at {:?}", self.op);
    }

    fn fits(&self, op: Op) -> bool {
        match (self.op, op) {
            (Match::Resume, Op::Resume) | (Match::Abandon, Op::Abandon) => true,
            (Match::Deliver(signal), Op::Deliver(delivery)) => delivery.info.signal == signal,
            (Match::Interrupt(tid), Op::Interrupt(interrupted)) => interrupted == tid,
            (Match::EndThread(tid), Op::EndThread(ended)) => ended == tid,
            (Match::ClearTid(tid, address), Op::ClearTid { tid: of, address: at }) => {
                (tid, address) == (of, at)
            }
            (Match::Stop(signal), Op::Stop(stopped)) => stopped == signal,
            (Match::Terminate(status), Op::Terminate(ended)) => ended == status,
            _ => false,
        }
    }
}

/// A test double: it expects operations in order, makes prepared reports, and records all
/// operations.
///
/// ```
/// use std::sync::Arc;
/// use proctable::abi::{Signal, WaitStatus};
/// use proctable::driver::Authority;
/// use proctable::drivers::{Expected, ScriptedDriver};
/// use proctable::table::{Image, ProcessTable, Spawn};
///
/// let killed = WaitStatus::killed(Signal::TERM, false);
/// let driver =
///     Arc::new(ScriptedDriver::new([Expected::deliver(Signal::TERM).then_report(killed)]));
/// let table = ProcessTable::new();
/// let spawn = Spawn::new(Image::new("sleep")).driver(driver.clone()).authority(Authority::Host);
/// let process = table.spawn(spawn)?;
/// table.init().kill(process.pid(), Signal::TERM)?;
/// assert_eq!(process.exit_status(), Some(killed));
/// driver.verify().expect("everything came as expected");
/// # Ok::<(), proctable::abi::Errno>(())
/// ```
#[derive(Debug, Default)]
pub struct ScriptedDriver(Mutex<Script>);

#[derive(Debug, Default)]
struct Script {
    expected: VecDeque<Expected>,
    seen: Vec<Op>,
    wrong: Vec<String>,
    reaped: bool,
    reporter: Option<Reporter>,
}

impl ScriptedDriver {
    /// A driver with this script.
    pub fn new(script: impl IntoIterator<Item = Expected>) -> ScriptedDriver {
        let expected = script.into_iter().collect();
        ScriptedDriver(Mutex::new(Script { expected, ..Script::default() }))
    }

    /// The operations so far, in order.
    pub fn seen(&self) -> Vec<Op> {
        self.0.lock().seen.clone()
    }

    /// The signals that were delivered so far, in order.
    pub fn delivered(&self) -> Vec<Signal> {
        let deliveries = |op: Op| match op {
            Op::Deliver(Delivery { info, .. }) => Some(info.signal),
            _ => None,
        };
        self.seen().into_iter().filter_map(deliveries).collect()
    }

    /// Whether the process has been reaped.
    pub fn is_reaped(&self) -> bool {
        self.0.lock().reaped
    }

    /// The reporter of the process; `None` before the driver is attached.
    pub fn reporter(&self) -> Option<Reporter> {
        self.0.lock().reporter.clone()
    }

    /// Checks that every operation was the expected one, and that all of them came.
    ///
    /// # Errors
    ///
    /// The differences, one line each.
    pub fn verify(&self) -> Result<(), String> {
        let script = self.0.lock();
        let missing =
            script.expected.iter().map(|expected| format!("{:?} did not come", expected.op));
        let wrong: Vec<String> = script.wrong.iter().cloned().chain(missing).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// Records an operation. Returns what the script expects at this place.
    fn note(&self, op: Op) -> Option<(Expected, Option<Reporter>)> {
        let mut script = self.0.lock();
        script.seen.push(op);
        match script.expected.pop_front() {
            Some(expected) if expected.fits(op) => Some((expected, script.reporter.clone())),
            Some(expected) => {
                script.wrong.push(format!("{op:?} came, {:?} was expected", expected.op));
                None
            }
            None => {
                script.wrong.push(format!("{op:?} came, nothing was expected"));
                None
            }
        }
    }

    fn act(&self, op: Op) {
        if let Some((expected, reporter)) = self.note(op) {
            expected.act(reporter);
        }
    }
}

impl DriverProcess for ScriptedDriver {
    fn attach(&self, attachment: &Attachment) {
        let reporter = attachment.reporter();
        let mut script = self.0.lock();
        script.reporter = Some(reporter.clone());
        let is_first = script.expected.front().is_some_and(|first| first.op == Match::Attach);
        let first = if is_first { script.expected.pop_front() } else { None };
        drop(script);
        if let Some(expected) = first {
            expected.act(Some(reporter));
        }
    }

    fn deliver(&self, delivery: Delivery) {
        self.act(Op::Deliver(delivery));
    }

    fn interrupt(&self, tid: Pid) {
        self.act(Op::Interrupt(tid));
    }

    fn end_thread(&self, tid: Pid) {
        self.act(Op::EndThread(tid));
    }

    fn clear_tid(&self, tid: Pid, address: u64) {
        self.act(Op::ClearTid { tid, address });
    }

    fn stop(&self, signal: Signal) {
        self.act(Op::Stop(signal));
    }

    fn resume(&self) {
        self.act(Op::Resume);
    }

    fn terminate(&self, status: WaitStatus) {
        self.act(Op::Terminate(status));
    }

    fn abandon(&self) {
        self.act(Op::Abandon);
    }

    fn reaped(&self) {
        self.0.lock().reaped = true;
    }
}
