//! A thread: what each thread of a process has for itself.

use alloc::boxed::Box;

use super::arena::Id;
use super::cred::Cred;
use super::effect::Restart;
use super::few::Few;
use super::process::Process;
use super::signal::Pending;
use super::wait::Selector;
use crate::abi::{Errno, Pid, SigInfo, SigSet, Signal, Time, WaitOptions};
use crate::syscall::{self, Ptr, Syscall};

/// A thread by its process and its place in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TaskId {
    pub process: Id<Process>,
    /// 0 is the leader.
    pub nth: u32,
}

impl TaskId {
    pub fn leader(process: Id<Process>) -> TaskId {
        TaskId { process, nth: 0 }
    }
}

/// What a thread does in the kernel, if anything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Sleep {
    /// Nothing: it runs its own code.
    #[default]
    None,
    /// wait4 or waitid.
    Wait(Box<WaitSleep>),
    /// pause.
    Pause,
    /// rt_sigsuspend; the call's mask is in force, `Thread::saved_mask` has the old one.
    Suspend(Box<Syscall>),
    /// rt_sigtimedwait.
    Timed(Box<TimedSleep>),
    /// vfork: until that child execs or ends.
    Vfork(Pid),
    /// An init that ended: until its namespace is empty (NS-08).
    Zap,
    /// It ends, and has let go of its memory; nobody has been told yet.
    Exiting,
    /// A call that a signal has interrupted and whose fate the first handler decides.
    Interrupted(Restart, Box<Syscall>),
    /// A call that will be made again, whatever handlers run before.
    Restarting(Box<Syscall>),
}

/// A blocked wait.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WaitSleep {
    /// The call, for a restart.
    pub call: Syscall,
    /// Its selector, the caller's group sampled at the call (WAIT-17).
    pub selector: Selector,
    /// Its options, those that the call implies included.
    pub options: WaitOptions,
}

/// A blocked rt_sigtimedwait.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimedSleep {
    /// The signals to take.
    pub set: SigSet,
    /// The mask to go back to; the signals in `set` are unblocked meanwhile (SIG-54).
    pub real_blocked: SigSet,
    /// When it gives up.
    pub deadline: Option<Time>,
    /// Where the siginfo goes.
    pub info: Ptr,
}

/// What happens when a handler returns.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Resume {
    /// The thread goes on where it was.
    Same,
    /// The call at whose end the handler was entered has this result.
    Finish(Box<syscall::Result>),
    /// The interrupted call fails.
    Fail(Errno),
    /// The interrupted call is made again.
    Restart(Box<Syscall>),
}

/// A handler that was entered and has not returned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Frame {
    /// What it was entered for.
    pub info: SigInfo,
    /// Its address.
    pub handler: u64,
    /// Its body has begun: those set up after it have returned (SIG-36).
    pub begun: bool,
    /// The mask to go back to.
    pub mask: SigSet,
    /// How the thread goes on.
    pub resume: Resume,
}

/// One thread.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Thread {
    pub tid: Pid,
    pub mask: SigSet,
    /// The mask that rt_sigsuspend replaced, until a handler or the end of delivery restores it.
    /// Boxed, because it is rarely there.
    pub saved_mask: Option<Box<SigSet>>,
    /// Pending for this thread alone (SIG-22).
    pub pending: Pending,
    pub sleep: Sleep,
    /// The handlers it is in, the innermost last.
    pub frames: Few<Frame>,
    pub cred: Cred,
    pub pdeath_signal: Option<Signal>,
    /// The result of its call, while it is not back in its own code: it has signals to deliver
    /// first, or is stopped.
    pub result: Option<Box<syscall::Result>>,
    /// It was told to look at its pending signals (the kernel's TIF_SIGPENDING).
    pub notified: bool,
    /// It stands in the run queue.
    pub queued: bool,
}

impl Thread {
    /// A thread that runs its own code, in no handler, with an empty mask.
    pub fn new(tid: Pid, cred: Cred) -> Thread {
        Thread {
            tid,
            mask: SigSet::EMPTY,
            saved_mask: None,
            pending: Pending::default(),
            sleep: Sleep::None,
            frames: Few::new(),
            cred,
            pdeath_signal: None,
            result: None,
            notified: false,
            queued: false,
        }
    }

    /// The mask that decides whether a signal is kept although it is ignored (SIG-52): what the
    /// thread blocks, also where rt_sigtimedwait has unblocked it for the moment.
    pub fn blocks(&self, signal: Signal) -> bool {
        self.mask.contains(signal) || self.really_blocks(signal)
    }

    /// Whether `signal` is blocked but for a rt_sigtimedwait (SIG-55).
    pub fn really_blocks(&self, signal: Signal) -> bool {
        matches!(&self.sleep, Sleep::Timed(timed) if timed.real_blocked.contains(signal))
    }
}
