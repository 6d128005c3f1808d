//! Tables of names, in the order in which they are printed.

use crate::abi::{Errno, SiCode};
use crate::syscall::{clone, open};

use super::RestartCode;

/// A set of flags: the names of its bits, and the comment after a number without a name.
pub(super) struct Flags {
    pub(super) names: &'static [(u64, &'static str)],
    /// The comment of strace on a value without a known bit.
    pub(super) unknown: Option<&'static str>,
    /// Other names that the parser accepts, and the printer does not use.
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

/// The access modes of open(2), by their numbers.
pub(super) const ACCESS_MODES: [&str; 4] = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"];

/// The other flags of open(2).
pub(super) const OPEN: Flags = Flags {
    names: &[(open::NOCTTY as u64, "O_NOCTTY"), (open::NONBLOCK as u64, "O_NONBLOCK")],
    unknown: None,
    aliases: &[],
};

pub(super) const POLL: Flags = Flags {
    names: &[
        (0x1, "POLLIN"),
        (0x2, "POLLPRI"),
        (0x4, "POLLOUT"),
        (0x8, "POLLERR"),
        (0x10, "POLLHUP"),
        (0x20, "POLLNVAL"),
        (0x40, "POLLRDNORM"),
        (0x80, "POLLRDBAND"),
        (0x100, "POLLWRNORM"),
        (0x200, "POLLWRBAND"),
        (0x400, "POLLMSG"),
        (0x1000, "POLLREMOVE"),
        (0x2000, "POLLRDHUP"),
    ],
    unknown: None,
    aliases: &[],
};

const CLONE_NAMES: &[(u64, &str)] = &[
    (clone::VM, "CLONE_VM"),
    (clone::FS, "CLONE_FS"),
    (clone::FILES, "CLONE_FILES"),
    (clone::SIGHAND, "CLONE_SIGHAND"),
    (clone::PIDFD, "CLONE_PIDFD"),
    (clone::PTRACE, "CLONE_PTRACE"),
    (clone::VFORK, "CLONE_VFORK"),
    (clone::PARENT, "CLONE_PARENT"),
    (clone::THREAD, "CLONE_THREAD"),
    (clone::NEWNS, "CLONE_NEWNS"),
    (clone::SYSVSEM, "CLONE_SYSVSEM"),
    (clone::SETTLS, "CLONE_SETTLS"),
    (clone::PARENT_SETTID, "CLONE_PARENT_SETTID"),
    (clone::CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"),
    (clone::UNTRACED, "CLONE_UNTRACED"),
    (clone::CHILD_SETTID, "CLONE_CHILD_SETTID"),
    (clone::NEWCGROUP, "CLONE_NEWCGROUP"),
    (clone::NEWUTS, "CLONE_NEWUTS"),
    (clone::NEWIPC, "CLONE_NEWIPC"),
    (clone::NEWUSER, "CLONE_NEWUSER"),
    (clone::NEWPID, "CLONE_NEWPID"),
    (clone::NEWNET, "CLONE_NEWNET"),
    (clone::IO, "CLONE_IO"),
];

/// Other names of the flags of clone: strace prints a number for this flag.
const DETACHED: (u64, &str) = (clone::DETACHED, "CLONE_DETACHED");

/// Flags of clone(2), without the signal in the low byte.
pub(super) const CLONE: Flags = Flags {
    names: CLONE_NAMES,
    unknown: Some("CLONE_???"),
    aliases: &[DETACHED, CLONE3_ONLY[1], CLONE3_ONLY[2], CLONE3_ONLY[3], CLONE3_ONLY[4]],
};

const CLONE3_ONLY: [(u64, &str); 5] = [
    (clone::NEWTIME, "CLONE_NEWTIME"),
    (clone::CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND"),
    (clone::INTO_CGROUP, "CLONE_INTO_CGROUP"),
    (clone::AUTOREAP, "CLONE_AUTOREAP"),
    (clone::NNP, "CLONE_NNP"),
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
    Flags { names: &CLONE3_NAMES, unknown: Some("CLONE_???"), aliases: &[DETACHED] };

/// Flags of unshare(2).
pub(super) const UNSHARE: Flags = Flags {
    names: &[
        (clone::NEWTIME, "CLONE_NEWTIME"),
        (clone::VM, "CLONE_VM"),
        (clone::FS, "CLONE_FS"),
        (clone::FILES, "CLONE_FILES"),
        (clone::SIGHAND, "CLONE_SIGHAND"),
        (clone::THREAD, "CLONE_THREAD"),
        (clone::NEWNS, "CLONE_NEWNS"),
        (clone::SYSVSEM, "CLONE_SYSVSEM"),
        (clone::NEWCGROUP, "CLONE_NEWCGROUP"),
        (clone::NEWUTS, "CLONE_NEWUTS"),
        (clone::NEWIPC, "CLONE_NEWIPC"),
        (clone::NEWUSER, "CLONE_NEWUSER"),
        (clone::NEWPID, "CLONE_NEWPID"),
        (clone::NEWNET, "CLONE_NEWNET"),
    ],
    unknown: Some("CLONE_???"),
    aliases: CLONE_NAMES,
};

/// The flags with which clone(2) has an argument `parent_tid`: a pidfd is stored there as well.
pub(super) const TO_PARENT: u64 = clone::PIDFD | clone::PARENT_SETTID;
/// The flags with which clone(2) has an argument `child_tidptr`, and clone3(2) a `child_tid`.
pub(super) const TO_CHILD: u64 = clone::CHILD_SETTID | clone::CHILD_CLEARTID;
/// The flags with which strace shows arguments of clone(2) only when the call has returned.
pub(super) const STORES: u64 = TO_PARENT | TO_CHILD | clone::SETTLS;

/// An enumeration: its names from 0 up, and the comment of strace on other numbers.
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

/// `si_code` of a POSIX timer, which has other fields.
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

impl RestartCode {
    pub(super) const ALL: [(RestartCode, &'static str, &'static str); 4] = [
        (RestartCode::Sys, "ERESTARTSYS", "To be restarted if SA_RESTART is set"),
        (RestartCode::NoIntr, "ERESTARTNOINTR", "To be restarted"),
        (RestartCode::NoHand, "ERESTARTNOHAND", "To be restarted if no handler"),
        (RestartCode::Block, "ERESTART_RESTARTBLOCK", "Interrupted by signal"),
    ];
}

/// The error with that name, which may be one of several names.
pub(super) fn errno(name: &str) -> Option<Errno> {
    match name {
        "EWOULDBLOCK" => Some(Errno::EAGAIN),
        "EDEADLOCK" => Errno::from_name("EDEADLK"),
        "ENOTSUP" => Some(Errno::EOPNOTSUPP),
        _ => Errno::from_name(name),
    }
}
