//! execve: its effects on the process.

use alloc::vec::Vec;

use super::Kernel;
use super::effect::{Consequence, Effects};
use super::process::Process;
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
        self.change_dispositions(caller, fx);
        self.memory_shares.leave(caller.process);
        if self.processes[caller.process].is_clone_child() {
            self.unindex_child(caller.process);
            self.processes[caller.process].exit_signal = Signal::CHLD.number();
            self.index_child(caller.process);
        }
        for rule in [
            rule!("EXEC-03"),
            rule!("EXEC-04"),
            rule!("EXEC-08"),
            rule!("EXEC-10"),
            rule!("EXEC-14"),
        ] {
            fx.obey(rule);
        }
        let process = &mut self.processes[caller.process];
        change_image(process, caller.nth);
        let pid = process.pid;
        let pending = process.shared.set() | process.leader.pending.set();
        if !pending.is_empty() {
            self.drop_timer_signals(caller, fx);
        }
        fx.push_with(pid, rule!("EXEC-07"), || Consequence::Executed);
        fx.obey(rule!("EXEC-19"));
        self.release_vfork(caller.process, fx);
        Ok(Ret::Value(0))
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

    /// Handlers are gone with the old program. Dispositions that were shared become the process's own
    /// (EXEC-16).
    fn change_dispositions(&mut self, caller: TaskId, fx: &mut Effects) {
        fx.obey(rule!("EXEC-01"));
        fx.obey(rule!("EXEC-02"));
        let id = self.processes[caller.process].sighand;
        let sighand = &mut self.sighands[id];
        if !sighand.is_shared() {
            return sighand.reset_for_exec();
        }
        fx.obey(rule!("EXEC-16"));
        sighand.unshare();
        let mut own = sighand.copy();
        own.reset_for_exec();
        self.processes[caller.process].sighand = self.sighands.insert(own);
    }
}

/// The new program begins outside of any handler, with the mask and the pending signals of the old
/// one (EXEC-03), and with the users that execve gives it.
fn change_image(process: &mut Process, nth: u32) {
    process.exec_count = process.exec_count.wrapping_add(1);
    let thread = process.thread_mut(nth);
    thread.frames.clear();
    let old = thread.cred;
    thread.cred = old.after_exec();
    let elevated = old.effective != old.real;
    if elevated {
        thread.pdeath_signal = None;
    }
    // EXEC-15: the other marks stay
    process.flags.executed = true;
    process.flags.dumpable = !elevated;
}
