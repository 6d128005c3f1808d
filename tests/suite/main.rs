//! All tests from outside the library, in one program.
#![allow(clippy::unwrap_used)]

mod check;
#[cfg(not(feature = "cli"))]
#[test]
#[ignore = "--features cli has the tests that run the program and the live kernel"]
fn the_program_and_the_live_kernel() {}
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod diff;
#[cfg(all(feature = "host", target_os = "linux", target_arch = "x86_64"))]
mod host;
#[cfg(all(feature = "linux", target_os = "linux"))]
mod linux;
mod model;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod readme;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod rules;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod scene;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod semantics;
#[cfg(any(feature = "table", all(feature = "cli", target_os = "linux", target_arch = "x86_64")))]
mod sources;
#[cfg(feature = "table")]
mod table;
mod text;
mod tidy;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod tty;
