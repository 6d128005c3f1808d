//! Why a spawn has failed: the step, the system call, its error, and what helps.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A step on the way to a running program: where a spawn has failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Step {
    /// The arguments: a zero byte in a string.
    Arguments,
    /// Pipes and files for standard input, output and error.
    Stdio,
    /// The spawner's thread.
    Thread,
    /// clone(2).
    Clone,
    /// Nothing yet: the tree is suspended (EBUSY).
    Suspended,
    /// Entering the cgroup.
    Cgroup,
    /// setsid(2).
    Session,
    /// setpgid(2).
    Group,
    /// TIOCSCTTY, tcsetpgrp(3).
    Terminal,
    /// prlimit(2).
    Limit,
    /// chdir(2).
    Cwd,
    /// setgroups(2).
    Groups,
    /// setresgid(2).
    Gid,
    /// setresuid(2).
    Uid,
    /// PR_SET_PDEATHSIG; ESRCH if the owner has died already.
    ParentDeath,
    /// The signal mask.
    Mask,
    /// execve(2).
    Exec,
    /// None: another process killed it before it executed its program.
    Killed,
    /// Reaping a child that had failed.
    Reap,
    /// Entering it in the table.
    Table,
    /// Watching it.
    Watch,
}

impl Step {
    /// The system call of the step, if it is one.
    fn call(self) -> &'static str {
        match self {
            Step::Arguments => "arguments",
            Step::Stdio => "dup2",
            Step::Thread => "thread",
            Step::Clone => "clone",
            Step::Suspended => "spawn",
            Step::Cgroup => "cgroup.procs",
            Step::Session => "setsid",
            Step::Group => "setpgid",
            Step::Terminal => "controlling terminal",
            Step::Limit => "prlimit",
            Step::Cwd => "chdir",
            Step::Groups => "setgroups",
            Step::Gid => "setresgid",
            Step::Uid => "setresuid",
            Step::ParentDeath => "prctl(PR_SET_PDEATHSIG)",
            Step::Mask => "sigprocmask",
            Step::Exec => "execve",
            Step::Killed => "killed before execve",
            Step::Reap => "waitid",
            Step::Table => "process table",
            Step::Watch => "epoll",
        }
    }
}

/// Why there is no child: the step, and the error of the kernel there.
///
/// Prints the program, the system call, its error, and what helps:
///
/// ```
/// use proctable::drivers::linux::{Command, ProcessTree};
///
/// let tree = ProcessTree::new()?;
/// let error = tree.spawn(Command::new("no-such-program")).unwrap_err();
/// let text = "no-such-program: execve: No such file or directory; no directory of PATH has it";
/// assert_eq!(error.to_string(), text);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SpawnError {
    /// The step that failed.
    pub step: Step,
    /// The error of the kernel.
    pub error: io::Error,
    /// The program that was to be executed.
    pub program: OsString,
    /// The working directory that the child was to have, if the command names one.
    pub directory: Option<PathBuf>,
    /// The path of the program leads to a file.
    is_file: bool,
    /// The path of the program leads to a directory.
    is_directory: bool,
}

impl SpawnError {
    /// Looks at the file of the program: the kernel's error does not tell a file that is missing
    /// from an interpreter that is missing.
    pub(super) fn new(
        (step, error): (Step, io::Error),
        program: OsString,
        directory: Option<PathBuf>,
    ) -> SpawnError {
        // a relative path is relative to the directory of the child
        let path = directory.as_deref().unwrap_or(Path::new("")).join(&program);
        let metadata = Some(path).filter(|_| step == Step::Exec && has_slash(&program));
        let metadata = metadata.and_then(|path| std::fs::metadata(path).ok());
        let is_directory = metadata.as_ref().is_some_and(std::fs::Metadata::is_dir);
        let is_file = metadata.is_some() && !is_directory;
        SpawnError { step, error, program, directory, is_file, is_directory }
    }

    /// What helps, where that is known.
    fn hint(&self) -> Option<&'static str> {
        const PIDFDS: &str = "a child needs pidfd_open (Linux 5.3) or CLONE_PIDFD (Linux 5.2), and \
                              waitid with P_PIDFD (Linux 5.4): the kernel is older, or a filter of \
                              system calls forbids them";
        let errno = self.error.raw_os_error()?;
        Some(match (self.step, errno) {
            (Step::Exec, libc::ENOENT) if !has_slash(&self.program) => {
                "no directory of PATH has it"
            }
            (Step::Exec, libc::ENOENT) if self.is_file => {
                "the file exists, but its interpreter (the line #!, or the dynamic loader) does not"
            }
            (Step::Exec, libc::EACCES) if self.is_directory => "it is a directory",
            (Step::Exec, libc::EACCES) => {
                "the file needs execute permission (chmod +x), each directory of its path search \
                 permission, and its file system must not be mounted with noexec"
            }
            (Step::Exec, libc::ETXTBSY) => "a process has the file open for writing",
            (Step::Exec, libc::E2BIG) => "arguments and environment are longer than ARG_MAX",
            (Step::Clone, libc::EAGAIN) => {
                "a limit of processes is reached: RLIMIT_NPROC (ulimit -u), or pids.max of the cgroup"
            }
            (Step::Clone | Step::Stdio | Step::Watch, libc::EMFILE) => {
                "too many descriptors are open: raise RLIMIT_NOFILE (ulimit -n)"
            }
            (Step::Clone | Step::Reap | Step::Watch, libc::ENOSYS) => PIDFDS,
            (Step::Groups | Step::Gid | Step::Uid, libc::EPERM) => {
                "only root can change the user (CAP_SETUID and CAP_SETGID)"
            }
            (Step::Limit, libc::EPERM) => "only root can raise a hard limit",
            (Step::Suspended, _) => "the tree is suspended",
            _ => return None,
        })
    }
}

fn has_slash(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/')
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.program.display(), self.step.call())?;
        if let (Step::Cwd, Some(directory)) = (self.step, &self.directory) {
            write!(f, " {}", directory.display())?;
        }
        // the number of the error adds nothing to its text
        let error = self.error.to_string();
        write!(f, ": {}", error.split(" (os error").next().unwrap_or(&error))?;
        self.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
