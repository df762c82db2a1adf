//! What Loki's answer to a push means, as far as the answer alone says it.
//!
//! ```text
//! 200, 204 -> stored      413, "too large" -> halves     401 403 404 405 3xx -> held, loudly
//! 400, 422 -> said        429 -> said, else again        5xx -> again; "no schema": said
//! ```
//!
//! 1. A 400 names limits, not entries: what it refuses is found in the body (`deliver::sort`).
//! 2. A 400 that no entry causes (media type, tenant, ingestion blocked) is held like a 403.
//! 3. A 500 is an outage, whatever it says, but where it says that an entry lies before the schema.

use super::said::{Said, read};
use super::{Reason, Verdict};
use crate::deliver::transport::Answer;

/// `block_ingestion_status_code`'s default: a 2xx, yet nothing is stored.
const BLOCKED: u16 = 260;

/// Judges an answer.
pub(super) fn loki(answer: &Answer) -> Verdict {
    let retry = |reason| Verdict::Retry {
        reason,
        after_ms: answer.retry_after_ms,
    };
    let said = |said| Verdict::Said {
        said,
        after_ms: answer.retry_after_ms,
    };
    match (answer.status, read(&answer.body)) {
        (BLOCKED, _) => retry(Reason::Denied),
        (200..=299, _) => Verdict::Delivered,
        (413, _) | (400 | 422 | 429 | 500..=599, Said::TooLarge) => {
            Verdict::Halve(Reason::TooLarge)
        }
        (400 | 422 | 429, Said::Setup) => retry(Reason::Setup),
        (400 | 422, words) => said(words),
        (429, words @ (Said::Stream(_) | Said::NewStream(_) | Said::Rate { .. })) => said(words),
        (429, _) => retry(Reason::Busy),
        (500, words @ Said::BeforeSchema { .. }) => said(words),
        (status, _) => super::by_status(status, answer.retry_after_ms),
    }
}
