//! Signals and their default actions.

use core::fmt;
use core::num::NonZeroU8;

use super::SigSet;

/// A signal, 1 to 64. "No signal" (the 0 of kill(2)) is `Option<Signal>`.
///
/// 1 to 31 are the standard signals, 32 to 64 the real-time ones as the kernel counts
/// them (SIG-05); C libraries keep 32 and 33 for themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Signal(NonZeroU8);

/// The default action of a signal (SIG-01 to SIG-04).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends and may leave a core.
    Core,
    /// The process stops.
    Stop,
    /// Nothing happens. SIGCONT has this action: it continues the process at generation, and not at
    /// delivery.
    Ignore,
}

macro_rules! signals {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Signal {
            $(#[doc = $text] pub const $name: Signal = Signal(NonZeroU8::new($number).unwrap());)*

            /// The name of a standard signal, without `SIG`.
            fn standard_name(self) -> Option<&'static str> {
                match self.number() { $($number => Some(stringify!($name)),)* _ => None }
            }

            fn from_standard_name(name: &str) -> Option<Signal> {
                match name { $(stringify!($name) => Some(Signal::$name),)* _ => None }
            }
        }
    };
}

signals! {
    HUP = 1, "Hangup; also the first of the two signals of a newly orphaned group (ORP-09).";
    INT = 2, "Interrupt from the terminal.";
    QUIT = 3, "Quit from the terminal, with a core.";
    ILL = 4, "Illegal instruction.";
    TRAP = 5, "Breakpoint.";
    ABRT = 6, "abort(3).";
    BUS = 7, "Bad memory access.";
    FPE = 8, "Arithmetic error.";
    KILL = 9, "Ends the process; cannot be caught, blocked or ignored.";
    USR1 = 10, "For the program's own use.";
    SEGV = 11, "Invalid memory reference.";
    USR2 = 12, "For the program's own use.";
    PIPE = 13, "Write to a pipe without readers.";
    ALRM = 14, "alarm(2) and ITIMER_REAL.";
    TERM = 15, "Polite request to end.";
    STKFLT = 16, "Unused by the kernel.";
    CHLD = 17, "A child stopped, continued or ended.";
    CONT = 18, "Resumes a stopped process.";
    STOP = 19, "Stops the process; cannot be caught, blocked or ignored.";
    TSTP = 20, "Stop typed at the terminal.";
    TTIN = 21, "Terminal input from the background.";
    TTOU = 22, "Terminal output from the background.";
    URG = 23, "Urgent data on a socket.";
    XCPU = 24, "CPU time limit.";
    XFSZ = 25, "File size limit.";
    VTALRM = 26, "ITIMER_VIRTUAL.";
    PROF = 27, "ITIMER_PROF.";
    WINCH = 28, "The terminal's window changed.";
    IO = 29, "Input or output is possible.";
    PWR = 30, "Power failure.";
    SYS = 31, "Bad system call.";
}

impl Signal {
    /// The first real-time signal as the kernel counts them.
    pub const RTMIN: Signal = Signal(NonZeroU8::new(32).unwrap());
    /// The last signal.
    pub const RTMAX: Signal = Signal(NonZeroU8::new(64).unwrap());

    /// The signal of that number; `None` outside 1 to 64 (SIG-06).
    ///
    /// ```
    /// # use proctable::abi::Signal;
    /// assert_eq!(Signal::new(9), Some(Signal::KILL));
    /// assert_eq!(Signal::new(0), None);
    /// assert_eq!(Signal::new(65), None);
    /// ```
    pub const fn new(number: i32) -> Option<Signal> {
        if number < 1 || number > 64 {
            return None;
        }
        match NonZeroU8::new(number as u8) {
            Some(n) => Some(Signal(n)),
            None => None,
        }
    }

    /// The number of the signal, 1 to 64.
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// All signals, ascending.
    pub fn all() -> impl Iterator<Item = Signal> {
        (1..=64).filter_map(Signal::new)
    }

    /// Whether several instances queue, instead of one (SIG-24).
    pub const fn is_realtime(self) -> bool {
        self.number() >= 32
    }

    /// Whether it is SIGKILL or SIGSTOP, which no process can catch, block or ignore (JOB-08).
    pub const fn is_kernel_only(self) -> bool {
        matches!(self, Signal::KILL | Signal::STOP)
    }

    /// Whether the signal is one of the four stop signals (SIG-03).
    pub const fn is_stop(self) -> bool {
        matches!(self, Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU)
    }

    /// The default action of the signal (SIG-01 to SIG-04).
    pub const fn default_action(self) -> DefaultAction {
        match self.number() {
            17 | 18 | 23 | 28 => DefaultAction::Ignore,
            19..=22 => DefaultAction::Stop,
            3..=8 | 11 | 24 | 25 | 31 => DefaultAction::Core,
            _ => DefaultAction::Terminate,
        }
    }

    /// The set that holds this signal alone.
    pub const fn set(self) -> SigSet {
        SigSet::from_bits(1 << (self.number() - 1))
    }

    /// The signal of a name as strace writes it, with or without `SIG`: `SIGTERM`, `TERM`,
    /// `SIGRTMIN`, `RT_2`. Costs a scan of the names.
    pub fn from_name(name: &str) -> Option<Signal> {
        let bare = name.strip_prefix("SIG").unwrap_or(name);
        if bare == "RTMIN" {
            return Some(Signal::RTMIN);
        }
        if let Some(nth) = bare.strip_prefix("RT_") {
            let nth: i32 = nth.parse().ok()?;
            return (1..=32).contains(&nth).then(|| Signal::new(32 + nth))?;
        }
        Signal::from_standard_name(bare)
    }

    /// Writes the name without `SIG`, as strace does inside sets.
    pub(crate) fn write_bare(self, f: &mut dyn fmt::Write) -> fmt::Result {
        match (self.standard_name(), self.number()) {
            (Some(name), _) => f.write_str(name),
            (None, 32) => f.write_str("RTMIN"),
            (None, n) => write!(f, "RT_{}", n - 32),
        }
    }
}

impl fmt::Display for Signal {
    /// The name as strace writes it: `SIGTERM`, `SIGRTMIN`, `SIGRT_2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SIG")?;
        self.write_bare(f)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
