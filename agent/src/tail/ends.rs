//! How files end: read to their end and quiet, truncated, or read and delivered.
//!
//! 1. Nothing that was written and cannot be read any more goes uncounted: [`Reader::lose`].
//! 2. A file's entry in the ledger goes when its last name is gone and every output has it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{Tail, Watch};
use super::identity;
use super::log::{Due, Reading};
use super::opened::Opened;
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::base::outputs::OutputSet;
use crate::base::time::Mono;
use crate::discover::Place;
use crate::ledger::Identity;
use crate::ticket::{Feed, FileId, LogId};

/// Reads that may come back short of an announced end before it is given up: a write can fail.
const SHORT_READS_MAX: u32 = 1_000;

/// How soon settled files are closed.
const CLOSE_MS: u64 = 250;

/// A read that failed is tried again after so long.
pub(super) const READ_AGAIN_MS: u64 = 1_000;

/// After a truncation discovery gets this long to find the copy that was made before it.
const COPY_MS: u64 = 100;

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// A read found nothing new: arm and look again, sleep, or end the file.
    pub(super) fn found_nothing(&mut self, id: LogId, reading: Reading, read: usize, now: Mono) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let Some(place) = log.place_of(reading.file) else {
            return;
        };
        if read == 0 && self.shrank(id, reading) {
            return match self.truncated(id, reading.file, now) {
                Some(due) => self.make_due(id, Due::AtLatest(due)),
                None => self.make_ready(id),
            };
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let tail_end = log.files[place].seen_end;
        let tail = &mut log.files[place];
        if reading.last && read == 0 {
            tail.end = Some(reading.offset);
            if tail.packed.is_some() {
                // Its trailer has held: this is its plain size.
                self.ledger.saw(id, reading.file, reading.offset);
            }
            self.ledger.set_end(id, reading.file, Some(reading.offset));
            return self.make_ready(id);
        }
        match tail.watch {
            Watch::Awake => {
                let armed = tail.watched && self.ring.arm(tail.token).is_ok();
                tail.set_watch(if armed { Watch::Armed } else { Watch::Asleep });
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
                    return self.make_due(id, Due::NotBefore(now.plus_ms(1)));
                }
                if let Some(end) = expected {
                    self.ledger.announced(id, reading.file, end);
                }
                if short {
                    self.ledger.disbelieve(id, reading.file);
                }
                tail.set_watch(Watch::Asleep);
                (log.busy, log.slept) = (0, now);
            }
            Watch::Asleep => {}
        }
        self.make_ready(id);
    }

    pub(super) fn shrank(&self, id: LogId, reading: Reading) -> bool {
        let Some(log) = self.logs.get(&id) else {
            return false;
        };
        let tail = log.files.iter().find(|tail| tail.id == reading.file);
        let plain = tail.filter(|tail| tail.packed.is_none());
        let Some(handle) = plain.and_then(|tail| tail.handle.as_ref()) else {
            return false;
        };
        self.files
            .stat(handle)
            .is_ok_and(|stat| stat.size < reading.offset)
    }

    /// Whether the file still holds what was read of it last; looked at once after each rest.
    ///
    /// # Errors
    /// The system's: nothing is known then, and it is looked at again.
    pub(super) fn is_proven(&mut self, id: LogId, place: usize) -> io::Result<bool> {
        let Some(tail) = (self.logs.get_mut(&id)).and_then(|log| log.files.get_mut(place)) else {
            return Ok(true);
        };
        let Some(handle) = tail.handle.as_ref().filter(|_| !tail.proven) else {
            return Ok(true);
        };
        let files = &self.files;
        let mut read = |at: u64, into: &mut [u8]| files.read_at(handle, at, into);
        tail.proven = tail.packed.is_some() || identity::has_grown(&mut read, &tail.identity)?;
        if tail.proven {
            tail.shrunk = None;
        }
        Ok(tail.proven)
    }

    /// A read or a stat of an open log failed: counted, said, and tried again then.
    pub(super) fn read_failed(&mut self, id: LogId, error: &io::Error, now: Mono) -> Mono {
        self.count.errors.add(1);
        let key = self.logs.get(&id).map(|log| Arc::clone(&log.source.key));
        if let Some(suppressed) = self.quiet.allow(now, ("read", error.kind())) {
            tracing::error!(log = key.as_deref(), %error, suppressed,
                "a read failed; tried again every second, nothing is skipped: see the kernel's log \
                 for what ails the disk");
        }
        now.plus_ms(READ_AGAIN_MS)
    }

    /// The file was truncated: what is there now is a new generation. Bytes of the old one that were
    /// not read are taken from its copy, where logrotate has made one; discovery gets a moment to
    /// find it. Says until when to wait for that.
    pub(super) fn truncated(&mut self, id: LogId, old: FileId, now: Mono) -> Option<Mono> {
        let tail = self.logs.get_mut(&id).and_then(|log| log.file(old))?;
        let due = tail.shrunk.get_or_insert(now).plus_ms(COPY_MS);
        if now < due && tail.copy.is_none() {
            return Some(due);
        }
        let handle = tail.handle.as_ref()?;
        let files = &self.files;
        let found = files.stat(handle).and_then(|stat| {
            let mut read = |at: u64, into: &mut [u8]| files.read_at(handle, at, into);
            let copy = copy_of(files, tail)?;
            Ok((stat, identity::identify(&mut read, &stat)?, copy))
        });
        let (stat, identity, copy) = match found {
            Ok(found) => found,
            Err(error) => return Some(self.read_failed(id, &error, now)),
        };
        let (place, key) = (tail.place, Arc::clone(&tail.source.key));
        let word = self.ring.expected_end(tail.token);
        // Written since, the word is of the new content.
        let (seen, empty) = (tail.seen_end, stat.size == 0);
        self.count.truncated.add(1);
        let opened = Opened {
            handle: tail.handle.take()?,
            stat,
            packed: None,
        };
        self.ledger.saw(id, old, seen);
        if let Some(end) = word.filter(|_| empty) {
            self.ledger.announced(id, old, end);
        }
        self.renew(id, old, (opened, identity), place, now);
        let kept = copy.is_some();
        if let Some((path, copy)) = copy {
            self.stand_in(id, old, path, copy, now);
        }
        if !kept {
            let lost = self.lose(id, old);
            self.forget(id, old);
            if let Some(suppressed) = self.quiet.allow(now, "truncated") {
                tracing::warn!(
                    log = &*key,
                    lost,
                    suppressed,
                    "a file was truncated and no copy of it was found; it is read from its start, and \
                     what was not read before is lost: rotate by renaming, as kubelet does"
                );
            }
        }
        if let Some(log) = self.logs.get_mut(&id) {
            log.files.sort_by_key(Tail::order);
        }
        self.join(id);
        None
    }

    /// Makes a new generation of an open file; the old one is left without descriptor and watch.
    fn renew(
        &mut self,
        id: LogId,
        old: FileId,
        (opened, identity): (Opened<R::File>, Identity),
        place: Place,
        now: Mono,
    ) {
        let Some(tail) = self.logs.get_mut(&id).and_then(|log| log.file(old)) else {
            return;
        };
        let (source, path, token) = (Arc::clone(&tail.source), tail.path.clone(), tail.token);
        (tail.gone, tail.watched) = (true, false);
        let entry = Arc::clone(&tail.entry);
        self.unenter(id, token, &entry);
        let fresh = self.ledger.register(&source, identity, |_| 0, None);
        let tail = self.enter(&source, path, place, opened, (fresh, identity), now);
        if let Some(log) = self.logs.get_mut(&id) {
            log.files.push(tail);
        }
    }

    /// The copy stands in for the old generation, which is read on in it.
    fn stand_in(
        &mut self,
        id: LogId,
        old: FileId,
        path: PathBuf,
        copy: Opened<R::File>,
        now: Mono,
    ) {
        let Some(tail) = self.logs.get_mut(&id).and_then(|log| log.file(old)) else {
            return;
        };
        let (identity, source, place) = (tail.identity, Arc::clone(&tail.source), tail.place);
        let end = tail.end;
        let mut stand_in = self.enter(&source, path, place, copy, (old, identity), now);
        stand_in.end = end;
        if let Some(tail) = self.logs.get_mut(&id).and_then(|log| log.file(old)) {
            *tail = stand_in;
        }
    }

    /// Counts what is known to have been written to a file and can no longer be read; gives the worst
    /// output's bytes.
    fn lose(&self, id: LogId, file: FileId) -> u64 {
        let Some((log, place)) =
            (self.logs.get(&id)).and_then(|log| Some((log, log.place_of(file)?)))
        else {
            return 0;
        };
        let mut worst = 0;
        let tail = &log.files[place];
        let written = self.ledger.written(id, file);
        let written = written.max(tail.seen_end).max(tail.identity.last_at);
        for output in OutputSet::first(self.outlets.len()).iter() {
            // What is in flight may still be settled; if it fails, the ledger counts it.
            let pass = log.passes.iter().find(|pass| pass.outputs.has(output));
            let at = pass.and_then(|pass| Some((log.place_of(pass.file)?, pass.offset)));
            let (settled, _) = self.ledger.next_unsettled(id, file, output, 0);
            let read = match at {
                Some((at, _)) if at > place => written,
                Some((at, offset)) if at == place => offset,
                _ => settled,
            };
            let lost = written.saturating_sub(read);
            if lost == 0 {
                continue;
            }
            self.ledger.lose(id, output, lost);
            if let Some(unread) = self.count.unread.get(output.index()) {
                unread.files.add(1);
                unread.bytes.add(lost);
            }
            worst = worst.max(lost);
        }
        self.ledger.lose_unread(id, file);
        worst
    }

    /// The file's content is gone: outputs that were in it go on with the next.
    fn forget(&mut self, id: LogId, file: FileId) {
        self.ledger.forget(id, file);
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        log.files.retain(|tail| tail.id != file);
        let inside = log.passes.iter().filter(|pass| pass.file == file);
        let inside = inside.fold(OutputSet::NONE, |all, pass| all.or(pass.outputs));
        inside.iter().for_each(|output| self.part(id, output));
    }

    /// A compressed file cannot be read on: what was not read of it is lost.
    pub(super) fn give_up(&mut self, id: LogId, reading: Reading, error: &io::Error, now: Mono) {
        let Some(tail) = self
            .logs
            .get_mut(&id)
            .and_then(|log| log.file(reading.file))
        else {
            return;
        };
        tail.end = Some(reading.offset);
        self.ledger.set_end(id, reading.file, Some(reading.offset));
        let path = tail.path.clone();
        let lost = self.lose(id, reading.file);
        if let Some(suppressed) = self.quiet.allow(now, "packed") {
            tracing::error!(path = %path.display(), %error, offset = reading.offset, lost, suppressed,
                "a compressed log cannot be read on; what follows in it is lost: see what is wrong \
                 with the disk, or with who compresses");
        }
        self.make_ready(id);
    }

    /// Closes files that every output has, forgets those that are deleted, and ends the log. Says
    /// when to look again; reads do not wait for it.
    pub(super) fn close_done(&mut self, id: LogId, now: Mono) -> Option<Mono> {
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
            let passes = log.passes.iter().enumerate();
            let open: Vec<usize> = (passes.filter(|(_, pass)| !pass.is_clean()))
                .map(|(at, _)| at)
                .collect();
            open.into_iter().for_each(|at| self.finish(id, at, now));
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
            self.settings.roll.forget(id);
            self.logs.remove(&id);
        }
        None
    }
}

/// The file's copy under another name, if there is one yet and it still has the content.
fn copy_of<F: Files>(
    files: &F,
    tail: &Tail<F::File>,
) -> io::Result<Option<(PathBuf, Opened<F::File>)>> {
    let Some(path) = &tail.copy else {
        return Ok(None);
    };
    let mut copy = match Opened::open(files, path) {
        Ok(copy) => copy,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_one = copy.is_copy(files, &tail.identity)?;
    Ok(is_one.then(|| (path.clone(), copy)))
}
