//! A process of a tree, as the owner has it.

use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::command::Pipes;
use super::host_process::HostProcess;
use super::tree::TreeInner;
use crate::abi::{Errno, Signal, WaitOptions, WaitStatus};
use crate::sync::Mutex;
use crate::table::{Process, Wait, Waited};

/// A direct child, or a process that was adopted. Clones are handles of the same process.
///
/// A child whose handles were all dropped is reaped when it ends, so that it leaves neither a
/// zombie nor a descriptor of the owner; it is not killed. The tree's table keeps its end for waits
/// there: of the children without a handle, the ends of the last 1024.
///
/// ```
/// use proctable::abi::WaitOptions;
/// use proctable::drivers::linux::{Command, ProcessTree};
///
/// let tree = ProcessTree::new()?;
/// let child = tree.spawn(Command::new("true"))?;
/// let (pid, process) = (child.pid(), child.process().clone());
/// drop(child);
/// let owner = tree.table().process(process.info().ok_or("reaped")?.ppid).ok_or("no owner")?;
/// assert_eq!(owner.wait(&process, WaitOptions::EXITED)?.status.exit_code(), Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Child {
    pub(super) process: Process,
    pub(super) owner: Process,
    pub(super) real: Arc<HostProcess>,
    pub(super) pipes: Arc<Mutex<Pipes>>,
    /// Held for its drop.
    _last: Arc<LastHandle>,
}

/// What the handles of one child share: the last one drops it.
#[derive(Debug)]
struct LastHandle {
    process: Process,
    real: Arc<HostProcess>,
    tree: Weak<TreeInner>,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        // an adopted process is for its parent to reap
        if self.real.spawned_here {
            self.real.reap_after_report();
            if let Some(tree) = self.tree.upgrade() {
                tree.release(&self.process, &self.real);
            }
        }
    }
}

impl TreeInner {
    /// A handle of a child.
    pub(super) fn handle(
        self: &Arc<TreeInner>,
        process: Process,
        real: Arc<HostProcess>,
        pipes: Pipes,
    ) -> Child {
        let tree = Arc::downgrade(self);
        let last = Arc::new(LastHandle { process: process.clone(), real: real.clone(), tree });
        let (owner, pipes) = (self.owner.clone(), Arc::new(Mutex::new(pipes)));
        Child { process, owner, real, pipes, _last: last }
    }

    /// The last handle of a child was dropped: the table keeps a bounded number of ends for which
    /// no wait may ever come.
    fn release(&self, process: &Process, real: &HostProcess) {
        let is_in_table = process.info().is_some();
        let mut children = self.children.lock();
        if real.is_reaped() {
            // its descriptor is closed now
            children.forget_reaped(self.blind.is_some());
        }
        if !is_in_table {
            return;
        }
        children.note_unclaimed(process.clone());
        let oldest = children.next_unclaimed();
        drop(children);
        let Some(oldest) = oldest.filter(|oldest| oldest.info().is_some()) else { return };
        if self.owner.wait_timeout(&oldest, WaitOptions::EXITED, Duration::ZERO) == Ok(None) {
            // it lives: its turn comes again
            self.children.lock().note_unclaimed(oldest);
        }
    }
}

impl Child {
    /// Its number in the operating system.
    pub fn pid(&self) -> i32 {
        self.real.pid
    }

    /// The process in the table.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The owner's end of its standard input, once.
    pub fn take_stdin(&self) -> Option<File> {
        self.pipes.lock().stdin.take()
    }

    /// The owner's end of its standard output, once.
    pub fn take_stdout(&self) -> Option<File> {
        self.pipes.lock().stdout.take()
    }

    /// The owner's end of its standard error, once.
    pub fn take_stderr(&self) -> Option<File> {
        self.pipes.lock().stderr.take()
    }

    /// Waits until it ends, and reaps it. Once it has been waited for, also by the tree, this gives
    /// the same again.
    ///
    /// # Errors
    ///
    /// ECHILD if its status is not known: other code has reaped it, and the kernel is older than
    /// Linux 6.15, which keeps the status.
    pub fn wait(&self) -> Result<WaitStatus, Errno> {
        self.real.await_end();
        if let Some(known) = self.known() {
            return known;
        }
        let waited = self.owner.wait(&self.process, WaitOptions::EXITED);
        self.status_or(waited)
    }

    /// The wait in the table, as a future.
    pub(super) fn await_in_table(&self) -> Wait {
        self.owner.wait_async(&self.process, WaitOptions::EXITED)
    }

    /// How it ended. The status in the table may be another one if this one could not be had.
    pub(super) fn status_or(&self, waited: Result<Waited, Errno>) -> Result<WaitStatus, Errno> {
        if waited.is_ok() {
            // its driver does the same, perhaps for another wait and later
            self.real.reap();
        }
        self.real.status.lock().ok_or(waited.err().unwrap_or(Errno::ECHILD))
    }

    /// What is known of one that the table does not have any more: its number there may be
    /// another's.
    pub(super) fn known(&self) -> Option<Result<WaitStatus, Errno>> {
        match self.process.info() {
            Some(_) => None,
            None => {
                self.real.reap();
                Some(self.real.status.lock().ok_or(Errno::ECHILD))
            }
        }
    }

    /// The same for at most that long; `None` if it lives.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<WaitStatus>, Errno> {
        if let Some(known) = self.known() {
            return known.map(Some);
        }
        match self.owner.wait_timeout(&self.process, WaitOptions::EXITED, timeout) {
            Ok(None) => Ok(None),
            Ok(Some(waited)) => self.status_or(Ok(waited)).map(Some),
            Err(errno) => self.status_or(Err(errno)).map(Some),
        }
    }

    /// Sends it a signal. It reaches no other process: one that has been reaped gets none.
    ///
    /// # Errors
    ///
    /// ESRCH if it has been reaped.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.real.send(signal)
    }

    /// The CPU time of a child, of it and of those of its children that it has waited for, once it
    /// has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.real.usage.lock().map(|usage| usage.cpu_time())
    }
}
