//! Orphans of a process 1 or a subreaper are reaped soon, and no other child is.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command as StdCommand, Stdio as StdStdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proctable::drivers::linux::{Reaper, Unproved};

use super::*;

/// How many orphans there are in the tests of the suite; `PROCTABLE_ORPHANS` asks for more.
fn orphans() -> u64 {
    let asked = std::env::var("PROCTABLE_ORPHANS").ok();
    let usual = if std::process::id() == 1 { 20_000 } else { 4_000 };
    asked.and_then(|orphans| orphans.parse().ok()).unwrap_or(usual)
}

/// A process that makes orphans: the given number, two levels below it, and ends with their number
/// in its output. Each child forks, and ends before its own child does.
const FORKER: &str = "linux::reaper::making_orphans";

#[test]
#[ignore = "what the other tests of orphans start"]
fn making_orphans() {
    if !is_alone() {
        return;
    }
    let count: u64 = std::env::var("COUNT").unwrap().parse().unwrap();
    for nth in 0..count {
        // SAFETY: a process with one thread; the children make nothing but system calls
        unsafe {
            let child = libc::fork();
            if child == 0 {
                // every other in a session of its own
                if nth % 2 == 1 {
                    libc::setsid();
                }
                if libc::fork() == 0 && nth % 4 < 2 {
                    // it lives on for a moment after its parent
                    libc::usleep((nth % 64) as u32 * 50);
                }
                libc::_exit(0);
            }
            if child < 0 {
                // too many at a time
                libc::usleep(1000);
                continue;
            }
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
}

fn forker(count: u64) -> StdCommand {
    let mut command = StdCommand::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", FORKER, "--ignored", "--test-threads=1"])
        .env("PROCTABLE_ALONE", "1")
        .env("COUNT", count.to_string())
        .stdout(StdStdio::null());
    command
}

/// How long orphans are zombies.
#[derive(Default)]
struct Ages {
    /// Since when.
    seen: std::collections::HashMap<(i32, String), Instant>,
    looks: u64,
    longest: Duration,
    /// The longest look: a process that is a zombie at its end may have ended after its begin, from
    /// which its age counts.
    longest_look: Duration,
    /// How late a thread was that only slept, on a machine that others use, too.
    lateness: Duration,
}

impl Ages {
    fn look(&mut self, is_own: impl Fn(i32) -> bool) {
        let now = Instant::now();
        self.looks += 1;
        let before = std::mem::take(&mut self.seen);
        for pid in orphans::children() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if !stat.contains(") Z ") || is_own(pid) {
                continue;
            }
            let started = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().to_owned();
            let zombie = (pid, started);
            let first = before.get(&zombie).copied().unwrap_or(now);
            self.longest = self.longest.max(now - first);
            self.seen.insert(zombie, first);
        }
        self.longest_look = self.longest_look.max(now.elapsed());
    }

    fn sleep(&mut self) {
        const LOOK: Duration = Duration::from_millis(2);
        let begin = Instant::now();
        std::thread::sleep(LOOK);
        self.lateness = self.lateness.max(begin.elapsed() - LOOK);
    }

    /// What is promised where the reaper gets a CPU. Where others have it, a thread that only slept
    /// tells how late each wait for one may be, and a zombie's age has several in it: the reaper's
    /// sleep, each preemption in its look, and those of the look at the ages.
    fn check(&self) {
        const PROMISED: Duration = Duration::from_millis(100);
        let allowed = PROMISED + 10 * self.lateness + self.longest_look;
        assert!(self.longest < allowed, "{:?} of {allowed:?}", self.longest);
    }
}

/// Children of the standard library and of tokio come and go at the same time, with statuses that
/// tell them apart. Some are waited for only when they have been zombies for a while.
fn spawn_with_std(reaper: &Reaper, over: &AtomicBool) -> u64 {
    let mut waited = 0;
    while !over.load(Ordering::Relaxed) || waited == 0 {
        let mut children = Vec::new();
        for code in 0..8 {
            let creating = reaper.creating();
            let child =
                StdCommand::new("sh").args(["-c", &format!("exit {code}")]).spawn().unwrap();
            creating.created(child.id());
            children.push((code, child));
        }
        // zombies for a while
        std::thread::sleep(Duration::from_millis(5 + waited % 3 * 20));
        for (code, mut child) in children {
            assert_eq!(child.wait().unwrap().code(), Some(code), "a status was stolen");
            waited += 1;
        }
    }
    waited
}

fn spawn_with_tokio(reaper: &Reaper, over: &AtomicBool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut waited = 0;
        while !over.load(Ordering::Relaxed) || waited == 0 {
            let mut children = Vec::new();
            for code in 0..8 {
                let creating = reaper.creating();
                let mut command = tokio::process::Command::new("sh");
                let child = command.args(["-c", &format!("exit {code}")]).spawn().unwrap();
                creating.created(child.id().unwrap());
                children.push((code, child));
            }
            for (code, mut child) in children {
                assert_eq!(child.wait().await.unwrap().code(), Some(code), "a status was stolen");
                waited += 1;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        waited
    })
}

fn spawn_in_a_tree(over: &AtomicBool) -> u64 {
    let tree = ProcessTree::new().unwrap();
    let mut waited = 0;
    while !over.load(Ordering::Relaxed) || waited == 0 {
        let children: Vec<_> = (0..8)
            .map(|code| tree.spawn(sh(&format!("(true &) ; exit {code}"))).unwrap())
            .collect();
        // zombies for a while, as no code has waited for them
        std::thread::sleep(Duration::from_millis(5 + waited % 3 * 20));
        for (code, child) in (0..8).zip(children) {
            assert_eq!(child.wait(), Ok(WaitStatus::exited(code)), "a status was stolen");
            waited += 1;
        }
    }
    waited
}

/// A panic ends the work of the others.
struct End<'a>([&'a AtomicBool; 2]);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0[0].store(true, Ordering::Relaxed);
            self.0[1].store(false, Ordering::Relaxed);
        }
    }
}

/// Runs a scenario as process 1 of a namespace.
fn as_process_1(scenario: &str) {
    if !is_root() {
        return println!("SKIPPED: a pid namespace needs root");
    }
    alone_here(scenario, &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
}

#[test]
fn process_1_has_no_old_zombies_and_steals_no_status() {
    as_process_1("linux::reaper::many_orphans");
}

/// The same without root, as a subreaper.
#[test]
fn a_subreaper_has_no_old_zombies_and_steals_no_status() {
    as_ordinary_user("linux::reaper::many_orphans");
}

#[test]
#[ignore = "a scenario of process_1_has_no_old_zombies_and_steals_no_status; with PROCTABLE_ORPHANS=1000000 it takes minutes"]
fn many_orphans() {
    if !is_alone() {
        return;
    }
    let (count, begin) = (orphans(), Instant::now());
    let reaper = Reaper::new(Unproved::Reap).unwrap();
    let (over, looking) = (&AtomicBool::new(false), &AtomicBool::new(true));
    let reaper = &reaper;
    // more of them keep a busy machine busy with this
    let threads = std::env::var("PROCTABLE_FORKERS").map_or(2, |threads| threads.parse().unwrap());
    let own = std::sync::Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        // a failure is one of all
        let spawning = |spawn: &dyn Fn() -> u64| {
            let _end = End([over, looking]);
            spawn()
        };
        let _end = End([over, looking]);
        let std = scope.spawn(move || spawning(&|| spawn_with_std(reaper, over)));
        let tokio = scope.spawn(move || spawning(&|| spawn_with_tokio(reaper, over)));
        let tree = scope.spawn(move || spawning(&|| spawn_in_a_tree(over)));
        let ages = scope.spawn(|| {
            // a child of this process is a shell that has exited with a code, or a forker; an
            // orphan has no program of its own, or `true`
            let is_own = |pid| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                name.trim() == "sh" || own.lock().unwrap().contains(&pid)
            };
            let mut ages = Ages::default();
            while looking.load(Ordering::Relaxed) {
                ages.look(is_own);
                ages.sleep();
            }
            ages
        });
        let forkers: Vec<_> = (0..threads)
            .map(|_| {
                let creating = reaper.creating();
                let forker = forker(count / threads).spawn().unwrap();
                own.lock().unwrap().insert(forker.id() as i32);
                creating.created(forker.id());
                forker
            })
            .collect();
        for mut forker in forkers {
            assert_eq!(forker.wait().unwrap().code(), Some(0), "a status was stolen");
        }
        let took = begin.elapsed();
        over.store(true, Ordering::Relaxed);
        let (std, tokio, tree) = (std.join().unwrap(), tokio.join().unwrap(), tree.join().unwrap());
        until("all are reaped", || reaper.reaped() >= count);
        looking.store(false, Ordering::Relaxed);
        let ages = ages.join().unwrap();
        println!(
            "{} orphans reaped in {took:.1?} ({:.0} a second) as process {}; children waited for: \
             std {std}, tokio {tokio}, tree {tree}; 0 statuses stolen; the oldest zombie in {} \
             looks: {:.1?}; a thread that slept was late by at most {:.1?}",
            reaper.reaped(),
            count as f64 / took.as_secs_f64(),
            std::process::id(),
            ages.looks,
            ages.longest,
            ages.lateness,
        );
        ages.check();
    });
    until("no process is left", || orphans::children().is_empty());
}

/// An orphan below a shell that has ended; its number. It ends at once.
///
/// Not before the shell: that would reap it (dash waits for all ended children before each
/// command).
fn orphan(leads: bool) -> (std::process::Child, i32) {
    let mut command = StdCommand::new("sh");
    // a background command's own input is /dev/null
    command.args(["-c", "exec 3<&0; (cat <&3 >/dev/null & echo $!)"]);
    command.stdout(StdStdio::piped()).stdin(StdStdio::piped());
    if leads {
        // SAFETY: a system call and nothing else
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                Ok(())
            });
        }
    }
    let mut shell = command.spawn().unwrap();
    let mut line = String::new();
    let mut output = io::BufReader::new(shell.stdout.take().unwrap());
    io::BufRead::read_line(&mut output, &mut line).unwrap();
    await_end(shell.id());
    drop(shell.stdin.take());
    (shell, line.trim().parse().unwrap())
}

/// Waits until a child has ended, or other code has reaped it, and leaves it.
fn await_end(pid: u32) {
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: zeroes are valid, and the kernel fills it
    while unsafe { libc::waitid(libc::P_PID, pid, &mut core::mem::zeroed(), options) } != 0 {
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            errno => return assert_eq!(errno, Some(libc::ECHILD)),
        }
    }
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Without a word of the owner only processes that cannot be its children are reaped.
#[test]
fn a_possible_child_is_left_alone() {
    alone_here("linux::reaper::in_doubt", &[]);
    as_process_1("linux::reaper::in_doubt");
}

#[test]
#[ignore = "a scenario of a_possible_child_is_left_alone"]
fn in_doubt() {
    if !is_alone() {
        return;
    }
    let reaper = Reaper::new(Unproved::Leave).unwrap();
    let mut zombie = StdCommand::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let (mut leader, proved) = orphan(true);
    let (mut shell, doubtful) = orphan(false);
    let is_gone = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    until("the proved one is reaped", || is_gone(proved) && reaper.reaped() == 1);
    until("they are zombies", || is_zombie(zombie.id() as i32) && is_zombie(doubtful));
    // a zombie after them is found all the same
    let (mut other, proved) = orphan(true);
    until("it is reaped", || is_gone(proved) && reaper.reaped() == 2);
    assert!(is_zombie(zombie.id() as i32) && is_zombie(doubtful));
    for (child, code) in [(&mut zombie, 3), (&mut leader, 0), (&mut shell, 0), (&mut other, 0)] {
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    drop(reaper);
    // the owner knows that it is none of its own
    let asked = std::sync::Arc::new(AtomicU64::new(0));
    let (about, told) = (asked.clone(), doubtful);
    let _reaper = Reaper::new(Unproved::Ask(Box::new(move |zombie| {
        about.fetch_add(1, Ordering::Relaxed);
        zombie.pid == told
    })))
    .unwrap();
    until("it is reaped", || is_gone(doubtful));
    assert!(asked.load(Ordering::Relaxed) >= 1);
}

/// A tree has the ends of its children before a reaper can take them away; but their numbers must
/// stay theirs, too, until a wait has returned them.
#[test]
fn a_trees_child_is_a_zombie_until_it_is_waited_for() {
    alone_here("linux::reaper::of_a_tree", &[]);
}

#[test]
#[ignore = "a scenario of a_trees_child_is_a_zombie_until_it_is_waited_for"]
fn of_a_tree() {
    if !is_alone() {
        return;
    }
    let reaper = Reaper::new(Unproved::Reap).unwrap();
    for tree in trees() {
        let child = tree.spawn(sh("exit 7")).unwrap();
        until("it has ended", || is_zombie(child.pid()));
        // each is found by a look that begins after the child's end
        for _ in 0..3 {
            let before = reaper.reaped();
            let creating = reaper.creating();
            let (mut shell, _) = orphan(false);
            creating.created(shell.id());
            shell.wait().unwrap();
            until("the orphan is reaped", || reaper.reaped() > before);
            assert!(is_zombie(child.pid()), "its number is free");
        }
        assert_eq!(child.wait(), Ok(WaitStatus::exited(7)));
    }
}

/// Without /proc, and with another namespace's: by waits and sessions alone.
#[test]
fn orphans_are_reaped_without_proc() {
    if !is_root() {
        return println!("SKIPPED: a pid namespace needs root");
    }
    // a process that may mount one has a /proc after all, aside
    let no_admin = "exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin -- \"$@\"";
    let unmount = format!("umount -l /proc; {no_admin}");
    for (proc, script) in
        [("--mount-proc", &*unmount), ("--mount", no_admin), ("--mount", "exec \"$@\"")]
    {
        alone_here(
            "linux::reaper::without_proc",
            &["unshare", "--pid", "--fork", "--kill-child", proc, "--", "sh", "-c", script, "sh"],
        );
    }
}

#[test]
#[ignore = "a scenario of orphans_are_reaped_without_proc"]
fn without_proc() {
    if !is_alone() {
        return;
    }
    let reaper = Reaper::new(Unproved::Reap).unwrap();
    // it lies in front of all others
    let creating = reaper.creating();
    let mut first = StdCommand::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    creating.created(first.id());
    let begin = Instant::now();
    for nth in 1..=50 {
        let creating = reaper.creating();
        let (mut shell, orphan) = orphan(nth % 2 == 0);
        creating.created(shell.id());
        assert_eq!(shell.wait().unwrap().code(), Some(0));
        // SAFETY: plain call
        let is_free = || unsafe { libc::kill(orphan, 0) } != 0;
        let begin = Instant::now();
        while !is_free() || reaper.reaped() != nth {
            let state = (orphan, is_free(), reaper.reaped(), nth);
            assert!(begin.elapsed() < SOON, "(number, free, reaped, expected): {state:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    println!("50 orphans one after the other behind a zombie: {:.1?}", begin.elapsed());
    assert_eq!(first.wait().unwrap().code(), Some(3));
}

/// A process that ignores SIGCHLD has no zombies, and its reaper nothing to do; it does no harm.
#[test]
fn an_owner_may_ignore_sigchld() {
    alone_here("linux::reaper::ignored", &[]);
}

#[test]
#[ignore = "a scenario of an_owner_may_ignore_sigchld"]
fn ignored() {
    if !is_alone() {
        return;
    }
    // SAFETY: no handler
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let reaper = Reaper::new(Unproved::Reap).unwrap();
    let (shell, orphan) = orphan(false);
    until("both are gone", || [shell.id() as i32, orphan].iter().all(|pid| !is_there(*pid)));
    until("no process is left", || orphans::children().is_empty());
    assert_eq!(reaper.reaped(), 0);
    // SAFETY: no handler
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let (mut shell, _) = self::orphan(false);
    let _ = shell.wait();
    until("one is reaped", || reaper.reaped() >= 1);
}

/// A tree's orphans are counted by their tree, whichever reaper reaps them.
#[test]
fn a_tree_counts_what_the_reaper_reaps() {
    alone_here("linux::reaper::counted", &[]);
}

#[test]
#[ignore = "a scenario of a_tree_counts_what_the_reaper_reaps"]
fn counted() {
    if !is_alone() {
        return;
    }
    let _reaper = Reaper::new(Unproved::Leave).unwrap();
    for tree in trees() {
        let before = tree.stats().unwrap().cpu.value;
        let busy = "i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done";
        let script = format!("(setsid env -i sh -c '{busy}' &)");
        tree.spawn(sh(&script)).unwrap().wait().unwrap();
        until("it is reaped", || orphans::children().is_empty());
        let used = tree.stats().unwrap().cpu.value - before;
        assert!(used > Duration::from_millis(5), "{used:?}");
    }
}

/// As in a container: orphans come from processes that are not of the command.
#[test]
fn the_program_reaps_as_process_1() {
    if !is_root() {
        return println!("SKIPPED: a pid namespace needs root");
    }
    let program = env!("CARGO_BIN_EXE_proctable");
    for words in [&["init"][..], &["exec"], &["exec", "--no-cgroup"]] {
        let mut container = StdCommand::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", program])
            .args(words)
            .args(["--", "sh", "-c", "echo; read -r line; exit 5"])
            .stdin(StdStdio::piped())
            .stdout(StdStdio::piped())
            .spawn()
            .unwrap();
        container.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let list = format!("/proc/{0}/task/{0}/children", container.id());
        let first = std::fs::read_to_string(list).unwrap();
        let first: i32 = first.trim().parse().unwrap();
        let orphans = "for i in 1 2 3; do (sleep 0.01 &); (setsid true &); done";
        let entered = StdCommand::new("nsenter")
            .args(["--target", &first.to_string(), "--pid", "--mount", "sh", "-c", orphans])
            .status()
            .unwrap();
        assert!(entered.success());
        let children = || {
            let list = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
            list.unwrap_or_default().split_whitespace().count()
        };
        until("only the command is left", || children() == 1);
        drop(container.stdin.take());
        assert_eq!(container.wait().unwrap().code(), Some(5), "{words:?}");
    }
}

/// What an init is beside that: its command's status, and its orphans where it is no process 1.
#[test]
fn init_has_the_status_of_its_command_and_reaps() {
    let program = env!("CARGO_BIN_EXE_proctable");
    let init = |args: &[&str]| {
        let mut command = StdCommand::new(program);
        command.arg("init").args(args).stdin(StdStdio::null()).stderr(StdStdio::null());
        command.status().unwrap()
    };
    assert_eq!(init(&["--", "sh", "-c", "exit 7"]).code(), Some(7));
    // no process 1: it dies of the signal itself
    assert_eq!(init(&["sh", "-c", "kill -KILL $$"]).signal(), Some(libc::SIGKILL));
    assert_eq!(init(&["--", "no-such-program-anywhere"]).code(), Some(127));
    assert_eq!(init(&["--", "/proc/version"]).code(), Some(126));
    assert_eq!(init(&[]).code(), Some(125));
    // the shell sees the children of the init, itself among them
    let script = "(true &); (setsid true &); \
        while [ \"$(cat /proc/$PPID/task/$PPID/children)\" != \"$$ \" ]; do sleep 0.01; done";
    assert_eq!(init(&["--", "sh", "-c", script]).code(), Some(0));
}
