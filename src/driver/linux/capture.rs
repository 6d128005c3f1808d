//! A pipeline that runs, and whose streams its owner writes and reads at the same time.
//!
//! One epoll instance has the three pipes, the descriptors of the commands and a timer. So no order
//! in which the commands read and write can make both sides wait for each other, one thread can
//! drive any number of pipelines, and the descriptor of the instance is all that a reactor needs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::cgroup::Cgroup;
use super::child_handle::Child;
use super::members::Member;
use super::output::{Output, RunError, Stream, Usage};
use super::pidfd;
use super::pipe_io::{self, Transfer};
use super::procfs::Proc;
use super::stats::{Figure, Source};
use super::tree::{ProcessTree, TreeInner};
use super::watch::Watch;
use crate::abi::{Errno, Signal, WaitStatus};
use crate::sync::moment_after;

/// The most bytes that are read at once: the size of a pipe.
const CHUNK: usize = 64 * 1024;
/// How often [`Capture::advance`] looks for more before it lets its caller do something else.
const TURNS: usize = 4;
/// How often it is looked whether members are left.
const LOOK: Duration = Duration::from_millis(20);
/// How long it may take until a command that was killed has ended.
const GONE: Duration = Duration::from_secs(10);

/// What an event of the epoll instance is about: beyond these, a command.
const STDIN: u64 = 0;
const TIMER: u64 = 3;
const COMMANDS: u64 = 4;
const STREAMS: [(u64, Stream); 2] = [(1, Stream::Stdout), (2, Stream::Stderr)];

/// What becomes of the bytes that are read. No bytes are the end of a stream.
pub(super) enum Sink<'a> {
    Keep,
    Give(&'a mut dyn FnMut(Stream, &[u8])),
}

/// When a pipeline is ended before its commands have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout {
    pub after: Duration,
    /// A signal, and how long the processes then have before SIGKILL.
    pub ask: Option<(Signal, Duration)>,
}

/// Everything that a capture begins with.
#[derive(Debug)]
pub(super) struct Parts {
    /// The tree, if it is the pipeline's own.
    pub tree: Option<ProcessTree>,
    pub core: Arc<TreeInner>,
    pub stdin: Option<File>,
    pub input: Vec<u8>,
    pub streams: [Option<File>; 2],
    pub limit: usize,
    pub timeout: Option<Timeout>,
    /// Whether it lasts until the last member has ended, and not the last command.
    pub awaits_members: bool,
}

/// A pipeline that runs: [`Pipeline::start`](super::Pipeline::start). It waits, or is advanced
/// whenever its descriptor is readable, from any event loop; see [`Capture::advance`]. Dropped before
/// its end it kills its tree, or in a tree of the caller its commands.
#[derive(Debug)]
pub struct Capture {
    tree: Option<ProcessTree>,
    core: Arc<TreeInner>,
    children: Vec<Child>,
    statuses: Vec<Option<WaitStatus>>,
    stdin: Option<File>,
    input: Vec<u8>,
    written: usize,
    streams: [Option<File>; 2],
    kept: [Vec<u8>; 2],
    totals: [u64; 2],
    truncated: bool,
    limit: usize,
    /// For bytes that are not kept.
    buffer: Vec<u8>,
    /// The epoll instance.
    poller: Arc<OwnedFd>,
    timer: Option<OwnedFd>,
    timeout: Option<(Instant, Timeout)>,
    timed_out: bool,
    /// The signal was sent: until when SIGKILL waits.
    asked_until: Option<Instant>,
    begun: Instant,
    awaits_members: bool,
    finished: bool,
}

fn piped(error: impl Into<io::Error>) -> RunError {
    RunError::Pipe(error.into())
}

impl Capture {
    /// A capture without commands: they are pushed as they are started.
    pub(super) fn new(parts: Parts) -> Result<Capture, RunError> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(piped)?;
        Ok(Capture {
            tree: parts.tree,
            core: parts.core,
            children: Vec::new(),
            statuses: Vec::new(),
            stdin: parts.stdin,
            input: parts.input,
            written: 0,
            streams: parts.streams,
            kept: Default::default(),
            totals: [0; 2],
            truncated: false,
            limit: parts.limit,
            buffer: Vec::new(),
            poller: Arc::new(poller),
            timer: None,
            timeout: parts.timeout.map(|timeout| (moment_after(timeout.after), timeout)),
            timed_out: false,
            asked_until: None,
            begun: Instant::now(),
            awaits_members: parts.awaits_members,
            finished: false,
        })
    }

    /// The next command of the pipeline, which runs.
    pub(super) fn push(&mut self, child: Child) {
        self.children.push(child);
        self.statuses.push(None);
    }

    /// All commands run.
    pub(super) fn begin(mut self) -> Result<Capture, RunError> {
        self.register().map_err(RunError::Pipe)?;
        Ok(self)
    }

    pub(super) fn core(&self) -> &Arc<TreeInner> {
        &self.core
    }

    /// Puts every descriptor into the epoll instance.
    fn register(&mut self) -> io::Result<()> {
        if self.input.is_empty() {
            self.stdin = None;
        }
        if let Some(stdin) = &self.stdin {
            pipe_io::set_nonblocking(stdin)?;
            self.add(stdin, STDIN, epoll::EventFlags::OUT)?;
        }
        for (token, stream) in STREAMS {
            if let Some(end) = &self.streams[stream as usize] {
                pipe_io::set_nonblocking(end)?;
                self.add(end, token, epoll::EventFlags::IN)?;
            }
        }
        for (child, token) in self.children.iter().zip(COMMANDS..) {
            self.add(&child.real.pidfd, token, epoll::EventFlags::IN)?;
        }
        if let Some((deadline, _)) = self.timeout {
            self.wake_at(deadline)?;
        }
        Ok(())
    }

    fn add(&self, fd: impl AsFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&*self.poller, fd, epoll::EventData::new_u64(token), flags)?)
    }

    /// Makes the timer fire then.
    fn wake_at(&mut self, moment: Instant) -> io::Result<()> {
        if self.timer.is_none() {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
            self.add(&timer, TIMER, epoll::EventFlags::IN)?;
            self.timer = Some(timer);
        }
        let Some(timer) = &self.timer else { return Ok(()) };
        // zero would stop it
        let left = moment.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        // what is too long for the kernel's clock is as good as its longest time
        let value = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let value = Itimerspec { it_interval: none, it_value: value };
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }

    /// The commands, in the order of the pipeline: for their numbers, for signals, and for the pipes
    /// of streams that are [`Stdio::Piped`](super::Stdio::Piped).
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// The tree of its own; `None` in a tree of the caller, and after the end.
    pub fn tree(&self) -> Option<&ProcessTree> {
        self.tree.as_ref()
    }

    /// Whether the end was returned.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The epoll instance, also for a thread that outlives the capture by a moment.
    pub(super) fn poller(&self) -> Arc<OwnedFd> {
        self.poller.clone()
    }

    /// Waits for the end. It reads and writes meanwhile.
    ///
    /// # Errors
    ///
    /// Why the end is not known; the tree is ended then.
    pub fn wait(mut self) -> Result<Output, RunError> {
        self.wait_in(&mut Sink::Keep)
    }

    /// Waits for the end, and calls a function for the bytes of both streams as they come, in place
    /// of keeping them: the memory that it takes does not depend on the amount of output. The bytes
    /// are never none, and not cut at any particular place. A command that writes faster than the
    /// function returns waits.
    ///
    /// # Errors
    ///
    /// As [`Capture::wait`].
    pub fn wait_with(&mut self, act: &mut dyn FnMut(Stream, &[u8])) -> Result<Output, RunError> {
        self.wait_in(&mut Sink::Give(&mut nonempty(act)))
    }

    fn wait_in(&mut self, sink: &mut Sink) -> Result<Output, RunError> {
        loop {
            if let Some(output) = self.turn(None, sink)?.1 {
                return Ok(output);
            }
        }
    }

    /// Waits for something to happen, and deals with it. Gives the end of a stream as no bytes.
    pub(super) fn wait_once(
        &mut self,
        act: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Option<Output>, RunError> {
        Ok(self.turn(None, &mut Sink::Give(act))?.1)
    }

    /// Does what can be done without waiting, and returns the end if this is it. Call it whenever the
    /// descriptor of the capture ([`AsFd`]) is readable, whether the reactor reports levels
    /// (poll(2)) or edges (EPOLLET): nothing else has to be watched, neither pipes nor time. One call
    /// reads at most 256 KiB of each stream, or what is left at the end.
    ///
    /// Where the commands have ended, or the timeout is over, it ends the tree, as
    /// [`ProcessTree::kill`] does: about a millisecond, and more only with members that SIGKILL
    /// does not end at once.
    ///
    /// # Errors
    ///
    /// As [`Capture::wait`]. EINVAL after the end was returned.
    ///
    /// ```
    /// use proctable::driver::linux::{Command, Pipeline};
    /// use std::os::fd::AsFd;
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let mut capture = Pipeline::from(Command::new("echo").arg("hello")).start()?;
    /// let output = loop {
    ///     // stands for any event loop
    ///     poll(&mut [PollFd::new(&capture, PollFlags::IN)], None)?;
    ///     if let Some(output) = capture.advance()? {
    ///         break output;
    ///     }
    /// };
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn advance(&mut self) -> Result<Option<Output>, RunError> {
        self.advance_in(&mut Sink::Keep)
    }

    /// The same, and gives the bytes to a function in place of keeping them.
    ///
    /// # Errors
    ///
    /// As [`Capture::advance`].
    pub fn advance_with(
        &mut self,
        act: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Option<Output>, RunError> {
        self.advance_in(&mut Sink::Give(&mut nonempty(act)))
    }

    fn advance_in(&mut self, sink: &mut Sink) -> Result<Option<Output>, RunError> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..TURNS {
            match self.turn(Some(&now), sink)? {
                (_, Some(output)) => return Ok(Some(output)),
                (false, None) => return Ok(None),
                (true, None) => {}
            }
        }
        self.wake_again().map_err(RunError::Pipe)?;
        Ok(None)
    }

    /// Makes the epoll instance report again what is ready already: a reactor that is notified of
    /// edges would not come back otherwise. EPOLL_CTL_MOD is not enough, as what is in the list of
    /// ready files wakes nobody (`ep_modify`); what is added does (`ep_insert`).
    fn wake_again(&self) -> io::Result<()> {
        if let Some(stdin) = &self.stdin {
            epoll::delete(&*self.poller, stdin)?;
            self.add(stdin, STDIN, epoll::EventFlags::OUT)?;
        }
        for (token, stream) in STREAMS {
            if let Some(end) = &self.streams[stream as usize] {
                epoll::delete(&*self.poller, end)?;
                self.add(end, token, epoll::EventFlags::IN)?;
            }
        }
        Ok(())
    }

    /// Waits for events and deals with them: whether there were any, and the end.
    fn turn(
        &mut self,
        timeout: Option<&Timespec>,
        sink: &mut Sink,
    ) -> Result<(bool, Option<Output>), RunError> {
        if self.finished {
            return Err(RunError::Pipe(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let result = self.try_turn(timeout, sink);
        // what comes after an error is the drop
        self.finished |= !matches!(result, Ok((_, None)));
        result
    }

    fn try_turn(
        &mut self,
        timeout: Option<&Timespec>,
        sink: &mut Sink,
    ) -> Result<(bool, Option<Output>), RunError> {
        let mut events = Vec::with_capacity(8);
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&*self.poller, room, timeout) {
            // a signal of the owner's
            Err(rustix::io::Errno::INTR) => return Ok((true, None)),
            result => result.map_err(piped)?,
        };
        let mut may_end = false;
        for event in &events {
            let token = event.data.u64();
            let stream = STREAMS.into_iter().find(|(other, _)| *other == token);
            match (token, stream) {
                (_, Some((_, stream))) => {
                    may_end |= self.read(stream, sink).map_err(RunError::Pipe)? == Transfer::Closed;
                }
                (STDIN, _) => self.write().map_err(RunError::Pipe)?,
                (TIMER, _) => {
                    let timer = self.timer.as_ref();
                    // EAGAIN if it was set anew meanwhile
                    let _ = timer.map(|timer| rustix::io::read(timer, &mut [0u8; 8]));
                    may_end = true;
                }
                (token, _) => {
                    self.see_end((token - COMMANDS) as usize)?;
                    may_end = true;
                }
            }
        }
        let is_over = may_end && self.is_over()?;
        let output = if is_over { Some(self.finish(sink)?) } else { None };
        Ok((!events.is_empty(), output))
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        match pipe_io::write(stdin, &self.input[self.written..])? {
            Transfer::Bytes(count) => self.written += count,
            Transfer::WouldBlock => {}
            // a command need not read all of its input: that is no error
            Transfer::Closed => self.written = self.input.len(),
        }
        if self.written == self.input.len() {
            self.close_stdin();
        }
        Ok(())
    }

    fn close_stdin(&mut self) {
        if let Some(stdin) = self.stdin.take() {
            // a child that is between clone and exec has a copy, which keeps it registered
            let _ = epoll::delete(&*self.poller, &stdin);
        }
        self.input = Vec::new();
        self.written = 0;
    }

    fn read(&mut self, stream: Stream, sink: &mut Sink) -> io::Result<Transfer> {
        let nth = stream as usize;
        let Some(end) = &self.streams[nth] else { return Ok(Transfer::Closed) };
        let kept = &mut self.kept[nth];
        // what is much is not copied; what is little takes no more memory than it needs
        let is_direct = matches!(sink, Sink::Keep) && (CHUNK..self.limit).contains(&kept.len());
        let buffer = if is_direct { &mut *kept } else { &mut self.buffer };
        if !is_direct {
            buffer.clear();
        }
        buffer.reserve(CHUNK);
        let result = pipe_io::read(end, buffer)?;
        match result {
            Transfer::Bytes(count) => {
                self.totals[nth] += count as u64;
                match sink {
                    Sink::Give(act) => act(stream, &self.buffer),
                    Sink::Keep if is_direct => {
                        self.truncated |= kept.len() > self.limit;
                        kept.truncate(self.limit);
                    }
                    Sink::Keep => {
                        let room = self.limit.saturating_sub(kept.len());
                        self.truncated |= count > room;
                        kept.extend_from_slice(&self.buffer[..count.min(room)]);
                    }
                }
            }
            Transfer::Closed => self.close(stream, sink),
            Transfer::WouldBlock => {}
        }
        Ok(result)
    }

    fn close(&mut self, stream: Stream, sink: &mut Sink) {
        if let Some(end) = self.streams[stream as usize].take() {
            let _ = epoll::delete(&*self.poller, &end);
            if let Sink::Give(act) = sink {
                act(stream, &[]);
            }
        }
    }

    /// A command has ended.
    fn see_end(&mut self, nth: usize) -> Result<(), RunError> {
        let Some(child) = self.children.get(nth).filter(|_| self.statuses[nth].is_none()) else {
            return Ok(());
        };
        // reported here: the watcher may come later
        if child.real.ended() {
            self.statuses[nth] = child.wait_timeout(Duration::ZERO).map_err(RunError::Wait)?;
        }
        // the descriptor stays readable
        let _ = epoll::delete(&*self.poller, &child.real.pidfd);
        Ok(())
    }

    /// Whether nothing is left to wait for. If something is, the timer fires when to look again.
    fn is_over(&mut self) -> Result<bool, RunError> {
        let now = Instant::now();
        let mut is_traced = false;
        for nth in 0..self.children.len() {
            let is_known = self.statuses[nth].is_some();
            if !is_known && pidfd::has_ended(&self.children[nth].real.pidfd) {
                self.see_end(nth)?;
                // its tracer has to see the end first
                is_traced |= self.statuses[nth].is_none();
            }
        }
        let have_ended = self.statuses.iter().all(Option::is_some);
        let mut is_complete = self.is_complete(have_ended).map_err(RunError::Pipe)?;
        if let Some((deadline, timeout)) = self.timeout.filter(|_| !self.timed_out)
            && now >= deadline
            && !is_complete
        {
            self.timed_out = true;
            let Some((signal, grace)) = timeout.ask else { return Ok(true) };
            self.ask(signal);
            self.asked_until = Some(moment_after(grace));
            is_complete = false;
        }
        if is_complete || self.asked_until.is_some_and(|until| now >= until) {
            return Ok(true);
        }
        let deadline = self.timeout.filter(|_| !self.timed_out).map(|(deadline, _)| deadline);
        let looks = is_traced || self.asked_until.is_some() || have_ended && self.tree.is_some();
        let look = looks.then(|| now + LOOK);
        if let Some(moment) = [deadline, self.asked_until, look].into_iter().flatten().min() {
            self.wake_at(moment).map_err(RunError::Pipe)?;
        }
        Ok(false)
    }

    /// Whether everything has ended that it waits for.
    fn is_complete(&self, have_ended: bool) -> io::Result<bool> {
        let must_be_empty = self.awaits_members || self.asked_until.is_some();
        Ok(have_ended
            && match &self.tree {
                Some(_) if must_be_empty => self.core.is_empty()?,
                Some(_) => true,
                // whoever has the pipes lives as long as the caller's tree does
                None => self.timed_out || self.streams.iter().all(Option::is_none),
            })
    }

    /// Sends a signal to those that the timeout ends.
    fn ask(&self, signal: Signal) {
        if self.tree.is_some() {
            // a member that it does not reach is killed later
            let _ = self.core.ask(signal);
            return;
        }
        for child in &self.children {
            let _ = child.real.send(signal);
            let _ = child.real.send(Signal::CONT);
        }
    }

    /// Ends the tree, and reads what it has written.
    fn finish(&mut self, sink: &mut Sink) -> Result<Output, RunError> {
        self.close_stdin();
        let own = self.tree.take();
        let (killed, survivors, unseen) = match &own {
            Some(tree) => {
                let (killed, unseen) = match tree.members() {
                    Ok(members) => (members, None),
                    Err(error) => (Vec::new(), Some(error.to_string())),
                };
                let shutdown = tree.kill().map_err(RunError::End)?;
                (killed, shutdown.survivors, unseen.or(shutdown.unseen))
            }
            None => (self.kill_commands(), Vec::new(), None),
        };
        let statuses = self.statuses()?;
        // a process that left the tree may have the other end, and write for ever
        for (_, stream) in STREAMS {
            let most = self.totals[stream as usize] + pipe_size(&self.streams[stream as usize]);
            while self.totals[stream as usize] < most {
                match self.read(stream, sink).map_err(RunError::Pipe)? {
                    Transfer::Bytes(_) => {}
                    Transfer::WouldBlock | Transfer::Closed => break,
                }
            }
            self.close(stream, sink);
        }
        let usage = self.usage(own.is_some());
        // its cgroup is removed
        drop(own);
        let [stdout, stderr] = core::mem::take(&mut self.kept);
        Ok(Output {
            // a pipeline has one command at least
            status: statuses.last().copied().unwrap_or(WaitStatus::exited(0)),
            statuses,
            stdout,
            stderr,
            stdout_total: self.totals[0],
            stderr_total: self.totals[1],
            truncated: self.truncated,
            timed_out: self.timed_out,
            killed,
            survivors,
            unseen,
            usage,
        })
    }

    /// Kills the commands that are left in a tree of the caller.
    fn kill_commands(&self) -> Vec<Member> {
        let proc = Proc::own().ok();
        let left = self.children.iter().zip(&self.statuses);
        let left = left.filter(|(_, status)| status.is_none()).map(|(child, _)| child);
        let mut killed = Vec::new();
        for child in left.filter(|child| !pidfd::has_ended(&child.real.pidfd)) {
            let stat = proc.as_ref().and_then(|proc| proc.stat(child.pid()));
            killed.extend(stat.map(Member::from));
            let _ = child.real.send(Signal::KILL);
        }
        killed
    }

    /// How the commands ended, after they were killed.
    fn statuses(&self) -> Result<Vec<WaitStatus>, RunError> {
        let each = self.children.iter().zip(&self.statuses);
        let status = |(child, status): (&Child, &Option<WaitStatus>)| match status {
            Some(status) => Ok(*status),
            None => match child.wait_timeout(GONE) {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err(RunError::Wait(Errno::EBUSY)),
                Err(errno) => Err(RunError::Wait(errno)),
            },
        };
        each.map(status).collect()
    }

    fn usage(&self, has_tree: bool) -> Usage {
        let children = self.children.iter();
        let of_children = children.filter_map(Child::cpu_time).sum();
        let of_children = Figure { value: of_children, source: Source::SumOfMembers };
        let cpu = has_tree.then(|| self.core.cpu(None).ok()).flatten();
        let peak = has_tree.then(|| self.core.memory_peak(&[])).flatten();
        Usage {
            cpu: cpu.unwrap_or(of_children),
            memory_peak: peak.or_else(|| self.largest_command()),
            oom_kills: has_tree.then(|| self.core.oom_kills()).flatten(),
            elapsed: self.begun.elapsed(),
        }
    }

    /// The largest resident size of a command. The kernel counts the memory of the owner, which a
    /// child shares until its exec, as the child's: nothing is known of a smaller one.
    fn largest_command(&self) -> Option<Figure<u64>> {
        let peaks = self.children.iter().filter_map(|child| *child.real.peak.lock());
        let value = peaks.max().filter(|peak| *peak > super::attributes::own_peak())?;
        Some(Figure { value, source: Source::LargestMember })
    }
}

impl TreeInner {
    /// Whether no member is left.
    fn is_empty(&self) -> io::Result<bool> {
        let is_leaving = || self.cgroup.as_ref().is_some_and(Cgroup::is_populated);
        Ok(self.pids()?.is_empty() && !self.has_groups() && !is_leaving())
    }
}

/// Leaves out the ends of streams.
fn nonempty<'a>(act: &'a mut dyn FnMut(Stream, &[u8])) -> impl FnMut(Stream, &[u8]) + use<'a> {
    |stream, bytes| {
        if !bytes.is_empty() {
            act(stream, bytes);
        }
    }
}

/// How much a pipe has at most.
fn pipe_size(end: &Option<File>) -> u64 {
    let size = end.as_ref().and_then(|end| rustix::pipe::fcntl_getpipe_size(end).ok());
    size.unwrap_or(CHUNK) as u64
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl AsRawFd for Capture {
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // an own tree kills its members itself
        if self.tree.is_none() && self.statuses.iter().any(Option::is_none) {
            self.kill_commands();
        }
    }
}
