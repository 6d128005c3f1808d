//! A thread as the controller watches it, and its state according to its files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::procfs::{self, SleepFile, Status};
use super::shared_memory::Mailbox;
use crate::abi::{DefaultAction, Pgid, Pid, SigSet, Signal};
use crate::kernel::{RunState, View};
use crate::syscall::{Syscall, clone};

/// A thread, from its creation until it does not exist any more. A process is represented by its
/// leader, which has the process's number and stays as long as any thread of the process is alive
/// (TG-87).
#[derive(Debug)]
pub(super) struct Task {
    /// The thread's number.
    pub(super) tid: u32,
    /// Its process's number.
    pub(super) tgid: u32,
    /// Its number in /proc.
    pub(super) host: u32,
    /// Its number in the controller's namespace.
    pub(super) outer: u32,
    /// The thread's /proc/TID/status. The open file also follows a number that another thread takes
    /// (EXEC-12).
    pub(super) status: File,
    /// The file that shows whether the thread sleeps, if the kernel has one.
    pub(super) sleep_file: Option<(SleepFile, File)>,
    /// The pidfd of the process; for a leader only.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) pgid: Pgid,
    /// The calls in progress; the innermost is the last.
    pub(super) calls: Vec<u32>,
    /// Whether the process has ended; for a leader only.
    pub(super) ended: bool,
}

/// A call in progress.
#[derive(Debug)]
pub(super) struct PendingCall {
    /// The calling thread.
    pub(super) tid: u32,
    /// `None` for calls of the controller's own.
    pub(super) call: Option<Syscall>,
    /// The calls that the thread was in when it made this one, outside of running handlers.
    pub(super) outer: Vec<u32>,
    /// The number of threads that had been created before the call.
    pub(super) new_tasks: usize,
    /// Whether the thread or process that the call creates has been registered.
    pub(super) created: bool,
}

/// A sample of a thread.
pub(super) enum TaskSample {
    /// The thread does not exist any more.
    Gone,
    /// The thread runs, or is about to run.
    Busy,
    /// The thread is at rest.
    Rests(RunState, Status),
}

impl Task {
    /// Opens the files of a thread in /proc; `None` if it does not exist any more.
    pub(super) fn open(tid: u32, tgid: u32, host: u32, kind: Option<SleepFile>) -> Option<Task> {
        let status = File::open(format!("/proc/{host}/status")).ok()?;
        let first = procfs::read(&status, false).ok()??;
        let sleep_file = kind.and_then(|kind| Some((kind, kind.open(host).ok()?)));
        let pidfd = if tid == tgid { super::os::pidfd_open(first.outer_pid).ok() } else { None };
        let (outer, pgid, calls) = (first.outer_pid, first.pgid, Vec::new());
        Some(Task { tid, tgid, host, outer, status, sleep_file, pidfd, pgid, calls, ended: false })
    }

    /// Whether the thread is the leader of its process.
    pub(super) fn is_leader(&self) -> bool {
        self.tid == self.tgid
    }

    /// Whether a call in progress of the thread creates a thread or process that is not registered
    /// yet.
    pub(super) fn is_making(&self, made: &HashMap<u32, PendingCall>) -> bool {
        let inner = self.calls.last().and_then(|command| made.get(command));
        inner.is_some_and(PendingCall::is_making)
    }

    /// Samples the thread. If the call was made `soon` before, a thread that a pending signal ends
    /// is not at rest; later it is, because the action of the signal may have changed. If `slept`
    /// is required between two samples, the thread has to sleep in each.
    pub(super) fn sample(
        &mut self,
        slot: &Mailbox,
        inner: Option<&PendingCall>,
        soon: bool,
        slept: bool,
    ) -> io::Result<TaskSample> {
        let Some(status) = procfs::read(&self.status, slept)? else { return Ok(TaskSample::Gone) };
        self.pgid = status.pgid;
        let run = self.run(&status, slot, inner, soon);
        let run = run.filter(|run| self.is_at_rest(*run, &status, inner, slept));
        // a thread that is ending may sleep in the same state
        let run = run.filter(|run| *run != RunState::Vfork || !soon || !is_doomed(&status));
        Ok(run.map_or(TaskSample::Busy, |run| TaskSample::Rests(run, status)))
    }

    /// The state of the thread, if it is at rest.
    fn run(
        &self,
        status: &Status,
        slot: &Mailbox,
        inner: Option<&PendingCall>,
        soon: bool,
    ) -> Option<RunState> {
        let call = inner.and_then(|made| made.call.as_ref());
        let busy = slot.busy.load(Acquire) != 0;
        match status.state {
            // any other thread is released without a wait, and so is a process whose thread count
            // is 0
            b'Z' if self.is_leader() && status.threads > 0 => return Some(RunState::Zombie),
            b'Z' | b'X' => return None,
            _ if status.private.contains(Signal::KILL) => return None,
            b'T' => return Some(RunState::Stopped),
            _ => {}
        }
        match (status.state, call) {
            // an init that is ending sleeps while it waits for the other processes (NS-08)
            (_, Some(Syscall::Exit(_) | Syscall::ExitGroup(_))) => None,
            (b'S', _) if !(status.private - status.blocked).is_empty() => None,
            // several threads: another thread may have been chosen for the signal, and this one
            // continues to sleep (TG-39)
            (b'S', _) if status.threads < 2 && !(status.shared - status.blocked).is_empty() => None,
            (b'S', _) if busy => Some(RunState::Blocked),
            (b'S', _) if slot.command.load(Acquire) != slot.taken.load(Relaxed) => None,
            (b'S', _) => Some(RunState::User),
            // a child that is not registered yet registers itself soon, unless it was stopped
            // before
            (b'D', Some(call)) if waits_for_child(call) => {
                (inner?.created || !soon).then_some(RunState::Vfork)
            }
            _ => None,
        }
    }

    /// Whether a thread that seems to be in the state `run` is at rest.
    fn is_at_rest(
        &self,
        run: RunState,
        status: &Status,
        inner: Option<&PendingCall>,
        slept: bool,
    ) -> bool {
        let call = inner.and_then(|made| made.call.as_ref());
        let waits = matches!(call, Some(Syscall::Wait4 { .. } | Syscall::Waitid { .. }));
        let asked = match run {
            RunState::Stopped => true,
            RunState::Blocked | RunState::User => {
                let signalled = !(status.shared - status.blocked).is_empty();
                slept || signalled || run == RunState::Blocked && waits
            }
            RunState::Vfork => slept,
            RunState::Zombie => false,
        };
        let file = self.sleep_file.as_ref().filter(|_| asked);
        file.is_none_or(|(kind, file)| kind.sleeps(file))
    }
}

impl PendingCall {
    /// Whether the call may create a thread or a process.
    pub(super) fn makes_a_task(&self) -> bool {
        matches!(self.call, Some(Syscall::Fork | Syscall::Vfork | Syscall::Clone { .. }))
    }

    /// Whether the call creates a thread or process that is not registered yet.
    pub(super) fn is_making(&self) -> bool {
        self.makes_a_task() && !self.created
    }

    /// Whether the call creates a thread.
    pub(super) fn makes_a_thread(&self) -> bool {
        matches!(self.call, Some(Syscall::Clone { flags, .. }) if flags & clone::THREAD != 0)
    }
}

/// Whether the caller sleeps until its child executes a program or ends (FORK-28, TG-26).
fn waits_for_child(call: &Syscall) -> bool {
    *call == Syscall::Vfork
        || matches!(call, Syscall::Clone { flags, .. } if flags & clone::VFORK != 0)
}

/// Whether a pending signal ends the thread, though it is not a zombie yet: such a signal stays
/// pending. A signal that dumps core, or that follows another one, takes effect only when the
/// process looks at its signals.
fn is_doomed(status: &Status) -> bool {
    let pending = (status.private | status.shared) - status.blocked;
    let mut signals = pending.iter();
    let (first, second) = (signals.next(), signals.next());
    first.filter(|_| second.is_none()).is_some_and(|signal| {
        let default = !(status.caught | status.ignored).contains(signal);
        default && signal.default_action() == DefaultAction::Terminate
    })
}

/// The state according to the files.
pub(super) fn view(status: &Status, run: RunState, ppid: Pid) -> View {
    let alive = |set: SigSet| if run == RunState::Zombie { SigSet::EMPTY } else { set };
    View {
        run,
        tgid: status.tgid,
        ppid,
        pgid: status.pgid,
        sid: status.sid,
        private: alive(status.private),
        shared: alive(status.shared),
        blocked: alive(status.blocked),
        ignored: alive(status.ignored),
        caught: alive(status.caught),
    }
}
