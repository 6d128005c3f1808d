//! Several threads that wait for children.

use super::*;

#[test]
fn tg_140_the_thread_that_began_to_wait_last_reaps() {
    for remain in [false, true] {
        let mut scene = process(4);
        let child = scene.fork(2);
        if remain {
            scene.fork(3);
        }
        for tid in [3, 4, 5] {
            scene.call(tid, wait_for(-1, NONE));
        }
        scene.exit(child, 1);
        let loser = (!remain).then_some(Err(Errno::ECHILD));
        let all = [3, 4, 5].map(|tid| scene.returned(tid));
        assert_eq!(all, [loser.clone(), loser, Some(waited(child, WaitStatus::exited(1)))]);
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_141_a_wait_for_the_thread_s_own_children_is_not_woken_for_others() {
    let own = wait_for(-1, WaitOptions::NOTHREAD);
    let any = wait_for(-1, NONE);
    for own_first in [false, true] {
        let mut scene = process(3);
        let child = scene.fork(4);
        let order = if own_first { [(4, &own), (3, &any)] } else { [(3, &any), (4, &own)] };
        for (tid, call) in order {
            scene.call(tid, call.clone());
        }
        scene.exit(child, 1);
        let (last, first) = (order[1].0, order[0].0);
        assert_eq!(scene.returned(last), Some(waited(child, WaitStatus::exited(1))));
        assert_eq!(scene.returned(first), Some(Err(Errno::ECHILD)));
        scene.same_on_the_kernel();
    }
    let mut scene = process(3);
    let (child, mine) = (scene.fork(4), scene.fork(3));
    assert_eq!(scene.result(2, own.clone()), Err(Errno::ECHILD));
    scene.call(3, own);
    scene.exit(child, 1);
    assert_eq!(scene.returned(3), None);
    scene.exit(mine, 2);
    assert_eq!(scene.returned(3), Some(waited(mine, WaitStatus::exited(2))));
    scene.same_on_the_kernel();
}

/// The children A of thread 3, B of 2, C of 4, D of 3, all dead.
fn ended_children(threads: u32) -> (Scene, [u32; 4]) {
    let mut scene = process(threads);
    let children = [3, 2, 4, 3].map(|parent| scene.fork(parent));
    for child in children {
        scene.exit(child, 0);
    }
    (scene, children)
}

/// The first child in a wait of a thread, which stays a zombie.
fn first(scene: &mut Scene, tid: u32) -> u32 {
    let options = WaitOptions::EXITED.with(WaitOptions::NOWAIT);
    let (idtype, info) = (proctable::abi::IdType::ALL, Ptr::Valid);
    match scene.result(tid, Syscall::Waitid { idtype, id: 0, info, options }) {
        Ok(Ret::WaitInfo(Some(Some(info)))) => info.pid.0,
        result => panic!("{result:?}"),
    }
}

fn reap(scene: &mut Scene, tid: u32) -> u32 {
    match scene.wait(tid, NONE) {
        Ok(Ret::Waited { pid, .. }) => pid.0,
        result => panic!("{result:?}"),
    }
}

#[test]
fn tg_142_the_caller_s_own_children_precede_those_of_the_threads_after_it() {
    // WAIT-32
    let (mut scene, [a, b, c, _]) = ended_children(4);
    assert_eq!([2, 3, 4, 5].map(|tid| first(&mut scene, tid)), [b, a, c, b]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_143_children_that_are_handed_over_come_last_in_the_adopter_s_list() {
    for early in [false, true] {
        let mut scene = process(4);
        let [a, b, c, d] = [3, 2, 4, 3].map(|parent| scene.fork(parent));
        if early {
            exit_thread(&mut scene, 3, 0);
        }
        for child in [a, b, c, d] {
            scene.exit(child, 0);
        }
        if !early {
            exit_thread(&mut scene, 3, 0);
        }
        let order = [2, 2, 2, 2].map(|tid| reap(&mut scene, tid));
        assert_eq!(order, [b, a, d, c]);
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_144_exec_hands_the_leader_s_children_over_first() {
    let (mut scene, [a, b, c, d]) = ended_children(3);
    scene.call(4, Syscall::Execve { path: proctable::host::SELF_PATH.into(), error: None });
    let order = [2, 2, 2, 2].map(|tid| reap(&mut scene, tid));
    assert_eq!(order, [c, a, d, b]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_145_a_thread_waits_for_another_s_child() {
    for creator_ends in [false, true] {
        let mut scene = process(3);
        let child = scene.fork(4);
        scene.call(3, wait_for(child as i32, NONE));
        if creator_ends {
            exit_thread(&mut scene, 4, 0);
        }
        scene.exit(child, 3);
        assert_eq!(scene.returned(3), Some(waited(child, WaitStatus::exited(3))));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_146_the_threads_of_a_dead_leader_wait_for_all_children() {
    let mut scene = process(3);
    let (one, other) = (scene.fork(2), scene.fork(4));
    exit_thread(&mut scene, 4, 0);
    exit_thread(&mut scene, 2, 0);
    assert_eq!(thread(&mut scene, 3), 7);
    assert_eq!(scene.wait(7, OWN), Err(Errno::ECHILD));
    for child in [one, other] {
        scene.exit(child, 0);
        assert_eq!(reap(&mut scene, 7), child);
    }
    scene.same_on_the_kernel();
}

fn waitid(options: WaitOptions) -> Syscall {
    Syscall::Waitid { idtype: proctable::abi::IdType::ALL, id: 0, info: Ptr::Valid, options }
}

/// The child that waitid of that thread returned in the last step, if it returned.
fn waited_child(scene: &Scene, tid: u32) -> Option<Result<u32, Errno>> {
    scene.returned(tid).map(|result| match result {
        Ok(Ret::WaitInfo(Some(Some(info)))) => Ok(info.pid.0),
        Err(errno) => Err(errno),
        result => panic!("{result:?}"),
    })
}

#[test]
fn tg_147_two_waits_with_wnowait_both_return_the_zombie() {
    let mut scene = process(3);
    let child = scene.fork(2);
    for tid in [3, 4] {
        scene.call(tid, waitid(WaitOptions::EXITED.with(WaitOptions::NOWAIT)));
    }
    scene.exit(child, 4);
    assert_eq!([3, 4].map(|tid| waited_child(&scene, tid)), [Some(Ok(child)); 2]);
    assert_eq!(scene.run(child), RunState::Zombie);
    scene.same_on_the_kernel();
}

#[test]
fn tg_148_one_stop_is_reported_to_one_thread() {
    let mut scene = process(3);
    let child = scene.fork(2);
    for tid in [3, 4] {
        scene.call(tid, waitid(WaitOptions::STOPPED));
    }
    shared(&mut scene, child, 19);
    assert_eq!([3, 4].map(|tid| waited_child(&scene, tid)), [None, Some(Ok(child))]);
    shared(&mut scene, child, 9);
    // WAIT-23
    assert_eq!(waited_child(&scene, 3), Some(Err(Errno::ECHILD)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_149_one_continue_is_reported_to_one_thread() {
    let mut scene = process(3);
    let child = scene.fork(2);
    shared(&mut scene, child, 19);
    for tid in [3, 4] {
        scene.call(tid, waitid(WaitOptions::CONTINUED));
    }
    shared(&mut scene, child, 18);
    assert_eq!([3, 4].map(|tid| waited_child(&scene, tid)), [None, Some(Ok(child))]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_150_a_wait_includes_a_child_that_another_thread_creates_during_it() {
    let mut scene = process(3);
    scene.fork(2);
    scene.call(3, wait_for(-1, NONE));
    let child = scene.fork(4);
    scene.exit(child, 5);
    assert_eq!(scene.returned(3), Some(waited(child, WaitStatus::exited(5))));
    scene.same_on_the_kernel();
}

#[test]
fn tg_151_a_thread_is_no_child_and_every_thread_waits_for_clone_children() {
    let mut scene = process(2);
    // WAIT-47
    let all = WaitOptions::ALL;
    for caller in [1, 2] {
        let result = scene.result(caller, wait_for(3, all.with(NOHANG)));
        assert_eq!(result, Err(Errno::ECHILD));
    }
    let child = scene.value(3, Syscall::clone_call(0)) as u32;
    assert_eq!(scene.wait(2, NOHANG), Err(Errno::ECHILD));
    assert_eq!(scene.wait(2, NOHANG.with(WaitOptions::CLONE)), NOTHING);
    scene.exit(child, 1);
    assert_eq!(scene.wait(2, WaitOptions::CLONE), waited(child, WaitStatus::exited(1)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_152_with_automatic_reaping_all_waits_end_with_the_last_child() {
    let mut scene = process(3);
    scene.action(2, Signal::CHLD, SigAction::IGNORE);
    let children = [scene.fork(2), scene.fork(4)];
    for tid in [3, 4] {
        scene.call(tid, wait_for(-1, NONE));
    }
    scene.exit(children[0], 0);
    assert_eq!([3, 4].map(|tid| scene.returned(tid)), [None, None]);
    scene.exit(children[1], 0);
    let echild = Some(Err(Errno::ECHILD));
    assert_eq!([3, 4].map(|tid| scene.returned(tid)), [echild.clone(), echild]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_153_the_wait_of_one_thread_and_the_handler_of_another() {
    let mut scene = catching(3, &[17]);
    let child = scene.fork(4);
    scene.call(3, wait_for(child as i32, NONE));
    scene.exit(child, 1);
    assert_eq!(handled(&scene), [(4, 17)]);
    assert_eq!(scene.returned(3), Some(waited(child, WaitStatus::exited(1))));
    // a thread reaps its own child before it handles the signal
    let child = scene.fork(3);
    scene.call(3, wait_for(child as i32, NONE));
    scene.exit(child, 2);
    assert_eq!(handled(&scene), [(3, 17)]);
    assert_eq!(scene.returned(3), Some(waited(child, WaitStatus::exited(2))));
    scene.same_on_the_kernel();
}

#[test]
fn tg_154_a_wait_ends_by_a_handler_of_its_own_thread() {
    let mut scene = catching(2, &[10]);
    scene.fork(2);
    scene.call(3, wait_for(-1, NONE));
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), scene.returned(3)), (vec![(2, 10)], None));
    send(&mut scene, 3, Signal::USR1);
    assert_eq!(scene.returned(3), Some(Err(Errno::EINTR)));
    scene.same_on_the_kernel();
}
