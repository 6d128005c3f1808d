//! The calls that the declaration does not cover, each encoded by a type of its name.

use std::sync::Arc;

use super::{BAD, CodecKind, ResultKind, siginfo};
use crate::abi::{Errno, IdType, Pid, Uid, WaitOptions, WaitStatus};
use crate::host::SELF_PATH;
use crate::host::shared_memory::{OUTPUT_WORDS, Op, RawCall};
use crate::host::terminal_files::FILE_FD;
use crate::syscall::{
    self, Ptr, QueuedInfo, Ret, TerminalPath, TerminalRequest, clone, gives, kind,
};
use crate::tty::{FlowAction, Queue, SetTermios, Termios, Winsize};

type Words = [u64; OUTPUT_WORDS];

fn out(raw: RawCall, to: &Ptr) -> RawCall {
    kind::Out::pass(raw, to)
}

pub(super) struct Clone;

impl Clone {
    pub(super) fn encode(
        raw: RawCall,
        flags: &u64,
        clone3: &Option<u64>,
        parent_tid: &u64,
        child_tid: &u64,
    ) -> RawCall {
        let op = if flags & clone::VM != 0 { Op::ForkSharing } else { Op::Fork };
        let Some(exit_signal) = *clone3 else {
            // the stack and, last, the thread-local storage are the agent's own
            let args = [*flags, 0, *parent_tid, *child_tid, 0];
            return args.iter().fold(raw.op(op), |raw, arg| raw.value(*arg as i64));
        };
        // struct clone_args of 64 bytes: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
        // stack_size, tls
        let args = [*flags, 0, *child_tid, *parent_tid, exit_signal, 0, 0, 0];
        RawCall::new(libc::SYS_clone3).op(op).words(&args).value(size_of_val(&args) as i64)
    }

    pub(super) fn ret(value: i64, _: &Words, _: &u64, _: &Option<u64>, _: &u64, _: &u64) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Execve;

impl Execve {
    pub(super) fn encode(raw: RawCall, path: &Arc<str>, _: &Option<Errno>) -> RawCall {
        if **path == *SELF_PATH {
            return raw.op(Op::ExecSelf);
        }
        raw.text(path).words(&[0]).words(&[0])
    }

    pub(super) fn ret(value: i64, _: &Words, _: &Arc<str>, _: &Option<Errno>) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Chdir;

impl Chdir {
    pub(super) fn encode(raw: RawCall, path: &Arc<str>, _: &Option<Errno>) -> RawCall {
        raw.text(path)
    }

    pub(super) fn ret(value: i64, _: &Words, _: &Arc<str>, _: &Option<Errno>) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Wait4;

impl Wait4 {
    pub(super) fn encode(raw: RawCall, pid: &i32, status: &Ptr, options: &WaitOptions) -> RawCall {
        out(raw.value(i64::from(*pid)), status).value(i64::from(options.0)).value(0)
    }

    pub(super) fn ret(value: i64, out: &Words, _: &i32, status: &Ptr, _: &WaitOptions) -> Ret {
        let stored = *status == Ptr::Valid && value != 0;
        Ret::Waited { pid: Pid(value as u32), status: stored.then_some(WaitStatus(out[0] as u32)) }
    }
}

pub(super) struct Waitid;

impl Waitid {
    pub(super) fn encode(
        raw: RawCall,
        idtype: &IdType,
        id: &i32,
        info: &Ptr,
        options: &WaitOptions,
    ) -> RawCall {
        let raw = raw.value(i64::from(idtype.0)).value(i64::from(*id));
        out(raw, info).value(i64::from(options.0)).value(0)
    }

    pub(super) fn ret(
        _: i64,
        out: &Words,
        _: &IdType,
        _: &i32,
        info: &Ptr,
        _: &WaitOptions,
    ) -> Ret {
        Ret::WaitInfo((*info == Ptr::Valid).then(|| siginfo(out)))
    }
}

/// Adds a siginfo as the kernel reads it, or an address that cannot be read.
fn queued(raw: RawCall, sig: i32, info: Option<QueuedInfo>) -> RawCall {
    let Some(info) = info else { return raw.value(BAD) };
    let mut words = [0; 16];
    words[0] = u64::from(sig as u32);
    words[1] = u64::from(info.code as u32);
    words[2] = u64::from(info.pid) | u64::from(info.uid) << 32;
    words[3] = info.value;
    raw.words(&words)
}

pub(super) struct RtSigqueueinfo;

impl RtSigqueueinfo {
    pub(super) fn encode(raw: RawCall, pid: &i32, sig: &i32, info: &Option<QueuedInfo>) -> RawCall {
        queued(raw.value(i64::from(*pid)).value(i64::from(*sig)), *sig, *info)
    }

    pub(super) fn ret(value: i64, _: &Words, _: &i32, _: &i32, _: &Option<QueuedInfo>) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct RtTgsigqueueinfo;

impl RtTgsigqueueinfo {
    pub(super) fn encode(
        raw: RawCall,
        tgid: &i32,
        tid: &i32,
        sig: &i32,
        info: &Option<QueuedInfo>,
    ) -> RawCall {
        let raw = [tgid, tid, sig].iter().fold(raw, |raw, arg| raw.value(i64::from(**arg)));
        queued(raw, *sig, *info)
    }

    pub(super) fn ret(
        value: i64,
        _: &Words,
        _: &i32,
        _: &i32,
        _: &i32,
        _: &Option<QueuedInfo>,
    ) -> Ret {
        Ret::Value(value)
    }
}

pub(super) struct Getitimer;

impl Getitimer {
    pub(super) fn encode(raw: RawCall, which: &i32) -> RawCall {
        raw.value(i64::from(*which)).output(0)
    }

    pub(super) fn ret(value: i64, out: &Words, _: &i32) -> Ret {
        gives::Itimer::ret(value, true, out)
    }
}

pub(super) struct Prctl;

impl Prctl {
    pub(super) fn encode(raw: RawCall, operation: &syscall::Prctl) -> RawCall {
        use syscall::Prctl::*;
        let option = |number: i32| raw.value(i64::from(number));
        match operation {
            SetPdeathsig(signal) => option(libc::PR_SET_PDEATHSIG).value(*signal as i64),
            GetPdeathsig(to) => out(option(libc::PR_GET_PDEATHSIG), to),
            SetChildSubreaper(on) => option(libc::PR_SET_CHILD_SUBREAPER).value(*on as i64),
            GetChildSubreaper(to) => out(option(libc::PR_GET_CHILD_SUBREAPER), to),
            SetDumpable(on) => option(libc::PR_SET_DUMPABLE).value(*on as i64),
            GetDumpable => option(libc::PR_GET_DUMPABLE),
        }
    }

    pub(super) fn ret(value: i64, out: &Words, operation: &syscall::Prctl) -> Ret {
        use syscall::Prctl::*;
        match operation {
            GetPdeathsig(_) | GetChildSubreaper(_) => Ret::Stored(out[0] as i32),
            SetPdeathsig(_) | SetChildSubreaper(_) | SetDumpable(_) | GetDumpable => {
                Ret::Value(value)
            }
        }
    }
}

pub(super) struct Getresuid;

impl Getresuid {
    pub(super) fn encode(raw: RawCall) -> RawCall {
        raw.output(0).output(1).output(2)
    }

    pub(super) fn ret(_: i64, out: &Words) -> Ret {
        Ret::Users([0, 1, 2].map(|nth: usize| Uid(out[nth] as u32)))
    }
}

pub(super) struct Getcwd;

impl Getcwd {
    pub(super) fn encode(raw: RawCall) -> RawCall {
        raw.output(0).value(OUTPUT_WORDS as i64 * 8)
    }

    pub(super) fn ret(_: i64, out: &Words) -> Ret {
        let bytes = out.iter().flat_map(|word| word.to_le_bytes());
        let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        Ret::Path(String::from_utf8_lossy(&bytes).into())
    }
}

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

pub(super) struct Ioctl;

/// The numbers of requests that the C library does not name.
const TCGETS2: u64 = 0x802c_542a;
const TCSETS2: u64 = 0x402c_542b;
const TCSETSF2: u64 = 0x402c_542d;
const TIOCSIG: u64 = 0x4004_5436;
const TIOCVHANGUP: u64 = 0x5437;
const TIOCPKT: u64 = 0x5420;

impl Ioctl {
    pub(super) fn encode(raw: RawCall, file: &u32, request: &TerminalRequest) -> RawCall {
        let raw = descriptor(raw, *file);
        let number = |request: u64, arg: i64| raw.clone().value(request as i64).value(arg);
        let bytes = |request: u64, bytes: &[u8]| raw.clone().value(request as i64).bytes(bytes);
        let output = |request: u64| raw.clone().value(request as i64).output(0);
        match request {
            TerminalRequest::Tcgets => output(TCGETS2),
            TerminalRequest::Tcsets(SetTermios::Now, new) => bytes(TCSETS2, &new.to_bytes()),
            TerminalRequest::Tcsets(SetTermios::Flush, new) => bytes(TCSETSF2, &new.to_bytes()),
            TerminalRequest::Tcflsh(queue) => {
                let which = match queue {
                    Queue::Input => libc::TCIFLUSH,
                    Queue::Output => libc::TCOFLUSH,
                    Queue::Both => libc::TCIOFLUSH,
                };
                number(libc::TCFLSH, which.into())
            }
            TerminalRequest::Tcxonc(action) => {
                let which = match action {
                    FlowAction::StopOutput => libc::TCOOFF,
                    FlowAction::StartOutput => libc::TCOON,
                    FlowAction::SendStop => libc::TCIOFF,
                    FlowAction::SendStart => libc::TCION,
                };
                number(libc::TCXONC, which.into())
            }
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
            TerminalRequest::Tiocsig(signal) => number(TIOCSIG, (*signal).into()),
            TerminalRequest::Tiocpkt(is_on) => bytes(TIOCPKT, &i32::from(*is_on).to_le_bytes()),
            TerminalRequest::Tiocsptlck(is_locked) => {
                bytes(libc::TIOCSPTLCK, &i32::from(*is_locked).to_le_bytes())
            }
            TerminalRequest::Tiocgptn => output(libc::TIOCGPTN),
            TerminalRequest::Tiocvhangup => number(TIOCVHANGUP, 0),
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
