//! `proctable exec`: a command as a contained tree.

mod events;
mod job;
mod log;
mod members;
mod pty;
mod pty_input;
mod signals;
mod stops;
mod streams;
mod terminal;
mod units;
mod user;
mod view;
pub mod waker;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use proctable::drivers::linux::{
    Child, Command, Delegate, Limits, Mechanism, OnDrop, Options as TreeOptions, ProcessTree,
    Reaper, SpawnError, Stdio, Step, Unproved, end_by_signal, stop_by_signal,
};

use proctable::abi::Signal;

use events::Events;

use job::{CommandJob, Inputs};
use log::Log;
use members::Members;
use pty::Relay;
use signals::Signals;
use terminal::{JobPlace, Terminal};
use units::{bytes, duration, signal};
use user::{User, user};

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
    /// They continue
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
    /// End the tree after this time (seconds, or with ms, s, m, h, d; 0 is never)
    #[arg(long, value_parser = duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// The time between the first signal and SIGKILL [default: 5]. If given, also after a SIGTERM,
    /// SIGINT, SIGHUP or SIGQUIT that was passed on
    #[arg(long, value_parser = duration, value_name = "TIME")]
    grace: Option<Duration>,
    /// The first signal at a timeout, and to the processes that are left when the command has ended
    #[arg(short, long, value_parser = signal, value_name = "SIGNAL", default_value = "TERM")]
    signal: Signal,
    /// After a timeout, exit with the status of the command, and not with 124
    #[arg(long)]
    preserve_status: bool,
    /// Limit the memory of all processes together (bytes, or with K, M, G, T; 1.5GiB)
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// Limit the number of processes and threads
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pids: Option<u64>,
    /// Limit the CPU time of all processes together, in CPUs: 0.5 is half of one
    #[arg(long, value_parser = cpus, value_name = "CPUS")]
    cpu: Option<f64>,
    /// Permit limits of each process or of the whole user where nothing can limit the tree
    #[arg(long)]
    weaker_limits: bool,
    /// Enable the controllers of the limits in the cgroup of this program. With `move` this program
    /// moves to a cgroup below it if it may have no processes. Both are undone at the end
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "enable", conflicts_with = "no_cgroup")]
    delegate: Option<HowDelegate>,
    /// Adopt and reap orphans of the tree, as process 1 does anyway
    #[arg(long)]
    subreaper: bool,
    /// Start a process outside of the tree that kills the tree if this program dies
    #[arg(long)]
    guardian: bool,
    /// Kill the command if this program dies, by the first available of: the kernel (Linux 7.1), a
    /// guardian, a parent-death signal
    #[arg(long)]
    kill_child: bool,
    /// Start the command outside of any tree, with /dev/null as its standard streams, print its
    /// number, and return
    #[arg(long, conflicts_with_all = ["timeout", "guardian", "subreaper", "tree", "memory", "pids", "cpu", "delegate", "kill_child", "preserve_status", "events", "summary"])]
    detach: bool,
    /// What happens to the processes that are left when the command has ended
    #[arg(long, value_enum, default_value = "kill")]
    on_exit: OnExit,
    /// Show the tree while it runs, on standard error
    #[arg(long)]
    tree: bool,
    /// Write the events of all processes of the tree to a file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Print at the end how the command ended and what the tree used
    #[arg(long)]
    summary: bool,
    /// Print each signal that this program sends, to which process, and why
    #[arg(short, long)]
    verbose: bool,
    /// Run the command in this directory
    #[arg(long, value_name = "DIR")]
    chdir: Option<PathBuf>,
    /// Set a variable of the command's environment, after --env-clear and --unset
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(variable))]
    env: Vec<(OsString, OsString)>,
    /// Remove a variable from the command's environment
    #[arg(long, value_name = "NAME")]
    unset: Vec<OsString>,
    /// Start with an empty environment
    #[arg(long)]
    env_clear: bool,
    /// Run the command as this user, by names of /etc/passwd and /etc/group or by numbers; only
    /// root can. Without GROUP the user has the groups of a login, with GROUP this group only
    #[arg(long, value_parser = user, value_name = "USER[:GROUP]")]
    user: Option<User>,
    /// Pass SIGTERM, SIGINT, SIGHUP and SIGQUIT on to the command only, not to the whole tree
    #[arg(long)]
    signal_command: bool,
    /// If the command died of signal N, exit with 128 + N as a shell does, and do not die of the
    /// same signal
    #[arg(long)]
    shell_status: bool,
    /// Give each signal its default action in the command, also those that this program ignores
    /// since its start
    #[arg(long)]
    default_signals: bool,
    /// Run the command in a process group of its own, in the foreground if this program is, as a
    /// shell runs a job. Without this option the command is in the group of this program
    #[arg(long)]
    process_group: bool,
    /// Run the command on a terminal of its own, a pty, in a session of its own. Standard input is
    /// typed there, and what appears there goes to standard output
    #[arg(long, conflicts_with_all = ["detach", "process_group"])]
    pty: bool,
    /// Use no cgroup
    #[arg(long)]
    no_cgroup: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Options {
    /// As an init does it: the command has no containment, and the processes that it leaves stay.
    pub fn init(command: Vec<OsString>) -> Options {
        Options {
            timeout: None,
            signal: Signal::TERM,
            preserve_status: false,
            verbose: false,
            chdir: None,
            env: Vec::new(),
            unset: Vec::new(),
            env_clear: false,
            user: None,
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
            pty: false,
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

fn variable(text: OsString) -> Result<(OsString, OsString), &'static str> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=').filter(|end| *end > 0);
    let end = end.ok_or("a variable is NAME=VALUE")?;
    let part = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    Ok((part(&bytes[..end]), part(&bytes[end + 1..])))
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
    if options.pty
        && let Some(signal) = await_foreground(&mut signals)
    {
        return Ok(End::Signal(signal));
    }
    // all children of this process are the tree's, or noted: all others are orphans
    let reaper = options.reaps().then(|| Reaper::new(Unproved::Reap)).transpose()?;
    // the command itself is the proof that it can enter the cgroup: a trial would cost a process
    let started = match start(options, Trial::Without, &mut signals) {
        Ok(Err(error)) if error.step == Step::Cgroup => start(options, Trial::With, &mut signals),
        started => started,
    };
    match started {
        // what the tree tries by means of children fails if the terminal interrupts them
        Err(error) => signals.ending().map(End::Signal).ok_or(error),
        // the terminal has interrupted it before its exec
        Ok(Err(error)) => match signals.ending().filter(|_| error.step == Step::Killed) {
            Some(signal) => Ok(End::Signal(signal)),
            None => Ok(End::Code(refused(&error))),
        },
        Ok(Ok(Started { tree, child, terminal, relay, events, members, log })) => {
            let inputs = Inputs { signals, events, members, log, relay };
            CommandJob::new(options, &tree, &child, terminal, inputs, reaper.as_ref()).run()
        }
    }
}

/// A program that reads its terminal from the background is stopped, as a job of its shell, and a
/// program with `--pty` always reads. It stops before the command begins: only when the shell gives
/// the terminal away, the terminal has the modes that are meant for the command. Returns the signal
/// that ended the job.
fn await_foreground(signals: &mut Signals) -> Option<Signal> {
    while Terminal::is_background_of_stdin() && Terminal::new().has_shell() {
        stop_by_signal(Signal::TTIN, true);
        if let Some(signal) = signals.ending() {
            return Some(signal);
        }
        // there is no shell after all: the stop had no effect
        if !signals.take_continue() {
            break;
        }
    }
    None
}

/// Whether a child tries the cgroup before the command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    With,
    Without,
}

/// A command that has begun.
struct Started {
    tree: ProcessTree,
    child: Child,
    /// With whether the command is in the group of this program.
    terminal: (Terminal, bool),
    relay: Option<Relay>,
    events: Events,
    members: Members,
    log: Option<Log>,
}

fn start(
    options: &Options,
    trial: Trial,
    signals: &mut Signals,
) -> io::Result<Result<Started, SpawnError>> {
    let tree = create(options, trial)?;
    let command = command(options)?;
    let log = options.events.as_deref();
    let log = log.map(|path| Log::create(path, command.program())).transpose()?;
    let members = match &log {
        Some(_) => Members::watch(&tree).unwrap_or_else(|error| {
            complain!("proctable: --events tells of the command only: thread: {error}");
            Members::none()
        }),
        None => Members::none(),
    };
    let events = tree.table().subscribe(EVENTS);
    let events = events.map_err(|errno| io::Error::other(format!("events: {errno}")))?;
    let events = Events::new(events);
    let terminal = Terminal::new();
    // whatever ends this process, the kernel ends it
    let command = command.parent_death_signal(Signal::KILL);
    // where no process can be looked for, its group is what reaches those that it starts
    let shares_group =
        !options.process_group && !options.pty && tree.mechanism() != Mechanism::Children;
    let command = if shares_group || options.pty { command } else { command.group(0) };
    let takes_foreground =
        !shares_group && !options.pty && Terminal::place_on_stdin() == JobPlace::Foreground;
    let command = if takes_foreground { command.foreground() } else { command };
    let (relay, command) = match options.pty {
        true => {
            let (mut relay, slave) = Relay::open()?;
            relay.resume();
            (Some(relay), command.pty(slave))
        }
        false => (None, command),
    };
    signals.take_early();
    Ok(match tree.spawn(command) {
        Err(error) => {
            if takes_foreground {
                terminal.take_from_any_group();
            }
            Err(error)
        }
        Ok(child) => {
            signals.start();
            relay.iter().for_each(|relay| relay.allow(true));
            let terminal = (terminal, shares_group);
            Ok(Started { tree, child, terminal, relay, events, members, log })
        }
    })
}

/// The command with its environment, directory, user and streams.
fn command(options: &Options) -> io::Result<Command> {
    let (program, args) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program).args(args);
    if options.env_clear {
        command = command.env_clear();
    }
    for name in &options.unset {
        command = command.env_remove(name);
    }
    for (name, value) in &options.env {
        command = command.env(name, value);
    }
    if let Some(directory) = &options.chdir {
        command = command.current_dir(directory);
    }
    if let Some(user) = &options.user {
        command = command.uid(user.uid).gid(user.gid).groups(user.groups.iter().copied());
    }
    if options.default_signals {
        command = command.default_signals();
    }
    // sockets for this program are meant for the command
    let listener = std::env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok());
    let is_replaced = options.env_clear || options.unset.iter().any(|name| name == "LISTEN_PID");
    if listener == Some(std::process::id()) && !is_replaced {
        command = command.pass_listen_fds();
    }
    if options.pty {
        // all three are the terminal
        return Ok(command);
    }
    let [stdin, stdout, stderr] = streams::closed();
    let stream = |closed| if closed { Stdio::Closed } else { Stdio::Inherit };
    Ok(command.stdin(stream(stdin)).stdout(stream(stdout)).stderr(stream(stderr)))
}

fn detach(options: &Options) -> io::Result<u8> {
    // what is detached is in no tree
    let tree = TreeOptions::new().without_cgroup().create()?;
    let command = command(options)?;
    // a reader of our output, or of a lock on a file of ours, must not wait for it
    let command = command.stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null).close_others();
    Ok(match tree.spawn_detached(command) {
        Ok(pid) => match writeln!(io::stdout(), "{pid}").and_then(|()| io::stdout().flush()) {
            Ok(()) => 0,
            Err(error) => {
                // it runs, and the user may want to end it. Standard error may be as full
                let _ = writeln!(io::stderr(), "proctable: standard output: {error}; {pid} runs");
                FAILED
            }
        },
        Err(error) => refused(&error),
    })
}

fn create(options: &Options, trial: Trial) -> io::Result<ProcessTree> {
    let limits = Limits { memory: options.memory, processes: options.pids, cpu: options.cpu };
    let mut tree = TreeOptions::new().limits(limits);
    if options.no_cgroup {
        tree = tree.without_cgroup();
    }
    if trial == Trial::Without {
        tree = tree.without_trial();
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
