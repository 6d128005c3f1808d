//! Programs of system calls for the model: generated, run, explained, shrunk.
//!
//! - `program`: a program and its steps;
//! - `react`: one step on the model, and all that comes of it;
//! - `explain`: does some sequence of choices of the model give what was seen?
//! - `search`: the orders of one step, each state that they lead to once;
//! - `generate`: random programs, by profile;
//! - `shrink`: the smallest program that still fails;
//! - [`fuzz`]: bytes of a fuzzer as events.

mod explain;
pub mod fuzz;
mod generate;
mod program;
mod react;
mod search;
mod shrink;

pub use explain::{Expectation, Explainer, Explanation};
pub use generate::{Generator, GeneratorEnv, Profile};
pub use program::{Action, Program, Step};
pub use react::{Observable, Reaction, react};
pub use shrink::shrink;
