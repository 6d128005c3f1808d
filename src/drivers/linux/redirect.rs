//! Settings of a child: descriptors at given numbers, standard error merged into standard output,
//! `argv[0]`, and the file mode creation mask.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::command::{Command, above};

/// The first number after the standard streams.
const FIRST: RawFd = 3;

/// The descriptors that a command asks for, besides its three streams.
#[derive(Debug, Default)]
pub(super) struct Redirections {
    /// Standard error is a copy of standard output.
    pub stderr_to_stdout: bool,
    /// The numbers in the child, each with its descriptor.
    fds: Vec<(RawFd, OwnedFd)>,
}

/// [`Redirections`], prepared for the child, which cannot allocate.
#[derive(Debug)]
pub(super) struct PreparedFds {
    pub stderr_to_stdout: bool,
    /// The numbers in the child, in ascending order, each with the number in the owner.
    pub fds: Vec<(RawFd, RawFd)>,
    /// The descriptors of `fds`, open until the child has its copies.
    _ends: Vec<OwnedFd>,
    /// The first number above all numbers in the child.
    pub first_free: RawFd,
}

impl Redirections {
    /// The first number above all numbers in the child.
    pub fn first_free(&self) -> RawFd {
        let last = self.fds.iter().map(|(number, _)| *number).max().unwrap_or_default();
        last.saturating_add(1).max(FIRST)
    }

    /// # Errors
    ///
    /// InvalidInput for the number of a standard stream, EBADF for a negative number, EINVAL if the
    /// owner's limit of descriptors (RLIMIT_NOFILE) leaves no room above all numbers.
    pub fn prepare(self) -> io::Result<PreparedFds> {
        let first_free = self.first_free();
        let (mut fds, mut ends) = (Vec::new(), Vec::new());
        for (number, fd) in self.fds {
            if number < 0 {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            if number < FIRST {
                let why = format!("{number} is a standard stream, which has a method of its own");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            let fd = above(fd, first_free)?;
            // the last descriptor for a number counts
            fds.retain(|(other, _)| *other != number);
            fds.push((number, fd.as_raw_fd()));
            ends.push(fd);
        }
        fds.sort_unstable();
        let stderr_to_stdout = self.stderr_to_stdout;
        Ok(PreparedFds { stderr_to_stdout, fds, _ends: ends, first_free })
    }
}

impl Command {
    /// Sets `argv[0]`, which is the program's path otherwise.
    ///
    /// ```
    /// use proctable::drivers::linux::Command;
    ///
    /// let output = Command::new("sh").arg0("-login").args(["-c", "echo $0"]).output()?;
    /// assert_eq!(output.stdout, b"-login\n");
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn arg0(mut self, arg0: impl AsRef<OsStr>) -> Command {
        self.arg0 = Some(arg0.as_ref().into());
        self
    }

    /// Sets the file mode creation mask of the child: [umask(2)]. The lower nine bits count.
    ///
    /// ```
    /// use proctable::drivers::linux::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "umask"]).umask(0o27).output()?;
    /// assert_eq!(output.stdout, b"0027\n");
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    ///
    /// [umask(2)]: https://man7.org/linux/man-pages/man2/umask.2.html
    pub fn umask(mut self, mask: u32) -> Command {
        self.umask = Some(mask);
        self
    }

    /// Gives the child a copy of a descriptor at a number, which is 3 or more. The copy is not
    /// close-on-exec, and [`Command::close_others`] leaves it open. The last descriptor for a
    /// number counts.
    ///
    /// The spawn fails at [`Step::Stdio`] with InvalidInput for 0, 1 and 2, with EBADF for a
    /// negative number, and with EINVAL or EBADF for a number that RLIMIT_NOFILE excludes.
    ///
    /// ```
    /// use proctable::drivers::linux::Command;
    ///
    /// let file = std::fs::File::open("/dev/null")?;
    /// let output = Command::new("readlink").arg("/proc/self/fd/9").fd(9, file.into()).output()?;
    /// assert_eq!(output.stdout, b"/dev/null\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Step::Stdio`]: super::Step::Stdio
    pub fn fd(mut self, number: i32, fd: OwnedFd) -> Command {
        self.redirections.fds.push((number, fd));
        self
    }

    /// Makes standard error a copy of standard output, like `2>&1` in a shell: the output of both
    /// has the order of the writes. It replaces [`Command::stderr`].
    ///
    /// ```
    /// use proctable::drivers::linux::Command;
    ///
    /// let script = "echo 1; echo 2 >&2; echo 3";
    /// let output = Command::new("sh").args(["-c", script]).stderr_to_stdout().output()?;
    /// assert_eq!(output.stdout, b"1\n2\n3\n");
    /// # Ok::<(), proctable::drivers::linux::RunError>(())
    /// ```
    pub fn stderr_to_stdout(mut self) -> Command {
        self.redirections.stderr_to_stdout = true;
        self
    }
}
