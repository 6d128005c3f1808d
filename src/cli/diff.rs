//! `proctable diff`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use proctable::diff::{Campaign, Difference, Start, Subject, Summary, TrialConfig, replay};
use proctable::host::{Mode, probe};
use proctable::sim::Profile;
use proctable::trace;

/// Exit status: no difference.
const SAME: u8 = 0;
/// Exit status: kernel and model differ.
const DIFFERENT: u8 = 1;
/// Exit status: the log to replay cannot be read.
const UNREADABLE: u8 = 2;
/// Exit status: the comparison cannot run here.
pub const UNAVAILABLE: u8 = 3;

/// The comparison's options.
#[derive(Args)]
pub struct Options {
    /// How many programs
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    programs: u64,
    /// The maximum number of steps of each program
    #[arg(long, default_value_t = 60, value_name = "N")]
    steps: u32,
    /// The seed of the random programs
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Only the programs whose number is I modulo N
    #[arg(long, default_value = "0/1", value_name = "I/N")]
    shard: Shard,
    /// The directory for the logs of differences
    #[arg(long, value_name = "DIR", default_value = "target/diff")]
    save: PathBuf,
    /// Stop after this number of differences
    #[arg(long, default_value_t = 5, value_name = "N")]
    max_differences: usize,
    /// Show programs with a difference unchanged, instead of the smallest that still has it
    #[arg(long)]
    no_shrink: bool,
    /// The number of workers, at most one for each CPU; all CPUs by default
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    jobs: Option<usize>,
    /// Use a user namespace also as root
    #[arg(long)]
    user_namespace: bool,
    /// Do not print how often each call, errno and rule was exercised
    #[arg(short, long)]
    quiet: bool,
    /// Run the calls of this log instead of random programs
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// The namespace's pid_max, for --replay
    #[arg(long, value_name = "N", requires = "replay")]
    pid_max: Option<u32>,
    /// The last allocated number, for --replay
    #[arg(long, value_name = "N", requires = "replay")]
    last_pid: Option<u32>,
    /// The number of the first process, if it is not process 1, for --replay
    #[arg(long, value_name = "N", requires = "replay")]
    first: Option<u32>,
    /// Handlers wait for rt_sigreturn, for --replay
    #[arg(long, requires = "replay")]
    stay_in_handlers: bool,
    /// Programs of up to three tasks that make calls at the same time, on all CPUs
    #[arg(long)]
    concurrent: bool,
    /// The number of runs of each program, with --concurrent
    #[arg(
        long,
        default_value_t = 20,
        value_name = "N",
        requires = "concurrent",
        value_parser = value_parser!(u32).range(1..)
    )]
    runs: u32,
    /// Only programs of this profile, such as jobs or terminals
    #[arg(long, conflicts_with_all = ["concurrent", "replay", "terminal"], value_parser = profile)]
    profile: Option<Profile>,
    /// Programs of calls on a terminal: both ends of a pty, and its line discipline
    #[arg(long, conflicts_with_all = ["concurrent", "replay", "user_namespace"])]
    terminal: bool,
    /// Break this rule of the model (to see that the comparison finds it)
    #[cfg(feature = "faults")]
    #[arg(long, value_name = "NAME")]
    fault: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Shard(u64, u64);

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parsed = text.split_once('/').and_then(|(nth, of)| {
            let (nth, of) = (nth.parse().ok()?, of.parse().ok()?);
            (nth < of).then_some(Shard(nth, of))
        });
        parsed.ok_or_else(|| format!("{text} is not I/N with I below N"))
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// The profile of that name.
fn profile(name: &str) -> Result<Profile, String> {
    let names = || Profile::ALL.map(Profile::name).join(", ");
    let found = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    found.ok_or_else(|| format!("the profiles are {}", names()))
}

/// Runs the comparison.
pub fn run(options: &Options) -> ExitCode {
    let log = match options.replay.as_deref().map(read_log).transpose() {
        Ok(log) => log,
        Err(why) => {
            complain!("proctable: {why}");
            return UNREADABLE.into();
        }
    };
    let mode = match probe() {
        Ok(_) if options.user_namespace => Mode::User,
        Ok(mode) => mode,
        Err(reason) => {
            complain!("proctable: the live kernel cannot be asked here: {reason}");
            return UNAVAILABLE.into();
        }
    };
    say!("{}", headline(mode));
    let result = match log {
        Some(log) => run_replay(options, mode, log),
        None => run_campaign(options, mode),
    };
    match result {
        Ok(summary) => {
            report(options, &summary);
            let different = !summary.differences.is_empty();
            if different { DIFFERENT.into() } else { SAME.into() }
        }
        Err(error) => {
            complain!("proctable: the comparison broke off: {error}");
            UNAVAILABLE.into()
        }
    }
}

fn headline(mode: Mode) -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kind = match mode {
        Mode::Root => "root, pid namespace",
        Mode::User => "user namespace (no other users: setuid to them and their limits left out)",
    };
    format!("kernel {}, {kind}", release.trim())
}

fn run_campaign(options: &Options, mode: Mode) -> io::Result<Summary> {
    let all = cpus();
    // a worker whose tasks run at the same time uses two CPUs
    let workers = if options.concurrent { all.len().div_ceil(2) } else { all.len() };
    let jobs = options.jobs.unwrap_or(workers).clamp(1, all.len());
    let Shard(nth, of) = options.shard;
    let campaign = Campaign {
        exe: std::env::current_exe()?,
        mode,
        cpus: all.into_iter().take(jobs).collect(),
        config: TrialConfig {
            seed: options.seed,
            steps: options.steps,
            shrink: !options.no_shrink,
            concurrent: options.concurrent.then_some(options.runs),
            profile: options.profile,
        },
        programs: options.programs,
        subject: if options.terminal { Subject::Terminal } else { Subject::Processes },
        shard: (nth, of),
        fault: fault(options),
        max_differences: options.max_differences.max(1),
    };
    let style = "{bar:40} {pos}/{len} programs, {msg}, {eta} left";
    let bar = ProgressBar::new(campaign.count())
        .with_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()));
    let summary = campaign.run(|summary| {
        bar.set_position(summary.progress.programs);
        bar.set_message(format!(
            "{} calls, differences {}",
            grouped(summary.progress.calls),
            summary.differences.len()
        ));
    });
    bar.finish_and_clear();
    summary
}

#[cfg(feature = "faults")]
fn fault(options: &Options) -> Option<String> {
    options.fault.clone()
}

#[cfg(not(feature = "faults"))]
fn fault(_: &Options) -> Option<String> {
    None
}

/// The text of a log that can be parsed; otherwise the error and its place.
fn read_log(path: &Path) -> Result<String, String> {
    let name = path.display();
    let text = fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    trace::read(&text)
        .map_err(|error| format!("{name}:{}:{}: {}", error.line, error.column, error.what))?;
    String::from_utf8(text).map_err(|error| format!("{name}: {error}"))
}

fn run_replay(options: &Options, mode: Mode, log: String) -> io::Result<Summary> {
    let start = Start {
        pid_max: options.pid_max,
        last_pid: options.last_pid,
        first: options.first,
        stay_in_handlers: options.stay_in_handlers,
        concurrent: options.concurrent.then_some(options.runs),
    };
    replay(std::env::current_exe()?, mode, log, start)
}

/// The CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.unwrap_or("0").trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    let cpus: Vec<usize> = ranges.flatten().collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn report(options: &Options, summary: &Summary) {
    for difference in &summary.differences {
        show(options, difference);
    }
    // workers that are stopped after a difference do not report their coverage
    let counted = !summary.coverage.calls.is_empty();
    if !options.quiet && options.replay.is_none() && counted {
        super::write_out(summary.coverage.table().as_bytes());
    }
    for what in &summary.left_out {
        say!("left out: {what}");
    }
    let progress = summary.progress;
    say!(
        "programs {}, calls {}, differences {}",
        progress.programs,
        grouped(progress.calls),
        summary.differences.len()
    );
    let seconds = summary.elapsed.as_secs_f64();
    if options.terminal {
        return say!(
            "{seconds:.1} s, {} bytes, {} calls and bytes/s a core; {} programs agreed only when \
             the kernel had time to carry bytes between the ends",
            grouped(progress.bytes),
            grouped(rate(progress.calls + progress.bytes, summary)),
            progress.carried
        );
    }
    say!(
        "{seconds:.1} s, {} calls/s a core; {} programs ({:.1} %) needed another order than the \
         canonical one{}{}",
        grouped(rate(progress.calls, summary)),
        progress.reordered,
        100.0 * progress.reordered as f64 / progress.programs.max(1) as f64,
        match progress.late {
            0 => String::new(),
            late => format!("; {late} given up because their timers fired late each time"),
        },
        match progress.carried {
            0 => String::new(),
            carried => format!(
                "; {carried} agreed only when the kernel had time to carry bytes between the ends \
                 of a terminal"
            ),
        }
    );
}

/// The number each second and core.
fn rate(number: u64, summary: &Summary) -> u64 {
    let seconds = summary.elapsed.as_secs_f64();
    (number as f64 / seconds / summary.workers.max(1) as f64) as u64
}

fn show(options: &Options, difference: &Difference) {
    say!("program {} ({}):", difference.index, difference.profile);
    super::write_out(difference.text.as_bytes());
    let name = format!("{}-{}.strace", options.seed, difference.index);
    let path = options.save.join(name);
    let saved = fs::create_dir_all(&options.save).and_then(|()| fs::write(&path, &difference.log));
    match saved {
        Ok(()) if options.terminal => {
            let (seed, steps, index) = (options.seed, options.steps, difference.index);
            let count = index + 1;
            say!(
                "saved as {}; again with: proctable diff --terminal --seed {seed} --steps {steps} \
                 --programs {count} --shard {index}/{count}\n",
                path.display()
            );
        }
        Ok(()) => say!(
            "saved; again with: proctable diff --replay {} {}{}\n",
            path.display(),
            difference.options,
            if options.user_namespace { " --user-namespace" } else { "" }
        ),
        Err(error) => complain!("proctable: {}: {error}", path.display()),
    }
}

/// A number with commas between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
