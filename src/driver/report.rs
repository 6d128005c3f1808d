//! Reports of a driver to its table.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::ProcessKey;
use crate::abi::{Rusage, Signal, WaitStatus};
use crate::sync::{Mutex, OnceLock};

/// Reports to the table that a process ended, stopped or continued.
///
/// A reporter belongs to one process for good. A report about a process that has ended, or whose
/// table has ended, has no effect, also if another process has the number now. Reports that come
/// before the process is in the table are kept, and take effect at its creation.
#[derive(Clone)]
pub struct Reporter(Arc<Mutex<Bound>>);

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

/// What a driver gets of a process that is about to be created: see
/// [`DriverProcess::attach`](super::DriverProcess::attach).
#[derive(Debug, Default)]
pub struct Attachment(OnceLock<Reporter>);

impl Attachment {
    /// The reporter of the process. A report that comes before the process exists takes effect at
    /// its creation.
    pub fn reporter(&self) -> Reporter {
        self.0.get_or_init(Reporter::new).clone()
    }

    /// Binds the reporter, if there is one, to a process in the table, which receives the reports
    /// from now on. Returns the earlier reports.
    pub(crate) fn bind<T: ReportTarget + 'static>(
        &self,
        target: &Arc<T>,
        key: ProcessKey,
    ) -> Vec<Report> {
        let Some(reporter) = self.0.get() else { return Vec::new() };
        let target: Weak<T> = Arc::downgrade(target);
        reporter.bind(target, key)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(reporter) = self.0.get() {
            reporter.close_unbound();
        }
    }
}

/// What a driver reports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    Status(WaitStatus),
    Usage(Rusage),
}

/// The side that receives the reports of drivers: a table.
pub(crate) trait ReportTarget: Send + Sync {
    /// A driver reports about its process.
    fn receive(self: Arc<Self>, key: ProcessKey, report: Report);
}

enum Bound {
    /// Bound to no process yet; the reports so far.
    Not(Vec<Report>),
    To(Weak<dyn ReportTarget>, ProcessKey),
    /// The process was never created.
    ToNobody,
}

impl Reporter {
    /// A reporter that is bound to no process yet.
    fn new() -> Reporter {
        Reporter(Arc::new(Mutex::new(Bound::Not(Vec::new()))))
    }

    /// The process exited with the low 8 bits of `code` (EXIT-01).
    pub fn exited(&self, code: i32) {
        self.report(WaitStatus::exited(code));
    }

    /// The process was killed by `signal`.
    pub fn killed(&self, signal: Signal, core: bool) {
        self.report(WaitStatus::killed(signal, core));
    }

    /// The process stopped.
    pub fn stopped(&self, signal: Signal) {
        self.report(WaitStatus::stopped(signal));
    }

    /// The process continued.
    pub fn continued(&self) {
        self.report(WaitStatus::CONTINUED);
    }

    /// The process has used these resources in total: see
    /// [`Process::report_usage`](crate::table::Process::report_usage).
    pub fn usage(&self, usage: Rusage) {
        self.send(Report::Usage(usage));
    }

    /// The process changed its state as this wait status says. An invalid status has no effect.
    pub fn report(&self, status: WaitStatus) {
        self.send(Report::Status(status));
    }

    fn send(&self, report: Report) {
        let (shared, key) = match &mut *self.0.lock() {
            Bound::Not(early) => return early.push(report),
            Bound::To(shared, key) => (shared.upgrade(), *key),
            Bound::ToNobody => return,
        };
        if let Some(shared) = shared {
            shared.receive(key, report);
        }
    }

    /// Discards the reports of an unbound reporter: its process will never exist.
    fn close_unbound(&self) {
        let mut bound = self.0.lock();
        if let Bound::Not(_) = *bound {
            *bound = Bound::ToNobody;
        }
    }

    /// Binds the reporter to a process in the table, which receives the reports from now on.
    /// Returns the earlier reports.
    fn bind(&self, shared: Weak<dyn ReportTarget>, key: ProcessKey) -> Vec<Report> {
        match core::mem::replace(&mut *self.0.lock(), Bound::To(shared, key)) {
            Bound::Not(early) => early,
            Bound::To(..) | Bound::ToNobody => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of a process that was never created take no memory.
    #[test]
    fn reports_of_a_process_that_was_never_created_are_not_kept() {
        let attachment = Attachment::default();
        let reporter = attachment.reporter();
        reporter.stopped(Signal::STOP);
        assert!(matches!(&*reporter.0.lock(), Bound::Not(early) if early.len() == 1));
        drop(attachment);
        reporter.continued();
        assert!(matches!(&*reporter.0.lock(), Bound::ToNobody));
    }
}
