//! The terminal that a command shares with this program and its shell.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use proctable::drivers::linux::{
    OwnProc, ProcessTree, leads_session, own_proc, process_group, set_foreground,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// Where a process is on a terminal, with regard to job control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JobPlace {
    Foreground,
    /// The kernel refuses reads, and changes of the modes.
    Background,
    /// It is not the controlling terminal of the process, or no terminal: the kernel refuses
    /// nothing.
    NotControlling,
}

/// The controlling terminal.
pub(super) struct Terminal {
    /// `None` if there is none.
    file: Option<OwnedFd>,
    /// This process's group; `None` if it has no number in this pid namespace.
    own_group: Option<i32>,
    /// Whether this process was in the foreground when it began, or was continued last.
    is_given: bool,
    /// Whether it leads its session: then there is no shell above it.
    leads: bool,
    /// The modes that the terminal had when this process came into its foreground.
    modes: Option<Termios>,
}

impl Terminal {
    pub fn new() -> Terminal {
        let own_group = process_group(0).ok().filter(|group| *group > 0);
        let mut terminal = Terminal {
            file: open(),
            own_group,
            is_given: false,
            leads: leads_session(),
            modes: None,
        };
        terminal.note_foreground();
        terminal
    }

    /// Whether this process has a controlling terminal.
    pub fn is_there(&self) -> bool {
        self.file.is_some()
    }

    pub fn leads_session(&self) -> bool {
        self.leads
    }

    /// Whether this process leads its group, as the first process of a shell's job does.
    pub fn leads_group(&self) -> bool {
        self.own_group == i32::try_from(std::process::id()).ok()
    }

    /// This process has just begun or was continued: a shell has put it into the foreground before,
    /// or into the background.
    pub fn note_foreground(&mut self) {
        self.is_given = self.is_ours();
        if self.is_given && self.modes.is_none() {
            self.modes = self.file.as_ref().and_then(|file| tcgetattr(file).ok());
        }
    }

    /// The group in the foreground; `None` if there is no terminal, and for a group of another pid
    /// namespace.
    pub fn foreground(&self) -> Option<i32> {
        let group = tcgetpgrp(self.file.as_ref()?).ok()?;
        Some(group.as_raw_nonzero().get())
    }

    /// Whether this process is in the foreground.
    pub fn is_ours(&self) -> bool {
        self.own_group.is_some() && self.foreground() == self.own_group
    }

    /// Where this process is on the terminal on standard input. It needs no handle: also a drop can
    /// ask.
    pub fn place_on_stdin() -> JobPlace {
        match tcgetpgrp(io::stdin()) {
            Ok(group) if process_group(0).ok() == Some(group.as_raw_nonzero().get()) => {
                JobPlace::Foreground
            }
            Ok(_) => JobPlace::Background,
            // the group has no number in this pid namespace. A read of nothing fails where a read
            // would be refused: SIGTTIN is blocked, so that it stops nothing
            Err(Errno::OPNOTSUPP) => match rustix::io::read(io::stdin(), &mut [0u8; 0]) {
                Err(Errno::IO) => JobPlace::Background,
                _ => JobPlace::Foreground,
            },
            Err(_) => JobPlace::NotControlling,
        }
    }

    /// Whether this process is in the background of that terminal.
    pub fn is_background_of_stdin() -> bool {
        Terminal::place_on_stdin() == JobPlace::Background
    }

    fn set(&self, group: i32) {
        if let Some(file) = &self.file {
            // a terminal that has hung up: the command will notice
            let _ = set_foreground(file, group);
        }
    }

    /// Makes the command's group the foreground group, if it is for this process to say.
    pub fn give(&self, group: i32) {
        if self.is_ours() {
            self.set(group);
        }
    }

    /// Takes the foreground back from the command: when it ran in the background, a shell has it.
    pub fn take(&self, group: i32) {
        if let Some(own) = self.own_group.filter(|_| self.foreground() == Some(group)) {
            self.set(own);
        }
    }

    /// The group in the foreground, if that was this process's before and has a member of the tree.
    pub fn foreground_of_tree(&self, tree: &ProcessTree) -> Option<i32> {
        let group = self.foreground().filter(|_| self.is_given && !self.is_ours())?;
        let members = tree.members().ok()?;
        let is_in = |pid: i32| process_group(pid).is_ok_and(|its| its == group);
        members.iter().any(|member| is_in(member.pid)).then_some(group)
    }

    /// Takes the foreground back if it was this process's, and is now that of a group which has a
    /// member of the tree, or which is gone: a shell's group, and that of another job, keep it.
    pub fn take_from_tree(&self, tree: &ProcessTree) {
        let foreground = self.foreground().filter(|_| self.is_given && !self.is_ours());
        let gone = foreground.filter(|group| is_gone(*group));
        if let Some(group) = gone.or_else(|| self.foreground_of_tree(tree)) {
            self.take(group);
        }
    }

    /// The same after a command that could not be started.
    pub fn take_from_any_group(&self) {
        if let Some(own) = self.own_group.filter(|_| self.is_given) {
            self.set(own);
        }
    }

    /// Restores the modes that the terminal had, as a shell does after a job that died by a signal:
    /// the command had no time for that. A shell that has the terminal by now sets its own.
    pub fn restore_modes(&self) {
        if let (Some(file), Some(modes), true) = (&self.file, &self.modes, self.is_ours()) {
            // without waiting for its output, which may be stopped (^S)
            let _ = tcsetattr(file, OptionalActions::Now, modes);
        }
    }

    /// Whether there is a shell that sees this process stop, and continues it: an ancestor in this
    /// session whose group is another one, so that this process's group is not an orphaned one.
    pub fn has_shell(&self) -> bool {
        let Some(own) = self.own_group.filter(|_| self.foreground().is_some()) else {
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

/// The controlling terminal, by its own name or on a standard stream where there is no /dev.
fn open() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if let Ok(file) = rustix::fs::open("/dev/tty", flags, Mode::empty()) {
        return Some(file);
    }
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), error.as_fd(), output.as_fd()];
    let stream = streams.into_iter().find(|stream| tcgetpgrp(stream).is_ok())?;
    stream.try_clone_to_owned().ok()
}

/// Whether no process of a group lives. The terminal keeps its number.
fn is_gone(group: i32) -> bool {
    let Some(pid) = Pid::from_raw(group) else { return false };
    match test_kill_process_group(pid) {
        Err(error) => error == Errno::SRCH,
        // zombies, whose parents have not waited for them yet
        Ok(()) => {
            let directories = std::fs::read_dir("/proc").ok().filter(|_| has_own_proc());
            let names =
                directories.map(|directories| directories.flatten().map(|entry| entry.file_name()));
            names.is_some_and(|mut names| {
                !names.any(|name| {
                    let place = name.to_str().and_then(Place::of);
                    place.is_some_and(|place| place.group == group && !"ZX".contains(place.state))
                })
            })
        }
    }
}

/// Whether what is mounted at /proc shows this process's own pid namespace: in another one, numbers
/// refer to unrelated processes.
pub(super) fn has_own_proc() -> bool {
    own_proc().is_ok_and(|from| from == OwnProc::Mounted)
}

/// Whether a process is a zombie or gone, where /proc is that of this pid namespace.
pub(super) fn has_ended(pid: i32) -> bool {
    Place::of(&pid.to_string()).is_none_or(|place| "ZX".contains(place.state))
}

/// Where a process stands.
struct Place {
    /// The letter of proc_pid_stat(5).
    state: char,
    parent: i32,
    group: i32,
    session: i32,
}

impl Place {
    fn of(pid: &str) -> Option<Place> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut words = stat.rsplit(") ").next()?.split(' ');
        let state = words.next()?.chars().next()?;
        let mut next = || words.next()?.parse().ok();
        Some(Place { state, parent: next()?, group: next()?, session: next()? })
    }
}
