//! The rules of threads (TG-01 to TG-174): each is shown on the model and then on the live kernel.
//!
//! Process 2 has the threads, process 1 sends from outside. Signals of one step are sent while no
//! other task runs ([`at_once`]). If the order of a race has to be chosen, the test runs on the
//! model only ([`race`]).

use proctable::abi::{
    Errno, Pid, Resource, Rlimit, SaFlags, SiCode, SigAction, SigSet, Signal, Timespec,
    WaitOptions, WaitStatus,
};
use proctable::kernel::{
    Canonical, Consequence, Effects, Kernel, Outcome, Property, Refused, RunState,
};
use proctable::sim::Observable;
use proctable::syscall::{self, MEMORY, Prctl, Ptr, QueuedInfo, Ret, SIGSET_SIZE, Syscall, clone};

use super::super::scene::*;
use super::{TestDirectory, fault, on};

mod choice;
mod creation;
mod ends;
mod execs;
mod fatal;
mod stops;
mod users;
mod waits;

const NOHANG: WaitOptions = WaitOptions::NOHANG;
/// Only the calling thread's own children.
const OWN: WaitOptions = WaitOptions::NOHANG.with(WaitOptions::NOTHREAD);
const UNTRACED: WaitOptions = WaitOptions::STOPPED;
/// Returns at once as if no child had an event to report.
const NOTHING: syscall::Result = Ok(Ret::Waited { pid: Pid(0), status: None });

/// The flags of a new thread.
const THR: u64 =
    clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD | clone::SYSVSEM;

/// A thread of the caller's process.
fn thread(scene: &mut Scene, by: u32) -> u32 {
    scene.value(by, Syscall::clone_call(THR)) as u32
}

/// Process 2 below process 1, with that number of threads in all: 2, 3, 4, …
fn process(threads: u32) -> Scene {
    let mut scene = Scene::new();
    begin(&mut scene, threads);
    scene
}

fn begin(scene: &mut Scene, threads: u32) {
    assert_eq!(scene.fork(1), 2);
    for nth in 1..threads {
        assert_eq!(thread(scene, 2), 2 + nth);
    }
}

/// The same with plain handlers for these signals.
fn catching(threads: u32, signals: &[i32]) -> Scene {
    let mut scene = process(threads);
    for number in signals {
        scene.catch(2, signal(*number), SaFlags(0), SigSet::EMPTY);
    }
    scene
}

fn tgkill(tgid: u32, tid: u32, signal: Signal) -> Syscall {
    Syscall::Tgkill { tgid: tgid as i32, tid: tid as i32, sig: signal.number().into() }
}

/// A signal for one thread of process 2, from outside.
fn send(scene: &mut Scene, tid: u32, signal: Signal) {
    assert_eq!(scene.result(1, tgkill(2, tid, signal)), Ok(Ret::Value(0)));
}

/// A signal for the process of that task, from outside.
fn shared(scene: &mut Scene, tid: u32, number: i32) {
    scene.kill(1, tid as i32, signal(number));
}

fn info(code: i32) -> Option<QueuedInfo> {
    Some(QueuedInfo { code, pid: 1, uid: 0, value: 7 })
}

/// rt_tgsigqueueinfo.
fn queue_to(tgid: u32, tid: u32, number: i32, code: i32) -> Syscall {
    Syscall::RtTgsigqueueinfo { tgid: tgid as i32, tid: tid as i32, sig: number, info: info(code) }
}

fn exit_thread(scene: &mut Scene, tid: u32, code: i32) {
    scene.call(tid, Syscall::Exit(code));
}

/// rt_sigtimedwait without a timeout.
fn sigwait(numbers: &[i32]) -> Syscall {
    let (info, size) = (Ptr::Valid, SIGSET_SIZE);
    Syscall::RtSigtimedwait { set: set(numbers), info, timeout: None, size }
}

/// rt_sigtimedwait that does not sleep.
fn sigpoll(numbers: &[i32]) -> Syscall {
    let timeout = Some(Timespec { sec: 0, nsec: 0 });
    let (info, size) = (Ptr::Valid, SIGSET_SIZE);
    Syscall::RtSigtimedwait { set: set(numbers), info, timeout, size }
}

/// The signal that rt_sigtimedwait returned to a thread in the last step.
fn taken(scene: &Scene, tid: u32) -> Option<Result<u8, Errno>> {
    let result = scene.returned(tid)?;
    Some(result.map(|ret| match ret {
        Ret::Signal(info) => info.signal.number(),
        ret => panic!("{ret:?}"),
    }))
}

fn sigsuspend(numbers: &[i32]) -> Syscall {
    Syscall::RtSigsuspend { mask: set(numbers), size: SIGSET_SIZE }
}

fn pending(scene: &mut Scene, tid: u32) -> SigSet {
    match scene.result(tid, Syscall::RtSigpending { set: Ptr::Valid, size: SIGSET_SIZE }) {
        Ok(Ret::Pending(pending)) => pending,
        result => panic!("{result:?}"),
    }
}

/// The handlers that ran in the last step, with their threads, in order.
fn handled(scene: &Scene) -> Vec<(u32, u8)> {
    let seen = scene.reaction().seen.iter();
    let handlers = seen.filter_map(|(tid, what)| match what {
        Observable::Handler(info) => Some((tid.0, info.signal.number())),
        _ => None,
    });
    handlers.collect()
}

/// The words that were cleared in the last step, with their threads.
fn cleared(scene: &Scene) -> Vec<(u32, u64)> {
    let effects = scene.reaction().effects.list().iter();
    let words = effects.filter_map(|effect| match effect.what {
        Consequence::TidCleared(address) => Some((effect.pid.0, address)),
        _ => None,
    });
    words.collect()
}

/// Sends these signals to the process of `parent`, in that order and in one step: as the exit
/// signals of as many children of that thread, which are killed together.
fn at_once(scene: &mut Scene, parent: u32, signals: &[i32]) {
    let mut group = 0;
    // the member that joined the group last is killed first (KILL-13)
    for number in signals.iter().rev() {
        let child = scene.value(parent, Syscall::clone_call(*number as u64)) as i32;
        group = if group == 0 { child } else { group };
        scene.setpgid(parent, child, group);
    }
    scene.kill(1, -group, Signal::KILL);
}

/// Makes calls one after the other while no other task runs, and then runs all tasks: on the model
/// only, because on the kernel this is a race.
fn race(kernel: &mut Kernel, calls: &[(u32, Syscall)]) -> Effects {
    let mut fx = Effects::new();
    for (tid, call) in calls {
        kernel.call(Pid(*tid), call, &mut fx).expect("it can act");
    }
    kernel.settle(&mut Canonical, &mut fx);
    kernel.check_invariants().expect("the invariants hold");
    reached::note(&fx);
    fx
}

/// The threads whose handlers were set up.
fn caught(fx: &Effects) -> Vec<(u32, u8)> {
    let handlers = fx.list().iter().filter_map(|effect| match effect.what {
        Consequence::Caught(info) => Some((effect.pid.0, info.signal.number())),
        _ => None,
    });
    handlers.collect()
}

/// The end of process 2, which is a zombie.
fn status(scene: &Scene) -> WaitStatus {
    scene.kernel.exit_status(Pid(2)).expect("it has ended")
}

/// The result of a wait of process 1 for process 2.
fn ended(scene: &mut Scene, status: WaitStatus) {
    assert_eq!(scene.wait(1, NONE), waited(2, status));
}

fn stopped(scene: &mut Scene) -> bool {
    let seen = scene.result(1, wait_for(2, UNTRACED.with(NOHANG)));
    if seen == NOTHING {
        return false;
    }
    assert_eq!(seen, waited(2, WaitStatus::stopped(Signal::STOP)));
    true
}

fn runs(scene: &Scene, tids: &[u32]) -> Vec<RunState> {
    tids.iter().map(|tid| scene.run(*tid)).collect()
}

fn pdeath(scene: &mut Scene, tid: u32, number: i32) {
    scene.value(tid, Syscall::Prctl(Prctl::SetPdeathsig(number as u64)));
}

fn stored(scene: &mut Scene, tid: u32, operation: Prctl) -> syscall::Result {
    scene.result(tid, Syscall::Prctl(operation))
}
