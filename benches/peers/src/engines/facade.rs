//! The model behind `ProcessTable`.

use std::sync::Arc;

use proctable::abi::{Handler, Pgid, Pid, SigAction, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Delivery, DriverProcess};
use proctable::kernel::RunState;
use proctable::syscall::Syscall;
use proctable::table::{Image, Process, ProcessTable, Spawn, WaitTarget};

use super::{CHILDREN, Concurrent, Engine, JOB, Op, look};

/// The cheapest driver that the table calls: it keeps no driver queue for `NullDriver`.
pub struct Idle;

impl DriverProcess for Idle {
    fn deliver(&self, _: Delivery) {}
    fn stop(&self, _: Signal) {}
    fn resume(&self) {}
    fn terminate(&self, _: WaitStatus) {}
}

pub struct Table {
    guests: World,
    /// The same processes with children under the host's authority, for the row that signals them.
    hosted: World,
    driver: Arc<Idle>,
    /// The ninth child, if an operation has one.
    extra: Option<Process>,
}

struct World {
    table: ProcessTable,
    jobs: Vec<Job>,
}

struct Job {
    shell: Process,
    children: [Pid; CHILDREN],
}

impl World {
    /// `decorate` gives each child its driver.
    fn new(jobs: usize, decorate: impl Fn(Spawn) -> Spawn) -> World {
        let mut world = World { table: ProcessTable::new(), jobs: Vec::with_capacity(jobs) };
        for nth in 0..jobs {
            let job = world.job(nth, &decorate);
            world.jobs.push(job);
        }
        world
    }

    fn job(&self, nth: usize, decorate: impl Fn(Spawn) -> Spawn) -> Job {
        let variables = if nth == 0 { 20 } else { 0 };
        let env = (0..variables).map(|nth| format!("VARIABLE_{nth}=value-of-variable-{nth}"));
        let image = Image { env: env.collect(), ..Image::new("c") };
        let spawn = decorate(Spawn::new(image).own_group());
        let shell = self.table.spawn(spawn).expect("there is room");
        let action = SigAction { handler: Handler::Catch(0x1000), ..SigAction::DEFAULT };
        shell.sigaction(Signal::TERM, action).expect("it can be caught");
        let mut children = [Pid(0); CHILDREN];
        for at in 0..CHILDREN {
            let child = shell.spawn(decorate(Spawn::fork())).expect("there is room");
            children[at] = child.pid();
            shell.setpgid(children[at], children[0].into()).expect("the job's group");
        }
        Job { shell, children }
    }
}

impl Table {
    pub fn new(jobs: usize) -> Table {
        let driver = Arc::new(Idle);
        let driven = |spawn: Spawn| spawn.driver(driver.clone());
        let guests = World::new(jobs, driven);
        let hosted = World::new(jobs, |spawn| driven(spawn).authority(Authority::Host));
        Table { guests, hosted, driver, extra: None }
    }

    /// The table alone, for its bytes: without and with drivers.
    pub fn bytes_of(jobs: usize, with_drivers: bool) -> usize {
        let mut world = None;
        let driver = Arc::new(Idle);
        let decorate =
            |spawn: Spawn| if with_drivers { spawn.driver(driver.clone()) } else { spawn };
        let bytes = crate::alloc::bytes_of(|| world = Some(World::new(jobs, decorate)));
        bytes - world.map_or(0, |world| world.jobs.capacity() * size_of::<Job>())
    }

    #[inline]
    fn register(&self, shell: &Process) -> Process {
        let spawn = Spawn::new(Image::new("c")).driver(self.driver.clone());
        shell.spawn(spawn).expect("there is room")
    }

    #[inline]
    fn exit_and_wait(&self, shell: &Process, child: &Process) {
        child.report(WaitStatus::exited(0));
        look(shell.try_wait(WaitTarget::Any, WaitOptions::EXITED));
    }
}

impl Engine for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn before(&mut self, op: Op, job: usize) {
        if op == Op::ExitWait {
            self.extra = Some(self.register(&self.guests.jobs[job].shell));
        }
    }

    #[inline]
    fn run(&mut self, op: Op, job: usize, child: usize) {
        let Job { ref shell, ref children } = self.guests.jobs[job];
        let pid = children[child];
        match op {
            Op::Fork => self.extra = Some(self.register(shell)),
            Op::Probe => look(shell.may_kill(pid)),
            Op::KillGroup => {
                let Job { shell, children } = &self.hosted.jobs[job];
                look(shell.kill_group(children[0].into(), Signal::TERM));
            }
            Op::KillGroupDelivered => {
                look(shell.kill_group(children[0].into(), Signal::TERM));
            }
            Op::WaitNone => look(shell.try_wait(WaitTarget::Any, WaitOptions::EXITED)),
            Op::ExitWait => {
                if let Some(extra) = &self.extra {
                    self.exit_and_wait(shell, extra);
                }
            }
            Op::SpawnExitReap => {
                let child = self.register(shell);
                self.exit_and_wait(shell, &child);
            }
            Op::JoinGroup => {
                for group in [shell.pid(), children[0]] {
                    look(shell.setpgid(pid, group.into()));
                }
            }
            Op::Getpgid => look(shell.getpgid(pid)),
            Op::GetpgidEnv => look(shell.getpgid(self.guests.jobs[0].shell.pid())),
            Op::List => look(self.guests.table.list()),
            Op::Churn(_) | Op::ExitBeside(_) | Op::ExitToReturn(_) | Op::ExitToAny(_) => {}
        }
    }

    fn after(&mut self, op: Op, job: usize) {
        let Job { ref shell, ref children } = self.guests.jobs[job];
        match op {
            Op::Fork => {
                if let Some(extra) = self.extra.take() {
                    self.exit_and_wait(shell, &extra);
                }
            }
            Op::KillGroupDelivered => {
                for child in children {
                    look(self.guests.table.syscall(*child, Syscall::RtSigreturn));
                }
            }
            _ => {}
        }
    }

    fn concurrent(&self) -> Option<&dyn Concurrent> {
        Some(self)
    }

    fn check(&mut self) {
        let Job { ref shell, ref children } = self.guests.jobs[0];
        let table = &self.guests.table;
        assert_eq!(table.counts().processes, 1 + self.guests.jobs.len() * JOB);
        assert_eq!(table.list().len(), table.counts().processes);
        assert_eq!(shell.getpgid(children[7]), Ok(Pgid::from(children[0])));
        assert_eq!(shell.try_wait(WaitTarget::Any, WaitOptions::EXITED), Ok(None));
        let child = self.register(shell);
        child.report(WaitStatus::exited(3));
        assert_eq!(child.info().map(|info| info.run), Some(RunState::Zombie));
        let waited = shell.try_wait(WaitTarget::Any, WaitOptions::EXITED);
        assert!(waited.is_ok_and(|waited| waited.is_some_and(|waited| waited.pid == child.pid())));
        assert_eq!(child.info(), None);
    }
}

impl Concurrent for Table {
    fn churn(&self, job: usize) {
        let shell = &self.guests.jobs[job].shell;
        let child = self.register(shell);
        child.report(WaitStatus::exited(0));
        look(shell.try_wait(&child, WaitOptions::EXITED));
    }

    fn spawn(&self, job: usize) -> u32 {
        self.register(&self.guests.jobs[job].shell).pid().0
    }

    fn exit(&self, pid: u32) {
        look(self.guests.table.syscall(Pid(pid), Syscall::ExitGroup(0)));
    }

    fn reap(&self, job: usize, pid: u32) {
        look(self.guests.jobs[job].shell.try_wait(Pid(pid), WaitOptions::EXITED));
    }

    fn wait(&self, job: usize, pid: u32) {
        look(self.guests.jobs[job].shell.wait(Pid(pid), WaitOptions::EXITED));
    }

    fn wait_for_any(&self, job: usize) {
        look(self.guests.jobs[job].shell.wait(WaitTarget::Any, WaitOptions::EXITED));
    }
}
