//! What can be seen of a process from outside.

use alloc::sync::Arc;

use crate::abi::{Pgid, Pid, Sid, SigSet, Uid};

/// What a task is doing, as the state letter of proc(5) and a controller of it can tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RunState {
    /// It runs its own code: letter R, or S while its controller has nothing for it to do.
    User,
    /// It sleeps in a call that a signal can interrupt: letter S.
    Blocked,
    /// It waits for its vfork child (FORK-28): letter D.
    Vfork,
    /// It is stopped: letter T.
    Stopped,
    /// It is dead and not reaped, or a leader that others outlive (TG-87): letter Z.
    Zombie,
}

/// A task, which is a thread of a process, from outside: proc_pid_status(5), in the numbers of its
/// own namespace.
///
/// Of a zombie only `run`, `tgid`, `ppid`, `pgid` and `sid` are filled. So it is of a leader that
/// has ended while other threads of its process live (TG-87).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct View {
    /// What it is doing.
    pub run: RunState,
    /// Tgid: its process.
    pub tgid: Pid,
    /// Its parent; 0 if that is not visible.
    pub ppid: Pid,
    /// Its process group; 0 if that is not visible.
    pub pgid: Pgid,
    /// Its session; 0 if that is not visible.
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

/// What calls change and fork copies: who a process is, and where it works.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attributes {
    /// Its umask (MISC-01).
    pub umask: u32,
    /// Its working directory (MISC-02).
    pub cwd: Arc<str>,
    /// Its real, effective and saved user (CRED-01).
    pub users: [Uid; 3],
}
