//! The lock of the lists of tasks (tasklist_lock), between two steps.

/// The lock. Between two steps it is held only if a transition was cut inside of it
/// (`Granularity::Fine`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tasklist {
    writer: bool,
    readers: u32,
}

/// The access of a step to the lists of tasks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// None: the step is about one task, or about signals.
    None,
    /// The step reads the lists.
    Shared,
    /// The step changes the lists.
    Exclusive,
}

impl Tasklist {
    /// Whether a task holds the lock.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.writer || self.readers > 0
    }

    /// Whether a step with that access can be made now.
    pub fn admits(&self, access: Access) -> bool {
        match access {
            Access::None => true,
            Access::Shared => !self.writer,
            Access::Exclusive => !self.is_held(),
        }
    }

    /// A task that changes the lists is cut.
    pub fn hold(&mut self) {
        self.writer = true;
    }

    /// The task that changes the lists continues.
    pub fn release(&mut self) {
        self.writer = false;
    }

    /// A task that reads the lists is cut.
    pub fn hold_shared(&mut self) {
        self.readers += 1;
    }

    /// A task that reads the lists continues.
    pub fn release_shared(&mut self) {
        self.readers = self.readers.saturating_sub(1);
    }
}
