//! Sysctls of a pid namespace: written only if they are proved to belong to the namespace.
//!
//! Before Linux 6.14, `pid_max` is one number for the whole machine, also when it is written from
//! inside a pid namespace; `ns_last_pid` belongs to the namespace, but does not exist without
//! CONFIG_CHECKPOINT_RESTORE. If /proc/sys is read-only, neither can be written. The check of the
//! kernel writes nothing.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use super::shared_memory::RawCall;
use super::test_namespace::TestNamespace;

/// A sysctl that a program can set at its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sysctl {
    /// The namespace's pid_max (PID-06, PID-07).
    PidMax,
    /// The last allocated number (PID-12).
    LastPid,
}

impl Sysctl {
    fn path(self) -> &'static str {
        match self {
            Sysctl::PidMax => "/proc/sys/kernel/pid_max",
            Sysctl::LastPid => "/proc/sys/kernel/ns_last_pid",
        }
    }
}

/// The controller's own sysctls, to distinguish those of a test namespace from them.
#[derive(Debug)]
pub(super) struct Sysctls {
    /// Open while the engine exists: the kernel keeps the inode of an open file, so that every open
    /// of the same file returns the same inode.
    pid_max: io::Result<File>,
}

impl Sysctls {
    pub(super) fn open() -> Sysctls {
        Sysctls { pid_max: File::open(Sysctl::PidMax.path()) }
    }

    /// The controller's pid_max. A new test namespace begins with it, because its pid_max is a
    /// copy, or because there is one number for the whole machine.
    pub(super) fn pid_max(&self) -> io::Result<u32> {
        let text = std::fs::read_to_string(Sysctl::PidMax.path())?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Whether an open `pid_max` of a test namespace is a different file from the controller's.
    ///
    /// Since Linux 6.14 each pid namespace has its own entries, and a process that opens the path
    /// gets the entry of its own namespace. Before, there is one entry, and one inode.
    fn is_own_pid_max(&self, of_namespace: &Metadata) -> io::Result<bool> {
        let outside = match &self.pid_max {
            Ok(file) => file.metadata()?,
            Err(_) => return Ok(false),
        };
        // two mounts of /proc show one entry as two inodes, which would prove nothing
        Ok(outside.dev() == of_namespace.dev() && outside.ino() != of_namespace.ino())
    }
}

impl TestNamespace<'_> {
    /// Writes a number into a sysctl of the namespace, from inside (NS-15).
    ///
    /// [`io::ErrorKind::Unsupported`] if the namespace does not have a sysctl of its own.
    pub(super) fn write_sysctl(&mut self, sysctl: Sysctl, value: u32) -> io::Result<()> {
        let fd = self.open_sysctl(sysctl)?;
        let text = value.to_string();
        let write = RawCall::new(libc::SYS_write).value(fd).text(&text).value(text.len() as i64);
        let written = self.own_call(&write, sysctl.path()).map(drop);
        self.close_sysctl(fd)?;
        written
    }

    /// Checks, without a write, whether [`TestNamespace::write_sysctl`] can succeed.
    pub(super) fn check_sysctl(&mut self, sysctl: Sysctl) -> io::Result<()> {
        let fd = self.open_sysctl(sysctl)?;
        self.close_sysctl(fd)
    }

    /// Opens a sysctl for writing in the first process, once it is proved to belong to the
    /// namespace.
    fn open_sysctl(&mut self, sysctl: Sysctl) -> io::Result<i64> {
        let path = sysctl.path();
        let open = RawCall::new(libc::SYS_open).text(path).value(i64::from(libc::O_RDWR)).value(0);
        let fd = self.own_call(&open, path).map(|answer| answer.value).map_err(unsupported)?;
        let proved = match sysctl {
            Sysctl::PidMax => self
                .first_descriptor(fd)
                .and_then(|file| self.engine().sysctls.is_own_pid_max(&file)),
            Sysctl::LastPid => self.counts_from_one(fd, path),
        };
        if matches!(proved, Ok(true)) {
            return Ok(fd);
        }
        self.close_sysctl(fd)?;
        let why = "not this namespace's own: the whole machine would get what is written";
        Err(proved.err().unwrap_or_else(|| unsupported(io::Error::other(format!("{path}: {why}")))))
    }

    /// Whether `ns_last_pid`, read by the first process, belongs to its namespace, in which only
    /// the number 1 was allocated. The controller's namespace has allocated more numbers.
    fn counts_from_one(&mut self, fd: i64, path: &str) -> io::Result<bool> {
        let read = RawCall::new(libc::SYS_pread64).value(fd).output(0).value(8).value(0);
        let answer = self.own_call(&read, path)?;
        let text = answer.data[0].to_le_bytes();
        let inside = text.get(..answer.value as usize);
        let outside = std::fs::read(path)?;
        Ok(inside == Some(b"1\n") && outside != b"1\n")
    }

    fn close_sysctl(&mut self, fd: i64) -> io::Result<()> {
        self.own_call(&RawCall::new(libc::SYS_close).value(fd), "close").map(drop)
    }
}

/// Maps the errors for a sysctl that does not exist, or must not be written, to `Unsupported`.
fn unsupported(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, error.to_string())
}
