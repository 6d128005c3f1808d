//! The memory that the controller and its agents share: a mailbox for each thread, and one log.
//!
//! An agent finds its mailbox by its thread's number, which it reads from the kernel: that works in
//! a handler, after fork, in a thread, and in a child that shares its parent's memory. All fields
//! are atomic, so both sides are safe code; `command` and `head` establish the order.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// The number of mailboxes. The largest number of an agent is one less.
pub(super) const SLOTS: usize = 1024;
/// The number of words of a call's input: paths and structures.
pub(super) const INPUT_WORDS: usize = 64;
/// The number of words of a call's output, and of a siginfo.
pub(super) const OUTPUT_WORDS: usize = 32;
/// The capacity of the log between two samples of the controller.
pub(super) const RECORDS: usize = 2048;
/// The capacity of the queue of new tasks between two samples of the controller.
pub(super) const BIRTHS: usize = 256;
/// The number of words of programs: one page.
pub(super) const WORDS: usize = 1024;

/// How the agent performs the system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Op {
    /// A call without special handling.
    Plain = 0,
    /// A call that returns twice.
    Fork = 1,
    /// A call that returns twice, the child in its parent's memory.
    ForkSharing = 2,
    /// rt_sigaction with addresses of the agent.
    Action = 3,
    /// execve of the agent's own program.
    ExecSelf = 4,
    /// The return of the handler.
    HandlerReturn = 5,
    /// The creation of a namespace, by the zygote.
    MakeInit = 6,
    /// open of a terminal, to a descriptor of the controller's choice.
    Open = 7,
    /// write to a master, and a poll of the slave.
    WriteMaster = 8,
    /// poll, whose result stands beside its arguments.
    Poll = 9,
}

impl Op {
    /// Converts the value in the shared memory.
    pub(super) fn from_raw(raw: u32) -> Op {
        match raw {
            1 => Op::Fork,
            2 => Op::ForkSharing,
            3 => Op::Action,
            4 => Op::ExecSelf,
            5 => Op::HandlerReturn,
            6 => Op::MakeInit,
            7 => Op::Open,
            8 => Op::WriteMaster,
            9 => Op::Poll,
            _ => Op::Plain,
        }
    }
}

/// How an argument is passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum ArgKind {
    /// Unchanged.
    Value = 0,
    /// A pointer to that word of the input.
    Input = 1,
    /// A pointer to that word of the output.
    Output = 2,
}

/// A mailbox.
#[repr(C)]
pub(super) struct Mailbox {
    /// The number of the newest command. The agent sleeps on this word.
    pub(super) command: AtomicU32,
    /// The number of the newest command that the agent took.
    pub(super) taken: AtomicU32,
    /// 1 from the start of a command to the end of its call.
    pub(super) busy: AtomicU32,
    /// The number of running handlers that wait for commands.
    pub(super) depth: AtomicU32,
    /// The thread's number in /proc.
    pub(super) host_pid: AtomicU32,
    /// Its process's number.
    pub(super) tgid: AtomicU32,
    /// The number of the command that created the thread.
    pub(super) created_by: AtomicU32,
    /// The number of iterations that the agent counts before it performs the newest command.
    pub(super) delay: AtomicU32,
    /// An [`Op`].
    pub(super) op: AtomicU32,
    /// The system call.
    pub(super) number: AtomicU64,
    /// Its arguments.
    pub(super) args: [AtomicU64; 6],
    /// A [`Kind`] for each, two bits.
    pub(super) kinds: AtomicU32,
    /// The number of used words of `input`.
    pub(super) input_len: AtomicU32,
    /// The data that pointers point to.
    pub(super) input: [AtomicU64; INPUT_WORDS],
}

/// A line of the log.
#[repr(C)]
pub(super) struct Record {
    /// 0 while it is being written, else a [`RecordKind`].
    pub(super) kind: AtomicU32,
    /// The number of the thread.
    pub(super) pid: AtomicU32,
    /// The number of the command that the record completes.
    pub(super) command: AtomicU32,
    reserved: AtomicU32,
    /// The result of the call.
    pub(super) value: AtomicU64,
    /// What the call stored, or the siginfo.
    pub(super) data: [AtomicU64; OUTPUT_WORDS],
}

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum RecordKind {
    /// A call returned.
    Returned = 1,
    /// The body of a handler began.
    Handler = 2,
}

/// The layout of the whole memory, from the beginning of a page.
#[repr(C, align(4096))]
pub(super) struct SharedMemory {
    /// The words to which the kernel writes for programs, at [`MEMORY`](crate::syscall::MEMORY) in
    /// each process.
    pub(super) words: [AtomicU32; WORDS],
    /// The number of records that were ever reserved.
    pub(super) head: AtomicU32,
    /// The threads that were created; a process begins with one.
    pub(super) new_tasks: NewTasks,
    /// Whether handlers wait for commands.
    pub(super) hold: AtomicU32,
    /// The number of an agent that has no mailbox.
    pub(super) too_large: AtomicU32,
    /// The files of masters, one bit each: a child closes them.
    pub(super) masters: AtomicU64,
    /// The soft RLIMIT_CORE that agents begin with.
    pub(super) core_limit: AtomicU64,
    /// The mailboxes by number; 0 is the zygote.
    pub(super) slots: [Mailbox; SLOTS],
    /// The log.
    pub(super) records: [Record; RECORDS],
}

impl SharedMemory {
    /// The mailbox of that number.
    pub(super) fn slot(&self, pid: u32) -> Option<&Mailbox> {
        self.slots.get(pid as usize)
    }

    /// The record with that serial number.
    pub(super) fn nth_record(&self, nth: u32) -> Option<&Record> {
        self.records.get(nth as usize % RECORDS)
    }

    /// Appends to the log. The controller detects an overflow.
    pub(super) fn record(
        &self,
        kind: RecordKind,
        pid: u32,
        command: u32,
        value: u64,
        data: &[u64],
    ) {
        if let Some(record) = self.nth_record(self.head.fetch_add(1, Relaxed)) {
            record.put(kind, pid, command, value, data);
        }
    }
}

/// A queue of new tasks. A thread that adds one may be killed at any moment, and then the addition
/// is either complete or has not happened.
#[repr(C)]
pub(super) struct NewTasks {
    /// The number of additions so far. It may be one too low.
    count: AtomicU32,
    /// 1 if the queue was full at an addition.
    lost: AtomicU32,
    /// The newest tasks. The upper half is the number of earlier uses of the place, the lower half
    /// the number of the created thread, or 0.
    places: [AtomicU64; BIRTHS],
}

impl NewTasks {
    /// The number of additions so far. One that is not counted yet comes next.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Acquire)
    }

    /// Whether the queue was full at an addition since the last call.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(0, Relaxed) != 0
    }

    /// The place of the addition with that serial number, and its value while it is free.
    fn nth(&self, nth: u32) -> (&AtomicU64, u64) {
        let round = u64::from(nth / BIRTHS as u32);
        (&self.places[nth as usize % BIRTHS], round << 32)
    }

    /// Adds a living thread. It first completes an addition whose thread was killed.
    pub(super) fn enter(&self, tid: u32) {
        loop {
            let nth = self.count.load(Acquire);
            let (place, free) = self.nth(nth);
            match place.compare_exchange(free, free | u64::from(tid), AcqRel, Acquire) {
                Ok(_) => return self.go_on(nth),
                Err(now) if now >> 32 == free >> 32 => self.go_on(nth),
                Err(_) if self.count.load(Acquire) != nth => {}
                Err(_) => return self.lost.store(1, Relaxed),
            }
        }
    }

    /// Counts the addition, unless another thread has.
    fn go_on(&self, nth: u32) {
        // an error means that another thread has counted it
        let _ = self.count.compare_exchange(nth, nth.wrapping_add(1), AcqRel, Relaxed);
    }

    /// Whether there is an addition with that serial number that has not been taken.
    pub(super) fn has(&self, nth: u32) -> bool {
        let (place, free) = self.nth(nth);
        let now = place.load(Acquire);
        now >> 32 == free >> 32 && now != free
    }

    /// Takes the addition with that serial number. Returns the created thread.
    pub(super) fn take(&self, nth: u32) -> Option<u32> {
        if !self.has(nth) {
            return None;
        }
        let (place, _) = self.nth(nth);
        self.go_on(nth);
        let (_, free_again) = self.nth(nth.wrapping_add(BIRTHS as u32));
        Some(place.swap(free_again, AcqRel) as u32)
    }
}

/// A record that was taken from the log.
#[derive(Clone, Debug)]
pub(super) struct LogRecord {
    pub(super) handler: bool,
    pub(super) pid: u32,
    pub(super) command: u32,
    pub(super) value: i64,
    pub(super) data: [u64; OUTPUT_WORDS],
}

impl Record {
    fn put(&self, kind: RecordKind, pid: u32, command: u32, value: u64, data: &[u64]) {
        self.pid.store(pid, Relaxed);
        self.command.store(command, Relaxed);
        self.value.store(value, Relaxed);
        for (to, from) in self.data.iter().zip(data) {
            to.store(*from, Relaxed);
        }
        self.kind.store(kind as u32, Release);
    }

    pub(super) fn is_written(&self) -> bool {
        self.kind.load(Acquire) != 0
    }

    /// Takes the record, whose place can then be reused; `None` if it is not written yet, or if its
    /// writer was killed.
    pub(super) fn take(&self) -> Option<LogRecord> {
        // one atomic step: a record that is written between a load and a store would be lost
        let kind = self.kind.swap(0, Acquire);
        (kind != 0).then(|| LogRecord {
            handler: kind == RecordKind::Handler as u32,
            pid: self.pid.load(Relaxed),
            command: self.command.load(Relaxed),
            value: self.value.load(Relaxed) as i64,
            data: core::array::from_fn(|nth| self.data[nth].load(Relaxed)),
        })
    }
}

/// A call as it is written to a mailbox.
#[derive(Clone, Debug)]
pub(super) struct RawCall {
    pub(super) op: Op,
    pub(super) number: i64,
    pub(super) args: [u64; 6],
    pub(super) kinds: [ArgKind; 6],
    pub(super) input: Vec<u64>,
    next: usize,
}

impl RawCall {
    /// A call without arguments.
    pub(super) fn new(number: i64) -> RawCall {
        RawCall {
            op: Op::Plain,
            number,
            args: [0; 6],
            kinds: [ArgKind::Value; 6],
            input: Vec::new(),
            next: 0,
        }
    }

    /// Sets how the agent performs the call.
    pub(super) fn op(mut self, op: Op) -> RawCall {
        self.op = op;
        self
    }

    fn argument(mut self, value: u64, kind: ArgKind) -> RawCall {
        if let (Some(arg), Some(how)) =
            (self.args.get_mut(self.next), self.kinds.get_mut(self.next))
        {
            (*arg, *how) = (value, kind);
        }
        self.next += 1;
        self
    }

    /// Sets the last argument, which no call with an operation of its own has.
    pub(super) fn last(mut self, value: u64) -> RawCall {
        self.args[5] = value;
        self
    }

    /// Adds a pointer to bytes.
    pub(super) fn bytes(self, bytes: &[u8]) -> RawCall {
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let words: Vec<u64> = words.collect();
        self.words(&words)
    }

    /// Adds a number.
    pub(super) fn value(self, value: i64) -> RawCall {
        self.argument(value as u64, ArgKind::Value)
    }

    /// Adds a pointer to these words.
    pub(super) fn words(mut self, words: &[u64]) -> RawCall {
        let start = self.input.len() as u64;
        self.input.extend_from_slice(words);
        self.argument(start, ArgKind::Input)
    }

    /// Adds a pointer to this text, with a terminating zero.
    pub(super) fn text(self, text: &str) -> RawCall {
        let mut words = vec![0u64; text.len() / 8 + 1];
        for (nth, byte) in text.bytes().enumerate() {
            words[nth / 8] |= u64::from(byte) << (nth % 8 * 8);
        }
        self.words(&words)
    }

    /// Adds a pointer to that word of the output.
    pub(super) fn output(self, word: u64) -> RawCall {
        self.argument(word, ArgKind::Output)
    }

    /// Writes the call to `slot`, except for the number that makes the agent take it.
    pub(super) fn write(&self, slot: &Mailbox) {
        slot.op.store(self.op as u32, Relaxed);
        slot.number.store(self.number as u64, Relaxed);
        for (to, from) in slot.args.iter().zip(self.args) {
            to.store(from, Relaxed);
        }
        let kinds = self.kinds.iter().enumerate();
        slot.kinds
            .store(kinds.fold(0, |bits, (nth, kind)| bits | (*kind as u32) << (2 * nth)), Relaxed);
        slot.input_len.store(self.input.len() as u32, Relaxed);
        for (to, from) in slot.input.iter().zip(&self.input) {
            to.store(*from, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Lets the other thread run if there is only one CPU.
    fn pause(looks: u32) {
        if looks & 255 == 0 {
            std::thread::yield_now();
        }
    }

    fn no_births() -> NewTasks {
        NewTasks {
            count: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            places: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    #[test]
    fn a_new_task_is_recorded_exactly_once() {
        const EACH: u32 = 20_000;
        let (new_tasks, taken) = (no_births(), AtomicU32::new(0));
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut seen: Vec<u32> = Vec::new();
        std::thread::scope(|scope| {
            for begin in [1, 1 + EACH] {
                let (new_tasks, taken) = (&new_tasks, &taken);
                scope.spawn(move || {
                    for tid in begin..begin + EACH {
                        for looks in 1u32.. {
                            let waiting = new_tasks.count().wrapping_sub(taken.load(Acquire));
                            if waiting < BIRTHS as u32 / 2 || Instant::now() > deadline {
                                break;
                            }
                            pause(looks);
                        }
                        new_tasks.enter(tid);
                    }
                });
            }
            for looks in 1u32.. {
                if seen.len() == 2 * EACH as usize || Instant::now() > deadline {
                    break;
                }
                pause(looks);
                seen.extend(new_tasks.take(seen.len() as u32));
                taken.store(seen.len() as u32, Release);
            }
        });
        assert!(!new_tasks.take_lost());
        let (first, second): (Vec<u32>, Vec<u32>) = seen.iter().partition(|tid| **tid <= EACH);
        assert_eq!(first, (1..=EACH).collect::<Vec<_>>());
        assert_eq!(second, (1 + EACH..=2 * EACH).collect::<Vec<_>>());
    }

    #[test]
    fn a_record_of_a_new_task_is_complete_or_absent_if_its_writer_was_killed() {
        let new_tasks = no_births();
        new_tasks.enter(7);
        // a thread that ends before it has counted its addition
        let (place, free) = new_tasks.nth(1);
        place.store(free | 8, Release);
        assert_eq!(new_tasks.count(), 1);
        new_tasks.enter(9);
        assert_eq!(
            (new_tasks.count(), new_tasks.take(0), new_tasks.take(1)),
            (3, Some(7), Some(8))
        );
        assert_eq!(
            (new_tasks.take(2), new_tasks.take(3), new_tasks.has(3)),
            (Some(9), None, false)
        );
        // no addition follows
        let (place, free) = new_tasks.nth(3);
        place.store(free | 10, Release);
        assert!(new_tasks.has(3));
        assert_eq!((new_tasks.take(3), new_tasks.count()), (Some(10), 4));
        // the places are used in a circle, until none is free
        for tid in 1..=BIRTHS as u32 {
            new_tasks.enter(tid);
        }
        assert!(!new_tasks.take_lost());
        new_tasks.enter(1000);
        assert!(new_tasks.take_lost());
        assert_eq!((4..4 + BIRTHS as u32).filter_map(|nth| new_tasks.take(nth)).count(), BIRTHS);
        assert_eq!(new_tasks.take(4 + BIRTHS as u32), None);
    }

    #[test]
    fn a_record_that_is_written_while_it_is_looked_for_is_not_lost() {
        const COUNT: u32 = 50_000;
        let record = Record {
            kind: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            command: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            value: AtomicU64::new(0),
            data: core::array::from_fn(|_| AtomicU64::new(0)),
        };
        let taken = AtomicU32::new(0);
        let deadline = Instant::now() + Duration::from_secs(120);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for command in 1..=COUNT {
                    record.put(RecordKind::Returned, 1, command, 0, &[]);
                    for looks in 1u32.. {
                        if taken.load(Acquire) == command || Instant::now() > deadline {
                            break;
                        }
                        pause(looks);
                    }
                }
            });
            for command in 1..=COUNT {
                let mut looks = 0;
                let entry = loop {
                    looks += 1;
                    pause(looks);
                    match record.take() {
                        None if Instant::now() > deadline => break None,
                        None => {}
                        entry => break entry,
                    }
                };
                assert_eq!(entry.map(|entry| entry.command), Some(command));
                taken.store(command, Release);
            }
        });
    }
}
