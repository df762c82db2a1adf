//! The rate limit of messages: what repeats is said once a while, with how often it was not said.
//!
//! 1. At most one message a key in [`QUIET_MS`]; the next one says how many were suppressed.
//! 2. At most [`KEYS_MAX`] keys are remembered: the one that spoke longest ago is forgotten first.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};

use crate::base::time::Mono;

/// One message a key in this many milliseconds.
pub const QUIET_MS: u64 = 10_000;

/// Keys remembered; some dozens of causes an output are normal.
const KEYS_MAX: usize = 256;

/// Who has spoken when.
#[derive(Debug, Default)]
pub struct Quiet {
    spoken: BTreeMap<u64, Spoken>,
}

#[derive(Debug)]
struct Spoken {
    at: Mono,
    suppressed: u64,
}

impl Quiet {
    /// Whether a message of this key may be printed now, and how many were not since the last.
    pub fn allow(&mut self, now: Mono, key: impl Hash) -> Option<u64> {
        let key = foldhash::fast::FixedState::default().hash_one(key);
        if let Some(spoken) = self.spoken.get_mut(&key) {
            if now.ms_since(spoken.at) < QUIET_MS {
                spoken.suppressed += 1;
                return None;
            }
            spoken.at = now;
            return Some(std::mem::take(&mut spoken.suppressed));
        }
        if self.spoken.len() >= KEYS_MAX {
            let oldest = self
                .spoken
                .iter()
                .min_by_key(|(_, spoken)| spoken.at)
                .map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.spoken.remove(&oldest);
            }
        }
        self.spoken.insert(
            key,
            Spoken {
                at: now,
                suppressed: 0,
            },
        );
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_speaks_once_a_while_and_says_what_it_held_back() {
        let (mut quiet, start) = (Quiet::default(), Mono(0));
        assert_eq!(quiet.allow(start, "a"), Some(0));
        assert_eq!(quiet.allow(start.plus_ms(1), "a"), None);
        assert_eq!(quiet.allow(start.plus_ms(1), "b"), Some(0));
        assert_eq!(quiet.allow(start.plus_ms(9_999), "a"), None);
        assert_eq!(quiet.allow(start.plus_ms(10_000), "a"), Some(2));
        assert_eq!(quiet.allow(start.plus_ms(20_000), "a"), Some(0));
    }

    #[test]
    fn keys_are_bounded() {
        let mut quiet = Quiet::default();
        for key in 0..1000u64 {
            assert_eq!(quiet.allow(Mono(key), key), Some(0));
        }
        assert_eq!(quiet.spoken.len(), KEYS_MAX);
    }
}
