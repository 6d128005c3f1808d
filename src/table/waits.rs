//! Waits from outside of the model: what they ask, and which are concerned by which event.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::outbox::Wake;
use super::registry::ProcessKey;
use super::wait::Waited;
use crate::abi::{Errno, Pgid, Pid, WaitOptions};
use crate::kernel::{ExternalWake, Kernel};
use crate::sync::{Mutex, Parker};
use crate::syscall::Syscall;

/// Which children a wait is about, its group as it was when it began (WAIT-17).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum WaitKey {
    Any,
    Pid(u32),
    Pgid(u32),
}

impl WaitKey {
    const LAST: WaitKey = WaitKey::Pgid(u32::MAX);
}

/// What a wait asks the model, with the child or the group that it began with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WaitRequest {
    pub call: Syscall,
    pub about: WaitKey,
    /// The one child that it is about: its number may be another's by now.
    pub child: Option<ProcessKey>,
}

impl WaitRequest {
    /// Whether it asks not to sleep, which is for the method that is called to say.
    pub fn is_nonblocking(&self) -> bool {
        let Syscall::Waitid { options, .. } = &self.call else { return false };
        options.contains(WaitOptions::NOHANG)
    }

    /// The group that it is about, also if its caller has another by now (WAIT-17).
    pub fn group(&self) -> Option<Pgid> {
        match self.about {
            WaitKey::Pgid(number) => Some(Pgid(number)),
            WaitKey::Any | WaitKey::Pid(_) => None,
        }
    }
}

/// A wait that has begun.
#[derive(Debug)]
pub(super) struct WaitEntry {
    /// Whose children it is about.
    pub parent: ProcessKey,
    pub question: WaitRequest,
    pub parker: Arc<Parker>,
    stage: Mutex<WaitStage>,
    /// It takes what is found for it while it sleeps.
    pub takes_answers: bool,
    /// Lower numbers began earlier.
    pub number: u64,
}

#[derive(Debug)]
enum WaitStage {
    /// It goes on; the exit whose callback it has to wait for, by the process's serial, if any.
    Open(u64),
    Answered(Result<Waited, Errno>),
    Over,
}

impl WaitEntry {
    /// One that blocks a thread takes answers. One that may be dropped at any time does not, for
    /// the event would be lost: it is woken, and asks for itself.
    pub fn new(
        parent: ProcessKey,
        question: WaitRequest,
        takes_answers: bool,
        number: u64,
    ) -> WaitEntry {
        let stage = Mutex::new(WaitStage::Open(0));
        WaitEntry { parent, question, parker: Parker::new(), stage, takes_answers, number }
    }

    /// It is to look again.
    pub fn wake(&self) -> Wake {
        Wake::new(self.parker.clone(), Some(self.parent.pid))
    }

    /// It has to wait for the callback of that exit; whether that is new.
    pub fn hold(&self, serial: u64) -> bool {
        match &mut *self.stage.lock() {
            WaitStage::Open(holder) => core::mem::replace(holder, serial) != serial,
            WaitStage::Answered(_) | WaitStage::Over => false,
        }
    }

    /// It gives up, or has found something itself.
    pub fn close(&self) {
        *self.stage.lock() = WaitStage::Over;
    }

    /// Whether it goes on and nobody has answered it.
    pub fn is_open(&self) -> bool {
        matches!(&*self.stage.lock(), WaitStage::Open(_))
    }

    /// Whether the other one asks the same, of the same process.
    pub fn asks_like(&self, other: &WaitEntry) -> bool {
        (self.parent, &self.question) == (other.parent, &other.question)
    }

    /// Answers it. The parker is for the one who did to tell, outside of the table's lock.
    pub fn answer(&self, answer: Result<Waited, Errno>) {
        *self.stage.lock() = WaitStage::Answered(answer);
    }

    /// The answer that it was given.
    pub fn take_answer(&self) -> Option<Result<Waited, Errno>> {
        let mut stage = self.stage.lock();
        match core::mem::replace(&mut *stage, WaitStage::Over) {
            WaitStage::Answered(answer) => Some(answer),
            other => {
                *stage = other;
                None
            }
        }
    }
}

/// The waits that sleep, by their parent and what they are about.
#[derive(Debug, Default)]
pub(super) struct Waits {
    sleeping: BTreeMap<(Pid, WaitKey), Vec<Arc<WaitEntry>>>,
    begun: u64,
}

impl Waits {
    /// The number of a wait that begins.
    pub fn next_number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// A wait is about to sleep.
    pub fn add(&mut self, kernel: &mut Kernel, waiting: Arc<WaitEntry>) {
        let parent = waiting.parent.pid;
        kernel.watch(parent, true);
        self.sleeping.entry((parent, waiting.question.about)).or_default().push(waiting);
    }

    /// A wait does not sleep any more. Costs a scan of the waits for the same.
    pub fn remove(&mut self, kernel: &mut Kernel, waiting: &Arc<WaitEntry>) {
        let (parent, about) = (waiting.parent.pid, waiting.question.about);
        let Some(list) = self.sleeping.get_mut(&(parent, about)) else { return };
        list.retain(|other| !Arc::ptr_eq(other, waiting));
        if list.is_empty() {
            self.sleeping.remove(&(parent, about));
            if self.of_parent(parent).next().is_none() {
                kernel.watch(parent, false);
            }
        }
    }

    /// Those whom an event of a child concerns. Costs those, and O(log waits).
    pub fn candidate_waits(&self, woken: &ExternalWake) -> impl Iterator<Item = &Arc<WaitEntry>> {
        let about = [WaitKey::Any, WaitKey::Pid(woken.child.0), WaitKey::Pgid(woken.pgid.0)];
        let parent = woken.parent;
        about.into_iter().filter_map(move |about| self.sleeping.get(&(parent, about))).flatten()
    }

    /// All that wait for children of a process.
    pub fn of_parent(&self, parent: Pid) -> impl Iterator<Item = &Arc<WaitEntry>> {
        let range = (parent, WaitKey::Any)..=(parent, WaitKey::LAST);
        self.sleeping.range(range).flat_map(|(_, list)| list)
    }
}
