//! Drivers and guests with faults or unusual behaviour, which affect no other process.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use proctable::abi::{SaFlags, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Delivery, DriverProcess, Op};
use proctable::drivers::{Guest, ThreadDriver};
use proctable::syscall::Syscall;
use proctable::table::{Image, ProcessTable, Spawn, TableConfig, What};

use super::{SOON, killed, spawn};

const EXITED: WaitOptions = WaitOptions::EXITED;

/// A driver that panics when it is dropped.
struct BadDrop;

impl Drop for BadDrop {
    fn drop(&mut self) {
        panic!("dropping it panics");
    }
}

impl DriverProcess for BadDrop {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// The wait returns the exit that it has consumed, and the table publishes the fault.
#[test]
fn a_driver_whose_drop_panics_is_a_published_fault() {
    let table = ProcessTable::new();
    let events = table.subscribe(16).unwrap();
    let child = table.spawn(Spawn::new(Image::new("bad")).driver(Arc::new(BadDrop))).unwrap();
    child.exit(3).unwrap();
    assert_eq!(table.init().wait(&child, EXITED).unwrap().status, WaitStatus::exited(3));
    let fault = What::DriverFault(Op::Reaped);
    assert!(events.try_iter().any(|event| event.what == fault && event.pid == child.pid()));
}

/// Also in the timer thread, which all tables share.
#[test]
fn a_panic_in_a_drivers_drop_stops_no_other_tables_timers() {
    let ttl = Some(Duration::from_millis(1));
    let table = || ProcessTable::with_config(TableConfig::new().zombie_ttl(ttl));
    let (bad, good) = (table(), table());
    let events = bad.subscribe(16).unwrap();
    let child = bad.spawn(Spawn::new(Image::new("bad")).driver(Arc::new(BadDrop))).unwrap();
    child.exit(0).unwrap();
    let fault = What::DriverFault(Op::Reaped);
    while events.recv_timeout(SOON).expect("it is reaped").what != fault {}
    let events = good.subscribe(16).unwrap();
    spawn(&good.init()).exit(0).unwrap();
    while events.recv_timeout(SOON).expect("so is this one").what != What::Reaped {}
}

/// A driver that waits for the end of its guest's thread.
struct Joins(Mutex<Option<Receiver<()>>>, Mutex<Option<bool>>);

impl DriverProcess for Joins {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        let left = self.0.lock().unwrap().take().unwrap();
        *self.1.lock().unwrap() = Some(left.recv_timeout(SOON).is_ok());
    }
}

#[test]
fn a_driver_may_join_its_guests_threads() {
    let table = ProcessTable::new();
    let (leave, left) = channel();
    let driver = Arc::new(Joins(Mutex::new(Some(left)), Mutex::default()));
    let process = table.spawn(Spawn::new(Image::new("guest")).driver(driver.clone())).unwrap();
    let call = process.submit(Syscall::Pause);
    let guest = thread::spawn(move || {
        // the call does not return a result
        let _ = call.wait();
        leave.send(()).unwrap();
    });
    process.send(Signal::KILL).unwrap();
    guest.join().unwrap();
    assert_eq!(*driver.1.lock().unwrap(), Some(true));
}

/// Makes a call in its `Drop`, as the guard of a resource of the guest may.
struct Guard<'a>(&'a mut Guest);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.checkpoint();
    }
}

/// A second panic in a thread that unwinds would abort the whole program.
#[test]
fn a_destructor_of_a_guest_that_has_ended_may_call() {
    let table = ProcessTable::new();
    let (tell, received) = channel();
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("guest")), move |guest| {
        let guard = Guard(guest);
        tell.send(()).unwrap();
        guard.0.pause();
        0
    });
    let guest = guest.unwrap();
    received.recv().unwrap();
    guest.send(Signal::KILL).unwrap();
    assert_eq!(table.init().wait(&guest, EXITED).unwrap().status, killed(Signal::KILL));
    // the guest's thread drops its sender when it ends
    assert!(received.recv_timeout(SOON).is_err());
}

/// EXEC-03: the code to which the handler would return does not exist any more.
#[test]
fn exec_in_a_handler_of_a_guest_unwinds_the_handler() {
    let table = ProcessTable::new();
    let (tell, received) = channel();
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("guest")), move |guest| {
        let execute = |guest: &mut Guest, _: &_| {
            let path = "/bin/other".into();
            guest.syscall(Syscall::Execve { path, error: None }).unwrap();
        };
        guest.catch(Signal::USR1, SaFlags(0), execute).unwrap();
        tell.send(()).unwrap();
        guest.pause();
        5
    });
    let guest = guest.unwrap();
    received.recv().unwrap();
    guest.send(Signal::USR1).unwrap();
    assert_eq!(table.init().wait(&guest, EXITED).unwrap().status, WaitStatus::exited(0));
}
