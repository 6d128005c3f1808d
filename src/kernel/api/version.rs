//! What one kernel does and another does not.

use core::fmt;
use core::str::FromStr;

/// Something that kernels began to do with some release, and did otherwise before.
///
/// A release number alone does not tell: stable and distribution kernels take some changes from
/// later releases and leave out others. Each property therefore has a
/// [scenario](Property::scenario) that the running kernel can be asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Property {
    /// rt_sigaction(2) clears the flags that the kernel does not know (SIG-09). Older kernels keep
    /// every bit.
    UnknownActionFlagsCleared,
    /// A signal that dumps core ends the process that it is delivered to and nobody else (EXIT-05).
    /// Older kernels end all that share its memory by the same signal, a parent in vfork(2) too.
    CoreSparesSharers,
    /// A set\*uid call marks a process for the check at execve(2) if its new user has more
    /// processes than the limit (LIM-05). Older kernels mark it at the limit already.
    NprocMarkAboveLimit,
    /// A wait that leaves the zombie (WNOWAIT), and /proc/PID/stat, show how the process ended
    /// (WAIT-33). Older kernels show there with what its first thread ended, if that did so before
    /// the others.
    ZombieShowsProcess,
    /// What is sent to a process that is ending, or has ended, is dropped (EXIT-13, ZOM-09). Older
    /// kernels keep it pending, with its record charged, until the process is reaped.
    EndedDropSignals,
    /// The last of several threads to exit decides about the status of the process, if nobody has
    /// ended all of them (TG-89). Older kernels take what its first thread ended with, whenever
    /// that was.
    LastThreadDecides,
    /// The records of signals that were pending for a task alone are free when it has ended
    /// (LIM-07). Elsewhere those of a process's first thread are charged until it is reaped. Builds
    /// of one release differ in that.
    EndedFreeRecords,
    /// A signal with the default action spares an init also where the thread that it is aimed at
    /// blocks it, and another thread does not (KILL-24). Elsewhere it ends the init. Builds of one
    /// release differ in that.
    InitIsSpared,
    /// SIGCHLD tells how the process ended (TG-97). Older kernels tell in its siginfo with what the
    /// first thread of the process ended, if that did so before the others.
    ChildSignalTellsProcess,
    /// execve(2) keeps an effective user that differs from the real one also while the process
    /// shares its working directory (CLONE_FS) with another one (CRED-01). Older kernels take such
    /// a program for a set-user-ID one, and make the real user the effective one, unless the
    /// process has CAP_SETUID.
    SharedExecKeepsUser,
    /// A process that ends lets the others that can run go first, before anyone is told of its end
    /// (EXIT-11). That is so where the kernel is preemptible; elsewhere it is one of the orders
    /// that timing decides, and not the canonical one.
    ExitIsPreempted,
    /// clone(2) refuses an exit signal of 65 to 255 with EINVAL (FORK-18). Older kernels create a
    /// child that sends no signal.
    ExitSignalChecked,
    /// clone3(2) takes CLONE_AUTOREAP and CLONE_NNP (ZOM-15). Older kernels refuse both with
    /// EINVAL.
    Autoreap,
}

impl Property {
    /// All of them, the oldest first.
    pub const ALL: [Property; 13] = [
        Property::UnknownActionFlagsCleared,
        Property::CoreSparesSharers,
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

    /// The first release of the main line that has it, as major and minor number; `None` for what
    /// does not follow from that.
    pub const fn since(self) -> Option<(u16, u16)> {
        Some(match self {
            Property::UnknownActionFlagsCleared => (5, 11),
            Property::CoreSparesSharers => (5, 16),
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

    /// Its name, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Property::UnknownActionFlagsCleared => "unknown flags of rt_sigaction are cleared",
            Property::CoreSparesSharers => "a core dump spares those who share the memory",
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
            Property::ExitIsPreempted => "an end is preempted before anyone is told of it",
            Property::ExitSignalChecked => "clone refuses exit signals above 64",
            Property::Autoreap => "clone3 takes CLONE_AUTOREAP and CLONE_NNP",
        }
    }

    /// Calls with the results that they have exactly where the property holds: a log in the form of
    /// strace(1), on a fresh pid namespace.
    pub const fn scenario(self) -> &'static str {
        match self {
            Property::UnknownActionFlagsCleared => include_str!("version/action_flags.strace"),
            Property::CoreSparesSharers => include_str!("version/core_sharers.strace"),
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

/// A release of Linux, and which [properties](Property) it has.
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
    /// The newest release with which the model was compared, and the default.
    pub const NEWEST: Version = Version::new(7, 3);

    /// A release of the main line.
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

    /// Whether the kernel has that property.
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

    /// The first two numbers of a release as uname(2) gives it, such as `6.1.0-9-amd64`.
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
    fn a_release_has_what_came_before_it() {
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
