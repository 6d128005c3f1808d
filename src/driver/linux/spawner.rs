//! The threads that children are spawned from.
//!
//! A parent-death signal is tied to the thread that made the child, not to its process: a child of
//! a worker thread would die with that. These threads live as long as the program. There are as
//! many as spawns were ever under way at once, so that one that hangs (a file system that does not
//! answer, a cgroup that somebody has frozen) holds up nobody else. The main thread lives as long,
//! too, and spawns for itself: waking another one and being woken by it costs a quarter of a spawn.

use std::io;

use super::child::{self, Born};
use super::command::{Prepared, Step};
use crate::sync::Mutex;
use crate::sync::channel::{Sender, bounded};

type Answer = Result<Born, (Step, io::Error)>;

struct Request {
    prepared: Prepared,
    answer: Sender<Answer>,
}

/// Those that have nothing to do.
static IDLE: Mutex<Vec<Sender<Request>>> = Mutex::new(Vec::new());

/// Creates a child, by a spawner unless the caller lives as long, and waits until it executes its
/// program.
pub(super) fn spawn(prepared: Prepared) -> Answer {
    if child::is_main_thread() {
        return child::spawn(&prepared);
    }
    let gone = || (Step::Thread, io::Error::other("the spawner's thread is gone"));
    let (answer, answered) = bounded(1);
    let idle = IDLE.lock().pop();
    let spawner = idle.map_or_else(start, Ok).map_err(|error| (Step::Thread, error))?;
    spawner.send(Request { prepared, answer }).map_err(|_| gone())?;
    answered.recv().unwrap_or_else(|_| Err(gone()))
}

/// Starts another one.
fn start() -> io::Result<Sender<Request>> {
    let (requests, queue) = bounded::<Request>(1);
    let own = requests.clone();
    let serve = move || {
        for Request { prepared, answer } in &queue {
            let born = child::spawn(&prepared);
            // its descriptors are closed before anybody hears of the child
            drop(prepared);
            // idle before anybody can want the next one
            IDLE.lock().push(own.clone());
            // whoever asked may have given up: then the child is what its tree makes of it
            let _ = answer.send(born);
        }
    };
    crate::sync::spawn("proctable-spawn", serve)?;
    Ok(requests)
}
