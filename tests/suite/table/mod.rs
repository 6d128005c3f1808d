//! `ProcessTable` with its drivers, waits, reaper and events.

mod attributes;
mod callbacks;
mod contests;
mod deviations;
mod embedding;
mod end;
mod exits;
mod faults;
mod histories;
mod page;
mod peers;
mod procfs;
mod races;
mod signals;
#[cfg(feature = "serde")]
mod snapshot;
mod spawns;
mod terminals;
mod threads;
mod time;
mod waits;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use proctable::abi::{Handler, Pgid, Pid, SigAction, SigSet, Signal, WaitStatus};
use proctable::driver::Op;
use proctable::drivers::ScriptedDriver;
use proctable::syscall::{Ptr, SIGSET_SIZE, Syscall, how};
use proctable::table::{Call, Image, Process, ProcessTable, Spawn};

/// A time limit that only a failing test reaches.
pub const SOON: Duration = Duration::from_secs(20);

pub fn spawn(parent: &Process) -> Process {
    parent.spawn(Spawn::new(Image::new("guest"))).unwrap()
}

/// A shell in a session of its own: the groups of its children are not orphaned.
pub fn shell(table: &ProcessTable) -> Process {
    table.spawn(Spawn::new(Image::new("sh")).session()).unwrap()
}

/// An action that runs a handler.
pub fn caught() -> SigAction {
    SigAction { handler: Handler::Catch(0x1000), ..SigAction::DEFAULT }
}

/// A waker that counts its wake-ups.
#[derive(Default)]
pub struct Woken(pub AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a call or a wait, which sleeps then.
pub fn fall_asleep<F: Future>(future: Pin<&mut F>, woken: &Arc<Woken>) {
    let waker = Waker::from(woken.clone());
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

/// A child without an exec, so that its parent may still change its group (EXEC-10), and its
/// driver.
pub fn recorded(parent: &Process) -> (Process, Arc<ScriptedDriver>) {
    let driver = Arc::new(ScriptedDriver::default());
    let child = parent.spawn(Spawn::fork().driver(driver.clone())).unwrap();
    (child, driver)
}

/// A shell in a session of its own that catches SIGCHLD, and its driver.
pub fn recorded_shell(table: &ProcessTable) -> (Process, Arc<ScriptedDriver>) {
    let (shell, driver) = recorded(&table.init());
    shell.setsid().unwrap();
    shell.sigaction(Signal::CHLD, caught()).unwrap();
    (shell, driver)
}

/// The parent moves its child into a group; with the child's number the child leads a new group.
pub fn place(parent: &Process, child: &Process, group: &Process) {
    parent.setpgid(child.pid(), group.pid().into()).unwrap();
}

/// The operations of a driver, without the handlers.
pub fn changes(driver: &ScriptedDriver) -> Vec<Op> {
    let is_change = |op: &Op| !matches!(op, Op::Deliver(_));
    driver.seen().into_iter().filter(is_change).collect()
}

/// The numbers of some processes.
pub fn pids<const N: usize>(processes: [&Process; N]) -> [Pid; N] {
    processes.map(Process::pid)
}

/// The group that a process has.
pub fn group_of(process: &Process) -> Pgid {
    process.info().unwrap().pgid
}

pub fn killed(signal: Signal) -> WaitStatus {
    WaitStatus::killed(signal, false)
}

/// A process unblocks signals. The call returns when the handlers of these signals have returned.
pub fn unblock(process: &Process, set: SigSet) -> Call {
    let (how, set, old, size) = (how::UNBLOCK, Some(set), Ptr::Null, SIGSET_SIZE);
    process.submit(Syscall::RtSigprocmask { how, set, old, size })
}
