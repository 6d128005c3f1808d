//! What a child gets besides its program: descriptors at given numbers, standard error merged into
//! standard output, `argv[0]`, and the file mode creation mask.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::command::{Command, above};

/// The first number that is not that of a standard stream.
const FIRST: RawFd = 3;

/// Descriptors of the child beyond what its three streams are, as a command asks for them.
#[derive(Debug, Default)]
pub(super) struct Redirections {
    /// Standard error is a copy of standard output.
    pub stderr_to_stdout: bool,
    /// Each number, and the descriptor that the child has there.
    fds: Vec<(RawFd, OwnedFd)>,
}

/// The same for the child, which cannot allocate.
#[derive(Debug)]
pub(super) struct PreparedFds {
    pub stderr_to_stdout: bool,
    /// Each number of the child, in ascending order, and the descriptor of the owner.
    pub fds: Vec<(RawFd, RawFd)>,
    /// What `fds` names, open until the child has it.
    _ends: Vec<OwnedFd>,
    /// No number from here on is overwritten in the child.
    pub first_free: RawFd,
}

impl Redirections {
    /// No number from here on is overwritten in the child.
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
            // the last one of a number counts
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
    /// The name that the program gets as its first argument, `argv[0]`, instead of its path.
    ///
    /// ```
    /// use proctable::driver::linux::Command;
    ///
    /// let output = Command::new("sh").arg0("-login").args(["-c", "echo $0"]).output()?;
    /// assert_eq!(output.stdout, b"-login\n");
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn arg0(mut self, arg0: impl AsRef<OsStr>) -> Command {
        self.arg0 = Some(arg0.as_ref().into());
        self
    }

    /// The permissions that no file of the child gets when it is created: [umask(2)]. Only the
    /// lower nine bits count.
    ///
    /// ```
    /// use proctable::driver::linux::Command;
    ///
    /// let output = Command::new("sh").args(["-c", "umask"]).umask(0o27).output()?;
    /// assert_eq!(output.stdout, b"0027\n");
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    ///
    /// [umask(2)]: https://man7.org/linux/man-pages/man2/umask.2.html
    pub fn umask(mut self, mask: u32) -> Command {
        self.umask = Some(mask);
        self
    }

    /// The child has a copy of a descriptor at that number, from 3 on, without close-on-exec, also
    /// with [`Command::close_others`]. The last descriptor for a number counts. [`Step::Stdio`]
    /// is where a spawn fails that cannot have it: with InvalidInput for 0, 1 and 2, with EBADF for
    /// a number that is negative or not below RLIMIT_NOFILE.
    ///
    /// ```
    /// use proctable::driver::linux::Command;
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

    /// Standard error is a copy of standard output, as after `2>&1` in a shell: what the child
    /// writes to both arrives in the order in which it writes. It replaces [`Command::stderr`].
    ///
    /// ```
    /// use proctable::driver::linux::Command;
    ///
    /// let script = "echo 1; echo 2 >&2; echo 3";
    /// let output = Command::new("sh").args(["-c", script]).stderr_to_stdout().output()?;
    /// assert_eq!(output.stdout, b"1\n2\n3\n");
    /// # Ok::<(), proctable::driver::linux::RunError>(())
    /// ```
    pub fn stderr_to_stdout(mut self) -> Command {
        self.redirections.stderr_to_stdout = true;
        self
    }
}
