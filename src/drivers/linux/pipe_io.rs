//! Reads and writes of the owner's ends of pipes, without blocking and without SIGPIPE.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Sets O_NONBLOCK on this end: reads and writes fail with EAGAIN instead of blocking. The child's
/// end is another open file description, and still blocks.
pub(super) fn set_nonblocking(end: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&end)?;
    Ok(fcntl_setfl(&end, flags | OFlags::NONBLOCK)?)
}

/// The result of a call on a pipe that does not block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transfer {
    /// The number of bytes, at least one.
    Bytes(usize),
    /// Nothing, for now.
    WouldBlock,
    /// End of file, or no reader is left.
    Closed,
}

fn transfer(result: rustix::io::Result<usize>) -> io::Result<Transfer> {
    match result {
        Ok(0) | Err(Errno::PIPE) => Ok(Transfer::Closed),
        Ok(count) => Ok(Transfer::Bytes(count)),
        // after EINTR the pipe is still ready, and the caller tries again
        Err(Errno::AGAIN | Errno::INTR) => Ok(Transfer::WouldBlock),
        Err(error) => Err(error.into()),
    }
}

/// Reads into the spare capacity of `buffer`.
pub(super) fn read(end: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Transfer> {
    transfer(rustix::io::read(end, rustix::buffer::spare_capacity(buffer)))
}

/// Writes the beginning of `bytes`, which are not empty.
pub(super) fn write(end: impl AsFd, bytes: &[u8]) -> io::Result<Transfer> {
    transfer(without_sigpipe(|| rustix::io::write(end, bytes)))
}

/// Calls `write` without a SIGPIPE for the owner. Rust's runtime ignores the signal, but
/// command-line programs often restore its default action.
fn without_sigpipe(write: impl FnOnce() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    // SAFETY: all sets are ours, and filled before they are read; the time is only read
    unsafe {
        let (mut pipe, mut before, mut pending) =
            (core::mem::zeroed(), core::mem::zeroed(), core::mem::zeroed());
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
        // a SIGPIPE that was pending before stays pending
        let was_pending =
            libc::sigpending(&mut pending) == 0 && libc::sigismember(&pending, libc::SIGPIPE) == 1;
        let result = write();
        if result == Err(Errno::PIPE) && !was_pending {
            // the kernel sends the signal to the thread that writes: it is pending here
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(&pipe, core::ptr::null_mut(), &now);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
        result
    }
}
