//! Scenarios of terminals (tests/suite/tty/discipline.txt): each one runs on the model and on a pty
//! of the running kernel, with the results that it names and the same state after each call.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use proctable::abi::{Errno, SigSet, Signal};
use proctable::host::{Controlling, RealTerminal, terminal_privilege};
use proctable::sim::{ModelTerminal, TerminalPrivilege, TerminalResult, TerminalStep};
use proctable::tty::termios::*;
use proctable::tty::{End, Event, FlowAction, PollFlags, Pty, Queue, SetTermios, Termios, Winsize};

use crate::sources::root;

mod blocking;

const FLAGS: [(&str, usize, u32); 39] = [
    ("istrip", 0, ISTRIP),
    ("inlcr", 0, INLCR),
    ("igncr", 0, IGNCR),
    ("icrnl", 0, ICRNL),
    ("iuclc", 0, IUCLC),
    ("ixon", 0, IXON),
    ("ixany", 0, IXANY),
    ("ixoff", 0, IXOFF),
    ("parmrk", 0, PARMRK),
    ("iutf8", 0, IUTF8),
    ("0o20000", 0, 0o20000),
    ("opost", 1, OPOST),
    ("olcuc", 1, OLCUC),
    ("onlcr", 1, ONLCR),
    ("ocrnl", 1, OCRNL),
    ("onocr", 1, ONOCR),
    ("onlret", 1, ONLRET),
    ("tab3", 1, XTABS),
    ("cs7", 2, 0o20),
    ("cstopb", 2, 0o100),
    ("parenb", 2, PARENB),
    ("cbaud", 2, CBAUD),
    ("bother", 2, BOTHER),
    ("b50", 2, 1),
    ("ibother", 2, BOTHER << 16),
    ("isig", 3, ISIG),
    ("icanon", 3, ICANON),
    ("echo", 3, ECHO),
    ("echoe", 3, ECHOE),
    ("echok", 3, ECHOK),
    ("echonl", 3, ECHONL),
    ("noflsh", 3, NOFLSH),
    ("tostop", 3, TOSTOP),
    ("echoctl", 3, ECHOCTL),
    ("echoprt", 3, ECHOPRT),
    ("echoke", 3, ECHOKE),
    ("iexten", 3, IEXTEN),
    ("extproc", 3, EXTPROC),
    ("hupcl", 2, 0o2000),
];

const CHARACTERS: [(&str, usize); 15] = [
    ("intr", VINTR),
    ("quit", VQUIT),
    ("erase", VERASE),
    ("kill", VKILL),
    ("eof", VEOF),
    ("start", VSTART),
    ("stop", VSTOP),
    ("susp", VSUSP),
    ("eol", VEOL),
    ("eol2", VEOL2),
    ("reprint", VREPRINT),
    ("werase", VWERASE),
    ("lnext", VLNEXT),
    ("min", VMIN),
    ("time", VTIME),
];

/// A line of a scenario: its words, of which strings are bytes.
struct Line {
    number: usize,
    words: Vec<Word>,
}

#[derive(Clone, PartialEq, Debug)]
enum Word {
    Name(String),
    Bytes(Vec<u8>),
}

struct Scenario {
    title: String,
    lines: Vec<Line>,
}

impl Scenario {
    /// Runs the lines, and returns the difference of kernel and model.
    fn run(&self, mut pair: Pair) -> Option<String> {
        for line in &self.lines {
            pair.place = format!("{} (line {})", self.title, line.number);
            pair.run(line);
        }
        pair.difference
    }
}

/// The bytes of a string, without its quotes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.bytes();
    while let Some(byte) = chars.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match chars.next().expect("an escape") {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [chars.next().expect("a digit"), chars.next().expect("a digit")];
                let digits = std::str::from_utf8(&digits).expect("digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            other => other,
        });
    }
    bytes
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (times, string) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((times, string)) if string.starts_with('"') => {
                (times.parse().expect("a number"), string)
            }
            _ => (1, rest),
        };
        if let Some(body) = string.strip_prefix('"') {
            let mut end = 0;
            while !body[end..].starts_with('"') {
                end += if body[end..].starts_with('\\') { 2 } else { 1 };
            }
            words.push(Word::Bytes(repeated(&unescape(&body[..end]), times)));
            rest = body[end + 1..].trim_start();
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            words.push(Word::Name(rest[..end].into()));
            rest = rest[end..].trim_start();
        }
    }
    words
}

/// `bytes`, of which all but a NL at the end are there `times` times.
fn repeated(bytes: &[u8], times: usize) -> Vec<u8> {
    match bytes {
        [body @ .., b'\n'] if times > 1 => [&body.repeat(times)[..], b"\n"].concat(),
        _ => bytes.repeat(times),
    }
}

fn scenarios() -> Vec<Scenario> {
    let path = root().join("tests/suite/tty/discipline.txt");
    let text = fs::read_to_string(path).expect("the scenarios");
    let mut scenarios: Vec<Scenario> = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        let words_of_line = || Line { number: nth + 1, words: words(line) };
        match line.as_bytes() {
            [] | [b'#', ..] => {}
            [b' ', ..] => scenarios.last_mut().expect("a title").lines.push(words_of_line()),
            _ => scenarios.push(Scenario { title: line.into(), lines: Vec::new() }),
        }
    }
    scenarios
}

/// A terminal of the model, and one of the kernel until they differ, if there can be one here.
struct Pair {
    model: ModelTerminal,
    real: Option<RealTerminal>,
    /// How long the kernel's worker has after each call: a call does not wait for it (LD-19,
    /// LD-20).
    pause: Duration,
    place: String,
    signals: SigSet,
    /// The first difference.
    difference: Option<String>,
}

/// How long the kernel may take to carry bytes from one end to the other.
const CARRIED: Duration = Duration::from_secs(1);

/// A scenario that differs runs again with the next of these pauses: on a busy machine the worker
/// may carry bytes so late that the next call has another result.
const PAUSES: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(300)];

impl Pair {
    fn new(privilege: TerminalPrivilege, has_pty: bool, pause: Duration) -> Pair {
        let real = has_pty.then(|| RealTerminal::new(Controlling::No).expect("a pty"));
        let model = ModelTerminal::new(privilege);
        let (place, signals) = (String::new(), SigSet::EMPTY);
        Pair { model, real, pause, place, signals, difference: None }
    }

    /// Makes a call on both, and returns the model's result.
    fn call(&mut self, step: &TerminalStep) -> TerminalResult {
        let result = self.model.run(step).expect("an open file");
        let mut state = self.model.state();
        self.signals = self.signals | core::mem::take(&mut state.signals);
        let model = (result.clone(), state, *self.model.termios());
        let Some(real) = &mut self.real else { return result };
        let got = real.run(step).expect("an open file");
        std::thread::sleep(self.pause);
        let state = real.state_within(&model.1, CARRIED);
        // no file can ask if all were hung up
        let settings = real.termios().unwrap_or(model.2);
        let kernel = (got, state, settings);
        if kernel != model {
            let place = &self.place;
            let difference = format!("{place}: {step:?}\nkernel: {kernel:?}\nmodel:  {model:?}");
            (self.difference, self.real) = (Some(difference), None);
        }
        result
    }

    fn expect(&mut self, step: TerminalStep, expected: TerminalResult) {
        assert_eq!(self.call(&step), expected, "{}: {step:?}", self.place);
    }

    fn reads(&mut self, end: End, words: &[Word]) {
        let (len, results) = match words {
            [Word::Name(len), results @ ..] if len.parse::<usize>().is_ok() => {
                (len.parse().expect("a number"), results)
            }
            results => (10_000, results),
        };
        for result in results {
            let expected = match result {
                Word::Bytes(bytes) => TerminalResult::Bytes(bytes.clone()),
                Word::Name(name) => TerminalResult::Error(errno(name)),
            };
            self.expect(TerminalStep::Read(end, len), expected);
        }
    }

    fn writes(&mut self, end: End, words: &[Word]) {
        let mut error = None;
        for word in words {
            match word {
                Word::Name(name) => error = Some(errno(name)),
                Word::Bytes(bytes) => {
                    let expected = match error {
                        Some(errno) => TerminalResult::Error(errno),
                        None => TerminalResult::Number(bytes.len()),
                    };
                    self.expect(TerminalStep::Write(end, bytes.clone()), expected);
                }
            }
        }
    }

    fn echo(&mut self, words: &[Word]) {
        let mut echoed = Vec::new();
        while let TerminalResult::Bytes(bytes) = self.call(&TerminalStep::Read(End::Master, 10_000))
        {
            echoed.extend(bytes);
        }
        assert_eq!([Word::Bytes(echoed)], *words, "{}: echo", self.place);
    }

    fn done(&mut self, step: TerminalStep, name: Option<&str>) {
        let expected =
            name.map_or(TerminalResult::Number(0), |name| TerminalResult::Error(errno(name)));
        self.expect(step, expected);
    }

    fn run(&mut self, line: &Line) {
        let [Word::Name(verb), rest @ ..] = &line.words[..] else { panic!("no verb") };
        let names: Vec<&str> = rest
            .iter()
            .filter_map(|word| match word {
                Word::Name(name) => Some(&**name),
                Word::Bytes(_) => None,
            })
            .collect();
        let end = if names.last() == Some(&"master") { End::Master } else { End::Slave };
        let first = names.first().copied().unwrap_or_default();
        let number = || first.parse::<usize>().expect("a number");
        match &**verb {
            "set" | "set+flush" => {
                let new = settings(*self.model.termios(), rest);
                let how = if verb == "set" { SetTermios::Now } else { SetTermios::Flush };
                self.done(TerminalStep::SetTermios(End::Slave, new, how), None);
            }
            "in" => self.writes(End::Master, rest),
            "out" => self.writes(End::Slave, rest),
            "read" => self.reads(End::Slave, rest),
            "master" => self.reads(End::Master, rest),
            "echo" => self.echo(rest),
            "readable" => {
                let got = self.model.state().slave_readable;
                assert_eq!(got, Some(Ok(number())), "{}: readable", self.place);
            }
            "waiting" => {
                let got = self.model.state().master_readable;
                assert_eq!(got, Ok(number()), "{}: waiting", self.place);
            }
            "poll" => {
                let got = self.model.state().slave_poll;
                assert_eq!(got, Some(poll_flags(&names)), "{}: poll", self.place);
            }
            "poll-master" => {
                let got = self.model.state().master_poll;
                assert_eq!(got, poll_flags(&names), "{}: poll", self.place);
            }
            "flush" => self.done(TerminalStep::Flush(end, queue(first)), None),
            "flow" => self.done(TerminalStep::Flow(end, flow_action(first)), None),
            "packet" => self.done(TerminalStep::Packet(first == "on"), None),
            "size" => {
                let size = |nth: usize| names[nth].parse().expect("a number");
                let size = Winsize { rows: size(0), cols: size(1), ..Winsize::default() };
                self.done(TerminalStep::SetWinsize(end, size), None);
            }
            "insert" => {
                let digits = first.strip_prefix("0x").expect("a byte");
                let byte = u8::from_str_radix(digits, 16).expect("a byte");
                self.insert(end, byte);
            }
            "sig" => self.done(TerminalStep::Signal(number() as i32), names.get(1).copied()),
            "open" => self.done(TerminalStep::OpenSlave, names.first().copied()),
            "close" => self.done(TerminalStep::CloseSlave, None),
            "lock" => self.done(TerminalStep::Lock(first == "on"), None),
            "exclusive" => self.done(TerminalStep::Exclusive(end, first == "on"), None),
            "hangup" => self.done(TerminalStep::HangUp(end), None),
            "signals" => {
                let named = names.iter().map(|name| Signal::from_name(name).expect("a signal"));
                let expected: SigSet = named.collect();
                let got = core::mem::take(&mut self.signals);
                assert_eq!(got, expected, "{}: signals", self.place);
            }
            other => panic!("{}: no such verb: {other}", self.place),
        }
    }

    fn insert(&mut self, end: End, byte: u8) {
        self.done(TerminalStep::Insert(end, byte), None);
    }
}

fn queue(name: &str) -> Queue {
    match name {
        "in" => Queue::Input,
        "out" => Queue::Output,
        "both" => Queue::Both,
        other => panic!("no such queue: {other}"),
    }
}

fn flow_action(name: &str) -> FlowAction {
    match name {
        "off" => FlowAction::StopOutput,
        "on" => FlowAction::StartOutput,
        "stop" => FlowAction::SendStop,
        "start" => FlowAction::SendStart,
        other => panic!("no such action: {other}"),
    }
}

fn errno(name: &str) -> Errno {
    Errno::from_name(name).unwrap_or_else(|| panic!("no errno is called {name}"))
}

fn poll_flags(names: &[&str]) -> u16 {
    let flag = |name: &&str| match *name {
        "in" => PollFlags::IN,
        "out" => PollFlags::OUT,
        "pri" => PollFlags::PRI,
        "hup" => PollFlags::HUP,
        "err" => PollFlags(8),
        other => panic!("no such flag: {other}"),
    };
    names.iter().map(flag).fold(PollFlags::NONE, |all, flag| all | flag).0
}

fn settings(mut new: Termios, words: &[Word]) -> Termios {
    for word in words {
        let Word::Name(name) = word else { panic!("a flag: {word:?}") };
        if name == "raw" {
            new = new.raw();
            continue;
        }
        if name == "tab1" {
            new.oflag = new.oflag & !TABDLY | 0o4000;
            continue;
        }
        if let Some((name, value)) = name.split_once('=') {
            if let "ispeed" | "ospeed" = name {
                let speed = value.parse().expect("a number");
                *(if name == "ispeed" { &mut new.ispeed } else { &mut new.ospeed }) = speed;
                continue;
            }
            let entry = CHARACTERS.iter().find(|(other, _)| *other == name).expect("a character").1;
            new.cc[entry] = match entry {
                VMIN | VTIME => value.parse().expect("a number"),
                _ => unescape(value)[0],
            };
            continue;
        }
        let (name, is_on) = match name.strip_prefix('-') {
            Some(name) => (name, false),
            None => (&**name, true),
        };
        let flag = FLAGS.iter().find(|(other, ..)| *other == name);
        let (_, word, bits) = *flag.unwrap_or_else(|| panic!("no such flag: {name}"));
        let flags = [&mut new.iflag, &mut new.oflag, &mut new.cflag, &mut new.lflag];
        for (nth, flags) in flags.into_iter().enumerate() {
            if nth == word {
                *flags = if is_on { *flags | bits } else { *flags & !bits };
            }
        }
    }
    new
}

/// Whether this process can have a pty; otherwise a visible line says why not.
fn has_pty() -> bool {
    match RealTerminal::new(Controlling::No) {
        Ok(_) => true,
        Err(error) => {
            println!("SKIPPED: no pty here ({error}), the scenarios run on the model only");
            false
        }
    }
}

/// Blocks the signals of this thread while it lives. The SIGCHLD of a child of another test is sent
/// to any thread if the thread that created the child still blocks signals, and cuts a write here
/// after a piece of 2048 bytes, although it is ignored (LD-136).
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> BlockedSignals {
        // SAFETY: the pointers are those of sets on this stack
        unsafe {
            let (mut set, mut before) = (core::mem::zeroed(), core::mem::zeroed());
            libc::sigfillset(&mut set);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
            BlockedSignals { before }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is one that the kernel has filled; a null pointer is allowed
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, core::ptr::null_mut()) };
    }
}

/// The scenarios that need CAP_SYS_ADMIN.
const PRIVILEGED: [&str; 2] = ["hangup", "insert"];

#[test]
fn the_discipline_does_what_the_scenarios_say() {
    let _blocked = BlockedSignals::new();
    let has_pty = has_pty();
    let is_admin = is_root();
    let privilege = terminal_privilege(true);
    let mut skipped = Vec::new();
    for scenario in scenarios() {
        let is_privileged = |line: &Line| matches!(&line.words[0], Word::Name(verb) if PRIVILEGED.contains(&&**verb));
        let needs_privilege = scenario.lines.iter().any(is_privileged);
        if needs_privilege && !is_admin {
            skipped.push(scenario.title.clone());
        }
        let on_kernel = has_pty && (is_admin || !needs_privilege);
        let mut difference = None;
        for pause in PAUSES {
            difference = scenario.run(Pair::new(privilege, on_kernel, pause));
            let Some(difference) = &difference else { break };
            println!("After a pause of {pause:?} kernel and model differ: {difference}");
        }
        if let Some(difference) = difference {
            panic!("kernel and model differ: {difference}");
        }
    }
    if !skipped.is_empty() {
        println!("SKIPPED on the kernel, as they need CAP_SYS_ADMIN: {skipped:?}");
    }
}

/// Whether the process has CAP_SYS_ADMIN of the initial user namespace, as far as it can know.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_initial && bits.is_some_and(|bits| bits & 1 << 21 != 0)
}

/// The rules that scenarios and tests show.
fn shown() -> BTreeSet<String> {
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for scenario in scenarios() {
        let ids = scenario.title.split(' ').take_while(|word| word.starts_with("LD-"));
        shown.extend(ids.map(str::to_owned));
    }
    shown
}

/// docs/TERMINALS.md: each rule has a row, which says what shows it or why the model leaves it out.
#[test]
fn each_rule_of_terminals_is_shown_or_has_a_reason() {
    let page = fs::read_to_string(root().join("docs/TERMINALS.md")).expect("the page");
    let shown = shown();
    let tests = ["tests/suite/tty.rs", "tests/suite/tty/blocking.rs"]
        .map(|path| fs::read_to_string(root().join(path)).expect("the tests"))
        .concat();
    let mut rows = BTreeSet::new();
    let mut count = 0;
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &["", id, what, source, modelled, by, ""] = &cells[..] else { continue };
        if !id.starts_with("LD-") {
            continue;
        }
        assert!(!what.is_empty() && !source.is_empty(), "{id}");
        assert!(rows.insert(id.to_owned()), "{id} has two rows");
        if modelled != "yes" {
            let why = modelled.strip_prefix("no (");
            assert!(why.is_some_and(|why| why.len() > 4), "{id}: yes, or no (why)");
            continue;
        }
        count += 1;
        let has_scenario = shown.contains(id);
        assert_eq!(by.contains("scenario"), has_scenario, "{id}: a scenario shows it, or not");
        assert!(!by.is_empty(), "{id}: nothing shows it");
        for test in by.split('`').filter_map(|name| name.strip_prefix("tty::")) {
            let name = test.rsplit("::").next().unwrap_or(test);
            assert!(tests.contains(&format!("fn {name}()")), "{id}: there is no test {test}");
        }
    }
    let missing: Vec<String> =
        (1..=207).map(|nth| format!("LD-{nth:02}")).filter(|id| !rows.contains(id)).collect();
    assert!(missing.is_empty(), "no row: {missing:?}");
    assert!(shown.is_subset(&rows), "{:?}", shown.difference(&rows));
    assert!(count >= 180, "{count} rules are shown");
}

/// LD-04, LD-08, LD-09, LD-192, LD-198, LD-201
#[test]
fn ends_have_their_own_calls() {
    let mut pty = Pty::new();
    let master = pty.master();
    assert_eq!(pty.winsize(), Winsize::default());
    assert!(pty.is_locked());
    assert_eq!(pty.open_slave(true), Err(Errno::EIO));
    pty.unlock();
    let slave = pty.open_slave(false).expect("it is unlocked");
    assert_eq!(pty.set_packet_mode(&slave, true), Err(Errno::ENOTTY));
    assert_eq!(pty.set_locked(&slave, true), Err(Errno::ENOTTY));
    assert_eq!(pty.signal(&slave, 2), Err(Errno::ENOTTY));
    assert_eq!(pty.set_exclusive(&slave, true), Ok(()));
    assert_eq!(pty.open_slave(false), Err(Errno::EBUSY));
    assert!(pty.open_slave(true).is_ok());
    let size = Winsize { rows: 65_535, xpixel: 1, ..Winsize::default() };
    assert_eq!(pty.set_winsize(&master, size), Ok(()));
    assert_eq!(pty.winsize(), size);
    assert_eq!(pty.take_events().pop(), Some(Event::Signal(Signal::WINCH)));
    assert_eq!(pty.set_winsize(&slave, size), Ok(()));
    assert_eq!(pty.take_events().pop(), None);
}

/// The memory of a pty: the kernel's struct tty_struct and its buffers take more.
#[test]
fn a_pty_is_small() {
    assert!(size_of::<Pty>() <= 700, "{}", size_of::<Pty>());
}

/// A pty is a value: it can be copied, and both copies go on by themselves.
#[test]
fn a_copy_of_a_pty_continues_identically() {
    let mut pty = Pty::new();
    pty.unlock();
    let (master, slave) = (pty.master(), pty.open_slave(false).expect("it is unlocked"));
    pty.write(&master, b"ab\x16").expect("there is room");
    let mut copy = pty.clone();
    for pty in [&mut pty, &mut copy] {
        pty.write(&master, b"\x03\n").expect("there is room");
        assert_eq!(pty.try_read(&slave, 10), Ok(b"ab\x03\n".to_vec()));
        assert!(!pty.take_events().contains(&Event::Signal(Signal::INT)));
    }
    assert_eq!(pty, copy);
}

/// A runtime that takes no events has a list that does not grow.
#[test]
fn an_event_is_in_the_list_once() {
    let mut pty = Pty::new();
    pty.unlock();
    let (master, slave) = (pty.master(), pty.open_slave(false).expect("it is unlocked"));
    for _ in 0..1000 {
        pty.write(&master, b"\x03a\n").expect("there is room");
        pty.try_read(&slave, 100).expect("a line");
        pty.try_read(&master, 100).expect("its echo");
    }
    let events = pty.take_events();
    assert!(events.len() < 10, "{events:?}");
    assert!(events.contains(&Event::Signal(Signal::INT)));
}
