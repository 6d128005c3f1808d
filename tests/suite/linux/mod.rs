//! Real children in trees, with and without a cgroup.

mod adopt;
mod agree;
mod asynchronous;
mod descriptors;
mod handles;
#[cfg(feature = "cli")]
mod job_control;
mod limits;
mod orphans;
mod output;
mod pipeline;
#[cfg(feature = "cli")]
mod places;
mod preflight;
#[cfg(feature = "cli")]
mod program;
mod pty;
#[cfg(feature = "cli")]
mod pty_exec;
#[cfg(feature = "cli")]
mod pty_terminal;
#[cfg(feature = "cli")]
mod reaper;
#[cfg(feature = "cli")]
mod scope;
mod signals;
mod spawn;
mod stats;
#[cfg(feature = "cli")]
mod stops;
#[cfg(feature = "cli")]
mod survivors;
#[cfg(feature = "cli")]
mod terminal;
mod unrelated;
mod user;
#[cfg(feature = "cli")]
mod wrapper;

use std::io::{self, Read};
use std::time::{Duration, Instant};

use proctable::abi::{Signal, WaitOptions, WaitStatus};
use proctable::drivers::linux::{Command, Limits, Mechanism, Options, ProcessTree, Stdio, Step};
use proctable::table::WaitTarget;

/// Long enough for anything that happens at all; only a failing test takes it.
const SOON: Duration = Duration::from_secs(20);

/// A shell that starts the tests in the background has them ignore SIGINT and SIGQUIT, and nohup(1)
/// SIGHUP. An ignored signal stays ignored in each child, and a script cannot even catch it: the
/// tests are of children of an ordinary caller.
fn with_default_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: SIG_DFL is no address
            #[allow(unsafe_code)]
            unsafe {
                libc::signal(signal, libc::SIG_DFL)
            };
        }
    });
}

/// Each mechanism that there is here, and a visible line for one that is not.
fn trees() -> Vec<ProcessTree> {
    with_default_signals();
    let best = ProcessTree::new().unwrap();
    if let Some(why) = best.without_cgroup_because() {
        println!("SKIPPED: no cgroup: {why}");
        return vec![best];
    }
    vec![best, Options::new().without_cgroup().create().unwrap()]
}

fn sh(script: &str) -> Command {
    with_default_signals();
    Command::new("sh").arg("-c").arg(script).stdin(Stdio::Null)
}

/// Waits until a script has said that it is where it wants to be.
fn spawn_ready(tree: &ProcessTree, script: &str) -> proctable::drivers::linux::Child {
    let child = tree.spawn(sh(script).stdout(Stdio::Piped)).unwrap();
    let mut byte = [0];
    child.take_stdout().unwrap().read_exact(&mut byte).unwrap();
    child
}

/// Runs a scenario, an ignored test of this program, in a process of its own: its counts are its
/// own, and its changes affect no other test. `by` is the command that runs it.
fn alone(scenario: &str, by: &[&str]) -> String {
    with_default_signals();
    let program = std::env::current_exe().unwrap();
    let words = by.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let words: Vec<_> = words.collect();
    let output = std::process::Command::new(words[0])
        .args(&words[1..])
        .args(["--exact", scenario, "--ignored", "--nocapture", "--test-threads=1"])
        .env("PROCTABLE_ALONE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("1 passed"), "{scenario}:\n{text}\n{error}");
    text
}

/// The same, and shows what it says.
fn alone_here(scenario: &str, by: &[&str]) {
    print!("{}", alone(scenario, by));
}

/// The command that runs something as an ordinary user, or a visible line that says why not.
fn ordinary_user() -> Option<[&'static str; 6]> {
    user("--reuid=65534")
}

/// The same for a user of that number.
fn user(number: &'static str) -> Option<[&'static str; 6]> {
    if !is_root() {
        println!("SKIPPED: only root can become another user");
        return None;
    }
    // where each directory can be searched by all users
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let user = ["setpriv", number, "--regid=65534", "--clear-groups", "env", path];
    let program = std::env::current_exe().unwrap();
    let listed =
        std::process::Command::new(user[0]).args(&user[1..]).arg(&program).arg("--list").output();
    if !listed.is_ok_and(|listed| listed.status.success()) {
        println!("SKIPPED: an ordinary user cannot run {}", program.display());
        return None;
    }
    Some(user)
}

/// Runs a scenario as an ordinary user.
fn as_ordinary_user(scenario: &str) {
    if let Some(user) = ordinary_user() {
        alone_here(scenario, &user);
    }
}

/// The same where no cgroups are mounted.
fn without_cgroups(scenario: &str) {
    if !is_root() {
        return println!("SKIPPED: only root can unmount cgroups in a namespace of its own");
    }
    let script = "umount -a -l -t cgroup,cgroup2; exec \"$@\"";
    alone_here(scenario, &["unshare", "--mount", "--", "sh", "-c", script, "sh"]);
}

/// Whether this process was started by [`alone`].
fn is_alone() -> bool {
    std::env::var_os("PROCTABLE_ALONE").is_some()
}

/// Waits until something is so.
fn until(what: &str, is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The living processes that have that text in their environment.
fn marked(text: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let env = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        env.windows(text.len()).any(|window| window == text.as_bytes()) && is_there(*pid)
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

/// Numbers that look random, and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn is_there(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // X is one that its parent is reaping: proc_pid_stat(5)
    !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
}

/// The lines of /proc about the processes that are still there.
fn still_there(pids: &[i32]) -> String {
    let there = pids.iter().filter(|pid| is_there(**pid));
    there
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())
        .collect()
}

/// The numbers of a tree's members, and its directory.
fn traces(tree: &ProcessTree) -> (Vec<i32>, Option<std::path::PathBuf>) {
    let members = tree.members().unwrap().into_iter().map(|member| member.pid).collect();
    match tree.mechanism() {
        Mechanism::Cgroup(directory) => (members, Some(directory)),
        Mechanism::Scan | Mechanism::Children => (members, None),
    }
}

/// A shell with children in its group, in another session, orphaned, orphaned without environment,
/// deaf to TERM, and stopped.
const FAMILY: &str = "
    sleep 1000 &
    setsid sleep 1001 &
    (setsid sh -c 'sleep 1002 & exec sleep 1003' &)
    (setsid env -i sh -c 'setsid sleep 1006 &' &)
    sh -c 'trap \"\" TERM; sleep 1004 & while :; do wait; done' &
    sh -c 'kill -STOP $$; sleep 1005' &
    echo; exec >&-
    wait";

/// The family, once all its processes are there: on a slow machine that is later than the shell's
/// line.
fn spawn_family(tree: &ProcessTree) {
    spawn_ready(tree, FAMILY);
    let is_asleep = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\x00100")
    };
    // the one that stops itself has not begun its own
    let asleep = || tree.members().unwrap().iter().filter(|member| is_asleep(member.pid)).count();
    until("the family is there", || asleep() == 6);
}

#[test]
fn no_process_survives_a_kill() {
    for tree in trees() {
        spawn_family(&tree);
        let (members, directory) = traces(&tree);
        assert!(members.len() >= 9, "{members:?}");
        let shutdown = tree.kill().unwrap();
        assert!(shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
        drop(tree);
        assert_eq!(still_there(&members), "", "{}", directory.is_some());
        assert!(directory.is_none_or(|directory| !directory.exists()));
    }
}

#[test]
fn no_process_survives_a_drop_or_a_panic() {
    for (nth, tree) in trees().into_iter().enumerate() {
        spawn_family(&tree);
        let (members, directory) = traces(&tree);
        if nth == 0 {
            drop(tree);
        } else {
            let owner = std::thread::spawn(move || {
                let _tree = tree;
                std::panic::resume_unwind(Box::new("the owner panics"));
            });
            owner.join().unwrap_err();
        }
        assert_eq!(still_there(&members), "", "{}", directory.is_some());
        assert!(directory.is_none_or(|directory| !directory.exists()));
    }
}

/// Processes that act on SIGTERM end by it, the stopped one too; one that does not is killed when
/// the grace is over.
#[test]
fn a_shutdown_asks_before_it_kills() {
    for tree in trees() {
        let meek = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let begin = Instant::now();
        let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
        assert!(begin.elapsed() < SOON);
        assert!(!shutdown.killed && shutdown.survivors.is_empty(), "{shutdown:?}");
        assert_eq!(meek.wait(), Ok(WaitStatus::killed(Signal::TERM, false)));

        let deaf = spawn_ready(&tree, "trap '' TERM; echo; while :; do sleep 1000; done");
        let shutdown = tree.shutdown(Signal::TERM, Duration::from_millis(20)).unwrap();
        assert!(shutdown.killed, "{shutdown:?}");
        assert_eq!(shutdown.ended[&deaf.pid()], WaitStatus::killed(Signal::KILL, false));
    }
}

/// A failed exec says where and why, and leaves nothing.
#[test]
fn errors_of_a_spawn_name_the_step() {
    let tree = ProcessTree::new().unwrap();
    let mut expected = vec![
        (Command::new("/no/such/program"), Step::Exec, libc::ENOENT),
        (Command::new("no-such-program-anywhere"), Step::Exec, libc::ENOENT),
        (Command::new("/proc/self/mem"), Step::Exec, libc::EACCES),
        (Command::new("/proc/version/x"), Step::Exec, libc::ENOENT),
        (Command::new("true").current_dir("/no/such/directory"), Step::Cwd, libc::ENOENT),
        (Command::new("true").current_dir("/proc/version"), Step::Cwd, libc::ENOTDIR),
        (Command::new("true").group(1), Step::Group, libc::EPERM),
        (
            Command::new("true").stdin(Stdio::Null).controlling_terminal(),
            Step::Terminal,
            libc::ENOTTY,
        ),
    ];
    if !is_root() {
        expected.push((Command::new("true").uid(1), Step::Uid, libc::EPERM));
        expected.push((Command::new("true").groups([1]), Step::Groups, libc::EPERM));
    }
    for (command, step, errno) in expected {
        let error = tree.spawn(command).unwrap_err();
        let seen = (error.step, error.error.raw_os_error());
        assert_eq!(seen, (step, Some(errno)), "{error}");
    }
    let error = tree.spawn(Command::new("a\0b")).unwrap_err();
    assert_eq!((error.step, error.error.kind()), (Step::Arguments, io::ErrorKind::InvalidInput));
    assert!(tree.members().unwrap().is_empty());
    assert_eq!(tree.table().counts().processes, 2, "init and the owner");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Stops and continues come through the table's waits, whatever their cause.
#[test]
fn stops_and_continues_are_mirrored() {
    for tree in trees() {
        let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let owner = tree.table().process(child.process().info().unwrap().ppid).unwrap();
        let job = WaitOptions::STOPPED.with(WaitOptions::CONTINUED).with(WaitOptions::EXITED);
        let wait = || owner.wait_timeout(WaitTarget::Any, job, SOON).unwrap().unwrap().status;
        child.signal(Signal::STOP).unwrap();
        assert_eq!(wait(), WaitStatus::stopped(Signal::STOP));
        // through the table, as a shell would
        owner.kill(child.process().pid(), Signal::CONT).unwrap();
        assert_eq!(wait(), WaitStatus::CONTINUED);
        owner.kill(child.process().pid(), Signal::TERM).unwrap();
        assert_eq!(wait(), WaitStatus::killed(Signal::TERM, false));
    }
}

/// It continues and stops again before a wait has looked: the second stop is an event all the same.
#[test]
fn a_stop_right_after_a_continue_is_seen() {
    for tree in trees() {
        let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let owner = tree.table().process(child.process().info().unwrap().ppid).unwrap();
        let is_stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
            stat.contains(") T ")
        };
        for _ in 0..20 {
            child.signal(Signal::STOP).unwrap();
            let waited = owner.wait_timeout(WaitTarget::Any, WaitOptions::STOPPED, SOON).unwrap();
            assert_eq!(waited.unwrap().status, WaitStatus::stopped(Signal::STOP));
            until("it is stopped", is_stopped);
            child.signal(Signal::CONT).unwrap();
        }
    }
}

/// Every end is reported once, with its status; children of the standard library keep theirs.
#[test]
fn a_thousand_children_at_once() {
    let tree = ProcessTree::new().unwrap();
    let mut others: Vec<_> = (0..20)
        .map(|code| {
            let script = format!("exit {code}");
            std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap()
        })
        .collect();
    let events = tree.table().subscribe(8192).unwrap();
    let children: Vec<_> = (0..1000)
        .map(|nth| (nth % 256, tree.spawn(sh(&format!("exit {}", nth % 256))).unwrap()))
        .collect();
    for (code, child) in &children {
        assert_eq!(child.wait(), Ok(WaitStatus::exited(*code)));
    }
    let exits = events
        .try_iter()
        .filter(|event| matches!(event.what, proctable::table::What::Exited(_)))
        .count();
    assert_eq!(exits, 1000);
    for (code, other) in others.iter_mut().enumerate() {
        assert_eq!(other.wait().unwrap().code(), Some(code as i32));
    }
}

/// Environment, directory, arguments and streams are as asked for.
#[test]
fn a_command_gets_what_it_was_given() {
    let tree = ProcessTree::new().unwrap();
    let script = "read line; echo \"$line $A $B $1 $(pwd)\"; echo $0 >&2";
    let child = tree
        .spawn(
            Command::new("sh")
                .args(["-c", script, "zero", "one"])
                .env("A", "a")
                .env("B", "b")
                .env_remove("B")
                .current_dir("/proc")
                .stdin(Stdio::Piped)
                .stdout(Stdio::Piped)
                .stderr(Stdio::Piped),
        )
        .unwrap();
    io::Write::write_all(&mut child.take_stdin().unwrap(), b"in\n").unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.take_stdout().unwrap().read_to_string(&mut out).unwrap();
    child.take_stderr().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("in a  one /proc\n", "zero\n"));
    assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
    assert!(child.cpu_time().is_some());
}

/// Suspended trees do not run, and continue where they were.
#[test]
fn a_tree_is_suspended_and_continues() {
    for tree in trees() {
        spawn_ready(&tree, "echo; exec >&-; while :; do :; done");
        tree.suspend().unwrap();
        // freezing takes a moment: then the CPU time stands still
        let stands = || {
            let before = tree.cpu_time().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            tree.cpu_time().unwrap() == before
        };
        let begin = Instant::now();
        while !stands() {
            assert!(begin.elapsed() < SOON);
        }
        tree.resume().unwrap();
        while stands() {
            assert!(begin.elapsed() < SOON);
        }
        assert_eq!(tree.kill().unwrap().survivors, []);
    }
}

/// Begins fifty processes, or as many as it may. A shell that cannot fork ends, so the one that
/// says that it is over is another one.
const FIFTY: &str = "
    sh -c 'i=0; while [ $i -lt 50 ]; do (sleep 1000 &) 2>/dev/null; i=$((i + 1)); done' 2>/dev/null
    echo";

/// A limit that cannot be enforced is an error with its reason; one that can is kept.
#[test]
fn limits_hold_for_the_whole_tree() {
    let limits = Limits { processes: Some(10), ..Limits::default() };
    let tree = match Options::new().limits(limits).create() {
        Ok(tree) => tree,
        Err(error) => {
            assert!(error.to_string().contains("pids"), "{error}");
            println!("SKIPPED: {error}");
            return;
        }
    };
    // forks as many as it can, and says how many are there
    spawn_ready(&tree, FIFTY);
    assert!(tree.members().unwrap().len() <= 10);
    assert_eq!(tree.kill().unwrap().survivors, []);
}
