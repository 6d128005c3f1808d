//! Threads that end, and processes that end with the last of them.

use std::collections::BTreeSet;

use proctable::abi::{IdType, SigInfo};
use proctable::kernel::Scripted;
use proctable::sim::{Action, Step, react};

use super::*;

#[test]
fn tg_86_a_thread_that_ends_is_gone_at_once() {
    let mut scene = process(3);
    scene.block(1, set(&[17]));
    scene.block(3, set(&[40]));
    scene.call(1, queue_to(2, 3, 40, -1));
    exit_thread(&mut scene, 3, 5);
    // THR-09
    assert!(scene.is_gone(3));
    for call in [kill(3, Signal::USR1), tgkill(2, 3, Signal::USR1), Syscall::Getpgid(3)] {
        assert_eq!(scene.result(1, call), Err(Errno::ESRCH));
    }
    assert_eq!(scene.view(1).shared, SigSet::EMPTY);
    assert_eq!(scene.wait(1, NOHANG.with(WaitOptions::ALL)), NOTHING);
    scene.same_on_the_kernel();
}

#[test]
fn tg_87_a_leader_that_ends_before_its_threads_is_a_zombie_that_no_wait_reaps() {
    let mut scene = process(2);
    exit_thread(&mut scene, 2, 3);
    // EXIT-09
    assert_eq!(runs(&scene, &[2, 3]), [RunState::Zombie, RunState::User]);
    assert_eq!(scene.value(1, Syscall::Kill { pid: 2, sig: 0 }), 0);
    assert_eq!(scene.wait(1, NOHANG), NOTHING);
    assert_eq!(scene.value(1, Syscall::Getpgid(2)), 0);
    assert_eq!(scene.value(1, Syscall::Getsid(2)), 0);
    let resource = Resource::CORE;
    scene.result(1, Syscall::Prlimit { pid: 2, resource, new: None, old: Ptr::Valid }).unwrap();
    // TG-88
    assert_eq!(scene.value(3, Syscall::Getpid), 2);
    assert_eq!(scene.value(3, Syscall::Getppid), 1);
    assert_eq!(scene.value(3, Syscall::Getpgrp), 0);
    assert_eq!(scene.value(3, Syscall::Setsid), 2);
    assert_eq!(scene.result(3, Syscall::Setsid), Err(Errno::EPERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_88_a_dead_leader_can_be_moved() {
    let mut scene = process(2);
    exit_thread(&mut scene, 2, 3);
    scene.setpgid(1, 2, 0);
    assert_eq!(scene.value(3, Syscall::Getpgrp), 2);
    // the process leads a group now
    assert_eq!(scene.result(3, Syscall::Setsid), Err(Errno::EPERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_89_the_last_thread_s_code_is_the_status() {
    // EXIT-10
    for order in [[2, 3, 4], [4, 2, 3], [3, 4, 2]] {
        let mut scene = process(3);
        for tid in order {
            exit_thread(&mut scene, tid, tid as i32 + 1);
        }
        // ZOM-14
        ended(&mut scene, WaitStatus::exited(order[2] as i32 + 1));
        scene.same_on_the_kernel();
    }
    let mut scene = process(3);
    for (tid, code) in [(2, 3), (3, 4)] {
        exit_thread(&mut scene, tid, code);
    }
    shared(&mut scene, 2, 15);
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

/// Process 2 with two threads, on another kernel.
fn process_on(major: u16, minor: u16, property: Property) -> Scene {
    let mut scene = on(major, minor, property);
    begin(&mut scene, 2);
    scene
}

#[test]
fn tg_89_the_leader_s_code_was_the_status_until_linux_5_19() {
    for (major, minor, old) in [(5, 19, true), (6, 0, false)] {
        for order in [[2, 3], [3, 2]] {
            let mut scene = process_on(major, minor, Property::LastThreadDecides);
            for tid in order {
                exit_thread(&mut scene, tid, tid as i32 + 1);
            }
            let decides = if old { 2 } else { order[1] };
            ended(&mut scene, WaitStatus::exited(decides as i32 + 1));
            scene.same_on_the_kernel();
        }
        // the group exit determines the status
        let mut scene = process_on(major, minor, Property::LastThreadDecides);
        exit_thread(&mut scene, 2, 3);
        scene.exit(3, 8);
        ended(&mut scene, WaitStatus::exited(8));
        scene.same_on_the_kernel();
    }
}

#[test]
fn wait_33_a_zombie_showed_its_leader_s_code_until_linux_5_16() {
    let look = |options| wait_info(2, WaitOptions::EXITED.with(options));
    let is = |status| Ok(Ret::WaitInfo(Some(Some(child(status)))));
    let term = killed(Signal::TERM);
    for (minor, shown) in [(16, WaitStatus::exited(3)), (17, term)] {
        let mut scene = process_on(5, minor, Property::ZombieShowsProcess);
        exit_thread(&mut scene, 2, 3);
        shared(&mut scene, 2, 15);
        assert_eq!(scene.result(1, look(WaitOptions::NOWAIT)), is(shown));
        assert_eq!(scene.kernel.shown_exit_status(Pid(2)), Some(shown));
        assert_eq!(scene.result(1, look(NONE)), is(term));
        scene.same_on_the_kernel();
    }
    // a thread that took the place of a dead leader shows its own status
    let mut scene = process_on(5, 16, Property::ZombieShowsProcess);
    exit_thread(&mut scene, 2, 3);
    scene.call(3, Syscall::Execve { path: proctable::host::SELF_PATH.into(), error: None });
    scene.exit(2, 5);
    assert_eq!(scene.result(1, look(WaitOptions::NOWAIT)), is(WaitStatus::exited(5)));
    scene.same_on_the_kernel();
}

fn wait_info(pid: i32, options: WaitOptions) -> Syscall {
    Syscall::Waitid { idtype: IdType::PID, id: pid, info: Ptr::Valid, options }
}

/// The siginfo of SIGCHLD for process 2.
fn child(status: WaitStatus) -> SigInfo {
    SigInfo::child(Signal::CHLD, Pid(2), user(0), status)
}

#[test]
fn tg_97_sigchld_had_the_leader_s_code_until_linux_6_14() {
    let term = killed(Signal::TERM);
    for (minor, reported) in [(14, WaitStatus::exited(3)), (15, term)] {
        let mut scene = process_on(6, minor, Property::ChildSignalTellsProcess);
        scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
        exit_thread(&mut scene, 2, 3);
        shared(&mut scene, 2, 15);
        assert_eq!(scene.handled(1), [child(reported)]);
        ended(&mut scene, term);
        scene.same_on_the_kernel();
    }
}

/// A leader that is preempted during its end does not adopt the children of another thread any
/// more: they are reparented before any process is notified of its own end (EXIT-11).
#[test]
fn tg_91_a_leader_that_has_ended_adopts_no_children() {
    for minor in [1, 12] {
        let mut scene = on(6, minor, Property::ExitIsPreempted);
        begin(&mut scene, 2);
        assert_eq!(scene.fork(3), 4);
        scene.exit(4, 1);
        scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::FULL);
        let step = Step { tid: Pid(1), action: Action::Call(kill(2, Signal::TERM)) };
        let (mut reported, mut script) = (BTreeSet::new(), Some(Vec::new()));
        while let Some(choices) = script {
            let (mut kernel, mut choose) = (scene.kernel.clone(), Scripted::new(choices));
            let reaction = react(&mut kernel, &step, false, &mut choose).expect("it can act");
            let handled = reaction.seen.iter().filter_map(|(_, what)| match what {
                Observable::Handler(info) => Some(info.pid.0),
                _ => None,
            });
            reported.insert(handled.collect::<Vec<_>>());
            script = choose.following();
        }
        // for the orphan, and for the leader's own end if process 1 runs in between
        assert_eq!(reported, [vec![4], vec![4, 2]].into());
    }
}

#[test]
fn tg_90_exit_group_determines_the_status_after_exits_of_threads() {
    // EXIT-07, THR-02
    let mut scene = process(3);
    exit_thread(&mut scene, 2, 3);
    scene.exit(3, 8);
    assert!(scene.is_gone(4));
    ended(&mut scene, WaitStatus::exited(8));
    scene.same_on_the_kernel();
    // the first of two counts: on the model only, because this is a race
    let mut scene = process(3);
    let mut fx = Effects::new();
    let group_exit = |code| Syscall::ExitGroup(code);
    scene.kernel.call(Pid(4), &group_exit(8), &mut fx).expect("it ends");
    let late = scene.kernel.call(Pid(3), &group_exit(9), &mut fx);
    assert_eq!(late, Err(Refused::NotInUserMode(Pid(3))));
    scene.kernel.settle(&mut Canonical, &mut fx);
    assert_eq!(status(&scene), WaitStatus::exited(8));
}

#[test]
fn tg_84_all_threads_leave_the_calls_in_which_they_sleep() {
    let mut scene = process(5);
    scene.call(2, wait_for(-1, NONE));
    scene.fork(2 + 1);
    scene.call(3, wait_for(-1, NONE));
    scene.call(4, Syscall::Pause);
    scene.call(5, sigwait(&[10]));
    scene.exit(6, 7);
    for tid in 3..=6 {
        assert!(scene.is_gone(tid));
    }
    ended(&mut scene, WaitStatus::exited(7));
    scene.same_on_the_kernel();
}

/// The threads, among these, that have children of their own.
fn owners(scene: &mut Scene, tids: &[u32]) -> Vec<u32> {
    let mut owners = Vec::new();
    for tid in tids {
        match scene.wait(*tid, OWN) {
            Err(Errno::ECHILD) => {}
            result => {
                assert_eq!(result, NOTHING);
                owners.push(*tid);
            }
        }
    }
    owners
}

#[test]
fn tg_91_children_of_a_thread_that_ends_go_to_the_first_that_lives() {
    let mut scene = process(4);
    let child = scene.fork(3);
    assert_eq!(owners(&mut scene, &[2, 3, 4, 5]), [3]);
    exit_thread(&mut scene, 3, 0);
    // RPT-01
    assert_eq!(owners(&mut scene, &[2, 4, 5]), [2]);
    exit_thread(&mut scene, 2, 0);
    assert_eq!(owners(&mut scene, &[4, 5]), [4]);
    assert_eq!(scene.value(child, Syscall::Getppid), 2);
    scene.exit(child, 0);
    assert_eq!(scene.wait(5, NONE), waited(child, WaitStatus::exited(0)));
    scene.fork(5);
    assert_eq!(owners(&mut scene, &[4, 5]), [5]);
    exit_thread(&mut scene, 5, 0);
    assert_eq!(owners(&mut scene, &[4]), [4]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_92_the_parent_death_signal_comes_at_each_hand_over() {
    let mut scene = process(3);
    let child = scene.fork(3);
    scene.catch(child, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    pdeath(&mut scene, child, 10);
    for parent in [3, 2] {
        exit_thread(&mut scene, parent, 0);
        // RPT-14: the sender is the process, which lives on
        let from: Vec<Pid> = scene.handled(child).iter().map(|info| info.pid).collect();
        assert_eq!(from, [Pid(2)], "{parent}");
    }
    // the end of a thread without children sends no signal
    assert_eq!(thread(&mut scene, 4), child + 1);
    exit_thread(&mut scene, child + 1, 0);
    assert_eq!(handled(&scene), []);
    scene.same_on_the_kernel();
}

#[test]
fn tg_93_each_thread_of_a_child_has_a_parent_death_signal() {
    let mut scene = process(2);
    let child = scene.fork(3);
    let other = thread(&mut scene, child);
    for (tid, number) in [(child, 10), (other, 12)] {
        scene.catch(tid, signal(number), SaFlags(0), SigSet::EMPTY);
        pdeath(&mut scene, tid, number);
    }
    exit_thread(&mut scene, 3, 0);
    // the target task of each is its thread, and the thread that runs first takes both (TG-37)
    assert_eq!(handled(&scene), [(child, 12), (child, 10)]);
    // each thread takes its own signal if the other thread blocks it
    scene.block(child, set(&[12]));
    scene.block(other, set(&[10]));
    exit_thread(&mut scene, 2, 0);
    assert_eq!(handled(&scene), [(child, 10), (other, 12)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_94_a_zombie_that_is_handed_over_sends_no_second_sigchld() {
    let mut scene = catching(3, &[17]);
    let own = scene.fork(2);
    let dead = scene.fork(3);
    scene.exit(dead, 6);
    assert_eq!(handled(&scene), [(3, 17)]);
    scene.call(2, wait_for(-1, WaitOptions::NOTHREAD));
    exit_thread(&mut scene, 3, 0);
    assert_eq!((handled(&scene), scene.returned(2)), (vec![], None));
    // TG-103: another thread can reap it
    assert_eq!(scene.wait(4, NONE), waited(dead, WaitStatus::exited(6)));
    scene.exit(own, 7);
    assert_eq!(scene.returned(2), Some(waited(own, WaitStatus::exited(7))));
    scene.same_on_the_kernel();
}

#[test]
fn tg_95_a_subreaper_adopts_by_its_first_living_thread() {
    let mut scene = process(3);
    scene.value(4, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    for adopter in [2, 3] {
        let child = scene.fork(4);
        let orphan = scene.fork(child);
        scene.exit(child, 0);
        assert_eq!(scene.wait(4, NONE), waited(child, WaitStatus::exited(0)));
        assert_eq!(scene.view(orphan).ppid, Pid(2));
        let living: &[u32] = if adopter == 2 { &[2, 3, 4] } else { &[3, 4] };
        assert_eq!(owners(&mut scene, living), [adopter]);
        scene.exit(orphan, 0);
        assert_eq!(scene.wait(4, NONE), waited(orphan, WaitStatus::exited(0)));
        if adopter == 2 {
            exit_thread(&mut scene, 2, 0);
        }
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_96_shared_pending_signals_survive_the_threads() {
    let mut scene = catching(3, &[10]);
    for tid in 2..=4 {
        scene.block(tid, set(&[10]));
    }
    shared(&mut scene, 2, 10);
    for tid in [2, 3] {
        exit_thread(&mut scene, tid, 0);
    }
    assert_eq!(scene.view(4).shared, set(&[10]));
    scene.unblock(4, set(&[10]));
    assert_eq!(handled(&scene), [(4, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_97_one_sigchld_reports_the_end_with_the_leader_s_number_and_user() {
    let mut scene = process(3);
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    scene.set_users(4, users(own_user(30)));
    exit_thread(&mut scene, 2, 0);
    exit_thread(&mut scene, 3, 0);
    assert_eq!(scene.handled(1), []);
    exit_thread(&mut scene, 4, 5);
    // CHLD-09
    let reported: Vec<_> =
        scene.handled(1).iter().map(|info| (info.pid, info.uid, info.value)).collect();
    assert_eq!(reported, [(Pid(2), user(0), 5)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_99_a_namespace_lives_until_the_last_thread_of_its_init_ends() {
    let mut scene = Scene::new();
    assert_eq!(thread(&mut scene, 1), 2);
    exit_thread(&mut scene, 1, 3);
    assert_eq!(runs(&scene, &[1, 2]), [RunState::Zombie, RunState::User]);
    assert_eq!(scene.fork(2), 3);
    assert_eq!(scene.value(3, Syscall::Getppid), 1);
    exit_thread(&mut scene, 2, 4);
    assert_eq!(scene.kernel.exit_status(Pid(1)), Some(WaitStatus::exited(4)));
    assert!(scene.is_gone(3));
    scene.same_on_the_kernel();
}

#[test]
fn tg_102_eight_bits_of_the_last_thread_s_code_are_kept() {
    let mut scene = process(2);
    exit_thread(&mut scene, 2, 1);
    exit_thread(&mut scene, 3, 300);
    ended(&mut scene, WaitStatus::exited(44));
    scene.same_on_the_kernel();
}

#[test]
fn orp_17_the_end_of_one_of_several_threads_checks_no_group() {
    let mut scene = process(2);
    let job = scene.fork(3);
    scene.setpgid(3, job as i32, job as i32);
    scene.setpgid(1, 2, 2);
    // the parent is the only link of the group
    scene.value(1, Syscall::Getpid);
    shared(&mut scene, job, 19);
    exit_thread(&mut scene, 3, 0);
    assert_eq!((scene.run(job), scene.view(job).shared), (RunState::Stopped, SigSet::EMPTY));
    scene.same_on_the_kernel();
}
