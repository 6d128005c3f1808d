//! Numbers of processes, groups, sessions and users.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub u32);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a process or of a thread: both come from one space (PID-11).
    ///
    /// 0 stands for a process that is not visible in the namespace, such as the parent of its init
    /// (PID-20).
    Pid
}
number! {
    /// The number of a process group; 0 is a group that is not visible in the namespace (GRP-15).
    Pgid
}
number! {
    /// The number of a session; 0 is a session that is not visible in the namespace (GRP-15).
    Sid
}
number! {
    /// A user.
    Uid
}

impl Uid {
    /// The superuser.
    pub const ROOT: Uid = Uid(0);
}

impl From<Pid> for Pgid {
    /// The group of which the process is the leader, or would be.
    fn from(pid: Pid) -> Pgid {
        Pgid(pid.0)
    }
}

impl From<Pid> for Sid {
    /// The session of which the process is the leader, or would be.
    fn from(pid: Pid) -> Sid {
        Sid(pid.0)
    }
}
