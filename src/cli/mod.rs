//! The command line.

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
