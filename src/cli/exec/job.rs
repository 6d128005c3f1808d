//! A command while it runs, and the end of what it leaves behind.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, at, bounded, never, select, tick, unbounded};
use proctable::abi::{SiCode, SigInfo, SigSet, Signal, WaitOptions, WaitStatus};
use proctable::driver::linux::{
    Child, Mechanism, MemberChange, ProcessTree, Reaper, Shutdown, SignalFd, ignored_signals,
};
use proctable::table::TableEvent;

use serde_json::json;

use super::log::Log;
use super::members::Members;
use super::terminal::Terminal;
use super::units::show_bytes;
use super::view::View;
use super::waker::Waker;
use super::{End, FAILED, OnExit, Options, TIMED_OUT};

/// How often the tree is drawn.
const OFTEN: Duration = Duration::from_millis(500);

/// The time between SIGTERM and SIGKILL, if none is given.
const GRACE: Duration = Duration::from_secs(5);
/// The signals with which a user wants the command to end.
const HURRY: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// The signals that come to this process.
pub(super) struct Signals {
    receiver: Receiver<SigInfo>,
    /// Those that this program was started to ignore: the command ignores them, too.
    ignored: SigSet,
}

impl Signals {
    /// From now on they end up here: all that can be caught, and none of them does what it does by
    /// default. Faults of this process's own still end it, and SIGPIPE of its own writes goes to
    /// the thread that writes.
    pub fn receive() -> io::Result<Signals> {
        let ignored = ignored_signals();
        let signals = SignalFd::all()?;
        let (sender, receiver) = unbounded();
        let pass_on = move || while signals.read().is_ok_and(|info| sender.send(info).is_ok()) {};
        std::thread::Builder::new().name("signals".into()).spawn(pass_on)?;
        Ok(Signals { receiver, ignored })
    }
}

/// What comes to it, and where what happens is written.
pub(super) struct Inputs {
    pub signals: Signals,
    pub events: Receiver<TableEvent>,
    pub members: Members,
    pub log: Option<Log>,
}

/// A command that runs.
pub(super) struct CommandJob<'a> {
    options: &'a Options,
    tree: &'a ProcessTree,
    child: &'a Child,
    terminal: Terminal,
    inputs: Inputs,
    reaper: Option<&'a Reaper>,
    begun: Instant,
    timed_out: bool,
    /// How many processes the kernel has killed at the limit of memory.
    oom_kills: u64,
    /// When the command is killed, after a signal to end that was passed on to it.
    kill_at: Option<Instant>,
    /// Processes are left that this program could not end.
    has_survivors: bool,
    /// Whether the command was stopped when it was looked at last.
    stopped: bool,
}

impl<'a> CommandJob<'a> {
    pub fn new(
        options: &'a Options,
        tree: &'a ProcessTree,
        child: &'a Child,
        terminal: Terminal,
        inputs: Inputs,
        reaper: Option<&'a Reaper>,
    ) -> CommandJob<'a> {
        let begun = Instant::now();
        CommandJob {
            options,
            tree,
            child,
            terminal,
            inputs,
            reaper,
            begun,
            timed_out: false,
            oom_kills: 0,
            kill_at: None,
            has_survivors: false,
            stopped: false,
        }
    }

    /// Until nothing is left, or may stay; the exit status.
    pub fn run(mut self) -> io::Result<End> {
        let status = self.await_command()?;
        self.terminal.take(self.child.pid());
        let left = self.end_leftovers()?;
        while let Ok(event) = self.inputs.events.try_recv() {
            self.note(&event);
        }
        for change in self.inputs.members.finish() {
            self.note_member(&change);
        }
        self.note_oom_kills(status);
        if self.options.summary
            && let Err(error) = self.summarise(status, left)
        {
            complain!("proctable: no summary: {error}");
        }
        Ok(match status {
            _ if self.timed_out && !self.options.preserve_status => End::Code(TIMED_OUT),
            Some(status) => match status.term_signal() {
                Some(signal) => End::Signal(signal),
                None => End::Code(status.exit_code().unwrap_or(FAILED)),
            },
            None if self.timed_out => End::Code(TIMED_OUT),
            None => End::Code(FAILED),
        })
    }

    /// Waits for the command: how it ended; `None` if nothing can end it.
    fn await_command(&mut self) -> io::Result<Option<WaitStatus>> {
        let mut view = View::new();
        let mut drawing = if self.options.tree { tick(OFTEN) } else { never() };
        let timeout = self.options.timeout.filter(|timeout| !timeout.is_zero());
        let deadline = timeout.map_or(never(), after);
        loop {
            if let Some(status) = self.look()? {
                return Ok(Some(status));
            }
            select! {
                recv(self.inputs.signals.receiver) -> signal => self.forward(signal.map_err(gone)?)?,
                recv(self.inputs.events) -> event => self.note(&event.map_err(gone)?),
                recv(self.inputs.members.changes) -> change => {
                    self.note_member(&change.map_err(gone)?);
                }
                recv(drawing) -> _ => {
                    if let Err(error) = view.draw(self.tree) {
                        complain!("proctable: the tree is not shown any more: {error}");
                        drawing = never();
                    }
                }
                recv(self.kill_at.map_or(never(), at)) -> _ => {
                    self.kill_at = None;
                    self.say_sends(Signal::KILL, "the tree", "the grace after the signal is over");
                    self.tree.kill()?;
                }
                recv(deadline) -> _ => {
                    self.note_timeout(timeout.unwrap_or_default());
                    let shutdown = self.shut_down(None)?;
                    return Ok(shutdown.ended.get(&self.child.pid()).copied());
                }
            }
        }
    }

    /// How the command ended, if it has. A stop by the terminal is passed on to this process, so
    /// that its shell sees it.
    fn look(&mut self) -> io::Result<Option<WaitStatus>> {
        let job = WaitOptions::EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
        let info = self.child.process().info();
        let owner = info.and_then(|info| self.tree.table().process(info.ppid));
        let Some(owner) = owner else {
            return Ok(self.child.wait().ok());
        };
        match owner.wait_timeout(self.child.process(), job, Duration::ZERO) {
            Ok(Some(waited)) => Ok(match waited.status.stop_signal() {
                Some(signal) => {
                    self.stopped(signal);
                    None
                }
                None if waited.status == WaitStatus::CONTINUED => {
                    self.stopped = false;
                    self.terminal.give(self.child.pid());
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

    /// Writes to the log. A log that cannot be written ends; the command goes on.
    fn log(&mut self, write: impl FnOnce(&mut Log) -> io::Result<()>) {
        let Some(log) = &mut self.inputs.log else { return };
        if let Err(error) = write(log) {
            complain!("proctable: --events: no more events are written: {error}");
            self.inputs.log = None;
        }
    }

    fn note(&mut self, event: &TableEvent) {
        let child = self.child;
        self.log(|log| log.write(event, child));
    }

    /// The command itself has the events of the table, which tell more.
    fn note_member(&mut self, change: &MemberChange) {
        let (MemberChange::Started(member) | MemberChange::Ended { member, .. }) = change;
        if member.pid != self.child.pid() {
            self.log(|log| log.write_member(change));
        }
    }

    fn note_timeout(&mut self, timeout: Duration) {
        self.timed_out = true;
        complain!("proctable: timed out after {timeout:?}: {} to the tree", self.options.signal);
        self.log(|log| {
            log.write_line(json!({ "event": "timed_out", "after": timeout.as_secs_f64() }))
        });
    }

    /// Names the limit of memory if the kernel has killed at it. It kills with SIGKILL, a member or
    /// the command.
    fn note_oom_kills(&mut self, status: Option<WaitStatus>) {
        let limit = self.options.memory;
        let is_killed = status.and_then(WaitStatus::term_signal) == Some(Signal::KILL);
        if limit.is_none() && !is_killed {
            return;
        }
        self.oom_kills = self.tree.oom_kills().map_or(0, |kills| kills.value);
        if self.oom_kills == 0 {
            return;
        }
        complain!("proctable: {}", self.out_of_memory());
        let event = json!({ "event": "out_of_memory", "limit": limit, "killed": self.oom_kills });
        self.log(|log| log.write_line(event));
    }

    fn out_of_memory(&self) -> String {
        let limit = match self.options.memory {
            Some(bytes) => format!("limit {}", show_bytes(bytes)),
            None => "the tree has no limit of its own".into(),
        };
        format!("out of memory: {limit}; processes that the kernel killed: {}", self.oom_kills)
    }

    /// Says which signal is sent to which process, and why (`--verbose`).
    fn say_sends(&self, signal: Signal, target: &str, why: impl std::fmt::Display) {
        if self.options.verbose {
            complain!("proctable: {signal} to {target}: {why}");
        }
    }

    /// The command was stopped. By the terminal, it is the shell's turn, which has to see this
    /// process stop. By anybody else, whoever did that continues it, too, and the clock goes on.
    fn stopped(&mut self, signal: Signal) {
        self.stopped = true;
        let group = self.child.pid();
        match (signal, Terminal::foreground()) {
            (Signal::TTIN | Signal::TTOU, Some(_)) if self.terminal.is_ours() => self.go_on(),
            (Signal::TTIN | Signal::TTOU, Some(other)) if other != group => self.stop_or_go_on(),
            (Signal::TSTP, Some(foreground)) if foreground == group => self.stop_or_go_on(),
            // the keyboard must not be that of somebody who is stopped: ^Z is for the shell then
            _ => self.terminal.take(group),
        }
    }

    /// Without a shell nobody could ever continue what was stopped from the keyboard.
    fn stop_or_go_on(&mut self) {
        if self.terminal.has_shell() { self.stop_too() } else { self.go_on() }
    }

    /// Stops this process and its group, until somebody continues it: its shell, or the waker if
    /// somebody else has continued the command.
    fn stop_too(&self) {
        self.terminal.take(self.child.pid());
        let waker = Waker::start(self.child.pid(), self.reaper);
        // those around it as the terminal would have stopped them, had the command been in this
        // group
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
        // this process blocks that. It goes on by a SIGCONT, which is then passed on, once: a
        // second one would undo the next stop
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
        drop(waker);
    }

    fn go_on(&mut self) {
        self.stopped = false;
        self.terminal.give(self.child.pid());
        let _ = self.tree.signal(Signal::CONT);
    }

    /// Passes a signal on that came to this process.
    fn forward(&mut self, info: SigInfo) -> io::Result<()> {
        match info.signal {
            // of this process's own children
            Signal::CHLD => {}
            // it has stopped its group
            Signal::TSTP if info.pid.0 == std::process::id() => {}
            // pressed while the command was stopped by somebody else
            Signal::TSTP if self.stopped && info.code == SiCode::KERNEL => {
                if self.terminal.has_shell() {
                    self.stop_too();
                }
            }
            Signal::TSTP => {
                self.say_sends(Signal::TSTP, "the tree", source_of(&info));
                self.tree.signal(Signal::TSTP)?;
            }
            Signal::CONT => {
                self.say_sends(Signal::CONT, "the tree", source_of(&info));
                self.go_on();
            }
            signal => {
                // a signal to end is for the whole tree, so that no process of it holds the command
                // up; any other is the command's
                let ends = HURRY.contains(&signal);
                let _ = match ends && !self.options.signal_command {
                    true => {
                        self.say_sends(signal, "the tree", source_of(&info));
                        self.tree.signal(signal)
                    }
                    false => {
                        self.say_sends(signal, &self.command(), source_of(&info));
                        self.child.signal(signal)
                    }
                };
                let is_meant = ends && !self.inputs.signals.ignored.contains(signal);
                if let Some(grace) = self.options.grace.filter(|_| is_meant) {
                    let first = self.kill_at;
                    self.kill_at = first.or_else(|| Instant::now().checked_add(grace));
                }
            }
        }
        Ok(())
    }

    /// The command has ended: what it left behind is ended, or goes on. How many there were.
    fn end_leftovers(&mut self) -> io::Result<usize> {
        if self.options.on_exit == OnExit::Leave && !self.options.summary {
            return Ok(0);
        }
        let left = self.tree.members()?.len();
        if self.has_survivors {
            // they were named, and a second attempt would wait for them again
            return Ok(left);
        }
        // who cannot be seen may be there
        let is_blind = self.tree.mechanism() == Mechanism::Children;
        if (left > 0 || is_blind) && self.options.on_exit == OnExit::Kill {
            self.shut_down(Some("processes are left of the command"))?;
        }
        Ok(left)
    }

    /// Ends the tree; at once if whoever waits for that is in a hurry, and sends this process
    /// another signal. Who survives is named.
    fn shut_down(&mut self, why: Option<&str>) -> io::Result<Shutdown> {
        let (tree, signal) = (self.tree, self.options.signal);
        if let Some(why) = why {
            self.say_sends(signal, "the tree", why);
        }
        let (done, ended) = bounded(1);
        let grace = self.options.grace.unwrap_or(GRACE);
        let shutdown = std::thread::scope(|scope| {
            let shut_down = move || tree.shutdown(signal, grace);
            let other = std::thread::Builder::new().name("shutdown".into());
            if other.spawn_scoped(scope, move || done.send(shut_down())).is_err() {
                // no thread is left (RLIMIT_NPROC): then a second signal hurries nobody
                return shut_down();
            }
            loop {
                select! {
                    recv(ended) -> shutdown => return shutdown.map_err(gone)?,
                    recv(self.inputs.signals.receiver) -> signal => {
                        let info = signal.map_err(gone)?;
                        if HURRY.contains(&info.signal) {
                            self.say_sends(Signal::KILL, "the tree", source_of(&info));
                            tree.kill()?;
                        }
                    }
                }
            }
        })?;
        if shutdown.killed {
            let why = format_args!("processes are left after the grace of {grace:?}");
            self.say_sends(Signal::KILL, "the tree", why);
        }
        for survivor in &shutdown.survivors {
            complain!("proctable: {} ({}) survives", survivor.pid, survivor.command);
        }
        if let Some(why) = &shutdown.unseen {
            complain!("proctable: others may be left that cannot be seen: {why}");
        }
        self.has_survivors = !shutdown.survivors.is_empty() || shutdown.unseen.is_some();
        Ok(shutdown)
    }

    fn command(&self) -> String {
        format!("the command ({})", self.child.pid())
    }

    fn summarise(&self, status: Option<WaitStatus>, left: usize) -> io::Result<()> {
        let mut status = status.map_or("unknown".into(), |status| status.to_string());
        if let Some(timeout) = self.options.timeout.filter(|_| self.timed_out) {
            status = format!("timed out after {timeout:?}: {status}");
        }
        let mechanism = match self.tree.mechanism() {
            Mechanism::Cgroup(_) => "cgroup".into(),
            Mechanism::Scan => match self.tree.without_cgroup_because() {
                Some(why) => format!("scan (no cgroup: {why})"),
                None => "scan".into(),
            },
            Mechanism::Children => "direct children alone".into(),
        };
        let (real, stats) = (self.begun.elapsed(), self.tree.stats()?);
        let cpu = stats.cpu.value;
        complain!("{status}; {left} left behind; real {real:.3?}, cpu {cpu:.3?}; {mechanism}");
        if let Some(peak) = stats.memory_peak {
            complain!("memory at most {} bytes ({:?})", peak.value, peak.source);
        }
        if self.oom_kills > 0 {
            complain!("{}", self.out_of_memory());
        }
        for enforced in self.tree.enforced() {
            complain!("{enforced}");
        }
        Ok(())
    }
}

/// Where a signal that is passed on comes from.
fn source_of(info: &SigInfo) -> String {
    match info.pid.0 {
        // the terminal, a timer, or a process of another pid namespace
        0 => format!("{} came from the kernel", info.signal),
        pid => format!("{} came from process {pid}", info.signal),
    }
}

/// Neither the thread of the signals nor the table ends before this program does.
fn gone(_: crossbeam_channel::RecvError) -> io::Error {
    io::Error::other("a source of events is gone")
}
