//! Terminals with a window of the runtime's, and guests on them.

use std::future::{Future, poll_fn};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use proctable::abi::{Errno, Pid, Signal, WaitOptions, WaitStatus};
use proctable::driver::{Authority, Op};
use proctable::drivers::{ScriptedDriver, ThreadDriver};
use proctable::syscall::{self, Ret, Syscall, TerminalRequest, open};
#[cfg(feature = "serde")]
use proctable::table::TableConfig;
use proctable::table::{Image, Process, ProcessTable, Spawn, Terminal};
use proctable::tty::{SetTermios, Termios, Winsize};

use super::{SOON, Woken, caught, spawn};

/// A session leader with the terminal of a window, whose file the runtime has opened.
fn shell_on(table: &ProcessTable) -> (Terminal, u32, Process) {
    let window = table.open_terminal().unwrap();
    let file = window.open(open::RDWR).unwrap();
    let shell = table.spawn(Spawn::new(Image::new("sh")).session()).unwrap();
    ioctl(table, shell.pid(), file, TerminalRequest::Tiocsctty(0)).unwrap();
    (window, file, shell)
}

fn ioctl(table: &ProcessTable, pid: Pid, file: u32, request: TerminalRequest) -> syscall::Result {
    table.syscall(pid, Syscall::Ioctl { file, request })
}

/// TTY-28, TTY-16: keys signal the foreground job, and a background job stops when it reads.
#[test]
fn keys_signal_the_foreground_job() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    let jobs = [(); 2].map(|()| shell.spawn(Spawn::fork().own_group()).unwrap());
    let [front, back] = &jobs;
    let request = TerminalRequest::Tiocspgrp(front.pid().0 as i32);
    ioctl(&table, shell.pid(), file, request).unwrap();

    assert_eq!(table.submit(back.pid(), Syscall::Read { file, len: 9 }).result(), None);
    let stopped = shell.wait(back, WaitOptions::STOPPED).unwrap();
    assert_eq!(stopped.status, WaitStatus::stopped(Signal::TTIN));
    window.write(b"\x1a").unwrap();
    let stopped = shell.wait(front, WaitOptions::STOPPED).unwrap();
    assert_eq!(stopped.status, WaitStatus::stopped(Signal::TSTP));
    front.send(Signal::CONT).unwrap();
    window.write(b"\x03").unwrap();
    let ended = shell.wait(front, WaitOptions::EXITED).unwrap();
    assert_eq!(ended.status, WaitStatus::killed(Signal::INT, false));
    assert_eq!(window.try_read(100).unwrap(), b"^Z^C");
    assert_eq!(window.try_read(100), Err(Errno::EAGAIN));
}

/// A thread that waits for room to type does not take the wake-up of the thread that waits for what
/// the screen shows.
#[test]
fn a_reader_and_a_writer_of_a_window_are_both_woken() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    let raw = TerminalRequest::Tcsets(SetTermios::Now, Box::new(Termios::default().raw()));
    ioctl(&table, shell.pid(), file, raw).unwrap();
    let typed = vec![b'x'; 100_000];
    std::thread::scope(|scope| {
        // no guest reads all of it: the writer sleeps until the window closes
        let writer = scope.spawn(|| window.write(&typed));
        let (shown, shows) = crossbeam_channel::unbounded();
        let window = &window;
        scope.spawn(move || {
            while let Ok(bytes) = window.read(1) {
                shown.send(bytes).unwrap();
            }
        });
        let shows_next = |byte: u8| {
            let write = Syscall::Write { file, bytes: [byte].into() };
            table.syscall(shell.pid(), write).unwrap();
            shows.recv_timeout(SOON) == Ok(vec![byte])
        };
        let all_shown = (0..200).all(shows_next);
        window.hang_up();
        assert_eq!(writer.join().unwrap(), Err(Errno::EIO));
        assert!(all_shown);
    });
    assert_eq!(window.try_read(1), Err(Errno::EIO));
    // the number of the master is another window's now
    let other = table.open_terminal().unwrap();
    assert_eq!(window.write(b"x"), Err(Errno::EIO));
    assert_eq!(other.try_read(1), Err(Errno::EAGAIN));
}

/// Callbacks of output get each byte once, in its order, also if several threads write, and if the
/// callback types an answer itself. One that was replaced gets nothing more, and is dropped.
#[test]
fn a_callback_gets_the_output_of_a_window() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    let window = Arc::new(window);
    let raw = TerminalRequest::Tcsets(SetTermios::Now, Box::new(Termios::default().raw()));
    ioctl(&table, shell.pid(), file, raw).unwrap();
    let (screen, types) = (Arc::new(Mutex::new(Vec::new())), Arc::downgrade(&window));
    let (shown, held) = (screen.clone(), Arc::new(()));
    let is_held = Arc::downgrade(&held);
    window.set_on_output(Some(Box::new(move |bytes| {
        let _ = &held;
        shown.lock().unwrap().extend_from_slice(bytes);
        if bytes.contains(&b'?') {
            types.upgrade().unwrap().write(b"!").unwrap();
        }
    })));
    let guests: Vec<Process> = (0..3u8)
        .map(|nth| {
            ThreadDriver::spawn(&shell, Spawn::new(Image::new("writer")), move |guest| {
                for _ in 0..100 {
                    let bytes = [b'a' + nth; 100].into();
                    guest.syscall(Syscall::Write { file, bytes }).unwrap();
                }
                0
            })
            .unwrap()
        })
        .collect();
    for guest in &guests {
        shell.wait(guest, WaitOptions::EXITED).unwrap();
    }
    let count = |of: u8| screen.lock().unwrap().iter().filter(|byte| **byte == of).count();
    assert_eq!([b'a', b'b', b'c'].map(count), [10_000; 3]);
    screen.lock().unwrap().clear();
    // with echo the answer is shown again, by the callback that has typed it
    let echo = TerminalRequest::Tcsets(SetTermios::Now, Box::default());
    ioctl(&table, shell.pid(), file, echo).unwrap();
    table.syscall(shell.pid(), Syscall::Write { file, bytes: (*b"ok?").into() }).unwrap();
    assert_eq!(*screen.lock().unwrap(), b"ok?!");
    // after the end of output (LD-180) a guest may open the terminal again
    table.syscall(shell.pid(), Syscall::Close(file)).unwrap();
    let file = window.open(open::RDWR).unwrap();
    table.syscall(shell.pid(), Syscall::Write { file, bytes: (*b"again").into() }).unwrap();
    assert_eq!(*screen.lock().unwrap(), b"ok?!again");
    window.set_on_output(None);
    assert_eq!(is_held.strong_count(), 0);
    table.syscall(shell.pid(), Syscall::Write { file, bytes: (*b"x").into() }).unwrap();
    assert_eq!(window.try_read(10).unwrap(), b"x");
}

/// A guest on a thread sleeps in read(2), and so does the reader of the window.
#[test]
fn a_guest_on_a_thread_talks_with_a_window() {
    let table = ProcessTable::new();
    let window = table.open_terminal().unwrap();
    let path = window.path();
    let spawn = Spawn::new(Image::new("cat")).session();
    let guest = ThreadDriver::spawn(&table.init(), spawn, move |guest| {
        let file = guest.syscall(Syscall::Open { path, flags: open::RDWR }).unwrap().value() as u32;
        loop {
            let Ok(Ret::Bytes(line)) = guest.syscall(Syscall::Read { file, len: 100 }) else {
                return 1;
            };
            if line.is_empty() {
                return 0; // ^D
            }
            let bytes = [b"> ", &*line].concat().into();
            guest.syscall(Syscall::Write { file, bytes }).unwrap();
        }
    });
    let guest = guest.unwrap();
    let mut screen = Vec::new();
    for line in ["one", "two"] {
        window.write(format!("{line}\n").as_bytes()).unwrap();
        let answer = format!("> {line}\r\n");
        while !screen.ends_with(answer.as_bytes()) {
            screen.extend(window.read(100).unwrap());
        }
    }
    assert_eq!(screen, b"one\r\n> one\r\ntwo\r\n> two\r\n");
    window.write(b"\x04").unwrap();
    let ended = table.init().wait(&guest, WaitOptions::EXITED).unwrap();
    assert_eq!(ended.status, WaitStatus::exited(0));
}

/// TTY-13: the end of the window is a hang-up, and reads of guests return.
#[test]
fn a_dropped_window_hangs_up() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    shell.sigaction(Signal::HUP, caught()).unwrap();
    let job = spawn(&shell);
    let call = table.submit(job.pid(), Syscall::Read { file, len: 9 });
    assert_eq!(call.result(), None);
    drop(window);
    assert_eq!(call.result(), Some(Err(Errno::EIO))); // LD-185
    let write = Syscall::Write { file, bytes: (*b"x").into() };
    assert_eq!(table.syscall(job.pid(), write), Err(Errno::EIO));
    assert!(shell.view().unwrap().blocked.contains(Signal::HUP), "its handler runs");
    // the number is free when the last file is closed
    assert_eq!(table.open_terminal().unwrap().number(), 1);
    table.syscall(job.pid(), Syscall::Close(file)).unwrap();
    assert_eq!(table.open_terminal().unwrap().number(), 0);
}

/// TTY-31: a new size signals the foreground group; a read of the window is a future.
#[test]
fn a_window_has_a_size_and_a_future() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    shell.sigaction(Signal::WINCH, caught()).unwrap();
    let size = Winsize { rows: 24, cols: 80, xpixel: 0, ypixel: 0 };
    window.resize(size).unwrap();
    assert!(shell.view().unwrap().blocked.contains(Signal::WINCH));
    let shown = ioctl(&table, shell.pid(), file, TerminalRequest::Tiocgwinsz);
    assert_eq!(table.syscall(shell.pid(), Syscall::RtSigreturn), Ok(Ret::Never));
    assert!(matches!(shown, Ok(Ret::Winsize(shown)) if shown == size));

    let wakes = Arc::new(Woken::default());
    let waker = wakes.clone().into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut read = Box::pin(poll_fn(|context| window.poll_read(100, context)));
    assert_eq!(read.as_mut().poll(&mut context), Poll::Pending);
    let bytes = (*b"x").into();
    table.syscall(shell.pid(), Syscall::Write { file, bytes }).unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(read.as_mut().poll(&mut context), Poll::Ready(Ok(b"x".to_vec())));
}

/// The end of the table wakes the reader of a window.
#[test]
fn a_read_of_a_window_ends_with_its_files() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    table.syscall(shell.pid(), Syscall::Close(file)).unwrap();
    assert_eq!(window.read(100), Err(Errno::EIO)); // LD-180
}

/// Where the host or the runtime decides what SIGTTIN does, a read from the background ends: a
/// restart would signal again before they have decided.
#[test]
fn a_read_from_the_background_asks_the_runtime_once() {
    for authority in [Authority::Host, Authority::Runtime] {
        let table = ProcessTable::new();
        let (_window, file, shell) = shell_on(&table);
        let driver = Arc::new(ScriptedDriver::default());
        let spawn = Spawn::fork().own_group().authority(authority).driver(driver.clone());
        let back = shell.spawn(spawn).unwrap();
        let read = table.syscall(back.pid(), Syscall::Read { file, len: 9 });
        assert_eq!(read, Err(Errno::EINTR), "{authority:?}");
        let is_ttin =
            |op: &Op| matches!(op, Op::Deliver(signal) if signal.info.signal == Signal::TTIN);
        assert_eq!(driver.seen().iter().filter(|op| is_ttin(op)).count(), 1);
    }
}

/// A restored table has its terminals, and gives their windows back.
#[cfg(feature = "serde")]
#[test]
fn a_restored_table_has_its_terminals() {
    let table = ProcessTable::new();
    let (window, file, shell) = shell_on(&table);
    let read = table.submit(shell.pid(), Syscall::Read { file, len: 100 });
    assert_eq!(read.result(), None);
    window.write(b"un").unwrap();
    assert!(table.terminal(window.number()).is_none(), "it has a window");
    let saved = table.snapshot(|_| ()).unwrap();
    let again = ProcessTable::restore(saved, TableConfig::new(), |_, ()| None).unwrap();
    let window = again.terminal(window.number()).expect("the window of the terminal");
    let shell = again.process(shell.pid()).unwrap();
    let mut calls = shell.calls_in_progress();
    window.write(b"finished\n").unwrap();
    assert_eq!(
        calls.pop().expect("one call").result(),
        Some(Ok(Ret::Bytes((*b"unfinished\n").into())))
    );
    assert_eq!(window.try_read(100).unwrap(), b"unfinished\r\n");
}
