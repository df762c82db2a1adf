//! What the formats share: claims on chunks, and a body that has been sealed.
//!
//! 1. A claim is taken once a chunk and batch, not once a record.
//! 2. The claims that one item needs stand side by side, the last chunk's at the end.

use std::ops::Range;

use bytes::Bytes;

use super::request::{Encoding, Item};
use crate::base::outputs::{OutputId, OutputSet};
use crate::stage::Record;
use crate::ticket::Ticket;

/// A body, compressed, with its tables.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) body: Bytes,
    pub(crate) encoding: Encoding,
    pub(crate) inflated: u64,
    pub(crate) items: Vec<Item>,
    pub(crate) groups: Vec<Range<u32>>,
}

/// Which claims of its batch an item needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) ticket: u32,
    pub(crate) held: u16,
}

/// The claims of a batch.
#[derive(Debug, Default)]
pub(crate) struct Claims(Vec<Ticket>);

impl Claims {
    /// The claim for a record; takes new ones only where the last ones are not on its chunks.
    pub(crate) fn claim(&mut self, output: OutputId, record: &Record<'_>) -> Claim {
        let need = record.held.len() + 1;
        // Fast path: a record of one chunk that has a record in the batch already.
        if !self.ends_with(record) {
            let set = OutputSet::one(output);
            let held = record.held.iter();
            for ticket in held.chain(std::iter::once(record.ticket)) {
                ticket.begin(set);
                self.0.push(ticket.split(set));
            }
        }
        Claim {
            ticket: place(self.0.len() - 1),
            held: u16::try_from(need - 1).unwrap_or(u16::MAX),
        }
    }

    fn ends_with(&self, record: &Record<'_>) -> bool {
        let need = record.held.len() + 1;
        let Some(start) = self.0.len().checked_sub(need) else {
            return false;
        };
        let (last, held) = (&self.0[self.0.len() - 1], &self.0[start..self.0.len() - 1]);
        last.same_chunk(record.ticket)
            && held
                .iter()
                .zip(&record.held)
                .all(|(have, want)| have.same_chunk(want))
    }

    /// All claims, out of the batch. Dropping them fails their chunks for the output.
    pub(crate) fn take(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.0)
    }
}

/// A place in a body or a table. Batches are bounded far below 4 GiB (`BATCH_BYTES_MAX`).
pub(crate) fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The range moved up by `by`.
pub(crate) fn shifted(range: &Range<u32>, by: usize) -> Range<u32> {
    let by = place(by);
    range.start.saturating_add(by)..range.end.saturating_add(by)
}
