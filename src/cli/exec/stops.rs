//! Stops and continues of the command and of the program, which a shell has to see together.
//!
//! By default both are in one process group. The terminal and the shell then stop and continue
//! both, and the program has to do no more than to stop after its command has: a command that
//! restores the terminal before it stops needs the foreground until then, which the shell takes as
//! soon as the program stops.

use std::io;
use std::time::{Duration, Instant};

use proctable::abi::{SiCode, SigInfo, SigSet, Signal};
use proctable::drivers::linux::{Mechanism, process_group, stop_by_signal};

use super::job::CommandJob;
use super::pty::Relay;
use super::signals::{ENDS_JOB, STOPS, is_own};
use super::terminal::{Terminal, has_ended, has_own_proc};
use super::waker::Waker;

/// A command that continues with this process does so in this time.
const TOGETHER: Duration = Duration::from_millis(200);

/// A program with `--pty` runs for this time between two stops in the background.
const STOP_AGAIN: Duration = Duration::from_millis(50);

impl CommandJob<'_> {
    /// The command's group now: a shell makes one of its own.
    fn group_of_command(&self) -> Option<i32> {
        process_group(self.child.pid()).ok()
    }

    /// Whether the command is in this process's group.
    pub(super) fn is_in_own_group(&self) -> bool {
        self.shares_group && self.group_of_command() == process_group(0).ok()
    }

    /// Sends a signal to the members of the tree in the command's group, as a terminal or a shell
    /// does for a job. Of this process's own group no other process gets it.
    fn signal_job(&self, signal: Signal) -> io::Result<()> {
        let group = self.group_of_command();
        match self.tree.mechanism() {
            // its members cannot be looked for, but are signalled as a group
            Mechanism::Children => self.tree.signal(signal),
            _ => self.tree.signal_where(signal, |member| {
                let is_stopped = signal != Signal::CONT || matches!(member.state, 'T' | '?');
                is_stopped && process_group(member.pid).ok() == group
            }),
        }
    }

    /// SIGTSTP, SIGTTIN or SIGTTOU has come to this process.
    pub(super) fn receive_stop(&mut self, info: &SigInfo, is_for_group: bool) -> io::Result<()> {
        let signal = info.signal;
        if self.inputs.relay.is_some() {
            self.stop_with_pty(signal, false);
            return Ok(());
        }
        if !self.shares_group {
            // ^Z while the command was stopped by another process
            if self.stopped && signal == Signal::TSTP && info.code == SiCode::KERNEL {
                if self.terminal.has_shell() {
                    self.stop_too(signal);
                }
                return Ok(());
            }
            return self.signal_job(signal);
        }
        if !is_for_group {
            self.signal_job(signal)?;
        }
        self.continue_at = None;
        self.has_stop = self.terminal.is_there();
        if self.has_stop && (self.stopped || is_for_group && !self.is_in_own_group()) {
            self.stop_too(signal);
        }
        Ok(())
    }

    /// This process was continued. A shell continues its whole group, and of the tree nothing but
    /// that: a shell in the tree may have stopped the rest.
    pub(super) fn receive_continue(&mut self) {
        self.terminal.note_foreground();
        self.has_stop = false;
        if self.inputs.relay.is_some() {
            self.resume_pty();
            // a SIGCONT that is read late
            if self.is_input_refused && self.is_refused_stdin() {
                self.stop_again_at = Some(Instant::now() + STOP_AGAIN);
            }
        } else if !self.is_in_own_group() {
            self.go_on();
        } else if self.stopped {
            self.stopped = false;
            self.continue_at = Some(Instant::now() + TOGETHER);
        }
    }

    /// The command did not continue with this process: only this process was sent a SIGCONT. Not
    /// before some time: a SIGCONT for a command that the shell has continued would undo the next
    /// ^Z.
    pub(super) fn continue_command(&mut self) {
        self.continue_at = None;
        if !self.has_stop && !self.inputs.signals.has_stop() {
            self.go_on();
        }
    }

    /// Continues what is stopped in the command's group, which gets the terminal.
    fn go_on(&mut self) {
        self.stopped = false;
        if let Some(group) = self.group_of_command().filter(|_| !self.is_in_own_group()) {
            self.terminal.give(group);
        }
        let _ = self.signal_job(Signal::CONT);
    }

    /// The command was stopped. If the terminal stopped it, the shell acts next, which has to see
    /// this process stop. If another process stopped it, that process continues it, too, and the
    /// clock runs.
    pub(super) fn note_stop(&mut self, signal: Signal) {
        self.stopped = true;
        if let Some(relay) = &self.inputs.relay {
            // the keyboard is raw, and no process reads it: the shell has to act
            if relay.is_raw() && self.terminal.has_shell() {
                self.stop_with_pty(signal, false);
            }
            return;
        }
        let Some(group) = self.group_of_command() else { return };
        let foreground = self.terminal.foreground();
        let in_background = matches!(signal, Signal::TTIN | Signal::TTOU);
        if self.is_in_own_group() {
            // a program that reads ^Z as a character stops itself alone
            let by_itself = signal == Signal::TSTP && self.terminal.is_ours();
            // a SIGCONT for the group that comes to the command first, and to this process after
            // the signal of the command's next read, discards that signal here
            let by_read = in_background && foreground.is_some() && !self.terminal.is_ours();
            let by_terminal = signal == Signal::TSTP || in_background;
            if by_itself || by_read || by_terminal && self.has_stop {
                self.stop_too(signal);
            }
            return;
        }
        match foreground {
            // it needs the terminal, which is for this process to give
            Some(_) if in_background && self.terminal.is_ours() => self.go_on(),
            Some(other) if in_background && other != group => self.stop_or_go_on(signal),
            Some(other) if other == group && self.is_stop_of_job(signal) => {
                self.stop_or_go_on(signal);
            }
            // the keyboard must not be that of a stopped process: ^Z is for the shell then
            _ => self.terminal.take(group),
        }
    }

    /// The command was continued.
    pub(super) fn note_continue(&mut self) {
        self.stopped = false;
        self.continue_at = None;
        if self.inputs.relay.is_some() {
            return;
        }
        if let Some(group) = self.group_of_command().filter(|_| !self.is_in_own_group()) {
            self.terminal.give(group);
        }
    }

    /// Whether a command that was stopped in the foreground, in a group of its own, was stopped as
    /// a job: by ^Z, or as a shell that suspends itself by SIGSTOP, where a shell sees this
    /// process.
    fn is_stop_of_job(&self, signal: Signal) -> bool {
        match self.shares_group {
            true => self.terminal.leads_group() && self.terminal.has_shell(),
            false => signal == Signal::TSTP,
        }
    }

    /// Without a shell nothing could ever continue what was stopped from the keyboard.
    fn stop_or_go_on(&mut self, signal: Signal) {
        if self.terminal.has_shell() { self.stop_too(signal) } else { self.go_on() }
    }

    /// With `--pty`: this process stops as a job of its shell, with the modes that the terminal had
    /// before. The command has a terminal of its own, and continues until it waits for that.
    pub(super) fn stop_with_pty(&mut self, signal: Signal, and_group: bool) {
        self.stop_again_at = None;
        if self.inputs.signals.has_end() {
            return self.resume_pty();
        }
        let waker = self.stopped.then(|| Waker::start(self.child.pid(), false, self.reaper));
        self.inputs.relay.iter_mut().for_each(Relay::restore_modes);
        stop_by_signal(signal, and_group);
        drop(waker);
        self.inputs.signals.await_continue();
        if self.is_refused_stdin() && !self.inputs.signals.has_end() {
            // not before the caller has seen the end of the command, of its time, and signals
            self.stop_again_at = Some(Instant::now() + STOP_AGAIN);
        } else {
            self.resume_pty();
        }
    }

    /// Whether reads of standard input are refused, and a shell sees it if they stop this process.
    fn is_refused_stdin(&self) -> bool {
        self.inputs.relay.as_ref().is_some_and(Relay::has_keyboard)
            && Terminal::is_background_of_stdin()
            && self.terminal.has_shell()
    }

    /// This process was continued in the background (bg), where its next read stops it again.
    pub(super) fn stop_again(&mut self) {
        self.stop_again_at = None;
        if !self.is_refused_stdin() {
            self.resume_pty();
        } else if has_own_proc() && has_ended(self.child.pid()) {
            // the caller is about to see that
            self.stop_again_at = Some(Instant::now() + STOP_AGAIN);
        } else {
            self.stop_with_pty(Signal::TTIN, true);
        }
    }

    /// This process continues: the terminal becomes raw again, and a command that was stopped
    /// continues, too.
    pub(super) fn resume_pty(&mut self) {
        self.stop_again_at = None;
        self.terminal.note_foreground();
        self.inputs.relay.iter_mut().for_each(Relay::resume);
        if self.is_input_refused && !Terminal::is_background_of_stdin() {
            self.is_input_refused = false;
            self.inputs.relay.iter().for_each(|relay| relay.allow(true));
        }
        if self.stopped {
            self.stopped = false;
            let _ = self.signal_job(Signal::CONT);
        }
    }

    /// A signal has come after the end of the command. One that stops the job stops this process:
    /// the shell waits until each process of the job has stopped.
    pub(super) fn stop_at_end(&mut self, info: &SigInfo) {
        if STOPS.contains(&info.signal) && !is_own(info) {
            self.inputs.relay.iter_mut().for_each(Relay::restore_modes);
            stop_by_signal(info.signal, false);
        }
    }

    /// A read of the terminal on standard input was refused, as this process is in the background,
    /// or was. It may read again when it is in the foreground.
    pub(super) fn receive_refusal(&mut self) {
        self.is_input_refused = true;
        if !Terminal::is_background_of_stdin() {
            self.resume_pty();
        } else if self.terminal.has_shell() {
            self.stop_with_pty(Signal::TTIN, true);
        } else {
            // no process gives it the terminal: its input has ended
            self.inputs.relay.iter().for_each(|relay| relay.allow(false));
        }
    }

    /// Stops this process until it is continued: by its shell, or by the waker if another process
    /// has continued the command. A SIGCONT then says so.
    ///
    /// A shell's kill(1) sends SIGCONT after SIGTERM and SIGHUP if it has seen the job stop. A
    /// signal that came before it could see that continues the command, which would otherwise stay.
    fn stop_too(&mut self, signal: Signal) {
        self.has_stop = false;
        if self.inputs.signals.has_end() || self.stopped && has_end_pending(self.child.pid()) {
            return self.go_on();
        }
        let waker =
            self.stopped.then(|| Waker::start(self.child.pid(), !self.shares_group, self.reaper));
        if self.shares_group {
            stop_by_signal(signal, false);
        } else {
            if let Some(group) = self.group_of_command() {
                self.terminal.take(group);
            }
            // those around it as the terminal would have stopped them, had the command been in this
            // group
            stop_by_signal(Signal::TSTP, true);
        }
        drop(waker);
        if self.is_in_own_group() {
            // the next ^Z discards its SIGCONT if that is not read yet
            self.receive_continue();
        }
    }
}

/// Whether a process does not block SIGTERM or SIGHUP, and one of them is pending for it. `false`
/// where that cannot be known.
fn has_end_pending(pid: i32) -> bool {
    let status = match has_own_proc() {
        true => std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default(),
        false => Vec::new(),
    };
    let status = String::from_utf8_lossy(&status);
    let set = |name: &str| {
        let digits = status.lines().find_map(|line| line.strip_prefix(name));
        let bits = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        SigSet::from_bits(bits.unwrap_or(0))
    };
    let pending = set("ShdPnd:") | set("SigPnd:");
    ENDS_JOB.iter().any(|signal| pending.contains(*signal) && !set("SigBlk:").contains(*signal))
}
