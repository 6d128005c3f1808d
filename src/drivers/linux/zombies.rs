//! Zombies of this process, asked for by number: waitid(2) with WNOWAIT, and what else the
//! kernel says of them without /proc.
#![allow(unsafe_code)]

use std::io;

/// What a wait for any child found, and left where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Any {
    /// One that has ended.
    Zombie(i32),
    /// None has ended.
    Alive,
    /// There is no child.
    None,
}

fn waitid(kind: libc::idtype_t, id: i32, options: i32) -> io::Result<i32> {
    // SAFETY: zeroes are valid, and the kernel fills it
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = core::mem::zeroed();
        let none = core::ptr::null_mut::<u8>();
        let options = libc::WEXITED | options;
        (libc::syscall(libc::SYS_waitid, kind, id, &mut info, options, none), info)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves zeroes
    Ok(unsafe { info.si_pid() })
}

/// The first zombie among the children, which stays one. With `sleep` this waits until there is
/// one, or no child.
pub(super) fn any(sleep: bool) -> io::Result<Any> {
    let options = libc::WNOWAIT | if sleep { 0 } else { libc::WNOHANG };
    match waitid(libc::P_ALL, 0, options) {
        Ok(0) => Ok(Any::Alive),
        Ok(pid) => Ok(Any::Zombie(pid)),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Any::None),
        Err(error) => Err(error),
    }
}

/// Whether a child is a zombie; `None` if there is no child of that number.
pub(super) fn is_zombie(pid: i32) -> Option<bool> {
    waitid(libc::P_PID, pid, libc::WNOWAIT | libc::WNOHANG).ok().map(|found| found != 0)
}

/// Reaps a child by its number, if it is a zombie.
pub(super) fn reap(pid: i32) -> bool {
    waitid(libc::P_PID, pid, libc::WNOHANG).is_ok_and(|found| found != 0)
}

/// The session of a process, zombies included; 0 for one that this pid namespace does not see.
pub(super) fn session(pid: i32) -> Option<i32> {
    // SAFETY: plain call
    let session = unsafe { libc::getsid(pid) };
    (session >= 0).then_some(session)
}

/// The number of the calling thread: the last one that was given, for one that has just begun.
pub(super) fn own_thread() -> i32 {
    // SAFETY: no arguments
    unsafe { libc::gettid() }
}
