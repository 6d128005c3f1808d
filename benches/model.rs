//! The cost of the model's calls at 10, 1,000 and 100,000 live processes.
//!
//! The processes are those of `benches/peers`: an init, whose children are shells, each with 8
//! children in a process group of their own. The shell in the middle makes the calls. If each call
//! needs preparation, a sample is one call, and includes a reading of the clock (some 20 ns).
//!
//! `cargo bench --bench model`

use std::cell::RefCell;

use divan::{Bencher, black_box};
use proctable::abi::{Handler, Pid, SigAction, WaitOptions};
use proctable::kernel::{Canonical, Config, Effects, Kernel, Outcome, Refused};
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const CHILDREN: usize = 8;
const TERM: i32 = 15;

fn main() {
    divan::main();
}

struct World {
    kernel: Kernel,
    effects: Effects,
    shell: Pid,
    children: [Pid; CHILDREN],
}

impl World {
    fn new(processes: usize) -> RefCell<World> {
        let mut world = World {
            kernel: Kernel::new(Config::default()),
            effects: Effects::new(),
            shell: Pid(1),
            children: [Pid(1); CHILDREN],
        };
        let jobs = processes / (CHILDREN + 1);
        let all: Vec<_> = (0..jobs).map(|_| world.job()).collect();
        (world.shell, world.children) = all[jobs / 2];
        RefCell::new(world)
    }

    /// A shell and its children, which catch SIGTERM.
    fn job(&mut self) -> (Pid, [Pid; CHILDREN]) {
        let shell = self.fork(Pid(1));
        self.call(shell, &Syscall::Setpgid { pid: 0, pgid: 0 }).expect("it runs");
        let act = Some(SigAction { handler: Handler::Catch(0x1000), ..SigAction::DEFAULT });
        let (old, size) = (Ptr::Null, SIGSET_SIZE);
        self.call(shell, &Syscall::RtSigaction { sig: TERM, act, old, size }).expect("it runs");
        let mut children = [Pid(0); CHILDREN];
        for at in 0..CHILDREN {
            children[at] = self.fork(shell);
            let (pid, pgid) = (children[at].0 as i32, children[0].0 as i32);
            self.call(shell, &Syscall::Setpgid { pid, pgid }).expect("it runs");
        }
        (shell, children)
    }

    #[inline]
    fn call(&mut self, by: Pid, call: &Syscall) -> Result<Outcome, Refused> {
        self.effects.clear();
        self.kernel.call(by, call, &mut self.effects)
    }

    fn settle(&mut self) {
        self.kernel.settle(&mut Canonical, &mut self.effects);
    }

    fn fork(&mut self, by: Pid) -> Pid {
        match self.call(by, &Syscall::Fork) {
            Ok(Outcome::Returned(Ok(Ret::Value(pid)))) => Pid(pid as u32),
            other => panic!("fork: {other:?}"),
        }
    }

    fn exit_and_wait(&mut self, child: Pid) -> Result<Outcome, Refused> {
        self.call(child, &Syscall::ExitGroup(0)).expect("it runs");
        self.settle();
        self.wait()
    }

    fn wait(&mut self) -> Result<Outcome, Refused> {
        let call = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::NOHANG };
        self.call(self.shell, &call)
    }
}

/// A call by the shell that changes no state.
fn repeat(bencher: Bencher, processes: usize, call: impl Fn(&World) -> Syscall) {
    let world = World::new(processes);
    let call = call(&world.borrow());
    let mut world = world.borrow_mut();
    let shell = world.shell;
    bencher.bench_local(|| assert!(black_box(&world.call(shell, black_box(&call))).is_ok()));
}

#[divan::bench(args = SIZES)]
fn kill_0(bencher: Bencher, processes: usize) {
    repeat(bencher, processes, |world| Syscall::Kill { pid: world.children[3].0 as i32, sig: 0 });
}

#[divan::bench(args = SIZES)]
fn getpgid(bencher: Bencher, processes: usize) {
    repeat(bencher, processes, |world| Syscall::Getpgid(world.children[3].0 as i32));
}

#[divan::bench(args = SIZES)]
fn wait_none(bencher: Bencher, processes: usize) {
    let options = WaitOptions::NOHANG;
    repeat(bencher, processes, |_| Syscall::Wait4 { pid: -1, status: Ptr::Valid, options });
}

/// Two joins: to the shell's group and back.
#[divan::bench(args = SIZES)]
fn setpgid_twice(bencher: Bencher, processes: usize) {
    let world = World::new(processes);
    let mut world = world.borrow_mut();
    let (shell, leader, child) = (world.shell, world.children[0], world.children[3].0 as i32);
    bencher.bench_local(|| {
        for group in [shell, leader] {
            let call = Syscall::Setpgid { pid: child, pgid: group.0 as i32 };
            assert!(black_box(&world.call(shell, &call)).is_ok());
        }
    });
}

/// The fork alone: before the next fork the child exits and is reaped, untimed.
#[divan::bench(args = SIZES, sample_size = 1, sample_count = 2000)]
fn fork(bencher: Bencher, processes: usize) {
    let world = World::new(processes);
    let born = RefCell::new(None);
    let reap = || {
        if let Some(child) = born.take() {
            world.borrow_mut().exit_and_wait(child).expect("the shell runs");
        }
    };
    bencher.with_inputs(reap).bench_local_values(|()| {
        let shell = world.borrow().shell;
        born.replace(Some(world.borrow_mut().fork(shell)));
    });
}

#[divan::bench(args = SIZES, sample_size = 1, sample_count = 2000)]
fn exit_wait(bencher: Bencher, processes: usize) {
    let world = World::new(processes);
    let spawn = || {
        let shell = world.borrow().shell;
        world.borrow_mut().fork(shell)
    };
    bencher.with_inputs(spawn).bench_local_values(|child| world.borrow_mut().exit_and_wait(child));
}

#[divan::bench(args = SIZES)]
fn spawn_exit_reap(bencher: Bencher, processes: usize) {
    let world = World::new(processes);
    let mut world = world.borrow_mut();
    let shell = world.shell;
    bencher.bench_local(|| {
        let child = world.fork(shell);
        world.exit_and_wait(child)
    });
}

/// Generation alone: before the next one the handlers run and return, untimed.
#[divan::bench(args = SIZES, sample_size = 1, sample_count = 2000)]
fn kill_group(bencher: Bencher, processes: usize) {
    signal_group(bencher, processes, false);
}

/// Generation, and the entry of the members into their handlers.
#[divan::bench(args = SIZES, sample_size = 1, sample_count = 2000)]
fn kill_group_delivered(bencher: Bencher, processes: usize) {
    signal_group(bencher, processes, true);
}

fn signal_group(bencher: Bencher, processes: usize, deliver: bool) {
    let world = World::new(processes);
    let (shell, children) = (world.borrow().shell, world.borrow().children);
    let call = Syscall::Kill { pid: -(children[0].0 as i32), sig: TERM };
    let sent = RefCell::new(false);
    let finish = || {
        if sent.replace(true) {
            let mut world = world.borrow_mut();
            world.settle();
            for child in children {
                world.call(child, &Syscall::RtSigreturn).expect("it runs its handler");
            }
        }
    };
    bencher.with_inputs(finish).bench_local_values(|()| {
        let mut world = world.borrow_mut();
        let outcome = world.call(shell, black_box(&call));
        if deliver {
            world.settle();
        }
        outcome
    });
}

#[divan::bench(args = SIZES)]
fn list_all(bencher: Bencher, processes: usize) {
    let world = World::new(processes);
    let kernel = &world.borrow().kernel;
    bencher.bench_local(|| {
        kernel.pids().filter_map(|pid| Some((pid, kernel.view(pid)?))).collect::<Vec<_>>()
    });
}
