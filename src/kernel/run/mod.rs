//! The choice of the task that runs next.

pub(in crate::kernel) mod access;
pub(in crate::kernel) mod choose;
pub(in crate::kernel) mod schedule;
