//! Reports of drivers, and their operations.

use std::sync::Arc;

use proctable::abi::{Signal, WaitOptions, WaitStatus};
use proctable::driver::{Attachment, Authority, Delivery, DriverProcess};
use proctable::table::{Image, Spawn};
use shuttle::thread;

use super::{EXITED, Watch, both, explore, spawn, table};

/// A driver whose process ends at once: the report comes before the process exists, or from a
/// thread at any later time.
struct Quick {
    on_a_thread: bool,
}

impl DriverProcess for Quick {
    fn attach(&self, attachment: &Attachment) {
        let reporter = attachment.reporter();
        if self.on_a_thread {
            thread::spawn(move || reporter.exited(4));
        } else {
            reporter.exited(4);
        }
    }

    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// A report is not lost before, during or after the insertion of the process into the table.
#[test]
fn a_report_may_come_before_the_process() {
    explore(|| {
        let (_, table) = table();
        let spawning = Spawn::new(Image::new("real")).authority(Authority::Host);
        let reporter = spawning.reporter();
        let creator = table.clone();
        let (process, ()) = both(
            move || creator.spawn(spawning).unwrap(),
            move || {
                reporter.stopped(Signal::STOP);
                reporter.exited(3);
            },
        );
        let waited = table.init().wait(&process, EXITED).unwrap();
        assert_eq!(waited.status, WaitStatus::exited(3));
    });
}

#[test]
fn a_report_from_an_attached_driver_is_not_lost() {
    for on_a_thread in [false, true] {
        explore(move || {
            let (_, table) = table();
            let (one, two) = (table.clone(), table.clone());
            let create = move |table: proctable::table::ProcessTable| {
                let driver = Arc::new(Quick { on_a_thread });
                let spawning =
                    Spawn::new(Image::new("q")).driver(driver).authority(Authority::Host);
                let process = table.spawn(spawning).unwrap();
                table.init().wait(&process, EXITED).unwrap().status
            };
            let statuses = both(move || create(one), move || create(two));
            assert_eq!(statuses, (WaitStatus::exited(4), WaitStatus::exited(4)));
        });
    }
}

/// Two exits, one reported and one of the model: the first one counts, and one wait returns it.
#[test]
fn the_first_of_several_reported_exits_counts() {
    explore(|| {
        let (_, table) = table();
        let child = spawn(&table.init());
        let (reports, kills, number) = (child.clone(), child.clone(), child.pid());
        let init = table.init();
        let waiter = thread::spawn(move || init.wait(number, EXITED).unwrap().status);
        both(
            move || reports.report(WaitStatus::exited(1)),
            move || kills.send(Signal::KILL).is_ok(),
        );
        let status = waiter.join().unwrap();
        assert!(
            [WaitStatus::exited(1), WaitStatus::killed(Signal::KILL, false)].contains(&status),
            "{status:?}"
        );
        assert!(table.init().try_wait(number, EXITED).is_err());
    });
}

/// When no thread is in a call, the state of a driver agrees with the table, after any race.
#[test]
fn a_driver_ends_in_the_state_of_the_table() {
    explore(|| {
        let (_, table) = table();
        let driver = Arc::new(Watch::default());
        let guest = table.spawn(Spawn::new(Image::new("g")).driver(driver.clone())).unwrap();
        let (stops, continues) = (guest.clone(), guest.clone());
        both(
            move || {
                stops.send(Signal::STOP).unwrap();
                stops.send(Signal::CONT).unwrap();
            },
            move || {
                continues.send(Signal::CONT).unwrap();
                continues.send(Signal::STOP).unwrap();
            },
        );
        driver.agrees_with(&guest);
    });
}

/// The same with a kill.
#[test]
fn terminate_is_the_last_operation_of_a_driver() {
    explore(|| {
        let (_, table) = table();
        let driver = Arc::new(Watch::default());
        let guest = table.spawn(Spawn::new(Image::new("g")).driver(driver.clone())).unwrap();
        let (stops, kills) = (guest.clone(), guest.clone());
        both(
            move || {
                let _ = stops.send(Signal::STOP);
                let _ = stops.send(Signal::CONT);
            },
            move || kills.send(Signal::KILL).unwrap(),
        );
        driver.agrees_with(&guest);
        let all = EXITED.with(WaitOptions::STOPPED);
        let killed = WaitStatus::killed(Signal::KILL, false);
        assert_eq!(table.init().wait(&guest, all).unwrap().status, killed);
    });
}
