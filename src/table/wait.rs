//! The runtime's waits for children of a process. They block threads or are futures, have timeouts,
//! and can be cancelled.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::clock::Clock;
use super::commit::TableState;
use super::outbox::before_sleep;
use super::process::{Process, ProcessId};
use super::registry::ProcessKey;
use super::waits::{WaitEntry, WaitRequest};
use crate::abi::{Errno, IdType, Pgid, Pid, Rusage, SigInfo, WaitOptions, WaitStatus};
use crate::kernel::WaitSelector;
use crate::sync::{Mutex, Parker};
use crate::syscall::{Ptr, Ret, Syscall};

/// The children that a wait includes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WaitTarget {
    /// All children.
    #[default]
    Any,
    /// The child of this number.
    Pid(Pid),
    /// The children in this process group; group 0 is the waiting process's own.
    Group(Pgid),
    /// The children in the group that the waiting process has when the wait begins (WAIT-17).
    OwnGroup,
    /// This child, and no later process of its number.
    Process(ProcessId),
}

impl From<Pid> for WaitTarget {
    fn from(pid: Pid) -> WaitTarget {
        WaitTarget::Pid(pid)
    }
}

impl From<&Process> for WaitTarget {
    fn from(process: &Process) -> WaitTarget {
        WaitTarget::Process(process.id())
    }
}

/// A wait event of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waited {
    /// The child.
    pub pid: Pid,
    /// The child's wait status.
    pub status: WaitStatus,
    /// The siginfo of the event, as waitid(2) returns it, with the child's user id.
    pub info: SigInfo,
    /// The resources that the child and the children that it has waited for have used, as wait4(2)
    /// returns them: see [`Process::report_usage`].
    pub usage: Rusage,
}

/// Ends waits from another thread. Clones are the same token; a cancelled token stays cancelled.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Mutex<Cancelled>>);

#[derive(Debug, Default)]
struct Cancelled {
    cancelled: bool,
    sleepers: Vec<Arc<Parker>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends the waits with this token, and all later ones.
    pub fn cancel(&self) {
        let mut state = self.0.lock();
        state.cancelled = true;
        let sleepers = core::mem::take(&mut state.sleepers);
        drop(state);
        sleepers.iter().for_each(|parker| parker.unpark());
    }

    /// Whether the token is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.lock().cancelled
    }

    fn add(&self, parker: &Arc<Parker>) {
        self.0.lock().sleepers.push(parker.clone());
    }

    fn remove(&self, parker: &Arc<Parker>) {
        self.0.lock().sleepers.retain(|other| !Arc::ptr_eq(other, parker));
    }
}

impl TableState {
    fn wait_request(&self, parent: Pid, target: WaitTarget, options: WaitOptions) -> WaitRequest {
        let (idtype, number, selector) = match target {
            WaitTarget::Any => (IdType::ALL, 0, WaitSelector::Any),
            WaitTarget::Pid(pid) => {
                (IdType::PID, pid.0, WaitSelector::Pid(self.kernel.pid_id(pid)))
            }
            WaitTarget::Process(ProcessId(key)) => {
                let exists = self.process_registry.entry(key).is_some();
                let id = self.kernel.pid_id(key.pid).filter(|_| exists);
                (IdType::PID, key.pid.0, WaitSelector::Pid(id))
            }
            WaitTarget::Group(_) | WaitTarget::OwnGroup => {
                let pgid = match target {
                    WaitTarget::Group(pgid) if pgid != Pgid(0) => pgid,
                    // WAIT-17; waitid(2) calls the own group 0
                    _ => self.kernel.view(parent).map_or(Pgid(0), |view| view.pgid),
                };
                let id = self.kernel.pid_id(Pid(pgid.0));
                (IdType::PGID, pgid.0, WaitSelector::Pgid(id))
            }
        };
        let id = i32::try_from(number).unwrap_or(i32::MAX);
        WaitRequest { call: Syscall::Waitid { idtype, id, info: Ptr::Valid, options }, selector }
    }

    /// The result of a wait request of `parent` at present; `None` if there is no wait event. If
    /// the reason is that an exit callback has to run first, `waiting` is woken after the callback.
    /// A request of the callback itself does not wait for it.
    fn poll_once(
        &mut self,
        parent: ProcessKey,
        request: &WaitRequest,
        waiting: Option<&Arc<WaitEntry>>,
        callbacks_own: bool,
        clock: &dyn Clock,
    ) -> Result<Option<Waited>, Errno> {
        if self.is_closed() || self.process_registry.entry(parent).is_none() {
            return Err(Errno::ESRCH);
        }
        if request.is_nonblocking() {
            return Err(Errno::EINVAL);
        }
        let WaitRequest { call, selector } = request;
        if !self.process_registry.pending_exits.is_empty()
            && !callbacks_own
            && let Some(first) = self.poll(parent.pid, &peek(call), *selector, clock)?
            && let Some(exit) = self.pending_exit_mut(first.pid)
        {
            // TABLE-01
            if let Some(waiting) = waiting {
                exit.add(waiting);
            }
            return Ok(None);
        }
        self.poll(parent.pid, call, *selector, clock)
    }

    fn poll(
        &mut self,
        parent: Pid,
        call: &Syscall,
        selector: WaitSelector,
        clock: &dyn Clock,
    ) -> Result<Option<Waited>, Errno> {
        self.fx.clear();
        let result = self.kernel.poll_wait_for(parent, call, Some(selector), &mut self.fx);
        let usage = match &result {
            // before the effects are noted, which remove the child
            Ok(Ok(Ret::WaitInfo(Some(Some(info))))) => {
                self.process_registry.usages.of_child(info.pid)
            }
            _ => Rusage::default(),
        };
        self.settle(clock);
        match result {
            Ok(Ok(Ret::WaitInfo(Some(info)))) => Ok(info.map(|info| waited(info, usage))),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(errno)) => Err(errno),
            Err(_) => Err(Errno::ESRCH),
        }
    }

    /// Polls the sleeping waits that events concern, in the order in which they began. A wait that
    /// gets an answer is over, and no other thread wakes up for its event.
    pub fn answer_waits(&mut self, clock: &dyn Clock) {
        // the last wait with no result: many waits may have equal requests
        let mut in_vain: Option<Arc<WaitEntry>> = None;
        let mut concerned = core::mem::take(&mut self.process_registry.concerned);
        concerned.sort_by_key(|waiting| waiting.number);
        for waiting in concerned {
            let known = in_vain.as_ref().is_some_and(|other| other.has_equal_request(&waiting));
            if known || !waiting.is_open() {
                continue;
            }
            let callbacks_own = self.process_registry.is_the_callbacks(&waiting.parker);
            let (parent, request) = (waiting.parent, &waiting.request);
            match self.poll_once(parent, request, Some(&waiting), callbacks_own, clock) {
                // each wait that a callback delays has to be recorded
                Ok(None) if !self.process_registry.pending_exits.is_empty() => in_vain = None,
                Ok(None) => in_vain = Some(waiting),
                Ok(Some(waited)) => {
                    in_vain = None;
                    self.answer(&waiting, Ok(waited));
                }
                Err(errno) => self.answer(&waiting, Err(errno)),
            }
        }
    }

    fn answer(&mut self, waiting: &Arc<WaitEntry>, answer: Result<Waited, Errno>) {
        waiting.answer(answer);
        self.process_registry.waits.remove(&mut self.kernel, waiting);
        self.process_registry.outbox.wakes.push(waiting.wake());
    }
}

/// The same wait with WNOWAIT.
fn peek(call: &Syscall) -> Syscall {
    let mut call = call.clone();
    if let Syscall::Waitid { options, .. } = &mut call {
        *options = options.with(WaitOptions::NOWAIT);
    }
    call
}

/// The status of a child's siginfo (WAIT-36).
fn waited(info: SigInfo, usage: Rusage) -> Waited {
    let status = WaitStatus::from_code_and_status(info.code, info.status());
    Waited { pid: info.pid, status, info, usage }
}

/// A wait, and whether it is in the list of sleeping waits.
struct BlockedWait {
    process: Process,
    waiting: Arc<WaitEntry>,
    listed: bool,
}

impl BlockedWait {
    /// A wait that takes answers must not be dropped while it is in the list.
    fn new(
        process: &Process,
        target: WaitTarget,
        options: WaitOptions,
        takes_answers: bool,
    ) -> BlockedWait {
        let mut state = process.table.shared().state.lock();
        let request = state.wait_request(process.pid(), target, options);
        let number = state.process_registry.waits.next_number();
        drop(state);
        let waiting = Arc::new(WaitEntry::new(process.key, request, takes_answers, number));
        BlockedWait { process: process.clone(), waiting, listed: false }
    }

    /// Polls, and adds the wait to the list in the same step if there is no event: no event can be
    /// missed in between. Removes it from the list with the answer.
    fn poll_request(&mut self) -> Result<Option<Waited>, Errno> {
        self.poll_and(BlockedWait::add_to_waits)
    }

    /// Polls for the last time: removes the wait from the list with or without an answer.
    fn poll_final(&mut self) -> Result<Option<Waited>, Errno> {
        self.poll_and(BlockedWait::leave)
    }

    /// Polls, and calls `in_vain` if there is no event.
    fn poll_and(
        &mut self,
        in_vain: impl FnOnce(&mut BlockedWait, &mut TableState),
    ) -> Result<Option<Waited>, Errno> {
        if let Some(answer) = self.take_answer() {
            return answer;
        }
        let shared = self.process.table.shared().clone();
        shared.commit(|state| {
            // the answer may have come before the lock was taken
            if let Some(answer) = self.take_answer() {
                return answer;
            }
            let WaitEntry { parent, request, .. } = &*self.waiting;
            let (own, clock) = (state.is_callback(), &*shared.clock);
            let answer = state.poll_once(*parent, request, Some(&self.waiting), own, clock);
            match answer {
                Ok(None) => in_vain(self, state),
                _ => self.leave(state),
            }
            answer
        })
    }

    /// Takes the answer that the wait got while it slept; with it, the wait left the list.
    fn take_answer(&mut self) -> Option<Result<Option<Waited>, Errno>> {
        let answer = self.waiting.take_answer()?;
        self.listed = false;
        Some(answer.map(Some))
    }

    fn add_to_waits(&mut self, state: &mut TableState) {
        // also for a wait that fell asleep earlier, or in an earlier callback
        state.note_sleep(&self.waiting.parker);
        if !self.listed {
            self.listed = true;
            state.process_registry.waits.add(&mut state.kernel, self.waiting.clone());
        }
    }

    fn leave(&mut self, state: &mut TableState) {
        self.waiting.close();
        if core::mem::take(&mut self.listed) {
            state.process_registry.waits.remove(&mut state.kernel, &self.waiting);
        }
    }
}

impl Drop for BlockedWait {
    fn drop(&mut self) {
        if self.listed {
            let shared = self.process.table.shared().clone();
            shared.commit(|state| self.leave(state));
        }
    }
}

/// A wait as a future: see [`Process::wait_async`]. Dropping it ends the wait and loses no event:
/// only the poll that returns an event consumes it.
#[must_use = "futures do nothing unless polled"]
pub struct Wait(BlockedWait);

impl core::fmt::Debug for Wait {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wait")
            .field("process", &self.0.process)
            .field("call", &self.0.waiting.request.call)
            .finish_non_exhaustive()
    }
}

impl Future for Wait {
    type Output = Result<Waited, Errno>;

    fn poll(mut self: Pin<&mut Wait>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // the waker is registered first: a wake during the poll is not missed
        let _ = self.0.waiting.parker.poll(context.waker());
        match self.0.poll_request() {
            Ok(Some(waited)) => Poll::Ready(Ok(waited)),
            Err(errno) => Poll::Ready(Err(errno)),
            Ok(None) => {
                if self.0.waiting.parker.poll(context.waker()) {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

/// Waits of the runtime for children, as if another thread of the process that blocks every signal
/// waited. Any number of threads may wait, for the same children or for different ones: an event
/// goes to the first of these waits to have begun, and wakes no other thread. All futures that the
/// event concerns are woken, and the first one to be polled gets it.
///
/// The flags EXITED, STOPPED and CONTINUED of `options` select the events (at least one is
/// required), NOWAIT leaves the event in place, ALL and CLONE select the class of children.
///
/// # Errors
///
/// All of these methods: ECHILD if no child is eligible (WAIT-08), EINVAL for other options
/// (WAIT-04), NOHANG included, ESRCH if the process has ended or ends during the wait. Those that
/// block: EDEADLK on a [target without threads](crate::table#targets-without-threads).
///
/// # References
///
/// waitid(2); RULES WAIT.
impl Process {
    /// Waits until a child has a wait event.
    ///
    /// Costs O(log children).
    #[doc(alias = "waitid")]
    pub fn wait(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
    ) -> Result<Waited, Errno> {
        let mut sleeper = BlockedWait::new(self, target.into(), options, true);
        loop {
            if let Some(waited) = sleeper.poll_request()? {
                return Ok(waited);
            }
            before_sleep();
            if !sleeper.waiting.parker.park(None) {
                return Err(Errno::EDEADLK);
            }
        }
    }

    /// Returns the wait event of a child; `None` if no child has one.
    #[doc(alias = "WNOHANG")]
    pub fn try_wait(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
    ) -> Result<Option<Waited>, Errno> {
        self.table.shared().commit(|state| {
            let request = state.wait_request(self.pid(), target.into(), options);
            let (own, clock) = (state.is_callback(), &*self.table.shared().clock);
            state.poll_once(self.key, &request, None, own, clock)
        })
    }

    /// Waits until a child has a wait event; `None` if `timeout` passes first on the table's clock.
    pub fn wait_timeout(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
        timeout: Duration,
    ) -> Result<Option<Waited>, Errno> {
        let mut sleeper = BlockedWait::new(self, target.into(), options, true);
        let shared = self.table.shared().clone();
        let parker = sleeper.waiting.parker.clone();
        let alarm = shared.alarm_after(timeout, &parker);
        loop {
            // the time is read first: an event that came before the timeout is returned, and a
            // timeout of 0 registers no wait
            if alarm.is_over() {
                return sleeper.poll_final();
            }
            if let Some(waited) = sleeper.poll_request()? {
                return Ok(Some(waited));
            }
            if !alarm.sleep() {
                return sleeper.poll_final();
            }
        }
    }

    /// Waits until a child has a wait event; `None` if the token is cancelled first.
    pub fn wait_cancellable(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
        cancel: &CancelToken,
    ) -> Result<Option<Waited>, Errno> {
        let mut sleeper = BlockedWait::new(self, target.into(), options, true);
        let parker = sleeper.waiting.parker.clone();
        cancel.add(&parker);
        let answer = loop {
            // the token is read first: an event that came before the cancellation is returned
            if cancel.is_cancelled() {
                break sleeper.poll_final();
            }
            match sleeper.poll_request() {
                Ok(None) => {
                    before_sleep();
                    if !parker.park(None) {
                        break Err(Errno::EDEADLK);
                    }
                }
                answer => break answer,
            }
        };
        cancel.remove(&parker);
        answer
    }

    /// Waits until a child has a wait event, as a future for any executor.
    pub fn wait_async(&self, target: impl Into<WaitTarget>, options: WaitOptions) -> Wait {
        Wait(BlockedWait::new(self, target.into(), options, false))
    }
}

#[cfg(test)]
mod tests;
