//! The owner's ends of pipes: reads and writes that do not block and raise no SIGPIPE.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Makes reads and writes of this end fail with EAGAIN instead of blocking. The other end, which the
/// child has, is an open file description of its own and stays as it is.
pub(super) fn set_nonblocking(end: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&end)?;
    Ok(fcntl_setfl(&end, flags | OFlags::NONBLOCK)?)
}

/// What a call on a pipe that does not block has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transfer {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    WouldBlock,
    /// Nothing ever: end of file, or no reader is left.
    Closed,
}

fn transfer(result: rustix::io::Result<usize>) -> io::Result<Transfer> {
    match result {
        Ok(0) | Err(Errno::PIPE) => Ok(Transfer::Closed),
        Ok(count) => Ok(Transfer::Bytes(count)),
        // EINTR: the caller comes again
        Err(Errno::AGAIN | Errno::INTR) => Ok(Transfer::WouldBlock),
        Err(error) => Err(error.into()),
    }
}

/// Appends what is there to the spare capacity of `buffer`.
pub(super) fn read(end: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Transfer> {
    transfer(rustix::io::read(end, rustix::buffer::spare_capacity(buffer)))
}

/// Writes the beginning of `bytes`, which are not empty.
pub(super) fn write(end: impl AsFd, bytes: &[u8]) -> io::Result<Transfer> {
    transfer(without_sigpipe(|| rustix::io::write(end, bytes)))
}

/// Makes a write that raises no SIGPIPE, whatever the disposition of the owner: Rust's runtime
/// ignores the signal, and programs that write to a terminal often undo that.
fn without_sigpipe(write: impl FnOnce() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    // SAFETY: all sets are ours, and filled before they are read; the time is only read
    unsafe {
        let (mut pipe, mut before, mut pending) =
            (core::mem::zeroed(), core::mem::zeroed(), core::mem::zeroed());
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
        // one that is pending from before is for its receiver
        let was_pending =
            libc::sigpending(&mut pending) == 0 && libc::sigismember(&pending, libc::SIGPIPE) == 1;
        let result = write();
        if result == Err(Errno::PIPE) && !was_pending {
            // the kernel sends it to the thread that writes
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(&pipe, core::ptr::null_mut(), &now);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
        result
    }
}
