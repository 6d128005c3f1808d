//! A runtime with one thread on wasm: each exported function is a test, which returns 0, or the
//! number of the line of the check that failed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use proctable::abi::{Errno, Pid, Signal, WaitOptions, WaitStatus};
use proctable::driver::Authority;
use proctable::drivers::{ScriptedDriver, ThreadDriver};
use proctable::kernel::RunState;
use proctable::syscall::Syscall;
use proctable::table::{
    Clock, DispatchMode, Image, ManualClock, ProcessTable, Spawn, TableConfig, TimerMode,
};

/// Returns the line from the test if the condition does not hold.
macro_rules! check {
    ($condition:expr) => {
        if !$condition {
            return line!();
        }
    };
}

fn guest() -> Spawn {
    Spawn::new(Image::new("guest"))
}

/// Job control, a wait as a future, and a terminal signal to a group.
#[unsafe(no_mangle)]
pub extern "C" fn a_job_stops_continues_and_ends() -> u32 {
    let table = ProcessTable::new();
    let shell = table.spawn(guest().session()).expect("a shell");
    let job = shell.spawn(guest().own_group()).expect("a job");
    let member = job.spawn(guest()).expect("a member");
    let all = WaitOptions::EXITED.with(WaitOptions::STOPPED).with(WaitOptions::CONTINUED);
    let mut context = Context::from_waker(Waker::noop());
    let mut wait = pin!(shell.wait_async(&job, all));
    check!(wait.as_mut().poll(&mut context).is_pending());
    check!(shell.kill_group(job.pid().into(), Signal::TSTP) == Ok(()));
    check!(wait.poll(&mut context).is_ready());
    check!(member.view().is_some_and(|view| view.run == RunState::Stopped));
    check!(shell.kill_group(job.pid().into(), Signal::CONT) == Ok(()));
    let continued = shell.try_wait(&job, all).ok().flatten();
    check!(continued.is_some_and(|waited| waited.status == WaitStatus::CONTINUED));
    check!(shell.kill_group(job.pid().into(), Signal::TERM) == Ok(()));
    // an exit that has a wait event never blocks
    let ended = shell.wait(&job, WaitOptions::EXITED);
    check!(ended.is_ok_and(|waited| waited.status == WaitStatus::killed(Signal::TERM, false)));
    0
}

/// What could never end fails, and does not trap.
#[unsafe(no_mangle)]
pub extern "C" fn what_would_block_fails() -> u32 {
    let table = ProcessTable::new();
    let child = table.spawn(guest()).expect("a child");
    let exited = WaitOptions::EXITED;
    check!(table.init().wait(&child, exited).err() == Some(Errno::EDEADLK));
    let second = Duration::from_secs(1);
    check!(matches!(table.init().wait_timeout(&child, exited, second), Ok(None)));
    check!(child.syscall(Syscall::Pause) == Err(Errno::EDEADLK));
    let thread = ThreadDriver::spawn(&table.init(), guest(), |_| 0);
    check!(thread.err() == Some(Errno::EAGAIN));
    check!(table.init().try_wait(&child, exited).is_ok_and(|waited| waited.is_none()));
    0
}

/// Time, drivers and the end of all processes by steps.
#[unsafe(no_mangle)]
pub extern "C" fn a_loop_drives_the_table() -> u32 {
    let clock = ManualClock::new();
    let config = TableConfig::new()
        .clock(clock.clone())
        .timer_mode(TimerMode::Caller)
        .dispatch_mode(DispatchMode::Request);
    let table = ProcessTable::with_config(config);
    let driver = Arc::new(ScriptedDriver::default());
    let spawn = guest().driver(driver.clone()).authority(Authority::Host);
    let host = table.spawn(spawn).expect("a process of the host");
    check!(host.pid() == Pid(2));
    check!(host.send(Signal::USR1) == Ok(()));
    check!(driver.seen().is_empty());
    table.dispatch();
    check!(driver.seen().len() == 1);
    let sleeper = table.spawn(guest()).expect("a guest");
    check!(sleeper.alarm(3) == Ok(0));
    let mut termination = table.begin_termination(Duration::from_secs(5));
    check!(sleeper.exit_status() == Some(WaitStatus::killed(Signal::TERM, false)));
    check!(termination.try_finish().is_none());
    host.report(WaitStatus::exited(7));
    clock.advance(Duration::from_secs(1));
    table.reap_due(clock.now());
    table.dispatch();
    let Some(terminated) = termination.try_finish() else { return line!() };
    check!(terminated.survivors.is_empty());
    check!(terminated.ended.get(&host.pid()) == Some(&WaitStatus::exited(7)));
    0
}
