//! Calls as strace(1) writes them: printed, and parsed back.
//!
//! ```
//! use proctable::abi::{Errno, Pid};
//! use proctable::syscall::{Ret, Syscall, text};
//!
//! let line = "kill(2, SIGTERM) = -1 ESRCH (No such process)";
//! let (call, outcome) = text::parse(line).expect("a line of strace");
//! assert_eq!(call, Syscall::Kill { pid: 2, sig: 15 });
//! assert_eq!(outcome, Err(Errno::ESRCH).into());
//! assert_eq!(text::print(&call, &outcome).to_string(), line);
//! ```
//!
//! What the model does not keep is printed with a fixed value and not read: addresses, the
//! arguments and the environment of execve(2), resource usage, CPU times. The order of
//! the flags is that of the logs in `tests/traces/sequential`; any order is read.

mod cursor;
mod names;
mod parse;
mod print;

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::fmt;

use crate::abi::{IdType, Itimerval, Resource, Rlimit, SigAction, SigSet, Signal};

use super::{Prctl, Result, Syscall};

/// Why an interrupted call came back to the edge of the kernel: strace shows this before the
/// kernel has decided between a restart and EINTR (SIG-44).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Restart {
    /// ERESTARTSYS: restarted unless a handler without SA_RESTART runs.
    Sys,
    /// ERESTARTNOINTR: always restarted.
    NoIntr,
    /// ERESTARTNOHAND: restarted unless a handler runs.
    NoHand,
    /// ERESTART_RESTARTBLOCK: restarted by restart_syscall(2) unless a handler runs.
    Block,
}

/// What stands behind the `=`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// The call returned; or, with [`Ret::Never`](super::Ret::Never), it never does: `= ?`.
    Returned(Result),
    /// A signal interrupted the call: `= ? ERESTARTSYS (…)`.
    Interrupted(Restart),
}

impl From<Result> for Outcome {
    fn from(result: Result) -> Outcome {
        Outcome::Returned(result)
    }
}

/// A call as far as strace shows it before it returns: `wait4(-1,  <unfinished ...>`.
///
/// What is not in a variant is not known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Begun {
    /// All of it.
    Whole(Syscall),
    /// clone(2) that stores numbers; `parent_tid` and `child_tid` are not known.
    Clone {
        /// The flags, with the exit signal.
        flags: u64,
    },
    /// execve(2); whether the program exists is not known.
    Execve {
        /// The path.
        path: Arc<str>,
    },
    /// chdir(2); whether the folder exists is not known.
    Chdir {
        /// The path.
        path: Arc<str>,
    },
    /// wait4(2); `status` and the options are not known.
    Wait4 {
        /// The selector.
        pid: i32,
    },
    /// waitid(2); `info` and the options are not known.
    Waitid {
        /// How `id` selects.
        idtype: IdType,
        /// The selector.
        id: i32,
    },
    /// rt_sigaction(2); `old` and the size are not known.
    RtSigaction {
        /// The signal.
        sig: i32,
        /// The new action, if any.
        act: Option<SigAction>,
    },
    /// rt_sigprocmask(2); `old` and the size are not known.
    RtSigprocmask {
        /// One of [`how`](super::how).
        how: i32,
        /// The set, if any.
        set: Option<SigSet>,
    },
    /// rt_sigpending(2); nothing is known.
    RtSigpending,
    /// rt_sigtimedwait(2); `info`, the timeout and the size are not known.
    RtSigtimedwait {
        /// The signals to take.
        set: SigSet,
    },
    /// setitimer(2); `old` is not known.
    Setitimer {
        /// Which timer.
        which: i32,
        /// The new value, if any.
        new: Option<Itimerval>,
    },
    /// prctl(2) with PR_GET_PDEATHSIG; the pointer is not known.
    GetPdeathsig,
    /// prctl(2) with PR_GET_CHILD_SUBREAPER; the pointer is not known.
    GetChildSubreaper,
    /// prlimit64(2); `old` is not known.
    Prlimit {
        /// The process; 0 is the caller.
        pid: i32,
        /// Which limit.
        resource: Resource,
        /// The new limits, if any.
        new: Option<Rlimit>,
    },
}

impl Begun {
    /// The name of the call, as strace(1) writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Begun::Whole(call) => call.name(),
            Begun::Clone { .. } => "clone",
            Begun::Execve { .. } => "execve",
            Begun::Chdir { .. } => "chdir",
            Begun::Wait4 { .. } => "wait4",
            Begun::Waitid { .. } => "waitid",
            Begun::RtSigaction { .. } => "rt_sigaction",
            Begun::RtSigprocmask { .. } => "rt_sigprocmask",
            Begun::RtSigpending => "rt_sigpending",
            Begun::RtSigtimedwait { .. } => "rt_sigtimedwait",
            Begun::Setitimer { .. } => "setitimer",
            Begun::GetPdeathsig | Begun::GetChildSubreaper => "prctl",
            Begun::Prlimit { .. } => "prlimit64",
        }
    }

    /// What strace shows of `call` before it returns.
    pub fn of(call: &Syscall) -> Begun {
        match call.clone() {
            Syscall::Clone { flags, clone3: None, .. } if flags & names::STORES != 0 => {
                Begun::Clone { flags }
            }
            Syscall::Execve { path, .. } => Begun::Execve { path },
            Syscall::Chdir { path, .. } => Begun::Chdir { path },
            Syscall::Wait4 { pid, .. } => Begun::Wait4 { pid },
            Syscall::Waitid { idtype, id, .. } => Begun::Waitid { idtype, id },
            Syscall::RtSigaction { sig, act, .. } => Begun::RtSigaction { sig, act },
            Syscall::RtSigprocmask { how, set, .. } => Begun::RtSigprocmask { how, set },
            Syscall::RtSigpending { .. } => Begun::RtSigpending,
            Syscall::RtSigtimedwait { set, .. } => Begun::RtSigtimedwait { set },
            Syscall::Setitimer { which, new, .. } => Begun::Setitimer { which, new },
            Syscall::Prctl(Prctl::GetPdeathsig(_)) => Begun::GetPdeathsig,
            Syscall::Prctl(Prctl::GetChildSubreaper(_)) => Begun::GetChildSubreaper,
            Syscall::Prlimit { pid, resource, new, .. } => Begun::Prlimit { pid, resource, new },
            whole => Begun::Whole(whole),
        }
    }
}

/// Text that is not what strace would write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The byte in the line, from 1.
    pub column: u32,
    /// What was expected there.
    pub what: Cow<'static, str>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl core::error::Error for ParseError {}

/// Why a call could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Not what strace would write. The offset is in bytes.
    Syntax {
        /// Where.
        at: usize,
        /// What was expected.
        what: Cow<'static, str>,
    },
    /// Well-formed, but nothing that [`Syscall`] can hold.
    Unmodelled,
}

/// Prints a call that returned: `getpid() = 1`.
pub fn print<'a>(call: &'a Syscall, outcome: &'a Outcome) -> impl fmt::Display + 'a {
    Whole { call, outcome, mask: SigSet::EMPTY }
}

/// Reads a call that returned, as [`print()`] writes it.
///
/// Linear in the length of the text.
///
/// # Errors
///
/// For text that is not such a call, and for calls that [`Syscall`] cannot express: other
/// calls, and addresses where the model needs the value behind them.
pub fn parse(text: &str) -> core::result::Result<(Syscall, Outcome), ParseError> {
    let error = |at: usize, what| ParseError {
        line: 1,
        column: u32::try_from(at + 1).unwrap_or(u32::MAX),
        what,
    };
    match whole(text) {
        Ok(read) => Ok((read.call, read.outcome)),
        Err(Fault::Syntax { at, what }) => Err(error(at, what)),
        Err(Fault::Unmodelled) => Err(error(0, "expected a call that the model has".into())),
    }
}

pub(crate) use parse::{begun, siginfo, whole};
pub(crate) use print::{Head, Info, Tail, Whole};

/// The signal of a name with `SIG`, for the lines that are not calls.
pub(crate) fn signal(name: &str) -> Option<Signal> {
    name.strip_prefix("SIG")?;
    Signal::from_name(name)
}
