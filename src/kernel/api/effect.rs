//! The effects of a transition, and their causes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::{fmt, iter};

use crate::abi::{Errno, Pgid, Pid, SigInfo, Signal, Time, WaitStatus};
use crate::kernel::api::identity::PidId;
use crate::kernel::api::rule::{Rule, RuleSet};
use crate::syscall::{self, text::RestartCode};

/// How a blocked call that a signal has interrupted ends (the kernel's internal error codes, which
/// strace shows).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Restart {
    /// ERESTARTSYS: restarted unless a handler without SA_RESTART runs (SIG-44).
    Sys,
    /// ERESTARTNOHAND: restarted unless a handler runs (SIG-44).
    NoHandler,
    /// ERESTART_RESTARTBLOCK: restarted with the end of its timeout unless a handler runs:
    /// poll(2).
    Block(Option<Time>),
}

impl From<Restart> for RestartCode {
    fn from(restart: Restart) -> RestartCode {
        match restart {
            Restart::Sys => RestartCode::Sys,
            Restart::NoHandler => RestartCode::NoHand,
            Restart::Block(_) => RestartCode::Block,
        }
    }
}

/// One consequence of a transition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Consequence {
    /// A call of the process that was blocked, or interrupted, returned.
    Returned(syscall::Result),
    /// The program sees the result of a call that had returned before: the thread was stopped in
    /// between, or in a handler, or about to be.
    Resumed(syscall::Result),
    /// A blocked call was interrupted; a restart or a `Returned` follows.
    Interrupted(Restart),
    /// The handler of a signal was set up. Several may be set up at once: the last one runs first
    /// (SIG-36).
    Caught(SigInfo),
    /// The body of the handler that was set up last begins: its siginfo, and its address.
    Handling(SigInfo, u64),
    /// A signal was generated for a process under the authority of the host, which has to act on
    /// it.
    Forwarded(SigInfo),
    /// A signal whose default action the runtime performs was delivered to the thread.
    Delivered(SigInfo),
    /// A signal became pending.
    Generated(SigInfo),
    /// A signal was dropped, at generation or at delivery.
    Discarded(Signal),
    /// The process was created by the actor.
    Created,
    /// The thread was created by the actor, in its process.
    ThreadCreated,
    /// The thread has ended, or its number is now the number of the process (EXEC-12). The number
    /// of a leader that has ended stays in use until the process is reaped.
    ThreadEnded,
    /// 0 was stored at that address, and a futex(2) waiter at that address is to be woken
    /// (CLONE_CHILD_CLEARTID).
    TidCleared(u64),
    /// The process runs a new program.
    Executed,
    /// The process stopped.
    Stopped(Signal),
    /// The process continued.
    Continued,
    /// The process ended and is a zombie, unless a `Reaped` follows.
    Ended(WaitStatus),
    /// The zombie is gone.
    Reaped,
    /// The process has a new parent; 0 if the parent is not visible.
    Reparented(Pid),
    /// The group became orphaned while a member was stopped.
    Orphaned(Pgid),
}

/// The task, the call and the rule that brought an effect about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cause {
    /// The task that acted; 0 for the passing of time.
    pub actor: Pid,
    /// The call of that task; `None` if the task acted without a call (it delivered, stopped,
    /// ended).
    pub call: Option<&'static str>,
    /// The rule that requires the effect.
    pub rule: Rule,
}

/// The process or thread that an effect concerns.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Subject {
    pub id: PidId,
    pub pid: Pid,
}

/// A consequence, the process or thread that it concerns, and its cause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// The identity of the process or thread that the effect concerns. After its removal the
    /// identity resolves to no number any more ([`Kernel::pid`]).
    ///
    /// [`Kernel::pid`]: crate::kernel::Kernel::pid
    pub id: PidId,
    /// The number of that process or thread, or its last number.
    pub pid: Pid,
    /// What happened.
    pub what: Consequence,
    /// Why.
    pub cause: Cause,
}

impl fmt::Display for Effect {
    /// A sentence: `31: SIGHUP generated (12 by itself, ORP-09)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (", self.pid, self.what)?;
        match (self.cause.actor, self.cause.call) {
            (Pid(0), _) => write!(f, "time")?,
            (actor, Some(call)) => write!(f, "{actor} in {call}")?,
            (actor, None) => write!(f, "{actor} by itself")?,
        }
        write!(f, ", {})", self.cause.rule)
    }
}

impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consequence::Returned(Ok(ret)) => write!(f, "call returned {}", ret.value()),
            Consequence::Returned(Err(errno)) => write!(f, "call failed with {errno}"),
            Consequence::Resumed(_) => write!(f, "sees the result of its call"),
            Consequence::Interrupted(_) => write!(f, "call interrupted"),
            Consequence::Caught(info) => write!(f, "{} caught", info.signal),
            Consequence::Handling(info, _) => write!(f, "handler of {} begins", info.signal),
            Consequence::Forwarded(info) => write!(f, "{} forwarded", info.signal),
            Consequence::Delivered(info) => write!(f, "{} delivered", info.signal),
            Consequence::Generated(info) => write!(f, "{} generated", info.signal),
            Consequence::Discarded(signal) => write!(f, "{signal} discarded"),
            Consequence::Created => write!(f, "created"),
            Consequence::ThreadCreated => write!(f, "thread created"),
            Consequence::ThreadEnded => write!(f, "thread ended"),
            Consequence::TidCleared(address) => write!(f, "0 stored at {address:#x}"),
            Consequence::Executed => write!(f, "executed a program"),
            Consequence::Stopped(signal) => write!(f, "stopped by {signal}"),
            Consequence::Continued => write!(f, "continued"),
            Consequence::Ended(status) => write!(f, "ended: {status}"),
            Consequence::Reaped => write!(f, "reaped"),
            Consequence::Reparented(to) => write!(f, "is now a child of {to}"),
            Consequence::Orphaned(pgid) => write!(f, "group {pgid} is orphaned"),
        }
    }
}

/// An event of a child that a wait from outside of the model may include: that wait has to poll
/// again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExternalWake {
    /// The parent of the child.
    pub parent: Pid,
    /// The child; it may be reaped already.
    pub child: Pid,
    /// The identity of the child.
    pub child_id: PidId,
    /// The identity of the group of the child.
    pub group_id: PidId,
}

/// The effects of one or more transitions in order, and the rules that they obeyed.
///
/// The caller owns it and may reuse it: [`Effects::clear`] keeps the memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effects {
    list: Vec<Effect>,
    external_wakes: Vec<ExternalWake>,
    /// The terminals of which an end may be ready.
    terminals: Vec<u32>,
    /// Whether rules without an effect are noted.
    noting: bool,
    /// Allocated with the first rule: most values of this type note none.
    rules: Option<Box<RuleSet>>,
    last: Option<Rule>,
    actor: Pid,
    call: Option<&'static str>,
}

impl Default for Effects {
    fn default() -> Effects {
        Effects::new()
    }
}

impl Effects {
    /// No effects.
    pub const fn new() -> Effects {
        Effects {
            list: Vec::new(),
            external_wakes: Vec::new(),
            terminals: Vec::new(),
            noting: true,
            rules: None,
            last: None,
            actor: Pid(0),
            call: None,
        }
    }

    /// No effects, for a caller that reads [`Effects::list`] and [`Effects::external_wakes`] only:
    /// no rules are noted, except for the rule in each effect's cause.
    pub fn without_rules() -> Effects {
        Effects { noting: false, ..Effects::new() }
    }

    /// Removes all effects, and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        // tested first: the lists are nearly always empty, and clearing them costs a call
        if !self.list.is_empty() {
            self.list.clear();
        }
        if !self.external_wakes.is_empty() {
            self.external_wakes.clear();
        }
        if !self.terminals.is_empty() {
            self.terminals.clear();
        }
        if self.noting {
            if let Some(rules) = &mut self.rules {
                rules.clear();
            }
            self.last = None;
        }
    }

    /// The effects, in order.
    pub fn list(&self) -> &[Effect] {
        &self.list
    }

    /// The events of children of watched processes (see [`Kernel::watch`]), in order.
    ///
    /// [`Kernel::watch`]: crate::kernel::Kernel::watch
    pub fn external_wakes(&self) -> &[ExternalWake] {
        &self.external_wakes
    }

    /// The numbers of the terminals of which an end may have become ready, for a runtime that has
    /// the master ([`Kernel::read_pty`]).
    ///
    /// [`Kernel::read_pty`]: crate::kernel::Kernel::read_pty
    pub fn terminals(&self) -> &[u32] {
        &self.terminals
    }

    /// The rules that were obeyed, including those without an effect. Empty with
    /// [`Effects::without_rules`].
    pub fn rules(&self) -> &RuleSet {
        static NONE: RuleSet = RuleSet::EMPTY;
        self.rules.as_deref().unwrap_or(&NONE)
    }

    /// The rule that was obeyed last; after a failed call it is the rule that refused the call.
    /// `None` with [`Effects::without_rules`].
    pub fn last_rule(&self) -> Option<Rule> {
        self.last
    }

    /// Whether rules without an effect are noted.
    #[inline]
    pub(in crate::kernel) fn notes_rules(&self) -> bool {
        self.noting
    }

    /// A transition by `actor` begins.
    pub(in crate::kernel) fn begin(&mut self, actor: Pid, call: Option<&'static str>) {
        self.actor = actor;
        self.call = call;
    }

    /// Notes a rule that has no effect of its own.
    #[inline]
    pub(in crate::kernel) fn obey(&mut self, rule: Rule) {
        if self.noting {
            self.note(rule);
        }
    }

    /// Notes several rules, as [`Effects::obey`] does one.
    #[inline]
    pub(in crate::kernel) fn obey_all(&mut self, rules: &[Rule]) {
        if self.noting {
            rules.iter().for_each(|rule| self.note(*rule));
        }
    }

    /// Not inlined: the table notes no rules, and each of many callers would contain this code.
    #[cold]
    fn note(&mut self, rule: Rule) {
        self.rules.get_or_insert_default().insert(rule);
        self.last = Some(rule);
    }

    /// Notes that an end of a terminal may be ready.
    pub(in crate::kernel) fn note_terminal(&mut self, number: u32) {
        if self.terminals.last() != Some(&number) {
            self.terminals.push(number);
        }
    }

    /// Notes that the waits from outside have to poll again.
    pub(in crate::kernel) fn wake(&mut self, woken: ExternalWake) {
        self.external_wakes.push(woken);
    }

    /// Adds an effect on `subject`.
    #[inline]
    pub(in crate::kernel) fn push(&mut self, subject: Subject, what: Consequence, rule: Rule) {
        self.push_with(subject, rule, || what);
    }

    /// Adds an effect on `subject` that is constructed in place: a copy of it would wait for the
    /// stores of its fields.
    #[inline]
    pub(in crate::kernel) fn push_with(
        &mut self,
        subject: Subject,
        rule: Rule,
        what: impl FnOnce() -> Consequence,
    ) {
        self.obey(rule);
        let cause = Cause { actor: self.actor, call: self.call, rule };
        self.list.extend(iter::once_with(|| Effect {
            id: subject.id,
            pid: subject.pid,
            what: what(),
            cause,
        }));
    }
}

/// Notes the rule, and fails with `errno`.
pub(in crate::kernel) fn refuse<T>(fx: &mut Effects, rule: Rule, errno: Errno) -> Result<T, Errno> {
    fx.obey(rule);
    Err(errno)
}
