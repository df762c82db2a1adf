//! What the positions file knew and the first listing did not find.
//!
//! ```text
//! FilePositions { seen, marks } --gone--> Unread { log, output, files, bytes }
//! ```
//!
//! 1. Bytes are those known when positions were written last: what was appended after it and
//!    deleted unseen is known to nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::positions::{FilePositions, MarkPositions};
use crate::base::count::{Counter, Registry};

/// Files of one container log that were deleted before an output had all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The container log's stable name.
    pub log: String,
    /// The output's name.
    pub output: String,
    /// How many files.
    pub files: u64,
    /// How many of their bytes the output has not acknowledged.
    pub bytes: u64,
}

/// What one output never had, since it was gone before.
#[derive(Clone, Debug)]
pub struct UnreadCount {
    /// Files.
    pub files: Arc<Counter>,
    /// Bytes.
    pub bytes: Arc<Counter>,
}

impl UnreadCount {
    /// The output's counters.
    #[must_use]
    pub fn new(registry: &Registry, output: &str) -> Self {
        let count = |name, help| registry.counter(name, help, &[("output", output)]);
        Self {
            files: count(
                "tailwake_unread_files_total",
                "Files that were deleted or truncated before the output had all of them.",
            ),
            bytes: count(
                "tailwake_unread_bytes_total",
                "Bytes of such files that the output had not, as far as known.",
            ),
        }
    }
}

/// What was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Files in all.
    pub files: u64,
    /// Those that were not delivered whole, by log and output.
    pub unread: Vec<Unread>,
}

/// Adds up `files` for these outputs; marks of outputs that the plan has no more owe nothing.
pub(super) fn forgotten<'f>(
    files: impl Iterator<Item = &'f FilePositions>,
    outputs: &[String],
) -> Forgotten {
    let mut all = Forgotten::default();
    let mut unread: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for file in files {
        all.files += 1;
        for output in outputs {
            let Some(mark) = file.marks.get(output) else {
                continue;
            };
            let bytes = missing(mark, known_end(file));
            if bytes > 0 {
                let sum = unread.entry((&file.log, output)).or_default();
                *sum = (sum.0 + 1, sum.1 + bytes);
            }
        }
    }
    let one = |((log, output), (files, bytes)): ((&str, &str), (u64, u64))| Unread {
        log: log.to_owned(),
        output: output.to_owned(),
        files,
        bytes,
    };
    all.unread = unread.into_iter().map(one).collect();
    all
}

/// Where the file ended as far as anybody knew.
pub(super) fn known_end(file: &FilePositions) -> u64 {
    let marks = file.marks.values().map(|mark| mark.at);
    marks
        .chain([file.seen, file.end.unwrap_or(0)])
        .max()
        .unwrap_or(0)
}

pub(super) fn missing(mark: &MarkPositions, end: u64) -> u64 {
    let beyond = mark.beyond.iter();
    let settled: u64 = beyond
        .map(|range| range.1.min(end).saturating_sub(range.0.max(mark.at)))
        .sum();
    end.saturating_sub(mark.at).saturating_sub(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_output_had_is_told_by_log_and_output() {
        type Said<'a> = (&'a str, u64, &'a [(u64, u64)]);
        let file = |log: &str, seen, marks: &[Said<'_>]| FilePositions {
            log: log.to_owned(),
            identity: super::super::Identity::default(),
            end: None,
            seen,
            marks: marks
                .iter()
                .map(|(name, at, beyond)| {
                    let (at, beyond) = (*at, beyond.to_vec());
                    (std::sync::Arc::from(*name), MarkPositions { at, beyond })
                })
                .collect(),
        };
        let files = [
            file("a", 100, &[("loki", 100, &[]), ("bulk", 40, &[(60, 90)])]),
            file("a", 10, &[("loki", 10, &[]), ("bulk", 0, &[])]),
            // What an older agent wrote has no size: another output's mark is known to be there.
            file("b", 0, &[("loki", 7, &[]), ("bulk", 5, &[])]),
            file("c", 50, &[("gone", 0, &[]), ("loki", 50, &[])]),
        ];
        let outputs = ["loki".to_owned(), "bulk".to_owned()];
        let got = forgotten(files.iter(), &outputs);
        let unread = |log: &str, files, bytes| Unread {
            log: log.to_owned(),
            output: "bulk".to_owned(),
            files,
            bytes,
        };
        let want = [unread("a", 2, 40), unread("b", 1, 2)];
        assert_eq!((got.files, &got.unread[..]), (4, &want[..]));
    }
}
