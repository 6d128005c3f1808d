//! The queue of input that a terminal holds for its readers: `read_buf` of `n_tty_data`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::termios::DISABLED;

/// The kernel's size of the queue; one byte stays free (LD-123, LD-124).
pub(super) const SIZE: usize = 4096;

/// Input that was received and not read.
///
/// Positions count the bytes since the queue was emptied, as the kernel's indices do before they
/// are masked. `tail <= head` holds. `canonical` and `commit` are of no use in the mode that does
/// not use them, and may be less than `tail` there.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct InputQueue {
    bytes: VecDeque<u8>,
    /// The position of the first byte of `bytes`.
    tail: u64,
    /// The end of the last complete line.
    canonical: u64,
    /// The end of the bytes that a reader that does not read lines may take.
    commit: u64,
    /// The positions of the delimiters of lines, ascending.
    delimiters: VecDeque<u64>,
}

impl InputQueue {
    /// The number of bytes, with the delimiters of lines that no reader receives.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn head(&self) -> u64 {
        self.tail + self.bytes.len() as u64
    }

    fn at(&self, position: u64) -> u8 {
        self.bytes[(position - self.tail) as usize]
    }

    pub fn push(&mut self, byte: u8) {
        self.bytes.push_back(byte);
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Ends the line with this delimiter, which a read returns unless it is [`DISABLED`] (LD-36).
    pub fn push_delimiter(&mut self, byte: u8) {
        self.delimiters.push_back(self.head());
        self.bytes.push_back(byte);
        self.canonical = self.head();
    }

    /// Removes the last byte, for which there is no room: the next byte replaces it (LD-125).
    pub fn remove_last(&mut self) {
        self.bytes.pop_back();
        // with EXTPROC the kernel would read past the end here (LD-205)
        self.commit = self.commit.min(self.head());
    }

    /// Readers that do not read lines may take all bytes.
    pub fn commit(&mut self) {
        self.commit = self.head();
    }

    /// Whether the next byte is the first one of a line. Without canonical mode only the first byte
    /// since the mode was set is.
    pub fn is_at_line_start(&self) -> bool {
        self.canonical == self.head()
    }

    /// The number of bytes of the unfinished line, in canonical mode.
    pub fn unfinished_len(&self) -> usize {
        self.head().saturating_sub(self.canonical) as usize
    }

    /// Byte `nth` of the unfinished line.
    pub fn unfinished(&self, nth: usize) -> u8 {
        self.at(self.canonical + nth as u64)
    }

    /// Shortens the unfinished line to `len` bytes.
    pub fn truncate_unfinished(&mut self, len: usize) {
        self.bytes.truncate((self.canonical - self.tail) as usize + len);
    }

    /// Whether no complete line is in the queue, in canonical mode.
    pub fn has_no_line(&self) -> bool {
        self.canonical == self.tail
    }

    /// The number of bytes of complete lines, with all delimiters.
    fn line_len(&self) -> usize {
        self.canonical.saturating_sub(self.tail) as usize
    }

    /// The number of bytes of complete lines, without delimiters that no reader receives (LD-99).
    pub fn line_bytes(&self) -> usize {
        if self.line_len() == SIZE {
            return SIZE; // LD-204
        }
        let hidden = self.delimiters.iter().filter(|at| self.at(**at) == DISABLED);
        self.line_len() - hidden.count()
    }

    /// The number of bytes that a reader that does not read lines may take.
    pub fn committed(&self) -> usize {
        self.commit.saturating_sub(self.tail) as usize
    }

    /// Canonical mode or EXTPROC changes: what is in the queue becomes a line without a delimiter,
    /// or loses its lines (LD-117, LD-118, LD-121).
    pub fn set_mode(&mut self, is_canonical: bool) {
        self.delimiters.clear();
        self.canonical = self.tail;
        if is_canonical && !self.bytes.is_empty() {
            self.delimiters.push_back(self.head() - 1);
            self.canonical = self.head();
        }
        self.commit = self.head();
    }

    fn take(&mut self, len: usize, to: &mut Vec<u8>) {
        to.extend(self.bytes.drain(..len));
        self.tail += len as u64;
    }

    fn drop_first(&mut self) {
        self.bytes.pop_front();
        self.tail += 1;
    }

    /// Takes at most `room` bytes of one line (`canon_copy_from_read_buf`). Returns whether the
    /// line continues, or ends with an end-of-file mark that was not taken.
    pub fn take_line(&mut self, room: usize, to: &mut Vec<u8>) -> bool {
        let limit = room.min(self.line_len());
        let end = self.tail + limit as u64;
        let Some(at) = self.delimiters.front().copied().filter(|at| *at < end) else {
            self.take(limit, to);
            return limit > 0 && self.line_len() > 0;
        };
        self.delimiters.pop_front();
        let is_hidden = self.at(at) == DISABLED;
        self.take((at - self.tail) as usize + usize::from(!is_hidden), to);
        if is_hidden {
            self.drop_first();
        }
        false
    }

    /// A read of all bytes before an end-of-file mark takes the mark as well (LD-95).
    pub fn skip_end_of_file(&mut self) {
        if self.delimiters.front() == Some(&self.tail) && self.at(self.tail) == DISABLED {
            self.delimiters.pop_front();
            self.drop_first();
        }
    }

    /// Takes at most `room` bytes that are no lines (`copy_from_read_buf`). Takes a single byte
    /// `eof` that is the last one and does not return it (LD-88). Returns whether bytes are left.
    pub fn take_bytes(&mut self, room: usize, eof: Option<u8>, to: &mut Vec<u8>) -> bool {
        let len = room.min(self.committed());
        if len == 0 {
            return false;
        }
        if self.committed() == 1 && eof.is_some_and(|eof| eof == self.bytes[0]) {
            self.drop_first();
        } else {
            self.take(len, to);
        }
        // marks from before EXTPROC was set
        while self.delimiters.front().is_some_and(|at| *at < self.tail) {
            self.delimiters.pop_front();
        }
        self.committed() != 0
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = InputQueue::default();
    }
}
