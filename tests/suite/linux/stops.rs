//! `proctable exec` and stops: of the command, of the program, by the terminal and from outside.
//! The clock runs, and no process stays stopped.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Stdio as StdStdio;

use super::program::{directories_of, proctable};
use super::terminal::{Screen, calls, on_terminal, shell};
use super::*;

fn send(pid: i32, signal: i32) {
    // SAFETY: plain call
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[track_caller]
fn await_state(pid: i32, state_wanted: char) {
    until(&format!("{pid} is {state_wanted}"), || state(pid) == Some(state_wanted));
}

/// The numbers that a script says on the terminal, as `numbers=1 2`.
#[track_caller]
fn numbers<const COUNT: usize>(screen: &mut Screen) -> [i32; COUNT] {
    screen.expect("\r\nnumbers=");
    screen.expect("\r\n");
    let numbers = screen.before().rsplit('=').next().unwrap().trim();
    let numbers: Vec<i32> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// Has a shell print the status of its job once that has ended. As long as the shell has received
/// no continue, which may come to it later than others see it, it prints the status of the stop
/// before.
const STATUS_OF_JOB: &str =
    "while wait %1; code=$?; [ $code = 147 -o $code = 148 ]; do :; done; echo code=$code";

/// As timeout(1) has it: a stop that is not the terminal's stops no clock.
#[test]
fn the_time_is_over_for_a_command_that_stops_itself() {
    for call in calls() {
        let line = format!("{call} --timeout 0.3 -- sh -c \"kill -STOP \\$\\$\"; echo code=$?");
        // a script on a terminal, with no shell above it
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _) = on_terminal(&tree, Command::new("sh").arg("-c").arg(&line));
        screen.expect("code=124\r\n");
        // the same as a job of a shell, and without a script around it
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("sh -c '{line}'\n"));
        screen.expect("code=124\r\n");
        screen.expect("READY>");
        screen.press(&format!("{line}\n"));
        screen.expect("code=124\r\n");
    }
}

/// Without a terminal, too; the grace is what it is, and SIGKILL needs no continue.
#[test]
fn the_time_is_over_for_a_program_that_is_stopped_without_a_terminal() {
    for mechanism in [&["exec"][..], &["exec", "--no-cgroup"]] {
        for script in [
            "kill -STOP $$",
            "kill -TSTP $$",
            "kill -TTIN $$",
            "trap '' TERM; kill -STOP $$; while :; do sleep 1000; done",
            // another member of the tree
            "sh -c 'kill -STOP $$' & wait",
            "setsid sh -c 'kill -STOP $$' & wait",
        ] {
            let options = ["--timeout", "0.1", "--grace", "0.1", "--", "sh", "-c", script];
            let begin = Instant::now();
            // in a group that is not orphaned, also where the group of the tests is: a signal of
            // the terminal stops no member of an orphaned group (ORP-04)
            let mut program = proctable(&[mechanism, &options].concat());
            let mut program = program.process_group(0).spawn().unwrap();
            assert_eq!(program.wait().unwrap().code(), Some(124), "{mechanism:?} {script}");
            assert!(begin.elapsed() < SOON);
            assert!(directories_of(program.id()).is_empty());
        }
    }
}

/// ^Z stops the program for longer than it has: the time is over as soon as it continues, and the
/// command need not be continued for that.
#[test]
fn the_time_is_over_when_a_stopped_job_continues() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} --timeout 1 -- cat\n"));
        screen.expect_repeated("word");
        screen.press("\x1a");
        screen.expect("Stopped");
        screen.expect("READY>");
        screen.press("sleep 1.2; echo lat\"\"er\n");
        screen.expect("later\r\n");
        screen.expect("READY>");
        screen.press("fg\n");
        screen.expect("-- cat\r\n");
        // nothing else ends it
        screen.expect_status(124);
    }
}

/// A process that stops the command from outside and continues it restores the state before: the
/// program does not stay stopped.
#[test]
fn a_command_that_is_stopped_and_continued_from_outside_ends_as_ever() {
    for call in calls() {
        for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTOU] {
            let tree = ProcessTree::new().unwrap();
            let (mut screen, _shell) = shell(&tree);
            screen.expect("READY>");
            // a program that needs no terminal when it continues in the background
            let script = "echo numbers=$$ $PPID; while :; do sleep 0.01; done";
            screen.press(&format!("{call} -- sh -c '{script}'\n"));
            let [command, program] = numbers(&mut screen);
            send(command, signal);
            await_state(command, 'T');
            if signal == libc::SIGTSTP {
                // as by the terminal, from which it cannot be distinguished
                await_state(program, 'T');
                screen.expect("READY>");
            }
            send(command, libc::SIGCONT);
            until("both go on", || {
                [command, program].iter().all(|pid| state(*pid).is_some_and(|state| state != 'T'))
            });
            // as if nothing had been: the keyboard's signals reach it, or the shell's do
            if signal == libc::SIGTSTP {
                screen.press(&format!("kill %1; {STATUS_OF_JOB}\n"));
                screen.expect("code=143\r\n");
            } else {
                screen.press("\x03");
                screen.expect_status(130);
            }
        }
    }
}

/// A stop and a continue that a process sends to the program alone are for the job.
#[test]
fn a_stop_of_the_program_stops_the_command() {
    for call in calls() {
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            let tree = ProcessTree::new().unwrap();
            let (mut screen, _shell) = shell(&tree);
            screen.expect("READY>");
            // a shell that waits for its vforked child cannot stop
            let script = "echo numbers=$$ $PPID; exec sleep 1000";
            screen.press(&format!("{call} -- sh -c '{script}'\n"));
            let both: [_; 2] = numbers(&mut screen);
            send(both[1], signal);
            both.iter().for_each(|pid| await_state(*pid, 'T'));
            screen.expect("Stopped");
            screen.expect("READY>");
            send(both[1], libc::SIGCONT);
            until("both go on", || {
                both.iter().all(|pid| state(*pid).is_some_and(|state| state != 'T'))
            });
            screen.press(&format!("kill %1; {STATUS_OF_JOB}\n"));
            screen.expect("code=143\r\n");
        }
    }
}

/// It is killed while the program is stopped with it.
#[test]
fn a_program_that_stopped_with_its_command_does_not_outlive_it() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- sh -c 'echo numbers=$$ $PPID; exec cat'\n"));
        let [command, program] = numbers(&mut screen);
        screen.press("\x1a");
        screen.expect("READY>");
        assert_eq!(state(program), Some('T'));
        send(command, libc::SIGKILL);
        until("it is continued", || state(program) != Some('T'));
        screen.press(&format!("{STATUS_OF_JOB}\n"));
        screen.expect("code=137\r\n");
    }
}

/// A script that is no job of its own stops as a whole, as it does without the program.
#[test]
fn the_script_around_a_command_stops_with_it() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let script = "echo numbers=$$ $PPID; exec cat";
        screen.press(&format!(
            "sh -c '{call} -- sh -c \"{}\"; echo af\"\"ter'\n",
            script.replace('$', "\\$")
        ));
        let [command, _] = numbers(&mut screen);
        for word in ["one", "two"] {
            screen.expect_repeated(word);
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("READY>");
            // until then it reads what is typed
            await_state(command, 'T');
            screen.press("fg\n");
            screen.expect("\r\n");
        }
        screen.end_input();
        screen.expect("after\r\n");
        screen.expect_status(0);
    }
}

/// In whatever order processes are stopped and continued, none stays stopped.
#[test]
fn no_process_stays_stopped_in_any_order() {
    for mechanism in [&["exec"][..], &["exec", "--no-cgroup"], &["init"]] {
        for stops in [[0, 1], [1, 0]] {
            for continues in [[0, 1], [1, 0]] {
                let mut program =
                    proctable(&[mechanism, &["--", "sh", "-c", "echo $$; exec cat"]].concat())
                        .stdin(StdStdio::piped())
                        .stdout(StdStdio::piped())
                        .spawn()
                        .unwrap();
                let mut output = io::BufReader::new(program.stdout.take().unwrap());
                let mut line = String::new();
                io::BufRead::read_line(&mut output, &mut line).unwrap();
                let pids = [program.id() as i32, line.trim().parse().unwrap()];
                for nth in stops {
                    send(pids[nth], libc::SIGSTOP);
                    await_state(pids[nth], 'T');
                }
                for nth in continues {
                    send(pids[nth], libc::SIGCONT);
                }
                drop(program.stdin.take());
                let status = program.wait().unwrap();
                assert_eq!(status.code(), Some(0), "{mechanism:?} {stops:?} {continues:?}");
            }
        }
    }
}

/// SIGSTOP of a process that is no direct child concerns no other.
#[test]
fn a_stop_deep_in_the_tree_stops_no_other_process() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let script = "sh -c \"kill -STOP \\$\\$\" & echo numbers=$!; exec cat";
        screen.press(&format!("{call} -- sh -c '{script}'\n"));
        let [stopped] = numbers(&mut screen);
        await_state(stopped, 'T');
        screen.expect_repeated("word");
        screen.press("\x03");
        screen.expect_status(130);
        assert!(!is_there(stopped));
    }
}

#[test]
fn stops_are_the_same_for_an_ordinary_user() {
    if let Some(user) = ordinary_user() {
        alone("linux::stops::as_the_present_user", &user);
    }
}

#[test]
#[ignore = "a scenario of stops_are_the_same_for_an_ordinary_user"]
fn as_the_present_user() {
    the_time_is_over_for_a_command_that_stops_itself();
    the_time_is_over_when_a_stopped_job_continues();
    a_command_that_is_stopped_and_continued_from_outside_ends_as_ever();
    a_program_that_stopped_with_its_command_does_not_outlive_it();
    no_process_stays_stopped_in_any_order();
}
