//! ITIMER_REAL and the timeouts of blocked calls, on virtual time.

use alloc::boxed::Box;

use super::arena::Id;
use super::effect::Effects;
use super::process::Process;
use super::signal::Origin;
use super::task::{Sleep, Task};
use super::{Kernel, Refused};
use crate::abi::{Errno, Itimerval, Pid, SigInfo, Signal, Time, Timeval};
use crate::rule;
use crate::syscall::{self, ITIMER_REAL, Ptr, Ret};

const SECOND: u64 = 1_000_000_000;
/// The longest time of a timer, in nanoseconds (KTIME_MAX).
const LONGEST: u64 = i64::MAX as u64;

/// The ITIMER_REAL of a process (TIME-01).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Itimer {
    /// When it expires next, or expired last.
    expiry: Time,
    /// The period in nanoseconds; 0 fires once.
    interval: u64,
    /// It runs: it has not expired, or was armed again since.
    armed: bool,
}

impl Itimer {
    /// Whether it waits for its signal to be dequeued.
    pub fn is_idle(&self) -> bool {
        !self.armed && self.interval > 0
    }
}

/// Whom a deadline concerns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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

    /// Whether a timer is idle: it has expired, and will run again when its signal is dequeued, by
    /// what time it is then (TIME-06).
    pub fn has_idle_timers(&self) -> bool {
        self.idle_itimers > 0
    }

    /// Time passes until `to`. What expires on the way expires in order, and its tasks do not run
    /// meanwhile: settle in between to let them.
    pub(super) fn advance(&mut self, to: Time, fx: &mut Effects) -> Result<(), Refused> {
        if to < self.now {
            return Err(Refused::TimeWentBack);
        }
        fx.begin(Pid(0), None);
        while let Some((time, alarm)) = self.alarms.first().copied().filter(|(at, _)| *at <= to) {
            self.now = time;
            self.expire(time, alarm, fx);
        }
        self.now = to;
        Ok(())
    }

    /// How many timers expire at the next moment at which any do, if that is before `end`.
    pub(crate) fn due_together(&self, end: Time) -> usize {
        match self.next_deadline().filter(|deadline| *deadline < end) {
            Some(first) => self.alarms.iter().take_while(|(time, _)| *time == first).count(),
            None => 0,
        }
    }

    /// Time passes until the next moment at which timers expire, and the `nth` of them does so, before
    /// the others.
    pub(crate) fn expire_one(&mut self, nth: usize, fx: &mut Effects) {
        let Some((time, alarm)) = self.alarms.iter().nth(nth).copied() else { return };
        fx.begin(Pid(0), None);
        self.now = time;
        self.expire(time, alarm, fx);
    }

    fn expire(&mut self, time: Time, alarm: Alarm, fx: &mut Effects) {
        self.alarms.remove(&(time, alarm));
        match alarm {
            Alarm::Itimer(process) => self.expire_itimer(process, fx),
            Alarm::Timeout(task) => self.enqueue_task(task),
        }
    }

    fn expire_itimer(&mut self, process: Id<Process>, fx: &mut Effects) {
        let Some(itimer) = &mut self.processes[process].itimer else { return };
        // TIME-06: it is armed again when the signal is dequeued
        itimer.armed = false;
        self.idle_itimers += u32::from(itimer.is_idle());
        fx.obey(rule!("TIME-06"));
        let origin = Origin { force: false, ..Origin::kernel(rule!("TIME-04")) };
        // TG-27
        let leader = self.leader(process);
        self.generate_kernel(leader, SigInfo::kernel(Signal::ALRM), origin, fx);
    }

    /// SIGALRM was dequeued: a periodic timer goes on, on its original grid (TIME-06).
    pub(super) fn rearm_itimer(&mut self, process: Id<Process>, fx: &mut Effects) {
        let now = self.now;
        let Some(itimer) = &mut self.processes[process].itimer else { return };
        // what lies beyond the end of time does not come
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

    pub(super) fn cancel_itimer(&mut self, process: Id<Process>) {
        if let Some(itimer) = self.processes[process].itimer.take() {
            self.alarms.remove(&(itimer.expiry, Alarm::Itimer(process)));
            self.idle_itimers -= u32::from(itimer.is_idle());
        }
    }

    /// Replaces the timer; the old one's remaining time and period, in nanoseconds.
    fn replace_itimer(&mut self, process: Id<Process>, value: u64, interval: u64) -> (u64, u64) {
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

    fn itimer_left(&self, process: Id<Process>) -> (u64, u64) {
        match &self.processes[process].itimer {
            None => (0, 0),
            Some(itimer) if itimer.armed => {
                // one that is due but has not fired yet still reads as armed
                ((itimer.expiry.0 - self.now.0).max(1000), itimer.interval)
            }
            Some(itimer) => (0, itimer.interval),
        }
    }

    pub(super) fn alarm(
        &mut self,
        caller: Id<Task>,
        seconds: u32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("TIME-01"));
        fx.obey(rule!("TIME-03"));
        let (left, _) =
            self.replace_itimer(self.process_of(caller), u64::from(seconds) * SECOND, 0);
        // TIME-02: rounded, but an armed timer never reads as 0
        let whole = left / SECOND;
        let rounded = if left % SECOND >= SECOND / 2 || left > 0 && whole == 0 {
            fx.obey(rule!("TIME-02"));
            whole + 1
        } else {
            whole
        };
        Ok(Ret::Value(rounded as i64))
    }

    pub(super) fn setitimer(
        &mut self,
        caller: Id<Task>,
        which: i32,
        new: Option<Itimerval>,
        old: Ptr,
        fx: &mut Effects,
    ) -> syscall::Result {
        let new = new.unwrap_or_default();
        fx.obey(rule!("TIME-05"));
        let (value, interval) = match (new.value.nanos(), new.interval.nanos()) {
            // the kernel's times end here
            (Some(value), Some(interval)) => (value.min(LONGEST), interval.min(LONGEST)),
            _ => return Err(Errno::EINVAL),
        };
        check_which(which)?;
        fx.obey(rule!("TIME-08"));
        let before = self.replace_itimer(self.process_of(caller), value, interval);
        match old {
            Ptr::Null => Ok(Ret::Itimer(None)),
            Ptr::Valid => Ok(Ret::Itimer(Some(itimerval(before)))),
            Ptr::Bad => Err(Errno::EFAULT),
        }
    }

    pub(super) fn getitimer(
        &mut self,
        caller: Id<Task>,
        which: i32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("TIME-05"));
        check_which(which)?;
        Ok(Ret::Itimer(Some(itimerval(self.itimer_left(self.process_of(caller))))))
    }

    /// The call that `task` sleeps in ends at `deadline` at the latest.
    pub(super) fn set_timeout(&mut self, task: Id<Task>, deadline: Time) {
        self.alarms.insert((deadline, Alarm::Timeout(task)));
    }

    /// The task leaves whatever it sleeps in.
    pub(super) fn cancel_timeout(&mut self, task: Id<Task>) {
        if let Sleep::Timed(timed) = &self.tasks[task].sleep
            && let Some(deadline) = timed.deadline
        {
            self.clear_timeout(task, deadline);
        }
    }

    pub(super) fn clear_timeout(&mut self, task: Id<Task>, deadline: Time) {
        self.alarms.remove(&(deadline, Alarm::Timeout(task)));
    }
}

/// TIME-05. The timers of CPU time are not in the model: they never run.
fn check_which(which: i32) -> Result<(), Errno> {
    if which == ITIMER_REAL { Ok(()) } else { Err(Errno::EINVAL) }
}

fn itimerval((value, interval): (u64, u64)) -> Itimerval {
    Itimerval { interval: Timeval::from_nanos(interval), value: Timeval::from_nanos(value) }
}
