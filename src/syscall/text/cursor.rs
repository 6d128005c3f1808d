//! A position in a text, and the readers of the simplest values.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::abi::{SigSet, Signal};
use crate::syscall::Ptr;

use super::Fault;
use super::names::{Flags, Names};

pub(super) type Result<T> = core::result::Result<T, Fault>;

/// The text at the place where a call stores a value: the value, or the pointer.
pub(super) enum Out<T> {
    Pointer(Ptr),
    Stored(T),
}

impl<T> Out<T> {
    /// The pointer, and the value.
    pub(super) fn split(self) -> (Ptr, Option<T>) {
        match self {
            Out::Pointer(ptr) => (ptr, None),
            Out::Stored(value) => (Ptr::Valid, Some(value)),
        }
    }
}

/// A position in a text. `at` is always on a character's border.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        // `at` moves only over whole characters that were read
        self.text.get(self.at..).unwrap_or("")
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Whether only blanks are left.
    pub(super) fn at_end(&mut self) -> bool {
        self.blanks();
        self.at >= self.text.len()
    }

    pub(super) fn fail<T>(&self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        Err(Fault::Syntax { at: self.at, what: what.into() })
    }

    /// Skips blanks and comments.
    pub(super) fn blanks(&mut self) {
        loop {
            while self.peek() == Some(b' ') {
                self.at += 1;
            }
            if !self.rest().starts_with("/*") {
                return;
            }
            let end = self.rest().find("*/").map(|end| end + 2);
            self.at += end.unwrap_or(self.rest().len());
        }
    }

    /// Skips `token` if it comes next.
    pub(super) fn accept(&mut self, token: &str) -> bool {
        self.blanks();
        let here = self.rest().starts_with(token);
        if here {
            self.at += token.len();
        }
        here
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<()> {
        if self.accept(token) { Ok(()) } else { self.fail(format!("expected `{token}`")) }
    }

    pub(super) fn comma(&mut self) -> Result<()> {
        self.expect(",")
    }

    /// A name: letters, digits and `_`; empty if there is none.
    pub(super) fn word(&mut self) -> &'a str {
        self.blanks();
        let rest = self.rest();
        let end = rest.bytes().position(|b| !b.is_ascii_alphanumeric() && b != b'_');
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or("");
        self.at += word.len();
        word
    }

    fn number_follows(&mut self) -> bool {
        self.blanks();
        self.peek().is_some_and(|b| b.is_ascii_digit() || b == b'-')
    }

    /// A number as C writes it: decimal, 0x hexadecimal, 0 octal.
    pub(super) fn number(&mut self) -> Result<i128> {
        self.blanks();
        let start = self.at;
        let negative = self.accept("-");
        let word = self.word();
        let (digits, radix) = match word.strip_prefix("0x") {
            Some(hexadecimal) => (hexadecimal, 16),
            None if word.starts_with('0') => (word, 8),
            None => (word, 10),
        };
        // a longer text is no number of 64 bits, whatever its leading zeroes
        let parsed = (digits.len() <= 24).then(|| u64::from_str_radix(digits, radix).ok());
        match parsed.flatten() {
            Some(number) if negative => Ok(-i128::from(number)),
            Some(number) => Ok(i128::from(number)),
            None => {
                self.at = start;
                self.fail("expected a number")
            }
        }
    }

    fn ranged<T>(&mut self, what: &'static str, fit: impl FnOnce(i128) -> Option<T>) -> Result<T> {
        self.blanks();
        let start = self.at;
        match fit(self.number()?) {
            Some(value) => Ok(value),
            None => {
                self.at = start;
                self.fail(what)
            }
        }
    }

    /// 32 bits, with or without a sign.
    pub(super) fn i32(&mut self) -> Result<i32> {
        self.ranged("expected a number of 32 bits", |n| match i32::try_from(n) {
            Ok(n) => Some(n),
            Err(_) => u32::try_from(n).ok().map(|n| n as i32),
        })
    }

    /// 32 bits, with or without a sign.
    pub(super) fn u32(&mut self) -> Result<u32> {
        self.i32().map(|n| n as u32)
    }

    /// 64 bits, with or without a sign.
    pub(super) fn i64(&mut self) -> Result<i64> {
        self.ranged("expected a number of 64 bits", |n| match i64::try_from(n) {
            Ok(n) => Some(n),
            Err(_) => u64::try_from(n).ok().map(|n| n as i64),
        })
    }

    /// 64 bits, with or without a sign.
    pub(super) fn u64(&mut self) -> Result<u64> {
        self.i64().map(|n| n as u64)
    }

    pub(super) fn usize(&mut self) -> Result<usize> {
        self.ranged("expected a size", |n| usize::try_from(n).ok())
    }

    pub(super) fn pointer(&mut self) -> Result<Ptr> {
        if self.accept("NULL") {
            return Ok(Ptr::Null);
        }
        if !self.number_follows() {
            return self.fail("expected an address or NULL");
        }
        Ok(match self.u64()? {
            0 => Ptr::Null,
            1 => Ptr::Bad,
            _ => Ptr::Valid,
        })
    }

    /// An address, as a number.
    pub(super) fn address(&mut self) -> Result<u64> {
        if self.accept("NULL") { Ok(0) } else { self.u64() }
    }

    /// A value that a call stores, or the pointer to it.
    pub(super) fn out<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Out<T>> {
        if self.number_follows() || self.peek() == Some(b'N') {
            return self.pointer().map(Out::Pointer);
        }
        read(self).map(Out::Stored)
    }

    /// A value that a call reads, or NULL. An address does not say which value is there.
    pub(super) fn input<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.out(read)? {
            Out::Stored(value) => Ok(Some(value)),
            Out::Pointer(Ptr::Null) => Ok(None),
            Out::Pointer(_) => Err(Fault::Unmodelled),
        }
    }

    /// As [`Cursor::input`], where NULL does not say the value either.
    pub(super) fn needed<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.input(read)?.ok_or(Fault::Unmodelled)
    }

    /// A value between brackets.
    pub(super) fn bracketed<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.expect("[")?;
        let value = read(self)?;
        self.expect("]")?;
        Ok(value)
    }

    /// The number or name of a signal, or 0.
    pub(super) fn signal(&mut self) -> Result<i32> {
        if self.number_follows() {
            return self.i32();
        }
        let start = self.at;
        match super::signal(self.word()) {
            Some(signal) => Ok(i32::from(signal.number())),
            None => {
                self.at = start;
                self.fail("expected a signal")
            }
        }
    }

    /// A set of signals: `[INT TERM]`, `~[KILL]`.
    pub(super) fn sigset(&mut self) -> Result<SigSet> {
        let inverted = self.accept("~");
        self.expect("[")?;
        let mut set = SigSet::EMPTY;
        while !self.accept("]") {
            let start = self.at;
            let Some(signal) = Signal::from_name(self.word()) else {
                self.at = start;
                return self.fail("expected a signal or `]`");
            };
            set = set.with(signal);
        }
        Ok(if inverted { !set } else { set })
    }

    /// A value of an enumeration, by its name or number.
    pub(super) fn named(&mut self, table: &Names) -> Result<u32> {
        if self.number_follows() {
            return self.u32();
        }
        let start = self.at;
        let word = self.word();
        match table.names.iter().position(|name| *name == word) {
            Some(nth) => Ok(nth as u32),
            None => {
                self.at = start;
                self.fail(format!("expected one of {}", table.names.join(", ")))
            }
        }
    }

    /// Flags, by names and numbers, with `|` between them. `other` has further names.
    pub(super) fn flags(
        &mut self,
        table: &Flags,
        other: impl Fn(&str) -> Option<u64>,
    ) -> Result<u64> {
        let mut flags = 0;
        loop {
            flags |= self.flag(table, &other)?;
            if !self.accept("|") {
                return Ok(flags);
            }
        }
    }

    fn flag(&mut self, table: &Flags, other: impl Fn(&str) -> Option<u64>) -> Result<u64> {
        if self.number_follows() {
            return self.u64();
        }
        let start = self.at;
        let word = self.word();
        let known = table.names.iter().chain(table.aliases).find(|(_, name)| *name == word);
        match known.map(|(bit, _)| *bit).or_else(|| other(word)) {
            Some(bit) => Ok(bit),
            None => {
                self.at = start;
                self.fail("expected flags")
            }
        }
    }

    /// A string in C's notation.
    pub(super) fn string(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        Ok(match String::from_utf8(bytes) {
            Ok(string) => string,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// The bytes of a string in C's notation.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>> {
        self.expect("\"")?;
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                None => return self.fail("expected `\"`"),
                Some(b'"') => break,
                Some(b'\\') => bytes.push(self.escape()?),
                Some(byte) => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        // strace marks a string that it has cut
        self.accept("...");
        Ok(bytes)
    }

    fn escape(&mut self) -> Result<u8> {
        let rest = self.text.as_bytes().get(self.at + 1..).unwrap_or(&[]);
        let octal = rest.iter().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
        let (byte, length) = match rest.first() {
            _ if octal > 0 => {
                let value = rest.iter().take(octal).fold(0, |n, b| n * 8 + u32::from(b - b'0'));
                (value as u8, octal)
            }
            Some(b'x') => match self.text.get(self.at + 2..self.at + 4) {
                Some(digits) => match u8::from_str_radix(digits, 16) {
                    Ok(byte) => (byte, 3),
                    Err(_) => return self.fail("expected two hexadecimal digits"),
                },
                None => return self.fail("expected two hexadecimal digits"),
            },
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'r') => (b'\r', 1),
            Some(b'v') => (0x0b, 1),
            Some(b'f') => (0x0c, 1),
            Some(byte @ (b'"' | b'\\')) => (*byte, 1),
            _ => return self.fail("expected an escape of C"),
        };
        self.at += 1 + length;
        Ok(byte)
    }

    /// Skips to the end of the argument: a comma or a closing bracket, outside of strings and
    /// inner brackets.
    pub(super) fn skip_argument(&mut self) -> Result<()> {
        self.skip_until(|byte| byte == b',')
    }

    /// Skips to the parenthesis that ends the arguments.
    pub(super) fn skip_arguments(&mut self) -> Result<()> {
        self.skip_until(|_| false)
    }

    fn skip_until(&mut self, stop: impl Fn(u8) -> bool) -> Result<()> {
        let mut depth = 0_usize;
        loop {
            self.blanks();
            match self.peek() {
                None => return Ok(()),
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'(' | b'[' | b'{') => depth += 1,
                Some(b')' | b']' | b'}') if depth == 0 => return Ok(()),
                Some(b')' | b']' | b'}') => depth -= 1,
                Some(byte) if depth == 0 && stop(byte) => return Ok(()),
                Some(_) => {}
            }
            self.at += self.rest().chars().next().map_or(1, char::len_utf8);
        }
    }

    /// The rest of the text.
    pub(super) fn remainder(&mut self) -> &'a str {
        let rest = self.rest();
        self.at = self.text.len();
        rest
    }

    /// Moves the position back, to report an error at the beginning of a value.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
    }
}

impl Cursor<'_> {
    /// A signal by its name; `None` if a number follows instead.
    pub(super) fn peek_signal(&mut self) -> Result<Option<u8>> {
        if self.number_follows() {
            return Ok(None);
        }
        // a name is a signal from 1 to 64
        self.signal().map(|signal| Some(signal as u8))
    }

    /// As [`Cursor::named`], for a value of 64 bits.
    pub(super) fn wide(&mut self, table: &Names) -> Result<u64> {
        if self.number_follows() { self.u64() } else { self.named(table).map(u64::from) }
    }
}
