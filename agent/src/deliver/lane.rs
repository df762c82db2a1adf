//! A lane: the requests of one encoder for one output and tenant, in order, one at a time; beside it a
//! slow way for each stream that its server holds back.
//!
//! ```text
//! push -> main: [Part, Part, ..]   the first flies -> end() -> judged (fate.rs, refusal.rs):
//!           delivered, rejected -> items settled, next part
//!           again               -> the same part after a wait (Retry-After, else jittered backoff)
//!           split               -> parts of it instead, in order
//!           a stream is limited -> its entries -> slow[stream], the rest again
//!         main, while there are slow streams: what a part has of them -> slow[stream]
//! ```
//!
//! 1. On each way at most one part is in flight, and it is the first.
//! 2. A stream's entries keep their order: while it has a slow way, all of them take it.
//! 3. A load leaves the lane settled, or dropped when its body cannot be taken apart.
//! 4. No clock is read and nothing is sent here: time and ends of calls come in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fate::{self, Bench, Outcome};
use super::judge::{Judgement, Reason};
use super::load::{Load, Part};
use super::tally::Tally;
use super::track::{Flight, Track};
use crate::base::backoff::Backoff;
use crate::base::time::Mono;
use crate::encode::Request;
use crate::plan::Retry;

/// A way of a lane: the main one, or that of a stream.
pub(crate) type Way = Option<Arc<str>>;

/// What has left a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    /// Bytes of the window.
    pub(crate) bytes: u64,
    /// Loads.
    pub(crate) loads: usize,
    /// Bytes of a body that was stored, as sent.
    pub(crate) stored: usize,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    loads: BTreeMap<u64, Load>,
    next_load: u64,
    main: Track,
    slow: BTreeMap<Arc<str>, Track>,
    /// How many slow ways there were so far.
    opened: u64,
    retry: Retry,
    seed: u64,
}

impl Lane {
    pub(crate) const fn new(retry: Retry, seed: u64) -> Self {
        Self {
            loads: BTreeMap::new(),
            next_load: 0,
            main: Track::new(Backoff::new(retry.min_ms, retry.max_ms, seed)),
            slow: BTreeMap::new(),
            opened: 0,
            retry,
            seed,
        }
    }

    pub(crate) fn push(&mut self, request: Request) {
        let (load, part) = Load::new(request);
        let number = self.next_load;
        self.next_load += 1;
        self.loads.insert(number, load);
        let piece = super::track::Piece { load: number, part };
        self.main.queue.push_back(piece);
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty() && self.tracks().all(|track| track.flight.is_none())
    }

    /// How many streams have a way of their own.
    pub(crate) fn slow_ways(&self) -> usize {
        self.slow.len()
    }

    fn tracks(&self) -> impl Iterator<Item = &Track> {
        std::iter::once(&self.main).chain(self.slow.values())
    }

    fn track(&mut self, way: &Way) -> Option<&mut Track> {
        match way {
            None => Some(&mut self.main),
            Some(stream) => self.slow.get_mut(stream),
        }
    }

    /// When the lane wants to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.tracks().filter_map(Track::deadline).min()
    }

    /// Since when its worst way has been failing.
    pub(crate) fn failing_since(&self) -> Option<Mono> {
        self.tracks().filter_map(|track| track.failing_since).min()
    }

    /// Calls that should have ended by now.
    pub(crate) fn late(&self, now: Mono) -> impl Iterator<Item = super::transport::CallId> {
        let flights = self.tracks().filter_map(|track| track.flight.as_ref());
        flights.filter(move |it| it.give_up <= now).map(|it| it.id)
    }

    /// A way whose first part is to be sent now, with that part. What the main way has of slow streams
    /// is moved to them first; a body that cannot be read is dropped with its load.
    pub(crate) fn next(
        &mut self,
        bench: &mut Bench<'_>,
        freed: &mut Freed,
    ) -> Option<(Way, &Part)> {
        if self.main.is_ready(bench.now) {
            self.divert(bench, freed);
        }
        let now = bench.now;
        let loads = &self.loads;
        // Pieces of a load that was dropped.
        for track in std::iter::once(&mut self.main).chain(self.slow.values_mut()) {
            if track.flight.is_none() {
                while track
                    .queue
                    .front()
                    .is_some_and(|it| !loads.contains_key(&it.load))
                {
                    track.queue.pop_front();
                }
            }
        }
        self.slow.retain(|_, track| !track.queue.is_empty());
        if self.main.is_ready(now) {
            return Some((None, &self.main.queue.front()?.part));
        }
        let (stream, track) = self.slow.iter().find(|(_, track)| track.is_ready(now))?;
        Some((Some(Arc::clone(stream)), &track.queue.front()?.part))
    }

    /// The first part of a way is under way.
    pub(crate) fn fly(&mut self, way: &Way, flight: Flight) {
        if let Some(track) = self.track(way) {
            track.flight = Some(flight);
        }
    }

    /// How many items are in flight on a way.
    pub(crate) fn items_in_flight(&mut self, way: &Way) -> usize {
        let track = self.track(way);
        let first = track.and_then(|track| track.queue.front());
        first.map_or(0, |piece| piece.part.items.len())
    }

    /// The part in flight has ended.
    pub(crate) fn end(&mut self, way: &Way, judgement: Judgement, bench: &mut Bench<'_>) -> Freed {
        let mut freed = Freed::default();
        let Some(piece) = self.track(way).and_then(Track::land) else {
            return freed;
        };
        let number = piece.load;
        let Some(mut load) = self.loads.remove(&number) else {
            return freed;
        };
        let (weight, sent) = (Load::weight(&piece.part), piece.part.body.len());
        bench.is_slow = way.is_some();
        let lines = piece.part.lines();
        match fate::decide(piece.part, &mut load, judgement, bench) {
            Ok((outcome, text)) => {
                if outcome.is_stored {
                    freed.stored = sent;
                }
                load.replace(weight, outcome.parts());
                self.apply(way, number, outcome, &text, bench);
                self.keep(number, load, bench, &mut freed);
            }
            Err(why) => drop_load(load, lines, &why, bench, &mut freed),
        }
        if let Some(stream) = way
            && self
                .slow
                .get(stream)
                .is_some_and(|track| track.queue.is_empty())
        {
            self.slow.remove(stream);
        }
        freed
    }

    fn apply(
        &mut self,
        way: &Way,
        number: u64,
        outcome: Outcome,
        text: &str,
        bench: &mut Bench<'_>,
    ) {
        if let Some((stream, part, why)) = outcome.slow {
            self.slow(stream.into(), number, part, Some((why, text)), bench);
        }
        let now = bench.now;
        if let Some(track) = self.track(way) {
            track.put(number, outcome.front, outcome.last);
            match outcome.wait {
                Some(wait) => track.wait(now, wait, text, bench.tally),
                None => track.is_well(),
            }
        }
    }

    /// Puts a part on the slow way of a stream; a new way waits first.
    fn slow(
        &mut self,
        stream: Arc<str>,
        load: u64,
        part: Part,
        why: Option<(Reason, &str)>,
        bench: &mut Bench<'_>,
    ) {
        let (opened, retry) = (&mut self.opened, self.retry);
        let seed = self.seed.rotate_left(17) ^ *opened;
        let mut is_new = false;
        let track = self.slow.entry(stream).or_insert_with(|| {
            (is_new, *opened) = (true, *opened + 1);
            Track::new(Backoff::new(retry.min_ms, retry.max_ms, seed))
        });
        track.queue.push_back(super::track::Piece { load, part });
        if is_new && let Some((reason, text)) = why {
            track.wait(bench.now, (reason, None), text, bench.tally);
        }
    }

    /// Takes what the first part of the main way has of slow streams out of it.
    fn divert(&mut self, bench: &mut Bench<'_>, freed: &mut Freed) {
        while !self.slow.is_empty() {
            let is_free = |part: &Part| part.free_of == self.opened;
            if self
                .main
                .queue
                .front()
                .is_none_or(|piece| is_free(&piece.part))
            {
                return;
            }
            let Some(piece) = self.main.queue.pop_front() else {
                return;
            };
            let number = piece.load;
            let Some(mut load) = self.loads.remove(&number) else {
                continue;
            };
            let lines = piece.part.lines();
            match self.apart(&piece.part, bench) {
                Err(why) => drop_load(load, lines, &why, bench, freed),
                Ok((rest, slow)) => {
                    let moved = slow.iter().map(|(_, part)| part);
                    load.replace(Load::weight(&piece.part), moved.chain(&rest));
                    for (stream, part) in slow {
                        self.slow(stream, number, part, None, bench);
                    }
                    self.main.put(number, rest.into_iter().collect(), None);
                    self.keep(number, load, bench, freed);
                }
            }
        }
    }

    /// A part without what it has of slow streams, and that by stream.
    fn apart(&self, part: &Part, bench: &Bench<'_>) -> Result<Apart, String> {
        let looked = (bench.bodies.look)(part.encoding, &part.body, &part.items, &part.groups)?;
        let slow = |at: &usize| {
            let text = looked
                .streams
                .get(looked.entries.get(*at)?.stream as usize)?;
            self.slow
                .get_key_value(text.as_str())
                .map(|(key, _)| Arc::clone(key))
        };
        let mut by_stream: BTreeMap<Option<Arc<str>>, Vec<usize>> = BTreeMap::new();
        for at in 0..part.items.len() {
            by_stream.entry(slow(&at)).or_default().push(at);
        }
        let (mut rest, mut moved) = (None, Vec::new());
        let whole = by_stream.len() == 1;
        for (stream, places) in by_stream {
            let mut own = match whole {
                true => part.clone(),
                false => part.keep(&places, bench.bodies)?,
            };
            own.free_of = self.opened;
            match stream {
                None => rest = Some(own),
                Some(stream) => moved.push((stream, own)),
            }
        }
        Ok((rest, moved))
    }

    /// A load goes on, or is at its end.
    fn keep(&mut self, number: u64, mut load: Load, bench: &mut Bench<'_>, freed: &mut Freed) {
        freed.bytes += load.trim();
        if load.parts() > 0 {
            self.loads.insert(number, load);
            return;
        }
        freed.loads += 1;
        bench.tally.settled(bench.now.ms_since(load.opened));
        load.finish();
    }
}

/// The rest of a part, and what it has of slow streams.
type Apart = (Option<Part>, Vec<(Arc<str>, Part)>);

fn drop_load(load: Load, lines: u64, why: &str, bench: &mut Bench<'_>, freed: &mut Freed) {
    freed.bytes += load.window_bytes();
    freed.loads += 1;
    let (now, tally): (Mono, &mut Tally) = (bench.now, bench.tally);
    tally.dropped(now, lines, why);
}
