//! The model.

use proctable::abi::{Handler, Pid, SigAction, WaitOptions};
use proctable::kernel::{Canonical, Config, Effects, Kernel, Outcome, Refused, RunState};
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall, clone};

use super::{CHILDREN, Concurrent, Engine, JOB, Op, look};

const TERM: i32 = 15;

pub struct Ours {
    kernel: Kernel,
    effects: Effects,
    jobs: Vec<Job>,
    /// The ninth child, if an operation has one.
    extra: Pid,
}

struct Job {
    shell: Pid,
    children: [Pid; CHILDREN],
}

impl Ours {
    pub fn new(jobs: usize) -> Ours {
        let mut ours = Ours {
            kernel: Kernel::new(Config::default()),
            effects: Effects::without_rules(),
            jobs: Vec::new(),
            extra: Pid(0),
        };
        ours.jobs = (0..jobs).map(|_| ours.job()).collect();
        ours
    }

    /// The size of the kernel, without the list of jobs.
    pub fn bytes_of(jobs: usize) -> usize {
        let mut world = None;
        let bytes = crate::alloc::bytes_of(|| world = Some(Ours::new(jobs)));
        bytes - world.map_or(0, |world| world.jobs.capacity() * size_of::<Job>())
    }

    /// The size of a process with that many threads besides its leader, and of the kernel.
    pub fn bytes_of_threads(threads: usize) -> usize {
        let flags = clone::THREAD | clone::VM | clone::SIGHAND;
        let create = Syscall::Clone { flags, clone3: None, parent_tid: 0, child_tid: 0 };
        crate::alloc::bytes_of(|| {
            let mut ours = Ours::new(0);
            for _ in 0..threads {
                let created = ours.call(Pid(1), &create);
                assert!(matches!(created, Ok(Outcome::Returned(Ok(_)))), "{created:?}");
            }
            ours
        })
    }

    fn job(&mut self) -> Job {
        let shell = self.fork(Pid(1));
        self.timed(shell, &Syscall::Setpgid { pid: 0, pgid: 0 });
        let act = Some(SigAction { handler: Handler::Catch(0x1000), ..SigAction::DEFAULT });
        self.timed(
            shell,
            &Syscall::RtSigaction { sig: TERM, act, old: Ptr::Null, size: SIGSET_SIZE },
        );
        let mut children = [Pid(0); CHILDREN];
        for at in 0..CHILDREN {
            children[at] = self.fork(shell);
            let pid = children[at].0 as i32;
            self.timed(shell, &Syscall::Setpgid { pid, pgid: children[0].0 as i32 });
        }
        Job { shell, children }
    }

    #[inline]
    fn call(&mut self, by: Pid, call: &Syscall) -> Result<Outcome, Refused> {
        self.effects.clear();
        self.kernel.call(by, call, &mut self.effects)
    }

    /// Makes a call and uses its result only through `black_box`.
    #[inline]
    fn timed(&mut self, by: Pid, call: &Syscall) {
        look(self.call(by, call));
    }

    #[inline]
    fn settle(&mut self) {
        self.kernel.settle(&mut Canonical, &mut self.effects);
    }

    #[inline]
    fn fork(&mut self, by: Pid) -> Pid {
        match self.call(by, &Syscall::Fork) {
            Ok(Outcome::Returned(Ok(Ret::Value(pid)))) => Pid(pid as u32),
            other => panic!("fork: {other:?}"),
        }
    }

    #[inline]
    fn wait(&mut self, by: Pid) -> Result<Outcome, Refused> {
        let call = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::NOHANG };
        self.call(by, &call)
    }

    #[inline]
    fn exit_and_wait(&mut self, shell: Pid, child: Pid) {
        self.timed(child, &Syscall::ExitGroup(0));
        self.settle();
        look(self.wait(shell));
    }

    fn list(&self) -> Vec<(Pid, proctable::kernel::View)> {
        self.kernel.pids().filter_map(|pid| Some((pid, self.kernel.view(pid)?))).collect()
    }
}

impl Engine for Ours {
    fn name(&self) -> &'static str {
        "model"
    }

    fn before(&mut self, op: Op, job: usize) {
        if op == Op::ExitWait {
            self.extra = self.fork(self.jobs[job].shell);
        }
    }

    #[inline]
    fn run(&mut self, op: Op, job: usize, child: usize) {
        let Job { shell, ref children } = self.jobs[job];
        let pid = children[child].0 as i32;
        match op {
            Op::Fork => self.extra = self.fork(shell),
            Op::Probe => self.timed(shell, &Syscall::Kill { pid, sig: 0 }),
            Op::KillGroup => {
                let pid = -(children[0].0 as i32);
                self.timed(shell, &Syscall::Kill { pid, sig: TERM });
            }
            Op::KillGroupDelivered => {
                let pid = -(children[0].0 as i32);
                self.timed(shell, &Syscall::Kill { pid, sig: TERM });
                self.settle();
            }
            Op::WaitNone => look(self.wait(shell)),
            Op::ExitWait => self.exit_and_wait(shell, self.extra),
            Op::SpawnExitReap => {
                let child = self.fork(shell);
                self.exit_and_wait(shell, child);
            }
            Op::JoinGroup => {
                for group in [shell, children[0]] {
                    self.timed(shell, &Syscall::Setpgid { pid, pgid: group.0 as i32 });
                }
            }
            Op::Getpgid => self.timed(shell, &Syscall::Getpgid(pid)),
            Op::GetpgidEnv => {
                let pid = self.jobs[0].shell.0 as i32;
                self.timed(shell, &Syscall::Getpgid(pid));
            }
            Op::List => look(self.list()),
            Op::Churn(_) | Op::ExitBeside(_) | Op::ExitToReturn(_) | Op::ExitToAny(_) => {}
        }
    }

    fn after(&mut self, op: Op, job: usize) {
        let shell = self.jobs[job].shell;
        match op {
            Op::Fork => self.exit_and_wait(shell, self.extra),
            Op::KillGroup | Op::KillGroupDelivered => {
                self.settle();
                for child in self.jobs[job].children {
                    self.timed(child, &Syscall::RtSigreturn);
                }
            }
            _ => {}
        }
    }

    fn concurrent(&self) -> Option<&dyn Concurrent> {
        None
    }

    fn check(&mut self) {
        let Job { shell, children } = self.jobs[0];
        assert_eq!(self.kernel.len(), 1 + self.jobs.len() * JOB);
        assert_eq!(self.list().len(), self.kernel.len());
        let value = |value| Ok(Outcome::Returned(Ok(Ret::Value(value))));
        let pgid = i64::from(children[0].0);
        assert_eq!(self.call(shell, &Syscall::Getpgid(children[7].0 as i32)), value(pgid));
        let none = Ok(Outcome::Returned(Ok(Ret::Waited { pid: Pid(0), status: None })));
        assert_eq!(self.wait(shell), none);
        self.run(Op::KillGroup, 0, 0);
        assert_eq!(self.effects.list().len(), 8);
        self.settle();
        assert!(children.iter().all(|child| self.kernel.handler(*child).is_some()));
        self.after(Op::KillGroup, 0);
        let child = self.fork(shell);
        self.timed(child, &Syscall::ExitGroup(0));
        assert_eq!(self.kernel.view(child).map(|view| view.run), Some(RunState::Zombie));
        assert!(self.wait(shell).is_ok());
        assert_eq!(self.kernel.view(child), None);
    }
}
