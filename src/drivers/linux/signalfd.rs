//! The signals that come to this process, read from a descriptor instead of handled: signalfd(2).
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::abi::{Pid, SiCode, SigInfo, SigSet, Signal, Uid};

/// Those that the GNU C library keeps for itself: it unblocks them in each thread that it creates.
const RESERVED: [i32; 2] = [32, 33];

/// All others, as the kernel's calls take a set. A bit that the kernel lets no process block has no
/// effect.
const ALL: u64 = !(1 << (RESERVED[0] - 1) | 1 << (RESERVED[1] - 1));

/// Every signal that can be blocked, blocked and read one by one.
///
/// An init or a supervisor passes all of them on to its command. Nothing but SIGKILL and SIGSTOP
/// acts on a process that has one of these before its second thread; the exceptions are a fault of
/// its own, which the kernel lets no process block, and abort(3). Signals that were ignored come as
/// well. Process 1 of a namespace also receives the signals that it would not have for want of a
/// handler. Signals 32 and 33, which the C library keeps for itself, do nothing.
///
/// Children of a [`ProcessTree`](super::ProcessTree) do not inherit the mask. Those of the standard
/// library and of tokio do, unless they are spawned from a thread that was there before.
///
/// ```no_run
/// use proctable::abi::Signal;
/// use proctable::drivers::linux::{Command, ProcessTree, SignalFd};
///
/// let signals = SignalFd::all()?; // before there is another thread
/// let tree = ProcessTree::new()?;
/// let child = tree.spawn(Command::new("server"))?;
/// std::thread::spawn(move || {
///     while let Ok(info) = signals.read() {
///         if info.signal != Signal::CHLD {
///             let _ = child.signal(info.signal);
///         }
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SignalFd(File);

impl SignalFd {
    /// Blocks all signals in this thread, and in those that it creates from now on. SIGCHLD gets
    /// its default action if it was ignored: the kernel would reap all children and lose their
    /// statuses.
    ///
    /// # Errors
    ///
    /// What signalfd(2) gave; then the mask is as before.
    pub fn all() -> io::Result<SignalFd> {
        // SAFETY: the kernel reads a set of that size; the descriptor is new and ours
        let file = unsafe {
            let flags = libc::SFD_CLOEXEC;
            let fd = libc::syscall(libc::SYS_signalfd4, -1, &ALL, size_of::<u64>(), flags);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd as RawFd)
        };
        // SAFETY: the kernel reads a set of that size, and gives none back
        let blocked = unsafe {
            let none = core::ptr::null_mut::<u64>();
            let how = libc::SIG_BLOCK;
            libc::syscall(libc::SYS_rt_sigprocmask, how, &ALL, none, size_of::<u64>())
        };
        if blocked < 0 {
            return Err(io::Error::last_os_error());
        }
        wait_for_children();
        RESERVED.into_iter().for_each(ignore);
        Ok(SignalFd(file))
    }

    /// The next signal, if one is pending. It may wait if another thread reads as well.
    ///
    /// # Errors
    ///
    /// What poll(2) or read(2) gave.
    pub fn try_read(&self) -> io::Result<Option<SigInfo>> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)) {
            Ok(0) => Ok(None),
            Ok(_) => self.read().map(Some),
            Err(error) => Err(error.into()),
        }
    }

    /// The next signal; waits for one. A standard signal that is sent again before it was read
    /// comes once, a real-time one as often as it was sent. What is sent to one thread alone comes
    /// if that thread reads.
    ///
    /// # Errors
    ///
    /// What read(2) gave.
    pub fn read(&self) -> io::Result<SigInfo> {
        loop {
            let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
            (&self.0).read_exact(&mut bytes)?;
            // SAFETY: any bytes are one, and nothing of it is a reference
            let info: libc::signalfd_siginfo = unsafe { core::mem::transmute(bytes) };
            let Some(signal) = Signal::new(info.ssi_signo as i32) else { continue };
            let value =
                if signal == Signal::CHLD { info.ssi_status as u32 as u64 } else { info.ssi_ptr };
            return Ok(SigInfo {
                signal,
                code: SiCode(info.ssi_code),
                pid: Pid(info.ssi_pid),
                uid: Uid(info.ssi_uid),
                value,
            });
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Undoes an ignored SIGCHLD. A handler stays what it is.
fn wait_for_children() {
    // SAFETY: zeroes are SIG_DFL without flags; both structs are ours
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, core::ptr::null(), &mut action);
        if action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0 {
            action.sa_flags &= !libc::SA_NOCLDWAIT;
            if action.sa_sigaction == libc::SIG_IGN {
                action.sa_sigaction = libc::SIG_DFL;
            }
            libc::sigaction(libc::SIGCHLD, &action, core::ptr::null_mut());
        }
    }
}

/// Keeps a signal from ending this process. Calls of the kernel, as the C library's refuse this.
fn ignore(signal: i32) {
    // the kernel's own struct, of which nothing is larger: the action first, then nothing else
    let (mut before, mut action) = ([0u64; 8], [0u64; 8]);
    action[0] = libc::SIG_IGN as u64;
    // SAFETY: both structs are ours; a handler of the C library's stays
    unsafe {
        let (call, none) = (libc::SYS_rt_sigaction, core::ptr::null_mut::<u8>());
        libc::syscall(call, signal, none, &mut before, size_of::<u64>());
        if before[0] == libc::SIG_DFL as u64 {
            libc::syscall(call, signal, &action, none, size_of::<u64>());
        }
    }
}

/// The signals that this process ignores, for example those that nohup(1) had it ignore.
pub fn ignored_signals() -> SigSet {
    let mut ignored = SigSet::EMPTY;
    for signal in Signal::all() {
        // handler, flags, restorer, mask
        let mut action = [0u64; 8];
        let number = libc::c_int::from(signal.number());
        // SAFETY: the kernel fills a struct that is large enough, and reads none
        let result = unsafe {
            let none = core::ptr::null::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, number, none, &mut action, size_of::<u64>())
        };
        if result == 0 && action[0] == libc::SIG_IGN as u64 {
            ignored = ignored.with(signal);
        }
    }
    ignored
}

/// Ends this process by the default action of a signal, whatever its mask and disposition, and
/// without a core dump: a program that ran a command passes on in this way how that died. It
/// returns where the signal does not end the process: in process 1 of a namespace, and where the
/// default action is another one.
pub fn end_by_signal(signal: Signal) {
    let number = libc::c_int::from(signal.number());
    let set: u64 = 1 << (number - 1);
    // SAFETY: plain calls; the set is of the size that is given, and read only. SIG_DFL is no
    // address
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::signal(number, libc::SIG_DFL);
        let none = core::ptr::null_mut::<u64>();
        let how = libc::SIG_UNBLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &set, none, size_of::<u64>());
        libc::raise(number);
    }
}

/// Performs the default action of a signal that stops a process in this process, whatever its mask:
/// a program that reads its signals from a descriptor stops by it as its command has, so that the
/// shell sees both. It returns when the process continues.
///
/// With `and_group` the other members of its process group get the signal, too, before this process
/// stops; a SIGCONT for the group that follows continues all of them, whichever stops last.
///
/// As by default, SIGTSTP, SIGTTIN and SIGTTOU stop nothing where the process ignores them and in
/// an orphaned process group. No signal stops process 1 of a namespace.
pub fn stop_by_signal(signal: Signal, and_group: bool) {
    let number = libc::c_int::from(signal.number());
    let set: u64 = 1 << (number - 1);
    let mut before = 0u64;
    // SAFETY: plain calls; both sets are of the size that is given
    unsafe {
        let mask = |how: libc::c_int, set: &u64, before: *mut u64| {
            libc::syscall(libc::SYS_rt_sigprocmask, how, set, before, size_of::<u64>())
        };
        if signal == Signal::STOP {
            // nothing holds this one back
            libc::kill(if and_group { 0 } else { libc::getpid() }, number);
            return;
        }
        mask(libc::SIG_BLOCK, &set, &mut before);
        // pending for this thread, where no other thread's signalfd takes it, and a SIGCONT does
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), number);
        if and_group {
            libc::kill(0, number);
        }
        mask(libc::SIG_UNBLOCK, &set, core::ptr::null_mut());
        mask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
    }
}
