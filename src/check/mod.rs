//! Does the model explain a log? Where not: what it allows there instead, and by which rule.
//!
//! A log is a row of steps: a call, and all that comes of it. Calls are taken in the order in which
//! they begin. The lines of one thread must be in the model's order; the order between threads is
//! free, but for that no line comes before its cause. Where Linux leaves an order to timing, any
//! order that explains the rest of the log will do.
//!
//! The log of a tracer may show more than the model does: signals that are ignored, that stop or
//! kill, the stops of each thread, calls that these interrupt and that are made again, every return
//! of a handler. That has to fit what the model did, and may be missing.
//!
//! Each thread has its lines. The leader's end is that of the process, whenever it ended itself; of
//! a thread that others end, it has the status of the process, or 0 if another thread executes a
//! program.
//!
//! What the log cannot tell about its first process is unknown, and fixed by the first line that
//! shows it.
//!
//! ```
//! use proctable::{check, trace};
//!
//! let log = trace::read(b"1 fork() = 2\n1 kill(2, SIGTERM) = 0\n1 getppid() = 0\n")?;
//! let check::Verdict::Rejected(rejection) = check::check(&log) else { panic!("accepted") };
//! assert_eq!(
//!     rejection.to_string(),
//!     "3: after `1 kill(2, SIGTERM) = 0` the model has \
//!      `2 +++ killed by SIGTERM +++` (KILL-27, ZOM-01)"
//! );
//! # Ok::<(), trace::ParseError>(())
//! ```
//!
//! - `step`: the log cut into steps;
//! - `line`: what the model shows, and whether a line of the log says the same;
//! - `progress`: how much of the log is explained, and what only a tracer sees;
//! - `run`: one step on the model, line by line against the log;
//! - `search`: other orders, and other arguments of calls that the log does not show whole;
//! - `world`: what the log does not say about its first process;
//! - `guess`: what a mismatch says about that.

mod hypothesis;
mod initial_state;
mod line;
mod progress;
mod run;
mod search;
mod step;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::kernel::{Rule, Version};
use crate::trace::Log;
use initial_state::InitialState;
use search::LogSearch;

/// What came of checking a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The model explains it.
    Accepted(Summary),
    /// It does not.
    Rejected(Rejection),
}

/// What was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// How many calls the model explains.
    pub calls: usize,
    /// How many lines were skipped: calls that the model does not know.
    pub skipped: usize,
}

/// The place where the model and the log part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The line, from 1. For something that is missing: where the next step begins, or the last
    /// line.
    pub line: u32,
    /// What the log says there, and what the model allows instead.
    pub what: String,
    /// The rules behind it.
    pub rules: Vec<Rule>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)?;
        for (nth, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{rule}", if nth == 0 { " (" } else { ", " })?;
        }
        if self.rules.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// How many worlds are tried for what the log does not say.
const WORLDS: usize = 48;

/// Checks a sequential log against the model of the newest kernel.
///
/// Costs a step of the model for each line where only one order is possible. Where the log and
/// the canonical order differ, up to 400 others are tried for each step further, in up to 48
/// worlds: what was unknown at first.
pub fn check(log: &Log) -> Verdict {
    check_on(log, Version::NEWEST)
}

/// Checks a sequential log that was recorded on a kernel of that version, where kernels differ.
/// Costs what [`check`] does.
///
/// ```
/// use proctable::kernel::Version;
/// use proctable::{check, trace};
///
/// let log = trace::read(b"1 clone(child_stack=NULL, flags=0x41) = 2\n")?;
/// let bookworm = check::check_on(&log, Version::new(6, 1));
/// assert!(matches!(bookworm, check::Verdict::Accepted(_)));
/// assert!(matches!(check::check(&log), check::Verdict::Rejected(_)), "EINVAL since Linux 7.1");
/// # Ok::<(), trace::ParseError>(())
/// ```
pub fn check_on(log: &Log, version: Version) -> Verdict {
    let steps = match step::split(log) {
        Ok(steps) => steps,
        Err(rejection) => return Verdict::Rejected(rejection),
    };
    let Some(first) = InitialState::of(&steps, version) else {
        return Verdict::Accepted(Summary { calls: 0, skipped: steps.skipped });
    };
    let mut known = vec![first.clone()];
    let mut worlds = vec![first];
    let mut furthest: Option<Box<search::Mismatch<'_>>> = None;
    while let Some(world) = worlds.pop() {
        let mismatch = match LogSearch::new(&steps, &world).run() {
            Ok(()) => {
                let calls = steps.list.iter().filter(|step| step.is_call()).count();
                return Verdict::Accepted(Summary { calls, skipped: steps.skipped });
            }
            Err(mismatch) => mismatch,
        };
        // the likeliest comes last: it is tried first
        for guess in hypothesis::worlds(&world, &mismatch, &steps).into_iter().rev() {
            if known.len() < WORLDS && !known.contains(&guess) {
                known.push(guess.clone());
                worlds.push(guess);
            }
        }
        if furthest.as_ref().is_none_or(|best| best.step < mismatch.step) {
            furthest = Some(mismatch);
        }
    }
    // the loop ran at least once, and did not return
    furthest.map_or_else(
        || Verdict::Accepted(Summary { calls: 0, skipped: steps.skipped }),
        |mismatch| Verdict::Rejected(mismatch.rejection(&steps)),
    )
}
