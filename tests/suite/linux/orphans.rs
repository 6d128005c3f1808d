//! An owner that is a subreaper: orphans of its trees are found, killed and reaped; other children
//! are left alone. It changes the whole process, so each scenario has one of its own.
#![allow(unsafe_code)]

use super::*;

/// The children of this process, zombies too.
pub fn children() -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let pids = lists.map(|list| list.unwrap_or_default());
    pids.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn is_subreaper() -> bool {
    let mut is = 0;
    // SAFETY: the kernel writes one number
    assert_eq!(unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &mut is) }, 0);
    is != 0
}

fn with_subreaper() -> Vec<ProcessTree> {
    let without = Options::new().without_cgroup().subreaper().create().unwrap();
    let best = Options::new().subreaper().create().unwrap();
    match best.without_cgroup_because() {
        Some(why) => println!("SKIPPED: no cgroup: {why}"),
        None => return vec![best, without],
    }
    vec![without]
}

/// A daemon as they come: double fork, a session of its own, and no environment. Its number.
fn daemon(tree: &ProcessTree, what: &str) -> i32 {
    let script = format!("(setsid env -i sh -c 'setsid {what} & echo $!' &)");
    let child = tree.spawn(sh(&script).stdout(Stdio::Piped)).unwrap();
    let mut line = String::new();
    let mut output = io::BufReader::new(child.take_stdout().unwrap());
    io::BufRead::read_line(&mut output, &mut line).unwrap();
    child.wait().unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_daemon_is_found_killed_and_reaped() {
    alone_here("linux::orphans::daemons", &[]);
}

#[test]
fn an_ordinary_user_reaps_its_daemons() {
    as_ordinary_user("linux::orphans::daemons");
}

#[test]
#[ignore = "a scenario of a_daemon_is_found_killed_and_reaped"]
fn daemons() {
    if !is_alone() {
        return;
    }
    assert!(!is_subreaper());
    for tree in with_subreaper() {
        assert!(is_subreaper());
        let pid = daemon(&tree, "sleep 1007");
        until("it is a child of the owner", || children().contains(&pid));
        let members: Vec<_> = tree.members().unwrap().into_iter().map(|who| who.pid).collect();
        assert_eq!(members, [pid]);
        assert_eq!(tree.kill().unwrap().survivors, []);
        // no process is a zombie, either
        assert!(children().is_empty(), "{:?}", children());
    }
    assert!(!is_subreaper(), "the last tree is gone");
}

/// The watcher reaps them while the tree lives, and their CPU time is counted.
#[test]
fn orphans_that_end_are_reaped() {
    alone_here("linux::orphans::short_lives", &[]);
}

#[test]
#[ignore = "a scenario of orphans_that_end_are_reaped"]
fn short_lives() {
    if !is_alone() {
        return;
    }
    for tree in with_subreaper() {
        let script = "i=0; while [ $i -lt 100 ]; do (setsid env -i true &); i=$((i + 1)); done";
        tree.spawn(sh(script)).unwrap().wait().unwrap();
        until("all are reaped", || children().is_empty() && tree.members().unwrap().is_empty());
        let before = tree.stats().unwrap().cpu.value;
        let busy = "sh -c \"i=0; while [ \\$i -lt 60000 ]; do i=\\$((i + 1)); done\"";
        daemon(&tree, busy);
        until("it is reaped", || children().is_empty() && tree.members().unwrap().is_empty());
        let used = tree.stats().unwrap().cpu.value - before;
        assert!(used > Duration::from_millis(5), "{used:?}");
    }
}

/// Children of the standard library keep their statuses, adopted ones too, and their orphans stay
/// their own.
#[test]
fn children_of_others_are_left_alone() {
    alone_here("linux::orphans::others", &[]);
}

#[test]
#[ignore = "a scenario of children_of_others_are_left_alone"]
fn others() {
    if !is_alone() {
        return;
    }
    for tree in with_subreaper() {
        let std = |script: &str| {
            std::process::Command::new("sh")
                .args(["-c", script])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut plain = std("exit 3");
        let mut adopted = std("read line; exit 4");
        let taken = tree.adopt(adopted.id() as i32, true).unwrap().remove(0);
        drop(adopted.stdin.take());
        assert_eq!(taken.wait(), Ok(WaitStatus::exited(4)));
        let mut parent = std("(setsid sh -c 'exit 5' &)");
        assert!(parent.wait().unwrap().success());
        // an orphan of the tree that ends after all of them is reaped: the others had their chance
        daemon(&tree, "sleep 0.1");
        until("it is reaped", || children().len() == 3 && tree.members().unwrap().is_empty());
        assert_eq!(tree.kill().unwrap().survivors, []);
        let own = [plain.id() as i32, adopted.id() as i32];
        let orphans: Vec<_> = children().into_iter().filter(|pid| !own.contains(pid)).collect();
        let [orphan] = orphans[..] else { panic!("{orphans:?}") };
        let mut status = 0;
        // SAFETY: the status is ours
        assert_eq!(unsafe { libc::waitpid(orphan, &mut status, 0) }, orphan);
        assert_eq!(WaitStatus(status as u32), WaitStatus::exited(5));
        assert_eq!(plain.wait().unwrap().code(), Some(3));
        assert_eq!(adopted.wait().unwrap().code(), Some(4));
    }
}

/// Each tree has its own, also one that did not ask for a subreaper.
#[test]
fn orphans_belong_to_the_tree_they_come_from() {
    alone_here("linux::orphans::two_trees", &[]);
}

#[test]
#[ignore = "a scenario of orphans_belong_to_the_tree_they_come_from"]
fn two_trees() {
    if !is_alone() {
        return;
    }
    for tree in with_subreaper() {
        for other in trees() {
            let own = daemon(&tree, "sleep 1007");
            let others = daemon(&other, "sleep 1008");
            until("both are orphans", || {
                let children = children();
                children.contains(&own) && children.contains(&others)
            });
            assert_eq!(tree.kill().unwrap().survivors, []);
            assert!(!children().contains(&own));
            // the shell that has begun it was an orphan, too
            until("only the daemon is left", || children() == [others]);
            let members = other.members().unwrap();
            assert_eq!(members.into_iter().map(|who| who.pid).collect::<Vec<_>>(), [others]);
            drop(other);
            assert!(children().is_empty(), "{:?}", children());
        }
    }
}

/// Spawning continues while orphans come and go: no child loses its status to the search for them.
#[test]
fn children_are_not_taken_for_orphans() {
    alone_here("linux::orphans::a_thousand_spawns", &[]);
}

#[test]
#[ignore = "a scenario of children_are_not_taken_for_orphans"]
fn a_thousand_spawns() {
    if !is_alone() {
        return;
    }
    for tree in with_subreaper() {
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let spawn = || {
                for nth in 0..250 {
                    let child = tree.spawn(sh(&format!("(true &); exit {}", nth % 256)));
                    assert_eq!(child.unwrap().wait(), Ok(WaitStatus::exited(nth % 256)));
                }
            };
            let spawning = [scope.spawn(spawn), scope.spawn(spawn)];
            // the end of any tree looks for the orphans of all
            let other = scope.spawn(|| {
                let other = Options::new().without_cgroup().create().unwrap();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    other.kill().unwrap();
                }
            });
            let results = spawning.map(|thread| thread.join());
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            other.join().unwrap();
            results.into_iter().for_each(|result| result.unwrap());
        });
        assert_eq!(tree.kill().unwrap().survivors, []);
        assert!(children().is_empty(), "{:?}", children());
    }
}
