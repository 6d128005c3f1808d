//! Generation: everything that happens at once, in the sender's call.

use alloc::vec::Vec;

use crate::abi::{DefaultAction, Errno, Pid, SiCode, SigInfo, SigSet, Signal, WaitStatus};
use crate::kernel::arena::Id;
use crate::kernel::effect::{Consequence, Effects};
use crate::kernel::limit::{Users, charge_queued};
use crate::kernel::process::{Job, Life, Process};
use crate::kernel::sighand::Fate;
use crate::kernel::thread::{Sleep, TaskId};
use crate::kernel::{Fault, Kernel, Property, Rule};
use crate::rule;

/// Where a signal comes from and where it goes, as far as that changes its treatment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The rule that has it sent.
    pub rule: Rule,
    /// For one thread instead of its process (SIG-22).
    pub private: bool,
    /// SIGKILL and SIGSTOP reach an init as well: from the kernel or an ancestor (KILL-22).
    pub force: bool,
    /// The kernel's own, which carries no record to be limited (LIM-11).
    pub kernel: bool,
}

impl Origin {
    /// A user's signal to a process.
    pub fn user(rule: Rule) -> Origin {
        Origin { rule, private: false, force: false, kernel: false }
    }

    /// The kernel's own signal to a process.
    pub fn kernel(rule: Rule) -> Origin {
        Origin { rule, private: false, force: true, kernel: true }
    }
}

impl Kernel {
    /// Generates a signal for `target`'s process, or for that thread alone.
    ///
    /// EAGAIN if it is a queued real-time signal and its user has too many (LIM-08).
    #[inline(always)]
    pub(in crate::kernel) fn generate(
        &mut self,
        target: TaskId,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let process = &self.processes[target.process];
        if !is_heard(process, fx) {
            return self.keep_for_ended(target, info, origin, fx);
        }
        if process.flags.hosted {
            forward(process, info, origin.rule, fx);
            return Ok(());
        }
        self.generate_here(target, info, origin, fx)
    }

    /// A signal to a process that is ending, or has ended: nothing comes of it, but older kernels
    /// keep it, and charge its record, until the process is reaped.
    #[cold]
    fn keep_for_ended(
        &mut self,
        target: TaskId,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if self.config.version.has(Property::EndedDropSignals) {
            return Ok(());
        }
        let process = &self.processes[target.process];
        let fate = self.sighands[process.sighand].fate(info.signal);
        let pending = process.pending(target.nth, origin.private);
        if drops(process, target.nth, info.signal, fate, origin.force, fx)
            || !info.signal.is_realtime() && pending.contains(info.signal)
        {
            return Ok(());
        }
        let process = &mut self.processes[target.process];
        enqueue(process, &mut self.users, target.nth, info, origin, fx).map(drop)
    }

    /// The same for a living process that the model rules.
    fn generate_here(
        &mut self,
        target: TaskId,
        info: &SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let (id, signal) = (target.process, info.signal);
        if signal.is_stop() || signal == Signal::CONT {
            self.change_job(id, signal, fx);
        }
        let process = &self.processes[id];
        let fate = self.sighands[process.sighand].fate(signal);
        if drops(process, target.nth, signal, fate, origin.force, fx) {
            fx.push(process.pid, Consequence::Discarded(signal), rule!("SIG-19"));
            return Ok(());
        }
        let pending = process.pending(target.nth, origin.private);
        if !signal.is_realtime() && pending.contains(signal) {
            // SIG-23: the first one stays
            fx.obey(rule!("SIG-23"));
            if signal == Signal::CHLD {
                fx.obey(rule!("CHLD-06"));
            }
            return Ok(());
        }
        let process = &mut self.processes[id];
        let kept = enqueue(process, &mut self.users, target.nth, info, origin, fx)?;
        note_queued(process, target.nth, signal, origin, fx);
        // field by field, so that no copy of the whole comes between
        let SigInfo { code, pid, uid, value, .. } =
            if kept { *info } else { SigInfo::lost(signal) };
        fx.push_with(process.pid, origin.rule, || {
            Consequence::Generated(SigInfo { signal, code, pid, uid, value })
        });
        self.complete(target, signal, fate, fx);
        Ok(())
    }

    /// What a stop signal and SIGCONT do before it is known whether they are kept.
    fn change_job(&mut self, id: Id<Process>, signal: Signal, fx: &mut Effects) {
        if signal.is_stop() {
            // JOB-01
            self.flush(id, Signal::CONT.set(), rule!("JOB-01"), fx);
        } else {
            // JOB-02, whatever becomes of SIGCONT itself: also a stop that is blocked (JOB-05) or has
            // not acted yet (JOB-14)
            if !self.faulty(Fault::ContKeepsStops) {
                self.flush(id, SigSet::STOPS, rule!("JOB-02"), fx);
            }
            self.resume(id, fx);
        }
    }

    /// SIGCONT makes a stopped process run, whether or not it is blocked or ignored (JOB-03).
    fn resume(&mut self, id: Id<Process>, fx: &mut Effects) {
        if !self.processes[id].is_stopped() {
            fx.obey(rule!("WAIT-28"));
            return;
        }
        if let Life::Alive(Job::Stopped { unreported: true, .. }) = self.processes[id].life {
            fx.obey(rule!("WAIT-26"));
        }
        fx.obey(rule!("JOB-03"));
        fx.obey(rule!("WAIT-25"));
        // WAIT-38: the wait event is there at once, the parent is told when the process runs
        self.set_life(id, Life::Alive(Job::Continued { unreported: true, unannounced: true }));
        self.enqueue_task(TaskId::leader(id));
    }

    /// Finds the thread that takes the signal and tells it; starts the end of the process if
    /// that is what the signal does (SIG-29).
    fn complete(&mut self, target: TaskId, signal: Signal, fate: Fate, fx: &mut Effects) {
        let process = &self.processes[target.process];
        if !self.wants(process, target, signal) {
            return;
        }
        let thread = process.thread(target.nth);
        if fate == Fate::Default(DefaultAction::Terminate) {
            if thread.really_blocks(signal) {
                fx.obey(rule!("SIG-55"));
            } else {
                fx.obey(rule!("SIG-29"));
                self.begin_group_exit(target.process, WaitStatus::killed(signal, false), fx);
                return;
            }
        }
        if matches!(thread.sleep, Sleep::Vfork(_)) {
            fx.obey(rule!("FORK-29"));
            fx.obey(rule!("JOB-17"));
        }
        self.notify(target);
    }

    /// Whether the thread can take the signal now (SIG-26).
    fn wants(&self, process: &Process, task: TaskId, signal: Signal) -> bool {
        let thread = process.thread(task.nth);
        if thread.mask.contains(signal) {
            return false;
        }
        if signal == Signal::KILL {
            return true;
        }
        if process.is_stopped() {
            return self.faulty(Fault::TermActsOnStopped);
        }
        self.running == Some(task) || !thread.notified
    }

    /// The process has to end with `status`: each thread is woken, also from a stop or a vfork.
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
        self.set_life(id, Life::Dying(status));
        self.enqueue_task(TaskId::leader(id));
    }

    /// Tells the thread that it has a signal to look at, and wakes it unless it sleeps where only
    /// its death can (FORK-29).
    #[inline(always)]
    pub(in crate::kernel) fn notify(&mut self, task: TaskId) {
        let running = self.running == Some(task);
        let thread = self.thread_mut(task);
        thread.notified = true;
        if matches!(thread.sleep, Sleep::Vfork(_) | Sleep::Zap) {
            return;
        }
        // one that runs looks at everything new before it goes on: see `back_to_user`
        if !running && !core::mem::replace(&mut thread.queued, true) {
            self.queue.push_back(task);
        }
    }

    /// Drops `signals` from all pending sets of a process.
    pub(in crate::kernel) fn flush(
        &mut self,
        id: Id<Process>,
        signals: SigSet,
        rule: Rule,
        fx: &mut Effects,
    ) {
        let process = &mut self.processes[id];
        let pending =
            process.threads().fold(process.shared.set(), |set, thread| set | thread.pending.set())
                & signals;
        if pending.is_empty() {
            return;
        }
        let mut charged = Vec::new();
        process.flush(signals, |queued| charged.push(queued.charged));
        for signal in pending.iter() {
            fx.push(self.processes[id].pid, Consequence::Discarded(signal), rule);
        }
        self.discharge_all_queued(charged);
    }

    /// A signal of the kernel itself. Its record is never limited, so it cannot fail.
    pub(in crate::kernel) fn generate_kernel(
        &mut self,
        target: Id<Process>,
        info: SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) {
        let sent = self.generate(TaskId::leader(target), &info, origin, fx);
        debug_assert!(sent.is_ok(), "LIM-11: only queued real-time signals are refused");
    }

    /// The siginfo of kill(2) by the calling thread (KILL-27).
    pub(in crate::kernel) fn sender_info(&self, caller: TaskId, signal: Signal) -> SigInfo {
        let pid: Pid = self.processes[caller.process].pid;
        // CRED-04: the real user
        SigInfo::user(signal, pid, self.cred(caller).real)
    }
}

/// Whether a signal does anything to the process at all. JOB-18: stops are no exception.
fn is_heard(process: &Process, fx: &mut Effects) -> bool {
    match process.life {
        Life::Alive(_) => return true,
        Life::Zombie(_) => fx.obey(rule!("ZOM-09")),
        Life::Dying(_) => {
            fx.obey(rule!("EXIT-13"));
            // nor does it change the status
            fx.obey(rule!("EXIT-08"));
        }
    }
    false
}

/// Forwards a signal for a living process to whoever rules it.
fn forward(process: &Process, info: &SigInfo, rule: Rule, fx: &mut Effects) {
    // field by field, so that no copy of the whole comes between
    let SigInfo { signal, code, pid, uid, value } = *info;
    fx.push_with(process.pid, rule, || {
        Consequence::Forwarded(SigInfo { signal, code, pid, uid, value })
    });
}

/// Whether the signal is dropped at generation: not blocked, and nothing would come of it
/// (SIG-19). A blocked signal is kept even if it is ignored (SIG-20).
fn drops(
    process: &Process,
    nth: u32,
    signal: Signal,
    fate: Fate,
    force: bool,
    fx: &mut Effects,
) -> bool {
    let thread = process.thread(nth);
    let protected = process.flags.unkillable && fate.is_default();
    if thread.blocks(signal) {
        if protected {
            fx.obey(rule!("KILL-24"));
        }
        if fate.is_ignored() {
            fx.obey(rule!("SIG-20"));
            if thread.really_blocks(signal) {
                fx.obey(rule!("SIG-52"));
            }
        }
        return false;
    }
    if protected && !(force && signal.is_kernel_only()) {
        fx.obey(if signal.is_kernel_only() { rule!("KILL-23") } else { rule!("KILL-21") });
        return true;
    }
    fate.is_ignored()
}

/// Adds the signal to the pending set, with its record where it gets one; `false` if that is
/// lost.
fn enqueue(
    process: &mut Process,
    users: &mut Users,
    nth: u32,
    info: &SigInfo,
    origin: Origin,
    fx: &mut Effects,
) -> Result<bool, Errno> {
    let signal = info.signal;
    if signal == Signal::KILL {
        fx.obey(rule!("SIG-25"));
        process.pending_mut(nth, origin.private).add_bare(signal);
        return Ok(true);
    }
    // LIM-11: standard signals of kill() and of the kernel are never refused their record
    let ignore_limit = !signal.is_realtime() && (origin.kernel || info.code.0 >= 0);
    if ignore_limit {
        fx.obey(rule!("LIM-11"));
    }
    let Some(charged) = charge_queued(users, process, nth, ignore_limit) else {
        fx.obey(rule!("SIG-30"));
        fx.obey(rule!("LIM-07"));
        if signal.is_realtime() && !origin.kernel && info.code != SiCode::USER {
            fx.obey(rule!("LIM-08"));
            return Err(Errno::EAGAIN);
        }
        fx.obey(if signal.is_realtime() { rule!("LIM-10") } else { rule!("LIM-09") });
        process.pending_mut(nth, origin.private).add_bare(signal);
        return Ok(false);
    };
    process.pending_mut(nth, origin.private).add(info, charged);
    Ok(true)
}

/// Notes the rules that a pending signal shows.
fn note_queued(process: &Process, nth: u32, signal: Signal, origin: Origin, fx: &mut Effects) {
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
    if signal == Signal::CONT && process.thread(nth).blocks(signal) {
        fx.obey(rule!("JOB-04"));
    }
}
