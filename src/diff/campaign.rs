//! Runs workers on several CPUs and adds up their results.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::trial::TrialConfig;
use super::worker::{Difference, Message, Start, WorkerJob};
use crate::host::{Mode, Worker, WorkerConfig};
use crate::kernel::Version;

/// What random programs call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Subject {
    /// The calls of processes.
    #[default]
    Processes,
    /// The calls on a terminal.
    Terminal,
}

/// A run of many random programs.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The program to start as a worker, usually the running one.
    pub exe: PathBuf,
    /// The privilege with which namespaces are created.
    pub mode: Mode,
    /// The CPUs; each has one worker.
    pub cpus: Vec<usize>,
    /// The configuration from which the programs are generated.
    pub config: TrialConfig,
    /// The number of programs.
    pub programs: u64,
    /// What the programs call.
    pub subject: Subject,
    /// Runs only the programs whose number is the first of these modulo the second.
    pub shard: (u64, u64),
    /// The rule that the model breaks (feature `faults`).
    pub fault: Option<String>,
    /// The run ends after this number of differences.
    pub max_differences: usize,
}

/// The counts of a run so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CampaignCounts {
    /// The programs that were run.
    pub programs: u64,
    /// The calls of these programs.
    pub calls: u64,
    /// The programs that only another order than the canonical one explains.
    pub reordered: u64,
    /// The programs whose timers fired late each time, so that they were abandoned.
    pub late: u64,
    /// The programs on terminals that agreed only when the kernel had time to carry bytes between
    /// the ends (LD-19).
    pub carried: u64,
    /// The bytes that calls on terminals wrote and read.
    pub bytes: u64,
}

impl CampaignCounts {
    fn add(&mut self, more: CampaignCounts) {
        let CampaignCounts { programs, calls, reordered, late, carried, bytes } = more;
        self.programs += programs;
        self.calls += calls;
        self.reordered += reordered;
        self.late += late;
        self.carried += carried;
        self.bytes += bytes;
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The counts of the whole run.
    pub progress: CampaignCounts,
    /// The differences between kernel and model.
    pub differences: Vec<Difference>,
    /// The coverage of the run.
    pub coverage: Coverage,
    /// The version of the running kernel; `None` until a worker has reported it.
    pub version: Option<Version>,
    /// What programs could not use here, and why.
    pub left_out: Vec<String>,
    /// The duration of the run.
    pub elapsed: Duration,
    /// The number of workers.
    pub workers: usize,
}

impl Campaign {
    /// The number of programs that this campaign runs.
    pub fn count(&self) -> u64 {
        let (nth, of) = self.shard;
        (self.programs + of - 1 - nth) / of
    }

    /// Runs all programs. `progress` is called with the intermediate results.
    ///
    /// # Errors
    ///
    /// The errors of the oracle.
    pub fn run(&self, progress: impl FnMut(&Summary)) -> io::Result<Summary> {
        let workers = self.cpus.len() as u64;
        let (nth, of) = self.shard;
        let (stride, end) = (of * workers, self.programs);
        let jobs = (0..workers).map(|worker| WorkerJob::Run {
            subject: self.subject,
            config: self.config.clone(),
            first: nth + worker * of,
            stride,
            end,
            fault: self.fault.clone(),
        });
        let jobs: Vec<(Option<usize>, WorkerJob)> =
            self.cpus.iter().copied().map(Some).zip(jobs).collect();
        run_jobs(&self.exe, self.mode, jobs, self.max_differences, progress)
    }
}

/// Runs the calls of a log on the live kernel and on the model.
///
/// # Errors
///
/// The errors of the oracle, and a log that cannot be parsed. [`io::ErrorKind::Unsupported`] if the
/// kernel cannot begin a program as `start` says.
pub fn replay(exe: PathBuf, mode: Mode, log: String, start: Start) -> io::Result<Summary> {
    run_jobs(&exe, mode, vec![(None, WorkerJob::Replay { log, start })], 1, |_| {})
}

/// Determines the properties of the running kernel.
///
/// # Errors
///
/// The errors of the oracle.
pub fn running_kernel(exe: PathBuf, mode: Mode) -> io::Result<RunningKernel> {
    let summary = run_jobs(&exe, mode, vec![(None, WorkerJob::Ask)], 1, |_| {})?;
    let version = summary.version.ok_or_else(|| io::Error::other("no answer"))?;
    Ok(RunningKernel { version, left_out: summary.left_out })
}

/// The running kernel, as [`running_kernel`] determines it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningKernel {
    /// Its release, with the observed properties.
    pub version: Version,
    /// What the programs of a [`Campaign`] cannot use here, and why.
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
                    // the receiver was dropped: the run is over
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
        // workers that still run fail to send, and end
        drop(hear);
        Ok(summary)
    })
}

/// Forwards the messages of a worker until it is done or the receiver is dropped.
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
            Message::Progress(counts) => self.progress.add(counts),
            Message::Differs(difference) => self.differences.push(difference),
            Message::Done(coverage) => self.coverage.add(&coverage),
            Message::Begun { version, left_out } => {
                self.version = Some(version);
                self.left_out = left_out;
            }
            // it has become an error before this place
            Message::Failed { .. } => {}
        }
    }
}
