//! Tables of names, in the order in which they are printed.

use crate::abi::{Errno, SiCode};

use super::Restart;

/// A set of flags: what its bits are called, and what follows a number without any name.
pub(super) struct Flags {
    pub(super) names: &'static [(u64, &'static str)],
    /// strace's remark on a value of which it knows no bit.
    pub(super) unknown: Option<&'static str>,
    /// Other names that are understood, and not printed.
    pub(super) aliases: &'static [(u64, &'static str)],
}

pub(super) const WAIT: Flags = Flags {
    names: &[
        (0x1, "WNOHANG"),
        (0x2, "WSTOPPED"),
        (0x4, "WEXITED"),
        (0x8, "WCONTINUED"),
        (0x0100_0000, "WNOWAIT"),
        (0x8000_0000, "__WCLONE"),
        (0x4000_0000, "__WALL"),
        (0x2000_0000, "__WNOTHREAD"),
    ],
    unknown: None,
    aliases: &[(0x2, "WUNTRACED")],
};

pub(super) const SIGACTION: Flags = Flags {
    names: &[
        (0x0400_0000, "SA_RESTORER"),
        (0x0800_0000, "SA_ONSTACK"),
        (0x4, "SA_SIGINFO"),
        (0x1000_0000, "SA_RESTART"),
        (0x2000_0000, "SA_INTERRUPT"),
        (0x1, "SA_NOCLDSTOP"),
        (0x2, "SA_NOCLDWAIT"),
        (0x4000_0000, "SA_NODEFER"),
        (0x8000_0000, "SA_RESETHAND"),
    ],
    unknown: Some("SA_???"),
    aliases: &[],
};

const CLONE_NAMES: &[(u64, &str)] = &[
    (0x100, "CLONE_VM"),
    (0x200, "CLONE_FS"),
    (0x400, "CLONE_FILES"),
    (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (0x4000, "CLONE_VFORK"),
    (0x8000, "CLONE_PARENT"),
    (0x1_0000, "CLONE_THREAD"),
    (0x2_0000, "CLONE_NEWNS"),
    (0x4_0000, "CLONE_SYSVSEM"),
    (SETTLS, "CLONE_SETTLS"),
    (PARENT_SETTID, "CLONE_PARENT_SETTID"),
    (CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"),
    (0x80_0000, "CLONE_UNTRACED"),
    (CHILD_SETTID, "CLONE_CHILD_SETTID"),
    (0x200_0000, "CLONE_NEWCGROUP"),
    (0x400_0000, "CLONE_NEWUTS"),
    (0x800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
    (0x8000_0000, "CLONE_IO"),
];

/// Flags of clone(2), without the signal in the low byte.
pub(super) const CLONE: Flags =
    Flags { names: CLONE_NAMES, unknown: Some("CLONE_???"), aliases: CLONE3_ONLY };

const CLONE3_ONLY: &[(u64, &str)] = &[
    (0x1_0000_0000, "CLONE_CLEAR_SIGHAND"),
    (INTO_CGROUP, "CLONE_INTO_CGROUP"),
    (1 << 34, "CLONE_AUTOREAP"),
    (1 << 35, "CLONE_NNP"),
];

const CLONE3_NAMES: [(u64, &str); CLONE_NAMES.len() + CLONE3_ONLY.len()] = {
    let mut names = [(0, ""); CLONE_NAMES.len() + CLONE3_ONLY.len()];
    let mut nth = 0;
    while nth < names.len() {
        let only3 = nth.checked_sub(CLONE_NAMES.len());
        names[nth] = match only3 {
            None => CLONE_NAMES[nth],
            Some(nth) => CLONE3_ONLY[nth],
        };
        nth += 1;
    }
    names
};

/// Flags of clone3(2).
pub(super) const CLONE3: Flags =
    Flags { names: &CLONE3_NAMES, unknown: Some("CLONE_???"), aliases: &[] };

/// CLONE_PIDFD: an argument more.
pub(super) const PIDFD: u64 = 0x1000;
/// CLONE_SETTLS: an argument more.
pub(super) const SETTLS: u64 = 0x8_0000;
/// CLONE_PARENT_SETTID: an argument more.
pub(super) const PARENT_SETTID: u64 = 0x10_0000;
/// CLONE_CHILD_CLEARTID: an argument more.
pub(super) const CHILD_CLEARTID: u64 = 0x20_0000;
/// CLONE_CHILD_SETTID: an argument more.
pub(super) const CHILD_SETTID: u64 = 0x100_0000;
/// CLONE_INTO_CGROUP: an argument more.
pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;

/// An enumeration: its names from 0 up, and strace's remark on other numbers.
pub(super) struct Names {
    pub(super) names: &'static [&'static str],
    pub(super) unknown: &'static str,
}

pub(super) const HOW: Names =
    Names { names: &["SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"], unknown: "SIG_???" };
pub(super) const IDTYPE: Names =
    Names { names: &["P_ALL", "P_PID", "P_PGID", "P_PIDFD"], unknown: "P_???" };
pub(super) const ITIMER: Names =
    Names { names: &["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"], unknown: "ITIMER_???" };
pub(super) const DUMPABLE: Names = Names {
    names: &["SUID_DUMP_DISABLE", "SUID_DUMP_USER", "SUID_DUMP_ROOT"],
    unknown: "SUID_DUMP_???",
};
pub(super) const RESOURCE: Names = Names {
    names: &[
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ],
    unknown: "RLIMIT_???",
};

/// `si_code` of any signal.
pub(super) const SI_CODES: &[(i32, &str)] = &[
    (0, "SI_USER"),
    (0x80, "SI_KERNEL"),
    (-1, "SI_QUEUE"),
    (SI_TIMER, "SI_TIMER"),
    (-3, "SI_MESGQ"),
    (-4, "SI_ASYNCIO"),
    (-5, "SI_SIGIO"),
    (-6, "SI_TKILL"),
    (-7, "SI_DETHREAD"),
    (-60, "SI_ASYNCNL"),
];

/// `si_code` of a POSIX timer: other fields come with it.
pub(super) const SI_TIMER: i32 = SiCode::TIMER.0;

/// `si_code` of SIGCHLD.
pub(super) const CLD_CODES: &[(i32, &str)] = &[
    (1, "CLD_EXITED"),
    (2, "CLD_KILLED"),
    (3, "CLD_DUMPED"),
    (4, "CLD_TRAPPED"),
    (5, "CLD_STOPPED"),
    (6, "CLD_CONTINUED"),
];

impl Restart {
    pub(super) const ALL: [(Restart, &'static str, &'static str); 4] = [
        (Restart::Sys, "ERESTARTSYS", "To be restarted if SA_RESTART is set"),
        (Restart::NoIntr, "ERESTARTNOINTR", "To be restarted"),
        (Restart::NoHand, "ERESTARTNOHAND", "To be restarted if no handler"),
        (Restart::Block, "ERESTART_RESTARTBLOCK", "Interrupted by signal"),
    ];
}

/// The error of that name, under any of its names.
pub(super) fn errno(name: &str) -> Option<Errno> {
    match name {
        "EWOULDBLOCK" => Some(Errno::EAGAIN),
        "EDEADLOCK" => Errno::from_name("EDEADLK"),
        "ENOTSUP" => Some(Errno::EOPNOTSUPP),
        _ => Errno::from_name(name),
    }
}
