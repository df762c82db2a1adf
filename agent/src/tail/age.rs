//! For how long a pass has had what open, and when that is waited for no longer.

use crate::base::time::Mono;
use crate::line::open::{Open, Whose};

/// How long an open record is waited for at the log's end, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Since its last part: runtimes write the parts of a record at once.
    grown_ms: u64,
    /// Since the last place between two records.
    open_ms: u64,
}

impl Patience {
    /// As a rule.
    pub const USUAL: Self = Self {
        grown_ms: 10_000,
        open_ms: 30_000,
    };
    /// Where others wait for the permit.
    pub const SHARED: Self = Self {
        grown_ms: 10_000,
        open_ms: 5_000,
    };
    /// Where the agent ends.
    pub const LAST: Self = Self {
        grown_ms: 200,
        open_ms: 1_000,
    };
}

/// A record has no end when its next part does not come within this many of the longest records; and
/// all that is open is ended when so much went by without a place between two records.
const RECORDS_WITHOUT: u64 = 4;
const RECORDS_UNCLEAN: u64 = 64;

/// What is known of the age of what is open; most passes have nothing open.
#[derive(Clone, Debug, Default)]
pub struct Age(Option<Box<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    grown: [Grown; 3],
    /// Since when an encoder keeps something.
    since: Option<Mono>,
    /// Bytes that went to the encoder since then.
    bytes: u64,
}

/// When a record was seen to grow last, also on disk alone.
#[derive(Clone, Copy, Debug, Default)]
struct Grown {
    seen: u32,
    at: Mono,
    /// [`Known::bytes`] at that time.
    bytes: u64,
}

impl Age {
    /// Takes down which records have grown, by what is open after them.
    pub fn note(&mut self, open: Open, now: Mono) {
        if open.is_none() {
            return;
        }
        let known = self.0.get_or_insert_default();
        for whose in Whose::ALL {
            let grown = &mut known.grown[whose as usize];
            // Read again from disk, a record is as long as before.
            if open.seen(whose) > grown.seen {
                *grown = Grown {
                    seen: open.seen(whose),
                    at: now,
                    bytes: known.bytes,
                };
            }
        }
    }

    /// So many bytes went to the encoder, which `keeps` text of open records.
    pub fn sent(&mut self, bytes: u64, keeps: bool, now: Mono) {
        if keeps {
            let known = self.0.get_or_insert_default();
            known.since.get_or_insert(now);
            known.bytes += bytes;
            return;
        }
        if let Some(known) = &mut self.0 {
            known.since = None;
            known.bytes = 0;
            known.grown.iter_mut().for_each(|grown| grown.bytes = 0);
        }
    }

    /// When what was seen on disk alone is waited for no longer; `open` is what the encoder knows of.
    pub fn on_disk(&self, open: &Open) -> Option<Mono> {
        let known = self.0.as_ref()?;
        let grown = |whose: Whose| known.grown[whose as usize];
        let unsent = |whose: &Whose| grown(*whose).seen > open.seen(*whose);
        let unsent = Whose::ALL.into_iter().filter(unsent);
        let last = unsent.map(|whose| grown(whose).at).max();
        last.map(|last| last.plus_ms(Patience::USUAL.grown_ms))
    }

    /// When, at the log's end, a record is waited for no longer. One that is longer than `most` bytes
    /// and has left its encoder has all the time.
    pub fn due(&self, open: &Open, whose: Whose, most: u64, patience: Patience) -> Option<Mono> {
        let known = self.0.as_ref().filter(|_| open.keeps(whose, most))?;
        let rests = known.grown[whose as usize].at.plus_ms(patience.grown_ms);
        let old = known.since.map(|since| since.plus_ms(patience.open_ms));
        Some(old.map_or(rests, |old| old.min(rests)))
    }

    /// Whether so much of the log went by that the record has no end, however soon that was.
    pub fn is_past(&self, open: &Open, whose: Whose, most: u64) -> bool {
        let Some(known) = self.0.as_ref().filter(|_| open.keeps(whose, most)) else {
            return false;
        };
        let without = known.bytes - known.grown[whose as usize].bytes;
        without > RECORDS_WITHOUT * most || known.bytes > RECORDS_UNCLEAN * most
    }
}
