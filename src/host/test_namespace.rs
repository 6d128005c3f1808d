//! The pid namespace of one program, and the detection of its quiescence.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use super::engine::{Engine, PATIENCE};
use super::observation::{Ended, Observation, ObservedEvent, ProcessEnd};
use super::procfs;
use super::shared_memory::{LogRecord, Op, RECORDS, RawCall};
use super::sysctl::Sysctl;
use super::task::{PendingCall, Task, TaskSample, view};
use super::terminal_files::TerminalFiles;
use super::{codec, os};
use crate::abi::Pid;
use crate::kernel::{RunState, View};
use crate::syscall::{MEMORY, Syscall, clone};

/// How long the end of a process may take.
const DYING: Duration = Duration::from_millis(20);
/// How long a number may stay in use after its task has left /proc.
const LEAVING: Duration = Duration::from_millis(50);
/// How long all other tasks sleep before the controller searches for a created task that has not
/// registered itself.
const UNREGISTERED: Duration = Duration::from_millis(5);

/// The initial state of a test namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TestNamespaceConfig {
    /// The namespace's pid_max (PID-07).
    pub pid_max: Option<u32>,
    /// The number after which the next process is numbered (PID-12).
    pub last_pid: Option<u32>,
    /// The number of the program's first process, if it is not process 1. Then it is a child of
    /// process 1, in a process group and a session that it does not see, and process 1 is in a
    /// session of its own. Process 1 does nothing, is not part of the program and is not observed:
    /// the same as a `Config` with `parent` and `adopter` 1.
    pub first: Option<Pid>,
}

/// A task whose number a call returned and that is not registered yet.
#[derive(Clone, Copy, Debug)]
struct AwaitedTask {
    tid: u32,
    /// The number of tasks that had been created before.
    new_tasks: usize,
    /// The call's command.
    command: u32,
}

/// A pid namespace with a program in it.
#[derive(Debug)]
pub struct TestNamespace<'e> {
    engine: &'e mut Engine,
    /// The first process's number in the controller's namespace; `None` once it is reaped.
    init: Option<i32>,
    /// Process 1, if it is not part of the program.
    hidden: Option<u32>,
    /// Every thread.
    lives: BTreeMap<u32, Task>,
    /// Numbers by the numbers in /proc.
    by_host: HashMap<u32, u32>,
    /// The calls by the number of their command.
    made: HashMap<u32, PendingCall>,
    /// The created threads, in the order of their creation.
    new_tasks: Vec<u32>,
    due: Vec<AwaitedTask>,
    /// A task that was creating a thread or a process has ended, or is at rest: the new task may
    /// exist without being registered.
    orphaned: bool,
    /// The numbers of tasks that have left /proc, in this namespace and in the controller's. They
    /// may still be in use while a task ends on another CPU, or after other tasks.
    leaving: Vec<(u32, u32)>,
    /// How often each task had left the CPU at the last sample, if that is needed.
    switches: Vec<(u32, u64)>,
    new_tasks_read: u32,
    log_read: u32,
    ends: os::Ends,
    ended: Vec<Ended>,
    /// The result of the controller's newest own call.
    answer: Option<LogRecord>,
    terminals: TerminalFiles,
}

impl<'e> TestNamespace<'e> {
    pub(super) fn new(
        engine: &'e mut Engine,
        config: &TestNamespaceConfig,
    ) -> io::Result<TestNamespace<'e>> {
        engine.memory.hold.store(0, Relaxed);
        engine.memory.masters.store(0, Relaxed);
        let new_tasks_read = engine.memory.new_tasks.count();
        let init = engine.fork_init()?;
        let log_read = engine.memory.head.load(Acquire);
        let mut namespace = TestNamespace {
            engine,
            init: Some(init),
            hidden: None,
            lives: BTreeMap::new(),
            by_host: HashMap::new(),
            made: HashMap::new(),
            new_tasks: Vec::new(),
            due: vec![AwaitedTask { tid: 1, new_tasks: 0, command: 0 }],
            orphaned: false,
            leaving: Vec::new(),
            switches: Vec::new(),
            new_tasks_read,
            log_read,
            ends: os::Ends::new()?,
            ended: Vec::new(),
            answer: None,
            terminals: TerminalFiles::default(),
        };
        namespace.settle()?;
        if let Some(value) = config.pid_max {
            namespace.write_sysctl(Sysctl::PidMax, value)?;
        }
        if let Some(first) = config.first.filter(|first| first.0 != 1) {
            namespace.make_first(first)?;
        }
        if let Some(value) = config.last_pid {
            namespace.write_sysctl(Sysctl::LastPid, value)?;
        }
        Ok(namespace)
    }

    /// Has the thread `tid` perform `call`, and returns when the namespace is quiescent again.
    ///
    /// The result of a call that blocks is in the observation in which it returns. A stopped thread
    /// performs the call when it continues. clone(2) with CLONE_THREAD creates a thread, which then
    /// makes calls of its own.
    ///
    /// As [`TestNamespace::post`].
    pub fn call(&mut self, tid: Pid, call: &Syscall) -> io::Result<Observation> {
        self.post(tid, call, 0)?;
        let pause = self.engine.terminal_pause;
        if pause > Duration::ZERO && call.is_of_terminal() {
            // the kernel carries bytes between the ends in the background
            std::thread::sleep(pause);
        }
        self.settle()
    }

    /// Has the thread `tid` perform `call` and does not wait: [`TestNamespace::observe`] does. With
    /// a [`concurrent`](super::EngineConfig::concurrent) engine, the calls of several threads run
    /// at the same time, each after its thread has counted to `delay` (about a nanosecond for each
    /// count).
    ///
    /// [`io::ErrorKind::InvalidInput`] if the thread does not exist, or is in a call.
    ///
    /// [`io::ErrorKind::Unsupported`] for the call that would leave a process that nothing can
    /// remove: process 1 joins the process group of another process. Up to Linux 6.18 at least,
    /// process 1 never ends then: in its exit it waits until its own number is the last one with an
    /// attached task, and its group's number has itself attached. Also for unshare(2) of the pid
    /// namespace: the numbers of tasks that are created in the new namespace belong to other tasks
    /// in this one.
    pub fn post(&mut self, tid: Pid, call: &Syscall, delay: u32) -> io::Result<()> {
        let unsupported = |text| Err(io::Error::new(io::ErrorKind::Unsupported, text));
        if self.lives.get(&tid.0).is_some_and(|task| task.tgid == 1) && self.joins_other_group(call)
        {
            return unsupported("process 1 would join another's group, and never end");
        }
        if matches!(call, Syscall::Unshare(flags) if flags & clone::NEWPID != 0) {
            return unsupported("children in another pid namespace");
        }
        let raw = codec::encode(&self.terminals.on_this_machine(call))?;
        let raw = self.terminals.complete(call, raw)?;
        self.start(tid.0, &raw, Some(call.clone()), delay)
    }

    /// The word at that address, in the page at [`MEMORY`] that all processes of a test namespace
    /// share: the kernel stores thread numbers there. `None` for an address outside of the page.
    pub fn word(&self, address: u64) -> Option<u32> {
        let nth = usize::try_from(address.checked_sub(MEMORY)? / 4).ok()?;
        self.engine.memory.words.get(nth).map(|word| word.load(Acquire))
    }

    /// Writes the word at that address; `None` for an address outside of the page.
    pub fn set_word(&mut self, address: u64, value: u32) -> Option<()> {
        let nth = usize::try_from(address.checked_sub(MEMORY)? / 4).ok()?;
        self.engine.memory.words.get(nth).map(|word| word.store(value, Relaxed))
    }

    /// Lets time pass, so that timers expire.
    pub fn elapse(&mut self, time: Duration) -> io::Result<Observation> {
        std::thread::sleep(time);
        self.settle()
    }

    /// Takes an observation without a call.
    pub fn observe(&mut self) -> io::Result<Observation> {
        self.settle()
    }

    /// Every existing thread.
    pub fn views(&mut self) -> io::Result<BTreeMap<Pid, View>> {
        Ok(self.settle()?.views)
    }

    /// Sets whether handlers wait for commands and return at [`Syscall::RtSigreturn`], or return at
    /// once, as they do in a new test namespace.
    pub fn hold_handlers(&mut self, hold: bool) {
        self.engine.memory.hold.store(u32::from(hold), Relaxed);
    }

    /// Ends the program. Returns every process that ever existed, in the order of their ends.
    pub fn finish(mut self) -> io::Result<Vec<Ended>> {
        self.close()?;
        Ok(core::mem::take(&mut self.ended))
    }

    /// The controller's side.
    pub(super) fn engine(&self) -> &Engine {
        self.engine
    }

    /// The metadata of the file behind a descriptor of the first process.
    pub(super) fn first_descriptor(&self, fd: i64) -> io::Result<Metadata> {
        let first = self.lives.get(&1).ok_or(io::ErrorKind::NotFound)?;
        std::fs::metadata(format!("/proc/{}/fd/{fd}", first.host))
    }

    /// Has the first process make a call that is not part of the program.
    pub(super) fn own_call(&mut self, raw: &RawCall, what: &str) -> io::Result<LogRecord> {
        self.start(1, raw, None, 0)?;
        self.settle()?;
        let answer = self.answer.take();
        let answer = answer.ok_or_else(|| io::Error::other(format!("{what}: no answer")))?;
        if answer.value < 0 {
            let error = io::Error::from_raw_os_error(-answer.value as i32);
            return Err(io::Error::new(error.kind(), format!("{what}: {error}")));
        }
        Ok(answer)
    }

    /// Has process 1 create the program's first process, and removes process 1 from the program.
    fn make_first(&mut self, first: Pid) -> io::Result<()> {
        // the number after 1 is the next one anyway
        if let Some(before) = first.0.checked_sub(1).filter(|before| *before > 1) {
            self.write_sysctl(Sysctl::LastPid, before)?;
        }
        let born = self.call(Pid(1), &Syscall::Fork)?.created_tasks;
        if born != [first] {
            return Err(io::Error::other(format!("the first process became {born:?}")));
        }
        // its parent does not link its group to the session (ORP-01), as the parent of process 1
        // does not either
        self.own_call(&RawCall::new(libc::SYS_setsid), "setsid")?;
        self.hidden = Some(1);
        Ok(())
    }

    /// Whether the call, made by process 1, moves it into another process group of its namespace.
    fn joins_other_group(&self, call: &Syscall) -> bool {
        let &Syscall::Setpgid { pid: 0 | 1, pgid: group @ 2.. } = call else { return false };
        self.lives.values().any(|task| task.pgid.0 == group as u32)
    }

    /// Returns the command.
    fn start(
        &mut self,
        tid: u32,
        raw: &RawCall,
        call: Option<Syscall>,
        delay: u32,
    ) -> io::Result<()> {
        let invalid = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let (Some(task), Some(slot)) = (self.lives.get_mut(&tid), self.engine.memory.slot(tid))
        else {
            return invalid("no such thread");
        };
        let in_handler = slot.depth.load(Relaxed) > 0;
        let asleep =
            slot.busy.load(Acquire) == 0 && slot.command.load(Relaxed) == slot.taken.load(Acquire);
        // a result that has not been read belongs to a call in progress
        if !asleep || !in_handler && !task.calls.is_empty() {
            return invalid("the thread is in a call");
        }
        if raw.op == Op::HandlerReturn && !in_handler {
            return invalid("no handler runs");
        }
        let outer = task.calls.clone();
        slot.delay.store(delay, Relaxed);
        let command = self.engine.post(tid, raw)?;
        if raw.op != Op::HandlerReturn {
            task.calls.push(command);
        }
        let new_tasks = self.new_tasks.len();
        self.made.insert(command, PendingCall { tid, call, outer, new_tasks, created: false });
        Ok(())
    }

    /// Waits until the namespace is quiescent. Returns what happened.
    ///
    /// Controller and agents share one CPU: if all agents sleep in one round of samples, and the
    /// controller did not leave the CPU during it, then all slept at one moment. With real-time
    /// agents this is usually true in the first round.
    ///
    /// On several CPUs all slept at one moment if all sleep in two rounds, and none has left a CPU
    /// in between.
    ///
    /// If no file shows which tasks sleep, one round proves nothing: all have to be at rest in two
    /// rounds, and the controller sleeps in between. The same on several CPUs: there a process is
    /// visible as a zombie before `exit_notify` has woken its parent, and this state may last long
    /// if the machine is a virtual one; so the controller waits between the rounds for the holder
    /// of tasklist_lock.
    fn settle(&mut self) -> io::Result<Observation> {
        let start = Instant::now();
        let mut seen = Observation::default();
        let everywhere = self.engine.is_concurrent();
        let has_sleep_file = self.engine.sleep_file.is_some() && !everywhere;
        let one_look = has_sleep_file || self.engine.is_realtime();
        let mut certain = one_look;
        let mut before = None;
        if !self.engine.is_realtime() {
            std::thread::yield_now();
        }
        for round in 0u32.. {
            let switches = os::context_switches();
            let reserved = self.engine.memory.head.load(Acquire);
            self.collect(&mut seen)?;
            let gone = seen.gone.len();
            let mut quiet = self.sample(&mut seen, start.elapsed() < DYING)?;
            if seen.gone.len() > gone && !self.engine.is_realtime() {
                // a process that is reaped without a wait has left /proc before its number is free:
                // let it finish
                certain = false;
            }
            if everywhere {
                let slept = before.replace(core::mem::take(&mut self.switches));
                quiet = quiet && slept == before;
            } else {
                quiet = quiet && os::context_switches() == switches;
            }
            if !quiet {
                certain &= one_look;
            } else if !certain {
                certain = true;
                if everywhere {
                    os::wait_for_tasklist_lock()?;
                }
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            if quiet && self.due.is_empty() && self.all_read() {
                if !self.numbers_are_free(&seen) && start.elapsed() < LEAVING {
                    std::thread::yield_now();
                    continue;
                }
                if !self.orphaned || self.find_orphans(&mut seen)? {
                    seen.normalise();
                    return Ok(seen);
                }
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            if quiet {
                self.pass_over_lost(reserved);
                if start.elapsed() > UNREGISTERED && self.all_read() {
                    self.find_unregistered(&mut seen)?;
                }
            }
            if start.elapsed() > PATIENCE {
                return Err(self.unquiet());
            }
            // a long wait is for the disk or for a tick of the kernel
            match round {
                0..200 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
        }
        Err(self.unquiet())
    }

    /// Whether the numbers of tasks that have left /proc are free, unless a process group or a
    /// session has them.
    fn numbers_are_free(&mut self, seen: &Observation) -> bool {
        let named =
            |tid: u32| seen.views.values().any(|view| view.pgid.0 == tid || view.sid.0 == tid);
        self.leaving.retain(|(tid, outer)| self.ends.is_in_use(*outer) && !named(*tid));
        self.leaving.is_empty()
    }

    fn unquiet(&self) -> io::Error {
        let letters: Vec<String> = self
            .lives
            .iter()
            .filter_map(|(tid, task)| {
                let status = procfs::read(&task.status, false).ok()??;
                Some(format!("{tid} {}", status.state as char))
            })
            .collect();
        let text = format!("not quiet: {}; not registered: {:?}", letters.join(", "), self.due);
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    /// Reads the new tasks and the log.
    fn collect(&mut self, seen: &mut Observation) -> io::Result<()> {
        if self.engine.memory.too_large.load(Relaxed) != 0 {
            self.engine.memory.too_large.store(0, Relaxed);
            return Err(io::Error::other("more threads than mailboxes"));
        }
        let head = self.engine.memory.head.load(Acquire);
        if self.engine.memory.new_tasks.take_lost()
            || head.wrapping_sub(self.log_read) as usize > RECORDS
        {
            return Err(io::Error::other("the log overflowed"));
        }
        while let Some(tid) = self.engine.memory.new_tasks.take(self.new_tasks_read) {
            self.new_tasks_read = self.new_tasks_read.wrapping_add(1);
            self.register_task(tid, seen)?;
        }
        while self.log_read != head {
            let record = self.engine.memory.nth_record(self.log_read);
            let Some(entry) = record.and_then(|record| record.take()) else { break };
            self.log_read = self.log_read.wrapping_add(1);
            self.note(&entry, seen);
        }
        Ok(())
    }

    /// Whether nothing was written since the last [`TestNamespace::collect`].
    fn all_read(&self) -> bool {
        !self.engine.memory.new_tasks.has(self.new_tasks_read)
            && self.engine.memory.head.load(Acquire) == self.log_read
    }

    /// Skips the next line if it is lost. All threads have slept since before the log had
    /// `reserved` lines: any of these that is not written belongs to a thread that was killed
    /// during its write. A later line may belong to a thread that has just woken.
    fn pass_over_lost(&mut self, reserved: u32) {
        let next = self.engine.memory.nth_record(self.log_read);
        if self.log_read != reserved && next.is_some_and(|record| !record.is_written()) {
            self.log_read = self.log_read.wrapping_add(1);
        }
    }

    /// Searches for created tasks that have not registered themselves, after all tasks have slept
    /// for long: such a task was stopped or killed before, by a task that ran at the same time.
    fn find_unregistered(&mut self, seen: &mut Observation) -> io::Result<()> {
        for due in self.due.clone() {
            // no process of the program can delay process 1
            let Some(made) = self.made.get(&due.command) else { continue };
            let maker = self.lives.get(&made.tid);
            let is_thread = made.makes_a_thread();
            let found = match maker {
                Some(maker) if is_thread => {
                    procfs::find_thread(maker.host, |_, status| status.pid.0 == due.tid)?
                }
                None if is_thread => None,
                _ => procfs::find_process(|_, status| {
                    status.pid.0 == due.tid && self.by_host.contains_key(&status.ppid)
                })?,
            };
            let moves = |status: &procfs::Status| !matches!(status.state, b'Z' | b'T');
            if !self.all_read() || found.as_ref().is_some_and(|(_, status)| moves(status)) {
                continue;
            }
            let tgid = match maker {
                Some(maker) if is_thread => maker.tgid,
                None if is_thread => 0,
                _ => due.tid,
            };
            self.register_unregistered(due.tid, tgid, found.map_or(0, |(host, _)| host), seen)?;
        }
        Ok(())
    }

    /// Searches for tasks whose creators were killed or stopped before they knew the number.
    /// Returns whether all of them are at rest.
    fn find_orphans(&mut self, seen: &mut Observation) -> io::Result<bool> {
        let is_new = |host: u32| !self.by_host.contains_key(&host);
        let is_ours = |status: &procfs::Status| self.by_host.contains_key(&status.ppid);
        let mut found = procfs::find_process(|host, status| is_ours(status) && is_new(host))?;
        for task in self.lives.values().filter(|task| task.is_leader()) {
            if found.is_none() {
                found = procfs::find_thread(task.host, |host, _| is_new(host))?;
            }
        }
        match found {
            Some((host, status)) if self.all_read() && matches!(status.state, b'Z' | b'T') => {
                self.register_unregistered(status.pid.0, status.tgid.0, host, seen)?;
                Ok(false)
            }
            Some(_) => Ok(false),
            None => {
                self.orphaned = false;
                Ok(self.all_read())
            }
        }
    }

    /// Registers a task that does not register itself.
    fn register_unregistered(
        &mut self,
        tid: u32,
        tgid: u32,
        host: u32,
        seen: &mut Observation,
    ) -> io::Result<()> {
        self.due.retain(|due| due.tid != tid);
        self.record_end(tid, ProcessEnd::Reaped, seen)?;
        self.new_tasks.push(tid);
        seen.created_tasks.push(Pid(tid));
        if let Some(slot) = self.engine.memory.slot(tid) {
            // the state of the previous task of that number
            slot.busy.store(0, Relaxed);
            slot.depth.store(0, Relaxed);
            slot.taken.store(slot.command.load(Relaxed), Relaxed);
        }
        self.watch(tid, tgid, host, Vec::new(), seen)
    }

    /// Registers a created thread.
    fn register_task(&mut self, tid: u32, seen: &mut Observation) -> io::Result<()> {
        let Some(slot) = self.engine.memory.slot(tid) else { return Ok(()) };
        let (host, tgid) = (slot.host_pid.load(Acquire), slot.tgid.load(Relaxed));
        // a child that is created inside of a handler has the calls that its parent was in
        let mut calls = Vec::new();
        if let Some(made) = self.made.get_mut(&slot.created_by.load(Relaxed)) {
            made.created |= made.makes_a_task();
            if slot.depth.load(Relaxed) > 0 {
                calls.clone_from(&made.outer);
            }
        }
        if let Some(task) = self.lives.get_mut(&tid)
            && task.host == host
        {
            // the controller found the task before it could register itself
            task.calls = calls;
            return Ok(());
        }
        // its number may be that of a task whose end was not observed
        self.record_end(tid, ProcessEnd::Reaped, seen)?;
        self.new_tasks.push(tid);
        seen.created_tasks.push(Pid(tid));
        let new_tasks = self.new_tasks.len();
        self.due.retain(|due| due.tid != tid || due.new_tasks >= new_tasks);
        self.watch(tid, tgid, host, calls, seen)
    }

    /// Starts to watch a thread.
    fn watch(
        &mut self,
        tid: u32,
        tgid: u32,
        host: u32,
        calls: Vec<u32>,
        seen: &mut Observation,
    ) -> io::Result<()> {
        let Some(mut task) = Task::open(tid, tgid, host, self.engine.sleep_file) else {
            // the thread ended before the controller could open its files
            seen.gone.push(Pid(tid));
            if tid == tgid {
                self.ended.push(Ended { pid: Pid(tid), status: None, end: ProcessEnd::Reaped });
                seen.ended.push((Pid(tid), None));
            }
            return Ok(());
        };
        if let Some(pidfd) = &task.pidfd {
            self.ends.watch(pidfd, tid)?;
        }
        task.calls = calls;
        self.by_host.insert(host, tid);
        self.lives.insert(tid, task);
        Ok(())
    }

    /// Processes a line of the log.
    fn note(&mut self, entry: &LogRecord, seen: &mut Observation) {
        let pid = Pid(entry.pid);
        if entry.handler {
            if let Some(info) = codec::siginfo(&entry.data) {
                seen.events.push(ObservedEvent::Handler { pid, info });
            }
            return;
        }
        let Some(made) = self.made.get(&entry.command) else { return };
        if let Some(task) = self.lives.get_mut(&entry.pid) {
            match made.call {
                // the calls of the previous thread of that number (EXEC-12) never return
                Some(Syscall::Execve { .. }) if entry.value == 0 => task.calls.clear(),
                _ => task.calls.retain(|command| *command != entry.command),
            }
        }
        let Some(call) = &made.call else {
            self.answer = Some(entry.clone());
            return;
        };
        let (tid, new_tasks) = (entry.value as u32, made.new_tasks);
        if made.makes_a_task() && entry.value > 0 && !self.new_tasks[new_tasks..].contains(&tid) {
            self.due.push(AwaitedTask { tid, new_tasks, command: entry.command });
        }
        let result = codec::decode(call, entry.value, &entry.data);
        let result = self.terminals.note(call, result, &entry.data);
        seen.events.push(ObservedEvent::Returned { pid, result });
    }

    /// Samples every thread. Returns whether all are at rest. `soon` after the call, a thread that
    /// a pending signal ends is not.
    fn sample(&mut self, seen: &mut Observation, soon: bool) -> io::Result<bool> {
        seen.views.clear();
        seen.in_handler.clear();
        self.switches.clear();
        let everywhere = self.engine.is_concurrent();
        let (mut quiet, mut init_ended) = (true, false);
        let mut gone = Vec::new();
        for (tid, task) in &mut self.lives {
            let Some(slot) = self.engine.memory.slot(*tid) else { continue };
            let busy = slot.busy.load(Acquire) != 0;
            let inner = task.calls.last().filter(|_| busy).and_then(|call| self.made.get(call));
            let (run, status) = match task.sample(slot, inner, soon, everywhere)? {
                // an init that is ending sleeps while it waits for the other processes (NS-08), and
                // looks like an idle one
                TaskSample::Rests(run, status) if everywhere && *tid == 1 => {
                    if run != RunState::Zombie && procfs::is_exiting(task.host)? {
                        quiet = false;
                        continue;
                    }
                    (run, status)
                }
                TaskSample::Rests(run, status) => (run, status),
                TaskSample::Gone => {
                    gone.push(*tid);
                    continue;
                }
                TaskSample::Busy => {
                    quiet = false;
                    continue;
                }
            };
            self.orphaned |= inner.is_some_and(PendingCall::is_making);
            // a zombie leader with other threads is not the end of its process (TG-87)
            let ended = run == RunState::Zombie && status.threads == 1;
            if ended && !task.ended {
                let Some(how) = procfs::exit_status(task.host)? else {
                    gone.push(*tid);
                    continue;
                };
                task.ended = true;
                self.orphaned |= task.is_making(&self.made);
                if self.hidden != Some(*tid) {
                    seen.ended.push((Pid(*tid), Some(how)));
                }
            }
            init_ended |= ended && *tid == 1;
            if everywhere {
                self.switches.push((*tid, status.switches));
            }
            if self.hidden == Some(task.tgid) {
                continue;
            }
            let depth = slot.depth.load(Relaxed);
            if depth > 0 && run != RunState::Zombie {
                seen.in_handler.insert(Pid(*tid), depth);
            }
            let ppid = self.by_host.get(&status.ppid).copied().unwrap_or(0);
            seen.views.insert(Pid(*tid), view(&status, run, Pid(ppid)));
        }
        self.note_ends(seen)?;
        for tid in gone {
            self.record_end(tid, ProcessEnd::Reaped, seen)?;
        }
        if init_ended {
            self.end_of_init(seen)?;
        }
        if self.init.is_none() {
            self.end_unregistered(seen)?;
        }
        Ok(quiet)
    }

    /// Process 1 has ended, and so have all other processes.
    fn end_of_init(&mut self, seen: &mut Observation) -> io::Result<()> {
        let Some(init) = self.init.take() else { return Ok(()) };
        seen.init = os::reap(init, true)?;
        let pids: Vec<u32> = self.lives.keys().copied().collect();
        for pid in pids {
            self.record_end(pid, ProcessEnd::Reaped, seen)?;
        }
        seen.in_handler.clear();
        seen.views.clear();
        Ok(())
    }

    /// Process 1 has ended: a task whose number its creator has read, and that has not run, was
    /// killed with the others (NS-08).
    fn end_unregistered(&mut self, seen: &mut Observation) -> io::Result<()> {
        while let Some(due) = self.due.pop() {
            let made = self.made.get(&due.command);
            let is_thread = made.is_some_and(PendingCall::makes_a_thread);
            self.register_unregistered(due.tid, if is_thread { 0 } else { due.tid }, 0, seen)?;
        }
        Ok(())
    }

    fn note_ends(&self, seen: &mut Observation) -> io::Result<()> {
        seen.order_of_ends.extend(self.ends.take()?.into_iter().map(Pid));
        Ok(())
    }

    /// Removes a thread that does not exist any more, and the process if it was its leader.
    fn record_end(&mut self, tid: u32, end: ProcessEnd, seen: &mut Observation) -> io::Result<()> {
        // closing its descriptor loses the record of its end
        self.note_ends(seen)?;
        let Some(task) = self.lives.remove(&tid) else { return Ok(()) };
        self.orphaned |= task.is_making(&self.made);
        self.by_host.remove(&task.host);
        if !self.engine.is_realtime() {
            self.leaving.push((tid, task.outer));
        }
        if self.hidden == Some(task.tgid) {
            return Ok(());
        }
        seen.gone.push(Pid(tid));
        if task.is_leader() {
            let status = task.pidfd.as_ref().and_then(os::exit_status);
            if !task.ended {
                seen.ended.push((Pid(tid), status));
            }
            self.ended.push(Ended { pid: Pid(tid), status, end });
        }
        Ok(())
    }

    /// Kills and reaps all processes.
    fn close(&mut self) -> io::Result<()> {
        let ends: Vec<(u32, ProcessEnd)> = self
            .lives
            .iter()
            .map(|(tid, task)| {
                (*tid, if task.ended { ProcessEnd::Zombie } else { ProcessEnd::Alive })
            })
            .collect();
        if let Some(init) = self.init.take() {
            os::kill(init);
            os::reap(init, true)?;
        }
        let mut seen = Observation::default();
        for (tid, end) in ends {
            self.record_end(tid, end, &mut seen)?;
        }
        // records of tasks that were ending must not reach the next program
        let memory = &self.engine.memory;
        while self.log_read != memory.head.load(Acquire) {
            memory.nth_record(self.log_read).and_then(|record| record.take());
            self.log_read = self.log_read.wrapping_add(1);
        }
        while memory.new_tasks.take(self.new_tasks_read).is_some() {
            self.new_tasks_read = self.new_tasks_read.wrapping_add(1);
        }
        for word in &memory.words {
            word.store(0, Relaxed);
        }
        Ok(())
    }
}

impl Drop for TestNamespace<'_> {
    fn drop(&mut self) {
        // an error means that the namespace has ended already
        let _ = self.close();
    }
}
