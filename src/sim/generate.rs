//! Random programs, by profile.

use alloc::vec::Vec;

use super::{Action, Step};
use crate::abi::{
    Errno, Handler, IdType, Itimerval, Pid, Resource, Rlimit, SaFlags, SiCode, SigAction, SigSet,
    Signal, Timespec, Timeval, Uid, WaitOptions,
};
use crate::kernel::{Config, Kernel, Seeded};
use crate::syscall::{ITIMER_REAL, Prctl, Ptr, QueuedInfo, SIGSET_SIZE, Syscall, clone, how};

/// What a program stresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Everything.
    Mixed,
    /// Stops, continues, groups, sessions, orphans.
    Jobs,
    /// wait4 and waitid, blocked and not.
    Waits,
    /// Masks, pending signals, handlers, and the calls that wait for signals.
    Signals,
    /// Handlers that stay entered, and calls made inside of them.
    Handlers,
    /// Users, and who may signal whom.
    Users,
    /// A small pid_max: wrap-around, exhaustion, numbers held by groups and sessions.
    Numbers,
    /// Subreapers, the init, parent-death signals, deep trees.
    Reapers,
    /// clone with other exit signals, vfork, execve.
    Clones,
    /// RLIMIT_SIGPENDING and RLIMIT_NPROC.
    Limits,
    /// alarm, setitimer, timeouts.
    Timers,
}

impl Profile {
    /// All of them. Programs take them in turn.
    pub const ALL: [Profile; 11] = [
        Profile::Mixed,
        Profile::Jobs,
        Profile::Waits,
        Profile::Signals,
        Profile::Handlers,
        Profile::Users,
        Profile::Numbers,
        Profile::Reapers,
        Profile::Clones,
        Profile::Limits,
        Profile::Timers,
    ];

    /// Its name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Mixed => "mixed",
            Profile::Jobs => "jobs",
            Profile::Waits => "waits",
            Profile::Signals => "signals",
            Profile::Handlers => "handlers",
            Profile::Users => "users",
            Profile::Numbers => "numbers",
            Profile::Reapers => "reapers",
            Profile::Clones => "clones",
            Profile::Limits => "limits",
            Profile::Timers => "timers",
        }
    }

    /// How often each kind of call comes, in its own part of the steps.
    fn weights(self) -> &'static [(Kind, u32)] {
        use Kind::{
            Alarm, Clone, Elapse, Exec, Exit, Folder, Fork, Getters, GroupGetters, Itimer, Kill,
            KillGroup, Limit, Mask, Pause, Pdeathsig, Pending, Queue, Setpgid, Setsid, Sigaction,
            Sigreturn, Subreaper, Suspend, Tgkill, TimedWait, Umask, User, Vfork, Wait,
        };
        match self {
            Profile::Mixed => &[(Fork, 0)],
            Profile::Jobs => &[
                (Fork, 10),
                (Setpgid, 14),
                (Setsid, 4),
                (Kill, 14),
                (KillGroup, 14),
                (Exit, 6),
                (Wait, 12),
                (Sigaction, 4),
                (Subreaper, 1),
                (GroupGetters, 3),
                (Mask, 3),
                (Exec, 2),
                (Clone, 2),
                (Vfork, 1),
            ],
            Profile::Waits => &[
                (Fork, 14),
                (Wait, 36),
                (Exit, 8),
                (Kill, 14),
                (Setpgid, 8),
                (Sigaction, 6),
                (Clone, 4),
                (KillGroup, 3),
            ],
            Profile::Signals => &[
                (Fork, 4),
                (Sigaction, 22),
                (Mask, 18),
                (Kill, 20),
                (Tgkill, 8),
                (Queue, 10),
                (Pending, 6),
                (Suspend, 5),
                (TimedWait, 7),
                (Pause, 4),
                (Exit, 1),
                (KillGroup, 4),
                (Exec, 2),
                (Clone, 2),
            ],
            Profile::Handlers => &[
                (Fork, 4),
                (Sigaction, 18),
                (Mask, 8),
                (Kill, 20),
                (Tgkill, 6),
                (Queue, 6),
                (Suspend, 4),
                (Pause, 3),
                (Wait, 6),
                (Sigreturn, 16),
                (Exec, 1),
                (Pending, 3),
            ],
            Profile::Users => &[
                (Fork, 10),
                (User, 22),
                (Kill, 26),
                (KillGroup, 8),
                (Tgkill, 5),
                (Queue, 5),
                (Setsid, 4),
                (Exit, 3),
                (Wait, 5),
                (Pdeathsig, 5),
                (Exec, 3),
                (Getters, 3),
                (Limit, 3),
            ],
            Profile::Numbers => &[
                (Fork, 40),
                (Exit, 16),
                (Wait, 16),
                (Setpgid, 10),
                (Setsid, 6),
                (Kill, 6),
                (GroupGetters, 4),
                (Sigaction, 2),
                (Clone, 5),
                (Exec, 2),
                (User, 2),
                (Limit, 2),
            ],
            Profile::Reapers => &[
                (Fork, 18),
                (Subreaper, 10),
                (Pdeathsig, 10),
                (Exit, 12),
                (Wait, 10),
                (Sigaction, 6),
                (Kill, 8),
                (Setpgid, 6),
                (Setsid, 3),
                (Getters, 6),
                (Mask, 3),
                (Clone, 2),
                (Exec, 2),
                (KillGroup, 2),
            ],
            Profile::Clones => &[
                (Clone, 18),
                (Vfork, 8),
                (Exec, 10),
                (Exit, 10),
                (Wait, 18),
                (Kill, 12),
                (Sigaction, 8),
                (Setpgid, 4),
                (Mask, 3),
                (Pending, 2),
                (KillGroup, 3),
                (Queue, 3),
                (User, 2),
                (Pdeathsig, 2),
                (Subreaper, 2),
            ],
            Profile::Limits => &[
                (Fork, 10),
                (Limit, 14),
                (Queue, 20),
                (Kill, 14),
                (Tgkill, 8),
                (Mask, 12),
                (User, 6),
                (Sigaction, 6),
                (Exit, 4),
                (Wait, 6),
                (Exec, 3),
                (TimedWait, 4),
            ],
            Profile::Timers => &[
                (Fork, 9),
                (Alarm, 14),
                (Itimer, 16),
                (Elapse, 10),
                (Sigaction, 10),
                (Mask, 10),
                (TimedWait, 8),
                (Pause, 5),
                (Exec, 4),
                (Kill, 5),
                (Umask, 2),
                (Folder, 2),
            ],
        }
    }
}

/// Everything, for [`Profile::Mixed`] and for a part of the steps of every other one.
const EVERYTHING: &[(Kind, u32)] = &[
    (Kind::Fork, 12),
    (Kind::Vfork, 1),
    (Kind::Clone, 2),
    (Kind::Exec, 2),
    (Kind::Exit, 4),
    (Kind::Wait, 14),
    (Kind::Setpgid, 9),
    (Kind::Setsid, 3),
    (Kind::GroupGetters, 4),
    (Kind::Getters, 3),
    (Kind::Kill, 14),
    (Kind::KillGroup, 7),
    (Kind::Tgkill, 3),
    (Kind::Queue, 3),
    (Kind::Sigaction, 9),
    (Kind::Mask, 6),
    (Kind::Pending, 2),
    (Kind::Suspend, 2),
    (Kind::TimedWait, 2),
    (Kind::Pause, 1),
    (Kind::Subreaper, 2),
    (Kind::Pdeathsig, 2),
    (Kind::User, 1),
    (Kind::Limit, 1),
    (Kind::Umask, 1),
    (Kind::Folder, 1),
    (Kind::Sigreturn, 1),
];

/// A kind of step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Fork,
    Vfork,
    Clone,
    Exec,
    Exit,
    Wait,
    Setpgid,
    Setsid,
    GroupGetters,
    Getters,
    Kill,
    KillGroup,
    Tgkill,
    Queue,
    Sigaction,
    Mask,
    Pending,
    Suspend,
    TimedWait,
    Pause,
    Sigreturn,
    Subreaper,
    Pdeathsig,
    User,
    Limit,
    Umask,
    Folder,
    Alarm,
    Itimer,
    Elapse,
}

/// What the generator has to know of the world that its programs will run in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
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
}

/// Makes one program, step by step, from the state that the steps before it led to.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Seeded,
    profile: Profile,
    world: Surroundings,
    handler_flags: SaFlags,
    /// A limit was lowered: from now on nobody becomes the superuser, whose counts a program
    /// shares with the rest of the machine.
    limited: bool,
}

/// Programs do not grow beyond this many processes.
const CROWD: usize = 14;
/// One millisecond in nanoseconds.
const MS: u64 = 1_000_000;
/// The step of all times in programs, in milliseconds. Time passes in whole steps; timers expire a
/// third of a step later, and timeouts two thirds: what is done meanwhile takes less than a third on
/// a real machine. A timer and a timeout that were to come at one moment would come in any order,
/// by when in real time each was set.
const TICK: i64 = 18;

impl Generator {
    /// The program of that profile and seed.
    pub fn new(profile: Profile, seed: u64, world: Surroundings) -> Generator {
        Generator {
            random: Seeded::new(seed),
            profile,
            world,
            handler_flags: SaFlags::SIGINFO,
            limited: false,
        }
    }

    /// The world at the beginning of the program.
    pub fn config(&mut self) -> Config {
        let mut config = self.world.config.clone();
        if self.profile == Profile::Numbers {
            let pid_max = 301 + self.random.below(30) as u32;
            let last_pid = [1, 1, 290, 295, 299, pid_max - 1][self.random.below(6)];
            if self.world.own_pid_max {
                config.pid_max = pid_max;
            }
            if self.world.last_pid {
                config.last_pid = last_pid;
            }
        }
        config
    }

    /// Whether handlers stay entered.
    pub fn stay_in_handlers(&self) -> bool {
        self.profile == Profile::Handlers
    }

    /// The next step; `None` if nobody can act.
    pub fn next(&mut self, kernel: &Kernel) -> Option<Step> {
        let actors: Vec<Pid> = kernel.pids().filter(|pid| kernel.in_user_mode(*pid)).collect();
        if actors.is_empty() {
            return None;
        }
        // pid 1 a little more often than the others: it decides about most children
        let pid = if self.one_in(8) && kernel.in_user_mode(Pid(1)) {
            Pid(1)
        } else {
            actors[self.random.below(actors.len())]
        };
        let whole = self.profile == Profile::Mixed || self.one_in(4);
        let weights = if whole { EVERYTHING } else { self.profile.weights() };
        for _ in 0..20 {
            let kind = self.pick(weights);
            if let Some(action) = self.action(kind, pid, kernel) {
                return Some(Step { pid, action });
            }
        }
        Some(Step { pid, action: Action::Call(Syscall::Getppid) })
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    fn pick(&mut self, weights: &[(Kind, u32)]) -> Kind {
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(total as usize) as u32;
        for (kind, weight) in weights {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        Kind::Fork
    }

    fn among<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len())]
    }

    /// A step of that kind; `None` if it makes no sense now.
    fn action(&mut self, kind: Kind, pid: Pid, kernel: &Kernel) -> Option<Action> {
        if kind == Kind::Elapse {
            let ticks = 1 + self.random.below(4) as u64;
            return Some(Action::Elapse(ticks * TICK as u64 * MS));
        }
        self.call(kind, pid, kernel).map(Action::Call)
    }

    fn call(&mut self, kind: Kind, pid: Pid, kernel: &Kernel) -> Option<Syscall> {
        let crowd = if self.profile == Profile::Numbers { 40 } else { CROWD };
        let room = kernel.len() < crowd;
        Some(match kind {
            Kind::Fork if room => Syscall::Fork,
            Kind::Vfork if room => Syscall::Vfork,
            Kind::Clone if room => self.clone_call(),
            Kind::Fork | Kind::Vfork | Kind::Clone => return None,
            Kind::Exec => self.exec_call(),
            // the end of the init ends the program
            Kind::Exit if pid == Pid(1) && !self.one_in(20) => return None,
            Kind::Exit => self.exit_call(),
            Kind::Wait => self.wait_call(kernel),
            Kind::Setpgid => return self.setpgid(pid, kernel),
            Kind::Setsid => Syscall::Setsid,
            Kind::GroupGetters => self.group_getter(pid, kernel),
            Kind::Getters => self.getter(),
            Kind::Kill => {
                Syscall::Kill { pid: self.process(pid, kernel, false), sig: self.signal_number() }
            }
            Kind::KillGroup => self.kill_group(kernel),
            Kind::Tgkill => self.tgkill(pid, kernel),
            Kind::Queue => self.queue(pid, kernel),
            Kind::Sigaction => self.sigaction(),
            Kind::Mask => self.mask(),
            Kind::Pending => Syscall::RtSigpending { set: self.pointer(), size: self.size() },
            Kind::Suspend => Syscall::RtSigsuspend { mask: self.set(), size: self.size() },
            Kind::TimedWait => self.timed_wait(),
            Kind::Pause => Syscall::Pause,
            Kind::Sigreturn if kernel.handler_depth(pid) > 0 => Syscall::RtSigreturn,
            Kind::Sigreturn => return None,
            Kind::Subreaper => self.subreaper(),
            Kind::Pdeathsig => self.pdeathsig(),
            Kind::User => return self.user_call(),
            Kind::Limit => return self.limit_call(pid, kernel),
            Kind::Umask => Syscall::Umask(self.among(&[0, 0o22, 0o77, 0o777, 0o7777, u32::MAX])),
            Kind::Folder => self.folder(),
            Kind::Alarm => Syscall::Alarm(self.among(&[0, 0, 1, 2, 5, 100, 100_000, u32::MAX])),
            Kind::Itimer => self.itimer(),
            Kind::Elapse => return None,
        })
    }

    /// A number for a process argument: most often one that exists.
    fn process(&mut self, own: Pid, kernel: &Kernel, zero: bool) -> i32 {
        match self.random.below(24) {
            0 => own.0 as i32,
            5..=7 if zero => 0,
            1 => 0,
            2 => -1,
            3 => self.among(&[-1, i32::MIN, 99_999, i32::MAX, -99_999]),
            4 => 1 + self.random.below(20) as i32,
            _ => {
                let all: Vec<Pid> = kernel.pids().collect();
                self.among(&all).0 as i32
            }
        }
    }

    fn setpgid(&mut self, caller: Pid, kernel: &Kernel) -> Option<Syscall> {
        let pid = self.process(caller, kernel, true);
        // also groups that have outlived their leader
        let pgid =
            if self.one_in(4) { self.group(kernel) } else { self.process(caller, kernel, true) };
        // NS-08: on the live kernel an init that dies in the group of another process never goes
        let foreign = pgid > 1
            && kernel.pids().filter_map(|pid| kernel.view(pid)).any(|v| v.pgid.0 as i32 == pgid);
        let deadly = caller == Pid(1) && matches!(pid, 0 | 1) && foreign;
        (!deadly).then_some(Syscall::Setpgid { pid, pgid })
    }

    /// A group that exists, most often.
    fn group(&mut self, kernel: &Kernel) -> i32 {
        let groups: Vec<i32> = kernel
            .pids()
            .filter_map(|pid| kernel.view(pid))
            .map(|view| view.pgid.0 as i32)
            .filter(|pgid| *pgid > 1)
            .collect();
        if groups.is_empty() || self.one_in(10) {
            return 1 + self.random.below(20) as i32;
        }
        self.among(&groups)
    }

    fn signal(&mut self) -> Signal {
        const JOBS: [Signal; 7] = [
            Signal::STOP,
            Signal::CONT,
            Signal::CONT,
            Signal::TSTP,
            Signal::TTIN,
            Signal::TTOU,
            Signal::CHLD,
        ];
        const PLAIN: [Signal; 8] = [
            Signal::HUP,
            Signal::INT,
            Signal::TERM,
            Signal::USR1,
            Signal::USR2,
            Signal::KILL,
            Signal::WINCH,
            Signal::SEGV,
        ];
        match self.random.below(10) {
            0..=4 => self.among(&JOBS),
            5..=6 => self.among(&PLAIN),
            7 => self.realtime(),
            _ => self.any_signal(),
        }
    }

    fn realtime(&mut self) -> Signal {
        let all: Vec<Signal> = Signal::all().filter(|signal| signal.is_realtime()).collect();
        if self.one_in(3) { self.among(&all) } else { all[self.random.below(3)] }
    }

    fn any_signal(&mut self) -> Signal {
        let all: Vec<Signal> = Signal::all().collect();
        self.among(&all)
    }

    fn signal_number(&mut self) -> i32 {
        match self.random.below(30) {
            0 | 1 => 0,
            2 => self.among(&[65, -1, 1000]),
            _ => i32::from(self.signal().number()),
        }
    }

    fn set(&mut self) -> SigSet {
        match self.random.below(8) {
            0 => SigSet::EMPTY,
            1 => SigSet::FULL,
            2 => SigSet::FULL.without(self.signal()),
            _ => {
                let count = 1 + self.random.below(4);
                (0..count).map(|_| self.signal()).collect()
            }
        }
    }

    fn size(&mut self) -> usize {
        if self.one_in(40) { self.among(&[0, 1, 4, 7, 16, usize::MAX]) } else { SIGSET_SIZE }
    }

    fn pointer(&mut self) -> Ptr {
        match self.random.below(40) {
            0 => Ptr::Bad,
            1 => Ptr::Null,
            _ => Ptr::Valid,
        }
    }

    fn optional_pointer(&mut self) -> Ptr {
        match self.random.below(12) {
            0 => Ptr::Bad,
            1..=3 => Ptr::Null,
            _ => Ptr::Valid,
        }
    }

    fn clone_call(&mut self) -> Syscall {
        let chld = u64::from(Signal::CHLD.number());
        if self.one_in(3) {
            return self.any_clone();
        }
        if self.one_in(8) {
            let flags = self.among(&[clone::AUTOREAP, clone::AUTOREAP | clone::NNP, clone::NNP]);
            let signal = if self.one_in(6) { chld } else { 0 };
            return Syscall::clone3_call(flags, signal);
        }
        if self.one_in(3) {
            let flags = self.among(&[
                0,
                0,
                clone::CLEAR_SIGHAND,
                clone::CLEAR_SIGHAND,
                clone::PARENT,
                clone::CLEAR_SIGHAND | clone::SIGHAND | clone::VM,
                clone::AUTOREAP | clone::PARENT,
                5,
            ]);
            let signal = self.among(&[0, chld, chld, 10, 40, 64, 65, 300]);
            return Syscall::clone3_call(flags, signal);
        }
        let signal = self.among(&[0, 0, chld, chld, 10, 18, 40, 64, 65, 255]);
        let flags = self.among(&[
            0,
            0,
            0,
            clone::PARENT,
            clone::PARENT,
            clone::VFORK,
            clone::VFORK | clone::VM,
            clone::VM,
            clone::VM | clone::SIGHAND,
            clone::FS,
            clone::SIGHAND,
            clone::THREAD,
            clone::THREAD | clone::SIGHAND,
            clone::FS | clone::NEWNS,
            clone::THREAD | clone::SIGHAND | clone::VM | clone::NEWPID,
        ]);
        Syscall::clone_call(flags | signal)
    }

    /// Any combination, most of them allowed.
    fn any_clone(&mut self) -> Syscall {
        let mut flags = 0;
        for flag in [clone::PARENT, clone::VFORK, clone::VM, clone::SIGHAND, clone::FS] {
            if self.one_in(3) {
                flags |= flag;
            }
        }
        if flags & clone::SIGHAND != 0 && !self.one_in(10) {
            flags |= clone::VM;
        }
        let signal = match self.random.below(4) {
            0 => 0,
            1 => u64::from(Signal::CHLD.number()),
            2 => self.random.below(66) as u64,
            _ => u64::from(self.signal().number()),
        };
        if !self.one_in(3) {
            return Syscall::clone_call(flags | signal);
        }
        if self.one_in(3) {
            flags |= clone::CLEAR_SIGHAND;
        }
        let signal = if flags & clone::PARENT == 0 || self.one_in(5) { signal } else { 0 };
        Syscall::clone3_call(flags, signal)
    }

    fn exec_call(&mut self) -> Syscall {
        match self.random.below(10) {
            0 => Syscall::Execve { path: "/nonexistent".into(), error: Some(Errno::ENOENT) },
            1 => Syscall::Execve { path: "/proc".into(), error: Some(Errno::EACCES) },
            _ => match &self.world.program {
                Some(program) => Syscall::Execve { path: program.clone(), error: None },
                None => Syscall::Getppid,
            },
        }
    }

    fn exit_call(&mut self) -> Syscall {
        let code = self.among(&[0, 1, 2, 3, 127, 255, 256, 257, -1, 300, 0x1234_5678]);
        if self.one_in(3) { Syscall::Exit(code) } else { Syscall::ExitGroup(code) }
    }

    fn wait_options(&mut self, events: &[WaitOptions]) -> WaitOptions {
        let mut options = WaitOptions::default();
        for event in events {
            if self.one_in(2) {
                options = options.with(*event);
            }
        }
        if !self.one_in(4) {
            options = options.with(WaitOptions::NOHANG);
        }
        match self.random.below(20) {
            0..=4 => {
                for class in [WaitOptions::ALL, WaitOptions::CLONE, WaitOptions::NOTHREAD] {
                    if self.one_in(2) {
                        options = options.with(class);
                    }
                }
            }
            5 => options = options.with(WaitOptions(self.among(&[0x10, 0x100, 0x8000]))),
            _ => {}
        }
        options
    }

    fn wait_call(&mut self, kernel: &Kernel) -> Syscall {
        if self.one_in(2) {
            return self.waitid_call(kernel);
        }
        let mut options = self.wait_options(&[WaitOptions::STOPPED, WaitOptions::CONTINUED]);
        if self.one_in(30) {
            options = options.with(self.among(&[WaitOptions::NOWAIT, WaitOptions::EXITED]));
        }
        let pid = match self.random.below(8) {
            0 => 0,
            1..=3 => -1,
            4 | 5 => -self.group(kernel),
            _ => self.process(Pid(1), kernel, false),
        };
        Syscall::Wait4 { pid, status: self.optional_pointer(), options }
    }

    fn waitid_call(&mut self, kernel: &Kernel) -> Syscall {
        let mut options = self.wait_options(&[
            WaitOptions::EXITED,
            WaitOptions::EXITED,
            WaitOptions::STOPPED,
            WaitOptions::CONTINUED,
        ]);
        if self.one_in(4) {
            options = options.with(WaitOptions::NOWAIT);
        }
        let (idtype, id) = match self.random.below(10) {
            0..=3 => (IdType::ALL, self.among(&[0, 0, -1, 77])),
            4..=6 => (IdType::PID, self.process(Pid(1), kernel, false)),
            7 | 8 => (IdType::PGID, self.among(&[0, -1, 1, 2, 3])),
            _ => (self.among(&[IdType(4), IdType(-1), IdType::PIDFD]), self.among(&[-1, 777])),
        };
        let id = if idtype == IdType::PGID && self.one_in(2) { self.group(kernel) } else { id };
        Syscall::Waitid { idtype, id, info: self.optional_pointer(), options }
    }

    fn group_getter(&mut self, pid: Pid, kernel: &Kernel) -> Syscall {
        match self.random.below(5) {
            0 => Syscall::Getpgrp,
            1 | 2 => Syscall::Getpgid(self.process(pid, kernel, true)),
            _ => Syscall::Getsid(self.process(pid, kernel, true)),
        }
    }

    fn getter(&mut self) -> Syscall {
        match self.random.below(8) {
            0 => Syscall::Getpid,
            1 => Syscall::Gettid,
            2 => Syscall::Getresuid,
            3 => Syscall::Getuid,
            4 => Syscall::Geteuid,
            _ => Syscall::Getppid,
        }
    }

    fn kill_group(&mut self, kernel: &Kernel) -> Syscall {
        let pid = match self.random.below(10) {
            0 | 1 => 0,
            2 => -1,
            _ => -self.group(kernel),
        };
        Syscall::Kill { pid, sig: self.signal_number() }
    }

    fn tgkill(&mut self, pid: Pid, kernel: &Kernel) -> Syscall {
        let tid = self.process(pid, kernel, true);
        let sig = self.signal_number();
        if self.one_in(3) {
            return Syscall::Tkill { tid, sig };
        }
        let tgid = if self.one_in(6) { self.process(pid, kernel, true) } else { tid };
        Syscall::Tgkill { tgid, tid, sig }
    }

    fn queue(&mut self, pid: Pid, kernel: &Kernel) -> Syscall {
        let sig =
            if self.one_in(2) { i32::from(self.realtime().number()) } else { self.signal_number() };
        let code = match self.random.below(12) {
            0 => 0,
            1 => -6,
            2 => 0x80,
            3 => -60,
            4 | 5 => SiCode::TIMER.0,
            6 => self.among(&[-3, -4, -5, -7, -8, 1, 4, 6, 7, 0x7f, 0x81, i32::MIN, i32::MAX]),
            _ => -1,
        };
        let value = self.random.below(1000) as u64;
        let info = QueuedInfo { code, pid: pid.0, uid: 0, value };
        let info = if self.one_in(40) { None } else { Some(info) };
        Syscall::RtSigqueueinfo { pid: self.process(pid, kernel, true), sig, info }
    }

    fn flags(&mut self) -> SaFlags {
        let mut flags = self.handler_flags.with(SaFlags::RESTORER);
        for flag in [SaFlags::RESTART, SaFlags::NODEFER, SaFlags::NOCLDSTOP, SaFlags::NOCLDWAIT] {
            if self.one_in(4) {
                flags = flags.with(flag);
            }
        }
        if self.one_in(8) {
            flags = flags.with(SaFlags::RESETHAND);
        }
        if self.one_in(40) {
            flags = flags.with(SaFlags(self.among(&[0x20, 0x400, 0x0200_0000])));
        }
        flags
    }

    fn sigaction(&mut self) -> Syscall {
        let sig = match self.random.below(20) {
            0 => self.among(&[0, 65, -1]),
            1..=5 => i32::from(Signal::CHLD.number()),
            _ => i32::from(self.signal().number()),
        };
        let handler = match self.random.below(10) {
            0 | 1 => Handler::Default,
            2 | 3 => Handler::Ignore,
            _ => Handler::Catch(self.world.handler),
        };
        let mask = match self.random.below(4) {
            0 => SigSet::FULL,
            1 => self.set(),
            _ => SigSet::EMPTY,
        };
        let action =
            SigAction { handler, flags: self.flags(), mask, restorer: self.world.restorer };
        let act = if self.one_in(10) { None } else { Some(action) };
        Syscall::RtSigaction { sig, act, old: self.optional_pointer(), size: self.size() }
    }

    fn mask(&mut self) -> Syscall {
        let how = match self.random.below(20) {
            0 => self.among(&[3, 99, -1]),
            1..=9 => how::BLOCK,
            10..=15 => how::UNBLOCK,
            _ => how::SETMASK,
        };
        let set = if self.one_in(12) { None } else { Some(self.set()) };
        Syscall::RtSigprocmask { how, set, old: self.optional_pointer(), size: self.size() }
    }

    fn timed_wait(&mut self) -> Syscall {
        let timed = self.profile == Profile::Timers;
        let timeout = match self.random.below(10) {
            0 => Some(Timespec { sec: -1, nsec: 0 }),
            1 => Some(Timespec { sec: 0, nsec: 1_000_000_000 }),
            2..=4 => None,
            5..=7 if timed => Some(Timespec {
                sec: 0,
                nsec: TICK * MS as i64 * self.random.below(4) as i64 + TICK * MS as i64 * 2 / 3,
            }),
            _ => Some(Timespec { sec: 0, nsec: 0 }),
        };
        let info = self.optional_pointer();
        Syscall::RtSigtimedwait { set: self.set(), info, timeout, size: self.size() }
    }

    fn subreaper(&mut self) -> Syscall {
        Syscall::Prctl(match self.random.below(5) {
            0 => Prctl::GetChildSubreaper(self.pointer()),
            1 => Prctl::SetChildSubreaper(0),
            2 => Prctl::SetChildSubreaper(7),
            _ => Prctl::SetChildSubreaper(1),
        })
    }

    fn pdeathsig(&mut self) -> Syscall {
        Syscall::Prctl(match self.random.below(8) {
            0 => Prctl::GetPdeathsig(self.pointer()),
            1 => Prctl::SetPdeathsig(0),
            2 => Prctl::SetPdeathsig(self.among(&[65, u64::MAX, 1 << 32])),
            _ => Prctl::SetPdeathsig(self.signal().number().into()),
        })
    }

    fn user_call(&mut self) -> Option<Syscall> {
        if self.world.users.is_empty() {
            return Some(if self.one_in(2) { Syscall::Setuid(0) } else { Syscall::Getresuid });
        }
        let mut users: Vec<u32> = self.world.users.iter().map(|user| user.0).collect();
        users.extend(if self.limited { [u32::MAX; 3] } else { [0, u32::MAX, u32::MAX] });
        let mut user = || users[self.random.below(users.len())];
        Some(match (user(), user(), user()) {
            (a, b, c) if a == b || b == c => Syscall::Setresuid { real: a, effective: b, saved: c },
            (a, b, _) if b == u32::MAX => Syscall::Setuid(a),
            (a, b, c) if self.one_in(2) => Syscall::Setresuid { real: a, effective: b, saved: c },
            (a, b, _) => Syscall::Setreuid { real: a, effective: b },
        })
    }

    /// A limit that the program alone fills: never one of the superuser's, whose counts it shares
    /// with the rest of the machine.
    fn limit_call(&mut self, pid: Pid, kernel: &Kernel) -> Option<Syscall> {
        let small = Rlimit { soft: self.random.below(6) as u64, hard: 100 };
        let target = if self.one_in(2) { 0 } else { self.process(pid, kernel, true) };
        let affected = if target == 0 { pid } else { Pid(target.unsigned_abs()) };
        let shared =
            kernel.real_user(affected).is_some_and(|user| !self.world.users.contains(&user));
        let new = match self.random.below(8) {
            0 => None,
            1 => Some(Rlimit { soft: 5, hard: 4 }),
            _ if shared => None,
            _ => {
                self.limited = true;
                Some(small)
            }
        };
        let resource = match self.random.below(12) {
            0 => Resource(self.among(&[16, 17, u32::MAX])),
            1..=4 => Resource::NPROC,
            _ => Resource::SIGPENDING,
        };
        Some(Syscall::Prlimit { pid: target, resource, new, old: self.optional_pointer() })
    }

    fn folder(&mut self) -> Syscall {
        match self.random.below(4) {
            0 => Syscall::Getcwd,
            1 => Syscall::Chdir { path: "/nonexistent".into(), error: Some(Errno::ENOENT) },
            2 => Syscall::Chdir { path: "/proc".into(), error: None },
            _ => Syscall::Chdir { path: "/".into(), error: None },
        }
    }

    fn itimer(&mut self) -> Syscall {
        let which = if self.one_in(12) { self.among(&[3, -1]) } else { ITIMER_REAL };
        if self.one_in(6) {
            return Syscall::Getitimer { which };
        }
        let mut ticks = |zero: usize| match self.random.below(zero) {
            0 => 0,
            _ => TICK * 1000 * (1 + self.random.below(4) as i64),
        };
        let (interval, mut value) = (ticks(2), ticks(5));
        if value > 0 {
            value -= TICK * 1000 * 2 / 3;
        }
        let mut new = Itimerval {
            interval: Timeval { sec: 0, usec: interval },
            value: Timeval { sec: 0, usec: value },
        };
        if self.one_in(10) {
            new.value = self.among(&[
                Timeval { sec: -1, usec: 0 },
                Timeval { sec: 0, usec: -1 },
                Timeval { sec: 0, usec: 1_000_000 },
            ]);
        }
        let new = if self.one_in(20) { None } else { Some(new) };
        Syscall::Setitimer { which, new, old: self.optional_pointer() }
    }
}
