//! Resource limits.

/// `RLIMIT_*`, as a guest passes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Resource(pub u32);

impl Resource {
    /// CPU time of the process, in seconds (LIM-15).
    pub const CPU: Resource = Resource(0);
    /// Size of a core file, in bytes (EXIT-05).
    pub const CORE: Resource = Resource(4);
    /// Size of the resident set, in bytes; Linux does not enforce it.
    pub const RSS: Resource = Resource(5);
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
