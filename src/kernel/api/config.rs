//! The world around the model.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::{Pgid, Pid, Resource, Rlimit, Sid, Uid};
use crate::kernel::api::version::Version;

/// How much of a transition happens at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Granularity {
    /// A call that does not sleep, an exit, a stop and a kill of a group are one transition each,
    /// as they are where all tasks share one CPU and the kernel is not preempted.
    #[default]
    Coarse,
    /// They are cut where Linux lets go of its locks, and other tasks of the run queue may run
    /// there, as they do on several CPUs (group RACE). The canonical order goes on at once: it
    /// gives what [`Granularity::Coarse`] gives.
    Fine,
}

/// What the first process finds. [`Config::default`] is a fresh pid namespace with its init.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// The kernel that the model answers like, where kernels differ.
    pub version: Version,
    /// Where other tasks may run: coarse by default, since a call is then over when it returns.
    pub granularity: Granularity,
    /// The number of the first process; 1 makes it the init of the namespace.
    pub first: Pid,
    /// The number of its parent, which is outside of the model; 0 if that is not visible.
    pub parent: Pid,
    /// Its group; 0 if that is not visible (PID-21).
    pub pgid: Pgid,
    /// Its session; 0 if that is not visible (PID-21).
    pub sid: Sid,
    /// That parent is in the session `sid` and in another group: it keeps the groups of its
    /// children from being orphaned (ORP-01).
    pub linked: bool,
    /// Who adopts orphans where there is no init in the model: the number that getppid shows.
    pub adopter: Pid,
    /// The first process is the init of the whole system: its children are no links (ORP-02).
    pub global_init: bool,
    /// Numbers are below this (PID-02); 301 to 4194304 (PID-06).
    pub pid_max: u32,
    /// The number given out last (PID-12); at least `first`.
    pub last_pid: u32,
    /// Its user.
    pub user: Uid,
    /// It is a user namespace that maps one user: only user 0 exists, and nobody may raise a
    /// hard limit.
    pub user_namespace: bool,
    /// User 0 has CAP_SYS_RESOURCE; containers often take it away.
    pub sys_resource: bool,
    /// Its umask.
    pub umask: u32,
    /// Its working directory.
    pub cwd: Arc<str>,
    /// Limits that are not infinite.
    pub limits: Vec<(Resource, Rlimit)>,
    /// Folders in which no core can be written (EXIT-05).
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
            // PID-07: a new namespace begins with this
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
    /// The same world for a first process of that number, which is a child of the namespace's
    /// process 1: that is not in the model, and adopts its orphans without waiting for them.
    #[must_use]
    pub fn below_init(self, first: Pid) -> Config {
        let last_pid = self.last_pid.max(first.0);
        Config { first, last_pid, parent: Pid(1), adopter: Pid(1), ..self }
    }
}
