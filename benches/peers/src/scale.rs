//! The table with large numbers: idle tables, zombies that become due, bytes for each process,
//! threads that create and reap.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use proctable::abi::{Pid, WaitStatus};
use proctable::table::{Image, ManualClock, Process, ProcessTable, Spawn, TableConfig, TimerMode};

use crate::engines::facade::Table;
use crate::{alloc, concurrent};

const TABLES: usize = 10_000;
const ZOMBIES: usize = 1_000_000;
const FEW: usize = 1_000;
const TABLE_BYTES: usize = 2048;

/// Ends with status 1 if a target is missed.
pub fn run() -> ExitCode {
    let mut report = Report { missed: 0 };
    report.idle_tables();
    report.zombies_by_caller();
    report.zombies_by_timer_thread();
    report.bytes();
    report.two_threads();
    println!("\n{} targets missed.", report.missed);
    if report.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Report {
    missed: usize,
}

/// Threads of this program.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn nanos_each(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// Children of the init, all of one program.
fn spawn_children(table: &ProcessTable, count: usize) -> Vec<Process> {
    let image = std::sync::Arc::new(Image::new("c"));
    (0..count).map(|_| table.spawn(Spawn::new(image.clone())).expect("there is room")).collect()
}

/// Ends all of them. Returns the cost of an end, among the first and among the last: the median of
/// small portions, because a large one may contain an interruption.
fn end_all(children: &[Process]) -> [f64; 2] {
    const PORTION: usize = 20;
    let end = |some: &[Process]| {
        let portions = some.chunks(PORTION).map(|portion| {
            let start = Instant::now();
            portion.iter().for_each(|child| child.report(WaitStatus::exited(0)));
            nanos_each(start.elapsed(), portion.len())
        });
        crate::measure::median(&mut portions.collect::<Vec<f64>>())
    };
    let (first, others) = children.split_at(FEW);
    let (middle, last) = others.split_at(others.len() - FEW);
    let costs = [end(first), end(middle), end(last)];
    [costs[0], costs[2]]
}

impl Report {
    fn line(&mut self, what: &str, value: String, target: Option<(String, bool)>) {
        let verdict = target.map_or(String::new(), |(target, met)| {
            self.missed += usize::from(!met);
            format!("{target}: {}", if met { "met" } else { "MISSED" })
        });
        println!("{what:<56}{value:>16}  {verdict}");
    }

    fn idle_tables(&mut self) {
        println!("{TABLES} idle tables");
        let before = threads();
        let mut tables = Vec::with_capacity(TABLES);
        let bytes = alloc::bytes_of(|| {
            tables.extend((0..TABLES).map(|_| ProcessTable::new()));
        }) / TABLES;
        let after = threads();
        let target = (format!("below {TABLE_BYTES}"), bytes < TABLE_BYTES);
        self.line("  bytes each", bytes.to_string(), Some(target));
        let target = ("at most 1".into(), after <= before + 1);
        self.line("  threads more than before", (after - before).to_string(), Some(target));
        // each with a zombie that is not yet due: still one thread for all tables
        for table in &tables {
            spawn_children(table, 1)[0].report(WaitStatus::exited(0));
        }
        let after = threads();
        let target = ("at most 1".into(), after <= before + 1);
        let what = "  threads more, each table with a zombie";
        self.line(what, (after - before).to_string(), Some(target));
    }

    fn line_of_exits(&mut self, [first, last]: [f64; 2]) {
        let target = ("at most 2 times the first".into(), last <= 2.0 * first);
        self.line("  ns an exit, the first 1,000", format!("{first:.0}"), None);
        self.line("  ns an exit, the last 1,000", format!("{last:.0}"), Some(target));
    }

    fn zombies_by_caller(&mut self) {
        println!("{ZOMBIES} zombies, a clock that is moved, reap_due");
        let ttl = Duration::from_secs(60);
        let clock = ManualClock::new();
        let config = TableConfig::new().timer_mode(TimerMode::Caller).zombie_ttl(Some(ttl));
        let table = ProcessTable::with_config(config.clock(clock.clone()));
        let start = Instant::now();
        let children = spawn_children(&table, ZOMBIES);
        let spawned = nanos_each(start.elapsed(), ZOMBIES);
        self.line("  ns a spawn", format!("{spawned:.0}"), None);
        let exits = end_all(&children);
        self.line_of_exits(exits);
        clock.advance(ttl - Duration::from_nanos(1));
        assert_eq!(table.reap_due(table.now()), 0, "no zombie is due");
        clock.advance(Duration::from_nanos(1));
        let start = Instant::now();
        let reaped = table.reap_due(table.now());
        let time = nanos_each(start.elapsed(), ZOMBIES);
        self.line("  ns a zombie reaped", format!("{time:.0}"), None);
        let target = ("all".into(), reaped == ZOMBIES && table.counts().processes == 1);
        self.line("  reaped", reaped.to_string(), Some(target));
    }

    fn zombies_by_timer_thread(&mut self) {
        println!("{ZOMBIES} zombies, real time, the background thread");
        let ttl = Duration::from_secs(2);
        let table = ProcessTable::with_config(TableConfig::new().zombie_ttl(Some(ttl)));
        let children = spawn_children(&table, ZOMBIES);
        let start = Instant::now();
        let exits = end_all(&children);
        let ended = start.elapsed();
        self.line_of_exits(exits);
        assert_eq!(table.counts().zombies, ZOMBIES, "the time to live is longer than the exits");
        // only the last zombie is polled, so that polling does not slow down the table
        let last = children.last().map_or(Pid(0), Process::pid);
        while start.elapsed() < ttl || table.process(last).is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let late = start.elapsed().saturating_sub(ended + ttl);
        self.line("  ms in which all ended", format!("{:.0}", ended.as_secs_f64() * 1e3), None);
        let target = ("at most 1,000".into(), late < Duration::from_secs(1));
        let value = format!("{:.1}", late.as_secs_f64() * 1e3);
        self.line("  ms the last one was late", value, Some(target));
        let left = table.counts().zombies;
        self.line("  left", left.to_string(), Some(("none".into(), left == 0)));
    }

    fn bytes(&mut self) {
        const JOBS: usize = 11_111;
        println!("bytes a process, {} processes in jobs of 9", 9 * JOBS + 1);
        for (what, with_drivers) in [("  without a driver", false), ("  with a driver", true)] {
            let bytes = Table::bytes_of(JOBS, with_drivers) / (9 * JOBS + 1);
            self.line(what, bytes.to_string(), None);
        }
    }

    fn two_threads(&mut self) {
        println!("spawn + exit + reap, 10 processes");
        let table = Table::new(1);
        let mut times = [1, 2].map(|threads| {
            let span = Duration::from_millis(40);
            let rounds = (0..25).map(|_| concurrent::churn(&table, 0, threads, span));
            rounds.collect::<Vec<f64>>()
        });
        let [one, two] = [0, 1].map(|nth| crate::measure::median(&mut times[nth]));
        self.line("  ns that one takes a thread, alone", format!("{one:.0}"), None);
        self.line("  ns that one takes a thread, of two", format!("{two:.0}"), None);
        let factor = two / 2.0 / one;
        let target = ("at most 2".into(), factor <= 2.0);
        let what = "  ns of wall clock for one, two threads against one";
        self.line(what, format!("{factor:.2} times"), Some(target));
    }
}
