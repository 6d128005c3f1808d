//! The duration of a graceful end: from the call, which finds the members and signals them, and
//! from the last exit, to the return.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use proctable::abi::Signal;
use proctable::drivers::linux::{Command, Options, ProcessTree};

use crate::kit::Kit;
use crate::obey::{Notes, now};
use crate::spawns::median;

const GRACE: Duration = Duration::from_secs(10);

/// The library that ends children.
#[derive(Clone, Copy)]
pub enum Ender<'a> {
    Ours(Options),
    Kit(&'a Kit),
}

/// Median durations.
pub struct Ending {
    /// From the call to its return.
    pub from_call: Duration,
    /// From the moment before the last child's exit to the return; unknown for children that do not
    /// record it.
    pub from_exit: Option<Duration>,
}

/// The times, in nanoseconds, of the request to end and of its return.
fn end(ender: Ender, command: &[&OsStr], number: usize, notes: &Notes) -> io::Result<(u64, u64)> {
    let ready = || match command.len() {
        // `sleep 100` obeys from its start
        2 => {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        }
        _ => notes.await_ready(number),
    };
    match ender {
        Ender::Ours(options) => {
            let tree: ProcessTree = options.create()?;
            for _ in 0..number {
                let wanted = Command::new(command[0]).args(&command[1..]);
                tree.spawn(wanted).map_err(io::Error::other)?;
            }
            ready()?;
            let begin = now();
            let report = tree.shutdown(Signal::TERM, GRACE)?;
            let end = now();
            let all = report.ended.len() == number && !report.killed;
            if all { Ok((begin, end)) } else { Err(io::Error::other(format!("{report:?}"))) }
        }
        Ender::Kit(kit) => {
            let started = kit.start(command, number)?;
            ready()?;
            let begin = now();
            started.stop(GRACE)?;
            Ok((begin, now()))
        }
    }
}

/// Ends `number` children that obey SIGTERM: `sleep`, or with `noting` this program.
pub fn measure(ender: Ender, number: usize, noting: bool, rounds: usize) -> io::Result<Ending> {
    let (mut signals, mut exits) = (Vec::new(), Vec::new());
    let own = std::env::current_exe()?;
    for _ in 0..rounds {
        let notes = Notes::new()?;
        let sleep = [OsStr::new("/bin/sleep"), OsStr::new("100")];
        let obey = [own.as_os_str(), OsStr::new("obey"), notes.path().as_os_str()];
        let command: &[&OsStr] = if noting { &obey } else { &sleep };
        let (begin, end) = end(ender, command, number, &notes)?;
        signals.push(Duration::from_nanos(end - begin));
        if noting {
            exits.push(Duration::from_nanos(end.saturating_sub(notes.last_exit(number)?)));
        }
    }
    let from_exit = (!exits.is_empty()).then(|| median(&mut exits));
    Ok(Ending { from_call: median(&mut signals), from_exit })
}
