//! One thread that waits for the ends of all children of all trees.
//!
//! It watches pidfds, so there is no handler for SIGCHLD and no wait for any child: the children of
//! other libraries are left alone. It runs while there is something to watch, and a moment longer:
//! a program that spawns one child after the other needs no thread for each.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::orphans;
use super::procfs::Once;
use crate::sync::{Mutex, OnceLock, spawn};

/// A waiter that is notified when a process ends.
pub(super) trait Watch: Send + Sync {
    /// The descriptor of the process.
    fn pidfd(&self) -> &OwnedFd;
    /// It has ended. `false` if its end cannot be had yet, as its tracer has not seen it: then this
    /// is called again later.
    fn ended(&self) -> bool;
    /// Looks whether it stopped or continued, for which there is no descriptor to wait for. Called
    /// every [`LOOK`].
    fn look(&self, proc: &Once);
}

/// How often stops and continues are looked for. They cost two system calls a child.
const LOOK: Duration = Duration::from_millis(20);

/// How long it stays when there is nothing to watch.
const IDLE: Duration = Duration::from_secs(1);

struct Watcher {
    epoll: OwnedFd,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    watched: HashMap<u64, Arc<dyn Watch>>,
    /// Those whose end cannot be had yet.
    traced: Vec<u64>,
    number: u64,
    running: bool,
}

static WATCHER: OnceLock<Watcher> = OnceLock::new();

fn watcher() -> io::Result<&'static Watcher> {
    if let Some(watcher) = WATCHER.get() {
        return Ok(watcher);
    }
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    Ok(WATCHER.get_or_init(|| Watcher { epoll, state: Mutex::default() }))
}

/// Watches a process until its end. Returns the number by which [`unwatch`] ends that before.
pub(super) fn watch(process: Arc<dyn Watch>) -> io::Result<u64> {
    let watcher = watcher()?;
    let mut state = watcher.state.lock();
    state.number += 1;
    let number = state.number;
    let (data, flags) = (epoll::EventData::new_u64(number), epoll::EventFlags::IN);
    epoll::add(&watcher.epoll, process.pidfd(), data, flags | epoll::EventFlags::ONESHOT)?;
    state.watched.insert(number, process);
    if !state.running {
        spawn("proctable-watch", || run(watcher)).inspect_err(|_| {
            state.watched.remove(&number);
        })?;
        state.running = true;
    }
    Ok(number)
}

/// Watches it no more. It may be notified of the end all the same, if that is under way.
pub(super) fn unwatch(number: u64) {
    let Some(watcher) = WATCHER.get() else { return };
    if let Some(process) = watcher.state.lock().watched.remove(&number) {
        let _ = epoll::delete(&watcher.epoll, process.pidfd());
    }
}

impl Watcher {
    fn ended(&self, number: u64) {
        let process = self.state.lock().watched.get(&number).cloned();
        let Some(process) = process else { return };
        let _ = epoll::delete(&self.epoll, process.pidfd());
        let seen = process.ended();
        let mut state = self.state.lock();
        if seen {
            state.watched.remove(&number);
        } else {
            state.traced.push(number);
        }
    }

    fn look(&self) {
        let traced = core::mem::take(&mut self.state.lock().traced);
        traced.into_iter().for_each(|number| self.ended(number));
        let watched: Vec<_> = self.state.lock().watched.values().cloned().collect();
        let proc = Once::default();
        watched.iter().for_each(|process| process.look(&proc));
        orphans::scan_orphans();
    }
}

fn run(watcher: &Watcher) {
    let mut events = Vec::with_capacity(64);
    let mut next_look = Instant::now() + LOOK;
    let mut busy = Instant::now();
    loop {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        let left = next_look.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        if epoll::wait(&watcher.epoll, room, Some(&timeout)).is_err() {
            // a signal: nothing else can happen to a descriptor that is ours
            continue;
        }
        for event in &events {
            watcher.ended(event.data.u64());
        }
        // by the clock, as there may never be a moment without an end
        if Instant::now() >= next_look {
            watcher.look();
            next_look = Instant::now() + LOOK;
        }
        let mut state = watcher.state.lock();
        if !state.watched.is_empty() || !events.is_empty() {
            busy = Instant::now();
        } else if busy.elapsed() > IDLE {
            state.running = false;
            return;
        }
    }
}
