//! Waits, concurrent with the events that end them.

use std::time::Duration;

use proctable::abi::{Errno, Signal, Time, WaitOptions, WaitStatus};
use proctable::syscall::Syscall;
use proctable::table::{CancelToken, WaitTarget};
use shuttle::future::block_on;
use shuttle::thread;

use super::{EXITED, both, explore, spawn, table};

/// Of two waits for the only child one returns its exit, and the other returns ECHILD.
#[test]
fn an_exit_is_returned_by_one_wait() {
    explore(|| {
        let (_, table) = table();
        let child = spawn(&table.init());
        let (status, number) = (WaitStatus::exited(7), child.pid());
        let (init, other) = (table.init(), table.init());
        let exits = thread::spawn(move || child.exit(7));
        let (one, two) = both(
            move || init.wait(number, EXITED).map(|waited| waited.status),
            move || other.wait(WaitTarget::Any, EXITED).map(|waited| waited.status),
        );
        exits.join().unwrap().unwrap();
        let lost = Err(Errno::ECHILD);
        assert!([(Ok(status), lost), (lost, Ok(status))].contains(&(one, two)), "{one:?} {two:?}");
    });
}

/// A wait of the guest itself, and a wait of the runtime as a future.
#[test]
fn an_exit_wakes_the_guest_or_the_future() {
    explore(|| {
        let (_, table) = table();
        let parent = spawn(&table.init());
        let child = spawn(&parent);
        let future = parent.wait_async(WaitTarget::Any, EXITED);
        let exits = thread::spawn(move || child.exit(1).unwrap());
        let (waited, polled) =
            both(move || parent.waitpid(-1, WaitOptions::default()), move || block_on(future));
        exits.join().unwrap();
        assert!(waited.is_ok() != polled.is_ok(), "{waited:?} {polled:?}");
    });
}

/// A wait that is cancelled consumes nothing.
#[test]
fn a_cancelled_wait_leaves_the_exit() {
    explore(|| {
        let (_, table) = table();
        let child = spawn(&table.init());
        let (init, number, token) = (table.init(), child.pid(), CancelToken::new());
        let cancel = token.clone();
        let waiter = thread::spawn(move || init.wait_cancellable(number, EXITED, &token));
        both(move || cancel.cancel(), move || child.exit(2).unwrap());
        let waited = waiter.join().unwrap().unwrap();
        let left = table.init().try_wait(WaitTarget::Any, EXITED);
        match waited {
            Some(waited) => {
                assert_eq!((waited.status, left), (WaitStatus::exited(2), Err(Errno::ECHILD)));
            }
            None => assert_eq!(left.unwrap().unwrap().pid, number),
        }
    });
}

/// A wait that times out consumes nothing, and it times out also if the clock moves while the wait
/// begins.
#[test]
fn a_wait_that_times_out_leaves_the_exit() {
    explore(|| {
        let (clock, table) = table();
        let child = spawn(&table.init());
        let (init, number) = (table.init(), child.pid());
        let second = Duration::from_secs(1);
        let waiter = thread::spawn(move || init.wait_timeout(number, EXITED, second));
        let moves = table.clone();
        both(
            move || {
                clock.advance(second);
                moves.reap_due(moves.now())
            },
            move || child.exit(2).unwrap(),
        );
        let waited = waiter.join().unwrap().unwrap();
        let left = table.init().try_wait(WaitTarget::Any, EXITED);
        assert!(waited.is_some() != left.is_ok_and(|left| left.is_some()));
    });
}

/// Only the timeout ends this wait.
#[test]
fn a_wait_ends_at_its_timeout() {
    explore(|| {
        let (clock, table) = table();
        let child = spawn(&table.init());
        let (init, number) = (table.init(), child.pid());
        let second = Duration::from_secs(1);
        let (begun, has_begun) = shuttle::sync::mpsc::channel();
        let waiter = thread::spawn(move || {
            begun.send(()).unwrap();
            init.wait_timeout(number, EXITED, second)
        });
        has_begun.recv().unwrap();
        while table.next_deadline().is_none() {
            thread::yield_now();
        }
        // one thread calls `reap_due` ahead of the clock, the other one at its time
        let ahead = table.clone();
        let (last, time) = (table.clone(), Time(1_000_000_000));
        both(
            move || ahead.reap_due(time),
            move || {
                clock.advance(second);
                last.reap_due(last.now())
            },
        );
        assert_eq!(waiter.join().unwrap(), Ok(None));
    });
}

/// A wait ends with its process.
#[test]
fn a_wait_ends_with_its_process() {
    explore(|| {
        let (_, table) = table();
        let parent = spawn(&table.init());
        let child = spawn(&parent);
        let killed = parent.clone();
        let waiter = thread::spawn(move || parent.wait(WaitTarget::Any, EXITED));
        both(move || killed.send(Signal::KILL).is_ok(), move || child.exit(0).is_ok());
        let waited = waiter.join().unwrap();
        assert!(waited.is_err_and(|errno| errno == Errno::ESRCH) || waited.is_ok(), "{waited:?}");
    });
}

/// A call that waits for the continue of its caller returns, whether the continue or a kill is
/// first.
#[test]
fn a_call_of_a_stopped_process_returns() {
    explore(|| {
        let (_, table) = table();
        let guest = spawn(&table.init());
        guest.send(Signal::STOP).unwrap();
        let (continues, kills, calls) = (guest.clone(), guest.clone(), guest.clone());
        let call = thread::spawn(move || calls.submit(Syscall::Getppid).wait());
        both(
            move || continues.send(Signal::CONT).unwrap(),
            move || kills.send(Signal::KILL).unwrap(),
        );
        let result = call.join().unwrap();
        assert!(result.is_ok() || result == Err(Errno::ESRCH), "{result:?}");
    });
}

/// Waits return each stop and each continue once, in any order of the threads.
#[test]
fn each_change_is_returned_once() {
    explore(|| {
        let (_, table) = table();
        let parent = spawn(&table.init());
        let child = spawn(&parent);
        let all = EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
        let number = child.pid();
        let waiter = thread::spawn(move || {
            let mut seen = Vec::new();
            while let Ok(waited) = parent.wait(number, all) {
                seen.push(waited.status);
            }
            seen
        });
        let other = child.clone();
        both(move || child.send(Signal::STOP).is_ok(), move || other.send(Signal::KILL).unwrap());
        let seen = waiter.join().unwrap();
        let killed = WaitStatus::killed(Signal::KILL, false);
        let stopped = WaitStatus::stopped(Signal::STOP);
        assert!([vec![killed], vec![stopped, killed]].contains(&seen), "{seen:?}");
    });
}
