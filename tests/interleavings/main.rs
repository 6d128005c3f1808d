//! Small programs on a table with the locks of shuttle, each under thousands of schedules: random
//! ones, and those of PCT, which finds faults that need a few preemptions at certain places. A
//! schedule in which all threads sleep fails, so a lost wake-up needs no assertion.
//!
//! `.ci/interleavings` runs them; without `--cfg shuttle` this is an empty program.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod drops;
mod exits;
mod reports;
mod threads;
mod waits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proctable::abi::{Signal, WaitOptions, WaitStatus};
use proctable::driver::{Delivery, DriverProcess};
use proctable::table::{Image, ManualClock, Process, ProcessTable, Spawn, TableConfig};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

/// The number of schedules for each program and each scheduler.
const SCHEDULES: usize = 10_000;
const SEED: u64 = 0x5eed;
/// The number of preemptions of PCT.
const PREEMPTIONS: usize = 3;

const EXITED: WaitOptions = WaitOptions::EXITED;

/// Runs a program under all schedules. A failure prints the schedule.
fn explore(program: impl Fn() + Send + Sync + 'static) {
    let program = Arc::new(program);
    let of = || {
        let mut config = Config::new();
        // for the unoptimised transitions of the model, and the message of a panic
        config.stack_size = 256 * 1024;
        config.max_steps = MaxSteps::FailAfter(100_000);
        config
    };
    let (first, second) = (program.clone(), program);
    let random = RandomScheduler::new_from_seed(SEED, SCHEDULES);
    Runner::new(random, of()).run(move || first());
    let pct = PctScheduler::new_from_seed(SEED, PREEMPTIONS, SCHEDULES);
    Runner::new(pct, of()).run(move || second());
}

/// A table with a clock that does not advance by itself.
fn table() -> (ManualClock, ProcessTable) {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    (clock, table)
}

fn spawn(parent: &Process) -> Process {
    parent.spawn(Spawn::new(Image::new("guest"))).unwrap()
}

/// Runs both closures concurrently, and returns their results.
fn both<A: Send + 'static, B: Send + 'static>(
    one: impl FnOnce() -> A + Send + 'static,
    other: impl FnOnce() -> B + Send + 'static,
) -> (A, B) {
    let (one, other) = (thread::spawn(one), thread::spawn(other));
    (one.join().unwrap(), other.join().unwrap())
}

/// A driver that records whether its process runs, and whether the table obeys the contract: one
/// operation at a time, `terminate` last.
#[derive(Default)]
struct Watch {
    stopped: AtomicBool,
    ended: AtomicBool,
    busy: AtomicBool,
    wrong: AtomicBool,
}

impl Watch {
    fn operate(&self, change: impl FnOnce()) {
        let overlaps = self.busy.swap(true, Ordering::SeqCst);
        thread::yield_now();
        change();
        let again = !self.busy.swap(false, Ordering::SeqCst);
        if overlaps || again {
            self.wrong.store(true, Ordering::SeqCst);
        }
    }

    fn change(&self, flag: &AtomicBool, to: bool) {
        self.operate(|| {
            let is_over = self.ended.load(Ordering::SeqCst);
            if flag.swap(to, Ordering::SeqCst) == to || is_over {
                self.wrong.store(true, Ordering::SeqCst);
            }
        });
    }

    /// Checks that its state agrees with the table, when no thread is in a call.
    fn agrees_with(&self, process: &Process) {
        assert!(!self.wrong.load(Ordering::SeqCst), "operations out of order");
        let run = process.info().map(|info| info.run);
        let stopped = run == Some(proctable::kernel::RunState::Stopped);
        let ended = run.is_none_or(|run| run == proctable::kernel::RunState::Zombie);
        assert_eq!(self.ended.load(Ordering::SeqCst), ended);
        assert!(ended || self.stopped.load(Ordering::SeqCst) == stopped);
    }
}

impl DriverProcess for Watch {
    fn deliver(&self, _: Delivery) {
        self.operate(|| ());
    }

    fn stop(&self, _: Signal) {
        self.change(&self.stopped, true);
    }

    fn resume(&self) {
        self.change(&self.stopped, false);
    }

    fn terminate(&self, _: WaitStatus) {
        self.change(&self.ended, true);
    }
}
