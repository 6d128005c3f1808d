//! The runtime's waits for children of a process: they block threads or are futures, and can
//! time out and be cancelled.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::commit::State;
use super::process::Process;
use super::waits::Selector;
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
}

impl From<Pid> for WaitTarget {
    fn from(pid: Pid) -> WaitTarget {
        WaitTarget::Pid(pid)
    }
}

impl From<&Process> for WaitTarget {
    fn from(process: &Process) -> WaitTarget {
        WaitTarget::Pid(process.pid())
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

/// Ends waits from another thread. Clones are the same token; once cancelled it stays so.
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

/// What a wait asks the model, with the group that it began with.
#[derive(Clone, Debug)]
struct Question {
    call: Syscall,
    about: Selector,
}

impl Question {
    /// Whether it asks not to sleep, which is for the method that is called to say.
    fn never_hangs(&self) -> bool {
        let Syscall::Waitid { options, .. } = &self.call else { return false };
        options.contains(WaitOptions::NOHANG)
    }
}

impl State {
    fn question(&self, parent: Pid, target: WaitTarget, options: WaitOptions) -> Question {
        let own_group = || self.kernel.view(parent).map_or(Pgid(0), |view| view.pgid);
        let (idtype, number) = match target {
            WaitTarget::Any => (IdType::ALL, 0),
            WaitTarget::Pid(pid) => (IdType::PID, pid.0),
            WaitTarget::Group(pgid) if pgid != Pgid(0) => (IdType::PGID, pgid.0),
            // WAIT-17; group 0 is waitid(2)'s name for it
            WaitTarget::Group(_) | WaitTarget::OwnGroup => (IdType::PGID, own_group().0),
        };
        let about = match idtype {
            IdType::ALL => Selector::Any,
            IdType::PID => Selector::Pid(number),
            _ => Selector::Pgid(number),
        };
        let id = i32::try_from(number).unwrap_or(i32::MAX);
        let call = Syscall::Waitid { idtype, id, info: Ptr::Valid, options };
        Question { call, about }
    }

    /// What the question gives now; `None` is "nothing yet". If that is so because a callback has
    /// to run first, `sleeper` is told when it has.
    fn ask(
        &mut self,
        process: &Process,
        question: &Question,
        sleeper: Option<&Arc<Parker>>,
    ) -> Result<Option<Waited>, Errno> {
        if self.is_closed() || self.book.entry(process.token).is_none() {
            return Err(Errno::ESRCH);
        }
        if question.never_hangs() {
            return Err(Errno::EINVAL);
        }
        if !self.book.notices.is_empty()
            && let Some(first) = self.poll(process, &peek(&question.call))?
            && let Some(notice) = self.unannounced(first.pid)
        {
            // EXIT-11
            notice.wakes.extend(sleeper.cloned());
            return Ok(None);
        }
        self.poll(process, &question.call)
    }

    fn poll(&mut self, process: &Process, call: &Syscall) -> Result<Option<Waited>, Errno> {
        let clock = &*process.table.shared().clock;
        let pid = process.pid();
        match self.outside(clock, |kernel, fx| kernel.poll_wait(pid, call, fx)) {
            Ok(Ok(Ret::WaitInfo(Some(info)))) => Ok(info.map(waited)),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(errno)) => Err(errno),
            Err(_) => Err(Errno::ESRCH),
        }
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

/// The status word that belongs to a child's siginfo (WAIT-36).
fn waited(info: SigInfo) -> Waited {
    let status = WaitStatus::from_code_and_status(info.code, info.status());
    Waited { pid: info.pid, status, info }
}

/// A wait among the sleepers.
struct Sleeper {
    process: Process,
    question: Question,
    parker: Arc<Parker>,
    listed: bool,
}

impl Sleeper {
    fn new(process: &Process, target: WaitTarget, options: WaitOptions) -> Sleeper {
        let state = process.table.shared().state.lock();
        let question = state.question(process.pid(), target, options);
        drop(state);
        Sleeper { process: process.clone(), question, parker: Parker::new(), listed: false }
    }

    /// Asks, and in the same step enters the list of sleepers if there is nothing yet: no event
    /// can come in between. Leaves it with the answer.
    fn ask(&mut self) -> Result<Option<Waited>, Errno> {
        let shared = self.process.table.shared().clone();
        shared.commit(|state| {
            let answer = state.ask(&self.process, &self.question, Some(&self.parker));
            if answer == Ok(None) {
                self.enlist(state);
            } else {
                self.leave(state);
            }
            answer
        })
    }

    fn enlist(&mut self, state: &mut State) {
        if !self.listed {
            self.listed = true;
            state.note_sleep(&self.parker);
            let (parent, about) = (self.process.pid(), self.question.about);
            state.book.waits.add(&mut state.kernel, parent, about, self.parker.clone());
        }
    }

    fn leave(&mut self, state: &mut State) {
        if core::mem::take(&mut self.listed) {
            let (parent, about) = (self.process.pid(), self.question.about);
            state.book.waits.remove(&mut state.kernel, parent, about, &self.parker);
        }
    }
}

impl Drop for Sleeper {
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
pub struct Wait(Sleeper);

impl core::fmt::Debug for Wait {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wait")
            .field("process", &self.0.process)
            .field("call", &self.0.question.call)
            .finish_non_exhaustive()
    }
}

impl Future for Wait {
    type Output = Result<Waited, Errno>;

    fn poll(mut self: Pin<&mut Wait>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // the waker first: what comes while asking is not missed
        let _ = self.0.parker.poll(context.waker());
        match self.0.ask() {
            Ok(Some(waited)) => Poll::Ready(Ok(waited)),
            Err(errno) => Poll::Ready(Err(errno)),
            Ok(None) => {
                if self.0.parker.poll(context.waker()) {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

/// Waits for children: the runtime's, as another thread of the process that blocks every signal
/// would. Any number of threads may wait, for the same children or for different ones; an event
/// wakes those whom it concerns.
///
/// Of `options` EXITED, STOPPED and CONTINUED say what to wait for (one of them at least), NOWAIT
/// leaves the event in place, ALL and CLONE choose the class of children.
///
/// # Errors
///
/// All of them: ECHILD if no child is eligible (WAIT-08), EINVAL for other options (WAIT-04), NOHANG
/// among them,
/// ESRCH if the process is dead or dies meanwhile.
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
        let mut sleeper = Sleeper::new(self, target.into(), options);
        loop {
            if let Some(waited) = sleeper.ask()? {
                return Ok(waited);
            }
            sleeper.parker.park(None);
        }
    }

    /// Gives what a child has to report now; `None` if nothing yet.
    #[doc(alias = "WNOHANG")]
    pub fn try_wait(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
    ) -> Result<Option<Waited>, Errno> {
        self.table.shared().commit(|state| {
            let question = state.question(self.pid(), target.into(), options);
            state.ask(self, &question, None)
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
        let mut sleeper = Sleeper::new(self, target.into(), options);
        let shared = self.table.shared().clone();
        let parker = sleeper.parker.clone();
        let alarm = shared.alarm_after(timeout, &parker);
        loop {
            // the time first: what came before it was over is given
            let over = alarm.is_over();
            let answer = sleeper.ask()?;
            if answer.is_some() || over {
                return Ok(answer);
            }
            alarm.park();
        }
    }

    /// Waits until a child has an event; `None` if the token is cancelled first.
    pub fn wait_cancellable(
        &self,
        target: impl Into<WaitTarget>,
        options: WaitOptions,
        cancel: &CancelToken,
    ) -> Result<Option<Waited>, Errno> {
        let mut sleeper = Sleeper::new(self, target.into(), options);
        let parker = sleeper.parker.clone();
        cancel.add(&parker);
        let answer = loop {
            // first: what came before it was cancelled is given
            let cancelled = cancel.is_cancelled();
            match sleeper.ask() {
                Ok(None) if !cancelled => drop(parker.park(None)),
                answer => break answer,
            }
        };
        cancel.remove(&parker);
        answer
    }

    /// Waits until a child has an event, as a future for any executor.
    pub fn wait_async(&self, target: impl Into<WaitTarget>, options: WaitOptions) -> Wait {
        Wait(Sleeper::new(self, target.into(), options))
    }
}
