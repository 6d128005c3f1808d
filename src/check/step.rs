//! A log cut into steps.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use super::Rejection;
use crate::abi::{IdType, Pid, WaitOptions};
use crate::syscall::text::{Begun, Outcome};
use crate::syscall::{MEMORY, Ptr, Ret, SIGSET_SIZE, Syscall};
use crate::trace::{Entry, Log, LogEvent};

/// Numbers at or above this are no pids on any Linux (PID-06).
const PID_LIMIT: u32 = 4_194_304;

/// A log as steps.
pub struct Steps<'a> {
    pub list: Vec<Step<'a>>,
    /// The first process.
    pub first: Option<Pid>,
    /// Lines that the model knows nothing about.
    pub skipped: usize,
    /// It shows the masks that handlers restore. A recorder outside of the process may not know
    /// them, and writes `[]` everywhere.
    pub masks: bool,
    /// Every number that stands somewhere in the log.
    pub numbers: BTreeSet<u32>,
}

/// A call, and the lines that follow before the next one.
pub struct Step<'a> {
    pub pid: Pid,
    /// The line of the call; `None` for what stands before the first call.
    pub entry: Option<&'a Entry>,
    /// What the call may have been: several where the log does not show it whole. None for one
    /// that has no consequences that could be seen.
    pub calls: Vec<Syscall>,
    /// What the call returns in the end, here or on a later line.
    pub result: Option<&'a Outcome>,
    /// The lines to be explained, the call's own outcome first.
    pub lines: Vec<Line<'a>>,
    /// The init of the namespace exits here, and the log ends with that line: a recorder inside
    /// of the namespace may not come to write more.
    pub last_words: bool,
    /// Where the next step begins, or the last line of the log.
    pub end: u32,
}

/// A line to be explained.
#[derive(Clone)]
pub struct Line<'a> {
    pub pid: Pid,
    pub entry: &'a Entry,
    /// A call that a signal had interrupted is made again: this one.
    pub again: Option<Begun>,
}

impl Step<'_> {
    pub fn is_call(&self) -> bool {
        self.entry.is_some()
    }
}

/// Cuts a log into steps.
pub fn split(log: &Log) -> Result<Steps<'_>, Rejection> {
    let mut splitter = Splitter {
        steps: Steps {
            list: Vec::new(),
            first: None,
            skipped: 0,
            masks: shows_masks(log),
            numbers: BTreeSet::new(),
        },
        nameless: nameless(log),
        results: results(log),
        last: BTreeMap::new(),
    };
    for (nth, entry) in log.entries.iter().enumerate() {
        splitter.entry(nth, entry)?;
    }
    if let (Some(last), Some(step)) = (log.entries.last(), splitter.steps.list.last_mut()) {
        step.end = last.line;
        step.last_words = is_exit_of_init(step) && step.lines.len() == 1;
    }
    Ok(splitter.steps)
}

struct Splitter<'a> {
    steps: Steps<'a>,
    /// Who is meant where a line does not say it.
    nameless: Pid,
    results: BTreeMap<usize, &'a Outcome>,
    /// The call that each process made last.
    last: BTreeMap<Pid, Begun>,
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
            LogEvent::Call { call, .. } => Begun::Whole(call.clone()),
            LogEvent::Unfinished(begun) | LogEvent::Cut(begun) => begun.clone(),
            _ => {
                self.consequence(Line { pid, entry, again: None });
                return Ok(());
            }
        };
        let open = self.last.insert(pid, begun.clone());
        if self.returned_into_a_call(pid) {
            self.consequence(Line { pid, entry, again: open });
        } else {
            self.begin(nth, pid, entry, &begun);
        }
        Ok(())
    }

    fn begin(&mut self, nth: usize, pid: Pid, entry: &'a Entry, begun: &Begun) {
        if let Some(step) = self.steps.list.last_mut() {
            step.end = entry.line;
        }
        let result = self.results.get(&nth).copied();
        let calls = possible_calls(begun);
        let mut step = Step {
            pid,
            entry: Some(entry),
            calls,
            result,
            lines: Vec::new(),
            last_words: false,
            end: entry.line,
        };
        if let LogEvent::Call { .. } = entry.event {
            step.lines.push(Line { pid, entry, again: None });
        }
        self.steps.list.push(step);
    }

    fn consequence(&mut self, line: Line<'a>) {
        if self.steps.list.is_empty() {
            self.steps.list.push(Step {
                pid: line.pid,
                entry: None,
                calls: Vec::new(),
                result: None,
                lines: Vec::new(),
                last_words: false,
                end: line.entry.line,
            });
        }
        if let Some(step) = self.steps.list.last_mut() {
            step.lines.push(line);
        }
    }

    /// The last line of `pid` in this step is the return of a handler into a call that is made
    /// again.
    fn returned_into_a_call(&self, pid: Pid) -> bool {
        let Some(step) = self.steps.list.last() else { return false };
        let last = step.lines.iter().rfind(|line| line.pid == pid);
        last.is_some_and(|line| {
            let LogEvent::Sigreturn { returned: Some(Outcome::Returned(returned)), .. } =
                &line.entry.event
            else {
                return false;
            };
            returned.is_ok()
        })
    }

    /// Notes the numbers that a line shows.
    fn note_numbers(&mut self, pid: Pid, entry: &Entry) {
        let mut note = |number: i64| {
            if let Ok(number) = u32::try_from(number.unsigned_abs()) {
                self.steps.numbers.insert(number);
            }
        };
        note(pid.0.into());
        if let LogEvent::Call { call, outcome } | LogEvent::Resumed { call, outcome } = &entry.event
        {
            if let Outcome::Returned(Ok(ret)) = outcome {
                note(ret.value());
            }
            match *call {
                Syscall::Kill { pid, .. }
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

/// What each call that is first shown unfinished, by its place in the log, returns on a later
/// line.
fn results(log: &Log) -> BTreeMap<usize, &Outcome> {
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

/// The number of the process whose lines do not say it, as without -f or before the first fork.
fn nameless(log: &Log) -> Pid {
    let mut created = BTreeSet::new();
    let mut number = None;
    for entry in &log.entries {
        let value = match &entry.event {
            LogEvent::Call { call, outcome: Outcome::Returned(Ok(Ret::Value(value))) }
            | LogEvent::Resumed { call, outcome: Outcome::Returned(Ok(Ret::Value(value))) } => {
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
    // any number that nobody has: 301 is the first that a new namespace reuses (PID-03)
    number.unwrap_or(Pid((301..).find(|pid| !created.contains(pid)).unwrap_or(301)))
}

/// What a call may have been. One that is not shown whole never returned: of the options that
/// the model tells apart, those that return the least often say all that can be said.
fn possible_calls(begun: &Begun) -> Vec<Syscall> {
    let head = match begun {
        Begun::Whole(call) => return [call.clone()].into(),
        Begun::Head(head) => head,
    };
    match *head {
        Syscall::Clone { flags, clone3, .. } => {
            [Syscall::Clone { flags, clone3, parent_tid: MEMORY, child_tid: MEMORY }].into()
        }
        Syscall::Wait4 { .. } => [head.clone()].into(),
        Syscall::Waitid { idtype, id, .. } => possible_waits(idtype, id),
        Syscall::RtSigtimedwait { set, .. } => {
            let (info, size) = (Ptr::Valid, SIGSET_SIZE);
            [Syscall::RtSigtimedwait { set, info, timeout: None, size }].into()
        }
        _ => Vec::new(),
    }
}

fn possible_waits(idtype: IdType, id: i32) -> Vec<Syscall> {
    [WaitOptions::EXITED, WaitOptions::STOPPED, WaitOptions::CONTINUED]
        .map(|options| Syscall::Waitid { idtype, id, info: Ptr::Valid, options })
        .into()
}
