//! The model and the table above it, compared in one run with the two process tables that a user
//! would choose instead.
//!
//! Prints nanoseconds per operation at 10, 1,000 and 100,000 live processes and bytes per process,
//! and ends with status 1 if a target is missed. `--quick` takes fewer rounds, `--ours` omits the
//! peers, any other argument selects the rows whose names begin with it. `--scale` measures the
//! table with large numbers of processes instead: see `scale.rs`.
//!
//! # The world
//!
//! Process 1 is the init. Its children are shells, each with a process group of its own; each shell
//! has 8 children, which share a group that the first of them leads. So 10, 1,000 and 100,000
//! processes are 1, 111 and 11,111 such jobs. All are in one session, none has an environment (but
//! for the row that says so), all run, no signal is blocked. The operations are performed in the
//! job in the middle; a fourth line, `scattered`, performs them at 100,000 processes in jobs drawn
//! at random, the same for all engines, so that no data is in a cache: it is shown, and not judged.
//!
//! # The engines
//!
//! - `model`: `proctable::kernel::Kernel`, one call of `Kernel::call` per operation, and
//!   `Kernel::settle` if tasks have to run by themselves. Effects are collected, each with its
//!   cause, and cleared before each operation; rules without an effect are not recorded
//!   (`Effects::without_rules`), as in the table. There is no lock: the model has none.
//! - `table`: `proctable::table::ProcessTable`, through handles of the shells. Every process has a
//!   driver whose methods do nothing, one object for all, which the table calls outside of its
//!   lock.
//! - `agentos`: `ProcessTable` of agentos-kernel; `secure`: the same of secure-exec-kernel. Each
//!   takes its own uncontended lock in every operation, which cannot be disabled. Their driver is
//!   one shared object whose three methods do nothing.
//!
//! # Operations
//!
//! [`ROWS`] describes what each engine does. The model has no lock: rows with several threads have
//! no figure for it.

mod alloc;
mod concurrent;
mod engines;
mod measure;
mod scale;

use std::process::ExitCode;

use engines::{Engine, Op};

/// One row: an operation, its description, and its targets.
pub struct Row {
    pub name: &'static str,
    pub op: Op,
    /// What each engine does in it.
    pub does: &'static str,
    /// The targets: this many times faster at 1,000 and at 100,000 processes.
    pub faster: Option<(f64, f64)>,
    /// The operation touches all processes: its cost may grow with their number.
    pub touches_all: bool,
    /// The row is shown, and not judged.
    pub shown_only: bool,
}

const SCAN: Option<(f64, f64)> = Some((10.0, 1000.0));

const fn row(name: &'static str, op: Op, faster: Option<(f64, f64)>, does: &'static str) -> Row {
    Row { name, op, does, faster, touches_all: false, shown_only: false }
}

const fn shown(row: Row) -> Row {
    Row { shown_only: true, ..row }
}

pub const ROWS: [Row; 18] = [
    row(
        "allocate + register",
        Op::Fork,
        None,
        "model: fork by the shell. table: Process::spawn of the shell, with a driver, an image of \
         its own (a name), which the child executes. Theirs: allocate_pid and register, with the \
         shell as parent, short names, no arguments, an empty environment.",
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
        "model: by the shell to its children, who catch SIGTERM: permission is checked, the signal \
         becomes pending with its record, each target is put in the run queue, eight effects say \
         so; the handlers run untimed. table: the children are under Authority::Host, as theirs \
         are: permission is checked and each driver's deliver is called. Theirs: the driver's kill \
         is called eight times and does nothing.",
    ),
    shown(row(
        "the same, delivered",
        Op::KillGroupDelivered,
        None,
        "model: as before, and then the eight targets run and enter their handlers (settle). \
         table: the same with guests under the model's authority: the handlers are set up, and \
         each driver's deliver is called to run one. Theirs: as before.",
    )),
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
        "model: a ninth child calls exit_group(0), settle, the shell calls wait4(-1, WNOHANG). \
         table: Process::report(exited(0)), which calls the driver's terminate, and try_wait for \
         any. Theirs: mark_exited(pid, 0), waitpid_for(shell, -1, WNOHANG).",
    ),
    row(
        "spawn + exit + reap",
        Op::SpawnExitReap,
        SCAN,
        "`allocate + register`, then `exit + wait`.",
    ),
    row(
        "the same, 1 thread, by pid",
        Op::Churn(1),
        SCAN,
        "the same in a thread of its own, and the wait is for the child by its number.",
    ),
    row(
        "the same, 2 threads, by pid",
        Op::Churn(2),
        SCAN,
        "in two threads at once, children of the same shell: the time that a thread takes for one.",
    ),
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
            "model: a Vec of number and `View` (state, parent, group, session, five signal sets). \
             table: a Vec of ProcessInfo (state, parent, group, session, image, start). Theirs: \
             list_processes, a map of ProcessInfo, which has names and users as well.",
        )
    },
    row(
        "exit beside 1 blocked waiter",
        Op::ExitBeside(1),
        SCAN,
        "a child of the shell exits and is waited for by its number, WNOHANG, while a thread sleeps \
         in a wait for another child of it.",
    ),
    row("exit beside 64 blocked", Op::ExitBeside(64), SCAN, "the same beside 64 such threads."),
    row(
        "exit to return, 1 blocked",
        Op::ExitToReturn(1),
        SCAN,
        "a thread sleeps in a wait for a child, which exits: until the wait has returned there.",
    ),
    row(
        "exit to return, 64 blocked",
        Op::ExitToReturn(64),
        SCAN,
        "64 threads sleep in waits, each for a child of its own; one of these exits: until its wait \
         has returned in its thread.",
    ),
    row(
        "exit to return, 64 for any",
        Op::ExitToAny(64),
        SCAN,
        "64 threads sleep in waits for any child; one exits: until one of the waits has returned.",
    ),
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map(|at| arguments.remove(at)).is_some()
    };
    let (quick, ours_only) = (option("--quick"), option("--ours"));
    if option("--scale") {
        return scale::run();
    }
    let mut report = measure::Report::new(quick, ours_only, arguments.join(" "));
    for size in measure::SIZES {
        report.measure_times(size);
    }
    report.measure_bytes();
    if report.print() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All engines with the same processes, in the order of the columns.
pub fn engines(jobs: usize, ours_only: bool) -> Vec<Box<dyn Engine>> {
    let mut all: Vec<Box<dyn Engine>> =
        vec![Box::new(engines::ours::Ours::new(jobs)), Box::new(engines::facade::Table::new(jobs))];
    if !ours_only {
        all.push(Box::new(engines::agentos::Table::new(jobs)));
        all.push(Box::new(engines::secure::Table::new(jobs)));
    }
    all
}
