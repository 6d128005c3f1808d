//! Waits of the runtime: blocking, with a timeout, with cancellation, and as futures.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use proctable::abi::{Errno, Pgid, Pid, Signal, WaitOptions, WaitStatus};
use proctable::table::{CancelToken, Init, ManualClock, ProcessTable, TableConfig, WaitTarget};

use super::{shell, spawn};

/// WAIT-18: an exit in another thread ends the sleep.
#[test]
fn a_wait_sleeps_until_a_child_ends() {
    let table = ProcessTable::new();
    let child = spawn(&table.init());
    thread::scope(|scope| {
        let init = table.init();
        let waiter = scope.spawn(move || init.wait(WaitTarget::Any, WaitOptions::EXITED));
        child.exit(7).unwrap();
        let waited = waiter.join().unwrap().unwrap();
        assert_eq!((waited.pid, waited.status), (child.pid(), WaitStatus::exited(7)));
    });
    assert_eq!(table.init().wait(&child, WaitOptions::EXITED), Err(Errno::ECHILD));
    assert_eq!(child.exit(1), Err(Errno::ESRCH));
}

/// Each of many waits returns the exit of its own child only.
#[test]
fn sixty_four_waits_get_an_end_each() {
    let table = ProcessTable::new();
    let children: Vec<_> = (0..64).map(|_| spawn(&table.init())).collect();
    thread::scope(|scope| {
        let waiters: Vec<_> = children
            .iter()
            .map(|child| {
                let init = table.init();
                scope.spawn(move || init.wait(child, WaitOptions::EXITED).unwrap().status)
            })
            .collect();
        for (code, child) in children.iter().enumerate().rev() {
            child.exit(code as i32).unwrap();
        }
        for (code, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().unwrap(), WaitStatus::exited(code as i32));
        }
    });
}

/// With a `ManualClock`, and with a real clock.
#[test]
fn a_wait_times_out_and_loses_nothing() {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    let child = spawn(&table.init());
    let init = table.init();
    let wait = |timeout| init.wait_timeout(&child, WaitOptions::EXITED, timeout);
    assert_eq!(wait(Duration::ZERO), Ok(None));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(Duration::from_secs(5)));
        while table.next_deadline().is_none() {
            thread::yield_now();
        }
        clock.advance(Duration::from_secs(5));
        table.reap_due(table.now());
        assert_eq!(waiter.join().unwrap(), Ok(None));
    });
    child.exit(1).unwrap();
    assert_eq!(wait(Duration::ZERO).unwrap().unwrap().status, WaitStatus::exited(1));

    let table = ProcessTable::new();
    let child = spawn(&table.init());
    let short = Duration::from_millis(5);
    assert_eq!(table.init().wait_timeout(&child, WaitOptions::EXITED, short), Ok(None));
}

#[test]
fn a_wait_is_cancelled_from_another_thread() {
    let table = ProcessTable::new();
    let child = spawn(&table.init());
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let waiter =
            scope.spawn(|| table.init().wait_cancellable(&child, WaitOptions::EXITED, &cancel));
        cancel.cancel();
        assert_eq!(waiter.join().unwrap(), Ok(None));
    });
    child.exit(3).unwrap();
    let waited = table.init().wait_cancellable(&child, WaitOptions::EXITED, &cancel).unwrap();
    assert_eq!(
        waited.unwrap().status,
        WaitStatus::exited(3),
        "what is there is given all the same"
    );
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Only events of its children wake a future, and a dropped future consumes no event.
#[test]
fn a_future_waits_without_any_runtime() {
    let table = ProcessTable::new();
    let init = table.init();
    let (one, other) = (spawn(&init), spawn(&init));
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut wait = pin!(init.wait_async(&one, WaitOptions::EXITED));
    assert!(wait.as_mut().poll(&mut context).is_pending());
    let mut dropped = Box::pin(init.wait_async(&other, WaitOptions::EXITED));
    assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    other.exit(1).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "another child's end is no reason to wake");
    one.exit(2).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    drop(dropped);
    let Poll::Ready(Ok(waited)) = wait.as_mut().poll(&mut context) else { panic!("it is ready") };
    assert_eq!(waited.status, WaitStatus::exited(2));
    assert_eq!(init.wait(&other, WaitOptions::EXITED).unwrap().status, WaitStatus::exited(1));
}

/// A wait ends when its process is killed.
#[test]
fn a_wait_ends_with_its_process() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let _child = spawn(&shell);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| shell.wait(WaitTarget::Any, WaitOptions::EXITED));
        shell.send(Signal::KILL).unwrap();
        assert_eq!(waiter.join().unwrap(), Err(Errno::ESRCH));
    });
}

/// A wait without sleep is a method, `try_wait`, and not an option.
#[test]
fn a_wait_with_nohang_is_invalid() {
    let table = ProcessTable::new();
    let _child = spawn(&table.init());
    let options = WaitOptions::EXITED.with(WaitOptions::NOHANG);
    assert_eq!(table.init().wait(WaitTarget::Any, options), Err(Errno::EINVAL));
}

/// A wait for a process never returns a later process of the same number.
#[test]
fn a_wait_for_a_process_is_not_for_a_later_one_of_its_number() {
    let config = proctable::kernel::Config { pid_max: 301, last_pid: 299, ..Default::default() };
    let init = ProcessTable::with_config(TableConfig::new().kernel(config)).init();
    let first = spawn(&init);
    first.exit(1).unwrap();
    init.wait(&first, WaitOptions::EXITED).unwrap();
    let second = spawn(&init);
    assert_eq!((first.pid(), first.id() == second.id()), (second.pid(), false));
    second.exit(2).unwrap();
    assert_eq!(init.try_wait(&first, WaitOptions::EXITED), Err(Errno::ECHILD));
    let waited = init.try_wait(first.pid(), WaitOptions::EXITED).unwrap();
    assert_eq!(waited.map(|waited| waited.status), Some(WaitStatus::exited(2)));
}

/// WAIT-17: a wait for the own group uses the group at the beginning of the wait, also a group
/// outside of the namespace.
#[test]
fn a_wait_for_the_own_group_keeps_to_it() {
    let table = ProcessTable::with_config(TableConfig::new().init(Init::Guest));
    let parent = spawn(&table.init());
    assert_eq!(parent.info().unwrap().pgid, Pgid(0));
    let child = spawn(&parent);
    let mut wait = pin!(parent.wait_async(WaitTarget::OwnGroup, WaitOptions::EXITED));
    let mut context = Context::from_waker(Waker::noop());
    assert!(wait.as_mut().poll(&mut context).is_pending());
    parent.setpgid(Pid(0), Pgid(0)).unwrap();
    child.exit(4).unwrap();
    let Poll::Ready(Ok(waited)) = wait.poll(&mut context) else { panic!("its child has ended") };
    assert_eq!(waited.pid, child.pid());
}
