//! Calls in flight: a thread has entered the kernel with a call, and carries it out in its steps.

use alloc::boxed::Box;

use crate::abi::Pid;
use crate::kernel::api::effect::{Consequence, Effects};
use crate::kernel::state::arena::Id;
use crate::kernel::state::task::{Sleep, Task, TaskState};
use crate::kernel::{Kernel, Refused};
use crate::rule;
use crate::syscall::{self, Ret, Syscall};

impl Kernel {
    /// The thread `tid` is about to make a call. The thread enters the run queue and makes the call
    /// in a step of its own; a `Returned` effect has the result. A signal that is sent to the
    /// thread before that step precedes the call: a stopped thread makes the call after it is
    /// continued, and a killed thread does not make it.
    ///
    /// Calls of several threads may be in flight, as on several CPUs. With
    /// [`Granularity::Fine`](crate::kernel::Granularity::Fine) the steps can take every order that
    /// Linux permits.
    ///
    /// ```
    /// use proctable::abi::Pid;
    /// use proctable::kernel::{Canonical, Config, Effects, Kernel};
    /// use proctable::syscall::Syscall;
    ///
    /// let (mut kernel, mut fx) = (Kernel::new(Config::default()), Effects::new());
    /// kernel.call(Pid(1), &Syscall::Fork, &mut fx)?;
    /// // both calls are in flight: the child ends by the signal or by exit_group
    /// kernel.enter(Pid(1), &Syscall::Kill { pid: 2, sig: 9 }, &mut fx)?;
    /// kernel.enter(Pid(2), &Syscall::ExitGroup(3), &mut fx)?;
    /// kernel.settle(&mut Canonical, &mut fx);
    /// assert!(kernel.exit_status(Pid(2)).is_some());
    /// # Ok::<(), proctable::kernel::Refused>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused`] if the thread is not in user mode.
    pub fn enter(&mut self, tid: Pid, call: &Syscall, fx: &mut Effects) -> Result<(), Refused> {
        let task = self.user_mode_task(tid)?;
        fx.begin(tid, Some(call.name()));
        self.tasks[task].sleep = Sleep::Calling(Box::new(call.clone()));
        self.enqueue_task(task);
        Ok(())
    }

    /// Moves a thread that is about to make a call into the kernel, unless the thread takes signals
    /// first. Returns whether the thread has entered.
    #[inline]
    pub(in crate::kernel) fn begin_call(&mut self, task: Id<Task>) -> bool {
        if !matches!(self.tasks[task].sleep, Sleep::Calling(_)) {
            return false;
        }
        let enters = !self.tasks[task].signal_pending && !self.must_end(task);
        let thread = &mut self.tasks[task];
        if let Sleep::Calling(call) = core::mem::take(&mut thread.sleep) {
            thread.sleep = if enters { Sleep::Entered(call) } else { Sleep::Restarting(call) };
        }
        enters
    }

    /// Whether the task carries out a call; no signal is delivered before the call ends.
    #[inline]
    pub(in crate::kernel) fn is_in_call(&self, task: Id<Task>) -> bool {
        matches!(
            self.tasks[task].sleep,
            Sleep::Entered(_) | Sleep::Forking(_) | Sleep::Killing(_) | Sleep::Loading
        )
    }

    /// Continues the call of the task; signals that were sent after its entry do not interrupt it
    /// (RACE-02).
    pub(in crate::kernel) fn continue_call(&mut self, task: Id<Task>, fx: &mut Effects) {
        let result = match core::mem::take(&mut self.tasks[task].sleep) {
            Sleep::Entered(call) => {
                fx.begin(self.tid_of(task), Some(call.name()));
                if self.must_end(task) {
                    fx.obey(rule!("RACE-02"));
                }
                self.perform_any(task, &call, fx)
            }
            Sleep::Killing(killing) => {
                self.tasklist.release_shared();
                self.continue_kill(task, killing, fx)
            }
            Sleep::Forking(forking) => self.continue_fork(task, &forking, fx),
            Sleep::Loading => Some(self.finish_exec(task, fx)),
            sleep => {
                self.tasks[task].sleep = sleep;
                None
            }
        };
        if self.tasks.get(task).is_none() {
            return;
        }
        let subject = self.task_subject(task);
        let thread = &mut self.tasks[task];
        match result {
            Some(Ok(Ret::Never)) => return,
            Some(result) => {
                fx.push(subject, Consequence::Returned(result.clone()), rule!("KILL-34"));
                thread.result = Some(Box::new(result));
            }
            None if !thread.signal_pending => return,
            None => {}
        }
        // other tasks may run before this one returns to user mode
        if thread.state == TaskState::Running && !self.queue.is_empty() {
            self.enqueue_first(task);
        }
    }

    /// Carries out a call; `None` if the caller sleeps in it, or if other tasks run before it ends.
    pub(in crate::kernel) fn perform_any(
        &mut self,
        task: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        match self.perform_number(task, call, fx) {
            Some(number) => Some(number.map(Ret::Value)),
            None => self.perform(task, call, fx),
        }
    }
}
