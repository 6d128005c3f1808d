//! Signals for `proctable exec` and `proctable init`: each that can be caught goes to the command.
#![allow(unsafe_code)]

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio as StdStdio;

use proctable::abi::{DefaultAction, SiCode};
use proctable::drivers::linux::SignalFd;

use super::program::{directories_of, proctable};
use super::*;

/// A shell that has said its number, and what it is called by.
struct Running {
    program: std::process::Child,
    _output: io::BufReader<std::process::ChildStdout>,
    command: i32,
}

fn start(args: &[&str], shell: &[&str]) -> Running {
    let mut program =
        proctable(&[args, &["--"], shell].concat()).stdout(StdStdio::piped()).spawn().unwrap();
    let mut output = io::BufReader::new(program.stdout.take().unwrap());
    let mut line = String::new();
    io::BufRead::read_line(&mut output, &mut line).unwrap();
    let command = line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
    Running { program, _output: output, command }
}

fn send(pid: i32, signal: i32) {
    // SAFETY: plain call; its target is not reaped
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}

/// With and without a cgroup, and as an init that is no process 1.
const CALLS: [&[&str]; 3] = [&["exec"], &["exec", "--no-cgroup"], &["init"]];

/// Those that the C library keeps for itself.
const RESERVED: [i32; 2] = [32, 33];

fn ends(signal: Signal) -> bool {
    !RESERVED.contains(&signal.number().into())
        && matches!(signal.default_action(), DefaultAction::Terminate | DefaultAction::Core)
}

/// The command has the default action for all of them, so that each ends it: by that signal and by
/// no other. Faults that are sent and SIGABRT are no exceptions; the two signals of the C library's
/// do nothing.
#[test]
fn every_signal_that_ends_a_process_ends_the_command_and_leaves_no_process() {
    for args in CALLS {
        for signal in Signal::all().filter(|signal| ends(*signal) && *signal != Signal::KILL) {
            let script = "ulimit -c 0; echo $$; exec sleep 1000";
            let Running { mut program, command, .. } = start(args, &["sh", "-c", script]);
            let number = i32::from(signal.number());
            RESERVED.into_iter().for_each(|reserved| send(program.id() as i32, reserved));
            send(program.id() as i32, number);
            let status = program.wait().unwrap();
            assert_eq!(status.signal(), Some(number), "{args:?} {signal}");
            // a program that dies of it itself leaves the command
            assert!(!is_there(command), "{args:?} {signal}");
            assert!(directories_of(program.id()).is_empty(), "{args:?} {signal}");
        }
    }
}

/// A set of signals in /proc/PID/status.
fn set(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// A command that blocks all signals has them pending then, those that are ignored by default, too.
/// SIGCHLD tells of the receiver's own children, and is not passed on.
#[test]
fn every_other_signal_comes_to_the_command() {
    let own = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, RESERVED[0], RESERVED[1]];
    // it takes the pending stops away
    let passed = Signal::all().map(|signal| i32::from(signal.number()));
    let passed: Vec<_> =
        passed.filter(|signal| !own.contains(signal) && *signal != libc::SIGCONT).collect();
    let expected = passed.iter().fold(0, |set, signal| set | 1u64 << (signal - 1));
    for args in CALLS {
        let script = "echo $$; exec env --block-signal sleep 1000";
        let Running { mut program, command, .. } = start(args, &["sh", "-c", script]);
        until("it blocks all", || set(command, "SigBlk:") & expected == expected);
        for signal in [libc::SIGCHLD].iter().chain(&passed) {
            send(program.id() as i32, *signal);
        }
        until("they are there", || set(command, "ShdPnd:") & expected == expected);
        assert_eq!(set(command, "ShdPnd:") | set(command, "SigPnd:"), expected, "{args:?}");
        send(command, libc::SIGKILL);
        assert_eq!(program.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

/// Real-time signals queue, also for a reader of a descriptor.
#[test]
fn signals_are_read_as_often_as_they_are_queued() {
    alone_here("linux::signals::reading", &[]);
}

#[test]
#[ignore = "a scenario of signals_are_read_as_often_as_they_are_queued"]
fn reading() {
    if !is_alone() {
        return;
    }
    let signals = SignalFd::all().unwrap();
    let own = std::process::id() as i32;
    for signal in [40, libc::SIGUSR1, 40, libc::SIGUSR1, 40, libc::SIGSEGV] {
        // to this thread: the test's others do not block them
        // SAFETY: plain calls
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, own, libc::gettid(), signal) };
        assert_eq!(sent, 0);
    }
    let mut read: Vec<_> = (0..5).map(|_| signals.read().unwrap()).collect();
    read.sort_by_key(|info| info.signal.number());
    let numbers: Vec<_> = read.iter().map(|info| i32::from(info.signal.number())).collect();
    assert_eq!(numbers, [libc::SIGUSR1, libc::SIGSEGV, 40, 40, 40]);
    assert!(read.iter().all(|info| info.code == SiCode::TKILL && info.pid.0 as i32 == own));
    // a tree's children do not inherit the mask
    let tree = ProcessTree::new().unwrap();
    let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
    child.signal(Signal::USR1).unwrap();
    assert_eq!(child.wait(), Ok(WaitStatus::killed(Signal::USR1, false)));
}

/// A process 1 gets no signal that it does not catch: all of these would be lost.
#[test]
fn process_1_passes_on_what_is_sent_within_its_namespace() {
    if !is_root() {
        return println!("SKIPPED: a pid namespace needs root");
    }
    let script = "for signal in USR1 HUP 40 64; do trap \"echo $signal; got=1\" $signal; got=; \
        kill -$signal 1; for i in {1..1000}; do [ $got ] && break; sleep 0.01; done; done; exit 9";
    for args in CALLS {
        let own = proctable(args);
        let output = std::process::Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(own.get_program())
            .args(own.get_args())
            .args(["--", "bash", "-c", script])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(9), "{args:?} {output:?}");
        assert_eq!(output.stdout, b"USR1\nHUP\n40\n64\n", "{args:?}");
    }
}

/// Nothing can be done in a process that is killed; but the command has asked the kernel to be
/// ended with it.
#[test]
fn the_command_ends_with_a_program_that_is_killed() {
    for args in [&["exec"][..], &["exec", "--no-cgroup"]] {
        let Running { mut program, command, .. } =
            start(args, &["sh", "-c", "echo $$; exec sleep 1000"]);
        program.kill().unwrap();
        program.wait().unwrap();
        until("the command is gone", || !is_there(command));
        proctable(&["sweep"]).stdout(StdStdio::null()).status().unwrap();
        assert!(directories_of(program.id()).is_empty());
    }
}

/// SIGCHLD may be ignored by the caller of the program: the kernel would reap the command.
#[test]
fn a_program_that_was_started_with_sigchld_ignored_knows_the_status() {
    for args in CALLS {
        let own = proctable(args);
        let status = std::process::Command::new("env")
            .args(["--ignore-signal=CHLD"])
            .arg(own.get_program())
            .args(own.get_args())
            .args(["--", "sh", "-c", "exit 7"])
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(7), "{args:?}");
    }
}

/// An ordinary user's signals are passed on as root's are.
#[test]
fn an_ordinary_users_signals_are_passed_on() {
    if let Some(user) = ordinary_user() {
        alone("linux::signals::as_the_present_user", &user);
    }
}

#[test]
#[ignore = "a scenario of an_ordinary_users_signals_are_passed_on"]
fn as_the_present_user() {
    every_signal_that_ends_a_process_ends_the_command_and_leaves_no_process();
    every_other_signal_comes_to_the_command();
    the_command_ends_with_a_program_that_is_killed();
}
