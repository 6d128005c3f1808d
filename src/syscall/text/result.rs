//! The printer and the reader of each result of a call.

use core::convert::Infallible;
use core::fmt::{self, Display};

use super::Fault;
use super::cursor::{Cursor, Result};
use super::kind::Structure;
use super::parse;
use super::print::{Info, Octal};
use crate::abi::{Itimerval, Rlimit, SigAction, SigInfo, SigSet, Signal};
use crate::syscall::{Ret, gives};

/// The result of a successful call: a number, and a value that it stores.
pub(super) trait ResultKind {
    /// The value.
    type Stored;

    /// Reads the value.
    fn read(c: &mut Cursor<'_>) -> Result<Self::Stored>;

    /// The result with both; `None` if the call cannot return that.
    fn ret(number: i64, stored: Option<Self::Stored>) -> Option<Ret>;

    /// The value, for the printer.
    fn shown(ret: &Ret) -> Option<impl Display>;

    /// Prints the number.
    fn number(number: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        number.fmt(f)
    }
}

impl ResultKind for gives::Number {
    type Stored = Infallible;

    fn read(_: &mut Cursor<'_>) -> Result<Infallible> {
        Err(Fault::Unmodelled)
    }

    fn ret(number: i64, _: Option<Infallible>) -> Option<Ret> {
        Some(Ret::Value(number))
    }

    fn shown(_: &Ret) -> Option<impl Display> {
        None::<&str>
    }
}

impl ResultKind for gives::Octal {
    type Stored = Infallible;

    fn read(c: &mut Cursor<'_>) -> Result<Infallible> {
        gives::Number::read(c)
    }

    fn ret(number: i64, stored: Option<Infallible>) -> Option<Ret> {
        gives::Number::ret(number, stored)
    }

    fn shown(_: &Ret) -> Option<impl Display> {
        None::<&str>
    }

    fn number(number: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(number) {
            Ok(mask) => Octal(mask).fmt(f),
            Err(_) => number.fmt(f),
        }
    }
}

/// A call that returns 0, and stores a structure at a pointer.
macro_rules! old {
    ($gives:ident, $type:ty) => {
        impl ResultKind for gives::$gives {
            type Stored = $type;

            fn read(c: &mut Cursor<'_>) -> Result<$type> {
                <$type as Structure>::read(c)
            }

            fn ret(number: i64, stored: Option<$type>) -> Option<Ret> {
                (number == 0).then_some(Ret::$gives(stored))
            }

            fn shown(ret: &Ret) -> Option<impl Display> {
                if let Ret::$gives(stored) = ret { stored.map(Structure::shown) } else { None }
            }
        }
    };
}

old!(Action, SigAction);
old!(Mask, SigSet);
old!(Itimer, Itimerval);
old!(Limit, Rlimit);

impl ResultKind for gives::Pending {
    type Stored = SigSet;

    fn read(c: &mut Cursor<'_>) -> Result<SigSet> {
        c.sigset()
    }

    fn ret(number: i64, stored: Option<SigSet>) -> Option<Ret> {
        // a set of size 0 is not stored
        (number == 0).then(|| Ret::Pending(stored.unwrap_or_default()))
    }

    fn shown(ret: &Ret) -> Option<impl Display> {
        if let Ret::Pending(stored) = ret { Some(*stored) } else { None }
    }
}

impl ResultKind for gives::Signal {
    type Stored = Option<SigInfo>;

    fn read(c: &mut Cursor<'_>) -> Result<Option<SigInfo>> {
        parse::info(c)?.filled()
    }

    fn ret(number: i64, stored: Option<Option<SigInfo>>) -> Option<Ret> {
        let signal = Signal::new(i32::try_from(number).ok()?)?;
        let info = stored.flatten().unwrap_or_else(|| SigInfo::lost(signal));
        (info.signal == signal).then_some(Ret::Signal(info))
    }

    fn shown(ret: &Ret) -> Option<impl Display> {
        if let Ret::Signal(stored) = ret { Some(Info(stored)) } else { None }
    }
}
