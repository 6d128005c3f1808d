//! Waits of the runtime: their requests, and the events that concern them.

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

/// The children that a wait includes, with the group that the process had when the wait began
/// (WAIT-17).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum WaitKey {
    Any,
    Pid(u32),
    Pgid(u32),
}

impl WaitKey {
    const LAST: WaitKey = WaitKey::Pgid(u32::MAX);
}

/// The request of a wait to the model, with the child or the group that it began with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WaitRequest {
    pub call: Syscall,
    pub about: WaitKey,
    /// The one child that the wait includes: another process may have its number now.
    pub child: Option<ProcessKey>,
}

impl WaitRequest {
    /// Whether the options include NOHANG, which the choice of the method decides instead.
    pub fn is_nonblocking(&self) -> bool {
        let Syscall::Waitid { options, .. } = &self.call else { return false };
        options.contains(WaitOptions::NOHANG)
    }

    /// The process group of the request, also if its caller has changed its group (WAIT-17).
    pub fn group(&self) -> Option<Pgid> {
        match self.about {
            WaitKey::Pgid(number) => Some(Pgid(number)),
            WaitKey::Any | WaitKey::Pid(_) => None,
        }
    }
}

/// A wait in progress.
#[derive(Debug)]
pub(super) struct WaitEntry {
    /// The process whose children the wait includes.
    pub parent: ProcessKey,
    pub request: WaitRequest,
    pub parker: Arc<Parker>,
    stage: Mutex<WaitStage>,
    /// The wait takes an answer while it sleeps.
    pub takes_answers: bool,
    /// Lower numbers began earlier.
    pub number: u64,
}

#[derive(Debug)]
enum WaitStage {
    /// In progress; the serial of the process whose exit callback it has to wait for, or 0.
    Open(u64),
    Answered(Result<Waited, Errno>),
    Over,
}

impl WaitEntry {
    /// A wait that blocks a thread takes answers. A wait that may be dropped at any time does not,
    /// because the event would be lost: it is woken, and polls for itself.
    pub fn new(
        parent: ProcessKey,
        request: WaitRequest,
        takes_answers: bool,
        number: u64,
    ) -> WaitEntry {
        let stage = Mutex::new(WaitStage::Open(0));
        WaitEntry { parent, request, parker: Parker::new(), stage, takes_answers, number }
    }

    /// The wake after which the wait polls again.
    pub fn wake(&self) -> Wake {
        Wake::new(self.parker.clone(), Some(self.parent.pid))
    }

    /// The wait has to wait for the exit callback of this process. Returns whether that is new.
    pub fn hold(&self, serial: u64) -> bool {
        match &mut *self.stage.lock() {
            WaitStage::Open(holder) => core::mem::replace(holder, serial) != serial,
            WaitStage::Answered(_) | WaitStage::Over => false,
        }
    }

    /// Ends the wait without an answer: its thread gives up, or has polled an event itself.
    pub fn close(&self) {
        *self.stage.lock() = WaitStage::Over;
    }

    /// Whether the wait is in progress and has no answer.
    pub fn is_open(&self) -> bool {
        matches!(&*self.stage.lock(), WaitStage::Open(_))
    }

    /// Whether the other wait has an equal request, of the same process.
    pub fn has_equal_request(&self, other: &WaitEntry) -> bool {
        (self.parent, &self.request) == (other.parent, &other.request)
    }

    /// Answers the wait. The calling thread unparks the parker, outside of the table's lock.
    pub fn answer(&self, answer: Result<Waited, Errno>) {
        *self.stage.lock() = WaitStage::Answered(answer);
    }

    /// Takes the answer.
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

/// The sleeping waits, by their parent and key.
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

    /// Adds a wait that is about to sleep.
    pub fn add(&mut self, kernel: &mut Kernel, waiting: Arc<WaitEntry>) {
        let parent = waiting.parent.pid;
        kernel.watch(parent, true);
        self.sleeping.entry((parent, waiting.request.about)).or_default().push(waiting);
    }

    /// Removes a wait. Costs a scan of the waits with the same key.
    pub fn remove(&mut self, kernel: &mut Kernel, waiting: &Arc<WaitEntry>) {
        let (parent, about) = (waiting.parent.pid, waiting.request.about);
        let Some(list) = self.sleeping.get_mut(&(parent, about)) else { return };
        list.retain(|other| !Arc::ptr_eq(other, waiting));
        if list.is_empty() {
            self.sleeping.remove(&(parent, about));
            if self.of_parent(parent).next().is_none() {
                kernel.watch(parent, false);
            }
        }
    }

    /// The waits that an event of a child concerns. O(log waits), and O(1) for each of the results.
    pub fn candidate_waits(&self, woken: &ExternalWake) -> impl Iterator<Item = &Arc<WaitEntry>> {
        let about = [WaitKey::Any, WaitKey::Pid(woken.child.0), WaitKey::Pgid(woken.pgid.0)];
        let parent = woken.parent;
        about.into_iter().filter_map(move |about| self.sleeping.get(&(parent, about))).flatten()
    }

    /// All waits for children of a process.
    pub fn of_parent(&self, parent: Pid) -> impl Iterator<Item = &Arc<WaitEntry>> {
        let range = (parent, WaitKey::Any)..=(parent, WaitKey::LAST);
        self.sleeping.range(range).flat_map(|(_, list)| list)
    }
}
