//! What is known of a pipeline that has ended, and why one could not be run.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::command::SpawnError;
use super::members::Member;
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

/// What a pipeline has used: [`Output::usage`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Usage {
    /// The CPU time, in user and in kernel mode, of all processes that were ever in the tree; without
    /// a cgroup, and in a tree of the caller, of the commands and of the children that they waited
    /// for.
    pub cpu: Figure<Duration>,
    /// The most memory that was used at one time, in bytes: memory.peak of the cgroup, or else the
    /// largest resident size of one command or of a child that it waited for (`ru_maxrss` of
    /// getrusage(2)). `None` if neither is known.
    pub memory_peak: Option<Figure<u64>>,
    /// How many processes the kernel killed for want of memory. `None` without such an account.
    pub oom_kills: Option<Figure<u64>>,
    /// The time from the first spawn to the end of the tree.
    pub elapsed: Duration,
}

/// A pipeline that has ended, with the names of [`std::process::Output`] and more.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Output {
    /// How the last command ended.
    pub status: WaitStatus,
    /// How each command ended, in the order of the pipeline: `PIPESTATUS` of bash(1).
    pub statuses: Vec<WaitStatus>,
    /// What the last command wrote to standard output, up to the limit: see
    /// [`Pipeline::limit`](super::Pipeline::limit). Empty if it was given to a function, or was not
    /// captured.
    pub stdout: Vec<u8>,
    /// What the commands wrote to standard error, likewise.
    pub stderr: Vec<u8>,
    /// How many bytes were read from standard output, kept or not.
    pub stdout_total: u64,
    /// How many bytes were read from standard error, kept or not.
    pub stderr_total: u64,
    /// Whether bytes were dropped because of the limit.
    pub truncated: bool,
    /// Whether the timeout ended it.
    pub timed_out: bool,
    /// The processes that were still in the tree when SIGKILL was sent to it, after the commands had
    /// ended or because of the timeout. In a tree of the caller: the commands that were killed.
    pub killed: Vec<Member>,
    /// The processes that SIGKILL did not end: in uninterruptible sleep, or out of reach. Always
    /// empty in a tree of the caller.
    pub survivors: Vec<Member>,
    /// Why `killed` and `survivors` may lack processes; without it they are complete.
    pub unseen: Option<String>,
    /// What it used.
    pub usage: Usage,
}

impl Output {
    /// Whether every command exited with 0, and no timeout ended one: `set -o pipefail` of bash(1).
    pub fn success(&self) -> bool {
        !self.timed_out && self.statuses.iter().all(|status| status.exit_code() == Some(0))
    }
}

impl From<Output> for std::process::Output {
    /// The three fields that the standard library has.
    fn from(output: Output) -> std::process::Output {
        let status = ExitStatus::from_raw(output.status.0 as i32);
        std::process::Output { status, stdout: output.stdout, stderr: output.stderr }
    }
}

/// Why a pipeline could not be run, or its end is not known. No process, descriptor or cgroup of it
/// is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The tree could not be made: see [`Options::create`](super::Options::create).
    Tree(io::Error),
    /// A command could not be started. The commands before it were killed.
    Spawn(SpawnError),
    /// A pipe, an epoll instance or a timer failed: EMFILE and ENFILE without free descriptors,
    /// ENOMEM, InvalidInput for a stream that is set twice.
    Pipe(io::Error),
    /// The tree could not be ended: see [`ProcessTree::kill`](super::ProcessTree::kill).
    End(io::Error),
    /// It is not known how a command ended: ECHILD if other code of this process has reaped it, EBUSY
    /// if SIGKILL does not end it.
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
