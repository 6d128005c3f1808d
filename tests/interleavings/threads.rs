//! Two threads of one process.

use proctable::abi::{Errno, SaFlags, Signal, WaitOptions, WaitStatus};
use proctable::drivers::ThreadDriver;
use proctable::syscall::Syscall;
use proctable::table::{Image, Spawn, WaitTarget};
use shuttle::thread;

use super::{EXITED, both, explore, spawn, table};

/// Each thread is in a wait of its own, and the children exit in any order.
#[test]
fn two_threads_wait_for_a_child_each() {
    explore(|| {
        let (_, table) = table();
        let process = spawn(&table.init());
        let first = process.main_thread().unwrap();
        let second = first.spawn_thread().unwrap();
        let (one, two) = (spawn(&process), spawn(&process));
        let (of_one, of_two) = (one.pid().0 as i32, two.pid().0 as i32);
        let exits =
            thread::spawn(move || both(move || one.exit(1).unwrap(), move || two.exit(2).unwrap()));
        let wait = WaitOptions::default();
        let (first, second) = both(
            move || first.waitpid(of_one, wait).unwrap().unwrap().1,
            move || second.waitpid(of_two, wait).unwrap().unwrap().1,
        );
        assert_eq!((first, second), (WaitStatus::exited(1), WaitStatus::exited(2)));
        exits.join().unwrap();
    });
}

/// One thread sleeps in a call while another thread calls exec and a third one joins it: each
/// wakes, and the process is alive.
#[test]
fn an_exec_wakes_the_other_thread_from_its_call() {
    explore(|| {
        let (_, table) = table();
        let process = spawn(&table.init());
        let first = process.main_thread().unwrap();
        let second = first.spawn_thread().unwrap();
        let ended = first.clone();
        let joins = thread::spawn(move || ended.join());
        let (paused, executed) = both(
            move || first.pause(),
            move || second.syscall(Syscall::Execve { path: "next".into(), error: None }),
        );
        joins.join().unwrap();
        assert_eq!((paused, executed.map(|ret| ret.value())), (Err(Errno::ESRCH), Ok(0)));
        assert_eq!(process.exit_status(), None);
        assert_eq!(process.threads().len(), 1);
    });
}

/// A guest creates a thread and joins it while a signal arrives, which one of the two threads
/// takes.
#[test]
fn a_guest_joins_its_thread_whatever_signals_come() {
    explore(|| {
        let (_, table) = table();
        let guest = ThreadDriver::spawn(&table.init(), Spawn::new(Image::new("g")), |guest| {
            guest.catch(Signal::USR1, SaFlags(0), |guest, _| guest.checkpoint()).unwrap();
            let own = guest.pid().0 as i32;
            let signals = guest.spawn_thread(move |guest| guest.kill(own, Signal::USR1)).unwrap();
            assert_eq!(guest.join(signals), Some(Ok(())));
            7
        })
        .unwrap();
        let waited = table.init().wait(WaitTarget::from(&guest), EXITED).unwrap();
        assert_eq!(waited.status, WaitStatus::exited(7));
    });
}
