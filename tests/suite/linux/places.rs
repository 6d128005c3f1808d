//! Places where people run this that are not like an ordinary machine: what holds there holds, and
//! what does not is said. Each row of the table in docs/CONTAINMENT.md is one of these.

use std::process::{Child as StdChild, Command as StdCommand, Stdio as StdStdio};

use super::*;

/// A pid namespace of its own that has the outer /proc.
const OUTER_PROC: &[&str] = &["unshare", "--pid", "--fork", "--kill-child", "--"];

/// The same without the right to mount anything.
const OUTER_PROC_ALONE: &[&str] = &[
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--",
    "setpriv",
    "--bounding-set=-sys_admin",
    "--inh-caps=-sys_admin",
    "--",
];

/// No /proc at all.
const NO_PROC: &[&str] = &["unshare", "--mount", "sh", "-c", "umount -l /proc; exec \"$@\"", "sh"];

/// The same without the right to mount one.
const NO_PROC_ALONE: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "umount -l /proc; exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin -- \"$@\"",
    "sh",
];

/// Whether there can be such places, or a visible line that says why not.
fn has_namespaces() -> bool {
    if !is_root() {
        println!("SKIPPED: namespaces and mounts need root");
    }
    is_root()
}

/// Runs a scenario in places, if there can be such.
fn in_places(scenario: &str, places: &[&[&str]]) {
    if has_namespaces() {
        places.iter().for_each(|place| alone_here(&format!("linux::places::{scenario}"), place));
    }
}

/// Processes of the outer namespace whose numbers mean others inside: a parent, and its child.
struct Family {
    parent: StdChild,
    child: i32,
}

impl Family {
    fn new() -> Family {
        let mut parent = StdCommand::new("sh")
            .args(["-c", "sleep 1000 & echo $!; exec >&-; read -r line; kill $!"])
            .stdin(StdStdio::piped())
            .stdout(StdStdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = io::BufReader::new(parent.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut line).unwrap();
        Family { parent, child: line.trim().parse().unwrap() }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        drop(self.parent.stdin.take());
        let _ = self.parent.wait();
    }
}

/// What /proc tells of a number is another process's: nobody is taken for a member by that.
#[test]
fn the_numbers_of_another_namespace_reach_no_stranger() {
    if !has_namespaces() {
        return;
    }
    if !std::path::Path::new("/proc/sys/kernel/ns_last_pid").exists() {
        return println!("SKIPPED: the kernel gives no number that is asked for");
    }
    for place in [OUTER_PROC, OUTER_PROC_ALONE] {
        let family = Family::new();
        let numbers = format!("NUMBERS={} {}", family.parent.id(), family.child);
        let by = [place, &["env", &numbers]].concat();
        alone_here("linux::places::among_numbers_of_another_namespace", &by);
    }
}

#[test]
#[ignore = "a scenario of the_numbers_of_another_namespace_reach_no_stranger"]
fn among_numbers_of_another_namespace() {
    if !is_alone() {
        return;
    }
    let numbers = std::env::var("NUMBERS").unwrap();
    let numbers: Vec<i32> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    let next = |number: i32| {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
    };
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = options.create().unwrap();
        // the threads that this takes have their numbers then
        tree.spawn(Command::new("true")).unwrap().wait().unwrap();
        next(numbers[0]);
        let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        assert_eq!(child.pid(), numbers[0], "the number that it was to have");
        next(numbers[1]);
        let mut stranger = StdCommand::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(stranger.id() as i32, numbers[1], "the number that it was to have");
        tree.signal(Signal::WINCH).unwrap();
        let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
        assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
        drop(tree);
        assert_eq!(stranger.try_wait().unwrap(), None, "a stranger was hit");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

/// Whoever is asked to end does, by the signal and not by SIGKILL, wherever its number can be had.
#[test]
fn everybody_is_asked_in_a_cgroup() {
    if let Some(why) = ProcessTree::new().unwrap().without_cgroup_because() {
        return println!("SKIPPED: no cgroup: {why}");
    }
    in_places("asked_in_a_cgroup", &[OUTER_PROC, OUTER_PROC_ALONE, NO_PROC]);
}

#[test]
#[ignore = "a scenario of everybody_is_asked_in_a_cgroup"]
fn asked_in_a_cgroup() {
    if !is_alone() {
        return;
    }
    let tree = ProcessTree::new().unwrap();
    assert!(tree.without_cgroup_because().is_none(), "{:?}", tree.without_cgroup_because());
    spawn_ready(
        &tree,
        "setsid sh -c 'trap \"exit 0\" TERM; echo; while :; do sleep 0.01; done' & wait",
    );
    assert!(tree.members().unwrap().len() >= 2);
    let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
    assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
}

/// A command that was to end in time has ended when that is said.
#[test]
fn a_command_ends_in_time_without_proc() {
    if !has_namespaces() {
        return;
    }
    for place in [NO_PROC, NO_PROC_ALONE, OUTER_PROC, OUTER_PROC_ALONE] {
        for mechanism in [&[][..], &["--no-cgroup"]] {
            let program = env!("CARGO_BIN_EXE_proctable");
            let exec = [&[program, "exec", "--timeout", "0.2", "--grace", "1"], mechanism].concat();
            // the pipe closes once all who have it have ended
            let script = "sleep 1000 & exec sleep 1001";
            let words = [place, &exec, &["--summary", "--", "sh", "-c", script]].concat();
            let begin = Instant::now();
            let output = StdCommand::new(words[0]).args(&words[1..]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(124), "{words:?}: {said}");
            assert!(begin.elapsed() < SOON, "{words:?}: {said}");
            assert!(said.contains("SIGTERM"), "{words:?}: {said}");
            // who cannot be looked for is not said to be gone
            let blind = said.contains("direct children alone");
            assert_eq!(blind, said.contains("others may be left"), "{words:?}: {said}");
        }
    }
}

/// A cgroup of the test's own, removed with what is below it.
struct Folder(std::path::PathBuf);

impl Folder {
    /// `None`, with a visible line, if there can be none.
    fn new(name: &str) -> Option<Folder> {
        let tree = ProcessTree::new().unwrap();
        let Mechanism::Cgroup(own) = tree.mechanism() else {
            println!("SKIPPED: no cgroup: {}", tree.without_cgroup_because().unwrap());
            return None;
        };
        let parent = own.parent().unwrap();
        let folder = parent.join(format!("places-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Some(Folder(folder))
    }

    /// The command that runs something in it, after that script, in which it is `$0`.
    fn place<'a>(&'a self, script: &'a str) -> [&'a str; 4] {
        ["sh", "-c", script, self.0.to_str().unwrap()]
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let below = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        below.for_each(|entry| drop(std::fs::remove_dir(entry.path())));
        until("nobody is in it", || std::fs::remove_dir(&self.0).is_ok());
    }
}

/// A tree has a cgroup only if children can enter it; else it is looked after in another way, and
/// the preflight says so.
#[test]
fn a_cgroup_that_cannot_be_entered_is_no_containment() {
    if !has_namespaces() {
        return;
    }
    let user = "exec setpriv --reuid=65534 --regid=65534 --clear-groups env \\
        PATH=/usr/sbin:/usr/bin:/sbin:/bin \"$@\"";
    let enter = "echo $$ > $0/cgroup.procs || exit 1";
    let places = [
        // delegated without its cgroup.procs
        ("undelegated", format!("chown 65534 $0; {enter}; {user}")),
        // threaded itself, or the domain of threads
        ("threaded", format!("echo threaded > $0/cgroup.type && {enter}; exec \"$@\"")),
        ("domain", format!("mkdir $0/t; echo threaded > $0/t/cgroup.type && {enter}; exec \"$@\"")),
    ];
    for (name, script) in &places {
        let Some(folder) = Folder::new(name) else { return };
        alone_here("linux::places::without_an_entrance", &folder.place(script));
    }
}

#[test]
#[ignore = "a scenario of a_cgroup_that_cannot_be_entered_is_no_containment"]
fn without_an_entrance() {
    if !is_alone() {
        return;
    }
    let told = proctable::driver::linux::preflight();
    println!("{}", told.to_string().lines().next().unwrap());
    let tree = ProcessTree::new().unwrap();
    assert_eq!(tree.mechanism(), Mechanism::Scan);
    assert!(told.cgroup.is_err() && told.guardian.is_err(), "{told}");
    spawn_ready(&tree, FAMILY);
    assert!(tree.members().unwrap().len() >= 9);
    let shutdown = tree.kill().unwrap();
    assert!(shutdown.survivors.is_empty() && shutdown.unseen.is_none(), "{shutdown:?}");
}

/// Members may make threaded cgroups in theirs.
#[test]
fn members_in_threaded_cgroups_are_members() {
    let tree = ProcessTree::new().unwrap();
    let Mechanism::Cgroup(folder) = tree.mechanism() else {
        return println!("SKIPPED: no cgroup: {}", tree.without_cgroup_because().unwrap());
    };
    let cg = folder.display();
    let script = format!(
        "mkdir {cg}/t && echo threaded > {cg}/t/cgroup.type; \
         sh -c 'echo 0 > {cg}/t/cgroup.threads; echo; exec >&-; exec sleep 1000' & wait"
    );
    spawn_ready(&tree, &script);
    assert_eq!(tree.members().unwrap().len(), 2);
    let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
    assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
    drop(tree);
    assert!(!folder.exists());
}
