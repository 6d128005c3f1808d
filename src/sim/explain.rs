//! Does some sequence of choices of the model give what was seen?

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::react::react_while;
use super::{Reaction, Step, What};
use crate::abi::Pid;
use crate::kernel::{Kernel, Refused, Scripted};

/// What was seen after a step.
pub trait Expectation {
    /// How a reaction differs.
    type Mismatch;

    /// Whether what the model does can still come to what was seen, judged by the last of `seen`.
    /// Where it cannot, what would follow is not looked at.
    fn admits(&self, seen: &[(Pid, What)]) -> bool;

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
    Freedom,
    /// The process could not act: the step did not take place.
    Skipped,
}

/// Follows what was seen step by step, and takes choices back where they turn out wrong.
///
/// Where only one task is runnable at a time there is nothing to choose, and only equality counts.
/// Orders that come to more of what was seen are followed first.
#[derive(Debug)]
pub struct Explainer<E> {
    kernel: Kernel,
    stay_in_handlers: bool,
    past: Vec<Past<E>>,
    last: Option<Reaction>,
}

#[derive(Debug)]
struct Past<E> {
    before: Kernel,
    step: Step,
    expectation: E,
    /// The choices of the last attempt, each with its number of alternatives.
    taken: Vec<(usize, usize)>,
    /// Alternatives to the choices before this one stand in `open` already, or were tried.
    widened: usize,
    /// How many things came as they were seen in the last attempt.
    progress: usize,
    /// Scripts to try: first those that deviate from an attempt that came far, then the older.
    open: BTreeMap<(Reverse<usize>, usize), Vec<usize>>,
    /// How many scripts were opened.
    opened: usize,
}

impl<E> Past<E> {
    /// Makes the alternatives of the last attempt open: what deviates in one more place.
    fn widen(&mut self) {
        for at in self.widened.min(self.taken.len())..self.taken.len() {
            for choice in 1..self.taken[at].1 {
                let before = self.taken[..at].iter().map(|(choice, _)| *choice);
                let place = (Reverse(self.progress), self.opened);
                self.opened += 1;
                self.open.insert(place, before.chain([choice]).collect());
            }
        }
        self.widened = self.taken.len();
    }
}

impl<E: Expectation> Explainer<E> {
    /// How many orders are tried for a step before it counts as a difference.
    pub const BUDGET: u32 = 30_000;
    /// Half of them one deviation after the other, half by chance, in turn.
    const ROUNDS: u32 = 15;

    /// Begins in the state `kernel`.
    pub fn new(kernel: Kernel, stay_in_handlers: bool) -> Explainer<E> {
        Explainer { kernel, stay_in_handlers, past: Vec::new(), last: None }
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
    /// [`Explainer::BUDGET`] where none does.
    ///
    /// # Errors
    ///
    /// The difference between what was seen and the canonical order, if no choices explain it.
    pub fn step(&mut self, step: Step, expectation: E) -> Result<Explanation, E::Mismatch> {
        self.past.push(Past {
            before: self.kernel.clone(),
            step,
            expectation,
            taken: Vec::new(),
            widened: 0,
            progress: 0,
            open: BTreeMap::new(),
            opened: 0,
        });
        let end = self.past.len();
        let mismatch = match self.attempt(end - 1, Scripted::default(), true) {
            Ok(()) => return Ok(Explanation::Canonical),
            Err(Refusal::Skipped) => {
                self.past.pop();
                return Ok(Explanation::Skipped);
            }
            Err(Refusal::Mismatch(mismatch)) => mismatch,
        };
        let canonical = self.last.take();
        let tries = Self::BUDGET / Self::ROUNDS / 2;
        if (0..Self::ROUNDS).any(|nth| self.search(end, tries) || self.shuffle(end, nth, tries)) {
            return Ok(Explanation::Freedom);
        }
        self.last = canonical;
        Err(mismatch)
    }

    /// Tries other choices for the last step, and for earlier ones where those are used up.
    fn search(&mut self, end: usize, budget: u32) -> bool {
        let mut at = end - 1;
        for _ in 0..budget {
            let Some(script) = self.take_open(&mut at) else { return false };
            let mut choices = Scripted::new(script);
            // onwards from there, each step in its canonical order first
            while self.attempt(at, core::mem::take(&mut choices), false).is_ok() {
                at += 1;
                if at == end {
                    return true;
                }
                self.past[at].before.clone_from(&self.kernel);
                self.past[at].open.clear();
            }
        }
        false
    }

    /// Tries orders by chance for the last step. Where many tasks run at once a few of them have to
    /// come first, which chance finds sooner than one deviation after the other. What came
    /// furthest is where deviations go on from.
    fn shuffle(&mut self, end: usize, round: u32, tries: u32) -> bool {
        if self.past[end - 1].taken.is_empty() {
            return false;
        }
        let mut furthest = (0, Vec::new());
        for nth in 0..tries {
            let seed = u64::from(round) << 32 | u64::from(nth);
            if self.attempt(end - 1, Scripted::shuffled(seed), false).is_ok() {
                return true;
            }
            let past = &self.past[end - 1];
            if past.progress > furthest.0 {
                furthest = (past.progress, past.taken.clone());
            }
        }
        let past = &mut self.past[end - 1];
        (past.progress, past.taken) = furthest;
        past.widened = 0;
        past.widen();
        false
    }

    /// The next script of step `at`, or of the latest step before it that has one.
    fn take_open(&mut self, at: &mut usize) -> Option<Vec<usize>> {
        loop {
            self.past[*at].widen();
            if let Some((_, script)) = self.past[*at].open.pop_first() {
                return Some(script);
            }
            *at = at.checked_sub(1)?;
        }
    }

    /// Runs step `at` with those choices. The canonical order is run to its end, for
    /// people to see; others only as long as they may come to what was seen.
    fn attempt(
        &mut self,
        at: usize,
        mut choices: Scripted,
        whole: bool,
    ) -> Result<(), Refusal<E::Mismatch>> {
        let past = &mut self.past[at];
        self.kernel.clone_from(&past.before);
        past.widened = choices.given();
        let expectation = &past.expectation;
        let mut progress = 0;
        let mut admits = |seen: &[(Pid, What)]| {
            let admitted = expectation.admits(seen);
            // what was seen in this order; of deaths only the fact is
            let ordered = matches!(seen.last(), Some((_, What::Handler(_) | What::Resumed(_))));
            progress += usize::from(admitted && ordered);
            whole || admitted
        };
        let reaction = react_while(
            &mut self.kernel,
            &past.step,
            self.stay_in_handlers,
            &mut choices,
            &mut admits,
        )
        .map_err(|_: Refused| Refusal::Skipped)?;
        past.taken = choices.taken().to_vec();
        past.progress = progress;
        let checked = past.expectation.check(&self.kernel, &reaction);
        self.last = Some(reaction);
        checked.map_err(Refusal::Mismatch)
    }
}

enum Refusal<M> {
    Skipped,
    Mismatch(M),
}
