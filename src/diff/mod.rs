//! The comparison: random programs on the live kernel and on the model, step by step.
//!
//! - `compare`: what was seen on the kernel against the reaction of the model;
//! - `trial`: one program on both;
//! - `probe`: which of the things that kernels do differently this one does;
//! - `record`: a trial as a log of strace, and as two columns;
//! - `coverage`: what the programs exercised;
//! - `worker`: the process that runs trials, and its messages;
//! - `campaign`: workers on several CPUs, and the sum of what they say.

mod campaign;
mod compare;
mod coverage;
mod probe;
mod record;
mod trial;
mod worker;

pub use campaign::{Campaign, CampaignCounts, RunningKernel, Summary, replay, running_kernel};
pub use coverage::Coverage;
pub use trial::TrialConfig;
pub use worker::{Difference, Start, serve};
