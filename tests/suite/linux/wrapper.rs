//! What `proctable exec` passes on to its command and tells of it: environment, streams, sockets,
//! user and signals; errors, timeouts, kills for want of memory, and the events of all processes.
#![allow(unsafe_code)]

use super::program::proctable;
use super::spawn::{forbid, refuse};
use super::*;

use std::ffi::CString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command as StdCommand, Output, Stdio as StdStdio};

use serde_json::Value;

/// By the mechanisms that keep a tree together.
const MECHANISMS: [&[&str]; 2] = [&["exec"], &["exec", "--no-cgroup"]];

fn run(args: &[&str]) -> Output {
    proctable(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this test alone, removed with its owner.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> TempFile {
        // a scenario runs in a process of its own
        TempFile(std::env::temp_dir().join(format!("proctable-{name}-{}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs the program by a shell that prepares something for it.
fn by_shell(script: &str, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_proctable");
    let mut shell = StdCommand::new("sh");
    shell.args(["-c", script, "sh", program]).args(args).stdin(StdStdio::null());
    shell.output().unwrap()
}

/// An environment is a list of strings: also one without a name or `=`, and two of one name, reach
/// the command as they are.
#[test]
fn exec_passes_the_environment_on_unchanged() {
    let entries = ["A=1", "no-equals-sign", "=nameless", "A=2", "", "PATH=/usr/bin:/bin"];
    for mechanism in MECHANISMS {
        let strings = |list: &[&str]| -> Vec<CString> {
            list.iter().map(|string| CString::new(*string).unwrap()).collect()
        };
        let program = env!("CARGO_BIN_EXE_proctable");
        let args = strings(&[&[program], mechanism, &["--", "cat", "/proc/self/environ"]].concat());
        let env = strings(&entries);
        let mut child = StdCommand::new(program);
        let execute = move || {
            let list = |strings: &[CString]| -> Vec<_> {
                let all = strings.iter().map(|string| string.as_ptr());
                all.chain([core::ptr::null()]).collect()
            };
            let (args, env) = (list(&args), list(&env));
            // SAFETY: strings and lists that end in zero
            unsafe { libc::execve(args[0], args.as_ptr(), env.as_ptr()) };
            Err(io::Error::last_os_error())
        };
        // SAFETY: there is one thread at this moment in the child; it executes at once
        let output = unsafe { child.pre_exec(execute) }.output().unwrap();
        let seen = text(&output.stdout);
        let seen: Vec<_> = seen.split('\0').collect();
        assert_eq!(seen[..entries.len()], entries, "{}", text(&output.stderr));
    }
}

/// A stream that is closed for the program is closed for the command, too, and the others lead
/// where they did.
#[test]
fn exec_leaves_closed_streams_closed() {
    let script = "exec 9>\"$0\"; for n in 0 1 2; do \
                  if [ -L /proc/$$/fd/$n ]; then echo open >&9; else echo closed >&9; fi; done";
    for mechanism in MECHANISMS {
        for closed in ["", "0", "1", "2", "01", "12", "012"] {
            let file = TempFile::new("streams");
            let close: String = closed.chars().map(|number| format!(" {number}>&-")).collect();
            let args = [mechanism, &["--", "sh", "-c", script, file.path()]].concat();
            let output = by_shell(&format!("exec \"$@\"{close}"), &args);
            let seen = std::fs::read_to_string(file.path()).unwrap_or_default();
            let expected: String = ["0", "1", "2"]
                .map(|number| if closed.contains(number) { "closed\n" } else { "open\n" })
                .concat();
            assert_eq!(seen, expected, "{closed}: {output:?}");
        }
        // /dev/null that the caller has opened is no closed stream, for reading and writing too
        let args = [mechanism, &["--", "readlink", "/proc/self/fd/0"]].concat();
        let output = by_shell("exec \"$@\" 0<>/dev/null", &args);
        assert_eq!(text(&output.stdout), "/dev/null\n");
    }
}

/// Without descriptors of processes there is no tree: the message names the call and the kernel
/// that has it.
#[test]
fn exec_names_the_call_that_a_kernel_lacks() {
    let pidfd = libc::CLONE_PIDFD as u32;
    let without_send = refuse(libc::SYS_pidfd_send_signal, 0, libc::ENOSYS);
    let without_open = [
        refuse(libc::SYS_clone3, 0, libc::ENOSYS),
        refuse(libc::SYS_clone, pidfd, libc::EINVAL),
        refuse(libc::SYS_pidfd_open, 0, libc::ENOSYS),
    ];
    for (filter, words) in [
        (without_send, ["pidfd_send_signal", "Linux 5.1", "Linux 5.4"]),
        (without_open.concat(), ["pidfd_open", "Linux 5.3", "Linux 5.4"]),
    ] {
        let mut child = proctable(&["exec", "--no-cgroup", "--", "true"]);
        let filtered = move || {
            forbid(&filter);
            Ok(())
        };
        // SAFETY: system calls, and an allocation: there is one thread in the child
        let output = unsafe { child.pre_exec(filtered) }.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

/// The text of an error is for a user: program, call, error, and what helps.
#[test]
fn exec_says_what_failed_and_what_helps() {
    use std::os::unix::fs::PermissionsExt;
    let script = TempFile::new("script");
    std::fs::write(&script.0, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (args, code, words) in [
        (&["no-such-program"][..], 127, "no-such-program: execve: No such file or directory; no"),
        (&["/no/such/program"], 127, "/no/such/program: execve: No such file or directory\n"),
        (&[script.path()], 127, "but its interpreter"),
        (
            &["/proc/version"],
            126,
            "/proc/version: execve: Permission denied; the file needs execute",
        ),
        (&["/proc"], 126, "/proc: execve: Permission denied; it is a directory"),
        (
            &["--chdir", "/no/such", "true"],
            125,
            "true: chdir /no/such: No such file or directory\n",
        ),
    ] {
        let output = run(&[&["exec"], args].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words) && said.starts_with("proctable: "), "{said}");
        assert!(!said.contains("Exec:") && !said.contains("os error"), "{said}");
    }
}

/// execvp(3) of BSD: a program that a process has open for writing is tried again for a moment.
#[test]
fn a_busy_program_is_tried_again() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Options::new().without_cgroup().create().unwrap();
    let program = TempFile::new("busy");
    std::fs::copy("/bin/true", &program.0).unwrap();
    std::fs::set_permissions(&program.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let writer = || std::fs::File::options().append(true).open(&program.0).unwrap();
    let busy = writer();
    let begin = Instant::now();
    let error = tree.spawn(Command::new(&program.0)).unwrap_err();
    assert_eq!((error.step, error.error.raw_os_error()), (Step::Exec, Some(libc::ETXTBSY)));
    assert!(begin.elapsed() >= Duration::from_millis(127), "{:?}", begin.elapsed());
    assert!(error.to_string().ends_with("a process has the file open for writing"), "{error}");
    drop(busy);
    // it is closed a moment later, when this process has created a child that has it open, too; on
    // a machine that is slow right now that may be too late
    let is_run = |_| {
        let busy = writer();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                drop(busy);
            });
            let spawned = tree.spawn(Command::new(&program.0));
            let status = spawned.map_err(|error| println!("{error}")).map(|child| child.wait());
            status == Ok(Ok(WaitStatus::exited(0)))
        })
    };
    assert!((0..50).any(is_run));
}

/// sd_listen_fds(3): sockets that a service manager opened for the program are the command's.
#[test]
fn exec_passes_the_sockets_of_a_service_manager_on() {
    let show = "echo $$ ${LISTEN_PID-none} ${LISTEN_FDS-none} ${LISTEN_PIDFDID-none}; \
                readlink /proc/self/fd/3";
    for mechanism in MECHANISMS {
        let args = [mechanism, &["--", "sh", "-c", show]].concat();
        let output =
            by_shell("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_PIDFDID=5 exec \"$@\" 3</dev/zero", &args);
        let said = text(&output.stdout);
        let (words, socket) = said.split_once('\n').unwrap();
        let words: Vec<_> = words.split(' ').collect();
        assert_eq!(words[1..], [words[0], "1", "none"], "{said}");
        assert_eq!(socket, "/dev/zero\n");
        // of another process they stay
        let output = by_shell("LISTEN_PID=1 LISTEN_FDS=1 exec \"$@\" 3</dev/zero", &args);
        assert!(text(&output.stdout).contains(" 1 1 none\n"), "{output:?}");
        let output = by_shell("exec \"$@\" 3</dev/zero", &args);
        assert!(text(&output.stdout).contains(" none none none\n"), "{output:?}");
    }
}

/// As `env -i`, `env -u` and `env -C`, in this order whatever the order of the options.
#[test]
fn exec_sets_environment_and_directory() {
    for mechanism in MECHANISMS {
        let said = |options: &[&str], script: &str| {
            let args = [mechanism, options, &["--", "/bin/sh", "-c", script]].concat();
            let output = proctable(&args).env("A", "a").env("B", "b").output().unwrap();
            assert!(output.status.success(), "{output:?}");
            text(&output.stdout)
        };
        let show = "echo \"${A-none} ${B-none} ${C-none}\"";
        assert_eq!(said(&[], show), "a b none\n");
        assert_eq!(said(&["--env", "C=x=y", "--env", "A="], show), " b x=y\n");
        assert_eq!(said(&["--unset", "A"], show), "none b none\n");
        assert_eq!(said(&["--env", "A=1", "--unset", "A", "--env-clear"], show), "1 none none\n");
        assert_eq!(said(&["--chdir", "/proc"], "pwd"), "/proc\n");
        // the program is looked for in the command's PATH
        let args = [mechanism, &["--env", "PATH=/no/such", "--", "true"]].concat();
        assert_eq!(run(&args).status.code(), Some(127));
    }
    for variable in ["A", "=a", ""] {
        assert_eq!(run(&["exec", "--env", variable, "--", "true"]).status.code(), Some(125));
    }
}

/// The user of a command with the groups of a login, or with one group.
#[test]
fn exec_runs_as_another_user() {
    let missing = run(&["exec", "--user", "no-such-user", "--", "true"]);
    assert_eq!(missing.status.code(), Some(125));
    assert!(text(&missing.stderr).contains("/etc/passwd has no user `no-such-user`"));
    if !is_root() {
        return println!("SKIPPED: only root can become another user");
    }
    for mechanism in MECHANISMS {
        let ids = |user: &str| {
            let args = [mechanism, &["--user", user, "--", "sh", "-c", "id -u; id -g; id -G"]];
            let output = run(&args.concat());
            assert!(output.status.success(), "{output:?}");
            text(&output.stdout)
        };
        assert_eq!(ids("54321:54322"), "54321\n54322\n54322\n");
        assert_eq!(ids("0:7"), "0\n7\n7\n");
        let id = StdCommand::new("id").args(["-G", "nobody"]).output().unwrap();
        if id.status.success() {
            // the same groups as a login has
            let groups = text(&id.stdout);
            assert!(ids("nobody").ends_with(&format!("\n{groups}")), "{groups}");
        }
    }
    as_ordinary_user("linux::wrapper::only_root_can_choose_a_user");
}

#[test]
#[ignore = "a scenario of exec_runs_as_another_user"]
fn only_root_can_choose_a_user() {
    let refused = run(&["exec", "--user", "54321:54322", "--", "true"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("setgroups") && said.contains("only root can change the user"), "{said}");
}

/// Runs a command with a timeout that is long enough for it to print a line first.
fn timed_out(options: &[&str], script: &str) -> Output {
    for timeout in ["0.3", "2", "20"] {
        let timeout = ["--timeout", timeout];
        let args = [&["exec"], &timeout[..], options, &["--", "sh", "-c", script]].concat();
        let output = run(&args);
        if output.stdout == b"ready\n" {
            return output;
        }
    }
    panic!("it does not begin in time");
}

/// As `timeout -s` and `timeout --preserve-status`.
#[test]
fn exec_ends_with_the_signal_and_the_status_that_were_asked_for() {
    let script = "trap 'exit 3' INT; trap '' TERM; echo ready; while :; do sleep 0.01; done";
    for mechanism in [&[][..], &["--no-cgroup"]] {
        let output = timed_out(&[mechanism, &["--signal", "INT"]].concat(), script);
        assert_eq!(output.status.code(), Some(124));
        let options = [mechanism, &["-s", "2", "--preserve-status"]].concat();
        assert_eq!(timed_out(&options, script).status.code(), Some(3));
        let options = [mechanism, &["--signal", "KILL", "--preserve-status"]].concat();
        assert_eq!(timed_out(&options, script).status.signal(), Some(libc::SIGKILL));
        // the process that the command leaves gets the signal, too: nothing else ends it
        let left =
            "trap 'echo USR1; exit' USR1; trap '' TERM; echo >&3; while :; do sleep 0.01; done";
        let fifo = TempFile::new("left");
        let script = "mkfifo $2; sh -c \"$1\" 3>$2 & read line <$2";
        let args = ["-s", "USR1", "--", "sh", "-c", script, "sh", left, fifo.path()];
        let output = run(&[&["exec"], mechanism, &args].concat());
        assert_eq!(text(&output.stdout), "USR1\n", "{output:?}");
    }
    assert_eq!(run(&["exec", "--signal", "NONE", "--", "true"]).status.code(), Some(125));
}

/// A timeout is named: in a message, in the summary, and in the events.
#[test]
fn exec_names_a_timeout() {
    for mechanism in [&[][..], &["--no-cgroup"]] {
        let file = TempFile::new("timeout");
        let options = [mechanism, &["--summary", "--events", file.path()]].concat();
        let output = timed_out(&options, "echo ready; exec sleep 1000");
        let said = text(&output.stderr);
        assert!(
            said.contains("proctable: timed out after ") && said.contains("SIGTERM to"),
            "{said}"
        );
        let summary = said.lines().find(|line| line.starts_with("timed out after"));
        assert!(summary.is_some_and(|line| line.contains("left behind")), "{said}");
        let events = file.lines();
        let event = events.iter().find(|event| event["event"] == "timed_out").unwrap();
        assert!(event["after"].as_f64() >= Some(0.3), "{events:?}");
    }
}

/// A kill at the limit of memory is named: in a message, in the summary, and in the events.
#[test]
fn exec_names_a_kill_for_want_of_memory() {
    let preflight = proctable::drivers::linux::preflight();
    if let Err(why) = &preflight.limits[0].1 {
        return println!("SKIPPED: no limit of memory: {why}");
    }
    // the command itself, and a process of it: the command continues
    for (script, signal, code) in [
        ("exec tail /dev/zero", Some(libc::SIGKILL), None),
        ("tail /dev/zero; exit 4", None, Some(4)),
    ] {
        let file = TempFile::new("memory");
        let options = ["exec", "--memory", "30M", "--summary", "--events", file.path()];
        let output = run(&[&options[..], &["--", "sh", "-c", script]].concat());
        let said = text(&output.stderr);
        if said.contains("rlimit") {
            return println!("SKIPPED: no controller of memory: {said}");
        }
        assert_eq!((output.status.signal(), output.status.code()), (signal, code), "{said}");
        let message = "out of memory: limit 30M; processes that the kernel killed: 1";
        assert!(said.contains(&format!("proctable: {message}\n")), "{said}");
        assert!(said.contains(&format!("\n{message}\n")), "in the summary: {said}");
        let events = file.lines();
        let event = events.iter().find(|event| event["event"] == "out_of_memory").unwrap();
        assert_eq!((event["limit"].as_u64(), event["killed"].as_u64()), (Some(30 << 20), Some(1)));
    }
    // a limit that is not reached
    let output = run(&["exec", "--memory", "30M", "--", "sh", "-c", "kill -KILL $$"]);
    assert!(!text(&output.stderr).contains("memory"), "{output:?}");
}

/// Whether the kernel keeps the status of a process that was reaped (Linux 6.15).
fn keeps_status() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// All processes of the tree are in the events, whatever their parents, groups and sessions.
#[test]
fn exec_tells_of_every_process() {
    let script = "exec 3<&0; (read x <&3; exit 3) & setsid sh -c 'read x <&3; kill -KILL $$' & \
                  (setsid sh -c 'exec tail -f /dev/null --pid=1' &) ; wait";
    for mechanism in MECHANISMS {
        let file = TempFile::new("members");
        let args = [mechanism, &["--events", file.path(), "--", "sh", "-c", script]].concat();
        let mut exec = proctable(&args).stdin(StdStdio::piped()).spawn().unwrap();
        let named = |kind: &str, key: &str| {
            let lines = file.lines().into_iter().filter(|line| line["event"] == kind);
            lines.map(|line| line[key].clone()).collect::<Vec<_>>()
        };
        // the daemon has executed its program, and no shell on the way to it is left
        let daemon = || {
            let is_daemon = |pid: &Value| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                name.is_ok_and(|name| name == "tail\n")
            };
            named("started", "pid").into_iter().find(is_daemon)
        };
        until("three have started", || {
            let alive = named("started", "pid").len() - named("exited", "pid").len();
            alive == 3 && daemon().is_some()
        });
        let daemon = daemon();
        drop(exec.stdin.take());
        assert_eq!(exec.wait().unwrap().code(), Some(0));
        let lines = file.lines();
        let started: Vec<_> = lines.iter().filter(|line| line["event"] == "started").collect();
        for start in &started {
            assert!(start["parent"].as_u64() > Some(0) && start["command"].is_string(), "{start}");
            let end =
                lines.iter().find(|line| line["event"] == "exited" && line["pid"] == start["pid"]);
            assert!(end.is_some(), "{start} has no end: {lines:?}");
        }
        let command = lines.iter().find(|line| line["event"] == "created").unwrap();
        assert_eq!(
            (&command["command"], command["parent"].as_u64()),
            (&"sh".into(), Some(exec.id().into()))
        );
        let is_child =
            |line: &&Value| line["event"] == "exited" && line["parent"] == command["pid"];
        if keeps_status() {
            let ends: Vec<_> = lines.iter().filter(is_child).collect();
            assert!(ends.iter().any(|end| end["code"] == 3), "{ends:?}");
            assert!(ends.iter().any(|end| end["signal"] == "SIGKILL"), "{ends:?}");
        }
        let is_end = |line: &&Value| line["event"] == "exited";
        let mut ends = lines.iter().filter(is_end);
        assert!(ends.any(|line| Some(&line["pid"]) == daemon.as_ref()), "{lines:?}");
    }
}

/// With -v the program reports each signal, with its target and the reason.
#[test]
fn exec_says_which_signal_it_sends() {
    let script = "trap '' TERM; trap 'exit 3' USR1; echo; while :; do sleep 0.01; done";
    for mechanism in [&[][..], &["--no-cgroup"]] {
        let args = [&["exec", "-v"], mechanism, &["--", "sh", "-c", script]].concat();
        let mut exec =
            proctable(&args).stdout(StdStdio::piped()).stderr(StdStdio::piped()).spawn().unwrap();
        exec.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let own = std::process::id();
        let mut said = io::BufReader::new(exec.stderr.take().unwrap());
        // one after the other: of two pending signals the lower number comes first
        let mut said_of = |signal: i32| {
            // SAFETY: plain call on a child that is not reaped
            unsafe { libc::kill(exec.id() as i32, signal) };
            let mut line = String::new();
            io::BufRead::read_line(&mut said, &mut line).unwrap();
            line
        };
        let first = format!("proctable: SIGTERM to the tree: SIGTERM came from process {own}\n");
        assert_eq!(said_of(libc::SIGTERM), first);
        let second = said_of(libc::SIGUSR1);
        assert!(second.starts_with("proctable: SIGUSR1 to the command ("), "{second}");
        assert!(second.ends_with(&format!("SIGUSR1 came from process {own}\n")), "{second}");
        assert_eq!(exec.wait().unwrap().code(), Some(3));
        let deaf = "trap '' TERM; echo ready; while :; do sleep 1000; done";
        let output = timed_out(&[mechanism, &["-v", "--grace", "10ms"]].concat(), deaf);
        let said = text(&output.stderr);
        assert!(
            said.contains("SIGKILL to the tree: processes are left after the grace of 10ms"),
            "{said}"
        );
    }
}

/// An ordinary user has the same, by the mechanism that there is.
#[test]
fn the_wrapper_serves_an_ordinary_user() {
    as_ordinary_user("linux::wrapper::as_an_ordinary_user");
}

#[test]
#[ignore = "a scenario of the_wrapper_serves_an_ordinary_user"]
fn as_an_ordinary_user() {
    exec_passes_the_environment_on_unchanged();
    exec_leaves_closed_streams_closed();
    exec_passes_the_sockets_of_a_service_manager_on();
    exec_sets_environment_and_directory();
    exec_names_a_timeout();
    exec_tells_of_every_process();
    exec_says_which_signal_it_sends();
}
