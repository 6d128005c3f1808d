//! The master of a terminal in the hands of the runtime, which is no process: a window on a screen.

use alloc::vec::Vec;

use crate::abi::{Errno, Pid};
use crate::kernel::Kernel;
use crate::kernel::api::effect::Effects;
use crate::kernel::state::terminal::OpenFile;
use crate::syscall::open;
use crate::tty::{End, Winsize};

impl Kernel {
    /// Opens a pty whose slave can be opened, as posix_openpt(3), grantpt(3) and unlockpt(3) do.
    /// Returns the number of the master's file. O(terminals).
    pub fn open_pty(&mut self) -> u32 {
        let terminals = self.terminals.get_or_insert_default();
        let file = terminals.create(open::RDWR | open::NOCTTY | open::NONBLOCK);
        if let Ok(of) = self.open_file(file)
            && let Some(own) = self.terminal_mut(of.terminal)
        {
            own.pty.unlock();
        }
        file
    }

    /// Opens the slave of a pty on behalf of the runtime. No process acquires it.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such terminal, or its master is closed.
    pub fn open_pty_slave(&mut self, number: u32, flags: u32) -> Result<u32, Errno> {
        let own = self.terminal_mut(number).filter(|own| !own.pty.is_master_closed());
        let file = own.ok_or(Errno::ENOENT)?.pty.open_slave(true)?;
        let terminals = self.terminals.get_or_insert_default();
        Ok(terminals.add_file(OpenFile { terminal: number, file, flags }))
    }

    /// The master of a pty, if the file is one.
    fn master(&self, file: u32) -> Result<OpenFile, Errno> {
        self.open_file(file).and_then(|of| match of.file.end() {
            End::Master => Ok(of),
            End::Slave => Err(Errno::EINVAL),
        })
    }

    /// Types `bytes`, and returns the number of those for which there was room.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such file; EAGAIN if there is no room; EIO if the master was hung up.
    pub fn write_pty(&mut self, file: u32, bytes: &[u8], fx: &mut Effects) -> Result<usize, Errno> {
        let of = self.master(file)?;
        fx.begin(Pid(0), None);
        let own = self.terminal_mut(of.terminal).ok_or(Errno::EBADF)?;
        let written = own.pty.write(&of.file, bytes);
        self.follow_terminal(of.terminal, fx);
        written
    }

    /// What the screen shows next, at most `len` bytes.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such file; EAGAIN if there is nothing; EIO if there is nothing and all
    /// files of the slave are closed (LD-180).
    pub fn read_pty(&mut self, file: u32, len: usize, fx: &mut Effects) -> Result<Vec<u8>, Errno> {
        let of = self.master(file)?;
        fx.begin(Pid(0), None);
        let own = self.terminal_mut(of.terminal).ok_or(Errno::EBADF)?;
        let read = own.pty.try_read(&of.file, len);
        self.follow_terminal(of.terminal, fx);
        read
    }

    /// Changes the size of the window; a change sends SIGWINCH to the foreground group (TTY-31).
    ///
    /// # Errors
    ///
    /// EBADF if there is no such file; EIO if the master was hung up.
    pub fn resize_pty(&mut self, file: u32, size: Winsize, fx: &mut Effects) -> Result<(), Errno> {
        let of = self.master(file)?;
        fx.begin(Pid(0), None);
        let own = self.terminal_mut(of.terminal).ok_or(Errno::EBADF)?;
        let resized = own.pty.set_winsize(&of.file, size);
        self.follow_terminal(of.terminal, fx);
        resized
    }

    /// Closes a file of a terminal on behalf of the runtime. The close of the master hangs the
    /// terminal up (TTY-13).
    ///
    /// # Errors
    ///
    /// EBADF if there is no such file.
    pub fn close_pty(&mut self, file: u32, fx: &mut Effects) -> Result<(), Errno> {
        fx.begin(Pid(0), None);
        self.close(file, fx).map(drop)
    }

    /// The terminal of an open file.
    pub fn terminal_of(&self, file: u32) -> Option<u32> {
        self.open_file(file).ok().map(|of| of.terminal)
    }
}
