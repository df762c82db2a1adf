//! Which entries of a push Loki's words speak of. Pure.
//!
//! ```text
//! Said + Looked -> Sorted: each entry stored | refused | held with its stream | to be sent again
//! ```
//!
//! 1. An entry is refused only where a limit names its stream and its own time or size fits.
//! 2. A distributor names all that it refuses, by count: where as many are found, the rest is stored.
//!    Where fewer are, the rest is sent again; Loki keeps an exact duplicate once.
//! 3. An ingester speaks of one stream, and hides what the distributor has refused besides: all other
//!    entries of the push are sent again, once without the stream that it named.
//! 4. Words that fit no entry decide nothing: the push is sent in halves.
//!
//! Loki adds labels of its own (`service_name`, shards) to what it names.

use super::judge::{Cause, Fault, Labels, Named, Reason, Said, StreamFault, What};
use crate::base::time::Timestamp;
use crate::encode::{Entry, Looked};

/// What is done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is stored.
    Stored,
    /// It will never be.
    Refused(Reason),
    /// Its stream waits, and it with it.
    Held,
    /// Nobody knows: it goes again.
    Again,
}

/// What is done with a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sorted {
    /// One an entry.
    Places {
        places: Vec<Place>,
        /// The stream of those that are held, by place in [`Looked::streams`], and why.
        held: Option<(usize, Reason)>,
    },
    /// The words name nothing in it: sent in halves.
    Halves,
    /// Some stream's labels are at fault: sent in halves that cut no stream in two.
    StreamHalves,
    /// All of it waits.
    Wait(Reason),
}

/// Sorts the entries of a push by what was said of it.
pub(crate) fn sort(said: &Said, looked: &Looked) -> Sorted {
    match said {
        Said::Refused(faults) => refused(faults, looked),
        Said::Stream(fault) => stream(fault, looked),
        Said::NewStream(labels) => {
            let found = labels.as_ref().and_then(|labels| find(looked, labels));
            let Some(at) = found else {
                return Sorted::Wait(Reason::StreamLimit);
            };
            let place = |entry: &Entry| match entry.stream as usize == at {
                true => Place::Held,
                false => Place::Again,
            };
            Sorted::Places {
                places: looked.entries.iter().map(place).collect(),
                held: Some((at, Reason::StreamLimit)),
            }
        }
        Said::BeforeSchema { ms } => before_schema(*ms, looked),
        Said::Unparsed => Sorted::StreamHalves,
        Said::Rate { .. } => Sorted::Wait(Reason::Busy),
        Said::TooLarge | Said::Setup | Said::Unknown => Sorted::Halves,
    }
}

fn refused(faults: &[Fault], looked: &Looked) -> Sorted {
    let mut places = vec![None; looked.entries.len()];
    if let ([place], Some(fault)) = (&mut *places, faults.first()) {
        // A lone entry: whatever it says is said of it.
        *place = Some(Place::Refused(fault.what.reason()));
        return settled(places, Place::Stored);
    }
    let sets: Vec<Option<Labels>> = looked.streams.iter().map(|text| parsed(text)).collect();
    let mut faults: Vec<&Fault> = faults.iter().collect();
    // Loki looks at an entry's time before its size: an entry is named once.
    faults.sort_by_key(|fault| rank(fault.what));
    let (mut named, mut found) = (0, 0);
    for fault in &faults {
        let of = |at: &usize| match &fault.stream {
            Named::Set(labels) => sets[*at].as_ref().is_some_and(|own| is_named(labels, own)),
            Named::Text(text) => looked.streams[*at] == *text,
        };
        let streams: Vec<usize> = (0..sets.len()).filter(of).collect();
        named += u64::from(fault.count);
        found += take(fault, &streams, looked, &mut places);
    }
    let is_doubtful = |entry: &Entry| faults.iter().any(|fault| is_beyond(fault.what, entry));
    let doubt = looked.entries.iter().zip(&places);
    let doubt = named != found
        || doubt
            .into_iter()
            .any(|(entry, place)| place.is_none() && is_doubtful(entry));
    if found == 0 {
        return Sorted::Halves;
    }
    settled(places, if doubt { Place::Again } else { Place::Stored })
}

/// Gives the entries that a fault names their fate; how many of what it counts were found.
fn take(fault: &Fault, streams: &[usize], looked: &Looked, places: &mut [Option<Place>]) -> u64 {
    let fits = |at: &usize| {
        let entry = &looked.entries[*at];
        places[*at].is_none()
            && streams.contains(&(entry.stream as usize))
            && is_named_entry(fault.what, entry)
    };
    let mut found: Vec<usize> = (0..places.len()).filter(fits).collect();
    if fault.what == What::LabelSet {
        found
            .iter()
            .for_each(|at| places[*at] = Some(Place::Refused(Reason::Labels)));
        return streams.len().min(fault.count as usize) as u64;
    }
    // Within a second the limit lies somewhere: the oldest, or the newest, are beyond it.
    match fault.what {
        What::TooOld(_) => found.sort_by_key(|at| looked.entries[*at].time),
        What::TooNew(_) => found.sort_by_key(|at| std::cmp::Reverse(looked.entries[*at].time)),
        What::LineBytes { .. }
        | What::PairsOff
        | What::PairBytes(_)
        | What::Pairs(_)
        | What::LabelSet => {}
    }
    found.truncate(fault.count as usize);
    let fate = Some(Place::Refused(fault.what.reason()));
    found.iter().for_each(|at| places[*at] = fate);
    found.len() as u64
}

const fn rank(what: What) -> u8 {
    match what {
        What::LabelSet => 0,
        What::TooOld(_) => 1,
        What::TooNew(_) => 2,
        What::LineBytes { .. } => 3,
        What::PairsOff | What::PairBytes(_) | What::Pairs(_) => 4,
    }
}

/// Whether an entry of the named stream is one of those that were counted.
fn is_named_entry(what: What, entry: &Entry) -> bool {
    match what {
        What::LabelSet => true,
        What::TooOld(second) | What::TooNew(second) => entry.time.secs == second,
        What::LineBytes { length, .. } => entry.line_bytes == length,
        What::PairsOff | What::PairBytes(_) | What::Pairs(_) => is_beyond(what, entry),
    }
}

/// Whether the limit would refuse the entry, whatever its stream: an older Loki names one only.
fn is_beyond(what: What, entry: &Entry) -> bool {
    match what {
        What::LabelSet => false,
        What::TooOld(second) => entry.time.secs < second,
        What::TooNew(second) => entry.time.secs > second,
        What::LineBytes { most, .. } => entry.line_bytes > most,
        What::PairsOff => entry.pairs > 0,
        What::PairBytes(most) => entry.pair_bytes > most,
        What::Pairs(most) => u64::from(entry.pairs) > most,
    }
}

fn stream(fault: &StreamFault, looked: &Looked) -> Sorted {
    let last = fault.named.last().map(|(_, cause)| *cause);
    let Some(at) = find(looked, &fault.labels) else {
        return match last {
            Some(Cause::Rate) => Sorted::Wait(Reason::StreamRate),
            Some(Cause::FarBehind) | None => Sorted::Halves,
        };
    };
    let own = |entry: &Entry| entry.stream as usize == at;
    let mut places = vec![None; looked.entries.len()];
    let (mut found, mut met) = (0, false);
    let mut times: Vec<Timestamp> = fault.named.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    times.dedup();
    for time in times {
        let fits = |(_, entry): &(usize, &Entry)| own(entry) && entry.time == time;
        let entries: Vec<usize> = looked
            .entries
            .iter()
            .enumerate()
            .filter(fits)
            .map(|it| it.0)
            .collect();
        let causes: Vec<Cause> = fault
            .named
            .iter()
            .filter(|it| it.0 == time)
            .map(|it| it.1)
            .collect();
        met |= !entries.is_empty();
        // Of several at one time, nobody says which: all of them, or none is known.
        if entries.len() == causes.len() && causes.windows(2).all(|pair| pair[0] == pair[1]) {
            found += entries.len();
            let fate = match causes[0] {
                Cause::FarBehind => Place::Refused(Reason::TooFarBehind),
                Cause::Rate => Place::Held,
            };
            entries.iter().for_each(|at| places[*at] = Some(fate));
        }
    }
    let is_limited = fault.named.iter().any(|(_, cause)| *cause == Cause::Rate);
    if !met || (found == 0 && !is_limited) {
        return match last {
            Some(Cause::Rate) => Sorted::Wait(Reason::StreamRate),
            Some(Cause::FarBehind) | None => Sorted::Halves,
        };
    }
    let owned = looked.entries.iter().filter(|entry| own(entry)).count();
    // All that were ignored are named, and the distributor let all of the stream through.
    let exact = found == fault.ignored as usize && owned == fault.of as usize;
    let rest = match (exact, is_limited) {
        (true, _) => Place::Stored,
        (false, true) => Place::Held,
        (false, false) => Place::Again,
    };
    let fill = |(entry, place): (&Entry, Option<Place>)| {
        place.unwrap_or(if own(entry) { rest } else { Place::Again })
    };
    Sorted::Places {
        places: looked.entries.iter().zip(places).map(fill).collect(),
        held: is_limited.then_some((at, Reason::StreamRate)),
    }
}

/// A stream is made with its first entry's time. A schema begins with a day: what leads the stream and
/// is of that day or older is refused.
fn before_schema(ms: i64, looked: &Looked) -> Sorted {
    let day = |entry: &Entry| millis(entry).div_euclid(DAY_MS);
    let own = |stream: usize| {
        let entries = looked.entries.iter().enumerate();
        entries.filter(move |(_, entry)| entry.stream as usize == stream)
    };
    let is_it = |stream: &usize| own(*stream).any(|(_, entry)| millis(entry) == ms);
    let mut streams = (0..looked.streams.len()).filter(is_it);
    // Of two that have this time, one may be there already; and what leads the stream may have been
    // refused before.
    let (Some(stream), None) = (streams.next(), streams.next()) else {
        return Sorted::Halves;
    };
    if own(stream)
        .next()
        .is_none_or(|(_, head)| millis(head) != ms)
    {
        return Sorted::Halves;
    }
    let mut places = vec![None; looked.entries.len()];
    for (at, _) in own(stream).take_while(|(_, entry)| day(entry) <= ms.div_euclid(DAY_MS)) {
        places[at] = Some(Place::Refused(Reason::BeforeSchema));
    }
    settled(places, Place::Again)
}

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

fn millis(entry: &Entry) -> i64 {
    entry.time.unix_nanos().div_euclid(1_000_000)
}

fn settled(places: Vec<Option<Place>>, rest: Place) -> Sorted {
    Sorted::Places {
        places: places
            .into_iter()
            .map(|place| place.unwrap_or(rest))
            .collect(),
        held: None,
    }
}

/// The stream of the push that is named so.
fn find(looked: &Looked, named: &Labels) -> Option<usize> {
    let is_it = |text: &String| parsed(text).is_some_and(|own| is_named(named, &own));
    looked.streams.iter().position(is_it)
}

fn parsed(text: &str) -> Option<Labels> {
    super::judge::labels_at(text).map(|(labels, _)| labels)
}

/// Whether the named set is ours, but for labels that Loki adds by itself.
fn is_named(named: &Labels, own: &Labels) -> bool {
    let is_own = |(name, value): (&String, &String)| own.get(name) == Some(value);
    let is_added = |name: &str| name == "service_name" || name.starts_with("__");
    own.iter()
        .all(|(name, value)| named.get(name) == Some(value))
        && named.iter().all(|(name, value)| {
            is_own((name, value)) || (is_added(name) && !own.contains_key(name))
        })
}

#[cfg(test)]
#[path = "sort_tests.rs"]
mod tests;
