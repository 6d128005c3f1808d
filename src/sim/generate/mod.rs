//! Random programs, by profile.
//!
//! A [`Choose`] makes every decision, so a seed, the bytes of a fuzzer, property tests and `diff`
//! steer one generator.
//!
//! - `profile`: the weights of the kinds of steps;
//! - `draw`: choices, and the values of arguments;
//! - `process`, `signal`: the calls;
//! - `job_control`: the calls on a terminal that controls processes;
//! - `terminal`: the calls of programs for a terminal alone.

mod draw;
mod job_control;
mod process;
mod profile;
mod signal;
mod terminal;

use alloc::vec::Vec;

pub use profile::Profile;
pub use terminal::terminal_program;

use super::{Action, Step};
use crate::abi::{Pid, Uid};
use crate::kernel::{Choose, Config, Kernel};
use crate::syscall::Syscall;
use draw::{Draw, below, one_in};
use profile::{EVERYTHING, StepKind};

/// The environment in which programs run, as far as the generator needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GeneratorEnv {
    /// The configuration of the model at the beginning of a program.
    pub config: Config,
    /// The address of the handler, and its restorer.
    pub handler: u64,
    /// The address to which handlers return (`sa_restorer`).
    pub restorer: u64,
    /// The path of an executable file; `None`: programs make no execve.
    pub program: Option<alloc::sync::Arc<str>>,
    /// Programs may begin with a small pid_max.
    pub own_pid_max: bool,
    /// Programs may begin after any number (`ns_last_pid`).
    pub last_pid: bool,
    /// Users without other processes, so that the counts of a user are those of the program. Empty:
    /// programs cannot change users.
    pub users: Vec<Uid>,
    /// The first process of a program may be a child of a process 1 outside of the program.
    pub below_init: bool,
    /// Programs create threads, and make calls that address threads.
    pub threads: bool,
    /// Programs open a pty.
    pub terminals: bool,
    /// Tasks run in the order in which they are woken. Otherwise only one read of a terminal waits
    /// at a time: the order in which several get their turns is not determined.
    pub ordered: bool,
}

/// Generates one program, each step from the state after the steps before it.
#[derive(Clone, Debug)]
pub struct Generator {
    profile: Profile,
    env: GeneratorEnv,
    /// A limit was lowered: from now on no process becomes root, because a program shares the
    /// counts of root with the rest of the machine.
    limited: bool,
    /// The files of terminals that processes have opened, with the openers: no other process has
    /// their descriptors. The first two are the files of the first process.
    opened: Vec<(u32, Pid)>,
    /// The task that has opened a file in the last step, if the call has succeeded.
    opener: Option<Pid>,
}

/// The maximum number of processes of a program.
const CROWD: usize = 14;
/// One millisecond in nanoseconds.
const MS: u64 = 1_000_000;
/// The tick of all times in programs, in milliseconds. Time advances by whole ticks. Timers expire
/// a third of a tick later, and timeouts two thirds: on a real machine the calls of a tick take
/// less than a third. If a timer and a timeout expired at one moment, their order would depend on
/// the real times at which they were set.
const TICK: i64 = 18;

impl Generator {
    /// A generator for a program of that profile.
    pub fn new(profile: Profile, env: GeneratorEnv) -> Generator {
        Generator { profile, env, limited: false, opened: Vec::new(), opener: None }
    }

    /// The configuration of the model at the beginning of the program.
    pub fn config(&self, choose: &mut dyn Choose) -> Config {
        let mut config = self.env.config.clone();
        if self.profile == Profile::Numbers {
            let pid_max = 301 + below(choose, 30) as u32;
            let last_pid = [1, 1, 290, 295, 299, pid_max - 1][below(choose, 6)];
            if self.env.own_pid_max {
                config.pid_max = pid_max;
            }
            if self.env.last_pid {
                config.last_pid = last_pid;
            }
        }
        if self.profile == Profile::Concurrent
            && self.env.own_pid_max
            && self.env.last_pid
            && one_in(choose, 4)
        {
            // few numbers are free
            config.last_pid = 299;
            config.pid_max = 302 + below(choose, 3) as u32;
            return config;
        }
        if self.profile == Profile::Terminals {
            // the first process has the master, and must not end
            return config;
        }
        // the init is not in the model
        if self.env.below_init && self.profile != Profile::Numbers && one_in(choose, 6) {
            return config.below_init(Pid(2));
        }
        config
    }

    /// Whether handlers stay entered.
    pub fn stay_in_handlers(&self) -> bool {
        self.profile == Profile::Handlers
    }

    /// The next step; `None` if no task can make a call.
    pub fn next(&mut self, kernel: &Kernel, choose: &mut dyn Choose) -> Option<Step> {
        let actors: Vec<Pid> = tasks(kernel).filter(|tid| kernel.in_user_mode(*tid)).collect();
        if actors.is_empty() {
            return None;
        }
        if self.profile == Profile::Concurrent && actors.len() > 1 && !one_in(choose, 3) {
            return Some(self.concurrent(kernel, actors, choose));
        }
        if self.profile == Profile::Terminals && self.env.terminals {
            self.note_opened(kernel);
            let first = kernel.config().first;
            if kernel.in_user_mode(first)
                && let Some(call) = self.draw(kernel, first, choose).open_terminal()
            {
                return Some(Step { tid: first, action: Action::Call(call) });
            }
        }
        // the first task a little more often than the others: it is the parent of most children
        let first = kernel.config().first;
        let tid = if one_in(choose, 8) && kernel.in_user_mode(first) {
            first
        } else {
            actors[below(choose, actors.len())]
        };
        let action = self.action(kernel, tid, choose);
        if let Action::Call(Syscall::Open { .. }) = action {
            self.opener = Some(tid);
        }
        Some(Step { tid, action })
    }

    /// Records who has opened a file in the last step.
    fn note_opened(&mut self, kernel: &Kernel) {
        let Some(opener) = self.opener.take() else { return };
        let last = kernel.terminal_files().map(|(file, _)| file).max();
        let known = self.opened.iter().map(|(file, _)| *file).max().unwrap_or(2);
        if let Some(file) = last.filter(|file| *file > known) {
            self.opened.push((file, opener));
        }
    }

    fn draw<'a>(
        &'a mut self,
        kernel: &'a Kernel,
        caller: Pid,
        choose: &'a mut dyn Choose,
    ) -> Draw<'a> {
        Draw {
            choose,
            kernel,
            env: &self.env,
            profile: self.profile,
            caller,
            limited: &mut self.limited,
            opened: &self.opened,
        }
    }

    /// A step in which two or three of `actors` make calls at the same time.
    fn concurrent(
        &mut self,
        kernel: &Kernel,
        mut actors: Vec<Pid>,
        choose: &mut dyn Choose,
    ) -> Step {
        let mut calls = Vec::new();
        while !actors.is_empty() && calls.len() < 3 {
            let tid = actors.swap_remove(below(choose, actors.len()));
            if let Action::Call(call) = self.action(kernel, tid, choose) {
                calls.push((tid, call));
            }
        }
        Step { tid: Pid(0), action: Action::Concurrent(calls) }
    }

    fn action(&mut self, kernel: &Kernel, tid: Pid, choose: &mut dyn Choose) -> Action {
        let varied = self.profile != Profile::Concurrent;
        let whole = self.profile == Profile::Mixed || varied && one_in(choose, 4);
        let weights = if whole { EVERYTHING } else { self.profile.weights() };
        let mut draw = self.draw(kernel, tid, choose);
        for _ in 0..20 {
            let kind = draw.weighted(weights);
            if let Some(action) = draw.action(kind) {
                return action;
            }
        }
        Action::Call(Syscall::Getppid)
    }
}

/// The tasks that can make a call, in the order of their creation.
fn tasks(kernel: &Kernel) -> impl Iterator<Item = Pid> + '_ {
    kernel.pids().flat_map(|pid| kernel.tids(pid))
}

impl Draw<'_> {
    /// A step of that kind; `None` if the kind is not possible now.
    fn action(&mut self, kind: StepKind) -> Option<Action> {
        if kind == StepKind::Elapse {
            let ticks = 1 + self.below(4) as u64;
            return Some(Action::Elapse(ticks * TICK as u64 * MS));
        }
        self.call(kind).map(Action::Call)
    }

    /// Whether the caller is a thread of the first process.
    fn is_first(&self) -> bool {
        let first = self.kernel.config().first;
        self.kernel.view(self.caller).is_some_and(|view| view.tgid == first)
    }

    fn call(&mut self, kind: StepKind) -> Option<Syscall> {
        let crowd = match self.profile {
            Profile::Numbers => 40,
            Profile::Concurrent => 3,
            _ => CROWD,
        };
        let room = self.kernel.task_count() < crowd;
        Some(match kind {
            StepKind::Fork if room => Syscall::Fork,
            StepKind::Vfork if room => Syscall::Vfork,
            StepKind::Clone if room => self.clone_call(),
            StepKind::Fork | StepKind::Vfork | StepKind::Clone => return None,
            StepKind::Exec => self.exec_call(),
            // the first process has the master, and users cannot open the slave; a call of an init
            // from the background never ends
            StepKind::Exit | StepKind::User | StepKind::Setsid
                if self.profile == Profile::Terminals
                    && (kind == StepKind::User || self.is_first()) =>
            {
                return None;
            }
            // the exit of the init ends the program
            StepKind::Exit if self.caller == self.kernel.config().first && !self.one_in(20) => {
                return None;
            }
            StepKind::Exit => self.exit_call(),
            StepKind::Wait => self.wait_call(),
            StepKind::Setpgid => return self.setpgid(),
            StepKind::Setsid => Syscall::Setsid,
            StepKind::GroupGetters => self.group_getter(),
            StepKind::Getters => self.getter(),
            StepKind::Kill => Syscall::Kill { pid: self.target(), sig: self.signal_number() },
            StepKind::KillGroup => self.kill_group(),
            StepKind::Tgkill => self.tgkill(),
            StepKind::Queue => self.queue(),
            StepKind::Sigaction => self.sigaction(),
            StepKind::Mask => self.mask(),
            StepKind::Pending => Syscall::RtSigpending { set: self.pointer(), size: self.size() },
            StepKind::Suspend => Syscall::RtSigsuspend { mask: self.set(), size: self.size() },
            StepKind::TimedWait => self.timed_wait(),
            StepKind::Pause => Syscall::Pause,
            StepKind::Sigreturn if self.kernel.handler_depth(self.caller) > 0 => {
                Syscall::RtSigreturn
            }
            StepKind::Sigreturn => return None,
            StepKind::Subreaper => self.subreaper(),
            StepKind::Pdeathsig => self.pdeathsig(),
            StepKind::User => return self.user_call(),
            StepKind::Limit => return self.limit_call(),
            StepKind::Umask => {
                Syscall::Umask(self.among(&[0, 0o22, 0o77, 0o777, 0o7777, u32::MAX]))
            }
            StepKind::Directory => self.directory(),
            StepKind::Alarm => Syscall::Alarm(self.among(&[0, 0, 1, 2, 5, 100, 100_000, u32::MAX])),
            StepKind::Itimer => self.itimer(),
            StepKind::Terminal if self.env.terminals => return self.terminal_call(),
            // a thread may have descriptors of its own
            StepKind::Thread if self.profile == Profile::Terminals => return None,
            // an init takes few signals: most threads belong to other processes
            StepKind::Thread if self.is_first() && !self.one_in(4) => return None,
            StepKind::Thread if self.env.threads => self.thread_call(room),
            StepKind::Thread | StepKind::Terminal | StepKind::Elapse => return None,
        })
    }
}
