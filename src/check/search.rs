//! Search over orders, and over the arguments that the log does not show.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Rejection;
use super::initial_state::InitialState;
use super::progress::LogProgress;
use super::run::{OrderPrefix, SearchState, StepError, run};
use super::step::{Line, Step, Steps};
use crate::abi::Pid;
use crate::kernel::{Kernel, Refused, Scripted};
use crate::syscall::text::{self, CallEnd};
use crate::syscall::{Ret, Syscall};
use crate::trace::LogEvent;

/// The number of choices that the search revises without progress in the log. Then the log counts
/// as unexplained.
pub const BUDGET: u32 = 400;

/// The number of choices that the search can revise: older choices are final.
const POINTS: usize = 256;

/// A difference, and its place in the log.
pub struct Mismatch<'a> {
    pub step: usize,
    pub call: Option<Syscall>,
    pub difference: StepError,
    /// The state of the process, if it could not make the call.
    pub busy: Option<&'static str>,
    line: Option<Line<'a>>,
}

/// Follows a log step by step, and revises choices that lead to a difference.
pub struct LogSearch<'s, 'a> {
    steps: &'s Steps<'a>,
    initial: &'s InitialState,
    points: Vec<Point>,
    budget: u32,
}

/// A step with a choice.
struct Point {
    step: usize,
    before: SearchState,
    call: usize,
    script: Scripted,
    /// The number of choices in the script.
    given: usize,
    choice_points: Vec<SearchState>,
    /// The states after the step that earlier choices led to.
    after: Vec<SearchState>,
}

impl<'s, 'a> LogSearch<'s, 'a> {
    pub fn new(steps: &'s Steps<'a>, initial: &'s InitialState) -> LogSearch<'s, 'a> {
        LogSearch { steps, initial, points: Vec::new(), budget: BUDGET }
    }

    /// Searches for choices that explain the log. `Err` is the difference that is furthest in the
    /// log.
    pub fn run(mut self) -> Result<(), Box<Mismatch<'a>>> {
        let mut state =
            SearchState { kernel: self.initial.kernel(), progress: LogProgress::default() };
        let (mut at, mut reached) = (0, 0);
        let mut furthest: Option<Box<Mismatch<'a>>> = None;
        while let Some(step) = self.steps.list.get(at) {
            let mut point = Point::new(at, state.clone());
            let tried = self.attempt(&mut state, step, &mut point);
            if step.calls.len() > 1 || !point.script.taken().is_empty() {
                if tried.is_ok() {
                    point.after.push(state.clone());
                }
                self.push(point);
            }
            match tried {
                Ok(()) => {
                    at += 1;
                    if at > reached {
                        reached = at;
                        self.budget = BUDGET;
                    }
                }
                Err(difference) => {
                    let mismatch = self.mismatch(at, 0, difference, &state.kernel);
                    if furthest.as_ref().is_none_or(|best| best.step < at) {
                        furthest = Some(mismatch);
                    }
                    match self.backtrack(&mut state, &mut furthest) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
        match furthest {
            Some(mismatch) if at < self.steps.list.len() => Err(mismatch),
            _ => Ok(()),
        }
    }

    fn push(&mut self, point: Point) {
        if self.points.len() == POINTS {
            self.points.remove(0);
        }
        self.points.push(point);
    }

    /// Changes the latest choice that can lead to a new state. Returns the step after it, at which
    /// the search continues; `None` if there is no other choice.
    fn backtrack(
        &mut self,
        state: &mut SearchState,
        furthest: &mut Option<Box<Mismatch<'a>>>,
    ) -> Option<usize> {
        while let Some(mut point) = self.points.pop() {
            let step = self.steps.list.get(point.step)?;
            while point.advance(step) {
                self.budget = self.budget.checked_sub(1)?;
                state.clone_from(&point.before);
                let tried = self.attempt(state, step, &mut point);
                if let Err(difference) = tried {
                    let known = matches!(difference, StepError::Known);
                    if !known && furthest.as_ref().is_none_or(|best| best.step < point.step) {
                        *furthest =
                            Some(self.mismatch(point.step, point.call, difference, &state.kernel));
                    }
                    continue;
                }
                if !point.after.contains(state) {
                    point.after.push(state.clone());
                    let next = point.step + 1;
                    self.points.push(point);
                    return Some(next);
                }
            }
        }
        None
    }

    fn attempt(
        &self,
        state: &mut SearchState,
        step: &Step<'a>,
        point: &mut Point,
    ) -> Result<(), StepError> {
        let call =
            step.calls.get(point.call).map(|call| self.initial.filled(step, call, &state.kernel));
        let made = call.as_deref().zip(step.result);
        let again = state.progress.again(self.steps, step.pid);
        for (call, outcome) in made.into_iter().chain(again) {
            if let CallEnd::Returned(Ok(ret)) = outcome {
                self.number_the_child(&mut state.kernel, call, ret);
            }
        }
        let attempt = OrderPrefix {
            call: call.as_deref(),
            choose: &mut point.script,
            given: point.given,
            choice_points: &mut point.choice_points,
        };
        run(state, self.steps, point.step, attempt)
    }

    /// Outside of a namespace of its own, unrelated processes take numbers too: a child gets the
    /// number that the log shows, if that number is free.
    fn number_the_child(&self, kernel: &mut Kernel, call: &Syscall, ret: &Ret) {
        if call.is_fork()
            && self.initial.first != Pid(1)
            && let Ok(number @ 1..) = u32::try_from(ret.value())
        {
            // the model does not give a number that is not valid
            kernel.set_last_pid(number - 1);
        }
    }

    fn mismatch(
        &self,
        at: usize,
        call: usize,
        difference: StepError,
        kernel: &Kernel,
    ) -> Box<Mismatch<'a>> {
        let step = &self.steps.list[at];
        let line = match &difference {
            StepError::Shown { line, .. } => *line,
            StepError::Nothing { line, .. } => Some(*line),
            StepError::Refused(_) | StepError::Known | StepError::Unfinished { .. } => None,
        };
        let busy = matches!(difference, StepError::Refused(Refused::NotInUserMode(_)))
            .then(|| activity(kernel, step.pid));
        Box::new(Mismatch {
            step: at,
            call: step.calls.get(call).cloned(),
            difference,
            busy,
            line: line.and_then(|nth| self.steps.lines.get(nth)).cloned(),
        })
    }
}

fn activity(kernel: &Kernel, pid: Pid) -> &'static str {
    use crate::kernel::RunState;
    match kernel.view(pid).map(|view| view.run) {
        Some(RunState::Stopped) => "is stopped",
        Some(RunState::Blocked) => "sleeps in its last call",
        Some(RunState::Vfork) => "waits for its vfork child",
        Some(RunState::Zombie) => "has ended",
        Some(RunState::User) | None => "has to end",
    }
}

impl Point {
    fn new(step: usize, before: SearchState) -> Point {
        Point {
            step,
            before,
            call: 0,
            script: Scripted::default(),
            given: 0,
            choice_points: Vec::new(),
            after: Vec::new(),
        }
    }

    /// Moves to the next choices; `false` after the last ones.
    fn advance(&mut self, step: &Step<'_>) -> bool {
        if let Some(script) = self.script.following() {
            self.given = script.len();
            self.script = Scripted::new(script);
            return true;
        }
        self.given = 0;
        self.call += 1;
        self.script = Scripted::default();
        self.call < step.calls.len()
    }
}

impl<'a> Mismatch<'a> {
    /// The line of the log that differs, if any.
    pub fn line(&self) -> Option<&Line<'a>> {
        self.line.as_ref()
    }

    /// The text of the difference.
    pub fn rejection(self, steps: &Steps<'_>) -> Rejection {
        let step = &steps.list[self.step];
        let call_line = step.entry.map_or(step.end, |entry| entry.line);
        let call_text = || step.entry.map_or(String::new(), |entry| entry.to_string());
        let line = self.line().map(|line| (line.entry.line, line.entry.to_string()));
        let (line, what, rules) = match &self.difference {
            StepError::Refused(refused) => {
                (call_line, format!("{}: {}", call_text(), self.refusal(*refused)), Vec::new())
            }
            StepError::Shown { pid, shown, rules, .. } => {
                let text = shown.text(*pid, self.call_of(*pid, steps));
                match line {
                    Some((line, found)) => {
                        (line, format!("{found}: the model has `{text}`"), rules.clone())
                    }
                    None => (
                        step.end,
                        format!("after `{}` the model has `{text}`", call_text()),
                        rules.clone(),
                    ),
                }
            }
            StepError::Nothing { rules, .. } => {
                let (line, found) = line.unwrap_or((step.end, String::new()));
                (line, format!("{found}: the model has nothing there"), rules.clone())
            }
            StepError::Known => (call_line, call_text(), Vec::new()),
            StepError::Unfinished { result, rules } => {
                let outcome = CallEnd::Returned(result.clone());
                let text = match &self.call {
                    Some(call) => text::print(call, &outcome).to_string(),
                    None => String::new(),
                };
                (call_line, format!("{}: the model has `{text}`", call_text()), rules.clone())
            }
        };
        Rejection { line, what, rules }
    }

    fn refusal(&self, refused: Refused) -> String {
        match (refused, self.busy) {
            (Refused::NotInUserMode(pid), Some(busy)) => format!("in the model {pid} {busy}"),
            (Refused::NoSuchTask(pid), _) => {
                format!("the model has no living process {pid} there")
            }
            (other, _) => other.to_string(),
        }
    }

    /// The call of `pid` to which a line of the step belongs: the last call of `pid`.
    fn call_of<'c>(&'c self, pid: Pid, steps: &'c Steps<'_>) -> Option<&'c Syscall> {
        if pid == steps.list[self.step].pid && self.call.is_some() {
            return self.call.as_ref();
        }
        match self.line().map(|line| &line.entry.event) {
            Some(LogEvent::Resumed { call, .. } | LogEvent::Call { call, .. }) => Some(call),
            _ => {
                let earlier = steps.list[..self.step].iter().rfind(|step| step.pid == pid);
                earlier.and_then(|step| step.calls.first())
            }
        }
    }
}
