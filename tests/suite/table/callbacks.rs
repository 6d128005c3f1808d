//! Who is told what in which order: drivers, callbacks, those who wait.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use proctable::abi::{IdType, Pid, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Delivery, DriverProcess};
use proctable::syscall::{Ptr, Ret, Syscall};
use proctable::table::{
    Image, ManualClock, Process, ProcessTable, SigmaskHow, Spawn, TableConfig, WaitTarget,
};

use super::{SOON, shell, spawn};

const EXITED: WaitOptions = WaitOptions::EXITED;

/// Counts how often whoever waits was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Falls asleep in a call or a wait.
fn fall_asleep<F: Future>(future: std::pin::Pin<&mut F>, woken: &Arc<Woken>) {
    let waker = Waker::from(woken.clone());
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

fn wait4(pid: i32) -> Syscall {
    Syscall::Wait4 { pid, status: Ptr::Null, options: WaitOptions::default() }
}

/// A driver that looks, when its process has to end, whether those were woken who sleep in calls
/// of it.
#[derive(Default)]
struct Leaving {
    woken: Arc<Woken>,
    at_the_end: AtomicUsize,
}

impl DriverProcess for Leaving {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        self.at_the_end.store(self.woken.0.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Leaving {
    fn spawn(table: &ProcessTable) -> (Process, Arc<Leaving>) {
        let driver = Arc::new(Leaving::default());
        let spawn = Spawn::new(Image::new("guest")).driver(driver.clone());
        (table.spawn(spawn).unwrap(), driver)
    }

    fn everybody_had_left(&self) -> bool {
        self.at_the_end.load(Ordering::SeqCst) == 1
    }
}

/// The result waits for a callback, which kills the caller.
#[test]
fn who_is_killed_by_a_callback_leaves_its_call_before_its_driver_hears_of_it() {
    let table = ProcessTable::new();
    let (parent, driver) = Leaving::spawn(&table);
    let child = spawn(&parent);
    let mut call = pin!(parent.submit(wait4(-1)));
    fall_asleep(call.as_mut(), &driver.woken);
    let (victim, dying) = (parent.clone(), child.pid());
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        if process.pid() == dying {
            victim.send(Signal::KILL).unwrap();
        }
    })));
    child.exit(0).unwrap();
    assert!(driver.everybody_had_left());
    table.set_on_process_exit(None);
}

/// Its call returns, and it ends, in one step.
#[test]
fn who_ends_in_the_step_of_its_result_leaves_its_call_first() {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    let (parent, driver) = Leaving::spawn(&table);
    let child = spawn(&parent);
    child.alarm(1).unwrap();
    parent.alarm(2).unwrap();
    let mut call = pin!(parent.submit(wait4(-1)));
    fall_asleep(call.as_mut(), &driver.woken);
    clock.advance(Duration::from_secs(5));
    table.reap_due(table.now());
    assert!(driver.everybody_had_left());
}

#[test]
fn who_ends_leaves_the_runtimes_wait_before_its_driver_hears_of_it() {
    let table = ProcessTable::new();
    let (parent, driver) = Leaving::spawn(&table);
    let _child = spawn(&parent);
    let mut wait = pin!(parent.wait_async(WaitTarget::Any, EXITED));
    fall_asleep(wait.as_mut(), &driver.woken);
    parent.send(Signal::KILL).unwrap();
    assert!(driver.everybody_had_left());
}

/// A driver that is told of its end, and does not return until it is let go.
struct Slow {
    begin: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
    done: AtomicBool,
}

impl DriverProcess for Slow {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        self.begin.send(()).unwrap();
        self.go_on.lock().unwrap().recv_timeout(SOON).unwrap();
        self.done.store(true, Ordering::SeqCst);
    }
}

/// Whoever releases in the callback what a process used can rely on that its driver has stopped
/// it, and on the order of the ends, whatever other threads do.
#[test]
fn a_callback_runs_after_the_driver_was_told_of_the_end() {
    let table = ProcessTable::new();
    let ((begin, begun), (go_on, told_to)) = (mpsc::channel(), mpsc::channel());
    let driver = Arc::new(Slow { begin, go_on: told_to.into(), done: AtomicBool::new(false) });
    let slow = table.spawn(Spawn::new(Image::new("slow")).driver(driver.clone())).unwrap();
    let quick = spawn(&table.init());
    let (order, notes) = mpsc::channel();
    let watched = driver.clone();
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        order.send((process.pid(), watched.done.load(Ordering::SeqCst))).unwrap();
    })));
    thread::scope(|scope| {
        scope.spawn(|| slow.exit(0).unwrap());
        begun.recv_timeout(SOON).unwrap();
        quick.exit(0).unwrap();
        assert_eq!(notes.try_recv(), Err(mpsc::TryRecvError::Empty));
        go_on.send(()).unwrap();
    });
    let order: Vec<(Pid, bool)> = notes.try_iter().collect();
    assert_eq!(order, [(slow.pid(), true), (quick.pid(), true)]);
}

/// What is due is seen to while a callback runs, also if the step of the exit made it due.
#[test]
fn timers_go_off_while_a_callback_runs() {
    let ttl = Some(Duration::from_millis(20));
    let table = ProcessTable::with_config(TableConfig::new().zombie_ttl(ttl));
    let (dying, other) = (spawn(&table.init()), spawn(&table.init()));
    other.sigprocmask(SigmaskHow::Block, Signal::USR1.set()).unwrap();
    let ((done, is_done), pid) = (mpsc::channel(), dying.pid());
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        if process.pid() == pid {
            let timeout = Some(Duration::from_millis(40));
            done.send(other.sigtimedwait(Signal::USR1.set(), timeout)).unwrap();
        }
    })));
    thread::spawn(move || dying.exit(0));
    assert!(is_done.recv_timeout(SOON).is_ok());
}

/// EXIT-11: also for ends that a callback has brought about.
#[test]
fn a_call_returns_after_the_callback_for_an_end_by_a_callback() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let (first, second) = (spawn(&shell), spawn(&shell));
    let call = Arc::new(shell.submit(wait4(second.pid().0 as i32)));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (pids, watched, notes) = ([first.pid(), second.pid()], call.clone(), seen.clone());
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        if process.pid() == pids[0] {
            second.exit(3).unwrap();
        }
        notes.lock().unwrap().push((process.pid(), watched.result().is_some()));
    })));
    first.exit(0).unwrap();
    assert_eq!(*seen.lock().unwrap(), pids.map(|pid| (pid, false)));
    assert!(call.result().is_some());
    table.set_on_process_exit(None);
}

/// EXIT-11: also where the call does not say which child it was.
#[test]
fn a_call_without_siginfo_returns_after_the_callback() {
    for info in [Ptr::Null, Ptr::Bad] {
        let table = ProcessTable::new();
        let shell = shell(&table);
        let child = spawn(&shell);
        let (idtype, id, options) = (IdType::ALL, 0, EXITED);
        let call = Arc::new(shell.submit(Syscall::Waitid { idtype, id, info, options }));
        let early = Arc::new(AtomicBool::new(false));
        let (watched, note) = (call.clone(), early.clone());
        table.set_on_process_exit(Some(Arc::new(move |_, _| {
            note.store(watched.result().is_some(), Ordering::SeqCst);
        })));
        child.exit(0).unwrap();
        assert!(!early.load(Ordering::SeqCst));
        assert!(matches!(call.result(), Some(Ok(Ret::WaitInfo(None)) | Err(_))));
        table.set_on_process_exit(None);
    }
}

/// What a callback holds, or panics with, may panic when it is dropped.
#[test]
fn a_panic_in_a_foreign_drop_loses_no_exit() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("a foreign Drop");
        }
    }
    let replaces_itself = |process: &Process| {
        process.table().set_on_process_exit(Some(Arc::new(|_, _| ())));
    };
    for panics in [false, true] {
        let table = ProcessTable::new();
        let shell = shell(&table);
        let children = [spawn(&shell), spawn(&shell)];
        let held = Mutex::new(Some(Bad));
        table.set_on_process_exit(Some(Arc::new(move |process, _| {
            let _ = &held;
            replaces_itself(process);
            if panics {
                std::panic::panic_any(held.lock().unwrap().take());
            }
        })));
        for child in &children {
            child.exit(0).unwrap();
            assert!(shell.try_wait(child, EXITED).unwrap().is_some());
        }
    }
}

/// A status that is none has no effect, and nothing is reported of the table's own init.
#[test]
fn reports_that_say_nothing_change_nothing() {
    let table = ProcessTable::new();
    let guest = table.spawn(Spawn::new(Image::new("guest")).authority(Authority::Host)).unwrap();
    for word in [0x007f, 0x417f, 0xff7f, 0x00ff, 0x0050] {
        guest.report(WaitStatus(word));
        assert_eq!((guest.exit_status(), table.counts().running), (None, 2), "{word:#x}");
    }
    table.init().report(WaitStatus::stopped(Signal::STOP));
    table.init().report(WaitStatus::exited(0));
    assert_eq!(table.counts().running, 2);
}
