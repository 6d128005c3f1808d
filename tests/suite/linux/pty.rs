//! Children of a tree on a pty: their session and controlling terminal, the size of the window,
//! the end of the output, the hang-up, and what holds for processes that leave the session.
#![allow(unsafe_code)]

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use proctable::drivers::linux::{Child, Pipeline, PtyMaster, PtySlave, RunError, window_size};
use proctable::tty::Winsize;

use super::spawn::{forbid, refuse};
use super::*;

/// Reads until the text has appeared; everything that has.
#[track_caller]
fn expect(mut pty: &PtyMaster, text: &str) -> String {
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    let begin = Instant::now();
    while !shown.contains(text) {
        let mut poll =
            libc::pollfd { fd: pty.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is open
        unsafe { libc::poll(&mut poll, 1, 100) };
        if poll.revents != 0 {
            let count = pty.read(&mut buffer).unwrap();
            assert!(count > 0, "`{text}` does not appear:\n{shown}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        assert!(begin.elapsed() < SOON, "`{text}` does not appear:\n{shown}");
    }
    shown
}

fn on_pty(tree: &ProcessTree, script: &str) -> (PtyMaster, Child) {
    let (pty, slave) = PtyMaster::open(Winsize::new(33, 77)).unwrap();
    let child = tree.spawn(Command::new("sh").args(["-c", script]).pty(slave)).unwrap();
    (pty, child)
}

/// Whether no process has the slave open: then the master is at its end.
fn is_at_end(mut pty: &PtyMaster) -> bool {
    let mut poll = libc::pollfd { fd: pty.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which is open
    unsafe { libc::poll(&mut poll, 1, 0) };
    poll.revents & libc::POLLHUP != 0 && pty.read(&mut [0; 4096]).unwrap() == 0
}

#[test]
fn a_child_on_a_pty_leads_a_session_with_it_as_its_terminal() {
    let script = "tty; stty size; for n in 0 1 2; do [ -t $n ] && echo $n; done; \
                  echo direct >/dev/tty; set -- $(cat /proc/$$/stat); echo $1 $5 $6 $8 end";
    for tree in trees() {
        let (pty, child) = on_pty(&tree, script);
        let shown = expect(&pty, "end\r\n");
        let (path, pid) = (pty.path().unwrap(), child.pid());
        // the process, its group, its session, and the foreground group
        let expected = format!(
            "{}\r\n33 77\r\n0\r\n1\r\n2\r\ndirect\r\n{pid} {pid} {pid} {pid} end\r\n",
            path.display()
        );
        assert_eq!(shown, expected);
        assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
        until("the end of the output", || is_at_end(&pty));
    }
}

#[test]
fn a_stream_that_a_command_names_itself_is_as_named() {
    for tree in trees() {
        let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
        let script = "echo out; echo error >&2; echo in >/dev/tty";
        let command = Command::new("sh").args(["-c", script]);
        let command = command.stdin(Stdio::Null).stderr(Stdio::Piped).pty(slave);
        let child = tree.spawn(command).unwrap();
        assert_eq!(expect(&pty, "in\r\n"), "out\r\nin\r\n");
        let mut error = String::new();
        child.take_stderr().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!(error, "error\n");
    }
}

#[test]
fn a_new_size_of_the_window_is_signalled() {
    for tree in trees() {
        let script = "trap 'stty size' WINCH; echo begun; while :; do sleep 0.01; done";
        let (pty, _child) = on_pty(&tree, script);
        expect(&pty, "begun\r\n");
        let size = Winsize { rows: 12, cols: 34, xpixel: 5, ypixel: 6 };
        pty.resize(size).unwrap();
        assert_eq!(window_size(&pty).unwrap(), size);
        expect(&pty, "12 34\r\n");
    }
}

/// The leader and the foreground group get SIGHUP when the owner drops the master; a process of
/// another group reads the end of the file, and fails to write.
#[test]
fn the_drop_of_the_master_hangs_up() {
    for tree in trees() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
        let script = "set -m; sh -c 'trap \"\" HUP TTOU; echo >&9; \
                      while [ -e \"$0\" ]; do sleep 0.01; done; \
                      echo late 2>/dev/null || echo refused >&9' \"$(tty)\" & \
                      sleep 1000";
        let command = Command::new("sh").args(["-c", script]).pty(slave).fd(9, writer.into());
        let child = tree.spawn(command).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        drop(pty);
        assert_eq!(child.wait(), Ok(WaitStatus::killed(Signal::HUP, false)));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "refused\n");
        until("the foreground group has ended", || tree.members().unwrap().is_empty());
    }
}

/// A child has no copy of a master, whether the pty is its own or not: the hang-up would not come.
#[test]
fn no_child_has_the_master() {
    for tree in trees() {
        let (pty, _child) = on_pty(&tree, "ls -l /proc/self/fd; echo end");
        let shown = expect(&pty, "end\r\n");
        assert!(!shown.contains("ptmx"), "{shown}");
        let child = tree.spawn(sh("ls -l /proc/self/fd").stdout(Stdio::Piped)).unwrap();
        let mut shown = String::new();
        child.take_stdout().unwrap().read_to_string(&mut shown).unwrap();
        assert!(!shown.contains("ptmx") && !shown.contains("/dev/pts/"), "{shown}");
    }
}

/// The owner's copy of the slave is closed when the spawn returns, however it ends.
#[test]
fn a_spawn_that_fails_closes_the_slave() {
    let tree = ProcessTree::new().unwrap();
    let command: [fn(PtySlave) -> Command; 5] = [
        |slave| Command::new("no-such-program").pty(slave),
        |slave| Command::new("true").current_dir("/no/such/directory").pty(slave),
        |slave| Command::new("true").pty(slave).group(0),
        |slave| Command::new("true").pty(slave).foreground(),
        |slave| Command::new("a\0b").pty(slave),
    ];
    for (nth, command) in command.into_iter().enumerate() {
        let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
        let error = tree.spawn(command(slave)).unwrap_err();
        // a child of another test has copies until its exec
        until("the slave is closed", || is_at_end(&pty));
        if [2, 3].contains(&nth) {
            let kind = error.error.kind();
            assert_eq!((error.step, kind), (Step::Terminal, io::ErrorKind::InvalidInput));
            assert!(error.to_string().contains("leads a session"), "{error}");
        }
    }
    assert!(tree.members().unwrap().is_empty());
    // the terminal of another session
    let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
    let sleeper = tree.spawn(Command::new("sleep").arg("1000").pty(slave)).unwrap();
    let second = Command::new("true").pty(pty.slave().unwrap());
    let error = tree.spawn(second).unwrap_err();
    assert_eq!((error.step, error.error.raw_os_error()), (Step::Terminal, Some(libc::EPERM)));
    assert!(!is_at_end(&pty));
    sleeper.signal(Signal::KILL).unwrap();
    until("the slave is closed", || is_at_end(&pty));
}

#[test]
fn a_pipeline_refuses_a_command_on_a_pty() {
    for run in [
        |command: Command| command.output().map(drop),
        |command: Command| command.status().map(drop),
        |command: Command| Pipeline::from(Command::new("true")).pipe(command).output().map(drop),
    ] {
        let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
        match run(Command::new("true").pty(slave)) {
            Err(RunError::Spawn(error)) => {
                assert_eq!(error.step, Step::Terminal);
                assert!(error.to_string().contains("read the master"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        until("the slave is closed", || is_at_end(&pty));
    }
}

#[test]
fn other_ways_to_spawn_give_the_terminal_too() {
    let tree = ProcessTree::new().unwrap();
    let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
    let command = Command::new("sh").args(["-c", "tty; [ -t 2 ] && echo end"]).pty(slave);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let child = runtime.block_on(tree.spawn_async(command)).unwrap();
    let shown = expect(&pty, "end\r\n");
    assert_eq!(shown, format!("{}\r\nend\r\n", pty.path().unwrap().display()));
    assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
    until("the end of the output", || is_at_end(&pty));

    let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
    let command = Command::new("sh").args(["-c", "echo x >/dev/tty"]).pty(slave);
    tree.spawn_detached(command).unwrap();
    expect(&pty, "x\r\n");
}

/// Processes that leave the session are members as before, also after the hang-up.
#[test]
fn no_process_on_a_pty_survives_a_kill() {
    for tree in trees() {
        let script = format!("trap '' HUP; exec 3>&1; {FAMILY}");
        let (pty, _child) = on_pty(&tree, &script);
        expect(&pty, "\r\n");
        let is_asleep = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"sleep\x00100")
        };
        let asleep =
            || tree.members().unwrap().iter().filter(|member| is_asleep(member.pid)).count();
        until("the family is there", || asleep() == 6);
        let (members, directory) = traces(&tree);
        drop(pty);
        let shutdown = tree.kill().unwrap();
        assert!(shutdown.survivors.is_empty(), "{shutdown:?}");
        drop(tree);
        assert_eq!(still_there(&members), "", "{}", directory.is_some());
    }
}

/// A mebibyte in each direction at once, byte for byte.
#[test]
fn a_raw_terminal_changes_no_byte() {
    let bytes: Vec<u8> =
        (0..1 << 20).map(|nth: u32| (nth.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for tree in trees() {
        let script = "stty raw -echo; echo ready; head -c 1048576";
        let (pty, child) = on_pty(&tree, script);
        expect(&pty, "ready\n");
        std::thread::scope(|scope| {
            scope.spawn(|| (&pty).write_all(&bytes).unwrap());
            let mut read = vec![0; bytes.len()];
            (&pty).read_exact(&mut read).unwrap();
            assert!(read == bytes);
        });
        assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
    }
}

/// With a user the slave is the user's: it can be opened by its name.
#[test]
fn the_terminal_of_a_user_is_the_user_s() {
    if !is_root() {
        return println!("SKIPPED: only root can become another user");
    }
    for tree in trees() {
        let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
        let script = "stat -c %u \"$(tty)\"; echo name >\"$(tty)\"; echo tty >/dev/tty; id -u";
        let command = Command::new("sh").args(["-c", script]).uid(65534).gid(65534).pty(slave);
        let child = tree.spawn(command).unwrap();
        assert_eq!(child.wait(), Ok(WaitStatus::exited(0)));
        let mut shown = String::new();
        (&pty).read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "65534\r\nname\r\ntty\r\n65534\r\n");
    }
}

#[test]
fn an_ordinary_user_has_ptys() {
    as_ordinary_user("linux::pty::a_child_on_a_pty_leads_a_session_as_the_present_user");
}

#[test]
#[ignore = "a scenario of an_ordinary_user_has_ptys"]
fn a_child_on_a_pty_leads_a_session_as_the_present_user() {
    if is_alone() {
        a_child_on_a_pty_leads_a_session_with_it_as_its_terminal();
        the_drop_of_the_master_hangs_up();
    }
}

/// The error says what is missing.
#[test]
fn without_devpts_the_error_says_so() {
    if !is_root() {
        return println!("SKIPPED: only root can mount in a namespace of its own");
    }
    for (mount, word) in [
        ("mount -t tmpfs none /dev", "no pty: /dev/ptmx: No such file"),
        ("mount -t tmpfs none /dev/pts", "no pty: /dev/ptmx: No such device"),
    ] {
        let script = format!("{mount} && exec \"$@\"");
        let by = ["unshare", "--mount", "--", "sh", "-c", &script, "sh"];
        let text = alone("linux::pty::the_error_where_there_is_no_pty", &by);
        assert!(text.contains(word) && text.contains("needs /dev/ptmx"), "{text}");
    }
}

#[test]
#[ignore = "a scenario of without_devpts_the_error_says_so"]
fn the_error_where_there_is_no_pty() {
    if is_alone() {
        println!("{}", PtyMaster::open(Winsize::default()).unwrap_err());
    }
}

/// The name of the slave leads to it as long as the master is open.
#[test]
fn a_pty_has_a_name() {
    let (pty, slave) = PtyMaster::open(Winsize::default()).unwrap();
    let path = pty.path().unwrap();
    let of_slave = format!("/proc/self/fd/{}", slave.as_fd().as_raw_fd());
    assert_eq!(std::fs::read_link(of_slave).unwrap(), path);
    assert!(path.starts_with("/dev/pts") && path.file_name().is_some_and(|name| name != "pts"));
}

/// The name of a slave is that of another terminal in another mount namespace. So it is no
/// substitute unless the kernel has no other way.
#[test]
fn a_slave_that_is_refused_is_not_opened_by_its_name() {
    let opened = |errno: i32| {
        let filtered = move || {
            let (pty, _slave) = PtyMaster::open(Winsize::default()).unwrap();
            // struct seccomp_data: the second argument of ioctl(2) is at 24
            let mut filter = refuse(libc::SYS_ioctl, u32::MAX, errno);
            filter[2].k = 24;
            filter[3] = libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                k: libc::TIOCGPTPEER as u32,
                ..filter[3]
            };
            forbid(&filter);
            pty.slave().map(drop)
        };
        // the filter is that of the thread
        std::thread::spawn(filtered).join().unwrap()
    };
    for missing in [libc::ENOTTY, libc::EINVAL] {
        assert!(opened(missing).is_ok());
    }
    for refused in [libc::EIO, libc::EPERM, libc::EMFILE] {
        let error = opened(refused).unwrap_err();
        assert!(error.to_string().contains("TIOCGPTPEER"), "{error}");
    }
}
