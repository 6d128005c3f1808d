//! The passage of time; alarm, setitimer and getitimer.

use crate::abi::{Errno, Itimerval, Pid, SigInfo, Signal, Time, Timeval};
use crate::kernel::api::effect::Effects;
use crate::kernel::signal::Origin;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::Process;
use crate::kernel::state::task::Task;
use crate::kernel::state::timer::Alarm;
use crate::kernel::{Kernel, Refused};
use crate::rule;
use crate::syscall::{self, ITIMER_REAL, Ptr, Ret};

const SECOND: u64 = 1_000_000_000;
/// The longest time of a timer, in nanoseconds (KTIME_MAX).
const LONGEST: u64 = i64::MAX as u64;

impl Kernel {
    /// Advances the time to `to`. Timers and timeouts expire in order, and no task runs in between.
    pub(in crate::kernel) fn advance(&mut self, to: Time, fx: &mut Effects) -> Result<(), Refused> {
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

    /// The number of timers that expire together at the next deadline, if that is before `end`.
    pub(crate) fn due_together(&self, end: Time) -> usize {
        match self.next_deadline().filter(|deadline| *deadline < end) {
            Some(first) => self.alarms.iter().take_while(|(time, _)| *time == first).count(),
            None => 0,
        }
    }

    /// Advances the time to the next deadline, and lets the `nth` timer of that deadline expire
    /// before the others.
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
        if !self.disarm_itimer(process) {
            return;
        }
        fx.obey(rule!("TIME-06"));
        let origin = Origin { force: false, ..Origin::kernel(rule!("TIME-04")) };
        // TG-27
        let leader = self.leader(process);
        self.generate_kernel(leader, SigInfo::kernel(Signal::ALRM), origin, fx);
    }

    pub(in crate::kernel) fn alarm(
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

    pub(in crate::kernel) fn setitimer(
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
            // the kernel shortens longer times to this one
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

    pub(in crate::kernel) fn getitimer(
        &mut self,
        caller: Id<Task>,
        which: i32,
        fx: &mut Effects,
    ) -> syscall::Result {
        fx.obey(rule!("TIME-05"));
        check_which(which)?;
        Ok(Ret::Itimer(Some(itimerval(self.itimer_left(self.process_of(caller))))))
    }
}

/// TIME-05: the model has no timers of CPU time.
fn check_which(which: i32) -> Result<(), Errno> {
    if which == ITIMER_REAL { Ok(()) } else { Err(Errno::EINVAL) }
}

fn itimerval((value, interval): (u64, u64)) -> Itimerval {
    Itimerval { interval: Timeval::from_nanos(interval), value: Timeval::from_nanos(value) }
}
