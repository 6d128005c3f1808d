//! Encodes calls in the kernel's layouts, and decodes what the kernel stored.

mod irregular;
mod terminal;

use std::io;

use super::shared_memory::{INPUT_WORDS, OUTPUT_WORDS, Op, RawCall};
use crate::abi::{
    Errno, Handler, Itimerval, Pid, Resource, Rlimit, SaFlags, SiCode, SigAction, SigInfo, SigSet,
    Signal, Timespec, Timeval, Uid,
};
use crate::syscall::{self, Ptr, Ret, Syscall, declared, gives, kind};

/// An address that is never mapped, because it is below vm.mmap_min_addr.
const BAD: i64 = 0x10;

/// A kind of argument, for values of type `T`.
trait CodecKind<T> {
    /// Adds the argument to a call.
    fn pass(raw: RawCall, value: &T) -> RawCall;

    /// Where the call stores its result, if it stores one through this argument.
    fn target(_value: &T) -> Option<Ptr> {
        None
    }
}

macro_rules! number {
    ($($kind:ident $type:ty, $value:ident => $number:expr;)*) => { $(
        impl CodecKind<$type> for kind::$kind {
            fn pass(raw: RawCall, $value: &$type) -> RawCall {
                raw.value($number)
            }
        }
    )* };
}

number! {
    Number i32, value => i64::from(*value);
    Number u32, value => i64::from(*value);
    Number usize, value => *value as i64;
    Signal i32, value => i64::from(*value);
    User u32, value => i64::from(*value);
    Octal u32, value => i64::from(*value);
    Address u64, value => *value as i64;
    CloneFlags u64, value => *value as i64;
    How i32, value => i64::from(*value);
    Timer i32, value => i64::from(*value);
    Resource Resource, value => i64::from(value.0 as i32);
}

/// A structure in the kernel's layout.
trait Structure {
    fn pass(&self, raw: RawCall) -> RawCall;
}

impl Structure for SigSet {
    fn pass(&self, raw: RawCall) -> RawCall {
        raw.words(&[self.bits()])
    }
}

impl Structure for SigAction {
    fn pass(&self, raw: RawCall) -> RawCall {
        let flags = u64::from(self.flags.0);
        raw.words(&[self.handler.to_raw(), flags, self.restorer, self.mask.bits()])
    }
}

impl Structure for Itimerval {
    fn pass(&self, raw: RawCall) -> RawCall {
        let Itimerval { interval, value } = self;
        let words = [interval.sec, interval.usec, value.sec, value.usec];
        raw.words(&words.map(|word| word as u64))
    }
}

impl Structure for Rlimit {
    fn pass(&self, raw: RawCall) -> RawCall {
        raw.words(&[self.soft, self.hard])
    }
}

impl Structure for Timespec {
    fn pass(&self, raw: RawCall) -> RawCall {
        raw.words(&[self.sec as u64, self.nsec as u64])
    }
}

impl<T: Structure> CodecKind<T> for kind::In {
    fn pass(raw: RawCall, value: &T) -> RawCall {
        value.pass(raw)
    }
}

impl<T: Structure> CodecKind<Option<T>> for kind::Optional {
    fn pass(raw: RawCall, value: &Option<T>) -> RawCall {
        match value {
            Some(value) => value.pass(raw),
            None => raw.value(0),
        }
    }
}

impl CodecKind<Ptr> for kind::Out {
    fn pass(raw: RawCall, value: &Ptr) -> RawCall {
        match value {
            Ptr::Null => raw.value(0),
            Ptr::Valid => raw.output(0),
            Ptr::Bad => raw.value(BAD),
        }
    }

    fn target(value: &Ptr) -> Option<Ptr> {
        Some(*value)
    }
}

/// The result of a successful call.
trait ResultKind {
    /// The result, from the register and the output; `stored`: the call stored a result.
    fn ret(value: i64, stored: bool, out: &[u64; OUTPUT_WORDS]) -> Ret;
}

macro_rules! gives {
    ($($gives:ident, $value:pat, $stored:pat, $out:pat => $ret:expr;)*) => { $(
        impl ResultKind for gives::$gives {
            fn ret($value: i64, $stored: bool, $out: &[u64; OUTPUT_WORDS]) -> Ret {
                $ret
            }
        }
    )* };
}

gives! {
    Number, value, _, _ => Ret::Value(value);
    Octal, value, _, _ => Ret::Value(value);
    Action, _, stored, out => Ret::Action(stored.then(|| SigAction {
        handler: Handler::from_raw(out[0]),
        flags: SaFlags(out[1] as u32),
        restorer: out[2],
        mask: SigSet::from_bits(out[3]),
    }));
    Mask, _, stored, out => Ret::Mask(stored.then(|| SigSet::from_bits(out[0])));
    Pending, _, _, out => Ret::Pending(SigSet::from_bits(out[0]));
    Signal, value, _, out => match (siginfo(out), Signal::new(value as i32)) {
        (Some(info), _) => Ret::Signal(info),
        (None, Some(signal)) => Ret::Signal(SigInfo::lost(signal)),
        (None, None) => Ret::Value(value),
    };
    Itimer, _, stored, out => Ret::Itimer(stored.then(|| Itimerval {
        interval: Timeval { sec: out[0] as i64, usec: out[1] as i64 },
        value: Timeval { sec: out[2] as i64, usec: out[3] as i64 },
    }));
    Limit, _, stored, out => {
        Ret::Limit(stored.then_some(Rlimit { soft: out[0], hard: out[1] }))
    };
}

macro_rules! codec {
    (
        regular { $(
            $(#[$doc:meta])* $call:ident
            $( ($one:ident: $one_type:ty as $one_kind:ident) )?
            $( {
                $( $(#[$head_doc:meta])* $head:ident: $head_type:ty as $head_kind:ident, )*
                $(; $( $(#[$tail_doc:meta])* $tail:ident: $tail_type:ty as $tail_kind:ident, )+ )?
            } )?
            = $number:ident -> $gives:ident, $class:ident $(, $op:ident)?;
        )* }
        irregular { $(
            $(#[$doc_:meta])* $call_:ident
            $( ($one_:ident: $one_type_:ty) )?
            $( {
                $( $(#[$head_doc_:meta])* $head_:ident: $head_type_:ty, )*
                $(; $( $(#[$tail_doc_:meta])* $tail_:ident: $tail_type_:ty, )+ )?
            } )?
            = $number_:ident, $class_:ident;
        )* }
    ) => {
        fn raw_call(call: &Syscall) -> RawCall {
            match call {
                $( Syscall::$call { $(0: $one,)? $($($head,)* $($($tail,)+)?)? } => {
                    let raw = RawCall::new(libc::$number) $( .op(Op::$op) )?;
                    $( let raw = kind::$one_kind::pass(raw, $one); )?
                    $(
                        $( let raw = kind::$head_kind::pass(raw, $head); )*
                        $($( let raw = kind::$tail_kind::pass(raw, $tail); )+)?
                    )?
                    raw
                } )*
                $( Syscall::$call_ { $(0: $one_,)? $($($head_,)* $($($tail_,)+)?)? } => {
                    let raw = RawCall::new(libc::$number_);
                    irregular::$call_::encode(raw, $($one_)? $($($head_,)* $($($tail_,)+)?)?)
                } )*
            }
        }

        fn ret(call: &Syscall, value: i64, out: &[u64; OUTPUT_WORDS]) -> Ret {
            match call {
                $( Syscall::$call { $($( $($tail,)+ )?)? .. } => {
                    let to = None $($( $( .or(kind::$tail_kind::target($tail)) )+ )?)?;
                    gives::$gives::ret(value, to == Some(Ptr::Valid), out)
                } )*
                $( Syscall::$call_ { $(0: $one_,)? $($($head_,)* $($($tail_,)+)?)? } => {
                    irregular::$call_::ret(value, out, $($one_)? $($($head_,)* $($($tail_,)+)?)?)
                } )*
            }
        }
    };
}
declared!(codec);

/// Encodes a call in the kernel's layout.
pub(super) fn encode(call: &Syscall) -> io::Result<RawCall> {
    let raw = raw_call(call);
    // the results of poll stand in the output
    let room = if raw.op == Op::Poll { OUTPUT_WORDS } else { INPUT_WORDS };
    if raw.input.len() > room {
        let why = "the path, the bytes or the files of a call are too many for an agent";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(raw)
}

/// Decodes the result of `call`: its register and the words that it stored.
pub(super) fn decode(call: &Syscall, value: i64, out: &[u64; OUTPUT_WORDS]) -> syscall::Result {
    if (-4095..0).contains(&value) {
        return Err(Errno(-value as u16));
    }
    Ok(ret(call, value, out))
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
