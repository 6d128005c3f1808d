//! The model agrees with the host: the same scenario, with real children and with simulated ones,
//! gives the same events.

use std::sync::Arc;

use proctable::abi::Pid;
use proctable::driver::NullDriver;
use proctable::table::{Image, Process, ProcessTable, Spawn, TableEvent, What};

use super::*;

/// Creates a child of the owner, in a group of its own or in that of a child.
type Create<'a> = &'a dyn Fn(Option<Pid>) -> Process;

/// Spawns, stops, continues, group kills and waits. Each step waits until it has had its effect,
/// as a real process needs a moment for what a simulated one does at once.
fn scenario(owner: &Process, create: Create) -> Vec<TableEvent> {
    let table = owner.table();
    let events = table.subscribe(1024).unwrap();
    let all = WaitOptions::EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
    let wait = |process: &Process| {
        owner.wait_timeout(process, all, SOON).unwrap().expect("it has an event").status
    };

    let first = create(None);
    owner.kill(first.pid(), Signal::STOP).unwrap();
    assert_eq!(wait(&first), WaitStatus::stopped(Signal::STOP));
    owner.kill(first.pid(), Signal::CONT).unwrap();
    assert_eq!(wait(&first), WaitStatus::CONTINUED);
    owner.kill(first.pid(), Signal::TSTP).unwrap();
    assert_eq!(wait(&first), WaitStatus::stopped(Signal::TSTP));
    // a stopped one acts on SIGTERM only when it continues
    owner.kill(first.pid(), Signal::TERM).unwrap();
    owner.kill(first.pid(), Signal::CONT).unwrap();
    let mut status = wait(&first);
    if status == WaitStatus::CONTINUED {
        status = wait(&first);
    }
    assert_eq!(status, WaitStatus::killed(Signal::TERM, false));

    let leader = create(None);
    let member = create(Some(leader.pid()));
    let other = create(None);
    owner.kill_group(leader.pid().into(), Signal::STOP).unwrap();
    assert_eq!(wait(&leader), WaitStatus::stopped(Signal::STOP));
    assert_eq!(wait(&member), WaitStatus::stopped(Signal::STOP));
    owner.kill_group(leader.pid().into(), Signal::KILL).unwrap();
    assert_eq!(wait(&leader), WaitStatus::killed(Signal::KILL, false));
    assert_eq!(wait(&member), WaitStatus::killed(Signal::KILL, false));
    owner.kill(other.pid(), Signal::USR1).unwrap();
    assert_eq!(wait(&other), WaitStatus::killed(Signal::USR1, false));
    assert!(owner.wait(WaitTarget::Any, all).is_err(), "no process is left");
    events.try_iter().collect()
}

/// What happened to each process, in order. Of two processes that a signal reaches at once, the one
/// that the host runs first is the first.
fn by_process(events: &[TableEvent]) -> Vec<(Pid, Vec<String>)> {
    let mut pids: Vec<_> = events.iter().map(|event| event.pid).collect();
    pids.sort();
    pids.dedup();
    let told = |pid| {
        let own = events.iter().filter(move |event| event.pid == pid);
        let own = own.filter(|event| !depends_on_the_moment(event));
        let mut told: Vec<_> = own.map(|event| describe(&event.what)).collect();
        // one that continues only to end: a parent is shown the last change, so may not see it
        let end = told.iter().position(|what| what.starts_with("Exited"));
        let before = end.and_then(|end| end.checked_sub(1));
        if let Some(before) = before.filter(|before| told[*before] == "Continued") {
            told.remove(before);
        }
        told
    };
    pids.into_iter().map(|pid| (pid, told(pid))).collect()
}

/// SIGCHLD: how many there are depends on how many changes the watcher sees, which like waitid(2)
/// shows the last one. SIGCONT: in the model it has acted when it is generated, and nothing is
/// left of it; to a real child it is forwarded.
fn depends_on_the_moment(event: &TableEvent) -> bool {
    let left_out = [Signal::CHLD, Signal::CONT];
    matches!(event.what, What::Generated(info) if left_out.contains(&info.signal))
}

fn describe(what: &What) -> String {
    match what {
        What::Generated(info) => format!("Generated({:?})", info.signal),
        what => format!("{what:?}"),
    }
}

fn simulated() -> Vec<TableEvent> {
    let table = ProcessTable::new();
    let owner = table.spawn(Spawn::new(Image::new("owner")).session()).unwrap();
    let create = |group: Option<Pid>| {
        let spawn = Spawn::new(Image::new("sleep")).driver(Arc::new(NullDriver));
        let spawn = match group {
            None => spawn.own_group(),
            Some(leader) => spawn.group(proctable::table::GroupChoice::Join(leader.into())),
        };
        owner.spawn(spawn).unwrap()
    };
    scenario(&owner, &create)
}

fn real(tree: &ProcessTree) -> Vec<TableEvent> {
    let real = std::cell::RefCell::new(std::collections::BTreeMap::new());
    let owner = tree.table().process(Pid(2)).unwrap();
    let create = |group: Option<Pid>| {
        let group = group.map_or(0, |leader| real.borrow()[&leader]);
        let child = tree.spawn(Command::new("sleep").arg("1000").group(group)).unwrap();
        real.borrow_mut().insert(child.process().pid(), child.pid());
        child.process().clone()
    };
    scenario(&owner, &create)
}

#[test]
fn a_scenario_gives_the_same_events_with_real_children() {
    let model = simulated();
    for tree in trees() {
        assert_eq!(by_process(&real(&tree)), by_process(&model));
    }
    println!("{} events of the model agree with the host's", model.len());
}
