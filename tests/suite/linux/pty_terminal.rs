//! `proctable exec --pty` on a user's terminal: keys, raw mode and its end, the window's size, job
//! control of the shell outside and of a shell inside.

use super::terminal::{Screen, calls, expect_sizes, on_terminal, shell};
use super::*;

/// The words with which the program is called, with and without a cgroup.
fn pty_calls() -> [String; 2] {
    calls().map(|call| format!("{call} --pty"))
}

const INNER: &str = "bash --norc --noprofile --noediting -i";

/// Starts a shell on a pty of its own.
fn start_inner(screen: &mut Screen, call: &str) {
    screen.expect("READY>");
    screen.press(&format!("{call} --env PS1='INN''ER>' -- {INNER}\n"));
    screen.expect("INNER>");
}

#[test]
fn a_shell_inside_has_job_control() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        start_inner(&mut screen, &call);
        screen.press("cat\n");
        for word in ["one", "two"] {
            screen.expect_repeated(word);
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("INNER>");
            screen.press("fg\n");
            screen.expect("cat\r\n");
        }
        screen.expect_repeated("three");
        screen.press("\x03");
        screen.expect("INNER>");
        screen.press("for i in 1 2 3; do sh -c 'echo be''gun; exec sleep 1000'; done\n");
        screen.expect("begun\r\n");
        screen.press("\x03");
        screen.expect("INNER>");
        screen.press("yes | head -n 2; echo status=$?\n");
        screen.expect("\r\ny\r\ny\r\nstatus=0\r\n");
        screen.press("exit 3\n");
        screen.expect_status(3);
    }
}

/// A script that reads three keys.
const READS_KEYS: &str =
    "stty raw -echo; echo rea\"\"dy; dd bs=1 count=3 2>/dev/null | od -An -tx1";

/// Types ^C, ^Z and ^\ to it, which it prints. Its newline is left out: on a busy machine the modes
/// of the user's terminal are restored before this is printed.
fn type_three_keys(screen: &mut Screen) {
    screen.expect("ready\n");
    screen.press("\x03\x1a\x1c");
    screen.expect(" 03 1a 1c");
}

/// ^C, ^Z and ^\ are bytes for the terminal of the command, which decides what they do.
#[test]
fn the_keyboard_types_on_the_pty() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- cat\n"));
        screen.expect_repeated("hello");
        screen.press("\x03");
        screen.expect_status(130);
        screen.press(&format!("{call} -- cat\n"));
        screen.end_input();
        screen.expect_status(0);
        // the group of the session's leader is an orphaned one: ^Z stops nothing there
        screen.press(&format!("{call} -- cat\n"));
        screen.expect_repeated("before");
        screen.press("\x1a");
        screen.expect_repeated("after");
        screen.press("\x1c");
        screen.expect_status(131);
        // a program that reads keys
        screen.press(&format!("{call} -- sh -c '{READS_KEYS}'\n"));
        type_three_keys(&mut screen);
        screen.expect_status(0);
    }
}

#[test]
fn the_pty_has_the_size_and_the_modes_of_the_window() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        expect_sizes(&mut screen, &call);
        // a shell that waits for a command ends at ^C only if the command does
        let script = "stty -a; echo rea\"\"dy; exec sleep 1000";
        screen.press(&format!("stty intr ^G; {call} -- sh -c '{script}'\n"));
        screen.expect("intr = ^G;");
        screen.expect("ready\r\n");
        screen.press("\x07");
        screen.expect_status(130);
    }
}

/// However the program ends, the terminal has the modes that it had before. The shell that compares
/// them sets none.
#[test]
fn the_modes_of_the_terminal_are_restored() {
    let ends = [
        "-- true",
        "-- sh -c 'exit 3'",
        "-- no-such-program",
        "--chdir /no/such/directory -- true",
        "--timeout 0.1 -- sleep 1000",
        "-- sh -c 'kill -TERM $PPID; sleep 1000'",
        // a shell that is about to create a child sees SIGINT when the child has ended
        "-- sh -c 'trap \"\" HUP; kill -HUP $PPID; kill -INT $PPID; while sleep 0.1; do :; done'",
        "-- sh -c 'kill -KILL $$'",
        "-- sh -c 'stty raw; exit 4'",
        "--events /no/such/directory/file -- true",
        "-- sh -c 'trap \"\" HUP; sleep 1000 & exit 5'",
    ];
    for call in pty_calls() {
        for end in ends {
            let tree = ProcessTree::new().unwrap();
            let script = format!(
                "s=$(stty -g); {call} {end}; t=$(stty -g); [ $s = $t ] && echo sa''me || echo \"$t\""
            );
            let command = Command::new("sh").args(["-c", &script]);
            let (mut screen, shell) = on_terminal(&tree, command);
            let is_same = screen.appears("same\r\n", SOON);
            let status = shell.wait_timeout(SOON);
            assert_eq!((is_same, status), (true, Ok(Some(WaitStatus::exited(0)))), "{end}");
        }
    }
}

/// A newline alone does not begin a line of a raw terminal.
#[test]
fn messages_begin_lines_of_a_raw_terminal() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} --tree --timeout 0.8 -- sleep 1000\n"));
        screen.expect("PID S      CPU COMMAND\r\n");
        screen.expect(" sleep\r\n");
        screen.expect("SIGTERM to the tree\r\n");
        screen.expect_status(124);
    }
}

/// SIGTSTP stops the program as a job: the shell has a terminal with its modes, and after `fg` the
/// keyboard is the command's again, in a window of another size.
#[test]
fn a_stop_by_kill_is_a_job_of_the_shell() {
    for call in pty_calls() {
        for signal in ["TSTP", "TTIN", "STOP"] {
            let tree = ProcessTree::new().unwrap();
            let (mut screen, _shell) = shell(&tree);
            start_inner(&mut screen, &call);
            screen.press(&format!("kill -{signal} $PPID\n"));
            screen.expect("Stopped");
            screen.expect("READY>");
            screen.expect_repeated_as("echo prompt=$((6 * 7))", "prompt=42");
            screen.resize(21, 43);
            screen.press("fg\n");
            screen.expect("-i\r\n");
            screen.expect_repeated_as("stty size", "21 43\r\n");
            screen.press("cat\n");
            screen.expect_repeated("hello");
            screen.press("\x03");
            screen.expect("INNER>");
            screen.press("exit 7\n");
            screen.expect_status(7);
        }
    }
}

/// The shell does not set the modes of the terminal itself, unlike one with a prompt.
#[test]
fn the_modes_of_the_terminal_are_restored_before_a_stop() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let command = "sh -c 'kill -TSTP $PPID; cat; exit 7'";
        let script = format!(
            "set -m; s=$(stty -g); {call} -- {command}; t=$(stty -g); \
             [ $s = $t ] && echo sa''me || echo \"$t\"; fg; echo status=$?"
        );
        let command = Command::new("bash").args(["--norc", "-c", &script]);
        let (mut screen, _shell) = on_terminal(&tree, command);
        screen.expect("same\r\n");
        screen.expect("cat; exit 7'\r\n");
        screen.end_input();
        screen.expect("status=7\r\n");
    }
}

/// A command that is stopped by SIGSTOP, as by `suspend`, leaves a keyboard that no process reads:
/// the program stops, too.
#[test]
fn a_shell_inside_suspends_itself() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        start_inner(&mut screen, &call);
        for _ in 0..2 {
            screen.press("suspend\n");
            screen.expect("Stopped");
            screen.expect("READY>");
            screen.expect_repeated_as("echo prompt=$((6 * 7))", "prompt=42");
            screen.press("fg\n");
            screen.expect("-i\r\n");
            screen.expect_repeated_as("echo inner=$((6 * 7))", "inner=42");
        }
        screen.press("exit 8\n");
        screen.expect_status(8);
    }
}

/// Has the shell list its jobs until one is stopped.
fn expect_stopped(screen: &mut Screen) {
    expect_job(screen, "Stopped");
}

/// Has the shell list its jobs until one is in that state.
#[track_caller]
fn expect_job(screen: &mut Screen, state: &str) {
    let begin = Instant::now();
    loop {
        screen.press("jobs; echo end=$((6 * 7))\n");
        let from = screen.text().len();
        screen.expect("end=42\r\n");
        if screen.text()[from..].contains(state) {
            return;
        }
        assert!(begin.elapsed() < SOON, "no job is `{state}`:\n{}", screen.text());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The state letter of a process; `-` if there is none.
fn state(pid: &str) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

/// Starts a script that says its number and that of the program: both.
fn start_with_numbers(screen: &mut Screen, call: &str, script: &str) -> (String, String) {
    screen.expect("READY>");
    // a program that stops at once prints nothing
    let script = format!("echo num\"\"bers=$$ $PPID.; read x; {script}");
    screen.press(&format!("{call} -- sh -c '{script}'\n"));
    screen.expect("numbers=");
    screen.expect(".");
    let numbers = screen.text().rsplit('=').next().unwrap().trim_end_matches('.').to_owned();
    screen.press("\n");
    let (command, program) = numbers.split_once(' ').unwrap();
    (command.to_owned(), program.to_owned())
}

fn kill(signal: &str, pid: &str) {
    let status = std::process::Command::new("kill").args([signal, pid]).status();
    assert!(status.unwrap().success());
}

/// Another process ends or continues the command of a stopped job. The program sees that, although
/// it is in the background, where it stops again.
#[test]
fn a_stopped_job_ends_with_its_command() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        let script = "kill -STOP $$; exit 5";
        let (command, _) = start_with_numbers(&mut screen, &call, script);
        screen.expect("Stopped");
        kill("-KILL", &command);
        expect_job(&mut screen, "Killed");
        // what continues runs on, and the program stays stopped
        let script = "kill -STOP $$; cat; exit 5";
        let (command, program) = start_with_numbers(&mut screen, &call, script);
        screen.expect("Stopped");
        kill("-CONT", &command);
        until("the command runs", || state(&command) != 'T');
        let begin = Instant::now();
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_millis(500) {
            if state(&program) != 'T' {
                since = Instant::now();
            }
            assert!(begin.elapsed() < SOON, "the program does not stay stopped");
            std::thread::sleep(Duration::from_millis(1));
        }
        screen.press("fg\n");
        screen.expect("exit 5'\r\n");
        screen.end_input();
        screen.expect_status(5);
    }
}

/// The command has ended, or its time is over, while the program was stopped.
#[test]
fn bg_ends_a_stopped_job_that_has_nothing_to_wait_for() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        let script = "kill -TSTP $PPID; until grep -q \"^State:.T\" /proc/$PPID/status; \
                      do :; done; exit 6";
        let (command, program) = start_with_numbers(&mut screen, &call, script);
        screen.expect("Stopped");
        until("the command has ended", || state(&command) == 'Z');
        assert_eq!(state(&program), 'T');
        screen.expect("READY>");
        screen.press("bg\n");
        expect_job(&mut screen, "Exit 6");
        screen.expect("READY>");
        let begin = Instant::now();
        let script = "kill -TSTP $PPID; sleep 1000";
        screen.press(&format!("{call} --timeout 1 -- sh -c '{script}'\n"));
        screen.expect("Stopped");
        let left = Duration::from_millis(1500).saturating_sub(begin.elapsed());
        std::thread::sleep(left);
        screen.expect("READY>");
        screen.press("bg\n");
        expect_job(&mut screen, "Exit 124");
    }
}

/// The program reads its terminal, and so it is stopped in the background, as any that does.
#[test]
fn a_program_in_the_background_gets_the_terminal_by_fg() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- sh -c 'stty size; exec cat' &\n"));
        screen.expect("READY>");
        expect_stopped(&mut screen);
        screen.resize(22, 44);
        screen.press("fg\n");
        screen.expect("22 44\r\n");
        screen.expect_repeated("one");
        screen.press("\x03");
        screen.expect_status(130);
        // stopped after it has begun, and continued in the background
        start_inner(&mut screen, &call);
        screen.press("kill -TSTP $PPID\n");
        screen.expect("Stopped");
        screen.press("bg\n");
        screen.expect("bash");
        expect_stopped(&mut screen);
        screen.press("fg\n");
        screen.expect("-i\r\n");
        screen.expect_repeated_as("echo inner=$((6 * 7))", "inner=42");
        screen.press("exit\n");
        screen.expect_status(0);
        // a job that is stopped ends by kill
        screen.press(&format!("{call} -- cat &\n"));
        screen.expect("READY>");
        expect_stopped(&mut screen);
        screen.press("kill %1; wait; echo gone=$((6 * 7))\n");
        screen.expect("gone=42");
    }
}

/// The terminal goes to and fro between the shell and the program while keys come: the kernel
/// refuses a read, and the program is in the foreground again before it can ask why.
#[test]
fn the_keyboard_survives_changes_of_the_foreground() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let program = std::env::current_exe().unwrap();
        let scenario = "linux::pty_terminal::the_foreground_changes";
        let command = Command::new(program)
            .args(["--exact", scenario, "--ignored", "--nocapture", "--test-threads=1"])
            .env("PTY_CALL", format!("{call} -- sh -c 'echo rea\"\"dy; exec cat'"));
        let (mut screen, shell) = on_terminal(&tree, command);
        // the newline depends on the modes of that moment
        screen.expect("ready");
        let begin = Instant::now();
        let is_there = || shell.wait_timeout(Duration::ZERO) == Ok(None);
        // longer than the foreground changes
        while begin.elapsed() < Duration::from_secs(4) && is_there() {
            screen.press("x\n");
            std::thread::sleep(Duration::from_millis(2));
        }
        while !screen.appears("still there\r\nstill there\r\n", Duration::from_millis(300)) {
            assert!(is_there() && begin.elapsed() < SOON, "the keyboard is dead");
            screen.press("still there\n");
        }
        screen.press("\x03");
        screen.expect("1 passed");
        assert_eq!(shell.wait_timeout(SOON), Ok(Some(WaitStatus::exited(0))));
    }
}

/// A shell whose user types `fg` and ^Z without end, for three seconds.
#[test]
#[ignore = "a scenario of the_keyboard_survives_changes_of_the_foreground"]
#[allow(unsafe_code)]
fn the_foreground_changes() {
    use std::os::unix::process::CommandExt;
    let call = std::env::var("PTY_CALL").unwrap();
    let mut program = std::process::Command::new("sh");
    let program = program.args(["-c", &format!("exec {call}")]).process_group(0);
    let mut program = program.spawn().unwrap();
    let group = program.id() as i32;
    // SAFETY: plain calls; SIG_IGN is no address
    unsafe {
        // a change from the background would stop this process
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        let own = libc::getpgrp();
        let begin = Instant::now();
        let mut nth = 0;
        while begin.elapsed() < Duration::from_secs(3) {
            nth += 1;
            libc::tcsetpgrp(0, group);
            libc::kill(-group, libc::SIGCONT);
            std::thread::sleep(Duration::from_micros(nth * 37 % 2000));
            libc::tcsetpgrp(0, own);
            std::thread::sleep(Duration::from_micros(nth * 53 % 3000));
        }
        libc::tcsetpgrp(0, group);
        libc::kill(-group, libc::SIGCONT);
    }
    let status = program.wait().unwrap();
    // SAFETY: as above
    unsafe { libc::tcsetpgrp(0, libc::getpgrp()) };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGINT));
}

/// A session of its own on the user's terminal, as after `su -c`: job control does not concern it,
/// and its keys are those of the command all the same.
#[test]
fn a_terminal_that_is_not_the_controlling_one_is_raw() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let compare = "t=$(stty -g); [ $s = $t ] && echo sa''me";
        // the modes that the shell itself sets for its prompt must not hide the others
        let line = format!("s=$(stty -g); setsid -w {call} -- sh -c '{READS_KEYS}'; {compare}");
        screen.press(&format!("{line}\n"));
        type_three_keys(&mut screen);
        screen.expect("same\r\n");
        screen.expect_status(0);
    }
}

/// The last output waits for its reader; the user's terminal does not.
#[test]
fn a_reader_that_is_stopped_leaves_the_keyboard_to_the_user() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        // as much as a pipe holds
        let fill = "head -c 65536 /dev/zero";
        let script = "read x; echo x";
        screen.press(&format!("{{ {fill}; {call} -- sh -c '{script}'; }} | sleep 1000\n"));
        until("the terminal is raw", || !screen.is_canonical());
        screen.press("\n");
        until("the terminal is the user's again", || screen.is_canonical());
        screen.press("\x1a");
        screen.expect("Stopped");
        screen.expect("READY>");
        screen.press("fg\n");
        screen.expect("| sleep 1000\r\n");
        // the shell may not have given the terminal to the job yet
        let begin = Instant::now();
        while !screen.appears("READY>", Duration::from_millis(300)) {
            assert!(begin.elapsed() < SOON, "^C has no effect:\n{}", screen.text());
            screen.press("\x03");
        }
        screen.press("echo status=$?\n");
        screen.expect("status=130\r\n");
    }
}

/// In the background with another input nothing reads the terminal.
#[test]
fn a_program_in_the_background_without_the_terminal_runs() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- sh -c 'cat; echo do''ne' </dev/null & wait\n"));
        // the pty has made \r\n of the newline, and the terminal makes \r\n of its newline
        screen.expect("done\r\r\n");
    }
}

/// The hang-up of the user's terminal reaches the command, and what ignores it has no terminal.
#[test]
fn a_window_that_is_closed_ends_the_command() {
    for call in pty_calls() {
        for script in ["exec cat", "trap \"\" HUP; while echo x; do sleep 0.01; done"] {
            let tree = ProcessTree::new().unwrap();
            let (mut screen, _shell) = shell(&tree);
            screen.expect("READY>");
            screen.press(&format!("{call} -- sh -c 'echo be\"\"gun; {script}'\n"));
            screen.expect("begun\r\n");
            drop(screen);
            until("all have ended", || tree.members().unwrap().is_empty());
        }
    }
}

/// The foreground group is the one of unshare(1), which has no number in the new namespace.
#[test]
fn a_pid_namespace_hides_the_foreground_group_only() {
    if !is_root() {
        return println!("SKIPPED: only root can make a pid namespace");
    }
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("unshare -pf --mount-proc {call} -- sh -c '{READS_KEYS}'\n"));
        type_three_keys(&mut screen);
        screen.expect_status(0);
    }
}

#[test]
fn one_pty_is_inside_of_another() {
    for call in pty_calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- {call} -- sh -c 'tty; stty size; cat; exit 9'\n"));
        screen.expect("/dev/pts/");
        screen.expect("33 77\r\n");
        screen.expect_repeated("hello");
        screen.press("\x04");
        screen.expect_status(9);
        screen.press(&format!("{call} -- {call} -- cat\n"));
        screen.expect_repeated("hello");
        screen.press("\x03");
        screen.expect_status(130);
        let tree = ProcessTree::new().unwrap();
        expect_sizes(&mut shell(&tree).0, &format!("{call} -- {call}"));
    }
}

/// The same for a shell that is not root's, without a cgroup.
#[test]
fn a_pty_on_a_terminal_serves_an_ordinary_user() {
    if let Some(user) = ordinary_user() {
        alone("linux::pty_terminal::as_the_present_user", &user);
    }
}

#[test]
#[ignore = "a scenario of a_pty_on_a_terminal_serves_an_ordinary_user"]
fn as_the_present_user() {
    a_shell_inside_has_job_control();
    a_stop_by_kill_is_a_job_of_the_shell();
    a_program_in_the_background_gets_the_terminal_by_fg();
}
