//! The attributes of a new process beside its group, its users and its mask: its number, its
//! dispositions, and the side that performs default actions.

use std::sync::Arc;

use proctable::abi::{
    Errno, Handler, Pgid, Pid, SigAction, SigSet, Signal, Uid, WaitOptions, WaitStatus,
};
use proctable::driver::{Authority, Delivery, DriverProcess, Op};
use proctable::drivers::{Expected, ScriptedDriver};
use proctable::kernel::{Config, RunState};
use proctable::syscall::Syscall;
use proctable::table::{
    GroupChoice, Image, ProcessTable, SigmaskHow, Spawn, TableConfig, WaitTarget, What,
};

use super::{caught, shell, spawn};

fn numbered(number: u32) -> Spawn {
    Spawn::new(Image::new("x")).pid(Pid(number))
}

/// PID-13: as the same calls of clone3 and fork on Linux 6.18.
#[test]
fn a_chosen_number_leaves_the_sequence_alone() {
    let table = ProcessTable::new();
    let fork = || table.spawn(Spawn::fork()).unwrap().pid().0;
    let choose = |number| table.spawn(numbered(number)).map(|process| process.pid().0);
    assert_eq!(fork(), 2);
    assert_eq!(choose(50), Ok(50));
    assert_eq!(fork(), 3);
    assert_eq!(choose(4_194_303), Ok(4_194_303));
    assert_eq!(fork(), 4);
    assert_eq!(choose(6), Ok(6));
    // the sequence skips a number in use
    assert_eq!([fork(), fork()], [5, 7]);
    let events: Vec<u32> = table.pids().iter().map(|pid| pid.0).collect();
    assert_eq!(events, [1, 2, 50, 3, 4_194_303, 4, 6, 5, 7]);
}

/// PID-14, in the order of `alloc_pid`: the range, the permission, and the use of the number, also
/// by a zombie or a group. LIM-01 is before them.
#[test]
fn a_chosen_number_has_the_errors_of_set_tid() {
    let config = TableConfig::new().kernel(Config { pid_max: 1000, ..Config::default() });
    let table = ProcessTable::with_config(config);
    let parent = shell(&table);
    let choose = |number| parent.spawn(numbered(number)).map(drop);
    assert_eq!(choose(0), Err(Errno::EINVAL));
    assert_eq!(choose(1000), Err(Errno::EINVAL));
    assert_eq!(choose(1), Err(Errno::EEXIST));

    let leader = parent.spawn(numbered(200).own_group()).unwrap();
    let member = GroupChoice::Join(Pgid(200));
    let member = parent.spawn(Spawn::new(Image::new("x")).group(member)).unwrap();
    assert_eq!(choose(200), Err(Errno::EEXIST));
    leader.send(Signal::KILL).unwrap();
    assert_eq!(choose(200), Err(Errno::EEXIST)); // a zombie has it
    parent.try_wait(WaitTarget::Pid(Pid(200)), WaitOptions::EXITED).unwrap();
    assert_eq!(choose(200), Err(Errno::EEXIST)); // a group has it
    member.send(Signal::KILL).unwrap();
    parent.try_wait(WaitTarget::Any, WaitOptions::EXITED).unwrap();
    assert_eq!(choose(200), Ok(()));

    parent.set_users([Some(Uid(1000)); 3]).unwrap();
    assert_eq!(choose(0), Err(Errno::EINVAL));
    assert_eq!([choose(1), choose(201)], [Err(Errno::EPERM); 2]);
    // no failure has taken a number
    assert_eq!(spawn(&parent).pid(), Pid(4));
}

/// A process of a chosen number is one like any other, and its identity is its own.
#[test]
fn a_number_that_is_chosen_again_is_another_process() {
    let table = ProcessTable::new();
    let first = table.spawn(numbered(42)).unwrap();
    first.send(Signal::KILL).unwrap();
    table.init().try_wait(WaitTarget::Pid(Pid(42)), WaitOptions::EXITED).unwrap();
    let second = table.spawn(numbered(42)).unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!((first.info(), second.info().map(|info| info.pid)), (None, Some(Pid(42))));
}

/// posix_spawnattr_setsigdefault(3): a signal is ignored after exec if it was before (EXEC-01), and
/// caught after fork (FORK-03), unless the attributes of the spawn say otherwise.
#[test]
fn dispositions_at_spawn() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let ignored = SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT };
    parent.sigaction(Signal::INT, ignored).unwrap();
    parent.sigaction(Signal::QUIT, caught()).unwrap();
    let view = |spawn: Spawn| {
        let view = parent.spawn(spawn).unwrap().view().unwrap();
        (view.ignored, view.caught)
    };
    let program = || Spawn::new(Image::new("x"));
    let (int, quit, none) = (Signal::INT.set(), Signal::QUIT.set(), SigSet::EMPTY);
    assert_eq!(view(program()), (int, none));
    assert_eq!(view(Spawn::fork()), (int, quit));
    assert_eq!(view(program().default_signals(SigSet::FULL)), (none, none));
    assert_eq!(view(Spawn::fork().default_signals(quit)), (int, none));
    assert_eq!(view(program().ignored_signals(quit | Signal::KILL.set())), (int | quit, none));
    assert_eq!(parent.view().map(|view| (view.ignored, view.caught)), Some((int, quit)));
}

fn deliveries(driver: &ScriptedDriver) -> Vec<(Signal, Option<u64>)> {
    let of = |op| match op {
        Op::Deliver(delivery) => Some((delivery.info.signal, delivery.handler)),
        _ => None,
    };
    driver.seen().into_iter().filter_map(of).collect()
}

/// TABLE-12: masks and pending signals are the table's, and the runtime performs default actions,
/// also of signals that they ignore. SIG_IGN and handlers are as on Linux.
#[test]
fn the_runtime_performs_the_default_actions() {
    let table = ProcessTable::new();
    let driver = Arc::new(ScriptedDriver::default());
    let program = Spawn::new(Image::new("x")).driver(driver.clone()).own_group();
    let guest = table.spawn(program.authority(Authority::Runtime)).unwrap();
    assert_eq!(guest.info().unwrap().authority, Authority::Runtime);

    guest.sigprocmask(SigmaskHow::Block, SigSet::FULL).unwrap();
    for signal in [Signal::TERM, Signal::CHLD, Signal::TSTP] {
        guest.send(signal).unwrap();
    }
    assert_eq!(deliveries(&driver), []);
    assert_eq!(guest.view().unwrap().shared.iter().count(), 3);
    guest.sigprocmask(SigmaskHow::SetMask, SigSet::EMPTY).unwrap();
    // SIG-33
    let expected = [Signal::TERM, Signal::CHLD, Signal::TSTP].map(|signal| (signal, None));
    assert_eq!(deliveries(&driver), expected);
    assert_eq!(guest.info().unwrap().run, RunState::User);

    let ignored = SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT };
    guest.sigaction(Signal::TERM, ignored).unwrap();
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.send(Signal::TERM).unwrap();
    guest.send(Signal::USR1).unwrap();
    assert_eq!(deliveries(&driver)[3..], [(Signal::USR1, Some(0x1000))]);
    // back to SIG_DFL, whose action would be to ignore it: a pending instance stays
    guest.sigprocmask(SigmaskHow::Block, SigSet::FULL).unwrap();
    guest.send(Signal::WINCH).unwrap();
    guest.sigaction(Signal::WINCH, SigAction::DEFAULT).unwrap();
    assert_eq!(guest.view().unwrap().shared, Signal::WINCH.set());
}

/// TABLE-12: the model itself kills, stops and continues, and the reports of the runtime change the
/// state for its waits.
#[test]
fn kill_stop_and_continue_are_not_the_runtimes() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let driver = Arc::new(ScriptedDriver::default());
    let guest = Spawn::new(Image::new("x")).driver(driver.clone()).own_group();
    let guest = parent.spawn(guest.authority(Authority::Runtime)).unwrap();
    let options = WaitOptions::EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
    let wait = || parent.try_wait(WaitTarget::Any, options).unwrap().unwrap().status;

    guest.send(Signal::STOP).unwrap();
    assert_eq!(wait(), WaitStatus::stopped(Signal::STOP));
    guest.send(Signal::CONT).unwrap();
    assert_eq!(wait(), WaitStatus::CONTINUED);
    guest.report(WaitStatus::stopped(Signal::TSTP));
    assert_eq!(wait(), WaitStatus::stopped(Signal::TSTP));
    guest.send(Signal::TERM).unwrap(); // JOB-06
    guest.send(Signal::CONT).unwrap();
    assert_eq!(wait(), WaitStatus::CONTINUED);
    guest.send(Signal::KILL).unwrap();
    let killed = WaitStatus::killed(Signal::KILL, false);
    assert_eq!(wait(), killed);
    let forwarded = [Signal::CONT, Signal::TERM, Signal::CONT].map(|signal| (signal, None));
    assert_eq!(deliveries(&driver), forwarded);
    let ends = driver.seen();
    assert!(ends.contains(&Op::Terminate(killed)), "{ends:?}");
}

/// TABLE-12, SIG-44: no handler runs, so an interrupted call continues.
#[test]
fn a_call_that_a_forwarded_signal_interrupts_is_restarted() {
    let table = ProcessTable::new();
    let expected = [Expected::deliver(Signal::USR1), Expected::deliver(Signal::TERM)];
    let killed = WaitStatus::killed(Signal::TERM, false);
    let [first, second] = expected;
    let driver = Arc::new(ScriptedDriver::new([first, second.then_report(killed)]));
    let guest = Spawn::new(Image::new("x")).driver(driver);
    let guest = table.spawn(guest.authority(Authority::Runtime)).unwrap();
    let pause = guest.submit(Syscall::Pause);
    guest.send(Signal::USR1).unwrap();
    assert_eq!(pause.result(), None);
    assert_eq!(guest.info().map(|info| info.run), Some(RunState::Blocked));
    guest.send(Signal::TERM).unwrap();
    assert_eq!((pause.result(), guest.exit_status()), (Some(Err(Errno::ESRCH)), Some(killed)));
}

/// A driver that takes handlers at safe points gets default actions at once: no code of the guest
/// runs for them.
#[test]
fn default_actions_come_beside_safe_points() {
    struct Records(std::sync::Mutex<Vec<Signal>>);
    impl DriverProcess for Records {
        fn deliver(&self, delivery: Delivery) {
            assert_eq!(delivery.handler, None);
            self.0.lock().unwrap().push(delivery.info.signal);
        }
        fn stop(&self, _: Signal) {}
        fn resume(&self) {}
        fn terminate(&self, _: WaitStatus) {}
    }
    let table = ProcessTable::new();
    let driver = Arc::new(Records(Default::default()));
    let guest = Spawn::new(Image::new("x")).driver(driver.clone()).safe_points();
    let guest = table.spawn(guest.authority(Authority::Runtime)).unwrap();
    let events = table.subscribe(8).unwrap();
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.send(Signal::USR1).unwrap();
    guest.send(Signal::USR2).unwrap();
    assert_eq!(*driver.0.lock().unwrap(), [Signal::USR2]);
    let generated = events.try_iter().filter(|event| matches!(event.what, What::Generated(_)));
    assert_eq!(generated.count(), 2);
}
