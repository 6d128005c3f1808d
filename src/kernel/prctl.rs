//! prctl, umask and the working directory.

use alloc::sync::Arc;

use super::Kernel;
use super::arena::Id;
use super::effect::Effects;
use super::group::refuse;
use super::process::{Fs, Process};
use super::thread::TaskId;
use crate::abi::{Errno, Signal};
use crate::rule;
use crate::syscall::{self, Prctl, Ptr, Ret};

impl Kernel {
    pub(super) fn prctl(
        &mut self,
        caller: TaskId,
        operation: Prctl,
        fx: &mut Effects,
    ) -> syscall::Result {
        match operation {
            Prctl::SetPdeathsig(sig) => {
                fx.obey(rule!("RPT-16"));
                let signal = i32::try_from(sig).ok().and_then(Signal::new);
                if signal.is_none() && sig != 0 {
                    return Err(Errno::EINVAL);
                }
                self.thread_mut(caller).pdeath_signal = signal;
                Ok(Ret::Value(0))
            }
            Prctl::GetPdeathsig(out) => {
                let signal = self.thread(caller).pdeath_signal;
                stored(out, signal.map_or(0, |signal| i32::from(signal.number())))
            }
            Prctl::SetChildSubreaper(on) => {
                self.set_subreaper(caller, on != 0, fx);
                Ok(Ret::Value(0))
            }
            Prctl::GetChildSubreaper(out) => {
                fx.obey(rule!("RPT-06"));
                stored(out, i32::from(self.processes[caller.process].flags.subreaper))
            }
            Prctl::SetDumpable(value) => {
                if value > 1 {
                    return Err(Errno::EINVAL);
                }
                self.processes[caller.process].flags.dumpable = value == 1;
                Ok(Ret::Value(0))
            }
            Prctl::GetDumpable => {
                Ok(Ret::Value(i64::from(self.processes[caller.process].flags.dumpable)))
            }
        }
    }

    fn set_subreaper(&mut self, caller: TaskId, on: bool, fx: &mut Effects) {
        let has_children = self.children(caller.process).next().is_some();
        let flags = &mut self.processes[caller.process].flags;
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

    pub(super) fn umask(&mut self, caller: TaskId, mask: u32, fx: &mut Effects) -> syscall::Result {
        fx.obey(rule!("MISC-01"));
        let before = self.processes[caller.process].fs().umask;
        if before != mask & 0o777 {
            self.change_fs(caller, |fs| fs.umask = mask & 0o777);
        }
        Ok(Ret::Value(i64::from(before)))
    }

    pub(super) fn chdir(
        &mut self,
        caller: TaskId,
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

    /// Changes umask or working directory, also of those that share them. O(sharers).
    fn change_fs(&mut self, caller: TaskId, change: impl FnOnce(&mut Fs)) {
        change(&mut self.processes[caller.process].inherited_mut().fs);
        if !self.processes[caller.process].flags.shares_fs {
            return;
        }
        let fs = self.processes[caller.process].fs().clone();
        let share = self.fs_shares.iter().find(|share| share.contains(&caller.process));
        for process in share.into_iter().flatten() {
            self.processes[*process].inherited_mut().fs = fs.clone();
        }
    }

    /// CLONE_FS: the child shares umask and working directory with its creator, and with whom
    /// that shares them already.
    pub(super) fn share_fs(&mut self, creator: Id<Process>, child: Id<Process>) {
        match self.fs_shares.iter_mut().find(|share| share.contains(&creator)) {
            Some(share) => share.push(child),
            None => self.fs_shares.push([creator, child].into()),
        }
        self.processes[creator].flags.shares_fs = true;
        self.processes[child].flags.shares_fs = true;
    }

    /// A process that ends shares nothing any more.
    pub(super) fn unshare_fs(&mut self, id: Id<Process>) {
        if core::mem::take(&mut self.processes[id].flags.shares_fs) {
            for share in &mut self.fs_shares {
                share.retain(|sharer| *sharer != id);
            }
            self.fs_shares.retain(|share| !share.is_empty());
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
