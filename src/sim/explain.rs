//! Searches for choices of the model that give an observation.

use alloc::vec::Vec;

use super::search::OrderSearch;
use super::{Observable, Reaction, Step, react};
use crate::abi::{Pid, WaitStatus};
use crate::kernel::{Canonical, Granularity, Kernel};

/// The observation after a step.
pub trait Expectation {
    /// The difference between a reaction and the observation.
    type Mismatch;

    /// Whether the model can still reach the observation, judged by the last event of `seen`. If
    /// not, the search abandons this order.
    ///
    /// This method has to check the known order between processes: of two orders with the same
    /// events of each process, the search continues only one.
    fn admits(&self, kernel: &Kernel, seen: &[(Pid, Observable)]) -> bool;

    /// Whether the observation has that status of the process, whatever the order between
    /// processes.
    fn admits_end(&self, seen: &[(Pid, Observable)], pid: Pid, status: WaitStatus) -> bool;

    /// Compares the reaction of the model and the state after it with the observation.
    ///
    /// # Errors
    ///
    /// The difference.
    fn check(&self, kernel: &Kernel, reaction: &Reaction) -> Result<(), Self::Mismatch>;
}

/// A step that was explained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Explanation {
    /// The canonical order gives the observation.
    Canonical,
    /// Another order of this step or of earlier steps gives the observation.
    Reordered,
    /// The process could not make the call: the step had no effect.
    Skipped,
}

/// Follows the observations step by step, and revises choices that lead to a difference.
///
/// It runs each step first in the canonical order. If that order does not give the observation, it
/// searches the orders of the step, and, if none of them gives the observation, the orders of
/// earlier steps.
#[derive(Debug)]
pub struct Explainer<E> {
    kernel: Kernel,
    stay_in_handlers: bool,
    past: Vec<HistoryEntry<E>>,
    last: Option<Reaction>,
    /// The kernel may preempt tasks inside of transitions.
    preemptible: bool,
}

#[derive(Debug)]
struct HistoryEntry<E> {
    before: Kernel,
    step: Step,
    expectation: E,
    /// The other orders, if the canonical one did not explain the observation of this step or of a
    /// later one.
    search: Option<OrderSearch>,
}

impl<E: Expectation> Explainer<E> {
    /// The number of choices for a step before it counts as a difference.
    pub const BUDGET: u32 = 600_000;

    /// An explainer that begins in the state `kernel`.
    pub fn new(kernel: Kernel, stay_in_handlers: bool) -> Explainer<E> {
        Explainer { kernel, stay_in_handlers, past: Vec::new(), last: None, preemptible: false }
    }

    /// Declares that the kernel may preempt the tasks anywhere. For a step that no order of whole
    /// transitions explains, the explainer then tries orders with cuts ([`Granularity::Fine`]).
    #[must_use]
    pub fn preemptible(self) -> Explainer<E> {
        Explainer { preemptible: true, ..self }
    }

    /// The state after the last step.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The reaction of the model in the last step; that of the canonical order if no order
    /// explained the step.
    pub fn reaction(&self) -> Option<&Reaction> {
        self.last.as_ref()
    }

    /// Runs a step and finds choices that lead to the observation.
    ///
    /// Costs a step of the model if the canonical order explains the step; up to
    /// [`Explainer::BUDGET`] choices if no order does.
    ///
    /// # Errors
    ///
    /// The difference between the observation and the canonical order, if no choices explain it.
    pub fn step(&mut self, step: Step, expectation: E) -> Result<Explanation, E::Mismatch> {
        let before = self.kernel.clone();
        let uncut = self.preemptible.then(|| before.clone());
        let reaction = react(&mut self.kernel, &step, self.stay_in_handlers, &mut Canonical);
        let Ok(reaction) = reaction else { return Ok(Explanation::Skipped) };
        let checked = expectation.check(&self.kernel, &reaction);
        self.last = Some(reaction);
        self.past.push(HistoryEntry { before, step, expectation, search: None });
        match checked {
            Ok(()) => Ok(Explanation::Canonical),
            Err(_) if self.search() || uncut.is_some_and(|before| self.search_cut(before)) => {
                Ok(Explanation::Reordered)
            }
            Err(mismatch) => Err(mismatch),
        }
    }

    /// Tries the other orders of the last step, and then those of earlier steps.
    fn search(&mut self) -> bool {
        let last = self.past.len() - 1;
        let (mut at, mut budget) = (last, Self::BUDGET);
        loop {
            match self.next_order(at, &mut budget) {
                Some((kernel, reaction)) if at == last => {
                    (self.kernel, self.last) = (kernel, Some(reaction));
                    return true;
                }
                // the order after which the later steps were tried
                Some((kernel, _)) if kernel == self.past[at + 1].before => {}
                Some((kernel, _)) => {
                    at += 1;
                    self.past[at].before = kernel;
                    self.past[at].search = None;
                }
                None if at == 0 || budget == 0 => return false,
                None => at -= 1,
            }
        }
    }

    /// Tries the orders of the last step with cut transitions, from the state after the first
    /// explanation of the earlier steps.
    fn search_cut(&mut self, before: Kernel) -> bool {
        let Some(HistoryEntry { step, expectation, .. }) = self.past.last() else { return false };
        let fine = before.clone().with_granularity(Granularity::Fine);
        let mut budget = Self::BUDGET;
        let found = OrderSearch::new(&fine, step, self.stay_in_handlers)
            .ok()
            .and_then(|mut search| search.next(expectation, &mut budget));
        let Some((kernel, reaction)) = found else { return false };
        let granularity = before.config().granularity;
        (self.kernel, self.last) = (kernel.with_granularity(granularity), Some(reaction));
        // the steps before were explained: their budget does not matter
        if let Some(past) = self.past.last_mut() {
            (past.before, past.search) = (before, None);
        }
        true
    }

    /// The next order of that step that gives its observation, with the state after it.
    fn next_order(&mut self, at: usize, budget: &mut u32) -> Option<(Kernel, Reaction)> {
        let HistoryEntry { before, step, expectation, search } = &mut self.past[at];
        if search.is_none() {
            *search = OrderSearch::new(before, step, self.stay_in_handlers).ok();
        }
        search.as_mut()?.next(expectation, budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Handler, SaFlags, SigAction, SigSet, Signal};
    use crate::kernel::Config;
    use crate::sim::Action;
    use crate::syscall::{Ptr, SIGSET_SIZE, Syscall};

    /// The children of whose exits process 1 was notified, in order.
    struct Notified(Vec<u32>);

    impl Notified {
        fn children(seen: &[(Pid, Observable)]) -> Vec<u32> {
            let notified = seen.iter().filter_map(|(_, what)| match what {
                Observable::Handler(info) => Some(info.pid.0),
                _ => None,
            });
            notified.collect()
        }
    }

    impl Expectation for Notified {
        type Mismatch = Vec<u32>;

        fn admits(&self, _: &Kernel, seen: &[(Pid, Observable)]) -> bool {
            self.0.starts_with(&Notified::children(seen))
        }

        fn admits_end(&self, _: &[(Pid, Observable)], _: Pid, _: WaitStatus) -> bool {
            true
        }

        fn check(&self, _: &Kernel, reaction: &Reaction) -> Result<(), Vec<u32>> {
            let notified = Notified::children(&reaction.seen);
            if notified == self.0 { Ok(()) } else { Err(notified) }
        }
    }

    type Explained = Result<Explanation, Vec<u32>>;

    impl Explainer<Notified> {
        /// `tid` makes a call; process 1 is notified of the exits of `notified`.
        fn call(&mut self, tid: u32, call: Syscall, notified: &[u32]) -> Explained {
            self.step(Step { tid: Pid(tid), action: Action::Call(call) }, Notified(notified.into()))
        }
    }

    fn on_child(handler: Handler) -> Syscall {
        let (flags, mask, restorer) = (SaFlags::RESTORER, SigSet::EMPTY, 0x40_1000);
        let act = Some(SigAction { handler, flags, mask, restorer });
        let sig = i32::from(Signal::CHLD.number());
        Syscall::RtSigaction { sig, act, old: Ptr::Null, size: SIGSET_SIZE }
    }

    /// Process 1, which catches SIGCHLD.
    fn catcher() -> Explainer<Notified> {
        let mut explainer = Explainer::new(Kernel::new(Config::default()), false);
        let catch = on_child(Handler::Catch(0x40_1136));
        assert_eq!(explainer.call(1, catch, &[]), Ok(Explanation::Canonical));
        explainer
    }

    /// Process 1 has eight children, kills all of them, and is notified of the exits of `notified`.
    fn all_at_once(notified: &[u32]) -> Explained {
        let mut explainer = catcher();
        for _ in 2..=9 {
            assert_eq!(explainer.call(1, Syscall::Fork, &[]), Ok(Explanation::Canonical));
        }
        let sig = i32::from(Signal::KILL.number());
        explainer.call(1, Syscall::Kill { pid: -1, sig }, notified)
    }

    #[test]
    fn any_order_of_many_simultaneous_exits_is_found() {
        // the SIGCHLD of the first stands for all (CHLD-06), unless its handler runs before the
        // others end
        assert_eq!(all_at_once(&[2]), Ok(Explanation::Canonical));
        assert_eq!(all_at_once(&[9]), Ok(Explanation::Reordered));
        assert_eq!(all_at_once(&[9, 4, 8, 2]), Ok(Explanation::Reordered));
    }

    #[test]
    fn a_preemptible_kernel_runs_other_tasks_during_an_exit() {
        for preemptible in [false, true] {
            let mut explainer = Explainer { preemptible, ..catcher() };
            for (tid, call) in [
                (1, Syscall::Fork),
                (2, on_child(Handler::Default)),
                (2, Syscall::Fork),
                (3, Syscall::ExitGroup(0)),
            ] {
                assert_eq!(explainer.call(tid, call, &[]), Ok(Explanation::Canonical));
            }
            // RACE-03
            let explained = explainer.call(2, Syscall::ExitGroup(0), &[3, 2]);
            assert_eq!(explained.is_ok(), preemptible, "{explained:?}");
        }
    }

    #[test]
    fn a_step_that_no_order_explains_is_a_difference() {
        // no process ends twice
        assert_eq!(all_at_once(&[3, 3]), Err([2].into()));
    }
}
