//! Serving one log: which read comes next, and what a read that has ended means.

use std::io;

use memchr::{memchr, memchr_iter, memrchr};

use super::file::Watch;
use super::identity;
use super::log::Reading;
use super::reader::Reader;
use super::ring::{Ring, Token};
use crate::base::files::Files;
use crate::base::pool::Buffer;
use crate::base::time::Mono;
use crate::line::boundary::{self, Open};
use crate::ticket::{Chunk, Feed, FileId, LogId, Span};

/// A file that was renamed or deleted is at its end when nothing came for this long: containerd
/// still writes to the old file for 0.3 ms after it has opened the new one.
const QUIET_MS: u64 = 20;

/// The longest wait between two reads of a busy file.
const PACE_MS_MAX: u64 = 80;

/// Whole lines wait this long for a record that another stream has left open. Runtimes write the
/// parts of a record at once; one that stays open is the last of a stream that has ended.
const FLUSH_MS: u64 = 1_000;

/// A log that slept this long is served at its first pace again.
const RESTED_MS: u64 = 500;

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
            self.make_due(id, due);
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
            (pass.file, pass.offset, pass.dry) = (oldest, 0, 0);
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
            let next = &log.files[place + 1];
            // What a crashed attempt left open does not go on in the next one.
            let another = next.place.attempt != tail.place.attempt;
            let next = next.id;
            let pass = &mut log.passes[at];
            (pass.file, pass.offset, pass.dry) = (next, 0, 0);
            if another {
                let pass = pass.finish();
                self.feed(Feed::Finished { log: id, pass });
            }
            return Step::Again;
        }
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
        } else if let Some(due) = pass.flush.filter(|_| tail.watch == Watch::Asleep) {
            return Step::Idle(Some(due));
        } else if tail.watch == Watch::Asleep && tail.seen_end <= taken {
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
                tail.set_watch(Watch::Armed);
            }
        }
        let pass = &log.passes[at];
        Step::Read(Reading {
            pass: pass.id,
            file: pass.file,
            offset: pass.offset,
            asked,
            last,
            flush,
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
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.count.errors.add(1);
                return self.give_up(id, reading, &error, now);
            }
            Err(error) => {
                let due = self.read_failed(id, &error, now);
                return self.make_due(id, due);
            }
        };
        self.count.bytes.add(read as u64);
        let Some(tail) = log.file(reading.file) else {
            return self.make_ready(id);
        };
        let end = reading.offset + read as u64;
        tail.seen_end = tail.seen_end.max(end);
        let full = read == reading.asked;
        tail.proven &= full;
        let packed = tail.packed.is_some();
        // A read may come back short of the end: the size decides what ends here.
        let at_end = || match tail.handle.as_ref().map(|handle| self.files.stat(handle)) {
            Some(Ok(stat)) => packed || stat.size <= end,
            Some(Err(_)) | None => true,
        };
        let ended = tail.end == Some(end) || (reading.last && !full && (read == 0 || at_end()));
        let Some(at) = log.pass_at(reading.pass) else {
            return self.make_ready(id);
        };
        // Where a pass stands between two records, a last line without a newline has ended too.
        let last = ended || log.is_between(reading.file, end, reading.pass);
        let pass = &mut log.passes[at];
        if pass.is_clean() && buf[..read].first() == Some(&0) {
            let hole = hole(&buf[..read]);
            // What ends in NULs may be written to yet.
            if hole < read || full || reading.last {
                self.pass_over(id, at, reading, &buf[..hole]);
                return self.make_ready(id);
            }
        }
        let pass = &mut log.passes[at];
        let before = (pass.open, pass.in_line);
        let cut = cut(&buf[..read], before, full, last || reading.flush, last);
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
            let waits = memrchr(b'\n', &buf[..read]).is_some();
            // The first sight of them counts; without any there is nothing to go on.
            let due = pass.flush.unwrap_or(now.plus_ms(FLUSH_MS));
            pass.flush = waits.then_some(due);
            return self.found_nothing(id, reading, read, now);
        }
        self.emit(id, at, reading, buf, cut, now);
        if full {
            self.make_ready(id);
        } else {
            self.cool(id, now);
        }
    }

    /// NULs where a record would begin: a hole that a writer without O_APPEND left after a truncation,
    /// or what a file system put there after a power cut. They are settled as they are.
    fn pass_over(&mut self, id: LogId, at: usize, reading: Reading, hole: &[u8]) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let pass = &mut log.passes[at];
        let end = reading.offset + hole.len() as u64;
        let span = Span {
            log: id,
            file: reading.file,
            pass: pass.id,
            start: reading.offset,
            end,
            lines: 0,
        };
        pass.offset = end;
        self.count.holes.add(hole.len() as u64);
        self.ledger.open(span, pass.outputs).settle();
        self.reach(id, reading.file, end, hole);
    }

    /// Remembers the bytes before the highest place read.
    fn reach(&mut self, id: LogId, file: FileId, end: u64, bytes: &[u8]) {
        let Some(tail) = self.logs.get_mut(&id).and_then(|log| log.file(file)) else {
            return;
        };
        if end <= tail.identity.last_at || bytes.is_empty() {
            return;
        }
        let last = identity::last_of(bytes);
        tail.identity.last_at = end;
        (tail.identity.last_len, tail.identity.last) = last;
        self.ledger.reached(id, file, end, last);
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
        if unfinished > 0 && !bytes.is_empty() {
            self.count.unfinished.add(1);
            if let Some(suppressed) = self.quiet.allow(now, "unfinished") {
                tracing::warn!(log = %log.source.key, suppressed,
                    "a file ended in the middle of a line; what is there is taken as a line: its \
                     writer was killed, or rotates by a copy");
            }
        }
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
        pass.flush = None;
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
        let known = u64::from(tail.identity.head_len);
        if known < identity::HEAD_BYTES as u64
            && known < end
            && tail.packed.is_none()
            && let Some(handle) = &tail.handle
        {
            let files = &self.files;
            identity::grow(
                &mut |at, into| files.read_at(handle, at, into),
                &mut tail.identity,
            );
            self.ledger.identify(id, tail.id, tail.identity);
        }
        self.reach(id, reading.file, end, &buf[..cut.take]);
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
}

/// How many NULs `bytes` begins with.
fn hole(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len())
}

/// What of `bytes` goes on: whole lines that leave no record open; if there are none, whole lines;
/// if there are none and the read was full, the piece of a line. `flush` = whole lines go on in any
/// case, `last` = the file ends here.
fn cut(bytes: &[u8], before: (Open, bool), full: bool, flush: bool, last: bool) -> Cut {
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
        take: if full || flush { whole } else { 0 },
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
            let got = cut(bytes.as_bytes(), (Open::default(), false), full, last, last);
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
            false,
        );
        assert!(head.in_line && !head.open.is_none() && head.take == 13);
        // The rest looks like a whole record's line, and is none.
        let rest = b"t stdout F ng\nt stdout F x\n";
        let got = cut(rest, before(head.open, true), false, false, false);
        assert_eq!((got.take, got.open.is_none()), (rest.len(), true));
        let got = cut(&rest[..14], before(head.open, true), true, false, false);
        assert_eq!((got.take, got.open.is_none()), (14, false));
    }
}
