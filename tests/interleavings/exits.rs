//! Exits, concurrent with callbacks, the reaper, and the end of all processes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proctable::abi::{Errno, Pid, Signal, WaitOptions, WaitStatus};
use proctable::table::{CancelToken, Image, ProcessTable, Spawn, TableConfig, WaitTarget};
use shuttle::thread;

use super::{EXITED, Watch, both, explore, spawn, table};

type Announced = Arc<Mutex<BTreeSet<Pid>>>;

/// Sets a callback that lets other threads run, and then records the exit.
fn announce(table: &ProcessTable) -> Announced {
    let announced = Announced::default();
    let noted = announced.clone();
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        thread::yield_now();
        noted.lock().unwrap().insert(process.pid());
    })));
    announced
}

/// TABLE-01: each wait of the runtime or of a guest returns, and not before the callback has run.
#[test]
fn no_wait_returns_before_the_callback() {
    explore(|| {
        let (_, table) = table();
        let parent = spawn(&table.init());
        let (one, two) = (spawn(&parent), spawn(&parent));
        let announced = announce(&table);
        let exits =
            thread::spawn(move || both(move || one.exit(1).unwrap(), move || two.exit(2).unwrap()));
        let (guest, seen, seen_too) = (parent.clone(), announced.clone(), announced.clone());
        let (first, second) = both(
            move || {
                let waited = parent.wait(WaitTarget::Any, EXITED).unwrap();
                assert!(seen.lock().unwrap().contains(&waited.pid));
                waited.pid
            },
            move || {
                let (pid, _) = guest.waitpid(-1, WaitOptions::default()).unwrap().unwrap();
                assert!(seen_too.lock().unwrap().contains(&pid));
                pid
            },
        );
        assert_ne!(first, second);
        exits.join().unwrap();
    });
}

/// TABLE-01: of as many waits for any child as children that end, each returns one child, after the
/// callback for it.
#[test]
fn equal_waits_return_one_exit_each() {
    explore(|| {
        let (_, table) = table();
        let parent = spawn(&table.init());
        let children: Vec<_> = (0..3).map(|_| spawn(&parent)).collect();
        let announced = announce(&table);
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let (parent, announced) = (parent.clone(), announced.clone());
                thread::spawn(move || {
                    let pid = parent.wait(WaitTarget::Any, EXITED).unwrap().pid;
                    assert!(announced.lock().unwrap().contains(&pid));
                    pid
                })
            })
            .collect();
        let exits = children.into_iter().map(|child| thread::spawn(move || child.exit(0).unwrap()));
        let exits: Vec<_> = exits.collect();
        let waited: BTreeSet<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
        assert_eq!(waited.len(), 3);
        exits.into_iter().for_each(|exit| exit.join().unwrap());
    });
}

/// TABLE-01: a cancelled wait leaves an exit whose callback has not run to another wait.
#[test]
fn a_wait_that_is_cancelled_before_the_callback_takes_nothing() {
    explore(|| {
        let (_, table) = table();
        let parent = spawn(&table.init());
        let child = spawn(&parent);
        let announced = announce(&table);
        let cancel = CancelToken::new();
        let (given_up, token) = (parent.clone(), cancel.clone());
        let wait = thread::spawn(move || {
            given_up
                .wait_cancellable(WaitTarget::Any, EXITED, &token)
                .map(|waited| waited.is_some())
        });
        both(move || child.exit(0).unwrap(), move || cancel.cancel());
        let taken = wait.join().unwrap().unwrap();
        assert_eq!(parent.try_wait(WaitTarget::Any, EXITED).is_ok(), !taken);
        drop(announced);
    });
}

/// TABLE-01: the callback may be removed at any moment, and the exit is still returned.
#[test]
fn a_removed_callback_loses_no_exit() {
    explore(|| {
        let (_, table) = table();
        let child = spawn(&table.init());
        let announced = announce(&table);
        let (takes, init) = (table.clone(), table.init());
        let waiter = thread::spawn(move || init.wait(WaitTarget::Any, EXITED));
        both(move || takes.set_on_process_exit(None), move || child.exit(3).unwrap());
        let waited = waiter.join().unwrap().unwrap();
        assert_eq!(waited.status, WaitStatus::exited(3));
        drop(announced);
    });
}

/// A zombie is reaped by the table's init or returned by a wait, and not both.
#[test]
fn a_zombie_is_reaped_or_waited_for() {
    explore(|| {
        let (clock, table) = table();
        let child = spawn(&table.init());
        let (init, reaper) = (table.init(), table.clone());
        let exits = thread::spawn(move || child.exit(0));
        let (waited, reaped) = both(
            move || init.wait(WaitTarget::Any, EXITED),
            move || {
                clock.advance(TableConfig::ZOMBIE_TTL);
                let first = reaper.reap_due(reaper.now());
                clock.advance(TableConfig::ZOMBIE_TTL);
                first + reaper.reap_due(reaper.now())
            },
        );
        exits.join().unwrap().unwrap();
        assert!(waited.is_ok() != (reaped == 1), "{waited:?}, {reaped} reaped");
        assert!(waited.is_ok() || waited == Err(Errno::ECHILD));
        assert_eq!((table.counts().processes, table.reapable_zombies()), (1, 0));
    });
}

/// All processes end, drivers get `terminate`, and a concurrent wait returns an exit or ECHILD.
#[test]
fn terminate_all_ends_all_processes() {
    explore(|| {
        let (_, table) = table();
        let driver = Arc::new(Watch::default());
        let init = table.init();
        let watched = init.spawn(Spawn::new(Image::new("w")).driver(driver.clone())).unwrap();
        let parent = spawn(&init);
        let (waits, stops, ends) = (table.init(), watched.clone(), table.clone());
        let forks = thread::spawn(move || parent.fork().is_ok());
        let waiter = thread::spawn(move || waits.wait(WaitTarget::Any, EXITED));
        let (_, terminated) = both(
            move || stops.send(Signal::STOP),
            move || ends.terminate_all(Duration::from_secs(1)),
        );
        let forked = forks.join().unwrap();
        let waited = waiter.join().unwrap();
        assert!(waited.is_ok() || waited == Err(Errno::ECHILD), "{waited:?}");
        assert_eq!(terminated.survivors, []);
        assert_eq!(terminated.ended.len(), 2 + usize::from(forked));
        assert_eq!(table.pids(), [Pid(1)]);
        driver.agrees_with(&watched);
    });
}
