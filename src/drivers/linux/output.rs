//! The result of a pipeline, and its errors.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::members::Member;
use super::spawn_error::SpawnError;
use super::stats::Figure;
use crate::abi::{Errno, WaitStatus};

/// One of the two streams that are captured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// Standard output of the last command.
    Stdout,
    /// Standard error of all commands.
    Stderr,
}

/// The resource usage of a pipeline: [`Output::usage`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Usage {
    /// The CPU time in user and kernel mode. With a cgroup it is that of all processes that were
    /// ever in the tree. Without one, and in a tree of the caller, it is that of the commands and
    /// of the children that they waited for.
    pub cpu: Figure<Duration>,
    /// The most memory at one time, in bytes: memory.peak of the cgroup, or else the largest
    /// resident size of a command or of a child that it waited for (`ru_maxrss` of getrusage(2)).
    /// `None` if neither is known; a resident size is known only if it is larger than the owner's
    /// own.
    pub memory_peak: Option<Figure<u64>>,
    /// The number of processes that the kernel killed for want of memory: see
    /// [`Stats::oom_kills`](super::Stats).
    pub oom_kills: Option<Figure<u64>>,
    /// The time from the first spawn to the end of the tree.
    pub elapsed: Duration,
}

/// The result of a pipeline. Three fields have the names of [`std::process::Output`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Output {
    /// How the last command ended.
    pub status: WaitStatus,
    /// How each command ended, in the order of the pipeline: `PIPESTATUS` of bash(1).
    pub statuses: Vec<WaitStatus>,
    /// Standard output of the last command, up to [`Pipeline::limit`](super::Pipeline::limit).
    /// Empty if a function got the bytes, or the stream was not captured.
    pub stdout: Vec<u8>,
    /// Standard error of all commands, likewise.
    pub stderr: Vec<u8>,
    /// The number of bytes that were read from standard output, kept or not.
    pub stdout_total: u64,
    /// The number of bytes that were read from standard error, kept or not.
    pub stderr_total: u64,
    /// Whether bytes were dropped because of the limit.
    pub truncated: bool,
    /// Whether the timeout ended the pipeline.
    pub timed_out: bool,
    /// The processes that were still in the tree when SIGKILL was sent to it, after the commands
    /// had ended or because of the timeout. In a tree of the caller: the commands that were killed.
    pub killed: Vec<Member>,
    /// The processes that SIGKILL did not end: in uninterruptible sleep, or out of reach. Always
    /// empty in a tree of the caller.
    pub survivors: Vec<Member>,
    /// The reason why `killed` and `survivors` may lack processes; `None` if they are complete.
    pub unseen: Option<String>,
    /// The resource usage.
    pub usage: Usage,
}

impl Output {
    /// Whether every command exited with 0 (`set -o pipefail` of bash(1)) before the timeout.
    pub fn success(&self) -> bool {
        !self.timed_out && self.statuses.iter().all(|status| status.exit_code() == Some(0))
    }
}

impl From<Output> for std::process::Output {
    /// Keeps the three fields of the standard library.
    fn from(output: Output) -> std::process::Output {
        let status = ExitStatus::from_raw(output.status.0 as i32);
        std::process::Output { status, stdout: output.stdout, stderr: output.stderr }
    }
}

/// The reason why there is no result of a pipeline. No process, descriptor or cgroup of it is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The tree could not be created: see [`Options::create`](super::Options::create).
    Tree(io::Error),
    /// The spawn of a command failed. The commands before it were killed.
    Spawn(SpawnError),
    /// A pipe, an epoll instance or a timer failed: EMFILE and ENFILE without free descriptors,
    /// ENOMEM, InvalidInput for a stream that is set twice.
    Pipe(io::Error),
    /// The tree could not be ended: see [`ProcessTree::kill`](super::ProcessTree::kill).
    End(io::Error),
    /// The status of a command is not known: ECHILD if other code of this process has reaped it,
    /// EBUSY if SIGKILL did not end it.
    Wait(Errno),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Tree(error) => write!(f, "no tree: {error}"),
            RunError::Spawn(error) => error.fmt(f),
            RunError::Pipe(error) => write!(f, "capture: {error}"),
            RunError::End(error) => write!(f, "the tree cannot be ended: {error}"),
            RunError::Wait(errno) => write!(f, "the status of a command is not known: {errno}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Tree(error) | RunError::Pipe(error) | RunError::End(error) => Some(error),
            RunError::Spawn(error) => Some(error),
            RunError::Wait(_) => None,
        }
    }
}

impl From<SpawnError> for RunError {
    fn from(error: SpawnError) -> RunError {
        RunError::Spawn(error)
    }
}
