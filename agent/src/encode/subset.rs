//! A part of a request: what a lane sends again when only some items must be retried or split off.

use std::ops::Range;

use bytes::Bytes;

use super::compress::{Compressor, Error, inflate};
use super::loki::{Parts, regroup, slice};
use super::request::{Encoding, Item};
use super::seal::place;

/// A body with fewer items. Places in the tickets are those of the request it was made of.
#[derive(Debug)]
pub struct Subset {
    /// The compressed body, in the encoding of the whole.
    pub body: Bytes,
    /// Bytes before compression.
    pub inflated: u64,
    /// The kept items with their new places.
    pub items: Vec<Item>,
    /// The streams of the kept items (Loki).
    pub groups: Vec<Range<u32>>,
}

/// The items `keep` (places in `items`, ascending) of a body, alone. A body without groups is bulk.
///
/// # Errors
/// When the body does not inflate or an item lies outside of it.
pub fn subset(
    encoding: Encoding,
    body: &[u8],
    items: &[Item],
    groups: &[Range<u32>],
    keep: &[usize],
) -> Result<Subset, Error> {
    let whole = inflate(encoding, body)?;
    let mut kept = Vec::with_capacity(keep.len());
    for at in keep {
        let item = items.get(*at).ok_or(Error::Item(*at))?;
        slice(&whole, &item.range).ok_or(Error::Item(*at))?;
        kept.push(item.clone());
    }
    let parts = if groups.is_empty() {
        let mut raw = Vec::with_capacity(whole.len());
        for item in &mut kept {
            let start = raw.len();
            raw.extend_from_slice(slice(&whole, &item.range).unwrap_or_default());
            item.range = place(start)..place(raw.len());
        }
        Parts {
            raw,
            items: kept,
            groups: Vec::new(),
        }
    } else {
        regroup(&whole, groups, &kept).ok_or(Error::Item(0))?
    };
    Ok(Subset {
        body: Compressor::of(encoding).compress(&parts.raw)?,
        inflated: parts.raw.len() as u64,
        items: parts.items,
        groups: parts.groups,
    })
}

/// Body, items and groups of a [`Subset`].
pub type Recomposed = (Bytes, Vec<Item>, Vec<Range<u32>>);

/// [`subset`] in the shape in which the lanes of `deliver` take it.
///
/// # Errors
/// As [`subset`], as text.
pub fn recompose(
    encoding: Encoding,
    body: &[u8],
    items: &[Item],
    groups: &[Range<u32>],
    keep: &[usize],
) -> Result<Recomposed, String> {
    match subset(encoding, body, items, groups, keep) {
        Ok(part) => Ok((part.body, part.items, part.groups)),
        Err(error) => Err(error.to_string()),
    }
}
