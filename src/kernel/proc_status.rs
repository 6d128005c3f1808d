//! The state of a task as /proc shows it.

use crate::abi::{Pgid, Pid, Resource, Rlimit, Sid, SigSet, Signal, Uid, WaitStatus};
use crate::kernel::api::view::RunState;
use crate::kernel::state::process::{JobControl, Life};
use crate::kernel::{Kernel, View, run_of};

/// What proc_pid_stat(5) and proc_pid_status(5) show of a task and its process, as far as the model
/// has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProcStatus {
    /// The number of the task.
    pub tid: Pid,
    /// The number of its process.
    pub tgid: Pid,
    /// The parent; 0 if the parent is not visible.
    pub ppid: Pid,
    /// The process group; 0 if the group is not visible.
    pub pgid: Pgid,
    /// The session; 0 if the session is not visible.
    pub sid: Sid,
    /// The number of the controlling terminal in /dev/pts, and its foreground group (TTY-35).
    pub terminal: Option<(u32, Pgid)>,
    /// The activity of the task.
    pub run: RunState,
    /// The real, effective and saved user.
    pub users: [Uid; 3],
    /// Whether the task has the capabilities of root (CapEff).
    pub capable: bool,
    /// Whether the task may have them (CapPrm).
    pub permitted: bool,
    /// The umask; `None` for a task that has ended.
    pub umask: Option<u32>,
    /// How many tasks the process has, a leader that has ended included.
    pub threads: u32,
    /// How many signal records the real user has, over all processes.
    pub queued: u32,
    /// The limit of these records.
    pub sigpending: Rlimit,
    /// The limit of the resident set.
    pub rss: Rlimit,
    /// The signals pending for the task alone. A zombie still has the signals that it did not take.
    pub private: SigSet,
    /// The signals pending for the process.
    pub shared: SigSet,
    /// The mask.
    pub blocked: SigSet,
    /// The signals set to SIG_IGN.
    pub ignored: SigSet,
    /// The signals that are caught.
    pub caught: SigSet,
    /// The signal to the parent at the end; `None` for a thread that is not the leader.
    pub exit_signal: Option<u8>,
    /// Whether the process has not executed a program since it was forked (PF_FORKNOEXEC).
    pub fork_no_exec: bool,
    /// How the process ended, as a zombie shows it (WAIT-33); `None` while it is alive.
    pub status: Option<WaitStatus>,
    /// The signal of the present stop of the process.
    pub stop: Option<Signal>,
}

impl Kernel {
    /// What /proc shows of a task, dead or alive; `None` if no task has that number. O(1).
    pub fn proc_status(&self, tid: Pid) -> Option<ProcStatus> {
        let View { tgid, ppid, pgid, sid, .. } = self.view(tid)?;
        let id = self.task_numbered(tid)?;
        let task = &self.tasks[id];
        let process = &self.processes[task.process];
        let run = run_of(task);
        let sighand = &self.sighands[process.sighand];
        let limits = process.limits();
        let is_leader = process.leader == id;
        let umask = (run != RunState::Zombie).then(|| self.fs_of(id).umask);
        let stop = match process.life {
            Life::Alive(JobControl::Stopped { signal, .. }) => Some(signal),
            _ => None,
        };
        // TTY-35
        let terminal = self.controlling_terminal(task.process);
        let terminal = terminal.and_then(|number| Some((number, self.foreground(number)?.number)));
        Some(ProcStatus {
            terminal,
            tid,
            tgid,
            ppid,
            pgid,
            sid,
            run,
            users: task.cred.users(),
            capable: task.cred.capable,
            permitted: task.cred.permitted,
            umask,
            threads: process.task_count(),
            queued: self.count_of(task.cred.real).queued,
            sigpending: limits.get(Resource::SIGPENDING),
            rss: limits.get(Resource::RSS),
            private: task.pending.set(),
            shared: process.shared.set(),
            blocked: task.mask,
            ignored: sighand.ignored(),
            caught: sighand.caught(),
            exit_signal: is_leader.then_some(process.exit_signal),
            fork_no_exec: !process.flags.executed,
            status: self.shown_exit_status(tgid),
            stop,
        })
    }

    /// The limit of a resource of a process, dead or alive; `None` if there is no such process.
    pub fn limit(&self, pid: Pid, resource: Resource) -> Option<Rlimit> {
        Some(self.processes[self.process_numbered(pid)?].limits().get(resource))
    }
}
