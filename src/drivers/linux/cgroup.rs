//! A cgroup (v2) of our own: its members cannot leave it, whatever session or parent they give
//! themselves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::command::Command;
use super::procfs::{self, Proc};
use super::spawn_error::Step;
use super::{child, delegate, pidfd};
use crate::sync::Mutex;

/// The directory of the cgroup that this process is in, below the mount of the v2 hierarchy; where
/// it has moved aside itself, that which it came from.
///
/// Hybrid hosts and containers mount it anywhere, so it is looked for, not assumed.
///
/// # Errors
///
/// NotFound, with the reason in words.
pub(super) fn own_directory() -> io::Result<PathBuf> {
    directory_of(&procfs::own_file("cgroup")?, std::process::id() as i32).map(delegate::base)
}

/// The same for a process, with what /proc says of its cgroups.
pub(super) fn directory_of(groups: &str, pid: i32) -> io::Result<PathBuf> {
    let mounts = procfs::own_file("mountinfo")?;
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or_else(|| not_found("this process is in no v2 cgroup"))?;
    let mut why = not_found("no cgroup2 is mounted");
    // it may be mounted several times, one over the other
    for (root, mount) in mounts.lines().filter_map(|line| find_mount(line, "cgroup2")) {
        match below(Path::new(path), &root, &mount).and_then(|directory| is_own(directory, pid)) {
            Ok(directory) => return Ok(directory),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Where a cgroup is in a mount, which may be a part of the hierarchy. One outside of it, or of the
/// cgroup namespace, has a path that leads upwards.
pub(super) fn below(cgroup: &Path, root: &Path, mount: &Path) -> io::Result<PathBuf> {
    let below = cgroup.strip_prefix(root).ok();
    let below = below.filter(|path| !path.iter().any(|name| name == ".."));
    Ok(mount.join(below.ok_or_else(|| not_found("the own cgroup lies outside of the mount"))?))
}

/// That directory, if it is of a cgroup that the process is in: another may be mounted over it.
fn is_own(directory: PathBuf, pid: i32) -> io::Result<PathBuf> {
    let kind = rustix::fs::statfs(&directory)?.f_type;
    if kind != libc::CGROUP2_SUPER_MAGIC {
        return Err(not_found("something else is mounted over cgroup2"));
    }
    let own = pid.to_string();
    match File::open(directory.join("cgroup.procs")).and_then(procfs::read_all) {
        Ok(members) if members.lines().any(|pid| pid == own) => Ok(directory),
        // a threaded one, which has no such list
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err(not_found("the own cgroup is threaded, and has none below it that take processes"))
        }
        Err(error) => Err(error),
        Ok(_) => Err(not_found("another cgroup is mounted over the own one")),
    }
}

fn not_found(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, why)
}

/// The root of a mount of that type in its hierarchy, and where it is mounted, from a line of
/// mountinfo.
pub(super) fn find_mount(line: &str, kind: &str) -> Option<(PathBuf, PathBuf)> {
    let (place, of) = line.split_once(" - ")?;
    if of.split(' ').next() != Some(kind) {
        return None;
    }
    let mut fields = place.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// proc_pid_mountinfo(5): blanks and backslashes are written as octal numbers.
pub(super) fn unescape(text: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        path.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte.into());
                rest = &after[3..];
            }
            None => {
                path.push('\\');
                rest = after;
            }
        }
    }
    path.push_str(rest);
    path.into()
}

/// Makes a cgroup below the owner's, and removes it.
///
/// # Errors
///
/// What keeps children out of it.
pub(super) fn try_place(mark: &str) -> io::Result<()> {
    Cgroup::create(mark)?.remove()
}

/// What the name of each of our cgroups begins with.
pub(super) const PREFIX: &str = "proctable-";

/// How long members are kept frozen until they are killed one by one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes a value into a file of a cgroup.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(file)?.write_all(text.as_bytes())
}

/// Opens a file of a cgroup for writing.
pub(super) fn open(directory: &Path, file: &str) -> io::Result<File> {
    let opened = File::options().write(true).open(directory.join(file));
    opened.map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))
}

/// How children come into a cgroup.
#[derive(Debug)]
pub(super) struct CgroupJoin {
    pub directory: OwnedFd,
    /// Whether the owner has killed all members.
    killed: AtomicBool,
    /// Whether children cannot be created in it.
    clone_refused: AtomicBool,
}

impl CgroupJoin {
    /// Whether a child may be created in it. Once this cgroup or the owner's own was killed,
    /// kernels (6.18 is one) take each birth for one that the kill came across, and kill the child.
    pub fn can_clone_into(&self) -> bool {
        !self.killed.load(Ordering::SeqCst) && !self.clone_refused.load(Ordering::SeqCst)
    }

    /// A child was killed before its program. Whether the owner has not done so: then it is such a
    /// kernel, and children have to be moved into the cgroup from now on.
    pub fn is_clone_refused(&self) -> bool {
        self.clone_refused.store(true, Ordering::SeqCst);
        !self.killed.load(Ordering::SeqCst)
    }
}

/// The place, by its path and its inode, in which a child of this process has entered a cgroup.
static PROVED: Mutex<Option<(PathBuf, u64)>> = Mutex::new(None);

/// A cgroup that we have made, and remove.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: PathBuf,
    /// Open from the beginning: an owner without free descriptors can still kill.
    kill: Option<File>,
    /// The directory, open for children that are created in the cgroup; `None` for the cgroup of
    /// another owner.
    cgroup_join: Option<Arc<CgroupJoin>>,
}

impl Cgroup {
    /// Where one of that name would be.
    pub fn place(mark: &str) -> io::Result<PathBuf> {
        Ok(own_directory()?.join(format!("{PREFIX}{mark}")))
    }

    /// A new cgroup below our own, which children can enter. Its name identifies its owner: see
    /// `sweep`.
    pub fn create(mark: &str) -> io::Result<Cgroup> {
        let cgroup = Cgroup::check(Cgroup::make(mark)?)?;
        if cgroup.is_like_proved() {
            return Ok(cgroup);
        }
        if cgroup.trial().inspect_err(|_| drop(cgroup.remove()))?.is_some() {
            *PROVED.lock() = cgroup.place_of();
        }
        Ok(cgroup)
    }

    /// Whether a child has entered another cgroup in the same place, and nothing that the kernel
    /// checks for it has changed since: the permissions of the files of both cgroups, and the types
    /// of both. A trial with a child costs more than all other parts of a tree.
    fn is_like_proved(&self) -> bool {
        let place = self.place_of();
        let type_of = fs::read_to_string(self.directory.join("cgroup.type"));
        place.is_some()
            && *PROVED.lock() == place
            && type_of.is_ok_and(|type_of| type_of.trim() == "domain")
            && self.directory.parent().is_some_and(|above| open(above, "cgroup.procs").is_ok())
    }

    /// Where it is: another cgroup may be at the same path later.
    fn place_of(&self) -> Option<(PathBuf, u64)> {
        let above = self.directory.parent()?;
        Some((above.into(), fs::metadata(above).ok()?.ino()))
    }

    /// Whether children can enter it, and are even created in it. Only a trial shows this: the
    /// kernel checks the permissions of the files of both cgroups, their types, and the limits of
    /// their parents.
    ///
    /// # Errors
    ///
    /// What kept a child out.
    pub fn try_entry(&self) -> io::Result<bool> {
        Ok(self.trial()?.unwrap_or(false))
    }

    /// The same; nothing where there can be no child at all now.
    fn trial(&self) -> io::Result<Option<bool>> {
        let no_entry =
            |error| io::Error::new(io::Error::kind(&error), format!("no entry: {error}"));
        let prepared = Command::new("/").env_clear().cgroup(self.cgroup_join()).prepare();
        let (prepared, _) = prepared.map_err(|(_, error)| error)?;
        let cgroup_join =
            self.cgroup_join.as_deref().filter(|cgroup_join| cgroup_join.can_clone_into());
        let trial = match child::try_child(&prepared, cgroup_join) {
            // there can be no child at all now: a spawn will tell why
            Err(_) => return Ok(None),
            Ok(trial) => trial,
        };
        match (trial.failed, cgroup_join) {
            (None, _) => Ok(Some(trial.spawned)),
            (Some(Some((Step::Cgroup, error))), _) => Err(no_entry(error)),
            // what fails after that, a spawn will tell
            (Some(Some(_)), _) => Ok(Some(trial.spawned)),
            // killed, as the owner's own cgroup was once
            (Some(None), Some(cgroup_join)) if cgroup_join.is_clone_refused() => self.trial(),
            (Some(None), _) => Err(no_entry(io::ErrorKind::Interrupted.into())),
        }
    }

    /// The directory of a new one.
    pub fn make(mark: &str) -> io::Result<PathBuf> {
        let directory = Cgroup::place(mark)?;
        fs::create_dir(&directory).map_err(|error| {
            let parent = directory.parent().unwrap_or(&directory).display();
            io::Error::new(error.kind(), format!("{parent}: {error}"))
        })?;
        Ok(directory)
    }

    /// Whether a new one can do what it is for; it is removed if not.
    pub fn check(directory: PathBuf) -> io::Result<Cgroup> {
        let clean_up = |_: &io::Error| drop(fs::remove_dir(&directory));
        for file in ["cgroup.procs", "cgroup.freeze"] {
            open(&directory, file).inspect_err(clean_up)?;
        }
        let kill = match open(&directory, "cgroup.kill") {
            // before Linux 5.14: each of its members is killed by a descriptor, while they are
            // frozen
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                pidfd::can_open().inspect_err(clean_up).map_err(|without| {
                    let why = format!("{error}, nor pidfd_open: {without}");
                    io::Error::new(io::ErrorKind::Unsupported, why)
                })?;
                None
            }
            kill => Some(kill.inspect_err(clean_up)?),
        };
        let cgroup_join = CgroupJoin {
            directory: File::open(&directory).inspect_err(clean_up)?.into(),
            killed: AtomicBool::new(false),
            clone_refused: AtomicBool::new(false),
        };
        Ok(Cgroup { directory, kill, cgroup_join: Some(Arc::new(cgroup_join)) })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How a child comes into it; none for another owner's.
    pub fn cgroup_join(&self) -> Option<Arc<CgroupJoin>> {
        self.cgroup_join.clone()
    }

    /// One that another owner has made.
    pub fn existing(directory: PathBuf) -> Cgroup {
        Cgroup { directory, kill: None, cgroup_join: None }
    }

    /// Whether it has a controller: one that its parent delegates.
    pub fn has_controller(&self, controller: &str) -> io::Result<bool> {
        let list = fs::read_to_string(self.directory.join("cgroup.controllers"))?;
        Ok(list.split_whitespace().any(|name| name == controller))
    }

    /// Whether that number is a member's, here or below.
    pub fn has(&self, proc: &Proc, pid: i32) -> bool {
        self.directory.file_name().is_some_and(|name| proc.is_below(pid, name))
    }

    /// A process enters it. Its children of later on do so with it.
    pub fn adopt(&self, pid: i32) -> io::Result<()> {
        write(&self.directory.join("cgroup.procs"), &pid.to_string())
    }

    /// Whether the kernel kills all members of a cgroup that this process has made (cgroup.kill,
    /// Linux 5.14).
    pub fn has_kill(&self) -> bool {
        self.kill.is_some()
    }

    /// Kills all members, also those that are frozen or being created. Where the kernel cannot do
    /// that (before Linux 5.14), `each` is called while the members are frozen, again and again as
    /// long as it kills new members: a frozen process creates no other.
    pub fn kill(&self, each: &mut dyn FnMut() -> io::Result<bool>) -> io::Result<()> {
        if let Some(cgroup_join) = &self.cgroup_join {
            cgroup_join.killed.store(true, Ordering::SeqCst);
        }
        let killed = match &self.kill {
            Some(file) => return (&*file).write_all(b"1"),
            None => write(&self.directory.join("cgroup.kill"), "1"),
        };
        match killed {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.directory.exists() => {
                self.kill_frozen(each)
            }
            killed => killed,
        }
    }

    fn kill_frozen(&self, each: &mut dyn FnMut() -> io::Result<bool>) -> io::Result<()> {
        self.freeze(true)?;
        // a process that cannot be frozen now (uninterruptible sleep) creates no other either
        let begun = Instant::now();
        let frozen = self.await_frozen(begun + PATIENCE / 10);
        let killed = frozen.and_then(|()| {
            // a fork that was in progress when the members were frozen has a child by the second
            // scan; processes that others move into the cgroup may continue to come
            while each()? && begun.elapsed() < PATIENCE {}
            Ok(())
        });
        // the members die frozen, too; a member that was missed must not stay frozen for ever
        self.freeze(false).and(killed)
    }

    /// Waits until all members are frozen, as cgroup.events reports, but not longer than that.
    fn await_frozen(&self, deadline: Instant) -> io::Result<()> {
        let file = self.directory.join("cgroup.events");
        loop {
            // a look at the file begins what is waited for
            let events = File::open(&file)?;
            let text = io::read_to_string(&events)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if text.lines().any(|line| line == "frozen 1") || left.is_zero() {
                return Ok(());
            }
            let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            // a signal of the owner's: it is looked again
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left));
        }
    }

    /// Freezes all members, or thaws them.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        write(&self.directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })
    }

    /// The numbers of all members, without zombies, and of the members of cgroups below it.
    pub fn members(&self) -> io::Result<Vec<i32>> {
        let mut members = Vec::new();
        let mut directories = vec![self.directory.clone()];
        while let Some(directory) = directories.pop() {
            let procs = match fs::read_to_string(directory.join("cgroup.procs")) {
                // a directory that a member has removed since
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // a threaded one that a member has made: they are in its domain's list
                Err(error)
                    if error.raw_os_error() == Some(libc::EOPNOTSUPP)
                        && directory != self.directory =>
                {
                    String::new()
                }
                procs => procs?,
            };
            members.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
            let below = fs::read_dir(&directory)?.flatten().filter(is_directory);
            directories.extend(below.map(|entry| entry.path()));
        }
        Ok(members)
    }

    /// Whether the cgroup or one below it has members. An exiting process counts: it is in no list
    /// of members any more, and may still have open files and memory. `false` if the cgroup is
    /// gone.
    pub fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.directory.join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Whether nothing is in it or below it. `false` if that cannot be read.
    pub fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.directory.join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
    }

    /// The CPU time of all processes that were ever members.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(self.directory.join("cpu.stat"))?;
        let usec = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        usec.map(Duration::from_micros).ok_or_else(|| not_found("cpu.stat has no usage_usec"))
    }

    /// Removes the cgroup, and those that members made below it, once they have no members. EBUSY
    /// before.
    pub fn remove(&self) -> io::Result<()> {
        remove_tree(&self.directory)
    }
}

/// As the listing tells it, without a look at each file.
fn is_directory(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Removes a cgroup if it and all cgroups below it have no members.
pub(super) fn remove_empty(directory: &Path) -> io::Result<()> {
    if !Cgroup::existing(directory.into()).members()?.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    remove_tree(directory)
}

/// Removes a cgroup, and what is below it.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    // nothing is below most of them, and this needs no descriptor
    match fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // it has members, or a cgroup below it
        Err(_) => {}
    }
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(is_directory) {
        remove_tree(&entry.path())?;
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::command::Stdio;
    use super::super::scan::{self, Mark};
    use super::super::spawner;
    use super::*;

    #[test]
    fn the_v2_hierarchy_is_found_where_it_is_mounted() {
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 30 0:37 /box\\040a /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let found: Vec<_> = hybrid.lines().filter_map(|line| find_mount(line, "cgroup2")).collect();
        assert_eq!(found, [("/box a".into(), "/sys/fs/cgroup/unified".into())]);
        assert_eq!(find_mount("1 2 3:4 / / rw - ext4 /dev/x rw", "cgroup2"), None);
    }

    /// As before Linux 5.14, on any kernel: processes that multiply are caught while they are
    /// frozen, by one call.
    #[test]
    fn members_are_killed_one_by_one_while_they_are_frozen() {
        let cgroup = match Cgroup::create(&Mark::new(false).value) {
            Ok(cgroup) => cgroup,
            Err(error) => return println!("SKIPPED: no cgroup: {error}"),
        };
        // each ends after it has begun another one, in a session of its own
        let script = "echo; exec >&-; eval \"$0\"";
        let again = "sleep 0.001; setsid sh -c \"$0\" \"$0\" & setsid sleep 1000 & exit";
        for _ in 0..3 {
            let command = Command::new("sh").args(["-c", script, again]).stdout(Stdio::Piped);
            let command = command.stdin(Stdio::Null).cgroup(cgroup.cgroup_join());
            let (prepared, mut pipes) = command.prepare().expect("there is a sh");
            let spawned = spawner::spawn(prepared).expect("it can be entered");
            let mut byte = [0];
            let mut output = pipes.stdout.take().expect("it was asked for");
            io::Read::read_exact(&mut output, &mut byte).expect("it writes one");
            let enough = || cgroup.members().expect("it is there").len() > 8;
            while !enough() {
                std::thread::yield_now();
            }
            let (mut known, mut frozen) = (BTreeSet::new(), Vec::new());
            let events = || fs::read_to_string(cgroup.directory.join("cgroup.events"));
            let kill = &mut || {
                frozen.push(events()?.contains("frozen 1"));
                scan::kill_in(&cgroup, &mut known)
            };
            cgroup.kill_frozen(kill).expect("it is ours");
            // some of those that were counted have ended since
            assert!(frozen[0] && known.len() > 1, "{frozen:?} {known:?}");
            let freeze = fs::read_to_string(cgroup.directory.join("cgroup.freeze"));
            assert_eq!(
                freeze.expect("it is there").trim(),
                "0",
                "a process that comes next is not frozen"
            );
            // a process that escaped would continue to multiply
            let begun = Instant::now();
            while !cgroup.members().expect("it is there").is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", cgroup.members());
                std::thread::yield_now();
            }
            pidfd::reap(spawned.pid, &spawned.pidfd, 0).expect("it is ours");
        }
        cgroup.remove().expect("it has no members");
    }
}
