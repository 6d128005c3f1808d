//! The data, and the methods that keep its invariants.

pub(in crate::kernel) mod arena;
pub(in crate::kernel) mod children;
pub(in crate::kernel) mod cred;
pub(in crate::kernel) mod group;
pub(in crate::kernel) mod init;
pub(in crate::kernel) mod limit;
pub(in crate::kernel) mod list;
pub(in crate::kernel) mod pending;
pub(in crate::kernel) mod pid;
pub(in crate::kernel) mod pid_namespace;
pub(in crate::kernel) mod process;
pub(in crate::kernel) mod process_list;
pub(in crate::kernel) mod sharing;
pub(in crate::kernel) mod sighand;
pub(in crate::kernel) mod small_list;
pub(in crate::kernel) mod task;
pub(in crate::kernel) mod tasklist;
pub(in crate::kernel) mod terminal;
pub(in crate::kernel) mod threads;
pub(in crate::kernel) mod timer;
