//! Generation: everything that happens at once, in the sender's call.

use alloc::vec::Vec;

use super::pending::Queued;
use crate::abi::{DefaultAction, Errno, Pid, SiCode, SigInfo, SigSet, Signal, WaitStatus};
use crate::kernel::arena::Id;
use crate::kernel::effect::{Consequence, Effects};
use crate::kernel::process::{Job, Life, Process};
use crate::kernel::thread::{Sleep, TaskId};
use crate::kernel::{Fault, Kernel, Rule};
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
    pub(in crate::kernel) fn generate(
        &mut self,
        target: TaskId,
        info: SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let signal = info.signal;
        if self.forward(target.process, info, origin.rule, fx) {
            return Ok(());
        }
        if !self.prepare(target, signal, origin, fx) {
            return Ok(());
        }
        let pending = self.pending(target, origin.private);
        if !signal.is_realtime() && pending.contains(signal) {
            // SIG-23: the first one stays
            fx.obey(rule!("SIG-23"));
            if signal == Signal::CHLD {
                fx.obey(rule!("CHLD-06"));
            }
            return Ok(());
        }
        let info = self.enqueue(target, info, origin, fx)?;
        self.note_queued(target, signal, origin, fx);
        fx.push(self.processes[target.process].pid, Consequence::Generated(info), origin.rule);
        self.complete(target, signal, fx);
        Ok(())
    }

    /// Adds the signal to the pending set, with its record where it gets one.
    fn enqueue(
        &mut self,
        target: TaskId,
        info: SigInfo,
        origin: Origin,
        fx: &mut Effects,
    ) -> Result<SigInfo, Errno> {
        let signal = info.signal;
        if signal == Signal::KILL {
            fx.obey(rule!("SIG-25"));
            self.pending_mut(target, origin.private).add_bare(signal);
            return Ok(info);
        }
        // LIM-11: standard signals of kill() and of the kernel are never refused their record
        let ignore_limit = !signal.is_realtime() && (origin.kernel || info.code.0 >= 0);
        if ignore_limit {
            fx.obey(rule!("LIM-11"));
        }
        let Some(charged) = self.charge_queued(target, ignore_limit) else {
            fx.obey(rule!("SIG-30"));
            fx.obey(rule!("LIM-07"));
            if signal.is_realtime() && !origin.kernel && info.code != SiCode::USER {
                fx.obey(rule!("LIM-08"));
                return Err(Errno::EAGAIN);
            }
            fx.obey(if signal.is_realtime() { rule!("LIM-10") } else { rule!("LIM-09") });
            self.pending_mut(target, origin.private).add_bare(signal);
            return Ok(SigInfo::lost(signal));
        };
        self.pending_mut(target, origin.private).add(Queued { info, charged });
        Ok(info)
    }

    /// What a signal does before it is known whether it is kept; `false` if it is dropped.
    fn prepare(
        &mut self,
        target: TaskId,
        signal: Signal,
        origin: Origin,
        fx: &mut Effects,
    ) -> bool {
        let id = target.process;
        if let Life::Dying(_) | Life::Zombie(_) = self.processes[id].life {
            // JOB-18: stops are no exception
            let dead = self.processes[id].is_zombie();
            fx.obey(if dead { rule!("ZOM-09") } else { rule!("EXIT-13") });
            if !dead {
                // nor does it change the status
                fx.obey(rule!("EXIT-08"));
            }
            return false;
        }
        if signal.is_stop() {
            // JOB-01
            self.flush(id, Signal::CONT.set(), rule!("JOB-01"), fx);
        } else if signal == Signal::CONT {
            // JOB-02, whatever becomes of SIGCONT itself: also a stop that is blocked (JOB-05) or has
            // not acted yet (JOB-14)
            if !self.faulty(Fault::ContKeepsStops) {
                self.flush(id, SigSet::STOPS, rule!("JOB-02"), fx);
            }
            self.resume(id, fx);
        }
        if self.ignores(target, signal, origin.force, fx) {
            fx.push(self.processes[id].pid, Consequence::Discarded(signal), rule!("SIG-19"));
            return false;
        }
        true
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

    /// Whether the signal is dropped at generation: not blocked, and nothing would come of it
    /// (SIG-19). A blocked signal is kept even if it is ignored (SIG-20).
    fn ignores(&self, target: TaskId, signal: Signal, force: bool, fx: &mut Effects) -> bool {
        let process = &self.processes[target.process];
        let sighand = &self.sighands[process.sighand];
        let protected = process.flags.unkillable && sighand.is_default(signal);
        if self.thread(target).blocks(signal) {
            if protected {
                fx.obey(rule!("KILL-24"));
            }
            if sighand.ignores(signal) {
                fx.obey(rule!("SIG-20"));
                if self.thread(target).really_blocks(signal) {
                    fx.obey(rule!("SIG-52"));
                }
            }
            return false;
        }
        if protected && !(force && signal.is_kernel_only()) {
            fx.obey(if signal.is_kernel_only() { rule!("KILL-23") } else { rule!("KILL-21") });
            return true;
        }
        sighand.ignores(signal)
    }

    /// Finds the thread that takes the signal and tells it; starts the end of the process if
    /// that is what the signal does (SIG-29).
    fn complete(&mut self, target: TaskId, signal: Signal, fx: &mut Effects) {
        if !self.wants(target, signal) {
            return;
        }
        let process = &self.processes[target.process];
        let fatal = self.sighands[process.sighand].is_default(signal)
            && !matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Stop)
            || signal == Signal::KILL;
        if fatal && signal.default_action() != DefaultAction::Core {
            if self.thread(target).really_blocks(signal) {
                fx.obey(rule!("SIG-55"));
            } else {
                fx.obey(rule!("SIG-29"));
                self.begin_group_exit(target.process, WaitStatus::killed(signal, false), fx);
                return;
            }
        }
        if matches!(self.thread(target).sleep, Sleep::Vfork(_)) {
            fx.obey(rule!("FORK-29"));
            fx.obey(rule!("JOB-17"));
        }
        self.notify(target);
    }

    /// Whether the thread can take the signal now (SIG-26).
    fn wants(&self, task: TaskId, signal: Signal) -> bool {
        let thread = self.thread(task);
        if thread.mask.contains(signal) {
            return false;
        }
        if signal == Signal::KILL {
            return true;
        }
        if self.processes[task.process].is_stopped() {
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
    pub(in crate::kernel) fn notify(&mut self, task: TaskId) {
        let thread = self.thread_mut(task);
        thread.notified = true;
        if !matches!(thread.sleep, Sleep::Vfork(_) | Sleep::Zap) {
            self.enqueue_task(task);
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
        let sent = self.generate(TaskId::leader(target), info, origin, fx);
        debug_assert!(sent.is_ok(), "LIM-11: only queued real-time signals are refused");
    }

    fn note_queued(&self, target: TaskId, signal: Signal, origin: Origin, fx: &mut Effects) {
        fx.obey(if origin.private { rule!("KILL-30") } else { rule!("SIG-22") });
        // SIG-05: from 32 on
        if signal.is_realtime() {
            fx.obey(rule!("SIG-24"));
        }
        let process = &self.processes[target.process];
        if process.is_stopped() && signal != Signal::KILL {
            fx.obey(rule!("JOB-06"));
            if signal.is_stop() {
                fx.obey(rule!("JOB-10"));
                fx.obey(rule!("WAIT-27"));
            }
        }
        if signal == Signal::CONT && self.thread(target).blocks(signal) {
            fx.obey(rule!("JOB-04"));
        }
    }

    /// The siginfo of kill(2) by the calling thread (KILL-27).
    pub(in crate::kernel) fn sender_info(&self, caller: TaskId, signal: Signal) -> SigInfo {
        let pid: Pid = self.processes[caller.process].pid;
        // CRED-04: the real user
        SigInfo::user(signal, pid, self.cred(caller).real)
    }
}
