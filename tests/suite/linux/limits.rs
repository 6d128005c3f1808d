//! Limits: the mechanism of each is reported, and none is weaker than requested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio as StdStdio;
use std::sync::atomic::{AtomicBool, Ordering};

use proctable::drivers::linux::{Delegate, Enforced, Enforcer, Limit};

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
fn directories() -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup "));
    let mut directories: Vec<_> =
        mounts.map(|line| PathBuf::from(line.split(' ').nth(4).unwrap())).collect();
    let own = format!("proctable-{}-", std::process::id());
    let mut found = 0;
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in below {
            found += usize::from(entry.file_name().to_string_lossy().starts_with(&own));
            directories.push(entry.path());
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
    assert_eq!(directories(), 0);
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

/// A user without other processes: its processes are the tree's.
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
    spawn_ready(&tree, FIFTY);
    let members = tree.members().unwrap().len();
    assert!((2..=20).contains(&members), "{members}");
    assert_eq!(tree.kill().unwrap().survivors, []);
}

/// A tree with limits that a controller enforces, or a visible line that says why there is none.
fn limited(limits: Limits) -> Option<ProcessTree> {
    match Options::new().limits(limits).delegate(Delegate::Enable).create() {
        Ok(tree) => Some(tree),
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

/// The owner's cgroup, if it has one in which it can make others.
fn own_cgroup() -> Option<PathBuf> {
    match ProcessTree::new().unwrap().mechanism() {
        Mechanism::Cgroup(directory) => directory.parent().map(Path::to_owned),
        _ => None,
    }
}

/// The controllers that the owner's cgroup passes on.
fn passed_on() -> String {
    let subtree = own_cgroup().map(|own| own.join("cgroup.subtree_control"));
    subtree.map_or(String::new(), |file| std::fs::read_to_string(file).unwrap())
}

/// What the owner's cgroup passes on is looked at by one test at a time.
static PASSED_ON: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs a function that ends a tree with limits: the controllers that were enabled for the tree are
/// disabled again. They stay enabled if cgroups of others are there then, such as those of tests
/// that run at the same time, and that is printed. `is_own` says by its name whether a cgroup is
/// the tree's.
fn disables(before: &str, is_own: impl Fn(&str) -> bool + Sync, end: impl FnOnce()) {
    let Some(base) = own_cgroup() else { return end() };
    let others = || {
        let entries = std::fs::read_dir(&base).unwrap().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = directories.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !is_own(name)).collect::<BTreeSet<_>>()
    };
    let (over, mut seen) = (AtomicBool::new(false), others());
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = others();
            while !over.load(Ordering::Relaxed) {
                seen.extend(others());
            }
            seen
        });
        end();
        over.store(true, Ordering::Relaxed);
        seen.extend(looking.join().unwrap());
    });
    let after = passed_on();
    if after != before {
        assert!(!seen.is_empty(), "`{}` instead of `{}`", after.trim(), before.trim());
        println!("SKIPPED: `{}` stays enabled as others are there: {seen:?}", after.trim());
    }
}

/// Drops the only tree of this process.
fn drop_and_look(tree: ProcessTree, before: &str) {
    let Mechanism::Cgroup(directory) = tree.mechanism() else { return };
    let name = directory.file_name().unwrap().to_string_lossy().into_owned();
    disables(before, |other| *other == name, || drop(tree));
}

/// In processes of their own.
#[test]
fn controllers_enforce_limits() {
    let _alone = PASSED_ON.lock();
    for scenario in ["of_memory", "of_processes", "of_cpu"] {
        alone_here(&format!("linux::limits::{scenario}"), &[]);
    }
}

/// A process that takes more is killed, and the kill is counted.
#[test]
#[ignore = "a scenario of controllers_enforce_limits"]
fn of_memory() {
    if !is_alone() {
        return;
    }
    let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
    let passed = passed_on();
    let Some(tree) = limited(limits) else { return };
    // as one line of text, which sed keeps
    let take = |size: &str| {
        let script = format!("exec head -c {size} /dev/zero | sed -n 1p >/dev/null; exit $?");
        tree.spawn(Command::new("bash").args(["-c", &format!("set -o pipefail; {script}")]))
            .unwrap()
            .wait()
            .unwrap()
    };
    assert_eq!(take("8M"), WaitStatus::exited(0));
    let before = tree.stats().unwrap();
    assert_eq!(before.oom_kills.unwrap().value, 0);
    let status = take("256M");
    let stats = tree.stats().unwrap();
    let kills = stats.oom_kills.unwrap();
    assert!(kills.value >= 1, "{status}: {stats:?}");
    assert_ne!(status, WaitStatus::exited(0));
    if stats::keeps_peak(&tree) {
        assert!(stats.memory_peak.unwrap().value <= (64 << 20) + (1 << 20), "{stats:?}");
    }
    println!("memory: {}; {} killed, {:?}", tree.enforced()[0], kills.value, kills.source);
    drop_and_look(tree, &passed);
}

#[test]
#[ignore = "a scenario of controllers_enforce_limits"]
fn of_processes() {
    if !is_alone() {
        return;
    }
    let passed = passed_on();
    let Some(tree) = limited(PROCESSES) else { return };
    let script = "exec 2>/dev/null; i=0; \
        while [ $i -lt 50 ]; do sleep 1000 & i=$((i + 1)); done; wait";
    // bash tries again when it cannot fork, where other shells end
    tree.spawn(Command::new("bash").args(["-c", script]).stdin(Stdio::Null)).unwrap();
    let count = || tree.members().unwrap().len();
    until("it has as many as it may", || count() == 20);
    // a process that is moved into a cgroup of the first version does not count against its limit
    if tree.enforced()[0].by == Enforcer::CgroupV2 {
        let refused = tree.spawn(Command::new("true")).unwrap_err();
        assert_eq!(refused.error.raw_os_error(), Some(libc::EAGAIN), "{refused}");
    }
    assert_eq!(count(), 20);
    println!("processes: {}", tree.enforced()[0]);
    assert_eq!(tree.kill().unwrap().survivors, []);
    drop_and_look(tree, &passed);
}

/// What two busy loops use in two seconds is their share. A machine that has others to serve gives
/// less, and a guest on it measures badly, so that one of several windows tells.
#[test]
#[ignore = "a scenario of controllers_enforce_limits"]
fn of_cpu() {
    if !is_alone() {
        return;
    }
    const SHARE: f64 = 0.1;
    let passed = passed_on();
    let Some(tree) = limited(Limits { cpu: Some(SHARE), ..Limits::default() }) else { return };
    for _ in 0..2 {
        spawn_ready(&tree, "echo; exec >&-; while :; do :; done");
    }
    let used = || {
        let (begin, before) = (Instant::now(), tree.cpu_time().unwrap());
        std::thread::sleep(Duration::from_secs(2));
        let used = tree.cpu_time().unwrap() - before;
        used.as_secs_f64() / begin.elapsed().as_secs_f64()
    };
    let mut windows = Vec::new();
    while windows.last().is_none_or(|used| (used / SHARE - 1.0).abs() > 0.1) {
        windows.push(used());
        if windows.len() == 10 {
            let load = std::fs::read_to_string("/proc/loadavg").unwrap();
            let others: f64 = load.split(' ').next().unwrap().parse().unwrap();
            let cpus = std::thread::available_parallelism().unwrap().get() as f64;
            assert!(others > 2.0 * cpus, "{windows:.3?} on an idle machine");
            println!("SKIPPED: others disturb the measurement: {windows:.3?}, load {others}");
            break;
        }
    }
    println!("cpu: {}; of {SHARE} used {windows:.3?}", tree.enforced()[0]);
    assert_eq!(tree.kill().unwrap().survivors, []);
    drop_and_look(tree, &passed);
}

/// An owner whose cgroup may enable no controller, as it is itself a member, moves aside if it is
/// permitted to, and is back at the end; otherwise the error says what would help.
#[cfg(feature = "cli")]
#[test]
fn an_owner_moves_aside_for_its_limits() {
    let _alone = PASSED_ON.lock();
    let before = passed_on();
    let Some(tree) = limited(MEMORY) else { return };
    if tree.enforced()[0].by != Enforcer::CgroupV2 {
        return println!("SKIPPED: no controller of v2 can be had: {}", tree.enforced()[0]);
    }
    drop_and_look(tree, &before);
    // pids is a controller of threads: a cgroup with processes could enable it, and this would help
    // no one
    for (option, inner, outer, name) in
        [("--memory", "64M", "1G", "memory"), ("--pids", "50", "500", "pids")]
    {
        moves_aside([option, inner], [option, outer], name);
    }
}

#[cfg(feature = "cli")]
fn moves_aside(inner: [&str; 2], outer: [&str; 2], name: &str) {
    let program = env!("CARGO_BIN_EXE_proctable");
    let run = |how: &str| {
        let inner = [&[program, "exec", how], &inner[..], &["--summary", "--", "true"]].concat();
        let outer = [&["exec", "--delegate"], &outer[..], &["--"]].concat();
        let mut command = program::proctable(&[outer, inner].concat());
        let before = passed_on();
        let outer = command.stdout(StdStdio::null()).stderr(StdStdio::piped()).spawn().unwrap();
        let (own, mut output) = (format!("proctable-{}-", outer.id()), None);
        disables(
            &before,
            |other| other.starts_with(&own),
            || output = Some(outer.wait_with_output().unwrap()),
        );
        output.unwrap()
    };
    let output = run("--delegate=move");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(": enforced by cgroup v2"), "{said}");
    let output = run("--delegate");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("Delegate::Move"), "{said}");
    assert!(said.contains(&format!("echo +{name} > ")), "{said}");
}
