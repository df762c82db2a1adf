//! Another version of a log's source: what is read from now on bears it, or nothing is read.
//!
//! 1. A chunk keeps the version under which it was read.
//! 2. A log that is held has its files open and registered, so that no rotation and no deletion takes
//!    them, and is not served.
//! 3. A log whose pod opted out ends at once: what was read of it is still delivered, what was not is
//!    counted and left alone.

use std::path::PathBuf;
use std::sync::Arc;

use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::base::outputs::OutputSet;
use crate::ticket::{Feed, FileId, LogId, Source, Standing};

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Takes up the version.
    pub(super) fn changed(&mut self, source: &Arc<Source>) {
        let id = source.log;
        if source.standing == Standing::Shut {
            let of_log = |_: &PathBuf, file: &mut super::found::Unopened| file.source.log == id;
            let never = self.unopened.extract_if(.., of_log);
            let there = never.filter(|(_, file)| !file.gone).count();
            self.count.unopened.sub(there as u64);
            self.unseen.remove(&id);
        }
        for file in self.unopened.values_mut() {
            if file.source.log == id {
                file.source = Arc::clone(source);
            }
        }
        let Some(log) = self.logs.get_mut(&id) else {
            return;
        };
        log.source = Arc::clone(source);
        for tail in &mut log.files {
            tail.source = Arc::clone(source);
        }
        self.ledger.renew(source);
        self.make_ready(id);
    }

    /// Whether a log is not served: it is held, or it was shut, which is done here.
    pub(super) fn stands_apart(&mut self, id: LogId) -> bool {
        let Some(log) = self.logs.get(&id) else {
            return true;
        };
        match log.source.standing {
            Standing::Read | Standing::Bare => false,
            Standing::Held => true,
            Standing::Shut => {
                // A read under way has the descriptor; its end makes the log ready.
                if log.reading.is_none() {
                    self.shut(id);
                }
                true
            }
        }
    }

    /// Closes all files of a log and forgets it.
    fn shut(&mut self, id: LogId) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let files = log.files.iter().map(|tail| (tail.id, tail.seen_end));
        let files: Vec<(FileId, u64)> = files.collect();
        let inside = log.passes.iter();
        let inside = inside.fold(OutputSet::NONE, |all, pass| all.or(pass.outputs));
        inside.iter().for_each(|output| self.part(id, output));
        for (file, read) in files {
            self.close(id, file);
            let unread = self.ledger.written(id, file).saturating_sub(read);
            self.count.shut.add(unread);
        }
        self.feed(Feed::Ended { log: id });
        self.ledger.forget_log(id);
        self.settings.roll.forget(id);
        self.logs.remove(&id);
    }
}
