//! A command while it runs, and the end of what it leaves behind.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select, tick, unbounded};
use proctable::abi::{Signal, WaitOptions, WaitStatus};
use proctable::driver::linux::{Child, Mechanism, ProcessTree, Shutdown};
use proctable::table::Event;
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};

use super::log::Log;
use super::terminal::Terminal;
use super::view::View;
use super::{FAILED, OnExit, Options, TIMED_OUT};

/// How often the tree is drawn.
const OFTEN: Duration = Duration::from_millis(500);

/// The signals that come to this process.
pub(super) struct Signals(Receiver<i32>);

impl Signals {
    /// From now on they end up here.
    pub fn receive() -> io::Result<Signals> {
        // SIGCHLD, as whoever started this one may ignore it: the kernel would reap the command
        // then, and its status would be lost
        let signals = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH, SIGCHLD];
        let mut signals = signal_hook::iterator::Signals::new(signals)?;
        let (sender, receiver) = unbounded();
        let pass_on = move || signals.forever().try_for_each(|signal| sender.send(signal));
        std::thread::Builder::new().name("signals".into()).spawn(pass_on)?;
        Ok(Signals(receiver))
    }
}

/// A command that runs.
pub(super) struct Job<'a> {
    options: &'a Options,
    tree: &'a ProcessTree,
    child: &'a Child,
    terminal: Terminal,
    signals: Signals,
    events: Receiver<Event>,
    log: Option<Log>,
    begun: Instant,
    timed_out: bool,
}

impl<'a> Job<'a> {
    pub fn new(
        options: &'a Options,
        tree: &'a ProcessTree,
        child: &'a Child,
        terminal: Terminal,
        signals: Signals,
        events: Receiver<Event>,
        log: Option<Log>,
    ) -> Job<'a> {
        let begun = Instant::now();
        Job { options, tree, child, terminal, signals, events, log, begun, timed_out: false }
    }

    /// Until nothing is left, or may stay; the exit status.
    pub fn run(mut self) -> io::Result<u8> {
        let status = self.await_command()?;
        self.terminal.take(self.child.pid());
        let left = self.end_leftovers()?;
        while let Ok(event) = self.events.try_recv() {
            self.note(&event)?;
        }
        if self.options.summary {
            self.summarise(status, left)?;
        }
        Ok(match status {
            _ if self.timed_out => TIMED_OUT,
            Some(status) => code_of(status),
            None => FAILED,
        })
    }

    /// Waits for the command: how it ended; `None` if nothing can end it.
    fn await_command(&mut self) -> io::Result<Option<WaitStatus>> {
        let mut view = View::new();
        let drawing = if self.options.tree { tick(OFTEN) } else { never() };
        let timeout = self.options.timeout.filter(|timeout| !timeout.is_zero());
        let deadline = timeout.map_or(never(), after);
        loop {
            if let Some(status) = self.look()? {
                return Ok(Some(status));
            }
            select! {
                recv(self.signals.0) -> signal => self.forward(signal.map_err(gone)?)?,
                recv(self.events) -> event => self.note(&event.map_err(gone)?)?,
                recv(drawing) -> _ => view.draw(self.tree)?,
                recv(deadline) -> _ => {
                    self.timed_out = true;
                    let shutdown = self.shut_down()?;
                    return Ok(shutdown.ended.get(&self.child.pid()).copied());
                }
            }
        }
    }

    /// How the command ended, if it has. A stop is passed on to this process, so that its shell
    /// sees it.
    fn look(&self) -> io::Result<Option<WaitStatus>> {
        let job = WaitOptions::EXITED.with(WaitOptions::STOPPED);
        let info = self.child.process().info();
        let owner = info.and_then(|info| self.tree.table().process(info.ppid));
        let Some(owner) = owner else {
            return Ok(self.child.wait().ok());
        };
        match owner.wait_timeout(self.child.process(), job, Duration::ZERO) {
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

    fn note(&mut self, event: &Event) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write(event, self.child))
    }

    /// The command was stopped: so is this process, until its shell continues it.
    fn stop_too(&self, signal: Signal) {
        if self.terminal.has_shell() {
            self.terminal.take(self.child.pid());
            // this process goes on when the shell says so, by a SIGCONT that is then passed on,
            // once: a second one would undo the next stop
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

    /// Passes a signal on that came to this process.
    fn forward(&self, signal: i32) -> io::Result<()> {
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
        Ok(())
    }

    /// The command has ended: what it left behind is ended, or goes on. How many there were.
    fn end_leftovers(&self) -> io::Result<usize> {
        let left = self.tree.members()?.len();
        // who cannot be seen may be there
        let is_blind = self.tree.mechanism() == Mechanism::Children;
        if (left > 0 || is_blind) && self.options.on_exit == OnExit::Kill {
            self.shut_down()?;
        }
        Ok(left)
    }

    /// Ends the tree; at once if whoever waits for that is in a hurry, and sends this process
    /// another signal. Who survives is named.
    fn shut_down(&self) -> io::Result<Shutdown> {
        let (done, ended) = bounded(1);
        let shutdown = std::thread::scope(|scope| {
            scope.spawn(|| done.send(self.tree.shutdown(Signal::TERM, self.options.grace)));
            loop {
                select! {
                    recv(ended) -> shutdown => return shutdown.map_err(gone)?,
                    recv(self.signals.0) -> signal => {
                        if [SIGTERM, SIGINT, SIGHUP, SIGQUIT].contains(&signal.map_err(gone)?) {
                            self.tree.kill()?;
                        }
                    }
                }
            }
        })?;
        for survivor in &shutdown.survivors {
            eprintln!("proctable: {} ({}) survives", survivor.pid, survivor.command);
        }
        if let Some(why) = &shutdown.unseen {
            eprintln!("proctable: others may be left that cannot be seen: {why}");
        }
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
        eprintln!("{status}; {left} left behind; real {real:.3?}, cpu {cpu:.3?}; {mechanism}");
        if let Some(peak) = stats.memory_peak {
            eprintln!("memory at most {} bytes ({:?})", peak.value, peak.source);
        }
        if let Some(kills) = stats.oom_kills.filter(|kills| kills.value > 0) {
            eprintln!("{} killed by the kernel for want of memory", kills.value);
        }
        for enforced in self.tree.enforced() {
            eprintln!("{enforced}");
        }
        Ok(())
    }
}

/// Neither the thread of the signals nor the table ends before this program does.
fn gone(_: crossbeam_channel::RecvError) -> io::Error {
    io::Error::other("a source of events is gone")
}

fn code_of(status: WaitStatus) -> u8 {
    match status.term_signal() {
        Some(signal) => 128 + signal.number(),
        None => status.exit_code().unwrap_or(FAILED),
    }
}
