//! What an answer means for the items of a request. Pure.
//!
//! ```text
//! Ok(answer)  -> by status -> (bulk: by each item's status) -> Verdict
//! Err(failure)             ->                                  Verdict::Retry
//! ```
//!
//! 1. Nothing is delivered but by 2xx (bulk: an item's 2xx or 409); nothing is rejected but by an
//!    answer that says that the item itself is bad. All else is sent again.
//! 2. Decided by status, never by the server's words. The one exception is the bulk item 400 of a
//!    cluster at its shard limit, which passes and is retried a bounded number of times.
//! 3. An answer is hostile: one that cannot be read, or that speaks of fewer or more items than
//!    were sent, means that the whole request is sent again.
//!
//! Absent: Loki stores the good entries of a push that it answers with 400 and does not say which
//! they are. Here the whole push counts as rejected, so the count may exceed what is lost.
//! Finding the bad entry by bisection is a later change. So is it for an entry that Loki answers
//! with 500 whenever it comes (a time before its first schema): here it is sent again for ever.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

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
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
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
        }
    }

    /// Whether somebody must change something before it can end.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Denied | Self::NotFound | Self::Redirect | Self::Unexpected
        )
    }
}

/// What is done with one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is stored.
    Delivered,
    /// It will never be stored.
    Rejected(Reason),
    /// It is sent again, without end.
    Retry(Reason),
    /// It is sent again some times, then rejected.
    RetryBounded(Reason),
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every item is stored.
    Delivered,
    /// No item will ever be stored.
    Rejected(Reason),
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
        /// The server's wish, in milliseconds.
        after_ms: Option<u64>,
    },
}

/// A verdict and the server's words, made fit for printing; empty where all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What is done.
    pub verdict: Verdict,
    /// What was said.
    pub text: String,
}

/// Judges the end of a call that carried `items` items.
#[must_use]
pub fn judge(sink: Sink, items: usize, end: &Result<Answer, Failure>) -> Judgement {
    let answer = match end {
        Ok(answer) => answer,
        Err(failure) => return failed(failure),
    };
    if let (Sink::Bulk, 200..=299) = (sink, answer.status) {
        return bulk(items, answer);
    }
    let retry = |reason| Verdict::Retry {
        reason,
        after_ms: answer.retry_after_ms,
    };
    let verdict = match (sink, answer.status) {
        (_, 200..=299) => Verdict::Delivered,
        (_, 300..=399) => retry(Reason::Redirect),
        (Sink::Loki, 400 | 422) => Verdict::Rejected(Reason::BadRequest),
        (Sink::Bulk, 400) => Verdict::Halve(Reason::BadRequest),
        (_, 401 | 403) => retry(Reason::Denied),
        (_, 404) => retry(Reason::NotFound),
        (_, 408) => retry(Reason::Timeout),
        (_, 413) => Verdict::Halve(Reason::TooLarge),
        (_, 429) => retry(Reason::Busy),
        (_, 500..=599) => retry(Reason::ServerError),
        (_, _) => retry(Reason::Unexpected),
    };
    let text = match verdict {
        Verdict::Delivered => String::new(),
        _ => format!("status {}: {}", answer.status, quote(&answer.body)),
    };
    Judgement { verdict, text }
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

#[derive(Deserialize)]
struct Head {
    errors: bool,
    /// How many items are answered; a server may leave them out when none has failed.
    #[serde(default)]
    items: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    items: Vec<BTreeMap<Cow<'a, str>, Outcome>>,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Cause>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cause {
    Full {
        #[serde(default, rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        reason: Option<String>,
    },
    Text(String),
}

fn bulk(items: usize, answer: &Answer) -> Judgement {
    // Fast path: a clean bulk is not looked at item by item.
    match serde_json::from_slice::<Head>(&answer.body) {
        Ok(Head {
            errors: false,
            items: answered,
        }) => {
            if let Some(answered) = answered.filter(|answered| answered.len() != items) {
                return malformed(&format!("{} items of {items} answered", answered.len()));
            }
            return Judgement {
                verdict: Verdict::Delivered,
                text: String::new(),
            };
        }
        Ok(Head { errors: true, .. }) => {}
        Err(error) => return malformed(&error.to_string()),
    }
    let bulk = match serde_json::from_slice::<Bulk<'_>>(&answer.body) {
        Ok(bulk) => bulk,
        Err(error) => return malformed(&error.to_string()),
    };
    if bulk.items.len() != items {
        return malformed(&format!("{} items of {items} answered", bulk.items.len()));
    }
    let mut fates = Vec::with_capacity(items);
    let mut text = String::new();
    for item in &bulk.items {
        let Some(outcome) = item.values().next() else {
            return malformed("an item without an outcome");
        };
        let fate = fate(outcome);
        if fate != Fate::Delivered && text.is_empty() {
            text = outcome.text();
        }
        fates.push(fate);
    }
    Judgement {
        verdict: Verdict::Items {
            fates,
            after_ms: answer.retry_after_ms,
        },
        text,
    }
}

fn malformed(why: &str) -> Judgement {
    let reason = Reason::Malformed;
    let text = format!("bulk answer: {}", quote(why.as_bytes()));
    Judgement {
        verdict: Verdict::Retry {
            reason,
            after_ms: None,
        },
        text,
    }
}

fn fate(outcome: &Outcome) -> Fate {
    match outcome.status {
        200..=299 | 409 => Fate::Delivered,
        401 | 403 => Fate::Retry(Reason::Denied),
        404 => Fate::RetryBounded(Reason::ItemNotFound),
        400 if outcome.kind() == "validation_exception" => Fate::RetryBounded(Reason::ShardLimit),
        429 => Fate::Retry(Reason::Busy),
        500..=599 => Fate::Retry(Reason::ServerError),
        400..=499 => Fate::Rejected(Reason::BadItem),
        _ => Fate::Retry(Reason::Unexpected),
    }
}

impl Outcome {
    fn kind(&self) -> &str {
        match &self.error {
            Some(Cause::Full {
                kind: Some(kind), ..
            }) => kind,
            _ => "",
        }
    }

    fn text(&self) -> String {
        let why = match &self.error {
            Some(Cause::Full {
                reason: Some(reason),
                ..
            }) => reason,
            Some(Cause::Text(text)) => text,
            _ => "no reason given",
        };
        format!(
            "item status {} {}: {}",
            self.status,
            quote(self.kind().as_bytes()),
            quote(why.as_bytes())
        )
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
