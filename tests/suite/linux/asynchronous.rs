//! Spawning, waiting and ending as futures, without any runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use proctable::drivers::linux::Child;

use super::*;

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let begin = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        assert!(begin.elapsed() < SOON, "it is never woken");
        std::thread::park_timeout(SOON);
    }
}

/// Polls a future once.
fn poll_once<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The same: it begins, and is not ready.
fn begin<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) {
    assert!(poll_once(future).is_pending());
}

/// All of them, by one thread.
fn all<'a, T>(futures: impl Iterator<Item = impl Future<Output = T> + 'a>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut results: Vec<_> = futures.iter().map(|_| None).collect();
    block_on(std::future::poll_fn(move |context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => {}
                }
            }
        }
        if results.iter().any(Option::is_none) {
            return Poll::Pending;
        }
        Poll::Ready(results.drain(..).flatten().collect())
    }))
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[test]
fn a_child_is_spawned_awaited_and_ended() {
    for tree in trees() {
        let child = block_on(is_send(tree.spawn_async(sh("exit 3")))).unwrap();
        assert_eq!(block_on(is_send(child.wait_async())), Ok(WaitStatus::exited(3)));
        // the same again, as a wait in a thread
        assert_eq!(block_on(child.wait_async()), Ok(WaitStatus::exited(3)));
        let meek = block_on(tree.spawn_async(Command::new("sleep").arg("1000"))).unwrap();
        let deaf = spawn_ready(&tree, "trap '' TERM; echo; while :; do sleep 1000; done");
        let ending = is_send(tree.shutdown_async(Signal::TERM, Duration::from_millis(50)));
        let shutdown = block_on(ending).unwrap();
        assert!(shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
        assert_eq!(shutdown.ended[&meek.pid()], WaitStatus::killed(Signal::TERM, false));
        assert_eq!(shutdown.ended[&deaf.pid()], WaitStatus::killed(Signal::KILL, false));
    }
}

#[test]
fn futures_give_the_same_errors() {
    for tree in trees() {
        let error = block_on(tree.spawn_async(Command::new("/no/such/program"))).unwrap_err();
        let seen = (error.step, error.error.raw_os_error());
        assert_eq!(seen, (Step::Exec, Some(libc::ENOENT)));
        tree.suspend().unwrap();
        let error = block_on(tree.spawn_async(Command::new("true"))).unwrap_err();
        assert_eq!((error.step, error.error.raw_os_error()), (Step::Suspended, Some(libc::EBUSY)));
        tree.resume().unwrap();
    }
}

/// One thread awaits them all, and one creates them.
#[test]
fn many_are_spawned_at_once() {
    alone_here("linux::asynchronous::three_hundred", &[]);
}

#[test]
#[ignore = "a scenario of many_are_spawned_at_once"]
fn three_hundred() {
    if !is_alone() {
        return;
    }
    for tree in trees() {
        let commands = (0..300).map(|nth| sh(&format!("exit {}", nth % 256)));
        let spawned = all(commands.map(|command| tree.spawn_async(command)));
        let children: Vec<Child> = spawned.into_iter().map(Result::unwrap).collect();
        let statuses = all(children.iter().map(Child::wait_async));
        for (nth, status) in statuses.into_iter().enumerate() {
            assert_eq!(status, Ok(WaitStatus::exited(nth as i32 % 256)));
        }
    }
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let spawners = names.filter(|name| name.starts_with("proctable-spawn")).count();
    assert!(spawners <= 2, "{spawners}");
}

#[test]
fn two_may_await_one_child() {
    for tree in trees() {
        let child = tree.spawn(sh("read line; exit 4").stdin(Stdio::Piped)).unwrap();
        let (mut first, second) = (Box::pin(child.wait_async()), child.wait_async());
        begin(first.as_mut());
        // one that is dropped loses nothing
        begin(pin!(child.wait_async()));
        drop(child.take_stdin());
        assert_eq!(block_on(second), Ok(WaitStatus::exited(4)));
        assert_eq!(block_on(first), Ok(WaitStatus::exited(4)));
    }
}

/// Either there is a handle, or there is no child.
#[test]
fn a_dropped_spawn_leaves_no_child() {
    for tree in trees() {
        let token = format!("PROCTABLE_TEST=dropped-{}", std::process::id());
        let (name, value) = token.split_once('=').unwrap();
        let sleep = || Command::new("sleep").arg("1000").env(name, value);
        drop(tree.spawn_async(sleep()));
        for _ in 0..20 {
            // the library's thread may be done before this one has looked: then it is a child
            if let Poll::Ready(child) = poll_once(pin!(tree.spawn_async(sleep()))) {
                let child = child.unwrap();
                child.signal(Signal::KILL).unwrap();
                child.wait().unwrap();
            }
        }
        // those that were ordered before it are done with
        let last = block_on(tree.spawn_async(Command::new("true"))).unwrap();
        last.wait().unwrap();
        until("no process is left", || marked(&token).is_empty());
        until("no process is a member", || tree.members().unwrap().is_empty());
        assert!(tree.table().counts().processes <= 3, "init, the owner, and the last one");
    }
}

/// The child is on its way, and comes after its future has gone.
#[test]
fn a_child_that_comes_too_late_is_killed() {
    let tree = ProcessTree::new().unwrap();
    let Mechanism::Cgroup(directory) = tree.mechanism() else {
        println!("SKIPPED: no cgroup");
        return;
    };
    let freeze = directory.join("cgroup.freeze");
    let procs = directory.join("cgroup.procs");
    std::fs::write(&freeze, "1").unwrap();
    let mut spawn = Box::pin(tree.spawn_async(Command::new("sleep").arg("1000")));
    begin(spawn.as_mut());
    until("the child is in", || !std::fs::read_to_string(&procs).unwrap().is_empty());
    drop(spawn);
    std::fs::write(&freeze, "0").unwrap();
    until("it is gone", || std::fs::read_to_string(&procs).unwrap().is_empty());
    assert_eq!(tree.table().counts().processes, 2, "init and the owner");
    let child = block_on(tree.spawn_async(sh("exit 3"))).unwrap();
    assert_eq!(child.wait(), Ok(WaitStatus::exited(3)));
}

/// Processes that have the signal keep it; no process is killed.
#[test]
fn a_dropped_shutdown_stops_where_it_is() {
    alone_here("linux::asynchronous::a_shutdown_that_is_dropped", &[]);
}

#[test]
#[ignore = "a scenario of a_dropped_shutdown_stops_where_it_is"]
fn a_shutdown_that_is_dropped() {
    if !is_alone() {
        return;
    }
    let ending = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        { names }.any(|name| name.starts_with("proctable-end"))
    };
    for tree in trees() {
        let deaf = spawn_ready(&tree, "trap '' TERM; echo; while :; do sleep 1000; done");
        let meek = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let mut shutdown = Box::pin(tree.shutdown_async(Signal::TERM, Duration::from_secs(1000)));
        begin(shutdown.as_mut());
        assert_eq!(meek.wait(), Ok(WaitStatus::killed(Signal::TERM, false)));
        drop(shutdown);
        until("its thread ends", || !ending());
        assert!(is_there(deaf.pid()));
        let shutdown = block_on(tree.shutdown_async(Signal::TERM, Duration::ZERO)).unwrap();
        assert_eq!(shutdown.ended[&deaf.pid()], WaitStatus::killed(Signal::KILL, false));
    }
}
