//! The data of each process that the model does not have, and what the model's effects mean for
//! drivers, sleeping threads and subscribers.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::by_pid::ByPid;
use super::clock::Clock;
use super::driver_queue::{DriverQueue, DriverQueues};
use super::end::TerminateWaiter;
use super::event::Subscribers;
use super::exit_gate::PendingExit;
use super::guest::Calls;
use super::outbox::{Outbox, Wake};
use super::query::ProcessData;
use super::terminal::WindowParkers;
use super::threads::{Threads, process_in};
use super::usage::Usages;
use super::waits::{WaitEntry, Waits};
use super::zombies::ZombieQueue;
use crate::abi::{Pid, SigInfo, Signal, Time, WaitStatus};
pub(crate) use crate::driver::ProcessKey;
use crate::driver::{Authority, Delivery, Op};
use crate::kernel::{Consequence, Effect, ExternalWake, Id, Kernel, SmallList};
use crate::sync::{OnceLock, Parker};

/// The program that a process executes. A parent, its children and the readers of the table share
/// it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Image {
    /// The program, as execve(2) names it.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, each entry as `NAME=value`.
    pub env: Vec<String>,
}

impl Image {
    /// A program with no arguments and no environment.
    pub fn new(program: impl Into<String>) -> Image {
        Image { program: program.into(), ..Image::default() }
    }

    /// The program of process 1, the same in all tables.
    pub(super) fn init() -> Arc<Image> {
        static INIT: OnceLock<Arc<Image>> = OnceLock::new();
        INIT.get_or_init(|| Arc::new(Image::new("init"))).clone()
    }

    /// The value of an environment variable. Costs a scan of the environment.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The bits of the serials of one table; those above them distinguish tables.
const SERIAL_BITS: u32 = 36;

/// The mask of these bits.
#[cfg(feature = "serde")]
pub(super) const SERIALS: u64 = (1 << SERIAL_BITS) - 1;

/// A process that is not reaped.
#[derive(Debug)]
pub(super) struct ProcessEntry {
    pub serial: u64,
    pub image: Arc<Image>,
    pub started: Time,
    /// `None` for a driver that does nothing.
    pub driver_queue: Option<Id<DriverQueue>>,
    /// The calls of its leader; `None` while the leader has no call in progress.
    pub calls: Option<Box<Calls>>,
    pub run_by: RunBy,
    pub phase: Phase,
    /// The leader has ended, and other threads may be alive (TG-87).
    pub leader_ended: bool,
    /// The process is a zombie in the queue of zombies to reap.
    pub expires: bool,
}

// the table has one entry for each process
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Option<ProcessEntry>>() <= 40, "an entry has grown");

/// The side that decides the state of a process, and the code that runs its handlers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum RunBy {
    /// The model decides, and the driver runs handlers.
    Driver,
    /// The model decides, and the process takes its handlers itself.
    SafePoints,
    /// The runtime performs default actions, and the driver runs handlers.
    Runtime,
    /// The runtime performs default actions, and the process takes its handlers itself.
    RuntimeSafePoints,
    Host,
}

impl RunBy {
    pub fn authority(self) -> Authority {
        match self {
            RunBy::Driver | RunBy::SafePoints => Authority::Model,
            RunBy::Runtime | RunBy::RuntimeSafePoints => Authority::Runtime,
            RunBy::Host => Authority::Host,
        }
    }

    /// Whether the process takes its handlers itself.
    pub fn has_safe_points(self) -> bool {
        matches!(self, RunBy::SafePoints | RunBy::RuntimeSafePoints)
    }
}

/// The state of a process, as the counts distinguish it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Phase {
    Running,
    Stopped,
    Zombie,
}

/// The number of processes of a table, in total and by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All processes, process 1 and zombies included.
    pub processes: usize,
    /// The processes that are alive and not stopped.
    pub running: usize,
    /// The processes that are stopped.
    pub stopped: usize,
    /// The processes that have ended and are not reaped.
    pub zombies: usize,
}

/// The state under the lock, without the model.
#[derive(Debug, Default)]
pub(super) struct ProcessRegistry {
    pub entries: ByPid<ProcessEntry>,
    /// The threads that are not the leaders of their processes.
    pub threads: Threads,
    /// A process with safe points exists or has existed.
    pub has_safe_points: bool,
    /// The number of handlers of such processes that were entered and have not returned.
    pub entered: usize,
    /// The threads that wait for the end of a thread, by its number.
    pub joins: BTreeMap<Pid, Vec<Arc<Parker>>>,
    pub queues: DriverQueues,
    serial: u64,
    /// The program of the process that is created next; `None` if it keeps its parent's program.
    pub next_image: Option<Arc<Image>>,
    pub counts: Counts,
    /// The programs of execve calls in progress, by the path in the call: the key is the address of
    /// the path, not its text.
    images: Vec<(Arc<str>, Arc<Image>)>,
    pub waits: Waits,
    /// The waits that poll at the end of this transition, because an event concerns them.
    pub concerned: Vec<Arc<WaitEntry>>,
    pub subscribers: Subscribers,
    /// The runtime's values, by process.
    pub data: BTreeMap<Pid, ProcessData>,
    pub usages: Usages,
    /// Processes that guests create get their drivers from the embedder.
    pub has_factory: bool,
    /// The process that is created next gets no driver from the embedder's factory: its spawn has
    /// one, or it is the table's init.
    pub skips_factory: bool,
    pub zombies: ZombieQueue,
    /// The exit callback is set: it runs before any wait returns an exit.
    pub has_exit_callback: bool,
    /// A process whose creation failed after its fork: the exit callback does not run for it.
    pub rolled_back: Option<Pid>,
    /// The parkers that a thread is about to unpark, by the thread of the call or the process of
    /// the wait.
    pub pending_wakes: BTreeMap<Pid, Vec<Arc<Parker>>>,
    pub pending_exits: VecDeque<PendingExit>,
    /// Threads with queued calls that may be able to make them.
    pub ready: Vec<Pid>,
    /// The parkers on which the exit callback that runs at present sleeps, or has another thread
    /// sleep: they bypass the exit gate.
    pub callback_sleeps: SmallList<Arc<Parker>>,
    /// The threads that wait for the end of all processes.
    pub terminate_waiters: SmallList<Arc<TerminateWaiter>>,
    /// The sleeping readers and writers of windows, by the number of the terminal.
    pub windows: BTreeMap<u32, WindowParkers>,
    pub outbox: Outbox,
    /// The time of the table in this transition; `None` until it is read.
    pub now: Option<Time>,
}

impl ProcessRegistry {
    /// The serials of a table are those of no other table, as long as a table has at most 2^36
    /// processes and the program fewer than 2^28 tables.
    pub fn new(zombies: ZombieQueue) -> ProcessRegistry {
        static TABLES: AtomicU64 = AtomicU64::new(0);
        let serial = TABLES.fetch_add(1, Ordering::Relaxed) << SERIAL_BITS;
        ProcessRegistry { zombies, serial, ..ProcessRegistry::default() }
    }

    /// The process of a key; `None` once it is reaped.
    #[inline]
    pub fn entry(&self, key: ProcessKey) -> Option<&ProcessEntry> {
        self.entries.get(key.pid).filter(|entry| entry.serial == key.serial)
    }

    /// The key of the process that has this number at present.
    pub fn key(&self, pid: Pid) -> Option<ProcessKey> {
        self.entries.get(pid).map(|entry| ProcessKey { pid, serial: entry.serial })
    }

    /// Adds a new process.
    pub fn enter(&mut self, pid: Pid, image: Arc<Image>, clock: &dyn Clock) -> ProcessKey {
        self.counts.processes += 1;
        self.counts.running += 1;
        let (serial, started) = (self.next_serial(), self.time(clock));
        let key = ProcessKey { pid, serial };
        let is_spawned = core::mem::take(&mut self.skips_factory);
        let driver_queue = (self.has_factory && !is_spawned).then(|| {
            let queue = self.queues.add(key, None);
            self.outbox.births.push((key, queue));
            queue
        });
        *self.entries.vacant(pid) = Some(ProcessEntry {
            serial,
            image,
            started,
            driver_queue,
            calls: None,
            run_by: RunBy::Driver,
            phase: Phase::Running,
            leader_ended: false,
            expires: false,
        });
        key
    }

    /// The serial that was used last.
    #[cfg(feature = "serde")]
    pub fn last_serial(&self) -> u64 {
        self.serial
    }

    /// Continues the serials of a snapshot.
    #[cfg(feature = "serde")]
    pub fn restore_serial(&mut self, last: u64) {
        self.serial = last;
    }

    /// Adds a process of a snapshot.
    #[cfg(feature = "serde")]
    pub fn restore_entry(&mut self, pid: Pid, entry: ProcessEntry) {
        self.counts.processes += 1;
        *self.counts.of(entry.phase) += 1;
        *self.entries.vacant(pid) = Some(entry);
    }

    /// Adds a zombie of a snapshot that is reaped at a time.
    #[cfg(feature = "serde")]
    pub fn restore_zombie(&mut self, due: Time, pid: Pid) {
        if let Some(entry) = self.entries.get_mut(pid) {
            self.zombies.restore(due, pid, entry);
        }
    }

    /// A serial that no process and no entered handler has had.
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The time of this transition.
    fn time(&mut self, clock: &dyn Clock) -> Time {
        *self.now.get_or_insert_with(|| clock.now())
    }

    /// Records what one effect means.
    pub fn note(&mut self, kernel: &Kernel, effect: &Effect, clock: &dyn Clock) {
        let (entries, threads) = (&self.entries, &self.threads);
        self.subscribers.effect(effect, |tid| process_in(entries, threads, tid));
        // the number of a thread, if the effect concerns one thread
        let pid = effect.pid;
        match &effect.what {
            Consequence::Created => {
                let image = self.next_image.take();
                let creator = || self.entries.get(effect.cause.actor);
                let image = image.or_else(|| Some(creator()?.image.clone()));
                self.enter(pid, image.unwrap_or_default(), clock);
            }
            Consequence::Resumed(result) => {
                self.end_call(kernel, pid, result);
                self.make_ready(pid);
            }
            Consequence::Handling(info, _)
            | Consequence::Forwarded(info)
            | Consequence::Delivered(info) => {
                self.deliver(effect, info);
            }
            Consequence::Stopped(signal) => {
                self.change_phase(pid, Phase::Stopped);
                self.operate_unless_reported(effect, Op::Stop(*signal));
            }
            Consequence::Continued => {
                self.change_phase(pid, Phase::Running);
                self.make_all_ready(kernel, pid);
                self.operate_unless_reported(effect, Op::Resume);
            }
            // JOB-13: if a stop was not complete, no continue is reported
            Consequence::Discarded(Signal::CONT)
            | Consequence::Generated(SigInfo { signal: Signal::CONT, .. })
                if !self.threads.is_empty() =>
            {
                self.make_all_ready(kernel, self.process_of(pid).unwrap_or(pid));
            }
            Consequence::Caught(_) if self.has_safe_points => self.note_caught(pid),
            Consequence::ThreadCreated => self.enter_thread(kernel, pid, effect.cause.actor),
            Consequence::ThreadEnded => self.note_thread_end(kernel, pid),
            Consequence::TidCleared(address) => {
                let (tid, address) = (pid, *address);
                self.operate(tid, || Op::ClearTid { tid, address });
            }
            Consequence::Executed => self.note_executed(pid),
            Consequence::Ended(status) => self.note_end(kernel, effect, *status, clock),
            Consequence::Reparented(to) if kernel.exit_status(pid).is_some() => {
                self.note_zombie(pid, *to, clock);
            }
            Consequence::Reaped => {
                if !self.usages.is_empty() {
                    self.note_usage(effect);
                }
                self.remove(pid);
            }
            _ => {}
        }
    }

    /// An event of a child concerns waits: has them poll, or wakes them.
    pub fn wake(&mut self, woken: &ExternalWake) {
        let mut waits = self.waits.candidate_waits(woken).peekable();
        if waits.peek().is_none() {
            return;
        }
        let Some(nth) = self.pending_exit_of(woken.child) else {
            waits.for_each(|waiting| tell(waiting, &mut self.concerned, &mut self.outbox));
            return;
        };
        // the waits for a pending exit are woken after the callback
        let (now, later): (Vec<_>, Vec<_>) =
            waits.cloned().partition(|waiting| self.is_the_callbacks(&waiting.parker));
        self.outbox.wakes.extend(now.iter().map(|waiting| waiting.wake()));
        later.iter().for_each(|waiting| self.pending_exits[nth].add(waiting));
    }

    /// The window of a terminal may have something to show, or room for input.
    pub fn wake_window(&mut self, number: u32) {
        let window = self.windows.get(&number).cloned();
        self.outbox.wakes.extend(window.into_iter().flat_map(WindowParkers::wakes));
    }

    fn note_end(
        &mut self,
        kernel: &Kernel,
        effect: &Effect,
        status: WaitStatus,
        clock: &dyn Clock,
    ) {
        let pid = effect.pid;
        self.change_phase(pid, Phase::Zombie);
        if let Some(queue) = self.entries.get(pid).and_then(|entry| entry.driver_queue) {
            self.queues.process_ended(queue);
        }
        let driver_pending = self.operate_unless_reported(effect, Op::Terminate(status));
        self.abort_calls(pid);
        self.wake_joins(pid);
        self.outbox.wakes.extend(self.waits.of_parent(pid).map(|waiting| waiting.wake()));
        let alive = self.counts.running + self.counts.stopped;
        let waiting =
            self.terminate_waiters.iter().filter_map(|waiter| waiter.note(pid, status, alive));
        self.outbox.wakes.extend(waiting.map(|parker| Wake::new(parker, None)));
        if let Some(parent) = kernel.parent(pid) {
            self.note_zombie(pid, parent, clock);
        }
        if self.has_exit_callback && self.rolled_back != Some(pid) {
            self.note_exit(pid, status, driver_pending);
        }
    }

    /// Records that a zombie has this parent now.
    fn note_zombie(&mut self, pid: Pid, parent: Pid, clock: &dyn Clock) {
        if self.zombies.wants(parent) {
            let now = self.time(clock);
            if let Some(entry) = self.entries.get_mut(pid) {
                self.zombies.add(now, pid, entry);
            }
        }
    }

    /// Sends an operation to the driver of a process, or of a thread's process. Returns whether
    /// there is a driver.
    #[inline(always)]
    pub fn operate(&mut self, tid: Pid, op: impl FnOnce() -> Op) -> bool {
        let queue = match self.entries.get(tid) {
            Some(entry) => entry.driver_queue,
            None => self.driver_queue_of_thread(tid),
        };
        let Some(queue) = queue else { return false };
        if self.pending_exits.is_empty() {
            self.queues.send(queue, op, &mut self.outbox.dispatches);
        } else {
            self.operate_or_hold_back(queue, op());
        }
        true
    }

    /// Delivers a signal to the driver, or to a process that takes its handlers itself.
    #[inline(always)]
    fn deliver(&mut self, effect: &Effect, info: &SigInfo) {
        let tid = effect.pid;
        if let Consequence::Handling(_, handler) = effect.what {
            if self.has_safe_points && self.hand_over(tid, info, handler) {
                return;
            }
            self.make_ready(tid);
        }
        // taken apart here and constructed in place: a copy of the whole defeats store-to-load
        // forwarding
        let SigInfo { signal, code, pid, uid, value } = *info;
        self.operate(tid, move || {
            let info = SigInfo { signal, code, pid, uid, value };
            let handler = match effect.what {
                Consequence::Handling(_, handler) => Some(handler),
                _ => None,
            };
            Op::Deliver(Delivery { info, handler, tid })
        });
    }

    /// Sends an operation unless the host has reported the event itself. Returns whether the driver
    /// receives it.
    fn operate_unless_reported(&mut self, effect: &Effect, op: Op) -> bool {
        let hosted = |entry: &ProcessEntry| entry.run_by == RunBy::Host;
        let reported = effect.cause.call.is_none();
        let knows = reported && self.entries.get(effect.pid).is_some_and(hosted);
        !knows && self.operate(effect.pid, || op)
    }

    fn change_phase(&mut self, pid: Pid, phase: Phase) {
        let Some(entry) = self.entries.get_mut(pid) else { return };
        let before = core::mem::replace(&mut entry.phase, phase);
        *self.counts.of(before) -= 1;
        *self.counts.of(phase) += 1;
    }

    fn remove(&mut self, pid: Pid) {
        self.operate(pid, || Op::Reaped);
        if !self.data.is_empty() {
            self.outbox.released.extend(self.data.remove(&pid));
        }
        let Some(entry) = self.entries.remove(pid) else { return };
        *self.counts.of(entry.phase) -= 1;
        self.counts.processes -= 1;
        self.zombies.forget(&entry, &self.entries);
    }

    /// Stores the program that the execve of this path executes, with the arguments and the
    /// environment, which [`Syscall::Execve`](crate::syscall::Syscall::Execve) does not have.
    pub fn prepare(&mut self, path: Arc<str>, image: Arc<Image>) {
        // an execve that failed has dropped its path
        self.images.retain(|(path, _)| Arc::strong_count(path) > 1);
        self.images.push((path, image));
    }

    /// The program that was stored for the execve of this path.
    #[cfg(feature = "serde")]
    pub fn prepared(&self, path: &Arc<str>) -> Option<&Arc<Image>> {
        self.images.iter().find(|(other, _)| Arc::ptr_eq(other, path)).map(|(_, image)| image)
    }

    /// Takes the program that was stored for the execve of this path. Costs a scan of the calls in
    /// progress.
    pub fn take_prepared(&mut self, path: &Arc<str>) -> Option<Arc<Image>> {
        let nth = self.images.iter().position(|(other, _)| Arc::ptr_eq(other, path))?;
        Some(self.images.swap_remove(nth).1)
    }

    /// Ends the table: aborts calls, wakes waiting threads, and has the drivers of living processes
    /// abandon them.
    pub fn close(&mut self) -> Outbox {
        let threads: Vec<Pid> = self.threads.tids().collect();
        let pids: Vec<Pid> = self.entries.pids().collect();
        threads.iter().chain(&pids).for_each(|tid| self.abort_calls(*tid));
        let windows = core::mem::take(&mut self.windows).into_values();
        self.outbox.wakes.extend(windows.flat_map(WindowParkers::wakes));
        let joins = core::mem::take(&mut self.joins).into_values().flatten();
        self.outbox.wakes.extend(joins.map(|parker| Wake::new(parker, None)));
        self.abandon_pending_exits();
        for pid in pids {
            let living = self.entries.get(pid).is_some_and(|e| e.phase != Phase::Zombie);
            if living {
                self.operate(pid, || Op::Abandon);
            }
            self.outbox.wakes.extend(self.waits.of_parent(pid).map(|waiting| waiting.wake()));
        }
        self.outbox.released.extend(core::mem::take(&mut self.data).into_values());
        let receivers = self.subscribers.close().map(|parker| Wake::new(parker, None));
        self.outbox.wakes.extend(receivers);
        core::mem::take(&mut self.outbox)
    }
}

/// An event concerns a wait: the wait polls at the end of this step, or its owner is woken to poll.
pub(super) fn tell(
    waiting: &Arc<WaitEntry>,
    concerned: &mut Vec<Arc<WaitEntry>>,
    outbox: &mut Outbox,
) {
    match waiting.takes_answers {
        true => concerned.push(waiting.clone()),
        false => outbox.wakes.push(waiting.wake()),
    }
}

impl Counts {
    fn of(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Running => &mut self.running,
            Phase::Stopped => &mut self.stopped,
            Phase::Zombie => &mut self.zombies,
        }
    }
}
