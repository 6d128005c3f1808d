//! `proctable check`: checks whether the model explains logs.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use proctable::check::{Rejection, Verdict, check_on};
use proctable::kernel::Version;
use proctable::trace;

/// The arguments of the command.
#[derive(Args)]
pub struct Options {
    /// Omit the logs that are accepted
    #[arg(short, long)]
    quiet: bool,
    /// The version of the kernel on which they were recorded, such as 6.1; the newest by default
    #[arg(long, value_name = "VERSION", default_value_t = Version::NEWEST)]
    kernel: Version,
    /// Logs of strace -f
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Prints for each log whether the model explains it.
///
/// 0 if all are accepted, 1 if some are rejected, 2 if some cannot be read.
pub fn run(options: &Options) -> ExitCode {
    match report(options, &mut io::stdout().lock()) {
        Ok(total) => ExitCode::from(total.exit_code()),
        // the reader has closed the pipe
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain!("proctable: {error}");
            ExitCode::from(2)
        }
    }
}

/// The numbers of logs by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Total {
    accepted: usize,
    rejected: usize,
    unreadable: usize,
    skipped: usize,
}

impl Total {
    fn exit_code(self) -> u8 {
        match self {
            Total { unreadable: 1.., .. } => 2,
            Total { rejected: 1.., .. } => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Total { accepted, rejected, unreadable, skipped } = self;
        write!(f, "{accepted} accepted, {rejected} rejected, {unreadable} unreadable")?;
        if *skipped > 0 {
            write!(f, " ({skipped} lines of calls that the model does not know skipped)")?;
        }
        Ok(())
    }
}

/// The outcome of one file.
enum FileOutcome {
    Accepted { skipped: usize },
    Rejected(Rejection),
    Unreadable(String),
}

fn report(options: &Options, out: &mut impl Write) -> io::Result<Total> {
    let mut total = Total::default();
    for file in &options.files {
        let name = file.display();
        match outcome(file, options.kernel) {
            FileOutcome::Accepted { skipped } => {
                total.accepted += 1;
                total.skipped += skipped;
                if !options.quiet {
                    writeln!(out, "accepted {name}")?;
                }
            }
            FileOutcome::Rejected(rejection) => {
                total.rejected += 1;
                writeln!(out, "rejected {name}:{rejection}")?;
            }
            FileOutcome::Unreadable(why) => {
                total.unreadable += 1;
                writeln!(out, "unreadable {name}:{why}")?;
            }
        }
    }
    writeln!(out, "{total}")?;
    Ok(total)
}

fn outcome(file: &Path, kernel: Version) -> FileOutcome {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) => return FileOutcome::Unreadable(format!(" {error}")),
    };
    match trace::read(&text) {
        Err(error) => {
            FileOutcome::Unreadable(format!("{}:{}: {}", error.line, error.column, error.what))
        }
        Ok(log) => match check_on(&log, kernel) {
            Verdict::Accepted(summary) => FileOutcome::Accepted { skipped: summary.skipped },
            Verdict::Rejected(rejection) => FileOutcome::Rejected(rejection),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output for logs of these texts, and the exit code.
    fn said(logs: &[&str], quiet: bool) -> (String, u8) {
        let directory = std::env::temp_dir().join(format!("check-{}-{quiet}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let files: Vec<PathBuf> =
            (0..=logs.len()).map(|nth| directory.join(nth.to_string())).collect();
        for (file, log) in files.iter().zip(logs) {
            fs::write(file, log).expect("a file");
        }
        let mut out = Vec::new();
        let files = files[..logs.len()].to_vec();
        let options = Options { quiet, kernel: Version::NEWEST, files };
        let total = report(&options, &mut out).expect("a report");
        fs::remove_dir_all(&directory).expect("the directory");
        let out = String::from_utf8(out).expect("UTF-8");
        (out.replace(&format!("{}/", directory.display()), ""), total.exit_code())
    }

    #[test]
    fn each_log_has_a_line_and_the_worst_result_sets_the_exit_status() {
        let (good, bad) = ("1 getpid() = 1\n", "1 getpid() = 2\n");
        assert_eq!(
            said(&[good], false),
            ("accepted 0\n1 accepted, 0 rejected, 0 unreadable\n".into(), 0)
        );
        let (text, code) = said(&[bad, good], true);
        assert_eq!(code, 1);
        assert_eq!(
            text,
            "rejected 0:1: 1 getpid() = 2: the model has `1 getpid() = 1` (PID-19)\n\
             1 accepted, 1 rejected, 0 unreadable\n"
        );
        let (text, code) = said(&[bad, "1 getpid() = 1\n1 getpid( = 1\n", good], true);
        assert_eq!(code, 2);
        assert!(text.contains("\nunreadable 1:2:"), "{text}");
        assert!(text.ends_with("1 accepted, 1 rejected, 1 unreadable\n"), "{text}");
    }
}
