//! Signals to guests, and the operations of their drivers.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use proctable::abi::{Errno, Pid, SaFlags, SigInfo, SigSet, Signal, WaitOptions, WaitStatus};
use proctable::driver::Authority;
use proctable::drivers::{Expected, Guest, ScriptedDriver, ThreadDriver};
use proctable::syscall::{Ptr, SIGSET_SIZE, Syscall, how};
use proctable::table::{Image, Init, ProcessTable, SigmaskHow, Spawn, TableConfig, What};

use super::{SOON, caught, shell, spawn};

/// KILL-22, NS-07: of the unhandled signals from outside of the namespace only SIGKILL and SIGSTOP
/// act on an init. KILL-29: their siginfo has pid 0.
#[test]
fn signals_from_outside_reach_an_init_only_as_kill_and_stop() {
    let table = ProcessTable::with_config(TableConfig::new().init(Init::Guest));
    let init = table.init();
    let events = table.subscribe(16).unwrap();
    init.send(Signal::TERM).unwrap();
    assert_eq!(table.counts().running, 1);
    init.send(Signal::STOP).unwrap();
    assert_eq!(table.counts().stopped, 1);
    init.send(Signal::CONT).unwrap();
    assert_eq!(table.counts().running, 1);
    init.send(Signal::KILL).unwrap();
    assert_eq!(init.exit_status(), Some(WaitStatus::killed(Signal::KILL, false)));
    for event in events.try_iter() {
        if let What::Generated(info) = event.what {
            assert_eq!(info.pid, Pid(0), "{event:?}");
        }
    }
}

/// SIG-41, SIG-36: the driver runs a handler, and the signal is blocked until the handler returns.
#[test]
fn a_driver_gets_handlers_one_at_a_time() {
    let table = ProcessTable::new();
    let driver = Arc::new(ScriptedDriver::new([
        Expected::deliver(Signal::USR1),
        Expected::deliver(Signal::USR1),
        Expected::stop(Signal::STOP),
        Expected::resume(),
        Expected::terminate(WaitStatus::killed(Signal::TERM, false)),
    ]));
    let guest = table.spawn(Spawn::new(Image::new("guest")).driver(driver.clone())).unwrap();
    guest.sigaction(Signal::USR1, caught()).unwrap();
    let init = table.init();
    init.kill(guest.pid(), Signal::USR1).unwrap();
    init.kill(guest.pid(), Signal::USR1).unwrap();
    assert_eq!(driver.delivered(), [Signal::USR1]);
    guest.sigreturn().unwrap();
    assert_eq!(driver.delivered(), [Signal::USR1; 2]);
    init.kill(guest.pid(), Signal::STOP).unwrap();
    init.kill(guest.pid(), Signal::CONT).unwrap();
    init.kill(guest.pid(), Signal::TERM).unwrap();
    driver.verify().unwrap();
}

/// Under the host's authority the table forwards every signal, also signals that are blocked or
/// ignored by default, and the reports of the host decide the state.
#[test]
fn a_process_under_host_authority_forwards_every_signal() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let driver = Arc::new(ScriptedDriver::new([
        Expected::deliver(Signal::WINCH),
        Expected::deliver(Signal::STOP).then_report(WaitStatus::stopped(Signal::STOP)),
        Expected::deliver(Signal::TERM),
        Expected::deliver(Signal::CONT).then_report(WaitStatus::CONTINUED),
        Expected::deliver(Signal::KILL).then_report(WaitStatus::killed(Signal::KILL, false)),
    ]));
    let child = Spawn::new(Image::new("real")).driver(driver.clone()).authority(Authority::Host);
    let child = shell.spawn(child).unwrap();
    child.sigprocmask(SigmaskHow::Block, SigSet::FULL).unwrap();
    shell.kill(child.pid(), Signal::WINCH).unwrap();
    shell.kill(child.pid(), Signal::STOP).unwrap();
    let all = WaitOptions::EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
    assert_eq!(shell.wait(&child, all).unwrap().status, WaitStatus::stopped(Signal::STOP));
    shell.kill(child.pid(), Signal::TERM).unwrap();
    shell.kill(child.pid(), Signal::CONT).unwrap();
    assert_eq!(shell.wait(&child, all).unwrap().status, WaitStatus::CONTINUED);
    shell.kill(child.pid(), Signal::KILL).unwrap();
    let killed = WaitStatus::killed(Signal::KILL, false);
    assert_eq!(shell.wait(&child, all).unwrap().status, killed);
    driver.verify().unwrap();
}

/// A guest on a thread: EINTR without SA_RESTART, a restart with it (SIG-44).
#[test]
fn a_guest_on_a_thread_is_interrupted_by_its_handlers() {
    let table = ProcessTable::new();
    let (ready, is_ready) = crossbeam_channel::bounded::<()>(0);
    let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), move |guest| {
        guest.catch(Signal::USR1, SaFlags(0), |_, _| {}).unwrap();
        guest.catch(Signal::USR2, SaFlags::RESTART, |_, _| {}).unwrap();
        let child = guest
            .spawn(Spawn::new(Image::new("child")), |guest| {
                loop {
                    guest.pause();
                }
            })
            .unwrap();
        ready.send(()).unwrap();
        let error = guest.waitpid(-1, WaitOptions::default()).unwrap_err();
        assert_eq!(error, Errno::EINTR);
        ready.send(()).unwrap();
        let (pid, status) = guest.waitpid(-1, WaitOptions::default()).unwrap().unwrap();
        assert_eq!(pid, child);
        i32::from(status.term_signal() == Some(Signal::KILL))
    })
    .unwrap();
    let init = table.init();
    is_ready.recv().unwrap();
    while table.get(guest.pid()).unwrap().run != proctable::kernel::RunState::Blocked {
        std::thread::yield_now();
    }
    init.kill(guest.pid(), Signal::USR1).unwrap();
    is_ready.recv().unwrap();
    while table.get(guest.pid()).unwrap().run != proctable::kernel::RunState::Blocked {
        std::thread::yield_now();
    }
    init.kill(guest.pid(), Signal::USR2).unwrap();
    let child = guest.children()[0].pid;
    init.kill(child, Signal::KILL).unwrap();
    let waited = init.wait(&guest, WaitOptions::EXITED).unwrap();
    assert_eq!(waited.status, WaitStatus::exited(1));
}

/// A value that a guest waits for outside of the table.
#[derive(Clone, Default)]
struct Promise(Arc<Mutex<(Option<i32>, Option<Waker>)>>);

impl Promise {
    async fn value(&self) -> i32 {
        poll_fn(|context| {
            let (value, waker) = &mut *self.0.lock().unwrap();
            *waker = Some(context.waker().clone());
            value.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until a guest sleeps for the value, or is about to.
    fn expect_poll(&self) {
        while self.0.lock().unwrap().1.is_none() {
            std::thread::yield_now();
        }
    }

    fn keep(&self, value: i32) {
        let (of, waker) = &mut *self.0.lock().unwrap();
        *of = Some(value);
        waker.take().unwrap().wake();
    }
}

/// A wait of the guest's own returns when its future is ready. A handler without SA_RESTART
/// interrupts it, one that came before does not, and one with SA_RESTART does not (SIG-44).
#[test]
fn handlers_interrupt_a_wait_of_a_guests_own() {
    let table = ProcessTable::new();
    let init = table.init();
    for flags in [SaFlags(0), SaFlags::RESTART] {
        let (promise, own) = (Promise::default(), Promise::default());
        let (ours, its) = (promise.clone(), own.clone());
        let guest = ThreadDriver::spawn(&init, Spawn::new(Image::new("g")), move |guest| {
            let begun = its.clone();
            let note = move |_: &mut Guest, _: &SigInfo| begun.0.lock().unwrap().0 = Some(1);
            guest.catch(Signal::USR1, flags, note).unwrap();
            guest.kill(guest.pid().0 as i32, Signal::USR1).unwrap();
            match guest.block_on(promise.value()) {
                Ok(value) => value,
                Err(errno) => i32::from(errno.0),
            }
        });
        let guest = guest.unwrap();
        ours.expect_poll();
        assert_eq!(own.0.lock().unwrap().0.take(), Some(1), "the handler came before the wait");
        init.kill(guest.pid(), Signal::USR1).unwrap();
        while own.0.lock().unwrap().0.is_none() {
            std::thread::yield_now();
        }
        if flags == SaFlags::RESTART {
            ours.keep(7);
        }
        let expected = if flags == SaFlags::RESTART { 7 } else { Errno::EINTR.0.into() };
        let waited = init.wait(&guest, WaitOptions::EXITED).unwrap();
        assert_eq!(waited.status, WaitStatus::exited(expected));
    }
}

/// SIG-44: the signal that interrupts the wait decides, and not one that its handler generates, or
/// one that comes while the handler runs; as it does for a wait4 of the guest.
#[test]
fn the_first_signal_decides_how_a_wait_of_a_guests_own_ends() {
    let table = ProcessTable::new();
    let init = table.init();
    for flags in [SaFlags(0), SaFlags::RESTART] {
        for from_outside in [false, true] {
            let other = if flags == SaFlags(0) { SaFlags::RESTART } else { SaFlags(0) };
            let (promise, ran) = (Promise::default(), Promise::default());
            let (ours, its, sender) = (promise.clone(), ran.clone(), init.clone());
            let guest = ThreadDriver::spawn(&init, Spawn::new(Image::new("g")), move |guest| {
                let note = move |_: &mut Guest, _: &SigInfo| its.0.lock().unwrap().0 = Some(1);
                guest.catch(Signal::USR2, other, note).unwrap();
                let raise = move |guest: &mut Guest, _: &SigInfo| match from_outside {
                    true => sender.kill(guest.pid(), Signal::USR2).unwrap(),
                    false => guest.kill(guest.pid().0 as i32, Signal::USR2).unwrap(),
                };
                guest.catch(Signal::USR1, flags, raise).unwrap();
                match guest.block_on(promise.value()) {
                    Ok(value) => value,
                    Err(errno) => i32::from(errno.0),
                }
            });
            let guest = guest.unwrap();
            ours.expect_poll();
            init.kill(guest.pid(), Signal::USR1).unwrap();
            let mut expected = i32::from(Errno::EINTR.0);
            if flags == SaFlags::RESTART {
                while ran.0.lock().unwrap().0.is_none() {
                    std::thread::yield_now();
                }
                ours.keep(7);
                expected = 7;
            }
            let within = init.wait_timeout(&guest, WaitOptions::EXITED, SOON).unwrap();
            let status = within.map(|waited| waited.status);
            assert_eq!(status, Some(WaitStatus::exited(expected)), "{flags:?} {from_outside}");
        }
    }
}

/// A destructor that runs because of a panic makes a call, in which a handler executes a program:
/// the guest ends, and not the host.
#[test]
fn a_program_that_is_executed_while_a_guest_panics_ends_the_guest() {
    struct Calls<'a>(&'a mut Guest);
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            // ESRCH if the guest has ended before the call has returned
            let _ = self.0.kill(self.0.pid().0 as i32, Signal::USR1);
        }
    }
    let table = ProcessTable::new();
    let init = table.init();
    let guest = ThreadDriver::spawn(&init, Spawn::new(Image::new("g")), |guest| {
        let execute = |guest: &mut Guest, _: &SigInfo| {
            guest.syscall(Syscall::Execve { path: "other".into(), error: None }).unwrap();
        };
        guest.catch(Signal::USR1, SaFlags(0), execute).unwrap();
        let _calls = Calls(guest);
        std::panic::resume_unwind(Box::new("the guest panics"));
    });
    let waited = init.wait(&guest.unwrap(), WaitOptions::EXITED).unwrap();
    assert_eq!(waited.status, WaitStatus::exited(0));
}

/// JOB-06: a guest that is stopped in a wait of its own continues after SIGCONT only, also if its
/// future is ready. One that is killed there drops its future.
#[test]
fn a_guest_is_stopped_and_killed_in_a_wait_of_its_own() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let (first, second) = (Promise::default(), Promise::default());
    let (values, kept) = ((first.clone(), second.clone()), Arc::new(()));
    let held = Arc::downgrade(&kept);
    let guest = ThreadDriver::spawn(&shell, Spawn::new(Image::new("g")), move |guest| {
        let wait = |guest: &mut Guest, promise: &Promise| {
            let held = kept.clone();
            guest.block_on(async {
                let value = promise.value().await;
                drop(held);
                value
            })
        };
        assert_eq!(wait(guest, &first), Ok(1));
        wait(guest, &second).unwrap_or_default()
    });
    let guest = guest.unwrap();
    values.0.expect_poll();
    guest.send(Signal::STOP).unwrap();
    shell.wait(&guest, WaitOptions::STOPPED).unwrap();
    values.0.keep(1);
    assert!(values.1.0.lock().unwrap().1.is_none());
    guest.send(Signal::CONT).unwrap();
    values.1.expect_poll();
    guest.send(Signal::KILL).unwrap();
    let waited = shell.wait(&guest, WaitOptions::EXITED).unwrap();
    assert_eq!(waited.status, WaitStatus::killed(Signal::KILL, false));
    while held.strong_count() > 0 {
        std::thread::yield_now();
    }
}

/// JOB-06: a call of a stopped guest runs after the continue.
#[test]
fn a_call_of_a_stopped_guest_runs_after_the_continue() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    guest.send(Signal::STOP).unwrap();
    let call = guest.submit(Syscall::Getppid);
    assert_eq!(call.result(), None);
    guest.send(Signal::CONT).unwrap();
    assert_eq!(call.result(), Some(Ok(proctable::syscall::Ret::Value(1))));
    guest.send(Signal::STOP).unwrap();
    let call = guest.submit(Syscall::Getppid);
    guest.send(Signal::KILL).unwrap();
    assert_eq!(call.wait(), Err(Errno::ESRCH));
}

/// The table's own init is not a guest.
#[test]
fn the_tables_own_init_takes_no_signal() {
    let table = ProcessTable::new();
    for signal in [Signal::STOP, Signal::KILL] {
        assert_eq!(table.init().send(signal), Err(Errno::EPERM));
    }
    spawn(&table.init());
    assert_eq!(table.counts().running, 2);
}

/// The handler of a signal that arrives between two calls runs before the second call: that call
/// does not run inside of the handler, and calls of the handler do not wait for it.
#[test]
fn a_handler_that_is_entered_between_two_calls_comes_before_the_second() {
    let table = ProcessTable::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let woken_by = Signal::new(40).unwrap();
    let spawning = Spawn::new(Image::new("guest"));
    let guest = ThreadDriver::spawn(&table.init(), spawning, move |guest| {
        let wake = move |guest: &mut Guest, _: &SigInfo| {
            let own = guest.pid().0 as i32;
            guest.kill(own, woken_by).unwrap();
        };
        guest.catch(Signal::USR1, SaFlags(0), wake).unwrap();
        guest.sigprocmask(how::BLOCK, woken_by.set()).unwrap();
        ready.send(()).unwrap();
        may_go.recv().unwrap();
        let (set, info, timeout) = (woken_by.set(), Ptr::Valid, None);
        let size = SIGSET_SIZE;
        guest.syscall(Syscall::RtSigtimedwait { set, info, timeout, size }).unwrap();
        7
    });
    let guest = guest.unwrap();
    is_ready.recv().unwrap();
    guest.send(Signal::USR1).unwrap();
    go.send(()).unwrap();
    let waited = table.init().wait_timeout(&guest, WaitOptions::EXITED, SOON).unwrap();
    assert_eq!(waited.map(|waited| waited.status), Some(WaitStatus::exited(7)));
}
