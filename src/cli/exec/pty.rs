//! The pty of a command (`--pty`): its connection with the standard streams of this program, and
//! the modes of the user's terminal.
//!
//! Two threads pass the bytes on, so that neither direction waits for the other one: a command that
//! reads nothing prints, and a reader that is slow does not delay the keyboard. Neither thread sets
//! O_NONBLOCK on the standard streams, as their open file descriptions belong to other processes,
//! too.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use proctable::drivers::linux::{PtyMaster, PtySlave, window_size};
use proctable::tty::Winsize;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::pty_input::Input;
use super::terminal::Terminal;

/// More than a pty holds: the kernel limits its buffers to 64 KiB, beside a page of the reader.
const HELD: usize = 256 * 1024;

/// How often the thread that prints looks whether a process has opened the terminal again.
const REOPENED: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// An eventfd(2), by which a thread wakes another one that waits for bytes.
#[derive(Clone)]
pub(super) struct EventFd(Arc<OwnedFd>);

impl EventFd {
    fn new() -> io::Result<EventFd> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(EventFd(Arc::new(fd)))
    }

    fn wake(&self) {
        // a counter that is full wakes as well
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of two descriptors is ready; whether each is. A descriptor in error is ready:
/// its next call returns the error.
pub(super) fn wait(
    one: (impl AsFd, PollFlags),
    other: &EventFd,
    time: Option<Timespec>,
) -> (bool, bool) {
    let mut fds =
        [PollFd::new(&one.0, one.1), PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN)];
    // no signal comes to this thread, and a lack of memory passes
    let _ = poll(&mut fds, time.as_ref());
    (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
}

/// Whether a descriptor has something to read now. The poll of a terminal waits for the kernel to
/// move what was written before (LD-21).
pub(super) fn is_readable(fd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::IN)
}

/// The user's terminal on standard input, while this program has set it raw. Its drop restores the
/// modes: also where an error or a panic ends the program.
#[derive(Default)]
struct UserModes {
    /// The modes that are restored.
    before: Option<Termios>,
}

fn is_raw(modes: &Termios) -> bool {
    let mut raw = modes.clone();
    raw.make_raw();
    let flags = |modes: &Termios| {
        (modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes)
    };
    flags(&raw) == flags(modes)
}

impl UserModes {
    /// Sets the terminal raw. After a stop the modes are those that the shell has set, or those
    /// that this program had set if it could not restore them (SIGSTOP).
    fn set_raw(&mut self) {
        let Ok(now) = tcgetattr(io::stdin()) else { return };
        if self.before.is_some() && is_raw(&now) {
            return;
        }
        let mut raw = now.clone();
        raw.make_raw();
        // without waiting for output, which may be stopped (^S), and without loss of input
        if tcsetattr(io::stdin(), OptionalActions::Now, &raw).is_ok() {
            self.before = Some(now);
        }
    }

    /// Restores the modes, except in the background: a shell that has taken the terminal has set
    /// its own.
    fn restore(&mut self) {
        let Some(before) = self.before.take() else { return };
        if !Terminal::is_background_of_stdin() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}

impl Drop for UserModes {
    fn drop(&mut self) {
        self.restore();
    }
}

/// A request to print what the terminal holds, and to say when that is done.
type Flush = Sender<()>;

/// The pty of a command, connected with the standard streams.
pub(super) struct Relay {
    /// The thread that prints owns it: it hangs up where nothing can be printed.
    pty: Weak<PtyMaster>,
    user: UserModes,
    /// Whether standard input is a terminal.
    has_keyboard: bool,
    flushes: Sender<Flush>,
    wake_output: EventFd,
    /// Ends the thread that reads.
    end_input: EventFd,
    /// The thread that reads was refused the terminal, as this program is in the background.
    pub refused: Receiver<()>,
    /// Whether it may read.
    allow: Sender<bool>,
}

impl Relay {
    /// Opens a pty with the modes and the size of the user's terminal, and starts the threads.
    ///
    /// Without a terminal on standard input the modes are those of a new pty without ECHO: the
    /// bytes of a pipe are no typing that a user wants to see.
    ///
    /// # Errors
    ///
    /// Those of its calls, after `--pty`.
    pub fn open() -> io::Result<(Relay, PtySlave)> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("--pty: {error}"));
        Relay::try_open().map_err(named)
    }

    fn try_open() -> io::Result<(Relay, PtySlave)> {
        let has_keyboard = io::stdin().is_terminal();
        let (pty, slave) = PtyMaster::open(size_of_window().unwrap_or_default())?;
        if let Ok(modes) = tcgetattr(io::stdin()) {
            tcsetattr(&slave, OptionalActions::Now, &modes)?;
        } else {
            let mut modes = tcgetattr(&slave)?;
            modes.local_modes -= LocalModes::ECHO;
            tcsetattr(&slave, OptionalActions::Now, &modes)?;
        }
        fcntl_setfl(&pty, fcntl_getfl(&pty)? | OFlags::NONBLOCK)?;
        // held by the thread that reads: reads of the master have no end before the command's,
        // except after a vhangup(2)
        let held = pty.slave()?;
        let pty = Arc::new(pty);
        let (end_input, wake_output) = (EventFd::new()?, EventFd::new()?);
        let (flushes, to_flush) = unbounded();
        let (refuse, refused) = bounded(1);
        let (allow, allowed) = bounded(1);
        let relay = Relay {
            pty: Arc::downgrade(&pty),
            user: UserModes::default(),
            has_keyboard,
            flushes,
            wake_output: wake_output.clone(),
            end_input: end_input.clone(),
            refused,
            allow,
        };
        let input = Input {
            pty: relay.pty.clone(),
            slave: held,
            end: end_input.clone(),
            is_terminal: has_keyboard,
            refuse,
            allowed,
        };
        let output = Output { pty, wakeup: wake_output, flushes: to_flush, end_input };
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        thread("pty-output").spawn(move || output.run())?;
        thread("pty-input").spawn(move || input.run())?;
        Ok((relay, slave))
    }

    /// Whether this program has set the user's terminal raw.
    pub fn is_raw(&self) -> bool {
        self.user.before.is_some()
    }

    /// Whether the keyboard is that of a terminal.
    pub fn has_keyboard(&self) -> bool {
        self.has_keyboard
    }

    /// This program begins or continues: the user's terminal becomes raw, except in its background.
    /// A terminal that is not the controlling one has no background for this program. The window
    /// may have another size.
    pub fn resume(&mut self) {
        if !Terminal::is_background_of_stdin() {
            self.user.set_raw();
        }
        self.copy_size();
    }

    /// The terminal is the user's again.
    pub fn restore_modes(&mut self) {
        self.user.restore();
    }

    /// Gives the pty the size of the user's window.
    pub fn copy_size(&self) {
        if let (Some(size), Some(pty)) = (size_of_window(), self.pty.upgrade()) {
            // one that has hung up needs none
            let _ = pty.resize(size);
        }
    }

    /// Whether the thread that reads may do so: when the command is there, and after a refusal.
    /// Otherwise it has no input.
    pub fn allow(&self, is_allowed: bool) {
        let _ = self.allow.try_send(is_allowed);
    }

    /// Ends the thread that reads: what is typed from now on is for another program.
    pub fn end_input(&self) {
        self.end_input.wake();
    }

    /// Has everything printed that the terminal holds now. The receiver gets a message, or is
    /// disconnected, when that is done.
    pub fn flush(&self) -> Receiver<()> {
        let (done, is_done) = bounded(1);
        let _ = self.flushes.send(done);
        self.wake_output.wake();
        is_done
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end_input();
        // the thread that prints ends with the channel
        self.flushes = unbounded().0;
        self.wake_output.wake();
    }
}

/// The size of the window of the user: that of the first standard stream that is a terminal.
fn size_of_window() -> Option<Winsize> {
    window_size(io::stdin())
        .or_else(|_| window_size(io::stdout()))
        .or_else(|_| window_size(io::stderr()))
        .ok()
}

/// The thread that prints what appears on the terminal of the command.
struct Output {
    pty: Arc<PtyMaster>,
    wakeup: EventFd,
    flushes: Receiver<Flush>,
    /// Ends the thread that reads.
    end_input: EventFd,
}

impl Output {
    /// Where standard output takes no more bytes, the terminal hangs up: the command would print
    /// for ever otherwise, where a pipe that is closed ends it.
    fn run(self) {
        if let Err(error) = self.pass_on() {
            if !matches!(error, Errno::PIPE | Errno::IO) {
                complain!("proctable: --pty hangs up: standard output: {}", io::Error::from(error));
            }
            self.end_input.wake();
        }
    }

    fn pass_on(&self) -> Result<(), Errno> {
        let mut buffer = vec![0; HELD / 16];
        let mut is_open = true;
        loop {
            let (is_ready, is_woken) = match is_open {
                true => wait((&*self.pty, PollFlags::IN), &self.wakeup, None),
                // POLLHUP would come again and again. No call waits until a process opens the
                // terminal again, as the command may after a vhangup(2)
                false => {
                    (true, wait((&self.wakeup, PollFlags::IN), &self.wakeup, Some(REOPENED)).1)
                }
            };
            if is_woken {
                self.wakeup.clear();
                loop {
                    match self.flushes.try_recv() {
                        Ok(done) => {
                            self.print_held(&mut buffer)?;
                            let _ = done.send(());
                        }
                        Err(crossbeam_channel::TryRecvError::Empty) => break,
                        Err(crossbeam_channel::TryRecvError::Disconnected) => return Ok(()),
                    }
                }
            } else if is_ready {
                is_open = self.print(&mut buffer)? != Some(0);
            }
        }
    }

    /// Prints what the terminal holds, and not what is written all the while.
    fn print_held(&self, buffer: &mut [u8]) -> Result<(), Errno> {
        let mut printed = 0;
        while printed < HELD && is_readable(&*self.pty) {
            match self.print(buffer)? {
                None | Some(0) => break,
                Some(count) => printed += count,
            }
        }
        Ok(())
    }

    /// Prints some of it; how many bytes, and 0 where no process has the terminal open.
    fn print(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        let count = match rustix::io::read(&*self.pty, &mut *buffer) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            // LD-180
            Err(_) => return Ok(Some(0)),
        };
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            match rustix::io::write(io::stdout(), bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                // the other owner of the description has set O_NONBLOCK
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&io::stdout(), PollFlags::OUT)], None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(count))
    }
}
