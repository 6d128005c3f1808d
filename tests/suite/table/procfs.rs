//! The files of proc(5) of a table, compared with those of the running kernel, and the resource
//! usage that drivers report, with RLIMIT_CPU.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use proctable::abi::{
    Errno, Handler, Pid, Resource, Rlimit, Rusage, SigAction, SigInfo, Signal, WaitOptions,
    WaitStatus,
};
use proctable::driver::Op;
use proctable::drivers::ScriptedDriver;
use proctable::syscall::{Ptr, Ret, Syscall, TerminalPath, TerminalRequest, open};
use proctable::table::{
    Image, ManualClock, ProcFs, ProcessTable, SigmaskHow, Spawn, TableConfig, WaitTarget,
};

use super::{caught, shell, spawn};

fn text(files: &ProcFs, path: &str) -> String {
    String::from_utf8(files.read(path).unwrap()).unwrap()
}

/// The field of `stat` with the number of the manual page.
fn field(stat: &str, number: usize) -> &str {
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split_ascii_whitespace().nth(number - 3).unwrap()
}

/// The value of a line of `status`.
fn line<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
}

#[cfg(target_os = "linux")]
mod live {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};
    use std::time::Instant;

    use proctable::abi::{Pgid, Sid, SigSet, Uid};
    use proctable::table::Process;

    use super::*;

    /// The fields of `stat` that the model does not have: faults, times, the priority, sizes,
    /// addresses, the CPU. The terminal, if the tests run on one, is not in the table.
    const NOT_MODELLED: [usize; 26] = [
        7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 23, 24, 26, 27, 28, 39, 45, 46, 47, 48,
        49, 50, 51,
    ];
    /// The flags that follow from the state of the model.
    const FLAGS: u32 = 0x40_0000 | 0x8000 | 0x400 | 0x200 | 0x40 | 0x8 | 0x4;

    /// The lines of `status` of a memory map.
    fn is_of_memory(name: &str) -> bool {
        let names = ["HugetlbPages", "CoreDumping", "THP_enabled", "untag_mask"];
        name.starts_with("Vm") || name.starts_with("Rss") || names.contains(&name)
    }

    /// The other lines that the model does not have, or that depend on the machine and on other
    /// processes of the user. Their place and form is compared, their values are not.
    fn is_of_machine(name: &str) -> bool {
        let names = ["Gid", "FDSize", "Groups", "SigQ", "NoNewPrivs", "Seccomp"];
        let prefixes = ["Cap", "Seccomp_", "Speculation", "Cpus_", "Mems_"];
        names.contains(&name)
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
            || name.ends_with("ctxt_switches")
    }

    fn comparable_status(status: &str) -> Vec<String> {
        let lines = status.lines().map(|line| line.split_once(":\t").unwrap_or((line, "")));
        lines
            .filter(|(name, _)| !is_of_memory(name))
            .map(|(name, value)| match is_of_machine(name) {
                true => name.to_owned(),
                false => format!("{name}:\t{value}"),
            })
            .collect()
    }

    fn comparable_stat(stat: &str) -> Vec<String> {
        let (name, _) = stat.rsplit_once(") ").unwrap();
        let number = stat.rsplit_once(") ").unwrap().1.split_ascii_whitespace().count();
        let values = (3..number + 3).map(|nth| match field(stat, nth) {
            _ if NOT_MODELLED.contains(&nth) => format!("{nth}"),
            value if nth == 9 => format!("9: {:#x}", value.parse::<u32>().unwrap() & FLAGS),
            value => format!("{nth}: {value}"),
        });
        [name.to_owned()].into_iter().chain(values).collect()
    }

    /// A process of the machine, which ends with this.
    struct RealProcess(Child);

    /// A process of the machine and its image in a table.
    struct Both {
        child: RealProcess,
        files: ProcFs,
        guest: Process,
    }

    impl Drop for RealProcess {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Both {
        fn real(&self, path: &str) -> String {
            let path = format!("/proc/{}/{path}", self.child.0.id());
            String::from_utf8(std::fs::read(path).unwrap()).unwrap()
        }

        fn send(&self, signal: Signal) {
            // SAFETY: the call takes numbers only, and the child is not reaped
            let sent = unsafe { libc::kill(self.child.0.id() as i32, signal.number().into()) };
            assert_eq!(sent, 0);
            self.guest.send(signal).unwrap();
        }

        /// Waits for a state of the real process, and compares all files.
        fn compare(&self, state: &str) {
            let deadline = Instant::now() + super::super::SOON;
            while field(&self.real("stat"), 3) != state {
                assert!(Instant::now() < deadline, "not {state}: {}", self.real("stat"));
                std::thread::yield_now();
            }
            let pid = self.guest.pid();
            for directory in [String::new(), format!("task/{pid}/")] {
                let own = |file| text(&self.files, &format!("{pid}/{directory}{file}"));
                let real = |file| self.real(&format!("{directory}{file}"));
                assert_eq!(comparable_stat(&own("stat")), comparable_stat(&real("stat")));
                assert_eq!(comparable_status(&own("status")), comparable_status(&real("status")));
                for file in ["cmdline", "comm"] {
                    assert_eq!(own(file), real(file), "{state}: {directory}{file}");
                }
            }
        }
    }

    /// Starts sleep(1) with a mask and an ignored signal, and makes its image.
    fn start() -> Option<Both> {
        let prepare = || {
            // SAFETY: both calls are async-signal-safe, and the set is initialised
            unsafe {
                let mut set = core::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGUSR1);
                libc::sigaddset(&mut set, libc::SIGRTMAX());
                libc::sigprocmask(libc::SIG_SETMASK, &set, core::ptr::null_mut());
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                    libc::signal(signal, libc::SIG_DFL);
                }
            }
            Ok(())
        };
        let mut command = Command::new("sleep");
        command.arg("1000").env_clear().env("A", "b").env("C", "").current_dir("/");
        // SAFETY: `prepare` makes async-signal-safe calls only
        let command = unsafe { command.process_group(0).pre_exec(prepare) };
        let child = RealProcess(command.spawn().unwrap());
        let id = child.0.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let number = |nth| Pid(field(&stat, nth).parse().unwrap());
        let (parent, session, pid) = (number(4), number(6), Pid(id));

        let table = ProcessTable::new();
        let numbered = |number| Spawn::new(Image::new("x")).pid(number);
        // the shell that leads the session, the parent, which is this program, and the child
        if session == Pid(0) || parent == Pid(0) || parent == session {
            return None;
        }
        let leader = match session {
            Pid(1) => table.init(),
            session => table.spawn(numbered(session).session()).unwrap(),
        };
        let parent = match parent {
            Pid(1) => table.init(),
            parent => leader.spawn(numbered(parent)).unwrap(),
        };
        // SAFETY: the call has no arguments
        let user = Uid(unsafe { libc::geteuid() });
        let image = Image {
            args: vec!["sleep".into(), "1000".into()],
            env: vec!["A=b".into(), "C=".into()],
            ..Image::new("sleep")
        };
        // SAFETY: umask cannot fail; the old one is set again
        let umask = unsafe {
            let umask = libc::umask(0o022);
            libc::umask(umask);
            umask
        };
        // what this program ignores, except for what the standard library and `prepare` set
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = u64::from_str_radix(line(&own, "SigIgn").unwrap(), 16).unwrap();
        let set = [Signal::INT, Signal::QUIT, Signal::TERM, Signal::PIPE];
        let ignored = SigSet::from_bits(own) - set.into_iter().collect();
        let blocked: SigSet = Signal::USR1.set().with(Signal::RTMAX);
        let attributes = Spawn::new(image).pid(pid).own_group().users([Some(user); 3]);
        let attributes =
            attributes.mask(blocked).ignored_signals(ignored | Signal::HUP.set()).umask(umask);
        let guest = parent.spawn(attributes).unwrap();
        let info = guest.info().unwrap();
        assert_eq!((info.pgid, info.sid), (Pgid(pid.0), Sid(session.0)));
        assert_eq!(guest.submit(Syscall::Pause).result(), None);
        Some(Both { child, files: table.procfs(), guest })
    }

    /// OBS-01, OBS-02: byte for byte, in all states of a process.
    #[test]
    fn files_are_those_of_the_running_kernel() {
        let Some(both) = start() else {
            return println!("SKIPPED: the session of the tests is not visible");
        };
        let pid = both.guest.pid();
        both.compare("S");
        assert_eq!(text(&both.files, &format!("{pid}/environ")), both.real("environ"));
        assert_eq!(&*both.files.read_link(&format!("{pid}/cwd")).unwrap(), "/");
        for signal in [Signal::USR1, Signal::RTMAX, Signal::RTMAX, Signal::HUP] {
            both.send(signal);
        }
        both.compare("S");
        both.send(Signal::STOP);
        both.compare("T");
        both.send(Signal::CONT);
        both.compare("S");
        both.send(Signal::KILL);
        both.compare("Z");
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_err();
        assert_eq!(environ.raw_os_error(), Some(Errno::ESRCH.0.into()));
        assert_eq!(both.files.read(&format!("{pid}/environ")), Err(Errno::ESRCH));
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_err();
        assert_eq!(cwd.raw_os_error(), Some(Errno::ENOENT.0.into()));
        assert_eq!(both.files.read_link(&format!("{pid}/cwd")), Err(Errno::ENOENT));
    }
}

/// TTY-35: the device of the terminal and its foreground group.
#[test]
fn stat_shows_the_terminal() {
    let table = ProcessTable::new();
    let open = |path| Syscall::Open { path, flags: open::RDWR };
    assert_eq!(table.syscall(Pid(1), open(TerminalPath::Ptmx)), Ok(Ret::Value(1)));
    let request = TerminalRequest::Tiocsptlck(false);
    table.syscall(Pid(1), Syscall::Ioctl { file: 1, request }).unwrap();
    let leader = table.spawn(Spawn::new(Image::new("sh")).session()).unwrap();
    let stat = |pid: Pid| {
        let stat = text(&table.procfs(), &format!("{pid}/stat"));
        [7, 8].map(|nth| field(&stat, nth).to_owned())
    };
    assert_eq!(stat(leader.pid()), ["0", "-1"]);
    table.syscall(leader.pid(), open(TerminalPath::Pts(0))).unwrap();
    assert_eq!(stat(leader.pid()), ["34816".to_owned(), leader.pid().to_string()]);
    let child = spawn(&leader);
    assert_eq!(stat(child.pid()), stat(leader.pid()));
}

/// proc_pid_task(5), TG-87, TG-164: each thread has a directory, in which the exit signal is -1 and
/// a leader that has ended is a zombie.
#[test]
fn threads_have_files_of_their_own() {
    let table = ProcessTable::new();
    let server = table.spawn(Spawn::new(Image::new("/usr/bin/server"))).unwrap();
    let main = server.main_thread().unwrap();
    let worker = main.spawn_thread().unwrap();
    let files = table.procfs();
    assert_eq!(files.read_dir("2/task").unwrap(), ["2", "3"]);
    assert_eq!(files.read_dir("").unwrap(), ["1", "2"]);
    assert_eq!(field(&text(&files, "2/task/3/stat"), 38), "-1");
    assert_eq!(field(&text(&files, "2/task/2/stat"), 38), "17");
    assert_eq!(worker.submit(Syscall::Pause).result(), None);
    // wchan of a thread, and not of a process with several
    assert_eq!(field(&text(&files, "2/task/3/stat"), 35), "1");
    assert_eq!(field(&text(&files, "3/stat"), 35), "0");
    let status = text(&files, "3/status");
    let lines =
        ["Name", "State", "Tgid", "Pid", "Threads"].map(|name| line(&status, name).unwrap());
    assert_eq!(lines, ["server", "S (sleeping)", "2", "3", "2"]);

    main.exit(0).unwrap();
    assert_eq!(field(&text(&files, "2/stat"), 3), "Z");
    assert_eq!(line(&text(&files, "2/status"), "Threads"), Some("2"));
    assert_eq!(files.read("2/task/3/environ"), Ok(Vec::new()));
    assert_eq!(files.read("2/environ"), Err(Errno::ESRCH));
}

/// `proc_task_name`: 15 bytes of the last component; newlines and backslashes are escaped in
/// `status` alone. Linux 6.18 shows a copy of sleep(1) of this name so.
#[test]
fn names_are_cut_and_escaped() {
    let table = ProcessTable::new();
    table.spawn(Spawn::new(Image::new("/tmp/d/a b\n\\c)(0123456789"))).unwrap();
    let files = table.procfs();
    assert_eq!(text(&files, "2/comm"), "a b\n\\c)(0123456\n");
    assert!(text(&files, "2/stat").starts_with("2 (a b\n\\c)(0123456) R 1 "));
    assert_eq!(line(&text(&files, "2/status"), "Name"), Some("a b\\n\\\\c)(0123456"));
}

/// The errnos of open, readlink and readdir on Linux.
#[test]
fn paths_that_name_no_file_have_the_errors_of_linux() {
    let table = ProcessTable::new();
    spawn(&table.init());
    let files = table.procfs();
    for (path, errno) in [
        ("", Errno::EISDIR),
        ("2/task", Errno::EISDIR),
        ("2/cwd", Errno::EISDIR),
        ("2/stat/", Errno::ENOTDIR),
        ("2/stat/x", Errno::ENOTDIR),
        ("2/nofile", Errno::ENOENT),
        ("2/task/1/stat", Errno::ENOENT),
        ("2/task/2/task", Errno::ENOENT),
        ("0/stat", Errno::ENOENT),
        ("02/stat", Errno::ENOENT),
        ("+2/stat", Errno::ENOENT),
        ("4999999/stat", Errno::ENOENT),
        ("99999999999/stat", Errno::ENOENT),
    ] {
        assert_eq!(files.read(path), Err(errno), "{path}");
    }
    assert_eq!(files.read_link("2/stat"), Err(Errno::EINVAL));
    assert_eq!(files.read_dir("2/stat"), Err(Errno::ENOTDIR));
    assert_eq!(files.read("/2//comm"), Ok(b"guest\n".to_vec()));
    let names = files.read_dir("2").unwrap();
    for name in names.iter().filter(|name| !matches!(&***name, "task" | "cwd")) {
        files.read(&format!("2/{name}")).unwrap();
    }
}

/// The start and the times are in ticks of 10 ms, and pending signals are counted for their user.
#[test]
fn files_have_the_start_and_the_reported_usage() {
    let clock = ManualClock::new();
    let table = ProcessTable::with_config(TableConfig::new().clock(clock.clone()));
    clock.advance(Duration::from_millis(12_345));
    let guest = spawn(&table.init());
    let usage = Rusage {
        utime: Duration::from_millis(1_239),
        stime: Duration::from_millis(50),
        minflt: 65,
        majflt: 3,
        nvcsw: 7,
        nivcsw: 8,
        ..Rusage::default()
    };
    guest.report_usage(usage);
    guest.sigaction(Signal::USR1, caught()).unwrap();
    guest.sigprocmask(SigmaskHow::Block, Signal::USR1.set()).unwrap();
    guest.send(Signal::USR1).unwrap();
    let stat = text(&table.procfs(), "2/stat");
    let fields = [10, 11, 12, 13, 14, 15, 22].map(|nth| field(&stat, nth));
    assert_eq!(fields, ["65", "0", "3", "0", "123", "5", "1234"]);
    let status = text(&table.procfs(), "2/status");
    let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
    assert_eq!(switches.map(|name| line(&status, name)), [Some("7"), Some("8")]);
    assert!(line(&status, "SigQ").unwrap().starts_with("1/"), "{status}");
}

/// WAIT-46, ZOM-13: a wait returns the usage of the child and of the children that it has waited
/// for, and adds it to that of the parent; a child that leaves no zombie does not count.
#[test]
fn waits_return_and_add_the_usage_of_children() {
    let table = ProcessTable::new();
    let parent = shell(&table);
    let child = spawn(&parent);
    let grandchild = spawn(&child);
    let of = |millis, maxrss| {
        let utime = Duration::from_millis(millis);
        Rusage { utime, maxrss, nvcsw: 1, ..Rusage::default() }
    };
    grandchild.report_usage(of(5, 900));
    grandchild.exit(0).unwrap();
    let options = WaitOptions::EXITED;
    let waited = child.try_wait(WaitTarget::Any, options.with(WaitOptions::NOWAIT)).unwrap();
    assert_eq!(waited.unwrap().usage, of(5, 900));
    assert_eq!(child.children_usage(), Some(Rusage::default()));
    let waited = child.try_wait(WaitTarget::Any, options).unwrap().unwrap();
    assert_eq!((waited.usage, child.children_usage()), (of(5, 900), Some(of(5, 900))));

    child.report_usage(of(30, 400));
    child.report_usage(of(20, 500)); // a field never falls
    child.exit(0).unwrap();
    let reaped = child.pid();
    let options = WaitOptions::default();
    let (waited, _) = parent.waitpid(-1, options).unwrap().unwrap();
    let total = Rusage { nvcsw: 2, ..of(35, 900) };
    assert_eq!((waited, table.waited_usage(parent.pid(), waited)), (reaped, Ok(total)));
    assert_eq!(parent.children_usage(), Some(total));
    assert_eq!(table.waited_usage(parent.pid(), Pid(99)), Err(Errno::ECHILD));

    let ignore = SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT };
    parent.sigaction(Signal::CHLD, ignore).unwrap();
    let child = spawn(&parent);
    child.report_usage(of(1000, 0));
    child.exit(0).unwrap();
    assert_eq!((child.usage(), parent.children_usage()), (None, Some(total)));
    // a stopped child exists
    let child = spawn(&parent);
    child.report_usage(of(4, 0));
    child.send(Signal::STOP).unwrap();
    let waited = Syscall::Wait4 { pid: -1, status: Ptr::Valid, options: WaitOptions::STOPPED };
    assert_eq!(parent.syscall(waited).unwrap().value() as u32, child.pid().0);
    assert_eq!(table.waited_usage(parent.pid(), child.pid()), Ok(of(4, 0)));
}

/// LIM-15, as a loop on Linux 6.18: SIGXCPU from the kernel at the soft limit, which is the next
/// second then, and SIGKILL at the hard limit.
#[test]
fn cpu_limits_act_on_reported_usage() {
    let table = ProcessTable::new();
    let driver = Arc::new(ScriptedDriver::default());
    let guest = table.spawn(Spawn::new(Image::new("x")).driver(driver.clone())).unwrap();
    guest.sigaction(Signal::XCPU, caught()).unwrap();
    guest.rlimit(Resource::CPU, Some(Rlimit { soft: 1, hard: 3 })).unwrap();
    let use_millis = |millis| guest.report_usage(Rusage::cpu(Duration::from_millis(millis)));
    let soft = || guest.rlimit(Resource::CPU, None).unwrap().soft;
    let signals = || {
        let seen = driver.seen().into_iter();
        let of = |op| if let Op::Deliver(delivery) = op { Some(delivery.info) } else { None };
        seen.filter_map(of).collect::<Vec<SigInfo>>()
    };
    use_millis(999);
    assert_eq!((signals(), soft()), (vec![], 1));
    use_millis(1000);
    use_millis(1999);
    assert_eq!((signals(), soft()), (vec![SigInfo::kernel(Signal::XCPU)], 2));
    guest.syscall(Syscall::RtSigreturn).unwrap();
    use_millis(2000);
    assert_eq!((signals().len(), soft()), (2, 3));
    guest.syscall(Syscall::RtSigreturn).unwrap();
    use_millis(3000);
    assert_eq!(guest.exit_status(), Some(WaitStatus::killed(Signal::KILL, false)));

    // a limit of 0 acts at the next report
    let guest = spawn(&table.init());
    guest.rlimit(Resource::CPU, Some(Rlimit { soft: 0, hard: Rlimit::INFINITY })).unwrap();
    guest.report_usage(Rusage::default());
    assert_eq!(guest.exit_status(), Some(WaitStatus::killed(Signal::XCPU, true)));
}

/// A report of usage before the process exists counts, as a report of its end does.
#[test]
fn usage_is_reported_before_the_process_exists_and_after_its_end() {
    let table = ProcessTable::new();
    let early = Spawn::new(Image::new("quick"));
    let reporter = early.reporter();
    reporter.usage(Rusage::cpu(Duration::from_secs(1)));
    reporter.exited(3);
    let child = table.spawn(early).unwrap();
    reporter.usage(Rusage::cpu(Duration::from_secs(2)));
    let waited = table.init().try_wait(&child, WaitOptions::EXITED).unwrap().unwrap();
    assert_eq!(waited.usage.utime, Duration::from_secs(2));
    reporter.usage(Rusage::cpu(Duration::from_secs(9)));
    assert_eq!((child.usage(), table.procfs().read("2/stat")), (None, Err(Errno::ENOENT)));
}
