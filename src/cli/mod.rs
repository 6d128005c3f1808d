//! The command line.

/// Prints a line, as `println!` does; a reader that has gone away ends the program.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::write_out(format!("{}\n", format_args!($($text)*)).as_bytes()) };
}

mod check;
mod diff;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The Linux process model, held against the live kernel.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether the model explains logs of strace -f
    Check(check::Options),
    /// Run random programs on the live kernel and on the model, and compare everything
    Diff(diff::Options),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(options) => check::run(&options.files, options.quiet),
        Command::Diff(options) => diff::run(&options),
    }
}

/// Writes to standard output. Where that is closed or full there is nothing left to do.
fn write_out(text: &[u8]) {
    use std::io::{ErrorKind, Write};
    if let Err(error) = std::io::stdout().lock().write_all(text) {
        if error.kind() != ErrorKind::BrokenPipe {
            eprintln!("proctable: standard output: {error}");
        }
        std::process::exit(BROKEN_OFF);
    }
}

/// Exit status: the work was broken off.
const BROKEN_OFF: i32 = 3;
