//! Properties of the model: what holds after every event, whatever events come.

use proctable::kernel::{Canonical, Choose, Effects, Kernel, Seeded};
use proctable::sim::{Action, Generator, Profile, Reaction, Step, fuzz, react};
use proctable::syscall::Syscall;
use proptest::prelude::*;

/// Runs a random program on the model alone; `after` sees each state.
fn play(
    profile: Profile,
    seed: u64,
    steps: usize,
    choose: &mut dyn Choose,
    mut after: impl FnMut(&Step, &mut Kernel, &Reaction),
) -> Kernel {
    let mut generator = Generator::new(profile, seed, fuzz::surroundings());
    let mut kernel = Kernel::new(generator.config());
    for _ in 0..steps {
        let Some(step) = generator.next(&kernel) else { break };
        let stay = generator.stay_in_handlers();
        let leaves_nowhere = kernel.handler_depth(step.pid) == 0;
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

    /// The indices agree with what they index after every step, in every order of running.
    #[test]
    fn invariants_hold_after_every_step(profile in profiles(), seed: u64, order: u64) {
        let mut choose = Seeded::new(order);
        play(profile, seed, 120, &mut choose, |step, kernel, _| {
            if let Err(what) = kernel.check_invariants() {
                panic!("after {step:?}: {what}");
            }
        });
    }

    /// Every event that is refused changes nothing, and the invariants hold between events too.
    #[test]
    fn events_of_a_fuzzer_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        if let Err(what) = fuzz::events(&bytes) {
            panic!("{what}");
        }
    }

    /// A snapshot that was serialised and restored is equal, and goes on identically.
    #[cfg(feature = "serde")]
    #[test]
    fn a_restored_snapshot_goes_on_identically(profile in profiles(), seed: u64, order: u64) {
        let mut choose = Seeded::new(order);
        let kernel = play(profile, seed, 60, &mut choose, |_, _, _| {});
        let text = serde_json::to_string(&kernel).expect("a kernel can be serialised");
        let mut restored: Kernel = serde_json::from_str(&text).expect("and restored");
        prop_assert_eq!(&restored, &kernel);
        let mut original = kernel;
        let mut generator = Generator::new(profile, seed ^ 1, fuzz::surroundings());
        for _ in 0..40 {
            let Some(step) = generator.next(&original) else { break };
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

/// Nothing is left to do by itself when `settle` returns.
#[test]
fn settle_leaves_nobody_runnable() {
    for seed in 0..50 {
        play(Profile::Mixed, seed, 60, &mut Canonical, |_, kernel, _| {
            kernel.settle(&mut Canonical, &mut Effects::new());
            assert_eq!(kernel.runnable().len(), 0);
        });
    }
}

/// Every effect carries who acted and a rule; calls are named.
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

/// The logs of the samples and pieces of them go through the parser as a fuzzer's bytes do.
#[test]
fn a_short_run_of_the_log_fuzzer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces/sequential");
    let mut random = Seeded::new(1);
    for entry in std::fs::read_dir(folder).expect("the samples are there") {
        let mut bytes = std::fs::read(entry.expect("a sample").path()).expect("it can be read");
        fuzz::log(&bytes).expect("a whole sample survives");
        for _ in 0..20 {
            let at = random.below(bytes.len());
            bytes[at] = random.next_u64() as u8;
            fuzz::log(&bytes).expect("a damaged sample survives or is refused");
        }
    }
}
