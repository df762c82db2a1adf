//! Records that lie over a chunk's end: who may leave one open, and for how long.
//!
//! ```text
//! a buffer in which no record ends -> scan: its end is looked for on disk, nothing goes on
//!   -> found: read through by a permit, which goes to the encoder with the last chunk, and comes home
//!   -> not there yet: the log waits on disk, as for any line without an end
//! ```
//!
//! 1. What encoders keep of open records is bounded by the permits. A log that gets none gives its
//!    buffer back and waits on disk; others are read meanwhile.
//! 2. A permit is held while a record is read through: its end is known before. Only what goes on
//!    without one (whole lines of the other stream, a file's end) leaves a record open for longer, and never
//!    has the last permit.
//! 3. A record that nothing was added to for some time, or for many bytes, is ended as it is (`age.rs`), each
//!    stream's by itself; sooner where others wait for its permit.
//! 4. A record that is longer than any may be has left its encoder: its rest is left out, and holds neither
//!    permit nor place.

use super::age::Patience;
use super::landed::Cut;
use super::log::{Pass, Reading, Scan, Through};
use super::reader::Reader;
use super::ring::Ring;
use super::serve::Step;
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::line::open::Whose;
use crate::ticket::{Ended, Feed, LogId};

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
        let most = self.settings.kept_bytes_max();
        let log = self.logs.get_mut(&id);
        let Some(pass) = log.and_then(|log| log.passes.get_mut(at)) else {
            return false;
        };
        let keeps = cut.open.keeps_any(most);
        if !reading.scan && (pass.permit.is_some() || !keeps && !pass.is_clean()) {
            return true;
        }
        let end = reading.offset + cut.take as u64;
        if !keeps {
            pass.through = Through::Found;
        } else if ends || end - pass.offset > 2 * most {
            pass.through = Through::Endless;
        }
        if pass.through != Through::No {
            return !reading.scan && self.may_open(id, at, now);
        }
        pass.age.note(cut.open, now);
        pass.scan = Some(Box::new(Scan {
            at: end,
            open: cut.open,
        }));
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
            pass.permit = self.permits.take(pass.reserve());
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

    /// Gives the permits that came home to those who wait, in order; the last one to whoever gives it
    /// back soon.
    pub(super) fn grant(&mut self) {
        let mut place = 0;
        while let Some(&(id, pass)) = self.in_line.get(place) {
            let mut log = self.logs.get_mut(&id);
            let passes = log.iter_mut().flat_map(|log| &mut log.passes);
            let mut waiting = passes.filter(|have| have.id == pass);
            if let Some(pass) = waiting.next() {
                let Some(permit) = self.permits.take(pass.reserve()) else {
                    if pass.reserve() == 0 {
                        return;
                    }
                    place += 1;
                    continue;
                };
                (pass.permit, pass.waits) = (Some(permit), false);
            }
            self.in_line.remove(place);
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

    /// When something of the pass is waited for no longer, on disk or at the encoder.
    fn lapses(&self, pass: &Pass) -> Option<Mono> {
        let at_encoder = Whose::ALL.iter().filter_map(|whose| self.due(pass, *whose));
        at_encoder.chain(pass.age.on_disk(&pass.open)).min()
    }

    fn due(&self, pass: &Pass, whose: Whose) -> Option<Mono> {
        let patience = match (self.ending, self.in_line.is_empty()) {
            (true, _) => Patience::LAST,
            (_, true) => Patience::USUAL,
            _ => Patience::SHARED,
        };
        let most = self.settings.kept_bytes_max();
        pass.age.due(&pass.open, whose, most, patience)
    }

    /// The agent ends: a record that has no end by now is sent as it is, or all that was read since it
    /// began would come again.
    pub fn end(&mut self, now: Mono) {
        self.ending = true;
        let open = |log: &super::log::Log<R::File>| {
            let newest = log.files.last()?;
            let size = self.files.stat(newest.handle.as_ref()?).ok()?.size;
            let near = |pass: &Pass| {
                let seen = pass.offset.max(pass.dry) + self.pool.buffer_bytes() as u64;
                pass.file == newest.id && size < seen && !pass.is_clean()
            };
            let passes = log.passes.iter().enumerate();
            Some(
                passes
                    .filter(|(_, pass)| near(pass))
                    .map(|(at, _)| at)
                    .collect::<Vec<_>>(),
            )
        };
        let all = self.logs.iter();
        let all: Vec<_> = all
            .filter_map(|(id, log)| Some((*id, open(log)?)))
            .collect();
        for (id, passes) in all {
            passes
                .into_iter()
                .for_each(|at| self.end_stale(id, at, true, now));
        }
        self.put_waiting();
    }

    /// Ends what is waited for no longer; `at_end` = the pass has read its log to the end.
    pub(super) fn end_stale(&mut self, id: LogId, at: usize, at_end: bool, now: Mono) {
        let Some(pass) = self.logs.get(&id).and_then(|log| log.passes.get(at)) else {
            return;
        };
        let most = self.settings.kept_bytes_max();
        let is_stale = |whose: &Whose| {
            pass.age.is_past(&pass.open, *whose, most)
                || at_end && self.due(pass, *whose).is_some_and(|due| due <= now)
        };
        let mut open = pass.open;
        let mut ended = Ended::default();
        for whose in Whose::ALL.into_iter().filter(is_stale) {
            ended.line |= open.in_line_of(whose);
            match whose {
                Whose::Stdout => ended.stdout = true,
                Whose::Stderr => ended.stderr = true,
                // Nobody knows what record it is of.
                Whose::Line => ended = Ended::ALL,
            }
            open.end(whose);
        }
        if ended == Ended::ALL || ended != Ended::default() && open.is_none() {
            return self.finish(id, at, now);
        }
        if ended == Ended::default() {
            return;
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let pass = &mut log.passes[at];
        pass.open = open;
        let permit = if open.keeps_any(most) {
            None
        } else {
            pass.age.sent(0, false, now);
            pass.let_go()
        };
        let pass = pass.id;
        self.tell_lapsed(id, now);
        self.feed(Feed::Finished {
            log: id,
            pass,
            ended,
            permit,
        });
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
                self.end_stale(id, at, true, now);
                Step::Again
            }
            due => Step::Idle([due, pass.flush].into_iter().flatten().min()),
        }
    }

    /// Ends what the pass has open: nothing of it goes on.
    pub(super) fn finish(&mut self, id: LogId, at: usize, now: Mono) {
        let log = self.logs.get_mut(&id);
        let Some(pass) = log.and_then(|log| log.passes.get_mut(at)) else {
            return;
        };
        let open = !pass.is_clean();
        let (permit, pass) = (pass.close(), pass.id);
        if open {
            self.tell_lapsed(id, now);
        }
        self.feed(Feed::Finished {
            log: id,
            pass,
            ended: Ended::ALL,
            permit,
        });
    }

    fn tell_lapsed(&mut self, id: LogId, now: Mono) {
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
}

impl Pass {
    /// How many permits it leaves to others: one to those that will give it back soon.
    const fn reserve(&self) -> usize {
        match self.through {
            Through::Found => 0,
            Through::No | Through::Endless => 1,
        }
    }
}
