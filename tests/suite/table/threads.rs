//! Guests with threads: calls, signals, exits, and drivers.
//!
//! Long because threads of the table, of drivers and with safe points share the set-up.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use proctable::abi::{Errno, Pid, SaFlags, SigAction, SigSet, Signal, WaitOptions, WaitStatus};
use proctable::driver::Op;
use proctable::drivers::{Expected, Guest, ScriptedDriver, ThreadDriver};
use proctable::kernel::{Choose, RunState, Seeded};
use proctable::syscall::{Ptr, Ret, Syscall, clone, how};
use proctable::table::{
    Call, CallProgress, Checkpoint, Clock, HandlerDelivery, Image, ManualClock, Process,
    ProcessTable, SigmaskHow, Spawn, StaleDelivery, TableConfig, TableLimits, Thread, TimerMode,
    What,
};

use super::{SOON, caught, killed, recorded, shell, spawn};

const EXITED: WaitOptions = WaitOptions::EXITED;

/// A process with two threads, and its driver.
fn two_threads(table: &ProcessTable) -> (Process, [Thread; 2], Arc<ScriptedDriver>) {
    let (process, driver) = recorded(&table.init());
    let first = process.main_thread().unwrap();
    let second = first.spawn_thread().unwrap();
    (process, [first, second], driver)
}

/// The same, with safe points.
fn with_safe_points(table: &ProcessTable) -> (Process, [Thread; 2], Arc<ScriptedDriver>) {
    let driver = Arc::new(ScriptedDriver::default());
    let spawn = Spawn::new(Image::new("loop")).safe_points().driver(driver.clone());
    let process = table.spawn(spawn).unwrap();
    let first = process.main_thread().unwrap();
    let second = first.spawn_thread().unwrap();
    (process, [first, second], driver)
}

fn wait_for(thread: &Thread, pid: i32) -> Call {
    let options = WaitOptions::default();
    thread.submit(Syscall::Wait4 { pid, status: Ptr::Valid, options })
}

fn run_of(thread: &Thread) -> RunState {
    thread.info().unwrap().run
}

/// Sends a signal to one thread.
fn tgkill(table: &ProcessTable, thread: &Thread, signal: Signal) {
    let (tgid, tid) = (thread.pid().0 as i32, thread.tid().0 as i32);
    let sig = signal.number().into();
    table.init().syscall(Syscall::Tgkill { tgid, tid, sig }).unwrap();
}

/// The signals and threads of the handlers that the driver ran.
fn delivered_to(driver: &ScriptedDriver) -> Vec<(Signal, Pid)> {
    let deliveries = |op: Op| match op {
        Op::Deliver(delivery) => Some((delivery.info.signal, delivery.tid)),
        _ => None,
    };
    driver.seen().into_iter().filter_map(deliveries).collect()
}

/// SIG-26, TG-28: the signal does not wake the sleeping thread, which blocks it.
#[test]
fn a_signal_of_the_process_runs_in_a_thread_that_does_not_block_it() {
    let table = ProcessTable::new();
    let (process, [first, second], driver) = two_threads(&table);
    process.sigaction(Signal::USR1, caught()).unwrap();
    first.sigprocmask(SigmaskHow::Block, Signal::USR1.set()).unwrap();
    spawn(&process);
    let waits = wait_for(&first, -1);
    table.init().kill(process.pid(), Signal::USR1).unwrap();
    assert_eq!(delivered_to(&driver), [(Signal::USR1, second.tid())]);
    assert_eq!((waits.result(), run_of(&first)), (None, RunState::Blocked));
    second.sigreturn().unwrap();
    assert_eq!(waits.result(), None);
}

/// SIG-22: a signal to one thread interrupts only that thread.
#[test]
fn tgkill_interrupts_the_thread_that_it_names() {
    let table = ProcessTable::new();
    let (process, [first, second], driver) = two_threads(&table);
    process.sigaction(Signal::USR1, caught()).unwrap();
    let (one, two) = (first.submit(Syscall::Pause), second.submit(Syscall::Pause));
    tgkill(&table, &second, Signal::USR1);
    assert_eq!(delivered_to(&driver), [(Signal::USR1, second.tid())]);
    second.sigreturn().unwrap();
    assert_eq!((one.result(), two.result()), (None, Some(Err(Errno::EINTR))));
    // the other thread makes calls as before
    second.tgkill(&first, Signal::USR1).unwrap();
    first.sigreturn().unwrap();
    assert_eq!(one.result(), Some(Err(Errno::EINTR)));
}

/// Each of two threads is in a wait, and returns its own child.
#[test]
fn two_threads_wait_for_a_child_each() {
    let table = ProcessTable::new();
    let (process, threads, _) = two_threads(&table);
    let children = [spawn(&process), spawn(&process)];
    let waits: Vec<_> =
        (0..2).map(|nth| wait_for(&threads[nth], children[nth].pid().0 as i32)).collect();
    children[1].exit(1).unwrap();
    assert_eq!(waits[0].result(), None);
    let ended = |nth: usize| {
        let status = Some(WaitStatus::exited(nth as i32));
        Some(Ok(Ret::Waited { pid: children[nth].pid(), status }))
    };
    assert_eq!(waits[1].result(), ended(1));
    children[0].exit(0).unwrap();
    assert_eq!(waits[0].result(), ended(0));
}

/// SIG-50: a thread in sigtimedwait takes the signal, while another thread runs.
#[test]
fn one_thread_sleeps_in_sigwait_while_another_runs() {
    let table = ProcessTable::new();
    let (process, [first, second], driver) = two_threads(&table);
    let set = Signal::TERM.set();
    for thread in [&first, &second] {
        thread.sigprocmask(SigmaskHow::Block, set).unwrap();
    }
    thread::scope(|scope| {
        let waiter = scope.spawn(|| second.sigtimedwait(set, None).unwrap().signal);
        while run_of(&second) != RunState::Blocked {
            thread::yield_now();
        }
        assert_eq!(first.syscall(Syscall::Gettid), Ok(Ret::Value(first.tid().0.into())));
        assert_eq!(first.syscall(Syscall::Getpid), second.process().syscall(Syscall::Getpid));
        table.init().kill(process.pid(), Signal::TERM).unwrap();
        assert_eq!(waiter.join().unwrap(), Signal::TERM);
    });
    assert_eq!(driver.seen(), []);
}

/// THR-04, TG-89: a process lives after the exit of its leader; its status is that of the last
/// thread.
#[test]
fn a_process_ends_with_its_last_thread_and_its_status() {
    let table = ProcessTable::new();
    let events = table.subscribe(16).unwrap();
    let (process, [first, second], driver) = two_threads(&table);
    first.exit(1).unwrap();
    assert_eq!((first.is_alive(), first.info()), (false, None));
    assert_eq!((process.exit_status(), table.counts().running), (None, 2));
    assert_eq!(process.info().unwrap().run, RunState::User);
    let seen: Vec<_> =
        table.threads(process.pid()).iter().map(|info| (info.tid, info.run)).collect();
    assert_eq!(seen, [(first.tid(), RunState::Zombie), (second.tid(), RunState::User)]);
    assert_eq!(process.threads(), std::slice::from_ref(&second));
    // the remaining thread makes the calls of the process
    assert_eq!(process.syscall(Syscall::Gettid), Ok(Ret::Value(second.tid().0.into())));
    assert_eq!(
        table.syscall(process.pid(), Syscall::Gettid),
        Ok(Ret::Value(second.tid().0.into()))
    );
    assert_eq!(process.main_thread(), Some(second.clone()));
    // and the calls of the runtime on its behalf
    let child = process.spawn(Spawn::fork()).unwrap();
    assert_eq!(child.syscall(Syscall::Getppid), Ok(Ret::Value(process.pid().0.into())));
    child.exit(0).unwrap();
    assert_eq!(process.wait(&child, EXITED).unwrap().pid, child.pid());
    second.exit(7).unwrap();
    assert_eq!(table.init().wait(&process, EXITED).unwrap().status, WaitStatus::exited(7));
    let pid = process.pid();
    let of_process = events.try_iter().filter(|event| event.pid == pid);
    let of_threads: Vec<_> = of_process.map(|event| (event.pid, event.tid, event.what)).collect();
    assert_eq!(
        of_threads,
        [
            (pid, pid, What::Created),
            (pid, second.tid(), What::ThreadCreated),
            (pid, pid, What::ThreadEnded),
            (pid, second.tid(), What::ThreadEnded),
            (pid, pid, What::Exited(WaitStatus::exited(7))),
            (pid, pid, What::Reaped),
        ]
    );
    let ended = [Op::EndThread(pid), Op::EndThread(second.tid())];
    assert_eq!(driver.seen(), [&ended[..], &[Op::Terminate(WaitStatus::exited(7))]].concat());
}

/// THR-03, TG-84: each thread in a call wakes, and its call returns ESRCH.
#[test]
fn exit_group_wakes_other_threads_from_their_calls() {
    let table = ProcessTable::new();
    let (process, [first, second], _) = two_threads(&table);
    spawn(&process);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| second.waitpid(-1, WaitOptions::default()));
        while run_of(&second) != RunState::Blocked {
            thread::yield_now();
        }
        first.syscall(Syscall::ExitGroup(4)).unwrap();
        assert_eq!(sleeper.join().unwrap(), Err(Errno::ESRCH));
    });
    assert_eq!(process.exit_status(), Some(WaitStatus::exited(4)));
    assert_eq!(second.syscall(Syscall::Gettid), Err(Errno::ESRCH));
}

/// EXEC-11: the other threads end and their calls return, the caller has the number of the leader,
/// and handles of the old leader refer to no thread.
#[test]
fn exec_by_a_thread_other_than_the_leader_ends_the_other_threads() {
    let table = ProcessTable::new();
    let (process, [first, second], driver) = two_threads(&table);
    let third = first.spawn_thread().unwrap();
    let (waits, sleeps) = (third.submit(Syscall::Pause), first.submit(Syscall::Pause));
    let old = second.tid();
    thread::scope(|scope| {
        // a join of a thread continues when the thread gets another number
        let joins = scope.spawn(|| second.join());
        let path = "next".into();
        assert_eq!(second.syscall(Syscall::Execve { path, error: None }), Ok(Ret::Value(0)));
        assert_eq!(
            (waits.result(), sleeps.result()),
            (Some(Err(Errno::ESRCH)), Some(Err(Errno::ESRCH)))
        );
        assert_eq!(process.image().unwrap().program, "next");
        assert_eq!(second.tid(), process.pid());
        assert_eq!(second.syscall(Syscall::Gettid), Ok(Ret::Value(process.pid().0.into())));
        assert_eq!((first.is_alive(), third.is_alive()), (false, false));
        assert_eq!(first.syscall(Syscall::Getpid), Err(Errno::ESRCH));
        assert_eq!((table.thread(old), table.thread(process.pid())), (None, Some(second.clone())));
        // the driver ends the other threads, and not the caller of execve
        let mut ended = driver.seen();
        ended.sort_by_key(|op| format!("{op:?}"));
        assert_eq!(ended, [Op::EndThread(process.pid()), Op::EndThread(third.tid())]);
        second.exit(2).unwrap();
        joins.join().unwrap();
    });
    assert_eq!(process.exit_status(), Some(WaitStatus::exited(2)));
}

/// EXEC-12, TG-110: execve does not wait for a leader that has ended.
#[test]
fn exec_by_the_last_thread_takes_the_number_of_a_leader_that_has_ended() {
    let table = ProcessTable::new();
    let (process, [first, second], driver) = two_threads(&table);
    first.exit(0).unwrap();
    process.exec(Image::new("next")).unwrap();
    assert_eq!(process.image().unwrap().program, "next");
    assert_eq!((second.tid(), second.is_alive()), (process.pid(), true));
    assert_eq!(process.main_thread(), Some(second.clone()));
    assert_eq!(second.syscall(Syscall::Gettid), Ok(Ret::Value(process.pid().0.into())));
    assert_eq!(driver.seen(), [Op::EndThread(process.pid())]);
    second.exit(1).unwrap();
    assert_eq!(process.exit_status(), Some(WaitStatus::exited(1)));
}

/// The process has the new image when the execve of a leader with threads has returned.
#[test]
fn exec_by_a_leader_with_threads_changes_its_image() {
    let table = ProcessTable::new();
    let (process, [first, second], _) = two_threads(&table);
    let mut image = Image::new("next");
    image.args.push("arg".into());
    process.exec(image.clone()).unwrap();
    assert_eq!(*process.image().unwrap(), image);
    assert_eq!((first.is_alive(), second.is_alive()), (true, false));
    assert_eq!(process.threads(), [first]);
}

/// A later thread may have the same number, and a handle does not refer to it.
#[test]
fn a_handle_of_an_ended_thread_refers_to_no_thread() {
    let mut config = TableConfig::new();
    let kernel = proctable::kernel::Config { pid_max: 301, last_pid: 298, ..Default::default() };
    config = config.kernel(kernel);
    let table = ProcessTable::with_config(config);
    let process = spawn(&table.init());
    let first = process.main_thread().unwrap();
    let second = first.spawn_thread().unwrap();
    second.exit(0).unwrap();
    let third = first.spawn_thread().unwrap();
    assert_eq!((second.tid(), third.tid()), (Pid(300), Pid(300)));
    assert_ne!(second, third);
    assert_eq!(second.syscall(Syscall::Gettid), Err(Errno::ESRCH));
    assert_eq!((second.info(), second.checkpoint()), (None, Checkpoint::Ended));
    assert_eq!(first.tgkill(&second, Signal::KILL), Err(Errno::ESRCH));
    assert!(third.is_alive());
}

/// The limit on all processes counts threads, as the pids controller does.
#[test]
fn threads_count_towards_the_limit_of_a_table() {
    let limits = TableLimits { processes: 3, ..TableLimits::default() };
    let table = ProcessTable::with_config(TableConfig::new().limits(limits));
    let process = spawn(&table.init());
    let second = process.main_thread().unwrap().spawn_thread().unwrap();
    assert_eq!(second.spawn_thread(), Err(Errno::EAGAIN));
    assert!(process.spawn(Spawn::fork()).is_err());
    second.exit(0).unwrap();
    second.join();
    assert!(process.spawn(Spawn::fork()).is_ok());
}

/// TG-11: the driver clears the thread's number in memory before the operation `EndThread`.
#[test]
fn a_driver_gets_the_address_of_clear_child_tid() {
    let table = ProcessTable::new();
    let driver = Arc::new(ScriptedDriver::default());
    let process = table.spawn(Spawn::new(Image::new("g")).driver(driver.clone())).unwrap();
    let flags = clone::VM | clone::SIGHAND | clone::THREAD | clone::CHILD_CLEARTID;
    let (parent_tid, child_tid) = (0, 0x40);
    let call = Syscall::Clone { flags, clone3: None, parent_tid, child_tid };
    let tid = Pid(process.syscall(call).unwrap().value() as u32);
    table.thread(tid).unwrap().exit(0).unwrap();
    assert_eq!(driver.seen(), [Op::ClearTid { tid, address: 0x40 }, Op::EndThread(tid)]);
}

/// TG-125 to TG-129: a process of three threads stops when all threads have stopped, and none of
/// them makes a call until the continue; then each makes its own.
#[test]
fn calls_of_three_threads_of_a_stopped_process_run_after_the_continue() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let (process, driver) = recorded(&shell);
    let first = process.main_thread().unwrap();
    let threads = [first.clone(), first.spawn_thread().unwrap(), first.spawn_thread().unwrap()];
    let asleep = threads[2].submit(Syscall::Pause);
    process.send(Signal::STOP).unwrap();
    assert_eq!(driver.seen(), [Op::Stop(Signal::STOP)]);
    assert!(threads.iter().all(|thread| run_of(thread) == RunState::Stopped));
    assert!(threads.iter().all(|thread| thread.checkpoint() == Checkpoint::Stopped));
    let calls: Vec<_> = threads[..2].iter().map(|thread| thread.submit(Syscall::Gettid)).collect();
    assert!(calls.iter().all(|call| call.result().is_none()));
    process.send(Signal::CONT).unwrap();
    assert_eq!(driver.seen(), [Op::Stop(Signal::STOP), Op::Resume]);
    for (call, thread) in calls.iter().zip(&threads) {
        assert_eq!(call.result(), Some(Ok(Ret::Value(thread.tid().0.into()))));
    }
    assert_eq!(asleep.result(), None, "SIG-45: it is made again");
}

/// JOB-17, JOB-13: SIGCONT cancels a stop that cannot complete, and the threads that had stopped
/// continue.
#[test]
fn a_cancelled_stop_releases_the_calls_of_a_thread_that_had_stopped() {
    let table = ProcessTable::new();
    let (process, [first, second], _) = two_threads(&table);
    // a thread in vfork cannot stop
    let vfork = first.submit(Syscall::Vfork);
    tgkill(&table, &second, Signal::STOP);
    assert_eq!((run_of(&first), run_of(&second)), (RunState::Vfork, RunState::Stopped));
    assert_eq!(table.counts().stopped, 0);
    let call = second.submit(Syscall::Gettid);
    assert_eq!(call.result(), None);
    process.send(Signal::CONT).unwrap();
    assert_eq!(call.result(), Some(Ok(Ret::Value(second.tid().0.into()))));
    assert_eq!(vfork.result(), None);
}

/// A complete delivery: the handler has its own mask, and the interrupted call fails after it.
#[test]
fn a_handler_is_taken_run_and_ended_at_a_safe_point() {
    let table = ProcessTable::new();
    let (process, [first, second], driver) = with_safe_points(&table);
    process.sigaction(Signal::USR1, caught()).unwrap();
    let mut pauses = second.submit(Syscall::Pause);
    first.sigprocmask(SigmaskHow::Block, SigSet::FULL).unwrap();
    assert_eq!((second.checkpoint(), second.begin_delivery()), (Checkpoint::GoOn, None));
    table.init().kill(process.pid(), Signal::USR1).unwrap();
    assert_eq!(driver.seen(), [Op::Interrupt(second.tid())]);
    assert_eq!(pauses.wait_or_deliver(), CallProgress::Deliver);
    assert_eq!((first.checkpoint(), second.checkpoint()), (Checkpoint::GoOn, Checkpoint::Deliver));
    let begun = second.begin_delivery().unwrap();
    assert_eq!((begun.handler(), begun.tid()), (0x1000, second.tid()));
    assert_eq!((begun.info().signal, begun.info().pid), (Signal::USR1, Pid(1)));
    assert_eq!(second.info().unwrap().blocked, Signal::USR1.set());
    assert_eq!(second.checkpoint(), Checkpoint::GoOn);
    // a call of the handler itself
    assert_eq!(second.syscall(Syscall::Gettid), Ok(Ret::Value(second.tid().0.into())));
    assert_eq!(pauses.result(), None);
    assert!(second.end_delivery(&begun).unwrap().wait().is_ok());
    assert_eq!(pauses.wait_or_deliver(), CallProgress::Returned(Err(Errno::EINTR)));
    assert_eq!(second.info().unwrap().blocked, SigSet::EMPTY);
}

/// The next call of a thread runs after the handlers that were entered before, with the mask of the
/// thread.
#[test]
fn a_call_comes_after_the_handlers_that_were_entered_before_it() {
    let table = ProcessTable::new();
    let (process, [first, second], _) = with_safe_points(&table);
    process.sigaction(Signal::USR1, caught()).unwrap();
    first.sigprocmask(SigmaskHow::Block, SigSet::FULL).unwrap();
    table.init().kill(process.pid(), Signal::USR1).unwrap();
    let (how, set, old, size) = (how::SETMASK, Some(Signal::HUP.set()), Ptr::Valid, 8);
    let mut masks = second.submit(Syscall::RtSigprocmask { how, set, old, size });
    assert_eq!(masks.wait_or_deliver(), CallProgress::Deliver);
    let begun = second.begin_delivery().unwrap();
    assert_eq!(masks.result(), None);
    second.end_delivery(&begun).unwrap().wait().unwrap();
    assert_eq!(masks.result(), Some(Ok(Ret::Mask(Some(SigSet::EMPTY)))));
    assert_eq!(second.info().unwrap().blocked, Signal::HUP.set());
}

/// SIG-36: of handlers that were set up together the last one runs first, each may make calls, and
/// a handler that is entered while another one runs returns first.
#[test]
fn handlers_at_safe_points_are_nested_as_the_model_enters_them() {
    let table = ProcessTable::new();
    let process = table.spawn(Spawn::new(Image::new("loop")).safe_points()).unwrap();
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP] {
        process.sigaction(signal, caught()).unwrap();
    }
    let set = Signal::USR1.set().with(Signal::USR2);
    process.sigprocmask(SigmaskHow::Block, set).unwrap();
    for signal in [Signal::USR1, Signal::USR2] {
        table.init().kill(process.pid(), signal).unwrap();
    }
    let thread = process.main_thread().unwrap();
    let mut order = Vec::new();
    let (how, set, old, size) = (how::UNBLOCK, Some(set), Ptr::Null, 8);
    let call = Syscall::RtSigprocmask { how, set, old, size };
    let (of, init) = (thread.clone(), table.init());
    let result = thread.syscall_with(call, &mut |begun| {
        order.push((begun.info().signal, "begins"));
        assert_eq!(of.syscall(Syscall::Getpid), Ok(Ret::Value(of.pid().0.into())));
        if begun.info().signal == Signal::USR2 {
            init.kill(of.pid(), Signal::HUP).unwrap();
        }
    });
    assert!(result.is_ok(), "{result:?}");
    let signals: Vec<_> = order.iter().map(|(signal, _)| *signal).collect();
    assert_eq!(signals, [Signal::USR2, Signal::HUP, Signal::USR1]);
    assert_eq!(process.view().unwrap().blocked, SigSet::EMPTY);
    assert_eq!(thread.checkpoint(), Checkpoint::GoOn);
}

/// SIG-44: with SA_RESTART the call continues after any number of handlers.
#[test]
fn a_restarted_call_continues_after_its_handlers() {
    let table = ProcessTable::new();
    let (process, [_, second], _) = with_safe_points(&table);
    let action = SigAction { flags: SaFlags::RESTART, ..caught() };
    process.sigaction(Signal::USR1, action).unwrap();
    let child = spawn(&process);
    let mut waits = wait_for(&second, -1);
    for _ in 0..3 {
        tgkill(&table, &second, Signal::USR1);
        assert_eq!(waits.wait_or_deliver(), CallProgress::Deliver);
        second.run_handlers(&mut |_| {});
        assert_eq!(waits.result(), None);
    }
    child.exit(0).unwrap();
    assert!(matches!(waits.wait_or_deliver(), CallProgress::Returned(Ok(Ret::Waited { .. }))));
}

/// An executor: a handler wakes it, and it polls again.
#[test]
fn a_future_of_a_call_is_ready_for_a_handler() {
    let table = ProcessTable::new();
    let (process, [_, second], _) = with_safe_points(&table);
    process.sigaction(Signal::USR1, caught()).unwrap();
    let mut pauses = second.submit(Syscall::Pause);
    let woken = Arc::new(super::Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    assert_eq!(pauses.poll_or_deliver(&mut context), Poll::Pending);
    tgkill(&table, &second, Signal::USR1);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(pauses.poll_or_deliver(&mut context), Poll::Ready(CallProgress::Deliver));
    second.run_handlers(&mut |_| {});
    let failed = CallProgress::Returned(Err(Errno::EINTR));
    assert_eq!(pauses.poll_or_deliver(&mut context), Poll::Ready(failed));
}

/// The return of a delivery is refused, and changes nothing, if it has returned, or its program or
/// its thread is gone.
#[test]
fn a_stale_delivery_is_refused() {
    let table = ProcessTable::new();
    let (process, [first, second], _) = with_safe_points(&table);
    let third = first.spawn_thread().unwrap();
    process.sigaction(Signal::USR1, SigAction { flags: SaFlags::NODEFER, ..caught() }).unwrap();
    let begin = |thread: &Thread| {
        tgkill(&table, thread, Signal::USR1);
        thread.begin_delivery().unwrap()
    };
    let stale = |result: Result<Call, StaleDelivery>| result.err() == Some(StaleDelivery);
    // a delivery of another thread, or of another process
    let outer = begin(&second);
    assert!(stale(first.end_delivery(&outer)) && stale(table.init().end_delivery(&outer)));
    // not the innermost
    let inner = begin(&second);
    assert!(stale(second.end_delivery(&outer)));
    second.end_delivery(&inner).unwrap().wait().unwrap();
    // twice
    assert!(stale(second.end_delivery(&inner)));
    process.end_delivery(&outer).unwrap().wait().unwrap();
    assert!(stale(process.end_delivery(&outer)));
    // the thread ended
    let of_third = begin(&third);
    third.exit(0).unwrap();
    assert!(stale(third.end_delivery(&of_third)));
    // another program
    let (of_first, of_second) = (begin(&first), begin(&second));
    second.syscall(Syscall::Execve { path: "next".into(), error: None }).unwrap();
    assert!(stale(second.end_delivery(&of_second)) && stale(first.end_delivery(&of_first)));
    assert_eq!(process.exit_status(), None, "SIG-47: no call returned from no handler");
    // a return that waits for the continue of the process is accepted once
    process.sigaction(Signal::USR1, caught()).unwrap();
    let begun = begin(&second);
    process.send(Signal::STOP).unwrap();
    let returns = second.end_delivery(&begun).unwrap();
    assert_eq!(returns.result(), None);
    assert!(stale(second.end_delivery(&begun)));
    process.send(Signal::CONT).unwrap();
    assert!(returns.result().is_some());
    assert_eq!(process.exit_status(), None);
}

/// A thread takes a handler that was entered before a stop when the process continues.
#[test]
fn a_stopped_thread_takes_no_handler() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let process = shell.spawn(Spawn::new(Image::new("loop")).safe_points()).unwrap();
    let thread = process.main_thread().unwrap();
    process.sigaction(Signal::USR1, caught()).unwrap();
    shell.kill(process.pid(), Signal::USR1).unwrap();
    shell.kill(process.pid(), Signal::STOP).unwrap();
    assert_eq!((thread.checkpoint(), thread.begin_delivery()), (Checkpoint::Stopped, None));
    let mut call = thread.submit(Syscall::Gettid);
    shell.kill(process.pid(), Signal::CONT).unwrap();
    assert_eq!(thread.checkpoint(), Checkpoint::Deliver);
    assert_eq!(call.wait_or_deliver(), CallProgress::Deliver);
    thread.run_handlers(&mut |_| {});
    assert!(matches!(call.wait_or_deliver(), CallProgress::Returned(Ok(_))));
}

/// An engine without preemption: the driver gets `Interrupt`, and the engine runs the handler at
/// the next turn of the thread.
#[test]
fn a_driver_with_safe_points_runs_handlers_at_the_next_turn_of_their_thread() {
    let table = ProcessTable::new();
    let pid = Pid(2);
    let driver = Arc::new(ScriptedDriver::new([
        Expected::interrupt(Pid(3)),
        Expected::interrupt(pid),
        Expected::interrupt(Pid(3)),
        Expected::end_thread(Pid(3)),
        Expected::terminate(killed(Signal::TERM)),
    ]));
    let spawn = Spawn::new(Image::new("loop")).safe_points().driver(driver.clone());
    let process = table.spawn(spawn).unwrap();
    let first = process.main_thread().unwrap();
    let second = first.spawn_thread().unwrap();
    process.sigaction(Signal::USR1, caught()).unwrap();
    let mut log = Vec::new();
    for target in [&second, &first, &second] {
        tgkill(&table, target, Signal::USR1);
        for (turn, thread) in [&first, &second].into_iter().enumerate() {
            thread.run_handlers(&mut |begun| log.push((turn, begun.tid())));
        }
    }
    assert_eq!(log, [(1, second.tid()), (0, first.tid()), (1, second.tid())]);
    second.exit(0).unwrap();
    process.send(Signal::TERM).unwrap();
    driver.verify().unwrap();
}

/// TABLE-01: a thread can take a handler of SIGCHLD after the callback for the child has run, and
/// later calls wait for the handler.
#[test]
fn a_sigchld_handler_runs_after_the_exit_callback() {
    let table = ProcessTable::new();
    let process = table.spawn(Spawn::new(Image::new("loop")).safe_points()).unwrap();
    let thread = process.main_thread().unwrap();
    process.sigaction(Signal::CHLD, caught()).unwrap();
    let child = spawn(&process);
    let seen: Arc<Mutex<Vec<Checkpoint>>> = Arc::default();
    let (noted, of) = (seen.clone(), thread.clone());
    table.set_on_process_exit(Some(Arc::new(move |_, _| {
        noted.lock().unwrap().push(of.checkpoint());
    })));
    child.exit(0).unwrap();
    assert_eq!(*seen.lock().unwrap(), [Checkpoint::GoOn]);
    assert_eq!(thread.checkpoint(), Checkpoint::Deliver);
    let mut reaped = None;
    thread.run_handlers(&mut |_| reaped = thread.waitpid(-1, WaitOptions::NOHANG).unwrap());
    assert_eq!(reaped, Some((child.pid(), WaitStatus::exited(0))));
    table.set_on_process_exit(None);
}

/// A thread of a cooperative engine, which a random test schedules.
struct Coroutine {
    thread: Thread,
    /// The mask of its code outside of handlers.
    mask: SigSet,
    /// The handlers that it runs, the innermost last.
    running: Vec<HandlerDelivery>,
    /// A call of the code outside of handlers, and the mask that it sets.
    call: Option<(Call, Option<SigSet>)>,
    /// The pending returns of handlers, and the number of handlers below each.
    returning: Vec<(usize, Call)>,
}

impl Coroutine {
    fn new(thread: Thread, mask: SigSet) -> Coroutine {
        Coroutine { thread, mask, running: Vec::new(), call: None, returning: Vec::new() }
    }

    /// Removes calls and returns that have ended since the last turn.
    fn look(&mut self) {
        self.returning.retain(|(_, call)| call.result().is_none());
        let returned = |(call, _): &mut (Call, Option<SigSet>)| call.result().is_some();
        if let Some((call, mask)) = self.call.take_if(returned)
            && call.result() != Some(Err(Errno::ESRCH))
        {
            self.mask = mask.unwrap_or(self.mask);
        }
    }

    /// Whether the thread may run its own code.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.returning.is_empty() && self.call.is_none()
    }

    fn begin(&mut self) -> bool {
        let begun = self.thread.begin_delivery();
        self.running.extend(begun);
        begun.is_some()
    }

    fn end(&mut self) {
        let below = self.running.len();
        // a handler returns after the handlers above it
        if self.returning.iter().all(|(depth, _)| *depth < below)
            && let Some(begun) = self.running.pop()
        {
            let returns = self.thread.end_delivery(&begun);
            self.returning.push((below - 1, returns.expect("it runs")));
            assert_eq!(self.thread.end_delivery(&begun).err(), Some(StaleDelivery));
        }
    }
}

/// With any order of signals, stops, calls, new and ending threads, and execs, each call returns,
/// no handler is lost or returns twice, and the mask always belongs to the code that runs.
// Long because the guest that takes the turns is part of the scenario.
#[test]
fn random_schedules_of_cooperative_threads_lose_no_event() {
    let signals = [Signal::USR1, Signal::USR2, Signal::CHLD, Signal::WINCH];
    for seed in 1..=200 {
        let mut choose = Seeded::new(seed);
        let mut pick = move |of: usize| choose.choose(of);
        let table = ProcessTable::new();
        let shell = shell(&table);
        let process = shell.spawn(Spawn::new(Image::new("loop")).safe_points()).unwrap();
        let action = |nth: usize| SigAction {
            flags: [SaFlags(0), SaFlags::RESTART, SaFlags::NODEFER][nth % 3],
            ..caught()
        };
        let catch = |process: &Thread, nth: usize| {
            for (signal, nth) in signals.into_iter().zip(nth..) {
                let (sig, act) = (signal.number().into(), Some(action(nth)));
                let call = Syscall::RtSigaction { sig, act, old: Ptr::Null, size: 8 };
                drop(process.submit(call));
            }
        };
        let first = process.main_thread().unwrap();
        catch(&first, 0);
        let mut threads = vec![Coroutine::new(first, SigSet::EMPTY)];
        for _ in 0..150 {
            let nth = pick(threads.len());
            let signal = signals[pick(signals.len())];
            let len = threads.len();
            let coroutine = &mut threads[nth];
            match pick(14) {
                0 | 1 => shell.kill(process.pid(), signal).unwrap(),
                2 | 3 => tgkill(&table, &coroutine.thread, signal),
                4 => process.send(Signal::STOP).unwrap(),
                5 | 6 => process.send(Signal::CONT).unwrap(),
                7 | 8 => drop(coroutine.begin()),
                9 => coroutine.end(),
                10 if coroutine.is_idle() => {
                    let mask = signals[..pick(4)].iter().fold(SigSet::EMPTY, |set, s| set.with(*s));
                    let (how, set, old, size) = (how::SETMASK, Some(mask), Ptr::Null, 8);
                    let call = Syscall::RtSigprocmask { how, set, old, size };
                    coroutine.call = Some((coroutine.thread.submit(call), Some(mask)));
                }
                11 if coroutine.is_idle() => {
                    let waits = pick(2) == 0;
                    let call = if waits { Syscall::Pause } else { Syscall::Gettid };
                    coroutine.call = Some((coroutine.thread.submit(call), None));
                }
                12 if coroutine.is_idle() && coroutine.thread.checkpoint() == Checkpoint::GoOn => {
                    match pick(4) {
                        0 if len > 1 => {
                            coroutine.thread.exit(0).unwrap();
                            assert_eq!(coroutine.thread.checkpoint(), Checkpoint::Ended);
                        }
                        1 => {
                            let call = Syscall::Execve { path: "next".into(), error: None };
                            coroutine.thread.syscall(call).unwrap();
                            catch(&coroutine.thread, nth);
                        }
                        _ => {
                            let mask = coroutine.mask;
                            let thread = coroutine.thread.spawn_thread().unwrap();
                            threads.push(Coroutine::new(thread, mask));
                        }
                    }
                }
                _ => {}
            }
            threads.iter_mut().for_each(Coroutine::look);
            threads.retain(|coroutine| coroutine.thread.is_alive());
            assert_eq!(threads.len(), process.threads().len(), "seed {seed}");
            for coroutine in &threads {
                let thread = &coroutine.thread;
                let waiting = thread.checkpoint() != Checkpoint::GoOn;
                if coroutine.is_idle() && !waiting {
                    assert_eq!(thread.info().unwrap().blocked, coroutine.mask, "seed {seed}");
                }
            }
        }
        // all threads become idle
        process.send(Signal::CONT).unwrap();
        for _ in 0..1000 {
            for coroutine in &mut threads {
                if !coroutine.begin() {
                    coroutine.end();
                }
                coroutine.look();
            }
        }
        for coroutine in &threads {
            let sleeps = run_of(&coroutine.thread) == RunState::Blocked;
            assert!(
                coroutine.is_idle() || sleeps && coroutine.running.is_empty(),
                "seed {seed}: {:?}, {:?} running, {} returning, {:?}",
                coroutine.thread.info(),
                coroutine.running,
                coroutine.returning.len(),
                coroutine.call
            );
            assert_eq!(coroutine.thread.checkpoint(), Checkpoint::GoOn, "seed {seed}");
            assert_eq!(coroutine.thread.info().unwrap().blocked, coroutine.mask, "seed {seed}");
        }
        assert_eq!(process.exit_status(), None, "SIG-47: no call returned from no handler");
    }
}

/// Waits until the threads of a process satisfy the condition.
fn until(table: &ProcessTable, pid: Pid, is: impl Fn(&[RunState]) -> bool) {
    loop {
        let runs: Vec<_> = table.threads(pid).iter().map(|info| info.run).collect();
        if is(&runs) {
            return;
        }
        thread::yield_now();
    }
}

fn ended(table: &ProcessTable, guest: &Process) -> WaitStatus {
    let waited = table.init().wait_timeout(guest, EXITED, SOON).unwrap();
    waited.expect("the guest ends").status
}

/// Threads of a guest: each has a number, a value, and a signal of its own.
#[test]
fn a_guest_on_threads_creates_and_joins_them() {
    let table = ProcessTable::new();
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), |guest| {
        let threads: Vec<_> = (0..4)
            .map(|nth| guest.spawn_thread(move |guest| (nth, guest.tid(), guest.pid())).unwrap())
            .collect();
        let pid = guest.pid();
        let mut tids = BTreeSet::from([guest.tid()]);
        for (nth, thread) in threads.into_iter().enumerate() {
            let created = thread.tid();
            let (value, tid, of) = guest.join(thread).unwrap();
            assert_eq!((value, tid, of), (nth, created, pid));
            tids.insert(tid);
        }
        tids.len() as i32
    });
    assert_eq!(ended(&table, &guest.unwrap()), WaitStatus::exited(5));
}

/// A handler runs on the thread that takes the signal: the one that does not block it, also if that
/// thread sleeps in a join.
#[test]
fn a_handler_runs_on_the_thread_that_takes_the_signal() {
    let table = ProcessTable::new();
    let (tell, received) = crossbeam_channel::bounded::<Pid>(1);
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
        guest
            .catch(Signal::USR1, SaFlags(0), move |guest, _| tell.send(guest.tid()).unwrap())
            .unwrap();
        guest.sigprocmask(how::BLOCK, Signal::USR1.set()).unwrap();
        let sleeper = guest.spawn_thread(Guest::pause).unwrap();
        guest.sigprocmask(how::UNBLOCK, Signal::USR1.set()).unwrap();
        guest.join(sleeper);
        3
    })
    .unwrap();
    until(&table, guest.pid(), |runs| runs == [RunState::User, RunState::Blocked]);
    let sleeper = guest.threads().pop().unwrap();
    while guest.view().unwrap().blocked != SigSet::EMPTY {
        thread::yield_now();
    }
    table.init().kill(guest.pid(), Signal::USR1).unwrap();
    assert_eq!(received.recv_timeout(SOON), Ok(guest.pid()));
    // the sleeping thread blocks the signal since its creation
    assert_eq!(run_of(&sleeper), RunState::Blocked);
    guest.send(Signal::KILL).unwrap();
    assert_eq!(ended(&table, &guest), killed(Signal::KILL));
}

/// SIG-36: a handler may make calls while another one waits for it to return.
#[test]
fn handlers_on_a_thread_that_were_set_up_together_make_calls() {
    let table = ProcessTable::new();
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), |guest| {
        let calls = Arc::new(AtomicUsize::new(0));
        for signal in [Signal::USR1, Signal::USR2] {
            let count = calls.clone();
            guest
                .catch(signal, SaFlags(0), move |guest, _| {
                    guest.checkpoint();
                    count.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
        }
        let set = Signal::USR1.set().with(Signal::USR2);
        guest.sigprocmask(how::BLOCK, set).unwrap();
        let pid = guest.pid().0 as i32;
        guest.kill(pid, Signal::USR1).unwrap();
        guest.kill(pid, Signal::USR2).unwrap();
        guest.sigprocmask(how::UNBLOCK, set).unwrap();
        calls.load(Ordering::SeqCst) as i32
    });
    assert_eq!(ended(&table, &guest.unwrap()), WaitStatus::exited(2));
}

/// EXEC-11: a thread that calls exec continues alone; the closures of the other threads unwind.
#[test]
fn exec_by_a_thread_of_a_guest_unwinds_its_other_threads() {
    struct Unwound(crossbeam_channel::Sender<&'static str>, &'static str);
    impl Drop for Unwound {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let table = ProcessTable::new();
    let (tell, received) = crossbeam_channel::bounded(2);
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
        let (other, leader) = (Unwound(tell.clone(), "other"), Unwound(tell, "leader"));
        guest
            .spawn_thread(move |guest| {
                let _other = other;
                loop {
                    guest.pause();
                }
            })
            .unwrap();
        let executes = guest
            .spawn_thread(|guest| {
                guest.syscall(Syscall::Execve { path: "next".into(), error: None }).unwrap();
                assert_eq!(guest.tid(), guest.pid());
                guest.exit_thread(9)
            })
            .unwrap();
        let _leader = leader;
        let _: Option<()> = guest.join(executes);
        0
    })
    .unwrap();
    assert_eq!(ended(&table, &guest), WaitStatus::exited(9));
    let mut unwound = [received.recv_timeout(SOON).unwrap(), received.recv_timeout(SOON).unwrap()];
    unwound.sort_unstable();
    assert_eq!(unwound, ["leader", "other"]);
}

/// A leader may end first; a panic of any closure ends the guest with 101.
#[test]
fn a_guest_ends_with_its_last_thread_or_a_panic_of_any() {
    let table = ProcessTable::new();
    let leaves = |code: Option<i32>| {
        ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
            guest
                .spawn_thread(move |guest| match code {
                    Some(code) => guest.exit_thread(code),
                    None => std::panic::resume_unwind(Box::new("a panic")),
                })
                .map(drop)
                .unwrap();
            guest.exit_thread(1)
        })
        .unwrap()
    };
    let guest = leaves(None);
    assert_eq!(ended(&table, &guest), WaitStatus::exited(101));
    let guest = leaves(Some(6));
    // one of the two is last
    assert!([1, 6].map(WaitStatus::exited).contains(&ended(&table, &guest)));
}

/// 64 threads of one process create and join threads concurrently: no wake-up is lost.
#[test]
fn sixty_four_threads_create_and_join_threads() {
    const THREADS: usize = 64;
    const ROUNDS: usize = 8;
    let table = ProcessTable::new();
    let process = spawn(&table.init());
    let first = process.main_thread().unwrap();
    let threads: Vec<_> = (0..THREADS).map(|_| first.spawn_thread().unwrap()).collect();
    thread::scope(|scope| {
        for creator in &threads {
            scope.spawn(move || {
                for code in 0..ROUNDS {
                    let created = creator.spawn_thread().unwrap();
                    thread::scope(|scope| {
                        scope.spawn(|| created.exit(code as i32).unwrap());
                        created.join();
                    });
                    assert!(!created.is_alive());
                }
            });
        }
    });
    assert_eq!(process.threads().len(), THREADS + 1);
    thread::scope(|scope| {
        for thread in &threads {
            scope.spawn(|| thread.exit(0).unwrap());
        }
    });
    assert_eq!(process.threads(), [first]);
    process.exit(0).unwrap();
    assert_eq!(table.init().wait(&process, EXITED).unwrap().status, WaitStatus::exited(0));
}

/// A waker that counts its wake-ups.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Wakes>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A join with a timeout follows the table's clock, and a future is woken by the end of the thread.
/// A join that times out leaves no entry, also if the thread gets another number by execve
/// (EXEC-11).
#[test]
fn joins_have_a_timeout_and_a_future() {
    let clock = ManualClock::new();
    let config = TableConfig::new().clock(clock.clone()).timer_mode(TimerMode::Caller);
    let table = ProcessTable::with_config(config);
    let (_, [first, second], _) = two_threads(&table);
    assert!(!second.join_timeout(Duration::ZERO));
    thread::scope(|scope| {
        let joins = scope.spawn(|| second.join_timeout(Duration::from_secs(5)));
        while table.next_deadline().is_none() {
            thread::yield_now();
        }
        clock.advance(Duration::from_secs(5));
        table.reap_due(clock.now());
        assert!(!joins.join().unwrap());
    });
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut join = Box::pin(second.join_async());
    assert!(join.as_mut().poll(&mut context).is_pending());
    drop(second.join_async());
    second.syscall(Syscall::Execve { path: "next".into(), error: None }).unwrap();
    assert!(!first.is_alive() && join.as_mut().poll(&mut context).is_pending());
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    second.exit(0).unwrap();
    assert!(wakes.0.load(Ordering::SeqCst) > 0 && join.as_mut().poll(&mut context).is_ready());
    assert!(second.join_timeout(Duration::MAX));
}

/// The end of a table ends all calls and joins.
#[test]
fn the_end_of_a_table_ends_calls_and_joins_of_guests_with_threads() {
    let table = ProcessTable::new();
    let (tell, received) = crossbeam_channel::bounded::<()>(2);
    ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
        struct Tells(crossbeam_channel::Sender<()>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (one, _two) = (Tells(tell.clone()), Tells(tell));
        let sleeper = guest.spawn_thread(move |guest| {
            let _one = one;
            loop {
                guest.pause();
            }
        });
        let _: Option<()> = guest.join(sleeper.unwrap());
        0
    })
    .unwrap();
    until(&table, Pid(2), |runs| runs == [RunState::User, RunState::Blocked]);
    drop(table);
    for _ in 0..2 {
        received.recv_timeout(SOON).unwrap();
    }
}
