//! A system call with the raw arguments of a guest, and its result.
//!
//! The arguments keep the numbers that the guest passes, so that the model can return the kernel's
//! errno for a number that does not fit. [`text`] prints and parses calls as strace(1) does.
//!
//! `declared` declares each call once: the enum, the names, the classes, the text and the encoding
//! of the oracle follow from the declaration.

mod declared;
mod descriptors;
mod terminal;
pub mod text;

pub use declared::{Class, Syscall};
pub(crate) use declared::{declared, gives, kind};
pub use descriptors::DescriptorTable;
pub use terminal::{PollFile, TerminalPath, TerminalRequest, open};

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::abi::{Errno, Itimerval, Pid, Rlimit, SigAction, SigInfo, SigSet, Uid, WaitStatus};
use crate::tty::{PollFlags, Termios, Winsize};

/// A pointer argument; the model distinguishes three kinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ptr {
    /// NULL: the caller does not want the value.
    Null,
    /// Memory of the caller.
    #[default]
    Valid,
    /// An address that the caller may not access: EFAULT.
    Bad,
}

/// The size of the kernel's `sigset_t`; any other is EINVAL (SIG-06).
pub const SIGSET_SIZE: usize = 8;

/// A valid address: [`text`] reads and prints it where strace shows the value at the address.
pub const MEMORY: u64 = 0x7ffc_0000;

/// Whether a word can be stored at `address`: pages below vm.mmap_min_addr are never mapped.
pub fn can_store(address: u64) -> bool {
    const MMAP_MIN_ADDR: u64 = 0x1_0000;
    address >= MMAP_MIN_ADDR
}

/// Flags of [`Syscall::Clone`] and [`Syscall::Unshare`].
pub mod clone {
    /// The low bits: the signal that the child sends to its parent when it ends (FORK-18).
    pub const CSIGNAL: u64 = 0xff;
    /// Share the memory.
    pub const VM: u64 = 0x100;
    /// Share umask and working directory.
    pub const FS: u64 = 0x200;
    /// Share the descriptors.
    pub const FILES: u64 = 0x400;
    /// Share the dispositions (FORK-27).
    pub const SIGHAND: u64 = 0x800;
    /// Store a pidfd of the child; clone(2) stores it at `parent_tid`.
    pub const PIDFD: u64 = 0x1000;
    /// The tracer of the caller traces the child.
    pub const PTRACE: u64 = 0x2000;
    /// The parent sleeps until the child execs or ends (FORK-28).
    pub const VFORK: u64 = 0x4000;
    /// The child becomes a sibling (FORK-21).
    pub const PARENT: u64 = 0x8000;
    /// A thread of the caller's process.
    pub const THREAD: u64 = 0x1_0000;
    /// A mount namespace of its own.
    pub const NEWNS: u64 = 0x2_0000;
    /// Share System V semaphore adjustments.
    pub const SYSVSEM: u64 = 0x4_0000;
    /// Thread-local storage of its own.
    pub const SETTLS: u64 = 0x8_0000;
    /// Store the child's number at `parent_tid`.
    pub const PARENT_SETTID: u64 = 0x10_0000;
    /// Clear the word at `child_tid` when the child execs or ends, and wake the futex waiters
    /// there.
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    /// Without meaning, and refused by clone3.
    pub const DETACHED: u64 = 0x40_0000;
    /// No tracer can trace the child.
    pub const UNTRACED: u64 = 0x80_0000;
    /// Store the child's number at `child_tid` in the child's memory.
    pub const CHILD_SETTID: u64 = 0x100_0000;
    /// A cgroup namespace of its own.
    pub const NEWCGROUP: u64 = 0x200_0000;
    /// A UTS namespace of its own.
    pub const NEWUTS: u64 = 0x400_0000;
    /// An IPC namespace of its own.
    pub const NEWIPC: u64 = 0x800_0000;
    /// A user namespace of its own.
    pub const NEWUSER: u64 = 0x1000_0000;
    /// A pid namespace of its own.
    pub const NEWPID: u64 = 0x2000_0000;
    /// A network namespace of its own.
    pub const NEWNET: u64 = 0x4000_0000;
    /// Share the I/O context.
    pub const IO: u64 = 0x8000_0000;
    /// Handlers become SIG_DFL in the child (FORK-26); clone3 only.
    pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    /// A cgroup of the caller's choice; clone3 only.
    pub const INTO_CGROUP: u64 = 0x2_0000_0000;
    /// The child leaves no zombie and sends no signal when it ends (ZOM-15); clone3 only, since
    /// Linux 7.1.
    pub const AUTOREAP: u64 = 1 << 34;
    /// The child begins with no_new_privs; clone3 only, since Linux 7.1.
    pub const NNP: u64 = 1 << 35;
    /// The child dies with the last pidfd that this call returned; clone3 only, since Linux 7.1.
    pub const PIDFD_AUTOKILL: u64 = 1 << 36;
    /// An empty mount namespace; clone3 only, since Linux 7.1.
    pub const EMPTY_MNTNS: u64 = 1 << 37;
    /// The flags that clone3 takes since Linux 7.1 (FORK-32).
    pub const SINCE_7_1: u64 = AUTOREAP | NNP | PIDFD_AUTOKILL | EMPTY_MNTNS;
    /// A time namespace of its own; clone3 only, a bit of the signal elsewhere.
    pub const NEWTIME: u64 = 0x80;
    /// The namespaces that do not change processes, and need CAP_SYS_ADMIN.
    pub const OTHER_NAMESPACES: u64 = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWNET;
    /// All flags of clone, which drops the bits above (FORK-18).
    pub const LEGACY: u64 = 0xffff_ffff;
    /// All flags of clone3 on every kernel; since Linux 7.1 also [`AUTOREAP`] and [`NNP`].
    pub const KNOWN3: u64 = (LEGACY & !CSIGNAL & !DETACHED) | NEWTIME | CLEAR_SIGHAND | INTO_CGROUP;
}

/// `how` of rt_sigprocmask(2).
pub mod how {
    /// Add to the mask.
    pub const BLOCK: i32 = 0;
    /// Remove from the mask.
    pub const UNBLOCK: i32 = 1;
    /// Replace the mask.
    pub const SETMASK: i32 = 2;
}

/// `which` of setitimer(2): the only timer of the model.
pub const ITIMER_REAL: i32 = 0;

/// An operation of prctl(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Prctl {
    /// PR_SET_PDEATHSIG.
    SetPdeathsig(u64),
    /// PR_GET_PDEATHSIG.
    GetPdeathsig(Ptr),
    /// PR_SET_CHILD_SUBREAPER.
    SetChildSubreaper(u64),
    /// PR_GET_CHILD_SUBREAPER.
    GetChildSubreaper(Ptr),
    /// PR_SET_DUMPABLE.
    SetDumpable(u64),
    /// PR_GET_DUMPABLE.
    GetDumpable,
}

/// The part of `siginfo_t` that rt_sigqueueinfo(2) and rt_tgsigqueueinfo(2) pass on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueuedInfo {
    /// `si_code`.
    pub code: i32,
    /// `si_pid`, as the sender sets it.
    pub pid: u32,
    /// `si_uid`, as the sender sets it.
    pub uid: u32,
    /// `si_value`, the whole union.
    pub value: u64,
}

/// The result of a successful call: its return value, and the value that it stores.
///
/// A value that would be stored through a NULL pointer is absent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ret {
    /// A number only.
    Value(i64),
    /// A call that does not return: exit, exit_group, and rt_sigreturn itself.
    Never,
    /// wait4: a child, and its status. Pid 0 means that no child has an event.
    Waited {
        /// The child.
        pid: Pid,
        /// Its status.
        status: Option<WaitStatus>,
    },
    /// waitid: 0, and the siginfo; `None` if the pointer is NULL, zeroes if no child has an event.
    WaitInfo(Option<ChildInfo>),
    /// rt_sigaction: the old action.
    Action(Option<SigAction>),
    /// rt_sigprocmask: the old mask.
    Mask(Option<SigSet>),
    /// rt_sigpending: the pending signals that are blocked.
    Pending(SigSet),
    /// rt_sigtimedwait: the signal that was taken, with its siginfo if the pointer is not NULL.
    Signal(SigInfo),
    /// setitimer and getitimer: the old value.
    Itimer(Option<Itimerval>),
    /// getresuid: real, effective, saved.
    Users([Uid; 3]),
    /// prlimit64: the old limits.
    Limit(Option<Rlimit>),
    /// The operations of prctl and of ioctl that store an int.
    Stored(i32),
    /// getcwd.
    Path(Arc<str>),
    /// read.
    Bytes(Arc<[u8]>),
    /// TCGETS of ioctl.
    Termios(Box<Termios>),
    /// TIOCGWINSZ of ioctl.
    Winsize(Winsize),
    /// poll: what is ready of each file, in the order of the call.
    Polled(Arc<[PollFlags]>),
}

/// The value that waitid(2) stores: a siginfo, or zeroes (WAIT-10).
pub type ChildInfo = Option<SigInfo>;

/// The result of a call.
pub type Result = core::result::Result<Ret, Errno>;

impl Ret {
    /// The child and the status that wait4 returns; `None` if no child has an event, and for other
    /// calls.
    pub fn waited(&self) -> Option<(Pid, WaitStatus)> {
        match *self {
            Ret::Waited { pid, status } => Some((pid, status?)),
            _ => None,
        }
    }

    /// The number in the return register.
    pub fn value(&self) -> i64 {
        match self {
            Ret::Value(value) => *value,
            // the number of files that are ready
            Ret::Polled(ready) => {
                ready.iter().filter(|ready| **ready != PollFlags::NONE).count() as i64
            }
            Ret::Waited { pid, .. } => i64::from(pid.0),
            Ret::Signal(info) => i64::from(info.signal.number()),
            // getcwd counts the terminating zero
            Ret::Path(path) => path.len() as i64 + 1,
            Ret::Bytes(bytes) => bytes.len() as i64,
            Ret::Never
            | Ret::WaitInfo(_)
            | Ret::Action(_)
            | Ret::Mask(_)
            | Ret::Pending(_)
            | Ret::Itimer(_)
            | Ret::Users(_)
            | Ret::Limit(_)
            | Ret::Stored(_)
            | Ret::Termios(_)
            | Ret::Winsize(_) => 0,
        }
    }
}

impl Syscall {
    /// clone(2) with the stack of the caller and no addresses; the low byte is the exit signal.
    pub fn clone_call(flags: u64) -> Syscall {
        Syscall::Clone { flags, clone3: None, parent_tid: 0, child_tid: 0 }
    }

    /// Whether the call creates a process or a thread: fork, vfork, clone, clone3.
    pub fn is_fork(&self) -> bool {
        matches!(self, Syscall::Fork | Syscall::Vfork | Syscall::Clone { .. })
    }

    /// Whether it is a call on a terminal.
    pub fn is_of_terminal(&self) -> bool {
        matches!(
            self,
            Syscall::Open { .. }
                | Syscall::Close(_)
                | Syscall::Read { .. }
                | Syscall::Write { .. }
                | Syscall::Ioctl { .. }
                | Syscall::Poll { .. }
        )
    }

    /// clone3(2) with the stack of the caller and no addresses.
    pub fn clone3_call(flags: u64, exit_signal: u64) -> Syscall {
        Syscall::Clone { flags, clone3: Some(exit_signal), parent_tid: 0, child_tid: 0 }
    }
}
