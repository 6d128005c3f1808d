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

mod call;
mod cursor;
mod irregular;
mod kind;
mod names;
mod parse;
mod print;
mod result;

use alloc::borrow::Cow;
use core::fmt;

use crate::abi::{SigSet, Signal};

use super::{Prctl, Ptr, Result, Syscall};

/// Why an interrupted call came back to the edge of the kernel: strace shows this before the
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

/// What stands behind the `=`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CallEnd {
    /// The call returned; or, with [`Ret::Never`](super::Ret::Never), it never does: `= ?`.
    Returned(Result),
    /// A signal interrupted the call: `= ? ERESTARTSYS (…)`.
    Interrupted(RestartCode),
}

impl From<Result> for CallEnd {
    fn from(result: Result) -> CallEnd {
        CallEnd::Returned(result)
    }
}

/// A call as far as strace shows it before it returns: `wait4(-1,  <unfinished ...>`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CallPrefix {
    /// All of it.
    Whole(Syscall),
    /// Without the arguments from the first one on through which the call stores something, and
    /// without what only its end tells. Those have their defaults.
    Head(Syscall),
}

impl CallPrefix {
    /// The call. In a [`CallPrefix::Head`] not all its arguments count.
    pub fn call(&self) -> &Syscall {
        match self {
            CallPrefix::Whole(call) | CallPrefix::Head(call) => call,
        }
    }

    /// The name of the call, as strace(1) writes it.
    pub fn name(&self) -> &'static str {
        self.call().name()
    }

    /// What strace shows of `call` before it returns.
    pub fn of(call: &Syscall) -> CallPrefix {
        let mut head = call.clone();
        // whether these two store something is in their arguments
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
        if stores { CallPrefix::Head(head) } else { CallPrefix::Whole(head) }
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
pub fn print<'a>(call: &'a Syscall, outcome: &'a CallEnd) -> impl fmt::Display + 'a {
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
