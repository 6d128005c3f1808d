//! What tasks do by themselves: the run queue, and one step of a task.

use super::choose::Choose;
use super::effect::{Consequence, Effects, Restart};
use super::process::{Job, Life};
use super::thread::{Sleep, TaskId};
use super::{Kernel, Refused};
use crate::abi::Pid;
use crate::rule;
use crate::syscall::{self, Syscall};

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
        let tid = self.thread(task).tid;
        fx.begin(tid, None);
        self.running = Some(task);
        self.run(task, fx);
        self.running = None;
        if self.task_numbered(tid) == Some(task) {
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
        if let Sleep::Zap = self.thread(task).sleep {
            return self.finish_zap(task.process, fx);
        }
        if let Sleep::Timed(timed) = &self.thread(task).sleep
            && let Some(deadline) = timed.deadline
        {
            self.clear_timeout(task, deadline);
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
            | Sleep::Interrupted(..) => {}
        }
    }

    fn is_asleep(&self, task: TaskId) -> bool {
        !matches!(self.thread(task).sleep, Sleep::None | Sleep::Interrupted(..))
    }

    /// Whether it continued and its parent does not know yet.
    fn is_unannounced(&self, task: TaskId) -> bool {
        let life = self.processes[task.process].life;
        matches!(life, Life::Alive(Job::Continued { unannounced: true, .. }))
    }

    /// Puts the task at the end of the run queue, unless it stands there.
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
    pub(super) fn back_to_user(&mut self, task: TaskId, fx: &mut Effects) {
        let dying = matches!(self.processes[task.process].life, Life::Dying(_));
        let thread = self.thread_mut(task);
        let first = dying
            || match thread.sleep {
                Sleep::Interrupted(..) => true,
                Sleep::None => thread.notified,
                _ => false,
            };
        if !first {
            if !thread.frames.is_empty() {
                self.begin_handler(task, fx);
            }
        } else if !thread.queued {
            thread.queued = true;
            self.queue.push_front(task);
        }
    }

    /// A thread that is back in its own code runs the handler that was set up last.
    fn begin_handler(&mut self, task: TaskId, fx: &mut Effects) {
        let tid = self.thread(task).tid;
        if self.user_mode_task(tid).is_err() {
            return;
        }
        let Some(frame) = self.thread_mut(task).frames.last_mut() else { return };
        if !core::mem::replace(&mut frame.begun, true) {
            let info = frame.info;
            fx.push(tid, Consequence::Handling(info), rule!("SIG-36"));
        }
    }

    /// Takes a task that is gone out of the run queue.
    pub(super) fn dequeue_task(&mut self, task: TaskId) {
        if core::mem::take(&mut self.thread_mut(task).queued) {
            self.queue.retain(|queued| *queued != task);
        }
    }

    /// A call that was blocked or interrupted returns.
    pub(super) fn return_later(&mut self, task: TaskId, result: syscall::Result, fx: &mut Effects) {
        let tid = self.thread(task).tid;
        fx.push(tid, Consequence::Returned(result), rule!("SIG-44"));
    }
}
