//! A separate process for the controller. All processes that it starts end with it.
//!
//! The program starts itself again; that new process, which has one thread, becomes the *guard*. It
//! forks the *worker* into a new pid namespace as its first process. The kernel kills the worker
//! when the guard ends (PDEATHSIG), and with the worker all processes of the namespace (NS-08). The
//! guard ends when the program's end of the pipe is closed, however the program ends. So no process
//! can stay behind, and no code has to clean up.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use super::{Mode, os};

const WORKER_ARG: &str = "__worker";

/// The settings of a [`Worker`].
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// A program that calls [`worker_entry`] early.
    pub exe: PathBuf,
    /// The mode that [`probe`](super::probe()) found.
    pub mode: Mode,
    /// The CPU for the worker and its agents.
    pub cpu: Option<usize>,
    /// Another user and group to run as; for root, to test the unprivileged mode.
    pub user: Option<u32>,
}

/// A worker, as the program that started it sees it. Dropping it ends it and all processes that it
/// started.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Worker {
    /// Starts a worker.
    pub fn start(config: &WorkerConfig) -> io::Result<Worker> {
        let mut command = Command::new(&config.exe);
        command.arg(WORKER_ARG).arg(match config.mode {
            Mode::Root => "root",
            Mode::User => "user",
        });
        command.args(config.cpu.map(|cpu| cpu.to_string()));
        if let Some(user) = config.user {
            command.uid(user).gid(user);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let Some(output) = child.stdout.take() else {
            return Err(io::Error::other("no pipe from the worker"));
        };
        Ok(Worker { child, input, output })
    }

    /// The number of the guard. Killing the guard kills the worker.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.input {
            Some(input) => write_message(input, message),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The next message; `None` when the worker has ended.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        read_message(&mut self.output)
    }

    /// Waits until the worker ends by itself.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        let ended = os::pidfd_open(self.child.id())?;
        // Child::wait would close the pipe first, and so end the worker
        os::poll([(ended.as_raw_fd(), libc::POLLIN)], -1)?;
        self.child.wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // closing the pipe makes the guard kill and reap the worker, and end
        drop(self.input.take());
        // an error means that it has been waited for
        let _ = self.child.wait();
    }
}

/// The program that started this worker, as the worker sees it.
#[derive(Debug)]
pub struct Link {
    /// The privilege with which this worker creates namespaces.
    pub mode: Mode,
    /// The CPU that the worker was given.
    pub cpu: Option<usize>,
    input: File,
    output: File,
}

impl Link {
    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        write_message(&mut self.output, message)
    }

    /// The next message; `None` when there will be no more.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        read_message(&mut self.input)
    }
}

fn write_message(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_le_bytes(), message].concat())
}

fn read_message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Runs `serve` and ends the process, if this process was started as a worker; returns at once if
/// not. It has to be called before the program starts threads.
pub fn worker_entry(serve: impl FnOnce(&mut Link) -> io::Result<()>) {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != WORKER_ARG) {
        return;
    }
    let code = match guard(&args.collect::<Vec<_>>(), serve) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("worker: {error}");
            1
        }
    };
    std::process::exit(code);
}

/// Starts the worker and watches it. Returns the exit code of this process, guard or worker.
fn guard(args: &[OsString], serve: impl FnOnce(&mut Link) -> io::Result<()>) -> io::Result<i32> {
    let mode = if args.first().is_some_and(|arg| arg == "root") { Mode::Root } else { Mode::User };
    let cpu = args.get(1).and_then(|arg| arg.to_str()?.parse().ok());
    let (input, output) = os::take_standard_io()?;
    enter_namespaces(mode)?;
    let (alive, held) = os::pipe()?;
    // SAFETY: this process is fresh: it has one thread
    let pid = unsafe { os::fork()? };
    if pid == 0 {
        drop(held);
        be_worker(&alive)?;
        let mut link = Link { mode, cpu, input: input.into(), output: output.into() };
        return serve(&mut link).map(|()| 0);
    }
    // otherwise the program would not notice that the worker closes it
    drop(output);
    watch(pid, &input)
}

/// Has this process die with the guard, also if the guard has ended already.
fn be_worker(alive: &OwnedFd) -> io::Result<()> {
    os::die_with_parent()?;
    let [events] = os::poll([(alive.as_raw_fd(), 0)], 0)?;
    if events & libc::POLLHUP != 0 {
        return Err(io::Error::other("the guard is gone"));
    }
    Ok(())
}

/// Waits until the worker or the program ends.
fn watch(pid: i32, input: &OwnedFd) -> io::Result<i32> {
    let worker = os::pidfd_open(pid as u32)?;
    let [closed, _] = os::poll([(input.as_raw_fd(), 0), (worker.as_raw_fd(), libc::POLLIN)], -1)?;
    if closed != 0 {
        os::kill(pid);
    }
    let status = os::reap(pid, true)?;
    let code = status.and_then(|status| status.exit_code());
    Ok(code.map_or(if closed != 0 { 0 } else { 1 }, i32::from))
}

/// Creates the namespaces into which the worker is forked.
fn enter_namespaces(mode: Mode) -> io::Result<()> {
    if mode == Mode::Root {
        return os::unshare(libc::CLONE_NEWPID);
    }
    let (user, group) = os::users();
    os::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
