//! Pipelines: statuses, lines, many at once in one thread, event loops and futures.
#![allow(unsafe_code)]

use std::future::Future;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use proctable::drivers::linux::{Line, Pipeline, Stream, output_many};

use super::*;

fn shell(script: &str) -> Command {
    with_default_signals();
    Command::new("sh").args(["-c", script])
}

/// Each command has its status, and the last one's is the pipeline's.
#[test]
fn a_pipeline_has_the_status_of_each_command() {
    let output = shell("exit 3").pipe(shell("exit 0")).timeout(SOON).output().unwrap();
    assert_eq!(output.statuses, [WaitStatus::exited(3), WaitStatus::exited(0)]);
    assert_eq!((output.status, output.success()), (WaitStatus::exited(0), false));
    // one that writes for ever ends with its reader
    let output = Command::new("yes").pipe(Command::new("head").args(["-n", "2"]));
    let output = output.timeout(SOON).output().unwrap();
    assert_eq!((&output.stdout[..], output.timed_out), (&b"y\ny\n"[..], false));
    assert_eq!(output.statuses[0], WaitStatus::killed(Signal::PIPE, false));
    let output = shell("echo 1 >&2").pipe(shell("cat; echo 2 >&2")).timeout(SOON).output().unwrap();
    assert_eq!(output.stderr, b"1\n2\n");
    // the same in the form of the standard library
    let std: std::process::Output = shell("echo x; exit 4").output().unwrap().into();
    assert_eq!((std.status.code(), &std.stdout[..]), (Some(4), &b"x\n"[..]));
}

/// Every command is in one tree.
#[test]
fn a_pipeline_is_one_tree() {
    let cat = || Command::new("cat");
    let capture = cat().stdin(Stdio::Piped).pipe(cat()).pipe(cat()).start().unwrap();
    assert_eq!(capture.tree().unwrap().members().unwrap().len(), 3);
    let pids: Vec<_> = capture.children().iter().map(|child| child.pid()).collect();
    drop(capture);
    assert_eq!(still_there(&pids), "");
}

fn lines_of(script: &str, limit: usize) -> Vec<(Stream, Vec<u8>, bool)> {
    let mut lines = Vec::new();
    let pipeline = Pipeline::from(shell(script)).timeout(SOON).line_limit(limit);
    let each = |line: &Line| lines.push((line.stream, line.bytes.clone(), line.newline));
    assert!(pipeline.for_each_line(each).unwrap().success());
    let pipeline = Pipeline::from(shell(script)).timeout(SOON).line_limit(limit);
    let mut iterated: Vec<_> = pipeline
        .lines()
        .unwrap()
        .map(|line| line.map(|line| (line.stream, line.bytes, line.newline)).unwrap())
        .collect();
    // the order of the streams is not certain
    lines.sort_by_key(|line| line.0);
    iterated.sort_by_key(|line| line.0);
    assert_eq!(lines, iterated);
    lines
}

#[test]
fn lines_are_bytes_and_tell_how_they_end() {
    let out = |bytes: &[u8], newline| (Stream::Stdout, bytes.to_vec(), newline);
    let err = |bytes: &[u8], newline| (Stream::Stderr, bytes.to_vec(), newline);
    let script = "printf 'a\\n\\n\\377\\r\\nend'; printf 'error\\n' >&2";
    let expected = [
        out(b"a", true),
        out(b"", true),
        out(b"\xff\r", true),
        out(b"end", false),
        err(b"error", true),
    ];
    assert_eq!(lines_of(script, 100), expected);
    // one that fills the limit is whole, a longer one comes in pieces
    let script = "printf '1234\\n'; sleep 0.1; printf '12345\\n'; sleep 0.1; printf 1234; sleep 0.1; printf '\\n1'";
    let expected = [
        out(b"1234", true),
        out(b"1234", false),
        out(b"5", true),
        out(b"1234", true),
        out(b"1", false),
    ];
    assert_eq!(lines_of(script, 4), expected);
    assert_eq!(lines_of("true", 4), []);
}

/// A very long line takes no more memory than its limit.
#[test]
fn a_long_line_comes_in_pieces() {
    let (mut total, mut longest, mut newlines) = (0, 0, 0);
    let pipeline = Pipeline::from(shell("head -c 5000000 /dev/zero; echo; echo"));
    let output = pipeline.timeout(SOON).line_limit(100_000).for_each_line(|line| {
        total += line.bytes.len();
        longest = longest.max(line.bytes.len());
        newlines += usize::from(line.newline);
    });
    assert!(output.unwrap().success());
    assert_eq!((total, longest, newlines), (5_000_000, 100_000, 2));
}

/// An iterator that is dropped ends the command; the rest of one that is finished is dropped.
#[test]
fn an_iterator_of_lines_ends_its_tree() {
    let mut lines = Pipeline::from(shell("echo $$; yes")).timeout(SOON).lines().unwrap();
    let pid: i32 = lines.next().unwrap().unwrap().text().parse().unwrap();
    assert_eq!(lines.next().unwrap().unwrap().text(), "y");
    assert!(is_there(pid));
    drop(lines);
    assert!(!is_there(pid));
    let mut lines = Pipeline::from(shell("seq 100000; exit 5")).timeout(SOON).lines().unwrap();
    lines.next().unwrap().unwrap();
    let output = lines.finish().unwrap();
    assert_eq!((output.status, output.stdout_total), (WaitStatus::exited(5), 588_895));
    let mut lines = Pipeline::from(shell("echo; sleep 1000")).lines();
    let mut timed = Pipeline::from(shell("echo x; exec sleep 1000"));
    timed = timed.timeout(Duration::from_millis(300));
    let mut timed = timed.lines().unwrap();
    assert!(timed.by_ref().count() <= 1);
    assert!(timed.next().is_none() && timed.finish().unwrap().timed_out);
    assert_eq!(lines.as_mut().unwrap().next().unwrap().unwrap().bytes, b"");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_thousand_captures_run_in_one_thread() {
    alone_here("linux::pipeline::a_thousand_captures", &[]);
}

/// All of them live at the same time: they read from one pipe, whose other end is closed when the
/// last one starts.
#[test]
#[ignore = "a scenario of a_thousand_captures_run_in_one_thread"]
fn a_thousand_captures() {
    const COUNT: usize = 1000;
    if !is_alone() {
        return;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours
    let is_enough = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_cur > 12 * COUNT as u64
    };
    let tree = ProcessTree::new().unwrap();
    let has_cgroup = matches!(tree.mechanism(), Mechanism::Cgroup(_));
    let modes: &[bool] = if is_enough && has_cgroup { &[true, false] } else { &[true] };
    if !is_enough {
        println!("SKIPPED: {} descriptors are too few for a tree each", limit.rlim_cur);
    }
    if !has_cgroup {
        println!(
            "SKIPPED: the ends of a thousand trees without cgroups look at all processes each"
        );
    }
    for is_within in modes {
        let before = threads();
        let (reader, writer) = io::pipe().unwrap();
        let (mut writer, mut most) = (Some(writer), 0);
        let commands = (0..COUNT).map(|nth| {
            most = most.max(threads());
            if nth == COUNT - 1 {
                let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
                println!("{} descriptors for {} captures", fds, nth);
                writer = None;
            }
            let command = shell(&format!("cat; echo {nth}; echo {nth} >&2; exit {}", nth % 7));
            let reader = reader.try_clone().unwrap();
            let pipeline = Pipeline::from(command.stdin(Stdio::File(reader.into())));
            let pipeline = pipeline.timeout(SOON * 5);
            if *is_within { pipeline.within(&tree) } else { pipeline }
        });
        let outputs = output_many(commands, COUNT);
        assert_eq!(outputs.len(), COUNT);
        for (nth, output) in outputs.into_iter().enumerate() {
            let output = output.unwrap();
            let expected = format!("{nth}\n").into_bytes();
            assert!(output.stdout == expected && output.stderr == expected, "{output:?}");
            assert_eq!(output.status, WaitStatus::exited(nth as i32 % 7));
        }
        // the watcher, and the spawner: this is not the main thread
        assert!(most <= before + 2, "{before} {most}");
    }
}

/// No more than that many at a time, and each failure in its place.
#[test]
fn many_run_a_few_at_a_time() {
    let commands = ["true", "no such program", "false", "true"].map(Command::new);
    let outputs = output_many(commands, 2);
    let codes = outputs.iter().map(|output| output.as_ref().ok().map(|output| output.status));
    let [zero, one] = [0, 1].map(|code| Some(WaitStatus::exited(code)));
    assert_eq!(codes.collect::<Vec<_>>(), [zero, None, one, zero]);
    assert!(output_many(Vec::<Command>::new(), 0).is_empty());
}

/// A reactor that is notified of edges comes back for all of it, also of what was in the pipe
/// before and needs several calls.
#[test]
fn an_event_loop_of_edges_misses_nothing() {
    const SIZE: usize = 1 << 20;
    // SAFETY: plain calls; the descriptor is new and ours
    let poller = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
    let command = shell("read line; exit 9").stdin(Stdio::Piped);
    let mut capture = Pipeline::from(command).timeout(SOON * 2).start().unwrap();
    let child = capture.children()[0].clone();
    let path = format!("/proc/{}/fd/1", child.pid());
    let mut pipe = std::fs::File::options().write(true).open(path).unwrap();
    // SAFETY: plain call
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, SIZE) };
    let size = if size > 0 { SIZE } else { 65_536 };
    if size < SIZE {
        println!("SKIPPED: a large pipe: {}", io::Error::last_os_error());
    }
    pipe.write_all(&vec![b'x'; size]).unwrap();
    drop(pipe);
    // SAFETY: the event is only read
    unsafe {
        let (poller, capture) = (poller.as_raw_fd(), capture.as_raw_fd());
        assert_eq!(libc::epoll_ctl(poller, libc::EPOLL_CTL_ADD, capture, &mut event), 0);
    }
    let mut total = 0;
    let output = loop {
        let timeout = SOON.as_millis() as i32;
        // SAFETY: there is room for one event
        let ready = unsafe { libc::epoll_wait(poller.as_raw_fd(), &mut event, 1, timeout) };
        let is_interrupted = io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        assert!(ready > 0 || ready < 0 && is_interrupted, "nothing after {total} bytes");
        let output = capture.advance_with(&mut |_, bytes| total += bytes.len()).unwrap();
        if let Some(output) = output {
            break output;
        }
        if total == size {
            drop(child.take_stdin());
        }
    };
    assert_eq!((output.status, total), (WaitStatus::exited(9), size));
    assert!(capture.advance().is_err());
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// An executor of a few lines.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

/// A future needs no runtime, and leaves nothing if it is dropped.
#[test]
fn a_future_needs_no_runtime() {
    let script =
        "head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait; cat; sleep 1000 &";
    let output = Pipeline::from(shell(script)).input("end").timeout(SOON).output_async();
    let output = block_on(output).unwrap();
    assert!(output.success() && output.stdout.ends_with(b"end"), "{:?}", output.statuses);
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_003, 3_000_000));
    let missing = Command::new("cat").pipe(Command::new("no such program")).output_async();
    assert!(block_on(missing).is_err());
    let capture = block_on(Pipeline::from(shell("sleep 1000")).start_async()).unwrap();
    let pid = capture.children()[0].pid();
    let mut future = Box::pin(capture.wait_async());
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(future);
    assert!(!is_there(pid));
}

/// A hundred at once on a runtime of one thread; and through that runtime's own reactor.
#[test]
fn futures_run_at_once_on_a_runtime_of_one_thread() {
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        // each lasts until the last one has begun
        let (reader, writer) = io::pipe().unwrap();
        let tasks: Vec<_> = (0..100)
            .map(|nth| {
                let command = shell(&format!("cat; echo {nth}"));
                let stdin = Stdio::File(reader.try_clone().unwrap().into());
                let pipeline = Pipeline::from(command.stdin(stdin)).timeout(SOON);
                tokio::spawn(
                    async move { pipeline.start_async().await.unwrap().wait_async().await },
                )
            })
            .collect();
        tokio::task::yield_now().await;
        drop(writer);
        for (nth, task) in tasks.into_iter().enumerate() {
            let output = task.await.unwrap().unwrap();
            assert_eq!(output.stdout, format!("{nth}\n").into_bytes());
        }
        let script = "head -c 20000000 /dev/zero; echo >&2; exit 2";
        let capture = Pipeline::from(shell(script)).timeout(SOON).start().unwrap();
        // SAFETY: a capture has one descriptor, open as long as it lives
        let capture = unsafe { AsyncFd::register_with_interest(capture, Interest::READABLE) };
        let mut capture = capture.unwrap();
        let output = loop {
            let mut ready = capture.readable_mut().await.unwrap();
            ready.clear_ready();
            if let Some(output) = ready.get_inner_mut().advance().unwrap() {
                break output;
            }
        };
        assert_eq!((output.stdout.len(), output.status), (20_000_000, WaitStatus::exited(2)));
    });
}
