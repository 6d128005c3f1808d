//! wait4 and waitid.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::abi::{Errno, IdType, Pid, SigInfo, Signal, WaitOptions, WaitStatus};
use crate::kernel::api::effect::refuse;
use crate::kernel::api::effect::{Effects, Restart};
use crate::kernel::api::identity::PidId;
use crate::kernel::state::arena::Id;
use crate::kernel::state::children::{Scope, WaitEvent};
use crate::kernel::state::pid::PidObject;
use crate::kernel::state::process::{JobControl, Life, Process};
use crate::kernel::state::small_list::SmallList;
use crate::kernel::state::task::{Sleep, Task, WaitSelector, WaitSleep};
use crate::kernel::{Fault, Kernel, Property, Rule};
use crate::rule;
use crate::syscall::{self, Ptr, Ret, Syscall};

/// The options of a wait, as a filter of one child and its events.
#[derive(Clone, Copy)]
struct WaitFilter {
    options: WaitOptions,
}

impl WaitFilter {
    fn events(self) -> impl Iterator<Item = WaitEvent> {
        let wants = move |option, event| self.options.contains(option).then_some(event);
        [
            wants(WaitOptions::EXITED, WaitEvent::Exited),
            wants(WaitOptions::STOPPED, WaitEvent::Stopped),
            wants(WaitOptions::CONTINUED, WaitEvent::Continued),
        ]
        .into_iter()
        .flatten()
    }

    /// WAIT-14, WAIT-15: the classes of children that are eligible.
    fn classes(self) -> &'static [bool] {
        if self.options.contains(WaitOptions::ALL) {
            &[false, true]
        } else if self.options.contains(WaitOptions::CLONE) {
            &[true]
        } else {
            &[false]
        }
    }
}

/// The result of a scan of the children.
enum WaitResult {
    /// This child has an event to report.
    Ready(Id<Process>),
    /// No child has an event yet; an eligible child may have one later.
    Later,
    /// No child is eligible.
    NoChild,
}

/// An event in the form that both calls need.
struct Waited {
    pid: Pid,
    status: WaitStatus,
    info: SigInfo,
}

impl Kernel {
    /// wait4 and waitid; `None` if the caller sleeps now.
    pub(in crate::kernel) fn wait(
        &mut self,
        caller: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let result = self.try_wait(caller, call, fx)?;
        Some(store(call, result, fx))
    }

    /// As [`Kernel::wait`], for a caller that never sleeps. A given `selector` replaces the call's.
    // one inlined function: a result that moves between functions costs more than the scan
    #[inline(always)]
    pub(in crate::kernel) fn poll(
        &mut self,
        caller: Id<Task>,
        call: &Syscall,
        selector: Option<WaitSelector>,
        fx: &mut Effects,
    ) -> syscall::Result {
        let (own, options) = match self.check_wait(caller, call, fx) {
            Ok(checked) => checked,
            Err(errno) => return store(call, Err(errno), fx),
        };
        match self.look(caller, call, selector.unwrap_or(own), options, fx) {
            Some(result) => store(call, result, fx),
            None => {
                fx.obey(rule!("WAIT-10"));
                store(call, Ok(nothing_yet(call)), fx)
            }
        }
    }

    /// The result of a wait; `None` if there is no event yet. Each scan is new: it includes
    /// children that were created after the wait began (TG-150), and not children that were reaped
    /// automatically (TG-152).
    #[inline(always)]
    fn look(
        &mut self,
        caller: Id<Task>,
        call: &Syscall,
        selector: WaitSelector,
        options: WaitOptions,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        match self.look_for_child(caller, selector, options, fx) {
            WaitResult::Ready(child) => Some(self.report(call, child, options, fx)),
            WaitResult::NoChild => Some(refuse(fx, rule!("WAIT-08"), Errno::ECHILD)),
            WaitResult::Later => None,
        }
    }

    fn try_wait(
        &mut self,
        caller: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let (selector, options) = match self.check_wait(caller, call, fx) {
            Ok(checked) => checked,
            Err(errno) => return Some(Err(errno)),
        };
        if let Some(result) = self.look(caller, call, selector, options, fx) {
            return Some(result);
        }
        if options.contains(WaitOptions::NOHANG) {
            fx.obey(rule!("WAIT-10"));
            return Some(Ok(nothing_yet(call)));
        }
        if self.tasks[caller].signal_pending {
            return self.interrupt_wait(caller, call.clone(), fx);
        }
        let order = self.begin_wait(self.process_of(caller));
        let sleep = WaitSleep { call: call.clone(), selector, options, order };
        self.tasks[caller].sleep = Sleep::Wait(Box::new(sleep));
        None
    }

    /// Checks the arguments of a wait, and returns its selector and its options.
    fn check_wait(
        &self,
        caller: Id<Task>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Result<(WaitSelector, WaitOptions), Errno> {
        match *call {
            Syscall::Wait4 { pid, options, .. } => self.check_wait4(caller, pid, options, fx),
            Syscall::Waitid { idtype, id, options, .. } => {
                self.check_waitid(caller, idtype, id, options, fx)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn check_wait4(
        &self,
        caller: Id<Task>,
        pid: i32,
        options: WaitOptions,
        fx: &mut Effects,
    ) -> Result<(WaitSelector, WaitOptions), Errno> {
        const ALLOWED: WaitOptions = WaitOptions::NOHANG
            .with(WaitOptions::STOPPED)
            .with(WaitOptions::CONTINUED)
            .with(WaitOptions::NOTHREAD)
            .with(WaitOptions::CLONE)
            .with(WaitOptions::ALL);
        if options.0 & !ALLOWED.0 != 0 {
            return refuse(fx, rule!("WAIT-03"), Errno::EINVAL);
        }
        if pid == i32::MIN {
            return refuse(fx, rule!("WAIT-02"), Errno::ESRCH);
        }
        fx.obey(rule!("WAIT-01"));
        let selector = match pid {
            -1 => WaitSelector::Any,
            0 => self.own_group(caller, fx),
            1.. => WaitSelector::Pid(self.pid_id(Pid(pid.unsigned_abs()))),
            _ => WaitSelector::Pgid(self.pid_id(Pid(pid.unsigned_abs()))),
        };
        Ok((selector, options.with(WaitOptions::EXITED)))
    }

    fn check_waitid(
        &self,
        caller: Id<Task>,
        idtype: IdType,
        id: i32,
        options: WaitOptions,
        fx: &mut Effects,
    ) -> Result<(WaitSelector, WaitOptions), Errno> {
        const EVENTS: WaitOptions =
            WaitOptions::EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
        const ALLOWED: WaitOptions = EVENTS
            .with(WaitOptions::NOHANG)
            .with(WaitOptions::NOWAIT)
            .with(WaitOptions::NOTHREAD)
            .with(WaitOptions::CLONE)
            .with(WaitOptions::ALL);
        if options.0 & !ALLOWED.0 != 0 || options.0 & EVENTS.0 == 0 {
            return refuse(fx, rule!("WAIT-04"), Errno::EINVAL);
        }
        fx.obey(rule!("WAIT-05"));
        let selector = match idtype {
            IdType::ALL => WaitSelector::Any,
            IdType::PID if id > 0 => WaitSelector::Pid(self.pid_id(Pid(id.unsigned_abs()))),
            IdType::PGID if id > 0 => WaitSelector::Pgid(self.pid_id(Pid(id.unsigned_abs()))),
            IdType::PGID if id == 0 => self.own_group(caller, fx),
            // the model has no pidfds: no such descriptor is open (WAIT-06)
            IdType::PIDFD if id >= 0 => return refuse(fx, rule!("WAIT-06"), Errno::EBADF),
            IdType::PIDFD => return refuse(fx, rule!("WAIT-06"), Errno::EINVAL),
            IdType::PID | IdType::PGID => return Err(Errno::EINVAL),
            _ => return refuse(fx, rule!("WAIT-04"), Errno::EINVAL),
        };
        Ok((selector, options))
    }

    /// The other tasks whose children the caller waits for, in the order in which the kernel scans
    /// them after the caller's own (WAIT-32, TG-142); none with __WNOTHREAD (WAIT-16).
    fn waiting_tasks(&self, caller: Id<Task>, options: WaitOptions) -> SmallList<Id<Task>> {
        let mut tasks = SmallList::new();
        let process = &self.processes[self.process_of(caller)];
        let alone =
            options.contains(WaitOptions::NOTHREAD) && !self.has_fault(Fault::NothreadIgnored);
        if !process.is_single() && !alone && !self.has_fault(Fault::WaitSeesOwnChildrenOnly) {
            self.tasks_from(caller).skip(1).for_each(|task| tasks.push(task));
        }
        tasks
    }

    /// WAIT-17: the group of the caller at this moment.
    fn own_group(&self, caller: Id<Task>, fx: &mut Effects) -> WaitSelector {
        fx.obey(rule!("WAIT-17"));
        let group = self.processes[self.process_of(caller)].group;
        WaitSelector::Pgid(Some(self.pids.identity(self.groups[group].pid)))
    }

    /// The earliest eligible child that has a requested event.
    fn look_for_child(
        &mut self,
        caller: Id<Task>,
        selector: WaitSelector,
        options: WaitOptions,
        fx: &mut Effects,
    ) -> WaitResult {
        let wanted = WaitFilter { options };
        fx.obey(rule!("WAIT-14"));
        if options.0 & (WaitOptions::ALL.0 | WaitOptions::CLONE.0) != 0 {
            fx.obey(rule!("WAIT-15"));
        }
        if options.contains(WaitOptions::NOTHREAD) {
            fx.obey(rule!("WAIT-16"));
        }
        if let WaitSelector::Pid(pid) = selector {
            return self.look_at_child(caller, pid, wanted, fx);
        }
        let Some(scope) = self.scope_of(selector) else { return WaitResult::NoChild };
        let mut events = [WaitEvent::Exited; 3];
        let mut count = 0;
        for event in wanted.events() {
            events[count] = event;
            count += 1;
        }
        let classes = wanted.classes();
        let events = &events[..count];
        let found = self.look_at_children(caller, scope, events, classes, fx);
        if let WaitResult::Ready(_) = found {
            return found;
        }
        let mut later = matches!(found, WaitResult::Later);
        for parent in self.waiting_tasks(caller, options).iter() {
            fx.obey(rule!("WAIT-32"));
            fx.obey(rule!("TG-142"));
            match self.look_at_children(*parent, scope, events, classes, fx) {
                WaitResult::Ready(child) => return WaitResult::Ready(child),
                WaitResult::Later => later = true,
                WaitResult::NoChild => {}
            }
        }
        if later {
            WaitResult::Later
        } else {
            fx.obey(rule!("WAIT-23"));
            WaitResult::NoChild
        }
    }

    /// As [`Kernel::look_for_child`], among the children of one thread.
    fn look_at_children(
        &mut self,
        parent: Id<Task>,
        scope: Scope,
        events: &[WaitEvent],
        classes: &[bool],
        fx: &mut Effects,
    ) -> WaitResult {
        if let Some(child) = self.earliest_child(parent, scope, events, classes) {
            fx.obey(rule!("WAIT-30"));
            fx.obey(rule!("FORK-16"));
            if events.len() > 1 {
                fx.obey(rule!("WAIT-31"));
            }
            return WaitResult::Ready(child);
        }
        // WAIT-23: a zombie whose end the options exclude has no event later
        if self.has_living_child(parent, scope, classes) {
            WaitResult::Later
        } else {
            WaitResult::NoChild
        }
    }

    /// The scope of a selector; `None` if there is no such group.
    fn scope_of(&self, selector: WaitSelector) -> Option<Scope> {
        match selector {
            WaitSelector::Any | WaitSelector::Pid(_) => Some(None),
            WaitSelector::Pgid(pid) => self.pids[self.pids.resolve(pid?)?].group().map(Some),
        }
    }

    /// As [`Kernel::look_for_child`], for the child `pid`.
    fn look_at_child(
        &self,
        caller: Id<Task>,
        pid: Option<PidId>,
        wanted: WaitFilter,
        fx: &mut Effects,
    ) -> WaitResult {
        // TG-151: the number of a thread that is not the leader selects no child
        let task = pid.and_then(|pid| self.pids[self.pids.resolve(pid)?].task());
        let Some(child) = task.and_then(|task| self.process_led_by(task)) else {
            if task.is_some() {
                fx.obey(rule!("WAIT-47"));
                fx.obey(rule!("TG-151"));
            }
            return WaitResult::NoChild;
        };
        let process = &self.processes[child];
        let nothread = wanted.options.contains(WaitOptions::NOTHREAD);
        // TG-145
        let own = if nothread && !self.has_fault(Fault::NothreadIgnored)
            || self.has_fault(Fault::WaitSeesOwnChildrenOnly)
        {
            process.parent == Some(caller)
        } else {
            self.parent_of(child) == Some(self.process_of(caller))
        };
        if own && process.parent != Some(caller) {
            fx.obey(rule!("TG-145"));
        }
        if !own || !wanted.classes().contains(&process.is_clone_child()) {
            return WaitResult::NoChild;
        }
        match process.report {
            Some(report) if wanted.events().any(|event| event == report.event) => {
                WaitResult::Ready(child)
            }
            _ if process.is_zombie() => WaitResult::NoChild,
            Some(_) => {
                // the child has an event to report, and the options exclude it
                fx.obey(rule!("WAIT-34"));
                WaitResult::Later
            }
            None => WaitResult::Later,
        }
    }

    /// Reports the event of the child, and consumes it unless WNOWAIT is set.
    fn report(
        &mut self,
        call: &Syscall,
        child: Id<Process>,
        options: WaitOptions,
        fx: &mut Effects,
    ) -> syscall::Result {
        // TG-147
        let keep = options.contains(WaitOptions::NOWAIT);
        if keep {
            fx.obey(rule!("WAIT-33"));
        }
        let process = &self.processes[child];
        let (pid, uid) = (self.pid_of(child), self.leader_cred(child).real);
        let (status, rule) = match process.life {
            Life::Zombie(status) => {
                self.note_death_report(child, fx);
                (if keep { self.shown_status(child, status) } else { status }, rule!("WAIT-37"))
            }
            Life::Alive(JobControl::Stopped { signal, .. }) => {
                (WaitStatus::stopped(signal), rule!("WAIT-24"))
            }
            _ => (WaitStatus::CONTINUED, rule!("WAIT-25")),
        };
        fx.obey(rule);
        fx.obey(if rule == rule!("WAIT-37") { rule!("EXIT-02") } else { rule!("EXIT-04") });
        fx.obey(rule!("WAIT-21"));
        if !keep {
            self.consume(child, rule, fx);
        }
        fx.obey(rule!("WAIT-36"));
        let info = SigInfo::child(Signal::CHLD, pid, uid, status);
        hand_over(call, &Waited { pid, status, info }, fx)
    }

    /// The status that a zombie shows before it is reaped (WAIT-33): to waits with WNOWAIT, and in
    /// /proc. `status` is the status of the process.
    pub(in crate::kernel) fn shown_status(
        &self,
        id: Id<Process>,
        status: WaitStatus,
    ) -> WaitStatus {
        if self.config.version.has(Property::ZombieShowsProcess) {
            return status;
        }
        self.leader_status(id, status)
    }

    /// Notes the rules of the report of an end that have no effect of their own.
    fn note_death_report(&self, child: Id<Process>, fx: &mut Effects) {
        let process = &self.processes[child];
        let Some(parent) = self.parent_of(child) else { return };
        let parent = &self.processes[parent];
        if self.sighands[parent.sighand].reaps_children() && !process.is_clone_child() {
            // the child ended before the parent requested automatic reaping
            fx.obey(rule!("ZOM-05"));
        }
        if parent.shared.contains(Signal::CHLD) {
            fx.obey(rule!("WAIT-45"));
        }
    }

    fn consume(&mut self, child: Id<Process>, rule: Rule, fx: &mut Effects) {
        match self.processes[child].life {
            Life::Zombie(_) => self.reap(child, rule, fx),
            Life::Alive(JobControl::Stopped { signal, .. }) => {
                self.set_life(
                    child,
                    Life::Alive(JobControl::Stopped { signal, unreported: false }),
                );
            }
            Life::Alive(JobControl::Continued { unsent, .. }) => {
                let job = if unsent.is_some() {
                    JobControl::Continued { unreported: false, unsent }
                } else {
                    JobControl::Running
                };
                self.set_life(child, Life::Alive(job));
            }
            Life::Alive(JobControl::Running) | Life::Dying(_) => {}
        }
    }

    /// A signal ends the sleep. The first handler decides about a restart, unless the kernel cannot
    /// store the zeroes of waitid.
    fn interrupt_wait(
        &mut self,
        task: Id<Task>,
        call: Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        if let Syscall::Waitid { info: Ptr::Bad, .. } = call {
            return Some(refuse(fx, rule!("WAIT-12"), Errno::EFAULT));
        }
        self.interrupt(task, Restart::Sys, call, fx);
        None
    }

    /// Wakes the threads of `parent`'s process that wait for `child` (WAIT-18, WAIT-20, CHLD-12);
    /// the thread whose wait began last is first (TG-140).
    pub(in crate::kernel) fn wake_waiters(
        &mut self,
        parent: Id<Task>,
        child: Id<Process>,
        fx: &mut Effects,
    ) {
        let process = self.process_of(parent);
        self.wake_external_waits(process, child, fx);
        if self.processes[process].is_single() {
            if self.waits_for(self.leader(process), parent, child, fx) {
                self.enqueue_task(self.leader(process));
            }
            return;
        }
        let tasks = self.tasks_of(process);
        let mut waiting: Vec<(u64, Id<Task>)> = tasks
            .filter(|task| self.waits_for(*task, parent, child, fx))
            .map(|task| match &self.tasks[task].sleep {
                Sleep::Wait(sleep) => (sleep.order, task),
                _ => (0, task),
            })
            .collect();
        if waiting.len() > 1 {
            fx.obey(rule!("TG-140"));
            waiting.sort_unstable_by(|one, other| other.cmp(one));
        }
        for (_, task) in waiting {
            self.enqueue_task(task);
        }
    }

    /// Whether a task sleeps in a wait that includes that child of `parent`.
    fn waits_for(
        &self,
        task: Id<Task>,
        parent: Id<Task>,
        child: Id<Process>,
        fx: &mut Effects,
    ) -> bool {
        let Sleep::Wait(sleep) = &self.tasks[task].sleep else { return false };
        if sleep.options.contains(WaitOptions::NOTHREAD) && task != parent {
            // TG-141
            fx.obey(rule!("TG-141"));
            return false;
        }
        let selected = self.selects(sleep.selector, child);
        if self.selects_nothing(sleep.selector) {
            fx.obey(rule!("WAIT-48"));
        }
        if selected {
            fx.obey(rule!("CHLD-12"));
            fx.obey(rule!("WAIT-18"));
        } else {
            fx.obey(rule!("WAIT-20"));
        }
        selected
    }

    fn selects(&self, selector: WaitSelector, child: Id<Process>) -> bool {
        let process = &self.processes[child];
        match selector {
            WaitSelector::Any => true,
            WaitSelector::Pid(pid) => self.has_identity(process.pid, pid),
            WaitSelector::Pgid(pid) => self.has_identity(self.groups[process.group].pid, pid),
        }
    }

    /// Whether the process or group that the wait selected when it began is gone.
    fn selects_nothing(&self, selector: WaitSelector) -> bool {
        match selector {
            WaitSelector::Any => false,
            WaitSelector::Pid(pid) | WaitSelector::Pgid(pid) => {
                pid.is_some_and(|pid| self.pids.resolve(pid).is_none())
            }
        }
    }

    fn has_identity(&self, object: Id<PidObject>, pid: Option<PidId>) -> bool {
        pid.is_some_and(|pid| self.pids.resolve(pid) == Some(object))
    }

    /// A thread that sleeps in a wait was woken: it scans the children again, and only then looks
    /// at its signals (WAIT-42).
    pub(in crate::kernel) fn wake_wait(&mut self, task: Id<Task>, fx: &mut Effects) {
        let Sleep::Wait(sleep) = core::mem::take(&mut self.tasks[task].sleep) else { return };
        let options = sleep.options;
        match self.look_for_child(task, sleep.selector, options, fx) {
            WaitResult::Ready(child) => {
                fx.obey(rule!("WAIT-42"));
                let result = self.report(&sleep.call, child, options, fx);
                let result = store(&sleep.call, result, fx);
                self.return_later(task, result, rule!("WAIT-42"), fx);
            }
            WaitResult::NoChild => {
                // also if the child has left the group during the wait
                let classes = WaitFilter { options }.classes();
                let left = self.has_living_child(task, None, classes);
                fx.obey(if left { rule!("WAIT-19") } else { rule!("ZOM-07") });
                let result = store(&sleep.call, Err(Errno::ECHILD), fx);
                self.return_later(task, result, rule!("WAIT-08"), fx);
            }
            WaitResult::Later if self.tasks[task].signal_pending => {
                if let Some(result) = self.interrupt_wait(task, sleep.call, fx) {
                    self.return_later(task, result, rule!("WAIT-12"), fx);
                }
            }
            WaitResult::Later => self.tasks[task].sleep = Sleep::Wait(sleep),
        }
    }
}

/// The result with WNOHANG if no child has an event to report.
fn nothing_yet(call: &Syscall) -> Ret {
    match call {
        Syscall::Waitid { info: Ptr::Valid, .. } => Ret::WaitInfo(Some(None)),
        Syscall::Waitid { .. } => Ret::WaitInfo(None),
        _ => Ret::Waited { pid: Pid(0), status: None },
    }
}

/// The stored result. waitid stores zeroes even when it fails, so a bad address gives EFAULT
/// instead of every other error (WAIT-09, WAIT-12).
#[inline(always)]
fn store(call: &Syscall, result: syscall::Result, fx: &mut Effects) -> syscall::Result {
    match call {
        Syscall::Waitid { info: Ptr::Bad, .. } => refuse(fx, rule!("WAIT-12"), Errno::EFAULT),
        Syscall::Waitid { .. } => {
            fx.obey(rule!("WAIT-09"));
            result
        }
        _ => result,
    }
}

/// The event as the call returns it. The kernel detects a bad address only here, after it has
/// consumed the event (WAIT-12).
fn hand_over(call: &Syscall, waited: &Waited, fx: &mut Effects) -> syscall::Result {
    match call {
        Syscall::Waitid { info, .. } => match info {
            Ptr::Null => {
                fx.obey(rule!("WAIT-11"));
                Ok(Ret::WaitInfo(None))
            }
            Ptr::Valid | Ptr::Bad => Ok(Ret::WaitInfo(Some(Some(waited.info)))),
        },
        Syscall::Wait4 { status: Ptr::Bad, .. } => refuse(fx, rule!("WAIT-12"), Errno::EFAULT),
        Syscall::Wait4 { status: Ptr::Null, .. } => {
            fx.obey(rule!("WAIT-11"));
            Ok(Ret::Waited { pid: waited.pid, status: None })
        }
        _ => {
            fx.obey(rule!("WAIT-13"));
            Ok(Ret::Waited { pid: waited.pid, status: Some(waited.status) })
        }
    }
}
