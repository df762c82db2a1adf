//! Records that lie over a chunk's end: who may leave one open, and for how long.
//!
//! ```text
//! a buffer in which no record ends -> scan: its end is looked for on disk, nothing goes on
//!   -> found: all that its encoder will take for it is asked for at once, then it is read through
//!   -> not there yet: the log waits on disk, as for any line without an end
//! whole lines of the other stream, a file's end -> it goes on without one: each chunk asks for more
//! ```
//!
//! 1. What encoders keep of open records is bounded by permits, in bytes. A permit is for what its pass has
//!    open there (`Open::kept_bytes`): it grows before a chunk goes, and what a chunk ends goes home with it,
//!    when the encoder has done it. So a record of a few KiB that lies still holds a few KiB.
//! 2. Half of the bytes are for records whose end was found. They are given at once, so that whoever has them
//!    waits for nobody, and gives them back soon. Whoever has none waits on disk with nothing in hand.
//! 3. The other half is for what goes on without an end. Who has some and needs more may wait for others that
//!    do the same: so each is ended as it is when it has been open for some time (`age.rs`), and its bytes
//!    come home. So somebody always goes on. Nobody passes by those that wait, however little he wants.
//! 4. A record that nothing was added to for some time, or for many bytes, is ended as it is, each stream's by
//!    itself; sooner where others wait for its half.
//! 5. A record that is longer than any may be has left its encoder: its rest is left out, and holds neither
//!    permit nor place.

use std::collections::VecDeque;

use super::age::Patience;
use super::landed::Cut;
use super::log::{Pass, Reading, Scan, Through};
use super::reader::Reader;
use super::ring::Ring;
use super::serve::Step;
use crate::base::bell::Bell;
use crate::base::files::Files;
use crate::base::pool::Permits;
use crate::base::time::Mono;
use crate::line::open::Whose;
use crate::ticket::{Ended, Feed, LogId, PassId};

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
        let needs = cut.open.kept_bytes(most);
        let has = || (self.rooms.endless.permits).suffices(pass.permit.as_ref(), needs);
        if !reading.scan && (pass.through != Through::No || has()) {
            return self.may_keep(id, at, needs, now);
        }
        let before = pass.scan.as_ref().map_or(0, |scan| scan.needs);
        let scan = Scan {
            at: reading.offset + cut.take as u64,
            open: cut.open,
            needs: before.max(needs),
        };
        if needs == 0 {
            pass.through = Through::Found;
            // All of it at once; its first chunk is read again.
            let _ = self.may_keep(id, at, scan.needs, now);
        } else if ends || scan.at - pass.offset > 2 * most {
            pass.through = Through::Endless;
            return !reading.scan && self.may_keep(id, at, needs, now);
        } else {
            pass.age.note(cut.open, now);
            pass.scan = Some(Box::new(scan));
        }
        false
    }

    /// Whether a pass has a permit for so many bytes now; otherwise it waits until it does.
    fn may_keep(&mut self, id: LogId, at: usize, needs: u64, now: Mono) -> bool {
        let log = self.logs.get_mut(&id);
        let Some(pass) = log.and_then(|log| log.passes.get_mut(at)) else {
            return false;
        };
        let found = pass.through == Through::Found;
        let room = self.rooms.of(found);
        let first = room.waiting.is_empty();
        if room.permits.suffices(pass.permit.as_ref(), needs)
            || first && room.permits.extend(&mut pass.permit, needs)
        {
            return true;
        }
        if pass.is_clean() {
            // Who has nothing at the encoder waits with nothing in hand.
            pass.permit = None;
        }
        pass.wants = needs;
        room.waiting.push_back((id, pass.id));
        self.count.open_waits.add(1);
        if first && !found {
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
        false
    }

    /// Gives the bytes that came home to those who wait, in order.
    pub(super) fn grant(&mut self) {
        for found in [true, false] {
            while let Some(&(id, pass)) = self.rooms.of(found).waiting.front() {
                let mut log = self.logs.get_mut(&id);
                let passes = log.iter_mut().flat_map(|log| &mut log.passes);
                let mut waiting = passes.filter(|have| have.id == pass && have.wants > 0);
                let room = self.rooms.of(found);
                if let Some(pass) = waiting.next() {
                    // Who waits for the other room by now stands there.
                    if found == (pass.through == Through::Found) {
                        if !room.permits.extend(&mut pass.permit, pass.wants) {
                            break;
                        }
                        pass.wants = 0;
                    }
                }
                room.waiting.pop_front();
                self.make_ready(id);
            }
        }
    }

    /// What a pass does that waits: what its encoder keeps of it is given the same time as others'.
    pub(super) fn stand_in_line(&mut self, id: LogId, at: usize, now: Mono) -> Step {
        let pass = self.logs.get(&id).and_then(|log| log.passes.get(at));
        let due = pass.and_then(|pass| pass.age.old(self.patience()));
        if due.is_none_or(|due| due > now) {
            return Step::Idle(due);
        }
        self.end_stale(id, at, true, now);
        Step::Again
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
        let most = self.settings.kept_bytes_max();
        pass.age.due(&pass.open, whose, most, self.patience())
    }

    fn patience(&self) -> Patience {
        match (self.ending, self.rooms.endless.waiting.is_empty()) {
            (true, _) => Patience::LAST,
            (_, true) => Patience::USUAL,
            _ => Patience::SHARED,
        }
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
        // What it waits to add may need less now.
        (pass.open, pass.wants, pass.scan) = (open, 0, None);
        let needs = open.kept_bytes(most);
        let permit = if needs > 0 {
            pass.spare(needs)
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

/// What encoders may keep of open records: one half for those whose end was found, one for others.
#[derive(Debug)]
pub(super) struct Rooms {
    pub(super) found: Room,
    pub(super) endless: Room,
}

/// Bytes to be had, and who waits for some, in order.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) permits: Permits,
    waiting: VecDeque<(LogId, PassId)>,
}

impl Rooms {
    /// `bell` rings when something has come home that somebody waits for.
    pub(super) fn new(bytes: u64, bell: &Bell) -> Self {
        let half = || Room {
            permits: Permits::new(bytes / 2, bell.clone()),
            waiting: VecDeque::new(),
        };
        Self {
            found: half(),
            endless: half(),
        }
    }

    const fn of(&mut self, found: bool) -> &mut Room {
        if found {
            &mut self.found
        } else {
            &mut self.endless
        }
    }
}
