//! The thread that types on the terminal of the command what comes on standard input.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use proctable::drivers::linux::{PtyMaster, PtySlave};
use rustix::event::{PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{InputModes, LocalModes, SpecialCodeIndex, Termios, tcgetattr};

use super::pty::{Wakeup, is_readable, wait};
use super::terminal::Terminal;

/// The length of a line from which on it is pushed to its reader: the kernel drops what is beyond
/// 4095 bytes without a newline (LD-124). The rest is room to find a place for that.
const LONG_LINE: usize = 4000;

/// How often it looks, after the end of its input, whether a process has read the end of file.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// What the thread has.
pub(super) struct Input {
    pub pty: Weak<PtyMaster>,
    /// Open as long as the thread is there.
    pub slave: PtySlave,
    pub wakeup: Wakeup,
    pub ends: Arc<AtomicBool>,
    /// Whether standard input is a terminal.
    pub is_terminal: bool,
    /// Tells the main thread that the terminal refuses a read, as this program is in the
    /// background.
    pub refuse: Sender<()>,
    /// Whether it may read: first when the command is there, and again after each refusal.
    pub allowed: Receiver<bool>,
}

/// The thread has to end.
struct Ends;

impl Input {
    pub fn run(self) {
        // the end was requested: there is nothing to do about it
        let _ = self.pass_on();
    }

    fn pass_on(&self) -> Result<(), Ends> {
        // ^C before the command has the terminal would reach no process, and flush the input
        if self.allowed.recv() != Ok(true) {
            return Err(Ends);
        }
        let (mut buffer, mut line) = ([0; 4096], 0);
        loop {
            self.wait((io::stdin(), PollFlags::IN), None)?;
            match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(0) => break,
                Ok(count) => self.type_all(&buffer[..count], &mut line)?,
                Err(Errno::AGAIN | Errno::INTR) => {}
                // signals are blocked: the kernel sends no SIGTTIN for this read
                Err(Errno::IO) if self.is_terminal && Terminal::is_background_of_stdin() => {
                    let _ = self.refuse.send(());
                    if self.allowed.recv() != Ok(true) {
                        break;
                    }
                }
                // the terminal has hung up
                Err(_) => break,
            }
        }
        self.stay_at_end()
    }

    /// Waits until a descriptor is ready, or for some time.
    fn wait(
        &self,
        ready: (impl std::os::fd::AsFd, PollFlags),
        time: Option<Duration>,
    ) -> Result<(), Ends> {
        let time = time.map(|time| Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() });
        wait(ready, &self.wakeup, time);
        if self.ends.load(Ordering::Acquire) { Err(Ends) } else { Ok(()) }
    }

    /// The modes of the terminal, if it is canonical.
    fn canonical(&self) -> Result<Option<Termios>, Ends> {
        // EIO: it has hung up
        let modes = tcgetattr(&self.slave).map_err(|_| Ends)?;
        Ok(Some(modes).filter(|modes| modes.local_modes.contains(LocalModes::ICANON)))
    }

    /// Types bytes. `line` is the length of the unfinished line.
    ///
    /// A user cannot type a line of more than 4095 bytes, but a pipe has such lines. The character
    /// VEOF pushes the part that is there to its reader (LD-37), so that none of it is lost.
    fn type_all(&self, mut bytes: &[u8], line: &mut usize) -> Result<(), Ends> {
        while !bytes.is_empty() {
            let mut count = bytes.len();
            let modes = if self.is_terminal { None } else { self.canonical()? };
            let push = match &modes {
                None => {
                    *line = 0;
                    None
                }
                Some(modes) => place_to_push(modes, bytes, line),
            };
            if let Some(place) = push {
                count = place;
            }
            self.write(&bytes[..count])?;
            if let (Some(_), Some(modes)) = (push, &modes) {
                self.write(&[modes.special_codes[SpecialCodeIndex::VEOF]])?;
            }
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Writes to the master. It waits where the command does not read, and its terminal is full.
    fn write(&self, mut bytes: &[u8]) -> Result<(), Ends> {
        let pty = self.pty.upgrade().ok_or(Ends)?;
        while !bytes.is_empty() {
            match rustix::io::write(&*pty, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait((&*pty, PollFlags::OUT), None)?,
                Err(_) => return Err(Ends),
            }
        }
        Ok(())
    }

    /// Standard input has ended: each process that reads the terminal reads an end of file, as it
    /// would from the file itself. VEOF is one end of file for one read (LD-37), so the next one is
    /// typed when the last one was read. In a terminal that is not canonical it is a character as
    /// others, and is not typed.
    ///
    /// No call waits until a process has read. So this looks at times that become longer.
    fn stay_at_end(&self) -> Result<(), Ends> {
        let mut pause = FIRST_LOOK;
        loop {
            let modes = self.canonical()?.filter(|_| !is_readable(&self.slave));
            let end = modes.map(|modes| modes.special_codes[SpecialCodeIndex::VEOF]);
            // 0 is _POSIX_VDISABLE: there is no such character
            if let Some(end) = end.filter(|end| *end != 0) {
                self.write(&[end])?;
                pause = FIRST_LOOK;
            }
            self.wait((&self.wakeup, PollFlags::IN), Some(pause))?;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }
}

/// Where a long line has to be pushed: after a byte that is no special character, as VEOF after
/// nothing is an end of file.
fn place_to_push(modes: &Termios, bytes: &[u8], line: &mut usize) -> Option<usize> {
    let codes = &modes.special_codes;
    let ends = [SpecialCodeIndex::VEOF, SpecialCodeIndex::VEOL, SpecialCodeIndex::VEOL2];
    let ends = ends.map(|index| codes[index]).map(|code| Some(code).filter(|code| *code != 0));
    let special = [
        SpecialCodeIndex::VERASE,
        SpecialCodeIndex::VKILL,
        SpecialCodeIndex::VWERASE,
        SpecialCodeIndex::VLNEXT,
        SpecialCodeIndex::VINTR,
        SpecialCodeIndex::VQUIT,
        SpecialCodeIndex::VSUSP,
        SpecialCodeIndex::VREPRINT,
        SpecialCodeIndex::VSTART,
        SpecialCodeIndex::VSTOP,
    ]
    .map(|index| codes[index]);
    for (place, byte) in bytes.iter().enumerate() {
        let is_return = *byte == b'\r' && modes.input_modes.contains(InputModes::ICRNL);
        if *byte == b'\n' || is_return || ends.contains(&Some(*byte)) {
            *line = 0;
            continue;
        }
        *line += 1;
        if *line >= LONG_LINE && *byte >= b' ' && !special.contains(byte) {
            *line = 0;
            return Some(place + 1);
        }
    }
    None
}
