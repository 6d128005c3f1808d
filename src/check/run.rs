//! One step on the model, compared line by line with the log.

use alloc::vec::Vec;

use super::line::ModelLine;
use super::progress::{LogProgress, status_of_killed};
use super::step::{Item, Line, Step, Steps};
use crate::abi::{Errno, Pid, Signal, WaitStatus};
use crate::kernel::{
    Choose, Consequence, Effect, Effects, Event, Kernel, Outcome, Refused, Rule, RuleSet, RunState,
};
use crate::syscall::{self, Ret, Syscall, text};
use crate::trace::LogEvent;

/// How a step differs from the log.
#[derive(Clone, Debug)]
pub enum StepError {
    /// The process cannot make the call.
    Refused(Refused),
    /// The model has an event of a thread. The next line of that thread, at this place in the log,
    /// shows another event, or the thread has no line before its next call.
    Shown { pid: Pid, shown: ModelLine, line: Option<usize>, rules: Vec<Rule> },
    /// The model has no further event of the process, and this line shows one.
    Nothing { line: usize, rules: Vec<Rule> },
    /// Another order led to the same state.
    Known,
    /// The call returns, and the log does not show the return.
    Unfinished { result: syscall::Result, rules: Vec<Rule> },
}

/// The state of the model, and the position in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct SearchState {
    pub kernel: Kernel,
    pub progress: LogProgress,
}

/// One attempt of a step: the arguments and the order to try, and the states that earlier attempts
/// reached.
pub struct OrderPrefix<'t> {
    pub call: Option<&'t Syscall>,
    /// The order.
    pub choose: &'t mut dyn Choose,
    /// The number of its choices that repeat an earlier attempt, and the last one, which is new.
    pub given: usize,
    /// The choice points inside of the step. An attempt that reaches one of them again has no new
    /// result.
    pub choice_points: &'t mut Vec<SearchState>,
}

type Result<T> = core::result::Result<T, StepError>;

/// The maximum number of timers that expire in one step.
const EXPIRIES: usize = 8;

/// Runs the step `at` with the call and the order of `attempt`, as long as the log agrees.
pub fn run(
    state: &mut SearchState,
    steps: &Steps<'_>,
    at: usize,
    mut attempt: OrderPrefix<'_>,
) -> Result<()> {
    let step = &steps.list[at];
    let mut running = Running {
        state,
        steps,
        step,
        nth: at,
        made: attempt.call.cloned(),
        fx: Effects::new(),
        at: 0,
        call_rules: RuleSet::EMPTY,
    };
    if step.is_call() {
        if running.next_item(step.pid) != Some(Item::Call(at)) {
            // the thread had to end before it made the call
            return Ok(());
        }
        running.state.progress.pass(step.pid);
    }
    if let Some(call) = attempt.call {
        running.call(call)?;
    }
    running.settle(&mut attempt)?;
    let mut expiries = 0;
    while let Some(line) = running.left() {
        if running.fault(line)? || expiries < EXPIRIES && running.advance()? {
            expiries += 1;
            running.settle(&mut attempt)?;
        } else {
            let rules = running.call_rules.iter().take(4).collect();
            return Err(StepError::Nothing { line, rules });
        }
    }
    Ok(())
}

struct Running<'k, 's, 'a> {
    state: &'k mut SearchState,
    steps: &'s Steps<'a>,
    step: &'s Step<'a>,
    /// Its index among the steps.
    nth: usize,
    made: Option<Syscall>,
    fx: Effects,
    /// The effects before this one have been compared.
    at: usize,
    /// The rules that the call itself obeyed.
    call_rules: RuleSet,
}

impl<'s, 'a> Running<'_, 's, 'a> {
    fn call(&mut self, call: &Syscall) -> Result<()> {
        let pid = self.step.pid;
        if *call == Syscall::RtSigreturn {
            return self.sigreturn(pid);
        }
        let outcome =
            self.state.kernel.call(pid, call, &mut self.fx).map_err(StepError::Refused)?;
        self.call_rules = *self.fx.rules();
        match outcome {
            Outcome::Returned(result) => {
                let pid = self.number_after(pid);
                if pid != self.step.pid {
                    self.note_effects()?;
                }
                self.result(pid, result)?;
            }
            Outcome::Gone => self.result(pid, Ok(Ret::Never))?,
            // signals are delivered first, and then the call restarts (TG-24)
            Outcome::Blocked if call.is_fork() && self.run_of(pid) == Some(RunState::Blocked) => {
                self.state.progress.interrupted.push((pid, text::RestartCode::NoIntr, false));
            }
            Outcome::Blocked | Outcome::Done => {}
        }
        self.note_effects()
    }

    fn run_of(&self, pid: Pid) -> Option<RunState> {
        self.state.kernel.view(pid).map(|view| view.run)
    }

    /// The number of the caller after its call: a thread that is not the leader gets the leader's
    /// number by execve (EXEC-12).
    fn number_after(&self, pid: Pid) -> Pid {
        let executes = |effect: &&Effect| {
            effect.cause.actor == pid && matches!(effect.what, Consequence::Executed)
        };
        self.fx.list().iter().find(executes).map_or(pid, |effect| effect.pid)
    }

    /// The call of this step returns. The log does not show the return if the caller dies before it
    /// returns to its own code.
    fn result(&mut self, pid: Pid, result: syscall::Result) -> Result<()> {
        let shown = self.next_line(pid).map(|line| &line.entry.event);
        match shown {
            Some(LogEvent::Call { outcome, .. }) if is_never(outcome) => {
                self.state.progress.pass(pid);
                if result == Ok(Ret::Never) { Ok(()) } else { self.dies_in_it(pid, result) }
            }
            Some(LogEvent::Resumed { outcome, .. }) if is_never(outcome) => {
                if result != Ok(Ret::Never) {
                    return self.dies_in_it(pid, result);
                }
                self.state.progress.pass(pid);
                Ok(())
            }
            _ if result == Ok(Ret::Never) => Ok(()),
            Some(LogEvent::Call { .. } | LogEvent::Resumed { .. }) => {
                self.show(pid, ModelLine::Result(result))
            }
            _ => self.dies_in_it(pid, result),
        }
    }

    /// If the log shows no result of a call that returns, the end of the thread has to be next.
    fn dies_in_it(&self, pid: Pid, result: syscall::Result) -> Result<()> {
        let (progress, steps) = (&self.state.progress, self.steps);
        let mut lines = progress.next_lines(steps, pid).map(|line| &line.entry.event);
        let dies = match (lines.next(), lines.next()) {
            (Some(LogEvent::Resumed { outcome, .. }), _) => is_never(outcome),
            (
                Some(
                    LogEvent::ResumedCut(_)
                    | LogEvent::Exited(_)
                    | LogEvent::Killed { .. }
                    | LogEvent::Superseded(_),
                ),
                _,
            ) => true,
            // the fatal signal, and the end by it
            (Some(LogEvent::Signal(info)), Some(LogEvent::Killed { signal, .. })) => {
                info.signal == *signal
            }
            _ => false,
        };
        if dies {
            return Ok(());
        }
        if pid == self.step.pid && self.at == 0 {
            let rules = self.call_rules.iter().take(4).collect();
            return Err(StepError::Unfinished { result, rules });
        }
        Err(self.differs(pid, ModelLine::Result(result)))
    }

    /// The model has an event that is not the next one in the log.
    fn differs(&self, pid: Pid, shown: ModelLine) -> StepError {
        let line = match self.next_item(pid) {
            Some(Item::Line(nth)) => Some(nth),
            Some(Item::Call(_)) | None => None,
        };
        let rules = self.rules(pid, &shown);
        StepError::Shown { pid, shown, line, rules }
    }

    fn settle(&mut self, attempt: &mut OrderPrefix<'_>) -> Result<()> {
        loop {
            let alternatives = self.state.kernel.runnable_count();
            let nth = match alternatives {
                0 => return Ok(()),
                1 => 0,
                _ if self.in_any_order() => 0,
                several => self.choose(several, attempt)?,
            };
            let Some(pid) = self.state.kernel.runnable().nth(nth) else { return Ok(()) };
            self.step_task(pid)?;
            self.run_handlers(pid)?;
        }
    }

    fn choose(&self, several: usize, attempt: &mut OrderPrefix<'_>) -> Result<usize> {
        if attempt.given > 0 {
            attempt.given -= 1;
        } else if attempt.choice_points.iter().any(|state| state == self.state) {
            return Err(StepError::Known);
        } else {
            attempt.choice_points.push(self.state.clone());
        }
        Ok(attempt.choose.choose(several).min(several - 1))
    }

    /// Whether the next step of each runnable task affects only that task. Then the order makes no
    /// difference.
    fn in_any_order(&self) -> bool {
        self.state.kernel.runnable().all(|pid| {
            let mut kernel = self.state.kernel.clone();
            let mut fx = Effects::new();
            if kernel.apply(&Event::Step { tid: pid }, &mut fx).is_err() {
                return false;
            }
            let others = |kernel: &Kernel| kernel.runnable().filter(|other| *other != pid).count();
            let own = fx.list().iter().all(|effect| {
                let concerns_others = matches!(
                    effect.what,
                    Consequence::Ended(_) | Consequence::Stopped(_) | Consequence::Continued
                );
                effect.pid == pid && !concerns_others
            });
            own && others(&kernel) == others(&self.state.kernel)
        })
    }

    fn step_task(&mut self, pid: Pid) -> Result<()> {
        // it is in the run queue, so it can make a step
        let stepped = self.state.kernel.apply(&Event::Step { tid: pid }, &mut self.fx);
        debug_assert!(stepped.is_ok());
        self.note_effects()
    }

    /// Runs the bodies of the handlers that `pid` has entered, the innermost first, and returns
    /// from them.
    fn run_handlers(&mut self, pid: Pid) -> Result<()> {
        // else the log shows the returns
        while !self.steps.returns && self.state.kernel.in_user_mode(pid) {
            if self.state.kernel.handler(pid).is_none() {
                return Ok(());
            }
            self.sigreturn(pid)?;
            // signals that the return unblocks come before other actions of this task
            if self.state.kernel.runnable().next() == Some(pid) {
                self.step_task(pid)?;
            }
        }
        Ok(())
    }

    fn sigreturn(&mut self, pid: Pid) -> Result<()> {
        let mut fx = Effects::new();
        let called = self.state.kernel.call(pid, &Syscall::RtSigreturn, &mut fx);
        called.map_err(StepError::Refused)?;
        let mask = self.state.kernel.view(pid).map(|view| view.blocked).unwrap_or_default();
        let result = fx.list().iter().find_map(|effect| match &effect.what {
            Consequence::Returned(result) if effect.pid == pid => Some(result.clone()),
            _ => None,
        });
        let asleep = matches!(self.run_of(pid), Some(RunState::Blocked | RunState::Vfork));
        if result == Some(Err(Errno::EINTR)) {
            self.show(pid, ModelLine::Failed { mask, result: Err(Errno::EINTR) })?;
        } else if result.is_some() || asleep {
            self.show(pid, ModelLine::Restarted { mask })?;
            self.show(pid, ModelLine::Again(result))?;
        } else if self.steps.returns {
            self.show(pid, ModelLine::Left { mask })?;
        }
        // the rest of its effects
        for end in 1..=fx.list().len() {
            let made = Some(&Syscall::RtSigreturn);
            self.state.progress.note(&self.state.kernel, made, &fx.list()[..end]);
        }
        for effect in fx.list() {
            if let Consequence::Handling(info, _) = effect.what
                && !self.steps.returns
            {
                self.show(effect.pid, ModelLine::Handler(info))?;
            }
        }
        // the restarted call finds a signal at once, and returns without sleep
        let again = asleep && self.state.kernel.runnable().next() == Some(pid);
        let depth = self.state.kernel.handler_depth(pid);
        let progress = &mut self.state.progress;
        match progress.interruption(pid) {
            Some(state) if again => state.2 = false,
            _ => progress.interrupted.retain(|state| state.0 != pid || depth > 0),
        }
        Ok(())
    }

    fn note_effects(&mut self) -> Result<()> {
        while self.at < self.fx.list().len() {
            self.at += 1;
            let effects = &self.fx.list()[..self.at];
            self.state.progress.note(&self.state.kernel, self.made.as_ref(), effects);
            let Some(effect) = effects.last() else { return Ok(()) };
            let pid = effect.pid;
            match effect.what.clone() {
                Consequence::Returned(result) => {
                    self.state.progress.interrupted.retain(|state| state.0 != pid);
                    self.result(pid, result)?;
                }
                Consequence::Interrupted(restart) => {
                    self.state.progress.interrupted.retain(|state| state.0 != pid);
                    self.state.progress.interrupted.push((pid, restart.into(), false));
                }
                Consequence::Ended(status) => self.ended(pid, status)?,
                Consequence::ThreadEnded if self.number_after(pid) != pid => {
                    let leader = self.number_after(pid);
                    self.state.progress.interrupted.retain(|state| state.0 != leader);
                    self.show_end(leader, ModelLine::Superseded(pid))?;
                }
                // TG-87: the end of a leader is not visible while other threads live
                Consequence::ThreadEnded
                    if self.state.progress.process_of(&self.state.kernel, pid) != pid =>
                {
                    let status = self.thread_status(pid);
                    self.ended(pid, status)?;
                }
                // the kernel dequeues the signals of a call one after the other, and strace shows
                // each
                Consequence::Caught(info) if self.steps.returns => {
                    self.handling(pid, ModelLine::Handler(info))?;
                }
                Consequence::Handling(info, _) if !self.steps.returns => {
                    self.handling(pid, ModelLine::Handler(info))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The status of a thread that is not the leader and has ended in this step.
    fn thread_status(&self, tid: Pid) -> WaitStatus {
        match self.made {
            Some(Syscall::Exit(code)) if tid == self.step.pid => WaitStatus::exited(code),
            _ => {
                let process = self.state.progress.process_of(&self.state.kernel, tid);
                status_of_killed(&self.state.kernel, &self.fx, process)
            }
        }
    }

    /// The log shows an interrupted call only if a handler runs: without a handler the call
    /// restarts invisibly.
    fn handling(&mut self, pid: Pid, shown: ModelLine) -> Result<()> {
        if let Some(state) = self.state.progress.interruption(pid)
            && !state.2
        {
            state.2 = true;
            let restart = state.1;
            self.show(pid, ModelLine::Interrupted(restart))?;
        }
        self.show(pid, shown)
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) -> Result<()> {
        self.state.progress.interrupted.retain(|state| state.0 != pid);
        let ends_with_init = self.step.ends_with_init && pid == self.step.pid;
        if ends_with_init && self.next_line(pid).is_none() {
            return Ok(());
        }
        self.show_end(pid, ModelLine::Ended(status))
    }

    /// The call in which the thread died comes before its end, also a call that had no effect yet.
    fn show_end(&mut self, pid: Pid, shown: ModelLine) -> Result<()> {
        if let Some(Item::Call(step)) = self.next_item(pid)
            && self.is_never_made(pid, step, &shown)
        {
            self.state.progress.pass(pid);
        }
        if let Some(line) = self.next_line(pid)
            && match &line.entry.event {
                LogEvent::ResumedCut(_) => true,
                LogEvent::Resumed { outcome, .. } | LogEvent::Call { outcome, .. } => {
                    is_never(outcome)
                }
                _ => false,
            }
        {
            self.state.progress.pass(pid);
        }
        self.show(pid, shown)
    }

    /// Whether strace shows the begin of the call of a later step although the thread had to end
    /// before: only the end follows.
    fn is_never_made(&self, pid: Pid, step: usize, shown: &ModelLine) -> bool {
        let cut = matches!(
            self.steps.list[step].entry.map(|entry| &entry.event),
            Some(LogEvent::Unfinished(_) | LogEvent::Cut(_) | LogEvent::Call { .. })
        );
        let mut progress = self.state.progress.clone();
        progress.pass(pid);
        let mut lines =
            progress.next_lines(self.steps, pid).skip_while(|line| match &line.entry.event {
                LogEvent::ResumedCut(_) => true,
                LogEvent::Resumed { outcome, .. } | LogEvent::Call { outcome, .. } => {
                    is_never(outcome)
                }
                _ => false,
            });
        let ends = lines.next().is_some_and(|line| shown.is_in(line, self.steps.masks));
        cut && step > self.nth && ends
    }

    fn next_item(&self, pid: Pid) -> Option<Item> {
        self.state.progress.next_item(self.steps, pid)
    }

    /// The next line of `pid`, unless `pid` makes a call before it.
    fn next_line(&self, pid: Pid) -> Option<&'s Line<'a>> {
        self.state.progress.next_line(self.steps, pid)
    }

    fn show(&mut self, pid: Pid, shown: ModelLine) -> Result<()> {
        loop {
            let next = self.next_line(pid);
            if let Some(line) = next.filter(|line| shown.is_in(line, self.steps.masks)) {
                // one line shows the restart of a call and its next interruption
                let twice = shown == ModelLine::Again(None)
                    && matches!(line.entry.event, LogEvent::Call { .. });
                if !twice {
                    self.state.progress.pass(pid);
                }
                return Ok(());
            }
            let SearchState { kernel, progress } = &mut *self.state;
            if !progress.pass_tracer_line(kernel, self.steps, pid) {
                return Err(self.differs(pid, shown));
            }
        }
    }

    /// The rules that caused the events of `pid` in the model.
    fn rules(&self, pid: Pid, shown: &ModelLine) -> Vec<Rule> {
        let own_call = pid == self.step.pid && self.at == 0;
        if let (ModelLine::Result(result), true) = (shown, own_call) {
            return self.rules_of_call(result);
        }
        let mut rules = Vec::new();
        let signal = match shown {
            ModelLine::Ended(status) => status.term_signal(),
            ModelLine::Handler(info) => Some(info.signal),
            _ => None,
        };
        for effect in &self.fx.list()[..self.at] {
            let relevant = effect.pid == pid
                && match &effect.what {
                    Consequence::Generated(info) => Some(info.signal) == signal,
                    Consequence::Ended(_) => matches!(shown, ModelLine::Ended(_)),
                    Consequence::Handling(info, _) => *shown == ModelLine::Handler(*info),
                    Consequence::Returned(result) => *shown == ModelLine::Result(result.clone()),
                    _ => false,
                };
            if relevant && !rules.contains(&effect.cause.rule) {
                rules.push(effect.cause.rule);
            }
        }
        rules
    }

    /// The rules that the call itself followed: the rule that refused it, or all others.
    fn rules_of_call(&self, result: &syscall::Result) -> Vec<Rule> {
        match (result, self.fx.last_rule()) {
            (Err(_), Some(last)) => [last].into(),
            _ => self.call_rules.iter().take(4).collect(),
        }
    }

    /// The first line of the step that neither the model nor a signal that only a tracer shows
    /// explains.
    fn left(&mut self) -> Option<usize> {
        let SearchState { kernel, progress } = &mut *self.state;
        for nth in self.step.lines.clone() {
            let line = &self.steps.lines[nth];
            while !progress.is_explained(line) {
                if !progress.pass_tracer_line(kernel, self.steps, line.pid) {
                    return Some(nth);
                }
            }
        }
        None
    }

    /// Raises the fault that the line shows.
    fn fault(&mut self, line: usize) -> Result<bool> {
        let line = &self.steps.lines[line];
        let LogEvent::OtherSignal { signal, .. } = line.entry.event else { return Ok(false) };
        let faults = [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::TRAP];
        let event = Event::Fault { tid: line.pid, signal };
        if !faults.contains(&signal) || self.state.kernel.apply(&event, &mut self.fx).is_err() {
            return Ok(false);
        }
        self.note_effects()?;
        Ok(true)
    }

    /// Advances the time to the next expiry.
    fn advance(&mut self) -> Result<bool> {
        let Some(deadline) = self.state.kernel.next_deadline() else { return Ok(false) };
        if self.state.kernel.apply(&Event::Advance(deadline), &mut self.fx).is_err() {
            return Ok(false);
        }
        self.note_effects()?;
        Ok(true)
    }
}

fn is_never(outcome: &text::CallEnd) -> bool {
    *outcome == text::CallEnd::Returned(Ok(Ret::Never))
}
