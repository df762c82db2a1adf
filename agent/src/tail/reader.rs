//! A reader: the turn of one thread that reads its share of the container logs.
//!
//! ```text
//! turn: news from discovery -> notices of the ledger -> events of the ring -> due logs -> serve
//! ```
//!
//! Ready logs take turns, one buffer each: deficit round robin with the buffer as its quantum.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use super::file::{self, Tail, Watch};
use super::log::{Log, Pass};
use super::ring::{Event, Ring, Token};
use crate::base::count::{Counter, Registry};
use crate::base::files::{Files, Stat};
use crate::base::outputs::{OutputId, OutputSet};
use crate::base::pool::Pool;
use crate::base::time::{Mono, Timestamp};
use crate::discover::{self, Place};
use crate::encode::Outlet;
use crate::ledger::{Ledger, Notice};
use crate::plan::StartAt;
use crate::ticket::{Feed, Feeds, FileId, LogId, PassId, Source};

/// What a reader is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its number, from 0; it has the logs with `log % readers == number`.
    pub number: usize,
    /// The wait after a read that found bytes, in milliseconds.
    pub pace_ms: u64,
    /// Milliseconds between two sweeps; 0 = none.
    pub sweep_ms: u64,
    /// By input: where files that were there before the first start are begun.
    pub start_at: Vec<StartAt>,
}

/// What a reader counts.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) wakes: Arc<Counter>,
    pub(super) reads: Arc<Counter>,
    pub(super) bytes: Arc<Counter>,
    pub(super) late: Arc<Counter>,
    pub(super) refused: Arc<Counter>,
    pub(super) errors: Arc<Counter>,
    pub(super) truncated: Arc<Counter>,
    pub(super) rejoins: Arc<Counter>,
    pub(super) short: Arc<Counter>,
    pub(super) files: Arc<Counter>,
}

impl Counters {
    fn new(registry: &Registry) -> Self {
        let count = |name, help| registry.counter(name, help, &[]);
        Self {
            wakes: count("tailwake_wakes_total", "Files woken by the rung."),
            reads: count("tailwake_reads_total", "Reads that ended."),
            bytes: count("tailwake_read_bytes_total", "Bytes read off disk."),
            late: count(
                "tailwake_sweep_late_finds_total",
                "Bytes that only the sweep found.",
            ),
            refused: count(
                "tailwake_files_refused_total",
                "Paths that are no log file.",
            ),
            errors: count("tailwake_read_errors_total", "Reads and opens that failed."),
            truncated: count(
                "tailwake_truncations_total",
                "Files that shrank below our place.",
            ),
            rejoins: count(
                "tailwake_output_rejoins_total",
                "Passes begun at a watermark.",
            ),
            short: count(
                "tailwake_short_reads_total",
                "Reads short of the announced end.",
            ),
            files: registry.gauge("tailwake_files_open", "Log files that are open.", &[]),
        }
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Something was done: take another turn at once.
    pub progress: bool,
    /// Otherwise: no later than this.
    pub deadline: Option<Mono>,
}

/// One reader.
#[derive(Debug)]
pub struct Reader<R: Ring, F> {
    pub(super) ring: R,
    pub(super) files: F,
    pub(super) ledger: Arc<Ledger>,
    pub(super) pool: Pool,
    pub(super) feeds: Vec<Arc<Feeds>>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    pub(super) settings: Settings,
    pub(super) count: Counters,
    pub(super) logs: HashMap<LogId, Log<R::File>, foldhash::fast::RandomState>,
    tokens: Vec<Option<LogId>>,
    free_tokens: Vec<u32>,
    pub(super) ready: VecDeque<LogId>,
    pub(super) due: BTreeSet<(Mono, LogId)>,
    /// Feeds that an encoder's queue had no room for, in order.
    pub(super) waiting: VecDeque<Feed>,
    next_pass: u32,
    next_sweep: Mono,
    attached: OutputSet,
    events: Vec<Event>,
    notices: Vec<Notice>,
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// A reader with no files yet.
    #[expect(clippy::too_many_arguments, reason = "each is a room or a seam")]
    pub fn new(
        settings: Settings,
        ring: R,
        files: F,
        ledger: Arc<Ledger>,
        pool: Pool,
        feeds: Vec<Arc<Feeds>>,
        outlets: Vec<Arc<Outlet>>,
        registry: &Registry,
    ) -> Self {
        Self {
            ring,
            files,
            ledger,
            pool,
            feeds,
            attached: OutputSet::first(outlets.len()),
            outlets,
            count: Counters::new(registry),
            logs: HashMap::default(),
            tokens: Vec::new(),
            free_tokens: Vec::new(),
            ready: VecDeque::new(),
            due: BTreeSet::new(),
            waiting: VecDeque::new(),
            next_pass: (settings.number as u32) << 28,
            next_sweep: Mono(0).plus_ms(settings.sweep_ms),
            events: Vec::new(),
            notices: Vec::new(),
            settings,
        }
    }

    /// The ring, for its park.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// One turn; `news` gives what discovery has to say, in order.
    ///
    /// # Errors
    /// The ring's, when it can no longer be drained at all.
    pub fn turn(
        &mut self,
        now: Mono,
        wall: Timestamp,
        news: &mut dyn FnMut() -> Option<discover::Event>,
    ) -> io::Result<Turn> {
        let mut progress = false;
        while let Some(event) = news() {
            progress = true;
            self.hear(event, now, wall);
        }
        self.heed_outputs();
        let mut events = std::mem::take(&mut self.events);
        self.ring.drain(&mut events)?;
        for event in events.drain(..) {
            progress = true;
            match event {
                Event::Woken(token) => self.woken(token),
                Event::Read { token, buf, result } => self.read_ended(token, buf, result, now),
            }
        }
        self.events = events;
        self.sweep(now);
        while let Some(&(due, log)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            if let Some(log) = self.logs.get_mut(&log) {
                log.due = None;
            }
            self.make_ready(log);
        }
        progress |= self.serve_ready(now);
        let due = self.due.first().map(|(due, _)| *due);
        let sweep = (self.settings.sweep_ms > 0).then_some(self.next_sweep);
        Ok(Turn {
            progress,
            deadline: due.into_iter().chain(sweep).min(),
        })
    }

    fn hear(&mut self, event: discover::Event, now: Mono, wall: Timestamp) {
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
            Err(error) => return self.refuse(&path, &error),
        };
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

    fn refuse(&self, path: &Path, error: &io::Error) {
        match error.kind() {
            // It came and went between the event and the open: discovery will say so.
            io::ErrorKind::NotFound => {}
            io::ErrorKind::InvalidInput => self.count.refused.add(1),
            _ => {
                self.count.errors.add(1);
                tracing::warn!(path = %path.display(), %error, "cannot open a log file; it is not read");
            }
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
        let registered = self.ledger.register(source, identity, start, |remembered| {
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
        let tail = Tail {
            id: registered.id,
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
        if tail.handle.take().is_some() {
            self.count.files.sub(1);
            self.ring.unwatch(tail.token);
            self.tokens[tail.token.0 as usize] = None;
            self.free_tokens.push(tail.token.0);
        }
    }

    fn woken(&mut self, token: Token) {
        let Some(id) = self.tokens.get(token.0 as usize).copied().flatten() else {
            return;
        };
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        self.count.wakes.add(1);
        // A closed file's token may be another's by now.
        let open = |tail: &&mut Tail<R::File>| tail.token == token && tail.handle.is_some();
        let mut reopened = None;
        if let Some(tail) = log.files.iter_mut().find(open) {
            tail.watch = Watch::Awake;
            tail.short_reads = 0;
            reopened = tail.end.take().map(|_| tail.id);
        }
        if let Some(file) = reopened {
            self.reopen(id, file);
        }
        self.make_ready(id);
    }

    /// A file that had ended was written to after all: passes that went on come back for it.
    fn reopen(&mut self, id: LogId, file: FileId) {
        self.ledger.set_end(id, file, None);
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let on = log.passes.iter().filter(|pass| pass.file != file);
        let on = on.fold(OutputSet::NONE, |on, pass| on.or(pass.outputs));
        on.iter().for_each(|output| self.part(id, output));
        self.join(id);
    }

    /// The log of a token.
    pub(super) fn log_of(&self, token: Token) -> Option<LogId> {
        self.tokens.get(token.0 as usize).copied().flatten()
    }

    pub(super) fn make_ready(&mut self, id: LogId) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        if !log.queued && log.due.is_none() && log.reading.is_none() {
            log.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Serves the log again at `due`, not before.
    pub(super) fn make_due(&mut self, id: LogId, due: Mono) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        if let Some(old) = log.due.replace(due) {
            self.due.remove(&(old, id));
        }
        self.due.insert((due, id));
    }

    pub(super) fn new_pass(&mut self) -> PassId {
        self.next_pass += 1;
        PassId(self.next_pass)
    }

    /// Who was detached leaves all passes; who is owed nothing and has an empty window comes back.
    fn heed_outputs(&mut self) {
        let mut notices = std::mem::take(&mut self.notices);
        self.ledger.notices(self.settings.number, &mut notices);
        for notice in notices.drain(..) {
            match notice {
                Notice::Failed(log, output) => {
                    self.part(log, output);
                    self.join(log);
                }
                Notice::Quiet(log, _) => self.join(log),
            }
        }
        self.notices = notices;
        for outlet in self.outlets.clone() {
            let output = OutputSet::one(outlet.output);
            if outlet.is_detached() && outlet.window() == 0 {
                outlet.attach();
            }
            let attached = !outlet.is_detached();
            if attached == self.attached.has(outlet.output) {
                continue;
            }
            let logs: Vec<LogId> = self.logs.keys().copied().collect();
            if attached {
                self.attached = self.attached.or(output);
                logs.into_iter().for_each(|log| self.join(log));
            } else {
                self.attached = self.attached.without(output);
                logs.into_iter()
                    .for_each(|log| self.part(log, outlet.output));
            }
        }
    }

    /// The output leaves its pass.
    pub(super) fn part(&mut self, id: LogId, output: OutputId) {
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let one = OutputSet::one(output);
        log.apart = log.apart.or(one);
        let Some(at) = log.passes.iter().position(|pass| pass.outputs.has(output)) else {
            return;
        };
        let pass = &mut log.passes[at];
        pass.outputs = pass.outputs.without(one);
        if let Some(glue) = &mut pass.glue {
            glue.forsake(one);
        }
        if pass.outputs.is_empty() {
            let pass = log.passes.remove(at).id;
            self.feed(Feed::Abandoned { log: id, pass });
        }
    }

    /// Every output that is apart, attached, and owed nothing begins a pass at its watermark.
    pub(super) fn join(&mut self, id: LogId) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        if log.files.is_empty() {
            return;
        }
        for output in log.apart.and(self.attached).iter() {
            if !self.ledger.is_quiet(id, output) {
                continue;
            }
            let Some(place) = self.place_of_watermark(id, output) else {
                continue;
            };
            let pass = self.new_pass();
            let Some(log) = self.logs.get_mut(&id) else {
                return;
            };
            let one = OutputSet::one(output);
            log.apart = log.apart.without(one);
            log.passes.push(Pass {
                id: pass,
                outputs: one,
                file: place.0,
                offset: place.1,
                dry: 0,
                open: Default::default(),
                in_line: false,
                glue: None,
                skips: true,
            });
            self.count.rejoins.add(1);
        }
        self.make_ready(id);
    }

    /// The oldest place in the log that the output has not settled.
    fn place_of_watermark(&self, id: LogId, output: OutputId) -> Option<(FileId, u64)> {
        let log = self.logs.get(&id)?;
        let mut place = None;
        for tail in &log.files {
            let (at, _) = self.ledger.next_unsettled(id, tail.id, output, 0);
            place = Some((tail.id, at));
            if tail.end != Some(at) {
                break;
            }
        }
        place
    }

    /// Looks at the size of every file that sleeps.
    fn sweep(&mut self, now: Mono) {
        if self.settings.sweep_ms == 0 || now < self.next_sweep {
            return;
        }
        self.next_sweep = now.plus_ms(self.settings.sweep_ms);
        let mut found = Vec::new();
        for (id, log) in &mut self.logs {
            for tail in &mut log.files {
                let Some(handle) = &tail.handle else { continue };
                let Ok(stat) = self.files.stat(handle) else {
                    continue;
                };
                let asleep = tail.watch == Watch::Asleep || !tail.watched;
                if asleep && stat.size != tail.seen_end {
                    tail.watch = Watch::Awake;
                    found.push((*id, tail.watched));
                }
            }
        }
        for (id, late) in found {
            if late {
                self.count.late.add(1);
            }
            self.make_ready(id);
        }
    }
}
