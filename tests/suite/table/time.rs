//! Time: timers, delayed calls, and kinds of clocks.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use proctable::abi::{Itimerval, Signal, Time, Timespec, Timeval, WaitOptions, WaitStatus};
use proctable::drivers::ThreadDriver;
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall};
use proctable::table::{
    Clock, Image, ManualClock, Process, ProcessTable, SigmaskHow, Spawn, TableConfig,
};

use super::{SOON, Woken, fall_asleep, spawn};

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> (ManualClock, ProcessTable) {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(seconds));
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    (clock, table)
}

/// A process whose periodic timer has expired once and restarts when its signal is dequeued.
fn with_an_idle_timer() -> (ManualClock, ProcessTable, Process) {
    let (clock, table) = at(0);
    let process = spawn(&table.init());
    process.sigprocmask(SigmaskHow::Block, Signal::ALRM.set()).unwrap();
    let second = Timeval { sec: 1, usec: 0 };
    process.setitimer(Some(Itimerval { interval: second, value: second })).unwrap();
    clock.advance(Duration::from_millis(1500));
    table.reap_due(clock.now());
    assert_eq!(table.next_deadline(), None);
    clock.advance(Duration::from_secs(9));
    (clock, table, process)
}

/// TIME-06: a periodic timer restarts on its grid, also by a call that does not concern time.
#[test]
fn a_periodic_timer_stays_on_its_grid() {
    let (_clock, table, process) = with_an_idle_timer();
    assert_eq!(process.sigtimedwait(Signal::ALRM.set(), None).unwrap().signal, Signal::ALRM);
    assert_eq!(table.next_deadline(), Some(Time(11 * SECOND)));

    let (_clock, table, process) = with_an_idle_timer();
    process.sigaction(Signal::ALRM, super::caught()).unwrap();
    let call = super::unblock(&process, Signal::ALRM.set());
    process.sigreturn().unwrap();
    assert_eq!(call.result(), Some(Ok(Ret::Mask(None))));
    assert_eq!(table.next_deadline(), Some(Time(11 * SECOND)));
}

/// TIME-02: the alarm of a stopped process counts from the continue, at which the delayed call
/// runs.
#[test]
fn an_alarm_counts_from_its_call() {
    let (clock, table) = at(0);
    let process = spawn(&table.init());
    process.send(Signal::STOP).unwrap();
    let call = process.submit(Syscall::Alarm(5));
    clock.advance(Duration::from_secs(100));
    process.send(Signal::CONT).unwrap();
    assert_eq!(call.result(), Some(Ok(Ret::Value(0))));
    assert_eq!(table.next_deadline(), Some(Time(105 * SECOND)));
}

/// SIG-50: a timeout that passes during a stop ends the call at the continue.
#[test]
fn a_timeout_during_a_reported_stop_is_not_lost() {
    let (clock, table) = at(0);
    let process = spawn(&table.init());
    let (set, info) = (Signal::USR1.set(), Ptr::Valid);
    let timeout = Some(Timespec { sec: 1, nsec: 0 });
    let call = process.submit(Syscall::RtSigtimedwait { set, info, timeout, size: SIGSET_SIZE });
    process.report(WaitStatus::stopped(Signal::STOP));
    clock.advance(Duration::from_secs(2));
    table.reap_due(clock.now());
    process.report(WaitStatus::CONTINUED);
    assert!(call.result().is_some());
}

#[test]
fn process_1_starts_with_its_table() {
    let (clock, table) = at(100);
    assert_eq!(table.init().info().unwrap().started, clock.now());
}

/// A clock at a quarter of the speed of real time, whose `instant` is too early.
#[derive(Clone)]
struct Slow(Arc<(Instant, AtomicU64)>);

impl Clock for Slow {
    fn now(&self) -> Time {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        Time(self.0.0.elapsed().as_nanos() as u64 / 4)
    }

    fn instant(&self, at: Time) -> Option<Instant> {
        let now = self.0.0.elapsed().as_nanos() as u64 / 4;
        Some(Instant::now() + Duration::from_nanos(at.0.saturating_sub(now)))
    }
}

#[test]
fn the_timer_thread_asks_the_clock_again_after_each_sleep() {
    let clock = Slow(Arc::new((Instant::now(), AtomicU64::new(0))));
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    let child = spawn(&table.init());
    let timeout = Duration::from_millis(20);
    let waited = table.init().wait_timeout(&child, WaitOptions::EXITED, timeout);
    assert_eq!(waited, Ok(None));
    let asked = clock.0.1.load(Ordering::Relaxed);
    assert!(asked < 1000, "asked {asked} times");
}

/// A guest's call expires timers, and wakes the waits for their consequences, also if the call
/// itself changes nothing.
#[test]
fn a_timer_that_expires_in_a_guests_call_wakes_waits() {
    let (clock, table) = at(0);
    let victim = spawn(&table.init());
    victim.alarm(1).unwrap();
    let ((go, may_go), (done, is_done)) = (mpsc::channel::<()>(), mpsc::channel());
    let guest = Spawn::new(Image::new("guest"));
    ThreadDriver::spawn(&table.init(), guest, move |guest| {
        may_go.recv().unwrap();
        guest.checkpoint();
        done.send(()).unwrap();
        // it ends when the test is over
        let _ = may_go.recv();
        0
    })
    .unwrap();
    let (init, woken) = (table.init(), Arc::new(Woken::default()));
    let mut wait = pin!(init.wait_async(&victim, WaitOptions::EXITED));
    fall_asleep(wait.as_mut(), &woken);
    clock.advance(Duration::from_secs(2));
    go.send(()).unwrap();
    is_done.recv_timeout(SOON).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
}
