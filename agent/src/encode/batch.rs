//! One output's open batches and its sealed requests on their way into the window.
//!
//! ```text
//! record -> slot (tenant) -> Loki | Bulk body --seal--> Request -> window, or pending when full
//! ```
//!
//! 1. Requests enter the window in the order in which they were sealed.
//! 2. While the output is detached, chunks that it has begun are finished and others are refused whole:
//!    they fail for this output alone, and no record of theirs was sent.
//! 3. The number of open batches is bounded; one too many seals the oldest.

use std::collections::VecDeque;
use std::sync::Arc;

use super::bulk::Bulk;
use super::compress::Error;
use super::loki::Loki;
use super::outlet::Outlet;
use super::request::Request;
use super::seal::{Claim, Claims, Sealed};
use crate::base::count::{Counter, Registry};
use crate::base::outputs::OutputSet;
use crate::base::time::Mono;
use crate::plan::{Output, OutputKind};
use crate::stage::Record;
use crate::ticket::Ticket;

/// Open batches (tenants) of an output at the most.
const SLOTS_MAX: usize = 64;

/// Sealed requests that may wait while the output is detached: records that end chunks it has begun
/// go into the batch that is open, which is sealed rarely; beyond this even such a chunk is refused.
const PENDING_MAX: usize = 4;

/// Places in a body are 32 bits; no batch may come near.
const BATCH_BYTES_MAX: u64 = 1 << 30;

/// One output as an encoder sees it.
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) outlet: Arc<Outlet>,
    encoder: u16,
    format: Format,
    batch_bytes: usize,
    linger_ms: u64,
    tenant: Option<Arc<str>>,
    slots: Vec<Slot>,
    pending: VecDeque<Request>,
    /// The chunk whose claim was last dropped; bears no claim itself.
    refused: Option<Ticket>,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    evicted: Arc<Counter>,
    unsealed: Arc<Counter>,
}

#[derive(Debug)]
enum Format {
    Loki(Box<Loki>),
    Bulk(Box<Bulk>),
}

impl Format {
    fn push(&mut self, at: usize, record: &mut Record<'_>, claim: Claim, now: Mono) -> usize {
        match self {
            Self::Loki(loki) => loki.push(at, record, claim),
            Self::Bulk(bulk) => bulk.push(at, record, claim, now),
        }
    }

    fn seal(&mut self, at: usize) -> Result<Sealed, Error> {
        match self {
            Self::Loki(loki) => loki.seal(at),
            Self::Bulk(bulk) => bulk.seal(at),
        }
    }
}

/// A tenant's batch; its body stands in the format under the slot's place.
#[derive(Debug)]
struct Slot {
    tenant: Option<Arc<str>>,
    claims: Claims,
    /// Body bytes before compression.
    bytes: usize,
    /// When the first record came in; none while the batch is empty.
    opened: Option<Mono>,
    /// When the last request was sealed.
    sealed: Option<Mono>,
}

impl Batches {
    pub(crate) fn new(
        encoder: u16,
        output: &Output,
        outlet: Arc<Outlet>,
        registry: &Registry,
    ) -> Self {
        let labels = [("output", output.name.as_str())];
        let forgotten = registry.counter(
            "tailwake_encoder_forgets_total",
            "Times an encoder forgot its interned streams because there were too many.",
            &labels,
        );
        let counters = Counters {
            evicted: registry.counter(
                "tailwake_batches_evicted_total",
                "Batches sealed early because too many tenants had one open.",
                &labels,
            ),
            unsealed: registry.counter(
                "tailwake_seal_failures_total",
                "Batches that could not be compressed; their lines are read again.",
                &labels,
            ),
        };
        let (format, tenant) = match &output.kind {
            OutputKind::Loki(loki) => {
                let tenant = loki.tenant.as_deref().map(Arc::from);
                (Format::Loki(Box::new(Loki::new(loki, forgotten))), tenant)
            }
            OutputKind::Elasticsearch(search) => {
                let (name, outlet) = (&output.name, Arc::clone(&outlet));
                let bulk = Bulk::new(search, name, outlet, registry, forgotten);
                (Format::Bulk(Box::new(bulk)), None)
            }
        };
        Self {
            outlet,
            encoder,
            format,
            batch_bytes: output.batch_bytes.0.min(BATCH_BYTES_MAX) as usize,
            linger_ms: output.linger_ms,
            tenant,
            slots: Vec::new(),
            pending: VecDeque::new(),
            refused: None,
            counters,
        }
    }

    /// Takes a record in; seals when the batch is full.
    pub(crate) fn push(&mut self, record: &mut Record<'_>, now: Mono) {
        let output = self.outlet.output;
        let covered = |ticket: &Ticket| ticket.outputs().has(output);
        if !covered(record.ticket) && !record.held.iter().any(covered) {
            return;
        }
        if self.outlet.is_detached() && !self.finishes(record) {
            return self.refuse(record);
        }
        let at = self.slot(record, now);
        let claim = self.slots[at].claims.claim(output, record);
        let bytes = self.format.push(at, record, claim, now);
        self.slots[at].bytes = bytes;
        self.slots[at].opened.get_or_insert(now);
        if bytes >= self.batch_bytes {
            self.seal(at, now);
        }
    }

    /// Whether a record that comes while the output is detached is of chunks that it has begun, all
    /// of them: it is taken to the end. One that goes on in a chunk that was not begun is not, or
    /// that chunk would overtake others; what it began in comes again. Of passes that have met, a record
    /// has claims that are other outputs' alone: they say nothing.
    #[cold]
    fn finishes(&self, record: &Record<'_>) -> bool {
        let output = self.outlet.output;
        let taken = |claim: &Ticket| {
            !claim.outputs().has(output) || claim.is_begun(output) && !claim.is_failed(output)
        };
        self.pending.len() < PENDING_MAX && taken(record.ticket) && record.held.iter().all(taken)
    }

    /// Drops the claims of a record that is refused.
    #[cold]
    fn refuse(&mut self, record: &Record<'_>) {
        let set = OutputSet::one(self.outlet.output);
        for held in &record.held {
            drop(held.split(set));
        }
        let mut last = self.refused.iter();
        if !last.any(|last| last.same_chunk(record.ticket)) {
            drop(record.ticket.split(set));
            self.refused = Some(record.ticket.split(OutputSet::NONE));
        }
    }

    /// The place of the record's tenant.
    fn slot(&mut self, record: &Record<'_>, now: Mono) -> usize {
        let tenant = match self.format {
            Format::Loki(_) => record.tenant.as_ref().or(self.tenant.as_ref()),
            Format::Bulk(_) => None,
        };
        if let Some(at) = self
            .slots
            .iter()
            .position(|slot| slot.tenant.as_ref() == tenant)
        {
            return at;
        }
        let fresh = Slot {
            tenant: tenant.cloned(),
            claims: Claims::default(),
            bytes: 0,
            opened: None,
            sealed: None,
        };
        if self.slots.len() < SLOTS_MAX {
            self.slots.push(fresh);
            return self.slots.len() - 1;
        }
        // Empty slots come first: `None` is less than any time.
        let oldest = self
            .slots
            .iter()
            .enumerate()
            .min_by_key(|(_, slot)| slot.opened);
        let at = oldest.map_or(0, |(at, _)| at);
        if self.slots[at].opened.is_some() {
            self.counters.evicted.add(1);
            self.seal(at, now);
        }
        self.slots[at] = fresh;
        at
    }

    fn seal(&mut self, at: usize, now: Mono) {
        let slot = &mut self.slots[at];
        let Some(opened) = slot.opened.take() else {
            return;
        };
        (slot.sealed, slot.bytes) = (Some(now), 0);
        let tickets = slot.claims.take();
        let Ok(sealed) = self.format.seal(at) else {
            // The tickets are dropped unsettled: the lines are read again.
            return self.counters.unsealed.add(1);
        };
        let counters = &self.outlet.counters;
        counters.records.add(sealed.items.len() as u64);
        counters.inflated.add(sealed.inflated);
        counters.compressed.add(sealed.body.len() as u64);
        counters.requests.add(1);
        let request = Request {
            output: self.outlet.output,
            tenant: slot.tenant.clone(),
            encoder: self.encoder,
            body: sealed.body,
            encoding: sealed.encoding,
            inflated: sealed.inflated,
            items: sealed.items,
            groups: sealed.groups,
            tickets,
            loan: None,
            opened,
        };
        self.outlet.count_sealed(request.held_bytes());
        self.pending.push_back(request);
        self.flush();
    }

    /// Puts what waits as far as the window has room; says whether anything went.
    pub(crate) fn flush(&mut self) -> bool {
        let mut went = false;
        while self.outlet.has_room() {
            let Some(request) = self.pending.pop_front() else {
                break;
            };
            if let Err(request) = self.outlet.put(request) {
                self.pending.push_front(request);
                break;
            }
            went = true;
        }
        went
    }

    /// Bytes of open batches, and of sealed requests that the window has not taken.
    pub(crate) fn bytes(&self) -> u64 {
        let open = self.slots.iter().map(|slot| slot.bytes as u64);
        let sealed = self.pending.iter().map(|it| it.body.len() as u64);
        open.chain(sealed).sum()
    }

    /// Whether a sealed request waits for the window.
    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether it keeps the encoder waiting.
    pub(crate) fn is_blocked(&self) -> bool {
        self.waits() && !self.outlet.is_detached()
    }

    /// Seals what has lingered long enough and, when nothing more is `queued`, what was opened in
    /// this turn after a quiet time: a lone line goes at once.
    pub(crate) fn linger(&mut self, now: Mono, queued: bool) {
        for at in 0..self.slots.len() {
            if self.waits() {
                return;
            }
            let slot = &self.slots[at];
            let Some(opened) = slot.opened else { continue };
            let quiet = slot
                .sealed
                .is_none_or(|sealed| now.ms_since(sealed) >= self.linger_ms);
            if now >= opened.plus_ms(self.linger_ms) || (!queued && opened == now && quiet) {
                self.seal(at, now);
            }
        }
    }

    /// Seals whatever is open.
    pub(crate) fn seal_all(&mut self, now: Mono) {
        for at in 0..self.slots.len() {
            self.seal(at, now);
        }
    }

    /// When the next batch has lingered long enough; none while the window holds them back.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        if self.waits() {
            return None;
        }
        let opened = self.slots.iter().filter_map(|slot| slot.opened).min();
        opened.map(|opened| opened.plus_ms(self.linger_ms))
    }
}
