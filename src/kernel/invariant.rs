//! The invariants between transitions, which the tests check after every event.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::abi::SigSet;
use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::children::report_of;
use crate::kernel::state::group::Group;
use crate::kernel::state::process::{FsHolder, Process};
use crate::kernel::state::task::{Sleep, Task};

impl Kernel {
    /// Checks that all indices agree with the data that they index; docs/ARCHITECTURE.md lists the
    /// invariants. O(size of the model).
    ///
    /// # Errors
    ///
    /// The first invariant that does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        if self.running.is_some() {
            return Err("a transition is still under way".into());
        }
        let all: Vec<Id<Process>> = self.all().collect();
        require(all.len() == self.processes.len(), || "the list of all has another length".into())?;
        for (id, process) in self.processes.iter() {
            self.check_process(id, process)
                .map_err(|what| format!("process {}: {what}", self.pid_of(id)))?;
        }
        for (id, group) in self.groups.iter() {
            self.check_group(id, group)
                .map_err(|what| format!("group {}: {what}", self.pgid_of(id)))?;
        }
        for (id, session) in self.sessions.iter() {
            require(self.pids[session.pid].session() == Some(id), || {
                format!("the number of session {} does not lead to it", self.sid_of(id))
            })?;
            let groups = self.groups.iter().filter(|(_, group)| group.session == id).count();
            require(groups == session.groups as usize && groups > 0, || {
                format!("session {} miscounts its groups", self.sid_of(id))
            })?;
        }
        self.pids.check()?;
        self.check_accounts()?;
        self.check_shares()?;
        self.check_terminals()?;
        self.check_queue()
    }

    fn check_process(&self, id: Id<Process>, process: &Process) -> Result<(), String> {
        require(self.process_numbered(self.pid_of(id)) == Some(id), || {
            "its number does not lead to it".into()
        })?;
        require(process.report == process.parent.and(report_of(process)), || {
            "its parent's index has another report".into()
        })?;
        require(self.members(process.group).any(|member| member == id), || {
            "it is not among its group's members".into()
        })?;
        if let Some(parent) = process.parent {
            require(self.tasks.get(parent).is_some_and(|task| !task.is_dead()), || {
                "its parent is dead".into()
            })?;
            require(self.children(parent).any(|child| child == id), || {
                "it is not among its parent's children".into()
            })?;
        }
        self.check_threads(id, process)?;
        if process.is_zombie() {
            require(self.tasks[process.leader].is_dead() && process.is_single(), || {
                "a zombie has a living thread".into()
            })?;
        }
        Ok(())
    }

    fn check_threads(&self, id: Id<Process>, process: &Process) -> Result<(), String> {
        let tasks: Vec<Id<Task>> = self.tasks_of(id).collect();
        let own = self.tasks.iter().filter(|(_, task)| task.process == id).count();
        require(tasks.len() == own && own == process.task_count() as usize, || {
            "it miscounts its threads".into()
        })?;
        if let Some(group) = &process.threads {
            let living = tasks.iter().filter(|task| self.tasks[**task].is_alive()).count();
            require(living == group.living as usize, || "it miscounts its living threads".into())?;
            require(
                (tasks.first(), tasks.last())
                    == (group.list.first().as_ref(), group.list.last().as_ref()),
                || "its newest thread is another".into(),
            )?;
            require(tasks.contains(&group.current_target), || "its target is gone".into())?;
            let lives = |task: Id<Task>| tasks.contains(&task) && self.tasks[task].is_alive();
            require(group.exec.is_none_or(lives), || {
                "the task that executes a program has ended".into()
            })?;
            let stopping = tasks.iter().filter(|task| self.tasks[**task].stop_pending).count();
            require(group.stopping as usize <= stopping, || "it miscounts a stop".into())?;
        }
        for (nth, task) in tasks.iter().enumerate() {
            let previous = nth.checked_sub(1).map(|nth| tasks[nth]);
            let thread = &self.tasks[*task];
            require(thread.links.previous() == previous, || "its threads are out of order".into())?;
            require(self.task_numbered(self.tid_of(*task)) == Some(*task), || {
                format!("the number of thread {} does not lead to it", self.tid_of(*task))
            })?;
            require(!thread.is_dead() || *task == process.leader, || {
                "a thread is dead that is not the leader".into()
            })?;
            self.check_task(*task, thread)?;
        }
        Ok(())
    }

    fn check_task(&self, id: Id<Task>, thread: &Task) -> Result<(), String> {
        require((thread.mask & SigSet::KERNEL_ONLY).is_empty(), || {
            "it blocks SIGKILL or SIGSTOP".into()
        })?;
        if thread.is_dead() {
            let leaves = matches!(thread.sleep, Sleep::Releasing(_));
            require(thread.sleep == Sleep::None || leaves, || "a zombie sleeps".into())?;
            require(thread.queued == leaves, || {
                "a zombie is queued and not to be removed, or the other way round".into()
            })?;
            require(self.children(id).next().is_none(), || "a zombie has children".into())?;
        }
        let orders: Vec<u64> = self.children(id).map(|child| self.processes[child].order).collect();
        require(orders.is_sorted(), || "its children are out of order".into())
    }

    fn check_group(&self, id: Id<Group>, group: &Group) -> Result<(), String> {
        require(self.pids[group.pid].group() == Some(id), || {
            "its number does not lead to it".into()
        })?;
        let members: Vec<Id<Process>> = self.members(id).collect();
        require(!members.is_empty(), || "it has no member".into())?;
        require(members.iter().all(|member| self.processes[*member].group == id), || {
            "a member is in another group".into()
        })?;
        let stopped = members.iter().filter(|member| self.processes[**member].is_stopped()).count();
        require(stopped == group.stopped as usize, || "it miscounts its stopped members".into())
    }

    /// The counts of each user agree with its processes.
    fn check_accounts(&self) -> Result<(), String> {
        for (user, count) in &self.users {
            let tasks = self.tasks.iter().filter(|(_, task)| task.cred.real == *user).count();
            require(tasks == count.tasks as usize, || format!("user {user} miscounts its tasks"))?;
        }
        let queued: usize = self.users.values().map(|count| count.queued as usize).sum();
        let shared = self.processes.iter().map(|(_, process)| process.shared.records());
        let records = shared.chain(self.tasks.iter().map(|(_, task)| task.pending.records()));
        require(queued == records.sum::<usize>(), || "signal records are miscounted".into())?;
        let subreapers =
            self.processes.iter().filter(|(_, process)| process.flags.subreaper).count();
        require(subreapers == self.subreapers as usize, || "subreapers are miscounted".into())?;
        let itimers = self.processes.iter().filter_map(|(_, process)| process.itimer.as_ref());
        let idle = itimers.filter(|itimer| itimer.is_idle()).count();
        require(idle == self.idle_itimers as usize, || "idle timers are miscounted".into())
    }

    /// The sharing sets are sound, and each member lives.
    fn check_shares(&self) -> Result<(), String> {
        let lives = |id: Id<Process>| !self.processes[id].is_zombie();
        let sound = self.fs_shares.is_sound(|holder| match holder {
            FsHolder::Process(process) => lives(process),
            FsHolder::Task(task) => self.tasks.get(task).is_some_and(|task| task.own_fs.is_some()),
        });
        require(sound, || "the sets that share a working directory are not sound".into())?;
        let sound = self.memory_shares.is_sound(lives);
        require(sound, || "the sets that share memory are not sound".into())
    }

    /// A terminal and its session refer to each other, and the sleepers of a terminal sleep there.
    fn check_terminals(&self) -> Result<(), String> {
        for (id, session) in self.sessions.iter() {
            if let Some(number) = session.terminal.number() {
                require(self.session_controlled_by(number) == Some(id), || {
                    format!("terminal {number} does not control session {}", self.sid_of(id))
                })?;
            }
        }
        for (number, terminal) in self.terminals.iter().flat_map(|terminals| terminals.iter()) {
            let session = self.session_controlled_by(number);
            let refers = |id| {
                self.sessions.get(id).map(|session| session.terminal.number()) == Some(Some(number))
            };
            require(session.is_none_or(refers), || {
                format!("the session of terminal {number} has another terminal")
            })?;
            require(session.is_some() == self.foreground(number).is_some(), || {
                format!("terminal {number} has a session or a foreground group alone")
            })?;
            let sleeps = |task: &Id<Task>| {
                let task = self.tasks.get(*task);
                task.is_some_and(|task| matches!(task.sleep, Sleep::Terminal(_) | Sleep::Poll(_)))
            };
            require(terminal.sleepers.iter().all(sleeps), || {
                format!("a sleeper of terminal {number} does not sleep there")
            })?;
        }
        Ok(())
    }

    fn check_queue(&self) -> Result<(), String> {
        let queue: BTreeSet<_> = self.queue.iter().copied().collect();
        require(queue.len() == self.queue.len(), || "a task is in the queue twice".into())?;
        for task in &self.queue {
            require(self.tasks[*task].queued, || "a task is queued and not marked".into())?;
        }
        let marked = self.tasks.iter().filter(|(_, task)| task.queued).count();
        require(marked == self.queue.len(), || "a task is marked and not queued".into())
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
