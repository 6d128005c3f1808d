//! The program `proctable`.
fn main() {}
