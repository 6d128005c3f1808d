//! The state of a task as other processes see it.

use alloc::sync::Arc;

use crate::abi::{Pgid, Pid, Sid, SigSet, Uid};

/// The activity of a task, as its state letter in proc(5) and its controlling program show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RunState {
    /// It is in user mode: letter R, or S while its controlling program has no call for it.
    User,
    /// It sleeps in a call that a signal can interrupt: letter S.
    Blocked,
    /// It waits for its vfork child (FORK-28): letter D.
    Vfork,
    /// It is stopped: letter T.
    Stopped,
    /// It is dead and not reaped, or a dead leader of living threads (TG-87): letter Z.
    Zombie,
}

/// The state of a task as proc_pid_status(5) shows it, with the numbers of its own namespace.
///
/// A zombie has only `run`, `tgid`, `ppid`, `pgid` and `sid`. So has a leader that has ended while
/// other threads of its process live (TG-87).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct View {
    /// Its activity.
    pub run: RunState,
    /// Tgid: the number of its process.
    pub tgid: Pid,
    /// Its parent; 0 if the parent is not visible.
    pub ppid: Pid,
    /// Its process group; 0 if the group is not visible.
    pub pgid: Pgid,
    /// Its session; 0 if the session is not visible.
    pub sid: Sid,
    /// SigPnd: pending for the thread.
    pub private: SigSet,
    /// ShdPnd: pending for the process.
    pub shared: SigSet,
    /// SigBlk: the mask in force.
    pub blocked: SigSet,
    /// SigIgn: the signals set to SIG_IGN.
    pub ignored: SigSet,
    /// SigCgt: the signals that are caught.
    pub caught: SigSet,
}

/// The attributes of a process that calls change and fork copies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attributes {
    /// Its umask (MISC-01).
    pub umask: u32,
    /// Its working directory (MISC-02).
    pub cwd: Arc<str>,
    /// Its real, effective and saved user (CRED-01).
    pub users: [Uid; 3],
}
