//! The effects of calls and of time.

pub(in crate::kernel) mod cred;
pub(in crate::kernel) mod entry;
pub(in crate::kernel) mod exec;
pub(in crate::kernel) mod exit;
pub(in crate::kernel) mod external;
pub(in crate::kernel) mod fork;
pub(in crate::kernel) mod fs;
pub(in crate::kernel) mod group;
pub(in crate::kernel) mod kill;
pub(in crate::kernel) mod limit;
pub(in crate::kernel) mod orphan;
pub(in crate::kernel) mod poll;
pub(in crate::kernel) mod prctl;
pub(in crate::kernel) mod terminal;
pub(in crate::kernel) mod terminal_io;
pub(in crate::kernel) mod terminal_window;
pub(in crate::kernel) mod timer;
pub(in crate::kernel) mod wait;
pub(in crate::kernel) mod zap;
