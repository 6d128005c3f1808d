//! Exits and the callback for them: who has to wait until it has run, and for what (TABLE-01).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::book::{Book, Token, tell};
use super::call::{End, Pending};
use super::commit::{Shared, State};
use super::lane::{Errand, Lane};
use super::waits::Waiting;
use super::{Process, ProcessTable};
use crate::abi::{Errno, Pid, SiCode, SigInfo, Signal, WaitOptions, WaitStatus};
use crate::driver::Op;
use crate::kernel::Id;
use crate::sync::{Parker, contain, current, is_current};
use crate::syscall::{self, Ret, Syscall};

/// An exit for the callbacks.
#[derive(Debug)]
pub(super) struct Notice {
    token: Token,
    status: WaitStatus,
    /// The step in which it happened, until drivers have been told what happened in it.
    step: Option<u64>,
    /// The process's own driver has not been told that it ended: it may be busy, or have to wait for
    /// another callback.
    untold: bool,
    /// Who waits for it.
    pub waits: Vec<Arc<Waiting>>,
    /// The calls that have its end as their result, and whose they are.
    calls: Vec<(Pid, Arc<Pending>, End)>,
    /// What drivers are told once the callback has run: that children ended, and what follows.
    ops: Vec<(Id<Lane>, Op)>,
    /// The handlers that tell of children, by their threads and serials, of processes that take their
    /// handlers themselves.
    handlers: Vec<(Pid, u64)>,
}

impl Notice {
    /// A wait is to hear when its callback has run.
    pub fn add(&mut self, waiting: &Arc<Waiting>) {
        if waiting.hold(self.token.serial) {
            self.waits.push(waiting.clone());
        }
    }
}

/// Whether a signal tells of children, or may have swallowed one that does (CHLD-06).
pub(super) fn tells_of_children(info: &SigInfo) -> bool {
    let codes = SiCode::CLD_EXITED..=SiCode::CLD_CONTINUED;
    info.signal == Signal::CHLD || codes.contains(&info.code)
}

/// A wait that does not sleep, and does not say whether it found anything.
fn tells_nothing(call: &Syscall, result: &syscall::Result) -> bool {
    let Syscall::Waitid { options, .. } = call else { return false };
    options.contains(WaitOptions::NOHANG)
        && matches!(result, Ok(Ret::WaitInfo(None)) | Err(Errno::EFAULT))
}

impl Book {
    /// An exit is to be announced, once its step is over and, if `untold`, its own driver has heard
    /// of it.
    pub fn note_exit(&mut self, pid: Pid, status: WaitStatus, untold: bool) {
        let Some(token) = self.token(pid) else { return };
        if self.outbox.exits == 0 {
            self.outbox.exits = token.serial;
        }
        let step = Some(self.outbox.exits);
        let (waits, calls, ops, handlers) = Default::default();
        let notice = Notice { token, status, step, untold, waits, calls, ops, handlers };
        self.notices.push_back(notice);
    }

    /// Whether the callback that runs now sleeps there, or has something sleep.
    pub fn is_the_callbacks(&self, parker: &Arc<Parker>) -> bool {
        self.callback_sleeps.iter().any(|other| Arc::ptr_eq(other, parker))
    }

    /// The exit of the last process of that number, if its callback has not run. Costs a scan of
    /// those.
    pub fn notice_about(&self, pid: Pid) -> Option<usize> {
        self.notices.iter().rposition(|notice| notice.token.pid == pid)
    }

    /// The exit that a call's result is about, if its callback has not run. Costs a scan of those.
    pub fn notice_of(&self, result: &syscall::Result) -> Option<usize> {
        let child = match result {
            Ok(Ret::Signal(info)) if tells_of_children(info) => return self.last_notice(),
            // a wait that has not named the child: it may be any
            Ok(Ret::WaitInfo(None)) | Err(Errno::EFAULT) => return self.last_notice(),
            Ok(Ret::Waited { pid, .. }) => *pid,
            Ok(Ret::WaitInfo(Some(Some(info)))) => info.pid,
            _ => return None,
        };
        self.notice_about(child)
    }

    fn last_notice(&self) -> Option<usize> {
        self.notices.len().checked_sub(1)
    }

    /// TABLE-01: a driver that hears of an end, and waits, finds it.
    pub fn operate_or_hold_back(&mut self, lane: Id<Lane>, op: Op) {
        let early = |notice: &Notice| notice.ops.iter().any(|(other, _)| *other == lane);
        let tells = matches!(&op, Op::Deliver(delivery) if tells_of_children(&delivery.info));
        let held_back = tells || self.notices.iter().any(early);
        match self.notices.back_mut().filter(|_| held_back) {
            Some(last) => last.ops.push((lane, op)),
            None => self.lanes.send(lane, || op, &mut self.outbox.errands),
        }
    }

    /// TABLE-01: a handler that hears of an end, and waits, finds it. Whether it has to wait for a callback.
    pub fn hide(&mut self, tid: Pid, serial: u64) -> bool {
        let last = self.notices.back_mut();
        last.map(|last| last.handlers.push((tid, serial))).is_some()
    }

    /// The result of a call of `tid` is about an exit, or may be, whose callback has not run.
    pub fn hold_back(&mut self, notice: usize, tid: Pid, pending: Arc<Pending>, end: End) {
        if let Some(calls) = self.calls_mut(tid) {
            calls.get_or_insert_default().held.push(pending.clone());
        }
        self.notices[notice].calls.push((tid, pending, end));
    }

    /// Drivers have been told of what happened in a step: the exits in it can be announced. Costs a
    /// look at those that came later.
    pub fn told(&mut self, step: u64) {
        let newest_first = self.notices.iter_mut().rev();
        let of_step = newest_first
            .skip_while(|notice| notice.step != Some(step))
            .take_while(|notice| notice.step == Some(step));
        of_step.for_each(|notice| notice.step = None);
    }

    /// Drivers have carried out these operations; whether a callback has waited for one, for the news
    /// of an end. Costs a look at the exits that came later.
    pub fn carried_out(&mut self, errands: &[Errand]) -> bool {
        let ends = errands.iter().filter(|errand| matches!(errand.op, Op::Terminate(_)));
        let mut serials: Vec<u64> = ends.map(|errand| errand.token.serial).collect();
        serials.sort_unstable();
        let is_among = |notice: &&mut Notice| serials.binary_search(&notice.token.serial).is_ok();
        let found = self.notices.iter_mut().rev().filter(is_among).take(serials.len());
        found.fold(false, |_, notice| {
            notice.untold = false;
            true
        })
    }

    /// The exit whose callback is to run next.
    pub fn next_notice(&self) -> Option<(Token, WaitStatus)> {
        let is_told = |notice: &&Notice| notice.step.is_none() && !notice.untold;
        let first = self.notices.front().filter(is_told)?;
        Some((first.token, first.status))
    }

    /// The callback for the first exit has run: nobody has to wait for it any longer.
    pub fn announced(&mut self) {
        self.callback_sleeps.clear();
        let Some(mut notice) = self.notices.pop_front() else { return };
        for waiting in core::mem::take(&mut notice.waits) {
            tell(&waiting, &mut self.concerned, &mut self.outbox);
        }
        self.release(notice);
    }

    /// The table ends, and their callbacks never run.
    pub fn abandon_notices(&mut self) {
        for mut notice in core::mem::take(&mut self.notices) {
            notice.calls.iter_mut().for_each(|(.., end)| *end = End::Gone);
            self.outbox.wakes.extend(notice.waits.drain(..).map(|waiting| waiting.wake()));
            self.release(notice);
        }
    }

    /// Its callback has run, or never will: calls return, and drivers are told what was held back.
    fn release(&mut self, notice: Notice) {
        for (lane, op) in notice.ops {
            self.lanes.send(lane, || op, &mut self.outbox.errands);
        }
        for (tid, serial) in notice.handlers {
            self.reveal(tid, serial);
        }
        for (tid, pending, end) in notice.calls {
            if let Some(Some(calls)) = self.calls_mut(tid) {
                calls.held.retain(|other| !Arc::ptr_eq(other, &pending));
            }
            // nobody sees the result if its caller has ended
            if pending.end().is_none() {
                self.finish(tid, &pending, end);
            }
        }
    }
}

impl State {
    /// Whether the callback for an exit acts.
    pub fn is_callback(&self) -> bool {
        is_current(self.announcer)
    }

    /// Who sleeps because of the callback that runs now is told before it has returned.
    pub fn note_sleep(&mut self, parker: &Arc<Parker>) {
        if self.is_callback() && !self.book.is_the_callbacks(parker) {
            self.book.callback_sleeps.push(parker.clone());
        }
    }

    /// The exit that a call's result is about, if its callback has not run.
    #[inline]
    pub fn notice_for(
        &self,
        call: &Syscall,
        result: &syscall::Result,
        callbacks_own: bool,
    ) -> Option<usize> {
        if self.book.notices.is_empty() || callbacks_own || tells_nothing(call, result) {
            return None;
        }
        self.book.notice_of(result)
    }

    /// The exit of a zombie, if its callback has not run.
    pub fn unannounced(&mut self, pid: Pid) -> Option<&mut Notice> {
        let serial = self.book.token(pid)?.serial;
        self.book.notices.iter_mut().find(|notice| notice.token.serial == serial)
    }
}

impl Shared {
    /// Drivers have been told of what happened in a step, or of an earlier end: runs the callback for
    /// the exits that it can run for, unless a thread is about it.
    pub(super) fn announce(self: &Arc<Shared>, step: u64) {
        self.state.lock().book.told(step);
        loop {
            let mut state = self.state.lock();
            if state.announcer.is_some() {
                return;
            }
            let Some((token, status)) = state.book.next_notice() else { return };
            let callback = state.on_exit.clone();
            let handle = state.handle.upgrade();
            state.announcer = Some(current().id());
            drop(state);
            if let (Some(callback), Some(handle)) = (callback, handle) {
                // a panic of the callback, or of its `Drop`, is no reason to lose an exit
                contain(move || callback(&Process::new(ProcessTable(handle), token), status));
            }
            let mut state = self.state.lock();
            state.announcer = None;
            state.book.announced();
            state.answer_waits(&*self.clock);
            self.leave(state);
        }
    }
}
