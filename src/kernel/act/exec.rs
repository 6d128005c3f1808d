//! execve: its effects on the process.

use alloc::vec::Vec;

use crate::abi::{Errno, SiCode, SigInfo, Signal};
use crate::kernel::api::effect::{Consequence, Effects};
use crate::kernel::state::arena::Id;
use crate::kernel::state::cred::Cred;
use crate::kernel::state::process::{FsHolder, Process};
use crate::kernel::state::task::{Sleep, Task};
use crate::kernel::{Kernel, Property};
use crate::rule;
use crate::syscall::{self, Ret};

impl Kernel {
    /// execve; `None` if the caller sleeps until the other threads have ended.
    pub(in crate::kernel) fn execve(
        &mut self,
        caller: Id<Task>,
        error: Option<Errno>,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        // EXEC-17 comes before the file is looked at
        if let Err(errno) = self.may_exec(caller, fx) {
            return Some(Err(errno));
        }
        if let Some(errno) = error {
            // TG-111: nobody has ended yet
            fx.obey(rule!("EXEC-18"));
            return Some(Err(errno));
        }
        let process = self.process_of(caller);
        if self.processes[process].is_single() {
            return self.execute(caller, fx);
        }
        fx.obey_all(&[rule!("EXEC-11"), rule!("TG-23"), rule!("TG-107"), rule!("TG-108")]);
        self.set_executing(process, Some(caller));
        self.kill_threads(process, Some(caller));
        self.tasks[caller].sleep = Sleep::Exec;
        // TG-110: of a leader that has ended already nothing is left to wait for; the call returns
        // under its number
        if self.others_have_ended(caller) {
            fx.obey(rule!("EXEC-12"));
            fx.obey(rule!("TG-110"));
        }
        self.go_on_executing(caller, fx);
        None
    }

    /// A task has ended while another one of its process executes a program: perhaps it can go on.
    pub(in crate::kernel) fn wake_executing(&mut self, process: Id<Process>) {
        if let Some(task) = self.executing_task(process)
            && self.others_have_ended(task)
        {
            self.enqueue_task(task);
        }
    }

    /// A task that executes a program was woken: it goes on if the others have ended.
    pub(in crate::kernel) fn go_on_executing(&mut self, task: Id<Task>, fx: &mut Effects) {
        if self.others_have_ended(task)
            && let Some(result) = self.take_over(task, fx)
        {
            self.return_later(task, result, rule!("EXEC-07"), fx);
        }
    }

    /// The other threads have ended, also those in vfork or in a wait (TG-112, TG-123): the caller
    /// takes the leader's place (EXEC-12, de_thread). Of two that execute one is ended (TG-113), a
    /// group exit ends both (TG-114), and other signals wait (TG-118, TG-122).
    fn take_over(&mut self, caller: Id<Task>, fx: &mut Effects) -> Option<syscall::Result> {
        let process = self.process_of(caller);
        self.tasks[caller].sleep = Sleep::None;
        self.set_executing(process, None);
        let leader = self.leader(process);
        if leader != caller {
            fx.obey_all(&[
                rule!("EXEC-13"),
                rule!("TG-104"),
                rule!("TG-105"),
                rule!("TG-106"),
                rule!("TG-121"),
            ]);
            // TG-105
            self.drop_private_signals(leader);
            self.discharge_task(self.tasks[leader].cred.real);
            fx.push_with(self.task_subject(caller), rule!("EXEC-11"), || Consequence::ThreadEnded);
            self.replace_leader(caller);
        }
        self.execute(caller, fx)
    }

    /// The only thread of a process executes a program. Whose child it is does not change (TG-109),
    /// and the lists of its own threads' children are one (TG-144, TG-173). `None` if others run
    /// before it is another program.
    fn execute(&mut self, caller: Id<Task>, fx: &mut Effects) -> Option<syscall::Result> {
        let id = self.process_of(caller);
        if self.processes[id].is_clone_child() {
            // TG-115
            self.unindex_child(id);
            self.processes[id].exit_signal = Signal::CHLD.number();
            self.index_child(id);
        }
        // TG-101: its own word stays, unless another process shares the memory
        self.clear_child_tid(caller, true, fx);
        self.memory_shares.leave(id);
        fx.obey(rule!("EXEC-19"));
        let in_vfork = self.tasks[caller].vfork_waiter.is_some();
        self.release_vfork(caller, fx);
        if in_vfork && self.others_may_run() {
            fx.obey(rule!("RACE-06"));
            self.tasks[caller].sleep = Sleep::Loading;
            self.enqueue_first(caller);
            return None;
        }
        Some(self.finish_exec(caller, fx))
    }

    /// The part of execve after the old memory is gone (begin_new_exec).
    pub(in crate::kernel) fn finish_exec(
        &mut self,
        caller: Id<Task>,
        fx: &mut Effects,
    ) -> syscall::Result {
        let id = self.process_of(caller);
        self.change_dispositions(caller, fx);
        if let Some(fs) = self.tasks[caller].own_fs.take() {
            // TG-119
            fx.obey(rule!("TG-119"));
            self.processes[id].inherited_mut().fs = *fs;
            self.fs_shares.replace(FsHolder::Task(caller), FsHolder::Process(id));
        }
        fx.obey_all(&[
            rule!("EXEC-03"),
            rule!("EXEC-04"),
            rule!("EXEC-08"),
            rule!("EXEC-10"),
            rule!("EXEC-14"),
        ]);
        // LSM_UNSAFE_SHARE (TG-124): another process could change the working directory meanwhile
        let shared = !self.fs_shares.sharers(self.fs_holder(caller)).is_empty();
        let downgrade = shared && !self.config.version.has(Property::SharedExecKeepsUser);
        self.change_image(caller, downgrade);
        let pending = self.processes[id].shared.set() | self.tasks[caller].pending.set();
        if !pending.is_empty() {
            self.drop_timer_signals(caller, fx);
        }
        fx.push_with(self.subject(id), rule!("EXEC-07"), || Consequence::Executed);
        Ok(Ret::Value(0))
    }

    /// The new program begins outside of any handler, with the mask and the pending signals of the
    /// thread that executed it (EXEC-03, TG-105), and with the users that execve gives it.
    fn change_image(&mut self, caller: Id<Task>, downgrade: bool) {
        let thread = &mut self.tasks[caller];
        thread.frames.clear();
        let old = thread.cred;
        // CRED-01: CAP_SETUID keeps what the kernel takes for a set-user-ID program's
        let kept =
            if downgrade && !old.capable { Cred { effective: old.real, ..old } } else { old };
        thread.cred = kept.after_exec();
        if old.effective != old.real {
            thread.pdeath_signal = None;
        }
        let process = &mut self.processes[thread.process];
        process.exec_count = process.exec_count.wrapping_add(1);
        // EXEC-15: the other marks stay
        process.flags.executed = true;
        process.flags.dumpable = kept.effective == kept.real;
    }

    /// EXEC-05: what is pending of POSIX timers goes with them. Their records are told by their
    /// code, which others may have queued, too.
    fn drop_timer_signals(&mut self, caller: Id<Task>, fx: &mut Effects) {
        let mut users = Vec::new();
        let task = &mut self.tasks[caller];
        for pending in [&mut self.processes[task.process].shared, &mut task.pending] {
            let is_timer = |info: &SigInfo| info.code == SiCode::TIMER;
            pending.drop_records(is_timer, |queued| users.push(queued.charged));
        }
        if !users.is_empty() {
            fx.obey(rule!("EXEC-05"));
        }
        self.discharge_all_queued(users);
    }

    /// Handlers are gone with the old program (TG-117). Dispositions that were shared become the
    /// process's own (EXEC-16, TG-120)
    fn change_dispositions(&mut self, caller: Id<Task>, fx: &mut Effects) {
        fx.obey(rule!("EXEC-01"));
        fx.obey(rule!("EXEC-02"));
        let process = self.process_of(caller);
        let id = self.processes[process].sighand;
        let sighand = &mut self.sighands[id];
        if !sighand.is_shared() {
            return sighand.reset_for_exec();
        }
        fx.obey(rule!("EXEC-16"));
        sighand.unshare();
        let mut own = sighand.copy();
        own.reset_for_exec();
        self.processes[process].sighand = self.sighands.insert(own);
    }
}
