//! What becomes of a part, by its judgement: settled, sent again, taken apart.
//!
//! 1. An item is rejected after it was counted and handed to the dead letters; then its claim is
//!    settled.
//! 2. What a server answers again and again for one part is asked a bounded number of times only where
//!    a row below says so; all else is asked without end.
//!
//! | answer | after | then |
//! |---|---|---|
//! | 413, a bulk's 400 | at once | halves; a lone item is rejected |
//! | bulk item 404, shard limit | [`BOUNDED_TRIES`] | rejected |
//! | bulk item 400 | one more try as plain text | rejected |
//! | connection broken | [`BREAKS`] of a larger body than any that was stored, or [`BREAKS_MANY`] | halves; a lone item is sent again |
//! | Loki's limits | `refusal.rs` | |

use std::sync::Arc;

use super::dead::Dead;
use super::judge::{Fate, Judgement, Reason, Verdict};
use super::load::{Bodies, Load, Part};
use super::refusal;
use super::tally::Tally;
use crate::base::time::Mono;
use crate::encode::Item;
use crate::ticket::LineFate;

/// What is retried a bounded number of times is rejected at this try.
pub(crate) const BOUNDED_TRIES: u32 = 10;
/// A body that no server has ever taken in this size is halved when it was broken off so often.
const BREAKS: u32 = 2;
/// Any body is: some server's limit may have come down.
const BREAKS_MANY: u32 = 10;

/// What a lane needs to judge.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) now: Mono,
    pub(crate) bodies: Bodies,
    pub(crate) tally: &'a mut Tally,
    pub(crate) dead: &'a Dead,
    pub(crate) tenant: Option<Arc<str>>,
    /// How many streams may still get a way of their own.
    pub(crate) slow_room: usize,
    /// The part comes from such a way.
    pub(crate) is_slow: bool,
    /// The largest body that was stored, in bytes as sent.
    pub(crate) passed: usize,
}

/// What a way does next.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Sent next, in order.
    pub(crate) front: Vec<Part>,
    /// Sent when the load's other parts are settled.
    pub(crate) last: Option<Part>,
    /// Before that, a wait: why, and what the server wished.
    pub(crate) wait: Option<(Reason, Option<u64>)>,
    /// A stream goes its own way from here.
    pub(crate) slow: Option<(String, Part, Reason)>,
    /// The body was stored as it was.
    pub(crate) is_stored: bool,
}

impl Outcome {
    /// The part once more, after a wait.
    pub(crate) fn again(part: Part, reason: Reason, after_ms: Option<u64>) -> Self {
        Self {
            front: vec![part],
            wait: Some((reason, after_ms)),
            ..Self::default()
        }
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        let slow = self.slow.iter().map(|(_, part, _)| part);
        self.front.iter().chain(&self.last).chain(slow)
    }
}

/// Decides about a part; gives the server's words back.
///
/// # Errors
/// The body cannot be taken apart: says why.
pub(crate) fn decide(
    mut part: Part,
    load: &mut Load,
    judgement: Judgement,
    bench: &mut Bench<'_>,
) -> Result<(Outcome, String), String> {
    let text = judgement.text;
    let outcome = match judgement.verdict {
        Verdict::Delivered => {
            deliver(load, &part, &part.all(), bench);
            Outcome {
                is_stored: true,
                ..Outcome::default()
            }
        }
        Verdict::Retry { reason, after_ms } => {
            let times = part.again(reason);
            let is_new_size = part.body.len() > bench.passed;
            let most = if is_new_size { BREAKS } else { BREAKS_MANY };
            let splits = reason == Reason::Broken && times >= most && part.items.len() > 1;
            let front = if splits {
                halves(&part, bench)?
            } else {
                vec![part]
            };
            Outcome {
                front,
                wait: Some((reason, after_ms)),
                ..Outcome::default()
            }
        }
        Verdict::Halve(reason) => halve(part, load, reason, &text, bench)?,
        Verdict::Items {
            fates,
            words,
            after_ms,
        } => items(part, load, (&fates, &words, after_ms), &text, bench)?,
        Verdict::Said { said, after_ms } => {
            refusal::refuse(part, load, (&said, after_ms), &text, bench)?
        }
    };
    Ok((outcome, text))
}

/// In halves; a lone item is rejected.
fn halve(
    part: Part,
    load: &mut Load,
    reason: Reason,
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    if part.items.len() < 2 {
        give_up(load, &part, &part.all(), reason, text, bench);
        return Ok(Outcome::default());
    }
    Ok(Outcome {
        front: halves(&part, bench)?,
        ..Outcome::default()
    })
}

pub(crate) fn halves(part: &Part, bench: &Bench<'_>) -> Result<Vec<Part>, String> {
    cut(part, part.items.len() / 2, bench)
}

/// Its items before `at`, and those from there on.
pub(crate) fn cut(part: &Part, at: usize, bench: &Bench<'_>) -> Result<Vec<Part>, String> {
    let all = part.all();
    let (first, second) = all.split_at(at);
    let halves = [first, second].map(|keep| part.keep(keep, bench.bodies));
    halves.into_iter().collect()
}

/// A bulk's items, each by its own fate.
fn items(
    mut part: Part,
    load: &mut Load,
    (fates, words, after_ms): (&[Fate], &[Option<String>], Option<u64>),
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    let bounded = |fate: &Fate| matches!(fate, Fate::RetryBounded(_));
    part.bounded_tries += u32::from(fates.iter().any(bounded));
    let (mut stored, mut again, mut plain, mut why) = (Vec::new(), Vec::new(), Vec::new(), None);
    let said = |at: usize| words.get(at).and_then(Option::as_deref).unwrap_or(text);
    for (at, fate) in fates.iter().enumerate() {
        match fate {
            Fate::Delivered => stored.push(at),
            Fate::RetryBounded(reason) if part.bounded_tries >= BOUNDED_TRIES => {
                give_up(load, &part, &[at], *reason, said(at), bench);
            }
            Fate::Plain(reason) if part.plain => {
                give_up(load, &part, &[at], *reason, said(at), bench);
            }
            Fate::Plain(_) => plain.push(at),
            Fate::Retry(reason) | Fate::RetryBounded(reason) => {
                again.push(at);
                why.get_or_insert(*reason);
            }
        }
    }
    deliver(load, &part, &stored, bench);
    let mut outcome = Outcome::default();
    if !plain.is_empty() {
        let (encoding, made) = (part.encoding, &part);
        let (changed, body) = (bench.bodies.plain)(encoding, &made.body, &made.items, &plain)?;
        for at in plain.iter().filter(|at| !changed.contains(at)) {
            // It bears no members of the log's own: as text it would be the same.
            give_up(load, &part, &[*at], Reason::BadItem, said(*at), bench);
        }
        if !changed.is_empty() {
            outcome.front.push(Part {
                plain: true,
                ..Part::of(encoding, body)
            });
        }
    }
    if let Some(reason) = why {
        outcome.wait = Some((reason, after_ms));
        let all = again.len() == part.items.len();
        outcome.front.push(match all {
            true => part,
            false => part.keep(&again, bench.bodies)?,
        });
    }
    Ok(outcome)
}

/// The items at these places are stored.
pub(crate) fn deliver(load: &mut Load, part: &Part, places: &[usize], bench: &mut Bench<'_>) {
    let (lines, bytes) = sum(part, places);
    for at in places {
        load.settle(&part.items[*at], LineFate::Delivered);
    }
    bench.tally.acknowledged_lines.add(lines);
    bench.tally.acknowledged_bytes.add(bytes);
    if part.plain {
        bench.tally.plain_lines.add(lines);
    }
}

/// The items at these places will never be stored: counted, handed to the dead letters, settled.
pub(crate) fn give_up(
    load: &mut Load,
    part: &Part,
    places: &[usize],
    reason: Reason,
    text: &str,
    bench: &mut Bench<'_>,
) {
    if places.is_empty() {
        return;
    }
    let (lines, bytes) = sum(part, places);
    bench
        .tally
        .rejected(bench.now, reason, (lines, bytes), text);
    if bench.dead.is_kept() {
        bury(part, places, reason, text, bench);
    }
    for at in places {
        load.settle(&part.items[*at], LineFate::Rejected);
    }
}

fn bury(part: &Part, places: &[usize], reason: Reason, text: &str, bench: &Bench<'_>) {
    let whole = (part.encoding, &*part.body, &*part.items, &*part.groups);
    let Ok(found) = (bench.bodies.lines)(whole.0, whole.1, whole.2, whole.3, places) else {
        return bench.dead.lose(sum(part, places).0);
    };
    let (words, tenant) = (Arc::from(text), bench.tenant.as_ref());
    for (line, at) in found.into_iter().zip(places) {
        let lines = part.items[*at].lines;
        bench
            .dead
            .put(tenant, (reason.label(), &words), line, lines);
    }
}

/// Lines, and body bytes before compression.
fn sum(part: &Part, places: &[usize]) -> (u64, u64) {
    let items = places.iter().map(|at| &part.items[*at]);
    items.fold((0, 0), |(lines, bytes), item: &Item| {
        let range = item.range.end.saturating_sub(item.range.start);
        (lines + u64::from(item.lines), bytes + u64::from(range))
    })
}
