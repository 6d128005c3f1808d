//! Rounds, the table, the targets.

use std::time::Instant;

use crate::engines::{self, CHILDREN, Engine, JOB, Op};
use crate::{ROWS, Row};

/// Live processes: the init and 1, 111 and 11,111 jobs.
pub const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Rows of the table: each size with one job, in the middle, and the largest with jobs drawn at
/// random, where most of the cost is memory that is not in a cache.
const PLACES: [(&str, usize, bool); 4] =
    [("10", 0, false), ("1000", 1, false), ("100000", 2, false), ("scattered", 2, true)];
/// At most so many bytes a process.
const BYTES: f64 = 300.0;
/// Our cost at the largest size is at most so many times that at the smallest.
const GROWTH: f64 = 5.0;
/// Below this the peers' cost is a few instructions, and ours may be `SMALL_FACTOR` times as much.
const SMALL: f64 = 20.0;
const SMALL_FACTOR: f64 = 1.5;

/// Nanoseconds per operation by size, row, engine.
pub struct Report {
    quick: bool,
    ours_only: bool,
    /// Rows whose name begins with this.
    only: String,
    names: Vec<&'static str>,
    times: Vec<Vec<Vec<f64>>>,
    /// Bytes a process by engine, at the largest size.
    bytes: Vec<f64>,
}

/// Draws the targets: splitmix64.
struct Draw {
    state: u64,
    scattered: bool,
}

impl Draw {
    fn job(&mut self, jobs: usize) -> usize {
        if self.scattered { self.below(jobs) } else { jobs / 2 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * bound as u128) >> 64) as usize
    }
}

impl Report {
    pub fn new(quick: bool, ours_only: bool, only: String) -> Report {
        Report { quick, ours_only, only, names: Vec::new(), times: Vec::new(), bytes: Vec::new() }
    }

    /// All rows at one size. The engines take turns, round by round.
    pub fn measure_times(&mut self, size: usize) {
        let jobs = size / JOB;
        assert_eq!(1 + jobs * JOB, size, "the sizes are whole jobs");
        let mut engines = crate::engines(jobs, self.ours_only);
        self.names = engines.iter().map(|engine| engine.name()).collect();
        for engine in &mut engines {
            engine.check();
        }
        for (_, _, scattered) in PLACES.iter().filter(|(_, nth, _)| SIZES[*nth] == size) {
            let rows = ROWS.iter().filter(|row| self.wants(row));
            let rows = rows.map(|row| self.measure_row(row, jobs, *scattered, &mut engines));
            self.times.push(rows.collect());
        }
    }

    fn wants(&self, row: &Row) -> bool {
        self.only.is_empty() || row.name.starts_with(&*self.only)
    }

    fn measure_row(
        &self,
        row: &Row,
        jobs: usize,
        scattered: bool,
        engines: &mut [Box<dyn Engine>],
    ) -> Vec<f64> {
        // a round of the slowest engine takes some milliseconds
        let (mut rounds, batch) = match (row.op, jobs) {
            (Op::List, 1_000..) => (7, 1),
            (Op::List, 100..) => (101, 1),
            (_, 1_000..) => (15, 16),
            (_, 100..) => (101, 64),
            _ => (301, 256),
        };
        if self.quick {
            rounds = rounds.min(15);
        }
        let overhead = clock_overhead();
        let mut samples = vec![Vec::new(); engines.len()];
        for round in 0..rounds {
            for (nth, engine) in engines.iter_mut().enumerate() {
                let mut draw = Draw { state: round, scattered };
                // ours is far faster: more operations a round, for a clock of the same accuracy
                let batch = if nth == 0 && row.op != Op::List { batch.max(256) } else { batch };
                samples[nth].push(time_round(
                    &mut **engine,
                    row.op,
                    jobs,
                    batch,
                    &mut draw,
                    overhead,
                ));
            }
        }
        samples.iter_mut().map(|of_engine| median(of_engine)).collect()
    }

    pub fn measure_bytes(&mut self) {
        let size = SIZES[SIZES.len() - 1];
        let jobs = size / JOB;
        let per_process = |bytes: usize| bytes as f64 / size as f64;
        self.bytes.push(per_process(engines::ours::Ours::bytes_of(jobs)));
        if !self.ours_only {
            self.bytes.push(per_process(engines::agentos::Table::bytes_of(jobs)));
            self.bytes.push(per_process(engines::secure::Table::bytes_of(jobs)));
        }
    }

    pub fn print(&self) -> usize {
        let mut missed = 0;
        println!("{:<30}{:>10}  {}", "ns per operation", "processes", self.header());
        for (nth, row) in ROWS.iter().filter(|row| self.wants(row)).enumerate() {
            for (at, (place, _, _)) in PLACES.iter().enumerate() {
                let times = &self.times[at][nth];
                let name = if at == 0 { row.name } else { "" };
                let verdict = judge(row, at, times, self.times[0][nth][0]);
                missed += usize::from(verdict.contains("MISSED"));
                println!("{name:<30}{place:>10}  {}  {verdict}", columns(times));
            }
        }
        let cells: String = self.bytes.iter().map(|bytes| format!("{bytes:>11.0}")).collect();
        let met = verdict(self.bytes[0] <= BYTES);
        missed += usize::from(self.bytes[0] > BYTES);
        println!("{:<30}{:>10}  {cells}  at most {BYTES}: {met}", "bytes per process", SIZES[2]);
        println!("\nWhat was done:");
        for row in &ROWS {
            println!("- {}: {}", row.name, row.does);
        }
        println!("\n{missed} targets missed.");
        missed
    }

    fn header(&self) -> String {
        let mut header: String = self.names.iter().map(|name| format!("{name:>11}")).collect();
        for name in &self.names[1..] {
            header += &format!("{:>11}", format!("{name}/o"));
        }
        header
    }
}

/// The targets of a cell and whether they are met, in words.
fn judge(row: &Row, at: usize, times: &[f64], at_smallest: f64) -> String {
    let (ours, peers) = (times[0], &times[1..]);
    let mut parts = Vec::new();
    if let Some(fastest) = peers.iter().copied().reduce(f64::min) {
        match (at, row.faster) {
            (0, _) => {
                let factor = if fastest < SMALL { SMALL_FACTOR } else { 1.0 };
                parts.push((format!("at most {factor} of theirs"), ours <= fastest * factor));
            }
            (1, Some((faster, _))) | (2, Some((_, faster))) => {
                parts.push((format!("{faster} times faster"), ours * faster <= fastest));
            }
            _ => {}
        }
    }
    if at == 2 && !row.touches_all {
        let grown = ours / at_smallest;
        parts.push((format!("{grown:.1} times the cost at 10, at most {GROWTH}"), grown <= GROWTH));
    }
    let words = parts.iter().map(|(what, met)| {
        let met = if row.shown_only { "not judged" } else { verdict(*met) };
        format!("{what}: {met}")
    });
    words.collect::<Vec<_>>().join("; ")
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn columns(times: &[f64]) -> String {
    let mut columns: String = times.iter().map(|time| format!("{time:>11.1}")).collect();
    for peer in &times[1..] {
        columns += &format!("{:>11.1}", peer / times[0]);
    }
    columns
}

/// Nanoseconds per operation in one round. Operations that need no preparation are timed
/// together; the others one by one, less what the clock itself takes.
fn time_round(
    engine: &mut dyn Engine,
    op: Op,
    jobs: usize,
    batch: usize,
    draw: &mut Draw,
    overhead: f64,
) -> f64 {
    let operations = if op == Op::JoinGroup { 2 } else { 1 } as f64;
    let prepared = matches!(op, Op::Fork | Op::KillGroup | Op::KillGroupDelivered | Op::ExitWait);
    let targets: Vec<(usize, usize)> =
        (0..batch).map(|_| (draw.job(jobs), draw.below(CHILDREN))).collect();
    if !prepared {
        let start = Instant::now();
        for (job, child) in &targets {
            engine.run(op, *job, *child);
        }
        return start.elapsed().as_nanos() as f64 / batch as f64 / operations;
    }
    let mut times: Vec<f64> = targets
        .iter()
        .map(|(job, child)| {
            engine.before(op, *job);
            let start = Instant::now();
            engine.run(op, *job, *child);
            let time = start.elapsed().as_nanos() as f64 - overhead;
            engine.after(op, *job);
            time.max(0.1)
        })
        .collect();
    median(&mut times)
}

/// What two readings of the clock take that follow each other.
fn clock_overhead() -> f64 {
    let mut times: Vec<f64> =
        (0..1001).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    median(&mut times)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
