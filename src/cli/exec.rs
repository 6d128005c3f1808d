//! `proctable exec`: a command as a contained tree; `proctable sweep`: what crashed owners left.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use proctable::abi::{Signal, WaitOptions, WaitStatus};
use proctable::driver::linux::{
    Child, Command, Limits, Mechanism, OnDrop, Options as TreeOptions, ProcessTree, Stdio, Step,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTOU};
use signal_hook::iterator::Signals;

/// Exit statuses, as of timeout(1), env(1) and shells.
const TIMED_OUT: u8 = 124;
pub const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How often the tree is drawn, and signals are looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// What becomes of processes that are left when the command has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum OnExit {
    /// They are killed
    Kill,
    /// They go on
    Leave,
}

/// Run a command as a tree of processes that ends as a whole
#[derive(Args)]
pub struct Options {
    /// End it after so long (seconds, or with s, m, h)
    #[arg(long, value_parser = duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// How long it has between SIGTERM and SIGKILL
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "5")]
    grace: Duration,
    /// The memory of all its processes together (bytes, or with K, M, G)
    #[arg(long, value_parser = bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// How many processes and threads it may have
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pids: Option<u64>,
    /// How many CPUs' worth of time it may use
    #[arg(long, value_parser = cpus, value_name = "CPUS")]
    cpu: Option<f64>,
    /// A process outside of the tree kills it if this one dies
    #[arg(long)]
    guardian: bool,
    /// Start it on its own, reading and writing nothing, print its number, and return at once
    #[arg(long, conflicts_with_all = ["timeout", "guardian", "tree", "memory", "pids", "cpu"])]
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
    /// Do without a cgroup
    #[arg(long)]
    no_cgroup: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// A time: `5`, `0.5`, `30s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds: f64 = number.parse().map_err(|_| format!("`{text}` is no time"))?;
    let factor = match unit {
        "h" => 3600.0,
        "m" => 60.0,
        _ => 1.0,
    };
    Duration::try_from_secs_f64(seconds * factor).map_err(|error| error.to_string())
}

/// A size: `4096`, `64K`, `512M`, `2G`.
fn bytes(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 30),
        None => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size"))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

fn cpus(text: &str) -> Result<f64, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if cpus > 0.0 && cpus.is_finite() { Ok(cpus) } else { Err("must be above 0".into()) }
}

/// Runs the command; its exit status.
pub fn run(options: &Options) -> ExitCode {
    match try_run(options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("proctable: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn try_run(options: &Options) -> io::Result<u8> {
    // before there is a child: none of these is lost
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    let tree = create(options)?;
    let (program, args) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let command = Command::new(program).args(args);
    if options.detach {
        // whoever reads our output must not wait for it
        let command = command.stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
        return Ok(match tree.spawn_detached(command) {
            Ok(pid) => {
                say!("{pid}");
                0
            }
            Err(error) => refused(&error),
        });
    }
    let terminal = Terminal::new();
    // a job of its own, as a shell makes it
    match tree.spawn(command.group(0)) {
        Err(error) => Ok(refused(&error)),
        Ok(child) => {
            let events = options.events.as_ref().map(File::create).transpose()?;
            let received = events.is_some().then(|| tree.table().subscribe(65_536));
            let received =
                received.transpose().map_err(|errno| io::Error::other(errno.to_string()))?;
            let log = events.zip(received);
            let job = Job { options, tree: &tree, child: &child, terminal, begun: Instant::now() };
            job.run(signals, log)
        }
    }
}

fn create(options: &Options) -> io::Result<ProcessTree> {
    let limits = Limits { memory: options.memory, processes: options.pids, cpu: options.cpu };
    let mut tree = TreeOptions::new().limits(limits);
    if options.no_cgroup {
        tree = tree.without_cgroup();
    }
    if options.guardian {
        tree = tree.guarded();
    }
    if options.on_exit == OnExit::Leave {
        tree = tree.on_drop(OnDrop::Leave);
    }
    tree.create()
}

/// Says why there is no child.
fn refused(error: &proctable::driver::linux::SpawnError) -> u8 {
    eprintln!("proctable: {error}");
    match (error.step, error.error.kind()) {
        (Step::Exec, io::ErrorKind::NotFound) => NOT_FOUND,
        (Step::Exec, _) => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

/// The terminal on standard input, if this process is in its foreground.
struct Terminal {
    own_group: Option<rustix::process::Pid>,
}

impl Terminal {
    fn new() -> Terminal {
        let own = rustix::process::getpgrp();
        let foreground = rustix::termios::tcgetpgrp(io::stdin().as_fd());
        Terminal { own_group: (foreground == Ok(own)).then_some(own) }
    }

    /// Makes a group the foreground group: the child's.
    fn give(&self, pid: i32) {
        if let (Some(_), Some(group)) = (self.own_group, rustix::process::Pid::from_raw(pid)) {
            let _ = rustix::termios::tcsetpgrp(io::stdin().as_fd(), group);
        }
    }

    /// Takes the foreground back.
    fn take(&self) {
        if let Some(own) = self.own_group {
            let _ = rustix::termios::tcsetpgrp(io::stdin().as_fd(), own);
        }
    }
}

/// A command that runs.
struct Job<'a> {
    options: &'a Options,
    tree: &'a ProcessTree,
    child: &'a Child,
    terminal: Terminal,
    begun: Instant,
}

type Log = Option<(File, crossbeam_channel::Receiver<proctable::table::Event>)>;

impl Job<'_> {
    fn run(&self, mut signals: Signals, mut log: Log) -> io::Result<u8> {
        // taking the terminal back from the background must not stop this process
        ignore_ttou()?;
        self.terminal.give(self.child.pid());
        // it may have asked for the terminal before it was given: then it is stopped by now
        let mut view = View::default();
        let deadline = self.options.timeout.map(|timeout| self.begun + timeout);
        let (status, code) = loop {
            if let Some(status) = self.wait(GLANCE)? {
                break (Some(status), code_of(status));
            }
            self.forward(&mut signals)?;
            write_events(&mut log)?;
            if self.options.tree {
                view.draw(self.tree)?;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let shutdown = self.tree.shutdown(Signal::TERM, self.options.grace)?;
                break (shutdown.ended.get(&self.child.pid()).copied(), TIMED_OUT);
            }
        };
        self.terminal.take();
        let left = self.leftovers()?;
        write_events(&mut log)?;
        if self.options.summary {
            self.summarise(status, left)?;
        }
        Ok(code)
    }

    /// Waits for the command: how it ended, if it has. A stop is passed on to this process, so
    /// that its shell sees it.
    fn wait(&self, timeout: Duration) -> io::Result<Option<WaitStatus>> {
        let job = WaitOptions::EXITED.with(WaitOptions::STOPPED);
        let owner =
            self.child.process().info().and_then(|info| self.tree.table().process(info.ppid));
        let Some(owner) = owner else {
            return Ok(self.child.wait().ok());
        };
        let waited = owner.wait_timeout(self.child.process(), job, timeout);
        match waited {
            Ok(Some(waited)) if waited.status.stop_signal().is_some() => {
                self.stop_too();
                Ok(None)
            }
            Ok(waited) => Ok(waited.map(|waited| waited.status)),
            Err(_) => Ok(self.child.wait().ok()),
        }
    }

    /// The command was stopped: so is this process, until its shell continues it.
    fn stop_too(&self) {
        if self.terminal.own_group.is_none() {
            return;
        }
        self.terminal.take();
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
        // continued: in the foreground, if that is where the shell put it
        let terminal = Terminal::new();
        terminal.give(self.child.pid());
        let _ = self.tree.signal(Signal::CONT);
    }

    /// Passes signals on that came to this process.
    fn forward(&self, signals: &mut Signals) -> io::Result<()> {
        for signal in signals.pending() {
            match signal {
                SIGCONT => self.tree.signal(Signal::CONT)?,
                SIGTSTP => self.tree.signal(Signal::TSTP)?,
                signal => {
                    if let Some(signal) = Signal::new(signal) {
                        // to the command: what that starts is its own affair until it ends
                        let _ = self.child.signal(signal);
                    }
                }
            }
        }
        Ok(())
    }

    /// The command has ended: what it left behind is killed, or goes on. How many there were.
    fn leftovers(&self) -> io::Result<usize> {
        let left = self.tree.members()?.len();
        if left > 0 && self.options.on_exit == OnExit::Kill {
            let shutdown = self.tree.shutdown(Signal::TERM, self.options.grace)?;
            for survivor in shutdown.survivors {
                eprintln!("proctable: {} ({}) survives", survivor.pid, survivor.command);
            }
        }
        Ok(left)
    }

    fn summarise(&self, status: Option<WaitStatus>, left: usize) -> io::Result<()> {
        let status = status.map_or("unknown".into(), |status| status.to_string());
        let mechanism = match self.tree.mechanism() {
            Mechanism::Cgroup(_) => "cgroup".into(),
            Mechanism::Scan => match self.tree.without_cgroup_because() {
                Some(why) => format!("scan (no cgroup: {why})"),
                None => "scan".into(),
            },
        };
        let (real, cpu) = (self.begun.elapsed(), self.tree.cpu_time()?);
        eprintln!("{status}; {left} left behind; real {real:.3?}, cpu {cpu:.3?}; {mechanism}");
        Ok(())
    }
}

/// SIGTTOU stops a background process that changes the foreground group.
fn ignore_ttou() -> io::Result<()> {
    let never_read = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(SIGTTOU, never_read).map(drop)
}

fn code_of(status: WaitStatus) -> u8 {
    match status.term_signal() {
        Some(signal) => 128 + signal.number(),
        None => status.exit_code().unwrap_or(FAILED),
    }
}

fn write_events(log: &mut Log) -> io::Result<()> {
    let Some((file, events)) = log else { return Ok(()) };
    for event in events.try_iter() {
        let line = serde_json::json!({
            "number": event.number,
            "process": event.pid.0,
            "what": format!("{:?}", event.what),
            "by": event.cause.map(|cause| cause.actor.0),
            "rule": event.cause.map(|cause| cause.rule.to_string()),
        });
        writeln!(file, "{line}")?;
    }
    Ok(())
}

/// The tree on the screen.
#[derive(Default)]
struct View {
    lines: usize,
    drawn: Option<Instant>,
}

impl View {
    fn draw(&mut self, tree: &ProcessTree) -> io::Result<()> {
        const OFTEN: Duration = Duration::from_millis(500);
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < OFTEN) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        let mut members = tree.members()?;
        members.sort_by_key(|member| (member.started, member.pid));
        let mut text = String::new();
        for _ in 0..self.lines {
            // up a line, and clear it
            text.push_str("\x1b[A\x1b[2K");
        }
        for member in &members {
            let (pid, state, command) = (member.pid, member.state, &member.command);
            text.push_str(&format!("{pid:>8} {state} {:>8} {command}\n", member.ticks));
        }
        self.lines = members.len();
        io::stderr().write_all(text.as_bytes())
    }
}

/// Ends what crashed owners left.
pub fn sweep() -> ExitCode {
    match proctable::driver::linux::sweep() {
        Err(error) => {
            eprintln!("proctable: {error}");
            ExitCode::from(FAILED)
        }
        Ok(swept) => {
            for member in &swept.killed {
                say!("killed {} ({})", member.pid, member.command);
            }
            for folder in &swept.removed {
                say!("removed {}", folder.display());
            }
            for (folder, why) in &swept.left {
                eprintln!("proctable: {}: {why}", folder.display());
            }
            ExitCode::from(u8::from(!swept.left.is_empty()))
        }
    }
}
