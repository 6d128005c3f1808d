//! `proctable exec`: a command as a contained tree.

mod job;
mod log;
mod signals;
mod stops;
mod terminal;
mod units;
mod view;
pub mod waker;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use proctable::driver::linux::{
    Command, Delegate, Limits, Mechanism, OnDrop, Options as TreeOptions, ProcessTree, Reaper,
    SpawnError, Stdio, Step, Unproved, end_by_signal,
};

use proctable::abi::Signal;

use job::{CommandJob, Inputs};
use log::Log;
use signals::Signals;
use terminal::Terminal;
use units::{bytes, duration};

/// Exit statuses, as of timeout(1), env(1) and shells.
const TIMED_OUT: u8 = 124;
pub const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Events that may wait to be read.
const EVENTS: usize = 1024;

/// What becomes of processes that are left when the command has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum OnExit {
    /// They are killed
    Kill,
    /// They go on
    Leave,
}

/// What may be changed of the own cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum HowDelegate {
    /// Controllers are enabled for the cgroups below
    Enable,
    /// The same, and this program may move into one of them
    Move,
}

/// Run a command as a tree of processes that ends as a whole
#[derive(Args)]
pub struct Options {
    /// End it after so long (seconds, or with ms, s, m, h, d; 0 is never)
    #[arg(long, value_parser = duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// How long it has between SIGTERM and SIGKILL [default: 5]. If given, also after a SIGTERM,
    /// SIGINT, SIGHUP or SIGQUIT that was passed on
    #[arg(long, value_parser = duration, value_name = "TIME")]
    grace: Option<Duration>,
    /// The memory of all its processes together (bytes, or with K, M, G, T; 1.5GiB)
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// How many processes and threads it may have
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pids: Option<u64>,
    /// How many CPUs' worth of time it may use
    #[arg(long, value_parser = cpus, value_name = "CPUS")]
    cpu: Option<f64>,
    /// Take limits of each process or of the whole user where nothing can limit the tree
    #[arg(long)]
    weaker_limits: bool,
    /// Enable the controllers of the limits in this program's own cgroup, and with `move` leave
    /// that for one below it where it must have no processes; undone at the end
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "enable", conflicts_with = "no_cgroup")]
    delegate: Option<HowDelegate>,
    /// Adopt and reap orphans of the tree, as process 1 does anyway
    #[arg(long)]
    subreaper: bool,
    /// A process outside of the tree kills it if this one dies
    #[arg(long)]
    guardian: bool,
    /// Kill the command if this program dies, by the best way that there is: the kernel (Linux
    /// 7.1), a guardian, or a parent-death signal
    #[arg(long)]
    kill_child: bool,
    /// Start it on its own, reading and writing nothing, print its number, and return at once
    #[arg(long, conflicts_with_all = ["timeout", "guardian", "subreaper", "tree", "memory", "pids", "cpu", "delegate", "kill_child"])]
    detach: bool,
    /// What becomes of what the command leaves behind
    #[arg(long, value_enum, default_value = "kill")]
    on_exit: OnExit,
    /// Show the tree while it runs, on standard error
    #[arg(long)]
    tree: bool,
    /// Write events to a file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Say at the end how it ended and what it used
    #[arg(long)]
    summary: bool,
    /// Pass SIGTERM, SIGINT, SIGHUP and SIGQUIT on to the command alone, and not to its whole tree
    #[arg(long)]
    signal_command: bool,
    /// Exit with 128 + N where the command died by signal N, as a shell does, instead of dying by the
    /// same signal
    #[arg(long)]
    shell_status: bool,
    /// Give each signal its default action, also those that this program was started to ignore
    #[arg(long)]
    default_signals: bool,
    /// Run it in a process group of its own, in the foreground if this program is, as a shell runs a
    /// job; without this it is in this program's group, as without the program
    #[arg(long)]
    process_group: bool,
    /// Do without a cgroup
    #[arg(long)]
    no_cgroup: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Options {
    /// What an init does: the command has no containment, and what it leaves behind stays.
    pub fn init(command: Vec<OsString>) -> Options {
        Options {
            timeout: None,
            grace: None,
            memory: None,
            pids: None,
            cpu: None,
            delegate: None,
            weaker_limits: false,
            subreaper: true,
            guardian: false,
            kill_child: false,
            detach: false,
            on_exit: OnExit::Leave,
            tree: false,
            events: None,
            summary: false,
            default_signals: false,
            shell_status: false,
            signal_command: true,
            process_group: false,
            no_cgroup: true,
            command,
        }
    }

    /// Whether orphans come to this process.
    fn reaps(&self) -> bool {
        !self.detach && (self.subreaper || std::process::id() == 1)
    }
}

fn cpus(text: &str) -> Result<f64, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if cpus > 0.0 && cpus.is_finite() { Ok(cpus) } else { Err("must be above 0".into()) }
}

/// How this program ends.
enum End {
    Code(u8),
    /// As the command died.
    Signal(Signal),
}

/// Runs the command; its exit status. Where the command died by a signal, this program does.
pub fn run(options: &Options) -> ExitCode {
    match try_run(options) {
        Ok(End::Code(code)) => ExitCode::from(code),
        Ok(End::Signal(signal)) => {
            if !options.shell_status {
                end_by_signal(signal);
            }
            // the shell's number for it, which process 1 has to give
            ExitCode::from(128 + signal.number())
        }
        Err(error) => {
            complain!("proctable: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn try_run(options: &Options) -> io::Result<End> {
    if options.detach {
        return detach(options).map(End::Code);
    }
    // before there is a child: none of its signals and no event is lost
    let mut signals = Signals::receive()?;
    // all children of this process are the tree's, or noted: everybody else is an orphan
    let reaper = options.reaps().then(|| Reaper::new(Unproved::Reap)).transpose()?;
    let tree = match create(options) {
        Ok(tree) => tree,
        // what it tries by means of children fails if the terminal interrupts them
        Err(error) => return signals.ending().map(End::Signal).ok_or(error),
    };
    let (program, args) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let command = Command::new(program).args(args);
    let log = options.events.as_deref().map(Log::create).transpose()?;
    let events =
        tree.table().subscribe(EVENTS).map_err(|errno| io::Error::other(errno.to_string()));
    let terminal = Terminal::new();
    // whatever ends this process, the kernel ends it
    let command = command.parent_death_signal(Signal::KILL);
    // where no process can be looked for, its group is what reaches those that it starts
    let shares_group = !options.process_group && tree.mechanism() != Mechanism::Children;
    let command = if shares_group { command } else { command.group(0) };
    let takes_foreground = !shares_group && terminal.is_ours_on_stdin();
    let command = if takes_foreground { command.foreground() } else { command };
    let command = if options.default_signals { command.default_signals() } else { command };
    signals.take_early();
    match tree.spawn(command) {
        Err(error) => {
            if takes_foreground {
                terminal.take_from_anybody();
            }
            // the terminal has interrupted it before its exec
            match signals.ending().filter(|_| error.step == Step::Killed) {
                Some(signal) => Ok(End::Signal(signal)),
                None => Ok(End::Code(refused(&error))),
            }
        }
        Ok(child) => {
            signals.start();
            let inputs = Inputs { signals, events: events?, log };
            let terminal = (terminal, shares_group);
            CommandJob::new(options, &tree, &child, terminal, inputs, reaper.as_ref()).run()
        }
    }
}

fn detach(options: &Options) -> io::Result<u8> {
    // what is detached is in no tree
    let tree = TreeOptions::new().without_cgroup().create()?;
    let (program, args) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let command = Command::new(program).args(args);
    // whoever reads our output, or has a lock on a file of ours, must not wait for it
    let command = command.stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null).close_others();
    Ok(match tree.spawn_detached(command) {
        Ok(pid) => match writeln!(io::stdout(), "{pid}").and_then(|()| io::stdout().flush()) {
            Ok(()) => 0,
            Err(error) => {
                // it runs, and somebody may want to end it. Standard error may be as full
                let _ = writeln!(io::stderr(), "proctable: standard output: {error}; {pid} runs");
                FAILED
            }
        },
        Err(error) => refused(&error),
    })
}

fn create(options: &Options) -> io::Result<ProcessTree> {
    let limits = Limits { memory: options.memory, processes: options.pids, cpu: options.cpu };
    let mut tree = TreeOptions::new().limits(limits);
    if options.no_cgroup {
        tree = tree.without_cgroup();
    }
    tree = tree.delegate(match options.delegate {
        None => Delegate::Nothing,
        Some(HowDelegate::Enable) => Delegate::Enable,
        Some(HowDelegate::Move) => Delegate::Move,
    });
    if options.weaker_limits {
        tree = tree.weaker_limits();
    }
    if options.guardian {
        tree = tree.guarded();
    }
    if options.kill_child {
        tree = tree.kill_on_owner_death();
    }
    if options.reaps() {
        tree = tree.subreaper();
    }
    if options.on_exit == OnExit::Leave {
        tree = tree.on_drop(OnDrop::Leave);
    }
    tree.create()
}

/// Says why there is no child.
fn refused(error: &SpawnError) -> u8 {
    complain!("proctable: {error}");
    match (error.step, error.error.kind()) {
        (Step::Exec, io::ErrorKind::NotFound) => NOT_FOUND,
        (Step::Exec, _) => NOT_EXECUTABLE,
        _ => FAILED,
    }
}
