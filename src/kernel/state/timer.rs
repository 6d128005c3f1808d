//! ITIMER_REAL and the timeouts of blocked calls, on virtual time.

use alloc::boxed::Box;

use crate::abi::Time;
use crate::kernel::Kernel;
use crate::kernel::api::effect::Effects;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;
use crate::kernel::state::task::{Sleep, Task};
use crate::rule;

/// The ITIMER_REAL of a process (TIME-01).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Itimer {
    /// The next expiry, or the last one.
    expiry: Time,
    /// The period in nanoseconds; 0 fires once.
    interval: u64,
    /// It runs: it has not expired, or was armed again since then.
    armed: bool,
}

impl Itimer {
    /// Whether the timer waits until its signal is dequeued.
    pub fn is_idle(&self) -> bool {
        !self.armed && self.interval > 0
    }
}

/// The owner of a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Alarm {
    /// The ITIMER_REAL of this process.
    Itimer(Id<Process>),
    /// The timeout of the call that this thread sleeps in.
    Timeout(Id<Task>),
}

impl Time {
    /// The time that many nanoseconds later, saturating.
    pub fn after(self, nanos: u64) -> Time {
        Time(self.0.saturating_add(nanos))
    }
}

impl Kernel {
    /// The present virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// When the next timer expires. O(log timers).
    pub fn next_deadline(&self) -> Option<Time> {
        self.alarms.first().map(|(time, _)| *time)
    }

    /// Whether a timer is idle: it has expired, and is armed again when its signal is dequeued, for
    /// an expiry that depends on that moment (TIME-06).
    pub fn has_idle_timers(&self) -> bool {
        self.idle_itimers > 0
    }

    /// The timer of a process expires; it is armed again when its signal is dequeued (TIME-06).
    /// Returns whether there is one.
    pub(in crate::kernel) fn disarm_itimer(&mut self, process: Id<Process>) -> bool {
        let Some(itimer) = &mut self.processes[process].itimer else { return false };
        itimer.armed = false;
        self.idle_itimers += u32::from(itimer.is_idle());
        true
    }

    /// SIGALRM was dequeued: arms a periodic timer again, on its original grid (TIME-06).
    pub(in crate::kernel) fn rearm_itimer(&mut self, process: Id<Process>, fx: &mut Effects) {
        let now = self.now;
        let Some(itimer) = &mut self.processes[process].itimer else { return };
        // a deadline after the largest time never comes
        if itimer.armed || itimer.interval == 0 || now == Time(u64::MAX) {
            return;
        }
        fx.obey(rule!("TIME-06"));
        self.idle_itimers -= 1;
        let periods = (now.0 - itimer.expiry.0) / itimer.interval + 1;
        itimer.expiry = itimer.expiry.after(periods.saturating_mul(itimer.interval));
        itimer.armed = true;
        let expiry = itimer.expiry;
        self.alarms.insert((expiry, Alarm::Itimer(process)));
    }

    pub(in crate::kernel) fn cancel_itimer(&mut self, process: Id<Process>) {
        if let Some(itimer) = self.processes[process].itimer.take() {
            self.alarms.remove(&(itimer.expiry, Alarm::Itimer(process)));
            self.idle_itimers -= u32::from(itimer.is_idle());
        }
    }

    /// Replaces the timer. Returns the remaining time and the period of the old one, in
    /// nanoseconds.
    pub(in crate::kernel) fn replace_itimer(
        &mut self,
        process: Id<Process>,
        value: u64,
        interval: u64,
    ) -> (u64, u64) {
        let before = self.itimer_left(process);
        self.cancel_itimer(process);
        if value > 0 {
            let expiry = self.now.after(value);
            self.processes[process].itimer =
                Some(Box::new(Itimer { expiry, interval, armed: true }));
            self.alarms.insert((expiry, Alarm::Itimer(process)));
        }
        before
    }

    pub(in crate::kernel) fn itimer_left(&self, process: Id<Process>) -> (u64, u64) {
        match &self.processes[process].itimer {
            None => (0, 0),
            Some(itimer) if itimer.armed => {
                // a timer that is due and has not fired yet still reads as armed
                ((itimer.expiry.0 - self.now.0).max(1000), itimer.interval)
            }
            Some(itimer) => (0, itimer.interval),
        }
    }

    /// The call that `task` sleeps in ends at `deadline` at the latest.
    pub(in crate::kernel) fn set_timeout(&mut self, task: Id<Task>, deadline: Time) {
        self.alarms.insert((deadline, Alarm::Timeout(task)));
    }

    /// The task leaves the call in which it sleeps.
    pub(in crate::kernel) fn cancel_timeout(&mut self, task: Id<Task>) {
        let deadline = match &self.tasks[task].sleep {
            Sleep::Timed(timed) => timed.deadline,
            Sleep::Terminal(sleep) => sleep.deadline(),
            Sleep::Poll(sleep) => sleep.deadline,
            _ => None,
        };
        if let Some(deadline) = deadline {
            self.clear_timeout(task, deadline);
        }
    }

    pub(in crate::kernel) fn clear_timeout(&mut self, task: Id<Task>, deadline: Time) {
        self.alarms.remove(&(deadline, Alarm::Timeout(task)));
    }
}
