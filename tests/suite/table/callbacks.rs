//! The order of operations of drivers, exit callbacks, and results of waits and calls.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use proctable::abi::{Errno, IdType, Pid, SigAction, SigSet, Signal, Uid, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Delivery, DriverProcess};
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall};
use proctable::table::{
    Image, ManualClock, Process, ProcessTable, SigmaskHow, Spawn, TableConfig, WaitTarget,
};

use super::{SOON, Woken, caught, fall_asleep, shell, spawn};

const EXITED: WaitOptions = WaitOptions::EXITED;

fn wait4(pid: i32) -> Syscall {
    Syscall::Wait4 { pid, status: Ptr::Null, options: WaitOptions::default() }
}

/// A driver that records, in `terminate`, how many calls of its process have woken.
#[derive(Default)]
struct Leaving {
    woken: Arc<Woken>,
    at_terminate: AtomicUsize,
}

impl DriverProcess for Leaving {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        self.at_terminate.store(self.woken.0.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Leaving {
    fn spawn(table: &ProcessTable) -> (Process, Arc<Leaving>) {
        let driver = Arc::new(Leaving::default());
        let spawn = Spawn::new(Image::new("guest")).driver(driver.clone());
        (table.spawn(spawn).unwrap(), driver)
    }

    fn all_calls_had_returned(&self) -> bool {
        self.at_terminate.load(Ordering::SeqCst) == 1
    }
}

/// The result of a call waits for an exit callback, and the callback kills the caller.
#[test]
fn a_process_killed_by_a_callback_leaves_its_call_before_its_driver_is_notified() {
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
    assert!(driver.all_calls_had_returned());
    table.set_on_process_exit(None);
}

/// The call of a process returns, and the process ends, in one step.
#[test]
fn a_process_that_ends_in_the_step_of_its_result_leaves_its_call_first() {
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
    assert!(driver.all_calls_had_returned());
}

#[test]
fn a_process_that_ends_leaves_the_runtimes_wait_before_its_driver_is_notified() {
    let table = ProcessTable::new();
    let (parent, driver) = Leaving::spawn(&table);
    let _child = spawn(&parent);
    let mut wait = pin!(parent.wait_async(WaitTarget::Any, EXITED));
    fall_asleep(wait.as_mut(), &driver.woken);
    parent.send(Signal::KILL).unwrap();
    assert!(driver.all_calls_had_returned());
}

/// A driver whose `terminate` does not return until the test sends a message.
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

/// A callback that releases the resources of a process can rely on the return of the driver's
/// `terminate`, and on the order of the exits, whatever other threads do.
#[test]
fn an_exit_callback_runs_after_terminate_of_the_driver() {
    let table = ProcessTable::new();
    let ((begin, begun), (go_on, resume)) = (mpsc::channel(), mpsc::channel());
    let driver = Arc::new(Slow { begin, go_on: resume.into(), done: AtomicBool::new(false) });
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

/// A driver that records its operations.
struct Notes(mpsc::Sender<&'static str>);

impl DriverProcess for Notes {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        self.0.send("terminate").unwrap();
    }
    fn reaped(&self) {
        self.0.send("reaped").unwrap();
    }
}

/// ZOM-02: the parent ignores SIGCHLD, so the child is reaped in the step of its exit.
#[test]
fn an_exit_callback_runs_after_all_operations_of_its_step() {
    let table = ProcessTable::new();
    let parent = spawn(&table.init());
    parent.sigaction(Signal::CHLD, SigAction::IGNORE).unwrap();
    let (note, notes) = mpsc::channel();
    let child = Spawn::new(Image::new("child")).driver(Arc::new(Notes(note.clone())));
    let child = parent.spawn(child).unwrap();
    let note = Mutex::new(note);
    table.set_on_process_exit(Some(Arc::new(move |_, _| {
        note.lock().unwrap().send("callback").unwrap();
    })));
    child.send(Signal::KILL).unwrap();
    let order: Vec<&str> = notes.try_iter().collect();
    assert_eq!(order, ["terminate", "reaped", "callback"]);
}

/// Timers expire while a callback runs, also timers that the step of the exit set.
#[test]
fn timers_expire_while_a_callback_runs() {
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

/// TABLE-01: also for an exit that a callback caused.
#[test]
fn a_call_that_reports_an_exit_by_a_callback_returns_after_that_exits_callback() {
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

/// TABLE-01: also if the call does not return the number of the child.
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

/// The values that a callback holds, and the payload of its panic, may panic in their `Drop`.
#[test]
fn a_panic_in_an_embedders_drop_loses_no_exit() {
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

/// A report with an invalid status has no effect, and neither has a report about the table's own
/// init.
#[test]
fn invalid_reports_change_nothing() {
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

/// TABLE-01: a call that the callback itself makes does not wait for the callback; a call of
/// another thread waits, also if an action of the callback lets it continue.
#[test]
fn only_a_callbacks_own_queued_call_overtakes_the_callback() {
    for own in [false, true] {
        let table = ProcessTable::new();
        let shell = shell(&table);
        let child = spawn(&shell);
        shell.send(Signal::STOP).unwrap();
        let others = (!own).then(|| Arc::new(shell.submit(wait4(-1))));
        let returned = Arc::new(Mutex::new(None));
        let (parent, note, watched) = (shell.clone(), returned.clone(), others.clone());
        table.set_on_process_exit(Some(Arc::new(move |_, _| {
            let call = watched.clone().unwrap_or_else(|| Arc::new(parent.submit(wait4(-1))));
            let go_on = || parent.send(Signal::CONT).unwrap();
            match own {
                true => thread::scope(|scope| drop(scope.spawn(go_on))),
                false => go_on(),
            }
            *note.lock().unwrap() = Some(call.result().is_some());
        })));
        child.exit(0).unwrap();
        assert_eq!(*returned.lock().unwrap(), Some(own));
        assert!(others.is_none_or(|call| call.result().is_some()));
        table.set_on_process_exit(None);
    }
}

fn sigtimedwait(set: SigSet) -> Syscall {
    Syscall::RtSigtimedwait { set, info: Ptr::Valid, timeout: None, size: SIGSET_SIZE }
}

/// The table runs no callback for a child whose creation fails, but it does for another process
/// that ends in the same step.
#[test]
fn an_exit_in_the_step_of_a_failed_fork_runs_its_callback() {
    let table = ProcessTable::new();
    let parent = spawn(&table.init());
    parent.set_users([Some(Uid(1000)); 3]).unwrap();
    parent.sigprocmask(SigmaskHow::Block, Signal::CHLD.set()).unwrap();
    let announced = Arc::new(Mutex::new(Vec::new()));
    let note = announced.clone();
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        note.lock().unwrap().push(process.pid());
    })));
    let _waits_for_the_signal = parent.submit(sigtimedwait(Signal::CHLD.set()));
    let _exits_then = parent.submit(Syscall::ExitGroup(3));
    let other = Spawn::new(Image::new("other")).users([Some(Uid(1001)); 3]);
    assert_eq!(parent.spawn(other).map(|child| child.pid()), Err(Errno::EPERM));
    assert_eq!(parent.exit_status(), Some(WaitStatus::exited(3)));
    assert_eq!(*announced.lock().unwrap(), [parent.pid()]);
}

/// A driver that makes a non-blocking call in an operation.
struct Looks {
    guest: Mutex<Option<Process>>,
    info: Ptr,
    done: mpsc::Sender<()>,
}

impl DriverProcess for Looks {
    fn deliver(&self, _: Delivery) {
        let guest = self.guest.lock().unwrap().take().unwrap();
        let options = EXITED.with(WaitOptions::NOHANG);
        let (idtype, id, info) = (IdType::ALL, 0, self.info);
        let _ = guest.syscall(Syscall::Waitid { idtype, id, info, options });
        let _ = self.done.send(());
    }
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// A call that finds no event waits for no callback, also if a process ends in the same step.
#[test]
fn a_call_that_finds_nothing_does_not_wait_for_callbacks() {
    for info in [Ptr::Valid, Ptr::Null, Ptr::Bad] {
        let table = ProcessTable::new();
        let shell = shell(&table);
        let (done, is_done) = mpsc::channel();
        let driver = Arc::new(Looks { guest: Mutex::default(), info, done });
        let guest = shell.spawn(Spawn::new(Image::new("g")).driver(driver.clone())).unwrap();
        let child = guest.spawn(Spawn::new(Image::new("c")).session()).unwrap();
        let _dies = spawn(&shell);
        guest.sigaction(Signal::TERM, caught()).unwrap();
        child.sigaction(Signal::TERM, caught()).unwrap();
        *driver.guest.lock().unwrap() = Some(guest);
        table.set_on_process_exit(Some(Arc::new(|_, _| ())));
        thread::spawn(move || shell.kill_all(Signal::TERM));
        assert!(is_done.recv_timeout(SOON).is_ok(), "{info:?}");
    }
}

/// A driver that is busy with a handler when its process ends.
struct Busy {
    in_handler: Box<dyn Fn() + Send + Sync>,
    terminated: AtomicBool,
}

impl DriverProcess for Busy {
    fn deliver(&self, _: Delivery) {
        (self.in_handler)();
    }
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        self.terminated.store(true, Ordering::SeqCst);
    }
}

/// Records for each exit of `process` whether the `terminate` of its driver has run.
fn note_whether_terminated(
    process: &Process,
    driver: &Arc<Busy>,
    before: impl Fn(&Process) + Send + Sync + 'static,
) -> Arc<Mutex<Vec<bool>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (pid, driver, note) = (process.pid(), driver.clone(), seen.clone());
    process.table().set_on_process_exit(Some(Arc::new(move |ended, _| {
        before(ended);
        if ended.pid() == pid {
            note.lock().unwrap().push(driver.terminated.load(Ordering::SeqCst));
        }
    })));
    seen
}

/// The `terminate` of the driver runs before the callback, also if the driver is in another
/// operation when the process ends, in the same thread or in another one.
#[test]
fn a_callback_waits_for_a_busy_driver() {
    for in_another_thread in [false, true] {
        let table = ProcessTable::new();
        let (begin, begun) = mpsc::channel();
        let (go_on, resume) = mpsc::channel::<()>();
        let (resume, victim) = (Mutex::new(resume), Arc::new(Mutex::new(None::<Process>)));
        let kills = victim.clone();
        let in_handler = Box::new(move || {
            begin.send(()).unwrap();
            match in_another_thread {
                true => resume.lock().unwrap().recv_timeout(SOON).unwrap(),
                false => kills.lock().unwrap().take().unwrap().send(Signal::KILL).unwrap(),
            }
        });
        let driver = Arc::new(Busy { in_handler, terminated: AtomicBool::new(false) });
        let guest = table.spawn(Spawn::new(Image::new("g")).driver(driver.clone())).unwrap();
        guest.sigaction(Signal::USR1, caught()).unwrap();
        *victim.lock().unwrap() = Some(guest.clone());
        let seen = note_whether_terminated(&guest, &driver, |_| ());
        thread::scope(|scope| {
            scope.spawn(|| guest.send(Signal::USR1).unwrap());
            begun.recv_timeout(SOON).unwrap();
            if in_another_thread {
                guest.send(Signal::KILL).unwrap();
                go_on.send(()).unwrap();
            }
        });
        assert_eq!(*seen.lock().unwrap(), [true]);
        table.set_on_process_exit(None);
    }
}

/// The same if the `terminate` has to wait for another callback.
#[test]
fn an_exit_callback_waits_for_a_late_operation_of_its_driver() {
    let table = ProcessTable::new();
    let ((begin, begun), (go_on, resume)) = (mpsc::channel(), mpsc::channel());
    let resume = Mutex::new(resume);
    let in_handler = Box::new(move || {
        begin.send(()).unwrap();
        resume.lock().unwrap().recv_timeout(SOON).unwrap();
    });
    let driver = Arc::new(Busy { in_handler, terminated: AtomicBool::new(false) });
    let parent = table.spawn(Spawn::new(Image::new("p")).driver(driver.clone())).unwrap();
    parent.sigaction(Signal::CHLD, caught()).unwrap();
    let (child, other) = (spawn(&parent), spawn(&table.init()));
    let (victim, pid) = (parent.clone(), child.pid());
    let seen = note_whether_terminated(&parent, &driver, move |ended| {
        if ended.pid() == pid {
            victim.send(Signal::KILL).unwrap();
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| child.exit(0).unwrap());
        begun.recv_timeout(SOON).unwrap();
        other.exit(0).unwrap();
        go_on.send(()).unwrap();
    });
    assert_eq!(*seen.lock().unwrap(), [true]);
    table.set_on_process_exit(None);
}

/// A driver that kills another process in its `terminate`.
#[derive(Default)]
struct Kills(Mutex<Option<Process>>);

impl DriverProcess for Kills {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        if let Some(victim) = self.0.lock().unwrap().take() {
            victim.send(Signal::KILL).unwrap();
        }
    }
}

/// The call of a process has returned; before a thread wakes for the result, a callback or another
/// driver of the same step kills the process.
#[test]
fn a_process_killed_before_its_wakeup_leaves_its_call_first() {
    for by_callback in [false, true] {
        let table = ProcessTable::new();
        let shell = shell(&table);
        let killer = Arc::new(Kills::default());
        let dying = shell.spawn(Spawn::new(Image::new("k")).driver(killer.clone())).unwrap();
        let driver = Arc::new(Leaving::default());
        let guest = shell.spawn(Spawn::new(Image::new("g")).driver(driver.clone())).unwrap();
        guest.sigprocmask(SigmaskHow::Block, Signal::USR1.set()).unwrap();
        let mut call = pin!(guest.submit(sigtimedwait(Signal::USR1.set())));
        fall_asleep(call.as_mut(), &driver.woken);
        if by_callback {
            let (victim, pid) = (guest.clone(), dying.pid());
            table.set_on_process_exit(Some(Arc::new(move |process, _| {
                if process.pid() == pid {
                    victim.send(Signal::KILL).unwrap();
                }
            })));
        } else {
            *killer.0.lock().unwrap() = Some(guest.clone());
        }
        shell.kill_all(Signal::USR1).unwrap();
        assert!(driver.all_calls_had_returned());
        table.set_on_process_exit(None);
    }
}

/// TABLE-01: a wait with WNOWAIT waits for the callback too, also without a siginfo pointer.
#[test]
fn a_wait_with_wnowait_and_no_siginfo_waits_for_the_callback() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let child = spawn(&shell);
    let early = Arc::new(Mutex::new(Vec::new()));
    let (parent, note) = (shell.clone(), early.clone());
    table.set_on_process_exit(Some(Arc::new(move |_, _| {
        let look = || {
            for info in [Ptr::Bad, Ptr::Valid, Ptr::Null] {
                let (idtype, id, options) = (IdType::ALL, 0, EXITED.with(WaitOptions::NOWAIT));
                let call = parent.submit(Syscall::Waitid { idtype, id, info, options });
                note.lock().unwrap().push(call.result().is_some());
            }
        };
        thread::scope(|scope| drop(scope.spawn(look)));
    })));
    child.exit(0).unwrap();
    table.set_on_process_exit(None);
    assert_eq!(*early.lock().unwrap(), [false; 3]);
}
