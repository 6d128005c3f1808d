//! One line: its printer, and the reader of the part before the event.

use core::fmt::{Display, Formatter, Result, Write};

use crate::abi::Pid;
use crate::syscall::Syscall;
use crate::syscall::text::{Head, Info, Tail, Whole};

use super::{Entry, Log, LogEvent};

impl Display for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut next = 1;
        for entry in &self.entries {
            while next < entry.line {
                f.write_char('\n')?;
                next += 1;
            }
            writeln!(f, "{entry}")?;
            next = next.saturating_add(1);
        }
        Ok(())
    }
}

impl Display for Entry {
    /// The line, without its end.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.pid {
            Pid(0) => self.event.fmt(f),
            pid => write!(f, "{pid} {}", self.event),
        }
    }
}

impl Display for LogEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            LogEvent::Call { call, outcome } => {
                write!(f, "{}", Whole { call, outcome, mask: Default::default() })
            }
            LogEvent::Unfinished(begun) => {
                write!(f, "{}({} <unfinished ...>", begun.name(), Head(begun))
            }
            LogEvent::Resumed { call, outcome } => {
                write!(f, "<... {} resumed>{}", call.name(), Tail { call, outcome })
            }
            LogEvent::Cut(begun) => {
                write!(f, "{}({} <unfinished ...>) = ?", begun.name(), Head(begun))
            }
            LogEvent::ResumedCut(begun) => {
                write!(f, "<... {} resumed> <unfinished ...>) = ?", begun.name())
            }
            LogEvent::Sigreturn { mask, returned: Some(outcome) } => {
                write!(f, "{}", Whole { call: &Syscall::RtSigreturn, outcome, mask: *mask })
            }
            LogEvent::Sigreturn { mask, returned: None } => {
                write!(f, "rt_sigreturn({{mask={mask}}} <unfinished ...>")
            }
            LogEvent::Signal(info) => write!(f, "--- {} {} ---", info.signal, Info(info)),
            LogEvent::OtherSignal { signal, text } => write!(f, "--- {signal}{text} ---"),
            LogEvent::Stopped(signal) => write!(f, "--- stopped by {signal} ---"),
            LogEvent::Exited(code) => write!(f, "+++ exited with {code} +++"),
            LogEvent::Killed { signal, core } => {
                let core = if *core { " (core dumped)" } else { "" };
                write!(f, "+++ killed by {signal}{core} +++")
            }
            LogEvent::Superseded(by) => write!(f, "+++ superseded by execve in pid {by} +++"),
            LogEvent::Other { text, .. } | LogEvent::Notice(text) => f.write_str(text),
        }
    }
}

/// The thread that a line names, and the offset of its event, which is after the number and the
/// times of `-t` and `-r`. `Err` is the offset at which a number is missing.
pub(super) fn prefix(line: &str) -> core::result::Result<(Pid, usize), usize> {
    let mut at = blanks(line, 0);
    let mut pid = Pid(0);
    if let Some(rest) = tail(line, at).strip_prefix("[pid ") {
        let digits = rest.trim_start_matches(' ');
        at += "[pid ".len() + (rest.len() - digits.len());
        let end = digits.find(']').ok_or(at)?;
        let digits = digits.get(..end).and_then(|digits| digits.parse().ok());
        pid = Pid(digits.filter(|pid| *pid > 0).ok_or(at)?);
        at += end + 1;
    } else if let Some(number) = token(line, at).filter(|t| t.bytes().all(|b| b.is_ascii_digit())) {
        // no thread has the number 0: it stands for a line without a number
        pid = Pid(number.parse().ok().filter(|pid| *pid > 0).ok_or(at)?);
        at += number.len();
    }
    Ok((pid, times(line, at)))
}

/// Skips the times.
fn times(line: &str, mut at: usize) -> usize {
    loop {
        at = blanks(line, at);
        let rest = tail(line, at);
        // -r in addition to -t
        if let Some(end) = rest.strip_prefix("(+").and_then(|rest| rest.find(')')) {
            at += "(+".len() + end + 1;
            continue;
        }
        match token(line, at) {
            Some(time) if is_time(time) => at += time.len(),
            _ => return at,
        }
    }
}

/// `12:34:56`, `12:34:56.789012`, `1700000000`, `0.000123`.
fn is_time(token: &str) -> bool {
    token.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.')
}

/// The text before the next blank; `None` if it is empty, or no blank follows.
fn token(line: &str, at: usize) -> Option<&str> {
    let rest = tail(line, at);
    // a number is never longer, so the search does not read a long line
    let end = rest.bytes().take(32).position(|b| b == b' ')?;
    rest.get(..end).filter(|token| !token.is_empty())
}

fn blanks(line: &str, at: usize) -> usize {
    let rest = tail(line, at);
    at + (rest.len() - rest.trim_start_matches(' ').len())
}

fn tail(line: &str, at: usize) -> &str {
    line.get(at..).unwrap_or("")
}
