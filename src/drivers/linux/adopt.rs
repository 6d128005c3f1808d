//! What comes into a tree: processes that run already.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::child_handle::Child;
use super::command::Pipes;
use super::host_process::HostProcess;
use super::procfs::Proc;
use super::scan::{self, Root};
use super::tree::{ProcessTree, TreeInner};
use super::{attributes, pidfd};
use crate::table::{Image, Spawn};

impl ProcessTree {
    /// Takes a running process into the tree, and with `descendants` all of its descendants. The
    /// processes that they create from then on belong to the tree, too. Returns the processes that
    /// were taken, `pid` first.
    ///
    /// Each of them becomes a process of the table, so that its waits, events and signals are those
    /// of a spawned child. In the table it is a child of the owner, in a group of its own, whatever
    /// its real parent and group are: only so can the owner wait for it. The child of another
    /// process does not offer everything:
    ///
    /// - Its status, if it may not be read of its zombie ([ptrace(2)]'s rules) and the kernel does
    ///   not keep it (before Linux 6.15): [`Child::wait`] gives ECHILD then, and the table, which
    ///   knows no such end, SIGKILL.
    /// - The signal that stopped it, once its parent has waited for the stop: SIGSTOP is reported.
    /// - Its CPU time after its end, unless it is a child of this process. It is never reaped:
    ///   that is left to its parent, also if that is another library of this process.
    ///
    /// Without a cgroup it gets the tree's mark in its limits ([prlimit(2)], RLIMIT_LOCKS).
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process or it ends during the call, EPERM (or EACCES, from a
    /// cgroup) if it belongs to another user. Unsupported without a cgroup if there is no room for
    /// a mark: the owner's own limit is too low. The processes that were taken before the error
    /// stay in the tree.
    ///
    /// Costs with `descendants` a look at every process of the system, repeated while there are new
    /// ones.
    ///
    /// ```
    /// use proctable::abi::{Signal, WaitStatus};
    /// use proctable::drivers::linux::ProcessTree;
    ///
    /// let mut sleeper = std::process::Command::new("sleep").arg("100").spawn()?;
    /// let tree = ProcessTree::new()?;
    /// let adopted = tree.adopt(sleeper.id() as i32, true)?;
    /// tree.kill()?;
    /// assert_eq!(adopted[0].wait()?, WaitStatus::killed(Signal::KILL, false));
    /// sleeper.wait()?; // its parent reaps it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [ptrace(2)]: https://man7.org/linux/man-pages/man2/ptrace.2.html
    /// [prlimit(2)]: https://man7.org/linux/man-pages/man2/prlimit.2.html
    pub fn adopt(&self, pid: i32, descendants: bool) -> io::Result<Vec<Child>> {
        let root = pidfd::open(pid)?;
        let mut taken = vec![self.core.take(pid, root.try_clone()?)?];
        // until a scan finds no new process: the processes may fork during a scan
        let mut looking = descendants;
        while looking {
            looking = false;
            let roots = [Root { pid, pidfd: &root, with_descendants: true }];
            scan::visit(None, &roots, &mut |stat, pidfd| {
                if taken.iter().any(|child| child.pid() == stat.pid) {
                    return;
                }
                let took = pidfd.try_clone().and_then(|pidfd| self.core.take(stat.pid, pidfd));
                // a process that has ended since the scan
                if let Ok(child) = took {
                    taken.push(child);
                    looking = true;
                }
            })?;
        }
        Ok(taken)
    }
}

impl TreeInner {
    /// Takes the process of a descriptor that had that number when it was opened.
    fn take(self: &Arc<TreeInner>, pid: i32, pidfd: OwnedFd) -> io::Result<Child> {
        if let Some(known) = self.known(pid, &pidfd) {
            return Ok(known);
        }
        let own = std::process::id() as i32;
        // before it is marked: it is not to be taken for an orphan for a moment
        let proc = Proc::own().ok();
        let stat = proc.as_ref().and_then(|proc| proc.stat(pid));
        if let Some(stat) = stat.filter(|stat| stat.ppid == own) {
            self.children.lock().unrelated.insert((pid, stat.started));
        }
        self.mark_or_move(pid)?;
        if !pidfd::exists(&pidfd) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let args = proc.map(|proc| proc.arguments(pid)).unwrap_or_default();
        let program = args.first().cloned().unwrap_or_default();
        let image = Image { program, args, env: Vec::new() };
        let real = Arc::new(HostProcess::adopted(pid, pidfd));
        self.children.lock().forget_reaped(self.blind.is_some());
        let process = self.register(&real, Spawn::new(image).own_group());
        let process = process.map_err(|(_, error)| error)?;
        Ok(self.handle(process, real, Pipes::default()))
    }

    /// One that is in the table already.
    fn known(self: &Arc<TreeInner>, pid: i32, pidfd: &OwnedFd) -> Option<Child> {
        let children = self.children.lock();
        let mut known = children.list.iter().filter(|(_, real)| real.pid == pid);
        // the number is that one's as long as both live
        let alive = |real: &HostProcess| pidfd::exists(&real.pidfd) && pidfd::exists(pidfd);
        let (number, real) = known.find(|(_, real)| alive(real))?;
        let (number, real) = (*number, real.clone());
        drop(children);
        let process = self.table.process(number)?;
        Some(self.handle(process, real, Pipes::default()))
    }

    /// Makes the process, and all processes that it creates, members.
    fn mark_or_move(&self, pid: i32) -> io::Result<()> {
        match (&self.cgroup, self.mark.rlimit()) {
            (Some(cgroup), _) => cgroup.adopt(pid)?,
            (None, Some((resource, limit))) => attributes::set_rlimit(pid, resource, limit)?,
            (None, None) => {
                let why = "the owner's limit of file locks leaves no room for a mark";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
        self.limited.adopt(pid)
    }
}
