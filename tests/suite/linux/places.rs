//! Places where people run this that are not like an ordinary machine: what holds there holds, and
//! what does not is said. Each row of the table in docs/CONTAINMENT.md is one of these.
#![allow(unsafe_code)]

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

/// The /proc of another namespace shows other processes for the same numbers: none of them counts
/// as a member.
#[test]
fn the_numbers_of_another_namespace_reach_no_unrelated_process() {
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
#[ignore = "a scenario of the_numbers_of_another_namespace_reach_no_unrelated_process"]
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
        let mut unrelated = StdCommand::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(unrelated.id() as i32, numbers[1], "the number that it was to have");
        tree.signal(Signal::WINCH).unwrap();
        let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
        assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
        drop(tree);
        assert_eq!(unrelated.try_wait().unwrap(), None, "an unrelated process was hit");
        unrelated.kill().unwrap();
        unrelated.wait().unwrap();
    }
}

/// A process that receives the signal to end does so, by the signal and not by SIGKILL, wherever
/// its number can be had.
#[test]
fn all_members_of_a_cgroup_receive_the_signal() {
    if let Some(why) = ProcessTree::new().unwrap().without_cgroup_because() {
        return println!("SKIPPED: no cgroup: {why}");
    }
    in_places("asked_in_a_cgroup", &[OUTER_PROC, OUTER_PROC_ALONE, NO_PROC]);
}

#[test]
#[ignore = "a scenario of all_members_of_a_cgroup_receive_the_signal"]
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
            // the pipe closes once all processes that have it have ended. Without any look at
            // descendants the signal reaches the command's group
            let script = match has_group_signals() {
                true => "sleep 1000 & exec sleep 1001",
                false => "exec sleep 1001",
            };
            let words = [place, &exec, &["--summary", "--", "sh", "-c", script]].concat();
            let begin = Instant::now();
            let output = StdCommand::new(words[0]).args(&words[1..]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(124), "{words:?}: {said}");
            assert!(begin.elapsed() < SOON, "{words:?}: {said}");
            assert!(said.contains("SIGTERM"), "{words:?}: {said}");
            // a process that cannot be looked for is not reported as gone
            let blind = said.contains("direct children alone");
            assert_eq!(blind, said.contains("others may be left"), "{words:?}: {said}");
        }
    }
}

/// A cgroup of the test's own, removed with what is below it.
struct Directory(std::path::PathBuf);

impl Directory {
    /// `None`, with a visible line, if there can be none.
    fn new(name: &str) -> Option<Directory> {
        let tree = ProcessTree::new().unwrap();
        let Mechanism::Cgroup(own) = tree.mechanism() else {
            println!("SKIPPED: no cgroup: {}", tree.without_cgroup_because().unwrap());
            return None;
        };
        let parent = own.parent().unwrap();
        let directory = parent.join(format!("places-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        Some(Directory(directory))
    }

    /// The command that runs something in it, after that script, in which it is `$0`.
    fn place<'a>(&'a self, script: &'a str) -> [&'a str; 4] {
        ["sh", "-c", script, self.0.to_str().unwrap()]
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let below = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        below.for_each(|entry| drop(std::fs::remove_dir(entry.path())));
        until("it has no members", || std::fs::remove_dir(&self.0).is_ok());
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
        let Some(directory) = Directory::new(name) else { return };
        alone_here("linux::places::without_an_entrance", &directory.place(script));
    }
}

#[test]
#[ignore = "a scenario of a_cgroup_that_cannot_be_entered_is_no_containment"]
fn without_an_entrance() {
    if !is_alone() {
        return;
    }
    let told = proctable::drivers::linux::preflight();
    println!("{}", told.to_string().lines().next().unwrap());
    let tree = ProcessTree::new().unwrap();
    assert_eq!(tree.mechanism(), Mechanism::Scan);
    assert!(told.cgroup.is_err() && told.guardian.is_err(), "{told}");
    spawn_ready(&tree, FAMILY);
    until("all are found", || tree.members().unwrap().len() >= 9);
    let shutdown = tree.kill().unwrap();
    assert!(shutdown.survivors.is_empty() && shutdown.unseen.is_none(), "{shutdown:?}");
    // the program tries the cgroup with its command: then it does without
    let said = program::proctable(&["exec", "--summary", "--", "true"]).output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(0), "{text}");
    assert!(text.contains("; scan (no cgroup: "), "{text}");
}

/// A child that has entered one cgroup proves it for others in the same place, as long as nothing
/// is changed there: here the owner becomes a user who may make cgroups and not enter them.
#[test]
fn an_entry_is_proved_again_after_a_change() {
    if !has_namespaces() {
        return;
    }
    let Some(directory) = Directory::new("changed") else { return };
    let script = "chown 65534 $0; echo $$ > $0/cgroup.procs || exit 1; exec \"$@\"";
    alone_here("linux::places::becoming_a_user", &directory.place(script));
}

#[test]
#[ignore = "a scenario of an_entry_is_proved_again_after_a_change"]
fn becoming_a_user() {
    if !is_alone() {
        return;
    }
    for _ in 0..2 {
        let tree = ProcessTree::new().unwrap();
        assert!(matches!(tree.mechanism(), Mechanism::Cgroup(_)), "{:?}", tree.mechanism());
        let child = tree.spawn(Command::new("true")).unwrap();
        assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
    }
    // SAFETY: plain calls, for all threads
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
    }
    let tree = ProcessTree::new().unwrap();
    assert_eq!(tree.mechanism(), Mechanism::Scan);
    let why = tree.without_cgroup_because().unwrap().to_string();
    assert!(why.contains("no entry"), "{why}");
    let child = tree.spawn(Command::new("true")).unwrap();
    assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
}

/// Members may make threaded cgroups in theirs.
#[test]
fn members_in_threaded_cgroups_are_members() {
    let tree = ProcessTree::new().unwrap();
    let Mechanism::Cgroup(directory) = tree.mechanism() else {
        return println!("SKIPPED: no cgroup: {}", tree.without_cgroup_because().unwrap());
    };
    let cg = directory.display();
    let script = format!(
        "mkdir {cg}/t && echo threaded > {cg}/t/cgroup.type; \
         sh -c 'echo 0 > {cg}/t/cgroup.threads; echo; exec >&-; exec sleep 1000' & wait"
    );
    spawn_ready(&tree, &script);
    assert_eq!(tree.members().unwrap().len(), 2);
    let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
    assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
    drop(tree);
    assert!(!directory.exists());
}

/// A place: what it is called in docs/CONTAINMENT.md, what keeps trees together in it at best, and
/// without a cgroup, and the command that runs something there.
struct Place {
    name: &'static str,
    best: &'static str,
    without_cgroup: &'static str,
    by: Vec<String>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// In a private mount namespace, after that script, and as the user that `by` makes it.
fn mounted(script: &str, by: &[&str]) -> Vec<String> {
    let script = format!("{script} || exit 1; exec \"$@\"");
    [words(&["unshare", "--mount", "sh", "-c", &script, "sh"]), words(by)].concat()
}

const NO_ADMIN: &[&str] = &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"];

/// A /proc that lies: it is no proc file system, and says what a process would look for. `exec`
/// keeps the number of the shell.
const FAKE: &str = "mount -t tmpfs tmp /proc && mkdir -p /proc/$$/ns /proc/1 && \
    ln -s $$ /proc/self && touch /proc/1/stat && \
    printf 'NSpid:\\t%s\\n' $$ > /proc/$$/status && echo 0::/ > /proc/$$/cgroup && \
    echo '1 1 0:1 / / rw - cgroup2 cgroup2 rw' > /proc/$$/mountinfo";

fn places(user: &[&str]) -> Vec<Place> {
    let proc = |options: &str| format!("mount -t proc -o {options} proc /proc");
    let inner = ["unshare", "--pid", "--fork", "--kill-child"];
    let own = [&inner[..], &["--mount-proc", "--"]].concat();
    let user_namespace =
        [user, &["unshare", "-U", "-r", "-p", "-f", "--kill-child", "--"]].concat();
    let read_only = "awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts | \\
        while read -r place; do mount -o remount,bind,ro $place || exit 1; done";
    let place = |name, best, without_cgroup, by| Place { name, best, without_cgroup, by };
    vec![
        place("container with its own /proc, process 1", "cgroup", "scan", words(&own)),
        place("container without, root", "cgroup", "scan", words(OUTER_PROC)),
        place("container without, no mounts", "cgroup", "children", words(OUTER_PROC_ALONE)),
        place("container without, user namespace", "children", "children", words(&user_namespace)),
        place("no /proc, root", "cgroup", "scan", words(NO_PROC)),
        place("no /proc, no mounts", "children", "children", words(NO_PROC_ALONE)),
        place("another file system, root", "cgroup", "scan", mounted(FAKE, &[])),
        place("another file system, no mounts", "children", "children", mounted(FAKE, NO_ADMIN)),
        place("subset=pid", "cgroup", "scan", mounted(&proc("subset=pid"), &[])),
        place("hidepid=1", "scan", "scan", mounted(&proc("hidepid=1"), user)),
        place("hidepid=2", "scan", "scan", mounted(&proc("hidepid=2"), user)),
        place("hidepid=4", "scan", "scan", mounted(&proc("hidepid=4"), user)),
        place("cgroup read-only", "scan", "scan", mounted(read_only, &[])),
        place("ordinary user", "scan", "scan", words(user)),
    ]
}

/// What the table in docs/CONTAINMENT.md says of each place.
#[test]
fn each_place_has_what_is_said_of_it() {
    if !has_namespaces() {
        return;
    }
    let Some(user) = ordinary_user() else { return };
    for place in places(&user) {
        let can = StdCommand::new(&place.by[0]).args(&place.by[1..]).arg("true").output().unwrap();
        if !can.status.success() {
            let why = String::from_utf8_lossy(&can.stderr);
            println!("SKIPPED: {}: {}", place.name, why.trim());
            continue;
        }
        println!("{}:", place.name);
        let expected = format!("PLACE={} {}", place.best, place.without_cgroup);
        let by: Vec<&str> = place.by.iter().map(String::as_str).chain(["env", &expected]).collect();
        alone_here("linux::places::as_is_said", &by);
    }
}

fn kind(tree: &ProcessTree) -> &'static str {
    match tree.mechanism() {
        Mechanism::Cgroup(_) => "cgroup",
        Mechanism::Scan => "scan",
        Mechanism::Children => "children",
    }
}

#[test]
#[ignore = "a scenario of each_place_has_what_is_said_of_it"]
fn as_is_said() {
    if !is_alone() {
        return;
    }
    let expected = std::env::var("PLACE").unwrap();
    let (best, without_cgroup) = expected.split_once(' ').unwrap();
    let told = proctable::drivers::linux::preflight();
    for (options, expected) in
        [(Options::new(), best), (Options::new().without_cgroup(), without_cgroup)]
    {
        let tree = options.create().unwrap();
        let seen = kind(&tree);
        println!("    {seen}: {:?}", tree.without_look_because().or(tree.without_cgroup_because()));
        // where there are no cgroups at all, or a user has some
        let excused = match seen {
            "cgroup" => expected == "scan" && told.cgroup.is_ok(),
            other => expected == "cgroup" && other == without_cgroup && told.cgroup.is_err(),
        };
        assert!(seen == expected || excused, "{seen} instead of {expected}: {told}");
        ends_all_it_reaches(&tree, &told);
    }
    assert_eq!(told.cgroup.is_ok(), kind(&ProcessTree::new().unwrap()) == "cgroup", "{told}");
    assert_eq!(told.proc.is_ok(), without_cgroup != "children", "{told}");
}

/// The end of the input of a pipe, once all processes that can write to it have ended.
fn closed(mut pipe: std::fs::File) -> bool {
    let (sender, ended) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || sender.send(pipe.read_to_end(&mut Vec::new()).is_ok()));
    ended.recv_timeout(SOON).unwrap_or(false)
}

fn ends_all_it_reaches(tree: &ProcessTree, told: &proctable::drivers::linux::Preflight) {
    let is_blind = kind(tree) == "children";
    let script = match is_blind {
        false => FAMILY,
        // in its group, or alone
        true if told.groups.is_ok() => "sleep 1000 & echo; wait",
        true => "echo; exec sleep 1000",
    };
    // a survivor must not keep the pipe open whose end says that this is over
    let command = sh(script).stdout(Stdio::Piped).stderr(Stdio::Null);
    let child = tree.spawn(command).unwrap();
    let mut output = child.take_stdout().unwrap();
    output.read_exact(&mut [0]).unwrap();
    let members = || tree.members().unwrap().len();
    until("all are found", || if is_blind { members() == 1 } else { members() >= 9 });
    until("all are counted", || tree.stats().unwrap().processes == members());
    let shutdown = tree.shutdown(Signal::TERM, Duration::from_millis(50)).unwrap();
    assert!(shutdown.survivors.is_empty(), "{shutdown:?}");
    assert_eq!(shutdown.unseen.is_some(), is_blind, "{shutdown:?}");
    assert!(child.wait().unwrap().term_signal().is_some());
    assert!(closed(output), "a process lives");
}

/// A set-uid program is hidden from its user (hidepid), and yet ends with the tree.
#[test]
fn a_hidden_child_is_reached_by_its_descriptor() {
    if !has_namespaces() {
        return;
    }
    let Some(user) = ordinary_user() else { return };
    let directory = std::env::temp_dir().join(format!("proctable-hidden-{}", std::process::id()));
    let program = directory.join("sleep");
    let setup = format!(
        "mkdir -m 755 {0} && cp \"$(command -v sleep)\" {1} && chmod 4755 {1}",
        directory.display(),
        program.display()
    );
    assert!(StdCommand::new("sh").args(["-c", &setup]).status().unwrap().success());
    for mode in [1, 2, 4] {
        let script = format!("mount -t proc -o hidepid={mode} proc /proc");
        let path = format!("HIDDEN={}", program.display());
        let by = mounted(&script, &[&user[..], &["env", &path]].concat());
        let by: Vec<&str> = by.iter().map(String::as_str).collect();
        alone_here("linux::places::a_hidden_child", &by);
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
#[ignore = "a scenario of a_hidden_child_is_reached_by_its_descriptor"]
fn a_hidden_child() {
    if !is_alone() {
        return;
    }
    let tree = Options::new().without_cgroup().create().unwrap();
    // if it survives it must not keep the pipe open whose end tells that this is over
    let hidden = Command::new(std::env::var("HIDDEN").unwrap()).arg("1000");
    let child = tree.spawn(hidden.stdout(Stdio::Null).stderr(Stdio::Null)).unwrap();
    let pid = child.pid();
    if std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok() {
        println!("SKIPPED: it is not hidden: set-uid programs are not obeyed there");
    } else {
        assert_eq!(tree.members().unwrap()[0].command, "?");
    }
    assert_eq!(tree.members().unwrap().len(), 1);
    let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
    assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
    assert_eq!(child.wait(), Ok(WaitStatus::killed(Signal::TERM, false)));
}

/// A process that cannot read the id of the boot takes no living owner for a dead one.
#[test]
fn a_sweep_that_cannot_tell_the_boot_ends_no_process() {
    if !has_namespaces() {
        return;
    }
    let tree = ProcessTree::new().unwrap();
    let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
    let program = env!("CARGO_BIN_EXE_proctable");
    let places = [
        (mounted("mount -t proc -o subset=pid proc /proc", &[program, "sweep"]), Some(0)),
        (mounted("umount -l /proc", &[program, "sweep"]), Some(0)),
        // no reader can tell which owners live
        (mounted("umount -l /proc", &[NO_ADMIN, &[program, "sweep"]].concat()), Some(125)),
        ([words(OUTER_PROC_ALONE), words(&[program, "sweep"])].concat(), Some(125)),
    ];
    for (by, code) in places {
        let output = StdCommand::new(&by[0]).args(&by[1..]).output().unwrap();
        assert_eq!(output.status.code(), code, "{by:?} {output:?}");
        assert!(is_there(child.pid()), "{by:?} {output:?}");
    }
}

/// Filters of system calls, as containers have them, and what is left then.
#[test]
fn a_filter_of_descriptors_is_reported() {
    for scenario in ["without_opening", "without_waiting", "without_signals"] {
        for errno in ["ENOSYS", "EPERM"] {
            let errno = format!("ERRNO={errno}");
            alone_here(&format!("linux::places::{scenario}"), &["env", &errno]);
        }
    }
}

fn errno() -> i32 {
    if std::env::var("ERRNO").unwrap() == "EPERM" { libc::EPERM } else { libc::ENOSYS }
}

/// pidfd_open: a cgroup is killed as a whole; without one it is the children alone.
#[test]
#[ignore = "a scenario of a_filter_of_descriptors_is_reported"]
fn without_opening() {
    if !is_alone() {
        return;
    }
    spawn::forbid(&spawn::refuse(libc::SYS_pidfd_open, 0, errno()));
    let told = proctable::drivers::linux::preflight();
    assert!(told.pidfds.is_err(), "{told}");
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = options.create().unwrap();
        assert_ne!(kind(&tree), "scan");
        // one that only the end of the whole cgroup reaches, or of the group
        let deaf = "sh -c 'trap \"\" TERM; echo; while :; do sleep 0.01; done' & wait";
        let has_both = kind(&tree) == "cgroup" || has_group_signals();
        let script = if has_both { deaf } else { "echo; exec sleep 1000" };
        let child = tree.spawn(sh(script).stdout(Stdio::Piped)).unwrap();
        let mut output = child.take_stdout().unwrap();
        output.read_exact(&mut [0]).unwrap();
        let shutdown = tree.shutdown(Signal::TERM, Duration::from_millis(50)).unwrap();
        assert_eq!(shutdown.killed, has_both, "{shutdown:?}");
        assert!(shutdown.survivors.is_empty() && shutdown.unseen.is_some(), "{shutdown:?}");
        assert_eq!(child.wait(), Ok(WaitStatus::killed(Signal::TERM, false)));
        assert!(closed(output), "a process lives");
    }
}

fn has_group_signals() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 9)
}

/// waitid for a descriptor: it is for the child's number then.
#[test]
#[ignore = "a scenario of a_filter_of_descriptors_is_reported"]
fn without_waiting() {
    if !is_alone() {
        return;
    }
    // P_PIDFD is 3, P_PID 1
    spawn::forbid(&spawn::refuse(libc::SYS_waitid, 2, errno()));
    for tree in trees() {
        let child = tree.spawn(sh("exit 3")).unwrap();
        assert_eq!(child.wait(), Ok(WaitStatus::exited(3)));
        let refused = tree.spawn(Command::new("/no/such/program")).unwrap_err();
        assert_eq!(refused.step, Step::Exec, "{refused}");
        spawn_ready(&tree, FAMILY);
        let shutdown = tree.kill().unwrap();
        assert!(shutdown.survivors.is_empty() && shutdown.unseen.is_none(), "{shutdown:?}");
    }
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children, "", "zombies");
}

/// pidfd_send_signal: there are no trees, as a signal by a number could reach an unrelated process.
#[test]
#[ignore = "a scenario of a_filter_of_descriptors_is_reported"]
fn without_signals() {
    if !is_alone() {
        return;
    }
    spawn::forbid(&spawn::refuse(libc::SYS_pidfd_send_signal, 0, errno()));
    let error = ProcessTree::new().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("pidfd_send_signal"), "{error}");
    assert!(proctable::drivers::linux::preflight().pidfds.is_err());
}
