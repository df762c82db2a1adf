//! What an encoder does with what a reader tells it: frames, walks, keeps, and lets go in time.
//!
//! ```text
//! feed: Chunk ---> lines ---> walk ---> Sink        what is kept stays under (log, pass)
//!       Merged --> claims join the other pass's     Abandoned --> blocks walk on, the rest is dropped
//!       Ended ---> all of it walks on               tick --> what is due walks on
//! ```
//!
//! 1. A pass that keeps nothing has no entry: memory follows what is kept, not what was seen.
//! 2. What is let go at once is let go from upstream to downstream, so that nothing is left behind.
//! 3. Two passes are one again only where they keep the very same beginning.
//! 4. Records over a chunk's end are bounded by the readers' permits, multiline blocks here: beyond
//!    their share those that have waited longest are let go early.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::held::{Held, add_claim};
use super::json::JsonScratch;
use super::program::Program;
use super::record::{Extracted, Json, Labels, Record, Sink, Stream, TimeOrigin};
use super::walk::{Counts, Keep, Walk};
use crate::base::count::{Counter, Registry};
use crate::base::outputs::OutputSet;
use crate::base::time::{Mono, Timestamp};
use crate::line::{Frame, HEAD_BYTES, Line, SecondCache, Tail};
use crate::ticket::{Chunk, Ended, Feed, LogId, PassId, Source, Ticket};

/// The steps of one encoder with everything they keep.
pub struct Machine {
    program: Arc<Program>,
    passes: BTreeMap<(LogId, PassId), Pass>,
    /// No kept record is due before this moment.
    due: Option<Mono>,
    held_bytes: u64,
    /// Of these, multiline blocks; and what these may come to.
    blocks_bytes: u64,
    blocks_max: u64,
    /// What all encoders keep together.
    joins: Arc<Counter>,
    scratch: JsonScratch,
    seconds: SecondCache,
    counts: Counts,
    counters: Counters,
    encoder: u16,
}

/// What one pass keeps between chunks.
#[derive(Debug, Default)]
struct Pass {
    frame: Frame,
    keep: Keep,
}

impl Pass {
    fn is_empty(&self) -> bool {
        self.frame.is_empty() && self.keep.is_empty()
    }

    fn bytes(&self) -> u64 {
        let tail = self.frame.tail.as_ref();
        let tail = tail.map_or(0, |tail| tail.text.capacity() as u64);
        self.keep.holds.iter().map(Held::bytes).sum::<u64>() + tail
    }

    fn blocks(&self) -> impl Iterator<Item = (Mono, u64)> {
        let holds = self.keep.holds.iter();
        holds.filter_map(|held| Some((held.due?, held.bytes())))
    }

    fn blocks_bytes(&self) -> u64 {
        self.blocks().map(|(_, bytes)| bytes).sum()
    }

    fn due(&self) -> Option<Mono> {
        self.keep.holds.iter().filter_map(|held| held.due).min()
    }
}

/// The time of a turn, and where its records go.
struct Turn<'s> {
    now: Mono,
    wall: Timestamp,
    sink: &'s mut dyn Sink,
}

impl Machine {
    /// A machine that keeps nothing yet, and later no more than `blocks_max` bytes of multiline blocks.
    #[must_use]
    pub fn new(program: Arc<Program>, blocks_max: u64, registry: &Registry, encoder: u16) -> Self {
        let counters = Counters::new(registry, &program);
        let counts = Counts {
            dropped: vec![0; program.reasons.len()],
            ..Counts::default()
        };
        Self {
            program,
            passes: BTreeMap::new(),
            due: None,
            held_bytes: 0,
            blocks_bytes: 0,
            blocks_max,
            joins: registry.gauge(
                "tailwake_joins_bytes",
                "Text of unfinished records that encoders keep.",
                &[],
            ),
            scratch: JsonScratch::new(),
            seconds: SecondCache::default(),
            counts,
            counters,
            encoder,
        }
    }

    /// Takes in what the reader tells.
    pub fn feed(&mut self, feed: Feed, now: Mono, wall: Timestamp, sink: &mut dyn Sink) {
        let mut turn = Turn { now, wall, sink };
        match feed {
            Feed::Chunk(chunk) => self.chunk(chunk, &mut turn),
            Feed::Merged { log, pass, into } => self.merge(log, pass, into, &mut turn),
            Feed::Abandoned { log, pass, .. } => {
                let mut pass = self.take((log, pass));
                // The chunk of a block is sent but for the block: it would come again whole.
                self.let_go(&mut pass, &mut turn, |held| held.due.is_some());
                // What has no end comes again: its claims are dropped here.
            }
            Feed::Finished {
                log, pass, ended, ..
            } => self.finish((log, pass), ended, &mut turn),
            Feed::Ended { log } => {
                let passes = (log, PassId(0))..=(log, PassId(u32::MAX));
                let keys: SmallVec<[_; 4]> =
                    self.passes.range(passes).map(|(key, _)| *key).collect();
                for key in keys {
                    let mut pass = self.take(key);
                    self.end(&mut pass, &mut turn);
                }
            }
        }
        self.relieve(&mut turn);
        self.count(None, now);
    }

    /// Lets go what is due.
    pub fn tick(&mut self, now: Mono, wall: Timestamp, sink: &mut dyn Sink) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.let_due(now, &mut Turn { now, wall, sink });
        self.count(None, now);
    }

    /// Lets all blocks go that are due by `until`.
    fn let_due(&mut self, until: Mono, turn: &mut Turn<'_>) {
        let due = |pass: &Pass| pass.due().is_some_and(|due| due <= until);
        let keys = self.passes.iter().filter(|(_, pass)| due(pass));
        let keys: Vec<_> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            let mut pass = self.take(key);
            self.let_go(&mut pass, turn, |held| {
                held.due.is_some_and(|due| due <= until)
            });
            self.put(key, pass);
        }
        self.due = self.passes.values().filter_map(Pass::due).min();
    }

    /// Where blocks are more than they may be, lets those go that were added to longest ago: they are
    /// the likeliest to be whole. The youngest stays in any case.
    fn relieve(&mut self, turn: &mut Turn<'_>) {
        if self.blocks_bytes <= self.blocks_max {
            return;
        }
        let mut blocks: Vec<(Mono, u64)> = self.passes.values().flat_map(Pass::blocks).collect();
        blocks.sort_unstable();
        blocks.pop();
        // Some more than must go, so that not each chunk has all of them sorted.
        let (most, mut left, mut until) = (self.blocks_max / 4 * 3, self.blocks_bytes, None);
        for (due, bytes) in blocks {
            if left <= most {
                break;
            }
            left -= bytes;
            until = Some(due);
        }
        let Some(until) = until else { return };
        for pass in self.passes.values_mut() {
            let early = pass
                .keep
                .holds
                .iter()
                .filter(|held| held.due.is_some_and(|due| due <= until));
            let marks: Vec<_> = early.map(|held| (held.op, held.stream)).collect();
            self.counts.early += marks.len() as u64;
            pass.keep.marks.extend(marks);
        }
        self.let_due(until, turn);
    }

    /// Adds what was counted to the counters, and says what is bad of it.
    fn count(&mut self, log: Option<&str>, now: Mono) {
        self.program.complaints.say(&self.counts, log, now);
        self.counters.add(&mut self.counts);
    }

    /// When the next `tick` may have something to do.
    #[must_use]
    pub const fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Bytes of text that are kept.
    #[must_use]
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    fn chunk(&mut self, chunk: Chunk, turn: &mut Turn<'_>) {
        let key = (chunk.source.log, chunk.pass);
        let mut pass = self.take(key);
        let line_max = self.program.record_max.saturating_add(HEAD_BYTES);
        // The frame counts on its own, since the walk counts while lines come.
        let mut framed = std::mem::take(&mut self.counts.frame);
        let Pass { frame, keep } = &mut pass;
        let mut walk = self.walk(keep, turn);
        frame.lines(&chunk, line_max, &mut framed, |line| {
            let wall = walk.wall;
            walk.start(&mut record(line, &chunk.source, &chunk.ticket, wall));
        });
        let walked = &mut self.counts.frame;
        walked.lines += framed.lines;
        walked.cut += framed.cut;
        walked.bytes_cut += framed.bytes_cut;
        self.put(key, pass);
        self.count(Some(&chunk.source.key), turn.now);
        chunk.ticket.settle();
    }

    /// What both keep of the same beginning becomes one; the rest of either goes on by itself.
    fn merge(&mut self, log: LogId, from: PassId, into: PassId, turn: &mut Turn<'_>) {
        let mut pass = self.take((log, from));
        let mut other = self.take((log, into));
        let tails = (&mut pass.frame.tail, &mut other.frame.tail);
        if let (tail @ Some(_), Some(same)) = tails
            && tail
                .as_ref()
                .is_some_and(|tail| (tail.file, tail.offset) == (same.file, same.offset))
            && let Some(tail) = tail.take()
        {
            tail.claims
                .into_iter()
                .for_each(|claim| add_claim(&mut same.claims, claim));
        }
        let (mut both, mut place) = (Vec::new(), 0);
        while place < pass.keep.holds.len() {
            let held = &pass.keep.holds[place];
            let mut others = other.keep.holds.iter();
            let Some(at) = others.position(|other| other.is_same(held)) else {
                place += 1;
                continue;
            };
            let (held, mut same) = (
                pass.keep.holds.swap_remove(place),
                other.keep.holds.swap_remove(at),
            );
            held.claims
                .into_iter()
                .for_each(|claim| add_claim(&mut same.claims, claim));
            both.push(same);
        }
        self.end(&mut pass, turn);
        // What only one of them keeps goes on by itself: grown further it would be sent to outputs
        // that have its beginning already.
        self.let_go(&mut other, turn, |_| true);
        other.keep.holds.extend(both);
        self.put((log, into), other);
    }

    /// Lets go what does not go on; of what else is open, more may come.
    fn finish(&mut self, key: (LogId, PassId), ended: Ended, turn: &mut Turn<'_>) {
        let mut pass = self.take(key);
        if ended == Ended::ALL {
            return self.end(&mut pass, turn);
        }
        if ended.line {
            self.end_line(&mut pass, turn);
        }
        self.let_go(&mut pass, turn, |held| match held.stream {
            Stream::Stderr => ended.stderr,
            Stream::Stdout | Stream::Unknown => ended.stdout,
        });
        self.put(key, pass);
    }

    /// Lets everything go that a pass keeps: nothing more comes of it.
    fn end(&mut self, pass: &mut Pass, turn: &mut Turn<'_>) {
        self.end_line(pass, turn);
        self.let_go(pass, turn, |_| true);
    }

    fn end_line(&mut self, pass: &mut Pass, turn: &mut Turn<'_>) {
        if let Some(tail) = pass.frame.tail.take() {
            self.counts.frame.lines += 1;
            self.finish_tail(tail, &mut pass.keep, turn);
        }
    }

    fn finish_tail(&mut self, tail: Tail, keep: &mut Keep, turn: &mut Turn<'_>) {
        let Tail {
            source,
            offset,
            text,
            mut claims,
            ..
        } = tail;
        // It was made with a claim.
        let Some(ticket) = claims.pop() else {
            return;
        };
        let line = Line {
            text: text.into(),
            offset,
            cut: false,
            claims,
        };
        let wall = turn.wall;
        self.walk(keep, turn)
            .start(&mut record(line, &source, &ticket, wall));
        ticket.settle();
    }

    /// Lets records go that `when` accepts.
    fn let_go(&mut self, pass: &mut Pass, turn: &mut Turn<'_>, when: impl Fn(&Held) -> bool) {
        loop {
            // Upstream first: a higher place is never downstream of a lower one.
            let holds = pass.keep.holds.iter().enumerate();
            let next = holds
                .filter(|(_, held)| when(held))
                .max_by_key(|(_, held)| (held.op, std::cmp::Reverse(held.stream)));
            let Some((place, _)) = next else {
                return;
            };
            let held = pass.keep.holds.swap_remove(place);
            self.walk(&mut pass.keep, turn).resume(held);
        }
    }

    fn walk<'m>(&'m mut self, keep: &'m mut Keep, turn: &'m mut Turn<'_>) -> Walk<'m> {
        Walk {
            program: &self.program,
            keep,
            scratch: &mut self.scratch,
            seconds: &mut self.seconds,
            counts: &mut self.counts,
            sink: &mut *turn.sink,
            now: turn.now,
            wall: turn.wall,
        }
    }

    fn take(&mut self, key: (LogId, PassId)) -> Pass {
        let pass = self.passes.remove(&key).unwrap_or_default();
        self.held_bytes -= pass.bytes();
        self.blocks_bytes -= pass.blocks_bytes();
        self.joins.sub(pass.bytes());
        pass
    }

    fn put(&mut self, key: (LogId, PassId), pass: Pass) {
        if pass.is_empty() {
            return;
        }
        self.held_bytes += pass.bytes();
        self.blocks_bytes += pass.blocks_bytes();
        self.joins.add(pass.bytes());
        if let Some(due) = pass.due() {
            self.due = Some(self.due.map_or(due, |known| known.min(due)));
        }
        self.passes.insert(key, pass);
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("encoder", &self.encoder)
            .field("passes", &self.passes.len())
            .field("held_bytes", &self.held_bytes)
            .finish_non_exhaustive()
    }
}

fn record<'c>(
    line: Line<'c>,
    source: &'c Arc<Source>,
    ticket: &'c Ticket,
    wall: Timestamp,
) -> Record<'c> {
    Record {
        source,
        stream: Stream::Unknown,
        offset: line.offset,
        ordinal: 0,
        route: 0,
        time: wall,
        time_origin: TimeOrigin::Read,
        text: line.text,
        json: Json::Unknown,
        labels: Labels::new(),
        structured: Labels::new(),
        extracted: Extracted::new(),
        tenant: None,
        cut: line.cut,
        lines: 1,
        ticket,
        held: line.claims,
        sent: OutputSet::NONE,
    }
}

/// What all encoders count together.
struct Counters {
    lines: Arc<Counter>,
    cut: Arc<Counter>,
    bytes_cut: Arc<Counter>,
    not_cri: Arc<Counter>,
    not_docker: Arc<Counter>,
    json_errors: Arc<Counter>,
    time_errors: Arc<Counter>,
    early: Arc<Counter>,
    dropped: Vec<Arc<Counter>>,
}

impl Counters {
    fn new(registry: &Registry, program: &Program) -> Self {
        let plain = |name, help| registry.counter(name, help, &[]);
        Self {
            lines: plain("tailwake_lines_total", "Lines framed."),
            cut: plain(
                "tailwake_records_cut_total",
                "Records cut at record_bytes_max.",
            ),
            bytes_cut: plain(
                "tailwake_record_bytes_cut_total",
                "Bytes of records that were left out because of record_bytes_max.",
            ),
            not_cri: plain(
                "tailwake_lines_not_cri_total",
                "Lines that a cri stage passed as they are.",
            ),
            not_docker: plain(
                "tailwake_lines_not_docker_total",
                "Lines that a docker stage passed as they are.",
            ),
            json_errors: plain(
                "tailwake_json_errors_total",
                "Texts that a json stage found to be no JSON object.",
            ),
            time_errors: plain(
                "tailwake_timestamp_errors_total",
                "Values that a timestamp stage could not read.",
            ),
            early: plain(
                "tailwake_blocks_early_total",
                "Multiline blocks let go before their time, as too many were open.",
            ),
            dropped: program
                .reasons
                .iter()
                .map(|reason| {
                    registry.counter(
                        "tailwake_records_dropped_total",
                        "Records dropped on purpose.",
                        &[("reason", reason)],
                    )
                })
                .collect(),
        }
    }

    /// Adds what was counted and begins again.
    fn add(&self, counts: &mut Counts) {
        let frame = std::mem::take(&mut counts.frame);
        for (counter, count) in [
            (&self.lines, frame.lines),
            (&self.cut, frame.cut),
            (&self.bytes_cut, frame.bytes_cut),
            (&self.not_cri, std::mem::take(&mut counts.not_cri)),
            (&self.not_docker, std::mem::take(&mut counts.not_docker)),
            (&self.json_errors, std::mem::take(&mut counts.json_errors)),
            (&self.time_errors, std::mem::take(&mut counts.time_errors)),
            (&self.early, std::mem::take(&mut counts.early)),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
        for (counter, count) in self.dropped.iter().zip(&mut counts.dropped) {
            if *count > 0 {
                counter.add(std::mem::take(count));
            }
        }
    }
}
