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
//! The text has fixed values where the model has none, and a reader skips them: addresses, the
//! arguments and the environment of execve(2), resource usage, CPU times. The order of the flags is
//! that of the logs in `tests/traces/sequential`; a reader accepts any order.

mod call;
mod cursor;
mod irregular;
mod kind;
mod names;
mod parse;
mod print;
mod result;
mod terminal;

use alloc::borrow::Cow;
use core::fmt;

use crate::abi::{SigSet, Signal};

use super::{Prctl, Ptr, Result, Syscall};

/// The code with which an interrupted call returns inside of the kernel: strace shows it before the
/// kernel has decided between a restart and EINTR (SIG-44).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RestartCode {
    /// ERESTARTSYS: restarted unless a handler without SA_RESTART runs.
    Sys,
    /// ERESTARTNOINTR: always restarted.
    NoIntr,
    /// ERESTARTNOHAND: restarted unless a handler runs.
    NoHand,
    /// ERESTART_RESTARTBLOCK: restarted by restart_syscall(2) unless a handler runs.
    Block,
}

/// The text after the `=`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CallEnd {
    /// The call returned; or, with [`Ret::Never`](super::Ret::Never), it does not return: `= ?`.
    Returned(Result),
    /// A signal interrupted the call: `= ? ERESTARTSYS (…)`.
    Interrupted(RestartCode),
}

impl From<Result> for CallEnd {
    fn from(result: Result) -> CallEnd {
        CallEnd::Returned(result)
    }
}

/// The part of a call that strace shows before the call returns: `wait4(-1,  <unfinished ...>`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CallPrefix {
    /// The whole call.
    Complete(Syscall),
    /// Without the arguments from the first one through which the call stores a value, and without
    /// values that only the return shows. These arguments have their defaults.
    Partial(Syscall),
}

impl CallPrefix {
    /// The call. In a [`CallPrefix::Partial`] not all its arguments count.
    pub fn call(&self) -> &Syscall {
        match self {
            CallPrefix::Complete(call) | CallPrefix::Partial(call) => call,
        }
    }

    /// The name of the call, as strace(1) writes it.
    pub fn name(&self) -> &'static str {
        self.call().name()
    }

    /// The part of `call` that strace shows before the call returns.
    pub fn of(call: &Syscall) -> CallPrefix {
        let mut head = call.clone();
        // the arguments of these two decide whether they store a value
        let stores = match &mut head {
            Syscall::Clone { flags, clone3: None, parent_tid, child_tid } => {
                let stores = *flags & names::STORES != 0;
                (*parent_tid, *child_tid) = if stores { (0, 0) } else { (*parent_tid, *child_tid) };
                stores
            }
            Syscall::Prctl(Prctl::GetPdeathsig(ptr) | Prctl::GetChildSubreaper(ptr)) => {
                *ptr = Ptr::default();
                true
            }
            head => head.cut(),
        };
        if stores { CallPrefix::Partial(head) } else { CallPrefix::Complete(head) }
    }
}

/// A text that strace would not write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The byte in the line, from 1.
    pub column: u32,
    /// The text that was expected there.
    pub what: Cow<'static, str>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl core::error::Error for ParseError {}

/// The reason why a call could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A text that strace would not write. The offset is in bytes.
    Syntax {
        /// The offset.
        at: usize,
        /// The text that was expected there.
        what: Cow<'static, str>,
    },
    /// Well-formed, but [`Syscall`] cannot express it.
    Unmodelled,
}

/// Prints a call that has returned: `getpid() = 1`.
pub fn print<'a>(call: &'a Syscall, outcome: &'a CallEnd) -> impl fmt::Display + 'a {
    Whole { call, outcome, mask: SigSet::EMPTY }
}

/// Reads a call that has returned, as [`print()`] writes it.
///
/// Linear in the length of the text.
///
/// # Errors
///
/// A text that is no such call, and a call that [`Syscall`] cannot express: another call, or an
/// address if the model needs the value at it.
pub fn parse(text: &str) -> core::result::Result<(Syscall, CallEnd), ParseError> {
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

pub(crate) use call::{Head, Tail, Whole, begun, whole};
pub(crate) use parse::siginfo;
pub(crate) use print::Info;

/// The signal of a name with `SIG`, for the lines that are not calls.
pub(crate) fn signal(name: &str) -> Option<Signal> {
    name.strip_prefix("SIG")?;
    Signal::from_name(name)
}
