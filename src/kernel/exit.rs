//! The end of a process: what happens to its children, its group, its parent, its number.

use alloc::vec::Vec;

use super::arena::Id;
use super::effect::{Consequence, Effects};
use super::process::{Life, Process};
use super::signal::Origin;
use super::thread::{Sleep, TaskId};
use super::{Fault, Kernel, Property, Rule};
use crate::abi::{SigInfo, SigSet, Signal, WaitStatus};
use crate::rule;

impl Kernel {
    /// The process ends with `status` (EXIT-11 is the order).
    pub(super) fn exit(&mut self, id: Id<Process>, status: WaitStatus, fx: &mut Effects) {
        fx.obey(rule!("EXIT-11"));
        self.leave_user_mode_for_good(id, status);
        // the memory goes before anyone is told
        let in_vfork = self.processes[id].vfork_waiter.is_some();
        self.release_vfork(id, fx);
        if in_vfork || self.may_be_preempted(id) {
            // others may run first, who still find it alive: it has left its call, and its own
            // children are not given away
            self.thread_mut(TaskId::leader(id)).sleep = Sleep::Exiting;
            self.enqueue_task(TaskId::leader(id));
        } else {
            self.go_on_exiting(id, status, fx);
        }
    }

    /// Whether others that run before anyone is told of the end can tell that from their running
    /// before all of it: only children can, who are not waited for any more. Where each exit is
    /// preempted the others run in that order.
    fn may_be_preempted(&self, id: Id<Process>) -> bool {
        let tells = self.config.version.has(Property::ExitIsPreempted)
            || self.children(id).next().is_some();
        tells && !self.queue.is_empty()
    }

    /// The part of an exit that others see.
    pub(super) fn go_on_exiting(&mut self, id: Id<Process>, status: WaitStatus, fx: &mut Effects) {
        self.thread_mut(TaskId::leader(id)).sleep = Sleep::None;
        if self.init == Some(id) && !self.zapping {
            return self.begin_zap(id, fx);
        }
        self.finish_exit(id, status, fx);
    }

    /// From here on the process takes no signal, sleeps in nothing, and has no timer (EXIT-14).
    fn leave_user_mode_for_good(&mut self, id: Id<Process>, status: WaitStatus) {
        self.set_life(id, Life::Dying(status));
        self.cancel_itimer(id);
        self.fs_shares.leave(id);
        self.memory_shares.leave(id);
        self.cancel_timeout(TaskId::leader(id));
        let thread = self.thread_mut(TaskId::leader(id));
        thread.sleep = Sleep::None;
        thread.saved_mask = None;
        thread.frames.clear();
        thread.notified = false;
        self.dequeue_task(TaskId::leader(id));
        // LIM-07: the records of a thread go with it, those of the process when it is reaped
        let mut charged = Vec::new();
        self.thread_mut(TaskId::leader(id))
            .pending
            .flush(SigSet::FULL, |queued| charged.push(queued.charged));
        self.discharge_all_queued(charged);
    }

    /// A core dump ends all that share the memory, where the kernel does not spare them (EXIT-17).
    pub(super) fn end_sharers(&mut self, dumping: Id<Process>, signal: Signal, fx: &mut Effects) {
        let spares = self.config.version.has(Property::CoreSparesSharers);
        if spares || !self.processes[dumping].flags.dumpable {
            return;
        }
        let sharers = self.memory_shares.sharers(dumping).to_vec();
        for sharer in sharers.into_iter().filter(|sharer| *sharer != dumping) {
            if matches!(self.processes[sharer].life, Life::Alive(_)) {
                fx.obey(rule!("EXIT-17"));
                self.begin_group_exit(sharer, WaitStatus::killed(signal, false), fx);
            }
        }
    }

    fn finish_exit(&mut self, id: Id<Process>, status: WaitStatus, fx: &mut Effects) {
        let mut reaped = self.forget_children(id, fx);
        self.check_orphaned(id, None, fx);
        fx.obey(rule!("RPT-18"));
        self.set_life(id, Life::Zombie(status));
        let pid = self.processes[id].pid;
        fx.push_with(pid, rule!("ZOM-01"), || Consequence::Ended(status));
        let zapped = self.zapping && self.processes[id].parent == self.init;
        // NS-08: an init that ends waits for children of both classes
        if self.notify_parent(id, fx) || zapped && self.init.is_some() {
            reaped.push(id);
        }
        for child in reaped {
            self.reap(child, rule!("ZOM-02"), fx);
        }
        self.wake_zapping_init();
    }

    /// SIGCHLD, or what else the child was created with, and the waiters are woken. `true` if the
    /// parent wants no zombie.
    fn notify_parent(&mut self, child: Id<Process>, fx: &mut Effects) -> bool {
        let process = &self.processes[child];
        let Life::Zombie(status) = process.life else { return false };
        let Some(parent) = process.parent else { return false };
        let (pid, uid) = (process.pid, process.leader.cred.real);
        if process.flags.autoreap {
            // ZOM-15: whoever its parent is by now
            fx.obey(rule!("ZOM-15"));
            fx.obey(rule!("EXIT-16"));
            self.wake_waiters(parent, child, fx);
            return true;
        }
        let mut signal = Signal::new(i32::from(process.exit_signal));
        if process.is_clone_child() {
            if process.parent_exec_count != self.processes[parent].exec_count {
                // EXEC-09: the parent that chose the signal is another program now
                fx.obey(rule!("EXEC-09"));
                signal = Some(Signal::CHLD);
            } else {
                fx.obey(if signal.is_none() { rule!("CHLD-10") } else { rule!("FORK-20") });
                fx.obey(rule!("FORK-19"));
            }
        }
        let mut autoreap = false;
        let sighand = &self.sighands[self.processes[parent].sighand];
        if signal == Some(Signal::CHLD) && sighand.reaps_children() {
            // ZOM-05: by the disposition of this moment; ZOM-06: blocked or not
            autoreap = true;
            if sighand.ignored().contains(Signal::CHLD) {
                fx.obey(rule!("ZOM-02"));
                fx.obey(rule!("ZOM-06"));
                signal = None;
            } else {
                fx.obey(rule!("ZOM-03"));
            }
        } else if sighand.reaps_children() {
            fx.obey(rule!("ZOM-04"));
        }
        if let Some(signal) = signal {
            self.note_child_signal(parent, signal, fx);
            let info = SigInfo::child(signal, pid, uid, status);
            let origin = Origin::user(rule!("CHLD-01"));
            // LIM-08: a real-time exit signal is lost where the parent's user has too many
            let sent = self.generate(TaskId::leader(parent), &info, origin, fx);
            debug_assert!(sent.is_ok() || signal.is_realtime());
        }
        fx.obey(rule!("EXIT-16"));
        self.wake_waiters(parent, child, fx);
        autoreap
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

    /// Gives the children to a new parent (RPT group); those that it does not want as zombies are
    /// returned.
    fn forget_children(&mut self, father: Id<Process>, fx: &mut Effects) -> Vec<Id<Process>> {
        let mut reaped = Vec::new();
        let children: Vec<Id<Process>> = self.children(father).collect();
        if children.is_empty() {
            return reaped;
        }
        let reaper = self.find_reaper(father, fx);
        for child in &children {
            // one after the other: the group of the first is judged while the others still have
            // their old parent (RPT-18)
            self.send_pdeath_signal(father, *child, fx);
            self.give_away(*child, reaper, fx);
            let adopted_by_parent = reaper.is_some() && reaper == self.processes[father].parent;
            if adopted_by_parent && self.processes[*child].is_zombie() {
                // the father's own SIGCHLD goes to the same process, later
                fx.obey(rule!("RPT-10"));
            }
            if self.notify_adopter(*child, fx) {
                reaped.push(*child);
            }
            if !self.faulty(Fault::ParentExitOrphansNobody) {
                self.check_orphaned(*child, Some(father), fx);
            }
        }
        reaped
    }

    /// The process that adopts `father`'s children: the nearest subreaper above it, else the init
    /// of the namespace, else someone outside. Costs the depth where there is a subreaper.
    fn find_reaper(&self, father: Id<Process>, fx: &mut Effects) -> Option<Id<Process>> {
        let init = self.init?;
        if self.subreapers > 0 && !self.faulty(Fault::SubreaperForgotten) {
            let mut next = self.processes[father].parent;
            while let Some(ancestor) = next.filter(|ancestor| *ancestor != init) {
                let process = &self.processes[ancestor];
                let exiting = process.leader.sleep == Sleep::Exiting;
                if process.flags.subreaper && !process.is_zombie() && !exiting {
                    fx.obey(rule!("RPT-02"));
                    fx.obey(rule!("RPT-20"));
                    return Some(ancestor);
                }
                next = process.parent;
            }
        }
        // NS-12: the init of the dying process's namespace
        fx.obey(rule!("RPT-03"));
        Some(init)
    }

    /// RPT-12 to RPT-15: if the dying parent may send it.
    fn send_pdeath_signal(&mut self, father: Id<Process>, child: Id<Process>, fx: &mut Effects) {
        let Some(signal) = self.processes[child].leader.pdeath_signal else { return };
        fx.obey(rule!("RPT-13"));
        let sender = TaskId::leader(father);
        if self.may_kill(sender, self.cred(sender), child, Some(signal), fx).is_err() {
            fx.obey(rule!("RPT-15"));
            return;
        }
        fx.obey(rule!("RPT-14"));
        let info = self.sender_info(sender, signal);
        let origin = Origin { kernel: true, ..Origin::user(rule!("RPT-12")) };
        self.generate_kernel(child, info, origin, fx);
    }

    fn give_away(&mut self, child: Id<Process>, to: Option<Id<Process>>, fx: &mut Effects) {
        self.disown(child);
        let outside = self.config.adopter;
        let process = &mut self.processes[child];
        // RPT-08
        process.exit_signal = Signal::CHLD.number();
        fx.obey(rule!("RPT-08"));
        let pid = process.pid;
        match to {
            Some(reaper) => self.adopt(reaper, child),
            None => {
                process.parent = None;
                process.outside = outside;
            }
        }
        let reaper = to.map_or(outside, |reaper| self.processes[reaper].pid);
        fx.push(pid, Consequence::Reparented(reaper), rule!("RPT-07"));
    }

    /// A zombie is announced to its new parent (RPT-09); `true` if that wants none. A stop that
    /// was not waited for stays to be waited for, without a signal (RPT-11).
    fn notify_adopter(&mut self, child: Id<Process>, fx: &mut Effects) -> bool {
        match self.processes[child].life {
            Life::Zombie(_) => {
                fx.obey(rule!("RPT-09"));
                self.processes[child].parent.is_some() && self.notify_parent(child, fx)
            }
            Life::Alive(super::process::Job::Stopped { .. }) => {
                fx.obey(rule!("RPT-11"));
                false
            }
            _ => false,
        }
    }

    /// Removes a zombie: its number is free unless a group or a session still holds it (PID-08,
    /// ZOM-12).
    pub(super) fn reap(&mut self, id: Id<Process>, rule: Rule, fx: &mut Effects) {
        self.flush_records(id);
        if self.processes[id].parent.is_some() {
            self.disown(id);
        }
        self.leave_group(id);
        self.remove_from_all(id);
        let process = &self.processes[id];
        let (pid, user, sighand) = (process.pid, process.leader.cred.real, process.sighand);
        self.subreapers -= u32::from(process.flags.subreaper);
        self.numbers.edit(pid.0, |named| named.process = None);
        self.discharge_task(user);
        self.release_sighand(sighand);
        self.dequeue_task(TaskId::leader(id));
        self.processes.remove(id);
        fx.push_with(pid, rule, || Consequence::Reaped);
        self.wake_zapping_init();
    }

    fn flush_records(&mut self, id: Id<Process>) {
        let mut charged = Vec::new();
        self.processes[id].flush(SigSet::FULL, |queued| charged.push(queued.charged));
        self.discharge_all_queued(charged);
    }

    fn release_sighand(&mut self, id: Id<super::sighand::Sighand>) {
        if !self.sighands[id].unshare() {
            self.sighands.remove(id);
        }
    }

    /// The init of the namespace ends: everyone in it is killed, and the init waits until they
    /// are gone (NS-08); its children leave no zombies meanwhile (NS-09).
    fn begin_zap(&mut self, init: Id<Process>, fx: &mut Effects) {
        self.zapping = true;
        fx.obey(rule!("NS-08"));
        fx.obey(rule!("NS-09"));
        fx.obey(rule!("RPT-19"));
        let sighand = self.processes[init].sighand;
        self.sighands[sighand].set(Signal::CHLD, crate::abi::SigAction::IGNORE);
        let others: Vec<Id<Process>> = self.all().filter(|other| *other != init).collect();
        for other in others {
            let origin = Origin::kernel(rule!("NS-08"));
            self.generate_kernel(other, SigInfo::kernel(Signal::KILL), origin, fx);
        }
        let zombies: Vec<Id<Process>> =
            self.children(init).filter(|child| self.processes[*child].is_zombie()).collect();
        for zombie in zombies {
            self.reap(zombie, rule!("NS-08"), fx);
        }
        self.thread_mut(TaskId::leader(init)).sleep = Sleep::Zap;
        self.finish_zap(init, fx);
    }

    /// The last of the others is gone: the init can go on ending.
    fn wake_zapping_init(&mut self) {
        let Some(init) = self.init.filter(|_| self.zapping) else { return };
        let waits = self.thread(TaskId::leader(init)).sleep == Sleep::Zap;
        if waits && self.is_alone(init) {
            self.enqueue_task(TaskId::leader(init));
        }
    }

    /// Whether the init's number is the only one in use. One that is in the group of another
    /// process keeps that number in use: the kernel waits for ever (NS-08).
    fn is_alone(&self, init: Id<Process>) -> bool {
        let process = &self.processes[init];
        let pgid = self.groups[process.group].pgid.0;
        self.processes.len() == 1 && (pgid == 0 || pgid == process.pid.0)
    }

    /// The init was woken: it ends if it is alone.
    pub(super) fn finish_zap(&mut self, init: Id<Process>, fx: &mut Effects) {
        let Life::Dying(status) = self.processes[init].life else { return };
        if !self.is_alone(init) {
            return;
        }
        self.thread_mut(TaskId::leader(init)).sleep = Sleep::None;
        self.finish_exit(init, status, fx);
    }
}
