//! The comparison: random programs on the live kernel and on the model, step by step.
//!
//! - `compare`: compares an observation of the kernel with the reaction of the model;
//! - `trial`: runs one program on both;
//! - `probe`: determines the properties of the running kernel;
//! - `record`: prints a trial as a log of strace, and as two columns;
//! - `coverage`: counts what the programs exercise;
//! - `terminal`: random programs for a terminal;
//! - `worker`: the process that runs trials, and its messages;
//! - `campaign`: runs workers on several CPUs and adds up their results.

mod campaign;
mod compare;
mod coverage;
mod probe;
mod record;
mod terminal;
mod trial;
mod worker;

pub use campaign::{
    Campaign, CampaignCounts, RunningKernel, Subject, Summary, replay, running_kernel,
};
pub use coverage::Coverage;
pub use trial::TrialConfig;
pub use worker::{Difference, Start, serve};
