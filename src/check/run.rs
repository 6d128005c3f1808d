//! One step on the model, line by line against the log.

use alloc::vec::Vec;

use super::line::Shown;
use super::step::{Line, Step};
use crate::abi::{Errno, Pid};
use crate::kernel::{
    Choose, Consequence, Effects, Event, Kernel, Outcome, Refused, Restart, Rule, RuleSet, Run,
};
use crate::syscall::{self, Ret, Syscall};
use crate::trace::LogEvent;

/// How a step differs from the log.
#[derive(Clone, Debug)]
pub enum Difference {
    /// The process cannot make the call.
    Refused(Refused),
    /// The model shows something, and the line at that place in the step says something else, or
    /// there is none.
    Shown { pid: Pid, shown: Shown, line: Option<usize>, rules: Vec<Rule> },
    /// The model shows nothing more of the process, and this line does.
    Nothing { line: usize, rules: Vec<Rule> },
    /// Another order came to the same point.
    Known,
    /// The call returns where the log does not show it.
    Unfinished { result: syscall::Result, rules: Vec<Rule> },
}

/// What to try of a step, and what has been tried.
pub struct Attempt<'t> {
    pub call: Option<&'t Syscall>,
    /// The order.
    pub choose: &'t mut dyn Choose,
    /// How many of its choices were made before, up to the last, which is new.
    pub given: usize,
    /// The states in the middle of the step at which something could be chosen, each with the
    /// lines explained by then: nothing new comes after them.
    pub crossings: &'t mut Vec<(Kernel, Vec<bool>)>,
}

type Result<T> = core::result::Result<T, Difference>;

/// How many expiries of timers a step may wait for.
const EXPIRIES: usize = 8;

/// Carries out `step` as `attempt` says, as long as the log agrees.
pub fn run(
    kernel: &mut Kernel,
    step: &Step<'_>,
    masks: bool,
    mut attempt: Attempt<'_>,
) -> Result<()> {
    let mut running = Running {
        kernel,
        step,
        masks,
        used: alloc::vec![false; step.lines.len()],
        fx: Effects::new(),
        at: 0,
        call_rules: RuleSet::EMPTY,
        interrupted: Vec::new(),
        owed: None,
    };
    if let Some(call) = attempt.call {
        running.call(call)?;
    }
    running.settle(&mut attempt)?;
    for _ in 0..EXPIRIES {
        if running.left().is_none() || !running.advance()? {
            break;
        }
        running.settle(&mut attempt)?;
    }
    running.end()
}

struct Running<'k, 's, 'a> {
    kernel: &'k mut Kernel,
    step: &'s Step<'a>,
    /// The log knows the masks that handlers restore.
    masks: bool,
    /// The lines that are explained.
    used: Vec<bool>,
    fx: Effects,
    /// The effects before this one have been looked at.
    at: usize,
    /// The rules that the call itself obeyed.
    call_rules: RuleSet,
    /// The processes whose blocked call was interrupted, and whether a handler has shown it.
    interrupted: Vec<(Pid, Restart, bool)>,
    /// The result of a call that the log does not show: then the process must die in it.
    owed: Option<syscall::Result>,
}

impl<'a> Running<'_, '_, 'a> {
    fn call(&mut self, call: &Syscall) -> Result<()> {
        let pid = self.step.pid;
        let outcome = self.kernel.call(pid, call, &mut self.fx).map_err(Difference::Refused)?;
        self.call_rules = *self.fx.rules();
        match outcome {
            Outcome::Returned(result) => self.result(pid, result)?,
            Outcome::Gone => self.result(pid, Ok(Ret::Never))?,
            Outcome::Blocked | Outcome::Done => {}
        }
        self.note_effects()
    }

    /// The call of this step returns. The log does not show it if the caller dies before it is
    /// back in its own code.
    fn result(&mut self, pid: Pid, result: syscall::Result) -> Result<()> {
        let shown = self.next_line(pid).map(|line| &line.1.entry.event);
        match shown {
            Some(LogEvent::Call { outcome, .. }) if is_never(outcome) => {
                if result != Ok(Ret::Never) {
                    self.owed = Some(result);
                }
                self.use_next(pid);
                Ok(())
            }
            Some(LogEvent::Call { .. } | LogEvent::Resumed { .. }) => {
                self.show(pid, Shown::Result(result))
            }
            _ if result == Ok(Ret::Never) => Ok(()),
            _ => {
                self.owed = Some(result);
                Ok(())
            }
        }
    }

    fn settle(&mut self, attempt: &mut Attempt<'_>) -> Result<()> {
        loop {
            let alternatives = self.kernel.runnable().len();
            let nth = match alternatives {
                0 => return Ok(()),
                1 => 0,
                _ if self.in_any_order() => 0,
                several => self.choose(several, attempt)?,
            };
            let Some(pid) = self.kernel.runnable().nth(nth) else { return Ok(()) };
            self.step_task(pid)?;
            self.run_handlers(pid)?;
        }
    }

    fn choose(&self, several: usize, attempt: &mut Attempt<'_>) -> Result<usize> {
        if attempt.given > 0 {
            attempt.given -= 1;
        } else if attempt
            .crossings
            .iter()
            .any(|(kernel, used)| *used == self.used && *kernel == *self.kernel)
        {
            return Err(Difference::Known);
        } else {
            attempt.crossings.push((self.kernel.clone(), self.used.clone()));
        }
        Ok(attempt.choose.choose(several).min(several - 1))
    }

    /// Whether each runnable task will do something that concerns nobody else: then their order
    /// makes no difference.
    fn in_any_order(&self) -> bool {
        self.kernel.runnable().all(|pid| {
            let mut kernel = self.kernel.clone();
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
            own && others(&kernel) == others(self.kernel)
        })
    }

    fn step_task(&mut self, pid: Pid) -> Result<()> {
        // it stands in the queue, so it can step
        let stepped = self.kernel.apply(&Event::Step { tid: pid }, &mut self.fx);
        debug_assert!(stepped.is_ok());
        self.note_effects()
    }

    /// The bodies of the handlers that `pid` has entered run, the innermost first, and return.
    fn run_handlers(&mut self, pid: Pid) -> Result<()> {
        while self.kernel.in_user_mode(pid) {
            if self.kernel.handler(pid).is_none() {
                return Ok(());
            }
            if !self.sigreturn(pid)? {
                return Ok(());
            }
            // what was unblocked by the return comes before anything else of this task
            if self.kernel.runnable().next() == Some(pid) {
                self.step_task(pid)?;
            }
        }
        Ok(())
    }

    fn sigreturn(&mut self, pid: Pid) -> Result<bool> {
        let mut fx = Effects::new();
        if self.kernel.call(pid, &Syscall::RtSigreturn, &mut fx).is_err() {
            return Ok(false);
        }
        let mask = self.kernel.view(pid).map(|view| view.blocked).unwrap_or_default();
        let result = fx.list().iter().find_map(|effect| match &effect.what {
            Consequence::Returned(result) if effect.pid == pid => Some(result.clone()),
            _ => None,
        });
        let asleep = self.kernel.view(pid).is_some_and(|view| view.run == Run::Blocked);
        if result == Some(Err(Errno::EINTR)) {
            self.show(pid, Shown::Failed { mask, result: Err(Errno::EINTR) })?;
        } else if result.is_some() || asleep {
            self.show(pid, Shown::Restarted { mask })?;
            self.show(pid, Shown::Again(result))?;
        }
        // the rest of its effects
        for effect in fx.list() {
            if let Consequence::Handling(info, _) = effect.what {
                self.show(effect.pid, Shown::Handler(info))?;
            }
        }
        // made again, it finds a signal at once, and is interrupted without having slept
        let again = asleep && self.kernel.runnable().next() == Some(pid);
        match self.interruption(pid) {
            Some(state) if again => state.2 = false,
            _ => self
                .interrupted
                .retain(|state| state.0 != pid || self.kernel.handler_depth(pid) > 0),
        }
        Ok(true)
    }

    fn interruption(&mut self, pid: Pid) -> Option<&mut (Pid, Restart, bool)> {
        self.interrupted.iter_mut().find(|state| state.0 == pid)
    }

    fn note_effects(&mut self) -> Result<()> {
        while let Some(effect) = self.fx.list().get(self.at) {
            self.at += 1;
            let pid = effect.pid;
            match effect.what.clone() {
                Consequence::Returned(result) => {
                    self.interrupted.retain(|state| state.0 != pid);
                    self.show(pid, Shown::Result(result))?;
                }
                Consequence::Interrupted(restart) => {
                    self.interrupted.retain(|state| state.0 != pid);
                    self.interrupted.push((pid, restart, false));
                }
                Consequence::Ended(status) => self.ended(pid, Shown::Ended(status))?,
                Consequence::Handling(info, _) => self.handling(pid, Shown::Handler(info))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// An interrupted call is shown only if a handler runs: else it is made again, unseen.
    fn handling(&mut self, pid: Pid, shown: Shown) -> Result<()> {
        if let Some(state) = self.interruption(pid)
            && !state.2
        {
            state.2 = true;
            let restart = state.1;
            self.show(pid, Shown::Interrupted(restart))?;
        }
        self.show(pid, shown)
    }

    fn ended(&mut self, pid: Pid, shown: Shown) -> Result<()> {
        if pid == self.step.pid {
            self.owed = None;
        }
        // the call that it died in
        if let Some((_, line)) = self.next_line(pid)
            && matches!(line.entry.event, LogEvent::ResumedCut(_))
        {
            self.use_next(pid);
        }
        if self.step.last_words && pid == self.step.pid && self.next_line(pid).is_none() {
            return Ok(());
        }
        self.show(pid, shown)
    }

    /// The first line of `pid` that is not explained.
    fn next_line(&self, pid: Pid) -> Option<(usize, &Line<'a>)> {
        let lines = self.step.lines.iter().enumerate();
        lines
            .zip(&self.used)
            .find_map(|((nth, line), used)| (!used && line.pid == pid).then_some((nth, line)))
    }

    fn use_next(&mut self, pid: Pid) {
        if let Some((nth, _)) = self.next_line(pid) {
            self.used[nth] = true;
        }
    }

    fn show(&mut self, pid: Pid, shown: Shown) -> Result<()> {
        let next = self.next_line(pid);
        let Some((nth, line)) = next.filter(|(_, line)| shown.is_in(line, self.masks)) else {
            let line = next.map(|(nth, _)| nth);
            let rules = self.rules(pid, &shown);
            return Err(Difference::Shown { pid, shown, line, rules });
        };
        // the line of a call that is made again and interrupted again says both
        let twice =
            shown == Shown::Again(None) && matches!(line.entry.event, LogEvent::Call { .. });
        self.used[nth] = !twice;
        Ok(())
    }

    /// The rules behind what the model shows of `pid`.
    fn rules(&self, pid: Pid, shown: &Shown) -> Vec<Rule> {
        let own_call = pid == self.step.pid && self.at == 0;
        if let (Shown::Result(result), true) = (shown, own_call) {
            return self.rules_of_call(result);
        }
        let mut rules = Vec::new();
        let signal = match shown {
            Shown::Ended(status) => status.term_signal(),
            Shown::Handler(info) => Some(info.signal),
            _ => None,
        };
        for effect in &self.fx.list()[..self.at] {
            let relevant = effect.pid == pid
                && match &effect.what {
                    Consequence::Generated(info) => Some(info.signal) == signal,
                    Consequence::Ended(_) => matches!(shown, Shown::Ended(_)),
                    Consequence::Handling(info, _) => *shown == Shown::Handler(*info),
                    Consequence::Returned(result) => *shown == Shown::Result(result.clone()),
                    _ => false,
                };
            if relevant && !rules.contains(&effect.cause.rule) {
                rules.push(effect.cause.rule);
            }
        }
        rules
    }

    /// What the call itself obeyed: the rule that refused it, or those that it went by.
    fn rules_of_call(&self, result: &syscall::Result) -> Vec<Rule> {
        match (result, self.fx.last_rule()) {
            (Err(_), Some(last)) => [last].into(),
            _ => self.call_rules.iter().take(4).collect(),
        }
    }

    /// The first line that is not explained.
    fn left(&self) -> Option<usize> {
        self.used.iter().position(|used| !used)
    }

    /// Time passes up to the next expiry.
    fn advance(&mut self) -> Result<bool> {
        let Some(deadline) = self.kernel.next_deadline() else { return Ok(false) };
        if self.kernel.apply(&Event::Advance(deadline), &mut self.fx).is_err() {
            return Ok(false);
        }
        self.note_effects()?;
        Ok(true)
    }

    fn end(self) -> Result<()> {
        let rules = || self.call_rules.iter().take(4).collect();
        if let Some(line) = self.left() {
            return Err(Difference::Nothing { line, rules: rules() });
        }
        match self.owed {
            Some(result) => Err(Difference::Unfinished { result, rules: rules() }),
            None => Ok(()),
        }
    }
}

fn is_never(outcome: &syscall::text::Outcome) -> bool {
    *outcome == syscall::text::Outcome::Returned(Ok(Ret::Never))
}
