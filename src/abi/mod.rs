//! The vocabulary: numbers, signals, sets and statuses as the kernel's interface defines them.
//!
//! Everything here is a plain value. Raw integers of a guest become these types in
//! [`syscall`](crate::syscall), with the kernel's own errno where they do not fit.

mod errno;
mod id;
mod limit;
mod sigaction;
mod siginfo;
mod signal;
mod sigset;
mod time;
mod wait;

pub use errno::Errno;
pub use id::{Pgid, Pid, Sid, Uid};
pub use limit::{Resource, Rlimit};
pub use sigaction::{Handler, SaFlags, SigAction};
pub use siginfo::{SiCode, SigInfo};
pub use signal::{DefaultAction, Signal};
pub use sigset::SigSet;
pub use time::{Itimerval, Time, Timespec, Timeval};
pub use wait::{IdType, WaitOptions, WaitStatus};
