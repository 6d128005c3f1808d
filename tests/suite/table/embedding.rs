//! What runtimes need that embed the table: identities, drivers of one's own, drivers for every
//! process, and calls that never wait.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use proctable::abi::{
    Errno, Handler, Itimerval, Pgid, Pid, Sid, SigAction, Signal, Timeval, WaitOptions, WaitStatus,
};
use proctable::driver::{Attachment, Authority, Delivery, DriverProcess, Reporter};
use proctable::drivers::ThreadDriver;
use proctable::syscall::Syscall;
use proctable::table::{
    Clock as _, DispatchMode, Image, Init, ManualClock, Process, ProcessTable, Spawn, TableConfig,
    TimerMode, What,
};

fn spawn() -> Spawn {
    Spawn::new(Image::new("x"))
}

fn caught() -> SigAction {
    SigAction { handler: Handler::Catch(0x1000), ..SigAction::DEFAULT }
}

/// Kills another process when its own ends.
#[derive(Default)]
struct Kills(OnceLock<Process>);

impl DriverProcess for Kills {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        if let Some(next) = self.0.get() {
            next.send(Signal::KILL).expect("it is alive");
        }
    }
}

/// Operations that an operation causes come after it: a chain of 3,000 needs no stack.
#[test]
fn drivers_that_end_each_other_do_not_nest() {
    let chain = || {
        let table = ProcessTable::new();
        let mut next: Option<Process> = None;
        for _ in 0..3000 {
            let driver = Arc::new(Kills::default());
            if let Some(next) = next.take() {
                driver.0.set(next).expect("it is new");
            }
            next = Some(table.spawn(spawn().driver(driver)).expect("there is room"));
        }
        next.expect("the last one").send(Signal::KILL).expect("it is alive");
        assert_eq!(table.counts().running, 1);
    };
    // in a debug build 3,000 nested operations need several MiB
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(chain);
    thread.expect("a thread").join().expect("no overflow");
}

/// When its process ends, sends SIGTERM to other processes, then waits for one if it has to.
#[derive(Default)]
struct KillsAndWaits {
    kills: OnceLock<Vec<Process>>,
    waits_for: OnceLock<Process>,
    status: OnceLock<Option<WaitStatus>>,
}

impl DriverProcess for KillsAndWaits {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {
        for process in self.kills.get().into_iter().flatten() {
            process.send(Signal::TERM).expect("it is alive");
        }
        if let Some(process) = self.waits_for.get() {
            let init = process.table().init();
            let timeout = Duration::from_secs(20);
            let waited = init.wait_timeout(process, WaitOptions::EXITED, timeout);
            let waited = waited.expect("it is a child");
            self.status.set(waited.map(|waited| waited.status)).expect("it ends once");
        }
    }
}

/// The end of a first process causes two steps. The driver of the first step sleeps until the
/// driver of the second one has reported an end: the second step is carried out before the sleep.
#[test]
fn an_operation_may_wait_for_a_later_step() {
    let table = ProcessTable::new();
    let host = Arc::new(Reports {
        reporter: OnceLock::new(),
        has_ended: Mutex::new(false),
        late: Arc::default(),
    });
    let hosted = spawn().driver(host).authority(Authority::Host);
    let hosted = table.spawn(hosted).expect("there is room");
    let waiter = Arc::new(KillsAndWaits::default());
    waiter.waits_for.set(hosted.clone()).expect("it is new");
    let waits = table.spawn(spawn().driver(waiter.clone())).expect("there is room");
    let first = Arc::new(KillsAndWaits::default());
    first.kills.set(vec![waits, hosted]).expect("it is new");
    let first = table.spawn(spawn().driver(first)).expect("there is room");
    first.send(Signal::KILL).expect("it is alive");
    let status = WaitStatus::killed(Signal::TERM, false);
    assert_eq!(waiter.status.get(), Some(&Some(status)));
}

/// Reports its end when it gets SIGTERM, and records what comes after that.
struct Reports {
    reporter: OnceLock<Reporter>,
    has_ended: Mutex<bool>,
    late: Arc<Mutex<Vec<Signal>>>,
}

impl DriverProcess for Reports {
    fn attach(&self, attachment: &Attachment) {
        self.reporter.set(attachment.reporter()).expect("it is attached once");
    }
    fn deliver(&self, delivery: Delivery) {
        let mut has_ended = self.has_ended.lock().unwrap();
        if *has_ended {
            self.late.lock().unwrap().push(delivery.info.signal);
        } else if delivery.info.signal == Signal::TERM {
            *has_ended = true;
            drop(has_ended);
            self.reporter.get().expect("it is attached").killed(Signal::TERM, false);
        }
    }
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// A driver that has reported the end of its process gets no signal of a child any more.
#[test]
fn no_signal_is_delivered_to_a_process_that_has_ended() {
    let table = ProcessTable::new();
    let late = Arc::new(Mutex::new(Vec::new()));
    let host = || {
        let (reporter, has_ended, late) = (OnceLock::new(), Mutex::new(false), late.clone());
        let driver = Reports { reporter, has_ended, late };
        spawn().authority(Authority::Host).driver(Arc::new(driver))
    };
    let leader = table.spawn(host().own_group()).unwrap();
    leader.spawn(host()).unwrap();
    table.init().kill_group(leader.pid().into(), Signal::TERM).unwrap();
    assert_eq!(*late.lock().unwrap(), []);
}

/// Keeps deliveries until the loop of the runtime runs the handlers.
#[derive(Default)]
struct Inbox(Mutex<Vec<Delivery>>);

impl DriverProcess for Inbox {
    fn deliver(&self, delivery: Delivery) {
        self.0.lock().unwrap().push(delivery);
    }
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

/// SIG-36: a timer that is due at a call enters its handler below that call: the handler returns,
/// then pause sleeps, and the next signal interrupts it.
#[test]
fn a_handler_that_is_due_at_a_call_comes_before_the_call() {
    let clock = ManualClock::new();
    let config = TableConfig::new().clock(clock.clone()).timer_mode(TimerMode::Caller);
    let table = ProcessTable::with_config(config);
    let inbox = Arc::new(Inbox::default());
    let guest = table.spawn(spawn().driver(inbox.clone())).unwrap();
    guest.sigaction(Signal::ALRM, caught()).unwrap();
    let second = Timeval { sec: 1, usec: 0 };
    guest.setitimer(Some(Itimerval { interval: second, value: second })).unwrap();
    clock.advance(Duration::from_secs(1));

    let pause = guest.submit(Syscall::Pause);
    assert_eq!(inbox.0.lock().unwrap().drain(..).count(), 1);
    assert!(guest.submit(Syscall::RtSigreturn).result().is_some());
    assert_eq!(pause.result(), None);
    clock.advance(Duration::from_secs(1));
    table.reap_due(table.now());
    assert_eq!(inbox.0.lock().unwrap().drain(..).count(), 1);
    assert!(guest.submit(Syscall::RtSigreturn).result().is_some());
    assert_eq!(pause.result(), Some(Err(Errno::EINTR)));
}

/// SIG-36: a driver says which code makes a call, also if a handler was entered since.
#[test]
fn a_driver_says_in_which_handler_a_call_is_made() {
    let table = ProcessTable::new();
    let inbox = Arc::new(Inbox::default());
    let guest = table.spawn(spawn().driver(inbox.clone())).unwrap();
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.send(Signal::USR1).unwrap();
    // the code below the handler had begun this call already
    let pause = guest.submit_within(0, Syscall::Pause);
    let inside = guest.submit_within(1, Syscall::Getpid);
    assert_eq!(inside.result().map(|result| result.map(|ret| ret.value())), Some(Ok(2)));
    assert!(guest.submit_within(1, Syscall::RtSigreturn).result().is_some());
    assert_eq!((pause.result(), guest.view().unwrap().blocked.is_empty()), (None, true));
    guest.send(Signal::USR1).unwrap();
    assert!(guest.submit_within(1, Syscall::RtSigreturn).result().is_some());
    assert_eq!(pause.result(), Some(Err(Errno::EINTR)));
}

/// An id belongs to one table, and a wait for a process of another table finds no child.
#[test]
fn the_id_of_a_process_is_not_that_of_another_table() {
    let (a, b) = (ProcessTable::new(), ProcessTable::new());
    let (in_a, in_b) = (a.spawn(spawn()).unwrap(), b.spawn(spawn()).unwrap());
    assert_eq!(in_a.pid(), in_b.pid());
    assert_ne!(in_a.id(), in_b.id());
    assert_ne!(a.init().id(), b.init().id());
    in_a.send(Signal::KILL).unwrap();
    assert_eq!(a.init().try_wait(&in_b, WaitOptions::EXITED), Err(Errno::ECHILD));
    assert!(a.init().wait(&in_a, WaitOptions::EXITED).is_ok());
}

/// A guest on threads has no host: no signal of the host's authority could reach it.
#[test]
fn a_guest_on_threads_is_under_the_authority_of_the_model() {
    let table = ProcessTable::new();
    let host = spawn().authority(Authority::Host);
    let refused = ThreadDriver::spawn(&table.init(), host, |_| 0);
    assert_eq!(refused.map(|process| process.pid()), Err(Errno::EINVAL));
    assert_eq!(table.counts().processes, 1);
}

/// Processes that guests create themselves get the drivers that the settings make: each operation
/// reaches them, in order.
#[test]
fn a_process_that_a_guest_forks_has_a_driver() {
    let made = Arc::new(Mutex::new(Vec::<(Pid, Arc<Inbox>)>::new()));
    let list = made.clone();
    let config = TableConfig::new().init(Init::Guest).drivers(move |process| {
        let driver = Arc::new(Inbox::default());
        list.lock().unwrap().push((process.pid(), driver.clone()));
        Some(driver)
    });
    let table = ProcessTable::with_config(config);
    let deliveries = |pid: Pid| {
        let made = made.lock().unwrap();
        let (_, inbox) = made.iter().find(|(other, _)| *other == pid).expect("it has a driver");
        inbox.0.lock().unwrap().iter().map(|delivery| delivery.info.signal).collect::<Vec<_>>()
    };
    let init = table.init();
    assert_eq!(deliveries(Pid(1)), []);
    init.sigaction(Signal::TERM, caught()).unwrap();
    let child = Pid(init.syscall(Syscall::Fork).unwrap().value() as u32);
    table.process(child).unwrap().send(Signal::TERM).unwrap();
    assert_eq!(deliveries(child), [Signal::TERM]);
    // vfork: the caller sleeps until its child, which has a driver too, has ended
    let vfork = init.submit(Syscall::Vfork);
    let child = made.lock().unwrap().last().expect("the third").0;
    assert_eq!(vfork.result(), None);
    table.process(child).unwrap().exit(0).unwrap();
    assert_eq!(vfork.result().map(|result| result.map(|ret| ret.value())), Some(Ok(3)));
    // the driver of a spawn is that of the spawn
    init.spawn(spawn()).unwrap();
    assert_eq!(made.lock().unwrap().len(), 3);
}

/// A factory that panics leaves a process without a driver, and nothing waits for one.
#[test]
fn a_factory_that_panics_holds_nothing_up() {
    let config = TableConfig::new().drivers(|_| panic!("no driver"));
    let table = ProcessTable::with_config(config);
    let exits: Arc<Mutex<Vec<Pid>>> = Arc::default();
    let list = exits.clone();
    table.set_on_process_exit(Some(Arc::new(move |process: &Process, _| {
        list.lock().unwrap().push(process.pid());
    })));
    let parent = table.spawn(spawn()).unwrap();
    let child = Pid(parent.syscall(Syscall::Fork).unwrap().value() as u32);
    table.process(child).unwrap().send(Signal::KILL).unwrap();
    assert_eq!(*exits.lock().unwrap(), [child]);
    assert!(parent.wait(child, WaitOptions::EXITED).is_ok());
}

/// One thread runs the guests and ends them all: a guest uses its grace between two steps.
#[test]
fn a_guest_uses_its_grace_on_the_only_thread() {
    let clock = ManualClock::new();
    let config = TableConfig::new().clock(clock.clone()).timer_mode(TimerMode::Caller);
    let table = ProcessTable::with_config(config);
    let inbox = Arc::new(Inbox::default());
    let polite = table.spawn(spawn().driver(inbox.clone())).unwrap();
    let stubborn = table.spawn(spawn()).unwrap();
    for guest in [&polite, &stubborn] {
        guest.sigaction(Signal::TERM, caught()).unwrap();
    }
    let mut termination = table.begin_termination(Duration::from_secs(1));
    assert_eq!(termination.try_finish(), None);
    for delivery in inbox.0.lock().unwrap().drain(..) {
        assert_eq!(delivery.info.signal, Signal::TERM);
        polite.exit(7).unwrap();
    }
    assert_eq!(termination.try_finish(), None);
    clock.advance(Duration::from_secs(1));
    let terminated = termination.try_finish().expect("the grace is over");
    assert_eq!(terminated.ended[&polite.pid()], WaitStatus::exited(7));
    assert_eq!(terminated.ended[&stubborn.pid()], WaitStatus::killed(Signal::KILL, false));
    assert_eq!(terminated.survivors, []);
}

/// A future of the end wakes when the last process ends.
#[test]
fn the_end_of_all_processes_is_a_future() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let table = ProcessTable::new();
    let guest = table.spawn(spawn()).unwrap();
    guest.sigaction(Signal::TERM, caught()).unwrap();
    let mut termination = pin!(table.begin_termination(Duration::from_secs(3600)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(termination.as_mut().poll(&mut context).is_pending());
    guest.exit(3).unwrap();
    let Poll::Ready(terminated) = termination.as_mut().poll(&mut context) else {
        panic!("all have ended");
    };
    assert_eq!(terminated.ended[&guest.pid()], WaitStatus::exited(3));
}

/// Its deadlines wake the future too: that of the grace, and that of the drivers' reports.
#[test]
fn the_end_of_the_grace_wakes_the_future() {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let clock = ManualClock::new();
    let config = TableConfig::new().clock(clock.clone()).timer_mode(TimerMode::Caller);
    let table = ProcessTable::with_config(config);
    let host = table.spawn(spawn().authority(Authority::Host)).unwrap();
    let grace = Duration::from_secs(2);
    let mut termination = pin!(table.begin_termination(grace));
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    for wakes in 1..=2 {
        assert!(termination.as_mut().poll(&mut context).is_pending());
        for expected in [wakes - 1, wakes] {
            clock.advance(Duration::from_secs(1));
            table.reap_due(clock.now());
            assert_eq!(count.0.load(Ordering::Relaxed), expected);
        }
    }
    let Poll::Ready(terminated) = termination.as_mut().poll(&mut context) else {
        panic!("both periods are over");
    };
    assert_eq!(terminated.survivors, [host.pid()]);
}

/// What a dropped future or receiver keeps registered is dropped with it, outside of the lock: the
/// `Drop` of a waker may call the table.
#[test]
fn a_waker_is_dropped_with_its_future_or_receiver() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};
    struct Counts(ProcessTable, Arc<Mutex<Vec<usize>>>);
    impl Wake for Counts {
        fn wake(self: Arc<Counts>) {}
    }
    impl Drop for Counts {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0.counts().processes);
        }
    }
    let table = ProcessTable::new();
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let waker = || Waker::from(Arc::new(Counts(table.clone(), dropped.clone())));
    let receiver = table.subscribe(10).unwrap();
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker())).is_pending());
    drop(receiver);
    assert_eq!(*dropped.lock().unwrap(), [1]);
    let guest = table.spawn(spawn()).unwrap();
    {
        let call = pin!(guest.submit(Syscall::Pause));
        assert!(call.poll(&mut Context::from_waker(&waker())).is_pending());
    }
    assert_eq!(*dropped.lock().unwrap(), [1, 2]);
}

/// EXEC-03, JOB-06: a stopped process executes a program when it continues; the caller need not
/// wait.
#[test]
fn a_stopped_process_executes_when_it_continues() {
    let table = ProcessTable::new();
    let guest = table.spawn(spawn()).unwrap();
    guest.send(Signal::STOP).unwrap();
    let image = Image { args: vec!["b".into()], ..Image::new("/bin/b") };
    let exec = guest.submit_exec(image.clone());
    assert_eq!(exec.result(), None);
    guest.send(Signal::CONT).unwrap();
    assert!(exec.result().is_some_and(|result| result.is_ok()));
    assert_eq!(*guest.info().unwrap().image, image);
}

/// A receiver tells at once how much it has lost, allocates as it is used, and counts no more when
/// it is dropped.
#[test]
fn a_receiver_of_events_knows_what_it_lost() {
    let table = ProcessTable::new();
    let most = table.subscribe(usize::MAX).unwrap();
    let few = table.subscribe(2).unwrap();
    let guests: Vec<Process> = (0..4).map(|_| table.spawn(spawn()).unwrap()).collect();
    let all = most.len();
    assert_eq!((most.lost(), few.len()), (0, 2));
    assert_eq!(few.lost(), (all - 2) as u64);
    assert_eq!(few.try_iter().count(), 2);
    guests[0].send(Signal::KILL).unwrap();
    assert!(matches!(few.try_recv().unwrap().what, What::Lost(lost) if lost == (all - 2) as u64));
    drop((few, most));
    for _ in 0..200 {
        assert!(table.subscribe(1).is_ok(), "a receiver that was dropped does not count");
    }
}

/// A receiver that waits in another thread, or as a future, wakes for the next event, and for the
/// end of the table.
#[test]
fn a_receiver_of_events_waits() {
    let table = ProcessTable::new();
    let events = table.subscribe(64).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        for event in events {
            tell.send(event.what).expect("the test waits");
        }
    });
    let guest = table.spawn(spawn()).unwrap();
    guest.send(Signal::KILL).unwrap();
    while !matches!(told.recv().unwrap(), What::Exited(_)) {}
    drop((guest, table));
    thread.join().expect("the events end with the table");
}

/// A weak handle does not keep its table alive.
#[test]
fn a_driver_may_hold_its_process() {
    let table = ProcessTable::new();
    let guest = table.spawn(spawn()).unwrap();
    let weak = guest.downgrade();
    assert_eq!(weak.upgrade().as_ref(), Some(&guest));
    assert_eq!(weak.id(), guest.id());
    drop((guest, table));
    assert!(weak.upgrade().is_none());
}

/// The value of a process lives until it is reaped, and is dropped outside of the lock.
#[test]
fn a_process_has_a_value_until_it_is_reaped() {
    struct Value(Arc<Mutex<u32>>, Mutex<Option<ProcessTable>>);
    impl Drop for Value {
        fn drop(&mut self) {
            let table = self.1.lock().unwrap().take().expect("it is dropped once");
            *self.0.lock().unwrap() = table.counts().processes as u32;
        }
    }
    let table = ProcessTable::new();
    let guest = table.spawn(spawn()).unwrap();
    let dropped = Arc::new(Mutex::new(0));
    let value = Value(dropped.clone(), Mutex::new(Some(table.clone())));
    assert!(guest.set_data(value).unwrap().is_none());
    assert!(guest.data::<u32>().is_none());
    guest.send(Signal::KILL).unwrap();
    assert!(guest.data::<Value>().is_some());
    table.init().wait(&guest, WaitOptions::EXITED).unwrap();
    assert_eq!(*dropped.lock().unwrap(), 1);
    assert_eq!(guest.set_data(0).map(drop), Err(Errno::ESRCH));
}

/// ORP-01: a runtime's terminal asks which groups are orphaned and who is in the session.
#[test]
fn a_runtime_s_terminal_knows_groups_and_sessions() {
    let table = ProcessTable::new();
    let shell = table.spawn(spawn().session()).unwrap();
    let job = shell.spawn(spawn().own_group()).unwrap();
    let (shells, jobs) = (shell.pid().into(), job.pid().into());
    assert_eq!((table.is_orphaned(shells), table.is_orphaned(jobs)), (Some(true), Some(false)));
    let session: Vec<Pid> = table.session(Sid(2)).iter().map(|info| info.pid).collect();
    assert_eq!(session, [shell.pid(), job.pid()]);
    shell.exit(0).unwrap();
    assert_eq!(table.is_orphaned(jobs), Some(true));
    assert_eq!(table.is_orphaned(Pgid(99)), None);
}

/// With dispatch on request, drivers and callbacks run in the loop of the runtime and in no other
/// thread, and results that come after them wait for it.
#[test]
fn drivers_run_when_the_runtime_asks() {
    use std::task::{Context, Waker};
    #[derive(Default)]
    struct Records(Mutex<Vec<std::thread::ThreadId>>);
    impl Records {
        fn record(&self) {
            self.0.lock().unwrap().push(std::thread::current().id());
        }
    }
    impl DriverProcess for Records {
        fn deliver(&self, _: Delivery) {}
        fn stop(&self, _: Signal) {
            self.record();
        }
        fn resume(&self) {}
        fn terminate(&self, _: WaitStatus) {
            self.record();
        }
    }
    let table = ProcessTable::with_config(TableConfig::new().dispatch_mode(DispatchMode::Request));
    let records = Arc::new(Records::default());
    let guest = table.spawn(spawn().driver(records.clone())).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(table.poll_dispatch(&mut context).is_pending());
    let other = guest.clone();
    let signals = std::thread::spawn(move || {
        other.send(Signal::STOP).unwrap();
        other.send(Signal::KILL).unwrap();
    });
    signals.join().unwrap();
    assert_eq!(guest.exit_status(), Some(WaitStatus::killed(Signal::KILL, false)));
    assert!(records.0.lock().unwrap().is_empty());
    assert!(table.poll_dispatch(&mut context).is_ready());
    assert!(table.dispatch() > 0);
    // the stop, whose operation was the first of its driver, and the end
    assert_eq!(*records.0.lock().unwrap(), [std::thread::current().id(); 2]);
    assert_eq!(table.dispatch(), 0);
}

/// Code that holds handles may catch panics.
#[test]
fn handles_are_unwind_safe() {
    use proctable::table::{EventReceiver, Thread, WeakProcess};
    fn is_unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    is_unwind_safe::<ProcessTable>();
    is_unwind_safe::<Process>();
    is_unwind_safe::<WeakProcess>();
    is_unwind_safe::<Thread>();
    is_unwind_safe::<EventReceiver>();
}
