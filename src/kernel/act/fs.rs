//! Umask and working directory, and the tasks that share them (CLONE_FS).

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::abi::Errno;
use crate::kernel::Kernel;
use crate::kernel::api::effect::Effects;
use crate::kernel::api::effect::refuse;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{Fs, FsHolder};
use crate::kernel::state::task::Task;
use crate::rule;
use crate::syscall::{self, Ret, clone};

impl Kernel {
    pub(in crate::kernel) fn umask(
        &mut self,
        caller: Id<Task>,
        mask: u32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("MISC-01"));
        let before = self.fs_of(caller).umask;
        if before != mask & 0o777 {
            self.change_fs(caller, |fs| fs.umask = mask & 0o777);
        }
        Ok(Ret::Value(i64::from(before)))
    }

    pub(in crate::kernel) fn chdir(
        &mut self,
        caller: Id<Task>,
        path: &Arc<str>,
        error: Option<Errno>,
        fx: &mut Effects,
    ) -> syscall::Result {
        if let Some(errno) = error {
            return refuse(fx, rule!("MISC-02"), errno);
        }
        self.change_fs(caller, |fs| fs.cwd = path.clone());
        Ok(Ret::Value(0))
    }

    /// The umask and the working directory of a task.
    pub(in crate::kernel) fn fs_of(&self, task: Id<Task>) -> &Fs {
        let task = &self.tasks[task];
        match &task.own_fs {
            Some(fs) => fs,
            None => self.processes[task.process].fs(),
        }
    }

    /// The holder of the umask and the working directory of a task.
    pub(in crate::kernel) fn fs_holder(&self, task: Id<Task>) -> FsHolder {
        match self.tasks[task].own_fs {
            Some(_) => FsHolder::Task(task),
            None => FsHolder::Process(self.process_of(task)),
        }
    }

    /// Gives the task a umask and a working directory of its own. O(tasks that share them).
    pub(in crate::kernel) fn unshare_fs(&mut self, task: Id<Task>) {
        let holder = self.fs_holder(task);
        if let FsHolder::Process(process) = holder
            && !self.processes[process].is_single()
        {
            let own = self.fs_of(task).clone();
            self.tasks[task].own_fs = Some(Box::new(own));
        } else {
            self.fs_shares.leave(holder);
        }
    }

    fn fs_mut(&mut self, holder: FsHolder) -> Option<&mut Fs> {
        match holder {
            FsHolder::Process(process) => Some(&mut self.processes[process].inherited_mut().fs),
            FsHolder::Task(task) => self.tasks[task].own_fs.as_deref_mut(),
        }
    }

    /// Changes umask or working directory, also for the tasks that share them (CLONE_FS). O(these
    /// tasks).
    fn change_fs(&mut self, caller: Id<Task>, change: impl FnOnce(&mut Fs)) {
        let holder = self.fs_holder(caller);
        if let Some(fs) = self.fs_mut(holder) {
            change(fs);
        }
        if self.fs_shares.sharing_with(holder).is_empty() {
            return;
        }
        let changed = self.fs_of(caller).clone();
        for other in self.fs_shares.sharing_with(holder).to_vec() {
            if let Some(fs) = self.fs_mut(other) {
                fs.clone_from(&changed);
            }
        }
    }

    /// unshare, for the attributes that the model has (TG-20, TG-21): a new mount, network or other
    /// namespace changes nothing that the model shows.
    pub(in crate::kernel) fn unshare(
        &mut self,
        caller: Id<Task>,
        flags: u64,
        fx: &mut Effects,
    ) -> syscall::Result {
        const NAMESPACES: u64 = clone::OTHER_NAMESPACES | clone::NEWTIME;
        const PARTS: u64 =
            clone::THREAD | clone::FS | clone::SIGHAND | clone::VM | clone::FILES | clone::SYSVSEM;
        if flags & (clone::NEWPID | clone::NEWUSER) != 0 {
            // the model does not create these namespaces
            return Err(Errno::ENOSYS);
        }
        if flags & !(PARTS | NAMESPACES) != 0 {
            return refuse(fx, rule!("TG-21"), Errno::EINVAL);
        }
        let process = self.process_of(caller);
        let single = self.processes[process].is_single();
        let shares_handlers = self.sighands[self.processes[process].sighand].is_shared();
        let shares_memory = !self.memory_shares.sharing_with(process).is_empty();
        let of_group = clone::THREAD | clone::SIGHAND | clone::VM;
        if flags & of_group != 0 && !single
            || flags & (clone::SIGHAND | clone::VM) != 0 && shares_handlers
            || flags & clone::VM != 0 && shares_memory
        {
            return refuse(fx, rule!("TG-21"), Errno::EINVAL);
        }
        if flags & NAMESPACES != 0 && !self.cred(caller).capable {
            return Err(Errno::EPERM);
        }
        if flags & (clone::FS | clone::NEWNS) != 0 {
            fx.obey(rule!("TG-20"));
            self.unshare_fs(caller);
        }
        Ok(Ret::Value(0))
    }
}
