//! The command line.

/// Prints a line, as `println!` does. If the reader has closed the pipe, the program ends.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::write_out(format!("{}\n", format_args!($($text)*)).as_bytes()) };
}

/// Prints a line on standard error. If that is closed or full the line is lost and the program
/// continues, and with it the command that it runs.
macro_rules! complain {
    ($($text:tt)*) => { $crate::cli::write_error(format!("{}\n", format_args!($($text)*)).as_bytes()) };
}

mod check;
mod diff;
mod exec;
mod init;
mod kernel;
mod sweep;

use std::borrow::Cow;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::termios::OutputModes;

/// The Linux process model, held against the live kernel.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether the model explains logs of strace -f
    Check(check::Options),
    /// Run a command as a tree of processes that ends as a whole
    Exec(Box<exec::Options>),
    /// Run a command as process 1 does: pass signals on, reap orphans
    Init(init::Options),
    /// What `exec` starts when it stops with its command
    #[command(hide = true, name = exec::waker::SUBCOMMAND)]
    ContinueWith {
        /// The command
        pid: i32,
        /// With the group of the program
        #[arg(long)]
        group: bool,
    },
    /// End the trees whose owners crashed
    Sweep,
    /// Say what such trees can have here, and why not the rest
    Preflight,
    /// Show which of the behaviours that differ between kernels the running one has
    Kernel(kernel::Options),
    /// Run random programs on the live kernel and on the model, and compare the results
    Diff(diff::Options),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let command = std::env::args_os().nth(1);
        let runs = command.is_some_and(|command| command == "exec" || command == "init");
        if runs && error.use_stderr() {
            // the default exit status for invalid arguments would collide with statuses of the
            // command
            let _ = error.print();
            std::process::exit(exec::FAILED.into());
        }
        error.exit()
    });
    match cli.command {
        Command::Check(options) => check::run(&options),
        Command::Diff(options) => diff::run(&options),
        Command::Kernel(options) => kernel::run(&options),
        Command::Exec(options) => exec::run(&options),
        Command::Init(options) => init::run(options),
        Command::ContinueWith { pid, group } => exec::waker::serve(pid, group),
        Command::Sweep => sweep::run(),
        Command::Preflight => {
            write_out(proctable::drivers::linux::preflight().to_string().as_bytes());
            ExitCode::SUCCESS
        }
    }
}

/// Writes to standard output. Errors are ignored: no other output is left to report them.
fn write_out(text: &[u8]) {
    use std::io::{ErrorKind, Write};
    if let Err(error) = std::io::stdout().lock().write_all(text) {
        if error.kind() != ErrorKind::BrokenPipe {
            complain!("proctable: standard output: {error}");
        }
        std::process::exit(BROKEN_OFF);
    }
}

fn write_error(text: &[u8]) {
    use std::io::Write;
    let _ = std::io::stderr().lock().write_all(&for_screen(text));
}

/// Text for standard error, with a carriage return in each line if that is a raw terminal, where a
/// newline alone does not begin a line.
fn for_screen(text: &[u8]) -> Cow<'_, [u8]> {
    let modes = rustix::termios::tcgetattr(std::io::stderr());
    if modes.is_err() || modes.is_ok_and(|modes| modes.output_modes.contains(OutputModes::OPOST)) {
        return text.into();
    }
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let with_return = lines.flat_map(|line| match line.split_last() {
        Some((b'\n', line)) => [line, b"\r\n"],
        _ => [line, b""],
    });
    with_return.collect::<Vec<_>>().concat().into()
}

/// Exit status: the work was interrupted.
const BROKEN_OFF: i32 = 3;
