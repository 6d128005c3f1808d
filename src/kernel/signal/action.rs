//! Dispositions and masks: the calls that change them, and the calls that wait for signals.

use alloc::boxed::Box;

use crate::abi::{Errno, SaFlags, SigAction, SigInfo, SigSet, Signal, Timespec};
use crate::kernel::api::effect::refuse;
use crate::kernel::api::effect::{Consequence, Effects, Restart};
use crate::kernel::state::arena::Id;
use crate::kernel::state::task::{Sleep, Task, TimedSleep};
use crate::kernel::{Kernel, Property};
use crate::rule;
use crate::syscall::{self, Ptr, Ret, SIGSET_SIZE, Syscall, how};

/// The result of a call that may block; `None` if it blocks.
type MayBlock = Option<syscall::Result>;

impl Kernel {
    pub(in crate::kernel) fn sigaction(
        &mut self,
        caller: Id<Task>,
        sig: i32,
        act: Option<SigAction>,
        old: Ptr,
        size: usize,
        fx: &mut Effects,
    ) -> syscall::Result {
        check_size(size, fx)?;
        fx.obey(rule!("SIG-06"));
        let Some(signal) = Signal::new(sig) else { return Err(Errno::EINVAL) };
        if signal.is_kernel_only() {
            fx.obey(rule!("SIG-07"));
            fx.obey(rule!("JOB-08"));
            if act.is_some() {
                return Err(Errno::EINVAL);
            }
        }
        let process = &self.processes[self.process_of(caller)];
        let sighand = process.sighand;
        if process.leader != caller {
            fx.obey(rule!("SIG-12"));
            fx.obey(rule!("TG-65"));
        }
        let before = self.sighands[sighand].get(signal);
        if let Some(act) = act {
            self.set_action(caller, signal, act, fx);
        }
        fx.obey(rule!("SIG-13"));
        match old {
            Ptr::Null => Ok(Ret::Action(None)),
            Ptr::Valid => Ok(Ret::Action(Some(before))),
            Ptr::Bad => Err(Errno::EFAULT),
        }
    }

    fn set_action(&mut self, caller: Id<Task>, signal: Signal, act: SigAction, fx: &mut Effects) {
        let clears = self.config.version.has(Property::UnknownActionFlagsCleared);
        let kept_flags = if clears { SaFlags::KNOWN.0 } else { !SaFlags::INTERFACE.0 };
        let kept = SigAction {
            // SIG-09, SIG-08
            flags: SaFlags(act.flags.0 & kept_flags),
            mask: act.mask - SigSet::KERNEL_ONLY,
            ..act
        };
        if kept.flags != act.flags {
            fx.obey(rule!("SIG-09"));
        }
        if kept.mask != act.mask {
            fx.obey(rule!("SIG-08"));
        }
        let process = self.process_of(caller);
        let id = self.processes[process].sighand;
        self.sighands[id].set(signal, kept);
        if self.disposition_in(&self.processes[process], signal).is_ignored() {
            // SIG-10: blocked or not
            self.flush(process, signal.set(), rule!("SIG-10"), fx);
        } else if self.processes[process].shared.contains(signal) {
            fx.obey(rule!("SIG-11"));
        }
    }

    pub(in crate::kernel) fn sigprocmask(
        &mut self,
        caller: Id<Task>,
        how: i32,
        set: Option<SigSet>,
        old: Ptr,
        size: usize,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("SIG-15"));
        check_size(size, fx)?;
        let before = self.tasks[caller].mask;
        if let Some(set) = set {
            let set = set - SigSet::KERNEL_ONLY;
            let mask = match how {
                how::BLOCK => before | set,
                how::UNBLOCK => before - set,
                how::SETMASK => set,
                _ => return Err(Errno::EINVAL),
            };
            fx.obey(rule!("SIG-14"));
            self.set_mask(caller, mask, fx);
            if self.has_deliverable(caller) {
                fx.obey(rule!("SIG-17"));
            }
        }
        match old {
            Ptr::Null => Ok(Ret::Mask(None)),
            Ptr::Valid => Ok(Ret::Mask(Some(before))),
            // SIG-16: the new mask stays
            Ptr::Bad => refuse(fx, rule!("SIG-16"), Errno::EFAULT),
        }
    }

    /// Replaces the mask. Signals that the new mask unblocks are delivered when the thread next
    /// runs. Shared signals that it blocks are offered to the other threads (TG-45).
    pub(in crate::kernel) fn set_mask(&mut self, task: Id<Task>, mask: SigSet, fx: &mut Effects) {
        // TG-40: with an unchanged mask the thread takes no signal for which another thread was
        // woken
        if mask - SigSet::KERNEL_ONLY != self.tasks[task].mask {
            self.replace_mask(task, mask, fx);
        }
    }

    /// As [`Kernel::set_mask`], also for an unchanged mask (__set_task_blocked).
    fn replace_mask(&mut self, task: Id<Task>, mask: SigSet, fx: &mut Effects) {
        // SIG-14
        let mask = mask - SigSet::KERNEL_ONLY;
        let thread = &self.tasks[task];
        let blocked = mask - thread.mask;
        let had_signals =
            thread.signal_pending && (thread.stop_pending || self.has_deliverable(task));
        if had_signals && !blocked.is_empty() && !self.processes[thread.process].is_single() {
            fx.obey(rule!("SIG-18"));
            self.offer_shared(task, blocked, fx);
        }
        self.tasks[task].mask = mask;
        self.recalc_sigpending(task);
    }

    /// Computes the signal-pending flag of a thread. Signals for which another thread was woken
    /// count as well (TG-40).
    pub(in crate::kernel) fn recalc_sigpending(&mut self, task: Id<Task>) {
        let deliverable = self.has_deliverable(task);
        let thread = &mut self.tasks[task];
        thread.signal_pending = thread.stop_pending || deliverable;
    }

    pub(in crate::kernel) fn sigpending(
        &mut self,
        caller: Id<Task>,
        set: Ptr,
        size: usize,
        fx: &mut Effects,
    ) -> syscall::Result {
        // SIG-06: unlike the other calls rt_sigpending takes smaller sets, and fills only their
        // bytes
        if size > SIGSET_SIZE {
            return refuse(fx, rule!("SIG-06"), Errno::EINVAL);
        }
        fx.obey(rule!("SIG-31"));
        let thread = &self.tasks[caller];
        let pending = thread.pending.set() | self.processes[thread.process].shared.set();
        if !self.processes[thread.process].is_single() {
            fx.obey_all(&[rule!("SIG-28"), rule!("TG-41"), rule!("TG-42")]);
        }
        let stored =
            SigSet::from_bits(1u64.checked_shl(size as u32 * 8).unwrap_or(0).wrapping_sub(1));
        match set {
            _ if size == 0 => Ok(Ret::Pending(SigSet::EMPTY)),
            Ptr::Valid => Ok(Ret::Pending(pending & thread.mask & stored)),
            Ptr::Null | Ptr::Bad => Err(Errno::EFAULT),
        }
    }

    pub(in crate::kernel) fn pause(&mut self, caller: Id<Task>, fx: &mut Effects) -> MayBlock {
        self.sleep_unless_signal_pending(
            caller,
            Restart::NoHandler,
            Syscall::Pause,
            Sleep::Pause,
            fx,
        )
    }

    pub(in crate::kernel) fn sigsuspend(
        &mut self,
        caller: Id<Task>,
        mask: SigSet,
        size: usize,
        fx: &mut Effects,
    ) -> MayBlock {
        if let Err(errno) = check_size(size, fx) {
            return Some(Err(errno));
        }
        let before = self.tasks[caller].mask;
        self.set_mask(caller, mask, fx);
        self.tasks[caller].saved_mask = Some(Box::new(before));
        let call = Syscall::RtSigsuspend { mask, size };
        let sleep = Sleep::Suspend(Box::new(call.clone()));
        self.sleep_unless_signal_pending(caller, Restart::NoHandler, call, sleep, fx)
    }

    /// Sleeps, or interrupts the call before it sleeps if a signal is pending.
    fn sleep_unless_signal_pending(
        &mut self,
        task: Id<Task>,
        restart: Restart,
        call: Syscall,
        sleep: Sleep,
        fx: &mut Effects,
    ) -> MayBlock {
        if self.tasks[task].signal_pending {
            self.interrupt(task, restart, call, fx);
        } else {
            self.tasks[task].sleep = sleep;
        }
        None
    }

    pub(in crate::kernel) fn sigtimedwait(
        &mut self,
        caller: Id<Task>,
        set: SigSet,
        info: Ptr,
        timeout: Option<Timespec>,
        size: usize,
        fx: &mut Effects,
    ) -> MayBlock {
        if let Err(errno) = check_size(size, fx) {
            return Some(Err(errno));
        }
        fx.obey(rule!("SIG-50"));
        let timeout = match timeout {
            None => None,
            Some(timeout) => match timeout.nanos() {
                None => return Some(Err(Errno::EINVAL)),
                nanos => nanos,
            },
        };
        if !(set & SigSet::KERNEL_ONLY).is_empty() {
            fx.obey(rule!("SIG-51"));
        }
        let set = set - SigSet::KERNEL_ONLY;
        if let Some(taken) = self.take_awaited(caller, set, info, fx) {
            return Some(taken);
        }
        if timeout == Some(0) {
            return Some(Err(Errno::EAGAIN));
        }
        let deadline = timeout.map(|nanos| self.now.after(nanos));
        self.recalc_sigpending(caller);
        if self.tasks[caller].signal_pending {
            return Some(Err(Errno::EINTR));
        }
        let real_blocked = self.tasks[caller].mask;
        fx.obey(rule!("SIG-54"));
        self.tasks[caller].mask = real_blocked - set;
        self.tasks[caller].sleep =
            Sleep::Timed(Box::new(TimedSleep { set, real_blocked, deadline, info }));
        if let Some(deadline) = deadline {
            self.set_timeout(caller, deadline);
        }
        None
    }

    /// Takes a pending signal of `set` for rt_sigtimedwait: also a stop signal (TG-51), and SIGCHLD
    /// whichever thread created the child (TG-61).
    fn take_awaited(
        &mut self,
        task: Id<Task>,
        set: SigSet,
        info: Ptr,
        fx: &mut Effects,
    ) -> MayBlock {
        let taken = self.take_among(task, set, fx);
        self.recalc_sigpending(task);
        let taken = taken?;
        if !self.processes[self.process_of(task)].is_single() {
            fx.obey_all(&[rule!("SIG-53"), rule!("TG-43")]);
        }
        fx.obey(rule!("SIG-35"));
        Some(match info {
            Ptr::Valid => Ok(Ret::Signal(taken)),
            Ptr::Null => Ok(Ret::Signal(SigInfo::lost(taken.signal))),
            Ptr::Bad => Err(Errno::EFAULT),
        })
    }

    /// Ends rt_sigtimedwait after a wake-up by a signal of its set, by another signal, or by its
    /// timeout (TG-56). A signal that another thread has taken in between is gone (TG-57).
    pub(in crate::kernel) fn end_sigtimedwait(&mut self, task: Id<Task>, fx: &mut Effects) {
        let sleep = core::mem::take(&mut self.tasks[task].sleep);
        let Sleep::Timed(timed) = sleep else { return };
        self.replace_mask(task, timed.real_blocked, fx);
        if let Some(deadline) = timed.deadline {
            self.clear_timeout(task, deadline);
        }
        let result = self.take_awaited(task, timed.set, timed.info, fx).unwrap_or_else(|| {
            let expired = timed.deadline.is_some_and(|deadline| deadline <= self.now);
            // SIG-46: a wake-up without a signal of the set is EINTR, even if no handler runs
            fx.obey(if expired { rule!("SIG-50") } else { rule!("SIG-46") });
            Err(if expired { Errno::EAGAIN } else { Errno::EINTR })
        });
        self.return_later(task, result, rule!("SIG-50"), fx);
    }

    /// A signal interrupts the blocked call of the task.
    pub(in crate::kernel) fn interrupt(
        &mut self,
        task: Id<Task>,
        restart: Restart,
        call: Syscall,
        fx: &mut Effects,
    ) {
        self.tasks[task].sleep = Sleep::Interrupted(restart, Box::new(call));
        fx.push(self.task_subject(task), Consequence::Interrupted(restart), rule!("SIG-44"));
    }
}

/// SIG-06: checks for the only valid size of a signal set.
fn check_size(size: usize, fx: &mut Effects) -> Result<(), Errno> {
    if size == SIGSET_SIZE { Ok(()) } else { refuse(fx, rule!("SIG-06"), Errno::EINVAL) }
}
