//! How fast a container writes, and what follows from it: lag in seconds, and the time that is left.
//!
//! Each look at the accounts (a scrape, `/status`) is a sample; nothing is measured between them.

use std::collections::HashMap;

use crate::base::time::Mono;
use crate::ledger::{LogAccount, OutputAccount};
use crate::ticket::LogId;

/// A look sooner than this after the last one gives no new rate, in milliseconds.
const LOOK_MS: u64 = 500;

/// What is older than this counts for a third in the rate, in seconds.
const RATE_SECS: f64 = 15.0;

/// How kubelet rotates: `containerLogMaxSize` and `containerLogMaxFiles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file of this size is rotated, in bytes.
    pub bytes: u64,
    /// Files that are kept, the one that is written to among them.
    pub files: u64,
}

/// One container's pace as of the last look.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'p> {
    /// Bytes written per second.
    pub rate: Option<f64>,
    /// When it was looked at.
    pub now: Mono,
    /// How its files are rotated.
    pub rotation: Rotation,
    /// By output: from when on a byte is known to wait.
    since: &'p [Wait],
}

#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    /// A byte that was written by `since`, counted from the log's first.
    byte: u64,
    since: Mono,
}

#[derive(Debug, Default)]
struct Sample {
    written: u64,
    at: Mono,
    rate: Option<f64>,
    waits: Vec<Wait>,
    /// The round of looks it was part of.
    round: u64,
}

/// The paces of all containers; bounded by their number.
#[derive(Debug, Default)]
pub struct Paces {
    samples: HashMap<LogId, Sample, foldhash::fast::FixedState>,
    round: u64,
}

impl Paces {
    /// A round of looks begins; logs that the last round did not have are forgotten.
    pub fn begin(&mut self) {
        let last = self.round;
        self.samples.retain(|_, sample| sample.round == last);
        self.round += 1;
    }

    /// Looks at an account.
    pub fn look(&mut self, account: &LogAccount, now: Mono, rotation: Rotation) -> Pace<'_> {
        let written = account.written_bytes;
        let fresh = || Sample {
            written,
            at: now,
            ..Sample::default()
        };
        let sample = self.samples.entry(account.source.log).or_insert_with(fresh);
        sample.round = self.round;
        let passed = now.ms_since(sample.at);
        if passed >= LOOK_MS {
            let secs = passed as f64 / 1_000.0;
            let rate = written.saturating_sub(sample.written) as f64 / secs;
            let weight = 1.0 - (-secs / RATE_SECS).exp();
            let before = sample.rate.unwrap_or(rate);
            sample.rate = Some(before + (rate - before) * weight);
            (sample.written, sample.at) = (written, now);
        }
        sample.waits.resize(account.outputs.len(), Wait::default());
        for (wait, output) in sample.waits.iter_mut().zip(&account.outputs) {
            let done = written.saturating_sub(output.unsettled_bytes);
            if done >= wait.byte {
                *wait = Wait {
                    byte: written,
                    since: now,
                };
            }
        }
        Pace {
            rate: sample.rate,
            now,
            rotation,
            since: &sample.waits,
        }
    }
}

impl Pace<'_> {
    /// For how long the oldest of `lag` bytes has waited, in seconds: since it was seen, or as long
    /// as it takes to write so many at the present rate.
    #[must_use]
    pub fn lag_secs(&self, output: usize, lag: u64) -> Option<f64> {
        if lag == 0 {
            return Some(0.0);
        }
        let seen = self.since.get(output)?.since;
        let seen = self.now.ms_since(seen) as f64 / 1_000.0;
        match self.rate {
            Some(rate) if rate > 0.0 => Some(seen.max(lag as f64 / rate)),
            Some(_) => Some(seen),
            None => (seen > 0.0).then_some(seen),
        }
    }

    /// Seconds until the file with the output's oldest byte is deleted: it has `newer` files after
    /// it, and goes when there are as many as are kept.
    #[must_use]
    pub fn rotated_away_secs(&self, account: &LogAccount, output: &OutputAccount) -> Option<f64> {
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        if output.unsettled_bytes <= account.unfinished_bytes {
            return None;
        }
        let rotations = self
            .rotation
            .files
            .saturating_sub(u64::from(output.newer_files));
        if rotations == 0 {
            return Some(0.0);
        }
        let first = self.rotation.bytes.saturating_sub(account.newest_bytes);
        let left = first + (rotations - 1) * self.rotation.bytes;
        Some(left as f64 / rate)
    }
}
