//! `proctable exec` as a part of a job: in pipelines, scripts and loops, with commands that read or
//! configure the terminal by another way than standard input, and with interactive shells inside.
//! The kernel and the shell treat the command as they would without the program.

use super::program::{directories_of, kill, proctable};
use super::terminal::{Screen, calls, on_terminal, shell};
use super::*;

/// What asks for a line at the terminal, whatever its standard input is.
const ASK: &str = "sh -c 'read line; read key </dev/tty; echo got=$line,$key; exec cat'";

/// Waits until a job has left the prompt to the shell alone, and types a line to it.
#[track_caller]
fn answer(screen: &mut Screen, line: &str) {
    screen.press(&format!("{line}\n"));
}

/// D6: a pager at the end of a pipeline keeps the terminal, and ^C ends the whole pipeline.
#[test]
fn the_rest_of_a_pipeline_keeps_the_terminal() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        for pipeline in [
            format!("{call} -- sh -c 'echo one; exec sleep 1000' | {ASK}"),
            format!("sh -c 'echo one; exec sleep 1000' | {call} -- {ASK}"),
            format!("{call} -- sh -c 'echo one; exec sleep 1000' | {call} -- {ASK}"),
            format!("{call} -- {call} -- sh -c 'echo one; exec sleep 1000' | {ASK}"),
        ] {
            screen.press(&format!("{pipeline}\n"));
            screen.expect("\r\n");
            answer(&mut screen, "key");
            screen.expect("got=one,key\r\n");
            screen.press("\x03");
            screen.expect_status(130);
        }
        // none of them reads
        screen.press(&format!("{call} -- sh -c 'echo beg\"\"un; exec sleep 1000' | tee /dev/tty"));
        screen.press(" | sleep 1001\n");
        screen.expect("begun\r\n");
        screen.press("\x03");
        screen.expect_status(130);
    }
}

/// D7: a command whose standard input is not the terminal reads it and configures it.
#[test]
fn a_command_reaches_its_terminal_by_another_way_than_standard_input() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("echo one | {call} -- {ASK}\n"));
        screen.expect("\r\n");
        answer(&mut screen, "key");
        screen.expect("got=one,key\r\n");
        screen.expect_status(0);
        screen.press(&format!("{call} -- stty -F /dev/tty sane </dev/null\n"));
        screen.expect_status(0);
        screen.press(&format!("{call} -- bash --norc -ic : </dev/null\n"));
        screen.expect_status(0);
        screen.press(&format!("seq 9 | TERM=xterm {call} -- less\n"));
        screen.expect("(END)");
        screen.press("q");
        screen.expect_status(0);
    }
}

/// D8: ^Z stops the script, the command and the program, whatever the command's standard input is.
#[test]
fn the_keyboard_stops_everything_in_a_script() {
    for call in calls() {
        for input in ["", "</dev/null"] {
            let tree = ProcessTree::new().unwrap();
            let (mut screen, _shell) = shell(&tree);
            screen.expect("READY>");
            // the shell has given the terminal to the job before it continues that
            let script = "trap \"echo conti\\\"\\\"nued\" CONT; echo be\\\"\\\"gun; \
                          while :; do sleep 0.01; done";
            let command = format!(
                "sh -c \"{}\"",
                script.replace("trap \"", "trap \\\"").replace("\" CONT", "\\\" CONT")
            );
            screen.press(&format!("sh -c '{call} -- {command} {input}; echo af\"\"ter'\n"));
            screen.expect("begun\r\n");
            for _ in 0..2 {
                screen.press("\x1a");
                screen.expect("Stopped");
                screen.expect("READY>");
                screen.press("fg\n");
                screen.expect("continued\r\n");
            }
            screen.press("\x03");
            screen.expect_status(130);
        }
    }
}

/// D11: the foreground group of a command that is killed is gone, and the script needs the
/// terminal.
#[test]
fn the_terminal_is_the_scripts_again_after_a_killed_shell() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let inner = "bash --norc -ic \"sleep 1000; true\"";
        let line = "read x; echo x=$x";
        screen.press(&format!("sh -c '{call} --timeout 0.5 --grace 0 -- {inner}; {line}'\n"));
        screen.expect("\r\n");
        screen.expect_repeated_as("word", "x=word\r\n");
        screen.expect_status(0);
    }
}

/// D12: `fg` continues the inner shell, and not what that has stopped.
#[test]
fn a_suspended_shell_comes_back_with_its_stopped_jobs() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen
            .press(&format!("PS1='IN''SIDE>' {call} -- bash --norc --noprofile --noediting -i\n"));
        for _ in 0..2 {
            screen.expect("INSIDE>");
            screen.press("sh -c 'echo be''gun; exec sleep 1000'\n");
            screen.expect("begun\r\n");
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("INSIDE>");
            screen.press("suspend\n");
            screen.expect("Stopped");
            screen.expect("READY>");
            screen.press("fg\n");
            screen.expect("\r\n");
            screen.press("jobs -r; jobs -s; echo li''sted\n");
            screen.expect("listed\r\n");
            screen.expect("INSIDE>");
            assert!(!screen.text().contains("Running"), "{}", screen.text());
            screen.press("\n");
        }
        screen.expect("INSIDE>");
        screen.press("exit 7\n");
        screen.expect("There are stopped jobs");
        screen.expect("INSIDE>");
        screen.press("exit 7\n");
        screen.expect_status(7);
    }
}

/// An interactive shell inside has its own jobs, and its ^C and ^Z are its own.
#[test]
fn a_shell_inside_controls_its_jobs() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen
            .press(&format!("PS1='IN''SIDE>' {call} -- bash --norc --noprofile --noediting -i\n"));
        screen.expect("INSIDE>");
        screen.press("cat\n");
        screen.expect_repeated("one");
        screen.press("\x1a");
        screen.expect("Stopped");
        screen.expect("INSIDE>");
        screen.press("fg\n");
        screen.expect("cat\r\n");
        screen.expect_repeated("two");
        screen.press("\x03");
        screen.expect("INSIDE>");
        screen.press("exit 7\n");
        screen.expect_status(7);
    }
}

/// D13: ^C during the grace kills at once.
#[test]
fn the_keyboard_hurries_the_end() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let script = "trap \"echo as\"\"ked\" TERM; trap \"\" INT; while :; do sleep 0.01; done";
        screen.press(&format!("{call} --timeout 0.2 --grace 1000 -- sh -c '{script}'\n"));
        screen.expect("asked\r\n");
        screen.press("\x03");
        screen.expect_status(124);
        // the process that it leaves
        let script = "trap \"\" TERM INT; sh -c \"echo as\\\"\\\"ked; sleep 1000\" & exit 3";
        screen.press(&format!("{call} --grace 1000 -- sh -c '{script}'\n"));
        screen.expect("asked\r\n");
        // one that comes before the command has ended is the command's
        while !screen.appears("READY>", Duration::from_secs(1)) {
            screen.press("\x03");
        }
        screen.press("echo status=$?\n");
        screen.expect("status=3\r\n");
    }
}

/// A second signal to end, while the command has its time after the first, kills at once.
#[test]
fn a_second_signal_hurries_the_end() {
    for mechanism in [&["exec"][..], &["exec", "--no-cgroup"]] {
        for second in [libc::SIGTERM, libc::SIGINT] {
            let script = "trap 'echo asked' TERM; trap '' INT; echo ready; \
                          while :; do sleep 0.01; done";
            let options = ["--grace", "1000", "--", "sh", "-c", script];
            let mut program = proctable(&[mechanism, &options].concat())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = io::BufRead::lines(io::BufReader::new(program.stdout.take().unwrap()));
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            kill(program.id(), libc::SIGTERM);
            assert_eq!(lines.next().unwrap().unwrap(), "asked");
            let begin = Instant::now();
            // one that comes at once counts as the same
            let status = loop {
                if let Some(status) = program.try_wait().unwrap() {
                    break status;
                }
                if begin.elapsed() > SOON {
                    kill(program.id(), libc::SIGKILL);
                }
                kill(program.id(), second);
                std::thread::sleep(Duration::from_millis(1));
            };
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            assert_eq!(signal, Some(libc::SIGKILL), "{mechanism:?} {second}");
            assert!(begin.elapsed() < SOON && directories_of(program.id()).is_empty());
        }
    }
}

/// What the command that was killed has done to the terminal's modes is undone; what it did on
/// purpose, and ended by itself, stays.
#[test]
fn the_modes_of_the_terminal_are_restored_after_a_kill() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let modes = "stty -a | grep -ow -e \"-*icanon\" -e \"-*isig\"; echo mo\"\"des";
        for (command, expected) in [
            ("--timeout 0.2 -- sh -c \"stty -icanon; exec sleep 1000\"", "icanon"),
            ("-- sh -c \"stty -icanon; kill -TERM \\$\\$\"", "icanon"),
            ("-- stty -icanon", "-icanon"),
            ("-- sh -c \"stty -icanon; exit 3\"", "-icanon"),
        ] {
            screen.press(&format!("sh -c '{call} {command}; {modes}'; stty sane\n"));
            screen.expect("\nmodes\r\n");
            let lines: Vec<_> = screen.text().lines().rev().skip_while(|l| *l != "modes").collect();
            let found = lines.iter().skip(1).take(2).find(|line| line.ends_with("icanon"));
            assert_eq!(found, Some(&expected), "{command}: {}", screen.text());
            screen.expect("READY>");
        }
    }
}

/// ^C is one signal for the command, which the kernel has sent; one for the program alone is passed
/// on.
#[test]
fn a_signal_of_the_keyboard_comes_once() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let script = "n=0; trap \"n=\\$((n + 1)); echo got=\\$n\" INT QUIT; \
                      trap \"echo count=\\$n\" USR1; echo program=$PPID; \
                      while :; do sleep 0.01; done";
        screen.press(&format!("{call} -- bash -c '{script}'\n"));
        screen.expect("\r\nprogram=");
        screen.expect("\r\n");
        let program = screen.before().rsplit('=').next().unwrap().trim().parse().unwrap();
        // its start is over: a ^C before that may come twice
        kill(program, libc::SIGUSR1);
        screen.expect("count=0\r\n");
        for (count, keys) in ["\x03", "\x1c", "\x03", ""].into_iter().enumerate() {
            if keys.is_empty() {
                kill(program, libc::SIGINT);
            }
            screen.press(keys);
            screen.expect(&format!("got={}\r\n", count + 1));
            // the program passes it on after what it has received before
            kill(program, libc::SIGUSR1);
            screen.expect(&format!("count={}\r\n", count + 1));
        }
        kill(program, libc::SIGKILL);
    }
}

/// A command in a session of its own gets no signal of the terminal from the kernel.
#[test]
fn the_keyboard_interrupts_a_command_that_left_the_group() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let script = "trap \"exit 9\" INT; echo be\"\"gun; while :; do sleep 0.01; done";
        screen.press(&format!("{call} -- setsid sh -c '{script}'\n"));
        screen.expect("begun\r\n");
        screen.press("\x03");
        screen.expect_status(9);
    }
}

/// The kernel notifies the leader of a session alone of a hang-up.
#[test]
fn a_hangup_reaches_the_command() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let mut words = call.split(' ');
        let script = "trap 'exit 9' HUP; echo ready; while :; do sleep 0.01; done";
        let program = Command::new(words.next().unwrap()).args(words);
        let (mut screen, program) = on_terminal(&tree, program.args(["--", "sh", "-c", script]));
        screen.expect("ready\r\n");
        drop(screen);
        assert_eq!(program.wait(), Ok(WaitStatus::exited(9)));
    }
}

/// A ^C that comes before there is a command is not lost.
#[test]
fn the_keyboard_interrupts_a_command_that_is_about_to_start() {
    for call in calls() {
        for nth in 0..20 {
            let tree = ProcessTree::new().unwrap();
            let mut words = call.split(' ');
            let program = Command::new(words.next().unwrap()).args(words);
            let (mut screen, program) = on_terminal(&tree, program.args(["--", "sleep", "1000"]));
            std::thread::sleep(Duration::from_millis(nth));
            screen.press("\x03");
            assert_eq!(program.wait(), Ok(WaitStatus::killed(Signal::INT, false)), "{nth}");
        }
    }
}

/// In the background the terminal is the shell's, whenever the program ends.
#[test]
fn a_program_in_the_background_takes_no_terminal() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        for command in ["sleep 0.05", "sh -c 'exit 3'", "bash --norc -ic 'exit 3'"] {
            screen.press(&format!("{call} -- {command} </dev/null & wait; echo wai''ted\n"));
            screen.expect("waited\r\n");
            screen.expect("READY>");
            screen.press("read line; echo li''ne=$line\n");
            screen.expect("\r\n");
            screen.expect_repeated_as("word", "line=word\r\n");
            screen.expect("READY>");
            screen.press("kill -9 %1; fg\n");
            screen.expect("READY>");
        }
    }
}

/// The option of a group of its own: the command's ^C is the command's, and it stops as a job.
#[test]
fn a_process_group_of_its_own_by_an_option() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let script = "ps -o pgid= -p $$; ps -o pgid= -p $PPID";
        for (options, groups) in [("", 1), ("--process-group", 2)] {
            let count = "sort -u | wc -l; echo coun\"\"ted";
            screen.press(&format!("{call} {options} -- sh -c '{script}' | sh -c '{count}'\n"));
            screen.expect("counted\r\n");
            let count = screen.text().lines().rev().nth(1).unwrap().trim().to_owned();
            assert_eq!(count, groups.to_string(), "{}", screen.text());
            screen.expect("READY>");
        }
        screen.press(&format!("{call} --process-group -- cat\n"));
        for word in ["one", "two"] {
            screen.expect_repeated(word);
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("READY>");
            screen.press("fg\n");
            screen.expect("-- cat\r\n");
        }
        screen.expect_repeated("three");
        screen.press("\x03");
        screen.expect_status(130);
        // it gets the terminal when it needs that
        screen.press(&format!("echo one | {call} --process-group -- {ASK}\n"));
        screen.expect("\r\n");
        answer(&mut screen, "key");
        screen.expect("got=one,key\r\n");
        screen.expect_status(0);
        screen.press(&format!("{call} --process-group -- cat\n"));
        screen.expect_repeated("four");
        screen.press("\x03");
        screen.expect_status(130);
    }
}

/// All of it without a cgroup, by a shell that is not root's.
#[test]
fn jobs_are_the_same_for_an_ordinary_user() {
    if let Some(user) = ordinary_user() {
        alone("linux::job_control::by_an_ordinary_user", &user);
    }
}

#[test]
#[ignore = "a scenario of jobs_are_the_same_for_an_ordinary_user"]
fn by_an_ordinary_user() {
    the_rest_of_a_pipeline_keeps_the_terminal();
    a_command_reaches_its_terminal_by_another_way_than_standard_input();
    the_keyboard_stops_everything_in_a_script();
    the_terminal_is_the_scripts_again_after_a_killed_shell();
    a_suspended_shell_comes_back_with_its_stopped_jobs();
    the_keyboard_hurries_the_end();
    the_modes_of_the_terminal_are_restored_after_a_kill();
}
