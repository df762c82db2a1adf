//! Records that lie over a chunk's end: who may leave one open, and for how long.
//!
//! ```text
//! a buffer in which no record ends -> scan: its end is looked for on disk, nothing goes on
//!   -> found: read through by a permit, which goes to the encoder with the last chunk, and comes home
//!   -> not there yet: the log waits on disk, as for any line without an end
//! ```
//!
//! 1. What encoders keep of open records is bounded by the permits, but for the other stream's record
//!    where one has passed the longest (4). A log that gets none gives its
//!    buffer back and waits on disk; others are read meanwhile.
//! 2. A permit is held while a record is read through: its end is known before. Only what goes on
//!    without one (whole lines of the other stream, a file's end) leaves a record open for longer.
//! 3. A record that nothing was added to for [`OPEN_MS`], or that stands open at an encoder for
//!    [`AGE_MS`], is finished as it is; both streams share the clock. Where others wait for its permit, it is sooner.
//! 4. A record that is longer than any may be is let go: its rest is left out by its encoder.

use super::landed::Cut;
use super::log::{Pass, Reading, Scan};
use super::reader::Reader;
use super::ring::Ring;
use super::serve::Step;
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::ticket::{Feed, LogId};

/// How long an open record waits for its next part at the log's end.
const OPEN_MS: u64 = 10_000;

/// How long a record may stand open at an encoder while it grows; and where others wait.
const AGE_MS: u64 = 30_000;
const AGE_MS_MIN: u64 = 5_000;

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Whether a chunk that leaves a record open goes on. Otherwise the record's end is looked for, or
    /// it was found, and the record is read through from its beginning.
    pub(super) fn may_go(
        &mut self,
        id: LogId,
        at: usize,
        reading: Reading,
        cut: Cut,
        ends: bool,
        now: Mono,
    ) -> bool {
        let most = 2 * self.settings.record_bytes_max;
        let log = self.logs.get_mut(&id);
        let Some(pass) = log.and_then(|log| log.passes.get_mut(at)) else {
            return false;
        };
        if pass.over || pass.permit.is_some() && !reading.scan {
            return true;
        }
        let end = reading.offset + cut.take as u64;
        if cut.is_clean() || ends || end - pass.offset > most {
            pass.through = true;
        }
        if pass.through {
            return !reading.scan && self.may_open(id, at, now);
        }
        pass.note(cut.open, now);
        pass.scan = Some(Scan {
            at: end,
            open: cut.open,
            in_line: cut.in_line,
        });
        false
    }

    /// Whether a pass gets a permit; otherwise it waits until it does.
    fn may_open(&mut self, id: LogId, at: usize, now: Mono) -> bool {
        let Some(pass) = self
            .logs
            .get_mut(&id)
            .and_then(|log| log.passes.get_mut(at))
        else {
            return false;
        };
        if pass.permit.is_some() {
            return true;
        }
        let first = self.in_line.is_empty();
        if first {
            pass.permit = self.permits.take();
        }
        if pass.permit.is_none() {
            pass.waits = true;
            let pass = pass.id;
            self.in_line.push_back((id, pass));
            self.count.open_waits.add(1);
            if first {
                self.hurry();
            }
            if let Some(suppressed) = self.quiet.allow(now, "permit") {
                let log = self.logs.get(&id).map(|log| &*log.source.key);
                tracing::warn!(
                    log,
                    suppressed,
                    "a log waits, as too many others have a record open that is longer than a buffer: \
                     raise `limits.memory`, or have the writers end their lines"
                );
            }
            return false;
        }
        true
    }

    /// Gives the permits that came home to those who wait, in order.
    pub(super) fn grant(&mut self) {
        while let Some(&(id, pass)) = self.in_line.front() {
            let mut log = self.logs.get_mut(&id);
            let passes = log.iter_mut().flat_map(|log| &mut log.passes);
            let mut waiting = passes.filter(|have| have.id == pass);
            if let Some(pass) = waiting.next() {
                let Some(permit) = self.permits.take() else {
                    return;
                };
                (pass.permit, pass.waits) = (Some(permit), false);
            }
            self.in_line.pop_front();
            self.make_ready(id);
        }
    }

    /// Others wait: records that stand open at a log's end have less time now.
    fn hurry(&mut self) {
        let holds =
            |log: &super::log::Log<R::File>| log.passes.iter().any(|pass| pass.permit.is_some());
        let holders = self.logs.iter().filter(|(_, log)| holds(log));
        let holders: Vec<LogId> = holders.map(|(id, _)| *id).collect();
        holders.into_iter().for_each(|log| self.make_ready(log));
    }

    /// When the record at the pass's place is waited for no longer: at the encoder, or on disk.
    fn lapses(&self, pass: &Pass) -> Option<Mono> {
        if pass.is_clean() {
            return (pass.parts > 0).then(|| pass.grown.plus_ms(OPEN_MS));
        }
        let age = if self.in_line.is_empty() {
            AGE_MS
        } else {
            AGE_MS_MIN
        };
        let rests = pass.grown.plus_ms(OPEN_MS);
        let old = (!pass.over).then(|| pass.opened.plus_ms(age));
        Some(old.map_or(rests, |old| old.min(rests)))
    }

    /// Whether the pass has a record open that is waited for no longer.
    pub(super) fn is_stale(&self, id: LogId, at: usize, now: Mono) -> bool {
        let pass = self.logs.get(&id).and_then(|log| log.passes.get(at));
        let open = pass.filter(|pass| !pass.is_clean());
        (open.and_then(|pass| self.lapses(pass))).is_some_and(|due| due <= now)
    }

    /// What a pass does that has read its log to the end.
    pub(super) fn rest(&mut self, id: LogId, at: usize, now: Mono) -> Step {
        let pass = self.logs.get(&id).and_then(|log| log.passes.get(at));
        let Some(pass) = pass else {
            return Step::Idle(None);
        };
        match self.lapses(pass) {
            Some(due) if due <= now && pass.dry > pass.offset => {
                // What stands on disk alone goes to the encoder first.
                if let Some(log) = self.logs.get_mut(&id) {
                    log.passes[at].flush = Some(now);
                }
                Step::Again
            }
            Some(due) if due <= now => {
                self.finish(id, at, now);
                Step::Again
            }
            due => Step::Idle([due, pass.flush].into_iter().flatten().min()),
        }
    }

    /// Ends what the pass has open: its record does not go on.
    pub(super) fn finish(&mut self, id: LogId, at: usize, now: Mono) {
        let Some(pass) = self
            .logs
            .get_mut(&id)
            .and_then(|log| log.passes.get_mut(at))
        else {
            return;
        };
        let open = !pass.is_clean();
        let (permit, pass) = (pass.close(), pass.id);
        if open {
            self.count.lapsed.add(1);
            if let Some(suppressed) = self.quiet.allow(now, "lapsed") {
                let log = self.logs.get(&id).map(|log| &*log.source.key);
                tracing::warn!(
                    log,
                    suppressed,
                    "a record has no end; what there is of it is sent: its writer ended without a \
                     newline, or writes one line for a long time"
                );
            }
        }
        self.feed(Feed::Finished {
            log: id,
            pass,
            permit,
        });
    }
}
