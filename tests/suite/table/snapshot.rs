//! Snapshots of a table: a restored table continues as the other one does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proctable::abi::{Errno, Pid, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Delivery, DriverProcess, Op};
use proctable::kernel::{Choose, Seeded};
use proctable::syscall::{Ptr, SIGSET_SIZE, Syscall, clone, how};
use proctable::table::{
    Call, DispatchMode, GroupChoice, Image, ManualClock, ProcessId, ProcessTable, Snapshot, Spawn,
    TableConfig, TimerMode, WaitTarget,
};

use super::caught;

/// What the drivers of a table have been told, by process.
type Log = Arc<Mutex<Vec<(u32, Op)>>>;

/// A driver that records its operations. The name is a number of the runtime's own.
struct Recorder {
    name: u32,
    log: Log,
}

impl Recorder {
    fn note(&self, op: Op) {
        self.log.lock().unwrap().push((self.name, op));
    }
}

impl DriverProcess for Recorder {
    fn deliver(&self, delivery: Delivery) {
        self.note(Op::Deliver(delivery));
    }

    fn interrupt(&self, tid: Pid) {
        self.note(Op::Interrupt(tid));
    }

    fn end_thread(&self, tid: Pid) {
        self.note(Op::EndThread(tid));
    }

    fn clear_tid(&self, tid: Pid, address: u64) {
        self.note(Op::ClearTid { tid, address });
    }

    fn stop(&self, signal: Signal) {
        self.note(Op::Stop(signal));
    }

    fn resume(&self) {
        self.note(Op::Resume);
    }

    fn terminate(&self, status: WaitStatus) {
        self.note(Op::Terminate(status));
    }

    fn reaped(&self) {
        self.note(Op::Reaped);
    }

    fn abandon(&self) {}
}

/// A runtime with one thread, whose acts a seed decides.
struct Runtime {
    table: ProcessTable,
    clock: ManualClock,
    log: Log,
    last_name: u32,
    /// The names of the drivers, also of processes that are reaped.
    names: Vec<(ProcessId, u32)>,
    calls: Vec<Call>,
    /// What the acts have returned.
    seen: Vec<String>,
}

fn config(clock: &ManualClock) -> TableConfig {
    TableConfig::new()
        .clock(clock.clone())
        .timer_mode(TimerMode::Caller)
        .dispatch_mode(DispatchMode::Request)
        .zombie_ttl(Some(Duration::from_secs(3)))
}

impl Runtime {
    fn new() -> Runtime {
        let clock = ManualClock::new();
        let table = ProcessTable::with_config(config(&clock));
        let (log, names, calls, seen) = Default::default();
        Runtime { table, clock, log, last_name: 0, names, calls, seen }
    }

    /// The same runtime on a table that goes through the text of a snapshot.
    fn copy(&self) -> Runtime {
        let clock = ManualClock::new();
        let log = Log::default();
        let snapshot: Snapshot<Option<u32>> = serde_json::from_str(&self.text()).unwrap();
        let mut names = Vec::new();
        let table = ProcessTable::restore(snapshot, config(&clock), |process, name| {
            let name = name?;
            names.push((process.id(), name));
            Some(Arc::new(Recorder { name, log: log.clone() }))
        });
        let (table, (calls, seen)) = (table.unwrap(), Default::default());
        let last_name = self.last_name;
        let mut copy = Runtime { table, clock, log, last_name, names, calls, seen };
        copy.take_calls();
        copy
    }

    /// The text of a snapshot, with the names.
    fn text(&self) -> String {
        let snapshot = self.table.snapshot(|process| {
            let name = self.names.iter().find(|(id, _)| *id == process.id());
            name.map(|(_, name)| *name)
        });
        serde_json::to_string(&snapshot.unwrap()).unwrap()
    }

    /// The calls in progress are those of the table.
    fn take_calls(&mut self) {
        self.calls.clear();
        for pid in self.table.pids() {
            let process = self.table.process(pid).unwrap();
            for thread in process.threads() {
                self.calls.extend(thread.calls_in_progress());
            }
        }
    }

    fn submit(&mut self, tid: Pid, call: Syscall) {
        let call = self.table.submit(tid, call);
        match call.result() {
            Some(result) => self.seen.push(format!("{tid}: {result:?}")),
            None => self.calls.push(call),
        }
    }

    /// A new process, with handlers and a driver.
    fn spawn(&mut self, parent: Pid, choose: &mut Seeded) {
        self.last_name += 1;
        let name = self.last_name;
        let driver = Arc::new(Recorder { name, log: self.log.clone() });
        let group = [GroupChoice::Inherit, GroupChoice::Own, GroupChoice::Session];
        let group = group[choose.choose(3)];
        let spawn = Spawn::new(Image::new(format!("guest {name}"))).group(group).driver(driver);
        let spawn = if choose.choose(3) == 0 { spawn.safe_points() } else { spawn };
        let child = self.table.process(parent).unwrap().spawn(spawn).map(|child| {
            self.names.push((child.id(), name));
            for signal in [Signal::USR1, Signal::URG, Signal::CHLD] {
                child.sigaction(signal, caught()).unwrap();
            }
            child.pid()
        });
        self.seen.push(format!("spawn: {child:?}"));
    }

    /// A call of a guest.
    fn call(&self, pids: &[Pid], signal: Signal, choose: &mut Seeded) -> Syscall {
        let (sig, old, size) = (i32::from(signal.number()), Ptr::Null, SIGSET_SIZE);
        match choose.choose(10) {
            0 if pids.len() < 12 => Syscall::Fork,
            1 if pids.len() < 12 => {
                let flags = clone::VM | clone::SIGHAND | clone::THREAD;
                Syscall::Clone { flags, clone3: None, child_tid: 0, parent_tid: 0 }
            }
            2 => {
                let target = pids.get(choose.choose(pids.len() + 1));
                Syscall::Kill { pid: target.map_or(-1, |pid| pid.0 as i32), sig }
            }
            3 => Syscall::RtSigaction { sig, act: Some(caught()), old, size },
            4 => {
                let how = [how::BLOCK, how::UNBLOCK][choose.choose(2)];
                Syscall::RtSigprocmask { how, set: Some(signal.set()), old, size }
            }
            5 => Syscall::RtSigreturn,
            6 | 7 => {
                let options = [WaitOptions::ALL, WaitOptions::NOHANG][choose.choose(2)];
                Syscall::Wait4 { pid: -1, status: Ptr::Valid, options }
            }
            8 => Syscall::Alarm(choose.choose(3) as u32),
            9 if choose.choose(3) == 0 => Syscall::ExitGroup(choose.choose(3) as i32),
            _ => Syscall::Pause,
        }
    }

    /// One act.
    fn act(&mut self, choose: &mut Seeded) {
        const SIGNALS: [Signal; 8] = [
            Signal::STOP,
            Signal::CONT,
            Signal::CONT,
            Signal::USR1,
            Signal::URG,
            Signal::TSTP,
            Signal::CHLD,
            Signal::KILL,
        ];
        let pids: Vec<Pid> = self.table.pids().into_iter().filter(|pid| *pid != Pid(1)).collect();
        let any = pids.get(choose.choose(pids.len().max(1))).copied().unwrap_or(Pid(1));
        let process = self.table.process(any).unwrap();
        let signal = SIGNALS[choose.choose(SIGNALS.len())];
        match choose.choose(24) {
            0..3 if pids.len() < 12 => self.spawn(any, choose),
            3..12 => {
                let call = self.call(&pids, signal, choose);
                self.submit(any, call);
            }
            12..17 => self.seen.push(format!("{signal} to {any}: {:?}", process.send(signal))),
            17 => {
                let image = Image::new(format!("program {}", choose.choose(100)));
                self.calls.push(process.submit_exec(image));
            }
            18 => {
                self.clock.advance(Duration::from_millis(600));
                let reaped = self.table.reap_due(self.table.now());
                self.seen.push(format!("{reaped} reaped"));
            }
            19 => {
                let events = WaitOptions::EXITED.with(WaitOptions::STOPPED);
                let waited = self.table.init().try_wait(WaitTarget::Any, events);
                self.seen.push(format!("waited: {waited:?}"));
            }
            20 | 21 => {
                let begun = process.begin_delivery();
                self.seen.push(format!("{:?}", begun.map(|begun| (begun.tid(), *begun.info()))));
            }
            22 => {
                if let Some(running) = process.running_delivery() {
                    self.seen.push(format!("{} returns", running.info().signal));
                    self.calls.extend(process.end_delivery(&running));
                }
            }
            _ => {
                let steps = self.table.dispatch();
                self.seen.push(format!("{steps} steps"));
            }
        }
        let ended = self.calls.extract_if(.., |call| call.result().is_some());
        self.seen.extend(ended.map(|call| format!("{:?}", call.result())));
    }

    fn finish(&mut self) {
        while self.table.dispatch() > 0 {}
    }
}

/// Random acts, a snapshot as text in the middle, and the same acts on both tables: results,
/// operations in their order, and the state at the end are the same.
#[test]
fn a_restored_table_continues_identically() {
    let mut operations = 0;
    let mut in_progress = 0;
    let mut waiting = 0;
    for seed in 0..300 {
        let mut choose = Seeded::new(seed);
        let mut one = Runtime::new();
        for _ in 0..60 {
            one.act(&mut choose);
        }
        let mut two = one.copy();
        assert_eq!(one.text(), two.text(), "seed {seed}: a snapshot of the copy");
        in_progress += two.calls.len();
        one.take_calls();
        one.seen.clear();
        one.log.lock().unwrap().clear();
        let value: serde_json::Value = serde_json::from_str(&one.text()).unwrap();
        let steps = value["table"]["steps"].as_array().unwrap();
        waiting += steps.iter().map(|step| step.as_array().map_or(0, Vec::len)).sum::<usize>();
        let mut again = choose.clone();
        for nth in 0..60 {
            one.act(&mut choose);
            two.act(&mut again);
            assert_eq!(one.seen, two.seen, "seed {seed}, act {nth}");
        }
        one.finish();
        two.finish();
        let seen = one.log.lock().unwrap().clone();
        assert_eq!(seen, *two.log.lock().unwrap(), "seed {seed}: operations");
        operations += seen.len();
        assert_eq!(one.text(), two.text(), "seed {seed}: the end");
    }
    println!("{operations} operations after the snapshots, {in_progress} calls in progress");
    assert!(operations > 1000 && in_progress > 300 && waiting > 200, "{waiting} operations waited");
}

/// A driver that takes a snapshot in an operation.
struct InOperation(Mutex<Option<ProcessTable>>, Mutex<Vec<Errno>>);

impl DriverProcess for InOperation {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {
        let table = self.0.lock().unwrap().take().unwrap();
        self.1.lock().unwrap().extend(table.snapshot(|_| ()).err());
    }
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// EBUSY: what a driver has begun cannot be saved.
#[test]
fn a_driver_that_carries_out_an_operation_prevents_a_snapshot() {
    let table = ProcessTable::new();
    let driver = Arc::new(InOperation(Mutex::new(Some(table.clone())), Mutex::default()));
    let guest = table.spawn(Spawn::new(Image::new("guest")).driver(driver.clone())).unwrap();
    guest.send(Signal::STOP).unwrap();
    assert_eq!(*driver.1.lock().unwrap(), [Errno::EBUSY]);
    assert!(table.snapshot(|_| ()).is_ok());
}

/// EBUSY: an exit callback that has not run cannot be saved.
#[test]
fn an_exit_callback_that_has_not_run_prevents_a_snapshot() {
    let table = ProcessTable::with_config(config(&ManualClock::new()));
    let count = Arc::new(Mutex::new(0));
    let counts = count.clone();
    table.set_on_process_exit(Some(Arc::new(move |_, _| *counts.lock().unwrap() += 1)));
    let guest = table.spawn(Spawn::new(Image::new("guest"))).unwrap();
    guest.exit(3).unwrap();
    assert_eq!(table.snapshot(|_| ()).err(), Some(Errno::EBUSY));
    table.dispatch();
    assert_eq!(*count.lock().unwrap(), 1);
    assert!(table.snapshot(|_| ()).is_ok());
}

/// Time continues at that of the snapshot, whatever the clock shows: an alarm has as much
/// time left.
#[test]
fn time_continues_at_that_of_the_snapshot() {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(config(&clock));
    let guest = table.spawn(Spawn::new(Image::new("guest"))).unwrap();
    clock.advance(Duration::from_secs(100));
    guest.alarm(5).unwrap();
    clock.advance(Duration::from_secs(3));
    let snapshot = table.snapshot(|_| ()).unwrap();
    assert_eq!(snapshot.now(), table.now());
    let clock = ManualClock::new();
    let copy = ProcessTable::restore(snapshot, config(&clock), |_, ()| None).unwrap();
    assert_eq!(copy.now(), table.now());
    let guest = copy.process(guest.pid()).unwrap();
    for (seconds, status) in [(1, None), (1, Some(WaitStatus::killed(Signal::ALRM, false)))] {
        clock.advance(Duration::from_secs(seconds));
        copy.reap_due(copy.now());
        assert_eq!(guest.exit_status(), status);
    }
}

/// Ids and handles of a table are not those of a copy.
#[test]
fn a_process_of_the_copy_is_another_one() {
    let table = ProcessTable::new();
    let guest = table.spawn(Spawn::new(Image::new("guest"))).unwrap();
    let snapshot = table.snapshot(|_| ()).unwrap();
    let copy = ProcessTable::restore(snapshot, TableConfig::new(), |_, ()| None).unwrap();
    assert_ne!(copy.process(guest.pid()).unwrap().id(), guest.id());
    assert!(copy.init().wait(&guest, WaitOptions::EXITED).is_err());
    // numbers and serials go on
    let ours = table.spawn(Spawn::new(Image::new("next"))).unwrap();
    let theirs = copy.spawn(Spawn::new(Image::new("next"))).unwrap();
    assert_eq!(ours.pid(), theirs.pid());
    assert_ne!(ours.id(), theirs.id());
}

/// Parts that contradict each other are an error that names them.
#[test]
fn parts_that_contradict_each_other_are_refused() {
    let table = ProcessTable::new();
    let guest = table.spawn(Spawn::new(Image::new("guest"))).unwrap();
    let flags = clone::VM | clone::SIGHAND | clone::THREAD;
    let call = Syscall::Clone { flags, clone3: None, child_tid: 0, parent_tid: 0 };
    guest.syscall(call).unwrap();
    table.spawn(Spawn::new(Image::new("zombie"))).unwrap().exit(1).unwrap();
    let snapshot = serde_json::to_value(table.snapshot(|_| ()).unwrap()).unwrap();
    let restored = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut snapshot = snapshot.clone();
        change(&mut snapshot);
        let snapshot: Snapshot<()> = serde_json::from_value(snapshot).unwrap();
        let restored = ProcessTable::restore(snapshot, TableConfig::new(), |_, ()| None);
        restored.map(drop).map_err(|error| error.to_string())
    };
    let refused = |what: &str| Err(format!("the snapshot contradicts itself: {what}"));
    assert_eq!(restored(&|_| ()), Ok(()));
    let form = "the snapshot has form 3, and this version reads form 2";
    assert_eq!(restored(&|snapshot| snapshot["form"] = 3.into()), Err(form.into()));
    assert_eq!(
        restored(&|snapshot| drop(snapshot["processes"].as_array_mut().unwrap().pop())),
        refused("the model has other processes than the table")
    );
    assert_eq!(
        restored(&|snapshot| drop(snapshot["table"]["threads"].as_array_mut().unwrap().pop())),
        refused("the model has other threads than the table")
    );
    assert_eq!(
        restored(&|snapshot| snapshot["processes"][1]["serial"] = 1.into()),
        refused("the serials of processes are not theirs alone")
    );
    assert_eq!(
        restored(&|snapshot| snapshot["processes"][1]["entry"]["image"] = 9.into()),
        refused("a process has no program")
    );
    assert_eq!(
        restored(&|snapshot| snapshot["processes"][1]["entry"]["phase"] = "Zombie".into()),
        refused("the model and the table differ about which processes are zombies")
    );
    assert_eq!(
        restored(&|snapshot| snapshot["table"]["zombies"][0][1] = 2.into()),
        refused("a zombie to reap is none")
    );
}

/// A handler runs until its return is requested, also if the return waits for the end of a stop.
#[test]
fn the_running_handler_is_the_one_that_can_return() {
    let table = ProcessTable::new();
    let guest = table.spawn(Spawn::new(Image::new("guest")).safe_points()).unwrap();
    guest.sigaction(Signal::USR1, caught()).unwrap();
    assert_eq!(guest.running_delivery(), None);
    guest.send(Signal::USR1).unwrap();
    assert_eq!(guest.running_delivery(), None);
    let begun = guest.begin_delivery().unwrap();
    assert_eq!(guest.running_delivery(), Some(begun));
    guest.send(Signal::STOP).unwrap();
    let returning = guest.end_delivery(&begun).unwrap();
    assert_eq!(returning.result(), None);
    assert_eq!(guest.running_delivery(), None);
    assert!(guest.end_delivery(&begun).is_err());
}
