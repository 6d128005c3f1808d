//! Output that is captured: a gibibyte from several processes, a thousand commands at once, and
//! what happens with a process that is left behind.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proctable::drivers::linux::{self, Pipeline, ProcessTree, output_many};

/// The bytes of one measurement, half of them in each of two files.
pub const SIZE: usize = 1 << 30;
/// How many bytes the standard library's reader takes at once.
const CHUNK: usize = 64 * 1024;

/// A measured capture: its name, its limit as a multiple of the first one's time, and a function
/// that runs it once and returns the number of bytes.
pub struct Engine<'a> {
    pub name: &'static str,
    pub most: Option<f64>,
    run: Box<dyn FnMut() -> io::Result<u64> + 'a>,
}

fn engine<'a>(
    name: &'static str,
    most: Option<f64>,
    run: impl FnMut() -> io::Result<u64> + 'a,
) -> Engine<'a> {
    Engine { name, most, run: Box::new(run) }
}

/// Files in memory, with bytes that are not all the same.
pub struct Files {
    whole: File,
    halves: [File; 2],
}

impl Files {
    pub fn new() -> io::Result<Files> {
        let [whole, first, second] = [SIZE, SIZE / 2, SIZE / 2].map(file);
        Ok(Files { whole: whole?, halves: [first?, second?] })
    }
}

fn file(size: usize) -> io::Result<File> {
    #[allow(unsafe_code)]
    // SAFETY: a name that ends in zero; the descriptor is new and ours
    let mut file = unsafe {
        let fd = libc::memfd_create(c"bytes".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    let block: Vec<u8> =
        (0..1 << 20).map(|nth: u32| (nth.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..size / block.len() {
        file.write_all(&block)?;
    }
    Ok(file)
}

/// A path that opens the file anew, at its beginning.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn failed(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

/// A shell and two children that write at the same time, each to a stream of its own.
fn script(files: &Files) -> String {
    let [first, second] = &files.halves;
    format!("cat {} & cat {} >&2; wait", path(first), path(second))
}

fn std_pipeline(files: &Files) -> io::Result<u64> {
    let mut first = Command::new("cat").arg(path(&files.whole)).stdout(Stdio::piped()).spawn()?;
    let between = first.stdout.take().ok_or_else(|| failed("no pipe"))?;
    let mut second = Command::new("cat").stdin(between).stdout(Stdio::piped()).spawn()?;
    let mut output = second.stdout.take().ok_or_else(|| failed("no pipe"))?;
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    loop {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        total += std::hint::black_box(&buffer[..count]).len() as u64;
    }
    first.wait()?;
    second.wait()?;
    Ok(total)
}

fn std_kept(files: &Files) -> io::Result<u64> {
    let output = Command::new("sh").args(["-c", &script(files)]).output()?;
    Ok((output.stdout.len() + output.stderr.len()) as u64)
}

fn streamed(pipeline: impl Into<Pipeline>) -> io::Result<u64> {
    let mut total = 0;
    let add = |_, bytes: &[u8]| total += std::hint::black_box(bytes).len() as u64;
    let output = pipeline.into().for_each_chunk(add).map_err(failed)?;
    if output.success() { Ok(total) } else { Err(failed(output.status)) }
}

fn our_pipeline(files: &Files) -> io::Result<u64> {
    let first = linux::Command::new("cat").arg(path(&files.whole));
    streamed(first.pipe(linux::Command::new("cat")))
}

fn our_tree(files: &Files) -> linux::Command {
    linux::Command::new("sh").args(["-c", &script(files)])
}

fn our_kept(files: &Files) -> io::Result<u64> {
    let output = our_tree(files).output().map_err(failed)?;
    Ok((output.stdout.len() + output.stderr.len()) as u64)
}

fn duct_pipeline(files: &Files) -> io::Result<u64> {
    let mut output = duct::cmd("cat", [path(&files.whole)]).pipe(duct::cmd!("cat")).reader()?;
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    loop {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        total += std::hint::black_box(&buffer[..count]).len() as u64;
    }
}

fn duct_kept(files: &Files) -> io::Result<u64> {
    let output = duct::cmd("sh", ["-c", &script(files)]).stdout_capture().stderr_capture().run()?;
    Ok((output.stdout.len() + output.stderr.len()) as u64)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn tokio_kept(files: &Files) -> io::Result<u64> {
    let runtime = runtime()?;
    let script = script(files);
    let output = runtime.block_on(async {
        tokio::process::Command::new("sh").args(["-c", &script]).output().await
    })?;
    Ok((output.stdout.len() + output.stderr.len()) as u64)
}

/// All captures of a gibibyte. The first one is what the others are compared with.
pub fn engines(files: &Files, ours_only: bool) -> Vec<Engine<'_>> {
    let mut engines = vec![
        engine("std: cat | cat, read", None, || std_pipeline(files)),
        engine("ours: cat | cat, function", Some(1.10), || our_pipeline(files)),
        engine("ours: sh, cat, cat, function", Some(1.10), || streamed(our_tree(files))),
        engine("ours: sh, cat, cat, kept", None, || our_kept(files)),
        engine("std: sh, cat, cat, kept", None, || std_kept(files)),
    ];
    if !ours_only {
        engines.push(engine("tokio: sh, cat, cat, kept", None, || tokio_kept(files)));
        engines.push(engine("duct: cat | cat, read", None, || duct_pipeline(files)));
        engines.push(engine("duct: sh, cat, cat, kept", None, || duct_kept(files)));
    }
    engines
}

/// The median time of each engine, in rounds that take turns. Fails if a byte is missing.
pub fn measure(engines: &mut [Engine], rounds: usize) -> io::Result<Vec<Duration>> {
    let mut times = vec![Vec::new(); engines.len()];
    for _ in 0..rounds {
        for (engine, times) in engines.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            let total = (engine.run)()?;
            times.push(begun.elapsed());
            if total != SIZE as u64 {
                return Err(failed(format!("{}: {total} bytes", engine.name)));
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The most threads of this process while something runs.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The time that so many commands take that run at once, and how many threads this process had when
/// the last one began.
pub struct AtOnce {
    pub name: &'static str,
    pub time: Duration,
    pub threads: usize,
}

fn at_once(name: &'static str, run: impl FnOnce() -> io::Result<usize>) -> io::Result<AtOnce> {
    let begun = Instant::now();
    let threads = run()?;
    Ok(AtOnce { name, time: begun.elapsed(), threads })
}

fn many_ours(count: usize, tree: Option<&ProcessTree>) -> io::Result<usize> {
    let mut most = 0;
    let commands = (0..count).map(|nth| {
        most = most.max(threads());
        let pipeline = Pipeline::from(linux::Command::new("echo").arg(nth.to_string()));
        match tree {
            Some(tree) => pipeline.within(tree),
            None => pipeline,
        }
    });
    for (nth, output) in output_many(commands, count).into_iter().enumerate() {
        let output = output.map_err(failed)?;
        if output.stdout.trim_ascii() != nth.to_string().as_bytes() {
            return Err(failed(format!("{nth}: {output:?}")));
        }
    }
    Ok(most)
}

fn many_std(count: usize) -> io::Result<usize> {
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let each = |nth: usize| {
            most.fetch_max(threads(), Ordering::Relaxed);
            Command::new("echo").arg(nth.to_string()).output()
        };
        let started: Vec<_> = (0..count).map(|nth| scope.spawn(move || each(nth))).collect();
        for thread in started {
            thread.join().map_err(|_| failed("a thread panicked"))??;
        }
        Ok::<(), io::Error>(())
    })?;
    Ok(most.into_inner())
}

fn many_tokio(count: usize) -> io::Result<usize> {
    let mut most = 0;
    runtime()?.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for nth in 0..count {
            let mut command = tokio::process::Command::new("echo");
            command.arg(nth.to_string());
            tasks.spawn(async move { command.output().await });
        }
        while let Some(output) = tasks.join_next().await {
            most = most.max(threads());
            output.map_err(failed)??;
        }
        Ok::<(), io::Error>(())
    })?;
    Ok(most)
}

fn many_kit(count: usize) -> io::Result<usize> {
    let mut most = 0;
    runtime()?.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for nth in 0..count {
            let command = processkit::Command::new("echo").arg(nth.to_string());
            tasks.spawn(async move { command.output_bytes().await });
        }
        while let Some(output) = tasks.join_next().await {
            most = most.max(threads());
            let _output = output
                .map_err(failed)?
                .and_then(|output| output.ensure_success())
                .map_err(failed)?;
        }
        Ok::<(), io::Error>(())
    })?;
    Ok(most)
}

/// So many commands at once, by each library.
pub fn many(count: usize, ours_only: bool) -> io::Result<Vec<AtOnce>> {
    let tree = ProcessTree::new()?;
    let mut rows = vec![
        at_once("std: a thread each", || many_std(count))?,
        at_once("ours: one tree", || many_ours(count, Some(&tree)))?,
        at_once("ours: a tree each", || many_ours(count, None))?,
    ];
    if !ours_only {
        rows.push(at_once("tokio: a task each", || many_tokio(count))?);
        rows.push(at_once("processkit: a task each", || many_kit(count))?);
    }
    Ok(rows)
}

/// How long the capture of a command takes that leaves a process behind, which has the pipes for
/// two seconds, and whether that process has ended then.
pub struct Left {
    pub name: &'static str,
    pub time: Duration,
    pub has_ended: bool,
}

const LEAVES: &str = "sleep 2 & echo $!";

fn left(name: &'static str, run: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Left> {
    let begun = Instant::now();
    let stdout = run()?;
    let time = begun.elapsed();
    let pid = String::from_utf8_lossy(&stdout).trim().to_owned();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let has_ended = stat.is_empty() || stat.contains(") Z ");
    Ok(Left { name, time, has_ended })
}

pub fn leavers() -> io::Result<Vec<Left>> {
    let args = ["-c", LEAVES];
    let runtime = runtime()?;
    Ok(vec![
        left("std", || Ok(Command::new("sh").args(args).output()?.stdout))?,
        left("tokio", || {
            let output = async { tokio::process::Command::new("sh").args(args).output().await };
            Ok(runtime.block_on(output)?.stdout)
        })?,
        left("duct", || Ok(duct::cmd("sh", args).stdout_capture().stderr_capture().run()?.stdout))?,
        left("processkit", || {
            let command = processkit::Command::new("sh").args(args);
            let output = runtime.block_on(async { command.output_bytes().await });
            Ok(output.map_err(failed)?.into_stdout())
        })?,
        left("ours", || {
            let output = linux::Command::new("sh").args(args).output();
            Ok(output.map_err(failed)?.stdout)
        })?,
    ])
}
