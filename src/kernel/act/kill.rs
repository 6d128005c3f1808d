//! kill and its relatives.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::abi::{Errno, Pid, SiCode, SigInfo, Signal, Uid};
use crate::kernel::api::effect::Effects;
use crate::kernel::api::effect::refuse;
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::cred::Cred;
use crate::kernel::state::group::Group;
use crate::kernel::state::process::Process;
use crate::kernel::state::task::{Killing, Sleep, Task};
use crate::kernel::{Fault, Kernel};
use crate::rule;
use crate::syscall::{self, QueuedInfo, Ret};

impl Kernel {
    pub(in crate::kernel) fn kill(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        match pid {
            1.. => self.kill_process(caller, pid, sig, fx),
            0 => {
                fx.obey(rule!("KILL-02"));
                let group = self.processes[self.process_of(caller)].group;
                self.kill_group(caller, Some(group), sig, fx)
            }
            -1 => self.kill_all(caller, sig, fx),
            i32::MIN => refuse(fx, rule!("KILL-05"), Errno::ESRCH),
            _ => {
                fx.obey(rule!("KILL-04"));
                let group = self.group_numbered(pid.unsigned_abs());
                self.kill_group(caller, group, sig, fx)
            }
        }
    }

    #[inline]
    fn kill_process(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        fx.obey(rule!("KILL-01"));
        // TG-27: the task of that number is the target task
        let Some(target) = self.task_named(pid) else {
            // KILL-06: this error precedes the check of the signal
            return refuse(fx, rule!("KILL-06"), Errno::ESRCH);
        };
        let info = self.info_to_send(caller, sig, fx)?;
        let cred = *self.cred(caller);
        self.kill_one(caller, &cred, target, info.as_ref(), fx)?;
        Ok(0)
    }

    /// The siginfo of a signal that the caller sends, the same for all targets; `None` for 0, which
    /// is no signal.
    // inlined: a result that is returned through memory costs as much as the rest of a call
    #[inline(always)]
    fn info_to_send(
        &self,
        caller: Id<Task>,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<Option<SigInfo>, Errno> {
        let signal = check_signal(sig, fx)?;
        Ok(signal.map(|signal| self.sender_info(caller, signal)))
    }

    /// Sends a signal to one process, also to a zombie (ZOM-09). `cred` has the users of the
    /// caller, the same for all targets.
    #[inline(always)]
    fn kill_one(
        &mut self,
        caller: Id<Task>,
        cred: &Cred,
        target: Id<Task>,
        info: Option<&SigInfo>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        self.may_kill(caller, cred, target, info.map(|info| info.signal), fx)?;
        let Some(info) = info else {
            fx.obey(rule!("KILL-08"));
            return Ok(());
        };
        if self.process_of(target) == self.process_of(caller) {
            if target != caller {
                fx.obey(rule!("TG-33"));
                fx.obey(rule!("TG-157"));
            }
            fx.obey(rule!("KILL-34"));
            fx.obey(rule!("KILL-17"));
        }
        fx.obey(rule!("CRED-04"));
        self.generate(target, info, Origin::user(rule!("KILL-27")), fx)
    }

    /// Sends a signal to one of several processes.
    #[inline]
    fn kill_member(
        &mut self,
        caller: Id<Task>,
        cred: &Cred,
        member: Id<Process>,
        info: Option<&SigInfo>,
        to_all: bool,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if to_all && self.processes[member].is_zombie() {
            fx.obey(rule!("KILL-11"));
        }
        self.kill_one(caller, cred, self.leader(member), info, fx)
    }

    /// The result of a kill of several processes after one more of them.
    #[inline]
    fn after_one(
        &self,
        before: Result<(), Errno>,
        sent: Result<(), Errno>,
        to_all: bool,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        match sent {
            // KILL-10: ignored
            Err(Errno::EPERM) if to_all && !self.has_fault(Fault::KillAllReportsEperm) => {
                fx.obey(rule!("KILL-10"));
                before
            }
            sent if to_all => sent,
            sent => {
                // KILL-09: one success is success
                fx.obey(rule!("KILL-09"));
                if before.is_ok() { before } else { sent }
            }
        }
    }

    /// As [`Kernel::kill`] for several processes, where other tasks may run between two of them
    /// (RACE-07); `None` if other tasks run.
    pub(in crate::kernel) fn kill_several(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        // KILL-13
        let targets: Vec<Id<Process>> = match pid {
            0 => self.members(self.processes[self.process_of(caller)].group).collect(),
            -1 => self.others(caller).collect(),
            i32::MIN => Vec::new(),
            _ => match self.group_numbered(pid.unsigned_abs()) {
                Some(group) => self.members(group).collect(),
                None => Vec::new(),
            },
        };
        let info = match self.info_to_send(caller, sig, fx) {
            Ok(info) if !targets.is_empty() => info,
            _ => return Some(self.kill(caller, pid, sig, fx).map(Ret::Value)),
        };
        let to_all = pid == -1;
        fx.obey(if to_all { rule!("KILL-03") } else { rule!("KILL-09") });
        let killing = Killing {
            targets: targets.into_iter().rev().collect(),
            info,
            to_all,
            outcome: if to_all { Ok(()) } else { Err(Errno::ESRCH) },
        };
        self.continue_kill(caller, Box::new(killing), fx)
    }

    /// Sends the signal to the remaining processes of a kill of several.
    pub(in crate::kernel) fn continue_kill(
        &mut self,
        caller: Id<Task>,
        mut killing: Box<Killing>,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let cred = *self.cred(caller);
        while let Some(target) = killing.targets.pop() {
            // a process that was reaped since the kill began is skipped
            if self.processes.get(target).is_none() {
                continue;
            }
            let (info, to_all) = (killing.info.as_ref(), killing.to_all);
            let sent = self.kill_member(caller, &cred, target, info, to_all, fx);
            if let (Ok(()), Some(info)) = (sent, info) {
                self.delay_for_child(target, info.signal);
            }
            killing.outcome = self.after_one(killing.outcome, sent, to_all, fx);
            if !killing.targets.is_empty() && self.others_may_run() {
                fx.obey(rule!("RACE-07"));
                self.tasks[caller].sleep = Sleep::Killing(killing);
                self.tasklist.hold_shared();
                self.enqueue_first(caller);
                return None;
            }
        }
        Some(killing.outcome.map(|()| Ret::Value(0)))
    }

    /// The targets of kill(-1) in the order of creation: all processes except the init and the
    /// process of the caller (TG-166).
    fn others(&self, caller: Id<Task>) -> impl Iterator<Item = Id<Process>> + '_ {
        let own = self.process_of(caller);
        self.all().filter(move |id| *id != own && self.pid_of(*id) > Pid(1))
    }

    /// Sends a signal to all members of a group, the most recent member first (KILL-13).
    fn kill_group(
        &mut self,
        caller: Id<Task>,
        group: Option<Id<Group>>,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        let Some(group) = group else { return Err(Errno::ESRCH) };
        // KILL-09, KILL-07: an invalid signal is an error for each member
        fx.obey(rule!("KILL-09"));
        let info = self.info_to_send(caller, sig, fx)?;
        let cred = *self.cred(caller);
        let mut outcome = Err(Errno::ESRCH);
        // the ids stay valid: the generation of a signal removes no process
        let mut next = self.newest_member(group);
        while let Some(member) = next {
            next = self.processes[member].group_links.next();
            let sent = self.kill_member(caller, &cred, member, info.as_ref(), false, fx);
            outcome = self.after_one(outcome, sent, false, fx);
        }
        outcome.map(|()| 0)
    }

    /// Sends a signal to all processes except the init and the caller's, in the order of creation
    /// (KILL-13).
    fn kill_all(&mut self, caller: Id<Task>, sig: i32, fx: &mut Effects) -> Result<i64, Errno> {
        fx.obey(rule!("KILL-03"));
        let targets: Vec<Id<Process>> = self.others(caller).collect();
        if targets.is_empty() {
            fx.obey(rule!("KILL-12"));
            return refuse(fx, rule!("KILL-10"), Errno::ESRCH);
        }
        let info = self.info_to_send(caller, sig, fx)?;
        let cred = *self.cred(caller);
        let mut outcome = Ok(());
        for target in targets {
            let sent = self.kill_member(caller, &cred, target, info.as_ref(), true, fx);
            outcome = self.after_one(outcome, sent, true, fx);
        }
        outcome.map(|()| 0)
    }

    /// tkill and tgkill.
    pub(in crate::kernel) fn tgkill(
        &mut self,
        caller: Id<Task>,
        tgid: Option<i32>,
        tid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("KILL-30"));
        if tid <= 0 || tgid.is_some_and(|tgid| tgid <= 0) {
            return Err(Errno::EINVAL);
        }
        let Some(target) = self.task_named(tid) else { return Err(Errno::ESRCH) };
        let pid = self.pid_of(self.process_of(target));
        if tgid.is_some_and(|tgid| pid.0 as i32 != tgid) {
            // TG-160
            fx.obey(rule!("TG-160"));
            return Err(Errno::ESRCH);
        }
        let signal = check_signal(sig, fx)?;
        self.may_kill(caller, self.cred(caller), target, signal, fx)?;
        if let Some(signal) = signal {
            fx.obey(rule!("KILL-27"));
            let info = SigInfo { code: SiCode::TKILL, ..self.sender_info(caller, signal) };
            let private = !self.has_fault(Fault::PrivateIsShared);
            let origin = Origin { private, ..Origin::user(rule!("KILL-30")) };
            self.generate(target, &info, origin, fx)?;
        }
        Ok(Ret::Value(0))
    }

    /// rt_sigqueueinfo.
    pub(in crate::kernel) fn sigqueueinfo(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        sig: i32,
        info: Option<QueuedInfo>,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("KILL-31"));
        let info = info.ok_or(Errno::EFAULT)?;
        self.may_claim(caller, pid, &info, fx)?;
        let Some(target) = self.task_named(pid) else { return Err(Errno::ESRCH) };
        if self.processes[self.process_of(target)].is_zombie() {
            fx.obey(rule!("KILL-33"));
        }
        self.queue_info(caller, target, sig, info, false, fx)
    }

    /// rt_tgsigqueueinfo (TG-161).
    pub(in crate::kernel) fn tgsigqueueinfo(
        &mut self,
        caller: Id<Task>,
        [tgid, tid]: [i32; 2],
        sig: i32,
        info: Option<QueuedInfo>,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("TG-161"));
        let info = info.ok_or(Errno::EFAULT)?;
        if tid <= 0 || tgid <= 0 {
            return Err(Errno::EINVAL);
        }
        self.may_claim(caller, tid, &info, fx)?;
        let Some(target) = self.task_named(tid) else { return Err(Errno::ESRCH) };
        if self.pid_of(self.process_of(target)).0 as i32 != tgid {
            return Err(Errno::ESRCH);
        }
        self.queue_info(caller, target, sig, info, true, fx)
    }

    /// TG-162: a code of the kernel or of kill is permitted only in a signal of a thread to itself.
    fn may_claim(
        &self,
        caller: Id<Task>,
        number: i32,
        info: &QueuedInfo,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let own = self.tid_of(caller).0 as i32;
        if (info.code >= 0 || info.code == SiCode::TKILL.0) && number != own {
            if u32::try_from(number) == Ok(self.pid_of(self.process_of(caller)).0) {
                // the number of the process is not the number of this thread
                fx.obey(rule!("KILL-32"));
                fx.obey(rule!("TG-162"));
            }
            return refuse(fx, rule!("KILL-31"), Errno::EPERM);
        }
        Ok(())
    }

    /// Sends a signal with a siginfo that the caller wrote.
    fn queue_info(
        &mut self,
        caller: Id<Task>,
        target: Id<Task>,
        sig: i32,
        info: QueuedInfo,
        private: bool,
        fx: &mut Effects,
    ) -> syscall::Result {
        let signal = check_signal(sig, fx)?;
        // the kernel does not check the users if the code is one of the kernel's own
        if info.code <= 0 {
            self.may_kill(caller, self.cred(caller), target, signal, fx)?;
        }
        let Some(signal) = signal else { return Ok(Ret::Value(0)) };
        let info = SigInfo {
            signal,
            code: SiCode(info.code),
            pid: Pid(info.pid),
            uid: Uid(info.uid),
            value: info.value,
        };
        // KILL-22: a signal with the code SI_KERNEL reaches an init like a signal of the kernel
        let force = info.code == SiCode::KERNEL;
        let rule = if private { rule!("TG-161") } else { rule!("KILL-31") };
        let origin = Origin { force, private, ..Origin::user(rule) };
        self.generate(target, &info, origin, fx)?;
        Ok(Ret::Value(0))
    }

    /// EPERM if the caller may not send `signal` to `target` (KILL-16 to KILL-19).
    #[inline(always)]
    pub(in crate::kernel) fn may_kill(
        &self,
        caller: Id<Task>,
        cred: &Cred,
        target: Id<Task>,
        signal: Option<Signal>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if self.process_of(caller) == self.process_of(target) {
            // TG-157
            return Ok(());
        }
        fx.obey(rule!("KILL-16"));
        fx.obey(rule!("CRED-02"));
        // TG-156: the users of the target task count
        if self.leader(self.process_of(target)) != target {
            fx.obey(rule!("TG-156"));
        }
        if cred.may_signal(&self.tasks[target].cred) {
            return Ok(());
        }
        self.may_kill_other_user(caller, target, signal, fx)
    }

    /// A process of another user receives SIGCONT only, from a process of the same session.
    #[cold]
    fn may_kill_other_user(
        &self,
        caller: Id<Task>,
        target: Id<Task>,
        signal: Option<Signal>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let target = self.process_of(target);
        if signal == Some(Signal::CONT) {
            fx.obey(rule!("KILL-18"));
            if self.session_of(target) == self.session_of(self.process_of(caller)) {
                return Ok(());
            }
        }
        if self.processes[target].is_zombie() {
            fx.obey(rule!("KILL-19"));
        }
        refuse(fx, rule!("KILL-16"), Errno::EPERM)
    }
}

/// KILL-06, KILL-07: EINVAL for an invalid number; `None` for 0 (KILL-08).
fn check_signal(sig: i32, fx: &mut Effects) -> Result<Option<Signal>, Errno> {
    match Signal::new(sig) {
        None if sig != 0 => refuse(fx, rule!("KILL-07"), Errno::EINVAL),
        signal => Ok(signal),
    }
}
