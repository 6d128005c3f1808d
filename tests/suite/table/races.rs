//! Interactions of threads, callbacks and handlers: each test forces the order that matters.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use proctable::abi::{Errno, Pgid, Pid, SaFlags, SigSet, Signal, Time, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Delivery, DriverProcess, Op};
use proctable::drivers::{ScriptedDriver, ThreadDriver};
use proctable::kernel::Config;
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall};
use proctable::table::{
    Image, ManualClock, ProcessTable, SigmaskHow, Spawn, TableConfig, TableLimits, WaitTarget,
};

use super::{SOON, Woken, caught, shell, spawn};

const EXITED: WaitOptions = WaitOptions::EXITED;

/// A `ManualClock`, and a table with it.
fn manual() -> (ManualClock, ProcessTable) {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    (clock, table)
}

/// A table with so many numbers in addition to the init's: a new process gets the number of a
/// reaped one.
fn with_numbers(count: u32) -> ProcessTable {
    let config = Config { pid_max: 300 + count, last_pid: 299, ..Config::default() };
    ProcessTable::with_config(TableConfig::new().kernel(config))
}

/// A driver that calls a closure once, with the first handler.
struct OnDeliver(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl DriverProcess for OnDeliver {
    fn deliver(&self, _: Delivery) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Panics>) {
        panic!("a waker that panics");
    }
}

/// TIME-04: an alarm whose deadline has passed expires with the next fork, also if the fork fails
/// at a limit.
#[test]
fn expired_timers_act_even_if_the_call_fails() {
    let clock = ManualClock::new();
    let limits = TableLimits { processes: 2, ..TableLimits::default() };
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()).limits(limits));
    let driver = Arc::new(ScriptedDriver::default());
    let guest = table.spawn(Spawn::new(Image::new("guest")).driver(driver.clone())).unwrap();
    guest.alarm(1).unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(table.init().fork(), Err(Errno::EAGAIN));
    let killed = WaitStatus::killed(Signal::ALRM, false);
    assert_eq!(driver.seen(), [Op::Terminate(killed)]);
}

/// `reap_due` may get a time ahead of the clock: a wait that it times out does not wait for the
/// clock.
#[test]
fn reap_due_expires_timeouts_ahead_of_the_clock() {
    let (_, table) = manual();
    let child = spawn(&table.init());
    let long = Duration::from_secs(5);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| table.init().wait_timeout(&child, EXITED, long));
        while table.next_deadline().is_none() {
            thread::yield_now();
        }
        table.reap_due(Time(5_000_000_000));
        assert_eq!(waiter.join().unwrap(), Ok(None));
    });
}

/// waitid(2): group 0 is the group of the caller, and exits of its members wake the wait.
#[test]
fn a_wait_for_group_0_is_woken_by_the_own_group() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let child = spawn(&shell);
    let count = Arc::new(Woken::default());
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut wait = pin!(shell.wait_async(WaitTarget::Group(Pgid(0)), EXITED));
    assert!(wait.as_mut().poll(&mut context).is_pending());
    child.exit(4).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Ok(waited)) = wait.as_mut().poll(&mut context) else { panic!("it is ready") };
    assert_eq!((waited.pid, waited.status), (child.pid(), WaitStatus::exited(4)));
}

/// A wait uses the caller's group at the beginning of the wait (WAIT-17).
#[test]
fn a_wait_for_the_own_group_keeps_its_group() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let parent = shell.spawn(Spawn::new(Image::new("p")).own_group()).unwrap();
    let child = spawn(&parent);
    let mut context = Context::from_waker(Waker::noop());
    let mut wait = pin!(parent.wait_async(WaitTarget::OwnGroup, EXITED));
    assert!(wait.as_mut().poll(&mut context).is_pending());
    parent.setpgid(Pid(0), Pgid(shell.pid().0)).unwrap();
    child.exit(1).unwrap();
    assert!(wait.as_mut().poll(&mut context).is_ready());
}

fn wait_for_any() -> Syscall {
    Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::default() }
}

/// TABLE-01: a wait of a callback returns an exit that happens while the callback runs. The
/// callback for that exit runs after it.
#[test]
fn a_wait_in_a_callback_returns_an_exit_that_happens_during_it() {
    let table = ProcessTable::new();
    let (init, shell) = (table.init(), shell(&table));
    let (one, other, theirs) = (spawn(&init), spawn(&init), spawn(&shell));
    let (asks, is_asked) = crossbeam_channel::bounded(0);
    let (tell, resumed) = crossbeam_channel::bounded::<()>(0);
    let count = Arc::new(Woken::default());
    let (first, second, waiter) = (one.pid(), other.pid(), shell.pid());
    let counted = count.clone();
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        if process.pid() != first {
            return;
        }
        let waker = Waker::from(counted.clone());
        let mut context = Context::from_waker(&waker);
        let mut wait = pin!(process.table().init().wait_async(second, EXITED));
        let pending = wait.as_mut().poll(&mut context).is_pending();
        let call = process.table().submit(waiter, wait_for_any());
        asks.send(pending && call.result().is_none()).unwrap();
        resumed.recv().unwrap();
        let ready = wait.as_mut().poll(&mut context).is_ready();
        asks.send(ready && call.result().is_some()).unwrap();
    })));
    let exits = thread::spawn(move || one.exit(0));
    assert_eq!(is_asked.recv_timeout(SOON), Ok(true), "both sleep");
    other.exit(0).unwrap();
    theirs.exit(0).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    tell.send(()).unwrap();
    assert_eq!(is_asked.recv_timeout(SOON), Ok(true), "both have what they waited for");
    exits.join().unwrap().unwrap();
}

/// TABLE-01: the callback for an earlier process of the same number does not release the exit of a
/// later one.
#[test]
fn a_wait_returns_after_the_callback_for_its_own_child() {
    let table = with_numbers(1);
    let child = spawn(&table.init());
    let call = Arc::new(Mutex::new(None));
    let early = Arc::new(AtomicBool::new(false));
    let (made, was_early) = (call.clone(), early.clone());
    table.set_on_process_exit(Some(Arc::new(move |process, status| {
        let table = process.table().clone();
        if status == WaitStatus::exited(1) {
            table.init().wait(process, EXITED).unwrap();
            spawn(&table.init()).exit(2).unwrap();
            // another thread: the calls of this thread return at once
            let waits = thread::spawn(move || table.submit(Pid(1), wait_for_any()));
            *made.lock().unwrap() = Some(waits.join().unwrap());
        } else {
            let call = made.lock().unwrap();
            was_early.store(call.as_ref().unwrap().result().is_some(), Ordering::SeqCst);
        }
    })));
    child.exit(1).unwrap();
    assert!(!early.load(Ordering::SeqCst), "the wait returned before its callback");
    let status = Some(WaitStatus::exited(2));
    let call = call.lock().unwrap().take().unwrap();
    assert_eq!(call.result(), Some(Ok(Ret::Waited { pid: child.pid(), status })));
}

/// SIG-36: a call of a stopped process runs after the handlers that run at the continue, and not
/// inside of them: their return would undo its change of the mask.
#[test]
fn a_call_of_a_stopped_process_comes_after_the_handlers() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.send(Signal::STOP).unwrap();
    let set = Some(Signal::TERM.set());
    let call = Syscall::RtSigprocmask {
        how: proctable::syscall::how::BLOCK,
        set,
        old: Ptr::Valid,
        size: SIGSET_SIZE,
    };
    let mut call = guest.submit(call);
    guest.send(Signal::USR1).unwrap();
    guest.send(Signal::CONT).unwrap();
    assert_eq!(call.result(), None, "the handler runs");
    let in_handler = guest.sigprocmask(SigmaskHow::Block, SigSet::EMPTY).unwrap();
    assert_eq!(in_handler, Signal::USR1.set());
    guest.sigreturn().unwrap();
    assert_eq!(call.wait_timeout(SOON), Some(Ok(Ret::Mask(Some(SigSet::EMPTY)))));
    assert_eq!(guest.sigprocmask(SigmaskHow::Block, SigSet::EMPTY).unwrap(), Signal::TERM.set());
}

/// The same for a call of a handler: it runs inside of that handler, after the handlers of later
/// signals.
#[test]
fn a_call_of_a_stopped_handler_is_made_in_it() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.sigaction(Signal::USR2, caught()).unwrap();
    guest.send(Signal::USR1).unwrap();
    guest.send(Signal::STOP).unwrap();
    let returns = guest.submit(Syscall::RtSigreturn);
    guest.send(Signal::USR2).unwrap();
    guest.send(Signal::CONT).unwrap();
    assert_eq!(returns.result(), None);
    let mask = || guest.sigprocmask(SigmaskHow::Block, SigSet::EMPTY).unwrap();
    assert_eq!(mask(), Signal::USR1.set() | Signal::USR2.set());
    guest.sigreturn().unwrap();
    assert_eq!(returns.result(), Some(Ok(Ret::Never)));
    assert_eq!(mask(), SigSet::EMPTY);
}

/// Two threads make an exec of the same process: the image of each belongs to its own call.
#[test]
fn each_exec_has_its_own_image() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    guest.send(Signal::STOP).unwrap();
    thread::scope(|scope| {
        for program in ["one", "other"] {
            let image = Image { args: vec![program.into()], ..Image::new(program) };
            let guest = &guest;
            scope.spawn(move || guest.exec(image).unwrap());
        }
        // both calls wait for the continue then
        thread::sleep(Duration::from_millis(50));
        guest.send(Signal::CONT).unwrap();
    });
    let image = guest.image().unwrap();
    assert_eq!(image.args.concat(), image.program);
}

/// Any number of calls may wait for a process, each of which wakes the next: the table makes them
/// one after the other, without recursion.
#[test]
fn many_calls_of_a_stopped_process_need_no_stack() {
    let table = ProcessTable::new();
    let (guest, other) = (spawn(&table.init()), spawn(&table.init()));
    guest.send(Signal::STOP).unwrap();
    let kill =
        |signal: Signal| Syscall::Kill { pid: other.pid().0 as i32, sig: signal.number().into() };
    let signals = [Signal::STOP, Signal::CONT].into_iter().cycle().take(20_000);
    let calls: Vec<_> = signals.map(|signal| guest.submit(kill(signal))).collect();
    guest.send(Signal::CONT).unwrap();
    assert!(calls.iter().all(|call| call.result() == Some(Ok(Ret::Value(0)))));
}

/// The handlers of a guest on a thread run one after the other on its stack, however many
/// signals wait.
#[test]
fn many_handlers_need_no_stack() {
    const SIGNALS: usize = 200;
    let table = ProcessTable::new();
    let places = Arc::new(Mutex::new(Vec::new()));
    let noted = places.clone();
    let (ready, is_ready) = crossbeam_channel::bounded::<()>(0);
    let (go, may_go) = crossbeam_channel::bounded::<()>(0);
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
        let handler = move |_: &mut proctable::drivers::Guest, _: &proctable::abi::SigInfo| {
            let local = 0_u8;
            noted.lock().unwrap().push(std::ptr::from_ref(&local) as usize);
        };
        guest.catch(Signal::RTMAX, SaFlags(0), handler).unwrap();
        let blocked = Signal::RTMAX.set();
        guest.sigprocmask(proctable::syscall::how::BLOCK, blocked).unwrap();
        ready.send(()).unwrap();
        may_go.recv().unwrap();
        guest.sigprocmask(proctable::syscall::how::UNBLOCK, blocked).unwrap();
        0
    })
    .unwrap();
    let init = table.init();
    is_ready.recv().unwrap();
    for value in 0..SIGNALS {
        init.sigqueue(guest.pid(), Signal::RTMAX, value as u64).unwrap();
    }
    go.send(()).unwrap();
    init.wait(&guest, EXITED).unwrap();
    let places = places.lock().unwrap();
    assert_eq!(places.len(), SIGNALS);
    let (lowest, highest) = (places.iter().min().unwrap(), places.iter().max().unwrap());
    assert!(highest - lowest < 16 * 1024, "{} bytes", highest - lowest);
}

/// A waker that panics does not prevent the wake-ups of others.
#[test]
fn a_waker_that_panics_affects_no_other_wait() {
    let table = ProcessTable::new();
    let init = table.init();
    let child = spawn(&init);
    let count = Arc::new(Woken::default());
    let (bad, good) = (Waker::from(Arc::new(Panics)), Waker::from(count.clone()));
    let mut waits = [&bad, &good].map(|_| Box::pin(init.wait_async(&child, EXITED)));
    for (wait, waker) in waits.iter_mut().zip([&bad, &good]) {
        assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    child.exit(0).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
}

/// A waker that ends the child in its `Drop`, which wakes the wait that has replaced this waker.
struct Exits(proctable::table::Process);

impl Wake for Exits {
    fn wake(self: Arc<Exits>) {}
}

impl Drop for Exits {
    fn drop(&mut self) {
        self.0.exit(6).unwrap();
    }
}

#[test]
fn a_waker_that_is_replaced_may_call_the_table() {
    let table = ProcessTable::new();
    let child = spawn(&table.init());
    let init = table.init();
    let mut wait = pin!(init.wait_async(&child, EXITED));
    let first = Waker::from(Arc::new(Exits(child.clone())));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
    drop(first);
    let count = Arc::new(Woken::default());
    let second = Waker::from(count.clone());
    let mut context = Context::from_waker(&second);
    let polled = wait.as_mut().poll(&mut context);
    assert!(polled.is_ready() || count.0.load(Ordering::SeqCst) > 0, "it is not lost");
    assert!(polled.is_ready() || wait.as_mut().poll(&mut context).is_ready());
}

/// A fork returns the child that it created, also if another process has its number before the
/// caller sees the result: an alarm expires in the fork, and a driver replaces the child.
#[test]
fn a_fork_returns_its_own_child() {
    let clock = ManualClock::new();
    let numbers = Config { pid_max: 303, last_pid: 299, ..Config::default() };
    let config = TableConfig::new().kernel(numbers).clock(clock.clone());
    let table = ProcessTable::with_config(config);
    let parent = spawn(&table.init());
    let (of, number) = (parent.clone(), Pid(parent.pid().0 + 2));
    let replace = move || {
        of.table().process(number).unwrap().send(Signal::KILL).unwrap();
        of.wait(number, EXITED).unwrap();
        assert_eq!(spawn(&of).pid(), number);
    };
    let driver = Arc::new(OnDeliver(Mutex::new(Some(Box::new(replace)))));
    let other = table.spawn(Spawn::new(Image::new("other")).driver(driver)).unwrap();
    other.sigaction(Signal::ALRM, caught()).unwrap();
    other.alarm(1).unwrap();
    clock.advance(Duration::from_secs(1));
    let child = parent.fork().unwrap();
    assert_eq!((child.pid(), child.info()), (number, None), "that number is another's");
    assert!(table.process(number).is_some());
}

/// A reported exit of a process in a call with a timeout removes the timeout.
#[test]
fn a_reported_exit_cancels_the_timeout() {
    let (clock, table) = manual();
    let spawning = Spawn::new(Image::new("real")).authority(Authority::Host);
    let real = table.spawn(spawning).unwrap();
    let timeout = Some(proctable::abi::Timespec { sec: 1, nsec: 0 });
    let (set, info, size) = (Signal::USR1.set(), Ptr::Null, SIGSET_SIZE);
    let call = real.submit(Syscall::RtSigtimedwait { set, info, timeout, size });
    real.report(WaitStatus::exited(3));
    assert_eq!(call.result(), Some(Err(Errno::ESRCH)));
    assert_eq!(table.init().wait(&real, EXITED).unwrap().status, WaitStatus::exited(3));
    assert_eq!(table.next_deadline(), None);
    clock.advance(Duration::from_secs(2));
    assert_eq!(table.reap_due(table.now()), 0);
}

/// FORK-28: the exit of a vfork child releases its parent, also if a driver reports the exit.
#[test]
fn a_reported_exit_releases_the_vfork_parent() {
    let table = ProcessTable::new();
    let parent = spawn(&table.init());
    let call = parent.submit(Syscall::Vfork);
    let child = parent.children()[0].pid;
    assert_eq!(call.result(), None);
    table.process(child).unwrap().report(WaitStatus::exited(5));
    assert_eq!(call.result(), Some(Ok(Ret::Value(child.0.into()))));
    assert_eq!(parent.wait(child, EXITED).unwrap().status, WaitStatus::exited(5));
}

/// If a handler calls exec, the calls that it had interrupted do not return. The calls that waited
/// for them run, and later calls get their own results.
#[test]
fn exec_in_a_handler_leaves_no_handler_to_return_from() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    let child = spawn(&guest);
    guest.sigaction(Signal::USR1, caught()).unwrap();
    let interrupted = guest.submit(wait_for_any());
    let waits = guest.submit(Syscall::Getppid);
    guest.send(Signal::USR1).unwrap();
    assert_eq!((interrupted.result(), waits.result()), (None, None), "the handler runs");
    guest.exec(Image::new("other")).unwrap();
    assert_eq!(interrupted.result(), Some(Err(Errno::ESRCH)));
    assert_eq!(waits.result(), Some(Ok(Ret::Value(1))));
    let later = guest.submit(wait_for_any());
    assert_eq!(later.result(), None);
    child.exit(3).unwrap();
    let status = Some(WaitStatus::exited(3));
    assert_eq!(later.result(), Some(Ok(Ret::Waited { pid: child.pid(), status })));
}

/// Several tasks may poll a call in turn: it wakes the last one, and its result stays.
#[test]
fn a_call_wakes_the_waker_of_its_last_poll() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    let child = spawn(&guest);
    let counts = [Arc::new(Woken::default()), Arc::new(Woken::default())];
    let wakers = counts.clone().map(Waker::from);
    let mut call = pin!(guest.submit(wait_for_any()));
    for waker in &wakers {
        assert!(call.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    child.exit(0).unwrap();
    assert_eq!(counts.map(|count| count.0.load(Ordering::SeqCst)), [0, 1]);
    for waker in &wakers {
        assert!(call.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
    }
}

/// WAIT-18, FORK-28: an event that ends the sleep of a stopped process returns its call after the
/// continue, also if a driver reports the stop and the continue.
#[test]
fn a_reported_stop_does_not_lose_the_event_of_a_blocked_call() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let child = spawn(&parent);
    for call in [wait_for_any(), Syscall::Vfork] {
        let sleeping = parent.submit(call.clone());
        let youngest = table.process(*table.pids().iter().max().unwrap()).unwrap();
        let ends = if call == Syscall::Vfork { &youngest } else { &child };
        parent.report(WaitStatus::stopped(Signal::STOP));
        ends.exit(3).unwrap();
        assert_eq!(sleeping.result(), None);
        parent.report(WaitStatus::CONTINUED);
        assert!(sleeping.result().is_some(), "{call:?}");
    }
}

/// The call of a handler waits for a continue. A call of another thread, which waits for the
/// handler, is before it in the queue.
#[test]
fn a_handlers_call_overtakes_those_that_wait_for_the_handler() {
    let table = ProcessTable::new();
    let process = shell(&table);
    process.sigaction(Signal::USR1, caught()).unwrap();
    let interrupted = process.submit(Syscall::Pause);
    let after = process.submit(Syscall::Getpid);
    process.send(Signal::USR1).unwrap();
    process.send(Signal::STOP).unwrap();
    let own = process.submit(Syscall::Getppid);
    process.send(Signal::CONT).unwrap();
    assert_eq!(own.result(), Some(Ok(Ret::Value(1))));
    assert_eq!((interrupted.result(), after.result()), (None, None));
    process.sigreturn().unwrap();
    assert_eq!(interrupted.result(), Some(Err(Errno::EINTR)));
    assert!(after.result().is_some());
}
