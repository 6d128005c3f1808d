//! The calls that do not fit the declaration: each is printed and read by a type of its name.
//!
//! `head` prints the arguments that strace shows before the call returns, `tail` the others. `read`
//! reads the former, with defaults for the others; `finish` reads the others and the result.

use alloc::sync::Arc;
use core::fmt::{self, Formatter};

use super::cursor::{Cursor, Result};
use super::kind::Kind;
use super::parse::{self, Finished, close, first, number, zero};
use super::print::{
    Address, Bracketed, Child, Fields, Named, Or, Out, Quoted, Set, Sig, Status, VALID, siginfo,
    wait_options,
};
use super::{CallEnd, Fault, names, signal};
use crate::abi::{Errno, IdType, Pid, SiCode, Uid, WaitOptions};
use crate::syscall::{self, MEMORY, Ptr, QueuedInfo, Ret, Syscall, can_store, clone as flag, kind};

pub(super) use super::terminal::{Close, Ioctl, Open, Poll, Read, Write};

pub(super) struct Clone;

impl Clone {
    pub(super) fn head(
        f: &mut Formatter<'_>,
        flags: &u64,
        clone3: &Option<u64>,
        parent_tid: &u64,
        child_tid: &u64,
    ) -> fmt::Result {
        if let Some(signal) = *clone3 {
            return Clone::head3(f, *flags, signal, *parent_tid, *child_tid);
        }
        let (flags, signal) = (flags & !flag::CSIGNAL, (flags & flag::CSIGNAL) as i32);
        f.write_str("child_stack=NULL, flags=")?;
        match (flags, signal) {
            (_, 0) => write!(f, "{}", Set(&names::CLONE, flags)),
            (0, _) => write!(f, "{}", Sig(signal)),
            _ => write!(f, "{}|{}", Set(&names::CLONE, flags), Sig(signal)),
        }
    }

    fn head3(
        f: &mut Formatter<'_>,
        flags: u64,
        signal: u64,
        parent_tid: u64,
        child_tid: u64,
    ) -> fmt::Result {
        write!(f, "{{flags={}", Set(&names::CLONE3, flags))?;
        if flags & flag::PIDFD != 0 {
            write!(f, ", pidfd={VALID}")?;
        }
        if flags & names::TO_CHILD != 0 {
            write!(f, ", child_tid={}", Address(child_tid))?;
        }
        if flags & flag::PARENT_SETTID != 0 {
            write!(f, ", parent_tid={}", Address(parent_tid))?;
        }
        match i32::try_from(signal) {
            Ok(signal) => write!(f, ", exit_signal={}", Sig(signal))?,
            Err(_) => write!(f, ", exit_signal={signal}")?,
        }
        f.write_str(", stack=NULL, stack_size=0")?;
        if flags & flag::SETTLS != 0 {
            f.write_str(", tls=NULL")?;
        }
        if flags & flag::INTO_CGROUP != 0 {
            f.write_str(", cgroup=0")?;
        }
        f.write_str("}")?;
        // the size follows the value that the kernel stores, if it stores one
        if flags & names::TO_PARENT == 0 { f.write_str(", 88") } else { Ok(()) }
    }

    pub(super) fn tail(
        f: &mut Formatter<'_>,
        ret: Option<&Ret>,
        flags: &u64,
        clone3: &Option<u64>,
        parent_tid: &u64,
        child_tid: &u64,
    ) -> fmt::Result {
        let child = ret.filter(|ret| **ret != Ret::Never).map(Ret::value);
        if clone3.is_some() {
            return Clone::tail3(f, child, *flags, *parent_tid);
        }
        if flags & names::TO_PARENT != 0 {
            f.write_str(", parent_tid=")?;
            Clone::stored(f, child, *parent_tid)?;
        }
        if flags & flag::SETTLS != 0 {
            write!(f, ", tls={VALID}")?;
        }
        if flags & names::TO_CHILD != 0 {
            write!(f, ", child_tidptr={}", Address(*child_tid))?;
        }
        Ok(())
    }

    fn tail3(
        f: &mut Formatter<'_>,
        child: Option<i64>,
        flags: u64,
        parent_tid: u64,
    ) -> fmt::Result {
        if flags & names::TO_PARENT == 0 {
            return Ok(());
        }
        if child.is_some() {
            // the model has no descriptors
            f.write_str(match (flags & flag::PIDFD != 0, flags & flag::PARENT_SETTID != 0) {
                (true, true) => " => {pidfd=[3], parent_tid=",
                (true, false) => " => {pidfd=[3]",
                (false, _) => " => {parent_tid=",
            })?;
            if flags & flag::PARENT_SETTID != 0 {
                Clone::stored(f, child, parent_tid)?;
            }
            f.write_str("}")?;
        }
        f.write_str(", 88")
    }

    /// The number of the child, if it could be stored: in a word of 32 bits, at an address that may
    /// be mapped. Otherwise the address.
    fn stored(f: &mut Formatter<'_>, child: Option<i64>, address: u64) -> fmt::Result {
        let fits = |child: &i64| i32::try_from(*child).is_ok() && can_store(address);
        match child.filter(fits) {
            Some(child) => write!(f, "{}", Bracketed(child)),
            None => write!(f, "{}", Address(address)),
        }
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        c.expect("child_stack=")?;
        c.skip_argument()?;
        c.comma()?;
        // the size of a stack follows its address on some machines
        if c.accept("stack_size=") {
            c.skip_argument()?;
            c.comma()?;
        }
        c.expect("flags=")?;
        let number = |name: &str| signal(name).map(|signal| u64::from(signal.number()));
        Ok(Syscall::clone_call(c.flags(&names::CLONE, number)?))
    }

    /// As [`Clone::read`], for clone3(2).
    pub(super) fn read3(c: &mut Cursor<'_>) -> Result<Syscall> {
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
                    Ok(Clone::used(flags, Some(signal), parent_tid, child_tid))
                }
                _ => c.fail("expected flags and exit_signal before `}`"),
            }
        })
    }

    pub(super) fn finish(
        c: &mut Cursor<'_>,
        flags: u64,
        clone3: Option<u64>,
        mut parent_tid: u64,
        mut child_tid: u64,
    ) -> Finished {
        if clone3.is_some() {
            // the stored value, which is the result, and the size
            c.skip_arguments()?;
            return number(c, Syscall::Clone { flags, clone3, parent_tid, child_tid });
        }
        while c.accept(",") {
            match c.word() {
                "parent_tid" => {
                    c.expect("=")?;
                    parent_tid = Clone::read_stored(c)?;
                }
                "child_tidptr" => {
                    c.expect("=")?;
                    child_tid = c.address()?;
                }
                "tls" => c.skip_argument()?,
                _ => return c.fail("expected parent_tid, tls or child_tidptr"),
            }
        }
        number(c, Clone::used(flags, clone3, parent_tid, child_tid))
    }

    /// The call, without the addresses that its flags do not use: strace does not show them.
    fn used(flags: u64, clone3: Option<u64>, parent_tid: u64, child_tid: u64) -> Syscall {
        let to_parent =
            flags & if clone3.is_some() { flag::PARENT_SETTID } else { names::TO_PARENT };
        let parent_tid = if to_parent != 0 { parent_tid } else { 0 };
        let child_tid = if flags & names::TO_CHILD != 0 { child_tid } else { 0 };
        Syscall::Clone { flags, clone3, parent_tid, child_tid }
    }

    /// An address; the number that was stored at a valid address stands for it.
    fn read_stored(c: &mut Cursor<'_>) -> Result<u64> {
        if !c.accept("[") {
            return c.address();
        }
        c.i32()?;
        c.expect("]")?;
        Ok(MEMORY)
    }
}

/// The error of a path, for calls that have it as an argument.
fn path_error(outcome: &CallEnd) -> Option<Errno> {
    match outcome {
        CallEnd::Returned(Err(errno)) => Some(*errno),
        CallEnd::Returned(Ok(_)) | CallEnd::Interrupted(_) => None,
    }
}

pub(super) struct Execve;

impl Execve {
    pub(super) fn head(f: &mut Formatter<'_>, path: &Arc<str>) -> fmt::Result {
        // the name that a shell would pass to the program; strace shows the real one
        let name = path.rsplit('/').next().unwrap_or(path);
        write!(
            f,
            "{}, [{}], {VALID} /* 0 vars */",
            Quoted(path.as_bytes()),
            Quoted(name.as_bytes())
        )
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &Arc<str>,
        _: &Option<Errno>,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let path = first(c, |c| c.needed(Cursor::string))?.into();
        c.skip_argument()?;
        c.comma()?;
        c.skip_argument()?;
        Ok(Syscall::Execve { path, error: None })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, path: Arc<str>) -> Finished {
        let outcome = close(c)?.outcome(c, |n| Some(Ret::Value(n)))?;
        Ok((Syscall::Execve { path, error: path_error(&outcome) }, outcome))
    }
}

pub(super) struct Chdir;

impl Chdir {
    pub(super) fn head(f: &mut Formatter<'_>, path: &Arc<str>) -> fmt::Result {
        write!(f, "{}", Quoted(path.as_bytes()))
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &Arc<str>,
        _: &Option<Errno>,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        Ok(Syscall::Chdir { path: c.needed(Cursor::string)?.into(), error: None })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, path: Arc<str>) -> Finished {
        let outcome = close(c)?.outcome(c, |n| Some(Ret::Value(n)))?;
        Ok((Syscall::Chdir { path, error: path_error(&outcome) }, outcome))
    }
}

pub(super) struct Wait4;

impl Wait4 {
    pub(super) fn head(f: &mut Formatter<'_>, pid: &i32) -> fmt::Result {
        write!(f, "{pid}, ")
    }

    pub(super) fn tail(
        f: &mut Formatter<'_>,
        ret: Option<&Ret>,
        _: &i32,
        status: &Ptr,
        options: &WaitOptions,
    ) -> fmt::Result {
        let stored = match ret {
            Some(Ret::Waited { status, .. }) => status.map(Status),
            _ => None,
        };
        write!(f, "{}, {}, NULL", Out(*status, stored), wait_options(*options))
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let pid = first(c, Cursor::i32)?;
        Ok(Syscall::Wait4 { pid, status: Ptr::default(), options: WaitOptions::default() })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, pid: i32) -> Finished {
        let (ptr, status) = first(c, |c| c.out(|c| c.bracketed(parse::wait_status)))?.split();
        let options = parse::wait_options(c)?;
        let outcome = close(c)?.outcome(c, |child| {
            Some(Ret::Waited { pid: Pid(u32::try_from(child).ok()?), status })
        })?;
        Ok((Syscall::Wait4 { pid, status: ptr, options }, outcome))
    }
}

pub(super) struct Waitid;

impl Waitid {
    pub(super) fn head(f: &mut Formatter<'_>, idtype: &IdType, id: &i32) -> fmt::Result {
        write!(f, "{}, {id}, ", Named(&names::IDTYPE, idtype.0 as u32))
    }

    pub(super) fn tail(
        f: &mut Formatter<'_>,
        ret: Option<&Ret>,
        _: &IdType,
        _: &i32,
        info: &Ptr,
        options: &WaitOptions,
    ) -> fmt::Result {
        let stored = match ret {
            Some(Ret::WaitInfo(stored)) => stored.as_ref().map(Child),
            _ => None,
        };
        write!(f, "{}, {}, NULL", Out(*info, stored), wait_options(*options))
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let idtype = IdType(first(c, |c| c.named(&names::IDTYPE))? as i32);
        let id = first(c, Cursor::i32)?;
        Ok(Syscall::Waitid { idtype, id, info: Ptr::default(), options: WaitOptions::default() })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, idtype: IdType, id: i32) -> Finished {
        let (info, stored) = first(c, |c| c.out(parse::info))?.split();
        let stored = stored.map(parse::Info::filled).transpose()?;
        let options = parse::wait_options(c)?;
        let outcome = close(c)?.outcome(c, zero(Some(Ret::WaitInfo(stored))))?;
        Ok((Syscall::Waitid { idtype, id, info, options }, outcome))
    }
}

fn queued(f: &mut Formatter<'_>, signo: i32, info: Option<QueuedInfo>) -> fmt::Result {
    let Some(QueuedInfo { code, pid, uid, value }) = info else { return f.write_str("NULL") };
    siginfo(f, &Fields { signo, code: SiCode(code), pid, uid, value })
}

fn read_queued(c: &mut Cursor<'_>) -> Result<Option<QueuedInfo>> {
    Ok(c.out(parse::info)?.split().1.map(parse::Info::queued))
}

pub(super) struct RtSigqueueinfo;

impl RtSigqueueinfo {
    pub(super) fn head(
        f: &mut Formatter<'_>,
        pid: &i32,
        sig: &i32,
        info: &Option<QueuedInfo>,
    ) -> fmt::Result {
        write!(f, "{pid}, {}, ", Sig(*sig))?;
        queued(f, *sig, *info)
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &i32,
        _: &i32,
        _: &Option<QueuedInfo>,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let (pid, sig) = (first(c, Cursor::i32)?, first(c, Cursor::signal)?);
        Ok(Syscall::RtSigqueueinfo { pid, sig, info: read_queued(c)? })
    }

    pub(super) fn finish(
        c: &mut Cursor<'_>,
        pid: i32,
        sig: i32,
        info: Option<QueuedInfo>,
    ) -> Finished {
        number(c, Syscall::RtSigqueueinfo { pid, sig, info })
    }
}

pub(super) struct RtTgsigqueueinfo;

impl RtTgsigqueueinfo {
    pub(super) fn head(
        f: &mut Formatter<'_>,
        tgid: &i32,
        tid: &i32,
        sig: &i32,
        info: &Option<QueuedInfo>,
    ) -> fmt::Result {
        write!(f, "{tgid}, {tid}, {}, ", Sig(*sig))?;
        queued(f, *sig, *info)
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &i32,
        _: &i32,
        _: &i32,
        _: &Option<QueuedInfo>,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let (tgid, tid) = (first(c, Cursor::i32)?, first(c, Cursor::i32)?);
        let sig = first(c, Cursor::signal)?;
        Ok(Syscall::RtTgsigqueueinfo { tgid, tid, sig, info: read_queued(c)? })
    }

    pub(super) fn finish(
        c: &mut Cursor<'_>,
        tgid: i32,
        tid: i32,
        sig: i32,
        info: Option<QueuedInfo>,
    ) -> Finished {
        number(c, Syscall::RtTgsigqueueinfo { tgid, tid, sig, info })
    }
}

pub(super) struct Getitimer;

impl Getitimer {
    pub(super) fn head(f: &mut Formatter<'_>, which: &i32) -> fmt::Result {
        <kind::Timer as Kind<i32>>::print(which, f)?;
        f.write_str(", ")
    }

    pub(super) fn tail(f: &mut Formatter<'_>, ret: Option<&Ret>, _: &i32) -> fmt::Result {
        let stored = match ret {
            Some(Ret::Itimer(stored)) => stored.map(super::print::Timer),
            _ => None,
        };
        write!(f, "{}", Or(stored, VALID))
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        Ok(Syscall::Getitimer { which: first(c, <kind::Timer as Kind<i32>>::read)? })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, which: i32) -> Finished {
        let (_, stored) = c.out(parse::itimerval)?.split();
        let outcome = close(c)?.outcome(c, zero(Some(Ret::Itimer(stored))))?;
        Ok((Syscall::Getitimer { which }, outcome))
    }
}

pub(super) struct Prctl;

impl Prctl {
    pub(super) fn head(f: &mut Formatter<'_>, operation: &syscall::Prctl) -> fmt::Result {
        match *operation {
            syscall::Prctl::SetPdeathsig(sig) => match i32::try_from(sig) {
                Ok(sig) => write!(f, "PR_SET_PDEATHSIG, {}", Sig(sig)),
                Err(_) => write!(f, "PR_SET_PDEATHSIG, {sig}"),
            },
            syscall::Prctl::SetChildSubreaper(on) => write!(f, "PR_SET_CHILD_SUBREAPER, {on}"),
            syscall::Prctl::SetDumpable(value) => {
                f.write_str("PR_SET_DUMPABLE, ")?;
                match usize::try_from(value) {
                    Ok(nth @ 0..=2) => f.write_str(names::DUMPABLE.names[nth]),
                    _ => write!(f, "{value:#x} /* {} */", names::DUMPABLE.unknown),
                }
            }
            syscall::Prctl::GetDumpable => f.write_str("PR_GET_DUMPABLE"),
            syscall::Prctl::GetPdeathsig(_) => f.write_str("PR_GET_PDEATHSIG"),
            syscall::Prctl::GetChildSubreaper(_) => f.write_str("PR_GET_CHILD_SUBREAPER"),
        }
    }

    pub(super) fn tail(
        f: &mut Formatter<'_>,
        ret: Option<&Ret>,
        operation: &syscall::Prctl,
    ) -> fmt::Result {
        let stored = match ret {
            Some(Ret::Stored(stored)) => Some(*stored),
            _ => None,
        };
        match *operation {
            syscall::Prctl::GetPdeathsig(ptr) => {
                write!(f, ", {}", Out(ptr, stored.map(|sig| Bracketed(Sig(sig)))))
            }
            syscall::Prctl::GetChildSubreaper(ptr) => {
                write!(f, ", {}", Out(ptr, stored.map(Bracketed)))
            }
            syscall::Prctl::SetPdeathsig(_)
            | syscall::Prctl::SetChildSubreaper(_)
            | syscall::Prctl::SetDumpable(_)
            | syscall::Prctl::GetDumpable => Ok(()),
        }
    }

    /// The value that PR_GET_DUMPABLE returned.
    pub(super) fn dumpable(f: &mut Formatter<'_>, value: i64) -> fmt::Result {
        match usize::try_from(value) {
            Ok(nth @ 0..=2) => write!(f, "{value} ({})", names::DUMPABLE.names[nth]),
            _ => write!(f, "{value}"),
        }
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        Ok(Syscall::Prctl(match c.word() {
            "PR_GET_PDEATHSIG" => syscall::Prctl::GetPdeathsig(Ptr::default()),
            "PR_GET_CHILD_SUBREAPER" => syscall::Prctl::GetChildSubreaper(Ptr::default()),
            "PR_GET_DUMPABLE" => syscall::Prctl::GetDumpable,
            "PR_SET_PDEATHSIG" => {
                c.comma()?;
                let name = c.peek_signal()?;
                let signal = name.map_or_else(|| c.u64(), |sig| Ok(u64::from(sig)))?;
                syscall::Prctl::SetPdeathsig(signal)
            }
            "PR_SET_CHILD_SUBREAPER" => {
                c.comma()?;
                syscall::Prctl::SetChildSubreaper(c.u64()?)
            }
            "PR_SET_DUMPABLE" => {
                c.comma()?;
                syscall::Prctl::SetDumpable(c.wide(&names::DUMPABLE)?)
            }
            _ => return Err(Fault::Unmodelled),
        }))
    }

    pub(super) fn finish(c: &mut Cursor<'_>, operation: syscall::Prctl) -> Finished {
        let (operation, outcome) = match operation {
            syscall::Prctl::GetPdeathsig(_) => {
                let (ptr, outcome) = Prctl::stored(c, Cursor::signal)?;
                (syscall::Prctl::GetPdeathsig(ptr), outcome)
            }
            syscall::Prctl::GetChildSubreaper(_) => {
                let (ptr, outcome) = Prctl::stored(c, Cursor::i32)?;
                (syscall::Prctl::GetChildSubreaper(ptr), outcome)
            }
            syscall::Prctl::SetPdeathsig(_)
            | syscall::Prctl::SetChildSubreaper(_)
            | syscall::Prctl::SetDumpable(_)
            | syscall::Prctl::GetDumpable => return number(c, Syscall::Prctl(operation)),
        };
        Ok((Syscall::Prctl(operation), outcome))
    }

    /// The pointer of an operation that stores an int, and the outcome.
    fn stored<'a>(
        c: &mut Cursor<'a>,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<i32>,
    ) -> Result<(Ptr, CallEnd)> {
        c.comma()?;
        let (ptr, stored) = c.out(|c| c.bracketed(read))?.split();
        let outcome = close(c)?.outcome(c, |n| stored.filter(|_| n == 0).map(Ret::Stored))?;
        Ok((ptr, outcome))
    }
}

pub(super) struct Getresuid;

impl Getresuid {
    pub(super) fn head(_: &mut Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    pub(super) fn tail(f: &mut Formatter<'_>, ret: Option<&Ret>) -> fmt::Result {
        match ret {
            Some(Ret::Users([real, effective, saved])) => {
                write!(f, "[{real}], [{effective}], [{saved}]")
            }
            _ => write!(f, "{VALID}, {VALID}, {VALID}"),
        }
    }

    pub(super) fn read(_: &mut Cursor<'_>) -> Result<Syscall> {
        Ok(Syscall::Getresuid)
    }

    pub(super) fn finish(c: &mut Cursor<'_>) -> Finished {
        let user = |c: &mut Cursor<'_>| c.out(|c| c.bracketed(Cursor::u32));
        let users = [first(c, user)?, first(c, user)?, user(c)?];
        let outcome = close(c)?.outcome(c, |n| {
            let [real, effective, saved] = users.map(|user| user.split().1.map(Uid));
            (n == 0).then_some(Ret::Users([real?, effective?, saved?]))
        })?;
        Ok((Syscall::Getresuid, outcome))
    }
}

pub(super) struct Getcwd;

impl Getcwd {
    pub(super) fn head(_: &mut Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    pub(super) fn tail(f: &mut Formatter<'_>, ret: Option<&Ret>) -> fmt::Result {
        match ret {
            Some(Ret::Path(path)) => write!(f, "{}, 4096", Quoted(path.as_bytes())),
            _ => write!(f, "{VALID}, 4096"),
        }
    }

    pub(super) fn read(_: &mut Cursor<'_>) -> Result<Syscall> {
        Ok(Syscall::Getcwd)
    }

    pub(super) fn finish(c: &mut Cursor<'_>) -> Finished {
        let (_, path) = first(c, |c| c.out(Cursor::string))?.split();
        c.usize()?;
        let outcome = close(c)?.outcome(c, |_| path.map(|path| Ret::Path(path.into())))?;
        Ok((Syscall::Getcwd, outcome))
    }
}
