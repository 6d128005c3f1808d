//! Choices, and the values of arguments.

use alloc::vec::Vec;

use super::profile::{Profile, StepKind};
use super::{GeneratorEnv, tasks};
use crate::abi::{Pid, SigSet, Signal};
use crate::kernel::{Choose, Kernel};
use crate::syscall::{MEMORY, Ptr, SIGSET_SIZE};

/// A number below `n`; 0 if there is no choice.
pub(super) fn below(choose: &mut dyn Choose, n: usize) -> usize {
    if n < 2 { 0 } else { choose.choose(n).min(n - 1) }
}

/// True once in `n` times: if the choice is the last alternative, so that canonical choices give
/// false.
pub(super) fn one_in(choose: &mut dyn Choose, n: usize) -> bool {
    below(choose, n) == n - 1
}

/// Draws one step.
pub(super) struct Draw<'a> {
    pub(super) choose: &'a mut dyn Choose,
    pub(super) kernel: &'a Kernel,
    pub(super) env: &'a GeneratorEnv,
    pub(super) profile: Profile,
    /// The task that acts.
    pub(super) caller: Pid,
    /// See [`Generator::limited`](super::Generator).
    pub(super) limited: &'a mut bool,
    /// See [`Generator::opened`](super::Generator).
    pub(super) opened: &'a [(u32, Pid)],
}

impl Draw<'_> {
    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        below(self.choose, n)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        one_in(self.choose, n)
    }

    /// A kind of step, drawn by weight.
    pub(super) fn weighted(&mut self, weights: &[(StepKind, u32)]) -> StepKind {
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(total as usize) as u32;
        for (kind, weight) in weights {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        StepKind::Fork
    }

    /// One of `choices`.
    pub(super) fn among<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number for a process argument: most often that of an existing process.
    pub(super) fn process(&mut self, zero: bool) -> i32 {
        let pid = self.any_process(zero);
        // no call names a process 1 that is not in the model
        if pid == 1 && self.kernel.config().first != Pid(1) { self.caller.0 as i32 } else { pid }
    }

    fn any_process(&mut self, zero: bool) -> i32 {
        match self.below(24) {
            0 => self.caller.0 as i32,
            5..=7 if zero => 0,
            1 => 0,
            2 => -1,
            3 => self.among(&[-1, i32::MIN, 99_999, i32::MAX, -99_999]),
            4 => 1 + self.below(20) as i32,
            _ => {
                let all: Vec<Pid> = self.kernel.pids().collect();
                self.among(&all).0 as i32
            }
        }
    }

    /// The target of a signal: a process, or sometimes the number of a thread.
    pub(super) fn target(&mut self) -> i32 {
        if self.kernel.task_count() == self.kernel.len() {
            return self.process(false);
        }
        if self.one_in(4) {
            return self.task();
        }
        if self.profile != Profile::Threads || self.one_in(3) {
            return self.process(false);
        }
        // a process with several threads, unless it is the first process
        let kernel = self.kernel;
        let threaded = |pid: &Pid| kernel.tids(*pid).nth(1).is_some();
        let several: Vec<Pid> = kernel.pids().skip(1).filter(threaded).collect();
        if several.is_empty() { self.process(false) } else { self.among(&several).0 as i32 }
    }

    /// A group, most often an existing one.
    pub(super) fn group(&mut self) -> i32 {
        let groups: Vec<i32> = self
            .kernel
            .pids()
            .filter_map(|pid| self.kernel.view(pid))
            .map(|view| view.pgid.0 as i32)
            .filter(|pgid| *pgid > 1)
            .collect();
        if groups.is_empty() || self.one_in(10) {
            return 1 + self.below(20) as i32;
        }
        self.among(&groups)
    }

    pub(super) fn signal(&mut self) -> Signal {
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
        // few signals, so that programs send the signals that they catch, block and wait for
        const OF_THREADS: [Signal; 8] = [
            Signal::USR1,
            Signal::USR1,
            Signal::USR2,
            Signal::USR2,
            Signal::CHLD,
            Signal::STOP,
            Signal::CONT,
            Signal::TERM,
        ];
        if self.profile == Profile::Threads && !self.one_in(4) {
            return self.among(&OF_THREADS);
        }
        match self.below(10) {
            0..=4 => self.among(&JOBS),
            5..=6 => self.among(&PLAIN),
            7 => self.realtime(),
            _ => self.any_signal(),
        }
    }

    pub(super) fn realtime(&mut self) -> Signal {
        let all: Vec<Signal> = Signal::all().filter(|signal| signal.is_realtime()).collect();
        if self.one_in(3) { self.among(&all) } else { all[self.below(3)] }
    }

    pub(super) fn any_signal(&mut self) -> Signal {
        let all: Vec<Signal> = Signal::all().collect();
        self.among(&all)
    }

    pub(super) fn signal_number(&mut self) -> i32 {
        match self.below(30) {
            0 | 1 => 0,
            2 => self.among(&[65, -1, 1000]),
            _ => i32::from(self.signal().number()),
        }
    }

    pub(super) fn set(&mut self) -> SigSet {
        match self.below(8) {
            0 => SigSet::EMPTY,
            1 => SigSet::FULL,
            2 => SigSet::FULL.without(self.signal()),
            _ => {
                let count = 1 + self.below(4);
                (0..count).map(|_| self.signal()).collect()
            }
        }
    }

    pub(super) fn size(&mut self) -> usize {
        if self.one_in(40) { self.among(&[0, 1, 4, 7, 16, usize::MAX]) } else { SIGSET_SIZE }
    }

    pub(super) fn pointer(&mut self) -> Ptr {
        match self.below(40) {
            0 => Ptr::Bad,
            1 => Ptr::Null,
            _ => Ptr::Valid,
        }
    }

    pub(super) fn optional_pointer(&mut self) -> Ptr {
        match self.below(12) {
            0 => Ptr::Bad,
            1..=3 => Ptr::Null,
            _ => Ptr::Valid,
        }
    }

    /// A task as an argument: most often an existing one.
    pub(super) fn task(&mut self) -> i32 {
        if self.one_in(6) {
            return self.process(false);
        }
        let all: Vec<Pid> = tasks(self.kernel).collect();
        self.among(&all).0 as i32
    }

    /// The process of a task; the number itself if there is no such task.
    pub(super) fn process_of(&self, tid: i32) -> i32 {
        let view = u32::try_from(tid).ok().and_then(|tid| self.kernel.view(Pid(tid)));
        view.map_or(tid, |view| view.tgid.0 as i32)
    }

    /// The address of a word: in mapped memory, NULL, or an address that is never mapped.
    pub(super) fn address(&mut self) -> u64 {
        self.among(&[MEMORY, MEMORY, 0, 8])
    }
}
