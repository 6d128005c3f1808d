//! A guest that is a Rust closure on a thread of its own.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Delivery, DriverProcess};
use crate::abi::{
    Errno, Handler, Pgid, Pid, SaFlags, SigAction, SigInfo, SigSet, Signal, WaitOptions, WaitStatus,
};
use crate::sync::{Mutex, Parker};
use crate::syscall::{self, Ptr, Ret, SIGSET_SIZE, Syscall};
use crate::table::{End, Pending, Process, Shared, Spawn, Started, Token};

/// What unwinds the thread of a guest that is gone.
struct Gone;

/// Carries out for a guest on a thread: handlers run on that thread, at its next call or in the
/// call that it sleeps in.
///
/// A thread cannot be stopped or ended from outside: a guest that is stopped sleeps in its next
/// call, and one that has ended unwinds from it. Code that makes no call runs on; a
/// [`Guest::checkpoint`] is a call that does nothing else.
#[derive(Debug)]
pub struct ThreadDriver {
    inbox: Arc<Inbox>,
}

/// Handlers that are to run.
#[derive(Debug, Default)]
struct Inbox {
    /// The last one is for the handler that is set up above all others.
    deliveries: Mutex<Vec<Delivery>>,
    parker: Arc<Parker>,
}

impl ThreadDriver {
    /// Creates a child of `parent` that runs `body` on a thread of its own, and ends with the code
    /// that this returns (101 if it panics, as a program does).
    ///
    /// ```
    /// use proctable::abi::{WaitOptions, WaitStatus};
    /// use proctable::driver::ThreadDriver;
    /// use proctable::table::{Image, ProcessTable, Spawn};
    ///
    /// let table = ProcessTable::new();
    /// let spawn = Spawn::new(Image::new("guest"));
    /// let guest = ThreadDriver::spawn(&table.init(), spawn, |guest| guest.pid().0 as i32)?;
    /// let waited = table.init().wait(&guest, WaitOptions::EXITED)?;
    /// assert_eq!(waited.status, WaitStatus::exited(2));
    /// # Ok::<(), proctable::abi::Errno>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`]; EAGAIN if there can be no more threads, and then there is no
    /// process either.
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

fn start(
    shared: &Arc<Shared>,
    parent: Token,
    spawning: Spawn,
    body: impl FnOnce(&mut Guest) -> i32 + Send + 'static,
) -> Result<Token, Errno> {
    let inbox = Arc::new(Inbox::default());
    let driver = Arc::new(ThreadDriver { inbox: inbox.clone() });
    // the thread waits until its process exists, so that there is none without a thread
    let born: Arc<(Mutex<Option<Token>>, Arc<Parker>)> = Arc::default();
    let (told, of) = (born.clone(), shared.clone());
    let thread = move || {
        born.1.park(None);
        let Some(token) = *born.0.lock() else { return };
        run(Guest::new(of, token, inbox), body);
    };
    if crate::sync::spawn("proctable-guest", thread).is_err() {
        return Err(Errno::EAGAIN);
    }
    let token = shared.spawn(parent, spawning.driver(driver));
    *told.0.lock() = token.ok();
    told.1.unpark();
    token
}

/// The thread of a guest, from its first call to its end.
fn run(mut guest: Guest, body: impl FnOnce(&mut Guest) -> i32) {
    const PANICKED: i32 = 101;
    let code = match catch_unwind(AssertUnwindSafe(|| body(&mut guest))) {
        Ok(code) => code,
        Err(cause) if cause.is::<Gone>() => return,
        Err(_) => PANICKED,
    };
    // it unwinds from this, as from any call that does not return
    let _ = catch_unwind(AssertUnwindSafe(|| guest.exit(code)));
}

impl DriverProcess for ThreadDriver {
    fn deliver(&self, delivery: Delivery) {
        self.inbox.deliveries.lock().push(delivery);
        self.inbox.parker.unpark();
    }

    // its next call sleeps until it continues, or does not return
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}

    fn terminate(&self, _: WaitStatus) {
        self.inbox.parker.unpark();
    }
}

type Body = Arc<dyn Fn(&mut Guest, &SigInfo) + Send + Sync>;

/// A guest's own view, on its thread: its system calls.
///
/// A call of a guest that has ended does not return: the thread unwinds, running the destructors
/// on its way. What these call fails with ESRCH.
///
/// A successful execve in a handler makes what is left of that handler the new program: the code
/// that it interrupted does not go on, and the guest ends with code 0 when the handler returns.
pub struct Guest {
    shared: Arc<Shared>,
    token: Token,
    inbox: Arc<Inbox>,
    /// By signal; an action's address is the signal's number, moved out of the way of SIG_IGN.
    handlers: BTreeMap<u64, Body>,
    place: Place,
    /// How many programs it has executed.
    programs: u64,
}

/// Where the code that runs now stands among the handlers that were entered.
#[derive(Default)]
struct Place {
    /// How many handlers run on the stack: the innermost is that code.
    active: usize,
    /// How many of those in the inbox were entered before it: they come after it.
    older: usize,
    /// The innermost one's return, if it has called for that: once it is made it counts no more.
    returning: Option<Arc<Pending>>,
}

impl core::fmt::Debug for Guest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Guest").field(&self.token.pid).finish()
    }
}

/// The address that stands for the handler of a signal.
fn address(signal: Signal) -> u64 {
    0x1000 + u64::from(signal.number())
}

impl Guest {
    fn new(shared: Arc<Shared>, token: Token, inbox: Arc<Inbox>) -> Guest {
        let handlers = BTreeMap::new();
        Guest { shared, token, inbox, handlers, place: Place::default(), programs: 0 }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.token.pid
    }

    /// Makes a system call. Handlers that come meanwhile run on this thread.
    ///
    /// # Errors
    ///
    /// The errno of the call.
    pub fn syscall(&mut self, call: Syscall) -> syscall::Result {
        let executes = matches!(call, Syscall::Execve { .. });
        let result = self.make(call);
        if executes && result.is_ok() {
            // EXEC-03: those that were entered and have not run are gone
            self.inbox.deliveries.lock().clear();
            self.place = Place::default();
            self.programs += 1;
        }
        self.run_handlers();
        result
    }

    /// Makes a call, and runs the handlers that come before it is made and before it has returned.
    fn make(&mut self, call: Syscall) -> syscall::Result {
        let parker = self.inbox.parker.clone();
        let pending = loop {
            match self.start(&call, &parker) {
                Some(Started::Plain(result)) => return result.map(Ret::Value),
                Some(Started::Ended(end)) => return self.result(end),
                Some(Started::Pending(pending)) => break pending,
                None if self.run_handlers() => {}
                // its delivery is on the way
                None => drop(parker.park(None)),
            }
        };
        if call == Syscall::RtSigreturn && self.place.active > 0 {
            self.place.returning = Some(pending.clone());
        }
        loop {
            self.run_handlers();
            if let Some(end) = pending.end() {
                return self.result(end);
            }
            parker.park(None);
        }
    }

    fn start(&self, call: &Syscall, parker: &Arc<Parker>) -> Option<Started> {
        let handlers = self.place.active + self.place.older;
        self.shared.start_within(self.token, call, parker, handlers)
    }

    fn result(&self, end: End) -> syscall::Result {
        match end {
            End::Returned(Ok(Ret::Never)) if self.is_alive() => Ok(Ret::Never),
            // a destructor's call: the thread unwinds already
            End::Gone | End::Returned(Ok(Ret::Never)) if std::thread::panicking() => {
                Err(Errno::ESRCH)
            }
            End::Gone | End::Returned(Ok(Ret::Never)) => resume_unwind(Box::new(Gone)),
            end => end.result(),
        }
    }

    fn is_alive(&self) -> bool {
        self.shared.is_alive(self.token)
    }

    /// Runs the handlers that were entered above the code that runs now, the last one first
    /// (SIG-36); whether there were any.
    fn run_handlers(&mut self) -> bool {
        let mut any = false;
        loop {
            let mut deliveries = self.inbox.deliveries.lock();
            if deliveries.len() <= self.place.older {
                return any;
            }
            let Some(delivery) = deliveries.pop() else { return any };
            let older = deliveries.len();
            drop(deliveries);
            any = true;
            self.run_handler(&delivery, older);
        }
    }

    fn run_handler(&mut self, delivery: &Delivery, older: usize) {
        // made before this one was entered, or not before it has returned
        if self.place.returning.take_if(|returning| returning.is_made()).is_some() {
            self.place.active -= 1;
        }
        let place = Place { active: self.place.active + 1, older, returning: None };
        let (outer, program) = (core::mem::replace(&mut self.place, place), self.programs);
        let body = delivery.handler.and_then(|address| self.handlers.get(&address).cloned());
        if let Some(body) = body {
            body(self, &delivery.info);
        }
        if self.programs != program {
            // EXEC-03: there is nothing that it could return to
            self.exit(0);
        }
        // what comes next is the loop's, so that many do not lie on the stack at once
        let _ = self.make(Syscall::RtSigreturn);
        self.place = outer;
    }

    /// Does nothing but what every call does: run handlers, sleep while stopped, unwind if it has
    /// ended.
    pub fn checkpoint(&mut self) {
        let _ = self.syscall(Syscall::Getpid);
    }

    /// Ends.
    pub fn exit(&mut self, code: i32) -> ! {
        let _ = self.syscall(Syscall::ExitGroup(code));
        resume_unwind(Box::new(Gone))
    }

    /// Has `handler` run on a signal.
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
        // the table entry first: the signal may come at once
        self.handlers.insert(address, Arc::new(handler));
        self.sigaction(signal, action)
    }

    /// Sets the action on a signal, SIG_DFL or SIG_IGN.
    ///
    /// # Errors
    ///
    /// EINVAL for SIGKILL and SIGSTOP.
    pub fn sigaction(&mut self, signal: Signal, action: SigAction) -> Result<(), Errno> {
        let (sig, act) = (signal.number().into(), Some(action));
        let (old, size) = (Ptr::Null, SIGSET_SIZE);
        self.syscall(Syscall::RtSigaction { sig, act, old, size }).map(drop)
    }

    /// Changes its mask: `how` is one of [`syscall::how`].
    ///
    /// # Errors
    ///
    /// EINVAL for another `how`.
    pub fn sigprocmask(&mut self, how: i32, set: SigSet) -> Result<(), Errno> {
        let (set, old, size) = (Some(set), Ptr::Null, SIGSET_SIZE);
        self.syscall(Syscall::RtSigprocmask { how, set, old, size }).map(drop)
    }

    /// Sends a signal: `pid` as kill(2) takes it.
    ///
    /// # Errors
    ///
    /// ESRCH, EPERM as of kill(2).
    pub fn kill(&mut self, pid: i32, signal: Signal) -> Result<(), Errno> {
        self.syscall(Syscall::Kill { pid, sig: signal.number().into() }).map(drop)
    }

    /// Waits for a child: `pid` as waitpid(2) takes it. `None` is WNOHANG's "nothing yet".
    ///
    /// # Errors
    ///
    /// ECHILD, EINTR, EINVAL as of wait4(2).
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

    /// Moves itself or a child into a group: setpgid(2).
    ///
    /// # Errors
    ///
    /// EPERM, ESRCH, EACCES as of setpgid(2).
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
        start(&self.shared, self.token, spawn, body).map(|token| token.pid)
    }
}
