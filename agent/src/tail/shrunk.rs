//! A file that shrank below our place: somebody truncated it instead of renaming it.
//!
//! What was not read before is gone, and is counted by output: bytes that any read has seen and the
//! output's pass, or its watermark where it is in no pass, had not come to. Lines on their way to an
//! output count as read.

use super::file::{self, Watch};
use super::log::{Log, Reading};
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::base::outputs::OutputSet;
use crate::base::time::Mono;
use crate::ticket::{FileId, LogId};

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    pub(super) fn shrank(&self, id: LogId, reading: Reading) -> bool {
        let Some(log) = self.logs.get(&id) else {
            return false;
        };
        let tail = log.files.iter().find(|tail| tail.id == reading.file);
        let Some(handle) = tail.and_then(|tail| tail.handle.as_ref()) else {
            return false;
        };
        self.files
            .stat(handle)
            .is_ok_and(|stat| stat.size < reading.offset)
    }

    /// The file was truncated: it is a new generation, read from its first byte.
    pub(super) fn begin_again(&mut self, id: LogId, old: FileId, now: Mono) {
        self.count.truncated.add(1);
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let lost = self.count_unread(log, old);
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        let all = log
            .passes
            .iter()
            .fold(OutputSet::NONE, |all, pass| all.or(pass.outputs));
        let Some(tail) = log.files.iter_mut().find(|tail| tail.id == old) else {
            return;
        };
        let Some(handle) = &tail.handle else { return };
        let Ok(stat) = self.files.stat(handle) else {
            return;
        };
        tail.identity = file::identify(&self.files, handle, &stat);
        self.ledger.forget(id, old);
        tail.id = self
            .ledger
            .register(&tail.source, tail.identity, |_| 0, |_| false);
        tail.set_watch(Watch::Awake);
        (tail.seen_end, tail.stirred) = (0, now);
        if let Some(suppressed) = self.quiet.allow(now, "truncated") {
            tracing::warn!(path = %tail.path.display(), lost, suppressed,
                "the file was truncated; it is read from its start, and what was not read before is \
                 lost: rotate by renaming, as kubelet does");
        }
        all.iter().for_each(|output| self.part(id, output));
        self.join(id);
    }

    /// Counts what of a file its outputs had not come to; gives the worst output's bytes.
    fn count_unread(&self, log: &Log<R::File>, file: FileId) -> u64 {
        let tail = log.files.iter().find(|tail| tail.id == file);
        let end = tail.map_or(0, |tail| tail.seen_end);
        let mut worst = 0;
        for outlet in &self.outlets {
            let output = outlet.output;
            let mut passes = log.passes.iter();
            let at = passes
                .find(|pass| pass.outputs.has(output) && pass.file == file)
                .map_or_else(
                    || self.ledger.watermark(log.source.log, file, output),
                    |pass| pass.offset,
                );
            let lost = end.saturating_sub(at);
            if let Some(unread) = self.count.unread.get(output.index())
                && lost > 0
            {
                unread.files.add(1);
                unread.bytes.add(lost);
            }
            worst = worst.max(lost);
        }
        worst
    }
}
