//! Which files exist and whose they are.
//!
//! ```text
//! directory watches (Files::events) -> Tree -> Event -> the reader of that container log
//!                                       |-- Pods: kubelet's tree
//!                                       |-- Globs: path patterns
//! ```
//!
//! 1. A turn is synchronous and waits for nothing but the file system.
//! 2. Files of one container log go to one reader, oldest first.
//! 3. Discovery hands over paths. It reads no log, and opens one only to ask which file it is.

mod globbed;
mod globs;
mod leads;
pub mod name;
mod names;
mod pods;
mod site;
#[cfg(test)]
mod tests;
pub mod tree;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;

pub use tree::Tree;

use crate::base::time::Timestamp;
use crate::ticket::Source;

/// What discovery tells a reader.
#[derive(Clone, Debug)]
pub enum Event {
    /// A file of a container log is there. `place` orders the files of one log: older first.
    Found {
        /// Whose it is.
        source: Arc<Source>,
        /// Where it is now.
        path: PathBuf,
        /// Its place among the log's files.
        place: Place,
        /// It was there when discovery first listed its directory after the agent's start; only
        /// such files obey `start_at`.
        at_start: bool,
    },
    /// A file that was found under `from` is now at `to` (rotation by rename).
    Moved {
        /// Whose it is.
        source: Arc<Source>,
        /// The old path.
        from: PathBuf,
        /// The new path.
        to: PathBuf,
        /// Its new place among the log's files.
        place: Place,
    },
    /// The name is gone; an open descriptor is still read to its end.
    Gone {
        /// Whose it was.
        source: Arc<Source>,
        /// The path.
        path: PathBuf,
    },
    /// The container log's directory is gone: no more files will come.
    Ended {
        /// Whose it was.
        source: Arc<Source>,
    },
}

/// Orders the files of one container log: by attempt, then rotated files by the time in their
/// name, then the file being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `<attempt>.log`.
    pub attempt: u32,
    /// When it was rotated away; `None` (written now) comes after every time.
    pub rotated: Rotated,
}

/// When a file was rotated away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rotated {
    /// At this local time, as its name says, read as if it were UTC.
    At(Timestamp),
    /// Not yet.
    Current,
}
