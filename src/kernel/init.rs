//! The init of the namespace: which of its threads adopts orphans, and its end, which empties the
//! namespace.

use alloc::vec::Vec;

use super::Kernel;
use super::arena::Id;
use super::effect::Effects;
use super::process::Process;
use super::signal::Origin;
use super::task::{Sleep, Task};
use crate::abi::{SigAction, SigInfo, Signal};
use crate::rule;

/// The init of the namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Init {
    pub process: Id<Process>,
    /// The thread that adopts orphans (child_reaper). Its place goes to a living thread when it
    /// ends; where none is left it stays the one, and ends the namespace. It may be gone then.
    reaper: Id<Task>,
    /// Its reaper has ended: everyone else is being killed (NS-08).
    pub zapping: bool,
}

impl Init {
    /// An init with its first thread.
    pub fn new(process: Id<Process>, reaper: Id<Task>) -> Init {
        Init { process, reaper, zapping: false }
    }
}

impl Kernel {
    /// The process that is the init of the namespace.
    pub(super) fn init_process(&self) -> Option<Id<Process>> {
        self.init.as_ref().map(|init| init.process)
    }

    /// Whether the init has ended and the namespace is being emptied.
    pub(super) fn is_zapping(&self) -> bool {
        self.init.as_ref().is_some_and(|init| init.zapping)
    }

    /// The thread of the init that adopts orphans.
    pub(super) fn child_reaper(&self) -> Option<Id<Task>> {
        self.init.as_ref().map(|init| init.reaper)
    }

    /// A task ends. If it is the one that adopts orphans, another thread of the init does so from now
    /// on; without one the namespace ends, and the task waits for that: whether it does
    /// (find_child_reaper, TG-99).
    pub(super) fn reaper_ends(&mut self, task: Id<Task>, last: bool, fx: &mut Effects) -> bool {
        let Some(init) = self.init.as_ref().filter(|init| init.reaper == task && !init.zapping)
        else {
            return false;
        };
        if let Some(thread) = self.first_living_task(init.process) {
            if let Some(init) = &mut self.init {
                init.reaper = thread;
            }
            return false;
        }
        self.begin_zap(task, fx);
        self.tasks[task].sleep = Sleep::Zap { last };
        self.finish_zap(task, last, fx);
        true
    }

    /// Everyone in the namespace is killed, and leaves no zombie (NS-08, NS-09). The other threads of
    /// the init have begun to end.
    fn begin_zap(&mut self, task: Id<Task>, fx: &mut Effects) {
        let process = self.process_of(task);
        if let Some(init) = &mut self.init {
            init.zapping = true;
        }
        fx.obey_all(&[rule!("NS-08"), rule!("NS-09"), rule!("RPT-19")]);
        let sighand = self.processes[process].sighand;
        self.sighands[sighand].set(Signal::CHLD, SigAction::IGNORE);
        let others: Vec<Id<Process>> = self.all().filter(|other| *other != process).collect();
        for other in others {
            let origin = Origin::kernel(rule!("NS-08"));
            let leader = self.leader(other);
            self.generate_kernel(leader, SigInfo::kernel(Signal::KILL), origin, fx);
        }
        // also those of threads that have not given theirs away yet
        let zombies: Vec<Id<Process>> = self
            .tasks_of(process)
            .flat_map(|thread| self.children(thread))
            .filter(|child| self.processes[*child].is_zombie())
            .collect();
        for zombie in zombies {
            self.reap(zombie, rule!("NS-08"), fx);
        }
    }

    /// One that was in the namespace is gone: if it was the last, the init can go on ending.
    pub(super) fn wake_zapping_init(&mut self) {
        let Some(reaper) = self.child_reaper().filter(|_| self.is_zapping()) else { return };
        let waits = |task: &Task| matches!(task.sleep, Sleep::Zap { .. });
        if self.tasks.get(reaper).is_some_and(waits) && self.is_alone(reaper) {
            self.enqueue_task(reaper);
        }
    }

    /// Whether the numbers of the init's last thread and of its leader are the only ones in use. An
    /// init that is in the group of another process keeps that number in use: the kernel waits
    /// for ever (NS-08).
    fn is_alone(&self, reaper: Id<Task>) -> bool {
        let process = &self.processes[self.process_of(reaper)];
        let pgid = self.groups[process.group].pgid.0;
        let own_threads = if process.leader == reaper { 1 } else { 2 };
        self.processes.len() == 1
            && process.task_count() == own_threads
            && (pgid == 0 || pgid == process.pid.0)
    }

    /// The init was woken: it ends if it is alone.
    pub(super) fn finish_zap(&mut self, task: Id<Task>, last: bool, fx: &mut Effects) {
        if !self.is_alone(task) {
            return;
        }
        self.tasks[task].sleep = Sleep::None;
        self.finish_exit(task, last, fx);
    }
}
