//! Logs: no panic, what is read and printed reads the same again, and checking it ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = proctable::sim::fuzz::log(bytes) {
        panic!("{what}");
    }
    if let Ok(log) = proctable::trace::read(bytes) {
        let _ = proctable::check::check(&log);
    }
});
