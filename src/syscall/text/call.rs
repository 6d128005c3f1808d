//! Calls printed and read, as the declaration says.

use core::fmt::{self, Display, Formatter};

use super::cursor::{Cursor, Result};
use super::kind::Kind;
use super::parse::close;
use super::print::{error, interrupted};
use super::result::ResultKind;
use super::terminal::Ready;
use super::{CallEnd, CallPrefix, Fault, irregular};
use crate::abi::SigSet;
use crate::syscall::{Prctl, Ret, Syscall, declared, gives, kind};

/// A call on one line: `getpid() = 1`.
pub(crate) struct Whole<'a> {
    pub(crate) call: &'a Syscall,
    pub(crate) outcome: &'a CallEnd,
    /// The mask that rt_sigreturn(2) restores.
    pub(crate) mask: SigSet,
}

impl Display for Whole<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.call.name())?;
        if *self.call == Syscall::RtSigreturn {
            write!(f, "{{mask={}}}", self.mask)?;
        }
        head(f, self.call)?;
        write!(f, "{}", Tail { call: self.call, outcome: self.outcome })
    }
}

/// The arguments that strace shows before the call returns.
pub(crate) struct Head<'a>(pub(crate) &'a CallPrefix);

impl Display for Head<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        head(f, self.0.call())
    }
}

/// The arguments that strace shows when the call has returned, the parenthesis and the result.
pub(crate) struct Tail<'a> {
    pub(crate) call: &'a Syscall,
    pub(crate) outcome: &'a CallEnd,
}

impl Display for Tail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ret = match self.outcome {
            CallEnd::Returned(Ok(ret)) => Some(ret),
            CallEnd::Returned(Err(_)) | CallEnd::Interrupted(_) => None,
        };
        tail(f, self.call, ret)?;
        f.write_str(") = ")?;
        match self.outcome {
            CallEnd::Returned(Ok(Ret::Never)) => f.write_str("?"),
            CallEnd::Returned(Ok(ret)) => {
                number(f, self.call, ret.value())?;
                match (self.call, ret) {
                    (Syscall::Poll { files, .. }, Ret::Polled(ready)) => {
                        write!(f, " {}", Ready(files, ready))
                    }
                    _ => Ok(()),
                }
            }
            CallEnd::Returned(Err(errno)) => error(f, *errno),
            CallEnd::Interrupted(restart) => interrupted(f, *restart),
        }
    }
}

/// A call that has returned.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) call: Syscall,
    pub(crate) outcome: CallEnd,
    /// The mask that rt_sigreturn(2) restores.
    pub(crate) mask: SigSet,
}

/// Reads `name(arguments) = result`.
pub(crate) fn whole(text: &str) -> Result<Read> {
    let c = &mut Cursor::new(text);
    let (begun, mask) = read_begun(c)?;
    let (call, outcome) = finish(c, begun)?;
    Ok(Read { call, outcome, mask })
}

/// Reads `name(arguments`, as much as strace shows before the call returns.
pub(crate) fn begun(text: &str) -> Result<(CallPrefix, SigSet)> {
    let c = &mut Cursor::new(text);
    let (call, mask) = read_begun(c)?;
    // the size of clone3 may follow, which the model drops
    if let Syscall::Clone { .. } = call {
        c.skip_arguments()?;
    }
    if c.at_end() {
        Ok((CallPrefix::of(&call), mask))
    } else {
        c.fail("expected ` <unfinished ...>`")
    }
}

fn read_begun(c: &mut Cursor<'_>) -> Result<(Syscall, SigSet)> {
    let name = c.word();
    if name.is_empty() {
        return c.fail("expected the name of a call");
    }
    c.expect("(")?;
    let mut mask = SigSet::EMPTY;
    if name == "rt_sigreturn" {
        c.expect("{")?;
        c.expect("mask=")?;
        mask = c.sigset()?;
        c.expect("}")?;
    }
    Ok((read(c, name)?, mask))
}

/// Prints arguments, with commas between.
struct Printer<'a, 'b> {
    f: &'a mut Formatter<'b>,
    ret: Option<&'a Ret>,
    some: bool,
    result: fmt::Result,
}

impl<'a, 'b> Printer<'a, 'b> {
    fn new(f: &'a mut Formatter<'b>, ret: Option<&'a Ret>) -> Printer<'a, 'b> {
        Printer { f, ret, some: false, result: Ok(()) }
    }

    fn put(&mut self, print: impl FnOnce(&mut Formatter<'b>) -> fmt::Result) {
        let comma = if self.some { ", " } else { "" };
        self.some = true;
        if self.result.is_ok() {
            self.result = self.f.write_str(comma).and_then(|()| print(self.f));
        }
    }

    /// An argument that strace shows before the call returns.
    fn before<K: Kind<T>, T>(mut self, value: &T) -> Self {
        self.put(|f| K::print(value, f));
        self
    }

    /// An argument that strace shows when the call has returned.
    fn after<K: Kind<T>, T, G: ResultKind>(mut self, value: &T) -> Self {
        let ret = self.ret;
        self.put(|f| K::print_after::<G>(value, ret, f));
        self
    }

    /// Such arguments follow in the text.
    fn cut(mut self, _: &[&str]) -> Self {
        if self.some {
            self.put(|_| Ok(()));
        }
        self
    }
}

/// Reads arguments, with commas between.
struct Reader<'a, 'b> {
    c: &'a mut Cursor<'b>,
    some: bool,
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(c: &'a mut Cursor<'b>) -> Reader<'a, 'b> {
        Reader { c, some: false }
    }

    fn comma(&mut self) -> Result<&mut Cursor<'b>> {
        if self.some {
            self.c.comma()?;
        }
        self.some = true;
        Ok(self.c)
    }

    fn before<K: Kind<T>, T>(&mut self) -> Result<T> {
        K::read(self.comma()?)
    }

    fn after<K: Kind<T>, T, G: ResultKind>(&mut self, stored: &mut Option<G::Stored>) -> Result<T> {
        K::read_after::<G>(self.comma()?, stored)
    }

    /// More arguments follow, perhaps in another line.
    fn cut(&mut self, _: &[&str]) -> Result<()> {
        self.comma().map(|_| ())
    }

    /// The end of the arguments, and the result.
    fn outcome(&mut self, ret: impl FnOnce(i64) -> Option<Ret>) -> Result<CallEnd> {
        close(self.c)?.outcome(self.c, ret)
    }
}

macro_rules! text {
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
        /// Prints the arguments that strace shows before the call returns.
        fn head(f: &mut Formatter<'_>, call: &Syscall) -> fmt::Result {
            match call {
                $( Syscall::$call { $(0: $one,)? $($($head,)*)? .. } => {
                    Printer::new(f, None)
                        $( .before::<kind::$one_kind, _>($one) )?
                        $(
                            $( .before::<kind::$head_kind, _>($head) )*
                            $( .cut(&[$(stringify!($tail)),+]) )?
                        )?
                        .result
                } )*
                $( Syscall::$call_ { $(0: $one_,)? $($($head_,)*)? .. } => {
                    irregular::$call_::head(f, $($one_)? $($($head_,)*)?)
                } )*
            }
        }

        /// Prints the arguments that strace shows when the call has returned.
        fn tail(f: &mut Formatter<'_>, call: &Syscall, ret: Option<&Ret>) -> fmt::Result {
            match call {
                $( Syscall::$call { $($( $($tail,)+ )?)? .. } => {
                    Printer::new(f, ret)
                        $($( $( .after::<kind::$tail_kind, _, gives::$gives>($tail) )+ )?)?
                        .result
                } )*
                $( Syscall::$call_ { $(0: $one_,)? $($($head_,)* $($($tail_,)+)?)? } => {
                    irregular::$call_::tail(f, ret, $($one_)? $($($head_,)* $($($tail_,)+)?)?)
                } )*
            }
        }

        /// Prints the number that the call returned.
        fn number(f: &mut Formatter<'_>, call: &Syscall, number: i64) -> fmt::Result {
            if let Syscall::Prctl(Prctl::GetDumpable) = call {
                return irregular::Prctl::dumpable(f, number);
            }
            match call {
                $( Syscall::$call { .. } => gives::$gives::number(number, f), )*
                $( Syscall::$call_ { .. } => number.fmt(f), )*
            }
        }

        /// Reads the arguments that strace shows before the call returns. The others have defaults.
        #[allow(unused_variables, reason = "there are calls without arguments")]
        fn read(c: &mut Cursor<'_>, name: &str) -> Result<Syscall> {
            if name == "clone3" {
                return irregular::Clone::read3(c);
            }
            $( if is_named(stringify!($number), name) {
                let r = &mut Reader::new(c);
                $( let $one = r.before::<kind::$one_kind, _>()?; )?
                $( $( let $head = r.before::<kind::$head_kind, _>()?; )* )?
                $($( r.cut(&[$(stringify!($tail)),+])?; )?)?
                return Ok(Syscall::$call {
                    $(0: $one,)? $($($head,)* $($($tail: Default::default(),)+)?)?
                });
            } )*
            $( if is_named(stringify!($number_), name) {
                return irregular::$call_::read(c);
            } )*
            Err(Fault::Unmodelled)
        }

        /// Reads the rest of a call.
        fn finish(c: &mut Cursor<'_>, call: Syscall) -> Result<(Syscall, CallEnd)> {
            match call {
                $( Syscall::$call { $(0: $one,)? $($($head,)*)? .. } => {
                    let (r, stored) = (&mut Reader::new(c), &mut None);
                    $($( $(
                        let $tail =
                            r.after::<kind::$tail_kind, _, gives::$gives>(stored)?;
                    )+ )?)?
                    let outcome = r.outcome(|number| gives::$gives::ret(number, stored.take()))?;
                    Ok((Syscall::$call {
                        $(0: $one,)? $($($head,)* $($($tail,)+)?)?
                    }, outcome))
                } )*
                $( Syscall::$call_ { $(0: $one_,)? $($($head_,)*)? .. } => {
                    irregular::$call_::finish(c, $($one_)? $($($head_,)*)?)
                } )*
            }
        }
    };
}
declared!(text);

/// Whether `number`, a name with `SYS_`, is the number of the call `name`.
fn is_named(number: &str, name: &str) -> bool {
    number.strip_prefix("SYS_") == Some(name)
}
