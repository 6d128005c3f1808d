//! The set*uid calls and getresuid.

use alloc::vec::Vec;

use crate::abi::{Errno, Uid};
use crate::kernel::api::effect::{Effects, refuse};
use crate::kernel::state::arena::Id;
use crate::kernel::state::cred::Cred;
use crate::kernel::state::task::Task;
use crate::kernel::{Fault, Kernel};
use crate::rule;
use crate::syscall::{self, Ret};

/// The argument of setreuid(2) and setresuid(2) that leaves a user ID unchanged.
const UNCHANGED: u32 = u32::MAX;

impl Kernel {
    pub(in crate::kernel) fn setuid(
        &mut self,
        caller: Id<Task>,
        uid: u32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("CRED-05"));
        let old = *self.cred(caller);
        let user = self.valid_user(uid)?;
        let mut new = old;
        if old.capable {
            (new.real, new.saved) = (user, user);
        } else if user != old.real && user != old.saved {
            return Err(Errno::EPERM);
        }
        new.effective = user;
        self.change_cred(caller, old, new, fx)
    }

    pub(in crate::kernel) fn setreuid(
        &mut self,
        caller: Id<Task>,
        real: u32,
        effective: u32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("CRED-05"));
        let old = *self.cred(caller);
        let mut new = old;
        if real != UNCHANGED {
            new.real = self.valid_user(real)?;
            if !old.capable && ![old.real, old.effective].contains(&new.real) {
                return Err(Errno::EPERM);
            }
        }
        if effective != UNCHANGED {
            new.effective = self.valid_user(effective)?;
            if !old.capable && !old.users().contains(&new.effective) {
                return Err(Errno::EPERM);
            }
        }
        if real != UNCHANGED || effective != UNCHANGED && new.effective != old.real {
            new.saved = new.effective;
        }
        self.change_cred(caller, old, new, fx)
    }

    pub(in crate::kernel) fn setresuid(
        &mut self,
        caller: Id<Task>,
        users: [u32; 3],
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("CRED-05"));
        let old = *self.cred(caller);
        let mut wanted = old.users();
        for (user, number) in wanted.iter_mut().zip(users) {
            if number != UNCHANGED {
                *user = self.valid_user(number)?;
            }
        }
        if !old.capable && wanted.iter().any(|user| !old.users().contains(user)) {
            return Err(Errno::EPERM);
        }
        let [real, effective, saved] = wanted;
        self.change_cred(caller, old, Cred { real, effective, saved, ..old }, fx)
    }

    /// The user `uid`; EINVAL if the user namespace does not map it.
    fn valid_user(&self, uid: u32) -> Result<Uid, Errno> {
        if uid == UNCHANGED || self.config.user_namespace && uid != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Uid(uid))
    }

    fn change_cred(
        &mut self,
        task: Id<Task>,
        old: Cred,
        mut new: Cred,
        fx: &mut Effects,
    ) -> syscall::Result {
        new.adjust(&old);
        if !self.processes[self.process_of(task)].is_single() {
            fx.obey(rule!("CRED-07"));
            fx.obey(rule!("TG-155"));
        }
        if new.effective != old.effective {
            // RPT-17, TG-158
            fx.obey(rule!("RPT-17"));
            self.tasks[task].pdeath_signal = None;
            self.set_dumpable(self.process_of(task), false);
        }
        if new.real != old.real {
            // CRED-06: the new user is charged; LIM-04: the charge never fails
            fx.obey(rule!("CRED-06"));
            self.move_task_charge(task, old.real, new.real, fx);
        }
        self.tasks[task].cred = new;
        if self.has_fault(Fault::UsersAreOfTheProcess) {
            let others: Vec<Id<Task>> = self.tasks_from(task).skip(1).collect();
            for other in others {
                let old = self.tasks[other].cred.real;
                self.move_task_charge(other, old, new.real, fx);
                self.tasks[other].cred = new;
            }
        }
        Ok(Ret::Value(0))
    }

    pub(in crate::kernel) fn getresuid(&self, caller: Id<Task>) -> syscall::Result {
        Ok(Ret::Users(self.cred(caller).users()))
    }

    /// Checks that the caller may change the limits of the process of `target`: it needs
    /// CAP_SYS_RESOURCE, or its real user must be the real, effective and saved user of `target`.
    pub(in crate::kernel) fn may_limit(
        &self,
        caller: Id<Task>,
        target: Id<Task>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let (own, other) = (self.cred(caller), self.cred(target));
        // the kernel also checks a target that is another thread of the caller's process
        if caller == target
            || own.capable && self.config.sys_resource
            || other.users().iter().all(|user| *user == own.real)
        {
            return Ok(());
        }
        refuse(fx, rule!("LIM-13"), Errno::EPERM)
    }
}
