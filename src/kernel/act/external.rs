//! Actions from outside of the model, by the runtime that embeds it. To the processes of the model
//! the runtime is an ancestor namespace. Where it acts on behalf of a process it is one more thread
//! of that process, which blocks every signal.

use alloc::vec::Vec;

use crate::abi::{Errno, Pid, SiCode, SigInfo, Signal, Uid, WaitStatus};
#[cfg(doc)]
use crate::kernel::Consequence;
use crate::kernel::act::fork::Request;
use crate::kernel::api::effect::{Effects, ExternalWake};
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{JobControl, Life, ParentNotification, Process};
use crate::kernel::state::task::{Task, TaskState, WaitSelector};
use crate::kernel::{Kernel, Refused};
use crate::rule;
use crate::syscall::{self, Syscall};

impl Kernel {
    /// Creates a child of `parent`, as if one more thread of `parent` had called fork(2). The state
    /// of its threads does not matter. The child is in no handler. `number` is the number of the
    /// child, as set_tid of clone3(2) chooses it (PID-13); `None` for the next free one.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no living process `parent`; the errno of fork(2) is in
    /// the result, with a number also EEXIST, EINVAL and EPERM (PID-14).
    pub fn fork_on_behalf(
        &mut self,
        parent: Pid,
        number: Option<Pid>,
        fx: &mut Effects,
    ) -> Result<syscall::Result, Refused> {
        let task = self.living_task(parent)?;
        fx.begin(parent, Some("fork"));
        let flags = Signal::CHLD.number().into();
        let request = Request { flags, clone3: None, child_tid: 0, set_tid: number };
        // fork does not sleep, as vfork does, and only a running caller delivers signals first
        let result = self.fork(task, &request, &Syscall::Fork, fx);
        Ok(result.unwrap_or(Err(Errno::ENOSYS)))
    }

    /// Executes another program in a process, as if its first living thread had called execve(2).
    /// The state of that thread does not matter.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no such living process; the errno of execve(2) is in
    /// the result.
    pub fn exec_on_behalf(
        &mut self,
        pid: Pid,
        fx: &mut Effects,
    ) -> Result<syscall::Result, Refused> {
        let task = self.living_task(pid)?;
        fx.begin(pid, Some("execve"));
        // other threads of the process end first, when they run next
        Ok(self.execve(task, None, fx).unwrap_or(Ok(syscall::Ret::Value(0))))
    }

    /// The result of a wait of `parent` at this moment, as if one more thread of `parent` made the
    /// call with WNOHANG. The state of its threads does not matter. A call other than wait4 and
    /// waitid gives ENOSYS.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no living process `parent`; the errno of wait(2) is in
    /// the result.
    pub fn poll_wait(
        &mut self,
        parent: Pid,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Result<syscall::Result, Refused> {
        self.poll_wait_for(parent, call, None, fx)
    }

    /// As [`Kernel::poll_wait`], with the children that a wait selected when it began, in place of
    /// the number in the call (WAIT-17).
    pub(crate) fn poll_wait_for(
        &mut self,
        parent: Pid,
        call: &Syscall,
        selector: Option<WaitSelector>,
        fx: &mut Effects,
    ) -> Result<syscall::Result, Refused> {
        let task = self.living_task(parent)?;
        if !matches!(call, Syscall::Wait4 { .. } | Syscall::Waitid { .. }) {
            return Ok(Err(Errno::ENOSYS));
        }
        fx.begin(parent, Some(call.name()));
        Ok(self.poll(task, call, selector, fx))
    }

    /// Starts or ends the recording of events of children of `parent` in
    /// [`Effects::external_wakes`].
    /// `false` if there is no such process.
    pub fn watch(&mut self, parent: Pid, watched: bool) -> bool {
        let Some(id) = self.process_numbered(parent) else { return false };
        self.processes[id].flags.watched = watched;
        true
    }

    /// Generates a signal from an ancestor namespace (KILL-22, KILL-29): its sender is not visible,
    /// and SIGKILL and SIGSTOP reach an init.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if no process has that number; a zombie is one.
    pub fn signal(&mut self, pid: Pid, signal: Signal, fx: &mut Effects) -> Result<(), Refused> {
        let task = self.task_numbered(pid).ok_or(Refused::NoSuchTask(pid))?;
        fx.begin(Pid(0), None);
        fx.obey(rule!("KILL-22"));
        let origin = Origin { force: true, kernel: true, ..Origin::user(rule!("KILL-29")) };
        let info = SigInfo { signal, code: SiCode::USER, pid: Pid(0), uid: Uid::ROOT, value: 0 };
        self.generate_kernel(task, info, origin, fx);
        Ok(())
    }

    /// Gives the host the authority over the process. The model forwards signals for the process
    /// ([`Consequence::Forwarded`]) regardless of its mask and dispositions, and the process stops,
    /// continues and ends when [`Kernel::apply_report`] says so.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no living process of that number.
    pub fn set_host_authority(&mut self, pid: Pid) -> Result<(), Refused> {
        let id = self.living(pid)?;
        self.processes[id].flags.host_authority = true;
        Ok(())
    }

    /// Has the runtime perform the default actions of the process's signals, except those of
    /// SIGKILL and SIGSTOP. The model generates, blocks, queues and delivers signals as for any
    /// process; a signal with SIG_DFL is kept and goes to the runtime at its delivery
    /// ([`Consequence::Delivered`]), also if its default action ignores it, and the process stops
    /// and ends when [`Kernel::apply_report`] says so. SIGCONT continues the process at its
    /// generation (JOB-03). A call that such a signal interrupts is restarted, as no handler runs
    /// (SIG-44).
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no living process of that number.
    pub fn set_runtime_authority(&mut self, pid: Pid) -> Result<(), Refused> {
        let id = self.living(pid)?;
        self.processes[id].flags.runtime_authority = true;
        Ok(())
    }

    /// Applies the report that the process ended, stopped or continued. A report that changes
    /// nothing (a stop of a stopped process, a continue of a running process) and a status of
    /// another kind have no effect.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no living process of that number.
    pub fn apply_report(
        &mut self,
        pid: Pid,
        status: WaitStatus,
        fx: &mut Effects,
    ) -> Result<(), Refused> {
        let id = self.living(pid)?;
        fx.begin(pid, None);
        let stopped = self.processes[id].is_stopped();
        if status.continued() {
            if stopped {
                self.continue_by_report(id, fx);
            }
        } else if let Some(signal) = status.stop_signal() {
            if !stopped {
                self.stop_by_report(id, signal, fx);
            }
        } else if status.exit_code().is_some() || status.term_signal().is_some() {
            self.end_by_report(id, status, fx);
        }
        Ok(())
    }

    /// All threads end, one after the other; the leader ends last.
    fn end_by_report(&mut self, id: Id<Process>, status: WaitStatus, fx: &mut Effects) {
        self.set_life(id, Life::Dying(status));
        if self.processes[id].is_single() {
            return self.end_task_by_report(self.leader(id), status, fx);
        }
        for task in self.living_tasks(id).into_iter().rev() {
            self.end_task_by_report(task, status, fx);
        }
    }

    fn end_task_by_report(&mut self, task: Id<Task>, status: WaitStatus, fx: &mut Effects) {
        self.running = Some(task);
        self.exit(task, status, fx);
        self.running = None;
        if self.tasks.get(task).is_some() {
            // a parent in vfork runs first
            self.back_to_user(task, fx);
        }
    }

    fn stop_by_report(&mut self, id: Id<Process>, signal: Signal, fx: &mut Effects) {
        for task in self.living_tasks(id) {
            self.tasks[task].state = TaskState::Stopped;
        }
        self.complete_stop(id, signal, fx);
    }

    fn continue_by_report(&mut self, id: Id<Process>, fx: &mut Effects) {
        self.set_life(
            id,
            Life::Alive(JobControl::Continued {
                unreported: true,
                unsent: Some(ParentNotification::Continued),
            }),
        );
        self.notify_continued(id, fx);
        // signals that came during the stop act now, and the sleeps of the tasks may be over
        for task in self.living_tasks(id) {
            self.tasks[task].state = TaskState::Running;
            if self.has_deliverable(task) {
                self.signal_wake_up(task);
            }
            self.enqueue_task(task);
        }
    }

    /// Records an event of a child for the waits from outside.
    pub(in crate::kernel) fn wake_external_waits(
        &mut self,
        parent: Id<Process>,
        child: Id<Process>,
        fx: &mut Effects,
    ) {
        let (parent, child) = (&self.processes[parent], &self.processes[child]);
        if parent.flags.watched {
            fx.wake(ExternalWake {
                parent: self.pids[parent.pid].pid(),
                child: self.pids[child.pid].pid(),
                child_id: self.pids.identity(child.pid),
                group_id: self.pids.identity(self.groups[child.group].pid),
            });
        }
    }

    /// The living process of that number.
    fn living(&self, pid: Pid) -> Result<Id<Process>, Refused> {
        let id = self.process_numbered(pid).ok_or(Refused::NoSuchTask(pid))?;
        match self.processes[id].life {
            Life::Alive(_) => Ok(id),
            Life::Dying(_) | Life::Zombie(_) => Err(Refused::NoSuchTask(pid)),
        }
    }

    /// The threads of a process that have not begun to end.
    fn living_tasks(&self, id: Id<Process>) -> Vec<Id<Task>> {
        self.tasks_of(id).filter(|task| self.tasks[*task].is_alive()).collect()
    }

    /// The first thread of that process that has not begun to end.
    #[inline]
    fn living_task(&self, pid: Pid) -> Result<Id<Task>, Refused> {
        let id = self.living(pid)?;
        let leader = self.leader(id);
        if self.tasks[leader].is_alive() {
            return Ok(leader);
        }
        self.first_living_task(id).ok_or(Refused::NoSuchTask(pid))
    }
}
