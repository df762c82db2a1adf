//! A request as it stands in a spool.
//!
//! ```text
//! head (postcard): tenant, encoder, encoding, sizes, item table, groups, origins      body: as it is sent
//! ```

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::encode::{Encoding, Item, Origin};

/// A request without its claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Tenant header, if any.
    pub tenant: Option<Arc<str>>,
    /// Which encoder made it.
    pub encoder: u16,
    /// The compressed body.
    pub body: Bytes,
    /// How it is compressed.
    pub encoding: Encoding,
    /// Bytes before compression.
    pub inflated: u64,
    /// Its items in body order; they name origins in place of tickets.
    pub items: Vec<Item>,
    /// Loki's streams, as in a request.
    pub groups: Vec<Range<u32>>,
    /// Whose lines it has.
    pub origins: Vec<Origin>,
    /// When it was spooled, in Unix seconds.
    pub secs: u32,
}

impl Entry {
    /// Source lines in all items.
    #[must_use]
    pub fn lines(&self) -> u32 {
        self.items
            .iter()
            .fold(0, |sum, item| sum.saturating_add(item.lines))
    }
}

/// What stands before the body.
#[derive(Serialize, Deserialize)]
struct Head {
    tenant: Option<Arc<str>>,
    encoder: u16,
    encoding: Code,
    inflated: u64,
    /// Start, length, group, origin, lines.
    items: Vec<(u32, u32, u32, u32, u32)>,
    /// Start, length.
    groups: Vec<(u32, u32)>,
    origins: Vec<Origin>,
}

/// Encodings by numbers that stay.
#[derive(Serialize, Deserialize)]
enum Code {
    Plain,
    Gzip(u8),
    Snappy,
    Zstd(u8),
}

/// The text of an entry's head.
pub(super) fn head_of(entry: &Entry) -> Result<Vec<u8>, postcard::Error> {
    let span = |range: &Range<u32>| (range.start, range.end.saturating_sub(range.start));
    let item = |item: &Item| {
        let (start, length) = span(&item.range);
        (start, length, item.group, item.ticket, item.lines)
    };
    postcard::to_stdvec(&Head {
        tenant: entry.tenant.clone(),
        encoder: entry.encoder,
        encoding: match entry.encoding {
            Encoding::Plain => Code::Plain,
            Encoding::Gzip(level) => Code::Gzip(level),
            Encoding::Snappy => Code::Snappy,
            Encoding::Zstd(level) => Code::Zstd(level),
        },
        inflated: entry.inflated,
        items: entry.items.iter().map(item).collect(),
        groups: entry.groups.iter().map(span).collect(),
        origins: entry.origins.clone(),
    })
}

/// The entry of a head and a body; none where the head makes no sense.
pub(super) fn entry_of(head: &[u8], body: Bytes, secs: u32) -> Option<Entry> {
    let head: Head = postcard::from_bytes(head).ok()?;
    let span = |(start, length): (u32, u32)| Some(start..start.checked_add(length)?);
    let item = |(start, length, group, origin, lines)| {
        Some(Item {
            range: span((start, length))?,
            group,
            ticket: origin,
            held: 0,
            lines,
        })
    };
    Some(Entry {
        tenant: head.tenant,
        encoder: head.encoder,
        body,
        encoding: match head.encoding {
            Code::Plain => Encoding::Plain,
            Code::Gzip(level) => Encoding::Gzip(level),
            Code::Snappy => Encoding::Snappy,
            Code::Zstd(level) => Encoding::Zstd(level),
        },
        inflated: head.inflated,
        items: head.items.into_iter().map(item).collect::<Option<_>>()?,
        groups: head.groups.into_iter().map(span).collect::<Option<_>>()?,
        origins: head.origins,
        secs,
    })
}
