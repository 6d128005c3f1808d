//! One step of a program on the model.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{Action, Step};
use crate::abi::{Pid, SigInfo, Time, WaitStatus};
use crate::kernel::{
    Choose, Consequence, Effect, Effects, Event, Kernel, Outcome, Refused, Restart,
};
use crate::syscall::{self, Syscall};

/// A visible event.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Observable {
    /// The call of this step, or one of an earlier step, returned.
    Returned(syscall::Result),
    /// The program sees the result of its call: the task is in user mode again.
    Resumed(syscall::Result),
    /// A blocked call was interrupted.
    Interrupted(Restart),
    /// The body of a handler began.
    Handler(SigInfo),
    /// The handler returned into the call that it had interrupted, after its `Returned`.
    Sigreturn,
    /// The process ended, with the visible part of its status ([`Kernel::shown_exit_status`]).
    Ended(WaitStatus),
    /// A signal became pending.
    Generated(SigInfo),
    /// The process stopped; the notification of its parent is next.
    Stopped,
}

/// All consequences of a step, until no task was runnable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// The visible events, in order.
    pub seen: Vec<(Pid, Observable)>,
    /// The effects and the rules of these events.
    pub effects: Effects,
}

/// Runs one step and all its consequences, in the order that `choose` selects.
///
/// If handlers do not stay entered, the body of each runs and returns as soon as possible.
///
/// # Errors
///
/// [`Refused`] if the process cannot make the call now; the state is then unchanged.
pub fn react(
    kernel: &mut Kernel,
    step: &Step,
    stay_in_handlers: bool,
    choose: &mut dyn Choose,
) -> Result<Reaction, Refused> {
    let mut run = StepRun::begin(kernel, step, stay_in_handlers)?;
    while let Some(alternatives) = run.go_on(kernel, &mut |_, _| true) {
        run.step(kernel, choose.choose(alternatives).min(alternatives - 1));
    }
    Ok(run.into_reaction())
}

/// Whether the search continues after these visible events.
pub(super) type Admits<'a> = dyn FnMut(&Kernel, &[(Pid, Observable)]) -> bool + 'a;

/// A step in progress: the part of its state that is not in the model.
#[derive(Clone, Debug)]
pub(super) struct StepRun {
    stay_in_handlers: bool,
    seen: Vec<(Pid, Observable)>,
    fx: Effects,
    /// The effects before this one are in `seen` already.
    at: usize,
    /// The events before this one in `seen` were admitted.
    admitted: usize,
    /// An event was not admitted.
    refuted: bool,
    /// The time advances to this time.
    until: Option<Time>,
    /// The task of each step, and the index of its first effect.
    steps: Vec<(Pid, usize)>,
}

impl StepRun {
    /// Makes the call, or sets the time to which the clock advances.
    pub(super) fn begin(
        kernel: &mut Kernel,
        step: &Step,
        stay_in_handlers: bool,
    ) -> Result<StepRun, Refused> {
        let mut run = StepRun {
            stay_in_handlers,
            seen: Vec::new(),
            fx: Effects::new(),
            at: 0,
            admitted: 0,
            refuted: false,
            until: None,
            steps: Vec::new(),
        };
        match &step.action {
            Action::Call(call) => run.call(kernel, step.tid, call)?,
            Action::Concurrent(calls) => run.enter_all(kernel, calls)?,
            Action::Elapse(nanos) => run.until = Some(kernel.now().after(*nanos)),
        }
        Ok(run)
    }

    /// Runs until there are several runnable tasks, or several ways in which time can advance, and
    /// returns their number. Returns `None` at the end of the step, or when `admits` rejects the
    /// visible events.
    pub(super) fn go_on(&mut self, kernel: &mut Kernel, admits: &mut Admits) -> Option<usize> {
        loop {
            while self.admitted < self.seen.len() && !self.refuted {
                self.admitted += 1;
                self.refuted = !admits(kernel, &self.seen[..self.admitted]);
            }
            let alternatives = kernel.runnable_count();
            match alternatives {
                _ if self.refuted => return None,
                0 if self.ways_to_advance(kernel) > 1 => return Some(self.ways_to_advance(kernel)),
                0 if self.advance(kernel) => {}
                0 => return None,
                1 => self.step(kernel, 0),
                _ => return Some(alternatives),
            }
        }
    }

    /// The `nth` runnable task makes a step; if there is none, time advances in the `nth` way.
    pub(super) fn step(&mut self, kernel: &mut Kernel, nth: usize) {
        let task = kernel.runnable().nth(nth);
        if let Some(pid) = task {
            self.step_task(kernel, pid);
            self.run_handlers(kernel, pid);
        } else if nth == 0 {
            self.advance(kernel);
        } else {
            kernel.expire_one(nth - 1, &mut self.fx);
            self.note_effects(kernel);
        }
    }

    /// The number of ways in which time can advance. Timers with one deadline expire all at once,
    /// or one of them before the others: in real time their deadlines differ, and the order in
    /// which they were set is not known precisely.
    fn ways_to_advance(&self, kernel: &Kernel) -> usize {
        let due = self.until.map_or(0, |end| kernel.due_together(end));
        if due > 1 { due + 1 } else { 1 }
    }

    /// Whether an event was not admitted.
    pub(super) fn is_refuted(&self) -> bool {
        self.refuted
    }

    /// The visible events so far.
    pub(super) fn seen(&self) -> &[(Pid, Observable)] {
        &self.seen
    }

    /// The effects so far.
    pub(super) fn effects(&self) -> &[Effect] {
        self.fx.list()
    }

    /// The task of each step so far, and the number of effects before it.
    pub(super) fn steps(&self) -> &[(Pid, usize)] {
        &self.steps
    }

    /// The tasks that have made a step, or that a step has concerned, since the state `earlier`.
    pub(super) fn news_since(&self, earlier: &StepRun) -> BTreeSet<Pid> {
        let concerned = self.effects()[earlier.effects().len()..].iter().map(|effect| effect.pid);
        let stepped = self.steps[earlier.steps.len()..].iter().map(|(pid, _)| *pid);
        concerned.chain(stepped).collect()
    }

    pub(super) fn into_reaction(self) -> Reaction {
        Reaction { seen: self.seen, effects: self.fx }
    }

    fn call(&mut self, kernel: &mut Kernel, pid: Pid, call: &Syscall) -> Result<(), Refused> {
        let outcome = kernel.call(pid, call, &mut self.fx)?;
        if let Outcome::Returned(result) = outcome {
            self.seen.push((pid, Observable::Returned(result.clone())));
            if !kernel.has_unseen_result(pid) && kernel.in_user_mode(pid) {
                self.seen.push((pid, Observable::Resumed(result)));
            }
        }
        self.note_effects(kernel);
        Ok(())
    }

    /// Puts the calls in flight.
    fn enter_all(&mut self, kernel: &mut Kernel, calls: &[(Pid, Syscall)]) -> Result<(), Refused> {
        for (tid, _) in calls {
            if !kernel.in_user_mode(*tid) {
                return Err(Refused::NotInUserMode(*tid));
            }
        }
        calls.iter().try_for_each(|(tid, call)| kernel.enter(*tid, call, &mut self.fx))
    }

    /// Advances the time to the next expiry, so that the consequences of one timer precede the next
    /// expiry; `false` if no time is left.
    fn advance(&mut self, kernel: &mut Kernel) -> bool {
        let Some(end) = self.until else { return false };
        let next = kernel.next_deadline().filter(|deadline| *deadline < end);
        if next.is_none() {
            self.until = None;
        }
        // the clock never moves back: both times are in the future
        let passed = kernel.apply(&Event::Advance(next.unwrap_or(end)), &mut self.fx);
        debug_assert!(passed.is_ok());
        self.note_effects(kernel);
        true
    }

    fn step_task(&mut self, kernel: &mut Kernel, pid: Pid) {
        self.steps.push((pid, self.at));
        // it is in the run queue, so it can make a step
        let stepped = kernel.apply(&Event::Step { tid: pid }, &mut self.fx);
        debug_assert!(stepped.is_ok());
        self.note_effects(kernel);
    }

    /// Runs the bodies of the handlers that `pid` has entered, the innermost first, and returns
    /// from them.
    fn run_handlers(&mut self, kernel: &mut Kernel, pid: Pid) {
        while !self.stay_in_handlers && kernel.in_user_mode(pid) {
            if kernel.handler(pid).is_none() || self.call_sigreturn(kernel, pid).is_err() {
                return;
            }
            // signals that the return unblocks come before other actions of this task
            if kernel.runnable().next() == Some(pid) {
                self.step_task(kernel, pid);
            }
        }
    }

    fn call_sigreturn(&mut self, kernel: &mut Kernel, pid: Pid) -> Result<(), Refused> {
        let before = self.seen.len();
        kernel.call(pid, &Syscall::RtSigreturn, &mut self.fx)?;
        self.note_effects(kernel);
        if self.seen[before..]
            .iter()
            .any(|(task, what)| *task == pid && matches!(what, Observable::Returned(_)))
        {
            self.seen.push((pid, Observable::Sigreturn));
        }
        Ok(())
    }

    fn note_effects(&mut self, kernel: &Kernel) {
        for effect in &self.fx.list()[self.at..] {
            let what = match &effect.what {
                Consequence::Returned(result) => Observable::Returned(result.clone()),
                Consequence::Resumed(result) => Observable::Resumed(result.clone()),
                Consequence::Interrupted(restart) => Observable::Interrupted(*restart),
                Consequence::Ended(status) => {
                    Observable::Ended(kernel.shown_exit_status(effect.pid).unwrap_or(*status))
                }
                Consequence::Handling(info, _) => Observable::Handler(*info),
                Consequence::Generated(info) => Observable::Generated(*info),
                Consequence::Stopped(_) => Observable::Stopped,
                _ => continue,
            };
            self.seen.push((effect.pid, what));
        }
        self.at = self.fx.list().len();
    }
}
