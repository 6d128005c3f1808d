//! execve: its effects on the process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Kernel;
use super::effect::{Consequence, Effects};
use super::thread::TaskId;
use crate::abi::{Errno, SiCode, SigInfo, Signal};
use crate::rule;
use crate::syscall::{self, Ret};

impl Kernel {
    pub(super) fn execve(
        &mut self,
        caller: TaskId,
        error: Option<Errno>,
        fx: &mut Effects,
    ) -> syscall::Result {
        // EXEC-17 comes before the file is looked at
        self.may_exec(caller, fx)?;
        if let Some(errno) = error {
            fx.obey(rule!("EXEC-18"));
            return Err(errno);
        }
        self.unshare_sighand(caller, fx);
        let sighand = self.processes[caller.process].sighand;
        self.sighands[sighand].reset_for_exec();
        fx.obey(rule!("EXEC-01"));
        fx.obey(rule!("EXEC-02"));
        if self.processes[caller.process].is_clone_child() {
            self.unindex_child(caller.process);
            self.processes[caller.process].exit_signal = Signal::CHLD.number();
            self.index_child(caller.process);
        }
        let process = &mut self.processes[caller.process];
        process.exec_count = process.exec_count.wrapping_add(1);
        // EXEC-15: the other marks stay
        process.flags.executed = true;
        fx.obey(rule!("EXEC-08"));
        fx.obey(rule!("EXEC-10"));
        self.change_image(caller, fx);
        self.drop_timer_signals(caller, fx);
        let pid = self.processes[caller.process].pid;
        fx.push_with(pid, rule!("EXEC-07"), || Consequence::Executed);
        fx.obey(rule!("EXEC-19"));
        self.release_vfork(caller.process, fx);
        Ok(Ret::Value(0))
    }

    /// The new program begins outside of any handler, with the mask and the pending signals of
    /// the old one (EXEC-03), and with the users that execve gives it.
    fn change_image(&mut self, caller: TaskId, fx: &mut Effects) {
        fx.obey(rule!("EXEC-03"));
        fx.obey(rule!("EXEC-04"));
        let thread = self.thread_mut(caller);
        thread.frames.clear();
        let old = *thread.cred;
        let new = old.after_exec();
        if new != old {
            thread.cred = Arc::new(new);
        }
        let elevated = old.effective != old.real;
        if elevated {
            thread.pdeath_signal = None;
        }
        fx.obey(rule!("EXEC-14"));
        self.processes[caller.process].flags.dumpable = !elevated;
    }

    /// EXEC-05: what is pending of POSIX timers goes with them. Their records are told by their code,
    /// which others may have queued, too.
    fn drop_timer_signals(&mut self, caller: TaskId, fx: &mut Effects) {
        let mut users = Vec::new();
        let process = &mut self.processes[caller.process];
        for pending in [&mut process.shared, &mut process.leader.pending] {
            let is_timer = |info: &SigInfo| info.code == SiCode::TIMER;
            pending.drop_records(is_timer, |queued| users.push(queued.charged));
        }
        if !users.is_empty() {
            fx.obey(rule!("EXEC-05"));
        }
        self.discharge_all_queued(users);
    }

    /// EXEC-16: dispositions that were shared become the process's own.
    fn unshare_sighand(&mut self, caller: TaskId, fx: &mut Effects) {
        let id = self.processes[caller.process].sighand;
        if self.sighands[id].is_shared() {
            fx.obey(rule!("EXEC-16"));
            self.sighands[id].unshare();
            let copy = self.sighands[id].copy();
            self.processes[caller.process].sighand = self.sighands.insert(copy);
        }
    }
}
