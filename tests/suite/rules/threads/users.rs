//! Users, groups and numbers of threads.

use super::*;

#[test]
fn tg_155_users_belong_to_the_thread() {
    let mut scene = process(2);
    let own = own_user(50);
    scene.set_users(3, users(own));
    // CRED-07
    assert_eq!(scene.value(3, Syscall::Getuid), i64::from(own));
    assert_eq!(scene.value(2, Syscall::Getuid), 0);
    assert_eq!(scene.fork(3), 4);
    assert_eq!(scene.value(4, Syscall::Getuid), i64::from(own));
    scene.same_on_the_kernel();
}

#[test]
fn tg_156_the_users_of_the_target_task_decide_the_permission() {
    let mut scene = catching(3, &[10]);
    let own = own_user(51);
    scene.setpgid(1, 2, 2);
    let sender = scene.fork(1);
    scene.set_users(sender, users(own));
    scene.set_users(3, users(own));
    let refused = Err(Errno::EPERM);
    for (target, result) in [(2, refused.clone()), (3, Ok(Ret::Value(0))), (4, refused.clone())] {
        let sent = scene.result(sender, kill(target, Signal::USR1));
        assert_eq!(sent, result, "{target}");
        let takers = handled(&scene);
        assert_eq!(takers, if result.is_ok() { vec![(3, 10)] } else { vec![] });
        let sent = scene.result(sender, tgkill(2, target as u32, Signal::USR1));
        assert_eq!(sent, result, "{target}");
    }
    assert_eq!(scene.result(sender, kill(-2, Signal::USR1)), refused);
    // the users of a dead leader count as before
    exit_thread(&mut scene, 2, 0);
    assert_eq!(scene.result(sender, kill(2, Signal::USR1)), refused);
    assert_eq!(scene.result(sender, kill(3, Signal::USR1)), Ok(Ret::Value(0)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_157_within_a_process_everything_is_allowed() {
    let mut scene = catching(3, &[10]);
    let own = own_user(52);
    scene.set_users(3, users(own_user(53)));
    scene.set_users(4, users(own));
    for (call, taker) in [
        (tgkill(2, 2, Signal::USR1), 2),
        (kill(2, Signal::USR1), 2),
        (tgkill(2, 3, Signal::USR1), 3),
    ] {
        assert_eq!(scene.result(4, call), Ok(Ret::Value(0)));
        // the user of the thread, the number of the process
        let from: Vec<_> = scene.handled(taker).iter().map(|info| (info.pid, info.uid)).collect();
        assert_eq!(from, [(Pid(2), user(own))]);
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_158_a_change_of_the_user_clears_the_thread_s_parent_death_signal() {
    let mut scene = process(2);
    pdeath(&mut scene, 2, 10);
    pdeath(&mut scene, 3, 12);
    assert_eq!(stored(&mut scene, 2, Prctl::GetDumpable), Ok(Ret::Value(1)));
    scene.set_users(3, users(own_user(54)));
    let get = Prctl::GetPdeathsig(Ptr::Valid);
    assert_eq!(stored(&mut scene, 2, get), Ok(Ret::Stored(10)));
    assert_eq!(stored(&mut scene, 3, get), Ok(Ret::Stored(0)));
    let dumpable = stored(&mut scene, 2, Prctl::GetDumpable).unwrap().value();
    assert_ne!(dumpable, 1);
    scene.same_on_the_kernel();
}

#[test]
fn tg_159_groups_and_sessions_are_the_process_s() {
    let mut scene = process(3);
    // GRP-04
    for (caller, pid, pgid) in [(1, 3, 3), (1, 3, 0), (3, 3, 0), (3, 3, 3)] {
        let call = Syscall::Setpgid { pid, pgid };
        assert_eq!(scene.result(caller, call), Err(Errno::EINVAL), "{caller} {pid} {pgid}");
    }
    assert_eq!(scene.value(1, Syscall::Getpgid(3)), 0);
    assert_eq!(scene.value(1, Syscall::Getsid(4)), 0);
    assert_eq!(scene.result(1, kill(-3, Signal::USR1)), Err(Errno::ESRCH));
    let child = scene.fork(4);
    let call = Syscall::Setpgid { pid: child as i32, pgid: 3 };
    assert_eq!(scene.result(3, call), Err(Errno::EPERM));
    scene.setpgid(3, child as i32, child as i32);
    // THR-06
    scene.setpgid(3, 0, 0);
    assert_eq!(scene.view(2).pgid.0, 2);
    assert_eq!(scene.result(3, Syscall::Setsid), Err(Errno::EPERM));
    // TG-168
    let other = scene.fork(1);
    let thread = thread(&mut scene, other);
    assert_eq!(scene.value(thread, Syscall::Setsid), i64::from(other));
    let child = scene.fork(thread);
    assert_eq!(scene.value(child, Syscall::Getppid), i64::from(other));
    scene.same_on_the_kernel();
}

#[test]
fn tg_160_the_numbers_that_name_a_thread() {
    let mut scene = catching(2, &[10]);
    let other = scene.fork(1) as i32;
    let tg = |tgid, tid, sig| Syscall::Tgkill { tgid, tid, sig };
    for (call, errno) in [
        (tg(other, 3, 10), Errno::ESRCH),
        (tg(3, 3, 10), Errno::ESRCH),
        (tg(0, 3, 10), Errno::EINVAL),
        (tg(2, 0, 10), Errno::EINVAL),
        (tg(-1, 3, 10), Errno::EINVAL),
        (tg(2, -3, 10), Errno::EINVAL),
        (tg(2, 3, 65), Errno::EINVAL),
        (tg(2, 3, -1), Errno::EINVAL),
        (Syscall::Tkill { tid: 0, sig: 10 }, Errno::EINVAL),
    ] {
        assert_eq!(scene.result(1, call.clone()), Err(errno), "{call:?}");
    }
    assert_eq!(scene.value(1, Syscall::Tkill { tid: 3, sig: 10 }), 0);
    assert_eq!(handled(&scene), [(3, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_161_queued_signals_for_threads() {
    let mut scene = catching(3, &[10]);
    scene.call(1, queue(3, Signal::USR1, -1, 5));
    assert_eq!(handled(&scene), [(3, 10)]);
    scene.block(3, set(&[10]));
    scene.call(1, queue(3, Signal::USR1, -1, 5));
    // a signal to the process, with the thread as the target task
    assert_eq!(handled(&scene), [(2, 10)]);
    scene.block(4, set(&[10]));
    assert_eq!(scene.result(1, queue_to(2, 4, 10, -1)), Ok(Ret::Value(0)));
    assert_eq!((scene.view(4).private, scene.view(4).shared), (set(&[10]), SigSet::EMPTY));
    let none = Syscall::RtTgsigqueueinfo { tgid: 2, tid: 3, sig: 10, info: None };
    for (call, errno) in [
        (queue_to(1, 3, 10, -1), Errno::ESRCH),
        (queue_to(3, 3, 10, -1), Errno::ESRCH),
        (queue_to(2, 0, 10, -1), Errno::EINVAL),
        (queue_to(0, 3, 10, -1), Errno::EINVAL),
        (queue_to(2, 3, 65, -1), Errno::EINVAL),
        (none, Errno::EFAULT),
    ] {
        assert_eq!(scene.result(1, call.clone()), Err(errno), "{call:?}");
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_162_codes_of_the_kernel_are_for_the_caller_s_own_number() {
    let mut scene = catching(2, &[10]);
    // KILL-32
    for code in [0, -6] {
        let to = |pid| queue(pid, Signal::USR1, code, 0);
        let (allowed, refused) = (Ok(Ret::Value(0)), Err(Errno::EPERM));
        assert_eq!(scene.result(3, to(2)), refused);
        assert_eq!(scene.result(3, to(3)), allowed);
        assert_eq!(scene.result(3, queue_to(2, 3, 10, code)), allowed);
        assert_eq!(scene.result(3, queue_to(2, 2, 10, code)), refused);
        assert_eq!(scene.result(2, to(2)), allowed);
        assert_eq!(scene.result(2, to(3)), refused);
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_166_kill_of_all_excludes_the_caller_s_threads() {
    let mut scene = catching(3, &[10]);
    assert_eq!(scene.result(3, kill(-1, Signal::USR1)), Err(Errno::ESRCH));
    let other = scene.fork(1);
    let thread = thread(&mut scene, other);
    scene.catch(other, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    scene.kill(3, -1, Signal::USR1);
    assert_eq!(handled(&scene), [(other, 10)]);
    scene.kill(thread, -1, Signal::USR1);
    assert_eq!(handled(&scene), [(2, 10)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_167_queued_records_are_counted_for_all_threads_together() {
    let mut scene = process(2);
    let own = own_user(55);
    for tid in [2, 3] {
        scene.block(tid, set(&[10, 40]));
    }
    scene.limit(2, Resource::SIGPENDING, 2);
    for tid in [2, 3] {
        scene.set_users(tid, users(own));
        assert_eq!(scene.result(1, queue_to(2, tid, 40, -1)), Ok(Ret::Value(0)));
    }
    for tid in [2, 3] {
        assert_eq!(scene.result(1, queue_to(2, tid, 40, -1)), Err(Errno::EAGAIN));
    }
    assert_eq!(scene.result(1, tgkill(2, 3, signal(40))), Err(Errno::EAGAIN));
    shared(&mut scene, 2, 40);
    assert_eq!(scene.view(2).shared, set(&[40]));
    // the records of a thread are free when it has ended
    exit_thread(&mut scene, 3, 0);
    assert_eq!(scene.result(1, queue_to(2, 2, 40, -1)), Ok(Ret::Value(0)));
    scene.same_on_the_kernel();
}
