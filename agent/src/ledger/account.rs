//! What each container log's books say: its terms, each counted where it happens.
//!
//! ```text
//! written    kernel (the probes' word) and stat, by file generation   reader: announced, saw
//! read       counted when a span is opened; places it left behind      reader: open
//! settled    counted when a ticket is settled                          lanes, stages
//! lost       counted where it is lost                                  reader: lose; a failed ticket
//! ```
//!
//! 1. No term is computed from another one, so that their differences mean something.
//! 2. Figures are bytes of the file (inflated ones of a compressed file) since its first byte, of all
//!    files that this run of the agent has known.

use std::sync::Arc;

use super::{File, Ledger, Log, Mark};
use crate::base::outputs::OutputId;
use crate::ticket::{FileId, LogId, Source, Span};

/// Logs that are copied while the lock is held once: some ten microseconds.
pub(super) const SLICE: usize = 128;

/// Lines and bytes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why nobody can know all that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Files may have come and gone while no agent was there.
    Down = 1,
    /// A file was deleted before it could be opened.
    Unopened = 2,
    /// A compressed file whose plain size nobody has seen.
    Compressed = 4,
}

impl Gap {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Down, Self::Unopened, Self::Compressed];

    /// Its name in `/status` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Unopened => "unopened",
            Self::Compressed => "compressed",
        }
    }
}

/// A set of gaps; none = complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps(u8);

impl Gaps {
    /// Adds one.
    pub fn add(&mut self, gap: Gap) {
        self.0 |= gap as u8;
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn has(self, gap: Gap) -> bool {
        self.0 & gap as u8 != 0
    }

    /// The first of them.
    #[must_use]
    pub fn first(self) -> Option<Gap> {
        Gap::ALL.into_iter().find(|gap| self.has(*gap))
    }
}

/// One output's account of one container log. All but the last two are counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputAccount {
    /// Bytes that its positions had settled, or `start_at` skipped, before this run.
    pub before_bytes: u64,
    /// Lines and bytes settled in this run.
    pub settled: Account,
    /// NULs passed over.
    pub hole_bytes: u64,
    /// Bytes that are known to have been written, and were gone before they were settled.
    pub lost_bytes: u64,
    /// Bytes read for it that are neither settled nor failed yet.
    pub in_flight_bytes: u64,
    /// Lines that the output has stored, as its lanes say.
    pub delivered_lines: u64,
    /// Lines that the output has refused for good, as its lanes say.
    pub rejected_lines: u64,
    /// Lines that the plan does not send to it, as the stages say, or that were dropped beyond a rate.
    pub withheld_lines: u64,
    /// Lines that went into its spool, as the disk thread says.
    pub spooled_lines: u64,
    /// Lines that were settled though nobody says what became of them: never on purpose.
    pub unproven_lines: u64,
    /// Bytes beyond its settled ranges in the files there are.
    pub unsettled_bytes: u64,
    /// Files that are newer than the one its oldest unsettled byte stands in.
    pub newer_files: u32,
}

/// A container log's account.
#[derive(Clone, Debug)]
pub struct LogAccount {
    /// Whose it is.
    pub source: Arc<Source>,
    /// Why the figures may not be all.
    pub gaps: Gaps,
    /// Where its generations end, added up: the larger of the kernel's word and stat's.
    pub written_bytes: u64,
    /// The kernel has announced the end of each open file itself.
    pub kernel: bool,
    /// Bytes that were read, or skipped by `start_at`, before this run.
    pub before_bytes: u64,
    /// Read in this run, once, however many passes read it again.
    pub read: Account,
    /// NULs passed over.
    pub hole_bytes: u64,
    /// Bytes read again by catch-up passes.
    pub reread_bytes: u64,
    /// Bytes that were gone before any output had read them.
    pub unread_lost_bytes: u64,
    /// Bytes beyond the furthest place read.
    pub unread_bytes: u64,
    /// Of these, an unfinished last line.
    pub unfinished_bytes: u64,
    /// Size of the newest file.
    pub newest_bytes: u64,
    /// By output.
    pub outputs: Box<[OutputAccount]>,
}

impl LogAccount {
    /// Boxed: the ledger's table has room for twice as many logs as there are.
    pub(super) fn new(source: &Arc<Source>, outputs: usize) -> Box<Self> {
        Box::new(Self {
            source: Arc::clone(source),
            gaps: Gaps::default(),
            written_bytes: 0,
            kernel: false,
            before_bytes: 0,
            read: Account::default(),
            hole_bytes: 0,
            reread_bytes: 0,
            unread_lost_bytes: 0,
            unread_bytes: 0,
            unfinished_bytes: 0,
            newest_bytes: 0,
            outputs: std::iter::repeat_n(OutputAccount::default(), outputs).collect(),
        })
    }

    /// A file is taken up with what is settled of it.
    pub(super) fn begin(&mut self, marks: &[Mark], covered: &Mark) {
        self.before_bytes += covered.settled();
        for (output, mark) in self.outputs.iter_mut().zip(marks) {
            output.before_bytes += mark.settled();
        }
    }
}

impl File {
    /// Its size, as far as kernel and stat know.
    pub(super) fn written(&self) -> u64 {
        self.kernel.max(self.seen)
    }

    /// Where reading and settling end.
    fn bound(&self) -> u64 {
        self.end.unwrap_or_else(|| self.written())
    }

    fn unread(&self) -> u64 {
        self.unread_below(self.bound())
    }

    /// Bytes between the furthest place read and `end`, but for those that an earlier run has read.
    fn unread_below(&self, end: u64) -> u64 {
        let place = self.opened.max(self.covered.watermark());
        let left = end.saturating_sub(place);
        left.saturating_sub(self.covered.settled_from(place))
    }

    fn unsettled(&self, output: usize) -> u64 {
        let mark = &self.marks[output];
        let left = self.bound().saturating_sub(mark.watermark());
        left.saturating_sub(mark.settled() - mark.watermark())
    }
}

impl Log {
    pub(super) fn count_read(&mut self, span: &Span) {
        let bytes = span.end - span.start;
        let Some(file) = self.files.iter_mut().find(|file| file.id == span.file) else {
            return;
        };
        let before = file.covered.settled();
        file.covered.settle(span.start, span.end);
        let fresh = file.covered.settled() - before;
        file.opened = file.opened.max(span.end);
        file.unfinished = 0;
        self.account.read.bytes += fresh;
        self.account.reread_bytes += bytes - fresh;
        if 2 * fresh >= bytes {
            self.account.read.lines += u64::from(span.lines);
        }
    }

    /// The file's entry goes; what was written to it stays written.
    pub(super) fn forget(&mut self, id: FileId) {
        self.files.retain(|file| {
            if file.id == id {
                self.account.written_bytes += file.written();
            }
            file.id != id
        });
    }

    /// The account with what is to be said of the files there are.
    fn told(&self) -> LogAccount {
        let mut account = LogAccount::clone(&self.account);
        account.kernel = !self.files.is_empty();
        for file in &self.files {
            account.written_bytes += file.written();
            account.unread_bytes += file.unread();
            account.unfinished_bytes += file.unfinished;
            account.kernel &= file.kernel > 0 && file.kernel >= file.seen;
            if file.sizeless && file.end.is_none() {
                account.gaps.add(Gap::Compressed);
            }
        }
        account.newest_bytes = self.files.back().map_or(0, File::written);
        for (at, output) in account.outputs.iter_mut().enumerate() {
            let mut oldest = None;
            for (place, file) in self.files.iter().enumerate() {
                let unsettled = file.unsettled(at);
                output.unsettled_bytes += unsettled;
                if unsettled > 0 {
                    oldest.get_or_insert(place);
                }
            }
            let newer = oldest.map_or(0, |place| self.files.len() - 1 - place);
            output.newer_files = u32::try_from(newer).unwrap_or(u32::MAX);
        }
        account
    }
}

impl Ledger {
    /// Hands on every container log's account, by key. Each is true at a moment of its own: the lock is
    /// given back in between, and no more than a slice of them is there at once.
    pub fn each_account(&self, mut take: impl FnMut(LogAccount)) {
        let inner = self.lock();
        let logs = inner.logs.iter();
        let mut ids: Vec<_> = logs
            .map(|(id, log)| (Arc::clone(&log.source), *id))
            .collect();
        drop(inner);
        ids.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        for ids in ids.chunks(SLICE) {
            let inner = self.lock();
            let logs = ids.iter().filter_map(|(_, id)| inner.logs.get(id));
            let accounts: Vec<LogAccount> = logs.map(|log| log.told()).collect();
            drop(inner);
            accounts.into_iter().for_each(&mut take);
        }
    }

    /// All of them.
    #[must_use]
    pub fn accounts(&self) -> Vec<LogAccount> {
        let mut accounts = Vec::new();
        self.each_account(|account| accounts.push(account));
        accounts
    }

    /// The kernel has announced that a write ends there.
    pub fn announced(&self, log: LogId, file: FileId, end: u64) {
        if let Some(file) = self.lock().file(log, file) {
            file.kernel = file.kernel.max(end);
        }
    }

    /// What was announced beyond the size has not come: the write has failed, or it was another
    /// file's of the same inode number.
    pub fn disbelieve(&self, log: LogId, file: FileId) {
        if let Some(file) = self.lock().file(log, file) {
            file.kernel = file.kernel.min(file.seen);
        }
    }

    /// The file's size as kernel and stat know it.
    #[must_use]
    pub fn written(&self, log: LogId, file: FileId) -> u64 {
        self.lock().file(log, file).map_or(0, |file| file.written())
    }

    /// The file is compressed, and its plain size is not known.
    pub fn sizeless(&self, log: LogId, file: FileId) {
        if let Some(file) = self.lock().file(log, file) {
            file.sizeless = file.seen == 0;
        }
    }

    /// So many bytes at the file's end are an unfinished line or record, which is not read yet.
    pub fn unfinished(&self, log: LogId, file: FileId, bytes: u64) {
        if let Some(file) = self.lock().file(log, file) {
            file.unfinished = bytes;
        }
    }

    /// Something of the log is not known.
    pub fn gap(&self, log: LogId, gap: Gap) {
        if let Some(log) = self.lock().logs.get_mut(&log) {
            log.account.gaps.add(gap);
        }
    }

    /// Bytes of the log are gone that `output` has not settled and never will.
    pub fn lose(&self, log: LogId, output: OutputId, bytes: u64) {
        if let Some(log) = self.lock().logs.get_mut(&log) {
            log.account.outputs[output.index()].lost_bytes += bytes;
        }
    }

    /// The file's content is gone: what nobody has read of it never will be.
    pub fn lose_unread(&self, log: LogId, file: FileId) {
        let mut inner = self.lock();
        let Some(log) = inner.logs.get_mut(&log) else {
            return;
        };
        if let Some(file) = log.files.iter().find(|have| have.id == file) {
            log.account.unread_lost_bytes += file.unread_below(file.written());
        }
    }

    /// NULs that the reader passed over: settled as they are, and no bytes of any line.
    pub fn pass_over(&self, span: &Span, outputs: crate::base::outputs::OutputSet) {
        let mut inner = self.lock();
        inner.change();
        let Some(log) = inner.logs.get_mut(&span.log) else {
            return;
        };
        let outputs = outputs.without(log.failed);
        let Some(file) = log.files.iter_mut().find(|file| file.id == span.file) else {
            return;
        };
        let before = file.covered.settled();
        file.covered.settle(span.start, span.end);
        log.account.hole_bytes += file.covered.settled() - before;
        file.opened = file.opened.max(span.end);
        for output in outputs.iter() {
            let mark = &mut file.marks[output.index()];
            let before = mark.settled();
            mark.settle(span.start, span.end);
            log.account.outputs[output.index()].hole_bytes += mark.settled() - before;
        }
    }

    /// The files of all logs with where they end now, which is to be settled by [`Ledger::lacks`].
    #[must_use]
    pub fn ends(&self) -> Vec<(LogId, FileId, u64)> {
        let inner = self.lock();
        let logs = inner.logs.iter();
        logs.flat_map(|(id, log)| log.files.iter().map(|file| (*id, file.id, file.bound())))
            .collect()
    }

    /// Whether some output has not settled the file up to `end`, an unfinished last line apart. A
    /// file that is gone lacks nothing: what was lost of it was counted.
    #[must_use]
    pub fn lacks(&self, log: LogId, file: FileId, end: u64) -> bool {
        let mut inner = self.lock();
        let Some(file) = inner.file(log, file) else {
            return false;
        };
        let bound = file.end.map_or(end, |last| last.min(end));
        // Only while nothing was written after it.
        let unfinished = file
            .unfinished
            .min(file.bound().saturating_sub(file.opened));
        let unfinished = if file.bound() <= end { unfinished } else { 0 };
        let want = bound.saturating_sub(unfinished);
        file.sizeless && file.end.is_none() || file.marks.iter().any(|mark| mark.watermark() < want)
    }
}
