//! Whole lines off disk, on their way from a reader to an encoder.
//!
//! 1. The chunks of one pass follow each other without a gap: `base + len` is the next one's `base`.
//! 2. A chunk ends at a line's end, unless the line is longer than a buffer (`open_tail`).
//! 3. All chunks of one container log go to one encoder, in the order in which they were read.

use std::sync::Arc;

use super::{LogId, PassId, Source, Ticket};
use crate::base::bell::Bell;
use crate::base::belled::Belled;
use crate::base::pool::{Buffer, Permit};
use crate::base::share::Held;

/// A buffer of lines.
#[derive(Debug)]
pub struct Chunk {
    /// Whose lines they are, under the metadata version they were read with.
    pub source: Arc<Source>,
    /// The pass that read them.
    pub pass: PassId,
    /// Offset in the file of the first byte.
    pub base: u64,
    /// The bytes; the first `len` count.
    pub buf: Buffer,
    /// How many bytes count.
    pub len: usize,
    /// The last line goes on in the next chunk of this pass. Otherwise a last line without a
    /// newline is complete: its file ends there.
    pub open_tail: bool,
    /// What the lines still owe.
    pub ticket: Ticket,
    /// It ends the record that this was taken for.
    pub permit: Option<Permit>,
    /// It counts among its log's buffers.
    pub held: Option<Held>,
}

impl Chunk {
    /// The bytes that count.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

/// What does not go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Standard output's record.
    pub stdout: bool,
    /// Standard error's.
    pub stderr: bool,
    /// The line that goes on in the next chunk.
    pub line: bool,
}

impl Ended {
    /// Nothing does.
    pub const ALL: Self = Self {
        stdout: true,
        stderr: true,
        line: true,
    };
}

/// What a reader tells an encoder, in order.
#[derive(Debug)]
pub enum Feed {
    /// Lines.
    Chunk(Chunk),
    /// A catch-up pass has met another pass: what it holds joins what `into` holds at the same offset.
    Merged {
        /// The container log.
        log: LogId,
        /// The pass that ends.
        pass: PassId,
        /// The pass that goes on.
        into: PassId,
    },
    /// A pass will be read again from its watermark: multiline blocks are emitted as they are, records
    /// without an end are dropped unsettled.
    Abandoned {
        /// The container log.
        log: LogId,
        /// The pass that ends.
        pass: PassId,
        /// What its open record was permitted by.
        permit: Option<Permit>,
    },
    /// What a pass has open does not go on: what is held of it is emitted as it is.
    Finished {
        /// The container log.
        log: LogId,
        /// The pass.
        pass: PassId,
        /// Of what.
        ended: Ended,
        /// What its open record was permitted by.
        permit: Option<Permit>,
    },
    /// The container log has ended: what any of its passes holds is emitted as it is.
    Ended {
        /// The container log.
        log: LogId,
    },
}

impl Feed {
    /// The container log it is about; decides the encoder.
    #[must_use]
    pub fn log(&self) -> LogId {
        match self {
            Self::Chunk(chunk) => chunk.source.log,
            Self::Merged { log, .. }
            | Self::Abandoned { log, .. }
            | Self::Finished { log, .. }
            | Self::Ended { log } => *log,
        }
    }
}

/// The lock-free way from the readers to one encoder.
#[derive(Debug)]
pub struct Feeds(Belled<Feed>);

impl Feeds {
    /// A queue of `capacity` feeds; `encoder` is rung when one was put.
    #[must_use]
    pub fn new(capacity: usize, encoder: Bell) -> Self {
        Self(Belled::new(capacity, encoder))
    }

    /// Puts a feed.
    ///
    /// # Errors
    /// Gives the feed back when the queue is full.
    pub fn put(&self, feed: Feed) -> Result<(), Feed> {
        self.0.put(feed)
    }

    /// The next feed.
    #[must_use]
    pub fn take(&self) -> Option<Feed> {
        self.0.take()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
