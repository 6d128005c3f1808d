//! The printer and the reader of each kind of argument.

use core::fmt::{self, Display};

use super::cursor::{Cursor, Result};
use super::names;
use super::parse;
use super::print::{self, Address, Limits, Named, Octal, Or, Out, Set, Sig, Span, User};
use super::result::ResultKind;
use crate::abi::{Itimerval, Resource, Rlimit, SigAction, SigSet, Timespec};
use crate::syscall::{Ptr, Ret, kind};

/// A kind of argument, for values of type `T`.
pub(super) trait Kind<T> {
    fn print(value: &T, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    fn read(c: &mut Cursor<'_>) -> Result<T>;

    /// Prints the argument when the call has returned.
    fn print_after<G: ResultKind>(
        value: &T,
        _ret: Option<&Ret>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        Self::print(value, f)
    }

    /// Reads the argument as strace shows it when the call has returned, and the value that the
    /// call stored.
    fn read_after<G: ResultKind>(c: &mut Cursor<'_>, _stored: &mut Option<G::Stored>) -> Result<T> {
        Self::read(c)
    }
}

/// A kind for a type: an expression that prints a value, and a function that reads one.
macro_rules! kind {
    ($kind:ident, $type:ty, $value:ident => $print:expr, $read:expr) => {
        impl Kind<$type> for kind::$kind {
            fn print($value: &$type, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $print.fmt(f)
            }

            fn read(c: &mut Cursor<'_>) -> Result<$type> {
                let read = $read;
                read(c)
            }
        }
    };
}

kind!(Number, i32, value => value, Cursor::i32);
kind!(Number, u32, value => value, Cursor::u32);
kind!(Number, usize, value => value, Cursor::usize);
kind!(Signal, i32, value => Sig(*value), Cursor::signal);
kind!(User, u32, value => User(*value), Cursor::u32);
kind!(Octal, u32, value => Octal(u64::from(*value)), Cursor::u32);
kind!(How, i32, value => Named(&names::HOW, *value as u32), |c: &mut Cursor<'_>| {
    c.named(&names::HOW).map(|how| how as i32)
});
kind!(Timer, i32, value => Named(&names::ITIMER, *value as u32), |c: &mut Cursor<'_>| {
    c.named(&names::ITIMER).map(|which| which as i32)
});
kind!(Resource, Resource, value => Named(&names::RESOURCE, value.0), |c: &mut Cursor<'_>| {
    c.named(&names::RESOURCE).map(Resource)
});
kind!(CloneFlags, u64, value => Set(&names::UNSHARE, *value), |c: &mut Cursor<'_>| {
    c.flags(&names::UNSHARE, |_| None)
});
// strace writes a number here, also for NULL
kind!(Address, u64, value => Or((*value != 0).then_some(Address(*value)), "0"), Cursor::address);

/// A structure at a pointer.
pub(super) trait Structure: Copy {
    fn shown(self) -> impl Display;
    fn read(c: &mut Cursor<'_>) -> Result<Self>;
}

macro_rules! structure {
    ($type:ty, $shown:expr, $read:expr) => {
        impl Structure for $type {
            fn shown(self) -> impl Display {
                $shown(self)
            }

            fn read(c: &mut Cursor<'_>) -> Result<$type> {
                $read(c)
            }
        }
    };
}

structure!(SigSet, core::convert::identity, Cursor::sigset);
structure!(SigAction, print::Action, parse::action);
structure!(Itimerval, print::Timer, parse::itimerval);
structure!(Rlimit, Limits, parse::rlimit);
structure!(Timespec, Span, parse::timespec);

impl<T: Structure> Kind<T> for kind::In {
    fn print(value: &T, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        value.shown().fmt(f)
    }

    fn read(c: &mut Cursor<'_>) -> Result<T> {
        c.needed(T::read)
    }
}

impl<T: Structure> Kind<Option<T>> for kind::Optional {
    fn print(value: &Option<T>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Or(value.map(T::shown), "NULL").fmt(f)
    }

    fn read(c: &mut Cursor<'_>) -> Result<Option<T>> {
        c.input(T::read)
    }
}

impl Kind<Ptr> for kind::Out {
    fn print(value: &Ptr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::pointer(f, *value)
    }

    fn read(c: &mut Cursor<'_>) -> Result<Ptr> {
        c.pointer()
    }

    fn print_after<G: ResultKind>(
        value: &Ptr,
        ret: Option<&Ret>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        Out(*value, ret.and_then(G::shown)).fmt(f)
    }

    fn read_after<G: ResultKind>(
        c: &mut Cursor<'_>,
        stored: &mut Option<G::Stored>,
    ) -> Result<Ptr> {
        let (ptr, value) = c.out(G::read)?.split();
        *stored = value;
        Ok(ptr)
    }
}
