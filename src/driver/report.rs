//! What a driver tells its table.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::abi::{Signal, WaitStatus};
use crate::sync::Mutex;
use crate::table::{ProcessKey, TableInner};

/// The way from a driver to its table: that its process ended, stopped or continued.
///
/// It belongs to one process for good. A report about a process that has ended, or whose table is
/// gone, has no effect, also when the number is another process's by then. Reports that come
/// before the process is in the table are kept and take effect when it is.
#[derive(Clone, Debug)]
pub struct Reporter(Arc<Mutex<Bound>>);

#[derive(Debug)]
enum Bound {
    /// To nothing yet: what was reported.
    Not(Vec<WaitStatus>),
    To(Weak<TableInner>, ProcessKey),
    /// Its process was never created.
    ToNobody,
}

impl Reporter {
    /// One that belongs to no process yet: see
    /// [`Spawn::reporter`](crate::table::Spawn::reporter).
    pub(crate) fn new() -> Reporter {
        Reporter(Arc::new(Mutex::new(Bound::Not(Vec::new()))))
    }

    /// The process exited with `code`, of which the low 8 bits count (EXIT-01).
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

    /// Any of these, as a wait status. One that says none of them has no effect.
    pub fn report(&self, status: WaitStatus) {
        let (shared, token) = match &mut *self.0.lock() {
            Bound::Not(early) => return early.push(status),
            Bound::To(shared, token) => (shared.upgrade(), *token),
            Bound::ToNobody => return,
        };
        if let Some(shared) = shared {
            shared.report(token, status);
        }
    }

    /// There will be no process, unless there is one: reports are not kept for it.
    pub(crate) fn close_unbound(&self) {
        let mut bound = self.0.lock();
        if let Bound::Not(_) = *bound {
            *bound = Bound::ToNobody;
        }
    }

    /// The process is in the table: reports go there from now on. Returns those that came
    /// before.
    pub(crate) fn bind(&self, shared: Weak<TableInner>, token: ProcessKey) -> Vec<WaitStatus> {
        match core::mem::replace(&mut *self.0.lock(), Bound::To(shared, token)) {
            Bound::Not(early) => early,
            Bound::To(..) | Bound::ToNobody => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Image, Spawn};

    /// Nobody would ever read them.
    #[test]
    fn reports_of_a_process_that_was_never_created_are_not_kept() {
        let spawn = Spawn::new(Image::new("x"));
        let reporter = spawn.reporter();
        reporter.stopped(Signal::STOP);
        assert!(matches!(&*reporter.0.lock(), Bound::Not(early) if early.len() == 1));
        drop(spawn);
        reporter.continued();
        assert!(matches!(&*reporter.0.lock(), Bound::ToNobody));
    }
}
