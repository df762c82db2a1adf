//! Loki's words: which limit it names, of which stream, for which entries.
//!
//! ```text
//! distributor: "X", or "3 errors like: X; 2 errors like: Y"  -> Refused: all that it refused is
//!              named, and all else is stored
//! ingester:    "entry with timestamp .. ignored, reason: ..,\n.. total ignored: 2 out of 3 for
//!              stream: {..}"                                 -> Stream: the last stream of the push
//!              alone is spoken of; others may have been refused too
//! ```
//!
//! 1. The text is a server's and holds label values that pods have chosen: what does not read as
//!    expected is [`Said::Unknown`], and nobody trusts it.
//! 2. Times are Loki's UTC; distributors say them in whole seconds, ingesters in nanoseconds.
//!
//! Sources: `pkg/validation/validate.go`, `pkg/util/errors.go` (`GroupedErrors`) and
//! `pkg/ingester/stream.go` (`errorForFailedEntries`) of Loki 3.7; older ones say the same of single
//! errors.

use std::collections::BTreeMap;

use super::Reason;
use crate::base::time::Timestamp;

/// A label set.
pub(crate) type Labels = BTreeMap<String, String>;

/// What Loki said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// These were refused, each with its limit; what is not named is stored.
    Refused(Vec<Fault>),
    /// Entries of one stream were ignored; of the other streams nothing is said.
    Stream(StreamFault),
    /// The tenant has too many streams: this one was not made. Of others nothing is said.
    NewStream(Option<Labels>),
    /// Nothing is stored: the tenant's rate.
    Rate {
        /// Bytes a second.
        limit: u64,
        /// Bytes of the push, as Loki counts.
        bytes: u64,
    },
    /// A stream was not made: its first entry lies before the schema. Of others nothing is said.
    BeforeSchema {
        /// That entry's time, in milliseconds.
        ms: i64,
    },
    /// The body is too large, by some server's limit.
    TooLarge,
    /// Some label set of the push does not parse, and nothing of the push is stored.
    Unparsed,
    /// No entry's fault: the endpoint, a header, the tenant.
    Setup,
    /// None of the above.
    Unknown,
}

/// A limit, and how many entries (of [`What::LabelSet`]: streams) it has refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) count: u32,
    pub(crate) what: What,
    pub(crate) stream: Named,
}

/// A stream as it is named.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Named {
    /// By labels that parse.
    Set(Labels),
    /// By the text that was sent.
    Text(String),
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Lines of more bytes than `most`; the named ones have so many.
    LineBytes {
        /// The limit.
        most: u64,
        /// What they have.
        length: u64,
    },
    /// Entries in this second, in seconds since the epoch.
    TooOld(i64),
    /// Entries in this second.
    TooNew(i64),
    /// Any structured metadata.
    PairsOff,
    /// More bytes of structured metadata.
    PairBytes(u64),
    /// More pairs of structured metadata.
    Pairs(u64),
    /// All entries of the stream.
    LabelSet,
}

impl What {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::LineBytes { .. } => Reason::LineTooLong,
            Self::TooOld(_) => Reason::TooOld,
            Self::TooNew(_) => Reason::TooNew,
            Self::PairsOff | Self::PairBytes(_) | Self::Pairs(_) => Reason::Metadata,
            Self::LabelSet => Reason::Labels,
        }
    }
}

/// What an ingester says of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamFault {
    pub(crate) labels: Labels,
    /// Entries that were ignored; Loki names ten of them at the most.
    pub(crate) named: Vec<(Timestamp, Cause)>,
    /// How many were.
    pub(crate) ignored: u32,
    /// Of how many that had passed the distributor.
    pub(crate) of: u32,
    /// The stream's rate in bytes a second, where it is the cause.
    pub(crate) rate: Option<u64>,
}

/// Why an ingester ignores an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// For ever: it is older than the stream's newest by more than half a chunk's age.
    FarBehind,
    /// For now: the stream's rate.
    Rate,
}

/// Reads an answer's body.
pub(crate) fn read(body: &[u8]) -> Said {
    let text = String::from_utf8_lossy(body);
    let mut text = text.trim();
    // What a gateway in front of a distributor puts around it.
    if text.starts_with("rpc error: code = ")
        && let Some((_, words)) = text.split_once(" desc = ")
    {
        text = words;
    }
    if text.starts_with("entry with timestamp ") || text.starts_with("user '") {
        return stream(text).map_or(Said::Unknown, Said::Stream);
    }
    if let Some(faults) = faults(text) {
        return Said::Refused(faults);
    }
    whole(text).unwrap_or(Said::Unknown)
}

/// Words about the push as a whole.
fn whole(text: &str) -> Option<Said> {
    let has = |words: &str| text.contains(words);
    let begins = |words: &[&str]| words.iter().any(|words| text.starts_with(words));
    if begins(&[
        "ingestion rate limit exceeded",
        "Ingestion rate limit exceeded",
    ]) {
        let (limit, bytes) = (after(text, "(limit: ")?, after(text, "totaling '")?);
        return Some(Said::Rate { limit, bytes });
    }
    if begins(&[
        "maximum active stream limit exceeded",
        "Maximum active stream limit exceeded",
    ]) {
        let labels = text.split_once("create stream ");
        let labels = labels.and_then(|(_, rest)| labels_at(rest));
        return Some(Said::NewStream(labels.map(|(labels, _)| labels)));
    }
    if let Some((_, rest)) = text.split_once("no schema config found for time ") {
        let seconds: f64 = rest.split_whitespace().next()?.parse().ok()?;
        let ms = (seconds * 1_000.0).round();
        // Within years that a clock can show; NaN is not.
        let sane = ms.abs() < 9e15;
        return sane.then_some(Said::BeforeSchema { ms: ms as i64 });
    }
    if has("received message larger than max")
        || has("message size too large than max")
        || begins(&["request body too large"])
    {
        return Some(Said::TooLarge);
    }
    if begins(&["couldn't parse labels"]) {
        return Some(Said::Unparsed);
    }
    let setup = [
        "mime: ",
        "Content-Encoding ",
        "tenant ID ",
        "multiple org IDs",
        "no org id",
        "ingestion blocked for user",
    ];
    begins(&setup).then_some(Said::Setup)
}

/// The distributor's list. `None` when some of it does not read as expected.
fn faults(text: &str) -> Option<Vec<Fault>> {
    let mut rest = text;
    let mut faults = Vec::new();
    loop {
        let (count, words) = counted(rest).unwrap_or((1, rest));
        let ((what, stream), after) = fault(words)?;
        faults.push(Fault {
            count,
            what,
            stream,
        });
        // The next begins behind its count; a word of advice may stand before.
        let next = after.match_indices("; ").map(|(at, _)| &after[at + 2..]);
        match next.into_iter().find(|next| counted(next).is_some()) {
            Some(next) => rest = next,
            None => return Some(faults),
        }
    }
}

/// `12 errors like: X` -> 12, X
fn counted(text: &str) -> Option<(u32, &str)> {
    let (count, words) = text.split_once(" errors like: ")?;
    Some((count.parse().ok()?, words))
}

type Single = (What, Named);

/// One error, and the text that follows what was read of it.
fn fault(text: &str) -> Option<(Single, &str)> {
    if let Some(rest) = text.strip_prefix("max entry size '") {
        let (most, rest) = number(rest)?;
        let rest = rest.strip_prefix("' bytes exceeded for stream '")?;
        let (labels, rest) = labels_at(rest)?;
        let rest = rest.strip_prefix("' while adding an entry with length '")?;
        let (length, rest) = number(rest)?;
        let what = What::LineBytes { most, length };
        return Some(((what, Named::Set(labels)), rest));
    }
    if let Some(rest) = text.strip_prefix("entry for stream '") {
        let (labels, rest) = labels_at(rest)?;
        let rest = rest.strip_prefix("' has ")?;
        let what = if let Some(time) = rest.strip_prefix("timestamp too old: ") {
            What::TooOld(second(time)?)
        } else if let Some(time) = rest.strip_prefix("timestamp too new: ") {
            What::TooNew(second(time)?)
        } else {
            let (_, rest) = number(rest)?;
            rest.strip_prefix(" label names; limit ")?;
            What::LabelSet
        };
        return Some(((what, Named::Set(labels)), rest));
    }
    if let Some(rest) = text.strip_prefix("stream '") {
        let (labels, rest) = labels_at(rest)?;
        let rest = rest.strip_prefix("' ")?;
        let limit = |words: &str| after(rest.strip_prefix(words)?, "limit: '");
        let what = if let Some(limit) = limit("has structured metadata too large") {
            What::PairBytes(limit)
        } else if let Some(limit) = limit("has too many structured metadata labels") {
            What::Pairs(limit)
        } else if rest.starts_with("includes structured metadata") {
            What::PairsOff
        } else {
            // The name or value follows as it is, and may look like anything: it is stepped over.
            let kinds = [
                "has label name too long: '",
                "has label value too long: '",
                "has duplicate label name: '",
            ];
            let said = kinds.iter().find_map(|words| rest.strip_prefix(words))?;
            let own = labels.iter().flat_map(|(name, value)| [name, value]);
            let after = own.filter_map(|own| said.strip_prefix(own.as_str())?.strip_prefix('\''));
            let after = after.min_by_key(|after| after.len())?;
            return Some(((What::LabelSet, Named::Set(labels.clone())), after));
        };
        return Some(((what, Named::Set(labels)), rest));
    }
    label_set(text)
}

/// Errors of label sets that are worded differently.
fn label_set(text: &str) -> Option<(Single, &str)> {
    if let Some(rest) = text.strip_prefix("error at least one label pair is required per stream") {
        return Some(((What::LabelSet, Named::Set(Labels::new())), rest));
    }
    if let Some(rest) = text.strip_prefix("error parsing labels '") {
        let (key, rest) = rest.split_once("' with error: ")?;
        return Some(((What::LabelSet, Named::Text(key.to_owned())), rest));
    }
    let rest = text.strip_prefix("missing required labels '")?;
    let (_, rest) = rest.split_once("' for stream '")?;
    let (labels, rest) = labels_at(rest)?;
    Some(((What::LabelSet, Named::Set(labels)), rest))
}

/// An ingester's list.
fn stream(text: &str) -> Option<StreamFault> {
    let (entries, rest) = text.rsplit_once("total ignored: ")?;
    let (ignored, rest) = number(rest)?;
    let (of, rest) = number(rest.strip_prefix(" out of ")?)?;
    let (labels, _) = labels_at(rest.strip_prefix(" for stream: ")?)?;
    let (mut named, mut rate) = (Vec::new(), None);
    for entry in entries.split("entry with timestamp ").skip(1) {
        let (time, why) = entry.split_once(" ignored, reason: '")?;
        let cause = if let Some(why) = why.strip_prefix("Per stream rate limit exceeded") {
            rate = why.strip_prefix(" (limit: ").and_then(size);
            Cause::Rate
        } else if why.starts_with("entry too far behind") || why.starts_with("entry out of order") {
            Cause::FarBehind
        } else {
            return None;
        };
        named.push((instant(time)?, cause));
    }
    let (ignored, of) = (u32::try_from(ignored).ok()?, u32::try_from(of).ok()?);
    let fits = !named.is_empty() && named.len() <= ignored as usize && ignored <= of;
    fits.then_some(StreamFault {
        labels,
        named,
        ignored,
        of,
        rate,
    })
}

/// `{a="b", c="d"}` in front of a text, and what follows. Values are as Go quotes them.
pub(crate) fn labels_at(text: &str) -> Option<(Labels, &str)> {
    let mut rest = text.strip_prefix('{')?;
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = unquoted(after)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

/// A Go string literal in front of a text, without its quotes.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        let byte = *text.as_bytes().get(at)?;
        at += 1;
        match byte {
            b'"' => {
                let value = String::from_utf8_lossy(&bytes).into_owned();
                return Some((value, text.get(at..)?));
            }
            b'\\' => {
                let kind = *text.as_bytes().get(at)?;
                at += 1;
                let digits = match kind {
                    b'x' => 2,
                    b'u' => 4,
                    b'U' => 8,
                    _ => 0,
                };
                if digits == 0 {
                    bytes.push(match kind {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'a' => 7,
                        b'b' => 8,
                        b'f' => 12,
                        b'v' => 11,
                        other => other,
                    });
                    continue;
                }
                let code = u32::from_str_radix(text.get(at..at + digits)?, 16).ok()?;
                at += digits;
                match (kind, u8::try_from(code)) {
                    (b'x', Ok(byte)) => bytes.push(byte),
                    _ => {
                        let mut room = [0; 4];
                        let sign = char::from_u32(code)?;
                        bytes.extend_from_slice(sign.encode_utf8(&mut room).as_bytes());
                    }
                }
            }
            byte => bytes.push(byte),
        }
    }
}

/// A whole number in front of a text, and what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// `1KB/sec..` in bytes, as Loki prints sizes: powers of 1024, and what is no whole number as `1.5MB`.
fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    let units = ["B", "KB", "MB", "GB", "TB"];
    let unit = units
        .iter()
        .rposition(|unit| text[end..].starts_with(unit))?;
    Some((number * 1024f64.powi(i32::try_from(unit).ok()?)) as u64)
}

/// The number behind some words.
fn after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    number(rest).map(|(number, _)| number)
}

/// `2026-11-21T02:14:17Z..` as seconds.
fn second(text: &str) -> Option<i64> {
    let text = text.get(..20)?;
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_second())
}

/// `2026-11-23 00:14:17.579026839 +0000 UTC`
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(" +0000 UTC")?;
    let time: jiff::Timestamp = format!("{}Z", text.replacen(' ', "T", 1)).parse().ok()?;
    let nanos = time.as_nanosecond();
    Some(Timestamp {
        secs: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    })
}

#[cfg(test)]
#[path = "said_tests.rs"]
mod tests;
