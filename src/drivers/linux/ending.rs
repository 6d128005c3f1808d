//! How a tree ends: asked, killed, or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cgroup::{Cgroup, remove_empty};
use super::members::Member;
use super::options::OnDrop;
use super::pidfd;
use super::tree::{ProcessTree, TreeInner};
use crate::abi::{Errno, Signal, WaitOptions, WaitStatus};
use crate::sync::{Parker, moment_after};
use crate::table::{WaitTarget, Waited};

/// How long it may take until killed processes are gone.
const GONE: Duration = Duration::from_secs(10);
/// How often a scan looks for members, while the known ones are waited for.
const LOOK: Duration = Duration::from_millis(20);
/// For how many members it is waited at once: each takes a descriptor.
const AT_ONCE: usize = 64;
/// How often those that cannot be waited for are looked at.
const GLANCE: Duration = Duration::from_micros(500);

/// How a tree ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shutdown {
    /// How each direct child ended that was alive.
    pub ended: BTreeMap<i32, WaitStatus>,
    /// Whether SIGKILL was needed.
    pub killed: bool,
    /// The processes that are still there: in uninterruptible sleep, or out of reach.
    pub survivors: Vec<Member>,
    /// Why other processes may be left that were not signalled, or not found: without it there are
    /// none. Direct children have ended all the same, except `survivors`.
    pub unseen: Option<String>,
}

impl Shutdown {
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.unseen = Some(error.to_string());
        }
    }
}

/// Where the thread that ends a tree sleeps; an unpark cancels the end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    parker: Parker,
    cancelled: AtomicBool,
}

impl Stop {
    /// The end is cancelled.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.parker.unpark();
    }

    /// # Errors
    ///
    /// Interrupted, if so.
    fn check(&self) -> io::Result<()> {
        match self.cancelled.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

impl Wake for Stop {
    fn wake(self: Arc<Stop>) {
        self.parker.unpark();
    }
}

impl ProcessTree {
    /// Kills all members, and waits until they are gone. The result names the survivors.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn kill(&self) -> io::Result<Shutdown> {
        self.core.end(None, &Arc::default())
    }

    /// Sends a signal to all members (and SIGCONT, so that stopped members act on it), and kills
    /// the members that are left after `grace`. It returns as soon as no member is left.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn shutdown(&self, signal: Signal, grace: Duration) -> io::Result<Shutdown> {
        self.core.end(Some((signal, grace)), &Arc::default())
    }
}

/// The result of a signal to all members.
struct Sent {
    /// There was a member that was not known.
    is_new: bool,
    /// The signal was permitted for none of them (EPERM).
    is_refused: bool,
}

impl TreeInner {
    /// Ends all members. If the end was cancelled it fails, whatever the error.
    pub fn end(&self, asked: Option<(Signal, Duration)>, stop: &Arc<Stop>) -> io::Result<Shutdown> {
        let children: Vec<_> = self.children.lock().list.values().cloned().collect();
        let alive: Vec<_> = children.into_iter().filter(|real| !real.has_ended()).collect();
        let unseen = self.blind.as_ref().map(ToString::to_string);
        let mut shutdown = Shutdown { unseen, ..Shutdown::default() };
        let mut gone = false;
        if let Some((signal, grace)) = asked {
            let told = self.ask(signal);
            shutdown.note(told);
            gone = self.await_end(moment_after(grace), &mut shutdown, stop)?;
        }
        if !gone && !self.kill_all(&mut shutdown, stop)? {
            self.name_survivors(&mut shutdown);
        }
        self.reap_orphans();
        // also those that other code waited for since
        let ended = alive.iter().filter_map(|real| Some((real.pid, (*real.status.lock())?)));
        shutdown.ended.extend(ended);
        Ok(shutdown)
    }

    /// Sends a signal to all members, and lets them act on it.
    pub(super) fn ask(&self, signal: Signal) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.freeze(false)?;
        }
        // one look for both: it costs a look at every process of the system
        let told = self.send(&[signal, Signal::CONT]);
        *self.suspended.write() = false;
        told
    }

    fn name_survivors(&self, shutdown: &mut Shutdown) {
        let mut survivors = Vec::new();
        let named = self.visit(&mut |stat, _| survivors.push(stat.clone().into()));
        shutdown.survivors = survivors;
        shutdown.note(named);
        if shutdown.survivors.is_empty() && shutdown.unseen.is_none() {
            // a member is left, or this place would not be reached
            shutdown.unseen = Some("those who are left have no number here".into());
        }
    }

    /// Kills until no member is left. `false` if that takes too long.
    fn kill_all(&self, shutdown: &mut Shutdown, stop: &Arc<Stop>) -> io::Result<bool> {
        shutdown.killed = true;
        let mut gone = false;
        // a zombie that is not reaped keeps its group, and looks like the others there
        let patience = if self.blind.is_some() { GONE / 10 } else { GONE };
        let begun = Instant::now();
        let mut deadline = begun + patience;
        while !gone && Instant::now() < deadline {
            let killed = self.kill_once();
            if matches!(killed, Ok(false)) {
                // all that is left is another user's: it ends by itself, or not at all
                deadline = deadline.min(begun + GONE / 10);
            }
            shutdown.note(killed.map(drop));
            // those that were created while the others were killed are found by the next look
            let moment = Instant::now() + Duration::from_millis(50);
            gone = self.await_end(moment, shutdown, stop)?;
        }
        if *self.suspended.read() {
            // a process that gets the number next is not
            self.resume()?;
        }
        Ok(gone)
    }

    /// Sends SIGKILL to each member; whether there may be one that it reaches.
    fn kill_once(&self) -> io::Result<bool> {
        match &self.cgroup {
            Some(cgroup) => {
                let mut known = BTreeSet::new();
                let each = &mut || Ok(self.signal_members(Signal::KILL, &mut known)?.is_new);
                cgroup.kill(each).map(|()| true)
            }
            None if self.blind.is_some() => self.send(&[Signal::KILL]).map(|()| true),
            // with an error, those at hand are killed all the same
            None => self.kill_seen(),
        }
    }

    /// Sends a signal to each member that a scan finds.
    fn signal_members(&self, signal: Signal, known: &mut BTreeSet<(i32, u64)>) -> io::Result<Sent> {
        let mut sent = Sent { is_new: false, is_refused: true };
        self.visit(&mut |stat, pidfd| {
            sent.is_new |= known.insert((stat.pid, stat.started));
            let result = pidfd::send(pidfd, signal.number().into());
            let is_refused =
                result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            sent.is_refused &= is_refused;
        })?;
        Ok(sent)
    }

    /// Kills the members that a scan finds. If a further scan finds new ones, they are stopped
    /// before they are killed: otherwise a process that multiplies has a new generation in each
    /// scan. `false` if there are members, and this process may send a signal to none of them.
    fn kill_seen(&self) -> io::Result<bool> {
        let mut known = BTreeSet::new();
        let mut look = |signal: Signal| self.signal_members(signal, &mut known);
        let mut is_refused = look(Signal::KILL)?.is_refused;
        let deadline = Instant::now() + GONE / 10;
        if look(Signal::STOP)?.is_new {
            while look(Signal::STOP)?.is_new && Instant::now() < deadline {}
            is_refused &= look(Signal::KILL)?.is_refused;
        }
        Ok(known.is_empty() || !is_refused)
    }

    /// Waits until no member is left, by descriptors: first for those in the table. `false` if that
    /// takes too long.
    fn await_end(
        &self,
        deadline: Instant,
        shutdown: &mut Shutdown,
        stop: &Arc<Stop>,
    ) -> io::Result<bool> {
        loop {
            match self.await_child(deadline, stop)? {
                Some(Ok(waited)) => {
                    if let Some(real) = self.children.lock().list.get(&waited.pid) {
                        shutdown.ended.insert(real.pid, waited.status);
                    }
                }
                None => return Ok(false),
                // no child is left in the table
                Some(Err(_)) => break,
            }
        }
        loop {
            let left = self.pids().unwrap_or_else(|error| {
                // the direct children have ended: more cannot be known
                shutdown.note(Err(error));
                Vec::new()
            });
            let is_leaving = || self.cgroup.as_ref().is_some_and(Cgroup::is_populated);
            if left.is_empty() && !self.has_groups() && !is_leaving() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            wait_for_exits(&left, deadline.min(Instant::now() + LOOK));
            stop.check()?;
        }
    }

    /// The next end in the table; `None` if none comes before the deadline.
    fn await_child(
        &self,
        deadline: Instant,
        stop: &Arc<Stop>,
    ) -> io::Result<Option<Result<Waited, Errno>>> {
        let mut wait = pin!(self.owner.wait_async(WaitTarget::Any, WaitOptions::EXITED));
        let waker = Waker::from(stop.clone());
        loop {
            stop.check()?;
            // the time first: what came before it was over is given
            let over = Instant::now() >= deadline;
            if let Poll::Ready(ended) = wait.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(Some(ended));
            }
            if over {
                return Ok(None);
            }
            stop.parker.park(Some(deadline));
        }
    }

    /// Whether the cgroup is empty and all children have ended: then there is nothing to kill.
    fn has_ended(&self) -> bool {
        self.cgroup.as_ref().is_some_and(Cgroup::is_empty)
            && self.children.lock().list.values().all(|real| real.has_ended())
    }

    /// The tree stays; its cgroups stay only if they have members.
    fn remove_empty(&self) {
        // those that have just ended leave it in a moment (Linux 6.19)
        let deadline = Instant::now() + GONE / 100;
        while let Some(cgroup) = &self.cgroup {
            let busy = remove_empty(cgroup.directory()).is_err();
            let gone = cgroup.members().is_ok_and(|members| members.is_empty());
            if !busy || !gone || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(GLANCE);
        }
        self.limited.remove_empty();
    }

    fn clean_up(&self) {
        let deadline = Instant::now() + GONE;
        let remove = || {
            self.cgroup.as_ref().map_or(Ok(()), Cgroup::remove)?;
            self.limited.remove()
        };
        while remove().is_err() && Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
    }
}

/// Sleeps until members have ended, by their descriptors: some of them if there are many. A number
/// that is another's by now costs time and nothing else.
fn wait_for_exits(pids: &[i32], deadline: Instant) {
    let pidfds: Vec<_> =
        pids.iter().take(AT_ONCE).map_while(|pid| pidfd::open(*pid).ok()).collect();
    if pidfds.is_empty() {
        // gone, or no descriptors are left
        return std::thread::sleep(GLANCE);
    }
    for pidfd in &pidfds {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        // a signal of the owner's: it is looked again, that is all
        if poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)).is_ok_and(|ended| ended == 0)
        {
            return;
        }
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        let guardian = self.guardian.lock().take();
        if self.on_drop == OnDrop::Kill && self.core.has_ended() {
            self.core.reap_orphans();
        } else if self.on_drop == OnDrop::Kill {
            // no caller is left for an error
            let _ = self.kill();
        }
        // a process that survives, or dies late, must not stay a zombie
        for real in self.core.children.lock().list.values() {
            real.orphan();
        }
        match self.on_drop {
            OnDrop::Kill => self.core.clean_up(),
            OnDrop::Leave => self.core.remove_empty(),
        }
        if let Some(guardian) = guardian {
            guardian.dismiss();
        }
        // of a tree that stays the controllers do, too: its cgroup is one of the others
        drop(self.delegation.take());
    }
}
