//! Index names: what is filled in is cleaned, and how many names there are is bounded.
//!
//! 1. Whatever is filled in, a name is one that Elasticsearch and OpenSearch take: lower case, 255
//!    bytes at the most, no character that is forbidden, none in front that is.
//! 2. A value never lengthens a name at the cost of its date: each has its share.
//! 3. One output's encoders share the count: names of one period's records, and names of all
//!    periods in a day of running, since times too may come from a log's content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::base::time::Mono;

/// Bytes of a name.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// What stands for a value that is empty or unknown.
const NOTHING: &[u8] = b"none";

/// Names of all periods for each that one period may have.
const PERIODS: usize = 4;

/// How long the count of all names goes on, in milliseconds: a day.
const COUNT_MS: u64 = 86_400_000;

/// How many names an output has made; shared by its encoders, and asked only when a name is new to one.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Hashes of the names, by period.
    periods: BTreeMap<i64, BTreeSet<u64>>,
    all: usize,
    since: Mono,
}

impl Names {
    /// Whether a name of the period may be used: it is known, or one more is allowed.
    pub(super) fn admit(&self, name: &[u8], period: i64, most: usize, now: Mono) -> bool {
        // Whoever panicked left whole numbers.
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = &mut *counted;
        if now.ms_since(counted.since) >= COUNT_MS {
            (counted.since, counted.all) = (now, 0);
            counted.periods.clear();
        }
        let hash = xxh3_64(name);
        let of_period = counted.periods.get(&period);
        if of_period.is_some_and(|names| names.contains(&hash)) {
            return true;
        }
        let have = of_period.map_or(0, BTreeSet::len);
        if have >= most || counted.all >= most.saturating_mul(PERIODS) {
            return false;
        }
        counted.periods.entry(period).or_default().insert(hash);
        counted.all += 1;
        true
    }
}

/// Writes a value as a part of the index name that is made in `out`, of at most `most` bytes. In a data
/// stream's name `-` parts type, dataset and namespace, so that it becomes `_`, as Elastic's own agents
/// have it.
pub(super) fn push_value(out: &mut Vec<u8>, value: &[u8], most: usize, data_stream: bool) {
    let clean = |byte: &u8| match byte {
        b'A'..=b'Z' => byte.to_ascii_lowercase(),
        b'-' if !data_stream => b'-',
        b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' => *byte,
        _ => b'_',
    };
    let start = out.len();
    let leads = start == 0;
    // No name may begin with them.
    let bad = |byte: &u8| leads && matches!(byte, b'-' | b'_' | b'.');
    out.extend(value.iter().map(clean).skip_while(bad).take(most));
    if out.len() == start {
        out.extend_from_slice(NOTHING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_so_many_names_and_all_periods_four_times_as_many() {
        let names = Names::default();
        let admit = |name: &str, period, now| names.admit(name.as_bytes(), period, 2, Mono(now));
        assert!(admit("a", 0, 1) && admit("b", 0, 1) && admit("a", 0, 1));
        assert!(!admit("c", 0, 1), "a third name of one day");
        for period in 1..4 {
            assert!(admit("a", period, 1) && admit("b", period, 1));
        }
        assert!(!admit("a", 4, 1), "a ninth name in all");
        assert!(admit("b", 3, 1), "a known one is no new one");
        assert!(admit("a", 4, COUNT_MS * 1_000_000), "a day later");
    }
}
