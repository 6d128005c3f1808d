//! The shell itself: a guest that leads the session of the terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proctable::abi::{
    Errno, Handler, Pid, SaFlags, SigAction, SigInfo, SigSet, Signal, WaitOptions,
};
use proctable::drivers::Guest;
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall, TerminalRequest, how};
use proctable::table::{GroupChoice, Image, ProcessTable, Spawn};
use proctable::tty::{SetTermios, Termios};

use super::command_line::{Pipeline, expand, parse};
use super::jobs::{Jobs, State, describe};
use super::pipe::pipe;
use super::programs::{self, Input, Output, Start};

const PROMPT: &str = "$ ";

/// The signals that a shell ignores, and that its jobs do not.
const IGNORED: [Signal; 5] = [Signal::QUIT, Signal::TERM, Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// Those that it catches.
const CAUGHT: [Signal; 2] = [Signal::INT, Signal::HUP];

/// Why the shell reads no further line.
enum Stop {
    /// `exit`, or the end of the input.
    Exit(i32),
    /// The window was closed.
    HangUp,
}

/// What the handlers share with the shell.
#[derive(Default)]
struct Signalled {
    /// SIGHUP has come.
    has_hung_up: AtomicBool,
    /// SIGINT has come at the prompt.
    was_interrupted: AtomicBool,
}

/// The signals that a shell waits for. They are blocked but at the prompt, so that none comes just
/// before the call that waits for it.
fn awaited() -> SigSet {
    [Signal::INT, Signal::HUP, Signal::CHLD].into_iter().collect()
}

struct Shell<'a> {
    guest: &'a mut Guest,
    table: &'a ProcessTable,
    terminal: u32,
    modes: Box<Termios>,
    jobs: Jobs,
    /// `$?`.
    status: i32,
    signalled: Arc<Signalled>,
    /// The user was told of stopped jobs: a second `exit` exits.
    was_warned: bool,
}

/// Runs the shell on the terminal; the exit code.
pub fn shell(guest: &mut Guest, table: &ProcessTable, terminal: u32) -> i32 {
    Shell::start(guest, table, terminal).map_or(1, |mut shell| shell.run())
}

impl Shell<'_> {
    fn start<'a>(
        guest: &'a mut Guest,
        table: &'a ProcessTable,
        terminal: u32,
    ) -> Result<Shell<'a>, Errno> {
        for signal in IGNORED {
            guest
                .sigaction(signal, SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT })?;
        }
        let signalled = Arc::<Signalled>::default();
        guest.sigprocmask(how::BLOCK, awaited())?;
        let at_hang_up = signalled.clone();
        let hang_up = move |_: &mut Guest, _: &SigInfo| {
            at_hang_up.has_hung_up.store(true, Ordering::SeqCst);
        };
        guest.catch(Signal::HUP, SaFlags(0), hang_up)?;
        // ^C: the line that was typed is gone, and a new one begins
        let at_interrupt = signalled.clone();
        let interrupt = move |guest: &mut Guest, _: &SigInfo| {
            at_interrupt.was_interrupted.store(true, Ordering::SeqCst);
            let _ = Output::Terminal(terminal).write(guest, format!("\n{PROMPT}").as_bytes());
        };
        guest.catch(Signal::INT, SaFlags::RESTART, interrupt)?;
        let mut shell = Shell {
            guest,
            table,
            terminal,
            modes: Box::default(),
            jobs: Jobs::default(),
            status: 0,
            signalled,
            was_warned: false,
        };
        shell.ioctl(TerminalRequest::Tiocsctty(0))?;
        shell.save_modes();
        Ok(shell)
    }

    fn ioctl(&mut self, request: TerminalRequest) -> Result<Ret, Errno> {
        self.guest.syscall(Syscall::Ioctl { file: self.terminal, request })
    }

    fn print(&mut self, text: &str) {
        // a terminal that has hung up
        let _ = Output::Terminal(self.terminal).write(self.guest, text.as_bytes());
    }

    fn complain(&mut self, status: i32, text: impl std::fmt::Display) {
        self.print(&format!("shell: {text}\n"));
        self.status = status;
    }

    fn save_modes(&mut self) {
        if let Ok(Ret::Termios(modes)) = self.ioctl(TerminalRequest::Tcgets) {
            self.modes = modes;
        }
    }

    fn run(&mut self) -> i32 {
        let stop = loop {
            self.take_events();
            let news = self.jobs.news();
            self.print(&news);
            match self.read_line() {
                Ok(Some(line)) => {
                    if let Err(stop) = self.execute(&line) {
                        break stop;
                    }
                }
                Ok(None) => {
                    if let Err(stop) = self.exit(None) {
                        break stop;
                    }
                }
                Err(stop) => break stop,
            }
        };
        match stop {
            Stop::Exit(code) => {
                self.signal_stopped(Signal::TERM);
                code
            }
            Stop::HangUp => {
                let groups: Vec<Pid> = self.jobs.iter().map(|job| job.group).collect();
                groups
                    .into_iter()
                    .for_each(|group| self.signal_group(group, Signal::HUP.number().into()));
                self.signal_stopped(Signal::CONT);
                128 + i32::from(Signal::HUP.number())
            }
        }
    }

    /// Shows the prompt. Returns the next line; `None` at the end of the input. ^C begins a new
    /// line.
    fn read_line(&mut self) -> Result<Option<String>, Stop> {
        self.print(PROMPT);
        let at_prompt = Signal::INT.set() | Signal::HUP.set();
        let _ = self.guest.sigprocmask(how::UNBLOCK, at_prompt);
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let read = Syscall::Read { file: self.terminal, len: 4096 };
            match self.guest.syscall(read) {
                Ok(Ret::Bytes(bytes)) if bytes.is_empty() && line.is_empty() => break,
                Ok(Ret::Bytes(bytes)) => line.extend_from_slice(&bytes),
                // EINTR: SIGHUP; EIO: the terminal was hung up
                Ok(_) | Err(_) => {
                    self.signalled.has_hung_up.store(true, Ordering::SeqCst);
                    break;
                }
            }
        }
        let _ = self.guest.sigprocmask(how::BLOCK, at_prompt);
        if self.signalled.was_interrupted.swap(false, Ordering::SeqCst) {
            self.status = 128 + i32::from(Signal::INT.number());
        }
        if self.has_hung_up() {
            return Err(Stop::HangUp);
        }
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }

    fn execute(&mut self, line: &str) -> Result<(), Stop> {
        let pipelines = match parse(line) {
            Ok(pipelines) => pipelines,
            Err(error) => {
                self.complain(2, error);
                return Ok(());
            }
        };
        for mut pipeline in pipelines {
            for word in pipeline.commands.iter_mut().flatten() {
                *word = expand(word, self.status);
            }
            let words = &pipeline.commands[0];
            let is_alone = pipeline.commands.len() == 1 && !pipeline.is_background;
            if is_alone && self.built_in(words)? {
                continue;
            }
            self.was_warned = false;
            match pipeline.commands.iter().find(|words| !programs::exists(&words[0])) {
                Some(unknown) => {
                    self.complain(127, format_args!("{}: command not found", unknown[0]));
                }
                None => self.start_job(pipeline),
            }
            if self.has_hung_up() {
                return Err(Stop::HangUp);
            }
        }
        Ok(())
    }

    /// Runs a command of the shell's own; `false` if it is none.
    fn built_in(&mut self, words: &[String]) -> Result<bool, Stop> {
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let was_warned = std::mem::take(&mut self.was_warned);
        self.was_warned = was_warned && matches!(words[0].as_str(), "exit" | "jobs");
        match words[0].as_str() {
            "jobs" => {
                let lines: String = self.jobs.iter().map(|job| self.jobs.line(job)).collect();
                self.print(&lines);
                self.jobs.news();
                self.status = 0;
            }
            name @ ("fg" | "bg") => match self.jobs.find(args.first().copied()) {
                Some(number) if name == "bg" && self.is_running(number) => {
                    self.complain(0, format_args!("bg: job {number} already in background"));
                }
                Some(number) => self.continue_job(number, name == "fg"),
                None => {
                    let job = args.first().copied().unwrap_or("current");
                    self.complain(1, format_args!("{name}: {job}: no such job"));
                }
            },
            "kill" => self.kill(&args),
            "wait" => self.wait(),
            "exit" => self.exit(args.first().and_then(|code| code.parse().ok()))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Waits for all jobs that run; ^C ends the wait.
    fn wait(&mut self) {
        self.status = 0;
        self.take_events();
        while self.jobs.iter().any(|job| job.state() == State::Running) && !self.has_hung_up() {
            if self.sleep() == Some(Signal::INT) {
                self.print("\n");
                self.status = 128 + i32::from(Signal::INT.number());
                return;
            }
            self.take_events();
        }
    }

    fn exit(&mut self, code: Option<i32>) -> Result<(), Stop> {
        self.print("exit\n");
        let has_stopped = self.jobs.iter().any(|job| matches!(job.state(), State::Stopped(_)));
        if has_stopped && !self.was_warned {
            self.print("There are stopped jobs.\n");
            self.was_warned = true;
            self.status = 1;
            return Ok(());
        }
        Err(Stop::Exit(code.unwrap_or(self.status)))
    }

    /// `kill [-SIGNAL] JOB|PID…`; signal 0 tests whether there is such a process.
    fn kill(&mut self, args: &[&str]) {
        let (number, targets) = match args.split_first() {
            Some((first, rest)) if first.starts_with('-') => {
                let name = &first[1..];
                let number = name.parse().ok().filter(|number| (0..=64).contains(number));
                let named = || Signal::from_name(name).map(|signal| signal.number().into());
                match number.or_else(named) {
                    Some(number) => (number, rest),
                    None => {
                        let error = format_args!("kill: {name}: invalid signal specification");
                        return self.complain(1, error);
                    }
                }
            }
            _ => (Signal::TERM.number().into(), args),
        };
        if targets.is_empty() {
            return self.complain(2, "kill: usage: kill [-SIGNAL] JOB|PID...");
        }
        self.status = 0;
        for target in targets {
            let job = target.starts_with('%').then(|| self.jobs.find(Some(target)));
            match (job, target.parse()) {
                (Some(Some(job)), _) => self.signal_job(job, number),
                (None, Ok(pid)) => {
                    let kill = Syscall::Kill { pid, sig: number };
                    if let Err(errno) = self.guest.syscall(kill) {
                        self.complain(1, format_args!("kill: ({pid}) - {}", errno.message()));
                    }
                }
                (Some(None), _) => self.complain(1, format_args!("kill: {target}: no such job")),
                (None, Err(_)) => {
                    let error = "arguments must be process or job IDs";
                    self.complain(1, format_args!("kill: {target}: {error}"));
                }
            }
        }
    }

    /// A signal that ends jobs continues a stopped one, so that it can end.
    fn signal_job(&mut self, number: usize, signal: i32) {
        let Some(job) = self.jobs.get(number) else { return };
        let (group, is_stopped) = (job.group, matches!(job.state(), State::Stopped(_)));
        self.signal_group(group, signal);
        if is_stopped && matches!(Signal::new(signal), Some(Signal::TERM | Signal::HUP)) {
            self.signal_group(group, Signal::CONT.number().into());
        }
    }

    fn is_running(&self, number: usize) -> bool {
        self.jobs.get(number).is_some_and(|job| job.state() == State::Running)
    }

    fn signal_group(&mut self, group: Pid, signal: i32) {
        // a group that has ended in the meantime
        let _ = self.guest.syscall(Syscall::Kill { pid: -(group.0 as i32), sig: signal });
    }

    fn signal_stopped(&mut self, signal: Signal) {
        let stopped = self.jobs.iter().filter(|job| matches!(job.state(), State::Stopped(_)));
        let numbers: Vec<usize> = stopped.map(|job| job.number).collect();
        numbers.iter().for_each(|number| self.signal_job(*number, signal.number().into()));
    }

    /// Takes the events of children, without a wait.
    fn take_events(&mut self) {
        let options = WaitOptions::NOHANG.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
        while let Ok(Some((pid, status))) = self.guest.waitpid(-1, options) {
            self.jobs.update(pid, status);
        }
    }

    /// Sleeps until a child may have an event, or another signal has come. Returns the signal.
    fn sleep(&mut self) -> Option<Signal> {
        let (set, info, size) = (awaited(), Ptr::Valid, SIGSET_SIZE);
        let call = Syscall::RtSigtimedwait { set, info, timeout: None, size };
        match self.guest.syscall(call) {
            Ok(Ret::Signal(info)) => {
                if info.signal == Signal::HUP {
                    self.signalled.has_hung_up.store(true, Ordering::SeqCst);
                }
                Some(info.signal)
            }
            // EINTR: a stop
            _ => None,
        }
    }

    fn has_hung_up(&self) -> bool {
        self.signalled.has_hung_up.load(Ordering::SeqCst)
    }

    /// Starts the processes of a pipeline in a group of their own.
    fn start_job(&mut self, pipeline: Pipeline) {
        let Pipeline { commands, is_background, text } = pipeline;
        // the processes begin when this end is dropped: the group has the terminal by then
        let (gate, open) = pipe();
        let gate = Arc::new(gate);
        let mut input = Input::Terminal(self.terminal);
        let mut pids: Vec<Pid> = Vec::new();
        let last = commands.len() - 1;
        for (nth, words) in commands.into_iter().enumerate() {
            let next = (nth < last).then(pipe);
            let (next, output) = match next {
                Some((reader, writer)) => (Input::Pipe(reader), Output::Pipe(writer)),
                None => (Input::Terminal(self.terminal), Output::Terminal(self.terminal)),
            };
            let group =
                pids.first().map_or(GroupChoice::Own, |pid| GroupChoice::Join((*pid).into()));
            let signals: SigSet = IGNORED.into_iter().chain(CAUGHT).collect();
            let spawn = Spawn::new(Image::new(words[0].as_str()));
            let spawn = spawn.group(group).default_signals(signals).mask(SigSet::default());
            let start = Start {
                words,
                input: std::mem::replace(&mut input, next),
                output,
                terminal: self.terminal,
                table: self.table.clone(),
            };
            let gate = gate.clone();
            let spawned = self.guest.spawn(spawn, move |guest| {
                let _ = guest.block_on(gate.read(1));
                programs::run(&start, guest)
            });
            match spawned {
                Ok(pid) => pids.push(pid),
                Err(errno) => {
                    self.complain(254, format_args!("fork: {}", errno.message()));
                    break;
                }
            }
        }
        if pids.is_empty() {
            return;
        }
        let number = self.jobs.add(&pids, text);
        if is_background {
            drop(open);
            self.jobs.choose_current();
            self.print(&format!("[{number}] {}\n", pids[pids.len() - 1].0));
            self.status = 0;
        } else {
            self.bring_to_foreground(pids[0]);
            drop(open);
            self.wait_for_job(number);
        }
    }

    fn continue_job(&mut self, number: usize, in_foreground: bool) {
        let mark = self.jobs.mark(number);
        let Some(job) = self.jobs.get_mut(number) else { return };
        let (group, text) = (job.group, job.text.clone());
        job.note_continue();
        if in_foreground {
            self.jobs.set_current(number);
            self.print(&format!("{text}\n"));
            self.bring_to_foreground(group);
            self.signal_group(group, Signal::CONT.number().into());
            self.wait_for_job(number);
        } else {
            self.print(&format!("[{number}]{mark} {text} &\n"));
            self.signal_group(group, Signal::CONT.number().into());
            self.jobs.choose_current();
            self.status = 0;
        }
    }

    fn bring_to_foreground(&mut self, group: Pid) {
        // allowed from the background: the shell ignores SIGTTOU (TTY-17)
        let _ = self.ioctl(TerminalRequest::Tiocspgrp(group.0 as i32));
    }

    /// Waits until a job in the foreground has ended or stopped, and takes the terminal back.
    fn wait_for_job(&mut self, number: usize) {
        self.take_events();
        while self.is_running(number) && !self.has_hung_up() {
            self.sleep();
            self.take_events();
        }
        self.bring_to_foreground(self.guest.pid());
        let Some(job) = self.jobs.get_mut(number) else { return };
        let (state, status) = (job.state(), job.status());
        self.status = status;
        match state {
            State::Running => {}
            // told before the next prompt
            State::Stopped(_) => self.restore_modes(),
            State::Ended(ended) => {
                job.is_known = true;
                match ended.term_signal() {
                    None => self.save_modes(),
                    Some(signal) => {
                        self.restore_modes();
                        match signal {
                            Signal::INT => self.print("\n"),
                            Signal::PIPE => {}
                            _ => self.print(&format!("{}\n", describe(ended))),
                        }
                    }
                }
                self.jobs.forget_ended();
            }
        }
    }

    /// A job that was stopped or killed may have left the terminal in another mode.
    fn restore_modes(&mut self) {
        let modes = self.modes.clone();
        let _ = self.ioctl(TerminalRequest::Tcsets(SetTermios::Now, modes));
    }
}
