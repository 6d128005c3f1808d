//! Who holds the lock of the lists of tasks (the kernel's tasklist_lock) between two steps.

/// The lock. Between two steps it is held where a transition was cut inside of it
/// (`Granularity::Fine`), and never else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tasklist {
    writer: bool,
    readers: u32,
}

/// What a step needs of the lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Nothing: it is about the task, or about signals.
    None,
    /// That nobody changes the lists.
    Shared,
    /// That nobody else looks at the lists.
    Exclusive,
}

impl Tasklist {
    /// Whether anybody holds it.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.writer || self.readers > 0
    }

    /// Whether a step that needs so much of it can be made now.
    pub fn admits(&self, access: Access) -> bool {
        match access {
            Access::None => true,
            Access::Shared => !self.writer,
            Access::Exclusive => !self.is_held(),
        }
    }

    /// A task changes the lists, and is cut in that.
    pub fn hold(&mut self) {
        self.writer = true;
    }

    /// Whoever changed the lists has done so.
    pub fn release(&mut self) {
        self.writer = false;
    }

    /// One more task looks at the lists, and is cut in that.
    pub fn hold_shared(&mut self) {
        self.readers += 1;
    }

    /// A task that looked at the lists goes on.
    pub fn release_shared(&mut self) {
        self.readers = self.readers.saturating_sub(1);
    }
}
