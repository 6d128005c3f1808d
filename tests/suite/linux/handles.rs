//! Handles of children that are dropped without a wait.
//!
//! The tree reaps such a child: it leaves no zombie and no descriptor, whatever its owner may open.

use super::*;

use proctable::table::{Process, What};

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// The zombies among the children of this process.
fn zombies() -> Vec<i32> {
    let own = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let zombies = stats.filter(|stat| {
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        fields.next() == Some("Z") && fields.next() == Some(&own)
    });
    zombies.filter_map(|stat| stat.split(' ').next()?.parse().ok()).collect()
}

fn owner_of(tree: &ProcessTree, process: &Process) -> Process {
    tree.table().process(process.info().unwrap().ppid).unwrap()
}

/// More children than the owner may have descriptors, by the mechanisms that there are: neither
/// they nor the figures of the tree need a handle.
#[test]
fn children_without_a_handle_are_reaped() {
    alone_here("linux::handles::more_children_than_descriptors", &["prlimit", "--nofile=256"]);
}

#[test]
#[ignore = "a scenario of children_without_a_handle_are_reaped"]
fn more_children_than_descriptors() {
    if !is_alone() {
        return;
    }
    for tree in trees() {
        let before = entries("/proc/self/fd");
        let events = tree.table().subscribe(16384).unwrap();
        for _ in 0..11 {
            // a hundred at once: each ends when the pipe that it reads does
            let (reader, writer) = io::pipe().unwrap();
            for _ in 0..100 {
                let stdin = Stdio::File(reader.try_clone().unwrap().into());
                tree.spawn(Command::new("cat").stdin(stdin).stdout(Stdio::Null)).unwrap();
            }
            assert_eq!(tree.members().unwrap().len(), 100);
            drop((reader, writer));
            until("all are reaped", || zombies().is_empty() && tree.members().unwrap().is_empty());
        }
        // the last hundred: until the next spawn, or now
        tree.spawn(Command::new("true")).unwrap().wait().unwrap();
        until("their descriptors are closed", || entries("/proc/self/fd") <= before + 3);
        assert!(tree.cpu_time().unwrap() > Duration::ZERO);
        let exits = events.try_iter().filter(|event| matches!(event.what, What::Exited(_))).count();
        assert_eq!(exits, 1101);
        // the table keeps the ends of the last 1024
        let processes = tree.table().counts().processes;
        assert!((1024..=1030).contains(&processes), "{processes}");
        assert_eq!(tree.kill().unwrap().survivors, []);
    }
}

/// The end stays in the table: its waits do not need the handle.
#[test]
fn the_table_keeps_the_end_of_a_child_without_a_handle() {
    for tree in trees() {
        let child = tree.spawn(sh("exit 5")).unwrap();
        let process = child.process().clone();
        let owner = owner_of(&tree, &process);
        let pid = child.pid();
        drop(child);
        until("it is reaped", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
        let waited = owner.wait(&process, WaitOptions::EXITED).unwrap();
        assert_eq!(waited.status, WaitStatus::exited(5));
    }
}

/// A clone is a handle, and so is the future of a wait.
#[test]
fn a_child_with_a_handle_left_is_waited_for() {
    for tree in trees() {
        let child = tree.spawn(sh("exit 6")).unwrap();
        let other = child.clone();
        drop(child);
        assert_eq!(other.wait(), Ok(WaitStatus::exited(6)));
        let child = tree.spawn(sh("exit 7")).unwrap();
        let wait = child.wait_async();
        drop(child);
        assert_eq!(asynchronous::block_on(wait), Ok(WaitStatus::exited(7)));
    }
}

/// The drop of a handle ends nothing.
#[test]
fn a_child_without_a_handle_continues() {
    for tree in trees() {
        let child = spawn_ready(&tree, "echo; exec sleep 1000");
        let pid = child.pid();
        drop(child);
        assert!(is_there(pid));
        let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
        assert_eq!(shutdown.ended.get(&pid), Some(&WaitStatus::killed(Signal::TERM, false)));
    }
}
