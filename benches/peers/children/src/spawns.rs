//! Spawn and wait of /bin/true, and the creation of a tree.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use process_wrap::std::{CommandWrap, ProcessGroup, ProcessSession};
use proctable::drivers::linux::{self, ProcessTree};
use running_process::{ContainedProcessGroup, SpawnStdio, StdioSource};

use crate::kit::Kit;

const PROGRAM: &str = "/bin/true";
/// An engine whose spawns take longer than this joins one round of ten.
const SLOW: Duration = Duration::from_millis(10);

/// A measured operation: its name, and a function that runs it once.
pub struct Engine<'a> {
    pub name: &'static str,
    run: Box<dyn FnMut() -> io::Result<()> + 'a>,
}

fn engine<'a>(name: &'static str, run: impl FnMut() -> io::Result<()> + 'a) -> Engine<'a> {
    Engine { name, run: Box::new(run) }
}

/// The error for a wait that returned anything but success.
fn failed(what: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("{PROGRAM}: {what:?}"))
}

fn ours(tree: &ProcessTree) -> io::Result<()> {
    let child = tree.spawn(linux::Command::new(PROGRAM)).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    if status == proctable::abi::WaitStatus::exited(0) { Ok(()) } else { Err(failed(status)) }
}

fn wrapped(command: &mut CommandWrap) -> io::Result<()> {
    let status = command.spawn()?.wait()?;
    if status.success() { Ok(()) } else { Err(failed(status)) }
}

fn group() -> io::Result<()> {
    wrapped(CommandWrap::with_new(PROGRAM, |_| {}).wrap(ProcessGroup::leader()))
}

fn session() -> io::Result<()> {
    wrapped(CommandWrap::with_new(PROGRAM, |_| {}).wrap(ProcessSession))
}

fn contained(group: &ContainedProcessGroup) -> io::Result<()> {
    // its default for standard input is /dev/null; the others inherit it
    let stdio = SpawnStdio { stdin: StdioSource::Parent, ..SpawnStdio::default() };
    let status = group.spawn(&mut Command::new(PROGRAM), stdio)?.wait()?;
    if status == 0 { Ok(()) } else { Err(failed(status)) }
}

fn std_alone() -> io::Result<()> {
    let status = Command::new(PROGRAM).status()?;
    if status.success() { Ok(()) } else { Err(failed(status)) }
}

/// All engines that spawn, the standard library first and this library next.
pub fn spawners<'a>(
    cgroup: &'a ProcessTree,
    scan: &'a ProcessTree,
    kit: &'a Kit,
    contained_in: &'a ContainedProcessGroup,
) -> Vec<Engine<'a>> {
    vec![
        engine("std::process", std_alone),
        engine("ours, cgroup", || ours(cgroup)),
        engine("ours, no cgroup", || ours(scan)),
        engine("process-wrap, group", group),
        engine("process-wrap, session", session),
        engine("processkit, shared cgroup", || kit.spawn_and_wait(PROGRAM)),
        engine("running-process", || contained(contained_in)),
    ]
}

/// All engines that create a containment and drop it.
pub fn makers(kit: &Kit) -> Vec<Engine<'_>> {
    let without = || linux::Options::new().without_cgroup().create().map(drop);
    vec![
        engine("ours, cgroup", || ProcessTree::new().map(drop)),
        engine("ours, no cgroup", without),
        engine("processkit, cgroup", || kit.make_and_drop()),
    ]
}

/// The median times of the engines. They take turns, and each round begins with another engine.
pub fn measure(engines: &mut [Engine], rounds: usize) -> io::Result<Vec<(Duration, usize)>> {
    let mut times = vec![Vec::new(); engines.len()];
    for engine in engines.iter_mut() {
        (engine.run)()?;
    }
    for round in 0..rounds {
        for turn in 0..engines.len() {
            let nth = (round + turn) % engines.len();
            let slow = times[nth].last().is_some_and(|last| *last > SLOW);
            if slow && round % 10 != 0 {
                continue;
            }
            let begin = Instant::now();
            (engines[nth].run)()?;
            times[nth].push(begin.elapsed());
        }
    }
    Ok(times.into_iter().map(|mut times| (median(&mut times), times.len())).collect())
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
