//! The reduction of a program that fails.

use super::{Action, Program};

/// Removes steps from `program` as long as `fails` returns true, first many at a time, then one by
/// one, until no single step can be removed; then removes calls from steps in which several tasks
/// make calls at once.
///
/// Costs at most a run for each step and each halving, times the number of rounds that remove a
/// step.
pub fn shrink(mut program: Program, mut fails: impl FnMut(&Program) -> bool) -> Program {
    let mut chunk = program.steps.len().next_power_of_two();
    while chunk > 0 {
        let mut shrunk = false;
        let mut at = 0;
        while at < program.steps.len() {
            let mut shorter = program.clone();
            let end = (at + chunk).min(shorter.steps.len());
            shorter.steps.drain(at..end);
            if fails(&shorter) {
                program = shorter;
                shrunk = true;
            } else {
                at += chunk;
            }
        }
        if !shrunk || chunk > 1 {
            chunk /= 2;
        }
    }
    for at in 0..program.steps.len() {
        let mut nth = 0;
        while let Action::Concurrent(calls) = &program.steps[at].action {
            if nth == calls.len() || calls.len() == 1 {
                break;
            }
            let mut fewer = program.clone();
            if let Action::Concurrent(calls) = &mut fewer.steps[at].action {
                calls.remove(nth);
            }
            if fails(&fewer) {
                program = fewer;
            } else {
                nth += 1;
            }
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Pid;
    use crate::kernel::Config;
    use crate::sim::Step;
    use crate::syscall::Syscall;
    use alloc::vec;

    #[test]
    fn only_the_steps_that_matter_stay() {
        let step = |nanos| Step { tid: Pid(1), action: Action::Elapse(nanos) };
        let steps = (0..100).map(step).collect();
        let program = Program { config: Config::default(), stay_in_handlers: false, steps };
        let needed = [step(17), step(60), step(61)];
        let small = shrink(program, |program| needed.iter().all(|n| program.steps.contains(n)));
        assert_eq!(small.steps, needed);
    }

    #[test]
    fn only_the_calls_that_matter_stay() {
        let calls = [1, 2, 3].map(|tid| (Pid(tid), Syscall::Getpid)).to_vec();
        let step = Step { tid: Pid(0), action: Action::Concurrent(calls) };
        let steps = vec![step.clone(), step];
        let program = Program { config: Config::default(), stay_in_handlers: false, steps };
        let small = shrink(program, |program| {
            let all = program.steps.iter().flat_map(|step| step.action.calls(step.tid));
            let by = |number| all.clone().any(|(tid, _)| tid == Pid(number));
            by(1) && by(3)
        });
        let left = [Pid(1), Pid(3)].map(|tid| (tid, Syscall::Getpid)).to_vec();
        assert_eq!(small.steps, [Step { tid: Pid(0), action: Action::Concurrent(left) }]);
    }
}
