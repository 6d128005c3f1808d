//! A read in progress: lines, and VMIN and VTIME on virtual time (`n_tty_read`).

use alloc::vec::Vec;
use core::task::Poll;

use super::fault::TerminalFault;
use super::pty::{End, File, Pty};
use super::termios::{EXTPROC, ICANON, VEOF, VMIN, VTIME};
use crate::abi::{Errno, Time};

/// The most bytes that a read without canonical mode collects before it returns: the size of the
/// kernel's buffer on the way to the caller (LD-202).
const CHUNK: usize = 64;

/// The unit of VTIME.
const TENTH_OF_A_SECOND: u64 = 100_000_000;

/// A read(2) that has begun. [`Pty::poll_read`] continues it, and [`Pty::interrupt_read`] ends it
/// early; a read that is neither completed nor interrupted blocks all later reads of its end
/// (LD-116).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Read {
    pub(super) file: File,
    pub(super) id: u64,
    len: usize,
    /// The bytes to collect, as VMIN was when the read got its turn (LD-113).
    minimum: usize,
    /// The time between two bytes.
    inter_byte: u64,
    deadline: Option<Time>,
    has_packets: bool,
    /// The read was polled before.
    has_begun: bool,
    /// The read had its turn: no earlier read of its end is in progress.
    has_turn: bool,
    data: Vec<u8>,
}

impl Read {
    /// When the read has to be polled again if nothing else wakes it: the end of VTIME.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn len_left(&self) -> usize {
        self.len - self.data.len()
    }
}

/// Whether a call waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    /// The call waits until it has a result.
    Yes,
    /// The call fails with EAGAIN instead of waiting: O_NONBLOCK.
    No,
}

impl Pty {
    /// Begins a read of at most `len` bytes.
    pub fn begin_read(&mut self, file: &File, len: usize) -> Read {
        Read {
            file: *file,
            id: self.next_read(),
            len,
            minimum: 0,
            inter_byte: 0,
            deadline: None,
            has_packets: false,
            has_begun: false,
            has_turn: false,
            data: Vec::new(),
        }
    }

    /// A read gets its turn: VMIN and VTIME are taken as they are now (LD-113).
    fn begin_turn(&self, read: &mut Read, now: Time) {
        // the master's own settings, which no call changes, have VMIN 1 and VTIME 0 (LD-05)
        let cc = self.termios().cc;
        let end = read.file.end;
        let (min, time) = match end {
            End::Master => (1, 0),
            End::Slave => (usize::from(cc[VMIN]), u64::from(cc[VTIME]) * TENTH_OF_A_SECOND),
        };
        if end == End::Master || !self.termios().local(ICANON) {
            read.minimum = min.max(1);
            match min {
                0 => read.deadline = Some(Time(now.0.saturating_add(time))), // LD-111
                _ => read.inter_byte = time,
            }
        }
        read.has_packets = end == End::Master && self.has_packet_mode();
    }

    /// Continues a read. `Ready` has the bytes of the read, or its error:
    ///
    /// - EAGAIN: nothing can be read now, or another read is in progress, with [`Blocking::No`]
    /// - EIO: the other end is closed, or an open of the slave failed because it was locked
    ///   (LD-191)
    pub fn poll_read(
        &mut self,
        read: &mut Read,
        now: Time,
        blocking: Blocking,
    ) -> Poll<Result<Vec<u8>, Errno>> {
        let is_first = !core::mem::replace(&mut read.has_begun, true);
        if is_first && self.has_error(&read.file) {
            return Poll::Ready(Err(Errno::EIO)); // LD-191
        }
        if !self.take_read_lock(read) {
            return match blocking {
                Blocking::No => {
                    self.release_read_lock(read);
                    Poll::Ready(Err(Errno::EAGAIN)) // LD-116
                }
                Blocking::Yes => Poll::Pending,
            };
        }
        if !core::mem::replace(&mut read.has_turn, true) {
            self.begin_turn(read, now);
        }
        let result = match self.continue_read(read, !is_first, (now, blocking)) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result,
        };
        self.release_read_lock(read);
        self.receive_pending();
        let data = core::mem::take(&mut read.data);
        Poll::Ready(match result {
            Err(_) if !data.is_empty() => Ok(data),
            result => result.map(|()| data),
        })
    }

    /// Ends a read because a signal is delivered: the bytes that it has collected, or EINTR if
    /// there are none (LD-115). The bytes of an unfinished line remain (LD-97).
    pub fn interrupt_read(&mut self, mut read: Read) -> Result<Vec<u8>, Errno> {
        self.release_read_lock(&read);
        match read.data.is_empty() {
            true => Err(Errno::EINTR),
            false => Ok(core::mem::take(&mut read.data)),
        }
    }

    fn continue_read(
        &mut self,
        read: &mut Read,
        has_waited: bool,
        (now, blocking): (Time, Blocking),
    ) -> Poll<Result<(), Errno>> {
        while read.len_left() > 0 {
            if self.is_hung_up(&read.file) {
                return match has_waited && self.is_other_end_closed(read.file.end) {
                    true => Poll::Ready(Err(Errno::EIO)), // LD-185
                    false => Poll::Ready(Ok(())),         // LD-184
                };
            }
            let is_late =
                self.has_fault(TerminalFault::StatusAfterData) && self.has_input(read.file.end);
            if read.has_packets && self.has_packet_status() && !is_late {
                if read.data.is_empty() {
                    read.data.push(self.take_packet_status()); // LD-171
                }
                break;
            }
            if !self.has_input(read.file.end) {
                if self.is_other_end_closed(read.file.end) {
                    return Poll::Ready(Err(Errno::EIO)); // LD-180
                }
                if read.deadline.is_some_and(|at| at <= now) {
                    break; // LD-110, LD-111
                }
                if blocking == Blocking::No {
                    return Poll::Ready(Err(Errno::EAGAIN)); // LD-107
                }
                return Poll::Pending;
            }
            let before = self.waiting(read.file.end);
            self.take_input(read);
            if self.has_fault(TerminalFault::VminCountsTheQueue)
                && self.waiting(read.file.end) == before
            {
                return Poll::Ready(Err(Errno::EAGAIN));
            }
            if read.data.len() >= read.minimum {
                break;
            }
            self.receive_pending();
            if read.data.len() >= CHUNK {
                break; // LD-202
            }
            if read.inter_byte != 0 {
                read.deadline = Some(Time(now.0.saturating_add(read.inter_byte))); // LD-110
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take_input(&mut self, read: &mut Read) {
        if read.file.end == End::Master {
            if read.has_packets && read.data.is_empty() {
                read.data.push(0); // LD-169
            }
            let len = read.len_left();
            return self.take_output(len, &mut read.data);
        }
        let termios = *self.termios();
        let is_kept = self.has_fault(TerminalFault::EofIsNotSkipped);
        let waits = self.has_fault(TerminalFault::VminCountsTheQueue);
        let input = self.input();
        if termios.reads_lines() {
            let is_more = input.take_line(read.len_left(), &mut read.data);
            if is_more && !is_kept {
                input.skip_end_of_file(); // LD-95
            }
            return;
        }
        if waits && input.committed() < read.minimum.min(read.len_left()) {
            return;
        }
        let eof = (termios.local(EXTPROC) && termios.local(ICANON)).then_some(termios.cc[VEOF]);
        let first = read.len_left().min(CHUNK.saturating_sub(read.data.len()));
        let is_more = input.take_bytes(first, eof, &mut read.data);
        if is_more && read.data.len() >= read.minimum {
            input.take_bytes(read.len_left(), eof, &mut read.data);
        }
    }
}
