//! The ring of echoes that wait for room in the output: `echo_buf` of `n_tty_data`.

use alloc::collections::VecDeque;

/// The size of the kernel's ring.
const SIZE: usize = 4096;

/// With so many bytes the ring is processed before the end of a burst of input (LD-73).
const COMMIT_WATERMARK: usize = 256;

/// The step in which the ring is processed again if there was no room.
const BLOCK: usize = 256;

/// With so many bytes the oldest ones are lost (LD-76).
const DISCARD_WATERMARK: usize = SIZE - (BLOCK + 32);

/// The byte that begins an operation in the ring.
const START: u8 = 0xff;
const MOVE_BACK_COLUMN: u8 = 0x80;
const SET_CANONICAL_COLUMN: u8 = 0x81;
const ERASE_TAB: u8 = 0x82;

/// The flag of the columns before a tab that is erased: they begin at another tab.
const AFTER_TAB: u8 = 0x80;

/// An echo to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Echo {
    /// A byte, which is processed as output is.
    Byte(u8),
    /// The byte 0xff, which is not processed.
    Unprocessed,
    /// `^` and a letter for a control character (LD-57).
    Control(u8),
    /// Backspaces over a tab, with the columns before it (LD-63).
    EraseTab { columns: u8, is_after_tab: bool },
    /// The line of input begins at the present column (LD-64).
    SetCanonicalColumn,
    /// One column to the left.
    MoveBackColumn,
}

/// Echoes in the order in which they are written. The ring may be longer than the kernel's only
/// while one character is processed; then later bytes have replaced earlier ones (LD-77).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct EchoRing {
    bytes: VecDeque<u8>,
    /// The number of bytes that may be written.
    committed: usize,
    /// The number of bytes at the end of the last character.
    marked: usize,
}

impl EchoRing {
    fn push(&mut self, byte: u8) {
        let mut alias = self.bytes.len();
        while alias >= SIZE {
            alias -= SIZE;
            self.bytes[alias] = byte; // LD-77
        }
        self.bytes.push_back(byte);
    }

    fn push_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(*byte));
    }

    /// Echoes a byte without `^X`.
    pub fn raw(&mut self, byte: u8) {
        match byte {
            START => self.push_all(&[START, START]),
            _ => self.push(byte),
        }
    }

    /// Echoes a control character as `^X`.
    pub fn control(&mut self, byte: u8) {
        self.push_all(&[START, byte]);
    }

    pub fn erase_tab(&mut self, columns: usize, is_after_tab: bool) {
        let flag = if is_after_tab { AFTER_TAB } else { 0 };
        self.push_all(&[START, ERASE_TAB, (columns & 7) as u8 | flag]);
    }

    pub fn set_canonical_column(&mut self) {
        self.push_all(&[START, SET_CANONICAL_COLUMN]);
    }

    pub fn move_back_column(&mut self) {
        self.push_all(&[START, MOVE_BACK_COLUMN]);
    }

    /// The end of the echo of a character. Returns whether so much is in the ring that it has to be
    /// processed now (`commit_echoes`).
    pub fn mark(&mut self) -> bool {
        let len = self.bytes.len();
        self.marked = len;
        if len < COMMIT_WATERMARK || len % BLOCK > self.committed % BLOCK {
            return false;
        }
        self.committed = len;
        true
    }

    /// The echoes of complete characters may be written (`process_echoes`). Returns whether there
    /// are any.
    pub fn commit_marked(&mut self) -> bool {
        self.committed = self.marked;
        self.marked != 0
    }

    /// All echoes may be written (`flush_echoes`). Returns whether there are more than before.
    pub fn commit_all(&mut self) -> bool {
        let is_more = self.committed != self.bytes.len();
        self.committed = self.bytes.len();
        is_more
    }

    /// The next echo that may be written, and its length in the ring.
    pub fn first(&self) -> Option<(Echo, usize)> {
        // the kernel compares masked indices (LD-77)
        if self.committed.is_multiple_of(SIZE) {
            return None;
        }
        let byte = self.bytes[0];
        if byte != START {
            return Some((Echo::Byte(byte), 1));
        }
        Some(match *self.bytes.get(1)? {
            ERASE_TAB => {
                let columns = *self.bytes.get(2)?;
                let is_after_tab = columns & AFTER_TAB != 0;
                (Echo::EraseTab { columns: columns & 7, is_after_tab }, 3)
            }
            SET_CANONICAL_COLUMN => (Echo::SetCanonicalColumn, 2),
            MOVE_BACK_COLUMN => (Echo::MoveBackColumn, 2),
            START => (Echo::Unprocessed, 2),
            byte => (Echo::Control(byte), 2),
        })
    }

    /// Removes the first echo.
    pub fn remove(&mut self, len: usize) {
        self.bytes.drain(..len);
        self.committed = self.committed.saturating_sub(len);
        self.marked = self.marked.saturating_sub(len);
    }

    /// Removes the oldest echoes, if there is no room in the ring for more (LD-76).
    pub fn discard(&mut self) {
        while self.committed >= DISCARD_WATERMARK {
            let len = match (self.bytes[0], self.bytes.get(1)) {
                (START, Some(&ERASE_TAB)) => 3,
                (START, _) => 2,
                _ => 1,
            };
            self.remove(len.min(self.bytes.len()));
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.committed = 0;
        self.marked = 0;
    }
}
