//! Who belongs to a tree, found so that nobody else is ever taken for one of its members.
//!
//! A number in /proc may be another process's a moment later, and its start time has a grain of
//! 10 ms, in which a small range of numbers comes round. So everything that is read about a number
//! counts only if a descriptor that was opened before names a process that is not reaped after.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cgroup::Cgroup;
use super::procfs::{self, Stat};
use super::{attributes, pidfd};

/// The variable that marks everybody who was spawned in a tree, and whoever inherits it: the names
/// of the trees, the outermost first.
pub(super) const MARK: &str = "PROCTABLE_TREE";

/// The limit that marks them as well, beyond what they can do to their environment: everybody
/// inherits it, nobody clears it by the way, /proc shows it to everybody, also of zombies, and the
/// kernel has not looked at it since Linux 2.4.
const LIMIT: u32 = libc::RLIMIT_LOCKS;

/// The mark of one tree.
#[derive(Debug)]
pub(super) struct Mark {
    pub value: String,
    /// The same after the names of the trees that the owner is in itself.
    pub all: String,
    /// A number that no other tree has. `None` where the owner's own limit leaves no room for one.
    limit: Option<libc::rlimit64>,
    /// When it was made, in clock ticks since boot: nobody who was born with it is older.
    made: u64,
}

impl Mark {
    /// A new one.
    pub fn new() -> Mark {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id();
        let started = procfs::stat(own as i32).map_or(0, |stat| stat.started);
        let (boot, namespace) = (procfs::boot_id(), procfs::pid_namespace());
        let value = format!("{own}-{started}-{boot}-{namespace}-{number}");
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
    pub fn is_on(&self, pid: i32) -> bool {
        self.is_in_limits(pid) || is_marked(pid, &self.value)
    }

    fn is_in_limits(&self, pid: i32) -> bool {
        let Some(mark) = self.limit else { return false };
        // whoever makes a tree within this one puts its own number first
        procfs::file_locks(pid).is_some_and(|found| found.contains(&Some(mark.rlim_cur)))
    }
}

/// A limit that tells trees apart, at most the owner's own. The outermost tree's number stays its
/// upper value, so that it finds those in trees within it, too.
fn limit_below(own: u64, random: u64) -> Option<libc::rlimit64> {
    const ROOM: u64 = 1 << 32;
    /// As good as infinite for whoever might ask.
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
pub(super) fn marks(pid: i32) -> Vec<String> {
    let value = procfs::variable(pid, MARK).unwrap_or_default();
    value.split(',').map(String::from).collect()
}

fn is_marked(pid: i32, mark: &str) -> bool {
    marks(pid).iter().any(|found| found == mark)
}

/// What is done for each member that was found, children before their parents.
pub(super) type Act<'a> = &'a mut dyn FnMut(&Stat, &OwnedFd);

/// Somebody who is known to belong to a tree.
pub(super) struct Root<'a> {
    pub pid: i32,
    pub pidfd: &'a OwnedFd,
    /// Whether all of its descendants do, or those alone who have the mark.
    pub with_descendants: bool,
}

/// Everybody who is or descends from one of `roots`, or has the mark; zombies left out. Costs a look
/// at every process of the system, and one into the limits and the environment of each that is not
/// older than the mark.
pub(super) fn visit(mark: Option<&Mark>, roots: &[Root], act: Act) -> io::Result<()> {
    let all = procfs::all()?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for stat in &all {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let own = BTreeSet::from([std::process::id() as i32]);
    let mut look = Look { children, seen: own, act, result: Ok(()) };
    for Root { pid, pidfd, with_descendants } in roots {
        let stat = procfs::stat(*pid).filter(|_| pidfd::exists(pidfd));
        if let Some(stat) = stat.filter(|_| look.seen.insert(*pid)) {
            if !with_descendants {
                look.children.remove(pid);
            }
            look.enter(&stat, pidfd);
        }
    }
    let Some(mark) = mark else { return look.result };
    for pid in all.iter().filter(|stat| stat.started >= mark.made).map(|stat| stat.pid) {
        if !look.seen.contains(&pid) && mark.is_on(pid) {
            look.confirm_and_enter(pid, |_| mark.is_on(pid));
        }
    }
    look.result
}

/// A look through the processes of the system.
struct Look<'a> {
    /// Who had whom for a parent when the look began.
    children: BTreeMap<i32, Vec<i32>>,
    seen: BTreeSet<i32>,
    act: Act<'a>,
    result: io::Result<()>,
}

impl Look<'_> {
    /// A member, and before it everybody who descends from it: once it is dead they have another
    /// parent.
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
        match confirm(pid, belongs) {
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

/// The process that has the number now, if it belongs to whom it seemed to.
pub(super) fn confirm(
    pid: i32,
    belongs: impl Fn(&Stat) -> bool,
) -> io::Result<Option<(Stat, OwnedFd)>> {
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        // gone, or (EINVAL, ENOENT) the number of a thread by now
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = procfs::stat(pid).filter(|stat| belongs(stat));
    Ok(stat.filter(|_| pidfd::exists(&pidfd)).map(|stat| (stat, pidfd)))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT))
}

/// Everybody in a cgroup and below it.
pub(super) fn visit_cgroup(cgroup: &Cgroup, act: Act) -> io::Result<()> {
    for pid in cgroup.members()? {
        let member = confirm(pid, |_| cgroup.has(pid))?;
        if let Some((stat, pidfd)) = member.filter(|(stat, _)| stat.state != b'Z') {
            act(&stat, &pidfd);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const SCENARIO: &str = "driver::linux::scan::tests::in_a_namespace_of_its_own";

    /// The kernel gives a number again when it is told which was the last: in a pid namespace of
    /// its own, where nobody else takes it in between.
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
        // its creator goes on in the middle of exec, where it has no environment
        while procfs::variable(process.id() as i32, name).is_none() {
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
        let has = |pid, name| procfs::variable(pid, name).is_some();
        let first = sleeper(None, "FIRST");
        let pid = first.id() as i32;
        let found = confirm(pid, |_| has(pid, "FIRST")).expect("there are descriptors");
        assert_eq!(found.map(|(stat, _)| stat.pid), Some(pid), "it is what it seems");

        // it ends after a descriptor of it was opened, and what makes it a member is then read of
        // another process
        let (first, second) = (RefCell::new(Some(first)), RefCell::new(None));
        let found = confirm(pid, |_| {
            end(first.borrow_mut().take().expect("it is asked once"));
            *second.borrow_mut() = Some(sleeper(Some(pid), "SECOND"));
            has(pid, "SECOND")
        });
        let second = second.into_inner().expect("it was asked");
        assert_eq!(second.id() as i32, pid, "the number came round");
        assert!(found.expect("there are descriptors").is_none(), "nobody is both");

        // it has ended before: whoever has its number now is no member
        let found = confirm(pid, |_| has(pid, "FIRST")).expect("there are descriptors");
        assert!(found.is_none(), "a stranger");
        end(second);
    }
}
