//! Output line by line.

use std::collections::VecDeque;
use std::fmt;

use super::capture::Capture;
use super::output::{Output, RunError, Stream};

/// A line of output, or a piece of a long one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Line {
    /// The stream of the line.
    pub stream: Stream,
    /// The bytes of the line, in any encoding, without the newline. A carriage return stays.
    pub bytes: Vec<u8>,
    /// Whether a newline follows the bytes. If not, either the line is longer than
    /// [`Pipeline::line_limit`](super::Pipeline::line_limit) and continues in the next `Line` of
    /// the stream, or the stream ends here.
    pub newline: bool,
}

impl Line {
    /// The line as text. Bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.newline { "\\n" } else { "" };
        write!(f, "{:?}: {}{end}", self.stream, self.bytes.escape_ascii())
    }
}

/// Cuts the two streams into lines.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The incomplete line of each stream.
    lines: [Line; 2],
    limit: usize,
}

impl Splitter {
    /// Lines have at most `limit` bytes, and a limit of 0 counts as 1.
    pub fn new(limit: usize) -> Splitter {
        let line = |stream| Line { stream, bytes: Vec::new(), newline: false };
        let lines = [line(Stream::Stdout), line(Stream::Stderr)];
        Splitter { lines, limit: limit.max(1) }
    }

    /// Calls `act` for each line that these bytes complete. An empty slice is the end of the
    /// stream.
    pub fn push(&mut self, stream: Stream, mut bytes: &[u8], act: &mut dyn FnMut(&Line)) {
        let line = &mut self.lines[stream as usize];
        if bytes.is_empty() && !line.bytes.is_empty() {
            line.newline = false;
            act(line);
            line.bytes.clear();
        }
        while !bytes.is_empty() {
            let room = self.limit - line.bytes.len();
            // one byte more than the room: the newline of a full line
            let window = &bytes[..bytes.len().min(room.saturating_add(1))];
            let newline = window.iter().position(|byte| *byte == b'\n');
            let (end, next) = match newline {
                Some(end) => (end, end + 1),
                None => (window.len().min(room), window.len().min(room)),
            };
            line.bytes.extend_from_slice(&bytes[..end]);
            bytes = &bytes[next..];
            // a full line waits for the next byte, as that may be its newline
            if newline.is_some() || !bytes.is_empty() {
                line.newline = newline.is_some();
                act(line);
                line.bytes.clear();
            }
        }
    }
}

/// The lines of a running pipeline: [`Pipeline::lines`](super::Pipeline::lines).
///
/// `next` blocks until there is a line. The iterator reads only then, so a command that writes
/// faster waits. The iterator ends after the commands have ended and all their output is read. The
/// drop of an iterator that has not ended kills the tree.
#[derive(Debug)]
pub struct Lines {
    capture: Capture,
    splitter: Splitter,
    ready: VecDeque<Line>,
    end: Option<Output>,
}

impl Lines {
    pub(super) fn new(capture: Capture, limit: usize) -> Lines {
        Lines { capture, splitter: Splitter::new(limit), ready: VecDeque::new(), end: None }
    }

    /// The running pipeline, with its commands and their numbers.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Drops the lines that are left, and blocks until the pipeline has ended.
    ///
    /// # Errors
    ///
    /// As [`Capture::wait`].
    pub fn finish(mut self) -> Result<Output, RunError> {
        match self.end {
            Some(end) => Ok(end),
            None => self.capture.wait_with(&mut |_, _| {}),
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, RunError>;

    fn next(&mut self) -> Option<Result<Line, RunError>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            if self.end.is_some() || self.capture.is_finished() {
                return None;
            }
            let (splitter, ready) = (&mut self.splitter, &mut self.ready);
            let mut split = |stream, bytes: &[u8]| {
                splitter.push(stream, bytes, &mut |line| ready.push_back(line.clone()));
            };
            match self.capture.wait_once(&mut split) {
                Ok(end) => self.end = end,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines are the same for any sizes of chunks, and lose no byte.
    #[test]
    fn lines_do_not_depend_on_the_chunks() {
        let text = b"a\n\nbcd\nbcde\nbcdef\n\r\n\xff\nefghijklm\n\n1234\nend";
        for limit in 1..12 {
            let split = |size: usize| {
                let (mut splitter, mut lines) = (Splitter::new(limit), Vec::new());
                let mut keep = |line: &Line| lines.push((line.bytes.clone(), line.newline));
                for chunk in text.chunks(size) {
                    splitter.push(Stream::Stdout, chunk, &mut keep);
                }
                splitter.push(Stream::Stdout, &[], &mut keep);
                splitter.push(Stream::Stderr, &[], &mut keep);
                lines
            };
            let whole = split(text.len());
            for size in 1..text.len() {
                assert_eq!(split(size), whole, "{limit} {size}");
            }
            assert!(whole.iter().all(|(bytes, _)| bytes.len() <= limit));
            let join = |(bytes, newline): &(Vec<u8>, bool)| {
                let end: &[u8] = if *newline { b"\n" } else { b"" };
                [bytes, end].concat()
            };
            assert_eq!(whole.iter().flat_map(join).collect::<Vec<u8>>(), text);
        }
    }
}
