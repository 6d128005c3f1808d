//! Counts the allocated bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with a count of the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
/// Counting costs an atomic operation for each allocation: it is enabled only for the measurements
/// that need it.
static ON: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[global_allocator]
static GLOBAL: Counting = Counting;

fn count(change: impl FnOnce(&AtomicUsize) -> usize) {
    if ON.load(Ordering::Relaxed) {
        change(&IN_USE);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|bytes| bytes.fetch_add(layout.size(), Ordering::Relaxed));
        // SAFETY: the caller's contract is the system's
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|bytes| bytes.fetch_sub(layout.size(), Ordering::Relaxed));
        // SAFETY: the caller's contract is the system's
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(|bytes| {
            bytes.fetch_add(size, Ordering::Relaxed);
            bytes.fetch_sub(layout.size(), Ordering::Relaxed)
        });
        // SAFETY: the caller's contract is the system's
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The number of bytes that `make` leaves allocated.
pub fn bytes_of<T>(make: impl FnOnce() -> T) -> usize {
    ON.store(true, Ordering::Relaxed);
    let before = IN_USE.load(Ordering::Relaxed);
    let made = make();
    let after = IN_USE.load(Ordering::Relaxed);
    ON.store(false, Ordering::Relaxed);
    drop(made);
    after.wrapping_sub(before)
}
