//! All tests from outside the library, in one program.

#[cfg(all(feature = "host", target_os = "linux", target_arch = "x86_64"))]
mod host;
mod text;
