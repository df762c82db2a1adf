//! A look into a sealed body: what a server judges its items by, and the items as text.
//!
//! ```text
//! body + table -> look  -> time, sizes, stream of each entry   (to find what a limit refuses)
//!              -> lines -> time, labels or action, text        (for the dead letters)
//! ```
//!
//! 1. Read from the very bytes that were sent: what is said of an item is true of what the server got.
//! 2. It is done for requests that were refused, never on the way of those that were stored.

use std::ops::Range;

use prost::encoding::decode_varint;

use super::compress::inflate;
use super::loki::{FIELD_1, FIELD_2, FIELD_3, NANOS, SECONDS, slice};
use super::request::{Encoding, Item};
use super::text::TimeText;
use crate::base::time::Timestamp;

/// What Loki judges an entry by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its time.
    pub time: Timestamp,
    /// Bytes of its line.
    pub line_bytes: u64,
    /// How many pairs of structured metadata it bears.
    pub pairs: u32,
    /// Bytes of their names and values.
    pub pair_bytes: u64,
    /// Its stream, by place in [`Looked::streams`].
    pub stream: u32,
}

/// The entries of a body, in the order of its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// One an item.
    pub entries: Vec<Entry>,
    /// The label sets, as they were sent: `{a="b"}`.
    pub streams: Vec<String>,
}

/// An item as a person reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its time in RFC 3339; empty where none was found.
    pub time: String,
    /// Loki: the label set. Bulk: the action line.
    pub labels: String,
    /// Loki: the line. Bulk: the document.
    pub text: Vec<u8>,
}

/// Looks at the entries of a push. A body without groups (bulk) gives no entry.
///
/// # Errors
/// The body does not inflate, or the table does not belong to it: says which.
pub fn look(
    encoding: Encoding,
    body: &[u8],
    items: &[Item],
    groups: &[Range<u32>],
) -> Result<Looked, String> {
    if groups.is_empty() {
        return Ok(Looked::default());
    }
    let whole = inflate(encoding, body).map_err(|error| error.to_string())?;
    let outside = |at: usize| format!("item {at} is no entry of the body");
    let mut looked = Looked::default();
    for (at, item) in items.iter().enumerate() {
        let (entry, _) = slice(&whole, &item.range)
            .and_then(entry)
            .ok_or_else(|| outside(at))?;
        let stream = item.group;
        looked.entries.push(Entry { stream, ..entry });
    }
    for group in groups {
        let text = slice(&whole, group).and_then(labels);
        looked.streams.push(text.unwrap_or_default());
    }
    Ok(looked)
}

/// The items at the places `which`, as text.
///
/// # Errors
/// As [`look`].
pub fn lines(
    encoding: Encoding,
    body: &[u8],
    items: &[Item],
    groups: &[Range<u32>],
    which: &[usize],
) -> Result<Vec<Line>, String> {
    let whole = inflate(encoding, body).map_err(|error| error.to_string())?;
    let mut time = TimeText::new();
    let mut one = |at: usize| {
        let item = items.get(at)?;
        let bytes = slice(&whole, &item.range)?;
        if groups.is_empty() {
            return document(bytes);
        }
        let (entry, text) = entry(bytes)?;
        let mut shown = Vec::new();
        time.push(&mut shown, entry.time);
        let group = groups.get(item.group as usize)?;
        Some(Line {
            time: String::from_utf8_lossy(&shown).into_owned(),
            labels: slice(&whole, group).and_then(labels)?,
            text: text.to_vec(),
        })
    };
    let found = which
        .iter()
        .map(|at| one(*at).ok_or_else(|| format!("item {at} is not in the body")));
    found.collect()
}

/// An action line and its document.
fn document(bytes: &[u8]) -> Option<Line> {
    let end = memchr::memchr(b'\n', bytes)?;
    let text = bytes[end + 1..].strip_suffix(b"\n")?;
    // Ours begins so (`encode::bulk`).
    let time = text.strip_prefix(b"{\"@timestamp\":\"").unwrap_or_default();
    let time = &time[..memchr::memchr(b'"', time).unwrap_or(0)];
    Some(Line {
        time: String::from_utf8_lossy(time).into_owned(),
        labels: String::from_utf8_lossy(&bytes[..end]).into_owned(),
        text: text.to_vec(),
    })
}

/// Reads an `entries` field with its tag and length: the entry, and its line.
fn entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (tag, mut rest, after) = field(bytes)?;
    if tag != FIELD_2 || !after.is_empty() {
        return None;
    }
    let (mut entry, mut line) = (Entry::default(), &[][..]);
    while !rest.is_empty() {
        let (tag, value, after) = field(rest)?;
        rest = after;
        match tag {
            FIELD_1 => entry.time = time(value)?,
            FIELD_2 => (line, entry.line_bytes) = (value, value.len() as u64),
            FIELD_3 => {
                entry.pairs += 1;
                let mut pair = value;
                while !pair.is_empty() {
                    let (_, text, after) = field(pair)?;
                    (pair, entry.pair_bytes) = (after, entry.pair_bytes + text.len() as u64);
                }
            }
            _ => {}
        }
    }
    Some((entry, line))
}

fn time(mut bytes: &[u8]) -> Option<Timestamp> {
    let mut time = Timestamp::default();
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        let number = decode_varint(&mut bytes).ok()?;
        match *tag {
            SECONDS => time.secs = number as i64,
            NANOS => time.nanos = u32::try_from(number).ok()?,
            _ => return None,
        }
    }
    Some(time)
}

/// The text of a `labels` field with its tag and length.
pub(super) fn labels(bytes: &[u8]) -> Option<String> {
    let (_, text, _) = field(bytes)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// A length-delimited field: its tag, its value, and what follows.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, mut rest) = bytes.split_first()?;
    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    let (value, after) = rest.split_at_checked(length)?;
    Some((*tag, value, after))
}
