//! Processes as /proc shows them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    /// Of a zombie its wait status, of one that is stopped the signal until its parent has waited
    /// for that. 0 also for who may not know.
    pub exit_code: u32,
}

/// /proc/PID/stat; `None` if there is no such process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    let mut text = [0; 1024];
    // the kernel gives it in one piece. A name need not be UTF-8
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    parse(&String::from_utf8_lossy(&text[..length]))
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

/// The most resident memory that a process has had since it began its program, in bytes.
pub(super) fn peak(pid: i32) -> Option<u64> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// All processes. Those that end meanwhile may be missing.
pub(super) fn all() -> io::Result<Vec<Stat>> {
    let pids = fs::read_dir("/proc")?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids.filter_map(stat).collect())
}

/// The value of a variable in the environment that a process began with. `None` also where that
/// cannot be read.
pub(super) fn variable(pid: i32, name: &str) -> Option<String> {
    let env = fs::read(format!("/proc/{pid}/environ")).ok()?;
    env.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.into()).ok()
    })
}

/// The limit of file locks of a process, soft and hard, as anybody may read it, of zombies too;
/// `None` for one that is unlimited.
pub(super) fn file_locks(pid: i32) -> Option<[Option<u64>; 2]> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    let mut values = line.split_whitespace().map(|value| value.parse().ok());
    Some([values.next()?, values.next()?])
}

/// A number that looks random.
pub(super) fn random() -> Option<u64> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").ok()?;
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    // bits of the version stand in the first half, two of the variant at the top of the second
    Some(u64::from_str_radix(digits.get(16..32)?, 16).ok()? << 2)
}

/// The arguments with which a process began its program, and its program first.
pub(super) fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// The children of this process, zombies too. Costs them, or a look at every process of the system
/// where the kernel does not list them (CONFIG_PROC_CHILDREN).
pub(super) fn children() -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")?.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(list.split(' ').filter_map(|pid| pid.parse::<i32>().ok())),
            // a thread that has ended: who was its child is another one's, for the next look
            Err(_) if !thread.path().exists() => {}
            Err(_) => {
                let own = std::process::id() as i32;
                let all = all()?.into_iter().filter(|stat| stat.ppid == own);
                return Ok(all.map(|stat| stat.pid).collect());
            }
        }
    }
    Ok(children)
}

/// Whether a process is in a cgroup (v2) of that name, or below one.
pub(super) fn is_below(pid: i32, cgroup: &OsStr) -> bool {
    let groups = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.split(|byte| *byte == b'\n').any(|line| {
        let path = line.strip_prefix(b"0::").map(OsStr::from_bytes);
        path.is_some_and(|path| Path::new(path).iter().any(|folder| folder == cgroup))
    })
}

/// Whether this process may know the exit code of that one: proc_pid_stat(5), ptrace(2).
pub(super) fn may_know_exit(pid: i32) -> bool {
    use std::os::unix::fs::MetadataExt;
    const SYS_PTRACE: u64 = 19;
    let user = |pid: &str| fs::metadata(format!("/proc/{pid}")).map(|folder| folder.uid()).ok();
    let same = user("self").is_some_and(|own| user(&pid.to_string()) == Some(own));
    same || own_capabilities() & (1 << SYS_PTRACE) != 0
}

/// The effective capabilities of this process.
fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// Whether RLIMIT_NPROC does not bind what this process creates: fork(2), EAGAIN.
pub(super) fn may_pass_nproc() -> bool {
    const SYS_ADMIN: u64 = 21;
    const SYS_RESOURCE: u64 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = users.and_then(|users| users.split_whitespace().next()) == Some("0");
    is_root || own_capabilities() & ((1 << SYS_ADMIN) | (1 << SYS_RESOURCE)) != 0
}

/// The number of this process's pid namespace: in another one its pid means nothing.
pub(super) fn pid_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// What a process that starts now has as the time of its start, or less.
pub(super) fn now() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    // hundredths of a second, rounded down as the time of a start is
    let hundredths = uptime.split_once(' ').and_then(|(seconds, _)| {
        let (whole, part) = seconds.split_once('.')?;
        Some(whole.parse::<u64>().ok()? * 100 + part.parse::<u64>().ok()?)
    });
    hundredths.unwrap_or(0) * rustix::param::clock_ticks_per_second() / 100
}

/// The number of this boot.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().replace('-', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_starts_before_now() {
        let before = now();
        let mut child = std::process::Command::new("true").spawn().expect("there is a true");
        let seen = stat(child.id() as i32).expect("it is not reaped");
        child.wait().expect("it is ours");
        assert!(before > 0 && before <= seen.started);
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
