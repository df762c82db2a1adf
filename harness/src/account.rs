//! The account: the journal against the tally, per container and output.
//!
//! 1. Clean means: nothing missing, altered, disordered or unwritten, on every output.
//! 2. Duplicates are counted and are not a loss.

use std::fmt;

use crate::journal::{Container, Entry, Stream};
use crate::tally::{StreamTally, Tally};
use crate::wire::Output;

/// One container at one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose.
    pub container: Container,
    /// Where.
    pub output: Output,
    /// Records in the journal.
    pub written: u64,
    /// CRI lines that the agent says it read, parts counted singly, where it says so.
    pub read: Option<u64>,
    /// Written records that arrived.
    pub acknowledged: u64,
    /// Written records that did not.
    pub missing: u64,
    /// Records with another text or time than written.
    pub altered: u64,
    /// Records that came after a later one.
    pub disordered: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Records that came and were never written.
    pub unwritten: u64,
}

/// The whole account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// A row per container and output.
    pub rows: Vec<Row>,
}

impl Account {
    /// Compares the journals with what arrived at the outputs.
    #[must_use]
    pub fn draw(journals: &[(Container, Vec<Entry>)], tally: &Tally, outputs: &[Output]) -> Self {
        let mut rows = Vec::new();
        for (container, entries) in journals {
            for output in outputs {
                rows.push(Row::draw(container, entries, tally, *output));
            }
        }
        Self { rows }
    }

    /// Adds what the agent says it read.
    pub fn set_read(&mut self, container: &Container, read: u64) {
        for row in self
            .rows
            .iter_mut()
            .filter(|row| row.container == *container)
        {
            row.read = Some(read);
        }
    }

    /// Whether every written record arrived as it was written, in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::is_clean)
    }

    /// Written records that did not arrive, over all rows.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.rows.iter().map(|row| row.missing).sum()
    }
}

impl Row {
    /// Whether every written record arrived as it was written, in order.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.missing + self.altered + self.disordered + self.unwritten == 0
    }

    fn draw(container: &Container, entries: &[Entry], tally: &Tally, output: Output) -> Self {
        let mut row = Self {
            container: container.clone(),
            output,
            written: entries.len() as u64,
            read: None,
            acknowledged: 0,
            missing: 0,
            altered: 0,
            disordered: 0,
            duplicates: 0,
            unwritten: 0,
        };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let arrived = tally
                .stream(&(output, container.clone(), stream))
                .unwrap_or_default();
            let mut written = 0;
            for entry in entries.iter().filter(|entry| entry.stream == stream) {
                written += 1;
                match compare(entry, &arrived) {
                    Fate::Missing => row.missing += 1,
                    Fate::Altered => row.altered += 1,
                    Fate::Same => {}
                }
            }
            row.disordered += arrived.disordered;
            row.duplicates += arrived.duplicates;
            row.unwritten += arrived.distinct().saturating_sub(written);
        }
        row.acknowledged = row.written - row.missing;
        row
    }
}

enum Fate {
    Same,
    Altered,
    Missing,
}

fn compare(entry: &Entry, arrived: &StreamTally) -> Fate {
    let Some(sequence) = entry.sequence else {
        let came = arrived
            .empties
            .keys()
            .any(|time| same_time(entry.time_ns, *time));
        return if came { Fate::Same } else { Fate::Missing };
    };
    let Some(seen) = arrived.records.get(&sequence) else {
        return Fate::Missing;
    };
    let want = if seen.merged {
        entry.fields_hash
    } else {
        entry.hash
    };
    let time_kept = entry.cut || same_time(entry.time_ns, seen.time_ns);
    if seen.hash == want && time_kept {
        Fate::Same
    } else {
        Fate::Altered
    }
}

/// Times agree to the nanosecond, or to the unit in which the arrived one was cut.
const fn same_time(written: u64, arrived: u64) -> bool {
    let cut_to_ms = arrived.is_multiple_of(1_000_000) && written / 1_000_000 == arrived / 1_000_000;
    written == arrived || cut_to_ms
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<32} {:<13} {:>9} {:>9} {:>12} {:>7} {:>7} {:>10} {:>10} {:>9}",
            "container",
            "output",
            "written",
            "CRI read",
            "acknowledged",
            "missing",
            "altered",
            "disordered",
            "duplicates",
            "unwritten"
        )?;
        for row in &self.rows {
            let read = row
                .read
                .map_or_else(|| "-".to_owned(), |read| read.to_string());
            writeln!(
                f,
                "{:<32} {:<13} {:>9} {:>9} {:>12} {:>7} {:>7} {:>10} {:>10} {:>9}{}",
                row.container.to_string(),
                row.output.to_string(),
                row.written,
                read,
                row.acknowledged,
                row.missing,
                row.altered,
                row.disordered,
                row.duplicates,
                row.unwritten,
                if row.is_clean() { "" } else { "  <-- LOSS" }
            )?;
        }
        Ok(())
    }
}
