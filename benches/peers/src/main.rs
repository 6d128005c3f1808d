//! The model beside the two process tables that a user would pick instead, in one run.
//!
//! Prints nanoseconds per operation at 10, 1,000 and 100,000 live processes and bytes per
//! process, and ends with status 1 if a target is missed. `--quick` takes fewer rounds, `--ours`
//! leaves the peers out, any other argument is the beginning of the names of the rows to take.
//!
//! # The world
//!
//! Process 1 is the init. Its children are shells, each with a group of its own; each shell has 8
//! children, which share a group that the first of them leads. So 10, 1,000 and 100,000 processes
//! are 1, 111 and 11,111 such jobs. All are in one session, nobody has an environment (but for the
//! row that says so), all run, no signal is blocked. The operations are done in the job in the
//! middle; a fourth line, `scattered`, does them at 100,000 processes in jobs drawn at random, the
//! same for all engines, so that nothing is in a cache: it is shown, and not judged.
//!
//! # The engines
//!
//! - `ours`: `proctable::kernel::Kernel`, one call of `Kernel::call` per operation, and
//!   `Kernel::settle` where tasks have to run by themselves. Effects are collected, and cleared
//!   before each operation. No lock: the model has none.
//! - `agentos`: `ProcessTable` of agentos-kernel; `secure`: the same of secure-exec-kernel. Each
//!   takes its own uncontended lock in every operation: that cannot be switched off. Their driver
//!   is one shared object whose three methods do nothing.
//!
//! # Operations
//!
//! What each engine does stands at the rows in [`ROWS`]. Rows with several threads or with blocked
//! waiters belong to a facade with a lock and are not here.

mod alloc;
mod engines;
mod measure;

use std::process::ExitCode;

use engines::{Engine, Op};

/// One row: an operation, what it is, and what is asked of it.
pub struct Row {
    pub name: &'static str,
    pub op: Op,
    /// What each engine does in it.
    pub does: &'static str,
    /// At least so many times faster at 1,000 and at 100,000 processes.
    pub faster: Option<(f64, f64)>,
    /// It touches all processes: its cost may grow with their number.
    pub touches_all: bool,
    /// Shown, and not judged.
    pub shown_only: bool,
}

const SCAN: Option<(f64, f64)> = Some((10.0, 1000.0));

const fn row(name: &'static str, op: Op, faster: Option<(f64, f64)>, does: &'static str) -> Row {
    Row { name, op, does, faster, touches_all: false, shown_only: false }
}

pub const ROWS: [Row; 11] = [
    row(
        "fork",
        Op::Fork,
        None,
        "ours: fork by the shell. Theirs: allocate_pid and register, with the shell as parent, \
         short names, no arguments, an empty environment.",
    ),
    row(
        "kill(pid, 0)",
        Op::Probe,
        None,
        "ours: by the shell to a child of its own. Theirs: kill(pid, 0), which has no caller.",
    ),
    row(
        "kill(-pgid, TERM), 8 members",
        Op::KillGroup,
        SCAN,
        "ours: by the shell to its children, who catch SIGTERM: permission is checked, the signal \
         becomes pending with its record, each target is put in the run queue, eight effects say \
         so; the handlers run untimed. Theirs: the driver's kill is called eight times and does nothing.",
    ),
    Row {
        shown_only: true,
        ..row(
            "the same, delivered",
            Op::KillGroupDelivered,
            None,
            "ours: as before, and then the eight targets run and enter their handlers (settle). \
         Theirs: as before.",
        )
    },
    row(
        "wait any, WNOHANG, 8 children",
        Op::WaitNone,
        SCAN,
        "by the shell; no child has anything to report.",
    ),
    row(
        "exit + wait",
        Op::ExitWait,
        SCAN,
        "ours: a ninth child calls exit_group(0), settle, the shell calls wait4(-1, WNOHANG). \
         Theirs: mark_exited(pid, 0), waitpid_for(shell, -1, WNOHANG).",
    ),
    row("spawn + exit + reap", Op::SpawnExitReap, SCAN, "`fork`, then `exit + wait`."),
    row(
        "setpgid join",
        Op::JoinGroup,
        None,
        "a child moves between the shell's group and the children's: ours by a call of the shell.",
    ),
    row("getpgid", Op::Getpgid, None, "of a child: ours by a call of the shell."),
    row(
        "getpgid, 20 variables",
        Op::GetpgidEnv,
        None,
        "of the first shell, whose environment has 20 variables where the engine keeps one.",
    ),
    Row {
        touches_all: true,
        ..row(
            "list all",
            Op::List,
            None,
            "ours: a Vec of number and `View` (state, parent, group, session, five signal sets). \
         Theirs: list_processes, a map of ProcessInfo, which has names and users as well.",
        )
    },
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map(|at| arguments.remove(at)).is_some()
    };
    let (quick, ours_only) = (option("--quick"), option("--ours"));
    let mut report = measure::Report::new(quick, ours_only, arguments.join(" "));
    for size in measure::SIZES {
        report.measure_times(size);
    }
    report.measure_bytes();
    if report.print() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All engines with the same world, in the order of the columns.
pub fn engines(jobs: usize, ours_only: bool) -> Vec<Box<dyn Engine>> {
    let mut all: Vec<Box<dyn Engine>> = vec![Box::new(engines::ours::Ours::new(jobs))];
    if !ours_only {
        all.push(Box::new(engines::agentos::Table::new(jobs)));
        all.push(Box::new(engines::secure::Table::new(jobs)));
    }
    all
}
