//! fork, vfork and clone: new processes and new threads.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::abi::{Errno, Pid, SigSet, Signal};
use crate::kernel::api::effect::refuse;
use crate::kernel::api::effect::{Consequence, Effects};
use crate::kernel::state::arena::Id;
use crate::kernel::state::pid::PidObject;
use crate::kernel::state::process::{Flags, Fs, FsHolder, Inherited, Process};
use crate::kernel::state::small_list::SmallList;
use crate::kernel::state::task::{Forking, Frame, Plan, Sleep, Task};
use crate::kernel::{Kernel, Property, Version};
use crate::rule;
use crate::syscall::{self, Ret, Syscall, clone};

/// The arguments of fork, vfork, clone or clone3.
pub struct Request {
    pub flags: u64,
    /// The exit signal of clone3.
    pub clone3: Option<u64>,
    pub child_tid: u64,
    /// The number of the child, if the caller chooses it (set_tid).
    pub set_tid: Option<Pid>,
}

impl Kernel {
    /// fork, vfork, clone and clone3; `None` if the caller sleeps until the child execs or ends, or
    /// delivers signals before it makes the call.
    pub(in crate::kernel) fn fork(
        &mut self,
        caller: Id<Task>,
        request: &Request,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let plan = match self.check_fork(caller, request, fx) {
            Ok(plan) => plan,
            Err(errno) => return Some(Err(errno)),
        };
        if self.running == Some(caller) {
            // FORK-06, TG-24: pending signals are delivered before the fork, also signals for which
            // another thread was woken; then the call is restarted (ERESTARTNOINTR)
            self.recalc_sigpending(caller);
            if self.tasks[caller].signal_pending {
                fx.obey(rule!("TG-24"));
                if self.tasks[caller].stop_pending {
                    // a thread that is about to be created does not escape a stop
                    fx.obey(rule!("JOB-15"));
                    fx.obey(rule!("TG-25"));
                }
                self.tasks[caller].sleep = Sleep::Restarting(Box::new(call.clone()));
                return None;
            }
        }
        let forking = match self.take_number(caller, plan, request.set_tid, fx) {
            Ok(forking) => forking,
            Err(errno) => return Some(Err(errno)),
        };
        if self.running == Some(caller) && self.others_may_run() {
            fx.obey(rule!("RACE-09"));
            self.tasks[caller].sleep = Sleep::Forking(Box::new(forking));
            self.enqueue_first(caller);
            return None;
        }
        self.finish_fork(caller, &forking, fx)
    }

    /// Continues a fork that was cut. If the caller was killed during the cut, its number is free
    /// again, and the next fork gets a later one (RACE-09).
    pub(in crate::kernel) fn continue_fork(
        &mut self,
        caller: Id<Task>,
        forking: &Forking,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        if self.must_end(caller) {
            self.pids.free_unused(forking.pid);
            return None;
        }
        self.finish_fork(caller, forking, fx)
    }

    /// Creates the child under its number.
    fn finish_fork(
        &mut self,
        caller: Id<Task>,
        forking: &Forking,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let Forking { pid, plan, over_nproc, delayed } = forking;
        // the child is a copy that was made before the flag was cleared
        self.tasks[caller].over_nproc = *over_nproc;
        let number = self.pids[*pid].pid();
        let child = if plan.flags & clone::THREAD != 0 {
            self.create_thread(caller, *pid, plan, fx)
        } else {
            let child = self.create(caller, *pid, plan, fx);
            self.receive_delayed(child, *delayed);
            self.leader(child)
        };
        self.tasks[caller].over_nproc = false;
        if plan.flags & clone::VFORK == 0 {
            return Some(Ok(Ret::Value(i64::from(number.0))));
        }
        fx.obey(rule!("FORK-28"));
        // TG-26, TG-81: only the caller sleeps, and only its death ends the sleep early
        self.tasks[caller].sleep = Sleep::Vfork(child, number);
        None
    }

    /// Adds the signals that were sent to several processes, among them the creator, before the
    /// child existed (RACE-09).
    fn receive_delayed(&mut self, child: Id<Process>, delayed: SigSet) {
        if delayed.is_empty() {
            return;
        }
        for signal in delayed.iter() {
            self.processes[child].shared.add_bare(signal);
        }
        let leader = self.leader(child);
        if self.has_deliverable(leader) {
            self.signal_wake_up(leader);
        }
    }

    /// Keeps a signal that is sent to several processes for the child of a fork in flight of
    /// `parent`.
    pub(in crate::kernel) fn delay_for_child(&mut self, parent: Id<Process>, signal: Signal) {
        let mut next = Some(self.leader(parent));
        while let Some(task) = next {
            next = self.next_thread(task);
            if let Sleep::Forking(forking) = &mut self.tasks[task].sleep
                && forking.plan.flags & clone::THREAD == 0
            {
                // JOB-01, JOB-02
                if signal.is_stop() {
                    forking.delayed = forking.delayed.without(Signal::CONT);
                } else if signal == Signal::CONT {
                    forking.delayed = forking.delayed - SigSet::STOPS;
                }
                forking.delayed = forking.delayed.with(signal);
            }
        }
    }

    /// Checks the flags of a call, and whether the caller may use them.
    fn check_fork(
        &self,
        caller: Id<Task>,
        request: &Request,
        fx: &mut Effects,
    ) -> Result<Plan, Errno> {
        let plan = check_flags(request, self.config.version, fx)?;
        let process = self.process_of(caller);
        if plan.flags & clone::PARENT != 0 && self.init_process() == Some(process) {
            return refuse(fx, rule!("FORK-22"), Errno::EINVAL);
        }
        check_sharing(plan.flags, fx)?;
        if plan.flags & clone::PARENT != 0 && self.processes[process].flags.autoreap {
            return refuse(fx, rule!("FORK-34"), Errno::EINVAL);
        }
        Ok(plan)
    }

    /// Takes the number of the child, if one is free and the caller may have a child.
    fn take_number(
        &mut self,
        caller: Id<Task>,
        plan: Plan,
        set_tid: Option<Pid>,
        fx: &mut Effects,
    ) -> Result<Forking, Errno> {
        // PID-16: a fork that is refused here takes no number
        self.may_fork(caller, fx)?;
        // LIM-05: the mark is cleared, also if this fork fails
        let marked = core::mem::take(&mut self.tasks[caller].over_nproc);
        check_namespaces(plan.flags, self.cred(caller).capable, fx)?;
        if let Some(number) = set_tid {
            self.check_number(caller, number, fx)?;
        }
        if self.is_zapping() {
            return refuse(fx, rule!("NS-04"), Errno::ENOMEM);
        }
        let pid = match set_tid {
            Some(number) => {
                fx.obey(rule!("PID-13"));
                self.highest = self.highest.max(number.0);
                self.pids.get_or_create(number.0)
            }
            None => self.allocate_pid(fx)?,
        };
        Ok(Forking { pid, plan, over_nproc: marked, delayed: SigSet::EMPTY })
    }

    /// PID-14: checks whether the caller may choose that number, and whether the number is free.
    fn check_number(&self, caller: Id<Task>, number: Pid, fx: &mut Effects) -> Result<(), Errno> {
        let errno = if number.0 == 0 || number.0 >= self.pids.max() {
            Errno::EINVAL
        } else if !self.cred(caller).capable {
            Errno::EPERM
        } else if self.pids.find(number.0).is_some() {
            Errno::EEXIST
        } else {
            return Ok(());
        };
        refuse(fx, rule!("PID-14"), errno)
    }

    fn allocate_pid(&mut self, fx: &mut Effects) -> Result<Id<PidObject>, Errno> {
        let pid = match self.pids.allocate() {
            Ok(pid) => pid,
            Err(errno) => return refuse(fx, rule!("PID-05"), errno),
        };
        fx.obey(rule!("PID-01"));
        let number = self.pids[pid].pid().0;
        if number == self.pids.max() - 1 {
            fx.obey(rule!("PID-02"));
        }
        if number < self.highest {
            fx.obey(rule!("PID-03"));
            fx.obey(rule!("PID-04"));
            fx.obey(rule!("PID-08"));
            fx.obey(rule!("PID-09"));
        }
        self.highest = self.highest.max(number);
        Ok(pid)
    }

    /// Creates a thread in the caller's process.
    fn create_thread(
        &mut self,
        caller: Id<Task>,
        pid: Id<PidObject>,
        plan: &Plan,
        fx: &mut Effects,
    ) -> Id<Task> {
        // TG-15: the thread has the users and the mask of its creator, and no pending signals
        fx.obey_all(&[
            rule!("THR-01"),
            rule!("THR-05"),
            rule!("THR-08"),
            rule!("PID-11"),
            rule!("TG-13"),
            rule!("TG-15"),
            rule!("TG-32"),
        ]);
        if plan.exit_signal != 0 {
            fx.obey(rule!("TG-02"));
        }
        if plan.flags & clone::PARENT != 0 {
            fx.obey(rule!("TG-03"));
        }
        let creator = &self.tasks[caller];
        let own_fs = if plan.flags & clone::FS == 0 {
            // TG-19
            fx.obey(rule!("TG-19"));
            Some(Box::new(self.fs_of(caller).clone()))
        } else {
            creator.own_fs.clone()
        };
        let task = Task {
            mask: creator.mask,
            own_fs,
            vfork_waiter: (plan.flags & clone::VFORK != 0).then_some(caller),
            clear_child_tid: plan.clear_child_tid,
            over_nproc: creator.over_nproc,
            ..Task::new(pid, creator.process, creator.cred)
        };
        let user = task.cred.real;
        let shares = plan.flags & clone::FS != 0 && task.own_fs.is_some();
        let thread = self.add_thread(task);
        // TG-14
        self.charge_task(user);
        if shares {
            self.fs_shares.share(FsHolder::Task(caller), FsHolder::Task(thread));
        }
        fx.push_with(self.task_subject(thread), rule!("TG-01"), || Consequence::ThreadCreated);
        thread
    }

    // Long because it names each field of a new process, which copy_process copies one by one.
    fn create(
        &mut self,
        caller: Id<Task>,
        pid: Id<PidObject>,
        plan: &Plan,
        fx: &mut Effects,
    ) -> Id<Process> {
        let sibling = plan.flags & clone::PARENT != 0;
        let sighand = self.inherit_sighand(caller, plan.flags, fx);
        let task = &self.tasks[caller];
        let process = task.process;
        let creator = &self.processes[process];
        let parent = if sibling { creator.parent } else { Some(caller) };
        let (exit_signal, parent_exec_count) = if sibling {
            // FORK-21: the exit signal of the creator, with the exec count of its parent at the
            // time when that signal was chosen (EXEC-09)
            fx.obey(rule!("FORK-21"));
            (creator.exit_signal, creator.parent_exec_count)
        } else {
            (plan.exit_signal, creator.exec_count)
        };
        let vfork_waiter = (plan.flags & clone::VFORK != 0).then_some(caller);
        let autoreap = plan.flags & clone::AUTOREAP != 0;
        let frames = self.child_frames(caller, plan.flags);
        let (mask, cred, over_nproc) = (task.mask, task.cred, task.over_nproc);
        // FORK-13, FORK-09
        let inherited = match &task.own_fs {
            None => creator.inherited.clone(),
            Some(fs) => Arc::new(Inherited { fs: Fs::clone(fs), ..(*creator.inherited).clone() }),
        };
        let (outside, group, exec_count) = (creator.outside, creator.group, creator.exec_count);
        // TTY-07
        let acquisition = creator.acquisition;
        // a child does not inherit the other flags: FORK-15, FORK-12 (and so GRP-21), FORK-11
        let dumpable = creator.flags.dumpable;
        if creator.itimer.is_some() {
            fx.obey(rule!("TIME-07"));
        }
        if task.pid != creator.pid {
            fx.obey(rule!("THR-07"));
            if sibling {
                fx.obey(rule!("TG-04"));
            }
        }
        fx.obey_all(&[
            rule!("FORK-01"),
            rule!("FORK-02"),
            rule!("FORK-04"),
            rule!("FORK-07"),
            rule!("FORK-09"),
            rule!("FORK-10"),
            rule!("FORK-11"),
            rule!("FORK-14"),
            rule!("CRED-01"),
            rule!("MISC-02"),
        ]);
        // FORK-01, FORK-04, FORK-07; FORK-02, FORK-14; FORK-10: no parent-death signal
        let clear_child_tid = plan.clear_child_tid;
        let task = |process| Task {
            mask,
            frames,
            vfork_waiter,
            clear_child_tid,
            over_nproc,
            ..Task::new(pid, process, cred)
        };
        let make = |leader| Process {
            parent,
            outside,
            exit_signal,
            exec_count,
            parent_exec_count,
            acquisition,
            flags: Flags { dumpable, autoreap, ..Flags::default() },
            ..Process::new(pid, leader, group, sighand, inherited)
        };
        let child = self.add_process(task, make, fx);
        if plan.flags & clone::FS != 0 {
            self.fs_shares.share(self.fs_holder(caller), FsHolder::Process(child));
        }
        if plan.flags & clone::VM != 0 {
            self.memory_shares.share(process, child);
        }
        child
    }

    /// Adds a process of one thread, and links it.
    #[inline(always)]
    pub(in crate::kernel) fn add_process(
        &mut self,
        make_task: impl FnOnce(Id<Process>) -> Task,
        make: impl FnOnce(Id<Task>) -> Process,
        fx: &mut Effects,
    ) -> Id<Process> {
        let leader = self.tasks.next_id();
        let id = self.processes.insert_with(|| make(leader));
        self.tasks.insert_with(|| make_task(id));
        self.link_process(id, fx);
        id
    }

    /// Enters a new process in the pid table and in the lists.
    fn link_process(&mut self, id: Id<Process>, fx: &mut Effects) {
        let process = &self.processes[id];
        let (pid, leader) = (process.pid, process.leader);
        let (parent, group) = (process.parent, process.group);
        let user = self.tasks[leader].cred.real;
        self.pids.attach_task(pid, leader);
        self.charge_task(user);
        self.append_to_all(id);
        self.join_group(id, group);
        if let Some(parent) = parent {
            self.adopt(parent, id);
        }
        fx.push_with(self.subject(id), rule!("FORK-16"), || Consequence::Created);
    }

    /// The handlers that a child of `creator` is in: a copy of the memory is in the same handlers,
    /// and a child that shares the memory has a stack of its own. A thread that forks on behalf of
    /// the process, from outside of the model, is in no handler.
    fn child_frames(&self, creator: Id<Task>, flags: u64) -> SmallList<Frame> {
        if self.running != Some(creator) || flags & clone::VM != 0 {
            return SmallList::new();
        }
        self.tasks[creator].frames.clone()
    }

    /// FORK-03, FORK-26, FORK-27: a copy of the dispositions, or the same dispositions.
    fn inherit_sighand(
        &mut self,
        caller: Id<Task>,
        flags: u64,
        fx: &mut Effects,
    ) -> Id<crate::kernel::state::sighand::Sighand> {
        let own = self.processes[self.process_of(caller)].sighand;
        if flags & clone::SIGHAND != 0 {
            fx.obey(rule!("FORK-27"));
            self.sighands[own].share();
            return own;
        }
        fx.obey(rule!("FORK-03"));
        let mut copy = self.sighands[own].copy();
        if flags & clone::CLEAR_SIGHAND != 0 {
            fx.obey(rule!("FORK-26"));
            copy.reset_for_exec();
        }
        self.sighands.insert(copy)
    }

    /// Ends the sleep of a task that waits in vfork until this child execs or ends.
    #[inline]
    pub(in crate::kernel) fn release_vfork(&mut self, child: Id<Task>, fx: &mut Effects) {
        if let Some(waiter) = self.tasks[child].vfork_waiter.take() {
            self.return_from_vfork(child, waiter, fx);
        }
    }

    fn return_from_vfork(&mut self, child: Id<Task>, waiter: Id<Task>, fx: &mut Effects) {
        // the waiter may have been killed
        let Some(task) = self.tasks.get(waiter) else { return };
        let Sleep::Vfork(of, pid) = task.sleep else { return };
        if of != child {
            return;
        }
        self.tasks[waiter].sleep = Sleep::None;
        self.return_later(waiter, Ok(Ret::Value(i64::from(pid.0))), rule!("FORK-28"), fx);
        // JOB-17, FORK-29: signals that were sent to the waiter during the vfork act now
        self.enqueue_task(waiter);
    }
}

/// Checks the flags, and determines the exit signal (TG-07, TG-09). An address that cannot be
/// written is no error (TG-10).
fn check_flags(request: &Request, version: Version, fx: &mut Effects) -> Result<Plan, Errno> {
    let Request { flags, clone3, child_tid, .. } = *request;
    // clone(2) drops the bits above the first 32
    let flags = if clone3.is_some() { flags } else { flags & clone::LEGACY };
    let clear_child_tid = if flags & clone::CHILD_CLEARTID != 0 { child_tid } else { 0 };
    let Some(signal) = clone3 else {
        // FORK-18: older kernels take any number, and invalid ones send nothing
        let exit_signal = (flags & clone::CSIGNAL) as u8;
        if exit_signal != Signal::CHLD.number() {
            fx.obey(rule!("FORK-18"));
        }
        if exit_signal > 64 && version.has(Property::ExitSignalChecked) {
            return refuse(fx, rule!("FORK-18"), Errno::EINVAL);
        }
        return Ok(Plan { flags, exit_signal, clear_child_tid });
    };
    let sibling = flags & (clone::THREAD | clone::PARENT) != 0;
    let is_7_1 = version.has(Property::Autoreap);
    if flags & clone::SINCE_7_1 != 0 && !is_7_1 {
        return refuse(fx, rule!("FORK-32"), Errno::EINVAL);
    }
    let more = if is_7_1 { clone::AUTOREAP | clone::NNP } else { 0 };
    if flags & !(clone::KNOWN3 | more) != 0 || signal > 64 {
        return refuse(fx, rule!("FORK-18"), Errno::EINVAL);
    }
    if flags & clone::AUTOREAP != 0 && (signal != 0 || sibling)
        || flags & clone::NNP != 0 && flags & clone::THREAD != 0
    {
        return refuse(fx, rule!("FORK-34"), Errno::EINVAL);
    }
    if flags & clone::AUTOREAP != 0 {
        fx.obey(rule!("FORK-34"));
    }
    if flags & clone::CLEAR_SIGHAND != 0 && flags & clone::SIGHAND != 0 {
        return refuse(fx, rule!("FORK-26"), Errno::EINVAL);
    }
    if sibling && signal != 0 {
        return refuse(fx, rule!("FORK-22"), Errno::EINVAL);
    }
    Ok(Plan { flags, exit_signal: signal as u8, clear_child_tid })
}

/// Checks the permission for a new namespace (TG-05); the model does not create it.
fn check_namespaces(flags: u64, capable: bool, fx: &mut Effects) -> Result<(), Errno> {
    const NAMESPACES: u64 = clone::OTHER_NAMESPACES | clone::NEWPID;
    if flags & NAMESPACES == 0 {
        return Ok(());
    }
    fx.obey(rule!("TG-05"));
    if !capable && flags & clone::NEWUSER == 0 {
        return Err(Errno::EPERM);
    }
    if flags & clone::NEWIPC != 0 && flags & clone::SYSVSEM != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Checks which flags need or exclude each other.
fn check_sharing(flags: u64, fx: &mut Effects) -> Result<(), Errno> {
    let has = |flag| flags & flag != 0;
    if has(clone::FS) && (has(clone::NEWNS) || has(clone::NEWUSER)) {
        return refuse(fx, rule!("FORK-24"), Errno::EINVAL);
    }
    if has(clone::THREAD) && !has(clone::SIGHAND) || has(clone::SIGHAND) && !has(clone::VM) {
        return refuse(fx, rule!("FORK-23"), Errno::EINVAL);
    }
    if has(clone::THREAD) && (has(clone::NEWPID) || has(clone::NEWUSER)) {
        return refuse(fx, rule!("FORK-25"), Errno::EINVAL);
    }
    Ok(())
}
