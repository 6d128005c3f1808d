//! The interface of the model: events, effects, rules, settings, queries.

pub(in crate::kernel) mod config;
pub(in crate::kernel) mod effect;
pub(in crate::kernel) mod event;
pub(in crate::kernel) mod identity;
pub(in crate::kernel) mod rule;
#[cfg(feature = "serde")]
pub(in crate::kernel) mod snapshot;
pub(in crate::kernel) mod version;
pub(in crate::kernel) mod view;
