//! Limits: what enforces each of them is told, and none is weaker than it was asked for.

use proctable::driver::linux::{Enforced, Enforcer, Limit};

use super::*;

const MEMORY: Limits = Limits { memory: Some(256 << 20), processes: None, cpu: None };
const PROCESSES: Limits = Limits { memory: None, processes: Some(20), cpu: None };
const CPU: Limits = Limits { memory: None, processes: None, cpu: Some(0.5) };

/// What `sh` says in a tree.
fn said(tree: &ProcessTree, script: &str) -> String {
    let child = tree.spawn(sh(script).stdout(Stdio::Piped)).unwrap();
    let mut text = String::new();
    child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn a_tree_tells_what_enforces_its_limits() {
    let all = [(MEMORY, Limit::Memory), (PROCESSES, Limit::Processes), (CPU, Limit::Cpu)];
    for (limits, limit) in all {
        for options in [Options::new(), Options::new().without_cgroup()] {
            match options.limits(limits).create() {
                Err(error) => println!("SKIPPED: {error}"),
                Ok(tree) => {
                    let [Enforced { limit: seen, by }] = tree.enforced() else { panic!() };
                    assert_eq!(*seen, limit);
                    // permission for something weaker was not given
                    assert!(matches!(by, Enforcer::CgroupV2 | Enforcer::CgroupV1), "{by}");
                    assert_eq!(
                        tree.enforced()[0].to_string(),
                        format!("{limit}: enforced by {by}")
                    );
                }
            }
        }
    }
}

#[test]
fn a_share_of_no_cpu_is_no_limit() {
    for cpu in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let limits = Limits { cpu: Some(cpu), ..Limits::default() };
        let error = Options::new().limits(limits).create().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}

/// The cgroups of the first version that this process has made.
fn folders() -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup "));
    let mut folders: Vec<_> =
        mounts.map(|line| std::path::PathBuf::from(line.split(' ').nth(4).unwrap())).collect();
    let own = format!("proctable-{}-", std::process::id());
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in below {
            found += usize::from(entry.file_name().to_string_lossy().starts_with(&own));
            folders.push(entry.path());
        }
    }
    found
}

/// The first limit has its cgroup by the time the second one turns out to be impossible.
#[test]
fn limits_that_fail_leave_no_cgroup() {
    alone_here("linux::limits::an_impossible_limit", &[]);
}

#[test]
#[ignore = "a scenario of limits_that_fail_leave_no_cgroup"]
fn an_impossible_limit() {
    if !is_alone() {
        return;
    }
    // more than the kernel takes as a number of processes
    let limits = Limits { processes: Some(u64::MAX), ..MEMORY };
    for options in [Options::new(), Options::new().without_cgroup()] {
        options.limits(limits).create().unwrap_err();
    }
    assert_eq!(folders(), 0);
}

#[test]
fn rlimits_are_taken_only_where_they_are_permitted() {
    without_cgroups("linux::limits::without_controllers");
}

#[test]
#[ignore = "a scenario of rlimits_are_taken_only_where_they_are_permitted"]
fn without_controllers() {
    if !is_alone() {
        return;
    }
    let error = Options::new().limits(MEMORY).create().unwrap_err().to_string();
    assert!(error.contains("memory") && error.contains("no mounted hierarchy"), "{error}");
    assert!(error.contains("rlimit per process is weaker"), "{error}");

    let tree = Options::new().limits(MEMORY).weaker_limits().create().unwrap();
    let by = Enforcer::RlimitPerProcess;
    assert_eq!(tree.enforced(), [Enforced { limit: Limit::Memory, by }]);
    assert_eq!(tree.enforced()[0].to_string(), "memory: enforced by rlimit per process");
    assert_eq!(said(&tree, "ulimit -Sv; ulimit -Hv"), "262144\n262144\n");
    let dd = |size: &str| {
        let script = format!("dd if=/dev/zero of=/dev/null bs={size} count=1 2>/dev/null");
        tree.spawn(sh(&script)).unwrap().wait().unwrap()
    };
    assert_eq!(dd("64M"), WaitStatus::exited(0));
    assert_ne!(dd("512M"), WaitStatus::exited(0));

    let error = Options::new().limits(CPU).weaker_limits().create().unwrap_err().to_string();
    assert!(error.contains("no rlimit bounds a share"), "{error}");
    if is_root() {
        let error = Options::new().limits(PROCESSES).weaker_limits().create();
        let error = error.unwrap_err().to_string();
        assert!(error.contains("does not bind root"), "{error}");
    }
}

/// A user that nobody else has: its processes are the tree's.
#[test]
fn a_users_processes_are_limited_by_an_rlimit() {
    if let Some(user) = user("--reuid=61235") {
        alone_here("linux::limits::of_a_user", &user);
    }
}

#[test]
#[ignore = "a scenario of a_users_processes_are_limited_by_an_rlimit"]
fn of_a_user() {
    if !is_alone() {
        return;
    }
    let error = Options::new().limits(PROCESSES).create().unwrap_err().to_string();
    assert!(error.contains("no limit of pids"), "{error}");
    println!("without permission: {error}");
    let tree = Options::new().limits(PROCESSES).weaker_limits().create().unwrap();
    let by = Enforcer::RlimitPerUser;
    assert_eq!(tree.enforced(), [Enforced { limit: Limit::Processes, by }]);
    let script =
        "i=0; while [ $i -lt 50 ]; do (sleep 1000 &) 2>/dev/null; i=$((i + 1)); done; echo";
    spawn_ready(&tree, script);
    let members = tree.members().unwrap().len();
    assert!((2..=20).contains(&members), "{members}");
    assert_eq!(tree.kill().unwrap().survivors, []);
}
