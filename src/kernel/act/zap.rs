//! The end of the init empties its namespace (zap_pid_ns_processes).

use alloc::vec::Vec;

use crate::abi::{Pid, SigAction, SigInfo, Signal};
use crate::kernel::Kernel;
use crate::kernel::api::effect::Effects;
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;
use crate::kernel::state::task::{Sleep, Task};
use crate::rule;

impl Kernel {
    /// Handles the end of the task that adopts orphans (find_child_reaper, TG-99). Another thread
    /// of the init takes its place; without one the namespace ends, and the task waits for that.
    /// Returns whether the namespace ends.
    pub(in crate::kernel) fn reaper_ends(
        &mut self,
        task: Id<Task>,
        last: bool,
        fx: &mut Effects,
    ) -> bool {
        if self.child_reaper() != Some(task) || self.is_zapping() {
            return false;
        }
        if let Some(thread) = self.first_living_task(self.process_of(task)) {
            self.set_child_reaper(thread);
            return false;
        }
        self.begin_zap(task, fx);
        self.tasks[task].sleep = Sleep::Zap { last };
        self.finish_zap(task, last, fx);
        true
    }

    /// Kills all other processes of the namespace; they leave no zombies (NS-08, NS-09). The other
    /// threads of the init have begun to end.
    fn begin_zap(&mut self, task: Id<Task>, fx: &mut Effects) {
        let process = self.process_of(task);
        self.set_zapping();
        fx.obey_all(&[rule!("NS-08"), rule!("NS-09"), rule!("RPT-19")]);
        let sighand = self.processes[process].sighand;
        self.sighands[sighand].set(Signal::CHLD, SigAction::IGNORE);
        let others: Vec<Id<Process>> = self.all().filter(|other| *other != process).collect();
        for other in others {
            let origin = Origin::kernel(rule!("NS-08"));
            let leader = self.leader(other);
            self.generate_kernel(leader, SigInfo::kernel(Signal::KILL), origin, fx);
        }
        // also the children of threads that have not reparented them yet
        let zombies: Vec<Id<Process>> = self
            .tasks_of(process)
            .flat_map(|thread| self.children(thread))
            .filter(|child| self.processes[*child].is_zombie())
            .filter(|child| !self.processes[*child].flags.unwanted)
            .collect();
        for zombie in zombies {
            self.reap(zombie, rule!("NS-08"), fx);
        }
    }

    /// A process or a thread of the namespace is gone: the init continues if no other one is left.
    pub(in crate::kernel) fn wake_zapping_init(&mut self) {
        let Some(reaper) = self.child_reaper().filter(|_| self.is_zapping()) else { return };
        let waits = |task: &Task| matches!(task.sleep, Sleep::Zap { .. });
        if self.tasks.get(reaper).is_some_and(waits) && self.is_alone(reaper) {
            self.enqueue_task(reaper);
        }
    }

    /// Whether only the numbers of the init's last thread and of its leader are in use. An init in
    /// the group of another process keeps the number of that group in use: the kernel waits forever
    /// (NS-08).
    fn is_alone(&self, reaper: Id<Task>) -> bool {
        let process = &self.processes[self.process_of(reaper)];
        let group = self.groups[process.group].pid;
        let own_threads = if process.leader == reaper { 1 } else { 2 };
        self.processes.len() == 1
            && process.task_count() == own_threads
            && (group == process.pid || self.pids[group].pid() == Pid(0))
    }

    /// Ends the init, after it was woken, if it is alone.
    pub(in crate::kernel) fn finish_zap(&mut self, task: Id<Task>, last: bool, fx: &mut Effects) {
        if !self.is_alone(task) {
            return;
        }
        self.tasks[task].sleep = Sleep::None;
        self.finish_exit(task, last, fx);
    }
}
