//! The choice of the thread that takes a signal.

use super::*;

/// From that thread on, these threads run no handler of these signals.
fn block_in(scene: &mut Scene, tids: &[u32], numbers: &[i32]) {
    for tid in tids {
        scene.block(*tid, set(numbers));
    }
}

#[test]
fn tg_27_each_signal_has_a_target_task() {
    let mut scene = catching(3, &[10, 17]);
    scene.setpgid(1, 2, 2);
    for (target, taker) in [(2, 2), (3, 3), (4, 4), (-2, 2), (-1, 2)] {
        scene.kill(1, target, Signal::USR1);
        assert_eq!(handled(&scene), [(taker, 10)], "{target}");
    }
    // SIGCHLD: to the creator
    for creator in [3, 2, 4] {
        let child = scene.fork(creator);
        scene.exit(child, 0);
        assert_eq!(handled(&scene), [(creator, 17)]);
    }
    scene.same_on_the_kernel();
}

/// On the model only: it has the clock.
#[test]
fn tg_27_the_target_task_of_the_timer_s_signal_is_the_leader() {
    for (leader_blocks, taker) in [(false, 2), (true, 3)] {
        let mut scene = catching(3, &[14]);
        scene.value(4, Syscall::Alarm(1));
        if leader_blocks {
            scene.block(2, set(&[14]));
        }
        scene.elapse(2_000_000_000);
        assert_eq!(handled(&scene), [(taker, 14)]);
    }
}

#[test]
fn tg_28_another_thread_than_the_target_is_found_by_a_scan_in_the_order_of_creation() {
    let mut scene = catching(4, &[10]);
    scene.block(2, set(&[10]));
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(3, 10)]);
    assert!(scene.follows("TG-28"));
    // TG-29: the next search does not begin at a target task that takes its signal
    shared(&mut scene, 5, 10);
    assert_eq!(handled(&scene), [(5, 10)]);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(3, 10)]);
    // no thread can take it: it stays pending, and no thread is woken
    block_in(&mut scene, &[3, 4, 5], &[10]);
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), scene.view(4).shared), (vec![], set(&[10])));
    scene.same_on_the_kernel();
}

/// The last search found thread 5.
fn found_five() -> Scene {
    let mut scene = catching(4, &[10, 17]);
    block_in(&mut scene, &[2, 3, 4], &[10]);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(5, 10)]);
    for tid in [2, 3, 4] {
        scene.unblock(tid, set(&[10]));
    }
    scene
}

#[test]
fn tg_30_the_scan_begins_where_it_ended_last() {
    let mut scene = found_five();
    block_in(&mut scene, &[4], &[10, 17]);
    shared(&mut scene, 4, 10);
    assert_eq!(handled(&scene), [(5, 10)]);
    let child = scene.fork(4);
    scene.exit(child, 0);
    assert_eq!(handled(&scene), [(5, 17)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_31_after_the_end_of_a_thread_the_scan_begins_with_the_next() {
    let mut scene = catching(4, &[10]);
    block_in(&mut scene, &[2, 3], &[10]);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(4, 10)]);
    scene.unblock(3, set(&[10]));
    exit_thread(&mut scene, 4, 0);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(5, 10)]);
    // the leader follows the last thread
    exit_thread(&mut scene, 5, 0);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(3, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_32_threads_are_in_the_order_of_creation_whichever_thread_created_them() {
    let mut scene = catching(3, &[10]);
    assert_eq!(thread(&mut scene, 3), 5);
    assert_eq!(thread(&mut scene, 2), 6);
    let mut takers = Vec::new();
    let mut blocked = vec![2];
    for _ in 0..4 {
        block_in(&mut scene, &blocked, &[10]);
        shared(&mut scene, 2, 10);
        let taker = handled(&scene)[0].0;
        takers.push(taker);
        blocked = vec![taker];
    }
    assert_eq!(takers, [3, 4, 5, 6]);
    // the search wraps, past the leader
    scene.unblock(4, set(&[10]));
    block_in(&mut scene, &[6], &[10]);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(4, 10)]);
    // a dead leader takes nothing
    block_in(&mut scene, &[4], &[10]);
    scene.unblock(2, set(&[10]));
    exit_thread(&mut scene, 2, 0);
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), []);
    scene.unblock(5, set(&[10]));
    assert_eq!(handled(&scene), [(5, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_33_a_thread_that_signals_its_process_has_no_special_rule() {
    let mut scene = catching(3, &[10]);
    scene.setpgid(1, 2, 2);
    scene.kill(3, 2, Signal::USR1);
    assert_eq!(handled(&scene), [(2, 10)]);
    scene.kill(3, 3, Signal::USR1);
    assert_eq!(handled(&scene), [(3, 10)]);
    scene.kill(3, 0, Signal::USR1);
    assert_eq!(handled(&scene), [(2, 10)]);
    block_in(&mut scene, &[2, 4], &[10]);
    // KILL-34, TG-172: the handler runs before kill returns
    scene.kill(3, 2, Signal::USR1);
    assert_eq!(handled(&scene), [(3, 10)]);
    let of_three =
        |what: &Observable| matches!(what, Observable::Handler(_) | Observable::Resumed(_));
    let seen = scene.reaction().seen.iter();
    let order: Vec<&Observable> =
        seen.filter(|(tid, what)| tid.0 == 3 && of_three(what)).map(|(_, what)| what).collect();
    assert!(matches!(order[..], [Observable::Handler(_), Observable::Resumed(_)]), "{order:?}");
    scene.same_on_the_kernel();
}

#[test]
fn tg_34_idle_threads_take_no_turns() {
    let mut scene = catching(4, &[10]);
    let next = |scene: &mut Scene| {
        shared(scene, 2, 10);
        handled(scene)
    };
    scene.block(2, set(&[10]));
    for _ in 0..4 {
        assert_eq!(next(&mut scene), [(3, 10)]);
    }
    scene.block(3, set(&[10]));
    assert_eq!(next(&mut scene), [(4, 10)]);
    scene.unblock(3, set(&[10]));
    assert_eq!(next(&mut scene), [(4, 10)]);
    scene.block(4, set(&[10]));
    assert_eq!(next(&mut scene), [(5, 10)]);
    scene.block(5, set(&[10]));
    assert_eq!(next(&mut scene), [(3, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_36_signals_without_a_pause_wake_one_thread_after_the_other() {
    let mut scene = catching(4, &[10, 12, 40, 41]);
    at_once(&mut scene, 2, &[10, 12, 40, 41]);
    // TG-37: the first thread that runs takes all, the lowest number first
    assert_eq!(handled(&scene), [(2, 41), (2, 40), (2, 12), (2, 10)]);
    // TG-35: each signal woke another thread
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(2, 10)]);
    scene.block(2, set(&[10]));
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(5, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_38_a_thread_that_is_woken_without_a_signal_sleeps_on() {
    let wait = wait_for(-1, NONE);
    let info = Ptr::Valid;
    let options = WaitOptions::EXITED;
    let waitid = Syscall::Waitid { idtype: proctable::abi::IdType::ALL, id: 0, info, options };
    for (call, result) in [
        (Syscall::Pause, None),
        (sigsuspend(&[]), None),
        (wait, None),
        (waitid, None),
        // SIG-44
        (sigwait(&[44]), Some(Err(Errno::EINTR))),
    ] {
        let mut scene = catching(2, &[10, 12, 44]);
        // the child is not one of those that are killed
        assert_eq!(scene.fork(2), 4);
        scene.call(3, call.clone());
        at_once(&mut scene, 2, &[10, 12]);
        assert_eq!(handled(&scene), [(2, 12), (2, 10)], "{call:?}");
        // the waits look for children of their own class
        assert_eq!(scene.returned(3), result, "{call:?}");
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_39_a_signal_waits_for_the_thread_that_sleeps_in_vfork() {
    let mut scene = catching(2, &[10, 12]);
    scene.call(2, Syscall::Vfork);
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), scene.view(3).shared), (vec![], set(&[10])));
    // TG-40: a thread that does not look at its signals does not take it
    scene.value(3, Syscall::Gettid);
    assert_eq!(scene.view(3).shared, set(&[10]));
    shared(&mut scene, 2, 12);
    assert_eq!(handled(&scene), [(3, 12), (3, 10)]);
    scene.exit(4, 0);
    assert_eq!(scene.returned(2), Some(Ok(Ret::Value(4))));
    scene.same_on_the_kernel();
}

#[test]
fn tg_40_a_thread_that_looks_at_its_signals_takes_signals_for_another_thread() {
    for private in [false, true] {
        let mut scene = catching(3, &[10, 12]);
        scene.call(2, Syscall::Vfork);
        shared(&mut scene, 2, 10);
        scene.value(4, Syscall::Getpid);
        assert_eq!(handled(&scene), []);
        if private {
            send(&mut scene, 4, Signal::USR2);
            assert_eq!(handled(&scene), [(4, 10), (4, 12)]);
        } else {
            scene.block(4, set(&[44]));
            assert_eq!(handled(&scene), [(4, 10)]);
        }
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_41_a_signal_that_all_threads_block_goes_to_the_first_that_unblocks_it() {
    let mut scene = catching(4, &[10]);
    block_in(&mut scene, &[2, 3, 4, 5], &[10]);
    shared(&mut scene, 2, 10);
    for tid in 2..=5 {
        assert_eq!(pending(&mut scene, tid), set(&[10]));
    }
    scene.unblock(5, set(&[10]));
    assert_eq!(handled(&scene), [(5, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_42_a_private_signal_is_its_thread_s() {
    let mut scene = catching(3, &[10]);
    block_in(&mut scene, &[2, 4], &[10]);
    send(&mut scene, 4, Signal::USR1);
    // SIG-28
    assert_eq!((pending(&mut scene, 2), pending(&mut scene, 4)), (SigSet::EMPTY, set(&[10])));
    shared(&mut scene, 2, 10);
    assert_eq!(handled(&scene), [(3, 10)]);
    scene.unblock(4, set(&[10]));
    assert_eq!(handled(&scene), [(4, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_43_private_signals_come_first() {
    let mut scene = process(2);
    block_in(&mut scene, &[2, 3], &[10, 11, 40, 41]);
    shared(&mut scene, 2, 40);
    send(&mut scene, 3, signal(41));
    let next = |scene: &mut Scene| {
        scene.call(3, sigpoll(&[10, 11, 40, 41]));
        taken(scene, 3)
    };
    assert_eq!([next(&mut scene), next(&mut scene)], [Some(Ok(41)), Some(Ok(40))]);
    // a signal of a fault precedes lower numbers
    send(&mut scene, 3, Signal::USR1);
    send(&mut scene, 3, Signal::SEGV);
    assert_eq!([next(&mut scene), next(&mut scene)], [Some(Ok(11)), Some(Ok(10))]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_44_frames_are_stacked_private_first_and_wait_for_their_own_number() {
    let mut scene = catching(2, &[10, 12, 40]);
    block_in(&mut scene, &[2, 3], &[10, 12, 40]);
    for number in [10, 40] {
        shared(&mut scene, 2, number);
    }
    for number in [12, 40] {
        send(&mut scene, 3, signal(number));
    }
    scene.unblock(3, set(&[10, 12, 40]));
    let handled: Vec<_> =
        scene.handled(3).iter().map(|info| (info.signal.number(), info.code)).collect();
    let (shared, private) = (SiCode::USER, SiCode::TKILL);
    assert_eq!(handled, [(10, shared), (40, private), (40, shared), (12, private)]);
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_46_no_signal_is_lost_when_the_chosen_thread_does_not_take_it() {
    let block = |numbers: &[i32]| {
        let (how, set, size) = (syscall::how::BLOCK, Some(set(numbers)), SIGSET_SIZE);
        Syscall::RtSigprocmask { how, set, old: Ptr::Null, size }
    };
    for evasion in [Syscall::Exit(0), block(&[10])] {
        let mut scene = catching(3, &[10]);
        scene.block(2, set(&[10]));
        let calls = [(1, kill(2, Signal::USR1)), (3, evasion)];
        let fx = race(&mut scene.kernel, &calls);
        assert_eq!(caught(&fx), [(4, 10)]);
        // TG-45
        assert!(fx.rules().contains(proctable::rule!("TG-45")));
    }
}

#[test]
fn tg_47_a_thread_in_sigtimedwait_is_like_one_that_does_not_block() {
    let mut scene = catching(2, &[10]);
    scene.block(3, set(&[10]));
    scene.call(3, sigwait(&[10]));
    assert_eq!(scene.view(3).blocked, SigSet::EMPTY);
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), taken(&scene, 3)), (vec![(2, 10)], None));
    shared(&mut scene, 3, 10);
    assert_eq!((handled(&scene), taken(&scene, 3)), (vec![], Some(Ok(10))));
    assert_eq!(scene.view(3).blocked, set(&[10]));
    scene.same_on_the_kernel();
}

#[test]
fn tg_48_of_two_in_sigtimedwait_one_gets_the_signal_and_the_other_eintr() {
    for (one, other) in [(2, 3), (3, 5)] {
        let mut scene = process(4);
        block_in(&mut scene, &[2, 3, 4, 5], &[40]);
        for tid in [one, other] {
            scene.call(tid, sigwait(&[40]));
        }
        shared(&mut scene, 2, 40);
        // TG-45: the first thread blocks it again before it takes it
        assert!(scene.follows("TG-45"));
        assert_eq!(taken(&scene, one), Some(Ok(40)));
        assert_eq!(taken(&scene, other), Some(Err(Errno::EINTR)));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_49_of_three_in_sigtimedwait_the_third_sleeps_on() {
    let mut scene = process(4);
    block_in(&mut scene, &[2, 3, 4, 5], &[40]);
    for tid in [3, 4, 5] {
        scene.call(tid, sigwait(&[40]));
    }
    shared(&mut scene, 2, 40);
    let all = [3, 4, 5].map(|tid| taken(&scene, tid));
    assert_eq!(all, [Some(Ok(40)), Some(Err(Errno::EINTR)), None]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_50_between_a_handler_and_sigtimedwait_the_scan_decides() {
    let mut scene = catching(4, &[10]);
    block_in(&mut scene, &[2, 5], &[10]);
    scene.call(5, sigwait(&[10]));
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), taken(&scene, 5)), (vec![(3, 10)], None));
    block_in(&mut scene, &[3, 4], &[10]);
    shared(&mut scene, 2, 10);
    assert_eq!(taken(&scene, 5), Some(Ok(10)));
    // the search begins at thread 5 now
    scene.unblock(3, set(&[10]));
    scene.call(5, sigwait(&[10]));
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), taken(&scene, 5)), (vec![], Some(Ok(10))));
    // and the leader comes first if it is the target task
    scene.call(2, sigwait(&[10]));
    shared(&mut scene, 2, 10);
    assert_eq!((handled(&scene), taken(&scene, 2)), (vec![], Some(Ok(10))));
    scene.same_on_the_kernel();
}

#[test]
fn tg_51_stop_signals_can_be_taken() {
    let mut scene = process(2);
    // the group is not orphaned
    scene.setpgid(1, 2, 0);
    block_in(&mut scene, &[2, 3], &[18, 20]);
    scene.call(3, sigwait(&[20]));
    shared(&mut scene, 2, 20);
    assert_eq!((taken(&scene, 3), runs(&scene, &[2, 3])), (Some(Ok(20)), vec![RunState::User; 2]));
    // the leader takes it: all threads stop, and the call ends when they continue
    scene.call(3, sigwait(&[20]));
    scene.unblock(2, set(&[20]));
    shared(&mut scene, 2, 20);
    assert_eq!(runs(&scene, &[2, 3]), [RunState::Stopped; 2]);
    assert_eq!(taken(&scene, 3), Some(Err(Errno::EINTR)));
    shared(&mut scene, 2, 18);
    // SIGCONT stays pending if all threads block it
    scene.call(3, sigpoll(&[18]));
    assert_eq!(taken(&scene, 3), Some(Ok(18)));
    scene.same_on_the_kernel();
}

/// On the model only: an agent of the live kernel raises no faults.
#[test]
fn tg_53_a_fault_is_private_to_its_thread() {
    let mut scene = catching(2, &[11]);
    let fx = fault(&mut scene.kernel, 3, Signal::SEGV);
    assert_eq!(caught(&fx), [(3, 11)]);
    let mut scene = catching(2, &[11]);
    scene.block(3, set(&[11]));
    fault(&mut scene.kernel, 3, Signal::SEGV);
    assert_eq!(status(&scene), WaitStatus::killed(Signal::SEGV, true));
}

#[test]
fn tg_56_what_ends_a_sigtimedwait() {
    let mut scene = catching(3, &[10, 12]);
    block_in(&mut scene, &[2, 3, 4], &[12]);
    scene.call(3, sigpoll(&[12]));
    assert_eq!(taken(&scene, 3), Some(Err(Errno::EAGAIN)));
    // a private signal of another thread does not
    send(&mut scene, 4, Signal::USR2);
    scene.call(3, sigpoll(&[12]));
    assert_eq!(taken(&scene, 3), Some(Err(Errno::EAGAIN)));
    // a handler of another signal does
    scene.call(3, sigwait(&[12]));
    send(&mut scene, 3, Signal::USR1);
    assert_eq!((handled(&scene), taken(&scene, 3)), (vec![(3, 10)], Some(Err(Errno::EINTR))));
    // a stop does, without a handler
    scene.call(3, sigwait(&[12]));
    shared(&mut scene, 2, 19);
    assert_eq!(taken(&scene, 3), Some(Err(Errno::EINTR)));
    shared(&mut scene, 2, 18);
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel it needs priorities.
#[test]
fn tg_57_a_thread_in_sigtimedwait_loses_to_one_that_runs_before_it() {
    let mut scene = process(4);
    block_in(&mut scene, &[2, 3, 4, 5], &[10]);
    scene.call(4, sigwait(&[10]));
    let fx = race(&mut scene.kernel, &[(1, kill(2, Signal::USR1)), (5, sigpoll(&[10]))]);
    let ends = fx.list().iter().find_map(|effect| match &effect.what {
        Consequence::Returned(result) if effect.pid == Pid(4) => Some(result.clone()),
        _ => None,
    });
    assert_eq!(ends, Some(Err(Errno::EINTR)));
    assert_eq!(scene.view(5).shared, SigSet::EMPTY);
}

#[test]
fn tg_58_each_of_several_in_sigsuspend_is_woken_for_one_signal() {
    let mut scene = catching(4, &[10]);
    block_in(&mut scene, &[2, 3, 4, 5], &[10]);
    for tid in 3..=5 {
        scene.call(tid, sigsuspend(&[]));
    }
    for taker in 3..=5 {
        shared(&mut scene, 2, 10);
        assert_eq!(handled(&scene), [(taker, 10)]);
        for tid in 3..=5 {
            let eintr = (tid == taker).then_some(Err(Errno::EINTR));
            assert_eq!(scene.returned(tid), eintr, "{tid}");
        }
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_59_eintr_is_for_the_thread_that_ran_the_handler() {
    let mut scene = catching(2, &[10]);
    assert_eq!(scene.fork(2), 4);
    for call in [Syscall::Pause, wait_for(4, NONE)] {
        for tid in [2, 3] {
            scene.call(tid, call.clone());
        }
        shared(&mut scene, 2, 10);
        assert_eq!((handled(&scene), scene.returned(2)), (vec![(2, 10)], Some(Err(Errno::EINTR))));
        assert_eq!(scene.returned(3), None);
        send(&mut scene, 3, Signal::USR1);
        assert_eq!(scene.returned(3), Some(Err(Errno::EINTR)));
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_60_sigchld_is_offered_first_to_the_thread_that_created_the_child() {
    let mut scene = catching(4, &[17]);
    let child = scene.fork(4);
    // CHLD-02: also for stops and continues
    for number in [19, 18, 9] {
        shared(&mut scene, child, number);
        assert_eq!(handled(&scene), [(4, 17)], "{number}");
    }
    let child = scene.fork(4);
    scene.block(4, set(&[17]));
    scene.exit(child, 0);
    assert_eq!(handled(&scene), [(2, 17)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_61_sigchld_without_a_handler_and_a_thread_that_waits_for_it() {
    // all threads block it
    let mut scene = process(3);
    block_in(&mut scene, &[2, 3, 4], &[17]);
    let child = scene.fork(2);
    scene.call(4, sigwait(&[17]));
    scene.exit(child, 5);
    let Some(Ok(Ret::Signal(info))) = scene.returned(4) else { panic!("it is not taken") };
    assert_eq!((info.pid, info.value), (Pid(child), 5));
    scene.same_on_the_kernel();
    // only the thread in the wait does not block it
    let mut scene = process(3);
    scene.block(4, set(&[17]));
    let (child, own, early) = (scene.fork(2), scene.fork(4), scene.fork(4));
    // SIG-19, TG-64: the mask of the target task counts
    scene.call(4, sigwait(&[17]));
    scene.exit(child, 0);
    assert_eq!(taken(&scene, 4), None);
    scene.exit(own, 0);
    assert_eq!(taken(&scene, 4), Some(Ok(17)));
    // before the wait the leader takes the signal, and drops it
    scene.exit(early, 0);
    scene.call(4, sigpoll(&[17]));
    assert_eq!(taken(&scene, 4), Some(Err(Errno::EAGAIN)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_62_after_the_creator_s_end_the_adopter_is_the_target_of_sigchld() {
    let mut scene = catching(4, &[17]);
    let (one, other) = (scene.fork(4), scene.fork(4));
    exit_thread(&mut scene, 4, 0);
    scene.exit(one, 0);
    assert_eq!(handled(&scene), [(2, 17)]);
    exit_thread(&mut scene, 2, 0);
    scene.exit(other, 0);
    assert_eq!(handled(&scene), [(3, 17)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_63_a_signal_to_a_stopped_process_is_taken_by_the_first_thread_that_runs() {
    let mut scene = catching(3, &[10]);
    shared(&mut scene, 2, 19);
    shared(&mut scene, 4, 10);
    assert_eq!((handled(&scene), scene.view(2).shared), (vec![], set(&[10])));
    shared(&mut scene, 2, 18);
    assert_eq!(handled(&scene), [(2, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_64_the_mask_of_the_target_task_decides_whether_a_signal_is_ignored() {
    let mut scene = process(2);
    scene.action(2, Signal::USR1, SigAction::IGNORE);
    scene.block(3, set(&[10]));
    shared(&mut scene, 2, 10);
    assert_eq!(scene.view(2).shared, SigSet::EMPTY);
    send(&mut scene, 3, Signal::USR1);
    assert_eq!(scene.view(3).private, set(&[10]));
    // kept for the target task, and dropped by another thread
    shared(&mut scene, 3, 10);
    assert_eq!(scene.view(2).shared, SigSet::EMPTY);
    scene.block(2, set(&[10]));
    shared(&mut scene, 3, 10);
    assert_eq!(scene.view(2).shared, set(&[10]));
    scene.same_on_the_kernel();
}

#[test]
fn tg_65_there_is_one_table_of_dispositions() {
    let mut scene = process(3);
    // SIG-12
    scene.catch(3, Signal::USR1, SaFlags::RESETHAND, SigSet::EMPTY);
    assert_eq!([2, 4].map(|tid| scene.view(tid).caught), [set(&[10]); 2]);
    shared(&mut scene, 4, 10);
    assert_eq!(handled(&scene), [(4, 10)]);
    assert_eq!([2, 3].map(|tid| scene.view(tid).caught), [SigSet::EMPTY; 2]);
    block_in(&mut scene, &[2, 3, 4], &[12]);
    send(&mut scene, 3, Signal::USR2);
    shared(&mut scene, 2, 12);
    scene.action(4, Signal::USR2, SigAction::IGNORE);
    assert_eq!((scene.view(3).private, scene.view(3).shared), (SigSet::EMPTY, SigSet::EMPTY));
    scene.same_on_the_kernel();
}

/// On the model only: it has the clock.
#[test]
fn tg_66_the_timer_is_the_process_s_and_outlives_the_thread_that_set_it() {
    let mut scene = catching(3, &[14]);
    assert_eq!(scene.value(3, Syscall::Alarm(10)), 0);
    assert_eq!(scene.value(2, Syscall::Alarm(10)), 10);
    exit_thread(&mut scene, 2, 0);
    exit_thread(&mut scene, 4, 0);
    assert_eq!(scene.value(3, Syscall::Alarm(10)), 10);
    scene.elapse(11_000_000_000);
    assert_eq!(handled(&scene), [(3, 14)]);
    // the whole is compared in the test of TG-17
}

#[test]
fn tg_69_queued_copies_are_taken_by_the_thread_that_runs_first() {
    let mut scene = catching(3, &[40]);
    shared(&mut scene, 2, 19);
    for value in [1, 2, 3, 4] {
        scene.call(1, queue(2, signal(40), -1, value));
    }
    shared(&mut scene, 2, 18);
    let values: Vec<u64> = scene.handled(2).iter().map(|info| info.value).collect();
    assert_eq!(values, [1, 2, 3, 4]);
    scene.same_on_the_kernel();
}
