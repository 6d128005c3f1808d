//! The program: `proctable exec` and `proctable sweep`.

use super::*;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command as StdCommand, Stdio as StdStdio};

pub fn proctable(args: &[&str]) -> StdCommand {
    with_default_signals();
    let mut command = StdCommand::new(env!("CARGO_BIN_EXE_proctable"));
    command.args(args).stdin(StdStdio::null());
    command
}

fn status(args: &[&str]) -> Option<i32> {
    proctable(args).stderr(StdStdio::null()).stdout(StdStdio::null()).status().unwrap().code()
}

/// As timeout(1), env(1) and shells give them.
#[test]
fn exec_has_the_status_of_its_command() {
    for mechanism in [&["exec"][..], &["exec", "--no-cgroup"]] {
        let status = |args: &[&str]| status(&[mechanism, args].concat());
        assert_eq!(status(&["--", "sh", "-c", "exit 7"]), Some(7));
        assert_eq!(status(&["--", "sh", "-c", "kill -TERM $$"]), None);
        assert_eq!(status(&["--shell-status", "--", "sh", "-c", "kill -TERM $$"]), Some(128 + 15));
        assert_eq!(status(&["--timeout", "0.05", "--", "sleep", "1000"]), Some(124));
        assert_eq!(status(&["--timeout", "0", "--", "sleep", "0.02"]), Some(0));
        assert_eq!(status(&["--timeout", "1e19", "--", "true"]), Some(0));
        assert_eq!(status(&["--memory", "lots", "--", "true"]), Some(125));
        assert_eq!(status(&["--events", "/no/such/directory", "--", "true"]), Some(125));
        assert_eq!(status(&["--", "/proc/version"]), Some(126));
        assert_eq!(status(&["--", "no-such-program-anywhere"]), Some(127));
    }
}

/// A death by a signal is passed on: the parent sees the program die of the same signal, without a
/// core dump of its own.
#[test]
fn exec_dies_of_the_signal_that_its_command_died_of() {
    let signals = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGKILL,
        libc::SIGUSR1,
        libc::SIGSEGV,
        libc::SIGPIPE,
        libc::SIGTERM,
        libc::SIGSTKFLT,
        40,
    ];
    for mechanism in [&["exec"][..], &["exec", "--no-cgroup"]] {
        for signal in signals {
            let script = format!("ulimit -c 0; kill -{signal} $$");
            let args = [mechanism, &["--default-signals", "--", "sh", "-c", &script]].concat();
            let status = proctable(&args).stderr(StdStdio::null()).status().unwrap();
            assert_eq!((status.signal(), status.core_dumped()), (Some(signal), false));
        }
    }
}

/// Signals for the program go to its command.
#[test]
fn exec_passes_signals_on() {
    let script = "trap 'exit 9' TERM; echo; while :; do sleep 0.01; done";
    let mut exec =
        proctable(&["exec", "--", "sh", "-c", script]).stdout(StdStdio::piped()).spawn().unwrap();
    exec.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    kill(exec.id(), libc::SIGTERM);
    assert_eq!(exec.wait().unwrap().code(), Some(9));
}

/// A leftover that ignores SIGTERM has its grace; an impatient user sends another signal.
#[test]
fn exec_is_hurried_by_a_signal() {
    let script = "trap '' TERM INT; sh -c 'echo; exec >&-; while :; do sleep 1000; done' & exit 3";
    let mut exec = proctable(&["exec", "--grace", "1000", "--", "sh", "-c", script])
        .stdout(StdStdio::piped())
        .spawn()
        .unwrap();
    exec.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let begin = Instant::now();
    // one that comes before the command has ended is the command's
    let status = loop {
        if let Some(status) = exec.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < SOON);
        kill(exec.id(), libc::SIGINT);
    };
    assert_eq!(status.code(), Some(3));
}

fn events(script: &str) -> Vec<serde_json::Value> {
    let file = std::env::temp_dir().join(format!("proctable-events-{}", std::process::id()));
    let args = ["exec", "--events", file.to_str().unwrap(), "--", "sh", "-c", script];
    proctable(&args).stderr(StdStdio::null()).status().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each line is an object: what happened, to which process of the system, and by which rule.
#[test]
fn exec_writes_events_as_lines() {
    for (script, name, value) in
        [("exit 3", "code", serde_json::json!(3)), ("kill -KILL $$", "signal", "SIGKILL".into())]
    {
        let events = events(script);
        let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["created", "executed", "exited", "reaped"], "{events:?}");
        assert_eq!(events[2][name], value);
        assert!(events.iter().all(|event| event["pid"] == events[0]["pid"]));
        assert!(events[0]["pid"].as_u64() > Some(0) && events[2]["rule"].is_string());
    }
}

/// On something that is no terminal the view comes again whenever it differs.
#[test]
fn exec_shows_the_tree() {
    let script = "sleep 1000 & read -r line; kill $!";
    let mut exec = proctable(&["exec", "--tree", "--", "sh", "-c", script])
        .stdin(StdStdio::piped())
        .stderr(StdStdio::piped())
        .spawn()
        .unwrap();
    let mut shown = io::BufReader::new(exec.stderr.take().unwrap());
    let mut line = || {
        let mut line = String::new();
        io::BufRead::read_line(&mut shown, &mut line).unwrap();
        line
    };
    assert_eq!(line(), "     PID S      CPU COMMAND\n");
    // indented, as it is the shell's
    loop {
        let line = line();
        assert!(!line.is_empty(), "it ends without having been shown");
        if line.ends_with("   sleep\n") {
            break;
        }
    }
    drop(exec.stdin.take());
    assert_eq!(exec.wait().unwrap().code(), Some(0));
}

/// What there is, line for line; and limits as weak as they have to be, if that is asked for.
#[test]
fn preflight_says_what_exec_can_have() {
    let said = proctable(&["preflight"]).output().unwrap();
    assert!(said.status.success());
    let said = String::from_utf8(said.stdout).unwrap();
    for what in ["cgroup: ", "limit of memory: ", "limit of cpu: ", "guardian: ", "pidfds: yes"] {
        assert!(said.lines().any(|line| line.starts_with(what)), "{what}\n{said}");
    }
    let limited = ["exec", "--weaker-limits", "--memory", "1G", "--summary", "--", "true"];
    let said = proctable(&limited).output().unwrap();
    assert_eq!(said.status.code(), Some(0));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("memory: enforced by "), "{said}");
}

/// A daemon is the child of the program once its parent has ended, and leaves no zombie.
#[test]
fn exec_adopts_orphans_if_it_is_to() {
    // a shell gives what it runs in the background /dev/null to read, unless that is another
    // descriptor
    let script = "exec 3<&0; (setsid sh -c 'read -r line; exit 3' <&3 &) ; \
        cat /proc/$PPID/task/$PPID/children | wc -w; read -r line";
    let mut exec = proctable(&["exec", "--subreaper", "--", "sh", "-c", script])
        .stdin(StdStdio::piped())
        .stdout(StdStdio::piped())
        .spawn()
        .unwrap();
    let mut children = String::new();
    let mut output = io::BufReader::new(exec.stdout.take().unwrap());
    io::BufRead::read_line(&mut output, &mut children).unwrap();
    assert_eq!(children.trim(), "2", "the command and the orphan");
    drop(exec.stdin.take());
    assert_eq!(exec.wait().unwrap().code(), Some(1));
}

/// What the program promises, it promises an ordinary user, too: only the mechanism is another.
#[test]
fn the_program_serves_an_ordinary_user() {
    if let Some(user) = ordinary_user() {
        alone("linux::program::as_the_present_user", &user);
    }
}

#[test]
#[ignore = "a scenario of the_program_serves_an_ordinary_user"]
fn as_the_present_user() {
    exec_has_the_status_of_its_command();
    exec_passes_signals_on();
    exec_is_hurried_by_a_signal();
    exec_shows_the_tree();
    preflight_says_what_exec_can_have();
    a_sweep_ends_what_a_dead_owner_left_and_nothing_else();
    // what needs a cgroup says so
    for option in [&["--guardian"][..], &["--memory", "64M"]] {
        let refused = proctable(&[&["exec"], option, &["--", "true"]].concat()).output().unwrap();
        assert_eq!(refused.status.code(), Some(125));
        assert!(!refused.stderr.is_empty());
    }
}

pub fn kill(pid: u32, signal: i32) {
    let status =
        StdCommand::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
    assert!(status.success());
}

/// Starts an owner with a tree, and returns the number of a member.
fn owner(args: &[&str]) -> (std::process::Child, i32) {
    let script = "setsid sh -c 'echo $$; exec >&-; trap \"\" TERM; while :; do sleep 1000; done'";
    let args = [&["exec", "--grace", "0.02"], args, &["--", "sh", "-c", script]].concat();
    let mut owner = proctable(&args).stdout(StdStdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = io::BufReader::new(owner.stdout.take().unwrap());
    io::BufRead::read_line(&mut output, &mut line).unwrap();
    (owner, line.trim().parse().unwrap())
}

/// Until a process is gone that this process cannot wait for.
fn await_gone(pid: i32) {
    let begin = Instant::now();
    while is_there(pid) {
        assert!(begin.elapsed() < SOON, "{pid} survives");
        std::thread::yield_now();
    }
}

pub fn directories_of(owner: u32) -> Vec<std::path::PathBuf> {
    let Mechanism::Cgroup(directory) = ProcessTree::new().unwrap().mechanism() else {
        return Vec::new();
    };
    let name = format!("proctable-{owner}-");
    let directories = std::fs::read_dir(directory.parent().unwrap()).unwrap().flatten();
    directories
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        .map(|entry| entry.path())
        .collect()
}

/// The owner is killed by SIGKILL: its guardian ends the tree and removes its cgroup.
#[test]
fn a_guardian_outlives_its_owner() {
    if let Err(why) = proctable::drivers::linux::preflight().guardian {
        println!("SKIPPED: no guardian: {why}");
        return;
    }
    // a limit may be in another hierarchy, of which the guardian has to know as well
    let limit: &[&str] = match &proctable::drivers::linux::preflight().limits[1].1 {
        Ok(_) => &["--pids", "100"],
        Err(why) => {
            println!("SKIPPED: beside a limit: {why}");
            &[]
        }
    };
    let (mut owner, member) = owner(&[&["--guardian"], limit].concat());
    assert!(is_there(member));
    owner.kill().unwrap();
    owner.wait().unwrap();
    await_gone(member);
    let begin = Instant::now();
    while !directories_of(owner.id()).is_empty() {
        assert!(begin.elapsed() < SOON);
        std::thread::yield_now();
    }
}

/// Without a guardian the tree stays until a sweep; a tree with a living owner, or one that was
/// detached, is left alone.
#[test]
fn a_sweep_ends_what_a_dead_owner_left_and_nothing_else() {
    for mechanism in [&[][..], &["--no-cgroup"]] {
        let (mut dead, left) = owner(mechanism);
        let (mut living, member) = owner(mechanism);
        let detached = proctable(&["exec", "--detach", "--", "sleep", "1000"]).output().unwrap();
        let detached: i32 = String::from_utf8(detached.stdout).unwrap().trim().parse().unwrap();
        dead.kill().unwrap();
        dead.wait().unwrap();
        assert!(is_there(left), "no sweep has ended it");
        assert_eq!(status(&["sweep"]), Some(0));
        await_gone(left);
        assert!(directories_of(dead.id()).is_empty());
        assert!(is_there(member) && is_there(detached));
        kill(detached as u32, libc::SIGKILL);
        kill(living.id(), libc::SIGTERM);
        living.wait().unwrap();
        await_gone(member);
    }
}

/// What stays on purpose is no leftover: a sweep lets it live, and removes its cgroup afterwards.
#[test]
fn what_was_left_on_purpose_is_not_swept() {
    for mechanism in [&["exec"][..], &["exec", "--no-cgroup"]] {
        let leave = [mechanism, &["--on-exit", "leave", "--"]].concat();
        let mut detached = proctable(&[&leave[..], &["true"]].concat()).spawn().unwrap();
        assert_eq!(detached.wait().unwrap().code(), Some(0));
        assert!(directories_of(detached.id()).is_empty(), "it has no members");

        let script = "setsid sh -c 'echo $$; exec >&-; exec sleep 1000' & read -r line";
        let mut owner = proctable(&[&leave[..], &["sh", "-c", script]].concat())
            .stdin(StdStdio::piped())
            .stdout(StdStdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = io::BufReader::new(owner.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut line).unwrap();
        let left: i32 = line.trim().parse().unwrap();
        drop(owner.stdin.take());
        owner.wait().unwrap();
        assert_eq!(status(&["sweep"]), Some(0));
        assert!(is_there(left), "it was to stay");
        kill(left as u32, libc::SIGKILL);
        await_gone(left);
        // a moment until its cgroup is empty
        until("the cgroup is removed", || {
            assert_eq!(status(&["sweep"]), Some(0));
            directories_of(owner.id()).is_empty()
        });
    }
}

/// A detached command has nothing of the program: no cgroup, no descriptor; and the program reports
/// it.
#[test]
fn a_detached_command_is_on_its_own() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let script = "exec 7>&1; exec \"$0\" exec --detach -- sleep 1000";
    let program = env!("CARGO_BIN_EXE_proctable");
    let output = StdCommand::new("sh").args(["-c", script, program]).output().unwrap();
    let detached = String::from_utf8(output.stdout).unwrap();
    let detached: i32 = detached.trim().parse().unwrap();
    let open = std::fs::read_dir(format!("/proc/{detached}/fd")).unwrap().count();
    kill(detached as u32, libc::SIGKILL);
    assert_eq!(open, 3);

    let mut owner = proctable(&["exec", "--detach", "--", "sleep", "1000"])
        .stdout(full)
        .stderr(StdStdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    owner.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(125), "{said}");
    assert!(directories_of(owner.id()).is_empty());
    // its number is not lost
    let number = said.trim().strip_suffix(" runs").and_then(|said| said.rsplit(' ').next());
    let number: u32 = number.unwrap().parse().unwrap();
    let cwd = std::fs::read_link(format!("/proc/{number}/cwd")).unwrap();
    assert_eq!(cwd, std::env::current_dir().unwrap(), "it is the one that was started");
    assert!(is_there(number as i32), "{said}");
    kill(number, libc::SIGKILL);
}

/// Whatever the way: the command ends as it does otherwise, and dies with the program.
#[test]
fn a_command_is_killed_with_the_program() {
    println!("by the kernel: {:?}", proctable::drivers::linux::preflight().autokill);
    for mechanism in [&["exec", "--kill-child"][..], &["exec", "--kill-child", "--no-cgroup"]] {
        let status = |args: &[&str]| status(&[mechanism, args].concat());
        assert_eq!(status(&["--", "sh", "-c", "exit 7"]), Some(7));
        assert_eq!(status(&["--", "sh", "-c", "kill -TERM $$"]), None);
        assert_eq!(status(&["--timeout", "0.05", "--", "sleep", "1000"]), Some(124));
        assert_eq!(status(&["--", "no-such-program-anywhere"]), Some(127));
        let script = "echo $$; exec >&-; exec sleep 1000";
        let mut owner = proctable(&[mechanism, &["--", "sh", "-c", script]].concat())
            .stdout(StdStdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = io::BufReader::new(owner.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut line).unwrap();
        let command: i32 = line.trim().parse().unwrap();
        assert!(is_there(command));
        owner.kill().unwrap();
        owner.wait().unwrap();
        await_gone(command);
        // the kernel does not remove its cgroup
        until("the cgroup is removed", || {
            assert_eq!(self::status(&["sweep"]), Some(0));
            directories_of(owner.id()).is_empty()
        });
    }
    let leave = ["exec", "--kill-child", "--on-exit", "leave", "--", "true"];
    assert_eq!(status(&leave), Some(125), "both cannot be");
}

#[test]
fn a_command_of_an_ordinary_user_is_killed_with_the_program() {
    // and shows what it skips
    as_ordinary_user("linux::program::killed_with_the_program");
}

#[test]
#[ignore = "a scenario of a_command_of_an_ordinary_user_is_killed_with_the_program"]
fn killed_with_the_program() {
    if is_alone() {
        a_command_is_killed_with_the_program();
    }
}

/// Stops and ends of children that the kernel reaps by itself, or as it is elsewhere.
#[test]
fn children_that_die_with_their_owner_are_as_others() {
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = options.kill_on_owner_death().create().unwrap();
        println!("{:?}", tree.owner_death());
        let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let owner = tree.table().process(child.process().info().unwrap().ppid).unwrap();
        let job = WaitOptions::STOPPED.with(WaitOptions::CONTINUED).with(WaitOptions::EXITED);
        let wait = || owner.wait_timeout(WaitTarget::Any, job, SOON).unwrap().unwrap().status;
        child.signal(Signal::STOP).unwrap();
        assert_eq!(wait(), WaitStatus::stopped(Signal::STOP));
        child.signal(Signal::CONT).unwrap();
        assert_eq!(wait(), WaitStatus::CONTINUED);
        child.signal(Signal::TERM).unwrap();
        assert_eq!(wait(), WaitStatus::killed(Signal::TERM, false));
        for code in 0..50 {
            let child = tree.spawn(sh(&format!("exit {code}"))).unwrap();
            assert_eq!(child.wait(), Ok(WaitStatus::exited(code)));
        }
        let refused = tree.spawn(Command::new("/no/such/program")).unwrap_err();
        assert_eq!(refused.step, Step::Exec, "{refused}");
        spawn_ready(&tree, FAMILY);
        assert_eq!(tree.kill().unwrap().survivors, []);
    }
}

/// The program's own output may fail; its command and the status may not. Standard error is full,
/// or has no reader.
#[test]
fn exec_keeps_the_status_where_it_cannot_print() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let broken = || {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        writer
    };
    let script = "sleep 0.7; exit 3";
    for args in [
        &["exec", "--summary", "--"][..],
        &["exec", "--tree", "--"],
        &["exec", "--events", "/dev/full", "--summary", "--"],
    ] {
        let args = [args, &["sh", "-c", script]].concat();
        for stderr in [StdStdio::from(full()), StdStdio::from(broken())] {
            let status = proctable(&args).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(3), "{args:?}");
        }
    }
    for (args, code) in [
        (&["exec", "--", "no-such-program-anywhere"][..], 127),
        (&["exec", "--events", "/no/such/directory", "--", "true"], 125),
    ] {
        let status = proctable(args).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

/// A log of events that cannot be written is said once.
#[test]
fn exec_says_once_that_events_are_lost() {
    let said = proctable(&["exec", "--events", "/dev/full", "--", "true"]).output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!((said.status.code(), text.lines().count()), (Some(0), 1), "{text}");
    assert!(text.contains("no more events are written"), "{text}");
}

/// An option that is none is refused as such, and taken for no command; after the command
/// everything is its own.
#[test]
fn exec_refuses_options_that_it_does_not_have() {
    for args in [&["exec", "--timout", "5", "--", "true"][..], &["exec", "-k", "5", "true"]] {
        let said = proctable(args).output().unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(125), "{text}");
        assert!(text.contains("unexpected argument") && text.contains("Usage"), "{text}");
    }
    for args in [&["exec", "--version"][..], &["init", "--version"], &["exec", "--help"]] {
        assert_eq!(status(args), Some(0), "{args:?}");
    }
    let said = proctable(&["exec", "echo", "--timout", "-k"]).output().unwrap();
    assert_eq!(said.stdout, b"--timout -k\n");
}

/// execvp(3): a file without `#!` is run by the shell, and PATH is gone through to its end.
#[test]
fn exec_runs_what_execvp_runs() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("proctable-path-{}", std::process::id()));
    for name in ["1", "2", "3"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }
    let file = |name: &str, text: &str, mode: u32| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let script = file("script", "echo \"$0 $1 $#\"; exit 4\n", 0o755);
    let empty = file("empty", "", 0o755);
    // not executable, then a directory of that name, then one that is found
    file("1/tool", "echo wrong\n", 0o644);
    std::fs::create_dir(directory.join("2/tool")).unwrap();
    file("3/tool", "echo found\n", 0o755);
    for mechanism in [&["exec", "--"][..], &["exec", "--no-cgroup", "--"]] {
        let run = |args: &[&str]| proctable(&[mechanism, args].concat()).output().unwrap();
        let script = script.to_str().unwrap();
        let said = run(&[script, "a b", "c"]);
        let text = String::from_utf8(said.stdout).unwrap();
        assert_eq!((said.status.code(), text), (Some(4), format!("{script} a b 2\n")));
        assert_eq!(run(&[empty.to_str().unwrap()]).status.code(), Some(0));
        let path = ["1", "2", "3"].map(|name| directory.join(name).display().to_string());
        let said = proctable(&[mechanism, &["tool"]].concat())
            .env("PATH", path.join(":"))
            .output()
            .unwrap();
        assert_eq!(said.stdout, b"found\n");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// What the caller ignores stays ignored, in the command too, as nohup(1) and a shell's `&` rely on
/// it; with an option each signal has its default action.
#[test]
fn exec_keeps_ignored_what_its_caller_ignores() {
    let ignored = |options: &[&str]| {
        let args = [&["exec"], options, &["--", "grep", "SigIgn", "/proc/self/status"]].concat();
        let program = env!("CARGO_BIN_EXE_proctable");
        let said = StdCommand::new("sh")
            .args(["-c", "trap '' HUP INT; exec \"$@\"", "sh", program])
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap().trim_end().to_owned()
    };
    // a signal that this test was started to ignore is not meant
    let has = |line: &str, signal: i32| {
        let mask = line.strip_prefix("SigIgn:\t").expect("the line of proc_pid_status(5)");
        u64::from_str_radix(mask, 16).unwrap() & (1 << (signal - 1)) != 0
    };
    for mechanism in [&[][..], &["--no-cgroup"]] {
        let kept = ignored(mechanism);
        assert!(has(&kept, libc::SIGHUP) && has(&kept, libc::SIGINT), "{kept}");
        assert!(!has(&kept, libc::SIGPIPE) && !has(&kept, libc::SIGTERM), "{kept}");
        let default = [mechanism, &["--default-signals"]].concat();
        assert_eq!(ignored(&default), format!("SigIgn:\t{:016x}", 0));
    }
}

/// With a grace that was given, a command that ignores the end that is passed on to it is killed,
/// as by `timeout -k`.
#[test]
fn exec_kills_a_command_that_ignores_its_end() {
    let script = "trap '' TERM; echo; while :; do sleep 1000; done";
    for mechanism in [&[][..], &["--no-cgroup"]] {
        let args = [&["exec", "--grace", "50ms"], mechanism, &["--", "sh", "-c", script]].concat();
        let mut exec = proctable(&args).stdout(StdStdio::piped()).spawn().unwrap();
        exec.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        kill(exec.id(), libc::SIGTERM);
        assert_eq!(exec.wait().unwrap().signal(), Some(9));
    }
}

/// A signal that the caller has the program ignore ends nothing, also with a grace.
#[test]
fn exec_outlives_a_hangup_that_its_caller_ignores() {
    let script = "trap 'exit 5' USR1; echo; while :; do sleep 0.02; done";
    let mut exec = StdCommand::new("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_proctable")])
        .args(["exec", "--grace", "1ms", "--", "sh", "-c", script])
        .stdin(StdStdio::null())
        .stdout(StdStdio::piped())
        .spawn()
        .unwrap();
    exec.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    kill(exec.id(), libc::SIGHUP);
    // the program passes signals on in their order
    kill(exec.id(), libc::SIGUSR1);
    assert_eq!(exec.wait().unwrap().code(), Some(5));
}

/// A signal to end reaches the whole tree: a shell acts on it when its child has ended.
#[test]
fn exec_passes_a_signal_to_end_on_to_the_whole_tree() {
    let script = "trap 'exit 3' TERM; echo; sleep 1000; exit 4";
    // often: the shell must have the signal before its child ends, or it continues with `exit 4`
    for mechanism in [&[][..], &["--no-cgroup"]].repeat(20) {
        let args = [&["exec"], mechanism, &["--", "sh", "-c", script]].concat();
        let mut exec = proctable(&args).stdout(StdStdio::piped()).spawn().unwrap();
        exec.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let begun = Instant::now();
        let status = loop {
            // one that comes before the shell has its child is answered when that has ended
            kill(exec.id(), libc::SIGTERM);
            if let Some(status) = exec.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(3));
    }
}

/// Times have the units of timeout(1), and saturate; sizes have theirs.
#[test]
fn exec_takes_units_and_long_times() {
    assert_eq!(status(&["exec", "--timeout", "50ms", "--", "sleep", "1000"]), Some(124));
    assert_eq!(status(&["exec", "--timeout", "2d", "--", "true"]), Some(0));
    let limited = proctable(&["exec", "--memory", "1.5T", "--", "true"]).output().unwrap();
    if limited.status.code() == Some(0) {
        assert!(limited.stderr.is_empty());
    } else {
        // a size that is not understood is an error of the command line
        let text = String::from_utf8(limited.stderr).unwrap();
        assert!(text.contains("no limit of memory"), "{text}");
        println!("SKIPPED: a limit of 1.5T: {text}");
    }
    let args = ["exec", "--timeout", "50ms", "--grace", "1e19", "--", "sleep", "1000"];
    assert_eq!(status(&args), Some(124));
    for size in ["0", "-1", "1X"] {
        assert_eq!(status(&["exec", "--memory", size, "--", "true"]), Some(125), "{size}");
    }
}

/// A grace without end is one.
#[test]
fn a_shutdown_may_wait_for_ever() {
    for tree in trees() {
        tree.spawn(sh("exec sleep 1000")).unwrap();
        let shutdown = tree.shutdown(Signal::TERM, Duration::MAX).unwrap();
        assert_eq!((shutdown.ended.len(), shutdown.killed), (1, false));
    }
}

/// A user that root chooses has none of root's supplementary groups, as with the standard library.
#[test]
fn a_child_of_another_user_has_no_groups_of_root() {
    if !is_root() {
        return println!("SKIPPED: only root can change the user");
    }
    let by = ["setpriv", "--groups", "4,24"];
    alone_here("linux::program::children_of_another_user", &by);
}

#[test]
#[ignore = "a scenario of a_child_of_another_user_has_no_groups_of_root"]
fn children_of_another_user() {
    let groups = |command: Command| {
        let tree = Options::new().without_cgroup().create().unwrap();
        let child = tree.spawn(command.stdout(Stdio::Piped)).unwrap();
        let mut groups = String::new();
        child.take_stdout().unwrap().read_to_string(&mut groups).unwrap();
        groups
    };
    let id = || Command::new("/usr/bin/id").arg("-G");
    assert_eq!(groups(id()), "0 4 24\n");
    assert_eq!(groups(id().uid(65534).gid(65534)), "65534\n");
    assert_eq!(groups(id().uid(65534).gid(65534).groups([7])), "65534 7\n");
    // and nothing changes where the user stays
    assert_eq!(groups(id().gid(65534)), "65534 4 24\n");
}

/// A process that belongs to another user by now cannot be killed: it is waited for once, for as
/// long as an unkillable one may take, and named once.
#[test]
fn a_survivor_is_named_once() {
    use std::os::unix::fs::PermissionsExt;
    // another user than that of the tests that sweep: it would find what it may not kill
    let Some(user) = user("--reuid=54322") else { return };
    // setpriv(1) that any user may become root with, for as long as this test runs
    let directory = std::env::temp_dir().join(format!("proctable-setuid-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let become_root = directory.join("become-root");
    std::fs::copy("/usr/bin/setpriv", &become_root).unwrap();
    std::fs::set_permissions(&become_root, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let run = || {
        let script = "\"$1\" --reuid=0 sh -c 'echo $$; exec sleep 1000 >&- 2>&-' & wait";
        let args = ["exec", "--no-cgroup", "--timeout", "300ms", "--grace", "100ms", "--"];
        let mut exec = StdCommand::new(user[0])
            .args(&user[1..])
            .arg(env!("CARGO_BIN_EXE_proctable"))
            .args(args)
            .args(["sh", "-c", script, "sh"])
            .arg(&become_root)
            .stdin(StdStdio::null())
            .stdout(StdStdio::piped())
            .stderr(StdStdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = io::BufReader::new(exec.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut line).unwrap();
        let survivor: Option<u32> = line.trim().parse().ok();
        let begun = Instant::now();
        let said = exec.wait_with_output().unwrap();
        if let Some(survivor) = survivor {
            kill(survivor, libc::SIGKILL);
        }
        (survivor, said, begun.elapsed())
    };
    let result = std::panic::catch_unwind(run);
    std::fs::remove_dir_all(&directory).unwrap();
    let (survivor, said, time) = result.unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    let Some(survivor) = survivor else {
        return println!("SKIPPED: set-uid programs have no effect here: {text}");
    };
    assert_eq!(said.status.code(), Some(124), "{text}");
    assert_eq!(text.matches(&format!("{survivor} (sleep) survives")).count(), 1, "{text}");
    // the shutdown and the drop of the tree
    assert!(time < Duration::from_secs(6), "{time:?}");
}

/// Where no thread can be created the command is ended all the same.
#[test]
fn exec_ends_a_fork_bomb_that_leaves_no_thread() {
    // a user that nothing else here runs as
    let Some(user) = user("--reuid=54321") else { return };
    if StdCommand::new("perl").args(["-e", "0"]).status().is_err() {
        return println!("SKIPPED: no perl");
    }
    // a shell would end with the first fork that fails
    let script = "$p = 1; while (defined $p) { $p = fork; last if defined $p && !$p } \
                  if (defined $p) { close STDOUT; close STDERR } else { $| = 1; print qq(full\\n); \
                  close STDOUT; close STDERR } sleep 1000";
    let said = StdCommand::new(user[0])
        .args(&user[1..])
        .args(["prlimit", "--nproc=30", env!("CARGO_BIN_EXE_proctable"), "exec", "--no-cgroup"])
        .args(["--timeout", "1", "--grace", "50ms", "--", "perl", "-e", script])
        .stdin(StdStdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!((said.status.code(), &*said.stdout), (Some(124), &b"full\n"[..]), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}
