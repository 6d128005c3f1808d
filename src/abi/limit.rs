//! Resource limits.

/// `RLIMIT_*`, as a guest passes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Resource(pub u32);

impl Resource {
    /// Size of a core file, in bytes (EXIT-05).
    pub const CORE: Resource = Resource(4);
    /// Tasks of the user (LIM-01).
    pub const NPROC: Resource = Resource(6);
    /// Queued signal records of the user (LIM-07).
    pub const SIGPENDING: Resource = Resource(11);
    /// The number of resources (LIM-13).
    pub const COUNT: u32 = 16;
}

/// `struct rlimit64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rlimit {
    /// The limit in force.
    pub soft: u64,
    /// The maximum to which a process may raise `soft`.
    pub hard: u64,
}

impl Rlimit {
    /// No limit.
    pub const INFINITY: u64 = u64::MAX;
    /// No limit, soft or hard.
    pub const NONE: Rlimit = Rlimit { soft: u64::MAX, hard: u64::MAX };
}
