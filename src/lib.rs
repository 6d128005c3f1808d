//! The Linux process model: pids, process groups, sessions, signals and masks, wait, job control,
//! orphaned groups, zombies.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(missing_docs)]

extern crate alloc;

pub mod abi;
pub mod check;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub mod diff;
#[cfg(all(feature = "host", target_os = "linux", target_arch = "x86_64"))]
pub mod host;
pub mod kernel;
pub mod sim;
pub mod syscall;
pub mod trace;
