//! Hypotheses about the initial state, from a mismatch between model and log.

use alloc::vec::Vec;

use super::initial_state::InitialState;
use super::line::ModelLine;
use super::run::StepError;
use super::search::Mismatch;
use super::step::Steps;
use crate::abi::{
    Handler, Pgid, Pid, Resource, Rlimit, SiCode, Sid, SigAction, SigInfo, SigSet, Signal, Uid,
    WaitStatus,
};
use crate::syscall::text::CallEnd;
use crate::syscall::{Ret, Syscall};
use crate::trace::LogEvent;

/// The initial states in which `mismatch` may not occur, the likeliest first.
///
/// Each one only sets values that were unknown, and keeps the known values.
pub fn states(
    initial: &InitialState,
    mismatch: &Mismatch<'_>,
    steps: &Steps<'_>,
) -> Vec<InitialState> {
    let mut hypotheses = Hypotheses { initial, steps, states: Vec::new() };
    let event = mismatch.line().map(|line| &line.entry.event);
    match (&mismatch.difference, event) {
        (StepError::Shown { shown, .. }, Some(event)) => hypotheses.differing(shown, event),
        (StepError::Shown { shown, .. }, None) => hypotheses.missing(shown),
        // a signal that only a tracer shows
        (StepError::Nothing { .. }, Some(LogEvent::Signal(info))) => hypotheses.user(info.uid),
        (StepError::Refused(_), _) => hypotheses.alive(),
        _ => {}
    }
    if !initial.is_init() {
        hypotheses.initial_state(mismatch);
    }
    hypotheses.states
}

struct Hypotheses<'w, 's, 'a> {
    initial: &'w InitialState,
    steps: &'s Steps<'a>,
    states: Vec<InitialState>,
}

impl Hypotheses<'_, '_, '_> {
    fn with(&mut self, change: impl FnOnce(&mut InitialState)) {
        let mut initial = self.initial.clone();
        change(&mut initial);
        self.states.push(initial);
    }

    /// The model and the log show different events.
    fn differing(&mut self, shown: &ModelLine, event: &LogEvent) {
        match (shown, event) {
            (
                ModelLine::Result(Ok(model)),
                LogEvent::Call { call, outcome: CallEnd::Returned(Ok(log)) }
                | LogEvent::Resumed { call, outcome: CallEnd::Returned(Ok(log)) },
            ) => self.results(call, model, log),
            (ModelLine::Handler(model), LogEvent::Signal(log)) => self.infos(model, log),
            (ModelLine::Ended(status), LogEvent::Killed { signal, core }) => {
                self.core(*status, *signal, *core);
                self.missing(shown);
            }
            (ModelLine::Ended(status), LogEvent::Signal(info)) => {
                // the fatal signal, whose sender differs from the model's
                if status.term_signal() == Some(info.signal) {
                    self.user(info.uid);
                }
                self.missing(shown);
            }
            (ModelLine::Ended(_) | ModelLine::Handler(_), _) => self.missing(shown),
            _ => {}
        }
    }

    /// Two results of one call, both successful.
    fn results(&mut self, call: &Syscall, model: &Ret, log: &Ret) {
        match (call, model, log) {
            (_, Ret::Value(model), Ret::Value(log)) => self.values(call, *model, *log),
            (Syscall::RtSigaction { sig, .. }, _, Ret::Action(Some(old))) => {
                self.action(*sig, *old);
            }
            (_, Ret::Mask(Some(_)), Ret::Mask(Some(old))) if self.initial.mask.is_none() => {
                self.with(|initial| initial.mask = Some(*old));
            }
            (_, Ret::Pending(model), Ret::Pending(log)) => self.pending(*log - *model),
            (Syscall::Prlimit { resource, .. }, _, Ret::Limit(Some(old))) => {
                self.limit(*resource, *old);
            }
            (_, Ret::Users(_), Ret::Users(users)) => self.user(users[0]),
            (_, Ret::Path(_), Ret::Path(cwd)) if self.initial.cwd.is_none() => {
                let cwd = cwd.clone();
                self.with(|initial| initial.cwd = Some(cwd));
            }
            (_, Ret::WaitInfo(Some(Some(model))), Ret::WaitInfo(Some(Some(log))))
            | (_, Ret::Signal(model), Ret::Signal(log)) => self.infos(model, log),
            _ => {}
        }
    }

    /// Two numbers: if the model has a placeholder, the log shows its value.
    fn values(&mut self, call: &Syscall, model: i64, log: i64) {
        let (Ok(model), Ok(log)) = (u32::try_from(model), u32::try_from(log)) else { return };
        let initial = self.initial;
        match call {
            Syscall::Umask(_) if initial.umask.is_none() => {
                self.with(|initial| initial.umask = Some(log));
            }
            Syscall::Getppid if initial.parent.is_none() && model == initial.parent().0 => {
                self.with(|initial| initial.parent = Some(Pid(log)));
            }
            Syscall::Getppid if initial.adopter.is_none() && model == initial.adopter().0 => {
                self.with(|initial| initial.adopter = Some(Pid(log)));
            }
            Syscall::Getpgrp | Syscall::Getpgid(_)
                if initial.pgid.is_none() && model == initial.pgid().0 =>
            {
                self.with(|initial| initial.pgid = Some(Pgid(log)));
            }
            Syscall::Getsid(_) if initial.sid.is_none() && model == initial.sid().0 => {
                self.with(|initial| initial.sid = Some(Sid(log)));
            }
            Syscall::Getuid | Syscall::Geteuid => self.user(Uid(log)),
            _ => {}
        }
    }

    fn user(&mut self, user: Uid) {
        if self.initial.user.is_none() {
            self.with(|initial| initial.user = Some(user));
        }
    }

    /// The inherited disposition: SIG_DFL or SIG_IGN, because execve removes handlers (EXEC-01).
    fn action(&mut self, sig: i32, old: SigAction) {
        let Some(signal) = Signal::new(sig) else { return };
        if self.initial.may_inherit(signal) && !matches!(old.handler, Handler::Catch(_)) {
            self.with(|initial| {
                initial.actions.insert(signal.number(), old);
            });
        }
    }

    fn limit(&mut self, resource: Resource, limit: Rlimit) {
        if !self.initial.limits.contains_key(&resource.0) {
            self.with(|initial| {
                initial.limits.insert(resource.0, limit);
            });
        }
    }

    /// Whether the kernel writes a core file depends on a limit that the log has not shown
    /// (EXIT-05).
    fn core(&mut self, model: WaitStatus, signal: Signal, core: bool) {
        if model == WaitStatus::killed(signal, !core) {
            let soft = if core { Rlimit::INFINITY } else { 0 };
            self.limit(Resource::CORE, Rlimit { soft, hard: Rlimit::INFINITY });
        }
    }

    fn pending(&mut self, more: SigSet) {
        if self.initial.is_init() || more.is_empty() || !self.initial.pending.is_empty() {
            return;
        }
        let user = self.initial.user();
        self.with(|initial| {
            initial.mask = Some(initial.mask.unwrap_or_default() | more);
            let info = |signal| SigInfo::user(signal, Pid(0), user);
            initial.pending = more.iter().map(info).collect();
        });
    }

    /// Two records of one signal.
    fn infos(&mut self, model: &SigInfo, log: &SigInfo) {
        if model.signal != log.signal {
            return;
        }
        let unsent = model.code != SiCode::USER && model.pid == Pid(0) && model.uid == Uid(0);
        if !self.initial.filled && unsent && model.code == log.code && model.value == log.value {
            self.with(|initial| initial.filled = true);
        }
        if model.uid != log.uid && model.uid == self.initial.user() {
            self.user(log.uid);
        }
        let waits = self.initial.pending.iter().position(|info| info == model);
        if let Some(nth) = waits.filter(|_| model.pid == Pid(0)) {
            let log = *log;
            self.with(|initial| initial.pending[nth] = log);
        }
        let cores = [SiCode::CLD_KILLED, SiCode::CLD_DUMPED];
        if model.code != log.code && cores.contains(&model.code) && cores.contains(&log.code) {
            let soft = if log.code == SiCode::CLD_DUMPED { Rlimit::INFINITY } else { 0 };
            self.limit(Resource::CORE, Rlimit { soft, hard: Rlimit::INFINITY });
        }
    }

    /// The model shows the action of a signal, and the log does not: the signal was ignored or
    /// blocked from the beginning.
    fn missing(&mut self, shown: &ModelLine) {
        let signal = match shown {
            ModelLine::Ended(status) => status.term_signal(),
            ModelLine::Handler(info) => Some(info.signal),
            _ => None,
        };
        if let Some(signal) = signal {
            self.ignored_or_blocked(signal);
        }
    }

    fn ignored_or_blocked(&mut self, signal: Signal) {
        if self.initial.may_inherit(signal) {
            self.with(|initial| {
                initial.actions.insert(signal.number(), SigAction::IGNORE);
            });
        }
        let mask = self.initial.mask.unwrap_or_default();
        if !self.initial.is_init() && !mask.contains(signal) {
            self.with(|initial| initial.mask = Some(mask.with(signal)));
        }
    }

    /// The model has ended or stopped a process that continues in the log.
    fn alive(&mut self) {
        if self.initial.is_init() {
            return;
        }
        for signal in [Signal::HUP, Signal::INT, Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            self.ignored_or_blocked(signal);
        }
    }

    /// State that no single line shows: group, session, and the parents outside that keep a group
    /// from being orphaned.
    fn initial_state(&mut self, mismatch: &Mismatch<'_>) {
        let first = self.initial.first;
        if self.initial.pgid.is_none() {
            for pgid in self.groups(mismatch) {
                self.with(|initial| initial.pgid = Some(Pgid(pgid)));
            }
        }
        if self.initial.sid.is_none() {
            self.with(|initial| {
                initial.sid = Some(Sid(first.0));
                initial.pgid = Some(Pgid(first.0));
            });
        }
        if !self.initial.linked {
            self.with(|initial| initial.linked = true);
        }
        if self.initial.user.is_none() {
            self.user(Uid::ROOT);
        }
    }

    /// The groups that may contain the first process: its own, and those that the call names.
    fn groups(&self, mismatch: &Mismatch<'_>) -> Vec<u32> {
        let named = match mismatch.call {
            Some(Syscall::Kill { pid, .. } | Syscall::Wait4 { pid, .. }) if pid < -1 => {
                Some(pid.unsigned_abs())
            }
            Some(Syscall::Setpgid { pgid, .. }) => u32::try_from(pgid).ok(),
            Some(Syscall::Waitid { id, .. }) => u32::try_from(id).ok(),
            _ => None,
        };
        let named = named.filter(|pgid| *pgid != 0 && *pgid != self.initial.first.0);
        let known = named.filter(|pgid| self.steps.numbers.contains(pgid));
        [self.initial.first.0].into_iter().chain(known).collect()
    }
}
