//! The comparison: random programs on the live kernel and on the model, step by step.
//!
//! - `compare`: what was seen on the kernel against the reaction of the model;
//! - `trial`: one program on both;
//! - `record`: a trial as a log of strace, and as two columns;
//! - `coverage`: what the programs exercised;
//! - `worker`: the process that runs trials, and its messages;
//! - `campaign`: workers on several CPUs, and the sum of what they say.

mod campaign;
mod compare;
mod coverage;
mod record;
mod trial;
mod worker;

pub use campaign::{Campaign, Progress, Summary, replay};
pub use coverage::Coverage;
pub use trial::TrialConfig;
pub use worker::{Difference, serve};
