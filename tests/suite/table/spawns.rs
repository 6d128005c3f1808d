//! The initial state of a new process, and the views of processes in every state.

use std::sync::Arc;

use proctable::abi::{Errno, Pgid, Pid, Resource, Rlimit, SigSet, Signal, Uid, WaitOptions};
use proctable::drivers::ScriptedDriver;
use proctable::kernel::{Config, RunState};
use proctable::syscall::{Ret, Syscall, clone};
use proctable::table::{
    GroupChoice, Image, Init, ProcessTable, SigmaskHow, Spawn, TableConfig, TableLimits, WaitTarget,
};

use super::{caught, shell, spawn};

/// FORK-02, MISC-02, CRED-01: a child has its parent's mask, umask, working directory and users, or
/// those of its `Spawn`, before the first operation of its driver.
#[test]
fn a_child_inherits_the_attributes_that_spawn_does_not_set() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    parent.umask(0o027).unwrap();
    parent.set_cwd("/home").unwrap();
    parent.sigprocmask(SigmaskHow::Block, Signal::USR1.set()).unwrap();

    let same = spawn(&parent);
    assert_eq!(same.attributes(), parent.attributes());
    assert_eq!(same.view().unwrap().blocked, Signal::USR1.set());

    let user = Uid(1000);
    let given = Spawn::new(Image::new("x")).umask(0o7077).cwd("/tmp").mask(SigSet::FULL);
    let other = parent.spawn(given.users([Some(user); 3])).unwrap();
    let attributes = other.attributes().unwrap();
    assert_eq!((attributes.umask, &*attributes.cwd, attributes.users), (0o077, "/tmp", [user; 3]));
    assert_eq!(other.view().unwrap().blocked, SigSet::FULL - SigSet::KERNEL_ONLY);
    assert_eq!(&*parent.cwd().unwrap(), "/home");
}

/// TG-21: a child has a copy of its parent's memory, also if it executes no other program. Neither
/// process shares memory, which unshare(2) would refuse.
#[test]
fn a_forked_child_shares_no_memory() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let child = parent.spawn(Spawn::fork()).unwrap();
    for process in [&parent, &child] {
        let unshared = table.syscall(process.pid(), Syscall::Unshare(clone::VM));
        assert_eq!(unshared, Ok(Ret::Value(0)));
    }
}

/// CRED-05, PID-16: a process that may not change to a user creates no child of that user.
#[test]
fn a_spawn_whose_user_change_fails_creates_no_process() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    parent.set_users([Some(Uid(1000)); 3]).unwrap();
    let driver = Arc::new(ScriptedDriver::default());
    let child = Spawn::new(Image::new("x")).users([Some(Uid(1001)); 3]).driver(driver.clone());
    assert_eq!(parent.spawn(child), Err(Errno::EPERM));
    assert_eq!(table.pids(), [Pid(1), parent.pid()]);
    assert_eq!(parent.try_wait(WaitTarget::Any, WaitOptions::EXITED), Err(Errno::ECHILD));
    assert_eq!(driver.seen(), []);
    assert_eq!(spawn(&parent).pid(), Pid(4), "a number was skipped");
}

/// EXEC-17, LIM-02, LIM-05: a child whose user has too many processes cannot execute its program.
#[test]
fn a_spawn_over_the_users_rlimit_nproc_creates_no_process() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let one = Rlimit { soft: 1, hard: 1 };
    parent.rlimit(Resource::NPROC, Some(one)).unwrap();
    let user = Uid(1000);
    let child = || Spawn::new(Image::new("x")).users([Some(user), None, None]);
    let first = parent.spawn(child()).unwrap();
    let second = parent.spawn(child()).unwrap();
    let before = table.pids();
    assert_eq!(parent.spawn(child()), Err(Errno::EAGAIN));
    assert_eq!(table.pids(), before);
    second.exit(0).unwrap();
    first.exit(0).unwrap();
    assert!(parent.try_wait(WaitTarget::Any, WaitOptions::EXITED).unwrap().is_some());
}

/// OBS-02: mask, pending signals, umask and users of a process are visible while it is stopped, in
/// a call or in a handler; those of a zombie are empty or absent.
#[test]
fn process_info_is_available_in_every_state() {
    let table = ProcessTable::new();
    let guest = spawn(&table.init());
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.send(Signal::USR1).unwrap();
    assert_eq!(guest.view().unwrap().blocked, Signal::USR1.set());
    guest.sigreturn().unwrap();
    guest.send(Signal::STOP).unwrap();
    guest.send(Signal::TERM).unwrap();
    let view = guest.view().unwrap();
    assert_eq!((view.run, view.shared), (RunState::Stopped, Signal::TERM.set()));
    assert_eq!(guest.attributes().unwrap().umask, 0o022);
    guest.send(Signal::CONT).unwrap();
    let view = guest.view().unwrap();
    assert_eq!(
        (view.run, view.shared, view.caught),
        (RunState::Zombie, SigSet::EMPTY, SigSet::EMPTY)
    );
    assert_eq!(guest.attributes(), None);
    table.init().wait(&guest, WaitOptions::EXITED).unwrap();
    assert_eq!(guest.view(), None);
}

/// GRP-22: 0 is the number of a group outside of the namespace. No process can join it.
#[test]
fn the_group_of_number_0_cannot_be_joined() {
    let table = ProcessTable::with_config(TableConfig::new().init(Init::Guest));
    let spawn = Spawn::new(Image::new("guest")).group(GroupChoice::Join(Pgid(0)));
    assert_eq!(table.spawn(spawn).map(|child| child.pid()), Err(Errno::EPERM));
    assert_eq!(table.counts().processes, 1);
}

/// The limit applies to delayed forks too. A fork by a process that does not exist fails with
/// ESRCH.
#[test]
fn delayed_forks_obey_the_limit() {
    let limits = TableLimits { processes: 3, ..TableLimits::default() };
    let table = ProcessTable::with_config(TableConfig::new().limits(limits));
    let parent = spawn(&table.init());
    parent.send(Signal::STOP).unwrap();
    let forks: Vec<_> = (0..3).map(|_| parent.submit(Syscall::Fork)).collect();
    parent.send(Signal::CONT).unwrap();
    let results: Vec<_> = forks.iter().map(|fork| fork.result().unwrap()).collect();
    assert_eq!(results, [Ok(Ret::Value(3)), Err(Errno::EAGAIN), Err(Errno::EAGAIN)]);
    assert_eq!(table.counts().processes, 3);
    assert_eq!(table.syscall(Pid(99), Syscall::Fork), Err(Errno::ESRCH));
}

/// The configuration of the model overrides the default of the table.
#[test]
fn a_configured_limit_of_pending_signals_is_kept() {
    let limit = Rlimit { soft: 2, hard: 2 };
    let kernel = Config { limits: vec![(Resource::SIGPENDING, limit)], ..Config::default() };
    let table = ProcessTable::with_config(TableConfig::new().kernel(kernel));
    assert_eq!(spawn(&table.init()).rlimit(Resource::SIGPENDING, None), Ok(limit));
}
