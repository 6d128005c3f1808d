//! The process that runs trials, and its messages.

use std::io;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::campaign::{CampaignCounts, Subject};
use super::coverage::Coverage;
use super::probe;
use super::terminal::{self, TerminalEnv};
use super::trial::{self, Trial, TrialConfig};
use crate::abi::Pid;
use crate::host::{Engine, EngineConfig, Link, Mode, SELF_PATH, lead_session, terminal_privilege};
use crate::kernel::{Config, Kernel, Seeded, Version};
use crate::sim::{Action, GeneratorEnv, ModelTerminal, Program, Step, shrink};

/// The job of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum WorkerJob {
    /// Run the programs `first`, `first + stride`, … below `end`.
    Run {
        /// What the programs call.
        subject: Subject,
        /// The configuration of the programs.
        config: TrialConfig,
        /// The first number.
        first: u64,
        /// The step from one to the next.
        stride: u64,
        /// The end of the numbers.
        end: u64,
        /// The name of the rule that the model breaks.
        fault: Option<String>,
    },
    /// Report which kernel is running.
    Ask,
    /// Run the steps of a log.
    Replay {
        /// The log.
        log: String,
        /// The initial state of its program.
        start: Start,
    },
}

/// The initial state of a log's program, which the log does not contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Start {
    /// The namespace's pid_max; by default that of every new namespace.
    pub pid_max: Option<u32>,
    /// The last allocated number; by default 1, that of the first process.
    pub last_pid: Option<u32>,
    /// The number of the first process, if it is not process 1.
    pub first: Option<u32>,
    /// Handlers wait for rt_sigreturn.
    pub stay_in_handlers: bool,
    /// Calls that follow each other in the log without results are made at the same time, on all
    /// CPUs; the number of runs of the program.
    pub concurrent: Option<u32>,
}

/// A message of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The first message of every job.
    Begun {
        /// The running kernel.
        version: Version,
        /// What programs cannot use here, and why.
        left_out: Vec<String>,
    },
    /// The counts since the last message.
    Progress(CampaignCounts),
    /// Kernel and model differ.
    Differs(Difference),
    /// The end.
    Done(Box<Coverage>),
    /// The job cannot be done.
    Failed {
        /// Because the kernel, or the environment, cannot do what it requires.
        unsupported: bool,
        /// The reason in words.
        why: String,
    },
}

/// A program on which kernel and model differ, shrunk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// The program's number.
    pub index: u64,
    /// Its profile.
    pub profile: String,
    /// Both sides in columns, and the reason.
    pub text: String,
    /// The events on the kernel, as a log.
    pub log: String,
    /// The options that `diff --replay` needs besides the log.
    pub options: String,
}

/// The number of runs of a smaller program that determine whether it still has a difference, if
/// that depends on which of several CPUs is first.
const RUNS_TO_SHRINK: u32 = 100;

const EXE: &str = "/proc/self/exe";

/// Runs the job of a worker, which the program sends as the first message.
///
/// # Errors
///
/// The errors of the link to the program. Errors of the oracle are sent through the link.
pub fn serve(link: &mut Link) -> io::Result<()> {
    let Some(job) = link.receive()? else { return Ok(()) };
    let job: WorkerJob = serde_json::from_slice(&job)?;
    let Err(error) = work(link, job) else { return Ok(()) };
    let unsupported = error.kind() == io::ErrorKind::Unsupported;
    send(link, &Message::Failed { unsupported, why: error.to_string() })
}

fn work(link: &mut Link, job: WorkerJob) -> io::Result<()> {
    let concurrent = match &job {
        WorkerJob::Run { subject: Subject::Terminal, config, first, stride, end, fault } => {
            let indices = (*first..*end).step_by(*stride as usize);
            return terminal_programs(link, config, fault.as_deref(), indices);
        }
        WorkerJob::Run { config, .. } => config.concurrent.is_some(),
        WorkerJob::Replay { start, .. } => start.concurrent.is_some(),
        WorkerJob::Ask => false,
    };
    let config = EngineConfig { mode: link.mode, agent_exe: EXE.into(), cpu: link.cpu, concurrent };
    let mut engine = Engine::start(&config)?;
    let version = probe::version(&mut engine, link.mode)?;
    let env = trial::environment(&engine, link.mode, version)?;
    send(link, &Message::Begun { version, left_out: engine.features().left_out() })?;
    match job {
        WorkerJob::Ask => send(link, &Message::Done(Box::default())),
        WorkerJob::Run { config, first, stride, end, fault, .. } => {
            let prepare = prepare_kernel(fault.as_deref())?;
            let mut run = WorkerRun { link, engine, prepare, config, env };
            run.programs((first..end).step_by(stride as usize))
        }
        WorkerJob::Replay { log, start } => {
            let program = read_program(&log, start, env)?;
            let mut trial = trial::rerun(&mut engine, &program, Seeded::new(0), &|kernel| kernel)?;
            if let Some(times) = start.concurrent
                && let Some(first) = trial.take()
            {
                let again = times.saturating_sub(1);
                trial = Some(trial::run_again(&mut engine, first, again, &|kernel| kernel)?);
            }
            let mut coverage = Coverage::default();
            let late = u64::from(trial.is_none());
            let taken = trial.as_ref().map_or(0, |trial| trial.program.steps.len());
            if taken < program.steps.len() && late == 0 {
                let skipped = program.steps.len() - taken;
                eprintln!("{skipped} calls did not take place: their processes could not act");
            }
            if let Some(trial) = trial {
                coverage.calls.insert("replayed".into(), trial.calls);
                if trial.failure.is_some() {
                    send(link, &Message::Differs(difference(&trial, 0, "replayed")))?;
                }
                let counts = CampaignCounts {
                    programs: 1,
                    calls: trial.calls,
                    reordered: u64::from(trial.reordered),
                    late,
                    carried: 0,
                    bytes: 0,
                };
                send(link, &Message::Progress(counts))?;
            }
            send(link, &Message::Done(Box::new(coverage)))
        }
    }
}

/// Runs programs for a terminal. Each worker leads a session of its own, and each program has a new
/// pty as its terminal.
fn terminal_programs(
    link: &mut Link,
    config: &TrialConfig,
    fault: Option<&str>,
    indices: impl Iterator<Item = u64>,
) -> io::Result<()> {
    lead_session()?;
    let privilege = terminal_privilege(link.mode == Mode::Root);
    let prepare = prepare_terminal(fault)?;
    let env = TerminalEnv { privilege, shrink: config.shrink, prepare };
    let mut counts = CampaignCounts::default();
    let mut reported = Instant::now();
    for index in indices {
        let trial = terminal::trial(config.seed, index, config.steps, &env)?;
        counts.programs += 1;
        counts.calls += trial.calls;
        counts.bytes += trial.bytes;
        counts.late += u64::from(trial.was_late);
        if let Some(difference) = trial.difference {
            send(link, &Message::Differs(difference))?;
        }
        if reported.elapsed().as_millis() >= 100 {
            send(link, &Message::Progress(core::mem::take(&mut counts)))?;
            reported = Instant::now();
        }
    }
    send(link, &Message::Progress(counts))?;
    send(link, &Message::Done(Box::default()))
}

/// What is done with each new model.
type Prepare<T> = Box<dyn Fn(T) -> T>;

/// The models with the fault of that name, if any.
fn prepare_kernel(name: Option<&str>) -> io::Result<Prepare<Kernel>> {
    let Some(name) = name else { return Ok(Box::new(|kernel| kernel)) };
    #[cfg(feature = "faults")]
    {
        use crate::kernel::Fault;
        let all = Fault::ALL.into_iter().chain(Fault::OF_TERMINALS);
        let fault = fault_called(name, all)?;
        Ok(Box::new(move |kernel| kernel.with_fault(fault)))
    }
    #[cfg(not(feature = "faults"))]
    Err(without_faults(name))
}

/// The models of terminals with the fault of that name, if any.
fn prepare_terminal(name: Option<&str>) -> io::Result<Prepare<ModelTerminal>> {
    let Some(name) = name else { return Ok(Box::new(|terminal| terminal)) };
    #[cfg(feature = "faults")]
    {
        let fault = fault_called(name, crate::tty::TerminalFault::ALL)?;
        Ok(Box::new(move |terminal| terminal.with_fault(fault)))
    }
    #[cfg(not(feature = "faults"))]
    Err(without_faults(name))
}

#[cfg(feature = "faults")]
fn fault_called<F: core::fmt::Debug>(
    name: &str,
    faults: impl IntoIterator<Item = F>,
) -> io::Result<F> {
    let mut faults = faults.into_iter();
    let fault = faults.find(|fault| format!("{fault:?}") == name);
    fault.ok_or_else(|| io::Error::other(format!("no fault is called {name}")))
}

#[cfg(not(feature = "faults"))]
fn without_faults(name: &str) -> io::Error {
    io::Error::other(format!("{name}: built without the feature faults"))
}

struct WorkerRun<'a> {
    link: &'a mut Link,
    engine: Engine,
    prepare: Prepare<Kernel>,
    config: TrialConfig,
    env: GeneratorEnv,
}

impl WorkerRun<'_> {
    fn programs(&mut self, indices: impl Iterator<Item = u64>) -> io::Result<()> {
        let mut coverage = Coverage::default();
        let mut counts = CampaignCounts::default();
        let mut reported = Instant::now();
        for index in indices {
            let trial = trial::run(
                &mut self.engine,
                &self.env,
                &self.config,
                index,
                &self.prepare,
                &mut coverage,
            )
            .map_err(|error| io::Error::new(error.kind(), format!("program {index}: {error}")))?;
            counts.programs += 1;
            match trial {
                None => counts.late += 1,
                Some(trial) => {
                    counts.calls += trial.calls;
                    counts.reordered += u64::from(trial.reordered);
                    counts.carried += u64::from(trial.carried);
                    let profile = self.config.profile(index).name();
                    *coverage.profiles.entry(profile.into()).or_default() += 1;
                    if trial.failure.is_some() {
                        let smallest = if self.config.shrink { self.shrink(trial)? } else { trial };
                        let difference = difference(&smallest, index, profile);
                        send(self.link, &Message::Differs(difference))?;
                    }
                }
            }
            if reported.elapsed().as_millis() >= 100 {
                send(self.link, &Message::Progress(core::mem::take(&mut counts)))?;
                reported = Instant::now();
            }
        }
        send(self.link, &Message::Progress(counts))?;
        send(self.link, &Message::Done(Box::new(coverage)))
    }

    /// The smallest program that still has the difference.
    fn shrink(&mut self, trial: Trial) -> io::Result<Trial> {
        let wanted = trial.kind_of_failure();
        let mut smallest = trial;
        let mut error = None;
        shrink(smallest.program.clone(), |program| {
            let times = self.config.concurrent.map_or(0, |_| RUNS_TO_SHRINK);
            let delays = Seeded::new(u64::MAX);
            let engine = &mut self.engine;
            let trial = trial::rerun(engine, program, delays, &self.prepare);
            let again = trial.and_then(|trial| {
                let again = |trial| trial::run_again(engine, trial, times, &self.prepare);
                trial.map(again).transpose()
            });
            match again {
                Ok(Some(trial)) if trial.kind_of_failure() == wanted => {
                    smallest = trial;
                    true
                }
                Ok(_) => false,
                // without some of its steps the program would leave a process that nothing can
                // remove
                Err(refused) if refused.kind() == io::ErrorKind::Unsupported => false,
                Err(broken) => {
                    error.get_or_insert(broken);
                    false
                }
            }
        });
        match error {
            Some(error) => Err(error),
            None => Ok(smallest),
        }
    }
}

fn difference(trial: &Trial, index: u64, profile: &str) -> Difference {
    let Program { config, stay_in_handlers, .. } = &trial.program;
    let hold = if *stay_in_handlers { " --stay-in-handlers" } else { "" };
    let is_concurrent = |step: &Step| matches!(step.action, Action::Concurrent(_));
    let concurrent =
        if trial.program.steps.iter().any(is_concurrent) { " --concurrent" } else { "" };
    let first = match config.first {
        Pid(1) => String::new(),
        first => format!(" --first {first}"),
    };
    Difference {
        index,
        profile: profile.into(),
        text: trial.explain(),
        log: trial.kernel.log().to_string(),
        options: format!(
            "--pid-max {} --last-pid {}{first}{hold}{concurrent}",
            config.pid_max, config.last_pid
        ),
    }
}

/// The steps of a log: its calls, in order.
fn read_program(log: &str, start: Start, env: GeneratorEnv) -> io::Result<Program> {
    use crate::abi::Errno;
    use crate::syscall::Syscall;
    use crate::trace::{CallPrefix, LogEvent};
    let log = crate::trace::read(log.as_bytes()).map_err(io::Error::other)?;
    let concurrent = start.concurrent.is_some();
    // the number of lines that do not begin a call: calls without such a line between them are made
    // at the same time
    let mut others = 0;
    let calls = log.entries.into_iter().filter_map(|entry| {
        let unfinished = matches!(entry.event, LogEvent::Unfinished(_));
        others += usize::from(!unfinished);
        let call = match entry.event {
            LogEvent::Unfinished(
                CallPrefix::Complete(Syscall::Execve { error: None, .. })
                | CallPrefix::Partial(Syscall::Execve { .. }),
            ) if concurrent => Syscall::Execve { path: SELF_PATH.into(), error: None },
            // its result is not known, and the call is made
            LogEvent::Unfinished(CallPrefix::Partial(call)) if concurrent => call,
            // in place of the recorded program, the agent executes its own
            LogEvent::Call { call: Syscall::Execve { error: None, .. }, .. } => {
                Syscall::Execve { path: SELF_PATH.into(), error: None }
            }
            // and the path of a failed execve becomes one that fails here for the same reason
            LogEvent::Call { call: Syscall::Execve { error: Some(errno), .. }, .. } => {
                let (path, error) = match errno {
                    Errno::ENOENT => ("/nonexistent".into(), Some(errno)),
                    Errno::EACCES => ("/proc".into(), Some(errno)),
                    // LIM-05: the reason was the process, and not the file
                    Errno::EAGAIN => (SELF_PATH.into(), None),
                    _ => return None,
                };
                Syscall::Execve { path, error }
            }
            LogEvent::Call { call, .. } | LogEvent::Unfinished(CallPrefix::Complete(call)) => call,
            _ => return None,
        };
        Some((entry.pid, call, (unfinished && concurrent).then_some(others)))
    });
    let (mut steps, mut last) = (Vec::<Step>::new(), None);
    for (tid, call, group) in calls {
        match steps.last_mut() {
            Some(Step { action: Action::Concurrent(calls), .. })
                if group.is_some() && group == last =>
            {
                calls.push((tid, call));
            }
            _ if group.is_some() => {
                let action = Action::Concurrent([(tid, call)].into());
                steps.push(Step { tid: Pid(0), action });
            }
            _ => steps.push(Step { tid, action: Action::Call(call) }),
        }
        last = group;
    }
    let config = Config {
        pid_max: start.pid_max.unwrap_or(env.config.pid_max),
        last_pid: start.last_pid.unwrap_or(env.config.last_pid),
        ..env.config
    };
    let config = match start.first {
        Some(first) if first != 1 => config.below_init(Pid(first)),
        _ => config,
    };
    Ok(Program { config, stay_in_handlers: start.stay_in_handlers, steps })
}

fn send(link: &mut Link, message: &Message) -> io::Result<()> {
    link.send(&serde_json::to_vec(message)?)
}
