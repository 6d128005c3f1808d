//! The thread that types on the terminal of the command what comes on standard input.

use std::io;
use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use proctable::drivers::linux::{PtyMaster, PtySlave};
use rustix::event::{PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{InputModes, LocalModes, SpecialCodeIndex, Termios, tcgetattr};

use super::pty::{EventFd, is_readable, wait};
use super::terminal::{JobPlace, Terminal};

/// The length of a line from which on it is pushed to its reader: the kernel drops what is beyond
/// 4095 bytes without a newline (LD-124).
const LONG_LINE: usize = 4000;

/// How often it looks, after the end of its input, whether a process has read the end of file; and
/// at last, whether a terminal that was full has room.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// What the thread has.
pub(super) struct Input {
    pub pty: Weak<PtyMaster>,
    /// Open as long as the thread is there, except after a vhangup(2).
    pub slave: PtySlave,
    /// Ready when the thread has to end.
    pub end: EventFd,
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

/// Whether a read of standard input failed with EIO as this program was in the background. It may
/// be in the foreground by now. The other reason is a terminal that has hung up, where each other
/// call fails, too; or a master whose terminal no process has open (LD-180).
fn is_job_control() -> bool {
    tcgetattr(io::stdin()).is_ok() && Terminal::place_on_stdin() != JobPlace::NotControlling
}

impl Input {
    pub fn run(mut self) {
        // the end was requested: there is nothing to do about it
        let _ = self.pass_on();
    }

    fn pass_on(&mut self) -> Result<(), Ends> {
        // ^C before the command has the terminal would reach no process, and flush the input
        if self.allowed.recv() != Ok(true) {
            return Err(Ends);
        }
        let (mut buffer, mut line) = ([0; 4096], Line::default());
        loop {
            self.wait((io::stdin(), PollFlags::IN), None)?;
            match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(0) => break,
                Ok(count) => self.type_all(&buffer[..count], &mut line)?,
                Err(Errno::AGAIN | Errno::INTR) => {}
                // signals are blocked: the kernel sends no SIGTTIN for this read
                Err(Errno::IO) if self.is_terminal && is_job_control() => {
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
        let (_, is_ended) = wait(ready, &self.end, time);
        if is_ended { Err(Ends) } else { Ok(()) }
    }

    /// The modes of the terminal, if it is canonical. The master has those of its slave (LD-05),
    /// also when vhangup(2) has cut off each descriptor of the slave.
    fn canonical(&self) -> Result<Option<Termios>, Ends> {
        let pty = self.pty.upgrade().ok_or(Ends)?;
        let modes = tcgetattr(&*pty).map_err(|_| Ends)?;
        Ok(Some(modes).filter(|modes| modes.local_modes.contains(LocalModes::ICANON)))
    }

    /// Whether a process could read something from the terminal now.
    fn is_slave_readable(&mut self) -> Result<bool, Ends> {
        // the command has called vhangup(2): the poll of this descriptor says yes for ever
        if tcgetattr(&self.slave).is_err() {
            let pty = self.pty.upgrade().ok_or(Ends)?;
            match pty.slave() {
                Ok(slave) => self.slave = slave,
                // it is tried again
                Err(_) => return Ok(true),
            }
        }
        Ok(is_readable(&self.slave))
    }

    /// Types bytes. `line` is the unfinished line.
    ///
    /// A user cannot type a line of more than 4095 bytes, but a pipe has such lines. The character
    /// VEOF pushes the part that is there to its reader (LD-37), so that none of it is lost.
    fn type_all(&self, mut bytes: &[u8], line: &mut Line) -> Result<(), Ends> {
        while !bytes.is_empty() {
            let mut count = bytes.len();
            let modes = if self.is_terminal { None } else { self.canonical()? };
            let push = match &modes {
                None => {
                    *line = Line::default();
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
                // the kernel says that there is room again when a process has read, and not when
                // the terminal has only erased what it held
                Err(Errno::AGAIN) => self.wait((&*pty, PollFlags::OUT), Some(LAST_LOOK))?,
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
    fn stay_at_end(&mut self) -> Result<(), Ends> {
        let mut pause = FIRST_LOOK;
        loop {
            let is_read = !self.is_slave_readable()?;
            let modes = self.canonical()?.filter(|_| is_read);
            let end = modes.map(|modes| modes.special_codes[SpecialCodeIndex::VEOF]);
            // 0 is _POSIX_VDISABLE: there is no such character
            if let Some(end) = end.filter(|end| *end != 0) {
                self.write(&[end])?;
                pause = FIRST_LOOK;
            }
            self.wait((&self.end, PollFlags::IN), Some(pause))?;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }
}

/// What the terminal holds of a line that has no end yet.
#[derive(Default)]
struct Line {
    /// Its length, or more: some erasures are not counted.
    length: usize,
    /// The last byte was VLNEXT, which makes the next one an ordinary character.
    is_quoted: bool,
}

/// What the terminal does with a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It is held, as so many bytes.
    Held(usize),
    /// It ends the line.
    EndsLine,
    /// It is not held, and erases one character.
    Erases,
    /// It is not held, and erases the line.
    EraseLine,
    /// It is not held, and the next byte is.
    Quotes,
    /// It is not held.
    Acts,
}

/// What a canonical terminal does with a byte: as n_tty_receive_char_special of the kernel does,
/// which tests the flags of a character each time. A code of 0 is _POSIX_VDISABLE.
fn class(modes: &Termios, byte: u8) -> Class {
    let (input, local) = (modes.input_modes, modes.local_modes);
    let is_extended = local.contains(LocalModes::IEXTEN);
    let byte = if input.contains(InputModes::ISTRIP) { byte & 0x7f } else { byte };
    let is = |index: SpecialCodeIndex| byte != 0 && byte == modes.special_codes[index];
    let is_one = |indices: &[SpecialCodeIndex]| indices.iter().any(|index| is(*index));
    let [flow, signals] = [
        &[SpecialCodeIndex::VSTART, SpecialCodeIndex::VSTOP][..],
        &[SpecialCodeIndex::VINTR, SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP],
    ];
    if input.contains(InputModes::IXON) && is_one(flow)
        || local.contains(LocalModes::ISIG) && is_one(signals)
    {
        return Class::Acts;
    }
    let byte = match byte {
        b'\r' if input.contains(InputModes::IGNCR) => return Class::Acts,
        b'\r' if input.contains(InputModes::ICRNL) => b'\n',
        b'\n' if input.contains(InputModes::INLCR) => b'\r',
        byte => byte,
    };
    let is = |index: SpecialCodeIndex| byte != 0 && byte == modes.special_codes[index];
    match byte {
        _ if is(SpecialCodeIndex::VERASE) => Class::Erases,
        _ if is(SpecialCodeIndex::VKILL) => Class::EraseLine,
        _ if is_extended && is(SpecialCodeIndex::VWERASE) => Class::Acts,
        _ if is_extended && is(SpecialCodeIndex::VLNEXT) => Class::Quotes,
        _ if is_extended && local.contains(LocalModes::ECHO) && is(SpecialCodeIndex::VREPRINT) => {
            Class::Acts
        }
        b'\n' => Class::EndsLine,
        _ if is(SpecialCodeIndex::VEOF) || is(SpecialCodeIndex::VEOL) => Class::EndsLine,
        _ if is_extended && is(SpecialCodeIndex::VEOL2) => Class::EndsLine,
        // it is marked by a second one
        0xff if input.contains(InputModes::PARMRK) => Class::Held(2),
        _ => Class::Held(1),
    }
}

/// Where a long line has to be pushed: after a byte that the terminal holds, as VEOF after nothing
/// is an end of file.
fn place_to_push(modes: &Termios, bytes: &[u8], line: &mut Line) -> Option<usize> {
    // without VEOF nothing can push
    let has_push = modes.special_codes[SpecialCodeIndex::VEOF] != 0;
    for (place, byte) in bytes.iter().enumerate() {
        let class = match std::mem::take(&mut line.is_quoted) {
            true => Class::Held(if *byte == 0xff { 2 } else { 1 }),
            false => class(modes, *byte),
        };
        match class {
            Class::Held(count) => {
                line.length += count;
                if line.length >= LONG_LINE && has_push {
                    line.length = 0;
                    return Some(place + 1);
                }
            }
            Class::EndsLine | Class::EraseLine => line.length = 0,
            Class::Erases => line.length = line.length.saturating_sub(1),
            Class::Quotes => line.is_quoted = true,
            Class::Acts => {}
        }
    }
    None
}
