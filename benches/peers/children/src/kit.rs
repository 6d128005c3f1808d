//! processkit, with a runtime of one thread: its cheapest configuration.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use processkit::ProcessGroup;
use tokio::process::{Child, Command};
use tokio::runtime::{Builder, Runtime};

/// A runtime, and a group that all children share.
pub struct Kit {
    runtime: Runtime,
    group: ProcessGroup,
}

impl Kit {
    pub fn new() -> io::Result<Kit> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let group = runtime.block_on(async { ProcessGroup::new() });
        Ok(Kit { runtime, group: group.map_err(io::Error::other)? })
    }

    pub fn mechanism(&self) -> String {
        format!("{:?}", self.group.mechanism())
    }

    /// In the group that all children share.
    pub fn spawn_and_wait(&self, program: &str) -> io::Result<()> {
        self.runtime.block_on(async {
            let child = self.group.spawn(Command::new(program));
            let status = child.map_err(io::Error::other)?.wait().await?;
            if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
        })
    }

    pub fn make_and_drop(&self) -> io::Result<()> {
        let group = self.runtime.block_on(async { ProcessGroup::new() });
        group.map(drop).map_err(io::Error::other)
    }

    /// Starts children in a group of their own.
    pub fn start(&self, command: &[&OsStr], number: usize) -> io::Result<Started<'_>> {
        let group = self.runtime.block_on(async { ProcessGroup::new() });
        let group = group.map_err(io::Error::other)?;
        let children: Result<Vec<Child>, _> = self.runtime.block_on(async {
            let spawn = |_| {
                let mut wanted = Command::new(command[0]);
                wanted.args(&command[1..]);
                group.spawn(wanted)
            };
            (0..number).map(spawn).collect()
        });
        let children = children.map_err(io::Error::other)?;
        Ok(Started { kit: self, group, _children: children })
    }
}

/// Children that are to be stopped.
pub struct Started<'a> {
    kit: &'a Kit,
    group: ProcessGroup,
    _children: Vec<Child>,
}

impl Started<'_> {
    pub fn stop(&self, grace: Duration) -> io::Result<()> {
        let report = self.kit.runtime.block_on(self.group.stop(grace, true));
        report.map(drop).map_err(io::Error::other)
    }
}
