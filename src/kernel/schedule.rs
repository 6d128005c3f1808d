//! What tasks do by themselves: the run queue, and one step of a task.

use alloc::boxed::Box;

use super::choose::Choose;
use super::effect::{Consequence, Effects, Restart};
use super::process::{Job, Life};
use super::thread::{Sleep, TaskId};
use super::{Kernel, Property, Refused};
use crate::abi::Pid;
use crate::rule;
use crate::syscall::{self, Ret, Syscall};

impl Kernel {
    /// The tasks that will do something by themselves, first the one that was woken first.
    pub fn runnable(&self) -> impl ExactSizeIterator<Item = Pid> + '_ {
        self.queue.iter().map(|task| self.thread(*task).tid)
    }

    /// Lets runnable tasks run until none is left. `choose` picks among them where there are
    /// several; alternative 0 is the one that was woken first.
    ///
    /// Costs what the steps cost; taking alternative n costs O(n) on top.
    pub fn settle(&mut self, choose: &mut dyn Choose, fx: &mut Effects) {
        while !self.queue.is_empty() {
            let nth = match self.queue.len() {
                1 => 0,
                several => choose.choose(several).min(several - 1),
            };
            self.step_nth(nth, fx);
        }
    }

    /// One step of the task `tid`, which must be runnable.
    pub(super) fn step(&mut self, tid: Pid, fx: &mut Effects) -> Result<(), Refused> {
        let task = self.task_numbered(tid).ok_or(Refused::NoSuchTask(tid))?;
        let nth = self.queue.iter().position(|queued| *queued == task);
        self.step_nth(nth.ok_or(Refused::NotRunnable(tid))?, fx);
        Ok(())
    }

    fn step_nth(&mut self, nth: usize, fx: &mut Effects) {
        let Some(task) = self.queue.remove(nth) else { return };
        self.thread_mut(task).queued = false;
        let thread = self.thread(task);
        let (tid, frames) = (thread.tid, thread.frames.len());
        fx.begin(tid, None);
        self.running = Some(task);
        self.run(task, fx);
        self.running = None;
        if self.task_numbered(tid) != Some(task) {
            return;
        }
        // SIG-36: others may run before the body of a handler that was set up, and what they send
        // may have another one set up above it
        let entered = self.thread(task).frames.len() > frames;
        if entered && !self.queue.is_empty() && self.user_mode_task(tid).is_ok() {
            self.thread_mut(task).queued = true;
            self.queue.push_front(task);
        } else {
            self.back_to_user(task, fx);
        }
    }

    /// The task runs: it leaves its blocked call if it has reason to, then delivers its signals.
    fn run(&mut self, task: TaskId, fx: &mut Effects) {
        match self.processes[task.process].life {
            Life::Zombie(_) => return,
            Life::Dying(_) => return self.die(task, fx),
            Life::Alive(Job::Stopped { .. }) => return,
            Life::Alive(_) => {}
        }
        self.wake(task, fx);
        // it may have gone back to sleep
        if self.thread(task).notified || !self.is_asleep(task) || self.is_unannounced(task) {
            self.deliver(task, fx);
        }
    }

    /// A task that has to end leaves whatever it sleeps in.
    fn die(&mut self, task: TaskId, fx: &mut Effects) {
        match (&self.thread(task).sleep, self.processes[task.process].life) {
            (Sleep::Zap, _) => return self.finish_zap(task.process, fx),
            (Sleep::Exiting, Life::Dying(status)) => {
                return self.go_on_exiting(task.process, status, fx);
            }
            _ => {}
        }
        if let Sleep::Wait(_) = self.thread(task).sleep {
            // WAIT-42: it looks for children before it looks at its signals, the deadly one too
            self.wake_wait(task, fx);
        }
        if let Sleep::Timed(_) = self.thread(task).sleep {
            // SIG-50: so does this one for the signals that it waits for, among them the deadly one
            self.end_sigtimedwait(task, fx);
        }
        self.deliver(task, fx);
    }

    /// A sleeping task was woken: it looks whether it has reason to leave its call.
    fn wake(&mut self, task: TaskId, fx: &mut Effects) {
        let notified = self.thread(task).notified;
        match &self.thread(task).sleep {
            Sleep::Wait(_) => self.wake_wait(task, fx),
            Sleep::Pause if notified => {
                self.interrupt(task, Restart::NoHandler, Syscall::Pause, fx);
            }
            Sleep::Suspend(call) if notified => {
                let call = (**call).clone();
                self.interrupt(task, Restart::NoHandler, call, fx);
            }
            Sleep::Timed(timed) => {
                let expired = timed.deadline.is_some_and(|deadline| deadline <= self.now);
                if notified || expired {
                    self.end_sigtimedwait(task, fx);
                }
            }
            Sleep::None
            | Sleep::Pause
            | Sleep::Suspend(_)
            | Sleep::Vfork(_)
            | Sleep::Zap
            | Sleep::Exiting
            | Sleep::Interrupted(..)
            | Sleep::Restarting(_) => {}
        }
    }

    fn is_asleep(&self, task: TaskId) -> bool {
        !matches!(
            self.thread(task).sleep,
            Sleep::None | Sleep::Interrupted(..) | Sleep::Restarting(_)
        )
    }

    /// Whether it continued and its parent does not know yet.
    fn is_unannounced(&self, task: TaskId) -> bool {
        let life = self.processes[task.process].life;
        matches!(life, Life::Alive(Job::Continued { unannounced: true, .. }))
    }

    /// Puts the task at the end of the run queue, unless it stands there.
    #[inline]
    pub(super) fn enqueue_task(&mut self, task: TaskId) {
        if self.running == Some(task) {
            // it will look at everything new before it goes on: see `back_to_user`
            return;
        }
        let thread = self.thread_mut(task);
        if !thread.queued {
            thread.queued = true;
            self.queue.push_back(task);
        }
    }

    /// The calling task is about to return: what it has to do before that goes before all else.
    #[inline(always)]
    pub(super) fn back_to_user(&mut self, task: TaskId, fx: &mut Effects) {
        let process = &self.processes[task.process];
        let thread = process.thread(task.nth);
        let first = match process.life {
            Life::Dying(_) => !matches!(thread.sleep, Sleep::Zap),
            Life::Zombie(_) | Life::Alive(Job::Stopped { .. }) => return,
            Life::Alive(_) => {
                matches!(thread.sleep, Sleep::Interrupted(..) | Sleep::Restarting(_))
                    || thread.notified && !self.is_asleep(task)
            }
        };
        let exiting = thread.sleep == Sleep::Exiting;
        if exiting && self.config.version.has(Property::ExitIsPreempted) {
            // a process that is behind all others by now
            if !core::mem::replace(&mut self.thread_mut(task).queued, true) {
                self.queue.push_back(task);
            }
        } else if !first {
            if thread.result.is_some() || !thread.frames.is_empty() {
                self.arrive(task, fx);
            }
        } else if !core::mem::replace(&mut self.thread_mut(task).queued, true) {
            self.queue.push_front(task);
        }
    }

    /// The call has a result and others were woken: they may run before its program sees it.
    pub(super) fn delay_return(&mut self, task: TaskId, result: syscall::Result) {
        let process = &mut self.processes[task.process];
        let stopped = process.is_stopped();
        let thread = process.thread_mut(task.nth);
        thread.result = Some(match result {
            // the common result by itself: see `call`
            Ok(Ret::Value(value)) => Box::new(Ok(Ret::Value(value))),
            result => Box::new(result),
        });
        if !stopped && !core::mem::replace(&mut thread.queued, true) {
            self.queue.push_front(task);
        }
    }

    /// A thread that is back in its own code sees the result of its call, or runs the handler
    /// that was set up last.
    #[inline(never)]
    fn arrive(&mut self, task: TaskId, fx: &mut Effects) {
        let tid = self.thread(task).tid;
        if self.user_mode_task(tid).is_err() {
            return;
        }
        if let Some(result) = self.thread_mut(task).result.take() {
            fx.push(tid, Consequence::Resumed(*result), rule!("KILL-34"));
        }
        let Some(frame) = self.thread_mut(task).frames.last_mut() else { return };
        if !core::mem::replace(&mut frame.begun, true) {
            let (info, handler) = (frame.info, frame.handler);
            fx.push(tid, Consequence::Handling(info, handler), rule!("SIG-36"));
        }
    }

    /// Takes a task that is gone out of the run queue.
    pub(super) fn dequeue_task(&mut self, task: TaskId) {
        if core::mem::take(&mut self.thread_mut(task).queued) {
            self.queue.retain(|queued| *queued != task);
        }
    }

    /// A call that was blocked or interrupted returns.
    pub(super) fn return_later(
        &mut self,
        task: TaskId,
        result: syscall::Result,
        rule: super::Rule,
        fx: &mut Effects,
    ) {
        let tid = self.thread(task).tid;
        self.thread_mut(task).result = Some(Box::new(result.clone()));
        fx.push(tid, Consequence::Returned(result), rule);
    }
}
