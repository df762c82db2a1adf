//! The file system as the agent sees it: the seam that the simulator replaces.
//!
//! 1. No method waits for the network or for another thread of the agent.
//! 2. Log files are opened through `open_log` alone: it leads nowhere but below the allowed roots,
//!    never blocks on a FIFO or device, and gives regular files only.
//! 3. State is replaced by `replace` (temporary file, fsync, rename, fsync of the directory) alone.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::time::Timestamp;

/// What `fstat` and `statx` say of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device number.
    pub device: u64,
    /// Inode number; used again by the next file as soon as it is free.
    pub inode: u64,
    /// Birth time in nanoseconds since the epoch, where the file system has one.
    pub born_ns: Option<i64>,
    /// Size in bytes.
    pub size: u64,
    /// Links; 0 when the file was deleted.
    pub links: u64,
    /// Time of the last write.
    pub modified: Timestamp,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Link,
    /// A FIFO, socket or device.
    Other,
}

/// Why a path is not opened: it is no log, or leads where no log may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A directory, FIFO, socket or device.
    #[error("it is no regular file, and only those are read")]
    NotRegular,
    /// The path, or where a link leads, lies below no allowed root.
    #[error(
        "it leads out of the directories that may be read; if that is meant, name where it leads in the input's `link_roots`"
    )]
    OutOfRoots,
    /// One link too many.
    #[error("it leads over more than two links")]
    TooManyLinks,
}

impl Refusal {
    /// Its name, by which messages are told apart.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotRegular => "not_regular",
            Self::OutOfRoots => "out_of_roots",
            Self::TooManyLinks => "too_many_links",
        }
    }

    /// The refusal that `open_log` answered with.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(io::ErrorKind::InvalidInput, refusal)
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name alone.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// A watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i32);

/// Something happened in a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirEvent {
    /// A name came into the directory (created or moved in).
    Came(WatchId, OsString),
    /// A name left the directory (deleted or moved out).
    Left(WatchId, OsString),
    /// The directory itself is gone; the watch has ended.
    Ended(WatchId),
    /// Events were lost: everything must be listed again.
    Overflow,
}

/// The file system.
pub trait Files {
    /// An open log file, closed by being dropped.
    type File: Send + 'static;

    /// Opens `path` for reading: below the allowed roots, regular files only, never blocking.
    ///
    /// # Errors
    /// The system's; a [`Refusal`] of kind `InvalidInput`.
    fn open_log(&self, path: &Path) -> io::Result<Self::File>;
    /// The paths that the links at `path` lead over, within the allowed roots; the last is the
    /// file, whether it is there or not. Empty for a path without links.
    fn links(&self, path: &Path) -> Vec<PathBuf> {
        let _ = path;
        Vec::new()
    }
    /// Facts of an open file.
    ///
    /// # Errors
    /// The system's.
    fn stat(&self, file: &Self::File) -> io::Result<Stat>;
    /// Reads at an offset without touching the ring: fingerprints, at open.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// The entries of a directory, in no order.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Watches a directory for names that come and leave; watching it again gives the same id.
    ///
    /// # Errors
    /// The system's: `ENOSPC` at the watch limit.
    fn watch(&self, dir: &Path) -> io::Result<WatchId>;
    /// Ends a watch; unknown ids are ignored.
    fn unwatch(&self, watch: WatchId);
    /// Moves what happened since the last call into `events`.
    ///
    /// # Errors
    /// The system's.
    fn events(&self, events: &mut Vec<DirEvent>) -> io::Result<()>;
    /// The whole of a small state file.
    ///
    /// # Errors
    /// The system's.
    fn load(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Replaces a state file durably: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// The system's; the old content is then still there.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames a state file.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}
