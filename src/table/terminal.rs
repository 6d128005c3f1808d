//! Terminals whose window belongs to the runtime.

use alloc::boxed::Box;
use alloc::collections::btree_map::Entry;
use alloc::sync::{Arc, Weak};
use alloc::task;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use super::ProcessTable;
use super::commit::TableState;
use super::outbox::Wake;
use crate::abi::Errno;
use crate::kernel::{Effects, Kernel};
use crate::sync::{Mutex, Parker, contain};
use crate::syscall::TerminalPath;
#[cfg(feature = "serde")]
use crate::tty::End;
use crate::tty::Winsize;

/// The window of a terminal: what is typed there, and what its screen shows. It is the master of a
/// pty; the slave is the terminal of guests.
///
/// A guest opens the terminal by its [path](Terminal::path) ([`Syscall::Open`]), or gets the number
/// of a file that the runtime has opened ([`Terminal::open`]), and reads, writes and controls it by
/// [`Syscall::Read`], [`Syscall::Write`] and [`Syscall::Ioctl`]. A session leader acquires it as on
/// Linux: by an open without O_NOCTTY, or by TIOCSCTTY. The numbers of files are those of open file
/// descriptions, the same in all processes: the runtime knows which descriptor of which process
/// refers to one, and has it closed with the last of these ([`Syscall::Close`]).
///
/// When the window is dropped or [hung up](Terminal::hang_up), its session leader receives SIGHUP
/// (TTY-13).
///
/// ```
/// use proctable::abi::{Signal, WaitOptions, WaitStatus};
/// use proctable::syscall::{Ret, Syscall, TerminalRequest, open};
/// use proctable::table::{Image, ProcessTable, Spawn, WaitTarget};
///
/// let table = ProcessTable::new();
/// let window = table.open_terminal()?;
/// let file = window.open(open::RDWR)?;
/// let shell = table.spawn(Spawn::new(Image::new("sh")).session())?;
/// let acquire = Syscall::Ioctl { file, request: TerminalRequest::Tiocsctty(0) };
/// table.syscall(shell.pid(), acquire)?;
///
/// window.write(b"ls\n")?;
/// let line = table.syscall(shell.pid(), Syscall::Read { file, len: 100 })?;
/// assert_eq!(line, Ret::Bytes((*b"ls\n").into()));
/// table.syscall(shell.pid(), Syscall::Write { file, bytes: (*b"a  b\n").into() })?;
/// assert_eq!(window.try_read(100)?, b"ls\r\na  b\r\n");
///
/// window.write(b"\x03")?; // ^C
/// let waited = table.init().wait(&shell, WaitOptions::EXITED)?;
/// assert_eq!(waited.status, WaitStatus::killed(Signal::INT, false));
/// # Ok::<(), proctable::abi::Errno>(())
/// ```
///
/// # References
///
/// pty(7), ioctl_tty(2); RULES TTY.
///
/// [`Syscall::Open`]: crate::syscall::Syscall::Open
/// [`Syscall::Read`]: crate::syscall::Syscall::Read
/// [`Syscall::Write`]: crate::syscall::Syscall::Write
/// [`Syscall::Ioctl`]: crate::syscall::Syscall::Ioctl
/// [`Syscall::Close`]: crate::syscall::Syscall::Close
#[derive(Debug)]
pub struct Terminal(Arc<Window>);

/// The window of a terminal, which the callback of its output shares.
#[derive(Debug)]
struct Window {
    table: ProcessTable,
    /// The master.
    file: u32,
    number: u32,
    parkers: WindowParkers,
    /// Whether the master is open: its number is another file's afterwards. It is read and changed
    /// under the lock of the table.
    is_open: AtomicBool,
    on_output: Mutex<Option<Arc<OutputCallback>>>,
}

/// Where the reader and the writer of a window sleep. A parker wakes one thread only.
#[derive(Clone, Debug, Default)]
pub(super) struct WindowParkers {
    pub read: Arc<Parker>,
    pub write: Arc<Parker>,
}

impl WindowParkers {
    /// Wakes both: each looks whether there is something for it.
    pub fn wakes(self) -> [Wake; 2] {
        [self.read, self.write].map(|parker| Wake::new(parker, None))
    }
}

impl ProcessTable {
    /// Creates a terminal of 0 rows and columns ([`Terminal::resize`]) with the settings of a new
    /// pty (LD-01). O(terminals).
    ///
    /// # Errors
    ///
    /// ESRCH if the table has ended.
    #[doc(alias = "openpty")]
    #[doc(alias = "posix_openpt")]
    pub fn open_terminal(&self) -> Result<Terminal, Errno> {
        let window = self.shared().commit(|state| match state.is_closed() {
            true => None,
            false => {
                let file = state.kernel.open_pty();
                self.window(state, file)
            }
        });
        window.ok_or(Errno::ESRCH)
    }

    /// The window of a terminal of a restored table ([`ProcessTable::restore`]), by the number of
    /// the terminal; `None` if it has a window, or there is no such terminal.
    #[cfg(feature = "serde")]
    pub fn terminal(&self, number: u32) -> Option<Terminal> {
        let mut state = self.shared().state.lock();
        let is_master = |(file, end): &(u32, End)| {
            *end == End::Master && state.kernel.terminal_of(*file) == Some(number)
        };
        let (master, _) = state.kernel.terminal_files().find(is_master)?;
        self.window(&mut state, master)
    }

    /// The window of a terminal, by its master; `None` if it has one.
    fn window(&self, state: &mut TableState, file: u32) -> Option<Terminal> {
        let number = state.kernel.terminal_of(file)?;
        let Entry::Vacant(entry) = state.process_registry.windows.entry(number) else {
            return None;
        };
        let parkers = entry.insert(WindowParkers::default()).clone();
        let is_open = AtomicBool::new(true);
        let on_output = Mutex::default();
        let window = Window { table: self.clone(), file, number, parkers, is_open, on_output };
        Some(Terminal(Arc::new(window)))
    }
}

impl Window {
    fn act<R>(
        &self,
        act: impl FnOnce(&mut Kernel, &mut Effects) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let shared = self.table.shared();
        shared.commit(|state| match self.is_open.load(Ordering::Relaxed) && !state.is_closed() {
            true => state.apply_external(&*shared.clock, act),
            false => Err(Errno::EIO),
        })
    }

    fn try_read(&self, len: usize) -> Result<Vec<u8>, Errno> {
        self.act(|kernel, fx| kernel.read_pty(self.file, len, fx))
    }

    /// Tries until there is something, or room; EDEADLK where the thread cannot sleep.
    fn wait<R>(
        &self,
        parker: &Arc<Parker>,
        attempt: impl Fn() -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        loop {
            match attempt() {
                Err(Errno::EAGAIN) if self.table.shared().alarm_at(None, parker).sleep() => {}
                Err(Errno::EAGAIN) => return Err(Errno::EDEADLK),
                result => return result,
            }
        }
    }

    /// The same for an executor.
    fn poll<R>(
        &self,
        parker: &Parker,
        context: &Context<'_>,
        attempt: impl Fn() -> Result<R, Errno>,
    ) -> Poll<Result<R, Errno>> {
        loop {
            match attempt() {
                Err(Errno::EAGAIN) if !parker.poll(context.waker()) => return Poll::Pending,
                Err(Errno::EAGAIN) => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

/// Calls a function of the runtime with what the screen shows.
struct OutputCallback {
    window: Weak<Window>,
    call: OnOutput,
    progress: Mutex<Progress>,
}

impl fmt::Debug for OutputCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputCallback").finish_non_exhaustive()
    }
}

/// A function that is called with what the screen of a terminal shows: see
/// [`Terminal::set_on_output`].
pub type OnOutput = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Whether a thread passes output to the callback.
#[derive(Default)]
struct Progress {
    is_busy: bool,
    /// There may be more output since that thread has looked.
    is_woken: bool,
}

impl task::Wake for OutputCallback {
    fn wake(self: Arc<Self>) {
        self.pass_on();
    }
}

impl OutputCallback {
    /// Passes on what there is. One thread at a time does so, so that the bytes keep their order; a
    /// thread that comes meanwhile, and a callback that causes output itself, leaves it to that
    /// one.
    fn pass_on(self: &Arc<Self>) {
        let is_busy = {
            let mut progress = self.progress.lock();
            progress.is_woken = true;
            core::mem::replace(&mut progress.is_busy, true)
        };
        if is_busy {
            return;
        }
        let waker = Waker::from(self.clone());
        loop {
            {
                let mut progress = self.progress.lock();
                if !core::mem::take(&mut progress.is_woken) {
                    progress.is_busy = false;
                    return;
                }
            }
            let Some(window) = self.window.upgrade() else { continue };
            while window.on_output.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, self)) {
                match window.try_read(CHUNK) {
                    Ok(bytes) => drop(contain(|| (self.call)(&bytes))),
                    // EIO is no end: a guest may open the terminal again
                    Err(_) if window.parkers.read.poll(&waker) => {}
                    Err(_) => break,
                }
            }
        }
    }
}

/// How many bytes a callback gets at once.
const CHUNK: usize = 4096;

impl Terminal {
    /// Its number in /dev/pts.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// Its path, for a guest's open(2).
    pub fn path(&self) -> TerminalPath {
        TerminalPath::Pts(self.0.number)
    }

    /// Opens the terminal for guests, with these flags of [`open`](crate::syscall::open). No
    /// process acquires it. Returns the number of the file.
    ///
    /// # Errors
    ///
    /// EIO if the table has ended, or the window was hung up.
    pub fn open(&self, flags: u32) -> Result<u32, Errno> {
        self.0.act(|kernel, _| kernel.open_pty_slave(self.0.number, flags))
    }

    /// Types bytes, and waits while there is no room for them. One thread at a time may write.
    ///
    /// # Errors
    ///
    /// EIO if the table has ended, or the window or its master was hung up; EDEADLK on a [target
    /// without threads](crate::table#targets-without-threads) in place of a wait.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.0.wait(&self.0.parkers.write, || self.try_write(rest))?;
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Types the bytes for which there is room, and returns their number.
    ///
    /// # Errors
    ///
    /// EAGAIN if there is no room; EIO as [`Terminal::write`].
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.0.act(|kernel, fx| kernel.write_pty(self.0.file, bytes, fx))
    }

    /// What the screen shows next, at most `len` bytes; waits until there is something. One thread
    /// or task at a time may read.
    ///
    /// # Errors
    ///
    /// EIO if all files of guests are closed and everything was read (LD-180), the window was hung
    /// up, or the table has ended; EDEADLK on a [target without
    /// threads](crate::table#targets-without-threads) in place of a wait.
    pub fn read(&self, len: usize) -> Result<Vec<u8>, Errno> {
        self.0.wait(&self.0.parkers.read, || self.try_read(len))
    }

    /// [`Terminal::read`] without a wait.
    ///
    /// # Errors
    ///
    /// EAGAIN if there is nothing; EIO as [`Terminal::read`].
    pub fn try_read(&self, len: usize) -> Result<Vec<u8>, Errno> {
        self.0.try_read(len)
    }

    /// [`Terminal::read`] for an executor: with [`core::future::poll_fn`] it is a future.
    pub fn poll_read(&self, len: usize, context: &mut Context<'_>) -> Poll<Result<Vec<u8>, Errno>> {
        self.0.poll(&self.0.parkers.read, context, || self.try_read(len))
    }

    /// [`Terminal::try_write`] for an executor: with [`core::future::poll_fn`] it is a future that
    /// waits while there is no room for any byte.
    pub fn poll_write(
        &self,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, Errno>> {
        self.0.poll(&self.0.parkers.write, context, || self.try_write(bytes))
    }

    /// Has a function called with what the screen shows, from what it shows next on, in place of
    /// reads; `None` ends that. The call comes on the thread that caused the output, before that
    /// thread's call returns, and without any lock: the function may use the table and the window.
    /// Calls come one at a time. A panic of the function has no effect.
    ///
    /// ```
    /// use proctable::syscall::{Syscall, open};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let table = ProcessTable::new();
    /// let window = table.open_terminal()?;
    /// let file = window.open(open::RDWR)?;
    /// let screen = Arc::new(Mutex::new(Vec::new()));
    /// let shown = screen.clone();
    /// window.set_on_output(Some(Box::new(move |bytes| {
    ///     shown.lock().unwrap().extend_from_slice(bytes);
    /// })));
    /// let guest = table.spawn(Spawn::new(Image::new("guest")).session())?;
    /// table.syscall(guest.pid(), Syscall::Write { file, bytes: (*b"hello\n").into() })?;
    /// window.write(b"x")?; // the echo
    /// assert_eq!(*screen.lock().unwrap(), b"hello\r\nx");
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    pub fn set_on_output(&self, callback: Option<OnOutput>) {
        let window = Arc::downgrade(&self.0);
        let new = callback
            .map(|call| Arc::new(OutputCallback { window, call, progress: Mutex::default() }));
        let old = core::mem::replace(&mut *self.0.on_output.lock(), new.clone());
        // foreign code: without the lock
        drop(old);
        self.0.parkers.read.forget_waker();
        if let Some(new) = new {
            new.pass_on();
        }
    }

    /// Changes the size of the window. A change sends SIGWINCH to the foreground group.
    ///
    /// # Errors
    ///
    /// EIO as [`Terminal::write`].
    #[doc(alias = "TIOCSWINSZ")]
    pub fn resize(&self, size: Winsize) -> Result<(), Errno> {
        self.0.act(|kernel, fx| kernel.resize_pty(self.0.file, size, fx))
    }

    /// Closes the window: the session leader receives SIGHUP (TTY-13), what the screen did not show
    /// is lost, and reads and writes of the window fail with EIO, those that wait included. A
    /// second call has no effect.
    ///
    /// ```
    /// use proctable::abi::{Errno, Signal, WaitOptions, WaitStatus};
    /// use proctable::syscall::{Syscall, open};
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let window = table.open_terminal()?;
    /// let shell = table.spawn(Spawn::new(Image::new("sh")).session())?;
    /// let open = Syscall::Open { path: window.path(), flags: open::RDWR };
    /// table.syscall(shell.pid(), open)?;
    /// std::thread::scope(|scope| {
    ///     let reader = scope.spawn(|| window.read(100));
    ///     window.hang_up();
    ///     assert_eq!(reader.join().unwrap(), Err(Errno::EIO));
    /// });
    /// let waited = table.init().wait(&shell, WaitOptions::EXITED)?;
    /// assert_eq!(waited.status, WaitStatus::killed(Signal::HUP, false));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn hang_up(&self) {
        let window = &*self.0;
        let shared = window.table.shared();
        shared.commit(|state| {
            if !window.is_open.swap(false, Ordering::Relaxed) {
                return;
            }
            if !state.is_closed() {
                // the file is closed here only. Its reader and its writer are woken
                let close =
                    |kernel: &mut Kernel, fx: &mut Effects| kernel.close_pty(window.file, fx);
                let _ = state.apply_external(&*shared.clock, close);
            }
            state.process_registry.windows.remove(&window.number);
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.hang_up();
    }
}
