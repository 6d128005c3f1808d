//! No unrelated process is ever hit, however fast the numbers of processes wrap.
#![allow(unsafe_code)]

use std::path::PathBuf;
use std::process::{Child as StdChild, Command as StdCommand, Stdio as StdStdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proctable::drivers::linux::sweep;

use super::*;

/// How long the numbers are churned, at least.
fn time() -> Duration {
    let asked = std::env::var("PROCTABLE_CHURN").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(4))
}

/// How often numbers have to come round, and how many trees there have to be, each eighth followed
/// by a sweep, before it is over. A slow machine needs longer than [`time`] for that, not less of
/// it.
const ROUNDS: u64 = 10;
const TREES: u64 = 16;

/// From 6.14 on each pid namespace has a pid_max of its own. Before, a write would set that of the
/// whole machine.
fn has_own_pid_max() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 14)
}

#[test]
fn no_signal_ever_reaches_an_unrelated_process() {
    if !is_root() || !has_own_pid_max() {
        println!("SKIPPED: a pid namespace with few numbers needs root and Linux 6.14");
        return;
    }
    let before = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    // the shell is process 1: it stays in its group, and reaps orphans while it waits
    let script = "echo 400 > /proc/sys/kernel/pid_max || exit 1; \"$@\"; exit $?";
    let by = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let said = alone("linux::unrelated::among_400_numbers", &by);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap(), before);
    let lines = said.lines().filter(|line| line.contains("unrelated"));
    lines.for_each(|line| println!("{line}"));
}

/// A process that writes down every signal it gets.
struct Bystander {
    process: StdChild,
    record: PathBuf,
}

impl Bystander {
    fn new(nth: usize) -> Bystander {
        let record =
            std::env::temp_dir().join(format!("proctable-bystander-{}-{nth}", std::process::id()));
        std::fs::write(&record, "").unwrap();
        let script = "
            for signal in 1 2 3 4 5 6 7 8 10 11 12 13 14 15 16 18 20 21 22 23 24 25 26 27 28 29 30 31
            do trap \"echo $signal >> $0\" $signal; done
            echo; exec >&-
            read -r line";
        let mut process = StdCommand::new("bash")
            .args(["-c", script])
            .arg(&record)
            .stdin(StdStdio::piped())
            .stdout(StdStdio::piped())
            .spawn()
            .unwrap();
        process.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Bystander { process, record }
    }

    /// The signals that it got. SIGKILL and SIGSTOP show in how it ends: with 1, as `read` sees the
    /// end of its input.
    fn signals(mut self) -> Vec<String> {
        assert!(!self.is_stopped(), "SIGSTOP");
        drop(self.process.stdin.take());
        assert_eq!(self.process.wait().unwrap().code(), Some(1));
        let record = std::fs::read_to_string(&self.record).unwrap();
        std::fs::remove_file(&self.record).unwrap();
        record.lines().map(String::from).collect()
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        stat.contains(") T ")
    }
}

/// Unrelated processes come and go, so that every number is used again and again.
#[derive(Default)]
struct Churn {
    over: AtomicBool,
    unrelated: AtomicU64,
    rounds: AtomicU64,
    hits: AtomicU64,
}

impl Churn {
    /// Programs.
    fn run(&self) {
        while !self.over.load(Ordering::Relaxed) {
            // EAGAIN: all numbers are taken at the moment
            let Ok(mut process) = StdCommand::new("/bin/true").spawn() else { continue };
            let status = process.wait().unwrap();
            self.unrelated.fetch_add(1, Ordering::Relaxed);
            self.hits.fetch_add(u64::from(!status.success()), Ordering::Relaxed);
        }
    }

    /// Processes that only live: the numbers come round in a few milliseconds.
    fn race(&self) {
        let mut stack = vec![0u64; 2048];
        let mut last = 0;
        while !self.over.load(Ordering::Relaxed) {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let mut status = 0;
            // SAFETY: the child has a stack of its own until it has ended, as its creator sleeps
            // until then; the vector's end is aligned to 16
            let pid = unsafe {
                let top = stack.as_mut_ptr().add(stack.len());
                let top = top.map_addr(|address| address & !15);
                libc::clone(live, top.cast(), flags, std::ptr::null_mut())
            };
            // SAFETY: the status is ours
            if pid < 0 || unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
                continue;
            }
            self.unrelated.fetch_add(1, Ordering::Relaxed);
            self.rounds.fetch_add(u64::from(pid < last), Ordering::Relaxed);
            self.hits.fetch_add(u64::from(status != 0), Ordering::Relaxed);
            last = pid;
        }
    }
}

/// A short life, long enough to be hit.
extern "C" fn live(_: *mut libc::c_void) -> libc::c_int {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1000 };
    // SAFETY: the time is only read; nothing is returned
    unsafe { libc::nanosleep(&moment, std::ptr::null_mut()) };
    0
}

const RESTLESS: &str =
    "i=0; while [ $i -lt 6 ]; do (true &); setsid true & i=$((i + 1)); done; sleep 0.004";

#[test]
#[ignore = "a scenario of no_signal_ever_reaches_an_unrelated_process"]
fn among_400_numbers() {
    if !is_alone() {
        return;
    }
    let bystanders: Vec<_> = (0..8).map(Bystander::new).collect();
    let churn = Churn::default();
    let (mut trees, mut sweeps, mut swept) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| churn.run());
        scope.spawn(|| churn.race());
        scope.spawn(|| churn.race());
        let begin = Instant::now();
        let is_enough = |trees, swept| {
            churn.rounds.load(Ordering::Relaxed) > ROUNDS && trees >= TREES && swept > 0
        };
        while begin.elapsed() < time() || !is_enough(trees, swept) {
            let options =
                if trees % 2 == 0 { Options::new() } else { Options::new().without_cgroup() };
            end_in_some_way(&options.create().unwrap(), trees);
            trees += 1;
            if trees % 8 == 0 {
                swept += orphan_and_sweep(trees % 16 == 0);
                sweeps += 1;
            }
        }
        churn.over.store(true, Ordering::Relaxed);
    });
    let signals: Vec<_> = bystanders.into_iter().map(Bystander::signals).collect();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "unrelated: {} came and went, their numbers wrapped {} times; {trees} trees, {sweeps} \
         sweeps that ended {swept}; signals to them {}, to bystanders {}",
        count(&churn.unrelated),
        count(&churn.rounds),
        count(&churn.hits),
        signals.iter().flatten().count(),
    );
    assert_eq!(count(&churn.hits), 0);
    assert!(signals.iter().all(Vec::is_empty), "{signals:?}");
}

/// Signals, shuts down and drops a tree whose members come and go.
fn end_in_some_way(tree: &ProcessTree, nth: u64) {
    let script = if nth.is_multiple_of(3) { "trap '' TERM; " } else { "" }.to_string() + RESTLESS;
    let children: Vec<_> = (0..3).filter_map(|_| tree.spawn(sh(&script)).ok()).collect();
    for signal in [Signal::WINCH, Signal::CONT, Signal::USR1] {
        tree.signal(signal).unwrap();
        for child in &children {
            let _ = child.signal(signal);
        }
    }
    // waited for: their numbers are free while the tree still has their handles
    for child in children.iter().skip(1) {
        child.wait().unwrap();
        let _ = child.signal(Signal::TERM);
    }
    if nth.is_multiple_of(2) {
        tree.shutdown(Signal::TERM, Duration::from_millis(3)).unwrap();
    }
}

/// An owner that dies and leaves something, and a sweep; how many that ended.
fn orphan_and_sweep(cgroup: bool) -> usize {
    let program = option_env!("CARGO_BIN_EXE_proctable");
    let Some(program) = program else { return 1 };
    let mechanism: &[&str] = if cgroup { &[] } else { &["--no-cgroup"] };
    let owner = StdCommand::new(program)
        .arg("exec")
        .args(mechanism)
        .args(["--", "sh", "-c", "echo; exec >&-; sleep 1000 & wait"])
        .stdout(StdStdio::piped())
        .spawn();
    // all numbers are taken
    let Ok(mut owner) = owner else { return 0 };
    let _ = owner.stdout.take().unwrap().read_exact(&mut [0]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let swept = sweep().unwrap();
    assert!(swept.left.is_empty(), "{swept:?}");
    swept.killed.len()
}
