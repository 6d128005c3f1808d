//! The runtime's waits for children of a process: they block threads or are futures, and can
//! time out and be cancelled.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::clock::Clock;
use super::commit::TableState;
use super::process::{Process, ProcessId};
use super::registry::ProcessKey;
use super::waits::{WaitEntry, WaitKey, WaitRequest};
use crate::abi::{Errno, IdType, Pgid, Pid, SigInfo, WaitOptions, WaitStatus};
use crate::sync::{Mutex, Parker};
use crate::syscall::{Ptr, Ret, Syscall};

/// Which children a wait is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WaitTarget {
    /// All.
    #[default]
    Any,
    /// That one.
    Pid(Pid),
    /// Those in that group; group 0 is the waiting process's own.
    Group(Pgid),
    /// Those in the group that the waiting process has when the wait begins (WAIT-17).
    OwnGroup,
    /// That one, and no other that gets its number.
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

/// An event of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waited {
    /// The child.
    pub pid: Pid,
    /// What became of it.
    pub status: WaitStatus,
    /// The same as waitid(2) gives it, with the child's user.
    pub info: SigInfo,
}

/// Ends waits from another thread. Clones are the same key; once cancelled it stays so.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Mutex<Cancelled>>);

#[derive(Debug, Default)]
struct Cancelled {
    cancelled: bool,
    sleepers: Vec<Arc<Parker>>,
}

impl CancelToken {
    /// One that is not cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends the waits that have it: now and from now on.
    pub fn cancel(&self) {
        let mut state = self.0.lock();
        state.cancelled = true;
        let sleepers = core::mem::take(&mut state.sleepers);
        drop(state);
        sleepers.iter().for_each(|parker| parker.unpark());
    }

    /// Whether it is cancelled.
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
    fn question(&self, parent: Pid, target: WaitTarget, options: WaitOptions) -> WaitRequest {
        let own_group = || self.kernel.view(parent).map_or(Pgid(0), |view| view.pgid);
        let (idtype, number) = match target {
            WaitTarget::Any => (IdType::ALL, 0),
            WaitTarget::Pid(pid) => (IdType::PID, pid.0),
            WaitTarget::Process(ProcessId(key)) => (IdType::PID, key.pid.0),
            WaitTarget::Group(pgid) if pgid != Pgid(0) => (IdType::PGID, pgid.0),
            // WAIT-17; group 0 is waitid(2)'s name for it
            WaitTarget::Group(_) | WaitTarget::OwnGroup => (IdType::PGID, own_group().0),
        };
        let about = match idtype {
            IdType::ALL => WaitKey::Any,
            IdType::PID => WaitKey::Pid(number),
            _ => WaitKey::Pgid(number),
        };
        let id = i32::try_from(number).unwrap_or(i32::MAX);
        let call = Syscall::Waitid { idtype, id, info: Ptr::Valid, options };
        let child = match target {
            WaitTarget::Process(ProcessId(key)) => Some(key),
            WaitTarget::Pid(pid) => self.process_registry.key(pid),
            _ => None,
        };
        WaitRequest { call, about, child }
    }

    /// What the question of a wait for children of `parent` gives now; `None` is "nothing yet". If
    /// that is so because a callback has to run first, `waiting` hears when it has. One that the
    /// callback itself makes does not wait for it.
    fn poll_once(
        &mut self,
        parent: ProcessKey,
        question: &WaitRequest,
        waiting: Option<&Arc<WaitEntry>>,
        callbacks_own: bool,
        clock: &dyn Clock,
    ) -> Result<Option<Waited>, Errno> {
        if self.is_closed() || self.process_registry.entry(parent).is_none() {
            return Err(Errno::ESRCH);
        }
        if question.is_nonblocking() {
            return Err(Errno::EINVAL);
        }
        let gone = question.child.is_some_and(|child| self.process_registry.entry(child).is_none());
        let nobody = gone.then(|| for_no_child(&question.call));
        let (call, group) = (nobody.as_ref().unwrap_or(&question.call), question.group());
        if !self.process_registry.pending_exits.is_empty()
            && !callbacks_own
            && let Some(first) = self.poll(parent.pid, &peek(call), group, clock)?
            && let Some(exit) = self.pending_exit_mut(first.pid)
        {
            // TABLE-01
            if let Some(waiting) = waiting {
                exit.add(waiting);
            }
            return Ok(None);
        }
        self.poll(parent.pid, call, group, clock)
    }

    fn poll(
        &mut self,
        parent: Pid,
        call: &Syscall,
        group: Option<Pgid>,
        clock: &dyn Clock,
    ) -> Result<Option<Waited>, Errno> {
        match self.apply_external(clock, |kernel, fx| kernel.poll_wait_in(parent, call, group, fx))
        {
            Ok(Ok(Ret::WaitInfo(Some(info)))) => Ok(info.map(waited)),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(errno)) => Err(errno),
            Err(_) => Err(Errno::ESRCH),
        }
    }

    /// Waits that sleep, and that events concern, ask in the order in which they began; those that
    /// get an answer are over, and nobody else wakes up.
    pub fn answer_waits(&mut self, clock: &dyn Clock) {
        // the last one for which there was nothing: many may ask the same
        let mut in_vain: Option<Arc<WaitEntry>> = None;
        let mut concerned = core::mem::take(&mut self.process_registry.concerned);
        concerned.sort_by_key(|waiting| waiting.number);
        for waiting in concerned {
            let known = in_vain.as_ref().is_some_and(|other| other.asks_like(&waiting));
            if known || !waiting.is_open() {
                continue;
            }
            let callbacks_own = self.process_registry.is_the_callbacks(&waiting.parker);
            let (parent, question) = (waiting.parent, &waiting.question);
            match self.poll_once(parent, question, Some(&waiting), callbacks_own, clock) {
                // each that a callback holds up has to be noted
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

/// The same wait, leaving the event in place.
fn peek(call: &Syscall) -> Syscall {
    let mut call = call.clone();
    if let Syscall::Waitid { options, .. } = &mut call {
        *options = options.with(WaitOptions::NOWAIT);
    }
    call
}

/// The same wait for a child that there is not (WAIT-08): another may have the number of the one
/// that it was for.
fn for_no_child(call: &Syscall) -> Syscall {
    let mut call = call.clone();
    if let Syscall::Waitid { id, .. } = &mut call {
        // the model's numbers end at 2^22
        *id = i32::MAX;
    }
    call
}

/// The status word that belongs to a child's siginfo (WAIT-36).
fn waited(info: SigInfo) -> Waited {
    let status = WaitStatus::from_code_and_status(info.code, info.status());
    Waited { pid: info.pid, status, info }
}

/// A wait, and whether it is among the sleepers.
struct BlockedWait {
    process: Process,
    waiting: Arc<WaitEntry>,
    listed: bool,
}

impl BlockedWait {
    /// One that takes answers must not be dropped while it is among the sleepers.
    fn new(
        process: &Process,
        target: WaitTarget,
        options: WaitOptions,
        takes_answers: bool,
    ) -> BlockedWait {
        let mut state = process.table.shared().state.lock();
        let question = state.question(process.pid(), target, options);
        let number = state.process_registry.waits.next_number();
        drop(state);
        let waiting = Arc::new(WaitEntry::new(process.key, question, takes_answers, number));
        BlockedWait { process: process.clone(), waiting, listed: false }
    }

    /// Asks, and in the same step enters the list of sleepers if there is nothing yet: no event
    /// can come in between. Leaves it with the answer.
    fn ask(&mut self) -> Result<Option<Waited>, Errno> {
        self.poll_and(BlockedWait::add_to_waits)
    }

    /// Asks for the last time: leaves the list with or without an answer.
    fn poll_final(&mut self) -> Result<Option<Waited>, Errno> {
        self.poll_and(BlockedWait::leave)
    }

    /// `in_vain` is for where there is nothing yet.
    fn poll_and(
        &mut self,
        in_vain: impl FnOnce(&mut BlockedWait, &mut TableState),
    ) -> Result<Option<Waited>, Errno> {
        if let Some(answer) = self.take_answer() {
            return answer;
        }
        let shared = self.process.table.shared().clone();
        shared.commit(|state| {
            // it may have come just now
            if let Some(answer) = self.take_answer() {
                return answer;
            }
            let WaitEntry { parent, question, .. } = &*self.waiting;
            let (own, clock) = (state.is_callback(), &*shared.clock);
            let answer = state.poll_once(*parent, question, Some(&self.waiting), own, clock);
            match answer {
                Ok(None) => in_vain(self, state),
                _ => self.leave(state),
            }
            answer
        })
    }

    /// What was found for it while it slept, which has taken it out of the list.
    fn take_answer(&mut self) -> Option<Result<Option<Waited>, Errno>> {
        let answer = self.waiting.take_answer()?;
        self.listed = false;
        Some(answer.map(Some))
    }

    fn add_to_waits(&mut self, state: &mut TableState) {
        // also one that fell asleep earlier, or in an earlier callback
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

/// A wait as a future: see [`Process::wait_async`]. Dropping it ends the wait, and loses nothing:
/// an event is only consumed by the poll that gives it.
#[must_use = "futures do nothing unless polled"]
pub struct Wait(BlockedWait);

impl core::fmt::Debug for Wait {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wait")
            .field("process", &self.0.process)
            .field("call", &self.0.waiting.question.call)
            .finish_non_exhaustive()
    }
}

impl Future for Wait {
    type Output = Result<Waited, Errno>;

    fn poll(mut self: Pin<&mut Wait>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // the waker first: what comes while asking is not missed
        let _ = self.0.waiting.parker.poll(context.waker());
        match self.0.ask() {
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

/// Waits for children: the runtime's, as another thread of the process that blocks every signal
/// would. Any number of threads may wait, for the same children or for different ones: an event
/// goes to the one among them that began first, and wakes nobody else. Futures that it concerns are
/// all woken, and the one that is polled first has it.
///
/// Of `options` EXITED, STOPPED and CONTINUED say what to wait for (one of them at least), NOWAIT
/// leaves the event in place, ALL and CLONE choose the class of children.
///
/// # Errors
///
/// All of them: ECHILD if no child is eligible (WAIT-08), EINVAL for other options (WAIT-04),
/// NOHANG among them, ESRCH if the process is dead or dies meanwhile.
///
/// # References
///
/// waitid(2); RULES WAIT.
impl Process {
    /// Waits until a child has an event.
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
            if let Some(waited) = sleeper.ask()? {
                return Ok(waited);
            }
            sleeper.waiting.parker.park(None);
        }
    }

    /// Returns what a child has to report now; `None` if nothing yet.
    #[doc(alias = "WNOHANG")]
    pub fn try_wait(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
    ) -> Result<Option<Waited>, Errno> {
        self.table.shared().commit(|state| {
            let question = state.question(self.pid(), target.into(), options);
            let (own, clock) = (state.is_callback(), &*self.table.shared().clock);
            state.poll_once(self.key, &question, None, own, clock)
        })
    }

    /// Waits until a child has an event; `None` if that takes longer than `timeout` by the table's
    /// clock.
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
            // the time first: what came before it was over is given
            if alarm.is_over() {
                return sleeper.poll_final();
            }
            if let Some(waited) = sleeper.ask()? {
                return Ok(Some(waited));
            }
            alarm.park();
        }
    }

    /// Waits until a child has an event; `None` if the key is cancelled first.
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
            // first: what came before it was cancelled is given
            if cancel.is_cancelled() {
                break sleeper.poll_final();
            }
            match sleeper.ask() {
                Ok(None) => drop(parker.park(None)),
                answer => break answer,
            }
        };
        cancel.remove(&parker);
        answer
    }

    /// Waits until a child has an event, as a future for any executor.
    pub fn wait_async(&self, target: impl Into<WaitTarget>, options: WaitOptions) -> Wait {
        Wait(BlockedWait::new(self, target.into(), options, false))
    }
}

#[cfg(test)]
mod tests;
