//! What the kernel keeps for a process beside its state: limits, and whether it is a subreaper.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;

/// A limit of a process: prlimit(2). ESRCH if there is no process of that number, EPERM if it
/// belongs to another user.
pub(super) fn rlimit(pid: i32, resource: u32) -> io::Result<libc::rlimit64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: nothing is set, and the limit is ours to fill
    let result = unsafe {
        let none = core::ptr::null::<u8>();
        libc::syscall(libc::SYS_prlimit64, pid, resource, none, &mut limit)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(limit) }
}

/// Sets it.
pub(super) fn set_rlimit(pid: i32, resource: u32, limit: libc::rlimit64) -> io::Result<()> {
    // SAFETY: the limit is only read
    let result = unsafe {
        let none = core::ptr::null_mut::<u8>();
        libc::syscall(libc::SYS_prlimit64, pid, resource, &limit, none)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The environment of this process as it is, also entries that are no NAME=VALUE: the standard
/// library leaves those out.
pub(super) fn environment() -> Vec<CString> {
    unsafe extern "C" {
        static mut environ: *const *const libc::c_char;
    }
    let mut entries = Vec::new();
    // SAFETY: a list of strings that ends in null, or null. A thread that changes it at the same
    // time breaks the contract of std::env::set_var, as functions of the C library read it at any
    // time
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            entries.push(CStr::from_ptr(*next).to_owned());
            next = next.add(1);
        }
    }
    entries
}

/// Whether this process acts as root.
pub(super) fn is_root() -> bool {
    // SAFETY: no arguments
    unsafe { libc::geteuid() == 0 }
}

/// Whether orphans of this process's descendants become its children: PR_GET_CHILD_SUBREAPER.
pub(super) fn is_subreaper() -> io::Result<bool> {
    let mut is: libc::c_int = 0;
    // SAFETY: the kernel writes one number
    let result = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(is != 0) }
}

/// Has orphans of this process's descendants become its children, or not.
pub(super) fn set_subreaper(is: bool) -> io::Result<()> {
    // SAFETY: plain call
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(is)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The process group of a process; -1 if there is none of that number.
pub(super) fn group(pid: i32) -> i32 {
    // SAFETY: plain call
    unsafe { libc::getpgid(pid) }
}

/// Whether this process leads its session.
pub(super) fn leads_session() -> bool {
    // SAFETY: no pointers
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Whether this process is in that group itself.
pub(super) fn is_own_group(group: i32) -> bool {
    // SAFETY: no arguments
    unsafe { libc::getpgrp() == group }
}

/// Clock ticks in a second. By the C library, which has it without /proc.
pub(super) fn ticks_per_second() -> u64 {
    // SAFETY: plain call
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

/// Bytes in a page of memory.
pub(super) fn page_size() -> u64 {
    // SAFETY: plain call
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

/// The time since boot, in clock ticks, rounded down.
pub(super) fn boot_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is ours to fill
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    let ticks = ticks_per_second();
    time.tv_sec as u64 * ticks + time.tv_nsec as u64 / (1_000_000_000 / ticks)
}

/// The most memory that this process has had, in bytes: ru_maxrss of getrusage(2).
pub(super) fn own_peak() -> u64 {
    // SAFETY: zeroes are valid, and the kernel fills them
    unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        (usage.ru_maxrss as u64).saturating_mul(1024)
    }
}
