//! Guests that are Rust closures on threads of the host.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::task::{Context, Poll, Waker};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::abi::{
    Errno, Handler, Pgid, Pid, SaFlags, SigAction, SigInfo, SigSet, Signal, WaitOptions, WaitStatus,
};
use crate::driver::Authority;
use crate::sync::{Mutex, Parker};
use crate::syscall::{self, Ptr, Ret, SIGSET_SIZE, Syscall};
use crate::table::{
    Caller, End, HandlerDelivery, Process, ProcessKey, Spawn, Started, THREAD, TableInner,
    ThreadKey, ThreadWaker, before_sleep,
};

/// The panic payload that unwinds a thread of a guest that has ended.
struct Gone;

/// Leaves the code of a guest that has ended. Without unwinding no code can be left, and a second
/// panic would end the program: then the thread sleeps for ever.
fn leave_guest_code() -> ! {
    if cfg!(panic = "abort") || std::thread::panicking() {
        loop {
            std::thread::park();
        }
    }
    resume_unwind(Box::new(Gone))
}

/// Runs guests on threads: each thread of a process is a thread of the host. The calls of a guest
/// are its safe points ([`Spawn::safe_points`]): a handler runs on the thread that the kernel chose
/// for it, at the next call of that thread or in the call that it sleeps in.
///
/// A thread of the host cannot be stopped or ended from outside: a guest that is stopped sleeps in
/// its next call, and a guest that has ended unwinds from its next call. Code that makes no call
/// continues to run; [`Guest::checkpoint`] is a call without any other effect.
///
/// With `panic = "abort"` a guest's code cannot be unwound. A guest whose code returns ends as
/// always; the thread of one that ends in another way sleeps for ever in its last call, without
/// destructors, and a panic in a guest ends the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ThreadDriver;

impl ThreadDriver {
    /// Creates a child of `parent` that runs `body` on a thread of its own. The child ends, with
    /// all its threads, when `body` returns, with the returned code (101 if `body` panics, as a
    /// Rust program does).
    ///
    /// ```
    /// use proctable::abi::{WaitOptions, WaitStatus};
    /// use proctable::drivers::ThreadDriver;
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let spawn = Spawn::new(Image::new("guest"));
    /// let guest = ThreadDriver::spawn(&table.init(), spawn, |guest| {
    ///     let half = guest.spawn_thread(|guest| guest.tid().0 as i32).expect("there is room");
    ///     guest.join(half).expect("it returned") + guest.pid().0 as i32
    /// })?;
    /// let waited = table.init().wait(&guest, WaitOptions::EXITED)?;
    /// assert_eq!(waited.status, WaitStatus::exited(3 + 2));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]; EAGAIN if the host can create no more threads, and EINVAL
    /// with an authority other than [`Authority::Model`], because a guest on threads has no host or
    /// runtime that acts on its signals. Then
    /// there is no process either.
    pub fn spawn(
        parent: &Process,
        spawn: Spawn,
        body: impl FnOnce(&mut Guest) -> i32 + Send + 'static,
    ) -> Result<Process, Errno> {
        let (shared, token) = parent.parts();
        let child = start(&shared, token, spawn, body)?;
        Ok(parent.sibling(child))
    }
}

/// Where a thread of the host waits until the table has the thread that it runs.
#[derive(Default)]
struct StartGate {
    thread: Mutex<Option<ThreadKey>>,
    parker: Arc<Parker>,
}

impl StartGate {
    /// Starts a thread of the host, which runs `body` as a thread of a guest once the table has
    /// that thread; `None` if the host can create no more threads.
    fn with(
        shared: &Arc<TableInner>,
        handlers: Handlers,
        body: impl FnOnce(Guest) + Send + 'static,
    ) -> Option<Arc<StartGate>> {
        let gate = Arc::<StartGate>::default();
        let (own, shared) = (gate.clone(), shared.clone());
        let thread = move || {
            own.parker.park(None);
            let Some(thread) = *own.thread.lock() else { return };
            body(Guest::new(shared, thread, handlers));
        };
        crate::sync::spawn("proctable-guest", thread).ok().map(|()| gate)
    }

    /// Opens the gate: the table has the thread, or (`None`) its creation failed.
    fn open_gate(&self, thread: Option<ThreadKey>) {
        *self.thread.lock() = thread;
        self.parker.unpark();
    }
}

fn start(
    shared: &Arc<TableInner>,
    parent: ProcessKey,
    spawning: Spawn,
    body: impl FnOnce(&mut Guest) -> i32 + Send + 'static,
) -> Result<ProcessKey, Errno> {
    if spawning.authority_of() != Authority::Model {
        return Err(Errno::EINVAL);
    }
    // before the process is created, so that no process lacks a thread
    let gate = StartGate::with(shared, Handlers::default(), |guest| run(guest, body));
    let gate = gate.ok_or(Errno::EAGAIN)?;
    let token = shared.spawn(parent, spawning.safe_points());
    gate.open_gate(token.ok().and_then(|token| shared.leader_of(token)));
    token
}

/// Runs the first thread of a guest, from its first call to its end.
fn run(mut guest: Guest, body: impl FnOnce(&mut Guest) -> i32) {
    let Some(code) = contain(&mut guest, body) else { return };
    // handlers that come before the end may unwind
    let _ = catch_unwind(AssertUnwindSafe(|| guest.end(Syscall::ExitGroup(code))));
}

/// Runs a further thread of a guest.
fn run_thread<T>(mut guest: Guest, body: impl FnOnce(&mut Guest) -> T, value: &Mutex<Option<T>>) {
    let returned = contain(&mut guest, |guest| {
        // a thread that is created while its process is stopped sleeps here
        guest.checkpoint();
        *value.lock() = Some(body(guest));
        0
    });
    let _ = catch_unwind(AssertUnwindSafe(|| match returned {
        Some(0) => guest.end(Syscall::Exit(0)),
        Some(code) => guest.end(Syscall::ExitGroup(code)),
        None => {}
    }));
}

/// Runs a guest's code; `None` if the code was unwound because the guest has ended.
fn contain(guest: &mut Guest, body: impl FnOnce(&mut Guest) -> i32) -> Option<i32> {
    const PANICKED: i32 = 101;
    match catch_unwind(AssertUnwindSafe(|| body(guest))) {
        Ok(code) => Some(code),
        Err(cause) if cause.is::<Gone>() => None,
        Err(_) => Some(PANICKED),
    }
}

/// A thread that a guest has created and can join: [`Guest::spawn_thread`].
#[derive(Debug)]
pub struct GuestThread<T> {
    thread: ThreadKey,
    tid: Pid,
    value: Arc<Mutex<Option<T>>>,
}

impl<T> GuestThread<T> {
    /// Its number when it was created.
    pub fn tid(&self) -> Pid {
        self.tid
    }
}

type Body = Arc<dyn Fn(&mut Guest, &SigInfo) + Send + Sync>;

/// The handlers, with the flags of their actions, by the address in the action: the signal's number
/// plus an offset, because small addresses mean SIG_DFL and SIG_IGN. All threads of a process share
/// them.
type Handlers = Arc<Mutex<BTreeMap<u64, (SaFlags, Body)>>>;

/// A guest as its own code sees it, on one of its threads: the system calls of that thread.
///
/// A call of a thread or a guest that has ended does not return: the thread unwinds and runs its
/// destructors. Calls that the destructors make fail with ESRCH. A panic ends the guest with all
/// its threads, with the code 101.
///
/// After a successful execve in a handler, the rest of that handler is the new program: the code
/// that the handler interrupted never continues, and the guest ends with code 0 when the handler
/// returns.
pub struct Guest {
    shared: Arc<TableInner>,
    thread: ThreadKey,
    tid: Pid,
    waker: Arc<ThreadWaker>,
    handlers: Handlers,
    /// The number of programs that the guest has executed.
    programs: u64,
    /// The number of handlers that the running code is inside of.
    level: usize,
    /// The flags of the action for the signal that interrupted a wait of the running code's own
    /// ([`Guest::block_on`]).
    interrupted_by: Option<SaFlags>,
}

impl core::fmt::Debug for Guest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Guest").field(&self.thread.process.pid).field(&self.tid).finish()
    }
}

/// The address that represents the handler of a signal.
fn address(signal: Signal) -> u64 {
    0x1000 + u64::from(signal.number())
}

impl Guest {
    fn new(shared: Arc<TableInner>, thread: ThreadKey, handlers: Handlers) -> Guest {
        let waker = Arc::new(ThreadWaker::default());
        shared.set_thread_waker(thread, &waker);
        let tid = shared.tid(thread).unwrap_or(thread.process.pid);
        Guest { shared, thread, tid, waker, handlers, programs: 0, level: 0, interrupted_by: None }
    }

    /// The number of its process.
    pub fn pid(&self) -> Pid {
        self.thread.process.pid
    }

    /// The number of this thread: the number of its process once it has executed a program
    /// (EXEC-11).
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Makes a system call. Handlers that are delivered during the call run on this thread.
    ///
    /// # Errors
    ///
    /// The errno of the call.
    pub fn syscall(&mut self, call: Syscall) -> syscall::Result {
        let result = match self.start(&call) {
            // most calls end here
            Started::Plain(result) => result.map(Ret::Value),
            started => {
                let end = self.finish(started);
                self.result(end)
            }
        };
        if matches!(call, Syscall::Execve { .. }) && result.is_ok() {
            self.programs += 1;
            self.tid = self.pid();
        }
        self.run_handlers();
        result
    }

    fn start(&self, call: &Syscall) -> Started {
        self.shared.start_on(self.thread, call, &self.waker.parker)
    }

    /// Runs the handlers that come before a call is made, and those that come before it has
    /// returned.
    fn finish(&mut self, started: Started) -> End {
        let pending = match started {
            Started::Plain(result) => return End::Returned(result.map(Ret::Value)),
            Started::Ended(end) => return end,
            Started::Pending(pending) => pending,
        };
        loop {
            if let Some(end) = pending.end() {
                return end;
            }
            if !self.run_handlers() {
                before_sleep();
                self.waker.parker.park(None);
            }
        }
    }

    fn result(&self, end: End) -> syscall::Result {
        match end {
            End::Returned(Ok(Ret::Never)) if self.is_alive() => Ok(Ret::Never),
            End::Gone | End::Returned(Ok(Ret::Never)) => Err(self.leave()),
            end => end.result(),
        }
    }

    /// The thread has ended: it unwinds. A call of a destructor fails instead.
    fn leave(&self) -> Errno {
        if !std::thread::panicking() {
            leave_guest_code();
        }
        Errno::ESRCH
    }

    /// Ends the thread or the guest, after the last code of the guest: there is nothing to unwind.
    fn end(&mut self, call: Syscall) {
        let started = self.start(&call);
        self.finish(started);
    }

    fn is_alive(&self) -> bool {
        self.shared.tid(self.thread).is_some()
    }

    /// Runs the handlers that were entered above the running code, the last one first (SIG-36).
    /// Returns whether there were any.
    fn run_handlers(&mut self) -> bool {
        // most calls need no look at the table
        if !self.waker.take() {
            return false;
        }
        let mut any = false;
        while let Some(begun) = self.shared.begin_delivery(Caller::Thread(self.thread)) {
            any = true;
            self.run_handler(&begun);
        }
        any
    }

    fn run_handler(&mut self, begun: &HandlerDelivery) {
        let program = self.programs;
        let handler = self.handlers.lock().get(&begun.handler()).cloned();
        let (flags, body) = handler.unzip();
        if let Some(body) = body {
            // waits of the handler's own are interrupted by other signals
            let outer_level = core::mem::replace(&mut self.level, begun.depth());
            let outer = self.interrupted_by.take();
            body(self, begun.info());
            (self.level, self.interrupted_by) = (outer_level, outer);
        }
        if self.programs != program {
            // EXEC-03: the code that the handler interrupted does not exist any more
            self.end(Syscall::ExitGroup(0));
            self.leave();
            return;
        }
        // SIG-44: the signal that was delivered first decides. Handlers that were set up above its
        // own have run before, and those of later signals run after it
        if begun.depth() == self.level + 1 {
            self.interrupted_by = self.interrupted_by.or(flags);
        }
        // the handler may have called rt_sigreturn itself
        let parker = self.waker.parker.clone();
        if let Ok(started) = self.shared.end_delivery(begun, Some(&parker)) {
            let end = self.finish(started);
            let _ = self.result(end);
        }
    }

    /// Makes a call without an effect of its own: it runs handlers, sleeps while the guest is
    /// stopped, and unwinds if the guest has ended.
    pub fn checkpoint(&mut self) {
        let _ = self.syscall(Syscall::Getpid);
    }

    /// Waits for something of the runtime's own, such as a pipe, as a system call that sleeps does:
    /// polls `future` until it is ready. Handlers run on this thread, a guest that is stopped
    /// continues only after SIGCONT, and a guest that has ended unwinds, which drops the future.
    /// The table shows the process as running meanwhile, not as asleep.
    ///
    /// ```
    /// use proctable::abi::{Errno, SaFlags, Signal, WaitOptions, WaitStatus};
    /// use proctable::drivers::ThreadDriver;
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let spawn = Spawn::new(Image::new("reader"));
    /// let reader = ThreadDriver::spawn(&table.init(), spawn, |guest| {
    ///     guest.catch(Signal::ALRM, SaFlags(0), |_, _| {}).expect("SIGALRM can be caught");
    ///     guest.kill(guest.pid().0 as i32, Signal::ALRM).expect("it exists");
    ///     assert_eq!(guest.block_on(async { 7 }), Ok(7));
    ///     let own = guest.pid().0 as i32;
    ///     guest.spawn_thread(move |guest| guest.kill(own, Signal::KILL)).expect("there is room");
    ///     guest.block_on(core::future::pending::<i32>()).unwrap_or(0)
    /// })?;
    /// let waited = table.init().wait(&reader, WaitOptions::EXITED)?;
    /// assert_eq!(waited.status, WaitStatus::killed(Signal::KILL, false));
    /// # Ok::<(), Errno>(())
    /// ```
    ///
    /// # Errors
    ///
    /// EINTR if a handler has run and the future is not ready, unless the action has SA_RESTART
    /// (SIG-44).
    pub fn block_on<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Errno> {
        let mut future = core::pin::pin!(future);
        let waker = Waker::from(self.waker.clone());
        let mut context = Context::from_waker(&waker);
        // handlers of earlier signals interrupt nothing
        self.checkpoint();
        self.interrupted_by = None;
        loop {
            if !self.is_alive() {
                return Err(self.leave());
            }
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Ok(value);
            }
            if self.interrupted_by.take().is_some_and(|flags| !flags.contains(SaFlags::RESTART)) {
                return Err(Errno::EINTR);
            }
            before_sleep();
            self.waker.parker.park(None);
            // sleeps while the guest is stopped
            self.checkpoint();
        }
    }

    /// Ends the guest with all its threads.
    pub fn exit(&mut self, code: i32) -> ! {
        self.end(Syscall::ExitGroup(code));
        leave_guest_code()
    }

    /// Ends this thread. With its last thread the guest ends, with that thread's `code`.
    pub fn exit_thread(&mut self, code: i32) -> ! {
        self.end(Syscall::Exit(code));
        leave_guest_code()
    }

    /// Creates a thread of the guest, which runs `body` on a thread of the host and ends when
    /// `body` returns.
    ///
    /// # Errors
    ///
    /// EAGAIN at a limit of the host's threads or of the table (LIM-01).
    #[doc(alias = "pthread_create")]
    pub fn spawn_thread<T: Send + 'static>(
        &mut self,
        body: impl FnOnce(&mut Guest) -> T + Send + 'static,
    ) -> Result<GuestThread<T>, Errno> {
        let value = Arc::new(Mutex::new(None));
        let of = value.clone();
        let run = move |guest| run_thread(guest, body, &of);
        let gate =
            StartGate::with(&self.shared, self.handlers.clone(), run).ok_or(Errno::EAGAIN)?;
        let started = self.start(&Syscall::clone_call(THREAD));
        let created = match self.finish(started) {
            End::Gone => Err(Errno::ESRCH),
            end => self.shared.created(end),
        };
        let thread =
            created.map(|(task, tid)| (ThreadKey { process: self.thread.process, task }, tid));
        gate.open_gate(thread.ok().map(|(thread, _)| thread));
        self.checkpoint();
        let (thread, tid) = thread?;
        Ok(GuestThread { thread, tid, value })
    }

    /// Sleeps until a thread has ended; handlers that are delivered until then run on this thread.
    /// Returns what the closure of the thread returned; `None` if the thread ended in another way.
    #[doc(alias = "pthread_join")]
    pub fn join<T>(&mut self, thread: GuestThread<T>) -> Option<T> {
        let parker = self.waker.parker.clone();
        // a handler may unwind this thread
        let joining = Joining { shared: self.shared.clone(), thread: thread.thread, parker };
        while !joining.is_over() {
            if !self.is_alive() {
                self.leave();
                return None;
            }
            if !self.run_handlers() {
                before_sleep();
                joining.parker.park(None);
            }
        }
        drop(joining);
        self.checkpoint();
        thread.value.lock().take()
    }

    /// Sets `handler` as the handler of a signal.
    ///
    /// # Errors
    ///
    /// EINVAL for SIGKILL and SIGSTOP.
    pub fn catch(
        &mut self,
        signal: Signal,
        flags: SaFlags,
        handler: impl Fn(&mut Guest, &SigInfo) + Send + Sync + 'static,
    ) -> Result<(), Errno> {
        let address = address(signal);
        let action = SigAction { handler: Handler::Catch(address), flags, ..SigAction::DEFAULT };
        // the handler is stored before the call: the signal may be delivered at once
        let old = self.handlers.lock().insert(address, (flags, Arc::new(handler)));
        // outside of the lock: the `Drop` of a handler is code of the embedder
        drop(old);
        self.sigaction(signal, action)
    }

    /// Sets the action for a signal to SIG_DFL or SIG_IGN.
    ///
    /// # Errors
    ///
    /// EINVAL for SIGKILL and SIGSTOP.
    pub fn sigaction(&mut self, signal: Signal, action: SigAction) -> Result<(), Errno> {
        let (sig, act) = (signal.number().into(), Some(action));
        let (old, size) = (Ptr::Null, SIGSET_SIZE);
        self.syscall(Syscall::RtSigaction { sig, act, old, size }).map(drop)
    }

    /// Changes the mask: `how` is one of [`syscall::how`].
    ///
    /// # Errors
    ///
    /// EINVAL for another `how`.
    pub fn sigprocmask(&mut self, how: i32, set: SigSet) -> Result<(), Errno> {
        let (set, old, size) = (Some(set), Ptr::Null, SIGSET_SIZE);
        self.syscall(Syscall::RtSigprocmask { how, set, old, size }).map(drop)
    }

    /// Sends a signal; `pid` is as in kill(2).
    ///
    /// # Errors
    ///
    /// ESRCH, EPERM as in kill(2).
    pub fn kill(&mut self, pid: i32, signal: Signal) -> Result<(), Errno> {
        self.syscall(Syscall::Kill { pid, sig: signal.number().into() }).map(drop)
    }

    /// Waits for a child; `pid` is as in waitpid(2). Returns `None` with WNOHANG if no child has a
    /// wait event.
    ///
    /// # Errors
    ///
    /// ECHILD, EINTR, EINVAL as in wait4(2).
    pub fn waitpid(
        &mut self,
        pid: i32,
        options: WaitOptions,
    ) -> Result<Option<(Pid, WaitStatus)>, Errno> {
        let call = Syscall::Wait4 { pid, status: Ptr::Valid, options };
        Ok(self.syscall(call)?.waited())
    }

    /// Sleeps until a handler has run.
    pub fn pause(&mut self) {
        let _ = self.syscall(Syscall::Pause);
    }

    /// Moves the guest itself or a child into a process group: setpgid(2).
    ///
    /// # Errors
    ///
    /// EPERM, ESRCH, EACCES as in setpgid(2).
    pub fn setpgid(&mut self, pid: Pid, pgid: Pgid) -> Result<(), Errno> {
        let (pid, pgid) = (pid.0 as i32, pgid.0 as i32);
        self.syscall(Syscall::Setpgid { pid, pgid }).map(drop)
    }

    /// Creates a child that runs `body` on a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`ThreadDriver::spawn`].
    pub fn spawn(
        &mut self,
        spawn: Spawn,
        body: impl FnOnce(&mut Guest) -> i32 + Send + 'static,
    ) -> Result<Pid, Errno> {
        self.checkpoint();
        start(&self.shared, self.thread.process, spawn, body).map(|token| token.pid)
    }
}

/// A wait for the end of a thread.
struct Joining {
    shared: Arc<TableInner>,
    thread: ThreadKey,
    parker: Arc<Parker>,
}

impl Joining {
    fn is_over(&self) -> bool {
        self.shared.has_ended(self.thread, &self.parker)
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        self.shared.stop_joining(self.thread, &self.parker);
    }
}
