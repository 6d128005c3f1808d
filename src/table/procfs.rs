//! The files of proc(5) for the processes of a table.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;

use super::commit::TableState;
use super::registry::{Image, ProcessEntry};
use super::{ProcessTable, usage::ProcessUsage};
use crate::abi::{Errno, Pid, SigSet, Time, WaitStatus};
use crate::kernel::{ProcStatus, RunState};

/// The files of proc(5) for the processes of a table: what `ps`, `top` and `pgrep` read. A runtime
/// that has a file system for its guests serves them below /proc.
///
/// Paths are relative to the mount point. There are the directories of processes, as `42`, of their
/// threads, as `42/task` and `42/task/43`, in each of them the files `stat`, `status`, `cmdline`,
/// `environ` and `comm`, and the symbolic link `cwd`. Each read is of one moment. The caller is
/// root, who may read all of them.
///
/// The fields are those of Linux 6.18 on x86-64, byte for byte. A field that the model does not
/// have is the one of a task without memory map, files and groups on a machine with one CPU:
///
/// - `stat`: 0 for addresses, sizes, the CPU and the scheduling policy; nice 0 with priority 20. Of
///   the flags, there are PF_EXITING, PF_POSTCOREDUMP, PF_FORKNOEXEC, PF_DUMPCORE, PF_SIGNALED,
///   PF_NOFREEZE and PF_RANDOMIZE.
/// - `status`: no line of the memory (`VmPeak` to `untag_mask`); `Gid` and `FDSize` are 0 and
///   `Groups` is empty; root has all capabilities; `Speculation_Store_Bypass` is unknown and
///   `SpeculationIndirectBranch` unsupported.
/// - CPU times, page faults and context switches are those that drivers report
///   ([`Process::report_usage`](super::Process::report_usage)); those of single threads are 0 in a
///   process with several threads. The start time is since time 0 of the table's
///   [`Clock`](super::Clock), in ticks of 10 ms.
///
/// ```
/// use proctable::table::{Image, ProcessTable, Spawn};
///
/// let table = ProcessTable::new();
/// let image = Image { args: vec!["sleep".into(), "9".into()], ..Image::new("/bin/sleep") };
/// table.spawn(Spawn::new(image).own_group())?;
/// let proc = table.procfs();
/// assert_eq!(proc.read_dir("")?, ["1", "2"]);
/// assert_eq!(proc.read("2/cmdline")?, b"sleep\x009\0");
/// assert_eq!(proc.read_link("2/cwd").as_deref(), Ok("/"));
/// let stat = proc.read("2/stat")?;
/// assert!(stat.starts_with(b"2 (sleep) R 1 2 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 "));
/// # Ok::<(), proctable::abi::Errno>(())
/// ```
///
/// # References
///
/// proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5), proc_pid_environ(5),
/// proc_pid_comm(5), proc_pid_cwd(5), proc_pid_task(5); RULES OBS.
#[derive(Clone, Debug)]
pub struct ProcFs(ProcessTable);

/// A file in the directory of a process or thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum File {
    Stat,
    Status,
    Cmdline,
    Environ,
    Comm,
}

/// The files by name, in the order of the kernel's directory.
const FILES: [(&str, File); 5] = [
    ("environ", File::Environ),
    ("status", File::Status),
    ("comm", File::Comm),
    ("cmdline", File::Cmdline),
    ("stat", File::Stat),
];

/// A task, and whether it stands for its whole process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Subject {
    tid: Pid,
    is_whole: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Root,
    /// The directory of a process or thread.
    Task(Subject),
    /// The threads of a process.
    Tasks(Pid),
    File(Subject, File),
    Cwd(Subject),
}

/// The entries of a task's directory; a thread has no `task`.
fn entries(subject: Subject) -> impl Iterator<Item = &'static str> {
    let task = subject.is_whole.then_some("task");
    task.into_iter().chain(FILES.iter().map(|(name, _)| *name)).chain(["cwd"])
}

/// A number as the kernel writes it: without sign and leading zeros (`name_to_int`).
fn number(name: &str) -> Option<Pid> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    name.parse().ok().filter(|_| is_plain).map(Pid)
}

impl ProcessTable {
    /// The files of proc(5) for the processes of this table.
    #[doc(alias = "ps")]
    pub fn procfs(&self) -> ProcFs {
        ProcFs(self.clone())
    }
}

impl ProcFs {
    /// The content of a file.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such file, task or process; ENOTDIR for a path through a file; EISDIR
    /// for a directory and `cwd`; ESRCH for the `environ` of a zombie.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let state = self.0.shared().state.lock();
        match state.proc_node(path)? {
            Node::File(subject, file) => state.proc_file(subject, file),
            Node::Root | Node::Task(_) | Node::Tasks(_) | Node::Cwd(_) => Err(Errno::EISDIR),
        }
    }

    /// The target of a symbolic link: the working directory, for `cwd`.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such file, or for the `cwd` of a zombie; EINVAL for another file.
    pub fn read_link(&self, path: &str) -> Result<Arc<str>, Errno> {
        let state = self.0.shared().state.lock();
        match state.proc_node(path)? {
            Node::Cwd(subject) => state.proc_cwd(subject).ok_or(Errno::ENOENT),
            Node::Root | Node::Task(_) | Node::Tasks(_) | Node::File(..) => Err(Errno::EINVAL),
        }
    }

    /// The names in a directory: the processes in ascending order, threads in the order of their
    /// creation. O(n log n) for the root.
    ///
    /// # Errors
    ///
    /// ENOENT if there is no such file, ENOTDIR if it is no directory.
    pub fn read_dir(&self, path: &str) -> Result<Vec<String>, Errno> {
        let state = self.0.shared().state.lock();
        let text = |pid: Pid| pid.0.to_string();
        match state.proc_node(path)? {
            Node::Root => {
                let mut pids: Vec<Pid> = state.kernel.pids().collect();
                pids.sort_unstable();
                Ok(pids.into_iter().map(text).collect())
            }
            Node::Tasks(pid) => Ok(state.kernel.tids(pid).map(text).collect()),
            Node::Task(subject) => Ok(entries(subject).map(String::from).collect()),
            Node::File(..) | Node::Cwd(_) => Err(Errno::ENOTDIR),
        }
    }
}

impl TableState {
    fn proc_node(&self, path: &str) -> Result<Node, Errno> {
        let mut node = Node::Root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = self.proc_child(node, name)?;
        }
        let is_file = matches!(node, Node::File(..));
        if is_file && path.ends_with('/') { Err(Errno::ENOTDIR) } else { Ok(node) }
    }

    fn proc_child(&self, directory: Node, name: &str) -> Result<Node, Errno> {
        let task = || {
            let tid = number(name).ok_or(Errno::ENOENT)?;
            self.kernel.view(tid).map(|view| (tid, view.tgid)).ok_or(Errno::ENOENT)
        };
        match directory {
            // TG-164: the number of a thread is found, and not listed
            Node::Root => task().map(|(tid, _)| Node::Task(Subject { tid, is_whole: true })),
            Node::Tasks(pid) => match task()? {
                (tid, tgid) if tgid == pid => Ok(Node::Task(Subject { tid, is_whole: false })),
                _ => Err(Errno::ENOENT),
            },
            Node::Task(subject) => match name {
                "task" if subject.is_whole => {
                    let view = self.kernel.view(subject.tid).ok_or(Errno::ENOENT)?;
                    Ok(Node::Tasks(view.tgid))
                }
                "cwd" => Ok(Node::Cwd(subject)),
                _ => {
                    let file = FILES.iter().find(|(file, _)| *file == name);
                    file.map(|(_, file)| Node::File(subject, *file)).ok_or(Errno::ENOENT)
                }
            },
            Node::File(..) | Node::Cwd(_) => Err(Errno::ENOTDIR),
        }
    }

    fn proc_cwd(&self, subject: Subject) -> Option<Arc<str>> {
        let view = self.kernel.view(subject.tid).filter(|view| view.run != RunState::Zombie)?;
        self.kernel.attributes(view.tgid).map(|attributes| attributes.cwd)
    }

    fn proc_file(&self, subject: Subject, file: File) -> Result<Vec<u8>, Errno> {
        let status = self.kernel.proc_status(subject.tid).ok_or(Errno::ENOENT)?;
        let entry = self.process_registry.entries.get(status.tgid).ok_or(Errno::ENOENT)?;
        let is_dead = status.run == RunState::Zombie;
        let usage = self.process_registry.usages.get(status.tgid);
        let image = &*entry.image;
        Ok(match file {
            File::Cmdline if is_dead => Vec::new(),
            File::Environ if is_dead => return Err(Errno::ESRCH),
            File::Cmdline => terminated(&image.args),
            File::Environ => terminated(&image.env),
            File::Comm => [comm(image), b"\n"].concat(),
            File::Stat => stat(&status, entry, usage, subject.is_whole),
            File::Status => {
                let has_usage = subject.is_whole || status.threads == 1;
                let own = if has_usage { usage.own } else { Default::default() };
                status_lines(&status, comm(image), [own.nvcsw, own.nivcsw])
            }
        })
    }
}

/// The texts, each with a NUL after it.
fn terminated(texts: &[String]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

/// The name of a task: of the last component of the program's path the first 15 bytes
/// (TASK_COMM_LEN).
fn comm(image: &Image) -> &[u8] {
    let name = image.program.rsplit('/').next().unwrap_or_default().as_bytes();
    &name[..name.len().min(15)]
}

fn ticks(time: Duration) -> u128 {
    time.as_millis() / 10
}

fn letter(run: RunState) -> &'static str {
    match run {
        RunState::User => "R (running)",
        RunState::Blocked => "S (sleeping)",
        RunState::Vfork => "D (disk sleep)",
        RunState::Stopped => "T (stopped)",
        RunState::Zombie => "Z (zombie)",
    }
}

/// The flags of a task (`include/linux/sched.h`) that follow from the state of the model.
fn flags(task: &ProcStatus) -> u32 {
    const EXITING: u32 = 0x4;
    const POSTCOREDUMP: u32 = 0x8;
    const FORKNOEXEC: u32 = 0x40;
    const DUMPCORE: u32 = 0x200;
    const SIGNALED: u32 = 0x400;
    const NOFREEZE: u32 = 0x8000;
    const RANDOMIZE: u32 = 0x40_0000;
    let mut flags = RANDOMIZE;
    if task.fork_no_exec {
        flags |= FORKNOEXEC;
    }
    if task.run == RunState::Zombie {
        flags |= EXITING | POSTCOREDUMP | NOFREEZE;
        let is_killed = |status: WaitStatus| status.term_signal().is_some();
        if task.status.is_some_and(is_killed) {
            flags |= SIGNALED;
        }
        if task.status.is_some_and(WaitStatus::core) {
            flags |= DUMPCORE;
        }
    }
    flags
}

/// The device of the controlling terminal (`new_encode_dev`) and its foreground group; 0 and -1
/// without a terminal.
fn terminal(task: &ProcStatus) -> (u32, i64) {
    const UNIX98_PTY_SLAVE_MAJOR: u32 = 136;
    let Some((number, foreground)) = task.terminal else { return (0, -1) };
    let device = number & 0xff | UNIX98_PTY_SLAVE_MAJOR << 8 | (number & !0xff) << 12;
    (device, foreground.0.into())
}

/// The file `stat` (`do_task_stat`).
fn stat(task: &ProcStatus, entry: &ProcessEntry, usage: ProcessUsage, is_whole: bool) -> Vec<u8> {
    let &ProcStatus { tid, ppid, pgid, sid, threads, .. } = task;
    let ProcessUsage { mut own, children } = usage;
    if !is_whole && threads > 1 {
        own = Default::default();
    }
    let Time(started) = entry.started;
    let start = started / 10_000_000;
    let code = match (task.status, task.stop) {
        (Some(status), _) if task.run == RunState::Zombie => status.0,
        // group_exit_code
        (_, Some(signal)) if is_whole => signal.number().into(),
        _ => 0,
    };
    let sleeps = !matches!(task.run, RunState::User) && (!is_whole || threads < 2);
    let exit_signal = task.exit_signal.map_or(-1, i32::from);
    let set = |set: SigSet| set.bits() & 0x7fff_ffff;
    let mut text = Vec::new();
    text.extend_from_slice(format!("{tid} (").as_bytes());
    text.extend_from_slice(comm(&entry.image));
    let mut rest = String::new();
    let letter = &letter(task.run)[..1];
    let flags = flags(task);
    // a write to a string cannot fail
    let (device, foreground) = terminal(task);
    let _ = write!(rest, ") {letter} {ppid} {pgid} {sid} {device} {foreground} {flags}");
    let _ = write!(rest, " {} {} {}", own.minflt, children.minflt, own.majflt);
    let _ = write!(rest, " {} {} {}", children.majflt, ticks(own.utime), ticks(own.stime));
    let _ = write!(rest, " {} {}", ticks(children.utime), ticks(children.stime));
    let _ = write!(rest, " 20 0 {threads} 0 {start} 0 0 {} 0 0 0 0 0", task.rss.soft);
    let _ = write!(rest, " {} {}", set(task.private), set(task.blocked));
    let _ = write!(rest, " {} {}", set(task.ignored), set(task.caught));
    let _ =
        writeln!(rest, " {} 0 0 {exit_signal} 0 0 0 0 0 0 0 0 0 0 0 0 0 {code}", u8::from(sleeps));
    text.extend_from_slice(rest.as_bytes());
    text
}

/// The name of a task in `status`, where newlines and backslashes are escaped.
fn escaped(name: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'\n' => b"\\n".to_vec(),
        b'\\' => b"\\\\".to_vec(),
        byte => [*byte].to_vec(),
    };
    name.iter().flat_map(escape).collect()
}

/// The file `status` (`proc_pid_status`).
fn status_lines(task: &ProcStatus, name: &[u8], switches: [u64; 2]) -> Vec<u8> {
    let &ProcStatus { tid, tgid, ppid, pgid, sid, threads, queued, .. } = task;
    let [real, effective, saved] = task.users.map(|user| user.0);
    let mut text = String::new();
    // a write to a string cannot fail
    if let Some(umask) = task.umask {
        let _ = writeln!(text, "Umask:\t{umask:04o}");
    }
    let _ = writeln!(text, "State:\t{}", letter(task.run));
    let _ = writeln!(text, "Tgid:\t{tgid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{ppid}\nTracerPid:\t0");
    // the user for the file system is the effective one
    let _ = writeln!(text, "Uid:\t{real}\t{effective}\t{saved}\t{effective}\nGid:\t0\t0\t0\t0");
    let _ = writeln!(text, "FDSize:\t0\nGroups:\t ");
    let _ = writeln!(text, "NStgid:\t{tgid}\nNSpid:\t{tid}\nNSpgid:\t{pgid}\nNSsid:\t{sid}");
    let _ = writeln!(text, "Kthread:\t0\nThreads:\t{threads}");
    let _ = writeln!(text, "SigQ:\t{queued}/{}", task.sigpending.soft);
    let sets = [
        ("SigPnd", task.private),
        ("ShdPnd", task.shared),
        ("SigBlk", task.blocked),
        ("SigIgn", task.ignored),
        ("SigCgt", task.caught),
    ];
    for (name, set) in sets {
        let _ = writeln!(text, "{name}:\t{:016x}", set.bits());
    }
    // CAP_LAST_CAP is 40
    const ALL: u64 = (1 << 41) - 1;
    let of = |has: bool| if has { ALL } else { 0 };
    let sets = [0, of(task.permitted), of(task.capable), ALL, 0];
    for (name, set) in ["Inh", "Prm", "Eff", "Bnd", "Amb"].into_iter().zip(sets) {
        let _ = writeln!(text, "Cap{name}:\t{set:016x}");
    }
    text.push_str(
        "NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n\
         Speculation_Store_Bypass:\tunknown\nSpeculationIndirectBranch:\tunsupported\n\
         Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n",
    );
    let [voluntary, involuntary] = switches;
    let _ = writeln!(text, "voluntary_ctxt_switches:\t{voluntary}");
    let _ = writeln!(text, "nonvoluntary_ctxt_switches:\t{involuntary}");
    [b"Name:\t", &*escaped(name), b"\n", text.as_bytes()].concat()
}
