//! Printers of the values that strace prints.

use core::fmt::{Display, Formatter, Result, Write};

use crate::abi::{
    Errno, Itimerval, Rlimit, SiCode, SigAction, SigInfo, Signal, Timespec, Timeval, WaitOptions,
    WaitStatus,
};
use crate::syscall::Ptr;

use super::RestartCode;
use super::names::{self, Flags, Names};

/// The text for memory of the caller.
pub(super) const VALID: &str = "0x7ffc0000";
/// The text for an address that the caller may not access.
const BAD: &str = "0x1";
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

pub(super) fn error(f: &mut Formatter<'_>, errno: Errno) -> Result {
    match errno.name() {
        Some(name) => write!(f, "-1 {name} ({})", errno.message()),
        None => write!(f, "-1 (errno {})", errno.0),
    }
}

pub(super) fn interrupted(f: &mut Formatter<'_>, restart: RestartCode) -> Result {
    for (each, name, message) in RestartCode::ALL {
        if each == restart {
            write!(f, "? {name} ({message})")?;
        }
    }
    Ok(())
}

pub(super) fn pointer(f: &mut Formatter<'_>, ptr: Ptr) -> Result {
    f.write_str(match ptr {
        Ptr::Null => "NULL",
        Ptr::Valid => VALID,
        Ptr::Bad => BAD,
    })
}

/// The value that was stored through a pointer, or else the pointer.
pub(super) struct Out<T>(pub(super) Ptr, pub(super) Option<T>);

impl<T: Display> Display for Out<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (self.0, &self.1) {
            (Ptr::Valid, Some(stored)) => stored.fmt(f),
            (ptr, _) => pointer(f, ptr),
        }
    }
}

/// A value, or else a fixed text.
pub(super) struct Or<T>(pub(super) Option<T>, pub(super) &'static str);

impl<T: Display> Display for Or<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(self.1),
        }
    }
}

/// A value at a pointer.
pub(super) struct Bracketed<T>(pub(super) T);

impl<T: Display> Display for Bracketed<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "[{}]", self.0)
    }
}

/// The number of a signal, or 0.
pub(super) struct Sig(pub(super) i32);

impl Display for Sig {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match Signal::new(self.0) {
            Some(signal) => signal.fmt(f),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A value of an enumeration.
pub(super) struct Named(pub(super) &'static Names, pub(super) u32);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0.names.get(self.1 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x} /* {} */", self.1, self.0.unknown),
        }
    }
}

/// Flags.
pub(super) struct Set(pub(super) &'static Flags, pub(super) u64);

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

pub(super) fn wait_options(options: WaitOptions) -> Set {
    Set(&names::WAIT, u64::from(options.0))
}

/// A mask of permissions.
pub(super) struct Octal(pub(super) u64);

impl Display for Octal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // at least three digits, with a leading zero
        if self.0 < 0o100 { write!(f, "{:03o}", self.0) } else { write!(f, "0{:o}", self.0) }
    }
}

/// A user, or -1.
pub(super) struct User(pub(super) u32);

impl Display for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0 == u32::MAX { f.write_str("-1") } else { write!(f, "{}", self.0) }
    }
}

/// Bytes as a string in C's notation.
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("\"")?;
        for (nth, byte) in self.0.iter().enumerate() {
            let octal = self.0.get(nth + 1).is_some_and(|next| (b'0'..=b'7').contains(next));
            escape(f, *byte, octal)?;
        }
        f.write_str("\"")
    }
}

/// One byte. An octal escape before an octal digit has three digits of its own.
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

pub(super) struct Action(pub(super) SigAction);

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

pub(super) struct Address(pub(super) u64);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0 == 0 { f.write_str("NULL") } else { write!(f, "{:#x}", self.0) }
    }
}

pub(super) struct Status(pub(super) WaitStatus);

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

pub(super) struct Child<'a>(pub(super) &'a Option<SigInfo>);

impl Display for Child<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Some(info) => Info(info).fmt(f),
            None => f.write_str("{}"),
        }
    }
}

/// The fields of a siginfo that the model has.
pub(super) struct Fields {
    pub(super) signo: i32,
    pub(super) code: SiCode,
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) value: u64,
}

pub(super) fn siginfo(f: &mut Formatter<'_>, info: &Fields) -> Result {
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
        write!(f, "{}", User(uid))?;
    }
    if child && code > 0 && value as i32 as u64 == value {
        return child_fields(f, code, value as i32);
    }
    // SI_USER and SI_TKILL have no value; a value that a guest made up must not get lost
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

pub(super) struct Span(pub(super) Timespec);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        // strace prints the second field without its sign
        write!(f, "{{tv_sec={}, tv_nsec={}}}", self.0.sec, self.0.nsec as u64)
    }
}

pub(super) struct Timer(pub(super) Itimerval);

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

pub(super) struct Limits(pub(super) Rlimit);

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
