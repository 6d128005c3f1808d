//! How a tree ends: asked, killed, or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::child;
use super::members::Member;
use super::options::OnDrop;
use super::tree::{Core, ProcessTree};
use crate::abi::{Signal, WaitOptions, WaitStatus};
use crate::table::WaitTarget;

/// How long it may take until killed processes are gone.
const GONE: Duration = Duration::from_secs(10);
/// How often those that cannot be waited for are looked at.
const GLANCE: Duration = Duration::from_micros(500);

/// How a tree ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shutdown {
    /// How each direct child ended that was alive.
    pub ended: BTreeMap<i32, WaitStatus>,
    /// Whether SIGKILL was needed.
    pub killed: bool,
    /// Who is still there: in uninterruptible sleep, or out of reach.
    pub survivors: Vec<Member>,
}

impl ProcessTree {
    /// Kills everybody, and waits until they are gone. Who survives that is named.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn kill(&self) -> io::Result<Shutdown> {
        self.core.end(None)
    }

    /// Sends a signal to everybody (and SIGCONT, so that those who are stopped act on it), and
    /// kills whoever is left after `grace`. It returns as soon as nobody is left.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn shutdown(&self, signal: Signal, grace: Duration) -> io::Result<Shutdown> {
        self.core.end(Some((signal, grace)))
    }
}

impl Core {
    fn end(&self, asked: Option<(Signal, Duration)>) -> io::Result<Shutdown> {
        let children: Vec<_> = self.children.lock().list.values().cloned().collect();
        let alive: Vec<_> = children.into_iter().filter(|real| !real.has_ended()).collect();
        let mut shutdown = Shutdown::default();
        let mut gone = false;
        if let Some((signal, grace)) = asked {
            self.ask(signal)?;
            gone = self.await_end(Instant::now() + grace, &mut shutdown)?;
        }
        if !gone && !self.kill_all(&mut shutdown)? {
            shutdown.survivors = self.members()?;
        }
        self.reap_orphans();
        // also those that somebody else waited for meanwhile
        let ended = alive.iter().filter_map(|real| Some((real.pid, (*real.status.lock())?)));
        shutdown.ended.extend(ended);
        Ok(shutdown)
    }

    /// Sends a signal to everybody, and lets them act on it.
    fn ask(&self, signal: Signal) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.freeze(false)?;
        }
        // one look for both: it costs a look at every process of the system
        self.visit(&mut |_, pidfd| {
            let _ = child::send(pidfd, signal.number().into());
            let _ = child::send(pidfd, libc::SIGCONT);
        })?;
        *self.suspended.write() = false;
        Ok(())
    }

    /// Kills until nobody is left. `false` if that takes too long.
    fn kill_all(&self, shutdown: &mut Shutdown) -> io::Result<bool> {
        shutdown.killed = true;
        let mut gone = false;
        let deadline = Instant::now() + GONE;
        while !gone && Instant::now() < deadline {
            self.kill_once()?;
            // those that were created while the others were killed are found by the next look
            gone = self.await_end(Instant::now() + Duration::from_millis(50), shutdown)?;
        }
        if *self.suspended.read() {
            // whoever comes next is not
            self.resume()?;
        }
        Ok(gone)
    }

    fn kill_once(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.kill(),
            None => self.kill_seen().inspect_err(|_| {
                // no descriptors to look with: at least those that are at hand
                for real in self.children.lock().list.values() {
                    let _ = real.send(Signal::KILL);
                }
            }),
        }
    }

    /// Kills whoever is seen. If there are new ones after that, they are stopped before they are
    /// killed: who multiplies must first be kept from it, or each look finds the next generation.
    fn kill_seen(&self) -> io::Result<()> {
        let mut known = BTreeSet::new();
        let mut look = |signal: Signal| {
            let mut news = false;
            self.visit(&mut |stat, pidfd| {
                news |= known.insert((stat.pid, stat.started));
                let _ = child::send(pidfd, signal.number().into());
            })?;
            Ok::<_, io::Error>(news)
        };
        look(Signal::KILL)?;
        let deadline = Instant::now() + GONE / 10;
        if look(Signal::STOP)? {
            while look(Signal::STOP)? && Instant::now() < deadline {}
            look(Signal::KILL)?;
        }
        Ok(())
    }

    /// Waits until nobody is left: for the direct children by their descriptors, for others by
    /// looking. `false` if that takes too long.
    fn await_end(&self, deadline: Instant, shutdown: &mut Shutdown) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.owner.wait_timeout(WaitTarget::Any, WaitOptions::EXITED, left) {
                Ok(Some(waited)) => {
                    if let Some(real) = self.children.lock().list.get(&waited.pid) {
                        shutdown.ended.insert(real.pid, waited.status);
                    }
                }
                Ok(None) => return Ok(false),
                // no child is left in the table
                Err(_) => break,
            }
        }
        while !self.is_empty()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(GLANCE);
        }
        Ok(true)
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

impl Drop for ProcessTree {
    fn drop(&mut self) {
        let guardian = self.guardian.lock().take();
        if self.on_drop == OnDrop::Kill {
            // there is nobody to tell of an error
            let _ = self.kill();
        }
        // who lives on, or dies late, must not stay a zombie
        for real in self.core.children.lock().list.values() {
            real.orphan();
        }
        if self.on_drop == OnDrop::Kill {
            self.core.clean_up();
        }
        if let Some(guardian) = guardian {
            guardian.dismiss();
        }
    }
}
