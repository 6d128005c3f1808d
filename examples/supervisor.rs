//! A supervisor: it restarts a service that fails, with a growing delay, and gives up after some
//! failures in a row.
//!
//! The same [`Supervisor`] runs here on threads and real time, and in the
//! `deterministic_supervisor` example on a clock that the program advances.
//!
//! ```text
//! $ cargo run --example supervisor
//! ```

#[path = "supervisor/policy.rs"]
mod policy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use policy::{Next, Supervisor};
use proctable::abi::{Errno, WaitOptions};
use proctable::drivers::{Guest, ThreadDriver};
use proctable::table::{Image, Process, ProcessTable, Spawn};

/// A service that fails twice and then does its work.
fn service(guest: &mut Guest, attempt: u32) -> i32 {
    println!("service {}: attempt {attempt}", guest.pid());
    guest.checkpoint();
    if attempt < 3 { 1 } else { 0 }
}

fn start(supervisor: &Process, attempts: &Arc<AtomicU32>) -> Result<Process, Errno> {
    let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
    let spawn = Spawn::new(Image::new("service")).own_group();
    ThreadDriver::spawn(supervisor, spawn, move |guest| service(guest, attempt))
}

fn main() -> Result<(), Errno> {
    let table = ProcessTable::new();
    let me = table.spawn(Spawn::new(Image::new("supervisor")).session())?;
    let attempts = Arc::new(AtomicU32::new(0));
    let mut policy = Supervisor::new(Duration::from_millis(10), 5);

    let mut child = start(&me, &attempts)?;
    loop {
        let waited = me.wait(&child, WaitOptions::EXITED)?;
        println!("supervisor: {} {}", waited.pid, waited.status);
        match policy.ended(waited.status) {
            Next::RestartAfter(delay) => {
                std::thread::sleep(delay);
                child = start(&me, &attempts)?;
            }
            Next::Done => break println!("supervisor: done"),
            Next::GiveUp => break println!("supervisor: gave up"),
        }
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
    Ok(())
}
