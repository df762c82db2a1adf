//! `run --once`: ends when all that was there at the start is acknowledged, or its time is up.
//!
//! ```text
//! first listing read -> sizes looked at -> ends of all files -> every output has them -> account
//! ```

use super::status::Status;
use crate::account::{is_clean, table};
use crate::base::time::Mono;
use crate::ledger::Ledger;
use crate::ticket::{FileId, LogId};

/// Where a run that is to end by itself stands.
#[derive(Debug)]
pub(super) struct Once {
    /// Until then.
    pub(super) deadline: Mono,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The first listing is not read yet.
    Listing,
    /// The readers look at the sizes; the question's number.
    Looking(u64),
    /// What some output has not acknowledged.
    Waiting(Vec<(LogId, FileId, u64)>),
}

impl Once {
    /// A run that ends by `deadline`.
    pub(super) fn new(deadline: Mono) -> Self {
        Self {
            deadline,
            step: Step::Listing,
        }
    }

    /// Whether all that was there at the start is acknowledged; `listed` says that the readers have
    /// taken up the first whole listing.
    pub(super) fn is_done(&mut self, listed: bool, status: &Status, ledger: &Ledger) -> bool {
        loop {
            match &mut self.step {
                Step::Listing if listed => self.step = Step::Looking(status.ask()),
                Step::Listing => return false,
                Step::Looking(question) if status.is_answered(*question) => {
                    self.step = Step::Waiting(ledger.ends());
                }
                Step::Looking(_) => return false,
                Step::Waiting(files) => {
                    files.retain(|&(log, file, end)| ledger.lacks(log, file, end));
                    return files.is_empty();
                }
            }
        }
    }

    /// The account at the end, and whether it proves that all was delivered.
    pub(super) fn account(done: bool, status: &Status) -> (String, bool) {
        let (rows, beyond) = (status.rows(), status.beyond());
        let mut text = table(&rows, &beyond);
        if !done {
            text += "not proven: the time was up before every output had all that was there at the start\n";
        }
        (text, done && is_clean(&rows, &beyond))
    }
}
