//! One thread that waits for the ends of all children of all trees.
//!
//! It watches pidfds, so there is no handler for SIGCHLD and no wait for any child: the children
//! of other libraries are left alone. It runs while there is something to watch.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::sync::{Mutex, spawn};

/// Somebody who wants to know when a process ends.
pub(super) trait Watch: Send + Sync {
    /// The descriptor of the process.
    fn pidfd(&self) -> &OwnedFd;
    /// It has ended. Called once.
    fn ended(&self);
    /// Looks whether it stopped or continued, for which there is no descriptor to wait for. Called
    /// every [`LOOK`].
    fn look(&self);
}

/// How often stops and continues are looked for. They cost two system calls a child.
const LOOK: Duration = Duration::from_millis(20);

struct Watcher {
    epoll: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: HashMap<u64, Arc<dyn Watch>>,
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

/// Watches a process until its end.
pub(super) fn watch(process: Arc<dyn Watch>) -> io::Result<()> {
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
    Ok(())
}

fn run(watcher: &Watcher) {
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        if epoll::wait(&watcher.epoll, room, Some(&timeout)).is_err() {
            // a signal: nothing else can happen to a descriptor that is ours
            continue;
        }
        if events.is_empty() {
            let watched: Vec<_> = watcher.state.lock().watched.values().cloned().collect();
            watched.iter().for_each(|process| process.look());
        }
        for event in &events {
            let number = event.data.u64();
            let process = watcher.state.lock().watched.get(&number).cloned();
            if let Some(process) = process {
                let _ = epoll::delete(&watcher.epoll, process.pidfd());
                process.ended();
            }
            watcher.state.lock().watched.remove(&number);
        }
        let mut state = watcher.state.lock();
        if state.watched.is_empty() {
            state.running = false;
            return;
        }
    }
}
