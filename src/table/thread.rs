//! A handle of one thread, and the calls that it makes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::call::{End, Started};
use super::commit::TableInner;
use super::delivery::{Checkpoint, HandlerDelivery, StaleDelivery};
use super::guest::Caller;
use super::process::{Process, SigmaskHow, done, old_mask, raw, sigtimedwait, taken};
use super::query::ThreadInfo;
use super::registry::ProcessKey;
use super::{Call, CallProgress, ProcessTable};
use crate::abi::{Errno, Pid, SigInfo, SigSet, Signal, WaitOptions, WaitStatus};
use crate::kernel::TaskId;
use crate::syscall::{self, Ptr, SIGSET_SIZE, Syscall, clone};

/// The identity of a thread and of its process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ThreadKey {
    pub process: ProcessKey,
    pub task: TaskId,
}

/// The flags with which pthread_create(3) calls clone(2), without those for addresses.
pub(crate) const THREAD: u64 =
    clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD | clone::SYSVSEM;

/// A handle of one thread of a process of a table. When the thread has ended, all methods fail with
/// ESRCH, also if its number belongs to a later thread.
///
/// The methods are calls of the thread, as [`ProcessTable::syscall`] makes them; two threads of a
/// process can be in calls at the same time. A call of a thread that ends during it, by an
/// exit_group or execve of another thread or by a fatal signal, returns ESRCH. A thread that
/// executes a program keeps its handle, and has the number of its process from then on (EXEC-11). A
/// `Thread` holds a handle of its table.
///
/// ```
/// use proctable::abi::{WaitOptions, WaitStatus};
/// use proctable::table::{Image, ProcessTable, Spawn, WaitTarget};
///
/// let table = ProcessTable::new();
/// let server = table.spawn(Spawn::new(Image::new("server")))?;
/// let main = server.main_thread().expect("it lives");
/// let worker = main.spawn_thread()?;
/// main.exit(0)?;
/// assert_eq!(server.exit_status(), None, "the process ends with its last thread");
/// worker.exit(3)?;
/// let waited = table.init().wait(&server, WaitOptions::EXITED)?;
/// assert_eq!(waited.status, WaitStatus::exited(3));
/// # Ok::<(), proctable::abi::Errno>(())
/// ```
///
/// # Safe points
///
/// An engine that can run a handler only at certain points creates its process with
/// [`Spawn::safe_points`](super::Spawn::safe_points). At such a point a thread calls
/// [`checkpoint`](Thread::checkpoint), takes a handler
/// ([`begin_delivery`](Thread::begin_delivery)), runs it, and has it return
/// ([`end_delivery`](Thread::end_delivery)). Two threads of a cooperative event loop:
///
/// ```
/// use proctable::abi::{Errno, Handler, SaFlags, SigAction, SigSet, Signal, WaitOptions};
/// use proctable::syscall::{Ptr, Syscall};
/// use proctable::table::{
///     CallProgress, Checkpoint, Image, ProcessTable, SigmaskHow, Spawn, Thread, What,
/// };
///
/// /// What one thread does at its turn.
/// fn turn(thread: &Thread, log: &mut Vec<String>) {
///     while thread.checkpoint() == Checkpoint::Deliver {
///         let Some(begun) = thread.begin_delivery() else { break };
///         log.push(format!("{} in {}", begun.info().signal, begun.tid()));
///         // here the engine runs the handler whose address is `begun.handler()`
///         let returned = thread.end_delivery(&begun).expect("it has not returned before");
///         assert!(returned.result().is_some(), "nothing stops it");
///     }
/// }
///
/// let table = ProcessTable::new();
/// let loops = table.spawn(Spawn::new(Image::new("loop")).safe_points())?;
/// let child = loops.spawn(Spawn::new(Image::new("child")))?;
/// let first = loops.main_thread().expect("it lives");
/// let second = first.spawn_thread()?;
/// let handler = SigAction { handler: Handler::Catch(0x40), ..SigAction::DEFAULT };
/// loops.sigaction(Signal::USR1, handler)?;
/// loops.sigaction(Signal::USR2, SigAction { flags: SaFlags::RESTART, ..handler })?;
/// // the second thread waits for a child, and blocks SIGUSR1
/// second.sigprocmask(SigmaskHow::Block, Signal::USR1.set())?;
/// let (pid, status, options) = (-1, Ptr::Valid, WaitOptions::default());
/// let mut waits = second.submit(Syscall::Wait4 { pid, status, options });
///
/// let mut log = Vec::new();
/// table.init().kill(loops.pid(), Signal::USR1)?;
/// table.init().syscall(Syscall::Tgkill {
///     tgid: loops.pid().0 as i32,
///     tid: second.tid().0 as i32,
///     sig: Signal::USR2.number().into(),
/// })?;
/// turn(&first, &mut log);
/// // the handler interrupts its wait, which is restarted after it: SA_RESTART
/// assert_eq!(waits.wait_or_deliver(), CallProgress::Deliver);
/// turn(&second, &mut log);
/// assert_eq!(log, ["SIGUSR1 in 2", "SIGUSR2 in 4"]);
/// assert_eq!(waits.result(), None);
/// child.exit(0)?;
/// assert!(matches!(waits.wait_or_deliver(), CallProgress::Returned(Ok(_))));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone)]
pub struct Thread {
    pub(super) table: ProcessTable,
    pub(super) key: ThreadKey,
    /// Its number when the handle was created.
    tid: Pid,
}

impl PartialEq for Thread {
    fn eq(&self, other: &Thread) -> bool {
        self.key == other.key && Arc::ptr_eq(self.table.shared(), other.table.shared())
    }
}

impl Eq for Thread {}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Thread").field(&self.key.process.pid.0).field(&self.tid.0).finish()
    }
}

impl Thread {
    /// The number of the thread: the number of its process once it has executed a program, and its
    /// last number if it has ended. O(1).
    pub fn tid(&self) -> Pid {
        self.table.shared().tid(self.key).unwrap_or(self.tid)
    }

    /// The number of its process.
    pub fn pid(&self) -> Pid {
        self.key.process.pid
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::new(self.table.clone(), self.key.process)
    }

    /// Its table.
    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// Whether the thread is alive. O(1).
    pub fn is_alive(&self) -> bool {
        self.table.shared().tid(self.key).is_some()
    }

    /// The thread at this moment; `None` once it has ended. O(1).
    pub fn info(&self) -> Option<ThreadInfo> {
        let state = self.table.shared().state.lock();
        state.thread_info(state.tid_of(self.key.task)?)
    }

    /// The thread makes a call, and the calling thread waits until it returns: see
    /// [`ProcessTable::syscall`].
    ///
    /// # Errors
    ///
    /// The errno of the call; ESRCH if the thread has ended, or ends during the call.
    pub fn syscall(&self, call: Syscall) -> syscall::Result {
        self.table.shared().result(self.start(&call))
    }

    /// [`Thread::syscall`] without waiting for the return of the call.
    pub fn submit(&self, call: Syscall) -> Call {
        Call::new(self.table.clone(), self.start(&call), self.caller())
    }

    /// The calls of the thread that have not returned, the outermost first, and then those that it
    /// has not made yet, for code that has no [`Call`] of them: a runtime whose table was restored
    /// from a snapshot.
    pub fn calls_in_progress(&self) -> Vec<Call> {
        Call::in_progress(&self.table, self.caller())
    }

    /// A call of code that is inside of `handlers` handlers: see
    /// [`Process::submit_within`](super::Process::submit_within).
    pub fn submit_within(&self, handlers: usize, call: Syscall) -> Call {
        let started = self.table.shared().start_within(self.caller(), &call, handlers);
        Call::new(self.table.clone(), started, self.caller())
    }

    fn start(&self, call: &Syscall) -> Started {
        self.table.shared().start(self.caller(), call)
    }

    fn caller(&self) -> Caller {
        Caller::Thread(self.key)
    }

    /// Creates a thread of the same process, with the mask and the user ids of this one.
    ///
    /// # Errors
    ///
    /// EAGAIN at a limit (LIM-01, PID-05, [`TableLimits`](super::TableLimits)).
    ///
    /// # References
    ///
    /// clone(2) with CLONE_THREAD, pthread_create(3); RULES THR.
    #[doc(alias = "clone")]
    #[doc(alias = "pthread_create")]
    pub fn spawn_thread(&self) -> Result<Thread, Errno> {
        let end = self.table.shared().end(self.start(&Syscall::clone_call(THREAD)));
        let (task, tid) = self.table.shared().created(end)?;
        let key = ThreadKey { process: self.key.process, task };
        Ok(Thread { table: self.table.clone(), key, tid })
    }

    /// Ends the thread. With its last thread the process ends, with the low 8 bits of that thread's
    /// `code`. [`Process::exit`] ends all threads.
    ///
    /// # References
    ///
    /// _exit(2), pthread_exit(3); RULES THR.
    #[doc(alias = "pthread_exit")]
    pub fn exit(&self, code: i32) -> Result<(), Errno> {
        done(self.syscall(Syscall::Exit(code)))
    }

    /// Sends a signal to one thread (SIG-22).
    ///
    /// # Errors
    ///
    /// ESRCH if the thread has ended, EPERM if the user ids forbid it (KILL-14).
    ///
    /// # References
    ///
    /// tgkill(2).
    pub fn tgkill(&self, thread: &Thread, signal: Signal) -> Result<(), Errno> {
        let tid = self.table.shared().tid(thread.key).ok_or(Errno::ESRCH)?;
        let (tgid, tid, sig) = (raw(thread.pid().0), raw(tid.0), signal.number().into());
        done(self.syscall(Syscall::Tgkill { tgid, tid, sig }))
    }

    /// Changes the mask of the thread: as [`Process::sigprocmask`].
    #[doc(alias = "pthread_sigmask")]
    pub fn sigprocmask(&self, change: SigmaskHow, set: SigSet) -> Result<SigSet, Errno> {
        self.syscall(change.call(set)).map(|ret| old_mask(&ret))
    }

    /// Waits with another mask until a handler has run: as [`Process::sigsuspend`].
    #[doc(alias = "rt_sigsuspend")]
    pub fn sigsuspend(&self, mask: SigSet) -> Result<(), Errno> {
        done(self.syscall(Syscall::RtSigsuspend { mask, size: SIGSET_SIZE }))
    }

    /// Waits until a handler has run: as [`Process::pause`].
    pub fn pause(&self) -> Result<(), Errno> {
        done(self.syscall(Syscall::Pause))
    }

    /// Takes a pending signal of a set: as [`Process::sigtimedwait`].
    #[doc(alias = "sigwaitinfo")]
    pub fn sigtimedwait(&self, set: SigSet, timeout: Option<Duration>) -> Result<SigInfo, Errno> {
        taken(self.syscall(sigtimedwait(set, timeout)))
    }

    /// Waits for a child of the process as a call of the thread: as [`Process::waitpid`].
    #[doc(alias = "wait4")]
    pub fn waitpid(
        &self,
        pid: i32,
        options: WaitOptions,
    ) -> Result<Option<(Pid, WaitStatus)>, Errno> {
        let call = Syscall::Wait4 { pid, status: Ptr::Valid, options };
        Ok(self.syscall(call)?.waited())
    }

    /// The innermost handler of the thread returns: as [`Process::sigreturn`]. With safe points,
    /// [`end_delivery`](Thread::end_delivery) replaces this call.
    #[doc(alias = "rt_sigreturn")]
    pub fn sigreturn(&self) -> Result<(), Errno> {
        done(self.syscall(Syscall::RtSigreturn))
    }
}

/// For processes with [safe points](super::Spawn::safe_points).
impl Thread {
    /// What the thread has to do now, at a safe point. O(1).
    pub fn checkpoint(&self) -> Checkpoint {
        self.table.shared().checkpoint(self.caller())
    }

    /// Takes the innermost handler, if one waits. It runs from now on, and its mask applies. Other
    /// handlers may be taken before it returns, and run above it.
    pub fn begin_delivery(&self) -> Option<HandlerDelivery> {
        self.table.shared().begin_delivery(self.caller())
    }

    /// The handler that the thread runs: that which [`Thread::begin_delivery`] returned and whose
    /// return is not requested yet, in a table that was restored from a snapshot.
    pub fn running_delivery(&self) -> Option<HandlerDelivery> {
        self.table.shared().running_delivery(self.caller())
    }

    /// A handler returns: rt_sigreturn(2). The mask is that of the code below it, and a call that
    /// it interrupted fails or is restarted. The returned call has ended, unless the process is
    /// stopped or another handler was entered before the return: then that handler runs first
    /// ([`Call::wait_or_deliver`]).
    ///
    /// # Errors
    ///
    /// [`StaleDelivery`] if the handler does not run any more, or is not the innermost running one;
    /// then nothing has changed.
    pub fn end_delivery(&self, begun: &HandlerDelivery) -> Result<Call, StaleDelivery> {
        if begun.thread != self.key {
            return Err(StaleDelivery);
        }
        let started = self.table.shared().end_delivery(begun, None)?;
        Ok(Call::new(self.table.clone(), started, self.caller()))
    }

    /// Runs the handlers that wait, each by `run`, until none is left.
    pub fn run_handlers(&self, run: &mut dyn FnMut(&HandlerDelivery)) {
        while let Some(begun) = self.begin_delivery() {
            run(&begun);
            if let Ok(mut returns) = self.end_delivery(&begun) {
                self.finish(&mut returns, run).ok();
            }
        }
    }

    /// The thread makes a call; `run` runs handlers that interrupt or follow it.
    ///
    /// # Errors
    ///
    /// As [`Thread::syscall`].
    pub fn syscall_with(
        &self,
        call: Syscall,
        run: &mut dyn FnMut(&HandlerDelivery),
    ) -> syscall::Result {
        let result = self.finish(&mut self.submit(call), run);
        self.run_handlers(run);
        result
    }

    fn finish(&self, call: &mut Call, run: &mut dyn FnMut(&HandlerDelivery)) -> syscall::Result {
        loop {
            match call.wait_or_deliver() {
                CallProgress::Returned(result) => return result,
                CallProgress::Deliver => self.run_handlers(run),
            }
        }
    }
}

impl Process {
    /// The leader, or the first thread that is alive if the leader has ended; `None` once the
    /// process has ended.
    pub fn main_thread(&self) -> Option<Thread> {
        let state = self.table().shared().state.lock();
        let tid = state.acting(self.caller())?;
        Some(Thread { table: self.table().clone(), key: state.thread(self.key, tid)?, tid })
    }

    /// The living threads, in the order of their creation. O(1) a thread.
    pub fn threads(&self) -> Vec<Thread> {
        let state = self.table().shared().state.lock();
        if state.process_registry.entry(self.key).is_none() {
            return Vec::new();
        }
        let threads = state.kernel.tids(self.pid()).filter_map(|tid| {
            let key = state.thread(self.key, tid)?;
            state.tid_of(key.task)?;
            Some(Thread { table: self.table().clone(), key, tid })
        });
        threads.collect()
    }

    /// What the first living thread has to do now: [`Thread::checkpoint`].
    pub fn checkpoint(&self) -> Checkpoint {
        self.table().shared().checkpoint(self.caller())
    }

    /// The handler that the first living thread runs: [`Thread::running_delivery`].
    pub fn running_delivery(&self) -> Option<HandlerDelivery> {
        self.table().shared().running_delivery(self.caller())
    }

    /// The calls in progress of the first living thread: [`Thread::calls_in_progress`].
    pub fn calls_in_progress(&self) -> Vec<Call> {
        Call::in_progress(self.table(), self.caller())
    }

    /// Takes a handler for the first living thread: [`Thread::begin_delivery`].
    pub fn begin_delivery(&self) -> Option<HandlerDelivery> {
        self.table().shared().begin_delivery(self.caller())
    }

    /// A handler of one of the threads returns: [`Thread::end_delivery`].
    ///
    /// # Errors
    ///
    /// As [`Thread::end_delivery`].
    pub fn end_delivery(&self, begun: &HandlerDelivery) -> Result<Call, StaleDelivery> {
        if begun.thread.process != self.key {
            return Err(StaleDelivery);
        }
        let started = self.table().shared().end_delivery(begun, None)?;
        Ok(Call::new(self.table().clone(), started, Caller::Thread(begun.thread)))
    }
}

impl ProcessTable {
    /// The thread that has this number at present, if it is alive. O(1).
    pub fn thread(&self, tid: Pid) -> Option<Thread> {
        let state = self.shared().state.lock();
        let process = state.process_registry.key(state.process_registry.process_of(tid)?)?;
        let key = state.thread(process, tid)?;
        state.tid_of(key.task)?;
        Some(Thread { table: self.clone(), key, tid })
    }
}

impl super::commit::TableState {
    /// The identity of a thread.
    fn thread(&self, process: ProcessKey, tid: Pid) -> Option<ThreadKey> {
        Some(ThreadKey { process, task: self.kernel.task_id(tid)? })
    }
}

impl TableInner {
    /// The number of a thread; `None` if it has ended.
    pub(crate) fn tid(&self, thread: ThreadKey) -> Option<Pid> {
        let state = self.state.lock();
        state.tid_of(thread.task).filter(|_| !state.is_closed())
    }

    /// The leader of a process that was just created.
    pub(crate) fn leader_of(&self, process: ProcessKey) -> Option<ThreadKey> {
        let state = self.state.lock();
        state.process_registry.entry(process)?;
        state.thread(process, process.pid)
    }

    /// The thread that a call created.
    pub(crate) fn created(&self, end: End) -> Result<(TaskId, Pid), Errno> {
        if let End::Threaded(task, tid) = end {
            return Ok((task, tid));
        }
        // other tasks ran before the caller saw the result
        let tid = Pid(end.result()?.value() as u32);
        let task = self.state.lock().kernel.task_id(tid).ok_or(Errno::ESRCH)?;
        Ok((task, tid))
    }
}
