//! When the rung has been given up: every file is watched anew, by what is left, and read once.

use super::reader::Reader;
use super::ring::{Ring, Token};
use crate::base::files::Files;

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// The ring stands on a lower rung from now on. Each file goes on as if it had just been woken:
    /// whatever the rung failed to announce is read after the new watch is armed.
    pub(super) fn watch_anew(&mut self) {
        let mut moved: Vec<Token> = Vec::new();
        for (id, log) in &mut self.logs {
            for tail in log.files.iter_mut().filter(|tail| tail.packed.is_none()) {
                let Some(handle) = &tail.handle else { continue };
                // A file that was not watched has the sweep, and goes on having it.
                if !tail.watched {
                    continue;
                }
                let inode = tail.identity.inode;
                tail.watched = self.ring.watch(tail.token, handle, inode).is_ok();
                self.settings.roll.leave(*id, &tail.entry);
                let rung = self.ring.rung_of(tail.token);
                tail.entry = self.settings.roll.enter(*id, rung, inode);
                moved.push(tail.token);
            }
        }
        moved.into_iter().for_each(|token| self.woken(token));
    }
}
