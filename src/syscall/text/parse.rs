//! Values as strace prints them, read back.

use alloc::string::String;

use crate::abi::{
    Errno, Handler, IdType, Itimerval, Pid, Resource, Rlimit, SaFlags, SiCode, SigAction, SigInfo,
    SigSet, Signal, Timespec, Timeval, Uid, WaitOptions, WaitStatus,
};
use crate::syscall::{MEMORY, Prctl, Ptr, QueuedInfo, Ret, Syscall};

use super::cursor::{Cursor, Result};
use super::names;
use super::{Begun, Fault, Outcome, Restart};

/// A call that returned.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) call: Syscall,
    pub(crate) outcome: Outcome,
    /// The mask that rt_sigreturn(2) restores.
    pub(crate) mask: SigSet,
}

/// Reads `name(arguments) = result`.
pub(crate) fn whole(text: &str) -> Result<Read> {
    let c = &mut Cursor::new(text);
    let (begun, mask) = head(c)?;
    let (call, outcome) = finish(c, begun)?;
    Ok(Read { call, outcome, mask })
}

/// Reads `name(arguments`, as much as is shown before the call returns.
pub(crate) fn begun(text: &str) -> Result<(Begun, SigSet)> {
    let c = &mut Cursor::new(text);
    let read = head(c)?;
    // what may follow at once: clone3's size, which the model drops
    if let Begun::Whole(Syscall::Clone { .. }) = read.0 {
        c.skip_arguments()?;
    }
    if c.at_end() { Ok(read) } else { c.fail("expected ` <unfinished ...>`") }
}

/// Reads the siginfo of a signal that arrived: `{si_signo=SIGHUP, …}`.
pub(crate) fn siginfo(text: &str) -> Result<SigInfo> {
    let c = &mut Cursor::new(text);
    let info = info(c)?;
    if !c.at_end() {
        return c.fail("expected the end of the siginfo");
    }
    info.filled()?.ok_or(Fault::Unmodelled)
}

fn head(c: &mut Cursor<'_>) -> Result<(Begun, SigSet)> {
    let name = c.word();
    if name.is_empty() {
        return c.fail("expected the name of a call");
    }
    c.expect("(")?;
    if name == "rt_sigreturn" {
        c.expect("{")?;
        c.expect("mask=")?;
        let mask = c.sigset()?;
        c.expect("}")?;
        return Ok((Begun::Whole(Syscall::RtSigreturn), mask));
    }
    Ok((arguments(c, name)?, SigSet::EMPTY))
}

fn arguments(c: &mut Cursor<'_>, name: &str) -> Result<Begun> {
    Ok(match name {
        "execve" => {
            let path = c.needed(Cursor::string)?.into();
            c.comma()?;
            c.skip_argument()?;
            c.comma()?;
            c.skip_argument()?;
            Begun::Execve { path }
        }
        "chdir" => Begun::Chdir { path: c.needed(Cursor::string)?.into() },
        "wait4" => Begun::Wait4 { pid: first(c, Cursor::i32)? },
        "waitid" => {
            let idtype = IdType(first(c, |c| c.named(&names::IDTYPE))? as i32);
            Begun::Waitid { idtype, id: first(c, Cursor::i32)? }
        }
        "rt_sigaction" => {
            let sig = first(c, Cursor::signal)?;
            Begun::RtSigaction { sig, act: first(c, |c| c.input(action))? }
        }
        "rt_sigprocmask" => {
            let how = first(c, |c| c.named(&names::HOW))? as i32;
            Begun::RtSigprocmask { how, set: first(c, |c| c.input(Cursor::sigset))? }
        }
        "rt_sigpending" => Begun::RtSigpending,
        "rt_sigtimedwait" => Begun::RtSigtimedwait { set: first(c, |c| c.needed(Cursor::sigset))? },
        "setitimer" => {
            let which = first(c, |c| c.named(&names::ITIMER))? as i32;
            Begun::Setitimer { which, new: first(c, |c| c.input(itimerval))? }
        }
        "prlimit64" => {
            let pid = first(c, Cursor::i32)?;
            let resource = Resource(first(c, |c| c.named(&names::RESOURCE))?);
            Begun::Prlimit { pid, resource, new: first(c, |c| c.input(rlimit))? }
        }
        "clone" => clone(c)?,
        "prctl" => return prctl(c),
        _ => Begun::Whole(plain(c, name)?),
    })
}

/// An argument that is not the last.
fn first<'a, T>(c: &mut Cursor<'a>, read: impl FnOnce(&mut Cursor<'a>) -> Result<T>) -> Result<T> {
    let value = read(c)?;
    c.comma()?;
    Ok(value)
}

/// The calls of which all arguments are shown at once.
fn plain(c: &mut Cursor<'_>, name: &str) -> Result<Syscall> {
    Ok(match name {
        "fork" => Syscall::Fork,
        "vfork" => Syscall::Vfork,
        "clone3" => clone3(c)?,
        "unshare" => Syscall::Unshare(c.flags(&names::UNSHARE, |_| None)?),
        "set_tid_address" => Syscall::SetTidAddress(c.address()?),
        "exit" => Syscall::Exit(c.i32()?),
        "exit_group" => Syscall::ExitGroup(c.i32()?),
        "setpgid" => Syscall::Setpgid { pid: first(c, Cursor::i32)?, pgid: c.i32()? },
        "getpgid" => Syscall::Getpgid(c.i32()?),
        "getpgrp" => Syscall::Getpgrp,
        "setsid" => Syscall::Setsid,
        "getsid" => Syscall::Getsid(c.i32()?),
        "getpid" => Syscall::Getpid,
        "gettid" => Syscall::Gettid,
        "getppid" => Syscall::Getppid,
        "kill" => Syscall::Kill { pid: first(c, Cursor::i32)?, sig: c.signal()? },
        "tkill" => Syscall::Tkill { tid: first(c, Cursor::i32)?, sig: c.signal()? },
        "tgkill" => {
            let (tgid, tid) = (first(c, Cursor::i32)?, first(c, Cursor::i32)?);
            Syscall::Tgkill { tgid, tid, sig: c.signal()? }
        }
        "rt_sigqueueinfo" => {
            let (pid, sig) = (first(c, Cursor::i32)?, first(c, Cursor::signal)?);
            Syscall::RtSigqueueinfo { pid, sig, info: c.out(info)?.split().1.map(Info::queued) }
        }
        "rt_tgsigqueueinfo" => {
            let (tgid, tid) = (first(c, Cursor::i32)?, first(c, Cursor::i32)?);
            let sig = first(c, Cursor::signal)?;
            let info = c.out(info)?.split().1.map(Info::queued);
            Syscall::RtTgsigqueueinfo { tgid, tid, sig, info }
        }
        "rt_sigsuspend" => Syscall::RtSigsuspend {
            mask: first(c, |c| c.needed(Cursor::sigset))?,
            size: c.usize()?,
        },
        "pause" => Syscall::Pause,
        "alarm" => Syscall::Alarm(c.u32()?),
        "getitimer" => Syscall::Getitimer { which: first(c, |c| c.named(&names::ITIMER))? as i32 },
        "getuid" => Syscall::Getuid,
        "geteuid" => Syscall::Geteuid,
        "getresuid" => Syscall::Getresuid,
        "setuid" => Syscall::Setuid(c.u32()?),
        "setreuid" => Syscall::Setreuid { real: first(c, Cursor::u32)?, effective: c.u32()? },
        "setresuid" => {
            let (real, effective) = (first(c, Cursor::u32)?, first(c, Cursor::u32)?);
            Syscall::Setresuid { real, effective, saved: c.u32()? }
        }
        "umask" => Syscall::Umask(c.u32()?),
        "getcwd" => Syscall::Getcwd,
        _ => return Err(Fault::Unmodelled),
    })
}

fn prctl(c: &mut Cursor<'_>) -> Result<Begun> {
    Ok(Begun::Whole(Syscall::Prctl(match c.word() {
        "PR_GET_PDEATHSIG" => return Ok(Begun::GetPdeathsig),
        "PR_GET_CHILD_SUBREAPER" => return Ok(Begun::GetChildSubreaper),
        "PR_GET_DUMPABLE" => Prctl::GetDumpable,
        "PR_SET_PDEATHSIG" => {
            c.comma()?;
            let name = c.peek_signal()?;
            Prctl::SetPdeathsig(name.map_or_else(|| c.u64(), |sig| Ok(u64::from(sig)))?)
        }
        "PR_SET_CHILD_SUBREAPER" => {
            c.comma()?;
            Prctl::SetChildSubreaper(c.u64()?)
        }
        "PR_SET_DUMPABLE" => {
            c.comma()?;
            Prctl::SetDumpable(c.wide(&names::DUMPABLE)?)
        }
        _ => return Err(Fault::Unmodelled),
    })))
}

fn clone(c: &mut Cursor<'_>) -> Result<Begun> {
    c.expect("child_stack=")?;
    c.skip_argument()?;
    c.comma()?;
    // with a stack of its own, its size comes next on some machines
    if c.accept("stack_size=") {
        c.skip_argument()?;
        c.comma()?;
    }
    c.expect("flags=")?;
    let signal = |name: &str| super::signal(name).map(|signal| u64::from(signal.number()));
    Ok(Begun::of(&Syscall::clone_call(c.flags(&names::CLONE, signal)?)))
}

fn clone3(c: &mut Cursor<'_>) -> Result<Syscall> {
    c.needed(|c| {
        let (mut flags, mut signal, mut parent_tid, mut child_tid) = (None, None, 0, 0);
        c.expect("{")?;
        while !c.accept("}") {
            match c.word() {
                "flags" => {
                    c.expect("=")?;
                    flags = Some(c.flags(&names::CLONE3, |_| None)?);
                }
                "exit_signal" => {
                    c.expect("=")?;
                    signal = match c.peek_signal()? {
                        Some(signal) => Some(u64::from(signal)),
                        None => Some(c.u64()?),
                    };
                }
                "parent_tid" => {
                    c.expect("=")?;
                    parent_tid = c.address()?;
                }
                "child_tid" => {
                    c.expect("=")?;
                    child_tid = c.address()?;
                }
                "" => return c.fail("expected a field of clone_args"),
                _ => c.skip_argument()?,
            }
            c.accept(",");
        }
        match (flags, signal) {
            (Some(flags), Some(signal)) => {
                Ok(Syscall::Clone { flags, clone3: Some(signal), parent_tid, child_tid })
            }
            _ => c.fail("expected flags and exit_signal before `}`"),
        }
    })
}

/// The number behind the `=`, or what else is there.
enum Value {
    Number(i64),
    Other(Outcome),
}

impl Value {
    /// The outcome, where `ret` turns the number into what the call gives back.
    fn outcome(self, c: &Cursor<'_>, ret: impl FnOnce(i64) -> Option<Ret>) -> Result<Outcome> {
        match self {
            Value::Other(outcome) => Ok(outcome),
            Value::Number(number) => match ret(number) {
                Some(ret) => Ok(Ok(ret).into()),
                None => c.fail("expected a value that the call can return"),
            },
        }
    }
}

/// The end of the arguments, the result, the end of the text.
fn close(c: &mut Cursor<'_>) -> Result<Value> {
    c.expect(")")?;
    c.expect("=")?;
    let value = result(c)?;
    c.blanks();
    let start = c.position();
    let remark = c.remainder().trim_end();
    if remark.is_empty() || (remark.starts_with('(') && remark.ends_with(')')) {
        return Ok(value);
    }
    c.back_to(start);
    c.fail("expected the end of the line")
}

fn result(c: &mut Cursor<'_>) -> Result<Value> {
    if c.accept("?") {
        let start = c.position();
        let name = c.word();
        if name.is_empty() {
            return Ok(Value::Other(Ok(Ret::Never).into()));
        }
        let found = Restart::ALL.iter().find(|(_, each, _)| *each == name);
        return match found {
            Some((restart, _, _)) => Ok(Value::Other(Outcome::Interrupted(*restart))),
            None => {
                c.back_to(start);
                c.fail("expected ERESTARTSYS or another of its kind")
            }
        };
    }
    let number = c.i64()?;
    if number != -1 {
        return Ok(Value::Number(number));
    }
    match errno(c)? {
        Some(errno) => Ok(Value::Other(Err(errno).into())),
        None => Ok(Value::Number(number)),
    }
}

/// The error behind `-1`: by its name, or as `(errno 600)`.
fn errno(c: &mut Cursor<'_>) -> Result<Option<Errno>> {
    if c.accept("(errno ") {
        let number = c.u32()?;
        c.expect(")")?;
        return match u16::try_from(number) {
            Ok(number) => Ok(Some(Errno(number))),
            Err(_) => c.fail("expected an error number of 16 bits"),
        };
    }
    c.blanks();
    let start = c.position();
    let name = c.word();
    match names::errno(name) {
        Some(errno) => Ok(Some(errno)),
        None if name.is_empty() => Ok(None),
        None => {
            c.back_to(start);
            c.fail("expected the name of an error")
        }
    }
}

fn zero(ret: Ret) -> impl FnOnce(i64) -> Option<Ret> {
    move |number| (number == 0).then_some(ret)
}

/// The error of a path, for the calls that keep it.
fn path_error(outcome: &Outcome) -> Option<Errno> {
    match outcome {
        Outcome::Returned(Err(errno)) => Some(*errno),
        _ => None,
    }
}

fn finish(c: &mut Cursor<'_>, begun: Begun) -> Result<(Syscall, Outcome)> {
    match begun {
        Begun::Whole(call) => finish_whole(c, call),
        Begun::Clone { flags } => finish_clone(c, flags),
        Begun::Execve { path } => {
            let outcome = close(c)?.outcome(c, |n| Some(Ret::Value(n)))?;
            Ok((Syscall::Execve { path, error: path_error(&outcome) }, outcome))
        }
        Begun::Chdir { path } => {
            let outcome = close(c)?.outcome(c, |n| Some(Ret::Value(n)))?;
            Ok((Syscall::Chdir { path, error: path_error(&outcome) }, outcome))
        }
        Begun::Wait4 { pid } => finish_wait4(c, pid),
        Begun::Waitid { idtype, id } => finish_waitid(c, idtype, id),
        Begun::RtSigaction { sig, act } => {
            let (old, stored) = first(c, |c| c.out(action))?.split();
            let size = c.usize()?;
            let outcome = close(c)?.outcome(c, zero(Ret::Action(stored)))?;
            Ok((Syscall::RtSigaction { sig, act, old, size }, outcome))
        }
        Begun::RtSigprocmask { how, set } => {
            let (old, stored) = first(c, |c| c.out(Cursor::sigset))?.split();
            let size = c.usize()?;
            let outcome = close(c)?.outcome(c, zero(Ret::Mask(stored)))?;
            Ok((Syscall::RtSigprocmask { how, set, old, size }, outcome))
        }
        Begun::RtSigpending => {
            let (set, stored) = first(c, |c| c.out(Cursor::sigset))?.split();
            let size = c.usize()?;
            let ret = |n| stored.filter(|_| n == 0).map(Ret::Pending);
            let outcome = close(c)?.outcome(c, ret)?;
            Ok((Syscall::RtSigpending { set, size }, outcome))
        }
        Begun::RtSigtimedwait { set } => finish_sigtimedwait(c, set),
        Begun::Setitimer { which, new } => {
            let (old, stored) = c.out(itimerval)?.split();
            let outcome = close(c)?.outcome(c, zero(Ret::Itimer(stored)))?;
            Ok((Syscall::Setitimer { which, new, old }, outcome))
        }
        Begun::GetPdeathsig => {
            let (ptr, outcome) = finish_prctl(c, Cursor::signal)?;
            Ok((Syscall::Prctl(Prctl::GetPdeathsig(ptr)), outcome))
        }
        Begun::GetChildSubreaper => {
            let (ptr, outcome) = finish_prctl(c, Cursor::i32)?;
            Ok((Syscall::Prctl(Prctl::GetChildSubreaper(ptr)), outcome))
        }
        Begun::Prlimit { pid, resource, new } => {
            let (old, stored) = c.out(rlimit)?.split();
            let outcome = close(c)?.outcome(c, zero(Ret::Limit(stored)))?;
            Ok((Syscall::Prlimit { pid, resource, new, old }, outcome))
        }
    }
}

fn finish_whole(c: &mut Cursor<'_>, call: Syscall) -> Result<(Syscall, Outcome)> {
    let outcome = match call {
        Syscall::Clone { .. } => {
            c.skip_arguments()?;
            close(c)?.outcome(c, |n| Some(Ret::Value(n)))?
        }
        Syscall::Getitimer { .. } => {
            let (_, stored) = c.out(itimerval)?.split();
            close(c)?.outcome(c, zero(Ret::Itimer(stored)))?
        }
        Syscall::Getresuid => {
            let mut user = |last| {
                let read = |c: &mut Cursor<'_>| c.out(|c| c.bracketed(Cursor::u32));
                let read = if last { read(c) } else { first(c, read) };
                read.map(|user| user.split().1.map(Uid))
            };
            let users = (user(false)?, user(false)?, user(true)?);
            close(c)?.outcome(c, |n| match users {
                (Some(real), Some(effective), Some(saved)) if n == 0 => {
                    Some(Ret::Users([real, effective, saved]))
                }
                _ => None,
            })?
        }
        Syscall::Getcwd => {
            let (_, path) = first(c, |c| c.out(Cursor::string))?.split();
            c.usize()?;
            close(c)?.outcome(c, |_| path.map(|path: String| Ret::Path(path.into())))?
        }
        _ => close(c)?.outcome(c, |n| Some(Ret::Value(n)))?,
    };
    Ok((call, outcome))
}

/// The addresses of clone(2), of which the number of the child stands for one that is good.
fn finish_clone(c: &mut Cursor<'_>, flags: u64) -> Result<(Syscall, Outcome)> {
    let (mut parent_tid, mut child_tid) = (0, 0);
    while c.accept(",") {
        match c.word() {
            "parent_tid" => {
                c.expect("=")?;
                parent_tid = match c.accept("[") {
                    true => {
                        c.i32()?;
                        c.expect("]")?;
                        MEMORY
                    }
                    false => c.address()?,
                };
            }
            "child_tidptr" => {
                c.expect("=")?;
                child_tid = c.address()?;
            }
            "tls" => c.skip_argument()?,
            _ => return c.fail("expected parent_tid, tls or child_tidptr"),
        }
    }
    let outcome = close(c)?.outcome(c, |n| Some(Ret::Value(n)))?;
    Ok((Syscall::Clone { flags, clone3: None, parent_tid, child_tid }, outcome))
}

fn wait_options(c: &mut Cursor<'_>) -> Result<WaitOptions> {
    let flags = first(c, |c| c.flags(&names::WAIT, |_| None))?;
    // the resource usage is nothing to the model
    c.skip_argument()?;
    match u32::try_from(flags) {
        Ok(options) => Ok(WaitOptions(options)),
        Err(_) => c.fail("expected options of 32 bits"),
    }
}

fn finish_wait4(c: &mut Cursor<'_>, pid: i32) -> Result<(Syscall, Outcome)> {
    let (ptr, status) = first(c, |c| c.out(|c| c.bracketed(wait_status)))?.split();
    let options = wait_options(c)?;
    let outcome = close(c)?
        .outcome(c, |child| Some(Ret::Waited { pid: Pid(u32::try_from(child).ok()?), status }))?;
    Ok((Syscall::Wait4 { pid, status: ptr, options }, outcome))
}

fn finish_waitid(c: &mut Cursor<'_>, idtype: IdType, id: i32) -> Result<(Syscall, Outcome)> {
    let (ptr, stored) = first(c, |c| c.out(info))?.split();
    let stored = stored.map(Info::filled).transpose()?;
    let options = wait_options(c)?;
    let outcome = close(c)?.outcome(c, zero(Ret::WaitInfo(stored)))?;
    Ok((Syscall::Waitid { idtype, id, info: ptr, options }, outcome))
}

fn finish_sigtimedwait(c: &mut Cursor<'_>, set: SigSet) -> Result<(Syscall, Outcome)> {
    let (ptr, stored) = first(c, |c| c.out(info))?.split();
    let stored = stored.map(Info::filled).transpose()?.flatten();
    let timeout = first(c, |c| c.input(timespec))?;
    let size = c.usize()?;
    let outcome = close(c)?.outcome(c, |number| {
        let signal = Signal::new(i32::try_from(number).ok()?)?;
        let info = stored.unwrap_or_else(|| SigInfo::lost(signal));
        (info.signal == signal).then_some(Ret::Signal(info))
    })?;
    Ok((Syscall::RtSigtimedwait { set, info: ptr, timeout, size }, outcome))
}

/// The pointer of a prctl(2) that stores an int, and the outcome.
fn finish_prctl<'a>(
    c: &mut Cursor<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<i32>,
) -> Result<(Ptr, Outcome)> {
    c.comma()?;
    let (ptr, stored) = c.out(|c| c.bracketed(read))?.split();
    let outcome = close(c)?.outcome(c, |n| stored.filter(|_| n == 0).map(Ret::Stored))?;
    Ok((ptr, outcome))
}

/// What stands between the brackets of wait4(2): `{WIFEXITED(s) && WEXITSTATUS(s) == 3}`.
fn wait_status(c: &mut Cursor<'_>) -> Result<WaitStatus> {
    if !c.accept("{") {
        return c.u32().map(WaitStatus);
    }
    let status = if c.accept("WIFEXITED(s) && WEXITSTATUS(s) == ") {
        WaitStatus::exited(c.i32()?)
    } else if c.accept("WIFSIGNALED(s) && WTERMSIG(s) == ") {
        let signal = real_signal(c)?;
        WaitStatus::killed(signal, c.accept("&& WCOREDUMP(s)"))
    } else if c.accept("WIFSTOPPED(s) && WSTOPSIG(s) == ") {
        WaitStatus::stopped(real_signal(c)?)
    } else if c.accept("WIFCONTINUED(s)") {
        WaitStatus::CONTINUED
    } else {
        return c.fail("expected WIFEXITED, WIFSIGNALED, WIFSTOPPED or WIFCONTINUED");
    };
    c.expect("}")?;
    Ok(status)
}

fn real_signal(c: &mut Cursor<'_>) -> Result<Signal> {
    match Signal::new(c.signal()?) {
        Some(signal) => Ok(signal),
        None => c.fail("expected a signal from 1 to 64 before this"),
    }
}

/// Reads `{name=value, name=value}`; `field` reads the value of each name, and says whether it
/// knows it.
fn fields(
    c: &mut Cursor<'_>,
    mut field: impl FnMut(&mut Cursor<'_>, &str) -> Result<bool>,
) -> Result<()> {
    c.expect("{")?;
    if c.accept("}") {
        return Ok(());
    }
    loop {
        let start = c.position();
        let name = c.word();
        c.expect("=")?;
        if !field(c, name)? {
            c.back_to(start);
            return c.fail("expected another field");
        }
        if c.accept("}") {
            return Ok(());
        }
        c.comma()?;
    }
}

fn action(c: &mut Cursor<'_>) -> Result<SigAction> {
    let mut action = SigAction::DEFAULT;
    let mut fits = true;
    fields(c, |c, name| {
        match name {
            "sa_handler" | "sa_sigaction" if c.accept("SIG_DFL") => {
                action.handler = Handler::Default;
            }
            "sa_handler" | "sa_sigaction" if c.accept("SIG_IGN") => {
                action.handler = Handler::Ignore;
            }
            "sa_handler" | "sa_sigaction" => action.handler = Handler::from_raw(c.address()?),
            "sa_mask" => action.mask = c.sigset()?,
            "sa_flags" => {
                let flags = c.flags(&names::SIGACTION, |_| None)?;
                fits &= u32::try_from(flags).is_ok();
                action.flags = SaFlags(flags as u32);
            }
            "sa_restorer" => action.restorer = c.address()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !action.flags.contains(SaFlags::RESTORER) {
        // strace does not show it then, and the kernel does not use it
        action.restorer = 0;
    }
    if fits { Ok(action) } else { Err(Fault::Unmodelled) }
}

fn timespec(c: &mut Cursor<'_>) -> Result<Timespec> {
    let mut time = Timespec::default();
    fields(c, |c, name| {
        match name {
            "tv_sec" => time.sec = c.i64()?,
            "tv_nsec" => time.nsec = c.i64()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(time)
}

fn timeval(c: &mut Cursor<'_>) -> Result<Timeval> {
    let mut time = Timeval::default();
    fields(c, |c, name| {
        match name {
            "tv_sec" => time.sec = c.i64()?,
            "tv_usec" => time.usec = c.i64()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(time)
}

fn itimerval(c: &mut Cursor<'_>) -> Result<Itimerval> {
    let mut timer = Itimerval::default();
    fields(c, |c, name| {
        match name {
            "it_interval" => timer.interval = timeval(c)?,
            "it_value" => timer.value = timeval(c)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(timer)
}

fn rlimit(c: &mut Cursor<'_>) -> Result<Rlimit> {
    let mut limits = Rlimit::NONE;
    fields(c, |c, name| {
        match name {
            "rlim_cur" => limits.soft = limit(c)?,
            "rlim_max" => limits.hard = limit(c)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(limits)
}

fn limit(c: &mut Cursor<'_>) -> Result<u64> {
    if c.accept("RLIM64_INFINITY") || c.accept("RLIM_INFINITY") {
        return Ok(Rlimit::INFINITY);
    }
    let number = c.u64()?;
    if !c.accept("*1024") {
        return Ok(number);
    }
    match number.checked_mul(1024) {
        Some(limit) => Ok(limit),
        None => c.fail("expected a limit of 64 bits before this"),
    }
}

/// The fields of a siginfo.
#[derive(Default)]
struct Info {
    signo: i32,
    code: i32,
    pid: u32,
    uid: u32,
    value: u64,
}

impl Info {
    /// As a signal; `None` for zeroes.
    fn filled(self) -> Result<Option<SigInfo>> {
        if self.signo == 0 {
            return Ok(None);
        }
        let Some(signal) = Signal::new(self.signo) else { return Err(Fault::Unmodelled) };
        let Info { code, pid, uid, value, .. } = self;
        Ok(Some(SigInfo { signal, code: SiCode(code), pid: Pid(pid), uid: Uid(uid), value }))
    }

    /// As an argument of rt_sigqueueinfo(2), which says the signal itself.
    fn queued(self) -> QueuedInfo {
        QueuedInfo { code: self.code, pid: self.pid, uid: self.uid, value: self.value }
    }
}

fn info(c: &mut Cursor<'_>) -> Result<Info> {
    let mut info = Info::default();
    let mut modelled = true;
    fields(c, |c, name| {
        match name {
            "si_signo" => info.signo = c.signal()?,
            "si_code" => match si_code(c)? {
                Some(code) => info.code = code,
                None => modelled = false,
            },
            "si_pid" | "si_timerid" => info.pid = c.u32()?,
            "si_uid" | "si_overrun" => info.uid = c.u32()?,
            "si_status" => info.value = c.signal()? as u64,
            "si_ptr" => info.value = c.address()?,
            // the low half of si_ptr, and what the model does not keep
            "si_int" | "si_utime" | "si_stime" => c.skip_argument()?,
            "" => return Ok(false),
            _ => {
                modelled = false;
                c.skip_argument()?;
            }
        }
        Ok(true)
    })?;
    if modelled { Ok(info) } else { Err(Fault::Unmodelled) }
}

/// A code by its number or name; `None` for the name of one that is not the model's.
fn si_code(c: &mut Cursor<'_>) -> Result<Option<i32>> {
    c.blanks();
    if c.peek().is_some_and(|b| b.is_ascii_digit() || b == b'-') {
        return c.i32().map(Some);
    }
    let name = c.word();
    if name.is_empty() {
        return c.fail("expected a code");
    }
    let known = names::SI_CODES.iter().chain(names::CLD_CODES).find(|(_, each)| *each == name);
    Ok(known.map(|(code, _)| *code))
}
