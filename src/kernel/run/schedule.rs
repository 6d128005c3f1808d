//! The run queue, and one step of a task.

use alloc::boxed::Box;

use crate::abi::Pid;
use crate::kernel::api::effect::{Consequence, Effects, Restart};
use crate::kernel::run::choose::Choose;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{JobControl, Life};
use crate::kernel::state::task::{Sleep, Task, TaskState};
use crate::kernel::{Kernel, Property, Refused};
use crate::rule;
use crate::syscall::{self, Ret, Syscall};

impl Kernel {
    /// The tasks that have a step to make now, in the order in which they were woken. Empty only if
    /// no task has a step to make.
    pub fn runnable(&self) -> impl Iterator<Item = Pid> + '_ {
        let admitted = self.queue.iter().filter(|task| self.is_admitted(**task));
        admitted.map(|task| self.tid_of(*task))
    }

    /// How many tasks have a step to make now. O(1) unless a task holds a lock.
    pub fn runnable_count(&self) -> usize {
        if self.tasklist.is_held() { self.runnable().count() } else { self.queue.len() }
    }

    /// Whether no other task holds a lock that the next step of the task needs.
    #[inline]
    fn is_admitted(&self, task: Id<Task>) -> bool {
        !self.tasklist.is_held() || self.tasklist.admits(self.access_of(task))
    }

    /// Runs runnable tasks until none is left. If several are runnable, `choose` picks the next
    /// one; alternative 0 is the task that was woken first.
    ///
    /// Costs the steps; alternative n costs O(n) more.
    pub fn settle(&mut self, choose: &mut dyn Choose, fx: &mut Effects) {
        while !self.queue.is_empty() {
            let nth = match self.runnable_count() {
                0 | 1 => 0,
                several => choose.choose(several).min(several - 1),
            };
            self.step_nth(self.place_of_admitted(nth), fx);
        }
    }

    /// One step of the task `tid`, which must be runnable.
    pub(in crate::kernel) fn step(&mut self, tid: Pid, fx: &mut Effects) -> Result<(), Refused> {
        let goes_on = |task: &Task| !task.is_dead() || task.queued;
        let task = self.task_numbered(tid).filter(|task| goes_on(&self.tasks[*task]));
        let task = task.ok_or(Refused::NoSuchTask(tid))?;
        let nth = self.queue.iter().position(|queued| *queued == task);
        let nth = nth.filter(|_| self.is_admitted(task));
        self.step_nth(nth.ok_or(Refused::NotRunnable(tid))?, fx);
        Ok(())
    }

    /// The place in the queue of the `nth` task that can run.
    fn place_of_admitted(&self, nth: usize) -> usize {
        if !self.tasklist.is_held() {
            return nth;
        }
        let admitted = (0..self.queue.len()).filter(|at| self.is_admitted(self.queue[*at]));
        // the task that holds the lock can run
        admitted.take(nth + 1).last().unwrap_or(0)
    }

    fn step_nth(&mut self, nth: usize, fx: &mut Effects) {
        let Some(task) = self.queue.remove(nth) else { return };
        self.tasks[task].queued = false;
        let thread = &self.tasks[task];
        let frames = thread.frames.len();
        fx.begin(self.tid_of(task), None);
        self.running = Some(task);
        self.run(task, fx);
        self.running = None;
        if self.tasks.get(task).is_none_or(Task::is_dead) {
            return;
        }
        // SIG-36: other tasks may run before the body of a handler that was set up, and their
        // signals may set up another handler above it
        let entered = self.tasks[task].frames.len() > frames;
        if entered && !self.queue.is_empty() && self.is_in_user_mode(task) {
            self.enqueue_first(task);
        } else {
            self.back_to_user(task, fx);
        }
    }

    /// The task runs: it leaves its blocked call if it has a reason, then delivers its signals.
    fn run(&mut self, task: Id<Task>, fx: &mut Effects) {
        if core::mem::take(&mut self.tasks[task].notifying_stop) {
            return self.continue_notifying_stop(task, fx);
        }
        let state = self.tasks[task].state;
        match state {
            TaskState::Stopped => return,
            TaskState::Dead => return self.release(task, fx),
            TaskState::Exiting => return self.end(task, fx),
            TaskState::Running if self.is_in_call(task) => return self.continue_call(task, fx),
            TaskState::Running if self.begin_call(task) => {
                return if self.others_may_run() {
                    self.enqueue_first(task)
                } else {
                    self.continue_call(task, fx)
                };
            }
            TaskState::Running => {}
        }
        if self.must_end(task) {
            return self.die(task, fx);
        }
        let in_terminal = matches!(self.tasks[task].sleep, Sleep::Terminal(_));
        self.wake(task, fx);
        let is_interrupted = matches!(self.tasks[task].sleep, Sleep::Interrupted(..));
        if in_terminal && is_interrupted && !self.queue.is_empty() {
            // a task that waited for the end of this read or write may begin its own before this
            // one restarts (the kernel hands a mutex over, or the first one takes it)
            return self.enqueue_first(task);
        }
        // the task may sleep again
        if self.tasks[task].signal_pending
            || !self.is_asleep(task)
            || self.has_unsent_notification(task)
        {
            self.deliver(task, fx);
        }
    }

    /// Whether the task has to end: with its process, or because another task of the process
    /// executes a program.
    #[inline]
    pub(in crate::kernel) fn must_end(&self, task: Id<Task>) -> bool {
        let process = &self.processes[self.process_of(task)];
        matches!(process.life, Life::Dying(_)) || !process.may_continue(task)
    }

    /// Continues the end of a task that was cut.
    fn end(&mut self, task: Id<Task>, fx: &mut Effects) {
        match self.tasks[task].sleep {
            Sleep::Zap { last } => self.finish_zap(task, last, fx),
            Sleep::Exiting { last } => self.continue_exit(task, last, fx),
            Sleep::Notifying(_) => self.continue_notifying(task, fx),
            _ => {}
        }
    }

    /// Ends a task that has to end; it leaves the call in which it sleeps.
    fn die(&mut self, task: Id<Task>, fx: &mut Effects) {
        if let Sleep::Wait(_) = self.tasks[task].sleep {
            // WAIT-42: the wait looks for children before the task looks at its signals, also at a
            // fatal one
            self.wake_wait(task, fx);
        }
        if let Sleep::Terminal(_) = self.tasks[task].sleep {
            // a read looks for input before the task looks at its signals, also at a fatal one
            self.wake_in_terminal(task, fx);
        }
        if let Sleep::Timed(_) = self.tasks[task].sleep {
            // SIG-50: rt_sigtimedwait takes a signal of its set first, also a fatal one
            self.end_sigtimedwait(task, fx);
        }
        self.deliver(task, fx);
    }

    /// A sleeping task was woken: it leaves its call if it has a reason.
    fn wake(&mut self, task: Id<Task>, fx: &mut Effects) {
        let signal_pending = self.tasks[task].signal_pending;
        match &self.tasks[task].sleep {
            Sleep::Wait(_) => self.wake_wait(task, fx),
            Sleep::Pause if signal_pending => {
                self.interrupt(task, Restart::NoHandler, Syscall::Pause, fx);
            }
            Sleep::Suspend(call) if signal_pending => {
                let call = (**call).clone();
                self.interrupt(task, Restart::NoHandler, call, fx);
            }
            Sleep::Timed(timed) => {
                let expired = timed.deadline.is_some_and(|deadline| deadline <= self.now);
                if signal_pending || expired {
                    self.end_sigtimedwait(task, fx);
                }
            }
            Sleep::Exec => self.continue_exec(task, fx),
            Sleep::Terminal(_) => self.wake_in_terminal(task, fx),
            Sleep::Poll(_) => self.wake_poll(task, fx),
            Sleep::None
            | Sleep::Pause
            | Sleep::Suspend(_)
            | Sleep::Vfork(..)
            | Sleep::Zap { .. }
            | Sleep::Exiting { .. }
            | Sleep::Calling(_)
            | Sleep::Entered(_)
            | Sleep::Forking(_)
            | Sleep::Killing(_)
            | Sleep::Loading
            | Sleep::Notifying(_)
            | Sleep::Releasing(_)
            | Sleep::Interrupted(..)
            | Sleep::Restarting(_) => {}
        }
    }

    fn is_asleep(&self, task: Id<Task>) -> bool {
        !matches!(
            self.tasks[task].sleep,
            Sleep::None | Sleep::Interrupted(..) | Sleep::Restarting(_)
        )
    }

    /// Whether the process continued and its parent is not notified yet.
    fn has_unsent_notification(&self, task: Id<Task>) -> bool {
        let life = self.processes[self.tasks[task].process].life;
        matches!(life, Life::Alive(JobControl::Continued { unsent: Some(_), .. }))
    }

    /// Puts the task at the end of the run queue, unless it is in the queue.
    #[inline]
    pub(in crate::kernel) fn enqueue_task(&mut self, task: Id<Task>) {
        if self.running == Some(task) {
            // the task looks at everything new before it continues: see `back_to_user`
            return;
        }
        let thread = &mut self.tasks[task];
        if !thread.queued {
            thread.queued = true;
            self.queue.push_back(task);
        }
    }

    /// The calling task is about to return. The work that it has to do before that precedes all
    /// other steps (TG-172).
    #[inline(always)]
    pub(in crate::kernel) fn back_to_user(&mut self, task: Id<Task>, fx: &mut Effects) {
        let Some(thread) = self.tasks.get(task) else { return };
        let exiting = matches!(thread.sleep, Sleep::Exiting { .. });
        let first = match thread.state {
            TaskState::Dead | TaskState::Stopped => return,
            TaskState::Exiting => exiting,
            TaskState::Running => {
                self.must_end(task)
                    || matches!(thread.sleep, Sleep::Interrupted(..) | Sleep::Restarting(_))
                    || thread.signal_pending && !self.is_asleep(task)
            }
        };
        if exiting && self.config.version.has(Property::ExitIsPreempted) {
            // the process runs after all other tasks
            self.enqueue_last(task);
        } else if !first {
            // a task that is in the queue lets other tasks run first
            if !thread.queued && (thread.result.is_some() || !thread.frames.is_empty()) {
                self.arrive(task, fx);
            }
        } else {
            self.enqueue_first(task);
        }
    }

    /// Puts the task at the front of the run queue, unless it is in the queue: in the canonical
    /// order it runs next.
    #[inline]
    pub(in crate::kernel) fn enqueue_first(&mut self, task: Id<Task>) {
        if !core::mem::replace(&mut self.tasks[task].queued, true) {
            self.queue.push_front(task);
        }
    }

    /// Puts the task at the end of the run queue, also while it makes the present transition: other
    /// tasks run before it continues.
    pub(in crate::kernel) fn enqueue_last(&mut self, task: Id<Task>) {
        if !core::mem::replace(&mut self.tasks[task].queued, true) {
            self.queue.push_back(task);
        }
    }

    /// Whether other tasks may run where the kernel releases its locks.
    #[inline]
    pub(in crate::kernel) fn others_may_run(&self) -> bool {
        self.is_fine() && !self.queue.is_empty()
    }

    /// The call has a result, and other tasks were woken: they may run before the program sees the
    /// result.
    pub(in crate::kernel) fn delay_return(&mut self, task: Id<Task>, result: syscall::Result) {
        let Some(thread) = self.tasks.get_mut(task) else { return };
        let stopped = thread.is_stopped();
        thread.result = Some(match result {
            // the common result is moved by itself: see `call`
            Ok(Ret::Value(value)) => Box::new(Ok(Ret::Value(value))),
            result => Box::new(result),
        });
        if !stopped {
            self.enqueue_first(task);
        }
    }

    /// A thread that is back in user mode sees the result of its call, or runs the handler that was
    /// set up last.
    #[inline(never)]
    fn arrive(&mut self, task: Id<Task>, fx: &mut Effects) {
        if !self.is_in_user_mode(task) {
            return;
        }
        let subject = self.task_subject(task);
        if let Some(result) = self.tasks[task].result.take() {
            fx.push(subject, Consequence::Resumed(*result), rule!("KILL-34"));
        }
        let Some(frame) = self.tasks[task].frames.last_mut() else { return };
        if !core::mem::replace(&mut frame.begun, true) {
            let (info, handler) = (frame.info, frame.handler);
            fx.push(subject, Consequence::Handling(info, handler), rule!("SIG-36"));
        }
    }

    /// Removes a task from the run queue.
    #[inline]
    pub(in crate::kernel) fn dequeue_task(&mut self, task: Id<Task>) {
        if core::mem::take(&mut self.tasks[task].queued) {
            self.queue.retain(|queued| *queued != task);
        }
    }

    /// A call that was blocked or interrupted returns.
    pub(in crate::kernel) fn return_later(
        &mut self,
        task: Id<Task>,
        result: syscall::Result,
        rule: crate::kernel::Rule,
        fx: &mut Effects,
    ) {
        self.tasks[task].result = Some(Box::new(result.clone()));
        fx.push(self.task_subject(task), Consequence::Returned(result), rule);
    }
}
