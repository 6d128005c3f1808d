//! The effects of several CPUs (RACE-01 to RACE-09): all orders of the model are explored. Each
//! outcome exists with `Granularity::Fine`, and not with `Granularity::Coarse`, which makes one
//! transition of steps that others could see half done.
//!
//! `proctable diff --concurrent` compares the same with the live kernel.

use std::collections::BTreeSet;

use proctable::abi::{
    Errno, Pid, SaFlags, SiCode, SigAction, SigSet, Signal, WaitOptions, WaitStatus,
};
use proctable::kernel::{Config, Effects, Event, Granularity, Kernel, RunState, Scripted};
use proctable::sim::{Action, Observable, Reaction, Step, react};
use proctable::syscall::{Ptr, Ret, Syscall};

use super::super::scene::*;

/// The outcomes of the orders of calls that are in flight at the same time, for each granularity.
fn outcomes<T: Ord>(
    scene: &Scene,
    calls: &[(u32, Syscall)],
    see: impl Fn(&Kernel, &Reaction) -> T,
) -> [BTreeSet<T>; 2] {
    let calls = calls.iter().map(|(tid, call)| (Pid(*tid), call.clone())).collect();
    let step = Step { tid: Pid(0), action: Action::Concurrent(calls) };
    [Granularity::Coarse, Granularity::Fine].map(|granularity| {
        let start = scene.kernel.clone().with_granularity(granularity);
        let (mut seen, mut next) = (BTreeSet::new(), Some(Vec::new()));
        while let Some(script) = next {
            let (mut kernel, mut choices) = (start.clone(), Scripted::new(script));
            let reaction = react(&mut kernel, &step, false, &mut choices).expect("all can act");
            kernel.check_invariants().expect("the invariants hold");
            reached::note(&reaction.effects);
            seen.insert(see(&kernel, &reaction));
            next = choices.following();
        }
        seen
    })
}

/// The states between any two steps of the calls.
fn glimpses<T: Ord>(
    scene: &Scene,
    calls: &[(u32, Syscall)],
    see: impl Fn(&mut Kernel) -> Option<T>,
) -> [BTreeSet<T>; 2] {
    [Granularity::Coarse, Granularity::Fine].map(|granularity| {
        let (mut kernel, mut fx) =
            (scene.kernel.clone().with_granularity(granularity), Effects::new());
        for (tid, call) in calls {
            kernel.enter(Pid(*tid), call, &mut fx).expect("all can act");
        }
        let (mut seen, mut states) = (BTreeSet::new(), vec![kernel]);
        while let Some(kernel) = states.pop() {
            kernel.check_invariants().expect("the invariants hold");
            if let Some(glimpse) = see(&mut kernel.clone()) {
                seen.insert(glimpse);
            }
            for tid in kernel.runnable() {
                let mut next = kernel.clone();
                next.apply(&Event::Step { tid }, &mut fx).expect("it is runnable");
                states.push(next);
            }
        }
        reached::note(&fx);
        seen
    })
}

fn catch_children(scene: &mut Scene, flags: SaFlags) {
    scene.catch(1, Signal::CHLD, flags, SigSet::EMPTY);
}

/// The results and handlers of a process, in order.
fn shown(reaction: &Reaction, pid: u32) -> Vec<&Observable> {
    let own = reaction.seen.iter().filter(|(actor, _)| *actor == Pid(pid)).map(|(_, what)| what);
    own.filter(|what| matches!(what, Observable::Returned(_) | Observable::Handler(_))).collect()
}

#[test]
fn race_01_a_kill_succeeds_and_wait_reports_the_child_s_own_status() {
    let mut scene = Scene::new();
    catch_children(&mut scene, SaFlags::default());
    scene.fork(1);
    let calls = [(1, kill(2, Signal::KILL)), (2, Syscall::ExitGroup(7))];
    let [coarse, fine] = outcomes(&scene, &calls, |kernel, reaction| {
        let first = matches!(shown(reaction, 1)[0], Observable::Returned(Ok(Ret::Value(0))));
        (first, kernel.exit_status(Pid(2)).expect("it has ended").0)
    });
    let race = (true, WaitStatus::exited(7).0);
    assert!(fine.contains(&race) && fine.is_superset(&coarse) && !coarse.contains(&race));
}

#[test]
fn race_02_a_call_takes_effect_after_its_caller_was_killed() {
    let mut scene = Scene::new();
    assert_eq!((scene.fork(1), scene.fork(1)), (2, 3));
    scene.call(3, Syscall::Pause);
    let calls = [(1, kill(2, Signal::KILL)), (2, kill(3, Signal::USR1))];
    let [coarse, fine] = outcomes(&scene, &calls, |_, reaction| {
        let generated = reaction.seen.iter().filter_map(|(_, what)| match what {
            Observable::Generated(info) if info.signal != Signal::CHLD => {
                Some(info.signal.number())
            }
            _ => None,
        });
        generated.collect::<Vec<u8>>()
    });
    let race = [Signal::KILL, Signal::USR1].map(|signal| signal.number()).to_vec();
    assert!(fine.contains(&race) && fine.is_superset(&coarse) && !coarse.contains(&race));
}

#[test]
fn race_03_two_sigchlds_of_one_exit_are_handled_one_by_one() {
    let mut scene = Scene::new();
    catch_children(&mut scene, SaFlags::default());
    assert_eq!((scene.fork(1), scene.fork(2)), (2, 3));
    scene.exit(3, 3);
    let [coarse, fine] = outcomes(&scene, &[(2, Syscall::ExitGroup(2))], |_, reaction| {
        let handlers = shown(reaction, 1).into_iter().filter_map(|what| match what {
            Observable::Handler(info) => Some(info.pid.0),
            _ => None,
        });
        handlers.collect::<Vec<u32>>()
    });
    assert_eq!(coarse, [vec![3]].into());
    assert_eq!(fine, [vec![3], vec![3, 2]].into());
}

#[test]
fn race_04_the_sigchld_of_a_stop_that_was_consumed_has_no_status() {
    let mut scene = Scene::new();
    catch_children(&mut scene, SaFlags::default());
    assert_eq!((scene.fork(1), scene.fork(1)), (2, 3));
    let calls = [(1, wait_for(2, WaitOptions::STOPPED)), (3, kill(2, Signal::STOP))];
    let [coarse, fine] = outcomes(&scene, &calls, |_, reaction| {
        let status = reaction.seen.iter().find_map(|(_, what)| match what {
            Observable::Generated(info) if info.code == SiCode::CLD_STOPPED => Some(info.value),
            _ => None,
        });
        status.expect("SIGCHLD is sent")
    });
    assert_eq!((coarse, fine), ([19].into(), [0, 19].into()));
}

#[test]
fn race_05_a_child_that_leaves_no_zombie_can_be_killed_in_its_sigchld() {
    let mut scene = Scene::new();
    catch_children(&mut scene, SaFlags::NOCLDWAIT);
    scene.fork(1);
    let glimpse = |kernel: &mut Kernel| {
        kernel.handler(Pid(1)).filter(|_| kernel.in_user_mode(Pid(1)))?;
        let wait = Syscall::Wait4 { pid: 2, status: Ptr::Null, options: WaitOptions::NOHANG };
        let results = [Syscall::Kill { pid: 2, sig: 0 }, wait].map(|call| {
            let outcome = kernel.call(Pid(1), &call, &mut Effects::new());
            format!("{outcome:?}")
        });
        Some(results)
    };
    let [coarse, fine] = glimpses(&scene, &[(2, Syscall::ExitGroup(0))], glimpse);
    let gone = ["Ok(Returned(Err(ESRCH)))", "Ok(Returned(Err(ECHILD)))"].map(String::from);
    let there = ["Ok(Returned(Ok(Value(0))))", "Ok(Returned(Err(ECHILD)))"].map(String::from);
    assert_eq!((coarse, fine), ([gone.clone()].into(), [gone, there].into()));
}

#[test]
fn race_06_a_vfork_child_is_moved_after_its_exec() {
    let mut scene = Scene::new();
    scene.call(1, Syscall::Vfork);
    let exec = Syscall::Execve { path: "./agent".into(), error: None };
    let glimpse = |kernel: &mut Kernel| {
        kernel.in_user_mode(Pid(1)).then(|| {
            let call = Syscall::Setpgid { pid: 2, pgid: 2 };
            format!("{:?}", kernel.call(Pid(1), &call, &mut Effects::new()))
        })
    };
    let [coarse, fine] = glimpses(&scene, &[(2, exec)], glimpse);
    let [refused, moved] =
        ["Ok(Returned(Err(EACCES)))", "Ok(Returned(Ok(Value(0))))"].map(String::from);
    assert_eq!((coarse, fine), ([refused.clone()].into(), [refused, moved].into()));
}

#[test]
fn race_07_two_kills_of_a_group_interleave() {
    let mut scene = Scene::new();
    assert_eq!((scene.fork(1), scene.fork(1), scene.fork(1)), (2, 3, 4));
    for pid in [2, 3] {
        scene.setpgid(1, pid, 2);
    }
    let calls = [(1, kill(-2, Signal::STOP)), (4, kill(-2, Signal::CONT))];
    let [coarse, fine] = outcomes(&scene, &calls, |kernel, _| {
        [2, 3].map(|pid| kernel.view(Pid(pid)).expect("it lives").run == RunState::Stopped)
    });
    assert_eq!(coarse, [[false, false], [true, true]].into());
    assert_eq!(fine, [[false, false], [false, true], [true, false], [true, true]].into());
}

#[test]
fn race_08_a_number_is_free_after_its_child_is_gone() {
    let config = Config { pid_max: 302, last_pid: 299, ..Config::default() };
    let mut scene = Scene::with(config);
    scene.action(1, Signal::CHLD, SigAction::IGNORE);
    assert_eq!((scene.fork(1), scene.fork(1)), (300, 301));
    let glimpse = |kernel: &mut Kernel| {
        kernel.in_user_mode(Pid(1)).then(|| {
            let outcome = kernel.call(Pid(1), &Syscall::Fork, &mut Effects::new());
            format!("{outcome:?}").contains(&Errno::EAGAIN.to_string())
        })
    };
    let calls = [(1, wait_for(300, WaitOptions::default())), (300, Syscall::ExitGroup(0))];
    let [coarse, fine] = glimpses(&scene, &calls, glimpse);
    assert_eq!((coarse, fine), ([false].into(), [false, true].into()));
}

#[test]
fn race_09_a_fork_is_killed_with_its_number() {
    let mut scene = Scene::new();
    scene.fork(1);
    let calls = [(1, kill(2, Signal::KILL)), (2, Syscall::Fork)];
    let [coarse, fine] = outcomes(&scene, &calls, |kernel, _| {
        let outcome = kernel.clone().call(Pid(1), &Syscall::Fork, &mut Effects::new());
        (kernel.view(Pid(3)).is_some(), format!("{outcome:?}"))
    });
    let next = |number: u32| format!("Ok(Returned(Ok(Value({number}))))");
    assert_eq!(coarse, [(false, next(3)), (true, next(4))].into());
    assert_eq!(fine, [(false, next(3)), (false, next(4)), (true, next(4))].into());
}

#[test]
fn race_09_a_child_gets_signals_that_its_group_was_sent_during_the_fork() {
    let mut scene = Scene::new();
    scene.fork(1);
    scene.setpgid(2, 0, 0);
    scene.catch(2, Signal::USR1, SaFlags::default(), SigSet::EMPTY);
    let calls = [(1, kill(-2, Signal::USR1)), (2, Syscall::Fork)];
    let [coarse, fine] = outcomes(&scene, &calls, |_, reaction| {
        reaction.seen.iter().find_map(|(pid, what)| match what {
            Observable::Handler(info) if *pid == Pid(3) => Some(info.pid.0),
            _ => None,
        })
    });
    assert_eq!(coarse, [None, Some(1)].into());
    assert_eq!(fine, [None, Some(0), Some(1)].into());
}

/// The exit signal of a child may end a process on its return from the kill that ended the child.
#[test]
fn a_caller_may_be_killed_before_it_sees_its_result() {
    let mut scene = Scene::new();
    assert_eq!(scene.fork(1), 2);
    let flags = Signal::TERM.number().into();
    let clone = Syscall::Clone { flags, clone3: None, parent_tid: 0, child_tid: 0 };
    assert_eq!(scene.value(2, clone), 3);
    for outcomes in outcomes(&scene, &[(2, kill(3, Signal::KILL))], |kernel, reaction| {
        let sees = |(pid, what): &(Pid, Observable)| {
            *pid == Pid(2) && matches!(what, Observable::Resumed(_))
        };
        (reaction.seen.iter().any(sees), kernel.exit_status(Pid(2)).map(|status| status.0))
    }) {
        let killed = Some(killed(Signal::TERM).0);
        assert_eq!(outcomes, [(false, killed), (true, killed)].into());
    }
}
