//! What is available here, and why the rest is not.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::cgroup::{self, Cgroup};
use super::command::Command;
use super::guardian::Guardian;
use super::limit::{self, Enforcer, Limit};
use super::procfs::{OwnProc, Proc};
use super::scan::Mark;
use super::spawn_error::Step;
use super::{attributes, child, delegate, pidfd, scan};

/// Something that is there, or the reason why it is not, in words.
pub type Available<T = ()> = Result<T, String>;

/// What this process can have for its trees: see [`preflight`]. Prints as a few lines.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Preflight {
    /// The cgroup (v2) in which trees get cgroups of their own.
    pub cgroup: Available<PathBuf>,
    /// Where processes are looked for that are in no cgroup, and what members are called: a /proc
    /// that shows the pid namespace of this process.
    pub proc: Available<OwnProc>,
    /// Whether that shows the processes of other users: hidepid.
    pub others: Available,
    /// What trees are kept together by: [`ProcessTree::mechanism`](super::ProcessTree::mechanism).
    /// Without a cgroup and without a look through /proc it is the reason why only direct children
    /// are reached.
    pub descendants: Available,
    /// Signals for the process groups of children by their descriptors (Linux 6.9), where
    /// descendants cannot be looked for.
    pub groups: Available,
    /// cgroup.kill (Linux 5.14): the kernel kills all members of a cgroup at once. Before, the
    /// members are frozen, and each is killed by a descriptor; there is no guardian then.
    pub kill: Available,
    /// cgroup.freeze (Linux 5.2): suspending that cannot be seen.
    pub freeze: Available,
    /// Children are created in their cgroup: clone3 with CLONE_INTO_CGROUP (Linux 5.7). Without,
    /// they move into it before they execute anything.
    pub birth: Available,
    /// What would enforce [`Limits::memory`](super::Limits::memory),
    /// [`Limits::processes`](super::Limits::processes) and [`Limits::cpu`](super::Limits::cpu), in
    /// this order; rlimits only with
    /// [`Options::weaker_limits`](super::Options::weaker_limits).
    pub limits: [(Limit, Available<Enforcer>); 3],
    /// The controllers of limits that [`Delegate::Enable`](super::Delegate::Enable) would have to
    /// enable in the owner's own cgroup.
    pub disabled: Available<Vec<&'static str>>,
    /// [`Options::guarded`](super::Options::guarded).
    pub guardian: Available,
    /// CLONE_PIDFD_AUTOKILL (Linux 7.1): the kernel kills direct children when their owner dies.
    /// See [`Options::kill_on_owner_death`](super::Options::kill_on_owner_death), which has other
    /// ways where this is missing.
    pub autokill: Available,
    /// Descriptors of processes (Linux 5.4): without pidfd_send_signal(2) there are no trees, and
    /// without pidfd_open(2) only cgroup.kill reaches others than direct children.
    pub pidfds: Available,
    /// The status of a process that has another parent: PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux
    /// 6.15).
    pub ends_of_others: Available,
    /// PR_SET_CHILD_SUBREAPER (Linux 3.4).
    pub subreaper: Available,
}

/// Tells what trees of this process can have here, by trying it.
///
/// It makes and removes a cgroup in each hierarchy concerned, and starts and ends a child and a
/// guardian; nothing of that is left. It takes a few milliseconds.
///
/// ```
/// println!("{}", proctable::drivers::linux::preflight());
/// ```
pub fn preflight() -> Preflight {
    let mark = Mark::new(false);
    let directory = words(Cgroup::make(&mark.value));
    let file = |name| {
        let directory = directory.as_ref().map_err(none)?;
        words(cgroup::open(directory, name).map(drop))
    };
    let (kill, freeze) = (file("cgroup.kill"), file("cgroup.freeze"));
    let cgroup = directory.and_then(|directory| words(Cgroup::check(directory)));
    let entry = cgroup.as_ref().map_err(none).and_then(|cgroup| words(cgroup.try_entry()));
    // as a tree would do
    let cgroup = match (cgroup, &entry) {
        (Ok(cgroup), Err(why)) => {
            let _ = cgroup.remove();
            Err(why.clone())
        }
        (cgroup, _) => cgroup,
    };
    let proc = words(Proc::own());
    let found = Preflight {
        cgroup: match &cgroup {
            Ok(cgroup) => Ok(cgroup.directory().parent().unwrap_or(cgroup.directory()).into()),
            Err(why) => Err(why.clone()),
        },
        guardian: cgroup
            .as_ref()
            .map_err(none)
            .and_then(|_| kill.clone())
            .and_then(|()| try_guardian()),
        kill,
        freeze,
        birth: entry.and_then(|spawned| match spawned {
            true => Ok(()),
            false => Err("clone3 cannot do it here, or a filter forbids it".into()),
        }),
        limits: Limit::ALL.map(|limit| (limit, enforcer(limit, &mark, &cgroup))),
        disabled: words(delegate::disabled(&Limit::ALL.map(Limit::controller))),
        autokill: words(child::try_autokill()),
        proc: proc.as_ref().map(|proc| proc.from).map_err(Clone::clone),
        others: proc.as_ref().map_err(Clone::clone).and_then(|proc| match proc.hides() {
            true => Err("they are hidden from this user (hidepid)".into()),
            false => Ok(()),
        }),
        descendants: cgroup.as_ref().map(drop).or_else(|_| words(scan::try_scan())),
        groups: words(pidfd::can_send_to_groups()),
        pidfds: words(pidfd::can_send().and_then(|()| pidfd::can_open())),
        ends_of_others: try_ends(),
        subreaper: words(attributes::is_subreaper().map(drop)),
    };
    if let Ok(cgroup) = cgroup {
        // it has no members: the child has been reaped
        let _ = cgroup.remove();
    }
    found
}

fn words<T>(result: io::Result<T>) -> Available<T> {
    result.map_err(|error| error.to_string())
}

fn none(why: &String) -> String {
    format!("no cgroup: {why}")
}

/// How a child ended that is reaped: it ends at once, as a directory cannot be executed.
fn try_ends() -> Available {
    let failed = |(step, error): (Step, io::Error)| format!("{step:?}: {error}");
    let (prepared, _) = Command::new("/").env_clear().prepare().map_err(failed)?;
    let trial = words(child::try_child(&prepared, None))?;
    let status = words(pidfd::exit_status(&trial.pidfd))?;
    status.map(drop).ok_or_else(|| "the kernel is older than Linux 6.15".into())
}

/// The best that there is for a limit.
fn enforcer(limit: Limit, mark: &Mark, cgroup: &Available<Cgroup>) -> Available<Enforcer> {
    let has = |cgroup| words(limit::has_v2(cgroup, limit));
    let no_v2 = match cgroup.as_ref().map_err(none).and_then(has) {
        Ok(()) => return Ok(Enforcer::CgroupV2),
        Err(why) => why,
    };
    let Err(no_v1) = limit::try_v1(limit, &mark.value) else { return Ok(Enforcer::CgroupV1) };
    limit::try_rlimit(limit).map_err(|why| format!("v2: {no_v2}; v1: {no_v1}; {why}"))
}

fn try_guardian() -> Available {
    let failed = |(step, error): (Step, io::Error)| format!("{step:?}: {error}");
    Guardian::start(&[]).map(Guardian::dismiss).map_err(failed)
}

fn line<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    found: &Available<T>,
    how: impl Fn(&T) -> String,
) -> fmt::Result {
    match found {
        Ok(found) => writeln!(f, "{what}: {}", how(found)),
        Err(why) => writeln!(f, "{what}: no ({why})"),
    }
}

impl fmt::Display for Preflight {
    /// A line for each, with the reason for what is not there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |(): &()| "yes".to_string();
        line(f, "cgroup", &self.cgroup, |directory| format!("below {}", directory.display()))?;
        line(f, "own /proc", &self.proc, |from| match from {
            OwnProc::Mounted => "yes".into(),
            OwnProc::Detached => "yes, mounted aside".into(),
        })?;
        line(f, "processes of others in /proc", &self.others, yes)?;
        line(f, "descendants", &self.descendants, yes)?;
        line(f, "signals for groups", &self.groups, yes)?;
        line(f, "cgroup.kill", &self.kill, yes)?;
        line(f, "cgroup.freeze", &self.freeze, yes)?;
        line(f, "birth in a cgroup", &self.birth, yes)?;
        for (limit, by) in &self.limits {
            line(f, &format!("limit of {limit}"), by, ToString::to_string)?;
        }
        line(f, "controllers to delegate", &self.disabled, |names| match names.is_empty() {
            true => "none".into(),
            false => names.join(" "),
        })?;
        line(f, "guardian", &self.guardian, yes)?;
        line(f, "kill at the owner's death by the kernel", &self.autokill, yes)?;
        line(f, "pidfds", &self.pidfds, yes)?;
        line(f, "ends of others' children", &self.ends_of_others, yes)?;
        line(f, "subreaper", &self.subreaper, yes)
    }
}
