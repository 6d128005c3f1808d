//! Delivery: the actions of a thread on its pending signals when it runs.

use super::generate::Origin;
use crate::abi::{
    DefaultAction, Errno, Handler, SaFlags, SiCode, SigAction, SigInfo, Signal, WaitStatus,
};
use crate::kernel::api::effect::{Consequence, Effects, Restart};
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{JobControl, Life, ParentNotification, Process};
use crate::kernel::state::task::{Frame, Resume, Sleep, Task, TaskState};
use crate::kernel::{Fault, Kernel};
use crate::rule;
use crate::syscall::{Ret, Syscall};

/// The state of a thread after it has looked at its signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Delivered {
    /// No signal is left to deliver: the thread continues.
    Done,
    /// The thread does not continue now: it stopped, ended, or lets other tasks run.
    Parked,
}

impl Kernel {
    /// Whether the thread has a pending signal that it does not block.
    pub(in crate::kernel) fn has_deliverable(&self, task: Id<Task>) -> bool {
        let thread = &self.tasks[task];
        let pending = thread.pending.set() | self.processes[thread.process].shared.set();
        !(pending - thread.mask).is_empty()
    }

    /// The thread is about to return to user mode: it notifies the parent if the process continued,
    /// and delivers its signals until none is left, it stops, or it ends.
    pub(in crate::kernel) fn deliver(&mut self, task: Id<Task>, fx: &mut Effects) {
        loop {
            if self.deliver_all(task, fx) == Delivered::Parked {
                return;
            }
            self.tasks[task].signal_pending = false;
            self.tasks[task].delivering = false;
            if !self.restore_mask(task, fx) {
                break;
            }
        }
        self.restart_interrupted(task, fx);
    }

    /// No handler took the mask that rt_sigsuspend had replaced: restores it, and decides that the
    /// call is restarted. Signals that the old mask unblocks are delivered before the restart.
    /// Returns whether there are any.
    fn restore_mask(&mut self, task: Id<Task>, fx: &mut Effects) -> bool {
        let Some(mask) = self.tasks[task].saved_mask.take() else { return false };
        fx.obey(rule!("SIG-49"));
        self.set_mask(task, *mask, fx);
        let thread = &mut self.tasks[task];
        if let Sleep::Interrupted(_, call) = core::mem::take(&mut thread.sleep) {
            thread.sleep = Sleep::Restarting(call);
        }
        self.tasks[task].signal_pending
    }

    fn deliver_all(&mut self, task: Id<Task>, fx: &mut Effects) -> Delivered {
        let id = self.process_of(task);
        loop {
            if let Life::Alive(JobControl::Continued { unsent: Some(_), .. }) =
                self.processes[id].life
                && !self.must_end(task)
            {
                self.notify_continued(id, fx);
                if self.has_deliverable(task) {
                    // WAIT-40: the tasks that the notification woke may run before the next signal
                    // acts
                    self.tasks[task].signal_pending = true;
                    return Delivered::Parked;
                }
            }
            if self.must_end(task) {
                let status = match self.processes[id].life {
                    Life::Dying(status) => status,
                    // another task executes a program: the process lives on
                    Life::Alive(_) | Life::Zombie(_) => WaitStatus::exited(0),
                };
                self.exit(task, status, fx);
                return Delivered::Parked;
            }
            if core::mem::take(&mut self.tasks[task].stop_pending) {
                let signal = self.stop_signal(id);
                self.park(task, signal, fx);
                return Delivered::Parked;
            }
            if self.tasks[task].state != TaskState::Running {
                return Delivered::Parked;
            }
            // TG-40: the thread leaves signals alone for which another thread was woken
            let thread = &self.tasks[task];
            if !thread.signal_pending && !thread.delivering {
                return Delivered::Done;
            }
            let Some(info) = self.dequeue(task, fx) else { return Delivered::Done };
            if self.act(task, info, fx) == Delivered::Parked {
                return Delivered::Parked;
            }
        }
    }

    /// Takes the next signal that the thread does not block: private before shared (SIG-32, TG-73),
    /// of all that are pending for the process (TG-37, TG-69).
    fn dequeue(&mut self, task: Id<Task>, fx: &mut Effects) -> Option<SigInfo> {
        let taken = self.take_among(task, !self.tasks[task].mask, fx);
        self.recalc_sigpending(task);
        taken
    }

    /// Takes the next signal of a set.
    pub(in crate::kernel) fn take_among(
        &mut self,
        task: Id<Task>,
        among: crate::abi::SigSet,
        fx: &mut Effects,
    ) -> Option<SigInfo> {
        // TG-43
        let private = self.tasks[task].pending.next(among).is_some();
        let pending = self.pending_mut(task, private);
        let more = pending.set() & among;
        let signal = pending.next(among)?;
        let (info, queued) = pending.take(signal);
        if more != signal.set() {
            fx.obey(rule!("SIG-33"));
        }
        fx.obey(rule!("SIG-32"));
        if let Some(queued) = queued {
            self.discharge_queued(queued.charged);
        }
        if signal == Signal::ALRM && !private {
            self.rearm_itimer(self.tasks[task].process, fx);
        }
        Some(info)
    }

    /// Performs the action of a signal that was dequeued.
    fn act(&mut self, task: Id<Task>, info: SigInfo, fx: &mut Effects) -> Delivered {
        let id = self.process_of(task);
        let process = &self.processes[id];
        let signal = info.signal;
        let sighand = &self.sighands[process.sighand];
        let action = sighand.get(signal);
        match action.handler {
            Handler::Ignore => {
                fx.push(self.subject(id), Consequence::Discarded(signal), rule!("SIG-39"));
                Delivered::Done
            }
            Handler::Catch(_) => {
                self.enter_handler(task, info, action, fx);
                Delivered::Done
            }
            Handler::Default if process.leaves_default_to_runtime(signal) => {
                let subject = self.task_subject(task);
                fx.push(subject, Consequence::Delivered(info), rule!("SIG-32"));
                Delivered::Done
            }
            Handler::Default if signal.default_action() == DefaultAction::Ignore => {
                fx.obey(rule!("SIG-04"));
                fx.push(self.subject(id), Consequence::Discarded(signal), rule!("SIG-39"));
                Delivered::Done
            }
            // KILL-24: an init discards the signal; a SIGKILL or SIGSTOP that passed generation was
            // forced
            Handler::Default if process.flags.unkillable && !signal.is_kernel_only() => {
                fx.push(self.subject(id), Consequence::Discarded(signal), rule!("KILL-24"));
                Delivered::Done
            }
            Handler::Default if signal.is_stop() => self.stop(task, signal, fx),
            Handler::Default => {
                let core = signal.default_action() == DefaultAction::Core;
                fx.obey(if core { rule!("SIG-02") } else { rule!("SIG-01") });
                fx.obey(rule!("EXIT-03"));
                if core {
                    fx.obey(rule!("EXIT-05"));
                    fx.obey(rule!("LIM-16"));
                }
                if let Life::Alive(JobControl::Continued { unreported: true, .. }) = process.life {
                    fx.obey(rule!("WAIT-40"));
                }
                // TG-77
                let written = core && self.writes_core(id);
                self.set_life(id, Life::Dying(WaitStatus::killed(signal, written)));
                if written {
                    self.note_dumper(task);
                }
                // TG-70
                self.kill_threads(id, Some(task));
                if core {
                    self.end_memory_sharing_processes(id, signal, fx);
                }
                // WAIT-40: the continue event is gone, the end is not there yet, and the tasks that
                // were woken may scan the children now
                if self.queue.is_empty() { Delivered::Done } else { Delivered::Parked }
            }
        }
    }

    /// Stops the process, whichever thread dequeued the signal (TG-132, TG-134), unless its group
    /// is orphaned and the signal is not SIGSTOP. A stop signal with a handler stops no thread
    /// (TG-133).
    fn stop(&mut self, task: Id<Task>, signal: Signal, fx: &mut Effects) -> Delivered {
        let id = self.process_of(task);
        let process = &self.processes[id];
        let group = process.group;
        fx.obey(rule!("SIG-03"));
        if signal != Signal::STOP {
            fx.obey(rule!("JOB-11"));
            fx.obey(rule!("ORP-01"));
            fx.obey(rule!("ORP-18"));
            if self.is_orphaned(group, None) && !self.has_fault(Fault::OrphansStop) {
                // ORP-04: judged at delivery
                fx.push(self.subject(id), Consequence::Discarded(signal), rule!("ORP-04"));
                return Delivered::Done;
            }
        } else if self.is_orphaned_alone(id) {
            fx.obey(rule!("ORP-05"));
        }
        if let Life::Alive(JobControl::Continued { unreported: true, .. }) = process.life {
            fx.obey(rule!("WAIT-26"));
        }
        self.begin_stop(task, signal);
        self.park(task, signal, fx);
        Delivered::Parked
    }

    /// Begins a stop of all tasks of the process (do_signal_stop, TG-125), and wakes them for that.
    fn begin_stop(&mut self, task: Id<Task>, signal: Signal) {
        let id = self.process_of(task);
        let alone = self.has_fault(Fault::StopCountsLeaderAlone);
        let Some(group) = &mut self.processes[id].threads else { return };
        (group.stop_signal, group.stopping) = (Some(signal), 1);
        let mut next = Some(self.leader(id));
        while let Some(other) = next {
            let thread = &self.tasks[other];
            next = self.next_thread(other);
            if other == task || thread.state != TaskState::Running || self.must_end(other) {
                continue;
            }
            self.tasks[other].stop_pending = true;
            self.signal_wake_up(other);
            if let Some(group) = &mut self.processes[id].threads
                && !alone
            {
                group.stopping += 1;
            }
        }
    }

    /// The task stops.
    fn park(&mut self, task: Id<Task>, signal: Signal, fx: &mut Effects) {
        self.tasks[task].state = TaskState::Stopped;
        self.tasks[task].delivering = true;
        // the task has looked at the signals for which it was woken. A fatal signal that comes
        // after the task is continued ends it at once, before the signals that came during the stop
        // (SIG-29)
        self.tasks[task].signal_pending = self.has_deliverable(task);
        self.count_stopped(task, signal, fx);
    }

    /// The signal of the present stop of the process, or of the stop that has begun.
    pub(in crate::kernel) fn stop_signal(&self, id: Id<Process>) -> Signal {
        let process = &self.processes[id];
        let stopping = process.threads.as_ref().and_then(|group| group.stop_signal);
        match process.life {
            Life::Alive(JobControl::Stopped { signal, .. }) => signal,
            // the task takes part in a stop that has begun
            _ => stopping.unwrap_or(Signal::STOP),
        }
    }

    /// Counts a task that has stopped or ends. With the last task the process is stopped, and its
    /// parent is notified (TG-126).
    pub(in crate::kernel) fn count_stopped(
        &mut self,
        task: Id<Task>,
        signal: Signal,
        fx: &mut Effects,
    ) {
        let id = self.process_of(task);
        let process = &mut self.processes[id];
        let was_stopped = process.is_stopped();
        if let Some(group) = &mut process.threads {
            group.stopping = group.stopping.saturating_sub(1);
            if group.stopping > 0 || was_stopped {
                return;
            }
            group.stop_signal = None;
        }
        if self.tasks[task].is_stopped() && self.others_may_run() {
            // the parent may wait before it is notified
            fx.obey(rule!("RACE-04"));
            self.mark_stopped(id, signal, fx);
            self.tasks[task].notifying_stop = true;
            self.enqueue_first(task);
        } else {
            self.complete_stop(id, signal, fx);
        }
    }

    /// All tasks of the process have stopped: notifies the parent.
    pub(in crate::kernel) fn complete_stop(
        &mut self,
        id: Id<Process>,
        signal: Signal,
        fx: &mut Effects,
    ) {
        self.mark_stopped(id, signal, fx);
        self.notify_stopped(id, fx);
    }

    /// Continues a stop that was cut: notifies the parent. The task continues if SIGCONT came
    /// during the cut.
    pub(in crate::kernel) fn continue_notifying_stop(&mut self, task: Id<Task>, fx: &mut Effects) {
        self.notify_stopped(self.process_of(task), fx);
        if self.tasks[task].state == TaskState::Running {
            self.enqueue_first(task);
        }
    }

    /// Notifies the parent of a stop. The status in the siginfo is 0 if a wait or SIGCONT has
    /// consumed the stop since then (RACE-04).
    fn notify_stopped(&mut self, id: Id<Process>, fx: &mut Effects) {
        let status = match self.processes[id].life {
            Life::Alive(JobControl::Stopped { signal, unreported: true }) => {
                i32::from(signal.number())
            }
            Life::Dying(status) => status.term_signal().map_or(0, |signal| signal.number().into()),
            _ => 0,
        };
        self.notify_parent_cldstop(id, (SiCode::CLD_STOPPED, status), rule!("WAIT-39"), fx);
    }

    fn mark_stopped(&mut self, id: Id<Process>, signal: Signal, fx: &mut Effects) {
        self.set_life(id, Life::Alive(JobControl::Stopped { signal, unreported: true }));
        if !self.processes[id].is_single() {
            fx.obey_all(&[rule!("JOB-09"), rule!("TG-125"), rule!("TG-126")]);
            if self.tasks[self.leader(id)].is_dead() {
                fx.obey_all(&[rule!("WAIT-35"), rule!("TG-135")]);
            }
        }
        fx.obey(rule!("WAIT-24"));
        fx.obey(rule!("JOB-19"));
        fx.push(self.subject(id), Consequence::Stopped(signal), rule!("WAIT-29"));
    }

    /// The process runs again: notifies its parent (WAIT-38).
    pub(in crate::kernel) fn notify_continued(&mut self, id: Id<Process>, fx: &mut Effects) {
        let process = &self.processes[id];
        let Life::Alive(JobControl::Continued { unreported, unsent: Some(notification) }) =
            process.life
        else {
            return;
        };
        let job = if unreported {
            JobControl::Continued { unreported, unsent: None }
        } else {
            JobControl::Running
        };
        self.set_life(id, Life::Alive(job));
        match notification {
            ParentNotification::Continued => {
                fx.push(self.subject(id), Consequence::Continued, rule!("JOB-03"));
                let continued = WaitStatus::CONTINUED.code_and_status();
                self.notify_parent_cldstop(id, continued, rule!("WAIT-38"), fx);
            }
            ParentNotification::Stopped => {
                fx.obey(rule!("JOB-13"));
                self.notify_parent_cldstop(id, (SiCode::CLD_STOPPED, 0), rule!("TG-127"), fx);
            }
        }
    }

    /// Sends SIGCHLD for a stop or a continue (CHLD-02), and wakes the waiting tasks (CHLD-12): one
    /// of them gets the event, the others sleep on (TG-148, TG-149).
    pub(in crate::kernel) fn notify_parent_cldstop(
        &mut self,
        id: Id<Process>,
        (code, status): (SiCode, i32),
        rule: crate::kernel::Rule,
        fx: &mut Effects,
    ) {
        let process = &self.processes[id];
        let Some(parent_task) = process.parent else { return };
        let parent = self.process_of(parent_task);
        let uid = self.leader_cred(id).real;
        let (signal, pid) = (Signal::CHLD, self.pid_of(id));
        let info = SigInfo { signal, code, pid, uid, value: status as u64 };
        let sighand = &self.sighands[self.processes[parent].sighand];
        fx.obey(rule!("CHLD-05"));
        if sighand.ignored().contains(Signal::CHLD)
            || sighand.get(Signal::CHLD).flags.contains(SaFlags::NOCLDSTOP)
                && !self.has_fault(Fault::NocldstopIgnored)
        {
            fx.obey(rule!("CHLD-03"));
        } else {
            fx.obey(rule!("CHLD-02"));
            let origin = Origin { force: false, ..Origin::kernel(rule) };
            // TG-60: the target task is the thread that created the child
            self.generate_kernel(self.target_task_of(parent_task), info, origin, fx);
        }
        self.wake_waiters(parent_task, id, fx);
    }

    /// Enters the handler of a signal: sets its mask and its frame (TG-44), and decides how an
    /// interrupted call ends. The calls of other threads continue (TG-137, TG-153, TG-154).
    fn enter_handler(
        &mut self,
        task: Id<Task>,
        info: SigInfo,
        action: SigAction,
        fx: &mut Effects,
    ) {
        let signal = info.signal;
        let subject = self.task_subject(task);
        if action.flags.contains(SaFlags::RESETHAND) {
            // SIG-42: before the handler runs; flags and mask stay
            fx.obey(rule!("SIG-42"));
            if matches!(signal, Signal::ILL | Signal::TRAP) {
                fx.obey(rule!("SIG-43"));
            }
            let sighand = self.processes[self.tasks[task].process].sighand;
            self.sighands[sighand].reset_handler(signal);
        }
        if signal.is_stop() && self.is_orphaned_alone(self.process_of(task)) {
            fx.obey(rule!("ORP-06"));
        }
        let resume = match self.tasks[task].result.take() {
            Some(result) => Resume::Finish(result),
            None => self.decide_interrupted(task, action.flags, fx),
        };
        if let Resume::Fail(_) | Resume::Restart(_) = resume {
            fx.obey(rule!("SIG-44"));
        }
        let keep = self.has_fault(Fault::NodeferIgnored);
        let thread = &mut self.tasks[task];
        let mut below = thread.frames.iter().rev().take_while(|frame| !frame.begun).peekable();
        if below.peek().is_some() {
            fx.obey(rule!("SIG-36"));
            if signal == Signal::CONT && below.any(|frame| frame.info.signal == Signal::HUP) {
                fx.obey(rule!("SIG-40"));
            }
        }
        // SIG-49: the return of the handler restores the mask that rt_sigsuspend replaced
        let restored = thread.saved_mask.take().map_or(thread.mask, |mask| *mask);
        let handler = match action.handler {
            Handler::Catch(address) => address,
            Handler::Default | Handler::Ignore => 0,
        };
        thread.frames.push(Frame { info, handler, begun: false, mask: restored, resume });
        // SIG-38, SIG-41
        fx.obey(rule!("SIG-38"));
        let mut mask = thread.mask | action.mask;
        if !action.flags.contains(SaFlags::NODEFER) || keep {
            mask = mask.with(signal);
        }
        self.set_mask(task, mask, fx);
        fx.push(subject, Consequence::Caught(info), rule!("SIG-41"));
    }

    /// The first handler decides how an interrupted call ends (SIG-44).
    fn decide_interrupted(&mut self, task: Id<Task>, flags: SaFlags, fx: &mut Effects) -> Resume {
        match core::mem::take(&mut self.tasks[task].sleep) {
            Sleep::Interrupted(Restart::Sys, call) => {
                if flags.contains(SaFlags::RESTART) && !self.has_fault(Fault::NeverRestarts) {
                    fx.obey(rule!("WAIT-41"));
                    Resume::Restart(call)
                } else {
                    fx.obey_all(&[rule!("WAIT-41"), rule!("WAIT-43"), rule!("TG-59")]);
                    Resume::Fail(Errno::EINTR)
                }
            }
            Sleep::Interrupted(Restart::NoHandler | Restart::Block(_), call) => {
                let suspended = matches!(*call, Syscall::RtSigsuspend { .. });
                fx.obey(if suspended { rule!("SIG-49") } else { rule!("SIG-48") });
                fx.obey(rule!("TG-59"));
                Resume::Fail(Errno::EINTR)
            }
            Sleep::Restarting(call) => Resume::Restart(call),
            sleep => {
                self.tasks[task].sleep = sleep;
                Resume::Same
            }
        }
    }

    /// Restarts an interrupted call if no handler ran (SIG-45), also if another thread took the
    /// signal (TG-38).
    fn restart_interrupted(&mut self, task: Id<Task>, fx: &mut Effects) {
        let thread = &mut self.tasks[task];
        let call = match core::mem::take(&mut thread.sleep) {
            Sleep::Interrupted(Restart::Block(deadline), call) => {
                fx.obey(rule!("SIG-45"));
                if let Some(result) = self.poll_terminals(task, deadline, &call, fx) {
                    self.return_later(task, result, rule!("SIG-45"), fx);
                }
                return;
            }
            Sleep::Interrupted(_, call) | Sleep::Restarting(call) => call,
            sleep => {
                thread.sleep = sleep;
                return;
            }
        };
        fx.obey(rule!("SIG-45"));
        fx.obey(rule!("WAIT-44"));
        self.restart(task, *call, fx);
    }

    /// Restarts an interrupted call.
    pub(in crate::kernel) fn restart(&mut self, task: Id<Task>, call: Syscall, fx: &mut Effects) {
        if let Some(result) = self.perform_any(task, &call, fx)
            && result != Ok(Ret::Never)
        {
            self.return_later(task, result, rule!("SIG-45"), fx);
        }
    }

    /// rt_sigreturn: returns to the state at the entry of the handler. A thread that is in no
    /// handler is killed, because there is no frame to return through (SIG-47).
    pub(in crate::kernel) fn sigreturn(&mut self, task: Id<Task>, fx: &mut Effects) {
        let Some(frame) = self.tasks[task].frames.pop() else {
            self.force_fault(task, Signal::SEGV, fx);
            return;
        };
        fx.obey(rule!("SIG-41"));
        self.set_mask(task, frame.mask, fx);
        if self.has_deliverable(task) {
            // the mask of the handler blocked this signal until now
            fx.obey(rule!("SIG-37"));
        }
        match frame.resume {
            Resume::Same => {}
            Resume::Finish(result) => self.tasks[task].result = Some(result),
            Resume::Fail(errno) => self.return_later(task, Err(errno), rule!("SIG-44"), fx),
            Resume::Restart(call) => {
                // signals that the old mask unblocks are delivered before the call is restarted
                if self.has_deliverable(task) {
                    self.tasks[task].sleep = Sleep::Restarting(call);
                } else {
                    self.restart(task, *call, fx);
                }
            }
        }
    }

    /// Raises a fault: it cannot be blocked or ignored, it kills also an init (KILL-25), and it is
    /// private to the thread (TG-53).
    pub(in crate::kernel) fn force_fault(
        &mut self,
        task: Id<Task>,
        signal: Signal,
        fx: &mut Effects,
    ) {
        fx.obey(rule!("KILL-25"));
        let id = self.processes[self.tasks[task].process].sighand;
        let blocked = self.tasks[task].mask.contains(signal);
        if blocked || self.sighands[id].ignored().contains(signal) {
            // the flags and the mask of the action stay; processes with the same dispositions see
            // the change
            self.sighands[id].reset_handler(signal);
            let thread = &mut self.tasks[task];
            thread.mask = thread.mask.without(signal);
        }
        if self.sighands[id].is_default(signal) {
            self.processes[self.tasks[task].process].flags.unkillable = false;
        }
        let origin = Origin { private: true, ..Origin::kernel(rule!("SIG-34")) };
        let sent = self.generate(task, &SigInfo::kernel(signal), origin, fx);
        debug_assert!(sent.is_ok(), "LIM-11: the kernel's own signals are not refused");
        self.signal_wake_up(task);
    }
}
