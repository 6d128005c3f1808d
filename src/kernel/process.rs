//! A process: a thread group and what its threads share.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::arena::Id;
use super::family::{Family, Report};
use super::few::Few;
use super::group::Group;
use super::limit::Limits;
use super::sighand::Sighand;
use super::signal::Pending;
use super::thread::Thread;
use super::timer::Itimer;
use crate::abi::{Pid, SigSet, Signal, WaitStatus};

/// Whether a process lives, and what its parent may still want to know about it.
///
/// One value, so that a stopped zombie cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Life {
    /// It lives.
    Alive(Job),
    /// It has to end with that status as soon as it runs: what it reported before is forgotten
    /// (EXIT-12, WAIT-22), and what is sent to it from now on is dropped (EXIT-13).
    Dying(WaitStatus),
    /// It is dead and not reaped.
    Zombie(WaitStatus),
}

/// Job control state: there is at most one event to report (WAIT-26).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Job {
    /// It runs, and has nothing to report.
    Running,
    /// It is stopped.
    Stopped {
        /// By this signal (WAIT-29).
        signal: Signal,
        /// A wait has not consumed the stop yet (WAIT-24).
        unreported: bool,
    },
    /// It runs since SIGCONT was generated.
    Continued {
        /// A wait has not consumed the continue yet (WAIT-25).
        unreported: bool,
        /// It has not run yet, so its parent has not been told (WAIT-38).
        unannounced: bool,
    },
}

/// One process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Process {
    pub life: Life,
    pub pid: Pid,
    /// `None`: not visible, then `outside` is its number for getppid.
    pub parent: Option<Id<Process>>,
    pub outside: Pid,
    pub group: Id<Group>,
    /// Neighbours among the group's members.
    pub group_links: Links,
    /// Neighbours among all processes, in the order of creation.
    pub all_links: Links,
    /// Neighbours among the parent's children.
    pub sibling_links: Links,
    /// Its place among the parent's children: lower is earlier.
    pub order: u64,
    /// What it has to report to the parent, as the parent's index knows it.
    pub report: Option<Report>,
    /// Its children; `None` until it has had one.
    pub family: Option<Box<Family>>,
    /// The signal for the parent when it ends; 0 for none, and invalid numbers send none either.
    pub exit_signal: u8,
    pub sighand: Id<Sighand>,
    pub shared: Pending,
    pub inherited: Arc<Inherited>,
    pub itimer: Option<Box<Itimer>>,
    /// The thread that sleeps until this process execs or ends (FORK-28), unless it is dead.
    pub vfork_waiter: Option<Pid>,
    /// How many times it has exec'd, and its parent had when it was created (EXEC-09).
    pub exec_count: u32,
    pub parent_exec_count: u32,
    pub flags: Flags,
    pub leader: Thread,
    /// Its other threads. Single-threaded processes have none.
    pub others: Few<Thread>,
}

// With its number, its dispositions and its share of group and family a process takes at most
// 300 bytes: see benches/peers.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Process>() <= 224, "a process has grown");

/// Neighbours in a list that runs through the processes themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Links {
    pub previous: Option<Id<Process>>,
    pub next: Option<Id<Process>>,
}

/// What a process has from its creator until one of them changes its own: in one place, so that a
/// fork counts one more holder and copies nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Inherited {
    /// By themselves: most who change something change the working directory.
    pub limits: Arc<Limits>,
    pub fs: Fs,
}

/// Umask and working directory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fs {
    pub umask: u32,
    pub cwd: Arc<str>,
}

/// Marks of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Flags {
    /// It has exec'd since it was created (EXEC-10).
    pub executed: bool,
    /// It leads its session (FORK-12: not inherited).
    pub session_leader: bool,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: bool,
    /// A core may be written (EXIT-05).
    pub dumpable: bool,
    /// A set*uid left its user over RLIMIT_NPROC (LIM-05).
    pub over_nproc: bool,
    /// Default actions do not reach it: it is an init (KILL-21).
    pub unkillable: bool,
    /// Somebody else rules it: signals are forwarded, and what becomes of it is reported.
    pub hosted: bool,
    /// Somebody outside waits for its children: see `Effects::woken`.
    pub watched: bool,
    /// It leaves no zombie and sends no signal when it ends (CLONE_AUTOREAP, ZOM-15).
    pub autoreap: bool,
}

impl Process {
    /// A process of one thread with nothing to its name: no parent, no children, no timer, nothing
    /// pending, nothing to report, not linked to others yet.
    pub fn new(
        leader: Thread,
        group: Id<Group>,
        sighand: Id<Sighand>,
        inherited: Arc<Inherited>,
    ) -> Process {
        Process {
            life: Life::Alive(Job::Running),
            pid: leader.tid,
            parent: None,
            outside: Pid(0),
            group,
            group_links: Links::default(),
            all_links: Links::default(),
            sibling_links: Links::default(),
            order: 0,
            report: None,
            family: None,
            exit_signal: Signal::CHLD.number(),
            sighand,
            shared: Pending::default(),
            inherited,
            itimer: None,
            vfork_waiter: None,
            exec_count: 0,
            parent_exec_count: 0,
            flags: Flags::default(),
            leader,
            others: Few::new(),
        }
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inherited.limits
    }

    /// Its umask and working directory.
    pub fn fs(&self) -> &Fs {
        &self.inherited.fs
    }

    /// What it has inherited, for a change: its own from now on.
    pub fn inherited_mut(&mut self) -> &mut Inherited {
        Arc::make_mut(&mut self.inherited)
    }

    /// Whether it is dead.
    pub fn is_zombie(&self) -> bool {
        matches!(self.life, Life::Zombie(_))
    }

    /// Whether it is stopped: its group stop is complete.
    pub fn is_stopped(&self) -> bool {
        matches!(self.life, Life::Alive(Job::Stopped { .. }))
    }

    /// Whether it is a clone child: its exit signal is not SIGCHLD (WAIT-14).
    pub fn is_clone_child(&self) -> bool {
        self.exit_signal != Signal::CHLD.number()
    }

    /// Its thread at that place; 0 is the leader.
    #[inline]
    pub fn thread(&self, nth: u32) -> &Thread {
        match nth {
            0 => &self.leader,
            nth => &self.others[nth as usize - 1],
        }
    }

    /// Its thread at that place; 0 is the leader.
    #[inline]
    pub fn thread_mut(&mut self, nth: u32) -> &mut Thread {
        match nth {
            0 => &mut self.leader,
            nth => &mut self.others[nth as usize - 1],
        }
    }

    /// What is pending for one of its threads alone, or for all of them (SIG-22).
    #[inline]
    pub fn pending(&self, nth: u32, private: bool) -> &Pending {
        if private { &self.thread(nth).pending } else { &self.shared }
    }

    /// What is pending for one of its threads alone, or for all of them.
    #[inline]
    pub fn pending_mut(&mut self, nth: u32, private: bool) -> &mut Pending {
        if private { &mut self.thread_mut(nth).pending } else { &mut self.shared }
    }

    /// Its threads, the leader first.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        core::iter::once(&self.leader).chain(self.others.iter())
    }

    /// Its threads, the leader first.
    pub fn threads_mut(&mut self) -> impl Iterator<Item = &mut Thread> {
        core::iter::once(&mut self.leader).chain(self.others.iter_mut())
    }

    /// Takes `signals` out of every pending set (JOB-01, JOB-02, SIG-10).
    pub fn flush(&mut self, signals: SigSet, mut dropped: impl FnMut(super::signal::Queued)) {
        self.shared.flush(signals, &mut dropped);
        for thread in self.threads_mut() {
            thread.pending.flush(signals, &mut dropped);
        }
    }
}
