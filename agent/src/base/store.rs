//! A directory of files that are written by us alone, as the spool sees it: the seam that its model
//! test and the simulator replace.
//!
//! 1. Names are plain: they hold no `/`, and each call is about the one directory.
//! 2. What `sync` has returned for is there after a crash; what was written since may be there in part.
//! 3. A file that `create` has returned is in the directory after a crash; one that `remove` has taken
//!    out may be there again.

use std::io;

/// The directory.
pub trait Store: std::fmt::Debug {
    /// An open file, closed by being dropped.
    type File: std::fmt::Debug;

    /// Names and sizes in bytes of the files, in no order; empty where there is no directory.
    ///
    /// # Errors
    /// The system's.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes an empty file.
    ///
    /// # Errors
    /// The system's; `AlreadyExists`.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and, where the directory may be written to, for writing.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Reads up to `into.len()` bytes at an offset; fewer at the file's end only.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, file: &Self::File, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at an offset.
    ///
    /// # Errors
    /// The system's; a part of them may be written then.
    fn write_at(&self, file: &Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `size` bytes.
    ///
    /// # Errors
    /// The system's.
    fn cut(&self, file: &Self::File, size: u64) -> io::Result<()>;
    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// The system's: what was written since the last call may be lost, whatever a later call says.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Takes a file out of the directory.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file over whatever bears the new name.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
}
