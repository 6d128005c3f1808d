//! What is asked of a process by a descriptor of it, which names that process and no other, whatever
//! its number is by now: pidfd_open(2), pidfd_send_signal(2), waitid(2).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::abi::{SiCode, WaitStatus};

/// What the kernel says of a child that has ended, without reaping it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub status: WaitStatus,
    /// What it and those of its children that it waited for have used.
    pub usage: libc::rusage,
}

/// The event of a child, if there is one of the wanted. With WNOWAIT it stays.
pub(super) fn observe(pidfd: &OwnedFd, options: i32) -> io::Result<Option<Observed>> {
    // SAFETY: zeroes are valid for both, and the kernel fills them
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) =
        unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
    // SAFETY: the C library's waitid has no rusage; both pointers are ours
    let result = unsafe {
        let id = (libc::P_PIDFD, pidfd.as_raw_fd());
        let options = options | libc::WNOHANG;
        libc::syscall(libc::SYS_waitid, id.0, id.1, &mut info, options, &mut usage)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves zeroes
    let (pid, code, status) = unsafe { (info.si_pid(), info.si_code, info.si_status()) };
    Ok((pid != 0).then(|| Observed {
        status: WaitStatus::from_code_and_status(SiCode(code), status),
        usage,
    }))
}

/// Reaps a child that has ended or is about to; with WNOHANG, whether it had.
pub(super) fn reap(pidfd: &OwnedFd, options: i32) -> io::Result<bool> {
    // SAFETY: zeroes are valid, and the kernel fills it
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = core::mem::zeroed();
        let (none, id) = (core::ptr::null_mut::<u8>(), pidfd.as_raw_fd());
        let options = libc::WEXITED | options;
        (libc::syscall(libc::SYS_waitid, libc::P_PIDFD, id, &mut info, options, none), info)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves zeroes
    Ok(unsafe { info.si_pid() } != 0)
}

/// Whether the process of a pidfd has its number still: it is not reaped.
pub(super) fn exists(pidfd: &OwnedFd) -> bool {
    send(pidfd, 0).map_or_else(|error| error.raw_os_error() != Some(libc::ESRCH), |()| true)
}

/// Sends a signal to the process of a pidfd, and to no other, whatever its number is now.
pub(super) fn send(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: plain call without siginfo
    let result = unsafe {
        let none = core::ptr::null_mut::<u8>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
