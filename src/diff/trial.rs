//! Runs one program on the live kernel and on the model.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::compare::{Mismatch, ObservedStep};
use super::coverage::Coverage;
use super::record::{Recorder, columns};
use crate::abi::{Pid, Resource, Uid};
use crate::host::{CATCHER, Engine, Mode, RESTORER, SELF_PATH, TestNamespace, TestNamespaceConfig};
use crate::kernel::{Config, Granularity, Kernel, Seeded, Version};
use crate::sim::{
    Action, Explainer, Explanation, Generator, GeneratorEnv, Observable, Profile, Program,
    Reaction, Step,
};
use crate::syscall::Syscall;

/// The configuration of all programs: it and a number determine a program completely.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct TrialConfig {
    /// The seed of all programs.
    pub seed: u64,
    /// The maximum number of steps of each program.
    pub steps: u32,
    /// Whether to search for the smallest program with the same difference.
    pub shrink: bool,
    /// Runs programs that make calls at the same time on all CPUs; the number of runs of each.
    pub concurrent: Option<u32>,
    /// The profile of all programs; all profiles by default.
    pub profile: Option<Profile>,
}

impl TrialConfig {
    /// The profile of a program: programs with timers have to sleep and are rarer, programs with
    /// threads are more frequent.
    pub fn profile(&self, index: u64) -> Profile {
        if let Some(profile) = self.profile {
            return profile;
        }
        const QUICK: usize = Profile::ALL.len() - 1;
        match (index % 24) as usize {
            _ if self.concurrent.is_some() => Profile::Concurrent,
            23 => Profile::Timers,
            17..=22 => Profile::Threads,
            nth => Profile::ALL[nth % QUICK],
        }
    }

    /// The random choices of a program: the choices of adjacent programs and of adjacent seeds are
    /// unrelated.
    fn choices(&self, index: u64) -> Seeded {
        Seeded::new(Seeded::new(Seeded::new(self.seed).next_u64() ^ index).next_u64())
    }
}

/// The result of a program.
#[derive(Debug)]
pub struct Trial {
    /// The steps that were performed.
    pub program: Program,
    /// The record of the live kernel.
    pub kernel: Recorder,
    /// The number of calls.
    pub calls: u64,
    /// Only another order than the canonical one explains the program.
    pub reordered: bool,
    /// The program agreed only when the kernel had time to carry bytes between the ends of a
    /// terminal (LD-19).
    pub carried: bool,
    /// The difference, if there is one.
    pub failure: Option<Failure>,
}

/// A difference after the last step of a program.
#[derive(Debug)]
pub struct Failure {
    /// The difference in words.
    pub mismatch: Mismatch,
    /// The record of the model, the last step included.
    pub model: Recorder,

    /// The reaction of the model in the last step, with its rules.
    pub reaction: Option<Reaction>,
}

/// The source of the steps.
enum Source<'a> {
    Random { generator: Box<Generator>, choices: Seeded, left: u32 },
    Given(std::slice::Iter<'a, Step>),
}

impl Source<'_> {
    fn next(&mut self, kernel: &Kernel) -> Option<Step> {
        match self {
            Source::Random { generator, choices, left } => {
                *left = left.checked_sub(1)?;
                generator.next(kernel, choices)
            }
            Source::Given(steps) => steps.next().cloned(),
        }
    }
}

/// Its number in capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;
/// The delay of real time against virtual time at which a program counts as late and is run again:
/// the steps between two timers have to be over before the next timer fires.
const LATE: Duration = Duration::from_millis(4);
/// The pause after each call on a terminal in a program that is run again: the kernel carries bytes
/// between the ends in that time.
const CARRYING: Duration = Duration::from_millis(3);
/// The number of runs after which a late program is abandoned.
const ATTEMPTS: u32 = 5;

/// The first user of this worker's programs. Programs that run at the same time have different
/// users, with separate counts of processes and records (LIM-01, LIM-07).
pub fn first_user(engine: &Engine) -> io::Result<u32> {
    Ok(1_000_000 + engine.worker_number()? * 4)
}

/// The generator environment of all programs of this worker.
pub fn environment(engine: &Engine, mode: Mode, version: Version) -> io::Result<GeneratorEnv> {
    let abilities = engine.features();
    let limits = (0..Resource::COUNT)
        .map(Resource)
        .map(|resource| Ok((resource, engine.limit(resource)?)))
        .collect::<io::Result<_>>()?;
    let first = first_user(engine)?;
    Ok(GeneratorEnv {
        config: Config {
            version,
            granularity: if engine.is_concurrent() {
                Granularity::Fine
            } else {
                Granularity::Coarse
            },
            pid_max: engine.pid_max(),
            user_namespace: mode == Mode::User,
            sys_resource: engine.has_capability(CAP_SYS_RESOURCE)?,
            limits,
            ..Config::default()
        },
        handler: CATCHER,
        restorer: RESTORER,
        program: abilities.execve.is_ok().then(|| SELF_PATH.into()),
        own_pid_max: abilities.pid_max.is_ok(),
        last_pid: abilities.last_pid.is_ok(),
        below_init: true,
        users: match mode {
            Mode::Root => (first..first + 3).map(Uid).collect(),
            Mode::User => Vec::new(),
        },
        threads: true,
        terminals: abilities.terminals.is_ok(),
        ordered: engine.is_realtime(),
    })
}

/// Runs program `index`. `None` if it was late each time.
pub fn run(
    engine: &mut Engine,
    env: &GeneratorEnv,
    config: &TrialConfig,
    index: u64,
    prepare: &impl Fn(Kernel) -> Kernel,
    coverage: &mut Coverage,
) -> io::Result<Option<Trial>> {
    for _ in 0..ATTEMPTS {
        let mut choices = config.choices(index);
        let generator = Generator::new(config.profile(index), env.clone());
        let start = Program {
            config: generator.config(&mut choices),
            stay_in_handlers: generator.stay_in_handlers(),
            steps: Vec::new(),
        };
        let delays = choices.clone();
        let source = Source::Random { generator: Box::new(generator), choices, left: config.steps };
        let mut counted = Coverage::default();
        if let Some(trial) = attempt(engine, start, source, delays, prepare, &mut counted)? {
            coverage.add(&counted);
            if trial.failure.is_some() && uses_terminal(&trial.program) {
                let delays = Seeded::new(0);
                if let Some(again) = rerun(engine, &trial.program, delays, prepare)? {
                    let carried = again.failure.is_none();
                    return Ok(Some(Trial { carried, ..again }));
                }
            }
            let again = config.concurrent.unwrap_or(1).saturating_sub(1);
            return run_again(engine, trial, again, prepare).map(Some);
        }
    }
    Ok(None)
}

/// Runs the program of `trial` up to `times` more, until kernel and model differ. Returns the last
/// run. The calls of its tasks begin at other moments in each run.
pub fn run_again(
    engine: &mut Engine,
    mut trial: Trial,
    times: u32,
    prepare: &impl Fn(Kernel) -> Kernel,
) -> io::Result<Trial> {
    let program = trial.program.clone();
    for nth in 0..times {
        if trial.failure.is_some() {
            break;
        }
        let delays = Seeded::new(u64::from(nth));
        if let Some(again) = rerun(engine, &program, delays, prepare)? {
            let (calls, reordered) = (trial.calls, trial.reordered);
            trial = again;
            trial.calls += calls;
            trial.reordered |= reordered;
        }
    }
    Ok(trial)
}

/// Runs a given program; `None` if it was late.
pub fn rerun(
    engine: &mut Engine,
    program: &Program,
    delays: Seeded,
    prepare: &impl Fn(Kernel) -> Kernel,
) -> io::Result<Option<Trial>> {
    let start = Program { steps: Vec::new(), ..program.clone() };
    let source = Source::Given(program.steps.iter());
    if uses_terminal(program) {
        engine.set_terminal_pause(CARRYING);
    }
    let trial = attempt(engine, start, source, delays, prepare, &mut Coverage::default());
    engine.set_terminal_pause(Duration::ZERO);
    trial
}

fn uses_terminal(program: &Program) -> bool {
    let mut calls = program.steps.iter().flat_map(|step| step.action.calls(step.tid));
    calls.any(|(_, call)| call.is_of_terminal())
}

fn attempt(
    engine: &mut Engine,
    program: Program,
    mut source: Source,
    delays: Seeded,
    prepare: &impl Fn(Kernel) -> Kernel,
    coverage: &mut Coverage,
) -> io::Result<Option<Trial>> {
    let (config, hold) = (program.config.clone(), program.stay_in_handlers);
    let changed = |value, usual| (value != usual).then_some(value);
    let start = TestNamespaceConfig {
        pid_max: changed(config.pid_max, engine.pid_max()),
        last_pid: changed(config.last_pid, config.first.0),
        first: (config.first != Pid(1)).then_some(config.first),
    };
    let preemptible = !engine.is_realtime();
    let mut namespace = engine.test_namespace(&start)?;
    namespace.hold_handlers(hold);
    let kernel = Recorder::default();
    let mut explainer = Explainer::new(prepare(Kernel::new(config)), hold);
    if preemptible {
        explainer = explainer.preemptible();
    }
    let mut attempt = ProgramRun {
        test_namespace: namespace,
        explainer,
        trial: Trial { program, kernel, calls: 0, reordered: false, carried: false, failure: None },
        model: Recorder::default(),
        clock: Clock::default(),
        begun: BTreeMap::new(),
        delays,
        coverage,
    };
    while !is_over(attempt.explainer.kernel()) {
        let Some(step) = source.next(attempt.explainer.kernel()) else { break };
        match attempt.step(&step)? {
            StepOutcome::On => {}
            StepOutcome::Late => return Ok(None),
            StepOutcome::Differs => return Ok(Some(attempt.trial)),
        }
    }
    Ok(Some(attempt.trial))
}

/// One run of a program.
struct ProgramRun<'a> {
    test_namespace: TestNamespace<'a>,
    explainer: Explainer<ObservedStep>,
    trial: Trial,
    /// The record of the model.
    model: Recorder,
    clock: Clock,
    /// The calls in progress.
    begun: BTreeMap<Pid, Syscall>,
    /// The delays of tasks that make calls at the same time.
    delays: Seeded,
    coverage: &'a mut Coverage,
}

enum StepOutcome {
    On,
    Late,
    Differs,
}

impl ProgramRun<'_> {
    fn step(&mut self, step: &Step) -> io::Result<StepOutcome> {
        self.clock.meet(self.explainer.kernel());
        let mut step = step.clone();
        let observation = match &mut step.action {
            Action::Concurrent(calls) => match self.post_all(calls) {
                Ok(()) if calls.is_empty() => return Ok(StepOutcome::On),
                Ok(()) => self.test_namespace.observe()?,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Ok(self.cannot_act(&step, &error));
                }
                Err(error) => return Err(error),
            },
            Action::Call(call) if !can_act(self.explainer.kernel(), step.tid, call) => {
                return Ok(StepOutcome::On);
            }
            Action::Call(call) => match self.test_namespace.call(step.tid, call) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Ok(self.cannot_act(&step, &error));
                }
                // NS-08: a call whose effect the kernel cannot clean up
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(StepOutcome::On);
                }
                seen => seen?,
            },
            Action::Elapse(nanos) => self.test_namespace.elapse(self.clock.until(*nanos))?,
        };
        let step = &step;
        self.trial.kernel.kernel_step(step, &observation);
        self.trial.program.steps.push(step.clone());
        self.trial.calls += step.action.calls(step.tid).count() as u64;
        let explained = self.explainer.step(step.clone(), ObservedStep(observation));
        if self.clock.is_late(self.explainer.kernel()) {
            return Ok(StepOutcome::Late);
        }
        self.note_reaction(step, explained.is_ok());
        match explained {
            Ok(explanation) => {
                self.trial.reordered |= explanation == Explanation::Reordered;
                Ok(StepOutcome::On)
            }
            Err(mismatch) => Ok(self.differs(mismatch)),
        }
    }

    /// Has those of several tasks that can act make their calls at the same time; `calls` then has
    /// only these.
    fn post_all(&mut self, calls: &mut Vec<(Pid, Syscall)>) -> io::Result<()> {
        let kernel = self.explainer.kernel();
        calls.retain(|(tid, call)| can_act(kernel, *tid, call));
        // if a thread other than the leader executes a program, the new program takes later
        // commands of its leader for its own
        calls.sort_by_key(|(tid, call)| {
            let is_leader = kernel.view(*tid).is_some_and(|view| view.tgid == *tid);
            matches!(call, Syscall::Execve { .. }) && !is_leader
        });
        let mut unsupported = Vec::new();
        for (tid, call) in calls.iter() {
            let most = self.delays.below(17);
            let delay = self.delays.below(1 << most) as u32;
            match self.test_namespace.post(*tid, call, delay) {
                // NS-08: a call whose effect the kernel cannot clean up
                Err(error) if error.kind() == io::ErrorKind::Unsupported => unsupported.push(*tid),
                posted => posted?,
            }
        }
        calls.retain(|(tid, _)| !unsupported.contains(tid));
        Ok(())
    }

    fn differs(&mut self, mismatch: Mismatch) -> StepOutcome {
        let reaction = self.explainer.reaction().cloned();
        let model = core::mem::take(&mut self.model);
        self.trial.failure = Some(Failure { mismatch, model, reaction });
        StepOutcome::Differs
    }

    /// A difference: the process can make the call in the model, and cannot on the kernel.
    fn cannot_act(&mut self, step: &Step, error: &io::Error) -> StepOutcome {
        self.trial.program.steps.push(step.clone());
        self.differs(Mismatch {
            what: format!("{} is to act", step.tid),
            kernel: error.to_string(),
            model: format!("{:?}", step.action),
        })
    }

    /// Records the reaction of the model, and counts it if the kernel agreed.
    fn note_reaction(&mut self, step: &Step, agreed: bool) {
        let Some(reaction) = self.explainer.reaction() else { return };
        self.model.model_step(step, reaction, self.explainer.kernel());
        for (tid, call) in step.action.calls(step.tid) {
            self.begun.insert(tid, call.clone());
        }
        for (pid, what) in &reaction.seen {
            if let Observable::Returned(result) = what
                && agreed
                && let Some(call) = self.begun.remove(pid)
            {
                self.coverage.result(&call, result);
            }
        }
        if agreed {
            // the passage of time follows rules, too
            self.coverage.rules(reaction.effects.rules());
            for (_, call) in step.action.calls(step.tid) {
                self.coverage.call(call);
            }
        }
    }
}

/// Real time and virtual time.
struct Clock {
    /// The real time at which virtual time is 0.
    origin: Instant,
    /// The virtual time before this step.
    now: Duration,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { origin: Instant::now(), now: Duration::ZERO }
    }
}

impl Clock {
    /// Sets both clocks to the same time at the beginning of a step, if no timer runs.
    fn meet(&mut self, kernel: &Kernel) {
        self.now = Duration::from_nanos(kernel.now().0);
        if kernel.next_deadline().is_none() {
            self.origin = Instant::now().checked_sub(self.now).unwrap_or(self.origin);
        }
    }

    /// How long to sleep until real time reaches the virtual time of the step.
    fn until(&mut self, nanos: u64) -> Duration {
        self.now += Duration::from_nanos(nanos);
        self.now.saturating_sub(self.origin.elapsed())
    }

    /// Whether real time has advanced so far that a timer may have fired that has not fired in the
    /// model.
    fn is_late(&self, kernel: &Kernel) -> bool {
        kernel.next_deadline().is_some() && self.origin.elapsed() > self.now + LATE
    }
}

/// Whether the step is performed. On the kernel, a return from a handler that does not exist would
/// jump to an undefined address.
fn can_act(kernel: &Kernel, pid: Pid, call: &Syscall) -> bool {
    kernel.in_user_mode(pid) && (*call != Syscall::RtSigreturn || kernel.handler_depth(pid) > 0)
}

/// Whether a program has ended, because its init has ended.
fn is_over(kernel: &Kernel) -> bool {
    let first = kernel.config().first;
    first == Pid(1) && (kernel.view(first).is_none() || kernel.exit_status(first).is_some())
}

impl Trial {
    /// The compared quantity and the last call, without numbers: a smaller program has the same
    /// difference if these are equal.
    pub fn kind_of_failure(&self) -> Option<(String, &'static str)> {
        let failure = self.failure.as_ref()?;
        let what = failure.mismatch.what.split(' ').nth(1).unwrap_or_default().to_owned();
        let last = self.program.steps.last()?;
        let call = last.action.calls(last.tid).next().map_or("", |(_, call)| call.name());
        Some((what, call))
    }

    /// The difference in readable form: both sides, the difference, and the rules of the model.
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
