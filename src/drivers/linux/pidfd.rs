//! What is asked of a process by a descriptor of it, which names that process and no other,
//! whatever its number is by now: pidfd_open(2), pidfd_send_signal(2), waitid(2).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::abi::{SiCode, WaitStatus};

/// What the kernel says of a child that has ended, without reaping it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub status: WaitStatus,
    /// What it and those of its children that it waited for have used.
    pub usage: libc::rusage,
}

/// The event of a child, if there is one of the wanted. With WNOWAIT it stays.
pub(super) fn observe(pid: i32, pidfd: &OwnedFd, options: i32) -> io::Result<Option<Observed>> {
    let (info, usage) = wait(pid, pidfd, options | libc::WNOHANG)?;
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves zeroes
    let (pid, code, status) = unsafe { (info.si_pid(), info.si_code, info.si_status()) };
    Ok((pid != 0).then(|| Observed {
        status: WaitStatus::from_code_and_status(SiCode(code), status),
        usage,
    }))
}

/// Reaps a child that has ended or is about to; with WNOHANG, whether it had.
pub(super) fn reap(pid: i32, pidfd: &OwnedFd, options: i32) -> io::Result<bool> {
    let (info, _) = wait(pid, pidfd, libc::WEXITED | options)?;
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves zeroes
    Ok(unsafe { info.si_pid() } != 0)
}

/// waitid(2) for the child of a pidfd. If that is not possible (a filter of system calls) it is for
/// its number, which is the child's as long as the child is not reaped.
fn wait(pid: i32, pidfd: &OwnedFd, options: i32) -> io::Result<(libc::siginfo_t, libc::rusage)> {
    let result = wait_id(libc::P_PIDFD, pidfd.as_raw_fd(), options);
    let errno = result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or_default();
    if ![libc::ENOSYS, libc::EPERM, libc::EINVAL].contains(&errno) {
        return result;
    }
    if !exists(pidfd) {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    }
    wait_id(libc::P_PID, pid, options)
}

fn wait_id(
    kind: libc::idtype_t,
    id: i32,
    options: i32,
) -> io::Result<(libc::siginfo_t, libc::rusage)> {
    // SAFETY: zeroes are valid for both, and the kernel fills them
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) =
        unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
    // SAFETY: the C library's waitid has no rusage; both pointers are ours
    let result =
        unsafe { libc::syscall(libc::SYS_waitid, kind, id, &mut info, options, &mut usage) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((info, usage)) }
}

/// Whether the process of a pidfd has its number still: it is not reaped.
pub(super) fn exists(pidfd: &OwnedFd) -> bool {
    send(pidfd, 0).map_or_else(|error| error.raw_os_error() != Some(libc::ESRCH), |()| true)
}

/// Whether the process of a pidfd has ended, reaped or not.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Sends a signal to the process of a pidfd, and to no other, whatever its number is now.
pub(super) fn send(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    send_signal(pidfd.as_raw_fd(), signal, 0)
}

/// Sends a signal to the group that the process of a pidfd leads or has led, also when it is reaped
/// (Linux 6.9, EINVAL before). It is the descriptor's group: a group that gets the same number
/// later is another. ESRCH if the group has no members.
pub(super) fn send_to_group(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    /// PIDFD_SIGNAL_PROCESS_GROUP.
    const GROUP: u32 = 1 << 2;
    send_signal(pidfd.as_raw_fd(), signal, GROUP)
}

fn send_signal(pidfd: RawFd, signal: i32, flags: u32) -> io::Result<()> {
    // SAFETY: plain call without siginfo
    let result = unsafe {
        let none = core::ptr::null_mut::<u8>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, none, flags)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether processes can be signalled by descriptors at all.
///
/// # Errors
///
/// What stands in the way.
pub(super) fn can_send() -> io::Result<()> {
    // no descriptor: no process receives the signal
    is_there(send_signal(-1, 0, 0), libc::EBADF)
}

/// Whether a descriptor can be opened of a process that is no child.
///
/// # Errors
///
/// What stands in the way.
pub(super) fn can_open() -> io::Result<()> {
    is_there(open(-1).map(drop), libc::EINVAL)
}

/// Whether a signal can be sent to the group of a process.
///
/// # Errors
///
/// What stands in the way.
pub(super) fn can_send_to_groups() -> io::Result<()> {
    let sent = open(std::process::id() as i32).and_then(|own| send_to_group(&own, 0));
    let why = |error| io::Error::new(io::ErrorKind::Unsupported, error);
    // ESRCH: this process leads none
    is_there(sent, libc::ESRCH).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => why("the kernel is older than Linux 6.9"),
        _ => error,
    })
}

/// Whether a system call was looked at: it fails with that error for what is no descriptor and no
/// number, and otherwise for what stands in its way.
fn is_there(result: io::Result<()>, expected: i32) -> io::Result<()> {
    result.or_else(|error| match error.raw_os_error() {
        Some(errno) if errno == expected => Ok(()),
        _ => Err(error),
    })
}

/// The beginning of `struct pidfd_info`, of the size that its first version had.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// How a process ended that has been reaped, by whomever: PIDFD_GET_INFO with PIDFD_INFO_EXIT, from
/// Linux 6.15 on. `None` before, or while it is not reaped.
pub(super) fn exit_status(pidfd: &OwnedFd) -> io::Result<Option<WaitStatus>> {
    const EXIT: u64 = 8;
    // _IOWR(0xff, 11, 64 bytes)
    const GET_INFO: libc::c_ulong = 0xc040_ff0b;
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel fills 64 bytes, which the struct has
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((info.mask & EXIT != 0).then_some(WaitStatus(info.exit_code as u32)))
}

/// The same of one that has ended and is being reaped by the kernel: that takes a moment.
pub(super) fn await_exit_status(pidfd: &OwnedFd) -> Option<WaitStatus> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match exit_status(pidfd) {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::yield_now(),
            _ => return None,
        }
    }
}

/// A descriptor of a process that is not our child.
pub(super) fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain call; the descriptor is new and ours
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}
