//! The declaration of the system calls.
//!
//! [`declared!`] passes one table to a macro; three macros take it. The macro at the end of this
//! file creates [`Syscall`], its names and classes; `text::call` the printer and the parser;
//! `host::codec` the calls that the agents of the oracle make. So a new regular call is written
//! once, here, and the compiler then requires its place in the model:
//!
//! ```text
//! /// getpriority(2).
//! Getpriority {
//!     /// What `who` names.
//!     which: i32 as Number,
//!     /// The process, group or user.
//!     who: i32 as Number,
//! } = SYS_getpriority -> Number, Returns;
//! ```
//!
//! - The arguments come in the order of the system call, each with its type and its [`kind`].
//!   The arguments after a `;` are those that strace(1) shows only when the call has returned: from
//!   the first one through which the call stores a value.
//! - `SYS_…` is the number, and without `SYS_` the name.
//! - The [result](gives) of a successful call follows `->`. It determines how a stored value is
//!   printed, read, and found in memory.
//! - The [`Class`] comes next, and the operation of an agent of the oracle, if the agent does
//!   more than the call.
//!
//! A call that does not fit this form is declared under `irregular`, without kinds:
//! `text::irregular` and `host::codec::irregular` have a type of its name for the rest.

use alloc::sync::Arc;

use super::{PollFile, Prctl, Ptr, QueuedInfo, TerminalPath, TerminalRequest};
use crate::abi::{
    Errno, IdType, Itimerval, Resource, Rlimit, SigAction, SigSet, Timespec, WaitOptions,
};

/// How an argument is printed, read and passed.
pub(crate) mod kind {
    /// A number.
    #[derive(Debug)]
    pub(crate) enum Number {}
    /// The number of a signal, or 0.
    #[derive(Debug)]
    pub(crate) enum Signal {}
    /// A user; -1 for none.
    #[derive(Debug)]
    pub(crate) enum User {}
    /// A mask of permissions.
    #[derive(Debug)]
    pub(crate) enum Octal {}
    /// An address that the kernel keeps.
    #[derive(Debug)]
    pub(crate) enum Address {}
    /// Flags of clone(2).
    #[derive(Debug)]
    pub(crate) enum CloneFlags {}
    /// `how` of rt_sigprocmask(2).
    #[derive(Debug)]
    pub(crate) enum How {}
    /// A timer of setitimer(2).
    #[derive(Debug)]
    pub(crate) enum Timer {}
    /// A resource of prlimit(2).
    #[derive(Debug)]
    pub(crate) enum Resource {}
    /// A structure that the call reads.
    #[derive(Debug)]
    pub(crate) enum In {}
    /// A structure that the call reads, or NULL.
    #[derive(Debug)]
    pub(crate) enum Optional {}
    /// A pointer through which the call stores its result.
    #[derive(Debug)]
    pub(crate) enum Out {}
}

/// The result of a successful call.
pub(crate) mod gives {
    /// [`Ret::Value`](super::super::Ret::Value).
    #[derive(Debug)]
    pub(crate) enum Number {}
    /// [`Ret::Value`](super::super::Ret::Value), as a mask of permissions.
    #[derive(Debug)]
    pub(crate) enum Octal {}
    /// [`Ret::Action`](super::super::Ret::Action).
    #[derive(Debug)]
    pub(crate) enum Action {}
    /// [`Ret::Mask`](super::super::Ret::Mask).
    #[derive(Debug)]
    pub(crate) enum Mask {}
    /// [`Ret::Pending`](super::super::Ret::Pending).
    #[derive(Debug)]
    pub(crate) enum Pending {}
    /// [`Ret::Signal`](super::super::Ret::Signal).
    #[derive(Debug)]
    pub(crate) enum Signal {}
    /// [`Ret::Itimer`](super::super::Ret::Itimer).
    #[derive(Debug)]
    pub(crate) enum Itimer {}
    /// [`Ret::Limit`](super::super::Ret::Limit).
    #[derive(Debug)]
    pub(crate) enum Limit {}
}

/// Passes the table to the macro `$then`.
macro_rules! declared {
    ($then:ident) => {
        $then! {
            regular {
                /// fork(2).
                Fork = SYS_fork -> Number, Returns, Fork;
                /// vfork(2).
                Vfork = SYS_vfork -> Number, MaySleep, ForkSharing;
                /// unshare(2), of [`clone`](super::clone) flags.
                Unshare(flags: u64 as CloneFlags) = SYS_unshare -> Number, Returns;
                /// set_tid_address(2): the word that is cleared when the thread execs or ends; 0
                /// for none.
                SetTidAddress(address: u64 as Address) = SYS_set_tid_address -> Number, Returns;
                /// exit(2), of the calling thread.
                Exit(code: i32 as Number) = SYS_exit -> Number, NeverReturns;
                /// exit_group(2).
                ExitGroup(code: i32 as Number) = SYS_exit_group -> Number, NeverReturns;
                /// setpgid(2).
                Setpgid {
                    /// The process; 0 is the caller.
                    pid: i32 as Number,
                    /// The group; 0 is the number of the process.
                    pgid: i32 as Number,
                } = SYS_setpgid -> Number, Returns;
                /// getpgid(2).
                Getpgid(pid: i32 as Number) = SYS_getpgid -> Number, Returns;
                /// getpgrp(2).
                Getpgrp = SYS_getpgrp -> Number, Returns;
                /// setsid(2).
                Setsid = SYS_setsid -> Number, Returns;
                /// getsid(2).
                Getsid(pid: i32 as Number) = SYS_getsid -> Number, Returns;
                /// getpid(2).
                Getpid = SYS_getpid -> Number, Returns;
                /// gettid(2).
                Gettid = SYS_gettid -> Number, Returns;
                /// getppid(2).
                Getppid = SYS_getppid -> Number, Returns;
                /// kill(2).
                Kill {
                    /// The target.
                    pid: i32 as Number,
                    /// The signal; 0 only checks.
                    sig: i32 as Signal,
                } = SYS_kill -> Number, Returns;
                /// tkill(2).
                Tkill {
                    /// The thread.
                    tid: i32 as Number,
                    /// The signal; 0 only checks.
                    sig: i32 as Signal,
                } = SYS_tkill -> Number, Returns;
                /// tgkill(2).
                Tgkill {
                    /// The process.
                    tgid: i32 as Number,
                    /// The thread.
                    tid: i32 as Number,
                    /// The signal; 0 only checks.
                    sig: i32 as Signal,
                } = SYS_tgkill -> Number, Returns;
                /// rt_sigaction(2).
                RtSigaction {
                    /// The signal.
                    sig: i32 as Signal,
                    /// The new action, if any.
                    act: Option<SigAction> as Optional,
                    ;
                    /// The destination of the old action.
                    old: Ptr as Out,
                    /// `sigsetsize`.
                    size: usize as Number,
                } = SYS_rt_sigaction -> Action, Returns, Action;
                /// rt_sigprocmask(2).
                RtSigprocmask {
                    /// One of [`how`](super::how).
                    how: i32 as How,
                    /// The set, if any.
                    set: Option<SigSet> as Optional,
                    ;
                    /// The destination of the old mask.
                    old: Ptr as Out,
                    /// `sigsetsize`.
                    size: usize as Number,
                } = SYS_rt_sigprocmask -> Mask, Returns;
                /// rt_sigpending(2).
                RtSigpending {
                    ;
                    /// The destination of the set.
                    set: Ptr as Out,
                    /// `sigsetsize`.
                    size: usize as Number,
                } = SYS_rt_sigpending -> Pending, Returns;
                /// rt_sigsuspend(2).
                RtSigsuspend {
                    /// The mask during the wait.
                    mask: SigSet as In,
                    /// `sigsetsize`.
                    size: usize as Number,
                } = SYS_rt_sigsuspend -> Number, MaySleep;
                /// rt_sigtimedwait(2).
                RtSigtimedwait {
                    /// The signals to take.
                    set: SigSet as In,
                    ;
                    /// The destination of the siginfo.
                    info: Ptr as Out,
                    /// The timeout; `None` for none.
                    timeout: Option<Timespec> as Optional,
                    /// `sigsetsize`.
                    size: usize as Number,
                } = SYS_rt_sigtimedwait -> Signal, MaySleep;
                /// rt_sigreturn(2): the running handler returns.
                RtSigreturn = SYS_rt_sigreturn -> Number, NeverReturns, HandlerReturn;
                /// pause(2).
                Pause = SYS_pause -> Number, MaySleep;
                /// alarm(2).
                Alarm(seconds: u32 as Number) = SYS_alarm -> Number, Returns;
                /// setitimer(2).
                Setitimer {
                    /// The timer.
                    which: i32 as Timer,
                    /// The new value; `None` for NULL, which disarms.
                    new: Option<Itimerval> as Optional,
                    ;
                    /// The destination of the old value.
                    old: Ptr as Out,
                } = SYS_setitimer -> Itimer, Returns;
                /// getuid(2).
                Getuid = SYS_getuid -> Number, Returns;
                /// geteuid(2).
                Geteuid = SYS_geteuid -> Number, Returns;
                /// setuid(2).
                Setuid(user: u32 as User) = SYS_setuid -> Number, Returns;
                /// setreuid(2); `u32::MAX` leaves a user unchanged.
                Setreuid {
                    /// The real user.
                    real: u32 as User,
                    /// The effective user.
                    effective: u32 as User,
                } = SYS_setreuid -> Number, Returns;
                /// setresuid(2); `u32::MAX` leaves a user unchanged.
                Setresuid {
                    /// The real user.
                    real: u32 as User,
                    /// The effective user.
                    effective: u32 as User,
                    /// The saved user.
                    saved: u32 as User,
                } = SYS_setresuid -> Number, Returns;
                /// prlimit64(2).
                Prlimit {
                    /// The process; 0 is the caller.
                    pid: i32 as Number,
                    /// The resource.
                    resource: Resource as Resource,
                    /// The new limits, if any.
                    new: Option<Rlimit> as Optional,
                    ;
                    /// The destination of the old limits.
                    old: Ptr as Out,
                } = SYS_prlimit64 -> Limit, Returns;
                /// umask(2).
                Umask(mask: u32 as Octal) = SYS_umask -> Octal, Returns;
            }
            irregular {
                /// clone(2) with the caller's own stack, or clone3(2).
                Clone {
                    /// [`clone`](super::clone) flags; for clone(2) with the exit signal in the low
                    /// byte.
                    flags: u64,
                    /// `exit_signal` of clone3(2); `None` for clone(2).
                    clone3: Option<u64>,
                    /// The address at which [`PARENT_SETTID`](super::clone::PARENT_SETTID) stores;
                    /// 0 is NULL.
                    parent_tid: u64,
                    /// The address at which [`CHILD_SETTID`](super::clone::CHILD_SETTID) and
                    /// [`CHILD_CLEARTID`](super::clone::CHILD_CLEARTID) store; 0 is NULL.
                    child_tid: u64,
                } = SYS_clone, MaySleep;
                /// execve(2) of a program, or of a file that cannot be executed.
                Execve {
                    /// The path; the model uses it as the name of the program only.
                    path: Arc<str>,
                    ;
                    /// The error of the file; `None` for a program that can be executed.
                    error: Option<Errno>,
                } = SYS_execve, MaySleep;
                /// wait4(2).
                Wait4 {
                    /// The selector.
                    pid: i32,
                    ;
                    /// The destination of the status.
                    status: Ptr,
                    /// The options.
                    options: WaitOptions,
                } = SYS_wait4, MaySleep;
                /// waitid(2).
                Waitid {
                    /// How `id` selects.
                    idtype: IdType,
                    /// The selector.
                    id: i32,
                    ;
                    /// The destination of the siginfo.
                    info: Ptr,
                    /// The options.
                    options: WaitOptions,
                } = SYS_waitid, MaySleep;
                /// rt_sigqueueinfo(2).
                RtSigqueueinfo {
                    /// The process.
                    pid: i32,
                    /// The signal; 0 only checks.
                    sig: i32,
                    /// The siginfo; `None` for an address that cannot be read.
                    info: Option<QueuedInfo>,
                } = SYS_rt_sigqueueinfo, Returns;
                /// rt_tgsigqueueinfo(2).
                RtTgsigqueueinfo {
                    /// The process.
                    tgid: i32,
                    /// The thread.
                    tid: i32,
                    /// The signal; 0 only checks.
                    sig: i32,
                    /// The siginfo; `None` for an address that cannot be read.
                    info: Option<QueuedInfo>,
                } = SYS_rt_tgsigqueueinfo, Returns;
                /// getitimer(2).
                Getitimer {
                    /// The timer.
                    which: i32,
                } = SYS_getitimer, Returns;
                /// prctl(2).
                Prctl(operation: Prctl) = SYS_prctl, Returns;
                /// getresuid(2).
                Getresuid = SYS_getresuid, Returns;
                /// chdir(2), to a directory, or to a path that cannot be entered.
                Chdir {
                    /// The path.
                    path: Arc<str>,
                    ;
                    /// The error of the path; `None` for a directory that can be entered.
                    error: Option<Errno>,
                } = SYS_chdir, Returns;
                /// getcwd(2).
                Getcwd = SYS_getcwd, Returns;
                /// open(2) of a terminal. The result is the number of an open file description:
                /// which descriptors refer to it is not the model's matter.
                Open {
                    /// The terminal.
                    path: TerminalPath,
                    /// Flags of [`open`](super::open).
                    flags: u32,
                } = SYS_open, Returns;
                /// close(2) of the last descriptor of an open file description.
                Close(file: u32) = SYS_close, Returns;
                /// read(2) of a terminal.
                Read {
                    /// The open file description.
                    file: u32,
                    ;
                    /// The size of the buffer.
                    len: usize,
                } = SYS_read, MaySleep;
                /// write(2) to a terminal.
                Write {
                    /// The open file description.
                    file: u32,
                    /// The bytes.
                    bytes: Arc<[u8]>,
                } = SYS_write, MaySleep;
                /// poll(2) of terminals.
                Poll {
                    /// The open file descriptions.
                    files: Arc<[PollFile]>,
                    /// The timeout in milliseconds; a negative one is none.
                    timeout: i32,
                } = SYS_poll, MaySleep;
                /// ioctl(2) on a terminal.
                Ioctl {
                    /// The open file description.
                    file: u32,
                    /// The request, with its argument.
                    request: TerminalRequest,
                } = SYS_ioctl, MaySleep;
            }
        }
    };
}
pub(crate) use declared;

/// Whether a call returns, and may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// The caller never sleeps in the call.
    Returns,
    /// The caller may sleep in the call.
    MaySleep,
    /// The return of the call is not visible: exit, exit_group, rt_sigreturn.
    NeverReturns,
}

// Rust lets a tuple variant, or a variant without fields, be written with named fields: the only
// field of a tuple is `0`. So only the macro that creates the enum distinguishes the three forms.
macro_rules! syscall {
    (
        regular { $(
            $(#[$doc:meta])* $call:ident
            $( ($one:ident: $one_type:ty as $one_kind:ident) )?
            $( {
                $( $(#[$head_doc:meta])* $head:ident: $head_type:ty as $head_kind:ident, )*
                $(; $( $(#[$tail_doc:meta])* $tail:ident: $tail_type:ty as $tail_kind:ident, )+ )?
            } )?
            = $number:ident -> $gives:ident, $class:ident $(, $op:ident)?;
        )* }
        irregular { $(
            $(#[$doc_:meta])* $call_:ident
            $( ($one_:ident: $one_type_:ty) )?
            $( {
                $( $(#[$head_doc_:meta])* $head_:ident: $head_type_:ty, )*
                $(; $( $(#[$tail_doc_:meta])* $tail_:ident: $tail_type_:ty, )+ )?
            } )?
            = $number_:ident, $class_:ident;
        )* }
    ) => {
        /// A system call.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub enum Syscall {
            $(
                $(#[$doc])* $call
                $( ($one_type) )?
                $( {
                    $( $(#[$head_doc])* $head: $head_type, )*
                    $( $( $(#[$tail_doc])* $tail: $tail_type, )+ )?
                } )?,
            )*
            $(
                $(#[$doc_])* $call_
                $( ($one_type_) )?
                $( {
                    $( $(#[$head_doc_])* $head_: $head_type_, )*
                    $( $( $(#[$tail_doc_])* $tail_: $tail_type_, )+ )?
                } )?,
            )*
        }

        impl Syscall {
            /// The name of the call, as strace(1) writes it.
            pub fn name(&self) -> &'static str {
                if let Syscall::Clone { clone3: Some(_), .. } = self {
                    return "clone3";
                }
                // constants only, so that the compiler builds a lookup table and no jump table
                match self {
                    $( Syscall::$call { .. } => const { without_sys(stringify!($number)) }, )*
                    $( Syscall::$call_ { .. } => const { without_sys(stringify!($number_)) }, )*
                }
            }

            /// The class of the call.
            pub fn class(&self) -> Class {
                match self {
                    $( Syscall::$call { .. } => Class::$class, )*
                    $( Syscall::$call_ { .. } => Class::$class_, )*
                }
            }

            /// Sets the arguments that strace(1) shows only when the call has returned to their
            /// defaults. Returns whether the call has such arguments.
            pub(super) fn cut(&mut self) -> bool {
                match self {
                    $( Syscall::$call { $($( $($tail,)+ )?)? .. } => {
                        0 $($( $( + set_default($tail) )+ )?)? > 0
                    } )*
                    $( Syscall::$call_ { $($( $($tail_,)+ )?)? .. } => {
                        0 $($( $( + set_default($tail_) )+ )?)? > 0
                    } )*
                }
            }
        }
    };
}
declared!(syscall);

/// The name in `SYS_name`.
const fn without_sys(number: &'static str) -> &'static str {
    number.split_at("SYS_".len()).1
}

/// Returns 1, for a count.
fn set_default<T: Default>(value: &mut T) -> usize {
    *value = T::default();
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_numbers() {
        assert_eq!(
            Syscall::Prlimit { pid: 0, resource: Resource(0), new: None, old: Ptr::Null }.name(),
            "prlimit64"
        );
        assert_eq!(Syscall::clone_call(0).name(), "clone");
        assert_eq!(Syscall::clone3_call(0, 0).name(), "clone3");
    }

    #[test]
    fn a_call_is_no_larger_than_that_of_a_signal_action() {
        #[allow(dead_code, reason = "for its size")]
        enum Largest {
            RtSigaction { sig: i32, act: Option<SigAction>, old: Ptr, size: usize },
            Getpid,
        }
        assert_eq!(size_of::<Syscall>(), size_of::<Largest>());
    }

    #[test]
    fn what_is_shown_later_has_defaults() {
        let mut call = Syscall::RtSigpending { set: Ptr::Bad, size: 4 };
        assert!(call.cut());
        assert_eq!(call, Syscall::RtSigpending { set: Ptr::Valid, size: 0 });
        let mut call = Syscall::Kill { pid: 2, sig: 15 };
        assert!(!call.cut());
        assert_eq!(call, Syscall::Kill { pid: 2, sig: 15 });
    }
}
