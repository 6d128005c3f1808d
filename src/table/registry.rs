//! What the table knows of each process beyond the model, and what the model's effects mean for
//! drivers, sleepers and subscribers.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::by_pid::ByPid;
use super::clock::Clock;
use super::driver_queue::{DriverQueue, DriverQueues};
use super::end::TerminateWaiter;
use super::event::Subscribers;
use super::exit_gate::PendingExit;
use super::guest::Calls;
use super::outbox::{Outbox, Wake};
use super::threads::{Threads, process_in};
use super::waits::{WaitEntry, Waits};
use super::zombies::ZombieQueue;
use crate::abi::{Pid, SigInfo, Signal, Time, WaitStatus};
use crate::driver::{Authority, Delivery, Op};
use crate::kernel::{Consequence, Effect, ExternalWake, Id, Kernel, SmallList};
use crate::sync::{OnceLock, Parker};

/// What a process executes: shared between parent and child, and by everybody who looks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    /// The program, as execve(2) names it.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, `NAME=value` each.
    pub env: Vec<String>,
}

impl Image {
    /// A program without arguments and environment.
    pub fn new(program: impl Into<String>) -> Image {
        Image { program: program.into(), ..Image::default() }
    }

    /// What process 1 executes, the same in all tables.
    pub(super) fn init() -> Arc<Image> {
        static INIT: OnceLock<Arc<Image>> = OnceLock::new();
        INIT.get_or_init(|| Arc::new(Image::new("init"))).clone()
    }

    /// The value of an environment variable. Costs a scan of the environment.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

/// One process for good: a number is used again, a key is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ProcessKey {
    pub pid: Pid,
    pub serial: u64,
}

/// A process, dead or alive.
#[derive(Debug)]
pub(super) struct ProcessEntry {
    pub serial: u64,
    pub image: Arc<Image>,
    pub started: Time,
    /// `None` for a driver that does nothing.
    pub driver_queue: Option<Id<DriverQueue>>,
    /// Of its leader; `None` while that makes no call that takes time.
    pub calls: Option<Box<Calls>>,
    pub run_by: RunBy,
    pub phase: Phase,
    /// Its leader has ended, and other threads may live on (TG-87).
    pub leader_ended: bool,
    /// It is a zombie that stands among those whose time will come.
    pub expires: bool,
}

// the table keeps one for each process
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Option<ProcessEntry>>() <= 40, "an entry has grown");

/// Who decides what becomes of a process, and who has its handlers run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RunBy {
    /// The model decides, and the driver runs handlers.
    Driver,
    /// The model decides, and the process takes its handlers itself.
    SafePoints,
    Host,
}

impl RunBy {
    pub fn authority(self) -> Authority {
        match self {
            RunBy::Driver | RunBy::SafePoints => Authority::Model,
            RunBy::Host => Authority::Host,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Running,
    Stopped,
    Zombie,
}

/// How many processes a table has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All, process 1 and zombies included.
    pub processes: usize,
    /// Those that are alive and not stopped.
    pub running: usize,
    /// Those that are stopped.
    pub stopped: usize,
    /// Those that are dead and not reaped.
    pub zombies: usize,
}

/// Everything under the lock but the model itself.
#[derive(Debug, Default)]
pub(super) struct ProcessRegistry {
    pub entries: ByPid<ProcessEntry>,
    /// Those that are not the leaders of their processes.
    pub threads: Threads,
    /// There is, or was, a process that takes its handlers itself.
    pub has_safe_points: bool,
    /// How many handlers of such processes were entered and have not returned.
    pub entered: usize,
    /// Whoever waits for the end of a thread, by its number.
    pub joins: BTreeMap<Pid, Vec<Arc<Parker>>>,
    pub queues: DriverQueues,
    serial: u64,
    /// What the process that is created next executes, if not its creator's program.
    pub next_image: Option<Arc<Image>>,
    pub counts: Counts,
    /// What calls in progress execute, by the path in the call: the allocation, not the text.
    images: Vec<(Arc<str>, Arc<Image>)>,
    pub waits: Waits,
    /// Waits that are to ask: events of this transition concern them.
    pub concerned: Vec<Arc<WaitEntry>>,
    pub subscribers: Subscribers,
    pub zombies: ZombieQueue,
    /// Exits are to be announced before anybody's wait returns them.
    pub has_exit_callback: bool,
    /// A process that turned out to be impossible: its end is not announced.
    pub rolled_back: Option<Pid>,
    /// Who is about to be woken, by the thread whose call it was, or the process whose wait.
    pub pending_wakes: BTreeMap<Pid, Vec<Arc<Parker>>>,
    pub pending_exits: VecDeque<PendingExit>,
    /// Threads with queued calls that may be able to make them.
    pub ready: Vec<Pid>,
    /// Where the callback that runs now sleeps, or has something sleep: it cannot wait for what
    /// comes after it.
    pub callback_sleeps: SmallList<Arc<Parker>>,
    /// Whoever waits for everybody to end.
    pub terminate_waiters: SmallList<Arc<TerminateWaiter>>,
    pub outbox: Outbox,
    /// The time of the table in this transition, once anything has asked for it.
    pub now: Option<Time>,
}

impl ProcessRegistry {
    pub fn new(zombies: ZombieQueue) -> ProcessRegistry {
        ProcessRegistry { zombies, ..ProcessRegistry::default() }
    }

    /// The process, if the key is still good.
    #[inline]
    pub fn entry(&self, key: ProcessKey) -> Option<&ProcessEntry> {
        self.entries.get(key.pid).filter(|entry| entry.serial == key.serial)
    }

    /// The key of the process that has the number now.
    pub fn key(&self, pid: Pid) -> Option<ProcessKey> {
        self.entries.get(pid).map(|entry| ProcessKey { pid, serial: entry.serial })
    }

    /// Enters a new process.
    pub fn enter(&mut self, pid: Pid, image: Arc<Image>, clock: &dyn Clock) {
        self.counts.processes += 1;
        self.counts.running += 1;
        let (serial, started) = (self.next_serial(), self.time(clock));
        *self.entries.vacant(pid) = Some(ProcessEntry {
            serial,
            image,
            started,
            driver_queue: None,
            calls: None,
            run_by: RunBy::Driver,
            phase: Phase::Running,
            leader_ended: false,
            expires: false,
        });
    }

    /// A number that no process, and no handler that was entered, has had.
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The time of this transition.
    fn time(&mut self, clock: &dyn Clock) -> Time {
        *self.now.get_or_insert_with(|| clock.now())
    }

    /// What one effect means.
    pub fn note(&mut self, kernel: &Kernel, effect: &Effect, clock: &dyn Clock) {
        let (entries, threads) = (&self.entries, &self.threads);
        self.subscribers.effect(effect, |tid| process_in(entries, threads, tid));
        // the number of a thread, where the effect is on one
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
            Consequence::Handling(info, _) | Consequence::Forwarded(info) => {
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
            // JOB-13: where a stop was not complete nobody says that it is over
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
            Consequence::Reaped => self.remove(pid),
            _ => {}
        }
    }

    /// An event of a child concerns waits.
    pub fn wake(&mut self, woken: &ExternalWake) {
        let mut waits = self.waits.candidate_waits(woken).peekable();
        if waits.peek().is_none() {
            return;
        }
        let Some(nth) = self.pending_exit_of(woken.child) else {
            waits.for_each(|waiting| tell(waiting, &mut self.concerned, &mut self.outbox));
            return;
        };
        // those who wait for an exit hear of it after the callbacks
        let (now, later): (Vec<_>, Vec<_>) =
            waits.cloned().partition(|waiting| self.is_the_callbacks(&waiting.parker));
        self.outbox.wakes.extend(now.iter().map(|waiting| waiting.wake()));
        later.iter().for_each(|waiting| self.pending_exits[nth].add(waiting));
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
        let driver_pending = self.operate_unless_reported(effect, Op::Terminate(status));
        self.abort_calls(pid);
        self.wake_joins(pid);
        self.outbox.wakes.extend(self.waits.of_parent(pid).map(|waiting| waiting.wake()));
        let alive = self.counts.running + self.counts.stopped;
        let told =
            self.terminate_waiters.iter().filter_map(|waiter| waiter.note(pid, status, alive));
        self.outbox.wakes.extend(told.map(|parker| Wake::new(parker, None)));
        if let Some(parent) = kernel.parent(pid) {
            self.note_zombie(pid, parent, clock);
        }
        if self.has_exit_callback && self.rolled_back != Some(pid) {
            self.note_exit(pid, status, driver_pending);
        }
    }

    /// A zombie has that parent now.
    fn note_zombie(&mut self, pid: Pid, parent: Pid, clock: &dyn Clock) {
        if self.zombies.wants(parent) {
            let now = self.time(clock);
            if let Some(entry) = self.entries.get_mut(pid) {
                self.zombies.add(now, pid, entry);
            }
        }
    }

    /// An operation for the driver of a process, or of a thread's; whether it has one.
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

    /// A signal for the driver, or for a process that takes its handlers itself.
    #[inline(always)]
    fn deliver(&mut self, effect: &Effect, info: &SigInfo) {
        let tid = effect.pid;
        if let Consequence::Handling(_, handler) = effect.what {
            if self.has_safe_points && self.hand_over(tid, info, handler) {
                return;
            }
            self.make_ready(tid);
        }
        // taken apart here and put together where it stays: a copy of the whole in between would
        // wait until the stores of its fields are through
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

    /// The host knows what it has reported itself. Whether the driver is told.
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
        let Some(entry) = self.entries.remove(pid) else { return };
        *self.counts.of(entry.phase) -= 1;
        self.counts.processes -= 1;
        self.zombies.forget(&entry, &self.entries);
    }

    /// What the execve of that path is about to execute, with what execve(2) itself does not say
    /// here.
    pub fn prepare(&mut self, path: Arc<str>, image: Arc<Image>) {
        self.images.push((path, image));
    }

    /// What was prepared for the execve of that path. Costs a scan of the calls in progress.
    pub fn take_prepared(&mut self, path: &Arc<str>) -> Option<Arc<Image>> {
        let nth = self.images.iter().position(|(other, _)| Arc::ptr_eq(other, path))?;
        Some(self.images.swap_remove(nth).1)
    }

    /// The table ends: everybody is told.
    pub fn close(&mut self) -> Outbox {
        let threads: Vec<Pid> = self.threads.tids().collect();
        let pids: Vec<Pid> = self.entries.pids().collect();
        threads.iter().chain(&pids).for_each(|tid| self.abort_calls(*tid));
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
        self.subscribers = Subscribers::default();
        core::mem::take(&mut self.outbox)
    }
}

/// An event concerns a wait: it is answered in this step, or woken to ask for itself.
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
