//! Serving one log: which read comes next, and what a read that has ended means.

use std::io;

use memchr::{memchr, memchr_iter, memrchr};

use super::file::{self, Watch};
use super::log::Reading;
use super::reader::Reader;
use super::ring::{Ring, Token};
use crate::base::files::Files;
use crate::base::outputs::OutputSet;
use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::line::boundary::{self, Open};
use crate::ticket::{Chunk, Feed, FileId, LogId, Span};

/// A file that was renamed or deleted is at its end when nothing came for this long: containerd
/// still writes to the old file for 0.3 ms after it has opened the new one.
const QUIET_MS: u64 = 20;

/// The longest wait between two reads of a busy file.
const PACE_MS_MAX: u64 = 80;

/// A log that slept this long is served at its first pace again.
const RESTED_MS: u64 = 500;

/// Reads that may come back short of an announced end before it is given up: a write can fail.
const SHORT_READS_MAX: u32 = 1_000;

/// How soon settled files are closed.
const CLOSE_MS: u64 = 250;

enum Step {
    /// Read this.
    Read(Reading),
    /// The pass has gone on to the next file: look again.
    Again,
    /// Nothing to do before this time, if there is one.
    Idle(Option<Mono>),
}

/// What of a read's bytes goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// How many bytes.
    take: usize,
    /// Records open after them.
    open: Open,
    /// They end inside a line that goes on.
    in_line: bool,
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Serves ready logs in turn while there are buffers; says whether anything was done.
    pub(super) fn serve_ready(&mut self, now: Mono) -> bool {
        let mut progress = false;
        while let Some(feed) = self.waiting.pop_front() {
            let encoder = feed.log().0 as usize % self.feeds.len();
            if let Err(feed) = self.feeds[encoder].put(feed) {
                self.waiting.push_front(feed);
                return progress;
            }
            progress = true;
        }
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(buf) = self.pool.take() else {
                self.ready.push_front(id);
                break;
            };
            if let Some(log) = self.logs.get_mut(&id) {
                log.queued = false;
            }
            progress |= self.serve(id, buf, now);
        }
        progress
    }

    fn serve(&mut self, id: LogId, buf: Buffer, now: Mono) -> bool {
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
                    let Some(tail) = log.files.iter().find(|tail| tail.id == reading.file) else {
                        return false;
                    };
                    if let Some(handle) = &tail.handle {
                        self.ring
                            .read(tail.token, handle, reading.offset, buf, reading.asked);
                    }
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
            self.make_due(id, due);
        }
        false
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
            (pass.file, pass.offset, pass.dry) = (oldest, 0, 0);
            pass.skips = true;
            return Step::Again;
        };
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
            pass.offset = from;
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
                return Step::Idle(None);
            }
            let next = log.files[place + 1].id;
            let pass = &mut log.passes[at];
            (pass.file, pass.offset, pass.dry) = (next, 0, 0);
            return Step::Again;
        }
        let mut last = false;
        let taken = pass.offset.max(pass.dry);
        if tail.watch == Watch::Asleep && tail.seen_end <= taken {
            // Between the rename and the new file, which may take long, the old one is written to.
            if newest && !tail.gone && !log.ended {
                return Step::Idle(None);
            }
            let quiet = tail.stirred.plus_ms(QUIET_MS);
            if now < quiet {
                return Step::Idle(Some(quiet));
            }
            last = true;
        } else if tail.watch == Watch::Awake && tail.watched && log.busy < 2 {
            let tail = &mut log.files[place];
            if self.ring.arm(tail.token).is_ok() {
                tail.watch = Watch::Armed;
            }
        }
        let pass = &log.passes[at];
        Step::Read(Reading {
            pass: pass.id,
            file: pass.file,
            offset: pass.offset,
            asked,
            last,
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

    /// A read has ended.
    pub(super) fn read_ended(
        &mut self,
        token: Token,
        buf: Buffer,
        result: io::Result<usize>,
        now: Mono,
    ) {
        self.count.reads.add(1);
        let Some(id) = self.log_of(token) else { return };
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let Some(reading) = log.reading.take() else {
            return;
        };
        let read = match result {
            Ok(read) => read,
            Err(error) => {
                self.count.errors.add(1);
                tracing::warn!(log = %log.source.key, %error, "a read failed; tried again in 1 s");
                return self.make_due(id, now.plus_ms(1_000));
            }
        };
        self.count.bytes.add(read as u64);
        let Some(tail) = log.file(reading.file) else {
            return self.make_ready(id);
        };
        let end = reading.offset + read as u64;
        tail.seen_end = tail.seen_end.max(end);
        let full = read == reading.asked;
        // A read may come back short of the end: the size decides what ends here.
        let at_end = || match tail.handle.as_ref().map(|handle| self.files.stat(handle)) {
            Some(Ok(stat)) => stat.size <= end,
            Some(Err(_)) | None => true,
        };
        let ended = tail.end == Some(end) || (reading.last && !full && (read == 0 || at_end()));
        let Some(at) = log.pass_at(reading.pass) else {
            return self.make_ready(id);
        };
        // Where a pass stands between two records, a last line without a newline has ended too.
        let last = ended || log.is_between(reading.file, end, reading.pass);
        let pass = &mut log.passes[at];
        let cut = cut(&buf[..read], (pass.open, pass.in_line), full, last);
        let (in_line, open) = (pass.in_line, pass.open);
        if read == 0 && reading.last && in_line && !self.shrank(id, reading) {
            // The file ends where a buffer did, in mid-line: an empty chunk ends the line.
            let cut = Cut {
                take: 0,
                open: open.finished(&[]),
                in_line: false,
            };
            self.emit(id, at, reading, buf, cut, now);
            return self.make_ready(id);
        }
        if cut.take == 0 {
            let Some(log) = self.logs.get_mut(&id) else {
                return;
            };
            let pass = &mut log.passes[at];
            pass.dry = end;
            return self.found_nothing(id, reading, read, now);
        }
        self.emit(id, at, reading, buf, cut, now);
        if full {
            self.make_ready(id);
        } else {
            self.cool(id, now);
        }
    }

    /// Bytes came, and no more are there: the file rests before it is read again.
    fn cool(&mut self, id: LogId, now: Mono) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        log.busy = log.busy.saturating_add(1);
        log.pace_ms = if now.ms_since(log.slept) > RESTED_MS && log.busy < 2 {
            self.settings.pace_ms
        } else {
            (log.pace_ms * 2).clamp(
                self.settings.pace_ms,
                PACE_MS_MAX.max(self.settings.pace_ms),
            )
        };
        let due = now.plus_ms(log.pace_ms);
        self.make_due(id, due);
    }

    /// The lines go to their encoder.
    fn emit(&mut self, id: LogId, at: usize, reading: Reading, buf: Buffer, cut: Cut, now: Mono) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let bytes = &buf[..cut.take];
        let unfinished = u32::from(!cut.in_line && bytes.last() != Some(&b'\n'));
        let lines = memchr_iter(b'\n', bytes).count() as u32 + unfinished;
        let pass = &mut log.passes[at];
        let (start, end) = (reading.offset, reading.offset + cut.take as u64);
        let span = Span {
            log: id,
            file: reading.file,
            pass: pass.id,
            start,
            end,
            lines,
        };
        let ticket = match &pass.glue {
            Some(glue) => self.ledger.extend(glue, span, pass.outputs),
            None => self.ledger.open(span, pass.outputs),
        };
        pass.offset = end;
        (pass.open, pass.in_line) = (cut.open, cut.in_line);
        if !pass.is_clean() {
            pass.glue.get_or_insert_with(|| ticket.split(pass.outputs));
        } else if let Some(glue) = pass.glue.take() {
            glue.settle();
        }
        let pass = pass.id;
        let Some(tail) = log.files.iter_mut().find(|tail| tail.id == reading.file) else {
            return;
        };
        tail.stirred = now;
        let source = std::sync::Arc::clone(&tail.source);
        if (tail.identity.head_len as usize) < file::HEAD_BYTES
            && u64::from(tail.identity.head_len) < end
            && let Some(handle) = &tail.handle
            && let Ok(stat) = self.files.stat(handle)
        {
            tail.identity = file::identify(&self.files, handle, &stat);
            self.ledger.identify(id, tail.id, tail.identity);
        }
        let (base, len, open_tail) = (start, cut.take, cut.in_line);
        self.feed(Feed::Chunk(Chunk {
            source,
            pass,
            base,
            buf,
            len,
            open_tail,
            ticket,
        }));
    }

    /// A read found nothing new: arm and look again, sleep, or end the file.
    fn found_nothing(&mut self, id: LogId, reading: Reading, read: usize, now: Mono) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let Some(place) = log.place_of(reading.file) else {
            return;
        };
        if read == 0 && self.shrank(id, reading) {
            return self.begin_again(id, reading.file, now);
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let tail_end = log.files[place].seen_end;
        let tail = &mut log.files[place];
        if reading.last && read == 0 {
            tail.end = Some(reading.offset);
            self.ledger.set_end(id, reading.file, Some(reading.offset));
            return self.make_ready(id);
        }
        match tail.watch {
            Watch::Awake => {
                let armed = tail.watched && self.ring.arm(tail.token).is_ok();
                tail.watch = if armed { Watch::Armed } else { Watch::Asleep };
            }
            Watch::Armed => {
                let expected = self.ring.expected_end(tail.token);
                let size = match &tail.handle {
                    Some(handle) if read > 0 => self.files.stat(handle).ok().map(|stat| stat.size),
                    Some(_) | None => None,
                };
                let short = expected.max(size).is_some_and(|end| end > tail_end);
                if short && tail.short_reads < SHORT_READS_MAX {
                    tail.short_reads += 1;
                    self.count.short.add(1);
                    return self.make_due(id, now.plus_ms(1));
                }
                tail.watch = Watch::Asleep;
                (log.busy, log.slept) = (0, now);
            }
            Watch::Asleep => {}
        }
        self.make_ready(id);
    }

    fn shrank(&self, id: LogId, reading: Reading) -> bool {
        let Some(log) = self.logs.get(&id) else {
            return false;
        };
        let tail = log.files.iter().find(|tail| tail.id == reading.file);
        let Some(handle) = tail.and_then(|tail| tail.handle.as_ref()) else {
            return false;
        };
        self.files
            .stat(handle)
            .is_ok_and(|stat| stat.size < reading.offset)
    }

    /// The file was truncated: it is a new generation, read from its first byte.
    fn begin_again(&mut self, id: LogId, old: FileId, now: Mono) {
        self.count.truncated.add(1);
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let all = log
            .passes
            .iter()
            .fold(OutputSet::NONE, |all, pass| all.or(pass.outputs));
        let Some(tail) = log.files.iter_mut().find(|tail| tail.id == old) else {
            return;
        };
        let Some(handle) = &tail.handle else { return };
        let Ok(stat) = self.files.stat(handle) else {
            return;
        };
        tail.identity = file::identify(&self.files, handle, &stat);
        self.ledger.forget(id, old);
        tail.id = self
            .ledger
            .register(&tail.source, tail.identity, |_| 0, |_| false)
            .id;
        (tail.watch, tail.seen_end, tail.stirred) = (Watch::Awake, 0, now);
        tracing::warn!(path = %tail.path.display(), "the file was truncated; it is read from its start");
        all.iter().for_each(|output| self.part(id, output));
        self.join(id);
    }

    /// Closes files that every output has, forgets those that are deleted, and ends the log. Says
    /// when to look again; reads do not wait for it.
    fn close_done(&mut self, id: LogId, now: Mono) -> Option<Mono> {
        let log = self.logs.get_mut(&id)?;
        if log.reading.is_some() {
            return None;
        }
        let over: Vec<(FileId, bool)> = log
            .files
            .iter()
            .filter(|f| f.end.is_some())
            .map(|f| (f.id, f.gone))
            .collect();
        let ends = log.ended && over.len() == log.files.len();
        // Only when every pass is at the end: what a slow one holds is not complete yet.
        let last = log.files.last().map(|tail| (tail.id, tail.end));
        let mut passes = log.passes.iter();
        let at_end = passes.all(|pass| last == Some((pass.file, Some(pass.offset))));
        if ends && at_end && !log.said_ended {
            log.said_ended = true;
            log.passes
                .iter_mut()
                .filter_map(|pass| pass.glue.take())
                .for_each(|g| g.settle());
            self.feed(Feed::Ended { log: id });
        }
        let mut outstanding = false;
        for (file, gone) in over {
            if self.ledger.remaining(id, file) > 0 {
                outstanding = true;
                continue;
            }
            self.close(id, file);
            if let Some(log) = self.logs.get_mut(&id)
                && gone
                // A pass that stands here knows its successor by this file's place.
                && log.passes.iter().all(|pass| pass.file != file)
            {
                log.files.retain(|tail| tail.id != file);
                self.ledger.forget(id, file);
            }
        }
        if outstanding {
            return Some(now.plus_ms(CLOSE_MS));
        }
        if ends {
            self.ledger.forget_log(id);
            self.logs.remove(&id);
        }
        None
    }
}

/// What of `bytes` goes on: whole lines that leave no record open; if there are none, whole lines;
/// if there are none and the read was full, the piece of a line. `last` = the file ends here.
fn cut(bytes: &[u8], before: (Open, bool), full: bool, last: bool) -> Cut {
    let (mut open, in_line) = before;
    let whole = memrchr(b'\n', bytes).map_or(0, |newline| newline + 1);
    if whole == 0 {
        let take = if full || last { bytes.len() } else { 0 };
        if take > 0 && !in_line {
            open = open.begun(bytes);
        }
        if take > 0 && last {
            open = open.finished(bytes);
        }
        return Cut {
            take,
            open,
            in_line: if take > 0 { full && !last } else { in_line },
        };
    }
    // The rest of a line that began in an earlier chunk is no line of its own.
    let mut rest = 0;
    if in_line {
        rest = memchr(b'\n', bytes).map_or(whole, |newline| newline + 1);
        open = open.finished(&bytes[..rest]);
    }
    let (clean, left) = boundary::scan(&bytes[rest..whole], open);
    if clean > 0 || (rest > 0 && open.is_none()) {
        return Cut {
            take: rest + clean,
            open: Open::default(),
            in_line: false,
        };
    }
    Cut {
        take: if full || last { whole } else { 0 },
        open: left,
        in_line: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_lines_unless_a_line_is_longer_than_the_buffer() {
        let check = |bytes: &str, full, last, take, in_line| {
            let got = cut(bytes.as_bytes(), (Open::default(), false), full, last);
            assert_eq!((got.take, got.in_line), (take, in_line), "{bytes:?}");
        };
        check("one\ntwo\n", false, false, 8, false);
        check("one\ntw", false, false, 4, false);
        check("tw", false, false, 0, false);
        check("tw", true, false, 2, true);
        check("tw", false, true, 2, false);
        check("t stdout P a\n", false, false, 0, false);
        check("t stdout P a\n", true, false, 13, false);
        check("t stdout P a\n", false, true, 13, false);
    }

    #[test]
    fn the_rest_of_a_long_line_is_no_line_and_its_tag_stands_in_its_first_piece() {
        let before = |open, in_line| (open, in_line);
        let head = cut(
            b"t stdout P lo",
            before(Open::default(), false),
            true,
            false,
        );
        assert!(head.in_line && !head.open.is_none() && head.take == 13);
        // The rest looks like a whole record's line, and is none.
        let rest = b"t stdout F ng\nt stdout F x\n";
        let got = cut(rest, before(head.open, true), false, false);
        assert_eq!((got.take, got.open.is_none()), (rest.len(), true));
        let got = cut(&rest[..14], before(head.open, true), true, false);
        assert_eq!((got.take, got.open.is_none()), (14, false));
    }
}
