//! Does some sequence of choices of the model give what was seen?

use alloc::vec::Vec;

use super::search::OrderSearch;
use super::{Observable, Reaction, Step, react};
use crate::abi::{Pid, WaitStatus};
use crate::kernel::{Canonical, Granularity, Kernel};

/// What was seen after a step.
pub trait Expectation {
    /// How a reaction differs.
    type Mismatch;

    /// Whether what the model does can still come to what was seen, judged by the last of `seen`.
    /// Where it cannot, what would follow is not looked at.
    ///
    /// What is known of the order between processes has to be judged here: of two orders in which
    /// each process went through the same, only one is gone on with.
    fn admits(&self, kernel: &Kernel, seen: &[(Pid, Observable)]) -> bool;

    /// Whether the process can come to that end, when it has to: the order between processes aside.
    fn admits_end(&self, seen: &[(Pid, Observable)], pid: Pid, status: WaitStatus) -> bool;

    /// Compares the reaction of the model, and the state that it led to, with what was seen.
    ///
    /// # Errors
    ///
    /// The difference.
    fn check(&self, kernel: &Kernel, reaction: &Reaction) -> Result<(), Self::Mismatch>;
}

/// A step that was explained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Explanation {
    /// The canonical order gives what was seen.
    Canonical,
    /// Another order does, of this step or of earlier ones.
    Reordered,
    /// The process could not act: the step did not take place.
    Skipped,
}

/// Follows what was seen step by step, and takes choices back where they turn out wrong.
///
/// Each step is taken in the canonical order first. Where that does not give what was seen, the
/// orders of the step are searched, and those of earlier steps where it has none that does.
#[derive(Debug)]
pub struct Explainer<E> {
    kernel: Kernel,
    stay_in_handlers: bool,
    past: Vec<HistoryEntry<E>>,
    last: Option<Reaction>,
    /// Tasks may be preempted inside of transitions.
    preemptible: bool,
}

#[derive(Debug)]
struct HistoryEntry<E> {
    before: Kernel,
    step: Step,
    expectation: E,
    /// The other orders, once the canonical one did not explain what was seen then or later.
    search: Option<OrderSearch>,
}

impl<E: Expectation> Explainer<E> {
    /// How many choices are made for a step before it counts as a difference.
    pub const BUDGET: u32 = 600_000;

    /// Begins in the state `kernel`.
    pub fn new(kernel: Kernel, stay_in_handlers: bool) -> Explainer<E> {
        Explainer { kernel, stay_in_handlers, past: Vec::new(), last: None, preemptible: false }
    }

    /// What was seen is of tasks that others may preempt anywhere. A step that no order of whole
    /// transitions explains may then be explained by one in which they are cut
    /// ([`Granularity::Fine`]).
    #[must_use]
    pub fn preemptible(self) -> Explainer<E> {
        Explainer { preemptible: true, ..self }
    }

    /// The state after the last step.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What the model did in the last step; in the canonical order if nothing explained it.
    pub fn reaction(&self) -> Option<&Reaction> {
        self.last.as_ref()
    }

    /// Takes a step and finds choices that lead to what was seen.
    ///
    /// Costs a step of the model where the canonical order explains it; up to
    /// [`Explainer::BUDGET`] choices where none does.
    ///
    /// # Errors
    ///
    /// The difference between what was seen and the canonical order, if no choices explain it.
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

    /// Tries the other orders of the last step, and of earlier ones where those are used up.
    fn search(&mut self) -> bool {
        let last = self.past.len() - 1;
        let (mut at, mut budget) = (last, Self::BUDGET);
        loop {
            match self.next_order(at, &mut budget) {
                Some((kernel, reaction)) if at == last => {
                    (self.kernel, self.last) = (kernel, Some(reaction));
                    return true;
                }
                // the order that the later steps have been tried after
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

    /// Tries the orders of the last step in which transitions are cut, from the state to which the
    /// first explanation of the steps before has led.
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
        // whatever was tried for the steps before: they were explained
        if let Some(past) = self.past.last_mut() {
            (past.before, past.search) = (before, None);
        }
        true
    }

    /// The next order of that step that gives what was seen then, and what it leads to.
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

    /// The children of whose ends process 1 was notified, in order.
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
        /// `tid` makes a call, of which process 1 is notified about the ends of `notified`.
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

    /// Process 1 has eleven children, kills them all, and is notified of `notified`.
    fn all_at_once(notified: &[u32]) -> Explained {
        let mut explainer = catcher();
        for _ in 2..=12 {
            assert_eq!(explainer.call(1, Syscall::Fork, &[]), Ok(Explanation::Canonical));
        }
        let sig = i32::from(Signal::KILL.number());
        explainer.call(1, Syscall::Kill { pid: -1, sig }, notified)
    }

    #[test]
    fn any_order_of_many_simultaneous_exits_is_found() {
        // the first of them stands for all others (CHLD-06), unless it is handled before they end
        assert_eq!(all_at_once(&[2]), Ok(Explanation::Canonical));
        assert_eq!(all_at_once(&[12]), Ok(Explanation::Reordered));
        assert_eq!(all_at_once(&[9, 4, 11, 2]), Ok(Explanation::Reordered));
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
        // nobody dies twice
        assert_eq!(all_at_once(&[3, 3]), Err([2].into()));
    }
}
