//! Files whose writers the wake source does not see (mappings, O_DIRECT): swept more often.
//!
//! ```text
//! sweep finds a sleeping watched file grown -> keep -> looked at each sixteenth of a sweep
//!                                                   -> nothing found for four sweeps: let go
//! ```
//!
//! One such file is no broken rung: whether a rung is deaf, canaries tell (`wake/canary.rs`).

use std::collections::BTreeMap;

use super::file::{Tail, Watch};
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::ticket::{FileId, LogId};

/// Looks in the time of one sweep.
const LOOKS_PER_SWEEP: u64 = 16;
/// Looks that find nothing until the file is let go.
const LOOKS_MAX: u32 = 64;

/// As many as there are open files at the most.
#[derive(Debug, Default)]
pub(super) struct Overlooked {
    /// With the looks since the last find.
    files: BTreeMap<(LogId, FileId), u32>,
    next: Mono,
}

impl Overlooked {
    /// The sweep alone has found it.
    fn keep(&mut self, file: (LogId, FileId), now: Mono, period_ms: u64) {
        if self.files.is_empty() {
            self.next = now.plus_ms(period_ms);
        }
        self.files.insert(file, 0);
    }

    /// The next look, while there is a file.
    pub(super) fn due(&self) -> Option<Mono> {
        (!self.files.is_empty()).then_some(self.next)
    }

    /// The files of a look that is due.
    fn take_turn(&mut self, now: Mono, period_ms: u64) -> Vec<(LogId, FileId)> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.next = now.plus_ms(period_ms);
        self.files.keys().copied().collect()
    }

    /// What a look came to; true when the file is let go.
    fn looked(&mut self, file: (LogId, FileId), found: bool) -> bool {
        let Some(looks) = self.files.get_mut(&file) else {
            return true;
        };
        *looks = if found { 0 } else { *looks + 1 };
        let over = *looks >= LOOKS_MAX;
        if over {
            self.files.remove(&file);
        }
        over
    }
}

/// Whether a file that sleeps, or that nothing wakes, is no longer as it was read; it then goes on.
pub(super) fn rouse<H>(tail: &mut Tail<H>, size: u64) -> bool {
    let asleep = tail.watch == Watch::Asleep || !tail.watched;
    if tail.packed.is_some() || !asleep || size == tail.seen_end {
        return false;
    }
    tail.set_watch(Watch::Awake);
    tail.proven = false;
    tail.entry.late.add(u64::from(tail.watched));
    true
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// A file that was found by looking at it; `watched`: though its rung should have told.
    pub(super) fn found_late(&mut self, file: (LogId, FileId), watched: bool, now: Mono) {
        if watched {
            self.count.late.add(1);
            let period_ms = self.period_ms();
            self.overlooked.keep(file, now, period_ms);
            self.mark(file, true);
        }
        self.make_ready(file.0);
    }

    /// Looks at the overlooked files when that is due.
    pub(super) fn look_again(&mut self, now: Mono) {
        for file in self.overlooked.take_turn(now, self.period_ms()) {
            let log = self.logs.get_mut(&file.0);
            let tail = log.and_then(|log| log.file(file.1));
            let open =
                tail.and_then(|tail| Some((self.files.stat(tail.handle.as_ref()?).ok()?, tail)));
            let Some((stat, tail)) = open else {
                self.overlooked.files.remove(&file);
                continue;
            };
            self.ledger.saw(file.0, file.1, stat.size);
            let watched = tail.watched;
            let found = rouse(tail, stat.size);
            if self.overlooked.looked(file, found) {
                self.mark(file, false);
            }
            if found {
                self.found_late(file, watched, now);
            }
        }
    }

    fn mark(&mut self, (log, file): (LogId, FileId), overlooked: bool) {
        if let Some(tail) = self.logs.get_mut(&log).and_then(|log| log.file(file)) {
            tail.entry.set_overlooked(overlooked);
        }
    }

    fn period_ms(&self) -> u64 {
        (self.settings.sweep_ms / LOOKS_PER_SWEEP).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_at_until_nothing_was_found_for_long() {
        let (mut overlooked, file) = (Overlooked::default(), (LogId(1), FileId(2)));
        assert_eq!(overlooked.due(), None);
        overlooked.keep(file, Mono(0), 10);
        assert!(overlooked.take_turn(Mono(0).plus_ms(9), 10).is_empty());
        assert_eq!(overlooked.take_turn(Mono(0).plus_ms(10), 10), [file]);
        assert_eq!(overlooked.due(), Some(Mono(0).plus_ms(20)));
        for _ in 1..LOOKS_MAX {
            assert!(!overlooked.looked(file, false));
        }
        assert!(!overlooked.looked(file, true), "found again: kept");
        for _ in 1..LOOKS_MAX {
            assert!(!overlooked.looked(file, false));
        }
        assert!(overlooked.looked(file, false));
        assert_eq!(overlooked.due(), None);
    }
}
