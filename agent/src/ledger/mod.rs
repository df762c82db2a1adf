//! The ledger: how far each output has come in each file of each container log.
//!
//! ```text
//! reader: register(file) ... open(span) -> Ticket
//! lanes:  Ticket::settle -> settled(span, output) -> Mark          (any order)
//! reader: watermark, owing, notices     disk: snapshot -> positions file
//! ```
//!
//! 1. An output's watermark never moves backwards within one generation of a file.
//! 2. It never passes a byte that this output has not settled.
//! 3. Nothing here reads a clock, a file or a socket.
//! 4. One lock, held for a few hundred nanoseconds a chunk and output; no call waits under it, and what
//!    copies all logs takes it for a slice of them at a time.
//! 5. What was written, read, settled and lost is counted apart: `account.rs`.

pub mod account;
mod log;
pub mod marks;
pub mod positions;
mod snapshot;
pub mod unfound;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

pub use account::{Account, Gap, Gaps, LogAccount, OutputAccount};
use log::{File, Log};
pub use marks::Mark;
use positions::{FilePositions, Positions};
pub use unfound::{Forgotten, Unread, UnreadCount};

use crate::base::bell::Bell;
use crate::base::outputs::{OutputId, OutputSet};
use crate::ticket::{FileId, LineFates, LogId, Settle, Source, Span, Ticket};

/// Which file it is. (device, inode) alone is no identity: ext4 gives the number of the file that
/// was just deleted to the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since the epoch, where the file system has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_ns: Option<i64>,
    /// How many first bytes `head` is the hash of.
    pub head_len: u32,
    /// xxh3 of the first `head_len` bytes.
    pub head: u64,
    /// The highest place that was read; 0 = none.
    #[serde(default)]
    pub last_at: u64,
    /// How many bytes before it `last` is the hash of.
    #[serde(default)]
    pub last_len: u8,
    /// xxh3 of the `last_len` bytes before `last_at`.
    #[serde(default)]
    pub last: u64,
}

/// What a reader must look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A claim was dropped: the output goes back to its watermark in this log.
    Failed(LogId, OutputId),
    /// Nothing of the log is owed to the output any more, as the reader wanted to know.
    Quiet(LogId, OutputId),
    /// Something of the log was settled, which was behind.
    Settled(LogId),
}

#[derive(Debug, Default)]
struct Inner {
    /// Boxed: a table has room for twice as many as there are.
    logs: HashMap<LogId, Box<Log>, foldhash::fast::FixedState>,
    /// What the positions file said of logs and files that have not been found yet.
    remembered: HashMap<String, Vec<FilePositions>, foldhash::fast::RandomState>,
    /// Logs with files that are there and could not be opened: theirs are not forgotten.
    spared: HashSet<String, foldhash::fast::RandomState>,
    notices: Vec<Vec<Notice>>,
    /// By output: tickets that owe it something, in all logs.
    owed: Vec<u64>,
    /// Detached outputs that readers wait to be owed nothing.
    awaited: OutputSet,
    next_file: u64,
    /// Changes since the last snapshot; the bell rings at the first.
    dirty: bool,
    changed: Option<Bell>,
}

impl Inner {
    fn change(&mut self) {
        if std::mem::replace(&mut self.dirty, true) {
            return;
        }
        if let Some(bell) = &self.changed {
            bell.ring();
        }
    }
}

/// A file as the positions file knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Which file it is.
    pub identity: Identity,
    /// Its size, when nothing was to be appended to it any more.
    pub end: Option<u64>,
}

/// The ledger, shared by readers, lanes and the disk thread.
#[derive(Debug)]
pub struct Ledger {
    outputs: Vec<String>,
    /// The same, shared by all snapshots.
    names: Vec<Arc<str>>,
    readers: Vec<Bell>,
    inner: Mutex<Inner>,
}

impl Ledger {
    /// A ledger for these outputs; a log's notices go to reader `log % readers.len()`.
    #[must_use]
    pub fn new(outputs: Vec<String>, readers: Vec<Bell>, positions: Positions) -> Arc<Self> {
        let mut inner = Inner {
            notices: vec![Vec::new(); readers.len()],
            owed: vec![0; outputs.len()],
            ..Inner::default()
        };
        for file in positions.files {
            inner
                .remembered
                .entry(file.log.clone())
                .or_default()
                .push(file);
        }
        Arc::new(Self {
            names: outputs.iter().map(|name| name.as_str().into()).collect(),
            outputs,
            readers,
            inner: Mutex::new(inner),
        })
    }

    /// The outputs' names, by id.
    #[must_use]
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// `bell` rings when there is something that the last snapshot does not say.
    pub fn on_change(&self, bell: Bell) {
        self.lock().changed = Some(bell);
    }

    /// Whether there is such.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.lock().dirty
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves plain numbers behind; they are still true.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the positions file said of a log's files that have not been taken up yet.
    #[must_use]
    pub fn remembered(&self, key: &str) -> Vec<Remembered> {
        let inner = self.lock();
        let files = inner.remembered.get(key).into_iter().flatten();
        let told = |file: &FilePositions| Remembered {
            identity: file.identity,
            end: file.end,
        };
        files.map(told).collect()
    }

    /// Takes up a file that was opened and gives its id. `remembered` is what the positions file
    /// calls it; a file that nobody remembers begins with all its outputs at `start`, which is told
    /// whether the log is known. Files of one log are registered oldest first.
    pub fn register(
        &self,
        source: &Arc<Source>,
        identity: Identity,
        start: impl FnOnce(bool) -> u64,
        remembered: Option<&Identity>,
    ) -> FileId {
        let outputs = self.outputs.len();
        let mut inner = self.lock();
        let inner = &mut *inner;
        let id = FileId(inner.next_file);
        inner.next_file += 1;
        inner.change();
        let files = inner.remembered.get_mut(&*source.key);
        let known = files.is_some() || inner.logs.contains_key(&source.log);
        let found = files.and_then(|files| {
            let place = files
                .iter()
                .position(|file| Some(&file.identity) == remembered)?;
            Some(files.swap_remove(place))
        });
        let marks: Vec<Mark> = match &found {
            Some(file) => self
                .outputs
                .iter()
                .map(|name| Self::remember(file, name))
                .collect(),
            None => vec![Mark::at(start(known)); outputs],
        };
        let opened = marks.iter().map(Mark::watermark).max().unwrap_or(0);
        let log = inner.logs.entry(source.log).or_insert_with(|| {
            Box::new(Log {
                source: Arc::clone(source),
                // Most logs have one file most of the time.
                files: VecDeque::with_capacity(1),
                owing: vec![0; outputs],
                behind: false,
                failed: OutputSet::NONE,
                awaited: OutputSet::NONE,
                account: LogAccount::new(source, outputs),
                recalled: false,
                strange: false,
            })
        });
        // What any output has settled was read.
        let mut covered = Mark::at(opened);
        let beyond = marks.iter().flat_map(|mark| mark.beyond());
        beyond.for_each(|&(start, end)| covered.settle(start, end));
        log.account.begin(&marks, &covered);
        log.recalled |= found.is_some();
        log.strange |= known && found.is_none();
        log.files.push_back(File {
            id,
            identity,
            end: None,
            opened,
            covered,
            seen: opened,
            kernel: 0,
            unfinished: 0,
            sizeless: false,
            marks,
        });
        id
    }

    fn remember(file: &FilePositions, output: &str) -> Mark {
        // An output that the positions file does not know begins where the file does.
        let Some(said) = file.marks.get(output) else {
            return Mark::default();
        };
        let mut mark = Mark::at(said.at);
        said.beyond
            .iter()
            .for_each(|&(start, end)| mark.settle(start, end));
        mark
    }

    /// Replaces a file's identity (its head has grown).
    pub fn identify(&self, log: LogId, file: FileId, identity: Identity) {
        let mut inner = self.lock();
        inner.change();
        if let Some(file) = inner.file(log, file) {
            file.identity = identity;
        }
    }

    /// The file was read up to here; `last` is the length and hash of the bytes before.
    pub fn reached(&self, log: LogId, file: FileId, at: u64, last: (u8, u64)) {
        if let Some(file) = self.lock().file(log, file) {
            file.identity.last_at = at;
            (file.identity.last_len, file.identity.last) = last;
        }
    }

    /// The file was seen to have `size` bytes.
    pub fn saw(&self, log: LogId, file: FileId, size: u64) {
        let mut inner = self.lock();
        let Some(file) = inner.file(log, file) else {
            return;
        };
        let grew = file.seen < size;
        file.seen = file.seen.max(size);
        if grew {
            inner.change();
        }
    }

    /// Opens a span for `outputs`: the ticket of the chunk that holds its lines.
    #[must_use]
    pub fn open(self: &Arc<Self>, span: Span, outputs: OutputSet) -> Ticket {
        let mut inner = self.lock();
        let (inner_ref, mut outputs) = (&mut *inner, outputs);
        if let Some(log) = inner_ref.logs.get_mut(&span.log) {
            // What comes after a failed chunk waits until that one is read again.
            outputs = outputs.without(log.failed);
            outputs
                .iter()
                .for_each(|output| log.owing[output.index()] += 1);
            log.launch(&span, outputs);
            log.count_read(&span);
        }
        outputs
            .iter()
            .for_each(|output| inner_ref.owed[output.index()] += 1);
        drop(inner);
        Ticket::new(span, outputs, Arc::clone(self) as Arc<dyn Settle>)
    }

    /// Takes a further span under `ticket`, since a record lies across both.
    #[must_use]
    pub fn extend(&self, ticket: &Ticket, span: Span, outputs: OutputSet) -> Ticket {
        if let Some(log) = self.lock().logs.get_mut(&span.log) {
            log.launch(&span, ticket.outputs());
            log.count_read(&span);
        }
        ticket.extend(span);
        ticket.split(outputs)
    }

    /// Where `output` goes on in `file` at or after `from`: the first byte not settled, and where
    /// the next settled range begins.
    #[must_use]
    pub fn next_unsettled(
        &self,
        log: LogId,
        file: FileId,
        output: OutputId,
        from: u64,
    ) -> (u64, Option<u64>) {
        let mut inner = self.lock();
        match inner.file(log, file) {
            Some(file) => file.marks[output.index()].next_unsettled(from),
            None => (from, None),
        }
    }

    /// The output's watermark in the file.
    #[must_use]
    pub fn watermark(&self, log: LogId, file: FileId, output: OutputId) -> u64 {
        self.lock()
            .file(log, file)
            .map_or(0, |file| file.marks[output.index()].watermark())
    }

    /// The container log's name across restarts.
    #[must_use]
    pub fn name_of(&self, log: LogId) -> Option<Arc<str>> {
        let inner = self.lock();
        let log = inner.logs.get(&log)?;
        Some(Arc::clone(&log.source.key))
    }

    /// Whether nothing of the log is owed to the output. If something is, a notice will come.
    #[must_use]
    pub fn is_quiet(&self, log: LogId, output: OutputId) -> bool {
        let mut inner = self.lock();
        let Some(log) = inner.logs.get_mut(&log) else {
            return true;
        };
        let quiet = log.owing[output.index()] == 0;
        if !quiet {
            log.awaited = log.awaited.or(OutputSet::one(output));
        }
        quiet
    }

    /// Whether each of `outputs` has as many bytes of the log unsettled as `most` gives for it. If so,
    /// a notice will come when some were settled.
    #[must_use]
    pub fn is_behind(
        &self,
        log: LogId,
        outputs: OutputSet,
        most: impl Fn(OutputId) -> u64,
    ) -> bool {
        let mut inner = self.lock();
        let Some(log) = inner.logs.get_mut(&log) else {
            return false;
        };
        let flying = |output: OutputId| log.account.outputs[output.index()].in_flight_bytes;
        let over = |output: OutputId| flying(output) >= most(output);
        let behind = !outputs.is_empty() && outputs.iter().all(over);
        log.behind |= behind;
        behind
    }

    /// Whether no ticket at all owes the output anything. If one does, the readers are rung when
    /// that has ended.
    #[must_use]
    pub fn is_free(&self, output: OutputId) -> bool {
        let mut inner = self.lock();
        let free = inner.owed[output.index()] == 0;
        if !free {
            inner.awaited = inner.awaited.or(OutputSet::one(output));
        }
        free
    }

    /// Nothing will be appended to the file any more (or something was after all: `None`).
    pub fn set_end(&self, log: LogId, file: FileId, end: Option<u64>) {
        let mut inner = self.lock();
        inner.change();
        if let Some(file) = inner.file(log, file) {
            file.end = end;
        }
    }

    /// Whether every output has settled the whole file, and how many bytes are still unsettled by
    /// the slowest output otherwise.
    #[must_use]
    pub fn remaining(&self, log: LogId, file: FileId) -> u64 {
        let mut inner = self.lock();
        let Some(file) = inner.file(log, file) else {
            return 0;
        };
        let end = file.end.unwrap_or(u64::MAX);
        let slowest = file.marks.iter().map(Mark::watermark).min().unwrap_or(end);
        end.saturating_sub(slowest)
    }

    /// The file is deleted and closed: its entry goes.
    pub fn forget(&self, log: LogId, file: FileId) {
        let mut inner = self.lock();
        inner.change();
        if let Some(log) = inner.logs.get_mut(&log) {
            log.forget(file);
        }
    }

    /// The log's source has another version; the account names that one.
    pub fn renew(&self, source: &Arc<Source>) {
        if let Some(log) = self.lock().logs.get_mut(&source.log) {
            log.source = Arc::clone(source);
            log.account.source = Arc::clone(source);
        }
    }

    /// The container log is gone with all its files.
    pub fn forget_log(&self, log: LogId) {
        let mut inner = self.lock();
        inner.change();
        if let Some(log) = inner.logs.remove(&log) {
            inner.remembered.remove(&*log.source.key);
            inner.spared.remove(&*log.source.key);
        }
    }

    /// A file of the log is there and cannot be opened now: what is remembered of the log stays.
    pub fn spare(&self, key: &str) {
        self.lock().spared.insert(key.to_owned());
    }

    /// Moves what reader `reader` must look at into `notices`.
    pub fn notices(&self, reader: usize, notices: &mut Vec<Notice>) {
        let mut inner = self.lock();
        let told = std::mem::take(&mut inner.notices[reader]);
        for notice in &told {
            if let Notice::Failed(log, output) = notice
                && let Some(log) = inner.logs.get_mut(log)
            {
                log.failed = log.failed.without(OutputSet::one(*output));
            }
        }
        notices.extend(told);
    }

    fn report(&self, spans: &[Span], output: OutputId, settled: Option<LineFates>) {
        let Some(id) = spans.first().map(|span| span.log) else {
            return;
        };
        let reader = id.0 as usize % self.readers.len();
        let mut inner = self.lock();
        let inner = &mut *inner;
        let (one, owed) = (OutputSet::one(output), &mut inner.owed[output.index()]);
        *owed = owed.saturating_sub(1);
        if *owed == 0 && inner.awaited.has(output) {
            inner.awaited = inner.awaited.without(one);
            self.readers.iter().for_each(Bell::ring);
        }
        if settled.is_some() {
            inner.change();
        }
        let Some(log) = inner.logs.get_mut(&id) else {
            return;
        };
        let owing = &mut log.owing[output.index()];
        *owing = owing.saturating_sub(1);
        let quiet = *owing == 0;
        let bytes: u64 = spans.iter().map(|span| span.end - span.start).sum();
        let in_flight = &mut log.account.outputs[output.index()].in_flight_bytes;
        *in_flight = in_flight.saturating_sub(bytes);
        if let Some(fates) = settled {
            spans.iter().for_each(|span| log.settle(span, output));
            log.prove(spans, output, fates);
        } else {
            log.failed = log.failed.or(one);
            inner.notices[reader].push(Notice::Failed(id, output));
            // Of a file that is gone nothing can be read again.
            let gone = |span: &&Span| log.files.iter().all(|file| file.id != span.file);
            let lost: u64 = spans
                .iter()
                .filter(gone)
                .map(|span| span.end - span.start)
                .sum();
            log.account.outputs[output.index()].lost_bytes += lost;
        }
        let awaited = quiet && log.awaited.has(output);
        if awaited {
            log.awaited = log.awaited.without(one);
            inner.notices[reader].push(Notice::Quiet(id, output));
        }
        let behind = std::mem::take(&mut log.behind);
        if behind {
            inner.notices[reader].push(Notice::Settled(id));
        }
        if awaited || behind || settled.is_none() {
            self.readers[reader].ring();
        }
    }
}

impl Inner {
    fn file(&mut self, log: LogId, file: FileId) -> Option<&mut File> {
        self.logs
            .get_mut(&log)?
            .files
            .iter_mut()
            .find(|have| have.id == file)
    }
}

impl Settle for Ledger {
    fn settled(&self, spans: &[Span], output: OutputId, fates: LineFates) {
        self.report(spans, output, Some(fates));
    }

    fn failed(&self, spans: &[Span], output: OutputId) {
        self.report(spans, output, None);
    }
}
