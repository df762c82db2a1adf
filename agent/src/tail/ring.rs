//! The seam to the kernel: reads, and who has new bytes.
//!
//! 1. One ring is one thread's only wait point: reads, wakes, the bell and the timeout end in `park`.
//! 2. A buffer given to `read` comes back in exactly one `Event::Read`.
//! 3. After `arm` has returned, a write to the file causes at least one `Event::Woken`; a write
//!    before it is seen by a read that begins after it. So: arm, read, sleep.

use std::io;

use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::wake::{Rung, WakeCounters};

/// A file as its reader numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

/// What comes out of a ring.
#[derive(Debug)]
pub enum Event {
    /// The file was written to.
    Woken(Token),
    /// A read has ended.
    Read {
        /// Which file.
        token: Token,
        /// The buffer that was given.
        buf: Buffer,
        /// Bytes read; 0 at the file's end.
        result: io::Result<usize>,
    },
}

/// Reads and the wake source of one reader.
pub trait Ring {
    /// An open log file.
    type File;

    /// Starts to read up to `len` bytes at `offset`; the end comes out of `drain`.
    fn read(&mut self, token: Token, file: &Self::File, offset: u64, buf: Buffer, len: usize);
    /// Begins to watch a file; not armed yet.
    ///
    /// # Errors
    /// The system's: no slot or watch is free. The sweep then serves the file.
    fn watch(&mut self, token: Token, file: &Self::File, inode: u64) -> io::Result<()>;
    /// Ends a watch.
    fn unwatch(&mut self, token: Token);
    /// From now on the next write wakes.
    ///
    /// # Errors
    /// The system's; the file counts as not watched.
    fn arm(&mut self, token: Token) -> io::Result<()>;
    /// Where the last announced write ends, for hooks that fire before the size moves.
    fn expected_end(&self, token: Token) -> Option<u64>;
    /// The rung that wakes the file; the sweep's for one that is not watched.
    fn rung_of(&self, token: Token) -> Rung;
    /// Whether the wake source has just gone to a lower rung: every file must be watched anew.
    fn step_down(&mut self) -> bool {
        false
    }
    /// What the wake source has done so far.
    fn wake_counters(&self) -> WakeCounters;
    /// Events that the wake source lost, over all readers, each known to no reader.
    fn refused(&self) -> u64;
    /// Moves what has happened into `events`; never waits.
    ///
    /// # Errors
    /// The system's.
    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()>;
    /// Waits for an event, the bell, or `timeout_ms` (`None` = without end).
    ///
    /// # Errors
    /// The system's.
    fn park(&mut self, now: Mono, until: Option<Mono>) -> io::Result<()>;
}
