//! `proctable init`: runs a command as process 1 does.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::exec;

/// Run a command as process 1 does: pass all signals on to it, reap orphans, end with its status
///
/// It contains no processes: when the command has ended, the kernel ends the remaining processes if
/// this is process 1, and otherwise they continue.
#[derive(Args)]
pub struct Options {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Runs the command. Returns its exit status.
pub fn run(options: Options) -> ExitCode {
    exec::run(&exec::Options::init(options.command))
}
