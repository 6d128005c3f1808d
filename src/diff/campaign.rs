//! Workers on several CPUs, and the sum of what they say.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::trial::TrialConfig;
use super::worker::{Difference, Message, Start, WorkerJob};
use crate::host::{Mode, Worker, WorkerConfig};
use crate::kernel::Version;

/// A run of many programs.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The program that is a worker when it is told so: the one that runs now, as a rule.
    pub exe: PathBuf,
    /// By which right.
    pub mode: Mode,
    /// One worker each.
    pub cpus: Vec<usize>,
    /// Which programs.
    pub config: TrialConfig,
    /// How many.
    pub programs: u64,
    /// Only those whose number is the first of these modulo the second.
    pub shard: (u64, u64),
    /// The rule that the model is to break (feature `faults`).
    pub fault: Option<String>,
    /// The run ends with that many differences.
    pub max_differences: usize,
}

/// How far a run has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CampaignCounts {
    /// Programs that were run.
    pub programs: u64,
    /// Calls in them.
    pub calls: u64,
    /// Programs that needed another order than the canonical one.
    pub reordered: u64,
    /// Programs that were given up: their timers fired late each time.
    pub late: u64,
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// All of it.
    pub progress: CampaignCounts,
    /// Where kernel and model differ.
    pub differences: Vec<Difference>,
    /// What was exercised.
    pub coverage: Coverage,
    /// The kernel that was asked, once a worker has told.
    pub version: Option<Version>,
    /// What programs did without here, and why.
    pub left_out: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// How many workers there were.
    pub workers: usize,
}

impl Campaign {
    /// How many programs this will run.
    pub fn count(&self) -> u64 {
        let (nth, of) = self.shard;
        (self.programs + of - 1 - nth) / of
    }

    /// Runs all programs. `progress` is told from time to time.
    ///
    /// # Errors
    ///
    /// Those of the oracle.
    pub fn run(&self, progress: impl FnMut(&Summary)) -> io::Result<Summary> {
        let workers = self.cpus.len() as u64;
        let (nth, of) = self.shard;
        let jobs = (0..workers).map(|worker| WorkerJob::Run {
            config: self.config.clone(),
            first: nth + worker * of,
            stride: of * workers,
            end: self.programs,
            fault: self.fault.clone(),
        });
        let jobs: Vec<(Option<usize>, WorkerJob)> =
            self.cpus.iter().copied().map(Some).zip(jobs).collect();
        run_jobs(&self.exe, self.mode, jobs, self.max_differences, progress)
    }
}

/// Runs the calls of a log again, on the live kernel and on the model.
///
/// # Errors
///
/// Those of the oracle, and a log that cannot be read. [`io::ErrorKind::Unsupported`] where the
/// kernel cannot begin a program as `start` says.
pub fn replay(exe: PathBuf, mode: Mode, log: String, start: Start) -> io::Result<Summary> {
    run_jobs(&exe, mode, vec![(None, WorkerJob::Replay { log, start })], 1, |_| {})
}

/// Asks the running kernel which of the things it does that kernels do differently.
///
/// # Errors
///
/// Those of the oracle.
pub fn running_kernel(exe: PathBuf, mode: Mode) -> io::Result<RunningKernel> {
    let summary = run_jobs(&exe, mode, vec![(None, WorkerJob::Ask)], 1, |_| {})?;
    let version = summary.version.ok_or_else(|| io::Error::other("no answer"))?;
    Ok(RunningKernel { version, left_out: summary.left_out })
}

/// The running kernel, as [`running_kernel`] finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningKernel {
    /// Its release, with the properties that it has shown.
    pub version: Version,
    /// What programs of [`Campaign`] do without here, and why.
    pub left_out: Vec<String>,
}

fn run_jobs(
    exe: &std::path::Path,
    mode: Mode,
    jobs: Vec<(Option<usize>, WorkerJob)>,
    max_differences: usize,
    mut progress: impl FnMut(&Summary),
) -> io::Result<Summary> {
    let start = Instant::now();
    let mut summary = Summary { workers: jobs.len(), ..Summary::default() };
    let (tell, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        for (cpu, job) in jobs {
            let tell = tell.clone();
            scope.spawn(move || {
                let config = WorkerConfig { exe: exe.into(), mode, cpu, user: None };
                let result = attend(&config, &job, &tell);
                if let Err(error) = result {
                    // nobody listens any more: the run is over
                    let _ = tell.send(Err(error));
                }
            });
        }
        drop(tell);
        for message in &hear {
            summary.note(message?);
            summary.elapsed = start.elapsed();
            progress(&summary);
            if summary.differences.len() >= max_differences {
                break;
            }
        }
        // workers that still run find nobody to tell, and end
        drop(hear);
        Ok(summary)
    })
}

/// Passes on what a worker says, until it is done or nobody listens.
fn attend(
    config: &WorkerConfig,
    job: &WorkerJob,
    tell: &mpsc::Sender<io::Result<Message>>,
) -> io::Result<()> {
    let mut worker = Worker::start(config)?;
    worker.send(&serde_json::to_vec(job)?)?;
    loop {
        let Some(message) = worker.receive()? else {
            return Err(io::Error::other("a worker ended before its work was done"));
        };
        let message: Message = serde_json::from_slice(&message)?;
        if let Message::Failed { unsupported, why } = message {
            let kind = if unsupported { io::ErrorKind::Unsupported } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, why));
        }
        let done = matches!(message, Message::Done(_));
        if tell.send(Ok(message)).is_err() || done {
            return Ok(());
        }
    }
}

impl Summary {
    fn note(&mut self, message: Message) {
        match message {
            Message::Progress { programs, calls, reordered, late } => {
                self.progress.programs += programs;
                self.progress.calls += calls;
                self.progress.reordered += reordered;
                self.progress.late += late;
            }
            Message::Differs(difference) => self.differences.push(difference),
            Message::Done(coverage) => self.coverage.add(&coverage),
            Message::Begun { version, left_out } => {
                self.version = Some(version);
                self.left_out = left_out;
            }
            // an error by the time that it comes here
            Message::Failed { .. } => {}
        }
    }
}
