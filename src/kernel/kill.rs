//! kill and its relatives.

use alloc::vec::Vec;

use super::arena::Id;
use super::cred::Cred;
use super::effect::Effects;
use super::group::{Group, refuse};
use super::process::Process;
use super::signal::Origin;
use super::thread::TaskId;
use super::{Fault, Kernel};
use crate::abi::{Errno, Pid, SiCode, SigInfo, Signal, Uid};
use crate::rule;
use crate::syscall::{self, QueuedInfo, Ret};

impl Kernel {
    pub(super) fn kill(
        &mut self,
        caller: TaskId,
        pid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        match pid {
            1.. => self.kill_process(caller, pid, sig, fx),
            0 => {
                fx.obey(rule!("KILL-02"));
                self.kill_group(caller, Some(self.processes[caller.process].group), sig, fx)
            }
            -1 => self.kill_all(caller, sig, fx),
            i32::MIN => refuse(fx, rule!("KILL-05"), Errno::ESRCH),
            _ => {
                fx.obey(rule!("KILL-04"));
                let group = self.numbers.get(pid.unsigned_abs()).group;
                self.kill_group(caller, group, sig, fx)
            }
        }
    }

    #[inline]
    fn kill_process(
        &mut self,
        caller: TaskId,
        pid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        fx.obey(rule!("KILL-01"));
        let Some(target) = self.process_numbered(pid) else {
            // KILL-06: before the signal is looked at
            return refuse(fx, rule!("KILL-06"), Errno::ESRCH);
        };
        let info = self.info_to_send(caller, sig, fx)?;
        let cred = *self.cred(caller);
        self.kill_one(caller, &cred, target, info.as_ref(), fx)?;
        Ok(0)
    }

    /// What a signal of the caller brings with it, the same for all whom it is sent to; `None`
    /// for 0, which is no signal.
    // its result by way of memory would take as long as the rest of a call
    #[inline(always)]
    fn info_to_send(
        &self,
        caller: TaskId,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<Option<SigInfo>, Errno> {
        let signal = check_signal(sig, fx)?;
        Ok(signal.map(|signal| self.sender_info(caller, signal)))
    }

    /// kill() to one process, zombies included (ZOM-09). The users of the caller are the same for
    /// all whom it kills.
    #[inline(always)]
    fn kill_one(
        &mut self,
        caller: TaskId,
        cred: &Cred,
        target: Id<Process>,
        info: Option<&SigInfo>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        self.may_kill(caller, cred, target, info.map(|info| info.signal), fx)?;
        let Some(info) = info else {
            fx.obey(rule!("KILL-08"));
            return Ok(());
        };
        if target == caller.process {
            fx.obey(rule!("KILL-34"));
            fx.obey(rule!("KILL-17"));
        }
        fx.obey(rule!("CRED-04"));
        self.generate(TaskId::leader(target), info, Origin::user(rule!("KILL-27")), fx)
    }

    /// All members, the most recent first (KILL-13).
    fn kill_group(
        &mut self,
        caller: TaskId,
        group: Option<Id<Group>>,
        sig: i32,
        fx: &mut Effects,
    ) -> Result<i64, Errno> {
        let Some(group) = group else { return Err(Errno::ESRCH) };
        // KILL-09, KILL-07: what is no signal is so to each member
        fx.obey(rule!("KILL-09"));
        let info = self.info_to_send(caller, sig, fx)?;
        let cred = *self.cred(caller);
        let mut outcome = Err(Errno::ESRCH);
        // ids outlive the loop: generating a signal ends nobody
        let mut next = self.groups[group].newest;
        while let Some(member) = next {
            next = self.processes[member].group_links.next;
            let sent = self.kill_one(caller, &cred, member, info.as_ref(), fx);
            if outcome.is_err() {
                outcome = sent;
            }
        }
        // KILL-09: one success is success
        fx.obey(rule!("KILL-09"));
        outcome.map(|()| 0)
    }

    /// Everyone but the init and the caller, in the order of creation (KILL-13).
    fn kill_all(&mut self, caller: TaskId, sig: i32, fx: &mut Effects) -> Result<i64, Errno> {
        fx.obey(rule!("KILL-03"));
        let targets: Vec<Id<Process>> = self
            .all()
            .filter(|id| *id != caller.process && self.processes[*id].pid > Pid(1))
            .collect();
        if targets.is_empty() {
            fx.obey(rule!("KILL-12"));
            return refuse(fx, rule!("KILL-10"), Errno::ESRCH);
        }
        let info = self.info_to_send(caller, sig, fx)?;
        let cred = *self.cred(caller);
        let mut outcome = Ok(0);
        for target in targets {
            if self.processes[target].is_zombie() {
                fx.obey(rule!("KILL-11"));
            }
            match self.kill_one(caller, &cred, target, info.as_ref(), fx) {
                // KILL-10: forgotten
                Err(Errno::EPERM) if !self.faulty(Fault::KillAllReportsEperm) => {
                    fx.obey(rule!("KILL-10"));
                }
                Err(errno) => outcome = Err(errno),
                Ok(()) => outcome = Ok(0),
            }
        }
        outcome
    }

    /// tkill and tgkill.
    pub(super) fn tgkill(
        &mut self,
        caller: TaskId,
        tgid: Option<i32>,
        tid: i32,
        sig: i32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("KILL-30"));
        if tid <= 0 || tgid.is_some_and(|tgid| tgid <= 0) {
            return Err(Errno::EINVAL);
        }
        let Some(target) = self.any_task_numbered(Pid(tid as u32)) else {
            return Err(Errno::ESRCH);
        };
        let process = &self.processes[target.process];
        if tgid.is_some_and(|tgid| process.pid.0 as i32 != tgid) {
            return Err(Errno::ESRCH);
        }
        let signal = check_signal(sig, fx)?;
        self.may_kill(caller, self.cred(caller), target.process, signal, fx)?;
        if let Some(signal) = signal {
            fx.obey(rule!("KILL-27"));
            let info = SigInfo { code: SiCode::TKILL, ..self.sender_info(caller, signal) };
            let origin = Origin { private: true, ..Origin::user(rule!("KILL-30")) };
            self.generate(target, &info, origin, fx)?;
        }
        Ok(Ret::Value(0))
    }

    pub(super) fn sigqueueinfo(
        &mut self,
        caller: TaskId,
        pid: i32,
        sig: i32,
        info: Option<QueuedInfo>,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("KILL-31"));
        let info = info.ok_or(Errno::EFAULT)?;
        let own = self.thread(caller).tid.0 as i32;
        if (info.code >= 0 || info.code == SiCode::TKILL.0) && pid != own {
            return Err(Errno::EPERM);
        }
        let Some(target) = self.process_numbered(pid) else { return Err(Errno::ESRCH) };
        if self.processes[target].is_zombie() {
            fx.obey(rule!("KILL-33"));
        }
        let signal = check_signal(sig, fx)?;
        // a record that claims to be the kernel's passes without a look at the users
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
        // KILL-22: what says that it is the kernel's reaches an init like the kernel's own
        let force = info.code == SiCode::KERNEL;
        let origin = Origin { force, ..Origin::user(rule!("KILL-31")) };
        self.generate(TaskId::leader(target), &info, origin, fx)?;
        Ok(Ret::Value(0))
    }

    /// EPERM if the caller may not send `signal` to `target` (KILL-16 to KILL-19).
    #[inline(always)]
    pub(super) fn may_kill(
        &self,
        caller: TaskId,
        cred: &Cred,
        target: Id<Process>,
        signal: Option<Signal>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if caller.process == target {
            return Ok(());
        }
        fx.obey(rule!("KILL-16"));
        fx.obey(rule!("CRED-02"));
        if cred.may_signal(&self.processes[target].leader.cred) {
            return Ok(());
        }
        self.may_kill_stranger(caller, target, signal, fx)
    }

    /// A process of another user gets nothing but SIGCONT, within the session.
    #[cold]
    fn may_kill_stranger(
        &self,
        caller: TaskId,
        target: Id<Process>,
        signal: Option<Signal>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if signal == Some(Signal::CONT) {
            fx.obey(rule!("KILL-18"));
            if self.session_of(target) == self.session_of(caller.process) {
                return Ok(());
            }
        }
        if self.processes[target].is_zombie() {
            fx.obey(rule!("KILL-19"));
        }
        refuse(fx, rule!("KILL-16"), Errno::EPERM)
    }
}

/// KILL-06, KILL-07: EINVAL for a number that is no signal; 0 is "no signal" (KILL-08).
fn check_signal(sig: i32, fx: &mut Effects) -> Result<Option<Signal>, Errno> {
    match Signal::new(sig) {
        None if sig != 0 => refuse(fx, rule!("KILL-07"), Errno::EINVAL),
        signal => Ok(signal),
    }
}
