//! The settings of a table.

use alloc::sync::Arc;
use core::time::Duration;

use super::Process;
use super::clock::{Clock, RealClock};
use crate::abi::{Resource, Rlimit};
use crate::driver::DriverProcess;
use crate::kernel::Config;

/// Makes the drivers of processes that guests create.
pub(super) type DriverFactory =
    Arc<dyn Fn(&Process) -> Option<Arc<dyn DriverProcess>> + Send + Sync>;

/// The kind of process 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Init {
    /// The table itself, for the runtime that embeds it: the leader of session 1, which is never
    /// stopped and takes no signal (EPERM, also for the runtime). It is the parent of processes
    /// that have no other parent, and adopts orphans. Its zombies are reaped after
    /// [`TableConfig::zombie_ttl`].
    #[default]
    Table,
    /// A guest like any other, with the rights and duties of a pid namespace's init: it reaps its
    /// zombies itself, and all other processes are killed when it ends (NS-08).
    Guest,
}

/// The thread that processes deadlines: it reaps zombies and lets alarms expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimerMode {
    /// One timer thread for all tables of the program. It runs while any of them has a deadline,
    /// for tables whose clock follows real time. It also calls drivers and callbacks, as a
    /// consequence of a deadline: a slow one delays the next deadline in every table, and one that
    /// waits for a later deadline never returns.
    #[default]
    Thread,
    /// The thread that calls [`reap_due`](super::ProcessTable::reap_due). It has to do so at
    /// [`next_deadline`](super::ProcessTable::next_deadline) at the latest.
    Caller,
}

/// The thread in which drivers carry out operations and exit callbacks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DispatchMode {
    /// The thread that caused them, before its call returns; the timer thread for deadlines.
    #[default]
    Caller,
    /// The thread that calls [`dispatch`](super::ProcessTable::dispatch), a loop of the runtime's.
    /// Results that come after an operation or a callback wait for it: that thread must not wait
    /// for a call of a guest or for a child.
    Request,
}

/// The limits of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// Processes, zombies and process 1 included, and their further threads: EAGAIN beyond the
    /// limit, as with the pids controller of cgroups(7). Unlimited by default, up to `pid_max`
    /// numbers.
    pub processes: u32,
    /// Queued signal records of one user (RLIMIT_SIGPENDING): EAGAIN beyond the limit (LIM-08).
    /// 4,096 by default.
    pub pending_signals: u64,
    /// Receivers of [`subscribe`](super::ProcessTable::subscribe): EMFILE beyond the limit, as with
    /// inotify_init(2). 64 by default.
    pub subscribers: u32,
}

impl Default for TableLimits {
    fn default() -> TableLimits {
        TableLimits { processes: u32::MAX, pending_signals: 4096, subscribers: 64 }
    }
}

/// The settings of a [`ProcessTable`](super::ProcessTable).
///
/// ```
/// use std::time::Duration;
/// use proctable::table::{ManualClock, ProcessTable, TableConfig};
///
/// let clock = ManualClock::new();
/// let table = ProcessTable::with_config(
///     TableConfig::new().clock(clock.clone()).zombie_ttl(Some(Duration::from_secs(5))),
/// );
/// assert_eq!(table.counts().processes, 1);
/// ```
#[derive(Clone)]
#[must_use]
pub struct TableConfig {
    pub(super) kernel: Config,
    pub(super) init: Init,
    pub(super) timer_mode: TimerMode,
    pub(super) limits: TableLimits,
    pub(super) zombie_ttl: Option<Duration>,
    pub(super) drivers: Option<DriverFactory>,
    pub(super) dispatch_mode: DispatchMode,
    /// `None` is real time.
    clock: Option<Arc<dyn Clock>>,
}

impl core::fmt::Debug for TableConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let TableConfig { kernel, init, timer_mode, limits, zombie_ttl, dispatch_mode, .. } = self;
        f.debug_struct("TableConfig")
            .field("kernel", kernel)
            .field("init", init)
            .field("timer_mode", timer_mode)
            .field("limits", limits)
            .field("zombie_ttl", zombie_ttl)
            .field("dispatch_mode", dispatch_mode)
            .finish_non_exhaustive()
    }
}

impl Default for TableConfig {
    fn default() -> TableConfig {
        TableConfig {
            kernel: Config::default(),
            init: Init::default(),
            timer_mode: TimerMode::default(),
            limits: TableLimits::default(),
            zombie_ttl: Some(TableConfig::ZOMBIE_TTL),
            drivers: None,
            dispatch_mode: DispatchMode::default(),
            clock: None,
        }
    }
}

impl TableConfig {
    /// How long a zombie of the table's init is kept by default: one minute.
    pub const ZOMBIE_TTL: Duration = Duration::from_secs(60);

    /// The default settings.
    pub fn new() -> TableConfig {
        TableConfig::default()
    }

    /// Sets the numbers, the user, the umask, the working directory and the limits of the first
    /// process. Its number is 1, whatever `kernel.first` says.
    pub fn kernel(mut self, kernel: Config) -> TableConfig {
        self.kernel = kernel;
        self
    }

    /// Sets the kind of process 1.
    pub fn init(mut self, init: Init) -> TableConfig {
        self.init = init;
        self
    }

    /// Sets the thread that processes deadlines.
    pub fn timer_mode(mut self, timer_mode: TimerMode) -> TableConfig {
        self.timer_mode = timer_mode;
        self
    }

    /// Sets the thread in which drivers carry out operations.
    pub fn dispatch_mode(mut self, dispatch_mode: DispatchMode) -> TableConfig {
        self.dispatch_mode = dispatch_mode;
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: TableLimits) -> TableConfig {
        self.limits = limits;
        self
    }

    /// Sets how long a zombie whose parent is the table's init is kept for a later wait; `None`
    /// keeps it without limit. One minute by default. Not used with [`Init::Guest`].
    pub fn zombie_ttl(mut self, ttl: Option<Duration>) -> TableConfig {
        self.zombie_ttl = ttl;
        self
    }

    /// Sets a function that gives a driver to each process that a guest creates itself (fork,
    /// vfork, clone), and to process 1 with [`Init::Guest`]; `None` for no driver. The table calls
    /// it outside of its lock before the first operation of the process, from the thread that
    /// caused the creation. A panic counts as `None`.
    ///
    /// A process that [`Process::spawn`](super::Process::spawn) creates has the driver of its
    /// [`Spawn`](super::Spawn).
    pub fn drivers(
        mut self,
        factory: impl Fn(&Process) -> Option<Arc<dyn DriverProcess>> + Send + Sync + 'static,
    ) -> TableConfig {
        self.drivers = Some(Arc::new(factory));
        self
    }

    /// Sets the clock; real time by default.
    pub fn clock(mut self, clock: impl Clock) -> TableConfig {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The clock of the settings, or real time from now on.
    pub(super) fn time(&self) -> Arc<dyn Clock> {
        self.clock.clone().unwrap_or_else(|| Arc::new(RealClock::new()))
    }

    /// The settings of the model.
    pub(super) fn model(&self) -> Config {
        let mut config = self.kernel.clone();
        config.first = crate::abi::Pid(1);
        let records =
            Rlimit { soft: self.limits.pending_signals, hard: self.limits.pending_signals };
        if !config.limits.iter().any(|(resource, _)| *resource == Resource::SIGPENDING) {
            config.limits.reserve_exact(1);
            config.limits.push((Resource::SIGPENDING, records));
        }
        config
    }
}
