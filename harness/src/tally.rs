//! What arrived, per output, container and stream, in little memory.
//!
//! 1. A record that comes again counts as a duplicate and changes nothing else.
//! 2. Order is kept within one label set: a first arrival below an earlier one is disordered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::{Container, Stream};
use crate::text::hash;
use crate::wire::{Arrived, Output};

/// One stream of one container at one output.
#[derive(Debug, Default, Clone)]
pub struct StreamTally {
    /// By sequence number: what came first.
    pub records: BTreeMap<u64, Seen>,
    /// Empty texts by time.
    pub empties: BTreeMap<u64, u32>,
    /// First arrivals that came after a later one of their label set.
    pub disordered: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Non-empty texts without a number: altered beyond recognition.
    pub unknown: u64,
    highest: HashMap<u64, u64>,
}

/// A record's first arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Hash of the text, or of the canonical JSON.
    pub hash: u64,
    /// Which of the two.
    pub merged: bool,
    /// Its time.
    pub time_ns: u64,
}

/// Where a stream is counted.
pub type Key = (Output, Container, Stream);

/// All that arrived.
#[derive(Debug, Default)]
pub struct Tally {
    streams: Mutex<BTreeMap<Key, StreamTally>>,
    /// Requests taken in, and who waits for the next.
    version: Mutex<u64>,
    taken: Condvar,
}

impl Tally {
    /// Takes in the records of one acknowledged request.
    pub fn take(&self, output: Output, arrived: Vec<Arrived>) {
        let mut streams = self.lock();
        for record in arrived {
            let key = (output, record.container.clone(), record.stream);
            streams.entry(key).or_default().take(&record);
        }
        drop(streams);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.taken.notify_all();
    }

    /// A copy of one stream's tally.
    #[must_use]
    pub fn stream(&self, key: &Key) -> Option<StreamTally> {
        self.lock().get(key).cloned()
    }

    /// Records of one stream that arrived, each once.
    #[must_use]
    pub fn arrived(&self, key: &Key) -> u64 {
        self.lock().get(key).map_or(0, StreamTally::distinct)
    }

    /// How many requests were taken in.
    #[must_use]
    pub fn version(&self) -> u64 {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until more than `seen` requests were taken in, or for `patience`; gives the number.
    #[must_use]
    pub fn changed(&self, seen: u64, patience: Duration) -> u64 {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .taken
            .wait_timeout_while(version, patience, |version| *version <= seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The streams that arrived.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.lock().keys().cloned().collect()
    }

    /// Records that arrived at an output, each once.
    #[must_use]
    pub fn distinct(&self, output: Output) -> u64 {
        self.sum(output, StreamTally::distinct)
    }

    /// Records that came again at an output.
    #[must_use]
    pub fn duplicates(&self, output: Output) -> u64 {
        self.sum(output, |stream| stream.duplicates)
    }

    fn sum(&self, output: Output, of: impl Fn(&StreamTally) -> u64) -> u64 {
        let streams = self.lock();
        streams
            .iter()
            .filter(|(key, _)| key.0 == output)
            .map(|(_, stream)| of(stream))
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, StreamTally>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamTally {
    /// Records that arrived, each once.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        (self.records.len() + self.empties.len()) as u64 + self.unknown
    }

    fn take(&mut self, record: &Arrived) {
        let time_ns = record.time_ns.unwrap_or(0);
        let Some(sequence) = record.sequence else {
            if record.text.is_empty() {
                let times = self.empties.entry(time_ns).or_default();
                *times += 1;
                self.duplicates += u64::from(*times > 1);
            } else {
                self.unknown += 1;
            }
            return;
        };
        if self.records.contains_key(&sequence) {
            self.duplicates += 1;
            return;
        }
        let seen = Seen {
            hash: hash(record.text.as_bytes()),
            merged: record.merged,
            time_ns,
        };
        self.records.insert(sequence, seen);
        let highest = self.highest.entry(record.lane).or_default();
        if *highest > sequence {
            self.disordered += 1;
        }
        *highest = (*highest).max(sequence);
    }
}
