//! Rules that random programs reach rarely or not at all: each test has the name of its rule. Most
//! tests are scenes with expected results on the model, which the live kernel then has to repeat.
//!
//! Long because the scenarios are in the order of the rules of docs/SEMANTICS.md.

use proctable::abi::{
    DefaultAction, Errno, Handler, IdType, Itimerval, Pgid, Pid, Resource, Rlimit, SaFlags, SiCode,
    SigAction, SigSet, Signal, Time, Timeval, WaitOptions, WaitStatus,
};
use proctable::diff::{Start, replay};
use proctable::host::probe;
use proctable::kernel::{
    Canonical, Config, Consequence, Effects, Event, Kernel, Property, RunState, Version,
};
use proctable::syscall::{Prctl, Ptr, Ret, SIGSET_SIZE, Syscall, clone};

use super::scene::*;

mod races;
mod terminals;
mod threads;

const RT: i32 = 40;
const MS: u64 = 1_000_000;

// ------------------------------------------------------------------ PID

#[test]
fn pid_06_the_largest_number_is_at_least_300() {
    let Ok(mode) = probe() else { return println!("SKIPPED: no live kernel") };
    for (pid_max, allowed) in [(300, false), (301, true), (4_194_304, true), (4_194_305, false)] {
        let exe = env!("CARGO_BIN_EXE_proctable").into();
        let start = Start { pid_max: Some(pid_max), ..Start::default() };
        match replay(exe, mode, "1 getpid() = 1\n".into(), start) {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                return println!("SKIPPED: {error}");
            }
            run => assert_eq!(run.is_ok(), allowed, "{pid_max}"),
        }
    }
}

#[test]
fn pid_07_each_namespace_has_its_own_maximum() {
    for (pid_max, second) in [(302, 300), (4_194_304, 302)] {
        let mut scene = Scene::with(Config { pid_max, last_pid: 300, ..Config::default() });
        assert_eq!((scene.fork(1), scene.kernel.len()), (301, 2));
        assert_eq!(scene.fork(1), second);
        scene.same_on_the_kernel();
    }
}

#[test]
fn pid_12_numbers_continue_after_the_given_one() {
    for (last_pid, next) in [(5, 6), (299, 300), (999, 300)] {
        let mut scene = Scene::with(Config { pid_max: 1000, last_pid, ..Config::default() });
        assert_eq!(scene.fork(1), next);
        scene.same_on_the_kernel();
    }
}

#[test]
fn pid_08_a_group_and_a_session_keep_their_number() {
    let config = Config { pid_max: 302, last_pid: 299, ..Config::default() };
    let mut scene = Scene::with(config);
    assert_eq!(scene.fork(1), 300);
    assert_eq!(scene.value(300, Syscall::Setsid), 300);
    assert_eq!(scene.fork(300), 301);
    scene.exit(300, 0);
    assert_eq!(scene.wait(1, NONE), waited(300, WaitStatus::exited(0)));
    // 301 is in the session and the group 300: no number is left (PID-05)
    assert_eq!(scene.result(1, Syscall::Fork), Err(Errno::EAGAIN));
    scene.exit(301, 0);
    assert_eq!(scene.wait(1, NONE), waited(301, WaitStatus::exited(0)));
    assert_eq!(scene.fork(1), 300); // GRP-23
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ FORK, EXEC

#[test]
fn fork_12_a_child_of_a_leader_may_lead_a_session_of_its_own() {
    let mut scene = Scene::new();
    scene.fork(1);
    assert_eq!(scene.value(2, Syscall::Setsid), 2);
    assert_eq!(scene.fork(2), 3);
    assert_eq!(scene.view(3).sid.0, 2);
    assert_eq!(scene.value(3, Syscall::Setsid), 3); // GRP-21
    scene.same_on_the_kernel();
}

#[test]
fn fork_13_limits_are_inherited_and_kept_by_exec() {
    let mut scene = Scene::new();
    let limit = Rlimit { soft: 100, hard: 200 };
    let set =
        Syscall::Prlimit { pid: 0, resource: Resource::CORE, new: Some(limit), old: Ptr::Null };
    let get = Syscall::Prlimit { pid: 0, resource: Resource::CORE, new: None, old: Ptr::Valid };
    scene.value(1, set);
    scene.fork(1);
    assert_eq!(scene.result(2, get.clone()), Ok(Ret::Limit(Some(limit))));
    assert_eq!(scene.exec(2), Ok(Ret::Value(0)));
    assert_eq!(scene.result(2, get), Ok(Ret::Limit(Some(limit)))); // LIM-14
    scene.same_on_the_kernel();
}

#[test]
fn fork_17_the_member_that_joined_last_comes_first() {
    let mut scene = Scene::new();
    for pid in [2, 3, 4] {
        scene.fork(1);
        scene.block(pid, set(&[10]));
    }
    for pid in [3, 2, 4] {
        scene.setpgid(1, pid, 3);
    }
    scene.kill(1, -3, Signal::USR1);
    assert_eq!(generated(&scene), [4, 2, 3]);
    scene.kill(1, -1, Signal::USR2);
    assert_eq!(generated(&scene), [2, 3, 4]); // KILL-13: all, in the order of creation
    scene.same_on_the_kernel();
}

fn generated(scene: &Scene) -> Vec<u32> {
    let effects = scene.reaction().effects.list().iter();
    let targets = effects.filter_map(|effect| match effect.what {
        Consequence::Generated(info) if info.signal != Signal::CHLD => Some(effect.pid.0),
        _ => None,
    });
    targets.collect()
}

#[test]
fn exec_09_a_sibling_has_the_exec_count_of_its_creator() {
    let mut scene = Scene::new();
    let flags = u64::from(Signal::USR1.number());
    assert_eq!(scene.value(1, Syscall::clone_call(flags)), 2);
    assert_eq!(scene.exec(1), Ok(Ret::Value(0)));
    scene.block(1, set(&[10, 17]));
    assert_eq!(scene.value(2, Syscall::clone_call(clone::PARENT)), 3);
    scene.exit(3, 0);
    assert_eq!(scene.view(1).shared, set(&[17]));
    scene.same_on_the_kernel();
}

#[test]
fn exec_15_subreaper_and_session_leader_stay() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.value(2, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    assert_eq!(scene.value(2, Syscall::Setsid), 2);
    assert_eq!(scene.exec(2), Ok(Ret::Value(0)));
    let get = Syscall::Prctl(Prctl::GetChildSubreaper(Ptr::Valid));
    assert_eq!(scene.result(2, get), Ok(Ret::Stored(1)));
    assert_eq!(scene.result(2, Syscall::Setsid), Err(Errno::EPERM));
    scene.same_on_the_kernel();
}

#[test]
fn cred_01_exec_makes_the_effective_user_the_saved_one() {
    let (base, mut scene) = (own_user(0), Scene::new());
    scene.fork(1);
    scene.value(2, Syscall::Prctl(Prctl::SetPdeathsig(10)));
    scene.set_users(2, [0, base, 0]);
    scene.value(2, Syscall::Prctl(Prctl::SetPdeathsig(10)));
    assert_eq!(scene.exec(2), Ok(Ret::Value(0)));
    let [real, both] = [user(0), user(base)];
    assert_eq!(scene.result(2, Syscall::Getresuid), Ok(Ret::Users([real, both, both])));
    // EXEC-14: as after a set-user-ID program
    let get = Syscall::Prctl(Prctl::GetPdeathsig(Ptr::Valid));
    assert_eq!(scene.result(2, get), Ok(Ret::Stored(0)));
    assert_eq!(scene.value(2, Syscall::Prctl(Prctl::GetDumpable)), 0);
    scene.same_on_the_kernel();
}

/// The exit signal of a sibling is that of the process that creates it, here SIGUSR1.
#[test]
fn fork_21_clone_parent_creates_a_sibling_with_the_exit_signal_of_the_caller() {
    let mut scene = Scene::new();
    scene.catch(1, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    let child = scene.value(1, Syscall::clone_call(Signal::USR1.number().into())) as u32;
    let sibling = scene.value(child, Syscall::clone_call(clone::PARENT)) as u32;
    assert!(scene.follows("FORK-21"));
    assert_eq!(scene.value(sibling, Syscall::Getppid), 1);
    scene.exit(sibling, 0);
    assert_eq!(scene.handled_numbers(1), [Signal::USR1.number()]);
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ EXIT, ZOM

/// A directory that is removed at the end of the test, also if the test fails.
struct TestDirectory(std::path::PathBuf);

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // the directory may be removed already
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn exit_05_a_core_needs_a_page_a_dumpable_process_and_a_directory() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let name = format!("proctable-core-{}", std::process::id());
    let directory = TestDirectory(std::env::temp_dir().join(name));
    std::fs::create_dir(&directory.0).unwrap();
    let there = directory.0.to_str().unwrap();
    let mut scene = Scene::new();
    for (size, dumpable, cwd, core) in [
        (100, true, there, false),
        (4096, true, there, true),
        (4096, false, there, false),
        (4096, true, "/proc", false),
    ] {
        let child = scene.fork(1);
        scene.limit(child, Resource::CORE, size); // LIM-16
        scene.value(child, Syscall::Prctl(Prctl::SetDumpable(dumpable.into())));
        scene.value(child, Syscall::Chdir { path: cwd.into(), error: None });
        scene.kill(1, child as i32, Signal::QUIT);
        let status = WaitStatus::killed(Signal::QUIT, core);
        assert_eq!(scene.wait(1, NONE), waited(child, status), "{size} {dumpable} {cwd}");
    }
    if pattern.trim() == "core" {
        scene.same_on_the_kernel();
    } else {
        println!("SKIPPED on the live kernel: core_pattern is not `core`");
    }
}

#[test]
fn exit_14_the_timer_of_a_dead_process_is_gone() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.value(2, Syscall::Alarm(100));
    assert!(scene.kernel.next_deadline().is_some());
    scene.exit(2, 0);
    assert_eq!(scene.kernel.next_deadline(), None);
}

#[test]
fn zom_11_zombies_count_against_the_limit_of_tasks() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.limit(2, Resource::NPROC, 2);
    scene.set_users(2, users(own_user(10)));
    assert_eq!(scene.fork(2), 3);
    assert_eq!(scene.result(2, Syscall::Fork), Err(Errno::EAGAIN)); // LIM-01
    scene.exit(3, 0);
    assert_eq!(scene.result(2, Syscall::Fork), Err(Errno::EAGAIN));
    assert_eq!(scene.wait(2, NONE), waited(3, WaitStatus::exited(0)));
    assert_eq!(scene.fork(2), 4); // LIM-03; PID-16: the refused forks took no number
    scene.same_on_the_kernel();
}

#[test]
fn zom_05_zombies_stay_when_the_parent_ignores_sigchld_afterwards() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.exit(2, 7);
    scene.action(1, Signal::CHLD, SigAction::IGNORE);
    assert_eq!(scene.run(2), RunState::Zombie);
    assert_eq!(scene.wait(1, NONE), waited(2, WaitStatus::exited(7)));
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ WAIT

#[test]
fn wait_12_a_bad_siginfo_pointer_is_efault_before_any_other_error() {
    let mut scene = Scene::new();
    let bad = |options| Syscall::Waitid { idtype: IdType::ALL, id: 0, info: Ptr::Bad, options };
    assert_eq!(scene.result(1, bad(WaitOptions::EXITED)), Err(Errno::EFAULT)); // not ECHILD
    assert_eq!(scene.result(1, bad(NONE)), Err(Errno::EFAULT)); // not EINVAL
    let wait4 = Syscall::Wait4 { pid: -1, status: Ptr::Bad, options: NONE };
    assert_eq!(scene.result(1, wait4), Err(Errno::ECHILD));
    // the wait is not restarted either
    scene.fork(1);
    scene.catch(1, Signal::USR1, SaFlags::RESTART, SigSet::EMPTY);
    scene.call(1, bad(WaitOptions::EXITED));
    assert_eq!(scene.run(1), RunState::Blocked);
    scene.kill(2, 1, Signal::USR1);
    assert_eq!(scene.returned(1), Some(Err(Errno::EFAULT)));
    scene.same_on_the_kernel();
}

#[test]
fn wait_19_a_wait_for_a_group_sleeps_on_when_the_child_leaves_the_group() {
    let mut scene = Scene::new();
    scene.catch(1, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    for pid in [2, 3] {
        scene.fork(1);
        scene.setpgid(1, pid, pid);
    }
    scene.call(1, wait_for(-2, NONE));
    scene.setpgid(2, 0, 3);
    scene.exit(2, 0);
    assert_eq!(scene.run(1), RunState::Blocked);
    scene.kill(3, 1, Signal::USR1);
    assert!(scene.follows("WAIT-19"));
    assert_eq!(scene.returned(1), Some(Err(Errno::ECHILD)));
    scene.same_on_the_kernel();
}

#[test]
fn wait_48_a_wait_keeps_the_group_that_had_the_number() {
    let mut scene = Scene::with(Config { pid_max: 303, last_pid: 299, ..Config::default() });
    scene.action(1, Signal::CHLD, SigAction::IGNORE);
    scene.catch(1, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    for (pid, pgid) in [(300, 300), (301, 300), (302, 302)] {
        assert_eq!(scene.fork(1), pid as u32);
        scene.setpgid(1, pid, pgid);
    }
    scene.call(1, wait_for(-300, NONE));
    // group 300 loses its members, and the number loses its process
    scene.setpgid(300, 0, 302);
    scene.exit(300, 0);
    scene.setpgid(301, 0, 302);
    // another child of process 1 gets the number, and a group of its own
    assert_eq!(scene.value(302, Syscall::clone_call(clone::PARENT)), 300);
    scene.setpgid(300, 0, 0);
    scene.exit(300, 0);
    assert!(scene.follows("WAIT-48"));
    assert_eq!(scene.run(1), RunState::Blocked);
    scene.kill(302, 1, Signal::USR1);
    assert_eq!(scene.returned(1), Some(Err(Errno::ECHILD)));
    scene.same_on_the_kernel();
}

#[test]
fn wait_26_there_is_one_event_at_a_time() {
    let mut scene = Scene::new();
    let both = WaitOptions::STOPPED.with(WaitOptions::CONTINUED).with(WaitOptions::NOHANG);
    scene.fork(1);
    for signal in [Signal::STOP, Signal::CONT] {
        scene.kill(1, 2, signal);
    }
    assert_eq!(scene.wait(1, both), waited(2, WaitStatus::CONTINUED));
    for signal in [Signal::STOP, Signal::CONT, Signal::STOP] {
        scene.kill(1, 2, signal);
    }
    assert_eq!(scene.wait(1, both), waited(2, WaitStatus::stopped(Signal::STOP)));
    assert_eq!(scene.wait(1, both), Ok(Ret::Waited { pid: Pid(0), status: None }));
    scene.same_on_the_kernel();
}

#[test]
fn wait_29_the_status_names_the_signal() {
    let mut scene = Scene::new();
    let child = scene.fork(1);
    scene.kill(1, child as i32, Signal::STOP);
    assert!(scene.follows("WAIT-29")); // in the last step: the child has stopped
    let stopped = WaitStatus::stopped(Signal::STOP);
    assert_eq!(scene.wait(1, WaitOptions::STOPPED), waited(child, stopped));
    scene.same_on_the_kernel();
}

#[test]
fn wait_30_the_oldest_child_wins() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.fork(1);
    }
    scene.exit(4, 4);
    scene.exit(3, 3);
    scene.kill(1, 2, Signal::STOP);
    // WAIT-31: the order does not depend on the event
    let stopped = WaitStatus::stopped(Signal::STOP);
    assert_eq!(scene.wait(1, WaitOptions::STOPPED), waited(2, stopped));
    assert_eq!(scene.wait(1, NONE), waited(3, WaitStatus::exited(3)));
    assert_eq!(scene.wait(1, NONE), waited(4, WaitStatus::exited(4)));
    scene.same_on_the_kernel();
}

#[test]
fn wait_34_a_stop_without_wuntraced_does_not_end_the_wait() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.kill(1, 2, Signal::STOP);
    let nothing = Ok(Ret::Waited { pid: Pid(0), status: None });
    let continued = WaitOptions::CONTINUED.with(WaitOptions::NOHANG);
    assert_eq!(scene.result(1, wait_for(2, continued)), nothing);
    assert!(scene.follows("WAIT-34"));
    scene.call(1, wait_for(2, NONE));
    assert_eq!(scene.run(1), RunState::Blocked);
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel this is a race.
#[test]
fn wait_38_a_continue_can_be_waited_for_before_sigchld() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    scene.kill(1, 2, Signal::STOP);
    let (mut kernel, mut fx) = (scene.kernel, Effects::new());
    kernel.call(Pid(1), &kill(2, Signal::CONT), &mut fx).expect("it kills");
    assert!(kernel.view(Pid(1)).is_some_and(|view| view.shared.is_empty()));
    let options = WaitOptions::CONTINUED.with(WaitOptions::NOHANG);
    let result = kernel.call(Pid(1), &wait_for(-1, options), &mut fx);
    let expected = waited(2, WaitStatus::CONTINUED);
    assert_eq!(result, Ok(proctable::kernel::Outcome::Returned(expected)));
    fx.clear();
    kernel.settle(&mut Canonical, &mut fx);
    reached::note(&fx);
    assert_eq!(kernel.handler(Pid(1)).map(|info| info.code), Some(SiCode::CLD_CONTINUED));
}

#[test]
fn wait_41_a_handler_interrupts_a_wait_or_restarts_it() {
    for (flags, result) in [(SaFlags(0), Some(Err(Errno::EINTR))), (SaFlags::RESTART, None)] {
        let mut scene = Scene::new();
        scene.fork(1);
        scene.catch(1, Signal::USR1, flags, SigSet::EMPTY);
        scene.call(1, wait_for(-1, NONE));
        scene.kill(2, 1, Signal::USR1);
        assert_eq!((scene.handled_numbers(1), scene.returned(1)), (vec![10], result));
        scene.same_on_the_kernel();
    }
}

#[test]
fn wait_43_another_childs_sigchld_interrupts() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.fork(1);
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    scene.call(1, wait_for(2, NONE));
    scene.exit(3, 0);
    assert_eq!(scene.returned(1), Some(Err(Errno::EINTR)));
    // WAIT-42: SIGCHLD of the child that is waited for does not
    scene.call(1, wait_for(2, NONE));
    scene.exit(2, 0);
    assert_eq!(scene.returned(1), Some(waited(2, WaitStatus::exited(0))));
    assert_eq!(scene.handled_numbers(1), [17]);
    scene.same_on_the_kernel();
}

#[test]
fn wait_42_a_process_that_is_killed_in_wait_still_reaps_a_child_that_ended_before() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.setpgid(1, 2, 2);
    scene.fork(2);
    scene.call(2, wait_for(-1, NONE));
    // process 3 joined the group last, so it is killed first, and has ended when 2 runs
    scene.kill(1, -2, Signal::KILL);
    assert!(scene.is_gone(3));
    assert_eq!(scene.run(2), RunState::Zombie);
    scene.same_on_the_kernel();
}

#[test]
fn wait_45_the_pending_sigchld_of_a_reaped_child_stays() {
    let mut scene = Scene::new();
    scene.block(1, set(&[17]));
    scene.fork(1);
    scene.exit(2, 0);
    assert_eq!(scene.wait(1, NONE), waited(2, WaitStatus::exited(0)));
    assert_eq!(scene.view(1).shared, set(&[17]));
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ GRP, ORP

#[test]
fn rpt_15_a_parent_that_may_not_kill_sends_no_death_signal() {
    let base = own_user(70);
    let mut scene = Scene::new();
    scene.fork(1);
    for child in [3, 4] {
        scene.fork(2);
        scene.block(child, set(&[10]));
    }
    for (pid, user) in [(2, base), (3, base), (4, base + 1)] {
        scene.set_users(pid, users(user));
    }
    for child in [3, 4] {
        scene.value(child, Syscall::Prctl(Prctl::SetPdeathsig(10)));
    }
    scene.exit(2, 0);
    assert_eq!((scene.view(3).shared, scene.view(4).shared), (set(&[10]), SigSet::EMPTY));
    scene.same_on_the_kernel();
}

#[test]
fn grp_12_a_group_that_has_outlived_its_leader_can_be_joined() {
    let mut scene = Scene::new();
    for pid in [2, 3, 4] {
        scene.fork(1);
        scene.setpgid(1, pid, if pid == 4 { 4 } else { 2 });
    }
    scene.exit(2, 0);
    assert_eq!(scene.wait(1, NONE), waited(2, WaitStatus::exited(0)));
    scene.setpgid(4, 0, 2);
    assert_eq!(scene.view(4).pgid, Pgid(2));
    scene.exit(3, 0);
    scene.exit(4, 0);
    // ZOM-10: zombies keep the group
    scene.value(1, Syscall::Kill { pid: -2, sig: 0 });
    scene.same_on_the_kernel();
}

#[test]
fn grp_19_setsid_works_when_the_group_with_the_caller_s_number_is_gone() {
    let mut scene = Scene::new();
    for pid in [2, 3] {
        scene.fork(1);
        scene.setpgid(1, pid, pid);
    }
    assert_eq!(scene.fork(2), 4);
    scene.setpgid(2, 0, 3);
    assert_eq!(scene.result(2, Syscall::Setsid), Err(Errno::EPERM)); // GRP-18
    scene.exit(4, 0);
    assert_eq!(scene.result(2, Syscall::Setsid), Err(Errno::EPERM));
    assert_eq!(scene.wait(2, NONE), waited(4, WaitStatus::exited(0)));
    assert_eq!(scene.value(2, Syscall::Setsid), 2);
    scene.same_on_the_kernel();
}

/// The shell, process 2, leads a session; 3 is its child in a group of its own, and 4 is a child of
/// 3.
fn session() -> Scene {
    let mut scene = Scene::new();
    scene.fork(1);
    assert_eq!(scene.value(2, Syscall::Setsid), 2);
    assert_eq!(scene.fork(2), 3);
    scene.setpgid(2, 3, 3);
    assert_eq!(scene.fork(3), 4);
    scene
}

#[test]
fn orp_02_a_namespace_init_is_a_link_and_the_global_init_is_not() {
    for global_init in [false, true] {
        let mut scene = Scene::with(Config { global_init, ..Config::default() });
        scene.fork(1);
        scene.setpgid(1, 2, 2);
        scene.kill(1, 2, Signal::TSTP);
        assert_eq!(scene.run(2), if global_init { RunState::User } else { RunState::Stopped });
        if !global_init {
            scene.same_on_the_kernel();
        }
    }
}

#[test]
fn orp_03_the_group_of_a_session_leader_is_orphaned() {
    let mut scene = session();
    scene.kill(1, 2, Signal::TSTP);
    assert!(scene.follows("ORP-04"));
    assert_eq!(scene.run(2), RunState::User);
    scene.kill(1, 2, Signal::STOP); // ORP-05
    assert_eq!(scene.run(2), RunState::Stopped);
    scene.same_on_the_kernel();
}

#[test]
fn orp_07_the_end_of_a_parent_in_the_session_sends_sighup_to_the_stopped_job() {
    let mut scene = session();
    scene.setpgid(4, 0, 0);
    assert_eq!(scene.fork(4), 5);
    for signal in [Signal::HUP, Signal::CONT] {
        scene.catch(5, signal, SaFlags(0), SigSet::EMPTY);
    }
    scene.kill(1, 4, Signal::TSTP);
    scene.exit(3, 0);
    assert!(scene.follows("ORP-07"));
    // ORP-09: all members get the signals, stopped or not; ORP-11
    assert_eq!(scene.kernel.exit_status(Pid(4)), Some(killed(Signal::HUP)));
    let handled: Vec<_> = scene.handled(5).iter().map(|i| (i.signal.number(), i.code)).collect();
    assert_eq!(handled, [(18, SiCode::KERNEL), (1, SiCode::KERNEL)]);
    scene.same_on_the_kernel();
}

#[test]
fn orp_08_the_end_of_the_last_link_sends_sighup_to_the_rest_of_its_group() {
    let mut scene = session();
    scene.kill(1, 4, Signal::TSTP);
    scene.kill(1, 3, Signal::KILL);
    // the parent of 3, which is in the group of 4, was the shell
    assert!(scene.follows("ORP-08"));
    assert_eq!(scene.kernel.exit_status(Pid(4)), Some(killed(Signal::HUP)));
    scene.same_on_the_kernel();
}

#[test]
fn orp_13_a_subreaper_in_the_session_keeps_the_group_until_it_exits() {
    let mut scene = session();
    scene.value(2, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    scene.setpgid(4, 0, 0);
    scene.kill(1, 4, Signal::TSTP);
    scene.exit(3, 0);
    assert!(scene.follows("ORP-13"));
    assert_eq!((scene.run(4), scene.view(4).ppid), (RunState::Stopped, Pid(2)));
    scene.exit(2, 0);
    assert!(scene.follows("ORP-09"));
    assert_eq!(scene.kernel.exit_status(Pid(4)), Some(killed(Signal::HUP)));
    scene.same_on_the_kernel();
}

#[test]
fn orp_14_a_subreaper_in_the_stopped_childs_group_orphans_it() {
    let mut scene = session();
    scene.value(2, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    for signal in [Signal::HUP, Signal::CONT] {
        scene.catch(2, signal, SaFlags(0), SigSet::EMPTY);
    }
    scene.setpgid(4, 0, 2);
    scene.kill(1, 4, Signal::STOP);
    scene.exit(3, 0);
    assert!(scene.follows("ORP-14"));
    assert_eq!(scene.handled_numbers(2), [18, 1]); // SIG-40
    assert_eq!(scene.kernel.exit_status(Pid(4)), Some(killed(Signal::HUP)));
    scene.same_on_the_kernel();
}

#[test]
fn orp_15_a_zombie_is_no_link() {
    let mut scene = session();
    scene.kill(1, 4, Signal::TSTP);
    assert_eq!(scene.run(4), RunState::Stopped); // 3 is the link to the shell (ORP-16)
    scene.kill(1, 4, Signal::CONT);
    scene.exit(3, 0);
    assert_eq!((scene.run(3), scene.view(4).pgid), (RunState::Zombie, Pgid(3)));
    scene.kill(1, 4, Signal::TSTP);
    assert!(scene.follows("ORP-04"));
    assert_eq!(scene.run(4), RunState::User);
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ KILL

#[test]
fn kill_16_real_or_effective_against_real_or_saved() {
    let base = own_user(20);
    let mut scene = Scene::new();
    let place = |nth: usize, others: u32| {
        let mut ids = [others, others + 1, others + 2];
        if let Some(id) = ids.get_mut(nth) {
            *id = base;
        }
        ids
    };
    for nth in 0..4 {
        let (sender, target) = (scene.fork(1), scene.fork(1));
        scene.set_users(sender, place(nth, base + 1));
        scene.set_users(target, place(nth, base + 4));
    }
    for sender in 0..4 {
        for target in 0..4 {
            let call = Syscall::Kill { pid: 3 + 2 * target, sig: Signal::WINCH.number().into() };
            let allowed = [0, 1].contains(&sender) && [0, 2].contains(&target);
            let expected = if allowed { Ok(Ret::Value(0)) } else { Err(Errno::EPERM) };
            assert_eq!(scene.result(2 + 2 * sender as u32, call), expected, "{sender} {target}");
        }
    }
    scene.same_on_the_kernel();
}

#[test]
fn kill_23_an_init_ends_itself_only_with_the_code_of_the_kernel() {
    let mut scene = Scene::new();
    scene.fork(1);
    for signal in [Signal::KILL, Signal::STOP, Signal::TERM] {
        scene.kill(1, 1, signal);
        scene.kill(2, 1, signal); // KILL-21
        assert_eq!(scene.run(1), RunState::User);
    }
    let code = SiCode::KERNEL.0;
    scene.call(1, queue(1, Signal::STOP, code, 0));
    assert_eq!(scene.run(1), RunState::Stopped);
    scene.kill(2, 1, Signal::CONT);
    assert_eq!(scene.run(1), RunState::User);
    scene.call(1, queue(1, Signal::TERM, code, 0));
    assert_eq!(scene.run(1), RunState::User);
    scene.call(1, queue(1, Signal::KILL, code, 0));
    assert_eq!(scene.kernel.exit_status(Pid(1)), Some(killed(Signal::KILL)));
    assert!(scene.is_gone(2)); // NS-08
    scene.same_on_the_kernel();
}

fn fault(kernel: &mut Kernel, pid: u32, signal: Signal) -> Effects {
    let mut fx = Effects::new();
    kernel.apply(&Event::Fault { tid: Pid(pid), signal }, &mut fx).expect("it runs");
    kernel.settle(&mut Canonical, &mut fx);
    reached::note(&fx);
    fx
}

/// On the model only: an agent of the live kernel raises no faults.
#[test]
fn kill_25_a_fault_kills_an_init_and_a_signal_does_not() {
    let mut scene = Scene::new();
    scene.kill(1, 1, Signal::SEGV);
    assert_eq!(scene.run(1), RunState::User);
    // an init that does not block or ignore the fault is not spared
    scene.action(1, Signal::SEGV, SigAction::IGNORE);
    scene.block(1, set(&[11]));
    fault(&mut scene.kernel, 1, Signal::SEGV);
    let status = scene.kernel.exit_status(Pid(1)).expect("it is dead");
    assert_eq!(status.term_signal(), Some(Signal::SEGV));
}

#[test]
fn sig_34_a_fault_is_private_and_fatal_where_it_is_blocked() {
    let mut scene = Scene::new().hold_handlers();
    scene.fork(1);
    for number in [4, 10] {
        scene.catch(2, signal(number), SaFlags(0), SigSet::FULL);
    }
    scene.kill(1, 2, Signal::STOP);
    scene.kill(1, 2, Signal::USR1);
    scene.kill(1, 2, Signal::CONT);
    assert_eq!(scene.handled_numbers(2), [10]);
    let fx = fault(&mut scene.kernel, 2, Signal::ILL);
    // the handler that runs blocks the signal, so it is fatal
    assert_eq!(scene.run(2), RunState::Zombie);
    assert!(fx.rules().contains(proctable::rule!("SIG-34")));
}

/// On the model only, like the next test: a separate program has shown it on the kernel. Processes
/// that share the dispositions see that only the handler is reset.
#[test]
fn sig_34_a_blocked_fault_resets_only_the_handler() {
    let mut scene = Scene::new();
    scene.fork(1);
    let (flags, mask) = (SaFlags::NODEFER.with(SaFlags::RESTART), set(&[10, 12]));
    scene.catch(2, Signal::SEGV, flags, mask);
    let clone = Syscall::clone_call(clone::VM | clone::SIGHAND | 17);
    let child = scene.value(2, clone) as u32;
    scene.block(child, set(&[11]));
    fault(&mut scene.kernel, child, Signal::SEGV);
    let action = Syscall::RtSigaction { sig: 11, act: None, old: Ptr::Valid, size: SIGSET_SIZE };
    let Ok(Ret::Action(Some(old))) = scene.result(2, action) else { panic!("no action") };
    assert_eq!(old.handler, Handler::Default);
    assert!(old.flags.contains(SaFlags::NODEFER) && old.mask == mask);
}

/// On the model only: an agent never returns from a handler that it is not in.
#[test]
fn sig_47_a_return_from_no_handler_is_a_fault() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.call(2, Syscall::RtSigreturn);
    let status = scene.kernel.exit_status(Pid(2)).expect("it is dead");
    assert_eq!(status.term_signal(), Some(Signal::SEGV));
}

// ------------------------------------------------------------------ SIG

/// SIG-01 to SIG-04: one child per signal.
#[test]
fn sig_01_default_actions_of_all_signals() {
    let mut scene = Scene::new();
    scene.limit(1, Resource::CORE, 0);
    for signal in Signal::all() {
        let child = scene.fork(1);
        // the group of the child is not orphaned: the init is in another group
        scene.setpgid(1, child as i32, 0);
        scene.kill(1, child as i32, signal);
        match signal.default_action() {
            DefaultAction::Terminate | DefaultAction::Core => {
                let status = scene.kernel.exit_status(Pid(child));
                assert_eq!(status, Some(killed(signal)), "{signal}");
            }
            DefaultAction::Stop => assert_eq!(scene.run(child), RunState::Stopped, "{signal}"),
            DefaultAction::Ignore => assert_eq!(scene.run(child), RunState::User, "{signal}"),
        }
        scene.kill(1, child as i32, Signal::KILL);
        scene.call(1, wait_for(-1, NONE));
        assert!(scene.is_gone(child));
    }
    scene.same_on_the_kernel();
}

#[test]
fn sig_02_signals_with_a_core_are_these() {
    let with = |action| -> Vec<u8> {
        Signal::all().filter(|s| s.default_action() == action).map(Signal::number).collect()
    };
    assert_eq!(with(DefaultAction::Core), [3, 4, 5, 6, 7, 8, 11, 24, 25, 31]);
    assert_eq!(with(DefaultAction::Stop), [19, 20, 21, 22]); // SIG-03
    assert_eq!(with(DefaultAction::Ignore), [17, 18, 23, 28]); // SIG-04
    assert_eq!(with(DefaultAction::Terminate).len(), 64 - 18);
}

#[test]
fn sig_05_signals_32_and_33_are_real_time_signals_like_others() {
    let mut scene = Scene::new();
    for number in [32, 33, 64] {
        scene.block(1, set(&[number]));
        scene.catch(1, signal(number), SaFlags(0), SigSet::FULL);
        for value in [1, 2] {
            scene.value(1, queue(1, signal(number), -1, value));
        }
        scene.unblock(1, set(&[number]));
        assert_eq!(values(&scene), [1, 2], "{number}");
    }
    scene.same_on_the_kernel();
}

#[test]
fn sig_06_sigpending_takes_smaller_sets_and_fills_only_their_bytes() {
    let mut scene = Scene::new();
    let both = set(&[10, RT]);
    scene.block(1, both);
    for signal in both.iter() {
        scene.kill(1, 1, signal);
    }
    for (size, pending) in [(0, Ok(&[][..])), (4, Ok(&[10])), (8, Ok(&[10, RT])), (9, Err(()))] {
        let expected = match pending {
            Ok(numbers) => Ok(Ret::Pending(set(numbers))),
            Err(()) => Err(Errno::EINVAL),
        };
        let call = Syscall::RtSigpending { set: Ptr::Valid, size };
        assert_eq!(scene.result(1, call), expected, "{size}");
    }
    scene.same_on_the_kernel();
}

fn values(scene: &Scene) -> Vec<u64> {
    scene.handled(1).iter().map(|info| info.value).collect()
}

/// The example of SIG-33, with these masks in the handlers.
fn all_at_once(mask: SigSet) -> Vec<u8> {
    const SENT: [i32; 10] = [1, 10, 11, 12, 15, 31, 34, 36, 36, 40];
    let mut scene = Scene::new();
    for number in SENT {
        scene.catch(1, signal(number), SaFlags(0), mask);
    }
    scene.block(1, set(&SENT));
    for number in SENT.iter().rev() {
        scene.kill(1, 1, signal(*number));
    }
    scene.unblock(1, set(&SENT));
    let handled = scene.handled_numbers(1);
    scene.same_on_the_kernel();
    handled
}

#[test]
fn sig_36_handlers_without_a_mask_run_last_dequeued_first() {
    assert_eq!(all_at_once(SigSet::EMPTY), [40, 36, 36, 34, 15, 12, 10, 1, 31, 11]);
}

/// The order of SIG-33 with masks in the handlers.
#[test]
fn sig_37_handlers_with_a_full_mask_run_one_after_the_other() {
    assert_eq!(all_at_once(SigSet::FULL), [11, 31, 1, 10, 12, 15, 34, 36, 36, 40]);
}

#[test]
fn sig_32_private_signals_come_before_shared_ones() {
    let mut scene = Scene::new();
    let all = set(&[1, 64]);
    for signal in all.iter() {
        scene.catch(1, signal, SaFlags(0), SigSet::FULL);
    }
    scene.block(1, all);
    scene.kill(1, 1, Signal::HUP);
    scene.value(1, Syscall::Tkill { tid: 1, sig: 64 });
    scene.unblock(1, all);
    assert_eq!(scene.handled_numbers(1), [64, 1]);
    scene.same_on_the_kernel();
}

#[test]
fn sig_55_a_fatal_signal_in_the_set_of_sigtimedwait_ends_no_process() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.block(2, set(&[15]));
    let (info, timeout, size) = (Ptr::Null, None, SIGSET_SIZE);
    scene.call(2, Syscall::RtSigtimedwait { set: set(&[15]), info, timeout, size });
    scene.kill(1, 2, Signal::TERM);
    assert!(scene.follows("SIG-55"));
    assert_eq!(scene.returned(2).map(|result| result.map(|ret| ret.value())), Some(Ok(15)));
    assert_eq!((scene.run(2), scene.view(2).blocked), (RunState::User, set(&[15])));
    scene.same_on_the_kernel();
}

#[test]
fn sig_40_sigconts_handler_runs_before_that_of_sighup() {
    let mut scene = Scene::new();
    let both = set(&[1, 18]);
    for signal in both.iter() {
        scene.catch(1, signal, SaFlags(0), SigSet::EMPTY);
    }
    scene.block(1, both);
    scene.kill(1, 1, Signal::HUP);
    scene.kill(1, 1, Signal::CONT);
    scene.unblock(1, both);
    assert!(scene.follows("SIG-40"));
    assert_eq!(scene.handled_numbers(1), [18, 1]);
    scene.same_on_the_kernel();
}

#[test]
fn sig_42_resethand_resets_the_handler_and_keeps_flags_and_mask() {
    let mut scene = Scene::new().hold_handlers();
    scene.catch(1, Signal::USR1, SaFlags::RESETHAND, set(&[12]));
    scene.kill(1, 1, Signal::USR1);
    // the body of the handler runs: the signal is blocked, and its action is SIG_DFL already
    assert_eq!(scene.view(1).blocked, set(&[10, 12]));
    let get = Syscall::RtSigaction { sig: 10, act: None, old: Ptr::Valid, size: SIGSET_SIZE };
    let Ok(Ret::Action(Some(action))) = scene.result(1, get) else { panic!("an action") };
    assert_eq!((action.handler, action.mask), (Default::default(), set(&[12])));
    assert!(action.flags.contains(SaFlags::RESETHAND));
    scene.same_on_the_kernel();
}

#[test]
fn sig_43_resethand_works_for_sigill_and_sigtrap() {
    let mut scene = Scene::new();
    for number in [4, 5] {
        scene.catch(1, signal(number), SaFlags::RESETHAND, SigSet::EMPTY);
        scene.kill(1, 1, signal(number));
        assert_eq!(scene.handled_numbers(1), [number as u8]);
        assert!(scene.follows("SIG-43"));
        assert!(!scene.view(1).caught.contains(signal(number)));
    }
    scene.same_on_the_kernel();
}

#[test]
fn sig_49_a_sigsuspend_without_a_handler_delivers_signals_that_the_old_mask_unblocks() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.catch(2, Signal::USR1, SaFlags(0), SigSet::EMPTY);
    scene.call(2, Syscall::RtSigsuspend { mask: set(&[10]), size: SIGSET_SIZE });
    scene.kill(1, 2, Signal::USR1);
    assert!(scene.handled_numbers(2).is_empty());
    scene.kill(1, 2, Signal::STOP);
    scene.kill(1, 2, Signal::CONT);
    // the handler runs, and the call is restarted
    assert_eq!(scene.handled_numbers(2), [10]);
    assert_eq!((scene.returned(2), scene.run(2)), (None, RunState::Blocked));
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ JOB, CHLD

#[test]
fn job_05_a_continue_discards_a_blocked_stop() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.setpgid(1, 2, 2);
    scene.block(2, set(&[20]));
    scene.kill(1, 2, Signal::TSTP);
    assert_eq!(scene.view(2).shared, set(&[20]));
    scene.kill(1, 2, Signal::CONT);
    scene.unblock(2, set(&[20]));
    assert_eq!(scene.run(2), RunState::User);
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel this is a race (appendix C, 1).
#[test]
fn job_14_a_stop_that_is_continued_before_it_acts_leaves_no_trace() {
    let mut kernel = Scene::new().kernel;
    let mut fx = Effects::new();
    kernel.call(Pid(1), &Syscall::Fork, &mut fx).expect("it forks");
    fx.clear();
    for signal in [Signal::STOP, Signal::CONT] {
        kernel.call(Pid(1), &kill(2, signal), &mut fx).expect("it kills");
    }
    kernel.settle(&mut Canonical, &mut fx);
    let traces = fx
        .list()
        .iter()
        .filter(|effect| matches!(effect.what, Consequence::Stopped(_) | Consequence::Continued));
    assert_eq!(traces.count(), 0);
    let any = WaitOptions::STOPPED.with(WaitOptions::CONTINUED).with(WaitOptions::NOHANG);
    let waited = kernel.call(Pid(1), &wait_for(-1, any), &mut fx);
    let nothing = Ret::Waited { pid: Pid(0), status: None };
    assert_eq!(waited, Ok(proctable::kernel::Outcome::Returned(Ok(nothing))));
}

/// On the model only: on the kernel this is a race.
#[test]
fn job_18_a_process_that_has_to_end_does_not_stop() {
    let mut kernel = Scene::new().kernel;
    let mut fx = Effects::new();
    kernel.call(Pid(1), &Syscall::Fork, &mut fx).expect("it forks");
    for signal in [Signal::TERM, Signal::STOP] {
        kernel.call(Pid(1), &kill(2, signal), &mut fx).expect("it kills");
    }
    assert!(fx.rules().contains(proctable::rule!("EXIT-13")));
    kernel.settle(&mut Canonical, &mut fx);
    assert_eq!(kernel.exit_status(Pid(2)), Some(killed(Signal::TERM)));
}

#[test]
fn chld_06_several_exits_make_one_sigchld_with_the_siginfo_of_the_first() {
    let mut scene = Scene::new();
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    scene.block(1, set(&[17]));
    for _ in 0..3 {
        scene.fork(1);
    }
    for pid in [3, 2, 4] {
        scene.exit(pid, pid as i32);
    }
    scene.unblock(1, set(&[17]));
    let from: Vec<u32> = scene.handled(1).iter().map(|info| info.pid.0).collect();
    assert_eq!(from, [3]);
    scene.same_on_the_kernel();
}

#[test]
fn chld_08_killing_a_stopped_child_makes_one_sigchld() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.kill(1, 2, Signal::STOP);
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    scene.kill(1, 2, Signal::KILL);
    let codes: Vec<SiCode> = scene.handled(1).iter().map(|info| info.code).collect();
    assert_eq!(codes, [SiCode::CLD_KILLED]);
    scene.same_on_the_kernel();
}

#[test]
fn chld_03_without_a_signal_the_stop_can_still_be_waited_for() {
    let mut scene = Scene::new();
    scene.catch(1, Signal::CHLD, SaFlags::NOCLDSTOP, SigSet::EMPTY);
    scene.fork(1);
    scene.kill(1, 2, Signal::STOP);
    assert!(scene.handled_numbers(1).is_empty());
    let stopped = WaitStatus::stopped(Signal::STOP);
    assert_eq!(scene.wait(1, WaitOptions::STOPPED), waited(2, stopped));
    scene.kill(1, 2, Signal::KILL);
    assert_eq!(scene.handled_numbers(1), [17]); // CHLD-04
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ LIM, TIME

#[test]
fn lim_02_the_superuser_may_have_more_tasks_than_the_limit() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.limit(2, Resource::NPROC, 0);
    assert_eq!(scene.fork(2), 3);
    // the real user is changed, because an effective root has the capabilities
    scene.set_users(3, [own_user(80), 0, 0]);
    assert_eq!(scene.fork(3), 4);
    scene.set_users(4, users(own_user(80)));
    assert_eq!(scene.result(4, Syscall::Fork), Err(Errno::EAGAIN));
    scene.same_on_the_kernel();
}

#[test]
fn lim_05_a_user_over_the_limit_cannot_exec_until_it_is_below() {
    let base = own_user(30);
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.fork(1);
    }
    scene.set_users(3, users(base));
    scene.set_users(4, users(base));
    scene.limit(2, Resource::NPROC, 1);
    scene.set_users(2, users(base)); // LIM-04
    assert_eq!(scene.exec(2), Err(Errno::EAGAIN)); // EXEC-17
    for child in [3, 4] {
        scene.kill(1, child, Signal::KILL);
        assert_eq!(scene.wait(1, NONE), waited(child as u32, killed(Signal::KILL)));
    }
    assert_eq!(scene.exec(2), Ok(Ret::Value(0)));
    scene.same_on_the_kernel();
}

/// The next fork that the limit allows clears the mark, also if it finds no number (PID-05).
#[test]
fn lim_05_a_fork_clears_the_mark_even_if_it_fails() {
    let mut scene = Scene::with(Config { pid_max: 302, last_pid: 299, ..Config::default() });
    let user = own_user(31);
    assert_eq!((scene.fork(1), scene.fork(1)), (300, 301));
    scene.set_users(300, users(user));
    scene.limit(301, Resource::NPROC, 0);
    scene.set_users(301, [user, 0, 0]);
    assert_eq!(scene.result(301, Syscall::Fork), Err(Errno::EAGAIN));
    assert_eq!(scene.exec(301), Ok(Ret::Value(0)));
    scene.same_on_the_kernel();
}

/// Also for a fatal signal: its record is free while the process is a zombie (LIM-07).
#[test]
fn sig_50_a_thread_that_is_killed_in_sigtimedwait_still_takes_its_signal() {
    let mut scene = Scene::new();
    let user = own_user(32);
    for _ in 0..2 {
        scene.fork(1);
    }
    scene.block(3, set(&[RT]));
    scene.limit(3, Resource::SIGPENDING, 1);
    scene.set_users(2, users(user));
    scene.set_users(3, users(user));
    let set = set(&[RT]);
    let info = Ptr::Valid;
    scene.call(2, Syscall::RtSigtimedwait { set, info, timeout: None, size: SIGSET_SIZE });
    scene.call(1, queue(2, signal(RT), -1, 0));
    assert_eq!(scene.run(2), RunState::Zombie);
    assert_eq!(scene.result(1, queue(3, signal(RT), -1, 0)), Ok(Ret::Value(0)));
    scene.same_on_the_kernel();
}

/// Also records that another process queued, and of several records of a signal only these; the
/// user can queue again (LIM-07).
#[test]
fn exec_05_signals_with_the_code_of_a_timer_are_gone_after_exec() {
    let pending = Syscall::RtSigpending { set: Ptr::Valid, size: SIGSET_SIZE };
    let one = [SiCode::TIMER.0];
    let mixed = [SiCode::TIMER.0, -1, -1, SiCode::TIMER.0];
    for (nth, codes) in [&one[..], &mixed].into_iter().enumerate() {
        let mut scene = Scene::new();
        scene.fork(1);
        scene.block(2, set(&[10, RT]));
        scene.limit(2, Resource::SIGPENDING, 6);
        scene.set_users(2, users(own_user(33 + nth as u32)));
        for code in codes {
            scene.call(2, queue(2, signal(RT), *code, 1));
        }
        scene.call(2, queue(2, Signal::USR1, SiCode::TIMER.0, 1));
        assert_eq!(scene.exec(2), Ok(Ret::Value(0)));
        let left = if codes.len() == 1 { SigSet::EMPTY } else { set(&[RT]) };
        assert_eq!(scene.result(2, pending.clone()), Ok(Ret::Pending(left)));
        for _ in 0..7 {
            scene.call(2, queue(2, signal(RT), -1, 2));
        }
        scene.same_on_the_kernel();
    }
}

/// Process 2 has a user of its own that may have two records, and blocks everything.
fn limited(mut scene: Scene, user: u32) -> Scene {
    scene.fork(1);
    scene.limit(2, Resource::SIGPENDING, 2);
    scene.set_users(2, users(user));
    scene.block(2, SigSet::FULL);
    assert_eq!(scene.fork(2), 3);
    scene
}

/// Whether a record of 2's user is free after the end of 3, which has all records, on a kernel that
/// has the property.
fn zombie_frees_records(mut scene: Scene, full: Syscall) -> bool {
    for _ in 0..2 {
        scene.value(2, full.clone());
    }
    // the user of the target has too many, whichever process sends
    assert_eq!(scene.result(1, queue(2, signal(RT), -1, 0)), Err(Errno::EAGAIN));
    scene.kill(1, 3, Signal::KILL);
    assert_eq!(scene.run(3), RunState::Zombie);
    let free = scene.result(1, queue(2, signal(RT), -1, 0)).is_ok();
    assert_eq!(scene.wait(2, NONE), waited(3, killed(Signal::KILL)));
    if !free {
        // the pending SIGCHLD has one of the two records
        assert_eq!(scene.result(1, queue(2, signal(RT), -1, 0)), Ok(Ret::Value(0)));
    }
    scene.same_on_the_kernel();
    free
}

#[test]
fn lim_07_private_records_go_with_the_thread_shared_ones_when_it_is_reaped() {
    let property = Property::EndedFreeRecords;
    let version = Version::NEWEST.with(property, true);
    let config = Config { version, ..Config::default() };
    let scene = |user| limited(Scene::with(config.clone()).depends_on(property), user);
    assert!(zombie_frees_records(scene(own_user(40)), Syscall::Tkill { tid: 3, sig: RT }));
    assert!(!zombie_frees_records(scene(own_user(41)), queue(3, signal(RT), -1, 0)));
}

#[test]
fn lim_08_a_real_time_exit_signal_over_the_limit_is_lost() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.limit(2, Resource::SIGPENDING, 0);
    scene.set_users(2, users(own_user(50)));
    scene.block(2, SigSet::FULL);
    assert_eq!(scene.result(1, queue(2, signal(RT), -1, 0)), Err(Errno::EAGAIN));
    assert_eq!(scene.value(2, Syscall::clone_call(RT as u64)), 3);
    scene.exit(3, 0);
    assert_eq!(scene.view(2).shared, SigSet::EMPTY);
    assert_eq!(scene.wait(2, WaitOptions::ALL), waited(3, WaitStatus::exited(0)));
    scene.same_on_the_kernel();
}

#[test]
fn lim_11_signals_of_kill_and_of_the_kernel_keep_their_siginfo() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.limit(2, Resource::SIGPENDING, 0);
    scene.set_users(2, users(own_user(60)));
    for number in [10, 12, 17, RT] {
        scene.catch(2, signal(number), SaFlags(0), SigSet::FULL);
    }
    scene.block(2, set(&[10, 12, 17, RT]));
    scene.kill(1, 2, Signal::USR1);
    scene.value(1, queue(2, Signal::USR2, -1, 7));
    for _ in 0..3 {
        scene.kill(1, 2, signal(RT));
    }
    assert_eq!(scene.fork(2), 3);
    scene.exit(3, 0);
    scene.unblock(2, SigSet::FULL);
    let handled: Vec<(u8, i32, u32)> =
        scene.handled(2).iter().map(|i| (i.signal.number(), i.code.0, i.pid.0)).collect();
    // LIM-09: the signal of sigqueue has lost its record; LIM-10: so have all real-time signals of
    // kill except one
    assert_eq!(handled, [(10, 0, 1), (12, 0, 0), (17, 1, 3), (RT as u8, 0, 0)]);
    scene.same_on_the_kernel();
}

fn itimer(value: i64, interval: i64) -> Syscall {
    let time = |usec: i64| Timeval { sec: usec / 1_000_000, usec: usec % 1_000_000 };
    let new = Some(Itimerval { interval: time(interval), value: time(value) });
    Syscall::Setitimer { which: 0, new, old: Ptr::Null }
}

#[test]
fn time_02_alarm_rounds_and_never_to_0() {
    let mut scene = Scene::new();
    for (usec, seconds) in [(100_000, 1), (1_300_000, 1), (1_600_000, 2), (9_000_000, 9)] {
        scene.value(1, itimer(usec, 0)); // TIME-03
        assert_eq!(scene.value(1, Syscall::Alarm(0)), seconds, "{usec}");
        assert_eq!(scene.value(1, Syscall::Alarm(0)), 0);
    }
    scene.same_on_the_kernel();
}

/// On the model only: a log has no time.
#[test]
fn time_06_a_timer_continues_on_its_grid_when_its_signal_is_dequeued() {
    let mut scene = Scene::new();
    scene.catch(1, Signal::ALRM, SaFlags(0), SigSet::EMPTY);
    scene.block(1, set(&[14]));
    scene.value(1, itimer(10_000, 10_000));
    scene.elapse(35 * MS);
    assert_eq!(scene.kernel.next_deadline(), None);
    scene.unblock(1, set(&[14]));
    let codes: Vec<SiCode> = scene.handled(1).iter().map(|info| info.code).collect();
    assert_eq!(codes, [SiCode::KERNEL]); // TIME-04
    assert_eq!(scene.kernel.next_deadline(), Some(Time(40 * MS)));
}

#[test]
fn time_07_exec_keeps_the_timer_and_fork_does_not_copy_it() {
    let mut scene = Scene::new();
    scene.value(1, Syscall::Alarm(100));
    scene.fork(1);
    assert_eq!(scene.value(2, Syscall::Alarm(0)), 0);
    assert_eq!(scene.exec(1), Ok(Ret::Value(0)));
    assert_eq!(scene.value(1, Syscall::Alarm(0)), 100);
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ NS

/// NS-08: also children that only __WALL includes; only the model can show it.
#[test]
fn ns_08_an_ending_init_reaps_children_of_both_classes() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.value(1, Syscall::clone_call(0));
    scene.exit(3, 0);
    assert_eq!(scene.run(3), RunState::Zombie);
    scene.exit(1, 9);
    assert_eq!((scene.is_gone(2), scene.is_gone(3)), (true, true));
    assert_eq!(scene.kernel.exit_status(Pid(1)), Some(WaitStatus::exited(9)));
    scene.same_on_the_kernel();
}

// ------------------------------------------------------------------ versions

/// The configuration of another kernel, for behaviour that depends on a property.
fn on(major: u16, minor: u16, property: Property) -> Scene {
    let config = Config { version: Version::new(major, minor), ..Config::default() };
    Scene::with(config).depends_on(property)
}

#[test]
fn fork_18_clone_takes_exit_signals_above_64_before_linux_7_1() {
    let call = Syscall::clone_call(65);
    assert_eq!(on(7, 1, Property::ExitSignalChecked).result(1, call.clone()), Err(Errno::EINVAL));
    let mut scene = on(7, 0, Property::ExitSignalChecked);
    assert_eq!(scene.value(1, call), 2);
    scene.exit(2, 0);
    // a clone child sends no signal, and a plain wait does not include it
    assert_eq!(scene.wait(1, WaitOptions::NOHANG), Err(Errno::ECHILD));
    scene.same_on_the_kernel();
}

fn autoreap(flags: u64, signal: u64) -> Syscall {
    Syscall::clone3_call(clone::AUTOREAP | flags, signal)
}

#[test]
fn fork_34_the_flags_that_clone_autoreap_permits() {
    let mut scene = Scene::new().depends_on(Property::Autoreap);
    let chld = u64::from(Signal::CHLD.number());
    for refused in [autoreap(0, chld), autoreap(clone::PARENT, 0), autoreap(clone::THREAD, 0)] {
        assert_eq!(scene.result(1, refused), Err(Errno::EINVAL));
    }
    assert_eq!(scene.value(1, autoreap(clone::NNP, 0)), 2);
    let sibling = Syscall::clone_call(clone::PARENT);
    assert_eq!(scene.result(2, sibling), Err(Errno::EINVAL));
    assert_eq!(on(7, 0, Property::Autoreap).result(1, autoreap(0, 0)), Err(Errno::EINVAL));
    scene.same_on_the_kernel();
}

#[test]
fn fork_32_the_flags_of_linux_7_1_are_invalid_before() {
    let mut scene = on(6, 18, Property::Autoreap);
    for flag in [clone::AUTOREAP, clone::NNP, clone::PIDFD_AUTOKILL, clone::EMPTY_MNTNS] {
        assert_eq!(scene.result(1, Syscall::clone3_call(flag, 0)), Err(Errno::EINVAL));
        assert!(scene.follows("FORK-32"));
    }
    scene.same_on_the_kernel();
}

#[test]
fn zom_15_a_child_made_by_clone_autoreap_leaves_no_zombie() {
    let mut scene = Scene::new().depends_on(Property::Autoreap);
    scene.value(1, Syscall::Prctl(Prctl::SetChildSubreaper(1)));
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
    assert_eq!(scene.fork(1), 2);
    assert_eq!(scene.value(2, autoreap(0, 0)), 3);
    assert_eq!(scene.value(1, autoreap(0, 0)), 4);
    // the stops of the child are those of a clone child
    scene.kill(1, 4, Signal::STOP);
    assert_eq!(scene.handled_numbers(1), [Signal::CHLD.number()]);
    let all = WaitOptions::ALL.with(WaitOptions::STOPPED);
    let stopped = waited(4, WaitStatus::stopped(Signal::STOP));
    assert_eq!(scene.result(1, wait_for(4, all)), stopped);
    scene.kill(1, 4, Signal::KILL);
    assert!(scene.is_gone(4) && scene.handled(1).is_empty(), "no zombie, no signal");
    // the child leaves no zombie to an adopter either
    scene.exit(2, 0);
    assert_eq!(scene.wait(1, NONE), waited(2, WaitStatus::exited(0)));
    scene.exit(3, 0);
    assert!(scene.is_gone(3) && scene.handled(1).is_empty(), "no zombie, no signal");
    // a wait that sleeps ends when no child is left
    assert_eq!(scene.value(1, autoreap(0, 0)), 5);
    scene.call(1, wait_for(-1, WaitOptions::ALL));
    scene.exit(5, 0);
    assert_eq!(scene.returned(1), Some(Err(Errno::ECHILD)));
    scene.same_on_the_kernel();
    // nor to a process 1 that is outside of the model
    let config = Config::default().below_init(Pid(2));
    let mut scene = Scene::with(config).depends_on(Property::Autoreap);
    assert_eq!(scene.fork(2), 3);
    assert_eq!(scene.value(3, autoreap(0, 0)), 4);
    scene.exit(3, 2);
    assert_eq!(scene.value(4, Syscall::Getppid), 1);
    scene.exit(4, 127);
    assert!(scene.is_gone(4));
    scene.same_on_the_kernel();
}

#[test]
fn exit_17_a_core_dump_ended_all_processes_that_share_the_memory_until_linux_5_15() {
    for (minor, spared) in [(15, false), (16, true)] {
        let mut scene = on(5, minor, Property::CoreEndsOneProcess);
        scene.limit(1, Resource::CORE, 0);
        assert_eq!(scene.fork(1), 2);
        scene.call(2, Syscall::Vfork);
        scene.kill(1, 3, Signal::QUIT);
        assert_eq!(scene.run(2) == RunState::Zombie, !spared);
        if !spared {
            assert_eq!(scene.wait(1, NONE), waited(2, killed(Signal::QUIT)));
        }
        // a signal that dumps no core ends only its target
        let other = scene.fork(1);
        scene.call(other, Syscall::Vfork);
        scene.kill(1, other as i32 + 1, Signal::TERM);
        assert_ne!(scene.run(other), RunState::Zombie);
        scene.same_on_the_kernel();
    }
}

#[test]
fn sig_09_unknown_flags_stay_before_linux_5_11() {
    let unknown = SaFlags(0x400);
    for (minor, read_back) in [(10, unknown), (11, SaFlags(0))] {
        let mut scene = on(5, minor, Property::UnknownActionFlagsCleared);
        let ignore = SigAction { flags: unknown, ..SigAction::IGNORE };
        scene.action(1, Signal::USR1, ignore);
        let (sig, size) = (Signal::USR1.number().into(), SIGSET_SIZE);
        let ask = Syscall::RtSigaction { sig, act: None, old: Ptr::Valid, size };
        let expected = SigAction { flags: read_back, ..SigAction::IGNORE };
        assert_eq!(scene.result(1, ask), Ok(Ret::Action(Some(expected))));
        scene.same_on_the_kernel();
    }
}

#[test]
fn exit_13_ended_processes_keep_signals_until_linux_5_17() {
    for (minor, result) in [(17, Err(Errno::EAGAIN)), (18, Ok(Ret::Value(0)))] {
        let mut scene = on(5, minor, Property::EndedDropSignals);
        assert_eq!(scene.fork(1), 2);
        scene.limit(2, Resource::SIGPENDING, 1);
        scene.exit(2, 0);
        let sent = queue(2, signal(RT), -1, 7);
        assert_eq!(scene.result(1, sent.clone()), Ok(Ret::Value(0)));
        // the first record is charged to the user of the zombie, or was dropped
        assert_eq!(scene.result(1, sent), result);
        assert_eq!(scene.wait(1, NONE), waited(2, WaitStatus::exited(0)));
    }
    let mut scene = on(5, 17, Property::EndedDropSignals);
    assert_eq!(scene.fork(1), 2);
    scene.limit(2, Resource::SIGPENDING, 0);
    scene.exit(2, 0);
    assert_eq!(scene.result(1, queue(2, signal(RT), -1, 7)), Err(Errno::EAGAIN));
    scene.same_on_the_kernel();
}

#[test]
fn exit_05_processes_that_share_the_memory_share_the_dumpable_attribute() {
    let mut scene = Scene::new();
    let dumpable = |scene: &mut Scene, pid| scene.value(pid, Syscall::Prctl(Prctl::GetDumpable));
    assert_eq!(scene.fork(1), 2);
    scene.call(2, Syscall::Vfork);
    scene.value(3, Syscall::Prctl(Prctl::SetDumpable(0)));
    let own = Syscall::clone_call(clone::VM | u64::from(Signal::CHLD.number()));
    assert_eq!(scene.value(3, own), 4);
    assert_eq!((dumpable(&mut scene, 3), dumpable(&mut scene, 4)), (0, 0));
    // a copy is another memory, and so is the memory of a new program
    assert_eq!(scene.fork(3), 5);
    scene.value(5, Syscall::Prctl(Prctl::SetDumpable(1)));
    assert_eq!((dumpable(&mut scene, 3), dumpable(&mut scene, 5)), (0, 1));
    assert_eq!(scene.exec(3), Ok(Ret::Value(0)));
    assert_eq!((dumpable(&mut scene, 3), dumpable(&mut scene, 4)), (1, 0));
    // the parent in vfork has returned, to the memory that its child changed
    assert_eq!(dumpable(&mut scene, 2), 0);
    scene.same_on_the_kernel();
}

#[test]
fn cred_01_exec_with_clone_fs_reset_the_effective_user_until_linux_6_16() {
    let (real, effective) = (own_user(0), own_user(1));
    for (minor, kept) in [(16, false), (17, true)] {
        let mut scene = on(6, minor, Property::SharedExecKeepsUser);
        let shared = clone::FS | u64::from(Signal::CHLD.number());
        assert_eq!(scene.value(1, Syscall::clone_call(shared)), 2);
        scene.set_users(2, [real, effective, effective]);
        assert_eq!(scene.exec(2), Ok(Ret::Value(0)));
        let users = if kept { [real, effective, effective] } else { [real; 3] };
        assert_eq!(scene.result(2, Syscall::Getresuid), Ok(Ret::Users(users.map(user))));
        // a copy shares nothing
        let copy = scene.fork(1);
        scene.set_users(copy, [real, effective, effective]);
        assert_eq!(scene.exec(copy), Ok(Ret::Value(0)));
        let kept = [real, effective, effective].map(user);
        assert_eq!(scene.result(copy, Syscall::Getresuid), Ok(Ret::Users(kept)));
        scene.same_on_the_kernel();
    }
}

#[test]
fn exit_11_a_killed_waiter_may_end_before_its_child_is_a_zombie() {
    for preempted in [false, true] {
        let version = Version::NEWEST.with(Property::ExitIsPreempted, preempted);
        let config = Config { version, ..Config::default() };
        let mut scene = Scene::with(config).depends_on(Property::ExitIsPreempted);
        assert_eq!(scene.fork(1), 2);
        assert_eq!(scene.fork(2), 3);
        scene.call(2, wait_for(-1, NONE));
        // the youngest member of the group is first
        scene.call(1, Syscall::Kill { pid: 0, sig: Signal::TERM.number().into() });
        let adopted = if preempted { waited(3, killed(Signal::TERM)) } else { Err(Errno::ECHILD) };
        assert_eq!(scene.result(1, wait_for(3, WaitOptions::NOHANG)), adopted);
        scene.same_on_the_kernel();
    }
}
