//! The checks of resource limits, and prlimit64.

use alloc::sync::Arc;
use core::time::Duration;

use crate::abi::{Errno, Pid, Resource, Rlimit, SigInfo, Signal, Uid};
use crate::kernel::api::effect::{Effects, refuse};
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{Life, Process};
use crate::kernel::state::task::Task;
use crate::kernel::{Kernel, Property, Refused};
use crate::rule;
use crate::syscall::{self, Ptr, Ret};

/// The kernel writes no core below this limit (EXIT-05).
const PAGE: u64 = 4096;

impl Kernel {
    /// Charges a task to another user (CRED-06), and marks the task if that user is over its limit
    /// (LIM-05).
    pub(in crate::kernel) fn move_task_charge(
        &mut self,
        task: Id<Task>,
        from: Uid,
        to: Uid,
        fx: &mut Effects,
    ) {
        // LIM-04, LIM-05: the count does not include the caller yet
        fx.obey(rule!("LIM-04"));
        let (tasks, limit) = (
            u64::from(self.count_of(to).tasks),
            self.soft_limit(self.process_of(task), Resource::NPROC),
        );
        let strict = self.config.version.has(Property::NprocMarkAboveLimit);
        let over = to != Uid::ROOT && (tasks > limit || !strict && tasks == limit);
        self.tasks[task].over_nproc = over;
        self.charge_task(to);
        self.discharge_task(from);
    }

    /// EAGAIN if the caller's user may not have another task (LIM-01).
    pub(in crate::kernel) fn may_fork(
        &self,
        caller: Id<Task>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        let cred = self.cred(caller);
        // LIM-06: the limit of the caller, the count of the user
        let limit = self.soft_limit(self.tasks[caller].process, Resource::NPROC);
        if u64::from(self.count_of(cred.real).tasks) < limit {
            return Ok(());
        }
        if cred.real == Uid::ROOT || cred.capable {
            fx.obey(rule!("LIM-02"));
            return Ok(());
        }
        fx.obey(rule!("LIM-03"));
        fx.obey(rule!("LIM-06"));
        fx.obey(rule!("FORK-33"));
        refuse(fx, rule!("LIM-01"), Errno::EAGAIN)
    }

    /// EAGAIN if a set*uid call left the user over its limit and the user still is over it (LIM-05,
    /// EXEC-17).
    pub(in crate::kernel) fn may_exec(
        &mut self,
        caller: Id<Task>,
        fx: &mut Effects,
    ) -> Result<(), Errno> {
        if !self.tasks[caller].over_nproc {
            return Ok(());
        }
        fx.obey(rule!("LIM-05"));
        let limit = self.soft_limit(self.tasks[caller].process, Resource::NPROC);
        if u64::from(self.count_of(self.cred(caller).real).tasks) > limit {
            return refuse(fx, rule!("EXEC-17"), Errno::EAGAIN);
        }
        self.tasks[caller].over_nproc = false;
        Ok(())
    }

    /// Whether the kernel writes a core when a signal that dumps core ends it (EXIT-05).
    pub(in crate::kernel) fn writes_core(&self, process: Id<Process>) -> bool {
        let dying = &self.processes[process];
        dying.flags.dumpable
            && self.soft_limit(process, Resource::CORE) >= PAGE
            && !self.config.unwritable.iter().any(|path| dying.fs().cwd.starts_with(&**path))
    }

    /// The process has used that CPU time in total, and RLIMIT_CPU acts on it (LIM-15): SIGKILL at
    /// the hard limit, otherwise SIGXCPU at the soft limit, which then becomes the next second. The
    /// model measures no time itself; a later call has a larger total.
    ///
    /// # Errors
    ///
    /// [`Refused::NoSuchTask`] if there is no living process of that number.
    pub fn charge_cpu(
        &mut self,
        pid: Pid,
        total: Duration,
        fx: &mut Effects,
    ) -> Result<(), Refused> {
        let id = self.process_numbered(pid).ok_or(Refused::NoSuchTask(pid))?;
        if !matches!(self.processes[id].life, Life::Alive(_)) {
            return Err(Refused::NoSuchTask(pid));
        }
        let Rlimit { soft, hard } = self.processes[id].limits().get(Resource::CPU);
        let seconds = total.as_secs();
        let reaches = |limit| limit != Rlimit::INFINITY && seconds >= limit;
        let signal = match (reaches(hard), reaches(soft)) {
            (true, _) => Signal::KILL,
            (false, true) => Signal::XCPU,
            (false, false) => return Ok(()),
        };
        fx.begin(Pid(0), None);
        if signal == Signal::XCPU {
            let limits = &mut self.processes[id].inherited_mut().limits;
            Arc::make_mut(limits).set(Resource::CPU, Rlimit { soft: seconds + 1, hard });
        }
        let leader = self.leader(id);
        self.generate_kernel(leader, SigInfo::kernel(signal), Origin::kernel(rule!("LIM-15")), fx);
        Ok(())
    }

    pub(in crate::kernel) fn prlimit(
        &mut self,
        caller: Id<Task>,
        pid: i32,
        resource: Resource,
        new: Option<Rlimit>,
        old: Ptr,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("LIM-13"));
        // TG-18: the number of a thread names its process
        let target = if pid == 0 { caller } else { self.task_named(pid).ok_or(Errno::ESRCH)? };
        self.may_limit(caller, target, fx)?;
        if resource.0 >= Resource::COUNT {
            return Err(Errno::EINVAL);
        }
        let before = self.processes[self.tasks[target].process].limits().get(resource);
        if let Some(new) = new {
            if new.soft > new.hard {
                return Err(Errno::EINVAL);
            }
            let may_raise = self.cred(caller).capable
                && self.config.sys_resource
                && !self.config.user_namespace;
            if new.hard > before.hard && !may_raise {
                return Err(Errno::EPERM);
            }
            let inherited = self.processes[self.tasks[target].process].inherited_mut();
            Arc::make_mut(&mut inherited.limits).set(resource, new);
        }
        match old {
            Ptr::Null => Ok(Ret::Limit(None)),
            Ptr::Valid => Ok(Ret::Limit(Some(before))),
            Ptr::Bad => Err(Errno::EFAULT),
        }
    }
}
