//! The end of a task, and of its process with the last task: the consequences for its children, its
//! group, its parent and its number.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::abi::{SigInfo, SigSet, Signal, WaitStatus};
use crate::kernel::api::effect::{Consequence, Effects};
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{FsHolder, Life, Process};
use crate::kernel::state::task::{Notifying, Sleep, Task, TaskState};
use crate::kernel::{Fault, Kernel, Property, Rule};
use crate::rule;
use crate::syscall::{self, Ret};

impl Kernel {
    /// exit: the calling thread ends, and the process ends with its last thread.
    pub(in crate::kernel) fn exit_thread(
        &mut self,
        task: Id<Task>,
        status: WaitStatus,
        fx: &mut Effects,
    ) {
        let id = self.process_of(task);
        if self.has_fault(Fault::DeadLeaderEndsProcess) && self.leader(id) == task {
            return self.exit_group(task, status, fx);
        }
        self.exit(task, status, fx);
    }

    /// exit_group: the process ends with `status`, unless it already has to end (TG-90).
    pub(in crate::kernel) fn exit_group(
        &mut self,
        task: Id<Task>,
        status: WaitStatus,
        fx: &mut Effects,
    ) {
        let id = self.process_of(task);
        let process = &self.processes[id];
        if !process.is_single()
            && matches!(process.life, Life::Alive(_))
            && self.executing_task(id).is_none()
        {
            fx.obey_all(&[rule!("EXIT-07"), rule!("THR-02"), rule!("TG-84"), rule!("TG-90")]);
            self.set_life(id, Life::Dying(status));
            self.kill_threads(id, Some(task));
        }
        self.exit(task, status, fx);
    }

    /// Ends the task. The process ends with `status` (its low 8 bits, TG-102) if the task is the
    /// last one that begins to exit and no other status is set (TG-89). EXIT-11 is the order.
    pub(in crate::kernel) fn exit(&mut self, task: Id<Task>, status: WaitStatus, fx: &mut Effects) {
        fx.obey(rule!("EXIT-11"));
        let id = self.process_of(task);
        let last = self.begin_exit_of(task);
        let lost = self.has_fault(Fault::LastThreadsStatusIsLost) && self.leader(id) != task;
        let status = if lost { WaitStatus::exited(0) } else { status };
        if self.leader(id) == task {
            self.note_leader_status(id, status);
        }
        if last && matches!(self.processes[id].life, Life::Alive(_)) {
            if self.processes[id].threads.is_some() {
                fx.obey_all(&[rule!("EXIT-10"), rule!("THR-02"), rule!("TG-89")]);
            }
            let decides = self.config.version.has(Property::LastThreadDecides);
            let status = if decides { status } else { self.leader_status(id, status) };
            self.set_life(id, Life::Dying(status));
        }
        self.leave_signals(task, fx);
        self.leave_user_mode_for_good(task, last, fx);
        // the task releases its memory before the kernel notifies any process of the end
        let in_vfork = self.tasks[task].vfork_waiter.is_some();
        self.release_vfork(task, fx);
        if self.others_may_run() {
            fx.obey(rule!("RACE-01"));
        }
        if in_vfork || self.others_may_run() || self.may_be_preempted(task) {
            // other tasks may run first and find this task alive: it has left its call, and its
            // children still have it as their parent
            self.tasks[task].sleep = Sleep::Exiting { last };
            self.enqueue_task(task);
        } else {
            self.continue_exit(task, last, fx);
        }
    }

    /// Whether other tasks run before the second part of this exit, and can observe the cut. Only a
    /// child can: this task does not wait for it any more. A child of another thread counts,
    /// because this task does not adopt it any more. With [`Property::ExitIsPreempted`] other tasks
    /// always run first.
    fn may_be_preempted(&self, task: Id<Task>) -> bool {
        !self.queue.is_empty()
            && (self.config.version.has(Property::ExitIsPreempted)
                || self.children(task).next().is_some()
                || self.has_child_of_thread(self.process_of(task)))
    }

    fn has_child_of_thread(&self, id: Id<Process>) -> bool {
        !self.processes[id].is_single()
            && self.tasks_of(id).any(|thread| self.children(thread).next().is_some())
    }

    /// The part of an exit that other tasks observe.
    pub(in crate::kernel) fn continue_exit(
        &mut self,
        task: Id<Task>,
        last: bool,
        fx: &mut Effects,
    ) {
        self.tasks[task].sleep = Sleep::None;
        if last {
            self.leave_terminal_at_exit(task, fx);
        }
        if !self.reaper_ends(task, last, fx) {
            self.finish_exit(task, last, fx);
        }
    }

    /// Offers the shared signals that the task does not take any more to the other threads
    /// (exit_signals, TG-46, TG-96), and counts the task as stopped (TG-139).
    fn leave_signals(&mut self, task: Id<Task>, fx: &mut Effects) {
        let id = self.process_of(task);
        if self.processes[id].is_single() || matches!(self.processes[id].life, Life::Dying(_)) {
            return;
        }
        if self.tasks[task].signal_pending {
            let unblocked = !self.tasks[task].mask;
            self.offer_shared(task, unblocked, fx);
        }
        if core::mem::take(&mut self.tasks[task].stop_pending) {
            fx.obey(rule!("JOB-16"));
            fx.obey(rule!("TG-139"));
            let signal = self.stop_signal(id);
            self.count_stopped(task, signal, fx);
        }
    }

    /// From here on the task takes no signal and sleeps in no call. The last task of a process
    /// cancels the timer (EXIT-14).
    fn leave_user_mode_for_good(&mut self, task: Id<Task>, last: bool, fx: &mut Effects) {
        let id = self.process_of(task);
        if last {
            // TG-66
            self.cancel_itimer(id);
            self.fs_shares.leave(FsHolder::Process(id));
        }
        if self.tasks[task].own_fs.is_some() {
            self.fs_shares.leave(FsHolder::Task(task));
        }
        self.clear_child_tid(task, last, fx);
        if last {
            self.memory_shares.leave(id);
        }
        if let Sleep::Terminal(_) = self.tasks[task].sleep {
            self.abort_in_terminal(task);
        }
        if let Sleep::Poll(_) = self.tasks[task].sleep {
            self.leave_poll(task);
        }
        self.cancel_timeout(task);
        let thread = &mut self.tasks[task];
        thread.sleep = Sleep::None;
        thread.saved_mask = None;
        thread.frames.clear();
        thread.signal_pending = false;
        thread.result = None;
        self.dequeue_task(task);
        if self.config.version.has(Property::EndedFreeRecords) {
            self.drop_private_signals(task);
        }
    }

    /// LIM-07: frees the records of the task's private signals. Those of a leader, and those of the
    /// process, stay until the process is reaped.
    pub(in crate::kernel) fn drop_private_signals(&mut self, task: Id<Task>) {
        if self.tasks[task].pending.set().is_empty() {
            return;
        }
        let mut charged = Vec::new();
        self.tasks[task].pending.flush(SigSet::FULL, |queued| charged.push(queued.charged));
        self.discharge_all_queued(charged);
    }

    /// set_tid_address (TG-12).
    pub(in crate::kernel) fn set_tid_address(
        &mut self,
        caller: Id<Task>,
        address: u64,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("TG-12"));
        let task = &mut self.tasks[caller];
        task.clear_child_tid = address;
        Ok(Ret::Value(i64::from(self.tid_of(caller).0)))
    }

    /// TG-11: stores 0 at the address that the task has set, if another task can see that.
    pub(in crate::kernel) fn clear_child_tid(
        &mut self,
        task: Id<Task>,
        last: bool,
        fx: &mut Effects,
    ) {
        let address = core::mem::take(&mut self.tasks[task].clear_child_tid);
        if address == 0 {
            return;
        }
        if !last || !self.memory_shares.sharing_with(self.process_of(task)).is_empty() {
            fx.push_with(self.task_subject(task), rule!("TG-11"), || {
                Consequence::TidCleared(address)
            });
        }
    }

    /// A core dump ends all processes that share the memory, on kernels without
    /// [`Property::CoreEndsOneProcess`] (EXIT-17).
    pub(in crate::kernel) fn end_memory_sharing_processes(
        &mut self,
        dumping: Id<Process>,
        signal: Signal,
        fx: &mut Effects,
    ) {
        let spares = self.config.version.has(Property::CoreEndsOneProcess);
        if spares || !self.processes[dumping].flags.dumpable {
            return;
        }
        let sharing = self.memory_shares.sharing_with(dumping).to_vec();
        for other in sharing.into_iter().filter(|other| *other != dumping) {
            if matches!(self.processes[other].life, Life::Alive(_)) {
                fx.obey(rule!("EXIT-17"));
                self.begin_group_exit(other, WaitStatus::killed(signal, false), fx);
            }
        }
    }

    /// Gives the children another parent; the process becomes a zombie with its last task. A thread
    /// that is not the leader is removed (TG-86), a leader stays (TG-87).
    pub(in crate::kernel) fn finish_exit(&mut self, task: Id<Task>, last: bool, fx: &mut Effects) {
        let children: Vec<Id<Process>> = self.children(task).collect();
        if children.is_empty() {
            return self.notify_of_end(task, last, Vec::new(), fx);
        }
        let process = self.process_of(task);
        if let Some(thread) = self.first_living_task(process) {
            self.hand_over(task, &children, thread, fx);
            return self.notify_of_end(task, last, Vec::new(), fx);
        }
        let reaper = self.find_reaper(process, fx);
        let children = children.into_iter().rev().collect();
        let notifying = Notifying { last, reaper, children, unwanted: Vec::new() };
        self.give_children_away(task, notifying, fx);
    }

    /// The second part of an exit that was cut (RACE-03). No other task has changed the lists of
    /// tasks since the first part.
    pub(in crate::kernel) fn continue_notifying(&mut self, task: Id<Task>, fx: &mut Effects) {
        match core::mem::take(&mut self.tasks[task].sleep) {
            Sleep::Notifying(notifying) => {
                self.tasklist.release();
                self.give_children_away(task, *notifying, fx);
            }
            sleep => self.tasks[task].sleep = sleep,
        }
    }

    /// Notifies the parent and the waiting tasks that a task has ended.
    fn notify_of_end(
        &mut self,
        task: Id<Task>,
        last: bool,
        mut unwanted: Vec<(Id<Process>, Rule)>,
        fx: &mut Effects,
    ) {
        let id = self.process_of(task);
        if last {
            self.check_orphaned(id, None, fx);
            fx.obey(rule!("RPT-18"));
        }
        let leader = self.leader(id);
        self.tasks[task].state = TaskState::Dead;
        if task != leader {
            self.release_thread(task, fx);
        } else if !self.processes[id].is_single() {
            fx.obey(rule!("EXIT-09"));
            fx.push_with(self.subject(id), rule!("TG-87"), || Consequence::ThreadEnded);
        }
        let ends = self.tasks[leader].is_dead() && self.processes[id].is_single();
        if ends && task != leader {
            fx.obey_all(&[rule!("ZOM-14"), rule!("CHLD-09"), rule!("TG-97")]);
            if self.config.version.has(Property::ChildSignalTellsProcess) {
                self.forget_leader_status(id);
            }
        }
        if ends && let Some(rule) = self.end_process(id, fx) {
            unwanted.push((id, rule));
        }
        if self.others_may_run() {
            // each one enters the run queue at its front: the last one that enters runs first
            for (child, rule) in unwanted.into_iter().rev() {
                self.release_later(child, rule, fx);
            }
        } else {
            for (child, rule) in unwanted {
                self.reap(child, rule, fx);
            }
        }
        if self.processes.get(id).is_some() {
            self.wake_executing(id);
        }
        self.wake_zapping_init();
    }

    /// The last task of a process has ended. Returns the rule by which the process leaves no
    /// zombie, if there is one.
    fn end_process(&mut self, id: Id<Process>, fx: &mut Effects) -> Option<Rule> {
        let Life::Dying(status) = self.processes[id].life else { return None };
        self.set_life(id, Life::Zombie(status));
        fx.push_with(self.subject(id), rule!("ZOM-01"), || Consequence::Ended(status));
        // NS-08: an init that ends waits for children of both classes
        let zapped = self.is_zapping() && self.parent_of(id) == self.init_process();
        self.notify_parent(id, fx).or(zapped.then_some(rule!("NS-08")))
    }

    /// Removes a thread that has ended and is not the leader (TG-86).
    fn release_thread(&mut self, task: Id<Task>, fx: &mut Effects) {
        let user = self.tasks[task].cred.real;
        fx.obey(rule!("THR-09"));
        fx.push_with(self.task_subject(task), rule!("TG-86"), || Consequence::ThreadEnded);
        self.drop_private_signals(task);
        self.discharge_task(user);
        self.remove_thread(task);
    }

    /// Sends SIGCHLD, or the exit signal with which the child was created, and wakes the waiting
    /// tasks. Returns the rule by which the child leaves no zombie, if there is one.
    fn notify_parent(&mut self, child: Id<Process>, fx: &mut Effects) -> Option<Rule> {
        let process = &self.processes[child];
        let Life::Zombie(status) = process.life else { return None };
        if process.flags.autoreap {
            // ZOM-15: also for an adopter, and for a parent that is not visible
            let parent = process.parent;
            fx.obey(rule!("ZOM-15"));
            fx.obey(rule!("EXIT-16"));
            if let Some(parent) = parent {
                self.wake_waiters(parent, child, fx);
            }
            return Some(rule!("ZOM-15"));
        }
        let parent_task = process.parent?;
        let parent = self.process_of(parent_task);
        // TG-97: the number and the user of the leader
        let (pid, uid) = (self.pid_of(child), self.leader_cred(child).real);
        let mut signal = Signal::new(i32::from(process.exit_signal));
        if process.is_clone_child() {
            if process.parent_exec_count != self.processes[parent].exec_count {
                // EXEC-09: the parent has executed another program since it chose the signal
                fx.obey(rule!("EXEC-09"));
                signal = Some(Signal::CHLD);
            } else {
                fx.obey(if signal.is_none() { rule!("CHLD-10") } else { rule!("FORK-20") });
                fx.obey(rule!("FORK-19"));
            }
        }
        let mut autoreap = None;
        let sighand = &self.sighands[self.processes[parent].sighand];
        if signal == Some(Signal::CHLD) && sighand.reaps_children() {
            // ZOM-05: the disposition at this moment counts; ZOM-06: the mask does not
            let ignored = sighand.ignored().contains(Signal::CHLD);
            autoreap = Some(if ignored { rule!("ZOM-02") } else { rule!("ZOM-03") });
            if ignored {
                fx.obey(rule!("ZOM-06"));
                signal = None;
            }
        } else if sighand.reaps_children() {
            fx.obey(rule!("ZOM-04"));
        }
        if let Some(signal) = signal {
            self.note_child_signal(parent, signal, fx);
            let info = SigInfo::child(signal, pid, uid, self.leader_status(child, status));
            let origin = Origin::user(rule!("CHLD-01"));
            // LIM-08: a real-time exit signal is lost if the user of the parent has too many
            // records
            // TG-60: the target task is the thread that created the child
            let sent = self.generate(self.target_task_of(parent_task), &info, origin, fx);
            debug_assert!(sent.is_ok() || signal.is_realtime());
        }
        fx.obey(rule!("EXIT-16"));
        self.wake_waiters(parent_task, child, fx);
        autoreap
    }

    /// The target task of the signals about a child of `parent`.
    pub(in crate::kernel) fn target_task_of(&self, parent: Id<Task>) -> Id<Task> {
        if self.has_fault(Fault::ChildSignalGoesToLeader) {
            return self.leader(self.process_of(parent));
        }
        parent
    }

    fn note_child_signal(&self, parent: Id<Process>, signal: Signal, fx: &mut Effects) {
        if signal != Signal::CHLD {
            return;
        }
        let sighand = &self.sighands[self.processes[parent].sighand];
        if sighand.is_default(signal) {
            fx.obey(rule!("CHLD-07"));
        }
        fx.obey(rule!("CHLD-04"));
    }

    /// Gives the children of a task to a new parent, which is the target task of their signals from
    /// now on (TG-62, group RPT), and continues the end of the task.
    fn give_children_away(&mut self, father: Id<Task>, mut notifying: Notifying, fx: &mut Effects) {
        let process = self.process_of(father);
        let adopter = notifying.reaper.map(|reaper| self.process_of(reaper));
        let parent = self.parent_of(process);
        while let Some(child) = notifying.children.pop() {
            // one child after the other: when the group of the first child is checked, the other
            // children still have their old parent (RPT-18)
            self.send_pdeath_signals(father, child, fx);
            self.reparent_child(child, notifying.reaper, fx);
            if adopter.is_some() && adopter == parent && self.processes[child].is_zombie() {
                // the adopter receives the father's own SIGCHLD later
                fx.obey(rule!("RPT-10"));
            }
            if let Some(rule) = self.notify_adopter(child, fx) {
                notifying.unwanted.push((child, rule));
            }
            if !self.has_fault(Fault::ParentExitOrphansNoGroup) {
                self.check_orphaned(child, Some(process), fx);
            }
            if self.others_may_run() {
                // other tasks may handle these signals before the next child is reparented
                fx.obey(rule!("RACE-03"));
                self.tasks[father].sleep = Sleep::Notifying(Box::new(notifying));
                self.tasklist.hold();
                return self.enqueue_first(father);
            }
        }
        self.notify_of_end(father, notifying.last, notifying.unwanted, fx);
    }

    /// Gives the children of a thread to another thread of the same process (TG-91). Only the
    /// children can observe that, by their parent-death signals (TG-92). Every thread can reap them
    /// (TG-103), also when the leader has ended (TG-88, TG-146).
    fn hand_over(
        &mut self,
        father: Id<Task>,
        children: &[Id<Process>],
        to: Id<Task>,
        fx: &mut Effects,
    ) {
        fx.obey_all(&[
            rule!("RPT-01"),
            rule!("ORP-17"),
            rule!("THR-07"),
            rule!("TG-91"),
            rule!("TG-94"),
            rule!("TG-143"),
        ]);
        for child in children {
            self.send_pdeath_signals(father, *child, fx);
            self.disown(*child);
            self.adopt(to, *child);
        }
    }

    /// The task that adopts the children of a process that ends: a thread of the nearest subreaper
    /// among its ancestors, else of the init; `None` if the adopter is outside of the model. Costs
    /// the depth of the tree if there is a subreaper.
    fn find_reaper(&self, father: Id<Process>, fx: &mut Effects) -> Option<Id<Task>> {
        if self.subreapers > 0 && !self.has_fault(Fault::SubreaperForgotten) {
            let init = self.init_process();
            let mut next = self.parent_of(father);
            while let Some(ancestor) = next.filter(|ancestor| Some(*ancestor) != init) {
                // TG-95: the first thread of the subreaper that has not begun to end
                if self.processes[ancestor].flags.subreaper
                    && let Some(thread) = self.first_living_task(ancestor)
                {
                    fx.obey(rule!("RPT-02"));
                    fx.obey(rule!("RPT-20"));
                    return Some(thread);
                }
                next = self.parent_of(ancestor);
            }
        }
        // NS-12: the init of the dying process's namespace
        let reaper = self.child_reaper()?;
        fx.obey(rule!("RPT-03"));
        Some(reaper)
    }

    /// RPT-12 to RPT-15: sends each thread of the child the signal that it asked for (TG-93), if
    /// the dying parent may send it.
    fn send_pdeath_signals(&mut self, father: Id<Task>, child: Id<Process>, fx: &mut Effects) {
        if self.has_fault(Fault::PdeathAtProcessEnd)
            && self.first_living_task(self.process_of(father)).is_some()
        {
            return;
        }
        if self.processes[child].is_single() {
            return self.send_pdeath_signal(father, self.leader(child), fx);
        }
        let tasks: Vec<Id<Task>> = self.tasks_of(child).collect();
        fx.obey(rule!("TG-93"));
        for task in tasks {
            self.send_pdeath_signal(father, task, fx);
        }
    }

    fn send_pdeath_signal(&mut self, father: Id<Task>, child: Id<Task>, fx: &mut Effects) {
        let Some(signal) = self.tasks[child].pdeath_signal else { return };
        fx.obey(rule!("RPT-13"));
        if self.may_kill(father, self.cred(father), child, Some(signal), fx).is_err() {
            fx.obey(rule!("RPT-15"));
            return;
        }
        if self.first_living_task(self.process_of(father)).is_some() {
            fx.obey(rule!("TG-92"));
        }
        fx.obey(rule!("RPT-14"));
        let info = self.sender_info(father, signal);
        let origin = Origin { kernel: true, ..Origin::user(rule!("RPT-12")) };
        self.generate_kernel(child, info, origin, fx);
    }

    fn reparent_child(&mut self, child: Id<Process>, to: Option<Id<Task>>, fx: &mut Effects) {
        self.disown(child);
        let outside = self.config.adopter;
        let process = &mut self.processes[child];
        // RPT-08
        process.exit_signal = Signal::CHLD.number();
        fx.obey(rule!("RPT-08"));
        match to {
            Some(reaper) => self.adopt(reaper, child),
            None => {
                process.parent = None;
                process.outside = outside;
            }
        }
        let reaper = to.map_or(outside, |reaper| self.pid_of(self.process_of(reaper)));
        fx.push(self.subject(child), Consequence::Reparented(reaper), rule!("RPT-07"));
    }

    /// Notifies the new parent of a zombie (RPT-09). Returns the rule by which the child leaves no
    /// zombie, if there is one. A stop that no wait has reported stays reportable, without a signal
    /// (RPT-11).
    fn notify_adopter(&mut self, child: Id<Process>, fx: &mut Effects) -> Option<Rule> {
        if self.processes[child].flags.unwanted {
            // its removal is in the run queue already
            return None;
        }
        match self.processes[child].life {
            Life::Zombie(_) => {
                fx.obey(rule!("RPT-09"));
                self.processes[child].parent?;
                self.notify_parent(child, fx)
            }
            Life::Alive(crate::kernel::state::process::JobControl::Stopped { .. }) => {
                fx.obey(rule!("RPT-11"));
                None
            }
            _ => None,
        }
    }

    /// Removes a process that has ended and leaves no zombie, as soon as the lock of the lists of
    /// tasks is free. Until then it keeps its number, its place in its group, and its charge to the
    /// user (RACE-05, RACE-08).
    fn release_later(&mut self, id: Id<Process>, rule: Rule, fx: &mut Effects) {
        fx.obey(rule!("RACE-05"));
        fx.obey(rule!("RACE-08"));
        self.unindex_child(id);
        self.processes[id].flags.unwanted = true;
        self.index_child(id);
        let leader = self.leader(id);
        self.tasks[leader].sleep = Sleep::Releasing(rule);
        self.enqueue_first(leader);
    }

    /// Removes a process that leaves no zombie.
    pub(in crate::kernel) fn release(&mut self, leader: Id<Task>, fx: &mut Effects) {
        if let Sleep::Releasing(rule) = self.tasks[leader].sleep {
            self.reap(self.process_of(leader), rule, fx);
        }
    }

    /// Removes a zombie. Its number is free unless a group or a session still has it (PID-08,
    /// ZOM-12).
    pub(in crate::kernel) fn reap(&mut self, id: Id<Process>, rule: Rule, fx: &mut Effects) {
        self.flush_records(id);
        if self.processes[id].parent.is_some() {
            self.disown(id);
        }
        self.leave_group(id);
        self.remove_from_all(id);
        let user = self.leader_cred(id).real;
        let process = &self.processes[id];
        let (pid, leader, sighand) = (process.pid, process.leader, process.sighand);
        let subject = self.subject(id);
        self.subreapers -= u32::from(process.flags.subreaper);
        self.pids.detach_task(pid);
        self.discharge_task(user);
        self.release_sighand(sighand);
        self.tasks.remove(leader);
        self.processes.remove(id);
        fx.push_with(subject, rule, || Consequence::Reaped);
        self.wake_zapping_init();
    }

    fn flush_records(&mut self, id: Id<Process>) {
        if !self.processes[id].shared.set().is_empty() {
            let mut charged = Vec::new();
            self.processes[id].shared.flush(SigSet::FULL, |queued| charged.push(queued.charged));
            self.discharge_all_queued(charged);
        }
        self.drop_private_signals(self.leader(id));
    }

    fn release_sighand(&mut self, id: Id<crate::kernel::state::sighand::Sighand>) {
        if !self.sighands[id].unshare() {
            self.sighands.remove(id);
        }
    }
}
