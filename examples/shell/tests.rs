//! The shell beside bash: both on real terminals, with the same keystrokes.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proctable::abi::{Resource, Rlimit, Signal, WaitStatus};
use proctable::drivers::linux::{Child, Command, ProcessTree, PtyMaster, PtySlave, window_size};
use proctable::table::{ProcessInfo, What};
use proctable::tty::Winsize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{RawMode, Session};

/// What takes longer is a failure.
const SOON: Duration = Duration::from_secs(20);

/// What appears after keystrokes.
enum Shown {
    /// Without anything else.
    Now(&'static str),
    /// Before a prompt, as news of a job. A shell does not wait for them: an empty line is typed
    /// until they are there.
    News(&'static str),
}

use Shown::{News, Now};

/// Keystrokes, and what appears after them.
const STEPS: &[(&str, Shown)] = &[
    // pipelines
    ("echo hello | cat | tr a-z A-Z\n", Now("HELLO\r\n$ ")),
    ("yes | head -n 2\n", Now("y\r\ny\r\n$ ")),
    ("echo one; echo two\n", Now("two\r\n$ ")),
    ("true | false; echo $?\n", Now("1\r\n$ ")),
    ("stty size\n", Now("24 80\r\n$ ")),
    // ^D, ^C, ^\
    ("cat\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x04", Now("$ ")),
    ("cat\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x03", Now("^C\r\n$ ")),
    ("echo $?\n", Now("130\r\n$ ")),
    ("cat\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x1c", Now("^\\Quit\r\n$ ")),
    ("echo $?\n", Now("131\r\n$ ")),
    ("half a line", Now("half a line")),
    ("\x03", Now("^C\r\n$ ")),
    ("echo $?\n", Now("130\r\n$ ")),
    // ^Z, bg, a reader in the background, fg
    ("cat | cat\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x1a", Now("^Z\r\n[1]+  Stopped                 cat | cat\r\n$ ")),
    ("echo $?\n", Now("148\r\n$ ")),
    ("sleep 1000 &\n", Now("$ ")),
    ("jobs\n", Now("sleep 1000 &\r\n$ ")),
    ("bg %1\n", News("Stopped                 cat | cat")),
    ("fg %1\n", Now("cat | cat\r\n")),
    ("again\n", Now("again\r\nagain\r\n")),
    ("\x04", Now("$ ")),
    ("jobs\n", Now("sleep 1000 &\r\n$ ")),
    ("kill %2\n", News("Terminated              sleep 1000")),
    ("jobs\n", Now("$ ")),
    ("cat &\n", News("Stopped                 cat")),
    ("fg\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x1a", Now("[1]+  Stopped                 cat\r\n$ ")),
    ("fg\n", Now("cat\r\n")),
    ("\x04", Now("$ ")),
    // a writer in the background
    ("stty tostop\n", Now("$ ")),
    ("echo written &\n", News("Stopped                 echo written")),
    ("fg\n", Now("echo written\r\nwritten\r\n$ ")),
    ("stty -tostop\n", Now("$ ")),
    // several jobs
    ("sleep 1000 | cat &\n", Now("$ ")),
    ("bg\n", Now("already in background\r\n$ ")),
    ("cat &\n", News("[2]+  Stopped                 cat")),
    ("sleep 3000 &\n", Now("$ ")),
    ("jobs\n", Now("[3]-  Running                 sleep 3000 &\r\n$ ")),
    ("bg\n", News("[2]+  Stopped                 cat")),
    ("fg %2\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x04", Now("$ ")),
    ("jobs\n", Now("[3]+  Running                 sleep 3000 &\r\n$ ")),
    ("kill %3\n", News("Terminated              sleep 3000")),
    ("jobs\n", Now("sleep 1000 | cat &\r\n$ ")),
    ("kill -9 %1\n", News("Killed                  sleep 1000 | cat")),
    ("sleep 1 &\n", Now("$ ")),
    ("wait\n", Now("$ ")),
    ("false &\n", News("Exit 1                  false")),
    ("sleep 1000 &\n", Now("$ ")),
    ("kill -0 %1; echo $?\n", Now("0\r\n$ ")),
    ("kill %1\n", News("Terminated              sleep 1000")),
    // errors
    ("fg\n", Now("no such job\r\n$ ")),
    ("bg\n", Now("no such job\r\n$ ")),
    ("fg %9\n", Now("no such job\r\n$ ")),
    ("kill %9\n", Now("no such job\r\n$ ")),
    ("nosuch\n", Now("not found\r\n$ ")),
    ("echo $?\n", Now("127\r\n$ ")),
    ("cat |", Now("cat |")),
    ("\x03", Now("^C\r\n$ ")),
    ("| cat\n", Now("token `|'\r\n$ ")),
    // the end, with a stopped job
    ("cat\n", Now("cat\r\n")),
    ("line\n", Now("line\r\nline\r\n")),
    ("\x1a", Now("[1]+  Stopped                 cat\r\n$ ")),
    ("exit\n", Now("There are stopped jobs.\r\n$ ")),
    ("jobs\n", Now("Stopped                 cat\r\n$ ")),
    ("\x04", Now("exit\r\n")),
];

/// A real terminal, and what appears on it.
struct Screen {
    master: PtyMaster,
    text: String,
    /// How much of it was expected already.
    at: usize,
}

impl Screen {
    fn open() -> io::Result<(Screen, PtySlave)> {
        let (master, slave) = PtyMaster::open(Winsize::new(24, 80))?;
        Ok((Screen { master, text: String::new(), at: 0 }, slave))
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn appears(&mut self, text: &str, within: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.text[self.at..].find(text) {
                self.at += found + text.len();
                return true;
            }
            let left = within.saturating_sub(begin.elapsed());
            let left = Timespec::try_from(left).unwrap();
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let mut bytes = [0; 4096];
            match poll(&mut fds, Some(&left)).map(|_| fds[0].revents()) {
                // EIO: the other end is closed
                Ok(ready) if !ready.is_empty() => match self.master.read(&mut bytes) {
                    Ok(length @ 1..) => {
                        self.text.push_str(&String::from_utf8_lossy(&bytes[..length]));
                    }
                    _ => return false,
                },
                Ok(_) => return false,
                Err(error) => assert_eq!(error, Errno::INTR),
            }
        }
    }

    fn expect(&mut self, text: &str) {
        assert!(self.appears(text, SOON), "{text:?} does not appear:\n{}", self.text);
    }

    fn type_steps(&mut self) {
        self.expect("$ ");
        for (keys, shown) in STEPS {
            let (begin, from) = (Instant::now(), self.at);
            self.press(keys);
            match shown {
                Now(text) => self.expect(text),
                News(text) => loop {
                    self.expect("$ ");
                    if self.text[from..self.at].contains(text) {
                        break;
                    }
                    assert!(begin.elapsed() < SOON, "{text:?} does not appear:\n{}", self.text);
                    self.press("\n");
                },
            }
        }
    }

    /// The lines, without what differs between two shells by design: the numbers of processes, the
    /// name of the shell, and empty commands, of which a shell gets as many as a job needs to
    /// change its state.
    fn lines(&self, shell: &str) -> Vec<String> {
        let lines = self.text.split("\r\n").filter(|line| *line != "$ ");
        let lines = lines.map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [job, pid] if job.starts_with('[') && pid.parse::<u32>().is_ok() => {
                    format!("{job} PID")
                }
                _ => line.replacen(&format!("{shell}: "), "", 1),
            }
        });
        lines.collect()
    }
}

fn bash(tree: &ProcessTree) -> (Screen, Child) {
    let (screen, slave) = Screen::open().unwrap();
    let command = Command::new("bash").args(["--norc", "--noprofile", "--noediting", "-i"]);
    let command = command.env_clear().env("PATH", std::env::var("PATH").unwrap());
    let command = command.env("PS1", "$ ").env("TERM", "dumb").env("LC_ALL", "C");
    // no core: `Quit`, and not `Quit (core dumped)`
    let command = command.limit(Resource::CORE, Rlimit { soft: 0, hard: 0 });
    let command = command.pty(slave).default_signals();
    (screen, tree.spawn(command).unwrap())
}

/// The shell of this example, with a real terminal as that of its user.
fn shell() -> (Screen, Arc<Session>, JoinHandle<io::Result<WaitStatus>>) {
    let (screen, slave) = Screen::open().unwrap();
    let terminal = File::from(OwnedFd::from(slave));
    let session = Arc::new(Session::start(window_size(&terminal).unwrap()).unwrap());
    let serves = session.clone();
    let serving = std::thread::spawn(move || {
        let _raw = RawMode::set(terminal.try_clone()?)?;
        serves.serve(terminal.try_clone()?, &mut terminal.try_clone()?)
    });
    (screen, session, serving)
}

/// With the same keystrokes the shell shows, line by line, what bash shows.
#[test]
fn the_shell_shows_what_bash_shows() {
    let tree = ProcessTree::new().unwrap();
    let (mut expected, bash) = bash(&tree);
    expected.type_steps();
    assert_eq!(bash.wait_timeout(SOON).unwrap(), Some(WaitStatus::exited(0)));

    let (mut screen, _, serving) = shell();
    screen.type_steps();
    assert_eq!(serving.join().unwrap().unwrap(), WaitStatus::exited(0));

    let (lines, expected) = (screen.lines("shell"), expected.lines("bash"));
    for (nth, (line, expected)) in lines.iter().zip(&expected).enumerate() {
        assert_eq!(line, expected, "line {nth} of\n{}", screen.text);
    }
    assert_eq!(lines.len(), expected.len());
}

/// ^C ends a wait for jobs in the background. One that comes before the wait has begun does not, as
/// in other shells: it is typed again then.
#[test]
fn the_keyboard_interrupts_a_wait_for_jobs() {
    let (mut screen, session, serving) = shell();
    screen.expect("$ ");
    screen.press("sleep 1000 &\n");
    screen.expect("$ ");
    screen.press("wait\n");
    screen.expect("wait\r\n");
    let begin = Instant::now();
    loop {
        screen.press("\x03");
        screen.press("echo $?\n");
        if screen.appears("130\r\n$ ", Duration::from_millis(200)) {
            break;
        }
        assert!(begin.elapsed() < SOON, "{}", screen.text);
    }
    // SIGHUP ends one, too
    screen.press("wait\n");
    screen.expect("wait\r\n");
    session.window.hang_up();
    assert_eq!(serving.join().unwrap().unwrap(), WaitStatus::exited(129));
}

/// When the window closes, the jobs end by SIGHUP: one in the foreground, a stopped one and one in
/// the background.
#[test]
fn jobs_end_with_the_window() {
    let (mut screen, session, serving) = shell();
    let events = session.table.subscribe(1000).unwrap();
    screen.expect("$ ");
    for (keys, shown) in [
        ("sleep 1000 &\n", "$ "),
        ("cat\n", "cat\r\n"),
        ("line\n", "line\r\nline\r\n"),
        ("\x1a", "Stopped                 cat\r\n$ "),
        ("sleep 2000\n", "sleep 2000\r\n"),
    ] {
        screen.press(keys);
        screen.expect(shown);
    }
    let is_sleep = |process: &ProcessInfo| process.image.program == "sleep";
    while session.table.list().into_iter().filter(is_sleep).count() < 2 {
        std::thread::yield_now();
    }
    drop(screen);
    assert_eq!(serving.join().unwrap().unwrap(), WaitStatus::exited(129));
    let statuses = events.try_iter().filter_map(|event| match event.what {
        What::Exited(status) => Some(status),
        _ => None,
    });
    let statuses: Vec<WaitStatus> = statuses.collect();
    let by_hang_up = WaitStatus::killed(Signal::HUP, false);
    assert_eq!(statuses, [by_hang_up, by_hang_up, by_hang_up, WaitStatus::exited(129)]);
}
