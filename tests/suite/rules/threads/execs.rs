//! Threads that execute a program.

use super::*;

fn exec() -> Syscall {
    Syscall::Execve { path: proctable::host::SELF_PATH.into(), error: None }
}

/// That thread of process 2 executes a program; afterwards it is thread 2.
fn exec_by(scene: &mut Scene, tid: u32) {
    scene.call(tid, exec());
    assert_eq!(scene.returned(2), Some(Ok(Ret::Value(0))));
    let tids: Vec<Pid> = scene.kernel.tids(Pid(2)).collect();
    assert_eq!(tids, [Pid(2)]);
}

#[test]
fn tg_104_a_thread_that_executes_a_program_becomes_the_leader_and_the_only_thread() {
    let mut scene = process(3);
    scene.block(1, set(&[17]));
    exec_by(&mut scene, 3);
    // EXEC-11, EXEC-13
    assert_eq!(scene.view(1).shared, SigSet::EMPTY);
    assert_eq!(scene.value(2, Syscall::Gettid), 2);
    assert_eq!(scene.result(1, kill(3, Signal::TERM)), Err(Errno::ESRCH));
    assert_eq!(scene.wait(1, NOHANG.with(WaitOptions::ALL)), NOTHING);
    // a wait for the process is a wait for the new program
    scene.call(1, wait_for(2, NONE));
    assert_eq!(thread(&mut scene, 2), 5);
    exec_by(&mut scene, 5);
    assert_eq!(scene.returned(1), None);
    scene.exit(2, 6);
    assert_eq!(scene.returned(1), Some(waited(2, WaitStatus::exited(6))));
    scene.same_on_the_kernel();
}

#[test]
fn tg_105_pending_signals_of_the_process_and_of_the_caller_stay() {
    let mut scene = process(3);
    for tid in 2..=4 {
        scene.block(tid, set(&[40, 41, 42, 43]));
    }
    for (tid, number) in [(3, 41), (2, 42), (4, 43)] {
        send(&mut scene, tid, signal(number));
    }
    shared(&mut scene, 2, 40);
    exec_by(&mut scene, 3);
    let view = scene.view(2);
    assert_eq!((view.private, view.shared), (set(&[41]), set(&[40])));
    // TG-173
    assert_eq!(view.blocked, set(&[40, 41, 42, 43]));
    scene.same_on_the_kernel();
}

#[test]
fn tg_106_the_process_keeps_the_attributes_of_the_thread() {
    let mut scene = process(3);
    scene.block(3, set(&[10]));
    scene.block(2, set(&[12]));
    scene.value(2, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    scene.value(2, Syscall::Alarm(10));
    scene.set_users(3, users(own_user(40)));
    pdeath(&mut scene, 2, 2);
    pdeath(&mut scene, 3, 15);
    exec_by(&mut scene, 3);
    assert_eq!(scene.view(2).blocked, set(&[10]));
    assert_eq!(scene.value(2, Syscall::Getuid), i64::from(own_user(40)));
    assert_eq!(stored(&mut scene, 2, Prctl::GetPdeathsig(Ptr::Valid)), Ok(Ret::Stored(15)));
    assert_eq!(stored(&mut scene, 2, Prctl::GetChildSubreaper(Ptr::Valid)), Ok(Ret::Stored(1)));
    assert_eq!(scene.value(2, Syscall::Alarm(0)), 10);
    scene.same_on_the_kernel();
}

#[test]
fn tg_107_the_children_of_all_threads_are_the_new_program_s() {
    let mut scene = process(3);
    let children = [2, 3, 4].map(|tid| scene.fork(tid));
    exec_by(&mut scene, 3);
    for child in children {
        assert_eq!(scene.value(child, Syscall::Getppid), 2);
        scene.exit(child, 0);
        let own = WaitOptions::NOTHREAD;
        let waited_for = scene.result(2, wait_for(-1, own));
        assert_eq!(waited_for, waited(child, WaitStatus::exited(0)));
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_108_the_children_of_the_threads_that_exec_ends_get_their_parent_death_signal() {
    for (by, reported) in [(3, vec![5, 7]), (2, vec![6, 7])] {
        let mut scene = process(3);
        for parent in 2..=4 {
            let child = scene.fork(parent);
            scene.catch(child, Signal::USR1, SaFlags(0), SigSet::EMPTY);
            pdeath(&mut scene, child, 10);
        }
        exec_by(&mut scene, by);
        let mut signalled: Vec<u32> = handled(&scene).iter().map(|(tid, _)| *tid).collect();
        signalled.sort_unstable();
        assert_eq!(signalled, reported);
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_109_the_thread_that_is_the_parent_of_the_process_stays_the_same() {
    let mut scene = process(2);
    let child = scene.fork(3);
    let other = thread(&mut scene, child);
    scene.call(other, exec());
    assert_eq!(scene.returned(child), Some(Ok(Ret::Value(0))));
    assert_eq!((scene.wait(2, OWN), scene.wait(3, OWN)), (Err(Errno::ECHILD), NOTHING));
    scene.same_on_the_kernel();
}

#[test]
fn tg_110_a_program_revives_the_process_of_a_dead_leader() {
    let mut scene = process(2);
    exit_thread(&mut scene, 2, 3);
    assert_eq!(scene.run(2), RunState::Zombie);
    // EXEC-12
    exec_by(&mut scene, 3);
    assert_eq!((scene.run(2), scene.wait(1, NOHANG)), (RunState::User, NOTHING));
    scene.exit(2, 4);
    ended(&mut scene, WaitStatus::exited(4));
    scene.same_on_the_kernel();
}

#[test]
fn tg_111_a_program_that_cannot_be_executed_ends_no_thread() {
    let mut scene = process(3);
    let call = Syscall::Execve { path: "/nowhere".into(), error: Some(Errno::ENOENT) };
    assert_eq!(scene.result(3, call), Err(Errno::ENOENT));
    for tid in 2..=4 {
        assert_eq!(scene.value(tid, Syscall::Gettid), i64::from(tid));
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_112_a_thread_in_vfork_does_not_delay_exec() {
    for (sleeper, by) in [(3, 2), (2, 3)] {
        let mut scene = process(2);
        scene.call(sleeper, Syscall::Vfork);
        exec_by(&mut scene, by);
        assert_eq!((scene.run(4), scene.wait(2, NOHANG)), (RunState::User, NOTHING));
        scene.exit(4, 1);
        assert_eq!(scene.wait(2, NONE), waited(4, WaitStatus::exited(1)));
        scene.same_on_the_kernel();
    }
}

/// Whether a process executed a program in these effects.
fn executed(fx: &Effects) -> bool {
    fx.list().iter().any(|effect| effect.what == Consequence::Executed)
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_113_of_two_threads_that_execute_a_program_the_first_lives() {
    // TG-114: exit_group is too late as well
    for late in [exec(), Syscall::ExitGroup(3), Syscall::Exit(3)] {
        let mut scene = process(3);
        let mut fx = Effects::new();
        let first = scene.kernel.call(Pid(3), &exec(), &mut fx);
        assert_eq!(first, Ok(Outcome::Blocked));
        let refused = scene.kernel.call(Pid(4), &late, &mut fx);
        assert_eq!(refused, Err(Refused::NotInUserMode(Pid(4))));
        scene.kernel.settle(&mut Canonical, &mut fx);
        assert!(executed(&fx));
        assert_eq!(runs(&scene, &[2]), [RunState::User]);
        assert_eq!(scene.kernel.tids(Pid(2)).count(), 1);
    }
    // EXEC-20: no thread executes a program while the process ends
    let mut scene = process(3);
    let mut fx = Effects::new();
    scene.kernel.call(Pid(3), &Syscall::ExitGroup(3), &mut fx).expect("it ends");
    let late = scene.kernel.call(Pid(4), &exec(), &mut fx);
    assert_eq!(late, Err(Refused::NotInUserMode(Pid(4))));
    scene.kernel.settle(&mut Canonical, &mut fx);
    assert_eq!((executed(&fx), status(&scene)), (false, WaitStatus::exited(3)));
}

#[test]
fn tg_115_a_clone_child_is_an_ordinary_one_after_a_thread_s_exec() {
    let mut scene = Scene::new();
    assert_eq!(scene.value(1, Syscall::clone_call(0)), 2);
    assert_eq!(thread(&mut scene, 2), 3);
    assert_eq!(scene.wait(1, NOHANG), Err(Errno::ECHILD));
    exec_by(&mut scene, 3);
    assert_eq!(scene.wait(1, NOHANG), NOTHING);
    scene.same_on_the_kernel();
}

#[test]
fn tg_117_handlers_are_reset_and_the_caller_s_mask_stays() {
    let mut scene = catching(3, &[10]);
    scene.action(4, Signal::USR2, SigAction::IGNORE);
    scene.block(3, set(&[15]));
    send(&mut scene, 3, Signal::TERM);
    exec_by(&mut scene, 3);
    let view = scene.view(2);
    assert_eq!((view.caught, view.ignored), (SigSet::EMPTY, set(&[12])));
    assert_eq!(view.private, set(&[15]));
    scene.unblock(2, set(&[15]));
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_118_a_signal_does_not_end_the_wait_of_exec_for_the_other_threads() {
    // a signal that dumps core decides nothing when it is sent (TG-75)
    let mut scene = process(3);
    let calls = [(3, exec()), (1, kill(2, Signal::QUIT))];
    let fx = race(&mut scene.kernel, &calls);
    assert!(executed(&fx));
    assert_eq!(status(&scene).term_signal(), Some(Signal::QUIT));
    // TG-122: SIGKILL and other fatal signals do
    for fatal in [Signal::KILL, Signal::TERM] {
        let mut scene = process(3);
        let fx = race(&mut scene.kernel, &[(3, exec()), (1, kill(2, fatal))]);
        assert_eq!((executed(&fx), status(&scene)), (false, killed(fatal)));
    }
    // and a stop is reported, after the beginning of the program or before
    let mut scene = process(3);
    let fx = race(&mut scene.kernel, &[(3, exec()), (1, kill(2, Signal::STOP))]);
    assert!(fx.list().iter().any(|e| e.what == Consequence::Stopped(Signal::STOP)));
    assert_eq!(scene.run(2), RunState::Stopped);
    let more = race(&mut scene.kernel, &[(1, kill(2, Signal::CONT))]);
    assert!(executed(&fx) || executed(&more));
    assert_eq!(scene.run(2), RunState::User);
}

#[test]
fn tg_119_the_program_has_the_directory_and_the_umask_of_the_thread() {
    let mut scene = process(1);
    assert_eq!(scene.value(2, Syscall::clone_call(THR & !(clone::FS | clone::FILES))), 3);
    scene.value(3, Syscall::Chdir { path: "/proc".into(), error: None });
    scene.value(3, Syscall::Umask(0o70));
    exec_by(&mut scene, 3);
    assert_eq!(scene.result(2, Syscall::Getcwd), Ok(Ret::Path("/proc".into())));
    assert_eq!(scene.value(2, Syscall::Umask(0)), 0o70);
    scene.same_on_the_kernel();
}

#[test]
fn tg_120_handlers_that_are_shared_with_another_process_stay_there() {
    let mut scene = catching(1, &[10]);
    let partner = Syscall::clone_call(clone::VM | clone::SIGHAND | 17);
    assert_eq!(scene.value(2, partner), 3);
    assert_eq!(thread(&mut scene, 2), 4);
    exec_by(&mut scene, 4);
    assert_eq!((scene.view(2).caught, scene.view(3).caught), (SigSet::EMPTY, set(&[10])));
    scene.same_on_the_kernel();
}

#[test]
fn tg_121_a_child_whose_thread_has_executed_a_program_is_not_moved() {
    let mut scene = process(2);
    scene.setpgid(1, 2, 2);
    exec_by(&mut scene, 3);
    let back = Syscall::Setpgid { pid: 2, pgid: 1 };
    assert_eq!(scene.result(1, back), Err(Errno::EACCES));
    scene.same_on_the_kernel();
}

#[test]
fn tg_123_a_thread_that_waits_ends_with_exec_and_its_child_is_the_new_program_s() {
    let mut scene = process(3);
    let child = scene.fork(4);
    scene.call(4, wait_for(-1, NONE));
    exec_by(&mut scene, 3);
    assert_eq!(scene.returned(4), None);
    scene.exit(child, 2);
    assert_eq!(scene.wait(2, NONE), waited(child, WaitStatus::exited(2)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_124_a_directory_that_is_shared_with_another_process_stays_shared() {
    let mut scene = process(1);
    let partner = Syscall::clone_call(clone::FS | 17);
    assert_eq!(scene.value(2, partner), 3);
    assert_eq!(thread(&mut scene, 2), 4);
    exec_by(&mut scene, 4);
    scene.value(2, Syscall::Chdir { path: "/proc".into(), error: None });
    assert_eq!(scene.result(3, Syscall::Getcwd), Ok(Ret::Path("/proc".into())));
    scene.same_on_the_kernel();
}

/// Only the model shows the words.
#[test]
fn tg_101_exec_clears_the_words_of_the_threads_that_it_ends() {
    let mut scene = process(1);
    let flags = THR | clone::CHILD_CLEARTID;
    for address in [MEMORY, MEMORY + 8] {
        let call = Syscall::Clone { flags, clone3: None, parent_tid: 0, child_tid: address };
        scene.value(2, call);
    }
    exec_by(&mut scene, 3);
    assert_eq!(cleared(&scene), [(4, MEMORY + 8)]);
    scene.same_on_the_kernel();
}
