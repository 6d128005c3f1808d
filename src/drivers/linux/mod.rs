//! Real children: a tree of processes that is contained, watched, and ended with its owner's
//! handle.
//!
//! [`ProcessTree`] spawns children into one containment: a cgroup of its own where there is a v2
//! hierarchy to make it in ([`Mechanism::Cgroup`]), else process groups and a look through /proc
//! ([`Mechanism::Scan`]). Where neither can be had it reaches its direct children alone
//! ([`Mechanism::Children`]). Each direct child is a process of a
//! [`ProcessTable`](crate::table::ProcessTable) under the host's authority, so that waits, events
//! and callbacks are the table's.
//!
//! # What holds with which mechanism
//!
//! | | cgroup | scan |
//! |---|---|---|
//! | children, grandchildren, their groups and sessions | found and killed | found and killed |
//! | a daemon: double fork, setsid | found and killed | found by its marks |
//! | one that also clears its environment | found and killed | found by the mark in its limits |
//! | one that also changes its limit of file locks | found and killed | escapes |
//! | a running process that is adopted | moved into it | marked in its limits |
//! | suspended | frozen | stopped, which they can see |
//! | CPU time of ended members | counted | of children, with what they waited for |
//! | orphans | init's, or reaped with [`Options::subreaper`] | the same |
//! | limits | by controllers of v2, else of v1 | by controllers of v1 |
//!
//! [`preflight`] tells what is available; [`ProcessTree::enforced`] and [`Stats`] tell what
//! enforces a limit, and where a figure comes from.
//!
//! Spawns, waits and shutdowns block their thread, or are futures for any executor:
//! [`ProcessTree::spawn_async`], [`Child::wait_async`], [`ProcessTree::shutdown_async`].
//!
//! [`Command::output`], and [`Pipeline`] for input, lines, timeouts and several commands, run
//! programs to their end in a tree of their own. docs/LIBRARY.md of the repository shows each of
//! these beside the standard library, tokio, duct and processkit.
//!
//! Not covered by either: a process in uninterruptible sleep ends only when the kernel lets it,
//! and one that is root can move itself into another cgroup.
//!
//! ```
//! use std::time::Duration;
//! use proctable::abi::{Signal, WaitStatus};
//! use proctable::drivers::linux::{Command, ProcessTree};
//!
//! let tree = ProcessTree::new()?;
//! let child = tree.spawn(Command::new("sh").arg("-c").arg("exit 3"))?;
//! assert_eq!(child.wait()?, WaitStatus::exited(3));
//!
//! let sleeper = tree.spawn(Command::new("sleep").arg("100"))?;
//! tree.shutdown(Signal::TERM, Duration::from_secs(5))?;
//! assert_eq!(sleeper.wait()?, WaitStatus::killed(Signal::TERM, false));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adopt;
mod asynchronous;
mod attributes;
mod capture;
mod captures;
mod cgroup;
mod child;
mod child_handle;
mod command;
mod delegate;
mod ending;
mod guardian;
mod host_process;
mod limit;
mod lines;
mod member_watch;
mod members;
mod options;
mod orphans;
mod output;
mod pidfd;
mod pipe_io;
mod pipeline;
mod preflight;
mod procfs;
mod pty;
mod reaper;
mod redirect;
mod scan;
mod scope;
mod signalfd;
mod spawn_error;
mod spawner;
mod spawning;
mod stats;
mod sweep;
mod tree;
mod watch;
mod zombies;

pub use capture::Capture;
pub use captures::output_many;
pub use child_handle::Child;
pub use command::{Command, Pipes, Stdio};
pub use delegate::Delegate;
pub use ending::Shutdown;
pub use limit::{Enforced, Enforcer, Limit, Limits};
pub use lines::{Line, Lines};
pub use member_watch::{MemberChange, MemberWatch};
pub use members::Member;
pub use options::{OnDrop, Options, OwnerDeath};
pub use output::{Output, RunError, Stream, Usage};
pub use pipeline::Pipeline;
pub use preflight::{Available, Preflight, preflight};
pub use procfs::OwnProc;
pub use pty::{PtyMaster, PtySlave, window_size};
pub use reaper::{Creating, Reaper, Unproved, Zombie};
pub use signalfd::{SignalFd, end_by_signal, ignored_signals, stop_by_signal};
pub use spawn_error::{SpawnError, Step};
pub use stats::{Figure, Source, Stats};
pub use sweep::{SweepReport, sweep};
pub use tree::{Mechanism, ProcessTree};

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether numbers in /proc are those of this process's own pid namespace, or where else it may
/// have such a proc file system. It is proved anew at each call, for five system calls.
///
/// # Errors
///
/// Why there is none, in words.
pub fn own_proc() -> io::Result<OwnProc> {
    procfs::Proc::own().map(|proc| proc.from)
}

/// Makes a process group the foreground group of a terminal, also from the background, as the
/// shell of the session may: tcsetpgrp(3) with SIGTTOU blocked.
///
/// # Errors
///
/// ENOTTY if it is not the controlling terminal, EPERM if the group is in another session.
pub fn set_foreground(terminal: impl AsFd, group: i32) -> io::Result<()> {
    child::set_foreground(terminal.as_fd().as_raw_fd(), group)
}

/// The process group of a process, or of the caller for 0: getpgid(2). A group that has no number
/// in this pid namespace is 0.
///
/// # Errors
///
/// ESRCH if there is no process of that number.
pub fn process_group(pid: i32) -> io::Result<i32> {
    match attributes::group(pid) {
        -1 => Err(io::Error::last_os_error()),
        group => Ok(group),
    }
}

/// Whether this process leads its session: the kernel sends SIGHUP to the leader alone when the
/// terminal hangs up.
pub fn leads_session() -> bool {
    attributes::leads_session()
}
