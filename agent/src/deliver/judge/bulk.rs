//! What a bulk's answer means: each item by its own status.
//!
//! 1. Decided by status, never by the server's words, which differ between servers and versions. The
//!    one exception is the item 400 of a cluster at its shard limit, which passes.
//! 2. An answer is hostile: one that cannot be read, or that speaks of fewer or more items than
//!    were sent, means that the whole request is sent again.
//! 3. A clean bulk may be as short as `{"errors":false}`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Fate, Judgement, Reason, Verdict};
use crate::deliver::redact::quote;
use crate::deliver::transport::Answer;

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

/// Judges a 2xx that answers `items` items.
pub(super) fn bulk(items: usize, answer: &Answer) -> Judgement {
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
    let (mut fates, mut words) = (Vec::with_capacity(items), Vec::new());
    let mut text = String::new();
    for item in &bulk.items {
        let Some(outcome) = item.values().next() else {
            return malformed("an item without an outcome");
        };
        let fate = fate(outcome);
        if fate != Fate::Delivered && text.is_empty() {
            text = outcome.text();
        }
        let may_be_rejected = matches!(fate, Fate::Plain(_) | Fate::RetryBounded(_));
        words.push(may_be_rejected.then(|| outcome.text()));
        fates.push(fate);
    }
    Judgement {
        verdict: Verdict::Items {
            fates,
            words,
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
        400..=499 => Fate::Plain(Reason::BadItem),
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
