//! News from discovery: files are opened, told apart, registered, watched, and closed at last.
//!
//! While a descriptor is held no other file can have its number; a closed file is told by its birth
//! time or its content. A second file of the same content is a copy, and is not read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ends::READ_AGAIN_MS;
use super::file::{Tail, Watch};
use super::log::Log;
use super::opened::Opened;
use super::reader::Reader;
use super::ring::{Ring, Token};
use super::roll::Entry;
use crate::base::files::{Files, Refusal};
use crate::base::outputs::OutputSet;
use crate::base::time::{Mono, Timestamp};
use crate::discover::{self, Place, Rotated};
use crate::ledger::{Gap, Identity};
use crate::plan::StartAt;
use crate::ticket::{FileId, LogId, Source};

/// A file that could not be opened, as it was found.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) source: Arc<Source>,
    place: Place,
    begin: Begin,
    /// Its name is gone: renamed, which the next news say, or deleted.
    pub(super) gone: bool,
}

/// Where a file that no position is known of is begun.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// It came while the agent ran: at its first byte.
    Fresh,
    /// It was there before the agent, which started at this time: as `start_at` says.
    WasThere(Timestamp),
    /// Its pod had opted out so far: at its present end.
    AtEnd,
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    pub(super) fn hear(&mut self, event: discover::Event, now: Mono, wall: Timestamp) {
        match event {
            discover::Event::Found {
                source,
                path,
                place,
                at_start,
                at_end,
            } => {
                let begin = match (at_end, at_start) {
                    (true, _) => Begin::AtEnd,
                    (false, true) => Begin::WasThere(wall),
                    (false, false) => Begin::Fresh,
                };
                self.found(&source, path, place, begin, now);
            }
            discover::Event::Moved {
                source,
                from,
                to,
                place,
            } => {
                self.gone(source.log, &from, now);
                self.found(&source, to, place, Begin::Fresh, now);
            }
            discover::Event::Gone { source, path } => self.gone(source.log, &path, now),
            discover::Event::Changed { source } => self.changed(&source),
            discover::Event::Ended { source } => {
                let of_log = |_: &PathBuf, file: &mut Unopened| file.source.log == source.log;
                let never: Vec<_> = self.unopened.extract_if(.., of_log).collect();
                for (path, file) in never {
                    self.count.unopened.sub(u64::from(!file.gone));
                    self.lose_unopened(source.log, &path, now);
                }
                self.refused.retain(|_, log| *log != source.log);
                self.count_missed(&source, now);
                if let Some(log) = self.logs.get_mut(&source.log) {
                    log.ended = true;
                    self.make_ready(source.log);
                }
            }
        }
    }

    fn gone(&mut self, id: LogId, path: &Path, now: Mono) {
        self.refused.remove(path);
        if let Some(file) = self.unopened.get_mut(path)
            && !file.gone
        {
            file.gone = true;
            self.count.unopened.sub(1);
            if file.place.rotated != Rotated::Current {
                // What was rotated away is not renamed again: it is deleted.
                self.unopened.remove(path);
                self.lose_unopened(id, path, now);
            }
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        for tail in log.files.iter_mut().filter(|tail| !tail.gone) {
            if tail.copy.as_deref() == Some(path) {
                tail.copy = None;
            } else if tail.path == path {
                tail.lose_name(now);
            }
        }
        self.make_ready(id);
    }

    fn found(
        &mut self,
        source: &Arc<Source>,
        path: PathBuf,
        place: Place,
        begin: Begin,
        now: Mono,
    ) {
        if place.rotated != Rotated::Current {
            // This is what went away from the name that is written to.
            self.unopened.retain(|_, file| {
                let same = (file.source.log, file.place.attempt) == (source.log, place.attempt);
                !(file.gone && same)
            });
        }
        let taken = Opened::open(&self.files, &path)
            .and_then(|opened| self.take_up(source, &path, place, opened, begin, now));
        let remembered = match taken {
            Ok(remembered) => remembered,
            Err(error) => {
                let source = Arc::clone(source);
                let file = Unopened {
                    source,
                    place,
                    begin,
                    gone: false,
                };
                return self.refuse(path, file, &error, now);
            }
        };
        self.unseen.remove(&source.log);
        self.refused.remove(&path);
        if let Some(file) = self.unopened.remove(&path) {
            self.count.unopened.sub(u64::from(!file.gone));
        }
        if let Some(log) = self.logs.get_mut(&source.log) {
            log.settle_places(place);
            log.files.sort_by_key(Tail::order);
        }
        self.come_back(source.log, remembered);
        self.join(source.log);
        self.make_ready(source.log);
    }

    /// Finds out which file an open one is: one of the log's, a copy of one, or another, which is
    /// registered. Says whether the positions file knew that.
    fn take_up(
        &mut self,
        source: &Arc<Source>,
        path: &Path,
        place: Place,
        mut opened: Opened<R::File>,
        begin: Begin,
        now: Mono,
    ) -> io::Result<bool> {
        let outputs = OutputSet::first(self.outlets.len());
        let pace_ms = self.settings.pace_ms;
        let log = self
            .logs
            .entry(source.log)
            .or_insert_with(|| Box::new(Log::new(Arc::clone(source), outputs, pace_ms)));
        if log.allowance.is_none() {
            log.allowance = self.settings.rates.allow(source);
        }
        log.ended = false;
        let files = &self.files;
        let mut known = None;
        for (at, tail) in log.files.iter_mut().enumerate() {
            let is_it = opened.is_file_of(files, tail, path)?;
            if is_it {
                known.get_or_insert(at);
            } else if tail.path == path {
                // The name is this file's now: another that bore it has none any more.
                tail.lose_name(now);
            }
        }
        if let Some(tail) = known.and_then(|at| log.files.get_mut(at)) {
            (tail.place, tail.gone, tail.stirred) = (place, false, now);
            path.clone_into(&mut tail.path);
            return Ok(false);
        }
        for tail in &mut log.files {
            if opened.is_copy_of(files, tail, path)? {
                tail.copy = Some(path.to_owned());
                self.count.copies.add(1);
                return Ok(false);
            }
        }
        self.register(source, path.to_owned(), place, opened, begin, now)
    }

    /// A file that was renamed before it was opened is found after its successor: passes that are
    /// past it already come back for it. Where the new file is `remembered`, all begin again at
    /// their watermarks: its outputs have come to different places in it.
    fn come_back(&mut self, id: LogId, remembered: bool) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let mut back = OutputSet::NONE;
        for pass in &log.passes {
            let mut before = log.files[..log.place_of(pass.file).unwrap_or(0)].iter();
            if remembered || before.any(|tail| tail.end.is_none()) {
                back = back.or(pass.outputs);
            }
        }
        back.iter().for_each(|output| self.part(id, output));
    }

    fn refuse(&mut self, path: PathBuf, file: Unopened, error: &io::Error, now: Mono) {
        let key = ("open", error.kind());
        match error.kind() {
            // It came and went between the event and the open; if its directory goes too before
            // anything else of the log is opened, a whole container was missed.
            io::ErrorKind::NotFound => {
                if !self.logs.contains_key(&file.source.log) {
                    self.unseen.insert(file.source.log);
                }
            }
            // A name may be told of several times; it is counted once while it is there.
            io::ErrorKind::InvalidInput if self.refused.contains_key(&path) => {}
            io::ErrorKind::InvalidInput => {
                self.count.refused.add(1);
                let reason = Refusal::of(error).map_or("refused", Refusal::reason);
                if let Some(suppressed) = self.quiet.allow(now, reason) {
                    tracing::warn!(path = %path.display(), %error, suppressed,
                        "no log file after all; it is not read: remove it");
                }
                self.refused.insert(path, file.source.log);
            }
            kind => {
                self.count.open_errors.add(1);
                if kind != io::ErrorKind::PermissionDenied {
                    self.open_again_at.get_or_insert(now.plus_ms(READ_AGAIN_MS));
                }
                if let Some(suppressed) = self.quiet.allow(now, key) {
                    tracing::error!(path = %path.display(), %error, suppressed,
                        "cannot open a log file; it is tried again, and lost when it is deleted \
                         before: give the agent the right to read it (CAP_DAC_READ_SEARCH), or more \
                         descriptors if this is EMFILE");
                }
                self.ledger.spare(&file.source.key);
                if self.unopened.insert(path, file).is_none_or(|old| old.gone) {
                    self.count.unopened.add(1);
                }
            }
        }
    }

    fn count_missed(&mut self, source: &Source, now: Mono) {
        if !self.unseen.remove(&source.log) {
            return;
        }
        self.count.missed.add(1);
        if let Some(suppressed) = self.quiet.allow(now, "missed") {
            tracing::warn!(log = %source.key, suppressed,
                "a container was gone before a file of it could be opened: its lines are lost");
        }
    }

    /// A file was deleted before it could be opened: how many bytes it had is known to nobody.
    fn lose_unopened(&mut self, id: LogId, path: &Path, now: Mono) {
        self.ledger.gap(id, Gap::Unopened);
        self.count.unread.iter().for_each(|lost| lost.files.add(1));
        if let Some(suppressed) = self.quiet.allow(now, "lost") {
            tracing::error!(path = %path.display(), suppressed,
                "a log file was deleted before it could be opened; its lines are lost: give the \
                 agent the right to read it");
        }
    }

    /// Tries again what could not be opened.
    pub(super) fn open_again(&mut self, now: Mono) {
        self.open_again_at = None;
        let unopened: Vec<PathBuf> = self.unopened.keys().cloned().collect();
        for path in unopened {
            let Some(file) = self.unopened.get(&path).filter(|file| !file.gone) else {
                continue;
            };
            let (source, place, begin) = (Arc::clone(&file.source), file.place, file.begin);
            self.found(&source, path, place, begin, now);
        }
    }

    /// Takes up a file; says whether the positions file knew it.
    fn register(
        &mut self,
        source: &Arc<Source>,
        path: PathBuf,
        place: Place,
        mut opened: Opened<R::File>,
        begin: Begin,
        now: Mono,
    ) -> io::Result<bool> {
        let mut identity = opened.identify(&self.files)?;
        let remembered = self.ledger.remembered(&source.key);
        let mut known = None;
        for file in &remembered {
            if opened.is_same(&self.files, &file.identity)? {
                known = Some(file);
                break;
            }
        }
        for file in remembered.iter().filter(|_| known.is_none()) {
            if opened.is_copy(&self.files, &file.identity)? {
                known = Some(file);
                break;
            }
        }
        if let Some(known) = known {
            let was = &known.identity;
            (identity.last_at, identity.last_len, identity.last) =
                (was.last_at, was.last_len, was.last);
        }
        let rule = (self.settings.start_at.get(source.input).copied()).unwrap_or_default();
        let size = opened.size_at_most();
        let start = |log_known: bool| match (begin, rule) {
            (Begin::AtEnd, _) => size,
            (Begin::Fresh, _) | (_, StartAt::Beginning) => 0,
            // A file that came while the agent was down belongs to a log it knows.
            _ if log_known => 0,
            (Begin::WasThere(_), StartAt::End) => size,
            (Begin::WasThere(wall), StartAt::Age { secs }) => {
                let age = wall.secs.saturating_sub(opened.stat.modified.secs);
                if u64::try_from(age).unwrap_or(0) > secs {
                    size
                } else {
                    0
                }
            }
        };
        let was = known.map(|known| &known.identity);
        let id = self.ledger.register(source, identity, start, was);
        match (&opened.packed, known.and_then(|known| known.end)) {
            (None, _) => self.ledger.saw(source.log, id, opened.stat.size),
            (Some(_), Some(end)) => self.ledger.saw(source.log, id, end),
            (Some(_), None) => self.ledger.sizeless(source.log, id),
        }
        // What is compressed has ended; where its end is known, it need not be inflated for it.
        let end = known.and_then(|known| known.end);
        let end = end.filter(|_| opened.packed.is_some());
        if end.is_some() {
            self.ledger.set_end(source.log, id, end);
        }
        let mut tail = self.enter(source, path, place, opened, (id, identity), now);
        tail.end = end;
        if let Some(log) = self.logs.get_mut(&source.log) {
            // However long ago it was renamed: lines reach it until the runtime has opened this one.
            if let Some(newest) = log.files.last_mut() {
                newest.stirred = now;
            }
            log.files.push(tail);
        }
        Ok(known.is_some())
    }

    /// Gives an open file its number in the ring, and watches it.
    pub(super) fn enter(
        &mut self,
        source: &Arc<Source>,
        path: PathBuf,
        place: Place,
        opened: Opened<R::File>,
        (id, identity): (FileId, Identity),
        now: Mono,
    ) -> Tail<R::File> {
        let Opened {
            handle,
            stat,
            packed,
        } = opened;
        let token = self.new_token(source.log);
        let watched = packed.is_none()
            && match self.ring.watch(token, &handle, stat.inode) {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "not watched: the sweep serves it");
                    false
                }
            };
        self.count.files.add(1);
        let rung = self.ring.rung_of(token);
        let entry = self.settings.roll.enter(source.log, rung, stat.inode);
        Tail {
            id,
            token,
            source: Arc::clone(source),
            path,
            place,
            gone: false,
            handle: Some(handle),
            packed,
            copy: None,
            shrunk: None,
            proven: true,
            identity,
            watch: Watch::Awake,
            watched,
            seen_end: 0,
            end: None,
            stirred: now,
            entry,
            short_reads: 0,
        }
    }

    fn new_token(&mut self, log: LogId) -> Token {
        if let Some(free) = self.free_tokens.pop() {
            self.tokens[free as usize] = Some(log);
            return Token(free);
        }
        self.tokens.push(Some(log));
        Token(self.tokens.len() as u32 - 1)
    }

    /// Closes a file's descriptor and ends its watch.
    pub(super) fn close(&mut self, log: LogId, id: FileId) {
        let Some(tail) = self.logs.get_mut(&log).and_then(|log| log.file(id)) else {
            return;
        };
        if let Some(handle) = tail.handle.take() {
            let (token, entry) = (tail.token, Arc::clone(&tail.entry));
            if tail.packed.take().is_none()
                && let Ok(stat) = self.files.stat(&handle)
            {
                // The last word on it.
                self.ledger.saw(log, id, stat.size);
            }
            // The watch first: once the descriptor is closed another file may get the inode number.
            self.unenter(log, token, &entry);
            drop(handle);
        }
    }

    /// Takes back what [`Self::enter`] gave.
    pub(super) fn unenter(&mut self, log: LogId, token: Token, entry: &Arc<Entry>) {
        self.count.files.sub(1);
        self.settings.roll.leave(log, entry);
        self.ring.unwatch(token);
        self.tokens[token.0 as usize] = None;
        self.free_tokens.push(token.0);
    }
}
