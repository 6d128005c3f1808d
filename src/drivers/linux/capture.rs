//! A running pipeline, whose owner writes and reads its streams at the same time.
//!
//! One epoll instance watches the three pipes, the pidfds of the commands and a timer. Therefore
//! the owner and the commands never wait for each other, in whatever order the commands read and
//! write; one thread can drive any number of pipelines; and a reactor watches one descriptor.

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
use super::options::OnDrop;
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
/// How many times [`Capture::advance`] asks for events before it returns to its caller.
const TURNS: usize = 4;
/// The time between two looks for members that are left.
const LOOK: Duration = Duration::from_millis(20);
/// The longest wait for the end of a command that got SIGKILL.
const GONE: Duration = Duration::from_secs(10);

/// The data of the events in the epoll instance. From `COMMANDS` on they are the commands.
const STDIN: u64 = 0;
const TIMER: u64 = 3;
const COMMANDS: u64 = 4;
const STREAMS: [(u64, Stream); 2] = [(1, Stream::Stdout), (2, Stream::Stderr)];

/// The destination of the bytes that are read. An empty slice is the end of a stream.
pub(super) enum Sink<'a> {
    Keep,
    Give(&'a mut dyn FnMut(Stream, &[u8])),
}

/// The time after which a pipeline ends, although its commands have not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout {
    pub after: Duration,
    /// The signal that is sent first, and the time between it and SIGKILL.
    pub ask: Option<(Signal, Duration)>,
}

/// The data of a new capture.
#[derive(Debug)]
pub(super) struct Parts {
    /// The pipeline's own tree; `None` in a tree of the caller.
    pub tree: Option<ProcessTree>,
    pub core: Arc<TreeInner>,
    pub stdin: Option<File>,
    pub input: Vec<u8>,
    pub streams: [Option<File>; 2],
    pub limit: usize,
    pub timeout: Option<Timeout>,
    /// Whether the capture lasts until the last member has ended, and not only the last command.
    pub awaits_members: bool,
}

/// A running pipeline: [`Pipeline::start`](super::Pipeline::start). [`Capture::wait`] blocks until
/// it has ended; an event loop calls [`Capture::advance`] whenever the descriptor is readable. The
/// drop of a capture that has not ended kills its tree, or its commands in a tree of the caller.
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
    /// The place for bytes that the capture does not keep.
    buffer: Vec<u8>,
    /// The epoll instance.
    poller: Arc<OwnedFd>,
    timer: Option<OwnedFd>,
    timeout: Option<(Instant, Timeout)>,
    timed_out: bool,
    /// The time of SIGKILL, once the first signal was sent.
    asked_until: Option<Instant>,
    begun: Instant,
    awaits_members: bool,
    finished: bool,
}

fn piped(error: impl Into<io::Error>) -> RunError {
    RunError::Pipe(error.into())
}

impl Capture {
    /// A capture without commands. Each command is pushed after its spawn.
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

    /// Adds the next command of the pipeline, which runs.
    pub(super) fn push(&mut self, child: Child) {
        self.children.push(child);
        self.statuses.push(None);
    }

    /// Begins to watch the commands and their streams, after the last spawn.
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

    /// Sets the timer to that moment.
    fn wake_at(&mut self, moment: Instant) -> io::Result<()> {
        if self.timer.is_none() {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
            self.add(&timer, TIMER, epoll::EventFlags::IN)?;
            self.timer = Some(timer);
        }
        let Some(timer) = &self.timer else { return Ok(()) };
        // zero would stop the timer
        let left = moment.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        // a time beyond the range of the kernel's clock becomes its longest time
        let value = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let value = Itimerspec { it_interval: none, it_value: value };
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }

    /// The commands, in the order of the pipeline: for their numbers, for signals, and for the
    /// pipes of streams that are [`Stdio::Piped`](super::Stdio::Piped).
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// The pipeline's own tree; `None` in a tree of the caller, and after the end.
    pub fn tree(&self) -> Option<&ProcessTree> {
        self.tree.as_ref()
    }

    /// Whether the end was returned.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The epoll instance, shared with the watcher's thread.
    pub(super) fn poller(&self) -> Arc<OwnedFd> {
        self.poller.clone()
    }

    /// Blocks until the pipeline has ended, and reads and writes its streams in that time.
    ///
    /// # Errors
    ///
    /// [`RunError::Pipe`], [`RunError::End`] and [`RunError::Wait`]; the tree is ended then.
    pub fn wait(mut self) -> Result<Output, RunError> {
        self.wait_in(&mut Sink::Keep)
    }

    /// Blocks until the pipeline has ended, and calls a function for the bytes of both streams as
    /// they arrive. The capture does not keep them, so its memory does not depend on the amount of
    /// output. A slice is not empty, and may begin and end anywhere. A command that writes faster
    /// than the function reads waits.
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

    /// Blocks until there is an event, and handles it. `act` gets the end of a stream as an empty
    /// slice.
    pub(super) fn wait_once(
        &mut self,
        act: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Option<Output>, RunError> {
        Ok(self.turn(None, &mut Sink::Give(act))?.1)
    }

    /// Reads and writes without blocking, and returns the output if the pipeline has ended. Call it
    /// whenever the descriptor of the capture ([`AsFd`]) is readable. The reactor may report levels
    /// (poll(2)) or edges (EPOLLET), and needs to watch neither pipes nor time. One call reads at
    /// most 256 KiB of each stream, and at the end what is left in the pipes.
    ///
    /// After the end of the commands, or at the timeout, it ends the tree with
    /// [`ProcessTree::kill`]. That blocks for about a millisecond, and for 10 s at most if SIGKILL
    /// does not end a member.
    ///
    /// # Errors
    ///
    /// As [`Capture::wait`]. EINVAL after the output was returned.
    ///
    /// ```
    /// use proctable::drivers::linux::{Command, Pipeline};
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

    /// [`Capture::advance`] with a function that gets the bytes, as in [`Capture::wait_with`].
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

    /// Makes the epoll instance report ready streams again, because a reactor of edges would not
    /// call again otherwise. EPOLL_CTL_MOD is not enough: it wakes no waiter for a file that is in
    /// the list of ready files (`ep_modify`). EPOLL_CTL_ADD does (`ep_insert`).
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

    /// Waits for events and handles them. Returns whether there were any, and the output at the
    /// end.
    fn turn(
        &mut self,
        timeout: Option<&Timespec>,
        sink: &mut Sink,
    ) -> Result<(bool, Option<Output>), RunError> {
        if self.finished {
            return Err(RunError::Pipe(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let result = self.try_turn(timeout, sink);
        // after an error only the drop is left
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
            // a signal handler of the owner ran
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
                    // EAGAIN if the timer was set again
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
            // no error: a command need not read all of its input
            Transfer::Closed => self.written = self.input.len(),
        }
        if self.written == self.input.len() {
            self.close_stdin();
        }
        Ok(())
    }

    fn close_stdin(&mut self) {
        if let Some(stdin) = self.stdin.take() {
            // a child between clone and exec has a copy, which would keep the file registered
            let _ = epoll::delete(&*self.poller, &stdin);
        }
        self.input = Vec::new();
        self.written = 0;
    }

    fn read(&mut self, stream: Stream, sink: &mut Sink) -> io::Result<Transfer> {
        let nth = stream as usize;
        let Some(end) = &self.streams[nth] else { return Ok(Transfer::Closed) };
        let kept = &mut self.kept[nth];
        // a large output is read into its place; a small one is copied, to take little memory
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

    /// Notes the end of a command.
    fn see_end(&mut self, nth: usize) -> Result<(), RunError> {
        let Some(child) = self.children.get(nth).filter(|_| self.statuses[nth].is_none()) else {
            return Ok(());
        };
        // reported to the table here: the watcher may be later
        if child.real.ended() {
            self.statuses[nth] = child.wait_timeout(Duration::ZERO).map_err(RunError::Wait)?;
        }
        // a pidfd stays readable
        let _ = epoll::delete(&*self.poller, &child.real.pidfd);
        Ok(())
    }

    /// Whether the capture has nothing left to wait for. Otherwise it sets the timer for the next
    /// look.
    fn is_over(&mut self) -> Result<bool, RunError> {
        let now = Instant::now();
        let mut is_traced = false;
        for nth in 0..self.children.len() {
            let is_known = self.statuses[nth].is_some();
            if !is_known && pidfd::has_ended(&self.children[nth].real.pidfd) {
                self.see_end(nth)?;
                // a tracer has to wait for it first
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

    /// Whether all commands, and what else the capture waits for, have ended.
    fn is_complete(&self, have_ended: bool) -> io::Result<bool> {
        let must_be_empty = self.awaits_members || self.asked_until.is_some();
        Ok(have_ended
            && match &self.tree {
                Some(_) if must_be_empty => self.core.is_empty()?,
                Some(_) => true,
                // a process that has the pipes may live as long as the caller's tree
                None => self.timed_out || self.streams.iter().all(Option::is_none),
            })
    }

    /// Sends a signal to the processes that the timeout ends.
    fn ask(&self, signal: Signal) {
        if self.tree.is_some() {
            // SIGKILL follows for members that it does not reach
            let _ = self.core.ask(signal);
            return;
        }
        for child in &self.children {
            let _ = child.real.send(signal);
            let _ = child.real.send(Signal::CONT);
        }
    }

    /// Ends the tree, and reads what is left in the pipes.
    fn finish(&mut self, sink: &mut Sink) -> Result<Output, RunError> {
        self.close_stdin();
        let mut own = self.tree.take();
        let (killed, survivors, unseen) = match &mut own {
            Some(tree) => {
                let (killed, unseen) = match tree.members() {
                    Ok(members) => (members, None),
                    Err(error) => (Vec::new(), Some(error.to_string())),
                };
                let shutdown = tree.kill().map_err(RunError::End)?;
                let has_cgroup = self.core.cgroup.is_some() || !tree.enforced().is_empty();
                if !has_cgroup && shutdown.survivors.is_empty() {
                    // a second kill by the drop would look at every process again
                    tree.on_drop = OnDrop::Leave;
                }
                (killed, shutdown.survivors, unseen.or(shutdown.unseen))
            }
            None => (self.kill_commands(), Vec::new(), None),
        };
        let statuses = self.statuses()?;
        // bounded: a process that left the tree may have the other end, and write for ever
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
        // removes the cgroup
        drop(own);
        let [stdout, stderr] = core::mem::take(&mut self.kept);
        Ok(Output {
            // a pipeline has at least one command
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

    /// Kills the commands of a tree of the caller that have not ended.
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

    /// The statuses of all commands, after SIGKILL.
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
        // without a cgroup there is no more than the commands: no member is left
        let has_cgroup = has_tree && self.core.cgroup.is_some();
        let cpu = has_cgroup.then(|| self.core.cpu(None).ok()).flatten();
        let peak = has_tree.then(|| self.core.memory_peak(&[])).flatten();
        Usage {
            cpu: cpu.unwrap_or(of_children),
            memory_peak: peak.or_else(|| self.largest_command()),
            oom_kills: has_tree.then(|| self.core.oom_kills()).flatten(),
            elapsed: self.begun.elapsed(),
        }
    }

    /// The largest resident size of a command. A child shares the memory of its owner until its
    /// exec, and `ru_maxrss` of the child counts that (`exec_mmap`): a value that is not larger
    /// than the owner's own says nothing.
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

/// Removes the empty slices at the ends of streams.
fn nonempty<'a>(act: &'a mut dyn FnMut(Stream, &[u8])) -> impl FnMut(Stream, &[u8]) + use<'a> {
    |stream, bytes| {
        if !bytes.is_empty() {
            act(stream, bytes);
        }
    }
}

/// The capacity of a pipe.
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
        // the drop of an own tree kills its members
        if self.tree.is_none() && self.statuses.iter().any(Option::is_none) {
            self.kill_commands();
        }
    }
}
