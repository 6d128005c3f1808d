//! A runtime with one thread: guests are lists of calls, and a loop runs them one call at a time.
//! It is what a runtime of coroutines or of interpreters does, and shows all that such a runtime
//! needs of the table: safe points, calls that never wait, drivers that run on request, and a clock
//! that moves when no guest can run.
//!
//! ```text
//! $ cargo run --example event_loop
//! $ cargo test --example event_loop
//! ```

use std::time::Duration;

use proctable::abi::{Errno, Handler, SaFlags, SigAction, Signal, WaitOptions};
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall};
use proctable::table::{
    Call, Checkpoint, Clock, DispatchMode, Image, ManualClock, ProcessTable, Spawn, TableConfig,
    Thread, TimerMode,
};

/// A guest: its program, and the call that it sleeps in.
struct Guest {
    name: &'static str,
    thread: Thread,
    program: std::vec::IntoIter<Syscall>,
    call: Option<Call>,
}

impl Guest {
    /// One step of the guest, if it can make one.
    fn step(&mut self, log: &mut Vec<String>) -> bool {
        match self.thread.checkpoint() {
            Checkpoint::Stopped | Checkpoint::Ended => false,
            Checkpoint::Deliver => {
                let Some(handler) = self.thread.begin_delivery() else { return false };
                // here the guest's handler would run, with steps of its own
                log.push(format!("{}: handler of {}", self.name, handler.info().signal));
                // a stale handler is one that an execve or an exit has ended
                self.thread.end_delivery(&handler).is_ok()
            }
            Checkpoint::GoOn => self.run(log),
        }
    }

    fn run(&mut self, log: &mut Vec<String>) -> bool {
        let Some(call) = &self.call else {
            let Some(next) = self.program.next() else { return false };
            self.call = Some(self.thread.submit(next));
            return true;
        };
        let Some(result) = call.result() else { return false };
        match result {
            Ok(Ret::Never) => {}
            Ok(ret) => log.push(format!("{}: returned {}", self.name, ret.value())),
            Err(errno) => log.push(format!("{}: {errno:?}", self.name)),
        }
        self.call = None;
        true
    }
}

fn catch(signal: Signal, flags: SaFlags) -> Syscall {
    let act = SigAction { handler: Handler::Catch(0x1000), flags, ..SigAction::DEFAULT };
    let (sig, act) = (signal.number().into(), Some(act));
    Syscall::RtSigaction { sig, act, old: Ptr::Null, size: SIGSET_SIZE }
}

/// Runs two guests until none can make a step and no deadline is left. Returns what happened.
fn run() -> Result<Vec<String>, Errno> {
    let clock = ManualClock::new();
    let config = TableConfig::new()
        .clock(clock.clone())
        .timer_mode(TimerMode::Caller)
        .dispatch_mode(DispatchMode::Request);
    let table = ProcessTable::with_config(config);
    let parent = table.spawn(Spawn::new(Image::new("parent")).session().safe_points())?;
    let child = parent.spawn(Spawn::new(Image::new("child")).safe_points())?;
    let wait = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::default() };
    let guest = |name, process: &proctable::table::Process, program: Vec<Syscall>| {
        let thread = process.main_thread().ok_or(Errno::ESRCH)?;
        Ok(Guest { name, thread, program: program.into_iter(), call: None })
    };
    let mut guests = [
        // SA_RESTART: the wait continues after the handler (SIG-44)
        guest("parent", &parent, vec![catch(Signal::CHLD, SaFlags::RESTART), wait])?,
        guest(
            "child",
            &child,
            vec![
                catch(Signal::ALRM, SaFlags::default()),
                Syscall::Alarm(2),
                Syscall::Pause,
                Syscall::ExitGroup(3),
            ],
        )?,
    ];
    let mut log = Vec::new();
    loop {
        let mut has_run = table.dispatch() > 0;
        for guest in &mut guests {
            has_run |= guest.step(&mut log);
        }
        if has_run {
            continue;
        }
        // no guest can run: the next deadline is the present
        let Some(deadline) = table.next_deadline() else { return Ok(log) };
        let sleep = deadline.0.saturating_sub(clock.now().0);
        log.push(format!("{} s pass", sleep / 1_000_000_000));
        clock.advance(Duration::from_nanos(sleep));
        table.reap_due(deadline);
    }
}

fn main() -> Result<(), Errno> {
    for line in run()? {
        println!("{line}");
    }
    Ok(())
}

#[test]
fn the_guests_take_turns() {
    assert_eq!(
        run().expect("there is room"),
        [
            "parent: returned 0",
            "child: returned 0",
            "child: returned 0",
            "2 s pass",
            "child: handler of SIGALRM",
            "child: EINTR",
            "parent: handler of SIGCHLD",
            "parent: returned 3",
        ]
    );
}
