//! The visible events of the model, and their comparison with lines of the log.

use alloc::format;
use alloc::string::{String, ToString};

use super::step::{Line, RestartedCall};
use crate::abi::{Pid, SigInfo, SigSet, WaitStatus};
use crate::syscall::text::{self, CallEnd, CallPrefix};
use crate::syscall::{self, Ret, Syscall};
use crate::trace::{Entry, LogEvent};

/// `wait4` in the call table of x86-64: the value of the return register when the call restarts.
const NR_WAIT4: i64 = 61;
/// The same of waitid, clone, fork, vfork and clone3.
const NR_OTHERS: [i64; 5] = [247, 56, 57, 58, 435];

/// Whether a handler that returns with this value returns into a call that restarts.
fn is_number(value: i64) -> bool {
    value == NR_WAIT4 || NR_OTHERS.contains(&value)
}

/// A visible event of a process in the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModelLine {
    /// A call returned.
    Result(syscall::Result),
    /// A blocked call was interrupted, and a handler runs.
    Interrupted(text::RestartCode),
    /// The body of a handler began.
    Handler(SigInfo),
    /// A handler returned into the call that it had interrupted, which fails.
    Failed { mask: SigSet, result: syscall::Result },
    /// A handler returned into the call that it had interrupted, which restarts.
    Restarted { mask: SigSet },
    /// The call restarts; `None` if it sleeps.
    Again(Option<syscall::Result>),
    /// A handler returned that interrupted no call.
    Left { mask: SigSet },
    /// The process or the thread ended.
    Ended(WaitStatus),
    /// The thread of that number called execve, and is the leader now.
    Superseded(Pid),
}

impl ModelLine {
    /// Whether `line` shows this event.
    ///
    /// `masks`: the log shows the masks that handlers restore.
    pub fn is_in(&self, line: &Line<'_>, masks: bool) -> bool {
        let same_mask = |mask: &SigSet, shown: &SigSet| mask == shown || !masks && shown.is_empty();
        let event = &line.entry.event;
        match (self, event) {
            (ModelLine::Again(result), _) => is_again(result.as_ref(), line),
            (
                ModelLine::Interrupted(restart),
                LogEvent::Call { outcome, .. } | LogEvent::Resumed { outcome, .. },
            ) => *outcome == CallEnd::Interrupted(*restart),
            // it continued to sleep after signals that only a tracer sees
            (ModelLine::Result(result), LogEvent::Call { call, outcome })
                if line.again.as_ref().is_some_and(|again| !again.handled) =>
            {
                let same = |again: &RestartedCall| {
                    is_same_call(&again.call, &CallPrefix::Complete(call.clone()))
                };
                line.again.as_ref().is_some_and(same)
                    && *outcome == CallEnd::Returned(result.clone())
            }
            (_, _) if line.again.is_some() => false,
            (
                ModelLine::Result(result),
                LogEvent::Call { outcome, .. } | LogEvent::Resumed { outcome, .. },
            ) => *outcome == CallEnd::Returned(result.clone()),
            (ModelLine::Handler(info), LogEvent::Signal(shown)) => info == shown,
            (ModelLine::Handler(info), LogEvent::OtherSignal { signal, .. }) => {
                info.signal == *signal
            }
            (
                ModelLine::Failed { mask, result },
                LogEvent::Sigreturn { mask: shown, returned: Some(outcome) },
            ) => same_mask(mask, shown) && *outcome == CallEnd::Returned(result.clone()),
            (
                ModelLine::Restarted { mask },
                LogEvent::Sigreturn { mask: shown, returned: Some(CallEnd::Returned(Ok(ret))) },
            ) => same_mask(mask, shown) && is_number(ret.value()),
            (
                ModelLine::Failed { result, .. },
                LogEvent::Resumed { call: Syscall::RtSigreturn, outcome },
            ) => *outcome == CallEnd::Returned(result.clone()),
            (
                ModelLine::Restarted { .. },
                LogEvent::Resumed {
                    call: Syscall::RtSigreturn,
                    outcome: CallEnd::Returned(Ok(ret)),
                },
            ) => is_number(ret.value()),
            // the value of the register
            (ModelLine::Left { mask }, LogEvent::Sigreturn { mask: shown, returned: Some(_) }) => {
                same_mask(mask, shown)
            }
            (ModelLine::Left { .. }, LogEvent::Resumed { call: Syscall::RtSigreturn, .. }) => true,
            (ModelLine::Superseded(by), LogEvent::Superseded(shown)) => by == shown,
            (ModelLine::Ended(status), LogEvent::Exited(code)) => status.exit_code() == Some(*code),
            (ModelLine::Ended(status), LogEvent::Killed { signal, core }) => {
                *status == WaitStatus::killed(*signal, *core)
            }
            _ => false,
        }
    }

    /// The event as text, in the form of a line of the log.
    pub fn text(&self, pid: Pid, call: Option<&Syscall>) -> String {
        let event = match self {
            ModelLine::Result(result) | ModelLine::Again(Some(result)) => {
                return returned(pid, call, result.clone().into());
            }
            ModelLine::Interrupted(restart) => {
                let outcome = CallEnd::Interrupted(*restart);
                return returned(pid, call, outcome);
            }
            ModelLine::Again(None) => {
                return format!("{pid} sleeps in {} again", call.map_or("its call", Syscall::name));
            }
            ModelLine::Handler(info) => LogEvent::Signal(*info),
            ModelLine::Failed { mask, result } => {
                LogEvent::Sigreturn { mask: *mask, returned: Some(result.clone().into()) }
            }
            ModelLine::Restarted { mask } => {
                let returned = Some(Ok(Ret::Value(NR_WAIT4)).into());
                LogEvent::Sigreturn { mask: *mask, returned }
            }
            ModelLine::Left { mask } => {
                LogEvent::Sigreturn { mask: *mask, returned: Some(Ok(Ret::Value(0)).into()) }
            }
            ModelLine::Ended(status) => ended(*status),
            ModelLine::Superseded(by) => LogEvent::Superseded(*by),
        };
        Entry { line: 0, pid, event }.to_string()
    }
}

fn returned(pid: Pid, call: Option<&Syscall>, outcome: CallEnd) -> String {
    match (call, outcome) {
        (Some(call), outcome) => format!("{pid} {}", text::print(call, &outcome)),
        (None, CallEnd::Returned(Ok(ret))) => format!("{pid} returns {}", ret.value()),
        (None, CallEnd::Returned(Err(errno))) => format!("{pid} fails with {errno}"),
        (None, CallEnd::Interrupted(_)) => format!("{pid} is interrupted"),
    }
}

fn ended(status: WaitStatus) -> LogEvent {
    match status.term_signal() {
        Some(signal) => LogEvent::Killed { signal, core: status.core() },
        None => LogEvent::Exited(status.exit_code().unwrap_or(0)),
    }
}

/// Whether `line` restarts the interrupted call, and returns from it if it returns.
fn is_again(result: Option<&syscall::Result>, line: &Line<'_>) -> bool {
    let Some(RestartedCall { call: open, .. }) = &line.again else { return false };
    match (&line.entry.event, result) {
        (LogEvent::Call { call, outcome }, Some(result)) => {
            is_same_call(open, &CallPrefix::Complete(call.clone()))
                && *outcome == CallEnd::Returned(result.clone())
        }
        (LogEvent::Unfinished(begun) | LogEvent::Cut(begun), _) => is_same_call(open, begun),
        // it sleeps, and a signal interrupts it again
        (LogEvent::Call { call, outcome: CallEnd::Interrupted(_) }, None) => {
            is_same_call(open, &CallPrefix::Complete(call.clone()))
        }
        _ => false,
    }
}

/// Whether two calls are equal in the arguments that are known of both.
pub fn is_same_call(one: &CallPrefix, other: &CallPrefix) -> bool {
    match (one, other) {
        (CallPrefix::Complete(one), CallPrefix::Complete(other)) => one == other,
        (CallPrefix::Complete(whole), partial) | (partial, CallPrefix::Complete(whole)) => {
            CallPrefix::of(whole) == *partial
        }
        (one, other) => one == other,
    }
}
