//! The model.

mod view;

pub use view::{Run, View};
