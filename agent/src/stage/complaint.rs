//! What the steps say of bad lines, beside counting them.
//!
//! 1. One message a cause in ten seconds, of all encoders together, however many lines are bad: the
//!    agent's own log may stand in the tree that it reads.
//! 2. The lock is taken once a chunk at the most, and only for a chunk with bad lines.

use std::sync::{Mutex, PoisonError};

use super::walk::Counts;
use crate::base::quiet::Quiet;
use crate::base::time::Mono;

/// Who has complained when.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Quiet>);

impl Complaints {
    /// Says what is bad in `counts`; `log` = whose lines they are, where it is one log.
    pub(super) fn say(&self, counts: &Counts, log: Option<&str>, now: Mono) {
        let causes = [
            (counts.not_cri, NOT_CRI),
            (counts.not_docker, NOT_DOCKER),
            (counts.json_errors, NOT_JSON),
            (counts.time_errors, NO_TIME),
            (counts.frame.cut, CUT),
            (counts.early, EARLY),
        ];
        for (lines, text) in causes.into_iter().filter(|(lines, _)| *lines > 0) {
            let mut quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(suppressed) = quiet.allow(now, text) else {
                continue;
            };
            drop(quiet);
            let log = log.unwrap_or("several");
            tracing::warn!(log, lines, suppressed, "{text}");
        }
    }
}

const NOT_CRI: &str = "lines are no CRI lines; they are sent as they are, with the time at which \
    they were read: read a log of another form by a pipeline without `cri`";
const NOT_DOCKER: &str = "lines are no lines of Docker's; they are sent as they are, with the time \
    at which they were read: read a log of another form by a pipeline without `docker`";
const NOT_JSON: &str = "texts are no JSON objects; they are sent as they are, without fields of \
    theirs: put the `json` stage into a `match` for the logs that have JSON";
const CUT: &str = "records are longer than `limits.record_bytes_max` and were cut; the rest of \
    them is lost: raise the limit, or have the writer write shorter lines";
const NO_TIME: &str = "values are no times of the `timestamp` stage's `format`; the records keep \
    the time that they had: mend `source` or `format`";
const EARLY: &str = "multiline blocks were sent before `wait` was over, as too many are open at \
    once; what still comes of them is a block of its own: raise `limits.memory`";
