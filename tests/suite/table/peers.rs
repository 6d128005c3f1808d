//! The tests of other process tables, for this table. The numbers T1 to T27 and U1 to U4 are those
//! of docs/PEERS.md, which lists the different expectations of the peers.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proctable::abi::{Errno, Pgid, Pid, SiCode, Sid, SigAction, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Op};
use proctable::drivers::{Expected, ScriptedDriver};
use proctable::kernel::{Config, RunState};
use proctable::syscall::Syscall;
use proctable::table::{
    GroupChoice, Image, Init, ManualClock, Process, ProcessTable, SigmaskHow, Spawn, TableConfig,
    TableEvent, WaitTarget, What,
};

use super::{
    caught, changes, group_of, killed, pids, place, recorded, recorded_shell, shell, spawn, unblock,
};

const NOW: WaitOptions = WaitOptions::NOHANG;
const STOPS: WaitOptions = WaitOptions::STOPPED;
const CONTINUES: WaitOptions = WaitOptions::CONTINUED;
const ENDS: WaitOptions = WaitOptions::EXITED;

/// A program with arguments.
fn program(name: &str, args: &[&str]) -> Image {
    Image { args: args.iter().map(|arg| arg.to_string()).collect(), ..Image::new(name) }
}

/// A table that reaps zombies after that time of a `ManualClock`.
fn with_ttl(ttl: Duration) -> (ProcessTable, ManualClock) {
    let clock = ManualClock::new();
    let config = TableConfig::new().clock(clock.clone()).zombie_ttl(Some(ttl));
    (ProcessTable::with_config(config), clock)
}

/// T1. FORK-01, PID-01: numbers ascend, and a child has its parent's group and session. As the
/// peers expect, but the peers allocate the numbers before they create the processes.
#[test]
fn a_new_process_has_the_next_number_and_its_parents_group_and_session() {
    let table = ProcessTable::new();
    let first = table.spawn(Spawn::new(program("grep", &["-r", "x"])).session()).unwrap();
    let second = first.spawn(Spawn::new(program("node", &["-e", "1"]))).unwrap();
    assert_eq!(pids([&first, &second]), [Pid(2), Pid(3)]);
    for process in [&first, &second] {
        let info = process.info().unwrap();
        assert_eq!((info.pgid, info.sid), (Pgid(2), Sid(2)));
    }
    assert_eq!(second.info().unwrap().ppid, first.pid());
    assert_eq!(second.image().unwrap().program, "node");

    // PID-21, GRP-22: the init of a namespace sees neither its group nor its session
    let init = ProcessTable::with_config(TableConfig::new().init(Init::Guest)).init();
    let info = init.info().unwrap();
    assert_eq!((info.pgid, info.sid), (Pgid(0), Sid(0)));
    assert_eq!(init.setsid(), Ok(Sid(1)));
}

/// T2. WAIT-37, EXIT-01: a wait returns a later exit and an earlier one, each once. The peers' wait
/// has no caller; ours has the parent as its caller, and a second wait finds no child.
#[test]
fn a_wait_returns_a_later_exit_and_an_earlier_one() {
    let table = ProcessTable::new();
    let init = table.init();
    let first = spawn(&init);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| init.wait(&first, ENDS).unwrap().status);
        first.exit(0).unwrap();
        assert_eq!(waiter.join().unwrap(), WaitStatus::exited(0));
    });
    let second = spawn(&init);
    second.report(WaitStatus::exited(42));
    assert_eq!(table.reapable_zombies(), 1);
    assert_eq!(init.wait(&second, ENDS).unwrap().status, WaitStatus(42 << 8));
    assert_eq!(table.reapable_zombies(), 0);
    assert_eq!((table.get(first.pid()), table.get(second.pid())), (None, None));
    assert_eq!(init.wait(&second, ENDS), Err(Errno::ECHILD));
}

/// T3. ZOM-01, WAIT-30: the zombies of a living parent stay until it waits, and waits return them
/// in the order of their creation. As the peers expect.
#[test]
fn a_hundred_zombies_of_a_living_parent_are_waited_for_in_order() {
    let (table, clock) = with_ttl(Duration::from_millis(1));
    let shell = shell(&table);
    let children: Vec<Pid> = (0..100)
        .map(|code| {
            let child = spawn(&shell);
            child.exit(code).unwrap();
            child.pid()
        })
        .collect();
    clock.advance(Duration::from_secs(60));
    assert_eq!(table.reap_due(table.now()), 0);
    assert_eq!((table.counts().zombies, table.reapable_zombies()), (100, 0));
    for (code, child) in children.into_iter().enumerate() {
        let waited = shell.wait(WaitTarget::Any, ENDS).unwrap();
        assert_eq!((waited.pid, waited.status), (child, WaitStatus::exited(code as i32)));
    }
    assert_eq!(table.counts().zombies, 0);
}

/// T4, U4. PID-02, PID-03, PID-09: after the last number the search restarts at 300, and zombies
/// keep their numbers. The peers count to 2^31 - 1 and restart at 1.
#[test]
fn numbers_wrap_to_300_and_zombies_keep_theirs() {
    let kernel = Config { pid_max: 330, last_pid: 327, ..Config::default() };
    let table = ProcessTable::with_config(TableConfig::new().kernel(kernel));
    let init = table.init();
    let alive = spawn(&init);
    let dead = spawn(&init);
    dead.exit(0).unwrap();
    let next: Vec<Pid> = (0..28).map(|_| spawn(&init).pid()).collect();
    assert_eq!(pids([&alive, &dead]), [Pid(328), Pid(329)]);
    assert_eq!(next, (300..328).map(Pid).collect::<Vec<_>>());
    // PID-05: a number below 300 is used only once
    assert_eq!(init.fork(), Err(Errno::EAGAIN));
    init.wait(&dead, ENDS).unwrap();
    assert_eq!(spawn(&init).pid(), Pid(329));
}

/// T5. WAIT-10, WAIT-37: a wait with WNOHANG returns 0 before an exit, and a wait for any child
/// returns the one that ended. As the peers expect.
#[test]
fn a_wait_for_any_child_returns_the_one_that_ended() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let (first, second) = (spawn(&shell), spawn(&shell));
    assert_eq!(shell.waitpid(-1, NOW), Ok(None));
    second.exit(27).unwrap();
    assert_eq!(
        shell.waitpid(-1, WaitOptions::default()),
        Ok(Some((second.pid(), WaitStatus::exited(27))))
    );
    assert_eq!(table.get(second.pid()), None);
    assert!(table.get(first.pid()).is_some());
}

/// T6. TABLE-01: the callback runs before a wait returns the exit, also a wait that begins during
/// the callback, and before the parent's SIGCHLD. The peers delay only the waits that sleep
/// already.
#[test]
fn the_exit_callback_runs_before_any_wait_returns() {
    let table = ProcessTable::new();
    let (parent, log) = recorded_shell(&table);
    let child = spawn(&parent);
    let (entered, has_entered) = crossbeam_channel::bounded(0);
    let (leave, may_leave) = crossbeam_channel::bounded(0);
    table.set_on_process_exit(Some(Arc::new(move |process, _| {
        entered.send(process.pid()).unwrap();
        may_leave.recv().unwrap();
    })));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| parent.wait(&child, ENDS).unwrap().status);
        scope.spawn(|| child.exit(0).unwrap());
        assert_eq!(has_entered.recv(), Ok(child.pid()));
        assert_eq!(parent.try_wait(&child, ENDS), Ok(None));
        assert!(!waiter.is_finished());
        assert_eq!(log.delivered(), []);
        leave.send(()).unwrap();
        assert_eq!(waiter.join().unwrap(), WaitStatus::exited(0));
    });
    assert_eq!(log.delivered(), [Signal::CHLD]);
}

/// T7. WAIT-34, CHLD-02, CHLD-05: a wait with WUNTRACED or WCONTINUED reports each stop and each
/// continue once, with a SIGCHLD each. As the peers expect; they do not wait twice.
#[test]
fn a_stop_and_a_continue_are_reported_once_each() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let job = spawn(&shell);
    job.report(WaitStatus::stopped(Signal::STOP));
    shell.sigreturn().unwrap();
    assert_eq!(shell.waitpid(-1, NOW), Ok(None));
    let stopped = Some((job.pid(), WaitStatus::stopped(Signal::STOP)));
    assert_eq!(shell.waitpid(-1, NOW.with(STOPS)), Ok(stopped));
    assert_eq!(shell.waitpid(-1, NOW.with(STOPS)), Ok(None));
    assert_eq!(job.info().unwrap().run, RunState::Stopped);

    job.report(WaitStatus::CONTINUED);
    shell.sigreturn().unwrap();
    let continued = Some((job.pid(), WaitStatus::CONTINUED));
    assert_eq!(shell.waitpid(-1, NOW.with(CONTINUES)), Ok(continued));
    assert_eq!(shell.waitpid(-1, NOW.with(CONTINUES)), Ok(None));
    assert_eq!(job.info().unwrap().run, RunState::User);
    assert_eq!(log.delivered(), [Signal::CHLD; 2]);
}

/// T8. WAIT-22, WAIT-23, WAIT-33, JOB-07, CHLD-08: an exit replaces an unreported stop; a wait for
/// stops finds no event and leaves the zombie. The peers still return the stop.
#[test]
fn a_wait_without_wexited_leaves_exits() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let job = spawn(&shell);
    job.send(Signal::STOP).unwrap();
    shell.sigreturn().unwrap();
    job.send(Signal::KILL).unwrap();
    shell.sigreturn().unwrap();
    assert_eq!(shell.try_wait(&job, STOPS), Err(Errno::ECHILD));
    for _ in 0..2 {
        let seen = shell.try_wait(&job, ENDS.with(WaitOptions::NOWAIT)).unwrap().unwrap();
        assert_eq!(seen.status, killed(Signal::KILL));
    }
    assert_eq!(shell.wait(&job, ENDS).unwrap().status, killed(Signal::KILL));
    assert_eq!(log.delivered(), [Signal::CHLD; 2], "one of the stop, one of the end");
}

/// T9. KILL-06, KILL-08, ZOM-09: signal 0 only checks; an unknown number is ESRCH, also with an
/// invalid signal. The peers check the signal before they look for the process.
#[test]
fn kill_checks_the_process_and_then_the_signal() {
    let table = ProcessTable::new();
    let init = table.init();
    let (guest, log) = recorded(&init);
    let kill = |pid, sig| init.syscall(Syscall::Kill { pid, sig }).map(drop);
    let pid = guest.pid().0 as i32;
    assert_eq!(kill(pid, 0), Ok(()));
    assert_eq!(changes(&log), []);
    assert_eq!(kill(pid, 15), Ok(()));
    assert_eq!(changes(&log), [Op::Terminate(killed(Signal::TERM))]);
    assert_eq!(guest.info().unwrap().run, RunState::Zombie);
    assert_eq!((kill(pid, -1), kill(pid, 100)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    assert_eq!((kill(999, 15), kill(999, 100)), (Err(Errno::ESRCH), Err(Errno::ESRCH)));
}

/// T10. JOB-03, JOB-11, ORP-04: a stop signal stops a job of a shell, and SIGCONT continues it
/// without a delivery; in an orphaned group the stop signal is discarded. The peers stop the job
/// there too.
#[test]
fn a_job_of_a_shell_is_stopped_and_resumed_and_an_orphaned_one_is_not() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let (job, actions) = recorded(&shell);
    place(&shell, &job, &job);
    let init = table.init();
    init.kill(job.pid(), Signal::TSTP).unwrap();
    shell.sigreturn().unwrap();
    let stopped = shell.try_wait(&job, STOPS).unwrap().unwrap();
    assert_eq!(stopped.status, WaitStatus::stopped(Signal::TSTP));
    init.kill(job.pid(), Signal::CONT).unwrap();
    shell.sigreturn().unwrap();
    let continued = shell.try_wait(&job, CONTINUES).unwrap().unwrap();
    assert_eq!(continued.status, WaitStatus::CONTINUED);
    assert_eq!(changes(&actions), [Op::Stop(Signal::TSTP), Op::Resume]);
    assert_eq!(actions.delivered(), []);
    assert_eq!(log.delivered(), [Signal::CHLD; 2]);

    // no member of the shell's own group has a parent in another group of the session (ORP-03)
    let (member, actions) = recorded(&shell);
    init.kill(member.pid(), Signal::TSTP).unwrap();
    assert_eq!(changes(&actions), []);
    assert_eq!(shell.try_wait(&member, STOPS), Ok(None));
}

/// T11. CHLD-01: an exit sends SIGCHLD to the living parent, which can then wait. The peers deliver
/// it without a handler; on Linux the default action is to ignore it (CHLD-07).
#[test]
fn an_end_sends_sigchld_to_the_living_parent() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let child = spawn(&shell);
    child.exit(3).unwrap();
    let delivery = log.seen().into_iter().find_map(|op| match op {
        Op::Deliver(delivery) => Some(delivery.info),
        _ => None,
    });
    let info = delivery.unwrap();
    assert_eq!((info.signal, info.code), (Signal::CHLD, SiCode::CLD_EXITED));
    assert_eq!((info.pid, info.status()), (child.pid(), 3));
    shell.sigreturn().unwrap();
    assert_eq!(shell.wait(&child, ENDS).unwrap().status, WaitStatus::exited(3));

    let (careless, log) = recorded(&table.init());
    spawn(&careless).exit(0).unwrap();
    assert_eq!(log.delivered(), []);
}

/// T12. SIG-17, SIG-20, WAIT-45: a blocked SIGCHLD stays pending, also after a wait for its child,
/// and is delivered before the call that unblocks it returns. As the peers expect; they do not wait
/// in between.
#[test]
fn a_blocked_sigchld_stays_pending_until_it_is_unblocked() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let chld = Signal::CHLD.set();
    assert!(shell.sigprocmask(SigmaskHow::Block, chld).unwrap().is_empty());
    let child = spawn(&shell);
    child.exit(0).unwrap();
    shell.wait(&child, ENDS).unwrap();
    assert_eq!(shell.sigpending(), Ok(chld));
    assert_eq!(log.delivered(), []);

    let unblocking = unblock(&shell, chld);
    assert_eq!(log.delivered(), [Signal::CHLD]);
    assert_eq!(unblocking.result(), None, "the handler has not returned");
    shell.sigreturn().unwrap();
    assert!(unblocking.wait().is_ok());
    assert!(shell.sigpending().unwrap().is_empty());
}

/// T13. EXIT-03, CHLD-01, WAIT-36: the status of a process that a signal killed names the signal.
/// In the peers it is exit code 143.
#[test]
fn a_process_killed_by_a_signal_has_a_signal_status() {
    let table = ProcessTable::new();
    let (shell, log) = recorded_shell(&table);
    let child = spawn(&shell);
    table.init().kill(child.pid(), Signal::TERM).unwrap();
    assert_eq!(log.delivered(), [Signal::CHLD]);
    shell.sigreturn().unwrap();
    let waited = shell.wait(&child, ENDS).unwrap();
    assert_eq!((waited.status, waited.info.code), (WaitStatus(15), SiCode::CLD_KILLED));
    assert_eq!(waited.info.status(), 15);
}

/// T14. SIG-17, SIG-29, KILL-24: a blocked SIGTERM acts when it is unblocked, and that call does
/// not return. The peers send it to process 1, which on Linux discards it when it is unblocked.
#[test]
fn a_blocked_sigterm_acts_when_it_is_unblocked() {
    let term = Signal::TERM.set();
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    guest.sigprocmask(SigmaskHow::Block, term).unwrap();
    table.init().kill(guest.pid(), Signal::TERM).unwrap();
    assert_eq!(changes(&log), []);
    assert_eq!(guest.sigpending(), Ok(term));
    assert_eq!(guest.sigprocmask(SigmaskHow::Unblock, term), Err(Errno::ESRCH));
    assert_eq!(changes(&log), [Op::Terminate(killed(Signal::TERM))]);
    assert_eq!(table.init().wait(&guest, ENDS).unwrap().status, killed(Signal::TERM));

    let init = ProcessTable::with_config(TableConfig::new().init(Init::Guest)).init();
    init.sigprocmask(SigmaskHow::Block, term).unwrap();
    init.kill(Pid(1), Signal::TERM).unwrap();
    assert_eq!(init.sigpending(), Ok(term));
    assert_eq!(init.sigprocmask(SigmaskHow::Unblock, term), Ok(term));
    assert!(init.sigpending().unwrap().is_empty());
}

/// T15. GRP-08, GRP-09, GRP-16: setpgid joins groups of the same session only. As the peers expect,
/// but here a process with the permission makes each call.
#[test]
fn groups_are_joined_within_a_session_only() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let [leader, member, other] = [(); 3].map(|()| shell.fork().unwrap());
    assert_eq!(leader.setpgid(Pid(0), Pgid(0)), Ok(()));
    assert_eq!(shell.setpgid(member.pid(), leader.pid().into()), Ok(()));
    assert_eq!(shell.getpgid(leader.pid()), Ok(leader.pid().into()));
    assert_eq!(shell.getpgid(member.pid()), Ok(leader.pid().into()));
    assert_eq!(table.group(leader.pid().into()).len(), 2);
    assert_eq!(other.setsid(), Ok(other.pid().into()));
    assert_eq!(shell.getsid(other.pid()), Ok(other.pid().into()));
    assert_eq!(member.setpgid(Pid(0), other.pid().into()), Err(Errno::EPERM));
}

/// T16. KILL-03, KILL-04, KILL-13: a signal to a group reaches its members, the last one that
/// joined first. The peers send it to -1 for group 1; on Linux -1 is all processes.
#[test]
fn a_signal_to_a_group_reaches_all_its_members() {
    let table = ProcessTable::new();
    let events = table.subscribe(64).unwrap();
    let shell = shell(&table);
    let [leader, member] = [(); 2].map(|()| shell.fork().unwrap());
    place(&shell, &leader, &leader);
    place(&shell, &member, &leader);
    table.init().kill_group(leader.pid().into(), Signal::TERM).unwrap();
    let sent: Vec<Pid> = events
        .try_iter()
        .filter(|event| matches!(event.what, What::Generated(info) if info.signal == Signal::TERM))
        .map(|event| event.pid)
        .collect();
    assert_eq!(sent, pids([&member, &leader]));
    for process in [&leader, &member] {
        assert_eq!(process.exit_status(), Some(killed(Signal::TERM)));
    }
    assert_eq!(shell.exit_status(), None);
}

/// T17. KILL-04, KILL-08, KILL-12: signal 0 checks whether a group has a member, and sends nothing.
/// The peers use -1 for group 1.
#[test]
fn signal_zero_checks_whether_a_group_exists() {
    let table = ProcessTable::new();
    let (guest, log) = recorded(&table.init());
    guest.setpgid(Pid(0), Pgid(0)).unwrap();
    let init = table.init();
    assert_eq!(init.may_kill_group(group_of(&guest)), Ok(()));
    assert_eq!(log.seen(), []);
    assert_eq!(init.may_kill_group(Pgid(999)), Err(Errno::ESRCH));
    let kill_all = |caller: &Process| caller.syscall(Syscall::Kill { pid: -1, sig: 0 }).map(drop);
    assert_eq!(kill_all(&init), Ok(()));
    assert_eq!(kill_all(&guest), Err(Errno::ESRCH), "the init is the only other process");
}

/// T18. JOB-06, ZOM-09, ZOM-10: the running member of a group gets a signal at once, the stopped
/// member when it continues, and the zombie never. The peers call the drivers of all three.
#[test]
fn a_stopped_member_gets_a_group_signal_later_and_a_zombie_never() {
    let table = ProcessTable::new();
    let init = table.init();
    let shell = shell(&table);
    let [running, stopped, dead] = [(); 3].map(|()| recorded(&shell));
    for (member, _) in [&running, &stopped, &dead] {
        place(&shell, member, &running.0);
        member.sigaction(Signal::TERM, caught()).unwrap();
    }
    stopped.0.send(Signal::STOP).unwrap();
    dead.0.exit(23).unwrap();
    let group = running.0.pid().into();
    assert_eq!(init.kill_group(group, Signal::TERM), Ok(()));
    assert_eq!(running.1.delivered(), [Signal::TERM]);
    assert_eq!(stopped.1.delivered(), []);
    stopped.0.send(Signal::CONT).unwrap();
    assert_eq!(stopped.1.delivered(), [Signal::TERM]);
    assert_eq!(dead.1.seen(), [Op::Terminate(WaitStatus::exited(23))]);

    for (member, _) in [&running, &stopped] {
        member.send(Signal::KILL).unwrap();
        shell.wait(member, ENDS).unwrap();
    }
    assert_eq!(init.kill_group(group, Signal::TERM), Ok(()), "only the zombie is left");
}

/// T19. RPT-03: orphans become children of process 1. As the peers expect.
#[test]
fn orphans_become_children_of_process_1() {
    let table = ProcessTable::new();
    let parent = spawn(&table.init());
    let child = spawn(&parent);
    assert_eq!(child.getppid(), Ok(parent.pid()));
    parent.exit(0).unwrap();
    assert_eq!(child.getppid(), Ok(Pid(1)));
}

/// T20. ORP-07, ORP-09, ORP-11, SIG-40: if the exit of a parent orphans a group with a stopped
/// member, all members get SIGHUP and SIGCONT, and the handler of SIGCONT runs first. The peers
/// deliver in the order of generation, and also if the new parent keeps the group from being
/// orphaned (ORP-02).
#[test]
fn a_newly_orphaned_group_with_a_stopped_member_is_hung_up_and_continued() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let [running, stopped] = [(); 2].map(|()| recorded(&shell));
    for (member, _) in [&running, &stopped] {
        place(&shell, member, &running.0);
        member.sigaction(Signal::HUP, caught()).unwrap();
        member.sigaction(Signal::CONT, caught()).unwrap();
    }
    stopped.0.send(Signal::STOP).unwrap();
    let events = table.subscribe(64).unwrap();
    shell.exit(0).unwrap();
    let sent = |to: Pid| {
        let signals = move |event: &TableEvent| match event.what {
            What::Generated(info) if event.pid == to => Some((info.signal, info.code)),
            _ => None,
        };
        events.try_iter().filter_map(|event| signals(&event)).collect::<Vec<_>>()
    };
    let both = [(Signal::HUP, SiCode::KERNEL), (Signal::CONT, SiCode::KERNEL)];
    assert_eq!(sent(running.0.pid()), both);
    for (member, log) in [&running, &stopped] {
        member.sigreturn().unwrap();
        assert_eq!(log.delivered(), [Signal::CONT, Signal::HUP]);
    }
    assert_eq!(changes(&stopped.1), [Op::Stop(Signal::STOP), Op::Resume]);
}

/// T20. ORP-10, ORP-11: without handlers SIGHUP kills all members, also the stopped one; without a
/// stopped member no signal is sent.
#[test]
fn a_newly_orphaned_group_gets_sighup_only_if_a_member_is_stopped() {
    for is_stopped in [true, false] {
        let table = ProcessTable::new();
        let shell = shell(&table);
        let job = shell.fork().unwrap();
        place(&shell, &job, &job);
        if is_stopped {
            job.send(Signal::STOP).unwrap();
        }
        shell.exit(0).unwrap();
        assert_eq!(job.exit_status(), is_stopped.then(|| killed(Signal::HUP)));
    }
}

/// T21. KILL-21: at the end of the table the runtime sends SIGTERM, and SIGKILL to the processes
/// that are alive after the grace period. As the peers expect, but here process 1 gets no signal.
#[test]
fn the_end_of_the_table_is_sigterm_and_then_sigkill() {
    let (table, clock) = with_ttl(Duration::from_secs(60));
    let (meek, stubborn) = (spawn(&table.init()), spawn(&table.init()));
    stubborn.sigaction(Signal::TERM, SigAction::IGNORE).unwrap();
    let grace = Duration::from_secs(1);
    let terminated = thread::scope(|scope| {
        let ending = scope.spawn(|| table.terminate_all(grace));
        while meek.exit_status().is_none() {
            thread::yield_now();
        }
        assert_eq!(stubborn.exit_status(), None, "the clock stands still");
        while !ending.is_finished() {
            clock.advance(grace);
            table.reap_due(table.now());
            thread::yield_now();
        }
        ending.join().unwrap()
    });
    assert_eq!(terminated.ended[&meek.pid()], killed(Signal::TERM));
    assert_eq!(terminated.ended[&stubborn.pid()], killed(Signal::KILL));
    assert_eq!(table.reapable_zombies(), 0);
}

/// T22. A list is a copy of the processes in the order of creation; later changes do not change it.
#[test]
fn a_list_of_processes_is_a_snapshot() {
    let table = ProcessTable::new();
    let first = table.spawn(Spawn::new(Image::new("ls"))).unwrap();
    let second = table.spawn(Spawn::new(Image::new("node"))).unwrap();
    let list = table.list();
    second.exit(0).unwrap();
    let programs: Vec<&str> = list.iter().map(|info| &*info.image.program).collect();
    assert_eq!(programs, ["init", "ls", "node"]);
    assert_eq!(list[1].pid, first.pid());
    assert_eq!(list[2].status, None);
}

/// T23. WAIT-08: a wait for a number that is no child of the caller is ECHILD. The peers return
/// ESRCH.
#[test]
fn a_wait_for_an_unused_number_fails_with_echild() {
    let table = ProcessTable::new();
    let init = table.init();
    assert_eq!(init.wait(Pid(9999), ENDS), Err(Errno::ECHILD));
    assert_eq!(init.waitpid(9999, NOW), Err(Errno::ECHILD));
}

/// T24. WAIT-01, WAIT-17, ZOM-08: 0 selects the caller's group and a negative number that group,
/// zombies included. As the peers expect.
#[test]
fn a_wait_selects_by_group() {
    let table = ProcessTable::new();
    let shell = shell(&table);
    let [near, far] = [(); 2].map(|()| shell.fork().unwrap());
    place(&shell, &far, &far);
    far.exit(13).unwrap();
    assert_eq!(shell.waitpid(0, NOW), Ok(None));
    near.exit(11).unwrap();
    let ended = |child: &Process, code| Ok(Some((child.pid(), WaitStatus::exited(code))));
    assert_eq!(shell.waitpid(0, WaitOptions::default()), ended(&near, 11));
    let group = -(far.pid().0 as i32);
    assert_eq!(shell.waitpid(group, WaitOptions::default()), ended(&far, 13));
}

/// T25. PID-09: a zombie stays until it is reaped; the table reaps the zombies of its own process 1
/// after a time, which is a policy. As the peers expect, with a clock that the test advances.
#[test]
fn a_hundred_zombies_of_init_are_reaped_at_their_deadlines() {
    let ttl = Duration::from_millis(100);
    let (table, clock) = with_ttl(ttl);
    let zombies: Vec<_> = (0..100).map(|_| spawn(&table.init())).collect();
    zombies.iter().for_each(|zombie| zombie.exit(0).unwrap());
    assert_eq!(table.reapable_zombies(), 100);
    let due = table.next_deadline().unwrap();
    assert_eq!(due, table.now().after(100_000_000));
    clock.advance(ttl - Duration::from_nanos(1));
    assert_eq!(table.reap_due(table.now()), 0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(table.reap_due(table.now()), 100);
    assert_eq!((table.reapable_zombies(), table.next_deadline()), (0, None));
    assert!(zombies.iter().all(|zombie| zombie.info().is_none()));
}

/// T26. ZOM-01, PID-09: while its parent lives, the table never reaps a zombie. As the peers
/// expect; their test never runs the reaper.
#[test]
fn the_reaper_leaves_the_zombies_of_living_parents_alone() {
    let ttl = Duration::from_millis(50);
    let (table, clock) = with_ttl(ttl);
    let parent = spawn(&table.init());
    let child = spawn(&parent);
    child.exit(41).unwrap();
    for _ in 0..4 {
        clock.advance(ttl);
        assert_eq!(table.reap_due(table.now()), 0);
    }
    assert_eq!(parent.wait(&child, ENDS).unwrap().status, WaitStatus::exited(41));
}

/// T27. RPT-09, RPT-19: process 1 adopts the zombies of a parent that ends, and reaps them with the
/// parent. The peers' parent is process 1 itself, whose exit on Linux kills all processes.
#[test]
fn the_zombies_of_a_parent_that_ends_are_reaped_in_time() {
    let ttl = Duration::from_millis(50);
    let (table, clock) = with_ttl(ttl);
    let parent = spawn(&table.init());
    let child = spawn(&parent);
    child.exit(17).unwrap();
    clock.advance(Duration::from_millis(120));
    assert_eq!(table.reap_due(table.now()), 0);
    parent.exit(0).unwrap();
    assert_eq!(child.info().unwrap().ppid, Pid(1));
    clock.advance(ttl);
    assert_eq!(table.reap_due(table.now()), 2);
    assert_eq!((parent.info(), child.info()), (None, None));
}

/// U1. EXEC-07: the table keeps the arguments, replaces them at an exec, and keeps those of a
/// zombie (on Linux they are gone with the memory). As the peers expect.
#[test]
fn arguments_follow_exec_and_outlive_the_process() {
    let table = ProcessTable::new();
    let first = program("node", &["node", "-e", "", "a b"]);
    let guest = table.spawn(Spawn::new(first.clone())).unwrap();
    assert_eq!(*table.list()[1].image, first);
    let second = program("python", &["script.py", "hello world"]);
    guest.exec(second.clone()).unwrap();
    assert_eq!(*guest.image().unwrap(), second);
    guest.exit(0).unwrap();
    assert_eq!(*table.list()[1].image, second);
    assert!(table.init().wait(&guest, ENDS).is_ok());
}

/// U2. A report of an exit from `attach`, or before the process exists, is not lost. As 0.4.7
/// expects; 0.3.3 loses the exit.
#[test]
fn an_exit_that_is_reported_at_creation_counts() {
    let table = ProcessTable::new();
    let ended = WaitStatus::exited(27);
    for authority in [Authority::Model, Authority::Host] {
        let driver = ScriptedDriver::new([Expected::attach().then_report(ended)]);
        let spawning = Spawn::new(Image::new("quick")).authority(authority);
        let guest = table.spawn(spawning.driver(Arc::new(driver))).unwrap();
        assert_eq!(guest.exit_status(), Some(ended));

        let spawning = Spawn::new(Image::new("quicker")).authority(authority);
        spawning.reporter().exited(27);
        assert_eq!(table.spawn(spawning).unwrap().exit_status(), Some(ended));
    }
}

/// U3. GRP-08, GRP-09, ZOM-10: a new process joins its group in the step of its creation; if it
/// cannot join the group there is no process. As the peers expect, but on Linux a group of zombies
/// exists.
#[test]
fn a_spawn_that_cannot_join_its_group_creates_no_process() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let unrelated = shell(&table);
    let in_group = |group| parent.spawn(Spawn::new(Image::new("x")).group(group));
    let leader = in_group(GroupChoice::Own).unwrap();
    let group = leader.pid().into();
    assert_eq!(group_of(&leader), group);
    let member = in_group(GroupChoice::Join(group)).unwrap();
    assert_eq!(group_of(&member), group);
    let before = table.pids();
    assert_eq!(in_group(GroupChoice::Join(Pgid(999))), Err(Errno::EPERM));
    assert_eq!(in_group(GroupChoice::Join(unrelated.pid().into())), Err(Errno::EPERM));
    assert_eq!(table.pids(), before);
    leader.exit(0).unwrap();
    member.exit(0).unwrap();
    assert_eq!(group_of(&in_group(GroupChoice::Join(group)).unwrap()), group);
}
