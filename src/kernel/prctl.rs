//! prctl, umask and the working directory.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::Kernel;
use super::arena::Id;
use super::effect::Effects;
use super::group::refuse;
use super::process::{Fs, FsHolder};
use super::task::Task;
use crate::abi::{Errno, Signal};
use crate::rule;
use crate::syscall::{self, Prctl, Ptr, Ret};

impl Kernel {
    pub(super) fn prctl(
        &mut self,
        caller: Id<Task>,
        operation: Prctl,
        fx: &mut Effects,
    ) -> syscall::Result {
        match operation {
            // TG-17: the thread's; TG-16: the process's are the subreaper's mark and dumpability
            Prctl::SetPdeathsig(sig) => {
                fx.obey(rule!("RPT-16"));
                let signal = i32::try_from(sig).ok().and_then(Signal::new);
                if signal.is_none() && sig != 0 {
                    return Err(Errno::EINVAL);
                }
                self.tasks[caller].pdeath_signal = signal;
                Ok(Ret::Value(0))
            }
            Prctl::GetPdeathsig(out) => {
                let signal = self.tasks[caller].pdeath_signal;
                stored(out, signal.map_or(0, |signal| i32::from(signal.number())))
            }
            Prctl::SetChildSubreaper(on) => {
                self.set_subreaper(caller, on != 0, fx);
                Ok(Ret::Value(0))
            }
            Prctl::GetChildSubreaper(out) => {
                fx.obey(rule!("RPT-06"));
                stored(out, i32::from(self.processes[self.process_of(caller)].flags.subreaper))
            }
            Prctl::SetDumpable(value) => {
                if value > 1 {
                    return Err(Errno::EINVAL);
                }
                self.set_dumpable(self.process_of(caller), value == 1);
                Ok(Ret::Value(0))
            }
            Prctl::GetDumpable => {
                Ok(Ret::Value(i64::from(self.processes[self.process_of(caller)].flags.dumpable)))
            }
        }
    }

    fn set_subreaper(&mut self, caller: Id<Task>, on: bool, fx: &mut Effects) {
        let id = self.process_of(caller);
        let has_children = self.tasks_of(id).any(|task| self.children(task).next().is_some());
        let flags = &mut self.processes[id].flags;
        match (flags.subreaper, on) {
            (false, true) => {
                self.subreapers += 1;
                if has_children {
                    fx.obey(rule!("RPT-04"));
                }
            }
            (true, false) => {
                fx.obey(rule!("RPT-05"));
                self.subreapers -= 1;
            }
            _ => {}
        }
        flags.subreaper = on;
    }

    pub(super) fn umask(
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

    pub(super) fn chdir(
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

    /// The umask and the working directory that a task works with.
    pub(super) fn fs_of(&self, task: Id<Task>) -> &Fs {
        let task = &self.tasks[task];
        match &task.own_fs {
            Some(fs) => fs,
            None => self.processes[task.process].fs(),
        }
    }

    /// By whom a task has its umask and its working directory.
    pub(super) fn fs_holder(&self, task: Id<Task>) -> FsHolder {
        match self.tasks[task].own_fs {
            Some(_) => FsHolder::Task(task),
            None => FsHolder::Process(self.process_of(task)),
        }
    }

    /// Umask and working directory become the task's own. O(sharers).
    pub(super) fn unshare_fs(&mut self, task: Id<Task>) {
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

    /// Changes umask or working directory, also of those that share them (CLONE_FS). O(sharers).
    fn change_fs(&mut self, caller: Id<Task>, change: impl FnOnce(&mut Fs)) {
        let holder = self.fs_holder(caller);
        if let Some(fs) = self.fs_mut(holder) {
            change(fs);
        }
        if self.fs_shares.sharers(holder).is_empty() {
            return;
        }
        let changed = self.fs_of(caller).clone();
        for sharer in self.fs_shares.sharers(holder).to_vec() {
            if let Some(fs) = self.fs_mut(sharer) {
                fs.clone_from(&changed);
            }
        }
    }
}

/// An int stored through a pointer.
fn stored(out: Ptr, value: i32) -> syscall::Result {
    match out {
        Ptr::Valid => Ok(Ret::Stored(value)),
        Ptr::Null | Ptr::Bad => Err(Errno::EFAULT),
    }
}
