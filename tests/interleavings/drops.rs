//! The drop of the last handle, concurrent with other operations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use proctable::abi::{Signal, WaitOptions};
use proctable::driver::Authority;
use proctable::drivers::ThreadDriver;
use proctable::table::{Image, Spawn, WaitTarget};
use shuttle::sync::mpsc::channel;
use shuttle::thread;

use super::{EXITED, Watch, both, explore, spawn, table};

/// A guest on a thread unwinds in every state: before its first call, in a sleep, in a handler.
#[test]
fn a_guest_unwinds_when_its_table_ends() {
    explore(|| {
        let (_, table) = table();
        let (gone, is_gone) = channel::<()>();
        let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), |guest| {
            let _told = gone;
            let _ = guest.catch(Signal::USR1, Default::default(), |guest, _| guest.checkpoint());
            let child = guest.spawn(Spawn::new(Image::new("c")), |guest| {
                loop {
                    guest.pause();
                }
            });
            let _ = guest.waitpid(child.map_or(-1, |pid| pid.0 as i32), WaitOptions::default());
            loop {
                guest.pause();
            }
        })
        .unwrap();
        both(move || drop(table), move || guest.send(Signal::USR1).is_ok());
        assert!(is_gone.recv().is_err());
    });
}

/// A report concurrent with the end has an effect or none, and the driver gets one `terminate`.
#[test]
fn a_report_may_come_with_the_end() {
    explore(|| {
        let (_, table) = table();
        let driver = Arc::new(Watch::default());
        let spawning =
            Spawn::new(Image::new("real")).driver(driver.clone()).authority(Authority::Host);
        let reporter = spawning.reporter();
        drop(table.spawn(spawning).unwrap());
        both(
            move || drop(table),
            move || {
                reporter.stopped(Signal::STOP);
                reporter.exited(1);
            },
        );
        assert!(!driver.wrong.load(Ordering::SeqCst));
    });
}

/// A pending future is a handle: the table ends with it, on any thread.
#[test]
fn a_future_may_be_the_last_handle() {
    explore(|| {
        let (_, table) = table();
        let driver = Arc::new(Watch::default());
        let spawning =
            Spawn::new(Image::new("real")).driver(driver.clone()).authority(Authority::Host);
        let reporter = spawning.reporter();
        drop(table.spawn(spawning).unwrap());
        let mut future = table.init().wait_async(WaitTarget::Any, EXITED);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut future).poll(&mut context).is_pending());
        let reports = thread::spawn(move || reporter.exited(1));
        both(move || drop(table), move || drop(future));
        reports.join().unwrap();
        assert!(!driver.wrong.load(Ordering::SeqCst));
    });
}

/// The process argument of a running callback is a handle, perhaps the last one.
#[test]
fn a_callback_may_have_the_last_handle() {
    explore(|| {
        let (_, table) = table();
        let driver = Arc::new(Watch::default());
        let living = Spawn::new(Image::new("living")).driver(driver.clone());
        drop(table.spawn(living).unwrap());
        let spawning = Spawn::new(Image::new("real")).authority(Authority::Host);
        let reporter = spawning.reporter();
        drop(table.spawn(spawning).unwrap());
        let ran = Arc::new(AtomicBool::new(false));
        let runs = ran.clone();
        table.set_on_process_exit(Some(Arc::new(move |process, _| {
            thread::yield_now();
            assert_eq!(process.table().counts().zombies, 1);
            runs.store(true, Ordering::SeqCst);
        })));
        both(move || drop(table), move || reporter.exited(0));
        assert!(driver.ended.load(Ordering::SeqCst), "it is abandoned");
        assert!(!driver.wrong.load(Ordering::SeqCst));
    });
}

/// Calls that sleep end with the table, and their callers wake.
#[test]
fn a_driver_may_drop_the_last_handle() {
    explore(|| {
        let (_, table) = table();
        let guest = spawn(&table.init());
        let call = guest.submit(proctable::syscall::Syscall::Pause);
        let (one, two) = (guest.clone(), table.clone());
        drop((guest, table));
        both(move || drop((call, one)), move || drop(two));
    });
}
