//! The steps of a log.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use super::Rejection;
use super::line::is_same_call;
use crate::abi::{IdType, Pid, WaitOptions};
use crate::syscall::text::{CallEnd, CallPrefix};
use crate::syscall::{MEMORY, Ptr, Ret, SIGSET_SIZE, Syscall};
use crate::trace::{Entry, Log, LogEvent};

/// Numbers at or above this are not pids on any Linux (PID-06).
const PID_LIMIT: u32 = 4_194_304;

/// The steps of a log.
pub struct Steps<'a> {
    pub list: Vec<Step<'a>>,
    /// The lines to explain, in the order of the log.
    pub lines: Vec<Line<'a>>,
    /// The items of each thread, in order.
    rows: BTreeMap<Pid, Vec<Item>>,
    /// The first process.
    pub first: Option<Pid>,
    /// The number of lines with calls that the model does not have.
    pub skipped: usize,
    /// The log shows the masks that handlers restore. A recorder outside of the process may not
    /// know the masks, and writes `[]` for all of them.
    pub masks: bool,
    /// The log shows the return of every handler, and the handlers in the order in which the kernel
    /// sets them up, as strace does. Other recorders show only the return of a handler that
    /// interrupted a call, and the handlers in the order in which their bodies begin.
    pub returns: bool,
    /// All numbers in the log.
    pub numbers: BTreeSet<u32>,
}

/// An item of a thread in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// The thread makes the call of that step.
    Call(usize),
    /// A line to explain.
    Line(usize),
}

/// A call, and the lines up to the next call.
pub struct Step<'a> {
    pub pid: Pid,
    /// The line of the call; `None` for the lines before the first call.
    pub entry: Option<&'a Entry>,
    /// The possible calls: several if the log does not show all arguments, none for an unfinished
    /// call without visible consequences.
    pub calls: Vec<Syscall>,
    /// The result of the call, here or on a later line.
    pub result: Option<&'a CallEnd>,
    /// The lines to explain, the result of the call first.
    pub lines: Range<usize>,
    /// The init of the namespace exits here, and the log ends with that line: the kernel may kill a
    /// recorder in the namespace before it writes more.
    pub ends_with_init: bool,
    /// The line at which the next step begins, or the last line of the log.
    pub end: u32,
}

/// A line to be explained.
#[derive(Clone)]
pub struct Line<'a> {
    pub pid: Pid,
    pub entry: &'a Entry,
    /// This call, which a signal had interrupted, restarts.
    pub again: Option<RestartedCall>,
    /// The result of the call that begins here, here or on a later line.
    pub result: Option<&'a CallEnd>,
    /// Its index among the items of its thread.
    pub place: usize,
}

/// A restarted call.
#[derive(Clone)]
pub struct RestartedCall {
    pub call: CallPrefix,
    /// After a handler; else after signals that only a tracer shows.
    pub handled: bool,
}

impl Step<'_> {
    pub fn is_call(&self) -> bool {
        self.entry.is_some()
    }
}

impl<'a> Steps<'a> {
    /// The item of `pid` at that index.
    pub fn item(&self, pid: Pid, place: usize) -> Option<Item> {
        self.rows.get(&pid)?.get(place).copied()
    }

    /// The line of `pid` at that index, unless `pid` makes a call there.
    pub fn line(&self, pid: Pid, place: usize) -> Option<&Line<'a>> {
        match self.item(pid, place)? {
            Item::Line(nth) => self.lines.get(nth),
            Item::Call(_) => None,
        }
    }
}

/// Divides a log into steps.
pub fn split(log: &Log) -> Result<Steps<'_>, Rejection> {
    let mut splitter = Splitter {
        steps: Steps {
            list: Vec::new(),
            lines: Vec::new(),
            rows: BTreeMap::new(),
            first: None,
            skipped: 0,
            masks: shows_masks(log),
            returns: shows_returns(log),
            numbers: BTreeSet::new(),
        },
        nameless: nameless(log),
        results: results(log),
        threads: BTreeMap::new(),
    };
    for (nth, entry) in log.entries.iter().enumerate() {
        splitter.entry(nth, entry)?;
    }
    if let (Some(last), Some(step)) = (log.entries.last(), splitter.steps.list.last_mut()) {
        step.end = last.line;
        step.ends_with_init = is_exit_of_init(step) && step.lines.len() == 1;
    }
    Ok(splitter.steps)
}

struct Splitter<'a> {
    steps: Steps<'a>,
    /// The process of lines without a number.
    nameless: Pid,
    results: BTreeMap<usize, &'a CallEnd>,
    threads: BTreeMap<Pid, Thread>,
}

/// The calls of a thread.
#[derive(Default)]
struct Thread {
    /// Its last call.
    last: Option<CallPrefix>,
    /// The calls that signals have interrupted, the innermost last.
    interrupted: Vec<CallPrefix>,
    /// The call that restarts next, if any.
    again: Option<RestartedCall>,
}

impl<'a> Splitter<'a> {
    fn entry(&mut self, nth: usize, entry: &'a Entry) -> Result<(), Rejection> {
        let pid = if entry.pid == Pid(0) { self.nameless } else { entry.pid };
        match &entry.event {
            LogEvent::Notice(_) => return Ok(()),
            LogEvent::Other { .. } => {
                self.steps.skipped += 1;
                return Ok(());
            }
            // a log does not show what is typed, and which descriptors refer to one file
            LogEvent::Call { call, .. } if call.is_of_terminal() => {
                self.steps.skipped += 1;
                return Ok(());
            }
            LogEvent::Unfinished(begun) | LogEvent::Cut(begun) if begun.call().is_of_terminal() => {
                self.steps.skipped += 1;
                return Ok(());
            }
            _ => {}
        }
        if pid.0 >= PID_LIMIT {
            let what = format!("{pid} is not the number of a process: those are below {PID_LIMIT}");
            let rules = [crate::rule!("PID-06")].into();
            return Err(Rejection { line: entry.line, what, rules });
        }
        self.steps.first.get_or_insert(pid);
        self.note_numbers(pid, entry);
        let begun = match &entry.event {
            LogEvent::Call { call, .. } => CallPrefix::Complete(call.clone()),
            LogEvent::Unfinished(begun) | LogEvent::Cut(begun) => begun.clone(),
            LogEvent::Sigreturn { .. } if self.steps.returns => {
                self.begin(nth, pid, entry, &CallPrefix::Complete(Syscall::RtSigreturn));
                self.threads.entry(pid).or_default().note(&entry.event);
                return Ok(());
            }
            _ => {
                self.consequence(nth, pid, entry, None);
                self.threads.entry(pid).or_default().note(&entry.event);
                return Ok(());
            }
        };
        let thread = self.threads.entry(pid).or_default();
        let again =
            thread.again.take().filter(|again| again.handled || is_same_call(&again.call, &begun));
        thread.last = Some(begun.clone());
        if again.is_some() {
            if again.as_ref().is_some_and(|again| !again.handled) {
                thread.interrupted.pop();
            }
            thread.note(&entry.event);
            self.consequence(nth, pid, entry, again);
        } else {
            thread.note(&entry.event);
            self.begin(nth, pid, entry, &begun);
        }
        Ok(())
    }

    fn begin(&mut self, nth: usize, pid: Pid, entry: &'a Entry, begun: &CallPrefix) {
        if let Some(step) = self.steps.list.last_mut() {
            step.end = entry.line;
        }
        let (step, at) = (self.steps.list.len(), self.steps.lines.len());
        self.steps.list.push(Step {
            pid,
            entry: Some(entry),
            calls: possible_calls(begun),
            result: self.results.get(&nth).copied(),
            lines: at..at,
            ends_with_init: false,
            end: entry.line,
        });
        self.steps.rows.entry(pid).or_default().push(Item::Call(step));
        if let LogEvent::Call { .. } | LogEvent::Sigreturn { returned: Some(_), .. } = entry.event {
            self.consequence(nth, pid, entry, None);
        }
    }

    fn consequence(&mut self, at: usize, pid: Pid, entry: &'a Entry, again: Option<RestartedCall>) {
        let nth = self.steps.lines.len();
        let result = self.results.get(&at).copied();
        let row = self.steps.rows.entry(pid).or_default();
        self.steps.lines.push(Line { pid, entry, again, result, place: row.len() });
        row.push(Item::Line(nth));
        if self.steps.list.is_empty() {
            self.steps.list.push(Step {
                pid,
                entry: None,
                calls: Vec::new(),
                result: None,
                lines: 0..0,
                ends_with_init: false,
                end: entry.line,
            });
        }
        if let Some(step) = self.steps.list.last_mut() {
            step.lines.end = nth + 1;
        }
    }

    /// Records the numbers that a line shows.
    fn note_numbers(&mut self, pid: Pid, entry: &Entry) {
        let mut note = |number: i64| {
            if let Ok(number) = u32::try_from(number.unsigned_abs()) {
                self.steps.numbers.insert(number);
            }
        };
        note(pid.0.into());
        if let LogEvent::Call { call, outcome } | LogEvent::Resumed { call, outcome } = &entry.event
        {
            if let CallEnd::Returned(Ok(ret)) = outcome {
                note(ret.value());
            }
            match *call {
                Syscall::Kill { pid, .. }
                | Syscall::Tkill { tid: pid, .. }
                | Syscall::Tgkill { tid: pid, .. }
                | Syscall::Wait4 { pid, .. }
                | Syscall::Waitid { id: pid, .. }
                | Syscall::Getpgid(pid)
                | Syscall::Getsid(pid) => note(pid.into()),
                Syscall::Setpgid { pid, pgid } => {
                    note(pid.into());
                    note(pgid.into());
                }
                _ => {}
            }
        }
    }
}

impl Thread {
    /// Records the interrupted calls that a line shows.
    fn note(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Call { outcome: CallEnd::Interrupted(_), .. }
            | LogEvent::Resumed { outcome: CallEnd::Interrupted(_), .. } => {
                self.interrupted.extend(self.last.clone());
                self.again = self.last.clone().map(|call| RestartedCall { call, handled: false });
            }
            // an interrupted call may restart after them
            LogEvent::Signal(_) | LogEvent::OtherSignal { .. } | LogEvent::Stopped(_) => {}
            LogEvent::Sigreturn { returned: Some(outcome), .. }
            | LogEvent::Resumed { call: Syscall::RtSigreturn, outcome } => {
                self.again = self.interrupted.pop().and_then(|call| {
                    let again = matches!(outcome, CallEnd::Returned(Ok(_)));
                    again.then_some(RestartedCall { call, handled: true })
                });
            }
            LogEvent::Exited(_) | LogEvent::Killed { .. } | LogEvent::Superseded(_) => {
                *self = Thread::default();
            }
            _ => self.again = None,
        }
    }
}

/// The results of calls, by the index of their first line. The result of an unfinished call is on a
/// later line.
fn results(log: &Log) -> BTreeMap<usize, &CallEnd> {
    let mut open = BTreeMap::new();
    let mut results = BTreeMap::new();
    for (nth, entry) in log.entries.iter().enumerate() {
        match &entry.event {
            LogEvent::Call { outcome, .. } => {
                results.insert(nth, outcome);
            }
            LogEvent::Unfinished(_) => {
                open.insert(entry.pid, nth);
            }
            LogEvent::Resumed { outcome, .. } => {
                if let Some(begun) = open.remove(&entry.pid) {
                    results.insert(begun, outcome);
                }
            }
            // its call continues under this number
            LogEvent::Superseded(by) => {
                if let Some(begun) = open.remove(by) {
                    open.insert(entry.pid, begun);
                }
            }
            _ => {}
        }
    }
    results
}

fn is_exit_of_init(step: &Step<'_>) -> bool {
    step.pid == Pid(1) && matches!(step.calls[..], [Syscall::Exit(_) | Syscall::ExitGroup(_)])
}

fn shows_masks(log: &Log) -> bool {
    log.entries
        .iter()
        .any(|entry| matches!(&entry.event, LogEvent::Sigreturn { mask, .. } if !mask.is_empty()))
}

/// The return of a handler that interrupted no call, or that made calls.
fn shows_returns(log: &Log) -> bool {
    let mut interrupted = BTreeSet::new();
    log.entries.iter().any(|entry| {
        match &entry.event {
            LogEvent::Call { outcome: CallEnd::Interrupted(_), .. }
            | LogEvent::Resumed { outcome: CallEnd::Interrupted(_), .. } => {
                interrupted.insert(entry.pid);
            }
            LogEvent::Sigreturn { returned, .. } => {
                return !interrupted.remove(&entry.pid) || returned.is_none();
            }
            LogEvent::Call { .. } | LogEvent::Unfinished(_) => {
                interrupted.remove(&entry.pid);
            }
            _ => {}
        }
        false
    })
}

/// The number of the process whose lines have no number, as without -f or before the first fork.
fn nameless(log: &Log) -> Pid {
    let mut created = BTreeSet::new();
    let mut number = None;
    for entry in &log.entries {
        let value = match &entry.event {
            LogEvent::Call { call, outcome: CallEnd::Returned(Ok(Ret::Value(value))) }
            | LogEvent::Resumed { call, outcome: CallEnd::Returned(Ok(Ret::Value(value))) } => {
                u32::try_from(*value).ok().map(|value| (call, value))
            }
            _ => None,
        };
        match value {
            Some((Syscall::Getpid | Syscall::Gettid, value)) if entry.pid == Pid(0) => {
                return Pid(value);
            }
            Some((call, value)) if call.is_fork() => {
                created.insert(value);
            }
            _ => {}
        }
        if entry.pid != Pid(0) && !created.contains(&entry.pid.0) {
            number.get_or_insert(entry.pid);
        }
    }
    // any unused number: 301 is the first that a new namespace reuses (PID-03)
    number.unwrap_or(Pid((301..).find(|pid| !created.contains(pid)).unwrap_or(301)))
}

/// The possible calls. A call whose arguments are not all visible never returned, so for each class
/// of children the options with the fewest events are enough.
fn possible_calls(begun: &CallPrefix) -> Vec<Syscall> {
    let head = match begun {
        CallPrefix::Complete(call) => return [call.clone()].into(),
        CallPrefix::Partial(head) => head,
    };
    match *head {
        Syscall::Clone { flags, clone3, .. } => {
            [Syscall::Clone { flags, clone3, parent_tid: MEMORY, child_tid: MEMORY }].into()
        }
        Syscall::Wait4 { pid, .. } => {
            CLASSES.map(|options| Syscall::Wait4 { pid, status: Ptr::Valid, options }).into()
        }
        Syscall::Waitid { idtype, id, .. } => possible_waits(idtype, id),
        Syscall::RtSigtimedwait { set, .. } => {
            let (info, size) = (Ptr::Valid, SIGSET_SIZE);
            [Syscall::RtSigtimedwait { set, info, timeout: None, size }].into()
        }
        _ => Vec::new(),
    }
}

/// The classes of children that a wait may select.
const CLASSES: [WaitOptions; 3] = [WaitOptions(0), WaitOptions::ALL, WaitOptions::CLONE];

fn possible_waits(idtype: IdType, id: i32) -> Vec<Syscall> {
    let events = [WaitOptions::EXITED, WaitOptions::STOPPED, WaitOptions::CONTINUED];
    let options = CLASSES.iter().flat_map(|class| events.map(|event| event.with(*class)));
    options.map(|options| Syscall::Waitid { idtype, id, info: Ptr::Valid, options }).collect()
}
