//! `proctable exec` on a terminal: job control, the keyboard's signals, the window's size.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use super::*;

/// A pseudo-terminal, with a thread that reads what appears on it.
pub struct Screen {
    keyboard: File,
    shown: Receiver<Vec<u8>>,
    /// What has appeared, and how much of it was expected already.
    text: String,
    at: usize,
    /// Until this is dropped: the terminal hangs up then.
    is_read: Arc<AtomicBool>,
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_read.store(false, Ordering::Relaxed);
    }
}

impl Screen {
    pub fn new() -> (Screen, OwnedFd) {
        with_default_signals();
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: both numbers and the size are ours; there is no name and no termios
        let opened = unsafe {
            libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size)
        };
        assert_eq!(opened, 0);
        // SAFETY: they are new and ours; they are made close-on-exec, so that a child has no more
        // of them than its streams
        let (master, slave) = unsafe {
            for fd in [master, slave] {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let mut reader = master.try_clone().unwrap();
        let (show, shown) = channel();
        let is_read = Arc::new(AtomicBool::new(true));
        let reads = is_read.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut poll =
                libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            while reads.load(Ordering::Relaxed) {
                // SAFETY: one descriptor, which is open
                if unsafe { libc::poll(&mut poll, 1, 20) } <= 0 {
                    continue;
                }
                // EIO: no process has the terminal open any more
                let length = reader.read(&mut buffer).unwrap_or(0);
                if length == 0 || show.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        (Screen { keyboard: master, shown, text: String::new(), at: 0, is_read }, slave)
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the text appears after what was expected before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        if !self.appears(text, SOON) {
            panic!("`{text}` does not appear:\n{}", self.text);
        }
    }

    /// Whether the text appears in that time, after what was expected before.
    pub fn appears(&mut self, text: &str, within: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.text[self.at..].find(text) {
                self.at += found + text.len();
                return true;
            }
            let left = within.saturating_sub(begin.elapsed());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// What has appeared up to where was expected last.
    pub fn text(&self) -> &str {
        &self.text[..self.at]
    }

    /// The line that ends where was expected last.
    pub fn before(&self) -> &str {
        let text = self.text[..self.at].trim_end();
        text.rsplit('\n').next().unwrap_or_default()
    }

    /// Types a line to a program that repeats it, again until it does: a line that comes while the
    /// shell changes the terminal's mode is not read before the next newline.
    #[track_caller]
    pub fn expect_repeated(&mut self, line: &str) {
        self.expect_repeated_as(line, &format!("{line}\r\n"));
    }

    /// The same where it is repeated in another form.
    #[track_caller]
    pub fn expect_repeated_as(&mut self, line: &str, shown: &str) {
        let begin = Instant::now();
        loop {
            self.press(&format!("{line}\n"));
            self.expect(&format!("{line}\r\n"));
            if self.appears(shown, Duration::from_secs(1)) {
                return;
            }
            assert!(begin.elapsed() < SOON, "no program repeats `{line}`:\n{}", self.text);
        }
    }

    /// Ends the input of a program that repeats lines. A ^D that comes while the shell changes the
    /// terminal's mode would be a letter like others: a program that has repeated a line is past
    /// that.
    #[track_caller]
    pub fn end_input(&mut self) {
        self.expect_repeated("last");
        self.press("\x04");
    }

    /// Has the shell say the status of its last command.
    #[track_caller]
    pub fn expect_status(&mut self, status: i32) {
        self.expect("READY>");
        self.press("echo status=$?\n");
        self.expect(&format!("status={status}\r\n"));
    }

    /// Whether the terminal is canonical. Its master has the modes of its slave (LD-05).
    pub fn is_canonical(&self) -> bool {
        // SAFETY: zeroes are valid, and the kernel fills them
        unsafe {
            let mut modes: libc::termios = core::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.keyboard.as_raw_fd(), &mut modes), 0);
            modes.c_lflag & libc::ICANON != 0
        }
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the size is only read
        let set = unsafe { libc::ioctl(self.keyboard.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0);
    }
}

/// Runs something as the leader of a session on a new terminal.
pub fn on_terminal(
    tree: &ProcessTree,
    command: Command,
) -> (Screen, proctable::drivers::linux::Child) {
    let (screen, slave) = Screen::new();
    let copy = || Stdio::File(slave.try_clone().unwrap());
    let command = command
        .stdin(copy())
        .stdout(copy())
        .stderr(copy())
        .env("TERM", "dumb")
        .env("PS1", "READY>")
        .controlling_terminal();
    let child = tree.spawn(command).unwrap();
    (screen, child)
}

pub fn shell(tree: &ProcessTree) -> (Screen, proctable::drivers::linux::Child) {
    on_terminal(tree, Command::new("bash").args(["--norc", "--noprofile", "--noediting", "-i"]))
}

/// The words with which the program is called, with and without a cgroup.
pub fn calls() -> [String; 2] {
    let program = env!("CARGO_BIN_EXE_proctable");
    [format!("{program} exec"), format!("{program} exec --no-cgroup")]
}

#[test]
fn the_keyboard_interrupts_the_command() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- cat\n"));
        screen.expect_repeated("hello");
        screen.press("\x03");
        screen.expect_status(130);
        screen.press(&format!("{call} -- sh -c 'exit 7'\n"));
        screen.expect_status(7);
        screen.press(&format!("{call} -- no-such-program\n"));
        screen.expect_status(127);
        screen.press(&format!("{call} --timeout 0.05 -- sleep 1000\n"));
        screen.expect_status(124);
        // the end of the input
        screen.press(&format!("{call} -- cat\n"));
        screen.end_input();
        screen.expect_status(0);
    }
}

#[test]
fn the_keyboard_stops_the_command_and_fg_continues_it() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- cat\n"));
        for word in ["one", "two", "three"] {
            screen.expect_repeated(word);
            screen.press("\x1a");
            screen.expect("Stopped");
            screen.expect("READY>");
            // again until it is read: the shell sets the modes of the terminal for its prompt
            screen.expect_repeated_as("echo prompt=$((6 * 7))", "prompt=42");
            screen.expect("READY>");
            screen.press("fg\n");
            screen.expect("-- cat\r\n");
        }
        screen.end_input();
        screen.expect_status(0);
    }
}

/// A command in the background that reads is stopped, as it would be without the program.
#[test]
fn a_command_in_the_background_gets_the_terminal_by_fg() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        screen.press(&format!("{call} -- cat &\n"));
        screen.expect("READY>");
        let begin = Instant::now();
        loop {
            screen.press("jobs; echo end=$((6 * 7))\n");
            screen.expect("end=42\r\n");
            if screen.text.contains("Stopped") {
                break;
            }
            assert!(begin.elapsed() < SOON, "not stopped:\n{}", screen.text);
        }
        screen.press("fg\n");
        screen.expect("-- cat\r\n");
        screen.expect_repeated("four");
        screen.press("\x1a");
        screen.expect("READY>");
        screen.press("bg\n");
        screen.expect("READY>");
        // the shell has kept the terminal
        screen.press("echo still=$((6 * 7))\n");
        screen.expect("still=42");
        screen.press("kill %1; wait; echo gone=$((6 * 7))\n");
        screen.expect("gone=42");
    }
}

/// Starts a command in the background that sleeps. Returns its number.
fn sleep_in_background(screen: &mut Screen, call: &str) -> String {
    screen.expect("READY>");
    screen.press(&format!("{call} -- sh -c 'echo com\"\"mand=$$.; exec sleep 1000' &\n"));
    screen.expect("command=");
    screen.expect(".");
    let text = screen.text().trim_end_matches('.');
    text.rsplit('=').next().unwrap().to_owned()
}

/// The program need not get the signal that stopped the command, which a SIGCONT for the group may
/// discard.
#[test]
fn a_command_that_is_stopped_by_its_read_stops_the_program() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        let command = sleep_in_background(&mut screen, &call);
        screen.press(&format!("kill -TTIN {command}\n"));
        let begin = Instant::now();
        while !screen.appears("Stopped", Duration::from_millis(100)) {
            screen.press("jobs\n");
            assert!(begin.elapsed() < SOON, "not stopped:\n{}", screen.text);
        }
        screen.press("kill %1; wait; echo gone=$((6 * 7))\n");
        screen.expect("gone=42");
    }
}

/// A shell that has not seen the stop yet sends no SIGCONT after its SIGTERM.
#[test]
fn a_signal_to_end_that_came_before_the_stop_was_seen_ends_the_job() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        let command = sleep_in_background(&mut screen, &call);
        // while the program is stopped, it sees nothing
        screen.press(&format!("c={command}; p=$!; kill -STOP $p; kill -TTIN $c\n"));
        // SIGTERM would come first
        screen.press("until grep -q '^State:.T' /proc/$c/status; do :; done; kill -TERM $c\n");
        let until = "while kill -0 $p 2>/dev/null; do :; done";
        screen.press(&format!("kill -CONT $p; {until}; echo gone=$((6 * 7))\n"));
        screen.expect("gone=42");
    }
}

#[test]
fn the_command_knows_the_size_of_the_window() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        expect_sizes(&mut shell(&tree).0, &call);
    }
}

/// A command of a new shell sees the size of the window, and its change.
pub fn expect_sizes(screen: &mut Screen, call: &str) {
    screen.expect("READY>");
    screen.press(&format!("{call} -- stty size\n"));
    screen.expect("33 77\r\n");
    screen.expect("READY>");
    let script = "trap \"stty size; exit 6\" WINCH; echo be\"\"gins; while :; do sleep 0.01; done";
    screen.press(&format!("{call} -- sh -c '{script}'\n"));
    screen.expect("begins\r\n");
    screen.resize(12, 34);
    screen.expect("12 34\r\n");
    screen.expect_status(6);
}

/// The shell's loop ends at ^C: the program dies of the signal that its command died of.
#[test]
fn the_keyboard_ends_a_loop_of_the_shell() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let (mut screen, _shell) = shell(&tree);
        screen.expect("READY>");
        let command = "sh -c 'echo be''gun; exec sleep 1000'";
        screen.press(&format!("for i in 1 2 3; do {call} -- {command}; echo ne''xt; done\n"));
        screen.expect("begun\r\n");
        screen.press("\x03");
        screen.expect_status(130);
        assert!(!screen.text.contains("next\r\n"), "{}", screen.text);
    }
}

/// What the command writes to the terminal stays there, above and below the tree.
#[test]
fn the_tree_erases_nothing() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let mut words = call.split(' ');
        let script = "for i in 1 2 3; do echo line $i; sleep 0.7; done";
        let program = Command::new(words.next().unwrap()).args(words);
        let program = program.args(["--tree", "--", "sh", "-c", script]).env("TERM", "xterm");
        let (mut screen, program) = on_terminal(&tree, program);
        for line in ["line 1\r\n", "PID S      CPU COMMAND\r\n", "line 2\r\n", "line 3\r\n"] {
            screen.expect(line);
        }
        assert_eq!(program.wait(), Ok(WaitStatus::exited(0)));
        assert!(!screen.text.contains('\x1b'), "{:?}", screen.text);
    }
}

/// No process could continue it, so it continues.
#[test]
fn without_a_shell_nothing_stays_stopped() {
    for call in calls() {
        let tree = ProcessTree::new().unwrap();
        let mut words = call.split(' ');
        let program = Command::new(words.next().unwrap()).args(words).args(["--", "cat"]);
        let (mut screen, program) = on_terminal(&tree, program);
        screen.press("hello\n");
        screen.expect("hello\r\nhello\r\n");
        screen.press("\x1a");
        screen.press("again\n");
        screen.expect("again\r\nagain\r\n");
        screen.press("\x03");
        assert_eq!(program.wait(), Ok(WaitStatus::killed(Signal::INT, false)));
    }
}

/// All of it without a cgroup, by a shell that is not root's.
#[test]
fn a_terminal_serves_an_ordinary_user() {
    if let Some(user) = ordinary_user() {
        alone("linux::terminal::as_the_present_user", &user);
    }
}

#[test]
#[ignore = "a scenario of a_terminal_serves_an_ordinary_user"]
fn as_the_present_user() {
    the_keyboard_interrupts_the_command();
    the_keyboard_stops_the_command_and_fg_continues_it();
    a_command_in_the_background_gets_the_terminal_by_fg();
    a_command_that_is_stopped_by_its_read_stops_the_program();
    a_signal_to_end_that_came_before_the_stop_was_seen_ends_the_job();
    the_command_knows_the_size_of_the_window();
    without_a_shell_nothing_stays_stopped();
}
