//! What a command writes is read while its input is written: nothing is lost, neither side waits
//! for the other, and the end of the tree ends the reading. Also time-outs, limits, figures, and
//! what is left after a failure.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;

use proctable::abi::{Resource, Rlimit};
use proctable::drivers::linux::{Output, Pipeline, RunError, Stream};

use super::*;

/// Bytes that look random.
fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(4711);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// With each mechanism that there is here.
fn each_mechanism(act: impl Fn(Options)) {
    for tree in trees() {
        let options = match tree.mechanism() {
            Mechanism::Cgroup(_) => Options::new(),
            _ => Options::new().without_cgroup(),
        };
        drop(tree);
        act(options);
    }
}

fn run(script: &str) -> Pipeline {
    with_default_signals();
    Command::new("sh").args(["-c", script]).timeout(SOON)
}

#[track_caller]
fn done(output: Result<Output, RunError>) -> Output {
    let output = output.unwrap();
    assert!(!output.timed_out, "{output:?}");
    output
}

/// Each of the three pipes is full at some moment.
#[test]
fn input_and_both_outputs_flow_at_once() {
    let input = noise(3_000_000);
    each_mechanism(|options| {
        let tee = Pipeline::from(Command::new("tee").arg("/dev/stderr")).timeout(SOON);
        let output = done(tee.options(options).input(&input[..]).output());
        assert!(output.stdout == input && output.stderr == input);
        assert_eq!((output.stdout_total, output.stderr_total), (3_000_000, 3_000_000));
        assert!(output.success() && output.killed.is_empty() && !output.truncated);
    });
}

/// A reader of standard output alone would wait for a command that waits for a reader of the other.
#[test]
fn whichever_stream_is_full_first_is_read() {
    let script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; echo >&2";
    let output = done(run(script).output());
    assert_eq!((output.stdout.len(), output.stderr.len()), (1_000_000, 1_000_001));
}

/// The input is written while the first command of several has not even begun to read.
#[test]
fn input_passes_through_a_pipeline() {
    let input = noise(1_000_000);
    let slow = Command::new("sh").args(["-c", "sleep 0.2; cat"]);
    let output = slow.pipe(Command::new("cat")).pipe(Command::new("cat")).input(&input[..]);
    assert!(done(output.timeout(SOON).output()).stdout == input);
}

/// A command need not read its input: it is no error, and no signal.
#[test]
fn a_command_that_reads_no_input_is_no_error() {
    let output = done(run("exec <&-; echo read nothing").input(noise(1_000_000)).output());
    assert_eq!(output.stdout, b"read nothing\n");
    alone_here("linux::output::unread_input_with_the_default_of_sigpipe", &[]);
}

#[test]
#[ignore = "a scenario of a_command_that_reads_no_input_is_no_error"]
fn unread_input_with_the_default_of_sigpipe() {
    if !is_alone() {
        return;
    }
    // SAFETY: SIG_DFL is no address
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let output = done(run("exec <&-; sleep 0.1").input(noise(1_000_000)).output());
    assert!(output.success());
    // what the owner has blocked and pending stays so
    // SAFETY: the sets are ours, and filled before they are read
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::raise(libc::SIGPIPE);
        done(run("exec <&-; sleep 0.1").input(noise(1_000_000)).output());
        libc::sigpending(&mut set);
        assert_eq!(libc::sigismember(&set, libc::SIGPIPE), 1);
    }
}

/// A process that a command leaves has its pipes: the end of the tree is the end of both.
#[test]
fn a_leftover_child_does_not_hold_the_output_open() {
    each_mechanism(|options| {
        let script = "sleep 1000 & (setsid sleep 1001 &); echo begun";
        let output = done(run(script).options(options).output());
        assert_eq!(output.stdout, b"begun\n");
        assert!(output.success(), "{output:?}");
        assert_eq!(output.killed.len(), 2, "{output:?}");
        assert!(output.survivors.is_empty() && output.unseen.is_none());
        assert!(output.killed.iter().all(|member| !is_there(member.pid)));
    });
}

/// A process outside of the tree has the pipe: what the tree wrote is there, and the reading ends.
#[test]
fn an_unrelated_process_does_not_hold_the_output_open() {
    let capture = run("echo begun; read line").input("x").start().unwrap();
    let pid = capture.children()[0].pid();
    let writer = File::options().write(true).open(format!("/proc/{pid}/fd/1")).unwrap();
    let output = done(capture.wait());
    assert_eq!(output.stdout, b"begun\n");
    drop(writer);
}

#[test]
fn no_more_is_kept_than_the_limit() {
    for limit in [0, 3, 65_536, 100_000, 1_000_000] {
        let zeros = Command::new("sh").args(["-c", "head -c 1000000 /dev/zero; printf 123 >&2"]);
        let output = done(Pipeline::from(zeros).limit(limit).timeout(SOON).output());
        assert_eq!((output.stdout.len(), output.stdout_total), (limit, 1_000_000));
        assert_eq!((output.stderr.len(), output.stderr_total), (limit.min(3), 3));
        assert_eq!(output.truncated, limit < 1_000_000);
    }
}

/// The order of one stream that both are is the order of the writes.
#[test]
fn merged_output_is_in_order() {
    let script = "for i in 1 2 3; do echo $i; echo $i >&2; done";
    let output = Command::new("sh").args(["-c", script]).stderr_to_stdout();
    let output = done(output.timeout(SOON).output());
    assert_eq!((&output.stdout[..], output.stderr_total), (&b"1\n1\n2\n2\n3\n3\n"[..], 0));
    // into the pipe of a pipeline, and into whatever the owner's standard output is
    let first = Command::new("sh").args(["-c", "echo error >&2"]).stderr_to_stdout();
    let output = done(first.pipe(Command::new("cat")).timeout(SOON).output());
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"error\n"[..], &b""[..]));
    let file = File::open("/dev/null").unwrap();
    let script = "readlink /proc/self/fd/2 >&3";
    let (mut reader, writer) = io::pipe().unwrap();
    let command = Command::new("sh").args(["-c", script]).stdout(Stdio::File(file.into()));
    let status = command.stderr_to_stdout().fd(3, writer.into()).status().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), status), ("/dev/null\n", WaitStatus::exited(0)));
}

/// What a stream is that the command names stays so.
#[test]
fn a_stream_that_a_command_names_stays() {
    let command = Command::new("sh").args(["-c", "readlink /proc/self/fd/0; echo >&2"]);
    let output = command.stdin(Stdio::Inherit).stderr(Stdio::Null).timeout(SOON);
    let output = done(output.output());
    let own = std::fs::read_link("/proc/self/fd/0").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), own.to_string_lossy());
    assert_eq!(output.stderr_total, 0);
    let output = done(run("readlink /proc/self/fd/0").output());
    assert_eq!(output.stdout, b"/dev/null\n");
    // a pipe of the command's own is for the caller
    let command = Command::new("sh").args(["-c", "read line; echo $line"]).stdin(Stdio::Piped);
    let capture = Pipeline::from(command).timeout(SOON).start().unwrap();
    io::Write::write_all(&mut capture.children()[0].take_stdin().unwrap(), b"asked\n").unwrap();
    assert_eq!(done(capture.wait()).stdout, b"asked\n");
}

/// Runs something with a timeout that is long enough for its processes to be where they want to be,
/// as they say by a line.
fn timed_out(pipeline: impl Fn() -> Pipeline) -> (Output, Duration) {
    let mut timeout = Duration::from_millis(200);
    loop {
        let output = pipeline().timeout(timeout).output().unwrap();
        assert!(output.timed_out, "{output:?}");
        if output.stdout.starts_with(b"begun\n") {
            return (output, timeout);
        }
        timeout *= 4;
        assert!(timeout < SOON * 4, "{output:?}");
    }
}

/// The timeout kills all members of the tree, and what was written before is there.
#[test]
fn a_timeout_ends_the_tree_and_keeps_the_output() {
    each_mechanism(|options| {
        let script = "sleep 1000 & (setsid sleep 1001 &); echo begun; exec sleep 1002";
        let (output, timeout) = timed_out(|| run(script).options(options));
        assert_eq!(output.status, WaitStatus::killed(Signal::KILL, false));
        assert_eq!((&output.stdout[..], output.killed.len()), (&b"begun\n"[..], 3), "{output:?}");
        assert!(output.usage.elapsed >= timeout);
        assert!(!output.success());
        assert!(output.killed.iter().all(|member| !is_there(member.pid)));
    });
}

/// What a process writes after the signal is read: it would wait for a reader until SIGKILL else.
#[test]
fn output_flows_between_the_signal_and_the_end() {
    each_mechanism(|options| {
        let end = "head -c 1000000 /dev/zero; exit 7";
        let script = format!("trap '{end}' TERM; echo begun; while :; do sleep 0.01; done");
        let pipeline = || run(&script).options(options).shutdown(Signal::TERM, SOON);
        let (output, timeout) = timed_out(pipeline);
        assert!(output.usage.elapsed < timeout + SOON);
        assert_eq!((output.stdout.len(), output.status.exit_code()), (1_000_006, Some(7)));
        assert!(output.killed.is_empty(), "{output:?}");
    });
}

/// Only those are killed that the signal did not end in time.
#[test]
fn the_grace_is_over_for_processes_that_ignore_the_signal() {
    each_mechanism(|options| {
        let deaf = "trap '' TERM; echo begun; while :; do sleep 0.01; done";
        let script = format!("sh -c \"{deaf}\" & exec sleep 1000");
        let grace = Duration::from_millis(300);
        let pipeline = || run(&script).options(options).shutdown(Signal::TERM, grace);
        let (output, timeout) = timed_out(pipeline);
        assert_eq!(output.status, WaitStatus::killed(Signal::TERM, false));
        let killed: BTreeSet<_> = output.killed.iter().map(|member| &*member.command).collect();
        assert!(killed.contains("sh"), "{output:?}");
        assert!(output.usage.elapsed >= timeout + grace);
    });
}

/// A tree of the caller stays: a timeout ends the commands alone.
#[test]
fn a_tree_of_the_caller_stays() {
    for tree in trees() {
        let other = spawn_ready(&tree, "echo; exec sleep 1000");
        let (output, _) = timed_out(|| run("echo begun; exec sleep 1001").within(&tree));
        assert_eq!((output.killed.len(), output.status.term_signal()), (1, Some(Signal::KILL)));
        // it lasts until the pipes are closed
        let script = "(sleep 0.3; echo late) & echo early";
        let command = Command::new("sh").args(["-c", script]);
        let output = done(Pipeline::from(command).within(&tree).timeout(SOON).output());
        assert_eq!(output.stdout, b"early\nlate\n");
        // a signal first, and a drop
        let script = "trap 'exit 7' TERM; echo begun; while :; do sleep 0.01; done";
        let pipeline = || run(script).within(&tree).shutdown(Signal::TERM, SOON);
        assert_eq!(timed_out(pipeline).0.status, WaitStatus::exited(7));
        let capture = Pipeline::from(Command::new("sleep").arg("1002")).within(&tree).start();
        let dropped = capture.unwrap().children()[0].clone();
        assert_eq!(dropped.wait(), Ok(WaitStatus::killed(Signal::KILL, false)));
        assert_eq!(other.wait_timeout(Duration::ZERO), Ok(None));
    }
}

/// The processes that commands left may finish.
#[test]
fn it_can_last_until_the_last_member_has_ended() {
    each_mechanism(|options| {
        let script = "(sleep 0.3; echo late) & echo early";
        let output = done(run(script).options(options).wait_for_members().output());
        assert_eq!(output.stdout, b"early\nlate\n");
        assert!(output.killed.is_empty(), "{output:?}");
        let script = "sleep 1000 & echo begun";
        let (output, _) = timed_out(|| run(script).options(options).wait_for_members());
        assert_eq!(output.killed.len(), 1, "{output:?}");
    });
}

/// CPU time and memory are those of the tree. A child shares the memory of its owner until its
/// exec, and the kernel counts that as the child's: it is not reported.
#[test]
fn usage_is_that_of_the_tree() {
    alone_here("linux::output::usage_of_trees", &[]);
}

#[test]
#[ignore = "a scenario of usage_is_that_of_the_tree"]
fn usage_of_trees() {
    if !is_alone() {
        return;
    }
    each_mechanism(|options| {
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done";
        let usage = done(run(script).options(options).output()).usage;
        assert!(usage.cpu.value >= Duration::from_millis(20), "{usage:?}");
        assert!(usage.elapsed >= usage.cpu.value / 2, "{usage:?}");
        // tail(1) keeps what has no newline
        let script = "head -c 200000000 /dev/zero | tail -n 1 | wc -c";
        let usage = done(run(script).options(options).output()).usage;
        let peak = usage.memory_peak.expect("more than this process has");
        assert!((200_000_000..400_000_000).contains(&peak.value), "{usage:?}");
        let owner = vec![1u8; 100_000_000];
        let usage = done(Pipeline::from(Command::new("true")).options(options).output()).usage;
        assert!(usage.memory_peak.is_none_or(|peak| peak.value < 50_000_000), "{usage:?}");
        drop(owner);
    });
}

/// Everything that a pipeline could leave: descriptors, and children, zombies too.
fn holdings() -> (Vec<String>, usize) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let target = |fd: std::fs::DirEntry| std::fs::read_link(fd.path()).ok();
    let mut fds: Vec<_> = fds.filter_map(target).map(|to| to.display().to_string()).collect();
    fds.sort();
    let own = format!("/proc/self/task/{}/children", std::process::id());
    let mut children = std::fs::read_to_string(own).unwrap().split_whitespace().count();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children += list.split_whitespace().count();
    }
    // the directory that is read
    fds.retain(|to| !to.ends_with("/fd"));
    (fds, children)
}

#[test]
fn a_failure_leaves_nothing() {
    alone_here("linux::output::every_failure", &[]);
}

/// With one more free descriptor each time, up to enough: each place that can fail for want of one
/// does so once.
#[test]
#[ignore = "a scenario of a_failure_leaves_nothing"]
fn every_failure() {
    if !is_alone() {
        return;
    }
    each_mechanism(|options| {
        let pipeline = || {
            // the commands themselves have enough
            let own = Rlimit { soft: 1000, hard: 1000 };
            let enough = |command: Command| command.limit(Resource(libc::RLIMIT_NOFILE), own);
            let first = Command::new("sh").args(["-c", "sleep 1000 >&2 & cat; echo >&2"]);
            enough(first).pipe(enough(Command::new("cat"))).options(options).timeout(SOON)
        };
        done(pipeline().input("x").output());
        // the watcher lets a child go a moment after its end
        let is_at_rest = || !holdings().0.iter().any(|to| to.contains("pidfd"));
        until("no child is watched", is_at_rest);
        let before = holdings();
        let check = |what: &str| until(what, || holdings() == before);
        let missing = Command::new("cat").pipe(Command::new("no such program"));
        let error = missing.input(noise(100_000)).options(options).output().unwrap_err();
        assert!(error.to_string().contains("no such program: execve"), "{error}");
        check("a program that is missing");
        let twice = Command::new("cat").stdin(Stdio::Null).input("x").output().unwrap_err();
        assert!(matches!(&twice, RunError::Spawn(error) if error.step == Step::Stdio), "{twice}");
        let twice = Command::new("cat").stdout(Stdio::Null).pipe(Command::new("cat"));
        assert!(twice.output().unwrap_err().to_string().contains("standard output"));
        let twice = Command::new("cat").pipe(Command::new("cat").stdin(Stdio::Null));
        assert!(twice.output().unwrap_err().to_string().contains("standard input"));
        check("a stream that is set twice");
        drop(pipeline().input("x").start().unwrap());
        check("a drop");
        let panics = std::panic::catch_unwind(|| {
            pipeline().input("x").for_each_chunk(|_, _| std::panic::resume_unwind(Box::new(())))
        });
        assert!(panics.is_err());
        check("a panic");
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit is ours to fill
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
        let all = limit.rlim_cur;
        let (mut failures, mut below) = (0, 3);
        loop {
            limit.rlim_cur = below;
            // SAFETY: the limit is only read
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
            let result = pipeline().input("x").output();
            limit.rlim_cur = all;
            // SAFETY: the limit is only read
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
            check(&format!("descriptors below {below} can be had"));
            match result {
                Ok(output) if output.stdout == b"x" => break,
                result => drop(result.map(|output| panic!("{output:?}"))),
            }
            failures += 1;
            below += 1;
        }
        assert!(failures > 5, "{failures}");
        println!("{failures} failures for want of descriptors");
    });
}

/// Bytes of both streams, without keeping any.
#[test]
fn bytes_are_given_as_they_come() {
    let (mut out, mut err) = (0, 0);
    let script = "head -c 3000000 /dev/zero & head -c 2000000 /dev/zero >&2; wait";
    let output = run(script).for_each_chunk(|stream, bytes| {
        assert!(!bytes.is_empty());
        match stream {
            Stream::Stdout => out += bytes.len(),
            Stream::Stderr => err += bytes.len(),
        }
    });
    let output = done(output);
    assert_eq!((out, err, output.stdout.len()), (3_000_000, 2_000_000, 0));
    assert_eq!((output.stdout_total, output.stderr_total), (3_000_000, 2_000_000));
}

/// A gibibyte through a tree of three processes, both streams at once: all of it arrives, and the
/// memory of the owner stays as it is.
#[test]
fn a_large_capture_takes_no_memory() {
    alone_here("linux::output::a_large_capture", &[]);
}

#[test]
#[ignore = "a scenario of a_large_capture_takes_no_memory"]
fn a_large_capture() {
    if !is_alone() {
        return;
    }
    const EACH: u64 = 512 << 20;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    // what any capture takes
    let small = run("head -c 1000000 /dev/zero & head -c 1000000 /dev/zero >&2; wait");
    done(small.for_each_chunk(|_, _| {}));
    let before = peak();
    let mut sums = [0u64; 2];
    let script = format!("head -c {EACH} /dev/zero & head -c {EACH} /dev/zero >&2; wait");
    let command = Command::new("sh").args(["-c", &script]).timeout(SOON * 3);
    let output = command.for_each_chunk(|stream, bytes| {
        sums[stream as usize] += bytes.len() as u64;
    });
    assert!(done(output).success());
    assert_eq!(sums, [EACH; 2]);
    assert!(peak() - before < 4 << 20, "{before} {}", peak());
}

/// The descriptor of a number that another descriptor has in the owner, in both directions.
#[test]
fn descriptors_arrive_at_their_numbers() {
    use std::os::fd::AsRawFd;
    let (first, second) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
    let list = "cd /proc/self/fd && for fd in *; do echo $fd $(readlink $fd); done";
    for close_others in [false, true] {
        let null = OwnedFd::from(first.try_clone().unwrap());
        let zero = OwnedFd::from(second.try_clone().unwrap());
        // each has the number at which the other one is wanted
        let numbers = [null.as_raw_fd(), zero.as_raw_fd()];
        let command = Command::new("sh").args(["-c", list]).fd(numbers[1], null);
        let command = command.fd(numbers[0], zero).fd(200, first.try_clone().unwrap().into());
        let command = if close_others { command.close_others() } else { command };
        let text = String::from_utf8(done(command.timeout(SOON).output()).stdout).unwrap();
        let has = |line: String| assert!(text.lines().any(|found| found == line), "{line}: {text}");
        has(format!("{} /dev/zero", numbers[0]));
        has(format!("{} /dev/null", numbers[1]));
        has("200 /dev/null".into());
        if close_others {
            let numbers = numbers.map(|number| number.to_string());
            let wanted = ["0", "1", "2", "200", &numbers[0], &numbers[1]];
            let found = text.lines().filter_map(|line| line.split(' ').next());
            let unexpected: Vec<_> = found.filter(|fd| !wanted.contains(fd)).collect();
            // but the directory that the shell reads
            assert!(unexpected.len() <= 1, "{text}");
        }
    }
    for (number, errno) in [(-1, Some(libc::EBADF)), (2, None), (i32::MAX, Some(libc::EINVAL))] {
        let null = File::open("/dev/null").unwrap();
        let error = Command::new("true").fd(number, null.into()).output().unwrap_err();
        let RunError::Spawn(error) = error else { panic!("{error}") };
        assert_eq!((error.step, error.error.raw_os_error()), (Step::Stdio, errno), "{number}");
    }
}

/// The same by fork(2), where a kernel or a filter has no better, and without close_range(2).
#[test]
fn a_forked_child_gets_the_same() {
    alone_here("linux::output::without_clone_and_close_range", &[]);
    alone_here("linux::output::without_clone", &[]);
}

fn forbid_clone(others: &[libc::sock_filter]) {
    let clone3 = spawn::refuse(libc::SYS_clone3, 0, libc::ENOSYS);
    let clone = spawn::refuse(libc::SYS_clone, libc::CLONE_PIDFD as u32, libc::EINVAL);
    spawn::forbid(&[&clone3, &clone, others].concat());
}

#[test]
#[ignore = "a scenario of a_forked_child_gets_the_same"]
fn without_clone_and_close_range() {
    if is_alone() {
        forbid_clone(&spawn::refuse(libc::SYS_close_range, 0, libc::ENOSYS));
        descriptors_arrive_at_their_numbers();
    }
}

#[test]
#[ignore = "a scenario of a_forked_child_gets_the_same"]
fn without_clone() {
    if is_alone() {
        forbid_clone(&[]);
        descriptors_arrive_at_their_numbers();
        a_command_has_its_name_and_its_mask();
        merged_output_is_in_order();
        input_and_both_outputs_flow_at_once();
    }
}

#[test]
fn a_command_has_its_name_and_its_mask() {
    let command = Command::new("sh").arg0("name").args(["-c", "echo $0; umask; umask 0; umask"]);
    let output = done(command.umask(0o137).timeout(SOON).output());
    assert_eq!(output.stdout, b"name\n0137\n0000\n");
    // the owner's stays
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(!own.contains("Umask:\t0137"), "{own}");
}
