//! Serving one log: which read comes next.

use super::file::Watch;
use super::log::{Due, Reading, Through};
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::ticket::{Feed, LogId};

/// A file that was renamed or deleted is at its end when nothing came for this long: containerd
/// still writes to the old file for 0.3 ms after it has opened the new one.
const QUIET_MS: u64 = 20;

/// What a pass does next.
pub(super) enum Step {
    /// Read this.
    Read(Reading),
    /// The pass has gone on to the next file: look again.
    Again,
    /// Nothing to do before this time, if there is one.
    Idle(Option<Mono>),
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Serves ready logs in turn while there are buffers; says whether anything was done.
    pub(super) fn serve_ready(&mut self, now: Mono) -> bool {
        let (mut progress, room) = self.put_waiting();
        if !room {
            return progress;
        }
        for _ in 0..self.rounds.begin() {
            let Some(id) = self.rounds.pop() else {
                break;
            };
            let Some(buf) = self.pool.take() else {
                self.rounds.give_back(id);
                return progress;
            };
            if let Some(log) = self.logs.get_mut(&id) {
                log.queued = false;
            }
            progress |= self.serve(id, buf, now);
        }
        // Who became ready meanwhile is served in the next round.
        progress || !self.rounds.is_empty()
    }

    /// Gives encoders what their queues had no room for; says whether anything went, and all of it.
    pub(super) fn put_waiting(&mut self) -> (bool, bool) {
        let mut progress = false;
        while let Some(feed) = self.waiting.pop_front() {
            let encoder = feed.log().0 as usize % self.feeds.len();
            if let Err(feed) = self.feeds[encoder].put(feed) {
                self.waiting.push_front(feed);
                return (progress, false);
            }
            progress = true;
        }
        (progress, true)
    }

    fn serve(&mut self, id: LogId, buf: Buffer, now: Mono) -> bool {
        if self.stands_apart(id) {
            return false;
        }
        self.merge(id);
        let mut soonest = self.close_done(id, now);
        let mut tried = 0;
        while let Some(log) = self.logs.get_mut(&id) {
            if tried >= log.passes.len() || log.reading.is_some() {
                break;
            }
            let at = (log.turn + tried) % log.passes.len();
            match self.step(id, at, now) {
                Step::Read(mut reading) => {
                    let Some(log) = self.logs.get_mut(&id) else {
                        return false;
                    };
                    log.turn = at + 1;
                    reading.asked = reading.asked.min(buf.len());
                    log.reading = Some(reading);
                    self.begin(id, reading, buf, now);
                    return true;
                }
                Step::Again => {}
                Step::Idle(due) => {
                    soonest = [soonest, due].into_iter().flatten().min();
                    tried += 1;
                }
            }
        }
        if let Some(due) = soonest {
            self.make_due(id, Due::AtLatest(due));
        }
        false
    }

    /// Begins a read; of a compressed file it ends at once.
    fn begin(&mut self, id: LogId, reading: Reading, mut buf: Buffer, now: Mono) {
        let Some(tail) = self
            .logs
            .get_mut(&id)
            .and_then(|log| log.file(reading.file))
        else {
            return;
        };
        let (Some(handle), token) = (&tail.handle, tail.token) else {
            return;
        };
        let Some(inflater) = &mut tail.packed else {
            return (self.ring).read(token, handle, reading.offset, buf, reading.asked);
        };
        let into = &mut buf[..reading.asked];
        let result = inflater.read_at(&self.files, handle, reading.offset, into);
        self.read_ended(token, buf, result, now);
    }

    /// The next step of a pass.
    fn step(&mut self, id: LogId, at: usize, now: Mono) -> Step {
        let Some(log) = self.logs.get_mut(&id) else {
            return Step::Idle(None);
        };
        let pass = &log.passes[at];
        let Some(place) = log.place_of(pass.file) else {
            // Its file is gone from the log: it goes on with the oldest there is.
            let Some(oldest) = log.files.first().map(|tail| tail.id) else {
                return Step::Idle(None);
            };
            let pass = &mut log.passes[at];
            pass.enter(oldest);
            pass.skips = true;
            return Step::Again;
        };
        // Who was detached leaves between two records: what it has begun is finished.
        let leaving = pass.outputs.without(self.attached);
        if !leaving.is_empty() && pass.is_clean() {
            leaving.iter().for_each(|output| self.part(id, output));
            return Step::Again;
        }
        let newest = place + 1 == log.files.len();
        let mut asked = usize::MAX;
        if pass.skips && pass.is_clean() {
            let Some(output) = pass.outputs.iter().next() else {
                return Step::Idle(None);
            };
            let (from, to) = self
                .ledger
                .next_unsettled(id, pass.file, output, pass.offset);
            let pass = &mut log.passes[at];
            if pass.offset != from {
                pass.close();
                (pass.offset, pass.scan) = (from, None);
            }
            match to {
                Some(to) => asked = asked.min((to - from) as usize),
                None if newest => pass.skips = false,
                None => {}
            }
        }
        let (pass, tail) = (&log.passes[at], &log.files[place]);
        asked = asked.min(usize::try_from(log.limit(pass)).unwrap_or(usize::MAX));
        if tail.end == Some(pass.offset) || tail.handle.is_none() {
            if newest {
                return self.rest(id, at, now);
            }
            let next = &log.files[place + 1];
            // What a crashed attempt left open does not go on in the next one.
            let another = next.place.attempt != tail.place.attempt;
            let next = next.id;
            let pass = &mut log.passes[at];
            pass.enter(next);
            if another {
                self.finish(id, at, now);
            }
            return Step::Again;
        }
        if pass.waits || self.is_crowded(id, at) {
            return Step::Idle(None);
        }
        if let Some(due) = self.is_deferred(id, now) {
            return Step::Idle(Some(due));
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return Step::Idle(None);
        };
        let pass = &log.passes[at];
        let file = pass.file;
        match self.is_proven(id, place) {
            Ok(true) => {}
            Ok(false) => {
                let wait = self.truncated(id, file, now);
                return wait.map_or(Step::Again, |due| Step::Idle(Some(due)));
            }
            Err(error) => return Step::Idle(Some(self.read_failed(id, &error, now))),
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return Step::Idle(None);
        };
        let (pass, tail) = (&log.passes[at], &log.files[place]);
        let (mut last, mut flush) = (tail.packed.is_some(), false);
        let taken = pass.offset.max(pass.dry);
        if last {
            // A compressed file grows no more.
        } else if pass.flush.is_some_and(|due| due <= now) {
            // Lines of one stream wait for a record that the other has left open: long enough.
            flush = true;
        } else if tail.watch == Watch::Asleep && tail.seen_end <= taken {
            // Between the rename and the new file, which may take long, the old one is written to.
            if newest && !tail.gone && !log.ended {
                return self.rest(id, at, now);
            }
            let quiet = tail.stirred.plus_ms(QUIET_MS);
            if now < quiet {
                return Step::Idle(Some(quiet));
            }
            last = true;
        } else if tail.watch == Watch::Awake && tail.watched && log.busy < 2 {
            let tail = &mut log.files[place];
            if self.ring.arm(tail.token).is_ok() {
                tail.set_watch(Watch::Armed);
            }
        }
        let pass = &mut log.passes[at];
        if (last || flush) && pass.through == Through::No {
            pass.through = Through::Endless;
        }
        if pass.through != Through::No {
            pass.scan = None;
        }
        let offset = pass.scan.as_ref().map_or(pass.offset, |scan| scan.at);
        asked -= usize::try_from(offset - pass.offset).map_or(asked, |scanned| scanned.min(asked));
        if asked == 0 && pass.scan.is_some() {
            // What comes next is another's, or was settled before: the record ends here.
            pass.through = Through::Found;
            return Step::Again;
        }
        Step::Read(Reading {
            pass: pass.id,
            file: pass.file,
            offset,
            asked,
            last,
            flush,
            scan: pass.scan.is_some(),
        })
    }

    /// Passes that stand at the same place become one.
    fn merge(&mut self, id: LogId) {
        while let Some(log) = self.logs.get_mut(&id) {
            if log.reading.is_some() {
                return;
            }
            let Some((from, into)) = log.meeting() else {
                return;
            };
            let gone = log.passes.remove(from);
            let into = &mut log.passes[into - 1];
            into.outputs = into.outputs.or(gone.outputs);
            let into = into.id;
            self.feed(Feed::Merged {
                log: id,
                pass: gone.id,
                into,
            });
        }
    }

    pub(super) fn feed(&mut self, feed: Feed) {
        let encoder = feed.log().0 as usize % self.feeds.len();
        if !self.waiting.is_empty() {
            return self.waiting.push_back(feed);
        }
        if let Err(feed) = self.feeds[encoder].put(feed) {
            self.waiting.push_back(feed);
        }
    }
}
