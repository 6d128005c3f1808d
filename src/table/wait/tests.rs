//! Waits that have fallen asleep, tested without a thread.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::*;
use crate::abi::Signal;
use crate::driver::{Delivery, DriverProcess};
use crate::table::{Caller, Image, ProcessTable, Spawn, Started};

const EXITED: WaitOptions = WaitOptions::EXITED;

fn shell_with(children: usize) -> (Process, Vec<Process>) {
    let shell =
        ProcessTable::new().spawn(Spawn::new(Image::new("sh")).session()).expect("there is room");
    let spawn = |_| shell.spawn(Spawn::fork()).expect("there is room");
    let children = (0..children).map(spawn).collect();
    (shell, children)
}

/// A wait that has just fallen asleep.
fn asleep(shell: &Process, target: impl Into<WaitTarget>, options: WaitOptions) -> BlockedWait {
    let mut sleeper = BlockedWait::new(shell, target.into(), options, true);
    assert_eq!(sleeper.poll_request(), Ok(None));
    sleeper
}

fn is_woken(sleeper: &BlockedWait) -> bool {
    sleeper.waiting.parker.park(Some(std::time::Instant::now()))
}

fn answer(sleeper: &mut BlockedWait) -> Option<Result<Pid, Errno>> {
    let answer = sleeper.take_answer()?;
    Some(answer.map(|waited| waited.expect("an answer is an event or an errno").pid))
}

#[test]
fn an_exit_wakes_the_first_wait_that_may_report_it() {
    let (shell, children) = shell_with(3);
    let mut stops = asleep(&shell, WaitTarget::Any, WaitOptions::STOPPED);
    let mut first = asleep(&shell, WaitTarget::Any, EXITED);
    let mut second = asleep(&shell, WaitTarget::Any, EXITED);
    let mut other = asleep(&shell, &children[2], EXITED);
    assert_eq!(children[0].exit(0), Ok(()));
    assert_eq!(children[0].info(), None, "it is reaped");
    assert_eq!(answer(&mut first), Some(Ok(children[0].pid())));
    assert!(is_woken(&first) && !is_woken(&second) && !is_woken(&other) && !is_woken(&stops));
    assert_eq!(children[1].exit(0), Ok(()));
    assert_eq!(answer(&mut second), Some(Ok(children[1].pid())));
    assert_eq!(answer(&mut other), None);
    assert_eq!(children[2].exit(0), Ok(()));
    assert_eq!(answer(&mut other), Some(Ok(children[2].pid())));
    assert_eq!(
        answer(&mut stops),
        Some(Err(Errno::ECHILD)),
        "WAIT-08: no child is left that could stop"
    );
}

/// WAIT-08: a wait that is too late for the last child fails with ECHILD.
#[test]
fn the_last_exit_ends_the_other_waits_too() {
    let (shell, children) = shell_with(1);
    let mut first = asleep(&shell, WaitTarget::Any, EXITED);
    let mut second = asleep(&shell, WaitTarget::Any, EXITED);
    assert_eq!(children[0].exit(0), Ok(()));
    assert_eq!(answer(&mut first), Some(Ok(children[0].pid())));
    assert_eq!(answer(&mut second), Some(Err(Errno::ECHILD)));
}

#[test]
fn a_wait_returns_one_of_several_simultaneous_exits() {
    let (shell, children) = shell_with(3);
    let mut wait = asleep(&shell, WaitTarget::Any, EXITED);
    assert_eq!(shell.kill_all(Signal::KILL), Ok(()));
    assert_eq!(answer(&mut wait), Some(Ok(children[0].pid())));
    assert_eq!(answer(&mut wait), None);
    for child in &children[1..] {
        let waited = shell.wait(WaitTarget::Any, EXITED);
        assert_eq!(waited.map(|waited| waited.pid), Ok(child.pid()));
    }
}

/// TABLE-01: a wait that gives up while the exit callback runs leaves the exit to other waits.
#[test]
fn a_wait_that_gives_up_before_the_callback_has_run_takes_nothing() {
    let (shell, children) = shell_with(1);
    let (begin, begun) = mpsc::channel();
    let (go_on, resume) = mpsc::channel::<()>();
    let resume = Mutex::new(resume);
    let mut giving_up = asleep(&shell, &children[0], EXITED);
    let mut patient = asleep(&shell, &children[0], EXITED);
    shell.table().set_on_process_exit(Some(Arc::new(move |_, _| {
        let _ = begin.send(());
        let _ = resume.lock().map(|resume| resume.recv());
    })));
    thread::scope(|scope| {
        let child = &children[0];
        scope.spawn(move || child.exit(0));
        begun.recv().expect("the callback runs");
        assert_eq!(giving_up.poll_final(), Ok(None));
        assert_eq!(answer(&mut patient), None);
        go_on.send(()).expect("the callback waits");
    });
    assert_eq!(answer(&mut giving_up), None);
    assert_eq!(answer(&mut patient), Some(Ok(children[0].pid())));
}

/// An answer that a wait gets at the moment at which it gives up is not lost.
#[test]
fn a_wait_that_gives_up_has_its_answer() {
    let (shell, children) = shell_with(2);
    let mut wait = asleep(&shell, &children[0], EXITED);
    assert_eq!(children[0].exit(0), Ok(()));
    let waited = wait.poll_final().map(|waited| waited.map(|waited| waited.pid));
    assert_eq!(waited, Ok(Some(children[0].pid())));
    let mut wait = asleep(&shell, &children[1], EXITED);
    assert_eq!(wait.poll_final(), Ok(None));
    assert_eq!(children[1].exit(0), Ok(()));
    assert_eq!(answer(&mut wait), None, "it is not among the sleepers any more");
}

/// A callback that sends a message when it has started, and returns when it receives one.
fn callback_that_waits(table: &ProcessTable) -> (mpsc::Receiver<Pid>, mpsc::Sender<()>) {
    let (begin, begun) = mpsc::channel();
    let (go_on, resume) = mpsc::channel::<()>();
    let resume = Mutex::new(resume);
    table.set_on_process_exit(Some(Arc::new(move |process: &Process, _| {
        let _ = begin.send(process.pid());
        let _ = resume.lock().map(|resume| resume.recv());
    })));
    (begun, go_on)
}

/// TABLE-01: several waits with equal requests, which callbacks delay, are all answered after the
/// callbacks.
#[test]
fn waits_that_callbacks_hold_up_have_an_exit_each() {
    let (shell, children) = shell_with(3);
    let (begun, go_on) = callback_that_waits(shell.table());
    let mut waits = thread::scope(|scope| {
        let first = &children[0];
        scope.spawn(move || first.exit(0));
        assert_eq!(begun.recv(), Ok(children[0].pid()));
        for child in &children[1..] {
            assert_eq!(child.exit(0), Ok(()));
        }
        let waits: Vec<_> = (0..3).map(|_| asleep(&shell, WaitTarget::Any, EXITED)).collect();
        (0..3).for_each(|_| go_on.send(()).expect("the callback waits"));
        waits
    });
    for (wait, child) in waits.iter_mut().zip(&children) {
        assert_eq!(answer(wait), Some(Ok(child.pid())));
    }
}

/// A future that is polled often while a callback runs takes no more memory than a future that is
/// polled once.
#[test]
fn a_wait_that_a_callback_holds_up_is_noted_once() {
    let (shell, children) = shell_with(1);
    let (begun, go_on) = callback_that_waits(shell.table());
    thread::scope(|scope| {
        let child = &children[0];
        scope.spawn(move || child.exit(0));
        begun.recv().expect("the callback runs");
        let mut wait = BlockedWait::new(&shell, WaitTarget::Any, EXITED, false);
        (0..100).for_each(|_| assert_eq!(wait.poll_request(), Ok(None)));
        let state = shell.table().shared().state.lock();
        assert_eq!(
            state.process_registry.pending_exits.front().map(|exit| exit.waits.len()),
            Some(1)
        );
        drop(state);
        go_on.send(()).expect("the callback waits");
    });
}

/// TABLE-01: an act of a callback on other processes ends no wait before the callback has returned.
#[test]
fn a_call_by_a_callback_answers_no_wait_before_the_callback_returns() {
    let (shell, children) = shell_with(2);
    let wait = Arc::new(Mutex::new(asleep(&shell, WaitTarget::Any, EXITED)));
    let early = Arc::new(Mutex::new(Vec::new()));
    let (sibling, theirs, seen) = (children[1].clone(), wait.clone(), early.clone());
    shell.table().set_on_process_exit(Some(Arc::new(move |_, _| {
        assert_eq!(sibling.send(Signal::STOP), Ok(()));
        let answer = answer(&mut theirs.lock().expect("not poisoned"));
        seen.lock().expect("not poisoned").push(answer);
    })));
    assert_eq!(children[0].exit(0), Ok(()));
    assert_eq!(*early.lock().expect("not poisoned"), [None]);
    let answer = answer(&mut wait.lock().expect("not poisoned"));
    assert_eq!(answer, Some(Ok(children[0].pid())));
    shell.table().set_on_process_exit(None);
}

/// A callback may wait by a wait that began before the callback.
#[test]
fn an_earlier_wait_of_a_callback_wakes_while_the_callback_runs() {
    let (shell, children) = shell_with(2);
    let wait = Mutex::new(asleep(&shell, &children[1], EXITED));
    let woken = Arc::new(Mutex::new(Vec::new()));
    let (first, second, notes) = (children[0].pid(), children[1].clone(), woken.clone());
    shell.table().set_on_process_exit(Some(Arc::new(move |process, _| {
        if process.pid() == first {
            let mut wait = wait.lock().expect("not poisoned");
            assert_eq!(wait.poll_request(), Ok(None));
            thread::scope(|scope| {
                scope.spawn(|| assert_eq!(second.exit(0), Ok(())));
            });
            notes.lock().expect("not poisoned").push(is_woken(&wait));
            assert_eq!(
                wait.poll_request().map(|waited| waited.map(|w| w.pid)),
                Ok(Some(second.pid()))
            );
        }
    })));
    assert_eq!(children[0].exit(0), Ok(()));
    assert_eq!(*woken.lock().expect("not poisoned"), [true]);
    shell.table().set_on_process_exit(None);
}

/// An event goes to the wait that began first, also if the waits have different requests.
#[test]
fn an_exit_goes_to_the_wait_that_began_first() {
    let (shell, children) = shell_with(2);
    let mut first = asleep(&shell, &children[0], EXITED);
    let mut second = asleep(&shell, WaitTarget::Any, EXITED);
    let mut third = asleep(&shell, WaitTarget::OwnGroup, EXITED);
    children[0].exit(0).expect("it lives");
    assert_eq!(answer(&mut first), Some(Ok(children[0].pid())));
    assert_eq!((answer(&mut second), answer(&mut third)), (None, None));
    children[1].exit(0).expect("it lives");
    assert_eq!(answer(&mut second), Some(Ok(children[1].pid())));
    assert_eq!(answer(&mut third), Some(Err(Errno::ECHILD)));
}

/// posix_spawn(3): a child whose creation fails after its fork causes no wait event.
#[test]
fn a_failed_fork_gives_no_wait_event() {
    let (shell, _others) = shell_with(1);
    let users = |user| [Some(crate::abi::Uid(user)); 3];
    assert_eq!(shell.set_users(users(1000)), Ok(()));
    let calls = Arc::new(Mutex::new(0));
    let count = calls.clone();
    shell.table().set_on_process_exit(Some(Arc::new(move |_, _| {
        *count.lock().expect("not poisoned") += 1;
    })));
    let mut wait = asleep(&shell, WaitTarget::Any, EXITED);
    let (pid, status, options) = (-1, Ptr::Null, WaitOptions::default());
    let guests = shell.submit(Syscall::Wait4 { pid, status, options });
    let spawn = Spawn::new(Image::new("other")).users(users(1001));
    assert_eq!(shell.spawn(spawn).map(|child| child.pid()), Err(Errno::EPERM));
    assert_eq!((answer(&mut wait), guests.result()), (None, None));
    assert_eq!(*calls.lock().expect("not poisoned"), 0);
}

/// A driver that checks, when its table ends, whether the sleeping threads of its process were
/// woken.
#[derive(Default)]
struct Looks {
    sleeper: Mutex<Option<Arc<Parker>>>,
    was_woken: Mutex<Option<bool>>,
}

impl DriverProcess for Looks {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        let sleeper = self.sleeper.lock().expect("not poisoned").clone();
        let was_woken = sleeper.map(|parker| parker.park(Some(std::time::Instant::now())));
        *self.was_woken.lock().expect("not poisoned") = was_woken;
    }
}

/// A driver that drops the last handles of its table.
#[derive(Default)]
struct Drops(Mutex<Vec<Process>>);

impl DriverProcess for Drops {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        let handles = core::mem::take(&mut *self.0.lock().expect("not poisoned"));
        drop(handles);
    }
}

/// At the end of the table, the callers whose results wait for a callback are woken before the
/// drivers are abandoned.
#[test]
fn drivers_are_dropped_after_all_blocked_calls_have_woken() {
    for held in [false, true] {
        let (looks, drops) = (Arc::new(Looks::default()), Arc::new(Drops::default()));
        let table = ProcessTable::new();
        let spawn = Spawn::new(Image::new("p")).session().driver(looks.clone());
        let parent = table.spawn(spawn).expect("there is room");
        let child = parent.spawn(Spawn::fork().driver(drops.clone())).expect("there is room");
        let other = parent.spawn(Spawn::fork()).expect("there is room");
        table.set_on_process_exit(Some(Arc::new(|_, _| ())));
        let shared = table.shared().clone();
        let about = if held { &child } else { &other };
        let (pid, status, options) = (about.pid().0 as i32, Ptr::Null, WaitOptions::default());
        let call = Syscall::Wait4 { pid, status, options };
        let started = shared.start(Caller::Number(parent.pid()), &call);
        let Started::Pending(pending) = started else { panic!("it sleeps") };
        *looks.sleeper.lock().expect("not poisoned") = Some(pending.parker.clone());
        let pid = child.pid();
        *drops.0.lock().expect("not poisoned") = vec![parent, child, other];
        drop(table);
        let _ = shared.start(Caller::Number(pid), &Syscall::ExitGroup(0));
        assert_eq!(*looks.was_woken.lock().expect("not poisoned"), Some(true), "{held}");
    }
}
