//! A shell with job control whose processes are guests of a table: pipelines, `&`, `jobs`, `fg`,
//! `bg`, `kill %1`, ^C, ^Z, ^D. The processes of the host do not change.
//!
//! ```text
//! $ cargo run --example shell --features linux
//! $ cargo test --example shell --features linux
//! ```
//!
//! This program is the window of a terminal: what its user types goes to the terminal of the table,
//! and what the guests write comes back. The line discipline, the foreground group and the signals
//! of the keyboard are those of the table.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use proctable::abi::{Errno, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use proctable::drivers::ThreadDriver;
use proctable::drivers::linux::{SignalFd, stop_by_signal, window_size};
use proctable::syscall::{Syscall, open};
use proctable::table::{Image, Process, ProcessTable, Spawn, Terminal};
use proctable::tty::Winsize;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

#[path = "shell/command_line.rs"]
mod command_line;
#[path = "shell/jobs.rs"]
mod jobs;
#[path = "shell/pipe.rs"]
mod pipe;
#[path = "shell/programs.rs"]
mod programs;
#[path = "shell/run.rs"]
mod run;
#[cfg(test)]
#[path = "shell/tests.rs"]
mod tests;

/// A shell in a table of its own, on a terminal.
struct Session {
    table: ProcessTable,
    window: Terminal,
    shell: Process,
    /// The open file of the terminal, which all guests share.
    file: u32,
}

impl Session {
    fn start(size: Winsize) -> Result<Session, Errno> {
        let table = ProcessTable::new();
        // no core file is written, and so no shell says so
        table.init().rlimit(Resource::CORE, Some(Rlimit { soft: 0, hard: 0 }))?;
        let window = table.open_terminal()?;
        window.resize(size)?;
        let file = window.open(open::RDWR)?;
        let spawn = Spawn::new(Image::new("shell")).session();
        let guests = table.clone();
        let shell = ThreadDriver::spawn(&table.init(), spawn, move |guest| {
            run::shell(guest, &guests, file)
        })?;
        Ok(Session { table, window, shell, file })
    }

    /// Passes bytes between the user and the terminal until the shell has ended. Returns how it
    /// ended.
    fn serve(
        self: &Arc<Session>,
        keyboard: File,
        screen: &mut impl Write,
    ) -> io::Result<WaitStatus> {
        let session = self.clone();
        std::thread::Builder::new().spawn(move || session.pass_keys(keyboard))?;
        let session = self.clone();
        let ended = std::thread::Builder::new().spawn(move || session.await_shell())?;
        while let Ok(bytes) = self.window.read(4096) {
            // the user's terminal is gone: the shell ends by SIGHUP
            if screen.write_all(&bytes).and_then(|()| screen.flush()).is_err() {
                self.window.hang_up();
            }
        }
        let status = ended.join().map_err(|_| io::Error::other("a thread panicked"))?;
        // jobs in the background of a shell that has exited
        self.table.terminate_all(Duration::ZERO);
        status.map_err(|errno| io::Error::other(errno.to_string()))
    }

    fn pass_keys(&self, mut keyboard: File) {
        let mut bytes = [0; 4096];
        loop {
            match keyboard.read(&mut bytes) {
                Ok(length @ 1..) if self.window.write(&bytes[..length]).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // the end of the input, or the user's terminal has hung up
                _ => return self.window.hang_up(),
            }
        }
    }

    /// Waits for the shell, and closes the terminal: the window's reads end when all was shown.
    fn await_shell(&self) -> Result<WaitStatus, Errno> {
        let init = self.table.init();
        let waited = init.wait(&self.shell, WaitOptions::EXITED)?;
        self.table.syscall(init.pid(), Syscall::Close(self.file))?;
        Ok(waited.status)
    }
}

/// The user's terminal in raw mode, until this is dropped.
struct RawMode {
    terminal: File,
    modes: Termios,
}

impl RawMode {
    fn set(terminal: File) -> io::Result<RawMode> {
        let raw = RawMode { modes: tcgetattr(&terminal)?, terminal };
        raw.again();
        Ok(raw)
    }

    /// After a stop of this program.
    fn again(&self) {
        let mut raw = self.modes.clone();
        raw.make_raw();
        self.apply(&raw);
    }

    fn restore(&self) {
        self.apply(&self.modes);
    }

    fn apply(&self, modes: &Termios) {
        // without a wait for output that nobody reads; a terminal that has hung up has no modes
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, modes);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The signals of this program: the window changes its size, or closes; a job of the user's shell
/// stops.
fn pass_signals(session: &Session, raw: &RawMode, signals: &SignalFd) {
    while let Ok(info) = signals.read() {
        match info.signal {
            Signal::WINCH | Signal::CONT => {
                if info.signal == Signal::CONT {
                    raw.again();
                }
                if let Ok(size) = window_size(&raw.terminal) {
                    // a window that has closed has no size
                    let _ = session.window.resize(size);
                }
            }
            Signal::TSTP | Signal::TTIN | Signal::TTOU => {
                raw.restore();
                stop_by_signal(info.signal, false);
                raw.again();
            }
            Signal::HUP | Signal::TERM | Signal::INT | Signal::QUIT => {
                session.window.hang_up();
                // the shell ends; a screen that nobody reads does not hold this program up
                std::thread::sleep(Duration::from_secs(1));
                raw.restore();
                std::process::exit(128 + i32::from(info.signal.number()));
            }
            _ => {}
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if !isatty(io::stdin()) {
        return Err("standard input is no terminal".into());
    }
    // before there is another thread
    let signals = SignalFd::all()?;
    let terminal = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let session = Arc::new(Session::start(window_size(&terminal)?)?);
    let raw = Arc::new(RawMode::set(terminal.try_clone()?)?);
    let (signalled, modes) = (session.clone(), raw.clone());
    std::thread::Builder::new().spawn(move || pass_signals(&signalled, &modes, &signals))?;
    let status = session.serve(terminal, &mut io::stdout());
    raw.restore();
    let status = status?;
    Ok(ExitCode::from(status.exit_code().unwrap_or(1)))
}
