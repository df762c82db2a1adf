//! Records that lie over a chunk's end: who may leave one open, and for how long.
//!
//! ```text
//! read_ended: the cut leaves a record open -> may_open: a permit, or wait in line for one
//!   -> the permit goes to the encoder with the record's last chunk, and comes home with it
//! ```
//!
//! 1. What encoders keep of open records is bounded by the permits. A log that gets none gives its
//!    buffer back and waits on disk; others are read meanwhile.
//! 2. A record that nothing was added to for [`OPEN_MS`] is finished as it is: runtimes leave a part
//!    open when a container ends without a newline. Where others wait for a permit, it is sooner.

use super::landed::FLUSH_MS;
use super::reader::Reader;
use super::ring::Ring;
use super::serve::Step;
use crate::base::files::Files;
use crate::base::time::Mono;
use crate::ticket::{Feed, LogId};

/// How long an open record waits for its next part at the log's end.
const OPEN_MS: u64 = 10_000;

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Whether a pass may leave a record open; otherwise it waits until it may.
    pub(super) fn may_open(&mut self, id: LogId, at: usize) -> bool {
        let Some(pass) = self
            .logs
            .get_mut(&id)
            .and_then(|log| log.passes.get_mut(at))
        else {
            return false;
        };
        if pass.permit.is_some() {
            return true;
        }
        let first = self.in_line.is_empty();
        if first {
            pass.permit = self.permits.take();
        }
        if pass.permit.is_none() {
            pass.waits = true;
            let pass = pass.id;
            self.in_line.push_back((id, pass));
            self.count.open_waits.add(1);
            if first {
                self.hurry();
            }
            self.make_ready(id);
            return false;
        }
        true
    }

    /// Gives the permits that came home to those who wait, in order.
    pub(super) fn grant(&mut self) {
        while let Some(&(id, pass)) = self.in_line.front() {
            let mut log = self.logs.get_mut(&id);
            let passes = log.iter_mut().flat_map(|log| &mut log.passes);
            let mut waiting = passes.filter(|have| have.id == pass);
            if let Some(pass) = waiting.next() {
                let Some(permit) = self.permits.take() else {
                    return;
                };
                (pass.permit, pass.waits) = (Some(permit), false);
            }
            self.in_line.pop_front();
            self.make_ready(id);
        }
    }

    /// Others wait: records that stand open at a log's end have less time now.
    fn hurry(&mut self) {
        let holds =
            |log: &super::log::Log<R::File>| log.passes.iter().any(|pass| pass.permit.is_some());
        let holders = self.logs.iter().filter(|(_, log)| holds(log));
        let holders: Vec<LogId> = holders.map(|(id, _)| *id).collect();
        holders.into_iter().for_each(|log| self.make_ready(log));
    }

    fn patience_ms(&self) -> u64 {
        if self.in_line.is_empty() {
            OPEN_MS
        } else {
            FLUSH_MS
        }
    }

    /// Whether the pass has a record open that nothing was added to for long.
    pub(super) fn is_stale(&self, id: LogId, at: usize, now: Mono) -> bool {
        let pass = self.logs.get(&id).and_then(|log| log.passes.get(at));
        pass.is_some_and(|pass| !pass.is_clean() && now >= pass.grown.plus_ms(self.patience_ms()))
    }

    /// What a pass does that has read its log to the end.
    pub(super) fn rest(&mut self, id: LogId, at: usize, now: Mono) -> Step {
        if self.is_stale(id, at, now) {
            self.finish(id, at);
            return Step::Again;
        }
        let pass = self.logs.get(&id).and_then(|log| log.passes.get(at));
        let open = pass.filter(|pass| !pass.is_clean());
        Step::Idle(open.map(|pass| pass.grown.plus_ms(self.patience_ms())))
    }

    /// Ends what the pass has open: its record does not go on.
    pub(super) fn finish(&mut self, id: LogId, at: usize) {
        let Some(pass) = self
            .logs
            .get_mut(&id)
            .and_then(|log| log.passes.get_mut(at))
        else {
            return;
        };
        if !pass.is_clean() {
            self.count.lapsed.add(1);
        }
        (pass.open, pass.in_line) = Default::default();
        if let Some(glue) = pass.glue.take() {
            glue.settle();
        }
        let (permit, pass) = (pass.permit.take(), pass.id);
        self.feed(Feed::Finished {
            log: id,
            pass,
            permit,
        });
    }
}
