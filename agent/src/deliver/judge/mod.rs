//! What an answer means for the items of a request. Pure.
//!
//! ```text
//! Ok(answer)  -> bulk: by status, then by each item's -> Verdict
//!             -> Loki: by status, then by its words   -> Verdict::Said -> deliver::sort
//! Err(failure)                                        -> Verdict::Retry
//! ```
//!
//! 1. Nothing is delivered but by 2xx (bulk: an item's 2xx or 409); nothing is rejected but by an
//!    answer that says that the item itself is bad. All else is sent again.
//! 2. Decided by status. Words decide where a status alone would lose lines: Loki's limits, which
//!    answer 400 for a push whose other entries are stored.

mod bulk;
mod loki;
mod said;

#[cfg(test)]
pub(crate) use said::read;
pub(crate) use said::{Cause, Fault, Labels, Named, Said, StreamFault, What, labels_at};

use super::redact::quote;
use super::transport::{Answer, Failure};

/// Which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Loki's push.
    Loki,
    /// `_bulk`.
    Bulk,
}

/// Why something is sent again, or never again; a counter's `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the labels say it")]
pub enum Reason {
    Connect,
    Timeout,
    Broken,
    Malformed,
    Busy,
    ServerError,
    Denied,
    NotFound,
    Redirect,
    Unexpected,
    TooLarge,
    BadRequest,
    BadItem,
    ItemNotFound,
    ShardLimit,
    Setup,
    StreamRate,
    StreamLimit,
    LineTooLong,
    TooOld,
    TooNew,
    TooFarBehind,
    Labels,
    Metadata,
    BeforeSchema,
    Undecided,
    OverBurst,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 27] = [
        Self::Connect,
        Self::Timeout,
        Self::Broken,
        Self::Malformed,
        Self::Busy,
        Self::ServerError,
        Self::Denied,
        Self::NotFound,
        Self::Redirect,
        Self::Unexpected,
        Self::TooLarge,
        Self::BadRequest,
        Self::BadItem,
        Self::ItemNotFound,
        Self::ShardLimit,
        Self::Setup,
        Self::StreamRate,
        Self::StreamLimit,
        Self::LineTooLong,
        Self::TooOld,
        Self::TooNew,
        Self::TooFarBehind,
        Self::Labels,
        Self::Metadata,
        Self::BeforeSchema,
        Self::Undecided,
        Self::OverBurst,
    ];

    /// The label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::ServerError => "server_error",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Redirect => "redirect",
            Self::Unexpected => "unexpected_status",
            Self::TooLarge => "too_large",
            Self::BadRequest => "bad_request",
            Self::BadItem => "bad_item",
            Self::ItemNotFound => "item_not_found",
            Self::ShardLimit => "shard_limit",
            Self::Setup => "setup",
            Self::StreamRate => "stream_rate",
            Self::StreamLimit => "stream_limit",
            Self::LineTooLong => "line_too_long",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::TooFarBehind => "too_far_behind",
            Self::Labels => "labels",
            Self::Metadata => "metadata",
            Self::BeforeSchema => "before_schema",
            Self::Undecided => "undecided",
            Self::OverBurst => "over_burst",
        }
    }

    /// Whether somebody must change something before it can end.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Denied
                | Self::NotFound
                | Self::Redirect
                | Self::Unexpected
                | Self::Setup
                | Self::StreamLimit
        )
    }
}

/// What is done with one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is stored.
    Delivered,
    /// It is refused as it is: it goes once more with the log's text unparsed, then never again.
    Plain(Reason),
    /// It is sent again, without end.
    Retry(Reason),
    /// It is sent again some times, then rejected.
    RetryBounded(Reason),
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Every item is stored.
    Delivered,
    /// Everything is sent again.
    Retry {
        /// Why.
        reason: Reason,
        /// The server's wish, in milliseconds.
        after_ms: Option<u64>,
    },
    /// Sent again in halves; a single item is rejected.
    Halve(Reason),
    /// Each item has its own, in order of the items.
    Items {
        /// One an item.
        fates: Vec<Fate>,
        /// The server's words for those that may be given up.
        words: Vec<Option<String>>,
        /// The server's wish, in milliseconds.
        after_ms: Option<u64>,
    },
    /// Loki's words decide, beside the entries.
    Said {
        /// What it said.
        said: Said,
        /// The server's wish, in milliseconds.
        after_ms: Option<u64>,
    },
}

/// A verdict and the server's words, made fit for printing; empty where all is well.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    /// What is done.
    pub(crate) verdict: Verdict,
    /// What was said.
    pub(crate) text: String,
}

/// Judges the end of a call that carried `items` items.
#[must_use]
pub(crate) fn judge(sink: Sink, items: usize, end: &Result<Answer, Failure>) -> Judgement {
    let answer = match end {
        Ok(answer) => answer,
        Err(failure) => return failed(failure),
    };
    let verdict = match (sink, answer.status) {
        (Sink::Bulk, 200..=299) => return bulk::bulk(items, answer),
        (Sink::Bulk, 400) => Verdict::Halve(Reason::BadRequest),
        (Sink::Bulk, status) => by_status(status, answer.retry_after_ms),
        (Sink::Loki, _) => loki::loki(answer),
    };
    let text = match verdict {
        Verdict::Delivered => String::new(),
        _ => format!("status {}: {}", answer.status, quote(&answer.body)),
    };
    Judgement { verdict, text }
}

/// What a status means that says nothing of single items.
fn by_status(status: u16, after_ms: Option<u64>) -> Verdict {
    let reason = match status {
        413 => return Verdict::Halve(Reason::TooLarge),
        300..=399 => Reason::Redirect,
        401 | 403 => Reason::Denied,
        404 => Reason::NotFound,
        408 => Reason::Timeout,
        429 => Reason::Busy,
        500..=599 => Reason::ServerError,
        _ => Reason::Unexpected,
    };
    Verdict::Retry { reason, after_ms }
}

fn failed(failure: &Failure) -> Judgement {
    let (reason, text) = match failure {
        Failure::Connect(why) => (
            Reason::Connect,
            format!("connect: {}", quote(why.as_bytes())),
        ),
        Failure::Timeout => (Reason::Timeout, "no answer in time".to_owned()),
        Failure::Broken(why) => (Reason::Broken, quote(why.as_bytes())),
    };
    Judgement {
        verdict: Verdict::Retry {
            reason,
            after_ms: None,
        },
        text,
    }
}

#[cfg(test)]
mod tests;
