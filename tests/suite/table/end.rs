//! The end of all processes, and of the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proctable::abi::{Handler, Pid, SigAction, Signal, WaitStatus};
use proctable::driver::{Authority, Op};
use proctable::drivers::{ScriptedDriver, ThreadDriver};
use proctable::table::{Image, ProcessTable, Spawn};

use super::{SOON, caught, spawn};

/// JOB-06: stopped processes act on SIGTERM too; processes that survive it get SIGKILL, and their
/// number does not add to the time.
#[test]
fn all_processes_end_within_one_grace_period() {
    let table = ProcessTable::new();
    let init = table.init();
    let meek = spawn(&init);
    let stopped = spawn(&init);
    stopped.send(Signal::STOP).unwrap();
    let stubborn: Vec<_> = (0..50)
        .map(|_| {
            let process = spawn(&init);
            let ignore = SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT };
            process.sigaction(Signal::TERM, ignore).unwrap();
            process
        })
        .collect();
    let begin = Instant::now();
    let terminated = table.terminate_all(Duration::from_millis(50));
    assert!(begin.elapsed() < SOON);
    let term = WaitStatus::killed(Signal::TERM, false);
    assert_eq!(terminated.ended[&meek.pid()], term);
    assert_eq!(terminated.ended[&stopped.pid()], term);
    for process in &stubborn {
        let kill = WaitStatus::killed(Signal::KILL, false);
        assert_eq!(terminated.ended[&process.pid()], kill);
    }
    assert_eq!(terminated.survivors, []);
    assert_eq!(table.pids(), [Pid(1)], "the zombies are reaped");
}

/// A process under the host's authority whose driver reports no exit survives, and is named.
#[test]
fn processes_that_do_not_report_are_named() {
    let table = ProcessTable::new();
    let driver = Arc::new(ScriptedDriver::new([]));
    let spawning = Spawn::new(Image::new("real")).driver(driver.clone()).authority(Authority::Host);
    let real = table.spawn(spawning).unwrap();
    let terminated = table.terminate_all(Duration::from_millis(1));
    assert_eq!(terminated.survivors, [real.pid()]);
    assert_eq!(driver.delivered(), [Signal::TERM, Signal::CONT, Signal::KILL]);
}

/// The drop of the last handle calls `terminate` of the driver of each living process, and guests
/// on threads unwind.
#[test]
fn the_last_handle_ends_the_table() {
    let table = ProcessTable::new();
    let events = table.subscribe(64).unwrap();
    let (living, dead) = (Arc::new(ScriptedDriver::default()), Arc::new(ScriptedDriver::default()));
    let one = table.spawn(Spawn::new(Image::new("a")).driver(living.clone())).unwrap();
    let two = table.spawn(Spawn::new(Image::new("b")).driver(dead.clone())).unwrap();
    two.exit(0).unwrap();
    one.sigaction(Signal::TERM, caught()).unwrap();
    let (gone, is_gone) = crossbeam_channel::bounded::<()>(0);
    ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
        let _told = gone;
        loop {
            guest.pause();
        }
    })
    .unwrap();
    drop((one, two));
    assert_eq!(living.seen(), []);
    let reporter = living.reporter().unwrap();
    drop(table);
    assert_eq!(living.seen(), [Op::Abandon]);
    let ended = Op::Terminate(WaitStatus::exited(0));
    assert_eq!(dead.seen(), [ended]);
    assert!(is_gone.recv_timeout(SOON).is_err_and(|error| !error.is_timeout()));
    reporter.exited(1);
    assert!(events.count() > 0, "the channel is closed after the last event");
}
