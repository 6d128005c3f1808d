//! The configuration of the model.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::{Pgid, Pid, Resource, Rlimit, Sid, Uid};
use crate::kernel::api::version::Version;

/// The size of the steps that no other task can see half done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Granularity {
    /// A call that does not sleep, an exit, a stop and a kill of a group are one transition each,
    /// as on one CPU without kernel preemption.
    #[default]
    Coarse,
    /// These transitions are cut where Linux releases its locks, and other tasks of the run queue
    /// may run there, as on several CPUs (group RACE). In the canonical order the results are those
    /// of [`Granularity::Coarse`].
    Fine,
}

/// The first process and its environment. [`Config::default`] is a fresh pid namespace with its
/// init.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// The kernel whose behaviour the model has where kernels differ.
    pub version: Version,
    /// The granularity; coarse by default, so that a call has its full effect when it returns.
    pub granularity: Granularity,
    /// The number of the first process; 1 makes it the init of the namespace.
    pub first: Pid,
    /// The number of its parent, which is outside of the model; 0 if the parent is not visible.
    pub parent: Pid,
    /// Its group; 0 if the group is not visible (PID-21).
    pub pgid: Pgid,
    /// Its session; 0 if the session is not visible (PID-21).
    pub sid: Sid,
    /// The parent is in the session `sid` and in another group: it keeps the groups of its children
    /// from being orphaned (ORP-01).
    pub linked: bool,
    /// The number of the process that adopts orphans if the model has no init; getppid shows it.
    pub adopter: Pid,
    /// The first process is the init of the whole system: its children are no links (ORP-02).
    pub global_init: bool,
    /// Numbers are below this (PID-02); 301 to 4194304 (PID-06).
    pub pid_max: u32,
    /// The number that was allocated last (PID-12); at least `first`.
    pub last_pid: u32,
    /// Its user.
    pub user: Uid,
    /// The user namespace maps one user: only user 0 exists, and no process may raise a hard limit.
    pub user_namespace: bool,
    /// User 0 has CAP_SYS_RESOURCE; many containers drop it.
    pub sys_resource: bool,
    /// Its umask.
    pub umask: u32,
    /// Its working directory.
    pub cwd: Arc<str>,
    /// Limits that are not infinite.
    pub limits: Vec<(Resource, Rlimit)>,
    /// Directories in which no core can be written (EXIT-05).
    pub unwritable: Vec<Arc<str>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            version: Version::NEWEST,
            granularity: Granularity::Coarse,
            first: Pid(1),
            parent: Pid(0),
            pgid: Pgid(0),
            sid: Sid(0),
            linked: false,
            adopter: Pid(1),
            global_init: false,
            // PID-07: the value in a new namespace
            pid_max: 4_194_304,
            last_pid: 1,
            user: Uid::ROOT,
            user_namespace: false,
            sys_resource: true,
            umask: 0o022,
            cwd: "/".into(),
            limits: Vec::new(),
            unwritable: ["/proc".into(), "/sys".into()].into(),
        }
    }
}

impl Config {
    /// The same configuration for a first process with the number `first`, which is a child of
    /// process 1 of the namespace. Process 1 is not in the model: it adopts the orphans, and does
    /// not wait for them.
    #[must_use]
    pub fn below_init(self, first: Pid) -> Config {
        let last_pid = self.last_pid.max(first.0);
        Config { first, last_pid, parent: Pid(1), adopter: Pid(1), ..self }
    }
}
