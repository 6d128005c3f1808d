//! /proc/PID/status, read repeatedly from one open file (OBS-02), and other files of /proc.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::abi::{Pgid, Pid, Sid, SigSet, WaitStatus};

/// The content of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Status {
    /// The state letter.
    pub(super) state: u8,
    /// The thread's number in its own namespace.
    pub(super) pid: Pid,
    /// The process's number in its own namespace.
    pub(super) tgid: Pid,
    /// The parent's number in the namespace that /proc is mounted for.
    pub(super) ppid: u32,
    /// The process's number in the parent of its own namespace.
    pub(super) outer_pid: u32,
    /// The process group in its own namespace.
    pub(super) pgid: Pgid,
    /// The session in its own namespace.
    pub(super) sid: Sid,
    pub(super) private: SigSet,
    pub(super) shared: SigSet,
    pub(super) blocked: SigSet,
    pub(super) ignored: SigSet,
    pub(super) caught: SigSet,
    /// The number of threads of the process, a zombie leader included; 0 if it is being removed.
    pub(super) threads: u32,
    /// The number of times that the thread has left the CPU; only if the file is read as a whole.
    pub(super) switches: u64,
}

/// Reads the file, `whole` or only the part that most callers need; `None` if its thread does not
/// exist any more.
pub(super) fn read(file: &File, whole: bool) -> io::Result<Option<Status>> {
    let mut text = [0; 8192];
    match file.read_at(&mut text, 0) {
        Ok(length) => Ok(Some(parse(&text[..length], whole))),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a zombie ended (OBS-01): as its last thread did (TG-89). `None` if it is reaped. The zombie
/// stays for its parent to wait for.
pub(super) fn exit_status(host: u32) -> io::Result<Option<WaitStatus>> {
    match std::fs::read_to_string(format!("/proc/{host}/stat")) {
        Ok(text) => Ok(last_field(&text).map(WaitStatus)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the thread has begun to end (PF_EXITING), which its status does not show. True for a
/// thread that does not exist any more.
pub(super) fn is_exiting(host: u32) -> io::Result<bool> {
    const PF_EXITING: u32 = 4;
    match std::fs::read_to_string(format!("/proc/{host}/stat")) {
        Ok(text) => Ok(flags(&text).is_none_or(|flags| flags & PF_EXITING != 0)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The ninth field of /proc/PID/stat: the seventh after the name, which may contain any character.
fn flags(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// The first thread that is `like` the wanted one, of the process of the thread `host`. It may not
/// have run yet.
pub(super) fn find_thread(
    host: u32,
    like: impl Fn(u32, &Status) -> bool,
) -> io::Result<Option<(u32, Status)>> {
    find(&format!("/proc/{host}/task"), like)
}

/// The first process that is `like` the wanted one, by its number and the content of its file. It
/// may not have run yet.
pub(super) fn find_process(
    like: impl Fn(u32, &Status) -> bool,
) -> io::Result<Option<(u32, Status)>> {
    find("/proc", like)
}

/// Tasks that end during the search are skipped.
fn find(directory: &str, like: impl Fn(u32, &Status) -> bool) -> io::Result<Option<(u32, Status)>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(None) };
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

/// The exit code, in the form of a wait(2) status.
fn last_field(stat: &str) -> Option<u32> {
    stat.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The file in a process's directory that shows whether a process with a sleeper's state letter
/// sleeps: whether it has left the run queue of its CPU.
///
/// A process takes that letter before it checks whether it has to sleep at all, and may lose the
/// CPU in between: a wait4 that is about to return, a stop of which the parent has not been
/// notified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SleepFile {
    /// It reads "running" for a process on the run queue, or waits until the process has left the
    /// queue.
    Syscall,
    /// Since Linux 5.16 it names a function only for processes that are off the queue. Before, the
    /// letter alone decides.
    Wchan,
}

impl SleepFile {
    /// All variants, the more reliable one first.
    pub(super) const ALL: [SleepFile; 2] = [SleepFile::Syscall, SleepFile::Wchan];

    pub(super) fn open(self, host: u32) -> io::Result<File> {
        let name = match self {
            SleepFile::Syscall => "syscall",
            SleepFile::Wchan => "wchan",
        };
        File::open(format!("/proc/{host}/{name}"))
    }

    /// Whether the process of an open file sleeps.
    pub(super) fn sleeps(self, file: &File) -> bool {
        let awake = match self {
            SleepFile::Syscall => b'r',
            SleepFile::Wchan => b'0',
        };
        let mut first = [awake];
        matches!(file.read_at(&mut first, 0), Ok(1)) && first != [awake]
    }
}

/// Parses the lines that are needed, and skips the others.
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

/// The column of the parent namespace.
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
    fn stat_flags_are_found_after_a_name_with_parentheses() {
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
