//! The orders of one step, each state once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::react::StepRun;
use super::{Action, Expectation, Reaction, Step};
use crate::abi::Pid;
use crate::kernel::{
    Consequence, Effect, Effects, Event, Granularity, Kernel, Refused, RunState as State,
};

/// Enumerates the orders of a step depth first, beginning with the canonical order.
#[derive(Debug)]
pub(super) struct OrderSearch {
    /// The choice points of the order that was tried last.
    choice_points: Vec<ChoicePoint>,
    /// The hashes of the states that were reached: see [`fingerprint`].
    known: BTreeSet<u64>,
    /// Calls are in flight, or transitions are cut: the effects between tasks then do not follow
    /// from the events of each task.
    in_flight: bool,
}

/// A state with several runnable tasks.
#[derive(Debug)]
struct ChoicePoint {
    kernel: Kernel,
    run: StepRun,
    /// The next task to try.
    next: usize,
    alternatives: usize,
}

impl OrderSearch {
    /// A search for the step that begins in `before`, before the first attempt.
    pub(super) fn new(
        before: &Kernel,
        step: &Step,
        stay_in_handlers: bool,
    ) -> Result<OrderSearch, Refused> {
        let mut kernel = before.clone();
        let run = StepRun::begin(&mut kernel, step, stay_in_handlers)?;
        // a choice point with one alternative
        let start = ChoicePoint { kernel, run, next: 0, alternatives: 1 };
        let in_flight = matches!(step.action, Action::Concurrent(_))
            || before.config().granularity == Granularity::Fine;
        Ok(OrderSearch { choice_points: [start].into(), known: BTreeSet::new(), in_flight })
    }

    /// The result of the next order that gives the observation. `None` if there is none, or the
    /// search has not found one within `budget` choices.
    pub(super) fn next<E: Expectation>(
        &mut self,
        expectation: &E,
        budget: &mut u32,
    ) -> Option<(Kernel, Reaction)> {
        let mut admits = |kernel: &Kernel, seen: &[_]| expectation.admits(kernel, seen);
        while let Some(choice_point) = self.choice_points.last_mut() {
            if choice_point.next == choice_point.alternatives {
                self.choice_points.pop();
                continue;
            }
            *budget = budget.checked_sub(1)?;
            let (mut kernel, mut run) = (choice_point.kernel.clone(), choice_point.run.clone());
            if choice_point.alternatives > 1 {
                run.step(&mut kernel, choice_point.next);
            }
            choice_point.next += 1;
            let alternatives = run.go_on(&mut kernel, &mut admits);
            let refuted = run.is_refuted() || {
                let news = run.news_since(&choice_point.run);
                news.into_iter().any(|pid| ends_otherwise(&kernel, &run, pid, expectation))
            };
            let tell_apart = if self.in_flight { whole_state } else { fingerprint };
            if refuted || !self.known.insert(tell_apart(&kernel, &run)) {
                continue;
            }
            if let Some(alternatives) = alternatives {
                self.choice_points.push(ChoicePoint { kernel, run, next: 0, alternatives });
                continue;
            }
            let reaction = run.into_reaction();
            if expectation.check(&kernel, &reaction).is_ok() {
                return Some((kernel, reaction));
            }
        }
        None
    }
}

/// Whether the next step of the process is its end with another status than the observed one: the
/// status is fixed before the end (EXIT-08), so the search can abandon the order at once.
fn ends_otherwise<E: Expectation>(
    kernel: &Kernel,
    run: &StepRun,
    pid: Pid,
    expectation: &E,
) -> bool {
    let (mut kernel, mut fx) = (kernel.clone(), Effects::new());
    // a task that is not runnable makes no step
    let stepped = kernel.apply(&Event::Step { tid: pid }, &mut fx);
    stepped.is_ok()
        && fx.list().iter().any(|effect| match effect.what {
            Consequence::Ended(status) if effect.pid == pid => {
                let status = kernel.shown_exit_status(pid).unwrap_or(status);
                !expectation.admits_end(run.seen(), pid, status)
            }
            _ => false,
        })
}

/// A hash of the whole state, and of the visible events of each process before it.
fn whole_state(kernel: &Kernel, run: &StepRun) -> u64 {
    let mut shown = BTreeMap::<Pid, Fnv>::new();
    for (pid, what) in run.seen() {
        what.hash(shown.entry(*pid).or_default());
    }
    let mut whole = Fnv::default();
    kernel.hash(&mut whole);
    for (pid, history) in &shown {
        (pid, history.finish()).hash(&mut whole);
    }
    whole.finish()
}

/// A hash that distinguishes the states after different orders of one step.
///
/// A state follows from the events of each process: its signals, its steps, its visible events, and
/// the orphans that it adopted (RPT-18: waits find the first one first). Of a process that has
/// ended only the visible events count.
fn fingerprint(kernel: &Kernel, run: &StepRun) -> u64 {
    let mut histories = Histories { kernel, of: BTreeMap::new() };
    let mut at = 0;
    for (pid, before) in run.steps() {
        histories.note_all(&run.effects()[at..*before]);
        histories.note_step(*pid);
        at = *before;
    }
    histories.note_all(&run.effects()[at..]);
    for pid in kernel.runnable() {
        0u8.hash(histories.of(pid));
    }
    for pid in kernel.pids() {
        (kernel.view(pid), kernel.exit_status(pid)).hash(histories.of(pid));
    }
    let mut whole = Fnv::default();
    kernel.now().hash(&mut whole);
    for (pid, history) in &histories.of {
        (pid, history.finish()).hash(&mut whole);
    }
    whole.finish()
}

/// The hashes of the events of each process.
struct Histories<'k> {
    kernel: &'k Kernel,
    of: BTreeMap<Pid, Fnv>,
}

impl Histories<'_> {
    fn of(&mut self, pid: Pid) -> &mut Fnv {
        self.of.entry(pid).or_default()
    }

    fn lives(&self, pid: Pid) -> bool {
        self.kernel.view(pid).is_some_and(|view| view.run != State::Zombie)
    }

    fn note_step(&mut self, pid: Pid) {
        if self.lives(pid) {
            u8::MAX.hash(self.of(pid));
        }
    }

    fn note_all(&mut self, effects: &[Effect]) {
        for Effect { pid, what, .. } in effects {
            match what {
                Consequence::Resumed(result) => (1u8, result).hash(self.of(*pid)),
                Consequence::Handling(info, _) => (2u8, info).hash(self.of(*pid)),
                Consequence::Reparented(to) if self.kernel.view(*pid).is_some() => {
                    pid.hash(self.of(*to));
                }
                _ if self.lives(*pid) => self.note(*pid, what),
                _ => {}
            }
        }
    }

    /// State that only the process itself can read.
    fn note(&mut self, pid: Pid, what: &Consequence) {
        let history = self.of(pid);
        match what {
            Consequence::Generated(info) => (3u8, info).hash(history),
            Consequence::Caught(info) => (4u8, info).hash(history),
            Consequence::Returned(result) => (5u8, result).hash(history),
            Consequence::Interrupted(restart) => (6u8, restart).hash(history),
            Consequence::Stopped(signal) => (7u8, signal).hash(history),
            Consequence::Continued => 8u8.hash(history),
            // the views contain these
            _ => {}
        }
    }
}

/// The hash of Fowler, Noll and Vo, which is the same in every run.
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
