//! The programs that the shell starts. Each runs as a guest.

use std::time::{Duration, Instant};

use proctable::abi::{Errno, SigSet, Signal, Timespec};
use proctable::drivers::Guest;
use proctable::kernel::RunState;
use proctable::syscall::{Ptr, Ret, SIGSET_SIZE, Syscall, TerminalRequest};
use proctable::table::ProcessTable;
use proctable::tty::{SetTermios, termios};

use super::pipe::{Reader, Writer};

/// How many bytes a program reads at once.
const CHUNK: usize = 4096;

/// The standard input of a program.
pub enum Input {
    Terminal(u32),
    Pipe(Reader),
}

impl Input {
    /// The next bytes; none at the end.
    fn read(&self, guest: &mut Guest) -> Result<Vec<u8>, Errno> {
        match self {
            Input::Terminal(file) => {
                match guest.syscall(Syscall::Read { file: *file, len: CHUNK })? {
                    Ret::Bytes(bytes) => Ok(bytes.to_vec()),
                    _ => Ok(Vec::new()),
                }
            }
            Input::Pipe(pipe) => guest.block_on(pipe.read(CHUNK)),
        }
    }
}

/// The standard output of a program.
pub enum Output {
    Terminal(u32),
    Pipe(Writer),
}

impl Output {
    pub fn write(&self, guest: &mut Guest, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = match self {
                Output::Terminal(file) => {
                    let write = Syscall::Write { file: *file, bytes: rest.into() };
                    guest.syscall(write)?.value() as usize
                }
                Output::Pipe(pipe) => {
                    let written = guest.block_on(pipe.write(rest))?;
                    if written == Err(Errno::EPIPE) {
                        // pipe(7)
                        guest.kill(guest.pid().0 as i32, Signal::PIPE)?;
                    }
                    written?
                }
            };
            rest = &rest[written..];
        }
        Ok(())
    }
}

/// What a program begins with.
pub struct Start {
    pub words: Vec<String>,
    pub input: Input,
    pub output: Output,
    /// The file of the terminal, for messages and for `stty`.
    pub terminal: u32,
    pub table: ProcessTable,
}

impl Start {
    fn args(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }

    /// Says on the terminal what is wrong; the exit code.
    fn fail(&self, guest: &mut Guest, error: impl std::fmt::Display) -> i32 {
        let text = format!("{}: {error}\n", self.words[0]);
        let _ = Output::Terminal(self.terminal).write(guest, text.as_bytes());
        1
    }

    fn ioctl(&self, guest: &mut Guest, request: TerminalRequest) -> Result<Ret, Errno> {
        guest.syscall(Syscall::Ioctl { file: self.terminal, request })
    }
}

type Program = fn(&Start, &mut Guest) -> Result<i32, Errno>;

const PROGRAMS: [(&str, Program); 11] = [
    ("cat", cat),
    ("echo", echo),
    ("false", |_, _| Ok(1)),
    ("head", head),
    ("ps", ps),
    ("sleep", sleep),
    ("stty", stty),
    ("tr", tr),
    ("true", |_, _| Ok(0)),
    ("wc", wc),
    ("yes", yes),
];

/// Whether there is a program of that name.
pub fn exists(name: &str) -> bool {
    PROGRAMS.iter().any(|(of, _)| *of == name)
}

/// Runs a program to its end; the exit code.
pub fn run(start: &Start, guest: &mut Guest) -> i32 {
    let program = PROGRAMS.iter().find(|(name, _)| *name == start.words[0]);
    let Some((_, program)) = program else { return 127 };
    match program(start, guest) {
        Ok(code) => code,
        Err(errno) => start.fail(guest, errno.message()),
    }
}

/// Passes each chunk of the input on until the end, or until `pass` returns `false`.
fn each_chunk(
    start: &Start,
    guest: &mut Guest,
    mut pass: impl FnMut(&mut Guest, Vec<u8>) -> Result<bool, Errno>,
) -> Result<i32, Errno> {
    loop {
        let bytes = start.input.read(guest)?;
        if bytes.is_empty() || !pass(guest, bytes)? {
            return Ok(0);
        }
    }
}

fn cat(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    if let Some(path) = start.args().next() {
        let error = format!("{path}: {}", Errno::ENOENT.message());
        return Ok(start.fail(guest, error));
    }
    each_chunk(start, guest, |guest, bytes| start.output.write(guest, &bytes).map(|()| true))
}

fn echo(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let words: Vec<_> = start.args().collect();
    start.output.write(guest, format!("{}\n", words.join(" ")).as_bytes())?;
    Ok(0)
}

/// `head -n N` and `head -N`; 10 lines without a number.
fn head(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let mut args = start.args();
    let number = match args.next() {
        None => Some(10),
        Some("-n") => args.next().and_then(|number| number.parse().ok()),
        Some(number) => number.strip_prefix('-').and_then(|number| number.parse().ok()),
    };
    let Some(mut left) = number else { return Ok(start.fail(guest, "usage: head [-n N]")) };
    if left == 0usize {
        return Ok(0);
    }
    each_chunk(start, guest, |guest, mut bytes| {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = ends.map(|(at, _)| at + 1).take(left).collect();
        left -= ends.len();
        if let (0, Some(end)) = (left, ends.last()) {
            bytes.truncate(*end);
        }
        start.output.write(guest, &bytes)?;
        Ok(left > 0)
    })
}

/// The processes of the table, with the letters of ps(1).
fn ps(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let mut text = String::from("  PID  PPID  PGID   SID S CMD\n");
    for process in start.table.list() {
        let state = match process.run {
            RunState::User => 'R',
            RunState::Blocked => 'S',
            RunState::Vfork => 'D',
            RunState::Stopped => 'T',
            RunState::Zombie => 'Z',
        };
        text.push_str(&format!(
            "{:5} {:5} {:5} {:5} {state} {}\n",
            process.pid.0, process.ppid.0, process.pgid.0, process.sid.0, process.image.program
        ));
    }
    start.output.write(guest, text.as_bytes())?;
    Ok(0)
}

fn sleep(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let seconds = start.args().next().and_then(|seconds| seconds.parse::<f64>().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(time) = time else { return Ok(start.fail(guest, "usage: sleep SECONDS")) };
    let begin = Instant::now();
    loop {
        let left = time.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Ok(0);
        }
        let sec = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let timeout = Some(Timespec { sec, nsec: left.subsec_nanos().into() });
        let (set, info, size) = (SigSet::default(), Ptr::Null, SIGSET_SIZE);
        // no signal: EAGAIN. EINTR after a stop: the rest of the time
        let _ = guest.syscall(Syscall::RtSigtimedwait { set, info, timeout, size });
    }
}

/// `stty size`, `stty tostop`, `stty -echo` and the like.
fn stty(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    const MODES: [(&str, u32); 4] = [
        ("echo", termios::ECHO),
        ("isig", termios::ISIG),
        ("noflsh", termios::NOFLSH),
        ("tostop", termios::TOSTOP),
    ];
    for arg in start.args() {
        if arg == "size" {
            if let Ret::Winsize(size) = start.ioctl(guest, TerminalRequest::Tiocgwinsz)? {
                start.output.write(guest, format!("{} {}\n", size.rows, size.cols).as_bytes())?;
            }
            continue;
        }
        let (is_off, name) = match arg.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, arg),
        };
        let Some((_, flag)) = MODES.iter().find(|(of, _)| *of == name) else {
            return Ok(start.fail(guest, format_args!("invalid argument '{arg}'")));
        };
        if let Ret::Termios(mut modes) = start.ioctl(guest, TerminalRequest::Tcgets)? {
            modes.lflag = if is_off { modes.lflag & !flag } else { modes.lflag | flag };
            start.ioctl(guest, TerminalRequest::Tcsets(SetTermios::Now, modes))?;
        }
    }
    Ok(0)
}

/// `tr a-z A-Z`: each character of the first set becomes that at the same place of the second.
fn tr(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let sets: Vec<Vec<u8>> = start.args().map(characters).collect();
    let [from, to] = &sets[..] else {
        return Ok(start.fail(guest, "usage: tr SET1 SET2"));
    };
    each_chunk(start, guest, |guest, mut bytes| {
        for byte in &mut bytes {
            if let Some(at) = from.iter().position(|of| of == byte) {
                *byte = *to.get(at).or(to.last()).unwrap_or(byte);
            }
        }
        start.output.write(guest, &bytes).map(|()| true)
    })
}

/// The characters of a set, with ranges.
fn characters(set: &str) -> Vec<u8> {
    let (mut all, mut rest) = (Vec::new(), set.as_bytes());
    loop {
        match rest {
            [first, b'-', last, others @ ..] => {
                all.extend(*first..=*last);
                rest = others;
            }
            [first, others @ ..] => {
                all.push(*first);
                rest = others;
            }
            [] => return all,
        }
    }
}

/// `wc -l` and `wc -c`.
fn wc(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let is_counted: fn(&u8) -> bool = match start.args().next() {
        Some("-l") => |byte| *byte == b'\n',
        Some("-c") => |_| true,
        _ => return Ok(start.fail(guest, "usage: wc -l, wc -c")),
    };
    let mut count = 0;
    each_chunk(start, guest, |_, bytes| {
        count += bytes.iter().filter(|byte| is_counted(byte)).count();
        Ok(true)
    })?;
    start.output.write(guest, format!("{count}\n").as_bytes())?;
    Ok(0)
}

fn yes(start: &Start, guest: &mut Guest) -> Result<i32, Errno> {
    let line = format!("{}\n", start.args().next().unwrap_or("y"));
    loop {
        start.output.write(guest, line.as_bytes())?;
    }
}
