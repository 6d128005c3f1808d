//! The members of a tree, found so that no other process ever counts as one of its members.
//!
//! A number in /proc may be another process's a moment later, and its start time has a grain of
//! 10 ms, in which a small range of numbers comes round. So everything that is read about a number
//! counts only if a descriptor that was opened before names a process that is not reaped after.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cgroup::Cgroup;
use super::procfs::{self, Proc, Stat};
use super::{attributes, pidfd};

/// The variable that marks all processes that were spawned in a tree, and all that inherit it: the
/// names of the trees, the outermost first.
pub(super) const MARK: &str = "PROCTABLE_TREE";

/// The end of the name of a tree that continues without its owner.
pub(super) const STAYS: &str = "-leave";

/// The limit that marks them as well, and that a change of their environment does not affect: every
/// process inherits it, no process clears it by accident, /proc shows it to all users, also of
/// zombies, and the kernel has not used it since Linux 2.4.
const LIMIT: u32 = libc::RLIMIT_LOCKS;

/// The mark of one tree.
#[derive(Debug)]
pub(super) struct Mark {
    pub value: String,
    /// The same after the names of the trees that the owner is in itself.
    pub all: String,
    /// A number that no other tree has. `None` where the owner's own limit leaves no room for one.
    limit: Option<libc::rlimit64>,
    /// When it was made, in clock ticks since boot: no process that was created with it is older.
    made: u64,
}

impl Mark {
    /// A new mark. The mark of a tree that continues without its owner says so: a sweep leaves such
    /// a tree alone.
    pub fn new(stays: bool) -> Mark {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id();
        // without a start no reader can tell whether this process lives: no namespace has that name
        let (started, namespace) = match procfs::own_start() {
            Some(started) => (started, procfs::namespace()),
            None => (0, String::new()),
        };
        let boot = procfs::boot_id();
        let stays = if stays { STAYS } else { "" };
        let value = format!("{own}-{started}-{boot}-{namespace}-{number}{stays}");
        let outer = std::env::var(MARK).ok().filter(|outer| !outer.is_empty());
        let all = outer.into_iter().chain([value.clone()]).collect::<Vec<_>>().join(",");
        let limit = attributes::rlimit(own as i32, LIMIT).ok();
        let limit = limit.and_then(|own| limit_below(own.rlim_max, procfs::random()?));
        Mark { value, all, limit, made: procfs::now() }
    }

    /// The limit that a child gets.
    pub fn rlimit(&self) -> Option<(u32, libc::rlimit64)> {
        Some((LIMIT, self.limit?))
    }

    /// Whether a process has it.
    pub fn is_on(&self, proc: &Proc, pid: i32) -> bool {
        self.is_in_limits(proc, pid) || marks(proc, pid).contains(&self.value)
    }

    fn is_in_limits(&self, proc: &Proc, pid: i32) -> bool {
        let Some(mark) = self.limit else { return false };
        // a process that makes a tree within this one puts its own number first
        proc.file_locks(pid).is_some_and(|found| found.contains(&Some(mark.rlim_cur)))
    }
}

/// A limit that tells trees apart, at most the owner's own. The outermost tree's number stays its
/// upper value, so that it finds those in trees within it, too.
fn limit_below(own: u64, random: u64) -> Option<libc::rlimit64> {
    const ROOM: u64 = 1 << 32;
    /// As good as infinite for a program that asks.
    const HUGE: u64 = 1 << 62;
    match own {
        libc::RLIM64_INFINITY => {
            let number = HUGE | (random >> 2);
            Some(libc::rlimit64 { rlim_cur: number, rlim_max: number })
        }
        own if own > ROOM => {
            let number = ROOM / 2 + random % (own - ROOM / 2);
            Some(libc::rlimit64 { rlim_cur: number, rlim_max: own })
        }
        _ => None,
    }
}

/// The trees that a process was marked for when it began its program.
pub(super) fn marks(proc: &Proc, pid: i32) -> Vec<String> {
    let value = proc.variable(pid, MARK).unwrap_or_default();
    value.split(',').map(String::from).collect()
}

/// What is done for each member that was found, children before their parents.
pub(super) type Act<'a> = &'a mut dyn FnMut(&Stat, &OwnedFd);

/// A process that is known to belong to a tree.
pub(super) struct Root<'a> {
    pub pid: i32,
    pub pidfd: &'a OwnedFd,
    /// Whether all of its descendants belong to it, or only those that have the mark.
    pub with_descendants: bool,
}

/// All processes that are or descend from one of `roots`, or have the mark, without zombies. Costs
/// a look at every process of the system, and one into the limits and the environment of each that
/// is not older than the mark. Without an own /proc the result is the roots alone, and then the
/// error.
pub(super) fn visit(mark: Option<&Mark>, roots: &[Root], act: Act) -> io::Result<()> {
    let (proc, all) = match Proc::own().and_then(|proc| Ok((proc.all()?, proc))) {
        Ok((all, proc)) => (proc, all),
        Err(error) => {
            visit_roots(roots, act);
            return Err(error);
        }
    };
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for stat in &all {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let own = BTreeSet::from([std::process::id() as i32]);
    let mut look = ProcScan { proc: &proc, children, seen: own, act, result: Ok(()) };
    for Root { pid, pidfd, with_descendants } in roots {
        if !pidfd::exists(pidfd) || !look.seen.insert(*pid) {
            continue;
        }
        if !with_descendants {
            look.children.remove(pid);
        }
        // one that has become another user's may be hidden
        let seen = proc.stat(*pid).or_else(|| unseen(*pid, pidfd));
        if let Some(stat) = seen.filter(|_| pidfd::exists(pidfd)) {
            look.enter(&stat, pidfd);
        }
    }
    let Some(mark) = mark else { return look.result };
    for pid in all.iter().filter(|stat| stat.started >= mark.made).map(|stat| stat.pid) {
        if !look.seen.contains(&pid) && mark.is_on(&proc, pid) {
            look.confirm_and_enter(pid, |_| mark.is_on(&proc, pid));
        }
    }
    look.result
}

/// Whether a search for processes is possible here.
///
/// # Errors
///
/// What stands in the way.
pub(super) fn try_scan() -> io::Result<()> {
    Proc::own()?;
    pidfd::can_open().map_err(|error| io::Error::new(error.kind(), format!("pidfd_open: {error}")))
}

/// The roots alone, of which no number is needed.
pub(super) fn visit_roots(roots: &[Root], act: Act) {
    for Root { pid, pidfd, .. } in roots {
        if let Some(stat) = unseen(*pid, pidfd) {
            act(&stat, pidfd);
        }
    }
}

/// What is known of a process that /proc does not show; `None` if it has ended.
fn unseen(pid: i32, pidfd: &OwnedFd) -> Option<Stat> {
    (pidfd::exists(pidfd) && !pidfd::has_ended(pidfd)).then(|| Stat::unseen(pid))
}

/// A look through the processes of the system.
struct ProcScan<'a> {
    proc: &'a Proc,
    /// The parents of all processes when the scan began.
    children: BTreeMap<i32, Vec<i32>>,
    seen: BTreeSet<i32>,
    act: Act<'a>,
    result: io::Result<()>,
}

impl ProcScan<'_> {
    /// A member, and before it all of its descendants: once it is dead they have another parent.
    fn enter(&mut self, stat: &Stat, pidfd: &OwnedFd) {
        for child in self.children.remove(&stat.pid).unwrap_or_default() {
            // its parent's number is the parent's as long as that is not reaped
            self.confirm_and_enter(child, |child| child.ppid == stat.pid && pidfd::exists(pidfd));
        }
        if stat.state != b'Z' {
            (self.act)(stat, pidfd);
        }
    }

    fn confirm_and_enter(&mut self, pid: i32, belongs: impl Fn(&Stat) -> bool) {
        if self.seen.contains(&pid) {
            return;
        }
        match confirm(self.proc, pid, belongs) {
            Ok(None) => {}
            Ok(Some((stat, pidfd))) => {
                self.seen.insert(pid);
                self.enter(&stat, &pidfd);
            }
            // the others are looked at all the same
            Err(error) => self.result = Err(error),
        }
    }
}

/// The process that has the number now, if it is the one that the scan found.
pub(super) fn confirm(
    proc: &Proc,
    pid: i32,
    belongs: impl Fn(&Stat) -> bool,
) -> io::Result<Option<(Stat, OwnedFd)>> {
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        // gone, or (EINVAL, ENOENT) the number of a thread by now
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = proc.stat(pid).filter(|stat| belongs(stat));
    Ok(stat.filter(|_| pidfd::exists(&pidfd)).map(|stat| (stat, pidfd)))
}

/// Whether no process has that number, seen or hidden.
pub(super) fn is_free(pid: i32) -> bool {
    pidfd::open(pid).is_err_and(|error| is_nobody(&error))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT))
}

/// How many members are looked at together: each takes a descriptor.
const AT_ONCE: usize = 64;

/// A descriptor of a member.
enum ProcessRef<'a> {
    Known(&'a OwnedFd),
    Opened(OwnedFd),
}

impl ProcessRef<'_> {
    fn pidfd(&self) -> &OwnedFd {
        match self {
            ProcessRef::Known(pidfd) => pidfd,
            ProcessRef::Opened(pidfd) => pidfd,
        }
    }
}

/// All members of a cgroup and of those below it; the descriptors of `roots` are known. The numbers
/// in cgroup.procs are those of the reader's pid namespace, whatever /proc shows: /proc is only
/// read for their names. If a process could not be opened, the error comes after all others were
/// visited.
pub(super) fn visit_cgroup(cgroup: &Cgroup, roots: &[Root], act: Act) -> io::Result<()> {
    let members = cgroup.members()?;
    if members.is_empty() {
        return Ok(());
    }
    let (proc, mut result) = (Proc::own().ok(), Ok(()));
    for numbers in members.chunks(AT_ONCE) {
        let mut opened = Vec::new();
        for pid in numbers.iter().copied() {
            let known = roots.iter().find(|root| root.pid == pid && pidfd::exists(root.pidfd));
            match known.map_or_else(
                || pidfd::open(pid).map(ProcessRef::Opened),
                |root| Ok(ProcessRef::Known(root.pidfd)),
            ) {
                Ok(handle) => opened.push((pid, handle)),
                // gone, or (0) in no pid namespace that this process sees
                Err(error) if is_nobody(&error) => {}
                Err(error) => result = Err(error),
            }
        }
        // a number that is still a member's was that already when its descriptor was opened,
        // provided that the process of the descriptor is not reaped
        let members: BTreeSet<i32> = cgroup.members()?.into_iter().collect();
        for (pid, handle) in opened.iter().filter(|(pid, _)| members.contains(pid)) {
            let stat = proc.as_ref().and_then(|proc| proc.stat(*pid));
            let stat = stat.unwrap_or_else(|| Stat::unseen(*pid));
            if pidfd::exists(handle.pidfd()) && stat.state != b'Z' {
                act(&stat, handle.pidfd());
            }
        }
    }
    result
}

/// Kills all processes that a scan of a cgroup finds. Returns whether there were new ones.
pub(super) fn kill_in(cgroup: &Cgroup, known: &mut BTreeSet<(i32, u64)>) -> io::Result<bool> {
    let mut news = false;
    visit_cgroup(cgroup, &[], &mut |stat, pidfd| {
        news |= known.insert((stat.pid, stat.started));
        // it has ended by itself since
        let _ = pidfd::send(pidfd, libc::SIGKILL);
    })?;
    Ok(news)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const SCENARIO: &str = "drivers::linux::scan::tests::in_a_namespace_of_its_own";

    /// The kernel gives a number again if the last number is set: in a pid namespace of its own,
    /// where no other process takes the number in between.
    #[test]
    fn what_two_processes_of_one_number_show_makes_no_member() {
        let program = std::env::current_exe().expect("it runs");
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(program)
            .args(["--exact", SCENARIO, "--ignored", "--nocapture", "--test-threads=1"])
            .env("PROCTABLE_ALONE", "1")
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => return println!("SKIPPED: unshare: {error}"),
        };
        let (said, error) = (String::from_utf8_lossy(&output.stdout), output.stderr);
        let error = String::from_utf8_lossy(&error);
        if !said.contains("running") {
            return println!("SKIPPED: a pid namespace needs root: {error}");
        }
        assert!(said.contains("1 passed"), "{said}\n{error}");
    }

    /// A process with that number, or with the next one that is free, and that variable.
    fn sleeper(number: Option<i32>, name: &str) -> Child {
        if let Some(number) = number {
            let last = (number - 1).to_string();
            std::fs::write("/proc/sys/kernel/ns_last_pid", last).expect("this is root");
        }
        let mut command = Command::new("sleep");
        command.arg("1000").env(name, "x").stdout(Stdio::null());
        let process = command.spawn().expect("there is a sleep");
        // its creator is in the middle of exec, where it has no environment
        let proc = Proc::own().expect("it is mounted");
        while proc.variable(process.id() as i32, name).is_none() {
            std::thread::yield_now();
        }
        process
    }

    fn end(mut process: Child) {
        process.kill().expect("it is ours");
        process.wait().expect("it is ours");
    }

    #[test]
    #[ignore = "a scenario of what_two_processes_of_one_number_show_makes_no_member"]
    fn in_a_namespace_of_its_own() {
        if std::env::var_os("PROCTABLE_ALONE").is_none() {
            return;
        }
        let proc = Proc::own().expect("it is mounted");
        let has = |pid, name| proc.variable(pid, name).is_some();
        let first = sleeper(None, "FIRST");
        let pid = first.id() as i32;
        let found = confirm(&proc, pid, |_| has(pid, "FIRST")).expect("there are descriptors");
        assert_eq!(found.map(|(stat, _)| stat.pid), Some(pid), "it is what it seems");

        // it ends after a descriptor of it was opened, and what makes it a member is then read of
        // another process
        let (first, second) = (RefCell::new(Some(first)), RefCell::new(None));
        let found = confirm(&proc, pid, |_| {
            end(first.borrow_mut().take().expect("it is asked once"));
            *second.borrow_mut() = Some(sleeper(Some(pid), "SECOND"));
            has(pid, "SECOND")
        });
        let second = second.into_inner().expect("it was asked");
        assert_eq!(second.id() as i32, pid, "the number came round");
        assert!(found.expect("there are descriptors").is_none(), "no process is both");

        // it has ended before: the process that has its number now is no member
        let found = confirm(&proc, pid, |_| has(pid, "FIRST")).expect("there are descriptors");
        assert!(found.is_none(), "an unrelated process");
        end(second);
    }
}
