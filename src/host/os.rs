//! The controller's own system calls.
#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::shared_memory::SharedMemory;
use crate::abi::{Resource, Rlimit, WaitStatus};

/// Converts the result of a libc function that returns -1 and sets errno.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The shared memory, mapped.
#[derive(Debug)]
pub(super) struct SharedMapping(*mut SharedMemory);

impl SharedMapping {
    /// Creates shared memory under the descriptor `fd`, which children inherit.
    pub(super) fn new(fd: RawFd) -> io::Result<SharedMapping> {
        // SAFETY: a name and no flags; then a descriptor that is ours
        let file =
            unsafe { OwnedFd::from_raw_fd(check(libc::memfd_create(c"memory".as_ptr(), 0))?) };
        let size = size_of::<SharedMemory>();
        // SAFETY: plain calls on our own descriptor
        unsafe { check(libc::ftruncate(file.as_raw_fd(), size as libc::off_t))? };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses
        let address = unsafe {
            let (none, fd) = (core::ptr::null_mut(), file.as_raw_fd());
            libc::mmap(none, size, protection, libc::MAP_SHARED, fd, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let shared = SharedMapping(address.cast());
        inherit(file.as_raw_fd(), fd)?;
        Ok(shared)
    }
}

impl Deref for SharedMapping {
    type Target = SharedMemory;
    fn deref(&self) -> &SharedMemory {
        // SAFETY: mapped until drop; its fields are atomic and zero is a valid value of each
        unsafe { &*self.0 }
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no borrow of it is alive
        unsafe { libc::munmap(self.0.cast(), size_of::<SharedMemory>()) };
    }
}

/// Makes `fd` inherited under the number `number`.
pub(super) fn inherit(fd: RawFd, number: RawFd) -> io::Result<()> {
    // SAFETY: a plain call
    check(unsafe { libc::dup2(fd, number) }).map(drop)
}

/// Closes a descriptor by its number.
pub(super) fn close(number: RawFd) {
    // SAFETY: the caller created it with `inherit`
    unsafe { libc::close(number) };
}

/// The CPU on which this thread runs.
pub(super) fn current_cpu() -> usize {
    // SAFETY: a plain call
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Pins this process, and the processes that it starts, to one CPU.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: zero is the empty set, and the set has a place for this CPU
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of_val(&set), &raw const set)).map(drop)
    }
}

/// Gives a process real-time priority: it runs before all ordinary processes.
pub(super) fn make_realtime(pid: i32, priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel reads the parameter
    check(unsafe { libc::sched_setscheduler(pid, libc::SCHED_FIFO, &raw const parameter) })
        .map(drop)
}

/// The number of times that this thread has left the CPU.
pub(super) fn context_switches() -> i64 {
    // SAFETY: zero is a valid rusage, which the kernel then fills
    unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage.ru_nvcsw + usage.ru_nivcsw
    }
}

/// Opens a pidfd of a process.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a plain call that returns a new descriptor
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        check(fd as libc::c_int).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// Reports processes in the order in which they ended: a pidfd becomes readable when its process
/// becomes a zombie (PFD-03), and epoll returns readable descriptors in the order in which they
/// became readable.
#[derive(Debug)]
pub(super) struct Ends(OwnedFd);

impl Ends {
    pub(super) fn new() -> io::Result<Ends> {
        // SAFETY: a plain call that returns a new descriptor
        unsafe {
            check(libc::epoll_create1(libc::EPOLL_CLOEXEC)).map(|fd| Ends(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Has the end of the process reported, once, under that number. The end is not reported if the
    /// process has ended already, because its time is not known.
    pub(super) fn watch(&self, pidfd: &OwnedFd, number: u32) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLONESHOT) as u32;
        let mut event = libc::epoll_event { events, u64: u64::from(number) };
        let mut control = |operation| {
            let (list, fd) = (self.0.as_raw_fd(), pidfd.as_raw_fd());
            // SAFETY: the kernel reads the event
            check(unsafe { libc::epoll_ctl(list, operation, fd, &raw mut event) })
        };
        control(libc::EPOLL_CTL_ADD)?;
        if poll([(pidfd.as_raw_fd(), libc::POLLIN)], 0)? != [0] {
            control(libc::EPOLL_CTL_DEL)?;
        }
        Ok(())
    }

    /// Whether that number is in use in this namespace. It is in use also after its task has left
    /// /proc (release_task releases numbers last), and while a process group or a session has it.
    pub(super) fn is_in_use(&self, number: u32) -> bool {
        // SAFETY: a plain call; the descriptor sends no signals, whatever its owner is
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETOWN, number as libc::c_int) == 0 }
    }

    /// The processes that ended since the last call.
    pub(super) fn take(&self) -> io::Result<Vec<u32>> {
        const MOST: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let mut numbers = Vec::new();
        loop {
            let (list, place) = (self.0.as_raw_fd(), events.as_mut_ptr());
            // SAFETY: the kernel writes at most that many events
            let taken = check(unsafe { libc::epoll_wait(list, place, MOST as libc::c_int, 0) })?;
            numbers.extend(events[..taken as usize].iter().map(|event| event.u64 as u32));
            if (taken as usize) < MOST {
                return Ok(numbers);
            }
        }
    }
}

/// The first part of `struct pidfd_info`, of the size that its first version had.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// How a process ended that has been reaped, by any process (PFD-14).
pub(super) fn exit_status(pidfd: &OwnedFd) -> Option<WaitStatus> {
    const EXIT: u64 = 8;
    // _IOWR(0xff, 11, 64 bytes)
    const GET_INFO: libc::c_ulong = 0xc040_ff0b;
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel fills 64 bytes
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    (result == 0 && info.mask & EXIT != 0).then_some(WaitStatus(info.exit_code as u32))
}

/// Kills a child of this process.
pub(super) fn kill(pid: i32) {
    // SAFETY: a plain call; the number is that of a child that is not reaped
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Reaps a child. Without `block`, returns `None` if it has not ended.
pub(super) fn reap(pid: i32, block: bool) -> io::Result<Option<WaitStatus>> {
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes the status
        match check(unsafe { libc::waitpid(pid, &raw mut status, options) }) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(WaitStatus(status as u32))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns once a writer that held tasklist_lock at the time of the call has released it: a wait
/// for any child takes the lock to read (`do_wait`), whether or not there is a child.
pub(super) fn wait_for_tasklist_lock() -> io::Result<()> {
    let options = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
    // SAFETY: waitid writes to no address that is null
    match check(unsafe { libc::waitid(libc::P_ALL, 0, core::ptr::null_mut(), options) }) {
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// A limit of another process.
pub(super) fn limit(pid: i32, resource: Resource) -> io::Result<Rlimit> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the limit
    check(unsafe { libc::prlimit64(pid, resource.0, core::ptr::null(), &raw mut old) })?;
    Ok(Rlimit { soft: old.rlim_cur, hard: old.rlim_max })
}

/// The effective user id and group id of this process.
pub(super) fn users() -> (u32, u32) {
    // SAFETY: plain calls
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Moves this process or its children into new namespaces.
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain call; the process has one thread
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Forks.
///
/// # Safety
///
/// The process has one thread.
pub(super) unsafe fn fork() -> io::Result<i32> {
    // SAFETY: the caller's promise
    check(unsafe { libc::fork() })
}

/// Has the kernel kill this process when the thread that forked it ends (PR_SET_PDEATHSIG).
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: a plain call
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Waits for events on descriptors. Returns the events of each.
pub(super) fn poll<const N: usize>(
    fds: [(RawFd, libc::c_short); N],
    timeout: i32,
) -> io::Result<[libc::c_short; N]> {
    let mut polled = fds.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 });
    loop {
        // SAFETY: the kernel writes into this array of N
        match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) }) {
            Ok(_) => return Ok(polled.map(|one| one.revents)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Moves the pipe ends 0 and 1 to new numbers that no child inherits. Afterwards descriptor 0 is
/// empty and descriptor 1 is the standard error, for code that prints.
pub(super) fn take_standard_io() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: the duplicates are new descriptors without another owner
    let (input, output) = unsafe {
        (
            OwnedFd::from_raw_fd(check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3))?),
            OwnedFd::from_raw_fd(check(libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3))?),
        )
    };
    let null = std::fs::File::open("/dev/null")?;
    inherit(null.as_raw_fd(), 0)?;
    inherit(2, 1)?;
    Ok((input, output))
}

/// A pipe that no program inherits.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors, which are then ours
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// The errno of a process that creates those namespaces, determined in a child that ends at once.
/// The child then calls unshare(2) with `then`, inside of the new namespaces.
pub(super) fn try_namespaces(flags: libc::c_int, then: libc::c_int) -> io::Result<()> {
    use super::raw;
    let shared = libc::CLONE_VFORK | libc::SIGCHLD;
    let args = [(flags | shared) as u64, 0, 0, 0, 0, 0];
    // SAFETY: the child gets a copy of this memory and only performs two raw calls, so it may be
    // the child of any thread
    let pid = unsafe { raw::syscall(libc::SYS_clone as u64, args) };
    if pid == 0 {
        // SAFETY: unshare touches no memory
        let result =
            unsafe { raw::syscall(libc::SYS_unshare as u64, [then as u64, 0, 0, 0, 0, 0]) };
        raw::exit(-result as i32);
    }
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid as i32));
    }
    match reap(pid as i32, true)?.and_then(|status| status.exit_code()) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(i32::from(errno))),
        None => Err(io::Error::other("the trial process was killed")),
    }
}
