//! Commands that are connected by pipes, and run as one tree to their end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::capture::{Capture, Parts, Timeout};
use super::command::{Command, SpawnError, Stdio, Step};
use super::lines::{Line, Lines, Splitter};
use super::options::Options;
use super::output::{Output, RunError, Stream};
use super::tree::{ProcessTree, TreeInner};
use crate::abi::{Signal, WaitStatus};

/// How long a line may be, unless the caller says so.
const LINE: usize = 1 << 20;

/// One or more commands, the standard output of each connected to the standard input of the next
/// (XCU 2.9.2), and how they run: as one tree, which ends with them.
///
/// | method | returns when the pipeline has ended |
/// |---|---|
/// | [`output`](Pipeline::output) | both streams as bytes |
/// | [`status`](Pipeline::status) | the status; the streams are the owner's |
/// | [`for_each_line`](Pipeline::for_each_line), [`for_each_chunk`](Pipeline::for_each_chunk) | the rest, after a function was called for each line or for the bytes as they come |
///
/// | method | returns at once |
/// |---|---|
/// | [`lines`](Pipeline::lines) | an iterator of lines |
/// | [`start`](Pipeline::start) | a [`Capture`], for an event loop |
/// | [`output_async`](Pipeline::output_async) | a future, for any executor |
///
/// As with [`std::process::Command::output`], standard input is empty unless the first command or
/// [`Pipeline::input`] sets it, and the standard error of all commands is captured. A stream that a
/// command names itself stays as named, also [`Stdio::Inherit`].
///
/// When all commands have ended the processes that they left are killed: also those that have the
/// pipes still, for which the standard library's `output` waits.
/// [`Pipeline::wait_for_members`] waits for them.
///
/// ```
/// use std::time::Duration;
/// use proctable::driver::linux::Command;
///
/// let output = Command::new("sort")
///     .pipe(Command::new("uniq").arg("-c"))
///     .input("b\na\nb\n")
///     .timeout(Duration::from_secs(10))
///     .output()?;
/// assert_eq!(output.stdout, b"      1 a\n      2 b\n");
/// assert!(output.success() && output.killed.is_empty());
/// # Ok::<(), proctable::driver::linux::RunError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Pipeline {
    commands: Vec<Command>,
    input: Option<Vec<u8>>,
    options: Options,
    within: Option<Arc<TreeInner>>,
    limit: usize,
    line_limit: usize,
    timeout: Option<Duration>,
    ask: Option<(Signal, Duration)>,
    awaits_members: bool,
}

impl From<Command> for Pipeline {
    /// A pipeline of one command.
    fn from(command: Command) -> Pipeline {
        Pipeline {
            commands: vec![command],
            input: None,
            options: Options::new(),
            within: None,
            limit: usize::MAX,
            line_limit: LINE,
            timeout: None,
            ask: None,
            awaits_members: false,
        }
    }
}

impl Command {
    /// Runs it in a tree of its own and captures its output: [`Pipeline::output`] of this command
    /// alone.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`]. Its own failure is none: see [`Output::status`].
    ///
    /// ```
    /// use proctable::driver::linux::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// assert_eq!(output.status.exit_code(), Some(3));
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn output(self) -> Result<Output, RunError> {
        Pipeline::from(self).output()
    }

    /// Runs it in a tree of its own, with the streams of the owner: [`Pipeline::status`] of this
    /// command alone.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    ///
    /// ```
    /// use proctable::driver::linux::Command;
    ///
    /// assert_eq!(Command::new("false").status()?.exit_code(), Some(1));
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn status(self) -> Result<WaitStatus, RunError> {
        Pipeline::from(self).status()
    }

    /// A pipeline in which `next` reads what this command writes.
    pub fn pipe(self, next: Command) -> Pipeline {
        Pipeline::from(self).pipe(next)
    }

    /// A pipeline of this command, with that on standard input: [`Pipeline::input`].
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Pipeline {
        Pipeline::from(self).input(bytes)
    }

    /// A pipeline of this command that ends after that time: [`Pipeline::timeout`].
    pub fn timeout(self, timeout: Duration) -> Pipeline {
        Pipeline::from(self).timeout(timeout)
    }
}

impl Pipeline {
    /// Another command, which reads what the last one writes.
    pub fn pipe(mut self, next: Command) -> Pipeline {
        self.commands.push(next);
        self
    }

    /// What the first command reads from standard input, and then end of file. It need not read all
    /// of it. It is written while the output is read.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Pipeline {
        self.input = Some(bytes.into());
        self
    }

    /// The options of the tree, such as its limits.
    pub fn options(mut self, options: Options) -> Pipeline {
        self.options = options;
        self
    }

    /// Runs it in a tree of the caller, which it does not end: many commands cost one tree, and share
    /// its limits. The options are those of that tree. The differences:
    ///
    /// - It lasts until the pipes are closed, as with [`std::process::Command::output`], and not only
    ///   until the commands have ended.
    /// - A timeout, and a drop, end the commands. What they started ends with the tree.
    /// - [`Usage`](super::Usage) is that of the commands.
    ///
    /// ```
    /// use proctable::driver::linux::{Command, Pipeline, ProcessTree};
    ///
    /// let tree = ProcessTree::new()?;
    /// for text in ["a", "b"] {
    ///     let output = Pipeline::from(Command::new("echo").arg(text)).within(&tree).output()?;
    ///     assert_eq!(output.stdout.trim_ascii(), text.as_bytes());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn within(mut self, tree: &ProcessTree) -> Pipeline {
        self.within = Some(tree.core.clone());
        self
    }

    /// How many bytes of each stream are kept at most: the first ones. The others are read and
    /// dropped, so that no command waits for a reader; [`Output::truncated`] says so, and
    /// [`Output::stdout_total`] how many there were. Without it all are kept.
    ///
    /// ```
    /// use proctable::driver::linux::{Command, Pipeline};
    ///
    /// let zeros = Command::new("head").args(["-c", "1000000", "/dev/zero"]);
    /// let output = Pipeline::from(zeros).limit(10).output()?;
    /// assert_eq!((output.stdout.len(), output.stdout_total), (10, 1_000_000));
    /// assert!(output.truncated);
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn limit(mut self, bytes: usize) -> Pipeline {
        self.limit = bytes;
        self
    }

    /// How long a [`Line`] is at most, in bytes: a longer one comes in pieces. Without it a mebibyte.
    pub fn line_limit(mut self, bytes: usize) -> Pipeline {
        self.line_limit = bytes;
        self
    }

    /// Ends the tree if the commands have not ended by then, with SIGKILL unless
    /// [`Pipeline::shutdown`] says otherwise. [`Output::timed_out`] says so, and
    /// [`Output::killed`] names the processes. It is no error: what was written until then is there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use proctable::driver::linux::Command;
    ///
    /// let script = "echo begun; sleep 1000 & sleep 1001";
    /// let output = Command::new("sh").args(["-c", script]).timeout(Duration::from_millis(300));
    /// let output = output.output()?;
    /// assert!(output.timed_out && output.stdout == b"begun\n");
    /// assert_eq!(output.killed.len(), 3);
    /// println!("{:?} in {:?}", output.usage.cpu.value, output.usage.elapsed);
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Pipeline {
        self.timeout = Some(timeout);
        self
    }

    /// At the timeout, sends a signal to all processes of the tree, and SIGKILL only to those that
    /// are left after `grace`: [`ProcessTree::shutdown`]. The streams are read meanwhile.
    pub fn shutdown(mut self, signal: Signal, grace: Duration) -> Pipeline {
        self.ask = Some((signal, grace));
        self
    }

    /// Lasts until every process of the tree has ended, also those that the commands left behind, or
    /// until the timeout. It has no effect in a tree of the caller.
    ///
    /// ```
    /// use proctable::driver::linux::{Command, Pipeline};
    ///
    /// let script = "(sleep 0.1; echo late) & echo early";
    /// let command = Command::new("sh").args(["-c", script]);
    /// let output = Pipeline::from(command).wait_for_members().output()?;
    /// assert_eq!(output.stdout, b"early\nlate\n");
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn wait_for_members(mut self) -> Pipeline {
        self.awaits_members = true;
        self
    }

    /// Runs it to its end and captures standard output of the last command and standard error of all
    /// commands.
    ///
    /// # Errors
    ///
    /// Why there is no tree, which command could not be started and why, or what failed meanwhile.
    /// Then nothing of it is left. A command that fails, or is ended by the timeout, is no error.
    pub fn output(self) -> Result<Output, RunError> {
        self.start()?.wait()
    }

    /// Runs it to its end with the streams of the owner, and returns how the last command ended.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    pub fn status(self) -> Result<WaitStatus, RunError> {
        Ok(self.launch(false)?.wait()?.status)
    }

    /// Runs it to its end, and calls a function for each line of both streams as it comes. Nothing
    /// else is kept.
    ///
    /// Lines of one stream are in order. Lines of both are in the order in which they were read,
    /// which need not be the one in which they were written: for that see
    /// [`Command::stderr_to_stdout`].
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    ///
    /// ```
    /// use proctable::driver::linux::{Command, Pipeline, Stream};
    ///
    /// let mut lines = Vec::new();
    /// let command = Command::new("printf").arg("a\\nb\\303\\nno newline");
    /// let output = Pipeline::from(command).for_each_line(|line| lines.push(line.clone()))?;
    /// assert!(output.success());
    /// assert_eq!(lines[1].bytes, b"b\xc3"); // no UTF-8
    /// assert!(!lines[2].newline && lines[2].stream == Stream::Stdout);
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn for_each_line(self, mut act: impl FnMut(&Line)) -> Result<Output, RunError> {
        let mut splitter = Splitter::new(self.line_limit);
        let mut capture = self.start()?;
        let mut split = |stream, bytes: &[u8]| splitter.push(stream, bytes, &mut act);
        loop {
            if let Some(output) = capture.wait_once(&mut split)? {
                return Ok(output);
            }
        }
    }

    /// Runs it to its end, and calls a function for the bytes of both streams as they come: see
    /// [`Capture::wait_with`].
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    pub fn for_each_chunk(self, mut act: impl FnMut(Stream, &[u8])) -> Result<Output, RunError> {
        self.start()?.wait_with(&mut act)
    }

    /// Starts it, and returns an iterator of the lines of both streams.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::start`].
    ///
    /// ```
    /// use proctable::driver::linux::{Command, Pipeline};
    ///
    /// // it would write for ever
    /// let mut lines = Pipeline::from(Command::new("yes")).lines()?;
    /// assert_eq!(lines.next().ok_or("none")??.text(), "y");
    /// drop(lines); // the tree is killed
    ///
    /// let mut lines = Command::new("cat").input("1\n2\n").lines()?;
    /// assert_eq!(lines.by_ref().count(), 2);
    /// assert!(lines.finish()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lines(self) -> Result<Lines, RunError> {
        let limit = self.line_limit;
        Ok(Lines::new(self.start()?, limit))
    }

    /// Starts it, with both streams captured. All commands have executed their programs when this
    /// returns.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    pub fn start(self) -> Result<Capture, RunError> {
        self.launch(true)
    }

    fn launch(self, is_captured: bool) -> Result<Capture, RunError> {
        let (mut capture, commands) = self.prepare(is_captured)?;
        for command in commands {
            let program = command.program().to_owned();
            let child = capture.core().try_spawn(command);
            capture.push(child.map_err(|(step, error)| SpawnError { step, error, program })?);
        }
        capture.begin()
    }

    /// [`Pipeline::start`] as a future: other threads of the library create the processes.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::start`].
    pub async fn start_async(self) -> Result<Capture, RunError> {
        let (mut capture, commands) = self.prepare(true)?;
        for command in commands {
            let program = command.program().to_owned();
            let child = capture.core().spawn_queued(command).await;
            capture.push(child.map_err(|(step, error)| SpawnError { step, error, program })?);
        }
        capture.begin()
    }

    /// [`Pipeline::output`] as a future, for any executor: see [`Capture::wait_async`].
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    pub async fn output_async(self) -> Result<Output, RunError> {
        self.start_async().await?.wait_async().await
    }

    /// Makes the tree, and connects the commands. Dropped, the capture ends those that were started.
    fn prepare(mut self, is_captured: bool) -> Result<(Capture, Vec<Command>), RunError> {
        let ends = self.connect(is_captured).map_err(|(program, error)| {
            RunError::Spawn(SpawnError { step: Step::Stdio, error, program })
        })?;
        let tree = match &self.within {
            Some(_) => None,
            None => Some(self.options.create().map_err(RunError::Tree)?),
        };
        let core = self.within.or_else(|| Some(tree.as_ref()?.core.clone()));
        let none = || RunError::Tree(io::Error::from_raw_os_error(libc::ESRCH));
        let parts = Parts {
            core: core.ok_or_else(none)?,
            tree,
            stdin: ends.stdin,
            input: self.input.unwrap_or_default(),
            streams: ends.streams,
            limit: self.limit,
            timeout: self.timeout.map(|after| Timeout { after, ask: self.ask }),
            awaits_members: self.awaits_members,
        };
        Ok((Capture::new(parts)?, self.commands))
    }

    /// Gives each command its streams. What fails, with the program.
    fn connect(&mut self, is_captured: bool) -> Result<Ends, (OsString, io::Error)> {
        let mut ends = Ends::default();
        let mut stderr = None;
        let last = self.commands.len() - 1;
        let mut previous: Option<OwnedFd> = None;
        for (nth, command) in self.commands.iter_mut().enumerate() {
            let mut connect = || -> io::Result<()> {
                let mut set = |number: usize, stdio: Stdio| command.stdio[number] = stdio;
                let [names_stdin, names_stdout, names_stderr] = command.names_stream;
                match previous.take() {
                    Some(_) if names_stdin => return Err(is_set_twice("input")),
                    Some(reader) => set(0, Stdio::File(reader)),
                    None if names_stdin && self.input.is_some() => {
                        return Err(is_set_twice("input"));
                    }
                    None if self.input.is_some() => {
                        let (reader, writer) = io::pipe()?;
                        ends.stdin = Some(File::from(OwnedFd::from(writer)));
                        set(0, Stdio::File(reader.into()));
                    }
                    None if is_captured && !names_stdin => set(0, Stdio::Null),
                    None => {}
                }
                if nth < last && names_stdout {
                    return Err(is_set_twice("output"));
                }
                if nth < last || is_captured && !names_stdout {
                    let (reader, writer) = io::pipe()?;
                    set(1, Stdio::File(writer.into()));
                    match nth < last {
                        true => previous = Some(reader.into()),
                        false => ends.streams[0] = Some(File::from(OwnedFd::from(reader))),
                    }
                }
                if is_captured && !names_stderr && !command.redirections.stderr_to_stdout {
                    let writer = match &stderr {
                        Some(writer) => writer,
                        None => {
                            let (reader, writer) = io::pipe()?;
                            ends.streams[1] = Some(File::from(OwnedFd::from(reader)));
                            stderr.insert(OwnedFd::from(writer))
                        }
                    };
                    set(2, Stdio::File(writer.try_clone()?));
                }
                Ok(())
            };
            connect().map_err(|error| (command.program().to_owned(), error))?;
        }
        Ok(ends)
    }
}

fn is_set_twice(stream: &str) -> io::Error {
    let why = format!("both the command and its pipeline set standard {stream}");
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The owner's ends.
#[derive(Default)]
struct Ends {
    stdin: Option<File>,
    streams: [Option<File>; 2],
}
