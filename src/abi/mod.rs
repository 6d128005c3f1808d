//! Numbers, signals, sets and statuses as the interface of the kernel defines them.
//!
//! All types are plain values. The model turns the raw integers in a guest's
//! [`syscall`](crate::syscall) into these types; an integer that does not fit gets the errno of the
//! kernel.

mod errno;
mod id;
mod limit;
mod sigaction;
mod siginfo;
mod signal;
mod sigset;
mod time;
mod usage;
mod wait;

pub use errno::Errno;
pub use id::{Pgid, Pid, Sid, Uid};
pub use limit::{Resource, Rlimit};
pub use sigaction::{Handler, SaFlags, SigAction};
pub use siginfo::{SiCode, SigInfo};
pub use signal::{DefaultAction, Signal};
pub use sigset::SigSet;
pub use time::{Itimerval, Time, Timespec, Timeval};
pub use usage::Rusage;
pub use wait::{IdType, WaitOptions, WaitStatus};
