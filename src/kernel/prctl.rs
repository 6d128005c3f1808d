//! prctl, umask and the working directory.

use alloc::sync::Arc;

use super::Kernel;
use super::effect::Effects;
use super::group::refuse;
use super::process::Fs;
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
                self.set_dumpable(caller.process, value == 1);
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

    /// Changes umask or working directory, also of those that share them (CLONE_FS). O(sharers).
    fn change_fs(&mut self, caller: TaskId, change: impl FnOnce(&mut Fs)) {
        change(&mut self.processes[caller.process].inherited_mut().fs);
        if self.fs_shares.sharers(caller.process).is_empty() {
            return;
        }
        let fs = self.processes[caller.process].fs().clone();
        for process in self.fs_shares.sharers(caller.process) {
            self.processes[*process].inherited_mut().fs = fs.clone();
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
