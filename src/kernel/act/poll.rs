//! poll(2) of terminals.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::Time;
use crate::kernel::Kernel;
use crate::kernel::api::effect::{Effects, Restart};
use crate::kernel::state::arena::Id;
use crate::kernel::state::task::{PollSleep, Sleep, Task};
use crate::rule;
use crate::syscall::{self, PollFile, Ret, Syscall};
use crate::tty::PollFlags;

impl Kernel {
    /// Begins or continues a poll; `None` if the task sleeps (`do_poll`).
    pub(in crate::kernel) fn poll_terminals(
        &mut self,
        task: Id<Task>,
        deadline: Option<Time>,
        call: &Syscall,
        fx: &mut Effects,
    ) -> Option<syscall::Result> {
        let Syscall::Poll { files, .. } = call else { return None };
        let ready: Arc<[PollFlags]> = files.iter().map(|of| self.ready(*of)).collect();
        if ready.iter().any(|ready| *ready != PollFlags::NONE) {
            return Some(Ok(Ret::Polled(ready)));
        }
        // a signal comes before the end of the timeout
        if self.tasks[task].signal_pending || self.must_end(task) {
            self.interrupt(task, Restart::Block(deadline), call.clone(), fx);
            return None;
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Some(Ok(Ret::Polled(ready)));
        }
        let terminals = files.iter().filter_map(|of| self.terminal_of(of.file));
        let mut terminals: Vec<u32> = terminals.collect();
        terminals.sort_unstable();
        terminals.dedup();
        for number in &terminals {
            if let Some(terminal) = self.terminal_mut(*number) {
                terminal.sleepers.push(task);
            }
        }
        let sleep = PollSleep { call: call.clone(), deadline, terminals };
        self.tasks[task].sleep = Sleep::Poll(Box::new(sleep));
        if let Some(deadline) = deadline {
            self.set_timeout(task, deadline);
        }
        None
    }

    /// What is ready of a file: POLLERR and POLLHUP also if they are not asked for.
    fn ready(&self, of: PollFile) -> PollFlags {
        let Ok(file) = self.open_file(of.file) else { return PollFlags::NVAL };
        let Some(pty) = self.terminal(file.terminal) else { return PollFlags::NVAL };
        pty.poll(&file.file) & (of.events | PollFlags::ERR | PollFlags::HUP)
    }

    /// A task that sleeps in a poll was woken.
    pub(in crate::kernel) fn wake_poll(&mut self, task: Id<Task>, fx: &mut Effects) {
        let Some(PollSleep { call, deadline, .. }) = self.leave_poll(task) else { return };
        if let Some(result) = self.poll_terminals(task, deadline, &call, fx) {
            self.return_later(task, result, rule!("TTY-36"), fx);
        }
    }

    /// The task sleeps in a poll no more. Costs the sleepers of the polled terminals.
    pub(in crate::kernel) fn leave_poll(&mut self, task: Id<Task>) -> Option<PollSleep> {
        self.cancel_timeout(task);
        let Sleep::Poll(sleep) = core::mem::take(&mut self.tasks[task].sleep) else { return None };
        for number in &sleep.terminals {
            if let Some(terminal) = self.terminal_mut(*number) {
                terminal.sleepers.retain(|sleeper| *sleeper != task);
            }
        }
        Some(*sleep)
    }
}
