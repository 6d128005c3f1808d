//! Running processes are taken into a tree: its table reports what happens to them.

use std::os::unix::process::CommandExt;

use proctable::abi::Errno;
use proctable::drivers::linux::{Child, preflight};
use proctable::table::What;

use super::*;

/// A child of the standard library. It ends with its test, however that ends.
struct OtherProcess(std::process::Child);

impl OtherProcess {
    fn id(&self) -> i32 {
        self.0.id() as i32
    }

    /// Lets it read on.
    fn tell(&mut self) {
        io::Write::write_all(&mut self.0.stdin.take().unwrap(), b"go\n").unwrap();
    }

    /// How its own parent finds that it ended.
    fn status(&mut self) -> WaitStatus {
        let status = self.0.wait().unwrap();
        WaitStatus(std::os::unix::process::ExitStatusExt::into_raw(status) as u32)
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that has said a line.
fn begin(script: &str) -> (OtherProcess, String) {
    let mut process = std::process::Command::new("sh")
        .args(["-c", script])
        // its group is not orphaned, whatever the tests' own is: SIGTSTP stops it (ORP-04)
        .process_group(0)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = io::BufReader::new(process.stdout.take().unwrap());
    io::BufRead::read_line(&mut output, &mut line).unwrap();
    (OtherProcess(process), line.trim().into())
}

/// The next thing that a process of the table reports.
fn next(tree: &ProcessTree, child: &Child) -> WaitStatus {
    let owner = tree.table().process(child.process().info().unwrap().ppid).unwrap();
    let all = WaitOptions::STOPPED.with(WaitOptions::CONTINUED).with(WaitOptions::EXITED);
    owner.wait_timeout(child.process(), all, SOON).unwrap().expect("it has an event").status
}

#[test]
fn a_running_process_is_adopted_with_its_children() {
    for tree in trees() {
        let (mut process, _) = begin("sleep 1000 & echo; exec >&-; wait");
        let adopted = tree.adopt(process.id(), true).unwrap();
        assert_eq!(adopted.len(), 2);
        assert_eq!(adopted[0].pid(), process.id());
        let members: Vec<_> = tree.members().unwrap().into_iter().map(|who| who.pid).collect();
        assert!(adopted.iter().all(|child| members.contains(&child.pid())), "{members:?}");
        // they are in the table: the program is what runs
        assert_eq!(tree.table().counts().processes, 4, "init, the owner and two");
        let shutdown = tree.kill().unwrap();
        assert_eq!(shutdown.survivors, []);
        let killed = WaitStatus::killed(Signal::KILL, false);
        assert_eq!(shutdown.ended[&adopted[0].pid()], killed);
        assert_eq!(adopted[0].wait(), Ok(killed));
        // its status is still its parent's to have
        assert_eq!(process.status(), killed);
    }
}

/// What it had before stays outside; what it creates later does not.
#[test]
fn without_descendants_only_later_ones_belong_to_the_tree() {
    for tree in trees() {
        let script = "sleep 1000 & echo $!; read line; setsid sleep 1001 & exec >&-; wait";
        let (mut process, earlier) = begin(script);
        let earlier: i32 = earlier.parse().unwrap();
        let adopted = tree.adopt(process.id(), false).unwrap();
        assert_eq!(adopted.len(), 1);
        process.tell();
        until("the later one is there", || tree.members().unwrap().len() == 2);
        assert!(tree.members().unwrap().iter().all(|member| member.pid != earlier));
        let members: Vec<_> = tree.members().unwrap().into_iter().map(|who| who.pid).collect();
        assert_eq!(tree.kill().unwrap().survivors, []);
        process.status();
        assert!(members.iter().all(|pid| !is_there(*pid)), "{members:?}");
        assert!(is_there(earlier), "it belonged to no tree");
        // SAFETY: a number of a process that lives, and that no other code ends
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(earlier, libc::SIGKILL)
        };
    }
}

/// A child of another library of this process: both have its status.
#[test]
fn an_adopted_child_of_another_library_keeps_its_status() {
    for tree in trees() {
        let events = tree.table().subscribe(64).unwrap();
        let (mut process, _) = begin("echo; read line; exit 7");
        let adopted = tree.adopt(process.id(), true).unwrap().remove(0);
        process.tell();
        assert_eq!(adopted.wait(), Ok(WaitStatus::exited(7)));
        assert!(adopted.cpu_time().is_some());
        let ends = events.try_iter().filter(|event| {
            event.pid == adopted.process().pid() && matches!(event.what, What::Exited(_))
        });
        assert_eq!(ends.count(), 1);
        drop(tree);
        assert_eq!(process.status(), WaitStatus::exited(7));
    }
}

/// The child of another process that reaps it at once.
#[test]
fn the_end_of_another_process_s_child_is_reported() {
    for tree in trees() {
        // the shell continues, and waits for its child, which waits for a line
        let script = "exec 3<&0; (read line <&3; exit 5) & echo $!; wait $!; exec sleep 1000";
        let (mut parent, pid) = begin(script);
        let adopted = tree.adopt(pid.parse().unwrap(), false).unwrap().remove(0);
        parent.tell();
        let expected = match preflight().ends_of_others {
            Ok(()) => Ok(WaitStatus::exited(5)),
            // its zombie may be gone before a reader could look at it
            Err(_) => Err(Errno::ECHILD),
        };
        let status = adopted.wait();
        assert!(status == expected || status == Ok(WaitStatus::exited(5)), "{status:?}");
    }
}

/// A parent that does not wait: the zombie shows how it ended.
#[test]
fn the_end_of_a_process_that_is_not_reaped_is_reported() {
    for tree in trees() {
        let script = "exec 3<&0; (read line <&3; exit 6) & echo $!; exec sleep 1000";
        let (mut parent, pid) = begin(script);
        let adopted = tree.adopt(pid.parse().unwrap(), false).unwrap().remove(0);
        parent.tell();
        assert_eq!(adopted.wait(), Ok(WaitStatus::exited(6)));
    }
}

#[test]
fn stops_of_adopted_processes_are_reported() {
    for tree in trees() {
        let (mut process, _) = begin("echo; read line; exit 7");
        let adopted = tree.adopt(process.id(), true).unwrap().remove(0);
        adopted.signal(Signal::TSTP).unwrap();
        // which signal it was may be known to its parent alone
        let stopped = next(&tree, &adopted).stop_signal();
        assert!([Some(Signal::TSTP), Some(Signal::STOP)].contains(&stopped), "{stopped:?}");
        let owner = tree.table().process(adopted.process().info().unwrap().ppid).unwrap();
        owner.kill(adopted.process().pid(), Signal::CONT).unwrap();
        assert_eq!(next(&tree, &adopted), WaitStatus::CONTINUED);
        owner.kill(adopted.process().pid(), Signal::TERM).unwrap();
        assert_eq!(next(&tree, &adopted), WaitStatus::killed(Signal::TERM, false));
        process.status();
    }
}

/// No process is in the table twice.
#[test]
fn adopting_a_member_gives_the_one_that_is_known() {
    for tree in trees() {
        let child = tree.spawn(Command::new("sleep").arg("1000")).unwrap();
        let adopted = tree.adopt(child.pid(), true).unwrap();
        assert_eq!(adopted.len(), 1);
        assert_eq!(adopted[0].process().pid(), child.process().pid());
        assert_eq!(tree.adopt(i32::MAX, true).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}

#[test]
fn an_ordinary_user_adopts_its_own() {
    as_ordinary_user("linux::adopt::as_a_user");
}

#[test]
#[ignore = "a scenario of an_ordinary_user_adopts_its_own"]
fn as_a_user() {
    if !is_alone() {
        return;
    }
    let tree = Options::new().without_cgroup().create().unwrap();
    let (mut process, _) = begin("env -i sleep 1000 & echo; exec >&-; wait");
    assert_eq!(tree.adopt(process.id(), true).unwrap().len(), 2);
    assert_eq!(tree.kill().unwrap().survivors, []);
    process.status();
    let error = tree.adopt(1, false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}
