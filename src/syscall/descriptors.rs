//! Descriptors, for runtimes that have none of their own.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::Errno;

/// The soft limit of descriptors (RLIMIT_NOFILE) that Linux gives process 1.
const LIMIT: u32 = 1024;

/// The descriptors of a process: numbers that refer to open files, as open(2), dup(2) and close(2)
/// give and take them.
///
/// The calls of [`Syscall`](super::Syscall) name open file descriptions and no descriptors, so that
/// a runtime can have descriptors for its other files as well. `F` is what a descriptor refers to.
/// With an [`Arc`](alloc::sync::Arc) the last descriptor closes the file, in whichever process it
/// is: fork(2) is [`Clone`], and the end of a process is the drop of its table. Processes and
/// threads with CLONE_FILES share one table.
///
/// ```
/// use proctable::abi::Errno;
/// use proctable::syscall::DescriptorTable;
///
/// let mut shell = DescriptorTable::new();
/// let terminal = "the terminal";
/// let stdin = shell.open(terminal, false)?;
/// let (stdout, stderr) = (shell.dup(stdin)?, shell.dup(stdin)?);
/// assert_eq!([stdin, stdout, stderr], [0, 1, 2]);
///
/// let mut child = shell.clone(); // fork
/// let log = child.open("a log", true)?;
/// child.dup2(log, stdout)?;
/// child.exec(); // closes the log's own descriptor, which is close-on-exec
/// assert_eq!(child.get(stdout), Ok(&"a log"));
/// assert_eq!(child.get(log), Err(Errno::EBADF));
/// assert_eq!(shell.get(stdout), Ok(&terminal));
/// # Ok::<(), Errno>(())
/// ```
///
/// # References
///
/// open(2), dup(2), close(2), fcntl(2), execve(2); fs/file.c of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescriptorTable<F> {
    descriptors: BTreeMap<i32, Descriptor<F>>,
    /// All numbers below are in use: where the search for a free one begins.
    lowest: i32,
    limit: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Descriptor<F> {
    file: F,
    close_on_exec: bool,
}

impl<F> Default for DescriptorTable<F> {
    fn default() -> DescriptorTable<F> {
        DescriptorTable { descriptors: BTreeMap::new(), lowest: 0, limit: LIMIT }
    }
}

impl<F: Clone> DescriptorTable<F> {
    /// A table without descriptors, for at most 1024.
    pub fn new() -> DescriptorTable<F> {
        DescriptorTable::default()
    }

    /// Sets the soft limit of RLIMIT_NOFILE. Descriptors beyond it stay.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// The file to which a descriptor refers. O(log descriptors).
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor.
    pub fn get(&self, descriptor: i32) -> Result<&F, Errno> {
        self.descriptors.get(&descriptor).map(|of| &of.file).ok_or(Errno::EBADF)
    }

    /// The descriptors in their order.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &F)> {
        self.descriptors.iter().map(|(descriptor, of)| (*descriptor, &of.file))
    }

    /// A new descriptor for a file: the lowest that is free. Costs a step for each descriptor from
    /// the lowest one that was closed since the last open.
    ///
    /// # Errors
    ///
    /// EMFILE at the limit.
    pub fn open(&mut self, file: F, close_on_exec: bool) -> Result<i32, Errno> {
        self.open_from(0, file, close_on_exec)
    }

    /// dup(2): a further descriptor for the same file, without close-on-exec.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor, EMFILE at the limit.
    pub fn dup(&mut self, descriptor: i32) -> Result<i32, Errno> {
        let file = self.get(descriptor)?.clone();
        self.open(file, false)
    }

    /// F_DUPFD and F_DUPFD_CLOEXEC of fcntl(2): a further descriptor, the lowest free one from
    /// `lowest` on.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor, EINVAL if `lowest` is negative or not below the limit,
    /// EMFILE if all from `lowest` on are in use.
    pub fn dup_from(
        &mut self,
        descriptor: i32,
        lowest: i32,
        close_on_exec: bool,
    ) -> Result<i32, Errno> {
        let file = self.get(descriptor)?.clone();
        if !self.is_below_limit(lowest) {
            return Err(Errno::EINVAL);
        }
        self.open_from(lowest, file, close_on_exec)
    }

    /// dup2(2): `to` refers to the file of `descriptor`, without close-on-exec. Returns the file to
    /// which `to` referred before. Where both are the same, nothing changes.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor, or `to` is negative or not below the limit.
    pub fn dup2(&mut self, descriptor: i32, to: i32) -> Result<Option<F>, Errno> {
        if descriptor == to {
            return self.get(descriptor).map(|_| None);
        }
        self.replace(descriptor, to, false)
    }

    /// dup3(2): as [`DescriptorTable::dup2`], with a choice of close-on-exec.
    ///
    /// # Errors
    ///
    /// As [`DescriptorTable::dup2`], and EINVAL where both are the same.
    pub fn dup3(
        &mut self,
        descriptor: i32,
        to: i32,
        close_on_exec: bool,
    ) -> Result<Option<F>, Errno> {
        if descriptor == to {
            return Err(Errno::EINVAL);
        }
        self.replace(descriptor, to, close_on_exec)
    }

    /// close(2). Returns the file to which the descriptor referred.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor.
    pub fn close(&mut self, descriptor: i32) -> Result<F, Errno> {
        let closed = self.descriptors.remove(&descriptor).ok_or(Errno::EBADF)?;
        self.lowest = self.lowest.min(descriptor);
        Ok(closed.file)
    }

    /// F_GETFD of fcntl(2): whether execve(2) closes the descriptor.
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor.
    pub fn is_close_on_exec(&self, descriptor: i32) -> Result<bool, Errno> {
        self.descriptors.get(&descriptor).map(|of| of.close_on_exec).ok_or(Errno::EBADF)
    }

    /// F_SETFD of fcntl(2).
    ///
    /// # Errors
    ///
    /// EBADF if there is no such descriptor.
    pub fn set_close_on_exec(&mut self, descriptor: i32, is_set: bool) -> Result<(), Errno> {
        let of = self.descriptors.get_mut(&descriptor).ok_or(Errno::EBADF)?;
        of.close_on_exec = is_set;
        Ok(())
    }

    /// A successful execve(2) closes the descriptors with close-on-exec. Returns their files.
    /// O(descriptors).
    pub fn exec(&mut self) -> Vec<F> {
        let mut files = Vec::new();
        let all = core::mem::take(&mut self.descriptors);
        for (descriptor, of) in all {
            if of.close_on_exec {
                self.lowest = self.lowest.min(descriptor);
                files.push(of.file);
            } else {
                self.descriptors.insert(descriptor, of);
            }
        }
        files
    }

    fn is_below_limit(&self, descriptor: i32) -> bool {
        u32::try_from(descriptor).is_ok_and(|descriptor| descriptor < self.limit)
    }

    fn open_from(&mut self, lowest: i32, file: F, close_on_exec: bool) -> Result<i32, Errno> {
        let is_lowest = lowest <= self.lowest;
        let mut free = lowest.max(self.lowest);
        while self.descriptors.contains_key(&free) {
            free = free.checked_add(1).ok_or(Errno::EMFILE)?;
        }
        if is_lowest {
            self.lowest = free;
        }
        if !self.is_below_limit(free) {
            return Err(Errno::EMFILE);
        }
        self.descriptors.insert(free, Descriptor { file, close_on_exec });
        Ok(free)
    }

    fn replace(
        &mut self,
        descriptor: i32,
        to: i32,
        close_on_exec: bool,
    ) -> Result<Option<F>, Errno> {
        if !self.is_below_limit(to) {
            return Err(Errno::EBADF);
        }
        let file = self.get(descriptor)?.clone();
        let old = self.descriptors.insert(to, Descriptor { file, close_on_exec });
        Ok(old.map(|of| of.file))
    }
}
