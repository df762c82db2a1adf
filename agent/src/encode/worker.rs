//! One encoder: takes feeds, has them staged, and seals what comes out.
//!
//! ```text
//! turn: put what waits -> up to 16 feeds -> stages that are due -> batches that are due
//! ```
//!
//! 1. While an attached output has a request that its window does not take, no feed is taken.
//! 2. An output that has kept the encoder waiting for more than 200 ms of the last second is
//!    detached, if another attached output could go on; the only one, or all of them, never.
//! 3. A detached output gets nothing new: chunks that it has begun are finished, others refused whole
//!    and read again once it is attached.

use std::sync::Arc;

use super::batch::Batches;
use super::outlet::Outlet;
use crate::base::count::Registry;
use crate::base::outputs::OutputId;
use crate::base::time::{Mono, Timestamp};
use crate::plan::Plan;
use crate::stage::{Machine, Program, Record, Sink};
use crate::ticket::Feed;

/// Feeds taken in one turn; the deadlines are looked at in between.
const FEEDS_MAX: usize = 16;

/// An output may keep the encoder waiting for this much of the last second, in nanoseconds.
const WAIT_MAX: u64 = 200_000_000;

/// A blocked encoder looks again after this many milliseconds, whether a bell rang or not.
const LOOK_MS: u64 = 50;

/// What turns feeds into records: `stage::Machine`, or a plain one in tests.
pub trait Process {
    /// Takes a feed; its records go to the sink.
    fn feed(&mut self, feed: Feed, now: Mono, wall: Timestamp, sink: &mut dyn Sink);
    /// Does what is due; held records go to the sink.
    fn tick(&mut self, now: Mono, wall: Timestamp, sink: &mut dyn Sink);
    /// When something will be due.
    fn deadline(&self) -> Option<Mono>;
}

impl Process for Machine {
    fn feed(&mut self, feed: Feed, now: Mono, wall: Timestamp, sink: &mut dyn Sink) {
        Self::feed(self, feed, now, wall, sink);
    }

    fn tick(&mut self, now: Mono, wall: Timestamp, sink: &mut dyn Sink) {
        Self::tick(self, now, wall, sink);
    }

    fn deadline(&self) -> Option<Mono> {
        Self::deadline(self)
    }
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Something moved: another turn may find more.
    pub progress: bool,
    /// When to turn again if nothing rings.
    pub deadline: Option<Mono>,
    /// No feed is taken until a window has room.
    pub blocked: bool,
}

/// One encoder.
#[derive(Debug)]
pub struct Worker<M = Machine> {
    machine: M,
    outputs: Outputs,
}

#[derive(Debug)]
struct Outputs {
    now: Mono,
    all: Vec<Batches>,
    waits: Vec<Wait>,
}

impl Sink for Outputs {
    fn emit(&mut self, output: OutputId, record: &mut Record<'_>) {
        if let Some(batches) = self.all.get_mut(output.index()) {
            batches.push(record, self.now);
        }
    }
}

impl Worker {
    /// Encoder number `encoder` with the plan's stages, which may hold `blocks_bytes` of multiline
    /// blocks; `outlets` stand in the order of the plan's outputs.
    #[must_use]
    pub fn new(
        encoder: u16,
        plan: &Plan,
        program: Arc<Program>,
        blocks_bytes: u64,
        outlets: Vec<Arc<Outlet>>,
        registry: &Registry,
    ) -> Self {
        let machine = Machine::new(program, blocks_bytes, registry, encoder);
        Self::with(encoder, plan, machine, outlets, registry)
    }
}

impl<M: Process> Worker<M> {
    /// As [`Worker::new`], with a machine of the caller's.
    #[must_use]
    pub fn with(
        encoder: u16,
        plan: &Plan,
        machine: M,
        outlets: Vec<Arc<Outlet>>,
        registry: &Registry,
    ) -> Self {
        let all: Vec<Batches> = plan
            .outputs
            .iter()
            .zip(outlets)
            .map(|(output, outlet)| Batches::new(encoder, output, outlet, registry))
            .collect();
        let waits = all.iter().map(|_| Wait::default()).collect();
        let outputs = Outputs {
            now: Mono::default(),
            all,
            waits,
        };
        Self { machine, outputs }
    }

    /// One turn: `next` gives the feeds of this encoder's queue until it is empty.
    pub fn turn(
        &mut self,
        now: Mono,
        wall: Timestamp,
        next: &mut dyn FnMut() -> Option<Feed>,
    ) -> Turn {
        let mut progress = self.outputs.begin(now);
        let mut queued = true;
        for _ in 0..FEEDS_MAX {
            if self.outputs.is_blocked() {
                break;
            }
            let Some(feed) = next() else {
                queued = false;
                break;
            };
            self.machine.feed(feed, now, wall, &mut self.outputs);
            progress = true;
        }
        if !self.outputs.is_blocked() && self.machine.deadline().is_some_and(|due| due <= now) {
            self.machine.tick(now, wall, &mut self.outputs);
            progress = true;
        }
        self.outputs
            .all
            .iter_mut()
            .for_each(|batches| batches.linger(now, queued));
        self.outputs.end(now);
        let blocked = self.outputs.is_blocked();
        let due = if blocked {
            Some(now.plus_ms(LOOK_MS))
        } else {
            self.machine.deadline()
        };
        let lingers = self.outputs.all.iter().filter_map(Batches::deadline);
        Turn {
            progress,
            deadline: lingers.chain(due).min(),
            blocked,
        }
    }

    /// Seals everything that is open; says whether all of it is in the outlets. What is not goes
    /// there in later calls, as the windows have room.
    pub fn drain(&mut self, now: Mono, wall: Timestamp) -> bool {
        self.outputs.begin(now);
        if self.machine.deadline().is_some_and(|due| due <= now) {
            self.machine.tick(now, wall, &mut self.outputs);
        }
        self.outputs
            .all
            .iter_mut()
            .for_each(|batches| batches.seal_all(now));
        !self.outputs.all.iter().any(Batches::waits)
    }

    /// Bytes of open batches and of sealed requests that wait for a window.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        self.outputs.all.iter().map(Batches::bytes).sum()
    }

    /// The machine, for what it tells beyond records.
    pub const fn machine(&self) -> &M {
        &self.machine
    }
}

impl Outputs {
    /// Puts what waits, counts the waiting, detaches who has kept the others too long.
    fn begin(&mut self, now: Mono) -> bool {
        self.now = now;
        let mut went = false;
        for (batches, wait) in self.all.iter_mut().zip(&mut self.waits) {
            wait.turn(now);
            went |= batches.flush();
        }
        for at in 0..self.all.len() {
            let slow = self.all[at].is_blocked() && self.waits[at].total(now) > WAIT_MAX;
            if slow && self.another_goes_on(at) {
                self.all[at].outlet.detach();
                went = true;
            }
        }
        went
    }

    fn another_goes_on(&self, at: usize) -> bool {
        let mut others = self
            .all
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at);
        others.any(|(_, other)| {
            let outlet = &other.outlet;
            !outlet.is_detached() && !other.is_blocked() && outlet.has_room()
        })
    }

    fn is_blocked(&self) -> bool {
        self.all.iter().any(Batches::is_blocked)
    }

    fn end(&mut self, now: Mono) {
        for (batches, wait) in self.all.iter().zip(&mut self.waits) {
            wait.since = batches.is_blocked().then_some(now);
        }
    }
}

/// How much of the last second an output has kept its encoder waiting, in tenths of a second.
#[derive(Debug, Default)]
struct Wait {
    /// Nanoseconds waited in each of the last tenths, by the tenth's number modulo ten.
    tenths: [(u64, u64); 10],
    /// Waiting since then.
    since: Option<Mono>,
}

/// A tenth of a second in nanoseconds.
const TENTH: u64 = 100_000_000;

impl Wait {
    /// Adds what was waited until `now`.
    fn turn(&mut self, now: Mono) {
        let Some(since) = self.since.take() else {
            return;
        };
        // Only the last second counts: at most eleven pieces.
        let mut from = since.0.max(now.0.saturating_sub(10 * TENTH));
        while from < now.0 {
            let number = from / TENTH;
            let to = now.0.min((number + 1) * TENTH);
            let tenth = &mut self.tenths[(number % 10) as usize];
            if tenth.0 != number {
                *tenth = (number, 0);
            }
            tenth.1 += to - from;
            from = to;
        }
        self.since = Some(now);
    }

    fn total(&self, now: Mono) -> u64 {
        let first = (now.0 / TENTH).saturating_sub(9);
        self.tenths
            .iter()
            .filter(|tenth| tenth.0 >= first)
            .map(|tenth| tenth.1)
            .sum()
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
