//! A scope of systemd, where the owner's own cgroup is not its to divide. `tests/kernels/run
//! --stages scope` boots a systemd for it; elsewhere it needs root in a service, or a scope, of
//! one.

use proctable::drivers::linux::{Delegate, Enforced, Enforcer, Limit};

use super::*;

const PROCESSES: Limits = Limits { memory: None, processes: Some(20), cpu: None };

/// Where this process is, as the kernel says it.
fn own_groups() -> String {
    std::fs::read_to_string("/proc/self/cgroup").unwrap()
}

/// The scopes that this process has asked for.
fn scopes() -> Vec<std::path::PathBuf> {
    let begin = format!("proctable-{}-", std::process::id());
    let mut directories = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&begin) && name.ends_with(".scope") {
                found.push(entry.path());
            }
            directories.push(entry.path());
        }
    }
    found
}

#[test]
fn a_scope_is_asked_for_where_the_own_cgroup_is_not_delegated() {
    if !is_root() || !std::path::Path::new("/run/systemd/system").exists() {
        return println!("SKIPPED: there is no systemd, or this is not root");
    }
    if own_groups().lines().any(|line| line == "0::/") {
        return println!("SKIPPED: the root cgroup needs no scope");
    }
    alone_here("linux::scope::in_a_service", &[]);
}

#[test]
#[ignore = "a scenario of a_scope_is_asked_for_where_the_own_cgroup_is_not_delegated"]
fn in_a_service() {
    if !is_alone() {
        return;
    }
    let before = own_groups();
    // nothing is asked for that was not permitted
    let refused = Options::new().limits(PROCESSES).create().unwrap_err();
    println!("without permission: {refused}");
    assert_eq!(scopes(), [] as [std::path::PathBuf; 0]);

    let limited = || Options::new().limits(PROCESSES).delegate(Delegate::Enable).create().unwrap();
    let (tree, other) = (limited(), limited());
    let [scope] = &scopes()[..] else { panic!("{:?}", scopes()) };
    for tree in [&tree, &other] {
        let by = Enforcer::CgroupV2;
        assert_eq!(tree.enforced(), [Enforced { limit: Limit::Processes, by }]);
        let Mechanism::Cgroup(directory) = tree.mechanism() else {
            panic!("{:?}", tree.mechanism())
        };
        assert_eq!(directory.parent(), Some(&**scope), "one scope for both");
    }
    spawn_ready(&tree, FIFTY);
    let members = tree.members().unwrap().len();
    assert!((2..=20).contains(&members), "{members}");
    assert_eq!(own_groups(), before, "the owner is where it was");

    assert_eq!(tree.kill().unwrap().survivors, []);
    drop(tree);
    assert!(scope.exists(), "the other tree has it");
    let child = other.spawn(sh("exit 3")).unwrap();
    assert_eq!(child.wait(), Ok(WaitStatus::exited(3)));
    drop(other);
    until("the scope is gone", || scopes().is_empty());
    assert_eq!(orphans::children(), [] as [i32; 0], "the helper is gone");
    assert_eq!(own_groups(), before);
    println!("scope: {}", scope.display());
}
