//! One slot that a probe and a reader share: armed, woken, and where the last write ends.
//!
//! ```text
//! reader: flag = 0, fence, read the file, sleep       probe: size moves, flag = 1; it was 0: an event
//! ```
//!
//! 1. Either the reader's read sees the write, or the probe's exchange sees the flag clear.

use crate::base::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The slot, as the probes lay it out.
#[derive(Debug)]
#[repr(C)]
pub struct Shared {
    /// 0 = armed.
    pub flag: AtomicU32,
    /// Which claim of the slot this is.
    pub generation: AtomicU32,
    /// Where the last announced write ends.
    pub end: AtomicU64,
}

impl Shared {
    /// A new owner: nothing is armed or announced. Gives its generation.
    pub fn claim(&self) -> u32 {
        self.flag.store(1, Ordering::SeqCst);
        self.end.store(0, Ordering::SeqCst);
        let before = self.generation.fetch_add(1, Ordering::SeqCst);
        before.wrapping_add(1)
    }

    /// Clears the flag; what the caller reads afterwards includes every write that found it set.
    pub fn arm(&self) {
        self.flag.store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The end that the last writer announced; 0 when none has.
    #[must_use]
    pub fn announced(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }
}
