//! One program on the live kernel and on the model.

use std::io;
use std::time::{Duration, Instant};

use super::compare::{Mismatch, Seen};
use super::coverage::Coverage;
use super::record::{Recorder, columns};
use crate::abi::{Pid, Resource, Uid};
use crate::host::{CATCHER, CageConfig, Engine, Mode, RESTORER, SELF_PATH};
use crate::kernel::{Config, Kernel, Run};
use crate::sim::{
    Action, Explainer, Explanation, Generator, Profile, Program, Reaction, Step, Surroundings,
};

/// Programs by number: what each one is, follows from this and its number alone.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct TrialConfig {
    /// The seed of all programs.
    pub seed: u64,
    /// How many steps each has at most.
    pub steps: u32,
}

/// How a program went.
#[derive(Debug)]
pub struct Trial {
    /// Its steps: those that took place.
    pub program: Program,
    /// What it did on the live kernel.
    pub kernel: Recorder,
    /// How many calls it made.
    pub calls: u64,
    /// Another order than the canonical one was needed to explain it.
    pub freedom: bool,
    /// Where kernel and model differ.
    pub failure: Option<Failure>,
}

/// A difference, after the last step of a program.
#[derive(Debug)]
pub struct Failure {
    /// In words.
    pub mismatch: Mismatch,
    /// What the model did, up to and with the last step.
    pub model: Recorder,
    /// How many lines of each side come before the last step.
    pub before: (usize, usize),
    /// What the model did in the last step, and by which rules.
    pub reaction: Option<Reaction>,
}

/// Where the steps come from.
enum Source<'a> {
    Random { generator: Generator, left: u32 },
    Given(std::slice::Iter<'a, Step>),
}

impl Source<'_> {
    fn next(&mut self, kernel: &Kernel) -> Option<Step> {
        match self {
            Source::Random { generator, left } => {
                *left = left.checked_sub(1)?;
                generator.next(kernel)
            }
            Source::Given(steps) => steps.next().cloned(),
        }
    }
}

/// Real time may be behind virtual time by this much before a program counts as late and is run
/// again: the steps between two timers have to be over before the next one fires.
const LATE: Duration = Duration::from_millis(2);
/// A program that is late that often is given up.
const ATTEMPTS: u32 = 5;

/// Which profile a program has: the one with timers has to sleep, so it comes more rarely.
pub fn profile(index: u64) -> Profile {
    const QUICK: usize = Profile::ALL.len() - 1;
    if index % 23 == 22 { Profile::Timers } else { Profile::ALL[(index % 23) as usize % QUICK] }
}

/// The world of program `index`.
pub fn surroundings(engine: &Engine, mode: Mode, index: u64) -> io::Result<Surroundings> {
    let limits = [Resource::CORE, Resource::NPROC, Resource::SIGPENDING]
        .into_iter()
        .map(|resource| Ok((resource, engine.limit(resource)?)))
        .collect::<io::Result<_>>()?;
    // programs that run at the same time are other users, whose processes and records are their
    // own (LIM-01, LIM-07)
    let first = 60_000 + (index % 500) as u32 * 4;
    Ok(Surroundings {
        config: Config { only_root: mode == Mode::User, limits, ..Config::default() },
        handler: CATCHER,
        restorer: RESTORER,
        program: SELF_PATH.into(),
        users: match mode {
            Mode::Root => (first..first + 3).map(Uid).collect(),
            Mode::User => Vec::new(),
        },
    })
}

/// Runs program `index`. `None` if it was late each time.
pub fn run(
    engine: &mut Engine,
    mode: Mode,
    config: &TrialConfig,
    index: u64,
    prepare: &impl Fn(Kernel) -> Kernel,
    coverage: &mut Coverage,
) -> io::Result<Option<Trial>> {
    let world = surroundings(engine, mode, index)?;
    for _ in 0..ATTEMPTS {
        let seed = config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index);
        let mut generator = Generator::new(profile(index), seed, world.clone());
        let start = Program {
            config: generator.config(),
            stay_in_handlers: generator.stay_in_handlers(),
            steps: Vec::new(),
        };
        let source = Source::Random { generator, left: config.steps };
        let mut counted = Coverage::default();
        if let Some(trial) = attempt(engine, start, source, prepare, &mut counted)? {
            coverage.add(&counted);
            return Ok(Some(trial));
        }
    }
    Ok(None)
}

/// Runs a given program; `None` if it was late.
pub fn rerun(
    engine: &mut Engine,
    program: &Program,
    prepare: &impl Fn(Kernel) -> Kernel,
) -> io::Result<Option<Trial>> {
    let start = Program { steps: Vec::new(), ..program.clone() };
    let source = Source::Given(program.steps.iter());
    attempt(engine, start, source, prepare, &mut Coverage::default())
}

fn attempt(
    engine: &mut Engine,
    program: Program,
    mut source: Source,
    prepare: &impl Fn(Kernel) -> Kernel,
    coverage: &mut Coverage,
) -> io::Result<Option<Trial>> {
    let (config, hold) = (program.config.clone(), program.stay_in_handlers);
    let fresh = Config::default();
    let changed = |value, usual| (value != usual).then_some(value);
    let mut cage = engine.cage(&CageConfig {
        pid_max: changed(config.pid_max, fresh.pid_max),
        last_pid: changed(config.last_pid, fresh.last_pid),
    })?;
    cage.hold_handlers(hold);
    let mut explainer = Explainer::new(prepare(Kernel::new(config)), hold);
    let mut trial =
        Trial { program, kernel: Recorder::default(), calls: 0, freedom: false, failure: None };
    let mut model = Recorder::default();
    let clock = Instant::now();
    let mut timed = false;
    while let Some(step) = source.next(explainer.kernel()) {
        if is_over(explainer.kernel()) {
            break;
        }
        let virtual_time = Duration::from_nanos(explainer.kernel().now().0);
        let observation = match &step.action {
            Action::Call(_) if !explainer.kernel().in_user_mode(step.pid) => continue,
            Action::Call(call) => cage.call(step.pid, call)?,
            Action::Elapse(nanos) => {
                timed = true;
                let end = virtual_time + Duration::from_nanos(*nanos);
                cage.elapse(end.saturating_sub(clock.elapsed()))?
            }
        };
        let now = virtual_time + elapsed(&step);
        if explainer.kernel().next_deadline().is_some() || timed {
            timed = true;
            if clock.elapsed() > now + LATE {
                return Ok(None);
            }
        }
        let before = (trial.kernel.len(), model.len());
        trial.kernel.kernel_step(&step, &observation);
        trial.program.steps.push(step.clone());
        trial.calls += u64::from(matches!(step.action, Action::Call(_)));
        let explained = explainer.step(step.clone(), Seen(observation));
        if let Some(reaction) = explainer.reaction() {
            model.model_step(&step, reaction, explainer.kernel());
        }
        match explained {
            Ok(explanation) => trial.freedom |= explanation == Explanation::Freedom,
            Err(mismatch) => {
                let reaction = explainer.reaction().cloned();
                trial.failure = Some(Failure { mismatch, model, before, reaction });
                return Ok(Some(trial));
            }
        }
        if let (Action::Call(call), Some(reaction)) = (&step.action, explainer.reaction()) {
            count(coverage, call, reaction, step.pid);
        }
    }
    cage.finish()?;
    Ok(Some(trial))
}

fn elapsed(step: &Step) -> Duration {
    match step.action {
        Action::Elapse(nanos) => Duration::from_nanos(nanos),
        Action::Call(_) => Duration::ZERO,
    }
}

fn count(coverage: &mut Coverage, call: &crate::syscall::Syscall, reaction: &Reaction, pid: Pid) {
    coverage.call(call);
    coverage.rules(reaction.effects.rules());
    for (who, what) in &reaction.seen {
        if let crate::sim::What::Returned(result) = what
            && *who == pid
        {
            coverage.result(call, result);
        }
    }
}

/// Whether a program has come to its end: its init is gone.
fn is_over(kernel: &Kernel) -> bool {
    kernel.view(Pid(1)).is_none_or(|view| view.run == Run::Zombie)
}

impl Trial {
    /// The difference for people: both sides, what differs, and the rules of the model.
    pub fn explain(&self) -> String {
        let Some(failure) = &self.failure else { return String::new() };
        let left = self.kernel.lines_from(0);
        let right = failure.model.lines_from(0);
        let mut text = columns(&left, &right);
        let Mismatch { what, kernel, model } = &failure.mismatch;
        text.push_str(&format!("{what}: kernel: {kernel}\n{what}: model:  {model}\n"));
        if let Some(reaction) = &failure.reaction {
            let rules: Vec<String> =
                reaction.effects.rules().iter().map(|rule| rule.to_string()).collect();
            text.push_str(&format!("the model followed {}\n", rules.join(" ")));
            for effect in reaction.effects.list() {
                text.push_str(&format!("  {effect}\n"));
            }
        }
        text
    }
}
