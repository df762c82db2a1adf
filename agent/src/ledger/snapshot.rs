//! What the positions file is to hold, and what it held and nobody has found.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::account::SLICE;
use super::positions::{FilePositions, Row, Snapshot};
use super::unfound::{self, known_end, missing};
use super::{File, Forgotten, Gap, Ledger, Log, Mark};
use crate::ticket::LogId;

impl Ledger {
    /// The positions file, if anything has changed since the last call. Positions of different logs
    /// do not depend on each other, so the lock is given back between slices of them.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.dirty) {
            return None;
        }
        let key = |file: &FilePositions| (file.log.clone(), file.identity.inode);
        let mut remembered: Vec<_> = inner.remembered.values().flatten().cloned().collect();
        remembered.sort_by_cached_key(key);
        let ids: Vec<LogId> = inner.logs.keys().copied().collect();
        let files = inner.logs.values().map(|log| log.files.len());
        let mut rows = Vec::with_capacity(files.sum());
        // At the start files move from what is remembered to their logs: it is one moment then.
        let whole = !remembered.is_empty();
        let slice = if whole { usize::MAX } else { SLICE };
        let mut held = Some(inner);
        for ids in ids.chunks(slice) {
            let inner = held.take().unwrap_or_else(|| self.lock());
            for log in ids.iter().filter_map(|id| inner.logs.get(id)) {
                rows.extend(log.files.iter().map(|file| Row::new(log, file)));
            }
        }
        drop(held);
        // No two files of a log have one number but one that was truncated: any order will do.
        rows.sort_unstable_by(|a, b| {
            (&a.log, a.identity.inode, a.seen).cmp(&(&b.log, b.identity.inode, b.seen))
        });
        Some(Snapshot {
            outputs: self.names.clone(),
            remembered,
            rows,
        })
    }

    /// Says that the last snapshot could not be written: the next call gives one again.
    pub fn snapshot_failed(&self) {
        self.lock().change();
    }

    /// Drops the positions of files that the first listing did not find, and says what of them no
    /// output has. To be called once all that the listing found is registered: logs that went on
    /// while no agent was there have a gap from then on.
    pub fn forget_unfound(&self) -> Forgotten {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let spared = &inner.spared;
        let gone = inner.remembered.extract_if(|key, _| !spared.contains(key));
        let gone: BTreeMap<String, Vec<FilePositions>> = gone.collect();
        if !gone.is_empty() {
            inner.change();
        }
        for log in inner.logs.values_mut() {
            let own = gone.get(&*log.source.key).map_or(&[][..], Vec::as_slice);
            // What was done with before is deleted in turn: nothing is unknown of it.
            let went_on = own.iter().any(|file| file.end.is_none());
            let was_known = log.recalled || !own.is_empty();
            if was_known && (went_on || log.strange || !log.recalled) {
                log.account.gaps.add(Gap::Down);
            }
            own.iter()
                .for_each(|file| log.lose_unfound(file, &self.outputs));
        }
        unfound::forgotten(gone.values().flatten(), &self.outputs)
    }
}

impl Row {
    fn new(log: &Log, file: &File) -> Self {
        Self {
            log: Arc::clone(&log.source.key),
            identity: file.identity,
            end: file.end,
            seen: file.written().max(file.opened),
            marks: file.marks.iter().cloned().collect(),
        }
    }
}

impl Log {
    /// A file is gone that this run has never seen: what is known of it belongs to the books.
    fn lose_unfound(&mut self, file: &FilePositions, outputs: &[String]) {
        let end = known_end(file);
        let mut covered = Mark::default();
        for (output, account) in outputs.iter().zip(&mut self.account.outputs) {
            let Some(said) = file.marks.get(output) else {
                continue;
            };
            covered.settle(0, said.at);
            let beyond = said.beyond.iter();
            beyond.for_each(|&(from, to)| covered.settle(from, to));
            let lost = missing(said, end);
            account.before_bytes += end - lost;
            account.lost_bytes += lost;
        }
        self.account.written_bytes += end;
        self.account.before_bytes += covered.settled();
        self.account.unread_lost_bytes += end.saturating_sub(covered.settled());
    }
}
