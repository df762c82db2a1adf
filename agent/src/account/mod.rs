//! The account of each container as it is shown: what was written, read, acknowledged and lost.
//!
//! ```text
//! ledger::LogAccount, Pace -> Row -> JSON of /status, series of /metrics, table of `account`
//! ```
//!
//! 1. What cannot be known is `None`: `null` in JSON, `?` in the table, no series; never 0.
//! 2. The terms come from different counters. Here alone they are compared, and what does not add
//!    up is `unproven`.

pub mod pace;
pub mod series;
pub mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use pace::{Pace, Paces, Rotation};
pub use table::table;

use crate::ledger::{LogAccount, OutputAccount};

/// What the books of an output say of a container, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All that was written is acknowledged, and the books say so on all sides.
    Proven,
    /// Some is still to be read or acknowledged.
    Behind,
    /// What is known adds up, and there is something that nobody can know.
    Unknown,
    /// Bytes are lost.
    Lost,
    /// The terms do not add up.
    Unproven,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Behind => "behind",
            Self::Unknown => "unknown",
            Self::Lost => "lost",
            Self::Unproven => "unproven",
        }
    }
}

/// Whose word a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The kernel announced each write's end, and stat says no more.
    Kernel,
    /// The size that stat says.
    Stat,
}

/// One output's part of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputRow {
    /// Bytes that its positions had before this run of the agent.
    pub before_bytes: u64,
    /// Lines acknowledged: settled in the ledger.
    pub lines: u64,
    /// Bytes acknowledged.
    pub bytes: u64,
    /// NULs passed over.
    pub hole_bytes: u64,
    /// Bytes read for it and neither acknowledged nor given back.
    pub in_flight_bytes: u64,
    /// Bytes lost; `None` when there may be more than is known.
    pub lost_bytes: Option<u64>,
    /// Bytes that are known to be lost.
    pub lost_known_bytes: u64,
    /// Bytes written and not acknowledged.
    pub lag_bytes: u64,
    /// For how long the oldest of them has been waiting, in seconds.
    pub lag_secs: Option<f64>,
    /// Seconds until kubelet deletes the oldest of them at the present rate; `None` when nothing
    /// waits, nothing is written, or the rate is not known yet.
    pub rotated_away_secs: Option<f64>,
    /// Lines stored, as its lanes say.
    pub delivered_lines: u64,
    /// Lines refused for good, as its lanes say.
    pub rejected_lines: u64,
    /// Lines that the plan does not send to it, as the stages say.
    pub withheld_lines: u64,
    /// Lines that went into its spool, as the disk thread says.
    #[serde(default)]
    pub spooled_lines: u64,
    /// Lines acknowledged of which nobody says what became of them.
    pub unproven_lines: u64,
    /// Bytes by which written and its other terms differ.
    pub unproven_bytes: u64,
    /// The verdict.
    pub state: State,
}

/// One container's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Kubernetes namespace; empty where there is none.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Container.
    pub container: String,
    /// Pod UID.
    pub uid: String,
    /// The container log's name across restarts.
    pub log: String,
    /// Bytes written; `None` when there may be more than is known.
    pub written_bytes: Option<u64>,
    /// Bytes that are known to be written.
    pub written_known_bytes: u64,
    /// Whose word that is.
    pub written_source: Word,
    /// Why there may be more.
    pub gap: Option<String>,
    /// Bytes written per second; `None` before there were two looks.
    pub write_rate: Option<f64>,
    /// Bytes that had been read before this run of the agent.
    pub read_before_bytes: u64,
    /// Lines read in this run.
    pub read_lines: u64,
    /// Bytes read in this run.
    pub read_bytes: u64,
    /// Bytes read again for outputs that were behind.
    pub reread_bytes: u64,
    /// NULs passed over.
    pub hole_bytes: u64,
    /// Bytes beyond the furthest place read.
    pub unread_bytes: u64,
    /// Of these, an unfinished last line.
    pub unfinished_bytes: u64,
    /// Bytes that were gone before anybody read them.
    pub unread_lost_bytes: u64,
    /// Bytes by which written and the terms of reading differ.
    pub unproven_bytes: u64,
    /// By output.
    pub outputs: BTreeMap<String, OutputRow>,
}

impl Row {
    /// The row of an account; `names` are the outputs'.
    #[must_use]
    pub fn new(account: &LogAccount, names: &[String], pace: Pace<'_>) -> Self {
        let written = account.written_bytes;
        let read = account.before_bytes
            + account.read.bytes
            + account.hole_bytes
            + account.unread_bytes
            + account.unread_lost_bytes;
        let unproven_bytes = written.abs_diff(read);
        let outputs = names.iter().zip(&account.outputs).enumerate();
        let outputs = outputs.map(|(at, (name, output))| {
            let row = Self::output(account, output, at, unproven_bytes, pace);
            (name.clone(), row)
        });
        let meta = &account.source.meta;
        let gap = account.gaps.first();
        Self {
            namespace: meta.namespace.to_string(),
            pod: meta.pod.to_string(),
            container: meta.container.to_string(),
            uid: meta.uid.to_string(),
            log: account.source.key.to_string(),
            written_bytes: gap.is_none().then_some(written),
            written_known_bytes: written,
            written_source: if account.kernel {
                Word::Kernel
            } else {
                Word::Stat
            },
            gap: gap.map(|gap| gap.name().to_owned()),
            write_rate: pace.rate,
            read_before_bytes: account.before_bytes,
            read_lines: account.read.lines,
            read_bytes: account.read.bytes,
            reread_bytes: account.reread_bytes,
            hole_bytes: account.hole_bytes,
            unread_bytes: account.unread_bytes,
            unfinished_bytes: account.unfinished_bytes,
            unread_lost_bytes: account.unread_lost_bytes,
            unproven_bytes,
            outputs: outputs.collect(),
        }
    }

    fn output(
        account: &LogAccount,
        output: &OutputAccount,
        at: usize,
        unproven_read: u64,
        pace: Pace<'_>,
    ) -> OutputRow {
        let lag_bytes = output.unsettled_bytes;
        let terms = output.before_bytes
            + output.settled.bytes
            + output.hole_bytes
            + output.lost_bytes
            + lag_bytes;
        let mut unproven_bytes = account.written_bytes.abs_diff(terms);
        if terms < account.written_bytes {
            // Of a file that is gone, what is in flight stands in no other term.
            unproven_bytes = unproven_bytes.saturating_sub(output.in_flight_bytes);
        }
        let gap = account.gaps.first();
        let waits = lag_bytes > account.unfinished_bytes || output.in_flight_bytes > 0;
        let state = if unproven_bytes + unproven_read + output.unproven_lines > 0 {
            State::Unproven
        } else if output.lost_bytes > 0 {
            State::Lost
        } else if gap.is_some() {
            State::Unknown
        } else if waits {
            State::Behind
        } else {
            State::Proven
        };
        OutputRow {
            before_bytes: output.before_bytes,
            lines: output.settled.lines,
            bytes: output.settled.bytes,
            hole_bytes: output.hole_bytes,
            in_flight_bytes: output.in_flight_bytes,
            lost_bytes: gap.is_none().then_some(output.lost_bytes),
            lost_known_bytes: output.lost_bytes,
            lag_bytes,
            lag_secs: pace.lag_secs(at, lag_bytes),
            rotated_away_secs: pace.rotated_away_secs(account, output),
            delivered_lines: output.delivered_lines,
            rejected_lines: output.rejected_lines,
            withheld_lines: output.withheld_lines,
            spooled_lines: output.spooled_lines,
            unproven_lines: output.unproven_lines,
            unproven_bytes,
            state,
        }
    }

    /// The worst of its outputs' states.
    #[must_use]
    pub fn state(&self) -> State {
        let states = self.outputs.values().map(|output| output.state);
        states.max().unwrap_or(State::Proven)
    }
}

/// What belongs to no container that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// Containers that were gone before a file of them could be opened: what they wrote is unknown.
    pub containers_missed: u64,
    /// Files that are there and may not be opened.
    pub files_unopened: u64,
    /// By output: bytes of files that were gone before it had them, those of containers that are
    /// there too.
    pub unread_bytes: BTreeMap<String, u64>,
    /// By output: files of that kind; of some nobody knows the size.
    pub unread_files: BTreeMap<String, u64>,
}

impl Beyond {
    /// Whether nothing was missed or lost.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let lost = self.unread_files.values().chain(self.unread_bytes.values());
        self.containers_missed + self.files_unopened == 0 && lost.sum::<u64>() == 0
    }
}

/// Whether something is lost, or not known to have arrived; what is merely on its way is neither.
#[must_use]
pub fn is_clean(rows: &[Row], beyond: &Beyond) -> bool {
    let fine = |row: &Row| row.state() <= State::Behind;
    rows.iter().all(fine) && beyond.is_clean()
}

#[cfg(test)]
mod tests;
