//! Threads in test namespaces: each scenario shows the rules of its comment on the live kernel.

use super::*;
use proctable::syscall::MEMORY;

/// The flags of a new thread.
pub(super) const THR: u64 =
    clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD | clone::SYSVSEM;

/// Creates a thread in the process of that thread.
fn thread(play: &mut Play, by: u32) -> u32 {
    play.value(by, Syscall::clone_call(THR)) as u32
}

/// Creates process 2 below process 1, with so many threads: 2, 3, 4, …
fn process(play: &mut Play, threads: u32) {
    assert_eq!(play.fork(1), 2);
    for nth in 1..threads {
        assert_eq!(thread(play, 2), 2 + nth);
    }
}

fn tgkill(tgid: i32, tid: i32, signal: Signal) -> Syscall {
    Syscall::Tgkill { tgid, tid, sig: signal.number().into() }
}

fn exec() -> Syscall {
    Syscall::Execve { path: SELF_PATH.into(), error: None }
}

/// The tasks of that process.
fn tasks(seen: &Observation, tgid: u32) -> Vec<(u32, RunState)> {
    let of = seen.views.iter().filter(|(_, view)| view.tgid.0 == tgid);
    of.map(|(tid, view)| (tid.0, view.run)).collect()
}

fn has_not_ended(play: &mut Play) {
    assert_eq!(play.wait(1, WaitOptions::NOHANG), Ok(Ret::Waited { pid: Pid(0), status: None }));
}

// ------------------------------------------------------------------ creation

/// TG-01, TG-02, TG-13, TG-168
pub(super) fn threads_have_numbers_and_their_process_s(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    play.fork(1);
    let seen = play.call(2, Syscall::clone_call(THR));
    assert_eq!(
        (seen.created_tasks.clone(), returned(&seen, 2)),
        (vec![Pid(3)], Some(Ok(Ret::Value(3))))
    );
    assert_eq!(seen.views[&Pid(3)], seen.views[&Pid(2)]);
    assert_eq!((seen.views[&Pid(3)].tgid, seen.views[&Pid(3)].ppid), (Pid(2), Pid(1)));
    // by a thread, by clone3, with an exit signal, which is ignored
    assert_eq!(thread(&mut play, 3), 4);
    assert_eq!(play.value(4, Syscall::clone3_call(THR, 0)), 5);
    assert_eq!(play.value(5, Syscall::clone_call(THR | 17)), 6);
    for tid in 2..=6 {
        assert_eq!(play.value(tid, Syscall::Gettid), i64::from(tid));
        assert_eq!(play.value(tid, Syscall::Getpid), 2);
        assert_eq!(play.value(tid, Syscall::Getppid), 1);
    }
    for flags in [clone::THREAD, clone::THREAD | clone::VM, clone::THREAD | clone::SIGHAND] {
        assert_eq!(play.result(3, Syscall::clone_call(flags)), Err(Errno::EINVAL));
    }
    assert_eq!(play.result(3, Syscall::clone3_call(THR, 17)), Err(Errno::EINVAL));
    String::new()
}

/// TG-10, TG-11, TG-12
pub(super) fn settid_and_cleartid_words_are_stored_and_cleared(
    engine: &mut Engine,
    _: Mode,
) -> String {
    let mut play = Play::new(engine);
    play.fork(1);
    let (parent_tid, child_tid) = (MEMORY, MEMORY + 4);
    let flags = THR | clone::PARENT_SETTID | clone::CHILD_SETTID | clone::CHILD_CLEARTID;
    let make = Syscall::Clone { flags, clone3: None, parent_tid, child_tid };
    assert_eq!(play.value(2, make), 3);
    assert_eq!((play.0.word(parent_tid), play.0.word(child_tid)), (Some(3), Some(3)));
    play.call(3, Syscall::Exit(0));
    assert_eq!((play.0.word(parent_tid), play.0.word(child_tid)), (Some(3), Some(0)));
    // by clone3, with addresses that are not mapped, and another address to clear
    let make = Syscall::Clone { flags, clone3: Some(0), parent_tid: 8, child_tid: 8 };
    assert_eq!(play.value(2, make), 4);
    let other = MEMORY + 400;
    assert_eq!(play.0.set_word(other, 7), Some(()));
    assert_eq!(play.value(4, Syscall::SetTidAddress(other)), 4);
    play.call(4, Syscall::Exit(0));
    assert_eq!(play.0.word(other), Some(0));
    // the last user of the memory clears no word
    assert_eq!(play.0.set_word(other, 7), Some(()));
    assert_eq!(play.value(2, Syscall::SetTidAddress(other)), 2);
    play.call(2, Syscall::Exit(0));
    assert_eq!((play.0.word(other), play.0.word(MEMORY + 4096)), (Some(7), None));
    String::new()
}

/// TG-15, SIG-12
pub(super) fn each_thread_has_a_mask(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    play.fork(1);
    play.mask(2, how::BLOCK, Signal::USR1.set());
    assert_eq!(thread(&mut play, 2), 3);
    play.mask(3, how::BLOCK, Signal::USR2.set());
    let seen = play.mask(2, how::SETMASK, Signal::HUP.set());
    assert_eq!(seen.views[&Pid(2)].blocked, Signal::HUP.set());
    assert_eq!(seen.views[&Pid(3)].blocked, Signal::USR1.set() | Signal::USR2.set());
    String::new()
}

// ------------------------------------------------------------------ signals

/// THR-03, TG-42
pub(super) fn tgkill_is_for_one_thread(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.catch(3, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    let seen = play.call(1, tgkill(2, 4, Signal::USR1));
    let info = SigInfo { code: SiCode(-6), ..SigInfo::user(Signal::USR1, Pid(1), Uid(0)) };
    assert_eq!(seen.handlers().collect::<Vec<_>>(), [(Pid(4), &info)]);
    // pending for one thread, pending for the process
    for tid in 2..=4 {
        play.mask(tid, how::BLOCK, set(&[10, 12]));
    }
    play.call(1, tgkill(2, 3, Signal::USR1));
    let seen = play.kill(1, 2, Signal::USR2);
    let pending = |tid| (seen.views[&Pid(tid)].private, seen.views[&Pid(tid)].shared);
    let shared = Signal::USR2.set();
    assert_eq!(
        [2, 3, 4].map(pending),
        [(SigSet::EMPTY, shared), (Signal::USR1.set(), shared), (SigSet::EMPTY, shared)]
    );
    let queued = QueuedInfo { code: -1, pid: 7, uid: 8, value: 9 };
    let call = Syscall::RtTgsigqueueinfo { tgid: 2, tid: 4, sig: 34, info: Some(queued) };
    play.catch(2, Signal::new(34).unwrap(), SaFlags(0), SigSet::EMPTY);
    let seen = play.call(1, call);
    assert_eq!(seen.handlers().map(|(task, info)| (task.0, info.value)).next(), Some((4, 9)));
    String::new()
}

/// TG-28, TG-33, TG-41, TG-59
pub(super) fn a_process_s_signal_finds_a_thread(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    assert_eq!(handled(&play.kill(1, 2, Signal::USR1), 2), [Signal::USR1]);
    play.mask(2, how::BLOCK, Signal::USR1.set());
    play.call(3, Syscall::Pause);
    play.call(4, Syscall::Pause);
    // the second thread continues to sleep
    let seen = play.kill(1, 2, Signal::USR1);
    assert_eq!(handled(&seen, 3), [Signal::USR1]);
    assert_eq!((returned(&seen, 3), returned(&seen, 4)), (Some(Err(Errno::EINTR)), None));
    // sent to a thread that does not block it
    let seen = play.kill(1, 4, Signal::USR1);
    assert_eq!(handled(&seen, 4), [Signal::USR1]);
    for tid in [3, 4] {
        play.mask(tid, how::BLOCK, Signal::USR1.set());
    }
    play.kill(1, 2, Signal::USR1);
    let seen = play.mask(4, how::UNBLOCK, Signal::USR1.set());
    assert_eq!(handled(&seen, 4), [Signal::USR1]);
    String::new()
}

/// TG-39: the thread that was chosen for the signal sleeps in vfork, and another thread that could
/// take it does not wake.
pub(super) fn a_signal_may_stay_pending_for_a_thread_in_vfork(
    engine: &mut Engine,
    _: Mode,
) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 2);
    play.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    let seen = play.call(2, Syscall::Vfork);
    assert_eq!(seen.created_tasks, [Pid(4)]);
    let seen = play.kill(1, 2, Signal::USR1);
    assert_eq!(seen.handlers().count(), 0);
    assert_eq!(tasks(&seen, 2), [(2, RunState::Vfork), (3, RunState::User)]);
    assert_eq!(seen.views[&Pid(3)].shared, Signal::USR1.set());
    assert_eq!(play.value(3, Syscall::Getpid), 2);
    // TG-40: only a change of the mask makes the thread check its pending signals
    let seen = play.mask(3, how::BLOCK, SigSet::EMPTY);
    assert_eq!(handled(&seen, 3), []);
    let seen = play.mask(3, how::BLOCK, Signal::HUP.set());
    assert_eq!(handled(&seen, 3), [Signal::USR1]);
    let seen = play.call(4, Syscall::ExitGroup(0));
    assert_eq!(returned(&seen, 2), Some(Ok(Ret::Value(4))));
    String::new()
}

/// TG-48: if two threads wait for one signal, one takes it, and the other one is interrupted.
pub(super) fn one_signal_ends_one_sigtimedwait_and_interrupts_the_other(
    engine: &mut Engine,
    mode: Mode,
) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    let wait = Syscall::RtSigtimedwait {
        set: Signal::USR1.set(),
        info: Ptr::Null,
        timeout: None,
        size: SIGSET_SIZE,
    };
    for tid in 2..=4 {
        play.mask(tid, how::BLOCK, Signal::USR1.set());
    }
    for tid in [3, 4] {
        play.call(tid, wait.clone());
    }
    let seen = play.kill(1, 2, Signal::USR1);
    let mut results: Vec<_> = [3, 4].into_iter().filter_map(|tid| returned(&seen, tid)).collect();
    if mode == Mode::User {
        results.sort_by_key(Result::is_err);
    }
    let taken = Ok(Ret::Signal(SigInfo::lost(Signal::USR1)));
    assert_eq!(results, [taken, Err(Errno::EINTR)]);
    String::new()
}

/// The handlers of each thread wait for commands, with interrupted calls of that thread.
pub(super) fn handlers_wait_in_each_thread(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    play.0.hold_handlers(true);
    play.call(3, Syscall::Pause);
    play.call(1, tgkill(2, 3, Signal::USR1));
    let seen = play.call(1, tgkill(2, 4, Signal::USR1));
    assert_eq!(seen.in_handler, BTreeMap::from([(Pid(3), 1), (Pid(4), 1)]));
    // a child of a thread is created inside of its handler, and of the call that it interrupted
    assert_eq!(play.fork(3), 5);
    assert_eq!(thread(&mut play, 3), 6);
    let seen = play.call(3, Syscall::RtSigreturn);
    assert_eq!(returned(&seen, 3), Some(Err(Errno::EINTR)));
    assert_eq!(seen.in_handler, BTreeMap::from([(Pid(4), 1), (Pid(5), 1)]));
    let seen = play.call(5, Syscall::RtSigreturn);
    assert_eq!(returned(&seen, 5), Some(Err(Errno::EINTR)));
    String::new()
}

// ------------------------------------------------------------------ ends

/// TG-86, TG-71
pub(super) fn the_end_of_a_thread_is_not_its_process_s(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    play.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    process(&mut play, 3);
    play.mask(3, how::BLOCK, Signal::TERM.set());
    play.call(1, tgkill(2, 3, Signal::TERM));
    let seen = play.call(3, Syscall::Exit(7));
    assert_eq!((seen.gone.clone(), seen.ended.clone()), (vec![Pid(3)], vec![]));
    assert_eq!((seen.events.len(), seen.order_of_ends.len()), (0, 0));
    assert_eq!(tasks(&seen, 2), [(2, RunState::User), (4, RunState::User)]);
    for call in [Syscall::Tgkill { tgid: 2, tid: 3, sig: 0 }, Syscall::Getpgid(3)] {
        assert_eq!(play.result(1, call), Err(Errno::ESRCH));
    }
    has_not_ended(&mut play);
    assert!(play.0.call(Pid(3), &Syscall::Getpid).is_err());
    String::new()
}

/// TG-87, TG-89, TG-97, TG-82, TG-83
pub(super) fn a_process_outlives_its_leader(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    let seen = play.call(2, Syscall::Exit(3));
    assert_eq!((seen.ended.len(), seen.gone.len(), seen.order_of_ends.len()), (0, 0, 0));
    assert_eq!(tasks(&seen, 2), [(2, RunState::Zombie), (3, RunState::User), (4, RunState::User)]);
    let (dead, alive) = (seen.views[&Pid(2)], seen.views[&Pid(3)]);
    assert_eq!((dead.ppid, dead.pgid, dead.sid), (Pid(1), alive.pgid, alive.sid));
    assert_eq!((dead.caught, alive.caught), (SigSet::EMPTY, Signal::USR1.set()));
    has_not_ended(&mut play);
    assert_eq!(play.value(3, Syscall::Getpid), 2);
    // the other threads take signals to the process; no thread takes a signal to the leader
    assert_eq!(handled(&play.kill(1, 2, Signal::USR1), 3), [Signal::USR1]);
    let seen = play.call(1, tgkill(2, 2, Signal::KILL));
    assert_eq!((returned(&seen, 1), seen.ended.len()), (Some(Ok(Ret::Value(0))), 0));
    play.value(4, Syscall::Setsid);
    assert_eq!(play.0.views().unwrap()[&Pid(2)].sid, Sid(2));
    assert!(play.0.call(Pid(2), &Syscall::Getpid).is_err());
    let seen = play.call(4, Syscall::Exit(5));
    assert_eq!((seen.gone, seen.ended.len()), (vec![Pid(4)], 0));
    let seen = play.call(3, Syscall::Exit(4));
    let status = WaitStatus::exited(4);
    assert_eq!((seen.gone.clone(), seen.ended), (vec![Pid(3)], vec![(Pid(2), Some(status))]));
    assert_eq!((seen.order_of_ends, seen.views[&Pid(2)].run), (vec![Pid(2)], RunState::Zombie));
    assert_eq!(play.wait(1, NONE), waited(2, status));
    String::new()
}

/// TG-89, TG-90: the status of a process whose leader ended before, also if no parent waits for it
/// (ZOM-02).
pub(super) fn the_last_thread_decides_the_status_of_a_process(
    engine: &mut Engine,
    _: Mode,
) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.call(2, Syscall::Exit(3));
    let seen = play.kill(1, 2, Signal::TERM);
    let killed = WaitStatus::killed(Signal::TERM, false);
    assert_eq!((seen.ended, seen.gone), (vec![(Pid(2), Some(killed))], vec![Pid(3), Pid(4)]));
    assert_eq!(play.wait(1, NONE), waited(2, killed));
    play.action(1, Signal::CHLD, SigAction::IGNORE);
    assert_eq!((play.fork(1), thread(&mut play, 5)), (5, 6));
    play.call(5, Syscall::Exit(3));
    let seen = play.call(6, Syscall::ExitGroup(8));
    assert_eq!(seen.gone, [Pid(5), Pid(6)]);
    let [(Pid(5), status)] = seen.ended[..] else { panic!("{seen:?}") };
    if status.is_none() {
        return "SKIPPED: no PIDFD_INFO_EXIT".to_owned();
    }
    assert_eq!(status, Some(WaitStatus::exited(8)));
    String::new()
}

/// TG-70, TG-78, TG-81
pub(super) fn exit_group_and_fatal_signals_end_all(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 4);
    play.call(2, Syscall::Pause);
    play.call(4, Syscall::Vfork);
    let seen = play.call(3, Syscall::ExitGroup(8));
    let status = WaitStatus::exited(8);
    assert_eq!((seen.ended, seen.order_of_ends), (vec![(Pid(2), Some(status))], vec![Pid(2)]));
    assert_eq!((seen.gone, seen.views[&Pid(6)].ppid), (vec![Pid(3), Pid(4), Pid(5)], Pid(1)));
    assert_eq!(play.wait(1, NONE), waited(2, status));
    assert_eq!((play.fork(1), thread(&mut play, 7)), (7, 8));
    let seen = play.call(1, tgkill(7, 8, Signal::TERM));
    let killed = WaitStatus::killed(Signal::TERM, false);
    assert_eq!((seen.ended, seen.gone), (vec![(Pid(7), Some(killed))], vec![Pid(8)]));
    String::new()
}

/// TG-99
pub(super) fn process_1_ends_with_its_last_thread(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    assert_eq!(thread(&mut play, 1), 2);
    assert_eq!(thread(&mut play, 1), 3);
    let seen = play.call(1, Syscall::Exit(3));
    assert_eq!((seen.init, seen.ended.len()), (None, 0));
    assert_eq!(play.fork(2), 4);
    // none of its threads may join another group
    let join = Syscall::Setpgid { pid: 0, pgid: 4 };
    play.value(4, Syscall::Setpgid { pid: 0, pgid: 0 });
    assert!(play.0.call(Pid(2), &join).is_err());
    play.call(3, wait_any(NONE));
    let seen = play.call(2, Syscall::ExitGroup(5));
    assert_eq!((seen.init, seen.views.len()), (Some(WaitStatus::exited(5)), 0));
    assert_eq!(seen.ended.iter().map(|(pid, _)| pid.0).collect::<Vec<_>>(), [1, 4]);
    String::new()
}

// ------------------------------------------------------------------ exec

/// EXEC-12, TG-104 to TG-107
pub(super) fn exec_by_a_thread_takes_the_leader_s_number(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 4);
    play.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    play.mask(2, how::BLOCK, set(&[2]));
    play.mask(4, how::BLOCK, set(&[12, 40, 41]));
    for (tid, signal) in [(4, 41), (5, 40)] {
        play.mask(tid, how::BLOCK, set(&[12, signal]));
        play.call(1, tgkill(2, tid as i32, Signal::new(signal).unwrap()));
    }
    // one thread sleeps, one is in a handler, and the leader in a call that never returns
    play.call(3, Syscall::Pause);
    play.0.hold_handlers(true);
    play.call(1, tgkill(2, 5, Signal::USR1));
    play.call(2, Syscall::Pause);
    assert_eq!(play.fork(4), 6);
    let seen = play.call(4, exec());
    assert_eq!(seen.returned().collect::<Vec<_>>(), [(Pid(2), &Ok(Ret::Value(0)))]);
    assert_eq!((seen.gone.clone(), seen.ended.len()), (vec![Pid(3), Pid(4), Pid(5)], 0));
    assert_eq!(tasks(&seen, 2), [(2, RunState::User)]);
    let view = seen.views[&Pid(2)];
    assert_eq!((view.blocked, view.private), (set(&[12, 40, 41]), set(&[41])));
    assert_eq!((view.caught, seen.in_handler.len()), (SigSet::EMPTY, 0));
    assert_eq!((play.value(2, Syscall::Gettid), play.value(2, Syscall::Getpid)), (2, 2));
    assert!(play.0.call(Pid(4), &Syscall::Getpid).is_err());
    // TG-107: the child belongs to the new image, which handles commands as before
    let seen = play.call(2, wait_any(NONE));
    assert_eq!(seen.views[&Pid(2)].run, RunState::Blocked);
    let seen = play.call(6, Syscall::ExitGroup(1));
    assert_eq!(returned(&seen, 2), Some(waited(6, WaitStatus::exited(1))));
    assert_eq!(thread(&mut play, 2), 7);
    let seen = play.call(7, Syscall::ExitGroup(2));
    assert_eq!(seen.ended, [(Pid(2), Some(WaitStatus::exited(2)))]);
    String::new()
}

/// TG-110, TG-111, TG-112
pub(super) fn exec_revives_a_dead_leader(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.call(2, Syscall::Exit(3));
    let fails = Syscall::Execve { path: "/no/such/file".into(), error: Some(Errno::ENOENT) };
    assert_eq!(play.result(3, fails), Err(Errno::ENOENT));
    assert_eq!(play.0.views().unwrap().len(), 4);
    let seen = play.call(4, Syscall::Vfork);
    assert_eq!(seen.created_tasks, [Pid(5)]);
    let seen = play.call(3, exec());
    assert_eq!((returned(&seen, 2), seen.ended.len()), (Some(Ok(Ret::Value(0))), 0));
    assert_eq!((tasks(&seen, 2), seen.gone.len()), (vec![(2, RunState::User)], 2));
    assert_eq!(seen.views[&Pid(5)].ppid, Pid(2));
    has_not_ended(&mut play);
    let seen = play.call(2, Syscall::Exit(9));
    let status = WaitStatus::exited(9);
    assert_eq!((seen.ended, seen.order_of_ends), (vec![(Pid(2), Some(status))], vec![Pid(2)]));
    assert_eq!(play.wait(1, NONE), waited(2, status));
    String::new()
}

// ------------------------------------------------------------------ children, waits, stops

/// TG-145, TG-150, TG-154, TG-168
pub(super) fn threads_fork_and_wait_for_each_other_s_children(
    engine: &mut Engine,
    _: Mode,
) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    play.mask(3, how::BLOCK, Signal::HUP.set());
    assert_eq!(play.fork(3), 5);
    let seen = play.call(2, wait_any(NONE));
    let view = seen.views[&Pid(5)];
    assert_eq!((view.tgid, view.ppid, view.blocked), (Pid(5), Pid(2), Signal::HUP.set()));
    assert_eq!(tasks(&seen, 2), [(2, RunState::Blocked), (3, RunState::User), (4, RunState::User)]);
    // calls of other threads during the waits; a later child; a wait that is interrupted
    assert_eq!(play.value(5, Syscall::Getppid), 2);
    assert_eq!(play.value(3, Syscall::Gettid), 3);
    play.catch(3, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    play.call(4, Syscall::Wait4 { pid: 5, status: Ptr::Null, options: NONE });
    let seen = play.call(1, tgkill(2, 4, Signal::USR1));
    assert_eq!((returned(&seen, 4), returned(&seen, 2)), (Some(Err(Errno::EINTR)), None));
    assert_eq!(play.fork(4), 6);
    let seen = play.call(6, Syscall::ExitGroup(1));
    assert_eq!(returned(&seen, 2), Some(waited(6, WaitStatus::exited(1))));
    String::new()
}

/// TG-125, TG-129, TG-137
pub(super) fn a_stop_stops_all_threads(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    play.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    process(&mut play, 3);
    play.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    play.call(4, Syscall::Pause);
    let seen = play.call(1, tgkill(2, 3, Signal::STOP));
    let all = |run: [RunState; 3]| (2..).zip(run).collect::<Vec<_>>();
    assert_eq!(tasks(&seen, 2), all([RunState::Stopped; 3]));
    let stopped = WaitStatus::stopped(Signal::STOP);
    let info = SigInfo::child(Signal::CHLD, Pid(2), Uid(0), stopped);
    assert_eq!(seen.handlers().collect::<Vec<_>>(), [(Pid(1), &info)]);
    assert_eq!(play.wait(1, WaitOptions::STOPPED), waited(2, stopped));
    // a command and a signal wait for the continue
    let seen = play.call(2, Syscall::Gettid);
    assert_eq!(seen.events, []);
    play.call(1, tgkill(2, 3, Signal::USR1));
    let seen = play.call(1, tgkill(2, 4, Signal::CONT));
    assert_eq!(tasks(&seen, 2), all([RunState::User, RunState::User, RunState::Blocked]));
    assert_eq!(
        (returned(&seen, 2), handled(&seen, 3)),
        (Some(Ok(Ret::Value(2))), vec![Signal::USR1])
    );
    String::new()
}

/// TG-126, TG-127
pub(super) fn vfork_by_a_thread_suspends_only_that_thread(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 3);
    let seen = play.call(3, Syscall::Vfork);
    assert_eq!((seen.created_tasks.clone(), seen.views[&Pid(5)].ppid), (vec![Pid(5)], Pid(2)));
    assert_eq!(tasks(&seen, 2), [(2, RunState::User), (3, RunState::Vfork), (4, RunState::User)]);
    assert_eq!((play.value(2, Syscall::Gettid), play.value(4, Syscall::Gettid)), (2, 4));
    // the stop is complete when this thread has stopped
    let seen = play.kill(1, 2, Signal::STOP);
    assert_eq!(
        tasks(&seen, 2),
        [(2, RunState::Stopped), (3, RunState::Vfork), (4, RunState::Stopped)]
    );
    let look = WaitOptions::STOPPED.with(WaitOptions::NOHANG);
    assert_eq!(play.wait(1, look), Ok(Ret::Waited { pid: Pid(0), status: None }));
    let seen = play.call(5, Syscall::ExitGroup(0));
    assert_eq!(tasks(&seen, 2), [2, 3, 4].map(|tid| (tid, RunState::Stopped)));
    assert_eq!(play.wait(1, look), waited(2, WaitStatus::stopped(Signal::STOP)));
    let seen = play.kill(1, 2, Signal::CONT);
    assert_eq!(returned(&seen, 3), Some(Ok(Ret::Value(5))));
    String::new()
}

/// TG-26: the creator sleeps until the thread ends.
pub(super) fn a_creator_may_sleep_until_its_thread_ends(engine: &mut Engine, _: Mode) -> String {
    let mut play = Play::new(engine);
    process(&mut play, 2);
    let seen = play.call(3, Syscall::clone_call(THR | clone::VFORK));
    assert_eq!(tasks(&seen, 2), [(2, RunState::User), (3, RunState::Vfork), (4, RunState::User)]);
    assert_eq!(play.value(4, Syscall::Getpid), 2);
    let seen = play.call(4, Syscall::Exit(0));
    assert_eq!(returned(&seen, 3), Some(Ok(Ret::Value(4))));
    String::new()
}

// ------------------------------------------------------------------ nothing stays

/// The processes below this worker: only the zygote.
fn only_the_zygote(engine: &Engine) {
    let left = descendants(engine.worker_number().unwrap());
    assert_eq!(left.len(), 1, "{left:?}");
}

pub(super) fn a_namespace_with_threads_leaves_nothing(engine: &mut Engine, _: Mode) -> String {
    let files = open_files();
    let ends = {
        let mut play = Play::new(engine);
        process(&mut play, 4);
        play.call(4, Syscall::Vfork);
        play.call(2, Syscall::Exit(0));
        thread(&mut play, 1);
        assert_eq!((play.fork(1), thread(&mut play, 8), thread(&mut play, 8)), (8, 9, 10));
        play.call(10, Syscall::Pause);
        play.kill(1, 8, Signal::STOP);
        play.0.finish().unwrap()
    };
    // processes, not threads; the process of a zombie leader is alive
    let process_ends: Vec<(u32, ProcessEnd)> =
        ends.iter().map(|end| (end.pid.0, end.end)).collect();
    assert_eq!(process_ends, [1, 2, 6, 8].map(|pid| (pid, ProcessEnd::Alive)));
    assert_eq!(open_files(), files);
    only_the_zygote(engine);
    String::new()
}

/// Random creation and end of threads, in one test namespace after the other.
pub(super) fn a_thousand_rounds_of_threads(engine: &mut Engine, _: Mode) -> String {
    let files = open_files();
    let mut chance = Chance(0x5eed);
    let (mut rounds, mut threads, start) = (0, 0, Instant::now());
    while rounds < 1000 {
        let mut play = Play::new(engine);
        play.fork(1);
        for _ in 0..50 {
            rounds += 1;
            let now = play.0.views().unwrap();
            let alive = now.iter().filter(|(_, view)| view.run == RunState::User);
            let alive: Vec<Pid> = alive.map(|(tid, _)| *tid).collect();
            let tid = chance.one_of(&alive);
            let is_last = |tid| {
                let of = |view: &&proctable::kernel::View| view.tgid == now[&tid].tgid;
                now.values().filter(of).filter(|view| view.run != RunState::Zombie).count() < 2
            };
            let call = match chance.below(8) {
                0..4 if now.len() < 12 => Syscall::clone_call(THR),
                4 if now.len() < 12 => Syscall::Fork,
                5 if now[&tid].tgid != Pid(1) => Syscall::ExitGroup(1),
                6 if now[&tid].tgid != Pid(1) => exec(),
                _ if now[&tid].tgid == Pid(1) && is_last(tid) => Syscall::Getpid,
                _ => Syscall::Exit(0),
            };
            threads += usize::from(call == Syscall::clone_call(THR));
            let seen = play.call(tid.0, call);
            // ended threads are absent, and created threads exist
            assert!(seen.gone.iter().all(|tid| !seen.views.contains_key(tid)));
            assert!(seen.created_tasks.iter().all(|tid| seen.views.contains_key(tid)));
        }
    }
    assert_eq!(open_files(), files);
    only_the_zygote(engine);
    format!("{threads} threads, {:?} per round", start.elapsed() / rounds)
}
