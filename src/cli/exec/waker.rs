//! The process that continues this program when it has stopped with its command, and the command
//! alone was continued: a stopped process sees nothing.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use super::terminal::has_own_proc;
use proctable::drivers::linux::Reaper;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpgid, getppid, kill_process, kill_process_group};

/// The subcommand that it runs as.
pub const SUBCOMMAND: &str = "continue-with";

/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// It runs until this is dropped, or its owner dies.
pub(super) struct Waker(Child);

impl Waker {
    /// Starts one for a command; `None` where there can be none: then the shell alone continues.
    pub fn start(command: i32, with_group: bool, reaper: Option<&Reaper>) -> Option<Waker> {
        if !has_own_proc() {
            return None;
        }
        let creating = reaper.map(Reaper::creating);
        let waker = Command::new(std::env::current_exe().ok()?)
            .args([SUBCOMMAND, &command.to_string()])
            .args(with_group.then_some("--group"))
            // it ends with the owner's end of the pipe
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // not stopped with the owner's
            .process_group(0)
            .spawn()
            .ok()?;
        if let Some(creating) = creating {
            creating.created(waker.id());
        }
        Some(Waker(waker))
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // one that was killed needs no waiting
        let _ = self.0.wait();
    }
}

/// The state letter of proc_pid_stat(5).
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Continues the owner whenever it is stopped and the command is not; its whole group, if that was
/// stopped with it and not by the terminal.
pub fn serve(command: i32, with_group: bool) -> ExitCode {
    let Some(owner) = getppid() else { return ExitCode::FAILURE };
    let (stdin, time) = (io::stdin(), Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() });
    loop {
        let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        // a signal: it is looked again, that is all
        if poll(&mut fds, Some(&time)).is_ok_and(|ended| ended > 0) {
            return ExitCode::SUCCESS;
        }
        if state(owner.as_raw_nonzero().get()) == Some('T') && state(command) != Some('T') {
            go_on(owner, with_group);
        }
    }
}

fn go_on(owner: Pid, with_group: bool) {
    let _ = match getpgid(Some(owner)) {
        Ok(group) if with_group => kill_process_group(group, Signal::CONT),
        _ => kill_process(owner, Signal::CONT),
    };
}
