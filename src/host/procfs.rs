//! /proc/PID/status, read again and again from one open file (OBS-02), and what else /proc tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::abi::{Pgid, Pid, Sid, SigSet, WaitStatus};

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Status {
    /// The state letter.
    pub(super) state: u8,
    /// Its number in its own namespace.
    pub(super) pid: Pid,
    /// Its process's number in its own namespace.
    pub(super) tgid: Pid,
    /// The parent's number in the namespace that /proc is mounted for.
    pub(super) ppid: u32,
    /// The process's number in the namespace around its own.
    pub(super) outer_pid: u32,
    /// Its group's number in its own namespace.
    pub(super) pgid: Pgid,
    /// Its session's number in its own namespace.
    pub(super) sid: Sid,
    pub(super) private: SigSet,
    pub(super) shared: SigSet,
    pub(super) blocked: SigSet,
    pub(super) ignored: SigSet,
    pub(super) caught: SigSet,
    /// How many threads its process has, a dead leader among them; 0 if it is being removed.
    pub(super) threads: u32,
    /// How often it has left the CPU; only in a whole reading.
    pub(super) switches: u64,
}

/// Reads the file, `whole` or up to what most want; `None` if its thread is gone.
pub(super) fn read(file: &File, whole: bool) -> io::Result<Option<Status>> {
    let mut text = [0; 8192];
    match file.read_at(&mut text, 0) {
        Ok(length) => Ok(Some(parse(&text[..length], whole))),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a zombie ended (OBS-01): as its last thread did (TG-89). `None` if it is gone. It stays for
/// its parent to wait for.
pub(super) fn exit_status(host: u32) -> io::Result<Option<WaitStatus>> {
    match std::fs::read_to_string(format!("/proc/{host}/stat")) {
        Ok(text) => Ok(last_field(&text).map(WaitStatus)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the thread has begun to end (PF_EXITING), which its status does not show. One that is
/// gone has.
pub(super) fn is_exiting(host: u32) -> io::Result<bool> {
    const PF_EXITING: u32 = 4;
    match std::fs::read_to_string(format!("/proc/{host}/stat")) {
        Ok(text) => Ok(flags(&text).is_none_or(|flags| flags & PF_EXITING != 0)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The ninth field of /proc/PID/stat, the seventh behind the name, which may have anything in it.
fn flags(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// The first of the process that the thread `host` is of that is `like` what is wanted. It may be
/// one that has not run.
pub(super) fn find_thread(
    host: u32,
    like: impl Fn(u32, &Status) -> bool,
) -> io::Result<Option<(u32, Status)>> {
    find(&format!("/proc/{host}/task"), like)
}

/// The first process that is `like` what is wanted, by its number and what its file says. It may be
/// one that has not run.
pub(super) fn find_process(
    like: impl Fn(u32, &Status) -> bool,
) -> io::Result<Option<(u32, Status)>> {
    find("/proc", like)
}

/// Whoever goes meanwhile is passed over.
fn find(folder: &str, like: impl Fn(u32, &Status) -> bool) -> io::Result<Option<(u32, Status)>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(None) };
    for entry in entries {
        let entry = entry?;
        let host = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(host) = host else { continue };
        let Ok(file) = File::open(entry.path().join("status")) else { continue };
        if let Some(status) = read(&file, false)?
            && like(host, &status)
        {
            return Ok(Some((host, status)));
        }
    }
    Ok(None)
}

/// The exit code, in the form of wait(2).
fn last_field(stat: &str) -> Option<u32> {
    stat.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The file in a process's folder that tells whether one that has a sleeper's state letter sleeps:
/// whether it has left the CPU's queue.
///
/// A process takes that letter before it looks whether it has to sleep at all, and may lose the CPU
/// in between: wait4 that is about to return, a stop that the parent has not been told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SleepFile {
    /// It says "running" of a process that is on the queue, or waits until it has left it.
    Syscall,
    /// Since Linux 5.16 it names a function only for processes that are off the queue. Before, it
    /// names one by the letter.
    Wchan,
}

impl SleepFile {
    /// Those that there may be, the better one first.
    pub(super) const ALL: [SleepFile; 2] = [SleepFile::Syscall, SleepFile::Wchan];

    pub(super) fn open(self, host: u32) -> io::Result<File> {
        let name = match self {
            SleepFile::Syscall => "syscall",
            SleepFile::Wchan => "wchan",
        };
        File::open(format!("/proc/{host}/{name}"))
    }

    /// Whether the process of an open one sleeps.
    pub(super) fn sleeps(self, file: &File) -> bool {
        let awake = match self {
            SleepFile::Syscall => b'r',
            SleepFile::Wchan => b'0',
        };
        let mut first = [awake];
        matches!(file.read_at(&mut first, 0), Ok(1)) && first != [awake]
    }
}

/// The lines that count; the others are skipped.
fn parse(text: &[u8], whole: bool) -> Status {
    let mut status = Status::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (key, rest) = line.split_at(colon);
        match key {
            b"State" => status.state = rest.get(2).copied().unwrap_or(b'?'),
            b"NStgid" => status.tgid = Pid(last_number(rest)),
            b"PPid" => status.ppid = last_number(rest),
            b"NSpid" => {
                status.pid = Pid(last_number(rest));
                status.outer_pid = last_but_one(rest);
            }
            b"NSpgid" => status.pgid = Pgid(last_number(rest)),
            b"NSsid" => status.sid = Sid(last_number(rest)),
            b"SigPnd" => status.private = set(rest),
            b"ShdPnd" => status.shared = set(rest),
            b"SigBlk" => status.blocked = set(rest),
            b"SigIgn" => status.ignored = set(rest),
            b"Threads" => status.threads = last_number(rest),
            b"SigCgt" => {
                status.caught = set(rest);
                if !whole {
                    break;
                }
            }
            b"voluntary_ctxt_switches" | b"nonvoluntary_ctxt_switches" => {
                status.switches += u64::from(last_number(rest));
            }
            _ => {}
        }
    }
    status
}

fn words(rest: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    rest.split(|byte| byte.is_ascii_whitespace() || *byte == b':').filter(|word| !word.is_empty())
}

fn decimal(word: &[u8]) -> u32 {
    word.iter().fold(0, |number: u32, digit| {
        number.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0')))
    })
}

/// The column of the process's own namespace.
fn last_number(rest: &[u8]) -> u32 {
    words(rest).next_back().map_or(0, decimal)
}

/// The column of the namespace around it.
fn last_but_one(rest: &[u8]) -> u32 {
    words(rest).rev().nth(1).map_or(0, decimal)
}

fn set(rest: &[u8]) -> SigSet {
    let digits = words(rest).next().unwrap_or_default();
    SigSet::from_bits(
        digits.iter().fold(0, |bits, digit| {
            bits << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0))
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_behind_a_name_of_any_kind() {
        let stat = "713 (a) b (x)) S 712 713 700 0 -1 4194564 89 0 0 0 17";
        assert_eq!(flags(stat), Some(4_194_564));
        assert_eq!(flags("713 (a"), None);
    }

    #[test]
    fn the_columns_of_the_own_namespace() {
        let text = b"Name:\tx: y\nState:\tT (stopped)\nPPid:\t712\nNStgid:\t713\t9\t2\nNSpid:\t713\t9\t2\n\
            NSpgid:\t713\t9\t2\nNSsid:\t700\t4\t0\nThreads:\t3\nSigPnd:\t0000000000000001\n\
            ShdPnd:\t0000000000010000\nSigBlk:\tfffffffffffbfeff\nSigIgn:\t0000000000001000\n\
            SigCgt:\t0000000000000000\nvoluntary_ctxt_switches:\t150\n\
            nonvoluntary_ctxt_switches:\t5\n";
        let status = parse(text, false);
        assert_eq!((status.threads, status.switches), (3, 0));
        assert_eq!(parse(text, true), Status { switches: 155, ..status });
        assert_eq!((status.state, status.ppid, status.outer_pid), (b'T', 712, 9));
        assert_eq!(status.tgid, Pid(2));
        assert_eq!((status.pgid, status.sid), (Pgid(2), Sid(0)));
        assert_eq!(status.private.bits(), 1);
        assert_eq!(status.shared.bits(), 0x10000);
        assert_eq!(status.blocked.bits(), 0xffff_ffff_fffb_feff);
        assert_eq!(status.ignored.bits(), 0x1000);
    }
}
