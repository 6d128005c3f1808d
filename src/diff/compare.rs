//! Compares an observation of the kernel with the reaction of the model.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::abi::{Handler, Itimerval, Pid, SaFlags, SiCode, SigInfo, Signal, WaitStatus};
use crate::host::Observation;
use crate::kernel::{Kernel, RunState, View};
use crate::sim::{Expectation, Observable, Reaction};
use crate::syscall::{self, Ret};

/// An observation of the live kernel, as the goal of the search for an order of the model.
#[derive(Clone, Debug)]
pub struct ObservedStep(pub Observation);

/// A difference between kernel and model: both sides in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The compared quantity.
    pub what: String,
    /// Its value on the live kernel.
    pub kernel: String,
    /// Its value in the model.
    pub model: String,
}

/// How much less time may remain of a running timer on the kernel: the calls between setting and
/// reading it take real time, during which virtual time does not advance (nanoseconds).
const TIMER_SLACK: u64 = 50_000_000;
/// How much more time may remain: the timer was set later in real time than in virtual time, by
/// less than a program may be late, and read just after both clocks had met (nanoseconds).
const TIMER_DELAY: u64 = 5_000_000;

impl Expectation for ObservedStep {
    type Mismatch = Mismatch;

    fn admits(&self, kernel: &Kernel, seen: &[(Pid, Observable)]) -> bool {
        let Some(((pid, last), before)) = seen.split_last() else { return true };
        match last {
            Observable::Handler(info) => {
                self.handlers_left(before, *pid).next() == Some(info)
                    && (continues(before) || self.is_notified_of_all(kernel, seen, *pid))
            }
            Observable::Resumed(result) => {
                let next = self.results_left(before, *pid).next();
                next.is_some_and(|of_kernel| agree(of_kernel, result))
            }
            Observable::Ended(status) => {
                self.admits_end(before, *pid, *status)
                    && self.0.order_of_ends.starts_with(&self.order_of_ends(seen))
            }
            Observable::Generated(info) => self.admits_signal(kernel, before, *pid, info),
            Observable::Stopped => kernel.view(*pid).is_none_or(|view| {
                !is_single(kernel, view.ppid)
                    || !is_single(kernel, *pid)
                    || !self.loses_sigchld_of_stop(before, *pid, view.ppid)
                        && (continues(before) || self.is_stopped_in_turn(kernel, *pid, &view))
            }),
            _ => true,
        }
    }

    fn admits_end(&self, seen: &[(Pid, Observable)], pid: Pid, status: WaitStatus) -> bool {
        let before = count(seen, pid, |what| matches!(what, Observable::Ended(_)));
        let mut of_kernel = self.0.ended.iter().filter(|(task, _)| *task == pid);
        let known = of_kernel.nth(before).map(|(_, known)| *known);
        known.is_some_and(|known| known.is_none_or(|known| known == status))
    }

    fn check(&self, kernel: &Kernel, reaction: &Reaction) -> Result<(), Mismatch> {
        self.check_returned(reaction)?;
        self.check_handlers(reaction)?;
        self.check_ended(reaction)?;
        if kernel.exit_status(Pid(1)).is_some() {
            // NS-08: no process is left to compare
            return Ok(());
        }
        self.check_views(kernel)
    }
}

impl ObservedStep {
    /// The handlers of a process that have not started.
    fn handlers_left<'s>(
        &'s self,
        seen: &[(Pid, Observable)],
        pid: Pid,
    ) -> impl Iterator<Item = &'s SigInfo> + use<'s> {
        let begun = count(seen, pid, |what| matches!(what, Observable::Handler(_)));
        let of_kernel = self.0.handlers().filter(move |(task, _)| *task == pid);
        of_kernel.map(|(_, info)| info).skip(begun)
    }

    /// The results that have not been returned to a process.
    fn results_left<'s>(
        &'s self,
        seen: &[(Pid, Observable)],
        pid: Pid,
    ) -> impl Iterator<Item = &'s syscall::Result> + use<'s> {
        let resumed = count(seen, pid, |what| matches!(what, Observable::Resumed(_)));
        let of_kernel = self.0.returned().filter(move |(task, _)| *task == pid);
        of_kernel.map(|(_, result)| result).skip(resumed)
    }

    /// Whether the observation admits that a signal becomes pending. A caught signal stays pending,
    /// or its handler starts, unless the process takes it otherwise (SIG-50), ends, or is stopped
    /// before the body of the handler runs. Of several signals of one number, the first counts
    /// (SIG-23).
    fn admits_signal(
        &self,
        kernel: &Kernel,
        seen: &[(Pid, Observable)],
        pid: Pid,
        info: &SigInfo,
    ) -> bool {
        let signal = info.signal;
        let Some(view) = self.0.views.get(&pid) else { return true };
        if !is_single(kernel, view.tgid) {
            return true;
        }
        let stays = (view.private | view.shared).contains(signal);
        let flushed = signal.is_stop() || signal == Signal::CONT;
        let stopped = view.run == RunState::Stopped;
        if !view.caught.contains(signal) || signal.is_realtime() || stays || flushed || stopped {
            return true;
        }
        let takes_it = |result: &syscall::Result| match result {
            Ok(Ret::Signal(taken)) => taken.signal == signal,
            _ => false,
        };
        let mut handlers = self.handlers_left(seen, pid).filter(|next| next.signal == signal);
        // a handler that was set up before may start first, and so may one that is set up above
        // this one
        let nested = kernel.handler_depth(pid) > 0
            || kernel
                .disposition(pid, signal)
                .is_some_and(|action| action.flags.contains(SaFlags::NODEFER));
        let begins =
            if nested { handlers.any(|next| next == info) } else { handlers.next() == Some(info) };
        begins || self.results_left(seen, pid).any(takes_it)
    }

    /// Whether the parent has yet to handle the SIGCHLD of this stop, and will never receive it:
    /// another SIGCHLD is pending (CHLD-06).
    fn loses_sigchld_of_stop(&self, seen: &[(Pid, Observable)], child: Pid, parent: Pid) -> bool {
        let last = seen.iter().rev().find_map(|(pid, what)| match what {
            Observable::Generated(info) | Observable::Handler(info) => {
                (*pid == parent && info.signal == Signal::CHLD).then_some(what)
            }
            _ => None,
        });
        matches!(last, Some(Observable::Generated(_)))
            && self
                .handlers_left(seen, parent)
                .any(|info| info.pid == child && info.code == SiCode::CLD_STOPPED)
    }

    /// Whether a process stopped at the right time among the stops of its children: after the stops
    /// whose SIGCHLD it was observed to handle, and before the others, because a signal that comes
    /// while it is stopped stays pending.
    fn is_stopped_in_turn(&self, kernel: &Kernel, pid: Pid, view: &View) -> bool {
        let Some(end) = self.0.views.get(&pid).filter(|end| end.run == RunState::Stopped) else {
            return true;
        };
        let pending = |view: &View| (view.private | view.shared).contains(Signal::CHLD);
        if pending(view) {
            return pending(end);
        }
        let moves = |child: &Pid| {
            let run = |views: Option<&View>| views.map(|view| view.run);
            run(kernel.view(*child).as_ref()) != run(self.0.views.get(child))
        };
        let mut moving = kernel.children_of(pid).filter(moves);
        if pending(end) {
            return moving.next().is_some();
        }
        !self.will_be_notified(kernel, pid, view)
    }

    /// Whether a process that handles a signal has no child that stops later: no further SIGCHLD of
    /// a stop was observed.
    fn is_notified_of_all(&self, kernel: &Kernel, seen: &[(Pid, Observable)], pid: Pid) -> bool {
        let (Some(view), Some(end)) = (kernel.view(pid), self.0.views.get(&pid)) else {
            return true;
        };
        if !is_single(kernel, view.tgid) {
            return true;
        }
        let has_sigchld = |view: &View| (view.private | view.shared).contains(Signal::CHLD);
        let takes_it = |result: &syscall::Result| matches!(result, Ok(Ret::Signal(_)));
        has_sigchld(&view)
            || has_sigchld(end)
            || self.handlers_left(seen, pid).any(|info| info.signal == Signal::CHLD)
            || self.results_left(seen, pid).any(takes_it)
            || !self.will_be_notified(kernel, pid, &view)
    }

    /// Whether a child has yet to stop, and the process then receives a SIGCHLD that it does not
    /// discard.
    fn will_be_notified(&self, kernel: &Kernel, pid: Pid, view: &View) -> bool {
        let Some(action) = kernel.disposition(pid, Signal::CHLD) else { return false };
        let is_kept = match action.handler {
            Handler::Ignore => false,
            Handler::Default => view.blocked.contains(Signal::CHLD),
            Handler::Catch(_) => true,
        };
        let stops = |child: Pid| {
            let runs = |view: View| !matches!(view.run, RunState::Stopped | RunState::Zombie);
            kernel.view(child).is_some_and(runs)
                && self.0.views.get(&child).is_some_and(|end| end.run == RunState::Stopped)
        };
        is_kept && !action.flags.contains(SaFlags::NOCLDSTOP) && kernel.children_of(pid).any(stops)
    }

    /// Compares the calls that returned, and their results.
    fn check_returned(&self, reaction: &Reaction) -> Result<(), Mismatch> {
        let model = by_process(reaction.seen.iter().filter_map(|(pid, what)| match what {
            Observable::Resumed(result) => Some((*pid, result.clone())),
            _ => None,
        }));
        let kernel = by_process(self.0.returned().map(|(pid, result)| (pid, result.clone())));
        for pid in model.keys().chain(kernel.keys()) {
            let (of_kernel, of_model) = (kernel.get(pid), model.get(pid));
            let same = match (of_kernel, of_model) {
                (Some(kernel), Some(model)) => {
                    kernel.len() == model.len()
                        && kernel.iter().zip(model).all(|(kernel, model)| agree(kernel, model))
                }
                _ => false,
            };
            if !same {
                return Err(mismatch(format!("{pid} returned"), of_kernel, of_model));
            }
        }
        Ok(())
    }

    /// Compares the handlers that ran, their order and their siginfo.
    fn check_handlers(&self, reaction: &Reaction) -> Result<(), Mismatch> {
        let model = by_process(reaction.seen.iter().filter_map(|(pid, what)| match what {
            Observable::Handler(info) => Some((*pid, *info)),
            _ => None,
        }));
        let kernel = by_process(self.0.handlers().map(|(pid, info)| (pid, *info)));
        for pid in model.keys().chain(kernel.keys()) {
            if model.get(pid) != kernel.get(pid) {
                let what = format!("{pid} handled");
                return Err(mismatch(what, kernel.get(pid), model.get(pid)));
            }
        }
        Ok(())
    }

    /// Compares the processes that ended, and how. A status that the kernel does not show matches
    /// any status.
    fn check_ended(&self, reaction: &Reaction) -> Result<(), Mismatch> {
        let model = by_process(reaction.seen.iter().filter_map(|(pid, what)| match what {
            Observable::Ended(status) => Some((*pid, Some(*status))),
            _ => None,
        }));
        let kernel = by_process(self.0.ended.iter().copied());
        for pid in model.keys().chain(kernel.keys()) {
            let (of_kernel, of_model) = (kernel.get(pid), model.get(pid));
            let same = match (of_kernel, of_model) {
                (Some(kernel), Some(model)) => {
                    kernel.len() == model.len()
                        && kernel.iter().zip(model).all(|(k, m)| k.is_none() || k == m)
                }
                _ => false,
            };
            if !same {
                return Err(mismatch(format!("{pid} ended"), of_kernel, of_model));
            }
        }
        Ok(())
    }

    /// The order in which processes ended in the model, without the processes whose order the
    /// kernel does not show.
    fn order_of_ends(&self, seen: &[(Pid, Observable)]) -> Vec<Pid> {
        let ended = seen.iter().filter_map(|(pid, what)| match what {
            Observable::Ended(_) => Some(*pid),
            _ => None,
        });
        ended.filter(|pid| self.0.order_of_ends.contains(pid)).collect()
    }

    /// Compares the state of every process.
    fn check_views(&self, kernel: &Kernel) -> Result<(), Mismatch> {
        let model: BTreeMap<Pid, View> =
            tasks(kernel).filter_map(|tid| Some((tid, kernel.view(tid)?))).collect();
        for pid in model.keys().chain(self.0.views.keys()) {
            let (of_kernel, of_model) = (self.0.views.get(pid), model.get(pid));
            if of_kernel != of_model {
                let show = |view: Option<&View>| view.map_or("gone".into(), show_view);
                return Err(Mismatch {
                    what: format!("{pid} stands"),
                    kernel: show(of_kernel),
                    model: show(of_model),
                });
            }
        }
        Ok(())
    }
}

/// All tasks of the model.
fn tasks(kernel: &Kernel) -> impl Iterator<Item = Pid> + '_ {
    kernel.pids().flat_map(|pid| kernel.tids(pid))
}

/// Whether the process has one thread only: of several threads, any may take a signal of the
/// process.
fn is_single(kernel: &Kernel, pid: Pid) -> bool {
    kernel.tids(pid).nth(1).is_none()
}

/// Whether a process was continued: a stopped process may run again.
fn continues(seen: &[(Pid, Observable)]) -> bool {
    seen.iter()
        .any(|(_, what)| matches!(what, Observable::Generated(info) if info.signal == Signal::CONT))
}

/// The number of observables of that kind that a process has shown.
fn count(seen: &[(Pid, Observable)], pid: Pid, kind: fn(&Observable) -> bool) -> usize {
    seen.iter().filter(|(task, what)| *task == pid && kind(what)).count()
}

fn by_process<T>(items: impl Iterator<Item = (Pid, T)>) -> BTreeMap<Pid, Vec<T>> {
    let mut map = BTreeMap::<Pid, Vec<T>>::new();
    for (pid, item) in items {
        map.entry(pid).or_default().push(item);
    }
    map
}

/// Whether the results are equal, except for the remaining time of a timer, of which some has
/// passed on the kernel.
fn agree(kernel: &syscall::Result, model: &syscall::Result) -> bool {
    match (kernel, model) {
        (Ok(Ret::Itimer(Some(kernel))), Ok(Ret::Itimer(Some(model)))) => {
            let nanos = |timer: &Itimerval| timer.value.nanos().unwrap_or(0);
            let (left, most) = (nanos(kernel), nanos(model));
            kernel.interval == model.interval
                && (left > 0) == (most > 0)
                && left <= most + TIMER_DELAY
                && most - most.min(left) <= TIMER_SLACK
        }
        _ => kernel == model,
    }
}

fn mismatch<T: std::fmt::Debug>(what: String, kernel: Option<T>, model: Option<T>) -> Mismatch {
    let show = |side: Option<T>| side.map_or("nothing".into(), |side| format!("{side:?}"));
    Mismatch { what, kernel: show(kernel), model: show(model) }
}

fn show_view(view: &View) -> String {
    let mut text = format!(
        "{:?}, of {}, parent {}, group {}, session {}",
        view.run, view.tgid, view.ppid, view.pgid, view.sid
    );
    for (name, set) in [
        ("pending", view.private),
        ("shared", view.shared),
        ("blocked", view.blocked),
        ("ignored", view.ignored),
        ("caught", view.caught),
    ] {
        if !set.is_empty() {
            // writing to a String cannot fail
            let _ = write!(text, ", {name} {set}");
        }
    }
    text
}
