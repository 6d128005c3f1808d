//! The program `proctable`.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
proctable::host_entry!();

fn main() {}
