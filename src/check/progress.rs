//! The explained part of a log, and the lines that only a tracer shows.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::step::{Item, Line, Steps};
use crate::abi::{Handler, Pid, SigInfo, Signal};
use crate::kernel::{Consequence, Effect, Effects, Kernel, RunState};
use crate::rule;
use crate::syscall::text::{self, CallEnd};
use crate::syscall::{Ret, Syscall};
use crate::trace::LogEvent;

/// The state between two steps in addition to that of the model.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LogProgress {
    /// The number of explained items of each thread.
    explained: BTreeMap<Pid, usize>,
    /// The threads whose blocked call was interrupted, and whether a handler has shown it.
    pub interrupted: Vec<(Pid, text::RestartCode, bool)>,
    /// The process of each thread that is not a leader, also of threads that have ended.
    threads: BTreeMap<Pid, Pid>,
    /// Signals that a tracer may show although they have no effect or run no handler.
    signals: Vec<Seen>,
    /// The threads that have stopped, which a tracer may show.
    stops: Vec<(Pid, Signal)>,
}

/// The number of signals that are kept for lines of a tracer: these lines follow soon after.
const SIGNALS: usize = 16;

/// A signal that a tracer may show.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    /// The thread or the process that the signal was sent to.
    target: Pid,
    signal: Signal,
    /// The known part of its siginfo.
    info: Option<SigInfo>,
}

impl LogProgress {
    /// The next item of `pid` in the log.
    pub fn next_item(&self, steps: &Steps<'_>, pid: Pid) -> Option<Item> {
        steps.item(pid, self.place(pid))
    }

    /// The next line of `pid` to explain, unless `pid` makes a call before it.
    pub fn next_line<'s, 'a>(&self, steps: &'s Steps<'a>, pid: Pid) -> Option<&'s Line<'a>> {
        steps.line(pid, self.place(pid))
    }

    /// The lines of `pid` to explain before its next call.
    pub fn next_lines<'s, 'a>(
        &self,
        steps: &'s Steps<'a>,
        pid: Pid,
    ) -> impl Iterator<Item = &'s Line<'a>> + use<'s, 'a> {
        (self.place(pid)..).map_while(move |place| steps.line(pid, place))
    }

    /// The end of a call of `pid` that restarts after its current call.
    pub fn again<'s>(&self, steps: &'s Steps<'_>, pid: Pid) -> Option<(&'s Syscall, &'s CallEnd)> {
        let mut lines = (self.place(pid) + 1..).map_while(|place| steps.line(pid, place));
        lines.find_map(|line| Some((line.again.as_ref()?.call.call(), line.result?)))
    }

    fn place(&self, pid: Pid) -> usize {
        self.explained.get(&pid).copied().unwrap_or(0)
    }

    /// Marks the next item of `pid` as explained.
    pub fn pass(&mut self, pid: Pid) {
        *self.explained.entry(pid).or_insert(0) += 1;
    }

    pub fn is_explained(&self, line: &Line<'_>) -> bool {
        self.place(line.pid) > line.place
    }

    pub fn interruption(&mut self, pid: Pid) -> Option<&mut (Pid, text::RestartCode, bool)> {
        self.interrupted.iter_mut().find(|state| state.0 == pid)
    }

    /// The process of the thread, also after its end.
    pub fn process_of(&self, kernel: &Kernel, tid: Pid) -> Pid {
        let gone = || self.threads.get(&tid).copied().unwrap_or(tid);
        kernel.view(tid).map_or_else(gone, |view| view.tgid)
    }

    /// Records the lines that a tracer may show for the last of `effects`.
    pub fn note(&mut self, kernel: &Kernel, call: Option<&Syscall>, effects: &[Effect]) {
        let Some((effect, before)) = effects.split_last() else { return };
        let target = effect.pid;
        match effect.what {
            Consequence::ThreadCreated => {
                if let Some(view) = kernel.view(target) {
                    self.threads.insert(target, view.tgid);
                }
            }
            Consequence::Generated(info) => {
                self.see(Seen { target, signal: info.signal, info: Some(info) });
            }
            // discarded at once; other signals were recorded when they were generated
            Consequence::Discarded(signal) if effect.cause.rule == rule!("SIG-19") => {
                let info = dropped_info(kernel, effect, signal, call, before);
                self.see(Seen { target, signal, info });
            }
            Consequence::Caught(info) => {
                let process = self.process_of(kernel, target);
                self.signals.retain(|seen| {
                    seen.signal != info.signal || (seen.target != target && seen.target != process)
                });
            }
            Consequence::Stopped(signal) => {
                for tid in kernel.tids(target) {
                    let stopped =
                        kernel.view(tid).is_some_and(|view| view.run == RunState::Stopped);
                    if stopped && !self.stops.contains(&(tid, signal)) {
                        self.stops.push((tid, signal));
                    }
                }
            }
            Consequence::Reaped => {
                self.signals.retain(|seen| seen.target != target);
                self.stops.retain(|stop| stop.0 != target);
            }
            _ => {}
        }
    }

    fn see(&mut self, seen: Seen) {
        if self.signals.len() == SIGNALS {
            self.signals.remove(0);
        }
        self.signals.push(seen);
    }

    /// Explains the next line of `pid` if only a tracer shows it.
    pub fn pass_tracer_line(&mut self, kernel: &Kernel, steps: &Steps<'_>, pid: Pid) -> bool {
        let Some(line) = self.next_line(steps, pid) else { return false };
        let remark = match &line.entry.event {
            LogEvent::Signal(info) => self.take_signal(kernel, pid, info.signal, Some(info)),
            LogEvent::OtherSignal { signal, .. } => self.take_signal(kernel, pid, *signal, None),
            LogEvent::Stopped(signal) => {
                let stop = self.stops.iter().position(|stop| *stop == (pid, *signal));
                stop.map(|nth| self.stops.remove(nth)).is_some()
            }
            // it restarts the call at once, or ends
            LogEvent::Resumed { call, outcome: CallEnd::Interrupted(restart) }
            | LogEvent::Call { call, outcome: CallEnd::Interrupted(restart) } => {
                let next = steps.line(pid, self.place(pid) + 1);
                is_restart_of(*restart, call)
                    && next.is_some_and(|next| {
                        is_tracer_line(&next.entry.event)
                            || is_death(&next.entry.event)
                            || next.again.as_ref().is_some_and(|again| !again.handled)
                    })
            }
            LogEvent::Unfinished(_)
            | LogEvent::Cut(_)
            | LogEvent::Call { outcome: CallEnd::Returned(Ok(Ret::Never)), .. } => {
                line.again.as_ref().is_some_and(|again| !again.handled)
            }
            _ => false,
        };
        if remark {
            self.pass(pid);
        }
        remark
    }

    /// Removes a recorded signal. The log shows a caught signal by its handler only.
    fn take_signal(
        &mut self,
        kernel: &Kernel,
        tid: Pid,
        signal: Signal,
        shown: Option<&SigInfo>,
    ) -> bool {
        let process = self.process_of(kernel, tid);
        let action = kernel.disposition(process, signal);
        if action.is_some_and(|action| matches!(action.handler, Handler::Catch(_))) {
            return false;
        }
        let fits = |seen: &Seen| {
            seen.signal == signal
                && (seen.target == tid || seen.target == process)
                && seen.info.as_ref().zip(shown).is_none_or(|(info, shown)| info == shown)
        };
        let found = self.signals.iter().position(fits);
        found.map(|nth| self.signals.remove(nth)).is_some()
    }
}

/// The known part of the siginfo of a signal that was discarded at once: of an exit, a stop, or a
/// kill.
fn dropped_info(
    kernel: &Kernel,
    effect: &Effect,
    signal: Signal,
    call: Option<&Syscall>,
    before: &[Effect],
) -> Option<SigInfo> {
    let actor = effect.cause.actor;
    match (effect.cause.call, call) {
        (Some("kill"), Some(Syscall::Kill { sig, .. })) if i32::from(signal.number()) == *sig => {
            let sender = kernel.view(actor)?.tgid;
            Some(SigInfo::user(signal, sender, kernel.real_user(actor)?))
        }
        _ if signal == Signal::CHLD => {
            let (child, status) = before.iter().rev().find_map(|effect| match effect.what {
                Consequence::Ended(status) => Some((effect.pid, status)),
                _ => None,
            })?;
            Some(SigInfo::child(signal, child, kernel.real_user(child)?, status))
        }
        _ => None,
    }
}

/// Whether an interrupted call returns with this result.
fn is_restart_of(restart: text::RestartCode, call: &Syscall) -> bool {
    match call {
        Syscall::Wait4 { .. } | Syscall::Waitid { .. } => restart == text::RestartCode::Sys,
        Syscall::Pause | Syscall::RtSigsuspend { .. } => restart == text::RestartCode::NoHand,
        call => call.is_fork() && restart == text::RestartCode::NoIntr,
    }
}

fn is_death(event: &LogEvent) -> bool {
    matches!(event, LogEvent::Exited(_) | LogEvent::Killed { .. })
}

fn is_tracer_line(event: &LogEvent) -> bool {
    matches!(event, LogEvent::Signal(_) | LogEvent::OtherSignal { .. } | LogEvent::Stopped(_))
}

/// The status of the thread `tid` of `process`, which another thread ended: that of the process, or
/// 0 if another thread called execve.
pub fn status_of_killed(kernel: &Kernel, fx: &Effects, process: Pid) -> crate::abi::WaitStatus {
    let ended = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect.what {
            Consequence::Ended(status) if effect.pid == process => Some(status),
            _ => None,
        })
    };
    ended(fx.list()).unwrap_or_else(|| {
        let (mut kernel, mut later) = (kernel.clone(), Effects::new());
        kernel.settle(&mut crate::kernel::Canonical, &mut later);
        ended(later.list()).unwrap_or(crate::abi::WaitStatus::exited(0))
    })
}
