//! The zygote, from which all test namespaces of a controller are forked.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use super::agent::{EXE_FD, WIRE_FD};
use super::os::{self, SharedMapping};
use super::procfs::SleepFile;
use super::shared_memory::{Op, RawCall, SharedMemory};
use super::sysctl::{Sysctl, Sysctls};
use super::test_namespace::{TestNamespace, TestNamespaceConfig};
use super::{Mode, SELF_PATH, ZYGOTE_ARG, raw};
use crate::abi::{Pid, Resource, Rlimit};
use crate::syscall::{Syscall, TerminalPath, open};

/// The limit for operations that take microseconds. An ordinary process may have to wait for a CPU
/// behind many others.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The real-time priority of agents: above all ordinary processes.
const PRIORITY: i32 = 10;

/// The settings of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The mode that [`probe`](super::probe()) found, or that the [`Link`](super::Link) has.
    pub mode: Mode,
    /// A program that calls [`agent_entry`](super::agent_entry) in a constructor.
    pub agent_exe: PathBuf,
    /// The CPU for the controller and the agents; the present one by default.
    pub cpu: Option<usize>,
    /// Controller and agents run on all CPUs instead, as ordinary processes: their calls run at the
    /// same time, and the order is different in each run.
    pub concurrent: bool,
}

/// The controller's side of the oracle: it creates [`TestNamespace`]s, one at a time.
///
/// It has to run in a [`Worker`](super::Worker): there its thread is the only one, it has the
/// privilege to create namespaces, and the processes that it starts cannot outlive it.
#[derive(Debug)]
pub struct Engine {
    pub(super) memory: SharedMapping,
    zygote: Child,
    realtime: bool,
    concurrent: bool,
    /// The file that shows which tasks sleep, if the kernel has one.
    pub(super) sleep_file: Option<SleepFile>,
    pub(super) sysctls: Sysctls,
    features: OracleFeatures,
    pid_max: u32,
    command: u32,
    /// How long the controller sleeps after a call on a terminal.
    pub(super) terminal_pause: Duration,
}

/// The abilities that the kernel and the environment give the oracle; otherwise the reason in
/// words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OracleFeatures {
    /// A pid namespace has its own pid_max (PID-07), and it can be written.
    pub pid_max: Result<(), String>,
    /// The last allocated number can be written (PID-12).
    pub last_pid: Result<(), String>,
    /// An agent can execute its own program again.
    pub execve: Result<(), String>,
    /// A pty can be opened.
    pub terminals: Result<(), String>,
}

impl OracleFeatures {
    /// The calls and settings that programs must not use, and why: one line for each.
    pub fn left_out(&self) -> Vec<String> {
        let all = [&self.pid_max, &self.last_pid, &self.execve, &self.terminals];
        let names = ["pid_max", "ns_last_pid", "execve", "terminals"];
        let missing = names.iter().zip(all).filter_map(|(name, ability)| {
            let why = ability.as_ref().err()?;
            Some(format!("{name} ({why})"))
        });
        missing.collect()
    }
}

impl Engine {
    /// Pins this process to one CPU, unless the engine is concurrent, and starts the zygote.
    pub fn start(config: &EngineConfig) -> io::Result<Engine> {
        if !config.concurrent {
            os::pin(config.cpu.unwrap_or_else(os::current_cpu))?;
        }
        let memory = SharedMapping::new(WIRE_FD)?;
        memory.core_limit.store(core_limit(), Relaxed);
        let exe = File::open(&config.agent_exe)?;
        os::inherit(exe.as_raw_fd(), EXE_FD)?;
        let zygote = Command::new(&config.agent_exe)
            .arg(ZYGOTE_ARG.to_str().unwrap_or_default())
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = zygote.id() as i32;
        let realtime = !config.concurrent
            && config.mode == Mode::Root
            && os::make_realtime(pid, PRIORITY).is_ok();
        let unknown = || Err("not tried".to_owned());
        let abilities = OracleFeatures {
            pid_max: unknown(),
            last_pid: unknown(),
            execve: unknown(),
            terminals: unknown(),
        };
        let sysctls = Sysctls::open();
        let pid_max = sysctls.pid_max()?;
        let mut engine = Engine {
            memory,
            zygote,
            realtime,
            concurrent: config.concurrent,
            sleep_file: None,
            sysctls,
            features: abilities,
            pid_max,
            command: 0,
            terminal_pause: Duration::ZERO,
        };
        engine.await_zygote()?;
        let tells = |file: &SleepFile| engine.zygote_sleeps(*file);
        engine.sleep_file = SleepFile::ALL.into_iter().find(tells);
        engine.features = engine.try_abilities()?;
        Ok(engine)
    }

    /// The features that the oracle has here. The engine determines them at its start, in a test
    /// namespace that then ends.
    pub fn features(&self) -> &OracleFeatures {
        &self.features
    }

    /// The pid_max that a new test namespace begins with (PID-07).
    pub fn pid_max(&self) -> u32 {
        self.pid_max
    }

    fn try_abilities(&mut self) -> io::Result<OracleFeatures> {
        let words = |result: io::Result<()>| result.map_err(|error| error.to_string());
        let mut namespace = self.test_namespace(&TestNamespaceConfig::default())?;
        let pid_max = words(namespace.check_sysctl(Sysctl::PidMax));
        let last_pid = words(namespace.check_sysctl(Sysctl::LastPid));
        let exec = Syscall::Execve { path: SELF_PATH.into(), error: None };
        let seen = namespace.call(Pid(1), &exec)?;
        let execve = match seen.returned().next() {
            Some((_, Ok(_))) => Ok(()),
            Some((_, Err(errno))) => Err(format!("the oracle's own program: {errno}")),
            None => Err("the oracle's own program does not come back".into()),
        };
        let open = Syscall::Open { path: TerminalPath::Ptmx, flags: open::RDWR | open::NOCTTY };
        let seen = namespace.call(Pid(1), &open)?;
        let opened = seen.returned().next().map(|(_, result)| result.clone());
        let terminals = match opened {
            Some(Ok(_)) => Ok(()),
            Some(Err(errno)) => Err(format!("/dev/ptmx: {errno}")),
            None => Err("/dev/ptmx does not open".into()),
        };
        namespace.finish()?;
        Ok(OracleFeatures { pid_max, last_pid, execve, terminals })
    }

    /// Creates a pid namespace with one process, number 1.
    pub fn test_namespace(
        &mut self,
        config: &TestNamespaceConfig,
    ) -> io::Result<TestNamespace<'_>> {
        TestNamespace::new(self, config)
    }

    /// Whether agents run before all ordinary processes, in the order in which they are woken, so
    /// that a program has the same result in each run.
    pub fn is_realtime(&self) -> bool {
        self.realtime
    }

    /// Whether agents run on all CPUs.
    pub fn is_concurrent(&self) -> bool {
        self.concurrent
    }

    /// From now on the controller sleeps so long after each call on a terminal.
    pub fn set_terminal_pause(&mut self, time: Duration) {
        self.terminal_pause = time;
    }

    /// The value of a limit that every first process begins with.
    pub fn limit(&self, resource: Resource) -> io::Result<Rlimit> {
        os::limit(self.zygote.id() as i32, resource)
    }

    /// The number of this worker in /proc: no other process has it while this one is alive.
    pub fn worker_number(&self) -> io::Result<u32> {
        let own = std::fs::read_link("/proc/self")?;
        let number = own.to_str().and_then(|number| number.parse().ok());
        number.ok_or_else(|| io::Error::other("/proc/self is no number"))
    }

    /// Whether every first process has that capability, by its number in capabilities(7).
    pub fn has_capability(&self, number: u32) -> io::Result<bool> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        Ok(set.is_some_and(|set| set & 1 << number != 0))
    }

    fn await_zygote(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while self.memory.slots[0].host_pid.load(Acquire) == 0 {
            if let Some(status) = self.zygote.try_wait()? {
                return Err(io::Error::other(format!("the agent program is none: {status}")));
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no zygote"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Whether this file shows the idle zygote as sleeping.
    fn zygote_sleeps(&self, by: SleepFile) -> bool {
        let host = self.memory.slots[0].host_pid.load(Acquire);
        let Ok(file) = by.open(host) else { return false };
        (0..20).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            by.sleeps(&file)
        })
    }

    /// Writes a command and wakes the agent. Returns the command's number.
    ///
    /// If agents have real-time priority, they have all run until they sleep when this returns.
    pub(super) fn post(&mut self, tid: u32, call: &RawCall) -> io::Result<u32> {
        let memory: &SharedMemory = &self.memory;
        let slot = memory.slot(tid).ok_or(io::ErrorKind::InvalidInput)?;
        self.command = self.command.wrapping_add(1);
        call.write(slot);
        slot.command.store(self.command, Release);
        raw::futex_wake(&slot.command);
        Ok(self.command)
    }

    /// Has the zygote create a first process. Returns its number in this namespace.
    pub(super) fn fork_init(&mut self) -> io::Result<i32> {
        let first = self.memory.head.load(Acquire);
        let command = self.post(0, &RawCall::new(0).op(Op::MakeInit))?;
        let start = Instant::now();
        loop {
            let record = self.memory.nth_record(first).and_then(|record| record.take());
            match record {
                Some(entry) if entry.command == command => return born(entry.value, entry.data[0]),
                Some(_) | None if start.elapsed() > PATIENCE => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the zygote is stuck"));
                }
                _ => std::thread::yield_now(),
            }
        }
    }
}

/// The result of the zygote's two clone calls.
fn born(leader: i64, init: u64) -> io::Result<i32> {
    if leader < 0 {
        return Err(io::Error::from_raw_os_error(-leader as i32));
    }
    os::reap(leader as i32, true)?;
    let init = init as i64;
    if init < 0 {
        return Err(io::Error::from_raw_os_error(-init as i32));
    }
    Ok(init as i32)
}

/// The limit that prevents core files. A program to which core_pattern pipes is started with any
/// limit except 1 (EXIT-06).
fn core_limit() -> u64 {
    let pattern = std::fs::read("/proc/sys/kernel/core_pattern").unwrap_or_default();
    u64::from(pattern.first() == Some(&b'|'))
}

impl Drop for Engine {
    fn drop(&mut self) {
        // an error means that the zygote has ended already
        let _ = self.zygote.kill();
        let _ = self.zygote.wait();
        os::close(WIRE_FD);
        os::close(EXE_FD);
    }
}
