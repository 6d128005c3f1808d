//! Memory that makes an owner large: pages of 4 KiB, each touched, so that a fork has to copy an
//! entry for each.
#![allow(unsafe_code)]

use std::fs;
use std::io;

/// What the large owner holds.
pub const SIZE: usize = 2 << 30;
/// What has to stay free for everybody else.
const SPARE: usize = 512 << 20;

/// Memory that is given back when it is dropped.
pub struct Ballast {
    start: *mut libc::c_void,
}

impl Ballast {
    /// Takes and touches it.
    pub fn new() -> io::Result<Ballast> {
        if available()? < SIZE + SPARE {
            return Err(io::Error::other("memory is short"));
        }
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: a new mapping, which nothing else names
        let start = unsafe {
            libc::mmap(core::ptr::null_mut(), SIZE, rights, flags | libc::MAP_ANONYMOUS, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ballast = Ballast { start };
        // SAFETY: the mapping is ours. A kernel without huge pages refuses, and needs no telling
        unsafe { libc::madvise(start, SIZE, libc::MADV_NOHUGEPAGE) };
        for page in (0..SIZE).step_by(4096) {
            // SAFETY: inside of the mapping; volatile, so that it is really written
            unsafe { start.cast::<u8>().add(page).write_volatile(1) };
        }
        Ok(ballast)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more
        unsafe { libc::munmap(self.start, SIZE) };
    }
}

fn available() -> io::Result<usize> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no MemAvailable"))
}
