//! Differences between other process tables and Linux: one test for each row of the list in
//! docs/PEERS.md, in its order.
//!
//! Long because each defect of a peer that docs/PEERS.md lists has its test here.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use proctable::abi::{
    Errno, Pgid, Pid, SaFlags, SigAction, SigSet, Signal, Uid, WaitOptions, WaitStatus,
};
use proctable::driver::{Authority, Delivery, DriverProcess, Op};
use proctable::drivers::{Expected, ScriptedDriver};
use proctable::kernel::{Config, RunState};
use proctable::syscall::{Ptr, Ret, Syscall};
use proctable::table::{
    Call, Image, Init, ManualClock, Process, ProcessTable, SigmaskHow, Spawn, TableConfig,
    TableEvent, WaitTarget, What,
};

use super::{
    caught, changes, group_of, killed, place, recorded, recorded_shell, shell, spawn, unblock,
};

const NOW: WaitOptions = WaitOptions::NOHANG;
const STOPS: WaitOptions = WaitOptions::STOPPED;
const CONTINUES: WaitOptions = WaitOptions::CONTINUED;
const ENDS: WaitOptions = WaitOptions::EXITED;
const EVENTS: WaitOptions = ENDS.with(STOPS).with(CONTINUES);

/// A shell and its job; the job has a group of its own, which is not orphaned.
fn shell_and_job(table: &ProcessTable) -> (Process, Process, Arc<ScriptedDriver>) {
    let shell = shell(table);
    let (job, log) = recorded(&shell);
    place(&shell, &job, &job);
    (shell, job, log)
}

/// A table whose process 1 is a guest.
fn with_guest_init() -> Process {
    ProcessTable::with_config(TableConfig::new().init(Init::Guest)).init()
}

fn run_of(process: &Process) -> RunState {
    process.info().unwrap().run
}

/// A blocking wait4(2) of the process itself.
fn waiting(process: &Process, pid: i32) -> Call {
    let options = WaitOptions::default();
    process.submit(Syscall::Wait4 { pid, status: Ptr::Valid, options })
}

/// SIG-14, JOB-08: sigprocmask removes SIGKILL and SIGSTOP from a mask without an error, and both
/// act.
#[test]
fn a_mask_never_holds_sigkill_and_sigstop() {
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    guest.sigprocmask(SigmaskHow::SetMask, SigSet::FULL).unwrap();
    let mask = guest.sigprocmask(SigmaskHow::Block, SigSet::EMPTY).unwrap();
    assert_eq!(mask, SigSet::FULL - SigSet::KERNEL_ONLY);
    table.init().kill(guest.pid(), Signal::STOP).unwrap();
    table.init().kill(guest.pid(), Signal::KILL).unwrap();
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP), Op::Terminate(killed(Signal::KILL))]);
}

/// JOB-03, JOB-04: a blocked SIGCONT continues the process, and stays pending until it is
/// unblocked.
#[test]
fn a_blocked_sigcont_resumes_and_stays_pending() {
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    guest.sigaction(Signal::CONT, caught()).unwrap();
    guest.sigprocmask(SigmaskHow::Block, Signal::CONT.set()).unwrap();
    guest.send(Signal::STOP).unwrap();
    guest.send(Signal::CONT).unwrap();
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP), Op::Resume]);
    assert_eq!((guest.sigpending(), log.delivered()), (Ok(Signal::CONT.set()), vec![]));
    let unblocking = unblock(&guest, Signal::CONT.set());
    assert_eq!(log.delivered(), [Signal::CONT]);
    guest.sigreturn().unwrap();
    assert!(unblocking.wait().is_ok());
}

/// SIG-03, WAIT-29: SIGTTIN and SIGTTOU stop as SIGTSTP does, and the wait status contains the
/// signal.
#[test]
fn sigttin_and_sigttou_stop() {
    let table = ProcessTable::new();
    let (shell, job, log) = shell_and_job(&table);
    for signal in [Signal::TTIN, Signal::TTOU] {
        table.init().kill(job.pid(), signal).unwrap();
        assert_eq!(
            shell.try_wait(&job, STOPS).unwrap().unwrap().status,
            WaitStatus::stopped(signal)
        );
        job.send(Signal::CONT).unwrap();
    }
    let both = [Op::Stop(Signal::TTIN), Op::Resume, Op::Stop(Signal::TTOU), Op::Resume];
    assert_eq!(changes(&log), both);
}

/// JOB-01, JOB-02, JOB-05: SIGCONT discards pending stop signals, and these discard a pending
/// SIGCONT.
#[test]
fn stop_signals_and_sigcont_discard_each_other() {
    let table = ProcessTable::new();
    let (_shell, job, log) = shell_and_job(&table);
    let both = Signal::TSTP.set().with(Signal::CONT);
    job.sigprocmask(SigmaskHow::Block, both).unwrap();
    job.send(Signal::TSTP).unwrap();
    assert_eq!(job.sigpending(), Ok(Signal::TSTP.set()));
    job.send(Signal::CONT).unwrap();
    assert_eq!(job.sigpending(), Ok(Signal::CONT.set()));
    job.send(Signal::TSTP).unwrap();
    assert_eq!(job.sigpending(), Ok(Signal::TSTP.set()));
    job.send(Signal::CONT).unwrap();
    job.sigprocmask(SigmaskHow::Unblock, both).unwrap();
    assert_eq!((run_of(&job), changes(&log)), (RunState::User, vec![]));
}

/// ORP-04, ORP-05: in an orphaned group SIGTSTP, SIGTTIN and SIGTTOU are discarded, SIGSTOP stops.
#[test]
fn only_sigstop_stops_members_of_orphaned_groups() {
    let table = ProcessTable::new();
    let (orphan, log) = recorded(&table.init());
    orphan.setsid().unwrap();
    for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
        orphan.send(signal).unwrap();
        assert!(orphan.sigpending().unwrap().is_empty());
    }
    assert_eq!(changes(&log), []);
    orphan.send(Signal::STOP).unwrap();
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP)]);
}

/// JOB-06: SIGTERM to a stopped process stays pending until it continues; SIGKILL acts at once
/// (JOB-07).
#[test]
fn sigterm_waits_until_a_stopped_process_continues() {
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    guest.send(Signal::STOP).unwrap();
    guest.send(Signal::TERM).unwrap();
    assert_eq!(run_of(&guest), RunState::Stopped);
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP)]);
    guest.send(Signal::CONT).unwrap();
    let ended = Op::Terminate(killed(Signal::TERM));
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP), Op::Resume, ended]);

    let (guest, log) = recorded(&table.init());
    guest.send(Signal::STOP).unwrap();
    guest.send(Signal::KILL).unwrap();
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP), Op::Terminate(killed(Signal::KILL))]);
}

/// CHLD-01, JOB-06: a stopped parent gets the SIGCHLD of a child's exit when it continues.
#[test]
fn a_stopped_parent_gets_sigchld_when_it_continues() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let child = spawn(&shell);
    shell.send(Signal::STOP).unwrap();
    child.exit(0).unwrap();
    assert_eq!(log.delivered(), []);
    shell.send(Signal::CONT).unwrap();
    assert_eq!(log.delivered(), [Signal::CHLD]);
}

/// KILL-02, KILL-03: kill(0) addresses the caller's group including the caller, kill(-1) all
/// processes but process 1 and the caller.
#[test]
fn kill_0_addresses_the_own_group_and_kill_minus_1_all_processes() {
    let table = ProcessTable::new();
    let (caller, own) = recorded_shell(&table);
    let (member, near) = recorded(&caller);
    let (unrelated, far) = recorded_shell(&table);
    for process in [&caller, &member, &unrelated] {
        process.sigaction(Signal::USR1, caught()).unwrap();
    }
    let to_group = caller.submit(Syscall::Kill { pid: 0, sig: 10 });
    caller.sigreturn().unwrap();
    assert_eq!(to_group.wait(), Ok(Ret::Value(0)));
    member.sigreturn().unwrap();
    let seen = || [&own, &near, &far].map(|log| log.delivered().len());
    assert_eq!(seen(), [1, 1, 0]);
    caller.kill_all(Signal::USR1).unwrap();
    assert_eq!(seen(), [1, 2, 1]);
    assert_eq!(table.counts().running, 4);
}

/// KILL-16, KILL-18, KILL-19, KILL-21: users decide the permission, a common session permits
/// SIGCONT, and process 1 discards signals that it does not handle, also from root.
#[test]
fn users_sessions_and_process_1_are_protected() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let user = |shell: &Process, uid| {
        let process = spawn(shell);
        process.set_users([Some(Uid(uid)); 3]).unwrap();
        process
    };
    let (one, same, other) = (user(&parent, 1000), user(&parent, 1000), user(&parent, 1001));
    let far = user(&shell(&table), 1001);
    let zombie = user(&parent, 1001);
    zombie.exit(0).unwrap();
    assert_eq!(one.may_kill(same.pid()), Ok(()));
    for target in [&other, &far, &zombie] {
        assert_eq!(one.kill(target.pid(), Signal::TERM), Err(Errno::EPERM));
    }
    assert_eq!(one.kill(other.pid(), Signal::CONT), Ok(()));
    assert_eq!(one.kill(far.pid(), Signal::CONT), Err(Errno::EPERM));
    assert_eq!(one.kill(Pid(1), Signal::TERM), Err(Errno::EPERM));

    let init = with_guest_init();
    let root = spawn(&init);
    for signal in [Signal::TERM, Signal::KILL, Signal::STOP] {
        assert_eq!(root.kill(Pid(1), signal), Ok(()));
    }
    assert_eq!((run_of(&init), init.exit_status()), (RunState::User, None));
}

/// ZOM-09, KILL-04: a signal to a group with a zombie succeeds, and does not call the driver of the
/// zombie, whose number another host process may have.
#[test]
fn a_signal_to_a_group_calls_no_driver_of_a_zombie() {
    let table = ProcessTable::new();
    let (_shell, job, log) = shell_and_job(&table);
    job.exit(0).unwrap();
    let before = log.seen();
    for signal in [Signal::TERM, Signal::KILL, Signal::STOP, Signal::CONT] {
        assert_eq!(table.init().kill_group(job.pid().into(), signal), Ok(()));
        assert_eq!(job.send(signal), Ok(()));
    }
    assert_eq!(log.seen(), before);

    let real =
        Arc::new(ScriptedDriver::new([Expected::attach().then_report(WaitStatus::exited(0))]));
    let hosted = Spawn::new(Image::new("real")).authority(Authority::Host).driver(real.clone());
    let hosted = table.spawn(hosted.own_group()).unwrap();
    assert_eq!(table.init().kill_group(hosted.pid().into(), Signal::TERM), Ok(()));
    assert_eq!(real.seen(), []);
}

/// EXIT-01, EXIT-03: the status has the low 8 bits of an exit code, or the signal that killed the
/// process.
#[test]
fn a_status_is_eight_bits_or_a_signal() {
    let table = ProcessTable::new();
    for (code, seen) in [(259, 3), (-1, 255), (256, 0)] {
        let guest = spawn(&table.init());
        guest.exit(code).unwrap();
        assert_eq!(guest.exit_status().unwrap().exit_code(), Some(seen));
        let guest = spawn(&table.init());
        guest.report(WaitStatus::exited(code));
        assert_eq!(guest.exit_status().unwrap().exit_code(), Some(seen));
    }
    let guest = spawn(&table.init());
    guest.send(Signal::TERM).unwrap();
    let status = guest.exit_status().unwrap();
    assert_eq!((status.exit_code(), status.term_signal()), (None, Some(Signal::TERM)));
}

/// WAIT-08: only the parent can wait for a child; other processes get ECHILD.
#[test]
fn a_process_waits_only_for_its_own_children() {
    let table = ProcessTable::new();
    let (parent, unrelated) = (shell(&table), shell(&table));
    let child = spawn(&parent);
    child.exit(5).unwrap();
    for other in [&table.init(), &unrelated, &child] {
        let refused = if *other == child { Errno::ESRCH } else { Errno::ECHILD };
        assert_eq!(other.try_wait(&child, ENDS), Err(refused));
        assert_eq!(other.waitpid(child.pid().0 as i32, NOW), Err(refused));
    }
    assert_eq!(parent.wait(&child, ENDS).unwrap().status, WaitStatus::exited(5));
}

/// WAIT-17: a wait for the caller's own group uses the group at the beginning of the wait.
#[test]
fn a_wait_for_the_own_group_means_the_group_at_its_beginning() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let waiter = shell.fork().unwrap();
    let [first, second] = [(); 2].map(|()| waiter.fork().unwrap());
    let old = group_of(&waiter);
    let call = waiting(&waiter, 0);
    let mut outside = pin!(waiter.wait_async(WaitTarget::OwnGroup, ENDS));
    let mut context = Context::from_waker(Waker::noop());
    assert!(outside.as_mut().poll(&mut context).is_pending());
    place(&shell, &waiter, &waiter);
    assert_ne!(group_of(&waiter), old);
    first.exit(1).unwrap();
    let status = Some(WaitStatus::exited(1));
    assert_eq!(call.wait(), Ok(Ret::Waited { pid: first.pid(), status }));
    second.exit(2).unwrap();
    let Poll::Ready(Ok(waited)) = outside.as_mut().poll(&mut context) else { panic!("it is over") };
    assert_eq!(waited.pid, second.pid());
}

/// WAIT-22, WAIT-26, EXIT-12: a child has one unreported event, the last; an exit replaces it.
#[test]
fn a_child_has_one_unreported_event() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let job = spawn(&shell);
    let only = |expected| {
        assert_eq!(shell.try_wait(&job, EVENTS).unwrap().unwrap().status, expected);
    };
    for _ in 0..100 {
        job.send(Signal::STOP).unwrap();
        job.send(Signal::CONT).unwrap();
    }
    only(WaitStatus::CONTINUED);
    assert_eq!(shell.try_wait(&job, EVENTS), Ok(None));
    job.send(Signal::CONT).unwrap();
    assert_eq!(shell.try_wait(&job, EVENTS), Ok(None), "it was running"); // WAIT-28
    job.send(Signal::STOP).unwrap();
    job.send(Signal::CONT).unwrap();
    job.send(Signal::STOP).unwrap();
    only(WaitStatus::stopped(Signal::STOP));
    job.send(Signal::CONT).unwrap();
    job.send(Signal::KILL).unwrap();
    only(killed(Signal::KILL));
    assert_eq!(shell.try_wait(&job, EVENTS), Err(Errno::ECHILD));
}

/// The number of times that a signal was generated for a process since the last call.
fn sent(events: &[TableEvent], to: &Process, signal: Signal) -> usize {
    let is_it = |what| matches!(what, What::Generated(info) if info.signal == signal);
    events.iter().filter(|event| event.pid == to.pid() && is_it(event.what)).count()
}

/// ORP-07, ORP-08: a group gets SIGHUP when it becomes orphaned, and not again when a member ends.
#[test]
fn a_group_is_hung_up_only_when_it_becomes_orphaned() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let [first, second, third] = [(); 3].map(|()| shell.fork().unwrap());
    for member in [&first, &second, &third] {
        place(&shell, member, &first);
        member.sigaction(Signal::HUP, SigAction::IGNORE).unwrap();
        member.sigprocmask(SigmaskHow::Block, Signal::HUP.set()).unwrap();
    }
    third.send(Signal::STOP).unwrap();
    let events = table.subscribe(64).unwrap();
    let seen = || {
        let events: Vec<_> = events.try_iter().collect();
        sent(&events, &third, Signal::HUP)
    };
    shell.exit(0).unwrap();
    assert_eq!(seen(), 1);
    assert_eq!(run_of(&third), RunState::User);
    assert!(third.sigtimedwait(Signal::HUP.set(), None).is_ok());
    third.send(Signal::STOP).unwrap();
    first.exit(0).unwrap();
    second.send(Signal::KILL).unwrap();
    assert_eq!((seen(), run_of(&third)), (0, RunState::Stopped));
}

/// ORP-02, NS-12: a process 1 in the same session keeps the group of a job from being orphaned;
/// only the init of the machine does not.
#[test]
fn only_the_global_init_does_not_keep_a_group_from_being_orphaned() {
    for global in [false, true] {
        let kernel = Config { global_init: global, ..Config::default() };
        let config = TableConfig::new().init(Init::Guest).kernel(kernel);
        let init = ProcessTable::with_config(config).init();
        let shell = init.fork().unwrap();
        let job = shell.fork().unwrap();
        place(&shell, &job, &job);
        job.send(Signal::STOP).unwrap();
        shell.exit(0).unwrap();
        assert_eq!(job.exit_status(), global.then(|| killed(Signal::HUP)));
        assert_eq!(run_of(&job), if global { RunState::Zombie } else { RunState::Stopped });
    }
}

/// RPT-09, RPT-10: the process that adopts a zombie gets its SIGCHLD. If it ignores SIGCHLD it gets
/// none, and the zombie is reaped at once.
#[test]
fn the_adopter_of_a_zombie_is_notified() {
    for ignores in [false, true] {
        let table = ProcessTable::new();
        let (reaper, log) = recorded_shell(&table);
        if ignores {
            reaper.sigaction(Signal::CHLD, SigAction::IGNORE).unwrap();
        }
        reaper.set_subreaper(true).unwrap();
        let parent = spawn(&reaper);
        let zombie = spawn(&parent);
        zombie.exit(7).unwrap();
        parent.exit(0).unwrap();
        let about: Vec<Pid> = log
            .seen()
            .into_iter()
            .filter_map(|op| match op {
                Op::Deliver(Delivery { info, .. }) => Some(info.pid),
                _ => None,
            })
            .collect();
        if ignores {
            assert_eq!((about, zombie.info()), (vec![], None));
        } else {
            // the SIGCHLD of the parent itself merges with this pending one, or follows it
            assert_eq!(about[0], zombie.pid());
            assert_eq!(reaper.wait(&zombie, ENDS).unwrap().status, WaitStatus::exited(7));
        }
    }
}

/// ZOM-10, GRP-08: setpgid can join a group of zombies, as the second process of a pipeline whose
/// first process has ended.
#[test]
fn a_group_of_zombies_can_be_joined() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let first = shell.fork().unwrap();
    place(&shell, &first, &first);
    first.exit(0).unwrap();
    let second = shell.fork().unwrap();
    place(&shell, &second, &first);
    assert_eq!(group_of(&second), first.pid().into());
    shell.wait(&first, ENDS).unwrap();
    let third = shell.fork().unwrap();
    place(&shell, &third, &first);
    assert_eq!(table.group(first.pid().into()).len(), 2); // GRP-12
}

/// GRP-05, GRP-06, GRP-07: a session leader keeps its group, only a process itself and its parent
/// may change the group of the process, and the parent only until its exec.
#[test]
fn setpgid_refuses_session_leaders_unrelated_processes_and_children_after_exec() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    assert_eq!(shell.setpgid(Pid(0), Pgid(0)), Err(Errno::EPERM));
    let child = shell.fork().unwrap();
    let grandchild = child.fork().unwrap();
    assert_eq!(shell.setpgid(grandchild.pid(), Pgid(0)), Err(Errno::ESRCH));
    assert_eq!(child.setpgid(shell.pid(), Pgid(0)), Err(Errno::ESRCH));
    assert_eq!(shell.setpgid(child.pid(), Pgid(0)), Ok(()));
    child.exec(Image::new("ls")).unwrap();
    assert_eq!(shell.setpgid(child.pid(), shell.pid().into()), Err(Errno::EACCES));
    let leader = shell.fork().unwrap();
    leader.setsid().unwrap();
    assert_eq!(shell.setpgid(leader.pid(), Pgid(0)), Err(Errno::EPERM));
}

/// GRP-17, GRP-18, GRP-19: setsid fails while a group with the caller's number has a member, also a
/// zombie.
#[test]
fn no_session_begins_while_the_group_of_its_number_has_members() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    assert_eq!(shell.setsid(), Err(Errno::EPERM));
    let leader = shell.fork().unwrap();
    place(&shell, &leader, &leader);
    assert_eq!(leader.setsid(), Err(Errno::EPERM));
    let member = leader.fork().unwrap();
    leader.setpgid(Pid(0), shell.pid().into()).unwrap();
    assert_eq!(leader.setsid(), Err(Errno::EPERM));
    member.exit(0).unwrap();
    assert_eq!(leader.setsid(), Err(Errno::EPERM));
    leader.wait(&member, ENDS).unwrap();
    assert_eq!(leader.setsid(), Ok(leader.pid().into()));
}

/// PID-08: fork does not use a number that a group or a session has.
#[test]
fn a_number_is_taken_while_a_group_has_it() {
    // only the numbers 300 to 302
    let kernel = Config { pid_max: 303, last_pid: 299, ..Config::default() };
    let table = ProcessTable::with_config(TableConfig::new().kernel(kernel));
    let shell = shell(&table);
    let leader = shell.fork().unwrap();
    let member = shell.fork().unwrap();
    for process in [&leader, &member] {
        place(&shell, process, &leader);
    }
    leader.exit(0).unwrap();
    shell.wait(&leader, ENDS).unwrap();
    assert_eq!(table.get(leader.pid()), None);
    assert_eq!(shell.fork(), Err(Errno::EAGAIN));
    member.exit(0).unwrap();
    shell.wait(&member, ENDS).unwrap();
    assert_eq!(shell.fork().unwrap().pid(), leader.pid());
}

/// FORK-01, PID-01: a process has a living parent and a number of its own; a spawn cannot set
/// either.
#[test]
fn a_process_has_a_living_parent_and_a_number_of_its_own() {
    let table = ProcessTable::new();
    let zombie = spawn(&table.init());
    zombie.exit(0).unwrap();
    let a_child = || Spawn::new(Image::new("x"));
    assert_eq!(zombie.spawn(a_child()), Err(Errno::ESRCH));
    assert_eq!(zombie.fork(), Err(Errno::ESRCH));
    table.init().wait(&zombie, ENDS).unwrap();
    assert_eq!(zombie.spawn(a_child()), Err(Errno::ESRCH));
    assert_eq!(table.process(Pid(999)), None);
    let numbers: BTreeSet<Pid> = (0..100).map(|_| spawn(&table.init()).pid()).collect();
    assert_eq!(numbers.len(), 100);
}

/// PID-09: a report concerns the process of its reporter, also if a later process has the number.
#[test]
fn a_late_report_does_not_affect_a_later_process_of_that_number() {
    let kernel = Config { pid_max: 301, last_pid: 299, ..Config::default() };
    let table = ProcessTable::with_config(TableConfig::new().kernel(kernel));
    let (old, log) = recorded(&table.init());
    let late = log.reporter().unwrap();
    old.exit(0).unwrap();
    table.init().wait(&old, ENDS).unwrap();
    let new = spawn(&table.init());
    assert_eq!(new.pid(), old.pid());
    late.exited(9);
    late.stopped(Signal::STOP);
    old.report(killed(Signal::KILL));
    assert_eq!((old.send(Signal::KILL), old.info()), (Err(Errno::ESRCH), None));
    assert_eq!((run_of(&new), new.exit_status()), (RunState::User, None));
}

/// A report of an exit during the creation of the process is not lost, neither from the `attach` of
/// its driver nor from another thread.
#[test]
fn an_end_during_creation_is_not_lost() {
    let table = ProcessTable::new();
    let ended = WaitStatus::exited(27);
    let driver = Arc::new(ScriptedDriver::new([Expected::attach().then_report(ended)]));
    let quick = Spawn::new(Image::new("quick")).authority(Authority::Host).driver(driver);
    let quick = table.spawn(quick).unwrap();
    assert_eq!(table.init().wait(&quick, ENDS).unwrap().status, ended);

    let driver = Arc::new(ScriptedDriver::default());
    let quicker = Spawn::new(Image::new("quicker")).authority(Authority::Host);
    let quicker = quicker.driver(driver.clone());
    let reporter = quicker.reporter();
    thread::scope(|scope| drop(scope.spawn(|| reporter.report(ended))));
    let quicker = table.spawn(quicker).unwrap();
    assert_eq!(table.init().wait(&quicker, ENDS).unwrap().status, ended);
    assert_eq!(driver.seen(), []);
}

/// JOB-06: the end of the table takes one grace period for stopped processes and fifty processes
/// that ignore SIGTERM together, and parents get their SIGCHLD.
#[test]
fn all_processes_share_one_grace_period() {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    let stopped = spawn(&table.init());
    stopped.send(Signal::STOP).unwrap();
    let stubborn: Vec<Process> = (0..50)
        .map(|_| {
            let process = spawn(&table.init());
            process.sigaction(Signal::TERM, SigAction::IGNORE).unwrap();
            process
        })
        .collect();
    stubborn[0].sigaction(Signal::CHLD, caught()).unwrap();
    let child = spawn(&stubborn[0]);
    child.sigaction(Signal::TERM, SigAction::DEFAULT).unwrap();
    let events = table.subscribe(1024).unwrap();
    let grace = Duration::from_secs(1);
    let terminated = thread::scope(|scope| {
        let ending = scope.spawn(|| table.terminate_all(grace));
        // the sleep has begun when its alarm is the next deadline
        while table.next_deadline() != Some(table.now().after(1_000_000_000)) {
            thread::yield_now();
        }
        clock.advance(grace);
        table.reap_due(table.now());
        ending.join().unwrap()
    });
    assert_eq!(table.now().0, 1_000_000_000, "one grace and no more");
    for ended in [&stopped, &child] {
        assert_eq!(terminated.ended[&ended.pid()], killed(Signal::TERM));
    }
    for ended in &stubborn {
        assert_eq!(terminated.ended[&ended.pid()], killed(Signal::KILL));
    }
    let events: Vec<_> = events.try_iter().collect();
    assert_eq!(sent(&events, &stubborn[0], Signal::CHLD), 1);
}

/// SIG-23, SIG-24: all instances of a real-time signal queue, in order; of a standard signal only
/// one is pending.
#[test]
fn real_time_signals_queue() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    let set = Signal::RTMAX.set().with(Signal::USR1);
    guest.sigprocmask(SigmaskHow::Block, set).unwrap();
    for value in 1..=3 {
        table.init().sigqueue(guest.pid(), Signal::RTMAX, value).unwrap();
        table.init().kill(guest.pid(), Signal::USR1).unwrap();
    }
    let poll = || guest.sigtimedwait(set, Some(Duration::ZERO));
    assert_eq!(poll().map(|info| info.signal), Ok(Signal::USR1));
    for value in 1..=3 {
        let info = poll().unwrap();
        assert_eq!((info.signal, info.value), (Signal::RTMAX, value));
    }
    assert_eq!(poll(), Err(Errno::EAGAIN));
}

/// SIG-01, SIG-04, SIG-19, SIG-42, EXEC-01: an action is the default, SIG_IGN, or a handler, which
/// runs once with SA_RESETHAND and which exec resets.
#[test]
fn dispositions_decide_what_a_signal_does() {
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    for signal in [Signal::URG, Signal::WINCH, Signal::CHLD, Signal::CONT] {
        guest.send(signal).unwrap();
    }
    guest.sigaction(Signal::TERM, SigAction::IGNORE).unwrap();
    guest.send(Signal::TERM).unwrap();
    assert_eq!(log.seen(), []);
    let once = SigAction { flags: SaFlags::RESETHAND, ..caught() };
    guest.sigaction(Signal::USR1, once).unwrap();
    guest.sigaction(Signal::USR2, caught()).unwrap();
    guest.send(Signal::USR1).unwrap();
    guest.sigreturn().unwrap();
    assert_eq!(log.delivered(), [Signal::USR1]);
    assert_eq!(guest.disposition(Signal::USR1).unwrap().handler, SigAction::DEFAULT.handler);
    guest.exec(Image::new("ls")).unwrap();
    assert_eq!(guest.disposition(Signal::TERM).unwrap(), SigAction::IGNORE);
    guest.send(Signal::USR2).unwrap();
    assert_eq!(guest.exit_status(), Some(killed(Signal::USR2)));
}

/// CHLD-03, CHLD-04: with SA_NOCLDSTOP a parent gets no SIGCHLD of stops and continues, and can
/// still wait for them; it gets the SIGCHLD of exits.
#[test]
fn sa_nocldstop_keeps_the_events_and_drops_the_signals() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let quiet = SigAction { flags: SaFlags::NOCLDSTOP, ..caught() };
    shell.sigaction(Signal::CHLD, quiet).unwrap();
    let job = spawn(&shell);
    job.send(Signal::STOP).unwrap();
    assert!(shell.try_wait(&job, STOPS).unwrap().is_some());
    job.send(Signal::CONT).unwrap();
    assert!(shell.try_wait(&job, CONTINUES).unwrap().is_some());
    assert_eq!(log.delivered(), []);
    job.send(Signal::KILL).unwrap();
    assert_eq!(log.delivered(), [Signal::CHLD]);
}

/// ZOM-02, ZOM-03, ZOM-07: if the parent ignores SIGCHLD or set SA_NOCLDWAIT, exits leave no
/// zombie, and a wait returns ECHILD when the last child has exited; a handler still gets its
/// SIGCHLD.
#[test]
fn children_of_a_parent_that_ignores_sigchld_leave_no_zombie() {
    let table = ProcessTable::new();
    let no_wait = SigAction { flags: SaFlags::NOCLDWAIT, ..caught() };
    for (action, signals) in [(no_wait, 1), (SigAction::IGNORE, 0)] {
        let (shell, log) = recorded_shell(&table);
        shell.sigaction(Signal::CHLD, action).unwrap();
        let child = spawn(&shell);
        let mut wait = pin!(shell.wait_async(WaitTarget::Any, ENDS));
        let mut context = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        child.exit(0).unwrap();
        assert_eq!(child.info(), None);
        assert_eq!(wait.as_mut().poll(&mut context), Poll::Ready(Err(Errno::ECHILD)));
        assert_eq!(log.delivered().len(), signals);
    }
}

/// RPT-02, RPT-20: the nearest subreaper among the ancestors adopts.
#[test]
fn the_nearest_subreaper_adopts() {
    let table = ProcessTable::new();
    let far = spawn(&table.init());
    let near = spawn(&far);
    let parent = spawn(&near);
    let child = spawn(&parent);
    far.set_subreaper(true).unwrap();
    near.set_subreaper(true).unwrap();
    parent.exit(0).unwrap();
    assert_eq!(child.getppid(), Ok(near.pid()));
    near.exit(0).unwrap();
    assert_eq!(child.getppid(), Ok(far.pid()));
    far.exit(0).unwrap();
    assert_eq!(child.getppid(), Ok(Pid(1)));
}

/// WAIT-41, WAIT-44, SIG-44: a handler interrupts a wait of the process, unless it has SA_RESTART;
/// a stop and a continue do not interrupt it.
#[test]
fn handlers_interrupt_the_waits_of_a_process() {
    let table = ProcessTable::new();
    let (shell, _log) = recorded_shell(&table);
    shell.sigaction(Signal::USR1, caught()).unwrap();
    shell.sigaction(Signal::USR2, SigAction { flags: SaFlags::RESTART, ..caught() }).unwrap();
    let child = spawn(&shell);
    let wait = waiting(&shell, -1);
    shell.send(Signal::STOP).unwrap();
    shell.send(Signal::CONT).unwrap();
    shell.send(Signal::USR2).unwrap();
    shell.sigreturn().unwrap();
    assert_eq!((wait.result(), run_of(&shell)), (None, RunState::Blocked));
    shell.send(Signal::USR1).unwrap();
    shell.sigreturn().unwrap();
    assert_eq!(wait.wait(), Err(Errno::EINTR));
    // no signal interrupts the runtime's own wait
    let mut outside = pin!(shell.wait_async(&child, ENDS));
    let mut context = Context::from_waker(Waker::noop());
    assert!(outside.as_mut().poll(&mut context).is_pending());
    shell.send(Signal::USR1).unwrap();
    assert!(outside.as_mut().poll(&mut context).is_pending());
}

/// SIG-50: waits have timeouts, by the clock of the table.
#[test]
fn waits_have_timeouts() {
    let clock = ManualClock::new();
    let config = TableConfig::new().clock(clock.clone()).zombie_ttl(None);
    let table = ProcessTable::with_config(config);
    let shell = shell(&table);
    let child = spawn(&shell);
    let second = Duration::from_secs(1);
    thread::scope(|scope| {
        let for_child = scope.spawn(|| shell.wait_timeout(&child, ENDS, second));
        let for_signal = scope.spawn(|| child.sigtimedwait(Signal::USR1.set(), Some(second)));
        while table.next_deadline().is_none() || run_of(&child) != RunState::Blocked {
            thread::yield_now();
        }
        while !(for_child.is_finished() && for_signal.is_finished()) {
            clock.advance(second);
            table.reap_due(table.now());
            thread::yield_now();
        }
        assert_eq!(for_child.join().unwrap(), Ok(None));
        assert_eq!(for_signal.join().unwrap(), Err(Errno::EAGAIN));
    });
}

/// WAIT-04, WAIT-33, WAIT-36: the options of waitid(2) select the kinds of events, and WNOWAIT
/// leaves the event.
#[test]
fn wnowait_leaves_the_event() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let job = spawn(&shell);
    let look = EVENTS.with(WaitOptions::NOWAIT);
    job.send(Signal::STOP).unwrap();
    for _ in 0..2 {
        let seen = shell.try_wait(&job, look).unwrap().unwrap();
        assert_eq!(seen.status, WaitStatus::stopped(Signal::STOP));
    }
    assert_eq!(shell.try_wait(&job, ENDS), Ok(None));
    job.send(Signal::KILL).unwrap();
    for _ in 0..2 {
        assert_eq!(shell.try_wait(&job, look).unwrap().unwrap().status, killed(Signal::KILL));
    }
    assert!(shell.try_wait(&job, ENDS).unwrap().is_some());
    assert_eq!(shell.try_wait(&job, WaitOptions::NOWAIT), Err(Errno::EINVAL));
}

/// A driver that records whether its process runs.
#[derive(Default)]
struct Switch {
    stopped: AtomicBool,
}

impl DriverProcess for Switch {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {
        assert!(!self.stopped.swap(true, Ordering::SeqCst), "it is stopped once");
    }
    fn resume(&self) {
        assert!(self.stopped.swap(false, Ordering::SeqCst), "it is resumed once");
    }
    fn terminate(&self, _: WaitStatus) {}
}

/// A stop and a continue from two threads reach the driver in the order of their transitions: in
/// 10,000 overlaps the driver never disagrees with the table.
#[test]
fn a_stop_that_races_a_continue_leaves_driver_and_table_agreed() {
    const ROUNDS: usize = 10_000;
    let table = ProcessTable::new();
    let faults = table.subscribe(4 * ROUNDS).unwrap();
    let switch = Arc::new(Switch::default());
    let guest = table.spawn(Spawn::new(Image::new("guest")).driver(switch.clone())).unwrap();
    let barrier = Barrier::new(2);
    let mut stopped = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                barrier.wait();
                guest.send(Signal::CONT).unwrap();
                barrier.wait();
            }
        });
        for _ in 0..ROUNDS {
            barrier.wait();
            guest.send(Signal::STOP).unwrap();
            barrier.wait();
            // both calls have returned, and the other thread makes no call before the next round
            let is_stopped = run_of(&guest) == RunState::Stopped;
            assert_eq!(switch.stopped.load(Ordering::SeqCst), is_stopped);
            stopped += usize::from(is_stopped);
        }
    });
    assert_eq!(table.counts().stopped, usize::from(run_of(&guest) == RunState::Stopped));
    let is_fault = |what| matches!(what, What::DriverFault(_));
    assert!(!faults.try_iter().any(|event| is_fault(event.what)), "{stopped} rounds ended stopped");
}

/// One timer thread serves all tables, and tables without a deadline need none.
#[cfg(target_os = "linux")]
#[test]
fn one_timer_thread_serves_all_tables() {
    let tables: Vec<ProcessTable> = (0..32).map(|_| ProcessTable::new()).collect();
    for table in &tables {
        spawn(&table.init()).exit(0).unwrap();
        assert!(table.next_deadline().is_some());
    }
    let timer_threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("proctable-timer")).count()
    };
    // a timer thread of another test may be about to exit, and ours may not have its name yet; ours
    // stays as long as the tables
    let begin = std::time::Instant::now();
    while timer_threads() != 1 && begin.elapsed() < super::SOON {
        thread::yield_now();
    }
    assert_eq!(timer_threads(), 1);
}

/// WAIT-30, RPT-07: of several children that have ended a wait reports the one that the parent
/// created or adopted first, whatever the order of their numbers and exits; adopted children are
/// last.
#[test]
fn wait_reports_children_in_the_order_of_creation_and_adoption() {
    let table = ProcessTable::new();
    let reaper = shell(&table);
    reaper.set_subreaper(true).unwrap();
    let parent = spawn(&reaper);
    let adopted = spawn(&parent);
    let own = spawn(&reaper);
    assert!(adopted.pid() < own.pid());
    adopted.exit(0).unwrap();
    parent.exit(0).unwrap();
    own.exit(0).unwrap();
    let order = [(); 3].map(|()| reaper.wait(WaitTarget::Any, ENDS).unwrap().pid);
    assert_eq!(order, super::pids([&parent, &own, &adopted]));
}

/// FORK-02, FORK-04: a child has its parent's mask and none of its pending signals.
#[test]
fn a_child_has_the_mask_and_no_pending_signals() {
    let table = ProcessTable::new();
    let parent = spawn(&table.init());
    parent.sigprocmask(SigmaskHow::Block, Signal::USR1.set()).unwrap();
    parent.send(Signal::USR1).unwrap();
    let child = parent.fork().unwrap();
    let view = child.view().unwrap();
    assert_eq!((view.blocked, view.shared | view.private), (Signal::USR1.set(), SigSet::EMPTY));
}

/// EXEC-03, EXEC-07: an execve of a stopped process takes effect when the process continues; exec
/// changes only the program.
#[test]
fn an_exec_of_a_stopped_process_runs_after_the_continue() {
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    guest.send(Signal::STOP).unwrap();
    let call = guest.submit(Syscall::Execve { path: "ls".into(), error: None });
    assert_eq!((call.result(), run_of(&guest)), (None, RunState::Stopped));
    guest.send(Signal::CONT).unwrap();
    assert!(call.wait().is_ok());
    assert_eq!(changes(&log), [Op::Stop(Signal::STOP), Op::Resume]);
}
