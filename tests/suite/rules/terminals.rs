//! Processes on terminals: sessions, foreground groups, the background, hang-ups.
//!
//! Long because the scenarios are in the order of the rules of docs/SEMANTICS.md.

use proctable::abi::{
    Errno, Handler, Pid, SaFlags, SigAction, SigSet, Signal, WaitOptions, WaitStatus,
};
use proctable::kernel::{Config, Effects, Kernel, Outcome, RunState};
use proctable::syscall::{PollFile, Ret, Syscall, TerminalPath, TerminalRequest, clone, open};
use proctable::tty::termios::{TOSTOP, VINTR, VMIN};
use proctable::tty::{FlowAction, PollFlags, Queue, SetTermios, Termios, Winsize};

use crate::scene::*;

const MASTER: u32 = 1;
const SLAVE: u32 = 2;

fn open_file(path: TerminalPath, flags: u32) -> Syscall {
    Syscall::Open { path, flags }
}

fn slave(flags: u32) -> Syscall {
    open_file(TerminalPath::Pts(0), flags)
}

fn read(file: u32) -> Syscall {
    Syscall::Read { file, len: 100 }
}

fn write(file: u32, text: &str) -> Syscall {
    Syscall::Write { file, bytes: text.as_bytes().into() }
}

fn ioctl(file: u32, request: TerminalRequest) -> Syscall {
    Syscall::Ioctl { file, request }
}

fn bytes(text: &str) -> proctable::syscall::Result {
    Ok(Ret::Bytes(text.as_bytes().into()))
}

/// Process 1 has a terminal that controls no session: its master and its slave are open.
fn scene_with_terminal() -> Scene {
    let mut scene = Scene::new();
    open_pty(&mut scene, 0);
    scene
}

/// Process 1 opens a pty, with the files after `files`.
fn open_pty(scene: &mut Scene, files: u32) {
    let rdwr = open::RDWR | open::NOCTTY;
    let (master, slave) = (i64::from(files) + 1, i64::from(files) + 2);
    assert_eq!(scene.value(1, open_file(TerminalPath::Ptmx, rdwr)), master);
    let request = TerminalRequest::Tiocsptlck(false);
    assert_eq!(scene.value(1, ioctl(files + 1, request)), 0);
    let path = TerminalPath::Pts(files / 2);
    assert_eq!(scene.value(1, open_file(path, rdwr)), slave);
}

/// A child of process 1 that leads a session of its own.
fn leader(scene: &mut Scene) -> u32 {
    let leader = scene.fork(1);
    assert_eq!(scene.value(leader, Syscall::Setsid), i64::from(leader));
    leader
}

/// Such a child, with the terminal.
fn shell(scene: &mut Scene) -> u32 {
    let shell = leader(scene);
    assert_eq!(control(scene, shell, 0), Ok(Ret::Value(0)));
    shell
}

fn control(scene: &mut Scene, pid: u32, arg: i32) -> proctable::syscall::Result {
    scene.result(pid, ioctl(SLAVE, TerminalRequest::Tiocsctty(arg)))
}

/// A child of `shell` in a process group of its own.
fn job(scene: &mut Scene, shell: u32) -> u32 {
    let job = scene.fork(shell);
    scene.setpgid(shell, job as i32, 0);
    job
}

fn set_foreground(scene: &mut Scene, pid: u32, pgid: i32) -> proctable::syscall::Result {
    scene.result(pid, ioctl(SLAVE, TerminalRequest::Tiocspgrp(pgid)))
}

/// The group of `leader` is in the foreground from now on.
fn to_foreground(scene: &mut Scene, pid: u32, leader: u32) {
    assert_eq!(set_foreground(scene, pid, leader as i32), Ok(Ret::Value(0)));
}

fn foreground(scene: &mut Scene, pid: u32, file: u32) -> proctable::syscall::Result {
    scene.result(pid, ioctl(file, TerminalRequest::Tiocgpgrp))
}

fn stored(number: u32) -> proctable::syscall::Result {
    Ok(Ret::Stored(number as i32))
}

fn has_no_terminal(scene: &mut Scene, pid: u32) -> bool {
    scene.result(pid, open_file(TerminalPath::Tty, open::RDWR)) == Err(Errno::ENXIO)
}

/// Catches signals, without SA_RESTART.
fn catch(scene: &mut Scene, pid: u32, signals: &[Signal]) {
    for signal in signals {
        scene.catch(pid, *signal, SaFlags(0), SigSet::EMPTY);
    }
}

fn ignore(scene: &mut Scene, pid: u32, signal: Signal) {
    let action = SigAction { handler: Handler::Ignore, ..SigAction::DEFAULT };
    scene.action(pid, signal, action);
}

/// Sets flags of c_lflag, by a process that may.
fn set_local(scene: &mut Scene, pid: u32, set: u32, clear: u32) {
    let mut termios = Termios::default();
    termios.lflag = (termios.lflag | set) & !clear;
    let request = TerminalRequest::Tcsets(SetTermios::Now, Box::new(termios));
    assert_eq!(scene.value(pid, ioctl(SLAVE, request)), 0);
}

fn is_stopped(scene: &Scene, pid: u32) -> bool {
    matches!(scene.run(pid), RunState::Stopped)
}

#[test]
fn tty_01_a_session_leader_acquires_a_terminal_by_open() {
    let mut scene = scene_with_terminal();
    let own = leader(&mut scene);
    // not with O_NOCTTY, and not for writing alone
    for flags in [open::RDWR | open::NOCTTY, open::WRONLY] {
        scene.value(own, slave(flags));
        assert!(has_no_terminal(&mut scene, own)); // TTY-06
    }
    // not by a process that leads no session
    let child = scene.fork(own);
    scene.value(child, slave(open::RDWR));
    assert!(has_no_terminal(&mut scene, child));
    scene.value(own, slave(open::RDONLY));
    assert_eq!(foreground(&mut scene, own, SLAVE), stored(own));
    let session = scene.result(own, ioctl(SLAVE, TerminalRequest::Tiocgsid));
    assert_eq!(session, stored(own));
    // the child existed before
    assert!(has_no_terminal(&mut scene, child));
    // a terminal of another session stays there
    let other = leader(&mut scene);
    scene.value(other, slave(open::RDWR));
    assert!(has_no_terminal(&mut scene, other));
    scene.same_on_the_kernel();
}

#[test]
fn tty_02_a_master_never_becomes_a_controlling_terminal() {
    let mut scene = Scene::new();
    let own = leader(&mut scene);
    assert_eq!(scene.value(own, open_file(TerminalPath::Ptmx, open::RDWR)), 1);
    assert!(has_no_terminal(&mut scene, own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_03_tiocsctty_is_for_session_leaders_without_a_terminal() {
    let mut scene = scene_with_terminal();
    open_pty(&mut scene, 2);
    let own = shell(&mut scene);
    assert_eq!(control(&mut scene, own, 0), Ok(Ret::Value(0)));
    let child = scene.fork(own);
    assert_eq!(control(&mut scene, child, 0), Err(Errno::EPERM));
    let other = ioctl(4, TerminalRequest::Tiocsctty(1));
    assert_eq!(scene.result(own, other), Err(Errno::EPERM));
    scene.same_on_the_kernel();
}

#[test]
fn tty_04_a_session_takes_a_terminal_from_another_with_the_privilege() {
    let mut scene = scene_with_terminal();
    let victim = shell(&mut scene);
    catch(&mut scene, victim, &[Signal::HUP, Signal::CONT]);
    let member = job(&mut scene, victim);
    let thief = leader(&mut scene);
    assert_eq!(control(&mut scene, thief, 0), Err(Errno::EPERM));
    assert_eq!(control(&mut scene, thief, 1), Ok(Ret::Value(0)));
    assert_eq!(scene.handled(victim), []);
    for pid in [victim, member] {
        assert!(has_no_terminal(&mut scene, pid));
        assert_eq!(foreground(&mut scene, pid, SLAVE), Err(Errno::ENOTTY));
    }
    assert_eq!(foreground(&mut scene, thief, SLAVE), stored(thief));
    // the former members use it as any other file
    assert_eq!(scene.value(member, write(SLAVE, "x")), 1);
    let user = leader(&mut scene);
    scene.set_users(user, users(1000));
    assert_eq!(control(&mut scene, user, 1), Err(Errno::EPERM));
    scene.same_on_the_kernel();
}

#[test]
fn tty_05_a_file_for_writing_alone_needs_the_privilege() {
    let mut scene = scene_with_terminal();
    assert_eq!(scene.value(1, slave(open::WRONLY | open::NOCTTY)), 3);
    let own = leader(&mut scene);
    scene.set_users(own, users(1000));
    let request = || ioctl(3, TerminalRequest::Tiocsctty(0));
    assert_eq!(scene.result(own, request()), Err(Errno::EPERM));
    let root = leader(&mut scene);
    assert_eq!(scene.result(root, request()), Ok(Ret::Value(0)));
    scene.same_on_the_kernel();
}

#[test]
fn tty_07_a_child_has_the_terminal_and_setsid_gives_it_up() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let child = scene.fork(own);
    let other = scene.fork(own);
    assert_eq!(foreground(&mut scene, child, SLAVE), stored(own));
    scene.value(child, Syscall::Setsid);
    assert!(has_no_terminal(&mut scene, child));
    assert_eq!(foreground(&mut scene, other, SLAVE), stored(own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_08_tiocnotty_of_a_member_is_for_itself() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let (child, other) = (scene.fork(own), scene.fork(own));
    let give_up = || ioctl(SLAVE, TerminalRequest::Tiocnotty);
    assert_eq!(scene.result(child, give_up()), Ok(Ret::Value(0)));
    assert!(has_no_terminal(&mut scene, child));
    assert_eq!(scene.result(child, give_up()), Err(Errno::ENOTTY));
    for pid in [own, other] {
        assert_eq!(foreground(&mut scene, pid, SLAVE), stored(own));
    }
    // its children have none either
    let grandchild = scene.fork(child);
    assert!(has_no_terminal(&mut scene, grandchild));
    scene.same_on_the_kernel();
}

#[test]
fn tty_09_tiocnotty_of_a_leader_signals_the_foreground_group() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let (front, back) = (job(&mut scene, own), job(&mut scene, own));
    for pid in [own, front, back] {
        catch(&mut scene, pid, &[Signal::HUP, Signal::CONT]);
    }
    to_foreground(&mut scene, own, front);
    scene.value(own, ioctl(SLAVE, TerminalRequest::Tiocnotty));
    let handled = scene.handled(front);
    // SIG-40: the handler that was set up last runs first
    let numbers: Vec<u8> = handled.iter().map(|info| info.signal.number()).collect();
    assert_eq!(numbers, [Signal::CONT.number(), Signal::HUP.number()]);
    assert!(handled.iter().all(|info| info.pid.0 == own));
    assert_eq!((scene.handled(own), scene.handled(back)), (vec![], vec![]));
    for pid in [own, front, back] {
        assert!(has_no_terminal(&mut scene, pid));
    }
    // the terminal is free
    let other = shell(&mut scene);
    assert_eq!(foreground(&mut scene, other, SLAVE), stored(other));
    scene.same_on_the_kernel();
}

#[test]
fn tty_26_tiocnotty_sends_its_signals_with_the_callers_permissions() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let front = job(&mut scene, own);
    catch(&mut scene, front, &[Signal::HUP, Signal::CONT]);
    to_foreground(&mut scene, own, front);
    scene.set_users(own, users(1000));
    scene.value(own, ioctl(SLAVE, TerminalRequest::Tiocnotty));
    assert_eq!(scene.handled_numbers(front), [Signal::CONT.number()]);
    scene.same_on_the_kernel();
}

#[test]
fn tty_10_the_end_of_a_leader_hangs_up_the_foreground_group() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let (front, back) = (job(&mut scene, own), job(&mut scene, own));
    for pid in [front, back] {
        catch(&mut scene, pid, &[Signal::HUP, Signal::CONT]);
    }
    to_foreground(&mut scene, own, front);
    scene.exit(own, 0);
    assert_eq!(scene.handled_numbers(front), [Signal::HUP.number()]);
    assert_eq!(scene.handled(front)[0].pid.0, 0);
    assert_eq!(scene.handled(back), []);
    for pid in [front, back] {
        assert!(has_no_terminal(&mut scene, pid));
        assert_eq!(foreground(&mut scene, pid, SLAVE), Err(Errno::ENOTTY));
    }
    // the file works as before
    assert_eq!(scene.value(back, write(SLAVE, "x")), 1);
    assert_eq!(scene.result(1, read(MASTER)), bytes("x"));
    scene.same_on_the_kernel();
}

#[test]
fn tty_12_the_end_of_a_leader_without_a_terminal_signals_nobody() {
    let mut scene = scene_with_terminal();
    let own = leader(&mut scene);
    let member = scene.fork(own);
    catch(&mut scene, member, &[Signal::HUP, Signal::CONT]);
    scene.exit(own, 0);
    assert_eq!(scene.handled(member), []);
    scene.same_on_the_kernel();
}

#[test]
fn tty_13_a_hang_up_signals_the_leader_and_tty_14_its_end_the_foreground_group() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let (front, back) = (job(&mut scene, own), job(&mut scene, own));
    for pid in [own, front, back] {
        catch(&mut scene, pid, &[Signal::HUP, Signal::CONT]);
    }
    to_foreground(&mut scene, own, front);
    scene.value(1, Syscall::Close(MASTER));
    let both = [Signal::CONT.number(), Signal::HUP.number()];
    assert_eq!(scene.handled_numbers(own), both);
    assert_eq!((scene.handled(front), scene.handled(back)), (vec![], vec![]));
    for pid in [own, front, back] {
        assert!(has_no_terminal(&mut scene, pid));
        assert_eq!(scene.result(pid, read(SLAVE)), bytes(""));
        assert_eq!(scene.result(pid, write(SLAVE, "x")), Err(Errno::EIO));
        let size = scene.result(pid, ioctl(SLAVE, TerminalRequest::Tiocgwinsz));
        assert_eq!(size, Err(Errno::EIO));
        assert_eq!(set_foreground(&mut scene, pid, own as i32), Err(Errno::ENOTTY));
    }
    // LD-186
    assert_eq!(scene.result(own, slave(open::RDWR)), Err(Errno::ENOENT));
    scene.exit(own, 0);
    assert_eq!(scene.handled_numbers(front), both);
    assert_eq!(scene.handled(back), []);
    scene.same_on_the_kernel();
}

#[test]
fn tty_13_vhangup_takes_the_terminal_from_its_session() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    catch(&mut scene, own, &[Signal::HUP, Signal::CONT]);
    let reader = scene.fork(own);
    scene.call(reader, read(SLAVE));
    assert_eq!(scene.returned(reader), None);
    scene.value(1, ioctl(SLAVE, TerminalRequest::Tiocvhangup));
    assert_eq!(scene.handled_numbers(own), [Signal::CONT.number(), Signal::HUP.number()]);
    assert_eq!(scene.returned(reader), Some(bytes("")));
    assert!(has_no_terminal(&mut scene, reader));
    // a file that is opened now works, and can be acquired
    assert_eq!(scene.value(own, slave(open::RDWR)), 3);
    assert_eq!(foreground(&mut scene, own, 3), stored(own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_16_reads_and_changes_from_the_background_stop_the_group() {
    let size = Winsize { rows: 25, cols: 80, xpixel: 0, ypixel: 0 };
    let change = || TerminalRequest::Tcsets(SetTermios::Now, Box::default());
    let calls = [
        (read(SLAVE), Some(Signal::TTIN)),
        (write(SLAVE, "x"), None),
        (ioctl(SLAVE, TerminalRequest::Tcgets), None),
        (ioctl(SLAVE, TerminalRequest::Tiocgpgrp), None),
        (ioctl(SLAVE, TerminalRequest::Tiocgwinsz), None),
        (ioctl(SLAVE, TerminalRequest::Tiocswinsz(size)), None),
        (ioctl(SLAVE, TerminalRequest::Fionread), None),
        (ioctl(SLAVE, change()), Some(Signal::TTOU)),
        (ioctl(SLAVE, TerminalRequest::Tcflsh(Queue::Input)), Some(Signal::TTOU)),
        (ioctl(SLAVE, TerminalRequest::Tcsbrk(1)), Some(Signal::TTOU)),
        (ioctl(SLAVE, TerminalRequest::Tiocspgrp(2)), Some(Signal::TTOU)),
    ];
    for (call, stops) in calls {
        let mut scene = scene_with_terminal();
        let own = shell(&mut scene);
        let back = job(&mut scene, own);
        let other = scene.fork(back);
        scene.call(back, call.clone());
        assert_eq!(scene.returned(back).is_none(), stops.is_some(), "{call:?}");
        // the whole group
        assert_eq!(is_stopped(&scene, other), stops.is_some(), "{call:?}");
        if let Some(signal) = stops {
            let waited = scene.wait(own, WaitOptions::STOPPED);
            assert_eq!(waited, self::waited(back, WaitStatus::stopped(signal)));
        }
        scene.same_on_the_kernel();
    }
}

#[test]
fn tty_16_writes_from_the_background_stop_the_group_with_tostop() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    set_local(&mut scene, own, TOSTOP, 0);
    let back = job(&mut scene, own);
    scene.call(back, write(SLAVE, "text"));
    assert!(is_stopped(&scene, back));
    // TTY-18: the write is restarted when the group is in the foreground
    to_foreground(&mut scene, own, back);
    scene.kill(1, back as i32, Signal::CONT);
    assert_eq!(scene.returned(back), Some(Ok(Ret::Value(4))));
    assert_eq!(scene.result(1, read(MASTER)), bytes("text"));
    scene.same_on_the_kernel();
}

#[test]
fn tty_17_a_signal_that_is_blocked_or_ignored_decides_first() {
    for blocks in [true, false] {
        let mut scene = scene_with_terminal();
        let own = shell(&mut scene);
        set_local(&mut scene, own, TOSTOP, 0);
        let back = job(&mut scene, own);
        if blocks {
            scene.block(back, Signal::TTIN.set() | Signal::TTOU.set());
        } else {
            ignore(&mut scene, back, Signal::TTIN);
            ignore(&mut scene, back, Signal::TTOU);
        }
        assert_eq!(scene.result(back, read(SLAVE)), Err(Errno::EIO));
        assert_eq!(scene.value(back, write(SLAVE, "x")), 1);
        to_foreground(&mut scene, back, back);
        assert_eq!(foreground(&mut scene, own, SLAVE), stored(back));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tty_17_calls_of_an_orphaned_group_fail() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    set_local(&mut scene, own, TOSTOP, 0);
    let back = job(&mut scene, own);
    let orphan = scene.fork(back);
    scene.exit(back, 0);
    assert_eq!(scene.result(orphan, read(SLAVE)), Err(Errno::EIO)); // ORP-20
    assert_eq!(scene.result(orphan, write(SLAVE, "x")), Err(Errno::EIO));
    assert_eq!(set_foreground(&mut scene, orphan, back as i32), Err(Errno::ENOTTY));
    // TTY-20: SIG_IGN decides before
    ignore(&mut scene, orphan, Signal::TTOU);
    assert_eq!(scene.value(orphan, write(SLAVE, "x")), 1);
    scene.same_on_the_kernel();
}

#[test]
fn tty_18_a_handler_interrupts_a_call_from_the_background() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let back = job(&mut scene, own);
    catch(&mut scene, back, &[Signal::TTIN]);
    assert_eq!(scene.result(back, read(SLAVE)), Err(Errno::EINTR));
    assert_eq!(scene.handled(back)[0].pid.0, 0);
    scene.same_on_the_kernel();
}

#[test]
fn tty_19_a_restarted_call_signals_again() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let back = job(&mut scene, own);
    // the handler runs once
    let flags = SaFlags::RESTART.with(SaFlags::RESETHAND);
    scene.catch(back, Signal::TTIN, flags, SigSet::EMPTY);
    scene.call(back, read(SLAVE));
    assert_eq!(scene.handled_numbers(back), [Signal::TTIN.number()]);
    assert!(is_stopped(&scene, back));
    scene.same_on_the_kernel();
}

#[test]
fn tty_18_a_stopped_read_completes_in_the_foreground() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let back = job(&mut scene, own);
    scene.call(back, read(SLAVE));
    assert!(is_stopped(&scene, back));
    to_foreground(&mut scene, own, back);
    scene.kill(1, back as i32, Signal::CONT);
    assert_eq!(scene.returned(back), None);
    scene.value(1, write(MASTER, "line\n"));
    assert_eq!(scene.returned(back), Some(bytes("line\n")));
    // the shell's own group is orphaned: it does not come back by itself
    assert_eq!(set_foreground(&mut scene, own, own as i32), Err(Errno::ENOTTY));
    scene.same_on_the_kernel();
}

#[test]
fn tty_21_tiocgpgrp_is_for_the_controlling_terminal_and_the_master() {
    let mut scene = scene_with_terminal();
    assert_eq!(foreground(&mut scene, 1, SLAVE), Err(Errno::ENOTTY));
    assert_eq!(foreground(&mut scene, 1, MASTER), stored(0));
    let own = shell(&mut scene);
    assert_eq!(foreground(&mut scene, 1, SLAVE), Err(Errno::ENOTTY));
    assert_eq!(foreground(&mut scene, 1, MASTER), stored(own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_22_the_errors_of_tiocspgrp_have_an_order() {
    let mut scene = scene_with_terminal();
    let (own, other) = (shell(&mut scene), leader(&mut scene));
    let child = scene.fork(own);
    let gone = scene.fork(own);
    scene.exit(gone, 0);
    scene.wait(own, NONE).expect("a zombie");
    for (pid, pgid, errno) in [
        (own, -1, Errno::EINVAL),
        (1, -1, Errno::EINVAL),
        (1, own as i32, Errno::ENOTTY),
        (own, 0, Errno::ESRCH),
        (own, gone as i32, Errno::ESRCH),
        (own, other as i32, Errno::EPERM),
        (own, 1, Errno::EPERM),
    ] {
        assert_eq!(set_foreground(&mut scene, pid, pgid), Err(errno), "{pid} {pgid}");
    }
    // TTY-23: a process that leads no group
    to_foreground(&mut scene, own, child);
    assert_eq!(foreground(&mut scene, own, MASTER.max(SLAVE)), stored(child));
    // the caller's group is in the background now; the child becomes the foreground by setpgid
    scene.setpgid(own, child as i32, 0);
    scene.call(child, read(SLAVE));
    assert!(!is_stopped(&scene, child));
    scene.same_on_the_kernel();
}

#[test]
fn tty_23_the_group_of_a_zombie_can_be_in_the_foreground() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let zombie = job(&mut scene, own);
    scene.exit(zombie, 0);
    ignore(&mut scene, own, Signal::TTOU);
    to_foreground(&mut scene, own, zombie);
    scene.wait(own, NONE).expect("a zombie");
    // TTY-33
    assert_eq!(foreground(&mut scene, own, SLAVE), stored(zombie));
    assert_eq!(set_foreground(&mut scene, own, zombie as i32), Err(Errno::ESRCH));
    // a signal of the terminal has no target
    scene.value(1, write(MASTER, "\x03"));
    assert!(!scene.is_gone(own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_24_tiocspgrp_works_through_the_master() {
    let mut scene = Scene::new();
    let own = leader(&mut scene);
    let rdwr = open::RDWR;
    assert_eq!(scene.value(own, open_file(TerminalPath::Ptmx, rdwr)), 1);
    scene.value(own, ioctl(1, TerminalRequest::Tiocsptlck(false)));
    assert_eq!(scene.value(own, slave(rdwr)), 2);
    let front = job(&mut scene, own);
    let request = TerminalRequest::Tiocspgrp(front as i32);
    assert_eq!(scene.result(own, ioctl(1, request)), Ok(Ret::Value(0)));
    assert_eq!(foreground(&mut scene, own, 1), stored(front));
    // TTY-25
    let session = scene.result(own, ioctl(1, TerminalRequest::Tiocgsid));
    assert_eq!(session, stored(own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_25_tiocgsid_needs_a_session() {
    let mut scene = scene_with_terminal();
    let session = |file| ioctl(file, TerminalRequest::Tiocgsid);
    for file in [MASTER, SLAVE] {
        assert_eq!(scene.result(1, session(file)), Err(Errno::ENOTTY));
    }
    let own = shell(&mut scene);
    assert_eq!(scene.result(1, session(SLAVE)), Err(Errno::ENOTTY));
    assert_eq!(scene.result(1, session(MASTER)), stored(own));
    scene.same_on_the_kernel();
}

#[test]
fn tty_28_special_characters_signal_the_foreground_group() {
    for (byte, signal) in [("\x03", Signal::INT), ("\x1c", Signal::QUIT), ("\x1a", Signal::TSTP)] {
        let mut scene = scene_with_terminal();
        let own = shell(&mut scene);
        let (front, back) = (job(&mut scene, own), job(&mut scene, own));
        let second = scene.fork(front);
        for pid in [own, front, second, back] {
            catch(&mut scene, pid, &[signal]);
        }
        to_foreground(&mut scene, own, front);
        scene.value(1, write(MASTER, byte));
        for pid in [front, second] {
            assert_eq!(scene.handled_numbers(pid), [signal.number()]);
            assert_eq!(scene.handled(pid)[0].pid.0, 0);
        }
        assert_eq!((scene.handled(own), scene.handled(back)), (vec![], vec![]));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tty_28_a_signal_of_the_terminal_interrupts_a_read() {
    for (flags, result) in [(SaFlags(0), Some(Err(Errno::EINTR))), (SaFlags::RESTART, None)] {
        let mut scene = scene_with_terminal();
        let own = shell(&mut scene);
        scene.catch(own, Signal::INT, flags, SigSet::EMPTY);
        scene.call(own, read(SLAVE));
        scene.value(1, write(MASTER, "lost"));
        assert_eq!(scene.returned(own), None);
        scene.value(1, write(MASTER, "\x03"));
        assert_eq!(scene.handled_numbers(own), [Signal::INT.number()]);
        assert_eq!(scene.returned(own), result);
        if result.is_some() {
            scene.call(own, read(SLAVE));
        }
        // TTY-29: the input before it is gone
        scene.value(1, write(MASTER, "line\n"));
        assert_eq!(scene.returned(own), Some(bytes("line\n")));
        scene.same_on_the_kernel();
    }
}

#[test]
fn tty_28_without_isig_the_characters_are_input() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let mut termios = Termios::default().raw();
    termios.cc[VINTR] = 3;
    let request = TerminalRequest::Tcsets(SetTermios::Flush, Box::new(termios));
    scene.value(own, ioctl(SLAVE, request));
    scene.value(1, write(MASTER, "\x03\x1a"));
    assert_eq!(scene.result(own, read(SLAVE)), bytes("\x03\x1a"));
    scene.same_on_the_kernel();
}

#[test]
fn tty_30_a_stop_character_does_not_stop_an_orphaned_group() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    scene.value(1, write(MASTER, "\x1a"));
    assert!(!is_stopped(&scene, own));
    let front = job(&mut scene, own);
    to_foreground(&mut scene, own, front);
    scene.value(1, write(MASTER, "\x1a"));
    assert!(is_stopped(&scene, front));
    scene.same_on_the_kernel();
}

#[test]
fn tty_31_a_new_size_of_the_window_signals_the_foreground_group() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let (front, back) = (job(&mut scene, own), job(&mut scene, own));
    for pid in [own, front, back] {
        catch(&mut scene, pid, &[Signal::WINCH]);
    }
    to_foreground(&mut scene, own, front);
    let size = Winsize { rows: 25, cols: 80, xpixel: 0, ypixel: 0 };
    for (file, size, is_new) in
        [(MASTER, size, true), (MASTER, size, false), (SLAVE, Winsize { ypixel: 1, ..size }, true)]
    {
        scene.value(1, ioctl(file, TerminalRequest::Tiocswinsz(size)));
        let expected = if is_new { vec![Signal::WINCH.number()] } else { vec![] };
        assert_eq!(scene.handled_numbers(front), expected);
        assert_eq!((scene.handled(own), scene.handled(back)), (vec![], vec![]));
        let stored = scene.result(own, ioctl(SLAVE, TerminalRequest::Tiocgwinsz));
        assert_eq!(stored, Ok(Ret::Winsize(size)));
    }
    scene.same_on_the_kernel();
}

#[test]
fn tty_32_tiocsig_sends_three_signals() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let front = job(&mut scene, own);
    catch(&mut scene, front, &[Signal::INT, Signal::QUIT, Signal::TSTP]);
    to_foreground(&mut scene, own, front);
    for signal in [Signal::INT, Signal::QUIT, Signal::TSTP] {
        scene.value(1, ioctl(MASTER, TerminalRequest::Tiocsig(signal.number().into())));
        assert_eq!(scene.handled_numbers(front), [signal.number()]);
    }
    for signal in [0, 1, 9, 65] {
        let request = ioctl(MASTER, TerminalRequest::Tiocsig(signal));
        assert_eq!(scene.result(1, request), Err(Errno::EINVAL));
    }
    scene.same_on_the_kernel();
}

#[test]
fn tty_33_a_foreground_group_that_ended_keeps_others_in_the_background() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let (front, back) = (job(&mut scene, own), job(&mut scene, own));
    to_foreground(&mut scene, own, front);
    scene.exit(front, 0);
    scene.wait(own, NONE).expect("a zombie");
    assert_eq!(foreground(&mut scene, own, SLAVE), stored(front));
    assert_eq!(foreground(&mut scene, 1, MASTER), stored(front));
    scene.call(back, read(SLAVE));
    assert!(is_stopped(&scene, back));
    scene.same_on_the_kernel();
}

/// PID-10: the number of the group in the foreground is used again, by a group that is in the
/// background.
#[test]
fn pid_10_a_terminal_keeps_the_group_and_not_its_number() {
    let config = Config { pid_max: 303, last_pid: 299, ..Config::default() };
    let mut scene = Scene::with(config);
    open_pty(&mut scene, 0);
    let own = shell(&mut scene);
    let front = job(&mut scene, own);
    to_foreground(&mut scene, own, front);
    scene.exit(front, 0);
    scene.wait(own, NONE).expect("a zombie");
    let other = scene.fork(own);
    let again = job(&mut scene, own);
    assert_eq!((other, again), (302, front));
    assert_eq!(foreground(&mut scene, own, SLAVE), stored(again));
    scene.call(again, read(SLAVE));
    assert!(is_stopped(&scene, again));
    scene.same_on_the_kernel();
}

#[test]
fn tty_34_a_process_of_another_session_uses_the_terminal_freely() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    set_local(&mut scene, own, TOSTOP, 0);
    let other = leader(&mut scene);
    assert_eq!(scene.value(other, write(SLAVE, "x")), 1);
    scene.call(other, read(SLAVE));
    scene.value(1, write(MASTER, "line\n"));
    assert_eq!(scene.returned(other), Some(bytes("line\n")));
    set_local(&mut scene, other, 0, TOSTOP);
    scene.same_on_the_kernel();
}

/// LD-116: one reader takes a line, the other one stays.
#[test]
fn two_readers_take_a_line_each() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let second = scene.fork(own);
    scene.call(own, read(SLAVE));
    scene.call(second, read(SLAVE));
    scene.value(1, write(MASTER, "one\n"));
    assert_eq!((scene.returned(own), scene.returned(second)), (Some(bytes("one\n")), None));
    // a reader that ends lets others read
    scene.call(own, read(SLAVE));
    scene.kill(1, second as i32, Signal::KILL);
    scene.value(1, write(MASTER, "two\n"));
    assert_eq!(scene.returned(own), Some(bytes("two\n")));
    scene.same_on_the_kernel();
}

/// A write waits while ^S has stopped the output, and signals interrupt it (LD-148 to LD-151).
#[test]
fn a_write_waits_for_the_output() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let second = scene.fork(own);
    scene.value(1, write(MASTER, "\x13"));
    scene.call(own, write(SLAVE, "first"));
    scene.call(second, write(SLAVE, "second"));
    assert_eq!((scene.returned(own), scene.returned(second)), (None, None));
    scene.value(1, write(MASTER, "\x11"));
    assert_eq!(scene.returned(own), Some(Ok(Ret::Value(5))));
    assert_eq!(scene.returned(second), Some(Ok(Ret::Value(6))));
    assert_eq!(scene.result(1, read(MASTER)), bytes("firstsecond"));
    scene.value(1, write(MASTER, "\x13"));
    catch(&mut scene, own, &[Signal::USR1]);
    scene.call(own, write(SLAVE, "third"));
    scene.kill(1, own as i32, Signal::USR1);
    assert_eq!(scene.returned(own), Some(Err(Errno::EINTR)));
    scene.same_on_the_kernel();
}

/// LD-196: the access mode belongs to the file.
#[test]
fn the_access_mode_of_a_file_decides() {
    let mut scene = scene_with_terminal();
    assert_eq!(scene.value(1, slave(open::RDONLY | open::NOCTTY)), 3);
    assert_eq!(scene.value(1, slave(open::WRONLY | open::NOCTTY)), 4);
    assert_eq!(scene.result(1, write(3, "x")), Err(Errno::EBADF));
    assert_eq!(scene.result(1, read(4)), Err(Errno::EBADF));
    assert_eq!(scene.value(1, slave(open::RDONLY | open::NONBLOCK)), 5);
    assert_eq!(scene.result(1, read(5)), Err(Errno::EAGAIN));
    assert_eq!(scene.value(1, Syscall::Close(5)), 0);
    assert_eq!(scene.result(1, read(5)), Err(Errno::EBADF));
    scene.same_on_the_kernel();
}

/// A thread of `pid`'s process.
fn thread(scene: &mut Scene, pid: u32) -> u32 {
    let flags = clone::VM | clone::FS | clone::FILES | clone::SIGHAND | clone::THREAD;
    scene.value(pid, Syscall::clone_call(flags | clone::SYSVSEM)) as u32
}

#[test]
fn tg_55_a_read_from_the_background_is_judged_by_its_thread() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let back = job(&mut scene, own);
    let second = thread(&mut scene, back);
    scene.block(second, Signal::TTIN.set());
    assert_eq!(scene.result(second, read(SLAVE)), Err(Errno::EIO));
    // the reader takes the signal, also if the leader is free
    scene.unblock(second, Signal::TTIN.set());
    catch(&mut scene, back, &[Signal::TTIN]);
    assert_eq!(scene.result(second, read(SLAVE)), Err(Errno::EINTR));
    assert_eq!(scene.handled_numbers(second), [Signal::TTIN.number()]);
    assert_eq!(scene.handled(back), []);
    scene.same_on_the_kernel();
}

#[test]
fn tg_55_a_signal_of_the_terminal_goes_to_the_leader_first() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let second = thread(&mut scene, own);
    catch(&mut scene, own, &[Signal::INT]);
    scene.value(1, write(MASTER, "\x03"));
    assert_eq!(scene.handled_numbers(own), [Signal::INT.number()]);
    scene.block(own, Signal::INT.set());
    scene.value(1, write(MASTER, "\x03"));
    assert_eq!(scene.handled_numbers(second), [Signal::INT.number()]);
    scene.same_on_the_kernel();
}

#[test]
fn tg_100_the_last_thread_of_a_session_leader_hangs_up() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let second = thread(&mut scene, own);
    let front = job(&mut scene, own);
    catch(&mut scene, front, &[Signal::HUP]);
    to_foreground(&mut scene, own, front);
    scene.call(own, Syscall::Exit(0));
    assert_eq!(scene.handled(front), []);
    scene.call(second, Syscall::Exit(0));
    assert_eq!(scene.handled_numbers(front), [Signal::HUP.number()]);
    scene.same_on_the_kernel();
}

/// LD-164: TCSETSF waits for a write that waits.
#[test]
fn tcsetsf_waits_for_a_write() {
    let mut scene = scene_with_terminal();
    let (own, other) = (shell(&mut scene), leader(&mut scene));
    scene.value(1, write(MASTER, "\x13"));
    scene.call(own, write(SLAVE, "text"));
    let mut termios = Termios::default();
    termios.lflag |= TOSTOP;
    let request = TerminalRequest::Tcsets(SetTermios::Flush, Box::new(termios));
    scene.call(other, ioctl(SLAVE, request));
    assert_eq!((scene.returned(own), scene.returned(other)), (None, None));
    scene.value(1, write(MASTER, "\x11"));
    assert_eq!(scene.returned(own), Some(Ok(Ret::Value(4))));
    assert_eq!(scene.returned(other), Some(Ok(Ret::Value(0))));
    let set = scene.result(1, ioctl(SLAVE, TerminalRequest::Tcgets));
    assert!(matches!(set, Ok(Ret::Termios(set)) if set.lflag & TOSTOP != 0));
    scene.same_on_the_kernel();
}

/// TTY-16, LD-86: a write that waits for another one is judged at its turn; ^C restarts the output,
/// and the writer that it ends writes no more.
#[test]
fn a_write_is_judged_at_its_turn() {
    let mut scene = scene_with_terminal();
    let (own, other) = (shell(&mut scene), leader(&mut scene));
    let back = job(&mut scene, own);
    set_local(&mut scene, own, TOSTOP, 0);
    scene.value(1, write(MASTER, "\x13"));
    scene.call(other, write(SLAVE, "first"));
    scene.call(back, write(SLAVE, "second"));
    assert!(!is_stopped(&scene, back));
    scene.value(1, write(MASTER, "\x11"));
    assert!(is_stopped(&scene, back));
    scene.value(1, write(MASTER, "\x13"));
    scene.call(own, write(SLAVE, "third"));
    scene.value(1, write(MASTER, "\x03"));
    assert_eq!(scene.run(own), RunState::Zombie);
    assert_eq!(scene.result(1, read(MASTER)), bytes("first^C"));
    scene.same_on_the_kernel();
}

/// LD-155: a write that TCOON continues does not print the echoes that wait; the next one does.
#[test]
fn a_continued_write_prints_no_echoes() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let flow = |action| ioctl(SLAVE, TerminalRequest::Tcxonc(action));
    scene.value(own, flow(FlowAction::StopOutput));
    scene.value(1, write(MASTER, "a"));
    scene.call(own, write(SLAVE, "text"));
    scene.value(1, flow(FlowAction::StartOutput));
    assert_eq!(scene.returned(own), Some(Ok(Ret::Value(4))));
    assert_eq!(scene.result(1, read(MASTER)), bytes("text"));
    scene.value(own, write(SLAVE, "more"));
    assert_eq!(scene.result(1, read(MASTER)), bytes("amore"));
    scene.same_on_the_kernel();
}

/// LD-85: of several signal characters in one write only the echo of the last one remains, also if
/// a START between them has printed the first one.
#[test]
fn the_flush_of_a_signal_removes_the_echo_of_the_same_write() {
    let mut scene = scene_with_terminal();
    scene.value(1, write(MASTER, "\x03\x11\x1c"));
    assert_eq!(scene.result(1, read(MASTER)), bytes("^\\"));
    scene.same_on_the_kernel();
}

/// LD-113: VMIN is taken when the read has its turn.
#[test]
fn a_read_takes_the_settings_at_its_turn() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let second = scene.fork(own);
    scene.call(own, read(SLAVE));
    scene.call(second, read(SLAVE));
    scene.value(1, write(MASTER, "a"));
    let mut termios = Termios::default().raw();
    termios.cc[VMIN] = 0;
    let request = TerminalRequest::Tcsets(SetTermios::Now, Box::new(termios));
    scene.value(1, ioctl(SLAVE, request));
    assert_eq!((scene.returned(own), scene.returned(second)), (Some(bytes("a")), Some(bytes(""))));
    scene.same_on_the_kernel();
}

/// LD-190, on the model only: there are 4,096 ptys.
#[test]
fn the_number_of_ptys_has_a_limit() {
    let (mut kernel, mut fx) = (Kernel::new(Config::default()), Effects::new());
    let mut opened = |kernel: &mut Kernel| {
        let call = open_file(TerminalPath::Ptmx, open::RDWR);
        kernel.call(Pid(1), &call, &mut fx).expect("it is in user mode")
    };
    for file in 1..=4096 {
        assert_eq!(opened(&mut kernel), Outcome::Returned(Ok(Ret::Value(file))));
    }
    assert_eq!(opened(&mut kernel), Outcome::Returned(Err(Errno::ENOSPC)));
    kernel.call(Pid(1), &Syscall::Close(7), &mut Effects::new()).expect("it is in user mode");
    assert_eq!(opened(&mut kernel), Outcome::Returned(Ok(Ret::Value(4097))));
}

/// On the model only, as the kernel spins: no signal reaches an init with a default action, and its
/// call from the background is restarted until it is in the foreground.
#[test]
fn a_call_of_an_init_from_the_background_waits() {
    let mut scene = scene_with_terminal();
    scene.value(1, Syscall::Setsid);
    assert_eq!(control(&mut scene, 1, 0), Ok(Ret::Value(0)));
    // its child in another group keeps the group of the init from being orphaned
    let child = job(&mut scene, 1);
    let member = scene.fork(child);
    scene.setpgid(child, member as i32, 1);
    to_foreground(&mut scene, 1, child);
    scene.call(1, read(SLAVE));
    assert_eq!(scene.returned(1), None);
    assert_eq!(set_foreground(&mut scene, child, 1), Ok(Ret::Value(0)));
    assert_eq!(scene.returned(1), None);
    scene.call(child, write(MASTER, "line\n"));
    assert_eq!(scene.returned(1), Some(bytes("line\n")));
}

fn poll(files: &[u32], timeout: i32) -> Syscall {
    let events = PollFlags::IN;
    let files = files.iter().map(|file| PollFile { file: *file, events });
    Syscall::Poll { files: files.collect(), timeout }
}

fn ready<const N: usize>(ready: [PollFlags; N]) -> proctable::syscall::Result {
    Ok(Ret::Polled(ready.into()))
}

#[test]
fn tty_36_a_poll_from_the_background_sends_no_signal() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let back = job(&mut scene, own);
    assert_eq!(scene.result(back, poll(&[SLAVE], 0)), ready([PollFlags::NONE]));
    scene.call(back, poll(&[SLAVE], -1));
    assert_eq!(scene.run(back), RunState::Blocked);
    scene.value(1, write(MASTER, "half a line"));
    assert_eq!(scene.run(back), RunState::Blocked);
    scene.value(1, write(MASTER, "\n"));
    assert_eq!(scene.returned(back), Some(ready([PollFlags::IN])));
    scene.same_on_the_kernel();
}

/// LD-184, LD-185: and each file has its own result; POLLERR and POLLHUP come unasked.
#[test]
fn tty_36_a_poll_wakes_when_the_terminal_hangs_up() {
    let mut scene = scene_with_terminal();
    open_pty(&mut scene, 2);
    let reader = scene.fork(1);
    scene.call(reader, poll(&[SLAVE, 4, SLAVE], -1));
    scene.value(1, Syscall::Close(MASTER));
    let hung_up = PollFlags::IN | PollFlags::ERR | PollFlags::HUP;
    let expected = ready([hung_up, PollFlags::NONE, hung_up]);
    assert_eq!(scene.returned(reader), Some(expected));
    // no such file
    let none = [SLAVE, 9].map(|file| PollFile { file, events: PollFlags::NONE });
    let none = Syscall::Poll { files: none.into(), timeout: -1 };
    let expected = ready([PollFlags::ERR | PollFlags::HUP, PollFlags::NVAL]);
    assert_eq!(scene.result(reader, none), expected);
    scene.same_on_the_kernel();
}

#[test]
fn tty_36_a_handler_interrupts_a_poll_also_with_sa_restart() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    scene.catch(own, Signal::USR1, SaFlags::RESTART, SigSet::EMPTY);
    scene.call(own, poll(&[SLAVE], -1));
    scene.kill(1, own as i32, Signal::USR1);
    assert_eq!(scene.returned(own), Some(Err(Errno::EINTR)));
    scene.same_on_the_kernel();
}

#[test]
fn tty_36_a_stopped_poll_continues() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    scene.call(own, poll(&[SLAVE], -1));
    scene.kill(1, own as i32, Signal::STOP);
    scene.value(1, write(MASTER, "line\n"));
    assert!(is_stopped(&scene, own));
    scene.kill(1, own as i32, Signal::CONT);
    assert_eq!(scene.returned(own), Some(ready([PollFlags::IN])));
    scene.same_on_the_kernel();
}

/// On the model only, whose time the test controls.
#[test]
fn tty_36_a_stopped_poll_keeps_its_deadline() {
    let mut scene = scene_with_terminal();
    let own = shell(&mut scene);
    let millisecond = 1_000_000;
    scene.call(own, poll(&[SLAVE], 200));
    scene.elapse(100 * millisecond);
    scene.kill(1, own as i32, Signal::STOP);
    scene.elapse(50 * millisecond);
    scene.kill(1, own as i32, Signal::CONT);
    assert_eq!(scene.returned(own), None);
    scene.elapse(49 * millisecond);
    assert_eq!(scene.returned(own), None);
    scene.elapse(millisecond);
    assert_eq!(scene.returned(own), Some(ready([PollFlags::NONE])));
    // without a file it is a sleep
    scene.call(own, poll(&[], 10));
    scene.kill(1, own as i32, Signal::STOP);
    scene.elapse(100 * millisecond);
    scene.kill(1, own as i32, Signal::CONT);
    assert_eq!(scene.returned(own), Some(ready([])));
}
