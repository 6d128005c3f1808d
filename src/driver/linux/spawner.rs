//! The thread that all children are spawned from.
//!
//! A parent-death signal is tied to the thread that made the child, not to its process: a child of
//! a worker thread would die with that. This thread lives as long as the program.

use std::io;
use std::sync::OnceLock;

use super::child::{self, Born};
use super::command::{Prepared, Step};
use crate::sync::channel::{Sender, bounded};

type Answer = Result<Born, (Step, io::Error)>;

struct Request {
    prepared: Prepared,
    answer: Sender<Answer>,
}

static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();

/// Has the spawner create a child, and waits until it executes its program.
pub(super) fn spawn(prepared: Prepared) -> Answer {
    let gone = || (Step::Thread, io::Error::other("the spawner's thread is gone"));
    let (answer, answered) = bounded(1);
    let spawner = spawner().map_err(|error| (Step::Thread, error))?;
    spawner.send(Request { prepared, answer }).map_err(|_| gone())?;
    answered.recv().unwrap_or_else(|_| Err(gone()))
}

fn spawner() -> io::Result<&'static Sender<Request>> {
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner);
    }
    let (requests, queue) = bounded::<Request>(64);
    let serve = move || {
        for Request { prepared, answer } in &queue {
            // whoever asked may have given up: then the child is what its tree makes of it
            let _ = answer.send(child::spawn(&prepared));
        }
    };
    crate::sync::spawn("proctable-spawn", serve)?;
    // of two that began at once the first one stays, and the other thread ends
    Ok(SPAWNER.get_or_init(|| requests))
}
