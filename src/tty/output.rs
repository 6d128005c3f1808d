//! Output processing: columns, tabs and the translation of NL and CR (`do_output_char`).

use alloc::collections::VecDeque;

use super::echo::{Echo, EchoRing};
use super::latin1;
use super::termios::{IUTF8, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TABDLY, Termios, XTABS};

/// Output on the way to the master, in the order in which it was written: the part that the
/// master's discipline holds, which no flush removes, and the part that waits for it (LD-81).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Output {
    pub bytes: VecDeque<u8>,
    /// The present column of the screen (LD-138).
    pub column: u32,
    /// The column at which the line of input begins (LD-64).
    pub canonical_column: u32,
}

impl Output {
    /// Makes room in memory for `count` more bytes, each of which may become eight (a tab), up to
    /// `limit` in total and no more.
    pub fn reserve(&mut self, count: usize, limit: usize) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        let wanted = len.saturating_add(count.saturating_mul(8));
        if wanted > capacity && capacity < limit {
            let target = wanted.max(2 * capacity).min(limit);
            self.bytes.reserve_exact(target.saturating_sub(len));
        }
    }

    /// Writes a byte that is not processed.
    pub fn put(&mut self, byte: u8) {
        self.bytes.push_back(byte);
    }

    fn advance(&mut self, byte: u8, termios: &Termios) {
        if !(termios.input(IUTF8) && latin1::is_continuation(byte)) {
            self.column += 1;
        }
    }

    /// Writes a byte as OPOST and the other modes say; returns false if there is no room for all of
    /// it.
    pub fn put_processed(&mut self, byte: u8, termios: &Termios, room: usize) -> bool {
        if room == 0 {
            return false;
        }
        let mut byte = byte;
        match byte {
            b'\n' => {
                if termios.output(ONLRET) {
                    self.column = 0; // LD-140
                }
                if termios.output(ONLCR) {
                    if room < 2 {
                        return false;
                    }
                    self.put(b'\r'); // LD-139
                    self.column = 0;
                }
                self.canonical_column = self.column;
            }
            b'\r' => {
                if termios.output(ONOCR) && self.column == 0 {
                    return true; // LD-142
                }
                if termios.output(OCRNL) {
                    byte = b'\n'; // LD-141
                    if termios.output(ONLRET) {
                        self.column = 0;
                        self.canonical_column = 0;
                    }
                } else {
                    self.column = 0;
                    self.canonical_column = 0;
                }
            }
            b'\t' => {
                let spaces = 8 - self.column % 8;
                if termios.oflag & TABDLY == XTABS {
                    if room < spaces as usize {
                        return false;
                    }
                    self.bytes.extend(core::iter::repeat_n(b' ', spaces as usize)); // LD-144
                    self.column += spaces;
                    return true;
                }
                self.column += spaces;
            }
            0x08 => self.column = self.column.saturating_sub(1),
            _ if latin1::is_control(byte) => {}
            _ => {
                if termios.output(OLCUC) {
                    byte = latin1::to_upper(byte); // LD-143
                }
                self.advance(byte, termios); // LD-145
            }
        }
        self.put(byte);
        true
    }

    /// Writes the bytes at the start of `bytes` that processing does not change, and returns their
    /// number (`process_output_block`).
    pub fn put_unchanged(&mut self, bytes: &[u8], termios: &Termios) -> usize {
        let mut len = 0;
        for &byte in bytes {
            match byte {
                b'\n' if termios.output(ONLCR) => break,
                b'\n' => {
                    if termios.output(ONLRET) {
                        self.column = 0;
                    }
                    self.canonical_column = self.column;
                }
                b'\r' if termios.output(OCRNL) => break,
                b'\r' if termios.output(ONOCR) && self.column == 0 => break,
                b'\r' => {
                    self.column = 0;
                    self.canonical_column = 0;
                }
                b'\t' => break,
                0x08 => self.column = self.column.saturating_sub(1),
                _ if latin1::is_control(byte) => {}
                _ if termios.output(OLCUC) => break,
                _ => self.advance(byte, termios),
            }
            len += 1;
        }
        self.bytes.extend(&bytes[..len]);
        len
    }

    /// Writes the echoes for which there is room in an output of `limit` bytes
    /// (`__process_echoes`).
    pub fn put_echoes(&mut self, ring: &mut EchoRing, termios: &Termios, limit: usize) {
        while let Some((echo, len)) = ring.first() {
            let room = limit.saturating_sub(self.bytes.len());
            if !self.put_echo(echo, termios, room) {
                break;
            }
            ring.remove(len);
        }
        ring.discard();
    }

    fn put_echo(&mut self, echo: Echo, termios: &Termios, room: usize) -> bool {
        match echo {
            Echo::EraseTab { columns, is_after_tab } => {
                let start = if is_after_tab { 0 } else { self.canonical_column };
                let count = 8 - (u32::from(columns) + start) % 8; // LD-63
                if room < count as usize {
                    return false;
                }
                self.bytes.extend(core::iter::repeat_n(0x08, count as usize));
                self.column = self.column.saturating_sub(count);
            }
            Echo::SetCanonicalColumn => self.canonical_column = self.column,
            Echo::MoveBackColumn => self.column = self.column.saturating_sub(1),
            Echo::Unprocessed if room == 0 => return false,
            Echo::Unprocessed => {
                self.put(0xff); // LD-78
                self.column += 1;
            }
            Echo::Control(_) if room < 2 => return false,
            Echo::Control(byte) => {
                self.put(b'^');
                self.put(byte ^ 0x40);
                self.column += 2; // LD-57
            }
            Echo::Byte(byte) if termios.output(OPOST) => {
                return self.put_processed(byte, termios, room);
            }
            Echo::Byte(_) if room == 0 => return false,
            Echo::Byte(byte) => self.put(byte), // LD-148
        }
        true
    }
}
