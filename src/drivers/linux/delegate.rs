//! Controllers for trees: the owner's own cgroup may enable them for the cgroups below it. This is
//! done only if it was permitted, since that cgroup belongs to another program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::cgroup::{self, PREFIX, write};
use super::scan::Mark;
use super::scope::Scope;
use crate::sync::Mutex;

/// What a tree may change of its owner's own cgroup (v2), so that it has the controllers of its
/// limits.
///
/// Where that cgroup is not the owner's to change and systemd runs, either of the last two asks it
/// for a scope that is (`Delegate=yes`; with the feature `systemd`). A helper of this library is
/// put into it, and the owner itself with [`Delegate::Move`] alone, where children cannot enter it
/// otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Delegate {
    /// Nothing. The error of a limit that lacks its controller names the command that would help.
    #[default]
    Nothing,
    /// The controllers of the tree's limits are enabled for all cgroups below the owner's
    /// (cgroup.subtree_control). When the last tree of this process that needed them has ended they
    /// are disabled again, unless other cgroups are below then, which may need them.
    Enable,
    /// The same. Besides, where a cgroup that has processes may not do so (EBUSY), the owner moves
    /// into a cgroup of its own below it, and back at the end. It must be alone in its cgroup: no
    /// other process is ever moved. Children outside of trees that the owner creates in between
    /// stay there.
    Move,
}

/// What this process has changed.
struct DelegateState {
    /// The cgroup in which the owner was.
    base: PathBuf,
    /// The one below it into which it has moved.
    leaf: Option<PathBuf>,
    /// The scope of systemd that the base is the cgroup of.
    scope: Option<Scope>,
    /// How many trees need each controller that this process has enabled.
    enabled: BTreeMap<&'static str, usize>,
}

static STATE: Mutex<Option<DelegateState>> = Mutex::new(None);

/// The cgroup below which trees are made: that of the scope, or where the owner was before it
/// moved.
pub(super) fn base(own: PathBuf) -> PathBuf {
    match &*STATE.lock() {
        Some(DelegateState { base, scope: Some(_), .. }) => base.clone(),
        Some(DelegateState { base, leaf: Some(leaf), .. }) if *leaf == own => base.clone(),
        _ => own,
    }
}

/// Controllers that are enabled for a tree, until this is dropped.
#[derive(Debug)]
pub(super) struct Delegation(Vec<&'static str>);

impl Delegation {
    /// Enables those that are not; where that cannot be, in a scope of systemd.
    ///
    /// # Errors
    ///
    /// What kept this process from it. Then nothing is changed.
    pub fn new(how: Delegate, wanted: &[&'static str]) -> io::Result<Delegation> {
        if how == Delegate::Nothing || wanted.is_empty() {
            return Ok(Delegation(Vec::new()));
        }
        let enabled = cgroup::own_directory().and_then(|base| Delegation::below(base, how, wanted));
        enabled.or_else(|error| {
            let with_reason = |no_scope: io::Error| {
                let text = format!("{error}; no scope of systemd: {no_scope}");
                io::Error::new(error.kind(), text)
            };
            Delegation::in_scope(how, wanted).map_err(with_reason)
        })
    }

    /// In a scope that holds a helper, if children of the owner can enter it; else, if the owner
    /// may be moved, in one that holds the owner.
    fn in_scope(how: Delegate, wanted: &[&'static str]) -> io::Result<Delegation> {
        forget_unused();
        let in_use = || io::Error::other("other trees of this process have controllers elsewhere");
        let begin = |scope: Scope| {
            let base = scope.directory.clone();
            let fresh =
                DelegateState { base, leaf: None, scope: Some(scope), enabled: BTreeMap::new() };
            let mut state = STATE.lock();
            if state.is_some() {
                return Err(in_use());
            }
            let base = fresh.base.clone();
            *state = Some(fresh);
            Ok(base)
        };
        if STATE.lock().is_some() {
            return Err(in_use());
        }
        let tried = Scope::with_helper().and_then(begin).and_then(|base| {
            cgroup::try_place(&Mark::new(false).value)?;
            Delegation::below(base, Delegate::Enable, wanted)
        });
        let error = match tried {
            Ok(delegation) => return Ok(delegation),
            Err(error) => error,
        };
        forget_unused();
        if how != Delegate::Move {
            return Err(error);
        }
        let moved = Scope::with_owner().and_then(begin);
        let moved = moved.and_then(|base| Delegation::below(base, how, wanted));
        moved.inspect_err(|_| forget_unused())
    }

    /// In a cgroup that the owner is in, or that is its scope's.
    fn below(base: PathBuf, how: Delegate, wanted: &[&'static str]) -> io::Result<Delegation> {
        let mut state = STATE.lock();
        let _alone = lock(&base)?;
        let state = state.get_or_insert_with(|| DelegateState {
            base: base.clone(),
            leaf: None,
            scope: None,
            enabled: BTreeMap::new(),
        });
        let (there, enabled) = (list(&base, CONTROLLERS)?, list(&base, SUBTREE)?);
        if let Some(missing) = wanted.iter().find(|name| !has(&there, name)) {
            return Err(not_found(&lacks(&base, missing)));
        }
        let (old, new): (Vec<&str>, Vec<_>) = wanted.iter().partition(|name| has(&enabled, name));
        state.enable(how, &new)?;
        // of those that were enabled before, this process has to do with its own alone
        let own = old.into_iter().filter(|name| state.enabled.contains_key(name));
        let claimed: Vec<_> = own.chain(new).collect();
        for name in &claimed {
            *state.enabled.entry(name).or_default() += 1;
        }
        Ok(Delegation(claimed))
    }
}

impl Drop for Delegation {
    fn drop(&mut self) {
        let mut state = STATE.lock();
        let Some(changed) = state.as_mut().filter(|_| !self.0.is_empty()) else { return };
        let mut unused = Vec::new();
        for name in &self.0 {
            let count = changed.enabled.entry(name).or_default();
            *count -= 1;
            if *count == 0 {
                unused.push(*name);
            }
        }
        // no caller is left for an error; what stays enabled remains this process's to disable
        let _ = changed.disable(&unused);
        let over = changed.enabled.is_empty() && changed.leaf.is_none();
        // a helper is waited for without the lock
        let ended = if over { state.take() } else { None };
        drop(state);
        drop(ended);
    }
}

/// Lets a scope go that no tree uses.
fn forget_unused() {
    let mut state = STATE.lock();
    let unused =
        state.as_ref().is_some_and(|state| state.enabled.is_empty() && state.leaf.is_none());
    let ended = if unused { state.take() } else { None };
    drop(state);
    drop(ended);
}

impl DelegateState {
    fn enable(&mut self, how: Delegate, names: &[&'static str]) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let error = match self.set(names, '+') {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let busy = error.raw_os_error() == Some(libc::EBUSY);
        if busy && how == Delegate::Move && self.leaf.is_none() {
            self.move_owner()?;
            return self.set(names, '+').map_err(|_| {
                self.move_back();
                let others = "other processes are in it, which are never moved";
                io::Error::new(error.kind(), format!("{}: {others}", self.base.display()))
            });
        }
        let why = if busy { BUSY } else { "" };
        Err(io::Error::new(error.kind(), format!("{}: {error}{why}", self.base.display())))
    }

    /// cgroups(7): enabled where there are processes, controllers of threads (pids and cpu) would
    /// make this the cgroup of a process's threads, and no process could enter one below it any
    /// more.
    fn is_busy(&self) -> bool {
        // the root has no type, and may do both
        let procs = fs::read_to_string(self.base.join("cgroup.procs"));
        self.base.join("cgroup.type").exists() && procs.is_ok_and(|procs| !procs.is_empty())
    }

    fn set(&self, names: &[&str], sign: char) -> io::Result<()> {
        if sign == '+' && self.is_busy() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let text: Vec<String> = names.iter().map(|name| format!("{sign}{name}")).collect();
        write(&self.base.join(SUBTREE), &text.join(" "))
    }

    /// The owner moves into a cgroup of its own. A sweep removes it if it dies there.
    fn move_owner(&mut self) -> io::Result<()> {
        let leaf = self.base.join(format!("{PREFIX}{}", Mark::new(true).value));
        fs::create_dir(&leaf)?;
        self.leaf = Some(leaf.clone());
        enter(&leaf).inspect_err(|_| self.move_back())
    }

    fn move_back(&mut self) {
        let Some(leaf) = self.leaf.take() else { return };
        let _ = enter(&self.base);
        // children of the owner that are no members may be in it, and stay
        let _ = fs::remove_dir(leaf);
    }

    fn disable(&mut self, names: &[&'static str]) -> io::Result<()> {
        if self.scope.is_some() {
            // it goes with the scope, which no other program uses
            self.enabled.retain(|name, _| !names.contains(name));
            if self.enabled.is_empty() {
                self.move_back();
            }
            return Ok(());
        }
        let _alone = lock(&self.base)?;
        // cgroups of others may have limits by now, which would be gone without a word
        if names.is_empty() || self.has_others()? {
            return Ok(());
        }
        self.set(names, '-')?;
        self.enabled.retain(|name, _| !names.contains(name));
        if self.enabled.is_empty() {
            self.move_back();
        }
        Ok(())
    }

    fn has_others(&self) -> io::Result<bool> {
        let below = fs::read_dir(&self.base)?.flatten();
        let mut directories =
            below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(directories.any(|entry| self.leaf.as_deref() != Some(&*entry.path())))
    }
}

const CONTROLLERS: &str = "cgroup.controllers";
const SUBTREE: &str = "cgroup.subtree_control";
/// cgroups(7), "no internal processes".
const BUSY: &str = " (it has processes: the owner would have to be moved, see Delegate::Move)";

/// This process, with all its threads.
fn enter(directory: &Path) -> io::Result<()> {
    write(&directory.join("cgroup.procs"), "0")
}

/// One process at a time does this: each looks for the cgroups of the others. Any program can hold
/// such a lock, so the wait for it is short.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let (opened, deadline) = (File::open(directory)?, Instant::now() + PATIENCE);
    loop {
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(opened),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => {
                let why = format!("{}: a lock: {error}", directory.display());
                return Err(io::Error::new(io::Error::from(error).kind(), why));
            }
        }
    }
}

fn list(directory: &Path, file: &str) -> io::Result<String> {
    fs::read_to_string(directory.join(file))
}

fn has(list: &str, controller: &str) -> bool {
    list.split_whitespace().any(|name| name == controller)
}

fn not_found(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, why)
}

/// Those of the controllers that [`Delegate::Enable`] would have to enable.
pub(super) fn disabled(controllers: &[&'static str]) -> io::Result<Vec<&'static str>> {
    let base = cgroup::own_directory()?;
    let (there, enabled) = (list(&base, CONTROLLERS)?, list(&base, SUBTREE)?);
    let is_disabled = |name: &&str| has(&there, name) && !has(&enabled, name);
    Ok(controllers.iter().copied().filter(is_disabled).collect())
}

/// Why a cgroup below the owner's has not a controller, and which command would help.
pub(super) fn why_missing(controller: &str) -> String {
    let Ok(base) = cgroup::own_directory() else { return "there is no cgroup".into() };
    match list(&base, CONTROLLERS) {
        Ok(there) if has(&there, controller) => {
            let file = base.join(SUBTREE);
            let command = format!("echo +{controller} > {}", file.display());
            format!(
                "the owner's cgroup does not pass {controller} on: `{command}` would enable it \
                for all cgroups below (permitted by Options::delegate, exec --delegate)"
            )
        }
        _ => lacks(&base, controller),
    }
}

/// A cgroup has not a controller itself: the next one above it that has could pass it on.
fn lacks(base: &Path, controller: &str) -> String {
    let has_it =
        |directory: &&Path| list(directory, CONTROLLERS).is_ok_and(|all| has(&all, controller));
    let Some(above) = base.ancestors().skip(1).find(has_it) else {
        return format!("no cgroup (v2) here has the controller {controller}");
    };
    let manager = if Path::new("/run/systemd/system").exists() {
        let scope = if base.starts_with("/sys/fs/cgroup/user.slice") { " --user" } else { "" };
        format!("; `systemd-run{scope} --scope -p Delegate=yes COMMAND` starts a command with it")
    } else {
        String::new()
    };
    let file = above.join(SUBTREE);
    format!(
        "the owner's cgroup has not the controller {controller}: `echo +{controller} > {}` and so \
         on downwards would give it{manager}",
        file.display()
    )
}
