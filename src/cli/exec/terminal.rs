//! The terminal that a command shares with this program and its shell.

use std::io;
use std::os::fd::AsFd;

use proctable::driver::linux::{OwnProc, own_proc, set_foreground};

/// The terminal on standard input.
pub(super) struct Terminal {
    /// This process's group; `None` if it has no number in this pid namespace.
    own_group: Option<i32>,
    /// Whether this process began in its foreground.
    given: bool,
    /// Whether it leads its session: then there is no shell above it.
    leads: bool,
}

impl Terminal {
    pub fn new() -> Terminal {
        // getpgrp and getsid give 0 for what is outside of the namespace, which rustix rules out.
        // The last column is of this process's own pid namespace, whichever /proc shows
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| {
            let numbers = status.lines().find_map(|line| line.strip_prefix(name))?;
            numbers.split_whitespace().last()?.parse::<i32>().ok()
        };
        let own_group = number("NSpgid:").filter(|group| *group > 0);
        let leads = number("NSsid:").is_some_and(|session| session as u32 == std::process::id());
        let given = own_group.is_some() && Terminal::foreground() == own_group;
        Terminal { own_group, given, leads }
    }

    /// The group in the foreground; `None` if standard input is no controlling terminal.
    pub fn foreground() -> Option<i32> {
        let group = rustix::termios::tcgetpgrp(io::stdin().as_fd()).ok()?;
        Some(group.as_raw_nonzero().get())
    }

    /// Whether this process is in the foreground.
    pub fn is_ours(&self) -> bool {
        self.own_group.is_some() && Terminal::foreground() == self.own_group
    }

    fn set(group: i32) {
        // a terminal that has hung up: the command will notice
        let _ = set_foreground(io::stdin(), group);
    }

    /// Makes the command's group the foreground group, if it is for this process to say.
    pub fn give(&self, group: i32) {
        if self.is_ours() {
            Terminal::set(group);
        }
    }

    /// Takes the foreground back from the command: when it ran in the background, a shell has it.
    pub fn take(&self, group: i32) {
        if let Some(own) = self.own_group.filter(|_| Terminal::foreground() == Some(group)) {
            Terminal::set(own);
        }
    }

    /// The same after a command that could not be started.
    pub fn take_from_anybody(&self) {
        if let Some(own) = self.own_group.filter(|_| self.given) {
            Terminal::set(own);
        }
    }

    /// Whether there is a shell that sees this process stop, and continues it: an ancestor in this
    /// session whose group is another one, so that this process's group is not an orphaned one.
    pub fn has_shell(&self) -> bool {
        let Some(own) = self.own_group.filter(|_| Terminal::foreground().is_some()) else {
            return false;
        };
        // process 1 cannot stop itself
        if self.leads || std::process::id() == 1 {
            return false;
        }
        let mut place = Place::of("self").filter(|_| has_own_proc());
        while let Some(Place { parent, session, .. }) = place {
            place = Place::of(&parent.to_string());
            match &place {
                Some(above) if above.session != session => return false,
                Some(above) if above.group != own => return true,
                _ => {}
            }
        }
        // one above is out of sight: it is another namespace's, or there is no /proc
        true
    }
}

/// Whether what is mounted at /proc shows this process's own pid namespace: in another one's,
/// numbers are strangers'.
pub(super) fn has_own_proc() -> bool {
    own_proc().is_ok_and(|from| from == OwnProc::Mounted)
}

/// Where a process stands.
struct Place {
    parent: i32,
    group: i32,
    session: i32,
}

impl Place {
    fn of(pid: &str) -> Option<Place> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut numbers = stat.rsplit(") ").next()?.split(' ').skip(1);
        let mut next = || numbers.next()?.parse().ok();
        Some(Place { parent: next()?, group: next()?, session: next()? })
    }
}
