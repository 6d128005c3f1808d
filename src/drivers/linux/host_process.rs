//! A real process as its tree, its driver and the watcher share it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::orphans::{Creation, Orphan};
use super::procfs::{Once, Proc};
use super::watch::Watch;
use super::{attributes, pidfd};
use crate::abi::{Pid, Rusage, Signal, WaitStatus};
use crate::driver::{Attachment, Delivery, DriverProcess, Reporter};
use crate::sync::{Mutex, OnceLock};
use crate::table::Process;

/// A real process, as its tree and the watcher share it.
#[derive(Debug)]
pub(super) struct HostProcess {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Whether the tree has created it, and so may reap it and take its stops.
    pub spawned_here: bool,
    /// What reports to the table, once its driver is attached.
    reporter: OnceLock<Reporter>,
    /// What it and the children that it has waited for have used, once it has ended.
    pub usage: Mutex<Option<Rusage>>,
    /// Its `ru_maxrss`, in bytes, once it has ended.
    pub peak: Mutex<Option<u64>>,
    pub status: Mutex<Option<WaitStatus>>,
    /// Whether its end was reported.
    pub end_reported: Mutex<bool>,
    pub reaped: Mutex<bool>,
    /// The state that was reported last.
    pub stopped: AtomicBool,
    /// Its tree or its last handle is gone: it is reaped as soon as it ends.
    pub orphaned: AtomicBool,
}

/// Whether a signal for the group that a living child leads reaches the child itself.
pub(super) fn has_own_group(pid: i32, pidfd: &OwnedFd) -> bool {
    // before Linux 6.9 there is no such signal
    pidfd::send_to_group(pidfd, 0).is_ok() && attributes::group(pid) == pid
}

/// How a process ended that this process may not wait for: by its zombie, or by the kernel's record
/// of one that was reaped (Linux 6.15). `None` if neither tells.
pub(super) fn status_without_wait(
    proc: Option<&Proc>,
    pid: i32,
    pidfd: &OwnedFd,
) -> Option<WaitStatus> {
    // what a zombie shows is its own as long as it keeps its number
    if let Some(proc) = proc {
        let zombie = proc.stat(pid).filter(|stat| stat.state == b'Z');
        let may_know = proc.may_know_exit(pid);
        if let Some(zombie) = zombie.filter(|_| pidfd::exists(pidfd)) {
            let known = zombie.exit_code != 0 || may_know;
            return known.then_some(WaitStatus(zombie.exit_code));
        }
    }
    pidfd::exit_status(pidfd).ok().flatten()
}

/// A child that is on its own: it is only reaped.
pub(super) struct Detached(pub Arc<HostProcess>);

impl Watch for Detached {
    fn pidfd(&self) -> &OwnedFd {
        &self.0.pidfd
    }

    fn ended(&self) -> bool {
        self.0.reap();
        self.0.is_reaped()
    }

    fn look(&self, _: &Once) {}
}

impl HostProcess {
    /// One that was spawned.
    pub fn child(pid: i32, pidfd: OwnedFd) -> HostProcess {
        HostProcess::new(pid, pidfd, true)
    }

    /// A process that another process has created, and reaps.
    pub fn adopted(pid: i32, pidfd: OwnedFd) -> HostProcess {
        HostProcess::new(pid, pidfd, false)
    }

    fn new(pid: i32, pidfd: OwnedFd, ours: bool) -> HostProcess {
        HostProcess {
            pid,
            pidfd,
            spawned_here: ours,
            reporter: OnceLock::new(),
            usage: Mutex::default(),
            peak: Mutex::default(),
            status: Mutex::default(),
            end_reported: Mutex::new(false),
            reaped: Mutex::new(false),
            stopped: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
        }
    }

    /// Sends it a signal, unless it was reaped.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        pidfd::send(&self.pidfd, signal.number().into())
    }

    /// Sends a signal to the process group that it leads or has led.
    pub fn send_to_group(&self, signal: Signal) {
        if !attributes::is_own_group(self.pid) {
            let _ = pidfd::send_to_group(&self.pidfd, signal.number().into());
        }
    }

    /// Whether the group has members.
    pub fn has_group(&self) -> bool {
        let sent = pidfd::send_to_group(&self.pidfd, 0);
        sent.map_or_else(|error| error.raw_os_error() == Some(libc::EPERM), |()| true)
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
            // a process that cannot be reaped is not our child any more; the end of an adopted
            // process does not wait for its parent
            *reaped = !self.spawned_here
                || pidfd::reap(self.pid, &self.pidfd, libc::WNOHANG).unwrap_or(true);
        }
    }

    /// No handle of it is left: it is reaped when its end was reported, now or later.
    pub fn reap_after_report(&self) {
        self.orphaned.store(true, Ordering::SeqCst);
        // the watcher looks at the flag after it has reported
        if *self.end_reported.lock() {
            self.reap();
        }
    }

    /// No caller will ask for it any more: it is reaped now, or when it ends.
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

impl Watch for HostProcess {
    fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    fn ended(&self) -> bool {
        // the first one reports: the watcher, or a thread that waits for this child alone
        let mut told = self.end_reported.lock();
        if !*told {
            // WNOWAIT: it stays until the table has it reaped
            let observed = pidfd::observe(self.pid, &self.pidfd, libc::WEXITED | libc::WNOWAIT);
            let end = match observed {
                Ok(None) => return false,
                Ok(Some(observed)) => self.saw(observed),
                // it is no child, other code has reaped it, or the owner ignores SIGCHLD
                Err(_) => self.saw_end_of_other(),
            };
            *told = true;
            drop(told);
            // without the lock: the code that is called may wait for it
            if let (Some(reporter), Some(usage)) = (self.reporter.get(), *self.usage.lock()) {
                reporter.usage(usage);
            }
            self.report(end);
        }
        if self.orphaned.load(Ordering::SeqCst) {
            self.reap();
        }
        true
    }

    fn look(&self, proc: &Once) {
        if !self.spawned_here {
            return proc.get().map_or((), |proc| self.look_at_other(proc));
        }
        // these events are ours alone: no other code waits for this child
        let changed = pidfd::observe(self.pid, &self.pidfd, libc::WSTOPPED | libc::WCONTINUED);
        if let Ok(Some(pidfd::Observed { status, .. })) = changed {
            let stopped = status.stop_signal().is_some();
            // each stop is reported once: after the last one it must have continued since
            if self.stopped.swap(stopped, Ordering::Relaxed) && stopped {
                self.report(WaitStatus::CONTINUED);
            }
            self.report(status);
        }
    }
}

impl HostProcess {
    fn report(&self, status: WaitStatus) {
        if let Some(reporter) = self.reporter.get() {
            reporter.report(status);
        }
    }

    /// The CPU time that it has used, if it has ended; 0 otherwise.
    pub fn cpu_time(&self) -> Duration {
        self.usage.lock().unwrap_or_default().cpu_time()
    }

    /// Notes how it ended, and what it has used.
    pub fn saw(&self, observed: pidfd::Observed) -> WaitStatus {
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        let usage = observed.usage;
        *self.usage.lock() = Some(Rusage {
            utime: time(usage.ru_utime),
            stime: time(usage.ru_stime),
            maxrss: usage.ru_maxrss as u64,
            minflt: usage.ru_minflt as u64,
            majflt: usage.ru_majflt as u64,
            inblock: usage.ru_inblock as u64,
            oublock: usage.ru_oublock as u64,
            nvcsw: usage.ru_nvcsw as u64,
            nivcsw: usage.ru_nivcsw as u64,
        });
        *self.peak.lock() = Some((usage.ru_maxrss as u64).saturating_mul(1024));
        *self.status.lock() = Some(observed.status);
        observed.status
    }

    /// Notes the end of a process that is not this process's to wait for. If its status cannot be
    /// had the table receives SIGKILL, as a wait must not wait for ever.
    fn saw_end_of_other(&self) -> WaitStatus {
        let status = self.end_of_other();
        *self.status.lock() = status;
        *self.reaped.lock() = true;
        status.unwrap_or(WaitStatus::killed(Signal::KILL, false))
    }

    fn end_of_other(&self) -> Option<WaitStatus> {
        if self.spawned_here && pidfd::has_ended(&self.pidfd) {
            // a child that the kernel reaps by itself: CLONE_AUTOREAP, or SIGCHLD is ignored
            if let Some(status) = pidfd::await_exit_status(&self.pidfd) {
                return Some(status);
            }
        }
        status_without_wait(Proc::own().ok().as_ref(), self.pid, &self.pidfd)
    }

    /// Its stops and continues are its parent's to wait for: they are read.
    fn look_at_other(&self, proc: &Proc) {
        let stat = proc.stat(self.pid).filter(|_| pidfd::exists(&self.pidfd));
        let Some(stat) = stat.filter(|stat| stat.state != b'Z') else { return };
        let stopped = stat.state == b'T';
        if self.stopped.swap(stopped, Ordering::Relaxed) == stopped {
            return;
        }
        if stopped {
            let signal = Signal::new(stat.exit_code as i32);
            self.report(WaitStatus::stopped(signal.unwrap_or(Signal::STOP)));
        } else {
            self.report(WaitStatus::CONTINUED);
        }
    }
}

/// The driver of a real child.
/// Once the process is reaped the tree forgets it, and so its descriptor is closed: a zombie of the
/// table holds none.
pub(super) struct HostProcessDriver(pub Weak<HostProcess>);

impl HostProcessDriver {
    fn send(&self, signal: Signal) {
        // one that ended during the operation: its end is on the way
        let _ = self.0.upgrade().map(|real| real.send(signal));
    }
}

impl DriverProcess for HostProcessDriver {
    fn attach(&self, attachment: &Attachment) {
        // each is attached once
        let _ = self.0.upgrade().map(|real| real.reporter.set(attachment.reporter()));
    }

    fn deliver(&self, delivery: Delivery) {
        self.send(delivery.info.signal);
    }

    fn stop(&self, signal: Signal) {
        self.send(signal);
    }

    fn resume(&self) {
        self.send(Signal::CONT);
    }

    fn terminate(&self, _: WaitStatus) {
        self.send(Signal::KILL);
    }

    fn reaped(&self) {
        if let Some(real) = self.0.upgrade() {
            real.reap();
        }
    }

    // the tree decides what becomes of it
    fn abandon(&self) {}
}

/// The processes of a tree that are in its table, and orphans.
#[derive(Debug, Default)]
pub(super) struct DirectChildren {
    /// Those that were not reaped when it was looked at last, by their numbers in the table.
    pub list: BTreeMap<Pid, Arc<HostProcess>>,
    /// Those whose process groups may outlive them, where descendants cannot be looked for.
    pub groups: Vec<Arc<HostProcess>>,
    /// Members that have become children of this process when their parents ended.
    pub orphans: Vec<Arc<Orphan>>,
    /// The CPU time of those that were reaped.
    time: Duration,
    /// Adopted children of other libraries of this process, with the times of their starts: not the
    /// tree's to reap.
    pub unrelated: BTreeSet<(i32, u64)>,
    /// Children without a handle whose ends the table keeps for its own waits.
    unclaimed: VecDeque<Process>,
}

/// How many ends of children without a handle the table keeps.
const UNCLAIMED: usize = 1024;

impl DirectChildren {
    pub fn add(&mut self, process: &Process, real: Arc<HostProcess>) {
        self.list.insert(process.pid(), real);
    }

    /// Forgets the children that are reaped, and so closes their descriptors.
    pub fn forget_reaped(&mut self, blind: bool) {
        let (time, groups) = (&mut self.time, &mut self.groups);
        groups.retain(|real| real.has_group());
        self.list.retain(|_, real| {
            let gone = real.is_reaped();
            if gone {
                *time += real.cpu_time();
            }
            if gone && blind && real.spawned_here && real.has_group() {
                groups.push(real.clone());
            }
            !gone
        });
    }

    /// The last handle of a child was dropped, and the table has the child still.
    pub fn note_unclaimed(&mut self, process: Process) {
        self.unclaimed.push_back(process);
    }

    /// The child without a handle that is the next to be removed from the table, if there are more
    /// than the table keeps.
    pub fn next_unclaimed(&mut self) -> Option<Process> {
        if self.unclaimed.len() > UNCLAIMED { self.unclaimed.pop_front() } else { None }
    }

    /// An orphan has ended, or is not watched.
    pub fn forget(&mut self, orphan: &Orphan) {
        self.time += orphan.real.cpu_time();
        self.orphans.retain(|other| !core::ptr::eq(&**other, orphan));
    }

    /// The CPU time of those that have ended.
    pub fn ended_time(&self) -> Duration {
        let ended = self.list.values().map(|real| real.cpu_time());
        self.time + ended.sum::<Duration>()
    }

    /// The numbers of those that are not reaped.
    pub fn pids(&self) -> Vec<i32> {
        let orphans = self.orphans.iter().map(|orphan| &orphan.real);
        let all = self.list.values().map(|real| &**real).chain(orphans);
        all.filter(|real| !real.is_reaped()).map(|real| real.pid).collect()
    }

    /// Whether a child of this process that is a member need not be an orphan: the tree, or another
    /// library, may have created it.
    pub fn may_have_created(&self, pid: i32, started: u64) -> bool {
        Creation::may_be(started)
            || self.pids().contains(&pid)
            || self.unrelated.contains(&(pid, started))
    }
}
