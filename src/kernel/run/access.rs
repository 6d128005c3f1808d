//! The access of the next step of a task to the lists of tasks.

use crate::kernel::Kernel;
use crate::kernel::state::arena::Id;
use crate::kernel::state::process::{JobControl, Life};
use crate::kernel::state::task::{Sleep, Task, TaskState};
use crate::kernel::state::tasklist::Access;
use crate::syscall::Syscall;

impl Kernel {
    /// The access that the next step of a task in the run queue needs to the lists of tasks.
    pub(in crate::kernel) fn access_of(&self, task: Id<Task>) -> Access {
        let thread = &self.tasks[task];
        match &thread.sleep {
            // the task holds the lock, or needs it no longer
            Sleep::Notifying(_) | Sleep::Killing(_) => Access::None,
            Sleep::Calling(call) if thread.signal_pending => access_of_call(call),
            Sleep::Calling(_) => Access::None,
            Sleep::Entered(call) | Sleep::Restarting(call) | Sleep::Interrupted(_, call) => {
                access_of_call(call)
            }
            Sleep::Wait(_) => Access::Shared,
            Sleep::Releasing(_) | Sleep::Exec | Sleep::Forking(_) => Access::Exclusive,
            _ if thread.state == TaskState::Exiting => Access::Exclusive,
            _ if thread.notifying_stop => Access::Shared,
            _ => match self.processes[thread.process].life {
                Life::Alive(JobControl::Continued { unsent: Some(_), .. }) => Access::Shared,
                _ => Access::None,
            },
        }
    }
}

/// The access that a call needs. A call that looks up one task by its number needs none.
fn access_of_call(call: &Syscall) -> Access {
    match call {
        Syscall::Fork
        | Syscall::Vfork
        | Syscall::Clone { .. }
        | Syscall::Setpgid { .. }
        | Syscall::Setsid
        | Syscall::Execve { .. } => Access::Exclusive,
        Syscall::Wait4 { .. } | Syscall::Waitid { .. } | Syscall::Prlimit { .. } => Access::Shared,
        Syscall::Kill { pid, .. } if *pid <= 0 => Access::Shared,
        _ => Access::None,
    }
}
