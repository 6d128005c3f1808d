//! The results of concurrent calls on one table are those of a serial order of the calls on the
//! model.
//!
//! Each history consists of a few small random programs, which threads run on one table. A counter
//! records the beginning and the end of each call. A search then looks for an order of the calls
//! that gives exactly these results on a [`Kernel`]. It keeps the order of each program, and the
//! order of two calls if one ended before the other began. A call that sleeps has a place for its
//! beginning and a later one for its end; a wait of the runtime has one place, where it finds its
//! event.
//!
//! The order of the table's own commits would need no search, and would give one state for each
//! result. But the table would record that order under the lock that this test examines, so a
//! result that mixes two commits, or that is read after the unlock, would agree with it. The
//! results of callers do not depend on the records of the table.

use std::fmt::Write;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use proctable::abi::{
    Errno, Handler, Pgid, Pid, Resource, Rlimit, Sid, SigAction, SigSet, Signal, WaitOptions,
    WaitStatus,
};
use proctable::kernel::{Canonical, Config, Consequence, Effects, Kernel, Outcome, RunState};
use proctable::syscall::{self, Ptr, Ret, SIGSET_SIZE, Syscall, how};
use proctable::table::{
    CancelToken, Image, ManualClock, Process, ProcessTable, Spawn, TableConfig, WaitTarget,
};

use super::SOON;

const HISTORIES: u64 = 10_000;
const INIT: Pid = Pid(1);
/// The parent of all guests: the leader of their session.
const SHELL: Pid = Pid(2);

/// A call of a program.
#[derive(Clone, Debug)]
enum Op {
    /// A system call of the thread's own guest.
    Guest(Syscall),
    /// The actions of the runtime.
    Spawn {
        own_group: bool,
    },
    Send(Pid, Signal),
    Report(Pid, WaitStatus),
    Wait {
        how: How,
        parent: Pid,
        target: WaitTarget,
        options: WaitOptions,
    },
    Cancel,
    List,
}

/// How the runtime waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Block,
    Try,
    NoTime,
    Cancellable,
    /// A future that is polled to its end.
    Await,
    /// A future that is polled once and dropped.
    PollOnce,
}

type Row = (Pid, Pid, Pgid, Sid, RunState, Option<WaitStatus>);

/// The result of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Call(syscall::Result),
    Made(Result<Pid, Errno>),
    Sent(Result<(), Errno>),
    Waited(Result<Option<(Pid, WaitStatus)>, Errno>),
    Rows(Vec<Row>),
    Nothing,
}

/// A completed call.
#[derive(Clone, Debug)]
struct Record {
    op: Op,
    begin: usize,
    end: usize,
    seen: Seen,
}

/// Numbers of a fixed sequence (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
}

/// The guest of a program.
fn guest(program: usize) -> Pid {
    Pid(SHELL.0 + 1 + program as u32)
}

/// A program of a history.
fn program(dice: &mut Dice, nth: usize, programs: usize) -> Vec<Op> {
    let length = 2 + dice.below(4);
    (0..length).map(|_| op(dice, nth, programs)).collect()
}

fn op(dice: &mut Dice, nth: usize, programs: usize) -> Op {
    let any_guest = guest(dice.below(programs as u64) as usize);
    // guests, and the numbers of their first children
    let any_process = Pid(SHELL.0 + 1 + dice.below(programs as u64 + 2) as u32);
    let signal = dice.of(&[
        Signal::STOP,
        Signal::CONT,
        Signal::CONT,
        Signal::USR1,
        Signal::TSTP,
        Signal::CHLD,
        Signal::TERM,
        Signal::KILL,
    ]);
    match dice.below(20) {
        0..3 => Op::Guest(Syscall::Fork),
        3 => Op::Spawn { own_group: dice.below(2) == 0 },
        4..6 => Op::Guest(Syscall::Kill {
            pid: dice.of(&[1, 1, -1]) * any_process.0 as i32,
            sig: signal.number().into(),
        }),
        6 => Op::Guest(Syscall::Setpgid {
            pid: dice.of(&[0, any_process.0 as i32]),
            pgid: dice.of(&[0, any_guest.0 as i32]),
        }),
        7 => Op::Guest(Syscall::Setsid),
        8 => Op::Guest(Syscall::RtSigprocmask {
            how: dice.of(&[how::BLOCK, how::UNBLOCK, how::SETMASK]),
            set: Some(dice.of(&[SigSet::FULL, Signal::USR1.set(), Signal::TSTP.set()])),
            old: Ptr::Valid,
            size: SIGSET_SIZE,
        }),
        9 => Op::Guest(Syscall::RtSigaction {
            sig: dice.of(&[Signal::USR1, Signal::CHLD, Signal::TERM]).number().into(),
            act: Some(SigAction {
                handler: dice.of(&[Handler::Default, Handler::Ignore, Handler::Catch(0x1000)]),
                ..SigAction::DEFAULT
            }),
            old: Ptr::Valid,
            size: SIGSET_SIZE,
        }),
        10 => Op::Guest(Syscall::Wait4 {
            pid: dice.of(&[-1, any_process.0 as i32, -(any_guest.0 as i32)]),
            status: Ptr::Valid,
            options: dice.of(&[WaitOptions::default(), WaitOptions::STOPPED, WaitOptions::NOHANG]),
        }),
        11..15 => wait(dice, nth, any_process),
        15 => Op::Send(any_guest, signal),
        16 => Op::Report(
            any_guest,
            dice.of(&[
                WaitStatus::exited(9),
                WaitStatus::stopped(Signal::STOP),
                WaitStatus::CONTINUED,
            ]),
        ),
        17 => Op::Cancel,
        18 => Op::Guest(Syscall::ExitGroup(dice.below(3) as i32)),
        _ => Op::List,
    }
}

fn wait(dice: &mut Dice, nth: usize, any_process: Pid) -> Op {
    use How::{Await, Block, Cancellable, NoTime, PollOnce, Try};
    let how = dice.of(&[Block, Try, NoTime, Cancellable, Await, PollOnce]);
    let (exited, all) = (WaitOptions::EXITED, WaitOptions::EXITED.with(WaitOptions::STOPPED));
    Op::Wait {
        how,
        parent: dice.of(&[guest(nth), SHELL]),
        target: dice.of(&[WaitTarget::Any, WaitTarget::Pid(any_process), WaitTarget::OwnGroup]),
        options: dice.of(&[exited, exited, all, all.with(WaitOptions::NOWAIT)]),
    }
}

/// The state that the threads of a history share.
struct World {
    table: ProcessTable,
    handles: Vec<Process>,
    cancel: CancelToken,
    time: AtomicUsize,
    ready: AtomicUsize,
    finished: AtomicUsize,
}

impl World {
    fn new(programs: usize) -> World {
        let config = TableConfig::new().clock(ManualClock::new()).zombie_ttl(None);
        let table = ProcessTable::with_config(config);
        let shell = table.spawn(Spawn::new(Image::new("sh")).session()).unwrap();
        let guests = (0..programs).map(|_| shell.spawn(Spawn::fork().own_group()).unwrap());
        let handles = [table.init(), shell.clone()].into_iter().chain(guests).collect();
        let [time, ready, finished] = [0; 3].map(AtomicUsize::new);
        World { table, handles, cancel: CancelToken::new(), time, ready, finished }
    }

    fn handle(&self, pid: Pid) -> &Process {
        &self.handles[pid.0 as usize - 1]
    }

    fn record(&self, op: &Op, own: Pid) -> Record {
        let begin = self.time.fetch_add(1, Ordering::SeqCst);
        let seen = self.carry_out(op, own);
        let end = self.time.fetch_add(1, Ordering::SeqCst);
        Record { op: op.clone(), begin, end, seen }
    }

    fn carry_out(&self, op: &Op, own: Pid) -> Seen {
        match op {
            Op::Guest(call) => Seen::Call(self.call(own, call)),
            Op::Spawn { own_group } => {
                let spawn = if *own_group { spawning().own_group() } else { spawning() };
                Seen::Made(self.handle(own).spawn(spawn).map(|child| child.pid()))
            }
            Op::Send(to, signal) => Seen::Sent(self.handle(*to).send(*signal)),
            Op::Report(of, status) => {
                self.handle(*of).report(*status);
                Seen::Nothing
            }
            Op::Wait { how, parent, target, options } => {
                let waited = self.wait(*how, self.handle(*parent), *target, *options);
                Seen::Waited(waited.map(|waited| waited.map(|waited| (waited.pid, waited.status))))
            }
            Op::Cancel => {
                self.cancel.cancel();
                Seen::Nothing
            }
            Op::List => Seen::Rows(self.rows()),
        }
    }

    /// Blocking, or as a future.
    fn call(&self, own: Pid, call: &Syscall) -> syscall::Result {
        match call {
            Syscall::Fork => self.handle(own).fork().map(|child| Ret::Value(child.pid().0.into())),
            Syscall::Wait4 { pid, .. } if *pid > 0 => {
                block_on(self.table.submit(own, call.clone()))
            }
            _ => self.handle(own).syscall(call.clone()),
        }
    }

    fn wait(
        &self,
        how: How,
        parent: &Process,
        target: WaitTarget,
        options: WaitOptions,
    ) -> Result<Option<proctable::table::Waited>, Errno> {
        match how {
            How::Block => parent.wait(target, options).map(Some),
            How::Try => parent.try_wait(target, options),
            How::NoTime => parent.wait_timeout(target, options, Duration::ZERO),
            How::Cancellable => parent.wait_cancellable(target, options, &self.cancel),
            How::Await => block_on(parent.wait_async(target, options)).map(Some),
            How::PollOnce => {
                let mut wait = pin!(parent.wait_async(target, options));
                match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(waited) => waited.map(Some),
                    Poll::Pending => Ok(None),
                }
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |info: proctable::table::ProcessInfo| {
            (info.pid, info.ppid, info.pgid, info.sid, info.run, info.status)
        };
        self.table.list().into_iter().map(row).collect()
    }

    /// A thread of a history; all threads begin at the same time.
    fn run(&self, own: Pid, program: &[Op], threads: usize) -> Vec<Record> {
        self.ready.fetch_add(1, Ordering::SeqCst);
        while self.ready.load(Ordering::SeqCst) < threads {
            thread::yield_now();
        }
        let record = |op| {
            // on few CPUs other threads run between calls
            thread::yield_now();
            self.record(op, own)
        };
        let records = program.iter().map(record).collect();
        self.finished.fetch_add(1, Ordering::SeqCst);
        records
    }

    /// When no thread makes progress, ends the guests of the threads that wait. A thread may only
    /// have had no CPU: that changes the history, and not whether it has a serial order.
    fn end_sleepers(&self, programs: usize) -> Vec<Record> {
        let finished = || self.finished.load(Ordering::SeqCst) == programs;
        let (mut last, mut idle) = (0, 0);
        while !finished() && idle < 200 {
            let now = self.time.load(Ordering::SeqCst);
            idle = if now == last { idle + 1 } else { 0 };
            last = now;
            thread::yield_now();
        }
        if finished() {
            return Vec::new();
        }
        let guests = (0..programs).map(guest).chain([SHELL]);
        guests.map(|pid| self.record(&Op::Send(pid, Signal::KILL), INIT)).collect()
    }
}

fn spawning() -> Spawn {
    Spawn::new(Image::new("guest"))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// The model, and the progress of each program in it.
#[derive(Clone, PartialEq)]
struct Model {
    kernel: Kernel,
    cancelled: bool,
    places: Vec<Place>,
}

/// The progress of a program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Place {
    /// The first call that has not returned.
    next: usize,
    /// The call has begun.
    begun: bool,
}

impl Model {
    fn new(programs: usize, threads: usize) -> Model {
        let mut config = Config { first: INIT, ..Config::default() };
        config.limits.push((Resource::SIGPENDING, Rlimit { soft: 4096, hard: 4096 }));
        let places = vec![Place::default(); threads];
        let mut model = Model { kernel: Kernel::new(config), cancelled: false, places };
        model.act(|kernel, fx| drop(kernel.call(INIT, &Syscall::Setsid, fx)));
        model.spawn(INIT, true, Some(Syscall::Setsid)).unwrap();
        for _ in 0..programs {
            model.spawn(SHELL, false, Some(OWN_GROUP)).unwrap();
        }
        model
    }

    /// Applies a transition and the steps after it. Returns the calls that returned.
    fn act<R>(&mut self, act: impl FnOnce(&mut Kernel, &mut Effects) -> R) -> (R, Returned) {
        let mut fx = Effects::new();
        let result = act(&mut self.kernel, &mut fx);
        self.kernel.settle(&mut Canonical, &mut fx);
        let returned = fx.list().iter().filter_map(|effect| match &effect.what {
            Consequence::Resumed(result) => Some((effect.pid, result.clone())),
            _ => None,
        });
        (result, returned.collect())
    }

    fn spawn(&mut self, parent: Pid, exec: bool, place: Option<Syscall>) -> Result<Pid, Errno> {
        let (forked, _) = self.act(|kernel, fx| kernel.fork_on_behalf(parent, None, fx));
        let Ok(forked) = forked else { return Err(Errno::ESRCH) };
        let child = Pid(forked?.value() as u32);
        let program = exec.then(|| Syscall::Execve { path: "".into(), error: None });
        for call in place.into_iter().chain(program) {
            self.act(|kernel, fx| drop(kernel.call(child, &call, fx)));
        }
        Ok(child)
    }

    fn is_dead(&self, pid: Pid) -> bool {
        self.kernel.view(pid).is_none_or(|view| view.run == RunState::Zombie)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |pid| {
            let view = self.kernel.view(pid)?;
            Some((pid, view.ppid, view.pgid, view.sid, view.run, self.kernel.exit_status(pid)))
        };
        self.kernel.pids().filter_map(row).collect()
    }

    fn wait(&mut self, op: &Op) -> Seen {
        let Op::Wait { parent, target, options, .. } = op else { unreachable!() };
        let target = match target {
            WaitTarget::Pid(pid) => pid.0 as i32,
            WaitTarget::OwnGroup => 0,
            _ => -1,
        };
        let call = waitid(target, *options);
        let (polled, _) = self.act(|kernel, fx| kernel.poll_wait(*parent, &call, fx));
        Seen::Waited(match polled {
            Ok(Ok(Ret::WaitInfo(Some(info)))) => Ok(info.map(|info| (info.pid, status(info)))),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(errno)) => Err(errno),
            Err(_) => Err(Errno::ESRCH),
        })
    }
}

type Returned = Vec<(Pid, syscall::Result)>;

const OWN_GROUP: Syscall = Syscall::Setpgid { pid: 0, pgid: 0 };

fn waitid(target: i32, options: WaitOptions) -> Syscall {
    use proctable::abi::IdType;
    let (idtype, id) = match target {
        -1 => (IdType::ALL, 0),
        0 => (IdType::PGID, 0),
        pid => (IdType::PID, pid),
    };
    Syscall::Waitid { idtype, id, info: Ptr::Valid, options }
}

fn status(info: proctable::abi::SigInfo) -> WaitStatus {
    use proctable::abi::SiCode;
    let signal = Signal::new(info.status()).unwrap_or(Signal::KILL);
    match info.code {
        SiCode::CLD_EXITED => WaitStatus::exited(info.status()),
        SiCode::CLD_STOPPED => WaitStatus::stopped(signal),
        SiCode::CLD_CONTINUED => WaitStatus::CONTINUED,
        code => WaitStatus::killed(signal, code == SiCode::CLD_DUMPED),
    }
}

/// The search for an order that explains a history.
struct Search<'a> {
    history: &'a [Vec<Record>],
    /// States without a solution.
    tried: std::collections::HashMap<Vec<Place>, Vec<Model>>,
    /// The calls by their beginnings, in the order that the search found.
    order: Vec<usize>,
}

impl Search<'_> {
    fn explain(&mut self, model: &Model) -> bool {
        let mut open: Vec<usize> = (0..self.history.len())
            .filter(|thread| model.places[*thread].next < self.history[*thread].len())
            .collect();
        if open.is_empty() {
            return true;
        }
        let tried = self.tried.entry(model.places.clone()).or_default();
        if tried.contains(model) {
            return false;
        }
        tried.push(model.clone());
        let next = |thread: usize| &self.history[thread][model.places[thread].next];
        let first_end = open.iter().map(|thread| next(*thread).end).min().unwrap_or(0);
        // a call that began after another one had ended is after it
        open.retain(|thread| next(*thread).begin < first_end && !model.places[*thread].begun);
        open.sort_by_key(|thread| next(*thread).begin);
        for thread in open {
            let mut after = model.clone();
            let record = &self.history[thread][model.places[thread].next];
            if self.step(&mut after, thread, record) {
                self.order.push(record.begin);
                if self.explain(&after) {
                    return true;
                }
                self.order.pop();
            }
        }
        false
    }

    /// Begins the call in the model; `false` if it cannot have begun here.
    fn step(&self, model: &mut Model, thread: usize, record: &Record) -> bool {
        let own = guest(thread);
        let (seen, returned) = match &record.op {
            Op::Guest(call) => match self.call(model, own, call) {
                Some((seen, returned)) => (seen, returned),
                None => return false,
            },
            Op::Spawn { own_group } => {
                (Some(Seen::Made(model.spawn(own, true, own_group.then_some(OWN_GROUP)))), vec![])
            }
            Op::Send(to, signal) => {
                let (sent, returned) = model.act(|kernel, fx| kernel.signal(*to, *signal, fx));
                (Some(Seen::Sent(sent.map_err(|_| Errno::ESRCH))), returned)
            }
            Op::Report(of, status) => {
                let (_, returned) =
                    model.act(|kernel, fx| kernel.apply_report(*of, *status, fx).is_ok());
                (Some(Seen::Nothing), returned)
            }
            Op::Wait { how, .. } => {
                let seen = model.wait(&record.op);
                let sleeps = match how {
                    How::Block | How::Await => true,
                    How::Cancellable => !model.cancelled,
                    How::Try | How::NoTime | How::PollOnce => false,
                };
                if sleeps && seen == Seen::Waited(Ok(None)) {
                    return false;
                }
                (Some(seen), vec![])
            }
            Op::Cancel => {
                model.cancelled = true;
                (Some(Seen::Nothing), vec![])
            }
            Op::List => (Some(Seen::Rows(model.rows())), vec![]),
        };
        match seen {
            Some(seen) if seen == record.seen => model.places[thread].next += 1,
            Some(_) => return false,
            None => model.places[thread].begun = true,
        }
        self.end_calls(model, returned)
    }

    /// A guest's call: its result, if it returns at once; `None` if the guest cannot make it now.
    fn call(
        &self,
        model: &mut Model,
        own: Pid,
        call: &Syscall,
    ) -> Option<(Option<Seen>, Returned)> {
        if model.is_dead(own) {
            return Some((Some(Seen::Call(Err(Errno::ESRCH))), vec![]));
        }
        if !model.kernel.in_user_mode(own) {
            return None;
        }
        let ((outcome, held), returned) = model.act(|kernel, fx| {
            let outcome = kernel.call(own, call, fx);
            (outcome, kernel.runnable_count() > 0)
        });
        let seen = match outcome.ok()? {
            Outcome::Gone | Outcome::Done => Some(Seen::Call(Ok(Ret::Never))),
            Outcome::Returned(result) if !held => Some(Seen::Call(result)),
            // its result is among the returned ones, or comes later
            Outcome::Returned(_) | Outcome::Blocked => None,
        };
        Some((seen, returned))
    }

    /// Ends calls that had begun; `false` if a program observed another result.
    fn end_calls(&self, model: &mut Model, returned: Returned) -> bool {
        for thread in 0..self.history.len() {
            let place = model.places[thread];
            let own = guest(thread);
            let result = returned.iter().find(|(pid, _)| *pid == own);
            let ended = match result {
                Some((_, result)) => Seen::Call(result.clone()),
                None if model.is_dead(own) => Seen::Call(Err(Errno::ESRCH)),
                None => continue,
            };
            if !place.begun {
                continue;
            }
            if self.history[thread][place.next].seen != ended {
                return false;
            }
            model.places[thread] = Place { next: place.next + 1, begun: false };
        }
        true
    }
}

/// The content of a history.
#[derive(Default)]
struct Tally {
    calls: usize,
    overlapped: usize,
    reordered: usize,
    slept: usize,
}

fn history(seed: u64) -> Vec<Vec<Record>> {
    let mut dice = Dice(seed);
    let programs = 2 + dice.below(3) as usize;
    let texts: Vec<Vec<Op>> = (0..programs).map(|nth| program(&mut dice, nth, programs)).collect();
    let world = Arc::new(World::new(programs));
    let (done, is_done) = crossbeam_channel::unbounded();
    for (nth, text) in texts.iter().cloned().enumerate() {
        let (world, done) = (world.clone(), done.clone());
        thread::spawn(move || done.send((nth, world.run(guest(nth), &text, programs))));
    }
    let ends = world.end_sleepers(programs);
    let mut history = vec![Vec::new(); programs];
    for _ in 0..programs {
        let received = is_done.recv_timeout(SOON);
        let (nth, records) =
            received.unwrap_or_else(|_| panic!("seed {seed}: a call does not return: {texts:#?}"));
        history[nth] = records;
    }
    // the last thread sees the final state
    history.push(ends.into_iter().chain([world.record(&Op::List, INIT)]).collect());
    history
}

fn check(seed: u64, tally: &mut Tally) {
    let history = history(seed);
    let model = Model::new(history.len() - 1, history.len());
    let mut search = Search { history: &history, tried: Default::default(), order: Vec::new() };
    assert!(search.explain(&model), "seed {seed}: no order explains this:\n{}", printed(&history));
    let calls = || history.iter().flatten();
    tally.calls += calls().count();
    let overlap = |a: &Record, b: &Record| a.begin < b.begin && b.begin < a.end;
    tally.overlapped += usize::from(calls().any(|a| calls().any(|b| overlap(a, b))));
    tally.reordered += usize::from(!search.order.is_sorted());
    tally.slept += usize::from(history[history.len() - 1].len() > 1);
}

/// A history as text, in the order in which the calls began.
fn printed(history: &[Vec<Record>]) -> String {
    let mut lines: Vec<(usize, &Record)> = Vec::new();
    for (thread, records) in history.iter().enumerate() {
        lines.extend(records.iter().map(|record| (thread, record)));
    }
    lines.sort_by_key(|(_, record)| record.begin);
    let mut text = String::new();
    for (thread, Record { op, begin, end, seen }) in lines {
        let _ = writeln!(text, "{begin}..{end} {}: {op:?} = {seen:?}", guest(thread));
    }
    text
}

#[test]
fn every_history_has_a_serial_order() {
    let begin = Instant::now();
    let mut tally = Tally::default();
    for seed in 0..HISTORIES {
        check(seed, &mut tally);
    }
    let Tally { calls, overlapped, reordered, slept } = tally;
    println!(
        "{HISTORIES} histories of {calls} calls in {:?}: in {overlapped} calls overlapped, \
         {reordered} have another order than that of the beginnings, {slept} had sleepers to end",
        begin.elapsed()
    );
    assert!(overlapped > 0 && reordered > 0, "the threads ran one after the other");
}
