//! Real children, this library compared with its peers: spawn and wait, creation of a tree,
//! graceful ends, captured output (alone with `--captures`). One table.
//!
//! The exit status is 1 if a target is missed.

mod ballast;
mod captures;
mod endings;
mod kit;
mod obey;
mod spawns;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use proctable::drivers::linux::{Mechanism, Options, ProcessTree};
use running_process::ContainedProcessGroup;

use ballast::Ballast;
use endings::{Ender, Ending};
use kit::Kit;
use spawns::{makers, measure, spawners};

/// The limit of spawn and wait, as a multiple of the standard library's time: with a small and a
/// large owner.
const SMALL_RATIO: f64 = 1.10;
const LARGE_RATIO: f64 = 1.25;
/// The limit from the last exit to the return of a graceful end: of one child, and of 100.
const END_OF_ONE: Duration = Duration::from_millis(3);
const END_OF_MANY: Duration = Duration::from_millis(10);
const MANY: usize = 100;
/// Captures at once, and the threads of this process meanwhile: the main one, and two of the
/// library's.
const AT_ONCE: usize = 1000;
const FEW_THREADS: usize = 3;

/// The number of rounds of each measurement.
struct Rounds {
    spawns: usize,
    makes: usize,
    ends: usize,
    ends_of_many: usize,
    captures: usize,
}

/// The measurement, and whether all targets were met so far.
struct Run {
    rounds: Rounds,
    /// Without the peers, except for the standard library.
    ours_only: bool,
    met: bool,
}

fn main() -> io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [obey, notes] = &*args
        && obey == "obey"
    {
        obey::run(Path::new(notes))?;
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let rounds = match has("--quick") {
        true => Rounds { spawns: 60, makes: 60, ends: 5, ends_of_many: 2, captures: 3 },
        false => Rounds { spawns: 1000, makes: 300, ends: 40, ends_of_many: 10, captures: 9 },
    };
    let mut run = Run { rounds, ours_only: has("--ours"), met: true };
    if !has("--captures") {
        run.all()?;
    }
    run.captures()?;
    Ok(if run.met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl Run {
    fn all(&mut self) -> io::Result<()> {
        let cgroup = ProcessTree::new()?;
        let scan = Options::new().without_cgroup().create()?;
        let kit = Kit::new()?;
        let contained = ContainedProcessGroup::with_originator("children")?;
        match cgroup.mechanism() {
            Mechanism::Cgroup(_) => {
                println!("our trees: a cgroup; processkit: {}", kit.mechanism())
            }
            Mechanism::Scan | Mechanism::Children => {
                println!("no cgroup: {:?}", cgroup.without_cgroup_because());
            }
        }
        let mut engines = spawners(&cgroup, &scan, &kit, &contained);
        if self.ours_only {
            engines.truncate(3);
        }
        let names: Vec<&str> = engines.iter().map(|engine| engine.name).collect();
        println!("\nspawn + wait of /bin/true in a tree that exists, small owner");
        let times = measure(&mut engines, self.rounds.spawns)?;
        self.print(&names, &times, Some(SMALL_RATIO));
        println!("\nthe same from a thread that is not the main one, for which another one spawns");
        let rounds = self.rounds.spawns;
        let (names_of_thread, times): (Vec<&str>, _) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut engines = spawners(&cgroup, &scan, &kit, &contained);
                engines.truncate(3);
                let times = measure(&mut engines, rounds);
                times.map(|times| (engines.iter().map(|engine| engine.name).collect(), times))
            });
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })?;
        self.print(&names_of_thread, &times, Some(SMALL_RATIO));
        println!(
            "\nspawn + wait of /bin/true in a tree that exists, owner with 2 GiB of 4 KiB pages"
        );
        match Ballast::new() {
            Ok(_ballast) => {
                let times = measure(&mut engines, self.rounds.spawns)?;
                self.print(&names, &times, Some(LARGE_RATIO));
            }
            Err(error) => println!("  SKIPPED: {error}"),
        }
        println!("\na tree: creation + drop");
        let mut makers = makers(&kit);
        let times = measure(&mut makers, self.rounds.makes)?;
        let names: Vec<&str> = makers.iter().map(|engine| engine.name).collect();
        self.print(&names, &times, None);
        self.ends(&kit)
    }

    fn print(&mut self, engines: &[&str], times: &[(Duration, usize)], most: Option<f64>) {
        println!("  {:<28}{:>12}{:>10}{:>8}", "median of", "µs", "ratio", "rounds");
        let first = us(times[0].0);
        for (name, (time, rounds)) in engines.iter().zip(times) {
            let ratio = us(*time) / first;
            print!("  {:<28}{:>12.1}{ratio:>10.2}{rounds:>8}", name, us(*time));
            match most.filter(|_| name.starts_with("ours")) {
                Some(most) => self.verdict(ratio <= most, &format!("{most:.2}")),
                None => println!(),
            }
        }
    }

    fn verdict(&mut self, met: bool, most: &str) {
        self.met &= met;
        println!("  {} (at most {most})", if met { "met" } else { "MISSED" });
    }

    fn captures(&mut self) -> io::Result<()> {
        println!(
            "\na gibibyte captured, half of it from each stream with a shell and two children"
        );
        println!("  {:<32}{:>10}{:>8}{:>8}{:>8}", "median of", "ms", "GB/s", "ratio", "rounds");
        let files = captures::Files::new()?;
        let rounds = self.rounds.captures;
        let mut engines = captures::engines(&files, self.ours_only);
        let times = captures::measure(&mut engines, rounds)?;
        let first = us(times[0]);
        for (engine, time) in engines.iter().zip(&times) {
            let (ratio, rate) = (us(*time) / first, captures::SIZE as f64 / us(*time) / 1e3);
            let ms = us(*time) / 1e3;
            print!("  {:<32}{ms:>10.0}{rate:>8.2}{ratio:>8.2}{rounds:>8}", engine.name);
            match engine.most {
                Some(most) => self.verdict(ratio <= most, &format!("{most:.2}")),
                None => println!(),
            }
        }
        println!("\n1,000 commands at once: echo, captured");
        println!("  {:<32}{:>10}{:>10}", "", "ms", "threads");
        for row in captures::many(AT_ONCE, self.ours_only)? {
            print!("  {:<32}{:>10.0}{:>10}", row.name, us(row.time) / 1e3, row.threads);
            match row.name.starts_with("ours") {
                true => self.verdict(row.threads <= FEW_THREADS, &format!("{FEW_THREADS} threads")),
                false => println!(),
            }
        }
        println!("\na command that leaves a process behind, which has the pipes for 2 s");
        println!("  {:<32}{:>10}{:>10}", "", "ms", "it ended");
        for row in captures::leavers()? {
            println!("  {:<32}{:>10.0}{:>10}", row.name, us(row.time) / 1e3, row.has_ended);
        }
        Ok(())
    }

    fn ends(&mut self, kit: &Kit) -> io::Result<()> {
        println!("\ngraceful end with SIGTERM, median µs to the return");
        println!("  {:<40}{:>12}{:>12}{:>8}", "", "from call", "from exit", "rounds");
        let without = Options::new().without_cgroup();
        let enders = [
            ("ours, cgroup", Ender::Ours(Options::new())),
            ("ours, no cgroup", Ender::Ours(without)),
            ("processkit, cgroup", Ender::Kit(kit)),
        ];
        let enders = if self.ours_only { &enders[..2] } else { &enders };
        let cases = [
            ("one sleep", 1, false, self.rounds.ends, END_OF_ONE),
            ("one that notes its exit", 1, true, self.rounds.ends, END_OF_ONE),
            ("100 that note theirs", MANY, true, self.rounds.ends_of_many, END_OF_MANY),
        ];
        for (what, number, noting, rounds, most) in cases {
            for (name, ender) in enders {
                let Ending { from_call, from_exit } =
                    endings::measure(*ender, number, noting, rounds)?;
                let exit = from_exit.map_or("-".into(), |time| format!("{:.1}", us(time)));
                let label = format!("{what}: {name}");
                print!("  {label:<44}{:>8.1}{exit:>12}{rounds:>8}", us(from_call));
                // a child that does not record its exit exited after the call: the figure is an
                // upper bound
                match name.starts_with("ours") {
                    true => {
                        let met = from_exit.unwrap_or(from_call) <= most;
                        self.verdict(met, &format!("{} ms", most.as_millis()));
                    }
                    false => println!(),
                }
            }
        }
        Ok(())
    }
}
