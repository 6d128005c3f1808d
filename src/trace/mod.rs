//! The record: logs of calls and signals, as `strace -f` writes them.
//!
//! ```
//! use proctable::trace::{self, LogEvent};
//!
//! let log = "\
//! 1 wait4(-1,  <unfinished ...>
//! 2 exit_group(3) = ?
//! 2 +++ exited with 3 +++
//! 1 <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 2
//! ";
//! let read = trace::read(log.as_bytes())?;
//! assert_eq!(read.entries.len(), 4);
//! assert!(matches!(read.entries[2].event, LogEvent::Exited(3)));
//! assert_eq!(read.to_string(), log);
//! # Ok::<(), proctable::trace::ParseError>(())
//! ```

mod line;
mod read;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::abi::{Pid, SigInfo, SigSet, Signal};
use crate::syscall::Syscall;

pub use crate::syscall::text::{CallEnd, CallPrefix, ParseError, RestartCode};
pub use read::read;

/// A log: its entries in the order of their lines.
///
/// `Display` writes it as it was read, on the same lines: what is printed and read again is
/// equal. Blank lines in between make up for lines without an entry; entries whose line is
/// not above the last one's follow on the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Log {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// A line of a log that says something.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// The line, from 1.
    pub line: u32,
    /// The thread; 0 where the line does not say it, as without `-f`.
    pub pid: Pid,
    /// What happened.
    pub event: LogEvent,
}

/// What a line of a log says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LogEvent {
    /// A call began and ended: `getpid() = 1`.
    Call {
        /// The call.
        call: Syscall,
        /// How it ended.
        outcome: CallEnd,
    },
    /// A call began: `wait4(-1,  <unfinished ...>`.
    ///
    /// [`CallPrefix::Whole`] if all its arguments are known, from here or from the line that
    /// resumes it. For a call that is never resumed, what is shown here.
    Unfinished(CallPrefix),
    /// A call that had begun ended: `<... wait4 resumed>…`.
    Resumed {
        /// The call, with all arguments.
        call: Syscall,
        /// How it ended.
        outcome: CallEnd,
    },
    /// The thread died in a call: `wait4(-1,  <unfinished ...>) = ?`.
    Cut(CallPrefix),
    /// The thread died in a call that had begun: `<... wait4 resumed> <unfinished ...>) = ?`.
    ResumedCut(CallPrefix),
    /// rt_sigreturn(2): a handler ended. A line that resumes it is [`LogEvent::Resumed`].
    Sigreturn {
        /// The mask that is restored.
        mask: SigSet,
        /// What the interrupted call returns to the program; `None` while it is unfinished.
        returned: Option<CallEnd>,
    },
    /// A signal is about to be delivered: `--- SIGHUP {…} ---`.
    Signal(SigInfo),
    /// A signal whose siginfo has fields that the model does not keep.
    OtherSignal {
        /// The signal.
        signal: Signal,
        /// What follows its name.
        text: Box<str>,
    },
    /// The thread stopped: `--- stopped by SIGSTOP ---`.
    Stopped(Signal),
    /// The thread exited: `+++ exited with 3 +++`.
    Exited(u8),
    /// The thread was killed: `+++ killed by SIGSEGV (core dumped) +++`.
    Killed {
        /// The signal.
        signal: Signal,
        /// Whether a core was written.
        core: bool,
    },
    /// The thread's number went to another that called execve(2):
    /// `+++ superseded by execve in pid 5 +++`.
    Superseded(Pid),
    /// A call, or part of one, that the model does not have.
    Other {
        /// Its name.
        name: Box<str>,
        /// The line, without number and time.
        text: Box<str>,
    },
    /// A remark of strace: `strace: Process 5 attached`.
    Notice(Box<str>),
}
