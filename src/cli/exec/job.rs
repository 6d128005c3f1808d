//! A command while it runs, and the end of the processes that it leaves.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, at, bounded, never, select, tick};
use proctable::abi::{SigInfo, Signal, WaitOptions, WaitStatus};
use proctable::drivers::linux::{Child, Mechanism, MemberChange, ProcessTree, Reaper, Shutdown};
use proctable::table::TableEvent;

use serde_json::json;

use super::events::Events;
use super::log::Log;
use super::members::Members;
use super::pty::Relay;
use super::signals::{HURRY, Signals};
use super::terminal::Terminal;
use super::units::show_bytes;
use super::view::View;
use super::{End, FAILED, OnExit, Options, TIMED_OUT};

/// How often the tree is drawn.
const OFTEN: Duration = Duration::from_millis(500);

/// The time between SIGTERM and SIGKILL, if none is given.
const GRACE: Duration = Duration::from_secs(5);

/// The last output of a command on a pty has at least this time: a shorter grace is for processes.
const LEAST_FLUSH: Duration = Duration::from_secs(1);

/// When the reader of the last output takes longer, the user's terminal does not wait for it.
const SLOW_READER: Duration = Duration::from_millis(100);

/// The inputs of the loop, and the log of what happens.
pub(super) struct Inputs {
    pub signals: Signals,
    pub events: Events,
    pub members: Members,
    pub log: Option<Log>,
    /// The pty of the command.
    pub relay: Option<Relay>,
}

/// A command that runs.
pub(super) struct CommandJob<'a> {
    pub options: &'a Options,
    pub tree: &'a ProcessTree,
    pub child: &'a Child,
    pub terminal: Terminal,
    /// Whether the command began in this process's group.
    pub shares_group: bool,
    pub inputs: Inputs,
    pub reaper: Option<&'a Reaper>,
    begun: Instant,
    timed_out: bool,
    /// How many processes the kernel has killed at the limit of memory.
    oom_kills: u64,
    /// The last output of the command was given up.
    is_output_lost: bool,
    /// Whether a signal to end was passed on.
    pub is_asked: bool,
    /// When the first signal to end was passed on that begins the time of grace.
    pub asked_at: Option<Instant>,
    /// When the command is killed, after that.
    pub kill_at: Option<Instant>,
    /// Processes are left that this program could not end.
    has_survivors: bool,
    /// Whether the command was stopped when it was looked at last.
    pub stopped: bool,
    /// Whether a signal that stops jobs has come to this process since it was continued.
    pub has_stop: bool,
    /// When a command that did not continue with this process is continued.
    pub continue_at: Option<Instant>,
    /// When this process stops again, which was continued in the background of the terminal that
    /// it reads (`--pty`).
    pub stop_again_at: Option<Instant>,
    /// Whether the thread that reads the terminal waits until it may (`--pty`).
    pub is_input_refused: bool,
}

impl<'a> CommandJob<'a> {
    pub fn new(
        options: &'a Options,
        tree: &'a ProcessTree,
        child: &'a Child,
        (terminal, shares_group): (Terminal, bool),
        inputs: Inputs,
        reaper: Option<&'a Reaper>,
    ) -> CommandJob<'a> {
        let begun = Instant::now();
        CommandJob {
            options,
            tree,
            child,
            terminal,
            shares_group,
            inputs,
            reaper,
            begun,
            timed_out: false,
            oom_kills: 0,
            is_output_lost: false,
            is_asked: false,
            asked_at: None,
            kill_at: None,
            has_survivors: false,
            stopped: false,
            has_stop: false,
            continue_at: None,
            stop_again_at: None,
            is_input_refused: false,
        }
    }

    /// Until nothing is left, or may stay; the exit status.
    pub fn run(mut self) -> io::Result<End> {
        let status = self.await_command()?;
        self.end_pty();
        // ^C is for this process from now on: it hurries
        self.terminal.take_from_tree(self.tree);
        let left = self.end_leftovers()?;
        self.flush_pty();
        if self.inputs.relay.take().is_some() {
            // the modes are restored
        } else if self.timed_out || status.is_none_or(|status| status.term_signal().is_some()) {
            self.terminal.restore_modes();
        }
        while let Some(event) = self.inputs.events.take() {
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
        let (mut view, no_refusals) = (View::new(), never());
        let mut drawing = if self.options.tree { tick(OFTEN) } else { never() };
        let timeout = self.options.timeout.filter(|timeout| !timeout.is_zero());
        let deadline = timeout.map_or(never(), after);
        loop {
            if let Some(status) = self.look()? {
                self.forward_at_end()?;
                return Ok(Some(status));
            }
            while let Some((info, is_early)) = self.inputs.signals.queued.pop_front() {
                self.forward(info, is_early)?;
            }
            if let Some(event) = self.inputs.events.take() {
                self.note(&event);
                // it may be the end of the command
                continue;
            }
            select! {
                recv(self.inputs.signals.receiver) -> signal => self.forward(signal.map_err(gone)?, false)?,
                recv(self.inputs.events.wakes) -> wake => wake.map_err(gone)?,
                recv(self.inputs.members.changes) -> change => {
                    self.note_member(&change.map_err(gone)?);
                }
                recv(self.inputs.relay.as_ref().map_or(&no_refusals, |relay| &relay.refused)) -> _ => {
                    self.receive_refusal();
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
                recv(self.continue_at.map_or(never(), at)) -> _ => self.continue_command(),
                recv(self.stop_again_at.map_or(never(), at)) -> _ => self.stop_again(),
                recv(deadline) -> _ => {
                    self.note_timeout(timeout.unwrap_or_default());
                    let shutdown = self.shut_down(None)?;
                    return Ok(shutdown.ended.get(&self.child.pid()).copied());
                }
            }
        }
    }

    /// The command has ended before signals were handled that came earlier. Those that ask to end
    /// are for its tree, and end what this program waits for.
    fn forward_at_end(&mut self) -> io::Result<()> {
        while let Some((info, is_early)) = self.inputs.signals.queued.pop_front() {
            if HURRY.contains(&info.signal) {
                self.forward(info, is_early)?;
            }
        }
        Ok(())
    }

    /// The command has ended: what it has printed appears, and the keyboard is the user's again.
    fn end_pty(&mut self) {
        self.inputs.relay.iter().for_each(Relay::end_input);
        self.flush_pty();
        self.inputs.relay.iter_mut().for_each(Relay::restore_modes);
    }

    /// Waits until everything is printed that is on the command's terminal now. A reader of
    /// standard output that is slow makes this wait, as it would make the command wait without a
    /// pty. So the timeout and signals end it, too, and signals of job control stop it.
    fn flush_pty(&mut self) {
        let relay = self.inputs.relay.as_ref().filter(|_| !self.is_output_lost);
        let Some(flushed) = relay.map(Relay::flush) else { return };
        let timeout = self.options.timeout.filter(|timeout| !timeout.is_zero());
        let is_ending = self.timed_out || self.is_asked;
        let end = match is_ending {
            true => {
                let grace = self.options.grace.unwrap_or(GRACE);
                Instant::now().checked_add(grace.max(LEAST_FLUSH))
            }
            false => timeout.and_then(|timeout| self.begun.checked_add(timeout)),
        };
        let (end, slow) = (end.map_or(never(), at), after(SLOW_READER));
        loop {
            select! {
                recv(flushed) -> _ => return,
                // ^C is a signal from now on, and no byte for a terminal that no process reads
                recv(slow) -> _ => self.inputs.relay.iter_mut().for_each(Relay::restore_modes),
                recv(self.inputs.signals.receiver) -> signal => match signal {
                    Ok(info) if HURRY.contains(&info.signal) => break,
                    Ok(info) => self.stop_at_end(&info),
                    Err(_) => break,
                },
                recv(end) -> _ => {
                    if !is_ending {
                        self.note_timeout(timeout.unwrap_or_default());
                    }
                    break;
                }
            }
        }
        self.is_output_lost = true;
        complain!("proctable: --pty: the last output is lost, as standard output is not read");
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
                    self.note_stop(signal);
                    None
                }
                None if waited.status == WaitStatus::CONTINUED => {
                    self.note_continue();
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

    /// Writes to the log. A log that cannot be written ends; the command continues.
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
    pub(super) fn say_sends(&self, signal: Signal, target: &str, why: impl std::fmt::Display) {
        if self.options.verbose {
            complain!("proctable: {signal} to {target}: {why}");
        }
    }

    /// The command has ended: the processes that it left are ended, or continue. Returns their
    /// number.
    fn end_leftovers(&mut self) -> io::Result<usize> {
        if self.options.on_exit == OnExit::Leave && !self.options.summary {
            return Ok(0);
        }
        let left = self.tree.members()?.len();
        if self.has_survivors {
            // they were named, and a second attempt would wait for them again
            return Ok(left);
        }
        // processes that cannot be seen may be there
        let is_blind = self.tree.mechanism() == Mechanism::Children;
        if (left > 0 || is_blind) && self.options.on_exit == OnExit::Kill {
            self.shut_down(Some("processes are left of the command"))?;
        }
        Ok(left)
    }

    /// Ends the tree; at once if a user in a hurry sends this process another signal. The message
    /// names the survivors.
    fn shut_down(&mut self, why: Option<&str>) -> io::Result<Shutdown> {
        let (tree, signal) = (self.tree, self.options.signal);
        if let Some(why) = why {
            self.say_sends(signal, "the tree", why);
        }
        // those that are killed cannot return it
        let foreground = self.terminal.foreground_of_tree(tree);
        let (done, ended) = bounded(1);
        let grace = self.options.grace.unwrap_or(GRACE);
        let shutdown = std::thread::scope(|scope| {
            let shut_down = move || tree.shutdown(signal, grace);
            let other = std::thread::Builder::new().name("shutdown".into());
            if other.spawn_scoped(scope, move || done.send(shut_down())).is_err() {
                // no thread is left (RLIMIT_NPROC): then a second signal has no effect
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
        if let Some(group) = foreground {
            self.terminal.take(group);
        }
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

    pub(super) fn command(&self) -> String {
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
pub(super) fn source_of(info: &SigInfo) -> String {
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
