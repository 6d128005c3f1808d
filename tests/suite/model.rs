//! Properties of the model: the invariants after every event, for any sequence of events.

use std::collections::HashSet;

use proctable::abi::{
    Errno, Handler, Itimerval, Pid, Resource, Rlimit, SigAction, Signal, Timeval, WaitOptions,
    WaitStatus,
};
use proctable::kernel::{Bytes, Canonical, Choose, Config, Effects, Kernel, Outcome, Seeded};
use proctable::rule;
use proctable::sim::{Action, Generator, Profile, Reaction, Step, fuzz, react};
use proctable::syscall::{Class, Ptr, Ret, Syscall, clone};
use proptest::prelude::*;

/// Runs the random program of a seed on the model alone; `after` sees each state.
fn play(
    profile: Profile,
    seed: u64,
    steps: usize,
    choose: &mut dyn Choose,
    after: impl FnMut(&Step, &mut Kernel, &Reaction),
) -> Kernel {
    play_chosen(profile, &mut Seeded::new(seed), steps, choose, after)
}

/// As [`play`], with a program of other choices.
fn play_chosen(
    profile: Profile,
    program: &mut dyn Choose,
    steps: usize,
    choose: &mut dyn Choose,
    mut after: impl FnMut(&Step, &mut Kernel, &Reaction),
) -> Kernel {
    let mut generator = Generator::new(profile, fuzz::environment());
    let mut kernel = Kernel::new(generator.config(program));
    for _ in 0..steps {
        let Some(step) = generator.next(&kernel, program) else { break };
        let stay = generator.stay_in_handlers();
        let leaves_nowhere = kernel.handler_depth(step.tid) == 0;
        if step.action == Action::Call(Syscall::RtSigreturn) && leaves_nowhere {
            continue;
        }
        if let Ok(reaction) = react(&mut kernel, &step, stay, choose) {
            after(&step, &mut kernel, &reaction);
        }
    }
    kernel
}

fn profiles() -> impl Strategy<Value = Profile> {
    prop::sample::select(Profile::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// The indices agree with the data after every step, in every order of the tasks.
    #[test]
    fn invariants_hold_after_every_step(profile in profiles(), seed: u64, order: u64) {
        let mut choose = Seeded::new(order);
        play(profile, seed, 120, &mut choose, |step, kernel, _| {
            if let Err(what) = kernel.check_invariants() {
                panic!("after {step:?}: {what}");
            }
        });
    }

    /// The same for programs from bytes, so that a failing program is shrunk.
    #[test]
    fn invariants_hold_in_programs_of_bytes(
        profile in profiles(),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        order: u64,
    ) {
        let mut choose = Seeded::new(order);
        play_chosen(profile, &mut Bytes(&bytes), 120, &mut choose, |step, kernel, _| {
            if let Err(what) = kernel.check_invariants() {
                panic!("after {step:?}: {what}");
            }
        });
    }

    /// A refused event changes nothing, and the invariants hold between events too.
    #[test]
    fn events_of_a_fuzzer_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        if let Err(what) = fuzz::events(&bytes) {
            panic!("{what}");
        }
    }

    /// A snapshot that was serialised and restored is equal, and continues identically.
    #[cfg(feature = "serde")]
    #[test]
    fn a_restored_snapshot_continues_identically(profile in profiles(), seed: u64, order: u64) {
        let mut choose = Seeded::new(order);
        let kernel = play(profile, seed, 60, &mut choose, |_, _, _| {});
        let text = serde_json::to_string(&kernel).expect("a kernel can be serialised");
        let mut restored: Kernel = serde_json::from_str(&text).expect("and restored");
        prop_assert_eq!(&restored, &kernel);
        let mut original = kernel;
        let mut generator = Generator::new(profile, fuzz::environment());
        let mut program = Seeded::new(seed ^ 1);
        for _ in 0..40 {
            let Some(step) = generator.next(&original, &mut program) else { break };
            let reactions = [&mut original, &mut restored]
                .map(|kernel| react(kernel, &step, true, &mut Seeded::new(order)));
            prop_assert_eq!(&reactions[0], &reactions[1]);
            prop_assert_eq!(&original, &restored);
        }
    }

    /// The same events give the same state and the same effects.
    #[test]
    fn the_model_is_deterministic(profile in profiles(), seed: u64, order: u64) {
        let run = || {
            let mut effects = Vec::new();
            let kernel = play(profile, seed, 60, &mut Seeded::new(order), |_, _, reaction| {
                effects.push(reaction.clone());
            });
            (kernel, effects)
        };
        prop_assert_eq!(run(), run());
    }
}

/// A call sleeps, or does not return, only if its class says so.
#[test]
fn calls_are_of_their_class() {
    for seed in 0..200 {
        let profile = Profile::ALL[seed as usize % Profile::ALL.len()];
        let mut program = Seeded::new(seed);
        let mut generator = Generator::new(profile, fuzz::environment());
        let mut kernel = Kernel::new(generator.config(&mut program));
        for _ in 0..60 {
            let Some(step) = generator.next(&kernel, &mut program) else { break };
            let Action::Call(call) = step.action else { continue };
            let outcome = kernel.call(step.tid, &call, &mut Effects::new());
            kernel.settle(&mut Canonical, &mut Effects::new());
            match (call.class(), outcome) {
                (Class::Returns | Class::MaySleep, Ok(Outcome::Returned(_)))
                | (Class::MaySleep, Ok(Outcome::Blocked))
                | (Class::NeverReturns, Ok(Outcome::Gone)) => {}
                (class, outcome) => panic!("{call:?} is of class {class:?}: {outcome:?}"),
            }
        }
    }
}

/// Bytes choose calls and their arguments; bytes after the used ones are not read.
#[test]
fn bytes_determine_calls_and_their_arguments() {
    let kernel = Kernel::new(Config::default());
    let first_call = |bytes: &[u8]| {
        let mut generator = Generator::new(Profile::Mixed, fuzz::environment());
        generator.next(&kernel, &mut Bytes(bytes)).expect("the init can act").action
    };
    let mut calls = HashSet::new();
    for kind in 0..=255 {
        for argument in 0..=255 {
            if let Action::Call(call) = first_call(&[0, kind, argument, argument, argument]) {
                calls.insert(call);
            }
        }
    }
    let signals = calls.iter().filter(|call| matches!(call, Syscall::Kill { .. })).count();
    assert!(signals > 20, "{signals} calls of kill");
    assert!(calls.len() > 300, "{} calls", calls.len());
    assert_eq!(first_call(&[0, 0, 1, 2]), first_call(&[0, 0, 3, 4]));
}

/// A choice among many alternatives takes as many bytes as it needs.
#[test]
fn a_choice_takes_the_bytes_that_it_needs() {
    let mut bytes = Bytes(&[7, 1, 0, 0x0f, 0x42, 0x40, 9]);
    assert_eq!(bytes.choose(256), 7);
    assert_eq!(bytes.choose(257), 256);
    assert_eq!(bytes.choose(16_000_000), 1_000_000);
    assert_eq!(bytes.0, [9]);
    assert_eq!(bytes.choose(257), 0);
}

/// No task has a step to make when `settle` returns.
#[test]
fn settle_leaves_no_task_runnable() {
    for seed in 0..50 {
        play(Profile::Mixed, seed, 60, &mut Canonical, |_, kernel, _| {
            kernel.settle(&mut Canonical, &mut Effects::new());
            assert_eq!(kernel.runnable_count(), 0);
        });
    }
}

/// Every effect has an actor and a rule; its call has a name.
#[test]
fn every_effect_has_a_cause() {
    for seed in 0..50 {
        play(Profile::Mixed, seed, 60, &mut Canonical, |_, _, reaction| {
            for effect in reaction.effects.list() {
                assert!(reaction.effects.rules().contains(effect.cause.rule), "{effect}");
                assert!(effect.to_string().contains(&effect.cause.rule.to_string()), "{effect}");
            }
        });
    }
}

/// Without rules the effects are the same, and no rule is noted.
#[test]
fn effects_are_the_same_without_rules() {
    let calls = [
        Syscall::Fork,
        Syscall::Kill { pid: 2, sig: 19 },
        Syscall::Setpgid { pid: 2, pgid: 2 },
        Syscall::Kill { pid: -2, sig: 18 },
        Syscall::Kill { pid: 3, sig: 0 },
    ];
    let mut kernel = Kernel::new(Config::default());
    let mut other = kernel.clone();
    let (mut noted, mut bare) = (Effects::new(), Effects::without_rules());
    for call in &calls {
        assert_eq!(kernel.call(Pid(1), call, &mut noted), other.call(Pid(1), call, &mut bare));
        kernel.settle(&mut Canonical, &mut noted);
        other.settle(&mut Canonical, &mut bare);
    }
    assert_eq!((kernel, noted.list()), (other, bare.list()));
    assert_eq!((noted.last_rule(), bare.last_rule()), (Some(rule!("KILL-06")), None));
    assert!(noted.list().len() > 4 && bare.rules().iter().next().is_none());
}

/// The logs of the samples, and pieces of them, go through the parser like the bytes of a fuzzer.
#[test]
fn a_short_run_of_the_log_fuzzer() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces/sequential");
    let mut random = Seeded::new(1);
    for entry in std::fs::read_dir(directory).expect("the samples are there") {
        let mut bytes = std::fs::read(entry.expect("a sample").path()).expect("it can be read");
        fuzz::log(&bytes).expect("a whole sample survives");
        for _ in 0..20 {
            let at = random.below(bytes.len());
            bytes[at] = random.next_u64() as u8;
            fuzz::log(&bytes).expect("a damaged sample survives or is refused");
        }
    }
}

/// Makes calls that return at once, one after the other.
struct Calls(Kernel, Effects);

impl Calls {
    fn new() -> Calls {
        Calls::with(Config::default())
    }

    fn with(config: Config) -> Calls {
        Calls(Kernel::new(config), Effects::new())
    }

    fn call(&mut self, pid: u32, call: Syscall) -> Result<Ret, Errno> {
        let outcome = self.0.call(Pid(pid), &call, &mut self.1).expect("it can act");
        self.0.settle(&mut Canonical, &mut self.1);
        match outcome {
            Outcome::Returned(result) => result,
            _ => Ok(Ret::Never),
        }
    }

    fn clone(&mut self, pid: u32, flags: u64) -> Result<Ret, Errno> {
        self.call(pid, Syscall::clone_call(flags))
    }

    fn exec(&mut self, pid: u32) -> Result<Ret, Errno> {
        self.call(pid, Syscall::Execve { path: "/bin/true".into(), error: None })
    }
}

/// FORK-21, EXEC-09: the exec count of a sibling's parent is that of its creator.
#[test]
fn a_sibling_of_a_child_from_before_an_exec_has_the_same_exec_count() {
    let mut calls = Calls::new();
    assert_eq!(calls.call(1, Syscall::Fork), Ok(Ret::Value(2)));
    assert_eq!(calls.clone(2, 10), Ok(Ret::Value(3)));
    assert_eq!(calls.exec(2), Ok(Ret::Value(0)));
    let both = Signal::USR1.set() | Signal::CHLD.set();
    let block = Syscall::RtSigprocmask { how: 0, set: Some(both), old: Ptr::Null, size: 8 };
    assert_eq!(calls.call(2, block), Ok(Ret::Mask(None)));
    assert_eq!(calls.clone(3, clone::PARENT), Ok(Ret::Value(4)));
    assert_eq!(calls.call(4, Syscall::Exit(0)), Ok(Ret::Never));
    let pending = Syscall::RtSigpending { set: Ptr::Valid, size: 8 };
    assert_eq!(calls.call(2, pending), Ok(Ret::Pending(Signal::CHLD.set())));
}

/// LIM-05: a fork that is allowed clears the mark of its caller, and the child has it.
#[test]
fn a_fork_clears_the_mark_of_too_many_tasks() {
    let mut calls = Calls::new();
    for child in [2, 3] {
        assert_eq!(calls.call(1, Syscall::Fork), Ok(Ret::Value(child)));
    }
    let user = 1000;
    let become_user = |real, rest| Syscall::Setresuid { real, effective: rest, saved: rest };
    assert_eq!(calls.call(3, become_user(user, user)), Ok(Ret::Value(0)));
    let none = Some(Rlimit { soft: 0, hard: 100 });
    let limit = Syscall::Prlimit { pid: 0, resource: Resource::NPROC, new: none, old: Ptr::Null };
    assert_eq!(calls.call(2, limit), Ok(Ret::Limit(None)));
    assert_eq!(calls.call(2, become_user(user, 0)), Ok(Ret::Value(0)));
    assert_eq!(calls.call(2, Syscall::Fork), Ok(Ret::Value(4)));
    assert_eq!(calls.exec(2), Ok(Ret::Value(0)));
    assert_eq!(calls.exec(4), Err(Errno::EAGAIN));
}

/// FORK-18, FORK-26: clone drops flags that clone3 refuses or takes.
#[test]
fn the_flags_of_clone_and_of_clone3() {
    let mut calls = Calls::new();
    let action = SigAction { handler: Handler::Catch(1), ..SigAction::DEFAULT };
    let act = Syscall::RtSigaction { sig: 10, act: Some(action), old: Ptr::Null, size: 8 };
    assert_eq!(calls.call(1, act), Ok(Ret::Action(None)));
    assert_eq!(calls.clone(1, clone::CLEAR_SIGHAND | 17), Ok(Ret::Value(2)));
    assert_eq!(calls.0.view(Pid(2)).map(|view| view.caught), Some(Signal::USR1.set()));
    for (flags, expected) in [
        (1 << 40, Err(Errno::EINVAL)),
        (clone::DETACHED, Err(Errno::EINVAL)),
        (17, Err(Errno::EINVAL)),
        (clone::NEWTIME, Ok(Ret::Value(3))),
    ] {
        let call = Syscall::clone3_call(flags, 17);
        assert_eq!(calls.call(1, call), expected, "{flags:#x}");
    }
}

/// TIME-05: the kernel's times end at 2^63 nanoseconds.
#[test]
fn a_long_period_is_cut() {
    let mut calls = Calls::new();
    let long = Timeval { sec: 10_000_000_000, usec: 0 };
    let new = Some(Itimerval { interval: long, value: Timeval { sec: 100, usec: 0 } });
    let set = Syscall::Setitimer { which: 0, new, old: Ptr::Null };
    assert_eq!(calls.call(1, set), Ok(Ret::Itimer(None)));
    let longest = Timeval { sec: 9_223_372_036, usec: 854_775 };
    let left = Itimerval { interval: longest, value: Timeval { sec: 100, usec: 0 } };
    assert_eq!(calls.call(1, Syscall::Getitimer { which: 0 }), Ok(Ret::Itimer(Some(left))));
}

/// TG-99: no thread of an init keeps children, whichever thread ends last.
#[test]
fn an_init_with_threads_ends_in_every_order() {
    for seed in 0..64 {
        let mut choose = Seeded::new(seed);
        let mut kernel = Kernel::new(Config::default());
        let mut call = |tid: u32, call: Syscall| {
            let outcome = kernel.call(Pid(tid), &call, &mut Effects::new());
            kernel.settle(&mut choose, &mut Effects::new());
            let held = kernel.check_invariants();
            assert_eq!(held, Ok(()), "order {seed}, {call:?} by {tid}");
            outcome
        };
        let thread = clone::THREAD | clone::VM | clone::SIGHAND;
        let create = Syscall::Clone { flags: thread, clone3: None, parent_tid: 0, child_tid: 0 };
        let made = [
            (1, create.clone(), 2),
            (2, create, 3),
            (1, Syscall::Fork, 4),
            (2, Syscall::Fork, 5),
            (3, Syscall::Fork, 6),
        ];
        for (tid, create, made) in made {
            assert_eq!(call(tid, create), Ok(Outcome::Returned(Ok(Ret::Value(made)))));
        }
        assert_eq!(call(5, Syscall::ExitGroup(0)), Ok(Outcome::Gone));
        call(2, Syscall::ExitGroup(7)).expect("it runs");
        let status = kernel.exit_status(Pid(1));
        assert_eq!(status, Some(WaitStatus::exited(7)), "order {seed}");
        assert_eq!((kernel.len(), kernel.task_count()), (1, 1), "order {seed}");
    }
}

/// The identity of a process stays the same until the process is reaped, also if a thread other
/// than the leader calls execve (EXEC-12). A later process of the number has another identity.
#[test]
fn an_identity_outlives_its_number() {
    let mut calls = Calls::with(Config { pid_max: 303, last_pid: 299, ..Config::default() });
    assert_eq!(calls.call(1, Syscall::Fork), Ok(Ret::Value(300)));
    let child = calls.0.pid_id(Pid(300)).expect("the child lives");
    let flags = clone::THREAD | clone::VM | clone::SIGHAND;
    let create = Syscall::Clone { flags, clone3: None, parent_tid: 0, child_tid: 0 };
    assert_eq!(calls.call(300, create), Ok(Ret::Value(301)));
    let thread = calls.0.pid_id(Pid(301)).expect("the thread lives");
    let exec = Syscall::Execve { path: "/bin/true".into(), error: None };
    let outcome = calls.0.call(Pid(301), &exec, &mut calls.1);
    assert_eq!(outcome, Ok(Outcome::Blocked), "the leader has to end first");
    calls.0.settle(&mut Canonical, &mut calls.1);
    assert_eq!(calls.0.pid(child), Some(Pid(300)));
    assert_eq!(calls.0.pid(thread), None);
    assert_eq!(calls.call(300, Syscall::ExitGroup(0)), Ok(Ret::Never));
    let wait = Syscall::Wait4 { pid: 300, status: Ptr::Null, options: WaitOptions(0) };
    calls.call(1, wait).expect("the child is reaped");
    assert_eq!(calls.0.pid(child), None);
    for next in [302, 300] {
        assert_eq!(calls.call(1, Syscall::Fork), Ok(Ret::Value(next)));
    }
    assert_eq!(calls.0.pid(child), None);
    assert_ne!(calls.0.pid_id(Pid(300)), Some(child));
}
