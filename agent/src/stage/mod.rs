//! Records -> records: frames chunks into lines, lines into records, and walks each record through
//! the plan's steps to the outputs.
//!
//! ```text
//! Feed --Machine::feed--> lines --> Record --> steps --> Sink::emit(output, record)
//! ```
//!
//! 1. Pure: time comes in as a value, nothing here waits or reads a file.
//! 2. A record that a stage holds keeps a claim on every chunk that it has bytes of.
//! 3. A chunk's own claim is settled only after all its lines have been looked at.

mod complaint;
mod held;
pub mod json;
pub mod machine;
pub mod program;
pub mod record;
mod values;
mod walk;

pub use json::JsonScratch;
pub use machine::Machine;
pub use program::Program;
pub use record::{Extracted, Json, Labels, Record, Sink, Stream, TimeOrigin, Value};

#[cfg(test)]
mod tests;
