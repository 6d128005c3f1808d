//! Prints a trial as a log of strace, and as two columns.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::abi::{Errno, Pid, WaitStatus};
use crate::host::{Observation, ObservedEvent};
use crate::sim::{Action, Observable, Reaction, Step};
use crate::syscall::Syscall;
use crate::trace::{CallEnd, CallPrefix, Entry, Log, LogEvent, RestartCode};

/// Records the steps of one side as lines of a log.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The calls in progress.
    begun: BTreeMap<Pid, Syscall>,
    entries: Vec<Entry>,
}

/// An event of one side in a step.
enum Happened<'a> {
    Returned(&'a crate::syscall::Result),
    Handler(&'a crate::abi::SigInfo),
    Ended(WaitStatus),
}

impl Recorder {
    /// The log so far.
    pub fn log(&self) -> Log {
        Log { entries: self.entries.clone() }
    }

    /// The lines with index `from` and above.
    pub fn lines_from(&self, from: usize) -> Vec<String> {
        self.entries.iter().skip(from).map(ToString::to_string).collect()
    }

    /// Records a step on the live kernel.
    pub fn kernel_step(&mut self, step: &Step, seen: &Observation) {
        let mut happened: Vec<(Pid, Happened)> = seen
            .events
            .iter()
            .map(|event| match event {
                ObservedEvent::Returned { pid, result } => (*pid, Happened::Returned(result)),
                ObservedEvent::Handler { pid, info } => (*pid, Happened::Handler(info)),
            })
            .collect();
        happened.extend(
            seen.ended.iter().filter_map(|(pid, status)| Some((*pid, Happened::Ended((*status)?)))),
        );
        let mask = |pid| seen.views.get(&pid).map_or_else(Default::default, |view| view.blocked);
        self.step(step, &happened, mask);
    }

    /// Records a step of the model.
    pub fn model_step(&mut self, step: &Step, reaction: &Reaction, kernel: &crate::kernel::Kernel) {
        let happened: Vec<(Pid, Happened)> = reaction
            .seen
            .iter()
            .filter_map(|(pid, what)| {
                let happened = match what {
                    Observable::Resumed(result) => Happened::Returned(result),
                    Observable::Handler(info) => Happened::Handler(info),
                    Observable::Ended(status) => Happened::Ended(*status),
                    _ => return None,
                };
                Some((*pid, happened))
            })
            .collect();
        let mask = |pid| kernel.view(pid).map_or_else(Default::default, |view| view.blocked);
        self.step(step, &happened, mask);
    }

    fn step(
        &mut self,
        step: &Step,
        happened: &[(Pid, Happened)],
        mask: impl Fn(Pid) -> crate::abi::SigSet,
    ) {
        let mut actor = None;
        match &step.action {
            Action::Call(call) => {
                actor = Some(step.tid);
                self.begun.insert(step.tid, call.clone());
                self.first_line(step.tid, call, happened);
            }
            Action::Concurrent(calls) => {
                for (tid, call) in calls {
                    self.begun.insert(*tid, call.clone());
                    self.push(*tid, LogEvent::Unfinished(CallPrefix::of(call)));
                }
            }
            Action::Elapse(_) => {}
        }
        for (pid, what) in happened {
            match what {
                Happened::Returned(_) if actor == Some(*pid) => actor = None,
                Happened::Returned(result) => self.resumed(*pid, result, happened, &mask),
                Happened::Handler(info) => {
                    self.push(*pid, LogEvent::Signal(**info));
                }
                Happened::Ended(status) => self.ended(*pid, *status),
            }
        }
    }

    /// The line of the call itself: complete if the call returned, otherwise without its end.
    fn first_line(&mut self, pid: Pid, call: &Syscall, happened: &[(Pid, Happened)]) {
        let result = happened.iter().find_map(|(task, what)| match what {
            Happened::Returned(result) if *task == pid => Some((*result).clone()),
            _ => None,
        });
        let never = matches!(call, Syscall::Exit(_) | Syscall::ExitGroup(_));
        let event = match result {
            Some(result) => {
                self.begun.remove(&pid);
                LogEvent::Call { call: call.clone(), outcome: CallEnd::Returned(result) }
            }
            None if never => LogEvent::Call {
                call: call.clone(),
                outcome: CallEnd::Returned(Ok(crate::syscall::Ret::Never)),
            },
            None => LogEvent::Unfinished(CallPrefix::of(call)),
        };
        self.push(pid, event);
    }

    /// The end of an earlier call. strace prints an interrupted call in two parts.
    fn resumed(
        &mut self,
        pid: Pid,
        result: &crate::syscall::Result,
        happened: &[(Pid, Happened)],
        mask: &impl Fn(Pid) -> crate::abi::SigSet,
    ) {
        let Some(call) = self.begun.remove(&pid) else { return };
        let handled = happened
            .iter()
            .any(|(task, what)| *task == pid && matches!(what, Happened::Handler(_)));
        let timed = matches!(call, Syscall::RtSigtimedwait { .. });
        if *result != Err(Errno::EINTR) || !handled || timed {
            let outcome = CallEnd::Returned(result.clone());
            self.push(pid, LogEvent::Resumed { call, outcome });
            return;
        }
        let restart = match call {
            Syscall::Wait4 { .. } | Syscall::Waitid { .. } => RestartCode::Sys,
            _ => RestartCode::NoHand,
        };
        // before the line of the handler
        let handler =
            self.entries.iter().rposition(|entry| entry.pid != pid).map_or(0, |at| at + 1);
        let outcome = CallEnd::Interrupted(restart);
        let entry = Entry { line: 0, pid, event: LogEvent::Resumed { call, outcome } };
        self.entries.insert(handler, entry);
        let returned = Some(CallEnd::Returned(result.clone()));
        self.push(pid, LogEvent::Sigreturn { mask: mask(pid), returned });
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        self.begun.remove(&pid);
        let event = match (status.term_signal(), status.exit_code()) {
            (Some(signal), _) => LogEvent::Killed { signal, core: status.core() },
            (None, code) => LogEvent::Exited(code.unwrap_or(0)),
        };
        self.push(pid, event);
    }

    fn push(&mut self, pid: Pid, event: LogEvent) {
        self.entries.push(Entry { line: 0, pid, event });
    }
}

/// Prints two lists of lines side by side, with a mark at each difference.
pub fn columns(left: &[String], right: &[String]) -> String {
    let width = left.iter().map(|line| line.chars().count()).max().unwrap_or(0).clamp(20, 100);
    let mut text = format!("  {:<width$} | model\n", "kernel");
    for nth in 0..left.len().max(right.len()) {
        let at = |lines: &[String]| lines.get(nth).cloned().unwrap_or_default();
        let (left, right) = (at(left), at(right));
        let mark = if left == right { ' ' } else { '!' };
        // writing to a String cannot fail
        let _ = writeln!(text, "{mark} {left:<width$} | {right}");
    }
    text
}
