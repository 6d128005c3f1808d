//! Calls into the kernel's layouts, and what the kernel stored out of them.

use std::io;
use std::sync::Arc;

use super::SELF_PATH;
use super::wire::{OUTPUT_WORDS, Op, RawCall};
use crate::abi::{
    Errno, Handler, Itimerval, Pid, Rlimit, SaFlags, SiCode, SigAction, SigInfo, SigSet, Signal,
    Timeval, Uid, WaitStatus,
};
use crate::syscall::{self, Prctl, Ptr, QueuedInfo, Ret, Syscall, clone};

/// An address that is never mapped: pages below vm.mmap_min_addr are not.
const BAD: i64 = 0x10;

/// The call in the kernel's layout.
pub(super) fn encode(call: &Syscall) -> io::Result<RawCall> {
    let raw = match call {
        Syscall::Fork => RawCall::new(libc::SYS_fork).op(Op::Fork),
        Syscall::Vfork => RawCall::new(libc::SYS_vfork).op(Op::ForkSharing),
        Syscall::Clone { flags, clone3, parent_tid, child_tid } => {
            encode_clone(*flags, *clone3, *parent_tid, *child_tid)
        }
        Syscall::Unshare(flags) => RawCall::new(libc::SYS_unshare).value(*flags as i64),
        Syscall::SetTidAddress(address) => {
            RawCall::new(libc::SYS_set_tid_address).value(*address as i64)
        }
        Syscall::Execve { path, .. } if &**path == SELF_PATH => {
            RawCall::new(libc::SYS_execve).op(Op::ExecSelf)
        }
        Syscall::Execve { path, .. } => {
            RawCall::new(libc::SYS_execve).text(path).words(&[0]).words(&[0])
        }
        Syscall::Exit(code) => numbers(libc::SYS_exit, &[*code]),
        Syscall::ExitGroup(code) => numbers(libc::SYS_exit_group, &[*code]),
        Syscall::Wait4 { pid, status, options } => {
            pointer(numbers(libc::SYS_wait4, &[*pid]), *status).value(i64::from(options.0)).value(0)
        }
        Syscall::Waitid { idtype, id, info, options } => {
            pointer(numbers(libc::SYS_waitid, &[idtype.0, *id]), *info)
                .value(i64::from(options.0))
                .value(0)
        }
        Syscall::Setpgid { pid, pgid } => numbers(libc::SYS_setpgid, &[*pid, *pgid]),
        Syscall::Getpgid(pid) => numbers(libc::SYS_getpgid, &[*pid]),
        Syscall::Getpgrp => RawCall::new(libc::SYS_getpgrp),
        Syscall::Setsid => RawCall::new(libc::SYS_setsid),
        Syscall::Getsid(pid) => numbers(libc::SYS_getsid, &[*pid]),
        Syscall::Getpid => RawCall::new(libc::SYS_getpid),
        Syscall::Gettid => RawCall::new(libc::SYS_gettid),
        Syscall::Getppid => RawCall::new(libc::SYS_getppid),
        Syscall::Kill { pid, sig } => numbers(libc::SYS_kill, &[*pid, *sig]),
        Syscall::Tkill { tid, sig } => numbers(libc::SYS_tkill, &[*tid, *sig]),
        Syscall::Tgkill { tgid, tid, sig } => numbers(libc::SYS_tgkill, &[*tgid, *tid, *sig]),
        Syscall::RtSigqueueinfo { pid, sig, info } => {
            let raw = numbers(libc::SYS_rt_sigqueueinfo, &[*pid, *sig]);
            info.map_or(raw.clone().value(BAD), |info| raw.words(&queued(*sig, info)))
        }
        Syscall::RtTgsigqueueinfo { tgid, tid, sig, info } => {
            let raw = numbers(libc::SYS_rt_tgsigqueueinfo, &[*tgid, *tid, *sig]);
            info.map_or(raw.clone().value(BAD), |info| raw.words(&queued(*sig, info)))
        }
        Syscall::Pause => RawCall::new(libc::SYS_pause),
        Syscall::Alarm(seconds) => RawCall::new(libc::SYS_alarm).value(i64::from(*seconds)),
        Syscall::Prctl(operation) => encode_prctl(*operation),
        Syscall::Umask(mask) => RawCall::new(libc::SYS_umask).value(i64::from(*mask)),
        Syscall::Chdir { path, .. } => RawCall::new(libc::SYS_chdir).text(path),
        Syscall::Getcwd => RawCall::new(libc::SYS_getcwd).output(0).value(OUTPUT_WORDS as i64 * 8),
        Syscall::RtSigreturn => RawCall::new(libc::SYS_rt_sigreturn).op(Op::HandlerReturn),
        _ => return encode_structures(call),
    };
    fits(raw)
}

/// The calls that pass sets, times, limits and users.
fn encode_structures(call: &Syscall) -> io::Result<RawCall> {
    let raw = match *call {
        Syscall::RtSigaction { sig, act, old, size } => {
            let raw = numbers(libc::SYS_rt_sigaction, &[sig]).op(Op::Action);
            let act = act.map(|act| {
                [act.handler.to_raw(), u64::from(act.flags.0), act.restorer, act.mask.bits()]
            });
            pointer(optional(raw, act), old).value(size as i64)
        }
        Syscall::RtSigprocmask { how, set, old, size } => {
            let raw = numbers(libc::SYS_rt_sigprocmask, &[how]);
            pointer(optional(raw, set.map(|set| [set.bits()])), old).value(size as i64)
        }
        Syscall::RtSigpending { set, size } => {
            pointer(RawCall::new(libc::SYS_rt_sigpending), set).value(size as i64)
        }
        Syscall::RtSigsuspend { mask, size } => {
            RawCall::new(libc::SYS_rt_sigsuspend).words(&[mask.bits()]).value(size as i64)
        }
        Syscall::RtSigtimedwait { set, info, timeout, size } => {
            let raw = pointer(RawCall::new(libc::SYS_rt_sigtimedwait).words(&[set.bits()]), info);
            optional(raw, timeout.map(|time| [time.sec as u64, time.nsec as u64]))
                .value(size as i64)
        }
        Syscall::Setitimer { which, new, old } => {
            let new = new.map(|new| {
                [new.interval.sec, new.interval.usec, new.value.sec, new.value.usec]
                    .map(|part| part as u64)
            });
            pointer(optional(numbers(libc::SYS_setitimer, &[which]), new), old)
        }
        Syscall::Getitimer { which } => numbers(libc::SYS_getitimer, &[which]).output(0),
        Syscall::Getuid => RawCall::new(libc::SYS_getuid),
        Syscall::Geteuid => RawCall::new(libc::SYS_geteuid),
        Syscall::Getresuid => RawCall::new(libc::SYS_getresuid).output(0).output(1).output(2),
        Syscall::Setuid(user) => users(libc::SYS_setuid, &[user]),
        Syscall::Setreuid { real, effective } => users(libc::SYS_setreuid, &[real, effective]),
        Syscall::Setresuid { real, effective, saved } => {
            users(libc::SYS_setresuid, &[real, effective, saved])
        }
        Syscall::Prlimit { pid, resource, new, old } => {
            let raw = numbers(libc::SYS_prlimit64, &[pid, resource.0 as i32]);
            pointer(optional(raw, new.map(|new| [new.soft, new.hard])), old)
        }
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, call.name())),
    };
    fits(raw)
}

fn fits(raw: RawCall) -> io::Result<RawCall> {
    if raw.input.len() > super::wire::INPUT_WORDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long"));
    }
    Ok(raw)
}

fn numbers(number: i64, args: &[i32]) -> RawCall {
    args.iter().fold(RawCall::new(number), |raw, arg| raw.value(i64::from(*arg)))
}

fn users(number: i64, args: &[u32]) -> RawCall {
    args.iter().fold(RawCall::new(number), |raw, arg| raw.value(i64::from(*arg)))
}

/// Where the call stores something.
fn pointer(raw: RawCall, to: Ptr) -> RawCall {
    match to {
        Ptr::Null => raw.value(0),
        Ptr::Valid => raw.output(0),
        Ptr::Bad => raw.value(BAD),
    }
}

/// A structure, or NULL.
fn optional<const N: usize>(raw: RawCall, words: Option<[u64; N]>) -> RawCall {
    match words {
        Some(words) => raw.words(&words),
        None => raw.value(0),
    }
}

fn encode_clone(flags: u64, clone3: Option<u64>, parent_tid: u64, child_tid: u64) -> RawCall {
    let op = if flags & clone::VM != 0 { Op::ForkSharing } else { Op::Fork };
    let Some(exit_signal) = clone3 else {
        // the stack and, last, the storage of threads are the puppet's own
        let args = [flags, 0, parent_tid, child_tid, 0];
        return args
            .iter()
            .fold(RawCall::new(libc::SYS_clone).op(op), |raw, arg| raw.value(*arg as i64));
    };
    // struct clone_args of 64 bytes: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
    // stack_size, tls
    let args = [flags, 0, child_tid, parent_tid, exit_signal, 0, 0, 0];
    RawCall::new(libc::SYS_clone3).op(op).words(&args).value(size_of_val(&args) as i64)
}

fn encode_prctl(operation: Prctl) -> RawCall {
    let (option, raw) = match operation {
        Prctl::SetPdeathsig(signal) => (libc::PR_SET_PDEATHSIG, Err(signal)),
        Prctl::GetPdeathsig(to) => (libc::PR_GET_PDEATHSIG, Ok(to)),
        Prctl::SetChildSubreaper(on) => (libc::PR_SET_CHILD_SUBREAPER, Err(on)),
        Prctl::GetChildSubreaper(to) => (libc::PR_GET_CHILD_SUBREAPER, Ok(to)),
        Prctl::SetDumpable(on) => (libc::PR_SET_DUMPABLE, Err(on)),
        Prctl::GetDumpable => (libc::PR_GET_DUMPABLE, Err(0)),
    };
    let call = numbers(libc::SYS_prctl, &[option]);
    match raw {
        Ok(to) => pointer(call, to),
        Err(value) => call.value(value as i64),
    }
}

/// A siginfo as rt_sigqueueinfo(2) reads it.
fn queued(sig: i32, info: QueuedInfo) -> [u64; 16] {
    let mut words = [0; 16];
    words[0] = u64::from(sig as u32);
    words[1] = u64::from(info.code as u32);
    words[2] = u64::from(info.pid) | u64::from(info.uid) << 32;
    words[3] = info.value;
    words
}

/// A siginfo as the kernel stores it; `None` for zeroes (WAIT-10).
pub(super) fn siginfo(words: &[u64; OUTPUT_WORDS]) -> Option<SigInfo> {
    Some(SigInfo {
        signal: Signal::new(words[0] as i32)?,
        code: SiCode(words[1] as i32),
        pid: Pid(words[2] as u32),
        uid: Uid((words[2] >> 32) as u32),
        value: words[3],
    })
}

/// What `call` gave back: its register and what it stored.
pub(super) fn decode(call: &Syscall, value: i64, out: &[u64; OUTPUT_WORDS]) -> syscall::Result {
    if (-4095..0).contains(&value) {
        return Err(Errno(-value as u16));
    }
    let low = out[0] as u32;
    Ok(match call {
        Syscall::Wait4 { status, .. } => Ret::Waited {
            pid: Pid(value as u32),
            status: (*status == Ptr::Valid && value != 0).then_some(WaitStatus(low)),
        },
        Syscall::Waitid { info, .. } => Ret::WaitInfo((*info == Ptr::Valid).then(|| siginfo(out))),
        Syscall::RtSigaction { old, .. } => Ret::Action((*old == Ptr::Valid).then(|| SigAction {
            handler: Handler::from_raw(out[0]),
            flags: SaFlags(out[1] as u32),
            restorer: out[2],
            mask: SigSet::from_bits(out[3]),
        })),
        Syscall::RtSigprocmask { old, .. } => {
            Ret::Mask((*old == Ptr::Valid).then(|| SigSet::from_bits(out[0])))
        }
        Syscall::RtSigpending { .. } => Ret::Pending(SigSet::from_bits(out[0])),
        Syscall::RtSigtimedwait { .. } => match (siginfo(out), Signal::new(value as i32)) {
            (Some(info), _) => Ret::Signal(info),
            (None, Some(signal)) => Ret::Signal(SigInfo::lost(signal)),
            (None, None) => Ret::Value(value),
        },
        Syscall::Setitimer { old, .. } => Ret::Itimer((*old == Ptr::Valid).then(|| itimer(out))),
        Syscall::Getitimer { .. } => Ret::Itimer(Some(itimer(out))),
        Syscall::Getresuid => Ret::Users([0, 1, 2].map(|nth: usize| Uid(out[nth] as u32))),
        Syscall::Prlimit { old, .. } => {
            Ret::Limit((*old == Ptr::Valid).then_some(Rlimit { soft: out[0], hard: out[1] }))
        }
        Syscall::Prctl(Prctl::GetPdeathsig(_) | Prctl::GetChildSubreaper(_)) => {
            Ret::Stored(low as i32)
        }
        Syscall::Getcwd => Ret::Path(text(out)),
        _ => Ret::Value(value),
    })
}

fn itimer(out: &[u64; OUTPUT_WORDS]) -> Itimerval {
    Itimerval {
        interval: Timeval { sec: out[0] as i64, usec: out[1] as i64 },
        value: Timeval { sec: out[2] as i64, usec: out[3] as i64 },
    }
}

fn text(out: &[u64; OUTPUT_WORDS]) -> Arc<str> {
    let bytes: Vec<u8> =
        out.iter().flat_map(|word| word.to_le_bytes()).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into()
}
