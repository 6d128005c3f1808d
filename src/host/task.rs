//! A thread as the controller watches it, and what its files say that it is doing.

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

/// A thread, from creation until it is gone. A process is its leader: that has the process's
/// number, and stays as long as any thread of it lives (TG-87).
#[derive(Debug)]
pub(super) struct Task {
    /// Its own number.
    pub(super) tid: u32,
    /// Its process's number.
    pub(super) tgid: u32,
    /// Its number in /proc.
    pub(super) host: u32,
    /// Its number in the controller's namespace.
    pub(super) outer: u32,
    /// Its /proc/TID/status, which also follows a number that another thread takes (EXEC-12).
    pub(super) status: File,
    /// Where there is a file that tells who sleeps.
    pub(super) sleep_file: Option<(SleepFile, File)>,
    /// A leader's: it tells of the process.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) pgid: Pgid,
    /// Its calls in progress: the innermost last.
    pub(super) calls: Vec<u32>,
    /// A leader's: the process has ended.
    pub(super) ended: bool,
}

/// A call that was made.
#[derive(Debug)]
pub(super) struct PendingCall {
    /// By which thread.
    pub(super) tid: u32,
    /// `None` for calls of the controller's own.
    pub(super) call: Option<Syscall>,
    /// The calls that its thread was in, outside of handlers that run.
    pub(super) outer: Vec<u32>,
    /// How many threads had been created before.
    pub(super) new_tasks: usize,
    /// The thread or process that it makes has been created.
    pub(super) bore: bool,
}

/// What a look at a thread says.
pub(super) enum TaskSample {
    /// It is gone.
    Gone,
    /// It moves, or is about to.
    Busy,
    /// It rests.
    Rests(RunState, Status),
}

impl Task {
    /// Opens what /proc has of a thread; `None` if it is gone.
    pub(super) fn open(tid: u32, tgid: u32, host: u32, kind: Option<SleepFile>) -> Option<Task> {
        let status = File::open(format!("/proc/{host}/status")).ok()?;
        let first = procfs::read(&status, false).ok()??;
        let sleep_file = kind.and_then(|kind| Some((kind, kind.open(host).ok()?)));
        let pidfd = if tid == tgid { super::os::pidfd_open(first.outer_pid).ok() } else { None };
        let (outer, pgid, calls) = (first.outer_pid, first.pgid, Vec::new());
        Some(Task { tid, tgid, host, outer, status, sleep_file, pidfd, pgid, calls, ended: false })
    }

    /// Whether it is a process's first thread.
    pub(super) fn is_leader(&self) -> bool {
        self.tid == self.tgid
    }

    /// Whether the call that it is in makes a thread or process that has not been created.
    pub(super) fn is_making(&self, made: &HashMap<u32, PendingCall>) -> bool {
        let inner = self.calls.last().and_then(|command| made.get(command));
        inner.is_some_and(PendingCall::is_making)
    }

    /// Looks at it. `soon` after the call, one that a signal ends does not rest; later it does, as
    /// what the signal does may have been changed since. If it is to be seen that it `slept`
    /// between two looks, it has to sleep in each.
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
        // one that is dying may sleep just so
        let run = run.filter(|run| *run != RunState::Vfork || !soon || !is_doomed(&status));
        Ok(run.map_or(TaskSample::Busy, |run| TaskSample::Rests(run, status)))
    }

    /// What it is doing, if it is quiet.
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
            // any other thread reaps itself, and so does a process without threads that are counted
            b'Z' if self.is_leader() && status.threads > 0 => return Some(RunState::Zombie),
            b'Z' | b'X' => return None,
            _ if status.private.contains(Signal::KILL) => return None,
            b'T' => return Some(RunState::Stopped),
            _ => {}
        }
        match (status.state, call) {
            // a dying init sleeps while it waits for the others (NS-08)
            (_, Some(Syscall::Exit(_) | Syscall::ExitGroup(_))) => None,
            (b'S', _) if !(status.private - status.blocked).is_empty() => None,
            // several threads: another one may have been chosen for it, which sleeps on (TG-39)
            (b'S', _) if status.threads < 2 && !(status.shared - status.blocked).is_empty() => None,
            (b'S', _) if busy => Some(RunState::Blocked),
            (b'S', _) if slot.command.load(Acquire) != slot.taken.load(Relaxed) => None,
            (b'S', _) => Some(RunState::User),
            // a child that has not said that it lives does so soon, unless it was stopped before
            (b'D', Some(call)) if waits_for_child(call) => {
                (inner?.bore || !soon).then_some(RunState::Vfork)
            }
            _ => None,
        }
    }

    /// Whether one that seems to do `run` has really come to rest.
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
    /// Whether the call may make a thread or a process.
    pub(super) fn makes_a_task(&self) -> bool {
        matches!(self.call, Some(Syscall::Fork | Syscall::Vfork | Syscall::Clone { .. }))
    }

    /// Whether it makes one that has not been created.
    pub(super) fn is_making(&self) -> bool {
        self.makes_a_task() && !self.bore
    }

    /// Whether what it makes is a thread.
    pub(super) fn makes_a_thread(&self) -> bool {
        matches!(self.call, Some(Syscall::Clone { flags, .. }) if flags & clone::THREAD != 0)
    }
}

/// Whether the caller sleeps until its child execs or ends (FORK-28, TG-26).
fn waits_for_child(call: &Syscall) -> bool {
    *call == Syscall::Vfork
        || matches!(call, Syscall::Clone { flags, .. } if flags & clone::VFORK != 0)
}

/// Whether a pending signal ends it, though it is not a zombie yet: such a signal stays pending.
/// One that leaves a core, or comes after another one, waits until the process looks at its
/// signals.
fn is_doomed(status: &Status) -> bool {
    let pending = (status.private | status.shared) - status.blocked;
    let mut signals = pending.iter();
    let (first, second) = (signals.next(), signals.next());
    first.filter(|_| second.is_none()).is_some_and(|signal| {
        let default = !(status.caught | status.ignored).contains(signal);
        default && signal.default_action() == DefaultAction::Terminate
    })
}

/// What the files say.
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
