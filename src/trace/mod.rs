//! Logs of calls and signals, in the format of `strace -f`.
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
/// `Display` prints each entry on its line, so a log that is printed and read again is equal. It
/// prints blank lines for lines without an entry. An entry whose line number is not larger than
/// that of the entry before is printed on the next line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Log {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// A line of a log with an event.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// The line, from 1.
    pub line: u32,
    /// The thread; 0 if the line has no number, as without `-f`.
    pub pid: Pid,
    /// The event.
    pub event: LogEvent,
}

/// The event that a line shows.
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
    /// [`CallPrefix::Complete`] if all its arguments are known, from this line or from the line
    /// that resumes the call. [`CallPrefix::Partial`] with the arguments of this line if no line
    /// resumes the call.
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
    /// rt_sigreturn(2): a handler returned. A line that resumes it is [`LogEvent::Resumed`].
    Sigreturn {
        /// The mask that is restored.
        mask: SigSet,
        /// The result of the interrupted call; `None` while it is unfinished.
        returned: Option<CallEnd>,
    },
    /// A signal is about to be delivered: `--- SIGHUP {…} ---`.
    Signal(SigInfo),
    /// A signal whose siginfo has fields that the model does not keep.
    OtherSignal {
        /// The signal.
        signal: Signal,
        /// The text after its name.
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
        /// Whether the kernel wrote a core file.
        core: bool,
    },
    /// Another thread called execve(2) and took the number of this thread:
    /// `+++ superseded by execve in pid 5 +++`.
    Superseded(Pid),
    /// A call, or part of one, that the model does not have.
    Other {
        /// Its name.
        name: Box<str>,
        /// The line, without number and time.
        text: Box<str>,
    },
    /// A message of strace: `strace: Process 5 attached`.
    Notice(Box<str>),
}
