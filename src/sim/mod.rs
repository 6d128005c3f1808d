//! Programs of system calls for the model: generation, execution, explanation, shrinking.
//!
//! - `program`: a program and its steps;
//! - `react`: one step on the model, with all its consequences;
//! - `explain`: the search for choices of the model that give an observation;
//! - `search`: the orders of one step, each state once;
//! - `generate`: random programs, by profile;
//! - `shrink`: the reduction of a program that fails;
//! - `terminal`: programs for a terminal;
//! - [`fuzz`]: events from the bytes of a fuzzer.

mod explain;
pub mod fuzz;
mod generate;
mod program;
mod react;
mod search;
mod shrink;
mod terminal;

pub use explain::{Expectation, Explainer, Explanation};
pub use generate::{Generator, GeneratorEnv, Profile, terminal_program};
pub use program::{Action, Program, Step};
pub use react::{Observable, Reaction, react};
pub use shrink::shrink;
pub use terminal::{ModelTerminal, TerminalPrivilege, TerminalResult, TerminalState, TerminalStep};
