//! Calls on terminals. A descriptor is printed with a path, as `strace -y` does, and read with one
//! only: the model has no other files.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter};

use super::cursor::{Cursor, Result};
use super::parse::{Finished, Value, close, end, first, number, result, zero};
use super::print::{Quoted, Set, VALID};
use super::{Fault, names};
use crate::syscall::{PollFile, Ret, Syscall, TerminalPath, TerminalRequest};
use crate::tty::{FlowAction, PollFlags, Queue, SetTermios, Termios, Winsize};

/// A descriptor.
struct Descriptor(u32);

impl Display for Descriptor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}</dev/tty>", self.0)
    }
}

fn descriptor(c: &mut Cursor<'_>) -> Result<u32> {
    let file = c.u32()?;
    let is_terminal = ["</dev/tty", "</dev/pts/", "</dev/ptmx"].iter().any(|path| c.accept(path));
    if !is_terminal {
        return Err(Fault::Unmodelled);
    }
    while !c.accept(">") {
        if c.word().is_empty() && !["<", " ", ":", "/"].iter().any(|part| c.accept(part)) {
            return c.fail("expected `>`");
        }
    }
    Ok(file)
}

impl Display for TerminalPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            TerminalPath::Ptmx => f.write_str("/dev/ptmx"),
            TerminalPath::Pts(number) => write!(f, "/dev/pts/{number}"),
            TerminalPath::Tty => f.write_str("/dev/tty"),
        }
    }
}

pub(super) struct Open;

impl Open {
    pub(super) fn head(f: &mut Formatter<'_>, path: &TerminalPath, flags: &u32) -> fmt::Result {
        write!(f, "\"{path}\", {}", names::ACCESS_MODES[(flags & 3) as usize])?;
        match u64::from(flags & !3) {
            0 => Ok(()),
            flags => write!(f, "|{}", Set(&names::OPEN, flags)),
        }
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &TerminalPath,
        _: &u32,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let path = match c.string()?.as_str() {
            "/dev/ptmx" => TerminalPath::Ptmx,
            "/dev/tty" => TerminalPath::Tty,
            path => {
                let number = path.strip_prefix("/dev/pts/").and_then(|number| number.parse().ok());
                TerminalPath::Pts(number.ok_or(Fault::Unmodelled)?)
            }
        };
        c.comma()?;
        let mode = |name: &str| {
            let nth = names::ACCESS_MODES.iter().position(|mode| *mode == name);
            nth.map(|nth| nth as u64)
        };
        let flags = c.flags(&names::OPEN, mode)? as u32;
        Ok(Syscall::Open { path, flags })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, path: TerminalPath, flags: u32) -> Finished {
        number(c, Syscall::Open { path, flags })
    }
}

pub(super) struct Close;

impl Close {
    pub(super) fn head(f: &mut Formatter<'_>, file: &u32) -> fmt::Result {
        Descriptor(*file).fmt(f)
    }

    pub(super) fn tail(_: &mut Formatter<'_>, _: Option<&Ret>, _: &u32) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        Ok(Syscall::Close(descriptor(c)?))
    }

    pub(super) fn finish(c: &mut Cursor<'_>, file: u32) -> Finished {
        number(c, Syscall::Close(file))
    }
}

pub(super) struct Read;

impl Read {
    pub(super) fn head(f: &mut Formatter<'_>, file: &u32) -> fmt::Result {
        write!(f, "{}, ", Descriptor(*file))
    }

    pub(super) fn tail(
        f: &mut Formatter<'_>,
        ret: Option<&Ret>,
        _: &u32,
        len: &usize,
    ) -> fmt::Result {
        match ret {
            Some(Ret::Bytes(bytes)) => write!(f, "{}, {len}", Quoted(bytes)),
            _ => write!(f, "{VALID}, {len}"),
        }
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let file = first(c, descriptor)?;
        Ok(Syscall::Read { file, len: 0 })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, file: u32) -> Finished {
        let (_, bytes) = first(c, |c| c.out(Cursor::bytes))?.split();
        let len = c.usize()?;
        let ret = |_| bytes.map(|bytes| Ret::Bytes(bytes.into()));
        Ok((Syscall::Read { file, len }, close(c)?.outcome(c, ret)?))
    }
}

pub(super) struct Write;

impl Write {
    pub(super) fn head(f: &mut Formatter<'_>, file: &u32, bytes: &Arc<[u8]>) -> fmt::Result {
        write!(f, "{}, {}, {}", Descriptor(*file), Quoted(bytes), bytes.len())
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &u32,
        _: &Arc<[u8]>,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let file = first(c, descriptor)?;
        let bytes = first(c, Cursor::bytes)?;
        // a string that strace has cut does not say what was written
        if c.usize()? != bytes.len() {
            return Err(Fault::Unmodelled);
        }
        Ok(Syscall::Write { file, bytes: bytes.into() })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, file: u32, bytes: Arc<[u8]>) -> Finished {
        number(c, Syscall::Write { file, bytes })
    }
}

pub(super) struct Poll;

/// The files of poll(2).
struct Polled<'a>(&'a [PollFile]);

impl Display for Polled<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (nth, PollFile { file, events }) in self.0.iter().enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            let events = Set(&names::POLL, events.0.into());
            write!(f, "{comma}{{fd={}, events={events}}}", Descriptor(*file))?;
        }
        f.write_str("]")
    }
}

/// What is ready, as strace prints it after the number.
pub(super) struct Ready<'a>(pub(super) &'a [PollFile], pub(super) &'a [PollFlags]);

impl Display for Ready<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let files = self.0.iter().zip(self.1).filter(|(_, ready)| ready.0 != 0);
        for (nth, (of, ready)) in files.enumerate() {
            let before = if nth > 0 { ", " } else { "([" };
            let ready = Set(&names::POLL, ready.0.into());
            write!(f, "{before}{{fd={}, revents={ready}}}", Descriptor(of.file))?;
        }
        f.write_str(if self.1.iter().any(|ready| ready.0 != 0) { "])" } else { "(Timeout)" })
    }
}

/// A file of poll(2), with the events of that name.
fn poll_file(c: &mut Cursor<'_>, name: &str) -> Result<PollFile> {
    c.expect("{")?;
    c.expect("fd")?;
    c.expect("=")?;
    let file = first(c, descriptor)?;
    c.expect(name)?;
    c.expect("=")?;
    let events = PollFlags(c.flags(&names::POLL, |_| None)? as u16);
    c.expect("}")?;
    Ok(PollFile { file, events })
}

/// A list of such files.
fn poll_files(c: &mut Cursor<'_>, name: &str) -> Result<Vec<PollFile>> {
    let mut files = Vec::new();
    c.expect("[")?;
    while !c.accept("]") {
        if !files.is_empty() {
            c.comma()?;
        }
        files.push(poll_file(c, name)?);
    }
    Ok(files)
}

impl Poll {
    pub(super) fn head(
        f: &mut Formatter<'_>,
        files: &Arc<[PollFile]>,
        timeout: &i32,
    ) -> fmt::Result {
        write!(f, "{}, {}, {timeout}", Polled(files), files.len())
    }

    pub(super) fn tail(
        _: &mut Formatter<'_>,
        _: Option<&Ret>,
        _: &Arc<[PollFile]>,
        _: &i32,
    ) -> fmt::Result {
        Ok(())
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let files = first(c, |c| poll_files(c, "events"))?;
        if first(c, Cursor::usize)? != files.len() {
            return Err(Fault::Unmodelled);
        }
        Ok(Syscall::Poll { files: files.into(), timeout: c.i32()? })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, files: Arc<[PollFile]>, timeout: i32) -> Finished {
        c.expect(")")?;
        c.expect("=")?;
        let mut ready: Vec<PollFlags> = files.iter().map(|_| PollFlags::NONE).collect();
        let value = result(c)?;
        if let Value::Number(1..) = value {
            c.expect("(")?;
            // the files come in the order of the call, which may name one twice
            let mut nth = 0;
            for shown in poll_files(c, "revents")? {
                let of = files.iter().skip(nth).position(|of| of.file == shown.file);
                let Some(place) = of else { return c.fail("expected a file of the call") };
                ready[nth + place] = shown.events;
                nth += place + 1;
            }
            c.expect(")")?;
        }
        let count = ready.iter().filter(|ready| ready.0 != 0).count() as i64;
        let ret = |number| (number == count).then(|| Ret::Polled(ready.into()));
        let outcome = end(c, value)?.outcome(c, ret)?;
        Ok((Syscall::Poll { files, timeout }, outcome))
    }
}

pub(super) struct Ioctl;

/// A structure of settings.
struct Settings<'a>(&'a Termios);

impl Display for Settings<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Termios { iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed } = self.0;
        write!(f, "{{c_iflag={iflag:#x}, c_oflag={oflag:#x}, c_cflag={cflag:#x}, ")?;
        write!(f, "c_lflag={lflag:#x}, c_line={line}, c_cc={}, ", Quoted(cc))?;
        write!(f, "c_ispeed={ispeed}, c_ospeed={ospeed}}}")
    }
}

fn settings(c: &mut Cursor<'_>) -> Result<Termios> {
    let field = |c: &mut Cursor<'_>, name: &str| {
        c.expect(name)?;
        c.expect("=")
    };
    c.expect("{")?;
    let mut flags = [0; 4];
    for (flag, name) in flags.iter_mut().zip(["c_iflag", "c_oflag", "c_cflag", "c_lflag"]) {
        field(c, name)?;
        *flag = first(c, Cursor::u32)?;
    }
    field(c, "c_line")?;
    let line = first(c, Cursor::u32)? as u8;
    field(c, "c_cc")?;
    let Ok(cc) = <[u8; 19]>::try_from(c.bytes()?) else {
        return c.fail("expected 19 characters before this place");
    };
    c.comma()?;
    field(c, "c_ispeed")?;
    let ispeed = first(c, Cursor::u32)?;
    field(c, "c_ospeed")?;
    let ospeed = c.u32()?;
    c.expect("}")?;
    let [iflag, oflag, cflag, lflag] = flags;
    Ok(Termios { iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed })
}

/// A size of a window.
struct Size(Winsize);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Winsize { rows, cols, xpixel, ypixel } = self.0;
        write!(f, "{{ws_row={rows}, ws_col={cols}, ws_xpixel={xpixel}, ws_ypixel={ypixel}}}")
    }
}

fn size(c: &mut Cursor<'_>) -> Result<Winsize> {
    c.expect("{")?;
    let mut sizes = [0; 4];
    for (nth, name) in ["ws_row", "ws_col", "ws_xpixel", "ws_ypixel"].into_iter().enumerate() {
        if nth > 0 {
            c.comma()?;
        }
        c.expect(name)?;
        c.expect("=")?;
        sizes[nth] = c.u32()? as u16;
    }
    c.expect("}")?;
    let [rows, cols, xpixel, ypixel] = sizes;
    Ok(Winsize { rows, cols, xpixel, ypixel })
}

/// What a request stores.
#[derive(Clone, Copy)]
enum Stores {
    Nothing,
    Number,
    Settings,
    Size,
}

fn stores(request: &TerminalRequest) -> Stores {
    match request {
        TerminalRequest::Tcgets => Stores::Settings,
        TerminalRequest::Tiocgwinsz => Stores::Size,
        TerminalRequest::Tiocgpgrp
        | TerminalRequest::Tiocgsid
        | TerminalRequest::Fionread
        | TerminalRequest::Tiocgptn => Stores::Number,
        _ => Stores::Nothing,
    }
}

impl Ioctl {
    pub(super) fn head(
        f: &mut Formatter<'_>,
        file: &u32,
        request: &TerminalRequest,
    ) -> fmt::Result {
        write!(f, "{}, ", Descriptor(*file))?;
        match request {
            TerminalRequest::Tcgets => f.write_str("TCGETS2"),
            TerminalRequest::Tcsets(SetTermios::Now, new) => {
                write!(f, "TCSETS2, {}", Settings(new))
            }
            TerminalRequest::Tcsets(SetTermios::Flush, new) => {
                write!(f, "TCSETSF2, {}", Settings(new))
            }
            TerminalRequest::Tcflsh(queue) => {
                let name = match queue {
                    Queue::Input => "TCIFLUSH",
                    Queue::Output => "TCOFLUSH",
                    Queue::Both => "TCIOFLUSH",
                };
                write!(f, "TCFLSH, {name}")
            }
            TerminalRequest::Tcxonc(action) => {
                let name = match action {
                    FlowAction::StopOutput => "TCOOFF",
                    FlowAction::StartOutput => "TCOON",
                    FlowAction::SendStop => "TCIOFF",
                    FlowAction::SendStart => "TCION",
                };
                write!(f, "TCXONC, {name}")
            }
            TerminalRequest::Tcsbrk(arg) => write!(f, "TCSBRK, {arg}"),
            TerminalRequest::Tiocsctty(arg) => write!(f, "TIOCSCTTY, {arg}"),
            TerminalRequest::Tiocnotty => f.write_str("TIOCNOTTY"),
            TerminalRequest::Tiocgpgrp => f.write_str("TIOCGPGRP"),
            TerminalRequest::Tiocspgrp(pgid) => write!(f, "TIOCSPGRP, [{pgid}]"),
            TerminalRequest::Tiocgsid => f.write_str("TIOCGSID"),
            TerminalRequest::Tiocgwinsz => f.write_str("TIOCGWINSZ"),
            TerminalRequest::Tiocswinsz(new) => write!(f, "TIOCSWINSZ, {}", Size(*new)),
            TerminalRequest::Fionread => f.write_str("FIONREAD"),
            TerminalRequest::Tiocsti(byte) => write!(f, "TIOCSTI, {}", Quoted(&[*byte])),
            TerminalRequest::Tiocsig(signal) => write!(f, "TIOCSIG, {signal}"),
            TerminalRequest::Tiocpkt(is_on) => write!(f, "TIOCPKT, [{}]", u8::from(*is_on)),
            TerminalRequest::Tiocsptlck(is_on) => write!(f, "TIOCSPTLCK, [{}]", u8::from(*is_on)),
            TerminalRequest::Tiocgptn => f.write_str("TIOCGPTN"),
            TerminalRequest::Tiocvhangup => f.write_str("TIOCVHANGUP"),
            TerminalRequest::Tiocexcl(true) => f.write_str("TIOCEXCL"),
            TerminalRequest::Tiocexcl(false) => f.write_str("TIOCNXCL"),
        }
    }

    pub(super) fn tail(
        f: &mut Formatter<'_>,
        ret: Option<&Ret>,
        _: &u32,
        request: &TerminalRequest,
    ) -> fmt::Result {
        match (stores(request), ret) {
            (Stores::Nothing, _) => Ok(()),
            (_, Some(Ret::Stored(number))) => write!(f, ", [{number}]"),
            (_, Some(Ret::Termios(termios))) => write!(f, ", {}", Settings(termios)),
            (_, Some(Ret::Winsize(winsize))) => write!(f, ", {}", Size(*winsize)),
            _ => write!(f, ", {VALID}"),
        }
    }

    pub(super) fn read(c: &mut Cursor<'_>) -> Result<Syscall> {
        let file = first(c, descriptor)?;
        Ok(Syscall::Ioctl { file, request: Ioctl::request(c)? })
    }

    fn request(c: &mut Cursor<'_>) -> Result<TerminalRequest> {
        let name = c.word();
        Ok(match name {
            "TCGETS2" => TerminalRequest::Tcgets,
            "TIOCNOTTY" => TerminalRequest::Tiocnotty,
            "TIOCGPGRP" => TerminalRequest::Tiocgpgrp,
            "TIOCGSID" => TerminalRequest::Tiocgsid,
            "TIOCGWINSZ" => TerminalRequest::Tiocgwinsz,
            "FIONREAD" => TerminalRequest::Fionread,
            "TIOCGPTN" => TerminalRequest::Tiocgptn,
            "TIOCVHANGUP" => TerminalRequest::Tiocvhangup,
            "TIOCEXCL" => TerminalRequest::Tiocexcl(true),
            "TIOCNXCL" => TerminalRequest::Tiocexcl(false),
            "TCSETS2" | "TCSETSF2" | "TCFLSH" | "TCXONC" | "TCSBRK" | "TIOCSCTTY" | "TIOCSPGRP"
            | "TIOCSWINSZ" | "TIOCSTI" | "TIOCSIG" | "TIOCPKT" | "TIOCSPTLCK" => {
                c.comma()?;
                return Ioctl::request_with_argument(c, name);
            }
            _ => return Err(Fault::Unmodelled),
        })
    }

    fn request_with_argument(c: &mut Cursor<'_>, name: &str) -> Result<TerminalRequest> {
        Ok(match name {
            "TCSETS2" => TerminalRequest::Tcsets(SetTermios::Now, Box::new(settings(c)?)),
            "TCSETSF2" => TerminalRequest::Tcsets(SetTermios::Flush, Box::new(settings(c)?)),
            "TCFLSH" => TerminalRequest::Tcflsh(match c.word() {
                "TCIFLUSH" => Queue::Input,
                "TCOFLUSH" => Queue::Output,
                "TCIOFLUSH" => Queue::Both,
                _ => return Err(Fault::Unmodelled),
            }),
            "TCXONC" => TerminalRequest::Tcxonc(match c.word() {
                "TCOOFF" => FlowAction::StopOutput,
                "TCOON" => FlowAction::StartOutput,
                "TCIOFF" => FlowAction::SendStop,
                "TCION" => FlowAction::SendStart,
                _ => return Err(Fault::Unmodelled),
            }),
            "TCSBRK" => TerminalRequest::Tcsbrk(c.i32()?),
            "TIOCSCTTY" => TerminalRequest::Tiocsctty(c.i32()?),
            "TIOCSPGRP" => TerminalRequest::Tiocspgrp(c.bracketed(Cursor::i32)?),
            "TIOCSWINSZ" => TerminalRequest::Tiocswinsz(size(c)?),
            "TIOCSTI" => match c.bytes()?[..] {
                [byte] => TerminalRequest::Tiocsti(byte),
                _ => return c.fail("expected one byte before this place"),
            },
            "TIOCSIG" => TerminalRequest::Tiocsig(c.i32()?),
            "TIOCPKT" => TerminalRequest::Tiocpkt(c.bracketed(Cursor::i32)? != 0),
            _ => TerminalRequest::Tiocsptlck(c.bracketed(Cursor::i32)? != 0),
        })
    }

    pub(super) fn finish(c: &mut Cursor<'_>, file: u32, request: TerminalRequest) -> Finished {
        let stores = stores(&request);
        let call = Syscall::Ioctl { file, request };
        let outcome = match stores {
            Stores::Nothing => return number(c, call),
            Stores::Number => {
                c.comma()?;
                let (_, stored) = c.out(|c| c.bracketed(Cursor::i32))?.split();
                close(c)?.outcome(c, zero(stored.map(Ret::Stored)))?
            }
            Stores::Settings => {
                c.comma()?;
                let (_, stored) = c.out(settings)?.split();
                let ret = stored.map(|termios| Ret::Termios(Box::new(termios)));
                close(c)?.outcome(c, zero(ret))?
            }
            Stores::Size => {
                c.comma()?;
                let (_, stored) = c.out(size)?.split();
                close(c)?.outcome(c, zero(stored.map(Ret::Winsize)))?
            }
        };
        Ok((call, outcome))
    }
}
