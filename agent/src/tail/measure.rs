//! The sizes of open files, for the books: asked for by whoever shows them.
//!
//! ```text
//! run: Roll::ask, the reader's bell -> turn: stat and the kernel's word of each file -> ledger
//!   -> Roll::answer -> the asker's bell
//! ```

use super::file::Watch;
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Looks at the size of each open file if somebody has asked for it since the last time.
    pub(super) fn measure(&mut self) {
        let asked = self.settings.roll.asked();
        if asked == self.measured {
            return;
        }
        self.measured = asked;
        for (id, log) in &self.logs {
            for tail in log.files.iter().filter(|tail| tail.packed.is_none()) {
                let Some(handle) = &tail.handle else { continue };
                // The word first: what was announced before is in the size, if it was written.
                let word = self.ring.expected_end(tail.token);
                let Ok(stat) = self.files.stat(handle) else {
                    continue;
                };
                self.ledger.saw(*id, tail.id, stat.size);
                let believed = |end: &u64| *end <= stat.size || tail.watch != Watch::Asleep;
                if let Some(end) = word.filter(believed) {
                    self.ledger.announced(*id, tail.id, end);
                }
            }
        }
        self.settings.roll.answer(self.settings.number, asked);
    }
}
