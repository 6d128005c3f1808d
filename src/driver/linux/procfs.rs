//! Processes as /proc shows them.

use std::ffi::OsStr;
use std::fs;
use std::io;
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
}

/// /proc/PID/stat; `None` if there is no such process.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
    })
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

/// Whether a process is in a cgroup (v2) of that name, or below one.
pub(super) fn is_below(pid: i32, cgroup: &OsStr) -> bool {
    let groups = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.split(|byte| *byte == b'\n').any(|line| {
        let path = line.strip_prefix(b"0::").map(OsStr::from_bytes);
        path.is_some_and(|path| Path::new(path).iter().any(|folder| folder == cgroup))
    })
}

/// The number of this process's pid namespace: in another one its pid means nothing.
pub(super) fn pid_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
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
    fn a_name_with_brackets_and_blanks() {
        let text = "71 (a) b (c) S 1 71 71 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9000 1 2 3\n";
        let stat = parse(text).expect("it is well formed");
        assert_eq!((stat.pid, stat.state, stat.ppid), (71, b'S', 1));
        assert_eq!((stat.command.as_str(), stat.ticks, stat.started), ("a) b (c", 11, 9000));
    }
}
