//! A real child as its tree, its driver and the watcher share it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::child;
use super::watch::Watch;
use crate::abi::{Pid, Signal, WaitStatus};
use crate::driver::{Delivery, DriverProcess, Reporter};
use crate::sync::Mutex;
use crate::table::Process;

/// A real child, as its tree and the watcher share it.
#[derive(Debug)]
pub(super) struct Real {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub reporter: Mutex<Reporter>,
    pub usage: Mutex<Option<Duration>>,
    pub status: Mutex<Option<WaitStatus>>,
    /// Whether its end was reported.
    pub told: Mutex<bool>,
    pub reaped: Mutex<bool>,
    /// What was told of it last.
    pub stopped: AtomicBool,
    /// Its tree is gone: it is reaped as soon as it ends.
    pub orphaned: AtomicBool,
}

/// A child that is on its own: it is only reaped.
pub(super) struct Detached(pub Arc<Real>);

impl Watch for Detached {
    fn pidfd(&self) -> &OwnedFd {
        &self.0.pidfd
    }

    fn ended(&self) -> bool {
        self.0.reap();
        self.0.is_reaped()
    }

    fn look(&self) {}
}

impl Real {
    pub fn new(pid: i32, pidfd: OwnedFd) -> Real {
        Real {
            pid,
            pidfd,
            reporter: Mutex::default(),
            usage: Mutex::default(),
            status: Mutex::default(),
            told: Mutex::new(false),
            reaped: Mutex::new(false),
            stopped: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
        }
    }

    /// Sends it a signal, unless it was reaped.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        child::send(&self.pidfd, signal.number().into())
    }

    /// Sleeps until it has ended, and reports that: one thread less to wake than by the watcher.
    pub fn await_end(&self) {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // a signal of the owner's: sleep again
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        self.ended();
    }

    pub fn reap(&self) {
        let mut reaped = self.reaped.lock();
        if !*reaped {
            // one that cannot be reaped is not our child any more
            *reaped = child::reap(&self.pidfd, libc::WNOHANG).unwrap_or(true);
        }
    }

    /// Nobody will ask for it any more: it is reaped now, or when it ends.
    pub fn orphan(&self) {
        self.orphaned.store(true, Ordering::SeqCst);
        self.reap();
    }

    pub fn has_ended(&self) -> bool {
        self.status.lock().is_some() || self.is_reaped()
    }

    pub fn is_reaped(&self) -> bool {
        *self.reaped.lock()
    }
}

impl Watch for Real {
    fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    fn ended(&self) -> bool {
        // whoever comes first reports: the watcher, or one who waits for this child alone
        let mut told = self.told.lock();
        if !*told {
            // WNOWAIT: it stays until the table has it reaped
            let observed = child::observe(&self.pidfd, libc::WEXITED | libc::WNOWAIT);
            let end = match observed {
                Ok(None) => return false,
                Ok(Some(observed)) => self.saw(observed),
                Err(_) => {
                    // somebody else has reaped it, or the owner ignores SIGCHLD: how it ended is
                    // not to be had, and whoever waits for it must not wait for ever
                    *self.reaped.lock() = true;
                    WaitStatus::killed(Signal::KILL, false)
                }
            };
            *told = true;
            drop(told);
            // without the lock: whoever is called back may wait for it
            let reporter = self.reporter.lock().clone();
            reporter.report(end);
        }
        if self.orphaned.load(Ordering::SeqCst) {
            self.reap();
        }
        true
    }

    fn look(&self) {
        // these events are ours alone to take: nobody else waits for this child
        let changed = child::observe(&self.pidfd, libc::WSTOPPED | libc::WCONTINUED);
        if let Ok(Some(child::Observed { status, .. })) = changed {
            let reporter = self.reporter.lock().clone();
            let stopped = status.stop_signal().is_some();
            // each stop is told once: after the last one it must have continued since
            if self.stopped.swap(stopped, Ordering::Relaxed) && stopped {
                reporter.continued();
            }
            reporter.report(status);
        }
    }
}

impl Real {
    /// Notes how it ended, and what it has used.
    pub fn saw(&self, observed: child::Observed) -> WaitStatus {
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        let usage = observed.usage;
        *self.usage.lock() = Some(time(usage.ru_utime) + time(usage.ru_stime));
        *self.status.lock() = Some(observed.status);
        observed.status
    }
}

/// The driver of a real child.
pub(super) struct RealDriver(pub Arc<Real>);

impl DriverProcess for RealDriver {
    fn deliver(&self, delivery: Delivery) {
        // one that has ended meanwhile: its end is on the way
        let _ = self.0.send(delivery.info.signal);
    }

    fn stop(&self, signal: Signal) {
        let _ = self.0.send(signal);
    }

    fn resume(&self) {
        let _ = self.0.send(Signal::CONT);
    }

    fn terminate(&self, _: WaitStatus) {
        let _ = self.0.send(Signal::KILL);
    }

    fn reaped(&self) {
        self.0.reap();
    }

    // the tree decides what becomes of it
    fn abandon(&self) {}
}

/// The direct children of a tree.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// Those that were not reaped when it was looked at last, by their numbers in the table.
    pub list: BTreeMap<Pid, Arc<Real>>,
    /// The CPU time of those that were.
    pub time: Duration,
}

impl Children {
    pub fn add(&mut self, process: &Process, real: Arc<Real>) {
        let (time, gone) = (&mut self.time, Real::is_reaped);
        self.list.retain(|_, real| {
            if gone(real) {
                *time += real.usage.lock().unwrap_or_default();
            }
            !gone(real)
        });
        self.list.insert(process.pid(), real);
    }

    /// The CPU time of those that have ended.
    pub fn ended_time(&self) -> Duration {
        let ended = self.list.values().filter_map(|real| *real.usage.lock());
        self.time + ended.sum::<Duration>()
    }
}
