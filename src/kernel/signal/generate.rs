//! Generation: the part of a signal that happens at once, in the call of the sender.

use alloc::vec::Vec;

use crate::abi::{DefaultAction, Errno, SiCode, SigInfo, SigSet, Signal, WaitStatus};
use crate::kernel::api::effect::Subject;
use crate::kernel::api::effect::{Consequence, Effects};
use crate::kernel::state::arena::Id;
use crate::kernel::state::limit::charge_queued;
use crate::kernel::state::pending::{Pending, Queued};
use crate::kernel::state::process::{JobControl, Life, ParentNotification, Process};
use crate::kernel::state::sighand::Disposition;
use crate::kernel::state::task::{Sleep, Task, TaskState};
use crate::kernel::{Fault, Kernel, Property, Rule};
use crate::rule;

/// The origin and the scope of a signal, as far as they change its treatment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The rule that requires the signal.
    pub rule: Rule,
    /// For one thread, and not for its process (SIG-22).
    pub private: bool,
    /// SIGKILL and SIGSTOP reach an init as well: from the kernel or an ancestor (KILL-22).
    pub force: bool,
    /// The kernel sends the signal itself, so its record is not limited (LIM-11).
    pub kernel: bool,
}

impl Origin {
    /// A signal of a user to a process.
    pub fn user(rule: Rule) -> Origin {
        Origin { rule, private: false, force: false, kernel: false }
    }

    /// A signal of the kernel to a process.
    pub fn kernel(rule: Rule) -> Origin {
        Origin { rule, private: false, force: true, kernel: true }
    }
}

impl Kernel {
    /// Generates a signal for the process of `target`, or for that thread alone.
    ///
    /// EAGAIN for a queued real-time signal if the user of the target has too many records
    /// (LIM-08).
    #[inline(always)]
    pub(in crate::kernel) fn generate(
        &mut self,
        target: Id<Task>,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let process = &self.processes[self.tasks[target].process];
        if !takes_signals(process, fx) {
            return self.keep_for_ended(target, info, origin, fx);
        }
        if process.flags.host_authority {
            forward(self.subject(self.tasks[target].process), info, origin.rule, fx);
            return Ok(());
        }
        if origin.private && self.tasks[target].is_dead() {
            // TG-83: a leader that has ended takes nothing, whatever is pending for it
            fx.obey(rule!("TG-83"));
            fx.obey(rule!("THR-11"));
            if self.config.version.has(Property::EndedFreeRecords) {
                return Ok(());
            }
        }
        self.generate_here(target, info, origin, fx)
    }

    /// The effect of a signal at its delivery. Where the runtime performs the default action, the
    /// signal is kept for it, as for a handler.
    #[inline]
    pub(in crate::kernel) fn disposition_in(
        &self,
        process: &Process,
        signal: Signal,
    ) -> Disposition {
        let disposition = self.sighands[process.sighand].disposition_of(signal);
        if process.leaves_default_to_runtime(signal) && disposition.is_default() {
            return Disposition::Caught;
        }
        disposition
    }

    /// The signals that are pending for a task alone, or for its process (SIG-22).
    fn pending(&self, task: Id<Task>, private: bool) -> &Pending {
        let task = &self.tasks[task];
        if private { &task.pending } else { &self.processes[task.process].shared }
    }

    /// The signals that are pending for a task alone, or for its process.
    pub(in crate::kernel) fn pending_mut(&mut self, task: Id<Task>, private: bool) -> &mut Pending {
        let task = &mut self.tasks[task];
        if private { &mut task.pending } else { &mut self.processes[task.process].shared }
    }

    /// A signal to a process that is ending, or has ended, has no effect. Older kernels keep it,
    /// and charge its record, until the process is reaped.
    #[cold]
    fn keep_for_ended(
        &mut self,
        target: Id<Task>,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if self.config.version.has(Property::EndedDropSignals) {
            return Ok(());
        }
        let task = &self.tasks[target];
        let process = &self.processes[task.process];
        let disposition = self.disposition_in(process, info.signal);
        let pending = self.pending(target, origin.private);
        if drops(process, task, info.signal, disposition, origin.force, fx)
            || !info.signal.is_realtime() && pending.contains(info.signal)
        {
            return Ok(());
        }
        self.enqueue_signal(target, info, origin, fx).map(drop)
    }

    /// As [`Kernel::generate`], for a living process under the authority of the model.
    fn generate_here(
        &mut self,
        target: Id<Task>,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let signal = info.signal;
        if signal.is_stop() || signal == Signal::CONT {
            self.change_job(self.process_of(target), signal, fx);
        }
        let task = &self.tasks[target];
        let process = &self.processes[task.process];
        let disposition = self.disposition_in(process, signal);
        // TG-64: the mask of the target task counts
        if !process.is_single() {
            fx.obey_all(&[rule!("SIG-21"), rule!("TG-27"), rule!("TG-64")]);
        }
        if drops(process, task, signal, disposition, origin.force, fx) {
            fx.push(self.subject(task.process), Consequence::Discarded(signal), rule!("SIG-19"));
            return Ok(());
        }
        if !signal.is_realtime() && self.pending(target, origin.private).contains(signal) {
            // SIG-23: the first instance stays
            fx.obey(rule!("SIG-23"));
            if signal == Signal::CHLD {
                fx.obey(rule!("CHLD-06"));
            }
            return Ok(());
        }
        let subject = self.subject_of(if origin.private { task.pid } else { process.pid });
        let kept = self.enqueue_signal(target, info, origin, fx)?;
        let task = &self.tasks[target];
        note_queued(&self.processes[task.process], task, signal, origin, fx);
        // moved field by field, which avoids a copy of the whole
        let SigInfo { code, pid, uid, value, .. } =
            if kept { *info } else { SigInfo::lost(signal) };
        fx.push_with(subject, origin.rule, || {
            Consequence::Generated(SigInfo { signal, code, pid, uid, value })
        });
        self.complete(target, signal, disposition, origin.private, fx);
        Ok(())
    }

    /// Performs the effects of a stop signal or of SIGCONT that do not depend on whether the signal
    /// is discarded: on all threads (TG-131), whichever is the target task (TG-130).
    fn change_job(&mut self, id: Id<Process>, signal: Signal, fx: &mut Effects) {
        if signal.is_stop() {
            // JOB-01
            self.flush(id, Signal::CONT.set(), rule!("JOB-01"), fx);
        } else {
            // JOB-02: also if SIGCONT itself is discarded, and also for a stop that is blocked
            // (JOB-05) or has not acted yet (JOB-14, TG-138)
            if !self.has_fault(Fault::ContKeepsStops) {
                self.flush(id, SigSet::STOPS, rule!("JOB-02"), fx);
            }
            self.resume(id, fx);
        }
    }

    /// SIGCONT continues a stopped process with all its threads (TG-129), also if SIGCONT is
    /// blocked or ignored (JOB-03).
    fn resume(&mut self, id: Id<Process>, fx: &mut Effects) {
        let process = &mut self.processes[id];
        let stopped = process.is_stopped();
        let incomplete = process.threads.as_mut().is_some_and(|group| {
            group.stop_signal = None;
            core::mem::take(&mut group.stopping) > 0
        });
        if !stopped && !incomplete {
            fx.obey(rule!("WAIT-28"));
            return;
        }
        let mut unsent = Some(ParentNotification::Continued);
        if let Life::Alive(JobControl::Stopped { unreported: true, .. }) = process.life {
            fx.obey(rule!("WAIT-26"));
        }
        if !stopped {
            // JOB-13
            fx.obey(rule!("JOB-13"));
            fx.obey(rule!("TG-127"));
            unsent = Some(ParentNotification::Stopped);
        }
        fx.obey(rule!("JOB-03"));
        fx.obey(rule!("WAIT-25"));
        // WAIT-38: the wait event exists at once; the parent is notified when the process runs
        self.set_life(id, Life::Alive(JobControl::Continued { unreported: true, unsent }));
        self.wake_stopped(id);
    }

    /// Ends the stop of the tasks of a process.
    pub(in crate::kernel) fn wake_stopped(&mut self, id: Id<Process>) {
        let one = self.has_fault(Fault::ContResumesOne).then_some(self.leader(id));
        let mut next = Some(self.leader(id));
        while let Some(task) = next {
            next = self.next_thread(task);
            let thread = &mut self.tasks[task];
            thread.stop_pending = false;
            if thread.is_stopped() && (one.is_none() || one == Some(task)) {
                thread.state = TaskState::Running;
                self.enqueue_task(task);
            }
        }
    }

    /// Finds the thread that takes the signal, and wakes it. A fatal signal starts the end of the
    /// process (SIG-29, TG-78, TG-80), but not if all threads block it (TG-71, TG-72), and not if
    /// it dumps core (TG-75, TG-76).
    fn complete(
        &mut self,
        target: Id<Task>,
        signal: Signal,
        disposition: Disposition,
        private: bool,
        fx: &mut Effects,
    ) {
        let Some(taker) = self.find_taker(target, signal, private, fx) else { return };
        let thread = &self.tasks[taker];
        if private && signal == Signal::KILL {
            fx.obey(rule!("THR-04"));
        }
        // KILL-24: the thread of an init discards the signal at delivery
        let spared = self.processes[thread.process].flags.unkillable
            && !signal.is_kernel_only()
            && self.config.version.has(Property::InitIsSpared);
        if disposition == Disposition::Default(DefaultAction::Terminate) && !spared {
            // TG-79
            if thread.real_blocks(signal) {
                fx.obey(rule!("SIG-55"));
            } else {
                fx.obey(rule!("SIG-01"));
                fx.obey(rule!("SIG-29"));
                let id = thread.process;
                self.begin_group_exit(id, WaitStatus::killed(signal, false), fx);
                return;
            }
        }
        if matches!(thread.sleep, Sleep::Vfork(..)) {
            fx.obey(rule!("FORK-29"));
            fx.obey(rule!("JOB-17"));
        }
        if self.has_fault(Fault::HandlerInterruptsAll)
            && disposition == Disposition::Caught
            && !private
        {
            self.interrupt_others(taker, fx);
        }
        self.signal_wake_up(taker);
    }

    /// A wrong rule: the other threads of a process leave their calls with EINTR.
    fn interrupt_others(&mut self, taker: Id<Task>, fx: &mut Effects) {
        let others: Vec<Id<Task>> = self.tasks_from(taker).skip(1).collect();
        for other in others {
            if matches!(self.tasks[other].sleep, Sleep::Pause | Sleep::Wait(_)) {
                self.tasks[other].sleep = Sleep::None;
                self.return_later(other, Err(Errno::EINTR), rule!("TG-59"), fx);
                self.enqueue_task(other);
            }
        }
    }

    /// The task that takes a signal. The target task has the first right, and the next search does
    /// not begin at it (TG-29). Otherwise a shared signal goes to the first task that can take it,
    /// in a search that begins at the task that the last search found (SIG-26, TG-28, TG-36,
    /// TG-58). A task that waits for the signal in rt_sigtimedwait has no precedence (TG-47,
    /// TG-50).
    fn find_taker(
        &mut self,
        target: Id<Task>,
        signal: Signal,
        private: bool,
        fx: &mut Effects,
    ) -> Option<Id<Task>> {
        let id = self.process_of(target);
        let leader_only = self.has_fault(Fault::SharedGoesToLeader) && !private;
        let target = if leader_only { self.leader(id) } else { target };
        if self.wants(target, signal) {
            return Some(target);
        }
        if private || leader_only {
            return None;
        }
        let group = self.processes[id].threads.as_ref().filter(|group| group.tasks > 1)?;
        let start = if self.has_fault(Fault::SharedSignalsRotate) {
            self.task_after(group.current_target)
        } else {
            group.current_target
        };
        fx.obey_all(&[rule!("SIG-26"), rule!("TG-28"), rule!("TG-30"), rule!("TG-35")]);
        let found = self.tasks_from(start).find(|task| self.wants(*task, signal))?;
        fx.obey_all(&[rule!("SIG-27"), rule!("TG-34")]);
        if self.tasks[target].is_dead() {
            fx.obey_all(&[rule!("THR-10"), rule!("TG-82")]);
        }
        if let Some(group) = &mut self.processes[id].threads {
            group.current_target = found;
        }
        Some(found)
    }

    /// Whether the thread can take the signal now (SIG-26, TG-35), also if it sleeps in vfork and
    /// so does not run (TG-39).
    fn wants(&self, id: Id<Task>, signal: Signal) -> bool {
        let thread = &self.tasks[id];
        if thread.mask.contains(signal) || !thread.is_alive() {
            return false;
        }
        if signal == Signal::KILL {
            return true;
        }
        if thread.is_stopped() {
            return self.has_fault(Fault::TermActsOnStopped);
        }
        self.running == Some(id) || !thread.signal_pending
    }

    /// Offers the shared signals that `task` does not take any more to the other threads
    /// (retarget_shared_pending, TG-45). Of several threads in rt_sigtimedwait one takes the
    /// signal, one is woken in vain, and the others sleep on (TG-48, TG-49).
    pub(in crate::kernel) fn offer_shared(
        &mut self,
        task: Id<Task>,
        blocked: SigSet,
        fx: &mut Effects,
    ) {
        let mut left = self.processes[self.process_of(task)].shared.set() & blocked;
        if left.is_empty() || self.has_fault(Fault::BlockedSharedIsNotOffered) {
            return;
        }
        fx.obey(rule!("TG-45"));
        let others: Vec<Id<Task>> = self.tasks_from(task).skip(1).collect();
        for other in others {
            let thread = &self.tasks[other];
            if !thread.is_alive() || (left - thread.mask).is_empty() {
                continue;
            }
            left = left & thread.mask;
            if !thread.signal_pending {
                self.signal_wake_up(other);
            }
            if left.is_empty() {
                break;
            }
        }
    }

    /// The process has to end with `status`: wakes each thread, also from a stop or a vfork
    /// (TG-128).
    pub(in crate::kernel) fn begin_group_exit(
        &mut self,
        id: Id<Process>,
        status: WaitStatus,
        fx: &mut Effects,
    ) {
        if self.processes[id].is_stopped() {
            fx.obey(rule!("JOB-07"));
            fx.obey(rule!("EXIT-12"));
            fx.obey(rule!("WAIT-22"));
            fx.obey(rule!("CHLD-08"));
        }
        if !self.processes[id].is_single() {
            fx.obey_all(&[rule!("THR-03"), rule!("TG-70"), rule!("TG-74")]);
        }
        self.set_life(id, Life::Dying(status));
        self.kill_threads(id, None);
    }

    /// Sets the signal-pending flag of the thread, and wakes the thread unless only its end can
    /// wake it (FORK-29).
    #[inline(always)]
    pub(in crate::kernel) fn signal_wake_up(&mut self, task: Id<Task>) {
        let running = self.running == Some(task);
        let thread = &mut self.tasks[task];
        thread.signal_pending = true;
        if matches!(thread.sleep, Sleep::Vfork(..) | Sleep::Exec | Sleep::Zap { .. }) {
            return;
        }
        // a running task looks at everything new before it continues: see `back_to_user`
        if !running && !core::mem::replace(&mut thread.queued, true) {
            self.queue.push_back(task);
        }
    }

    /// Discards `signals` from all pending sets of a process.
    pub(in crate::kernel) fn flush(
        &mut self,
        id: Id<Process>,
        signals: SigSet,
        rule: Rule,
        fx: &mut Effects,
    ) {
        let private = self.tasks_of(id).map(|task| self.tasks[task].pending.set());
        let pending = private.fold(self.processes[id].shared.set(), |set, own| set | own) & signals;
        if pending.is_empty() {
            return;
        }
        let mut charged = Vec::new();
        let mut dropped = |queued: Queued| charged.push(queued.charged);
        self.processes[id].shared.flush(signals, &mut dropped);
        let mut next = Some(self.leader(id));
        while let Some(task) = next {
            self.tasks[task].pending.flush(signals, &mut dropped);
            next = self.next_thread(task);
        }
        for signal in pending.iter() {
            fx.push(self.subject(id), Consequence::Discarded(signal), rule);
        }
        self.discharge_all_queued(charged);
    }

    /// Adds the signal to the pending set, with its record if it has one; `false` if the record is
    /// lost to the limit.
    fn enqueue_signal(
        &mut self,
        target: Id<Task>,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<bool, Errno> {
        let signal = info.signal;
        if signal == Signal::KILL {
            fx.obey(rule!("SIG-25"));
            self.pending_mut(target, origin.private).add_bare(signal);
            return Ok(true);
        }
        // LIM-11: standard signals of kill() and of the kernel always get their record
        let ignore_limit = !signal.is_realtime() && (origin.kernel || info.code.0 >= 0);
        if ignore_limit {
            fx.obey(rule!("LIM-11"));
        }
        let task = &self.tasks[target];
        let limits = self.processes[task.process].limits();
        let charged = charge_queued(&mut self.users, task.cred.real, limits, ignore_limit);
        let Some(charged) = charged else {
            fx.obey(rule!("SIG-30"));
            fx.obey(rule!("LIM-07"));
            if signal.is_realtime() && !origin.kernel && info.code != SiCode::USER {
                fx.obey(rule!("LIM-08"));
                return Err(Errno::EAGAIN);
            }
            fx.obey(if signal.is_realtime() { rule!("LIM-10") } else { rule!("LIM-09") });
            self.pending_mut(target, origin.private).add_bare(signal);
            return Ok(false);
        };
        self.pending_mut(target, origin.private).add(info, charged);
        Ok(true)
    }

    /// Generates a signal of the kernel itself. Its record is never limited, so this cannot fail.
    pub(in crate::kernel) fn generate_kernel(
        &mut self,
        target: Id<Task>,
        info: SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) {
        let sent = self.generate(target, &info, origin, fx);
        debug_assert!(sent.is_ok(), "LIM-11: only queued real-time signals are refused");
    }

    /// The siginfo of a signal that the calling thread sends by kill(2) (KILL-27).
    pub(in crate::kernel) fn sender_info(&self, caller: Id<Task>, signal: Signal) -> SigInfo {
        let pid = self.pid_of(self.process_of(caller));
        // CRED-04: the real user
        SigInfo::user(signal, pid, self.cred(caller).real)
    }
}

/// Whether a signal has any effect on the process (TG-85). JOB-18: stop signals are no exception.
fn takes_signals(process: &Process, fx: &mut Effects) -> bool {
    match process.life {
        Life::Alive(_) => return true,
        Life::Zombie(_) => fx.obey(rule!("ZOM-09")),
        // the signal does not change the status either
        Life::Dying(_) => fx.obey(rule!("EXIT-08")),
    }
    fx.obey(rule!("EXIT-13"));
    false
}

/// Forwards a signal for a living process to the host, which has the authority over it.
fn forward(process: Subject, info: &SigInfo, rule: Rule, fx: &mut Effects) {
    // moved field by field, which avoids a copy of the whole
    let SigInfo { signal, code, pid, uid, value } = *info;
    fx.push_with(process, rule, || {
        Consequence::Forwarded(SigInfo { signal, code, pid, uid, value })
    });
}

/// Whether the signal is discarded at generation: it is not blocked, and would have no effect
/// (SIG-19). A blocked signal is kept even if it is ignored (SIG-20).
fn drops(
    process: &Process,
    thread: &Task,
    signal: Signal,
    disposition: Disposition,
    force: bool,
    fx: &mut Effects,
) -> bool {
    let protected = process.flags.unkillable && disposition.is_default();
    if thread.blocks(signal) {
        if protected {
            fx.obey(rule!("KILL-24"));
        }
        if disposition.is_ignored() {
            fx.obey(rule!("SIG-20"));
            if thread.real_blocks(signal) {
                fx.obey(rule!("SIG-52"));
            }
        }
        return false;
    }
    if protected && !(force && signal.is_kernel_only()) {
        fx.obey(if signal.is_kernel_only() { rule!("KILL-23") } else { rule!("KILL-21") });
        return true;
    }
    if disposition == Disposition::Default(DefaultAction::Ignore) {
        fx.obey(rule!("SIG-04"));
    }
    disposition.is_ignored()
}

/// Notes the rules of a signal that became pending.
fn note_queued(process: &Process, thread: &Task, signal: Signal, origin: Origin, fx: &mut Effects) {
    if !fx.notes_rules() {
        return;
    }
    if origin.private {
        fx.obey(rule!("KILL-30"));
    } else {
        fx.obey(rule!("SIG-22"));
    }
    // SIG-05: from 32 on
    if signal.is_realtime() {
        fx.obey(rule!("SIG-24"));
    }
    if process.is_stopped() && signal != Signal::KILL {
        fx.obey(rule!("JOB-06"));
        if signal.is_stop() {
            fx.obey(rule!("JOB-10"));
            fx.obey(rule!("WAIT-27"));
        }
    }
    if signal == Signal::CONT && thread.blocks(signal) {
        fx.obey(rule!("JOB-04"));
    }
}
