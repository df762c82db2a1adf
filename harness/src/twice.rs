//! Which records went to a server twice, and why.
//!
//! ```text
//! proxy: begin(records) -> server -> answered(taken) | refused(records)
//! test:  judge(crash) -> Twice { cut, crash, unexplained }
//! ```
//!
//! 1. A sending counts from the moment it may have been stored: what was refused never was sent.
//! 2. A record that is sent again is explained by one of two causes: no answer of the sending before
//!    reached the agent, or the agent crashed after an answer that its positions file did not know.
//! 3. Records without a number (empty texts) are not followed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::journal::{Container, Stream};
use crate::wire::Arrived;

/// A record: container, stream, number.
type Key = (Container, Stream, u64);

/// A request that passed, numbered by the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passage(u64);

#[derive(Debug, Clone, Copy)]
struct Sending {
    passage: Passage,
    /// When its answer went back; `None` while none has.
    answered: Option<SystemTime>,
}

#[derive(Debug)]
struct Again {
    key: Key,
    before: Sending,
    at: SystemTime,
}

#[derive(Debug, Default)]
struct Inner {
    passages: u64,
    last: HashMap<Key, Sending>,
    again: Vec<Again>,
}

/// All sendings through one proxy.
#[derive(Debug, Default)]
pub struct Sendings(Mutex<Inner>);

/// A crash of the agent.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// When it was killed.
    pub at: SystemTime,
    /// When the positions file that it left had been written.
    pub positions: SystemTime,
}

/// Records that went twice, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Twice {
    /// The answer of the sending before never reached the agent.
    pub cut: u64,
    /// Requests that these were cut in.
    pub cut_requests: usize,
    /// Answered after the last positions write before the crash, sent again after it.
    pub crash: u64,
    /// Neither.
    pub unexplained: u64,
    /// One of the latter, in words.
    pub example: Option<String>,
}

impl Sendings {
    /// A request goes to the server.
    pub fn begin(&self, records: &[Arrived]) -> Passage {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.passages += 1;
        let passage = Passage(inner.passages);
        let at = SystemTime::now();
        for key in records.iter().filter_map(key) {
            let sending = Sending {
                passage,
                answered: None,
            };
            if let Some(before) = inner.last.insert(key.clone(), sending) {
                inner.again.push(Again { key, before, at });
            }
        }
        passage
    }

    /// The server has taken these, and its answer goes back.
    pub fn answered(&self, records: &[Arrived]) {
        let mut inner = self.lock();
        let now = SystemTime::now();
        for key in records.iter().filter_map(key) {
            if let Some(sending) = inner.last.get_mut(&key) {
                sending.answered = Some(now);
            }
        }
    }

    /// The server has not taken these: they were never sent.
    pub fn refused(&self, records: &[Arrived]) {
        let mut inner = self.lock();
        for key in records.iter().filter_map(key) {
            inner.last.remove(&key);
        }
    }

    /// Sorts what went twice by its cause. `slack` is how long before a positions write the
    /// answers may have come that it does not know: from its snapshot to the end of its fsync.
    #[must_use]
    pub fn judge(&self, crash: Crash, slack: Duration) -> Twice {
        let inner = self.lock();
        let (mut twice, mut cut) = (Twice::default(), BTreeSet::new());
        for again in &inner.again {
            let Some(answered) = again.before.answered else {
                twice.cut += 1;
                cut.insert(again.before.passage);
                continue;
            };
            if answered + slack >= crash.positions && answered <= crash.at && again.at >= crash.at {
                twice.crash += 1;
                continue;
            }
            twice.unexplained += 1;
            twice.example.get_or_insert_with(|| {
                let ms = |of: SystemTime| match of.duration_since(crash.at) {
                    Ok(after) => after.as_millis() as i128,
                    Err(before) => -(before.duration().as_millis() as i128),
                };
                format!(
                    "{:?}: answered {} ms, sent again {} ms after the crash",
                    again.key,
                    ms(answered),
                    ms(again.at)
                )
            });
        }
        twice.cut_requests = cut.len();
        twice
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(record: &Arrived) -> Option<Key> {
    Some((record.container.clone(), record.stream, record.sequence?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Arrived {
        Arrived {
            container: Container {
                namespace: "n".to_owned(),
                pod: "p".to_owned(),
                name: "c".to_owned(),
            },
            stream: Stream::Stdout,
            lane: 0,
            time_ns: None,
            text: String::new(),
            merged: false,
            sequence: Some(sequence),
        }
    }

    #[test]
    fn each_second_sending_has_a_cause_or_none() {
        let sendings = Sendings::default();
        let (cut, lost, refused, never) = (record(1), record(2), record(3), record(4));
        for sent in [&cut, &lost, &refused, &never] {
            sendings.begin(std::slice::from_ref(sent));
        }
        sendings.answered(std::slice::from_ref(&lost));
        sendings.refused(std::slice::from_ref(&refused));
        let now = SystemTime::now();
        let crash = Crash {
            at: now,
            positions: now,
        };
        sendings.begin(&[cut, lost.clone(), refused]);
        let got = sendings.judge(crash, Duration::from_secs(60));
        assert_eq!((got.cut, got.cut_requests, got.crash), (1, 1, 1));
        assert_eq!(got.unexplained, 0);
        sendings.answered(std::slice::from_ref(&lost));
        sendings.begin(&[lost]);
        let got = sendings.judge(crash, Duration::from_secs(60));
        assert_eq!((got.crash, got.unexplained), (1, 1), "{got:?}");
    }
}
