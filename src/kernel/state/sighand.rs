//! Dispositions: the action of a process for each signal.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::abi::DefaultAction;
use crate::abi::{Handler, SaFlags, SigAction, SigSet, Signal};

/// The dispositions of one process, or of several that share them (FORK-27).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sighand {
    /// How many processes use it. Not zero, so that a slot of an arena takes no extra word.
    users: NonZeroU32,
    /// The actions, if one of them is not SIG_DFL without flags. Several holders share them until
    /// one of them changes them, so that a fork copies nothing.
    actions: Option<Arc<Actions>>,
}

/// The actions that are not SIG_DFL without flags.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Actions {
    caught: SigSet,
    ignored: SigSet,
    /// Ascending by signal.
    list: Vec<(Signal, SigAction)>,
}

impl Actions {
    const NONE: Actions =
        Actions { caught: SigSet::EMPTY, ignored: SigSet::EMPTY, list: Vec::new() };
}

/// The effect of a signal at its delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Disposition {
    /// SIG_DFL, and its default action.
    Default(DefaultAction),
    /// SIG_IGN.
    Ignored,
    /// A handler.
    Caught,
}

impl Disposition {
    /// Whether it is SIG_DFL.
    pub fn is_default(self) -> bool {
        matches!(self, Disposition::Default(_))
    }

    /// Whether the signal has no effect: SIG_IGN, or SIG_DFL if the default action is to ignore it.
    pub fn is_ignored(self) -> bool {
        matches!(self, Disposition::Ignored | Disposition::Default(DefaultAction::Ignore))
    }
}

impl Sighand {
    /// SIG_DFL for all signals.
    pub fn new() -> Sighand {
        Sighand { users: NonZeroU32::MIN, actions: None }
    }

    /// Whether more than one process uses it.
    pub fn is_shared(&self) -> bool {
        self.users > NonZeroU32::MIN
    }

    /// One more process uses it.
    pub fn share(&mut self) {
        self.users = self.users.saturating_add(1);
    }

    /// One process less uses it; `false` if no process is left.
    pub fn unshare(&mut self) -> bool {
        let users = NonZeroU32::new(self.users.get() - 1);
        self.users = users.unwrap_or(self.users);
        users.is_some()
    }

    fn actions(&self) -> &Actions {
        static NONE: Actions = Actions::NONE;
        self.actions.as_deref().unwrap_or(&NONE)
    }

    /// A copy for a new process (FORK-03).
    pub fn copy(&self) -> Sighand {
        Sighand { users: NonZeroU32::MIN, actions: self.actions.clone() }
    }

    /// The signals set to SIG_IGN.
    pub fn ignored(&self) -> SigSet {
        self.actions().ignored
    }

    /// The signals that are caught.
    pub fn caught(&self) -> SigSet {
        self.actions().caught
    }

    /// The action for `signal`.
    pub fn get(&self, signal: Signal) -> SigAction {
        let list = &self.actions().list;
        match list.binary_search_by_key(&signal, |(signal, _)| *signal) {
            Ok(at) => list[at].1,
            Err(_) => SigAction::DEFAULT,
        }
    }

    /// The effect of `signal` at its delivery.
    #[inline]
    pub fn disposition_of(&self, signal: Signal) -> Disposition {
        let actions = self.actions();
        if actions.caught.contains(signal) {
            Disposition::Caught
        } else if actions.ignored.contains(signal) {
            Disposition::Ignored
        } else {
            Disposition::Default(signal.default_action())
        }
    }

    /// Whether the handler of `signal` is SIG_DFL.
    pub fn is_default(&self, signal: Signal) -> bool {
        self.disposition_of(signal).is_default()
    }

    pub fn set(&mut self, signal: Signal, action: SigAction) {
        let actions = Arc::make_mut(self.actions.get_or_insert_default());
        actions.ignored = actions.ignored.without(signal);
        actions.caught = actions.caught.without(signal);
        match action.handler {
            Handler::Default => {}
            Handler::Ignore => actions.ignored = actions.ignored.with(signal),
            Handler::Catch(_) => actions.caught = actions.caught.with(signal),
        }
        match actions.list.binary_search_by_key(&signal, |(signal, _)| *signal) {
            Ok(at) if action == SigAction::DEFAULT => {
                actions.list.remove(at);
            }
            Ok(at) => actions.list[at].1 = action,
            Err(_) if action == SigAction::DEFAULT => {}
            Err(at) => actions.list.insert(at, (signal, action)),
        }
        if actions.list.is_empty() {
            self.actions = None;
        }
    }

    /// Handlers become SIG_DFL, all flags and masks are cleared, and SIG_IGN stays (EXEC-01,
    /// EXEC-02).
    #[inline]
    pub fn reset_for_exec(&mut self) {
        if self.actions.is_some() {
            self.reset_actions();
        }
    }

    fn reset_actions(&mut self) {
        let ignored = self.ignored();
        if ignored.is_empty() {
            self.actions = None;
            return;
        }
        let list = ignored.iter().map(|signal| (signal, SigAction::IGNORE)).collect();
        self.actions = Some(Arc::new(Actions { caught: SigSet::EMPTY, ignored, list }));
    }

    /// The handler becomes SIG_DFL; flags and mask stay (SIG-42).
    pub fn reset_handler(&mut self, signal: Signal) {
        let action = SigAction { handler: Handler::Default, ..self.get(signal) };
        self.set(signal, action);
    }

    /// Whether children that end are reaped at once (ZOM-02, ZOM-03).
    pub fn reaps_children(&self) -> bool {
        self.ignored().contains(Signal::CHLD)
            || self.get(Signal::CHLD).flags.contains(SaFlags::NOCLDWAIT)
    }
}
