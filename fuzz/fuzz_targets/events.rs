//! Applies events in an order that the fuzzer chooses: the invariants hold after each of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = proctable::sim::fuzz::events(bytes) {
        panic!("{what}");
    }
});
