//! Signals: a sender generates them at once, and the target delivers them later, when it runs.

mod action;
mod deliver;
mod generate;

pub use generate::Origin;
