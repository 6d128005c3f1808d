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
        // EXEC-17: the kernel checks the limit before it opens the file
        if let Err(errno) = self.may_exec(caller, fx) {
            return Some(Err(errno));
        }
        if let Some(errno) = error {
            // TG-111: the other threads live on
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
        // TG-110: the caller does not wait for a leader that has already ended; the call returns
        // with the leader's number
        if self.others_have_ended(caller) {
            fx.obey(rule!("EXEC-12"));
            fx.obey(rule!("TG-110"));
        }
        self.continue_exec(caller, fx);
        None
    }

    /// Wakes the task that executes a program if all other tasks of its process have ended.
    pub(in crate::kernel) fn wake_executing(&mut self, process: Id<Process>) {
        if let Some(task) = self.executing_task(process)
            && self.others_have_ended(task)
        {
            self.enqueue_task(task);
        }
    }

    /// Continues execve in a task that was woken, if all other tasks of its process have ended.
    pub(in crate::kernel) fn continue_exec(&mut self, task: Id<Task>, fx: &mut Effects) {
        if self.others_have_ended(task)
            && let Some(result) = self.take_over(task, fx)
        {
            self.return_later(task, result, rule!("EXEC-07"), fx);
        }
    }

    /// Puts the caller in the place of the leader (EXEC-12, de_thread). The other threads have
    /// ended, also threads in vfork or in a wait (TG-112, TG-123). Of two threads that call execve
    /// the kernel ends one (TG-113), a group exit ends both (TG-114), and other signals do not end
    /// the wait for the threads (TG-118, TG-122).
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

    /// Executes a program in the only thread of a process. The parent of the process does not
    /// change (TG-109), and the children of all threads are in one list (TG-144, TG-173). `None` if
    /// other tasks run before the process has the new program.
    fn execute(&mut self, caller: Id<Task>, fx: &mut Effects) -> Option<syscall::Result> {
        let id = self.process_of(caller);
        if self.processes[id].is_clone_child() {
            // TG-115
            self.unindex_child(id);
            self.processes[id].exit_signal = Signal::CHLD.number();
            self.index_child(id);
        }
        // TG-101: the kernel clears the caller's own word only if another process shares the memory
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

    /// The part of execve after the release of the old memory (begin_new_exec).
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
        // LSM_UNSAFE_SHARE (TG-124): another process could change the working directory during
        // execve
        let shared = !self.fs_shares.sharing_with(self.fs_holder(caller)).is_empty();
        let downgrade = shared && !self.config.version.has(Property::SharedExecKeepsUser);
        self.change_image(caller, downgrade);
        let pending = self.processes[id].shared.set() | self.tasks[caller].pending.set();
        if !pending.is_empty() {
            self.drop_timer_signals(caller, fx);
        }
        fx.push_with(self.subject(id), rule!("EXEC-07"), || Consequence::Executed);
        Ok(Ret::Value(0))
    }

    /// Starts the new program outside of any handler, with the mask and the pending signals of the
    /// thread that called execve (EXEC-03, TG-105), and with the users that execve sets.
    fn change_image(&mut self, caller: Id<Task>, downgrade: bool) {
        let thread = &mut self.tasks[caller];
        thread.frames.clear();
        let old = thread.cred;
        // CRED-01: without CAP_SETUID the effective user is reset, as for a set-user-ID program
        let kept =
            if downgrade && !old.capable { Cred { effective: old.real, ..old } } else { old };
        thread.cred = kept.after_exec();
        if old.effective != old.real {
            thread.pdeath_signal = None;
        }
        let process = &mut self.processes[thread.process];
        process.exec_count = process.exec_count.wrapping_add(1);
        // EXEC-15: the other flags stay
        process.flags.executed = true;
        process.flags.dumpable = kept.effective == kept.real;
    }

    /// EXEC-05: drops the pending signals of POSIX timers. They are recognised by their code,
    /// SI_TIMER; signals that a process queued with that code are dropped as well.
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

    /// Resets the handlers of the old program (TG-117). Shared dispositions become the process's
    /// own (EXEC-16, TG-120).
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
