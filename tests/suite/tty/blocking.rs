//! Reads that wait: VMIN, VTIME and lines, on the model with virtual time, and on a pty of the
//! running kernel where no time has to pass.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proctable::abi::{Errno, Time};
use proctable::host::{Controlling, RealTerminal};
use proctable::sim::TerminalStep;
use proctable::tty::termios::*;
use proctable::tty::{Blocking, End, File as Opened, PollFlags, Pty, Read, SetTermios, Termios};

const SECOND: u64 = 1_000_000_000;

fn at(tenths: u64) -> Time {
    Time(tenths * SECOND / 10)
}

fn non_canonical(min: u8, time: u8) -> Termios {
    let mut termios = Termios::default().raw();
    termios.cc[VMIN] = min;
    termios.cc[VTIME] = time;
    termios
}

struct Model {
    pty: Pty,
    master: Opened,
    slave: Opened,
}

impl Model {
    fn new(termios: Termios) -> Model {
        let mut pty = Pty::new();
        pty.unlock();
        let (master, slave) = (pty.master(), pty.open_slave(false).expect("it is unlocked"));
        pty.set_termios(&slave, termios, SetTermios::Now).expect("it is open");
        Model { pty, master, slave }
    }

    fn input(&mut self, bytes: &[u8]) {
        assert_eq!(self.pty.write(&self.master, bytes), Ok(bytes.len()));
    }

    fn begin(&mut self, len: usize) -> Read {
        self.pty.begin_read(&self.slave, len)
    }

    fn poll(&mut self, read: &mut Read, now: Time) -> Poll<Result<Vec<u8>, Errno>> {
        self.pty.poll_read(read, now, Blocking::Yes)
    }

    fn set(&mut self, change: impl FnOnce(&mut Termios)) {
        let mut termios = *self.pty.termios();
        change(&mut termios);
        self.pty.set_termios(&self.slave, termios, SetTermios::Now).expect("it is open");
    }
}

fn ready(bytes: &[u8]) -> Poll<Result<Vec<u8>, Errno>> {
    Poll::Ready(Ok(bytes.to_vec()))
}

/// LD-97: data does not end a read of a line, and a signal leaves the data where it is.
#[test]
fn ld_97_a_read_of_a_line_waits_for_its_end() {
    let mut model = Model::new(Termios::default());
    let mut read = model.begin(100);
    model.input(b"ab");
    assert_eq!(model.poll(&mut read, at(1)), Poll::Pending);
    assert_eq!(model.pty.interrupt_read(read), Err(Errno::EINTR));
    let mut read = model.begin(100);
    model.input(b"c\n");
    assert_eq!(model.poll(&mut read, at(3)), ready(b"abc\n"));
}

/// LD-108, LD-109: a read takes bytes as they come, and they are no longer pending.
#[test]
fn ld_108_a_read_collects_vmin_bytes() {
    let mut model = Model::new(non_canonical(3, 0));
    let mut read = model.begin(100);
    model.input(b"ab");
    assert_eq!(model.poll(&mut read, at(1)), Poll::Pending);
    assert_eq!(model.pty.readable(&model.slave), Ok(0));
    model.input(b"cd");
    assert_eq!(model.poll(&mut read, at(2)), ready(b"abcd"));
    // n below VMIN: n bytes are enough
    model.input(b"ef");
    let mut read = model.begin(1);
    assert_eq!(model.poll(&mut read, at(3)), ready(b"e"));
}

/// LD-110: the timer begins at the first byte and again at each further one.
#[test]
fn ld_110_vtime_is_the_time_between_bytes() {
    let mut model = Model::new(non_canonical(4, 5));
    let mut read = model.begin(100);
    assert_eq!(model.poll(&mut read, at(0)), Poll::Pending);
    assert_eq!(read.deadline(), None);
    for tenths in [1, 4, 8] {
        model.input(b"x");
        assert_eq!(model.poll(&mut read, at(tenths)), Poll::Pending);
        assert_eq!(read.deadline(), Some(at(tenths + 5)));
    }
    assert_eq!(model.poll(&mut read, at(13)), ready(b"xxx"));
    // data that is there counts as the first byte
    model.input(b"y");
    let mut read = model.begin(100);
    assert_eq!(model.poll(&mut read, at(20)), Poll::Pending);
    assert_eq!(model.poll(&mut read, at(25)), ready(b"y"));
}

/// LD-111: one timer from the start of the read.
#[test]
fn ld_111_vtime_without_vmin_is_the_time_of_the_read() {
    let mut model = Model::new(non_canonical(0, 5));
    let mut read = model.begin(100);
    assert_eq!(model.poll(&mut read, at(0)), Poll::Pending);
    assert_eq!(model.poll(&mut read, at(4)), Poll::Pending);
    assert_eq!(model.poll(&mut read, at(5)), ready(b""));
    let mut read = model.begin(100);
    assert_eq!(model.poll(&mut read, at(10)), Poll::Pending);
    model.input(b"a");
    assert_eq!(model.poll(&mut read, at(12)), ready(b"a"));
}

/// LD-113: a read keeps the VMIN and VTIME of its start.
#[test]
fn ld_113_vmin_is_that_of_the_start() {
    let mut model = Model::new(non_canonical(5, 0));
    let mut read = model.begin(100);
    model.input(b"ab");
    assert_eq!(model.poll(&mut read, at(1)), Poll::Pending);
    model.set(|termios| termios.cc[VMIN] = 1);
    assert_eq!(model.poll(&mut read, at(2)), Poll::Pending);
    model.input(b"cde");
    assert_eq!(model.poll(&mut read, at(3)), ready(b"abcde"));
}

/// LD-114: a read follows a change of ICANON.
#[test]
fn ld_114_icanon_is_that_of_the_moment() {
    let mut model = Model::new(Termios::default());
    let mut read = model.begin(100);
    model.input(b"abc");
    assert_eq!(model.poll(&mut read, at(1)), Poll::Pending);
    model.set(|termios| termios.lflag &= !ICANON);
    assert_eq!(model.poll(&mut read, at(2)), ready(b"abc"));

    model.set(|termios| termios.cc[VMIN] = 3);
    let mut read = model.begin(100);
    model.input(b"a");
    assert_eq!(model.poll(&mut read, at(3)), Poll::Pending);
    model.set(|termios| termios.lflag |= ICANON);
    model.input(b"bcd");
    assert_eq!(model.poll(&mut read, at(4)), Poll::Pending);
    model.input(b"\n");
    assert_eq!(model.poll(&mut read, at(5)), ready(b"abcd\n"));
}

/// LD-115: a signal ends a read with what it has collected.
#[test]
fn ld_115_a_signal_returns_what_was_collected() {
    let mut model = Model::new(non_canonical(3, 0));
    let mut read = model.begin(100);
    model.input(b"ab");
    assert_eq!(model.poll(&mut read, at(1)), Poll::Pending);
    assert_eq!(model.pty.interrupt_read(read), Ok(b"ab".to_vec()));
}

/// LD-116: reads of an end come one after the other.
#[test]
fn ld_116_a_second_read_waits_for_the_first() {
    let mut model = Model::new(non_canonical(1, 0));
    let (mut first, mut second) = (model.begin(100), model.begin(100));
    assert_eq!(model.poll(&mut first, at(0)), Poll::Pending);
    assert_eq!(model.poll(&mut second, at(0)), Poll::Pending);
    let slave = model.slave;
    assert_eq!(model.pty.try_read(&slave, 100), Err(Errno::EAGAIN));
    model.input(b"a");
    assert_eq!(model.poll(&mut second, at(1)), Poll::Pending);
    assert_eq!(model.poll(&mut first, at(1)), ready(b"a"));
    assert_eq!(model.poll(&mut second, at(1)), Poll::Pending);
    model.input(b"b");
    assert_eq!(model.poll(&mut second, at(1)), ready(b"b"));
}

/// LD-84, LD-185: a flush does not end a read, the close of the other end does.
#[test]
fn ld_185_the_close_of_the_master_ends_a_read() {
    let mut model = Model::new(Termios::default());
    let mut read = model.begin(100);
    model.input(b"ab\x03");
    assert_eq!(model.poll(&mut read, at(0)), Poll::Pending);
    let master = model.master;
    model.pty.close(master);
    assert_eq!(model.poll(&mut read, at(1)), Poll::Ready(Err(Errno::EIO)));

    let Some(mut real) = real_terminal() else { return };
    let waiting = Waiting::begin(&real, 100);
    real.run(&TerminalStep::Write(End::Master, b"ab\x03".to_vec()));
    waiting.until_it_sleeps_in_read();
    drop(real);
    let result = waiting.thread.join().expect("the thread");
    assert_eq!(result.expect_err("EIO").raw_os_error(), Some(libc::EIO));
}

/// LD-184: what it has not read is lost; every call but a read fails, and all of its poll flags are
/// set.
#[test]
fn ld_184_the_close_of_the_master_hangs_the_slaves_up() {
    let mut model = Model::new(Termios::default());
    model.input(b"ab\n");
    let (master, slave) = (model.master, model.slave);
    model.pty.close(master);
    assert_eq!(model.pty.try_read(&slave, 10), Ok(Vec::new()));
    assert_eq!(model.pty.write(&slave, b"x"), Err(Errno::EIO));
    assert_eq!(model.pty.readable(&slave), Err(Errno::EIO));
    let set = model.pty.set_termios(&slave, Termios::default(), SetTermios::Now);
    assert_eq!(set, Err(Errno::EIO));
    assert_eq!(model.pty.poll(&slave), PollFlags::HUNG_UP);

    let Some(mut real) = real_terminal() else { return };
    let mut slave = open_slave(&real);
    real.run(&TerminalStep::Write(End::Master, b"ab\n".to_vec()));
    drop(real);
    assert_eq!(slave.read(&mut [0; 10]).expect("the end of the file"), 0);
    assert_eq!(slave.write(b"x").expect_err("EIO").raw_os_error(), Some(libc::EIO));
    assert_eq!(rustix::io::ioctl_fionread(&slave), Err(rustix::io::Errno::IO));
    assert_eq!(rustix::termios::tcgetattr(&slave).err(), Some(rustix::io::Errno::IO));
    let asked = rustix::event::PollFlags::from_bits_retain(0x1ff);
    let mut polled = [rustix::event::PollFd::new(&slave, asked)];
    rustix::event::poll(&mut polled, None).expect("a poll that does not wait");
    assert_eq!(polled[0].revents().bits(), PollFlags::HUNG_UP.0);
}

/// A pty of the running kernel, where this process can have one.
fn real_terminal() -> Option<RealTerminal> {
    let real = RealTerminal::new(Controlling::No).and_then(|real| {
        fs::read_to_string("/proc/self/syscall")?;
        Ok(real)
    });
    real.map_err(|error| println!("SKIPPED: no pty or no /proc/PID/syscall here: {error}")).ok()
}

/// Another file of the slave, whose reads wait.
fn open_slave(terminal: &RealTerminal) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let path = terminal.slave_path().to_str().expect("a name");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).expect("the slave")
}

/// A read of the kernel in another thread.
struct Waiting {
    tid: i32,
    thread: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl Waiting {
    fn begin(terminal: &RealTerminal, len: usize) -> Waiting {
        let mut slave = open_slave(terminal);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: the call takes no argument
            #[allow(unsafe_code)]
            let tid = unsafe { libc::gettid() };
            tell.send(tid).expect("the test waits");
            let mut bytes = vec![0; len];
            let read = slave.read(&mut bytes)?;
            bytes.truncate(read);
            Ok(bytes)
        });
        let waiting = Waiting { tid: told.recv().expect("a thread"), thread };
        waiting.until_it_sleeps_in_read();
        waiting
    }

    /// Waits until the thread sleeps in read(2), call 0.
    fn until_it_sleeps_in_read(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let directory = format!("/proc/self/task/{}", self.tid);
        loop {
            let call = fs::read_to_string(format!("{directory}/syscall")).unwrap_or_default();
            let stat = fs::read_to_string(format!("{directory}/stat")).unwrap_or_default();
            let sleeps = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'));
            if call.starts_with("0 ") && sleeps {
                return;
            }
            assert!(Instant::now() < deadline, "the thread does not read: {call} {stat}");
            std::thread::yield_now();
        }
    }

    fn result(self) -> Vec<u8> {
        self.thread.join().expect("the thread").expect("the read")
    }
}

/// LD-108, LD-113, LD-114 on the running kernel.
#[test]
fn reads_of_the_kernel_wait_as_those_of_the_model() {
    let Some(mut real) = real_terminal() else { return };
    let write = |bytes: &[u8]| TerminalStep::Write(End::Master, bytes.to_vec());
    let set = |termios| TerminalStep::SetTermios(End::Slave, termios, SetTermios::Now);

    real.run(&set(non_canonical(3, 0)));
    let waiting = Waiting::begin(&real, 100);
    real.run(&write(b"ab"));
    waiting.until_it_sleeps_in_read();
    real.run(&set(non_canonical(1, 0)));
    waiting.until_it_sleeps_in_read();
    real.run(&write(b"c"));
    assert_eq!(waiting.result(), b"abc");

    real.run(&set(Termios::default()));
    let waiting = Waiting::begin(&real, 100);
    real.run(&write(b"abc"));
    waiting.until_it_sleeps_in_read();
    let mut termios = Termios::default();
    termios.lflag &= !ICANON;
    real.run(&set(termios));
    assert_eq!(waiting.result(), b"abc");
}
