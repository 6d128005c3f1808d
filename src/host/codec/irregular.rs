//! The calls that the declaration does not cover, each encoded by a type of its name.

use std::sync::Arc;

use super::{BAD, CodecKind, ResultKind, siginfo};
use crate::abi::{Errno, IdType, Pid, Uid, WaitOptions, WaitStatus};
use crate::host::SELF_PATH;
use crate::host::shared_memory::{OUTPUT_WORDS, Op, RawCall};
use crate::syscall::{self, Ptr, QueuedInfo, Ret, clone, gives, kind};

pub(super) use super::terminal::{Close, Ioctl, Open, Poll, Read, Write};

pub(super) type Words = [u64; OUTPUT_WORDS];

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
