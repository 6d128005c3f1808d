//! All tests from outside the library, in one program.
#![allow(clippy::unwrap_used)]

#[cfg(all(feature = "host", target_os = "linux", target_arch = "x86_64"))]
mod host;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod rules;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod scene;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod semantics;
mod text;
