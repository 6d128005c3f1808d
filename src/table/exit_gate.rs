//! The exit gate: waits, results of calls, operations and handlers that have to wait until the exit
//! callback has run (TABLE-01).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::call::{End, Pending};
use super::commit::{TableInner, TableState};
use super::driver_queue::{Dispatch, DriverQueue};
use super::registry::{ProcessKey, ProcessRegistry, tell};
use super::waits::WaitEntry;
use super::{Process, ProcessTable};
use crate::abi::{Errno, Pid, SiCode, SigInfo, Signal, WaitOptions, WaitStatus};
use crate::driver::Op;
use crate::kernel::Id;
use crate::sync::{Parker, contain, current, is_current};
use crate::syscall::{self, Ret, Syscall};

/// An exit whose callback has not run.
#[derive(Debug)]
pub(super) struct PendingExit {
    key: ProcessKey,
    status: WaitStatus,
    /// The step in which the process ended; `None` once drivers have carried out the operations of
    /// that step.
    step: Option<u64>,
    /// The process's own driver has not carried out the operation for its end: it is busy, or
    /// another callback delays it.
    driver_pending: bool,
    /// The waits that the callback delays.
    pub waits: Vec<Arc<WaitEntry>>,
    /// The calls whose results report this exit, with their callers.
    calls: Vec<(Pid, Arc<Pending>, End)>,
    /// The operations that drivers receive after the callback: SIGCHLD, and the operations after
    /// it.
    ops: Vec<(Id<DriverQueue>, Op)>,
    /// The handlers that the callback delays, by thread and serial, of processes with safe points.
    handlers: Vec<(Pid, u64)>,
}

impl PendingExit {
    /// Adds a wait, to be woken when the callback has run.
    pub fn add(&mut self, waiting: &Arc<WaitEntry>) {
        if waiting.hold(self.key.serial) {
            self.waits.push(waiting.clone());
        }
    }
}

/// Whether a signal reports a child, or may have absorbed one that does (CHLD-06).
pub(super) fn tells_of_children(info: &SigInfo) -> bool {
    let codes = SiCode::CLD_EXITED..=SiCode::CLD_CONTINUED;
    info.signal == Signal::CHLD || codes.contains(&info.code)
}

/// Whether the call is a wait that does not sleep and whose result does not show if it found a
/// child.
fn tells_nothing(call: &Syscall, result: &syscall::Result) -> bool {
    let Syscall::Waitid { options, .. } = call else { return false };
    options.contains(WaitOptions::NOHANG)
        && matches!(result, Ok(Ret::WaitInfo(None)) | Err(Errno::EFAULT))
}

impl ProcessRegistry {
    /// Queues an exit for the callback. The callback runs after the step and, if `driver_pending`,
    /// after the process's own driver has carried out the operation for the end.
    pub fn note_exit(&mut self, pid: Pid, status: WaitStatus, driver_pending: bool) {
        let Some(key) = self.key(pid) else { return };
        if self.outbox.exits == 0 {
            self.outbox.exits = key.serial;
        }
        let step = Some(self.outbox.exits);
        let (waits, calls, ops, handlers) = Default::default();
        let exit = PendingExit { key, status, step, driver_pending, waits, calls, ops, handlers };
        self.pending_exits.push_back(exit);
    }

    /// Whether the callback that runs at present sleeps on this parker, or has another thread sleep
    /// on it.
    pub fn is_the_callbacks(&self, parker: &Arc<Parker>) -> bool {
        self.callback_sleeps.iter().any(|other| Arc::ptr_eq(other, parker))
    }

    /// The pending exit of the latest process of that number. Costs a scan of the pending exits.
    pub fn pending_exit_of(&self, pid: Pid) -> Option<usize> {
        self.pending_exits.iter().rposition(|exit| exit.key.pid == pid)
    }

    /// The pending exit that a call's result reports. Costs a scan of the pending exits.
    pub fn pending_exit_in(&self, result: &syscall::Result) -> Option<usize> {
        let child = match result {
            Ok(Ret::Signal(info)) if tells_of_children(info) => return self.last_pending_exit(),
            // the result of the wait does not name the child: it may be any pending exit
            Ok(Ret::WaitInfo(None)) | Err(Errno::EFAULT) => return self.last_pending_exit(),
            Ok(Ret::Waited { pid, .. }) => *pid,
            Ok(Ret::WaitInfo(Some(Some(info)))) => info.pid,
            _ => return None,
        };
        self.pending_exit_of(child)
    }

    fn last_pending_exit(&self) -> Option<usize> {
        self.pending_exits.len().checked_sub(1)
    }

    /// TABLE-01: a driver that receives the SIGCHLD of an exit and then waits finds that exit.
    pub fn operate_or_hold_back(&mut self, queue: Id<DriverQueue>, op: Op) {
        let early = |exit: &PendingExit| exit.ops.iter().any(|(other, _)| *other == queue);
        let tells = matches!(&op, Op::Deliver(delivery) if tells_of_children(&delivery.info));
        let held_back = tells || self.pending_exits.iter().any(early);
        match self.pending_exits.back_mut().filter(|_| held_back) {
            Some(last) => last.ops.push((queue, op)),
            None => self.queues.send(queue, || op, &mut self.outbox.dispatches),
        }
    }

    /// TABLE-01: a handler that receives the SIGCHLD of an exit and then waits finds that exit.
    /// Returns whether the handler has to wait for a callback.
    pub fn hold_handler(&mut self, tid: Pid, serial: u64) -> bool {
        let last = self.pending_exits.back_mut();
        last.map(|last| last.handlers.push((tid, serial))).is_some()
    }

    /// Holds back the result of a call of `tid` until the callback of the exit that it reports, or
    /// may report, has run.
    pub fn hold_back(&mut self, exit: usize, tid: Pid, pending: Arc<Pending>, end: End) {
        if let Some(calls) = self.calls_mut(tid) {
            calls.get_or_insert_default().held.push(pending.clone());
        }
        self.pending_exits[exit].calls.push((tid, pending, end));
    }

    /// Drivers have carried out the operations of a step: the callbacks for its exits can run.
    /// Costs a scan of the exits after them.
    pub fn note_step_dispatched(&mut self, step: u64) {
        let newest_first = self.pending_exits.iter_mut().rev();
        let of_step = newest_first
            .skip_while(|exit| exit.step != Some(step))
            .take_while(|exit| exit.step == Some(step));
        of_step.for_each(|exit| exit.step = None);
    }

    /// Drivers have carried out these operations. Returns whether a callback was waiting for one of
    /// them, the operation for an end. Costs a scan of the exits after it.
    pub fn note_dispatched(&mut self, dispatches: &[Dispatch]) -> bool {
        let ends = dispatches.iter().filter(|dispatch| matches!(dispatch.op, Op::Terminate(_)));
        let mut serials: Vec<u64> = ends.map(|dispatch| dispatch.key.serial).collect();
        serials.sort_unstable();
        let is_among = |exit: &&mut PendingExit| serials.binary_search(&exit.key.serial).is_ok();
        let found = self.pending_exits.iter_mut().rev().filter(is_among).take(serials.len());
        found.fold(false, |_, exit| {
            exit.driver_pending = false;
            true
        })
    }

    /// The exit whose callback runs next.
    pub fn next_pending_exit(&self) -> Option<(ProcessKey, WaitStatus)> {
        let is_dispatched = |exit: &&PendingExit| exit.step.is_none() && !exit.driver_pending;
        let first = self.pending_exits.front().filter(is_dispatched)?;
        Some((first.key, first.status))
    }

    /// The callback for the first exit has run: releases what waits for it.
    pub fn exit_callback_returned(&mut self) {
        self.callback_sleeps.clear();
        let Some(mut exit) = self.pending_exits.pop_front() else { return };
        for waiting in core::mem::take(&mut exit.waits) {
            tell(&waiting, &mut self.concerned, &mut self.outbox);
        }
        self.release(exit);
    }

    /// The table ends: the callbacks of the pending exits never run.
    pub fn abandon_pending_exits(&mut self) {
        for mut exit in core::mem::take(&mut self.pending_exits) {
            exit.calls.iter_mut().for_each(|(.., end)| *end = End::Gone);
            self.outbox.wakes.extend(exit.waits.drain(..).map(|waiting| waiting.wake()));
            self.release(exit);
        }
    }

    /// The callback of this exit has run, or never will: calls return, and drivers receive the
    /// operations that were held back.
    fn release(&mut self, exit: PendingExit) {
        for (queue, op) in exit.ops {
            self.queues.send(queue, || op, &mut self.outbox.dispatches);
        }
        for (tid, serial) in exit.handlers {
            self.release_handler(tid, serial);
        }
        for (tid, pending, end) in exit.calls {
            if let Some(Some(calls)) = self.calls_mut(tid) {
                calls.held.retain(|other| !Arc::ptr_eq(other, &pending));
            }
            // no code sees the result if the caller has ended
            if pending.end().is_none() {
                self.finish(tid, &pending, end);
            }
        }
    }
}

impl TableState {
    /// Whether the calling thread runs the exit callback.
    pub fn is_callback(&self) -> bool {
        is_current(self.callback_thread)
    }

    /// Marks a parker on which a thread sleeps because of the callback that runs at present: its
    /// wake must not wait for that callback.
    pub fn note_sleep(&mut self, parker: &Arc<Parker>) {
        if self.is_callback() && !self.process_registry.is_the_callbacks(parker) {
            self.process_registry.callback_sleeps.push(parker.clone());
        }
    }

    /// The pending exit that a call's result reports.
    #[inline]
    pub fn pending_exit_for(
        &self,
        call: &Syscall,
        result: &syscall::Result,
        callbacks_own: bool,
    ) -> Option<usize> {
        if self.process_registry.pending_exits.is_empty()
            || callbacks_own
            || tells_nothing(call, result)
        {
            return None;
        }
        self.process_registry.pending_exit_in(result)
    }

    /// The pending exit of a zombie.
    pub fn pending_exit_mut(&mut self, pid: Pid) -> Option<&mut PendingExit> {
        let serial = self.process_registry.key(pid)?.serial;
        self.process_registry.pending_exits.iter_mut().find(|exit| exit.key.serial == serial)
    }
}

impl TableInner {
    /// Runs the exit callbacks that can run, unless another thread does: drivers have carried out
    /// the operations of `step`, or of an earlier end.
    pub(super) fn run_exit_callbacks(self: &Arc<TableInner>, step: u64) {
        self.state.lock().process_registry.note_step_dispatched(step);
        loop {
            let mut state = self.state.lock();
            if state.callback_thread.is_some() {
                return;
            }
            let Some((key, status)) = state.process_registry.next_pending_exit() else { return };
            let callback = state.on_exit.clone();
            let handle = state.handle.upgrade();
            state.callback_thread = Some(current().id());
            drop(state);
            if let (Some(callback), Some(handle)) = (callback, handle) {
                // a panic of the callback, or of its `Drop`, must not lose an exit
                contain(move || callback(&Process::new(ProcessTable(handle), key), status));
            }
            let mut state = self.state.lock();
            state.callback_thread = None;
            state.process_registry.exit_callback_returned();
            state.answer_waits(&*self.clock);
            self.leave(state);
        }
    }
}
