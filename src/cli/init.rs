//! `proctable init`: a command as process 1 runs it.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::exec;

/// Run a command as process 1 does: pass all signals on to it, reap orphans, end with its status
///
/// Nothing is contained: what the command leaves behind is ended by the kernel if this is process
/// 1, and otherwise goes on.
#[derive(Args)]
pub struct Options {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Runs the command; its exit status.
pub fn run(options: Options) -> ExitCode {
    exec::run(&exec::Options::init(options.command))
}
