//! What was seen on the kernel against the reaction of the model.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::abi::{Itimerval, Pid};
use crate::host::Observation;
use crate::kernel::{Kernel, Run, View};
use crate::sim::{Expectation, Reaction, What};
use crate::syscall::{self, Ret};

/// An observation of the live kernel, as what the model has to come to.
#[derive(Clone, Debug)]
pub struct Seen(pub Observation);

/// Where kernel and model differ: the same thing on both sides, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// What is compared.
    pub what: String,
    /// On the live kernel.
    pub kernel: String,
    /// In the model.
    pub model: String,
}

/// How much less of a running timer may be left on the kernel: the calls between setting and
/// reading it take real time, and virtual time stands still meanwhile (nanoseconds).
const TIMER_SLACK: u64 = 50_000_000;
/// How much more: it was set later in real time than in virtual time, by less than a program may
/// be late, and read just after both clocks had met (nanoseconds).
const TIMER_DELAY: u64 = 5_000_000;

impl Expectation for Seen {
    type Mismatch = Mismatch;

    fn admits(&self, seen: &[(Pid, What)]) -> bool {
        let Some(((pid, last), before)) = seen.split_last() else { return true };
        let nth = |kind: fn(&What) -> bool| {
            before.iter().filter(|(who, what)| who == pid && kind(what)).count()
        };
        match last {
            What::Handler(info) => {
                let nth = nth(|what| matches!(what, What::Handler(_)));
                let mut of_kernel = self.0.handlers().filter(|(who, _)| who == pid);
                of_kernel.nth(nth).is_some_and(|(_, of_kernel)| of_kernel == info)
            }
            What::Resumed(result) => {
                let nth = nth(|what| matches!(what, What::Resumed(_)));
                let mut of_kernel = self.0.returned().filter(|(who, _)| who == pid);
                of_kernel.nth(nth).is_some_and(|(_, of_kernel)| agree(of_kernel, result))
            }
            What::Ended(status) => {
                let nth = nth(|what| matches!(what, What::Ended(_)));
                let mut of_kernel = self.0.ended.iter().filter(|(who, _)| who == pid);
                of_kernel.nth(nth).is_some_and(|(_, known)| known.is_none_or(|k| k == *status))
            }
            _ => true,
        }
    }

    fn check(&self, kernel: &Kernel, reaction: &Reaction) -> Result<(), Mismatch> {
        self.check_returned(reaction)?;
        self.check_handlers(reaction)?;
        self.check_ended(reaction)?;
        if kernel.view(Pid(1)).is_some_and(|init| init.run == Run::Zombie) {
            // NS-08: nobody is left to be seen
            return Ok(());
        }
        self.check_views(kernel)
    }
}

impl Seen {
    /// Which calls returned, and what.
    fn check_returned(&self, reaction: &Reaction) -> Result<(), Mismatch> {
        let model = by_process(reaction.seen.iter().filter_map(|(pid, what)| match what {
            What::Resumed(result) => Some((*pid, result.clone())),
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

    /// Which handlers ran, in which order, with which siginfo.
    fn check_handlers(&self, reaction: &Reaction) -> Result<(), Mismatch> {
        let model = by_process(reaction.seen.iter().filter_map(|(pid, what)| match what {
            What::Handler(info) => Some((*pid, *info)),
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

    /// Which processes ended, and how. What the kernel does not tell, is any way to end.
    fn check_ended(&self, reaction: &Reaction) -> Result<(), Mismatch> {
        let model = by_process(reaction.seen.iter().filter_map(|(pid, what)| match what {
            What::Ended(status) => Some((*pid, Some(*status))),
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

    /// How every process stands.
    fn check_views(&self, kernel: &Kernel) -> Result<(), Mismatch> {
        let model: BTreeMap<Pid, View> =
            kernel.pids().filter_map(|pid| Some((pid, kernel.view(pid)?))).collect();
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

fn by_process<T>(items: impl Iterator<Item = (Pid, T)>) -> BTreeMap<Pid, Vec<T>> {
    let mut map = BTreeMap::<Pid, Vec<T>>::new();
    for (pid, item) in items {
        map.entry(pid).or_default().push(item);
    }
    map
}

/// Equal, but for the remaining time of a timer, of which some has passed on the kernel.
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
    let mut text =
        format!("{:?}, parent {}, group {}, session {}", view.run, view.ppid, view.pgid, view.sid);
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
