//! A test of a supervisor that takes no real time and has the same result in every run: the program
//! advances the clock, and drivers are scripted.
//!
//! ```text
//! $ cargo run --example deterministic_supervisor
//! $ cargo test --example deterministic_supervisor
//! ```

#[path = "supervisor/policy.rs"]
mod policy;

use std::sync::Arc;
use std::time::Duration;

use policy::{Next, Supervisor};
use proctable::abi::{Errno, Signal, Time, WaitOptions, WaitStatus};
use proctable::driver::Authority;
use proctable::drivers::{Expected, ScriptedDriver};
use proctable::table::{
    Clock, Image, ManualClock, Process, ProcessTable, Spawn, TableConfig, TimerMode,
};

/// A supervisor in its table, with services that end as a script says.
struct World {
    clock: ManualClock,
    table: ProcessTable,
    supervisor: Process,
}

impl World {
    fn new() -> Result<World, Errno> {
        let clock = ManualClock::new();
        let config = TableConfig::new().clock(clock.clone()).timer_mode(TimerMode::Caller);
        let table = ProcessTable::with_config(config);
        let supervisor = table.spawn(Spawn::new(Image::new("supervisor")).session())?;
        Ok(World { clock, table, supervisor })
    }

    /// A service that ends with `status` when it has been started.
    fn start(&self, status: WaitStatus) -> Result<Process, Errno> {
        let driver = Arc::new(ScriptedDriver::new([Expected::attach().then_report(status)]));
        let spawn = Spawn::new(Image::new("service")).driver(driver).authority(Authority::Host);
        self.supervisor.spawn(spawn)
    }

    fn elapse(&self, time: Duration) {
        self.clock.advance(time);
        self.table.reap_due(self.table.now());
    }
}

/// Runs a supervisor with services that end like that. Returns the times of their starts.
fn supervise(ends: &[WaitStatus]) -> Result<(Vec<Time>, Next), Errno> {
    let world = World::new()?;
    let mut policy = Supervisor::new(Duration::from_secs(1), 3);
    let mut starts = Vec::new();
    for end in ends {
        starts.push(world.clock.now());
        let child = world.start(*end)?;
        let waited = world.supervisor.wait(&child, WaitOptions::EXITED)?;
        assert_eq!(waited.status, *end);
        match policy.ended(waited.status) {
            Next::RestartAfter(delay) => world.elapse(delay),
            last => return Ok((starts, last)),
        }
    }
    Ok((starts, Next::GiveUp))
}

fn main() -> Result<(), Errno> {
    let failed = WaitStatus::exited(1);
    let (starts, last) = supervise(&[failed, failed, WaitStatus::exited(0)])?;
    let seconds: Vec<u64> = starts.iter().map(|at| at.0 / 1_000_000_000).collect();
    println!("started at {seconds:?} s, then {last:?}");
    assert_eq!((seconds, last), (vec![0, 1, 3], Next::Done));

    let killed = WaitStatus::killed(Signal::SEGV, true);
    let (starts, last) = supervise(&[killed; 9])?;
    println!("{} starts, then {last:?}", starts.len());
    assert_eq!((starts.len(), last), (4, Next::GiveUp));
    Ok(())
}

#[test]
fn delays_double_and_failures_are_counted() {
    main().expect("the table has room");
}
