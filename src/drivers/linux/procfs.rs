//! Processes as /proc shows them, and what it says of this process.
//!
//! The numbers in a mounted /proc are those of one pid namespace, which is the mount's and not the
//! reader's: in a container that sees the /proc of its host they refer to unrelated processes. So
//! numbers are read through a [`Proc`] alone, which is proved to show this process's own namespace.
//! The data of this process itself, at /proc/self, are right in either, except numbers.

use std::cell::OnceCell;
use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, Dir, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, readlinkat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Where a proc file system is from that shows the pid namespace of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnProc {
    /// It is mounted at /proc.
    Mounted,
    /// /proc is missing, or belongs to another pid namespace. This process may mount one
    /// (fsmount(2)), which is attached nowhere: no other process sees it, and it goes with its
    /// descriptor.
    Detached,
}

/// A proc file system that shows the pid namespace of this process: its numbers are those that
/// this process's system calls take and give.
#[derive(Debug)]
pub(super) struct Proc {
    root: OwnedFd,
    pub from: OwnProc,
}

impl Proc {
    /// The one at /proc if it is this process's own, else one that is mounted aside.
    ///
    /// It is proved anew each time, as a process can change what is mounted, and after a fork be
    /// another one in another namespace. Costs five system calls.
    ///
    /// # Errors
    ///
    /// Why there is none, in words; or what the kernel gave where it has no more descriptors.
    pub fn own() -> io::Result<Proc> {
        let no_mounted = match Proc::prove(open(CWD, "/proc"), OwnProc::Mounted) {
            Err(error) if !is_shortage(&error) => error,
            result => return result,
        };
        Proc::prove(mount_private_proc(), OwnProc::Detached).map_err(|error| {
            let why = format!("/proc: {no_mounted}; none can be mounted aside: {error}");
            if is_shortage(&error) { error } else { io::Error::new(error.kind(), why) }
        })
    }

    fn prove(root: io::Result<OwnedFd>, from: OwnProc) -> io::Result<Proc> {
        let root = root?;
        is_proc(&root)?;
        // both are of this process as the mount sees it: its number, and its numbers from the
        // mount's namespace down to its own
        let own = readlinkat(&root, "self", Vec::new())?;
        if own.to_str().ok().and_then(|own| own.parse().ok()) != Some(std::process::id()) {
            return Err(io::Error::other("it shows another pid namespace"));
        }
        let proc = Proc { root, from };
        let status = proc.read("self/status")?;
        let status = String::from_utf8_lossy(&status);
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        match numbers.map(|numbers| numbers.split_whitespace().count()) {
            Some(1) => Ok(proc),
            Some(_) => Err(io::Error::other("it shows an outer pid namespace")),
            // a kernel that has but one
            None if readlinkat(&proc.root, "self/ns/pid", Vec::new()).is_err() => Ok(proc),
            None => Err(io::Error::other("it does not tell whose it is (NSpid)")),
        }
    }

    fn open(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(&self.root, path, flags, Mode::empty())?.into())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.open(path)?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn directory(&self, path: &str) -> io::Result<Dir> {
        Ok(Dir::read_from(open(&self.root, path)?)?)
    }

    /// Whether processes of others are hidden from this one (hidepid): process 1 is there in every
    /// namespace.
    pub fn hides(&self) -> bool {
        self.open("1/stat").is_err()
    }

    /// PID/stat; `None` if there is no such process, or it is hidden.
    pub fn stat(&self, pid: i32) -> Option<Stat> {
        let mut text = [0; 1024];
        // the kernel gives it in one piece. A name need not be UTF-8
        let length = self.open(&format!("{pid}/stat")).ok()?.read(&mut text).ok()?;
        parse(&String::from_utf8_lossy(&text[..length]))
    }

    /// The most resident memory that a process has had since it began its program, in bytes.
    pub fn peak(&self, pid: i32) -> Option<u64> {
        let status = self.read(&format!("{pid}/status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(peak.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }

    /// All processes. Processes that end during the scan may be missing.
    pub fn all(&self) -> io::Result<Vec<Stat>> {
        let pids = self.directory(".")?.flatten();
        Ok(pids.filter_map(|entry| self.stat(number(entry.file_name())?)).collect())
    }

    /// The value of a variable in the environment that a process began with. `None` also where that
    /// cannot be read.
    pub fn variable(&self, pid: i32, name: &str) -> Option<String> {
        let env = self.read(&format!("{pid}/environ")).ok()?;
        env.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            String::from_utf8(value.into()).ok()
        })
    }

    /// The limit of file locks of a process, soft and hard, as any user may read it, also of
    /// zombies; `None` for an unlimited one.
    pub fn file_locks(&self, pid: i32) -> Option<[Option<u64>; 2]> {
        let limits = self.read(&format!("{pid}/limits")).ok()?;
        let limits = String::from_utf8_lossy(&limits);
        let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
        let mut values = line.split_whitespace().map(|value| value.parse().ok());
        Some([values.next()?, values.next()?])
    }

    /// The arguments with which a process began its program, and its program first.
    pub fn arguments(&self, pid: i32) -> Vec<String> {
        let line = self.read(&format!("{pid}/cmdline")).unwrap_or_default();
        let line = line.strip_suffix(b"\0").unwrap_or(&line);
        line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
    }

    /// The children of this process, zombies too. Costs them, or a look at every process of the
    /// system where the kernel does not list them (CONFIG_PROC_CHILDREN).
    pub fn children(&self) -> io::Result<Vec<i32>> {
        let mut children = Vec::new();
        for thread in self.directory("self/task")?.flatten() {
            let Some(thread) = number(thread.file_name()) else { continue };
            let list = self.read(&format!("self/task/{thread}/children"));
            match list.map(|list| String::from_utf8_lossy(&list).into_owned()) {
                Ok(list) => {
                    children.extend(list.split(' ').filter_map(|pid| pid.parse::<i32>().ok()))
                }
                // a thread that has ended: its children have another parent, for the next scan
                Err(_) if open(&self.root, &format!("self/task/{thread}")).is_err() => {}
                Err(_) => {
                    let own = std::process::id() as i32;
                    let all = self.all()?.into_iter().filter(|stat| stat.ppid == own);
                    return Ok(all.map(|stat| stat.pid).collect());
                }
            }
        }
        Ok(children)
    }

    /// PID/cgroup.
    #[cfg(feature = "systemd")]
    pub fn cgroups(&self, pid: i32) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(&format!("{pid}/cgroup"))?).into_owned())
    }

    /// Whether a process is in a cgroup (v2) of that name, or below one.
    pub fn is_below(&self, pid: i32, cgroup: &OsStr) -> bool {
        let groups = self.read(&format!("{pid}/cgroup")).unwrap_or_default();
        groups.split(|byte| *byte == b'\n').any(|line| {
            let path = line.strip_prefix(b"0::").map(OsStr::from_bytes);
            path.is_some_and(|path| Path::new(path).iter().any(|directory| directory == cgroup))
        })
    }

    /// Whether this process may know the exit code of that one: proc_pid_stat(5), ptrace(2).
    pub fn may_know_exit(&self, pid: i32) -> bool {
        const SYS_PTRACE: u64 = 19;
        let user = |pid: &str| {
            let directory = open(&self.root, pid).ok()?;
            rustix::fs::fstat(directory).ok().map(|directory| directory.st_uid)
        };
        let same = user("self").is_some_and(|own| user(&pid.to_string()) == Some(own));
        same || own_capabilities() & (1 << SYS_PTRACE) != 0
    }
}

/// A [`Proc`] for several questions, which is had when the first one is asked.
#[derive(Debug, Default)]
pub(super) struct Once(OnceCell<Option<Proc>>);

impl Once {
    pub fn get(&self) -> Option<&Proc> {
        self.0.get_or_init(|| Proc::own().ok()).as_ref()
    }
}

fn open(directory: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(directory, path, flags, Mode::empty())?)
}

fn is_proc(file: impl AsFd) -> io::Result<()> {
    match fstatfs(file)?.f_type {
        PROC_SUPER_MAGIC => Ok(()),
        _ => Err(io::Error::other("no proc file system is mounted there")),
    }
}

/// The number that an entry of a directory in /proc is named by.
fn number(name: &CStr) -> Option<i32> {
    name.to_str().ok()?.parse().ok()
}

/// Whether it is descriptors or memory that are missing.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().unwrap_or_default();
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&errno)
}

/// A mount of the proc file system for this process's own pid namespace that is attached nowhere.
fn mount_private_proc() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, safe)?)
}

/// The directory of this process in whatever proc file system knows it.
fn own_directory() -> io::Result<OwnedFd> {
    let mounted = open(CWD, "/proc/self").and_then(|own| is_proc(&own).map(|()| own));
    // the reason why there is none at /proc is said with why there is no other
    mounted.or_else(|_| open(&Proc::own()?.root, "self"))
}

/// A file of this process in /proc. What it says of this process is true whatever pid namespace the
/// mount shows, but for numbers of processes.
pub(super) fn own_file(name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(own_directory()?, name, flags, Mode::empty())?;
    read_all(file.into())
}

/// What is in a file of the kernel's: it tells no size, and is given in as few pieces as there is
/// room.
pub(super) fn read_all(mut file: File) -> io::Result<String> {
    let mut text = Vec::with_capacity(4096);
    // without a look at the size, which is 0
    (&mut file as &mut dyn Read).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// When this process started, in clock ticks since boot. `None` without any /proc.
pub(super) fn own_start() -> Option<u64> {
    Some(parse(&own_file("stat").ok()?)?.started)
}

/// The effective capabilities of this process.
fn own_capabilities() -> u64 {
    let status = own_file("status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// Whether RLIMIT_NPROC does not bind what this process creates: fork(2), EAGAIN.
pub(super) fn may_pass_nproc() -> bool {
    const SYS_ADMIN: u64 = 21;
    const SYS_RESOURCE: u64 = 24;
    let status = own_file("status").unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = users.and_then(|users| users.split_whitespace().next()) == Some("0");
    is_root || own_capabilities() & ((1 << SYS_ADMIN) | (1 << SYS_RESOURCE)) != 0
}

/// The namespaces in which this process's number and the time of its start mean what they do: of
/// pids, and of time if it is not the machine's. Empty if that is not known.
pub(super) fn namespace() -> String {
    /// PROC_TIME_INIT_INO: the number that the first one has on every machine.
    const FIRST: &str = "4026531834";
    let number = |name: &str| {
        let link = readlinkat(own_directory().ok()?, name, Vec::new()).ok()?;
        let digits: String = link.to_str().ok()?.chars().filter(char::is_ascii_digit).collect();
        Some(digits)
    };
    match (number("ns/pid"), number("ns/time")) {
        (None, _) => String::new(),
        (Some(pids), Some(time)) if time != FIRST => format!("{pids}.{time}"),
        (Some(pids), _) => pids,
    }
}

/// A number that looks random.
pub(super) fn random() -> Option<u64> {
    let mut bytes = [0; size_of::<u64>()];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (got == bytes.len()).then(|| u64::from_ne_bytes(bytes))
}

/// What a process that starts now has as the time of its start, or less.
pub(super) fn now() -> u64 {
    // rounded down, as the time of a start is
    super::attributes::boot_time()
}

/// The number of this boot; empty if it is not known.
pub(super) fn boot_id() -> String {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return known.clone();
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim().replace('-', "");
    // another mount may tell it later
    if !id.is_empty() {
        let _ = KNOWN.set(id.clone());
    }
    id
}

/// A process at one moment. The number and the time of its start name it for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    pub pid: i32,
    pub state: u8,
    pub ppid: i32,
    pub command: String,
    /// In clock ticks since boot.
    pub started: u64,
    /// CPU time in clock ticks.
    pub ticks: u64,
    /// The same of the children that it has waited for.
    pub waited_ticks: u64,
    pub threads: u32,
    /// Pages.
    pub resident: u64,
    /// The wait status of a zombie; the signal of a stopped process until its parent has waited for
    /// the stop. 0 also for readers that may not know.
    pub exit_code: u32,
}

impl Stat {
    /// A process of which nothing is known but its number, and that it lives.
    pub fn unseen(pid: i32) -> Stat {
        let command = "?".into();
        let (state, ppid, started, ticks, waited_ticks) = (b'?', 0, 0, 0, 0);
        let (threads, resident, exit_code) = (1, 0, 0);
        Stat {
            pid,
            state,
            ppid,
            command,
            started,
            ticks,
            waited_ticks,
            threads,
            resident,
            exit_code,
        }
    }
}

/// proc_pid_stat(5). The name stands in brackets and may hold any character.
fn parse(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (command, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // the first one here is field 3
    let number = |field: usize| fields.get(field - 3)?.trim().parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        state: *fields.first()?.as_bytes().first()?,
        ppid: number(4)? as i32,
        command: command.into(),
        started: number(22)?,
        ticks: number(14)? + number(15)?,
        waited_ticks: number(16)? + number(17)?,
        threads: number(20)? as u32,
        resident: number(24)?,
        exit_code: number(52).unwrap_or(0) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_starts_at_its_moment_by_the_same_clock() {
        let proc = Proc::own().expect("tests run where it is mounted");
        for _ in 0..100 {
            let before = now();
            let mut child = std::process::Command::new("true").spawn().expect("there is a true");
            let after = now();
            let started = proc.stat(child.id() as i32).expect("it is not reaped").started;
            child.wait().expect("it is ours");
            assert!(0 < before && before <= started && started <= after);
        }
    }

    #[test]
    fn a_name_with_brackets_and_blanks() {
        let text = "71 (a) b (c) S 1 71 71 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9000 1 2 3\n";
        let stat = parse(text).expect("it is well formed");
        assert_eq!((stat.pid, stat.state, stat.ppid), (71, b'S', 1));
        assert_eq!((stat.command.as_str(), stat.ticks, stat.started), ("a) b (c", 11, 9000));
        assert_eq!((stat.waited_ticks, stat.threads, stat.resident), (15, 1, 2));
    }
}
