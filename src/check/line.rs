//! What the model shows, and whether a line of the log says the same.

use alloc::format;
use alloc::string::{String, ToString};

use super::step::{Again, Line};
use crate::abi::{Pid, SigInfo, SigSet, WaitStatus};
use crate::syscall::text::{self, Begun, Outcome};
use crate::syscall::{self, Ret, Syscall};
use crate::trace::{Entry, LogEvent};

/// `wait4` in the call table of x86-64: what its return register holds when it is made again.
const NR_WAIT4: i64 = 61;
/// waitid, clone, fork, vfork and clone3, likewise.
const NR_OTHERS: [i64; 5] = [247, 56, 57, 58, 435];

/// Whether a handler that returns this returns into a call that is made again.
fn is_number(value: i64) -> bool {
    value == NR_WAIT4 || NR_OTHERS.contains(&value)
}

/// Something that the model shows of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    /// A call returned.
    Result(syscall::Result),
    /// A blocked call was interrupted, and a handler runs.
    Interrupted(text::Restart),
    /// The body of a handler began.
    Handler(SigInfo),
    /// A handler returned into the call that it had interrupted, which fails.
    Failed { mask: SigSet, result: syscall::Result },
    /// A handler returned into the call that it had interrupted, which is made again.
    Restarted { mask: SigSet },
    /// That call is made again; `None` if it sleeps.
    Again(Option<syscall::Result>),
    /// A handler returned that interrupted no call.
    Left { mask: SigSet },
    /// The process ended, or the thread.
    Ended(WaitStatus),
    /// The process has the thread of that number as its leader now, which executed a program.
    Superseded(Pid),
}

impl Shown {
    /// Whether `line` says this.
    ///
    /// `masks` is whether the log knows the masks that handlers restore.
    pub fn is_in(&self, line: &Line<'_>, masks: bool) -> bool {
        let same_mask = |mask: &SigSet, shown: &SigSet| mask == shown || !masks && shown.is_empty();
        let event = &line.entry.event;
        match (self, event) {
            (Shown::Again(result), _) => is_again(result.as_ref(), line),
            (
                Shown::Interrupted(restart),
                LogEvent::Call { outcome, .. } | LogEvent::Resumed { outcome, .. },
            ) => *outcome == Outcome::Interrupted(*restart),
            // it slept on when signals came that nobody but a tracer sees
            (Shown::Result(result), LogEvent::Call { call, outcome })
                if line.again.as_ref().is_some_and(|again| !again.handled) =>
            {
                let same = |again: &Again| is_same_call(&again.call, &Begun::Whole(call.clone()));
                line.again.as_ref().is_some_and(same)
                    && *outcome == Outcome::Returned(result.clone())
            }
            (_, _) if line.again.is_some() => false,
            (
                Shown::Result(result),
                LogEvent::Call { outcome, .. } | LogEvent::Resumed { outcome, .. },
            ) => *outcome == Outcome::Returned(result.clone()),
            (Shown::Handler(info), LogEvent::Signal(shown)) => info == shown,
            (Shown::Handler(info), LogEvent::OtherSignal { signal, .. }) => info.signal == *signal,
            (
                Shown::Failed { mask, result },
                LogEvent::Sigreturn { mask: shown, returned: Some(outcome) },
            ) => same_mask(mask, shown) && *outcome == Outcome::Returned(result.clone()),
            (
                Shown::Restarted { mask },
                LogEvent::Sigreturn { mask: shown, returned: Some(Outcome::Returned(Ok(ret))) },
            ) => same_mask(mask, shown) && is_number(ret.value()),
            (
                Shown::Failed { result, .. },
                LogEvent::Resumed { call: Syscall::RtSigreturn, outcome },
            ) => *outcome == Outcome::Returned(result.clone()),
            (
                Shown::Restarted { .. },
                LogEvent::Resumed {
                    call: Syscall::RtSigreturn,
                    outcome: Outcome::Returned(Ok(ret)),
                },
            ) => is_number(ret.value()),
            // what the register held
            (Shown::Left { mask }, LogEvent::Sigreturn { mask: shown, returned: Some(_) }) => {
                same_mask(mask, shown)
            }
            (Shown::Left { .. }, LogEvent::Resumed { call: Syscall::RtSigreturn, .. }) => true,
            (Shown::Superseded(by), LogEvent::Superseded(shown)) => by == shown,
            (Shown::Ended(status), LogEvent::Exited(code)) => status.exit_code() == Some(*code),
            (Shown::Ended(status), LogEvent::Killed { signal, core }) => {
                *status == WaitStatus::killed(*signal, *core)
            }
            _ => false,
        }
    }

    /// As a line of the log would say it.
    pub fn text(&self, pid: Pid, call: Option<&Syscall>) -> String {
        let event = match self {
            Shown::Result(result) | Shown::Again(Some(result)) => {
                return returned(pid, call, result.clone().into());
            }
            Shown::Interrupted(restart) => {
                let outcome = Outcome::Interrupted(*restart);
                return returned(pid, call, outcome);
            }
            Shown::Again(None) => {
                return format!("{pid} sleeps in {} again", call.map_or("its call", Syscall::name));
            }
            Shown::Handler(info) => LogEvent::Signal(*info),
            Shown::Failed { mask, result } => {
                LogEvent::Sigreturn { mask: *mask, returned: Some(result.clone().into()) }
            }
            Shown::Restarted { mask } => {
                let returned = Some(Ok(Ret::Value(NR_WAIT4)).into());
                LogEvent::Sigreturn { mask: *mask, returned }
            }
            Shown::Left { mask } => {
                LogEvent::Sigreturn { mask: *mask, returned: Some(Ok(Ret::Value(0)).into()) }
            }
            Shown::Ended(status) => ended(*status),
            Shown::Superseded(by) => LogEvent::Superseded(*by),
        };
        Entry { line: 0, pid, event }.to_string()
    }
}

fn returned(pid: Pid, call: Option<&Syscall>, outcome: Outcome) -> String {
    match (call, outcome) {
        (Some(call), outcome) => format!("{pid} {}", text::print(call, &outcome)),
        (None, Outcome::Returned(Ok(ret))) => format!("{pid} returns {}", ret.value()),
        (None, Outcome::Returned(Err(errno))) => format!("{pid} fails with {errno}"),
        (None, Outcome::Interrupted(_)) => format!("{pid} is interrupted"),
    }
}

fn ended(status: WaitStatus) -> LogEvent {
    match status.term_signal() {
        Some(signal) => LogEvent::Killed { signal, core: status.core() },
        None => LogEvent::Exited(status.exit_code().unwrap_or(0)),
    }
}

/// Whether `line` begins the interrupted call again, and ends it if it ends.
fn is_again(result: Option<&syscall::Result>, line: &Line<'_>) -> bool {
    let Some(Again { call: open, .. }) = &line.again else { return false };
    match (&line.entry.event, result) {
        (LogEvent::Call { call, outcome }, Some(result)) => {
            is_same_call(open, &Begun::Whole(call.clone()))
                && *outcome == Outcome::Returned(result.clone())
        }
        (LogEvent::Unfinished(begun) | LogEvent::Cut(begun), _) => is_same_call(open, begun),
        // it sleeps, and is interrupted again
        (LogEvent::Call { call, outcome: Outcome::Interrupted(_) }, None) => {
            is_same_call(open, &Begun::Whole(call.clone()))
        }
        _ => false,
    }
}

/// Whether two calls are the same as far as both are known.
pub fn is_same_call(one: &Begun, other: &Begun) -> bool {
    match (one, other) {
        (Begun::Whole(one), Begun::Whole(other)) => one == other,
        (Begun::Whole(whole), partial) | (partial, Begun::Whole(whole)) => {
            Begun::of(whole) == *partial
        }
        (one, other) => one == other,
    }
}
