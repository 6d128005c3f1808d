//! Which of the things that kernels do differently the running one does: it is asked.

use std::io;

use super::record::Recorder;
use crate::host::{CageConfig, Engine, Mode};
use crate::kernel::{Property, Version};
use crate::sim::{Action, Step};
use crate::syscall::Syscall;
use crate::trace::{self, Entry, Log, LogEvent};

/// The running kernel: its release, with each property as the kernel itself has shown it.
///
/// A property whose scenario cannot be run here (it needs other users, and there are none) is
/// taken from the release. Costs a cage for each property, about a millisecond.
pub fn version(engine: &mut Engine, mode: Mode) -> io::Result<Version> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // another kernel with Linux's interface may call its releases anything
    let mut version = release.parse().unwrap_or(Version::NEWEST);
    // other programs that run now have other users
    let user = super::trial::first_user(engine)?;
    for property in Property::ALL {
        let scenario = scenario(property, user)?;
        let needs_users = calls(&scenario).any(|(_, call)| changes_user(call));
        let needs_exec = calls(&scenario).any(|(_, call)| matches!(call, Syscall::Execve { .. }));
        if needs_users && mode == Mode::User || needs_exec && engine.abilities().execve.is_err() {
            continue;
        }
        version = version.with(property, does(engine, &scenario)?);
    }
    Ok(version)
}

/// The scenario of a property, with `user` for the user that it names.
fn scenario(property: Property, user: u32) -> io::Result<Log> {
    let mut log = trace::read(property.scenario().as_bytes()).map_err(io::Error::other)?;
    for entry in &mut log.entries {
        if let LogEvent::Call { call: Syscall::Setuid(named), .. } = &mut entry.event {
            *named = user;
        }
    }
    Ok(log)
}

fn changes_user(call: &Syscall) -> bool {
    matches!(call, Syscall::Setuid(_))
}

fn calls(log: &Log) -> impl Iterator<Item = (&Entry, &Syscall)> {
    log.entries.iter().filter_map(|entry| match &entry.event {
        LogEvent::Call { call, .. } => Some((entry, call)),
        _ => None,
    })
}

/// Whether the calls of a scenario give on the live kernel what stands in it.
fn does(engine: &mut Engine, scenario: &Log) -> io::Result<bool> {
    let mut cage = engine.cage(&CageConfig::default())?;
    let mut seen = Recorder::default();
    for (entry, call) in calls(scenario) {
        let step = Step { pid: entry.pid, action: Action::Call(call.clone()) };
        match cage.call(step.pid, call) {
            Ok(observation) => seen.kernel_step(&step, &observation),
            // the process that is to act is not there, or sleeps
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    cage.finish()?;
    let expected: Vec<String> = scenario.entries.iter().map(ToString::to_string).collect();
    Ok(seen.lines_from(0) == expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Resource, Rlimit};
    use crate::kernel::{Canonical, Config, Kernel};
    use crate::sim::react;

    /// What the model does in the scenario's calls, as lines of a log.
    fn model(scenario: &Log, version: Version) -> Vec<String> {
        // as in a cage: nobody leaves a core file
        let limits = vec![(Resource::CORE, Rlimit { soft: 0, hard: u64::MAX })];
        let mut kernel = Kernel::new(Config { version, limits, ..Config::default() });
        let mut seen = Recorder::default();
        for (entry, call) in calls(scenario) {
            let step = Step { pid: entry.pid, action: Action::Call(call.clone()) };
            let Ok(reaction) = react(&mut kernel, &step, false, &mut Canonical) else { break };
            seen.model_step(&step, &reaction, &kernel);
        }
        seen.lines_from(0)
    }

    #[test]
    fn a_scenario_tells_who_has_the_property() {
        for property in Property::ALL {
            let scenario = scenario(property, 60_000).expect("it is well formed");
            let expected: Vec<String> = scenario.entries.iter().map(ToString::to_string).collect();
            let with = model(&scenario, Version::NEWEST.with(property, true));
            assert_eq!(with, expected, "{property:?}");
            let without = model(&scenario, Version::NEWEST.with(property, false));
            assert_ne!(without, expected, "{property:?}");
        }
    }
}
