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
//! 4. A log of whose pod nothing is known is handed over held (`standing.rs`), where the config asks
//!    for metadata; what changes of it later is told once a log and version.

mod globbed;
mod globs;
mod leads;
pub mod name;
mod names;
mod pods;
mod site;
mod standing;
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
        /// Its pod had opted out so far: it is read from its present end.
        at_end: bool,
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
    /// The log's source has another version: more is known of its pod, or it is read from now on, or
    /// not any more.
    Changed {
        /// The new version, of the same log.
        source: Arc<Source>,
    },
    /// The container log's directory is gone: no more files will come.
    Ended {
        /// Whose it was.
        source: Arc<Source>,
    },
}

impl Event {
    /// Whose log it is about, as it was known then.
    #[must_use]
    pub const fn source(&self) -> &Arc<Source> {
        match self {
            Self::Found { source, .. }
            | Self::Moved { source, .. }
            | Self::Gone { source, .. }
            | Self::Changed { source }
            | Self::Ended { source } => source,
        }
    }
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
