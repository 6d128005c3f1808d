//! A tiny sandbox: a shell with a pipeline, job control, and a guest that hangs and is killed.
//!
//! Guests are closures on threads of their own ([`ThreadDriver`]); their pipes are channels, and
//! the table handles their system calls.
//!
//! ```text
//! $ cargo run --example sandbox
//! ```

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use proctable::abi::{Errno, Pgid, Pid, SaFlags, Signal, WaitOptions, WaitStatus};
use proctable::drivers::{Guest, ThreadDriver};
use proctable::table::{GroupChoice, Image, ProcessTable, Spawn, What};

/// `seq 1 5`: writes numbers, and dies of SIGPIPE if its output has no reader.
fn seq(guest: &mut Guest, output: &Sender<u32>) -> i32 {
    for number in 1..=5 {
        if output.send(number).is_err() {
            let own = guest.pid().0 as i32;
            let _ = guest.kill(own, Signal::PIPE);
        }
        guest.checkpoint();
    }
    0
}

/// `sum`: adds the numbers that it reads.
fn sum(guest: &mut Guest, input: &Receiver<u32>) -> i32 {
    let mut total = 0;
    for number in input {
        total += number;
        guest.checkpoint();
    }
    total as i32
}

/// A job that waits for SIGTSTP and SIGCONT like an editor, and ends on SIGTERM.
fn editor(guest: &mut Guest, ready: &Sender<()>) -> i32 {
    let caught = guest.catch(Signal::CONT, SaFlags(0), |_, _| println!("editor: redrawn"));
    if caught.is_err() || ready.send(()).is_err() {
        return 1;
    }
    loop {
        guest.pause();
    }
}

/// A guest that ignores every signal that it can ignore, and never ends by itself.
fn hang(guest: &mut Guest, ready: &Sender<()>) -> i32 {
    let caught = guest.catch(Signal::TERM, SaFlags(0), |_, _| println!("hang: not now"));
    if caught.is_err() || ready.send(()).is_err() {
        return 1;
    }
    loop {
        guest.pause();
    }
}

/// A pipeline of two guests in one group, as `seq 1 5 | sum`.
fn pipeline(shell: &mut Guest) -> Result<i32, Errno> {
    let (write, read) = bounded(1);
    let first = Spawn::new(Image::new("seq")).own_group();
    let first = shell.spawn(first, move |guest| seq(guest, &write))?;
    let second = Spawn::new(Image::new("sum")).group(GroupChoice::Join(Pgid(first.0)));
    shell.spawn(second, move |guest| sum(guest, &read))?;
    let mut last = 0;
    while let Ok(Some((pid, status))) = shell.waitpid(-(first.0 as i32), WaitOptions::default()) {
        println!("shell: {pid} {status}");
        if pid != first {
            last = status.exit_code().map_or(0, i32::from);
        }
    }
    Ok(last)
}

/// Stops a job, lists it, continues it and ends it.
fn job_control(shell: &mut Guest) -> Result<(), Errno> {
    let (ready, is_ready) = bounded(1);
    let spawn = Spawn::new(Image::new("editor")).own_group();
    let job = shell.spawn(spawn, move |guest| editor(guest, &ready))?;
    // a shell would not wait: this one waits until the editor has its handler
    let _ = is_ready.recv();
    let group = -(job.0 as i32);
    shell.kill(group, Signal::TSTP)?;
    let stopped = shell.waitpid(group, WaitOptions::STOPPED)?;
    println!("shell: {}", report(stopped));
    shell.kill(group, Signal::CONT)?;
    let continued = shell.waitpid(group, WaitOptions::CONTINUED)?;
    println!("shell: {}", report(continued));
    shell.kill(group, Signal::TERM)?;
    println!("shell: {}", report(shell.waitpid(group, WaitOptions::default())?));
    Ok(())
}

fn report(waited: Option<(Pid, WaitStatus)>) -> String {
    waited.map_or("nothing".into(), |(pid, status)| format!("{pid} {status}"))
}

fn shell(guest: &mut Guest) -> i32 {
    match pipeline(guest).and_then(|total| job_control(guest).map(|()| total)) {
        Ok(total) => total,
        Err(errno) => {
            println!("shell: {errno}");
            1
        }
    }
}

fn main() -> Result<(), Errno> {
    let table = ProcessTable::new();
    let events = table.subscribe(1024)?;
    let init = table.init();

    let shell = ThreadDriver::spawn(&init, Spawn::new(Image::new("sh")).session(), shell)?;
    let waited = init.wait(&shell, WaitOptions::EXITED)?;
    println!("sandbox: the shell {}", waited.status);
    assert_eq!(waited.status, WaitStatus::exited(15));

    let (ready, is_ready) = bounded(1);
    let spawn = Spawn::new(Image::new("hang"));
    let guest = ThreadDriver::spawn(&init, spawn, move |guest| hang(guest, &ready))?;
    let _ = is_ready.recv();
    let terminated = table.terminate_all(Duration::from_millis(100));
    let status = terminated.ended.get(&guest.pid());
    println!("sandbox: {} {}", guest.pid(), status.map_or("lives".into(), ToString::to_string));

    for event in events.try_iter().filter(|event| matches!(event.what, What::Exited(_))) {
        let cause = event.cause.map_or("?".into(), |cause| cause.rule.to_string());
        println!("event {}: {} {:?} ({cause})", event.number, event.pid, event.what);
    }
    Ok(())
}
