//! Bytes -> lines: frames chunks, and reads what container runtimes put before the text.
//!
//! ```text
//! Chunk --Frame--> Line --cri | docker--> time, stream, partial or whole, text
//! ```
//!
//! 1. Pure: no clock, no I/O; text that lies in one chunk is borrowed from it.
//! 2. How bytes were cut into chunks changes no line.
//! 3. A line longer than the limit is handed on when the limit is reached; the rest is counted.

pub mod boundary;
pub mod cri;
pub mod docker;
mod docker_end;
pub mod frame;
pub mod open;
pub mod time;

pub use frame::{Claims, Frame, Line, Tail};
pub use time::SecondCache;

/// What may stand before a text that is as long as a record may be, in bytes.
pub const HEAD_BYTES: usize = 128;

/// Which of a container's streams wrote the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The format does not say.
    #[default]
    Unknown,
}

impl Stream {
    /// `stdout`, `stderr`, or empty.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Unknown => "",
        }
    }
}
