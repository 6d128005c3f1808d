//! Random programs, by profile.
//!
//! Every decision is one of a [`Choose`]: a seed, the bytes of a fuzzer or of a property test, and
//! `diff` steer the same generator.
//!
//! - `profile`: how often each kind of step comes;
//! - `draw`: choices, and the values of arguments;
//! - `process`, `signal`: the calls.

mod draw;
mod process;
mod profile;
mod signal;

use alloc::vec::Vec;

pub use profile::Profile;

use super::{Action, Step};
use crate::abi::{Pid, Uid};
use crate::kernel::{Choose, Config, Kernel};
use crate::syscall::Syscall;
use draw::{Draw, below, one_in};
use profile::{EVERYTHING, StepKind};

/// What the generator has to know of the world that its programs will run in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GeneratorEnv {
    /// Where programs begin.
    pub config: Config,
    /// The address of the handler, and the one that it returns to.
    pub handler: u64,
    /// Where handlers return to.
    pub restorer: u64,
    /// The path of a program that can be executed. None: programs execute nothing.
    pub program: Option<alloc::sync::Arc<str>>,
    /// Programs may begin with a small pid_max.
    pub own_pid_max: bool,
    /// Programs may begin behind any number.
    pub last_pid: bool,
    /// Users that nobody else uses, so that their counts are the program's alone. None: the users
    /// cannot be changed.
    pub users: Vec<Uid>,
    /// Programs may begin with a first process that is a child of a process 1 that they do not see.
    pub below_init: bool,
    /// Programs make calls that address threads, and threads.
    pub threads: bool,
}

/// Makes one program, step by step, from the state that the steps before it led to.
#[derive(Clone, Debug)]
pub struct Generator {
    profile: Profile,
    world: GeneratorEnv,
    /// A limit was lowered: from now on nobody becomes the superuser, whose counts a program
    /// shares with the rest of the machine.
    limited: bool,
}

/// Programs do not grow beyond this many processes.
const CROWD: usize = 14;
/// One millisecond in nanoseconds.
const MS: u64 = 1_000_000;
/// The step of all times in programs, in milliseconds. Time passes in whole steps; timers expire a
/// third of a step later, and timeouts two thirds: what is done meanwhile takes less than a third
/// on a real machine. A timer and a timeout that were to come at one moment would come in any
/// order, by when in real time each was set.
const TICK: i64 = 18;

impl Generator {
    /// A program of that profile.
    pub fn new(profile: Profile, world: GeneratorEnv) -> Generator {
        Generator { profile, world, limited: false }
    }

    /// The world at the beginning of the program.
    pub fn config(&self, choose: &mut dyn Choose) -> Config {
        let mut config = self.world.config.clone();
        if self.profile == Profile::Numbers {
            let pid_max = 301 + below(choose, 30) as u32;
            let last_pid = [1, 1, 290, 295, 299, pid_max - 1][below(choose, 6)];
            if self.world.own_pid_max {
                config.pid_max = pid_max;
            }
            if self.world.last_pid {
                config.last_pid = last_pid;
            }
        }
        if self.profile == Profile::Concurrent
            && self.world.own_pid_max
            && self.world.last_pid
            && one_in(choose, 4)
        {
            // hardly a number is free
            config.last_pid = 299;
            config.pid_max = 302 + below(choose, 3) as u32;
            return config;
        }
        // without an init in the model
        if self.world.below_init && self.profile != Profile::Numbers && one_in(choose, 6) {
            return config.below_init(Pid(2));
        }
        config
    }

    /// Whether handlers stay entered.
    pub fn stay_in_handlers(&self) -> bool {
        self.profile == Profile::Handlers
    }

    /// The next step; `None` if nobody can act.
    pub fn next(&mut self, kernel: &Kernel, choose: &mut dyn Choose) -> Option<Step> {
        let actors: Vec<Pid> = tasks(kernel).filter(|tid| kernel.in_user_mode(*tid)).collect();
        if actors.is_empty() {
            return None;
        }
        if self.profile == Profile::Concurrent && actors.len() > 1 && !one_in(choose, 3) {
            return Some(self.concurrent(kernel, actors, choose));
        }
        // the first one a little more often than the others: it decides about most children
        let first = kernel.config().first;
        let tid = if one_in(choose, 8) && kernel.in_user_mode(first) {
            first
        } else {
            actors[below(choose, actors.len())]
        };
        let action = self.action(kernel, tid, choose);
        Some(Step { tid, action })
    }

    /// Two or three of `actors` make calls at the same time.
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
        let mut draw = Draw {
            choose,
            kernel,
            world: &self.world,
            profile: self.profile,
            caller: tid,
            limited: &mut self.limited,
        };
        for _ in 0..20 {
            let kind = draw.weighted(weights);
            if let Some(action) = draw.action(kind) {
                return action;
            }
        }
        Action::Call(Syscall::Getppid)
    }
}

/// The tasks that may act, in the order of their creation.
fn tasks(kernel: &Kernel) -> impl Iterator<Item = Pid> + '_ {
    kernel.pids().flat_map(|pid| kernel.tids(pid))
}

impl Draw<'_> {
    /// A step of that kind; `None` if it makes no sense now.
    fn action(&mut self, kind: StepKind) -> Option<Action> {
        if kind == StepKind::Elapse {
            let ticks = 1 + self.below(4) as u64;
            return Some(Action::Elapse(ticks * TICK as u64 * MS));
        }
        self.call(kind).map(Action::Call)
    }

    /// Whether a thread of the first process acts.
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
            // the end of the init ends the program
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
            // an init takes few signals: threads are of other processes, most often
            StepKind::Thread if self.is_first() && !self.one_in(4) => return None,
            StepKind::Thread if self.world.threads => self.thread_call(room),
            StepKind::Thread | StepKind::Elapse => return None,
        })
    }
}
