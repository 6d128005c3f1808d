//! A child that obeys SIGTERM, and records the time: this program itself, run with `obey FILE`.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The descriptor to which the handler writes the time.
static NOTES: AtomicI32 = AtomicI32::new(-1);

/// Nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and the time is ours
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

extern "C" fn leave(_: i32) {
    let time = now().to_ne_bytes();
    // SAFETY: both may be called in a handler. A failed write has no remedy
    unsafe {
        libc::write(NOTES.load(Ordering::Relaxed), time.as_ptr().cast(), time.len());
        libc::_exit(0)
    }
}

/// Runs the child: it writes a 0 when it is ready, and the time when it receives SIGTERM.
pub fn run(notes: &Path) -> io::Result<()> {
    let mut file = File::options().append(true).open(notes)?;
    NOTES.store(file.as_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(i32) = leave;
    // SAFETY: the handler calls only async-signal-safe functions
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    file.write_all(&0u64.to_ne_bytes())?;
    let _ = file.into_raw_fd();
    loop {
        // SAFETY: no arguments
        unsafe { libc::pause() };
    }
}

/// The file to which children append their times. Dropping it removes the file.
pub struct Notes {
    path: PathBuf,
}

impl Notes {
    pub fn new() -> io::Result<Notes> {
        let path = std::env::temp_dir().join(format!("children-{}", std::process::id()));
        File::create(&path)?;
        Ok(Notes { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> io::Result<Vec<u64>> {
        let bytes = fs::read(&self.path)?;
        let (numbers, _) = bytes.as_chunks::<8>();
        Ok(numbers.iter().map(|number| u64::from_ne_bytes(*number)).collect())
    }

    /// Waits until that many children are ready.
    pub fn await_ready(&self, children: usize) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.read()?.len() < children {
            if Instant::now() > deadline {
                return Err(io::Error::other("the children are not ready"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The time at which the last of that many children exited.
    pub fn last_exit(&self, children: usize) -> io::Result<u64> {
        let times: Vec<u64> = self.read()?.into_iter().filter(|time| *time != 0).collect();
        if times.len() != children {
            return Err(io::Error::other(format!("{} of {children} went", times.len())));
        }
        times.into_iter().max().ok_or_else(|| io::Error::other("no child has ended"))
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
