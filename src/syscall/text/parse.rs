//! Readers of the values that strace prints.

use crate::abi::{
    Errno, Handler, Itimerval, Pid, Rlimit, SaFlags, SiCode, SigAction, SigInfo, Signal, Timespec,
    Timeval, Uid, WaitOptions, WaitStatus,
};
use crate::syscall::{QueuedInfo, Ret, Syscall};

use super::cursor::{Cursor, Result};
use super::names;
use super::{CallEnd, Fault, RestartCode};

/// Reads the siginfo of a signal that was delivered: `{si_signo=SIGHUP, …}`.
pub(crate) fn siginfo(text: &str) -> Result<SigInfo> {
    let c = &mut Cursor::new(text);
    let info = info(c)?;
    if !c.at_end() {
        return c.fail("expected the end of the siginfo");
    }
    info.filled()?.ok_or(Fault::Unmodelled)
}

/// The number after the `=`, or the text in its place.
pub(super) enum Value {
    Number(i64),
    Other(CallEnd),
}

impl Value {
    /// The outcome; `ret` converts the number to the result of the call.
    pub(super) fn outcome(
        self,
        c: &Cursor<'_>,
        ret: impl FnOnce(i64) -> Option<Ret>,
    ) -> Result<CallEnd> {
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
pub(super) fn close(c: &mut Cursor<'_>) -> Result<Value> {
    c.expect(")")?;
    c.expect("=")?;
    let value = result(c)?;
    end(c, value)
}

/// The end of the text after a result: nothing, or a remark in parentheses.
pub(super) fn end(c: &mut Cursor<'_>, value: Value) -> Result<Value> {
    c.blanks();
    let start = c.position();
    let remark = c.remainder().trim_end();
    if remark.is_empty() || (remark.starts_with('(') && remark.ends_with(')')) {
        return Ok(value);
    }
    c.back_to(start);
    c.fail("expected the end of the line")
}

/// A call with its result, as it was read.
pub(super) type Finished = Result<(Syscall, CallEnd)>;

/// An argument that is not the last.
pub(super) fn first<'a, T>(
    c: &mut Cursor<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<T>,
) -> Result<T> {
    let value = read(c)?;
    c.comma()?;
    Ok(value)
}

/// The end of a call that returns a number.
pub(super) fn number(c: &mut Cursor<'_>, call: Syscall) -> Finished {
    Ok((call, close(c)?.outcome(c, |n| Some(Ret::Value(n)))?))
}

/// The value that a call stored which returns 0.
pub(super) fn zero(ret: Option<Ret>) -> impl FnOnce(i64) -> Option<Ret> {
    move |number| ret.filter(|_| number == 0)
}

pub(super) fn result(c: &mut Cursor<'_>) -> Result<Value> {
    if c.accept("?") {
        let start = c.position();
        let name = c.word();
        if name.is_empty() {
            return Ok(Value::Other(Ok(Ret::Never).into()));
        }
        let found = RestartCode::ALL.iter().find(|(_, each, _)| *each == name);
        return match found {
            Some((restart, _, _)) => Ok(Value::Other(CallEnd::Interrupted(*restart))),
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

/// The error after `-1`: by its name, or as `(errno 600)`.
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

pub(super) fn wait_options(c: &mut Cursor<'_>) -> Result<WaitOptions> {
    let flags = c.flags(&names::WAIT, |_| None)?;
    c.comma()?;
    // the model has no resource usage
    c.skip_argument()?;
    match u32::try_from(flags) {
        Ok(options) => Ok(WaitOptions(options)),
        Err(_) => c.fail("expected options of 32 bits"),
    }
}

/// The status of wait4(2) in brackets: `{WIFEXITED(s) && WEXITSTATUS(s) == 3}`.
pub(super) fn wait_status(c: &mut Cursor<'_>) -> Result<WaitStatus> {
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

/// Reads `{name=value, name=value}`. `field` reads the value of each name, and returns whether it
/// has the name.
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

pub(super) fn action(c: &mut Cursor<'_>) -> Result<SigAction> {
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

pub(super) fn timespec(c: &mut Cursor<'_>) -> Result<Timespec> {
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

pub(super) fn itimerval(c: &mut Cursor<'_>) -> Result<Itimerval> {
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

pub(super) fn rlimit(c: &mut Cursor<'_>) -> Result<Rlimit> {
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
pub(super) struct Info {
    signo: i32,
    code: i32,
    pid: u32,
    uid: u32,
    value: u64,
}

impl Info {
    /// As a signal; `None` for zeroes.
    pub(super) fn filled(self) -> Result<Option<SigInfo>> {
        if self.signo == 0 {
            return Ok(None);
        }
        let Some(signal) = Signal::new(self.signo) else { return Err(Fault::Unmodelled) };
        let Info { code, pid, uid, value, .. } = self;
        Ok(Some(SigInfo { signal, code: SiCode(code), pid: Pid(pid), uid: Uid(uid), value }))
    }

    /// As an argument of rt_sigqueueinfo(2), which has the signal as an argument of its own.
    pub(super) fn queued(self) -> QueuedInfo {
        QueuedInfo { code: self.code, pid: self.pid, uid: self.uid, value: self.value }
    }
}

pub(super) fn info(c: &mut Cursor<'_>) -> Result<Info> {
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
            // the low half of si_ptr, and fields that the model does not have
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

/// A code by its number or name; `None` for the name of a code that the model does not have.
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
