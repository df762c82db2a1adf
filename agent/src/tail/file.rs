//! One file of a container log as a reader has it.

use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::ring::Token;
use super::roll::Entry;
use crate::base::files::{Files, Stat};
use crate::base::time::Mono;
use crate::discover::Place;
use crate::ledger::Identity;
use crate::ticket::{FileId, Source};

/// First bytes that a file is told by. Container runtimes begin each line with a time to the
/// nanosecond, so that a few lines tell two files apart.
pub const HEAD_BYTES: usize = 1024;

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

    /// Its place among its log's files: a deleted `0.log` is older than the new one.
    #[must_use]
    pub fn order(&self) -> (Place, FileId) {
        (self.place, self.id)
    }
}

/// The identity of a file just opened: `stat` and a hash of its first bytes.
pub fn identify<F: Files>(files: &F, file: &F::File, stat: &Stat) -> Identity {
    let mut head = [0u8; HEAD_BYTES];
    let read = files.read_at(file, 0, &mut head).unwrap_or(0);
    identity_of(stat, &head[..read])
}

/// The identity made of `stat` and the first bytes.
#[must_use]
pub fn identity_of(stat: &Stat, head: &[u8]) -> Identity {
    let head = &head[..head.len().min(HEAD_BYTES)];
    Identity {
        device: stat.device,
        inode: stat.inode,
        born_ns: stat.born_ns,
        head_len: head.len() as u32,
        head: xxh3_64(head),
    }
}

/// Whether `remembered` is this open file. The inode must be the same, the birth time too where
/// both have one, and the first bytes that were hashed then must still be there.
pub fn is_same<F: Files>(files: &F, file: &F::File, stat: &Stat, remembered: &Identity) -> bool {
    if (remembered.device, remembered.inode) != (stat.device, stat.inode) {
        return false;
    }
    if let (Some(then), Some(now)) = (remembered.born_ns, stat.born_ns)
        && then != now
    {
        return false;
    }
    let length = (remembered.head_len as usize).min(HEAD_BYTES);
    let mut head = [0u8; HEAD_BYTES];
    let read = files.read_at(file, 0, &mut head[..length]).unwrap_or(0);
    read == length && xxh3_64(&head[..length]) == remembered.head
}
