//! The owner's handle of a tree of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::command::{Command, Pipes, Prepared, SpawnError, Step};
use super::guardian::Guardian;
use super::limit::Limited;
use super::options::{OnDrop, Options};
use super::real::{Children, Detached, Real, RealDriver};
use super::scan::Mark;
use super::watch::watch;
use super::{child, procfs, scan, spawner};
use crate::abi::{Errno, Signal, WaitOptions, WaitStatus};
use crate::driver::Authority;
use crate::sync::{Mutex, RwLock};
use crate::table::{Group, Image, Process, ProcessTable, Spawn, WaitTarget};

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
    mark: Mark,
    /// The same after the names of the trees that the owner is in itself.
    marks: String,
    children: Mutex<Children>,
    on_drop: OnDrop,
    /// Whether it is. Spawning shares the lock: a child that enters a frozen cgroup never comes to
    /// its exec.
    suspended: RwLock<bool>,
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

/// A direct child.
#[derive(Clone, Debug)]
pub struct Child {
    process: Process,
    owner: Process,
    real: Arc<Real>,
    pipes: Arc<Mutex<Pipes>>,
}

fn needs_cgroup(why: Option<&io::Error>) -> io::Error {
    let why = why.map_or(String::new(), ToString::to_string);
    let text = format!("a guardian needs a cgroup, and there is none: {why}");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

fn start_guardian(options: &Options, mark: &str) -> io::Result<Guardian> {
    let place = Cgroup::place(mark).map_err(|error| needs_cgroup(Some(&error)))?;
    let mut folders = vec![place];
    folders.extend(Limited::planned(&options.limits, mark));
    Guardian::start(&folders).map_err(|(step, error)| {
        io::Error::new(error.kind(), format!("guardian: {step:?}: {error}"))
    })
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

    pub(super) fn create(options: Options) -> io::Result<ProcessTree> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id();
        let started = procfs::stat(own as i32).map_or(0, |stat| stat.started);
        let (boot, namespace) = (procfs::boot_id(), procfs::pid_namespace());
        let value = format!("{own}-{started}-{boot}-{namespace}-{number}");
        let outer = std::env::var(scan::MARK).ok().filter(|outer| !outer.is_empty());
        let marks = outer.into_iter().chain([value.clone()]).collect::<Vec<_>>().join(",");
        let mark = Mark { value, made: procfs::now() };
        let table = ProcessTable::new();
        let process = table.spawn(Spawn::new(Image::new("owner")).session()).map_err(os_error)?;
        // before what it watches: an owner that dies in between leaves nothing
        let guardian =
            options.guarded.then(|| start_guardian(&options, &mark.value)).transpose()?;
        let made = if options.without_cgroup {
            Err(io::Error::other("not wanted"))
        } else {
            Cgroup::create(&mark.value)
        };
        let (cgroup, without) = match made {
            Ok(cgroup) => (Some(cgroup), None),
            Err(error) => (None, Some(error)),
        };
        // from here on its drop cleans up
        let mut tree = ProcessTree {
            table,
            owner: process,
            cgroup,
            without,
            limited: Limited::default(),
            guardian: Mutex::new(guardian),
            mark,
            marks,
            children: Mutex::default(),
            on_drop: options.on_drop,
            suspended: RwLock::new(false),
        };
        if options.guarded && tree.cgroup.is_none() {
            return Err(needs_cgroup(tree.without.as_ref()));
        }
        tree.limited = Limited::new(&options.limits, &tree.mark.value, tree.cgroup.as_ref())?;
        Ok(tree)
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
    /// The step that failed and its error; then there is no child. [`Step::Suspended`] while the tree
    /// is.
    pub fn spawn(&self, command: Command) -> Result<Child, SpawnError> {
        let program = command.program().to_owned();
        self.try_spawn(command).map_err(|(step, error)| SpawnError { step, error, program })
    }

    fn try_spawn(&self, command: Command) -> Result<Child, (Step, io::Error)> {
        let image = command.image();
        let originator = format!("proctable:{}", std::process::id());
        let command =
            command.env(scan::MARK, &self.marks).env("RUNNING_PROCESS_ORIGINATOR", originator);
        let (mut prepared, pipes) = command.prepare()?;
        let entrances = self.limited.entrances();
        prepared.cgroups = entrances.map_err(|error| (Step::Cgroup, error))?;
        if let Some(cgroup) = &self.cgroup {
            prepared.cgroup = cgroup.entrance();
        } else if !prepared.session && prepared.group.is_none() {
            // what it starts can be signalled with it
            prepared.group = Some(0);
        }
        let suspended = self.suspended.read();
        if *suspended {
            return Err((Step::Suspended, io::Error::from_raw_os_error(libc::EBUSY)));
        }
        let group = self.group_of(&prepared);
        let born = spawner::spawn(prepared)?;
        drop(suspended);
        let real = Arc::new(Real::new(born.pid, born.pidfd));
        let process = self.enter(&real, Spawn::new(image).group(group)).inspect_err(|_| {
            let _ = real.send(Signal::KILL);
            let _ = child::reap(&real.pidfd, 0);
            *real.reaped.lock() = true;
        })?;
        let pipes = Arc::new(Mutex::new(pipes));
        Ok(Child { process, owner: self.owner.clone(), real, pipes })
    }

    /// The group in the table that corresponds to the one it will have.
    fn group_of(&self, prepared: &Prepared) -> Group {
        match prepared.group {
            _ if prepared.session => Group::Session,
            None => Group::Inherit,
            Some(0) => Group::Own,
            Some(leader) => {
                let children = self.children.lock();
                let leader = children.list.iter().find(|(_, real)| real.pid == leader);
                // one that is no child of this tree has no group in its table
                leader.map_or(Group::Inherit, |(pid, _)| Group::Join((*pid).into()))
            }
        }
    }

    /// Enters a child in the table, and has it watched.
    fn enter(&self, real: &Arc<Real>, spawn: Spawn) -> Result<Process, (Step, io::Error)> {
        let spawn = spawn.driver(Arc::new(RealDriver(real.clone()))).authority(Authority::Host);
        *real.reporter.lock() = spawn.reporter();
        // what is reported before the table knows it is kept
        watch(real.clone()).map_err(|error| (Step::Watch, error))?;
        let process = self.owner.spawn(spawn);
        let process =
            process.map_err(|errno| (Step::Table, io::Error::from_raw_os_error(errno.0 as i32)))?;
        self.children.lock().add(&process, real.clone());
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
        let mut members = Vec::new();
        self.visit(&mut |stat, _| members.push(stat.clone().into()))?;
        Ok(members)
    }

    /// Everybody in the tree, each with a descriptor that names it and nobody else.
    fn visit(&self, act: scan::Act) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            return scan::visit_cgroup(cgroup, act);
        }
        let children: Vec<_> = self.children.lock().list.values().cloned().collect();
        let roots: Vec<_> = children.iter().map(|real| (real.pid, &real.pidfd)).collect();
        scan::visit(Some(&self.mark), &roots, act)
    }

    fn is_empty(&self) -> io::Result<bool> {
        match &self.cgroup {
            Some(cgroup) => Ok(cgroup.members()?.is_empty()),
            None => Ok(self.members()?.is_empty()),
        }
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
        let root = child::open(pid)?;
        cgroup.adopt(pid)?;
        let mut taken = vec![pid];
        // until a look finds nobody new: they may fork meanwhile
        let mut looking = descendants;
        while looking {
            looking = false;
            scan::visit(None, &[(pid, &root)], &mut |stat, _| {
                if !taken.contains(&stat.pid) {
                    // one that has ended meanwhile
                    let _ = cgroup.adopt(stat.pid);
                    taken.push(stat.pid);
                    looking = true;
                }
            })?;
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
        let ticks: u64 = self.members()?.iter().map(|member| member.ticks).sum();
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
        self.visit(&mut |_, pidfd| {
            let _ = child::send(pidfd, signal.number().into());
        })
    }

    /// Lets nobody in the tree run until [`ProcessTree::resume`]: freezes the cgroup, or stops
    /// everybody. Nothing can be spawned meanwhile.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn suspend(&self) -> io::Result<()> {
        // after those that are being spawned: each of them is suspended, too
        let mut suspended = self.suspended.write();
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(true)?,
            None => self.signal(Signal::STOP)?,
        }
        *suspended = true;
        Ok(())
    }

    /// Lets everybody go on.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn resume(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze(false)?,
            None => self.signal(Signal::CONT)?,
        }
        *self.suspended.write() = false;
        Ok(())
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
        let children: Vec<_> = self.children.lock().list.values().cloned().collect();
        let alive: Vec<_> = children.into_iter().filter(|real| !real.has_ended()).collect();
        let mut shutdown = Shutdown::default();
        let mut gone = false;
        if let Some((signal, grace)) = asked {
            if let Some(cgroup) = &self.cgroup {
                cgroup.freeze(false)?;
            }
            // one look for both: it costs a look at every process of the system
            self.visit(&mut |_, pidfd| {
                let _ = child::send(pidfd, signal.number().into());
                let _ = child::send(pidfd, libc::SIGCONT);
            })?;
            *self.suspended.write() = false;
            gone = self.await_end(Instant::now() + grace, &mut shutdown)?;
        }
        let deadline = Instant::now() + GONE;
        while !gone && Instant::now() < deadline {
            shutdown.killed = true;
            self.kill_once()?;
            // those that were created while the others were killed are found by the next look
            gone = self.await_end(Instant::now() + Duration::from_millis(50), &mut shutdown)?;
        }
        if shutdown.killed && *self.suspended.read() {
            // whoever comes next is not
            self.resume()?;
        }
        if !gone {
            shutdown.survivors = self.members()?;
        }
        // also those that somebody else waited for meanwhile
        let ended = alive.iter().filter_map(|real| Some((real.pid, (*real.status.lock())?)));
        shutdown.ended.extend(ended);
        Ok(shutdown)
    }

    fn kill_once(&self) -> io::Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.kill(),
            None => self.kill_seen().inspect_err(|_| {
                // no descriptors to look with: at least those that are at hand
                for real in self.children.lock().list.values() {
                    let _ = real.send(Signal::KILL);
                }
            }),
        }
    }

    /// Kills whoever is seen. If there are new ones after that, they are stopped before they are
    /// killed: who multiplies must first be kept from it, or each look finds the next generation.
    fn kill_seen(&self) -> io::Result<()> {
        let mut known = BTreeSet::new();
        let mut look = |signal: Signal| {
            let mut news = false;
            self.visit(&mut |stat, pidfd| {
                news |= known.insert((stat.pid, stat.started));
                let _ = child::send(pidfd, signal.number().into());
            })?;
            Ok::<_, io::Error>(news)
        };
        look(Signal::KILL)?;
        let deadline = Instant::now() + GONE / 10;
        if look(Signal::STOP)? {
            while look(Signal::STOP)? && Instant::now() < deadline {}
            look(Signal::KILL)?;
        }
        Ok(())
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
        while !self.is_empty()? {
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
            // there is nobody to tell of an error
            let _ = self.kill();
        }
        // who lives on, or dies late, must not stay a zombie
        for real in self.children.lock().list.values() {
            real.orphan();
        }
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
        self.real.await_end();
        if let Some(known) = self.known() {
            return known;
        }
        let waited = self.owner.wait(&self.process, WaitOptions::EXITED);
        // what the table was told is not how it ended if that could not be had
        self.real.status.lock().ok_or(waited.err().unwrap_or(Errno::ECHILD))
    }

    /// What is known of one that the table does not have any more: its number there may be
    /// another's.
    fn known(&self) -> Option<Result<WaitStatus, Errno>> {
        match self.process.info() {
            Some(_) => None,
            None => Some(self.real.status.lock().ok_or(Errno::ECHILD)),
        }
    }

    /// The same for at most that long; `None` if it lives.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<WaitStatus>, Errno> {
        if let Some(known) = self.known() {
            return known.map(Some);
        }
        match self.owner.wait_timeout(&self.process, WaitOptions::EXITED, timeout) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => self.real.status.lock().ok_or(Errno::ECHILD).map(Some),
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
