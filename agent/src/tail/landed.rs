//! What a read that has ended means: which of its bytes go on, and what is done when none do.

use std::io;

use memchr::{memchr, memchr_iter, memrchr};

use super::identity;
use super::log::{Due, Pass, Reading};
use super::reader::Reader;
use super::ring::{Ring, Token};
use crate::base::files::Files;
use crate::base::pool::{Buffer, Permit};
use crate::base::share::Share;
use crate::base::time::Mono;
use crate::line::boundary;
use crate::line::open::Open;
use crate::ticket::{Chunk, Feed, FileId, LineFate, LogId, Span, Standing, Ticket};

/// The longest wait between two reads of a busy file.
const PACE_MS_MAX: u64 = 80;

/// A log that slept this long is served at its first pace again.
const RESTED_MS: u64 = 500;

/// Whole lines wait this long for a record that another stream has left open. Runtimes write the
/// parts of a record at once; one that stays open is the last of a stream that has ended.
const FLUSH_MS: u64 = 1_000;

/// What of a read's bytes goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// How many bytes.
    pub(super) take: usize,
    /// What is open after them.
    pub(super) open: Open,
}

impl Cut {
    /// Whether nothing is open after it.
    pub(super) fn is_clean(&self) -> bool {
        self.open.is_none()
    }
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
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
                let at = log.pass_at(reading.pass);
                if let Some(at) = at {
                    // What cannot be read keeps no permit from others.
                    self.end_stale(id, at, true, now);
                }
                let due = self.read_failed(id, &error, now);
                return self.make_due(id, Due::NotBefore(due));
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
        if pass.is_clean() && !reading.scan && buf[..read].first() == Some(&0) {
            let hole = hole(&buf[..read]);
            // What ends in NULs may be written to yet.
            if hole < read || full || reading.last {
                self.pass_over(id, at, reading, &buf[..hole]);
                return self.make_ready(id);
            }
        }
        let pass = &mut log.passes[at];
        let scan = pass.scan.as_ref().filter(|_| reading.scan);
        let before = scan.map_or(pass.open, |scan| scan.open);
        let cut = cut(&buf[..read], before, full, last || reading.flush, last);
        let open = pass.open;
        if read == 0 && reading.last && open.in_line() && !self.shrank(id, reading) {
            // The file ends where a buffer did, in mid-line: an empty chunk ends the line.
            let cut = Cut {
                take: 0,
                open: boundary::finish(&[], open),
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
            pass.age.note(cut.open, now);
            // Whole lines that wait for a record's end; the first sight of them counts. Where they were to
            // go and none did, there are none.
            let due = pass.flush.unwrap_or(now.plus_ms(FLUSH_MS));
            pass.flush = (cut.open.is_beside() && !reading.flush).then_some(due);
            if !packed {
                let newline = memrchr(b'\n', &buf[..read]);
                let line = newline.map_or(pass.offset, |at| reading.offset + at as u64 + 1);
                self.ledger
                    .unfinished(id, reading.file, end.saturating_sub(line));
            }
            if pass.is_clean() {
                pass.permit = None;
            } else if reading.flush {
                self.end_stale(id, at, true, now);
            }
            return self.found_nothing(id, reading, read, now);
        }
        let goes = cut.is_clean() && !reading.scan
            || self.may_go(id, at, reading, cut, last || packed, now);
        if !goes {
            return self.make_ready(id);
        }
        self.emit(id, at, reading, buf, cut, now);
        // What ends a record may lie in the next file, or behind a read that came back short.
        let all = !full && self.is_all(id, reading.file, end);
        self.end_stale(id, at, all, now);
        if full {
            return self.make_ready(id);
        }
        self.cool(id, now);
    }

    /// Whether the log has no bytes after `end` of the file.
    fn is_all(&self, id: LogId, file: FileId, end: u64) -> bool {
        let newest = self.logs.get(&id).and_then(|log| log.files.last());
        let newest = newest.filter(|tail| tail.id == file);
        let handle = newest.and_then(|tail| tail.handle.as_ref());
        handle.is_some_and(|handle| self.files.stat(handle).is_ok_and(|stat| stat.size <= end))
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
        self.ledger.pass_over(&span, pass.outputs);
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
        self.make_due(id, Due::NotBefore(due));
    }

    /// The lines go to their encoder.
    fn emit(&mut self, id: LogId, at: usize, reading: Reading, buf: Buffer, cut: Cut, now: Mono) {
        let dropped = cut.is_clean() && self.is_dropped(id, at, now);
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let bytes = &buf[..cut.take];
        let unfinished = u32::from(!cut.open.in_line() && bytes.last() != Some(&b'\n'));
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
        // What was seen beyond it may go on now.
        (pass.offset, pass.dry) = (end, pass.dry.min(end));
        pass.flush = None;
        let permit = pass.leave_open(&ticket, cut, self.settings.kept_bytes_max(), now);
        let pass = pass.id;
        let bell = &self.bell;
        let share = log.share.get_or_insert_with(|| Share::new(bell.clone()));
        let held = Some(share.hold());
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
            let mut read = |at: u64, into: &mut [u8]| files.read_at(handle, at, into);
            // Where it fails, the next lines try again.
            if identity::grow(&mut read, &mut tail.identity).is_ok() {
                self.ledger.identify(id, tail.id, tail.identity);
            }
        }
        self.reach(id, reading.file, end, &buf[..cut.take]);
        if source.standing == Standing::Bare {
            self.count.bare.add(u64::from(lines));
        }
        if dropped {
            ticket.note(LineFate::Withheld, ticket.outputs(), lines);
            ticket.settle();
            return self.count_dropped(id, span, now);
        }
        self.spend(id, cut.take as u64, now);
        let (base, len, open_tail) = (start, cut.take, cut.open.in_line());
        self.feed(Feed::Chunk(Chunk {
            source,
            pass,
            base,
            buf,
            len,
            open_tail,
            ticket,
            permit,
            held,
        }));
    }
}

impl Pass {
    /// Takes down what a chunk leaves open; gives the permit that is needed no more after it.
    fn leave_open(&mut self, ticket: &Ticket, cut: Cut, most: u64, now: Mono) -> Option<Permit> {
        if cut.is_clean() {
            return self.close();
        }
        let keeps = cut.open.keeps_any(most);
        self.age.sent(cut.take as u64, keeps, now);
        self.age.note(cut.open, now);
        self.open = cut.open;
        if !keeps {
            return self.let_go();
        }
        self.glue.get_or_insert_with(|| ticket.split(self.outputs));
        None
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
fn cut(bytes: &[u8], before: Open, full: bool, flush: bool, last: bool) -> Cut {
    let whole = memrchr(b'\n', bytes).map_or(0, |newline| newline + 1);
    if whole == 0 {
        if !(full || last) {
            return Cut {
                take: 0,
                open: before,
            };
        }
        let open = match bytes {
            [] => before,
            _ => boundary::within(bytes, before),
        };
        return Cut {
            take: bytes.len(),
            open: if last {
                boundary::finish(&[], open)
            } else {
                open
            },
        };
    }
    // The rest of a line that began in an earlier chunk is no line of its own.
    let (mut rest, mut open) = (0, before);
    if before.in_line() {
        rest = memchr(b'\n', bytes).map_or(whole, |newline| newline + 1);
        open = boundary::finish(&bytes[..rest], open);
    }
    let (clean, left) = boundary::scan(&bytes[rest..whole], open);
    if clean > 0 || (rest > 0 && open.is_none()) {
        return Cut {
            take: rest + clean,
            open: Open::default(),
        };
    }
    Cut {
        take: if full || flush { whole } else { 0 },
        open: left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_lines_unless_a_line_is_longer_than_the_buffer() {
        let check = |bytes: &str, full, last, take, in_line| {
            let got = cut(bytes.as_bytes(), Open::default(), full, last, last);
            assert_eq!((got.take, got.open.in_line()), (take, in_line), "{bytes:?}");
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
        let head = cut(b"t stdout P lo", Open::default(), true, false, false);
        assert!(head.open.in_line() && head.take == 13);
        // The rest looks like a whole record's line, and is none.
        let rest = b"t stdout F ng\nt stdout F x\n";
        let got = cut(rest, head.open, false, false, false);
        assert_eq!((got.take, got.open.is_none()), (rest.len(), true));
        let got = cut(&rest[..14], head.open, true, false, false);
        assert_eq!((got.take, got.open.is_none()), (14, false));
    }
}
