//! The reader of logs, which joins the parts of interrupted lines.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::abi::{Pid, Signal};
use crate::syscall::Syscall;
use crate::syscall::text::{self, CallPrefix, Fault, ParseError};

use super::line::prefix;
use super::{Entry, Log, LogEvent};

const UNFINISHED: &str = "<unfinished ...>";
const DETACHED: &str = "<detached ...>";
/// The end of the first part of an execve that changes the number of the thread: ` <pid changed to
/// 5 ...>`.
const MOVED: (&str, &str) = ("<pid changed to ", " ...>");

type Result<T> = core::result::Result<T, ParseError>;

/// Reads a log of `strace -f`, or of strace without `-f`, which has no numbers.
///
/// The reader joins the two parts of a call between which other lines stand: the entry of the first
/// part has the complete call. It skips times (`-t`, `-r`, `-T`) and blank lines.
///
/// Costs O(n log m) for n bytes, of which m calls are unfinished at the same time.
///
/// # Errors
///
/// For a line that is not in the format of strace, and for one part of a call without the other.
/// Calls that the model does not have are not errors: they are [`LogEvent::Other`].
pub fn read(text: &[u8]) -> Result<Log> {
    let mut reader = Reader::default();
    for (nth, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = u32::try_from(nth + 1).unwrap_or(u32::MAX);
        let blanks = bytes.iter().rev().take_while(|byte| matches!(byte, b'\r' | b' ')).count();
        let bytes = &bytes[..bytes.len() - blanks];
        let text = core::str::from_utf8(bytes).map_err(|error| {
            place(&[Piece { text: "", line, at: 0 }], error.valid_up_to(), "expected UTF-8")
        })?;
        if !text.trim_matches(' ').is_empty() {
            reader.line(line, text)?;
        }
    }
    reader.end()
}

/// A part of a line: a call may extend over several lines.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    line: u32,
    /// Its offset in the line.
    at: usize,
}

/// The first part of a call.
struct Half<'a> {
    name: &'a str,
    pieces: Vec<Piece<'a>>,
    /// Its entry.
    entry: usize,
    line: u32,
}

/// The event of a line, parsed from its pieces.
struct Body<'a> {
    pid: Pid,
    line: u32,
    pieces: Vec<Piece<'a>>,
}

#[derive(Default)]
struct Reader<'a> {
    entries: Vec<Entry>,
    halves: BTreeMap<Pid, Half<'a>>,
    /// A line that a message of strace interrupted.
    broken: Option<Body<'a>>,
}

/// An error at an offset into the concatenation of the pieces.
fn place(pieces: &[Piece<'_>], at: usize, what: impl Into<Cow<'static, str>>) -> ParseError {
    let mut rest = at;
    let mut found = (1, 0);
    for (nth, piece) in pieces.iter().enumerate() {
        found = (piece.line, piece.at + rest);
        if rest < piece.text.len() || nth + 1 == pieces.len() {
            break;
        }
        rest -= piece.text.len();
    }
    let column = u32::try_from(found.1 + 1).unwrap_or(u32::MAX);
    ParseError { line: found.0, column, what: what.into() }
}

/// The concatenation of the pieces.
fn joined<'a>(pieces: &[Piece<'a>]) -> Cow<'a, str> {
    match pieces {
        [piece] => Cow::Borrowed(piece.text),
        _ => Cow::Owned(pieces.iter().map(|piece| piece.text).collect()),
    }
}

/// The first `length` bytes of the concatenation of the pieces.
fn shortened<'a>(pieces: &[Piece<'a>], length: usize) -> Vec<Piece<'a>> {
    let mut rest = length;
    let mut shortened = Vec::new();
    for piece in pieces {
        let text = piece.text.get(..rest).unwrap_or(piece.text);
        rest -= text.len();
        shortened.push(Piece { text, ..*piece });
    }
    shortened
}

/// The text without the duration of `-T` and the blanks after it.
fn without_duration(text: &str) -> &str {
    let mut text = text.trim_end_matches(' ');
    while let Some(rest) = before_duration(text) {
        text = rest.trim_end_matches(' ');
    }
    text
}

/// The text before ` <0.000123>`.
fn before_duration(text: &str) -> Option<&str> {
    let (rest, duration) = text.strip_suffix('>')?.rsplit_once(" <")?;
    let is_number = duration.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (duration == "unavailable" || (!duration.is_empty() && is_number)).then_some(rest)
}

/// The name of the call that a line begins with.
fn name_of(text: &str) -> Option<&str> {
    let end = text.find('(')?;
    let name = text.get(..end)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'?';
    (!name.is_empty() && name.bytes().all(plain)).then_some(name)
}

/// The text before `suffix` and the blank before that.
fn before<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let head = text.strip_suffix(suffix)?;
    Some(head.strip_suffix(' ').unwrap_or(head))
}

/// The text before `<pid changed to 5 ...>`.
fn before_move(text: &str) -> Option<&str> {
    let head = text.strip_suffix(MOVED.1)?.trim_end_matches(|c: char| c.is_ascii_digit());
    before(head, MOVED.0)
}

/// The text before `<unfinished ...>) = ?`.
fn before_death(text: &str) -> Option<&str> {
    let rest = text.strip_suffix('?')?.trim_end_matches(' ').strip_suffix('=')?;
    before(rest.trim_end_matches(' ').strip_suffix(')')?, UNFINISHED)
}

fn other(name: &str, text: &str) -> LogEvent {
    LogEvent::Other { name: name.into(), text: text.into() }
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: u32, text: &'a str) -> Result<()> {
        let whole = Piece { text, line, at: 0 };
        if let Some(mut body) = self.broken.take_if(|_| !text.starts_with("strace: ")) {
            body.pieces.push(whole);
            return self.body(Body { line, ..body });
        }
        let (pid, at) =
            prefix(text).map_err(|at| place(&[whole], at, "expected the number of a process"))?;
        let rest = text.get(at..).unwrap_or("");
        if let Some((head, notice)) = broken(rest) {
            self.entries.push(Entry { line, pid: Pid(0), event: LogEvent::Notice(notice.into()) });
            self.broken = Some(Body { pid, line, pieces: vec![Piece { text: head, line, at }] });
            return Ok(());
        }
        self.body(Body { pid, line, pieces: vec![Piece { text: rest, line, at }] })
    }

    fn body(&mut self, mut body: Body<'a>) -> Result<()> {
        let all = joined(&body.pieces);
        let text = without_duration(&all);
        if text.len() < all.len() {
            body.pieces = shortened(&body.pieces, text.len());
        }
        let error = |at, what: &'static str| place(&body.pieces, at, what);
        let event = if let Some(rest) = text.strip_prefix("--- ") {
            signal(rest, &body.pieces)?
        } else if let Some(rest) = text.strip_prefix("+++ ") {
            let event = death(rest).ok_or_else(|| {
                error(4, "expected `exited with`, `killed by` or `superseded by execve in pid`")
            })?;
            self.gone(body.pid, &event);
            event
        } else if text.starts_with("strace: ") {
            LogEvent::Notice(text.into())
        } else if text.starts_with("<... ") {
            self.resumed(&body, text)?
        } else {
            let name =
                name_of(text).ok_or_else(|| error(0, "expected a call, `<...`, `---` or `+++`"))?;
            self.call(&body, name, text)?
        };
        self.entries.push(Entry { line: body.line, pid: body.pid, event });
        Ok(())
    }

    /// A line that begins a call.
    fn call(&mut self, body: &Body<'a>, name: &str, text: &str) -> Result<LogEvent> {
        let fault = |fault| fault_of(fault, &body.pieces);
        // a call that a thread did not make because it had to end: strace does not know which
        if name == "???" {
            return Ok(other(name, text));
        }
        let unfinished = before(text, UNFINISHED).or_else(|| before_move(text));
        if let Some(head) = unfinished {
            self.unfinished(body, name, head.len())?;
        }
        if let Some(head) = unfinished.or_else(|| before(text, DETACHED)) {
            return match text::begun(head) {
                Ok((CallPrefix::Complete(Syscall::RtSigreturn), mask)) => {
                    Ok(LogEvent::Sigreturn { mask, returned: None })
                }
                Ok((begun, _)) => Ok(LogEvent::Unfinished(begun)),
                Err(error) => fault(error).map_or(Ok(other(name, text)), Err),
            };
        }
        if let Some(head) = before_death(text) {
            return match text::begun(head) {
                Ok((begun, _)) => Ok(LogEvent::Cut(begun)),
                Err(error) => fault(error).map_or(Ok(other(name, text)), Err),
            };
        }
        match text::whole(text) {
            Ok(read) if read.call == Syscall::RtSigreturn => {
                Ok(LogEvent::Sigreturn { mask: read.mask, returned: Some(read.outcome) })
            }
            Ok(read) => Ok(LogEvent::Call { call: read.call, outcome: read.outcome }),
            Err(error) => fault(error).map_or(Ok(other(name, text)), Err),
        }
    }

    /// Stores the first part of a call.
    fn unfinished(&mut self, body: &Body<'a>, name: &str, length: usize) -> Result<()> {
        if let Some(half) = self.halves.get(&body.pid) {
            let what = format!(
                "expected the unfinished {} of line {} to be resumed first",
                half.name, half.line
            );
            return Err(place(&body.pieces, 0, what));
        }
        let pieces = shortened(&body.pieces, length);
        // the name is in the first piece: a message interrupts a line after the parenthesis
        let name = pieces.first().and_then(|first| first.text.get(..name.len())).unwrap_or("");
        let half = Half { name, pieces, entry: self.entries.len(), line: body.line };
        self.halves.insert(body.pid, half);
        Ok(())
    }

    /// A line that ends a call.
    fn resumed(&mut self, body: &Body<'a>, text: &str) -> Result<LogEvent> {
        let error = |at, what: Cow<'static, str>| Err(place(&body.pieces, at, what));
        let start = "<... ".len();
        let Some(end) = text.find(" resumed>").filter(|end| *end >= start) else {
            return error(start, "expected a name and ` resumed>`".into());
        };
        let name = text.get(start..end).unwrap_or("");
        let Some(half) = self.take_half(body.pid, name) else {
            return error(0, "expected an unfinished call of this process before".into());
        };
        if half.name != name {
            let what = format!("expected `{}`, unfinished since line {}", half.name, half.line);
            return error(start, what.into());
        }
        let at = end + " resumed>".len();
        let rest = text.get(at..).unwrap_or("");
        self.join(half, body, at, rest, text)
    }

    fn join(
        &mut self,
        half: Half<'a>,
        body: &Body<'a>,
        at: usize,
        rest: &str,
        text: &str,
    ) -> Result<LogEvent> {
        let Some(entry) = self.entries.get_mut(half.entry) else {
            return Ok(other(half.name, text));
        };
        let dies = before_death(rest).is_some_and(|head| head.trim_matches(' ').is_empty());
        match &entry.event {
            LogEvent::Unfinished(begun) if dies => return Ok(LogEvent::ResumedCut(begun.clone())),
            LogEvent::Unfinished(_) | LogEvent::Sigreturn { .. } => {}
            _ => return Ok(other(half.name, text)),
        }
        let mut pieces = half.pieces;
        pieces.extend(behind(&body.pieces, at));
        match text::whole(&joined(&pieces)) {
            Ok(read) => {
                if let LogEvent::Unfinished(begun) = &mut entry.event {
                    *begun = CallPrefix::Complete(read.call.clone());
                }
                Ok(LogEvent::Resumed { call: read.call, outcome: read.outcome })
            }
            Err(error) => match fault_of(error, &pieces) {
                Some(error) => Err(error),
                None => {
                    // the model does not have the call
                    let first = format!("{} {UNFINISHED}", joined_head(&pieces, body.line));
                    entry.event = other(half.name, &first);
                    Ok(other(half.name, text))
                }
            },
        }
    }

    /// The first part of the call that a line of `pid` resumes. Output of strace on a terminal has
    /// no numbers while there is only one process.
    fn take_half(&mut self, pid: Pid, name: &str) -> Option<Half<'a>> {
        if let Some(half) = self.halves.remove(&pid) {
            return Some(half);
        }
        let silent = match (pid, self.halves.len()) {
            (Pid(0), 1) => *self.halves.first_key_value()?.0,
            (Pid(0), _) => return None,
            _ => Pid(0),
        };
        if self.halves.get(&silent)?.name != name {
            return None;
        }
        self.halves.remove(&silent)
    }

    /// Removes the call of a thread that has ended.
    fn gone(&mut self, pid: Pid, event: &LogEvent) {
        self.halves.remove(&pid);
        // from now on the thread that called execve has this number
        if let LogEvent::Superseded(by) = event
            && let Some(half) = self.halves.remove(by)
        {
            self.halves.insert(pid, half);
        }
    }

    fn end(self) -> Result<Log> {
        if let Some(body) = self.broken {
            let end = body.pieces.iter().map(|piece| piece.text.len()).sum();
            return Err(place(&body.pieces, end, "expected the rest of the call on the next line"));
        }
        Ok(Log { entries: self.entries })
    }
}

/// The pieces of the first part, which are on lines before `line`.
fn joined_head(pieces: &[Piece<'_>], line: u32) -> String {
    pieces.iter().filter(|piece| piece.line < line).map(|piece| piece.text).collect()
}

/// The pieces without their first `length` bytes.
fn behind<'a>(pieces: &[Piece<'a>], length: usize) -> Vec<Piece<'a>> {
    let mut skip = length;
    let mut left = Vec::new();
    for piece in pieces {
        let skipped = skip.min(piece.text.len());
        skip -= skipped;
        let text = piece.text.get(skipped..).unwrap_or("");
        left.push(Piece { text, line: piece.line, at: piece.at + skipped });
    }
    left
}

/// The error, or `None` for a call that the model does not have.
fn fault_of(fault: Fault, pieces: &[Piece<'_>]) -> Option<ParseError> {
    match fault {
        Fault::Syntax { at, what } => Some(place(pieces, at, what)),
        Fault::Unmodelled => None,
    }
}

/// A line that a message interrupts, as on a terminal: `fork(strace: Process 5 attached`.
fn broken(text: &str) -> Option<(&str, &str)> {
    let head = text.strip_suffix(" attached")?;
    let at = head.rfind("strace: Process ")?;
    if at == 0 {
        return None;
    }
    Some((text.get(..at)?, text.get(at..)?))
}

/// Parses the text after `--- `.
fn signal(rest: &str, pieces: &[Piece<'_>]) -> Result<LogEvent> {
    let error = |at, what: &'static str| place(pieces, "--- ".len() + at, what);
    let Some(rest) = rest.strip_suffix(" ---") else {
        return Err(error(rest.len(), "expected ` ---`"));
    };
    if let Some(name) = rest.strip_prefix("stopped by ") {
        let signal =
            text::signal(name).ok_or_else(|| error("stopped by ".len(), "expected a signal"))?;
        return Ok(LogEvent::Stopped(signal));
    }
    let (name, info) = match rest.find(' ') {
        Some(end) => (rest.get(..end).unwrap_or(rest), rest.get(end..).unwrap_or("")),
        None => (rest, ""),
    };
    let signal = text::signal(name).ok_or_else(|| error(0, "expected a signal"))?;
    let text = || LogEvent::OtherSignal { signal, text: info.into() };
    if !info.starts_with(" {") {
        return Ok(text());
    }
    match text::siginfo(info) {
        Ok(info) if info.signal == signal => Ok(LogEvent::Signal(info)),
        Ok(_) | Err(Fault::Unmodelled) => Ok(text()),
        Err(Fault::Syntax { at, what }) => Err(place(pieces, "--- ".len() + name.len() + at, what)),
    }
}

/// Parses the text after `+++ `.
fn death(rest: &str) -> Option<LogEvent> {
    let rest = rest.strip_suffix(" +++")?;
    if let Some(code) = rest.strip_prefix("exited with ") {
        return code.parse().ok().map(LogEvent::Exited);
    }
    if let Some(pid) = rest.strip_prefix("superseded by execve in pid ") {
        return pid.parse().ok().map(|pid| LogEvent::Superseded(Pid(pid)));
    }
    let name = rest.strip_prefix("killed by ")?;
    let (name, core) = match name.strip_suffix(" (core dumped)") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let signal: Signal = text::signal(name)?;
    Some(LogEvent::Killed { signal, core })
}
