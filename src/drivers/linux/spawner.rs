//! The threads that children are spawned from.
//!
//! A parent-death signal is tied to the thread that made the child, not to its process: a child of
//! a worker thread would die with that thread. These threads live as long as the program. There are
//! as many as the most spawns that were ever in progress at once, so that one that hangs (a file
//! system that does not answer, a frozen cgroup) delays no other; the asynchronous spawns of a tree
//! count as one, as they come one after the other. The main thread lives as long, too, and spawns
//! for itself: to wake another thread and to be woken by it costs a quarter of a spawn.

use std::io;

use super::child::{self, SpawnedChild};
use super::command::Prepared;
use super::spawn_error::Step;
use crate::sync::Mutex;
use crate::sync::channel::{Sender, bounded};

pub(super) type Answer = Result<SpawnedChild, (Step, io::Error)>;

/// The job of a thread. The thread drops it when it has nothing more to do, before it reports the
/// result.
type SpawnTask = Box<dyn FnOnce(Idle) + Send>;

/// A thread that has nothing to do once this is dropped.
pub(super) struct Idle(Sender<SpawnTask>);

impl Drop for Idle {
    fn drop(&mut self) {
        // a thread that panics takes no more jobs
        if !std::thread::panicking() {
            IDLE.lock().push(self.0.clone());
        }
    }
}

/// Those that have nothing to do.
static IDLE: Mutex<Vec<Sender<SpawnTask>>> = Mutex::new(Vec::new());

fn gone() -> (Step, io::Error) {
    (Step::Thread, io::Error::other("the spawner's thread is gone"))
}

/// Creates a child, by a spawner unless the caller lives as long, and waits until it executes its
/// program.
pub(super) fn spawn(prepared: Prepared) -> Answer {
    if child::is_main_thread() {
        return child::spawn(&prepared);
    }
    let (answer, answered) = bounded(1);
    run(Box::new(move |idle| {
        let spawned = child::spawn(&prepared);
        // its descriptors are closed before a caller receives the child
        drop(prepared);
        // idle before a caller can request the next one
        drop(idle);
        // the caller may have given up: then the tree decides about the child
        let _ = answer.send(spawned);
    }))?;
    answered.recv().unwrap_or_else(|_| Err(gone()))
}

/// Has a thread do something.
pub(super) fn run(job: SpawnTask) -> Result<(), (Step, io::Error)> {
    let idle = IDLE.lock().pop();
    let thread = idle.map_or_else(start, Ok).map_err(|error| (Step::Thread, error))?;
    thread.send(job).map_err(|_| gone())
}

/// Starts another one.
fn start() -> io::Result<Sender<SpawnTask>> {
    let (jobs, queue) = bounded::<SpawnTask>(1);
    let own = jobs.clone();
    let serve = move || {
        for job in &queue {
            job(Idle(own.clone()));
        }
    };
    crate::sync::spawn("proctable-spawn", serve)?;
    Ok(jobs)
}
