//! A document's `_id`: the same whenever the same line is sent, another for any other line.
//!
//! ```text
//! (cluster, node, container log, stream, output) -> origin, once a source and stream
//! (origin, offset, text, route, ordinal, time if the line bears it) -> 128 bits -> 22 characters
//! ```
//!
//! 1. Nothing in it hangs on how bytes were cut into chunks, on when they were read, or on an inode:
//!    a file read again after a crash, or its compressed copy, gives the same ids.
//! 2. The parts are hashed with their lengths, so that no two of them can run into each other.
//! 3. A line without a time of its own is told from others by where it stands alone: two files of one
//!    log that have the same text at the same offset give the same id. So [`Ids::Timed`] leaves such
//!    lines without one.

use xxhash_rust::xxh3::xxh3_128;

use crate::plan::Ids;
use crate::stage::{Record, TimeOrigin};

/// Characters of an id.
pub(super) const ID_CHARS: usize = 22;

/// The alphabet of base64url, RFC 4648 section 5.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What all ids of a source's stream share.
pub(super) fn origin(cluster: &str, output: &str, record: &Record<'_>) -> [u8; 16] {
    let source = record.source;
    let parts = [
        cluster,
        &source.meta.node,
        &source.key,
        record.stream.name(),
        output,
    ];
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part.as_bytes());
    }
    xxh3_128(&all).to_le_bytes()
}

/// Whether a record has an id.
pub(super) fn has_id(ids: Ids, record: &Record<'_>) -> bool {
    match ids {
        Ids::Off => false,
        Ids::Timed => record.time_origin == TimeOrigin::Line,
        Ids::On => true,
    }
}

/// The id of a record.
pub(super) fn id(origin: &[u8; 16], record: &Record<'_>) -> [u8; ID_CHARS] {
    let mut parts = [0u8; 16 + 8 + 16 + 4 + 4 + 8 + 4];
    let text = xxh3_128(&record.text).to_le_bytes();
    parts[..16].copy_from_slice(origin);
    parts[16..24].copy_from_slice(&record.offset.to_le_bytes());
    parts[24..40].copy_from_slice(&text);
    parts[40..44].copy_from_slice(&record.route.to_le_bytes());
    parts[44..48].copy_from_slice(&record.ordinal.to_le_bytes());
    let used = match record.time_origin {
        TimeOrigin::Read => 48,
        TimeOrigin::Line => {
            parts[48..56].copy_from_slice(&record.time.secs.to_le_bytes());
            parts[56..60].copy_from_slice(&record.time.nanos.to_le_bytes());
            60
        }
    };
    base64url(xxh3_128(&parts[..used]))
}

/// As base64url writes the bits from the highest on, without padding.
fn base64url(bits: u128) -> [u8; ID_CHARS] {
    std::array::from_fn(|at| DIGITS[((bits << (6 * at)) >> 122) as usize])
}
