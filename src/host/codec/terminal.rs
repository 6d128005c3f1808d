//! Calls on terminals.

use std::sync::Arc;

use super::irregular::Words;
use crate::host::shared_memory::{OUTPUT_WORDS, Op, RawCall};
use crate::host::terminal_files::FILE_FD;
use crate::host::terminal_requests::{flow_number, flush_number, set_request};
use crate::syscall::{PollFile, Ret, TerminalPath, TerminalRequest};
use crate::tty::{PollFlags, Termios, Winsize};

/// The descriptor of a file in the agents.
fn descriptor(raw: RawCall, file: u32) -> RawCall {
    raw.value(i64::from(FILE_FD.saturating_add(file)))
}

pub(super) struct Open;

impl Open {
    pub(super) fn encode(raw: RawCall, path: &TerminalPath, flags: &u32) -> RawCall {
        raw.text(&path.to_string()).value(i64::from(*flags))
    }

    pub(super) fn ret(value: i64, _: &Words, _: &TerminalPath, _: &u32) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Close;

impl Close {
    pub(super) fn encode(raw: RawCall, file: &u32) -> RawCall {
        descriptor(raw, *file)
    }

    pub(super) fn ret(value: i64, _: &Words, _: &u32) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Read;

impl Read {
    pub(super) fn encode(raw: RawCall, file: &u32, len: &usize) -> RawCall {
        descriptor(raw, *file).output(0).value((*len).min(OUTPUT_WORDS * 8) as i64)
    }

    pub(super) fn ret(value: i64, out: &Words, _: &u32, _: &usize) -> Ret {
        let bytes = out.iter().flat_map(|word| word.to_le_bytes());
        Ret::Bytes(bytes.take(value as usize).collect())
    }
}

pub(super) struct Write;

impl Write {
    pub(super) fn encode(raw: RawCall, file: &u32, bytes: &Arc<[u8]>) -> RawCall {
        descriptor(raw, *file).bytes(bytes).value(bytes.len() as i64)
    }

    pub(super) fn ret(value: i64, _: &Words, _: &u32, _: &Arc<[u8]>) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Poll;

impl Poll {
    pub(super) fn encode(raw: RawCall, files: &Arc<[PollFile]>, timeout: &i32) -> RawCall {
        // struct pollfd: the descriptor, the events, the result
        let bytes: Vec<u8> = files
            .iter()
            .flat_map(|PollFile { file, events }| {
                let [a, b, c, d] = FILE_FD.saturating_add(*file).to_le_bytes();
                let [e, f] = events.0.to_le_bytes();
                [a, b, c, d, e, f, 0, 0]
            })
            .collect();
        raw.op(Op::Poll).bytes(&bytes).value(files.len() as i64).value((*timeout).into())
    }

    pub(super) fn ret(_: i64, out: &Words, files: &Arc<[PollFile]>, _: &i32) -> Ret {
        let ready = out.iter().map(|word| PollFlags((word >> 48) as u16));
        Ret::Polled(ready.take(files.len()).collect())
    }
}

pub(super) struct Ioctl;

impl Ioctl {
    pub(super) fn encode(raw: RawCall, file: &u32, request: &TerminalRequest) -> RawCall {
        let raw = descriptor(raw, *file);
        let number = |request: u64, arg: i64| raw.clone().value(request as i64).value(arg);
        let bytes = |request: u64, bytes: &[u8]| raw.clone().value(request as i64).bytes(bytes);
        let output = |request: u64| raw.clone().value(request as i64).output(0);
        match request {
            TerminalRequest::Tcgets => output(libc::TCGETS2),
            TerminalRequest::Tcsets(when, new) => bytes(set_request(*when), &new.to_bytes()),
            TerminalRequest::Tcflsh(queue) => number(libc::TCFLSH, flush_number(*queue) as i64),
            TerminalRequest::Tcxonc(action) => number(libc::TCXONC, flow_number(*action) as i64),
            TerminalRequest::Tcsbrk(arg) => number(libc::TCSBRK, (*arg).into()),
            TerminalRequest::Tiocsctty(arg) => number(libc::TIOCSCTTY, (*arg).into()),
            TerminalRequest::Tiocnotty => number(libc::TIOCNOTTY, 0),
            TerminalRequest::Tiocgpgrp => output(libc::TIOCGPGRP),
            TerminalRequest::Tiocspgrp(pgid) => bytes(libc::TIOCSPGRP, &pgid.to_le_bytes()),
            TerminalRequest::Tiocgsid => output(libc::TIOCGSID),
            TerminalRequest::Tiocgwinsz => output(libc::TIOCGWINSZ),
            TerminalRequest::Tiocswinsz(Winsize { rows, cols, xpixel, ypixel }) => {
                let sizes = [rows, cols, xpixel, ypixel].map(|size| size.to_le_bytes());
                bytes(libc::TIOCSWINSZ, sizes.as_flattened())
            }
            TerminalRequest::Fionread => output(libc::FIONREAD),
            TerminalRequest::Tiocsti(byte) => bytes(libc::TIOCSTI, &[*byte]),
            TerminalRequest::Tiocsig(signal) => number(libc::TIOCSIG, (*signal).into()),
            TerminalRequest::Tiocpkt(is_on) => {
                bytes(libc::TIOCPKT, &i32::from(*is_on).to_le_bytes())
            }
            TerminalRequest::Tiocsptlck(is_locked) => {
                bytes(libc::TIOCSPTLCK, &i32::from(*is_locked).to_le_bytes())
            }
            TerminalRequest::Tiocgptn => output(libc::TIOCGPTN),
            TerminalRequest::Tiocvhangup => number(libc::TIOCVHANGUP, 0),
            TerminalRequest::Tiocexcl(true) => number(libc::TIOCEXCL, 0),
            TerminalRequest::Tiocexcl(false) => number(libc::TIOCNXCL, 0),
        }
    }

    pub(super) fn ret(value: i64, out: &Words, _: &u32, request: &TerminalRequest) -> Ret {
        let mut bytes = [0; 44];
        for (to, word) in bytes.chunks_mut(8).zip(out) {
            to.copy_from_slice(&word.to_le_bytes()[..to.len()]);
        }
        match request {
            TerminalRequest::Tcgets => Ret::Termios(Box::new(Termios::from_bytes(&bytes))),
            TerminalRequest::Tiocgwinsz => {
                let size = |nth: usize| u16::from_le_bytes([bytes[2 * nth], bytes[2 * nth + 1]]);
                let (rows, cols, xpixel, ypixel) = (size(0), size(1), size(2), size(3));
                Ret::Winsize(Winsize { rows, cols, xpixel, ypixel })
            }
            TerminalRequest::Tiocgpgrp
            | TerminalRequest::Tiocgsid
            | TerminalRequest::Fionread
            | TerminalRequest::Tiocgptn => Ret::Stored(out[0] as i32),
            _ => Ret::Value(value),
        }
    }
}
