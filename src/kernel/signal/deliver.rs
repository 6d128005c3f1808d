//! Delivery: what a thread does with its pending signals when it runs.

use super::generate::Origin;
use crate::abi::{DefaultAction, Errno, Handler, SaFlags, SigAction, SigInfo, Signal, WaitStatus};
use crate::kernel::arena::Id;
use crate::kernel::effect::{Consequence, Effects, Restart};
use crate::kernel::process::{Job, Life, Process};
use crate::kernel::thread::{Frame, Resume, Sleep, TaskId};
use crate::kernel::{Fault, Kernel};
use crate::rule;
use crate::syscall::Syscall;

/// What became of the thread while it looked at its signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Delivered {
    /// Nothing is left to deliver: it goes on.
    Done,
    /// It does not go on: it stopped or ended.
    Parked,
}

impl Kernel {
    /// Whether the thread has a pending signal that it does not block.
    pub(in crate::kernel) fn has_deliverable(&self, task: TaskId) -> bool {
        let thread = self.thread(task);
        let pending = thread.pending.set() | self.processes[task.process].shared.set();
        !(pending - thread.mask).is_empty()
    }

    /// The thread is about to run its own code: it announces that it continued, and delivers its
    /// signals until none is left, it stops, or it ends.
    pub(in crate::kernel) fn deliver(&mut self, task: TaskId, fx: &mut Effects) {
        loop {
            if self.deliver_all(task, fx) == Delivered::Parked {
                return;
            }
            self.thread_mut(task).notified = false;
            self.restore_mask(task);
            if !self.has_deliverable(task) {
                break;
            }
        }
        self.restart_interrupted(task, fx);
    }

    /// No handler took the mask that rt_sigsuspend had replaced. The call's fate is decided then:
    /// what the old mask lets through is delivered, and then the call is made again.
    fn restore_mask(&mut self, task: TaskId) {
        let thread = self.thread_mut(task);
        let Some(mask) = thread.saved_mask.take() else { return };
        thread.mask = *mask;
        if let Sleep::Interrupted(_, call) = core::mem::take(&mut thread.sleep) {
            thread.sleep = Sleep::Restarting(call);
        }
    }

    fn deliver_all(&mut self, task: TaskId, fx: &mut Effects) -> Delivered {
        loop {
            match self.processes[task.process].life {
                Life::Dying(status) => {
                    self.exit(task.process, status, fx);
                    return Delivered::Parked;
                }
                Life::Alive(Job::Continued { unannounced: true, .. }) => {
                    self.announce_continued(task.process, fx);
                    if self.has_deliverable(task) {
                        // WAIT-40: whom that woke may run before the next signal acts
                        self.thread_mut(task).notified = true;
                        return Delivered::Parked;
                    }
                }
                Life::Zombie(_) | Life::Alive(Job::Stopped { .. }) => return Delivered::Parked,
                Life::Alive(_) => {}
            }
            let Some(info) = self.dequeue(task, fx) else { return Delivered::Done };
            if self.act(task, info, fx) == Delivered::Parked {
                return Delivered::Parked;
            }
        }
    }

    /// Takes the next signal that the thread does not block: private before shared (SIG-32).
    fn dequeue(&mut self, task: TaskId, fx: &mut Effects) -> Option<SigInfo> {
        self.take_among(task, !self.thread(task).mask, fx)
    }

    /// Takes the next signal of a set.
    pub(in crate::kernel) fn take_among(
        &mut self,
        task: TaskId,
        among: crate::abi::SigSet,
        fx: &mut Effects,
    ) -> Option<SigInfo> {
        let process = &mut self.processes[task.process];
        let private = process.thread(task.nth).pending.next(among).is_some();
        let pending = process.pending_mut(task.nth, private);
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
            self.rearm_itimer(task.process, fx);
        }
        Some(info)
    }

    /// Does what the disposition says with a signal that was dequeued.
    fn act(&mut self, task: TaskId, info: SigInfo, fx: &mut Effects) -> Delivered {
        let process = &self.processes[task.process];
        let (pid, signal) = (process.pid, info.signal);
        let sighand = &self.sighands[process.sighand];
        let action = sighand.get(signal);
        match action.handler {
            Handler::Ignore => {
                fx.push(pid, Consequence::Discarded(signal), rule!("SIG-39"));
                Delivered::Done
            }
            Handler::Catch(_) => {
                self.enter_handler(task, info, action, fx);
                Delivered::Done
            }
            Handler::Default if signal.default_action() == DefaultAction::Ignore => {
                fx.obey(rule!("SIG-04"));
                fx.push(pid, Consequence::Discarded(signal), rule!("SIG-39"));
                Delivered::Done
            }
            // KILL-24: an init; only what was forced on it gets past generation
            Handler::Default if process.flags.unkillable && !signal.is_kernel_only() => {
                fx.push(pid, Consequence::Discarded(signal), rule!("KILL-24"));
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
                if let Life::Alive(Job::Continued { unreported: true, .. }) = process.life {
                    fx.obey(rule!("WAIT-40"));
                }
                let written = core && self.writes_core(task.process);
                self.set_life(task.process, Life::Dying(WaitStatus::killed(signal, written)));
                if core {
                    self.end_sharers(task.process, signal, fx);
                }
                // WAIT-40: what it had to report is gone, its end not there yet, and whom it woke
                // may look now
                if self.queue.is_empty() { Delivered::Done } else { Delivered::Parked }
            }
        }
    }

    /// Stops the process, unless its group is orphaned and the signal is one of the terminal's.
    fn stop(&mut self, task: TaskId, signal: Signal, fx: &mut Effects) -> Delivered {
        let id = task.process;
        let process = &self.processes[id];
        let (pid, group) = (process.pid, process.group);
        fx.obey(rule!("SIG-03"));
        if signal != Signal::STOP {
            fx.obey(rule!("JOB-11"));
            fx.obey(rule!("ORP-01"));
            fx.obey(rule!("ORP-18"));
            if self.is_orphaned(group, None) && !self.faulty(Fault::OrphansStop) {
                // ORP-04: judged at delivery
                fx.push(pid, Consequence::Discarded(signal), rule!("ORP-04"));
                return Delivered::Done;
            }
        } else if self.is_orphaned_alone(id) {
            fx.obey(rule!("ORP-05"));
        }
        if let Life::Alive(Job::Continued { unreported: true, .. }) = process.life {
            fx.obey(rule!("WAIT-26"));
        }
        self.set_life(id, Life::Alive(Job::Stopped { signal, unreported: true }));
        // what it was told to look at it has looked at: a deadly signal that comes when it is
        // continued ends it at once, before those that came while it was stopped (SIG-29)
        self.thread_mut(task).notified = self.has_deliverable(task);
        fx.obey(rule!("WAIT-24"));
        fx.obey(rule!("JOB-19"));
        fx.push(pid, Consequence::Stopped(signal), rule!("WAIT-29"));
        self.tell_parent_of_job(id, WaitStatus::stopped(signal), rule!("WAIT-39"), fx);
        Delivered::Parked
    }

    /// The process runs again: its parent is told now (WAIT-38).
    pub(in crate::kernel) fn announce_continued(&mut self, id: Id<Process>, fx: &mut Effects) {
        let process = &self.processes[id];
        let pid = process.pid;
        let Life::Alive(Job::Continued { unreported, .. }) = process.life else { return };
        let job = if unreported {
            Job::Continued { unreported, unannounced: false }
        } else {
            Job::Running
        };
        self.set_life(id, Life::Alive(job));
        fx.push(pid, Consequence::Continued, rule!("JOB-03"));
        self.tell_parent_of_job(id, WaitStatus::CONTINUED, rule!("WAIT-38"), fx);
    }

    /// SIGCHLD for a stop or a continue (CHLD-02), and the waiters are woken (CHLD-12).
    pub(in crate::kernel) fn tell_parent_of_job(
        &mut self,
        id: Id<Process>,
        status: WaitStatus,
        rule: crate::kernel::Rule,
        fx: &mut Effects,
    ) {
        let process = &self.processes[id];
        let Some(parent) = process.parent else { return };
        let info = SigInfo::child(Signal::CHLD, process.pid, process.leader.cred.real, status);
        let sighand = &self.sighands[self.processes[parent].sighand];
        fx.obey(rule!("CHLD-05"));
        if sighand.ignored().contains(Signal::CHLD)
            || sighand.get(Signal::CHLD).flags.contains(SaFlags::NOCLDSTOP)
                && !self.faulty(Fault::NocldstopIgnored)
        {
            fx.obey(rule!("CHLD-03"));
        } else {
            fx.obey(rule!("CHLD-02"));
            let origin = Origin { force: false, ..Origin::kernel(rule) };
            self.generate_kernel(parent, info, origin, fx);
        }
        self.wake_waiters(parent, id, fx);
    }

    /// Enters the handler of a signal: its mask, its frame, and the fate of an interrupted call.
    fn enter_handler(&mut self, task: TaskId, info: SigInfo, action: SigAction, fx: &mut Effects) {
        let signal = info.signal;
        let pid = self.processes[task.process].pid;
        if action.flags.contains(SaFlags::RESETHAND) {
            // SIG-42: before the handler runs; flags and mask stay
            fx.obey(rule!("SIG-42"));
            if matches!(signal, Signal::ILL | Signal::TRAP) {
                fx.obey(rule!("SIG-43"));
            }
            let sighand = self.processes[task.process].sighand;
            self.sighands[sighand].reset_handler(signal);
        }
        if signal.is_stop() && self.is_orphaned_alone(task.process) {
            fx.obey(rule!("ORP-06"));
        }
        let resume = match self.thread_mut(task).result.take() {
            Some(result) => Resume::Finish(result),
            None => self.decide_interrupted(task, action.flags, fx),
        };
        if let Resume::Fail(_) | Resume::Restart(_) = resume {
            fx.obey(rule!("SIG-44"));
        }
        let keep = self.faulty(Fault::NodeferIgnored);
        let thread = self.thread_mut(task);
        let mut below = thread.frames.iter().rev().take_while(|frame| !frame.begun).peekable();
        if below.peek().is_some() {
            fx.obey(rule!("SIG-36"));
            if signal == Signal::CONT && below.any(|frame| frame.info.signal == Signal::HUP) {
                fx.obey(rule!("SIG-40"));
            }
        }
        // SIG-49: what rt_sigsuspend replaced is what the handler's return restores
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
        thread.mask = mask - crate::abi::SigSet::KERNEL_ONLY;
        fx.push(pid, Consequence::Caught(info), rule!("SIG-41"));
    }

    /// The first handler decides how an interrupted call ends (SIG-44).
    fn decide_interrupted(&mut self, task: TaskId, flags: SaFlags, fx: &mut Effects) -> Resume {
        match core::mem::take(&mut self.thread_mut(task).sleep) {
            Sleep::Interrupted(Restart::Sys, call) => {
                if flags.contains(SaFlags::RESTART) && !self.faulty(Fault::NeverRestarts) {
                    fx.obey(rule!("WAIT-41"));
                    Resume::Restart(call)
                } else {
                    fx.obey(rule!("WAIT-41"));
                    fx.obey(rule!("WAIT-43"));
                    Resume::Fail(Errno::EINTR)
                }
            }
            Sleep::Interrupted(Restart::NoHandler, call) => {
                let suspended = matches!(*call, Syscall::RtSigsuspend { .. });
                fx.obey(if suspended { rule!("SIG-49") } else { rule!("SIG-48") });
                Resume::Fail(Errno::EINTR)
            }
            Sleep::Restarting(call) => Resume::Restart(call),
            sleep => {
                self.thread_mut(task).sleep = sleep;
                Resume::Same
            }
        }
    }

    /// No handler took the interrupted call: it is made again (SIG-45).
    fn restart_interrupted(&mut self, task: TaskId, fx: &mut Effects) {
        let thread = self.thread_mut(task);
        let call = match core::mem::take(&mut thread.sleep) {
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

    /// Makes an interrupted call again.
    pub(in crate::kernel) fn restart(&mut self, task: TaskId, call: Syscall, fx: &mut Effects) {
        if let Some(result) = self.perform(task, &call, fx) {
            self.return_later(task, result, rule!("SIG-45"), fx);
        }
    }

    /// rt_sigreturn: back to where the handler was entered. A thread that is in no handler is
    /// killed: there is no frame to return through (SIG-47).
    pub(in crate::kernel) fn sigreturn(&mut self, task: TaskId, fx: &mut Effects) {
        let Some(frame) = self.thread_mut(task).frames.pop() else {
            self.force_fault(task, Signal::SEGV, fx);
            return;
        };
        fx.obey(rule!("SIG-41"));
        self.set_mask(task, frame.mask);
        if self.has_deliverable(task) {
            // what the handler's mask held back comes only now
            fx.obey(rule!("SIG-37"));
        }
        match frame.resume {
            Resume::Same => {}
            Resume::Finish(result) => self.thread_mut(task).result = Some(result),
            Resume::Fail(errno) => self.return_later(task, Err(errno), rule!("SIG-44"), fx),
            Resume::Restart(call) => {
                // what the old mask lets through is delivered before the call is made again
                if self.has_deliverable(task) {
                    self.thread_mut(task).sleep = Sleep::Restarting(call);
                } else {
                    self.restart(task, *call, fx);
                }
            }
        }
    }

    /// A synchronous fault: it cannot be blocked or ignored, and it kills an init too (KILL-25).
    pub(in crate::kernel) fn force_fault(
        &mut self,
        task: TaskId,
        signal: Signal,
        fx: &mut Effects,
    ) {
        fx.obey(rule!("KILL-25"));
        let id = self.processes[task.process].sighand;
        let blocked = self.thread(task).mask.contains(signal);
        if blocked || self.sighands[id].ignored().contains(signal) {
            // the flags and the mask stay, which others with these dispositions see
            self.sighands[id].reset_handler(signal);
            let thread = self.thread_mut(task);
            thread.mask = thread.mask.without(signal);
        }
        if self.sighands[id].is_default(signal) {
            self.processes[task.process].flags.unkillable = false;
        }
        let origin = Origin { private: true, ..Origin::kernel(rule!("SIG-34")) };
        let sent = self.generate(task, &SigInfo::kernel(signal), origin, fx);
        debug_assert!(sent.is_ok(), "LIM-11: the kernel's own signals are not refused");
        self.notify(task);
    }
}
