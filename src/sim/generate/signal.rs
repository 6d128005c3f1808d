//! Signals and timers.

use super::draw::Draw;
use super::profile::Profile;
use super::{MS, TICK};
use crate::abi::{
    Handler, Itimerval, SaFlags, SiCode, SigAction, SigSet, Signal, Timespec, Timeval,
};
use crate::syscall::{ITIMER_REAL, QueuedInfo, Syscall, clone, how};

impl Draw<'_> {
    pub(super) fn kill_group(&mut self) -> Syscall {
        let pid = match self.below(10) {
            0 | 1 => 0,
            2 => -1,
            _ => -self.group(),
        };
        Syscall::Kill { pid, sig: self.signal_number() }
    }

    pub(super) fn tgkill(&mut self) -> Syscall {
        let tid = if self.env.threads { self.task() } else { self.process(true) };
        let sig = self.signal_number();
        if self.one_in(3) {
            return Syscall::Tkill { tid, sig };
        }
        let tgid = if self.one_in(6) { self.process(true) } else { self.process_of(tid) };
        Syscall::Tgkill { tgid, tid, sig }
    }

    pub(super) fn queue(&mut self) -> Syscall {
        let pid = if self.one_in(4) { self.target() } else { self.process(true) };
        let (sig, info) = self.queued();
        Syscall::RtSigqueueinfo { pid, sig, info }
    }

    /// A call that sends a signal with a siginfo from the caller.
    fn queued(&mut self) -> (i32, Option<QueuedInfo>) {
        let sig =
            if self.one_in(2) { i32::from(self.realtime().number()) } else { self.signal_number() };
        let code = match self.below(12) {
            0 => 0,
            1 => -6,
            2 => 0x80,
            3 => -60,
            4 | 5 => SiCode::TIMER.0,
            6 => self.among(&[-3, -4, -5, -7, -8, 1, 4, 6, 7, 0x7f, 0x81, i32::MIN, i32::MAX]),
            _ => -1,
        };
        let value = self.below(1000) as u64;
        let info = QueuedInfo { code, pid: self.caller.0, uid: 0, value };
        (sig, if self.one_in(40) { None } else { Some(info) })
    }

    fn flags(&mut self) -> SaFlags {
        let mut flags = SaFlags::SIGINFO.with(SaFlags::RESTORER);
        if self.one_in(2) {
            flags = flags.with(SaFlags::RESTART);
        }
        for flag in [SaFlags::NODEFER, SaFlags::NOCLDSTOP, SaFlags::NOCLDWAIT] {
            if self.one_in(4) {
                flags = flags.with(flag);
            }
        }
        if self.one_in(8) {
            flags = flags.with(SaFlags::RESETHAND);
        }
        if self.one_in(40) {
            flags = flags.with(SaFlags(self.among(&[0x20, 0x400, 0x0200_0000])));
        }
        flags
    }

    pub(super) fn sigaction(&mut self) -> Syscall {
        let sig = match self.below(20) {
            0 => self.among(&[0, 65, -1]),
            1..=5 => i32::from(Signal::CHLD.number()),
            _ => i32::from(self.signal().number()),
        };
        let handler = match self.below(10) {
            0..=7 if self.profile == Profile::Threads => Handler::Catch(self.env.handler),
            0 | 1 => Handler::Default,
            2 | 3 => Handler::Ignore,
            _ => Handler::Catch(self.env.handler),
        };
        let mask = match self.below(4) {
            0 => SigSet::FULL,
            1 => self.set(),
            _ => SigSet::EMPTY,
        };
        let mut flags = self.flags();
        if !self.may_restart(sig) {
            flags = SaFlags(flags.0 & !SaFlags::RESTART.0);
        }
        let action = SigAction { handler, flags, mask, restorer: self.env.restorer };
        let act = if self.one_in(10) { None } else { Some(action) };
        Syscall::RtSigaction { sig, act, old: self.optional_pointer(), size: self.size() }
    }

    pub(super) fn mask(&mut self) -> Syscall {
        let how = match self.below(20) {
            0 => self.among(&[3, 99, -1]),
            1..=9 => how::BLOCK,
            10..=15 => how::UNBLOCK,
            _ => how::SETMASK,
        };
        let set = if self.one_in(12) { None } else { Some(self.set()) };
        Syscall::RtSigprocmask { how, set, old: self.optional_pointer(), size: self.size() }
    }

    pub(super) fn timed_wait(&mut self) -> Syscall {
        let timed = self.profile == Profile::Timers;
        let timeout = match self.below(10) {
            0 => Some(Timespec { sec: -1, nsec: 0 }),
            1 => Some(Timespec { sec: 0, nsec: 1_000_000_000 }),
            2..=4 => None,
            5..=7 if timed => Some(Timespec {
                sec: 0,
                nsec: TICK * MS as i64 * self.below(4) as i64 + TICK * MS as i64 * 2 / 3,
            }),
            _ => Some(Timespec { sec: 0, nsec: 0 }),
        };
        let info = self.optional_pointer();
        Syscall::RtSigtimedwait { set: self.set(), info, timeout, size: self.size() }
    }

    pub(super) fn itimer(&mut self) -> Syscall {
        let which = if self.one_in(12) { self.among(&[3, -1]) } else { ITIMER_REAL };
        if self.one_in(6) {
            return Syscall::Getitimer { which };
        }
        let mut ticks = |zero: usize| match self.below(zero) {
            0 => 0,
            _ => TICK * 1000 * (1 + self.below(4) as i64),
        };
        let (interval, mut value) = (ticks(2), ticks(5));
        if value > 0 {
            value -= TICK * 1000 * 2 / 3;
        }
        let mut new = Itimerval {
            interval: Timeval { sec: 0, usec: interval },
            value: Timeval { sec: 0, usec: value },
        };
        if self.one_in(10) {
            new.value = self.among(&[
                Timeval { sec: -1, usec: 0 },
                Timeval { sec: 0, usec: -1 },
                Timeval { sec: 0, usec: 1_000_000 },
            ]);
        }
        let new = if self.one_in(20) { None } else { Some(new) };
        Syscall::Setitimer { which, new, old: self.optional_pointer() }
    }

    /// A call that creates or addresses a thread.
    pub(super) fn thread_call(&mut self, room: bool) -> Syscall {
        match self.below(8) {
            0..=2 if room => self.thread(),
            3..=5 => {
                let tid = self.task();
                let tgid = if self.one_in(6) { self.process(true) } else { self.process_of(tid) };
                let (sig, info) = self.queued();
                Syscall::RtTgsigqueueinfo { tgid, tid, sig, info }
            }
            6 => Syscall::SetTidAddress(self.address()),
            _ => Syscall::Unshare(self.among(&[
                0,
                clone::FS,
                clone::FILES,
                clone::SIGHAND,
                clone::VM,
                clone::THREAD,
                0x4,
            ])),
        }
    }

    /// A new thread, with the flags of pthread_create(3) or similar ones.
    fn thread(&mut self) -> Syscall {
        const SHARED: [u64; 3] = [clone::FS, clone::FILES, clone::SYSVSEM];
        const IDS: [u64; 3] = [clone::PARENT_SETTID, clone::CHILD_SETTID, clone::CHILD_CLEARTID];
        let mut flags = clone::VM | clone::SIGHAND | clone::THREAD;
        for flag in SHARED.into_iter().chain(IDS) {
            if self.one_in(2) {
                flags |= flag;
            }
        }
        let signal = if self.one_in(10) { u64::from(self.signal().number()) } else { 0 };
        let clone3 = if self.one_in(2) { Some(signal) } else { None };
        Syscall::Clone {
            flags: if clone3.is_some() { flags } else { flags | signal },
            clone3,
            parent_tid: self.address(),
            child_tid: self.address(),
        }
    }
}
