//! A command while it runs, and the end of what it leaves behind.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, at, bounded, never, select, tick, unbounded};
use proctable::abi::{SiCode, SigInfo, SigSet, Signal, WaitOptions, WaitStatus};
use proctable::driver::linux::{
    Child, Mechanism, ProcessTree, Reaper, Shutdown, SignalFd, ignored_signals,
};
use proctable::table::TableEvent;

use super::log::Log;
use super::terminal::Terminal;
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
        if self.options.summary
            && let Err(error) = self.summarise(status, left)
        {
            complain!("proctable: no summary: {error}");
        }
        Ok(match status {
            _ if self.timed_out => End::Code(TIMED_OUT),
            Some(status) => match status.term_signal() {
                Some(signal) => End::Signal(signal),
                None => End::Code(status.exit_code().unwrap_or(FAILED)),
            },
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
                recv(drawing) -> _ => {
                    if let Err(error) = view.draw(self.tree) {
                        complain!("proctable: the tree is not shown any more: {error}");
                        drawing = never();
                    }
                }
                recv(self.kill_at.map_or(never(), at)) -> _ => {
                    self.kill_at = None;
                    self.tree.kill()?;
                }
                recv(deadline) -> _ => {
                    self.timed_out = true;
                    let shutdown = self.shut_down()?;
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

    /// Writes an event to the log. A log that cannot be written ends; the command goes on.
    fn note(&mut self, event: &TableEvent) {
        let Some(log) = &mut self.inputs.log else { return };
        if let Err(error) = log.write(event, self.child) {
            complain!("proctable: no more events are written: {error}");
            self.inputs.log = None;
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
            Signal::TSTP => self.tree.signal(Signal::TSTP)?,
            Signal::CONT => self.go_on(),
            signal => {
                // a signal to end is for the whole tree, so that no process of it holds the command
                // up; any other is the command's
                let ends = HURRY.contains(&signal);
                let _ = match ends && !self.options.signal_command {
                    true => self.tree.signal(signal),
                    false => self.child.signal(signal),
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
            self.shut_down()?;
        }
        Ok(left)
    }

    /// Ends the tree; at once if whoever waits for that is in a hurry, and sends this process
    /// another signal. Who survives is named.
    fn shut_down(&mut self) -> io::Result<Shutdown> {
        let tree = self.tree;
        let (done, ended) = bounded(1);
        let grace = self.options.grace.unwrap_or(GRACE);
        let shutdown = std::thread::scope(|scope| {
            let shut_down = move || tree.shutdown(Signal::TERM, grace);
            let other = std::thread::Builder::new().name("shutdown".into());
            if other.spawn_scoped(scope, move || done.send(shut_down())).is_err() {
                // no thread is left (RLIMIT_NPROC): then a second signal hurries nobody
                return shut_down();
            }
            loop {
                select! {
                    recv(ended) -> shutdown => return shutdown.map_err(gone)?,
                    recv(self.inputs.signals.receiver) -> signal => {
                        if HURRY.contains(&signal.map_err(gone)?.signal) {
                            tree.kill()?;
                        }
                    }
                }
            }
        })?;
        for survivor in &shutdown.survivors {
            complain!("proctable: {} ({}) survives", survivor.pid, survivor.command);
        }
        if let Some(why) = &shutdown.unseen {
            complain!("proctable: others may be left that cannot be seen: {why}");
        }
        self.has_survivors = !shutdown.survivors.is_empty() || shutdown.unseen.is_some();
        Ok(shutdown)
    }

    fn summarise(&self, status: Option<WaitStatus>, left: usize) -> io::Result<()> {
        let status = status.map_or("unknown".into(), |status| status.to_string());
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
        if let Some(kills) = stats.oom_kills.filter(|kills| kills.value > 0) {
            complain!("{} killed by the kernel for want of memory", kills.value);
        }
        for enforced in self.tree.enforced() {
            complain!("{enforced}");
        }
        Ok(())
    }
}

/// Neither the thread of the signals nor the table ends before this program does.
fn gone(_: crossbeam_channel::RecvError) -> io::Error {
    io::Error::other("a source of events is gone")
}
