//! Reads and writes of terminals, and the calls on them that wait.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::task::Poll;

use crate::abi::{Errno, Signal};
use crate::kernel::Kernel;
use crate::kernel::api::effect::{Effects, Restart};
use crate::kernel::state::arena::Id;
use crate::kernel::state::task::{Sleep, Task, TerminalSleep, TerminalWait};
use crate::kernel::state::terminal::{OpenFile, place_of};
use crate::rule;
use crate::syscall::{self, Ret, Syscall, TerminalRequest};
use crate::tty::termios::TOSTOP;
use crate::tty::{Blocking, End, Read};

impl Kernel {
    /// read(2) of a terminal; `None` if the caller sleeps.
    pub(super) fn read(
        &mut self,
        caller: Id<Task>,
        file: u32,
        len: usize,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let of = match self.open_file(file) {
            Ok(of) if of.is_readable() => of,
            _ => return Some(Err(Errno::EBADF)), // LD-196
        };
        let own = self.terminal_mut(of.terminal)?;
        let is_usable = own.pty.usable(&of.file).is_ok() && !own.pty.has_error(&of.file);
        if is_usable
            && of.file.end() == End::Slave
            && let Err(refused) = self.check_background(caller, of.terminal, Signal::TTIN, fx)
        {
            return self.end_in_background(caller, (of.terminal, refused), call, fx);
        }
        let read = self.terminal_mut(of.terminal)?.pty.begin_read(&of.file, len);
        self.poll_read(caller, of, read, call, fx)
    }

    /// Begins or continues a read; `None` if the task sleeps.
    fn poll_read(
        &mut self,
        task: Id<Task>,
        of: OpenFile,
        mut read: Read,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let blocking = if of.is_nonblocking() { Blocking::No } else { Blocking::Yes };
        let is_interrupted = self.tasks[task].signal_pending || self.must_end(task);
        let now = self.now;
        let own = self.terminal_mut(of.terminal)?;
        let polled = match own.pty.poll_read(&mut read, now, blocking) {
            Poll::Pending if is_interrupted => match own.pty.interrupt_read(read) {
                Ok(bytes) => Some(Ok(bytes)), // LD-115
                Err(_) => {
                    self.wake_sleepers(of.terminal);
                    self.follow_terminal(of.terminal, fx);
                    self.interrupt(task, Restart::Sys, call.clone(), fx);
                    return None;
                }
            },
            Poll::Pending => {
                let deadline = read.deadline();
                self.sleep_in_terminal(task, of.terminal, call, TerminalWait::Read(read));
                if let Some(deadline) = deadline {
                    self.set_timeout(task, deadline);
                }
                None
            }
            Poll::Ready(result) => Some(result),
        };
        if polled.is_some() {
            // another read may have its turn now (LD-116)
            self.wake_sleepers(of.terminal);
        }
        self.follow_terminal(of.terminal, fx);
        polled.map(|result| result.map(|bytes| Ret::Bytes(bytes.into())))
    }

    pub(super) fn sleep_in_terminal(
        &mut self,
        task: Id<Task>,
        terminal: u32,
        call: &Syscall,
        wait: TerminalWait,
    ) {
        if let Some(terminal) = self.terminal_mut(terminal) {
            terminal.sleepers.push(task);
        }
        let sleep = TerminalSleep { terminal, call: call.clone(), wait };
        self.tasks[task].sleep = Sleep::Terminal(Box::new(sleep));
    }

    /// write(2) to a terminal; `None` if the caller sleeps.
    pub(super) fn write(
        &mut self,
        caller: Id<Task>,
        file: u32,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let of = match self.open_file(file) {
            Ok(of) if of.is_writable() => of,
            _ => return Some(Err(Errno::EBADF)), // LD-196
        };
        let own = self.terminal_mut(of.terminal)?;
        let is_usable = own.pty.usable(&of.file).is_ok() && !own.pty.has_error(&of.file);
        if !is_usable {
            // a write to such a file waits for no other write
            return Some(Err(Errno::EIO));
        }
        self.continue_write(caller, of, None, call, fx)
    }

    /// Begins or continues a write, of which that many bytes are done if it had its turn; `None` if
    /// the task sleeps.
    fn continue_write(
        &mut self,
        task: Id<Task>,
        of: OpenFile,
        done: Option<usize>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let Syscall::Write { bytes, .. } = call else { return Some(Err(Errno::EINVAL)) };
        let bytes: Arc<[u8]> = bytes.clone();
        let place = place_of(of.file.end());
        let is_interrupted = self.tasks[task].signal_pending || self.must_end(task);
        let own = self.terminal_mut(of.terminal)?;
        let is_own_turn = own.writing[place].is_none_or(|other| other == task);
        // a write that waits for another one is judged at its turn
        let stops = of.file.end() == End::Slave && own.pty.termios().lflag & TOSTOP != 0;
        if stops
            && is_own_turn
            && done.is_none()
            && !own.pty.is_hung_up(&of.file)
            && let Err(refused) = self.check_background(task, of.terminal, Signal::TTOU, fx)
        {
            self.wake_sleepers(of.terminal);
            return self.end_in_background(task, (of.terminal, refused), call, fx);
        }
        let own = self.terminal_mut(of.terminal)?;
        let (mut written, mut has_begun) = (done.unwrap_or(0), done.is_some());
        // n_tty_write looks at signals before it writes more
        let failed = if !is_own_turn || is_interrupted {
            Some(Errno::EAGAIN)
        } else {
            own.writing[place] = Some(task);
            loop {
                let rest = &bytes[written..];
                let part = match core::mem::replace(&mut has_begun, true) {
                    false => own.pty.write(&of.file, rest),
                    true => own.pty.continue_write(&of.file, rest),
                };
                match part {
                    Ok(more) => written += more,
                    Err(errno) => break Some(errno),
                }
                if written == bytes.len() {
                    break None;
                }
            }
        };
        if failed == Some(Errno::EAGAIN) && !of.is_nonblocking() && !is_interrupted {
            let wait = TerminalWait::Write(has_begun.then_some(written));
            self.sleep_in_terminal(task, of.terminal, call, wait);
            self.follow_terminal(of.terminal, fx);
            return None;
        }
        self.end_write(task, of.terminal);
        self.follow_terminal(of.terminal, fx);
        match failed {
            Some(_) if written > 0 => {}
            // a write that waits for another write does not wait with O_NONBLOCK
            Some(_) if is_interrupted && (is_own_turn || !of.is_nonblocking()) => {
                self.interrupt(task, Restart::Sys, call.clone(), fx);
                return None;
            }
            Some(errno) => return Some(Err(errno)),
            None => {}
        }
        Some(Ok(Ret::Value(written as i64)))
    }

    /// A task writes no more: the next one can write.
    fn end_write(&mut self, task: Id<Task>, terminal: u32) {
        let Some(own) = self.terminal_mut(terminal) else { return };
        let is_writer = |writer: &mut Id<Task>| *writer == task;
        if own.writing.iter_mut().filter_map(|writer| writer.take_if(is_writer)).count() == 0 {
            return;
        }
        self.wake_sleepers(terminal);
    }

    /// The tasks that sleep in reads and writes of a terminal try again.
    pub(super) fn wake_sleepers(&mut self, terminal: u32) {
        let Some(own) = self.terminal_mut(terminal) else { return };
        for sleeper in own.sleepers.clone() {
            self.enqueue_task(sleeper);
        }
    }

    /// A task that sleeps in a read or write was woken: continues the call.
    pub(in crate::kernel) fn wake_in_terminal(&mut self, task: Id<Task>, fx: &mut Effects) {
        let Some(TerminalSleep { terminal, call, wait }) = self.leave_terminal_sleep(task) else {
            return;
        };
        let result = match wait {
            TerminalWait::Background if self.tasks[task].signal_pending => {
                return self.interrupt(task, Restart::Sys, call, fx);
            }
            TerminalWait::Background => self.perform_on_terminal(task, &call, fx),
            TerminalWait::HangUp => Some(Ok(Ret::Value(0))),
            TerminalWait::Settings => {
                let Some(of) = self.file_of(&call) else { return };
                let Syscall::Ioctl { request: TerminalRequest::Tcsets(_, new), .. } = &call else {
                    return;
                };
                let result = self.drain_and_set(task, of, new, &call);
                self.follow_terminal(terminal, fx);
                result
            }
            TerminalWait::Read(read) => {
                let Some(of) = self.file_of(&call) else { return };
                self.poll_read(task, of, read, &call, fx)
            }
            TerminalWait::Write(written) => {
                let Some(of) = self.file_of(&call) else { return };
                self.continue_write(task, of, written, &call, fx)
            }
        };
        if let Some(result) = result {
            let rule = match call {
                Syscall::Read { .. } => rule!("TTY-16"),
                _ => rule!("TTY-34"),
            };
            self.return_later(task, result, rule, fx);
        }
    }

    /// The file of a read or write in progress.
    fn file_of(&self, call: &Syscall) -> Option<OpenFile> {
        match call {
            Syscall::Read { file, .. }
            | Syscall::Write { file, .. }
            | Syscall::Ioctl { file, .. } => self.open_file(*file).ok(),
            _ => None,
        }
    }

    /// The task sleeps in a terminal no more. Returns the call, which continues or ends.
    fn leave_terminal_sleep(&mut self, task: Id<Task>) -> Option<TerminalSleep> {
        self.cancel_timeout(task);
        let Sleep::Terminal(sleep) = core::mem::take(&mut self.tasks[task].sleep) else {
            return None;
        };
        if let Some(terminal) = self.terminal_mut(sleep.terminal) {
            terminal.sleepers.retain(|sleeper| *sleeper != task);
        }
        Some(*sleep)
    }

    /// A task ends in a read or write: others can read or write.
    #[cold]
    pub(in crate::kernel) fn abort_in_terminal(&mut self, task: Id<Task>) {
        let Some(TerminalSleep { terminal, wait, .. }) = self.leave_terminal_sleep(task) else {
            return;
        };
        match wait {
            TerminalWait::Read(read) => {
                let Some(own) = self.terminal_mut(terminal) else { return };
                let _ = own.pty.interrupt_read(read);
                self.wake_sleepers(terminal);
            }
            TerminalWait::Write(_) => self.end_write(task, terminal),
            TerminalWait::Background | TerminalWait::HangUp | TerminalWait::Settings => {}
        }
    }
}
