//! A recorder for random programs on the model, in the format of `tests/traces/sequential`, with
//! threads in the format of strace.

use std::collections::BTreeMap;

use proctable::abi::*;
use proctable::kernel::{
    Config, Consequence, Effect, Effects, Event, Kernel, Outcome as Done, RunState, Seeded,
};
use proctable::sim::{Action, Generator, GeneratorEnv, Profile};
use proctable::syscall::text::{self, CallEnd, CallPrefix};
use proctable::syscall::{Result, Ret, Syscall};
use proctable::trace::{Entry, Log, LogEvent};

/// The log of a random program of `profile` with at most that many steps.
pub fn record(profile: Profile, seed: u64, steps: usize) -> Log {
    let world = GeneratorEnv {
        config: Config::default(),
        handler: 0x40_1136,
        restorer: 0x40_1000,
        program: Some("/bin/true".into()),
        own_pid_max: false,
        last_pid: false,
        below_init: false,
        users: [1_000_001, 1_000_002, 1_000_003].map(Uid).into(),
        threads: true,
        // a log does not show what is typed
        terminals: false,
        ordered: true,
    };
    let (mut generator, mut choices) = (Generator::new(profile, world), Seeded::new(seed));
    let mut recorder = Recorder::new(Kernel::new(generator.config(&mut choices)));
    for _ in 0..steps {
        let Some(step) = generator.next(&recorder.kernel, &mut choices) else { break };
        match step.action {
            // the call has returned already
            Action::Call(Syscall::RtSigreturn) | Action::Elapse(_) | Action::Concurrent(_) => {}
            Action::Call(call) => recorder.step(step.tid, &call),
        }
    }
    Log { entries: recorder.entries }
}

struct Recorder {
    kernel: Kernel,
    fx: Effects,
    /// The effects before this index are recorded.
    at: usize,
    entries: Vec<Entry>,
    /// The calls in progress.
    open: BTreeMap<Pid, Syscall>,
    /// The interrupted calls before the entry of their handler.
    interrupted: BTreeMap<Pid, text::RestartCode>,
    /// The exits of threads whose status depends on the rest of the step: the entry, and the
    /// process.
    unknown: Vec<(usize, Pid)>,
}

impl Recorder {
    fn new(kernel: Kernel) -> Recorder {
        Recorder {
            kernel,
            fx: Effects::new(),
            at: 0,
            entries: Vec::new(),
            open: BTreeMap::new(),
            interrupted: BTreeMap::new(),
            unknown: Vec::new(),
        }
    }

    fn push(&mut self, pid: Pid, event: LogEvent) {
        let line = u32::try_from(self.entries.len() + 1).expect("a short log");
        self.entries.push(Entry { line, pid, event });
    }

    fn step(&mut self, tid: Pid, call: &Syscall) {
        (self.fx, self.at) = (Effects::new(), 0);
        let processes = self.processes();
        let Ok(done) = self.kernel.call(tid, call, &mut self.fx) else { return };
        let whole = |result: Result| LogEvent::Call { call: call.clone(), outcome: result.into() };
        match done {
            Done::Returned(result) if self.kernel.view(tid).is_some() => {
                self.push(tid, whole(result));
            }
            // the thread has another number now
            Done::Returned(result) => {
                self.push(tid, LogEvent::Unfinished(CallPrefix::of(call)));
                self.open.insert(tid, call.clone());
                self.note(&processes, None);
                self.resumed(processes[&tid], result);
            }
            Done::Gone => self.push(tid, whole(Ok(Ret::Never))),
            Done::Blocked | Done::Done => {
                self.push(tid, LogEvent::Unfinished(CallPrefix::of(call)));
                self.open.insert(tid, call.clone());
                // a fork that restarts after signals
                if call.is_fork() && self.run_of(tid) == Some(RunState::Blocked) {
                    self.interrupted.insert(tid, text::RestartCode::NoIntr);
                }
            }
        }
        let exit = match call {
            Syscall::Exit(code) => Some((tid, *code)),
            _ => None,
        };
        self.note(&processes, exit);
        loop {
            let next = self.kernel.runnable().next();
            let Some(task) = next else { break };
            self.kernel.apply(&Event::Step { tid: task }, &mut self.fx).expect("it is runnable");
            self.note(&processes, exit);
            self.run_handlers(task, &processes);
        }
        self.name_ends();
    }

    fn run_of(&self, tid: Pid) -> Option<RunState> {
        self.kernel.view(tid).map(|view| view.run)
    }

    /// The process of each task.
    fn processes(&self) -> BTreeMap<Pid, Pid> {
        let pids = self.kernel.pids();
        pids.flat_map(|pid| self.kernel.tids(pid).map(move |tid| (tid, pid))).collect()
    }

    /// The statuses of threads that other threads ended.
    fn name_ends(&mut self) {
        for (entry, process) in std::mem::take(&mut self.unknown) {
            let status = self.fx.list().iter().find_map(|effect| match effect.what {
                Consequence::Ended(status) if effect.pid == process => Some(status),
                _ => None,
            });
            self.entries[entry].event = end(status.unwrap_or(WaitStatus::exited(0)));
        }
    }

    fn resumed(&mut self, pid: Pid, result: Result) {
        self.interrupted.remove(&pid);
        if let Some(call) = self.open.remove(&pid) {
            self.push(pid, LogEvent::Resumed { call, outcome: result.into() });
        }
    }

    fn note(&mut self, processes: &BTreeMap<Pid, Pid>, exit: Option<(Pid, i32)>) {
        while let Some(effect) = self.fx.list().get(self.at).cloned() {
            self.at += 1;
            let pid = effect.pid;
            match effect.what {
                Consequence::Returned(result) => self.resumed(pid, result),
                Consequence::Interrupted(restart) => {
                    self.interrupted.insert(pid, restart.into());
                }
                Consequence::Handling(info, _) => self.handler(pid, info),
                Consequence::ThreadEnded => {
                    self.thread_ended(pid, processes, exit);
                }
                Consequence::Ended(status) => {
                    self.open.remove(&pid);
                    self.interrupted.remove(&pid);
                    self.push(pid, end(status));
                }
                _ => {}
            }
        }
    }

    fn thread_ended(&mut self, tid: Pid, processes: &BTreeMap<Pid, Pid>, exit: Option<(Pid, i32)>) {
        let call = self.open.remove(&tid);
        self.interrupted.remove(&tid);
        let process = processes[&tid];
        let executes = |effect: &Effect| {
            effect.cause.actor == tid && matches!(effect.what, Consequence::Executed)
        };
        if self.fx.list().iter().any(executes) {
            self.open.extend(call.map(|call| (process, call)));
            self.push(process, LogEvent::Superseded(tid));
        } else if process != tid {
            match exit.filter(|exit| exit.0 == tid) {
                Some((_, code)) => self.push(tid, end(WaitStatus::exited(code))),
                None => {
                    self.unknown.push((self.entries.len(), process));
                    self.push(tid, LogEvent::Exited(0));
                }
            }
        }
    }

    fn handler(&mut self, pid: Pid, info: SigInfo) {
        if let Some(restart) = self.interrupted.remove(&pid)
            && let Some(call) = self.open.get(&pid)
        {
            let outcome = CallEnd::Interrupted(restart);
            self.push(pid, LogEvent::Resumed { call: call.clone(), outcome });
        }
        self.push(pid, LogEvent::Signal(info));
    }

    /// Runs the bodies of the handlers that `pid` has entered, the innermost first, and returns
    /// from them.
    fn run_handlers(&mut self, pid: Pid, processes: &BTreeMap<Pid, Pid>) {
        while self.kernel.in_user_mode(pid) && self.kernel.handler(pid).is_some() {
            let from = self.fx.list().len();
            let called = self.kernel.call(pid, &Syscall::RtSigreturn, &mut self.fx);
            called.expect("it is in a handler");
            let mask = self.kernel.view(pid).map_or(SigSet::EMPTY, |view| view.blocked);
            let returned = self.fx.list()[from..].iter().find_map(|effect| match &effect.what {
                Consequence::Returned(result) if effect.pid == pid => Some(result.clone()),
                _ => None,
            });
            let asleep = matches!(self.run_of(pid), Some(RunState::Blocked | RunState::Vfork));
            if returned == Some(Err(Errno::EINTR)) {
                self.open.remove(&pid);
                let returned = Some(Err(Errno::EINTR).into());
                self.push(pid, LogEvent::Sigreturn { mask, returned });
            } else if returned.is_some() || asleep {
                let number = match self.open.get(&pid) {
                    Some(Syscall::Waitid { .. }) => 247,
                    Some(Syscall::Clone { clone3: Some(_), .. }) => 435,
                    Some(Syscall::Clone { .. }) => 56,
                    Some(Syscall::Fork) => 57,
                    Some(Syscall::Vfork) => 58,
                    _ => 61,
                };
                let number = Some(Ok(Ret::Value(number)).into());
                self.push(pid, LogEvent::Sigreturn { mask, returned: number });
                self.again(pid, returned);
            }
            self.note(processes, None);
            if self.kernel.runnable().next() == Some(pid) {
                let stepped = self.kernel.apply(&Event::Step { tid: pid }, &mut self.fx);
                stepped.expect("it is runnable");
                self.note(processes, None);
            }
        }
    }

    /// Restarts the call that a handler interrupted.
    fn again(&mut self, pid: Pid, returned: Option<Result>) {
        let call = self.open[&pid].clone();
        match returned {
            Some(result) => {
                self.open.remove(&pid);
                self.push(pid, LogEvent::Call { call, outcome: result.into() });
            }
            None => self.push(pid, LogEvent::Unfinished(CallPrefix::of(&call))),
        }
    }
}

fn end(status: WaitStatus) -> LogEvent {
    match status.term_signal() {
        Some(signal) => LogEvent::Killed { signal, core: status.core() },
        None => LogEvent::Exited(status.exit_code().expect("an end")),
    }
}
