//! A reaper of orphans, for owners that are process 1 or a subreaper.
//!
//! A process that loses its parent becomes a child of this process, and a zombie for good if no
//! code waits for it. But some zombies are children of other libraries, which wait for them at
//! their time. The kernel does not say which is which: so a zombie is reaped only if there is a
//! proof that this process has not created it, or the owner has said that it notes the children
//! that it creates.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::orphans::{Creation, Ownership, SubreaperGuard, ownership_of};
use super::pidfd;
use super::procfs::{self, Proc};
use super::watch::Watch;
use super::zombies::{self, Any};
use crate::sync::{Mutex, Parker, spawn};

/// How often it is looked while there is a zombie that is not to be reaped: it may hide others from
/// a wait for any child. Also how often children are looked for while there is none.
const LOOK: Duration = Duration::from_millis(10);

/// How often it is looked while it is not known yet whose zombie it is.
const GLANCE: Duration = Duration::from_millis(2);

/// The largest number that Linux gives to a process.
const NUMBERS: i32 = 4_194_304;

/// What becomes of a zombie of which nothing proves that this process has not created it.
#[non_exhaustive]
pub enum Unproved {
    /// It stays.
    Leave,
    /// It is reaped, unless it was noted by [`Reaper::creating`], is being created, or is a child
    /// of a [`ProcessTree`](super::ProcessTree): the owner notes every child that its code waits
    /// for.
    Reap,
    /// The owner says whether it is reaped. A thread of the reaper asks, every 10 ms as long as the
    /// answer is no, and never about the children that [`Unproved::Reap`] would leave.
    Ask(Box<dyn Fn(&Zombie) -> bool + Send + Sync>),
}

impl std::fmt::Debug for Unproved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unproved::Leave => "Leave",
            Unproved::Reap => "Reap",
            Unproved::Ask(_) => "Ask",
        })
    }
}

/// A child of this process that has ended and is not reaped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zombie {
    /// Its number.
    pub pid: i32,
    /// Its session; 0 for one that this pid namespace does not see.
    pub session: i32,
    /// Its name, at most 15 characters; empty where /proc does not tell.
    pub command: String,
    /// When it started, in clock ticks since boot; `None` where /proc does not tell.
    pub started: Option<u64>,
}

/// Reaps the orphans that become children of this process, while it is there.
///
/// It is for a process 1, and makes any other one a subreaper (PR_SET_CHILD_SUBREAPER) as long as
/// it lives. [`std::process::Child`], `tokio::process::Child`, [`ProcessTree`](super::ProcessTree)
/// and others wait for their own children beside it, whenever they like. There is no handler for
/// SIGCHLD. An orphan is reaped at once, or, while a zombie is left alone, within 10 ms; that needs
/// a thread, and costs
/// nothing while there are children and none of them ends.
///
/// # Which zombies are reaped
///
/// Proved to be no child that this process has created, and reaped always:
///
/// - A member of a [`ProcessTree`](super::ProcessTree) (by its cgroup or its mark) that the tree
///   has not created. The tree counts its CPU time.
/// - One that does not lead its session, if that is not and never was this process's: a session is
///   inherited, and left only for one's own ([setsid(2)]). Examples are a daemon that forked again
///   after its setsid, and all that a shell on another terminal leaves.
///
/// Never reaped: a child of a tree, or one that [`Reaper::creating`] noted; a process that began
/// after the start of a creation in progress, until that is over; a process that a tracer waits
/// for.
///
/// In doubt, and left to [`Unproved`]: all others. These are orphans in this process's own session,
/// and orphans that lead a session: the kernel shows both as it shows a child of this process.
///
/// The one exception that is known: a process in another session that creates a child *for* this
/// process (CLONE_PARENT). That one counts as an orphan.
///
/// A wait for any child (`waitpid(-1)`) takes orphans away, as it does every child. If this process
/// ignores SIGCHLD, the kernel reaps all children, orphans included, and the reaper has nothing to
/// do.
///
/// # Where something is missing
///
/// Without a /proc of this pid namespace, the reaper finds zombies after one that stays by trying
/// numbers, up to the largest one seen: process 1 should have its reaper early then. For a process
/// that leads its session the session proves nothing, as the process may have had children before
/// it was the leader. Without pidfds a zombie is reaped by its number.
///
/// ```
/// use std::process::Command;
/// use proctable::drivers::linux::{Unproved, Reaper};
///
/// let reaper = Reaper::new(Unproved::Reap)?;
///
/// // a child that is waited for is noted before it can count as an orphan
/// let creating = reaper.creating();
/// let mut child = Command::new("sh").args(["-c", "(sleep 0.01 &) ; exit 3"]).spawn()?;
/// creating.created(child.id());
///
/// assert_eq!(child.wait()?.code(), Some(3));
/// while reaper.reaped() == 0 {
///     std::thread::yield_now(); // the sleep is reaped, too
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// [setsid(2)]: https://man7.org/linux/man-pages/man2/setsid.2.html
#[derive(Debug)]
pub struct Reaper {
    shared: Arc<ReaperInner>,
    _subreaper: SubreaperGuard,
}

/// Children that code of this process waits for.
struct KnownChildren {
    /// By their numbers, with the times of their starts where those are known.
    children: BTreeMap<i32, Option<u64>>,
    /// How many there may be before the ended ones are removed.
    room: usize,
}

const ROOM: usize = 64;

/// Those of all reapers of this process.
static NOTED: Mutex<KnownChildren> =
    Mutex::new(KnownChildren { children: BTreeMap::new(), room: ROOM });

/// A child is being created that code of this process will wait for: until this is dropped, no
/// process that starts is reaped unless it is proved to be an orphan.
#[derive(Debug)]
#[must_use = "a child that is not noted may be taken for an orphan"]
pub struct Creating {
    creation: Creation,
}

impl Creating {
    /// The child has this number, and is left to the code that waits for it. Call this before that
    /// code can wait.
    pub fn created(self, pid: u32) {
        if let Ok(pid) = i32::try_from(pid) {
            let started = Proc::own().ok().and_then(|proc| proc.stat(pid));
            note(pid, started.map(|stat| stat.started));
        }
        // from now on its number identifies it
        drop(self.creation);
    }
}

#[derive(Debug)]
struct ReaperInner {
    doubt: Unproved,
    /// In clock ticks since boot.
    begun: u64,
    /// The session in which this process was when the reaper began.
    session: Option<i32>,
    led: bool,
    over: AtomicBool,
    parker: Parker,
    reaped: AtomicU64,
    /// The largest number that was seen.
    highest: AtomicI32,
    last: AtomicI32,
}

/// What became of a zombie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Reaped,
    /// It is none any more.
    Gone,
    /// Code of this process waits for it, or may wait for it.
    Left,
    /// A creation is under way that may be its: it will be known soon.
    Unknown,
}

impl Reaper {
    /// From now on orphans are reaped.
    ///
    /// # Errors
    ///
    /// EAGAIN if there can be no thread; what PR_SET_CHILD_SUBREAPER gave.
    pub fn new(doubt: Unproved) -> io::Result<Reaper> {
        let subreaper = SubreaperGuard::new()?;
        let (own, session) = (std::process::id() as i32, zombies::session(0));
        let shared = Arc::new(ReaperInner {
            doubt,
            begun: procfs::now(),
            session,
            led: session == Some(own),
            over: AtomicBool::new(false),
            parker: Parker::default(),
            reaped: AtomicU64::new(0),
            highest: AtomicI32::new(if own == 1 { own } else { NUMBERS }),
            last: AtomicI32::new(own),
        });
        let weak = Arc::downgrade(&shared);
        spawn("proctable-reap", move || run(&weak))?;
        Ok(Reaper { shared, _subreaper: subreaper })
    }

    /// Code of this process is about to create a child that it will wait for. Keep the result no
    /// longer than the creation takes: processes that begin in between stay zombies if they are in
    /// doubt.
    pub fn creating(&self) -> Creating {
        Creating { creation: Creation::begin() }
    }

    /// How many it has reaped.
    pub fn reaped(&self) -> u64 {
        self.shared.reaped.load(Ordering::Relaxed)
    }
}

impl Drop for Reaper {
    /// No process is reaped any more. The thread ends with the next end of a child if it sleeps.
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.parker.unpark();
    }
}

fn run(shared: &Weak<ReaperInner>) {
    // what is in front of others, and so hides them from a wait for any child
    let mut first = Fate::Gone;
    loop {
        let is_hiding = first >= Fate::Left;
        // a thread that sleeps in the kernel keeps nothing: it cannot be woken
        let any = if is_hiding { Ok(Any::Alive) } else { zombies::any(true) };
        let Some(shared) = shared.upgrade().filter(|shared| !shared.is_over()) else { return };
        match any {
            // a signal of the owner's
            Err(_) => {}
            Ok(Any::Zombie(pid)) => first = shared.see_to(pid),
            Ok(Any::None) => shared.sleep(LOOK),
            Ok(Any::Alive) => {
                let begin = Instant::now();
                first = shared.scan_higher_pids();
                // where a look is dear it must not be everything that is done
                match first {
                    Fate::Left => shared.sleep(LOOK.max(begin.elapsed())),
                    Fate::Unknown => shared.sleep(GLANCE.max(begin.elapsed())),
                    Fate::Reaped | Fate::Gone => {}
                }
            }
        }
    }
}

impl ReaperInner {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        self.parker.park(Some(Instant::now() + time));
    }

    /// Sees to all zombies, also to those that a wait for any child does not come to. What became
    /// of the one that is the least clear.
    fn scan_higher_pids(&self) -> Fate {
        let mut least = Fate::Gone;
        let mut see = |pid| {
            if zombies::is_zombie(pid) == Some(true) {
                least = least.max(self.see_to(pid));
            }
        };
        match Proc::own().ok().map(|proc| proc.children()) {
            Some(Ok(children)) => children.into_iter().for_each(&mut see),
            _ => (1..=self.highest_number()).for_each(&mut see),
        }
        least
    }

    /// No process has a larger number. They are given in ascending order until there is none left.
    fn highest_number(&self) -> i32 {
        let latest = std::thread::Builder::new().spawn(zombies::own_thread);
        let latest = latest.ok().and_then(|thread| thread.join().ok()).unwrap_or(NUMBERS);
        if latest < self.last.swap(latest, Ordering::Relaxed) {
            self.highest.store(NUMBERS, Ordering::Relaxed);
        }
        self.highest.fetch_max(latest, Ordering::Relaxed).max(latest)
    }

    /// Reaps a zombie, or leaves it.
    fn see_to(&self, pid: i32) -> Fate {
        // everything that is asked about the number below is about the process of the descriptor,
        // as long as that is not reaped
        let pidfd = pidfd::open(pid).ok();
        if zombies::is_zombie(pid) != Some(true) {
            return Fate::Gone;
        }
        let proc = Proc::own().ok();
        let stat = proc.as_ref().and_then(|proc| proc.stat(pid));
        let zombie = Zombie {
            pid,
            session: zombies::session(pid).unwrap_or(pid),
            started: stat.as_ref().map(|stat| stat.started),
            command: stat.map(|stat| stat.command).unwrap_or_default(),
        };
        // of one whose start is not known it may have been just now
        let started = zombie.started.unwrap_or(u64::MAX);
        // first: a child that is created now may be in the lists a moment later, and an older one
        // is
        let creating = Creation::may_be(started);
        if is_noted(pid, zombie.started) {
            return Fate::Left;
        }
        let whose = ownership_of(proc.as_ref(), pid, started);
        if pidfd.as_ref().is_some_and(|pidfd| !pidfd::exists(pidfd)) {
            return Fate::Gone;
        }
        match whose {
            Ownership::Own => Fate::Left,
            Ownership::Orphan(_) if creating => Fate::Unknown,
            Ownership::Orphan(tree) => {
                match pidfd {
                    Some(pidfd) => tree.reap_orphan(pid, pidfd),
                    None => drop(zombies::reap(pid)),
                }
                self.count()
            }
            Ownership::Adopted(real) => {
                // what it shows goes with it
                real.ended();
                self.reap(pid, pidfd.as_ref())
            }
            Ownership::Unowned if self.is_proved(&zombie) => self.reap(pid, pidfd.as_ref()),
            Ownership::Unowned if creating => Fate::Unknown,
            Ownership::Unowned if !self.is_given(&zombie) => Fate::Left,
            Ownership::Unowned => self.reap(pid, pidfd.as_ref()),
        }
    }

    /// Whether this process cannot have created it: it inherited a session that this one never had.
    fn is_proved(&self, zombie: &Zombie) -> bool {
        let Some(first) = self.session else { return false };
        let inherited = zombie.session != zombie.pid;
        let ours = [Some(first), zombies::session(0)].contains(&Some(zombie.session));
        // a process that leads its session has had another session before, which the kernel does
        // not show
        let known = !self.led || zombie.started.is_some_and(|started| started > self.begun);
        inherited && !ours && known
    }

    /// Whether the owner wants one reaped that is in doubt.
    fn is_given(&self, zombie: &Zombie) -> bool {
        match &self.doubt {
            Unproved::Leave => false,
            Unproved::Reap => true,
            Unproved::Ask(ask) => ask(zombie),
        }
    }

    fn reap(&self, pid: i32, pidfd: Option<&OwnedFd>) -> Fate {
        match pidfd {
            Some(pidfd) if pidfd::reap(pid, pidfd, libc::WNOHANG).unwrap_or(false) => self.count(),
            None if zombies::reap(pid) => self.count(),
            _ => Fate::Gone,
        }
    }

    fn count(&self) -> Fate {
        self.reaped.fetch_add(1, Ordering::Relaxed);
        Fate::Reaped
    }
}

/// Notes a child. Children that have been waited for since are removed whenever there are twice as
/// many as were left the last time.
fn note(pid: i32, started: Option<u64>) {
    let mut noted = NOTED.lock();
    noted.children.insert(pid, started);
    if noted.children.len() > noted.room {
        noted.children.retain(|pid, _| zombies::is_zombie(*pid).is_some());
        noted.room = ROOM.max(2 * noted.children.len());
    }
}

/// Whether code of this process waits for it. Removes the children before it that have been waited
/// for.
fn is_noted(pid: i32, started: Option<u64>) -> bool {
    let mut noted = NOTED.lock();
    match noted.children.get(&pid) {
        None => false,
        Some(known) if known.is_none() || started.is_none() || *known == started => true,
        // the number is another one's by now
        Some(_) => {
            noted.children.remove(&pid);
            false
        }
    }
}
