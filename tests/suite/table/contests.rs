//! Waits, cancellations, timeouts, drops, and the end of all processes, concurrently on threads.
//!
//! Each run differs; the following invariants hold in each: one consuming wait returns an exit, or
//! the init reaps it, and never both; every call returns; the stops and resumes of a driver
//! alternate, and its last operation is `terminate`; after `terminate_all` only the init is left.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use proctable::abi::{Errno, Pid, Signal, WaitOptions, WaitStatus};
use proctable::driver::Op;
use proctable::drivers::ScriptedDriver;
use proctable::table::{
    CancelToken, Image, ManualClock, Process, ProcessTable, Spawn, TableConfig, WaitTarget, Waited,
    What,
};

use super::SOON;

const ROUNDS: usize = 1500;
const CHILDREN: usize = 4;
const SECOND: Duration = Duration::from_secs(1);
const EXITED: WaitOptions = WaitOptions::EXITED;

/// A table with some children of its init, each with a driver that records its operations.
struct Arena {
    clock: ManualClock,
    table: ProcessTable,
    children: Vec<Process>,
    drivers: Vec<Arc<ScriptedDriver>>,
    cancel: CancelToken,
    over: AtomicBool,
}

impl Arena {
    fn new() -> Arc<Arena> {
        let clock = ManualClock::new();
        let config = TableConfig::new().clock(clock.clone()).zombie_ttl(Some(SECOND));
        let table = ProcessTable::with_config(config);
        let drivers: Vec<_> = (0..CHILDREN).map(|_| Arc::new(ScriptedDriver::default())).collect();
        let spawning = |driver: &Arc<ScriptedDriver>| {
            table.spawn(Spawn::new(Image::new("guest")).driver(driver.clone())).unwrap()
        };
        let children = drivers.iter().map(spawning).collect();
        let (cancel, over) = (CancelToken::new(), AtomicBool::new(false));
        Arc::new(Arena { clock, table, children, drivers, cancel, over })
    }

    /// Waits for any child, in one of several ways, until there is no child left.
    fn wait_for_all(&self, way: usize) -> Vec<Waited> {
        let init = self.table.init();
        let mut returned = Vec::new();
        loop {
            let waited = match way {
                0 => init.wait(WaitTarget::Any, EXITED).map(Some),
                1 => init.wait_timeout(WaitTarget::Any, EXITED, SECOND),
                2 => init.wait_cancellable(WaitTarget::Any, EXITED, &self.cancel),
                _ => drop_or_take(&init),
            };
            match waited {
                Ok(waited) => returned.extend(waited),
                Err(errno) => {
                    assert_eq!(errno, Errno::ECHILD);
                    return returned;
                }
            }
            thread::yield_now();
        }
    }

    /// Children stop, continue and end in different ways.
    fn disturb(&self) {
        for (nth, child) in self.children.iter().enumerate() {
            let _ = child.send(Signal::STOP);
            match nth % 4 {
                0 => child.report(WaitStatus::exited(nth as i32)),
                1 => drop(child.send(Signal::CONT)),
                2 => drop(child.send(Signal::KILL)),
                _ => {}
            }
        }
    }

    fn move_the_clock(&self) {
        while !self.over.load(Ordering::SeqCst) {
            self.clock.advance(SECOND / 4);
            self.table.reap_due(self.table.now());
            thread::yield_now();
        }
    }
}

/// A future that is polled once, and dropped if it is pending.
fn drop_or_take(init: &Process) -> Result<Option<Waited>, Errno> {
    let mut wait = pin!(init.wait_async(WaitTarget::Any, EXITED));
    match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(waited) => waited.map(Some),
        Poll::Pending => Ok(None),
    }
}

/// Runs a closure on a thread. Its result comes through a channel, so that a hang is a failure.
fn start<T: Send + 'static>(
    arena: &Arc<Arena>,
    act: impl FnOnce(&Arena) -> T + Send + 'static,
) -> crossbeam_channel::Receiver<T> {
    let (done, is_done) = crossbeam_channel::bounded(1);
    let arena = arena.clone();
    thread::spawn(move || {
        let result = act(&arena);
        drop(arena);
        done.send(result)
    });
    is_done
}

/// Whether stops and resumes alternate, and `terminate` is last.
fn is_in_order(ops: &[Op]) -> bool {
    let Some((Op::Terminate(_), changes)) = ops.split_last() else {
        // the process itself reported its exit
        return false;
    };
    changes.iter().enumerate().all(|(nth, op)| match op {
        Op::Stop(_) => nth % 2 == 0,
        Op::Resume => nth % 2 == 1,
        _ => false,
    })
}

fn contest() {
    let arena = Arena::new();
    let events = arena.table.subscribe(1024).unwrap();
    let waits: Vec<_> =
        (0..4).map(|way| start(&arena, move |arena| arena.wait_for_all(way))).collect();
    let clock = start(&arena, Arena::move_the_clock);
    let cancels = start(&arena, |arena| arena.cancel.cancel());
    let disturbs = start(&arena, Arena::disturb);
    let ends = start(&arena, |arena| arena.table.terminate_all(4 * SECOND));
    let terminated = ends.recv_timeout(SOON).expect("terminate_all returns");
    disturbs.recv_timeout(SOON).expect("signals and reports return");
    cancels.recv_timeout(SOON).expect("a cancel returns");
    let mut returned = BTreeMap::new();
    for (way, wait) in waits.into_iter().enumerate() {
        let ends = wait.recv_timeout(SOON).unwrap_or_else(|_| panic!("wait {way} returns"));
        for waited in ends {
            assert_eq!(returned.insert(waited.pid, waited.status), None, "returned twice");
        }
    }
    arena.over.store(true, Ordering::SeqCst);
    clock.recv_timeout(SOON).expect("the clock stops");

    assert_eq!(terminated.survivors, []);
    assert_eq!(arena.table.pids(), [Pid(1)], "only the init is left");
    let mut reaped = BTreeMap::new();
    let mut exits = BTreeMap::new();
    for event in events.try_iter() {
        match event.what {
            What::Exited(status) => assert_eq!(exits.insert(event.pid, status), None),
            What::Reaped => assert_eq!(reaped.insert(event.pid, ()), None, "reaped once"),
            _ => {}
        }
    }
    assert_eq!(exits.len(), CHILDREN);
    assert_eq!(reaped.len(), CHILDREN, "each end was returned, or reaped by the init");
    assert!(returned.iter().all(|(pid, status)| exits[pid] == *status));
    assert!(arena.drivers.iter().all(|driver| is_in_order(&driver.seen())));
}

#[test]
fn concurrent_waits_return_each_exit_once() {
    for _ in 0..ROUNDS {
        contest();
    }
}
