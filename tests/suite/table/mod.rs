//! The facade: `ProcessTable` with its drivers, waits, reaper and events.

mod end;
mod exits;
mod signals;
mod waits;

use std::time::Duration;

use proctable::abi::{Handler, SigAction};
use proctable::table::{Image, Process, ProcessTable, Spawn};

/// Long enough for anything that happens at all; only a failing test takes it.
pub const SOON: Duration = Duration::from_secs(20);

pub fn spawn(parent: &Process) -> Process {
    parent.spawn(Spawn::new(Image::new("guest"))).unwrap()
}

/// A shell in a session of its own: the groups of its children are not orphaned.
pub fn shell(table: &ProcessTable) -> Process {
    table.spawn(Spawn::new(Image::new("sh")).session()).unwrap()
}

/// An action that runs a handler.
pub fn caught() -> SigAction {
    SigAction { handler: Handler::Catch(0x1000), ..SigAction::DEFAULT }
}
