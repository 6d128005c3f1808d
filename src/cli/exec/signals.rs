//! The signals that come to the program, and which of them it passes on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use proctable::abi::{DefaultAction, SiCode, SigInfo, SigSet, Signal};
use proctable::drivers::linux::{SignalFd, ignored_signals, process_group};

use super::job::{CommandJob, source_of};
use super::pty::Relay;

/// The signals with which a user wants the command to end.
pub(super) const HURRY: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// Those of them that end the time of grace. SIGHUP comes twice where a shell ends with its
/// terminal: from the shell and from the kernel.
const IMPATIENT: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// Those of them after which a shell continues a stopped job.
pub(super) const ENDS_JOB: [Signal; 2] = [Signal::TERM, Signal::HUP];

/// Those that stop a job.
pub(super) const STOPS: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// Whether this process has sent the signal itself.
pub(super) fn is_own(info: &SigInfo) -> bool {
    info.pid.0 == std::process::id()
}

/// Within this time a second signal is the first one: timeout(1) sends each to its command, and
/// then to the group of both.
const SAME: Duration = Duration::from_millis(200);

/// The signals that come to this process.
pub(super) struct Signals {
    fd: Arc<SignalFd>,
    pub receiver: Receiver<SigInfo>,
    /// Starts the thread that reads them.
    start: Sender<()>,
    /// Received, and to be handled before the next one; whether each came before the command was
    /// there, and so reached no more than this process.
    pub queued: VecDeque<(SigInfo, bool)>,
    /// Those that this program was started to ignore: the command ignores them, too.
    ignored: SigSet,
}

impl Signals {
    /// From now on they end up here: all that can be caught, and none of them does what it does by
    /// default. Faults of this process's own still end it, and SIGPIPE of its own writes goes to
    /// the thread that writes.
    pub fn receive() -> io::Result<Signals> {
        let ignored = ignored_signals();
        let fd = Arc::new(SignalFd::all()?);
        let (sender, receiver) = unbounded();
        let (start, started) = bounded::<()>(1);
        let signals = fd.clone();
        let pass_on = move || {
            if started.recv().is_ok() {
                while signals.read().is_ok_and(|info| sender.send(info).is_ok()) {}
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(pass_on)?;
        Ok(Signals { fd, receiver, start, queued: VecDeque::new(), ignored })
    }

    /// Takes those that have come until now, before the command is there.
    pub fn take_early(&mut self) {
        while let Ok(Some(info)) = self.fd.try_read() {
            self.queued.push_back((info, true));
        }
    }

    /// The command is there. A signal for the group that came a moment before has not reached it;
    /// it is taken for one of those if it ends processes, as twice is better than not at all.
    pub fn start(&mut self) {
        while let Ok(Some(info)) = self.fd.try_read() {
            self.queued.push_back((info, HURRY.contains(&info.signal)));
        }
        // the thread waits for that
        let _ = self.start.send(());
    }

    /// The signal of those that have come before there was a command which ends a process by
    /// default and was not to be ignored.
    pub fn ending(&mut self) -> Option<Signal> {
        self.take_early();
        let ends = |signal: &Signal| {
            matches!(signal.default_action(), DefaultAction::Terminate | DefaultAction::Core)
        };
        let signals = self.queued.iter().map(|(info, _)| info.signal);
        signals.filter(|signal| !self.ignored.contains(*signal)).find(ends)
    }

    /// Whether another one that stops the job has come.
    pub fn has_stop(&mut self) -> bool {
        self.has_queued(|info| STOPS.contains(&info.signal) && !is_own(info))
    }

    /// Whether one has come after which a shell continues a stopped job.
    pub fn has_end(&mut self) -> bool {
        let ignored = self.ignored;
        self.has_queued(|info| ENDS_JOB.contains(&info.signal) && !ignored.contains(info.signal))
    }

    /// Whether this process was stopped and continued: the SIGCONT, which is taken.
    pub fn take_continue(&mut self) -> bool {
        self.has_queued(|_| false);
        let count = self.queued.len();
        self.queued.retain(|(info, _)| info.signal != Signal::CONT);
        self.queued.len() < count
    }

    /// The same after a stop, where the thread that reads has run only since then. A SIGCONT that
    /// comes later, or none after a stop without effect, makes this wait no longer.
    pub fn await_continue(&mut self) {
        let until = Instant::now() + SAME;
        while !self.take_continue() {
            match self.receiver.recv_deadline(until) {
                Ok(info) => self.queued.push_back((info, false)),
                Err(_) => return,
            }
        }
    }

    fn has_queued(&mut self, is_one: impl Fn(&SigInfo) -> bool) -> bool {
        self.queued.extend(self.receiver.try_iter().map(|info| (info, false)));
        self.queued.iter().any(|(info, _)| is_one(info))
    }
}

impl CommandJob<'_> {
    /// Whether the kernel has sent a signal to this process's whole group, as it does for a
    /// terminal, so that it has reached the command already. What kill(2) sends does not show
    /// whether it is for the group or for this process alone.
    fn is_for_group(&self, info: &SigInfo) -> bool {
        self.shares_group
            && self.terminal.is_there()
            && info.code == SiCode::KERNEL
            && match info.signal {
                Signal::INT | Signal::QUIT | Signal::WINCH => true,
                Signal::TSTP | Signal::TTIN | Signal::TTOU => true,
                // a hang-up is for the leader of the session alone
                Signal::HUP | Signal::CONT => !self.terminal.leads_session(),
                _ => false,
            }
    }

    /// Handles a signal that came to this process; an early one came before the command was there.
    pub(super) fn forward(&mut self, info: SigInfo, is_early: bool) -> io::Result<()> {
        let is_for_group = !is_early && self.is_for_group(&info);
        match info.signal {
            // of this process's own children
            Signal::CHLD => Ok(()),
            // it has stopped its group, or there was no shell to stop it
            signal if STOPS.contains(&signal) && is_own(&info) => Ok(()),
            // the kernel sends it on the pty
            Signal::WINCH if self.inputs.relay.is_some() => {
                self.inputs.relay.iter().for_each(Relay::copy_size);
                Ok(())
            }
            signal if STOPS.contains(&signal) => {
                self.say_sends(info.signal, "the job of the command", source_of(&info));
                self.receive_stop(&info, is_for_group)
            }
            Signal::CONT => {
                self.say_sends(info.signal, "the job of the command", source_of(&info));
                self.receive_continue();
                Ok(())
            }
            _ => self.pass_on(&info, is_for_group),
        }
    }

    /// A signal to end is for the whole tree, so that no process of it holds the command up; any
    /// other is the command's.
    fn pass_on(&mut self, info: &SigInfo, is_for_group: bool) -> io::Result<()> {
        let signal = info.signal;
        let ends = HURRY.contains(&signal);
        let is_for_all = ends && !self.options.signal_command;
        match (is_for_group, is_for_all) {
            // the terminal has sent it to the command itself
            (true, _) => {}
            (_, true) => self.say_sends(signal, "the tree", source_of(info)),
            (_, false) => self.say_sends(signal, &self.command(), source_of(info)),
        }
        // one that is gone has ended
        let _ = match is_for_group {
            true if self.is_in_own_group() => Ok(()),
            true if is_for_all => {
                let own = process_group(0).ok();
                self.tree.signal_where(signal, |member| process_group(member.pid).ok() != own)
            }
            _ if is_for_all => self.tree.signal(signal),
            _ => self.child.signal(signal),
        };
        self.is_asked |= ends;
        if ENDS_JOB.contains(&signal) && self.stop_again_at.is_some() {
            // a command that is stopped could not end by it
            self.resume_pty();
        }
        let is_meant = ends && !self.inputs.signals.ignored.contains(signal);
        let Some(grace) = self.options.grace.filter(|_| is_meant) else { return Ok(()) };
        let now = Instant::now();
        match self.asked_at {
            Some(asked) if now.saturating_duration_since(asked) < SAME => {}
            Some(_) if IMPATIENT.contains(&signal) => {
                self.kill_at = None;
                self.say_sends(Signal::KILL, "the tree", source_of(info));
                self.tree.kill()?;
            }
            Some(_) => {}
            None => {
                self.asked_at = Some(now);
                self.kill_at = now.checked_add(grace);
            }
        }
        Ok(())
    }
}
