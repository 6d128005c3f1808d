//! Pipelines: commands that pipes connect, and that run as one tree.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::capture::{Capture, Parts, Timeout};
use super::command::{Command, Stdio};
use super::lines::{Line, Lines, Splitter};
use super::options::Options;
use super::output::{Output, RunError, Stream};
use super::spawn_error::{SpawnError, Step};
use super::tree::{ProcessTree, TreeInner};
use crate::abi::{Signal, WaitStatus};

/// The limit of a line, unless the caller sets another.
const LINE: usize = 1 << 20;

/// A pipeline (XCU 2.9.2): one or more commands, where a pipe connects the standard output of each
/// command to the standard input of the next. The commands run as one tree, which ends with them.
///
/// | method | returns when the pipeline has ended |
/// |---|---|
/// | [`output`](Pipeline::output) | both streams as bytes |
/// | [`status`](Pipeline::status) | the status; the streams are the owner's |
/// | [`for_each_line`](Pipeline::for_each_line) | the rest, after a function got the lines |
/// | [`for_each_chunk`](Pipeline::for_each_chunk) | the rest, after a function got the bytes |
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
/// When all commands have ended, the tree is killed with the processes that the commands left in
/// it, also if these have the pipes. (The standard library's `output` waits for the end of file
/// instead.) [`Pipeline::wait_for_members`] waits for these processes.
///
/// ```
/// use std::time::Duration;
/// use proctable::drivers::linux::Command;
///
/// let output = Command::new("sort")
///     .pipe(Command::new("uniq").arg("-c"))
///     .input("b\na\nb\n")
///     .timeout(Duration::from_secs(10))
///     .output()?;
/// assert_eq!(output.stdout, b"      1 a\n      2 b\n");
/// assert!(output.success() && output.killed.is_empty());
/// # Ok::<(), proctable::drivers::linux::RunError>(())
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
    /// Runs the command in a tree of its own and captures its output: [`Pipeline::output`] with one
    /// command.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`]. A command that fails is no error: see [`Output::status`].
    ///
    /// ```
    /// use proctable::drivers::linux::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
    /// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    /// assert_eq!(output.status.exit_code(), Some(3));
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn output(self) -> Result<Output, RunError> {
        Pipeline::from(self).output()
    }

    /// Runs the command in a tree of its own, with the streams of the owner: [`Pipeline::status`]
    /// with one command.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    ///
    /// ```
    /// use proctable::drivers::linux::Command;
    ///
    /// assert_eq!(Command::new("false").status()?.exit_code(), Some(1));
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn status(self) -> Result<WaitStatus, RunError> {
        Pipeline::from(self).status()
    }

    /// A pipeline in which `next` reads the output of this command.
    pub fn pipe(self, next: Command) -> Pipeline {
        Pipeline::from(self).pipe(next)
    }

    /// A pipeline of this command with these bytes on standard input: [`Pipeline::input`].
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Pipeline {
        Pipeline::from(self).input(bytes)
    }

    /// A pipeline of this command with a timeout: [`Pipeline::timeout`].
    pub fn timeout(self, timeout: Duration) -> Pipeline {
        Pipeline::from(self).timeout(timeout)
    }
}

impl Pipeline {
    /// Adds a command, which reads the output of the last one.
    pub fn pipe(mut self, next: Command) -> Pipeline {
        self.commands.push(next);
        self
    }

    /// Sets the bytes that the first command reads from standard input, before end of file. The
    /// command need not read all of them. They are written while the output is read.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Pipeline {
        self.input = Some(bytes.into());
        self
    }

    /// Sets the options of the tree, such as its limits.
    pub fn options(mut self, options: Options) -> Pipeline {
        self.options = options;
        self
    }

    /// Runs the pipeline in a tree of the caller, and does not end that tree. So many commands cost
    /// one tree, and share its limits. [`Pipeline::options`] has no effect. The differences:
    ///
    /// - The pipeline lasts until its commands have ended and the pipes are closed, as with
    ///   [`std::process::Command::output`].
    /// - A timeout, and the drop of a capture, end the commands. Their descendants end with the
    ///   tree.
    /// - [`Usage`](super::Usage) is that of the commands.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Pipeline, ProcessTree};
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

    /// Keeps only the first bytes of each stream. The capture reads and drops the others, so no
    /// command waits for a reader. [`Output::truncated`] is true then, and [`Output::stdout_total`]
    /// counts all bytes. By default there is no limit.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Pipeline};
    ///
    /// let zeros = Command::new("head").args(["-c", "1000000", "/dev/zero"]);
    /// let output = Pipeline::from(zeros).limit(10).output()?;
    /// assert_eq!((output.stdout.len(), output.stdout_total), (10, 1_000_000));
    /// assert!(output.truncated);
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn limit(mut self, bytes: usize) -> Pipeline {
        self.limit = bytes;
        self
    }

    /// Sets the limit of a [`Line`] in bytes; a longer line comes in pieces. The default is 1 MiB.
    pub fn line_limit(mut self, bytes: usize) -> Pipeline {
        self.line_limit = bytes;
        self
    }

    /// Ends the tree after this time if the commands have not ended: with SIGKILL, or with another
    /// signal first ([`Pipeline::shutdown`]). The time begins before the first spawn. A
    /// timeout is no error: [`Output::timed_out`] is true, the output until then is kept, and
    /// [`Output::killed`] names the processes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use proctable::drivers::linux::Command;
    ///
    /// let script = "echo begun; sleep 1000 & sleep 1001";
    /// let output = Command::new("sh").args(["-c", script]).timeout(Duration::from_millis(300));
    /// let output = output.output()?;
    /// assert!(output.timed_out && output.stdout == b"begun\n");
    /// assert_eq!(output.killed.len(), 3);
    /// println!("{:?} in {:?}", output.usage.cpu.value, output.usage.elapsed);
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Pipeline {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the timeout send this signal to all processes of the tree, and SIGKILL after `grace`
    /// to those that are left, as [`ProcessTree::shutdown`] does. The capture reads the streams
    /// during the grace.
    pub fn shutdown(mut self, signal: Signal, grace: Duration) -> Pipeline {
        self.ask = Some((signal, grace));
        self
    }

    /// Waits until all processes of the tree have ended, and not only the commands, or until the
    /// timeout. It has no effect in a tree of the caller.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Pipeline};
    ///
    /// let script = "(sleep 0.1; echo late) & echo early";
    /// let command = Command::new("sh").args(["-c", script]);
    /// let output = Pipeline::from(command).wait_for_members().output()?;
    /// assert_eq!(output.stdout, b"early\nlate\n");
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn wait_for_members(mut self) -> Pipeline {
        self.awaits_members = true;
        self
    }

    /// Runs the pipeline to its end, and captures the standard output of the last command and the
    /// standard error of all commands.
    ///
    /// # Errors
    ///
    /// See [`RunError`]. A command that fails, or that the timeout ends, is no error.
    pub fn output(self) -> Result<Output, RunError> {
        self.start()?.wait()
    }

    /// Runs the pipeline to its end with the streams of the owner, and returns the status of the
    /// last command.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    pub fn status(self) -> Result<WaitStatus, RunError> {
        Ok(self.launch(false)?.wait()?.status)
    }

    /// Runs the pipeline to its end, and calls a function for each line of both streams. The output
    /// is not kept.
    ///
    /// The lines of one stream are in order. The order between the streams is that of the reads,
    /// which may differ from that of the writes: see [`Command::stderr_to_stdout`].
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Pipeline, Stream};
    ///
    /// let mut lines = Vec::new();
    /// let command = Command::new("printf").arg("a\\nb\\303\\nno newline");
    /// let output = Pipeline::from(command).for_each_line(|line| lines.push(line.clone()))?;
    /// assert!(output.success());
    /// assert_eq!(lines[1].bytes, b"b\xc3"); // no UTF-8
    /// assert!(!lines[2].newline && lines[2].stream == Stream::Stdout);
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
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

    /// Runs the pipeline to its end, and calls a function for the bytes of both streams as they
    /// arrive: see [`Capture::wait_with`].
    ///
    /// # Errors
    ///
    /// As [`Pipeline::output`].
    pub fn for_each_chunk(self, mut act: impl FnMut(Stream, &[u8])) -> Result<Output, RunError> {
        self.start()?.wait_with(&mut act)
    }

    /// Starts the pipeline, and returns an iterator of the lines of both streams.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::start`].
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Pipeline};
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

    /// Starts the pipeline, with both streams captured. When it returns, all commands have executed
    /// their programs.
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
            let failure = command.failure();
            let child = capture.core().try_spawn(command);
            capture.push(child.map_err(failure)?);
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
            let failure = command.failure();
            let child = capture.core().spawn_queued(command).await;
            capture.push(child.map_err(failure)?);
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

    /// Makes the tree, and connects the commands. The drop of the capture ends the commands that
    /// were started.
    fn prepare(mut self, is_captured: bool) -> Result<(Capture, Vec<Command>), RunError> {
        if let Some(command) = self.commands.iter().find(|command| command.pty.is_some()) {
            let error = (Step::Terminal, reads_from_master());
            return Err(RunError::Spawn(SpawnError::new(error, command.program().into(), None)));
        }
        let ends = self.connect(is_captured).map_err(|(program, error)| {
            RunError::Spawn(SpawnError::new((Step::Stdio, error), program, None))
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

    /// Sets the streams of each command. An error comes with the program.
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

fn reads_from_master() -> io::Error {
    let why =
        "a pipeline cannot capture a command on a pty: spawn it in a tree, and read the master";
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The owner's ends.
#[derive(Default)]
struct Ends {
    stdin: Option<File>,
    streams: [Option<File>; 2],
}
