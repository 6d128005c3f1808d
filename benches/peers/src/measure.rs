//! The rounds, the table of results, and the targets.

use std::time::Instant;

use crate::concurrent;
use crate::engines::{self, CHILDREN, Engine, JOB, Op};
use crate::{ROWS, Row};

/// The numbers of live processes: the init and 1, 111 and 11,111 jobs.
pub const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// The lines of the table: each size with one job, in the middle, and the largest with jobs drawn
/// at random, where most of the cost is memory that is not in a cache.
const PLACES: [(&str, usize, bool); 4] =
    [("10", 0, false), ("1000", 1, false), ("100000", 2, false), ("scattered", 2, true)];
/// The maximum number of bytes for each process.
const BYTES: f64 = 360.0;
/// The same for a further thread of a process.
const THREAD_BYTES: f64 = 256.0;
/// The maximum ratio of our cost at the largest size to our cost at the smallest.
const GROWTH: f64 = 5.0;
/// Below this cost the peers need a few instructions, and ours may need `SMALL_FACTOR` times as
/// much.
const SMALL: f64 = 20.0;
const SMALL_FACTOR: f64 = 1.5;
/// Where the peers scan, the table is this many times faster at the largest size.
const TABLE_FASTER: f64 = 100.0;
/// The maximum ratio of the cost with many waiters to the cost with one.
const CROWD: f64 = 3.0;
/// The columns of our engines; the others are the peers.
const OURS: [&str; 2] = ["model", "table"];

/// Nanoseconds per operation by size, row, engine.
pub struct Report {
    quick: bool,
    ours_only: bool,
    /// Selects the rows whose names begin with this.
    only: String,
    names: Vec<&'static str>,
    times: Vec<Vec<Vec<f64>>>,
    /// Bytes for each process, by engine, at the largest size.
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

    /// Measures all rows at one size. The engines take turns, round by round.
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

    /// The time of each engine; none if it cannot perform the operation.
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
        if let Op::Churn(_) | Op::ExitBeside(_) | Op::ExitToReturn(_) | Op::ExitToAny(_) = row.op {
            let times = engines.iter().map(|engine| {
                let mut draw = Draw { state: 0, scattered };
                let job = draw.job(jobs);
                let engine = engine.concurrent()?;
                Some(concurrent::measure(engine, row.op, job, jobs >= 1_000, self.quick))
            });
            return times.map(|time| time.unwrap_or(f64::NAN)).collect();
        }
        let overhead = clock_overhead();
        let mut samples = vec![Vec::new(); engines.len()];
        for round in 0..rounds {
            for (nth, engine) in engines.iter_mut().enumerate() {
                let mut draw = Draw { state: round, scattered };
                // our engines are far faster: more operations in a round make the clock equally
                // accurate
                let batch =
                    if nth < OURS.len() && row.op != Op::List { batch.max(256) } else { batch };
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
        self.bytes.push(per_process(engines::facade::Table::bytes_of(jobs, true)));
        if !self.ours_only {
            self.bytes.push(per_process(engines::agentos::Table::bytes_of(jobs)));
            self.bytes.push(per_process(engines::secure::Table::bytes_of(jobs)));
        }
    }

    pub fn print(&self) -> usize {
        let mut missed = 0;
        println!("{:<31}{:>10}  {}", "ns per operation", "processes", self.header());
        let rows: Vec<&Row> = ROWS.iter().filter(|row| self.wants(row)).collect();
        for (nth, row) in rows.iter().enumerate() {
            for (at, (place, _, _)) in PLACES.iter().enumerate() {
                let times = &self.times[at][nth];
                let name = if at == 0 { row.name } else { "" };
                let single = rows.iter().position(|other| Some(other.op) == row.op.alone());
                let cell = Cell {
                    row,
                    at,
                    times,
                    at_smallest: &self.times[0][nth],
                    alone: single.map(|single| &*self.times[at][single]),
                };
                let verdict = cell.judge();
                missed += verdict.matches("MISSED").count();
                println!("{name:<31}{place:>10}  {}  {verdict}", columns(times));
            }
        }
        let cells: String = self.bytes.iter().map(|bytes| format!("{bytes:>11.0}")).collect();
        let met = verdict(self.bytes[0] <= BYTES);
        missed += usize::from(self.bytes[0] > BYTES);
        println!(
            "{:<31}{:>10}  {cells}  model at most {BYTES}: {met}",
            "bytes per process", SIZES[2]
        );
        let threads = 10_000;
        let per_thread = engines::ours::Ours::bytes_of_threads(threads) as f64 / threads as f64;
        let met = verdict(per_thread <= THREAD_BYTES);
        missed += usize::from(per_thread > THREAD_BYTES);
        println!(
            "{:<31}{threads:>10}  {per_thread:>11.0}  model at most {THREAD_BYTES}: {met}",
            "bytes per further thread"
        );
        println!("\nWhat was done:");
        for row in rows {
            println!("- {}: {}", row.name, row.does);
        }
        println!("\n{missed} targets missed.");
        missed
    }

    fn header(&self) -> String {
        let mut header: String = self.names.iter().map(|name| format!("{name:>11}")).collect();
        for ours in OURS {
            for peer in &self.names[OURS.len()..] {
                header += &format!("{:>11}", format!("{}/{}", &peer[..6], &ours[..1]));
            }
        }
        header
    }
}

/// One line of the table, with the figures for comparison.
struct Cell<'a> {
    row: &'a Row,
    at: usize,
    times: &'a [f64],
    at_smallest: &'a [f64],
    /// The same with one waiter, if the row has many.
    alone: Option<&'a [f64]>,
}

impl Cell<'_> {
    /// The targets of both engines and whether they are met, in words.
    fn judge(&self) -> String {
        let words = OURS.iter().enumerate().filter_map(|(nth, name)| {
            let parts = if self.times[nth].is_nan() { Vec::new() } else { self.targets(nth) };
            let words: Vec<String> = parts
                .into_iter()
                .map(|(what, met)| {
                    let met = if self.row.shown_only { "not judged" } else { verdict(met) };
                    format!("{what}: {met}")
                })
                .collect();
            (!words.is_empty()).then(|| format!("{name} {}", words.join(", ")))
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn targets(&self, nth: usize) -> Vec<(String, bool)> {
        let ours = self.times[nth];
        let is_table = nth > 0;
        let mut parts = Vec::new();
        if let Some(fastest) = self.times[OURS.len()..].iter().copied().reduce(f64::min) {
            let scans = self.row.faster.map(|(at_1000, at_100000)| {
                if is_table { (None, TABLE_FASTER) } else { (Some(at_1000), at_100000) }
            });
            match (self.at, scans) {
                (0, _) => {
                    let factor = if fastest < SMALL { SMALL_FACTOR } else { 1.0 };
                    parts.push((format!("<= {factor} x theirs"), ours <= fastest * factor));
                }
                (1, Some((Some(faster), _))) | (2, Some((_, faster))) => {
                    parts.push((format!("{faster} x faster"), ours * faster <= fastest));
                }
                _ => {}
            }
        }
        if self.at == 2 && !self.row.touches_all {
            let grown = ours / self.at_smallest[nth];
            parts.push((format!("{grown:.1} x that at 10, <= {GROWTH}"), grown <= GROWTH));
        }
        if let Some(alone) = self.alone {
            let crowd = ours / alone[nth];
            parts.push((format!("{crowd:.1} x one waiter, <= {CROWD}"), crowd <= CROWD));
        }
        parts
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn columns(times: &[f64]) -> String {
    let cell = |time: f64| {
        let text = if time.is_nan() { "-".into() } else { format!("{time:.1}") };
        format!("{text:>11}")
    };
    let (ours, peers) = times.split_at(OURS.len());
    let factors = ours.iter().flat_map(|ours| peers.iter().map(move |peer| peer / ours));
    times.iter().copied().chain(factors).map(cell).collect()
}

/// Nanoseconds per operation in one round. Operations that need no preparation are timed together;
/// the others one by one, minus the time of the clock itself.
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

/// The duration between two consecutive readings of the clock.
fn clock_overhead() -> f64 {
    let mut times: Vec<f64> =
        (0..1001).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    median(&mut times)
}

pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
