//! `proctable exec --pty` without a user's terminal: input of a pipe and its end, output to readers
//! that are slow or gone, statuses, signals, and what is left.

use super::program::{directories_of, proctable};
use super::spawn::{forbid, refuse};
use super::*;

use std::io::{BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Output, Stdio as StdStdio};

/// By the mechanisms that keep a tree together.
const MECHANISMS: [&[&str]; 2] = [&["exec", "--pty"], &["exec", "--pty", "--no-cgroup"]];

/// The program with a script as its command.
fn on_pty(mechanism: &[&str], options: &[&str], script: &str) -> StdCommand {
    proctable(&[mechanism, options, &["--", "sh", "-c", script]].concat())
}

fn run(mechanism: &[&str], options: &[&str], script: &str) -> Output {
    on_pty(mechanism, options, script).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it with bytes on standard input, which ends after them.
fn run_with(mut program: StdCommand, input: &[u8]) -> Output {
    let mut program = program.stdin(StdStdio::piped()).stdout(StdStdio::piped()).spawn().unwrap();
    let mut stdin = program.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // a command that has ended reads no more
        scope.spawn(move || drop(stdin.write_all(input)));
        program.wait_with_output().unwrap()
    })
}

#[test]
fn the_command_has_a_terminal_of_its_own() {
    let script = "tty; stty size; for n in 0 1 2; do [ -t $n ] && echo $n; done; \
                  echo direct >/dev/tty; set -- $(cat /proc/$$/stat); [ $1 = $6 ] && echo leads";
    for mechanism in MECHANISMS {
        let output = run(mechanism, &[], script);
        let shown = text(&output.stdout);
        let (tty, rest) = shown.split_once("\r\n").unwrap();
        assert!(tty.starts_with("/dev/pts/"), "{shown}");
        // without a terminal of the user the size is not known
        assert_eq!(rest, "0 0\r\n0\r\n1\r\n2\r\ndirect\r\nleads\r\n");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

/// A session without a terminal has none to lend.
#[test]
fn no_controlling_terminal_is_needed() {
    for mechanism in MECHANISMS {
        let program = env!("CARGO_BIN_EXE_proctable");
        let mut setsid = StdCommand::new("setsid");
        let setsid = setsid.args(["--wait", program]).args(mechanism);
        let output = setsid.args(["sh", "-c", "echo x >/dev/tty; exit 3"]).output().unwrap();
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("x\r\n", Some(3)));
    }
}

/// Each process that reads after the end of the input reads an end of file, as from /dev/null.
#[test]
fn the_end_of_the_input_is_an_end_of_file() {
    for mechanism in MECHANISMS {
        let output =
            run(mechanism, &[], "cat; cat; read x || echo ends; stty -a | grep -o '.echo '");
        assert_eq!(text(&output.stdout), "ends\r\n-echo \r\n");
        // also after a line without a newline, once the line was read
        let output = run_with(on_pty(mechanism, &[], "cat; cat; echo end"), b"abc");
        assert_eq!(text(&output.stdout), "abcend\r\n");
    }
}

/// In a terminal that is not canonical VEOF would be a byte.
#[test]
fn a_raw_terminal_gets_no_end_of_file() {
    for mechanism in MECHANISMS {
        let script = "stty raw -echo; echo ready; dd bs=1 count=1 2>/dev/null | od -An -tx1";
        let mut program = on_pty(mechanism, &["--timeout", "0.5"], script);
        let program = program.stdin(StdStdio::piped()).stdout(StdStdio::piped());
        let mut program = program.stderr(StdStdio::null()).spawn().unwrap();
        let mut shown = vec![0; 6];
        let mut stdout = program.stdout.take().unwrap();
        stdout.read_exact(&mut shown).unwrap();
        assert_eq!(text(&shown), "ready\n");
        drop(program.stdin.take());
        stdout.read_to_end(&mut shown).unwrap();
        assert_eq!((text(&shown).as_str(), program.wait().unwrap().code()), ("ready\n", Some(124)));
    }
}

/// The terminal takes no more than 4095 bytes at a time, and no longer lines.
#[test]
fn no_byte_of_a_pipe_is_lost_in_a_canonical_terminal() {
    let lines: String = (0..20_000).map(|nth| format!("line {nth}\n")).collect();
    let long = "0123456789".repeat(10_000);
    let mixed = format!("{}\n{}\n{}", "a".repeat(4094), "b".repeat(4096), "c".repeat(9000));
    for mechanism in MECHANISMS {
        for input in [&lines, &long, &mixed] {
            let output = run_with(on_pty(mechanism, &[], "stty -opost; cat"), input.as_bytes());
            assert!(output.status.success());
            assert!(output.stdout == input.as_bytes(), "{}", output.stdout.len());
        }
    }
}

/// Which bytes of a long line are special says the terminal. A byte that it does not hold, as an
/// erasure, makes no line longer, and an end of file typed after it would be one.
#[test]
fn no_control_character_of_a_long_line_is_lost() {
    let of = |bytes: &[u8]| bytes.repeat(10_000);
    let held = |bytes: &[u8]| (of(bytes), of(bytes));
    let cases = [
        ("", held(b"\t")),
        ("", held(b"\0")),
        ("", held(b"\xff")),
        // special with ECHO only
        ("", held(b"\x12")),
        ("-isig -ixon -iexten", held(b"\x03\x11\x13\x16\x17\x1a\x1c")),
        ("erase undef eof undef", held(b"\x7f\n")),
        // VLNEXT: what follows is held
        ("", (of(b"\x16\n"), of(b"\n"))),
        ("", (of(b"\x16\x04"), of(b"\x04"))),
        ("", ([of(b"\x7f"), b"b".to_vec()].concat(), b"b".to_vec())),
        ("", ([of(b"a\x7f"), b"b".to_vec()].concat(), b"b".to_vec())),
        ("", ([of(b"a\x15"), b"b".to_vec()].concat(), b"b".to_vec())),
        ("igncr", ([of(b"\r"), b"b".to_vec()].concat(), b"b".to_vec())),
        ("inlcr -icrnl", (of(b"\n"), of(b"\r"))),
        ("istrip", (of(b"\xe1"), of(b"a"))),
    ];
    for mechanism in MECHANISMS {
        for (modes, (input, expected)) in &cases {
            let script = format!("stty -opost {modes}; echo ready; exec cat");
            let mut program = on_pty(mechanism, &[], &script);
            let program = program.stdin(StdStdio::piped()).stdout(StdStdio::piped());
            let mut program = program.spawn().unwrap();
            let (mut stdin, mut shown) = (program.stdin.take().unwrap(), vec![0; 6]);
            // the modes are there
            program.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
            assert_eq!(text(&shown), "ready\n");
            let output = std::thread::scope(|scope| {
                scope.spawn(move || {
                    stdin.write_all(input).unwrap();
                });
                if modes.contains("eof undef") {
                    // nothing ends cat but its terminal
                    let mut shown = vec![0; expected.len()];
                    program.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
                    program.kill().unwrap();
                    program.wait().unwrap();
                    return shown;
                }
                program.wait_with_output().unwrap().stdout
            });
            let first = input.get(..4);
            assert!(
                &output == expected,
                "{modes} {first:?}: {} of {}",
                output.len(),
                expected.len()
            );
        }
    }
}

#[test]
fn a_mebibyte_passes_a_raw_terminal_in_both_directions() {
    let bytes: Vec<u8> =
        (0..1 << 20).map(|nth: u32| (nth.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for mechanism in MECHANISMS {
        let mut program =
            on_pty(mechanism, &[], "stty raw -echo; echo ready; exec head -c 1048576");
        let program = program.stdin(StdStdio::piped()).stdout(StdStdio::piped());
        let mut program = program.spawn().unwrap();
        let (mut stdin, mut stdout) =
            (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        let mut shown = vec![0; 6];
        stdout.read_exact(&mut shown).unwrap();
        assert_eq!(text(&shown), "ready\n");
        shown.clear();
        std::thread::scope(|scope| {
            let bytes = &bytes;
            scope.spawn(move || stdin.write_all(bytes).unwrap());
            stdout.read_to_end(&mut shown).unwrap();
        });
        assert!(shown == bytes, "{}", shown.len());
        assert_eq!(program.wait().unwrap().code(), Some(0));
    }
}

/// Neither an input that never ends nor a command that closes its terminal costs time.
#[test]
fn a_command_that_reads_nothing_ends() {
    for mechanism in MECHANISMS {
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        let output = on_pty(mechanism, &[], "echo hello").stdin(zeros).output().unwrap();
        assert_eq!(text(&output.stdout), "hello\r\n");
    }
}

/// The CPU time of a program whose command sleeps, in milliseconds.
#[allow(unsafe_code)]
fn cpu_of(mut program: StdCommand) -> i64 {
    let mut program = program.spawn().unwrap();
    // SAFETY: zeroes are valid, and the kernel fills them; the child is not reaped elsewhere
    let usage = unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        assert!(libc::wait4(program.id() as i32, core::ptr::null_mut(), 0, &mut usage) > 0);
        usage
    };
    program.wait().unwrap_err();
    let millis = |time: libc::timeval| time.tv_sec * 1000 + time.tv_usec / 1000;
    millis(usage.ru_utime) + millis(usage.ru_stime)
}

#[test]
fn a_program_that_waits_uses_no_cpu() {
    for mechanism in MECHANISMS {
        // the input is at its end, and the command has closed its terminal
        for script in ["exec sleep 2", "exec sleep 2 <&- >&- 2>&-", "stty raw; exec sleep 2"] {
            let used = cpu_of(on_pty(mechanism, &[], script));
            assert!(used < 500, "{script}: {used} ms");
        }
    }
}

/// A process that has closed its terminal still has it as its controlling one.
#[test]
fn what_comes_after_the_terminal_was_closed_is_printed() {
    for mechanism in MECHANISMS {
        let output =
            run(mechanism, &[], "exec <&- >&- 2>&-; sleep 0.2; echo late >/dev/tty; exit 3");
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("late\r\n", Some(3)));
    }
}

/// Where nothing can be printed the terminal hangs up, as one whose line is lost.
#[test]
fn a_reader_that_is_gone_hangs_the_terminal_up() {
    for mechanism in MECHANISMS {
        let closed = || io::pipe().map(|(_, writer)| writer).unwrap();
        let mut program = on_pty(mechanism, &[], "exec yes");
        let status = program.stdout(closed()).status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGHUP));
        let script = "trap '' HUP; while echo x 2>/dev/null; do :; done; exit 5";
        let status = on_pty(mechanism, &[], script).stdout(closed()).status().unwrap();
        assert_eq!(status.code(), Some(5));
        // one that prints nothing is not concerned
        let status = on_pty(mechanism, &[], "exit 6").stdout(closed()).status().unwrap();
        assert_eq!(status.code(), Some(6));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = on_pty(mechanism, &[], "exec yes").stdout(full).output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGHUP));
        assert!(text(&output.stderr).contains("No space left"), "{output:?}");
    }
}

/// A reader that does not read makes the command wait. A timeout and a signal end that.
#[test]
fn a_slow_reader_delays_the_command_only() {
    for mechanism in MECHANISMS {
        let piped = |options: &[&str], script: &str| {
            let mut program = on_pty(mechanism, options, script);
            program.stdout(StdStdio::piped()).stderr(StdStdio::null()).spawn().unwrap()
        };
        let options = ["--timeout", "0.3", "--grace", "0.1"];
        let mut program = piped(&options, "exec yes");
        assert_eq!(program.wait().unwrap().code(), Some(124));
        // what it has printed is still held when it ends: 64 KiB by the pipe, some by the pty
        let mut program = piped(&options, "exec head -c 70000 /dev/zero");
        assert_eq!(program.wait().unwrap().code(), Some(124));
        let mut program = piped(&["--grace", "0.1"], "exec yes");
        let mut shown = [0; 3];
        program.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
        StdCommand::new("kill").arg(program.id().to_string()).status().unwrap();
        assert_eq!(program.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}

/// No time between SIGTERM and SIGKILL is no hurry for what was printed before.
#[test]
fn no_grace_loses_no_output() {
    for mechanism in MECHANISMS {
        let options = ["--timeout", "0.3", "--grace", "0"];
        let output = run(mechanism, &options, "echo hi; exec sleep 1000");
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("hi\r\n", Some(124)));
        assert!(!text(&output.stderr).contains("lost"), "{output:?}");
    }
}

/// A program such as agetty(8) hangs its terminal up, so that no other has it, and opens it again.
#[test]
fn a_terminal_that_its_command_hangs_up_is_used_again() {
    if !is_root() {
        return println!("SKIPPED: only root can call vhangup(2)");
    }
    for mechanism in MECHANISMS {
        let scenario = "linux::pty_exec::hangs_its_terminal_up";
        let test = std::env::current_exe().unwrap();
        let words = [test.to_str().unwrap(), "--exact", scenario, "--ignored", "--nocapture"];
        let program = || {
            let mut program = proctable(&[mechanism, &["--timeout", "20", "--"], &words].concat());
            program.stdin(StdStdio::piped()).stdout(StdStdio::piped());
            program.spawn().unwrap()
        };
        let mut program = program();
        let mut stdin = program.stdin.take().unwrap();
        // what never comes ends with the timeout
        let mut stdout = io::BufReader::new(program.stdout.take().unwrap());
        let mut shown = String::new();
        let mut line = |until: &str| {
            shown.clear();
            while !shown.contains(until) {
                assert!(stdout.read_line(&mut shown).unwrap() > 0, "{shown}");
            }
        };
        line("before");
        stdin.write_all(b"one\n").unwrap();
        line("after");
        stdin.write_all(b"two\n").unwrap();
        line("got two");
        // an end of file, for each that reads
        drop(stdin);
        line("ended twice");
        assert_eq!(program.wait().unwrap().code(), Some(7));
    }
}

#[test]
#[ignore = "a scenario of a_terminal_that_its_command_hangs_up_is_used_again"]
#[allow(unsafe_code)]
fn hangs_its_terminal_up() {
    let name = std::fs::read_link("/proc/self/fd/0").unwrap();
    let mut line = String::new();
    println!("before");
    io::stdin().read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    // SAFETY: plain calls; SIG_IGN is no address
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        assert_eq!(libc::vhangup(), 0);
        for stream in 0..3 {
            libc::close(stream);
        }
    }
    // what is typed now reaches no process
    std::thread::sleep(Duration::from_millis(300));
    let mut terminal = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let mut buffer = [0; 100];
    writeln!(terminal, "after").unwrap();
    let count = terminal.read(&mut buffer).unwrap();
    writeln!(terminal, "got {}", text(&buffer[..count])).unwrap();
    assert_eq!((terminal.read(&mut buffer).unwrap(), terminal.read(&mut buffer).unwrap()), (0, 0));
    writeln!(terminal, "ended twice").unwrap();
    std::process::exit(7);
}

/// With fewer and fewer descriptors, each place where one is needed says what it needs it for.
#[test]
fn a_lack_of_descriptors_for_the_pty_is_named() {
    for mechanism in MECHANISMS {
        for limit in 3..40 {
            let mut shell = StdCommand::new("sh");
            let shell = shell.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
            let program = env!("CARGO_BIN_EXE_proctable");
            let output = shell.arg(program).args(mechanism).arg("true").output().unwrap();
            let said = text(&output.stderr);
            if said.contains("proctable: true: ") {
                // the pty is there
                break;
            }
            let unnamed = ["proctable: Too", "proctable: no pty"];
            let is_named = !unnamed.iter().any(|it| said.contains(it));
            assert!(is_named, "{limit}: {said}");
        }
    }
}

/// The command has ended, and the pty holds its last output, as nothing reads standard output yet.
#[test]
fn the_output_that_the_pty_holds_is_waited_for() {
    for (nth, mechanism) in MECHANISMS.into_iter().enumerate() {
        let mark = format!("PTY_HOLDS={}-{nth}", std::process::id());
        let mut program =
            on_pty(mechanism, &["--env", &mark], "echo ready; exec head -c 70000 /dev/zero");
        let mut program = program.stdout(StdStdio::piped()).spawn().unwrap();
        let mut shown = [0; 7];
        program.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
        until("the command has ended", || marked(&mark).is_empty());
        let output = program.wait_with_output().unwrap();
        assert_eq!((output.stdout.len(), output.status.code()), (70_000, Some(0)));
    }
}

/// All output of the command is printed, and a process that keeps the terminal open, or prints all
/// the while, does not delay the end.
#[test]
fn the_output_ends_with_the_command() {
    let script = "trap '' HUP; setsid sleep 1000 & echo $!; read x; yes & \
                  exec head -c 60000 /dev/zero";
    for mechanism in MECHANISMS {
        for on_exit in ["--on-exit=leave", "--on-exit=kill"] {
            let program = on_pty(mechanism, &[on_exit], script);
            let output = run_with(program, b"\n");
            let zeros = output.stdout.iter().filter(|byte| **byte == 0).count();
            assert_eq!((zeros, output.status.code()), (60_000, Some(0)));
            let shown = text(&output.stdout);
            let pid: i32 = shown.lines().next().unwrap().trim().parse().unwrap();
            assert_eq!(is_there(pid), on_exit == "--on-exit=leave");
            if on_exit == "--on-exit=leave" {
                StdCommand::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
            }
        }
    }
}

#[test]
fn exec_on_a_pty_has_the_status_of_its_command() {
    for mechanism in MECHANISMS {
        let status = |options: &[&str], script: &str| run(mechanism, options, script).status;
        assert_eq!(status(&[], "exit 7").code(), Some(7));
        assert_eq!(status(&[], "kill -TERM $$").signal(), Some(libc::SIGTERM));
        assert_eq!(status(&["--shell-status"], "kill -TERM $$").code(), Some(143));
        assert_eq!(status(&["--timeout", "0.05"], "sleep 1000").code(), Some(124));
        assert_eq!(status(&["--detach"], "true").code(), Some(125));
        assert_eq!(status(&["--process-group"], "true").code(), Some(125));
        let of = |command| proctable(&[mechanism, &["--", command]].concat()).output().unwrap();
        assert_eq!(of("no-such-program").status.code(), Some(127));
        assert_eq!(of("/proc/version").status.code(), Some(126));
    }
}

/// A stream that is closed, or that cannot be read, is at its end. Output to a closed one is lost.
#[test]
fn closed_streams_are_no_streams() {
    for mechanism in MECHANISMS {
        for streams in ["<&-", ">&-", "<&- >&- 2>&-", "</", "0>/dev/null"] {
            let program = env!("CARGO_BIN_EXE_proctable");
            let mut shell = StdCommand::new("sh");
            let shell = shell.args(["-c", &format!("exec \"$@\" {streams}"), "sh", program]);
            let shell = shell.args(mechanism).stdin(StdStdio::piped());
            let script = "cat; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && exit 4";
            let output = shell.args(["--", "sh", "-c", script]).output().unwrap();
            assert_eq!(output.status.code(), Some(4), "{streams}: {output:?}");
        }
    }
}

/// Where a filter leaves fork(2) alone, the child becomes the leader of its session as well.
#[test]
fn a_child_of_fork_has_the_terminal() {
    use std::os::unix::process::CommandExt;
    for mechanism in MECHANISMS {
        let pidfd = libc::CLONE_PIDFD as u32;
        let filter = [
            refuse(libc::SYS_clone3, 0, libc::ENOSYS),
            refuse(libc::SYS_clone, pidfd, libc::EINVAL),
        ];
        let filter = filter.concat();
        let mut program = on_pty(mechanism, &[], "echo x >/dev/tty; exit 3");
        let filtered = move || {
            forbid(&filter);
            Ok(())
        };
        // SAFETY: system calls, and an allocation: there is one thread in the child
        #[allow(unsafe_code)]
        let output = unsafe { program.pre_exec(filtered) }.output().unwrap();
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("x\r\n", Some(3)));
    }
}

/// Signals to the program reach the tree, or the command, as without a pty.
#[test]
fn exec_on_a_pty_passes_signals_on() {
    for mechanism in MECHANISMS {
        for (signal, seen) in [("TERM", "term"), ("USR1", "usr1"), ("INT", "int"), ("HUP", "hup")] {
            let script = "for s in TERM USR1 INT HUP; do trap \"echo $s; exit 4\" $s; done; \
                          kill -$0 $PPID; while :; do sleep 0.01; done";
            let words = [mechanism, &["--default-signals", "--", "sh", "-c", script, signal]];
            let output = proctable(&words.concat()).output().unwrap();
            let shown = text(&output.stdout).to_lowercase();
            // the shell may say that its child was terminated, too
            assert!(shown.trim_end().ends_with(seen), "{shown}");
            assert_eq!(output.status.code(), Some(4));
        }
    }
}

/// Nothing is left of the command: processes in other sessions, daemons, and those that ignore the
/// hang-up.
#[test]
fn exec_on_a_pty_leaves_nothing() {
    let script = "trap '' HUP; setsid sleep 1000 & (setsid sh -c 'sleep 1001 & sleep 1002' &); \
                  sleep 1003 & sleep 0.1; exit 5";
    for (nth, mechanism) in MECHANISMS.into_iter().enumerate() {
        let mark = format!("PTY_TEST={}-{nth}", std::process::id());
        let output = run(mechanism, &["--env", &mark], script);
        assert_eq!(output.status.code(), Some(5));
        assert_eq!(still_there(&marked(&mark)), "");
    }
}

/// The kernel ends the command and hangs up its terminal; what ignores that needs an option.
#[test]
fn exec_on_a_pty_that_is_killed_leaves_what_its_options_say() {
    for (nth, mechanism) in MECHANISMS.into_iter().enumerate() {
        let mark = format!("PTY_KILL={}-{nth}", std::process::id());
        let script = "sleep 1000 & echo ready; sleep 1001";
        let mut program = on_pty(mechanism, &["--env", &mark], script);
        let mut program = program.stdout(StdStdio::piped()).spawn().unwrap();
        let mut shown = [0; 7];
        program.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
        assert!(!marked(&mark).is_empty());
        program.kill().unwrap();
        program.wait().unwrap();
        until("nothing is left", || marked(&mark).is_empty());
        // a later program may have its number, and has no such cgroup
        until("the cgroup is removed", || {
            proctable(&["sweep"]).stdout(StdStdio::null()).status().unwrap();
            directories_of(program.id()).is_empty()
        });
    }
    let mark = format!("PTY_GUARDIAN={}", std::process::id());
    let options = ["--guardian", "--env", &mark];
    let script = "trap '' HUP; setsid sleep 1000 & echo ready; sleep 1001";
    let mut program = on_pty(MECHANISMS[0], &options, script);
    let mut program = program.stdout(StdStdio::piped()).stderr(StdStdio::piped()).spawn().unwrap();
    let mut shown = [0; 7];
    if program.stdout.as_mut().unwrap().read_exact(&mut shown).is_err() {
        let output = program.wait_with_output().unwrap();
        return println!("SKIPPED: no guardian: {}", text(&output.stderr));
    }
    program.kill().unwrap();
    program.wait().unwrap();
    until("nothing is left", || marked(&mark).is_empty());
}

#[test]
fn other_options_work_beside_a_pty() {
    let file = std::env::temp_dir().join(format!("proctable-pty-{}", std::process::id()));
    let events = file.to_str().unwrap();
    for mechanism in MECHANISMS {
        let options = ["--summary", "--tree", "--events", events, "--timeout", "60"];
        let output = run(mechanism, &options, "stty size; sleep 1; echo end; exit 3");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(text(&output.stdout), "0 0\r\nend\r\n");
        let said = text(&output.stderr);
        assert!(said.contains("PID S") && said.contains("exited 3"), "{said}");
        // standard error is no terminal
        assert!(!said.contains('\r'), "{said:?}");
        let log = std::fs::read_to_string(&file).unwrap();
        assert!(log.lines().any(|line| line.contains("exited") && line.contains("\"code\":3")));
    }
    let _ = std::fs::remove_file(PathBuf::from(&file));
    let output = run(MECHANISMS[0], &["--weaker-limits", "--memory", "200M"], "echo $((6 * 7))");
    assert_eq!(text(&output.stdout), "42\r\n", "{output:?}");
}

#[test]
fn a_user_has_the_terminal() {
    if !is_root() {
        return println!("SKIPPED: only root can become another user");
    }
    let script = "stat -c %u \"$(tty)\"; echo name >\"$(tty)\"; echo tty >/dev/tty; id -u";
    for mechanism in MECHANISMS {
        let output = run(mechanism, &["--user", "65534:65534"], script);
        assert_eq!(text(&output.stdout), "65534\r\nname\r\ntty\r\n65534\r\n", "{output:?}");
    }
}

/// What is missing is named, and the status says that it is no status of the command.
#[test]
fn exec_says_why_there_is_no_pty() {
    if !is_root() {
        return println!("SKIPPED: only root can mount in a namespace of its own");
    }
    for (mount, word) in [
        ("mount -t tmpfs none /dev", "/dev/ptmx: No such file"),
        ("mount -t tmpfs none /dev/pts", "/dev/ptmx: No such device"),
    ] {
        let script = format!("{mount} && exec \"$@\"");
        let program = env!("CARGO_BIN_EXE_proctable");
        let words = ["--mount", "--", "sh", "-c", &script, "sh", program, "exec", "--pty", "true"];
        let output = StdCommand::new("unshare").args(words).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("--pty: no pty") && said.contains(word), "{said}");
    }
}

/// Without /proc nothing but the direct children can be reached.
#[test]
fn a_pty_needs_no_proc() {
    if !is_root() {
        return println!("SKIPPED: only root can unmount in a namespace of its own");
    }
    let script = "umount -l /proc && exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_proctable");
    for options in [&["exec", "--pty"][..], &["exec", "--pty", "--no-cgroup"]] {
        let words = ["--mount", "--", "sh", "-c", script, "sh", program];
        let command = ["--", "sh", "-c", "tty; cat; exit 4"];
        let mut program = StdCommand::new("unshare");
        let program = program.args(words).args(options).args(command).stdin(StdStdio::null());
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(text(&output.stdout).starts_with("/dev/pts/"), "{output:?}");
    }
}

#[test]
fn exec_on_a_pty_serves_an_ordinary_user() {
    as_ordinary_user("linux::pty_exec::as_the_present_user");
}

#[test]
#[ignore = "a scenario of exec_on_a_pty_serves_an_ordinary_user"]
fn as_the_present_user() {
    the_command_has_a_terminal_of_its_own();
    the_end_of_the_input_is_an_end_of_file();
    exec_on_a_pty_has_the_status_of_its_command();
    exec_on_a_pty_leaves_nothing();
}
