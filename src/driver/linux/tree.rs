//! The owner's handle of a tree of processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::command::{Command, Pipes, SpawnError, Step};
use super::guardian::Guardian;
use super::limit::{Limited, Limits};
use super::watch::{Watch, watch};
use super::{child, procfs, scan, spawner};
use crate::abi::{Errno, Pid, Signal, WaitOptions, WaitStatus};
use crate::driver::{Authority, Delivery, DriverProcess, Reporter};
use crate::sync::Mutex;
use crate::table::{Image, Process, ProcessTable, Spawn, WaitTarget};

/// How long it may take until killed processes are gone.
const GONE: Duration = Duration::from_secs(10);
/// How often those that cannot be waited for are looked at.
const GLANCE: Duration = Duration::from_micros(500);

/// What keeps a tree together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// A cgroup (v2) of its own, in that folder.
    Cgroup(std::path::PathBuf),
    /// Process groups, parents, and a mark in the environment, looked for in /proc.
    Scan,
}

/// What becomes of a tree whose handle is dropped, also by a panic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnDrop {
    /// It is killed.
    #[default]
    Kill,
    /// It goes on. Its cgroup stays until somebody removes it.
    Leave,
}

/// How a tree is made.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[must_use]
pub struct Options {
    without_cgroup: bool,
    on_drop: OnDrop,
    limits: Limits,
    guarded: bool,
}

impl Options {
    /// The best containment that there is, killed when dropped.
    pub fn new() -> Options {
        Options::default()
    }

    /// Does without a cgroup, even if one could be made.
    pub fn without_cgroup(mut self) -> Options {
        self.without_cgroup = true;
        self
    }

    /// What becomes of it when its handle is dropped.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Options {
        self.on_drop = on_drop;
        self
    }

    /// What all processes of the tree together may use.
    pub fn limits(mut self, limits: Limits) -> Options {
        self.limits = limits;
        self
    }

    /// Has a tiny process outside of the tree kill it when the owner dies, also by SIGKILL, and
    /// also where the owner is process 1 of a container. It needs a cgroup, and /bin/sh.
    pub fn guarded(mut self) -> Options {
        self.guarded = true;
        self
    }

    /// Makes the tree.
    ///
    /// # Errors
    ///
    /// The reason why a limit cannot be enforced or a guardian not be started. A cgroup that cannot
    /// be made is no error: see [`ProcessTree::mechanism`].
    pub fn create(self) -> io::Result<ProcessTree> {
        ProcessTree::create(self)
    }
}

/// A tree of real processes: what is spawned in it, and everything that those spawn.
#[derive(Debug)]
pub struct ProcessTree {
    table: ProcessTable,
    /// The owner, as the parent of all direct children.
    owner: Process,
    cgroup: Option<Cgroup>,
    without: Option<io::Error>,
    limited: Limited,
    guardian: Mutex<Option<Guardian>>,
    /// Its name: in the environment of its processes, and of its cgroup.
    mark: String,
    children: Mutex<Children>,
    on_drop: OnDrop,
}

/// The direct children of a tree.
#[derive(Debug, Default)]
struct Children {
    /// Those that were not reaped when it was looked at last, by their numbers in the table.
    list: BTreeMap<Pid, Arc<Real>>,
    /// The CPU time of those that were.
    time: Duration,
}

impl Children {
    fn add(&mut self, process: &Process, real: Arc<Real>) {
        let (time, gone) = (&mut self.time, Real::is_reaped);
        self.list.retain(|_, real| {
            if gone(real) {
                *time += real.usage.lock().unwrap_or_default();
            }
            !gone(real)
        });
        self.list.insert(process.pid(), real);
    }

    /// The one that has that number in the operating system now.
    fn named(&self, pid: i32) -> Option<&Arc<Real>> {
        self.list.values().find(|real| real.pid == pid && !real.is_reaped())
    }
}

/// A process somewhere in a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub ppid: i32,
    /// Its name, at most 15 characters.
    pub command: String,
    /// The state letter of proc_pid_stat(5).
    pub state: char,
    /// When it started, in clock ticks since boot: with its number it names it for good.
    pub started: u64,
    /// The CPU time that it has used, in clock ticks.
    pub ticks: u64,
}

/// How a tree ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shutdown {
    /// How each direct child ended that was alive.
    pub ended: BTreeMap<i32, WaitStatus>,
    /// Whether SIGKILL was needed.
    pub killed: bool,
    /// Who is still there: in uninterruptible sleep, or out of reach.
    pub survivors: Vec<Member>,
}

/// A real child, as its tree and the watcher share it.
#[derive(Debug)]
struct Real {
    pid: i32,
    pidfd: OwnedFd,
    reporter: Mutex<Reporter>,
    usage: Mutex<Option<Duration>>,
    status: Mutex<Option<WaitStatus>>,
    reaped: Mutex<bool>,
}

/// A child that is on its own: it is only reaped.
struct Detached(Arc<Real>);

impl Watch for Detached {
    fn pidfd(&self) -> &OwnedFd {
        &self.0.pidfd
    }

    fn ended(&self) {
        self.0.reap();
    }

    fn look(&self) {}
}

/// The errno of the model, which is the kernel's.
fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0.into())
}

impl From<procfs::Stat> for Member {
    fn from(stat: procfs::Stat) -> Member {
        let procfs::Stat { pid, state, ppid, command, started, ticks } = stat;
        Member { pid, ppid, command, state: state.into(), started, ticks }
    }
}

impl Real {
    fn new(pid: i32, pidfd: OwnedFd) -> Real {
        Real {
            pid,
            pidfd,
            reporter: Mutex::default(),
            usage: Mutex::default(),
            status: Mutex::default(),
            reaped: Mutex::new(false),
        }
    }

    /// Sends it a signal, unless it was reaped.
    fn send(&self, signal: Signal) -> io::Result<()> {
        child::send(&self.pidfd, signal.number().into())
    }

    fn reap(&self) {
        let mut reaped = self.reaped.lock();
        if !*reaped {
            // one that cannot be reaped is not our child any more
            *reaped = child::reap(&self.pidfd).is_ok();
        }
    }

    fn is_reaped(&self) -> bool {
        *self.reaped.lock()
    }
}

impl Watch for Real {
    fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    fn ended(&self) {
        // WNOWAIT: it stays until the table has it reaped
        let observed = child::observe(&self.pidfd, libc::WEXITED | libc::WNOWAIT);
        let reporter = self.reporter.lock().clone();
        if let Ok(Some(observed)) = observed {
            let time = |time: libc::timeval| {
                Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
            };
            let usage = observed.usage;
            *self.usage.lock() = Some(time(usage.ru_utime) + time(usage.ru_stime));
            *self.status.lock() = Some(observed.status);
            reporter.report(observed.status);
        }
    }

    fn look(&self) {
        // these events are ours alone to take: nobody else waits for this child
        let changed = child::observe(&self.pidfd, libc::WSTOPPED | libc::WCONTINUED);
        if let Ok(Some(observed)) = changed {
            let reporter = self.reporter.lock().clone();
            reporter.report(observed.status);
        }
    }
}

/// The driver of a real child.
struct RealDriver(Arc<Real>);

impl DriverProcess for RealDriver {
    fn deliver(&self, delivery: Delivery) {
        // one that has ended meanwhile: its end is on the way
        let _ = self.0.send(delivery.info.signal);
    }

    fn stop(&self, signal: Signal) {
        let _ = self.0.send(signal);
    }

    fn resume(&self) {
        let _ = self.0.send(Signal::CONT);
    }

    fn terminate(&self, _: WaitStatus) {
        let _ = self.0.send(Signal::KILL);
    }

    fn reaped(&self) {
        self.0.reap();
    }

    // the tree decides what becomes of it
    fn abandon(&self) {}
}

/// A direct child.
#[derive(Clone, Debug)]
pub struct Child {
    process: Process,
    owner: Process,
    real: Arc<Real>,
    pipes: Arc<Mutex<Pipes>>,
}

impl ProcessTree {
    /// The best containment that there is, killed when dropped.
    ///
    /// # Errors
    ///
    /// None with these options on a machine that has memory.
    pub fn new() -> io::Result<ProcessTree> {
        Options::new().create()
    }

    fn create(options: Options) -> io::Result<ProcessTree> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id();
        let started = procfs::stat(own as i32).map_or(0, |stat| stat.started);
        let mark = format!("{own}-{started}-{}-{number}", procfs::boot_id());
        let made = if options.without_cgroup {
            Err(io::Error::other("not wanted"))
        } else {
            Cgroup::create(&mark)
        };
        let (cgroup, without) = match made {
            Ok(cgroup) => (Some(cgroup), None),
            Err(error) => (None, Some(error)),
        };
        let table = ProcessTable::new();
        let process = table.spawn(Spawn::new(Image::new("owner")).session()).map_err(os_error)?;
        // from here on its drop cleans up
        let mut tree = ProcessTree {
            table,
            owner: process,
            cgroup,
            without,
            limited: Limited::default(),
            guardian: Mutex::new(None),
            mark,
            children: Mutex::default(),
            on_drop: options.on_drop,
        };
        tree.limited = Limited::new(&options.limits, &tree.mark, tree.cgroup.as_ref())?;
        if options.guarded {
            tree.start_guardian()?;
        }
        Ok(tree)
    }

    fn start_guardian(&self) -> io::Result<()> {
        let Some(cgroup) = &self.cgroup else {
            let why = self.without.as_ref().map_or(String::new(), ToString::to_string);
            let text = format!("a guardian needs a cgroup, and there is none: {why}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let folders = [cgroup.folder()].into_iter().chain(self.limited.folders());
        let folders: Vec<_> = folders.collect();
        let started = Guardian::start(&folders);
        let guardian = started.map_err(|(step, error)| {
            io::Error::new(error.kind(), format!("guardian: {step:?}: {error}"))
        })?;
        *self.guardian.lock() = Some(guardian);
        Ok(())
    }

    /// What keeps it together.
    pub fn mechanism(&self) -> Mechanism {
        match &self.cgroup {
            Some(cgroup) => Mechanism::Cgroup(cgroup.folder().into()),
            None => Mechanism::Scan,
        }
    }

    /// Why it has no cgroup.
    pub fn without_cgroup_because(&self) -> Option<&io::Error> {
        self.without.as_ref()
    }

    /// The table in which its direct children are: for events, callbacks and waits of all kinds.
    /// Its numbers are the table's own.
    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// Runs a program in the tree. It has executed it when this returns.
    ///
    /// # Errors
    ///
    /// The step that failed and its error; then there is no child.
    pub fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        let program = command.program().to_owned();
        self.try_spawn(command).map_err(|(step, error)| SpawnError { step, error, program })
    }

    fn try_spawn(&self, command: Command) -> Result<Child, (Step, io::Error)> {
        let image = command.image();
        let originator = format!("proctable:{}", std::process::id());
        let command =
            command.env(scan::MARK, &self.mark).env("RUNNING_PROCESS_ORIGINATOR", originator);
        let (mut prepared, pipes) = command.prepare()?;
        let entrances = self.limited.entrances();
        prepared.cgroups = entrances.map_err(|error| (Step::Cgroup, error))?;
        if let Some(cgroup) = &self.cgroup {
            prepared.cgroups.push(cgroup.entrance().map_err(|error| (Step::Cgroup, error))?);
        } else if !prepared.session && prepared.group.is_none() {
            // what it starts can be signalled with it
            prepared.group = Some(0);
        }
        let born = spawner::spawn(prepared)?;
        let real = Arc::new(Real::new(born.pid, born.pidfd));
        let process = self.enter(&real, image).inspect_err(|_| {
            let _ = real.send(Signal::KILL);
            real.reap();
        })?;
        let pipes = Arc::new(Mutex::new(pipes));
        Ok(Child { process, owner: self.owner.clone(), real, pipes })
    }

    /// Enters a child in the table, and has it watched.
    fn enter(&self, real: &Arc<Real>, image: Image) -> Result<Process, (Step, io::Error)> {
        let spawn =
            Spawn::new(image).driver(Arc::new(RealDriver(real.clone()))).authority(Authority::Host);
        *real.reporter.lock() = spawn.reporter();
        let process = self.owner.spawn(spawn);
        let process =
            process.map_err(|errno| (Step::Table, io::Error::from_raw_os_error(errno.0 as i32)))?;
        self.children.lock().add(&process, real.clone());
        watch(real.clone()).map_err(|error| (Step::Watch, error))?;
        Ok(process)
    }

    /// Everybody in the tree, in no order; zombies left out.
    ///
    /// Costs the tree with a cgroup, and a look at every process of the system without.
    ///
    /// # Errors
    ///
    /// What reading gave.
    pub fn members(&self) -> io::Result<Vec<Member>> {
        let stats = match &self.cgroup {
            Some(cgroup) => cgroup.members()?.into_iter().filter_map(procfs::stat).collect(),
            None => self.scan()?,
        };
        Ok(stats.into_iter().filter(|stat| stat.state != b'Z').map(Member::from).collect())
    }

    /// Takes a running process into the tree, and with `descendants` all of its: whoever they
    /// create from then on belongs to it, too. Gives those who were taken. They are no children of
    /// the owner, so their ends are nobody's to report.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such process, EPERM if it is somebody else's, Unsupported without a
    /// cgroup: a mark cannot be put on a process that runs.
    pub fn adopt(&self, pid: i32, descendants: bool) -> io::Result<Vec<Member>> {
        let Some(cgroup) = &self.cgroup else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "adopting needs a cgroup"));
        };
        cgroup.adopt(pid)?;
        let mut taken = vec![pid];
        // until a look finds nobody new: they may fork meanwhile
        let mut looking = descendants;
        while looking {
            let found = scan::members("", &taken)?;
            let news: Vec<i32> =
                found.iter().map(|stat| stat.pid).filter(|pid| !taken.contains(pid)).collect();
            looking = !news.is_empty();
            for pid in &news {
                // one that has ended meanwhile
                let _ = cgroup.adopt(*pid);
            }
            taken.extend(news);
        }
        let members = self.members()?;
        Ok(members.into_iter().filter(|member| taken.contains(&member.pid)).collect())
    }

    /// Runs a program outside of the tree, in a session of its own, without any mark: it survives
    /// the tree, the owner, and [`sweep`](super::sweep). Gives its number.
    ///
    /// # Errors
    ///
    /// As [`ProcessTree::spawn`].
    pub fn spawn_detached(&self, command: Command) -> Result<i32, SpawnError> {
        let program = command.program().to_owned();
        let command = command.env_remove(scan::MARK).env_remove("RUNNING_PROCESS_ORIGINATOR");
        let spawn = || {
            let (prepared, _) = command.session().prepare()?;
            let born = spawner::spawn(prepared)?;
            let real = Arc::new(Real::new(born.pid, born.pidfd));
            watch(Arc::new(Detached(real.clone()))).map_err(|error| (Step::Watch, error))?;
            Ok(real.pid)
        };
        spawn().map_err(|(step, error)| SpawnError { step, error, program })
    }

    fn scan(&self) -> io::Result<Vec<procfs::Stat>> {
        // a number is only sure to be the child's as long as it is not reaped
        let children = self.children.lock();
        let roots: Vec<i32> =
            children.list.values().filter(|real| !real.is_reaped()).map(|real| real.pid).collect();
        drop(children);
        scan::members(&self.mark, &roots)
    }

    /// The CPU time of everybody who was ever in the tree; without a cgroup, of the members and of
    /// the direct children who have ended.
    ///
    /// # Errors
    ///
    /// What reading gave.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.cpu_time();
        }
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let ticks: u64 = self.scan()?.iter().map(|stat| stat.ticks).sum();
        let children = self.children.lock();
        let ended: Duration = children.list.values().filter_map(|real| *real.usage.lock()).sum();
        Ok(children.time + ended + Duration::from_millis(ticks * 1000 / per_second))
    }

    /// Sends a signal to everybody in the tree, each through a descriptor of its own.
    ///
    /// # Errors
    ///
    /// What finding them gave. A process that ends meanwhile is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        for member in self.members()? {
            self.signal_member(&member, signal);
        }
        Ok(())
    }

    fn signal_member(&self, member: &Member, signal: Signal) {
        let child = self.children.lock().named(member.pid).cloned();
        if let Some(real) = child {
            let _ = real.send(signal);
            return;
        }
        let seen = procfs::stat(member.pid).filter(|stat| stat.started == member.started);
        if let Some(pidfd) = seen.and_then(|stat| scan::open(&stat)) {
            let _ = child::send(&pidfd, signal.number().into());
        }
    }

    /// Lets nobody in the tree run until [`ProcessTree::resume`]: freezes the cgroup, or stops
    /// everybody.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn suspend(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(true),
            None => self.signal(Signal::STOP),
        }
    }

    /// Lets everybody go on.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn resume(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(false),
            None => self.signal(Signal::CONT),
        }
    }

    /// Kills everybody, and waits until they are gone. Who survives that is named.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn kill(&self) -> io::Result<Shutdown> {
        self.end(None)
    }

    /// Sends a signal to everybody (and SIGCONT, so that those who are stopped act on it), and
    /// kills whoever is left after `grace`. It returns as soon as nobody is left.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn shutdown(&self, signal: Signal, grace: Duration) -> io::Result<Shutdown> {
        self.end(Some((signal, grace)))
    }

    fn end(&self, asked: Option<(Signal, Duration)>) -> io::Result<Shutdown> {
        let mut shutdown = Shutdown::default();
        let mut gone = false;
        if let Some((signal, grace)) = asked {
            self.resume()?;
            self.signal(signal)?;
            self.signal(Signal::CONT)?;
            gone = self.await_end(Instant::now() + grace, &mut shutdown)?;
        }
        let deadline = Instant::now() + GONE;
        while !gone && Instant::now() < deadline {
            shutdown.killed = true;
            self.kill_once()?;
            // those that were created while the others were killed are found by the next look
            gone = self.await_end(Instant::now() + Duration::from_millis(50), &mut shutdown)?;
        }
        if !gone {
            shutdown.survivors = self.members()?;
        }
        Ok(shutdown)
    }

    fn kill_once(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.kill(),
            None => self.signal(Signal::KILL),
        }
    }

    /// Waits until nobody is left: for the direct children by their descriptors, for others by
    /// looking. `false` if that takes too long.
    fn await_end(&self, deadline: Instant, shutdown: &mut Shutdown) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.owner.wait_timeout(WaitTarget::Any, WaitOptions::EXITED, left) {
                Ok(Some(waited)) => {
                    if let Some(real) = self.children.lock().list.get(&waited.pid) {
                        shutdown.ended.insert(real.pid, waited.status);
                    }
                }
                Ok(None) => return Ok(false),
                // no child is left in the table
                Err(_) => break,
            }
        }
        while !self.members()?.is_empty() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(GLANCE);
        }
        Ok(true)
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        let guardian = self.guardian.lock().take();
        if self.on_drop == OnDrop::Kill {
            self.clean_up();
        }
        if let Some(guardian) = guardian {
            guardian.dismiss();
        }
    }
}

impl ProcessTree {
    fn clean_up(&self) {
        // there is nobody to tell of an error
        let _ = self.kill();
        for real in self.children.lock().list.values() {
            real.reap();
        }
        let deadline = Instant::now() + GONE;
        let remove = || {
            self.cgroup.as_ref().map_or(Ok(()), Cgroup::remove)?;
            self.limited.remove()
        };
        while remove().is_err() && Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
    }
}

impl Child {
    /// Its number in the operating system.
    pub fn pid(&self) -> i32 {
        self.real.pid
    }

    /// The process in the table.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The owner's end of its standard input, once.
    pub fn take_stdin(&self) -> Option<File> {
        self.pipes.lock().stdin.take()
    }

    /// The owner's end of its standard output, once.
    pub fn take_stdout(&self) -> Option<File> {
        self.pipes.lock().stdout.take()
    }

    /// The owner's end of its standard error, once.
    pub fn take_stderr(&self) -> Option<File> {
        self.pipes.lock().stderr.take()
    }

    /// Waits until it ends, and reaps it. Once it has been waited for, also by the tree, this gives
    /// the same again.
    ///
    /// # Errors
    ///
    /// ECHILD if somebody else has reaped it before its end was seen.
    pub fn wait(&self) -> Result<WaitStatus, Errno> {
        let waited = self.owner.wait(&self.process, WaitOptions::EXITED);
        waited.map(|waited| waited.status).or_else(|errno| self.real.status.lock().ok_or(errno))
    }

    /// The same for at most that long; `None` if it lives.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<WaitStatus>, Errno> {
        match self.owner.wait_timeout(&self.process, WaitOptions::EXITED, timeout) {
            Ok(waited) => Ok(waited.map(|waited| waited.status)),
            Err(errno) => self.real.status.lock().ok_or(errno).map(Some),
        }
    }

    /// Sends it a signal. It reaches no other process: one that has been reaped gets none.
    ///
    /// # Errors
    ///
    /// ESRCH if it has been reaped.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.real.send(signal)
    }

    /// The CPU time of it and of those of its children that it has waited for, once it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        *self.real.usage.lock()
    }
}
