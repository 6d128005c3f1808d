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
    set_foreground,
};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
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
    // SIGCHLD, as whoever started this one may ignore it: the kernel would reap the command then,
    // and its status would be lost
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH, SIGCHLD])?;
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
    let command = command.group(0);
    let command = if terminal.is_ours() { command.foreground() } else { command };
    match tree.spawn(command) {
        Err(error) => {
            terminal.take_from_anybody();
            Ok(refused(&error))
        }
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

/// The terminal on standard input.
struct Terminal {
    /// This process's group; `None` if it has no number in this pid namespace.
    own_group: Option<i32>,
    /// Whether this process began in its foreground.
    given: bool,
    /// Whether it leads its session: then there is no shell above it.
    leads: bool,
}

impl Terminal {
    fn new() -> Terminal {
        // getpgrp and getsid give 0 for what is outside of the namespace, which rustix rules out
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let mut numbers = fields.skip(2).map_while(|field| field.parse::<i32>().ok());
        let own_group = numbers.next().filter(|group| *group > 0);
        let leads = numbers.next().is_some_and(|session| session as u32 == std::process::id());
        let given = own_group.is_some() && Terminal::foreground() == own_group;
        Terminal { own_group, given, leads }
    }

    /// The group in the foreground; `None` if standard input is no controlling terminal.
    fn foreground() -> Option<i32> {
        let group = rustix::termios::tcgetpgrp(io::stdin().as_fd()).ok()?;
        Some(group.as_raw_nonzero().get())
    }

    /// Whether this process is in the foreground.
    fn is_ours(&self) -> bool {
        self.own_group.is_some() && Terminal::foreground() == self.own_group
    }

    fn set(group: i32) {
        // a terminal that has hung up: the command will notice
        let _ = set_foreground(io::stdin(), group);
    }

    /// Makes the command's group the foreground group, if it is for this process to say.
    fn give(&self, group: i32) {
        if self.is_ours() {
            Terminal::set(group);
        }
    }

    /// Takes the foreground back from the command: when it ran in the background, a shell has it.
    fn take(&self, group: i32) {
        if let Some(own) = self.own_group.filter(|_| Terminal::foreground() == Some(group)) {
            Terminal::set(own);
        }
    }

    /// The same after a command that could not be started.
    fn take_from_anybody(&self) {
        if let Some(own) = self.own_group.filter(|_| self.given) {
            Terminal::set(own);
        }
    }

    /// Whether there is a shell that sees this process stop, and continues it.
    fn has_shell(&self) -> bool {
        !self.leads && Terminal::foreground().is_some()
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
        self.terminal.take(self.child.pid());
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
            Ok(Some(waited)) => Ok(match waited.status.stop_signal() {
                Some(signal) => {
                    self.stop_too(signal);
                    None
                }
                None => Some(waited.status),
            }),
            Ok(None) => Ok(None),
            Err(errno) => {
                let lost = || io::Error::other(format!("how it ended is not known: {errno}"));
                Ok(Some(self.child.wait().map_err(|_| lost())?))
            }
        }
    }

    /// The command was stopped: so is this process, until its shell continues it.
    fn stop_too(&self, signal: Signal) {
        if self.terminal.has_shell() {
            self.terminal.take(self.child.pid());
            // this thread goes on when the shell says so, by a SIGCONT that is then passed on, once:
            // a second one would undo the next stop
            let _ = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
        } else if signal != Signal::STOP && Terminal::foreground().is_some() {
            // without a shell nobody could ever continue what was stopped from the keyboard; who
            // stops it otherwise may continue it
            self.go_on();
        }
    }

    fn go_on(&self) {
        self.terminal.give(self.child.pid());
        let _ = self.tree.signal(Signal::CONT);
    }

    /// Passes signals on that came to this process.
    fn forward(&self, signals: &mut Signals) -> io::Result<()> {
        for signal in signals.pending() {
            match signal {
                SIGCONT => self.go_on(),
                SIGCHLD => {}
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
