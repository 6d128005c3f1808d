//! Drivers that are ready for use: guests on threads, real children, and a script for tests.

#[cfg(all(feature = "linux", target_os = "linux"))]
pub mod linux;
mod scripted;
mod thread;

pub use scripted::{Expected, ScriptedDriver};
pub use thread::{Guest, GuestThread, ThreadDriver};
