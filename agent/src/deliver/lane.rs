//! A lane: the requests of one encoder for one output and tenant, in order, one at a time.
//!
//! ```text
//! push -> queue: [Load, Load, ..]   the first load's first part flies -> end() -> judged:
//!   delivered / rejected -> items settled, next part, next load
//!   retry                -> the same part after a wait (Retry-After, else jittered backoff)
//!   halve                -> [half, half] instead;  a single item: rejected
//!   items                -> the retried ones alone, first
//! ```
//!
//! 1. At most one part is in flight, and it is the first part of the first load.
//! 2. A load leaves the lane settled, or dropped when its body cannot be taken apart.
//! 3. No clock is read and nothing is sent here: time and ends of calls come in.

use std::collections::VecDeque;

use super::judge::{Fate, Judgement, Reason, Verdict};
use super::load::{Load, Part, Recompose};
use super::tally::Tally;
use super::transport::CallId;
use crate::base::backoff::Backoff;
use crate::base::time::Mono;
use crate::encode::Item;
use crate::ticket::LineFate;

/// A server may not ask for a longer wait.
const RETRY_AFTER_MS_MAX: u64 = 300_000;
/// An item that is retried a bounded number of times is rejected at this try.
const BOUNDED_TRIES: u32 = 10;

/// The part in flight.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: CallId,
    /// The transport should have ended the call by now.
    pub(crate) give_up: Mono,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: VecDeque<Load>,
    pub(crate) flight: Option<Flight>,
    retry_at: Option<Mono>,
    backoff: Backoff,
    pub(crate) failing_since: Option<Mono>,
}

/// What a lane needs to judge.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) now: Mono,
    pub(crate) recompose: Recompose,
    pub(crate) tally: &'a mut Tally,
}

impl Lane {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self {
            queue: VecDeque::new(),
            flight: None,
            retry_at: None,
            backoff,
            failing_since: None,
        }
    }

    /// When the lane wants to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        match &self.flight {
            Some(flight) => Some(flight.give_up),
            None => self.retry_at,
        }
    }

    /// The part to be sent now, if any.
    pub(crate) fn ready(&self, now: Mono) -> Option<&Part> {
        if self.flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.queue.front()?.parts.front()
    }

    /// How many items are in flight.
    pub(crate) fn items_in_flight(&self) -> usize {
        self.queue
            .front()
            .and_then(|load| load.parts.front())
            .map_or(0, |part| part.items.len())
    }

    /// The part in flight has ended. Gives the window's bytes of a load that has left the lane.
    pub(crate) fn end(&mut self, judgement: Judgement, bench: &mut Bench<'_>) -> Option<u64> {
        self.flight = None;
        self.retry_at = None;
        let mut load = self.queue.pop_front()?;
        let Some(part) = load.parts.pop_front() else {
            return Some(close(load, bench));
        };
        let before = self.backoff.tries();
        let done = match judgement.verdict {
            Verdict::Delivered => {
                deliver(&mut load, &part.items, bench);
                Ok(())
            }
            Verdict::Rejected(reason) => {
                reject(&mut load, &part, reason, &judgement.text, bench);
                Ok(())
            }
            Verdict::Retry { reason, after_ms } => {
                load.parts.push_front(part);
                self.wait(reason, after_ms, &judgement.text, bench);
                Ok(())
            }
            Verdict::Halve(reason) => halve(&mut load, &part, reason, &judgement.text, bench),
            Verdict::Items { fates, after_ms } => {
                self.sort(&mut load, part, (&fates, after_ms), &judgement.text, bench)
            }
        };
        if self.backoff.tries() == before {
            self.backoff.reset();
            self.failing_since = None;
        }
        if let Err(why) = done {
            let bytes = load.window_bytes;
            bench.tally.dropped(bench.now, load.lines(), &why);
            return Some(bytes);
        }
        if load.parts.is_empty() {
            return Some(close(load, bench));
        }
        self.queue.push_front(load);
        None
    }

    fn wait(&mut self, reason: Reason, after_ms: Option<u64>, text: &str, bench: &mut Bench<'_>) {
        let drawn = self.backoff.next_ms();
        // A server may ask for more, never for less: `Retry-After: 0` would be a loop.
        let wait_ms = drawn.max(after_ms.map_or(0, |after| after.min(RETRY_AFTER_MS_MAX)));
        self.retry_at = Some(bench.now.plus_ms(wait_ms));
        self.failing_since.get_or_insert(bench.now);
        bench.tally.retried(bench.now, reason, wait_ms, text);
    }

    fn sort(
        &mut self,
        load: &mut Load,
        mut part: Part,
        (fates, after_ms): (&[Fate], Option<u64>),
        text: &str,
        bench: &mut Bench<'_>,
    ) -> Result<(), String> {
        let bounded = |fate: &Fate| matches!(fate, Fate::RetryBounded(_));
        part.bounded_tries += u32::from(fates.iter().any(bounded));
        let (mut again, mut why) = (Vec::new(), None);
        for (place, (item, fate)) in part.items.iter().zip(fates).enumerate() {
            match fate {
                Fate::Delivered => deliver(load, std::slice::from_ref(item), bench),
                Fate::RetryBounded(reason) if part.bounded_tries >= BOUNDED_TRIES => {
                    bench
                        .tally
                        .rejected(bench.now, *reason, u64::from(item.lines), text);
                    load.settle(item, LineFate::Rejected);
                }
                Fate::Rejected(reason) => {
                    bench
                        .tally
                        .rejected(bench.now, *reason, u64::from(item.lines), text);
                    load.settle(item, LineFate::Rejected);
                }
                Fate::Retry(reason) | Fate::RetryBounded(reason) => {
                    again.push(place);
                    why.get_or_insert(*reason);
                }
            }
        }
        let Some(reason) = why else { return Ok(()) };
        self.wait(reason, after_ms, text, bench);
        let all = again.len() == part.items.len();
        let rest = if all {
            part
        } else {
            part.keep(&again, bench.recompose)?
        };
        load.parts.push_front(rest);
        Ok(())
    }
}

fn deliver(load: &mut Load, items: &[Item], bench: &mut Bench<'_>) {
    let (mut lines, mut bytes) = (0, 0);
    for item in items {
        lines += u64::from(item.lines);
        bytes += u64::from(item.range.end.saturating_sub(item.range.start));
        load.settle(item, LineFate::Delivered);
    }
    bench.tally.acknowledged_lines.add(lines);
    bench.tally.acknowledged_bytes.add(bytes);
}

fn reject(load: &mut Load, part: &Part, reason: Reason, text: &str, bench: &mut Bench<'_>) {
    bench.tally.rejected(bench.now, reason, part.lines(), text);
    part.items
        .iter()
        .for_each(|item| load.settle(item, LineFate::Rejected));
}

fn halve(
    load: &mut Load,
    part: &Part,
    reason: Reason,
    text: &str,
    bench: &mut Bench<'_>,
) -> Result<(), String> {
    if part.items.len() < 2 {
        reject(load, part, reason, text, bench);
        return Ok(());
    }
    let places: Vec<usize> = (0..part.items.len()).collect();
    let (first, second) = places.split_at(places.len() / 2);
    let (first, second) = (
        part.keep(first, bench.recompose)?,
        part.keep(second, bench.recompose)?,
    );
    load.parts.push_front(second);
    load.parts.push_front(first);
    Ok(())
}

fn close(load: Load, bench: &mut Bench<'_>) -> u64 {
    bench.tally.settled(bench.now.ms_since(load.opened));
    let bytes = load.window_bytes;
    load.finish();
    bytes
}
