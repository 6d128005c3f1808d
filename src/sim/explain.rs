//! Does some sequence of choices of the model give what was seen?

use alloc::vec::Vec;

use super::{Reaction, Step, react};
use crate::kernel::{Kernel, Refused, Scripted};

/// What was seen after a step.
pub trait Expectation {
    /// How a reaction differs.
    type Mismatch;

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
#[derive(Debug)]
pub struct Explainer<E> {
    kernel: Kernel,
    stay_in_handlers: bool,
    past: Vec<Past<E>>,
    budget: u32,
    last: Option<Reaction>,
}

#[derive(Debug)]
struct Past<E> {
    before: Kernel,
    step: Step,
    expectation: E,
    choices: Scripted,
}

impl<E: Expectation> Explainer<E> {
    /// How many orders are tried for a step before it counts as a difference.
    pub const BUDGET: u32 = 4_000;

    /// Begins in the state `kernel`.
    pub fn new(kernel: Kernel, stay_in_handlers: bool) -> Explainer<E> {
        Explainer { kernel, stay_in_handlers, past: Vec::new(), budget: Self::BUDGET, last: None }
    }

    /// The state after the last step.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What the model did in the last step that was explained.
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
        let before = self.kernel.clone();
        let choices = Scripted::default();
        self.past.push(Past { before, step, expectation, choices });
        let mut at = self.past.len() - 1;
        self.budget = Self::BUDGET;
        let mut first_mismatch = None;
        loop {
            match self.attempt(at) {
                Err(Refusal::Skipped) => {
                    self.past.remove(at);
                    return Ok(Explanation::Skipped);
                }
                Err(Refusal::Mismatch(mismatch)) => {
                    // what is shown of a difference is the canonical order
                    let first = first_mismatch.take().unwrap_or((mismatch, self.last.take()));
                    let Some(earlier) = self.take_back(at) else {
                        self.last = first.1;
                        return Err(first.0);
                    };
                    first_mismatch = Some(first);
                    at = earlier;
                }
                Ok(()) if at + 1 == self.past.len() => {
                    let canonical = first_mismatch.is_none();
                    return Ok(if canonical {
                        Explanation::Canonical
                    } else {
                        Explanation::Freedom
                    });
                }
                Ok(()) => {
                    at += 1;
                    self.past[at].before = self.kernel.clone();
                    self.past[at].choices = Scripted::default();
                }
            }
        }
    }

    /// Runs step `at` with its choices.
    fn attempt(&mut self, at: usize) -> Result<(), Refusal<E::Mismatch>> {
        let past = &mut self.past[at];
        self.kernel.clone_from(&past.before);
        let reaction =
            react(&mut self.kernel, &past.step, self.stay_in_handlers, &mut past.choices)
                .map_err(|_: Refused| Refusal::Skipped)?;
        let checked = past.expectation.check(&self.kernel, &reaction);
        self.last = Some(reaction);
        checked.map_err(Refusal::Mismatch)
    }

    /// The latest step up to `at` that can choose otherwise is told to; `None` if none can.
    fn take_back(&mut self, mut at: usize) -> Option<usize> {
        self.budget = self.budget.checked_sub(1)?;
        loop {
            if let Some(script) = self.past[at].choices.following() {
                self.past[at].choices = Scripted::new(script);
                return Some(at);
            }
            at = at.checked_sub(1)?;
        }
    }
}

enum Refusal<M> {
    Skipped,
    Mismatch(M),
}
