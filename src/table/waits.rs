//! Waits of the runtime: their requests, and the events that concern them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::outbox::Wake;
use super::registry::ProcessKey;
use super::wait::Waited;
use crate::abi::{Errno, Pid, WaitOptions};
use crate::kernel::{ExternalWake, Kernel, WaitSelector};
use crate::sync::{Mutex, Parker};
use crate::syscall::Syscall;

/// The request of a wait to the model, with the child or the group that it began with (WAIT-17).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WaitRequest {
    pub call: Syscall,
    /// The children that the wait selects, instead of the number in the call, which a later process
    /// or group may have.
    pub selector: WaitSelector,
}

impl WaitRequest {
    /// Whether the options include NOHANG, which the choice of the method decides instead.
    pub fn is_nonblocking(&self) -> bool {
        let Syscall::Waitid { options, .. } = &self.call else { return false };
        options.contains(WaitOptions::NOHANG)
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

/// The sleeping waits, by their parent and selector.
#[derive(Debug, Default)]
pub(super) struct Waits {
    sleeping: BTreeMap<(Pid, WaitSelector), Vec<Arc<WaitEntry>>>,
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
        self.sleeping.entry((parent, waiting.request.selector)).or_default().push(waiting);
    }

    /// Removes a wait. Costs a scan of the waits with the same selector.
    pub fn remove(&mut self, kernel: &mut Kernel, waiting: &Arc<WaitEntry>) {
        let (parent, selector) = (waiting.parent.pid, waiting.request.selector);
        let Some(list) = self.sleeping.get_mut(&(parent, selector)) else { return };
        list.retain(|other| !Arc::ptr_eq(other, waiting));
        if list.is_empty() {
            self.sleeping.remove(&(parent, selector));
            if self.of_parent(parent).next().is_none() {
                kernel.watch(parent, false);
            }
        }
    }

    /// The waits that an event of a child concerns. O(log waits), and O(1) for each of the results.
    pub fn candidate_waits(&self, woken: &ExternalWake) -> impl Iterator<Item = &Arc<WaitEntry>> {
        let (child, group) = (Some(woken.child_id), Some(woken.group_id));
        let selectors = [WaitSelector::Any, WaitSelector::Pid(child), WaitSelector::Pgid(group)];
        let parent = woken.parent;
        selectors.into_iter().filter_map(move |key| self.sleeping.get(&(parent, key))).flatten()
    }

    /// All waits for children of a process.
    pub fn of_parent(&self, parent: Pid) -> impl Iterator<Item = &Arc<WaitEntry>> {
        let next = Pid(parent.0.saturating_add(1));
        let range = (parent, WaitSelector::Any)..(next, WaitSelector::Any);
        self.sleeping.range(range).flat_map(|(_, list)| list)
    }
}
