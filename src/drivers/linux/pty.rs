//! A pty for a child: the master for the owner, and the slave as the child's terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use super::attributes;
use super::command::Command;
use crate::tty::Winsize;

/// The size of the window of a terminal, as `stty size` prints it: [TIOCGWINSZ(2const)]. Zero rows
/// and columns mean that the size is not known. Programs then take `LINES` and `COLUMNS`, or 24
/// rows of 80 columns.
///
/// # Errors
///
/// ENOTTY if it is no terminal.
///
/// [TIOCGWINSZ(2const)]: https://man7.org/linux/man-pages/man2/TIOCSWINSZ.2const.html
pub fn window_size(terminal: impl AsFd) -> io::Result<Winsize> {
    let size = tcgetwinsize(terminal)?;
    let (rows, cols) = (size.ws_row, size.ws_col);
    Ok(Winsize { rows, cols, xpixel: size.ws_xpixel, ypixel: size.ws_ypixel })
}

/// How both ends are opened.
const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The master of a pty, which is the keyboard and the screen of the child on its slave: [pty(7)].
///
/// A write is what a user types, a read is what the programs on the terminal have printed, with the
/// echo. Both block, unless the owner sets O_NONBLOCK.
///
/// The drop hangs the terminal up: the leader of the session, which is the child, and the
/// foreground group get SIGHUP and SIGCONT, reads of the slave return end of file, and writes fail
/// with EIO. It is the close of the last copy of the descriptor. The descriptor is close-on-exec,
/// so that no child has a copy.
///
/// # End of file
///
/// While no process has the slave open, after at least one had, the kernel fails reads of the
/// master with EIO, when all output was read (LD-180 of docs/TERMINALS.md). [`Read`] returns 0
/// then. It is no end for good: a process of the session that opens /dev/tty again can write.
///
/// ```
/// use std::io::{Read, Write};
/// use proctable::drivers::linux::{Command, ProcessTree, PtyMaster};
/// use proctable::tty::Winsize;
///
/// let tree = ProcessTree::new()?;
/// let (mut pty, slave) = PtyMaster::open(Winsize::new(24, 80))?;
/// let script = "stty -echo; stty size; read line; echo \"got $line\"";
/// let child = tree.spawn(Command::new("sh").args(["-c", script]).pty(slave))?;
///
/// let mut screen = vec![0; 7];
/// pty.read_exact(&mut screen)?;
/// assert_eq!(screen, b"24 80\r\n");
/// pty.write_all(b"hello\n")?;
/// screen.clear();
/// pty.read_to_end(&mut screen)?; // until the child has closed the terminal
/// assert_eq!(screen, b"got hello\r\n");
/// assert_eq!(child.wait()?.exit_code(), Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [pty(7)]: https://man7.org/linux/man-pages/man7/pty.7.html
#[derive(Debug)]
pub struct PtyMaster(File);

/// The slave of a pty, for [`Command::pty`]. As long as the owner has it, reads of the master do
/// not come to their end.
#[derive(Debug)]
pub struct PtySlave(OwnedFd);

impl PtyMaster {
    /// Opens a pty with a window of that size: the master and the slave. Both are close-on-exec,
    /// and neither becomes the controlling terminal of the caller.
    ///
    /// # Errors
    ///
    /// The error of the kernel, with what is missing: NotFound where there is no /dev/ptmx, or no
    /// devpts file system at /dev/pts; ENOSPC at the limit of ptys (`kernel.pty.max`).
    pub fn open(size: Winsize) -> io::Result<(PtyMaster, PtySlave)> {
        // not posix_openpt(3), which may say EAGAIN for ENOSPC
        let master = open("/dev/ptmx", FLAGS, Mode::empty());
        let pty = PtyMaster(master.map_err(|error| is_missing("/dev/ptmx", error))?.into());
        unlockpt(&pty).map_err(|error| is_missing("TIOCSPTLCK", error))?;
        // before the child can read it
        pty.resize(size)?;
        let slave = pty.slave()?;
        Ok((pty, slave))
    }

    /// Opens the slave once more.
    ///
    /// # Errors
    ///
    /// As [`PtyMaster::open`]; EIO while a process hangs the slave up (vhangup(2)).
    pub fn slave(&self) -> io::Result<PtySlave> {
        // by the master, as /dev/pts may be that of another mount namespace
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        match ioctl_tiocgptpeer(self, flags) {
            Ok(slave) => return Ok(PtySlave(slave)),
            // gVisor and Linux before 4.13 have no TIOCGPTPEER. The name may be that of another
            // terminal in this mount namespace, so it is no answer to other errors
            Err(Errno::NOTTY | Errno::INVAL) => {}
            Err(error) => return Err(is_missing("TIOCGPTPEER", error)),
        }
        let path = self.path()?;
        let slave = open(&path, FLAGS, Mode::empty());
        slave.map(PtySlave).map_err(|error| is_missing(&path.display().to_string(), error))
    }

    /// The name of the slave: /dev/pts/N.
    ///
    /// # Errors
    ///
    /// The error of TIOCGPTN.
    pub fn path(&self) -> io::Result<PathBuf> {
        let name = ptsname(self, Vec::new())?;
        Ok(name.to_string_lossy().into_owned().into())
    }

    /// Changes the size of the window. If it is another one, the kernel sends SIGWINCH to the
    /// foreground group.
    ///
    /// # Errors
    ///
    /// The error of TIOCSWINSZ.
    pub fn resize(&self, size: Winsize) -> io::Result<()> {
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: size.xpixel,
            ws_ypixel: size.ypixel,
        };
        Ok(tcsetwinsize(self, size)?)
    }
}

impl PtySlave {
    /// Gives the slave to a user, so that the programs of that user can open it by its name. Only
    /// root can; for others the change of the user fails later, with its own error.
    pub(super) fn set_owner(&self, uid: u32) -> io::Result<()> {
        match std::os::unix::fs::fchown(&self.0, Some(uid), None) {
            Err(error) if attributes::is_root() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Command {
    /// Runs the command on the slave of a [`PtyMaster`]: the slave is its standard input, output
    /// and error, except for the streams that the command names itself. The command leads a
    /// session of its own, has the slave as its controlling terminal, and is in the foreground
    /// there. With [`Command::uid`] the slave belongs to that user.
    ///
    /// The owner's copy of the slave is closed when the spawn returns, also if it fails.
    ///
    /// The tree contains what the command starts, as always. But when the command ends, the kernel
    /// sends SIGHUP to the foreground group of the terminal, as it does for the leader of any
    /// session.
    ///
    /// The spawn fails at [`Step::Terminal`] with InvalidInput for a command that names a group
    /// ([`Command::group`]) or the foreground ([`Command::foreground`]), with EPERM where the
    /// slave cannot be given to the user, and with EPERM if another session has the terminal.
    /// [`Command::output`] and [`Pipeline`] refuse the command, as the owner has to read its output
    /// from the master.
    ///
    /// [`Step::Terminal`]: super::Step::Terminal
    /// [`Pipeline`]: super::Pipeline
    pub fn pty(mut self, slave: PtySlave) -> Command {
        self.pty = Some(slave);
        self.session()
    }
}

/// Says that there is no pty, and what it needs.
fn is_missing(what: &str, error: Errno) -> io::Error {
    let help = match error {
        Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTTY | Errno::IO => {
            "; a pty needs /dev/ptmx, and a devpts file system at /dev/pts"
        }
        Errno::NOSPC => "; the limit of ptys is reached (sysctl kernel.pty.max)",
        Errno::MFILE => "; too many descriptors are open: raise RLIMIT_NOFILE (ulimit -n)",
        _ => "",
    };
    let error = io::Error::from(error);
    // the number of the error adds nothing to its text
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    io::Error::new(error.kind(), format!("no pty: {what}: {text}{help}"))
}

impl Read for &PtyMaster {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.0).read(buffer) {
            // LD-180: no process has the slave open
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(0),
            result => result,
        }
    }
}

impl Read for PtyMaster {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buffer)
    }
}

impl Write for &PtyMaster {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PtyMaster {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for PtyMaster {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for PtySlave {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PtySlave> for OwnedFd {
    fn from(slave: PtySlave) -> OwnedFd {
        slave.0
    }
}
