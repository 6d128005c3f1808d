//! The standard streams that this program was started without.
//!
//! Before `main`, Rust's runtime opens /dev/null in the place of each: after that it cannot be told
//! from a /dev/null that the caller opened. So a constructor looks, which runs before.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

#[used]
// SAFETY: the C library calls each function in this section, before `main` and without other
// threads
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = {
    extern "C" fn look() {
        for (number, closed) in (0..).zip(&CLOSED) {
            // SAFETY: plain call; EBADF is its only error
            let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
            closed.store(flags < 0, Ordering::Relaxed);
        }
    }
    look
};

/// Whether standard input, output and error were closed when this program began.
pub(super) fn closed() -> [bool; 3] {
    CLOSED.each_ref().map(|closed| closed.load(Ordering::Relaxed))
}
