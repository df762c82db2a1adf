//! A sealed request body with its item table.
//!
//! The table says where each item stands in the *inflated* body, so that a lane can send a part of
//! it again: inflate, take the ranges, wrap, compress.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::gate::Loan;
use crate::base::outputs::OutputId;
use crate::base::time::Mono;
use crate::ticket::Ticket;

/// How the body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// gzip of this level, with `Content-Encoding: gzip`.
    Gzip(u8),
    /// zstd of this level, with `Content-Encoding: zstd`.
    Zstd(u8),
    /// Snappy block format (Loki's protobuf).
    Snappy,
}

/// One item: a Loki entry or a bulk action with its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its bytes in the inflated body. Loki: the whole `entries` field with tag and length; bulk:
    /// the action line and the source line with their newlines.
    pub range: Range<u32>,
    /// Its stream, by place in [`Request::groups`]; 0 where the format has none.
    pub group: u32,
    /// Place in [`Request::tickets`] of the last chunk that it has bytes of; of a spooled request, in its
    /// origins.
    pub ticket: u32,
    /// How many tickets before that one it has bytes of too (a record joined over chunks).
    pub held: u16,
    /// Source lines it stands for.
    pub lines: u32,
}

impl Item {
    /// The places of the tickets that it has bytes of.
    #[must_use]
    pub fn tickets(&self) -> Range<usize> {
        let last = self.ticket as usize;
        last.saturating_sub(usize::from(self.held))..last + 1
    }

    /// Bytes before compression.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.range.end.saturating_sub(self.range.start))
    }
}

/// What a claim takes in a request, and in its lane, where its lines are counted.
const TICKET_BYTES: usize = Ticket::HELD_BYTES + size_of::<[u32; 3]>();

/// A sealed request.
#[derive(Debug)]
pub struct Request {
    /// Which output.
    pub output: OutputId,
    /// Tenant header, if any.
    pub tenant: Option<Arc<str>>,
    /// Which encoder made it: a lane is (output, tenant, encoder).
    pub encoder: u16,
    /// The compressed body.
    pub body: Bytes,
    /// How it is compressed.
    pub encoding: Encoding,
    /// Bytes before compression.
    pub inflated: u64,
    /// Its items in body order.
    pub items: Vec<Item>,
    /// Loki: for each stream the range of its `labels` field (tag, length, text) in the inflated
    /// body. Empty for bulk.
    pub groups: Vec<Range<u32>>,
    /// The claims, settled when every item that names them is.
    pub tickets: Vec<Ticket>,
    /// Where it came from a spool: what it owes there, and no ticket.
    pub loan: Option<Loan>,
    /// When the first record came in, or it came from the spool.
    pub opened: Mono,
}

impl Request {
    /// Bytes of memory that it holds until its end: the body, its tables, and what the claims keep of
    /// their chunks. Where lines come one by one the claims are far more than the body.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let items = self.items.len() * size_of::<Item>();
        let groups = self.groups.len() * size_of::<Range<u32>>();
        let tickets = self.tickets.len() * TICKET_BYTES;
        (self.body.len() + items + groups + tickets) as u64
    }

    /// Source lines in all items.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.lines)).sum()
    }
}
