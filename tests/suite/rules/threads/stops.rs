//! Stops of processes with threads.

use super::*;

const CONTINUED: WaitOptions = WaitOptions::CONTINUED.with(WaitOptions::NOHANG);

/// Process 2 in a group of its own, which is not orphaned.
fn job(threads: u32, signals: &[i32]) -> Scene {
    let mut scene = catching(threads, signals);
    scene.setpgid(1, 2, 2);
    scene
}

/// The codes and statuses of the SIGCHLDs that process 1 caught in the last step.
fn child_signals(scene: &Scene) -> Vec<(SiCode, u64)> {
    scene.handled(1).iter().map(|info| (info.code, info.value)).collect()
}

fn listen(scene: &mut Scene) {
    scene.catch(1, Signal::CHLD, SaFlags(0), SigSet::EMPTY);
}

#[test]
fn tg_125_all_threads_stop_and_the_parent_is_notified_once() {
    for case in 0..3 {
        let mut scene = process(3);
        listen(&mut scene);
        match case {
            0 => shared(&mut scene, 2, 19),
            1 => send(&mut scene, 3, Signal::STOP),
            _ => scene.kill(4, 2, Signal::STOP),
        }
        // JOB-09
        assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Stopped; 3]);
        let infos = scene.handled(1);
        assert_eq!(infos.len(), 1);
        assert_eq!((infos[0].pid, infos[0].value), (Pid(2), 19));
        assert!(stopped(&mut scene) && !stopped(&mut scene));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_126_a_thread_in_vfork_delays_the_stop() {
    for case in 0..3 {
        let mut scene = process(4);
        listen(&mut scene);
        let (sleeper, others) = if case == 2 { (3, [4, 5]) } else { (2, [3, 4]) };
        if case == 2 {
            exit_thread(&mut scene, 2, 0);
        }
        let thread = Syscall::clone_call(THR | clone::VFORK);
        scene.call(sleeper, if case == 1 { thread } else { Syscall::Vfork });
        // the target task can take it: a signal for a thread in vfork waits (TG-39)
        shared(&mut scene, others[0], 19);
        assert_eq!(scene.run(sleeper), RunState::Vfork);
        assert_eq!(runs(&scene, &others), [RunState::Stopped; 2]);
        if case == 1 {
            // the new thread stops, and so does not end
            assert_eq!(scene.run(6), RunState::Stopped);
        } else {
            assert_eq!((child_signals(&scene), stopped(&mut scene)), (vec![], false));
            scene.exit(6, 0);
            assert_eq!(scene.run(sleeper), RunState::Stopped);
            assert!(stopped(&mut scene));
        }
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_127_sigcont_during_a_stop_is_reported_as_a_stop_without_a_signal() {
    let mut scene = process(3);
    listen(&mut scene);
    scene.call(2, Syscall::Vfork);
    shared(&mut scene, 3, 19);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Vfork, RunState::Stopped, RunState::Stopped]);
    shared(&mut scene, 2, 18);
    // JOB-13
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Vfork, RunState::User, RunState::User]);
    assert_eq!(child_signals(&scene), [(SiCode::CLD_STOPPED, 0)]);
    assert!(!stopped(&mut scene));
    assert_eq!(scene.result(1, wait_for(2, CONTINUED)), waited(2, WaitStatus::CONTINUED));
    assert_eq!(scene.result(1, wait_for(2, CONTINUED)), NOTHING);
    scene.same_on_the_kernel();
}

#[test]
fn tg_128_only_sigkill_ends_a_stopped_process() {
    for incomplete in [false, true] {
        for fatal in [kill(2, Signal::KILL), tgkill(2, 3, Signal::KILL)] {
            let mut scene = process(3);
            if incomplete {
                scene.call(2, Syscall::Vfork);
            }
            shared(&mut scene, 3, 19);
            // a signal to the process would end the thread in vfork, and so all threads
            send(&mut scene, 3, Signal::TERM);
            assert_eq!((scene.run(3), scene.view(3).private), (RunState::Stopped, set(&[15])));
            scene.call(1, fatal);
            ended(&mut scene, killed(Signal::KILL));
            scene.same_on_the_kernel();
        }
    }
    let mut scene = process(3);
    for number in [19, 15, 18] {
        shared(&mut scene, 2, number);
    }
    ended(&mut scene, killed(Signal::TERM));
    scene.same_on_the_kernel();
}

#[test]
fn tg_129_sigcont_continues_all_threads_even_if_all_block_it() {
    for private in [false, true] {
        let mut scene = process(3);
        for tid in 2..=4 {
            scene.block(tid, set(&[18]));
        }
        shared(&mut scene, 2, 19);
        if private {
            send(&mut scene, 4, Signal::CONT);
        } else {
            shared(&mut scene, 2, 18);
        }
        assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
        let view = scene.view(4);
        assert_eq!(if private { view.private } else { view.shared }, set(&[18]));
        assert_eq!(scene.result(1, wait_for(2, CONTINUED)), waited(2, WaitStatus::CONTINUED));
        assert_eq!(scene.result(1, wait_for(2, CONTINUED)), NOTHING);
        scene.same_on_the_kernel();
    }
}

#[test]
fn tg_130_the_handler_of_sigcont_runs_once() {
    let mut scene = catching(3, &[18]);
    for (blocking, taker) in [(false, 2), (true, 3)] {
        if blocking {
            scene.block(2, set(&[18]));
        }
        shared(&mut scene, 2, 19);
        shared(&mut scene, 2, 18);
        assert_eq!(handled(&scene), [(taker, 18)]);
    }
    shared(&mut scene, 2, 19);
    send(&mut scene, 4, Signal::CONT);
    assert_eq!(handled(&scene), [(4, 18)]);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_131_sigcont_and_stops_discard_each_other_for_all_threads() {
    let mut scene = job(3, &[]);
    for tid in 2..=4 {
        scene.block(tid, set(&[18, 20]));
    }
    shared(&mut scene, 2, 20);
    send(&mut scene, 3, Signal::TSTP);
    send(&mut scene, 4, Signal::CONT);
    assert_eq!((scene.view(2).shared, scene.view(3).private), (SigSet::EMPTY, SigSet::EMPTY));
    assert_eq!(scene.view(4).private, set(&[18]));
    send(&mut scene, 3, Signal::TSTP);
    assert_eq!((scene.view(3).private, scene.view(4).private), (set(&[20]), SigSet::EMPTY));
    scene.same_on_the_kernel();
}

#[test]
fn tg_132_a_blocked_stop_signal_stops_all_threads_when_it_is_unblocked() {
    let mut scene = job(3, &[]);
    scene.block(3, set(&[20]));
    send(&mut scene, 3, Signal::TSTP);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
    scene.unblock(3, set(&[20]));
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Stopped; 3]);
    let stop = wait_for(2, UNTRACED);
    assert_eq!(scene.result(1, stop), waited(2, WaitStatus::stopped(Signal::TSTP)));
    shared(&mut scene, 2, 18);
    // another thread takes it
    scene.block(2, set(&[20]));
    shared(&mut scene, 2, 20);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Stopped; 3]);
    shared(&mut scene, 2, 18);
    // no thread takes it
    scene.block(3, set(&[20]));
    scene.block(4, set(&[20]));
    shared(&mut scene, 2, 20);
    assert_eq!((scene.run(2), scene.view(2).shared), (RunState::User, set(&[20])));
    scene.same_on_the_kernel();
}

#[test]
fn tg_133_a_handler_of_a_stop_signal_runs_in_one_thread_and_no_thread_stops() {
    let mut scene = job(3, &[20]);
    shared(&mut scene, 3, 20);
    assert_eq!(handled(&scene), [(3, 20)]);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_134_of_several_stop_signals_the_lowest_is_the_status() {
    let mut scene = job(3, &[]);
    listen(&mut scene);
    at_once(&mut scene, 2, &[20, 21, 19]);
    assert_eq!(child_signals(&scene), [(SiCode::CLD_STOPPED, 19)]);
    assert!(stopped(&mut scene));
    // one more SIGSTOP stays pending until SIGCONT
    shared(&mut scene, 3, 19);
    assert_eq!((child_signals(&scene), stopped(&mut scene)), (vec![], false));
    assert!(scene.view(2).shared.contains(Signal::STOP));
    shared(&mut scene, 2, 18);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
    assert_eq!(scene.view(2).shared, SigSet::EMPTY);
    scene.same_on_the_kernel();
}

#[test]
fn tg_135_a_process_with_a_dead_leader_stops_and_continues() {
    let mut scene = job(3, &[]);
    listen(&mut scene);
    exit_thread(&mut scene, 2, 3);
    shared(&mut scene, 2, 19);
    // JOB-19, WAIT-35
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Zombie, RunState::Stopped, RunState::Stopped]);
    assert_eq!(child_signals(&scene), [(SiCode::CLD_STOPPED, 19)]);
    assert!(stopped(&mut scene));
    shared(&mut scene, 2, 18);
    assert_eq!(scene.result(1, wait_for(2, CONTINUED)), waited(2, WaitStatus::CONTINUED));
    for tid in [3, 4] {
        scene.block(tid, set(&[20]));
    }
    shared(&mut scene, 2, 20);
    scene.unblock(3, set(&[20]));
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::Zombie, RunState::Stopped, RunState::Stopped]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_137_a_thread_handles_signals_of_a_stop_when_it_runs() {
    let mut scene = catching(3, &[10, 18]);
    scene.call(3, Syscall::Pause);
    shared(&mut scene, 2, 19);
    send(&mut scene, 4, Signal::USR1);
    assert_eq!(handled(&scene), []);
    shared(&mut scene, 2, 18);
    assert_eq!(handled(&scene), [(2, 18), (4, 10)]);
    assert_eq!((scene.returned(3), scene.run(3)), (None, RunState::Blocked));
    scene.same_on_the_kernel();
}

#[test]
fn tg_138_a_stop_that_is_continued_before_any_thread_stops_leaves_no_trace() {
    let mut scene = process(3);
    listen(&mut scene);
    at_once(&mut scene, 2, &[19, 18]);
    assert_eq!(runs(&scene, &[2, 3, 4]), [RunState::User; 3]);
    let any = UNTRACED.with(CONTINUED);
    assert_eq!((child_signals(&scene), scene.result(1, wait_for(2, any))), (vec![], NOTHING));
    scene.same_on_the_kernel();
}

/// On the model only: on the kernel this is a race.
#[test]
fn tg_139_a_thread_that_ends_counts_as_stopped() {
    // JOB-16
    for leader_ends in [false, true] {
        let mut scene = process(3);
        let (ends, first) = if leader_ends { (2, 3) } else { (3, 2) };
        let mut fx = Effects::new();
        let kernel = &mut scene.kernel;
        kernel.call(Pid(1), &kill(first as i32, Signal::STOP), &mut fx).expect("it kills");
        // one thread begins the stop, the other ends before it has stopped
        let step = proctable::kernel::Event::Step { tid: Pid(first) };
        kernel.apply(&step, &mut fx).expect("it stops");
        kernel.call(Pid(ends), &Syscall::Exit(0), &mut fx).expect("it ends");
        kernel.settle(&mut Canonical, &mut fx);
        kernel.check_invariants().expect("the invariants hold");
        reached::note(&fx);
        assert!(fx.rules().contains(proctable::rule!("TG-139")));
        let stops = fx.list().iter().filter(|e| matches!(e.what, Consequence::Stopped(_)));
        assert_eq!(stops.count(), 1);
        assert_eq!(runs(&scene, &[first, 4]), [RunState::Stopped; 2]);
    }
}
