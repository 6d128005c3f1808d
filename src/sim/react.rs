//! One step of a program on the model.

use alloc::vec::Vec;

use super::{Action, Step};
use crate::abi::{Pid, SigInfo, Time, WaitStatus};
use crate::kernel::{Choose, Consequence, Effects, Event, Kernel, Outcome, Refused, Restart};
use crate::syscall::{self, Syscall};

/// Something that can be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The call of this step, or one of an earlier step, returned.
    Returned(syscall::Result),
    /// The program sees the result of its call: it is back where it made it.
    Resumed(syscall::Result),
    /// A blocked call was interrupted.
    Interrupted(Restart),
    /// The body of a handler began.
    Handler(SigInfo),
    /// The handler returned into a call that it had interrupted, which was `Returned` just now.
    Sigreturn,
    /// The process ended.
    Ended(WaitStatus),
}

/// All that a step brought about, until nothing moved any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// What was to be seen, in order.
    pub seen: Vec<(Pid, What)>,
    /// The effects behind it, and the rules.
    pub effects: Effects,
}

/// Carries out one step and all that comes of it, in the order that `choose` picks.
///
/// Where handlers do not stay, the body of each one runs, and returns, as soon as it can.
///
/// # Errors
///
/// [`Refused`] if the process cannot act now; nothing has changed then.
pub fn react(
    kernel: &mut Kernel,
    step: &Step,
    stay_in_handlers: bool,
    choose: &mut dyn Choose,
) -> Result<Reaction, Refused> {
    react_while(kernel, step, stay_in_handlers, choose, &mut |_| true)
}

/// Whether what has been seen so far may go on.
type Admits<'a> = dyn FnMut(&[(Pid, What)]) -> bool + 'a;

/// The same, as long as `admits` says so of what has been seen so far.
pub(super) fn react_while(
    kernel: &mut Kernel,
    step: &Step,
    stay_in_handlers: bool,
    choose: &mut dyn Choose,
    admits: &mut Admits,
) -> Result<Reaction, Refused> {
    let mut run = Running {
        kernel,
        stay_in_handlers,
        seen: Vec::new(),
        fx: Effects::new(),
        at: 0,
        admits,
        admitted: 0,
        over: false,
    };
    match &step.action {
        Action::Call(call) => run.call(step.pid, call)?,
        Action::Elapse(nanos) => return run.elapse(*nanos, choose),
    }
    run.settle(choose);
    Ok(Reaction { seen: run.seen, effects: run.fx })
}

struct Running<'a> {
    kernel: &'a mut Kernel,
    stay_in_handlers: bool,
    seen: Vec<(Pid, What)>,
    fx: Effects,
    /// The effects before this one stand in `seen` already.
    at: usize,
    admits: &'a mut Admits<'a>,
    /// What comes before this one in `seen` was admitted.
    admitted: usize,
    /// Something was not admitted.
    over: bool,
}

impl Running<'_> {
    fn call(&mut self, pid: Pid, call: &Syscall) -> Result<(), Refused> {
        let outcome = self.kernel.call(pid, call, &mut self.fx)?;
        if let Outcome::Returned(result) = outcome {
            self.seen.push((pid, What::Returned(result.clone())));
            if !self.kernel.has_unseen_result(pid) && self.kernel.in_user_mode(pid) {
                self.seen.push((pid, What::Resumed(result)));
            }
        }
        self.note_effects();
        Ok(())
    }

    /// Time passes up to each expiry in turn, so that what one sets off comes before the next.
    fn elapse(mut self, nanos: u64, choose: &mut dyn Choose) -> Result<Reaction, Refused> {
        let end = self.kernel.now().after(nanos);
        loop {
            let next = self.kernel.next_deadline().filter(|deadline| *deadline < end);
            self.advance(next.unwrap_or(end))?;
            self.settle(choose);
            if next.is_none() || self.over {
                return Ok(Reaction { seen: self.seen, effects: self.fx });
            }
        }
    }

    fn advance(&mut self, to: Time) -> Result<(), Refused> {
        self.kernel.apply(&Event::Advance(to), &mut self.fx)?;
        self.note_effects();
        Ok(())
    }

    fn settle(&mut self, choose: &mut dyn Choose) {
        loop {
            self.ask();
            let alternatives = self.kernel.runnable().len();
            let nth = match alternatives {
                _ if self.over => return,
                0 => return,
                1 => 0,
                several => choose.choose(several).min(several - 1),
            };
            let Some(pid) = self.kernel.runnable().nth(nth) else { return };
            self.step(pid);
            self.run_handlers(pid);
        }
    }

    /// Whether to go on, judged by what is new in `seen`.
    fn ask(&mut self) {
        while self.admitted < self.seen.len() && !self.over {
            self.admitted += 1;
            self.over = !(self.admits)(&self.seen[..self.admitted]);
        }
    }

    fn step(&mut self, pid: Pid) {
        // it stands in the queue, so it can step
        let stepped = self.kernel.apply(&Event::Step { tid: pid }, &mut self.fx);
        debug_assert!(stepped.is_ok());
        self.note_effects();
    }

    /// The bodies of the handlers that `pid` has entered run, the innermost first, and return.
    fn run_handlers(&mut self, pid: Pid) {
        while !self.stay_in_handlers && self.kernel.in_user_mode(pid) {
            if self.kernel.handler(pid).is_none() || self.call_sigreturn(pid).is_err() {
                return;
            }
            // what was unblocked by the return comes before anything else of this task
            if self.kernel.runnable().next() == Some(pid) {
                self.step(pid);
            }
        }
    }

    fn call_sigreturn(&mut self, pid: Pid) -> Result<(), Refused> {
        let before = self.seen.len();
        self.kernel.call(pid, &Syscall::RtSigreturn, &mut self.fx)?;
        self.note_effects();
        if self.seen[before..]
            .iter()
            .any(|(who, what)| *who == pid && matches!(what, What::Returned(_)))
        {
            self.seen.push((pid, What::Sigreturn));
        }
        Ok(())
    }

    fn note_effects(&mut self) {
        for effect in &self.fx.list()[self.at..] {
            let what = match &effect.what {
                Consequence::Returned(result) => What::Returned(result.clone()),
                Consequence::Resumed(result) => What::Resumed(result.clone()),
                Consequence::Interrupted(restart) => What::Interrupted(*restart),
                Consequence::Ended(status) => What::Ended(*status),
                Consequence::Handling(info, _) => What::Handler(*info),
                _ => continue,
            };
            self.seen.push((effect.pid, what));
        }
        self.at = self.fx.list().len();
    }
}
