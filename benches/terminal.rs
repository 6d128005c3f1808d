//! A pty of the model beside a pty of the kernel: bytes typed and read, output written and read, in
//! one run; and the memory of a pty of the model.
//!
//! `cargo bench --features host --bench terminal` prints nanoseconds for each round, the medians of
//! several.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proctable::host::{Controlling, RealTerminal, terminal_privilege};
use proctable::sim::{ModelTerminal, TerminalResult, TerminalStep};
use proctable::tty::{End, Pty, SetTermios, Termios};

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work; the counter has no effect on it
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 2000;
const RUNS: usize = 15;

/// Nanoseconds for each round: the median of several runs.
fn measured(mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| round());
            start.elapsed().as_nanos() as f64 / ROUNDS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// The steps of a round: a write at one end, and a read at the other one.
struct Case {
    name: &'static str,
    settings: Termios,
    write: TerminalStep,
    read: TerminalStep,
}

fn cases() -> [Case; 4] {
    let line: Vec<u8> = [&[b'x'; 999][..], b"\n"].concat();
    let silent = |mut termios: Termios| {
        termios.lflag &= !proctable::tty::termios::ECHO;
        termios
    };
    let (cooked, raw) = (silent(Termios::default()), Termios::default().raw());
    [
        Case {
            name: "a canonical line of 1,000 bytes",
            settings: cooked,
            write: TerminalStep::Write(End::Master, line.clone()),
            read: TerminalStep::Read(End::Slave, 4096),
        },
        Case {
            name: "a canonical line of 1 byte",
            settings: cooked,
            write: TerminalStep::Write(End::Master, b"\n".to_vec()),
            read: TerminalStep::Read(End::Slave, 4096),
        },
        Case {
            name: "a processed line of output of 1,000 bytes",
            settings: cooked,
            write: TerminalStep::Write(End::Slave, line),
            read: TerminalStep::Read(End::Master, 4096),
        },
        Case {
            name: "a raw byte",
            settings: raw,
            write: TerminalStep::Write(End::Master, b"x".to_vec()),
            read: TerminalStep::Read(End::Slave, 4096),
        },
    ]
}

fn is_read(result: Option<TerminalResult>) -> bool {
    matches!(result, Some(TerminalResult::Bytes(bytes)) if !bytes.is_empty())
}

fn memory() {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let size = |what: &str| {
        let heap = ALLOCATED.load(Ordering::Relaxed) - before;
        println!("{what}: {} bytes", size_of::<Pty>() + heap);
    };
    let mut pty = Pty::new();
    pty.unlock();
    let (master, slave) = (pty.master(), pty.open_slave(false).expect("it is unlocked"));
    size("memory of an idle pty");
    let bytes = vec![b'x'; 65_536];
    pty.set_termios(&slave, Termios::default().raw(), SetTermios::Now).expect("it is open");
    while pty.write(&master, &bytes).is_ok() {}
    while pty.write(&slave, &bytes).is_ok() {}
    let _ = pty.take_events();
    drop(bytes);
    size("memory of a pty with full buffers");
}

fn main() {
    memory();
    for Case { name, settings, write, read } in cases() {
        let set = TerminalStep::SetTermios(End::Slave, settings, SetTermios::Now);
        let mut model = ModelTerminal::new(terminal_privilege(false));
        model.run(&set);
        let of_model = measured(|| {
            model.run(&write);
            assert!(is_read(model.run(&read)));
        });
        let Ok(mut real) = RealTerminal::new(Controlling::No) else {
            println!("{name}: model {of_model:.0} ns; SKIPPED: no pty here");
            continue;
        };
        real.run(&set);
        let of_kernel = measured(|| {
            real.run(&write);
            while !is_read(real.run(&read)) {}
        });
        let ratio = of_model / of_kernel;
        println!("{name}: model {of_model:.0} ns, kernel {of_kernel:.0} ns, ratio {ratio:.2}");
    }
}
