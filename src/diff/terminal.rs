//! Random programs for a terminal, on a pty of the kernel and on the model.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::worker::Difference;
use crate::host::{Controlling, RealTerminal};
use crate::kernel::Seeded;
use crate::sim::{
    ModelTerminal, TerminalPrivilege, TerminalResult, TerminalState, TerminalStep, terminal_program,
};
use crate::tty::PollFlags;

/// How long the kernel may take to carry bytes from one end to the other.
#[derive(Clone, Copy)]
struct Pace {
    /// The time before the first look at the state after a call that may move bytes, if an end had
    /// input before: a poll does not let the kernel's worker finish then (LD-19).
    before: Duration,
    /// The time until the state has to be the model's.
    within: Duration,
}

/// Nearly as fast as the states agree.
const FAST: Pace = Pace { before: Duration::from_micros(100), within: Duration::from_millis(3) };

const MEDIUM: Pace = Pace { before: Duration::from_millis(2), within: Duration::from_millis(20) };

/// A program with a difference is run again at this pace. The worker that carries bytes to the
/// other end may be late; a read or a poll of an end that has input does not wait for it (LD-19,
/// LD-20).
const SLOW: Pace = Pace { before: Duration::from_millis(20), within: Duration::from_millis(200) };

/// A step with its result and the state after it.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    result: Option<TerminalResult>,
    state: TerminalState,
}

/// How programs run.
pub(super) struct TerminalEnv {
    /// What the process may do.
    pub privilege: TerminalPrivilege,
    /// Programs that differ are made smaller.
    pub shrink: bool,
    /// What is done with each new terminal of the model.
    pub prepare: Box<dyn Fn(ModelTerminal) -> ModelTerminal>,
}

/// A program that has run on both.
pub(super) struct TerminalTrial {
    /// The number of calls.
    pub calls: u64,
    /// The number of bytes that were written and read.
    pub bytes: u64,
    /// Both sides, if they differ.
    pub difference: Option<Difference>,
    /// The first run differed because the kernel's worker was late.
    pub was_late: bool,
}

fn bytes_of(step: &TerminalStep, result: &Option<TerminalResult>) -> u64 {
    match (step, result) {
        (TerminalStep::Write(..), Some(TerminalResult::Number(number))) => *number as u64,
        (_, Some(TerminalResult::Bytes(bytes))) => bytes.len() as u64,
        _ => 0,
    }
}

/// Runs the steps until kernel and model differ. Returns what the kernel and the model did.
fn run(program: &[TerminalStep], env: &TerminalEnv, pace: Pace) -> io::Result<Vec<(Seen, Seen)>> {
    let mut real = RealTerminal::new(Controlling::Yes)?;
    let mut model = (env.prepare)(ModelTerminal::new(env.privilege));
    let mut seen = Vec::new();
    let mut had_input = false;
    for step in program {
        let result = model.run(step);
        let expected = Seen { result, state: model.state() };
        let result = real.run(step);
        if had_input && moves_bytes(step) {
            std::thread::sleep(pace.before);
        }
        had_input = has_input(&expected.state);
        let got = Seen { result, state: real.state_within(&expected.state, pace.within) };
        // no file can ask if all were hung up
        let settings = real.termios();
        let is_same = got == expected && settings.map_or(true, |got| got == *model.termios());
        seen.push((got, expected));
        if !is_same {
            break;
        }
    }
    Ok(seen)
}

/// Whether the kernel's worker may carry bytes because of a call.
fn moves_bytes(step: &TerminalStep) -> bool {
    !matches!(
        step,
        TerminalStep::Packet(_)
            | TerminalStep::SetWinsize(..)
            | TerminalStep::Signal(_)
            | TerminalStep::Lock(_)
            | TerminalStep::Exclusive(..)
    )
}

/// Whether an end has something to read.
fn has_input(state: &TerminalState) -> bool {
    let is_in = |poll: u16| PollFlags(poll).contains(PollFlags::IN);
    is_in(state.master_poll) || state.slave_poll.is_some_and(is_in)
}

fn differs(seen: &[(Seen, Seen)], program: &[TerminalStep]) -> bool {
    seen.len() < program.len() || seen.last().is_some_and(|(got, expected)| got != expected)
}

/// Runs program `index` on both.
pub(super) fn trial(
    seed: u64,
    index: u64,
    steps: u32,
    env: &TerminalEnv,
) -> io::Result<TerminalTrial> {
    let mut choose = Seeded::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(index));
    let mut program = terminal_program(&mut choose, steps as usize, env.privilege);
    let mut seen = run(&program, env, FAST)?;
    let mut was_late = false;
    for pace in [MEDIUM, SLOW] {
        if differs(&seen, &program) {
            seen = run(&program, env, pace)?;
            was_late = !differs(&seen, &program);
        }
    }
    let pairs = program.iter().zip(&seen);
    let bytes = pairs.map(|(step, (got, _))| bytes_of(step, &got.result)).sum();
    let calls = seen.len() as u64;
    let mut difference = None;
    if differs(&seen, &program) {
        program.truncate(seen.len());
        if env.shrink {
            shrink(&mut program, env)?;
        }
        let seen = run(&program, env, SLOW)?;
        difference = Some(describe(index, &program, &seen));
    }
    Ok(TerminalTrial { calls, bytes, difference, was_late })
}

/// Removes steps and bytes without which the program still differs.
fn shrink(program: &mut Vec<TerminalStep>, env: &TerminalEnv) -> io::Result<()> {
    let still = |program: &[TerminalStep]| -> io::Result<bool> {
        Ok(differs(&run(program, env, MEDIUM)?, program))
    };
    let mut nth = program.len();
    while nth > 0 {
        nth -= 1;
        let removed = program.remove(nth);
        if !still(program)? {
            program.insert(nth, removed);
        }
    }
    for nth in 0..program.len() {
        let TerminalStep::Write(end, bytes) = program[nth].clone() else { continue };
        let mut at = if bytes.len() > 100 { 0 } else { bytes.len() };
        let mut bytes = bytes;
        while at > 0 && bytes.len() > 1 {
            at -= 1;
            let byte = bytes.remove(at);
            program[nth] = TerminalStep::Write(end, bytes.clone());
            if !still(program)? {
                bytes.insert(at, byte);
            }
        }
        program[nth] = TerminalStep::Write(end, bytes);
    }
    Ok(())
}

fn describe(index: u64, program: &[TerminalStep], seen: &[(Seen, Seen)]) -> Difference {
    let mut text = String::new();
    for (nth, step) in program.iter().enumerate() {
        let _ = writeln!(text, "{:>3}  {step:?}", nth + 1);
        if let Some((got, expected)) = seen.get(nth) {
            let same = got.result == expected.result;
            let _ = match (&got.result, same) {
                (Some(result), true) => writeln!(text, "       = {result:?}"),
                (None, true) => Ok(()),
                (result, false) => {
                    let expected = &expected.result;
                    writeln!(text, "       = kernel {result:?}\n       = model  {expected:?}")
                }
            };
        }
    }
    if let Some((got, expected)) = seen.last() {
        if got.state != expected.state {
            let _ = writeln!(text, "kernel: {:?}\nmodel:  {:?}", got.state, expected.state);
        } else if got.result == expected.result {
            let _ = writeln!(text, "the settings differ, or the difference did not occur again");
        }
    }
    let log = text.clone();
    Difference { index, profile: "terminal".into(), text, log, options: String::new() }
}
