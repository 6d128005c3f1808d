//! The program `proctable`.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod cli;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
proctable::host_entry!();

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    proctable::host::worker_entry(proctable::diff::serve);
    cli::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() -> std::process::ExitCode {
    eprintln!("proctable: the program needs Linux on x86-64; the library does not");
    std::process::ExitCode::from(3)
}
