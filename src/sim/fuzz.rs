//! The entry points of fuzzers: bytes choose events, and invariants are checked.
//!
//! The targets under `fuzz/` and a test without libFuzzer call the same functions.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Action, Generator, GeneratorEnv, Profile};
use crate::abi::{Pid, Signal, Time, Uid};
use crate::kernel::{Bytes, Choose, Config, Effects, Event, Granularity, Kernel, RuleSet};

/// An environment for programs that never run on a live kernel.
pub fn environment() -> GeneratorEnv {
    GeneratorEnv {
        config: Config::default(),
        handler: 0x40_1136,
        restorer: 0x40_1000,
        program: Some("./agent".into()),
        own_pid_max: true,
        last_pid: true,
        below_init: true,
        users: [Uid(60_000), Uid(60_001), Uid(60_002)].into(),
        threads: true,
        terminals: true,
        ordered: true,
    }
}

/// Applies events that `bytes` choose to a model: calls by processes that can make them and by
/// processes that cannot, single steps in any order, time, faults. Returns the final state.
///
/// # Errors
///
/// The first invariant that does not hold, or the first refused event that changed the state.
pub fn events(bytes: &[u8]) -> Result<Kernel, String> {
    let mut choices = Bytes(bytes);
    let profile = Profile::ALL[choices.choose(Profile::ALL.len())];
    let mut generator = Generator::new(profile, environment());
    let mut config = generator.config(&mut choices);
    config.granularity = [Granularity::Coarse, Granularity::Fine][choices.choose(2)];
    let mut kernel = Kernel::new(config);
    let mut fx = Effects::new();
    while !choices.0.is_empty() {
        fx.clear();
        let event = next_event(&kernel, &mut generator, &mut choices);
        let before = kernel.clone();
        let applied = kernel.apply(&event, &mut fx);
        if applied.is_err() && kernel != before {
            return Err(format!("{event:?} was refused and changed the state"));
        }
        if applied.is_ok() && *fx.rules() == RuleSet::EMPTY && !fx.list().is_empty() {
            return Err(format!("{event:?} has effects without a rule"));
        }
        kernel.check_invariants().map_err(|what| format!("after {event:?}: {what}"))?;
    }
    Ok(kernel)
}

fn next_event(kernel: &Kernel, generator: &mut Generator, choices: &mut Bytes) -> Event {
    let runnable = kernel.runnable_count();
    match choices.choose(16) {
        0 => Event::Advance(Time(
            kernel.now().0.wrapping_add(choices.choose(256) as u64 * 1_000_000),
        )),
        1 => Event::Fault { tid: any_pid(choices), signal: Signal::SEGV },
        2 => Event::Step { tid: any_pid(choices) },
        3..8 if runnable > 0 => {
            let nth = choices.choose(runnable.max(2)).min(runnable - 1);
            // there are more than `nth` runnable tasks
            Event::Step { tid: kernel.runnable().nth(nth).unwrap_or(Pid(0)) }
        }
        kind => match generator.next(kernel, choices) {
            Some(step) => match step.action {
                Action::Call(call) if kind == 8 => Event::Call { tid: any_pid(choices), call },
                Action::Call(call) if kind >= 13 => Event::Enter { tid: step.tid, call },
                Action::Call(call) => Event::Call { tid: step.tid, call },
                // these profiles make no such step
                Action::Concurrent(_) => Event::Advance(kernel.now()),
                Action::Elapse(nanos) => Event::Advance(kernel.now().after(nanos)),
            },
            None => Event::Advance(kernel.now()),
        },
    }
}

fn any_pid(choices: &mut Bytes) -> Pid {
    Pid(choices.choose(24) as u32)
}

/// Reads `bytes` as a log: the reader does not panic, and a log that was printed reads the same
/// again.
///
/// # Errors
///
/// A log that differs after it was printed and read again.
pub fn log(bytes: &[u8]) -> Result<(), String> {
    let Ok(log) = crate::trace::read(bytes) else { return Ok(()) };
    let text = log.to_string();
    match crate::trace::read(text.as_bytes()) {
        Ok(again) if again == log => Ok(()),
        Ok(again) => {
            let pairs = log.entries.iter().zip(&again.entries);
            let differs = pairs.into_iter().find(|(entry, again)| entry != again);
            Err(format!("printed it reads otherwise: {differs:?}\n{text}"))
        }
        Err(error) => Err(format!("printed it does not read: {error}\n{text}")),
    }
}
