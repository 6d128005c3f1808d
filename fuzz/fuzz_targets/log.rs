//! Parses logs: no panic, a parsed log prints and parses equal, and its check ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = proctable::sim::fuzz::log(bytes) {
        panic!("{what}");
    }
    if let Ok(log) = proctable::trace::read(bytes) {
        let _ = proctable::check::check(&log);
    }
});
