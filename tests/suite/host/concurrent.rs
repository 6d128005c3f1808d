//! Calls at the same time on all CPUs: the engine waits until all agents are quiescent.

use std::collections::BTreeSet;

use super::*;

const RUNS: u32 = 20;

/// A test namespace with process 1 and two children.
fn three(engine: &mut Engine) -> Play<'_> {
    assert!(engine.is_concurrent() && !engine.is_realtime());
    let mut play = Play::new(engine);
    assert_eq!((play.fork(1), play.fork(1)), (2, 3));
    play
}

fn post(play: &mut Play, chance: &mut Chance, pid: u32, call: Syscall) {
    let delay = chance.below(20_000) as u32;
    play.0.post(Pid(pid), &call, delay).unwrap();
}

/// The result of a call, or that it did not return.
fn outcome(seen: &Observation, pid: u32) -> String {
    returned(seen, pid).map_or("-".into(), |result| format!("{result:?}"))
}

/// Two processes kill each other while their parent waits: one kill may be too late.
pub(super) fn concurrent_kills_and_waits(engine: &mut Engine, _: Mode) -> String {
    let mut chance = Chance(0xace);
    let mut outcomes = BTreeSet::new();
    for _ in 0..RUNS {
        let mut play = three(engine);
        post(&mut play, &mut chance, 1, wait_any(NONE));
        post(&mut play, &mut chance, 2, kill(3, Signal::TERM));
        post(&mut play, &mut chance, 3, kill(2, Signal::KILL));
        // an agent accepts no second call while the first one is in flight
        let busy = play.0.post(Pid(1), &Syscall::Getpid, 0);
        assert_eq!(busy.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
        let seen = play.0.observe().unwrap();
        let ended: BTreeMap<u32, WaitStatus> =
            seen.ended.iter().map(|(pid, status)| (pid.0, status.unwrap())).collect();
        for (pid, signal) in [(2, Signal::KILL), (3, Signal::TERM)] {
            let alive = seen.views.get(&Pid(pid)).is_some_and(|view| view.run == RunState::User);
            let status = WaitStatus::killed(signal, false);
            assert!(alive != (ended.get(&pid) == Some(&status)), "{seen:?}");
        }
        assert!(!ended.is_empty());
        // process 1 has reaped one child, and the namespace is quiescent
        let first = seen.gone.first().expect("it waits for either").0;
        assert_eq!(returned(&seen, 1), Some(waited(first, ended[&first])));
        assert_eq!(play.0.observe().unwrap().events, []);
        outcomes.insert(format!("{ended:?} {first} {} {}", outcome(&seen, 2), outcome(&seen, 3)));
    }
    format!("{} outcomes in {RUNS} runs: {outcomes:?}", outcomes.len())
}

/// Concurrent calls of threads of one process: execve, exit_group, and clone.
pub(super) fn concurrent_calls_of_threads(engine: &mut Engine, _: Mode) -> String {
    let mut chance = Chance(0xbee);
    let mut outcomes = BTreeMap::<String, u32>::new();
    let flags = clone::VM | clone::SIGHAND | clone::THREAD;
    for _ in 0..RUNS {
        let mut play = three(engine);
        for tid in [4, 5] {
            assert_eq!(play.value(2, Syscall::clone_call(flags)), tid);
        }
        let exec = Syscall::Execve { path: SELF_PATH.into(), error: None };
        post(&mut play, &mut chance, 4, exec);
        post(&mut play, &mut chance, 5, Syscall::clone_call(flags));
        post(&mut play, &mut chance, 3, kill(2, Signal::STOP));
        if chance.below(2) == 0 {
            post(&mut play, &mut chance, 2, Syscall::ExitGroup(7));
        }
        let seen = play.0.observe().unwrap();
        let left: Vec<RunState> =
            seen.views.values().filter(|view| view.tgid == Pid(2)).map(|view| view.run).collect();
        // no thread survives: TG-23, TG-25, TG-114, TG-122
        let ended = seen.ended == [(Pid(2), Some(WaitStatus::exited(7)))];
        let stopped = left.iter().all(|run| *run == RunState::Stopped);
        // a stop is lost if a thread takes it while the execve of another thread waits for its end
        let executed = left == [RunState::User] && outcome(&seen, 2) == "Ok(Value(0))";
        assert!(if ended { left == [RunState::Zombie] } else { stopped || executed }, "{seen:?}");
        *outcomes.entry(format!("{left:?}")).or_default() += 1;
        let seen = play.kill(1, 2, Signal::CONT);
        let left = seen.views.values().filter(|view| view.tgid == Pid(2)).count();
        assert_eq!(left, 1, "{seen:?}");
    }
    format!("{outcomes:?}")
}

/// The oracle finds children that are stopped or killed before they have run.
pub(super) fn concurrent_signals_reach_new_tasks(engine: &mut Engine, _: Mode) -> String {
    let mut chance = Chance(0xcafe);
    let (mut outcomes, start) = (BTreeMap::<String, u32>::new(), Instant::now());
    for nth in 0..10 * RUNS {
        let mut play = three(engine);
        let flags = clone::VM | clone::SIGHAND | clone::THREAD;
        let make = match nth % 4 {
            0 => Syscall::Fork,
            1 => Syscall::Vfork,
            2 => Syscall::clone_call(flags),
            _ => Syscall::clone_call(flags | clone::VFORK),
        };
        let signal = if nth % 8 < 4 { Signal::STOP } else { Signal::KILL };
        play.value(2, Syscall::Setpgid { pid: 0, pgid: 0 });
        post(&mut play, &mut chance, 2, make);
        post(&mut play, &mut chance, 3, kill(-2, signal));
        let seen = play.0.observe().unwrap();
        let runs: Vec<(Pid, RunState)> = seen
            .views
            .iter()
            .filter(|(tid, _)| ![1, 3].contains(&tid.0))
            .map(|(tid, view)| (*tid, view.run))
            .collect();
        let rests = |(tid, run): &(Pid, RunState)| match run {
            RunState::Stopped | RunState::Vfork | RunState::Zombie => true,
            // TG-39: the thread that was chosen for the stop sleeps until this child ends
            RunState::User => seen.views[tid].shared.contains(Signal::STOP),
            RunState::Blocked => false,
        };
        assert!(runs.iter().all(rests), "{seen:?}");
        *outcomes.entry(format!("{signal:?} {runs:?}")).or_default() += 1;
        play.kill(1, -2, Signal::CONT);
        if let Some((child, _)) =
            runs.iter().find(|(pid, run)| pid.0 > 3 && *run == RunState::Stopped)
        {
            assert_eq!(play.value(child.0, Syscall::Gettid), i64::from(child.0));
        }
    }
    format!("{:?} per run: {outcomes:?}", start.elapsed() / (10 * RUNS))
}

/// NS-08: the oracle observes a child and its end if the parent has its number, also if process 1
/// ended before the child ran.
pub(super) fn concurrent_forks_race_the_exit_of_init(engine: &mut Engine, _: Mode) -> String {
    let mut chance = Chance(0xfade);
    let mut outcomes = BTreeMap::<String, u32>::new();
    for nth in 0..10 * RUNS {
        let mut play = three(engine);
        let flags = clone::VM | clone::SIGHAND | clone::THREAD;
        let make = if nth % 2 == 0 { Syscall::Fork } else { Syscall::clone_call(flags) };
        let makes_a_process = make == Syscall::Fork;
        post(&mut play, &mut chance, 2, make);
        post(&mut play, &mut chance, 1, Syscall::Exit(0));
        let seen = play.0.observe().unwrap();
        assert!(seen.ended.contains(&(Pid(1), Some(WaitStatus::exited(0)))), "{seen:?}");
        let result = outcome(&seen, 2);
        if let Some(Ok(Ret::Value(number))) = returned(&seen, 2) {
            let tid = Pid(number as u32);
            assert!(seen.created_tasks.contains(&tid), "{seen:?}");
            let ended = seen.ended.iter().any(|(pid, _)| *pid == tid);
            assert_eq!((ended, seen.gone.contains(&tid)), (makes_a_process, true), "{seen:?}");
        }
        *outcomes.entry(result).or_default() += 1;
    }
    format!("{outcomes:?}")
}
