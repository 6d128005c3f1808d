//! The properties in which kernels differ.

use core::fmt;
use core::str::FromStr;

/// A behaviour that began with some release of Linux.
///
/// The number of a release does not determine its properties: stable and distribution kernels take
/// some changes from later releases and omit others. Each property therefore has a
/// [scenario](Property::scenario) that shows whether the running kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Property {
    /// rt_sigaction(2) clears the flags that the kernel does not know (SIG-09). Older kernels keep
    /// every bit.
    UnknownActionFlagsCleared,
    /// A signal that dumps core ends only the process to which it is delivered (EXIT-17). Older
    /// kernels end all processes that share its memory with the same signal, also a parent in
    /// vfork(2).
    CoreEndsOneProcess,
    /// A set\*uid call marks a process for the check at execve(2) if its new user has more
    /// processes than the limit (LIM-05). Older kernels mark it at the limit already.
    NprocMarkAboveLimit,
    /// A wait that does not reap the zombie (WNOWAIT), and /proc/PID/stat, show the status of the
    /// process (WAIT-33). Older kernels show there the status of the leader, if the leader ended
    /// before the other threads.
    ZombieShowsProcess,
    /// A signal to a process that is ending, or has ended, is dropped (EXIT-13, ZOM-09). Older
    /// kernels keep it pending, with its record charged, until the process is reaped.
    EndedDropSignals,
    /// The last of several threads that exits determines the status of the process, if no group
    /// exit did (TG-89). Older kernels take the status of the leader, whenever the leader ended.
    LastThreadDecides,
    /// The records of the private signals of a task are free when the task has ended (LIM-07).
    /// Otherwise those of a leader stay charged until the process is reaped. Builds of one release
    /// differ in this property.
    EndedFreeRecords,
    /// A signal with the default action spares an init also if the target task blocks it and
    /// another thread does not (KILL-24). Otherwise it ends the init. Builds of one release differ
    /// in this property.
    InitIsSpared,
    /// SIGCHLD has the status of the process in its siginfo (TG-97). On older kernels it has the
    /// status of the leader, if the leader ended before the other threads.
    ChildSignalTellsProcess,
    /// execve(2) keeps an effective user that differs from the real user, also while the process
    /// shares its working directory (CLONE_FS) with another process (CRED-01). Older kernels treat
    /// the program like a set-user-ID program, and make the real user the effective user, unless
    /// the process has CAP_SETUID.
    SharedExecKeepsUser,
    /// Other runnable tasks run before the kernel notifies any process of an end (EXIT-11). That is
    /// so on preemptible kernels; on others it is one of the orders that timing decides, and not
    /// the canonical order.
    ExitIsPreempted,
    /// clone(2) refuses an exit signal of 65 to 255 with EINVAL (FORK-18). Older kernels create a
    /// child that sends no signal.
    ExitSignalChecked,
    /// clone3(2) takes CLONE_AUTOREAP and CLONE_NNP (ZOM-15). Older kernels refuse both with
    /// EINVAL.
    Autoreap,
}

impl Property {
    /// All properties, the oldest first.
    pub const ALL: [Property; 13] = [
        Property::UnknownActionFlagsCleared,
        Property::CoreEndsOneProcess,
        Property::NprocMarkAboveLimit,
        Property::ZombieShowsProcess,
        Property::EndedDropSignals,
        Property::LastThreadDecides,
        Property::EndedFreeRecords,
        Property::InitIsSpared,
        Property::ChildSignalTellsProcess,
        Property::SharedExecKeepsUser,
        Property::ExitIsPreempted,
        Property::ExitSignalChecked,
        Property::Autoreap,
    ];

    /// The first mainline release with the property, as major and minor number; `None` if the
    /// release does not determine it.
    pub const fn since(self) -> Option<(u16, u16)> {
        Some(match self {
            Property::UnknownActionFlagsCleared => (5, 11),
            Property::CoreEndsOneProcess => (5, 16),
            Property::NprocMarkAboveLimit | Property::ZombieShowsProcess => (5, 17),
            Property::EndedDropSignals => (5, 18),
            Property::LastThreadDecides => (6, 0),
            Property::ChildSignalTellsProcess => (6, 15),
            Property::SharedExecKeepsUser => (6, 17),
            Property::EndedFreeRecords | Property::InitIsSpared | Property::ExitIsPreempted => {
                return None;
            }
            Property::ExitSignalChecked | Property::Autoreap => (7, 1),
        })
    }

    /// A description of the property.
    pub const fn name(self) -> &'static str {
        match self {
            Property::UnknownActionFlagsCleared => "unknown flags of rt_sigaction are cleared",
            Property::CoreEndsOneProcess => "a core dump ends one process only",
            Property::NprocMarkAboveLimit => "set*uid marks a process only above RLIMIT_NPROC",
            Property::ZombieShowsProcess => "WNOWAIT and /proc show how a process ended",
            Property::EndedDropSignals => "processes that have ended drop signals",
            Property::LastThreadDecides => "the last thread to exit decides about the status",
            Property::EndedFreeRecords => "a task that has ended holds no signal records",
            Property::InitIsSpared => {
                "an init is spared where one of its threads blocks the signal"
            }
            Property::ChildSignalTellsProcess => "SIGCHLD tells how a process ended",
            Property::SharedExecKeepsUser => "execve keeps the effective user beside CLONE_FS",
            Property::ExitIsPreempted => "an exit is preempted before any process is notified",
            Property::ExitSignalChecked => "clone refuses exit signals above 64",
            Property::Autoreap => "clone3 takes CLONE_AUTOREAP and CLONE_NNP",
        }
    }

    /// A log in the form of strace(1), of calls in a fresh pid namespace. A kernel shows its
    /// results exactly if the kernel has the property.
    pub const fn scenario(self) -> &'static str {
        match self {
            Property::UnknownActionFlagsCleared => include_str!("version/action_flags.strace"),
            Property::CoreEndsOneProcess => include_str!("version/core_one_process.strace"),
            Property::NprocMarkAboveLimit => include_str!("version/nproc_mark.strace"),
            Property::ZombieShowsProcess => include_str!("version/zombie_status.strace"),
            Property::EndedDropSignals => include_str!("version/ended_signals.strace"),
            Property::LastThreadDecides => include_str!("version/last_thread.strace"),
            Property::EndedFreeRecords => include_str!("version/ended_records.strace"),
            Property::InitIsSpared => include_str!("version/init_spared.strace"),
            Property::ChildSignalTellsProcess => include_str!("version/child_signal.strace"),
            Property::SharedExecKeepsUser => include_str!("version/shared_exec.strace"),
            Property::ExitIsPreempted => include_str!("version/exit_preempted.strace"),
            Property::ExitSignalChecked => include_str!("version/exit_signal.strace"),
            Property::Autoreap => include_str!("version/autoreap.strace"),
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A release of Linux, and its [properties](Property).
///
/// ```
/// use proctable::kernel::{Property, Version};
///
/// let bookworm: Version = "6.1".parse()?;
/// assert!(bookworm.has(Property::NprocMarkAboveLimit));
/// assert!(!bookworm.has(Property::ExitSignalChecked));
/// // a distribution that has taken the change
/// assert!(bookworm.with(Property::ExitSignalChecked, true).has(Property::ExitSignalChecked));
/// # Ok::<(), proctable::kernel::NotAVersion>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Version {
    major: u16,
    minor: u16,
    properties: u32,
}

impl Version {
    /// The newest release that the model was compared with, and the default.
    pub const NEWEST: Version = Version::new(7, 3);

    /// A mainline release.
    pub const fn new(major: u16, minor: u16) -> Version {
        let mut properties = 0;
        let mut nth = 0;
        while nth < Property::ALL.len() {
            if let Some((since_major, since_minor)) = Property::ALL[nth].since()
                && (major > since_major || major == since_major && minor >= since_minor)
            {
                properties |= Property::ALL[nth].bit();
            }
            nth += 1;
        }
        Version { major, minor, properties }
    }

    /// The same release with or without a property, as a stable or distribution kernel may be.
    #[must_use]
    pub const fn with(mut self, property: Property, present: bool) -> Version {
        if present {
            self.properties |= property.bit();
        } else {
            self.properties &= !property.bit();
        }
        self
    }

    /// Whether the kernel has the property.
    #[inline]
    pub const fn has(self, property: Property) -> bool {
        self.properties & property.bit() != 0
    }
}

impl Default for Version {
    fn default() -> Version {
        Version::NEWEST
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text does not begin with a release number such as `6.1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NotAVersion;

impl fmt::Display for NotAVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a kernel's version is two numbers, such as 6.1")
    }
}

impl core::error::Error for NotAVersion {}

impl FromStr for Version {
    type Err = NotAVersion;

    /// Reads the first two numbers of a release as uname(2) returns it, such as `6.1.0-9-amd64`.
    fn from_str(text: &str) -> Result<Version, NotAVersion> {
        let mut numbers = text.trim().splitn(3, '.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse::<u16>().map_err(|_| NotAVersion)
        });
        let mut next = || numbers.next().unwrap_or(Err(NotAVersion));
        Ok(Version::new(next()?, next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        for text in ["6.1", "6.1.0-9-amd64", " 6.1-rc3\n", "6.1+"] {
            assert_eq!(text.parse(), Ok(Version::new(6, 1)), "{text}");
        }
        for text in ["", "6", "6.", ".1", "six.one", "99999.1"] {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion), "{text}");
        }
    }

    #[test]
    fn a_release_has_all_earlier_properties() {
        let old = Version::new(5, 10);
        assert!(Property::ALL.iter().all(|property| !old.has(*property)));
        let released = |property: &&Property| property.since().is_some();
        let mut newer = Property::ALL.iter().filter(released);
        assert!(newer.all(|property| Version::NEWEST.has(*property)));
        assert!(!Version::new(7, 0).has(Property::Autoreap));
        assert!(Version::new(8, 0).has(Property::Autoreap));
        let patched = old.with(Property::Autoreap, true);
        assert!(patched.has(Property::Autoreap));
        assert_eq!(patched.with(Property::Autoreap, false), old);
    }
}
