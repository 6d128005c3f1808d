//! Determines the properties of the running kernel: runs a scenario for each.

use std::io;

use super::record::Recorder;
use crate::host::{Engine, Mode, TestNamespaceConfig};
use crate::kernel::{Property, Version};
use crate::sim::{Action, Step};
use crate::syscall::Syscall;
use crate::trace::{self, CallEnd, CallPrefix, Entry, Log, LogEvent};

/// The running kernel: its release, with each property as the kernel itself has shown it.
///
/// A property whose scenario cannot run here (it needs other users, and there are none) is taken
/// from the release. Costs a test namespace for each property, about a millisecond.
pub fn version(engine: &mut Engine, mode: Mode) -> io::Result<Version> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // another kernel with Linux's interface may have any release string
    let mut version = release.parse().unwrap_or(Version::NEWEST);
    // other programs that run at the same time have other users
    let user = super::trial::first_user(engine)?;
    for property in Property::ALL {
        let scenario = scenario(property, user)?;
        let needs_users = calls(&scenario).any(|(_, call)| changes_user(call));
        let needs_exec = calls(&scenario).any(|(_, call)| matches!(call, Syscall::Execve { .. }));
        let cannot = needs_users && mode == Mode::User
            || needs_exec && engine.features().execve.is_err()
            // only real-time agents run in a fixed order
            || property == Property::ExitIsPreempted && !engine.is_realtime();
        if cannot {
            continue;
        }
        version = version.with(property, does(engine, &scenario)?);
    }
    Ok(version)
}

/// The scenario of a property. `user` and the numbers after it replace the users that the scenario
/// names.
fn scenario(property: Property, user: u32) -> io::Result<Log> {
    let mut log = trace::read(property.scenario().as_bytes()).map_err(io::Error::other)?;
    let own = |named: &mut u32| {
        if let Some(nth) = named.checked_sub(FIRST_USER).filter(|nth| *nth < USERS) {
            *named = user + nth;
        }
    };
    for entry in &mut log.entries {
        match &mut entry.event {
            LogEvent::Call { call: Syscall::Setuid(named), .. } => own(named),
            LogEvent::Call { call: Syscall::Setresuid { real, effective, saved }, .. } => {
                [real, effective, saved].into_iter().for_each(own);
            }
            _ => {}
        }
    }
    Ok(log)
}

/// The first user that scenarios name. They name as many users as a worker has.
const FIRST_USER: u32 = 60_000;
const USERS: u32 = 3;

fn changes_user(call: &Syscall) -> bool {
    matches!(call, Syscall::Setuid(_) | Syscall::Setresuid { .. })
}

fn calls(log: &Log) -> impl Iterator<Item = (&Entry, &Syscall)> {
    log.entries.iter().filter_map(|entry| match &entry.event {
        LogEvent::Call { call, .. } => Some((entry, call)),
        _ => None,
    })
}

/// The lines of a scenario as they are recorded. A call that is marked as interrupted, and never
/// returns, is recorded without its end.
fn lines(scenario: &Log) -> Vec<String> {
    let line = |entry: &Entry| match &entry.event {
        LogEvent::Call { call, outcome: CallEnd::Interrupted(_) } => {
            let event = LogEvent::Unfinished(CallPrefix::of(call));
            Entry { event, ..entry.clone() }.to_string()
        }
        _ => entry.to_string(),
    };
    scenario.entries.iter().map(line).collect()
}

/// Whether the calls of a scenario have the expected results on the live kernel.
fn does(engine: &mut Engine, scenario: &Log) -> io::Result<bool> {
    let mut namespace = engine.test_namespace(&TestNamespaceConfig::default())?;
    let mut seen = Recorder::default();
    for (entry, call) in calls(scenario) {
        let step = Step { tid: entry.pid, action: Action::Call(call.clone()) };
        match namespace.call(step.tid, call) {
            Ok(observation) => seen.kernel_step(&step, &observation),
            // the process that has to make the call does not exist, or sleeps
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    namespace.finish()?;
    Ok(seen.lines_from(0) == lines(scenario))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Resource, Rlimit};
    use crate::kernel::{Canonical, Config, Kernel};
    use crate::sim::react;

    /// The reaction of the model to the scenario's calls, as lines of a log.
    fn model(scenario: &Log, version: Version) -> Vec<String> {
        // as in a test namespace: no process dumps core
        let limits = vec![(Resource::CORE, Rlimit { soft: 0, hard: u64::MAX })];
        let mut kernel = Kernel::new(Config { version, limits, ..Config::default() });
        let mut seen = Recorder::default();
        for (entry, call) in calls(scenario) {
            let step = Step { tid: entry.pid, action: Action::Call(call.clone()) };
            let Ok(reaction) = react(&mut kernel, &step, false, &mut Canonical) else { break };
            seen.model_step(&step, &reaction, &kernel);
        }
        seen.lines_from(0)
    }

    /// Sorts lines: the kernel's side lists the processes that end in one step in ascending order,
    /// the model's side in the order of their ends.
    fn sorted(mut lines: Vec<String>) -> Vec<String> {
        lines.chunk_by_mut(|a, b| a.contains(" +++ ") && b.contains(" +++ ")).for_each(<[_]>::sort);
        lines
    }

    /// The release before the first one that has the property: a later release may hide its
    /// absence.
    fn before(property: Property) -> Version {
        let version = match property.since() {
            None => Version::NEWEST,
            Some((major, 0)) => Version::new(major - 1, u16::MAX),
            Some((major, minor)) => Version::new(major, minor - 1),
        };
        version.with(property, false)
    }

    #[test]
    fn a_scenario_separates_kernels_by_its_property() {
        for property in Property::ALL {
            let scenario = scenario(property, FIRST_USER).expect("it is well formed");
            let expected = lines(&scenario);
            let with = model(&scenario, Version::NEWEST.with(property, true));
            assert_eq!(sorted(with), expected, "{property:?}");
            let without = model(&scenario, before(property));
            assert_ne!(sorted(without), expected, "{property:?}");
        }
    }
}
