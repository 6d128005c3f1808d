//! The creation of threads, and the attributes that each thread has for itself.

use super::*;

#[test]
fn tg_01_a_thread_shares_memory_and_handlers() {
    let mut scene = process(1);
    for flags in
        [clone::THREAD, clone::THREAD | clone::VM, clone::THREAD | clone::SIGHAND, clone::SIGHAND]
    {
        assert_eq!(scene.result(2, Syscall::clone_call(flags)), Err(Errno::EINVAL));
        assert_eq!(scene.result(2, Syscall::clone3_call(flags, 0)), Err(Errno::EINVAL));
    }
    let least = clone::THREAD | clone::SIGHAND | clone::VM;
    assert_eq!(scene.value(2, Syscall::clone_call(least)), 3);
    assert_eq!(scene.value(3, Syscall::clone3_call(least, 0)), 4);
    for tid in 2..=4 {
        // THR-01
        assert_eq!(scene.value(tid, Syscall::Gettid), i64::from(tid));
        assert_eq!(scene.value(tid, Syscall::Getpid), 2);
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_02_a_thread_has_no_exit_signal() {
    let mut scene = process(1);
    assert_eq!(scene.value(2, Syscall::clone_call(THR | 17)), 3);
    assert_eq!(scene.value(2, Syscall::clone_call(THR | 10)), 4);
    assert_eq!(scene.result(2, Syscall::clone3_call(THR, 17)), Err(Errno::EINVAL));
    assert_eq!(scene.value(2, Syscall::clone3_call(THR, 0)), 5);
    // no process is notified of the end of a thread
    scene.block(1, set(&[10, 17]));
    scene.block(2, set(&[10, 17]));
    exit_thread(&mut scene, 4, 0);
    assert_eq!((scene.view(1).shared, scene.view(2).shared), (SigSet::EMPTY, SigSet::EMPTY));
    scene.same_on_the_kernel();
}

#[test]
fn tg_02_a_thread_may_have_an_invalid_exit_signal_before_linux_7_1() {
    let mut scene = on(7, 0, Property::ExitSignalChecked);
    assert_eq!(scene.fork(1), 2);
    assert_eq!(scene.value(2, Syscall::clone_call(THR | 65)), 3);
    scene.same_on_the_kernel();
}

#[test]
fn tg_03_a_thread_has_the_parent_of_its_process() {
    let mut scene = process(1);
    assert_eq!(scene.value(2, Syscall::clone_call(THR | clone::PARENT)), 3);
    assert_eq!(scene.value(3, Syscall::clone3_call(THR | clone::PARENT, 0)), 4);
    for flags in [THR, 0] {
        let call = Syscall::clone3_call(flags | clone::PARENT, 17);
        assert_eq!(scene.result(2, call), Err(Errno::EINVAL));
    }
    for tid in 2..=4 {
        assert_eq!(scene.value(tid, Syscall::Getppid), 1);
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_04_a_sibling_that_a_thread_creates_is_a_sibling_of_its_process() {
    let mut scene = process(2);
    assert_eq!(scene.value(3, Syscall::clone_call(clone::PARENT)), 4);
    assert_eq!(scene.view(4).ppid, Pid(1));
    scene.exit(4, 9);
    assert_eq!(scene.result(3, wait_for(-1, NOHANG)), Err(Errno::ECHILD));
    assert_eq!(scene.wait(1, NONE), waited(4, WaitStatus::exited(9)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_05_threads_and_namespaces() {
    let mut scene = process(1);
    for flags in [clone::NEWPID, clone::NEWUSER, clone::NEWNS, clone::NEWIPC] {
        assert_eq!(
            scene.result(2, Syscall::clone_call(THR | flags)),
            Err(Errno::EINVAL),
            "{flags:x}"
        );
    }
    for flags in [
        (THR & !clone::FS) | clone::NEWNS,
        (THR & !clone::SYSVSEM) | clone::NEWIPC,
        THR | clone::NEWUTS,
        THR | clone::NEWCGROUP,
    ] {
        scene.value(2, Syscall::clone_call(flags));
    }
    scene.same_on_the_kernel();
}

#[test]
fn tg_05_a_new_namespace_needs_a_capability_which_is_checked_after_the_limit() {
    let mut scene = process(1);
    scene.limit(2, Resource::NPROC, 2);
    scene.set_users(2, users(own_user(23)));
    for flags in [clone::NEWUTS, clone::NEWIPC | clone::SYSVSEM] {
        for call in [Syscall::clone_call(flags | 17), Syscall::clone_call(THR | flags)] {
            assert_eq!(scene.result(2, call), Err(Errno::EPERM));
        }
    }
    assert_eq!(thread(&mut scene, 2), 3);
    let call = Syscall::clone_call(THR | clone::NEWUTS);
    assert_eq!(scene.result(2, call), Err(Errno::EAGAIN));
    scene.same_on_the_kernel();
}

#[test]
fn tg_07_flags_that_clone3_refuses_and_clone_does_not() {
    let mut scene = process(1);
    assert_eq!(scene.value(2, Syscall::clone_call(THR | clone::DETACHED)), 3);
    for flags in [clone::DETACHED, 17, 1 << 40] {
        assert_eq!(scene.result(2, Syscall::clone3_call(THR | flags, 0)), Err(Errno::EINVAL));
    }
    assert_eq!(scene.result(2, Syscall::clone3_call(THR, 65)), Err(Errno::EINVAL));
    scene.same_on_the_kernel();
}

#[test]
fn tg_09_handlers_that_are_shared_are_not_cleared() {
    let mut scene = catching(1, &[10]);
    for flags in [THR, clone::SIGHAND | clone::VM] {
        let call = Syscall::clone3_call(flags | clone::CLEAR_SIGHAND, 0);
        assert_eq!(scene.result(2, call), Err(Errno::EINVAL));
    }
    let copy = Syscall::clone3_call(clone::VM | clone::CLEAR_SIGHAND, 17);
    assert_eq!(scene.value(2, copy), 3);
    assert_eq!((scene.view(2).caught, scene.view(3).caught), (set(&[10]), SigSet::EMPTY));
    scene.same_on_the_kernel();
}

#[test]
fn tg_10_addresses_that_cannot_be_written_are_no_error() {
    let mut scene = process(1);
    let flags = THR | clone::PARENT_SETTID | clone::CHILD_SETTID | clone::CHILD_CLEARTID;
    for clone3 in [None, Some(0)] {
        for address in [MEMORY, 8, 0] {
            let call = Syscall::Clone { flags, clone3, parent_tid: address, child_tid: address };
            let tid = scene.value(2, call) as u32;
            exit_thread(&mut scene, tid, 0);
        }
    }
    scene.same_on_the_kernel();
}

fn clearing(flags: u64) -> Syscall {
    let flags = flags | clone::CHILD_CLEARTID;
    Syscall::Clone { flags, clone3: None, parent_tid: 0, child_tid: MEMORY }
}

#[test]
fn tg_11_the_word_is_cleared_if_another_task_can_see_it() {
    let mut scene = process(1);
    for nth in 0..3 {
        assert_eq!(scene.value(2, clearing(THR)), 3 + nth);
    }
    exit_thread(&mut scene, 3, 0);
    assert_eq!(cleared(&scene), [(3, MEMORY)]);
    // a copy has a memory of its own
    assert_eq!(scene.value(2, clearing(17)), 6);
    scene.exit(6, 0);
    assert_eq!(cleared(&scene), []);
    // a child that shares the memory has not
    assert_eq!(scene.value(2, clearing(clone::VM | 17)), 7);
    scene.exit(7, 0);
    assert_eq!(cleared(&scene), [(7, MEMORY)]);
    // each thread except the last of a process
    scene.value(2, Syscall::SetTidAddress(MEMORY));
    exit_thread(&mut scene, 2, 0);
    assert_eq!(cleared(&scene), [(2, MEMORY)]);
    exit_thread(&mut scene, 4, 0);
    assert_eq!(cleared(&scene), [(4, MEMORY)]);
    exit_thread(&mut scene, 5, 0);
    assert_eq!((cleared(&scene), scene.run(2)), (vec![], RunState::Zombie));
    scene.same_on_the_kernel();
}

#[test]
fn tg_12_set_tid_address_returns_the_caller_s_number_and_replaces_the_address() {
    let mut scene = process(1);
    assert_eq!(scene.value(2, clearing(THR)), 3);
    assert_eq!(scene.value(2, clearing(THR)), 4);
    for tid in 2..=4 {
        assert_eq!(scene.value(tid, Syscall::SetTidAddress(8)), i64::from(tid));
    }
    scene.value(3, Syscall::SetTidAddress(0));
    scene.value(4, Syscall::SetTidAddress(MEMORY));
    exit_thread(&mut scene, 3, 0);
    assert_eq!(cleared(&scene), []);
    exit_thread(&mut scene, 4, 0);
    assert_eq!(cleared(&scene), [(4, MEMORY)]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_13_threads_and_processes_take_numbers_from_one_sequence() {
    let mut scene = process(3);
    // PID-11
    assert_eq!((scene.fork(4), thread(&mut scene, 3), thread(&mut scene, 2)), (5, 6, 7));
    exit_thread(&mut scene, 6, 0);
    assert_eq!(scene.fork(1), 8);
    scene.same_on_the_kernel();
}

#[test]
fn tg_14_threads_count_against_the_limit_of_tasks_of_the_creating_thread_s_user() {
    let mut scene = process(1);
    scene.limit(2, Resource::NPROC, 4);
    scene.set_users(2, users(own_user(20)));
    for tid in 3..=5 {
        assert_eq!(thread(&mut scene, 2), tid);
    }
    let another = Syscall::clone_call(THR);
    assert_eq!(scene.result(2, another.clone()), Err(Errno::EAGAIN));
    // no zombie keeps the number
    exit_thread(&mut scene, 4, 0);
    assert_eq!(thread(&mut scene, 5), 6);
    // only one thread belongs to another user
    assert_eq!(scene.fork(1), 7);
    assert_eq!(thread(&mut scene, 7), 8);
    scene.limit(7, Resource::NPROC, 1);
    scene.set_users(8, users(own_user(21)));
    assert_eq!(scene.result(8, another), Err(Errno::EAGAIN));
    assert_eq!(thread(&mut scene, 7), 9);
    scene.same_on_the_kernel();
}

#[test]
fn tg_15_a_thread_has_the_users_and_the_mask_of_its_creator() {
    let mut scene = catching(2, &[10, 12]);
    scene.block(3, set(&[10, 12]));
    pdeath(&mut scene, 3, 10);
    send(&mut scene, 3, Signal::USR1);
    scene.set_users(3, users(own_user(22)));
    pdeath(&mut scene, 3, 10);
    assert_eq!(thread(&mut scene, 3), 4);
    // THR-08
    assert_eq!(scene.view(4).blocked, set(&[10, 12]));
    assert_eq!(scene.view(4).private, SigSet::EMPTY);
    assert_eq!(scene.value(4, Syscall::Getuid), i64::from(own_user(22)));
    assert_eq!(scene.value(2, Syscall::Getuid), 0);
    assert_eq!(stored(&mut scene, 4, Prctl::GetPdeathsig(Ptr::Valid)), Ok(Ret::Stored(0)));
    // signals that are pending for the process are pending for the new thread, too
    scene.block(2, set(&[12]));
    shared(&mut scene, 2, 12);
    assert_eq!(thread(&mut scene, 2), 5);
    assert_eq!((pending(&mut scene, 5), pending(&mut scene, 4)), (set(&[12]), set(&[12])));
    scene.same_on_the_kernel();
}

#[test]
fn tg_16_the_process_is_the_subreaper() {
    let mut scene = process(1);
    scene.value(2, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    assert_eq!(thread(&mut scene, 2), 3);
    let get = Prctl::GetChildSubreaper(Ptr::Valid);
    assert_eq!(stored(&mut scene, 3, get), Ok(Ret::Stored(1)));
    scene.value(3, Syscall::Prctl(Prctl::SetChildSubreaper(0)));
    assert_eq!(stored(&mut scene, 2, get), Ok(Ret::Stored(0)));
    scene.same_on_the_kernel();
}

#[test]
fn tg_17_the_attributes_of_a_thread_and_of_the_process() {
    let mut scene = process(2);
    pdeath(&mut scene, 3, 10);
    assert_eq!(stored(&mut scene, 2, Prctl::GetPdeathsig(Ptr::Valid)), Ok(Ret::Stored(0)));
    assert_eq!(stored(&mut scene, 3, Prctl::GetPdeathsig(Ptr::Valid)), Ok(Ret::Stored(10)));
    scene.value(3, Syscall::Prctl(Prctl::SetDumpable(0)));
    assert_eq!(stored(&mut scene, 2, Prctl::GetDumpable), Ok(Ret::Value(0)));
    scene.limit(3, Resource::CORE, 100);
    let get = |pid| Syscall::Prlimit { pid, resource: Resource::CORE, new: None, old: Ptr::Valid };
    let limit = Ok(Ret::Limit(Some(Rlimit { soft: 100, hard: 100 })));
    assert_eq!(scene.result(2, get(0)), limit);
    assert_eq!(scene.value(3, Syscall::Alarm(10)), 0);
    // THR-05
    assert_eq!(scene.value(2, Syscall::Alarm(0)), 10);
    scene.block(3, set(&[10]));
    assert_eq!(scene.view(2).blocked, SigSet::EMPTY);
    scene.catch(3, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    assert_eq!(scene.view(2).caught, set(&[10]));
    scene.value(3, Syscall::Umask(0o77));
    assert_eq!(scene.value(2, Syscall::Umask(0o22)), 0o77);
    // TG-18: the number of a thread names its process
    let new = Some(Rlimit { soft: 50, hard: 50 });
    let resource = Resource::CORE;
    let set = Syscall::Prlimit { pid: 3, resource, new, old: Ptr::Valid };
    assert_eq!(scene.result(1, set), limit);
    assert_eq!(scene.result(2, get(0)), Ok(Ret::Limit(new)));
    assert_eq!(scene.result(1, get(3)), Ok(Ret::Limit(new)));
    scene.same_on_the_kernel();
}

fn chdir(path: &str) -> Syscall {
    Syscall::Chdir { path: path.into(), error: None }
}

fn cwd(scene: &mut Scene, tid: u32) -> String {
    match scene.result(tid, Syscall::Getcwd) {
        Ok(Ret::Path(path)) => path.to_string(),
        result => panic!("{result:?}"),
    }
}

#[test]
fn tg_19_a_thread_without_clone_fs_keeps_a_directory_and_a_umask_of_its_own() {
    let mut scene = process(2);
    scene.value(2, Syscall::Umask(0o27));
    assert_eq!(scene.value(2, Syscall::clone_call(THR & !clone::FS)), 4);
    scene.value(2, chdir("/proc"));
    scene.value(2, Syscall::Umask(0o77));
    assert_eq!((cwd(&mut scene, 3), cwd(&mut scene, 4)), ("/proc".into(), "/".into()));
    assert_eq!(scene.value(3, Syscall::Umask(0o70)), 0o77);
    assert_eq!(scene.value(4, Syscall::Umask(0)), 0o27);
    // a child has the attributes of its creator
    assert_eq!(scene.fork(4), 5);
    assert_eq!(cwd(&mut scene, 5), "/");
    scene.same_on_the_kernel();
}

#[test]
fn tg_20_unshare_separates_the_calling_thread_alone() {
    let mut scene = process(3);
    assert_eq!(scene.value(3, Syscall::Unshare(clone::FS | clone::FILES)), 0);
    scene.value(3, chdir("/proc"));
    let cwds = [2, 3, 4].map(|tid| cwd(&mut scene, tid));
    assert_eq!(cwds, ["/", "/proc", "/"]);
    scene.value(4, chdir("/dev"));
    let cwds = [2, 3, 4].map(|tid| cwd(&mut scene, tid));
    assert_eq!(cwds, ["/dev", "/proc", "/dev"]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_21_unshare_fails_for_attributes_that_threads_share() {
    let mut scene = process(2);
    let all = [clone::THREAD, clone::SIGHAND, clone::VM];
    for flags in all {
        for tid in [2, 3] {
            assert_eq!(scene.result(tid, Syscall::Unshare(flags)), Err(Errno::EINVAL));
        }
    }
    exit_thread(&mut scene, 3, 0);
    for flags in all {
        assert_eq!(scene.value(2, Syscall::Unshare(flags)), 0);
    }
    // two processes with one table of dispositions
    let partner = Syscall::clone_call(clone::VM | clone::SIGHAND | 17);
    assert_eq!(scene.value(2, partner), 4);
    let results = all.map(|flags| scene.result(4, Syscall::Unshare(flags)));
    assert_eq!(results, [Ok(Ret::Value(0)), Err(Errno::EINVAL), Err(Errno::EINVAL)]);
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_23_no_thread_escapes_the_end_of_its_process_or_an_exec() {
    for end in [Syscall::ExitGroup(5), Syscall::Execve { path: "./other".into(), error: None }] {
        let mut scene = process(3);
        let ended = matches!(end, Syscall::ExitGroup(_));
        // a thread that no other task has seen run
        let fx = race(&mut scene.kernel, &[(3, Syscall::clone_call(THR)), (4, end)]);
        let threads = |what| fx.list().iter().filter(move |effect| effect.what == what).count();
        assert_eq!(threads(Consequence::ThreadCreated), 1);
        assert!(scene.is_gone(5));
        if ended {
            assert_eq!(status(&scene), WaitStatus::exited(5));
        } else {
            assert_eq!(scene.kernel.tids(Pid(2)).count(), 1);
        }
    }
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_24_a_clone_with_a_pending_signal_is_made_once_after_the_handler() {
    let mut scene = catching(2, &[10]);
    let calls = [(1, tgkill(2, 3, Signal::USR1)), (3, Syscall::clone_call(THR))];
    let fx = race(&mut scene.kernel, &calls);
    // FORK-06
    assert!(fx.rules().contains(proctable::rule!("TG-24")));
    assert_eq!(caught(&fx), [(3, 10)]);
    assert!(scene.is_gone(4));
    let fx = race(&mut scene.kernel, &[(3, Syscall::RtSigreturn)]);
    let returned = fx.list().iter().find_map(|effect| match &effect.what {
        Consequence::Returned(result) if effect.pid == Pid(3) => Some(result.clone()),
        _ => None,
    });
    assert_eq!(returned, Some(Ok(Ret::Value(4))));
    assert_eq!(scene.kernel.tids(Pid(2)).count(), 3);
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_25_a_thread_is_created_after_a_stop_that_has_begun() {
    let mut kernel = process(3).kernel;
    let mut fx = Effects::new();
    kernel.call(Pid(1), &kill(2, Signal::STOP), &mut fx).expect("it kills");
    // the leader begins the stop, and thread 3 has not seen it
    kernel.apply(&proctable::kernel::Event::Step { tid: Pid(2) }, &mut fx).expect("it stops");
    let made = kernel.call(Pid(3), &Syscall::clone_call(THR), &mut fx);
    assert_eq!(made, Ok(Outcome::Blocked));
    kernel.settle(&mut Canonical, &mut fx);
    assert!((2..=4).all(|tid| kernel.view(Pid(tid)).is_some_and(|v| v.run == RunState::Stopped)));
    assert_eq!(kernel.tids(Pid(2)).count(), 3);
    reached::note(&fx);
    fx.clear();
    kernel.call(Pid(1), &kill(2, Signal::CONT), &mut fx).expect("it kills");
    kernel.settle(&mut Canonical, &mut fx);
    // JOB-15
    assert_eq!(kernel.tids(Pid(2)).count(), 4);
}

#[test]
fn tg_26_the_creator_of_a_thread_with_clone_vfork_sleeps_until_it_ends() {
    let mut scene = process(2);
    scene.call(2, Syscall::clone_call(THR | clone::VFORK));
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Vfork, RunState::User, RunState::User]);
    assert_eq!(scene.value(3, Syscall::Getpid), 2);
    assert_eq!(scene.fork(4), 5);
    exit_thread(&mut scene, 4, 0);
    assert_eq!(scene.returned(2), Some(Ok(Ret::Value(4))));
    scene.same_on_the_kernel();
}
