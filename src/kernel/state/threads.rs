//! The tasks of a process: their list, their order, and how many of them live.

use alloc::boxed::Box;

use crate::abi::WaitStatus;
use crate::kernel::state::arena::Id;
use crate::kernel::state::list::List;
use crate::kernel::state::process::{Process, ThreadGroup};
use crate::kernel::state::task::{Task, TaskState};
use crate::kernel::{Fault, Kernel};

impl Kernel {
    /// The tasks of a process, a dead leader included: the leader, then the others in the order of
    /// creation (TG-32). O(1) a task.
    pub(in crate::kernel) fn tasks_of(
        &self,
        process: Id<Process>,
    ) -> impl Iterator<Item = Id<Task>> + '_ {
        let leader = Some(self.processes[process].leader);
        core::iter::successors(leader, |task| self.next_thread(*task))
    }

    /// The tasks of `first`'s process, from `first` on and around to the task before it.
    pub(in crate::kernel) fn tasks_from(
        &self,
        first: Id<Task>,
    ) -> impl Iterator<Item = Id<Task>> + '_ {
        let count = self.processes[self.process_of(first)].task_count();
        core::iter::successors(Some(first), |task| Some(self.task_after(*task)))
            .take(count as usize)
    }

    /// The task after `task`; `None` after the last one.
    #[inline]
    pub(in crate::kernel) fn next_thread(&self, task: Id<Task>) -> Option<Id<Task>> {
        self.tasks[task].links.next()
    }

    /// The task after `task`; the leader follows the last one.
    pub(in crate::kernel) fn task_after(&self, task: Id<Task>) -> Id<Task> {
        self.next_thread(task).unwrap_or_else(|| self.leader(self.process_of(task)))
    }

    /// The first task of a process that has not begun to end (find_alive_thread).
    pub(in crate::kernel) fn first_living_task(&self, process: Id<Process>) -> Option<Id<Task>> {
        self.tasks_of(process).find(|task| self.tasks[*task].is_alive())
    }

    /// The data of several threads; created with the second thread.
    fn threads_mut(&mut self, id: Id<Process>) -> &mut ThreadGroup {
        let process = &mut self.processes[id];
        let leader = process.leader;
        let living = u32::from(self.tasks[leader].is_alive());
        process.threads.get_or_insert_with(|| {
            Box::new(ThreadGroup {
                list: List::of(leader),
                current_target: leader,
                tasks: 1,
                living,
                stopping: 0,
                stop_signal: None,
                exec: None,
                leader_status: None,
                dumper: None,
                waits: 0,
            })
        })
    }

    /// Adds a new task after the others of its process (TG-32).
    pub(in crate::kernel) fn add_thread(&mut self, task: Task) -> Id<Task> {
        let (process, pid) = (task.process, task.pid);
        let id = self.tasks.insert(task);
        self.threads_mut(process);
        if let Some(group) = &mut self.processes[process].threads {
            group.tasks += 1;
            group.living += 1;
            group.list.push_back(&mut self.tasks, id);
        }
        self.pids.attach_task(pid, id);
        id
    }

    /// A task begins to end. Returns whether all other tasks of its process began before.
    pub(in crate::kernel) fn begin_exit_of(&mut self, id: Id<Task>) -> bool {
        let task = &mut self.tasks[id];
        task.state = TaskState::Exiting;
        let Some(group) = &mut self.processes[task.process].threads else { return true };
        group.living -= 1;
        // a group exit ends it too
        group.exec.take_if(|executing| *executing == id);
        group.living == 0
    }

    /// The leader of a process that has had other threads begins to end with that status. The core
    /// flag is not set if another thread dumps the core, because that is not written yet.
    pub(in crate::kernel) fn note_leader_status(&mut self, id: Id<Process>, status: WaitStatus) {
        let process = &mut self.processes[id];
        if let Some(group) = &mut process.threads {
            let others = group.dumper.is_some_and(|dumper| dumper != process.leader);
            let own = match status.term_signal() {
                Some(signal) if others => WaitStatus::killed(signal, false),
                _ => status,
            };
            group.leader_status = Some(own);
        }
    }

    /// A task writes the core of its process.
    pub(in crate::kernel) fn note_dumper(&mut self, task: Id<Task>) {
        let process = self.process_of(task);
        if let Some(group) = &mut self.processes[process].threads {
            group.dumper = Some(task);
        }
    }

    /// Makes the leader show the status of its process from now on.
    pub(in crate::kernel) fn forget_leader_status(&mut self, id: Id<Process>) {
        if let Some(group) = &mut self.processes[id].threads {
            group.leader_status = None;
        }
    }

    /// The status with which the leader ended itself, of a process that ends with `status`.
    pub(in crate::kernel) fn leader_status(
        &self,
        id: Id<Process>,
        status: WaitStatus,
    ) -> WaitStatus {
        let group = self.processes[id].threads.as_ref();
        group.and_then(|group| group.leader_status).unwrap_or(status)
    }

    /// Removes a task that has ended, and is not the leader, from its process.
    pub(in crate::kernel) fn remove_thread(&mut self, id: Id<Task>) {
        let task = &self.tasks[id];
        let (process, pid) = (task.process, task.pid);
        let after = self.task_after(id);
        if let Some(group) = &mut self.processes[process].threads {
            group.tasks -= 1;
            group.list.remove(&mut self.tasks, id);
            if group.current_target == id {
                // TG-31
                group.current_target = after;
            }
        }
        self.pids.detach_task(pid);
        self.tasks.remove(id);
    }

    /// All tasks except `except` have to end: wakes them, also from a stop or a vfork
    /// (zap_other_threads).
    pub(in crate::kernel) fn kill_threads(
        &mut self,
        process: Id<Process>,
        except: Option<Id<Task>>,
    ) {
        if let Some(group) = &mut self.processes[process].threads {
            (group.stopping, group.stop_signal) = (0, None);
        }
        let mut next = Some(self.processes[process].leader);
        while let Some(id) = next {
            next = self.next_thread(id);
            let task = &mut self.tasks[id];
            if task.is_alive() && Some(id) != except {
                task.stop_pending = false;
                task.state = TaskState::Running;
                self.enqueue_task(id);
            }
        }
    }

    /// A thread begins to wait for children. Returns its order among the waits of its process
    /// (TG-140).
    pub(in crate::kernel) fn begin_wait(&mut self, process: Id<Process>) -> u64 {
        let Some(group) = &mut self.processes[process].threads else { return 0 };
        group.waits += 1;
        group.waits
    }

    /// The task that executes a program while the others of its process end.
    pub(in crate::kernel) fn executing_task(&self, process: Id<Process>) -> Option<Id<Task>> {
        self.processes[process].threads.as_ref()?.exec
    }

    /// Sets the task that executes a program while the others of its process end, or none.
    pub(in crate::kernel) fn set_executing(
        &mut self,
        process: Id<Process>,
        task: Option<Id<Task>>,
    ) {
        if let Some(group) = &mut self.processes[process].threads {
            group.exec = task;
        }
    }

    /// Whether all other tasks of the process have ended.
    pub(in crate::kernel) fn others_have_ended(&self, id: Id<Task>) -> bool {
        let process = &self.processes[self.process_of(id)];
        match process.task_count() {
            1 => true,
            2 => process.leader != id && self.tasks[process.leader].is_dead(),
            _ => false,
        }
    }

    /// The only task that is left besides a dead leader takes the place and the number of the
    /// leader (EXEC-12), which is removed.
    pub(in crate::kernel) fn replace_leader(&mut self, id: Id<Task>) {
        let process = self.process_of(id);
        let old = self.processes[process].leader;
        let own = self.tasks[id].pid;
        let pid = self.processes[process].pid;
        if self.has_fault(Fault::ExecKeepsTid) {
            self.processes[process].pid = own;
            self.pids.detach_task(pid);
        } else {
            self.tasks[id].pid = pid;
            self.pids.attach_task(pid, id);
            self.pids.detach_task(own);
        }
        self.processes[process].leader = id;
        if let Some(group) = &mut self.processes[process].threads {
            group.tasks = 1;
            group.current_target = id;
            group.leader_status = None;
            group.list.remove(&mut self.tasks, old);
        }
        self.tasks.remove(old);
    }
}
