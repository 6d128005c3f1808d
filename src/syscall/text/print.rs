//! Values as strace prints them.

use core::fmt::{Display, Formatter, Result, Write};

use crate::abi::{
    Errno, Itimerval, Rlimit, SiCode, SigAction, SigInfo, SigSet, Signal, Timespec, Timeval,
    WaitOptions, WaitStatus,
};
use crate::syscall::{Prctl, Ptr, QueuedInfo, Ret, Syscall, can_store, clone};

use super::names::{self, Flags, Names};
use super::{Begun, Outcome, Restart};

/// What is printed for memory of the caller.
const VALID: &str = "0x7ffc0000";
/// What is printed for an address that the caller may not touch.
const BAD: &str = "0x1";
/// A call on one line: `getpid() = 1`.
pub(crate) struct Whole<'a> {
    pub(crate) call: &'a Syscall,
    pub(crate) outcome: &'a Outcome,
    /// The mask that rt_sigreturn(2) restores.
    pub(crate) mask: SigSet,
}

impl Display for Whole<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}(", self.call.name())?;
        if *self.call == Syscall::RtSigreturn {
            write!(f, "{{mask={}}}", self.mask)?;
        }
        head(f, self.call)?;
        write!(f, "{}", Tail { call: self.call, outcome: self.outcome })
    }
}

/// The arguments that are shown before the call returns.
pub(crate) struct Head<'a>(pub(crate) &'a Begun);

impl Display for Head<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        begun(f, self.0)
    }
}

/// The arguments that are shown when the call returned, the parenthesis and the result.
pub(crate) struct Tail<'a> {
    pub(crate) call: &'a Syscall,
    pub(crate) outcome: &'a Outcome,
}

impl Display for Tail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        tail(f, self.call, self.outcome)?;
        f.write_str(") = ")?;
        match self.outcome {
            Outcome::Returned(Ok(ret)) => value(f, self.call, ret),
            Outcome::Returned(Err(errno)) => error(f, *errno),
            Outcome::Interrupted(restart) => interrupted(f, *restart),
        }
    }
}

/// A siginfo between its braces.
pub(crate) struct Info<'a>(pub(crate) &'a SigInfo);

impl Display for Info<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let SigInfo { signal, code, pid, uid, value } = *self.0;
        siginfo(
            f,
            &Fields { signo: i32::from(signal.number()), code, pid: pid.0, uid: uid.0, value },
        )
    }
}

fn value(f: &mut Formatter<'_>, call: &Syscall, ret: &Ret) -> Result {
    if *ret == Ret::Never {
        return f.write_str("?");
    }
    let value = ret.value();
    match (call, usize::try_from(value)) {
        (Syscall::Umask(_), Ok(mask)) => octal(f, mask as u64),
        (Syscall::Prctl(Prctl::GetDumpable), Ok(nth @ 0..=2)) => {
            write!(f, "{value} ({})", names::DUMPABLE.names[nth])
        }
        _ => write!(f, "{value}"),
    }
}

fn error(f: &mut Formatter<'_>, errno: Errno) -> Result {
    match errno.name() {
        Some(name) => write!(f, "-1 {name} ({})", errno.message()),
        None => write!(f, "-1 (errno {})", errno.0),
    }
}

fn interrupted(f: &mut Formatter<'_>, restart: Restart) -> Result {
    for (each, name, message) in Restart::ALL {
        if each == restart {
            write!(f, "? {name} ({message})")?;
        }
    }
    Ok(())
}

/// The arguments before the split of [`Begun::of`].
fn head(f: &mut Formatter<'_>, call: &Syscall) -> Result {
    match call {
        Syscall::Fork
        | Syscall::Vfork
        | Syscall::Getpgrp
        | Syscall::Setsid
        | Syscall::Getpid
        | Syscall::Gettid
        | Syscall::Getppid
        | Syscall::Pause
        | Syscall::Getuid
        | Syscall::Geteuid
        | Syscall::Getresuid
        | Syscall::Getcwd
        // its mask is not the call's
        | Syscall::RtSigreturn => Ok(()),
        Syscall::Clone { flags, clone3: None, .. } => clone(f, *flags),
        Syscall::Clone { flags, clone3: Some(signal), parent_tid, child_tid } => {
            clone3(f, &Clone { flags: *flags, parent_tid: *parent_tid, child_tid: *child_tid }, *signal)
        }
        Syscall::Unshare(flags) => write!(f, "{}", Set(&names::UNSHARE, *flags)),
        // strace writes a number here, also for NULL
        Syscall::SetTidAddress(0) => f.write_str("0"),
        Syscall::SetTidAddress(address) => write!(f, "{}", Address(*address)),
        Syscall::Exit(code) | Syscall::ExitGroup(code) => write!(f, "{code}"),
        Syscall::Setpgid { pid, pgid } => write!(f, "{pid}, {pgid}"),
        Syscall::Getpgid(pid) | Syscall::Getsid(pid) => write!(f, "{pid}"),
        Syscall::Kill { pid, sig } | Syscall::Tkill { tid: pid, sig } => {
            write!(f, "{pid}, {}", Sig(*sig))
        }
        Syscall::Tgkill { tgid, tid, sig } => write!(f, "{tgid}, {tid}, {}", Sig(*sig)),
        Syscall::RtSigqueueinfo { pid, sig, info } => {
            write!(f, "{pid}, {}, ", Sig(*sig))?;
            queued(f, *sig, *info)
        }
        Syscall::RtTgsigqueueinfo { tgid, tid, sig, info } => {
            write!(f, "{tgid}, {tid}, {}, ", Sig(*sig))?;
            queued(f, *sig, *info)
        }
        Syscall::RtSigsuspend { mask, size } => write!(f, "{mask}, {size}"),
        Syscall::Alarm(seconds) => write!(f, "{seconds}"),
        Syscall::Getitimer { which } => write!(f, "{}, ", Named(&names::ITIMER, *which as u32)),
        Syscall::Prctl(prctl) => prctl_head(f, *prctl),
        Syscall::Setuid(uid) => user(f, *uid),
        Syscall::Setreuid { real, effective } => users(f, &[*real, *effective]),
        Syscall::Setresuid { real, effective, saved } => users(f, &[*real, *effective, *saved]),
        Syscall::Umask(mask) => octal(f, u64::from(*mask)),
        Syscall::Execve { .. }
        | Syscall::Chdir { .. }
        | Syscall::Wait4 { .. }
        | Syscall::Waitid { .. }
        | Syscall::RtSigaction { .. }
        | Syscall::RtSigprocmask { .. }
        | Syscall::RtSigpending { .. }
        | Syscall::RtSigtimedwait { .. }
        | Syscall::Setitimer { .. }
        | Syscall::Prlimit { .. } => begun(f, &Begun::of(call)),
    }
}

fn begun(f: &mut Formatter<'_>, begun: &Begun) -> Result {
    match begun {
        Begun::Whole(call) => head(f, call),
        Begun::Clone { flags } => clone(f, *flags),
        Begun::Execve { path } => {
            // the name that a shell would give the program; strace shows the real one
            let name = path.rsplit('/').next().unwrap_or(path);
            write!(f, "{}, [{}], {VALID} /* 0 vars */", Quoted(path), Quoted(name))
        }
        Begun::Chdir { path } => write!(f, "{}", Quoted(path)),
        Begun::Wait4 { pid } => write!(f, "{pid}, "),
        Begun::Waitid { idtype, id } => {
            write!(f, "{}, {id}, ", Named(&names::IDTYPE, idtype.0 as u32))
        }
        Begun::RtSigaction { sig, act } => {
            write!(f, "{}, {}, ", Sig(*sig), Or(act.map(Action), "NULL"))
        }
        Begun::RtSigprocmask { how, set } => {
            write!(f, "{}, {}, ", Named(&names::HOW, *how as u32), Or(*set, "NULL"))
        }
        Begun::RtSigpending => Ok(()),
        Begun::RtSigtimedwait { set } => write!(f, "{set}, "),
        Begun::Setitimer { which, new } => {
            write!(f, "{}, {}, ", Named(&names::ITIMER, *which as u32), Or(new.map(Timer), "NULL"))
        }
        Begun::GetPdeathsig => f.write_str("PR_GET_PDEATHSIG"),
        Begun::GetChildSubreaper => f.write_str("PR_GET_CHILD_SUBREAPER"),
        Begun::Prlimit { pid, resource, new } => {
            let resource = Named(&names::RESOURCE, resource.0);
            write!(f, "{pid}, {resource}, {}, ", Or(new.map(Limits), "NULL"))
        }
    }
}

fn prctl_head(f: &mut Formatter<'_>, prctl: Prctl) -> Result {
    match prctl {
        Prctl::SetPdeathsig(sig) => match i32::try_from(sig) {
            Ok(sig) => write!(f, "PR_SET_PDEATHSIG, {}", Sig(sig)),
            Err(_) => write!(f, "PR_SET_PDEATHSIG, {sig}"),
        },
        Prctl::SetChildSubreaper(on) => write!(f, "PR_SET_CHILD_SUBREAPER, {on}"),
        Prctl::SetDumpable(value) => match usize::try_from(value) {
            Ok(nth @ 0..=2) => write!(f, "PR_SET_DUMPABLE, {}", names::DUMPABLE.names[nth]),
            _ => write!(f, "PR_SET_DUMPABLE, {value:#x} /* {} */", names::DUMPABLE.unknown),
        },
        Prctl::GetDumpable => f.write_str("PR_GET_DUMPABLE"),
        Prctl::GetPdeathsig(_) => f.write_str("PR_GET_PDEATHSIG"),
        Prctl::GetChildSubreaper(_) => f.write_str("PR_GET_CHILD_SUBREAPER"),
    }
}

fn queued(f: &mut Formatter<'_>, signo: i32, info: Option<QueuedInfo>) -> Result {
    let Some(QueuedInfo { code, pid, uid, value }) = info else { return f.write_str("NULL") };
    siginfo(f, &Fields { signo, code: SiCode(code), pid, uid, value })
}

/// What clone(2) and clone3(2) have in common.
struct Clone {
    flags: u64,
    parent_tid: u64,
    child_tid: u64,
}

fn clone(f: &mut Formatter<'_>, all: u64) -> Result {
    let (flags, signal) = (all & !0xff, (all & 0xff) as i32);
    f.write_str("child_stack=NULL, flags=")?;
    match (flags, signal) {
        (_, 0) => write!(f, "{}", Set(&names::CLONE, flags)),
        (0, _) => write!(f, "{}", Sig(signal)),
        _ => write!(f, "{}|{}", Set(&names::CLONE, flags), Sig(signal)),
    }
}

fn clone3(f: &mut Formatter<'_>, call: &Clone, signal: u64) -> Result {
    let Clone { flags, parent_tid, child_tid } = *call;
    write!(f, "{{flags={}", Set(&names::CLONE3, flags))?;
    if flags & clone::PIDFD != 0 {
        write!(f, ", pidfd={VALID}")?;
    }
    if flags & names::TO_CHILD != 0 {
        write!(f, ", child_tid={}", Address(child_tid))?;
    }
    if flags & clone::PARENT_SETTID != 0 {
        write!(f, ", parent_tid={}", Address(parent_tid))?;
    }
    match i32::try_from(signal) {
        Ok(signal) => write!(f, ", exit_signal={}", Sig(signal))?,
        Err(_) => write!(f, ", exit_signal={signal}")?,
    }
    f.write_str(", stack=NULL, stack_size=0")?;
    if flags & clone::SETTLS != 0 {
        f.write_str(", tls=NULL")?;
    }
    if flags & clone::INTO_CGROUP != 0 {
        f.write_str(", cgroup=0")?;
    }
    f.write_str("}")?;
    // the size follows what the kernel stores, where it stores something
    if flags & names::TO_PARENT == 0 { f.write_str(", 88") } else { Ok(()) }
}

/// The arguments after the split of [`Begun::of`].
fn tail(f: &mut Formatter<'_>, call: &Syscall, outcome: &Outcome) -> Result {
    let ret = match outcome {
        Outcome::Returned(Ok(ret)) => Some(ret),
        _ => None,
    };
    match (call, ret) {
        (Syscall::Clone { flags, clone3, parent_tid, child_tid }, _) => {
            let call = Clone { flags: *flags, parent_tid: *parent_tid, child_tid: *child_tid };
            if clone3.is_some() { clone3_tail(f, &call, ret) } else { clone_tail(f, &call, ret) }
        }
        (Syscall::Wait4 { status, options, .. }, _) => {
            let stored = match ret {
                Some(Ret::Waited { status, .. }) => status.map(Status),
                _ => None,
            };
            write!(f, "{}, {}, NULL", Out(*status, stored), wait_options(*options))
        }
        (Syscall::Waitid { info, options, .. }, _) => {
            let stored = match ret {
                Some(Ret::WaitInfo(stored)) => stored.as_ref().map(Child),
                _ => None,
            };
            write!(f, "{}, {}, NULL", Out(*info, stored), wait_options(*options))
        }
        (Syscall::RtSigaction { old, size, .. }, _) => {
            let stored = match ret {
                Some(Ret::Action(stored)) => stored.map(Action),
                _ => None,
            };
            write!(f, "{}, {size}", Out(*old, stored))
        }
        (Syscall::RtSigprocmask { old, size, .. }, _) => {
            let stored = match ret {
                Some(Ret::Mask(stored)) => *stored,
                _ => None,
            };
            write!(f, "{}, {size}", Out(*old, stored))
        }
        (Syscall::RtSigpending { set, size }, _) => {
            let stored = match ret {
                Some(Ret::Pending(stored)) => Some(*stored),
                _ => None,
            };
            write!(f, "{}, {size}", Out(*set, stored))
        }
        (Syscall::RtSigtimedwait { info, timeout, size, .. }, _) => {
            let stored = match ret {
                Some(Ret::Signal(stored)) => Some(Info(stored)),
                _ => None,
            };
            write!(f, "{}, {}, {size}", Out(*info, stored), Or(timeout.map(Span), "NULL"))
        }
        (Syscall::Setitimer { old, .. }, Some(Ret::Itimer(stored))) => {
            write!(f, "{}", Out(*old, stored.map(Timer)))
        }
        (Syscall::Setitimer { old, .. }, _) => pointer(f, *old),
        (Syscall::Getitimer { .. }, Some(Ret::Itimer(stored))) => {
            write!(f, "{}", Or(stored.map(Timer), VALID))
        }
        (Syscall::Getitimer { .. }, _) => f.write_str(VALID),
        (Syscall::Prctl(prctl), _) => prctl_tail(f, *prctl, ret),
        (Syscall::Getresuid, Some(Ret::Users([real, effective, saved]))) => {
            write!(f, "[{real}], [{effective}], [{saved}]")
        }
        (Syscall::Getresuid, _) => write!(f, "{VALID}, {VALID}, {VALID}"),
        (Syscall::Prlimit { old, .. }, Some(Ret::Limit(stored))) => {
            write!(f, "{}", Out(*old, stored.map(Limits)))
        }
        (Syscall::Prlimit { old, .. }, _) => pointer(f, *old),
        (Syscall::Getcwd, Some(Ret::Path(path))) => write!(f, "{}, 4096", Quoted(path)),
        (Syscall::Getcwd, _) => write!(f, "{VALID}, 4096"),
        _ => Ok(()),
    }
}

fn clone_tail(f: &mut Formatter<'_>, call: &Clone, ret: Option<&Ret>) -> Result {
    let Clone { flags, parent_tid, child_tid } = *call;
    if flags & names::TO_PARENT != 0 {
        write!(f, ", parent_tid={}", Number(parent_tid, ret))?;
    }
    if flags & clone::SETTLS != 0 {
        write!(f, ", tls={VALID}")?;
    }
    if flags & names::TO_CHILD != 0 {
        write!(f, ", child_tidptr={}", Address(child_tid))?;
    }
    Ok(())
}

fn clone3_tail(f: &mut Formatter<'_>, call: &Clone, ret: Option<&Ret>) -> Result {
    let Clone { flags, parent_tid, .. } = *call;
    if flags & names::TO_PARENT == 0 {
        return Ok(());
    }
    if ret.is_some_and(|ret| *ret != Ret::Never) {
        let (pidfd, parent) = (flags & clone::PIDFD != 0, flags & clone::PARENT_SETTID != 0);
        f.write_str(" => {")?;
        if pidfd {
            // the model has no descriptors
            f.write_str("pidfd=[3]")?;
        }
        if parent {
            let comma = if pidfd { ", " } else { "" };
            write!(f, "{comma}parent_tid={}", Number(parent_tid, ret))?;
        }
        f.write_str("}")?;
    }
    f.write_str(", 88")
}

/// The number that a call returned and stored at an address; the address where it could not.
struct Number<'a>(u64, Option<&'a Ret>);

impl Display for Number<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.1 {
            Some(ret) if *ret != Ret::Never && can_store(self.0) => write!(f, "[{}]", ret.value()),
            _ => write!(f, "{}", Address(self.0)),
        }
    }
}

fn prctl_tail(f: &mut Formatter<'_>, prctl: Prctl, ret: Option<&Ret>) -> Result {
    let stored = match ret {
        Some(Ret::Stored(stored)) => Some(*stored),
        _ => None,
    };
    match prctl {
        Prctl::GetPdeathsig(ptr) => {
            write!(f, ", {}", Out(ptr, stored.map(|sig| Bracketed(Sig(sig)))))
        }
        Prctl::GetChildSubreaper(ptr) => write!(f, ", {}", Out(ptr, stored.map(Bracketed))),
        Prctl::SetPdeathsig(_)
        | Prctl::SetChildSubreaper(_)
        | Prctl::SetDumpable(_)
        | Prctl::GetDumpable => Ok(()),
    }
}

fn pointer(f: &mut Formatter<'_>, ptr: Ptr) -> Result {
    f.write_str(match ptr {
        Ptr::Null => "NULL",
        Ptr::Valid => VALID,
        Ptr::Bad => BAD,
    })
}

/// What was stored through a pointer, or else the pointer.
struct Out<T>(Ptr, Option<T>);

impl<T: Display> Display for Out<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.0, &self.1) {
            (Ptr::Valid, Some(stored)) => stored.fmt(f),
            (ptr, _) => pointer(f, ptr),
        }
    }
}

/// A value, or else a fixed text.
struct Or<T>(Option<T>, &'static str);

impl<T: Display> Display for Or<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(self.1),
        }
    }
}

/// A value behind a pointer.
struct Bracketed<T>(T);

impl<T: Display> Display for Bracketed<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "[{}]", self.0)
    }
}

/// The number of a signal, or of none.
struct Sig(i32);

impl Display for Sig {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match Signal::new(self.0) {
            Some(signal) => signal.fmt(f),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A value of an enumeration.
struct Named(&'static Names, u32);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0.names.get(self.1 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x} /* {} */", self.1, self.0.unknown),
        }
    }
}

/// Flags.
struct Set(&'static Flags, u64);

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Set(table, mut rest) = *self;
        let mut separator = "";
        for (bit, name) in table.names {
            if rest & bit != 0 {
                write!(f, "{separator}{name}")?;
                (separator, rest) = ("|", rest & !bit);
            }
        }
        match (separator, rest, table.unknown) {
            ("", 0, _) => f.write_str("0"),
            ("", _, Some(remark)) => write!(f, "{rest:#x} /* {remark} */"),
            (_, 0, _) => Ok(()),
            (separator, _, _) => write!(f, "{separator}{rest:#x}"),
        }
    }
}

fn wait_options(options: WaitOptions) -> Set {
    Set(&names::WAIT, u64::from(options.0))
}

fn octal(f: &mut Formatter<'_>, mask: u64) -> Result {
    // at least three digits, and a zero in front
    if mask < 0o100 { write!(f, "{mask:03o}") } else { write!(f, "0{mask:o}") }
}

fn user(f: &mut Formatter<'_>, uid: u32) -> Result {
    if uid == u32::MAX { f.write_str("-1") } else { write!(f, "{uid}") }
}

fn users(f: &mut Formatter<'_>, uids: &[u32]) -> Result {
    for (nth, uid) in uids.iter().enumerate() {
        f.write_str(if nth > 0 { ", " } else { "" })?;
        user(f, *uid)?;
    }
    Ok(())
}

/// A string in C's notation.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("\"")?;
        let bytes = self.0.as_bytes();
        for (nth, byte) in bytes.iter().enumerate() {
            let octal = bytes.get(nth + 1).is_some_and(|next| (b'0'..=b'7').contains(next));
            escape(f, *byte, octal)?;
        }
        f.write_str("\"")
    }
}

/// One byte; before an octal digit an octal escape has to have all three of its own.
fn escape(f: &mut Formatter<'_>, byte: u8, before_digit: bool) -> Result {
    match byte {
        b'"' => f.write_str("\\\""),
        b'\\' => f.write_str("\\\\"),
        b'\n' => f.write_str("\\n"),
        b'\t' => f.write_str("\\t"),
        b'\r' => f.write_str("\\r"),
        0x0b => f.write_str("\\v"),
        0x0c => f.write_str("\\f"),
        b' '..=b'~' => f.write_char(char::from(byte)),
        _ if before_digit => write!(f, "\\{byte:03o}"),
        _ => write!(f, "\\{byte:o}"),
    }
}

struct Action(SigAction);

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let SigAction { handler, flags, mask, restorer } = self.0;
        match handler.to_raw() {
            0 => f.write_str("{sa_handler=SIG_DFL")?,
            1 => f.write_str("{sa_handler=SIG_IGN")?,
            address => write!(f, "{{sa_handler={address:#x}")?,
        }
        write!(f, ", sa_mask={mask}, sa_flags={}", Set(&names::SIGACTION, u64::from(flags.0)))?;
        if flags.contains(crate::abi::SaFlags::RESTORER) {
            write!(f, ", sa_restorer={}", Address(restorer))?;
        }
        f.write_str("}")
    }
}

struct Address(u64);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0 == 0 { f.write_str("NULL") } else { write!(f, "{:#x}", self.0) }
    }
}

struct Status(WaitStatus);

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let status = self.0;
        if status.continued() {
            return f.write_str("[{WIFCONTINUED(s)}]");
        }
        if let Some(signal) = status.stop_signal().filter(|s| WaitStatus::stopped(*s) == status) {
            return write!(f, "[{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal}}}]");
        }
        let core = status.core();
        if let Some(signal) =
            status.term_signal().filter(|s| WaitStatus::killed(*s, core) == status)
        {
            let core = if core { " && WCOREDUMP(s)" } else { "" };
            return write!(f, "[{{WIFSIGNALED(s) && WTERMSIG(s) == {signal}{core}}}]");
        }
        match status.exit_code().filter(|code| WaitStatus::exited(i32::from(*code)) == status) {
            Some(code) => write!(f, "[{{WIFEXITED(s) && WEXITSTATUS(s) == {code}}}]"),
            None => write!(f, "[{:#x}]", status.0),
        }
    }
}

struct Child<'a>(&'a Option<SigInfo>);

impl Display for Child<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Some(info) => Info(info).fmt(f),
            None => f.write_str("{}"),
        }
    }
}

/// The fields of a siginfo that the model has.
struct Fields {
    signo: i32,
    code: SiCode,
    pid: u32,
    uid: u32,
    value: u64,
}

fn siginfo(f: &mut Formatter<'_>, info: &Fields) -> Result {
    let Fields { signo, code: SiCode(code), pid, uid, value } = *info;
    if (signo, code, pid, uid, value) == (0, 0, 0, 0, 0) {
        return f.write_str("{}");
    }
    let child = signo == i32::from(Signal::CHLD.number());
    write!(f, "{{si_signo={}, si_code=", Sig(signo))?;
    si_code(f, code, child)?;
    if code == names::SI_TIMER {
        let timer = if pid == 0 { "" } else { "0x" };
        write!(f, ", si_timerid={timer}{pid:x}, si_overrun={}", uid as i32)?;
        return sigval(f, value);
    }
    // the kernel itself has no pid
    if code <= 0 || child || (pid, uid) != (0, 0) {
        write!(f, ", si_pid={}, si_uid=", pid as i32)?;
        user(f, uid)?;
    }
    if child && code > 0 && value as i32 as u64 == value {
        return child_fields(f, code, value as i32);
    }
    // SI_USER and SI_TKILL have none; if a guest made one up, it must not get lost
    if value != 0 {
        return sigval(f, value);
    }
    f.write_str("}")
}

fn child_fields(f: &mut Formatter<'_>, code: i32, status: i32) -> Result {
    match SiCode(code) {
        SiCode::CLD_EXITED => write!(f, ", si_status={status}")?,
        _ => write!(f, ", si_status={}", Sig(status))?,
    }
    f.write_str(", si_utime=0, si_stime=0}")
}

fn sigval(f: &mut Formatter<'_>, value: u64) -> Result {
    write!(f, ", si_int={}, si_ptr={}}}", value as i32, Address(value))
}

fn si_code(f: &mut Formatter<'_>, code: i32, child: bool) -> Result {
    let special = if child { names::CLD_CODES } else { &[] };
    match names::SI_CODES.iter().chain(special).find(|(each, _)| *each == code) {
        Some((_, name)) => f.write_str(name),
        None => write!(f, "{code:#x}"),
    }
}

struct Span(Timespec);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // strace prints the second field without its sign
        write!(f, "{{tv_sec={}, tv_nsec={}}}", self.0.sec, self.0.nsec as u64)
    }
}

struct Timer(Itimerval);

impl Display for Timer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Itimerval { interval, value } = self.0;
        f.write_str("{it_interval=")?;
        timeval(f, interval)?;
        f.write_str(", it_value=")?;
        timeval(f, value)?;
        f.write_str("}")
    }
}

fn timeval(f: &mut Formatter<'_>, time: Timeval) -> Result {
    write!(f, "{{tv_sec={}, tv_usec={}}}", time.sec, time.usec as u64)
}

struct Limits(Rlimit);

impl Display for Limits {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("{rlim_cur=")?;
        limit(f, self.0.soft)?;
        f.write_str(", rlim_max=")?;
        limit(f, self.0.hard)?;
        f.write_str("}")
    }
}

fn limit(f: &mut Formatter<'_>, limit: u64) -> Result {
    match limit {
        Rlimit::INFINITY => f.write_str("RLIM64_INFINITY"),
        _ if limit > 1024 && limit.is_multiple_of(1024) => write!(f, "{}*1024", limit / 1024),
        _ => write!(f, "{limit}"),
    }
}
