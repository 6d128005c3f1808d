//! A preflight reports the mechanisms as they are, and leaves nothing.

use proctable::drivers::linux::{Enforcer, Limit, Preflight, preflight};

use super::*;

#[test]
fn a_preflight_agrees_with_what_trees_get() {
    let told = preflight();
    print!("{told}");
    assert_eq!(told.to_string().lines().count(), 17);
    agrees(&told);
}

fn agrees(told: &Preflight) {
    let tree = ProcessTree::new().unwrap();
    match (tree.mechanism(), &told.cgroup) {
        (Mechanism::Cgroup(directory), Ok(parent)) => {
            assert_eq!(directory.parent(), Some(&**parent))
        }
        (Mechanism::Scan, Err(why)) => {
            assert_eq!(tree.without_cgroup_because().unwrap().to_string(), *why);
        }
        both => panic!("{both:?}"),
    }
    assert_eq!(Options::new().guarded().create().is_ok(), told.guardian.is_ok());
    for (limit, by) in &told.limits {
        let limits = match limit {
            Limit::Memory => Limits { memory: Some(1 << 30), ..Limits::default() },
            Limit::Processes => Limits { processes: Some(50), ..Limits::default() },
            Limit::Cpu => Limits { cpu: Some(1.0), ..Limits::default() },
        };
        let tree = Options::new().limits(limits).weaker_limits().create();
        let seen = tree.as_ref().map(|tree| tree.enforced()[0].by).ok();
        assert_eq!(seen, by.as_ref().ok().copied(), "{limit}: {tree:?}");
    }
}

#[test]
fn a_preflight_leaves_nothing() {
    alone_here("linux::preflight::ten_times", &[]);
}

#[test]
#[ignore = "a scenario of a_preflight_leaves_nothing"]
fn ten_times() {
    if !is_alone() {
        return;
    }
    let count = |directory: &str| std::fs::read_dir(directory).unwrap().count();
    let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let first = preflight();
    let before = (count("/proc/self/fd"), children());
    for _ in 0..10 {
        assert_eq!(preflight(), first);
    }
    assert_eq!((count("/proc/self/fd"), children()), before);
    if let Ok(directory) = first.cgroup {
        let own = format!("proctable-{}-", std::process::id());
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        assert!(!{ entries }.any(|entry| entry.file_name().to_string_lossy().starts_with(&own)));
    }
}

#[test]
fn without_cgroups_a_preflight_says_so() {
    without_cgroups("linux::preflight::nowhere");
}

#[test]
#[ignore = "a scenario of without_cgroups_a_preflight_says_so"]
fn nowhere() {
    if !is_alone() {
        return;
    }
    let told = preflight();
    print!("{told}");
    assert_eq!(told.cgroup.as_ref().unwrap_err(), "no cgroup2 is mounted");
    assert!(told.guardian.as_ref().unwrap_err().contains("no cgroup"), "{told}");
    assert_eq!(told.limits[0].1, Ok(Enforcer::RlimitPerProcess));
    let cpu = told.limits[2].1.as_ref().unwrap_err();
    assert!(cpu.contains("v2: no cgroup") && cpu.contains("no rlimit bounds"), "{cpu}");
    agrees(&told);
}
