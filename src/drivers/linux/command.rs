//! What a child executes, and how.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attributes;
use super::cgroup::CgroupJoin;
use super::pty::PtySlave;
use super::redirect::{PreparedFds, Redirections};
use super::spawn_error::{SpawnError, Step};
use crate::abi::{Resource, Rlimit, Signal};

/// Where a standard stream of a child leads.
#[derive(Debug, Default)]
pub enum Stdio {
    /// To where the owner's does.
    #[default]
    Inherit,
    /// Nowhere: /dev/null.
    Null,
    /// To the owner, through a pipe.
    Piped,
    /// To that file.
    File(OwnedFd),
    /// Nowhere: the child has no such descriptor, and its reads and writes fail with EBADF.
    Closed,
}

/// A program to run, with the habits of [`std::process::Command`].
#[derive(Debug)]
#[must_use]
pub struct Command {
    program: OsString,
    pub(super) arg0: Option<OsString>,
    args: Vec<OsString>,
    clear_env: bool,
    env: BTreeMap<OsString, Option<OsString>>,
    cwd: Option<PathBuf>,
    pub(super) stdio: [Stdio; 3],
    /// Which streams the command names: the others are for a pipeline to set.
    pub(super) names_stream: [bool; 3],
    pub(super) redirections: Redirections,
    pub(super) umask: Option<u32>,
    session: bool,
    group: Option<i32>,
    terminal: bool,
    pub(super) pty: Option<PtySlave>,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
    parent_death: Option<Signal>,
    limits: Vec<(Resource, Rlimit)>,
    inherit_mask: bool,
    foreground: bool,
    close_others: bool,
    default_signals: bool,
    listen_fds: bool,
    cgroup: Option<Arc<CgroupJoin>>,
    autokill: bool,
}

impl Command {
    /// A program, by a path or by a name to be looked for in PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            program: program.as_ref().into(),
            arg0: None,
            args: Vec::new(),
            clear_env: false,
            env: BTreeMap::new(),
            cwd: None,
            stdio: Default::default(),
            names_stream: [false; 3],
            redirections: Redirections::default(),
            umask: None,
            session: false,
            group: None,
            terminal: false,
            pty: None,
            uid: None,
            gid: None,
            groups: None,
            parent_death: None,
            limits: Vec::new(),
            inherit_mask: false,
            foreground: false,
            close_others: false,
            default_signals: false,
            listen_fds: false,
            cgroup: None,
            autokill: false,
        }
    }

    /// Another argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Command {
        self.args.push(arg.as_ref().into());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.env.insert(name.as_ref().into(), Some(value.as_ref().into()));
        self
    }

    /// Takes an environment variable away, each of them if there are several of that name.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Command {
        self.env.insert(name.as_ref().into(), None);
        self
    }

    /// Takes all environment variables of the owner away.
    pub fn env_clear(mut self) -> Command {
        self.env.clear();
        self.clear_env = true;
        self
    }

    /// The working directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Command {
        self.cwd = Some(directory.as_ref().into());
        self
    }

    /// Standard input.
    pub fn stdin(mut self, stdio: Stdio) -> Command {
        self.stdio[0] = stdio;
        self.names_stream[0] = true;
        self
    }

    /// Standard output.
    pub fn stdout(mut self, stdio: Stdio) -> Command {
        self.stdio[1] = stdio;
        self.names_stream[1] = true;
        self
    }

    /// Standard error.
    pub fn stderr(mut self, stdio: Stdio) -> Command {
        self.stdio[2] = stdio;
        self.names_stream[2] = true;
        self
    }

    /// A session of its own: setsid(2).
    pub fn session(mut self) -> Command {
        self.session = true;
        self
    }

    /// A process group: 0 is one of its own.
    pub fn group(mut self, group: i32) -> Command {
        self.group = Some(group);
        self
    }

    /// A session of its own with standard input as its controlling terminal.
    pub fn controlling_terminal(mut self) -> Command {
        self.terminal = true;
        self.session()
    }

    /// The user. Where root names no supplementary groups, the child has none: root's own would be
    /// more than the user has.
    pub fn uid(mut self, uid: u32) -> Command {
        self.uid = Some(uid);
        self
    }

    /// The group of the user.
    pub fn gid(mut self, gid: u32) -> Command {
        self.gid = Some(gid);
        self
    }

    /// The supplementary groups.
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Command {
        self.groups = Some(groups.into_iter().collect());
        self
    }

    /// A signal for it when the owner ends: PR_SET_PDEATHSIG. It does not reach the child's own
    /// children, and a program that changes its user loses it.
    pub fn parent_death_signal(mut self, signal: Signal) -> Command {
        self.parent_death = Some(signal);
        self
    }

    /// A limit of its own.
    pub fn limit(mut self, resource: Resource, limit: Rlimit) -> Command {
        self.limits.push((resource, limit));
        self
    }

    /// Begins with the signal mask of the thread that spawns instead of an empty one.
    pub fn inherit_mask(mut self) -> Command {
        self.inherit_mask = true;
        self
    }

    /// Its group is the foreground group of the terminal on its standard input before it runs: one
    /// that reads at once would be stopped otherwise.
    pub fn foreground(mut self) -> Command {
        self.foreground = true;
        self
    }

    /// Only its standard streams are open in it, also if the owner, or the process that started the
    /// owner, has descriptors open without close-on-exec.
    pub fn close_others(mut self) -> Command {
        self.close_others = true;
        self
    }

    /// Each signal has its default action in it, also one that the owner ignores. Without this an
    /// ignored signal stays ignored, as with nohup(1); SIGPIPE, which Rust's runtime ignores, has
    /// its default action always.
    pub fn default_signals(mut self) -> Command {
        self.default_signals = true;
        self
    }

    /// Passes on the sockets that a service manager opened for the owner ([sd_listen_fds(3)]): the
    /// child's `LISTEN_PID` is its own number, whatever the variable is in the owner. The sockets
    /// are descriptors that the child inherits anyway. `LISTEN_PIDFDID`, which names the owner, is
    /// removed.
    ///
    /// [sd_listen_fds(3)]: https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html
    pub fn pass_listen_fds(mut self) -> Command {
        self.listen_fds = true;
        self
    }

    /// The kernel kills it when its descriptor is closed everywhere.
    pub(super) fn autokill(mut self) -> Command {
        self.autokill = true;
        self
    }

    /// The cgroup that it enters.
    pub(super) fn cgroup(mut self, cgroup: Option<Arc<CgroupJoin>>) -> Command {
        self.cgroup = cgroup;
        self
    }

    /// The program.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// What makes an error of the step that failed.
    pub(super) fn failure(&self) -> impl FnOnce((Step, io::Error)) -> SpawnError + use<> {
        let (program, directory) = (self.program.clone(), self.cwd.clone());
        |failed| SpawnError::new(failed, program, directory)
    }

    /// The program and its arguments, for the table.
    pub(super) fn image(&self) -> crate::table::Image {
        let text = |string: &OsString| string.to_string_lossy().into_owned();
        let args = core::iter::once(&self.program).chain(&self.args).map(text).collect();
        crate::table::Image { program: text(&self.program), args, env: Vec::new() }
    }

    /// Everything that the child needs, and the owner's ends of its pipes.
    pub(super) fn prepare(self) -> Result<(Prepared, Pipes), (Step, io::Error)> {
        let mut env = self.environment().map_err(at(Step::Arguments))?;
        let candidates = candidates(&self.program, &env).map_err(at(Step::Arguments))?;
        let arg0 = self.arg0.as_ref().unwrap_or(&self.program);
        let args = core::iter::once(arg0).chain(&self.args);
        let args = args.map(|arg| c_string(arg)).collect::<io::Result<_>>();
        let listen_pid = self.listen_fds.then(|| {
            env.retain(|entry| ![&b"LISTEN_PID"[..], b"LISTEN_PIDFDID"].contains(&name_of(entry)));
            // the child, which alone knows its number, replaces it
            env.push(c"LISTEN_PID=0".into());
            env.len() - 1
        });
        let closed = self.stdio.each_ref().map(|stdio| matches!(stdio, Stdio::Closed));
        let cwd = self.cwd.as_ref().map(|directory| c_string(directory.as_os_str())).transpose();
        self.check_pty().map_err(at(Step::Terminal))?;
        let fds = self.redirections.prepare().map_err(at(Step::Stdio))?;
        let (pipes, mut ends, mut stdio) =
            streams(self.stdio, fds.first_free).map_err(at(Step::Stdio))?;
        let mut terminal = self.terminal.then_some(0);
        if let Some(slave) = self.pty {
            let slave = above(slave.into(), fds.first_free).map_err(at(Step::Stdio))?;
            // not the number of a stream, as the command may name that itself
            terminal = Some(slave.as_raw_fd());
            for (stream, named) in stdio.iter_mut().zip(self.names_stream) {
                if !named {
                    *stream = Some(slave.as_raw_fd());
                }
            }
            ends.push(slave);
        }
        let drops_groups = self.uid.is_some() && attributes::is_root();
        let prepared = Prepared {
            candidates,
            args: args.map_err(at(Step::Arguments))?,
            env,
            listen_pid,
            cwd: cwd.map_err(at(Step::Arguments))?,
            stdio,
            closed,
            _ends: ends,
            fds,
            umask: self.umask,
            session: self.session,
            group: self.group,
            terminal,
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.or(drops_groups.then(Vec::new)),
            parent_death: self.parent_death.map(|signal| signal.number().into()),
            limits: self
                .limits
                .iter()
                .map(|(resource, limit)| raw_limit(*resource, *limit))
                .collect(),
            // here, as it is this thread's, and not the one's that will create the child
            mask: self.inherit_mask.then(super::child::mask),
            foreground: self.foreground,
            close_others: self.close_others,
            default_signals: self.default_signals,
            autokill: self.autokill,
            cgroup: self.cgroup,
            cgroups: Vec::new(),
        };
        Ok((prepared, pipes))
    }

    /// Whether the command can have the pty that it names: a child on a pty leads a session and its
    /// foreground group. The slave gets the user of the child.
    fn check_pty(&self) -> io::Result<()> {
        let Some(slave) = &self.pty else { return Ok(()) };
        let conflict = match self {
            Command { group: Some(_), .. } => "cannot be in another group (Command::group)",
            Command { foreground: true, .. } => {
                "is in the foreground of it, and cannot take the \
                                                 foreground of another (Command::foreground)"
            }
            _ => return self.uid.map_or(Ok(()), |uid| slave.set_owner(uid)),
        };
        let why = format!("a child on a pty leads a session of its own there: it {conflict}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// The child's environment. What the command does not name is passed on unchanged: entries
    /// without a name or `=` too, and several of one name.
    fn environment(&self) -> io::Result<Vec<CString>> {
        let mut env = Vec::new();
        if !self.clear_env {
            env = attributes::environment();
            env.retain(|entry| !self.env.contains_key(OsStr::from_bytes(name_of(entry))));
        }
        for (name, value) in &self.env {
            if let Some(value) = value {
                env.push(variable(name, value)?);
            }
        }
        Ok(env)
    }
}

impl From<&std::process::Command> for Command {
    /// Program, arguments, environment and working directory: what a command of the standard
    /// library tells of itself. Its standard streams and its user are not among it.
    fn from(command: &std::process::Command) -> Command {
        let mut own = Command::new(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            own = match value {
                Some(value) => own.env(name, value),
                None => own.env_remove(name),
            };
        }
        match command.get_current_dir() {
            Some(directory) => own.current_dir(directory),
            None => own,
        }
    }
}

/// The owner's ends of a child's pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    /// Leads to the child's standard input.
    pub stdin: Option<File>,
    /// Comes from its standard output.
    pub stdout: Option<File>,
    /// Comes from its standard error.
    pub stderr: Option<File>,
}

/// What the child works from: complete before it exists, as it cannot allocate.
#[derive(Debug)]
pub(super) struct Prepared {
    pub candidates: Vec<CString>,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    /// The place of LISTEN_PID in `env`, if the child's number is to be there.
    pub listen_pid: Option<usize>,
    pub cwd: Option<CString>,
    pub stdio: [Option<RawFd>; 3],
    /// The streams that the child does not have.
    pub closed: [bool; 3],
    /// What `stdio` names, open until the child has it.
    _ends: Vec<OwnedFd>,
    pub fds: PreparedFds,
    pub umask: Option<u32>,
    pub session: bool,
    pub group: Option<i32>,
    /// The descriptor of what becomes its controlling terminal.
    pub terminal: Option<RawFd>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
    pub parent_death: Option<i32>,
    pub limits: Vec<(u32, libc::rlimit64)>,
    pub mask: Option<libc::sigset_t>,
    pub foreground: bool,
    pub close_others: bool,
    pub default_signals: bool,
    /// It is killed when its descriptor is closed, and leaves no zombie.
    pub autokill: bool,
    pub cgroup: Option<Arc<CgroupJoin>>,
    /// The files through which it enters further cgroups.
    pub cgroups: Vec<OwnedFd>,
}

fn at(step: Step) -> impl Fn(io::Error) -> (Step, io::Error) {
    move |error| (step, error)
}

fn c_string(string: &OsStr) -> io::Result<CString> {
    without_zero(string.as_bytes().into())
}

fn without_zero(bytes: Vec<u8>) -> io::Result<CString> {
    CString::new(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in a string"))
}

/// The name of an entry of the environment. The `=` that ends it is not its first character, as in
/// the standard library. An entry without a name or `=` is all name, and so no variable that a
/// command can name.
fn name_of(entry: &CString) -> &[u8] {
    let bytes = entry.as_bytes();
    let end = bytes.iter().skip(1).position(|byte| *byte == b'=');
    end.map_or(bytes, |end| &bytes[..end + 1])
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    // the equals sign, and the zero at the end
    let mut bytes = Vec::with_capacity(name.len() + value.len() + 2);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    without_zero(bytes)
}

fn raw_limit(resource: Resource, limit: Rlimit) -> (u32, libc::rlimit64) {
    (resource.0, libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard })
}

/// Where a program may be: itself if it has a slash, else each directory of the child's PATH.
fn candidates(program: &OsStr, env: &[CString]) -> io::Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') || program.is_empty() {
        return Ok(vec![c_string(program)?]);
    }
    let path = env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let path = OsStr::from_bytes(path.unwrap_or(b"/bin:/usr/bin"));
    std::env::split_paths(path)
        .map(|directory| c_string(directory.join(program).as_os_str()))
        .collect()
}

type Streams = (Pipes, Vec<OwnedFd>, [Option<RawFd>; 3]);

/// The child's streams. They are made with close-on-exec: what the child gets are copies.
fn streams(wanted: [Stdio; 3], first_free: RawFd) -> io::Result<Streams> {
    let (mut pipes, mut ends, mut numbers) = (Pipes::default(), Vec::new(), [None; 3]);
    for (number, stdio) in wanted.into_iter().enumerate() {
        let end: OwnedFd = match stdio {
            Stdio::Inherit | Stdio::Closed => continue,
            Stdio::Null => File::options().read(true).write(true).open("/dev/null")?.into(),
            Stdio::File(fd) => fd,
            Stdio::Piped => {
                let (reader, writer) = io::pipe()?;
                let (own, theirs): (OwnedFd, OwnedFd) = match number {
                    0 => (writer.into(), reader.into()),
                    _ => (reader.into(), writer.into()),
                };
                let place = [&mut pipes.stdin, &mut pipes.stdout, &mut pipes.stderr];
                if let Some(place) = place.into_iter().nth(number) {
                    *place = Some(own.into());
                }
                theirs
            }
        };
        let end = above(end, first_free)?;
        numbers[number] = Some(end.as_raw_fd());
        ends.push(end);
    }
    Ok((pipes, ends, numbers))
}

/// A descriptor that no copy onto a number below `first_free` can overwrite, and that is not that
/// number itself, as it would be closed by exec.
pub(super) fn above(fd: OwnedFd, first_free: RawFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= first_free {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, first_free)?)
}
