//! News from discovery: files are opened, told apart, registered, watched, and closed at last.
//!
//! While a descriptor is held no other file can have its number; a closed file is told by its birth
//! time or first bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, Tail, Watch};
use super::log::Log;
use super::reader::Reader;
use super::ring::{Ring, Token};
use crate::base::files::{Files, Refusal, Stat};
use crate::base::outputs::OutputSet;
use crate::base::time::{Mono, Timestamp};
use crate::discover::{self, Place};
use crate::plan::StartAt;
use crate::ticket::{FileId, LogId, Source};

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    pub(super) fn hear(&mut self, event: discover::Event, now: Mono, wall: Timestamp) {
        match event {
            discover::Event::Found {
                source,
                path,
                place,
                at_start,
            } => {
                self.found(&source, path, place, at_start.then_some(wall), now);
            }
            discover::Event::Moved {
                source,
                from,
                to,
                place,
            } => {
                self.gone(source.log, &from, now);
                self.found(&source, to, place, None, now);
            }
            discover::Event::Gone { source, path } => self.gone(source.log, &path, now),
            discover::Event::Ended { source } => {
                if let Some(log) = self.logs.get_mut(&source.log) {
                    log.ended = true;
                    self.make_ready(source.log);
                }
                self.count_missed(&source, now);
            }
        }
    }

    fn gone(&mut self, id: LogId, path: &Path, now: Mono) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        for tail in log
            .files
            .iter_mut()
            .filter(|tail| tail.path == path && !tail.gone)
        {
            tail.gone = true;
            tail.stirred = now;
        }
        self.make_ready(id);
    }

    /// `at_start` bears the wall clock when the file was there before the agent.
    fn found(
        &mut self,
        source: &Arc<Source>,
        path: PathBuf,
        place: Place,
        at_start: Option<Timestamp>,
        now: Mono,
    ) {
        let opened = self.files.open_log(&path).and_then(|handle| {
            let stat = self.files.stat(&handle)?;
            Ok((handle, stat))
        });
        let (handle, stat) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.refuse(source, &path, &error, now),
        };
        self.unopened.remove(&source.log);
        let outputs = OutputSet::first(self.outlets.len());
        let pace_ms = self.settings.pace_ms;
        let log = self
            .logs
            .entry(source.log)
            .or_insert_with(|| Log::new(Arc::clone(source), outputs, pace_ms));
        log.ended = false;
        // While we hold a descriptor no other file can have its number. A closed file is told by its
        // birth or its first bytes: its number may be another's by now.
        let files = &self.files;
        let same = |tail: &&mut Tail<R::File>| {
            let was = &tail.identity;
            (was.device, was.inode) == (stat.device, stat.inode)
                && (tail.handle.is_some()
                    || ((stat.born_ns.is_some() || was.head_len > 0)
                        && file::is_same(files, &handle, &stat, was)))
        };
        if let Some(tail) = log.files.iter_mut().find(same) {
            (tail.path, tail.place, tail.gone, tail.stirred) = (path, place, false, now);
        } else {
            self.register(source, path, place, handle, stat, at_start, now);
        }
        if let Some(log) = self.logs.get_mut(&source.log) {
            log.files.sort_by_key(Tail::order);
        }
        self.join(source.log);
        self.make_ready(source.log);
    }

    fn refuse(&mut self, source: &Source, path: &Path, error: &io::Error, now: Mono) {
        let path = path.display();
        if let Some(refusal) = Refusal::of(error) {
            self.count.refused.add(1);
            if let Some(suppressed) = self.quiet.allow(now, refusal.reason()) {
                tracing::warn!(%path, %refusal, suppressed, "a file is not read");
            }
            return;
        }
        if error.kind() == io::ErrorKind::NotFound {
            // It came and went between the event and the open; if its directory goes too before
            // anything else of the log is opened, a whole container was missed.
            if !self.logs.contains_key(&source.log) {
                self.unopened.insert(source.log);
            }
            return;
        }
        self.count.errors.add(1);
        if let Some(suppressed) = self.quiet.allow(now, error.kind()) {
            tracing::warn!(%path, %error, suppressed, "cannot open a log file; it is not read");
        }
    }

    fn count_missed(&mut self, source: &Source, now: Mono) {
        if !self.unopened.remove(&source.log) {
            return;
        }
        self.count.missed.add(1);
        if let Some(suppressed) = self.quiet.allow(now, "missed") {
            tracing::warn!(log = %source.key, suppressed,
                "a container was gone before a file of it could be opened: its lines are lost");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one open file")]
    fn register(
        &mut self,
        source: &Arc<Source>,
        path: PathBuf,
        place: Place,
        handle: R::File,
        stat: Stat,
        at_start: Option<Timestamp>,
        now: Mono,
    ) {
        let identity = file::identify(&self.files, &handle, &stat);
        let rule = self
            .settings
            .start_at
            .get(source.input)
            .copied()
            .unwrap_or_default();
        let start = |log_known: bool| match (at_start, rule) {
            (None, _) | (_, StartAt::Beginning) => 0,
            // A file that came while the agent was down belongs to a log it knows.
            _ if log_known => 0,
            (Some(_), StartAt::End) => stat.size,
            (Some(wall), StartAt::Age { secs }) => {
                let age = wall.secs.saturating_sub(stat.modified.secs);
                if u64::try_from(age).unwrap_or(0) > secs {
                    stat.size
                } else {
                    0
                }
            }
        };
        let files = &self.files;
        let id = self.ledger.register(source, identity, start, |remembered| {
            file::is_same(files, &handle, &stat, remembered)
        });
        let token = self.new_token(source.log);
        let watched = match self.ring.watch(token, &handle, stat.inode) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "not watched: the sweep serves it");
                false
            }
        };
        self.count.files.add(1);
        let rung = self.ring.rung_of(token);
        let entry = self.settings.roll.enter(source.log, rung, stat.inode);
        let tail = Tail {
            id,
            token,
            source: Arc::clone(source),
            path,
            place,
            gone: false,
            handle: Some(handle),
            identity,
            watch: Watch::Awake,
            watched,
            seen_end: 0,
            end: None,
            stirred: now,
            entry,
            short_reads: 0,
        };
        if let Some(log) = self.logs.get_mut(&source.log) {
            log.files.push(tail);
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
            self.count.files.sub(1);
            self.settings.roll.leave(log, &tail.entry);
            // The watch first: once the descriptor is closed another file may get the inode number.
            self.ring.unwatch(tail.token);
            drop(handle);
            self.tokens[tail.token.0 as usize] = None;
            self.free_tokens.push(tail.token.0);
        }
    }
}
