//! Whose turn it is, and how much one log may hold.
//!
//! ```text
//! make_ready -> Rounds: a log that is about to lose a file, or any other -> one buffer each a round
//!   -> step: too many of its buffers at the encoder | too many bytes unsettled -> it waits
//! ```
//!
//! 1. Deficit round robin in bytes with the buffer as its quantum: a read takes one buffer at the most,
//!    and one that takes less has found the end of its file.
//! 2. In a round, logs that read a file which was renamed or deleted come first; the next round begins
//!    when this one is over, so that nobody starves.
//! 3. A log has an eighth of its reader's buffers at the most, and an eighth of the windows of its
//!    outputs, in bytes as they are before compression: a fast one leaves the others room. Where one
//!    output of several is behind, that one is detached instead, and holds nobody up.

use std::collections::VecDeque;

use super::log::{Log, Pass};
use super::reader::Reader;
use super::ring::Ring;
use crate::base::files::Files;
use crate::ticket::LogId;

/// The part of pool and window that one log may hold: one in so many.
const SHARE: u64 = 8;

/// Buffers that any log may have at the encoder: one is worked on while the next comes.
const CHUNKS_MIN: usize = 2;

/// Logs that are ready to be served.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    now: VecDeque<LogId>,
    urgent: VecDeque<LogId>,
    others: VecDeque<LogId>,
}

impl Rounds {
    /// The log is served in the next round.
    pub(super) fn push(&mut self, log: LogId, urgent: bool) {
        if urgent {
            self.urgent.push_back(log);
        } else {
            self.others.push_back(log);
        }
    }

    /// Begins the next round, if this one is over; says how many logs are still to be served in it.
    pub(super) fn begin(&mut self) -> usize {
        if self.now.is_empty() {
            self.now.append(&mut self.urgent);
            self.now.append(&mut self.others);
        }
        self.now.len()
    }

    /// Whether no log is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty() && self.urgent.is_empty() && self.others.is_empty()
    }

    /// The next log of this round.
    pub(super) fn pop(&mut self) -> Option<LogId> {
        self.now.pop_front()
    }

    /// The log could not be served: it is the next one again.
    pub(super) fn give_back(&mut self, log: LogId) {
        self.now.push_front(log);
    }
}

/// Whether a file of the log that is not read to its end may be deleted next.
pub(super) fn is_urgent<H>(log: &Log<H>) -> bool {
    let newest = log.files.last();
    let newest = newest.filter(|tail| !tail.gone).map(|tail| tail.id);
    log.passes.iter().any(|pass| Some(pass.file) != newest)
}

impl<R: Ring, F: Files<File = R::File>> Reader<R, F> {
    /// Whether the log holds so much that the pass must wait; it is made ready when that changes.
    pub(super) fn is_crowded(&mut self, id: LogId, at: usize) -> bool {
        let Some(log) = self.logs.get(&id) else {
            return false;
        };
        let most = (self.pool.count() / SHARE as usize).max(CHUNKS_MIN);
        if log
            .share
            .as_ref()
            .is_some_and(|share| !share.has_room(most))
        {
            self.crowded.push(id);
            return true;
        }
        let pass = &log.passes[at];
        // A record that is open is read to its end: nothing of it is settled before.
        pass.glue.is_none() && self.is_behind(id, pass)
    }

    /// Whether every output of the pass has the log's share of its window unsettled.
    fn is_behind(&self, id: LogId, pass: &Pass) -> bool {
        let most = |output: crate::base::outputs::OutputId| {
            let outlet = &self.outlets[output.index()];
            (outlet.window_inflated() / SHARE).max(self.settings.log_bytes_min)
        };
        self.ledger.is_behind(id, pass.outputs, most)
    }

    /// Looks at the logs that wait for buffers of theirs to come home.
    pub(super) fn heed_crowded(&mut self) {
        for id in std::mem::take(&mut self.crowded) {
            self.make_ready(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_serves_urgent_logs_first_and_everybody_once() {
        let mut rounds = Rounds::default();
        for (log, urgent) in [(1, false), (2, true), (3, false)] {
            rounds.push(LogId(log), urgent);
        }
        let mut served = Vec::new();
        for _ in 0..2 {
            for _ in 0..rounds.begin() {
                let Some(log) = rounds.pop() else { break };
                served.push(log.0);
                // The urgent one has always more to do.
                if log.0 == 2 {
                    rounds.push(log, true);
                } else if served.len() < 4 {
                    rounds.push(log, false);
                }
            }
        }
        assert_eq!(served, [2, 1, 3, 2, 1, 3]);
    }
}
