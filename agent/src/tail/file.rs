//! One file of a container log as a reader has it.

use std::path::PathBuf;
use std::sync::Arc;

use super::gzip::Inflater;
use super::ring::Token;
use super::roll::Entry;
use crate::base::time::Mono;
use crate::discover::Place;
use crate::ledger::Identity;
use crate::ticket::{FileId, Source};

/// Where a file stands between two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing was read since the file woke; the next step is a read.
    Awake,
    /// Armed before the read that is under way or due.
    Armed,
    /// Armed, and a read after that found nothing: asleep.
    Asleep,
}

/// One file.
#[derive(Debug)]
pub struct Tail<H> {
    /// Its generation.
    pub id: FileId,
    /// Its number in the ring.
    pub token: Token,
    /// Whose it is, under the path it was found with.
    pub source: Arc<Source>,
    /// Where it is now.
    pub path: PathBuf,
    /// Its place in its log.
    pub place: Place,
    /// Its name is gone.
    pub gone: bool,
    /// The descriptor; closed when the file is done.
    pub handle: Option<H>,
    /// It is compressed: its inflated bytes are read, and it is not watched.
    pub(super) packed: Option<Box<Inflater>>,
    /// A second file of the same content, rotated away or compressed, and not read: it stands in for
    /// this one when this one is truncated, or when its own name is gone.
    pub copy: Option<PathBuf>,
    /// Since when it has been seen to be truncated, until that is dealt with.
    pub shrunk: Option<Mono>,
    /// Nothing was read since the bytes before its end were compared with those read before.
    pub proven: bool,
    /// What `stat` says of it.
    pub identity: Identity,
    /// Where it stands between two writes; set by `set_watch` alone.
    pub(super) watch: Watch,
    /// The kernel wakes us for it; otherwise the sweep does.
    pub watched: bool,
    /// The highest end that any read has seen.
    pub seen_end: u64,
    /// Size at which it ended: nothing more is expected.
    pub end: Option<u64>,
    /// When bytes, or the news that it is no longer the log's newest file, came last.
    pub stirred: Mono,
    /// How it is watched, as /status shows it.
    pub entry: Arc<Entry>,
    /// Reads that came back short of the announced end, since the last wake.
    pub short_reads: u32,
}

impl<H> Tail<H> {
    /// Goes on to where it now stands, for /status too.
    pub(super) fn set_watch(&mut self, watch: Watch) {
        self.watch = watch;
        self.entry.set_asleep(watch == Watch::Asleep);
    }

    /// Its name is gone. Where it has a copy, that one's name stands for it: its positions stay as long
    /// as that is there.
    pub(super) fn lose_name(&mut self, now: Mono) {
        match self.copy.take() {
            Some(copy) => self.path = copy,
            None => self.gone = true,
        }
        self.stirred = now;
    }

    /// Its place among its log's files: a deleted `0.log` is older than the new one.
    #[must_use]
    pub fn order(&self) -> (Place, FileId) {
        (self.place, self.id)
    }
}
