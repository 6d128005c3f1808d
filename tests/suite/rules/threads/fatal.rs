//! Signals that end a process with threads.

use proctable::abi::SigInfo;
use proctable::kernel::{Config, Property, Version};

use super::*;

#[test]
fn tg_70_a_fatal_signal_to_any_thread_ends_all_threads() {
    // THR-03, THR-04
    for fatal in [Signal::TERM, Signal::SEGV, Signal::KILL] {
        let mut scene = process(3);
        scene.limit(2, Resource::CORE, 0);
        send(&mut scene, 3, fatal);
        assert_eq!(status(&scene), killed(fatal));
        assert!(scene.is_gone(3) && scene.is_gone(4));
        scene.same_on_the_kernel();
    }
    let mut scene = process(3);
    for tid in [2, 3] {
        scene.block(tid, set(&[15]));
    }
    shared(&mut scene, 2, 15);
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_71_a_fatal_signal_that_its_thread_blocks_stays_pending() {
    let mut scene = process(3);
    for tid in [3, 4] {
        scene.block(tid, set(&[15]));
        send(&mut scene, tid, Signal::TERM);
    }
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
    exit_thread(&mut scene, 3, 0);
    assert_eq!(runs(&scene, &[2, 4]), [RunState::User; 2]);
    scene.unblock(4, set(&[15]));
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_72_a_fatal_signal_that_all_threads_block_acts_when_one_unblocks_it() {
    let mut scene = process(3);
    for tid in 2..=4 {
        scene.block(tid, set(&[15]));
    }
    shared(&mut scene, 2, 15);
    assert_eq!(scene.run(2), RunState::User);
    scene.unblock(4, set(&[15]));
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_73_of_two_fatal_signals_the_private_one_is_the_status() {
    for (private, shared_one) in [(2, 15), (15, 2)] {
        let mut scene = process(3);
        for tid in 2..=4 {
            scene.block(tid, set(&[2, 15]));
        }
        send(&mut scene, 4, signal(private));
        shared(&mut scene, 2, shared_one);
        scene.unblock(4, set(&[2, 15]));
        ended(&mut scene, killed(signal(private)));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_74_the_first_fatal_signal_acts_when_it_is_sent() {
    for signals in [[15, 2, 10], [12, 10, 15], [10, 12, 2]] {
        let mut scene = process(3);
        // TG-85: signals that are sent afterwards are dropped
        at_once(&mut scene, 2, &signals);
        ended(&mut scene, killed(signal(signals[0])));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_75_a_signal_that_dumps_core_decides_nothing_when_it_is_sent() {
    for (signals, counts) in [([3, 15], 15), ([15, 3], 15), ([3, 6], 3)] {
        let mut scene = process(3);
        scene.limit(2, Resource::CORE, 0);
        at_once(&mut scene, 2, &signals);
        ended(&mut scene, killed(signal(counts)));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_76_a_signal_that_dumps_core_waits_for_a_thread_in_vfork() {
    let mut scene = process(2);
    scene.limit(2, Resource::CORE, 0);
    scene.block(3, set(&[3]));
    scene.call(2, Syscall::Vfork);
    shared(&mut scene, 2, 3);
    assert_eq!(runs(&scene, &[2, 3]), [RunState::Vfork, RunState::User]);
    scene.exit(4, 0);
    ended(&mut scene, killed(Signal::QUIT));
    scene.same_on_the_kernel();
    for private in [false, true] {
        let mut scene = process(2);
        scene.block(3, set(&[3, 15]));
        scene.call(2, Syscall::Vfork);
        if private {
            send(&mut scene, 2, Signal::TERM);
        } else {
            shared(&mut scene, 2, 15);
        }
        ended(&mut scene, killed(Signal::TERM));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_77_one_thread_dumps_core_for_all_threads() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let name = format!("proctable-core-threads-{}", std::process::id());
    let directory = TestDirectory(std::env::temp_dir().join(name));
    std::fs::create_dir(&directory.0).unwrap();
    let there = directory.0.to_str().unwrap();
    for case in 0..5 {
        let mut scene = process(3);
        // the kernel shows by SIGCHLD as well which thread has the core flag
        scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
        scene.limit(2, Resource::CORE, 1 << 20);
        scene.value(2, Syscall::Chdir { path: there.into(), error: None });
        let (signal, core) = match case {
            0 => {
                send(&mut scene, 3, Signal::SEGV);
                (Signal::SEGV, true)
            }
            1 => {
                exit_thread(&mut scene, 2, 3);
                send(&mut scene, 3, Signal::SEGV);
                (Signal::SEGV, true)
            }
            2 => {
                scene.call(2, Syscall::Vfork);
                send(&mut scene, 3, Signal::SEGV);
                (Signal::SEGV, true)
            }
            3 => {
                at_once(&mut scene, 2, &[6, 3]);
                (Signal::QUIT, true)
            }
            _ => {
                at_once(&mut scene, 2, &[3, 15]);
                (Signal::TERM, false)
            }
        };
        ended(&mut scene, WaitStatus::killed(signal, core));
        if pattern.trim() == "core" {
            scene.same_on_the_kernel();
        } else {
            println!("SKIPPED on the live kernel: core_pattern is not `core`");
        }
    }
}

/// The status of a leader that the core dump of another thread has ended: it has no core flag.
#[test]
fn tg_77_only_the_thread_that_dumps_core_has_the_core_flag() {
    let segv = |core| WaitStatus::killed(Signal::SEGV, core);
    // 5.16 shows it in the zombie, 6.14 in the signal
    for (version, dumper, shown, reported) in [
        (Version::new(5, 16), 3, segv(false), segv(false)),
        (Version::new(5, 16), 2, segv(true), segv(true)),
        (Version::new(6, 14), 3, segv(true), segv(false)),
    ] {
        let mut scene = Scene::with(Config { version, ..Config::default() });
        begin(&mut scene, 2);
        scene.limit(2, Resource::CORE, 1 << 20);
        scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
        send(&mut scene, dumper, Signal::SEGV);
        let expected = SigInfo::child(Signal::CHLD, Pid(2), user(0), reported);
        assert_eq!(scene.handled(1), [expected]);
        assert_eq!(scene.kernel.shown_exit_status(Pid(2)), Some(shown));
        ended(&mut scene, segv(true));
    }
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_78_a_signal_that_is_sent_before_exit_group_is_made_counts() {
    let mut scene = process(2);
    let mut fx = Effects::new();
    scene.kernel.call(Pid(1), &kill(2, Signal::TERM), &mut fx).expect("it kills");
    let late = scene.kernel.call(Pid(3), &Syscall::ExitGroup(8), &mut fx);
    assert_eq!(late, Err(Refused::NotInUserMode(Pid(3))));
    scene.kernel.settle(&mut Canonical, &mut fx);
    assert_eq!(status(&scene), killed(Signal::TERM));
}

#[test]
fn tg_79_sigtimedwait_protects_if_the_signal_is_blocked() {
    let mut scene = process(3);
    for tid in 2..=4 {
        scene.block(tid, set(&[15]));
    }
    // SIG-53
    scene.call(3, sigwait(&[15]));
    shared(&mut scene, 2, 15);
    assert_eq!(taken(&scene, 3), Some(Ok(15)));
    scene.call(4, sigwait(&[9, 15]));
    shared(&mut scene, 2, 9);
    ended(&mut scene, killed(Signal::KILL));
    scene.same_on_the_kernel();
    let mut scene = process(2);
    scene.block(2, set(&[15]));
    scene.call(3, sigwait(&[15]));
    shared(&mut scene, 2, 15);
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_80_sigtimedwait_protects_if_its_thread_is_the_target_task() {
    let mut scene = process(2);
    scene.block(3, set(&[15]));
    scene.call(3, sigwait(&[15]));
    shared(&mut scene, 3, 15);
    assert_eq!(taken(&scene, 3), Some(Ok(15)));
    scene.call(3, sigwait(&[15]));
    shared(&mut scene, 2, 15);
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_81_a_thread_in_vfork_does_not_delay_the_end() {
    let ends = [
        (1, kill(2, Signal::KILL), killed(Signal::KILL)),
        (1, kill(2, Signal::TERM), killed(Signal::TERM)),
        (3, Syscall::ExitGroup(4), WaitStatus::exited(4)),
    ];
    for (caller, end, status) in ends {
        let mut scene = process(2);
        scene.call(2, Syscall::Vfork);
        scene.call(caller, end);
        ended(&mut scene, status);
        assert_eq!((scene.run(4), scene.view(4).ppid), (RunState::User, Pid(1)));
        scene.exit(4, 1);
        assert_eq!(scene.wait(1, NONE), waited(4, WaitStatus::exited(1)));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_82_the_other_threads_take_signals_that_a_dead_leader_does_not() {
    let mut scene = catching(3, &[10]);
    exit_thread(&mut scene, 2, 3);
    shared(&mut scene, 2, 10);
    // THR-10
    assert_eq!(handled(&scene), [(3, 10)]);
    for tid in [3, 4] {
        scene.block(tid, set(&[15]));
    }
    shared(&mut scene, 2, 15);
    assert_eq!(scene.view(3).shared, set(&[15]));
    scene.unblock(4, set(&[15]));
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
    for fatal in [9, 15] {
        let mut scene = process(2);
        exit_thread(&mut scene, 2, 3);
        shared(&mut scene, 2, fatal);
        ended(&mut scene, killed(signal(fatal)));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_83_a_signal_for_a_dead_leader_alone_does_nothing() {
    let mut scene = catching(2, &[10]);
    exit_thread(&mut scene, 2, 3);
    // THR-11
    for fatal in [Signal::KILL, Signal::TERM, Signal::STOP, Signal::USR1] {
        send(&mut scene, 2, fatal);
        assert_eq!((scene.run(3), handled(&scene)), (RunState::User, vec![]));
    }
    assert_eq!(scene.result(1, queue_to(2, 2, 40, -1)), Ok(Ret::Value(0)));
    assert_eq!(scene.run(3), RunState::User);
    scene.call(1, queue(2, Signal::USR1, -1, 0));
    assert_eq!(handled(&scene), [(3, 10)]);
    scene.same_on_the_kernel();
}

/// KILL-24: the property decides whether the other thread drops the signal or ends the init.
#[test]
fn kill_24_an_init_with_a_thread_that_does_not_block_the_signal() {
    let property = Property::InitIsSpared;
    for spared in [true, false] {
        let version = Version::NEWEST.with(property, spared);
        let config = Config { version, ..Config::default() };
        let mut scene = Scene::with(config).depends_on(property);
        assert_eq!(scene.value(1, Syscall::clone_call(THR)), 2);
        scene.block(1, set(&[15]));
        scene.call(2, kill(1, Signal::TERM));
        let status = scene.kernel.exit_status(Pid(1));
        assert_eq!(status, (!spared).then_some(killed(Signal::TERM)));
        assert!(!spared || scene.view(1).shared.is_empty());
        scene.same_on_the_kernel();
    }
}
