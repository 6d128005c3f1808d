//! A real pty, on which the steps of a terminal program are made.
#![allow(unsafe_code)]

use core::time::Duration;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use libc::{c_int, c_ulong};

use super::terminal_requests::{flow_number, flush_number, set_request};
use crate::abi::{Errno, SigSet, Signal};
use crate::sim::{TerminalPrivilege, TerminalResult, TerminalState, TerminalStep};
use crate::tty::{End, Termios, Winsize};

/// The signals of a terminal, which the process of the comparison blocks and takes.
const SIGNALS: [Signal; 8] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::WINCH,
];

/// Makes this process the leader of a session without a terminal, and blocks the signals of
/// terminals. [`RealTerminal::new`] gives the session a terminal.
///
/// # Errors
///
/// The error of setsid(2), if the process leads a process group.
pub fn lead_session() -> io::Result<()> {
    // SAFETY: the calls take no pointers but that of a set on this stack
    unsafe {
        if libc::setsid() < 0 && libc::getsid(0) != libc::getpid() {
            return Err(io::Error::last_os_error());
        }
        let mut set = core::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in SIGNALS {
            libc::sigaddset(&mut set, signal.number().into());
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, core::ptr::null_mut());
    }
    Ok(())
}

/// What this process may do with terminals.
pub fn terminal_privilege(is_admin: bool) -> TerminalPrivilege {
    let legacy = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    // kernels before 6.2 have no such sysctl, and allow it
    let has_tiocsti = legacy.map_or(true, |text| text.trim() != "0");
    TerminalPrivilege { is_admin, has_tiocsti }
}

/// Whether a pty becomes the controlling terminal of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Controlling {
    /// It does; the process leads a session without a terminal.
    Yes,
    /// It does not: it has no foreground group, and sends no signals.
    No,
}

/// A pty of the kernel, whose descriptors do not block.
#[derive(Debug)]
pub struct RealTerminal {
    master: OwnedFd,
    slaves: Vec<OwnedFd>,
    path: std::ffi::CString,
    controlling: Controlling,
    /// The signals since the last step.
    signals: SigSet,
}

fn errno() -> Errno {
    let code = io::Error::last_os_error().raw_os_error().unwrap_or_default();
    Errno(u16::try_from(code).unwrap_or_default())
}

fn open(path: &core::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path ends with NUL; a descriptor that the call returns belongs to nothing else
    unsafe {
        let fd = libc::open(path.as_ptr(), flags);
        if fd < 0 { Err(errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn ioctl<T>(fd: &OwnedFd, request: c_ulong, arg: &mut T) -> Result<(), Errno> {
    // SAFETY: each request of this file reads or writes at most one value of the type that its
    // caller passes
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, core::ptr::from_mut(arg)) };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn ioctl_value(fd: &OwnedFd, request: c_ulong, value: c_ulong) -> Result<(), Errno> {
    // SAFETY: the request takes a number, no pointer
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, value) };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

fn poll(fd: &OwnedFd) -> u16 {
    const ALL: i16 = libc::POLLIN
        | libc::POLLPRI
        | libc::POLLOUT
        | libc::POLLRDNORM
        | libc::POLLWRNORM
        | libc::POLLHUP
        | libc::POLLERR;
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: ALL, revents: 0 };
    // SAFETY: the pointer is that of one pollfd
    unsafe { libc::poll(&mut poll, 1, 0) };
    poll.revents as u16
}

fn readable(fd: &OwnedFd) -> Result<usize, Errno> {
    let mut count: c_int = 0;
    ioctl(fd, libc::FIONREAD, &mut count)?;
    Ok(count as usize)
}

impl RealTerminal {
    /// A new pty, unlocked, with one open slave.
    ///
    /// # Errors
    ///
    /// The errors of the calls: there may be no devpts, or no free pty.
    pub fn new(controlling: Controlling) -> io::Result<RealTerminal> {
        let os = |errno: Errno| io::Error::from_raw_os_error(errno.0.into());
        let master = open(c"/dev/ptmx").map_err(os)?;
        ioctl(&master, libc::TIOCSPTLCK, &mut 0_i32).map_err(os)?;
        let mut number = 0_u32;
        ioctl(&master, libc::TIOCGPTN, &mut number).map_err(os)?;
        let path = std::ffi::CString::new(format!("/dev/pts/{number}"))?;
        let slave = open(&path).map_err(os)?;
        if controlling == Controlling::Yes {
            ioctl_value(&slave, libc::TIOCSCTTY, 0).map_err(os)?;
        }
        let (slaves, signals) = (vec![slave], SigSet::EMPTY);
        Ok(RealTerminal { master, slaves, path, controlling, signals })
    }

    fn fd(&self, end: End) -> Option<&OwnedFd> {
        match end {
            End::Master => Some(&self.master),
            End::Slave => self.slaves.last(),
        }
    }

    /// The path of the slave.
    pub fn slave_path(&self) -> &core::ffi::CStr {
        &self.path
    }

    /// The settings.
    ///
    /// # Errors
    ///
    /// The errno of TCGETS2: EIO if all files were hung up.
    pub fn termios(&self) -> Result<Termios, Errno> {
        let mut raw = [0; 44];
        ioctl(&self.master, libc::TCGETS2, &mut raw).or_else(|errno| match self.slaves.last() {
            Some(slave) => ioctl(slave, libc::TCGETS2, &mut raw),
            None => Err(errno),
        })?;
        Ok(Termios::from_bytes(&raw))
    }

    /// Makes the call of a step. `None` if it needs a slave and none is open.
    pub fn run(&mut self, step: &TerminalStep) -> Option<TerminalResult> {
        self.signals = SigSet::EMPTY;
        Some(self.call(step)?.unwrap_or_else(TerminalResult::Error))
    }

    fn call(&mut self, step: &TerminalStep) -> Option<Result<TerminalResult, Errno>> {
        let done = Ok(TerminalResult::Number(0));
        Some(match step {
            TerminalStep::Write(end, bytes) => {
                let fd = self.fd(*end)?.as_raw_fd();
                // SAFETY: the pointer and the length are those of the slice
                let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
                usize::try_from(written).map(TerminalResult::Number).map_err(|_| errno())
            }
            TerminalStep::Read(end, len) => {
                let fd = self.fd(*end)?.as_raw_fd();
                let mut bytes = vec![0_u8; *len];
                // SAFETY: the pointer and the length are those of the vector
                let read = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), *len) };
                match usize::try_from(read) {
                    Err(_) => Err(errno()),
                    Ok(read) => {
                        bytes.truncate(read);
                        Ok(TerminalResult::Bytes(bytes))
                    }
                }
            }
            TerminalStep::SetTermios(end, termios, how) => {
                ioctl(self.fd(*end)?, set_request(*how), &mut termios.to_bytes()).and(done)
            }
            TerminalStep::Flush(end, queue) => {
                ioctl_value(self.fd(*end)?, libc::TCFLSH, flush_number(*queue)).and(done)
            }
            TerminalStep::Flow(end, action) => {
                ioctl_value(self.fd(*end)?, libc::TCXONC, flow_number(*action)).and(done)
            }
            TerminalStep::Packet(on) => {
                ioctl(&self.master, libc::TIOCPKT, &mut i32::from(*on)).and(done)
            }
            TerminalStep::SetWinsize(end, size) => {
                let Winsize { rows, cols, xpixel, ypixel } = *size;
                let mut raw = [rows, cols, xpixel, ypixel];
                ioctl(self.fd(*end)?, libc::TIOCSWINSZ, &mut raw).and(done)
            }
            TerminalStep::Insert(end, byte) => {
                ioctl(self.fd(*end)?, libc::TIOCSTI, &mut { *byte }).and(done)
            }
            TerminalStep::Signal(signal) => {
                ioctl_value(&self.master, libc::TIOCSIG, *signal as c_ulong).and(done)
            }
            TerminalStep::OpenSlave => open(&self.path).map(|fd| {
                self.slaves.push(fd);
                TerminalResult::Number(0)
            }),
            TerminalStep::CloseSlave => {
                drop(self.slaves.pop()?);
                done
            }
            TerminalStep::Lock(on) => {
                ioctl(&self.master, libc::TIOCSPTLCK, &mut i32::from(*on)).and(done)
            }
            TerminalStep::Exclusive(end, on) => {
                let request = if *on { libc::TIOCEXCL } else { libc::TIOCNXCL };
                ioctl_value(self.fd(*end)?, request, 0).and(done)
            }
            TerminalStep::HangUp(end) => {
                ioctl_value(self.fd(*end)?, libc::TIOCVHANGUP, 0).and(done)
            }
        })
    }

    /// The state that calls can see now, with the signals since the last step; without signals, if
    /// this is not the controlling terminal. Another state may follow: a kernel worker carries
    /// bytes from one end to the other (LD-19).
    pub fn state(&mut self) -> TerminalState {
        let slave = self.slaves.last();
        // polls first: they let the worker finish
        let slave_poll = slave.map(poll);
        let master_poll = poll(&self.master);
        let slave_readable = slave.map(readable);
        let master_readable = readable(&self.master);
        if self.controlling == Controlling::Yes {
            self.signals = self.signals | take_signals();
        }
        let signals = self.signals;
        TerminalState { master_poll, slave_poll, master_readable, slave_readable, signals }
    }

    /// The state, as soon as it is `expected`, and otherwise the state after `within`. It costs a
    /// busy loop.
    pub fn state_within(&mut self, expected: &TerminalState, within: Duration) -> TerminalState {
        let start = Instant::now();
        loop {
            let state = self.state();
            if state == *expected || start.elapsed() > within {
                return state;
            }
            std::thread::yield_now();
        }
    }
}

/// Takes the signals of a terminal that this process has received.
fn take_signals() -> SigSet {
    let mut taken = SigSet::EMPTY;
    // SAFETY: the pointers are those of values on this stack, and a null pointer, which is allowed
    unsafe {
        let mut set = core::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in SIGNALS {
            libc::sigaddset(&mut set, signal.number().into());
        }
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let number = libc::sigtimedwait(&set, core::ptr::null_mut(), &zero);
            let Some(signal) = Signal::new(number) else { return taken };
            taken = taken.with(signal);
        }
    }
}

impl Drop for RealTerminal {
    fn drop(&mut self) {
        self.slaves.clear();
        // the hang-up at the close of the master sends signals, which belong to this terminal
        let null = open(c"/dev/null");
        if let Ok(null) = null {
            drop(core::mem::replace(&mut self.master, null));
        }
        if self.controlling == Controlling::Yes {
            take_signals();
        }
    }
}
