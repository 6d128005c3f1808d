//! Signals: generated at once by a sender, delivered later when the target runs.

mod action;
mod deliver;
mod generate;

pub use generate::Origin;
