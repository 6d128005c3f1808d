//! A tiny process outside of a tree that ends it when its owner dies, however it dies.

use std::io::{self, Write};
use std::path::PathBuf;

use super::command::{Command, Stdio};
use super::spawn_error::Step;
use super::{pidfd, spawner};

/// It waits for the end of its standard input, a pipe of which the owner has the only other end:
/// that closes with the owner, also by SIGKILL, and whatever number the owner has. Then it kills
/// the cgroup and removes it, again and again: a child that the owner was just creating enters it
/// after the first kill. Members' own cgroups below it go first. A line on the pipe tells it to go
/// without doing so.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r line && exit
first=$1
for directory do
    tries=0
    while [ -d "$directory" ] && [ $tries -lt 1000 ]; do
        [ -e "$first/cgroup.kill" ] && echo 1 > "$first/cgroup.kill"
        rmdir "$directory" 2>/dev/null ||
            { find "$directory" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null; sleep 0.01; }
        tries=$((tries + 1))
    done
done
"#;

/// The owner's side of a guardian.
#[derive(Debug)]
pub(super) struct Guardian {
    pipe: std::fs::File,
    pid: i32,
    pidfd: std::os::fd::OwnedFd,
}

impl Guardian {
    /// Starts one for a tree in these directories, the first of them a v2 cgroup. They need not be
    /// there yet: it is started before them, so that an owner that dies in between leaves none.
    pub fn start(directories: &[PathBuf]) -> Result<Guardian, (Step, io::Error)> {
        let command = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "proctable-guardian"])
            .args(directories)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::Piped)
            .stdout(Stdio::Null)
            .stderr(Stdio::Null)
            // whatever the owner has open without close-on-exec ends with the owner
            .close_others()
            // no terminal, and no group that is signalled with the owner's
            .session();
        let (prepared, mut pipes) = command.prepare()?;
        let spawned = spawner::spawn(prepared)?;
        let no_pipe = || (Step::Stdio, io::Error::other("the guardian has no pipe"));
        Ok(Guardian {
            pipe: pipes.stdin.take().ok_or_else(no_pipe)?,
            pid: spawned.pid,
            pidfd: spawned.pidfd,
        })
    }

    /// The tree is gone, or is to stay: the guardian goes.
    pub fn dismiss(mut self) {
        // one that is dead already needs no telling
        let _ = self.pipe.write_all(b"go\n");
        let _ = pidfd::reap(self.pid, &self.pidfd, 0);
    }
}
