//! Processes, groups, users, limits, directories.

use alloc::vec::Vec;

use super::draw::Draw;
use super::profile::Profile;
use crate::abi::{Errno, IdType, Pid, Resource, Rlimit, Signal, WaitOptions};
use crate::syscall::{Prctl, Syscall, clone};

impl Draw<'_> {
    pub(super) fn clone_call(&mut self) -> Syscall {
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

    /// Any combination of flags; most combinations are valid.
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
        let signal = match self.below(4) {
            0 => 0,
            1 => u64::from(Signal::CHLD.number()),
            2 => self.below(66) as u64,
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

    pub(super) fn exec_call(&mut self) -> Syscall {
        match self.below(10) {
            0 => Syscall::Execve { path: "/nonexistent".into(), error: Some(Errno::ENOENT) },
            1 => Syscall::Execve { path: "/proc".into(), error: Some(Errno::EACCES) },
            _ => match &self.env.program {
                Some(program) => Syscall::Execve { path: program.clone(), error: None },
                None => Syscall::Getppid,
            },
        }
    }

    pub(super) fn exit_call(&mut self) -> Syscall {
        let code = self.among(&[0, 1, 2, 3, 127, 255, 256, 257, -1, 300, 0x1234_5678]);
        let thread =
            if self.profile == Profile::Threads { !self.one_in(5) } else { self.one_in(3) };
        if thread { Syscall::Exit(code) } else { Syscall::ExitGroup(code) }
    }

    fn wait_options(&mut self, events: &[WaitOptions]) -> WaitOptions {
        let mut options = WaitOptions::default();
        for event in events {
            if self.one_in(2) {
                options = options.with(*event);
            }
        }
        // a task that sleeps makes few calls, so only programs about sleeps make them frequently
        let sleeps = matches!(self.profile, Profile::Waits | Profile::Handlers | Profile::Threads);
        if !self.one_in(if sleeps { 2 } else { 4 }) {
            options = options.with(WaitOptions::NOHANG);
        }
        match self.below(20) {
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

    pub(super) fn wait_call(&mut self) -> Syscall {
        if self.one_in(2) {
            return self.waitid_call();
        }
        let mut options = self.wait_options(&[WaitOptions::STOPPED, WaitOptions::CONTINUED]);
        if self.one_in(30) {
            options = options.with(self.among(&[WaitOptions::NOWAIT, WaitOptions::EXITED]));
        }
        let pid = match self.below(8) {
            0 => 0,
            1..=3 => -1,
            4 | 5 => -self.group(),
            _ => self.process(false),
        };
        Syscall::Wait4 { pid, status: self.optional_pointer(), options }
    }

    fn waitid_call(&mut self) -> Syscall {
        let mut options = self.wait_options(&[
            WaitOptions::EXITED,
            WaitOptions::EXITED,
            WaitOptions::STOPPED,
            WaitOptions::CONTINUED,
        ]);
        if self.one_in(4) {
            options = options.with(WaitOptions::NOWAIT);
        }
        let (idtype, id) = match self.below(10) {
            0..=3 => (IdType::ALL, self.among(&[0, 0, -1, 77])),
            4..=6 => (IdType::PID, self.process(false)),
            7 | 8 => (IdType::PGID, self.among(&[0, -1, 1, 2, 3])),
            _ => (self.among(&[IdType(4), IdType(-1), IdType::PIDFD]), self.among(&[-1, 777])),
        };
        let id = if idtype == IdType::PGID && self.one_in(2) { self.group() } else { id };
        Syscall::Waitid { idtype, id, info: self.optional_pointer(), options }
    }

    pub(super) fn setpgid(&mut self) -> Option<Syscall> {
        let pid = self.process(true);
        // also groups whose leader has ended
        let pgid = if self.one_in(4) { self.group() } else { self.process(true) };
        // NS-08: on the live kernel an init that dies in the group of another process never ends
        let foreign = pgid > 1
            && self
                .kernel
                .pids()
                .filter_map(|pid| self.kernel.view(pid))
                .any(|v| v.pgid.0 as i32 == pgid);
        let deadly = self.caller == Pid(1) && matches!(pid, 0 | 1) && foreign;
        (!deadly).then_some(Syscall::Setpgid { pid, pgid })
    }

    pub(super) fn group_getter(&mut self) -> Syscall {
        match self.below(5) {
            0 => Syscall::Getpgrp,
            1 | 2 => Syscall::Getpgid(self.process(true)),
            _ => Syscall::Getsid(self.process(true)),
        }
    }

    pub(super) fn getter(&mut self) -> Syscall {
        match self.below(8) {
            0 => Syscall::Getpid,
            1 => Syscall::Gettid,
            2 => Syscall::Getresuid,
            3 => Syscall::Getuid,
            4 => Syscall::Geteuid,
            _ => Syscall::Getppid,
        }
    }

    pub(super) fn subreaper(&mut self) -> Syscall {
        Syscall::Prctl(match self.below(5) {
            0 => Prctl::GetChildSubreaper(self.pointer()),
            1 => Prctl::SetChildSubreaper(0),
            2 => Prctl::SetChildSubreaper(7),
            _ => Prctl::SetChildSubreaper(1),
        })
    }

    pub(super) fn pdeathsig(&mut self) -> Syscall {
        Syscall::Prctl(match self.below(8) {
            0 => Prctl::GetPdeathsig(self.pointer()),
            1 => Prctl::SetPdeathsig(0),
            2 => Prctl::SetPdeathsig(self.among(&[65, u64::MAX, 1 << 32])),
            _ => Prctl::SetPdeathsig(self.signal().number().into()),
        })
    }

    pub(super) fn user_call(&mut self) -> Option<Syscall> {
        if self.env.users.is_empty() {
            return Some(if self.one_in(2) { Syscall::Setuid(0) } else { Syscall::Getresuid });
        }
        let mut users: Vec<u32> = self.env.users.iter().map(|user| user.0).collect();
        users.extend(if *self.limited { [u32::MAX; 3] } else { [0, u32::MAX, u32::MAX] });
        let mut user = || users[self.below(users.len())];
        Some(match (user(), user(), user()) {
            (a, b, c) if a == b || b == c => Syscall::Setresuid { real: a, effective: b, saved: c },
            (a, b, _) if b == u32::MAX => Syscall::Setuid(a),
            (a, b, c) if self.one_in(2) => Syscall::Setresuid { real: a, effective: b, saved: c },
            (a, b, _) => Syscall::Setreuid { real: a, effective: b },
        })
    }

    /// A limit on a count of the program alone: never on a count of root, which a program shares
    /// with the rest of the machine.
    pub(super) fn limit_call(&mut self) -> Option<Syscall> {
        let small = Rlimit { soft: self.below(6) as u64, hard: 100 };
        let target = if self.one_in(2) { 0 } else { self.process(true) };
        let affected = if target == 0 { self.caller } else { Pid(target.unsigned_abs()) };
        // a limit belongs to the whole process, and its threads may have several users
        let process = Pid(self.process_of(affected.0 as i32).unsigned_abs());
        let users = self.kernel.tids(process).filter_map(|tid| self.kernel.real_user(tid));
        let shared = users.into_iter().any(|user| !self.env.users.contains(&user));
        let new = match self.below(8) {
            0 => None,
            1 => Some(Rlimit { soft: 5, hard: 4 }),
            _ if shared => None,
            _ => {
                *self.limited = true;
                Some(small)
            }
        };
        let resource = match self.below(12) {
            0 => Resource(self.among(&[16, 17, u32::MAX])),
            1..=4 => Resource::NPROC,
            _ => Resource::SIGPENDING,
        };
        Some(Syscall::Prlimit { pid: target, resource, new, old: self.optional_pointer() })
    }

    pub(super) fn directory(&mut self) -> Syscall {
        match self.below(4) {
            0 => Syscall::Getcwd,
            1 => Syscall::Chdir { path: "/nonexistent".into(), error: Some(Errno::ENOENT) },
            2 => Syscall::Chdir { path: "/proc".into(), error: None },
            _ => Syscall::Chdir { path: "/".into(), error: None },
        }
    }
}
