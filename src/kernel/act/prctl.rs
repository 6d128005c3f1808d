//! prctl.

use crate::abi::{Errno, Signal};
use crate::kernel::Kernel;
use crate::kernel::api::effect::Effects;
use crate::kernel::state::arena::Id;
use crate::kernel::state::task::Task;
use crate::rule;
use crate::syscall::{self, Prctl, Ptr, Ret};

impl Kernel {
    pub(in crate::kernel) fn prctl(
        &mut self,
        caller: Id<Task>,
        operation: Prctl,
        fx: &mut Effects,
    ) -> syscall::Result {
        match operation {
            // TG-17: the parent-death signal is the thread's; TG-16: the subreaper flag and the
            // dumpable attribute are the process's
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
}

/// The result of a call that stores an int through a pointer.
fn stored(out: Ptr, value: i32) -> syscall::Result {
    match out {
        Ptr::Valid => Ok(Ret::Stored(value)),
        Ptr::Null | Ptr::Bad => Err(Errno::EFAULT),
    }
}
