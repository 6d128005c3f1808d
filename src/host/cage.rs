//! One program's pid namespace, and when it is quiet.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use super::engine::{Engine, PATIENCE};
use super::observation::{Ended, Event, Fate, Observation};
use super::procfs::{self, SleepFile, Status};
use super::sysctl::Sysctl;
use super::wire::{BIRTHS, Entry, Op, RECORDS, RawCall};
use super::{codec, os};
use crate::abi::{DefaultAction, Pgid, Pid, SigSet, Signal};
use crate::kernel::{Run, View};
use crate::syscall::{Syscall, clone};

/// How long a process may take to die.
const DYING: Duration = Duration::from_millis(20);

/// How a cage begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CageConfig {
    /// The namespace's pid_max (PID-07).
    pub pid_max: Option<u32>,
    /// The number after which the next process is numbered (PID-12).
    pub last_pid: Option<u32>,
}

/// A process, from birth until it is gone.
#[derive(Debug)]
struct Life {
    /// Its number in /proc.
    host: u32,
    status: File,
    /// Where there is a file that tells who sleeps.
    sleep_file: Option<(SleepFile, File)>,
    pidfd: Option<OwnedFd>,
    pgid: Pgid,
    /// Its calls in progress: the innermost last.
    calls: Vec<u32>,
    zombie: bool,
}

impl Life {
    /// Whether a process that seems to do `run` has really come to rest.
    fn is_at_rest(&self, run: Run, inner: Option<&Made>) -> bool {
        let call = inner.and_then(|made| made.call.as_ref());
        let waits = matches!(call, Some(Syscall::Wait4 { .. } | Syscall::Waitid { .. }));
        let asked = run == Run::Stopped || run == Run::Blocked && waits;
        let file = self.sleep_file.as_ref().filter(|_| asked);
        file.is_none_or(|(kind, file)| kind.sleeps(file))
    }
}

/// A call that was made.
#[derive(Debug)]
struct Made {
    /// `None` for calls of the controller's own.
    call: Option<Syscall>,
    /// How many processes had been born before.
    births: usize,
}

/// A pid namespace with a program in it.
#[derive(Debug)]
pub struct Cage<'e> {
    engine: &'e mut Engine,
    /// The first process's number in the controller's namespace; `None` once it is reaped.
    init: Option<i32>,
    lives: BTreeMap<u32, Life>,
    /// Numbers by their numbers in /proc.
    by_host: HashMap<u32, u32>,
    /// Every call by its command's number.
    made: HashMap<u32, Made>,
    /// Who made the newest call.
    caller: u32,
    /// Every birth.
    births: Vec<u32>,
    /// Children that a call returned and that have not been born.
    due: Vec<(u32, usize)>,
    births_read: u32,
    log_read: u32,
    ends: os::Ends,
    ended: Vec<Ended>,
    /// What the newest call of the controller's own gave.
    answer: Option<Entry>,
}

impl<'e> Cage<'e> {
    pub(super) fn new(engine: &'e mut Engine, config: &CageConfig) -> io::Result<Cage<'e>> {
        engine.wire.hold.store(0, Relaxed);
        let births_read = engine.wire.births.load(Acquire);
        let init = engine.bear_init()?;
        let log_read = engine.wire.head.load(Acquire);
        let mut cage = Cage {
            engine,
            init: Some(init),
            lives: BTreeMap::new(),
            by_host: HashMap::new(),
            made: HashMap::new(),
            caller: 0,
            births: Vec::new(),
            due: vec![(1, 0)],
            births_read,
            log_read,
            ends: os::Ends::new()?,
            ended: Vec::new(),
            answer: None,
        };
        cage.settle()?;
        if let Some(value) = config.pid_max {
            cage.write_sysctl(Sysctl::PidMax, value)?;
        }
        if let Some(value) = config.last_pid {
            cage.write_sysctl(Sysctl::LastPid, value)?;
        }
        Ok(cage)
    }

    /// Has `pid` perform `call`, and returns when everything is quiet again.
    ///
    /// A call that blocks shows up in the observation in which it returns. A call by a process
    /// that is stopped is performed when it is continued.
    ///
    /// [`io::ErrorKind::Unsupported`] for the call that would leave a process for ever that
    /// nothing can remove: the first process joins the group of another. Up to Linux 6.18 at
    /// least, it never ends then: dying, it waits until its own number is the last that is
    /// attached to anything, and its group's number is attached to itself.
    pub fn call(&mut self, pid: Pid, call: &Syscall) -> io::Result<Observation> {
        if pid.0 == 1 && self.joins_other_group(call) {
            let text = "the first process would join another's group, and never end";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let raw = codec::encode(call)?;
        self.start(pid.0, &raw, Some(call.clone()))?;
        self.settle()
    }

    /// Lets time pass, so that timers expire.
    pub fn elapse(&mut self, time: Duration) -> io::Result<Observation> {
        std::thread::sleep(time);
        self.settle()
    }

    /// Looks without doing anything.
    pub fn observe(&mut self) -> io::Result<Observation> {
        self.settle()
    }

    /// Every process that is not gone.
    pub fn views(&mut self) -> io::Result<BTreeMap<Pid, View>> {
        Ok(self.settle()?.views)
    }

    /// From now on, handlers wait for commands and return at [`Syscall::RtSigreturn`]; or return
    /// at once, as they do in a new cage.
    pub fn hold_handlers(&mut self, hold: bool) {
        self.engine.wire.hold.store(u32::from(hold), Relaxed);
    }

    /// Ends the program: every process that ever lived, in the order in which they went.
    pub fn finish(mut self) -> io::Result<Vec<Ended>> {
        self.close()?;
        Ok(core::mem::take(&mut self.ended))
    }

    /// The controller's side.
    pub(super) fn engine(&self) -> &Engine {
        self.engine
    }

    /// What a descriptor of the first process leads to.
    pub(super) fn first_descriptor(&self, fd: i64) -> io::Result<Metadata> {
        let first = self.lives.get(&1).ok_or(io::ErrorKind::NotFound)?;
        std::fs::metadata(format!("/proc/{}/fd/{fd}", first.host))
    }

    /// A call of the first process that is not part of the program.
    pub(super) fn own_call(&mut self, raw: &RawCall, what: &str) -> io::Result<Entry> {
        self.start(1, raw, None)?;
        self.settle()?;
        let answer = self.answer.take();
        let answer = answer.ok_or_else(|| io::Error::other(format!("{what}: no answer")))?;
        if answer.value < 0 {
            let error = io::Error::from_raw_os_error(-answer.value as i32);
            return Err(io::Error::new(error.kind(), format!("{what}: {error}")));
        }
        Ok(answer)
    }

    /// Whether the call, made by the first process, moves it into a group of its namespace that
    /// is not its own.
    fn joins_other_group(&self, call: &Syscall) -> bool {
        let &Syscall::Setpgid { pid: 0 | 1, pgid: group @ 2.. } = call else { return false };
        self.lives.values().any(|life| life.pgid.0 == group as u32)
    }

    /// Gives the command.
    fn start(&mut self, pid: u32, raw: &RawCall, call: Option<Syscall>) -> io::Result<()> {
        let invalid = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let Some(slot) = self.lives.get(&pid).and(self.engine.wire.slot(pid)) else {
            return invalid("no such process");
        };
        if slot.busy.load(Acquire) != 0 {
            return invalid("the process is in a call");
        }
        if raw.op == Op::HandlerReturn && slot.depth.load(Relaxed) == 0 {
            return invalid("no handler runs");
        }
        let command = self.engine.post(pid, raw)?;
        self.caller = pid;
        self.made.insert(command, Made { call, births: self.births.len() });
        if raw.op != Op::HandlerReturn
            && let Some(life) = self.lives.get_mut(&pid)
        {
            life.calls.push(command);
        }
        Ok(())
    }

    /// Waits until nothing moves any more, and tells what did.
    ///
    /// Controller and puppets share one CPU: if all puppets sleep when they are looked at, and the
    /// controller did not leave the CPU while it looked, then they all slept at one moment. Where
    /// puppets are realtime that is so at the first look, as a rule.
    ///
    /// Where no file tells who sleeps there is no certainty: then what is quiet has to be so a second
    /// time, after the controller has slept.
    fn settle(&mut self) -> io::Result<Observation> {
        let start = Instant::now();
        let mut seen = Observation::default();
        let mut certain = self.engine.sleep_file.is_some() || self.engine.is_realtime();
        if !self.engine.is_realtime() {
            std::thread::yield_now();
        }
        for round in 0u32.. {
            let switches = os::context_switches();
            self.collect(&mut seen)?;
            let gone = seen.gone.len();
            let quiet = self.look(&mut seen, start.elapsed() < DYING)? && self.due.is_empty();
            if seen.gone.len() > gone && !self.engine.is_realtime() {
                // one that reaps itself is out of sight before its number is free: let it finish
                certain = false;
            }
            let quiet = quiet && os::context_switches() == switches;
            if quiet && self.all_read() {
                if certain {
                    seen.forget_looks();
                    return Ok(seen);
                }
                certain = true;
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            if quiet {
                self.pass_over_lost();
            }
            if start.elapsed() > PATIENCE {
                return Err(self.unquiet());
            }
            // a long wait is for the disk or for a tick of the kernel
            match round {
                0..200 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
        }
        Err(self.unquiet())
    }

    fn unquiet(&self) -> io::Error {
        let letters: Vec<String> = self
            .lives
            .iter()
            .filter_map(|(pid, life)| {
                let status = procfs::read(&life.status).ok()??;
                Some(format!("{pid} {}", status.state as char))
            })
            .collect();
        let text = format!("not quiet: {}; unborn: {:?}", letters.join(", "), self.due);
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    /// Takes in births and the log.
    fn collect(&mut self, seen: &mut Observation) -> io::Result<()> {
        if self.engine.wire.too_large.load(Relaxed) != 0 {
            self.engine.wire.too_large.store(0, Relaxed);
            return Err(io::Error::other("more processes than mailboxes"));
        }
        let births = self.engine.wire.births.load(Acquire);
        let head = self.engine.wire.head.load(Acquire);
        if births.wrapping_sub(self.births_read) as usize > BIRTHS
            || head.wrapping_sub(self.log_read) as usize > RECORDS
        {
            return Err(io::Error::other("the log overflowed"));
        }
        while self.births_read != births {
            let place = self.births_read as usize % BIRTHS;
            let pid = self.engine.wire.born[place].swap(0, Acquire);
            if pid == 0 {
                break;
            }
            self.births_read = self.births_read.wrapping_add(1);
            self.admit(pid, seen)?;
        }
        while self.log_read != head {
            let record = self.engine.wire.nth_record(self.log_read);
            let Some(entry) = record.and_then(|record| record.take()) else { break };
            self.log_read = self.log_read.wrapping_add(1);
            self.note(&entry, seen);
        }
        Ok(())
    }

    /// Whether nothing was written since [`Cage::collect`] looked.
    fn all_read(&self) -> bool {
        self.engine.wire.births.load(Acquire) == self.births_read
            && self.engine.wire.head.load(Acquire) == self.log_read
    }

    /// Everybody slept, so nobody is at writing: a line that is not written was a process's that
    /// was killed at it. A timer may go off anywhere.
    fn pass_over_lost(&mut self) {
        let next = self.engine.wire.nth_record(self.log_read);
        if self.engine.wire.head.load(Acquire) != self.log_read
            && next.is_some_and(|record| !record.is_written())
        {
            self.log_read = self.log_read.wrapping_add(1);
        }
    }

    /// A process is born.
    fn admit(&mut self, pid: u32, seen: &mut Observation) -> io::Result<()> {
        // its number may be that of one that has gone unnoticed
        self.bury(pid, Fate::Reaped, seen)?;
        self.births.push(pid);
        seen.born.push(Pid(pid));
        let births = self.births.len();
        self.due.retain(|(due, since)| *due != pid || *since >= births);
        let Some(slot) = self.engine.wire.slot(pid) else { return Ok(()) };
        let host = slot.host_pid.load(Acquire);
        // a child that is born inside a handler has the calls that its parent was in
        let calls = match self.lives.get(&self.caller) {
            Some(parent) if slot.depth.load(Relaxed) > 0 => {
                parent.calls.split_last().map_or(Vec::new(), |(_, outer)| outer.to_vec())
            }
            _ => Vec::new(),
        };
        let opened = File::open(format!("/proc/{host}/status"));
        let known = opened.and_then(|file| Ok((procfs::read(&file)?, file)));
        let Ok((Some(status), file)) = known else {
            // gone before it was seen
            self.ended.push(Ended { pid: Pid(pid), status: None, fate: Fate::Reaped });
            seen.ended.push((Pid(pid), None));
            seen.gone.push(Pid(pid));
            return Ok(());
        };
        let kind = self.engine.sleep_file;
        let sleep_file = kind.and_then(|kind| Some((kind, kind.open(host).ok()?)));
        let pidfd = os::pidfd_open(status.outer_pid).ok();
        if let Some(pidfd) = &pidfd {
            self.ends.watch(pidfd, pid)?;
        }
        let life =
            Life { host, status: file, sleep_file, pidfd, pgid: status.pgid, calls, zombie: false };
        self.by_host.insert(host, pid);
        self.lives.insert(pid, life);
        Ok(())
    }

    /// A line of the log.
    fn note(&mut self, entry: &Entry, seen: &mut Observation) {
        let pid = Pid(entry.pid);
        if entry.handler {
            if let Some(info) = codec::siginfo(&entry.data) {
                seen.events.push(Event::Handler { pid, info });
            }
            return;
        }
        if let Some(life) = self.lives.get_mut(&entry.pid) {
            life.calls.retain(|command| *command != entry.command);
        }
        let Some(made) = self.made.get(&entry.command) else { return };
        let Some(call) = &made.call else {
            self.answer = Some(entry.clone());
            return;
        };
        let forks = makes_a_process(call) && entry.value > 0;
        let child = entry.value as u32;
        if forks && !self.births[made.births..].contains(&child) {
            self.due.push((child, made.births));
        }
        let result = codec::decode(call, entry.value, &entry.data);
        seen.events.push(Event::Returned { pid, result });
    }

    /// Looks at every process: whether all are quiet. `soon` after the call, one that a signal ends is
    /// not; later it is, as what the signal does may have been changed since.
    fn look(&mut self, seen: &mut Observation, soon: bool) -> io::Result<bool> {
        seen.views.clear();
        seen.in_handler.clear();
        let mut quiet = true;
        let mut gone = Vec::new();
        for (pid, life) in &mut self.lives {
            let Some(status) = procfs::read(&life.status)? else {
                gone.push(*pid);
                continue;
            };
            let Some(slot) = self.engine.wire.slot(*pid) else { continue };
            let busy = slot.busy.load(Acquire) != 0;
            let inner = life.calls.last().filter(|_| busy).and_then(|call| self.made.get(call));
            life.pgid = status.pgid;
            let run = run(&status, busy, inner, self.births.len());
            let run = run.filter(|run| life.is_at_rest(*run, inner));
            // one that is dying may sleep just so
            let run = run.filter(|run| *run != Run::Vfork || !soon || !is_doomed(&status));
            let Some(run) = run else {
                quiet = false;
                continue;
            };
            if run == Run::Zombie && !life.zombie {
                let Some(how) = procfs::exit_status(life.host)? else {
                    gone.push(*pid);
                    continue;
                };
                life.zombie = true;
                seen.ended.push((Pid(*pid), Some(how)));
            }
            let depth = slot.depth.load(Relaxed);
            if depth > 0 && run != Run::Zombie {
                seen.in_handler.insert(Pid(*pid), depth);
            }
            let ppid = self.by_host.get(&status.ppid).copied().unwrap_or(0);
            seen.views.insert(Pid(*pid), view(&status, run, Pid(ppid)));
        }
        self.note_ends(seen)?;
        for pid in gone {
            self.bury(pid, Fate::Reaped, seen)?;
        }
        if seen.views.get(&Pid(1)).is_some_and(|init| init.run == Run::Zombie) {
            self.end_of_init(seen)?;
        }
        Ok(quiet)
    }

    /// The first process is dead: so are all others.
    fn end_of_init(&mut self, seen: &mut Observation) -> io::Result<()> {
        let Some(init) = self.init.take() else { return Ok(()) };
        seen.init = os::reap(init, true)?;
        let pids: Vec<u32> = self.lives.keys().copied().collect();
        for pid in pids {
            self.bury(pid, Fate::Reaped, seen)?;
        }
        self.due.clear();
        seen.in_handler.clear();
        seen.views.clear();
        Ok(())
    }

    fn note_ends(&self, seen: &mut Observation) -> io::Result<()> {
        seen.order_of_ends.extend(self.ends.take()?.into_iter().map(Pid));
        Ok(())
    }

    /// Forgets a process that is gone.
    fn bury(&mut self, pid: u32, fate: Fate, seen: &mut Observation) -> io::Result<()> {
        // with its descriptor goes what is known of its end
        self.note_ends(seen)?;
        let Some(life) = self.lives.remove(&pid) else { return Ok(()) };
        self.by_host.remove(&life.host);
        let status = life.pidfd.as_ref().and_then(os::exit_status);
        if !life.zombie {
            seen.ended.push((Pid(pid), status));
        }
        seen.gone.push(Pid(pid));
        self.ended.push(Ended { pid: Pid(pid), status, fate });
        Ok(())
    }

    /// Kills and reaps everything.
    fn close(&mut self) -> io::Result<()> {
        let Some(init) = self.init.take() else { return Ok(()) };
        let fates: Vec<(u32, Fate)> = self
            .lives
            .iter()
            .map(|(pid, life)| (*pid, if life.zombie { Fate::Zombie } else { Fate::Alive }))
            .collect();
        os::kill(init);
        os::reap(init, true)?;
        let mut seen = Observation::default();
        for (pid, fate) in fates {
            self.bury(pid, fate, &mut seen)?;
        }
        // what the dying still wrote is not for the next program
        let head = self.engine.wire.head.load(Acquire);
        while self.log_read != head {
            self.engine.wire.nth_record(self.log_read).and_then(|record| record.take());
            self.log_read = self.log_read.wrapping_add(1);
        }
        for place in &self.engine.wire.born {
            place.store(0, Relaxed);
        }
        Ok(())
    }
}

impl Drop for Cage<'_> {
    fn drop(&mut self) {
        // an error means that it is gone already
        let _ = self.close();
    }
}

/// Whether the call may have a child.
fn makes_a_process(call: &Syscall) -> bool {
    matches!(call, Syscall::Fork | Syscall::Vfork | Syscall::Clone { .. })
}

/// Whether the caller sleeps until its child execs or ends (FORK-28).
fn waits_for_child(call: &Syscall) -> bool {
    match call {
        Syscall::Vfork => true,
        Syscall::Clone { flags, .. } => flags & clone::VFORK != 0,
        _ => false,
    }
}

/// Whether a pending signal ends it, though it is not a zombie yet: such a signal stays pending.
/// One that leaves a core, or comes after another one, waits until the process looks at its signals.
fn is_doomed(status: &Status) -> bool {
    let pending = (status.private | status.shared) - status.blocked;
    let mut signals = pending.iter();
    let (first, second) = (signals.next(), signals.next());
    first.filter(|_| second.is_none()).is_some_and(|signal| {
        let default = !(status.caught | status.ignored).contains(signal);
        default && signal.default_action() == DefaultAction::Terminate
    })
}

/// What a process is doing, if it is quiet.
fn run(status: &Status, busy: bool, inner: Option<&Made>, births: usize) -> Option<Run> {
    let call = inner.and_then(|made| made.call.as_ref());
    let pending = status.private | status.shared;
    match status.state {
        b'Z' => return Some(Run::Zombie),
        _ if status.private.contains(Signal::KILL) => return None,
        b'T' => return Some(Run::Stopped),
        _ => {}
    }
    match (status.state, call) {
        // a dying init sleeps while it waits for the others (NS-08)
        (_, Some(Syscall::Exit(_) | Syscall::ExitGroup(_))) => None,
        (b'S', _) if !(pending - status.blocked).is_empty() => None,
        (b'S', _) => Some(if busy { Run::Blocked } else { Run::User }),
        (b'D', Some(call)) if waits_for_child(call) && inner?.births < births => Some(Run::Vfork),
        _ => None,
    }
}

/// What the files say.
fn view(status: &Status, run: Run, ppid: Pid) -> View {
    let alive = |set: SigSet| if run == Run::Zombie { SigSet::EMPTY } else { set };
    View {
        run,
        tgid: status.tgid,
        ppid,
        pgid: status.pgid,
        sid: status.sid,
        private: alive(status.private),
        shared: alive(status.shared),
        blocked: alive(status.blocked),
        ignored: alive(status.ignored),
        caught: alive(status.caught),
    }
}
