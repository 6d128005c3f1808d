//! Checks whether the model explains a log. A rejection names the line, the events that the model
//! allows there, and the rules.
//!
//! A log is a sequence of steps: a call, and all its consequences. The check runs calls in the
//! order in which they begin. The lines of one thread must be in the model's order; the order
//! between threads is free, except that no line precedes its cause. Where timing decides an order
//! on Linux, the check accepts any order that explains the rest of the log.
//!
//! The log of a tracer may show more events than the model: signals that are ignored, stop or kill;
//! the stops of each thread; calls that these signals interrupt and that restart; each return of a
//! handler. These lines have to agree with the model, and may be missing.
//!
//! Each thread has lines of its own. The end of the leader in the log is the end of the process,
//! also if the leader ended earlier. A thread that another thread ends has the status of the
//! process, or 0 if the other thread called execve.
//!
//! The state of the first process before the log is unknown; the first line that shows a part of it
//! sets that part.
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
//! - `step`: the steps of a log;
//! - `line`: the visible events of the model, and their comparison with lines;
//! - `progress`: the explained part of the log, and the lines that only a tracer shows;
//! - `run`: one step on the model, compared line by line with the log;
//! - `search`: other orders, and other arguments of calls that the log shows only in part;
//! - `initial_state`: the state of the first process before the log;
//! - `hypothesis`: the initial states that a mismatch suggests.

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

/// The result of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The model explains it.
    Accepted(Summary),
    /// The model does not explain it.
    Rejected(Rejection),
}

/// The size of the checked log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The number of calls that the model explains.
    pub calls: usize,
    /// The number of skipped lines: calls that the model does not have.
    pub skipped: usize,
}

/// The first place at which model and log differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The number of the line, from 1. For a missing line: the line at which the next step begins,
    /// or the last line.
    pub line: u32,
    /// The event in the log, and the event that the model allows instead.
    pub what: String,
    /// The rules that the model followed.
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

/// The limit on the number of initial states that the check tries.
const INITIAL_STATES: usize = 48;

/// Checks a sequential log against the model of the newest kernel.
///
/// Costs a step of the model for each line if only one order is possible. If the log and the
/// canonical order differ, the check tries up to 400 other orders for each further step, in up to
/// 48 initial states.
pub fn check(log: &Log) -> Verdict {
    check_on(log, Version::NEWEST)
}

/// Checks a sequential log that was recorded on a kernel of that version. Costs as much as
/// [`check`].
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
    let mut states = vec![first];
    let mut furthest: Option<Box<search::Mismatch<'_>>> = None;
    while let Some(initial) = states.pop() {
        let mismatch = match LogSearch::new(&steps, &initial).run() {
            Ok(()) => {
                let calls = steps.list.iter().filter(|step| step.is_call()).count();
                return Verdict::Accepted(Summary { calls, skipped: steps.skipped });
            }
            Err(mismatch) => mismatch,
        };
        // the likeliest is last, and is tried first
        for candidate in hypothesis::states(&initial, &mismatch, &steps).into_iter().rev() {
            if known.len() < INITIAL_STATES && !known.contains(&candidate) {
                known.push(candidate.clone());
                states.push(candidate);
            }
        }
        if furthest.as_ref().is_none_or(|best| best.step < mismatch.step) {
            furthest = Some(mismatch);
        }
    }
    // the loop ran at least once and did not return
    furthest.map_or_else(
        || Verdict::Accepted(Summary { calls: 0, skipped: steps.skipped }),
        |mismatch| Verdict::Rejected(mismatch.rejection(&steps)),
    )
}
