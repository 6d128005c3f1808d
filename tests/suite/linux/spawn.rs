//! Each step of a spawn can fail: the error says which and why, and nothing is left.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use super::*;

/// Runs scenarios of their own in this process, by the command that makes it special.
fn scenario(name: &str, by: &[&str]) {
    let said = alone(&format!("linux::spawn::{name}"), by);
    said.lines().filter(|line| line.starts_with("SKIPPED")).for_each(|line| println!("{line}"));
}

fn failure(
    result: Result<proctable::drivers::linux::Child, proctable::drivers::linux::SpawnError>,
) -> (Step, Option<i32>) {
    let error = result.expect_err("it cannot be spawned");
    (error.step, error.error.raw_os_error())
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_string()).collect()
}

fn number_of(name: &str) -> usize {
    threads().iter().filter(|thread| *thread == name).count()
}

/// The processes that have this one for a parent, zombies too.
fn children() -> usize {
    let own = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&own)
        })
        .count()
}

/// Everything that a spawn could leave: descriptors, children, threads.
fn holdings() -> (usize, usize, usize) {
    (count("/proc/self/fd"), children(), number_of("proctable-spawn"))
}

/// The same a second after a spawn, once the watcher has gone. It names itself a moment after it
/// began.
fn holdings_at_rest() -> (usize, usize, usize) {
    until("there is a watcher", || number_of("proctable-watch") == 1);
    until("the watcher ends", || number_of("proctable-watch") == 0);
    holdings()
}

/// The watcher releases a child a moment after its end.
fn assert_holds_only(before: (usize, usize, usize), what: &str) {
    until(what, || holdings() == before);
}

#[test]
fn failed_spawns_leave_nothing() {
    scenario("every_failure_ten_times", &[]);
}

#[test]
#[ignore = "a scenario of failed_spawns_leave_nothing"]
fn every_failure_ten_times() {
    if !is_alone() {
        return;
    }
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = options.create().unwrap();
        tree.spawn(Command::new("true")).unwrap().wait().unwrap();
        let before = holdings_at_rest();
        for _ in 0..10 {
            let piped = || Command::new("true").stdin(Stdio::Piped).stdout(Stdio::Piped);
            let huge = "x".repeat(200 << 10);
            let failures = [
                failure(tree.spawn(Command::new("/no/such/program").stdout(Stdio::Piped))),
                failure(tree.spawn(Command::new("/proc/version").stdout(Stdio::Piped))),
                failure(tree.spawn(piped().current_dir("/no/such/directory"))),
                failure(tree.spawn(piped().controlling_terminal())),
                failure(tree.spawn(piped().foreground())),
                failure(tree.spawn(piped().group(1))),
                failure(tree.spawn(piped().arg(&huge))),
            ];
            let expected = [
                (Step::Exec, libc::ENOENT),
                (Step::Exec, libc::EACCES),
                (Step::Cwd, libc::ENOENT),
                (Step::Terminal, libc::ENOTTY),
                (Step::Terminal, libc::ENOTTY),
                (Step::Group, libc::EPERM),
                (Step::Exec, libc::E2BIG),
            ];
            assert_eq!(failures, expected.map(|(step, errno)| (step, Some(errno))));
        }
        assert_holds_only(before, "failures leave nothing");
        assert_eq!(tree.table().counts().processes, 2, "init and the owner");
        assert!(tree.members().unwrap().is_empty());
    }
}

/// An old kernel, or a filter of a container: clone3 is not there, or no clone that returns a
/// descriptor either. Each spawn continues as it does elsewhere.
#[test]
fn a_filter_of_system_calls_costs_nothing_but_time() {
    for name in ["without_clone3", "with_fork_alone"] {
        scenario(name, &[]);
    }
}

#[test]
#[ignore = "a scenario of a_filter_of_system_calls_costs_nothing_but_time"]
fn without_clone3() {
    if is_alone() {
        forbid(&[refuse(libc::SYS_clone3, 0, libc::ENOSYS)].concat());
        everything_that_spawns();
    }
}

#[test]
#[ignore = "a scenario of a_filter_of_system_calls_costs_nothing_but_time"]
fn with_fork_alone() {
    if is_alone() {
        let clone3 = refuse(libc::SYS_clone3, 0, libc::ENOSYS);
        let clone = refuse(libc::SYS_clone, libc::CLONE_PIDFD as u32, libc::EINVAL);
        forbid(&[clone3, clone].concat());
        everything_that_spawns();
    }
}

fn everything_that_spawns() {
    every_failure_ten_times();
    a_tree_whose_cgroup_is_gone_says_so();
    a_child_without_memory();
    a_child_that_is_killed_before_its_program_is_an_error();
    a_tree_that_was_killed_takes_children();
    mask_and_dispositions_are_as_asked_for();
    errors_of_a_spawn_name_the_step();
    a_command_gets_what_it_was_given();
    no_process_survives_a_kill();
}

/// Filters a system call whose first argument has one of these bits (0: always): it fails.
pub fn refuse(call: i64, bits: u32, errno: i32) -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let load = BPF_LD | BPF_W | BPF_ABS;
    let jump = |kind: u32, value: u32, not: u8| (BPF_JMP | kind | BPF_K, value, not);
    // struct seccomp_data: the call's number at 0, its arguments from 16 on
    let mut steps = vec![(load, 0, 0), jump(BPF_JEQ, call as u32, 1)];
    if bits != 0 {
        steps[1] = jump(BPF_JEQ, call as u32, 3);
        steps.extend([(load, 16, 0), jump(BPF_JSET, bits, 1)]);
    }
    steps.push((BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0));
    let step =
        |(code, k, jf): (u32, u32, u8)| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    steps.into_iter().map(step).collect()
}

/// From now on in this thread, in those that it creates, and in their children.
pub fn forbid(refused: &[libc::sock_filter]) {
    let (code, k) = ((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW);
    let mut filter = [refused, &[libc::sock_filter { code, jt: 0, jf: 0, k }]].concat();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is alive
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

#[test]
fn a_tree_whose_cgroup_is_gone_says_so() {
    let tree = ProcessTree::new().unwrap();
    let Mechanism::Cgroup(directory) = tree.mechanism() else {
        println!("SKIPPED: no cgroup");
        return;
    };
    std::fs::remove_dir(directory).unwrap();
    assert_eq!(failure(tree.spawn(Command::new("true"))), (Step::Cgroup, Some(libc::ENOENT)));
    assert_eq!(tree.table().counts().processes, 2, "init and the owner");
}

/// With fewer and fewer descriptors each place where one is needed is the one that fails.
#[test]
fn a_spawn_without_descriptors_names_its_step() {
    scenario("no_descriptors_left", &[]);
}

#[test]
#[ignore = "a scenario of a_spawn_without_descriptors_names_its_step"]
fn no_descriptors_left() {
    if !is_alone() {
        return;
    }
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = options.create().unwrap();
        tree.spawn(Command::new("true")).unwrap().wait().unwrap();
        let before = holdings_at_rest();
        let mut steps = std::collections::BTreeSet::new();
        for free in 0..12 {
            let taken = take_all_but(free);
            let command = Command::new("true").stdin(Stdio::Null).stdout(Stdio::Piped);
            let result = tree.spawn(command);
            drop(taken);
            match result {
                Ok(child) => assert_eq!(child.wait(), Ok(WaitStatus::exited(0))),
                Err(error) => {
                    assert_eq!(error.error.raw_os_error(), Some(libc::EMFILE), "{error}");
                    steps.insert(format!("{:?}", error.step));
                }
            }
            assert_holds_only(before, &format!("{free} descriptors"));
        }
        println!("no descriptors: {steps:?}");
        assert!(steps.contains("Stdio") && steps.contains("Clone"), "{steps:?}");
        // a tree can be killed without any
        spawn_ready(&tree, "echo; exec >&-; sleep 1000");
        let taken = take_all_but(0);
        let _ = tree.kill();
        drop(taken);
        assert_eq!(tree.kill().unwrap().survivors, []);
    }
}

/// Lowers the limit, and takes what is left below it but for that many.
fn take_all_but(free: usize) -> Vec<OwnedFd> {
    const FEW: u64 = 64;
    let limit = libc::rlimit { rlim_cur: FEW, rlim_max: 4096 };
    // SAFETY: the limit is only read
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let null = || std::fs::File::open("/dev/null").map(OwnedFd::from);
    let mut taken: Vec<_> = std::iter::from_fn(|| null().ok()).collect();
    assert!(taken.iter().all(|fd| (fd.as_raw_fd() as u64) < FEW));
    taken.truncate(taken.len() - free);
    taken
}

/// RLIMIT_NPROC of an ordinary user: no thread, or no process, for EAGAIN.
#[test]
fn a_user_with_too_many_processes_gets_an_error() {
    if !is_root() {
        println!("SKIPPED: needs a user of its own");
        return;
    }
    // a user without other processes
    let user = "setpriv --reuid=61234 --regid=65534 --clear-groups \"$@\"";
    scenario("too_many_processes", &["sh", "-c", user, "sh"]);
}

#[test]
#[ignore = "a scenario of a_user_with_too_many_processes_gets_an_error"]
fn too_many_processes() {
    if !is_alone() {
        return;
    }
    let limit = |number: u64| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit is ours
        let set = unsafe {
            libc::getrlimit(libc::RLIMIT_NPROC, &mut limit);
            limit.rlim_cur = number;
            libc::setrlimit(libc::RLIMIT_NPROC, &limit)
        };
        assert_eq!(set, 0);
    };
    let tree = ProcessTree::new().unwrap();
    limit(1);
    assert_eq!(failure(tree.spawn(Command::new("true"))), (Step::Thread, Some(libc::EAGAIN)));
    limit(1000);
    tree.spawn(Command::new("true")).unwrap().wait().unwrap();
    let before = holdings_at_rest();
    limit(1);
    assert_eq!(failure(tree.spawn(Command::new("true"))), (Step::Clone, Some(libc::EAGAIN)));
    limit(1000);
    assert_holds_only(before, "failures leave nothing");
    // one thread and one process may be: the spawner is there, the watcher cannot be
    limit(threads().len() as u64 + 1);
    let told = tree.spawn(Command::new("sleep").arg("1000"));
    limit(1000);
    assert_eq!(failure(told), (Step::Watch, Some(libc::EAGAIN)));
    assert_holds_only(before, "failures leave nothing");
    assert_eq!(tree.table().counts().processes, 2, "init and the owner");
}

/// A program for which there is no memory.
#[test]
fn a_child_without_memory() {
    let tree = ProcessTree::new().unwrap();
    let none = proctable::abi::Rlimit { soft: 4096, hard: 4096 };
    let command = Command::new("true").limit(proctable::abi::Resource(libc::RLIMIT_AS), none);
    match tree.spawn(command) {
        // in the middle of exec, where the old program is gone, the kernel kills it
        Ok(child) => assert!(child.wait().unwrap().term_signal().is_some()),
        Err(error) => {
            assert_eq!(error.step, Step::Exec);
            let errno = error.error.raw_os_error().unwrap();
            assert!([libc::ENOMEM, libc::E2BIG].contains(&errno), "{error}");
        }
    }
    assert!(tree.members().unwrap().is_empty());
}

/// A suspended tree refuses; others continue; when it is resumed it takes children again.
#[test]
fn a_suspended_tree_takes_no_children() {
    for (tree, other) in trees().into_iter().zip(trees()) {
        spawn_ready(&tree, "echo; exec >&-; sleep 1000");
        tree.suspend().unwrap();
        let refused = (Step::Suspended, Some(libc::EBUSY));
        assert_eq!(failure(tree.spawn(Command::new("true"))), refused);
        assert_eq!(other.spawn(Command::new("true")).unwrap().wait(), Ok(WaitStatus::exited(0)));
        tree.resume().unwrap();
        assert_eq!(tree.spawn(Command::new("true")).unwrap().wait(), Ok(WaitStatus::exited(0)));
        // killing ends the suspension
        tree.suspend().unwrap();
        assert_eq!(tree.kill().unwrap().survivors, []);
        assert_eq!(tree.spawn(Command::new("true")).unwrap().wait(), Ok(WaitStatus::exited(0)));
    }
}

/// Another process freezes the cgroup: a spawn waits, other trees do not, and a kill ends it.
#[test]
fn a_child_that_is_killed_before_its_program_is_an_error() {
    let tree = ProcessTree::new().unwrap();
    let Mechanism::Cgroup(directory) = tree.mechanism() else {
        println!("SKIPPED: no cgroup");
        return;
    };
    let freeze = directory.join("cgroup.freeze");
    std::fs::write(&freeze, "1").unwrap();
    std::thread::scope(|scope| {
        let spawning = scope.spawn(|| tree.spawn(Command::new("true")));
        let procs = directory.join("cgroup.procs");
        until("the child is in", || !std::fs::read_to_string(&procs).unwrap().is_empty());
        let other = ProcessTree::new().unwrap();
        assert_eq!(other.spawn(Command::new("true")).unwrap().wait(), Ok(WaitStatus::exited(0)));
        assert_eq!(tree.kill().unwrap().survivors, []);
        assert_eq!(failure(spawning.join().unwrap()), (Step::Killed, None));
    });
    assert_eq!(tree.table().counts().processes, 2, "init and the owner");
}

/// A kernel that kills each process that is created in a cgroup which was killed before: no caller
/// sees it.
#[test]
fn a_tree_that_was_killed_takes_children() {
    let tree = ProcessTree::new().unwrap();
    for _ in 0..3 {
        assert_eq!(tree.spawn(Command::new("true")).unwrap().wait(), Ok(WaitStatus::exited(0)));
        assert_eq!(tree.kill().unwrap().survivors, []);
    }
    // nor if another process did so
    let tree = ProcessTree::new().unwrap();
    if let Mechanism::Cgroup(directory) = tree.mechanism() {
        match std::fs::write(directory.join("cgroup.kill"), "1") {
            Ok(()) => {}
            Err(error) => println!("SKIPPED: no cgroup.kill: {error}"),
        }
    }
    for _ in 0..3 {
        assert_eq!(tree.spawn(Command::new("true")).unwrap().wait(), Ok(WaitStatus::exited(0)));
    }
}

/// An owner that ignores SIGCHLD has the kernel reap its children: their ends are seen, and how
/// they ended where the kernel keeps that.
#[test]
fn an_owner_may_ignore_sigchld() {
    scenario("ignoring_sigchld", &[]);
}

#[test]
#[ignore = "a scenario of an_owner_may_ignore_sigchld"]
fn ignoring_sigchld() {
    if !is_alone() {
        return;
    }
    // SAFETY: no handler
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    for tree in trees() {
        let child = tree.spawn(Command::new("true")).unwrap();
        let kept = proctable::drivers::linux::preflight().ends_of_others.is_ok();
        let forgotten = Err(proctable::abi::Errno::ECHILD);
        let expected = if kept { Ok(WaitStatus::exited(0)) } else { forgotten };
        assert_eq!(child.wait(), expected);
        assert_eq!(failure(tree.spawn(Command::new("/none"))), (Step::Exec, Some(libc::ENOENT)));
        spawn_ready(&tree, "echo; exec >&-; sleep 1000");
        assert_eq!(tree.kill().unwrap().survivors, []);
    }
}

/// Whether a spawn has a mask or not, the signals that the owner ignores or blocks are not the
/// child's.
#[test]
fn mask_and_dispositions_are_as_asked_for() {
    with_default_signals();
    // SAFETY: zeroes are the empty set, and both sets are ours
    unsafe {
        let mut usr2 = std::mem::zeroed();
        libc::sigaddset(&mut usr2, libc::SIGUSR2);
        libc::pthread_sigmask(libc::SIG_BLOCK, &usr2, std::ptr::null_mut());
    }
    let tree = ProcessTree::new().unwrap();
    let status = |command: Command| {
        let child = tree.spawn(command.stdout(Stdio::Piped)).unwrap();
        let mut text = String::new();
        child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let grep = || Command::new("grep").args(["-E", "SigBlk|SigIgn", "/proc/self/status"]);
    // Rust ignores SIGPIPE
    assert_eq!(status(grep()), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    assert_eq!(
        status(grep().inherit_mask()),
        "SigBlk:\t0000000000000800\nSigIgn:\t0000000000000000\n"
    );
}

/// Bytes that are no text are passed on as they are.
#[test]
fn an_environment_may_hold_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let tree = Options::new().without_cgroup().create().unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let command = Command::new("printenv").arg("ODD").env("ODD", odd).stdout(Stdio::Piped);
    let child = tree.spawn(command).unwrap();
    let mut bytes = Vec::new();
    child.take_stdout().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"\xff\xfe\n");
}

/// So may a name.
#[test]
fn a_member_may_have_any_name() {
    for tree in trees() {
        let child =
            spawn_ready(&tree, "printf '\\377' >/proc/$$/comm; echo; exec >&-; kill -STOP $$");
        let members = tree.members().unwrap();
        assert_eq!(members.iter().map(|member| member.pid).collect::<Vec<_>>(), [child.pid()]);
        assert_eq!(members[0].command, "\u{fffd}");
    }
}

/// Standard streams that the owner has closed.
#[test]
fn an_owner_may_have_closed_its_streams() {
    let closed = "exec \"$@\" <&-";
    scenario("without_standard_input", &["sh", "-c", closed, "sh"]);
}

#[test]
#[ignore = "a scenario of an_owner_may_have_closed_its_streams"]
fn without_standard_input() {
    if !is_alone() {
        return;
    }
    // Rust opens /dev/null for those that are closed when it starts
    // SAFETY: no code here uses it
    unsafe { libc::close(0) };
    for tree in trees() {
        let child =
            tree.spawn(Command::new("cat").stdin(Stdio::Piped).stdout(Stdio::Piped)).unwrap();
        io::Write::write_all(&mut child.take_stdin().unwrap(), b"through").unwrap();
        let mut text = String::new();
        child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
    }
}

/// All processes that were alive at its beginning are in the report of a shutdown, whichever code
/// waited for them.
#[test]
fn a_shutdown_tells_of_those_that_others_wait_for() {
    for tree in trees() {
        let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let pid = child.pid();
        let shutdown = std::thread::scope(|scope| {
            let waiting = scope.spawn(move || child.wait());
            let shutdown = tree.shutdown(Signal::TERM, SOON).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(WaitStatus::killed(Signal::TERM, false)));
            shutdown
        });
        assert_eq!(shutdown.ended[&pid], WaitStatus::killed(Signal::TERM, false));
    }
}

/// No process stays a zombie once it has ended, though its tree is gone.
#[test]
fn those_that_are_left_are_reaped() {
    for options in [Options::new(), Options::new().without_cgroup()] {
        let tree = options.on_drop(proctable::drivers::linux::OnDrop::Leave).create().unwrap();
        let (_, directory) = traces(&tree);
        let child = tree.spawn(Command::new("sleep").arg("0.05")).unwrap();
        drop(tree);
        let stat = format!("/proc/{}", child.pid());
        until("it is reaped", || !std::path::Path::new(&stat).exists());
        assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
        directory.into_iter().for_each(|directory| std::fs::remove_dir(directory).unwrap());
    }
}

/// A thousand children have one watcher and, as they come one after the other, one spawner.
#[test]
fn one_thread_watches_all() {
    scenario("a_thousand_children_and_their_threads", &[]);
}

#[test]
#[ignore = "a scenario of one_thread_watches_all"]
fn a_thousand_children_and_their_threads() {
    if !is_alone() {
        return;
    }
    let tree = ProcessTree::new().unwrap();
    let events = tree.table().subscribe(8192).unwrap();
    // they all wait for the end of this pipe
    let (reader, writer) = io::pipe().unwrap();
    let spawn = |code| {
        let input = Stdio::File(reader.try_clone().unwrap().into());
        tree.spawn(sh(&format!("read line; exit {code}")).stdin(input)).unwrap()
    };
    let children: Vec<_> = (0..1000).map(|nth| (nth % 256, spawn(nth % 256))).collect();
    // a thread gives itself its name, a moment after it began
    until("there is a watcher", || number_of("proctable-watch") == 1);
    let ours = threads().into_iter().filter(|name| name.starts_with("proctable-"));
    assert_eq!(ours.count(), 2, "a spawner and a watcher: {:?}", threads());
    drop(writer);
    let mut expected = std::collections::BTreeMap::new();
    for (code, child) in &children {
        assert_eq!(child.wait(), Ok(WaitStatus::exited(*code)));
        expected.insert(child.process().pid(), vec![WaitStatus::exited(*code)]);
    }
    let mut seen = std::collections::BTreeMap::<_, Vec<_>>::new();
    for event in events.try_iter() {
        if let proctable::table::What::Exited(status) = event.what {
            seen.entry(event.pid).or_default().push(status);
        }
    }
    assert_eq!(seen, expected);
}

/// The guardian holds nothing of the owner's, and nothing of the tree's.
#[test]
fn a_guardian_has_only_its_own_streams() {
    let tree = match Options::new().guarded().create() {
        Ok(tree) => tree,
        Err(error) => {
            println!("SKIPPED: {error}");
            return;
        }
    };
    let Mechanism::Cgroup(directory) = tree.mechanism() else { unreachable!("it is guarded") };
    let directory = directory.to_str().unwrap().to_string();
    let is_guardian = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&directory)
    };
    let find = || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.find(is_guardian)
    };
    // its creator is in the middle of exec: arguments and descriptors take another moment
    until("there is a guardian", || find().is_some());
    let guardian = find().unwrap();
    let fds = format!("/proc/{guardian}/fd");
    until("it has three descriptors", || count(&fds) == 3);
    drop(tree);
    assert!(!is_there(guardian));
}

/// After a wait nothing is left of a child: no zombie that counts against a limit, and no target
/// for a signal.
#[test]
fn a_wait_returns_when_the_child_is_reaped() {
    let tree = Options::new().without_cgroup().create().unwrap();
    for nth in 0..400 {
        let child = tree.spawn(Command::new("true").stdin(Stdio::Null)).unwrap();
        let ended = match nth % 2 {
            0 => child.wait_timeout(SOON).unwrap().unwrap(),
            _ => child.wait().unwrap(),
        };
        assert_eq!(ended, WaitStatus::exited(0));
        assert!(child.signal(Signal::USR1).is_err(), "round {nth}");
    }
}
