//! What the table knows of each process beyond the model, and what the model's effects mean for
//! drivers, sleepers and subscribers.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::by_pid::ByPid;
use super::call::{End, Pending, Queued};
use super::clock::Clock;
use super::end::Mourner;
use super::event::Subscribers;
use super::lane::{Errand, Lane, Lanes};
use super::waits::{Waiting, Waits};
use super::zombies::Zombies;
use crate::abi::{Errno, Pid, SiCode, SigInfo, Signal, Time, WaitStatus};
use crate::driver::{Authority, Delivery, Op};
use crate::kernel::{Consequence, Effect, Few, Id, Kernel, Woken};
use crate::sync::{OnceLock, Parker};
use crate::syscall::{self, Ret};

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

/// One process for good: a number is used again, a token is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Token {
    pub pid: Pid,
    pub serial: u64,
}

/// A process, dead or alive.
#[derive(Debug)]
pub(super) struct Entry {
    pub serial: u64,
    pub image: Arc<Image>,
    pub started: Time,
    /// `None` for a driver that does nothing.
    pub lane: Option<Id<Lane>>,
    /// `None` while it makes no call that takes time.
    pub calls: Option<Box<Calls>>,
    pub authority: Authority,
    pub phase: Phase,
    /// It is a zombie that stands among those whose time will come.
    pub expires: bool,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Running,
    Stopped,
    Zombie,
}

/// Calls in progress.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The innermost last: a handler may call while the call that it interrupted has not returned.
    pub begun: Vec<Arc<Pending>>,
    /// Calls that the process cannot make yet.
    pub queued: VecDeque<Queued>,
    /// Calls whose results wait for a callback.
    held: Vec<Arc<Pending>>,
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

/// An exit for the callbacks.
#[derive(Debug)]
pub(super) struct Notice {
    pub token: Token,
    pub status: WaitStatus,
    /// The step in which it happened, until drivers have been told what happened in it.
    step: Option<u64>,
    /// The process's own driver has not been told that it ended: it may be busy, or have to wait for
    /// another callback.
    untold: bool,
    /// Who waits for it.
    pub waits: Vec<Arc<Waiting>>,
    /// The calls that have its end as their result, and whose they are.
    calls: Vec<(Pid, Arc<Pending>, End)>,
    /// What drivers are told once the callback has run: that children ended, and what follows.
    pub ops: Vec<(Id<Lane>, Op)>,
}

/// Whether a signal tells of children, or may have swallowed one that does (CHLD-06).
fn tells_of_children(info: &SigInfo) -> bool {
    let codes = SiCode::CLD_EXITED..=SiCode::CLD_CONTINUED;
    info.signal == Signal::CHLD || codes.contains(&info.code)
}

/// What is to be done once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub errands: Vec<Errand>,
    pub wakes: Vec<Wake>,
    /// The step, if processes ended in it that are to be announced: not 0.
    pub exits: u64,
}

/// Somebody who is to be woken.
#[derive(Debug)]
pub(super) struct Wake {
    pub parker: Arc<Parker>,
    /// Whose call or wait it was.
    of: Option<Pid>,
    /// Before drivers are told: the process has ended, or executes another program, and its driver may
    /// wait until its threads have left their calls.
    pub first: bool,
}

impl Wake {
    pub fn new(parker: Arc<Parker>, of: Option<Pid>) -> Wake {
        Wake { parker, of, first: false }
    }
}

impl Outbox {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.errands.is_empty() && self.wakes.is_empty() && self.exits == 0
    }
}

/// Everything under the lock but the model itself.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub entries: ByPid<Entry>,
    pub lanes: Lanes,
    serial: u64,
    /// What the process that is created next executes, if not its creator's program.
    pub next_image: Option<Arc<Image>>,
    pub counts: Counts,
    /// What calls in progress execute, by the path in the call: the allocation, not the text.
    images: Vec<(Arc<str>, Arc<Image>)>,
    pub waits: Waits,
    /// Waits that are to ask: events of this transition concern them.
    pub concerned: Vec<Arc<Waiting>>,
    pub subscribers: Subscribers,
    pub zombies: Zombies,
    /// Exits are to be announced before anybody's wait returns them.
    pub announces: bool,
    /// A process that turned out to be impossible: its end is not announced.
    pub withdrawn: Option<Pid>,
    /// Who is about to be woken, and whose call or wait it was.
    unwoken: BTreeMap<Pid, Vec<Arc<Parker>>>,
    pub notices: VecDeque<Notice>,
    /// Processes with queued calls that may be able to make them.
    pub ready: Vec<Pid>,
    /// Where the callback that runs now sleeps, or has something sleep: it cannot wait for what
    /// comes after it.
    pub callback_sleeps: Few<Arc<Parker>>,
    /// Whoever waits for everybody to end.
    pub mourners: Few<Arc<Mourner>>,
    pub outbox: Outbox,
    /// The time of the table in this transition, once anything has asked for it.
    pub now: Option<Time>,
}

impl Book {
    pub fn new(zombies: Zombies) -> Book {
        Book { zombies, ..Book::default() }
    }

    /// The process, if the token is still good.
    #[inline]
    pub fn entry(&self, token: Token) -> Option<&Entry> {
        self.entries.get(token.pid).filter(|entry| entry.serial == token.serial)
    }

    /// The token of the process that has the number now.
    pub fn token(&self, pid: Pid) -> Option<Token> {
        self.entries.get(pid).map(|entry| Token { pid, serial: entry.serial })
    }

    /// Enters a new process.
    pub fn enter(&mut self, pid: Pid, image: Arc<Image>, clock: &dyn Clock) {
        self.serial += 1;
        self.counts.processes += 1;
        self.counts.running += 1;
        let (serial, started) = (self.serial, self.time(clock));
        *self.entries.vacant(pid) = Some(Entry {
            serial,
            image,
            started,
            lane: None,
            calls: None,
            authority: Authority::Model,
            phase: Phase::Running,
            expires: false,
        });
    }

    /// The time of this transition.
    fn time(&mut self, clock: &dyn Clock) -> Time {
        *self.now.get_or_insert_with(|| clock.now())
    }

    /// What one effect means.
    pub fn note(&mut self, kernel: &Kernel, effect: &Effect, clock: &dyn Clock) {
        self.subscribers.effect(effect);
        let pid = effect.pid;
        match &effect.what {
            Consequence::Created => {
                let image = self.next_image.take();
                let creator = || self.entries.get(effect.cause.actor);
                let image = image.or_else(|| Some(creator()?.image.clone()));
                self.enter(pid, image.unwrap_or_default(), clock);
            }
            Consequence::Resumed(result) => {
                self.end_call(pid, result);
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
                self.make_ready(pid);
                self.operate_unless_reported(effect, Op::Resume);
            }
            Consequence::Ended(status) => self.note_end(kernel, effect, *status, clock),
            Consequence::Reparented(to) if kernel.exit_status(pid).is_some() => {
                self.note_zombie(pid, *to, clock);
            }
            Consequence::Reaped => self.remove(pid),
            _ => {}
        }
    }

    /// An event of a child concerns waits.
    pub fn wake(&mut self, woken: &Woken) {
        let mut waits = self.waits.concerned(woken).peekable();
        if waits.peek().is_none() {
            return;
        }
        let Some(nth) = self.notice_about(woken.child) else {
            waits.for_each(|waiting| tell(waiting, &mut self.concerned, &mut self.outbox));
            return;
        };
        // those who wait for an exit hear of it after the callbacks
        let (now, later): (Vec<_>, Vec<_>) =
            waits.cloned().partition(|waiting| self.is_the_callbacks(&waiting.parker));
        self.outbox.wakes.extend(now.iter().map(|waiting| waiting.wake()));
        later.iter().for_each(|waiting| self.notices[nth].add(waiting));
    }

    /// Whether the callback that runs now sleeps there, or has something sleep.
    pub fn is_the_callbacks(&self, parker: &Arc<Parker>) -> bool {
        self.callback_sleeps.iter().any(|other| Arc::ptr_eq(other, parker))
    }

    /// The exit of the last process of that number, if its callback has not run. Costs a scan of
    /// those.
    fn notice_about(&self, pid: Pid) -> Option<usize> {
        self.notices.iter().rposition(|notice| notice.token.pid == pid)
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
        let untold = self.operate_unless_reported(effect, Op::Terminate(status));
        self.abort_calls(pid);
        self.outbox.wakes.extend(self.waits.of_parent(pid).map(|waiting| waiting.wake()));
        let alive = self.counts.running + self.counts.stopped;
        let told = self.mourners.iter().filter_map(|mourner| mourner.note(pid, status, alive));
        self.outbox.wakes.extend(told.map(|parker| Wake::new(parker, None)));
        if let Some(parent) = kernel.parent(pid) {
            self.note_zombie(pid, parent, clock);
        }
        if self.announces
            && self.withdrawn != Some(pid)
            && let Some(token) = self.token(pid)
        {
            if self.outbox.exits == 0 {
                self.outbox.exits = token.serial;
            }
            let step = Some(self.outbox.exits);
            let (waits, calls, ops) = Default::default();
            self.notices.push_back(Notice { token, status, step, untold, waits, calls, ops });
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

    /// An operation for the driver; whether it has one.
    #[inline(always)]
    pub fn operate(&mut self, pid: Pid, op: impl FnOnce() -> Op) -> bool {
        let lane = self.entries.get(pid).and_then(|entry| entry.lane);
        let Some(lane) = lane else { return false };
        if self.notices.is_empty() {
            self.lanes.send(lane, op, &mut self.outbox.errands);
        } else {
            self.operate_or_hold_back(lane, op());
        }
        true
    }

    /// A signal for the driver.
    #[inline(always)]
    fn deliver(&mut self, effect: &Effect, info: &SigInfo) {
        if matches!(effect.what, Consequence::Handling(..)) {
            self.make_ready(effect.pid);
        }
        // taken apart here and put together where it stays: a copy of the whole in between would
        // wait until the stores of its fields are through
        let SigInfo { signal, code, pid, uid, value } = *info;
        self.operate(effect.pid, move || {
            let info = SigInfo { signal, code, pid, uid, value };
            let handler = match effect.what {
                Consequence::Handling(_, handler) => Some(handler),
                _ => None,
            };
            Op::Deliver(Delivery { info, handler })
        });
    }

    /// EXIT-11: a driver that hears of an end, and waits, finds it.
    fn operate_or_hold_back(&mut self, lane: Id<Lane>, op: Op) {
        let early = |notice: &Notice| notice.ops.iter().any(|(other, _)| *other == lane);
        let tells = matches!(&op, Op::Deliver(delivery) if tells_of_children(&delivery.info));
        let held_back = tells || self.notices.iter().any(early);
        match self.notices.back_mut().filter(|_| held_back) {
            Some(last) => last.ops.push((lane, op)),
            None => self.lanes.send(lane, || op, &mut self.outbox.errands),
        }
    }

    /// The host knows what it has reported itself. Whether the driver is told.
    fn operate_unless_reported(&mut self, effect: &Effect, op: Op) -> bool {
        let hosted = |entry: &Entry| entry.authority == Authority::Host;
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

    /// The program sees the result of its innermost call.
    fn end_call(&mut self, pid: Pid, result: &syscall::Result) {
        let Some(entry) = self.entries.get_mut(pid) else { return };
        let Some(calls) = &mut entry.calls else { return };
        let Some(pending) = calls.begun.pop() else { return };
        let end = End::Returned(result.clone());
        let notice = match self.notices.is_empty() {
            false if !self.is_the_callbacks(&pending.parker) => self.notice_of(result),
            _ => None,
        };
        match notice {
            Some(nth) => self.hold_back(nth, pid, pending, end),
            None => self.finish(pid, &pending, end),
        }
    }

    /// The result of a call of `pid` is about an exit, or may be, whose callback has not run.
    pub fn hold_back(&mut self, notice: usize, pid: Pid, pending: Arc<Pending>, end: End) {
        if let Some(entry) = self.entries.get_mut(pid) {
            entry.calls.get_or_insert_default().held.push(pending.clone());
        }
        self.notices[notice].calls.push((pid, pending, end));
    }

    pub fn finish(&mut self, pid: Pid, pending: &Pending, end: End) {
        pending.finish(end);
        self.outbox.wakes.push(Wake::new(pending.parker.clone(), Some(pid)));
    }

    /// The exit that a call's result is about, if its callback has not run. Costs a scan of those.
    pub fn notice_of(&self, result: &syscall::Result) -> Option<usize> {
        let child = match result {
            Ok(Ret::Signal(info)) if tells_of_children(info) => return self.last_notice(),
            // a wait that has not named the child: it may be any
            Ok(Ret::WaitInfo(None)) | Err(Errno::EFAULT) => return self.last_notice(),
            Ok(Ret::Waited { pid, .. }) => *pid,
            Ok(Ret::WaitInfo(Some(Some(info)))) => info.pid,
            _ => return None,
        };
        self.notice_about(child)
    }

    fn last_notice(&self) -> Option<usize> {
        self.notices.len().checked_sub(1)
    }

    /// Drivers have been told of what happened in a step: the exits in it can be announced. Costs a
    /// look at those that came later.
    pub fn told(&mut self, step: u64) {
        let newest_first = self.notices.iter_mut().rev();
        let of_step = newest_first
            .skip_while(|notice| notice.step != Some(step))
            .take_while(|notice| notice.step == Some(step));
        of_step.for_each(|notice| notice.step = None);
    }

    /// Drivers have carried out these operations; whether a callback has waited for one, for the news
    /// of an end. Costs a look at the exits that came later.
    pub fn carried_out(&mut self, errands: &[Errand]) -> bool {
        let ends = errands.iter().filter(|errand| matches!(errand.op, Op::Terminate(_)));
        let mut serials: Vec<u64> = ends.map(|errand| errand.token.serial).collect();
        serials.sort_unstable();
        let is_among = |notice: &&mut Notice| serials.binary_search(&notice.token.serial).is_ok();
        let found = self.notices.iter_mut().rev().filter(is_among).take(serials.len());
        found.fold(false, |_, notice| {
            notice.untold = false;
            true
        })
    }

    /// The exit whose callback is to run next.
    pub fn next_notice(&self) -> Option<(Token, WaitStatus)> {
        let is_told = |notice: &&Notice| notice.step.is_none() && !notice.untold;
        let first = self.notices.front().filter(is_told)?;
        Some((first.token, first.status))
    }

    /// The callback for the first exit has run: nobody has to wait for it any longer.
    pub fn announced(&mut self) {
        self.callback_sleeps.clear();
        let Some(mut notice) = self.notices.pop_front() else { return };
        for waiting in core::mem::take(&mut notice.waits) {
            tell(&waiting, &mut self.concerned, &mut self.outbox);
        }
        self.release(notice);
    }

    /// Its callback has run, or never will: calls return, and drivers are told what was held back.
    fn release(&mut self, notice: Notice) {
        for (lane, op) in notice.ops {
            self.lanes.send(lane, || op, &mut self.outbox.errands);
        }
        for (pid, pending, end) in notice.calls {
            let calls = self.entries.get_mut(pid).and_then(|entry| entry.calls.as_mut());
            if let Some(calls) = calls {
                calls.held.retain(|other| !Arc::ptr_eq(other, &pending));
            }
            // nobody sees the result if its caller has ended
            if pending.end().is_none() {
                self.finish(pid, &pending, end);
            }
        }
    }

    /// Whom to wake before drivers are told. The others are noted, if they may have to wait for
    /// drivers or callbacks: their processes may end before.
    pub fn rank_wakes(&mut self) {
        let Outbox { errands, wakes, exits } = &mut self.outbox;
        let others_wait = !errands.is_empty() || *exits != 0;
        for wake in wakes {
            let Some(pid) = wake.of else { continue };
            let entry = self.entries.get(pid);
            wake.first |= entry.is_none_or(|entry| entry.phase == Phase::Zombie);
            if others_wait && !wake.first {
                self.unwoken.entry(pid).or_default().push(wake.parker.clone());
            }
        }
    }

    /// These have been woken.
    pub fn woken(&mut self, wakes: &[Wake]) {
        for wake in wakes {
            let Some(pid) = wake.of else { continue };
            let Some(parkers) = self.unwoken.get_mut(&pid) else { continue };
            parkers.retain(|parker| !Arc::ptr_eq(parker, &wake.parker));
            if parkers.is_empty() {
                self.unwoken.remove(&pid);
            }
        }
    }

    /// The next call that waits for its caller to be in no more handlers than that. Costs a look
    /// at those in front of it.
    pub fn next_queued(&mut self, pid: Pid, handlers: usize) -> Option<Queued> {
        let calls = self.entries.get_mut(pid)?.calls.as_mut()?;
        // a handler's call overtakes those that wait for the handler to return
        let nth = calls.queued.iter().position(|queued| handlers <= queued.handlers)?;
        calls.queued.remove(nth)
    }

    /// A process may be able to make the calls that wait for it.
    pub fn make_ready(&mut self, pid: Pid) {
        let calls = self.entries.get(pid).and_then(|entry| entry.calls.as_ref());
        if calls.is_some_and(|calls| !calls.queued.is_empty()) {
            self.ready.push(pid);
        }
    }

    /// The table ends: everybody is told.
    pub fn close(&mut self) -> Outbox {
        let pids: Vec<Pid> = self.entries.pids().collect();
        pids.iter().for_each(|pid| self.abort_calls(*pid));
        for mut notice in core::mem::take(&mut self.notices) {
            notice.calls.iter_mut().for_each(|(.., end)| *end = End::Gone);
            self.outbox.wakes.extend(notice.waits.drain(..).map(|waiting| waiting.wake()));
            self.release(notice);
        }
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

    /// Nobody will see the results of its calls: it ended.
    fn abort_calls(&mut self, pid: Pid) {
        for parker in self.unwoken.get(&pid).into_iter().flatten().cloned() {
            self.outbox.wakes.push(Wake { parker, of: Some(pid), first: true });
        }
        let Some(calls) = self.entries.get_mut(pid).and_then(|entry| entry.calls.take()) else {
            return;
        };
        let queued = calls.queued.into_iter().map(|queued| queued.pending);
        for pending in calls.begun.into_iter().chain(queued).chain(calls.held) {
            self.abort(&pending);
        }
    }

    fn abort(&mut self, pending: &Pending) {
        pending.finish(End::Gone);
        let parker = pending.parker.clone();
        self.outbox.wakes.push(Wake { parker, of: None, first: true });
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

    /// It executes another program: the calls that handlers had interrupted do not return.
    pub fn execute(&mut self, pid: Pid, path: &Arc<str>) {
        let image = self.take_prepared(path).unwrap_or_else(|| Arc::new(Image::new(&**path)));
        let Some(entry) = self.entries.get_mut(pid) else { return };
        entry.image = image;
        let calls = entry.calls.as_mut();
        let begun = calls.map(|calls| core::mem::take(&mut calls.begun)).unwrap_or_default();
        for pending in begun {
            self.abort(&pending);
        }
    }
}

/// An event concerns a wait: it is answered in this step, or woken to ask for itself.
fn tell(waiting: &Arc<Waiting>, concerned: &mut Vec<Arc<Waiting>>, outbox: &mut Outbox) {
    match waiting.takes_answers {
        true => concerned.push(waiting.clone()),
        false => outbox.wakes.push(waiting.wake()),
    }
}

impl Notice {
    /// A wait is to hear when its callback has run.
    pub fn add(&mut self, waiting: &Arc<Waiting>) {
        if waiting.hold(self.token.serial) {
            self.waits.push(waiting.clone());
        }
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
