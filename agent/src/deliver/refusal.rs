//! A push that Loki did not take whole: what of it is stored, refused, held back, or asked again.
//!
//! ```text
//! words -> sort (which entries they speak of) -> stored -> settled
//!                                             -> refused -> rejected, with the limit as the reason
//!                                             -> held -> the stream's own slow way
//!                                             -> again -> the rest once more
//!       -> name nothing in it                 -> halves, down to a lone entry or stream
//! ```
//!
//! 1. Finding out costs a request a budget of some 2 log2(n) requests, and as many again for each of the
//!    first few culprits that are found (`Load::found`). When it is used up, what is still refused is asked
//!    [`BOUNDED_TRIES`] times more, with waits, and then rejected as `undecided`: it lies with the dead
//!    letters, for Loki may have stored it.
//! 2. A lone entry that is refused in words that nobody knows is rejected when the output has stored
//!    something meanwhile: a gateway that answers 400 to everything rejects nothing so soon. Else it
//!    is asked again behind the others, then [`BOUNDED_TRIES`] times.
//! 3. A 500 that names a time before the schema is asked [`SCHEMA_TRIES`] times before it is believed.
//!    All other 500s are outages, and no entry is blamed for them.
//! 4. A push over its tenant's rate is halved: what is over the burst never passes whole. So is a
//!    stream's on its slow way. A lone entry of more bytes than a second lets through is asked
//!    [`BOUNDED_TRIES`] times, and for [`OVER_RATE_MS`] at the least: a burst may hold it.

use super::fate::{BOUNDED_TRIES, Bench, Outcome, cut, deliver, give_up, halves};
use super::judge::{Reason, Said};
use super::load::{Load, Part};
use super::sort::{Place, Sorted, sort};

/// How often in a row a push must be refused for a time before the schema.
const SCHEMA_TRIES: u32 = 5;
/// A push within its tenant's rate is halved when it was over the rate so often in a row: the burst
/// may be smaller.
const RATE_TRIES: u32 = 8;

/// Bursts are refilled within less, in milliseconds: Loki's own take two seconds to five.
const OVER_RATE_MS: u64 = 60_000;

/// Decides about a part by Loki's words.
///
/// # Errors
/// The body cannot be taken apart: says why.
pub(crate) fn refuse(
    mut part: Part,
    load: &mut Load,
    (said, after_ms): (&Said, Option<u64>),
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    match said {
        Said::Rate { limit, bytes } => {
            return over_rate(part, load, (bytes > limit, after_ms), text, bench);
        }
        Said::BeforeSchema { .. } if part.again(Reason::ServerError) < SCHEMA_TRIES => {
            return Ok(Outcome::again(part, Reason::ServerError, after_ms));
        }
        Said::BeforeSchema { .. }
        | Said::Refused(_)
        | Said::Stream(_)
        | Said::NewStream(_)
        | Said::TooLarge
        | Said::Unparsed
        | Said::Setup
        | Said::Unknown => {}
    }
    // A lone line that is longer than its stream's rate may be over the burst, and never pass.
    let rate = match said {
        Said::Stream(fault) => fault.rate,
        _ => None,
    };
    let looked = (bench.bodies.look)(part.encoding, &part.body, &part.items, &part.groups)?;
    match sort(said, &looked) {
        Sorted::Places { places, held } => {
            let held = held.and_then(|(at, why)| Some((looked.streams.get(at)?.clone(), why)));
            let line = looked.entries.first().map(|entry| entry.line_bytes);
            let is_over = line > rate && rate.is_some();
            placed(part, load, (&places, held, is_over, after_ms), text, bench)
        }
        Sorted::Halves => {
            let reason = match said {
                Said::BeforeSchema { .. } => Reason::BeforeSchema,
                _ => Reason::BadRequest,
            };
            let at = part.items.len() / 2;
            bisect(part, load, (at, reason), text, bench)
        }
        Sorted::StreamHalves => {
            let streams = part.groups.len().max(1) as u32;
            let middle = part
                .items
                .iter()
                .position(|item| item.group >= streams.div_ceil(2));
            let at = middle.unwrap_or(0);
            bisect(part, load, (at, Reason::Labels), text, bench)
        }
        Sorted::Wait(reason) => Ok(Outcome::again(part, reason, after_ms)),
    }
}

/// The stream that is held, and why.
type Held = Option<(String, Reason)>;

/// The words have named entries.
fn placed(
    mut part: Part,
    load: &mut Load,
    (places, held, over, after_ms): (&[Place], Held, bool, Option<u64>),
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    let (mut stored, mut kept, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut refused: Vec<(Reason, Vec<usize>)> = Vec::new();
    for (at, place) in places.iter().enumerate() {
        match place {
            Place::Stored => stored.push(at),
            Place::Held => kept.push(at),
            Place::Again => again.push(at),
            Place::Refused(reason) => match refused.iter_mut().find(|it| it.0 == *reason) {
                Some((_, places)) => places.push(at),
                None => refused.push((*reason, vec![at])),
            },
        }
    }
    deliver(load, &part, &stored, bench);
    for (reason, places) in &refused {
        give_up(load, &part, places, *reason, text, bench);
    }
    let Some((stream, why)) = held.filter(|_| !kept.is_empty()) else {
        return once_more(part, load, &again, text, bench);
    };
    if bench.is_slow || bench.slow_room == 0 {
        if bench.is_slow && why == Reason::StreamRate && kept.len() == part.items.len() {
            let is_over = part.items.len() > 1 || over;
            return over_rate(part, load, (is_over, after_ms), text, bench);
        }
        // In its own way already, or there is none to be had: all of it waits, in order.
        again.extend(kept);
        again.sort_unstable();
        part.again(why);
        let rest = part.keep(&again, bench.bodies)?;
        return Ok(Outcome::again(rest, why, after_ms));
    }
    let own = part.keep(&kept, bench.bodies)?;
    let mut outcome = Outcome {
        slow: Some((stream, own, why)),
        ..Outcome::default()
    };
    if !again.is_empty() {
        outcome.front.push(part.keep(&again, bench.bodies)?);
    }
    Ok(outcome)
}

/// The rest goes again, as far as the budget lasts.
fn once_more(
    part: Part,
    load: &mut Load,
    again: &[usize],
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    if again.is_empty() {
        return Ok(Outcome::default());
    }
    let rest = part.keep(again, bench.bodies)?;
    if load.budget == 0 {
        return Ok(bounded(rest, load, Reason::Undecided, text, bench));
    }
    load.budget -= 1;
    Ok(Outcome {
        front: vec![rest],
        ..Outcome::default()
    })
}

/// Words that name nothing in it.
fn bisect(
    mut part: Part,
    load: &mut Load,
    (at, reason): (usize, Reason),
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    let stored = bench.tally.acknowledged_lines.get();
    let stored_then = *load.stored_then.get_or_insert(stored);
    if at == 0 {
        if stored > stored_then {
            load.found();
            give_up(load, &part, &part.all(), reason, text, bench);
            return Ok(Outcome::default());
        }
        if !part.asked && load.parts() > 1 {
            part.asked = true;
            return Ok(Outcome {
                last: Some(part),
                ..Outcome::default()
            });
        }
        return Ok(bounded(part, load, reason, text, bench));
    }
    if load.budget < 2 {
        return Ok(bounded(part, load, Reason::Undecided, text, bench));
    }
    load.budget -= 2;
    Ok(Outcome {
        front: cut(&part, at, bench)?,
        ..Outcome::default()
    })
}

/// Asked again with waits, and rejected at the last try.
fn bounded(
    mut part: Part,
    load: &mut Load,
    reason: Reason,
    text: &str,
    bench: &mut Bench<'_>,
) -> Outcome {
    part.bounded_tries += 1;
    if part.bounded_tries >= BOUNDED_TRIES {
        give_up(load, &part, &part.all(), reason, text, bench);
        return Outcome::default();
    }
    Outcome::again(part, Reason::BadRequest, None)
}

/// Nothing of it is stored: it is over a rate, by itself or for now.
fn over_rate(
    mut part: Part,
    load: &mut Load,
    (is_over, after_ms): (bool, Option<u64>),
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<Outcome, String> {
    let times = part.again(Reason::Busy);
    let reason = match bench.is_slow {
        true => Reason::StreamRate,
        false => Reason::Busy,
    };
    if part.items.len() > 1 && (is_over || times >= RATE_TRIES) {
        return Ok(Outcome {
            front: halves(&part, bench)?,
            wait: Some((reason, after_ms)),
            ..Outcome::default()
        });
    }
    if part.items.len() == 1 && is_over {
        part.bounded_tries += 1;
        let since = *part.over_since.get_or_insert(bench.now);
        let is_long = bench.now.ms_since(since) >= OVER_RATE_MS;
        if part.bounded_tries >= BOUNDED_TRIES && is_long {
            give_up(load, &part, &part.all(), Reason::OverBurst, text, bench);
            return Ok(Outcome::default());
        }
    }
    Ok(Outcome::again(part, reason, after_ms))
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
