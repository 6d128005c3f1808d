//! Reports, callbacks, events and the reaper.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use proctable::abi::{Errno, Pid, SaFlags, SigAction, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Delivery, DriverProcess, Op};
use proctable::drivers::{Expected, ScriptedDriver, ThreadDriver};
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall};
use proctable::table::{
    Image, ManualClock, Process, ProcessTable, SigmaskHow, Spawn, TableConfig, TableLimits,
    WaitTarget, What,
};

use super::{SOON, caught, shell, spawn};

/// A report that arrives before its process is in the table is not lost. A report after the exit,
/// or for a number that a later process has, has no effect.
#[test]
fn reports_belong_to_one_process_for_good() {
    let table = ProcessTable::new();
    let init = table.init();
    let early = Spawn::new(Image::new("quick")).authority(Authority::Host);
    let reporter = early.reporter();
    reporter.exited(3);
    let quick = table.spawn(early).unwrap();
    assert_eq!(init.wait(&quick, WaitOptions::EXITED).unwrap().status, WaitStatus::exited(3));

    let config = proctable::kernel::Config { pid_max: 301, last_pid: 299, ..Default::default() };
    let table = ProcessTable::with_config(TableConfig::new().kernel(config));
    let init = table.init();
    let spawned = Spawn::new(Image::new("first"));
    let late = spawned.reporter();
    let first = table.spawn(spawned).unwrap();
    first.exit(0).unwrap();
    init.wait(&first, WaitOptions::EXITED).unwrap();
    let second = spawn(&init);
    assert_eq!(second.pid(), first.pid(), "the only number left");
    late.killed(Signal::KILL, false);
    assert_eq!(second.exit_status(), None);
    assert_eq!(first.may_kill(second.pid()), Err(Errno::ESRCH));
    second.exit(1).unwrap();
    late.exited(9);
    assert_eq!(second.exit_status(), Some(WaitStatus::exited(1)));
}

/// A panic of a driver is published, and the table continues.
#[test]
fn a_driver_that_panics_is_a_published_fault() {
    let table = ProcessTable::new();
    let events = table.subscribe(64).unwrap();
    let driver = Arc::new(ScriptedDriver::new([
        Expected::stop(Signal::STOP).then_panic(),
        Expected::resume(),
    ]));
    let guest = table.spawn(Spawn::new(Image::new("guest")).driver(driver.clone())).unwrap();
    guest.send(Signal::STOP).unwrap();
    guest.send(Signal::CONT).unwrap();
    driver.verify().unwrap();
    let faults: Vec<What> =
        events.try_iter().map(|e| e.what).filter(|w| matches!(w, What::DriverFault(_))).collect();
    assert_eq!(faults, [What::DriverFault(Op::Stop(Signal::STOP))]);
    assert_eq!(table.counts().running, 2);
}

/// TABLE-01: the callback runs before any wait returns the exit, also a wait that begins while it
/// runs.
#[test]
fn callbacks_come_before_waits_return() {
    let table = ProcessTable::new();
    let init = table.init();
    let child = spawn(&init);
    let (entered, has_entered) = crossbeam_channel::bounded(0);
    let (leave, may_leave) = crossbeam_channel::bounded(0);
    table.set_on_process_exit(Some(Arc::new(move |process, status| {
        entered.send((process.pid(), status)).unwrap();
        may_leave.recv().unwrap();
    })));
    std::thread::scope(|scope| {
        let exits = child.clone();
        scope.spawn(move || exits.exit(0));
        let seen = has_entered.recv().unwrap();
        assert_eq!(seen, (child.pid(), WaitStatus::exited(0)));
        assert_eq!(init.try_wait(WaitTarget::Any, WaitOptions::EXITED), Ok(None));
        let waiter = scope.spawn(|| init.wait(WaitTarget::Any, WaitOptions::EXITED));
        let guest = scope.spawn(|| init.waitpid(-1, WaitOptions::default()));
        leave.send(()).unwrap();
        let (one, other) = (waiter.join().unwrap(), guest.join().unwrap());
        // one wait returns the exit, and the other finds no child
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    });
}

/// A driver that reaps the children of its process in each handler of SIGCHLD.
#[derive(Default)]
struct Reaper {
    parent: OnceLock<Process>,
    reaped: Mutex<Vec<Pid>>,
}

impl DriverProcess for Reaper {
    fn deliver(&self, _: Delivery) {
        let parent = self.parent.get().unwrap();
        while let Ok(Some(waited)) = parent.try_wait(WaitTarget::Any, WaitOptions::EXITED) {
            self.reaped.lock().unwrap().push(waited.pid);
        }
        parent.sigreturn().unwrap();
    }
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// TABLE-01, CHLD-06: a driver gets the SIGCHLD of an exit after the callback has run, so its waits
/// then find every child that has no SIGCHLD of its own.
#[test]
fn a_driver_that_reaps_when_it_is_notified_misses_no_child() {
    let table = ProcessTable::new();
    let reaper = Arc::new(Reaper::default());
    let parent = table.spawn(Spawn::new(Image::new("sh")).driver(reaper.clone())).unwrap();
    parent.sigaction(Signal::CHLD, caught()).unwrap();
    assert!(reaper.parent.set(parent.clone()).is_ok());
    let children: Vec<_> = (0..3).map(|_| spawn(&parent)).collect();
    for child in &children {
        child.setpgid(Pid(0), children[0].pid().into()).unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (notes, by) = (seen.clone(), reaper.clone());
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        notes.lock().unwrap().push((process.pid(), by.reaped.lock().unwrap().len()));
    })));
    table.init().kill_group(children[0].pid().into(), Signal::KILL).unwrap();
    let mut pids: Vec<Pid> = children.iter().map(Process::pid).collect();
    assert_eq!(*reaper.reaped.lock().unwrap(), pids);
    pids.reverse();
    // the member that joined last ends first (KILL-13), and no child is reaped before all callbacks
    assert_eq!(*seen.lock().unwrap(), [(pids[0], 0), (pids[1], 0), (pids[2], 0)]);
}

/// TABLE-01: guests on threads fork, catch SIGCHLD and wait concurrently, while a callback calls
/// the table for each exit: each exit has one callback, and each wait returns.
#[test]
fn callbacks_and_handlers_on_many_threads_do_not_deadlock() {
    const GUESTS: usize = 4;
    const CHILDREN: usize = 25;
    let table = ProcessTable::new();
    let ends = Arc::new(AtomicUsize::new(0));
    let count = ends.clone();
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        assert!(process.table().counts().processes > 0);
        count.fetch_add(1, Ordering::SeqCst);
    })));
    let init = table.init();
    for _ in 0..GUESTS {
        let spawning = Spawn::new(Image::new("parent"));
        ThreadDriver::spawn(&init, spawning, |guest| {
            let handlers = Arc::new(AtomicUsize::new(0));
            let count = handlers.clone();
            guest
                .catch(Signal::CHLD, SaFlags::RESTART, move |_, _| {
                    count.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
            for code in 0..CHILDREN {
                guest.spawn(Spawn::new(Image::new("child")), move |_| code as i32).unwrap();
            }
            for _ in 0..CHILDREN {
                guest.waitpid(-1, WaitOptions::default()).unwrap();
            }
            i32::from(handlers.load(Ordering::SeqCst) == 0)
        })
        .unwrap();
    }
    for _ in 0..GUESTS {
        let waited = init.wait_timeout(WaitTarget::Any, WaitOptions::EXITED, SOON).unwrap();
        assert_eq!(waited.unwrap().status, WaitStatus::exited(0));
    }
    assert_eq!(ends.load(Ordering::SeqCst), GUESTS * (CHILDREN + 1));
}

/// TABLE-01: the same for a parent that takes its signals by rt_sigtimedwait.
#[test]
fn a_call_that_takes_a_signal_of_an_end_returns_after_the_callback() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    parent.sigprocmask(SigmaskHow::Block, Signal::CHLD.set()).unwrap();
    let child = spawn(&parent);
    let call = Arc::new(parent.submit(Syscall::RtSigtimedwait {
        set: Signal::CHLD.set(),
        info: Ptr::Valid,
        timeout: None,
        size: SIGSET_SIZE,
    }));
    let (seen, taking) = (Arc::new(Mutex::new(None)), call.clone());
    let note = seen.clone();
    table.set_on_process_exit(Some(Arc::new(move |_, _| {
        *note.lock().unwrap() = Some(taking.result());
    })));
    child.exit(0).unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(None));
    assert!(matches!(call.result(), Some(Ok(Ret::Signal(info))) if info.pid == child.pid()));
    table.set_on_process_exit(None);
}

/// Zombies of the table's init are reaped at their deadline; those of a living parent stay until
/// the parent ends.
#[test]
fn zombies_are_reaped_after_their_time() {
    let clock = ManualClock::new();
    let ttl = Duration::from_secs(5);
    let config = TableConfig::new().clock(clock.clone()).zombie_ttl(Some(ttl));
    let table = ProcessTable::with_config(config);
    let shell = shell(&table);
    let (ours, theirs) = (spawn(&table.init()), spawn(&shell));
    ours.exit(1).unwrap();
    theirs.exit(2).unwrap();
    assert_eq!(table.reapable_zombies(), 1);
    clock.advance(ttl);
    assert_eq!(table.reap_due(table.now()), 1);
    assert_eq!((ours.info(), theirs.exit_status()), (None, Some(WaitStatus::exited(2))));
    // RPT-09: the init adopts it when its parent ends
    shell.exit(0).unwrap();
    assert_eq!(table.reapable_zombies(), 2);
    clock.advance(ttl);
    assert_eq!(table.reap_due(table.now()), 2);
    assert_eq!(table.counts().processes, 1);
    assert_eq!(table.next_deadline(), None);
}

/// The limits on processes, pending signals and subscribers fail with the errno of the kernel.
#[test]
fn limits_of_a_table_fail_with_the_errno_of_the_kernel() {
    let limits = TableLimits { processes: 3, pending_signals: 2, subscribers: 1 };
    let table = ProcessTable::with_config(TableConfig::new().limits(limits));
    let init = table.init();
    let one = spawn(&init);
    let two = one.fork().unwrap();
    assert_eq!(one.fork(), Err(Errno::EAGAIN));
    assert_eq!(init.spawn(Spawn::new(Image::new("x"))), Err(Errno::EAGAIN));
    two.exit(0).unwrap();
    assert_eq!(one.fork(), Err(Errno::EAGAIN), "a zombie counts");
    one.wait(&two, WaitOptions::EXITED).unwrap();
    one.fork().unwrap();

    let blocked = Signal::RTMAX.set();
    one.sigprocmask(SigmaskHow::Block, blocked).unwrap();
    init.sigqueue(one.pid(), Signal::RTMAX, 1).unwrap();
    init.sigqueue(one.pid(), Signal::RTMAX, 2).unwrap();
    assert_eq!(init.sigqueue(one.pid(), Signal::RTMAX, 3), Err(Errno::EAGAIN)); // LIM-08

    let events = table.subscribe(2).unwrap();
    assert_eq!(table.subscribe(2).err(), Some(Errno::EMFILE));
    for _ in 0..4 {
        one.send(Signal::STOP).unwrap();
        one.send(Signal::CONT).unwrap();
    }
    let seen: Vec<_> = events.try_iter().collect();
    assert_eq!(seen.len(), 2, "the table never waits for a reader");
    one.send(Signal::STOP).unwrap();
    let next = events.try_iter().next().unwrap();
    assert!(matches!(next.what, What::Lost(lost) if seen[1].number + lost == next.number));
}

/// The image of a process has its arguments when the event of the exec is published, and children
/// share it.
#[test]
fn children_share_the_image_of_their_parent() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    let image = Image { program: "ls".into(), args: vec!["ls".into()], env: vec!["A=1".into()] };
    let image = Arc::new(image);
    guest.exec(image.clone()).unwrap();
    assert!(Arc::ptr_eq(&guest.image().unwrap(), &image));
    let child = guest.fork().unwrap();
    assert!(Arc::ptr_eq(&child.info().unwrap().image, &image));
    assert_eq!(child.image().unwrap().var("A"), Some("1"));
    let call = Syscall::Execve { path: "cat".into(), error: None };
    child.syscall(call).unwrap();
    assert_eq!(child.image().unwrap().program, "cat");
    assert_eq!(guest.image().unwrap().program, "ls");
}

/// A later process does not get the image that an earlier process of its number was about to
/// execute when it was killed.
#[test]
fn the_queued_image_of_a_process_that_ended_is_dropped() {
    let kernel = proctable::kernel::Config { pid_max: 301, last_pid: 299, ..Default::default() };
    let table = ProcessTable::with_config(TableConfig::new().kernel(kernel));
    let init = table.init();
    // ZOM-02: its exit leaves no zombie
    init.sigaction(Signal::CHLD, SigAction::IGNORE).unwrap();
    for _ in 0..50 {
        let dead = spawn(&init);
        dead.send(Signal::STOP).unwrap();
        // the call may come before or after the signal
        std::thread::scope(|scope| {
            let executing = scope.spawn(|| dead.exec(Image::new("ls")));
            std::thread::yield_now();
            dead.send(Signal::KILL).unwrap();
            assert_eq!(executing.join().unwrap(), Err(Errno::ESRCH));
        });
        let next = init.fork().unwrap();
        assert_eq!(next.pid(), dead.pid());
        next.syscall(Syscall::Execve { path: "cat".into(), error: None }).unwrap();
        assert_eq!(next.image().unwrap().program, "cat");
        next.exit(0).unwrap();
    }
}

/// TIME-04: the timer thread expires an alarm in real time; it ends when there is no deadline.
#[test]
fn the_timer_thread_delivers_alarms() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    let timer = proctable::abi::Itimerval {
        value: proctable::abi::Timeval { sec: 0, usec: 1000 },
        ..Default::default()
    };
    guest.setitimer(Some(timer)).unwrap();
    let waited = table.init().wait(&guest, WaitOptions::EXITED).unwrap();
    assert_eq!(waited.status, WaitStatus::killed(Signal::ALRM, false));
}

/// After an overflow a subscriber receives `Lost` together with the next event.
#[test]
fn a_subscriber_receives_events_again_after_an_overflow() {
    let table = ProcessTable::new();
    let process = spawn(&table.init());
    let signal = Signal::new(40).unwrap();
    process.sigprocmask(SigmaskHow::Block, signal.set()).unwrap();
    let events = table.subscribe(8).unwrap();
    for _ in 0..20 {
        process.send(signal).unwrap();
    }
    let (mut notes, mut seen) = (0, 0);
    for _ in 0..100 {
        match events.recv_timeout(SOON).unwrap().what {
            What::Lost(_) => notes += 1,
            _ => seen += 1,
        }
        process.send(signal).unwrap();
    }
    assert!(seen > 40 && notes < 60, "{seen} events, {notes} notes");
}
