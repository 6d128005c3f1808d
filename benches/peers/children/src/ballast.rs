//! Memory that makes an owner large: pages of 4 KiB, each touched, so that a fork has to copy a
//! page table entry for each.
#![allow(unsafe_code)]

use std::fs;
use std::io;

/// The amount of memory of the large owner.
pub const SIZE: usize = 2 << 30;
/// The amount of memory that has to stay free for other processes.
const SPARE: usize = 512 << 20;

/// Memory that is released when it is dropped.
pub struct Ballast {
    start: *mut libc::c_void,
}

impl Ballast {
    /// Allocates and touches the memory.
    pub fn new() -> io::Result<Ballast> {
        if available()? < SIZE + SPARE {
            return Err(io::Error::other("memory is short"));
        }
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: a new mapping, without another reference
        let start = unsafe {
            libc::mmap(core::ptr::null_mut(), SIZE, rights, flags | libc::MAP_ANONYMOUS, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ballast = Ballast { start };
        // SAFETY: the mapping is ours. A kernel without huge pages refuses, and needs no advice
        unsafe { libc::madvise(start, SIZE, libc::MADV_NOHUGEPAGE) };
        for page in (0..SIZE).step_by(4096) {
            // SAFETY: inside of the mapping; volatile, so that the compiler keeps the store
            unsafe { start.cast::<u8>().add(page).write_volatile(1) };
        }
        Ok(ballast)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: our own mapping, without any remaining reference
        unsafe { libc::munmap(self.start, SIZE) };
    }
}

fn available() -> io::Result<usize> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no MemAvailable"))
}
